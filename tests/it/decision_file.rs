//! Tests of decision files: export, edits by hand, import and apply.

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{CommandOutput, TestRepo};

/// Creates a repository with a sandbox `s` that has two hunks in a.txt and a high-risk file.
fn sample_repo() -> TestRepo {
    let repo = TestRepo::empty();
    repo.write("a.txt", "one\nline two\nline three\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\n");
    repo.commit();
    repo.changeset("s", "sed -i 's/two/2/; s/three/3/; s/ten/10/' a.txt; echo 'layout x' > .envrc");
    repo
}

fn export_decisions(repo: &TestRepo) -> Value {
    serde_json::from_str(&repo.airlock(&["review", "s", "--export", "-"]).ok().stdout).expect("JSON")
}

fn import_decisions(repo: &TestRepo, file: &Value, more: &[&str]) -> CommandOutput {
    std::fs::write(repo.path.join("../decisions.json"), file.to_string()).expect("written");
    repo.airlock(&[&["review", "s", "--import", "../decisions.json"], more].concat())
}

#[test]
fn decision_file_round_trips_and_applies() {
    let repo = sample_repo();
    let mut file = export_decisions(&repo);
    let paths: Vec<&str> =
        file["files"].as_array().expect("files").iter().map(|f| f["path"].as_str().expect("a path")).collect();
    assert_eq!(paths, [".envrc", "a.txt"]);
    assert_eq!(file["files"][1]["hunks"][0]["decision"], "undecided");
    file["files"][1]["hunks"][0]["decision"] = "lines nyny".into();
    file["files"][1]["hunks"][0]["comments"] = json!([{"text": "why?"}, {"line": 2, "text": "not this"}]);
    file["files"][1]["hunks"][1]["decision"] = "edited".into();
    file["files"][1]["hunks"][1]["text"] = "TEN\n".into();
    import_decisions(&repo, &file, &[]).ok();
    let again = export_decisions(&repo);
    assert_eq!(again, file, "the round trip changed the file");
    // The same file selects the changes of an apply, without a change to the review.
    assert_snapshot!(repo.airlock(&["apply", "s", "--decisions", "../decisions.json"]), @"
    status: 0
    ----- stdout -----
      applied    a.txt  2 partial or edited of 2 hunks
    ----- stderr -----
    airlock: 1 of 2 files applied. Undo: airlock undo s · Next: airlock review s, or airlock rm s
    ");
    assert_eq!(repo.read("a.txt"), "one\nline two\nline 3\nfour\nfive\nsix\nseven\neight\nnine\nTEN\neleven\n");
    repo.airlock(&["review", "s", "--export", "d.json"]).ok();
    assert_snapshot!(repo.airlock(&["review", "s", "--export", "d.json"]), @"
    status: 1
    ----- stderr -----
    error: d.json already exists; nothing was written
    hint: to replace it, add `--force`, or use `-` for stdout
    ");
}

#[test]
fn import_refuses_invalid_files() {
    let repo = sample_repo();
    let before = export_decisions(&repo);
    let with = |at: (usize, usize), key: &str, value: Value| {
        let mut file = before.clone();
        file["files"][at.0]["hunks"][at.1][key] = value;
        file
    };
    let id = before["files"][1]["hunks"][0]["id"].as_str().expect("an id").to_owned();
    let stale = with((1, 0), "id", "0123456789abcdef".into());
    let ran = import_decisions(&repo, &stale, &[]);
    assert_snapshot!(ran, @"
    status: 5
    ----- stderr -----
    error: ../decisions.json: this changeset has no hunk `0123456789abcdef`; no decisions were read
      [SHA256]  .envrc
      [SHA256]  a.txt
      [SHA256]  a.txt
    hint: the current IDs are listed above; to print all of them, run `airlock review --export -`
    ");
    assert!(ran.stderr.contains(&id), "{}", ran.stderr);
    let invalid = [
        ("decision", json!("lines yn")),
        ("decision", json!("perhaps")),
        ("decision", json!("edited")),
        ("text", json!("x\n")),
        ("comments", json!([{"line": 9, "text": "x"}])),
        ("colour", json!("red")),
    ];
    let refusals = invalid.map(|(key, value)| import_decisions(&repo, &with((1, 0), key, value), &[]).to_string());
    assert_snapshot!(refusals.concat(), @r#"
    status: 1
    ----- stderr -----
    error: ../decisions.json: hunk [SHA256] of a.txt: it has 4 lines, but lines yn describes a different number; no decisions were read
    status: 1
    ----- stderr -----
    error: ../decisions.json: hunk [SHA256] of a.txt: "perhaps" is not a decision (accepted, rejected, or lines followed by y, n or . for each line); no decisions were read
    status: 1
    ----- stderr -----
    error: ../decisions.json: hunk [SHA256] of a.txt: it is edited, but its text is missing; no decisions were read
    status: 1
    ----- stderr -----
    error: ../decisions.json: hunk [SHA256] of a.txt: it has a text, but is not edited; no decisions were read
    status: 1
    ----- stderr -----
    error: ../decisions.json: hunk [SHA256] of a.txt: a comment refers to a line that it does not have; no decisions were read
    status: 1
    ----- stderr -----
    error: ../decisions.json: this is not a decision file: unknown field `colour`, expected one of `id`, `at`, `decision`, `text`, `comments` at line 1 column 267; no decisions were read
    "#);
    let mut twice = before.clone();
    twice["files"][1]["hunks"][1] = twice["files"][1]["hunks"][0].clone();
    assert_snapshot!(import_decisions(&repo, &twice, &[]), @"
    status: 1
    ----- stderr -----
    error: ../decisions.json: the hunk [SHA256] is listed twice; no decisions were read
    ");
    let mut newer = before.clone();
    newer["schema_version"] = 9.into();
    assert_snapshot!(import_decisions(&repo, &newer, &[]), @"
    status: 1
    ----- stderr -----
    error: ../decisions.json: it has format version 9, and this Airlock reads version 1; no decisions were read
    ");
    // High-risk changes need `--allow-risky`, as they do in every command.
    let risky = with((0, 0), "decision", "accepted".into());
    assert_snapshot!(import_decisions(&repo, &risky, &[]), @"
    status: 1
    ----- stderr -----
    error: ../decisions.json: .envrc is high risk and requires confirmation; no decisions were read
    hint: review it, then add `--allow-risky`
    ");
    assert_eq!(export_decisions(&repo), before, "a refused file changed the decisions");
    import_decisions(&repo, &risky, &["--allow-risky"]).ok();
    assert_eq!(export_decisions(&repo), risky);
    assert_snapshot!(repo.airlock(&["review", "s", "--import", "nowhere.json"]), @"
    status: 1
    ----- stderr -----
    error: failed to read nowhere.json: No such file or directory (os error 2)
    ");
    assert_eq!(repo.git(&["status", "--short"]), "");
}

#[test]
fn edited_text_is_checked_for_each_target() {
    let repo = sample_repo();
    let mut file = export_decisions(&repo);
    file["files"][1]["hunks"][1]["decision"] = "edited".into();
    file["files"][1]["hunks"][1]["text"] = "ten \u{202e}\n".into();
    std::fs::write(repo.path.join("../decisions.json"), file.to_string()).expect("written");
    let apply_to = |to: &str| repo.airlock(&["apply", "s", "--decisions", "../decisions.json", "--to", to]);
    assert_snapshot!(apply_to("worktree"), @"
    status: 1
    ----- stderr -----
    error: what would be written to a.txt is riskier than the whole change: it contains invisible characters
    hint: accept the whole change, omit it with `--reject=a.txt`, or add `--allow-risky`
    ");
    assert_snapshot!(apply_to("branch:new"), @"
    status: 1
    ----- stderr -----
    error: what would be written to a.txt is riskier than the whole change: it contains invisible characters
    hint: accept the whole change, omit it with `--reject=a.txt`, or add `--allow-risky`
    ");
    assert_snapshot!(apply_to("patch:-"), @"
    status: 1
    ----- stderr -----
    error: what would be written to a.txt is riskier than the whole change: it contains invisible characters
    hint: accept the whole change, omit it with `--reject=a.txt`, or add `--allow-risky`
    ");
    assert_eq!(repo.git(&["status", "--short"]) + &repo.git(&["branch", "--list", "new"]), "");
    let args = ["apply", "s", "--decisions", "../decisions.json", "--to", "patch:-", "--allow-risky"];
    assert!(repo.airlock(&args).ok().stdout.contains("+ten \u{202e}"));
}
