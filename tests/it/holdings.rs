//! Tests that work outside the changes of files is named, and kept until a person removes it.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use insta::assert_snapshot;

use crate::claude::model;
use crate::support::model::Step;
use crate::support::{AIRLOCK, CommandOutput, TestRepo};
use crate::terminal::Terminal;

/// Runs a script in a sandbox without `--keep`.
fn run_script(repo: &TestRepo, name: &str, script: &str) -> CommandOutput {
    repo.airlock(&["run", "--name", name, "--review", "never", "--", "sh", "-euc", script]).ok()
}

/// Runs a script and checks that its sandbox is kept, that messages name the work with `words`, and that a resumed
/// sandbox still has it: the command `look` prints `found`.
#[track_caller]
fn check_kept(repo: &TestRepo, name: &str, script: &str, words: &str, look: &str, found: &str) {
    let ran = run_script(repo, name, script);
    assert!(ran.stderr.contains("is kept because it contains"), "{}", ran.stderr);
    assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    assert!(repo.airlock(&["status", name]).ok().stdout.contains(words), "status");
    let ran = repo.airlock(&["resume", name, "--", "sh", "-c", look]).ok();
    assert_eq!(ran.stdout, found, "{name}");
    repo.airlock(&["rm", name]).ok();
}

#[test]
fn sandbox_is_kept_for_work_outside_its_changes() {
    let repo = TestRepo::new();
    repo.write(".gitignore", "/target\n.claude/worktrees/\nout/\n");
    repo.commit();
    let commit = "git -c user.name=A -c user.email=a@b commit -qm work";
    let branch = format!("git switch -qc feature && echo new > b.txt && git add -A && {commit} && git switch -q main");
    check_kept(&repo, "br", &branch, "branch feature", "git log -1 --format=%s feature", "work\n");
    check_kept(&repo, "st", "echo more >> a.txt && git stash -q", "a stash", "git stash list | wc -l", "1\n");
    let detached = format!("git checkout -q --detach && echo more >> a.txt && {commit} -a && git checkout -q main");
    check_kept(&repo, "de", &detached, "commits on no branch", "git log -g --format=%gs | grep -c work", "1\n");
    let reverted = format!("echo more >> a.txt && {commit} -a && git revert --no-edit HEAD >/dev/null");
    check_kept(&repo, "re", &reverted, "commits on main", "git log --oneline | wc -l", "4\n");
    let worktree = "git worktree add -q .claude/worktrees/f -b wt-f && echo new > .claude/worktrees/f/b.txt";
    check_kept(&repo, "wt", worktree, "worktree f", "cat .claude/worktrees/f/b.txt", "new\n");
    check_kept(
        &repo,
        "ig",
        "mkdir out; echo report > out/report.md",
        "ignored new files (out/)",
        "cat out/report.md",
        "report\n",
    );
    check_kept(
        &repo,
        "pl",
        "mkdir -p ~/.claude/plans; echo plan > ~/.claude/plans/p.md",
        "plan p.md",
        "cat ~/.claude/plans/p.md",
        "plan\n",
    );
    // Refs of any kind, and staged content that is nowhere else.
    let keep = "git update-ref refs/keep/work $(git commit-tree -m work -p HEAD $(git write-tree))";
    let keep =
        format!("export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@b; {keep}");
    check_kept(&repo, "keep", &keep, "ref refs/keep/work", "git log -1 --format=%s refs/keep/work", "work\n");
    check_kept(&repo, "tag", "git tag v1", "ref refs/tags/v1", "git tag", "v1\n");
    let staged = "echo m >> a.txt; git add a.txt; git show HEAD:a.txt > a.txt";
    check_kept(
        &repo,
        "staged",
        staged,
        "staged content",
        "git diff --cached --stat | tail -n 1",
        " 1 file changed, 1 insertion(+)\n",
    );
    let agent = "mkdir -p ~/.claude/agents; echo a > ~/.claude/agents/a.md";
    check_kept(
        &repo,
        "agent",
        agent,
        "file in the home directory ~/.claude/agents/a.md",
        "cat ~/.claude/agents/a.md",
        "a\n",
    );
    let memory = "mkdir -p ~/.claude/projects/x/memory; echo m > ~/.claude/projects/x/memory/MEMORY.md; echo more >> ~/.claude/CLAUDE.md";
    check_kept(
        &repo,
        "memory",
        memory,
        "2 files in the home directory (~/.claude/projects/x/memory, ~/.claude/CLAUDE.md)",
        "tail -n 1 ~/.claude/CLAUDE.md",
        "more\n",
    );
    check_kept(
        &repo,
        "conf",
        "mkdir -p ~/.config/foo; echo a > ~/.config/foo/bar",
        "~/.config/foo",
        "cat ~/.config/foo/bar",
        "a\n",
    );
    check_kept(&repo, "ho", "echo note > ~/note", "file in the home directory ~/note", "cat ~/note", "note\n");
    // The name of a branch is shown escaped.
    let odd = "git update-ref refs/heads/$(printf 'a\\342\\200\\256b') HEAD";
    check_kept(&repo, "odd", odd, "branch a<U+202E>b", "git branch | wc -l", "2\n");
    // Nothing is held if the agent only reads the repository, or makes a file and removes it.
    let ran = run_script(
        &repo,
        "none",
        "git status >/dev/null; git log >/dev/null; git diff; echo x > y; rm y; echo z > ~/.cache-less 2>/dev/null || true; rm -f ~/.cache-less",
    );
    assert!(ran.stderr.contains("none changed nothing, so it is removed"), "{}", ran.stderr);
}

