//! Tests of the limits at run time: an agent that reaches one is stopped, the message names the option, its work is
//! collected, and the engine still works.

use std::io::Read;
use std::process::Stdio;

use insta::assert_snapshot;

use crate::support::{AIRLOCK, CommandOutput, TestRepo, engine_lacks, is_declared_lacking, pid};

/// A script for work that must be collected, whatever happens after it.
const WORK: &str = "echo work >> a.txt; ";

/// Does the work, then runs a script.
fn run_script(repo: &TestRepo, options: &[&str], script: &str) -> CommandOutput {
    let script = format!("{WORK}{script}");
    repo.airlock(&[&["run", "--name", "l", "--review", "never"], options, &["--", "sh", "-c", &script]].concat())
}

/// Checks that the work was collected and can be applied, and that the engine still works.
#[track_caller]
fn check_work_collected(repo: &TestRepo) {
    assert_eq!(repo.changes("l").first(), Some(&("a.txt".into(), "modified".into())));
    repo.airlock(&["apply", "l", "--accept", "a.txt"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nwork\n");
    repo.airlock(&["rm", "l"]).ok();
    assert_eq!(repo.airlock(&["run", "--", "echo", "works"]).ok().stdout, "works\n", "the engine works");
}

#[test]
fn timeout_stops_the_agent() {
    let repo = TestRepo::new();
    // An agent that handles the signal ends by itself. Any other agent is killed.
    let ran = run_script(
        &repo,
        &["--timeout", "1s"],
        "trap 'echo caught >> a.txt; exit 9' TERM; while :; do sleep 0.1; done",
    );
    assert_eq!(ran.status, 9, "{ran:?}");
    assert!(ran.stderr.contains("time limit of 1 s (--timeout)"), "{}", ran.stderr);
    repo.airlock(&["rm", "l"]).ok();
    let ran = run_script(&repo, &["--timeout", "1s"], "sleep 1000");
    assert_eq!(ran.status, 143, "{ran:?}");
    check_work_collected(&repo);
    assert_snapshot!(repo.airlock(&["run", "--timeout", "soon", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: --timeout: soon is not a duration such as 90s, 30m or 2h
    ");
}

#[test]
fn disk_limit_stops_the_agent() {
    let repo = TestRepo::new();
    let filler = "mkdir -p big/inner; for n in $(seq 100); do head -c 50000000 /dev/zero > big/inner/$n; sleep 0.05; done; sleep 1000";
    let ran = run_script(&repo, &["--disk", "200m"], filler);
    assert_eq!(ran.status, 137, "{ran:?}");
    assert!(ran.stderr.contains("the limit is 200.00 MiB (--disk); largest: big/inner"), "{}", ran.stderr);
    assert!(repo.changes("l").iter().any(|(path, _)| path.starts_with("big/inner/")));
    assert!(repo.airlock(&["status", "l"]).ok().stdout.contains("  limit      the agent was stopped"));
    check_work_collected(&repo);
}

#[test]
fn disk_limit_is_exact_and_cannot_be_evaded() {
    let repo = TestRepo::new();
    // An agent that ignores the signal at its timeout cannot fill the disk afterwards.
    let script = "trap '' TERM; sleep 2; head -c 400000000 /dev/zero > big; sleep 1000";
    let ran = run_script(&repo, &["--disk", "100m", "--timeout", "1s"], script);
    assert!(ran.status == 137 && ran.stderr.contains("(--timeout)") && ran.stderr.contains("(--disk)"), "{ran:?}");
    repo.airlock(&["rm", "l"]).ok();
    // Directories that are nested so deep that no path reaches them.
    let script = "import os, time\nfor _ in range(2100): os.mkdir('dd'); os.chdir('dd')\nopen('f', 'w').write('x' * 10000)\ntime.sleep(1000)";
    let args = ["run", "--name", "l", "--review", "never", "--timeout", "60s", "--", "python3", "-c", script];
    let ran = repo.airlock(&args);
    assert!(ran.status == 137 && ran.stderr.contains("too deep to measure (--disk)"), "{ran:?}");
    repo.airlock(&["rm", "l"]).ok();
    // Hard links of one file count once.
    let script = "head -c 60000000 /dev/zero > h; for n in 1 2 3 4 5; do ln h h$n; done; sleep 4; rm h*; echo alive";
    let ran = run_script(&repo, &["--disk", "100m"], script).ok();
    assert_eq!(ran.stdout, "alive\n", "{}", ran.stderr);
}

#[test]
fn inode_limit_stops_the_agent() {
    let mut repo = TestRepo::new();
    repo.set("AIRLOCK_INODES", "5000");
    let ran = run_script(&repo, &[], "mkdir ~/many; cd ~/many; seq 20000 | xargs touch; sleep 1000");
    assert_eq!(ran.status, 137, "{ran:?}");
    // A copied workspace has the five files of the base.
    let limit = if is_declared_lacking("overlay") { 5005 } else { 5000 };
    let message = format!("the limit is {limit} (inodes); largest: ~/many");
    assert!(ran.stderr.contains(&message), "{}", ran.stderr);
    check_work_collected(&repo);
}

#[test]
fn memory_limit_is_reported() {
    if engine_lacks("limits") {
        return;
    }
    let repo = TestRepo::new();
    let ran = run_script(&repo, &["--memory", "100m"], "exec python3 -c 'x = bytearray(10**9)'");
    assert_ne!(ran.status, 0, "{ran:?}");
    assert!(ran.stderr.contains("its memory limit of 100.00 MiB (--memory)"), "{}", ran.stderr);
    check_work_collected(&repo);
    // Files of a file system in memory count as well.
    let ran = run_script(&repo, &["--memory", "100m"], "head -c 500000000 /dev/zero > /tmp/fill; exit 3");
    assert!(ran.stderr.contains("(--memory)"), "{ran:?}");
}

#[test]
fn pids_limit_is_reported() {
    if engine_lacks("limits") {
        return;
    }
    let repo = TestRepo::new();
    // A fork bomb: each process starts two others, and tries again if it cannot. The `sleep` is started first, because
    // no process can be started afterwards.
    let bomb = "sleep 1000 & bash -c ':(){ :|:& };:' 2>/dev/null; wait";
    // Half a processor, so that tests that run at the same time are not slowed down.
    let ran = run_script(&repo, &["--pids", "60", "--cpus", "0.5", "--timeout", "6s"], bomb);
    assert!(ran.stderr.contains("its limit of 60 processes and threads (--pids)"), "{ran:?}");
    assert!(ran.stderr.contains("(--timeout)"), "{ran:?}");
    check_work_collected(&repo);
}

#[test]
fn output_flood_uses_little_memory() {
    let repo = TestRepo::new();
    let script = "yes 'a line of the flood' & yes 'another one' >&2 & wait";
    let mut command = repo.command(AIRLOCK, &["run", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut errors = child.stderr.take().expect("a pipe");
    let drain = std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    let mut out = child.stdout.take().expect("a pipe");
    let (mut read, mut buffer) = (0_usize, vec![0; 1 << 16]);
    while read < 300_000_000 {
        read += out.read(&mut buffer).expect("read");
    }
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", pid(&child).as_raw_nonzero())).expect("the process runs");
    let field = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("the status has this field");
    let peak: u64 = field.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 100_000, "{peak} kB");
    drop(out);
    child.wait().expect("it ends");
    drain.join().expect("no panic").expect("read");
    assert_eq!(repo.engine_objects(), 0);
}
