//! Several engines: a new sandbox is placed where there is room. And the runtime of the agent's container.

use std::process::Command;
use std::sync::atomic::Ordering;

use serde_json::Value;

use crate::support::{TestRepo, engine_in_between};

/// A swap of bytes that are in no message.
const NOTHING: (&[u8], &[u8]) = (b"\xff\xfe no message", b"\xff\xfe no message");
/// An address at which nothing listens.
const NO_ENGINE: &str = "tcp://127.0.0.1:1";

/// Returns a repository whose sandboxes are placed on any of these engines. They are small, so that sandboxes of other tests leave
/// room.
fn repo_with_engines(engines: &[&str]) -> TestRepo {
    let mut repo = TestRepo::new();
    repo.set("AIRLOCK_ENGINE", "any");
    repo.set("AIRLOCK_ENGINES", engines.join(","));
    repo.set("AIRLOCK_MEMORY", "64m");
    repo.set("AIRLOCK_CPUS", "0.1");
    repo
}

fn engine_of(repo: &TestRepo, name: &str) -> Value {
    let status = repo.airlock(&["status", name, "--json"]).ok().stdout;
    serde_json::from_str::<Value>(&status).expect("JSON")["engine"].clone()
}

#[test]
fn sandbox_is_placed_where_there_is_room() {
    // An engine that tells of no CPUs has no room.
    let (full, _) = engine_in_between(NOTHING, (b"\"NCPU\":", b"\"NONE\":"));
    let (free, _) = engine_in_between(NOTHING, NOTHING);
    let mut repo = repo_with_engines(&[NO_ENGINE, &full, &free]);
    let ran = repo.sandbox("p", "echo more >> a.txt").ok();
    assert!(ran.stderr.contains(&format!("{NO_ENGINE} (Connection refused (os error 111))")), "{ran:?}");
    assert!(ran.stderr.contains(&format!("airlock: engine: {free} · ")), "{ran:?}");
    assert!(ran.stderr.contains(", including this one · room for "), "{ran:?}");
    assert_eq!(engine_of(&repo, "p"), *free);
    // It stays there, whatever is chosen later.
    repo.set("AIRLOCK_ENGINES", full.as_str());
    repo.airlock(&["resume", "p", "--", "sh", "-c", "echo again >> a.txt"]).ok();
    repo.airlock(&["apply", "p", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nmore\nagain\n");
    // Without room, it is started nevertheless, and the user is told.
    let ran = repo.sandbox("q", "true").ok();
    assert!(ran.stderr.contains("including this one · more than it has room for\n"), "{ran:?}");
    // No reservation is left.
    let held = repo.directory().join("home/.local/state/airlock/placements");
    let left: Vec<_> =
        std::fs::read_dir(held).expect("listed").map(|entry| entry.expect("listed").file_name()).collect();
    assert_eq!(left, ["lock"]);
    // Garbage is collected on all of them.
    repo.airlock(&["rm", "--force", "p"]).ok();
    repo.set("AIRLOCK_ENGINES", format!("{NO_ENGINE},{free}"));
    let collected = repo.airlock(&["gc"]).ok();
    assert!(collected.stderr.contains("its objects are kept"), "{collected:?}");
    assert_eq!(repo.engine_objects(), 0);
}

#[test]
fn several_engines_need_a_list_and_a_reachable_one() {
    let mut repo = repo_with_engines(&[NO_ENGINE, "no-such-context"]);
    let failed = repo.sandbox("p", "true");
    failed.expect_failure(125, &["none of the engines can be used", NO_ENGINE, "no-such-context"]);
    let failed = repo.airlock(&["image", "ls"]);
    failed.expect_failure(2, &["`any` is a choice for new sandboxes", "--engine", "no-such-context"]);
    let checked = repo.airlock(&["doctor"]).expect_failure(1, &[]);
    let reported: Vec<&str> = checked.stdout.lines().filter(|line| line.starts_with("broken  engine")).collect();
    assert!(
        matches!(reported[..], [one, other] if one.contains(NO_ENGINE) && other.contains("no-such-context")),
        "{checked:?}"
    );
    repo.unset("AIRLOCK_ENGINES");
    let failed = repo.sandbox("p", "true");
    failed.expect_failure(125, &["the setting `engines` is empty", "engines = ["]);
}

/// Asks the engine, such as for its runtimes.
fn ask_engine(what: &str) -> String {
    let out = Command::new("docker").args(["info", "--format", what]).output().expect("it runs");
    String::from_utf8(out.stdout).expect("UTF-8").trim().to_owned()
}

#[test]
fn agent_runs_in_the_chosen_runtime() {
    let repo = TestRepo::new();
    let failed = repo.airlock(&["run", "--runtime", "nope", "--", "true"]);
    failed.expect_failure(125, &["has no runtime `nope`; its runtimes are ", "omit `--runtime`"]);
    let default = ask_engine("{{.DefaultRuntime}}");
    let runtimes = ask_engine("{{range $name, $value := .Runtimes}}{{$name}} {{end}}");
    // The parts of Docker's own runtime have several names.
    let other =
        runtimes.split_whitespace().find(|name| **name != default && name.contains("runc.v2")).unwrap_or(&default);
    let script = "echo more >> a.txt";
    // The engine ignores the case of the names in a request.
    let (sent, same) = (format!("\"Runtime\":\"{other}\""), format!("\"runtime\":\"{other}\""));
    let (address, count) = engine_in_between((sent.leak().as_bytes(), same.leak().as_bytes()), NOTHING);
    let run = ["--engine", &address, "run", "--name", "r", "--runtime", other, "--", "sh", "-c", script];
    repo.airlock(&run).ok();
    assert_eq!(count.load(Ordering::SeqCst), 1, "the agent's container alone has it");
    assert_eq!(read_runtime(&repo), other);
    // A resumed one keeps it, until another one is chosen.
    repo.airlock(&["resume", "r", "--", "sh", "-c", script]).ok();
    assert_eq!(read_runtime(&repo), other);
    repo.airlock(&["resume", "r", "--runtime", &default, "--", "sh", "-c", script]).ok();
    assert_eq!(read_runtime(&repo), default);
    assert_eq!(repo.changes("r"), [("a.txt".to_owned(), "modified".to_owned())]);
}

fn read_runtime(repo: &TestRepo) -> String {
    let record = std::fs::read(repo.path.join(".git/airlock/sandboxes/r/record.json")).expect("read");
    let record: Value = serde_json::from_slice(&record).expect("JSON");
    record["agent_config"]["runtime"].as_str().expect("a name").to_owned()
}
