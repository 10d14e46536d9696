//! The main job on the real engine: run, diff, apply, remove.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use rustix::process::{Signal, kill_process};

use crate::support::{AIRLOCK, Place, is_bare, pid};

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn only_what_is_accepted_reaches_the_host_tree() {
    let place = Place::new();
    let before = place.picture();
    let script = "echo x >> a.txt; echo new > dir/b.txt; rm c.txt; chmod +x run.sh; ln -s a.txt link";
    let ran = place.airlock(&["run", "--name", "t1", "--review", "never", "--", "sh", "-c", script]).ok();
    assert_eq!(ran.out, "");
    assert_eq!(place.picture(), before, "tree, index and refs are byte for byte as before");
    let five =
        [("a.txt", "modified"), ("c.txt", "deleted"), ("dir/b.txt", "added"), ("link", "added"), ("run.sh", "mode")];
    assert_eq!(place.changes("t1"), pairs(&five));
    assert_eq!(place.airlock(&["diff", "t1", "--exit-code"]).status, 3);

    place.airlock(&["apply", "t1", "--accept", "a.txt", "--dry-run"]).ok();
    assert_eq!(place.picture(), before, "a dry run writes nothing");
    place.airlock(&["apply", "t1", "--accept", "a.txt"]).ok();
    assert_eq!(place.git(&["status", "--short"]), " M a.txt\n");
    assert_eq!(place.read("a.txt"), "one\ntwo\nx\n");

    place.airlock(&["apply", "t1", "--accept", "link"]).fails(1, &["link", "--allow-risky"]);
    place.airlock(&["apply", "t1", "--accept-all"]).ok();
    assert_eq!(place.git(&["status", "--short"]), " M a.txt\n D c.txt\n?? dir/b.txt\n", "two high findings stay out");
    place.airlock(&["apply", "t1", "--accept-all", "--allow-risky"]).ok();
    assert_eq!(place.git(&["status", "--short"]), " M a.txt\n D c.txt\n M run.sh\n?? dir/b.txt\n?? link\n");
    assert!(place.git(&["diff", "run.sh"]).contains("new mode 100755"));
    assert_eq!(place.git(&["diff", "--cached"]), "");

    place.airlock(&["rm", "t1"]).ok();
    assert_eq!(place.engine_objects(), 0);
    assert!(is_bare(&place.repo.join(".git/airlock/sandboxes")));
}

#[test]
fn status_and_streams_are_the_commands() {
    let place = Place::new();
    assert_eq!(place.airlock(&["run", "--", "sh", "-c", "exit 7"]).status, 7);
    assert_eq!(place.airlock(&["run", "--", "no-such-command"]).status, 127);
    assert_eq!(place.airlock(&["run", "--", "/etc/passwd"]).status, 126);
    let ran = place.airlock(&["run", "--", "sh", "-c", "echo out; echo err >&2"]).ok();
    assert_eq!(ran.out, "out\n");
    assert!(ran.err.lines().any(|line| line == "err"), "{}", ran.err);

    let mut command = place.command(AIRLOCK, &["run", "--", "cat"]);
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
    assert!(out == large, "{} bytes came back of {}", out.len(), large.len());
    assert_eq!(place.engine_objects(), 0, "a sandbox without changes leaves nothing");
}

