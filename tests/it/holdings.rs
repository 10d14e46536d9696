//! Work that is in no change of a file is named, and kept until a person removes it.

use crate::claude::model;
use crate::support::model::Step;
use crate::support::{Place, Ran};
use crate::terminal::Terminal;

/// Runs a script in a sandbox that is not asked to be kept.
fn run(place: &Place, name: &str, script: &str) -> Ran {
    place.airlock(&["run", "--name", name, "--review", "never", "--", "sh", "-euc", script]).ok()
}

/// Holds it to be there, and to have been named.
#[track_caller]
fn kept(place: &Place, name: &str, script: &str, words: &str, look: &str, found: &str) {
    let ran = run(place, name, script);
    assert!(ran.err.contains("and is kept: it holds"), "{}", ran.err);
    assert!(ran.err.contains(words), "{words}: {}", ran.err);
    assert!(place.airlock(&["status", name]).ok().out.contains(words), "status");
    let ran = place.airlock(&["resume", name, "--", "sh", "-c", look]).ok();
    assert_eq!(ran.out, found, "{name}");
    place.airlock(&["rm", name]).ok();
}

#[test]
fn commits_stashes_and_worktrees_are_named_and_kept() {
    let place = Place::new();
    place.write(".gitignore", "/target\n.claude/worktrees/\nout/\n");
    place.commit();
    let commit = "git -c user.name=A -c user.email=a@b commit -qm work";
    let branch = format!("git switch -qc feature && echo new > b.txt && git add -A && {commit} && git switch -q main");
    kept(&place, "br", &branch, "branch feature", "git log -1 --format=%s feature", "work\n");
    kept(&place, "st", "echo more >> a.txt && git stash -q", "a stash", "git stash list | wc -l", "1\n");
    let detached = format!("git checkout -q --detach && echo more >> a.txt && {commit} -a && git checkout -q main");
    kept(&place, "de", &detached, "commits that no branch names", "git log -g --format=%gs | grep -c work", "1\n");
    let reverted = format!("echo more >> a.txt && {commit} -a && git revert --no-edit HEAD >/dev/null");
    kept(&place, "re", &reverted, "commits on main", "git log --oneline | wc -l", "4\n");
    let worktree = "git worktree add -q .claude/worktrees/f -b wt-f && echo new > .claude/worktrees/f/b.txt";
    kept(&place, "wt", worktree, "worktree f", "cat .claude/worktrees/f/b.txt", "new\n");
    kept(
        &place,
        "ig",
        "mkdir out; echo report > out/report.md",
        "ignored new files (out/)",
        "cat out/report.md",
        "report\n",
    );
    kept(
        &place,
        "pl",
        "mkdir -p ~/.claude/plans; echo plan > ~/.claude/plans/p.md",
        "plan p.md",
        "cat ~/.claude/plans/p.md",
        "plan\n",
    );
    // Refs of any kind, and what was staged and is nowhere else.
    let keep = "git update-ref refs/keep/work $(git commit-tree -m work -p HEAD $(git write-tree))";
    let keep =
        format!("export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=A GIT_COMMITTER_EMAIL=a@b; {keep}");
    kept(&place, "keep", &keep, "ref refs/keep/work", "git log -1 --format=%s refs/keep/work", "work\n");
    kept(&place, "tag", "git tag v1", "ref refs/tags/v1", "git tag", "v1\n");
    let staged = "echo m >> a.txt; git add a.txt; git show HEAD:a.txt > a.txt";
    kept(
        &place,
        "staged",
        staged,
        "content that was staged",
        "git diff --cached --stat | tail -n 1",
        " 1 file changed, 1 insertion(+)\n",
    );
    let agent = "mkdir -p ~/.claude/agents; echo a > ~/.claude/agents/a.md";
    kept(&place, "agent", agent, "file in the home ~/.claude/agents/a.md", "cat ~/.claude/agents/a.md", "a\n");
    let memory = "mkdir -p ~/.claude/projects/x/memory; echo m > ~/.claude/projects/x/memory/MEMORY.md; echo more >> ~/.claude/CLAUDE.md";
    kept(
        &place,
        "memory",
        memory,
        "2 files in the home (~/.claude/projects/x/memory, ~/.claude/CLAUDE.md)",
        "tail -n 1 ~/.claude/CLAUDE.md",
        "more\n",
    );
    kept(
        &place,
        "conf",
        "mkdir -p ~/.config/foo; echo a > ~/.config/foo/bar",
        "~/.config/foo",
        "cat ~/.config/foo/bar",
        "a\n",
    );
    kept(&place, "ho", "echo note > ~/note", "file in the home ~/note", "cat ~/note", "note\n");
    // What the agent calls its branch is shown, and never obeyed.
    let odd = "git update-ref refs/heads/$(printf 'a\\342\\200\\256b') HEAD";
    kept(&place, "odd", odd, "branch a<U+202E>b", "git branch | wc -l", "2\n");
    // Nothing to miss: looking at the repository, a file that was made and removed.
    let ran = run(
        &place,
        "none",
        "git status >/dev/null; git log >/dev/null; git diff; echo x > y; rm y; echo z > ~/.cache-less 2>/dev/null || true; rm -f ~/.cache-less",
    );
    assert!(ran.err.contains("none changed nothing, and is removed"), "{}", ran.err);
}

