//! Limits at run time: what meets one is stopped, the message names the option, the work up to then comes back, and the engine
//! is well afterwards.

use std::io::Read;
use std::process::Stdio;

use crate::support::{AIRLOCK, CommandOutput, TestRepo, pid};

/// Work that must come back whatever happens after it.
const WORK: &str = "echo work >> a.txt; ";

fn run(repo: &TestRepo, options: &[&str], script: &str) -> CommandOutput {
    let script = format!("{WORK}{script}");
    repo.airlock(&[&["run", "--name", "l", "--review", "never"], options, &["--", "sh", "-c", &script]].concat())
}

/// Holds it to what every limit promises.
#[track_caller]
fn work_is_back(repo: &TestRepo) {
    assert_eq!(repo.changes("l").first(), Some(&("a.txt".into(), "modified".into())));
    repo.airlock(&["apply", "l", "--accept", "a.txt"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nwork\n");
    repo.airlock(&["rm", "l"]).ok();
    assert_eq!(repo.airlock(&["run", "--", "echo", "well"]).ok().stdout, "well\n", "the engine is well");
}

#[test]
fn time() {
    let repo = TestRepo::new();
    // One that listens ends by itself, one that does not is killed.
    let ran = run(&repo, &["--timeout", "1s"], "trap 'echo caught >> a.txt; exit 9' TERM; while :; do sleep 0.1; done");
    assert_eq!(ran.status, 9, "{ran:?}");
    assert!(ran.stderr.contains("its time of 1 s was over (--timeout)"), "{}", ran.stderr);
    repo.airlock(&["rm", "l"]).ok();
    let ran = run(&repo, &["--timeout", "1s"], "sleep 1000");
    assert_eq!(ran.status, 143, "{ran:?}");
    work_is_back(&repo);
    repo.airlock(&["run", "--timeout", "soon", "--", "true"])
        .expect_failure(125, &["--timeout: soon is not a duration"]);
}

#[test]
fn disk() {
    let repo = TestRepo::new();
    let filler = "mkdir -p big/inner; for n in $(seq 100); do head -c 50000000 /dev/zero > big/inner/$n; sleep 0.05; done; sleep 1000";
    let ran = run(&repo, &["--disk", "200m"], filler);
    assert_eq!(ran.status, 137, "{ran:?}");
    assert!(ran.stderr.contains("may take 200.00 MiB (--disk); most is in big/inner"), "{}", ran.stderr);
    assert!(repo.changes("l").iter().any(|(path, _)| path.starts_with("big/inner/")));
    assert!(repo.airlock(&["status", "l"]).ok().stdout.contains("  limit      the agent was stopped"));
    work_is_back(&repo);
}

#[test]
fn disk_is_not_dodged_and_does_not_misfire() {
    let repo = TestRepo::new();
    // After its time is over an agent that does not listen may not fill the disk either.
    let script = "trap '' TERM; sleep 2; head -c 400000000 /dev/zero > big; sleep 1000";
    let ran = run(&repo, &["--disk", "100m", "--timeout", "1s"], script);
    assert!(ran.status == 137 && ran.stderr.contains("(--timeout)") && ran.stderr.contains("(--disk)"), "{ran:?}");
    repo.airlock(&["rm", "l"]).ok();
    // A chain of directories that no path reaches.
    let script = "import os, time\nfor _ in range(2100): os.mkdir('dd'); os.chdir('dd')\nopen('f', 'w').write('x' * 10000)\ntime.sleep(1000)";
    let args = ["run", "--name", "l", "--review", "never", "--timeout", "60s", "--", "python3", "-c", script];
    let ran = repo.airlock(&args);
    assert!(ran.status == 137 && ran.stderr.contains("too deep to tell what they take (--disk)"), "{ran:?}");
    repo.airlock(&["rm", "l"]).ok();
    // Names of one file count once.
    let script = "head -c 60000000 /dev/zero > h; for n in 1 2 3 4 5; do ln h h$n; done; sleep 4; rm h*; echo alive";
    let ran = run(&repo, &["--disk", "100m"], script).ok();
    assert_eq!(ran.stdout, "alive\n", "{}", ran.stderr);
}

#[test]
fn files_and_directories() {
    let mut repo = TestRepo::new();
    repo.set("AIRLOCK_INODES", "5000");
    let ran = run(&repo, &[], "mkdir ~/many; cd ~/many; seq 20000 | xargs touch; sleep 1000");
    assert_eq!(ran.status, 137, "{ran:?}");
    assert!(ran.stderr.contains("and may have 5000 (inodes); most is in ~/many"), "{}", ran.stderr);
    work_is_back(&repo);
}

#[test]
fn memory() {
    let repo = TestRepo::new();
    let ran = run(&repo, &["--memory", "100m"], "exec python3 -c 'x = bytearray(10**9)'");
    assert_ne!(ran.status, 0, "{ran:?}");
    assert!(ran.stderr.contains("its limit of 100.00 MiB of memory (--memory)"), "{}", ran.stderr);
    work_is_back(&repo);
    // A file system in memory counts as well.
    let ran = run(&repo, &["--memory", "100m"], "head -c 500000000 /dev/zero > /tmp/fill; exit 3");
    assert!(ran.stderr.contains("(--memory)"), "{ran:?}");
}

#[test]
fn processes() {
    let repo = TestRepo::new();
    // The classic: each process starts two, and tries again where it cannot.
    // (What waits is started first: afterwards nothing can be.)
    let bomb = "sleep 1000 & bash -c ':(){ :|:& };:' 2>/dev/null; wait";
    // With half a processor, so that the tests beside it get theirs.
    let ran = run(&repo, &["--pids", "60", "--cpus", "0.5", "--timeout", "6s"], bomb);
    assert!(ran.stderr.contains("its limit of 60 processes and threads (--pids)"), "{ran:?}");
    assert!(ran.stderr.contains("(--timeout)"), "{ran:?}");
    work_is_back(&repo);
}

#[test]
fn a_flood_of_output_takes_no_memory_and_ends_with_its_reader() {
    let repo = TestRepo::new();
    let script = "yes 'a line of the flood' & yes 'another one' >&2 & wait";
    let mut command = repo.command(AIRLOCK, &["run", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut errors = child.stderr.take().expect("a pipe");
    let drain = std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    let mut out = child.stdout.take().expect("a pipe");
    let (mut read, mut buffer) = (0_usize, vec![0; 1 << 16]);
    while read < 300_000_000 {
        read += out.read(&mut buffer).expect("it goes on");
    }
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", pid(&child).as_raw_nonzero())).expect("it is there");
    let field = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("it has one");
    let peak: u64 = field.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 100_000, "{peak} kB");
    drop(out);
    child.wait().expect("it ends");
    drain.join().expect("no panic").expect("read");
    assert_eq!(repo.engine_objects(), 0);
}
