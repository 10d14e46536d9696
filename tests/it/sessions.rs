//! Sessions: detach and attach, several terminals, and what happens when a process ends.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

use crate::claude::model;
use crate::support::model::Step;
use crate::support::{AIRLOCK, TestRepo, wait_until};
use crate::terminal::{Terminal, children_of};
use crate::versions::stop_as_another_version;

/// Keys that detach.
const DETACH: &str = "\x1d\x1d\x1d";
/// The maximum time until a state is reached.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts Airlock on a terminal, in another directory.
fn start_in(repo: &TestRepo, directory: &Path, args: &[&str]) -> Terminal {
    let mut command = CommandBuilder::new("env");
    command.args([Path::new("-C"), directory, Path::new(AIRLOCK)]);
    command.args(args);
    Terminal::run(repo, command)
}

/// Returns the status of a sandbox as `airlock ls --json` has it, and whether a terminal is attached.
fn session_state(repo: &TestRepo, name: &str) -> (String, Option<bool>) {
    let list = parse(&repo.airlock(&["ls", "--json"]).ok().stdout);
    let sandboxes = list["sandboxes"].as_array().expect("a list").clone();
    let sandbox = sandboxes.iter().find(|s| s["name"] == name).cloned().unwrap_or_default();
    (sandbox["status"].as_str().unwrap_or("none").to_owned(), sandbox["attached"].as_bool())
}

fn parse(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

/// Waits until a sandbox has a status.
#[track_caller]
fn wait_for_status(repo: &TestRepo, name: &str, status: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let state = session_state(repo, name).0;
        if state == status {
            return;
        }
        assert!(Instant::now() < end, "{name} is {state}, not {status}");
        std::thread::yield_now();
    }
}

/// Returns the process that owns the sandbox of a terminal: the child of the terminal's process.
fn owner_of(terminal: &Terminal) -> Pid {
    *children_of(process_of(terminal)).first().expect("a child")
}

fn kill(pid: Pid) {
    kill_process(pid, Signal::KILL).expect("killed");
}

fn process_of(terminal: &Terminal) -> Pid {
    let id = terminal.child.process_id().and_then(|id| i32::try_from(id).ok());
    id.and_then(Pid::from_raw).expect("it runs")
}

#[test]
fn session_is_left_and_attached_from_another_directory() {
    let repo = TestRepo::new();
    let script = "printf 'l%s\\n' 1 2 3; stty -echo; while read line; do echo \"got $line\"; [ $line = end ] && break; done; echo x >> a.txt; exit 7";
    let mut first = Terminal::start(&repo, &["run", "--name", "s", "--", "sh", "-c", script]);
    first.shows("l3");
    first.types("one\r");
    first.shows("got one");
    first.types(DETACH);
    first.shows("airlock: detached; the agent of s continues. Next: airlock attach s");
    assert!(first.child.wait().expect("it ends").success());
    assert!(first.is_sane());
    assert_eq!(session_state(&repo, "s"), ("running".into(), Some(false)));
    assert!(repo.airlock(&["ls"]).ok().stdout.contains("running, detached"));
    repo.airlock(&["diff", "s"]).ok();

    // Another directory and another size: the lines are there, and the keys arrive.
    let elsewhere = tempfile::tempdir().expect("a directory");
    let mut second = start_in(&repo, elsewhere.path(), &["attach", "s"]);
    let screen = second.shows("got one");
    assert!(screen.contains("l1\nl2\nl3\n"), "{screen}");
    second.types("two\r");
    second.shows("got two");
    assert_eq!(session_state(&repo, "s"), ("running".into(), Some(true)));

    // A third terminal takes over, and does not need the name.
    let mut third = start_in(&repo, elsewhere.path(), &["attach"]);
    second.shows("airlock: another terminal has attached to s. Next: airlock attach s");
    assert!(second.child.wait().expect("it ends").success());
    third.shows("got two");
    // A signal ends only a terminal that the agent was started from.
    let mut fourth = start_in(&repo, elsewhere.path(), &["attach", "s"]);
    fourth.shows("got two");
    third.child.wait().expect("it ends");
    kill_process(process_of(&fourth), Signal::TERM).expect("signaled");
    fourth.shows("left the session of `s`");
    fourth.child.wait().expect("it ends");
    let mut third = start_in(&repo, elsewhere.path(), &["attach"]);
    third.shows("got two");
    third.types("end\r");
    third.shows("got end");
    third.shows("airlock: s changed 1 file, +1 −0");
    third.shows("Review now?");
    third.types("y\r");
    third.shows("a.txt modified hunk 1/1 [undecided]");
    third.types("yw");
    third.shows("Preview of the apply");
    third.types("y");
    third.shows("1 file applied");
    assert_eq!(third.child.wait().expect("it ends").exit_code(), 7, "the status is the agent's");
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n", "the review applies to the working tree of the sandbox");

    repo.airlock(&["attach", "s"]).expect_failure(2, &["a session needs a terminal"]);
    let mut late = Terminal::start(&repo, &["attach", "s"]);
    late.shows("error: the agent of `s` has ended");
    late.shows("airlock review s");
    assert_eq!(late.child.wait().expect("it ends").exit_code(), 1);
}

