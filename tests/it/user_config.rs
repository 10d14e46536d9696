//! The user's own configuration of Claude Code, files that arguments name, and conversations that go on.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::claude::model;
use crate::support::TestRepo;
use crate::support::model::{ScriptedModel, Step};
use crate::terminal::Terminal;
use crate::upstream::{self, Upstream, UpstreamRequest};

/// Writes a file of the user's home.
fn write_home(repo: &TestRepo, path: &str, content: &str) -> PathBuf {
    let path = repo.directory().join("home").join(path);
    std::fs::create_dir_all(path.parent().expect("a parent")).expect("made");
    std::fs::write(&path, content).expect("written");
    path
}

fn has_read(model: &ScriptedModel, words: &str) -> bool {
    model.seen().iter().any(|seen| seen.body.contains(words))
}

#[test]
fn configuration_of_the_user_is_brought_along_filtered() {
    let mut repo = TestRepo::new();
    write_home(&repo, ".claude/CLAUDE.md", "Answer in French.\n@style.md\n@linked.md\n");
    let key = write_home(&repo, ".ssh/key", "planted-key\n");
    std::os::unix::fs::symlink(key, repo.directory().join("home/.claude/linked.md")).expect("made");
    write_home(&repo, ".claude/style.md", "Use short sentences.\n");
    write_home(&repo, ".claude/commands/hi.md", "Say hi to the command of the user.\n");
    write_home(&repo, ".claude/skills/tidy/SKILL.md", "---\nname: tidy\ndescription: the skill of the user\n---\nx\n");
    write_home(&repo, ".claude/.credentials.json", "{\"secret\": \"planted-credential\"}");
    let settings = json!({
        "permissions": {"deny": ["Bash(touch:*)"], "allow": ["Bash(cp:*)"]},
        "hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "touch /tmp/hooked"}]}]},
        "env": {"MY_SECRET": "planted-secret", "BASH_DEFAULT_TIMEOUT_MS": "5000"},
        "sandbox": {"enabled": true},
    });
    write_home(&repo, ".claude/settings.json", &settings.to_string());
    let bash = |command: &str| Step::Tool("Bash".into(), json!({"command": command, "description": "x"}));
    let script = vec![bash("touch denied.txt"), bash("cp a.txt copy.txt"), Step::Text("bonjour".into())];
    let (_runtime, seen) = model(&mut repo, script);
    let ran = repo.airlock(&["--name", "w", "claude", "-p", "/hi"]).ok();
    assert_eq!(ran.stdout, "bonjour\n");
    assert!(
        ran.stderr.contains(" · your CLAUDE.md, settings with 2 permission rules, 1 command, 1 skill"),
        "{}",
        ran.stderr
    );
    for words in
        ["Answer in French.", "Use short sentences.", "Say hi to the command of the user.", "the skill of the user"]
    {
        assert!(has_read(&seen, words), "{words}");
    }
    assert!(has_read(&seen, "# About this workspace"), "the instructions of Airlock are there as well");
    assert!(!has_read(&seen, "planted-"));
    assert_eq!(repo.changes("w"), [("copy.txt".to_owned(), "added".to_owned())], "a rule denies, another one allows");
    let status = repo.airlock(&["status", "w"]).ok().stdout;
    for left in ["hooks: they are commands of this machine", "sandbox: Airlock is the sandbox", "env.MY_SECRET: "] {
        assert!(status.contains(&format!("left out   {left}")), "{status}");
    }
    let json: Value = serde_json::from_str(&repo.airlock(&["status", "w", "--json"]).ok().stdout).expect("JSON");
    assert_eq!(json["claude_config"]["parts"][0], "CLAUDE.md");

    // What was brought along is no work of the agent; an edit of it is.
    let talk = repo.airlock(&["claude", "-p", "hello"]).ok();
    assert!(!talk.stderr.contains("home directory"), "{}", talk.stderr);
    let edit = bash(
        "python3 -c \"import os; os.chdir(os.path.expanduser('~/.claude')); open('commands/hi.md', 'a').write('more'); open('skills/own.md', 'w').write('x')\"",
    );
    let (_runtime2, _model2) = model(&mut repo, vec![edit, Step::Text("edited".into())]);
    let edited = repo.airlock(&["claude", "-p", "hello", "--allowedTools", "Bash"]).ok();
    let words = "2 files in the home directory (~/.claude/commands/hi.md, ~/.claude/skills/own.md)";
    assert!(edited.stderr.contains(words), "{}", edited.stderr);

    // Without it, and with damaged settings, whose rules are unknown.
    let (_runtime3, seen) = model(&mut repo, vec![Step::Text("hi".into())]);
    repo.set("AIRLOCK_CLAUDE_CONFIG", "none");
    let before = seen.seen().len();
    repo.airlock(&["claude", "-p", "hello"]).ok();
    assert!(!seen.seen()[before..].iter().any(|request| request.body.contains("Answer in French.")));
    repo.unset("AIRLOCK_CLAUDE_CONFIG");
    write_home(&repo, ".claude/settings.json", "{\"permissions\": ");
    repo.airlock(&["claude", "-p", "hello"])
        .expect_failure(125, &["settings.json is not valid", "AIRLOCK_CLAUDE_CONFIG=none"]);
}

