//! What takes minutes, or root: `scripts/test --long` runs it. Kills and failures from outside the process, on the real
//! program, and file systems that run full.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use airlock::apply::{ApplyError, HostFs, OnConflict, RecoveryMode};

use crate::faults::{difference, story};
use crate::field::{Field, Scene, scene};
use crate::support::{AIRLOCK, CommandOutput, TestRepo, pid};

fn say(text: &str) {
    std::io::stdout().write_all(format!("{text}\n").as_bytes()).expect("written");
}

/// A place with a sandbox that changes 40 paths of many kinds; one stays undecided, so that nothing is removed.
fn sample_repo() -> (TestRepo, [&'static str; 6]) {
    let repo = TestRepo::new();
    for n in 0..12 {
        repo.write(&format!("edit/{n}"), format!("{n}\n"));
        repo.write(&format!("lost/{n}"), format!("{n}\n"));
    }
    std::os::unix::fs::symlink("a.txt", repo.path.join("link")).expect("made");
    repo.write("swap/file", "f\n");
    repo.write("flat", "f\n");
    repo.commit();
    let script = "for n in $(seq 0 11); do echo more >> edit/$n; rm lost/$n; mkdir -p new/$n; echo n > new/$n/f; done; \
                  ln -sf c.txt link; ln -s a.txt new-link; chmod +x a.txt; rm -r swap; echo s > swap; rm flat; mkdir flat; \
                  echo f > flat/f; echo undecided > undecided";
    repo.changeset("l", script);
    repo.write("edit/3", "mine\n3\n");
    (repo, ["apply", "l", "--accept-all", "--allow-risky", "--reject", "undecided"])
}

struct Ends {
    before: Scene,
    after: Scene,
}

impl Ends {
    fn of(repo: &TestRepo, apply: &[&str]) -> Self {
        let before = scene(&repo.path);
        repo.airlock(apply).ok();
        let after = scene(&repo.path);
        repo.airlock(&["undo"]).ok();
        let ends = Self { before, after };
        assert!(!ends.settle(repo, "the undo"));
        ends
    }

    /// Recovers, holds the tree to all or nothing, and takes all back; tells whether all was there.
    #[track_caller]
    fn settle(&self, repo: &TestRepo, what: &str) -> bool {
        let recovered = repo.airlock(&["recover"]).ok();
        assert!(!recovered.stderr.contains("left as it is"), "{what}: {}", recovered.stderr);
        let now = scene(&repo.path);
        let (to_before, to_after) = (difference(&now, &self.before), difference(&now, &self.after));
        let nearer = if to_before.len() < to_after.len() { &to_before } else { &to_after };
        assert!(nearer.is_empty(), "{what}: {nearer:#?}");
        if to_after.is_empty() {
            repo.airlock(&["undo"]).ok();
            assert_eq!(difference(&scene(&repo.path), &self.before), [""; 0], "{what}: the undo");
        }
        to_after.is_empty()
    }
}

/// Old applies make each command slower: they are not needed any more.
fn forget(repo: &TestRepo) {
    let folder = repo.path.join(".git/airlock/applies");
    for entry in fs::read_dir(folder).expect("listed").flatten().filter(|e| e.path().is_dir()) {
        fs::remove_dir_all(entry.path()).expect("removed");
    }
}

#[test]
#[ignore = "minutes: scripts/test --long"]
fn killed_at_random_moments() {
    let (repo, apply) = sample_repo();
    let ends = Ends::of(&repo, &apply);
    let start = Instant::now();
    repo.airlock(&apply).ok();
    let whole = start.elapsed();
    repo.airlock(&["undo"]).ok();
    let (mut done, mut before, mut unfinished) = (0, 0, 0);
    let runs: u64 = 600;
    for run in 0..runs {
        let mut child = repo.command(AIRLOCK, &apply);
        let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        // Spread over its whole time, by the fractional parts of a golden ratio.
        let part = u32::try_from((run * 618_033_989) % 1_000_000_000).expect("it is below");
        std::thread::sleep(whole.mul_f64(0.3 + 1.2 * f64::from(part) / 1e9));
        let _ = rustix::process::kill_process(pid(&child), rustix::process::Signal::KILL);
        child.wait().expect("it ends");
        let folder = repo.path.join(".git/airlock/applies");
        let is_cut = |f: PathBuf| f.join("journal").exists() && !f.join("end").exists();
        let cut = fs::read_dir(&folder).expect("listed").flatten().any(|e| is_cut(e.path()));
        unfinished += usize::from(cut);
        if ends.settle(&repo, &format!("run {run}")) {
            done += 1;
        } else {
            before += 1;
        }
        if run % 20 == 19 {
            forget(&repo);
        }
    }
    say(&format!(
        "{runs} kills spread over {whole:?}: {done} ended all after, {before} all before, {unfinished} were unfinished"
    ));
    assert!(unfinished > 20, "{unfinished} were interrupted in the middle: the moments are badly spread");
}

#[test]
#[ignore = "minutes, and strace: scripts/test --long"]
fn every_system_call_can_kill_it_or_fail() {
    let (repo, apply) = sample_repo();
    let ends = Ends::of(&repo, &apply);
    let trace = repo.path.with_file_name("trace");
    let strace = |call: &str, fault: &str| {
        let trace = trace.to_str().expect("UTF-8");
        let (only, inject) = (format!("trace={call}"), format!("inject={call}:{fault}"));
        // The fast way leaves signals out.
        let fast: &[&str] = if fault.starts_with("error") { &["--seccomp-bpf"] } else { &[] };
        let args = [&["-f", "-qq", "-o", trace, "-e", &only, "-e", &inject], fast, &[AIRLOCK]].concat();
        let mut command = repo.command("strace", &[&args[..], &apply].concat());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        CommandOutput::from_command(command)
    };
    // Whatever can change a file system, and what opens and reads.
    let calls = [
        "mkdirat",
        "mkdir",
        "renameat2",
        "rename",
        "unlinkat",
        "symlinkat",
        "linkat",
        "fchmod",
        "fchownat",
        "utimensat",
        "fsync",
        "fdatasync",
        "ftruncate",
        "write",
        "openat",
        "newfstatat",
        "getdents64",
        "readlinkat",
        "flock",
    ];
    let mut summary = Vec::new();
    for call in calls {
        for fault in ["signal=KILL", "error=ENOSPC", "error=EIO"] {
            // What only reads is not said to be full.
            let reads = ["openat", "newfstatat", "getdents64", "readlinkat", "flock"].contains(&call);
            if reads && fault == "error=ENOSPC" {
                continue;
            }
            let mut points = 0;
            for n in 1.. {
                let ran = strace(call, &format!("{fault}:when={n}"));
                let text = fs::read_to_string(&trace).expect("traced");
                let reached = text.contains("(INJECTED)") || text.contains("+++ killed by SIGKILL +++");
                ends.settle(&repo, &format!("{call} {n} {fault}: {ran:?}"));
                if !reached {
                    break;
                }
                points += 1;
                if n % 20 == 0 {
                    forget(&repo);
                }
            }
            summary.push(format!("{call} {fault}: {points}"));
            say(summary.last().expect("just pushed"));
        }
    }
    for call in ["mkdirat", "renameat2", "unlinkat", "symlinkat", "linkat", "fchmod", "utimensat", "fsync", "write"] {
        for fault in ["signal=KILL", "error=EIO"] {
            let line = summary.iter().find(|s| s.starts_with(&format!("{call} {fault}: "))).expect("it was tried");
            assert!(!line.ends_with(": 0"), "{call} was never met");
        }
    }
}

/// A file system of its own; needs root.
struct Mounted(PathBuf);

impl Mounted {
    fn new(folder: &Path, args: &[&str]) -> Self {
        let at = folder.join("mounted");
        fs::create_dir_all(&at).expect("made");
        let done = Command::new("mount").args(args).arg(&at).status().expect("mount runs");
        assert!(done.success(), "it takes root to mount a file system: mount {args:?}");
        Self(at)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

/// Applies with less and less room left, down to none.
fn runs_full(on: &Path, step: usize, what: &str) {
    let (base, host, accepted) = story();
    let (mut done, mut failed) = (0, 0);
    let filler = on.join("filler");
    let reference = {
        let field = Field::new(&host);
        let before = field.scene();
        field.run(&field.plan(&base, &accepted, OnConflict::Abort), &HostFs::default()).expect("applied");
        (before, field.scene())
    };
    for left in 0..400 {
        let _ = fs::remove_file(&filler);
        let field = Field::on(on, &host);
        // What was accepted is there; then the disk fills up.
        let plan = field.plan(&base, &accepted, OnConflict::Abort);
        let applies = field.applies();
        drop(applies);
        let free = {
            let stat = rustix::fs::statvfs(on).expect("asked");
            usize::try_from(stat.f_bavail * stat.f_frsize).expect("small")
        };
        let size = free.saturating_sub(left * step);
        let mut file = fs::File::create(&filler).expect("made");
        let zeros = vec![0_u8; 65536];
        let mut to_go = size;
        while to_go > 0 {
            match file.write(&zeros[..to_go.min(zeros.len())]) {
                Ok(0) | Err(_) => break,
                Ok(n) => to_go -= n,
            }
        }
        let _ = file.sync_all();
        drop(file);
        let result = field.run(&plan, &HostFs::default());
        if let Err(ApplyError::RollbackFailed { .. }) = result {
            // Not even the end of the journal could be written.
            fs::remove_file(&filler).expect("removed");
            field.recover(RecoveryMode::RollBack, &HostFs::default()).expect("recovered");
        }
        let now = field.scene();
        let expected = if result.is_ok() { &reference.1 } else { &reference.0 };
        assert_eq!(difference(&now, expected), [""; 0], "{what} with {left} steps left: {result:?}");
        if result.is_ok() {
            done += 1;
            if done > 5 {
                break;
            }
        } else {
            failed += 1;
        }
    }
    say(&format!("{what}: {failed} applies ran out of room and changed nothing, then {done} had enough"));
    assert!(failed > 5 && done > 0, "{what}: {failed} failed, {done} did not");
}

#[test]
#[ignore = "root: scripts/test --long"]
fn a_file_system_in_memory_runs_full() {
    let folder = tempfile::tempdir().expect("a folder");
    let mounted = Mounted::new(folder.path(), &["-t", "tmpfs", "-o", "size=2m", "tmpfs"]);
    runs_full(&mounted.0, 4096, "tmpfs of 2 MiB");
}

#[test]
#[ignore = "root: scripts/test --long"]
fn a_small_disk_runs_full() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    fs::File::create(&image).expect("made").set_len(4 << 20).expect("sized");
    let path = image.to_str().expect("UTF-8");
    let mut make = Command::new("mkfs.ext4");
    make.args(["-q", "-b", "1024", "-N", "1024", "-m", "0", path]).env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    assert!(make.status().expect("mkfs.ext4 runs").success());
    let mounted = Mounted::new(folder.path(), &["-o", "loop", path]);
    runs_full(&mounted.0, 1024, "ext4 of 4 MiB");
}

#[test]
#[ignore = "root: scripts/test --long"]
fn a_full_disk_of_the_repository_does_not_block_collecting() {
    let mut repo = TestRepo::new();
    let (git, state) = (repo.path.join(".git"), repo.path.join(".git/airlock"));
    let mounted = Mounted::new(&git, &["-t", "tmpfs", "-o", "size=60m", "tmpfs"]);
    std::os::unix::fs::symlink(&mounted.0, &state).expect("linked");
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do head -c 8M /dev/urandom > big$i; done; echo x > small";
    let ran = repo.airlock(&["run", "--name", "full", "--review", "never", "--", "sh", "-c", script]);
    ran.expect_failure(125, &["MiB left, too little for what the sandbox holds", "full is kept with the agent's work"]);
    let left = fs::read_dir(state.join("sandboxes/full/quarantine")).expect("listed").count();
    assert_eq!(left, 0, "what was stored is gone again");
    repo.set("AIRLOCK_MAX_TOTAL", "10m");
    let diff = repo.diff("full");
    assert_eq!(diff["refused"].as_array().expect("a list").len(), 11, "{:#}", diff["refused"]);
    repo.unset("AIRLOCK_MAX_TOTAL");
    repo.airlock(&["rm", "full"]).ok();
}
