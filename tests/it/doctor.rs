//! `airlock doctor`: what it says of the engine that is here, of one that is weak, and of none.

use serde_json::Value;

use crate::support::{CommandOutput, TestRepo, engine_in_between};

fn checks(ran: &CommandOutput) -> Vec<(String, String, String)> {
    let json: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(json["schema_version"], 1);
    let text = |v: &Value| v.as_str().expect("a string").to_owned();
    let all = json["checks"].as_array().expect("a list").iter();
    all.map(|c| (text(&c["id"]), text(&c["state"]), text(&c["found"]))).collect()
}

#[test]
fn every_part_is_looked_at_and_nothing_is_left() {
    let mut repo = TestRepo::new();
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-the-real-one");
    let ran = repo.airlock(&["doctor", "--json"]).ok();
    let checks = checks(&ran);
    for id in [
        "engine",
        "runtime",
        "kernel",
        "seccomp",
        "lsm",
        "users",
        "limits",
        "storage",
        "overlay",
        "disk",
        "image",
        "git",
        "credential",
        "terminal",
    ] {
        assert!(checks.iter().any(|(i, ..)| i == id), "{id}: {checks:?}");
    }
    assert!(checks.iter().all(|(_, state, _)| state != "broken"), "{checks:?}");
    let found = |id: &str| checks.iter().find(|(i, ..)| i == id).map(|(.., found)| found.clone()).expect("it is there");
    assert_eq!(found("credential"), "an API key was found; it stays outside of every sandbox");
    let plain = repo.airlock(&["doctor"]).ok();
    assert!(plain.stdout.contains("good    engine"), "{}", plain.stdout);
    for text in [&ran.stdout, &plain.stdout, &plain.stderr] {
        assert!(!text.contains("the-real-one"), "the kind alone: {text}");
    }
    // Another test may be at it at the same time; in the end there is nothing.
    let gone = (0..100).any(|_| {
        let mut docker = std::process::Command::new("docker");
        docker.args(["volume", "ls", "--quiet", "--filter", "label=dev.airlock.repo=probe"]);
        docker.output().expect("it runs").stdout.is_empty() || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            false
        }
    });
    assert!(gone, "the probe is gone");
}

#[test]
fn a_runtime_with_a_known_way_out_is_named_at_each_start() {
    let mut repo = TestRepo::new();
    // Its init, which is at 0.19, takes the runtime's name.
    let nothing: (&[u8], &[u8]) = (b"a word that is never sent", b"a word that is never sent");
    let (address, _) = engine_in_between(nothing, (b"\"docker-init\"", b"\"runc\"       "));
    repo.set("DOCKER_HOST", &address);
    let ran = repo.airlock(&["run", "--", "true"]).ok();
    assert!(
        ran.stderr.contains("runc 0.19.0 has CVE-2019-5736, CVE-2025-31133; airlock doctor has more"),
        "{}",
        ran.stderr
    );
    let doctor = repo.airlock(&["doctor", "--json"]).ok();
    let weak = |(id, state, found): &(String, String, String)| {
        id == "runtime" && state == "weak" && found.contains("it allows a container to overwrite the runtime")
    };
    assert!(checks(&doctor).iter().any(weak), "{}", doctor.stdout);
}

#[test]
fn without_an_engine_the_rest_is_looked_at_all_the_same() {
    let mut repo = TestRepo::new();
    repo.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let ran = repo.airlock(&["doctor", "--json"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let checks = checks(&ran);
    assert!(checks.iter().any(|(id, state, _)| id == "engine" && state == "broken"), "{checks:?}");
    assert!(checks.iter().any(|(id, ..)| id == "git") && checks.iter().any(|(id, ..)| id == "credential"));
    assert!(repo.airlock(&["doctor"]).stdout.contains("→ "), "the mend is told");
    repo.unset("DOCKER_HOST");
    // What is set is looked at too.
    repo.set("AIRLOCK_MEMORY", "banana");
    repo.set("AIRLOCK_IMAGE", "nosuch:1");
    let ran = repo.airlock(&["doctor"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stdout.contains("broken  settings    --memory: banana is not a size"), "{}", ran.stdout);
    assert!(ran.stdout.contains("broken  image       nosuch:1, which is set, is not there"), "{}", ran.stdout);
    repo.unset("AIRLOCK_MEMORY");
    repo.unset("AIRLOCK_IMAGE");
}