/// A signal that comes before the owner has connected to the terminal's process is not lost.
#[test]
fn signal_before_the_owner_connects_ends_the_start() {
    let repo = TestRepo::new();
    let mut terminal = Terminal::start(&repo, &["run", "--name", "s", "--", "sleep", "1000"]);
    let process = process_of(&terminal);
    let mut owner = None;
    wait_until("there is no owner", || {
        owner = children_of(process).first().copied();
        owner.is_some()
    });
    let owner = owner.expect("a process");
    kill_process(owner, Signal::STOP).expect("stopped");
    kill_process(process, Signal::TERM).expect("signaled");
    // A signal that is no longer pending has reached the handler.
    let is_pending = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", process.as_raw_nonzero())).expect("read");
        status.lines().any(|line| line.starts_with("ShdPnd:") && line.contains("4000"))
    };
    wait_until("the signal is pending", || !is_pending());
    kill_process(owner, Signal::CONT).expect("continued");
    let mut status = None;
    wait_until("the start goes on", || {
        status = terminal.child.try_wait().expect("known");
        status.is_some()
    });
    assert_eq!(status.expect("it ended").exit_code(), 130);
    assert_eq!(repo.engine_objects(), 0);
    assert!(!repo.path.join(".git/airlock/sandboxes/s").exists());
}

#[test]
fn stop_collects_changes_of_any_run() {
    let repo = TestRepo::new();
    let mut shell = Terminal::start(&repo, &["shell", "--name", "shell"]);
    shell.shows("$ ");
    shell.types("echo x >> a.txt; echo writ''ten\r");
    shell.shows("written");
    shell.types(DETACH);
    shell.shows("airlock: detached");
    // A run without a terminal can be stopped too, but not attached to.
    let mut piped =
        repo.command(AIRLOCK, &["run", "--name", "piped", "--", "sh", "-c", "echo y >> a.txt; exec sleep 1000"]);
    let mut piped = piped.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    wait_for_status(&repo, "piped", "running");
    let socket = repo.path.join(".git/airlock/sandboxes/piped/session.sock");
    let end = Instant::now() + PATIENCE;
    while !socket.exists() {
        assert!(Instant::now() < end, "the socket is made");
        std::thread::yield_now();
    }
    let mut refused = Terminal::start(&repo, &["attach", "piped"]);
    refused.shows("error: failed to attach: its agent has no terminal");
    assert_eq!(refused.child.wait().expect("it ends").exit_code(), 1);
    let refused = stop_as_another_version(&socket);
    assert_eq!(refused["reason"], "it was started by another version of Airlock");
    assert_eq!(session_state(&repo, "piped").0, "running");
    repo.airlock(&["stop", "nosuch"]).expect_failure(1, &["no repository has a sandbox named `nosuch`"]);
    let stopped = repo.airlock(&["stop", "shell", "piped"]).ok();
    for name in ["shell", "piped"] {
        assert!(
            stopped.stderr.contains(&format!("stopped {name}; it changed 1 file. Next: airlock review {name}")),
            "{}",
            stopped.stderr
        );
        assert_eq!(session_state(&repo, name).0, "collected");
    }
    piped.wait().expect("it ends");
    assert!(repo.airlock(&["stop", "shell"]).ok().stderr.contains("the agent of shell has ended already"));
    assert_eq!(repo.containers(), 0);
}

