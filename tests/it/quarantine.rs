//! What comes back from sandboxes is bounded on the user's disk: looking leaves nothing, and what nothing names goes.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Signal, kill_process};

use crate::support::{AIRLOCK, TestRepo, pid};

/// Adds up the files of a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { size(&e.path()) } else { e.metadata().map_or(0, |m| m.len()) }).sum()
}

#[test]
fn looking_at_a_sandbox_that_works_leaves_nothing() {
    let repo = TestRepo::new();
    let script = "head -c 3000000 /dev/urandom > blob.bin; echo ready; \
                  while :; do head -c 3000000 /dev/urandom > new.bin; mv new.bin blob.bin; done";
    let mut command = repo.command(AIRLOCK, &["run", "--name", "q", "--review", "never", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    child.stdout.take().expect("a pipe").read_exact(&mut [0; 6]).expect("it is ready");
    let state = repo.path.join(".git/airlock");
    let before = size(&state);
    for _ in 0..4 {
        let ran = repo.airlock(&["diff", "q", "--stat"]).ok();
        assert!(ran.stdout.contains("blob.bin"), "{ran:?}");
    }
    assert!(size(&state) < before + 100_000, "{} bytes have come", size(&state) - before);
    kill_process(pid(&child), Signal::INT).expect("it is there");
    child.wait().expect("it ends");
}

#[test]
fn what_nothing_names_is_swept_and_all_else_stays() {
    let repo = TestRepo::new();
    repo.sandbox("s", "echo x >> a.txt; echo y > new.txt").ok();
    repo.airlock_with_input(&["review", "s", "--plain"], "y\nq\n").ok();
    let folder = repo.path.join(".git/airlock/sandboxes/s");
    let stray = folder.join("quarantine").join("0".repeat(64));
    fs::write(&stray, vec![0; 1_000_000]).expect("written");
    // Of a look that was killed, long ago and just now.
    let old = folder.join("looked-at-old");
    fs::create_dir_all(&old).expect("made");
    fs::write(old.join("content"), "x").expect("written");
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 24 * 60 * 60);
    fs::File::open(&old).expect("opened").set_modified(then).expect("set");
    fs::create_dir_all(folder.join("looked-at-young")).expect("made");
    let ran = repo.airlock(&["gc"]).ok();
    assert!(ran.stderr.contains("removed contents of s that nothing names"), "{}", ran.stderr);
    assert!(!stray.exists() && !old.exists() && folder.join("looked-at-young").exists());
    // Everything that is named is there: decisions, both sides, an apply and its undo.
    repo.airlock(&["apply", "s"]).ok();
    repo.airlock(&["gc"]).ok();
    repo.airlock(&["undo", "s"]).ok();
    repo.airlock(&["apply", "s", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");
}

#[test]
fn a_failed_collecting_leaves_nothing_of_what_it_stored() {
    let mut repo = TestRepo::new();
    repo.set("AIRLOCK_MAX_TIME", "1s");
    let script = "import os\nfor i in range(30000): open(f'{i}', 'w').write(str(i))";
    repo.airlock(&["run", "--name", "t", "--", "python3", "-c", script]).expect_failure(125, &["max_time"]);
    let quarantine = repo.path.join(".git/airlock/sandboxes/t/quarantine");
    assert_eq!(fs::read_dir(&quarantine).expect("listed").count(), 0);
    // The work can still be collected.
    repo.unset("AIRLOCK_MAX_TIME");
    assert_eq!(repo.diff("t")["files"].as_array().expect("a list").len(), 30_000);
}
