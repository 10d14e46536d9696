//! Decisions as a file: written, edited by hand, taken back, applied.

use serde_json::{Value, json};

use crate::support::Place;

fn place() -> Place {
    let place = Place::empty();
    place.write("a.txt", "one\nline two\nline three\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\n");
    place.commit();
    place.sandbox("s", "sed -i 's/two/2/; s/three/3/; s/ten/10/' a.txt; echo 'layout x' > .envrc").ok();
    place
}

fn exported(place: &Place) -> Value {
    serde_json::from_str(&place.airlock(&["review", "s", "--export", "-"]).ok().out).expect("JSON")
}

fn import(place: &Place, file: &Value, more: &[&str]) -> crate::support::Ran {
    std::fs::write(place.repo.join("../decisions.json"), file.to_string()).expect("written");
    place.airlock(&[&["review", "s", "--import", "../decisions.json"], more].concat())
}

#[test]
fn what_was_written_is_taken_back_and_applied() {
    let place = place();
    let mut file = exported(&place);
    let paths: Vec<&str> =
        file["files"].as_array().expect("files").iter().map(|f| f["path"].as_str().expect("a path")).collect();
    assert_eq!(paths, [".envrc", "a.txt"]);
    assert_eq!(file["files"][1]["hunks"][0]["decision"], "undecided");
    file["files"][1]["hunks"][0]["decision"] = "lines nyny".into();
    file["files"][1]["hunks"][0]["comments"] = json!([{"text": "why?"}, {"line": 2, "text": "not this"}]);
    file["files"][1]["hunks"][1]["decision"] = "edited".into();
    file["files"][1]["hunks"][1]["text"] = "TEN\n".into();
    import(&place, &file, &[]).ok();
    let again = exported(&place);
    assert_eq!(again, file, "the round trip is exact");
    // The same file as a selection of an apply, without the review knowing.
    let ran = place.airlock(&["apply", "s", "--decisions", "../decisions.json"]).ok();
    assert!(ran.out.contains("a.txt") && ran.err.contains("1 of 2 files applied"), "{ran:?}");
    assert_eq!(place.read("a.txt"), "one\nline two\nline 3\nfour\nfive\nsix\nseven\neight\nnine\nTEN\neleven\n");
    place.airlock(&["review", "s", "--export", "d.json"]).ok();
    place.airlock(&["review", "s", "--export", "d.json"]).fails(1, &["is there already"]);
}

#[test]
fn what_does_not_fit_is_refused_whole() {
    let place = place();
    let before = exported(&place);
    let with = |at: (usize, usize), key: &str, value: Value| {
        let mut file = before.clone();
        file["files"][at.0]["hunks"][at.1][key] = value;
        file
    };
    let id = before["files"][1]["hunks"][0]["id"].as_str().expect("an id").to_owned();
    let stale = with((1, 0), "id", "0123456789abcdef".into());
    import(&place, &stale, &[]).fails(5, &["there is no hunk 0123456789abcdef", &id, "nothing of it was taken"]);
    for (key, value, words) in [
        ("decision", json!("lines yn"), "it has 4 lines"),
        ("decision", json!("perhaps"), "is no decision"),
        ("decision", json!("edited"), "its text is missing"),
        ("text", json!("x\n"), "is not edited"),
        ("comments", json!([{"line": 9, "text": "x"}]), "a line that it does not have"),
        ("colour", json!("red"), "unknown field"),
    ] {
        import(&place, &with((1, 0), key, value), &[]).fails(1, &[words]);
    }
    let mut twice = before.clone();
    twice["files"][1]["hunks"][1] = twice["files"][1]["hunks"][0].clone();
    import(&place, &twice, &[]).fails(1, &["is in it twice"]);
    let mut newer = before.clone();
    newer["schema_version"] = 9.into();
    import(&place, &newer, &[]).fails(1, &["version 9"]);
    // High risk needs a word of its own, here as everywhere.
    let risky = with((0, 0), "decision", "accepted".into());
    import(&place, &risky, &[]).fails(1, &[".envrc needs a closer look", "--allow-risky"]);
    assert_eq!(exported(&place), before, "nothing of any was taken");
    import(&place, &risky, &["--allow-risky"]).ok();
    assert_eq!(exported(&place), risky);
    place.airlock(&["review", "s", "--import", "nowhere.json"]).fails(1, &["failed to read nowhere.json"]);
    assert_eq!(place.git(&["status", "--short"]), "");
}

#[test]
fn a_text_of_ones_own_is_judged_wherever_it_goes() {
    let place = place();
    let mut file = exported(&place);
    file["files"][1]["hunks"][1]["decision"] = "edited".into();
    file["files"][1]["hunks"][1]["text"] = "ten \u{202e}\n".into();
    std::fs::write(place.repo.join("../decisions.json"), file.to_string()).expect("written");
    for to in ["worktree", "branch:new", "patch:-"] {
        let args = ["apply", "s", "--decisions", "../decisions.json", "--to", to];
        place.airlock(&args).fails(1, &["riskier than all of it: it has invisible characters", "--allow-risky"]);
    }
    assert_eq!(place.git(&["status", "--short"]) + &place.git(&["branch", "--list", "new"]), "");
    let args = ["apply", "s", "--decisions", "../decisions.json", "--to", "patch:-", "--allow-risky"];
    assert!(place.airlock(&args).ok().out.contains("+ten \u{202e}"));
}