#[test]
fn after_everything_is_applied_the_sandbox_goes_on() {
    let place = Place::new();
    let script = "git switch -qc feature && echo new > b.txt && git add -A && git -c user.name=A -c user.email=a@b commit -qm work && \
                  git switch -q main; mkdir -p target; echo built > target/x; echo y >> a.txt";
    let ran = run(&place, "mix", script);
    assert!(ran.err.contains("it also holds branch feature, ignored new files (target/)"), "{}", ran.err);
    assert!(place.airlock(&["diff", "mix", "--stat"]).ok().err.contains("mix also holds branch feature"));
    let ran = place.airlock(&["apply", "mix", "--accept-all"]).ok();
    assert!(ran.err.contains("Everything is decided: airlock resume mix continues"), "{}", ran.err);
    assert!(
        ran.err.contains("mix also holds branch feature, ignored new files (target/), which no apply brings"),
        "{}",
        ran.err
    );
    let look = "git log -1 --format=%s feature; cat target/x; tail -n 1 a.txt; echo second >> a.txt";
    let out = place.airlock(&["resume", "mix", "--review", "never", "--", "sh", "-c", look]).ok().out;
    assert_eq!(out, "work\nbuilt\ny\n");
    // A second round after an apply of everything, an undo, and one more.
    place.airlock(&["apply", "mix", "--accept-all"]).ok();
    assert_eq!(place.read("a.txt"), "one\ntwo\ny\nsecond\n");
    place.airlock(&["undo", "mix"]).ok();
    assert_eq!(
        place.airlock(&["resume", "mix", "--review", "never", "--", "tail", "-n", "1", "a.txt"]).ok().out,
        "second\n"
    );
    // `gc` removes it by age alone.
    place.airlock(&["apply", "mix", "--accept-all"]).ok();
    place.airlock(&["gc"]).ok();
    assert!(place.airlock(&["ls"]).ok().out.contains("mix"));
}