#[test]
fn sandbox_resumes_after_all_is_applied() {
    let repo = TestRepo::new();
    let script = "git switch -qc feature && echo new > b.txt && git add -A && git -c user.name=A -c user.email=a@b commit -qm work && \
                  git switch -q main; mkdir -p target; echo built > target/x; echo y >> a.txt";
    let ran = run_script(&repo, "mix", script);
    assert!(ran.stderr.contains("mix also contains branch feature, ignored new files (target/)"), "{}", ran.stderr);
    assert_snapshot!(repo.airlock(&["diff", "mix", "--stat"]), @"
    status: 0
    ----- stdout -----
    modified  a.txt  +1 −0
    1 file, +1 −0
    ----- stderr -----
    airlock: mix also contains branch feature, ignored new files (target/)
    ");
    assert_snapshot!(repo.airlock(&["apply", "mix", "--accept-all"]), @"
    status: 0
    ----- stdout -----
      applied    a.txt
    ----- stderr -----
    airlock: 1 of 1 file applied. Undo: airlock undo mix · All changes are decided. Next: airlock resume mix -- COMMAND, or airlock rm mix
    airlock: mix also contains branch feature, ignored new files (target/), kept until `airlock rm mix`
    airlock: to review commits, a stash or a worktree, run `airlock bring mix feature`
    airlock: to review ignored files, run `airlock bring mix --include target`
    ");
    let look = "git log -1 --format=%s feature; cat target/x; tail -n 1 a.txt; echo second >> a.txt";
    let out = repo.airlock(&["resume", "mix", "--review", "never", "--", "sh", "-c", look]).ok().stdout;
    assert_eq!(out, "work\nbuilt\ny\n");
    // A second round after an apply of everything, then an undo, and another round.
    repo.airlock(&["apply", "mix", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\ny\nsecond\n");
    repo.airlock(&["undo", "mix"]).ok();
    assert_eq!(
        repo.airlock(&["resume", "mix", "--review", "never", "--", "tail", "-n", "1", "a.txt"]).ok().stdout,
        "second\n"
    );
    // `gc` removes it only by age.
    repo.airlock(&["apply", "mix", "--accept-all"]).ok();
    repo.airlock(&["gc"]).ok();
    assert!(repo.airlock(&["ls"]).ok().stdout.contains("mix"));
}

#[test]
fn gc_removes_old_decided_sandboxes() {
    let repo = TestRepo::new();
    run_script(&repo, "old", "mkdir -p target; echo made > target/made");
    run_script(&repo, "held", "echo note > ~/note");
    run_script(&repo, "open", "echo x >> a.txt");
    repo.airlock(&["gc"]).ok();
    assert!(repo.airlock(&["ls"]).ok().stdout.contains("old"), "the sandbox is not old yet");
    for name in ["old", "held"] {
        repo.set_record(name, "decided_at", 1_000_000_000);
    }
    assert_snapshot!(repo.airlock(&["gc"]), @"
    status: 0
    ----- stderr -----
    airlock: removed old, whose changes are all decided
    airlock: removed 1 item (0 B)
    ");
    let list = repo.airlock(&["ls"]).ok().stdout;
    assert!(!list.contains("old") && list.contains("open") && list.contains("held"), "{list}");
    // A resumed sandbox is no longer decided.
    repo.airlock(&["resume", "held", "--review", "never", "--", "sh", "-c", "rm ~/note; echo y >> a.txt"]).ok();
    repo.airlock(&["gc"]).ok();
    assert_eq!(repo.changes("held"), [("a.txt".into(), "modified".into())]);
    // Nor is one whose second agent was interrupted.
    run_script(&repo, "killed", "mkdir -p target; echo made > target/made");
    repo.set_record("killed", "decided_at", 1_000_000_000);
    let script = "echo work >> a.txt; echo ready; exec sleep 1000";
    let mut command = repo.command(AIRLOCK, &["resume", "killed", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut String::new()).expect("a line");
    child.kill().expect("the process exists");
    child.wait().expect("it ends");
    repo.airlock(&["gc"]).ok();
    let list = repo.airlock(&["ls", "--json"]).ok().stdout;
    assert!(list.contains("held") && list.contains("killed"), "{list}");
}

#[test]
fn unlisted_home_files_keep_the_sandbox() {
    let repo = TestRepo::new();
    let ran = run_script(&repo, "many", "cd ~; seq 2001 | xargs touch");
    assert!(ran.stderr.contains("more than 2000 entries in ~/"), "{}", ran.stderr);
    // A detached HEAD without history: its branch is made by Airlock and is not held.
    repo.git(&["checkout", "-q", "--detach"]);
    let ran = repo.airlock(&["run", "--name", "none", "--history", "none", "--", "true"]).ok();
    assert!(ran.stderr.contains("none changed nothing, so it is removed"), "{}", ran.stderr);
}

#[test]
fn rm_asks_before_removing_held_work() {
    let repo = TestRepo::new();
    run_script(&repo, "ignored", "mkdir -p target; echo made > target/made");
    let mut terminal = Terminal::start(&repo, &["rm", "ignored"]);
    terminal.shows("ignored contains ignored new files (target/)");
    terminal.types("n\n");
    terminal.shows("nothing was removed");
    assert!(repo.airlock(&["ls"]).ok().stdout.contains("ignored"));
}

#[test]
fn rm_asks_before_removing_undecided_changes() {
    let repo = TestRepo::new();
    let has_sandbox = || repo.airlock(&["ls"]).ok().stdout.contains("open");
    repo.changeset("open", "echo x >> a.txt; echo y > new.txt");
    let mut terminal = Terminal::start(&repo, &["rm", "open"]);
    terminal.shows("open has 2 undecided files. Remove it anyway?");
    terminal.types("\r");
    terminal.shows("nothing was removed");
    assert!(has_sandbox());
    // One of the files is decided.
    repo.airlock(&["apply", "open", "--accept", "a.txt"]).ok();
    let input = "y\nq\n";
    repo.airlock_with_input(&["review", "open", "--plain"], input).ok();
    let mut terminal = Terminal::start(&repo, &["rm", "open"]);
    terminal.shows("open has 1 undecided hunk. Remove it anyway?");
    terminal.types("n\r");
    terminal.shows("nothing was removed");
    // All are: nothing would be lost.
    repo.airlock_with_input(&["review", "open", "--plain"], "n\nq\n").ok();
    let terminal = Terminal::start(&repo, &["rm", "open"]);
    terminal.shows("removed open");
    assert!(!has_sandbox());
    repo.changeset("odd", "ln -s /etc/passwd link");
    let terminal = Terminal::start(&repo, &["rm", "odd"]);
    terminal.shows("odd has 1 file that cannot be accepted. Remove it anyway?");
}

#[test]
fn conversation_without_changes_is_resumed() {
    let mut repo = TestRepo::new();
    let (_runtime, _model) = model(&mut repo, vec![Step::Text("a plan".into())]);
    let ran =
        repo.airlock(&["--name", "plan", "--review", "never", "claude", "-p", "make a plan, change nothing"]).ok();
    assert!(
        ran.stderr.contains("plan changed no files, but is kept because it contains a conversation"),
        "{}",
        ran.stderr
    );
    repo.airlock(&["resume", "plan", "--review", "never", "--", "-p", "go on"]).ok();
}

#[test]
fn nested_worktree_is_one_refused_entry() {
    let repo = TestRepo::new();
    let script =
        "git worktree add -q .claude/worktrees/f -b wt-f; echo fix >> .claude/worktrees/f/a.txt; echo y >> a.txt";
    run_script(&repo, "nw", script);
    assert_eq!(repo.changes("nw"), [("a.txt".into(), "modified".into())]);
    let diff = repo.diff("nw");
    assert_eq!(diff["not_collected"].as_array().expect("a list").len(), 1, "{:#}", diff["not_collected"]);
    assert_eq!(diff["not_collected"][0]["path"], ".claude/worktrees/f");
    assert!(repo.airlock(&["status", "nw"]).ok().stdout.contains("branch wt-f"));
}

#[test]
fn submodule_commits_are_named() {
    let repo = TestRepo::new();
    let module = TestRepo::new();
    let url = module.path.to_str().expect("UTF-8").to_owned();
    repo.git(&["-c", "protocol.file.allow=always", "submodule", "add", "-q", &url, "sub"]);
    repo.commit();
    let script = "cd sub && echo x >> a.txt && git -c user.name=A -c user.email=a@b commit -qam x";
    let ran = run_script(&repo, "sm", script);
    assert!(ran.stderr.contains("commits in the submodule sub"), "{}", ran.stderr);
    assert_eq!(repo.changes("sm"), [("sub/a.txt".into(), "modified".into())]);
}

#[test]
fn commits_stashes_and_worktrees_become_changes() {
    let repo = TestRepo::new();
    repo.write(".gitignore", ".claude/worktrees\ntarget\n");
    repo.commit();
    let script = "
        git checkout -qb feature; echo feature > feature.txt; echo changed > a.txt; git add -A; git commit -qm feature
        git checkout -q main; echo stashed > c.txt; echo untracked > untracked.txt; git stash -qu
        git worktree add -q .claude/worktrees/w -b other; echo in-worktree > .claude/worktrees/w/w.txt
        echo pending > pending.txt; mkdir target; echo result > target/out
        mkdir -p .git/hooks; printf '#!/bin/sh\\ntouch /home/agent/hooked\\n' > .git/hooks/post-checkout; chmod +x .git/hooks/post-checkout";
    let ran = run_script(&repo, "w", script);
    let hint = "to review commits, a stash or a worktree, run `airlock bring w ";
    assert!(ran.stderr.contains(hint), "{}", ran.stderr);
    let change = |path: &str, kind: &str| (path.to_owned(), kind.to_owned());
    let bring = |args: &[&str]| repo.airlock(&[&["bring", "w"], args].concat());

    bring(&[]).expect_failure(2, &["nothing to bring is named", "branch", "airlock bring w BRANCH"]);
    let unknown = bring(&["missing"]);
    assert_eq!(unknown.status, 1, "{}", unknown.stderr);
    for words in [
        "error: the sandbox has neither a commit nor a worktree missing\n",
        "  feature  feature",
        "  stash@{0}  WIP on main",
    ] {
        assert!(unknown.stderr.contains(words), "{}", unknown.stderr);
    }
    assert_eq!(repo.changes("w"), [change("pending.txt", "added")], "nothing is changed then");

    let feature = bring(&["feature"]).ok();
    assert!(feature.stderr.contains("are the branch before-bring-1 of the sandbox"), "{}", feature.stderr);
    assert_eq!(repo.changes("w"), [change("a.txt", "modified"), change("feature.txt", "added")]);
    bring(&["stash@{0}"]).ok();
    assert_eq!(repo.changes("w"), [change("c.txt", "modified"), change("untracked.txt", "added")]);
    bring(&[".claude/worktrees/w"]).ok();
    assert_eq!(repo.changes("w"), [change("w.txt", "added")]);
    // By its name; work on a detached HEAD is on no branch otherwise.
    bring(&["w"]).ok();
    assert_eq!(repo.changes("w"), [change("w.txt", "added")]);
    let commit = "echo later > later.txt; git add -A; git -c user.name=A -c user.email=a@b commit -qm later";
    repo.airlock(&["resume", "w", "--review", "never", "--", "sh", "-c", commit]).ok();
    let kept = bring(&["feature"]).ok();
    let branch =
        kept.stderr.split("are the branch ").nth(1).and_then(|rest| rest.split(' ').next()).expect("kept").to_owned();
    bring(&[&branch]).ok();
    assert_eq!(repo.changes("w"), [change("later.txt", "added"), change("w.txt", "added")]);
    bring(&["before-bring-1"]).ok();
    assert_eq!(repo.changes("w"), [change("pending.txt", "added")]);
    bring(&["--include", "target"]).ok();
    assert_eq!(repo.changes("w"), [change("pending.txt", "added"), change("target/out", "added")]);
    repo.airlock(&["apply", "w", "--accept-all"]).ok();
    assert_eq!((repo.read("pending.txt").as_str(), repo.read("target/out").as_str()), ("pending\n", "result\n"));
    // Nothing of it ran here, and options cannot be names.
    assert!(!repo.directory().join("home/hooked").exists());
    bring(&["--", "--exec=touch x"]).expect_failure(1, &["neither a commit nor a worktree"]);
    bring(&["--include", "["]).expect_failure(1, &["--include"]);
}

#[test]
fn kept_sandboxes_follow_the_setting() {
    let mut repo = TestRepo::new();
    let count = |repo: &TestRepo| repo.airlock(&["ls", "--json"]).ok().stdout.matches("\"verb\"").count();
    let script = "git branch work; git commit -q --allow-empty -m x";
    for (keep, expected) in [("changed", 0), ("auto", 1), ("always", 2)] {
        repo.set("AIRLOCK_KEEP", keep);
        let script = if keep == "always" { "true" } else { script };
        repo.airlock(&["run", "--", "sh", "-c", script]).ok();
        assert_eq!(count(&repo), expected, "{keep}");
    }
}

/// The agent's commits are listed by its own git, in order, and only new ones; of no run is the `.git` of a sandbox read here.
#[test]
fn commits_of_the_agent_are_listed() {
    let repo = TestRepo::new();
    let commit = "git -c user.name=Bot -c user.email=bot@example.org commit -qam";
    let script = format!(
        "cd dir; echo x >> keep.txt; {commit} 'first one'; cd ..; echo y >> a.txt; {commit} 'second\n\nwith a body'"
    );
    repo.sandbox("s", &script).ok();
    let commits = |name: &str| {
        let commits = repo.diff(name)["commits"].as_array().expect("a list").clone();
        commits
            .iter()
            .map(|c| (c["message"].as_str().expect("text").to_owned(), c["files"][0].clone()))
            .collect::<Vec<_>>()
    };
    let both = [("first one".to_owned(), "dir/keep.txt".into()), ("second\n\nwith a body".to_owned(), "a.txt".into())];
    assert_eq!(commits("s"), both);
    // A round without commits keeps the list, and another one adds to it.
    repo.airlock(&["resume", "s", "--", "sh", "-c", "echo more >> a.txt"]).ok();
    assert_eq!(commits("s"), both);
    repo.airlock(&["resume", "s", "--", "sh", "-c", &format!("{commit} third")]).ok();
    assert_eq!(commits("s").len(), 3);
    // A git that hangs does not hold up the end of the run.
    let bad = format!("echo z >> a.txt; {commit} x; rm .git/HEAD; mkfifo .git/HEAD");
    repo.sandbox("bad", &bad).ok();
    assert_eq!(commits("bad"), []);
}

/// A file that several commits changed is in each of them, with the accepted lines alone. A FIFO in place of a list in the
/// home does not delay the end of the run.
#[test]
fn accepted_hunks_are_divided_among_commits() {
    let repo = TestRepo::new();
    repo.git(&["config", "user.name", "Ann"]);
    repo.git(&["config", "user.email", "ann@example.org"]);
    let lines = |changed: &[usize]| {
        (1..=30).map(|n| if changed.contains(&n) { format!("new {n}\n") } else { format!("{n}\n") }).collect::<String>()
    };
    repo.write("list.txt", lines(&[]));
    repo.commit();
    let commit = "git -c user.name=Bot -c user.email=bot@example.org commit -qm";
    let script = format!(
        "mkdir -p ~/.config/airlock; mkfifo ~/.config/airlock/commits ~/.config/airlock/commits.new ~/.config/airlock/commit-contents
        sed -i '3s/.*/new 3/; 15s/.*/SECRET/' list.txt; echo one > more.txt; git add -A; {commit} first
        sed -i '15s/.*/new 15/; 27s/.*/new 27/' list.txt; git mv more.txt moved.txt; echo two >> moved.txt; git mv a.txt b.txt; git add -A; {commit} second
        sed -i '29s/.*/new 29/' list.txt; echo more >> b.txt"
    );
    repo.sandbox("s", &script).ok();
    let show = |spec: &str| repo.git(&["show", spec]);
    repo.airlock(&["apply", "s", "--accept-all", "--to", "branch:all", "--per-commit"]).ok();
    assert_eq!(repo.git(&["log", "--reverse", "--format=%s", "main..all"]), "first\nsecond\nChange 2 files\n");
    assert_eq!(show("all~2:list.txt"), lines(&[3]));
    assert_eq!(repo.git(&["ls-tree", "--name-only", "all~2", "more.txt", "moved.txt"]), "");
    assert_eq!(show("all~1:list.txt"), lines(&[3, 15, 27]));
    assert_eq!(show("all~1:moved.txt"), "one\ntwo\n");
    assert_eq!(show("all~1:b.txt"), show("main:a.txt"));
    assert_eq!(repo.git(&["ls-tree", "--name-only", "all~1", "a.txt"]), "");
    assert_eq!(show("all:list.txt"), lines(&[3, 15, 27, 29]));
    assert_eq!(show("all:b.txt"), format!("{}more\n", show("main:a.txt")));
    assert!(!repo.git(&["log", "-p", "main..all"]).contains("SECRET"));
    // The same content as in one commit.
    repo.airlock(&["apply", "s", "--accept-all", "--to", "branch:one"]).ok();
    assert_eq!(repo.git(&["rev-parse", "all^{tree}"]), repo.git(&["rev-parse", "one^{tree}"]));
}
