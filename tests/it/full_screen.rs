//! The full screen on a real pseudo-terminal: signals, the shell, the editor, a panic. Each test requires that the
//! terminal is sane afterwards and that no decision is lost.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use airlock::review::{ReviewModel, ReviewState, read_draft};
use airlock::sandbox::SandboxStore;
use airlock::tui;
use airlock::tui::{App, Keymap, ReviewOptions};
use insta::assert_snapshot;
use portable_pty::CommandBuilder;
use rustix::process::{Pid, Signal, kill_process};

use crate::show::{FakeReviewHost, PLAIN, ReviewFixture, describe_decisions, sheet};
use crate::support::{AIRLOCK, TestRepo};
use crate::terminal::Terminal;

/// Creates a repository with a sandbox that changed three lines of one file and added another file.
fn sample_repo() -> TestRepo {
    let repo = TestRepo::empty();
    repo.write("a.txt", "one\nline two\nline three\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\n");
    repo.commit();
    repo.changeset("s", "sed -i 's/two/2/; s/three/3/; s/ten/10/' a.txt; echo new > b.txt");
    repo
}

fn read_decisions(repo: &TestRepo) -> Vec<String> {
    let diff = repo.diff("s");
    let files = diff["files"].as_array().expect("files").clone();
    let hunks = files.iter().flat_map(|f| f["hunks"].as_array().expect("hunks").clone());
    hunks.map(|hunk| hunk["decision"].as_str().expect("a decision").to_owned()).collect()
}

fn process_id(terminal: &Terminal) -> Pid {
    let id = terminal.child.process_id().expect("it runs");
    Pid::from_raw(i32::try_from(id).expect("small")).expect("not 0")
}

#[track_caller]
fn assert_terminal_restored(terminal: &Terminal) {
    assert!(terminal.is_sane(), "the terminal reads lines and echoes");
    assert_main_screen(terminal);
}

/// Waits for the main screen: the last output may arrive after the program has ended.
#[track_caller]
fn assert_main_screen(terminal: &Terminal) {
    let no_mouse = |s: &vt100::Screen| s.mouse_protocol_mode() == vt100::MouseProtocolMode::None;
    terminal.wait("main screen as it was", |s| {
        !s.alternate_screen() && !s.hide_cursor() && !s.bracketed_paste() && no_mouse(s)
    });
}

#[test]
fn review_applies_lines_over_two_sessions() {
    let repo = sample_repo();
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("a.txt modified hunk 1/2");
    // The second line of the first hunk, removed and added, and the whole second hunk.
    terminal.types("ljyjyh");
    terminal.shows("a.txt modified hunk 1/2 [in part]");
    terminal.types("q");
    terminal.shows("the decisions are saved");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_terminal_restored(&terminal);
    assert_eq!(read_decisions(&repo), ["lines .y.y", "undecided", "undecided"]);
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("a.txt modified hunk 1/2 [in part]");
    terminal.types("]y");
    terminal.shows("1/3 decided");
    terminal.types("w");
    terminal.shows("Preview of the apply");
    terminal.shows("apply      a.txt  1 whole and 1 partial or edited of 2 hunks");
    terminal.types("y");
    terminal.shows("1 of 2 files applied");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_terminal_restored(&terminal);
    assert_eq!(repo.read("a.txt"), "one\nline two\nline 3\nfour\nfive\nsix\nseven\neight\nnine\n10\neleven\n");
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n");
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), "");
}