/// An MCP server behind HTTP with one tool.
fn answer_mcp(request: &UpstreamRequest) -> Vec<u8> {
    let Ok(call) = serde_json::from_slice::<Value>(&request.body) else {
        return upstream::status("405 Method Not Allowed");
    };
    let result = match call["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": call["params"]["protocolVersion"], "capabilities": {"tools": {}},
            "serverInfo": {"name": "test", "version": "1"},
        }),
        Some("tools/list") => {
            json!({"tools": [{"name": "answer", "description": "answers", "inputSchema": {"type": "object"}}]})
        }
        Some("tools/call") => json!({"content": [{"type": "text", "text": "forty-two from the server"}]}),
        _ => return upstream::status("202 Accepted"),
    };
    upstream::ok("application/json", json!({"jsonrpc": "2.0", "id": call["id"], "result": result}).to_string())
}

/// An MCP server on the standard streams, for the image's Python.
const MCP_PROGRAM: &str = r#"
import json, os, sys
for line in sys.stdin:
    call = json.loads(line)
    if "id" not in call:
        continue
    results = {
        "initialize": {"protocolVersion": call.get("params", {}).get("protocolVersion"), "capabilities": {"tools": {}}, "serverInfo": {"name": "p", "version": "1"}},
        "tools/list": {"tools": [{"name": "show", "description": "shows", "inputSchema": {"type": "object"}}]},
        "tools/call": {"content": [{"type": "text", "text": "inside, with " + os.environ.get("KEY", "no variable")}]},
    }
    print(json.dumps({"jsonrpc": "2.0", "id": call["id"], "result": results.get(call["method"], {})}), flush=True)
"#;

#[test]
fn mcp_servers_of_the_user_are_used_by_name() {
    let mut repo = TestRepo::new();
    let server = Upstream::start(answer_mcp);
    let own = json!({"theme": "light", "userID": "planted-id", "mcpServers": {
        "web": {"type": "http", "url": format!("{}/mcp", server.url), "headers": {"Authorization": "Bearer planted-token"}},
        "files": {"command": "python3", "args": ["-c", MCP_PROGRAM], "env": {"KEY": "planted-key"}},
        "unused": {"command": "false"},
    }});
    write_home(&repo, ".claude.json", &own.to_string());
    repo.set("AIRLOCK_MCP", "web files");
    let script = vec![
        Step::Tool("mcp__web__answer".into(), json!({})),
        Step::Tool("mcp__files__show".into(), json!({})),
        Step::Text("done".into()),
    ];
    let (_runtime, seen) = model(&mut repo, script);
    let args = ["--keep", "--name", "w", "claude", "-p", "ask", "--allowedTools", "mcp__web__answer,mcp__files__show"];
    let ran = repo.airlock(&args).ok();
    assert_eq!(ran.stdout, "done\n");
    assert!(ran.stderr.contains(" · your 2 MCP servers"), "{}", ran.stderr);
    assert!(has_read(&seen, "forty-two from the server"), "the server behind HTTP has answered");
    assert!(has_read(&seen, "inside, with no variable"), "the program runs inside, without the credential");
    assert!(server.seen().iter().all(|request| request.head.contains("authorization: bearer planted-token")));
    let inside = repo.airlock(&["resume", "w", "--review", "never", "--", "-p", "hello"]);
    assert!(!inside.ok().stdout.is_empty());
    let json = repo.airlock(&["run", "--", "sh", "-c", "cat ~/.claude.json"]).ok().stdout;
    assert!(!json.contains("planted"), "{json}");
}

