//! Tests that a failure before the agent starts leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;

use airlock::base::{BaseStore, PreparedBase, RunContext, UseOfBase};
use airlock::core::progress::ProgressCounter;
use airlock::engine::fake::FakeEngine;
use airlock::git::{HostRepo, SnapshotOptions};
use airlock::sandbox::SandboxError;
use airlock::terminal::Signals;
use rustix::process::{Signal, kill_process};

use crate::support::{AIRLOCK, TestRepo, is_bare, pid};

/// Builds a base with an engine that fails at a call. Returns the error and all calls.
async fn fail_base_build(repo: &TestRepo, fail_at: &'static str) -> (SandboxError, Vec<String>) {
    let engine = FakeEngine::new(Some(fail_at));
    let host = HostRepo::discover(&repo.path).expect("a repository");
    let snapshot = Arc::new(host.take_snapshot(&SnapshotOptions::default()).expect("a snapshot"));
    let mut signals = Signals::take_over().expect("signals");
    let progress = Arc::new(ProgressCounter::default());
    let base = PreparedBase::find_or_build(
        RunContext { engine: &engine, host: &host, progress: &progress },
        snapshot,
        Default::default(),
        UseOfBase::WithDelta,
        &mut signals,
    )
    .await;
    (base.err().expect("the engine fails").into(), engine.recorded_calls())
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_base_build_leaves_nothing() {
    let repo = TestRepo::new();
    for fail_at in ["create volume", "create container", "attach", "start"] {
        let (error, calls) = fail_base_build(&repo, fail_at).await;
        assert!(error.to_string().contains("simulated failure"), "{fail_at}: {error}");
        let failed = calls.iter().position(|c| c.starts_with(fail_at)).expect("the call was made");
        let after = &calls[failed + 1..];
        assert!(after.iter().any(|c| c.starts_with("list containers")), "{fail_at}: {after:?}");
        assert!(after.iter().any(|c| c.starts_with("remove volume airlock-base-")), "{fail_at}: {after:?}");
        assert!(BaseStore::new(&repo.path.join(".git")).list_bases().expect("listed").is_empty(), "{fail_at}");
    }
    // A guest that ends at once is a separate error.
    let (error, _) = fail_base_build(&repo, "nothing").await;
    assert!(error.to_string().contains("the guest in the sidecar ended"), "{error}");
}

#[test]
fn signal_during_start_leaves_nothing() {
    let repo = TestRepo::new();
    let mut command = repo.command(AIRLOCK, &["run", "--", "sleep", "1000"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
    let first = lines.into_iter().find(|line| !line.contains("this engine does not limit")).expect("a line");
    assert!(first.contains("main at"), "{first}");
    kill_process(pid(&child), Signal::INT).expect("signaled");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(repo.engine_objects(), 0);
    assert!(is_bare(&repo.path.join(".git/airlock/sandboxes")));
}

#[test]
fn killed_run_is_always_removable() {
    let repo = TestRepo::new();
    // The kill may come before the record, while seeding, between containers, while the agent works, or while
    // collecting.
    for delay in (0..700).step_by(35) {
        let mut command = repo.command(AIRLOCK, &["run", "--", "sh", "-c", "echo x >> a.txt; sleep 0.1"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        std::thread::sleep(std::time::Duration::from_millis(delay));
        child.kill().expect("killed");
        child.wait().expect("it ends");
        let listed = repo.airlock(&["ls", "--json"]).ok().stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        for sandbox in listed["sandboxes"].as_array().expect("a list") {
            let name = sandbox["name"].as_str().expect("a name");
            // Work that was started can be shown. Otherwise the error says that there is none.
            let seen = repo.airlock(&["diff", name, "--name-only"]);
            assert!(seen.status == 0 || seen.stderr.contains("before its agent started"), "{delay}: {seen:?}");
            repo.airlock(&["rm", name]).ok();
        }
        // Objects that the engine was still creating appear later, and are found by their label.
        let swept = (0..50).any(|_| {
            repo.airlock(&["gc"]).ok();
            repo.engine_objects() == 0
        });
        assert!(swept, "after {delay} ms");
    }
    assert_eq!(repo.airlock(&["run", "--", "echo", "works"]).ok().stdout, "works\n");
}

#[test]
fn foreign_volumes_are_refused() {
    let repo = TestRepo::new();
    repo.sandbox("v", "echo x >> a.txt").ok();
    let folder = repo.path.join(".git/airlock/sandboxes/v/record.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&folder).expect("read")).expect("JSON");
    let name = |kind: &str| format!("airlock-{}-{kind}", record["id"].as_str().expect("an id"));
    let docker = |args: &[&str]| {
        let out = std::process::Command::new("docker").args(args).output().expect("it runs");
        assert!(out.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8_lossy(&out.stdout).trim().to_owned()
    };
    let (home, work) = (name("home"), name("work"));
    let labels =
        docker(&["volume", "inspect", "--format", "{{range $k, $v := .Labels}}--label={{$k}}={{$v}} {{end}}", &home]);
    let labels: Vec<&str> = labels.split_whitespace().collect();
    record["state"] = serde_json::json!({"is": "running"});
    std::fs::write(&folder, serde_json::to_vec(&record).expect("JSON")).expect("written");
    // A directory of the host as a volume with the name and labels of a sandbox, and a volume without labels.
    let secret = tempfile::tempdir().expect("a folder");
    std::fs::write(secret.path().join("secret"), "s").expect("written");
    let device = format!("device={}", secret.path().display());
    let bind = ["--opt", "type=none", "--opt", "o=bind", "--opt", &device];
    for (volume, options) in [(&home, &bind[..]), (&home, &[]), (&work, &bind[..])] {
        let kept: &[&str] = if options.is_empty() { &[] } else { &labels };
        docker(&["volume", "rm", volume]);
        docker(&[&["volume", "create"], options, kept, &[volume]].concat());
        repo.airlock(&["diff", "v"]).expect_failure(1, &["that Airlock did not create"]);
        assert_eq!(std::fs::read_dir(secret.path()).expect("listed").count(), 1, "the directory was mounted");
    }
    repo.airlock(&["rm", "v"]).ok();
    docker(&["volume", "rm", "--force", &home]);
}
