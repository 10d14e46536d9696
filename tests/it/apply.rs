//! Applying to a tree that is dirty, moves, or was left half-done; taking back; branches and patches.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{AIRLOCK, Place, Ran, pid};

fn numbered(changes: &[(usize, &str)]) -> String {
    let line = |n: usize| match changes.iter().find(|(at, _)| *at == n) {
        Some((_, text)) => format!("{text}\n"),
        None => format!("line {n}\n"),
    };
    (1..=40).map(line).collect()
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"))
}

/// A place whose sandbox `s` changed lines 3 and 20 of n.txt, and more.
fn place() -> Place {
    let place = Place::new();
    place.write("n.txt", numbered(&[]));
    place.write("only/one", "1\n");
    place.commit();
    let script = "sed -i -e 's/^line 3$/three/' -e 's/^line 20$/twenty/' n.txt; echo x >> a.txt; rm c.txt only/one; \
                  mkdir -p new/deep; echo f > new/deep/f; chmod +x new/deep/f";
    place.sandbox("s", script).ok();
    place
}

const ALL: [&str; 4] = ["apply", "s", "--accept-all", "--allow-risky"];

#[test]
fn edits_elsewhere_in_a_file_are_kept_and_an_undo_gives_all_back() {
    let place = place();
    place.write("n.txt", numbered(&[(30, "mine")]));
    place.write("own", "my own\n");
    fs::set_permissions(place.repo.join("a.txt"), fs::Permissions::from_mode(0o600)).expect("set");
    let before = place.picture();
    let dry = place.airlock(&[&ALL[..], &["--dry-run"]].concat()).ok();
    assert!(dry.out.contains("merge      n.txt       with your edits of line 30"), "{}", dry.out);
    assert!(dry.err.contains("make the directory new/deep") && dry.err.contains("the directory only"), "{}", dry.err);
    assert_eq!(place.picture(), before, "a dry run writes nothing");
    let plan = json(&place.airlock(&[&ALL[..], &["--dry-run", "--json"]].concat()).ok());
    let step = plan["plan"]["steps"].as_array().expect("a list").iter().find(|s| s["path"] == "a.txt").expect("it");
    assert_eq!((&step["operation"], &step["expected"]["permissions"]), (&"apply".into(), &"0600".into()), "{step}");
    assert_eq!(step["base"]["sha256"], step["expected"]["sha256"]);
    assert_eq!(plan["plan"]["makes"], serde_json::json!(["new", "new/deep"]));

    let done = place.airlock(&ALL).ok();
    assert!(done.out.contains("merged     n.txt       with your edits of line 30"), "{}", done.out);
    assert!(done.err.contains("5 of 5 files applied. Undo: airlock undo s"), "{}", done.err);
    assert_eq!(place.read("n.txt"), numbered(&[(3, "three"), (20, "twenty"), (30, "mine")]));
    assert!(!place.repo.join("only").exists());
    assert_eq!(place.repo.join("a.txt").metadata().expect("it is there").mode() & 0o777, 0o600);
    assert_eq!(place.repo.join("new/deep/f").metadata().expect("it is there").mode() & 0o111, 0o111);
    // All is decided; it can be taken back, and the sandbox goes on.
    assert!(place.airlock(&["ls"]).ok().out.contains("applied"));
    let list = json(&place.airlock(&["undo", "--list", "--json"]).ok());
    assert_eq!(list["applies"][0]["files"].as_array().expect("a list").len(), 5);

    let undone = place.airlock(&["undo"]).ok();
    assert!(
        undone.out.contains("removed    new/deep/f") && undone.out.contains("restored   only/one"),
        "{}",
        undone.out
    );
    assert_eq!(place.picture(), before);
    assert!(!place.repo.join("new").exists());
    place.airlock(&["undo"]).fails(1, &["no apply to undo"]);
    // What was taken back can be applied again; and taken back without its sandbox.
    place.airlock(&ALL).ok();
    assert_eq!(place.read("n.txt"), numbered(&[(3, "three"), (20, "twenty"), (30, "mine")]));
    place.airlock(&["rm", "s"]).ok();
    place.airlock(&["undo"]).ok();
    assert_eq!(place.picture(), before);
}

