//! Tests of `airlock doctor` with the real engine, with a vulnerable one and without one.

use serde_json::Value;

use crate::support::{CommandOutput, TestRepo, engine_in_between, engine_lacks};

/// Returns the ID, state and finding of each check in the JSON output.
fn parse_checks(ran: &CommandOutput) -> Vec<(String, String, String)> {
    let json: Value = serde_json::from_str(&ran.stdout).expect("JSON");
    assert_eq!(json["schema_version"], 1);
    let text = |v: &Value| v.as_str().expect("a string").to_owned();
    let all = json["checks"].as_array().expect("a list").iter();
    all.map(|c| (text(&c["id"]), text(&c["state"]), text(&c["found"]))).collect()
}

#[test]
fn doctor_checks_everything_and_cleans_up() {
    let mut repo = TestRepo::new();
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-the-real-one");
    let ran = repo.airlock(&["doctor", "--json"]).ok();
    let checks = parse_checks(&ran);
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
    let found =
        |id: &str| checks.iter().find(|(i, ..)| i == id).map(|(.., found)| found.clone()).expect("the check exists");
    assert_eq!(found("credential"), "an API key was found; it never enters a sandbox");
    let plain = repo.airlock(&["doctor"]).ok();
    assert!(plain.stdout.contains("good    engine"), "{}", plain.stdout);
    for text in [&ran.stdout, &plain.stdout, &plain.stderr] {
        assert!(!text.contains("the-real-one"), "the credential is printed: {text}");
    }
    // Another test may run a probe at the same time, so this waits until no probe volume is left.
    let gone = (0..100).any(|_| {
        let mut docker = std::process::Command::new("docker");
        docker.args(["volume", "ls", "--quiet", "--filter", "label=dev.airlock.repo=probe"]);
        docker.output().expect("it runs").stdout.is_empty() || {
            std::thread::sleep(std::time::Duration::from_millis(100));
            false
        }
    });
    assert!(gone, "the volume of a probe was not removed");
}

#[test]
fn run_warns_about_vulnerable_runtime() {
    if engine_lacks("init") {
        return;
    }
    let mut repo = TestRepo::new();
    // The engine's init, which has version 0.19, is reported under the name of the runtime.
    let nothing: (&[u8], &[u8]) = (b"a word that is never sent", b"a word that is never sent");
    let (address, _) = engine_in_between(nothing, (b"\"docker-init\"", b"\"runc\"       "));
    repo.set("DOCKER_HOST", &address);
    let ran = repo.airlock(&["run", "--", "true"]).ok();
    assert!(
        ran.stderr
            .contains("runc 0.19.0 is affected by CVE-2019-5736, CVE-2025-31133; for details, run `airlock doctor`"),
        "{}",
        ran.stderr
    );
    let doctor = repo.airlock(&["doctor", "--json"]).ok();
    let weak = |(id, state, found): &(String, String, String)| {
        id == "runtime" && state == "weak" && found.contains("which allows a container to overwrite the runtime")
    };
    assert!(parse_checks(&doctor).iter().any(weak), "{}", doctor.stdout);
}

#[test]
fn doctor_runs_all_checks_without_engine() {
    let mut repo = TestRepo::new();
    repo.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
    let ran = repo.airlock(&["doctor", "--json"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    let checks = parse_checks(&ran);
    assert!(checks.iter().any(|(id, state, _)| id == "engine" && state == "broken"), "{checks:?}");
    assert!(checks.iter().any(|(id, ..)| id == "git") && checks.iter().any(|(id, ..)| id == "credential"));
    assert!(repo.airlock(&["doctor"]).stdout.contains("→ "), "no fix is suggested");
    repo.unset("DOCKER_HOST");
    // The settings are checked as well.
    repo.set("AIRLOCK_MEMORY", "banana");
    repo.set("AIRLOCK_IMAGE", "nosuch:1");
    let ran = repo.airlock(&["doctor"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert!(ran.stdout.contains("broken  settings    --memory: banana is not a size"), "{}", ran.stdout);
    assert!(ran.stdout.contains("broken  image       the configured image nosuch:1 does not exist"), "{}", ran.stdout);
    repo.unset("AIRLOCK_MEMORY");
    repo.unset("AIRLOCK_IMAGE");
}
