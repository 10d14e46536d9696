//! Tests of further rounds in a sandbox: real Claude Code receives the feedback of a review, and the next review shows
//! the new changes.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use insta::assert_snapshot;
use serde_json::json;

use crate::claude::model;
use crate::support::model::{Seen, Step};
use crate::support::{AIRLOCK, TestRepo};
use crate::terminal::Terminal;

/// Returns a step that uses a tool.
fn tool_step(name: &str, input: serde_json::Value) -> Step {
    Step::Tool(name.into(), input)
}

/// Returns a script of two turns: an edit and a new file, and after the feedback another edit of the same line.
fn script_two_turns(repo: &TestRepo) -> Vec<Step> {
    let at = |path: &str| repo.path.join(path).to_str().expect("UTF-8").to_owned();
    vec![
        tool_step("Read", json!({"file_path": at("a.txt")})),
        tool_step("Edit", json!({"file_path": at("a.txt"), "old_string": "two", "new_string": "hello"})),
        tool_step("Write", json!({"file_path": at("new.txt"), "content": "fine\n"})),
        Step::Text("The first turn is over.".into()),
        tool_step("Edit", json!({"file_path": at("a.txt"), "old_string": "hello", "new_string": "good day"})),
        Step::Text("The second turn is over.".into()),
    ]
}

/// Returns the last message of the user in a request.
fn last_user_message(seen: &Seen) -> String {
    let body: serde_json::Value = serde_json::from_str(&seen.body).unwrap_or_default();
    let user = body["messages"].as_array().into_iter().flatten().rev().find(|m| m["role"] == "user");
    user.map(|m| m["content"].to_string()).unwrap_or_default()
}

/// The arguments that let Claude Code edit files without a question.
const ACCEPT_EDITS: [&str; 2] = ["--permission-mode", "acceptEdits"];

