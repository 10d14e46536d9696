//! Tests of disk usage on the host: a diff of a running sandbox stores nothing, and unreferenced contents are removed.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use insta::assert_snapshot;
use rustix::process::{Signal, kill_process};

use crate::support::{AIRLOCK, TestRepo, pid};

/// Returns the total size of the files in a directory, in bytes.
fn measure_dir(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { measure_dir(&e.path()) } else { e.metadata().map_or(0, |m| m.len()) }).sum()
}

#[test]
fn diff_of_running_sandbox_stores_nothing() {
    let repo = TestRepo::new();
    let script = "head -c 3000000 /dev/urandom > blob.bin; echo ready; \
                  while :; do head -c 3000000 /dev/urandom > new.bin; mv new.bin blob.bin; done";
    let mut command = repo.command(AIRLOCK, &["run", "--name", "q", "--review", "never", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    child.stdout.take().expect("a pipe").read_exact(&mut [0; 6]).expect("the agent starts");
    let state = repo.path.join(".git/airlock");
    let before = measure_dir(&state);
    for _ in 0..4 {
        let ran = repo.airlock(&["diff", "q", "--stat"]).ok();
        assert!(ran.stdout.contains("blob.bin"), "{ran:?}");
    }
    assert!(measure_dir(&state) < before + 100_000, "{} bytes were stored", measure_dir(&state) - before);
    kill_process(pid(&child), Signal::INT).expect("airlock still runs");
    child.wait().expect("airlock ends");
}

#[test]
fn gc_removes_only_unreferenced_contents() {
    let repo = TestRepo::new();
    repo.sandbox("s", "echo x >> a.txt; echo y > new.txt").ok();
    repo.airlock_with_input(&["review", "s", "--plain"], "y\nq\n").ok();
    let folder = repo.path.join(".git/airlock/sandboxes/s");
    let stray = folder.join("quarantine").join("0".repeat(64));
    fs::write(&stray, vec![0; 1_000_000]).expect("written");
    // The directories of two diffs that were killed, one long ago and one just now.
    let old = folder.join("live-old");
    fs::create_dir_all(&old).expect("made");
    fs::write(old.join("content"), "x").expect("written");
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 24 * 60 * 60);
    fs::File::open(&old).expect("opened").set_modified(then).expect("set");
    fs::create_dir_all(folder.join("live-young")).expect("made");
    let ran = repo.airlock(&["gc"]).ok();
    assert!(ran.stderr.contains("removed unreferenced contents of s"), "{}", ran.stderr);
    assert!(!stray.exists() && !old.exists() && folder.join("live-young").exists());
    // All referenced contents still exist: the decisions, both sides, and the backups of an apply.
    repo.airlock(&["apply", "s"]).ok();
    repo.airlock(&["gc"]).ok();
    repo.airlock(&["undo", "s"]).ok();
    repo.airlock(&["apply", "s", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");
}

#[test]
fn collect_failure_removes_stored_contents() {
    let mut repo = TestRepo::new();
    repo.set("AIRLOCK_MAX_TIME", "1s");
    let script = "import os\nfor i in range(30000): open(f'{i}', 'w').write(str(i))";
    assert_snapshot!(repo.airlock(&["run", "--name", "t", "--", "python3", "-c", script]), @"
    status: 125
    ----- stderr -----
    airlock: t · main at [COMMIT], 5 files · network: none
    error: the sandbox exceeds a collection limit: collection took longer than 1 s (max_time); the sandbox `t` is kept with the agent's work
    hint: run `airlock diff t`
    ");
    let quarantine = repo.path.join(".git/airlock/sandboxes/t/quarantine");
    assert_eq!(fs::read_dir(&quarantine).expect("listed").count(), 0);
    // The changes can still be collected.
    repo.unset("AIRLOCK_MAX_TIME");
    assert_eq!(repo.diff("t")["files"].as_array().expect("a list").len(), 30_000);
}
