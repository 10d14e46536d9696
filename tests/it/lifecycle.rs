//! Whatever fails before the agent starts leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;

use airlock::base::{BaseStore, PreparedBase};
use airlock::core::progress::ProgressCounter;
use airlock::engine::fake::Fake;
use airlock::git::{HostRepo, SnapshotOptions, UncommittedChanges};
use airlock::sandbox::SandboxError;
use airlock::terminal::Signals;
use rustix::process::{Signal, kill_process};

use crate::support::{AIRLOCK, TestRepo, is_bare, pid};

async fn fails(repo: &TestRepo, fail_at: &'static str) -> (SandboxError, Vec<String>) {
    let engine = Fake::new(Some(fail_at));
    let host = HostRepo::discover(&repo.path).expect("a repository");
    let snapshot = Arc::new(host.snapshot(&SnapshotOptions::default()).expect("a snapshot"));
    let mut signals = Signals::take_over().expect("signals");
    let meter = Arc::new(ProgressCounter::default());
    let ground = PreparedBase::prepare(
        &engine,
        &host,
        snapshot,
        UncommittedChanges::default(),
        Vec::new(),
        &mut signals,
        &meter,
    )
    .await;
    (ground.err().expect("it was told to fail").into(), engine.calls())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_cannot_be_made_leaves_nothing() {
    let repo = TestRepo::new();
    for fail_at in ["create volume", "create container", "attach", "start"] {
        let (error, calls) = fails(&repo, fail_at).await;
        assert!(error.to_string().contains("told to fail"), "{fail_at}: {error}");
        let failed = calls.iter().position(|c| c.starts_with(fail_at)).expect("it was called");
        let after = &calls[failed + 1..];
        assert!(after.iter().any(|c| c.starts_with("list containers")), "{fail_at}: {after:?}");
        assert!(after.iter().any(|c| c.starts_with("remove volume airlock-base-")), "{fail_at}: {after:?}");
        assert!(BaseStore::of(&repo.path.join(".git")).list_bases().expect("listed").is_empty(), "{fail_at}");
    }
    // A guest that ends at once is a failure of its own.
    let (error, _) = fails(&repo, "nothing").await;
    assert!(error.to_string().contains("the guest in the sidecar ended"), "{error}");
}

#[test]
fn a_signal_while_it_starts_leaves_nothing() {
    let repo = TestRepo::new();
    let mut command = repo.command(AIRLOCK, &["run", "--", "sleep", "1000"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(child.stderr.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert!(line.contains("main at"), "{line}");
    kill_process(pid(&child), Signal::INT).expect("it is there");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(repo.engine_objects(), 0);
    assert!(is_bare(&repo.path.join(".git/airlock/sandboxes")));
}

#[test]
fn killed_at_any_moment_it_leaves_nothing_that_cannot_be_removed() {
    let repo = TestRepo::new();
    // Wherever the kill hits: before the record, in the seed, between containers, while the agent works, in the collecting.
    for delay in (0..700).step_by(35) {
        let mut command = repo.command(AIRLOCK, &["run", "--", "sh", "-c", "echo x >> a.txt; sleep 0.1"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
        std::thread::sleep(std::time::Duration::from_millis(delay));
        child.kill().expect("it is there");
        child.wait().expect("it ends");
        let listed = repo.airlock(&["ls", "--json"]).ok().stdout;
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        for sandbox in listed["sandboxes"].as_array().expect("a list") {
            let name = sandbox["name"].as_str().expect("a name");
            // Work that was begun can be seen, all else is told.
            let seen = repo.airlock(&["diff", name, "--name-only"]);
            assert!(seen.status == 0 || seen.stderr.contains("before its agent started"), "{delay}: {seen:?}");
            repo.airlock(&["rm", name]).ok();
        }
        // What the engine was still making comes to light later, and is found by its label.
        let swept = (0..50).any(|_| {
            repo.airlock(&["gc"]).ok();
            repo.engine_objects() == 0
        });
        assert!(swept, "after {delay} ms");
    }
    assert_eq!(repo.airlock(&["run", "--", "echo", "well"]).ok().stdout, "well\n");
}

#[test]
fn volumes_that_somebody_put_in_the_place_of_ours_are_refused() {
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
    // A directory of the host's, under our name and with our labels; and one without anything.
    let secret = tempfile::tempdir().expect("a folder");
    std::fs::write(secret.path().join("secret"), "s").expect("written");
    let device = format!("device={}", secret.path().display());
    let bind = ["--opt", "type=none", "--opt", "o=bind", "--opt", &device];
    for (volume, options) in [(&home, &bind[..]), (&home, &[]), (&work, &bind[..])] {
        let kept: &[&str] = if options.is_empty() { &[] } else { &labels };
        docker(&["volume", "rm", volume]);
        docker(&[&["volume", "create"], options, kept, &[volume]].concat());
        repo.airlock(&["diff", "v"]).expect_failure(1, &["that Airlock did not make"]);
        assert_eq!(std::fs::read_dir(secret.path()).expect("listed").count(), 1, "it was never mounted");
    }
    repo.airlock(&["rm", "v"]).ok();
    docker(&["volume", "rm", "--force", &home]);
}
