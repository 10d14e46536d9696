//! Habits of other tools: paths from where the user stands, a command without `--`, a prompt without a subcommand, numbers of a
//! list, and what is said when HEAD has moved. No test here needs an engine.

use insta::assert_snapshot;

use crate::support::{AIRLOCK, CommandOutput, TestRepo};
use crate::terminal::Terminal;

/// Runs airlock in a directory of the repository.
fn run_in(repo: &TestRepo, directory: &str, args: &[&str]) -> CommandOutput {
    let mut command = repo.command(AIRLOCK, args);
    command.current_dir(repo.path.join(directory));
    CommandOutput::from_command(command)
}

/// Creates a repository with a sandbox that changed a file at the top and two in `dir`.
fn sample_repo() -> TestRepo {
    let repo = TestRepo::empty();
    repo.write("a.txt", "one\n");
    repo.write("dir/a.txt", "one\n");
    repo.write("dir/deep/b.txt", "one\n");
    repo.commit();
    repo.changeset("s", "echo two >> a.txt; echo two >> dir/a.txt; echo two >> dir/deep/b.txt");
    repo
}

#[test]
fn paths_start_where_the_user_stands() {
    let repo = sample_repo();
    let names = |directory: &str, paths: &[&str]| {
        let args = [&["diff", "s", "--name-only", "--"], paths].concat();
        run_in(&repo, directory, &args).ok().stdout
    };
    assert_eq!(names("dir", &["a.txt"]), "dir/a.txt\n");
    assert_eq!(names("dir", &["deep"]), "dir/deep/b.txt\n");
    assert_eq!(names("dir/deep", &["../a.txt"]), "dir/a.txt\n");
    assert_eq!(names("dir", &[":/a.txt"]), "a.txt\n");
    assert_eq!(names("dir", &["dir/deep/b.txt"]), "dir/deep/b.txt\n", "from the root, if nothing matches here");
    run_in(&repo, "dir", &["diff", "s", "--", "nope"]).expect_failure(1, &["the path nope matches no changed file"]);
    run_in(&repo, "dir", &["diff", "s", "--", "./dir/a.txt"]).expect_failure(1, &["matches no changed file"]);
    run_in(&repo, "dir", &["diff", "s", "--", "../../a.txt"]).expect_failure(1, &["matches no changed file"]);
    run_in(&repo, "dir", &["apply", "s", "--accept", "a.txt"]).ok();
    assert_eq!((repo.read("a.txt"), repo.read("dir/a.txt")), ("one\n".into(), "one\ntwo\n".into()));
}

#[test]
fn file_in_place_of_a_sandbox_is_a_path() {
    let repo = sample_repo();
    assert!(repo.airlock(&["diff", "dir/a.txt"]).ok().stdout.contains("modified  dir/a.txt"));
    assert!(run_in(&repo, "dir", &["diff", "a.txt", "--name-only"]).ok().stdout == "dir/a.txt\n");
    // A sandbox with this name counts more.
    repo.write("s", "a file\n");
    assert_eq!(repo.airlock(&["diff", "s", "--name-only"]).ok().stdout.lines().count(), 3);
    repo.airlock(&["diff", "gone"]).expect_failure(1, &["no sandbox named `gone`"]);
    repo.airlock(&["diff", "gone.txt"]).expect_failure(1, &["the path gone.txt matches no changed file"]);
}

