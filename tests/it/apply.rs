//! Tests of `apply`, `undo` and `recover` in a dirty, changing or partly written tree, and of branches and patches.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{AIRLOCK, CommandOutput, TestRepo, pid};

/// Returns 40 numbered lines, some of them replaced.
fn numbered_lines(changes: &[(usize, &str)]) -> String {
    let line = |n: usize| match changes.iter().find(|(at, _)| *at == n) {
        Some((_, text)) => format!("{text}\n"),
        None => format!("line {n}\n"),
    };
    (1..=40).map(line).collect()
}

fn parse_json(ran: &CommandOutput) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

/// Creates a repository with a sandbox `s` that changed lines 3 and 20 of n.txt, and more.
fn sample_repo() -> TestRepo {
    let repo = TestRepo::new();
    repo.write("n.txt", numbered_lines(&[]));
    repo.write("only/one", "1\n");
    repo.commit();
    let script = "sed -i -e 's/^line 3$/three/' -e 's/^line 20$/twenty/' n.txt; echo x >> a.txt; rm c.txt only/one; \
                  mkdir -p new/deep; echo f > new/deep/f; chmod +x new/deep/f";
    repo.changeset("s", script);
    repo
}

const ALL: [&str; 4] = ["apply", "s", "--accept-all", "--allow-risky"];

