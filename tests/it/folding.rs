//! A host tree on FAT: no difference between upper and lower case, no executable bit, no links, no hard links, no exclusive
//! rename. Mounted by `fusefat`, which needs no help of the kernel's.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::TestRepo;

/// A FAT file system, unmounted at the end.
struct Fat {
    mounted: PathBuf,
    _folder: tempfile::TempDir,
}

impl Fat {
    fn mount() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (image, mounted) = (folder.path().join("image"), folder.path().join("fat"));
        fs::File::create(&image).and_then(|f| f.set_len(64 << 20)).expect("made");
        fs::create_dir(&mounted).expect("made");
        let path = format!("{}:/sbin:/usr/sbin", std::env::var("PATH").expect("there is one"));
        let run = |program: &str, args: &[&std::ffi::OsStr]| {
            let out = Command::new(program).args(args).env("PATH", &path).output();
            let out = out.unwrap_or_else(|e| panic!("{program}: {e}; scripts/test installs it"));
            assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
        };
        run("mkfs.vfat", &[image.as_os_str()]);
        run("fusefat", &["-o".as_ref(), "rw+".as_ref(), image.as_os_str(), mounted.as_os_str()]);
        Self { mounted, _folder: folder }
    }
}

impl Drop for Fat {
    fn drop(&mut self) {
        let _ = Command::new("fusermount").arg("-u").arg(&self.mounted).status();
    }
}

/// Creates a repository whose working tree is on FAT; git keeps its own directory elsewhere, for it wants permissions there.
fn sample_repo(fat: &Fat) -> TestRepo {
    let mut repo = TestRepo::empty();
    let git = repo.path.with_file_name("git");
    fs::rename(repo.path.join(".git"), &git).expect("moved");
    repo.path = fat.mounted.join("work");
    fs::create_dir(&repo.path).expect("made");
    fs::write(repo.path.join(".git"), format!("gitdir: {}\n", git.display())).expect("written");
    let work = repo.path.to_str().expect("UTF-8").to_owned();
    for (key, value) in [
        ("core.worktree", work.as_str()),
        ("core.fileMode", "false"),
        ("core.symlinks", "false"),
        ("core.ignoreCase", "true"),
    ] {
        repo.git(&["config", key, value]);
    }
    repo.write("Readme", "one\n");
    repo.write("run.sh", "#!/bin/sh\n");
    repo.write("link", "target");
    repo.git(&["add", "-A"]);
    repo.git(&["update-index", "--chmod=+x", "run.sh"]);
    let target = repo.git(&["hash-object", "-w", "link"]);
    repo.git(&["update-index", "--cacheinfo", &format!("120000,{},link", target.trim())]);
    repo.git(&["commit", "-qm", "start"]);
    assert_eq!(repo.git(&["status", "--short"]), "");
    repo
}

#[test]
fn case_modes_and_links_are_as_the_file_system_has_them() {
    let fat = Fat::mount();
    let repo = sample_repo(&fat);
    // Inside, all of it is what the commit says.
    let script = "test -x run.sh; test \"$(readlink link)\" = target; git mv Readme README; echo two >> README; echo echo >> run.sh; \
                  ln -sf other link; echo new > New";
    repo.changeset("c", script);
    repo.airlock(&["apply", "c", "--accept-all", "--allow-risky"]).ok();
    let names: Vec<_> = fs::read_dir(&repo.path).expect("listed").map(|e| e.expect("listed").file_name()).collect();
    assert!(names.iter().any(|n| n == "README") && !names.iter().any(|n| n == "Readme"), "{names:?}");
    assert_eq!(repo.read("README"), "one\ntwo\n");
    assert_eq!(repo.read("run.sh"), "#!/bin/sh\necho\n");
    assert_eq!(repo.read("link"), "other", "a file stands for a link");
    assert_eq!(repo.read("New"), "new\n");
    repo.airlock(&["apply", "c", "--accept-all", "--allow-risky"]).ok();
}

#[test]
fn twins_are_refused_where_they_would_be_one_file() {
    let fat = Fat::mount();
    let repo = sample_repo(&fat);
    let script =
        "echo a > Twin; echo b > twin; echo c > RUN.SH; mkdir Sub sub; echo e > Sub/x; echo f > sub/x; echo g > fine";
    repo.changeset("t", script);
    let conflict = |path: &str, twin: &str| {
        let ran = repo.airlock(&["apply", "t", "--accept", path]).expect_failure(4, &["nothing was written"]);
        assert!(ran.stdout.contains(&format!("your file system takes it for {twin:?}")), "{}", ran.stdout);
    };
    conflict("RUN.SH", "run.sh");
    repo.airlock(&["apply", "t", "--accept", "Twin", "--accept", "fine"]).ok();
    conflict("twin", "Twin");
    repo.airlock(&["apply", "t", "--accept", "Sub/x"]).ok();
    conflict("sub/x", "Sub");
    assert_eq!((repo.read("run.sh").as_str(), repo.read("Twin").as_str()), ("#!/bin/sh\n", "a\n"));
    // Both at once, of which neither is there yet.
    fs::remove_file(repo.path.join("Twin")).expect("removed");
    let ran = repo.airlock(&["apply", "t", "--accept", "Twin", "--accept", "twin"]);
    assert_ne!(ran.status, 0, "one of them would take the other's place: {ran:?}");
    assert!(!repo.path.join("Twin").exists() || repo.read("Twin") != "b\n", "{ran:?}");
}