#[test]
fn closed_terminal_ends_agent_unless_it_may_survive() {
    let mut repo = TestRepo::new();
    let script = "echo x >> a.txt; echo ready; exec sleep 1000";
    let mut terminal = Terminal::start(&repo, &["run", "--name", "ends", "--", "sh", "-c", script]);
    terminal.shows("ready");
    kill(process_of(&terminal));
    terminal.child.wait().expect("it ends");
    wait_for_status(&repo, "ends", "collected");
    assert_eq!(repo.changes("ends"), [("a.txt".to_owned(), "modified".to_owned())]);

    repo.set("AIRLOCK_DETACH", "true");
    let mut terminal = Terminal::start(&repo, &["run", "--name", "stays", "--", "sh", "-c", script]);
    terminal.shows("ready");
    // The terminal itself goes away, as when a connection breaks.
    let process = process_of(&terminal);
    kill_process(process, Signal::HUP).expect("signaled");
    drop(terminal.master);
    terminal.child.wait().expect("it ends");
    wait_for_status(&repo, "stays", "running");
    let mut back = Terminal::start(&repo, &["attach", "stays"]);
    back.shows("ready");
    // A terminal that was attached later never ends the agent.
    kill(process_of(&back));
    back.child.wait().expect("it ends");
    assert_eq!(session_state(&repo, "stays").0, "running");
    repo.airlock(&["stop", "stays"]).ok();
    assert_eq!(repo.containers(), 0);
}

#[test]
fn end_of_agent_rings_the_bell_if_wanted() {
    let mut repo = TestRepo::new();
    repo.set("AIRLOCK_NOTIFY", "osc9");
    let mut terminal = Terminal::start(&repo, &["run", "--name", "b", "--", "true"]);
    terminal.receives(b"\x1b]9;airlock: b has ended\x1b\\");
    terminal.child.wait().expect("it ends");
    repo.set("AIRLOCK_NOTIFY", "command");
    repo.airlock(&["run", "--", "true"]).ok();
    let mut terminal = Terminal::start(&repo, &["run", "--", "true"]);
    terminal.shows("error: notify is \"command\", but notify_command is not set");
    terminal.child.wait().expect("it ends");
}

#[test]
fn killed_owner_leaves_sandbox_that_resumes() {
    let repo = TestRepo::new();
    // Otherwise, the owner may be killed while it still seals the base, whose container is left to `gc`.
    repo.airlock(&["run", "--", "true"]).ok();
    let mut terminal = Terminal::start(
        &repo,
        &["run", "--name", "k", "--", "sh", "-c", "echo x >> a.txt; echo ready; exec sleep 1000"],
    );
    terminal.shows("ready");
    kill(owner_of(&terminal));
    terminal.shows("error: the session of `k` has ended unexpectedly; the agent's work is kept");
    terminal.shows("airlock resume k");
    assert_eq!(terminal.child.wait().expect("it ends").exit_code(), 125);
    assert!(terminal.is_sane());
    assert_eq!(session_state(&repo, "k").0, "interrupted");
    // The socket is still there, but nothing listens.
    let mut attach = Terminal::start(&repo, &["attach", "k"]);
    attach.shows("error: the session of `k` was interrupted; the agent's work is kept");
    attach.child.wait().expect("it ends");
    assert!(repo.airlock(&["stop", "k"]).ok().stderr.contains("k was interrupted. Next: airlock review k"));
    let mut resumed =
        Terminal::start(&repo, &["resume", "--review", "never", "k", "--", "sh", "-c", "cat a.txt; echo y >> a.txt"]);
    resumed.shows("x");
    resumed.shows("kept. Next: airlock review k");
    resumed.child.wait().expect("it ends");
    assert_eq!(repo.changes("k"), [("a.txt".to_owned(), "modified".to_owned())]);
    assert_eq!(repo.containers(), 0);
}

