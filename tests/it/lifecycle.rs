//! Whatever fails before the agent starts leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use airlock::engine::fake::Fake;
use airlock::sandbox::lifecycle::{self, RunRequest};
use airlock::sandbox::{SandboxError, Signals};
use airlock::snapshot::HostRepo;
use rustix::process::{Signal, kill_process};

use crate::support::{AIRLOCK, Place, is_bare, pid};

fn request() -> RunRequest {
    RunRequest {
        name: None,
        verb: "run",
        command: vec!["true".into()],
        env: Vec::new(),
        image: "sha256:0".into(),
        memory: 1 << 30,
        pids: 100,
        nano_cpus: 0,
        tty: false,
        model: None,
    }
}

async fn fails(place: &Place, fail_at: &'static str) -> (SandboxError, Vec<String>) {
    let engine = Fake::new(Some(fail_at));
    let host = HostRepo::discover(&place.repo).expect("a repository");
    let snapshot = host.snapshot().expect("a snapshot");
    let sandbox = lifecycle::create(&host, &snapshot, &request()).expect("a record");
    let mut signals = Signals::take_over().expect("signals");
    let started = || panic!("the agent must not start");
    let error = lifecycle::run(&engine, &host, &snapshot, sandbox, &request(), &mut signals, started).await;
    (error.expect_err("it was told to fail"), engine.calls())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_at_each_call_removes_everything() {
    let place = Place::new();
    for fail_at in ["create volume", "create container", "attach", "start"] {
        let (error, calls) = fails(&place, fail_at).await;
        assert!(error.to_string().contains("told to fail"), "{fail_at}: {error}");
        let failed = calls.iter().position(|c| c.starts_with(fail_at)).expect("it was called");
        let after = &calls[failed + 1..];
        assert!(after.iter().any(|c| c.starts_with("list containers")), "{fail_at}: {after:?}");
        assert!(after.iter().any(|c| c.starts_with("list volumes")), "{fail_at}: {after:?}");
        assert!(is_bare(&place.repo.join(".git/airlock/sandboxes")), "{fail_at}");
    }
    // A guest that ends at once is a failure of its own.
    let (error, _) = fails(&place, "nothing").await;
    assert!(error.to_string().contains("the guest in the sidecar ended"), "{error}");
    assert!(is_bare(&place.repo.join(".git/airlock/sandboxes")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_cleaned_up_is_told_and_kept_on_record() {
    let place = Place::new();
    // Without a listing, nothing can be removed; the guest has ended first.
    let (error, _) = fails(&place, "list").await;
    assert!(matches!(error, SandboxError::LeftBehind { .. }), "{error}");
    assert!(place.airlock(&["ls"]).ok().out.contains("interrupted before its agent started"));
}

#[test]
fn a_signal_while_it_starts_leaves_nothing() {
    let place = Place::new();
    let mut command = place.command(AIRLOCK, &["run", "--", "sleep", "1000"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(child.stderr.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert!(line.contains("main at"), "{line}");
    kill_process(pid(&child), Signal::INT).expect("it is there");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(place.engine_objects(), 0);
    assert!(is_bare(&place.repo.join(".git/airlock/sandboxes")));
}
