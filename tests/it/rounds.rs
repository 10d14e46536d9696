//! Another round in the same sandbox: real Claude Code hears what the review has said, and the review shows what is new.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::json;

use crate::claude::model;
use crate::support::model::{Seen, Step};
use crate::support::{AIRLOCK, TestRepo};
use crate::terminal::Terminal;

fn tool(name: &str, input: serde_json::Value) -> Step {
    Step::Tool(name.into(), input)
}

/// Two turns: an edit and a new file; then, once it was told, another edit of the same line.
fn two_turns(repo: &TestRepo) -> Vec<Step> {
    let at = |path: &str| repo.path.join(path).to_str().expect("UTF-8").to_owned();
    vec![
        tool("Read", json!({"file_path": at("a.txt")})),
        tool("Edit", json!({"file_path": at("a.txt"), "old_string": "two", "new_string": "hello"})),
        tool("Write", json!({"file_path": at("new.txt"), "content": "fine\n"})),
        Step::Text("The first turn is over.".into()),
        tool("Edit", json!({"file_path": at("a.txt"), "old_string": "hello", "new_string": "good day"})),
        Step::Text("The second turn is over.".into()),
    ]
}

/// The last message of the user in a request.
fn last_words(seen: &Seen) -> String {
    let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap_or_default();
    let user = body["messages"].as_array().into_iter().flatten().rev().find(|m| m["role"] == "user");
    user.map(|m| m["content"].to_string()).unwrap_or_default()
}

const EDITS: [&str; 2] = ["--permission-mode", "acceptEdits"];

