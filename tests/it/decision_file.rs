//! Decisions as a file: written, edited by hand, taken back, applied.

use serde_json::{Value, json};

use crate::support::TestRepo;

fn sample_repo() -> TestRepo {
    let repo = TestRepo::empty();
    repo.write("a.txt", "one\nline two\nline three\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\n");
    repo.commit();
    repo.changeset("s", "sed -i 's/two/2/; s/three/3/; s/ten/10/' a.txt; echo 'layout x' > .envrc");
    repo
}

fn exported(repo: &TestRepo) -> Value {
    serde_json::from_str(&repo.airlock(&["review", "s", "--export", "-"]).ok().stdout).expect("JSON")
}

fn import(repo: &TestRepo, file: &Value, more: &[&str]) -> crate::support::CommandOutput {
    std::fs::write(repo.path.join("../decisions.json"), file.to_string()).expect("written");
    repo.airlock(&[&["review", "s", "--import", "../decisions.json"], more].concat())
}

#[test]
fn what_was_written_is_taken_back_and_applied() {
    let repo = sample_repo();
    let mut file = exported(&repo);
    let paths: Vec<&str> =
        file["files"].as_array().expect("files").iter().map(|f| f["path"].as_str().expect("a path")).collect();
    assert_eq!(paths, [".envrc", "a.txt"]);
    assert_eq!(file["files"][1]["hunks"][0]["decision"], "undecided");
    file["files"][1]["hunks"][0]["decision"] = "lines nyny".into();
    file["files"][1]["hunks"][0]["comments"] = json!([{"text": "why?"}, {"line": 2, "text": "not this"}]);
    file["files"][1]["hunks"][1]["decision"] = "edited".into();
    file["files"][1]["hunks"][1]["text"] = "TEN\n".into();
    import(&repo, &file, &[]).ok();
    let again = exported(&repo);
    assert_eq!(again, file, "the round trip is exact");
    // The same file as a selection of an apply, without the review knowing.
    let ran = repo.airlock(&["apply", "s", "--decisions", "../decisions.json"]).ok();
    assert!(ran.stdout.contains("a.txt") && ran.stderr.contains("1 of 2 files applied"), "{ran:?}");
    assert_eq!(repo.read("a.txt"), "one\nline two\nline 3\nfour\nfive\nsix\nseven\neight\nnine\nTEN\neleven\n");
    repo.airlock(&["review", "s", "--export", "d.json"]).ok();
    repo.airlock(&["review", "s", "--export", "d.json"]).expect_failure(1, &["is there already"]);
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    let repo = sample_repo();
    let before = exported(&repo);
    let with = |at: (usize, usize), key: &str, value: Value| {
        let mut file = before.clone();
        file["files"][at.0]["hunks"][at.1][key] = value;
        file
    };
    let id = before["files"][1]["hunks"][0]["id"].as_str().expect("an id").to_owned();
    let stale = with((1, 0), "id", "0123456789abcdef".into());
    import(&repo, &stale, &[])
        .expect_failure(5, &["there is no hunk 0123456789abcdef", &id, "nothing of it was taken"]);
    for (key, value, words) in [
        ("decision", json!("lines yn"), "it has 4 lines"),
        ("decision", json!("perhaps"), "is no decision"),
        ("decision", json!("edited"), "its text is missing"),
        ("text", json!("x\n"), "is not edited"),
        ("comments", json!([{"line": 9, "text": "x"}]), "a line that it does not have"),
        ("colour", json!("red"), "unknown field"),
    ] {
        import(&repo, &with((1, 0), key, value), &[]).expect_failure(1, &[words]);
    }
    let mut twice = before.clone();
    twice["files"][1]["hunks"][1] = twice["files"][1]["hunks"][0].clone();
    import(&repo, &twice, &[]).expect_failure(1, &["is in it twice"]);
    let mut newer = before.clone();
    newer["schema_version"] = 9.into();
    import(&repo, &newer, &[]).expect_failure(1, &["version 9"]);
    // High risk needs a word of its own, here as everywhere.
    let risky = with((0, 0), "decision", "accepted".into());
    import(&repo, &risky, &[]).expect_failure(1, &[".envrc needs a closer look", "--allow-risky"]);
    assert_eq!(exported(&repo), before, "nothing of any was taken");
    import(&repo, &risky, &["--allow-risky"]).ok();
    assert_eq!(exported(&repo), risky);
    repo.airlock(&["review", "s", "--import", "nowhere.json"]).expect_failure(1, &["failed to read nowhere.json"]);
    assert_eq!(repo.git(&["status", "--short"]), "");
}

#[test]
fn a_text_of_ones_own_is_judged_wherever_it_goes() {
    let repo = sample_repo();
    let mut file = exported(&repo);
    file["files"][1]["hunks"][1]["decision"] = "edited".into();
    file["files"][1]["hunks"][1]["text"] = "ten \u{202e}\n".into();
    std::fs::write(repo.path.join("../decisions.json"), file.to_string()).expect("written");
    for to in ["worktree", "branch:new", "patch:-"] {
        let args = ["apply", "s", "--decisions", "../decisions.json", "--to", to];
        repo.airlock(&args)
            .expect_failure(1, &["riskier than all of it: it has invisible characters", "--allow-risky"]);
    }
    assert_eq!(repo.git(&["status", "--short"]) + &repo.git(&["branch", "--list", "new"]), "");
    let args = ["apply", "s", "--decisions", "../decisions.json", "--to", "patch:-", "--allow-risky"];
    assert!(repo.airlock(&args).ok().stdout.contains("+ten \u{202e}"));
}
