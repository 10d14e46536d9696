//! A host tree on FAT: no difference between upper and lower case, no executable bit, no links, no hard links, no exclusive
//! rename. Mounted by `fusefat`, which needs no help of the kernel's.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::Place;

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
fn place(fat: &Fat) -> Place {
    let mut place = Place::empty();
    let git = place.repo.with_file_name("git");
    fs::rename(place.repo.join(".git"), &git).expect("moved");
    place.repo = fat.mounted.join("work");
    fs::create_dir(&place.repo).expect("made");
    fs::write(place.repo.join(".git"), format!("gitdir: {}\n", git.display())).expect("written");
    let work = place.repo.to_str().expect("UTF-8").to_owned();
    for (key, value) in [
        ("core.worktree", work.as_str()),
        ("core.fileMode", "false"),
        ("core.symlinks", "false"),
        ("core.ignoreCase", "true"),
    ] {
        place.git(&["config", key, value]);
    }
    place.write("Readme", "one\n");
    place.write("run.sh", "#!/bin/sh\n");
    place.write("link", "target");
    place.git(&["add", "-A"]);
    place.git(&["update-index", "--chmod=+x", "run.sh"]);
    let target = place.git(&["hash-object", "-w", "link"]);
    place.git(&["update-index", "--cacheinfo", &format!("120000,{},link", target.trim())]);
    place.git(&["commit", "-qm", "start"]);
    assert_eq!(place.git(&["status", "--short"]), "");
    place
}

#[test]
fn case_modes_and_links_are_as_the_file_system_has_them() {
    let fat = Fat::mount();
    let place = place(&fat);
    // Inside, all of it is what the commit says.
    let script = "test -x run.sh; test \"$(readlink link)\" = target; git mv Readme README; echo two >> README; echo echo >> run.sh; \
                  ln -sf other link; echo new > New";
    place.sandbox("c", script).ok();
    place.airlock(&["apply", "c", "--accept-all", "--allow-risky"]).ok();
    let names: Vec<_> = fs::read_dir(&place.repo).expect("listed").map(|e| e.expect("listed").file_name()).collect();
    assert!(names.iter().any(|n| n == "README") && !names.iter().any(|n| n == "Readme"), "{names:?}");
    assert_eq!(place.read("README"), "one\ntwo\n");
    assert_eq!(place.read("run.sh"), "#!/bin/sh\necho\n");
    assert_eq!(place.read("link"), "other", "a file stands for a link");
    assert_eq!(place.read("New"), "new\n");
    place.airlock(&["apply", "c", "--accept-all", "--allow-risky"]).ok();
}

#[test]
fn twins_are_refused_where_they_would_be_one_file() {
    let fat = Fat::mount();
    let place = place(&fat);
    let script =
        "echo a > Twin; echo b > twin; echo c > RUN.SH; mkdir Sub sub; echo e > Sub/x; echo f > sub/x; echo g > fine";
    place.sandbox("t", script).ok();
    let conflict = |path: &str, twin: &str| {
        let ran = place.airlock(&["apply", "t", "--accept", path]).fails(4, &["nothing was written"]);
        assert!(ran.out.contains(&format!("your file system takes it for {twin:?}")), "{}", ran.out);
    };
    conflict("RUN.SH", "run.sh");
    place.airlock(&["apply", "t", "--accept", "Twin", "--accept", "fine"]).ok();
    conflict("twin", "Twin");
    place.airlock(&["apply", "t", "--accept", "Sub/x"]).ok();
    conflict("sub/x", "Sub");
    assert_eq!((place.read("run.sh").as_str(), place.read("Twin").as_str()), ("#!/bin/sh\n", "a\n"));
    // Both at once, of which neither is there yet.
    fs::remove_file(place.repo.join("Twin")).expect("removed");
    let ran = place.airlock(&["apply", "t", "--accept", "Twin", "--accept", "twin"]);
    assert_ne!(ran.status, 0, "one of them would take the other's place: {ran:?}");
    assert!(!place.repo.join("Twin").exists() || place.read("Twin") != "b\n", "{ran:?}");
}