#[test]
fn conflict_is_marked_when_the_tree_changes_and_resolved_in_the_review() {
    let repo = sample_repo();
    let before = repo.read("a.txt");
    let mine = before.replace("line three\n", "my three\n").replace("\nseven\n", "\nseven of mine\n");
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("a.txt modified hunk 1/2");
    // The marks follow the working tree.
    repo.write("a.txt", &mine);
    terminal.shows("hunk 1/2 [undecided] ≠ conflict");
    terminal.shows("| my three");
    repo.write("a.txt", &before);
    terminal.wait("review without a mark", |screen| !screen.contents().contains('≠'));
    repo.write("a.txt", &mine);
    terminal.shows("| my three");
    terminal.types("x");
    terminal.shows("ours (working tree), lines 2 to 3");
    terminal.types("b");
    terminal.shows("the conflict is resolved: Enter goes back");
    // Choosing has accepted the hunk. The result is shown at it, and in the preview of the file.
    terminal.types("\r");
    terminal.shows("hunk 1/2 [accepted] ≠ resolved");
    terminal.shows("| line 2");
    terminal.types("p");
    terminal.shows("a.txt as the apply would leave it");
    terminal.shows("my three");
    terminal.types("q]y");
    terminal.shows("2/3 decided");
    terminal.types("w");
    terminal.shows("resolve    a.txt");
    // The working tree changes in the region after the choice: it is a conflict again, and nothing is written.
    let other = mine.replace("my three\n", "my other three\n");
    repo.write("a.txt", &other);
    terminal.types("y");
    terminal.shows("1 conflict; nothing was written");
    assert_eq!(terminal.ends().exit_code(), 4);
    assert_eq!(repo.read("a.txt"), other);
    // With the state that it was made for, the choice counts, also for the command.
    repo.write("a.txt", &mine);
    repo.airlock(&["apply", "s"]).ok();
    let merged = mine.replace("line two\nmy three\n", "line two\nmy three\nline 2\nline 3\n").replace("ten\n", "10\n");
    assert_eq!(repo.read("a.txt"), merged);
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.read("a.txt"), mine);
    // A selection of the command line uses it as well.
    repo.airlock(&["apply", "s", "--accept", "a.txt"]).ok();
    assert_eq!(repo.read("a.txt"), merged);
}

#[test]
fn resolved_text_is_checked_for_risks() {
    let mut repo = sample_repo();
    let editor = repo.path.parent().expect("a folder").join("editor");
    std::fs::write(&editor, "#!/bin/sh\nprintf 'hidden \\342\\200\\256 text\\n' > \"$1\"\n")
        .and_then(|()| std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o755)))
        .expect("written");
    repo.set("EDITOR", editor.to_str().expect("UTF-8"));
    repo.write("a.txt", repo.read("a.txt").replace("line three\n", "my three\n"));
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("≠ conflict");
    terminal.types("x");
    terminal.shows("ours (working tree)");
    terminal.types("e");
    terminal.shows("result: your text");
    terminal.types("\rw");
    terminal.shows("resolve    a.txt");
    terminal.types("y");
    terminal.ends();
    terminal.shows("what would be written to a.txt is riskier than the whole change");
}

#[test]
fn review_keeps_draft_after_signal() {
    let repo = sample_repo();
    for (n, signal) in [Signal::TERM, Signal::INT, Signal::HUP].into_iter().enumerate() {
        let mut terminal = Terminal::start(&repo, &["review", "s"]);
        terminal.shows("2 files +4");
        terminal.types("{g ");
        terminal.wait("the draft", |_| read_decisions(&repo)[0] == ["accepted", "rejected", "undecided"][n]);
        kill_process(process_id(&terminal), signal).expect("it runs");
        let status = terminal.child.wait().expect("it ends");
        assert_eq!(status.exit_code(), 130, "{signal:?}");
        assert_terminal_restored(&terminal);
        terminal.shows("the decisions are saved");
    }
    // After a SIGKILL, the draft has the decisions.
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("2 files +4");
    terminal.types("]y");
    terminal.shows("1/3 decided");
    kill_process(process_id(&terminal), Signal::KILL).expect("it runs");
    terminal.child.wait().expect("it ends");
    assert_eq!(read_decisions(&repo), ["undecided", "accepted", "undecided"]);
}

#[test]
fn draft_matches_some_key_after_kill() {
    let repo = sample_repo();
    let name = "s".parse().expect("a name");
    let sandbox = SandboxStore::new(&repo.path.join(".git")).open(&name).expect("opened").expect("the sandbox exists");
    let changes = Box::leak(Box::new(sandbox.read_changeset().expect("read").expect("collected")));
    let model =
        Box::leak(Box::new(ReviewModel::open(changes, &sandbox.open_quarantine().expect("opened")).expect("opened")));
    let draft = sandbox.file_path("draft.jsonl");
    let mut seed = 7_u64;
    let mut random = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).expect("small") % below
    };
    for round in 0..10 {
        let _ = std::fs::remove_file(&draft);
        let keys: String =
            (0..60).map(|_| ["y", "n", " ", "u", "]", "[", "j", "l", "h", "s", "\u{12}"][random(11)]).collect();
        // The decisions after each key.
        let mut review = ReviewFixture::open(model, ReviewState::default(), (100, 40), PLAIN);
        let mut states = vec![review.decisions()];
        for key in keys.chars() {
            review.press(&if key == '\u{12}' { "<C-r>".to_owned() } else { key.to_string() });
            states.push(review.decisions());
        }
        let mut terminal = Terminal::start(&repo, &["review", "s"]);
        terminal.shows("2 files +4");
        terminal.types(&keys);
        let wanted = 1 + random(30);
        let lines = || std::fs::read(&draft).map_or(0, |bytes| bytes.iter().filter(|b| **b == b'\n').count());
        let end = Instant::now() + Duration::from_secs(60);
        while lines() < wanted && lines() < review.host.saved_events.len() {
            assert!(Instant::now() < end, "round {round}: {} lines of {wanted}", lines());
            std::thread::yield_now();
        }
        kill_process(process_id(&terminal), Signal::KILL).expect("it runs");
        terminal.child.wait().expect("it ends");
        let kept = describe_decisions(model, &read_draft(&draft).expect("it can be read"));
        assert!(states.contains(&kept), "round {round}, keys {keys:?}: {kept:?}");
    }
}

