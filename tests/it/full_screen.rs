//! The full screen on a real pseudo-terminal: signals, the shell, the editor, a panic. Each time the terminal is sane
//! afterwards and what was decided is kept.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use airlock::review::{ReviewModel, ReviewState, read_draft};
use airlock::sandbox::Store;
use airlock::tui;
use airlock::tui::{App, ColorDepth, ReviewOptions, StyleSheet, Theme};
use portable_pty::CommandBuilder;
use rustix::process::{Pid, Signal, kill_process};

use crate::show::{Desk, PLAIN, Show, decided, sheet};
use crate::support::{AIRLOCK, TestRepo};
use crate::terminal::Terminal;

/// A sandbox that changed three lines of one file and made another.
fn sample_repo() -> TestRepo {
    let repo = TestRepo::empty();
    repo.write("a.txt", "one\nline two\nline three\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\n");
    repo.commit();
    repo.changeset("s", "sed -i 's/two/2/; s/three/3/; s/ten/10/' a.txt; echo new > b.txt");
    repo
}

fn decisions(repo: &TestRepo) -> Vec<String> {
    let diff = repo.diff("s");
    let files = diff["files"].as_array().expect("files").clone();
    let blocks = files.iter().flat_map(|f| f["hunks"].as_array().expect("hunks").clone());
    blocks.map(|b| b["decision"].as_str().expect("a decision").to_owned()).collect()
}

fn process(terminal: &Terminal) -> Pid {
    let id = terminal.child.process_id().expect("it runs");
    Pid::from_raw(i32::try_from(id).expect("small")).expect("not 0")
}

#[track_caller]
fn is_put_back(terminal: &Terminal) {
    assert!(terminal.is_sane(), "it reads lines and echoes");
    has_main_screen(terminal);
}

/// What came last may still be on its way.
#[track_caller]
fn has_main_screen(terminal: &Terminal) {
    let no_mouse = |s: &vt100::Screen| s.mouse_protocol_mode() == vt100::MouseProtocolMode::None;
    terminal.wait("main screen as it was", |s| {
        !s.alternate_screen() && !s.hide_cursor() && !s.bracketed_paste() && no_mouse(s)
    });
}

#[test]
fn some_lines_are_accepted_left_taken_up_again_and_applied() {
    let repo = sample_repo();
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("a.txt modified hunk 1/2");
    // Of the first hunk the second line alone; the second hunk whole.
    terminal.types("ljjvjyh[");
    terminal.shows("a.txt modified hunk 1/2 [in part]");
    terminal.types("q");
    terminal.shows("the decisions are saved");
    assert!(terminal.child.wait().expect("it ends").success());
    is_put_back(&terminal);
    assert_eq!(decisions(&repo), ["lines .y.y", "undecided", "undecided"]);
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("a.txt modified hunk 1/2 [in part]");
    terminal.types("]y");
    terminal.shows("1/3 decided");
    terminal.types("w");
    terminal.shows("What an apply would do");
    terminal.shows("apply      a.txt  1 whole, 1 in part or edited, of 2 hunks");
    terminal.types("y");
    terminal.shows("1 of 2 files applied");
    assert!(terminal.child.wait().expect("it ends").success());
    is_put_back(&terminal);
    assert_eq!(repo.read("a.txt"), "one\nline two\nline 3\nfour\nfive\nsix\nseven\neight\nnine\n10\neleven\n");
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n");
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), "");
}

#[test]
fn a_signal_puts_the_terminal_back_and_loses_nothing() {
    let repo = sample_repo();
    for (n, signal) in [Signal::TERM, Signal::INT, Signal::HUP].into_iter().enumerate() {
        let mut terminal = Terminal::start(&repo, &["review", "s"]);
        terminal.shows("2 files +4");
        terminal.types("{g ");
        terminal.wait("the draft", |_| decisions(&repo)[0] == ["accepted", "rejected", "undecided"][n]);
        kill_process(process(&terminal), signal).expect("it runs");
        let status = terminal.child.wait().expect("it ends");
        assert_eq!(status.exit_code(), 130, "{signal:?}");
        is_put_back(&terminal);
        terminal.shows("what was decided is saved");
    }
    // Killed at any moment: what was decided is in the draft.
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("2 files +4");
    terminal.types("]y");
    terminal.shows("1/3 decided");
    kill_process(process(&terminal), Signal::KILL).expect("it runs");
    terminal.child.wait().expect("it ends");
    assert_eq!(decisions(&repo), ["undecided", "accepted", "undecided"]);
}

