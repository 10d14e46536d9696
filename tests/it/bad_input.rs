//! Bad input: each gets its message, its exit status, and leaves nothing half-made.

use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use airlock::base::{BaseError, seed};
use airlock::core::name::random;
use airlock::core::progress::ProgressCounter;
use airlock::engine::{Docker, Engine, Labels, image, sidecar_spec};
use airlock::git::{HostRepo, SnapshotOptions};
use airlock::guest_client::{GuestClient, GuestError};

use tokio::sync::mpsc;

use crate::support::{AIRLOCK, Place, Ran, is_bare};

const TRUE: [&str; 3] = ["run", "--", "true"];

fn leaves_nothing(place: &Place) {
    assert!(is_bare(&place.repo.join(".git/airlock/sandboxes")));
    assert_eq!(place.engine_objects(), 0);
}

#[test]
fn repositories_that_cannot_be_sandboxed() {
    let place = Place::new();
    let outside = tempfile::tempdir().expect("a folder");
    let at = |folder: &std::path::Path, args: &[&str]| {
        let mut command = place.command(AIRLOCK, args);
        command.current_dir(folder);
        Ran::of(command)
    };
    at(outside.path(), &TRUE).fails(125, &["is not in a git repository", "hint: go into your project first"]);
    at(outside.path(), &["diff"]).fails(1, &["is not in a git repository"]);
    place.git(&["clone", "-q", "--bare", ".", outside.path().join("b.git").to_str().expect("UTF-8")]);
    at(&outside.path().join("b.git"), &TRUE).fails(125, &["bare repository", "worktree add"]);
    let unborn = Place::empty();
    unborn.airlock(&TRUE).fails(125, &["no commit yet", "hint: git add -A && git commit"]);
    leaves_nothing(&unborn);
}

#[test]
fn a_merge_in_progress_stays_behind() {
    let place = Place::new();
    place.git(&["checkout", "-qb", "other"]);
    place.write("a.txt", "theirs\n");
    place.commit();
    place.git(&["checkout", "-q", "main"]);
    place.write("a.txt", "ours\n");
    place.commit();
    let merge = std::process::Command::new("git").args(["merge", "-q", "other"]).current_dir(&place.repo).output();
    assert!(!merge.expect("git runs").status.success());
    let before = place.picture();
    let ran = place.airlock(&["run", "--", "cat", "a.txt"]).ok();
    assert_eq!(ran.out, "ours\n", "the sandbox has HEAD");
    assert!(ran.err.contains("a merge is in progress here"), "{}", ran.err);
    assert_eq!(place.picture(), before);
}

#[test]
fn engines_and_images_that_are_not_there() {
    let mut place = Place::new();
    place.airlock(&["run", "--image", "no-such-image:1", "--", "true"]).fails(125, &["no-such-image:1", "hint:"]);
    leaves_nothing(&place);
    place.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
    place.airlock(&TRUE).fails(125, &["no container engine answers", "/nowhere/docker.sock", "hint: start Docker"]);
    place.set("DOCKER_HOST", "ssh://somewhere");
    place.airlock(&TRUE).fails(125, &["ssh://somewhere", "hint:"]);
    place.airlock(&["image", "ls"]).fails(1, &["ssh://somewhere"]);
    assert!(is_bare(&place.repo.join(".git/airlock/sandboxes")));
}

#[test]
fn usage() {
    let place = Place::new();
    place.airlock(&["run", "npm", "test"]).fails(125, &["it goes after --", "hint: airlock run [OPTIONS] -- COMMAND"]);
    place.airlock(&["run", "npm", "--version"]).fails(125, &["it goes after --"]);
    place.airlock(&["run"]).fails(125, &["it goes after --"]);
    place.airlock(&["run", "--nmae", "x", "--", "true"]).fails(125, &["--nmae", "--name"]);
    place.airlock(&["rm", "run", "--bogus"]).fails(2, &["--bogus"]);
    place.airlock(&["dif"]).fails(2, &["dif", "diff"]);
    place.airlock(&["shell"]).fails(125, &["a shell needs a terminal"]);
    for bad in ["A", "a/b", "../x", "-x", ""] {
        let ran = place.airlock(&["run", &format!("--name={bad}"), "--", "true"]);
        ran.fails(125, &["a sandbox's name is 1 to 40"]);
    }
    place.airlock(&["run", "--memory", "lots", "--", "true"]).fails(125, &["lots is not a size"]);
    place.airlock(&["run", "--cpus", "-1", "--", "true"]).fails(125, &[]);
    place.airlock(&["run", "--env", "NOT_SET_ANYWHERE", "--", "true"]).fails(125, &["NOT_SET_ANYWHERE"]);
    place.airlock(&["run", "--env", "ANTHROPIC_API_KEY=x", "--", "true"]).fails(125, &["outside the sandbox"]);
    leaves_nothing(&place);
}