#[test]
fn review_suspends_to_shell_and_resumes() {
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
    // The shell edits lines, so it has its own terminal mode and only the screen can be checked.
    let off = |s: &vt100::Screen| s.mouse_protocol_mode() == vt100::MouseProtocolMode::None;
    terminal.wait("main screen", |s| !s.alternate_screen() && !s.hide_cursor() && off(s));
    terminal.types("fg\n");
    terminal.shows("a.txt modified hunk 2/2");
    terminal.types("yq");
    terminal.shows("the decisions are saved");
    terminal.types("exit\n");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_eq!(read_decisions(&repo), ["accepted", "accepted", "undecided"]);
}

#[test]
fn editor_gets_terminal() {
    let mut repo = sample_repo();
    // The editor uses the terminal. `core.editor` of the repository is ignored.
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
    assert!(terminal.is_sane(), "the editor has a terminal in its original mode");
    terminal.types("TEN\n");
    terminal.shows("edited and accepted");
    terminal.shows("your text instead");
    terminal.types("w");
    terminal.shows("Preview of the apply");
    terminal.types("y");
    terminal.shows("1 of 2 files applied");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_terminal_restored(&terminal);
    assert_eq!(repo.read("a.txt"), "one\nline two\nline three\nfour\nfive\nsix\nseven\neight\nnine\nTEN\neleven\n");
}

#[test]
fn editor_that_detaches_loses_nothing() {
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
    let file = std::fs::read_to_string(&name).expect("the editor wrote the name");
    std::fs::OpenOptions::new().write(true).open(&file).expect("the file exists, so that the editor can save it");
    terminal.types("q");
    terminal.shows("nothing is accepted");
    assert!(terminal.child.wait().expect("it ends").success());
    assert!(!std::path::Path::new(&file).exists(), "the review removes the file");
}

#[test]
fn editor_suspends_and_resumes() {
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
    // An editor that is not stopped yet would read the input of the shell.
    let editor = std::fs::read_to_string(repo.path.join("pid")).expect("the editor wrote its process ID");
    let stat = || std::fs::read_to_string(format!("/proc/{}/stat", editor.trim())).expect("the process exists");
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
    terminal.shows("edited and accepted");
    terminal.types("q");
    terminal.shows("the decisions are saved");
    terminal.types("exit\n");
    assert!(terminal.child.wait().expect("it ends").success());
    assert!(read_decisions(&repo)[1].starts_with("edited "), "{:?}", read_decisions(&repo));
}

#[test]
fn review_ignores_typed_ahead_answers() {
    let repo = sample_repo();
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("a.txt modified hunk 1/2");
    terminal.types("Dyyyy");
    terminal.shows("Reject 3 undecided hunks in 2 files? [y/n]");
    assert_eq!(read_decisions(&repo), ["undecided"; 3]);
    terminal.types("n");
    terminal.shows("y accept");
    terminal.types("q");
    assert!(terminal.child.wait().expect("it ends").success());
}

#[test]
fn held_key_does_not_answer_the_dialog_that_it_opened() {
    let mut repo = sample_repo();
    let config = repo.directory().join("config");
    std::fs::create_dir_all(config.join("airlock")).expect("created");
    std::fs::write(config.join("airlock/config.toml"), "[keys]\napply = \"s\"\n").expect("written");
    repo.set("XDG_CONFIG_HOME", config.to_str().expect("UTF-8"));
    let mine = repo.read("a.txt").replace("line two", "mine");
    repo.write("a.txt", &mine);
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("a.txt modified hunk 1/2");
    terminal.types("aG");
    terminal.types("s");
    terminal.shows("Preview of the apply");
    // In the dialog, the same key skips the conflicts and applies the rest.
    terminal.types("s");
    terminal.shows("too fast after the key that asked: press it again");
    terminal.types("\u{1b}");
    terminal.shows("␣ toggle");
    terminal.types("q");
    terminal.shows("the decisions are saved");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_eq!(repo.read("a.txt"), mine);
    assert!(!repo.path.join("b.txt").exists());
}