#[test]
fn killed_at_any_moment_the_draft_is_what_some_of_the_keys_have_made() {
    let repo = sample_repo();
    let name = "s".parse().expect("a name");
    let sandbox = Store::of(&repo.path.join(".git")).open(&name).expect("opened").expect("it is there");
    let changes = Box::leak(Box::new(sandbox.changeset().expect("read").expect("collected")));
    let sheet =
        Box::leak(Box::new(ReviewModel::open(changes, &sandbox.quarantine().expect("opened")).expect("opened")));
    let draft = sandbox.path("draft.jsonl");
    let mut seed = 7_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).expect("small") % below
    };
    for round in 0..10 {
        let _ = std::fs::remove_file(&draft);
        let keys: String =
            (0..60).map(|_| ["y", "n", " ", "u", "]", "[", "j", "l", "h", "s", "\u{12}"][random(11)]).collect();
        // What each number of them comes to.
        let mut show = Show::on(sheet, ReviewState::default(), (100, 40), PLAIN);
        let mut states = vec![show.decided()];
        for key in keys.chars() {
            show.press(&if key == '\u{12}' { "<C-r>".to_owned() } else { key.to_string() });
            states.push(show.decided());
        }
        let mut terminal = Terminal::start(&repo, &["review", "s"]);
        terminal.shows("2 files +4");
        terminal.types(&keys);
        let wanted = 1 + random(30);
        let lines = || std::fs::read(&draft).map_or(0, |bytes| bytes.iter().filter(|b| **b == b'\n').count());
        let end = Instant::now() + Duration::from_secs(60);
        while lines() < wanted && lines() < show.desk.kept.len() {
            assert!(Instant::now() < end, "round {round}: {} lines of {wanted}", lines());
            std::thread::yield_now();
        }
        kill_process(process(&terminal), Signal::KILL).expect("it runs");
        terminal.child.wait().expect("it ends");
        let kept = decided(sheet, &read_draft(&draft).expect("it can be read"));
        assert!(states.contains(&kept), "round {round}, keys {keys:?}: {kept:?}");
    }
}

#[test]
fn the_shell_gets_the_terminal_and_gives_it_back() {
    let repo = sample_repo();
    let mut command = CommandBuilder::new("bash");
    command.args(["--norc", "--noprofile", "-i"]);
    let mut terminal = Terminal::run(&repo, command);
    terminal.types(&format!("PS1='shell> '; {AIRLOCK} review s\n"));
    terminal.shows("a.txt modified hunk 1/2");
    terminal.types("y\u{1a}");
    terminal.shows("Stopped");
    terminal.wait("prompt", |s| s.contents().trim_end().ends_with("shell>"));
    terminal.types("echo back in the shell\n");
    terminal.shows("\nback in the shell");
    // The shell edits lines, and has the terminal its own way.
    let off = |s: &vt100::Screen| s.mouse_protocol_mode() == vt100::MouseProtocolMode::None;
    terminal.wait("main screen", |s| !s.alternate_screen() && !s.hide_cursor() && off(s));
    terminal.types("fg\n");
    terminal.shows("a.txt modified hunk 2/2");
    terminal.types("yq");
    terminal.shows("the decisions are saved");
    terminal.types("exit\n");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_eq!(decisions(&repo), ["accepted", "accepted", "undecided"]);
}

