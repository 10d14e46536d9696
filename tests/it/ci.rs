//! Tests of the script for pipelines.

use std::fs;

use crate::support::{AIRLOCK, CommandOutput, TestRepo};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/ci-agent");

fn run_script(repo: &TestRepo, args: &[&str]) -> CommandOutput {
    CommandOutput::from_command(repo.command(SCRIPT, args))
}

fn repo_with_airlock_on_path() -> TestRepo {
    let mut repo = TestRepo::new();
    let programs = std::path::Path::new(AIRLOCK).parent().expect("a directory");
    let path = std::env::var("PATH").expect("a PATH");
    repo.set("PATH", format!("{}:{path}", programs.display()));
    repo
}

#[test]
fn pipeline_gets_files_and_leaves_checkout_alone() {
    let repo = repo_with_airlock_on_path();
    let before = repo.read("a.txt");
    let output = repo.directory().join("output");
    let output = output.to_str().expect("UTF-8");
    let ran =
        run_script(&repo, &["--output", output, "--", "run", "--", "sh", "-c", "echo x >> a.txt; echo y > new.txt"])
            .ok();
    assert!(ran.stdout.contains("modified  a.txt"), "{ran:?}");
    assert_eq!(repo.read("a.txt"), before);
    let read = |name: &str| fs::read_to_string(format!("{output}/{name}")).expect("written");
    assert!(read("summary.txt").ends_with("2 files, +2 −0\n"));
    assert!(
        read("changes.html").to_lowercase().starts_with("<!doctype html>")
            && read("changes.json").contains("\"a.txt\"")
    );
    assert!(read("decisions.json").contains("schema_version"));
    repo.git(&["apply", "--check", &format!("{output}/changes.patch")]);
    assert_eq!(repo.airlock(&["ls", "--json"]).ok().stdout.matches("\"name\"").count(), 0, "the sandbox is removed");
    assert_eq!(repo.engine_objects(), 0);
}

#[test]
fn pipeline_fails_on_findings_and_with_the_agent() {
    let repo = repo_with_airlock_on_path();
    let script = |command: &str, more: &[&str]| {
        let args = [more, &["--output", "../output", "--", "run", "--", "sh", "-c", command]].concat();
        run_script(&repo, &args)
    };
    let risky = script("echo 'export A=1' > .envrc", &[]);
    assert_eq!(risky.status, 3, "{risky:?}");
    assert!(risky.stderr.contains("findings of severity high or above"), "{risky:?}");
    script("echo 'export A=1' > .envrc", &["--fail-on", "refused"]).ok();
    let failed = script("echo x > new.txt; exit 9", &[]);
    assert_eq!(failed.status, 9, "{failed:?}");
    let patch = fs::read_to_string(repo.path.join("../output/changes.patch")).expect("written");
    assert!(patch.contains("new.txt"), "what it did before is published");
    let wrong = run_script(&repo, &["--", "run", "--no-such-option", "--", "true"]);
    assert_eq!(wrong.status, 125, "{wrong:?}");
    assert_eq!(run_script(&repo, &[]).status, 2);
}

#[test]
fn findings_and_hunks_have_the_form_of_an_error_list() {
    let repo = TestRepo::new();
    repo.changeset(
        "s",
        "echo three >> a.txt; printf 'one\\ntwo\\n' > new.txt; echo x > .envrc; rm gone.txt 2>/dev/null || true",
    );
    let list = repo.airlock(&["diff", "s", "--format", "quickfix"]).ok().stdout;
    assert!(list.contains(".envrc:1: high: "), "{list}");
    assert!(list.contains("a.txt:3: -0 +1 lines\n") && list.contains("new.txt:1: -0 +2 lines\n"), "{list}");
    let status = |args: &[&str]| repo.airlock(&[&["diff", "s", "--stat"], args].concat()).status;
    assert_eq!((status(&["--fail-on", "high"]), status(&["--fail-on", "refused"])), (3, 0));
    assert_eq!(status(&["--exit-code", "--fail-on", "refused"]), 0, "changes alone do not count");
    let paths = |path: &str| repo.airlock(&["diff", "s", "--stat", "--fail-on", "note", "--", path]).status;
    assert_eq!((paths("a.txt"), paths(".envrc")), (0, 3), "only the files that are shown count");
}
