//! Claude Code on a pseudo-terminal, with the screens and keys of a user.

use portable_pty::{CommandBuilder, PtySize};

use crate::claude::{greeting, model};
use crate::support::model::Step;
use crate::support::{AIRLOCK, TestRepo};
use crate::terminal::Terminal;

#[test]
fn claude_session_ends_in_review_and_sane_terminal() {
    let mut repo = TestRepo::new();
    let script = greeting(&repo);
    let (_runtime, _model) = model(&mut repo, script);
    let mut terminal = Terminal::start(&repo, &["--name", "i", "claude", "--permission-mode", "acceptEdits"]);
    let first = terminal.shows("❯");
    assert!(first.contains("Claude Code v"), "no first-run question comes before the prompt:\n{first}");
    assert!(!first.contains("missing or broken"), "{first}");
    terminal.shows("accept edits on");
    terminal.types("add a greeting");
    terminal.shows("add a greeting");
    terminal.types("\r");
    terminal.shows("A greeting is in.");
    // Claude Code redraws after a resize.
    terminal.master.resize(PtySize { rows: 30, cols: 80, pixel_width: 0, pixel_height: 0 }).expect("resized");
    terminal.screen.0.lock().expect("no panic").screen_mut().set_size(30, 80);
    let line = "─".repeat(80);
    terminal.wait("a line of the new width", |s| s.contents().lines().any(|l| l == line));
    terminal.types("/exit");
    terminal.shows("/exit");
    terminal.types("\r");
    terminal.shows("Review now?");
    terminal.types("perhaps\r");
    terminal.shows("answer y or n");
    terminal.types("y\r");
    terminal.shows("a.txt modified hunk 1/1 [undecided]");
    assert!(!terminal.is_sane() && terminal.screen.0.lock().expect("no panic").screen().alternate_screen());
    terminal.types("yD");
    terminal.shows("[y/n]");
    terminal.types("y");
    terminal.shows("4/4 decided");
    terminal.types("w");
    terminal.shows("Preview of the apply");
    terminal.types("y");
    terminal.shows("1 of 4 files applied");
    assert!(terminal.child.wait().expect("it ends").success());
    assert!(terminal.is_sane());
    let parser = terminal.screen.0.lock().expect("no panic");
    let screen = parser.screen();
    assert!(!screen.hide_cursor() && !screen.bracketed_paste() && !screen.alternate_screen());
    assert_eq!(screen.mouse_protocol_mode(), vt100::MouseProtocolMode::None);
    drop(parser);
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n");
    assert_eq!(repo.read("a.txt"), "one\nhello\n");
}

#[test]
fn agent_modes_and_typed_ahead_keys_are_dropped() {
    let repo = TestRepo::new();
    // A shell would lose a Ctrl-C that arrives while it starts a program, so `exec` replaces it.
    let script =
        "echo x >> a.txt; printf '\\033[?1049h\\033[?1003h\\033[?2004h\\033[?25l'; echo ready; exec sleep 1000";
    let mut terminal = Terminal::start(&repo, &["run", "--name", "m", "--", "sh", "-c", script]);
    terminal.shows("ready");
    assert!(terminal.screen.0.lock().expect("no panic").screen().alternate_screen());
    // Ctrl-P is an ordinary key. Ctrl-C ends the agent; the keys after it are for the agent as well.
    terminal.types("\u{10}\u{11}y\ny\ny\n\u{3}yyyy");
    terminal.shows("Review now?");
    let parser = terminal.screen.0.lock().expect("no panic");
    assert!(!parser.screen().alternate_screen() && !parser.screen().bracketed_paste());
    assert_eq!(parser.screen().mouse_protocol_mode(), vt100::MouseProtocolMode::None);
    drop(parser);
    terminal.types("n\r");
    terminal.shows("kept. Next: airlock review m");
    assert_eq!(terminal.child.wait().expect("it ends").exit_code(), 130);
    assert!(terminal.is_sane());
    assert_eq!(repo.git(&["status", "--short"]), "");
}