#[test]
fn the_editor_gets_the_terminal() {
    let mut repo = sample_repo();
    // It asks on the terminal, as an editor does, and the repository's own configuration has no say.
    let editor = repo.path.parent().expect("a folder").join("editor");
    std::fs::write(&editor, "#!/bin/sh\nprintf 'edit %s? ' \"${1##*/}\"; read answer; echo \"$answer\" > \"$1\"\n")
        .and_then(|()| std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)))
        .expect("written");
    repo.set("EDITOR", editor.to_str().expect("UTF-8"));
    repo.git(&["config", "core.editor", "false"]);
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("a.txt modified hunk 1/2");
    terminal.types("]e");
    terminal.shows("edit proposal.txt?");
    assert!(terminal.is_sane(), "the editor has a terminal as it was");
    terminal.types("TEN\n");
    terminal.shows("edited, and accepted so");
    terminal.shows("your text, in its place");
    terminal.types("w");
    terminal.shows("What an apply would do");
    terminal.types("y");
    terminal.shows("1 of 2 files applied");
    assert!(terminal.child.wait().expect("it ends").success());
    is_put_back(&terminal);
    assert_eq!(repo.read("a.txt"), "one\nline two\nline three\nfour\nfive\nsix\nseven\neight\nnine\nTEN\neleven\n");
}

#[test]
fn an_editor_that_does_not_wait_loses_nothing() {
    let mut repo = sample_repo();
    let folder = repo.path.parent().expect("a folder");
    let (editor, name) = (folder.join("editor"), folder.join("name"));
    std::fs::write(&editor, format!("#!/bin/sh\nprintf '%s' \"$1\" > {}\n", name.display()))
        .and_then(|()| std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)))
        .expect("written");
    repo.set("EDITOR", editor.to_str().expect("UTF-8"));
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("a.txt modified hunk 1/2");
    terminal.types("e");
    terminal.shows("does your editor wait? (code --wait)");
    let file = std::fs::read_to_string(&name).expect("it says so");
    std::fs::OpenOptions::new().write(true).open(&file).expect("it is there to be saved to");
    terminal.types("q");
    terminal.shows("nothing is accepted");
    assert!(terminal.child.wait().expect("it ends").success());
    assert!(!std::path::Path::new(&file).exists(), "it goes with the review");
}

#[test]
fn the_editor_can_be_stopped_and_gone_on_with() {
    let mut repo = sample_repo();
    let editor = repo.path.parent().expect("a folder").join("editor");
    std::fs::write(&editor, "#!/bin/sh\necho $$ > pid; printf 'editing? '; read answer; echo \"$answer\" > \"$1\"\n")
        .and_then(|()| std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)))
        .expect("written");
    repo.set("EDITOR", editor.to_str().expect("UTF-8"));
    let mut command = CommandBuilder::new("bash");
    command.args(["--norc", "--noprofile", "-i"]);
    let mut terminal = Terminal::run(&repo, command);
    terminal.types(&format!("PS1='shell> '; {AIRLOCK} review s\n"));
    terminal.shows("a.txt modified hunk 1/2");
    terminal.types("]e");
    terminal.shows("editing?");
    terminal.types("\u{1a}");
    terminal.shows("Stopped");
    // What still reads would get what is for the shell.
    let editor = std::fs::read_to_string(repo.path.join("pid")).expect("it says so");
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", editor.trim())).expect("it is there");
    let end = Instant::now() + Duration::from_secs(60);
    while !stat().contains(") T ") {
        assert!(Instant::now() < end, "{}", stat());
        std::thread::yield_now();
    }
    terminal.wait("prompt", |s| s.contents().trim_end().ends_with("shell>"));
    terminal.types("echo back in the shell\n");
    terminal.shows("\nback in the shell");
    terminal.types("fg\n");
    terminal.shows("review s\n");
    terminal.types("TEN\n");
    terminal.shows("edited, and accepted so");
    terminal.types("q");
    terminal.shows("the decisions are saved");
    terminal.types("exit\n");
    assert!(terminal.child.wait().expect("it ends").success());
    assert!(decisions(&repo)[1].starts_with("edited "), "{:?}", decisions(&repo));
}

