//! Tests of a review that another program drives: `airlock review --json-rpc`, and the example for Neovim.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::json::{collect_fields, read_documented_fields};
use crate::support::{AIRLOCK, CommandOutput, TestRepo, wait_until};

/// A client of a review.
struct Client {
    process: Child,
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
}

impl Client {
    fn start_review(repo: &TestRepo, name: &str) -> Self {
        let mut command = repo.command(AIRLOCK, &["review", name, "--json-rpc"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let requests = process.stdin.take();
        let replies = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, requests, replies }
    }

    fn send_line(&mut self, line: &str) {
        let requests = self.requests.as_mut().expect("open");
        requests.write_all(format!("{line}\n").as_bytes()).expect("sent");
    }

    /// Reads the next message.
    fn receive_reply(&mut self) -> Value {
        let mut line = String::new();
        self.replies.read_line(&mut line).expect("read");
        assert!(line.chars().all(|c| c == '\n' || !c.is_control()), "{line:?}");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// Sends a request, and returns its result or its error.
    fn send_request(&mut self, method: &str, params: Value) -> Result<Value, Value> {
        self.send_line(&json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params}).to_string());
        let mut reply = self.receive_reply();
        assert_eq!((&reply["jsonrpc"], &reply["id"]), (&json!("2.0"), &json!(7)), "{reply}");
        match reply.get("error") {
            Some(error) => Err(error.clone()),
            None => Ok(reply["result"].take()),
        }
    }

