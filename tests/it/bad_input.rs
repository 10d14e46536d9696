//! Tests of bad input: the message, the exit status, and that nothing is left behind.

use std::os::unix::ffi::OsStringExt;
use std::sync::Arc;

use airlock::base::{BaseError, seed_volume};
use airlock::core::progress::ProgressCounter;
use airlock::core::random::read_random_bytes;
use airlock::engine::{Docker, Engine, Labels, image, sidecar_spec};
use airlock::git::{HostRepo, SnapshotOptions};
use airlock::guest_client::{GuestClient, GuestError};

use insta::assert_snapshot;
use tokio::sync::mpsc;

use crate::support::{AIRLOCK, CommandOutput, TestRepo, is_bare};

const RUN_TRUE: [&str; 3] = ["run", "--", "true"];

/// Checks that a repository has no sandbox, neither on disk nor in the engine.
fn assert_no_sandbox(repo: &TestRepo) {
    assert!(is_bare(&repo.path.join(".git/airlock/sandboxes")));
    assert_eq!(repo.engine_objects(), 0);
}

#[test]
fn run_refuses_unusable_repositories() {
    let repo = TestRepo::new();
    let outside = repo.directory().join("outside");
    std::fs::create_dir(&outside).expect("created");
    let at = |folder: &std::path::Path, args: &[&str]| {
        let mut command = repo.command(AIRLOCK, args);
        command.current_dir(folder);
        CommandOutput::from_command(command)
    };
    assert_snapshot!(at(&outside, &RUN_TRUE), @"
    status: 125
    ----- stderr -----
    error: [TMP]/outside is not in a git repository
    hint: change to your project, or create a repository with `git init && git add -A && git commit -m start`
    ");
    assert_snapshot!(at(&outside, &["diff"]), @"
    status: 1
    ----- stderr -----
    error: [TMP]/outside is not in a git repository
    hint: change to your project, or create a repository with `git init && git add -A && git commit -m start`
    ");
    let bare = outside.join("b.git");
    repo.git(&["clone", "-q", "--bare", ".", bare.to_str().expect("UTF-8")]);
    assert_snapshot!(at(&bare, &RUN_TRUE), @"
    status: 125
    ----- stderr -----
    error: [TMP]/b.git/ is a bare repository; it has no working tree to apply changes to
    hint: create a working tree with `git -C [TMP]/b.git/ worktree add ../work` and change to it
    ");
    let unborn = TestRepo::empty();
    assert_snapshot!(unborn.airlock(&RUN_TRUE), @"
    status: 125
    ----- stderr -----
    error: the repository has no commit yet, so no snapshot can be created
    hint: create a commit with `git add -A && git commit -m start`
    ");
    assert_no_sandbox(&unborn);
}

#[test]
fn run_excludes_merge_in_progress() {
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
    assert!(ran.stderr.contains("a merge is in progress; the sandbox starts from HEAD without it"), "{}", ran.stderr);
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn run_reports_missing_engine_or_image() {
    let mut repo = TestRepo::new();
    assert_snapshot!(repo.airlock(&["run", "--image", "no-such-image:1", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: the image `no-such-image:1` does not exist
    hint: run `docker pull no-such-image:1`, or omit `--image`
    ");
    assert_no_sandbox(&repo);
    repo.set("DOCKER_HOST", "unix:///nowhere/docker.sock");
    assert_snapshot!(repo.airlock(&RUN_TRUE), @"
    status: 125
    ----- stderr -----
    error: failed to connect to a container engine; tried unix:///nowhere/docker.sock (No such file or directory (os error 2))
    hint: start Docker with `sudo systemctl start docker`, or set DOCKER_HOST to a running engine
    ");
    repo.set("DOCKER_HOST", "ssh://127.0.0.1:1");
    assert_snapshot!(repo.airlock(&RUN_TRUE), @"
    status: 125
    ----- stderr -----
    error: failed to connect to a container engine; tried ssh://127.0.0.1:1 (ssh: connect to host 127.0.0.1 port 1: Connection refused)
    hint: check that `ssh HOST docker version` works with this host
    ");
    assert_snapshot!(repo.airlock(&["image", "ls"]), @"
    status: 1
    ----- stderr -----
    error: failed to connect to a container engine; tried ssh://127.0.0.1:1 (ssh: connect to host 127.0.0.1 port 1: Connection refused)
    hint: check that `ssh HOST docker version` works with this host
    ");
    assert!(is_bare(&repo.path.join(".git/airlock/sandboxes")));
}

#[test]
fn run_reports_missing_certificates() {
    let mut repo = TestRepo::new();
    repo.set("SSL_CERT_FILE", "/nowhere/roots.pem");
    assert_snapshot!(repo.airlock(&["run", "--name", "t", "--net", "packages", "--", "true"]), @"
    status: 125
    ----- stderr -----
    airlock: t · main at [COMMIT], 5 files · network: packages
    error: failed to read the certificates of this machine: there are no root certificates: failed to read PEM from file: No such file or directory (os error 2) at '/nowhere/roots.pem'
    hint: install them: `sudo apt-get install ca-certificates`, or set SSL_CERT_FILE or NODE_EXTRA_CA_CERTS
    ");
    assert_no_sandbox(&repo);
    // Without a network, none are needed.
    repo.airlock(&RUN_TRUE).ok();
}

#[test]
fn usage_errors_leave_no_sandbox() {
    let repo = TestRepo::new();
    assert_snapshot!(repo.airlock(&["run", "npm", "--version"]), @"
    status: 125
    ----- stderr -----
    error: the options of airlock and those of the command cannot be separated
    hint: run `airlock run -- npm --version`
    ");
    assert_snapshot!(repo.airlock(&["run"]), @"
    status: 125
    ----- stderr -----
    error: no command was given
    hint: run `airlock run -- COMMAND…`, or `airlock shell` for a shell
    ");
    assert_snapshot!(repo.airlock(&["run", "--nmae", "x", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: unexpected argument '--nmae' found

      tip: a similar argument exists: '--name'
      tip: to pass '--nmae' as a value, use '-- --nmae'

    Usage: airlock run [OPTIONS] [--] COMMAND…

    For more information, try '--help'.
    ");
    assert_snapshot!(repo.airlock(&["rm", "run", "--bogus"]), @"
    status: 2
    ----- stderr -----
    error: unexpected argument '--bogus' found

      tip: to pass '--bogus' as a value, use '-- --bogus'

    Usage: airlock rm <NAME>...

    For more information, try '--help'.
    ");
    assert_snapshot!(repo.airlock(&["dif"]), @"
    status: 2
    ----- stderr -----
    error: unrecognized subcommand 'dif'

      tip: some similar subcommands exist: 'edit', 'diff'

    Usage: airlock [OPTIONS] [claude ARGS…]
           airlock <COMMAND>

    For more information, try '--help'.
    ");
    assert_snapshot!(repo.airlock(&["shell"]), @"
    status: 125
    ----- stderr -----
    error: a shell needs a terminal
    hint: run `airlock run -- COMMAND…` instead
    ");
    let bad_names = ["A", "a/b", "../x", "-x", ""];
    let refusals = bad_names.map(|bad| repo.airlock(&["run", &format!("--name={bad}"), "--", "true"]).to_string());
    assert_snapshot!(refusals.concat(), @"
    status: 125
    ----- stderr -----
    error: a sandbox name has 1 to 40 lower-case letters, digits and hyphens, and starts with a letter or digit
    status: 125
    ----- stderr -----
    error: a sandbox name has 1 to 40 lower-case letters, digits and hyphens, and starts with a letter or digit
    status: 125
    ----- stderr -----
    error: a sandbox name has 1 to 40 lower-case letters, digits and hyphens, and starts with a letter or digit
    status: 125
    ----- stderr -----
    error: a sandbox name has 1 to 40 lower-case letters, digits and hyphens, and starts with a letter or digit
    status: 125
    ----- stderr -----
    error: a sandbox name has 1 to 40 lower-case letters, digits and hyphens, and starts with a letter or digit
    ");
    assert_snapshot!(repo.airlock(&["run", "--memory", "lots", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: --memory: lots is not a size such as 512m or 4g
    ");
    assert_snapshot!(repo.airlock(&["run", "--cpus", "-1", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: unexpected argument '-1' found

      tip: to pass '-1' as a value, use '-- -1'

    Usage: airlock run [OPTIONS] [--] COMMAND…

    For more information, try '--help'.
    ");
    assert_snapshot!(repo.airlock(&["run", "--env", "NOT_SET_ANYWHERE", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: --env NOT_SET_ANYWHERE: the variable is not set
    ");
    assert_snapshot!(repo.airlock(&["run", "--env", "ANTHROPIC_API_KEY=x", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: --env ANTHROPIC_API_KEY: Airlock keeps the credential outside the sandbox
    hint: omit the option; `--net model` gives access to the model
    ");
    assert_no_sandbox(&repo);
}

#[test]
fn run_refuses_unknown_settings() {
    let mut repo = TestRepo::new();
    let config_home = repo.directory().join("config");
    let config = config_home.join("airlock/config.toml");
    std::fs::create_dir_all(config_home.join("airlock")).expect("created");
    std::fs::write(&config, "memmory = \"1g\"\n").expect("written");
    repo.set("XDG_CONFIG_HOME", config_home.to_str().expect("UTF-8"));
    assert_snapshot!(repo.airlock(&RUN_TRUE), @"
    status: 125
    ----- stderr -----
    error: [TMP]/config/airlock/config.toml: the setting memmory does not exist
    hint: did you mean `memory`?
    ");
    let bad_keys = ["acept = \"x\"", "accept = \"xx\"", "accept = [\"x\", \"Ctrl-c\"]", "quit = []"];
    let refusals = bad_keys.map(|keys| {
        std::fs::write(&config, format!("[keys]\n{keys}\n")).expect("written");
        repo.airlock(&RUN_TRUE).to_string()
    });
    assert_snapshot!(refusals.concat(), @"
    status: 125
    ----- stderr -----
    error: [TMP]/config/airlock/config.toml: the review has no command `acept`
    hint: the commands are: accept, reject, toggle, select-range, accept-file, reject-file, accept-all, reject-all, undo, redo, split, edit, view, comment, comments, commits, send, outward, inward, down, up, previous-hunk, next-hunk, previous-file, next-file, first, last, page-up, page-down, scroll-left, scroll-right, search, next-match, previous-match, filter, order, tree, view-menu, fold, hide-blanks, side-by-side, wrap, dim-moved, more-context, less-context, preview, resolve, apply, quit, discard, help
    status: 125
    ----- stderr -----
    error: [TMP]/config/airlock/config.toml: `xx` is not a key
    hint: keys are characters, `Space`, `Enter`, `Left`, `PgUp`, `F1`, … and `Ctrl-` with a letter or a named key
    status: 125
    ----- stderr -----
    error: [TMP]/config/airlock/config.toml: the key `Ctrl-c` cannot be bound
    status: 125
    ----- stderr -----
    error: [TMP]/config/airlock/config.toml: the command `quit` needs a key
    ");
    std::fs::write(&config, "[keys]\naccept = \"x\"\nreject = \"x\"\n").expect("written");
    assert_snapshot!(repo.airlock(&RUN_TRUE), @"
    status: 125
    ----- stderr -----
    error: [TMP]/config/airlock/config.toml: the key `x` is bound twice
    ");
    std::fs::write(&config, "memory = \"1g\"\n").expect("written");
    repo.set("AIRLOCK_PIDS", "many");
    assert_snapshot!(repo.airlock(&RUN_TRUE), @"
    status: 125
    ----- stderr -----
    error: AIRLOCK_PIDS: string values must be quoted, expected literal string
    ");
    repo.set("AIRLOCK_PIDS", "77");
    let out =
        repo.airlock(&["run", "--", "sh", "-c", "cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids/pids.max"]).stdout;
    assert_eq!(out, "77\n");
}

#[test]
fn sandbox_missing_or_taken_is_reported() {
    let repo = TestRepo::new();
    assert_snapshot!(repo.airlock(&["diff"]), @"
    status: 1
    ----- stderr -----
    error: this repository has no sandboxes
    hint: to create one, run `airlock claude`
    ");
    assert_snapshot!(repo.airlock(&["diff", "../../x"]), @"
    status: 1
    ----- stderr -----
    error: this repository has no sandboxes
    hint: to create one, run `airlock claude`
    ");
    repo.sandbox("calm-otter", "echo x >> a.txt").ok();
    assert_snapshot!(repo.airlock(&["diff", "calm-oter"]), @"
    status: 1
    ----- stderr -----
    error: this repository has no sandbox named `calm-oter`
    hint: did you mean `airlock diff calm-otter`?
    ");
    assert_snapshot!(repo.airlock(&["rm", "calm-otter", "zzz"]), @"
    status: 1
    ----- stderr -----
    error: this repository has no sandbox named `zzz`
      nothing was removed
    hint: to list the sandboxes, run `airlock ls`
    ");
    assert_snapshot!(repo.airlock(&["run", "--name", "calm-otter", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: the sandbox `calm-otter` already exists
    hint: choose another `--name`, or run `airlock rm calm-otter`
    ");
    assert_eq!(repo.changes("calm-otter").len(), 1, "the sandbox was removed or replaced");
    repo.sandbox("second", "echo y >> a.txt").ok();
    repo.set_record("calm-otter", "created", 1_000_000_000);
    assert_snapshot!(repo.airlock(&["apply", "--accept-all"]), @"
    status: 2
    ----- stderr -----
    error: failed to choose a sandbox: this repository has 2 sandboxes
      second       1 file   [AGE]
      calm-otter   1 file   [AGE]
    hint: run `airlock apply second`
    ");
    assert_snapshot!(repo.airlock(&["apply", "second"]), @"
    status: 2
    ----- stderr -----
    error: no changes of `second` are accepted yet
    hint: run `airlock review second` or `airlock apply second --accept GLOB`
    ");
    assert_snapshot!(repo.airlock(&["apply", "second", "--accept", "nope"]), @"
    status: 1
    ----- stderr -----
    error: --accept nope matches no changed file
    hint: to list the paths, run `airlock diff second --name-only`
    ");
}

#[test]
fn claude_refuses_unusable_credentials() {
    let mut repo = TestRepo::new();
    repo.put_claude_on_path();
    assert_snapshot!(repo.airlock(&["claude", "-p", "x"]), @r#"
    status: 125
    ----- stderr -----
    error: no credential for Claude: none of ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, CLAUDE_CODE_OAUTH_TOKEN is set, and [TMP]/home/.claude/.credentials.json does not exist
    hint: run `export CLAUDE_CODE_OAUTH_TOKEN="$(claude setup-token)"` or `export ANTHROPIC_API_KEY=…`
    "#);
    repo.set("ANTHROPIC_API_KEY", "sk-secret\nX-Injected: 1");
    let ran = repo.airlock(&["claude", "-p", "x"]);
    assert_snapshot!(ran, @r#"
    status: 125
    ----- stderr -----
    error: the credential in ANTHROPIC_API_KEY contains a line break or another character that a header cannot contain
    hint: set it again without the line break: `export ANTHROPIC_API_KEY="$(tr -d '\n' < FILE)"`
    "#);
    assert!(!ran.stderr.contains("sk-secret"), "{}", ran.stderr);
    repo.set("ANTHROPIC_API_KEY", "sk-secret");
    repo.set("ANTHROPIC_BASE_URL", "ftp://example.org");
    assert_snapshot!(repo.airlock(&["claude", "-p", "x"]), @"
    status: 125
    ----- stderr -----
    error: failed to set up the route to the model's API: ANTHROPIC_BASE_URL is not an http(s) address without a name and password
    ");
    repo.set("ANTHROPIC_BASE_URL", "http://name:password@example.org");
    let ran = repo.airlock(&["claude", "-p", "x"]);
    assert_snapshot!(ran, @"
    status: 125
    ----- stderr -----
    error: failed to set up the route to the model's API: ANTHROPIC_BASE_URL is not an http(s) address without a name and password
    ");
    assert!(!ran.stderr.contains("name:password"), "{}", ran.stderr);
    assert_no_sandbox(&repo);
}

#[test]
fn claude_refuses_non_utf8_arguments() {
    let mut repo = TestRepo::new();
    repo.set("ANTHROPIC_API_KEY", "x");
    let mut command = repo.command(AIRLOCK, &["claude"]);
    command.arg(std::ffi::OsString::from_vec(b"\xff".to_vec()));
    assert_snapshot!(CommandOutput::from_command(command), @"
    status: 125
    ----- stderr -----
    error: an argument is not UTF-8: �
    ");
    assert_no_sandbox(&repo);
}

/// The base volume is a file system of 1 MiB, and the snapshot has 2 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn seed_reports_full_disk() {
    let repo = TestRepo::new();
    repo.write("large", vec![b'x'; 2 << 20]);
    repo.commit();
    let engine = Docker::connect(None).await.expect("an engine answers; scripts/engine starts one");
    let guest = image::ensure_guest(&engine).await.expect("the guest image");
    let id: String = read_random_bytes::<8>().expect("random bytes").iter().map(|b| format!("{b:02x}")).collect();
    let mut spec = sidecar_spec(&format!("airlock-test-{id}"), &guest, Vec::new(), &Labels::new());
    spec.user = "1000:1000".into();
    spec.tmpfs = vec![("/v/base".into(), "size=1m,uid=1000".into())];
    let container = engine.create_container(&spec).await.expect("a container");
    let attached = engine.attach_container(&container, false).await.expect("attached");
    engine.start_container(&container).await.expect("started");
    let (accept, _none) = mpsc::unbounded_channel();
    let link = GuestClient::perform_handshake(attached, accept).await.expect("it answers");
    let host = HostRepo::discover(&repo.path).expect("a repository");
    let snapshot = Arc::new(host.take_snapshot(&SnapshotOptions::default()).expect("a snapshot"));
    let listing = snapshot.list_files().expect("listed");
    let result = seed_volume(&snapshot, &listing, &link, &Arc::new(ProgressCounter::default())).await;
    engine.remove_container(&container).await.expect("removed");
    let error = result.expect_err("the snapshot does not fit");
    assert!(matches!(error, BaseError::Guest(GuestError::DiskFull)), "{error}");
    assert_eq!(error.to_string(), "the engine's disk is full");
}
