//! Applying to a tree that is dirty, moves, or was left half-done; taking back; branches and patches.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{AIRLOCK, CommandOutput, TestRepo, pid};

fn numbered(changes: &[(usize, &str)]) -> String {
    let line = |n: usize| match changes.iter().find(|(at, _)| *at == n) {
        Some((_, text)) => format!("{text}\n"),
        None => format!("line {n}\n"),
    };
    (1..=40).map(line).collect()
}

fn json(ran: &CommandOutput) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

/// A place whose sandbox `s` changed lines 3 and 20 of n.txt, and more.
fn sample_repo() -> TestRepo {
    let repo = TestRepo::new();
    repo.write("n.txt", numbered(&[]));
    repo.write("only/one", "1\n");
    repo.commit();
    let script = "sed -i -e 's/^line 3$/three/' -e 's/^line 20$/twenty/' n.txt; echo x >> a.txt; rm c.txt only/one; \
                  mkdir -p new/deep; echo f > new/deep/f; chmod +x new/deep/f";
    repo.changeset("s", script);
    repo
}

const ALL: [&str; 4] = ["apply", "s", "--accept-all", "--allow-risky"];

#[test]
fn edits_elsewhere_in_a_file_are_kept_and_an_undo_gives_all_back() {
    let repo = sample_repo();
    repo.write("n.txt", numbered(&[(30, "mine")]));
    repo.write("own", "my own\n");
    fs::set_permissions(repo.path.join("a.txt"), fs::Permissions::from_mode(0o600)).expect("set");
    let before = repo.read_tree();
    let dry = repo.airlock(&[&ALL[..], &["--dry-run"]].concat()).ok();
    assert!(dry.stdout.contains("merge      n.txt       with your edits of line 30"), "{}", dry.stdout);
    assert!(
        dry.stderr.contains("make the directory new/deep") && dry.stderr.contains("the directory only"),
        "{}",
        dry.stderr
    );
    assert_eq!(repo.read_tree(), before, "a dry run writes nothing");
    let plan = json(&repo.airlock(&[&ALL[..], &["--dry-run", "--json"]].concat()).ok());
    let step = plan["plan"]["steps"].as_array().expect("a list").iter().find(|s| s["path"] == "a.txt").expect("it");
    assert_eq!((&step["operation"], &step["expected"]["permissions"]), (&"apply".into(), &"0600".into()), "{step}");
    assert_eq!(step["base"]["sha256"], step["expected"]["sha256"]);
    assert_eq!(plan["plan"]["makes"], serde_json::json!(["new", "new/deep"]));

    let done = repo.airlock(&ALL).ok();
    assert!(done.stdout.contains("merged     n.txt       with your edits of line 30"), "{}", done.stdout);
    assert!(done.stderr.contains("5 of 5 files applied. Undo: airlock undo s"), "{}", done.stderr);
    assert_eq!(repo.read("n.txt"), numbered(&[(3, "three"), (20, "twenty"), (30, "mine")]));
    assert!(!repo.path.join("only").exists());
    assert_eq!(repo.path.join("a.txt").metadata().expect("it is there").mode() & 0o777, 0o600);
    assert_eq!(repo.path.join("new/deep/f").metadata().expect("it is there").mode() & 0o111, 0o111);
    // All is decided; it can be taken back, and the sandbox goes on.
    assert!(repo.airlock(&["ls"]).ok().stdout.contains("applied"));
    let list = json(&repo.airlock(&["undo", "--list", "--json"]).ok());
    assert_eq!(list["applies"][0]["files"].as_array().expect("a list").len(), 5);

    let undone = repo.airlock(&["undo"]).ok();
    assert!(
        undone.stdout.contains("removed    new/deep/f") && undone.stdout.contains("restored   only/one"),
        "{}",
        undone.stdout
    );
    assert_eq!(repo.read_tree(), before);
    assert!(!repo.path.join("new").exists());
    repo.airlock(&["undo"]).expect_failure(1, &["no apply to undo"]);
    // What was taken back can be applied again; and taken back without its sandbox.
    repo.airlock(&ALL).ok();
    assert_eq!(repo.read("n.txt"), numbered(&[(3, "three"), (20, "twenty"), (30, "mine")]));
    repo.airlock(&["rm", "s"]).ok();
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn conflicts_show_three_sides_and_the_ways_on() {
    let repo = sample_repo();
    repo.write("n.txt", numbered(&[(20, "mine\u{1b}[2J")]));
    fs::remove_file(repo.path.join("a.txt")).expect("removed");
    let before = repo.read_tree();
    let ran = repo.airlock(&ALL).expect_failure(4, &["2 conflicts; nothing was written", "--on-conflict skip"]);
    for part in ["base, line 20\n  │ line 20", "yours, line 20\n  │ mine<U+001B>[2J", "accepted, line 20\n  │ twenty"]
    {
        assert!(ran.stdout.contains(part), "{part} is missing: {}", ran.stdout);
    }
    assert!(ran.stdout.contains("a.txt: you have deleted it since"), "{}", ran.stdout);
    assert_eq!(repo.read_tree(), before);
    // Markers are for lines only: the other conflict still holds everything up.
    repo.airlock(&[&ALL[..], &["--on-conflict", "markers"]].concat()).expect_failure(4, &["1 conflict;"]);
    assert_eq!(repo.read_tree(), before);
    let skipped = repo.airlock(&[&ALL[..], &["--on-conflict", "skip"]].concat()).ok();
    assert!(
        skipped.stdout.contains("skipped    a.txt") && skipped.stdout.contains("deleted    c.txt"),
        "{}",
        skipped.stdout
    );
    assert_eq!(repo.read("n.txt"), numbered(&[(20, "mine\u{1b}[2J")]));
    let marked = ["apply", "s", "--accept", "n.txt", "--on-conflict", "markers"];
    assert!(repo.airlock(&marked).ok().stdout.contains("1 place to decide, between markers"));
    let both = "<<<<<<< yours\nmine\u{1b}[2J\n||||||| base\nline 20\n=======\ntwenty\n>>>>>>> accepted";
    assert_eq!(repo.read("n.txt"), numbered(&[(3, "three"), (20, both)]));
    repo.airlock(&["undo", "s"]).ok();
    repo.airlock(&["undo", "s"]).ok();
    assert_eq!(repo.read_tree(), before, "several steps back");
}

#[test]
fn an_undo_keeps_later_edits_and_refuses_to_lose_one() {
    let repo = sample_repo();
    repo.airlock(&ALL).ok();
    repo.write("n.txt", numbered(&[(3, "three"), (20, "twenty"), (38, "later")]));
    repo.write("new/deep/f", "f\nlater\n");
    let before = repo.read_tree();
    let refused = repo.airlock(&["undo"]).expect_failure(4, &["1 conflict; nothing was written"]);
    assert!(refused.stdout.contains("conflict   new/deep/f"), "{}", refused.stdout);
    assert_eq!(repo.read_tree(), before);
    repo.write("new/deep/f", "f\n");
    fs::set_permissions(repo.path.join("new/deep/f"), fs::Permissions::from_mode(0o755)).expect("set");
    let undone = repo.airlock(&["undo"]).ok();
    assert!(undone.stdout.contains("merged     n.txt"), "{}", undone.stdout);
    assert_eq!(repo.read("n.txt"), numbered(&[(38, "later")]));
}

#[test]
fn nothing_is_written_while_git_is_at_work() {
    let repo = sample_repo();
    let before = repo.read_tree();
    let lock = repo.path.join(".git/index.lock");
    fs::write(&lock, "").expect("written");
    repo.airlock(&ALL).expect_failure(1, &["git is at work", "index.lock", "hint: wait for git to end"]);
    fs::remove_file(&lock).expect("removed");
    repo.git(&["checkout", "-qb", "other"]);
    repo.write("a.txt", "theirs\n");
    repo.git(&["commit", "-qam", "theirs"]);
    repo.git(&["checkout", "-q", "main"]);
    repo.write("a.txt", "ours\n");
    repo.git(&["commit", "-qam", "ours"]);
    let merge = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "merge", "-q", "other"];
    let merge = repo.command("git", &merge).output().expect("git runs");
    assert!(!merge.status.success());
    let merging = repo.read_tree();
    repo.airlock(&ALL).expect_failure(1, &["a merge is in progress", "git merge --continue, or --abort"]);
    assert_eq!(repo.read_tree(), merging);
    repo.git(&["merge", "--abort"]);
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(repo.read("a.txt").as_bytes(), before[&repo.path.join("a.txt")].1);
    repo.airlock(&ALL).ok();
}

