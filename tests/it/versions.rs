//! Tests of files that another version of Airlock wrote: they are refused by name, and nothing is lost.

use std::fs;

use crate::support::TestRepo;

#[test]
fn newer_record_is_refused_and_kept() {
    let repo = TestRepo::new();
    repo.changeset("s", "echo x >> a.txt");
    let record = repo.path.join(".git/airlock/sandboxes/s/record.json");
    let ours = fs::read_to_string(&record).expect("read");
    let newer = r#"{"schema_version": 99, "state": {"moon": 1}}"#;
    fs::write(&record, newer).expect("written");
    for args in [&["diff", "s"][..], &["apply", "s", "--accept-all"], &["rm", "--force", "s"], &["resume", "s"]] {
        let ran = repo.airlock(args);
        assert!(ran.status != 0 && ran.stderr.contains("was written by a newer Airlock"), "{args:?}: {ran:?}");
    }
    assert_eq!(fs::read_to_string(&record).expect("read"), newer);
    assert_eq!(repo.read("a.txt"), "one\ntwo\n");
    // The newer version is installed again.
    fs::write(&record, ours).expect("written");
    repo.airlock(&["apply", "s", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");
}

#[test]
fn decision_file_of_another_version_is_refused() {
    let repo = TestRepo::new();
    repo.changeset("s", "echo x >> a.txt");
    let file = repo.directory().join("decisions.json");
    fs::write(&file, r#"{"schema_version": 7, "choices": []}"#).expect("written");
    let file = file.to_str().expect("UTF-8");
    for args in [&["review", "s", "--import", file][..], &["apply", "s", "--decisions", file]] {
        let ran = repo.airlock(args);
        assert!(
            ran.status != 0 && ran.stderr.contains("it has format version 7, and this Airlock reads version 1"),
            "{ran:?}"
        );
    }
    assert_eq!(repo.read("a.txt"), "one\ntwo\n");
}