#[test]
fn files_that_arguments_name_are_brought_along() {
    let mut repo = TestRepo::new();
    let outside = tempfile::tempdir().expect("a directory");
    let at = |name: &str| outside.path().join(name);
    std::fs::create_dir_all(at("lib/.git")).expect("made");
    std::fs::write(at("lib/.git/config"), "planted").expect("written");
    std::fs::write(at("lib/notes.md"), "the notes of the library\n").expect("written");
    std::os::unix::fs::symlink("/etc/passwd", at("lib/link")).expect("made");
    std::fs::write(at("system.md"), "The words of the system prompt file.\n").expect("written");
    std::fs::write(at("settings.json"), json!({"permissions": {"deny": ["Bash(touch:*)"]}}).to_string())
        .expect("written");
    std::fs::write(at("my shot.png"), b"\x89PNG\r\n\x1a\n").expect("written");
    std::fs::write(at("data.csv"), "1,2\n").expect("written");
    let library = "ls -a /home/agent/from-host/*/lib; cat /home/agent/from-host/*/lib/notes.md; touch denied.txt";
    let script = vec![
        Step::Tool("Bash".into(), json!({"command": "touch denied.txt", "description": "x"})),
        Step::Tool("Bash".into(), json!({"command": library.replace("; touch denied.txt", ""), "description": "x"})),
        Step::Text("done".into()),
    ];
    let (_runtime, seen) = model(&mut repo, script);
    let text = |name: &str| at(name).to_str().expect("UTF-8").to_owned();
    let prompt = format!("what is in '{}'? and in {}", text("my shot.png"), text("data.csv"));
    let (system, settings, lib) = (text("system.md"), text("settings.json"), text("lib"));
    let args = [
        "--keep",
        "--name",
        "w",
        "claude",
        "-p",
        &prompt,
        "--append-system-prompt-file",
        &system,
        "--settings",
        &settings,
        "--allowedTools",
        "Bash",
        "--add-dir",
        &lib,
    ];
    let ran = repo.airlock(&args).ok();
    assert!(
        ran.stderr.contains(&format!("the sandbox has a copy of {lib} (1 file, without 2 others that")),
        "{}",
        ran.stderr
    );
    assert!(
        ran.stderr.contains("the prompt names ") && ran.stderr.contains("data.csv, which is on this machine"),
        "{}",
        ran.stderr
    );
    assert!(has_read(&seen, "The words of the system prompt file."));
    assert!(has_read(&seen, "/my shot.png'? and in"), "the image has its path in the sandbox");
    assert!(has_read(&seen, "the notes of the library") && !has_read(&seen, "planted"));
    assert!(repo.changes("w").is_empty(), "the rule of the settings denies");

    // A link of the repository that leads out of it is not followed.
    std::os::unix::fs::symlink(at("my shot.png"), repo.path.join("link.png")).expect("made");
    std::os::unix::fs::symlink(at("system.md"), repo.path.join("link.md")).expect("made");
    let before = seen.seen().len();
    let linked = repo.path.join("link.png");
    repo.airlock(&["claude", "-p", &format!("see {}", linked.display())]).ok();
    let asked = |words: &str| seen.seen()[before..].iter().any(|request| request.body.contains(words));
    assert!(asked("/link.png"), "{:?}", seen.seen()[before..].iter().map(|request| &request.what).collect::<Vec<_>>());
    assert!(!asked("from-host/1/"), "the link leads out of the repository");
    repo.airlock(&["claude", "-p", "x", "--system-prompt-file", "link.md"])
        .expect_failure(125, &["link.md is a link of the repository to", "not brought into the sandbox"]);
    let home = repo.directory().join("home");
    repo.airlock(&["claude", "-p", "x", "--add-dir", home.to_str().expect("UTF-8")])
        .expect_failure(125, &["may hold credentials"]);

    // Files of the commit are the sandbox's own, and what is missing is said before anything starts.
    let same = repo.airlock(&["claude", "-p", "x", "--append-system-prompt-file", "a.txt"]).ok();
    assert!(!same.stderr.contains("copy of"), "{}", same.stderr);
    assert!(has_read(&seen, "one"));
    let missing = text("missing.json");
    repo.airlock(&["claude", "-p", "x", "--mcp-config", &missing])
        .expect_failure(125, &["missing.json does not exist"]);
    let large = std::fs::File::create(at("large.zip")).expect("made");
    large.set_len(65 << 20).expect("set");
    repo.airlock(&["claude", "-p", "x", "--plugin-dir", &text("large.zip")])
        .expect_failure(125, &["large.zip cannot be brought into the sandbox", "--include GLOB"]);
    assert_eq!(repo.airlock(&["ls", "--json"]).ok().stdout.matches("\"verb\"").count(), 3, "none for a refused run");
}