#[test]
fn an_apply_that_is_killed_is_said_and_taken_back() {
    let repo = TestRepo::new();
    repo.changeset("k", "for n in $(seq 400); do echo $n > new-$n; done; echo x >> a.txt; rm c.txt");
    let before = repo.read_tree();
    let folder = repo.path.join(".git/airlock/applies");
    // Killed as soon as it begins to write, which is before its many files are in place.
    let mut child = repo.command(AIRLOCK, &["apply", "k", "--accept-all"]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    while !repo.path.join(".git/index.lock").exists() {
        assert!(child.try_wait().expect("asked").is_none(), "it was too fast");
        std::thread::yield_now();
    }
    rustix::process::kill_process(pid(&child), rustix::process::Signal::KILL).expect("killed");
    child.wait().expect("it ends");
    assert!(!folder.join("000001/end").exists(), "it was too fast");
    let half = repo.read_tree();
    // Other verbs say it, and write nothing.
    for verb in [&["ls"][..], &["diff", "k", "--stat"], &["status", "k"]] {
        let ran = repo.airlock(verb).ok();
        assert!(ran.stderr.contains("interrupted; run airlock recover"), "{}", ran.stderr);
    }
    assert_eq!(repo.read_tree(), half);
    // And git commits no half.
    let add = repo.command("git", &["add", "-A"]).output().expect("git runs");
    assert!(!add.status.success() && String::from_utf8_lossy(&add.stderr).contains("index.lock"), "{add:?}");
    let recovered = repo.airlock(&["recover"]).ok();
    assert!(recovered.stderr.contains("was interrupted; rolling back"), "{}", recovered.stderr);
    assert_eq!(repo.read_tree(), before);
    assert!(repo.airlock(&["recover"]).ok().stderr.contains("no apply was interrupted"));
    assert!(!repo.airlock(&["ls"]).ok().stderr.contains("interrupted"));
    repo.airlock(&["apply", "k", "--accept-all"]).ok();
    assert_eq!(repo.read("new-400"), "400\n");
}

#[test]
fn an_interrupted_apply_is_taken_back() {
    let repo = TestRepo::new();
    repo.changeset("i", "for n in $(seq 400); do echo $n > new-$n; done");
    let before = repo.read_tree();
    let mut child = repo.command(AIRLOCK, &["apply", "i", "--accept-all"]);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let folder = repo.path.join(".git/airlock/applies/000001");
    while !folder.join("journal").exists() {
        std::thread::yield_now();
    }
    rustix::process::kill_process(pid(&child), rustix::process::Signal::INT).expect("sent");
    let ran = CommandOutput::from(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.status, 130, "it was too fast, or it does not listen: {ran:?}");
    assert!(ran.stderr.contains("interrupted; all is as it was"), "{}", ran.stderr);
    assert_eq!(repo.read_tree(), before);
    assert!(repo.airlock(&["recover"]).ok().stderr.contains("no apply was interrupted"));
}

#[test]
fn backups_go_when_they_are_old_but_never_the_only_copy_of_an_edit() {
    let mut repo = sample_repo();
    // A program has the file open while it is replaced, and saves after that.
    let mut open = fs::File::options().append(true).open(repo.path.join("a.txt")).expect("opened");
    repo.airlock(&ALL).ok();
    open.write_all(b"too late\n").expect("written");
    repo.set("AIRLOCK_BACKUPS", "1s");
    let folder = repo.path.join(".git/airlock/applies/000001");
    let end = folder.join("end").metadata().expect("it is there").modified().expect("known");
    while end.elapsed().is_ok_and(|since| since.as_secs() < 2) {
        std::thread::yield_now();
    }
    let ran = repo.airlock(&["gc"]).ok();
    assert!(
        ran.stderr.contains("kept the backups of apply 1") && ran.stderr.contains("an edit of a.txt"),
        "{}",
        ran.stderr
    );
    assert!(folder.exists());
    // An undo brings it back.
    let undone = repo.airlock(&["undo"]).ok();
    assert!(
        undone.stdout.contains("restored   a.txt       with what was written to it after the apply"),
        "{}",
        undone.stdout
    );
    assert_eq!(repo.read("a.txt"), "one\ntwo\ntoo late\n");
    repo.unset("AIRLOCK_BACKUPS");
    let dry = repo.airlock(&["gc", "--dry-run"]).ok();
    assert!(!dry.stderr.contains("backups of apply"), "thirty days have not passed: {}", dry.stderr);
}

#[test]
fn rounds_go_on_from_swaps_and_from_edits_of_what_they_brought() {
    let repo = TestRepo::new();
    repo.write("d/k", "k\n");
    repo.write("g", "g\n");
    repo.write("f", numbered(&[]));
    repo.commit();
    let script = "rm -r d; echo x > d; rm g; mkdir g; echo q > g/q; sed -i 's/^line 3$/three/' f; echo more >> a.txt";
    repo.changeset("r", script);
    let swap = ["--accept", "d", "--accept", "d/k", "--accept", "g", "--accept", "g/q", "--accept", "f"];
    repo.airlock(&[&["apply", "r"][..], &swap].concat()).ok();
    // The user goes on from an applied line: another round does not ask about it again.
    repo.write("f", numbered(&[(3, "three and a half")]));
    let ran = repo.airlock(&["apply", "r", "--accept-all"]).ok();
    assert!(ran.stdout.contains("unchanged  f") && ran.stdout.contains("unchanged  d/k"), "{}", ran.stdout);
    assert_eq!((repo.read("a.txt"), repo.read("f")), ("one\ntwo\nmore\n".into(), numbered(&[(3, "three and a half")])));
    // A branch has the same swaps.
    for (key, value) in [("user.name", "Ann"), ("user.email", "ann@example.org")] {
        repo.git(&["config", key, value]);
    }
    repo.airlock(&["apply", "r", "--accept-all", "--to", "branch:swapped"]).ok();
    let changes = "M\ta.txt\nA\td\nD\td/k\nM\tf\nD\tg\nA\tg/q\n";
    assert_eq!(repo.git(&["diff", "--name-status", "--no-renames", "main", "swapped"]), changes);
}

#[test]
fn a_lock_of_gits_is_never_taken_for_ours() {
    let repo = sample_repo();
    repo.airlock(&["apply", "s", "--accept", "a.txt"]).ok();
    let lock = repo.path.join(".git/index.lock");
    // Made right after ours was removed: a file system may well give it the same number.
    fs::write(&lock, "git's\n").expect("written");
    for args in [&ALL[..], &["undo"]] {
        repo.airlock(args).expect_failure(1, &["git is at work"]);
    }
    repo.airlock(&["recover"]).ok();
    assert_eq!(fs::read_to_string(&lock).expect("it is there"), "git's\n");
}

#[test]
fn an_undo_takes_few_descriptors_and_large_files_are_a_conflict() {
    let repo = TestRepo::new();
    repo.changeset("u", "for n in $(seq 300); do echo $n > new-$n; done; yes text | head -c 18000000 > large");
    repo.airlock(&["apply", "u", "--accept-all"]).ok();
    repo.write("large", "small\n");
    repo.airlock(&["undo"]).expect_failure(4, &["1 conflict; nothing was written"]);
    fs::remove_file(repo.path.join("large")).expect("removed");
    let script = format!("ulimit -n 100; exec {AIRLOCK} undo");
    CommandOutput::from_command(repo.command("bash", &["-c", &script])).ok();
    assert_eq!(repo.git(&["status", "--short"]), "");
}

/// Cuts an apply off by taking its end away, as if the process had ended just before it.
fn cut_off(repo: &TestRepo) -> std::path::PathBuf {
    let folder = repo.path.join(".git/airlock/applies/000001");
    fs::remove_file(folder.join("end")).expect("removed");
    folder
}

#[test]
fn recovery_asks_when_head_has_moved_and_goes_both_ways() {
    let repo = sample_repo();
    let before = repo.read_tree();
    repo.airlock(&ALL).ok();
    let after = repo.read_tree();
    cut_off(&repo);
    // An index that was only refreshed is the same.
    repo.git(&["update-index", "-q", "--really-refresh"]);
    repo.airlock(&["recover", "--continue"]).ok();
    assert_eq!(repo.read("n.txt").as_bytes(), after[&repo.path.join("n.txt")].1);
    cut_off(&repo);
    repo.git(&["commit", "-q", "--allow-empty", "-m", "moved"]);
    for args in [&ALL[..], &["undo"], &["recover"]] {
        repo.airlock(args).expect_failure(1, &["HEAD or the index has changed since", "--rollback"]);
    }
    // A path that was edited meanwhile is left alone, and said.
    repo.write("a.txt", "edited meanwhile\n");
    let ran = repo.airlock(&["recover", "--rollback"]).ok();
    assert!(ran.stderr.contains("a.txt is left as it is: you have changed it since"), "{}", ran.stderr);
    let kept = ran.stderr.lines().find_map(|l| l.split("is kept in ").nth(1)).expect("the other is kept");
    assert_eq!(fs::read_to_string(kept).expect("read"), "one\ntwo\n");
    assert_eq!(repo.read("a.txt"), "edited meanwhile\n");
    assert_eq!(repo.read("n.txt").as_bytes(), before[&repo.path.join("n.txt")].1);
    assert!(repo.path.join("only/one").exists() && !repo.path.join("new").exists());
}

#[test]
fn a_damaged_or_foreign_journal_is_refused_with_advice() {
    let repo = sample_repo();
    repo.airlock(&ALL).ok();
    let after = repo.read_tree();
    let folder = cut_off(&repo);
    let journal = folder.join("journal");
    let whole = fs::read(&journal).expect("read");
    fs::write(&journal, &whole[..whole.len() / 2]).expect("written");
    for args in [&ALL[..], &["undo"], &["recover"]] {
        repo.airlock(args)
            .expect_failure(1, &["is damaged: its checksum is another", "nothing was written", "slots", "mv "]);
    }
    assert_eq!(repo.read_tree(), after);
    fs::write(&journal, &whole).expect("written");
    // A copy of the repository is not where the apply happened.
    let copy = repo.path.with_file_name("copy");
    let copied = repo.command("cp", &["-r", ".", copy.to_str().expect("UTF-8")]).status().expect("cp runs");
    assert!(copied.success());
    let there = |args: &[&str]| {
        CommandOutput::from_command({
            let mut command = repo.command(AIRLOCK, args);
            command.current_dir(&copy);
            command
        })
    };
    there(&["recover"]).expect_failure(1, &["belongs to another working tree", "nothing was written", "mv "]);
    assert_eq!(fs::read_to_string(copy.join("a.txt")).expect("read"), "one\ntwo\nx\n");
    // One that was moved is.
    fs::remove_dir_all(&copy).expect("removed");
    fs::rename(&repo.path, &copy).expect("moved");
    there(&["recover"]).ok();
    assert_eq!(fs::read_to_string(copy.join("a.txt")).expect("read"), "one\ntwo\n");
    fs::rename(&copy, &repo.path).expect("moved back");
}

#[test]
fn an_apply_in_a_linked_working_tree_is_its_own_affair() {
    let mut repo = sample_repo();
    repo.airlock(&ALL).ok();
    cut_off(&repo);
    let main = repo.path.clone();
    let linked = repo.path.with_file_name("linked");
    repo.git(&["worktree", "add", "-q", linked.to_str().expect("UTF-8")]);
    repo.path = linked;
    repo.airlock(&ALL).expect_failure(1, &["another working tree"]);
    repo.changeset("w", "echo w >> a.txt");
    repo.airlock(&["apply", "w", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nw\n");
    // The other's undo is not for here.
    repo.airlock(&["undo", "s"]).expect_failure(1, &["no apply of s"]);
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), "");
    repo.path = main;
    repo.airlock(&["recover"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\n");
}

#[test]
fn two_applies_at_once_wait_for_nobody() {
    let repo = sample_repo();
    let folder = repo.path.join(".git/airlock/applies");
    fs::create_dir_all(&folder).expect("made");
    let lock = fs::File::create(folder.join("lock")).expect("made");
    lock.lock().expect("locked");
    (&lock).write_all(br#"{"pid": 4711, "boot": "b", "since": 1}"#).expect("written");
    repo.airlock(&ALL).expect_failure(1, &["another airlock writes", "process 4711", "nothing was written"]);
    drop(lock);
    repo.airlock(&ALL).ok();
}

#[test]
fn a_branch_is_made_without_touching_anything() {
    let repo = sample_repo();
    repo.write("a.txt", "dirty\n");
    repo.git(&["add", "a.txt"]);
    let (before, head) = (repo.read_tree(), repo.git(&["rev-parse", "HEAD"]));
    let git = repo.path.join(".git");
    let outside = |picture: &crate::support::TreeContents| {
        let relevant = |path: &&std::path::PathBuf| {
            let below = path.strip_prefix(&git).unwrap_or(Path::new(""));
            !below.starts_with("objects")
                && !below.starts_with("refs/heads/agent")
                && !below.starts_with("logs/refs/heads")
        };
        picture.iter().filter(|(path, _)| relevant(path)).map(|(p, s)| (p.clone(), s.clone())).collect::<Vec<_>>()
    };
    let to = ["apply", "s", "--accept-all", "--allow-risky", "--to", "branch:agent/work"];
    repo.airlock(&to).expect_failure(1, &["your name and address", "git config --global user.name"]);
    for (key, value) in [("user.name", "Ann"), ("user.email", "ann@example.org")] {
        repo.git(&["config", key, value]);
    }
    let config = git.join("config");
    let mut before = before;
    before.get_mut(&config).expect("it is there").1 = fs::read(&config).expect("read");
    repo.airlock(&[&to[..], &["--dry-run"]].concat()).ok();
    assert_eq!(outside(&repo.read_tree()), outside(&before));
    let made = repo.airlock(&to).ok();
    assert!(made.stderr.contains("5 files on the new branch agent/work"), "{}", made.stderr);
    assert_eq!(outside(&repo.read_tree()), outside(&before), "neither tree nor index nor HEAD");
    assert_eq!(repo.git(&["rev-parse", "HEAD"]), head);
    assert_eq!(repo.git(&["rev-parse", "agent/work~1"]), head);
    let commit = repo.git(&["log", "-1", "--format=%an <%ae>%n%B", "agent/work"]);
    assert!(commit.starts_with("Ann <ann@example.org>\nChange 5 files\n\nAirlock-Sandbox: s "), "{commit}");
    let changes = "M\ta.txt\nD\tc.txt\nM\tn.txt\nA\tnew/deep/f\nD\tonly/one\n";
    assert_eq!(repo.git(&["diff", "--name-status", "main", "agent/work"]), changes);
    assert!(repo.git(&["ls-tree", "agent/work", "new/deep/f"]).starts_with("100755"));
    repo.airlock(&to).expect_failure(1, &["there is a branch agent/work already"]);
    repo.airlock(&["apply", "s", "--accept-all", "--to", "branch:a..b"]).expect_failure(2, &["no name for a branch"]);
    repo.airlock(&["apply", "s", "--accept-all", "--to", "brunch:x"])
        .expect_failure(2, &["worktree, branch:NAME or patch:FILE"]);
}

#[test]
fn a_branch_holds_what_git_would_store() {
    let repo = TestRepo::new();
    repo.write(
        ".gitattributes",
        "*.crlf text eol=crlf\n*.id ident\n*.wide working-tree-encoding=UTF-16LE\n*.lfs filter=lfs\n",
    );
    repo.write("w.crlf", "one\r\n");
    repo.write("i.id", "$Id$\n");
    repo.write("u.wide", "h\0i\0\n\0");
    repo.write("l.lfs", "plain\n");
    repo.commit();
    for (key, value) in [("user.name", "Ann"), ("user.email", "ann@example.org")] {
        repo.git(&["config", key, value]);
    }
    let script = "printf 'two\\r\\n' >> w.crlf; echo more >> i.id; printf 'x\\000\\n\\000' >> u.wide";
    repo.changeset("f", script);
    repo.airlock(&["apply", "f", "--accept-all", "--allow-risky", "--to", "branch:stored"]).ok();
    assert_eq!(repo.git(&["show", "stored:w.crlf"]), "one\ntwo\n");
    assert_eq!(repo.git(&["show", "stored:i.id"]), "$Id$\nmore\n");
    assert_eq!(repo.git(&["show", "stored:u.wide"]), "hi\nx\n");
    // It checks out as what was accepted, and git finds nothing to change.
    repo.git(&["checkout", "-q", "stored"]);
    assert_eq!(repo.git(&["status", "--short"]), "");
    assert_eq!(repo.read("w.crlf"), "one\r\ntwo\r\n");
    repo.git(&["checkout", "-q", "main"]);
    repo.changeset("l", "echo more >> l.lfs");
    repo.airlock(&["apply", "l", "--accept-all", "--to", "branch:lfs"]).expect_failure(1, &["Git LFS"]);
    // In the working tree it is as ever.
    repo.airlock(&["apply", "l", "--accept-all"]).ok();
}

#[test]
fn a_patch_of_a_part_applies_to_the_base() {
    let repo = TestRepo::new();
    repo.write("data.bin", b"\0\x01binary\xff");
    repo.commit();
    let script = "echo x >> a.txt; printf '\\000new' > data.bin; rm c.txt; ln -s a.txt link; chmod +x run.sh";
    repo.changeset("p", script);
    let before = repo.read_tree();
    let file = repo.path.with_file_name("out.patch");
    let to = format!("patch:{}", file.display());
    let args = ["apply", "p", "--accept-all", "--allow-risky", "--reject", "a.txt", "--to", &to];
    repo.airlock(&args).ok();
    repo.airlock(&args).expect_failure(1, &["is there already", "nothing was written"]);
    assert_eq!(repo.read_tree(), before);
    let other = ["apply", "p", "--accept-all", "--allow-risky", "--reject", "a.txt", "--to", "patch:-"];
    assert_eq!(repo.airlock(&other).ok().stdout.as_bytes(), fs::read(&file).expect("read"));
    repo.git(&["apply", "--index", file.to_str().expect("UTF-8")]);
    assert_eq!(repo.git(&["status", "--short"]), "D  c.txt\nM  data.bin\nA  link\nM  run.sh\n");
    assert_eq!(fs::read(repo.path.join("data.bin")).expect("read"), b"\0new");
}

#[test]
fn a_merged_file_is_judged_once_more() {
    let repo = TestRepo::new();
    let package = |key: &str, last: &str| {
        let lines = ["a", "b", "c", "d"].map(|k| format!("    \"{k}\": \"true\",\n")).concat();
        format!("{{\n  \"{key}\": {{\n{lines}    {last}\n  }}\n}}\n")
    };
    repo.write("package.json", package("keywords", "\"e\": \"true\""));
    repo.commit();
    repo.changeset("m", "sed -i 's/\"e\": \"true\"/\"postinstall\": \"evil\"/' package.json");
    // The change alone runs nothing. With the user's own edit it does.
    assert_eq!(repo.diff("m")["files"][0]["severity"], Value::Null, "{}", repo.diff("m"));
    repo.write("package.json", package("scripts", "\"e\": \"true\""));
    let ran = repo.airlock(&["apply", "m", "--accept", "package.json"]).ok();
    assert!(ran.stderr.contains("what is accepted of package.json"), "{ran:?}");
    assert!(ran.stderr.contains("postinstall"), "{ran:?}");
}
