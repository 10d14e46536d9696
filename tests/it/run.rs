//! Tests of the main workflow on a real engine: run, diff, apply and remove.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use insta::assert_snapshot;
use rustix::process::{Signal, kill_process};

use crate::support::{AIRLOCK, CommandOutput, TestRepo, engine_lacks, is_bare, pid};

/// Copies pairs of strings.
fn to_owned_pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn apply_writes_only_accepted_files() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    let script = "echo x >> a.txt; echo new > dir/b.txt; rm c.txt; chmod +x run.sh; ln -s a.txt link";
    let ran = repo.airlock(&["run", "--name", "t1", "--review", "never", "--", "sh", "-c", script]).ok();
    assert_eq!(ran.stdout, "");
    assert_eq!(repo.read_tree(), before, "the tree, the index and the refs are unchanged");
    let five =
        [("a.txt", "modified"), ("c.txt", "deleted"), ("dir/b.txt", "added"), ("link", "added"), ("run.sh", "mode")];
    assert_eq!(repo.changes("t1"), to_owned_pairs(&five));
    assert_snapshot!(repo.airlock(&["diff", "t1", "--exit-code"]), @"
    status: 3
    ----- stdout -----
    modified  a.txt
    @@ -1,2 +1,3 @@
     one
     two
    +x

    deleted  c.txt
    deleted, 5 bytes
    @@ -1 +0,0 @@
    -gone

    added  dir/b.txt
    @@ -0,0 +1 @@
    +new

    added  link
    ! high: is a new symlink
    symlink to a.txt

    mode  run.sh
    ! high: gains the executable bit
    becomes executable
    ");

    repo.airlock(&["apply", "t1", "--accept", "a.txt", "--dry-run"]).ok();
    assert_eq!(repo.read_tree(), before, "a dry run writes nothing");
    repo.airlock(&["apply", "t1", "--accept", "a.txt"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n");
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");

    assert_snapshot!(repo.airlock(&["apply", "t1", "--accept", "link"]), @"
    status: 1
    ----- stderr -----
    error: link is high risk and requires confirmation: it is a new symlink
    hint: review it, then add `--allow-risky`
    ");
    repo.airlock(&["apply", "t1", "--accept-all"]).ok();
    assert_eq!(
        repo.git(&["status", "--short"]),
        " M a.txt\n D c.txt\n?? dir/b.txt\n",
        "files with high findings are not applied"
    );
    repo.airlock(&["apply", "t1", "--accept-all", "--allow-risky"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n D c.txt\n M run.sh\n?? dir/b.txt\n?? link\n");
    assert!(repo.git(&["diff", "run.sh"]).contains("new mode 100755"));
    assert_eq!(repo.git(&["diff", "--cached"]), "");

    repo.airlock(&["rm", "t1"]).ok();
    assert_eq!(repo.engine_objects(), 0);
    assert!(is_bare(&repo.path.join(".git/airlock/sandboxes")));
}

#[test]
fn run_passes_status_and_streams_through() {
    let repo = TestRepo::new();
    assert_eq!(repo.airlock(&["run", "--", "sh", "-c", "exit 7"]).status, 7);
    assert_eq!(repo.airlock(&["run", "--", "no-such-command"]).status, 127);
    assert_eq!(repo.airlock(&["run", "--", "/etc/passwd"]).status, 126);
    let ran = repo.airlock(&["run", "--", "sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!(ran.stdout, "out\n");
    assert!(ran.stderr.lines().any(|line| line == "err"), "{}", ran.stderr);

    let mut command = repo.command(AIRLOCK, &["run", "--", "cat"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let large = "0123456789abcde\n".repeat(40_000);
    let mut input = child.stdin.take().expect("a pipe");
    let sent = large.clone();
    let writer = std::thread::spawn(move || input.write_all(sent.as_bytes()));
    let mut out = String::new();
    child.stdout.take().expect("a pipe").read_to_string(&mut out).expect("UTF-8");
    writer.join().expect("no panic").expect("it was read");
    assert!(child.wait().expect("it ends").success());
    assert!(out == large, "received {} bytes of {}", out.len(), large.len());
    assert_eq!(repo.engine_objects(), 0, "a sandbox without changes leaves nothing");
}

#[test]
fn run_ends_agent_if_stdout_closes() {
    let repo = TestRepo::new();
    let mut command = repo.command(AIRLOCK, &["run", "--", "yes"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert_eq!(line, "y\n");
    child.wait().expect("it ends");
    assert_eq!(repo.engine_objects(), 0);
}

#[test]
fn sandbox_has_no_network_credential_or_host_file() {
    let mut repo = TestRepo::new();
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-the-real-one");
    let script = "cat /proc/net/route /proc/net/dev; env; ls -la ~ / .; id; grep Cap /proc/self/status; \
                  grep NoNewPrivs /proc/self/status; touch /usr/x 2>&1 || true; cat /proc/self/mounts";
    let out = repo.airlock(&["run", "--net", "model", "--", "sh", "-c", script]).ok().stdout;
    assert!(out.contains("uid=1000(agent) gid=1000(agent)"), "{out}");
    assert!(out.contains("CapEff:\t0000000000000000") && out.contains("CapBnd:\t0000000000000000"), "{out}");
    assert!(out.contains("NoNewPrivs:\t1") && out.contains("Read-only file system"), "{out}");
    assert!(!out.contains("the-real-one") && !out.contains("docker.sock"), "{out}");
    let interfaces =
        out.lines().filter(|l| l.contains(": ") && l.trim_start().starts_with(|c: char| c.is_ascii_lowercase()));
    let interfaces: Vec<_> = interfaces.filter(|l| l.split_whitespace().count() > 10).collect();
    assert!(interfaces.iter().all(|l| l.trim_start().starts_with("lo:")), "{interfaces:?}");
    assert_eq!(out.lines().filter(|l| l.contains("\t0003\t") || l.contains("\t0001\t")).count(), 0, "no route: {out}");
}

#[test]
fn workspace_is_clean_repository_at_host_path() {
    let repo = TestRepo::new();
    repo.write("a.txt", "not committed\n");
    repo.write("untracked", "x");
    let script = "pwd; git status --short; git log --format='%s|%an|%ae'; cat ../a.txt; ls ..";
    let mut command = repo.command(AIRLOCK, &["run", "--", "sh", "-euc", script]);
    command.current_dir(repo.path.join("dir"));
    let ran = CommandOutput::from_command(command).ok();
    let repo = repo.path.display();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!(lines[0], format!("{repo}/dir"));
    assert_eq!(lines[1], "start|Ann|ann@example.org", "the history is that of the repository");
    assert_eq!(&lines[2..], ["one", "two", "a.txt", "c.txt", "dir", "run.sh"]);
    assert!(ran.stderr.contains("2 uncommitted files not included"), "{}", ran.stderr);
}

#[test]
fn killed_run_leaves_collectable_sandbox() {
    let repo = TestRepo::new();
    let mut command = repo
        .command(AIRLOCK, &["run", "--name", "k", "--", "sh", "-c", "echo x >> a.txt; echo ready; exec sleep 1000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");

    // While the agent runs, other processes can only read.
    assert_snapshot!(repo.airlock(&["diff", "k", "--name-only"]), @"
    status: 0
    ----- stdout -----
    a.txt
    ----- stderr -----
    airlock: k is running; the changes may be incomplete or inconsistent
    ");
    assert_snapshot!(repo.airlock(&["apply", "k", "--accept-all"]), @"
    status: 1
    ----- stderr -----
    error: the sandbox `k` is in use by another airlock process
    hint: if its agent runs, `airlock attach k` shows it, `airlock stop k` ends it, and `airlock diff k` shows its changes
    ");
    assert_snapshot!(repo.airlock(&["rm", "k"]), @"
    status: 1
    ----- stderr -----
    error: the sandbox `k` is in use by another airlock process
    hint: if its agent runs, `airlock attach k` shows it, `airlock stop k` ends it, and `airlock diff k` shows its changes
    ");
    assert!(repo.airlock(&["ls"]).ok().stdout.contains("running"));

    child.kill().expect("the process exists");
    child.wait().expect("it ends");
    assert!(repo.airlock(&["ls"]).ok().stdout.contains("interrupted"));
    assert_snapshot!(repo.airlock(&["diff", "k", "--name-only"]), @"
    status: 0
    ----- stdout -----
    a.txt
    ----- stderr -----
    airlock: k was interrupted; collecting its changes
    ");
    repo.airlock(&["rm", "k"]).ok();
    assert_eq!(repo.engine_objects(), 0);
}

#[test]
fn run_forwards_signals_and_keeps_work() {
    let repo = TestRepo::new();
    let script = "trap 'echo caught >> a.txt; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let mut command = repo.command(AIRLOCK, &["run", "--name", "s", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    kill_process(pid(&child), Signal::TERM).expect("the process exists");
    assert_eq!(child.wait().expect("it ends").code(), Some(9));
    assert_eq!(repo.changes("s"), to_owned_pairs(&[("a.txt", "modified")]));
}

#[test]
fn run_kills_agent_at_second_signal() {
    let repo = TestRepo::new();
    let script = "trap '' TERM INT; echo ready; while :; do sleep 0.05; done";
    let mut command = repo.command(AIRLOCK, &["run", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    kill_process(pid(&child), Signal::INT).expect("the process exists");
    kill_process(pid(&child), Signal::TERM).expect("the process exists");
    assert_eq!(child.wait().expect("it ends").code(), Some(137));
    assert_eq!(repo.engine_objects(), 0);
}

#[test]
fn sandbox_size_counts_only_written_files() {
    if engine_lacks("overlay") {
        return;
    }
    let repo = TestRepo::new();
    repo.write("large", vec![7_u8; 5 << 20]);
    repo.commit();
    repo.airlock(&["run", "--name", "small", "--keep", "--", "git", "status"]).ok();
    repo.airlock(&["run", "--name", "big", "--", "sh", "-c", "head -c 3000000 /dev/zero > zero"]).ok();
    let list: serde_json::Value = serde_json::from_str(&repo.airlock(&["ls", "--json"]).ok().stdout).expect("JSON");
    let bytes = |n: usize| list["sandboxes"][n]["bytes"].as_u64().expect("a number");
    let (big, small) = if list["sandboxes"][0]["name"] == "big" { (bytes(0), bytes(1)) } else { (bytes(1), bytes(0)) };
    assert!(small < 1 << 20 && (3_000_000..5_000_000).contains(&big), "{small} and {big}");
    assert!(repo.airlock(&["ls"]).ok().stdout.contains("MiB"));
}

#[test]
fn run_accepts_options_before_the_verb() {
    let repo = TestRepo::new();
    if engine_lacks("limits") {
        return;
    }
    let args = ["--name", "o", "--pids", "77", "--env", "FOO=bar", "--keep", "run", "--env", "BAZ=1", "--", "sh", "-c"];
    let script = "echo $FOO $BAZ; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max";
    let ran = repo.airlock(&[&args[..], &[script]].concat());
    assert_eq!(ran.stdout, "bar 1\n77\n");
    assert!(repo.airlock(&["ls"]).ok().stdout.contains("\no "), "the sandbox is kept under its name");
}