#[test]
fn conflicts_show_three_sides_and_the_ways_on() {
    let place = place();
    place.write("n.txt", numbered(&[(20, "mine\u{1b}[2J")]));
    fs::remove_file(place.repo.join("a.txt")).expect("removed");
    let before = place.picture();
    let ran = place.airlock(&ALL).fails(4, &["2 conflicts; nothing was written", "--on-conflict skip"]);
    for part in ["base, line 20\n  │ line 20", "yours, line 20\n  │ mine<U+001B>[2J", "accepted, line 20\n  │ twenty"]
    {
        assert!(ran.out.contains(part), "{part} is missing: {}", ran.out);
    }
    assert!(ran.out.contains("a.txt: you have deleted it since"), "{}", ran.out);
    assert_eq!(place.picture(), before);
    // Markers are for lines only: the other conflict still holds everything up.
    place.airlock(&[&ALL[..], &["--on-conflict", "markers"]].concat()).fails(4, &["1 conflict;"]);
    assert_eq!(place.picture(), before);
    let skipped = place.airlock(&[&ALL[..], &["--on-conflict", "skip"]].concat()).ok();
    assert!(skipped.out.contains("skipped    a.txt") && skipped.out.contains("deleted    c.txt"), "{}", skipped.out);
    assert_eq!(place.read("n.txt"), numbered(&[(20, "mine\u{1b}[2J")]));
    let marked = ["apply", "s", "--accept", "n.txt", "--on-conflict", "markers"];
    assert!(place.airlock(&marked).ok().out.contains("1 place to decide, between markers"));
    let both = "<<<<<<< yours\nmine\u{1b}[2J\n||||||| base\nline 20\n=======\ntwenty\n>>>>>>> accepted";
    assert_eq!(place.read("n.txt"), numbered(&[(3, "three"), (20, both)]));
    place.airlock(&["undo", "s"]).ok();
    place.airlock(&["undo", "s"]).ok();
    assert_eq!(place.picture(), before, "several steps back");
}

#[test]
fn an_undo_keeps_later_edits_and_refuses_to_lose_one() {
    let place = place();
    place.airlock(&ALL).ok();
    place.write("n.txt", numbered(&[(3, "three"), (20, "twenty"), (38, "later")]));
    place.write("new/deep/f", "f\nlater\n");
    let before = place.picture();
    let refused = place.airlock(&["undo"]).fails(4, &["1 conflict; nothing was written"]);
    assert!(refused.out.contains("conflict   new/deep/f"), "{}", refused.out);
    assert_eq!(place.picture(), before);
    place.write("new/deep/f", "f\n");
    fs::set_permissions(place.repo.join("new/deep/f"), fs::Permissions::from_mode(0o755)).expect("set");
    let undone = place.airlock(&["undo"]).ok();
    assert!(undone.out.contains("merged     n.txt"), "{}", undone.out);
    assert_eq!(place.read("n.txt"), numbered(&[(38, "later")]));
}

#[test]
fn nothing_is_written_while_git_is_at_work() {
    let place = place();
    let before = place.picture();
    let lock = place.repo.join(".git/index.lock");
    fs::write(&lock, "").expect("written");
    place.airlock(&ALL).fails(1, &["git is at work", "index.lock", "hint: wait for git to end"]);
    fs::remove_file(&lock).expect("removed");
    place.git(&["checkout", "-qb", "other"]);
    place.write("a.txt", "theirs\n");
    place.git(&["commit", "-qam", "theirs"]);
    place.git(&["checkout", "-q", "main"]);
    place.write("a.txt", "ours\n");
    place.git(&["commit", "-qam", "ours"]);
    let merge = ["-c", "user.name=Ann", "-c", "user.email=ann@example.org", "merge", "-q", "other"];
    let merge = place.command("git", &merge).output().expect("git runs");
    assert!(!merge.status.success());
    let merging = place.picture();
    place.airlock(&ALL).fails(1, &["a merge is in progress", "git merge --continue, or --abort"]);
    assert_eq!(place.picture(), merging);
    place.git(&["merge", "--abort"]);
    place.git(&["reset", "-q", "--hard", "HEAD~1"]);
    assert_eq!(place.read("a.txt").as_bytes(), before[&place.repo.join("a.txt")].1);
    place.airlock(&ALL).ok();
}

