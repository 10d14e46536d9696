//! What was accepted is what comes, and nothing but a person's key accepts.

use std::fs;

use crate::support::{AIRLOCK, CommandOutput, TestRepo};
use crate::terminal::Terminal;

/// Puts the two templates of a pair into the repository, and gives the script that fills them in.
fn pair(repo: &TestRepo, other: &str, target: &str, nonces: [&str; 2]) -> String {
    for (template, name) in [("notes.txt", "a"), (other, "b")] {
        repo.write(name, fs::read(format!("fixtures/hostile/same-id/{template}")).expect("it is there"));
    }
    repo.commit();
    let [first, second] = nonces;
    format!("sed s/%s/{first}/ a > notes.txt; mkdir -p .hg; sed s/%s/{second}/ b > {target}")
}

/// Two hunks whose ids began with the same 64 bits, which were all that counted once.
#[test]
fn hunks_whose_ids_begin_alike_are_decided_apart() {
    let nonces = ["9a7267df646394e4", "0553b18342c3dc93"];
    for args in [&["--accept", "notes.txt"][..], &["--accept-all", "--reject", ".envrc"], &["--accept-all"]] {
        let repo = TestRepo::new();
        let script = pair(&repo, "envrc", ".envrc", nonces);
        repo.changeset("c", &script);
        let ids = ids(&repo, "c");
        assert_eq!(ids.len(), 2);
        assert_ne!(ids[0], ids[1]);
        assert!(ids.iter().all(|id| id.len() == 64), "{ids:?}");
        repo.airlock(&[&["apply", "c"], args].concat()).ok();
        assert!(repo.path.join("notes.txt").exists() && !repo.path.join(".envrc").exists(), "{args:?}");
    }
    let repo = TestRepo::new();
    let script = pair(&repo, "envrc", ".envrc", nonces);
    repo.changeset("c", &script);
    repo.airlock_with_input(&["review", "c", "--plain"], "j\ny\nq\n").ok();
    repo.airlock(&["apply", "c"]).ok();
    assert!(repo.path.join("notes.txt").exists() && !repo.path.join(".envrc").exists());
}

/// The same with a file that cannot be accepted at all.
#[test]
fn a_refused_file_is_never_brought_by_another() {
    let repo = TestRepo::new();
    let script = pair(&repo, "hgrc", ".hg/hgrc", ["5c72f99094570b3a", "0795f32a809f410b"]);
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
    repo.airlock(&["apply", "h", "--accept-all", "--allow-risky", "--to", "branch:brought"]).ok();
    assert_eq!(repo.git(&["diff", "--name-only", "main", "brought"]), "notes.txt\n");
}

fn ids(repo: &TestRepo, name: &str) -> Vec<String> {
    let diff = repo.diff(name);
    let files = diff["files"].as_array().expect("a list").iter();
    let blocks = files.flat_map(|f| f["hunks"].as_array().expect("a list").clone());
    blocks.map(|b| b["id"].as_str().expect("a string").to_owned()).collect()
}