/// The input is the recorded output of a session of Claude Code 2.1.197: prompt, request, tools, modes, `/exit`.
#[test]
fn output_filter_keeps_claude_screens() {
    let session = std::fs::read("fixtures/claude/session.raw").expect("the fixture exists");
    for size in [1, 7, 4096] {
        let (mut plain, mut filtered) = (vt100::Parser::new(40, 100, 1000), vt100::Parser::new(40, 100, 1000));
        let mut filter = airlock::terminal::OutputFilter::default();
        for piece in session.chunks(size) {
            plain.process(piece);
            filtered.process(&filter.filter_bytes(piece));
        }
        let formatted = |p: &vt100::Parser| (p.screen().contents_formatted(), p.screen().input_mode_formatted());
        assert_eq!(formatted(&plain), formatted(&filtered));
        assert!(plain.screen().contents().contains("--resume"), "the session is complete");
        assert!(filter.dropped_sequences().is_empty(), "{:?}", filter.dropped_sequences());
    }
}

#[test]
fn agent_output_cannot_drive_terminal_or_answer() {
    let repo = TestRepo::new();
    // The first process of a container receives only signals that it has a handler for.
    let script = "trap 'exit 0' INT; echo x >> a.txt; printf '\\033]52;c;ZXZpbA==\\a\\033]1337;x\\a\\033_Gx\\033\\\\\\033Pq\\033\\\\\\033[5i\\033[21t'; \
                  printf '\\033]0;fine\\a\\033[31mred\\033[0m \\033[6n\\033[c'; echo asked; sleep 1000 & wait";
    let mut terminal = Terminal::mute(&repo, &["run", "--name", "t", "--", "sh", "-c", script]);
    terminal.shows("asked");
    terminal.receives(b"\x1b[6n\x1b[c");
    // The agent ends while the answers to its terminal queries, which contain a `y`, are still arriving.
    terminal.types("\u{3}");
    let mode = crate::consent::question(&terminal);
    terminal.types("\u{1b}[1;1Ry\n\u{1b}[?62;22cy\ny\n");
    terminal.types(&format!("\u{1b}[?{mode};0$y\u{1b}[?62;22c"));
    terminal.shows("Review now?");
    let raw = terminal.raw.lock().expect("no panic").clone();
    let has = |bytes: &[u8]| raw.windows(bytes.len()).any(|w| w == bytes);
    for bad in [&b"]52;"[..], b"]1337", b"\x1b_", b"\x1bP", b"\x1b[5i", b"\x1b[21t"] {
        assert!(!has(bad), "{}", bad.escape_ascii());
    }
    assert!(has(b"\x1b]0;fine\x1b\\") && has(b"\x1b[31mred\x1b[m"), "sequences that draw are kept");
    let text = terminal.shows("blocked in the terminal output");
    assert!(text.contains("a clipboard write (OSC 52)"), "{text}");
    terminal.types("n\r");
    terminal.shows("kept. Next: airlock review t");
    assert!(terminal.is_sane());
    assert_eq!(repo.git(&["status", "--short"]), "");
}

#[test]
fn pty_size_is_set_before_program_starts() {
    let repo = TestRepo::new();
    for _ in 0..3 {
        let mut terminal = Terminal::start(&repo, &["run", "--", "stty", "size"]);
        terminal.shows("40 100");
        assert!(terminal.child.wait().expect("it ends").success());
    }
}

/// Starts a shell with job control, and Airlock in it.
fn start_in_shell(repo: &TestRepo, command: &str) -> Terminal {
    let mut shell = CommandBuilder::new("bash");
    shell.args(["--norc", "--noprofile", "-i"]);
    shell.env("PS1", "shell> ");
    let mut terminal = Terminal::run(repo, shell);
    terminal.types(&format!("PS1='shell> '; {AIRLOCK} --review never {command}\r"));
    terminal
}