#[test]
fn terminal_that_does_not_read_does_not_stop_agent() {
    let repo = TestRepo::new();
    let pair = native_pty_system().openpty(PtySize::default()).expect("a terminal");
    let mut command = CommandBuilder::new(AIRLOCK);
    command.args([
        "run",
        "--name",
        "q",
        "--",
        "sh",
        "-c",
        "head -c 20000000 /dev/zero | tr '\\0' 'x'; echo x >> a.txt",
    ]);
    command.cwd(&repo.path);
    command.env_clear();
    repo.environment().iter().for_each(|(name, value)| command.env(name, value));
    command.env("TERM", "dumb");
    let mut child = pair.slave.spawn_command(command).expect("it runs");
    // Nothing reads the terminal. The changes are collected nevertheless.
    wait_for_status(&repo, "q", "collected");
    assert_eq!(repo.changes("q"), [("a.txt".to_owned(), "modified".to_owned())]);
    child.kill().expect("killed");
    child.wait().expect("it ends");
}

/// Output that is slow to draw, or that a terminal misses, holds up neither the keys nor the end.
#[test]
fn hostile_output_does_not_hold_up_session() {
    let repo = TestRepo::new();
    let script = "echo ready; read x; awk 'BEGIN { for (i = 0; i < 2000; i++) printf \"\\033[65535@\\033[65535;2L\" }'; printf '\\033[H\\033[2Jdrawn'; exec sleep 1000";
    let mut terminal = Terminal::start(&repo, &["run", "--name", "h", "--", "sh", "-c", script]);
    terminal.shows("ready");
    // The key before the detach keys in one write reaches the agent.
    terminal.types(&format!("\r{DETACH}"));
    terminal.shows("airlock: detached");
    terminal.child.wait().expect("it ends");
    let mut terminal = Terminal::start(&repo, &["attach", "h"]);
    terminal.shows("drawn");
    terminal.types(DETACH);
    terminal.shows("airlock: detached");
    terminal.child.wait().expect("it ends");
    assert!(repo.airlock(&["stop", "h"]).ok().stderr.contains("stopped h; it has no changes. Next: airlock resume h"));

    // The last output arrives although the terminal did not read for a while.
    let script = "seq 1 300000; printf '\\033[?1049h\\033[?1003h'; seq 1 300000; printf '\\033[?1003l\\033[?1049l'; echo RESULT; sleep 3; exit 0";
    let mut terminal = Terminal::start(&repo, &["run", "--name", "slow", "--keep", "--", "sh", "-c", script]);
    terminal.receives(b"\r\n100\r\n");
    let process = process_of(&terminal);
    kill_process(process, Signal::STOP).expect("stopped");
    wait_for_status(&repo, "slow", "unchanged");
    kill_process(process, Signal::CONT).expect("continued");
    terminal.shows("RESULT");
    terminal.shows("slow has no changes");
    assert!(terminal.child.wait().expect("it ends").success());
    let parser = terminal.screen.0.lock().expect("no panic");
    assert!(!parser.screen().alternate_screen());
    assert_eq!(parser.screen().mouse_protocol_mode(), vt100::MouseProtocolMode::None);
}

/// An agent that ends while a large paste is under way leaves no process that waits for room.
#[test]
fn large_paste_does_not_hold_up_the_end() {
    let repo = TestRepo::new();
    let script = "stty raw -echo; echo ready; head -c 100000 >/dev/null; kill -9 $$";
    let mut terminal = Terminal::start(&repo, &["run", "--name", "p", "--", "sh", "-c", script]);
    terminal.shows("ready");
    let mut writer = terminal.writer();
    // Not joined: a write to a terminal that no process has open blocks for ever once the kernel's buffer is full.
    std::thread::spawn(move || {
        // The rest is discarded when Airlock has the terminal again.
        for _ in 0..4096 {
            if writer(&[b'x'; 1024]).is_err() {
                break;
            }
        }
    });
    // The line may scroll away at once: what is pasted after the end is echoed.
    assert_eq!(terminal.ends().exit_code(), 137);
    terminal.receives(b"p changed nothing, so it is removed");
}