#[test]
fn apply_merges_edits_and_undo_restores_tree() {
    let repo = sample_repo();
    repo.write("n.txt", numbered_lines(&[(30, "mine")]));
    repo.write("own", "my own\n");
    fs::set_permissions(repo.path.join("a.txt"), fs::Permissions::from_mode(0o600)).expect("set");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&[&ALL[..], &["--dry-run"]].concat()), @"
    status: 0
    ----- stdout -----
      apply      a.txt
      delete     c.txt
      merge      n.txt       with your edits of line 30
      create     new/deep/f
      delete     only/one
    ----- stderr -----
    airlock: would create the directory new
    airlock: would create the directory new/deep
    airlock: would remove the empty directory only
    airlock: this was a dry run; nothing was written
    ");
    assert_eq!(repo.read_tree(), before, "a dry run writes nothing");
    let plan = parse_json(&repo.airlock(&[&ALL[..], &["--dry-run", "--json"]].concat()).ok());
    let step = plan["plan"]["steps"].as_array().expect("a list").iter().find(|s| s["path"] == "a.txt").expect("it");
    assert_eq!((&step["operation"], &step["expected"]["permissions"]), (&"apply".into(), &"0600".into()), "{step}");
    assert_eq!(step["base"]["sha256"], step["expected"]["sha256"]);
    assert_eq!(plan["plan"]["dirs_to_create"], serde_json::json!(["new", "new/deep"]));

    assert_snapshot!(repo.airlock(&ALL), @"
    status: 0
    ----- stdout -----
      applied    a.txt
      deleted    c.txt
      merged     n.txt       with your edits of line 30
      created    new/deep/f
      deleted    only/one
    ----- stderr -----
    airlock: 5 of 5 files applied. Undo: airlock undo s · All changes are decided. Next: airlock resume s -- COMMAND, or airlock rm s
    ");
    assert_eq!(repo.read("n.txt"), numbered_lines(&[(3, "three"), (20, "twenty"), (30, "mine")]));
    assert!(!repo.path.join("only").exists());
    assert_eq!(repo.path.join("a.txt").metadata().expect("the file exists").mode() & 0o777, 0o600);
    assert_eq!(repo.path.join("new/deep/f").metadata().expect("the file exists").mode() & 0o111, 0o111);
    // Everything is decided. The apply can still be undone, and the sandbox resumed.
    assert_eq!(repo.status("s"), "decided");
    let list = parse_json(&repo.airlock(&["undo", "--list", "--json"]).ok());
    assert_eq!(list["applies"][0]["files"].as_array().expect("a list").len(), 5);

    assert_snapshot!(repo.airlock(&["undo"]), @"
    status: 0
    ----- stdout -----
      restored   a.txt
      restored   c.txt
      restored   n.txt
      removed    new/deep/f
      restored   only/one
    ----- stderr -----
    airlock: undid the apply of s (5 files). Next: airlock review s
    ");
    assert_eq!(repo.read_tree(), before);
    assert!(!repo.path.join("new").exists());
    assert_snapshot!(repo.airlock(&["undo"]), @"
    status: 1
    ----- stderr -----
    error: there is no apply to undo in this working tree
    ");
    // After the undo, the changes can be applied again, and that apply can be undone after the sandbox is removed.
    repo.airlock(&ALL).ok();
    assert_eq!(repo.read("n.txt"), numbered_lines(&[(3, "three"), (20, "twenty"), (30, "mine")]));
    repo.airlock(&["rm", "s"]).ok();
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn apply_conflict_shows_sides_and_options() {
    let repo = sample_repo();
    repo.write("n.txt", numbered_lines(&[(20, "mine\u{1b}[2J")]));
    fs::remove_file(repo.path.join("a.txt")).expect("removed");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&ALL), @"
    status: 4
    ----- stdout -----
      conflict   a.txt       you have deleted it in the working tree
      skipped    c.txt       because of the conflicts
      conflict   n.txt       both sides changed the same lines
      skipped    new/deep/f  because of the conflicts
      skipped    only/one    because of the conflicts

    a.txt: you have deleted it in the working tree
      base                │ a file, 8 bytes, sha256 c3f9c8c283a2…
      ours (working tree) │ nothing
      theirs (accepted)   │ a file, 10 bytes, sha256 dd717da06382…

    n.txt: both sides changed the same lines
      base, line 20
      │ line 20
      ours (working tree), line 20
      │ mine<U+001B>[2J
      theirs (accepted), line 20
      │ twenty
    ----- stderr -----
    airlock: 2 conflicts; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review s` and press x
    airlock: to skip them, add `--reject=a.txt --reject=n.txt`
    airlock: to write everything except conflicts, add `--on-conflict skip`
    airlock: to write both sides between conflict markers where that is possible, add `--on-conflict markers --reject=a.txt`
    ");
    assert_eq!(repo.read_tree(), before);
    // Markers are only for lines: the other conflict still blocks the apply.
    assert_snapshot!(repo.airlock(&[&ALL[..], &["--on-conflict", "markers"]].concat()), @"
    status: 4
    ----- stdout -----
      conflict   a.txt       you have deleted it in the working tree
      skipped    c.txt       because of the conflicts
      skipped    n.txt       because of the conflicts
      skipped    new/deep/f  because of the conflicts
      skipped    only/one    because of the conflicts

    a.txt: you have deleted it in the working tree
      base                │ a file, 8 bytes, sha256 c3f9c8c283a2…
      ours (working tree) │ nothing
      theirs (accepted)   │ a file, 10 bytes, sha256 dd717da06382…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review s` and press x
    airlock: to skip them, add `--reject=a.txt`
    airlock: to write everything except conflicts, use `--on-conflict skip` instead
    ");
    assert_eq!(repo.read_tree(), before);
    assert_snapshot!(repo.airlock(&[&ALL[..], &["--on-conflict", "skip"]].concat()), @"
    status: 0
    ----- stdout -----
      skipped    a.txt       you have deleted it in the working tree
      deleted    c.txt
      skipped    n.txt       both sides changed the same lines
      created    new/deep/f
      deleted    only/one
    ----- stderr -----
    airlock: 2 conflicts skipped
    airlock: 3 of 5 files applied. Undo: airlock undo s · Next: airlock review s, or airlock rm s
    ");
    assert_eq!(repo.read("n.txt"), numbered_lines(&[(20, "mine\u{1b}[2J")]));
    let marked = ["apply", "s", "--accept", "n.txt", "--on-conflict", "markers"];
    assert_snapshot!(repo.airlock(&marked), @"
    status: 0
    ----- stdout -----
      marked     n.txt  1 conflict between markers
    ----- stderr -----
    airlock: 1 file contains conflict markers (<<<<<<< to >>>>>>>) to resolve
    airlock: 1 of 5 files applied. Undo: airlock undo s · Next: airlock review s, or airlock rm s
    ");
    let both = "<<<<<<< ours\nmine\u{1b}[2J\n||||||| base\nline 20\n=======\ntwenty\n>>>>>>> theirs";
    assert_eq!(repo.read("n.txt"), numbered_lines(&[(3, "three"), (20, both)]));
    repo.airlock(&["undo", "s"]).ok();
    repo.airlock(&["undo", "s"]).ok();
    assert_eq!(repo.read_tree(), before, "both applies are undone");
}

#[test]
fn undo_keeps_later_edits_or_refuses() {
    let repo = sample_repo();
    repo.airlock(&ALL).ok();
    repo.write("n.txt", numbered_lines(&[(3, "three"), (20, "twenty"), (38, "later")]));
    repo.write("new/deep/f", "f\nlater\n");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["undo"]), @"
    status: 4
    ----- stdout -----
      skipped    a.txt       because of the conflicts
      skipped    c.txt       because of the conflicts
      skipped    n.txt       because of the conflicts
      conflict   new/deep/f  it would be deleted, but you have changed it in the working tree
      skipped    only/one    because of the conflicts

    new/deep/f: it would be deleted, but you have changed it in the working tree
      base (as applied)         │ an executable file, 2 bytes, sha256 092fcfbbcfca…
      ours (working tree)       │ an executable file, 8 bytes, sha256 1235b4c16ec6…
      theirs (before the apply) │ nothing
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    ");
    assert_eq!(repo.read_tree(), before);
    repo.write("new/deep/f", "f\n");
    fs::set_permissions(repo.path.join("new/deep/f"), fs::Permissions::from_mode(0o755)).expect("set");
    assert_snapshot!(repo.airlock(&["undo"]), @"
    status: 0
    ----- stdout -----
      restored   a.txt
      restored   c.txt
      merged     n.txt       with your edits of line 38
      removed    new/deep/f
      restored   only/one
    ----- stderr -----
    airlock: undid the apply of s (5 files). Next: airlock review s
    ");
    assert_eq!(repo.read("n.txt"), numbered_lines(&[(38, "later")]));
}

#[test]
fn apply_refuses_during_git_operation() {
    let repo = sample_repo();
    let before = repo.read_tree();
    let lock = repo.path.join(".git/index.lock");
    fs::write(&lock, "").expect("written");
    assert_snapshot!(repo.airlock(&ALL), @"
    status: 1
    ----- stderr -----
    error: git is running in this working tree: [TMP]/repo/.git/index.lock exists
    hint: wait for git to finish; if no git process runs, remove the lock with `rm [TMP]/repo/.git/index.lock`
    ");
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
    assert_snapshot!(repo.airlock(&ALL), @"
    status: 1
    ----- stderr -----
    error: a merge is in progress in this working tree
    hint: run `git merge --continue` or `git merge --abort` first
    ");
    assert_eq!(repo.read_tree(), merging);
    repo.git(&["merge", "--abort"]);
    repo.git(&["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(repo.read("a.txt").as_bytes(), before[&repo.path.join("a.txt")].1);
    repo.airlock(&ALL).ok();
}

#[test]
fn apply_killed_is_reported_and_rolled_back() {
    let repo = TestRepo::new();
    repo.changeset("k", "for n in $(seq 1500); do echo $n > new-$n; done; echo x >> a.txt; rm c.txt");
    let before = repo.read_tree();
    let folder = repo.path.join(".git/airlock/applies");
    // The apply is killed as soon as it starts to write, before its many files are in place.
    let mut child = repo.command(AIRLOCK, &["apply", "k", "--accept-all"]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    while !repo.path.join(".git/index.lock").exists() {
        assert!(child.try_wait().expect("asked").is_none(), "the apply ended too early");
        std::thread::yield_now();
    }
    rustix::process::kill_process(pid(&child), rustix::process::Signal::KILL).expect("killed");
    child.wait().expect("it ends");
    assert!(!folder.join("000001/end").exists(), "the apply ended too early");
    let half = repo.read_tree();
    // Other commands report it, and write nothing.
    for verb in [&["ls"][..], &["diff", "k", "--stat"], &["status", "k"]] {
        let ran = repo.airlock(verb).ok();
        assert!(
            ran.stderr.contains("an apply was interrupted; to roll it back, run `airlock recover`"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(repo.read_tree(), half);
    // git cannot commit the partial state.
    let add = repo.command("git", &["add", "-A"]).output().expect("git runs");
    assert!(!add.status.success() && String::from_utf8_lossy(&add.stderr).contains("index.lock"), "{add:?}");
    assert_snapshot!(repo.airlock(&["recover"]), @"
    status: 0
    ----- stderr -----
    airlock: apply 1 of k was interrupted; rolling back
    ");
    assert_eq!(repo.read_tree(), before);
    assert_snapshot!(repo.airlock(&["recover"]), @"
    status: 0
    ----- stderr -----
    airlock: no apply was interrupted
    ");
    assert!(!repo.airlock(&["ls"]).ok().stderr.contains("interrupted"));
    repo.airlock(&["apply", "k", "--accept-all"]).ok();
    assert_eq!(repo.read("new-1500"), "1500\n");
}

#[test]
fn apply_interrupted_is_rolled_back() {
    let repo = TestRepo::new();
    // So many files that the signal arrives while they are written.
    repo.changeset("i", "for n in $(seq 4000); do echo $n > new-$n; done");
    let before = repo.read_tree();
    let mut child = repo.command(AIRLOCK, &["apply", "i", "--accept-all"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("airlock starts");
    let folder = repo.path.join(".git/airlock/applies/000001");
    while !folder.join("journal").exists() {
        assert!(child.try_wait().expect("the process can be polled").is_none(), "the apply ended too early");
        std::thread::yield_now();
    }
    rustix::process::kill_process(pid(&child), rustix::process::Signal::INT).expect("sent");
    let ran = CommandOutput::from(child.wait_with_output().expect("airlock ends"));
    assert_eq!(ran.status, 130, "the apply ended too early, or ignored the signal: {ran:?}");
    // Stdout has a line for each file.
    assert_snapshot!(ran.stderr, @"error: interrupted; nothing was changed");
    assert_eq!(repo.read_tree(), before);
    assert_snapshot!(repo.airlock(&["recover"]), @"
    status: 0
    ----- stderr -----
    airlock: no apply was interrupted
    ");
}

#[test]
fn gc_keeps_backup_of_late_edit() {
    let mut repo = sample_repo();
    // A program has the file open while it is replaced, and writes to it afterwards.
    let mut open = fs::File::options().append(true).open(repo.path.join("a.txt")).expect("opened");
    repo.airlock(&ALL).ok();
    open.write_all(b"too late\n").expect("written");
    repo.set("AIRLOCK_BACKUPS", "1s");
    let folder = repo.path.join(".git/airlock/applies/000001");
    let end = folder.join("end").metadata().expect("the file exists").modified().expect("the file has a time");
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
    // Undo restores the edit. Stderr depends on whether gc has removed the sandbox.
    assert_snapshot!(repo.airlock(&["undo"]).ok().stdout, @"
    restored   a.txt       with edits from after the apply
    restored   c.txt
    restored   n.txt
    removed    new/deep/f
    restored   only/one
    ");
    assert_eq!(repo.read("a.txt"), "one\ntwo\ntoo late\n");
    repo.unset("AIRLOCK_BACKUPS");
    let dry = repo.airlock(&["gc", "--dry-run"]).ok();
    assert!(
        !dry.stderr.contains("backups of apply"),
        "the default retention of 30 days has not passed: {}",
        dry.stderr
    );
}

#[test]
fn apply_again_keeps_swaps_and_later_edits() {
    let repo = TestRepo::new();
    repo.write("d/k", "k\n");
    repo.write("g", "g\n");
    repo.write("f", numbered_lines(&[]));
    repo.commit();
    let script = "rm -r d; echo x > d; rm g; mkdir g; echo q > g/q; sed -i 's/^line 3$/three/' f; echo more >> a.txt";
    repo.changeset("r", script);
    let swap = ["--accept", "d", "--accept", "d/k", "--accept", "g", "--accept", "g/q", "--accept", "f"];
    repo.airlock(&[&["apply", "r"][..], &swap].concat()).ok();
    // The user edits an applied line. The next apply leaves that edit alone.
    repo.write("f", numbered_lines(&[(3, "three and a half")]));
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all"]), @"
    status: 0
    ----- stdout -----
      applied    a.txt
      unchanged  d
      unchanged  d/k
      unchanged  f
      unchanged  g
      unchanged  g/q
    ----- stderr -----
    airlock: 1 of 6 files applied, 5 unchanged. Undo: airlock undo r · All changes are decided. Next: airlock resume r -- COMMAND, or airlock rm r
    ");
    assert_eq!(
        (repo.read("a.txt"), repo.read("f")),
        ("one\ntwo\nmore\n".into(), numbered_lines(&[(3, "three and a half")]))
    );
    // A branch gets the same swaps of files and directories.
    for (key, value) in [("user.name", "Ann"), ("user.email", "ann@example.org")] {
        repo.git(&["config", key, value]);
    }
    repo.airlock(&["apply", "r", "--accept-all", "--to", "branch:swapped"]).ok();
    let changes = "M\ta.txt\nA\td\nD\td/k\nM\tf\nD\tg\nA\tg/q\n";
    assert_eq!(repo.git(&["diff", "--name-status", "--no-renames", "main", "swapped"]), changes);
}

#[test]
fn index_lock_of_git_is_not_removed() {
    let repo = sample_repo();
    repo.airlock(&["apply", "s", "--accept", "a.txt"]).ok();
    let lock = repo.path.join(".git/index.lock");
    // It is created right after Airlock's lock was removed, so a file system may give it the same inode number.
    fs::write(&lock, "git's\n").expect("written");
    assert_snapshot!(repo.airlock(&ALL), @"
    status: 1
    ----- stderr -----
    error: git is running in this working tree: [TMP]/repo/.git/index.lock exists
    hint: wait for git to finish; if no git process runs, remove the lock with `rm [TMP]/repo/.git/index.lock`
    ");
    assert_snapshot!(repo.airlock(&["undo"]), @"
    status: 1
    ----- stderr -----
    error: git is running in this working tree: [TMP]/repo/.git/index.lock exists
    hint: wait for git to finish; if no git process runs, remove the lock with `rm [TMP]/repo/.git/index.lock`
    ");
    repo.airlock(&["recover"]).ok();
    assert_eq!(fs::read_to_string(&lock).expect("the file exists"), "git's\n");
}

#[test]
fn undo_handles_many_files_and_large_edits() {
    let repo = TestRepo::new();
    repo.changeset("u", "for n in $(seq 300); do echo $n > new-$n; done; yes text | head -c 18000000 > large");
    repo.airlock(&["apply", "u", "--accept-all"]).ok();
    repo.write("large", "small\n");
    // A file that is too large to merge is a conflict.
    let mut undone = repo.airlock(&["undo"]);
    let (small, rest): (Vec<_>, Vec<_>) = undone.stdout.split_inclusive('\n').partition(|line| line.contains(" new-"));
    assert_eq!(small.len(), 300);
    undone.stdout = rest.concat();
    assert_snapshot!(undone, @"
    status: 4
    ----- stdout -----
      conflict   large    it would be deleted, but you have changed it in the working tree

    large: it would be deleted, but you have changed it in the working tree
      base (as applied)         │ a file, sha256 7ec20f531705…
      ours (working tree)       │ a file, 6 bytes, sha256 4c47b3e816fb…
      theirs (before the apply) │ nothing
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    ");
    fs::remove_file(repo.path.join("large")).expect("removed");
    let script = format!("ulimit -n 100; exec {AIRLOCK} undo");
    CommandOutput::from_command(repo.command("bash", &["-c", &script])).ok();
    assert_eq!(repo.git(&["status", "--short"]), "");
}

/// Removes the outcome of an apply, as if the process had ended just before it was written.
fn remove_outcome(repo: &TestRepo) -> std::path::PathBuf {
    let folder = repo.path.join(".git/airlock/applies/000001");
    fs::remove_file(folder.join("end")).expect("removed");
    folder
}

#[test]
fn recover_needs_direction_after_head_moved() {
    let repo = sample_repo();
    let before = repo.read_tree();
    repo.airlock(&ALL).ok();
    let after = repo.read_tree();
    remove_outcome(&repo);
    // A refresh of the index does not count as a change.
    repo.git(&["update-index", "-q", "--really-refresh"]);
    repo.airlock(&["recover", "--continue"]).ok();
    assert_eq!(repo.read("n.txt").as_bytes(), after[&repo.path.join("n.txt")].1);
    remove_outcome(&repo);
    repo.git(&["commit", "-q", "--allow-empty", "-m", "moved"]);
    assert_snapshot!(repo.airlock(&ALL), @"
    status: 1
    ----- stderr -----
    error: an apply was interrupted, and HEAD or the index has changed since
    hint: to roll it back, run `airlock recover --rollback`; to complete it, run `airlock recover --continue`
    ");
    assert_snapshot!(repo.airlock(&["undo"]), @"
    status: 1
    ----- stderr -----
    error: an apply was interrupted, and HEAD or the index has changed since
    hint: to roll it back, run `airlock recover --rollback`; to complete it, run `airlock recover --continue`
    ");
    assert_snapshot!(repo.airlock(&["recover"]), @"
    status: 1
    ----- stderr -----
    error: HEAD or the index has changed since the apply was interrupted
    hint: to roll it back, run `airlock recover --rollback`; to complete it, run `airlock recover --continue`
    ");
    // A path that was edited since is left alone and reported.
    repo.write("a.txt", "edited since\n");
    let ran = repo.airlock(&["recover", "--rollback"]);
    assert_snapshot!(ran, @"
    status: 0
    ----- stderr -----
    airlock: apply 1 of s was interrupted; rolling back
    airlock: a.txt was not changed: it has been changed since
    airlock: another version of a.txt is kept in [TMP]/repo/.git/airlock/applies/000001/staged/0
    ");
    let kept = ran.stderr.lines().find_map(|l| l.split("is kept in ").nth(1)).expect("the backup is kept");
    assert_eq!(fs::read_to_string(kept).expect("read"), "one\ntwo\n");
    assert_eq!(repo.read("a.txt"), "edited since\n");
    assert_eq!(repo.read("n.txt").as_bytes(), before[&repo.path.join("n.txt")].1);
    assert!(repo.path.join("only/one").exists() && !repo.path.join("new").exists());
}

#[test]
fn journal_damaged_or_foreign_is_refused() {
    let repo = sample_repo();
    repo.airlock(&ALL).ok();
    let after = repo.read_tree();
    let folder = remove_outcome(&repo);
    let journal = folder.join("journal");
    let whole = fs::read(&journal).expect("read");
    fs::write(&journal, &whole[..whole.len() / 2]).expect("written");
    assert_snapshot!(repo.airlock(&ALL), @"
    status: 1
    ----- stderr -----
    error: [TMP]/repo/.git/airlock/applies/000001/journal is damaged: its checksum does not match; nothing was written
    hint: inspect [TMP]/repo/.git/airlock/applies/000001/staged (numbered files with new or replaced contents), then run `mv [TMP]/repo/.git/airlock/applies/000001 [TMP]/repo/.git/airlock/applies/000001.damaged`
    ");
    assert_snapshot!(repo.airlock(&["undo"]), @"
    status: 1
    ----- stderr -----
    error: [TMP]/repo/.git/airlock/applies/000001/journal is damaged: its checksum does not match; nothing was written
    hint: inspect [TMP]/repo/.git/airlock/applies/000001/staged (numbered files with new or replaced contents), then run `mv [TMP]/repo/.git/airlock/applies/000001 [TMP]/repo/.git/airlock/applies/000001.damaged`
    ");
    assert_snapshot!(repo.airlock(&["recover"]), @"
    status: 1
    ----- stderr -----
    error: [TMP]/repo/.git/airlock/applies/000001/journal is damaged: its checksum does not match; nothing was written
    hint: inspect [TMP]/repo/.git/airlock/applies/000001/staged (numbered files with new or replaced contents), then run `mv [TMP]/repo/.git/airlock/applies/000001 [TMP]/repo/.git/airlock/applies/000001.damaged`
    ");
    assert_eq!(repo.read_tree(), after);
    fs::write(&journal, &whole).expect("written");
    // In a copy of the repository, the interrupted apply is not recovered.
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
    assert_snapshot!(there(&["recover"]), @"
    status: 1
    ----- stderr -----
    error: the interrupted apply [TMP]/copy/.git/airlock/applies/000001 belongs to another working tree: [TMP]/repo; nothing was written
    hint: run `airlock recover` there; if this repository is a copy, run `mv [TMP]/copy/.git/airlock/applies/000001 [TMP]/copy/.git/airlock/applies/000001.foreign` instead
    ");
    assert_eq!(fs::read_to_string(copy.join("a.txt")).expect("read"), "one\ntwo\nx\n");
    // In a moved repository, it is.
    fs::remove_dir_all(&copy).expect("removed");
    fs::rename(&repo.path, &copy).expect("moved");
    there(&["recover"]).ok();
    assert_eq!(fs::read_to_string(copy.join("a.txt")).expect("read"), "one\ntwo\n");
    fs::rename(&copy, &repo.path).expect("moved back");
}

#[test]
fn linked_worktree_has_separate_applies() {
    let mut repo = sample_repo();
    repo.airlock(&ALL).ok();
    remove_outcome(&repo);
    let main = repo.path.clone();
    let linked = repo.path.with_file_name("linked");
    repo.git(&["worktree", "add", "-q", linked.to_str().expect("UTF-8")]);
    repo.path = linked;
    assert_snapshot!(repo.airlock(&ALL), @"
    status: 1
    ----- stderr -----
    error: `s` was created from another working tree of this repository
    hint: run `cd [TMP]/repo` and try again
    ");
    repo.changeset("w", "echo w >> a.txt");
    repo.airlock(&["apply", "w", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nw\n");
    // The apply in the main working tree cannot be undone here.
    assert_snapshot!(repo.airlock(&["undo", "s"]), @"
    status: 1
    ----- stderr -----
    error: there is no apply of `s` to undo in this working tree
    hint: to list all applies, run `airlock undo --list`
    ");
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), "");
    repo.path = main;
    repo.airlock(&["recover"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\n");
}

#[test]
fn apply_fails_while_another_runs() {
    let repo = sample_repo();
    let folder = repo.path.join(".git/airlock/applies");
    fs::create_dir_all(&folder).expect("made");
    let lock = fs::File::create(folder.join("lock")).expect("made");
    lock.lock().expect("locked");
    (&lock).write_all(br#"{"pid": 4711, "boot": "b", "since": 1}"#).expect("written");
    assert_snapshot!(repo.airlock(&ALL), @"
    status: 1
    ----- stderr -----
    error: another airlock is writing to this repository's working tree (process 4711)
    hint: wait for it to finish, then try again; nothing was written
    ");
    drop(lock);
    repo.airlock(&ALL).ok();
}

#[test]
fn branch_export_leaves_worktree_unchanged() {
    let repo = sample_repo();
    repo.write("a.txt", "dirty\n");
    repo.git(&["add", "a.txt"]);
    let (before, head) = (repo.read_tree(), repo.git(&["rev-parse", "HEAD"]));
    let git = repo.path.join(".git");
    let outside = |tree: &crate::support::TreeContents| {
        let relevant = |path: &&std::path::PathBuf| {
            let below = path.strip_prefix(&git).unwrap_or(Path::new(""));
            !below.starts_with("objects")
                && !below.starts_with("refs/heads/agent")
                && !below.starts_with("logs/refs/heads")
        };
        tree.iter().filter(|(path, _)| relevant(path)).map(|(p, s)| (p.clone(), s.clone())).collect::<Vec<_>>()
    };
    let to = ["apply", "s", "--accept-all", "--allow-risky", "--to", "branch:agent/work"];
    assert_snapshot!(repo.airlock(&to), @r#"
    status: 1
    ----- stderr -----
    error: git has no name and email address for the commit
    hint: run `git config --global user.name "Your Name"` and `git config --global user.email you@example.org`
    "#);
    for (key, value) in [("user.name", "Ann"), ("user.email", "ann@example.org")] {
        repo.git(&["config", key, value]);
    }
    let config = git.join("config");
    let mut before = before;
    before.get_mut(&config).expect("the file exists").1 = fs::read(&config).expect("read");
    repo.airlock(&[&to[..], &["--dry-run"]].concat()).ok();
    assert_eq!(outside(&repo.read_tree()), outside(&before));
    let made = repo.airlock(&to).ok();
    assert!(made.stderr.contains("committed 5 files to the new branch agent/work"), "{}", made.stderr);
    assert_eq!(outside(&repo.read_tree()), outside(&before), "the working tree, the index or HEAD has changed");
    assert_eq!(repo.git(&["rev-parse", "HEAD"]), head);
    assert_eq!(repo.git(&["rev-parse", "agent/work~1"]), head);
    let commit = repo.git(&["log", "-1", "--format=%an <%ae>%n%B", "agent/work"]);
    assert!(commit.starts_with("Ann <ann@example.org>\nChange 5 files\n\nAirlock-Sandbox: s "), "{commit}");
    let changes = "M\ta.txt\nD\tc.txt\nM\tn.txt\nA\tnew/deep/f\nD\tonly/one\n";
    assert_eq!(repo.git(&["diff", "--name-status", "main", "agent/work"]), changes);
    assert!(repo.git(&["ls-tree", "agent/work", "new/deep/f"]).starts_with("100755"));
    assert_snapshot!(repo.airlock(&to), @"
    status: 1
    ----- stderr -----
    error: the branch agent/work already exists; nothing was written
    hint: choose another name
    ");
    assert_snapshot!(repo.airlock(&["apply", "s", "--accept-all", "--to", "branch:a..b"]), @"
    status: 2
    ----- stderr -----
    airlock: skipped new/deep/f: a high finding needs --allow-risky
    error: a..b is not a valid branch name
    ");
    assert_snapshot!(repo.airlock(&["apply", "s", "--accept-all", "--to", "brunch:x"]), @"
    status: 2
    ----- stderr -----
    error: --to brunch:x: the target must be worktree, branch:NAME or patch:FILE (- for stdout)
    ");
}

#[test]
fn branch_export_stores_converted_content() {
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
    // A checkout of the branch gives the accepted content, and git reports no changes.
    repo.git(&["checkout", "-q", "stored"]);
    assert_eq!(repo.git(&["status", "--short"]), "");
    assert_eq!(repo.read("w.crlf"), "one\r\ntwo\r\n");
    repo.git(&["checkout", "-q", "main"]);
    repo.changeset("l", "echo more >> l.lfs");
    assert_snapshot!(repo.airlock(&["apply", "l", "--accept-all", "--to", "branch:lfs"]), @"
    status: 1
    ----- stderr -----
    error: failed to convert l.lfs as its attributes require: Git LFS stores it, and Airlock does not create LFS objects
    ");
    // An apply to the working tree does not need Git LFS.
    repo.airlock(&["apply", "l", "--accept-all"]).ok();
}

#[test]
fn patch_export_applies_to_base() {
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
    assert_snapshot!(repo.airlock(&args), @"
    status: 1
    ----- stderr -----
    error: [TMP]/out.patch already exists; nothing was written
    hint: to replace it, add `--force`, or use `-` for stdout
    ");
    assert_eq!(repo.read_tree(), before);
    let other = ["apply", "p", "--accept-all", "--allow-risky", "--reject", "a.txt", "--to", "patch:-"];
    assert_eq!(repo.airlock(&other).ok().stdout.as_bytes(), fs::read(&file).expect("read"));
    repo.git(&["apply", "--index", file.to_str().expect("UTF-8")]);
    assert_eq!(repo.git(&["status", "--short"]), "D  c.txt\nM  data.bin\nA  link\nM  run.sh\n");
    assert_eq!(fs::read(repo.path.join("data.bin")).expect("read"), b"\0new");
}

#[test]
fn merged_file_is_checked_for_risks() {
    let repo = TestRepo::new();
    let package = |key: &str, last: &str| {
        let lines = ["a", "b", "c", "d"].map(|k| format!("    \"{k}\": \"true\",\n")).concat();
        format!("{{\n  \"{key}\": {{\n{lines}    {last}\n  }}\n}}\n")
    };
    repo.write("package.json", package("keywords", "\"e\": \"true\""));
    repo.commit();
    repo.changeset("m", "sed -i 's/\"e\": \"true\"/\"postinstall\": \"evil\"/' package.json");
    // The change alone runs nothing. Merged with the user's own edit, it does.
    assert_eq!(repo.diff("m")["files"][0]["severity"], Value::Null, "{}", repo.diff("m"));
    repo.write("package.json", package("scripts", "\"e\": \"true\""));
    assert_snapshot!(repo.airlock(&["apply", "m", "--accept", "package.json"]), @r#"
    status: 0
    ----- stdout -----
      merged     package.json  with your edits of line 2
    ----- stderr -----
    airlock: what is written to package.json changes the script "postinstall", unlike the whole change
    airlock: 1 of 1 file applied. Undo: airlock undo m · All changes are decided. Next: airlock resume m -- COMMAND, or airlock rm m
    "#);
}

#[test]
fn apply_offers_merge_of_git_where_engines_disagree() {
    let repo = TestRepo::new();
    // The blank line before which "b" was inserted can be either one.
    repo.write("f", "c\n\n\n");
    repo.commit();
    repo.changeset("g", "printf 'c\\n\\nb\\n\\n' > f");
    repo.write("f", "\n\n\n");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "g", "--accept-all"]), @"
    status: 4
    ----- stdout -----
      conflict   f  both sides changed it, and two merge algorithms give different results

    f: both sides changed it, and two merge algorithms give different results
      base                │ a file, 4 bytes, sha256 6504f1acf8ee…
      ours (working tree) │ a file, 3 bytes, sha256 6a3cf5192354…
      theirs (accepted)   │ a file, 6 bytes, sha256 5f6fc8c52947…
      git's merge would change ours after line 2
      │ +b
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review g` and press x
    airlock: to write git's merge where only the second merge engine disagrees, add `--on-conflict git-merge`
    ");
    assert_snapshot!(repo.airlock(&["apply", "g", "--accept-all", "--on-conflict", "git-merge", "--dry-run"]), @"
    status: 0
    ----- stdout -----
      merge      f  with your edits of lines after 0 and 2
    ----- stderr -----
    airlock: this was a dry run; nothing was written
    ");
    assert_eq!(repo.read_tree(), before);
    assert_snapshot!(repo.airlock(&["apply", "g", "--accept-all", "--on-conflict", "git-merge"]), @"
    status: 0
    ----- stdout -----
      merged     f  with your edits of lines after 0 and 2
    ----- stderr -----
    airlock: 1 of 1 file applied. Undo: airlock undo g · All changes are decided. Next: airlock resume g -- COMMAND, or airlock rm g
    ");
    assert_eq!(repo.read("f"), "\n\nb\n\n");
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.read_tree(), before);
    // Lines that both sides changed are a conflict for git as well.
    repo.write("f", "c\n\nmine\n\n");
    assert_snapshot!(repo.airlock(&["apply", "g", "--accept-all", "--on-conflict", "git-merge"]), @"
    status: 4
    ----- stdout -----
      conflict   f  both sides changed the same lines

    f: both sides changed the same lines
      base, nothing after line 2
      ours (working tree), line 3
      │ mine
      theirs (accepted), line 3
      │ b
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review g` and press x
    ");
}

#[test]
fn apply_never_relies_on_a_deletion_that_does_not_happen() {
    let repo = TestRepo::new();
    repo.write("d", "a file\n");
    repo.write("e/f", "below\n");
    repo.commit();
    repo.changeset("s", "rm d; mkdir d; echo x > d/x; rm -r e; echo 'something else' > e");
    repo.airlock(&["apply", "s", "--accept-all"]).ok();
    // The user goes back to a file and a directory with contents of their own.
    fs::remove_dir_all(repo.path.join("d")).expect("removed");
    fs::remove_file(repo.path.join("e")).expect("removed");
    repo.write("d", "mine\n");
    repo.write("e/f", "mine\n");
    let before = repo.read_tree();
    let planned = repo.airlock(&["apply", "s", "--accept-all", "--dry-run"]);
    assert_snapshot!(planned, @r#"
    status: 4
    ----- stdout -----
      unchanged  d
      conflict   d/x  "d" is not deleted and blocks this path
      conflict   e    "e/f" is not deleted and blocks this path
      unchanged  e/f
    ----- stderr -----
    airlock: 2 conflicts; nothing was written
    "#);
    let ran = repo.airlock(&["apply", "s", "--accept-all"]);
    assert_snapshot!(ran, @r#"
    status: 4
    ----- stdout -----
      unchanged  d
      conflict   d/x  "d" is not deleted and blocks this path
      conflict   e    "e/f" is not deleted and blocks this path
      unchanged  e/f
    ----- stderr -----
    airlock: 2 conflicts; nothing was written
    "#);
    assert_snapshot!(repo.airlock(&["apply", "s", "--accept-all", "--on-conflict", "skip"]), @r#"
    status: 0
    ----- stdout -----
      unchanged  d
      skipped    d/x  "d" is not deleted and blocks this path
      skipped    e    "e/f" is not deleted and blocks this path
      unchanged  e/f
    ----- stderr -----
    airlock: 2 conflicts skipped
    airlock: 0 of 4 files applied, 2 unchanged. All changes are decided. Next: airlock resume s -- COMMAND, or airlock rm s
    "#);
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn branch_commit_is_signed_as_git_would_sign() {
    let repo = TestRepo::empty();
    repo.write("a.txt", "one\n");
    repo.commit();
    repo.changeset("s", "echo two >> a.txt");
    let key = repo.directory().join("key");
    let made = std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f", key.to_str().expect("UTF-8")])
        .status();
    assert!(made.expect("ssh-keygen runs").success());
    for (name, value) in [
        ("user.name", "Ann"),
        ("user.email", "ann@example.org"),
        ("commit.gpgSign", "true"),
        ("gpg.format", "ssh"),
        ("user.signingKey", key.to_str().expect("UTF-8")),
    ] {
        repo.git(&["config", name, value]);
    }
    repo.airlock(&["apply", "s", "--accept-all", "--to", "branch:signed", "-m", "My message\n\nMore"]).ok();
    let commit = repo.git(&["cat-file", "commit", "signed"]);
    assert!(commit.contains("gpgsig -----BEGIN SSH SIGNATURE-----"), "{commit}");
    assert!(commit.contains("author Ann <ann@example.org>") && commit.contains("\nMy message\n\nMore\n"), "{commit}");
    assert_eq!(repo.git(&["show", "signed:a.txt"]), "one\ntwo\n");
    assert_eq!(repo.git(&["rev-parse", "signed~"]), repo.git(&["rev-parse", "HEAD"]));
    // Without the key, no branch is created.
    std::fs::remove_file(&key).expect("removed");
    repo.airlock(&["apply", "s", "--accept-all", "--to", "branch:other"])
        .expect_failure(1, &["failed to sign the commit", "no branch was created", "user.signingKey"]);
    assert_eq!(repo.git(&["branch", "--list", "other"]), "");
}

#[test]
fn branch_gets_the_commits_of_the_agent() {
    let repo = TestRepo::empty();
    for path in ["a.txt", "b.txt", "c.txt"] {
        repo.write(path, "one\n");
    }
    repo.commit();
    repo.git(&["config", "user.name", "Ann"]);
    repo.git(&["config", "user.email", "ann@example.org"]);
    repo.changeset("s", "for f in a b c; do echo two >> $f.txt; done");
    let directory = repo.path.join(".git/airlock/sandboxes/s");
    let changeset = repo.diff("s")["changeset"].clone();
    let commit = |message: &str, paths: &[&str]| {
        serde_json::json!({"id": "a".repeat(40), "author": "Agent", "time": 1, "message": message,
        "files": paths.iter().map(|path| serde_json::json!({"path": path, "blob": "b".repeat(40)})).collect::<Vec<_>>()})
    };
    let write = |commits: &[Value]| {
        let file = serde_json::json!({"changeset": changeset, "commits": commits, "contents": {}});
        fs::write(directory.join("commits.json"), file.to_string()).expect("written");
    };
    let export = |branch: &str, more: &[&str]| {
        let to = format!("branch:{branch}");
        repo.airlock(&[&["apply", "s", "--accept-all", "--to", &to][..], more].concat())
    };
    let subjects = |branch: &str| repo.git(&["log", "--reverse", "--format=%s", &format!("main..{branch}")]);
    export("none", &["--per-commit"]).expect_failure(1, &["the agent made no commits", "leave out `--per-commit`"]);
    write(&[commit("Add a second line\n\nIt was missing.", &["a.txt"]), commit("Also here\u{1b}[31m", &["b.txt"])]);
    assert_eq!(repo.diff("s")["commits"][1]["message"], "Also here\u{1b}[31m", "{}", repo.diff("s")["commits"]);
    for to in ["worktree", "patch:-"] {
        repo.airlock(&["apply", "s", "--accept-all", "--to", to, "-m", "x"])
            .expect_failure(2, &["there is none without `--to branch:NAME`"]);
    }
    export("split", &["--per-commit"]).ok();
    assert_eq!(subjects("split"), "Add a second line\nAlso here<U+001B>[31m\nChange c.txt\n");
    assert_eq!(repo.git(&["show", "--format=", "--name-only", "split~2"]), "a.txt\n");
    assert_eq!(repo.git(&["diff", "split", "--name-only"]), "a.txt\nb.txt\nc.txt\n");
    // One commit, with the messages of all.
    export("one", &[]).ok();
    assert_eq!(subjects("one"), "Change 3 files\n");
    assert!(repo.git(&["log", "-1", "--format=%b", "one"]).contains("* Add a second line\n* Also here<U+001B>[31m"));
    write(&[commit("Add a second line\n\nIt was missing.", &["a.txt", "b.txt", "c.txt"])]);
    export("only", &[]).ok();
    assert_eq!(subjects("only"), "Add a second line\n");
    write(&[commit("one", &["a.txt"]), commit("two", &["a.txt"])]);
    // Of a file whose contents are not known, all is in the last commit that changed it.
    export("shared", &["--per-commit", "--reject", "b.txt", "--reject", "c.txt"]).ok();
    assert_eq!(subjects("shared"), "two\n");
}

#[test]
fn tabs_are_shown_as_blanks_in_conflicts() {
    let repo = TestRepo::new();
    repo.write("Makefile", "test:\n\tpython3 -m unittest\n");
    repo.commit();
    repo.changeset("m", "sed -i 's/unittest/unittest -v/' Makefile");
    repo.write("Makefile", "test:\n\tpython3 -m\tpytest\n");
    let failed = repo.airlock(&["apply", "m", "--accept-all"]);
    assert_eq!(failed.status, 4);
    assert!(failed.stdout.contains("  │         python3 -m      pytest\n"), "{}", failed.stdout);
    assert!(!failed.stdout.contains("U+0009"), "{}", failed.stdout);
}