#[test]
fn an_apply_that_is_killed_is_said_and_taken_back() {
    let place = Place::new();
    place.sandbox("k", "for n in $(seq 400); do echo $n > new-$n; done; echo x >> a.txt; rm c.txt").ok();
    let before = place.picture();
    let folder = place.repo.join(".git/airlock/applies");
    // Killed as soon as it begins to write, which is before its many files are in place.
    let mut child = place.command(AIRLOCK, &["apply", "k", "--accept-all"]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    while !place.repo.join(".git/index.lock").exists() {
        assert!(child.try_wait().expect("asked").is_none(), "it was too fast");
        std::thread::yield_now();
    }
    rustix::process::kill_process(pid(&child), rustix::process::Signal::KILL).expect("killed");
    child.wait().expect("it ends");
    assert!(!folder.join("000001/end").exists(), "it was too fast");
    let half = place.picture();
    // Other verbs say it, and write nothing.
    for verb in [&["ls"][..], &["diff", "k", "--stat"], &["status", "k"]] {
        let ran = place.airlock(verb).ok();
        assert!(ran.err.contains("interrupted; run airlock recover"), "{}", ran.err);
    }
    assert_eq!(place.picture(), half);
    // And git commits no half.
    let add = place.command("git", &["add", "-A"]).output().expect("git runs");
    assert!(!add.status.success() && String::from_utf8_lossy(&add.stderr).contains("index.lock"), "{add:?}");
    let recovered = place.airlock(&["recover"]).ok();
    assert!(recovered.err.contains("was interrupted; rolling back"), "{}", recovered.err);
    assert_eq!(place.picture(), before);
    assert!(place.airlock(&["recover"]).ok().err.contains("no apply was interrupted"));
    assert!(!place.airlock(&["ls"]).ok().err.contains("interrupted"));
    place.airlock(&["apply", "k", "--accept-all"]).ok();
    assert_eq!(place.read("new-400"), "400\n");
}

#[test]
fn an_interrupted_apply_is_taken_back() {
    let place = Place::new();
    place.sandbox("i", "for n in $(seq 400); do echo $n > new-$n; done").ok();
    let before = place.picture();
    let mut child = place.command(AIRLOCK, &["apply", "i", "--accept-all"]);
    let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    let folder = place.repo.join(".git/airlock/applies/000001");
    while !folder.join("journal").exists() {
        std::thread::yield_now();
    }
    rustix::process::kill_process(pid(&child), rustix::process::Signal::INT).expect("sent");
    let ran = Ran::from(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.status, 130, "it was too fast, or it does not listen: {ran:?}");
    assert!(ran.err.contains("interrupted; all is as it was"), "{}", ran.err);
    assert_eq!(place.picture(), before);
    assert!(place.airlock(&["recover"]).ok().err.contains("no apply was interrupted"));
}

#[test]
fn backups_go_when_they_are_old_but_never_the_only_copy_of_an_edit() {
    let mut place = place();
    // A program has the file open while it is replaced, and saves after that.
    let mut open = fs::File::options().append(true).open(place.repo.join("a.txt")).expect("opened");
    place.airlock(&ALL).ok();
    open.write_all(b"too late\n").expect("written");
    place.set("AIRLOCK_BACKUPS", "1s");
    let folder = place.repo.join(".git/airlock/applies/000001");
    let end = folder.join("end").metadata().expect("it is there").modified().expect("known");
    while end.elapsed().is_ok_and(|since| since.as_secs() < 2) {
        std::thread::yield_now();
    }
    let ran = place.airlock(&["gc"]).ok();
    assert!(ran.err.contains("kept the backups of apply 1") && ran.err.contains("an edit of a.txt"), "{}", ran.err);
    assert!(folder.exists());
    // An undo brings it back.
    let undone = place.airlock(&["undo"]).ok();
    assert!(
        undone.out.contains("restored   a.txt       with what was written to it after the apply"),
        "{}",
        undone.out
    );
    assert_eq!(place.read("a.txt"), "one\ntwo\ntoo late\n");
    place.unset("AIRLOCK_BACKUPS");
    let dry = place.airlock(&["gc", "--dry-run"]).ok();
    assert!(!dry.err.contains("backups of apply"), "thirty days have not passed: {}", dry.err);
}

#[test]
fn rounds_go_on_from_swaps_and_from_edits_of_what_they_brought() {
    let place = Place::new();
    place.write("d/k", "k\n");
    place.write("g", "g\n");
    place.write("f", numbered(&[]));
    place.commit();
    let script = "rm -r d; echo x > d; rm g; mkdir g; echo q > g/q; sed -i 's/^line 3$/three/' f; echo more >> a.txt";
    place.sandbox("r", script).ok();
    let swap = ["--accept", "d", "--accept", "d/k", "--accept", "g", "--accept", "g/q", "--accept", "f"];
    place.airlock(&[&["apply", "r"][..], &swap].concat()).ok();
    // The user goes on from an applied line: another round does not ask about it again.
    place.write("f", numbered(&[(3, "three and a half")]));
    let ran = place.airlock(&["apply", "r", "--accept-all"]).ok();
    assert!(ran.out.contains("unchanged  f") && ran.out.contains("unchanged  d/k"), "{}", ran.out);
    assert_eq!(
        (place.read("a.txt"), place.read("f")),
        ("one\ntwo\nmore\n".into(), numbered(&[(3, "three and a half")]))
    );
    // A branch has the same swaps.
    for (key, value) in [("user.name", "Ann"), ("user.email", "ann@example.org")] {
        place.git(&["config", key, value]);
    }
    place.airlock(&["apply", "r", "--accept-all", "--to", "branch:swapped"]).ok();
    let changes = "M\ta.txt\nA\td\nD\td/k\nM\tf\nD\tg\nA\tg/q\n";
    assert_eq!(place.git(&["diff", "--name-status", "--no-renames", "main", "swapped"]), changes);
}

#[test]
fn a_lock_of_gits_is_never_taken_for_ours() {
    let place = place();
    place.airlock(&["apply", "s", "--accept", "a.txt"]).ok();
    let lock = place.repo.join(".git/index.lock");
    // Made right after ours was removed: a file system may well give it the same number.
    fs::write(&lock, "git's\n").expect("written");
    for args in [&ALL[..], &["undo"]] {
        place.airlock(args).fails(1, &["git is at work"]);
    }
    place.airlock(&["recover"]).ok();
    assert_eq!(fs::read_to_string(&lock).expect("it is there"), "git's\n");
}

#[test]
fn an_undo_takes_few_descriptors_and_large_files_are_a_conflict() {
    let place = Place::new();
    place.sandbox("u", "for n in $(seq 300); do echo $n > new-$n; done; yes text | head -c 18000000 > large").ok();
    place.airlock(&["apply", "u", "--accept-all"]).ok();
    place.write("large", "small\n");
    place.airlock(&["undo"]).fails(4, &["1 conflict; nothing was written"]);
    fs::remove_file(place.repo.join("large")).expect("removed");
    let script = format!("ulimit -n 100; exec {AIRLOCK} undo");
    Ran::of(place.command("bash", &["-c", &script])).ok();
    assert_eq!(place.git(&["status", "--short"]), "");
}

/// Cuts an apply off by taking its end away, as if the process had ended just before it.
fn cut_off(place: &Place) -> std::path::PathBuf {
    let folder = place.repo.join(".git/airlock/applies/000001");
    fs::remove_file(folder.join("end")).expect("removed");
    folder
}

#[test]
fn recovery_asks_when_head_has_moved_and_goes_both_ways() {
    let place = place();
    let before = place.picture();
    place.airlock(&ALL).ok();
    let after = place.picture();
    cut_off(&place);
    // An index that was only refreshed is the same.
    place.git(&["update-index", "-q", "--really-refresh"]);
    place.airlock(&["recover", "--continue"]).ok();
    assert_eq!(place.read("n.txt").as_bytes(), after[&place.repo.join("n.txt")].1);
    cut_off(&place);
    place.git(&["commit", "-q", "--allow-empty", "-m", "moved"]);
    for args in [&ALL[..], &["undo"], &["recover"]] {
        place.airlock(args).fails(1, &["HEAD or the index has changed since", "--rollback"]);
    }
    // A path that was edited meanwhile is left alone, and said.
    place.write("a.txt", "edited meanwhile\n");
    let ran = place.airlock(&["recover", "--rollback"]).ok();
    assert!(ran.err.contains("a.txt is left as it is: you have changed it since"), "{}", ran.err);
    let kept = ran.err.lines().find_map(|l| l.split("is kept in ").nth(1)).expect("the other is kept");
    assert_eq!(fs::read_to_string(kept).expect("read"), "one\ntwo\n");
    assert_eq!(place.read("a.txt"), "edited meanwhile\n");
    assert_eq!(place.read("n.txt").as_bytes(), before[&place.repo.join("n.txt")].1);
    assert!(place.repo.join("only/one").exists() && !place.repo.join("new").exists());
}

#[test]
fn a_damaged_or_foreign_journal_is_refused_with_advice() {
    let place = place();
    place.airlock(&ALL).ok();
    let after = place.picture();
    let folder = cut_off(&place);
    let journal = folder.join("journal");
    let whole = fs::read(&journal).expect("read");
    fs::write(&journal, &whole[..whole.len() / 2]).expect("written");
    for args in [&ALL[..], &["undo"], &["recover"]] {
        place.airlock(args).fails(1, &["is damaged: its checksum is another", "nothing was written", "slots", "mv "]);
    }
    assert_eq!(place.picture(), after);
    fs::write(&journal, &whole).expect("written");
    // A copy of the repository is not where the apply happened.
    let copy = place.repo.with_file_name("copy");
    let copied = place.command("cp", &["-r", ".", copy.to_str().expect("UTF-8")]).status().expect("cp runs");
    assert!(copied.success());
    let there = |args: &[&str]| {
        Ran::of({
            let mut command = place.command(AIRLOCK, args);
            command.current_dir(&copy);
            command
        })
    };
    there(&["recover"]).fails(1, &["belongs to another working tree", "nothing was written", "mv "]);
    assert_eq!(fs::read_to_string(copy.join("a.txt")).expect("read"), "one\ntwo\nx\n");
    // One that was moved is.
    fs::remove_dir_all(&copy).expect("removed");
    fs::rename(&place.repo, &copy).expect("moved");
    there(&["recover"]).ok();
    assert_eq!(fs::read_to_string(copy.join("a.txt")).expect("read"), "one\ntwo\n");
    fs::rename(&copy, &place.repo).expect("moved back");
}

#[test]
fn an_apply_in_a_linked_working_tree_is_its_own_affair() {
    let mut place = place();
    place.airlock(&ALL).ok();
    cut_off(&place);
    let main = place.repo.clone();
    let linked = place.repo.with_file_name("linked");
    place.git(&["worktree", "add", "-q", linked.to_str().expect("UTF-8")]);
    place.repo = linked;
    place.airlock(&ALL).fails(1, &["another working tree"]);
    place.sandbox("w", "echo w >> a.txt").ok();
    place.airlock(&["apply", "w", "--accept-all"]).ok();
    assert_eq!(place.read("a.txt"), "one\ntwo\nw\n");
    // The other's undo is not for here.
    place.airlock(&["undo", "s"]).fails(1, &["no apply of s"]);
    place.airlock(&["undo"]).ok();
    assert_eq!(place.git(&["status", "--short"]), "");
    place.repo = main;
    place.airlock(&["recover"]).ok();
    assert_eq!(place.read("a.txt"), "one\ntwo\n");
}

#[test]
fn two_applies_at_once_wait_for_nobody() {
    let place = place();
    let folder = place.repo.join(".git/airlock/applies");
    fs::create_dir_all(&folder).expect("made");
    let lock = fs::File::create(folder.join("lock")).expect("made");
    lock.lock().expect("locked");
    (&lock).write_all(br#"{"pid": 4711, "boot": "b", "since": 1}"#).expect("written");
    place.airlock(&ALL).fails(1, &["another airlock writes", "process 4711", "nothing was written"]);
    drop(lock);
    place.airlock(&ALL).ok();
}

#[test]
fn a_branch_is_made_without_touching_anything() {
    let place = place();
    place.write("a.txt", "dirty\n");
    place.git(&["add", "a.txt"]);
    let (before, head) = (place.picture(), place.git(&["rev-parse", "HEAD"]));
    let git = place.repo.join(".git");
    let outside = |picture: &crate::support::Picture| {
        let relevant = |path: &&std::path::PathBuf| {
            let below = path.strip_prefix(&git).unwrap_or(Path::new(""));
            !below.starts_with("objects")
                && !below.starts_with("refs/heads/agent")
                && !below.starts_with("logs/refs/heads")
        };
        picture.iter().filter(|(path, _)| relevant(path)).map(|(p, s)| (p.clone(), s.clone())).collect::<Vec<_>>()
    };
    let to = ["apply", "s", "--accept-all", "--allow-risky", "--to", "branch:agent/work"];
    place.airlock(&to).fails(1, &["your name and address", "git config --global user.name"]);
    for (key, value) in [("user.name", "Ann"), ("user.email", "ann@example.org")] {
        place.git(&["config", key, value]);
    }
    let config = git.join("config");
    let mut before = before;
    before.get_mut(&config).expect("it is there").1 = fs::read(&config).expect("read");
    place.airlock(&[&to[..], &["--dry-run"]].concat()).ok();
    assert_eq!(outside(&place.picture()), outside(&before));
    let made = place.airlock(&to).ok();
    assert!(made.err.contains("5 files on the new branch agent/work"), "{}", made.err);
    assert_eq!(outside(&place.picture()), outside(&before), "neither tree nor index nor HEAD");
    assert_eq!(place.git(&["rev-parse", "HEAD"]), head);
    assert_eq!(place.git(&["rev-parse", "agent/work~1"]), head);
    let commit = place.git(&["log", "-1", "--format=%an <%ae>%n%B", "agent/work"]);
    assert!(commit.starts_with("Ann <ann@example.org>\nChange 5 files\n\nAirlock-Sandbox: s "), "{commit}");
    let changes = "M\ta.txt\nD\tc.txt\nM\tn.txt\nA\tnew/deep/f\nD\tonly/one\n";
    assert_eq!(place.git(&["diff", "--name-status", "main", "agent/work"]), changes);
    assert!(place.git(&["ls-tree", "agent/work", "new/deep/f"]).starts_with("100755"));
    place.airlock(&to).fails(1, &["there is a branch agent/work already"]);
    place.airlock(&["apply", "s", "--accept-all", "--to", "branch:a..b"]).fails(2, &["no name for a branch"]);
    place
        .airlock(&["apply", "s", "--accept-all", "--to", "brunch:x"])
        .fails(2, &["worktree, branch:NAME or patch:FILE"]);
}

#[test]
fn a_branch_holds_what_git_would_store() {
    let place = Place::new();
    place.write(
        ".gitattributes",
        "*.crlf text eol=crlf\n*.id ident\n*.wide working-tree-encoding=UTF-16LE\n*.lfs filter=lfs\n",
    );
    place.write("w.crlf", "one\r\n");
    place.write("i.id", "$Id$\n");
    place.write("u.wide", "h\0i\0\n\0");
    place.write("l.lfs", "plain\n");
    place.commit();
    for (key, value) in [("user.name", "Ann"), ("user.email", "ann@example.org")] {
        place.git(&["config", key, value]);
    }
    let script = "printf 'two\\r\\n' >> w.crlf; echo more >> i.id; printf 'x\\000\\n\\000' >> u.wide";
    place.sandbox("f", script).ok();
    place.airlock(&["apply", "f", "--accept-all", "--allow-risky", "--to", "branch:stored"]).ok();
    assert_eq!(place.git(&["show", "stored:w.crlf"]), "one\ntwo\n");
    assert_eq!(place.git(&["show", "stored:i.id"]), "$Id$\nmore\n");
    assert_eq!(place.git(&["show", "stored:u.wide"]), "hi\nx\n");
    // It checks out as what was accepted, and git finds nothing to change.
    place.git(&["checkout", "-q", "stored"]);
    assert_eq!(place.git(&["status", "--short"]), "");
    assert_eq!(place.read("w.crlf"), "one\r\ntwo\r\n");
    place.git(&["checkout", "-q", "main"]);
    place.sandbox("l", "echo more >> l.lfs").ok();
    place.airlock(&["apply", "l", "--accept-all", "--to", "branch:lfs"]).fails(1, &["Git LFS"]);
    // In the working tree it is as ever.
    place.airlock(&["apply", "l", "--accept-all"]).ok();
}

#[test]
fn a_patch_of_a_part_applies_to_the_base() {
    let place = Place::new();
    place.write("data.bin", b"\0\x01binary\xff");
    place.commit();
    let script = "echo x >> a.txt; printf '\\000new' > data.bin; rm c.txt; ln -s a.txt link; chmod +x run.sh";
    place.sandbox("p", script).ok();
    let before = place.picture();
    let file = place.repo.with_file_name("out.patch");
    let to = format!("patch:{}", file.display());
    let args = ["apply", "p", "--accept-all", "--allow-risky", "--reject", "a.txt", "--to", &to];
    place.airlock(&args).ok();
    place.airlock(&args).fails(1, &["is there already", "nothing was written"]);
    assert_eq!(place.picture(), before);
    let other = ["apply", "p", "--accept-all", "--allow-risky", "--reject", "a.txt", "--to", "patch:-"];
    assert_eq!(place.airlock(&other).ok().out.as_bytes(), fs::read(&file).expect("read"));
    place.git(&["apply", "--index", file.to_str().expect("UTF-8")]);
    assert_eq!(place.git(&["status", "--short"]), "D  c.txt\nM  data.bin\nA  link\nM  run.sh\n");
    assert_eq!(fs::read(place.repo.join("data.bin")).expect("read"), b"\0new");
}

#[test]
fn a_merged_file_is_judged_once_more() {
    let place = Place::new();
    let package = |key: &str, last: &str| {
        let lines = ["a", "b", "c", "d"].map(|k| format!("    \"{k}\": \"true\",\n")).concat();
        format!("{{\n  \"{key}\": {{\n{lines}    {last}\n  }}\n}}\n")
    };
    place.write("package.json", package("keywords", "\"e\": \"true\""));
    place.commit();
    place.sandbox("m", "sed -i 's/\"e\": \"true\"/\"postinstall\": \"evil\"/' package.json").ok();
    // The change alone runs nothing. With the user's own edit it does.
    assert_eq!(place.diff("m")["files"][0]["severity"], Value::Null, "{}", place.diff("m"));
    place.write("package.json", package("scripts", "\"e\": \"true\""));
    let ran = place.airlock(&["apply", "m", "--accept", "package.json"]).ok();
    assert!(ran.err.contains("what is accepted of package.json"), "{ran:?}");
    assert!(ran.err.contains("postinstall"), "{ran:?}");
}