#[test]
fn a_reader_that_goes_ends_the_agent() {
    let place = Place::new();
    let mut command = place.command(AIRLOCK, &["run", "--", "yes"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert_eq!(line, "y\n");
    child.wait().expect("it ends");
    assert_eq!(place.engine_objects(), 0);
}

#[test]
fn inside_there_is_no_network_no_credential_and_no_host_file() {
    let mut place = Place::new();
    place.set("ANTHROPIC_API_KEY", "sk-ant-api03-the-real-one");
    let script = "cat /proc/net/route /proc/net/dev; env; ls -la ~ / .; id; grep Cap /proc/self/status; \
                  grep NoNewPrivs /proc/self/status; touch /usr/x 2>&1 || true; cat /proc/self/mounts";
    let out = place.airlock(&["run", "--net", "model", "--", "sh", "-c", script]).ok().out;
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
fn the_workspace_is_a_clean_repository_at_the_hosts_path() {
    let place = Place::new();
    place.write("a.txt", "not committed\n");
    place.write("untracked", "x");
    let script = "pwd; git status --short; git log --format='%s|%an|%ae'; cat ../a.txt; ls ..";
    let mut command = place.command(AIRLOCK, &["run", "--", "sh", "-euc", script]);
    command.current_dir(place.repo.join("dir"));
    let ran = crate::support::Ran::of(command).ok();
    let repo = place.repo.display();
    let lines: Vec<&str> = ran.out.lines().collect();
    assert_eq!(lines[0], format!("{repo}/dir"));
    assert_eq!(lines[1], "start|Ann|ann@example.org", "the history is the repository's own");
    assert_eq!(&lines[2..], ["one", "two", "a.txt", "c.txt", "dir", "run.sh"]);
    assert!(ran.err.contains("2 uncommitted files stay behind"), "{}", ran.err);
}

#[test]
fn a_killed_airlock_leaves_a_sandbox_that_can_be_collected_and_removed() {
    let place = Place::new();
    let mut command = place
        .command(AIRLOCK, &["run", "--name", "k", "--", "sh", "-c", "echo x >> a.txt; echo ready; exec sleep 1000"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");

    // While it runs, others may look on and nothing more.
    let live = place.airlock(&["diff", "k", "--name-only"]).ok();
    assert_eq!(live.out, "a.txt\n");
    assert!(live.err.contains("may be torn"), "{}", live.err);
    place.airlock(&["apply", "k", "--accept-all"]).fails(1, &["in use", "hint:"]);
    place.airlock(&["rm", "k"]).fails(1, &["in use"]);
    assert!(place.airlock(&["ls"]).ok().out.contains("running"));

    child.kill().expect("it is there");
    child.wait().expect("it ends");
    assert!(place.airlock(&["ls"]).ok().out.contains("interrupted"));
    let found = place.airlock(&["diff", "k", "--name-only"]).ok();
    assert_eq!(found.out, "a.txt\n");
    place.airlock(&["rm", "k"]).ok();
    assert_eq!(place.engine_objects(), 0);
}

#[test]
fn signals_reach_the_agent_and_its_work_is_kept() {
    let place = Place::new();
    let script = "trap 'echo caught >> a.txt; exit 9' TERM; echo ready; while :; do sleep 0.05; done";
    let mut command = place.command(AIRLOCK, &["run", "--name", "s", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    kill_process(pid(&child), Signal::TERM).expect("it is there");
    assert_eq!(child.wait().expect("it ends").code(), Some(9));
    assert_eq!(place.changes("s"), pairs(&[("a.txt", "modified")]));
}

#[test]
fn an_agent_that_does_not_listen_is_killed_at_the_second_signal() {
    let place = Place::new();
    let script = "trap '' TERM INT; echo ready; while :; do sleep 0.05; done";
    let mut command = place.command(AIRLOCK, &["run", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    kill_process(pid(&child), Signal::INT).expect("it is there");
    kill_process(pid(&child), Signal::TERM).expect("it is there");
    assert_eq!(child.wait().expect("it ends").code(), Some(137));
    assert_eq!(place.engine_objects(), 0);
}

#[test]
fn a_sandbox_takes_next_to_nothing_until_its_agent_writes() {
    let place = Place::new();
    place.write("large", vec![7_u8; 5 << 20]);
    place.commit();
    place.airlock(&["run", "--name", "small", "--keep", "--", "git", "status"]).ok();
    place.airlock(&["run", "--name", "big", "--", "sh", "-c", "head -c 3000000 /dev/zero > zero"]).ok();
    let list: serde_json::Value = serde_json::from_str(&place.airlock(&["ls", "--json"]).ok().out).expect("JSON");
    let bytes = |n: usize| list["sandboxes"][n]["bytes"].as_u64().expect("a number");
    let (big, small) = if list["sandboxes"][0]["name"] == "big" { (bytes(0), bytes(1)) } else { (bytes(1), bytes(0)) };
    assert!(small < 1 << 20 && (3_000_000..5_000_000).contains(&big), "{small} and {big}");
    assert!(place.airlock(&["ls"]).ok().out.contains("MiB"));
}

#[test]
fn options_before_the_verb_count_too() {
    let place = Place::new();
    let args = ["--name", "o", "--pids", "77", "--env", "FOO=bar", "--keep", "run", "--env", "BAZ=1", "--", "sh", "-c"];
    let script = "echo $FOO $BAZ; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max";
    let ran = place.airlock(&[&args[..], &[script]].concat());
    assert_eq!(ran.out, "bar 1\n77\n");
    assert!(place.airlock(&["ls"]).ok().out.starts_with("o "), "it is kept under its name");
}
