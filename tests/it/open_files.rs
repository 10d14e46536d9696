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
    assert_eq!(
        ends,
        ["1/copy-.envrc", "2/copy-a.txt", "3/copy-docs---touch-hacked-.md", "4/copy-src-new.rs"],
        "{ran:?}"
    );
    assert!(ran.stdout.contains("\nmore\n") && ran.stdout.ends_with("new\n"), "{ran:?}");
    assert!(ran.stderr.contains("left out image.bin: it is not text"), "{ran:?}");
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
    assert_eq!(content(&["kept.txt", "src/", "kept.txt"]), ["as committed", "new"]);
    let wrong = repo.airlock(&["edit", "s", "no-such.txt"]);
    assert!(wrong.status != 0 && wrong.stderr.contains("no-such.txt"), "{wrong:?}");
}

/// Tools that an editor starts look for special files beside the open one. No copy has one, and the copies are no repository.
#[test]
fn copies_are_no_repository_and_no_project() {
    let repo = repo_with_editor();
    let script = "mkdir objects refs; echo x > objects/a; echo x > refs/a; echo 'ref: refs/heads/main' > HEAD; \
                  printf '[core]\\n\\tbare = false\\n\\tworktree = .\\n\\tfsmonitor = touch hacked\\n' > config; echo x > Cargo.toml";
    repo.changeset("planted", script);
    let shown = repo.airlock(&["edit", "planted"]).ok().stdout;
    let copies: Vec<&str> = shown.lines().filter_map(|line| line.strip_prefix("== 400 ")).collect();
    assert!(copies.len() >= 5, "{shown}");
    for copy in copies {
        let directory = std::path::Path::new(copy).parent().expect("a directory");
        assert_eq!(fs::read_dir(directory).expect("listed").count(), 1, "{copy}");
        assert!(copy.rsplit('/').next().expect("a name").starts_with("copy-"), "{copy}");
        for at in [directory, directory.parent().expect("a directory")] {
            let git = std::process::Command::new("git").current_dir(at).args(["rev-parse", "--git-dir"]).output();
            let found = String::from_utf8(git.expect("git runs").stdout).expect("UTF-8");
            assert!(!found.contains("copies"), "{found}");
        }
    }
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
