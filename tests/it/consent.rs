//! Tests of consent: only accepted changes are applied, and only a key press of a person accepts.

use std::fs;

use insta::assert_snapshot;

use crate::support::{AIRLOCK, CommandOutput, TestRepo};
use crate::terminal::Terminal;

/// Commits the two templates of a pair, and returns the script that fills them in.
fn write_template_pair(repo: &TestRepo, other: &str, target: &str, nonces: [&str; 2]) -> String {
    for (template, name) in [("notes.txt", "a"), (other, "b")] {
        repo.write(name, fs::read(format!("fixtures/hostile/same-id/{template}")).expect("the fixture exists"));
    }
    repo.commit();
    let [first, second] = nonces;
    format!("sed s/%s/{first}/ a > notes.txt; mkdir -p .hg; sed s/%s/{second}/ b > {target}")
}

/// The IDs of the two hunks had the same first 64 bits when they were only 64 bits long.
#[test]
fn hunks_with_similar_ids_are_decided_separately() {
    let nonces = ["9a7267df646394e4", "0553b18342c3dc93"];
    for args in [&["--accept", "notes.txt"][..], &["--accept-all", "--reject", ".envrc"], &["--accept-all"]] {
        let repo = TestRepo::new();
        let script = write_template_pair(&repo, "envrc", ".envrc", nonces);
        repo.changeset("c", &script);
        let ids = read_hunk_ids(&repo, "c");
        assert_eq!(ids.len(), 2);
        assert_ne!(ids[0], ids[1]);
        assert!(ids.iter().all(|id| id.len() == 64), "{ids:?}");
        repo.airlock(&[&["apply", "c"], args].concat()).ok();
        assert!(repo.path.join("notes.txt").exists() && !repo.path.join(".envrc").exists(), "{args:?}");
    }
    let repo = TestRepo::new();
    let script = write_template_pair(&repo, "envrc", ".envrc", nonces);
    repo.changeset("c", &script);
    repo.airlock_with_input(&["review", "c", "--plain"], "j\ny\nq\n").ok();
    repo.airlock(&["apply", "c"]).ok();
    assert!(repo.path.join("notes.txt").exists() && !repo.path.join(".envrc").exists());
}

/// The second hunk is in a file that cannot be accepted.
#[test]
fn refused_file_is_never_applied() {
    let repo = TestRepo::new();
    let script = write_template_pair(&repo, "hgrc", ".hg/hgrc", ["5c72f99094570b3a", "0795f32a809f410b"]);
    repo.changeset("h", &script);
    repo.airlock_with_input(&["review", "h", "--plain"], "y\nq\n").ok();
    repo.airlock(&["apply", "h"]).ok();
    assert!(repo.path.join("notes.txt").exists() && !repo.path.join(".hg").exists());
    repo.airlock(&["undo", "h"]).ok();
    for args in [&["--accept", "notes.txt"][..], &["--accept-all", "--allow-risky"]] {
        repo.airlock(&[&["apply", "h"], args].concat()).ok();
        assert!(repo.path.join("notes.txt").exists() && !repo.path.join(".hg").exists(), "{args:?}");
        repo.airlock(&["undo", "h"]).ok();
    }
    repo.git(&["config", "user.name", "Ann"]);
    repo.git(&["config", "user.email", "ann@example.org"]);
    repo.airlock(&["apply", "h", "--accept-all", "--allow-risky", "--to", "branch:applied"]).ok();
    assert_eq!(repo.git(&["diff", "--name-only", "main", "applied"]), "notes.txt\n");
}

/// Returns the IDs of all hunks of a sandbox.
fn read_hunk_ids(repo: &TestRepo, name: &str) -> Vec<String> {
    let diff = repo.diff(name);
    let files = diff["files"].as_array().expect("a list").iter();
    let hunks = files.flat_map(|f| f["hunks"].as_array().expect("a list").clone());
    hunks.map(|hunk| hunk["id"].as_str().expect("a string").to_owned()).collect()
}

