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

use crate::support::{AIRLOCK, CommandOutput, TestRepo, is_bare};

const TRUE: [&str; 3] = ["run", "--", "true"];

fn leaves_nothing(repo: &TestRepo) {
    assert!(is_bare(&repo.path.join(".git/airlock/sandboxes")));
    assert_eq!(repo.engine_objects(), 0);
}

#[test]
fn repositories_that_cannot_be_sandboxed() {
    let repo = TestRepo::new();
    let outside = tempfile::tempdir().expect("a folder");
    let at = |folder: &std::path::Path, args: &[&str]| {
        let mut command = repo.command(AIRLOCK, args);
        command.current_dir(folder);
        CommandOutput::from_command(command)
    };
    at(outside.path(), &TRUE).expect_failure(125, &["is not in a git repository", "hint: go into your project first"]);
    at(outside.path(), &["diff"]).expect_failure(1, &["is not in a git repository"]);
    repo.git(&["clone", "-q", "--bare", ".", outside.path().join("b.git").to_str().expect("UTF-8")]);
    at(&outside.path().join("b.git"), &TRUE).expect_failure(125, &["bare repository", "worktree add"]);
    let unborn = TestRepo::empty();
    unborn.airlock(&TRUE).expect_failure(125, &["no commit yet", "hint: git add -A && git commit"]);
    leaves_nothing(&unborn);
}