/// Options of the start count for the terminal that sees the end, and a report of an earlier run is never used.
#[test]
fn end_of_session_knows_how_it_was_started() {
    let repo = TestRepo::new();
    let mut terminal =
        Terminal::start(&repo, &["run", "--keep", "--name", "k", "--", "sh", "-c", "echo ready; read x; exit 7"]);
    terminal.shows("ready");
    terminal.types(DETACH);
    terminal.shows("airlock: detached");
    terminal.child.wait().expect("it ends");
    let mut terminal = Terminal::start(&repo, &["attach", "k"]);
    terminal.shows("ready");
    terminal.types("\r");
    terminal.shows("k has no changes. Next: airlock resume k");
    assert_eq!(terminal.child.wait().expect("it ends").exit_code(), 7);
    let report = repo.path.join(".git/airlock/sandboxes/k/last-run.json");
    assert!(report.exists());
    // As if the owner were killed before it writes the report of its own run.
    let mut terminal = Terminal::start(&repo, &["resume", "k", "--", "sh", "-c", "echo again; read x"]);
    terminal.shows("again");
    assert!(!report.exists(), "the report of the first run is gone");
    terminal.types("\r");
    terminal.shows("k has no changes");
    assert!(terminal.child.wait().expect("it ends").success());

    // An agent that is stopped by Ctrl-Z ends at once, and its terminal learns why.
    let mut terminal = Terminal::start(&repo, &["run", "--name", "z", "--", "sh", "-c", "echo ready; exec sleep 1000"]);
    terminal.shows("ready");
    repo.airlock(&["stop", "z"]).ok();
    terminal.shows("airlock: the agent was ended by airlock stop");
    terminal.shows("z has no changes. Next: airlock resume z");
    terminal.child.wait().expect("it ends");
}