fn shell_quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[test]
fn ctrl_z_suspends_and_fg_brings_back() {
    let mut repo = TestRepo::new();
    let mut terminal = start_in_shell(&repo, "run -- sh -c 'echo re''ady; read x; echo got $x'");
    terminal.shows("ready");
    terminal.wait_for_raw_mode();
    for _ in 0..2 {
        terminal.types("\x1a");
        terminal.shows("Stopped");
        // The terminal belongs to the shell.
        terminal.types("stty -a | grep -o '.icanon'; echo in-the-sh''ell\r");
        terminal.shows("in-the-shell");
        terminal.types("clear; fg\r");
        terminal.wait_for_raw_mode();
    }
    terminal.types("again\r");
    terminal.shows("got again");
    // Keys that are typed before Airlock has ended are meant for the agent, and are dropped.
    terminal.shows("changed nothing, so it is removed");
    terminal.types("exit\r");
    terminal.child.wait().expect("it ends");

    // What the agent writes before it stops, such as resets of modes, comes before the shell. Here it is in the same write as
    // the report.
    let stops = "trap 'printf \"last %s\\033]airlock-stopped\\007\" words' TSTP; echo re''ady; while :; do read x && echo got $x && exit; done";
    let mut terminal = start_in_shell(&repo, &format!("run -- bash -c {}", shell_quote(stops)));
    terminal.shows("ready");
    terminal.wait_for_raw_mode();
    terminal.types("\x1a");
    let screen = terminal.shows("Stopped");
    assert!(screen.contains("last words"), "{screen}");
    terminal.types("clear; fg\r");
    terminal.wait_for_raw_mode();
    terminal.types("again\r");
    terminal.shows("got again");
    terminal.shows("changed nothing, so it is removed");
    terminal.types("exit\r");
    terminal.child.wait().expect("it ends");

    // Real Claude Code suspends itself, and draws its screen again.
    let (_runtime, _model) = model(&mut repo, vec![Step::Text("pong".into())]);
    let mut terminal = start_in_shell(&repo, "claude");
    terminal.shows("? for shortcuts");
    terminal.types("\x1a");
    terminal.shows("Stopped");
    terminal.types("clear; echo in-the-sh''ell; fg\r");
    terminal.wait_for_raw_mode();
    terminal.shows("? for shortcuts");
    terminal.types("hello");
    terminal.shows("hello");
    terminal.types("\r");
    terminal.shows("pong");
    terminal.types("/exit");
    terminal.shows("/exit");
    terminal.types("\r");
    terminal.shows("airlock: next: airlock resume");
    terminal.types("stty -a | grep -o '.icanon'; exit\r");
    terminal.child.wait().expect("it ends");
    assert!(terminal.is_sane());

    // An agent that stops by itself, or forges the report, is continued.
    let stops = "kill -STOP $$; echo cont''inued; printf '\\033]airlock-stopped\\007'; read x; echo got $x";
    let mut terminal = Terminal::start(&repo, &["run", "--review", "never", "--", "sh", "-c", stops]);
    terminal.shows("the agent stopped by itself; it continues");
    terminal.shows("continued");
    terminal.types("word\r");
    terminal.shows("got word");
    terminal.child.wait().expect("it ends");
}

/// Copies Claude Code out of the agent image.
fn claude_of_image(target: &std::path::Path) {
    let docker = |args: &[&str]| {
        let output = std::process::Command::new("docker").args(args).output().expect("the docker program runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8").trim().to_owned()
    };
    let container = docker(&["create", "--network", "none", "airlock-agent:latest", "true"]);
    docker(&["cp", "--follow-link", &format!("{container}:/usr/local/bin/claude"), target.to_str().expect("UTF-8")]);
    docker(&["rm", "--force", &container]);
}

/// Goes through the same session of Claude Code, and returns the screens: the prompt, a question, and the answer.
fn screens_of_session(terminal: &mut Terminal) -> Vec<String> {
    let mut screens = vec![terminal.settled_screen("? for shortcuts")];
    terminal.types("make it");
    screens.push(terminal.settled_screen("make it"));
    terminal.types("\r");
    screens.push(terminal.settled_screen("Do you want to create new.txt?"));
    terminal.types("1");
    screens.push(terminal.settled_screen("It is made."));
    terminal.types("/exit");
    terminal.shows("/exit");
    terminal.types("\r");
    screens
}