#[test]
fn resume_sends_feedback_in_same_conversation() {
    let mut repo = TestRepo::new();
    let script = script_two_turns(&repo);
    let (_runtime, model) = model(&mut repo, script);
    let before = repo.read_tree();
    repo.airlock(&[&["--name", "r", "claude", "-p", "greet"][..], &ACCEPT_EDITS].concat()).ok();
    assert_snapshot!(repo.airlock(&["resume", "r", "--feedback"]), @"
    status: 125
    ----- stderr -----
    error: there is nothing to send: nothing was rejected or commented on since the last message
    hint: run `airlock review r` or `airlock resume r`
    ");
    // Comment on the hunk of a.txt and reject it. Accept the new file.
    let answers = "c\nbe more formal, please\nn\ny\n";
    assert_snapshot!(repo.airlock_with_input(&["review", "r", "--plain"], answers), @"
    status: 0
    ----- stdout -----

    modified  a.txt
    @@ -1,2 +1,2 @@
     one
    -two
    +hello
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] Comment (empty removes it): (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    added  new.txt
    @@ -0,0 +1 @@
    +fine
    (2/2) new.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    ----- stderr -----
    airlock: the decisions are saved. Next: airlock apply r, airlock resume r --feedback
    ");
    // Everything is decided, but the comment is not sent yet, so the volumes are kept.
    let ran = repo.airlock(&["apply", "r"]).ok();
    assert!(ran.stderr.contains("airlock review r, airlock resume r --feedback, or airlock rm r"), "{}", ran.stderr);
    repo.airlock(&["undo"]).ok();
    assert_snapshot!(repo.airlock(&["resume", "r", "--feedback", "--dry-run"]), @"
    status: 0
    ----- stdout -----
    I have reviewed your changes. What I rejected is not applied to my
    repository: please change it here, address my comments, and leave the
    rest unchanged.

    ## a.txt

    Rejected, line 2:

    ```diff
    -two
    +hello
    ```

    > be more formal, please
    ");
    let asked = model.seen().len();
    let ran = repo.airlock(&[&["resume", "r", "--feedback", "--"][..], &ACCEPT_EDITS].concat()).ok();
    assert_eq!(ran.stdout, "The second turn is over.\n");
    assert!(
        ran.stderr.contains("resuming r · main at") && ran.stderr.contains("with 1 rejection and 1 comment"),
        "{}",
        ran.stderr
    );
    let heard: Vec<String> = model.seen()[asked..].iter().map(last_user_message).collect();
    let message = heard
        .iter()
        .find(|words| words.contains("I have reviewed your changes"))
        .expect("the message reached the model");
    for words in ["## a.txt", "Rejected, line 2", "-two", "+hello", "> be more formal, please"] {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert!(!message.contains("new.txt"), "the message does not mention accepted files: {message}");
    let request = model.seen()[asked..].iter().find(|s| s.body.contains("I have reviewed")).expect("one").body.clone();
    assert!(request.contains("The first turn is over."), "the conversation is the same");
    assert_eq!(repo.read_tree(), before, "the working tree is unchanged");

    // The decision on the new file is kept. The hunk of a.txt is a different one, and therefore undecided.
    let diff = repo.diff("r");
    let decisions: Vec<_> =
        diff["files"].as_array().expect("files").iter().map(|f| &f["hunks"][0]["decision"]).collect();
    assert_eq!(decisions, ["undecided", "accepted"]);
    // Feedback is sent only once.
    assert_snapshot!(repo.airlock(&["resume", "r", "--feedback"]), @"
    status: 125
    ----- stderr -----
    error: there is nothing to send: nothing was rejected or commented on since the last message
    hint: run `airlock review r` or `airlock resume r`
    ");
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    assert_eq!((repo.read("a.txt").as_str(), repo.read("new.txt").as_str()), ("one\ngood day\n", "fine\n"));
}

#[test]
fn resume_keeps_options_of_first_run() {
    let mut repo = TestRepo::new();
    repo.set("PASSED", "first");
    let begin = ["run", "--name", "c", "--env", "PASSED", "--env", "SET=x y", "--pids", "77", "--memory", "200m"];
    let script = "echo $PASSED $SET; cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max; \
                  echo more >> a.txt; echo kept > ~/note; pwd";
    let show = repo.airlock(&[&begin[..], &["--", "sh", "-c", script]].concat()).ok();
    assert_snapshot!(repo.airlock(&["resume", "c"]), @"
    status: 125
    ----- stderr -----
    error: `c` is a sandbox of `airlock run`, which needs a command
    hint: run `airlock resume c -- COMMAND…`
    ");
    assert_snapshot!(repo.airlock(&["resume", "c", "--feedback"]), @"
    status: 125
    ----- stderr -----
    error: failed to send feedback to the agent of `c`: only Claude Code receives comments, and this is a sandbox of airlock run
    ");
    repo.set("PASSED", "second");
    let again = "cat ~/note a.txt; echo $PASSED $SET; cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || \
                 cat /sys/fs/cgroup/pids.max; pwd; echo evenmore >> a.txt";
    let ran = repo.airlock(&["resume", "c", "--", "sh", "-c", again]).ok();
    let home = show.stdout.lines().last().expect("a path");
    assert_eq!(ran.stdout, format!("kept\none\ntwo\nmore\nsecond x y\n77\n{home}\n"));
    assert!(ran.stderr.contains("c changed 1 file, +2 −0"), "{}", ran.stderr);
    // An option of `resume` applies to this and all later rounds.
    let ran =
        repo.airlock(&["resume", "c", "--env", "SET=z", "--", "sh", "-c", "echo $SET; git checkout -q a.txt; exit 3"]);
    assert_eq!((ran.status, ran.stdout.as_str()), (3, "z\n"), "{}", ran.stderr);
    assert!(ran.stderr.contains(". Next: airlock resume c"), "{}", ran.stderr);
    assert_eq!(repo.airlock(&["resume", "c", "--", "sh", "-c", "echo $SET"]).ok().stdout, "z\n");
    assert_snapshot!(repo.airlock(&["resume", "c", "--image", "nobody/has-it", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: the image `nobody/has-it` no longer exists
    hint: to use another image, run `airlock resume c --image IMAGE`
    ");
    assert_eq!(
        repo.airlock(&["status", "c", "--json"]).ok().stdout.matches("\"unchanged\"").count(),
        1,
        "the sandbox is unchanged"
    );
    // So does another image.
    let image = repo.airlock(&["image", "ls", "--json"]).ok().stdout;
    let image: serde_json::Value = serde_json::from_str(&image).expect("JSON");
    let guest = image["images"].as_array().expect("images").iter().find(|i| i["kind"] == "agent").expect("ours");
    let id = guest["id"].as_str().expect("an id");
    repo.airlock(&["resume", "c", "--image", id, "--", "true"]).ok();
    let record = std::fs::read_to_string(repo.path.join(".git/airlock/sandboxes/c/record.json")).expect("it is there");
    assert!(record.contains(&format!("\"image\": \"{id}\"")), "{record}");
    // A command that cannot be started changes nothing and leaves no container.
    assert_snapshot!(repo.airlock(&["resume", "c", "--", "/nowhere"]), @r#"
    status: 127
    ----- stderr -----
    airlock: resuming c · main at [COMMIT] · network: none
    airlock: failed to run "/nowhere" in the sandbox: No such file or directory (os error 2)
    airlock: c has no changes, but contains file in the home directory ~/note. Next: airlock resume c -- COMMAND, or airlock rm c
    "#);
    assert_eq!(repo.containers(), 0);
    repo.airlock(&["rm", "c"]).ok();
    assert_eq!(repo.engine_objects(), 0);
}

#[test]
fn resume_continues_interrupted_sandbox() {
    let repo = TestRepo::new();
    let script = "echo before >> a.txt; echo ready; exec sleep 1000";
    let mut command = repo.command(AIRLOCK, &["run", "--name", "i", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    assert_snapshot!(repo.airlock(&["resume", "i", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: the sandbox `i` is in use by another airlock process
    hint: if its agent runs, `airlock attach i` shows it, `airlock stop i` ends it, and `airlock diff i` shows its changes
    ");
    child.kill().expect("the process exists");
    child.wait().expect("it ends");
    let ran = repo.airlock(&["resume", "i", "--", "sh", "-c", "tail -n 1 a.txt; echo after >> a.txt"]).ok();
    assert_eq!(ran.stdout, "before\n");
    repo.airlock(&["apply", "i", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nbefore\nafter\n");
    // A sandbox whose changes are all decided can be resumed, and stays decided if nothing changes.
    assert_eq!(repo.status("i"), "decided");
    assert_eq!(repo.airlock(&["resume", "i", "--", "tail", "-n", "1", "a.txt"]).ok().stdout, "after\n");
    assert_eq!(repo.status("i"), "decided");
    repo.airlock(&["resume", "i", "--", "sh", "-c", "echo more >> a.txt"]).ok();
    assert_eq!(repo.status("i"), "collected");
}

#[test]
fn review_on_terminal_sends_and_shows_new_changes() {
    let mut repo = TestRepo::new();
    let script = script_two_turns(&repo);
    let (_runtime, model) = model(&mut repo, script);
    repo.airlock(&[&["--name", "t", "claude", "-p", "greet"][..], &ACCEPT_EDITS].concat()).ok();
    let mut terminal = Terminal::start(&repo, &["review", "t"]);
    terminal.shows("a.txt modified hunk 1/1 [undecided]");
    terminal.types("cbe more formal\rny");
    terminal.shows("2/2 decided");
    terminal.types("R");
    terminal.shows("Message to the agent");
    terminal.shows("> be more formal");
    terminal.types("y");
    // Claude Code has received the feedback and works on it. It asks about the edit as usual.
    terminal.shows("make this edit to a.txt");
    terminal.types("\r");
    terminal.shows("The second turn is over.");
    let heard = model.seen();
    assert!(heard.iter().any(|s| last_user_message(s).contains("> be more formal")), "the message reached the model");
    terminal.types("/exit");
    terminal.shows("/exit");
    terminal.types("\r");
    // The next review starts by itself and shows what is new.
    terminal.shows("a.txt modified hunk 1/1 [undecided] new");
    let screen = terminal.shows("1 hunk new since you decided, 1 removed · f a shows all");
    assert!(!screen.contains("new.txt"), "{screen}");
    terminal.types("y");
    terminal.shows("2/2 decided");
    terminal.types("w");
    terminal.shows("Preview of the apply");
    terminal.types("y");
    terminal.shows("2 of 2 files applied");
    assert!(terminal.child.wait().expect("it ends").success());
    assert!(terminal.is_sane());
    assert_eq!((repo.read("a.txt").as_str(), repo.read("new.txt").as_str()), ("one\ngood day\n", "fine\n"));
}

#[test]
fn apply_replaces_changes_of_earlier_round() {
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
    let apply_three = ["apply", "w", "--accept", "a.txt", "--accept", "n.txt", "--accept", "whole.bin"];
    repo.airlock(&apply_three).ok();
    repo.write("a.txt", lines(&[(2, "2"), (6, "mine"), (10, "10")]));
    let again = "sed -i 's/^2$/two!/; s/^10$/line 10/' a.txt; echo v2 > n.txt; printf 'c\\0d' > whole.bin";
    repo.airlock(&["resume", "w", "--", "sh", "-c", again]).ok();
    assert_snapshot!(repo.airlock(&apply_three), @"
    status: 0
    ----- stdout -----
      merged     a.txt      with your edits of lines 6 and 10
      applied    n.txt
      applied    whole.bin
    ----- stderr -----
    airlock: 3 of 4 files applied. Undo: airlock undo w · Next: airlock review w, or airlock rm w
    ");
    assert_eq!(repo.read("a.txt"), lines(&[(2, "two!"), (6, "mine"), (10, "10")]));
    assert_eq!((repo.read("n.txt").as_str(), repo.read("whole.bin").as_str()), ("v2\n", "c\0d"));
    // In the next round, the user edits the same line as the agent. That is a conflict, and nothing is written.
    repo.write("a.txt", lines(&[(2, "two, as I say"), (6, "mine"), (10, "10")]));
    repo.airlock(&["resume", "w", "--", "sh", "-c", "sed -i 's/two!/2!/' a.txt"]).ok();
    assert_snapshot!(repo.airlock(&["apply", "w", "--accept", "a.txt"]), @"
    status: 4
    ----- stdout -----
      conflict   a.txt  both sides changed the same lines

    a.txt: both sides changed the same lines
      base, line 2
      │ line 2
      ours (working tree), line 2
      │ two, as I say
      theirs (accepted), line 2
      │ 2!
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review w` and press x
    airlock: to write both sides between conflict markers, add `--on-conflict markers`
    ");
    // Each apply can be undone.
    repo.write("a.txt", lines(&[(2, "two!"), (6, "mine"), (10, "10")]));
    repo.airlock(&["apply", "w", "--accept", "a.txt"]).ok();
    assert_eq!(repo.read("a.txt"), lines(&[(2, "2!"), (6, "mine"), (10, "10")]));
    repo.airlock(&["undo"]).ok();
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.read("a.txt"), lines(&[(2, "2"), (6, "mine"), (10, "10")]));
    assert_eq!(repo.read("n.txt"), "v1\n");
}

#[test]
fn plain_review_marks_lines_of_a_round() {
    let repo = TestRepo::new();
    repo.sandbox("p", "printf 'one\n2\n3\n' > a.txt; echo x > gone.txt").ok();
    repo.airlock_with_input(&["review", "p", "--plain"], "c why 2?\nn\nc and this?\nn\n").ok();
    repo.airlock(&[
        "resume",
        "p",
        "--",
        "sh",
        "-c",
        "printf 'one\n2\nthree\nfour\n' > a.txt; rm gone.txt; echo n > new.txt",
    ])
    .ok();
    assert_snapshot!(repo.airlock_with_input(&["review", "p", "--plain"], "C\nf n\nq\n"), @"
    status: 0
    ----- stdout -----

    modified  a.txt
    @@ -1,2 +1,4 @@
     one
    -two
    +2
    +three
    +four
    new in this round: lines 3-4
    open: why 2?
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] open  a.txt:2  why 2?
    outdated  gone.txt:1  and this?
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] 2 of 2 files are asked about.
    @@ -1,2 +1,4 @@
     one
    -two
    +2
    +three
    +four
    new in this round: lines 3-4
    open: why 2?
    (1/2) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?]
    ----- stderr -----
    airlock: nothing is accepted. Next: airlock review p, or airlock rm p
    ");
}

#[test]
fn review_drops_acceptance_of_now_risky_file() {
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
    // The file is unchanged, but an editor now runs it.
    repo.airlock(&["resume", "y", "--", "ln", "-s", "conf", ".vscode"]).ok();
    let now = decided(&repo);
    let decision_on = |path: &str| now.iter().find(|(p, _)| p == path).map(|(_, d)| d.as_str());
    assert_eq!(
        (decision_on("conf/tasks.json"), decision_on("a.txt")),
        (Some("undecided"), Some("accepted")),
        "{now:?}"
    );
    repo.airlock(&["apply", "y"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n");
    // A round that cannot be read does not stop the review. More changes count as new then.
    let damage = |round: &str| {
        let file = repo.path.join(".git/airlock/sandboxes/y").join(round);
        assert!(file.is_file(), "{round} exists");
        std::fs::write(file, "{").expect("written");
    };
    damage("round-1.json");
    repo.airlock(&["resume", "y", "--", "sed", "-i", "s/^x$/z/", "a.txt"]).ok();
    damage("round-2.json");
    repo.airlock_with_input(&["review", "y", "--plain"], "q\n").ok();
    // The change that was applied before is now a conflict, and the output names it.
    assert_snapshot!(repo.airlock(&["apply", "y", "--accept", "a.txt"]), @"
    status: 4
    ----- stdout -----
      conflict   a.txt  both sides changed the same lines

    a.txt: both sides changed the same lines
      base, nothing after line 2
      ours (working tree), line 3
      │ x
      theirs (accepted), line 3
      │ z
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review y` and press x
    airlock: to write both sides between conflict markers, add `--on-conflict markers`
    ");
}

#[test]
fn resume_keeps_undelivered_message() {
    let mut repo = TestRepo::new();
    let script = script_two_turns(&repo);
    let (_runtime, model) = model(&mut repo, script);
    repo.airlock(&[&["--name", "m", "claude", "-p", "greet"][..], &ACCEPT_EDITS].concat()).ok();
    repo.airlock_with_input(&["review", "m", "--plain"], "c\nlouder\nn\nq\n").ok();
    let asked = model.seen().len();
    repo.unset("ANTHROPIC_API_KEY");
    repo.put_claude_on_path();
    assert_snapshot!(repo.airlock(&["resume", "m", "--feedback"]), @r#"
    status: 125
    ----- stderr -----
    error: no credential for Claude: none of ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, CLAUDE_CODE_OAUTH_TOKEN is set, and [TMP]/home/.claude/.credentials.json does not exist
      the message is saved in [TMP]/repo/.git/airlock/sandboxes/m/message.md
    hint: run `export CLAUDE_CODE_OAUTH_TOKEN="$(claude setup-token)"` or `export ANTHROPIC_API_KEY=…`
    "#);
    assert_eq!(model.seen().len(), asked, "the model was asked");
    let kept = std::fs::read_to_string(repo.path.join(".git/airlock/sandboxes/m/message.md")).expect("it is kept");
    assert!(kept.contains("> louder"), "{kept}");
    // A message that the user wrote and could not send is kept, even if another one fails later.
    let file = repo.path.join(".git/airlock/sandboxes/m/message.md");
    std::fs::write(&file, "My own words.\n").expect("written");
    assert_snapshot!(repo.airlock(&["resume", "m", "--feedback"]), @r#"
    status: 125
    ----- stderr -----
    error: no credential for Claude: none of ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, CLAUDE_CODE_OAUTH_TOKEN is set, and [TMP]/home/.claude/.credentials.json does not exist
      the message is saved in [TMP]/repo/.git/airlock/sandboxes/m/message-2.md
    hint: run `export CLAUDE_CODE_OAUTH_TOKEN="$(claude setup-token)"` or `export ANTHROPIC_API_KEY=…`
    "#);
    assert_eq!(std::fs::read_to_string(&file).expect("it is kept"), "My own words.\n");
    // No server answers. The message has not reached the model, so it is sent again.
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-x");
    let address = repo.environment().into_iter().find(|(name, _)| name == "ANTHROPIC_BASE_URL").expect("set").1;
    repo.set("ANTHROPIC_BASE_URL", "http://127.0.0.1:9");
    let ran = repo.airlock(&["resume", "m", "--feedback", "--timeout", "8s"]);
    assert!(ran.status != 0 && ran.stderr.contains("the message did not reach the model"), "{ran:?}");
    repo.set("ANTHROPIC_BASE_URL", address);
    repo.airlock(&[&["resume", "m", "--feedback", "--timeout", "10m", "--"][..], &ACCEPT_EDITS].concat()).ok();
    assert!(
        model.seen()[asked..].iter().any(|s| last_user_message(s).contains("> louder")),
        "the message reached the model"
    );
    assert!(file.exists() && !file.with_file_name("message-2.md").exists());
}

#[test]
fn apply_tracks_applied_changes_over_rounds() {
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
    // Round 2: A1 becomes A2, which is not accepted. Another hunk of the file is.
    repo.airlock(&["resume", "k", "--", "sh", "-c", "sed -i 's/A1/A2/; s/line 9/C2/' a.txt"]).ok();
    let id = |n: usize| -> String {
        let diff = repo.diff("k");
        let file = diff["files"].as_array().expect("files").iter().find(|f| f["path"] == "a.txt").expect("it").clone();
        file["hunks"][n]["id"].as_str().expect("an id").to_owned()
    };
    repo.airlock(&["apply", "k", "--accept-id", &id(2)]).ok();
    // Round 3: A3 replaces A1, the inserted line and the line after it change, and the file that became executable is
    // deleted.
    let third = "sed -i 's/A2/A3/; s/inserted/inserted, and more/; s/line 6/six/' a.txt; rm gone.txt";
    repo.airlock(&["resume", "k", "--", "sh", "-c", third]).ok();
    repo.airlock(&["apply", "k", "--accept", "a.txt", "--accept", "gone.txt"]).ok();
    let expected = "line 1\nA3\nline 3\nline 4\nline 5\ninserted, and more\nsix\nline 7\nB1\nC2\n";
    assert_eq!(repo.read("a.txt"), expected);
    assert!(!repo.path.join("gone.txt").exists());
    // A change that the user reverted is not applied again, even if it was missing from one round in between.
    repo.write("a.txt", expected.replace("A3", "line 2"));
    repo.airlock(&["resume", "k", "--", "sed", "-i", "s/A3/A4/", "a.txt"]).ok();
    repo.airlock_with_input(&["review", "k", "--plain"], "n\nq\n").ok();
    repo.airlock(&["resume", "k", "--", "sed", "-i", "s/A4/A3/", "a.txt"]).ok();
    repo.airlock_with_input(&["review", "k", "--plain"], "y\ny\ny\ny\nq\n").ok();
    assert_snapshot!(repo.airlock(&["apply", "k"]), @"
    status: 0
    ----- stdout -----
      unchanged  a.txt
      unchanged  gone.txt
    ----- stderr -----
    airlock: 0 of 3 files applied, 2 unchanged. Next: airlock review k, or airlock rm k
    ");
    assert_eq!(repo.read("a.txt"), expected.replace("A3", "line 2"));
}

#[test]
fn review_drops_doubtful_acceptance_keeps_edits() {
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
    // The file is missing for one round, and comes back as a file that an editor runs.
    repo.airlock(&["resume", "z", "--", "sh", "-c", "mv conf/tasks.json /tmp/; cp /tmp/tasks.json ~/"]).ok();
    repo.airlock_with_input(&["review", "z", "--plain"], "q\n").ok();
    repo.airlock(&["resume", "z", "--", "sh", "-c", "cp ~/tasks.json conf/; ln -s conf .vscode"]).ok();
    // The symlink, a.txt, the edit, and the file that came back.
    assert_eq!(decisions(&repo), ["undecided", "accepted", "edited", "undecided"]);
    let apply = repo.airlock(&["apply", "z"]).ok();
    assert!(!repo.path.join("conf/tasks.json").exists(), "{}", apply.stdout);
    // If the previous round cannot be read, all high-risk changes are asked about again.
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
fn resume_ignores_planted_conversations() {
    let mut repo = TestRepo::new();
    let plant = "cd ~/.claude/projects; ln -s / evil; mkdir -p more; cd more; \
                 mkfifo 00000000-0000-0000-0000-000000000000.jsonl; ln -s x ffffffff-ffff-ffff-ffff-ffffffffffff.jsonl; \
                 mkdir eeeeeeee-eeee-eeee-eeee-eeeeeeeeeeee.jsonl; \
                 touch -d 2099-01-01 -- '--dangerously-skip-permissions-aaaaaa.jsonl' \"$(printf 'a\\033[2J.jsonl')\"";
    let at = repo.path.join("a.txt").to_str().expect("UTF-8").to_owned();
    let script = vec![
        tool_step("Bash", json!({"command": plant, "description": "Plant"})),
        tool_step("Write", json!({"file_path": repo.path.join("n").to_str(), "content": "x\n"})),
        Step::Text("Planted.".into()),
        tool_step("Read", json!({"file_path": at})),
        Step::Text("Heard.".into()),
    ];
    let (_runtime, model) = model(&mut repo, script);
    repo.airlock(&[&["--name", "h", "claude", "-p", "go"][..], &ACCEPT_EDITS, &["--allowedTools", "Bash"]].concat())
        .ok();
    repo.airlock_with_input(&["review", "h", "--plain"], "n\nq\n").ok();
    assert_eq!(repo.airlock(&["resume", "h", "--feedback"]).ok().stdout, "Heard.\n");
    assert!(
        model.seen().iter().any(|s| last_user_message(s).contains("## n")),
        "the message reached the same conversation"
    );
}
