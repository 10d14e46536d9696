//! Tests of renames: one entry and one decision, in `diff`, `apply`, `undo` and the review.

use insta::assert_snapshot;

use crate::support::TestRepo;

fn numbered_lines(count: usize) -> String {
    (1..=count).map(|n| format!("line {n}\n")).collect()
}

/// Creates a repository with a sandbox `r` that moved and edited one file, and moved another one.
fn renamed_files() -> TestRepo {
    let repo = TestRepo::new();
    repo.write("src/main.rs", numbered_lines(20));
    repo.write("lib/tool", "#!/bin/sh\necho tool\n");
    repo.commit();
    repo.changeset(
        "r",
        "mkdir app; git mv src/main.rs app/main.rs; sed -i 's/^line 3$/three/' app/main.rs; git mv lib/tool tool; chmod +x tool",
    );
    repo
}

#[test]
fn diff_shows_rename_as_one_entry() {
    let repo = renamed_files();
    assert_snapshot!(repo.airlock(&["diff", "r", "--stat"]), @"
    status: 0
    ----- stdout -----
    renamed   src/main.rs → app/main.rs  +1 −1
    renamed   lib/tool → tool            renamed from lib/tool  high
    2 files, +1 −1
    ");
    assert_snapshot!(repo.airlock(&["diff", "r", "--no-pager"]), @"
    status: 0
    ----- stdout -----
    renamed  src/main.rs → app/main.rs
    renamed from src/main.rs
    @@ -1,6 +1,6 @@
     line 1
     line 2
    -line 3
    +three
     line 4
     line 5
     line 6

    renamed  lib/tool → tool
    ! high: gains the executable bit
    renamed from lib/tool
    becomes executable
    ");
    let files = repo.diff("r")["files"].clone();
    let words: Vec<_> = files.as_array().expect("a list").iter().map(|f| (&f["change"], &f["renamed_from"])).collect();
    assert_eq!(serde_json::to_string(&words).expect("JSON"), r#"[["renamed","src/main.rs"],["renamed","lib/tool"]]"#);
}

#[test]
fn apply_moves_the_file_and_undo_moves_it_back() {
    let repo = renamed_files();
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all", "--allow-risky", "--dry-run"]), @"
    status: 0
    ----- stdout -----
      rename     src/main.rs → app/main.rs
      rename     lib/tool → tool
    ----- stderr -----
    airlock: would create the directory app
    airlock: would remove the empty directory lib
    airlock: would remove the empty directory src
    airlock: this was a dry run; nothing was written
    ");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all", "--allow-risky"]), @"
    status: 0
    ----- stdout -----
      renamed    src/main.rs → app/main.rs
      renamed    lib/tool → tool
    ----- stderr -----
    airlock: 2 of 2 files applied. Undo: airlock undo r · All changes are decided. Next: airlock resume r, or airlock rm r
    ");
    assert!(!repo.path.join("src").exists() && !repo.path.join("lib").exists());
    assert!(repo.read("app/main.rs").contains("line 2\nthree\n"));
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all", "--allow-risky"]), @"
    status: 0
    ----- stdout -----
      unchanged  src/main.rs → app/main.rs
      unchanged  lib/tool → tool
    ----- stderr -----
    airlock: 0 of 2 files applied, 2 unchanged. All changes are decided. Next: airlock resume r, or airlock rm r
    ");
    assert_snapshot!(repo.airlock(&["undo"]), @"
    status: 0
    ----- stdout -----
      removed    app/main.rs
      restored   lib/tool
      restored   src/main.rs
      removed    tool
    ----- stderr -----
    airlock: undid the apply of r (4 files). Next: airlock review r
    ");
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn content_of_a_renamed_file_applies_without_the_rename() {
    let repo = renamed_files();
    let diff = repo.diff("r");
    let file = diff["files"].as_array().expect("a list").iter().find(|f| f["path"] == "app/main.rs").expect("listed");
    let id = |kind: &str| {
        let hunks = file["hunks"].as_array().expect("a list");
        hunks.iter().find(|h| h["kind"] == kind).expect("a unit")["id"].as_str().expect("text").to_owned()
    };
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-id", &id("lines")]), @"
    status: 0
    ----- stdout -----
      applied    src/main.rs  1 of 2 hunks
    ----- stderr -----
    airlock: 1 of 2 files applied. Undo: airlock undo r · Next: airlock review r, or airlock rm r
    ");
    assert!(repo.read("src/main.rs").contains("line 2\nthree\n"));
    assert!(!repo.path.join("app").exists());
    // The rename follows later, with what was applied before it.
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-id", &id("rename")]), @"
    status: 0
    ----- stdout -----
      renamed    src/main.rs → app/main.rs  with your own edits
    ----- stderr -----
    airlock: 1 of 2 files applied. Undo: airlock undo r · Next: airlock review r, or airlock rm r
    ");
    assert!(repo.read("app/main.rs").contains("line 2\nthree\n"));
    assert!(!repo.path.join("src").exists());
    repo.airlock(&["undo"]).ok();
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.read("src/main.rs"), numbered_lines(20));
}

#[test]
fn edits_of_the_user_move_with_the_file_or_conflict() {
    let repo = renamed_files();
    let edited = numbered_lines(20).replace("line 18\n", "my 18\n");
    repo.write("src/main.rs", &edited);
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "app/main.rs"]), @"
    status: 0
    ----- stdout -----
      renamed    src/main.rs → app/main.rs  with your own edits
    ----- stderr -----
    airlock: 1 of 2 files applied. Undo: airlock undo r · Next: airlock review r, or airlock rm r
    ");
    let moved = repo.read("app/main.rs");
    assert!(moved.contains("three\n") && moved.contains("my 18\n"), "{moved}");
    assert!(!repo.path.join("src").exists());
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.read("src/main.rs"), edited);
    // An edit of the same line is a conflict, and neither path is written, whatever is done about conflicts.
    repo.write("src/main.rs", numbered_lines(20).replace("line 3\n", "my 3\n"));
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "app/main.rs"]), @"
    status: 4
    ----- stdout -----
      skipped    app/main.rs  because of the conflicts
      conflict   src/main.rs  it would be deleted, but you have changed it in the working tree

    src/main.rs: it would be deleted, but you have changed it in the working tree
      base      │ a file, 151 bytes, sha256 a1f3f2768183…
      yours     │ a file, 149 bytes, sha256 cd45cea47369…
      accepted  │ nothing
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to skip them, add `--reject=src/main.rs`
    airlock: to write everything except conflicts, add `--on-conflict skip`
    ");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "app/main.rs", "--on-conflict", "skip"]), @"
    status: 0
    ----- stdout -----
      skipped    app/main.rs  the other path of its rename is skipped
      skipped    src/main.rs  it would be deleted, but you have changed it in the working tree
    ----- stderr -----
    airlock: 2 conflicts skipped
    airlock: 0 of 2 files applied. Next: airlock review r, or airlock rm r
    ");
    assert_eq!(repo.read_tree(), before);
    // So is a file of the user's at the new path: the old one is not deleted then.
    repo.write("src/main.rs", numbered_lines(20));
    repo.write("app/main.rs", "my own\n");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "app/main.rs", "--on-conflict", "skip"]), @"
    status: 0
    ----- stdout -----
      skipped    app/main.rs  a different file already exists there
      skipped    src/main.rs  the other path of its rename is skipped
    ----- stderr -----
    airlock: 2 conflicts skipped
    airlock: 0 of 2 files applied. Next: airlock review r, or airlock rm r
    ");
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn glob_accepts_rename_only_if_both_paths_match() {
    let repo = renamed_files();
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "app/**"]), @"
    status: 0
    ----- stdout -----
      skipped    app/main.rs  only one path of the rename matches: name it to accept it
    ----- stderr -----
    airlock: 0 of 2 files applied. Next: airlock review r, or airlock rm r
    ");
    assert_eq!(repo.read_tree(), before);
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "app/**", "--accept", "src/**", "--dry-run"]), @"
    status: 0
    ----- stdout -----
      rename     src/main.rs → app/main.rs
    ----- stderr -----
    airlock: would create the directory app
    airlock: would remove the empty directory src
    airlock: this was a dry run; nothing was written
    ");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all", "--allow-risky", "--reject", "lib/tool", "--dry-run"]), @"
    status: 0
    ----- stdout -----
      rename     src/main.rs → app/main.rs
    ----- stderr -----
    airlock: would create the directory app
    airlock: would remove the empty directory src
    airlock: this was a dry run; nothing was written
    ");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "src/main.rs", "--dry-run"]), @"
    status: 0
    ----- stdout -----
      rename     src/main.rs → app/main.rs
    ----- stderr -----
    airlock: would create the directory app
    airlock: would remove the empty directory src
    airlock: this was a dry run; nothing was written
    ");
}

#[test]
fn branch_and_patch_hold_both_paths_of_a_rename() {
    let repo = renamed_files();
    repo.git(&["config", "user.name", "Ann"]);
    repo.git(&["config", "user.email", "ann@example.org"]);
    repo.airlock(&["apply", "r", "--accept", "app/main.rs", "--to", "branch:moved"]).ok();
    assert_eq!(repo.git(&["diff", "--name-status", "-M", "main", "moved"]), "R095\tsrc/main.rs\tapp/main.rs\n");
    let patch = repo.directory().join("changes.patch");
    let patch = patch.to_str().expect("UTF-8");
    repo.airlock(&["apply", "r", "--accept-all", "--allow-risky", "--to", &format!("patch:{patch}")]).ok();
    repo.git(&["apply", patch]);
    assert!(repo.path.join("tool").exists() && !repo.path.join("src").exists());
}