#[test]
fn settings_that_do_not_exist() {
    let mut place = Place::new();
    let home = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(home.path().join("airlock")).expect("made");
    std::fs::write(home.path().join("airlock/config.toml"), "memmory = \"1g\"\n").expect("written");
    place.set("XDG_CONFIG_HOME", home.path().to_str().expect("UTF-8"));
    place.airlock(&TRUE).fails(125, &["config.toml: there is no setting memmory", "hint: did you mean memory?"]);
    std::fs::write(home.path().join("airlock/config.toml"), "memory = \"1g\"\n").expect("written");
    place.set("AIRLOCK_PIDS", "many");
    place.airlock(&TRUE).fails(125, &["AIRLOCK_PIDS"]);
    place.set("AIRLOCK_PIDS", "77");
    let out = place.airlock(&["run", "--", "sh", "-c", "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max"]).out;
    assert_eq!(out, "77\n");
}

#[test]
fn sandboxes_that_are_not_there_or_taken() {
    let place = Place::new();
    place.airlock(&["diff"]).fails(1, &["has no sandbox", "hint: airlock claude"]);
    place.airlock(&["diff", "../../x"]).fails(1, &["no sandbox named ../../x"]);
    place.sandbox("calm-otter", "echo x >> a.txt").ok();
    place
        .airlock(&["diff", "calm-oter"])
        .fails(1, &["no sandbox named calm-oter", "did you mean: airlock diff calm-otter"]);
    place.airlock(&["rm", "calm-otter", "zzz"]).fails(1, &["no sandbox named zzz"]);
    let taken = place.airlock(&["run", "--name", "calm-otter", "--", "true"]);
    taken.fails(125, &["calm-otter exists already", "airlock rm calm-otter"]);
    assert_eq!(place.changes("calm-otter").len(), 1, "neither was touched");
    place.sandbox("second", "echo y >> a.txt").ok();
    place
        .airlock(&["apply", "--accept-all"])
        .fails(2, &["failed to choose", "calm-otter", "second", "hint: airlock apply"]);
    place.airlock(&["apply", "second"]).fails(2, &["nothing of second is accepted yet", "hint: airlock review second"]);
    place.airlock(&["apply", "second", "--accept", "nope"]).fails(1, &["--accept nope matches no changed file"]);
}

#[test]
fn credentials_that_cannot_be_used() {
    let mut place = Place::new();
    place.airlock(&["claude", "-p", "x"]).fails(125, &["no credential for Claude", "claude setup-token"]);
    place.set("ANTHROPIC_API_KEY", "sk-secret\nX-Injected: 1");
    let ran = place.airlock(&["claude", "-p", "x"]).fails(125, &["ANTHROPIC_API_KEY has a line break", "hint:"]);
    assert!(!ran.err.contains("sk-secret"), "{}", ran.err);
    place.set("ANTHROPIC_API_KEY", "sk-secret");
    place.set("ANTHROPIC_BASE_URL", "ftp://example.org");
    place.airlock(&["claude", "-p", "x"]).fails(125, &["ANTHROPIC_BASE_URL is not an http(s) address"]);
    place.set("ANTHROPIC_BASE_URL", "http://name:password@example.org");
    let ran = place.airlock(&["claude", "-p", "x"]).fails(125, &["without a name and password"]);
    assert!(!ran.err.contains("name:password"), "{}", ran.err);
    leaves_nothing(&place);
}

#[test]
fn arguments_that_are_not_utf8() {
    let mut place = Place::new();
    place.set("ANTHROPIC_API_KEY", "x");
    let mut command = place.command(AIRLOCK, &["claude"]);
    command.arg(std::ffi::OsString::from_vec(b"\xff".to_vec()));
    Ran::of(command).fails(125, &["not UTF-8"]);
    leaves_nothing(&place);
}

/// The base volume is a file system of one megabyte here; the snapshot has two.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_in_the_volume() {
    let place = Place::new();
    place.write("large", vec![b'x'; 2 << 20]);
    place.commit();
    let engine = Docker::connect().await.expect("an engine answers; scripts/engine starts one");
    let guest = image::ensure_guest(&engine).await.expect("the guest image");
    let id: String = random::<8>().expect("random bytes").iter().map(|b| format!("{b:02x}")).collect();
    let mut spec = sidecar_spec(&format!("airlock-test-{id}"), &guest, Vec::new(), &Labels::new());
    spec.user = "1000:1000".into();
    spec.tmpfs = vec![("/v/base".into(), "size=1m,uid=1000".into())];
    let container = engine.create_container(&spec).await.expect("a container");
    let attached = engine.attach(&container, false).await.expect("attached");
    engine.start(&container).await.expect("started");
    let (accept, _none) = mpsc::unbounded_channel();
    let link = GuestClient::handshake(attached, accept).await.expect("it answers");
    let host = HostRepo::discover(&place.repo).expect("a repository");
    let snapshot = Arc::new(host.snapshot(&SnapshotOptions::default()).expect("a snapshot"));
    let listing = snapshot.list().expect("listed");
    let result = seed(&snapshot, &listing, &link, &Arc::new(ProgressCounter::default())).await;
    engine.remove_container(&container).await.expect("removed");
    let error = result.expect_err("it does not fit");
    assert!(matches!(error, BaseError::Guest(GuestError::DiskFull)), "{error}");
    assert_eq!(error.to_string(), "the engine's disk is full");
}