#[test]
fn other_users_cannot_attach() {
    let repo = TestRepo::new();
    let mut terminal = Terminal::start(&repo, &["shell", "--name", "p"]);
    terminal.shows("$ ");
    let directory = repo.path.join(".git/airlock/sandboxes/p");
    let socket = directory.join("session.sock");
    assert_eq!(std::fs::metadata(&directory).expect("it exists").mode() & 0o777, 0o700);
    assert_eq!(std::fs::symlink_metadata(&socket).expect("it exists").mode() & 0o777, 0o600);
    // Even with access to the socket, another user gets nothing.
    let mut place = PathBuf::from("/");
    for part in socket.components().skip(1) {
        place.push(part);
        let mode = std::fs::symlink_metadata(&place).expect("it exists").mode() & 0o7777;
        repo_mode(&place, mode | 0o777);
    }
    let script = "$SIG{PIPE} = 'IGNORE'; use Socket; socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die; connect($s, sockaddr_un($ARGV[0])) or die \"connect: $!\"; \
                  my $hello = '{\"is\":\"hello\",\"version\":1,\"purpose\":\"query\",\"columns\":0,\"rows\":0}'; \
                  syswrite($s, pack('CN', 1, length $hello) . $hello); my $n = sysread($s, my $answer, 4096); print defined $n ? $n : 'reset';";
    let ask = |user: u32| {
        let mut perl = std::process::Command::new("perl");
        let output = perl.args(["-e", script]).arg(&socket).uid(user).output().expect("it runs");
        assert!(output.status.success(), "{}", output.status.to_string() + &String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let own = rustix::process::geteuid().as_raw();
    assert_ne!(ask(own), "0", "the user gets an answer");
    if own == 0 {
        assert!(["0", "reset"].contains(&ask(65534).as_str()), "another user gets none");
    }
    terminal.types("exit\r");
    terminal.shows("changed nothing, so it is removed");
    terminal.child.wait().expect("it ends");
}

fn repo_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("changed");
}

/// A session of real Claude Code is left while a question waits, and answered on another terminal. Three sandboxes of one
/// repository run at the same time.
#[test]
fn claude_sessions_run_side_by_side_and_wait_for_answers() {
    let mut repo = TestRepo::new();
    let write = |name: &str| {
        let path = format!("{}/{name}", repo.path.display());
        Step::Tool("Write".into(), serde_json::json!({"file_path": path, "content": "made\n"}))
    };
    let script = vec![write("new.txt"), Step::Text("It is made.".into())];
    let (_runtime, _model) = model(&mut repo, script);
    let events = repo.directory().join("events");
    repo.set("AIRLOCK_NOTIFY", "command");
    repo.set("AIRLOCK_NOTIFY_COMMAND", format!("echo \"$AIRLOCK_SANDBOX $AIRLOCK_EVENT\" >> {}", events.display()));
    let mut terminals: Vec<Terminal> = ["c1", "c2", "c3"]
        .iter()
        .map(|name| Terminal::start(&repo, &["--name", name, "--review", "never", "claude"]))
        .collect();
    for terminal in &mut terminals {
        terminal.shows("? for shortcuts");
        terminal.types("make it");
        terminal.shows("make it");
        terminal.types("\r");
        terminal.shows("Do you want to create new.txt?");
        terminal.types(DETACH);
        terminal.shows("airlock: detached");
        assert!(terminal.child.wait().expect("it ends").success() && terminal.is_sane());
    }
    for name in ["c1", "c2", "c3"] {
        wait_for_status(&repo, name, "waiting");
        // Whoever wants to continue in a sandbox whose agent runs, gets its session.
        let command: &[&str] = match name {
            "c1" => &["attach", "c1"],
            "c2" => &["resume", "c2"],
            _ => &["claude", "--continue"],
        };
        let mut terminal = Terminal::start(&repo, command);
        let screen = terminal.shows("Do you want to create new.txt?");
        assert!(screen.contains("make it"), "{screen}");
        terminal.types("1");
        terminal.shows("It is made.");
        terminal.types("/exit");
        terminal.shows("/exit");
        terminal.types("\r");
        terminal.shows(&format!("airlock: {name} changed 1 file"));
        // As the start asked for.
        terminal.shows("kept. Next");
        assert!(terminal.child.wait().expect("it ends").success());
        assert_eq!(repo.changes(name), [("new.txt".to_owned(), "added".to_owned())]);
    }
    let notified = std::fs::read_to_string(&events).expect("there were notifications");
    for name in ["c1", "c2", "c3"] {
        let of_sandbox: Vec<&str> = notified.lines().filter_map(|line| line.strip_prefix(name)).collect();
        assert!(of_sandbox.first() == Some(&" waiting") && of_sandbox.last() == Some(&" ended"), "{notified}");
    }
    // The conversation continues where it was.
    let mut terminal = Terminal::start(&repo, &["--review", "never", "claude", "--resume", &conversation(&repo, "c2")]);
    terminal.shows("It is made.");
    terminal.types("/exit");
    terminal.shows("/exit");
    terminal.types("\r");
    terminal.shows("kept. Next: airlock review c2");
    terminal.child.wait().expect("it ends");
    assert_eq!(repo.containers(), 0);
}

/// Under the link, plain words do what they always did: start, leave, come back, end, review, continue the conversation.
#[test]
fn claude_under_the_link_is_left_and_continued() {
    let mut repo = TestRepo::new();
    let path = format!("{}/new.txt", repo.path.display());
    let write = Step::Tool("Write".into(), serde_json::json!({"file_path": path, "content": "made\n"}));
    let (_runtime, _model) = model(&mut repo, vec![write, Step::Text("It is made.".into())]);
    let link = repo.directory().join("claude");
    std::os::unix::fs::symlink(AIRLOCK, &link).expect("linked");
    let start = |args: &[&str]| {
        let mut command = CommandBuilder::new(&link);
        command.args(args);
        Terminal::run(&repo, command)
    };
    let mut terminal = start(&["--permission-mode", "acceptEdits"]);
    terminal.shows("accept edits on");
    terminal.types("make it");
    terminal.shows("make it");
    terminal.types("\r");
    terminal.shows("It is made.");
    terminal.types(DETACH);
    terminal.shows("airlock: detached");
    terminal.child.wait().expect("it ends");

    let mut terminal = start(&["--continue"]);
    terminal.shows("It is made.");
    terminal.types("/exit");
    terminal.shows("/exit");
    terminal.types("\r");
    terminal.shows("Review now?");
    terminal.types("y\r");
    terminal.shows("new.txt added");
    terminal.types("yw");
    terminal.shows("Preview of the apply");
    terminal.types("y");
    terminal.shows("1 file applied");
    assert!(terminal.child.wait().expect("it ends").success() && terminal.is_sane());
    assert_eq!(repo.read("new.txt"), "made\n");

    let mut terminal = start(&["--continue"]);
    terminal.shows("It is made.");
    terminal.types("/exit");
    terminal.shows("/exit");
    terminal.types("\r");
    // Everything was decided before, so no review is offered.
    terminal.shows("nothing is new since you decided. Next: airlock resume");
    assert!(terminal.child.wait().expect("it ends").success());
}

fn conversation(repo: &TestRepo, name: &str) -> String {
    let record = std::fs::read(repo.path.join(format!(".git/airlock/sandboxes/{name}/record.json"))).expect("read");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    record["conversation"].as_str().expect("a conversation").to_owned()
}

/// A conversation continues in a new sandbox after its own was removed, until `gc` removes it by its age.
#[test]
fn conversation_outlives_its_sandbox() {
    let mut repo = TestRepo::new();
    let (_runtime, model) = model(&mut repo, vec![Step::Text("The answer is 42.".into())]);
    repo.airlock(&["--name", "first", "claude", "-p", "what is the question"]).ok();
    let id = conversation(&repo, "first");
    repo.airlock(&["rm", "-f", "first"]).ok();
    let continued = repo.airlock(&["--name", "second", "claude", "-c", "-p", "and why"]).ok();
    assert!(continued.stderr.contains("the sandbox of this conversation was removed"), "{}", continued.stderr);
    let last = model.seen().into_iter().rfind(|seen| seen.body.contains("and why")).expect("a request");
    assert!(last.body.contains("what is the question") && last.body.contains("The answer is 42."), "{}", last.body);
    // The new sandbox has it now. By its ID, it is found as well.
    let by_id = repo.airlock(&["claude", "--resume", &id, "-p", "once again"]).ok();
    assert!(by_id.stderr.contains("resuming second"), "{}", by_id.stderr);

    repo.airlock(&["rm", "-f", "second"]).ok();
    let kept = repo.path.join(".git/airlock/conversations");
    assert_eq!(std::fs::metadata(&kept).expect("it exists").mode() & 0o777, 0o700);
    repo.airlock(&["gc"]).ok();
    let files = || std::fs::read_dir(&kept).expect("listed").map(|entry| entry.expect("an entry").path());
    assert!(files().count() > 0, "young conversations stay");
    for file in files() {
        let old = std::time::SystemTime::now() - Duration::from_secs(31 * 24 * 60 * 60);
        std::fs::File::options().append(true).open(file).and_then(|f| f.set_modified(old)).expect("set");
    }
    assert!(repo.airlock(&["gc"]).ok().stderr.contains("of removed sandboxes"));
    assert_eq!(files().count(), 0);
    repo.airlock(&["claude", "-c", "-p", "x"])
        .expect_failure(125, &["no sandbox of this repository has a conversation"]);
}

/// A PNG of one pixel.
const PIXEL: &[u8] = &[
    0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', 0, 0, 0, 13, b'I', b'H', b'D', b'R', 0, 0, 0, 1, 0, 0, 0, 1, 8,
    6, 0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 13, b'I', b'D', b'A', b'T', 0x78, 0x9c, 0x63, 0xf8, 0xcf, 0xc0, 0xf0,
    0x1f, 0, 5, 0, 1, 0xff, 0x89, 0x99, 0x3d, 0x1d, 0, 0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

/// A file that is dropped into the terminal, which pastes its path, is brought into the sandbox.
#[test]
fn pasted_paths_of_images_are_brought_along() {
    let mut repo = TestRepo::new();
    let outside = tempfile::tempdir().expect("a directory");
    let (picture, other) = (outside.path().join("my picture.png"), outside.path().join("notes.txt"));
    std::fs::write(&picture, PIXEL).expect("written");
    std::fs::write(&other, "private").expect("written");
    let escaped = picture.display().to_string().replace(' ', "\\ ");

    // Only a paste that consists of paths of images is replaced.
    let script = "stty -echo; printf '\\033[?2004h'; echo ready; while IFS= read -r line; do echo \"got $line\" | tr -d '\\033'; done";
    let mut terminal = Terminal::start(&repo, &["run", "--name", "p", "--", "bash", "-c", script]);
    terminal.shows("ready");
    for text in [format!("see {escaped}"), other.display().to_string(), "/nonexistent.png".into()] {
        terminal.types(&format!("\x1b[200~{text}\x1b[201~\r"));
        terminal.shows(&format!("got [200~{text}[201~"));
    }
    terminal.types(&format!("\x1b[200~{escaped}\x1b[201~\r"));
    let screen = terminal.shows("got [200~/home/agent/from-host/pasted-");
    assert_eq!(screen.matches("my\\ picture.png[201~").count(), 2, "{screen}");
    terminal.types("\x04");
    // The copy is not the agent's work.
    terminal.shows("p changed nothing, so it is removed");
    terminal.child.wait().expect("it ends");

    // Real Claude Code attaches the image.
    let (_runtime, model) = model(&mut repo, vec![Step::Text("A pixel.".into())]);
    let mut terminal = Terminal::start(&repo, &["--review", "never", "claude"]);
    terminal.shows("? for shortcuts");
    terminal.types(&format!("\x1b[200~{escaped}\x1b[201~"));
    terminal.shows("[Image #1]");
    terminal.types(" what is it");
    terminal.shows("what is it");
    terminal.types("\r");
    terminal.shows("A pixel.");
    terminal.types("/exit");
    terminal.shows("/exit");
    terminal.types("\r");
    terminal.shows("because it contains a conversation\n");
    terminal.child.wait().expect("it ends");
    let asked =
        model.seen().into_iter().any(|seen| seen.body.contains("image/png") && seen.body.contains("what is it"));
    assert!(asked, "the model gets the image");
}

#[test]
fn ls_lists_sandboxes_of_all_repositories() {
    let repo = TestRepo::new();
    repo.sandbox("first", "echo x >> a.txt").ok();
    // A second repository of the same user.
    let other = repo.directory().join("other");
    std::fs::create_dir(&other).expect("made");
    let git =
        |args: &[&str]| assert!(repo.command("git", args).current_dir(&other).status().expect("it runs").success());
    git(&["init", "-q"]);
    git(&["-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "--allow-empty", "-m", "x"]);
    let run = |args: &[&str]| {
        let mut command = repo.command(AIRLOCK, args);
        command.current_dir(&other);
        crate::support::CommandOutput::from_command(command)
    };
    run(&["run", "--name", "second", "--", "sh", "-c", "echo y > new.txt"]).ok();
    let outside = tempfile::tempdir().expect("a directory");
    let mut list = repo.command(AIRLOCK, &["ls", "--all"]);
    list.current_dir(outside.path());
    let list = crate::support::CommandOutput::from_command(list).ok().stdout;
    let line = |name: &str| list.lines().find(|line| line.starts_with(name)).expect("a line").to_owned();
    assert!(line("first").ends_with(&repo.path.display().to_string()), "{list}");
    assert!(line("second").ends_with(&other.display().to_string()), "{list}");
    let json = parse(&run(&["ls", "--all", "--json"]).ok().stdout);
    let names: Vec<&str> =
        json["sandboxes"].as_array().expect("a list").iter().filter_map(|s| s["name"].as_str()).collect();
    assert!(names.contains(&"first") && names.contains(&"second"), "{names:?}");
    let only_here = parse(&run(&["ls", "--json"]).ok().stdout);
    assert_eq!(only_here["sandboxes"].as_array().map(Vec::len), Some(1));
}