#[test]
fn what_the_review_said_reaches_the_model_in_the_same_conversation() {
    let mut repo = TestRepo::new();
    let script = two_turns(&repo);
    let (_runtime, model) = model(&mut repo, script);
    let before = repo.read_tree();
    repo.airlock(&[&["--name", "r", "claude", "-p", "greet"][..], &EDITS].concat()).ok();
    repo.airlock(&["resume", "r", "--feedback"])
        .expect_failure(125, &["nothing was rejected or commented on", "airlock review r"]);
    // On the hunk of a.txt a comment and a no; a yes on the new file.
    let answers = "c\nbe more formal, please\nn\ny\n";
    let ran = repo.airlock_with_input(&["review", "r", "--plain"], answers).ok();
    assert!(ran.stderr.contains("Next: airlock apply r, airlock resume r --feedback"), "{}", ran.stderr);
    // All is decided then, and the comment has not been heard yet: its volumes stay.
    let ran = repo.airlock(&["apply", "r"]).ok();
    assert!(ran.stderr.contains("airlock review r, airlock resume r --feedback, or airlock rm r"), "{}", ran.stderr);
    repo.airlock(&["undo"]).ok();
    let dry = repo.airlock(&["resume", "r", "--feedback", "--dry-run"]).ok();
    assert!(
        dry.stdout.contains("## a.txt") && dry.stdout.contains("+hello") && dry.stdout.contains("> be more formal"),
        "{}",
        dry.stdout
    );
    let asked = model.seen().len();
    let ran = repo.airlock(&[&["resume", "r", "--feedback", "--"][..], &EDITS].concat()).ok();
    assert_eq!(ran.stdout, "The second turn is over.\n");
    assert!(
        ran.stderr.contains("r goes on · main at") && ran.stderr.contains("with 1 rejection and 1 comment"),
        "{}",
        ran.stderr
    );
    let heard: Vec<String> = model.seen()[asked..].iter().map(last_words).collect();
    let message = heard.iter().find(|words| words.contains("I have reviewed your changes")).expect("it arrived");
    for words in ["## a.txt", "Rejected, line 2", "-two", "+hello", "> be more formal, please"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert!(!message.contains("new.txt"), "what was accepted is not spoken of: {message}");
    let request = model.seen()[asked..].iter().find(|s| s.body.contains("I have reviewed")).expect("one").body.clone();
    assert!(request.contains("The first turn is over."), "it is the same conversation");
    assert_eq!(repo.read_tree(), before, "the host tree is as it was");

    // The decision on the new file stands; the other hunk is another one, and new.
    let diff = repo.diff("r");
    let decisions: Vec<_> =
        diff["files"].as_array().expect("files").iter().map(|f| &f["hunks"][0]["decision"]).collect();
    assert_eq!(decisions, ["undecided", "accepted"]);
    // It was said: once is enough.
    repo.airlock(&["resume", "r", "--feedback"]).expect_failure(125, &["nothing was rejected or commented on since"]);
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    assert_eq!((repo.read("a.txt").as_str(), repo.read("new.txt").as_str()), ("one\ngood day\n", "fine\n"));
}

#[test]
fn a_command_goes_on_with_what_it_had() {
    let mut repo = TestRepo::new();
    repo.set("PASSED", "first");
    let begin = ["run", "--name", "c", "--env", "PASSED", "--env", "SET=x y", "--pids", "77", "--memory", "200m"];
    let script = "echo $PASSED $SET; cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max; \
                  echo more >> a.txt; echo kept > ~/note; pwd";
    let show = repo.airlock(&[&begin[..], &["--", "sh", "-c", script]].concat()).ok();
    repo.airlock(&["resume", "c"]).expect_failure(125, &["which needs a command", "airlock resume c -- COMMAND"]);
    repo.airlock(&["resume", "c", "--feedback"]).expect_failure(125, &["a sandbox of airlock run"]);
    repo.set("PASSED", "second");
    let again = "cat ~/note a.txt; echo $PASSED $SET; cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || \
                 cat /sys/fs/cgroup/pids.max; pwd; echo evenmore >> a.txt";
    let ran = repo.airlock(&["resume", "c", "--", "sh", "-c", again]).ok();
    let home = show.stdout.lines().last().expect("a path");
    assert_eq!(ran.stdout, format!("kept\none\ntwo\nmore\nsecond x y\n77\n{home}\n"));
    assert!(ran.stderr.contains("c changed 1 file, +2 −0"), "{}", ran.stderr);
    // An option given now counts from now on.
    let ran =
        repo.airlock(&["resume", "c", "--env", "SET=z", "--", "sh", "-c", "echo $SET; git checkout -q a.txt; exit 3"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (3, "z\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains("c has no changes. Next: airlock resume c"), "{}", ran.stderr);
    assert_eq!(repo.airlock(&["resume", "c", "--", "sh", "-c", "echo $SET"]).ok().stdout, "z\n");
    let ran = repo.airlock(&["resume", "c", "--image", "nobody/has-it", "--", "true"]);
    ran.expect_failure(125, &["the engine has no image nobody/has-it any more", "airlock resume c --image IMAGE"]);
    assert_eq!(
        repo.airlock(&["status", "c", "--json"]).ok().stdout.matches("\"unchanged\"").count(),
        1,
        "it is as it was"
    );
    // Another image counts from then on, too.
    let image = repo.airlock(&["image", "ls", "--json"]).ok().stdout;
    let image: serde_json::Value = serde_json::from_str(&image).expect("JSON");
    let guest = image["images"].as_array().expect("images").iter().find(|i| i["kind"] == "agent").expect("ours");
    let id = guest["id"].as_str().expect("an id");
    repo.airlock(&["resume", "c", "--image", id, "--", "true"]).ok();
    let record = std::fs::read_to_string(repo.path.join(".git/airlock/sandboxes/c/record.json")).expect("it is there");
    assert!(record.contains(&format!("\"image\": \"{id}\"")), "{record}");
    // What never started leaves it as it was, and nothing runs.
    repo.airlock(&["resume", "c", "--", "/nowhere"]).expect_failure(127, &[]);
    assert_eq!(repo.containers(), 0);
    repo.airlock(&["rm", "c"]).ok();
    assert_eq!(repo.engine_objects(), 0);
}

#[test]
fn an_interrupted_one_goes_on_where_it_was() {
    let repo = TestRepo::new();
    let script = "echo before >> a.txt; echo ready; exec sleep 1000";
    let mut command = repo.command(AIRLOCK, &["run", "--name", "i", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    repo.airlock(&["resume", "i", "--", "true"]).expect_failure(125, &["in use by another airlock"]);
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    let ran = repo.airlock(&["resume", "i", "--", "sh", "-c", "tail -n 1 a.txt; echo after >> a.txt"]).ok();
    assert_eq!(ran.stdout, "before\n");
    repo.airlock(&["apply", "i", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nbefore\nafter\n");
    // All is decided, and it goes on.
    assert_eq!(repo.airlock(&["resume", "i", "--", "tail", "-n", "1", "a.txt"]).ok().stdout, "after\n");
}

#[test]
fn from_the_review_to_the_agent_and_back_on_a_terminal() {
    let mut repo = TestRepo::new();
    let script = two_turns(&repo);
    let (_runtime, model) = model(&mut repo, script);
    repo.airlock(&[&["--name", "t", "claude", "-p", "greet"][..], &EDITS].concat()).ok();
    let mut terminal = Terminal::start(&repo, &["review", "t"]);
    terminal.shows("a.txt modified hunk 1/1 [undecided]");
    terminal.types("cbe more formal\rny");
    terminal.shows("2/2 decided");
    terminal.types("R");
    terminal.shows("What the agent would get");
    terminal.shows("> be more formal");
    terminal.types("y");
    // Claude Code has heard it, and works; the edit is asked about, as always.
    terminal.shows("make this edit to a.txt");
    terminal.types("\r");
    terminal.shows("The second turn is over.");
    let heard = model.seen();
    assert!(heard.iter().any(|s| last_words(s).contains("> be more formal")), "it arrived");
    terminal.types("/exit");
    terminal.shows("/exit");
    terminal.types("\r");
    // The review comes by itself, on what is new.
    terminal.shows("a.txt modified hunk 1/1 [undecided] new");
    let screen = terminal.shows("1 hunk new since you decided, 1 gone · f, Enter shows all");
    assert!(!screen.contains("new.txt"), "{screen}");
    terminal.types("y");
    terminal.shows("2/2 decided");
    terminal.types("w");
    terminal.shows("What an apply would do");
    terminal.types("y");
    terminal.shows("2 of 2 files applied");
    assert!(terminal.child.wait().expect("it ends").success());
    assert!(terminal.is_sane());
    assert_eq!((repo.read("a.txt").as_str(), repo.read("new.txt").as_str()), ("one\ngood day\n", "fine\n"));
}

#[test]
fn what_the_agent_has_changed_again_takes_the_place_of_what_was_applied() {
    let repo = TestRepo::empty();
    let lines = |change: &[(usize, &str)]| -> String {
        let line =
            |n: usize| change.iter().find(|(at, _)| *at == n).map_or(format!("line {n}"), |(_, l)| (*l).to_owned());
        (1..=12).map(|n| line(n) + "\n").collect()
    };
    repo.write("a.txt", lines(&[]));
    repo.write("whole.bin", "a\0b");
    repo.commit();
    repo.sandbox(
        "w",
        "sed -i 's/line 2$/2/; s/line 10/10/' a.txt; echo v1 > n.txt; printf 'b\\0c' > whole.bin; echo open > o",
    )
    .ok();
    let both = ["apply", "w", "--accept", "a.txt", "--accept", "n.txt", "--accept", "whole.bin"];
    repo.airlock(&both).ok();
    repo.write("a.txt", lines(&[(2, "2"), (6, "mine"), (10, "10")]));
    let again = "sed -i 's/^2$/two!/; s/^10$/line 10/' a.txt; echo v2 > n.txt; printf 'c\\0d' > whole.bin";
    repo.airlock(&["resume", "w", "--", "sh", "-c", again]).ok();
    let ran = repo.airlock(&both).ok();
    assert_eq!(repo.read("a.txt"), lines(&[(2, "two!"), (6, "mine"), (10, "10")]), "{}", ran.stdout);
    assert_eq!((repo.read("n.txt").as_str(), repo.read("whole.bin").as_str()), ("v2\n", "c\0d"));
    assert!(ran.stdout.contains("merged     a.txt") && ran.stdout.contains("applied    n.txt"), "{}", ran.stdout);
    // Another round, and an edit of the user's in the very line: that is a conflict, and nothing is written.
    repo.write("a.txt", lines(&[(2, "two, as I say"), (6, "mine"), (10, "10")]));
    repo.airlock(&["resume", "w", "--", "sh", "-c", "sed -i 's/two!/2!/' a.txt"]).ok();
    repo.airlock(&["apply", "w", "--accept", "a.txt"]).expect_failure(4, &["1 conflict; nothing was written"]);
    // And each apply can be taken back.
    repo.write("a.txt", lines(&[(2, "two!"), (6, "mine"), (10, "10")]));
    repo.airlock(&["apply", "w", "--accept", "a.txt"]).ok();
    assert_eq!(repo.read("a.txt"), lines(&[(2, "2!"), (6, "mine"), (10, "10")]));
    repo.airlock(&["undo"]).ok();
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.read("a.txt"), lines(&[(2, "2"), (6, "mine"), (10, "10")]));
    assert_eq!(repo.read("n.txt"), "v1\n");
}

#[test]
fn a_yes_from_before_a_file_became_risky_counts_no_more() {
    let repo = TestRepo::new();
    repo.sandbox("y", "mkdir conf; echo '{}' > conf/tasks.json; echo x >> a.txt").ok();
    repo.airlock_with_input(&["review", "y", "--plain"], "y\ny\nq\n").ok();
    let decided = |repo: &TestRepo| -> Vec<(String, String)> {
        let diff = repo.diff("y");
        let text = |v: &serde_json::Value| v.as_str().expect("a string").to_owned();
        let files = diff["files"].as_array().expect("files").clone();
        files.iter().map(|f| (text(&f["path"]), text(&f["hunks"][0]["decision"]))).collect()
    };
    assert_eq!(decided(&repo)[1], ("conf/tasks.json".into(), "accepted".into()));
    // The file is as it was, and now it is what an editor runs.
    repo.airlock(&["resume", "y", "--", "ln", "-s", "conf", ".vscode"]).ok();
    let now = decided(&repo);
    let of = |path: &str| now.iter().find(|(p, _)| p == path).map(|(_, d)| d.as_str());
    assert_eq!((of("conf/tasks.json"), of("a.txt")), (Some("undecided"), Some("accepted")), "{now:?}");
    repo.airlock(&["apply", "y"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n");
    // A round that cannot be read is no reason to keep anybody from their work: more is new then.
    let damage =
        |round: &str| std::fs::write(repo.path.join(".git/airlock/sandboxes/y").join(round), "{").expect("written");
    damage("round-1.json");
    repo.airlock(&["resume", "y", "--", "sed", "-i", "s/^x$/z/", "a.txt"]).ok();
    damage("round-2.json");
    repo.airlock_with_input(&["review", "y", "--plain"], "q\n").ok();
    assert_eq!(
        repo.airlock(&["apply", "y", "--accept", "a.txt"]).status,
        4,
        "what was applied is in the way, and that is said"
    );
}

#[test]
fn a_message_that_does_not_arrive_is_kept() {
    let mut repo = TestRepo::new();
    let script = two_turns(&repo);
    let (_runtime, model) = model(&mut repo, script);
    repo.airlock(&[&["--name", "m", "claude", "-p", "greet"][..], &EDITS].concat()).ok();
    repo.airlock_with_input(&["review", "m", "--plain"], "c\nlouder\nn\nq\n").ok();
    let asked = model.seen().len();
    repo.unset("ANTHROPIC_API_KEY");
    let failed =
        repo.airlock(&["resume", "m", "--feedback"]).expect_failure(125, &["the message is kept in", "message.md"]);
    assert_eq!(model.seen().len(), asked, "{}", failed.stderr);
    let kept = std::fs::read_to_string(repo.path.join(".git/airlock/sandboxes/m/message.md")).expect("it is there");
    assert!(kept.contains("> louder"), "{kept}");
    // What a person wrote and could not send stays, whatever is tried next.
    let file = repo.path.join(".git/airlock/sandboxes/m/message.md");
    std::fs::write(&file, "My own words.\n").expect("written");
    repo.airlock(&["resume", "m", "--feedback"]).expect_failure(125, &["message-2.md"]);
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "My own words.\n");
    // Nobody answers: it was not heard, and is said again.
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-x");
    let address = repo.environment().into_iter().find(|(name, _)| name == "ANTHROPIC_BASE_URL").expect("set").1;
    repo.set("ANTHROPIC_BASE_URL", "http://127.0.0.1:9");
    let ran = repo.airlock(&["resume", "m", "--feedback", "--timeout", "8s"]);
    assert!(ran.status != 0 && ran.stderr.contains("the message has not reached the model"), "{ran:?}");
    repo.set("ANTHROPIC_BASE_URL", address);
    repo.airlock(&[&["resume", "m", "--feedback", "--timeout", "10m", "--"][..], &EDITS].concat()).ok();
    assert!(model.seen()[asked..].iter().any(|s| last_words(s).contains("> louder")), "it arrived");
    assert!(file.exists() && !file.with_file_name("message-2.md").exists());
}

#[test]
fn what_was_applied_stays_known_whatever_is_applied_between() {
    let repo = TestRepo::empty();
    let lines = |change: &[(usize, &str)]| -> String {
        let line =
            |n: usize| change.iter().find(|(at, _)| *at == n).map_or(format!("line {n}"), |(_, l)| (*l).to_owned());
        (1..=9).map(|n| line(n) + "\n").collect()
    };
    repo.write("a.txt", lines(&[]));
    repo.write("gone.txt", "x\n");
    repo.commit();
    repo.sandbox(
        "k",
        "sed -i 's/line 2$/A1/; s/line 8/B1/' a.txt; sed -i '5a inserted' a.txt; chmod +x gone.txt; echo o > o",
    )
    .ok();
    repo.airlock(&["apply", "k", "--accept", "a.txt", "--accept", "gone.txt", "--allow-risky"]).ok();
    let applied = "line 1\nA1\nline 3\nline 4\nline 5\ninserted\nline 6\nline 7\nB1\nline 9\n";
    assert_eq!(repo.read("a.txt"), applied);
    // Round 2: A1 becomes A2, which is not taken; something else of the file is.
    repo.airlock(&["resume", "k", "--", "sh", "-c", "sed -i 's/A1/A2/; s/line 9/C2/' a.txt"]).ok();
    let id = |n: usize| -> String {
        let diff = repo.diff("k");
        let file = diff["files"].as_array().expect("files").iter().find(|f| f["path"] == "a.txt").expect("it").clone();
        file["hunks"][n]["id"].as_str().expect("an id").to_owned()
    };
    repo.airlock(&["apply", "k", "--accept-id", &id(2)]).ok();
    // Round 3: A3 takes A1's place, the line after the insertion changes with it, and the file that became executable goes.
    let third = "sed -i 's/A2/A3/; s/inserted/inserted, and more/; s/line 6/six/' a.txt; rm gone.txt";
    repo.airlock(&["resume", "k", "--", "sh", "-c", third]).ok();
    repo.airlock(&["apply", "k", "--accept", "a.txt", "--accept", "gone.txt"]).ok();
    let expected = "line 1\nA3\nline 3\nline 4\nline 5\ninserted, and more\nsix\nline 7\nB1\nC2\n";
    assert_eq!(repo.read("a.txt"), expected);
    assert!(!repo.path.join("gone.txt").exists());
    // What the user takes back stays back, though a round passes in which it is not there.
    repo.write("a.txt", expected.replace("A3", "line 2"));
    repo.airlock(&["resume", "k", "--", "sed", "-i", "s/A3/A4/", "a.txt"]).ok();
    repo.airlock_with_input(&["review", "k", "--plain"], "n\nq\n").ok();
    repo.airlock(&["resume", "k", "--", "sed", "-i", "s/A4/A3/", "a.txt"]).ok();
    repo.airlock_with_input(&["review", "k", "--plain"], "y\ny\ny\ny\nq\n").ok();
    let ran = repo.airlock(&["apply", "k"]);
    assert_eq!(repo.read("a.txt"), expected.replace("A3", "line 2"), "{ran:?}");
}

#[test]
fn yeses_are_taken_back_where_nobody_can_tell_how_it_was_and_own_words_are_kept() {
    let mut repo = TestRepo::new();
    repo.set("EDITOR", "sh -c 'echo mine > \"$1\"' sh");
    repo.sandbox("z", "mkdir conf; echo '{}' > conf/tasks.json; echo '{}' > conf/settings.json; echo x >> a.txt").ok();
    repo.airlock_with_input(&["review", "z", "--plain"], "y\ne\ny\nq\n").ok();
    let decisions = |repo: &TestRepo| -> Vec<String> {
        let diff = repo.diff("z");
        let files = diff["files"].as_array().expect("files").clone();
        files
            .iter()
            .map(|f| f["hunks"][0]["decision"].as_str().expect("one").split(' ').next().unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(decisions(&repo), ["accepted", "edited", "accepted"]);
    // The file is away for a round, and comes back as what an editor runs.
    repo.airlock(&["resume", "z", "--", "sh", "-c", "mv conf/tasks.json /tmp/; cp /tmp/tasks.json ~/"]).ok();
    repo.airlock_with_input(&["review", "z", "--plain"], "q\n").ok();
    repo.airlock(&["resume", "z", "--", "sh", "-c", "cp ~/tasks.json conf/; ln -s conf .vscode"]).ok();
    // Link, a.txt, the edit, the file that came back.
    assert_eq!(decisions(&repo), ["undecided", "accepted", "edited", "undecided"]);
    let apply = repo.airlock(&["apply", "z"]).ok();
    assert!(!repo.path.join("conf/tasks.json").exists(), "{}", apply.stdout);
    // And where the round before cannot be read, all of high risk is asked about once more.
    repo.airlock_with_input(&["review", "z", "--plain"], "n\ny\nq\n").ok();
    assert_eq!(decisions(&repo)[3], "accepted");
    repo.airlock(&["resume", "z", "--", "sh", "-c", "echo y >> a.txt"]).ok();
    for entry in std::fs::read_dir(repo.path.join(".git/airlock/sandboxes/z")).expect("listed").flatten() {
        if entry.file_name().to_string_lossy().starts_with("round-") {
            std::fs::write(entry.path(), "{").expect("written");
        }
    }
    assert_eq!(decisions(&repo)[3], "undecided");
}

#[test]
fn what_an_agent_plants_in_its_home_names_no_conversation() {
    let mut repo = TestRepo::new();
    let plant = "cd ~/.claude/projects; ln -s / evil; mkdir -p more; cd more; \
                 mkfifo 00000000-0000-0000-0000-000000000000.jsonl; ln -s x ffffffff-ffff-ffff-ffff-ffffffffffff.jsonl; \
                 mkdir eeeeeeee-eeee-eeee-eeee-eeeeeeeeeeee.jsonl; \
                 touch -d 2099-01-01 -- '--dangerously-skip-permissions-aaaaaa.jsonl' \"$(printf 'a\\033[2J.jsonl')\"";
    let at = repo.path.join("a.txt").to_str().expect("UTF-8").to_owned();
    let script = vec![
        tool("Bash", json!({"command": plant, "description": "Plant"})),
        tool("Write", json!({"file_path": repo.path.join("n").to_str(), "content": "x\n"})),
        Step::Text("Planted.".into()),
        tool("Read", json!({"file_path": at})),
        Step::Text("Heard.".into()),
    ];
    let (_runtime, model) = model(&mut repo, script);
    repo.airlock(&[&["--name", "h", "claude", "-p", "go"][..], &EDITS, &["--allowedTools", "Bash"]].concat()).ok();
    repo.airlock_with_input(&["review", "h", "--plain"], "n\nq\n").ok();
    assert_eq!(repo.airlock(&["resume", "h", "--feedback"]).ok().stdout, "Heard.\n");
    assert!(model.seen().iter().any(|s| last_words(s).contains("## n")), "it arrived, in the same conversation");
}
