//! Tests with a working tree on FAT, which does not distinguish upper and lower case, and has no executable bit, no
//! symlinks, no hard links and no exclusive rename. `fusefat` mounts it without a driver in the kernel.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use insta::assert_snapshot;

use crate::support::TestRepo;

/// A FAT file system. Dropping it unmounts it.
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

/// Creates a repository whose working tree is on FAT. Its git directory is elsewhere, because git needs permissions
/// there.
fn create_repo(fat: &Fat) -> TestRepo {
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
fn apply_on_fat_handles_case_modes_and_symlinks() {
    let fat = Fat::mount();
    let repo = create_repo(&fat);
    // In the sandbox, modes and symlinks are as committed.
    let script = "test -x run.sh; test \"$(readlink link)\" = target; git mv Readme README; echo two >> README; echo echo >> run.sh; \
                  ln -sf other link; echo new > New";
    repo.sandbox("c", script).ok();
    repo.airlock(&["apply", "c", "--accept-all", "--allow-risky"]).ok();
    let names: Vec<_> = fs::read_dir(&repo.path).expect("listed").map(|e| e.expect("listed").file_name()).collect();
    assert!(names.iter().any(|n| n == "README") && !names.iter().any(|n| n == "Readme"), "{names:?}");
    assert_eq!(repo.read("README"), "one\ntwo\n");
    assert_eq!(repo.read("run.sh"), "#!/bin/sh\necho\n");
    assert_eq!(repo.read("link"), "other", "a file replaces a symlink");
    assert_eq!(repo.read("New"), "new\n");
    repo.airlock(&["apply", "c", "--accept-all", "--allow-risky"]).ok();
}

#[test]
fn apply_on_fat_refuses_name_collisions() {
    let fat = Fat::mount();
    let repo = create_repo(&fat);
    let script =
        "echo a > Twin; echo b > twin; echo c > RUN.SH; mkdir Sub sub; echo e > Sub/x; echo f > sub/x; echo g > fine";
    repo.sandbox("t", script).ok();
    assert_snapshot!(repo.airlock(&["apply", "t", "--accept", "RUN.SH"]), @r#"
    status: 4
    ----- stdout -----
      conflict   RUN.SH  your file system treats it as the same name as "run.sh"
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    "#);
    repo.airlock(&["apply", "t", "--accept", "Twin", "--accept", "fine"]).ok();
    assert_snapshot!(repo.airlock(&["apply", "t", "--accept", "twin"]), @r#"
    status: 4
    ----- stdout -----
      conflict   twin  your file system treats it as the same name as "Twin"
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    "#);
    repo.airlock(&["apply", "t", "--accept", "Sub/x"]).ok();
    assert_snapshot!(repo.airlock(&["apply", "t", "--accept", "sub/x"]), @r#"
    status: 4
    ----- stdout -----
      conflict   sub/x  your file system treats it as the same name as "Sub"
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    "#);
    assert_eq!((repo.read("run.sh").as_str(), repo.read("Twin").as_str()), ("#!/bin/sh\n", "a\n"));
    // Both at once, if neither exists yet.
    fs::remove_file(repo.path.join("Twin")).expect("removed");
    let ran = repo.airlock(&["apply", "t", "--accept", "Twin", "--accept", "twin"]);
    assert_ne!(ran.status, 0, "one file would replace the other: {ran:?}");
    assert!(!repo.path.join("Twin").exists() || repo.read("Twin") != "b\n", "{ran:?}");
}