#[test]
fn conversations_go_on_in_their_sandboxes() {
    let mut repo = TestRepo::new();
    let (_runtime, seen) = model(&mut repo, vec![Step::Text("pong".into())]);
    repo.airlock(&["claude", "-c", "-p", "again"])
        .expect_failure(125, &["no sandbox of this repository has a conversation to continue"]);
    for (name, prompt) in [("one", "the first question"), ("two", "the second question")] {
        repo.airlock(&["--name", name, "claude", "-p", prompt]).ok();
    }
    let continued = repo.airlock(&["claude", "--continue", "-p", "and then?"]).ok();
    assert!(continued.stderr.contains("resuming two"), "{}", continued.stderr);
    let last = seen.seen().last().expect("asked").body.clone();
    assert!(last.contains("the second question") && last.contains("and then?"), "{last}");
    let list: Value = serde_json::from_str(&repo.airlock(&["ls", "--json"]).ok().stdout).expect("JSON");
    assert_eq!(list["sandboxes"].as_array().expect("a list").len(), 2, "no new sandbox");

    // By the ID that Claude Code printed, or by the name of the sandbox.
    let record = std::fs::read_to_string(repo.path.join(".git/airlock/sandboxes/one/record.json")).expect("read");
    let id = serde_json::from_str::<Value>(&record).expect("JSON")["conversation"].as_str().expect("an ID").to_owned();
    for value in [id.as_str(), "one"] {
        let resumed = repo.airlock(&["claude", "--resume", value, "-p", "go on"]).ok();
        assert!(resumed.stderr.contains("resuming one"), "{}", resumed.stderr);
        assert!(seen.seen().last().expect("asked").body.contains("the first question"));
    }
    repo.airlock(&["claude", "-r", "-p", "go on"])
        .expect_failure(125, &["has to be named without a terminal", &id, "--resume ID"]);
    repo.airlock(&["claude", "-r", "unknown", "-p", "x"]).expect_failure(125, &["has the conversation unknown", &id]);
    repo.airlock(&["--uncommitted", "claude", "-c", "-p", "x"])
        .expect_failure(125, &["--uncommitted is for a new sandbox"]);
    let mut terminal = Terminal::start(&repo, &["claude", "--resume", "-p", "chosen"]);
    terminal.shows("Which conversation");
    terminal.types("\x1b[B\r");
    terminal.shows("resuming two");
    terminal.child.wait().expect("it ends");
}

#[test]
fn inner_sandbox_of_a_repository_is_off() {
    let mut repo = TestRepo::new();
    repo.write(".claude/settings.json", r#"{"sandbox": {"enabled": true, "failIfUnavailable": true}}"#);
    repo.write(".mcp.json", r#"{"mcpServers": {"net": {"type": "http", "url": "https://mcp.example.org/mcp"}}}"#);
    repo.commit();
    let outside = tempfile::tempdir().expect("a directory");
    let file = outside.path().join("settings.json");
    std::fs::write(&file, r#"{"permissions": {"allow": ["Bash"]}}"#).expect("written");
    let bash = Step::Tool("Bash".into(), json!({"command": "echo ran > out.txt", "description": "x"}));
    let (_runtime, _model) = model(&mut repo, vec![bash, Step::Text("done".into())]);
    let inline = r#"{"permissions": {"allow": ["Bash"]}}"#;
    let cases =
        [&["--allowedTools", "Bash"][..], &["--settings", inline], &["--settings", file.to_str().expect("UTF-8")]];
    for (n, more) in cases.into_iter().enumerate() {
        let name = format!("w{n}");
        let ran = repo.airlock(&[&["--name", &name, "--review", "never", "claude", "-p", "x"], more].concat()).ok();
        assert_eq!(ran.stdout, "done\n");
        assert!(!ran.stderr.contains("bubblewrap") && !ran.stderr.contains("WITHOUT"), "{}", ran.stderr);
        assert_eq!(repo.changes(&name), [("out.txt".to_owned(), "added".to_owned())], "{more:?}");
    }
    let resumed = repo.airlock(&["resume", "w0", "--review", "never", "--", "-p", "more"]).ok();
    assert!(!resumed.stderr.contains("bubblewrap"), "{}", resumed.stderr);
}

#[test]
fn worktree_include_is_asked_once() {
    let mut repo = TestRepo::new();
    repo.write(".gitignore", ".env\nsecrets\n");
    repo.write(".worktreeinclude", "# for tests\n.env\nsecrets/\n");
    repo.commit();
    repo.write(".env", "KEY=1\n");
    repo.write("secrets/key", "2\n");
    let (_runtime, _model) = model(&mut repo, vec![Step::Text("done".into())]);
    let mentioned = repo.airlock(&["claude", "-p", "x"]).ok();
    let expected =
        ".worktreeinclude asks for ignored files; to include them, use --include '**/.env' --include '**/secrets/**'";
    assert!(mentioned.stderr.contains(expected), "{}", mentioned.stderr);
    let look = ["run", "--review", "never", "--", "sh", "-c", "cat .env secrets/key 2>/dev/null || echo none"];
    assert_eq!(repo.airlock(&look).ok().stdout, "none\n");
    let mut terminal = Terminal::start(&repo, &["run", "--", "cat", ".env", "secrets/key"]);
    terminal.shows("This repository asks to include ignored files in its sandboxes: **/.env, **/secrets/**");
    terminal.types("y\r");
    terminal.shows("KEY=1");
    terminal.child.wait().expect("it ends");
    assert_eq!(repo.airlock(&look).ok().stdout, "KEY=1\n2\n");
}
