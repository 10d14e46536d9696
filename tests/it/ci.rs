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
        let _ = fs::remove_dir_all(repo.path.join("../output"));
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
    let unknown = run_script(&repo, &["--fail-on", "hgih", "--output", "../new", "--", "run", "--", "true"]);
    assert!(unknown.status == 2 && !repo.path.join("../new").exists(), "{unknown:?}");
    // A link that is committed does not choose the place of the files.
    std::os::unix::fs::symlink("../elsewhere", repo.path.join("airlock-output")).expect("linked");
    let linked = run_script(&repo, &["--", "run", "--", "true"]);
    assert!(linked.status == 2 && !repo.path.join("../elsewhere").exists(), "{linked:?}");
}

#[test]
fn runner_takes_no_commands_from_the_agent() {
    let mut repo = repo_with_airlock_on_path();
    repo.set("GITHUB_ACTIONS", "true");
    let ran = run_script(&repo, &["--", "run", "--", "sh", "-c", "echo '::add-mask::x'; echo y > '::error::y'"]).ok();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    let token = lines[0].strip_prefix("::stop-commands::").expect("the first line");
    assert!(token.len() == 32 && lines.last() == Some(&format!("::{token}::").as_str()), "{ran:?}");
    assert!(
        lines.contains(&"::add-mask::x") && lines.iter().filter(|line| line.contains(token)).count() == 2,
        "{ran:?}"
    );
}

/// The words of the action are those of a shell, without expansion, and an open quote is an error.
#[test]
fn action_splits_its_arguments() {
    let action = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/action.yml")).expect("read");
    let script = action.split("      run: |\n").nth(1).expect("a script").split("    - name:").next().expect("its end");
    let repo = TestRepo::new();
    let stand_in = repo.directory().join("scripts/ci-agent");
    fs::create_dir_all(stand_in.parent().expect("a directory")).expect("made");
    fs::write(&stand_in, "#!/bin/sh\nprintf '[%s]' \"$@\"\n").expect("written");
    fs::set_permissions(&stand_in, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("set");
    let run = |arguments: &str| {
        let mut command = repo.command("bash", &["--noprofile", "--norc", "-eo", "pipefail", "-c", script]);
        command.env("ARGUMENTS", arguments).env("FAIL_ON", "high").env("OUTPUT", "out");
        CommandOutput::from_command({
            command.env("ACTION_PATH", repo.directory());
            command
        })
    };
    let ran = run("--memory 4g claude -p 'a $(touch hacked) \"b\" *' --model \"it's\"").ok();
    assert_eq!(
        ran.stdout,
        "[--output][out][--fail-on][high][--][--memory][4g][claude][-p][a $(touch hacked) \"b\" *][--model][it's]"
    );
    let failed = run("claude -p 'fix the author's name' --budget 1k");
    assert!(failed.status != 0 && failed.stdout.is_empty(), "{failed:?}");
    assert!(!repo.path.join("hacked").exists());
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
    // Paths lead to the files from anywhere. Names that an editor would interpret are of no file.
    repo.changeset("odd", "echo x >> dir/keep.txt; mkdir '$HOME'; echo x > '$HOME/.bashrc'; echo x > 'a.txt:1: b'; echo x > é.txt; echo x > 'q\"'");
    let mut below = repo.command(AIRLOCK, &["diff", "odd", "--format", "quickfix"]);
    below.current_dir(repo.path.join("dir"));
    let list = CommandOutput::from_command(below).ok().stdout;
    assert!(list.contains("\n../dir/keep.txt:2: -0 +1 lines\n"), "{list}");
    let quoted = ["\"../$HOME/.bashrc\":1: ", "\"../a.txt:1: b\":1: ", "../é.txt:1: ", r#""../q\"":1: "#];
    assert!(quoted.iter().all(|name| list.contains(name)), "{list}");
    let paths = |path: &str| repo.airlock(&["diff", "s", "--stat", "--fail-on", "note", "--", path]).status;
    assert_eq!((paths("a.txt"), paths(".envrc")), (0, 3), "only the files that are shown count");
}