#[test]
fn accept_id_takes_unique_prefix() {
    let repo = TestRepo::new();
    repo.changeset("p", "echo x >> a.txt; echo y > new.txt");
    let ids = read_hunk_ids(&repo, "p");
    repo.airlock(&["apply", "p", "--accept-id", &ids[0][..12]]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");
    assert!(!repo.path.join("new.txt").exists());
    // The prefixes are too short to identify one hunk.
    assert_snapshot!(repo.airlock(&["apply", "p", "--accept-id", &ids[1][..4]]), @"
    status: 5
    ----- stderr -----
    error: this changeset has no hunk `1246`
    hint: to list the current IDs, run `airlock diff p --json`
    ");
    assert_snapshot!(repo.airlock(&["apply", "p", "--accept-id", ""]), @"
    status: 5
    ----- stderr -----
    error: this changeset has no hunk ``
    hint: to list the current IDs, run `airlock diff p --json`
    ");
}

#[test]
fn decision_file_cannot_move_hunk_to_other_path() {
    let repo = TestRepo::new();
    repo.changeset("f", "echo x >> a.txt; echo y > new.txt");
    let text = repo.airlock(&["review", "f", "--export", "-"]).ok().stdout;
    let mut file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let moved = file["files"][1]["hunks"][0].take();
    file["files"][1]["hunks"] = serde_json::json!([]);
    file["files"][0]["hunks"].as_array_mut().expect("a list").push(moved);
    assert_snapshot!(repo.airlock_with_input(&["apply", "f", "--decisions", "-"], &file.to_string()), @"
    status: 1
    ----- stderr -----
    error: -: hunk [SHA256] of new.txt: it is listed under a.txt; no decisions were read
    ");
}

/// Waits for the last query that Airlock sends after an agent, and returns the number of the mode that it asks for.
pub fn question(terminal: &Terminal) -> String {
    terminal.receives(b"$p\x1b[c");
    let raw = terminal.raw.lock().expect("no panic").clone();
    let text = String::from_utf8_lossy(&raw);
    let (before, _) = text.rsplit_once("$p\u{1b}[c").expect("the mode is queried");
    before.rsplit_once("\u{1b}[?").expect("a sequence").1.to_owned()
}

#[test]
fn review_ignores_late_terminal_answers() {
    let repo = TestRepo::new();
    let script = "echo evil > new.txt; printf '\\033[>0q\\033[=c\\033[6n\\033[c\\033[c'";
    let args = ["run", "--name", "late", "--review", "always", "--", "sh", "-c", script];
    let mut terminal = Terminal::mute(&repo, &args);
    let mode = question(&terminal);
    let raw = terminal.raw.lock().expect("no panic").clone();
    let has = |bytes: &[u8]| raw.windows(bytes.len()).any(|w| w == bytes);
    assert!(!has(b"\x1b[>") && !has(b"\x1b[="), "a query that is answered with text reached the terminal");
    assert!(has(b"\x1b[6n\x1b[c\x1b[c"), "the other queries did not reach the terminal");
    // Two answers to the agent's queries look like the last one. The answer to Airlock's query follows later, after a
    // text that contains keys.
    terminal.types("\u{1b}[1;1R\u{1b}[?62;22c\u{1b}[?62;22c");
    terminal.types("\u{1b}P>|kitty(0.36.4)\u{1b}\\yyye");
    terminal.shows("waiting for the terminal to answer");
    terminal.types(&format!("yA\u{1b}[?{mode};0$y\u{1b}[?62;22c"));
    terminal.shows("new.txt added");
    terminal.shows("0/1 decided");
    terminal.types("q");
    terminal.shows("airlock review late");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_eq!(repo.diff("late")["files"][0]["hunks"][0]["decision"], "undecided");
}

#[test]
fn review_counts_answers_without_mode_support() {
    let repo = TestRepo::new();
    let script = "echo x >> a.txt; printf '\\033[c\\033[c'";
    let args = ["run", "--name", "old", "--review", "always", "--", "sh", "-c", script];
    let mut terminal = Terminal::mute(&repo, &args);
    question(&terminal);
    // Two answers to the agent's queries, and one to Airlock's query.
    terminal.types("\u{1b}[?6c\u{1b}[?6cyy");
    terminal.shows("waiting for the terminal to answer");
    terminal.types("\u{1b}[?6c");
    terminal.shows("0/1 decided");
    terminal.types("q");
    assert!(terminal.child.wait().expect("it ends").success());
}

#[test]
fn review_is_not_started_by_silent_terminal() {
    let repo = TestRepo::new();
    let script = "echo x >> a.txt; printf '\\033[6n'";
    let args = ["run", "--name", "mute", "--review", "always", "--", "sh", "-c", script];
    let mut terminal = Terminal::mute(&repo, &args);
    terminal.shows("waiting for the terminal to answer (Enter: stop waiting)");
    terminal.types("\r");
    terminal.shows("answer (Enter: skip the review)");
    terminal.types("\u{1b}P>|XTerm(390)yyy\u{1b}\\yy\r");
    terminal.shows("kept. Next: airlock review mute");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_eq!(repo.diff("mute")["files"][0]["hunks"][0]["decision"], "undecided");
    // If the agent sent no query, a late key does not count either. It may answer a question that the agent printed.
    let args = ["run", "--name", "silent", "--review", "always", "--", "sh", "-c", "echo x >> a.txt"];
    let mut terminal = Terminal::mute(&repo, &args);
    terminal.shows("answer (Enter: skip the review)");
    terminal.types("yy\r");
    terminal.shows("kept. Next: airlock review silent");
    assert!(terminal.child.wait().expect("it ends").success());
}

/// The link is slow, and the user does not wait. Answers of the terminal that a read splits after ESC look like keys,
/// such as `y`. The review starts when the answer to Airlock's query arrives, and not on a key.
#[test]
fn review_starts_only_after_query_is_answered() {
    let repo = TestRepo::new();
    let script = "echo x > .envrc; echo x >> a.txt; printf '\\033[?u\\033[4$p\\033[4$p\\033[4$p'";
    let args = ["run", "--name", "slow", "--review", "always", "--", "sh", "-c", script];
    let mut terminal = Terminal::mute(&repo, &args);
    terminal.shows("waiting for the terminal to answer (Enter: stop waiting)");
    let first = question(&terminal);
    terminal.types("\r");
    terminal.shows("answer (Enter: skip the review)");
    terminal.receives_times(b"$p\x1b[c", 2);
    let second = question(&terminal);
    for part in
        ["\u{1b}[?0u\u{1b}", "[4;2$y\u{1b}", "[4;2$y\u{1b}", &format!("[4;2$y\u{1b}[?{first};0$y\u{1b}[?62;22c\u{1b}")]
    {
        terminal.types(part);
    }
    terminal.types(&format!("[?{second};0$y\u{1b}[?62;22c"));
    terminal.shows("0/2 decided");
    terminal.types("q");
    assert!(terminal.child.wait().expect("it ends").success());
    let changes = repo.diff("slow");
    for file in changes["files"].as_array().expect("a list") {
        assert_eq!(file["hunks"][0]["decision"], "undecided", "{file}");
    }
}

#[test]
fn terminal_state_is_reset_after_agent() {
    let repo = TestRepo::new();
    let script = "printf '\\033]0;mine\\a\\033[23t\\033]8;;https://evil.example/login\\033\\\\\\033)0\\016done'";
    let mut terminal = Terminal::start(&repo, &["run", "--name", "o8", "--", "sh", "-c", script]);
    terminal.shows("changed nothing");
    assert!(terminal.child.wait().expect("it ends").success());
    let raw = terminal.raw.lock().expect("no panic").clone();
    let text = String::from_utf8_lossy(&raw);
    let after = text.split_once("done").expect("it was printed").1;
    for reset in ["\u{1b}]8;;\u{1b}\\", "\u{1b}(B\u{1b})B\u{f}", "\u{1b}]0;\u{1b}\\\u{1b}[23;0t"] {
        assert!(after.contains(reset), "{reset:?}: {after:?}");
    }
    assert!(text.contains("\u{1b}[22;0t\u{1b}]0;mine") && !text.contains("\u{1b}[23t"), "{text:?}");
}

#[test]
fn raw_output_is_refused_on_terminal() {
    let repo = TestRepo::new();
    repo.write("esc.txt", "top \u{1b}]0;from-base\u{7}\u{1b}[31m\nmid\n");
    repo.commit();
    repo.changeset("raw", "sed -i s/mid/middle/ esc.txt");
    let all = ["apply", "raw", "--accept-all", "--allow-risky", "--to", "patch:-"];
    assert!(repo.airlock(&all).ok().stdout.contains("\u{1b}]0;from-base"), "a pipe gets the bytes unescaped");
    for args in [&all[..], &["diff", "raw", "--patch"], &["diff", "raw", "--name-only", "-z"]] {
        let mut terminal = Terminal::start(&repo, args);
        terminal.shows("which a terminal would interpret");
        assert_eq!(terminal.child.wait().expect("it ends").exit_code(), 2, "{args:?}");
        let raw = terminal.raw.lock().expect("no panic").clone();
        assert!(!String::from_utf8_lossy(&raw).contains("from-base"), "{args:?}");
    }
}

#[test]
fn diff_names_are_quoted_or_nul_terminated() {
    let repo = TestRepo::new();
    let script =
        "open('a\\nrun.sh', 'w').write('x'); open('tab\\there', 'w').write('x'); open('\\u00e9', 'w').write('x')";
    repo.airlock(&["run", "--name", "n", "--review", "never", "--", "python3", "-c", script]).ok();
    let names = repo.airlock(&["diff", "n", "--name-only"]).ok().stdout;
    assert_eq!(names, "\"a\\nrun.sh\"\n\"tab\\there\"\n\"\\303\\251\"\n");
    let git = {
        repo.airlock(&["apply", "n", "--accept-all"]).ok();
        repo.git(&["ls-files", "--others"])
    };
    assert_eq!(names, git, "names are quoted differently than by git");
    let names = repo.airlock(&["diff", "n", "--name-only", "-z"]).ok().stdout;
    assert_eq!(names, "a\nrun.sh\0tab\there\0\u{e9}\0");
    assert_snapshot!(repo.airlock(&["diff", "n", "-z"]), @"
    status: 2
    ----- stderr -----
    error: the following required arguments were not provided:
      --name-only

    Usage: airlock diff [OPTIONS] [NAME] [-- PATH…]

    For more information, try '--help'.
    ");
}

/// The commands are background jobs of an interactive shell on a terminal.
#[test]
fn background_run_is_not_stopped_and_reads_no_keys() {
    let repo = TestRepo::new();
    let mut command = portable_pty::CommandBuilder::new("bash");
    command.args(["--norc", "--noprofile", "-i"]);
    let mut terminal = Terminal::run(&repo, command);
    terminal.types("PS1='ready> '\r");
    terminal.shows("ready> ");
    let run = "run --name bg --review never -- sh -c 'cat; sleep 2; echo new > b.txt'";
    terminal.types(&format!("{AIRLOCK} {run} > log 2>&1 &\r"));
    terminal.types("echo ke''pt\r");
    terminal.shows("kept");
    terminal.types(&format!("{AIRLOCK} {} &\r", run.replace("bg", "fg").replace("b.txt", "c.txt")));
    terminal.types("wait; jobs; echo all do''ne\r");
    let text = terminal.shows("all done");
    assert!(!text.contains("Stopped"), "{text}");
    terminal.types("exit\r");
    terminal.child.wait().expect("it ends");
    fs::remove_file(repo.path.join("log")).expect("it was written");
    assert!(repo.changes("bg").iter().any(|(path, _)| path == "b.txt"));
    assert!(repo.changes("fg").iter().any(|(path, _)| path == "c.txt"));
}

#[test]
fn piped_run_leaves_keys_for_shell() {
    let repo = TestRepo::new();
    let mut command = portable_pty::CommandBuilder::new("sh");
    command.args([
        "-c",
        &format!("{AIRLOCK} run --review never -- sh -c 'cat; echo ended' | cat; read line; echo \"[$line]\""),
    ]);
    let mut terminal = Terminal::run(&repo, command);
    terminal.types("for the shell\r");
    terminal.shows("ended");
    terminal.shows("[for the shell]");
    assert!(terminal.child.wait().expect("it ends").success());
    // Without a terminal, the agent's input is at its end, so `cat` does not wait.
    let ran = CommandOutput::from_command(repo.command(AIRLOCK, &["run", "--", "cat"])).ok();
    assert_eq!(ran.stdout, "");
}