    fn expect_result(&mut self, method: &str, params: Value) -> Value {
        self.send_request(method, params).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Closes the connection, and returns the exit status.
    fn close_input(mut self) -> Option<i32> {
        drop(self.requests.take());
        self.process.wait().expect("it ends").code()
    }
}

/// A repository with a sandbox `s`: two hunks in `a.txt`, a new file, a deleted one, and a file of high risk.
fn sample_repo() -> TestRepo {
    let repo = TestRepo::empty();
    repo.write("a.txt", "one\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\n");
    repo.write("old.bin", b"\0\xff");
    repo.commit();
    let script = "sed -i 's/two/2/; s/three/3/; s/ten/10/' a.txt; echo 'layout x' > .envrc; printf 'new\\033[31m\\n' > new.txt; rm old.bin";
    repo.changeset("s", script);
    repo
}

fn hunk_id(listing: &Value, path: &str, at: usize) -> String {
    let files = listing["files"].as_array().expect("files");
    let file = files.iter().find(|file| file["path"] == path).unwrap_or_else(|| panic!("{path} in {listing}"));
    file["hunks"][at]["id"].as_str().expect("an ID").to_owned()
}

#[test]
fn client_decides_and_applies() {
    let repo = sample_repo();
    let mut client = Client::start_review(&repo, "s");
    let listing = client.expect_result("list", json!({}));
    let a = client.expect_result("hunks", json!({"path": "a.txt"}));
    assert_eq!(a["path"], "a.txt");
    assert_eq!(
        a["hunks"][1]["lines"],
        json!([{"kind": "removed", "number": 10, "text": "ten"}, {"kind": "added", "number": 10, "text": "10"}])
    );
    let (first, second) = (hunk_id(&listing, "a.txt", 0), hunk_id(&listing, "a.txt", 1));
    let decisions = json!([
        {"id": first, "decision": "lines nyny"},
        {"id": second, "decision": "edited", "text": "TEN\n"},
        {"id": hunk_id(&listing, "old.bin", 0), "decision": "rejected"},
    ]);
    assert_eq!(client.expect_result("decide", json!({"hunks": decisions})), json!({"hunks": 5, "decided": 3}));
    client.expect_result("comment", json!({"id": second, "text": "why?"}));
    client.expect_result("comment", json!({"id": first, "line": 2, "text": "not this"}));
    // A decision keeps the comments.
    client.expect_result("decide", json!({"hunks": [{"id": first, "decision": "lines nyny"}]}));
    let hunks = client.expect_result("hunks", json!({"path": "a.txt"}))["hunks"].take();
    assert_eq!((&hunks[0]["decision"], &hunks[1]["text"]), (&json!("lines nyny"), &json!("TEN\n")));
    assert_eq!(hunks[0]["comments"], json!([{"line": 2, "text": "not this"}]));
    assert_eq!(hunks[1]["comments"], json!([{"text": "why?"}]));
    let plan = client.expect_result("apply", json!({"dry_run": true}));
    assert_eq!((&plan["files"][0]["outcome"], &plan["status"]), (&json!("apply"), &json!(0)), "{plan}");
    assert!(repo.read("a.txt").contains("two"), "a dry run wrote");
    let outcome = client.expect_result("apply", json!({}));
    assert_eq!((&outcome["files"][0]["outcome"], &outcome["applied"]), (&json!("applied"), &json!(1)), "{outcome}");
    assert_eq!(repo.read("a.txt"), "one\ntwo\n3\nfour\nfive\nsix\nseven\neight\nnine\nTEN\neleven\n");
    // The connection goes on after an apply.
    client.expect_result("list", json!({}));
    assert_eq!(client.close_input(), Some(0));
    // The decisions are those of the review.
    let file: Value = serde_json::from_str(&repo.airlock(&["review", "s", "--export", "-"]).ok().stdout).expect("JSON");
    assert_eq!(file["files"][1]["hunks"][0]["decision"], "lines nyny");
    let status: Value = serde_json::from_str(&repo.airlock(&["status", "s", "--json"]).ok().stdout).expect("JSON");
    assert_eq!((&status["progress"]["decided"], &status["progress"]["applied"]), (&json!(3), &json!(2)), "{status}");
}

#[test]
fn refused_requests_change_nothing() {
    let repo = sample_repo();
    let mut client = Client::start_review(&repo, "s");
    let listing = client.expect_result("list", json!({}));
    let (risky, first) = (hunk_id(&listing, ".envrc", 0), hunk_id(&listing, "a.txt", 0));
    let decide = |hunks: Value| json!({ "hunks": hunks });
    let accepted = |id: &str| json!({"id": id, "decision": "accepted"});
    for (method, params, code, words) in [
        ("decide", decide(json!([accepted(&first), accepted(&risky)])), 1, ".envrc is high risk"),
        ("decide", decide(json!([accepted(&first), accepted("0123")])), 5, "no hunk `0123`; nothing was decided"),
        ("decide", decide(json!([accepted(&first), accepted(&first)])), 1, "listed twice"),
        ("decide", decide(json!([{"id": first, "decision": "maybe"}])), 1, "maybe"),
        ("decide", decide(json!([{"id": first, "decision": "lines yy"}])), 1, "4 lines"),
        ("decide", json!({"hunks": [], "more": 1}), -32602, "more"),
        ("decide", json!([first]), -32602, "by name"),
        ("decide", json!([]), -32602, "hunks"),
        ("comment", json!({"id": "0123", "text": "x"}), 5, "0123"),
        ("comment", json!({"id": first, "line": 4, "text": "x"}), -32602, "4 lines"),
        ("hunks", json!({"path": "../../etc/passwd"}), 1, "did not change"),
        ("list", json!({"path": "a.txt"}), -32602, "path"),
        ("contents", json!({"path": "/etc/passwd"}), 1, "did not change"),
        ("contents", json!({"path": "missing"}), 1, "did not change"),
        ("apply", json!({}), 1, "nothing is accepted"),
        ("apply", json!({"on_conflict": "git-merge"}), -32602, "git-merge"),
        ("shutdown", json!({}), -32601, "shutdown"),
    ] {
        let reply = client.send_request(method, params.clone());
        let error = reply.expect_err(&format!("{method} {params}"));
        assert_eq!(error["code"], code, "{method} {params}: {error}");
        assert!(error.to_string().contains(words), "{method} {params}: {error}");
    }
    assert_eq!(client.expect_result("list", json!({})), listing);
    client.send_line("{");
    assert_eq!(client.receive_reply()["error"]["code"], -32700);
    // A request without an ID is carried out, and not answered.
    let silent = json!({"jsonrpc": "2.0", "method": "decide", "params": decide(json!([accepted(&first)]))});
    client.send_line(&silent.to_string());
    let file = client.expect_result("hunks", json!({"path": "a.txt"}));
    assert_eq!(file["hunks"][0]["decision"], "accepted");
    client.expect_result("decide", json!({"hunks": [accepted(&risky)], "allow_risky": true}));
    // No other command decides at the same time.
    repo.airlock(&["review", "s", "--export", "-"]).expect_failure(1, &["s", "use"]);
    assert_eq!(client.close_input(), Some(0));
}

#[test]
fn contents_are_texts_or_null() {
    let repo = sample_repo();
    let mut client = Client::start_review(&repo, "s");
    let contents = |client: &mut Client, path: &str| client.expect_result("contents", json!({ "path": path }));
    assert_eq!(contents(&mut client, "new.txt"), json!({"old": null, "new": "new\u{1b}[31m\n"}));
    assert_eq!(contents(&mut client, "old.bin"), json!({"old": null, "new": null}));
    assert!(contents(&mut client, "a.txt")["new"].as_str().is_some_and(|text| text.starts_with("one\n2\n3\n")));
    assert_eq!(client.close_input(), Some(0));
}

#[test]
fn conflict_is_a_result() {
    let repo = sample_repo();
    repo.write("a.txt", repo.read("a.txt").replace("two", "mine"));
    let mut client = Client::start_review(&repo, "s");
    let id = hunk_id(&client.expect_result("list", json!({})), "a.txt", 0);
    client.expect_result("decide", json!({"hunks": [{"id": id, "decision": "accepted"}]}));
    let outcome = client.expect_result("apply", json!({}));
    assert_eq!((&outcome["status"], &outcome["files"][0]["outcome"]), (&json!(4), &json!("conflict")), "{outcome}");
    assert!(repo.read("a.txt").contains("mine\nthree"));
    let outcome = client.expect_result("apply", json!({"on_conflict": "markers"}));
    assert_eq!(outcome["status"], 0, "{outcome}");
    assert!(repo.read("a.txt").contains("<<<<<<<"));
    assert_eq!(client.close_input(), Some(0));
}

#[test]
fn signal_after_an_apply_ends_the_review() {
    let repo = sample_repo();
    let mut client = Client::start_review(&repo, "s");
    let id = hunk_id(&client.expect_result("list", json!({})), "a.txt", 0);
    client.expect_result("decide", json!({"hunks": [{"id": id, "decision": "accepted"}]}));
    client.expect_result("apply", json!({}));
    rustix::process::kill_process(crate::support::pid(&client.process), rustix::process::Signal::TERM).expect("sent");
    let mut status = None;
    wait_until("the review ends", || {
        status = client.process.try_wait().expect("known");
        status.is_some()
    });
    assert_eq!(status.and_then(|status| status.code()), Some(130));
    assert_eq!(repo.diff("s")["files"][1]["hunks"][0]["decision"], "accepted");
}

#[test]
fn fields_match_documentation() {
    let repo = TestRepo::new();
    repo.write("link", "x");
    repo.commit();
    repo.changeset("s", "printf 'one' > a.txt; ln -sf a.txt link");
    let mut client = Client::start_review(&repo, "s");
    let id = hunk_id(&client.expect_result("list", json!({})), "a.txt", 0);
    let mut found = BTreeSet::new();
    let mut collect = |method: &str, result: &Value| {
        let mut fields = BTreeSet::new();
        collect_fields(result, "", &mut fields);
        found.extend(fields.into_iter().map(|field| format!("{method}: {field}")));
    };
    let edited = json!({"hunks": [{"id": id, "decision": "edited", "text": "x\n"}]});
    collect("decide", &client.expect_result("decide", edited));
    collect("comment", &client.expect_result("comment", json!({"id": id, "line": 0, "text": "x"})));
    client.expect_result("comment", json!({"id": id, "part": [0, 1], "text": "y"}));
    collect("hunks", &client.expect_result("hunks", json!({"path": "a.txt"})));
    collect("hunks", &client.expect_result("hunks", json!({"path": "link"})));
    collect("contents", &client.expect_result("contents", json!({"path": "a.txt"})));
    let outcome = client.expect_result("apply", json!({"dry_run": true}));
    collect("apply", &json!({"status": outcome["status"]}));
    // What `diff --json` lists of a file as well.
    let mut listed = BTreeSet::new();
    collect_fields(&client.expect_result("list", json!({}))["files"], "", &mut listed);
    let listed: BTreeSet<String> = listed.iter().map(|field| field.replacen("[].", "hunks: ", 1)).collect();
    found.retain(|field| !listed.contains(field));
    assert_eq!(client.close_input(), Some(0));
    // The first table is of methods.
    let documented = read_documented_fields("`airlock review --json-rpc`");
    let documented: BTreeSet<String> = documented.into_iter().filter(|field| field.contains(": ")).collect();
    assert_eq!(found, documented);
}

/// A hunk that is too large for a reply says so.
#[test]
fn large_hunk_is_truncated() {
    let repo = TestRepo::new();
    repo.changeset("s", "yes '' | head -n 30000 > many; head -c 5000000 /dev/zero | tr '\\0' x > long; echo >> long");
    let mut client = Client::start_review(&repo, "s");
    let hunk = client.expect_result("hunks", json!({"path": "many"}))["hunks"][0].take();
    assert_eq!((&hunk["is_truncated"], hunk["lines"].as_array().map(Vec::len)), (&json!(true), Some(20_000)));
    let file = client.expect_result("hunks", json!({"path": "long"}));
    assert!(file["hunks"][0]["lines"].as_array().is_none_or(Vec::is_empty), "{}", file.to_string().len());
    assert_eq!(client.close_input(), Some(0));
}

/// A path that stands for two files, because one of them is not UTF-8, is not guessed.
#[test]
fn path_of_two_files_needs_bytes() {
    let repo = TestRepo::new();
    repo.changeset("s", "printf evil > \"$(printf 'x\\377y')\"; printf benign > \"$(printf 'x\\357\\277\\275y')\"");
    let mut client = Client::start_review(&repo, "s");
    let listing = client.expect_result("list", json!({}));
    for file in listing["files"].as_array().expect("files") {
        assert_eq!(file["path"], "x\u{fffd}y");
        client.expect_result("hunks", json!({"path": file["path"], "path_bytes": file["path_bytes"]}));
    }
    let error = client.send_request("contents", json!({"path": "x\u{fffd}y"})).expect_err("it is ambiguous");
    assert!(error.to_string().contains("path_bytes"), "{error}");
    for (bytes, text) in [(&b"x\xffy"[..], "evil"), ("x\u{fffd}y".as_bytes(), "benign")] {
        let contents = client.expect_result("contents", json!({"path": "x\u{fffd}y", "path_bytes": bytes}));
        assert_eq!(contents["new"], text);
    }
    assert_eq!(client.close_input(), Some(0));
}

/// Many applies keep nothing open.
#[test]
fn dry_runs_keep_no_descriptors() {
    let repo = sample_repo();
    let mut client = Client::start_review(&repo, "s");
    let id = hunk_id(&client.expect_result("list", json!({})), "a.txt", 0);
    client.expect_result("decide", json!({"hunks": [{"id": id, "decision": "accepted"}]}));
    client.expect_result("apply", json!({}));
    let open =
        |client: &Client| std::fs::read_dir(format!("/proc/{}/fd", client.process.id())).expect("listed").count();
    let before = open(&client);
    for _ in 0..10 {
        client.expect_result("apply", json!({"dry_run": true}));
        client.expect_result("apply", json!({}));
    }
    assert_eq!(open(&client), before);
    assert_eq!(client.close_input(), Some(0));
}

/// Runs the example for Neovim without a screen: a hunk is accepted with a key, one is rejected, and the accepted one applied.
#[test]
fn neovim_example_reviews_and_applies() {
    let mut repo = sample_repo();
    repo.changeset("other", "echo other > other.txt");
    let programs = Path::new(AIRLOCK).parent().expect("a directory");
    let path = std::env::var("PATH").expect("a PATH");
    repo.set("PATH", format!("{}:{path}", programs.display()));
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/neovim");
    let script = r#"
        local function fail(text) io.stderr:write(text .. "\n") vim.cmd("cquit 1") end
        vim.fn.confirm = function() return 1 end
        vim.ui.input = function(_, done) done("why?") end
        local said = {}
        vim.notify = function(text) table.insert(said, text) end
        local function lines() return vim.api.nvim_buf_get_lines(0, 0, -1, false) end
        local function wait_for(what, is_true)
          if not vim.wait(20000, is_true, 10) then fail("no " .. what .. ": " .. vim.inspect(lines()) .. vim.inspect(said)) end
        end
        local function find(text)
          for at, line in ipairs(lines()) do if line:find(text, 1, true) then return at end end
        end
        local function press(key, at)
          vim.api.nvim_win_set_cursor(0, { at, 0 })
          vim.api.nvim_feedkeys(key, "xt", false)
        end
        vim.cmd("AirlockReview s")
        wait_for("list", function() return find("a.txt") end)
        press("a", find("-two"))
        wait_for("accepted hunk", function() return find("[+] @@ -2,2 +2,2 @@") end)
        press("x", find("-ten"))
        wait_for("rejected hunk", function() return find("[x]") end)
        press("c", find("-ten"))
        wait_for("comment", function() return find("> why?") end)
        press("a", find("+layout x"))
        wait_for("refusal", function() return said[#said] and said[#said]:find("high risk") end)
        press("w", 1)
        wait_for("apply", function() return said[#said] == "airlock: applied: 1 of 4 files" end)
        for _, line in ipairs(lines()) do io.stdout:write(line .. "\n") end
        -- A second review has its own window; the keys of each decide there.
        local first = vim.api.nvim_get_current_win()
        vim.cmd("AirlockReview other")
        wait_for("list of the other sandbox", function() return find("+other") end)
        vim.api.nvim_set_current_win(first)
        press("u", find("-two"))
        wait_for("decision in the first", function() return find("[ ] @@ -2,2 +2,2 @@") end)
        vim.api.nvim_set_current_win(vim.fn.win_getid(vim.fn.winnr("$")))
        press("R", 1)
        wait_for("undecided hunk", function() return find("[ ] @@ -1,0 +1,1 @@") and not find("[+]") end)
        vim.cmd("bwipeout")
        vim.api.nvim_set_current_win(first)
        vim.api.nvim_feedkeys("q", "xt", false)
        vim.cmd("qall!")
    "#;
    let file = repo.directory().join("test.lua");
    std::fs::write(&file, script).expect("written");
    let load = format!("set runtimepath^={}", example.display());
    let run = format!("luafile {}", file.display());
    let args = [
        "--headless",
        "-u",
        "NONE",
        "-i",
        "NONE",
        "-n",
        "--cmd",
        &load,
        "-c",
        "runtime plugin/airlock.lua",
        "-c",
        &run,
    ];
    let shown = CommandOutput::from_command(repo.command("nvim", &args)).ok();
    insta::assert_snapshot!(shown.stdout.replace('\u{1b}', "<ESC>"), @r#"
    added  .envrc  high
      high: runs when you enter the directory
      high: sets environment variables of commands
      [ ] @@ -1,0 +1,1 @@
        +layout x
    modified  a.txt
      [+] @@ -2,2 +2,2 @@
        -two
        -three
        +2
        +3
      [x] @@ -10,1 +10,1 @@
        -ten
        +10
        > why?
    added  new.txt  high
      high: contains invisible characters
      [ ] @@ -1,0 +1,1 @@
        +new<ESC>[31m
    deleted  old.bin
      [ ] delete
    "#);
    assert_eq!(repo.read("a.txt"), "one\n2\n3\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\n");
}