#[test]
fn a_merge_in_progress_stays_behind() {
    let repo = TestRepo::new();
    repo.git(&["checkout", "-qb", "other"]);
    repo.write("a.txt", "theirs\n");
    repo.commit();
    repo.git(&["checkout", "-q", "main"]);
    repo.write("a.txt", "ours\n");
    repo.commit();
    let merge = std::process::Command::new("git").args(["merge", "-q", "other"]).current_dir(&repo.path).output();
    assert!(!merge.expect("git runs").status.success());
    let before = repo.read_tree();
    let ran = repo.airlock(&["run", "--", "cat", "a.txt"]).ok();
    assert_eq!(ran.stdout, "ours\n", "the sandbox has HEAD");
    assert!(ran.stderr.contains("a merge is in progress here"), "{}", ran.stderr);
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn engines_and_images_that_are_not_there() {
    let mut repo = TestRepo::new();
    repo.airlock(&["run", "--image", "no-such-image:1", "--", "true"])
        .expect_failure(125, &["no-such-image:1", "hint:"]);
    leaves_nothing(&repo);
    repo.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
    repo.airlock(&TRUE)
        .expect_failure(125, &["no container engine answers", "/nowhere/docker.sock", "hint: start Docker"]);
    repo.set("DOCKER_HOST", "ssh://somewhere");
    repo.airlock(&TRUE).expect_failure(125, &["ssh://somewhere", "hint:"]);
    repo.airlock(&["image", "ls"]).expect_failure(1, &["ssh://somewhere"]);
    assert!(is_bare(&repo.path.join(".git/airlock/sandboxes")));
}

#[test]
fn usage() {
    let repo = TestRepo::new();
    repo.airlock(&["run", "npm", "test"])
        .expect_failure(125, &["it goes after --", "hint: airlock run [OPTIONS] -- COMMAND"]);
    repo.airlock(&["run", "npm", "--version"]).expect_failure(125, &["it goes after --"]);
    repo.airlock(&["run"]).expect_failure(125, &["it goes after --"]);
    repo.airlock(&["run", "--nmae", "x", "--", "true"]).expect_failure(125, &["--nmae", "--name"]);
    repo.airlock(&["rm", "run", "--bogus"]).expect_failure(2, &["--bogus"]);
    repo.airlock(&["dif"]).expect_failure(2, &["dif", "diff"]);
    repo.airlock(&["shell"]).expect_failure(125, &["a shell needs a terminal"]);
    for bad in ["A", "a/b", "../x", "-x", ""] {
        let ran = repo.airlock(&["run", &format!("--name={bad}"), "--", "true"]);
        ran.expect_failure(125, &["a sandbox's name is 1 to 40"]);
    }
    repo.airlock(&["run", "--memory", "lots", "--", "true"]).expect_failure(125, &["lots is not a size"]);
    repo.airlock(&["run", "--cpus", "-1", "--", "true"]).expect_failure(125, &[]);
    repo.airlock(&["run", "--env", "NOT_SET_ANYWHERE", "--", "true"]).expect_failure(125, &["NOT_SET_ANYWHERE"]);
    repo.airlock(&["run", "--env", "ANTHROPIC_API_KEY=x", "--", "true"]).expect_failure(125, &["outside the sandbox"]);
    leaves_nothing(&repo);
}

#[test]
fn settings_that_do_not_exist() {
    let mut repo = TestRepo::new();
    let home = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all(home.path().join("airlock")).expect("made");
    std::fs::write(home.path().join("airlock/config.toml"), "memmory = \"1g\"\n").expect("written");
    repo.set("XDG_CONFIG_HOME", home.path().to_str().expect("UTF-8"));
    repo.airlock(&TRUE)
        .expect_failure(125, &["config.toml: there is no setting memmory", "hint: did you mean memory?"]);
    std::fs::write(home.path().join("airlock/config.toml"), "memory = \"1g\"\n").expect("written");
    repo.set("AIRLOCK_PIDS", "many");
    repo.airlock(&TRUE).expect_failure(125, &["AIRLOCK_PIDS"]);
    repo.set("AIRLOCK_PIDS", "77");
    let out =
        repo.airlock(&["run", "--", "sh", "-c", "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max"]).stdout;
    assert_eq!(out, "77\n");
}

#[test]
fn sandboxes_that_are_not_there_or_taken() {
    let repo = TestRepo::new();
    repo.airlock(&["diff"]).expect_failure(1, &["has no sandbox", "hint: airlock claude"]);
    repo.airlock(&["diff", "../../x"]).expect_failure(1, &["no sandbox named ../../x"]);
    repo.sandbox("calm-otter", "echo x >> a.txt").ok();
    repo.airlock(&["diff", "calm-oter"])
        .expect_failure(1, &["no sandbox named calm-oter", "did you mean: airlock diff calm-otter"]);
    repo.airlock(&["rm", "calm-otter", "zzz"]).expect_failure(1, &["no sandbox named zzz"]);
    let taken = repo.airlock(&["run", "--name", "calm-otter", "--", "true"]);
    taken.expect_failure(125, &["calm-otter exists already", "airlock rm calm-otter"]);
    assert_eq!(repo.changes("calm-otter").len(), 1, "neither was touched");
    repo.sandbox("second", "echo y >> a.txt").ok();
    repo.airlock(&["apply", "--accept-all"])
        .expect_failure(2, &["failed to choose", "calm-otter", "second", "hint: airlock apply"]);
    repo.airlock(&["apply", "second"])
        .expect_failure(2, &["nothing of second is accepted yet", "hint: airlock review second"]);
    repo.airlock(&["apply", "second", "--accept", "nope"])
        .expect_failure(1, &["--accept nope matches no changed file"]);
}

#[test]
fn credentials_that_cannot_be_used() {
    let mut repo = TestRepo::new();
    repo.airlock(&["claude", "-p", "x"]).expect_failure(125, &["no credential for Claude", "claude setup-token"]);
    repo.set("ANTHROPIC_API_KEY", "sk-secret\nX-Injected: 1");
    let ran =
        repo.airlock(&["claude", "-p", "x"]).expect_failure(125, &["ANTHROPIC_API_KEY has a line break", "hint:"]);
    assert!(!ran.stderr.contains("sk-secret"), "{}", ran.stderr);
    repo.set("ANTHROPIC_API_KEY", "sk-secret");
    repo.set("ANTHROPIC_BASE_URL", "ftp://example.org");
    repo.airlock(&["claude", "-p", "x"]).expect_failure(125, &["ANTHROPIC_BASE_URL is not an http(s) address"]);
    repo.set("ANTHROPIC_BASE_URL", "http://name:password@example.org");
    let ran = repo.airlock(&["claude", "-p", "x"]).expect_failure(125, &["without a name and password"]);
    assert!(!ran.stderr.contains("name:password"), "{}", ran.stderr);
    leaves_nothing(&repo);
}

#[test]
fn arguments_that_are_not_utf8() {
    let mut repo = TestRepo::new();
    repo.set("ANTHROPIC_API_KEY", "x");
    let mut command = repo.command(AIRLOCK, &["claude"]);
    command.arg(std::ffi::OsString::from_vec(b"\xff".to_vec()));
    CommandOutput::from_command(command).expect_failure(125, &["not UTF-8"]);
    leaves_nothing(&repo);
}

/// The base volume is a file system of one megabyte here; the snapshot has two.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_in_the_volume() {
    let repo = TestRepo::new();
    repo.write("large", vec![b'x'; 2 << 20]);
    repo.commit();
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
    let host = HostRepo::discover(&repo.path).expect("a repository");
    let snapshot = Arc::new(host.snapshot(&SnapshotOptions::default()).expect("a snapshot"));
    let listing = snapshot.list().expect("listed");
    let result = seed(&snapshot, &listing, &link, &Arc::new(ProgressCounter::default())).await;
    engine.remove_container(&container).await.expect("removed");
    let error = result.expect_err("it does not fit");
    assert!(matches!(error, BaseError::Guest(GuestError::DiskFull)), "{error}");
    assert_eq!(error.to_string(), "the engine's disk is full");
}
