//! Tests of `airlock edit`: copies of a sandbox's files in the user's editor.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::support::TestRepo;

/// A repository whose editor prints its arguments, the mode and the content of each.
fn repo_with_editor() -> TestRepo {
    let mut repo = TestRepo::new();
    repo.write("kept.txt", "as committed\n");
    repo.commit();
    let script = "mkdir src docs; printf 'new\\n' > src/new.rs; echo more >> a.txt; printf 'x\\0y' > image.bin; \
                  echo hidden > .envrc; echo odd > 'docs/$(touch hacked).md'; ln -s a.txt link; rm b.txt 2>/dev/null || true";
    repo.changeset("s", script);
    repo.set(
        "GIT_EDITOR",
        "sh -c 'for file; do echo \"== $(stat -c %a \"$file\") $file\"; cat \"$file\"; done' editor",
    );
    repo
}

#[test]
fn editor_gets_copies_of_changed_text_files() {
    let repo = repo_with_editor();
    let ran = repo.airlock(&["edit", "s"]).ok();
    let copies = repo.path.join(".git/airlock/sandboxes/s/copies");
    let shown: Vec<&str> = ran.stdout.lines().filter_map(|line| line.strip_prefix("== 400 ")).collect();
    let names: Vec<&str> =
        shown.iter().map(|path| path.strip_prefix(copies.to_str().expect("UTF-8")).expect("below")).collect();
    let ends: Vec<&str> = names.iter().map(|name| name.splitn(3, '/').nth(2).expect("a path")).collect();
    assert_eq!(ends, ["other:1.envrc", "a.txt", "other:3.md", "src/new.rs"], "{ran:?}");
    assert!(ran.stdout.contains("\nmore\n") && ran.stdout.ends_with("new\n"), "{ran:?}");
    assert!(ran.stderr.contains("left out image.bin: it is not text, or larger than 16 MiB"), "{ran:?}");
    assert_eq!(fs::metadata(&copies).expect("made").permissions().mode() & 0o777, 0o700);
    assert!(!repo.path.join("hacked").exists());
    // They last while the editor may be open, and go with the sandbox.
    assert!(fs::read(shown[3]).is_ok());
    repo.airlock(&["rm", "--force", "s"]).ok();
    assert!(!copies.exists());
}

#[test]
fn editor_gets_one_file_changed_or_not() {
    let repo = repo_with_editor();
    let content = |args: &[&str]| {
        let shown = repo.airlock(&[&["edit", "s"], args].concat()).ok().stdout;
        let lines = shown.lines().filter(|line| !line.starts_with("== "));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(content(&["src/new.rs"]), ["new"]);
    assert_eq!(content(&["kept.txt"]), ["as committed"]);
    assert_eq!(content(&["kept.txt", "src/"]), ["as committed", "new"]);
    let wrong = repo.airlock(&["edit", "s", "no-such.txt"]);
    assert!(wrong.status != 0 && wrong.stderr.contains("no-such.txt"), "{wrong:?}");
}

#[test]
fn edits_of_copies_are_not_lost_silently() {
    let mut repo = repo_with_editor();
    repo.set("GIT_EDITOR", "sh -c 'chmod +w \"$1\"; echo mine >> \"$1\"' editor");
    let ran = repo.airlock(&["edit", "s", "a.txt"]).ok();
    assert!(ran.stderr.contains("hint: to change what is applied, press `e` in `airlock review s`"), "{ran:?}");
    let diff = repo.airlock(&["diff", "s"]).ok().stdout;
    assert!(!diff.contains("mine"));
    repo.set("GIT_EDITOR", "no-such-editor");
    let ran = repo.airlock(&["edit", "s", "a.txt"]);
    assert!(ran.status == 1 && ran.stderr.contains("error: failed to start the editor: "), "{ran:?}");
}