#[test]
fn gc_removes_by_age_what_nothing_is_open_of() {
    let place = Place::new();
    run(&place, "old", "mkdir -p target; echo made > target/made");
    run(&place, "held", "echo note > ~/note");
    run(&place, "open", "echo x >> a.txt");
    place.airlock(&["gc"]).ok();
    assert!(place.airlock(&["ls"]).ok().out.contains("old"), "it is not old yet");
    for name in ["old", "held"] {
        let record = place.repo.join(".git/airlock/sandboxes").join(name).join("record.json");
        let mut value: serde_json::Value =
            serde_json::from_slice(&std::fs::read(&record).expect("read")).expect("JSON");
        value["settled"] = serde_json::json!(1_000_000_000);
        std::fs::write(&record, value.to_string()).expect("written");
    }
    let ran = place.airlock(&["gc"]).ok();
    assert!(ran.err.contains("removed old, of which nothing is open"), "{}", ran.err);
    let list = place.airlock(&["ls"]).ok().out;
    assert!(!list.contains("old") && list.contains("open") && list.contains("held"), "{list}");
    // What is resumed is open again.
    place.airlock(&["resume", "held", "--review", "never", "--", "sh", "-c", "rm ~/note; echo y >> a.txt"]).ok();
    place.airlock(&["gc"]).ok();
    assert_eq!(place.changes("held"), [("a.txt".into(), "modified".into())]);
    assert!(place.airlock(&["ls", "--json"]).ok().out.contains("held"));
}

#[test]
fn what_cannot_be_listed_is_no_reason_to_remove() {
    let place = Place::new();
    let ran = run(&place, "many", "cd ~; seq 2001 | xargs touch");
    assert!(ran.err.contains("more than 2000 entries in ~/"), "{}", ran.err);
    // A detached HEAD without a history: its branch is Airlock's own.
    place.git(&["checkout", "-q", "--detach"]);
    let ran = place.airlock(&["run", "--name", "none", "--history", "none", "--", "true"]).ok();
    assert!(ran.err.contains("none changed nothing, and is removed"), "{}", ran.err);
}

#[test]
fn removing_asks_for_what_is_nowhere_else() {
    let place = Place::new();
    run(&place, "ignored", "mkdir -p target; echo made > target/made");
    let mut terminal = Terminal::start(&place, &["rm", "ignored"]);
    terminal.shows("ignored holds ignored new files (target/)");
    terminal.types("n\n");
    terminal.shows("nothing was removed");
    assert!(place.airlock(&["ls"]).ok().out.contains("ignored"));
}

#[test]
fn a_conversation_without_a_change_can_be_continued() {
    let mut place = Place::new();
    let (_runtime, _model) = model(&mut place, vec![Step::Text("a plan".into())]);
    let ran =
        place.airlock(&["--name", "plan", "--review", "never", "claude", "-p", "make a plan, change nothing"]).ok();
    assert!(ran.err.contains("plan changed no file, and is kept: it holds a conversation"), "{}", ran.err);
    place.airlock(&["resume", "plan", "--review", "never", "--", "-p", "go on"]).ok();
}

#[test]
fn a_nested_worktree_is_one_thing() {
    let place = Place::new();
    let script =
        "git worktree add -q .claude/worktrees/f -b wt-f; echo fix >> .claude/worktrees/f/a.txt; echo y >> a.txt";
    run(&place, "nw", script);
    assert_eq!(place.changes("nw"), [("a.txt".into(), "modified".into())]);
    let diff = place.diff("nw");
    assert_eq!(diff["refused"].as_array().expect("a list").len(), 1, "{:#}", diff["refused"]);
    assert_eq!(diff["refused"][0]["path"], ".claude/worktrees/f");
    assert!(place.airlock(&["status", "nw"]).ok().out.contains("branch wt-f"));
}

#[test]
fn commits_in_a_submodule_are_named() {
    let place = Place::new();
    let module = Place::new();
    let url = module.repo.to_str().expect("UTF-8").to_owned();
    place.git(&["-c", "protocol.file.allow=always", "submodule", "add", "-q", &url, "sub"]);
    place.commit();
    let script = "cd sub && echo x >> a.txt && git -c user.name=A -c user.email=a@b commit -qam x";
    let ran = run(&place, "sm", script);
    assert!(ran.err.contains("commits in the submodule sub"), "{}", ran.err);
    assert_eq!(place.changes("sm"), [("sub/a.txt".into(), "modified".into())]);
}