#[test]
fn what_is_typed_ahead_answers_no_question() {
    let repo = sample_repo();
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("a.txt modified hunk 1/2");
    terminal.types("Dyyyy");
    terminal.shows("Reject 3 undecided hunks in 2 files? [y/n]");
    assert_eq!(decisions(&repo), ["undecided"; 3]);
    terminal.types("n");
    terminal.shows("y accept");
    terminal.types("q");
    assert!(terminal.child.wait().expect("it ends").success());
}

#[test]
fn the_window_is_resized() {
    let repo = sample_repo();
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("a.txt modified hunk 1/2");
    let size = portable_pty::PtySize { rows: 10, cols: 40, pixel_width: 0, pixel_height: 0 };
    terminal.screen.0.lock().expect("no panic").screen_mut().set_size(10, 40);
    terminal.master.resize(size).expect("resized");
    terminal.wait("a narrow screen", |s| s.contents().lines().any(|l| l == format!("└{}┘", "─".repeat(38))));
    terminal.types("q");
    assert!(terminal.child.wait().expect("it ends").success());
    is_put_back(&terminal);
}

#[test]
fn without_a_terminal_or_on_a_dumb_one_it_asks_line_by_line() {
    let mut repo = sample_repo();
    let ran = repo.airlock(&["review", "s"]).ok();
    assert!(ran.stdout.contains("(1/3) a.txt Apply?"), "{ran:?}");
    repo.set("TERM", "dumb");
    let mut terminal = Terminal::start(&repo, &["review", "--plain", "s"]);
    terminal.shows("(1/3) a.txt Apply?");
    terminal.types("s\n");
    terminal.shows("(1/4) a.txt Apply?");
    terminal.types("y\nq\n");
    terminal.shows("the decisions are saved");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_eq!(decisions(&repo), ["lines y.y.", "undecided", "undecided"]);
}

#[test]
fn a_diff_goes_to_the_users_pager() {
    let mut repo = sample_repo();
    repo.git(&["config", "core.pager", "echo of the repository"]);
    repo.set("PAGER", "sed s/^/paged:/");
    let mut terminal = Terminal::start(&repo, &["diff", "s"]);
    terminal.shows("paged:modified  a.txt");
    assert!(terminal.child.wait().expect("it ends").success());
    let mut terminal = Terminal::start(&repo, &["diff", "s", "--no-pager"]);
    let shown = terminal.shows("next: airlock review s");
    assert!(!shown.contains("paged:") && shown.contains("modified  a.txt"), "{shown}");
    assert!(terminal.child.wait().expect("it ends").success());
    // Whoever leaves the pager early has seen enough.
    repo.set("PAGER", "true");
    let mut terminal = Terminal::start(&repo, &["diff", "s"]);
    terminal.shows("next: airlock review s");
    assert!(terminal.child.wait().expect("it ends").success());
    // Off a terminal there is none.
    repo.set("PAGER", "false");
    assert!(repo.airlock(&["diff", "s"]).ok().stdout.starts_with("modified  a.txt"));
}

#[test]
fn a_panic_puts_the_terminal_back() {
    let repo = TestRepo::empty();
    let mut command = CommandBuilder::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "full_screen::panics_on_a_terminal", "--ignored", "--nocapture"]);
    let mut terminal = Terminal::run(&repo, command);
    terminal.shows("a.txt added hunk 1/1");
    terminal.types("yw");
    terminal.shows("a plan that panics");
    assert!(!terminal.child.wait().expect("it ends").success());
    is_put_back(&terminal);
}

/// Not a test of its own: what [`a_panic_puts_the_terminal_back`] starts on a terminal.
#[test]
#[ignore = "it panics, on a terminal"]
fn panics_on_a_terminal() {
    let sheet = sheet(&[("a.txt", None, Some("x\n"))], &[]);
    let look = StyleSheet { depth: ColorDepth::None, theme: Theme::Dark, unicode: true };
    let opening = ReviewOptions { name: "s".into(), look, since: None, cannot_send: None };
    let mut app = App::new(sheet, ReviewState::default(), opening);
    let mut desk = Desk { panics: true, ..Desk::default() };
    let _ = tui::run(&mut app, &mut desk);
}