/// Returns the lines of a screen without Airlock's first line, and without the time that a turn took and its random verb.
fn comparable_lines(screen: &str) -> Vec<&str> {
    let lines = screen.trim_end().lines().map(str::trim_end);
    let is_own_line =
        |line: &str| ["airlock: w ·", "airlock: this engine does not limit"].iter().any(|own| line.starts_with(own));
    lines.filter(|line| !is_own_line(line) && !line.starts_with("✻ ")).collect()
}

/// The screens of Claude Code in a sandbox are those of Claude Code on the host, except for lines of Airlock.
#[test]
fn claude_screens_equal_those_without_a_sandbox() {
    let mut repo = TestRepo::new();
    let path = repo.path.to_str().expect("UTF-8").to_owned();
    let write = serde_json::json!({"file_path": format!("{path}/new.txt"), "content": "made\n"});
    let script = vec![Step::Tool("Write".into(), write), Step::Text("It is made.".into())];
    let (_runtime, _model) = model(&mut repo, script);
    let mut boxed = Terminal::start(&repo, &["--review", "never", "--name", "w", "claude"]);
    let in_sandbox = screens_of_session(&mut boxed);
    boxed.shows("kept. Next: airlock review w");
    boxed.child.wait().expect("it ends");

    // As its installer places it.
    let home = repo.environment().into_iter().find(|(name, _)| name == "HOME").expect("a home").1;
    let programs = std::path::Path::new(&home).join(".local/bin");
    std::fs::create_dir_all(&programs).expect("made");
    let program = programs.join("claude");
    claude_of_image(&program);
    let path_variable = std::env::var("PATH").expect("a PATH");
    repo.set("PATH", format!("{}:{path_variable}", programs.display()));
    let key = repo.environment().into_iter().find(|(name, _)| name == "ANTHROPIC_API_KEY").expect("a key").1;
    let state = serde_json::json!({
        "hasCompletedOnboarding": true, "theme": "dark", "installMethod": "global", "autoUpdates": false,
        "customApiKeyResponses": {"approved": [&key[key.len() - 20..]], "rejected": []},
        "projects": {&path: {"hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true, "allowedTools": []}},
    });
    std::fs::write(format!("{home}/.claude.json"), state.to_string()).expect("written");
    for name in ["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER"] {
        repo.set(name, "1");
    }
    let mut plain = Terminal::run(&repo, CommandBuilder::new(&program));
    let on_host = screens_of_session(&mut plain);
    plain.child.wait().expect("it ends");
    for (inside, outside) in in_sandbox.iter().zip(&on_host) {
        assert_eq!(comparable_lines(inside), comparable_lines(outside));
    }
    assert_eq!(repo.read("new.txt"), "made\n", "on the host, the file is really written");
}

#[test]
fn question_survives_a_resize_of_the_terminal() {
    let repo = TestRepo::new();
    let mut terminal = Terminal::start(&repo, &["run", "--name", "z", "--", "sh", "-c", "echo x >> a.txt"]);
    terminal.shows("Review now?");
    for rows in [20, 30, 25] {
        terminal.master.resize(PtySize { rows, cols: 90, pixel_width: 0, pixel_height: 0 }).expect("resized");
    }
    terminal.types("n\r");
    terminal.shows("kept. Next: airlock review z");
    assert!(terminal.child.wait().expect("it ends").success());
    // Ctrl-C is an answer as well: the sandbox is named.
    let mut terminal = Terminal::start(&repo, &["run", "--name", "y", "--", "sh", "-c", "echo x >> a.txt"]);
    terminal.shows("Review now?");
    terminal.types("\u{3}");
    let text = terminal.shows("\nairlock: kept. Next: airlock review y");
    assert_eq!(terminal.child.wait().expect("it ends").exit_code(), 130, "{text}");
}