#[test]
fn ids_are_taken_as_unique_prefixes() {
    let repo = TestRepo::new();
    repo.changeset("p", "echo x >> a.txt; echo y > new.txt");
    let ids = ids(&repo, "p");
    repo.airlock(&["apply", "p", "--accept-id", &ids[0][..12]]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");
    assert!(!repo.path.join("new.txt").exists());
    // Too short to mean one hunk.
    repo.airlock(&["apply", "p", "--accept-id", &ids[1][..4]]).expect_failure(5, &["there is no hunk"]);
    repo.airlock(&["apply", "p", "--accept-id", ""]).expect_failure(5, &["there is no hunk"]);
}

#[test]
fn a_decision_file_cannot_give_a_decision_to_another_path() {
    let repo = TestRepo::new();
    repo.changeset("f", "echo x >> a.txt; echo y > new.txt");
    let text = repo.airlock(&["review", "f", "--export", "-"]).ok().stdout;
    let mut file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let taken = file["files"][1]["hunks"][0].take();
    file["files"][1]["hunks"] = serde_json::json!([]);
    file["files"][0]["hunks"].as_array_mut().expect("a list").push(taken);
    let ran = repo.airlock_with_input(&["apply", "f", "--decisions", "-"], &file.to_string());
    ran.expect_failure(1, &["it is listed under a.txt", "nothing of it was taken"]);
}

/// Runs an agent that asks the terminal something, and gives the number of the mode that Airlock asks for at the end.
pub fn question(terminal: &Terminal) -> String {
    terminal.receives(b"$p\x1b[c");
    let raw = terminal.raw.lock().expect("no panic").clone();
    let text = String::from_utf8_lossy(&raw);
    let (before, _) = text.rsplit_once("$p\u{1b}[c").expect("it was asked");
    before.rsplit_once("\u{1b}[?").expect("a sequence").1.to_owned()
}

#[test]
fn answers_of_the_terminal_that_come_late_decide_nothing() {
    let repo = TestRepo::new();
    let script = "echo evil > new.txt; printf '\\033[>0q\\033[=c\\033[6n\\033[c\\033[c'";
    let args = ["run", "--name", "late", "--review", "always", "--", "sh", "-c", script];
    let mut terminal = Terminal::mute(&repo, &args);
    let mode = question(&terminal);
    let raw = terminal.raw.lock().expect("no panic").clone();
    let has = |bytes: &[u8]| raw.windows(bytes.len()).any(|w| w == bytes);
    assert!(!has(b"\x1b[>") && !has(b"\x1b[="), "no question whose answer is a text is asked");
    assert!(has(b"\x1b[6n\x1b[c\x1b[c"), "others are");
    // Two answers to the agent's own questions look like the end; ours is still to come, behind a text with keys.
    terminal.types("\u{1b}[1;1R\u{1b}[?62;22c\u{1b}[?62;22c");
    terminal.types("\u{1b}P>|kitty(0.36.4)\u{1b}\\yyye");
    terminal.shows("waiting for your terminal to answer");
    terminal.types(&format!("yA\u{1b}[?{mode};0$y\u{1b}[?62;22c"));
    terminal.shows("new.txt added");
    terminal.shows("0/1 decided");
    terminal.types("q");
    terminal.shows("airlock review late");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_eq!(repo.diff("late")["files"][0]["hunks"][0]["decision"], "undecided");
}

#[test]
fn a_terminal_that_knows_no_modes_is_understood_by_counting() {
    let repo = TestRepo::new();
    let script = "echo x >> a.txt; printf '\\033[c\\033[c'";
    let args = ["run", "--name", "old", "--review", "always", "--", "sh", "-c", script];
    let mut terminal = Terminal::mute(&repo, &args);
    question(&terminal);
    // Two answers for the agent, and one for us.
    terminal.types("\u{1b}[?6c\u{1b}[?6cyy");
    terminal.shows("waiting for your terminal to answer");
    terminal.types("\u{1b}[?6c");
    terminal.shows("0/1 decided");
    terminal.types("q");
    assert!(terminal.child.wait().expect("it ends").success());
}

#[test]
fn a_terminal_that_never_answers_needs_a_person() {
    let repo = TestRepo::new();
    let script = "echo x >> a.txt; printf '\\033[6n'";
    let args = ["run", "--name", "mute", "--review", "always", "--", "sh", "-c", script];
    let mut terminal = Terminal::mute(&repo, &args);
    terminal.shows("waiting for your terminal to answer (Enter: do not wait)");
    terminal.types("\r");
    terminal.shows("waiting for it (Enter: no review now)");
    terminal.types("\u{1b}P>|XTerm(390)yyy\u{1b}\\yy\r");
    terminal.shows("kept. Next: airlock review mute");
    assert!(terminal.child.wait().expect("it ends").success());
    assert_eq!(repo.diff("mute")["files"][0]["hunks"][0]["decision"], "undecided");
    // Nor is a late key ours where the agent has asked nothing: it may be for a question that the agent has printed.
    let args = ["run", "--name", "silent", "--review", "always", "--", "sh", "-c", "echo x >> a.txt"];
    let mut terminal = Terminal::mute(&repo, &args);
    terminal.shows("waiting for it (Enter: no review now)");
    terminal.types("yy\r");
    terminal.shows("kept. Next: airlock review silent");
    assert!(terminal.child.wait().expect("it ends").success());
}

/// A slow link, and a person who does not wait: answers of the terminal that a read cuts after ESC look like keys, `y` among
/// them. The review begins when the answer to a question of ours has come back, and not with a key.
#[test]
fn nothing_but_an_answer_begins_a_review_over_a_slow_link() {
    let repo = TestRepo::new();
    let script = "echo x > .envrc; echo x >> a.txt; printf '\\033[?u\\033[4$p\\033[4$p\\033[4$p'";
    let args = ["run", "--name", "slow", "--review", "always", "--", "sh", "-c", script];
    let mut terminal = Terminal::mute(&repo, &args);
    terminal.shows("waiting for your terminal to answer (Enter: do not wait)");
    let first = question(&terminal);
    terminal.types("\r");
    terminal.shows("waiting for it (Enter: no review now)");
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
fn links_titles_and_character_sets_end_with_the_agent() {
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
fn patches_and_pages_do_not_go_to_a_terminal_as_they_are() {
    let repo = TestRepo::new();
    repo.write("esc.txt", "top \u{1b}]0;from-base\u{7}\u{1b}[31m\nmid\n");
    repo.commit();
    repo.changeset("raw", "sed -i s/mid/middle/ esc.txt");
    let all = ["apply", "raw", "--accept-all", "--allow-risky", "--to", "patch:-"];
    assert!(repo.airlock(&all).ok().stdout.contains("\u{1b}]0;from-base"), "a pipe gets every byte");
    for args in [&all[..], &["diff", "raw", "--patch"], &["diff", "raw", "--name-only", "-z"]] {
        let mut terminal = Terminal::start(&repo, args);
        terminal.shows("which a terminal would obey");
        assert_eq!(terminal.child.wait().expect("it ends").exit_code(), 2, "{args:?}");
        let raw = terminal.raw.lock().expect("no panic").clone();
        assert!(!String::from_utf8_lossy(&raw).contains("from-base"), "{args:?}");
    }
}

#[test]
fn names_in_a_pipe_are_quoted_or_end_with_nul() {
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
    assert_eq!(names, git, "as git does");
    let names = repo.airlock(&["diff", "n", "--name-only", "-z"]).ok().stdout;
    assert_eq!(names, "a\nrun.sh\0tab\there\0\u{e9}\0");
    repo.airlock(&["diff", "n", "-z"]).expect_failure(2, &["--name-only"]);
}

/// Runs a command on a terminal in the background of an interactive shell.
#[test]
fn a_background_job_is_never_stopped_and_takes_no_keys() {
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
fn keys_typed_while_output_goes_elsewhere_stay_for_the_shell() {
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
    // Nothing was waited for either: the agent's input has ended.
    let ran = CommandOutput::from_command(repo.command(AIRLOCK, &["run", "--", "cat"])).ok();
    assert_eq!(ran.stdout, "");
}
