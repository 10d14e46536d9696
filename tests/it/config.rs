//! `airlock config`: the settings with their origins, and the commented file.

use serde_json::Value;

use crate::support::TestRepo;

#[test]
fn settings_are_shown_with_their_origin() {
    let mut repo = TestRepo::new();
    let file = repo.directory().join("home/.config/airlock/config.toml");
    let created = repo.airlock(&["config", "init"]).ok();
    assert_eq!(created.stdout, format!("{}\n", file.display()));
    let text = std::fs::read_to_string(&file).expect("created");
    assert!(
        text.contains("\n# memory = \"4g\"\n") && text.lines().all(|line| line.is_empty() || line.starts_with('#'))
    );
    repo.airlock(&["config", "init"]).expect_failure(1, &["exists already", "airlock config show --origin"]);
    let shown = repo.airlock(&["config", "show"]).ok().stdout;
    assert!(shown.contains("disk = \"10g\"\n") && shown.contains("# timeout is not set\n"), "{shown}");

    std::fs::write(
        &file,
        format!("{text}\nmemory = \"6g\"\npids = 50\n[[risk]]\nname = \"x\"\nseverity = \"high\"\npaths = [\"x\"]\n"),
    )
    .expect("written");
    repo.set("AIRLOCK_PIDS", "99");
    let shown = repo.airlock(&["config", "show", "--origin"]).ok().stdout;
    let has = |words: &[&str]| shown.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&["memory = \"6g\"", "# ", "config.toml"]) && has(&["pids = 99", "# AIRLOCK_PIDS"]), "{shown}");
    assert!(has(&["bases = 3", "# default"]) && shown.ends_with("# and 1 risk rule\n"), "{shown}");
    let json: Value = serde_json::from_str(&repo.airlock(&["config", "show", "--json"]).ok().stdout).expect("JSON");
    assert_eq!((&json["settings"]["pids"]["value"], &json["tables"]["risk"]), (&"99".into(), &1.into()));
    repo.set("AIRLOCK_PIDS", "many");
    repo.airlock(&["config", "show"]).expect_failure(2, &["AIRLOCK_PIDS"]);
}