#[test]
fn wrong_starts_name_the_right_command() {
    let repo = sample_repo();
    assert_snapshot!(repo.airlock(&["run"]), @"
    status: 125
    ----- stderr -----
    error: no command was given
    hint: run `airlock run -- COMMAND…`, or `airlock shell` for a shell
    ");
    assert_snapshot!(repo.airlock(&["run", "ls", "-la"]), @"
    status: 125
    ----- stderr -----
    error: the options of airlock and those of the command cannot be separated
    hint: run `airlock run -- ls -la`
    ");
    assert_snapshot!(repo.airlock(&["run", "--memory", "4g", "make", "-j", "2 3"]), @"
    status: 125
    ----- stderr -----
    error: the options of airlock and those of the command cannot be separated
    hint: run `airlock run --memory 4g -- make -j $'2 3'`
    ");
    // Options that Airlock has as well would be its own, such as a variable of the user.
    for words in [&["act", "--env", "TOKEN"][..], &["npm", "start", "--port", "3000"], &["npm", "--help"]] {
        repo.airlock(&[&["run"], words].concat())
            .expect_failure(125, &[&format!("run `airlock run -- {}`", words.join(" "))]);
    }
    assert_snapshot!(repo.airlock(&["reviw"]), @"
    status: 2
    ----- stderr -----
    error: unrecognized subcommand 'reviw'

      tip: a similar subcommand exists: 'review'

    Usage: airlock [OPTIONS] [claude ARGS…]
           airlock <COMMAND>

    For more information, try '--help'.
    ");
    assert_snapshot!(repo.airlock(&["shell", "s"]), @"
    status: 125
    ----- stderr -----
    error: a shell needs a terminal
    hint: to run a command in a sandbox of `airlock run`, use `airlock resume s -- COMMAND…`
    ");
    assert_snapshot!(repo.airlock(&["shell", "nope"]), @"
    status: 125
    ----- stderr -----
    error: a shell needs a terminal
    hint: to run a command in a sandbox of `airlock run`, use `airlock resume nope -- COMMAND…`
    ");
}

#[test]
fn applies_are_undone_by_their_numbers() {
    let repo = sample_repo();
    for path in ["a.txt", "dir/a.txt", "dir/deep/b.txt"] {
        repo.airlock(&["apply", "s", "--accept", path]).ok();
    }
    repo.airlock(&["undo"]).ok();
    repo.airlock(&["apply", "s", "--accept", "dir/deep/b.txt"]).ok();
    let list = repo.airlock(&["undo", "--list"]).ok().stdout;
    let numbers: Vec<&str> = list.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(numbers, ["4", "3", "2", "1"], "consecutive, although an undo came in between: {list}");
    repo.airlock(&["undo", "2"]).ok();
    assert_eq!((repo.read("a.txt"), repo.read("dir/a.txt")), ("one\ntwo\n".into(), "one\n".into()));
    assert_eq!(repo.read("dir/deep/b.txt"), "one\ntwo\n");
    repo.airlock(&["undo", "2"]).expect_failure(1, &["apply 2 is undone already"]);
    repo.airlock(&["undo", "9"]).expect_failure(1, &["there is no apply 9", "airlock undo --list"]);
}

#[test]
fn written_files_are_replaced_only_with_force() {
    let repo = sample_repo();
    for args in [
        &["diff", "s", "--html", "../page.html"][..],
        &["review", "s", "--export", "../decisions.json"],
        &["apply", "s", "--accept-all", "--to", "patch:../changes.patch"],
    ] {
        repo.airlock(args).ok();
        repo.airlock(args).expect_failure(1, &["already exists; nothing was written", "add `--force`"]);
        repo.airlock(&[args, &["--force"]].concat()).ok();
    }
    let page = std::fs::read_to_string(repo.directory().join("page.html")).expect("the page");
    assert!(page.contains("dir/deep/b.txt"));
    // What is in the way is replaced, and a link is not followed.
    let target = repo.directory().join("precious");
    std::fs::write(&target, "keep me").expect("written");
    let link = repo.directory().join("link.html");
    std::os::unix::fs::symlink(&target, &link).expect("linked");
    repo.airlock(&["diff", "s", "--html", "../link.html", "--force"]).ok();
    assert_eq!(std::fs::read_to_string(&target).expect("read"), "keep me");
    assert!(!link.symlink_metadata().expect("a file").is_symlink());
}

#[test]
fn moved_head_and_other_branch_are_said() {
    let repo = sample_repo();
    let notes = |repo: &TestRepo| {
        let said = repo.airlock(&["apply", "s", "--accept-all", "--dry-run"]).ok().stderr;
        said.lines().find(|line| line.contains("note:")).map(str::to_owned)
    };
    assert_eq!(notes(&repo), None);
    repo.write("c.txt", "new\n");
    repo.commit();
    let note = notes(&repo).expect("a note");
    assert!(note.contains("HEAD is 1 commit ahead of "), "{note}");
    repo.git(&["checkout", "-q", "-b", "feature"]);
    let note = notes(&repo).expect("a note");
    assert!(note.contains("you are on feature, and s started on main; HEAD is 1 commit ahead"), "{note}");
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("you are on feature, and s started on main");
    terminal.types("q");
    assert!(terminal.ends().success());
}

#[test]
fn one_of_several_sandboxes_is_picked_on_a_terminal() {
    let repo = sample_repo();
    repo.changeset("other", "echo three >> a.txt");
    repo.airlock(&["diff"]).expect_failure(2, &["this repository has 2 sandboxes"]);
    let mut terminal = Terminal::start(&repo, &["review"]);
    terminal.shows("Which sandbox? (airlock review)");
    terminal.types("j\r");
    terminal.wait("a review", |screen| {
        screen.contents().contains("0/3 decided") || screen.contents().contains("0/1 decided")
    });
    terminal.types("q");
    assert!(terminal.ends().success());
    let mut terminal = Terminal::start(&repo, &["review"]);
    terminal.shows("Which sandbox?");
    terminal.types("\u{1b}");
    terminal.shows("no sandbox was chosen");
    assert!(!terminal.ends().success());
}

#[test]
fn what_comes_next_is_named_after_a_review() {
    let repo = sample_repo();
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("0/3 decided");
    terminal.types("yq");
    terminal.shows("the decisions are saved. Next: airlock apply s, airlock review s");
    assert!(terminal.ends().success());
    let row = |repo: &TestRepo| repo.airlock(&["ls"]).ok().stdout;
    let listed = row(&repo);
    assert!(listed.starts_with("NAME  STATE"), "{listed}");
    assert!(listed.contains("3 files, 1/3 decided, not applied"), "{listed}");
    repo.airlock(&["apply", "s"]).ok();
    assert!(row(&repo).contains("3 files, 1/3 decided, 1 applied"), "{}", row(&repo));
    let mut terminal = Terminal::start(&repo, &["review", "s"]);
    terminal.shows("1/3 decided");
    assert!(row(&repo).contains("3 files, 1/3 decided, 1 applied, in use by another command"), "{}", row(&repo));
    terminal.types("cwhy?\r");
    terminal.shows("● why?");
    terminal.types("nnq");
    terminal.shows("all changes are decided and applied. Next: airlock resume s");
    assert!(terminal.ends().success());
    let listed = row(&repo);
    assert!(listed.contains("3 files, all decided, 1 applied, 1 comment"), "{listed}");
    let status = repo.airlock(&["status", "s"]).ok();
    assert!(status.stdout.contains("review     3 hunks: all decided, 1 applied, 1 comment"), "{}", status.stdout);
    assert!(status.stdout.contains("resume     airlock resume s -- COMMAND"), "{}", status.stdout);
    repo.airlock(&["undo"]).ok();
    // What is applied is not claimed after an undo.
    assert!(row(&repo).contains("3 files, all decided, not applied, 1 comment"), "{}", row(&repo));
}
