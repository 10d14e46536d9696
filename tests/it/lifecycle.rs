//! Whatever fails before the agent starts leaves nothing behind.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;

use airlock::engine::fake::Fake;
use airlock::sandbox::lifecycle::Ground;
use airlock::sandbox::{Bases, Meter, SandboxError, Signals};
use airlock::snapshot::{HostRepo, SnapshotOptions, Work};
use rustix::process::{Signal, kill_process};

use crate::support::{AIRLOCK, Place, is_bare, pid};

async fn fails(place: &Place, fail_at: &'static str) -> (SandboxError, Vec<String>) {
    let engine = Fake::new(Some(fail_at));
    let host = HostRepo::discover(&place.repo).expect("a repository");
    let snapshot = Arc::new(host.snapshot(&SnapshotOptions::default()).expect("a snapshot"));
    let mut signals = Signals::take_over().expect("signals");
    let meter = Arc::new(Meter::default());
    let ground = Ground::prepare(&engine, &host, snapshot, Work::default(), Vec::new(), &mut signals, &meter).await;
    (ground.err().expect("it was told to fail"), engine.calls())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_cannot_be_made_leaves_nothing() {
    let place = Place::new();
    for fail_at in ["create volume", "create container", "attach", "start"] {
        let (error, calls) = fails(&place, fail_at).await;
        assert!(error.to_string().contains("told to fail"), "{fail_at}: {error}");
        let failed = calls.iter().position(|c| c.starts_with(fail_at)).expect("it was called");
        let after = &calls[failed + 1..];
        assert!(after.iter().any(|c| c.starts_with("list containers")), "{fail_at}: {after:?}");
        assert!(after.iter().any(|c| c.starts_with("remove volume airlock-base-")), "{fail_at}: {after:?}");
        assert!(Bases::of(&place.repo.join(".git")).all().expect("listed").is_empty(), "{fail_at}");
    }
    // A guest that ends at once is a failure of its own.
    let (error, _) = fails(&place, "nothing").await;
    assert!(error.to_string().contains("the guest in the sidecar ended"), "{error}");
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