#[test]
fn apply_and_stay_says_that_it_applied() {
    let repo = sample_repo();
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("a.txt modified hunk 1/2");
    terminal.types("yw");
    terminal.shows("Preview of the apply");
    terminal.types("Y");
    terminal.shows("applied; to undo it, run airlock undo s");
    terminal.types("q");
    terminal.shows("the decisions are saved. Next: airlock review s");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_ne!(repo.git(&["status", "--short"]), "");
}

#[test]
fn review_follows_window_resize() {
    let repo = sample_repo();
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("a.txt modified hunk 1/2");
    let size = portable_pty::PtySize { rows: 10, cols: 40, pixel_width: 0, pixel_height: 0 };
    terminal.screen.0.lock().expect("no panic").screen_mut().set_size(10, 40);
    terminal.master.resize(size).expect("resized");
    terminal.wait("a narrow screen", |s| s.contents().lines().any(|l| l == format!("└{}┘", "─".repeat(38))));
    terminal.types("q");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_terminal_restored(&terminal);
}

#[test]
fn review_falls_back_to_line_prompts() {
    let mut repo = sample_repo();
    assert_snapshot!(repo.airlock(&["review", "s"]), @"
    status: 0
    ----- stdout -----

    modified  a.txt
    @@ -1,6 +1,6 @@
     one
    -line two
    -line three
    +line 2
    +line 3
     four
     five
     six
    (1/3) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    ----- stderr -----
    airlock: nothing is accepted. Next: airlock review s, or airlock rm s
    ");
    repo.set("TERM", "dumb");
    let mut terminal = Terminal::start(&repo, &["review", "--plain", "s"]);
    terminal.shows("(1/3) a.txt Apply?");
    terminal.types("s\n");
    terminal.shows("(1/4) a.txt Apply?");
    terminal.types("y\nq\n");
    terminal.shows("the decisions are saved");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_eq!(read_decisions(&repo), ["lines y.y.", "undecided", "undecided"]);
}

#[test]
fn diff_uses_pager_on_terminal() {
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
    // A pager that ends early is not an error.
    repo.set("PAGER", "true");
    let mut terminal = Terminal::start(&repo, &["diff", "s"]);
    terminal.shows("next: airlock review s");
    assert!(terminal.child.wait().expect("it ends").success());
    // Without a terminal, no pager runs.
    repo.set("PAGER", "false");
    assert_snapshot!(repo.airlock(&["diff", "s"]), @"
    status: 0
    ----- stdout -----
    modified  a.txt
    @@ -1,11 +1,11 @@
     one
    -line two
    -line three
    +line 2
    +line 3
     four
     five
     six
     seven
     eight
     nine
    -ten
    +10
     eleven

    added  b.txt
    @@ -0,0 +1 @@
    +new
    ");
}

/// Set in the process that runs the review that panics.
const PANIC_VARIABLE: &str = "AIRLOCK_TEST_PANIC";

#[test]
fn panic_restores_terminal() {
    if std::env::var_os(PANIC_VARIABLE).is_some() {
        return run_panicking_review();
    }
    let mut repo = TestRepo::empty();
    repo.set(PANIC_VARIABLE, "1");
    let mut command = CommandBuilder::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "full_screen::panic_restores_terminal", "--nocapture"]);
    let mut terminal = Terminal::run(&repo, command);
    terminal.shows("a.txt added hunk 1/1");
    terminal.types("yw");
    terminal.shows("a plan that panics");
    assert!(!terminal.child.wait().expect("it ends").success());
    assert_terminal_restored(&terminal);
}

/// Runs a review on the terminal of this process, and panics in it.
fn run_panicking_review() {
    let model = sheet(&[("a.txt", None, Some("x\n"))], &[]);
    let options = ReviewOptions {
        name: "s".into(),
        styles: PLAIN,
        round_diff: None,
        cannot_send: None,
        start_at: None,
        notice: None,
        commits: Vec::new(),
        keymap: Keymap::default(),
    };
    let mut app = App::new(model, ReviewState::default(), options);
    let mut host = FakeReviewHost { panics: true, ..FakeReviewHost::default() };
    let _ = tui::run(&mut app, &mut host, None);
}
