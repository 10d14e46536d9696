//! Review and apply: parts, rounds, conflicts, odd names and kinds.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{AIRLOCK, Place, Ran};

fn ids(diff: &Value, path: &str) -> Vec<String> {
    let files = diff["files"].as_array().expect("a list");
    let file = files.iter().find(|f| f["path"] == path).expect("it is there");
    file["hunks"].as_array().expect("a list").iter().map(|b| b["id"].as_str().expect("an id").to_owned()).collect()
}

fn numbered() -> String {
    (1..=30).map(|n| format!("line {n}\n")).collect()
}

#[test]
fn two_rounds_by_block_give_what_one_gives() {
    let place = Place::new();
    place.write("n.txt", numbered());
    place.commit();
    place
        .sandbox("b", "sed -i -e 's/^line 3$/three/' -e 's/^line 15$/fifteen/' -e 's/^line 28$/twenty-eight/' n.txt")
        .ok();
    let blocks = ids(&place.diff("b"), "n.txt");
    assert_eq!(blocks.len(), 3);
    place.airlock(&["apply", "b", "--accept-id", &blocks[1]]).ok();
    assert_eq!(place.read("n.txt"), numbered().replace("line 15\n", "fifteen\n"));
    place.airlock(&["apply", "b", "--accept-id", &blocks[0], "--accept-id", &blocks[2]]).ok();
    let all = numbered().replace("line 15\n", "fifteen\n").replace("line 3\n", "three\n");
    assert_eq!(place.read("n.txt"), all.replace("line 28\n", "twenty-eight\n"));
    let again = place.airlock(&["apply", "b", "--accept-all"]).ok();
    assert!(again.out.contains("unchanged  n.txt"), "{}", again.out);
    // Taken back by the user: what was applied before does not come along.
    place.git(&["checkout", "-q", "n.txt"]);
    place.airlock(&["apply", "b", "--accept-id", &blocks[0]]).ok();
    assert_eq!(place.read("n.txt"), numbered().replace("line 3\n", "three\n"));
    place
        .airlock(&["apply", "b", "--accept-id", "0123456789abcdef"])
        .fails(5, &["0123456789abcdef", "hint: airlock diff"]);
}

#[test]
fn a_host_file_that_differs_is_a_conflict_and_nothing_is_written() {
    let place = Place::new();
    place.sandbox("x", "echo x >> a.txt; echo y >> dir/keep.txt; echo z > new.txt").ok();
    place.write("a.txt", "mine\n");
    place.write("new.txt", "mine too\n");
    let before = place.picture();
    let ran = place.airlock(&["apply", "x", "--accept-all"]).fails(4, &["nothing was written"]);
    assert!(ran.out.contains("conflict   a.txt") && ran.out.contains("conflict   new.txt"), "{}", ran.out);
    assert_eq!(place.picture(), before);
    let json = place.airlock(&["apply", "x", "--accept-all", "--json"]);
    assert_eq!(json.status, 4);
    let json: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(json["applied"], 0);
    assert_eq!(json["files"][0]["outcome"], "conflict");
    place.airlock(&["apply", "x", "--accept-all", "--reject", "a.txt", "--reject", "new.txt"]).ok();
    assert_eq!(place.read("dir/keep.txt"), "k\ny\n");
    assert_eq!((place.read("a.txt"), place.read("new.txt")), ("mine\n".into(), "mine too\n".into()));
}

#[test]
fn the_host_keeps_modes_and_links_are_never_written_through() {
    let place = Place::new();
    place.write("secret", "s\n");
    place.write("lib/f", "f\n");
    place.commit();
    place.sandbox("k", "echo more >> secret; echo more >> lib/f; echo more > lib/new").ok();
    let secret = place.repo.join("secret");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("set");
    let outside = tempfile::tempdir().expect("a folder");
    std::fs::write(outside.path().join("f"), "f\n").expect("written");
    std::fs::remove_dir_all(place.repo.join("lib")).expect("removed");
    symlink(outside.path(), place.repo.join("lib")).expect("made");
    place.airlock(&["apply", "k", "--accept", "lib/f"]).fails(4, &[]);
    place.airlock(&["apply", "k", "--accept", "lib/new"]).fails(4, &[]);
    assert_eq!(std::fs::read(outside.path().join("f")).expect("it is there"), b"f\n");
    assert!(!outside.path().join("new").exists());
    place.airlock(&["apply", "k", "--accept", "secret"]).ok();
    assert_eq!(place.read("secret"), "s\nmore\n");
    assert_eq!(secret.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    // A hard-linked file would be parted from its other name.
    place.git(&["checkout", "-q", "secret"]);
    std::fs::hard_link(&secret, outside.path().join("other")).expect("linked");
    let inode = place.inode("secret");
    let ran = place.airlock(&["apply", "k", "--accept", "secret"]);
    assert_eq!(ran.status, 4, "{ran:?}");
    assert!(ran.out.contains("hard links"), "{}", ran.out);
    assert_eq!(place.inode("secret"), inode);
}

#[test]
fn kinds_that_change_and_names_that_are_odd() {
    let place = Place::new();
    place.write("file", "f\n");
    place.write("folder/one", "1\n");
    place.write("folder/two", "2\n");
    symlink("a.txt", place.repo.join("soft")).expect("made");
    let odd = place.repo.join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::write(&odd, "latin\n").expect("written");
    place.write("two\nlines", "x\n");
    place.commit();
    let script = "rm file; mkdir file; echo in > file/inside; rm -r folder; echo now > folder; \
                  rm soft; echo plain > soft; for f in caf*; do echo more >> \"$f\"; done; \
                  echo more >> \"$(printf 'two\\nlines')\"; printf x > ./-rf; mkfifo pipe";
    place.sandbox("o", script).ok();
    let diff = place.diff("o");
    assert_eq!(diff["refused"][0]["path"], "pipe");
    let latin = diff["files"].as_array().expect("a list").iter().find(|f| f.get("path_bytes").is_some());
    assert_eq!(latin.expect("it is there")["path_bytes"], serde_json::json!(b"caf\xe9"));
    place.airlock(&["apply", "o", "--accept", "pipe"]).fails(1, &["pipe", "cannot be accepted"]);
    place.airlock(&["apply", "o", "--accept", "file/inside"]).fails(4, &[]);
    // A file of the user's own keeps the directory.
    place.write("folder/mine", "m\n");
    let ran = place.airlock(&["apply", "o", "--accept-all", "--allow-risky"]);
    assert_eq!(ran.status, 4, "{ran:?}");
    std::fs::remove_file(place.repo.join("folder/mine")).expect("removed");
    place.airlock(&["apply", "o", "--accept-all", "--allow-risky"]).ok();
    assert_eq!(place.read("file/inside"), "in\n");
    assert_eq!(place.read("folder"), "now\n");
    assert_eq!(place.read("soft"), "plain\n");
    assert!(!place.repo.join("soft").is_symlink());
    assert_eq!(std::fs::read(odd).expect("it is there"), b"latin\nmore\n");
    assert_eq!(place.read("two\nlines"), "x\nmore\n");
    assert_eq!(place.read("-rf"), "x");
}

#[test]
fn the_patch_is_what_accepting_everything_gives() {
    let place = Place::new();
    place.write("data.bin", b"\0\x01\x02binary\xff");
    place.write("no-newline", "last");
    place.write("old name", "moved\n");
    place.commit();
    let script = "echo x >> a.txt; rm c.txt; chmod +x run.sh; ln -s a.txt link; printf '\\000new' > data.bin; \
                  printf 'last line' > no-newline; mv 'old name' \"$(printf 'n\\303\\251w\\tname')\"; : > empty";
    place.sandbox("p", script).ok();
    let patch = place.command(AIRLOCK, &["diff", "p", "--patch"]).output().expect("it runs").stdout;
    let other = tempfile::tempdir().expect("a folder");
    let clone = other.path().join("clone");
    place.git(&["clone", "-q", ".", clone.to_str().expect("UTF-8")]);
    let mut git = std::process::Command::new("git")
        .args(["apply", "--index"])
        .current_dir(&clone)
        .stdin(Stdio::piped())
        .spawn()
        .expect("git runs");
    git.stdin.take().expect("a pipe").write_all(&patch).expect("written");
    assert!(git.wait().expect("it ends").success(), "{}", String::from_utf8_lossy(&patch));
    place.airlock(&["apply", "p", "--accept-all", "--allow-risky"]).ok();
    place.git(&["add", "-A"]);
    let tree = |folder: &std::path::Path| {
        let out = std::process::Command::new("git").arg("write-tree").current_dir(folder).output().expect("git runs");
        String::from_utf8(out.stdout).expect("a hash")
    };
    assert_eq!(tree(&clone), tree(&place.repo));
}

#[test]
fn a_plain_review_is_saved_at_every_answer_and_its_end_applies_nothing() {
    let place = Place::new();
    place.sandbox("r", "echo x >> a.txt; rm c.txt; echo 'export A=1' > .envrc").ok();
    let before = place.picture();
    let review = |answers: &str| {
        let mut command = place.command(AIRLOCK, &["review", "r", "--plain"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        child.stdin.take().expect("a pipe").write_all(answers.as_bytes()).expect("written");
        Ran::from(child.wait_with_output().expect("it ends")).ok()
    };
    let first = review("?\nk\na\nn\ny\n");
    assert!(first.out.contains("! high: runs when you enter the directory"), "{}", first.out);
    assert!(first.out.contains("This file needs a yes for each of its parts"), "{}", first.out);
    assert!(first.out.contains("(3/3) c.txt Apply?"), "{}", first.out);
    assert_eq!(place.picture(), before, "the end of input applies nothing");
    let second = review("");
    assert!(!second.out.contains("a.txt Apply?") && second.out.contains("c.txt Apply?"), "{}", second.out);
    let decisions: Vec<String> = (place.diff("r")["files"].as_array().expect("a list").iter())
        .map(|f| f["hunks"][0]["decision"].as_str().expect("a word").to_owned())
        .collect();
    assert_eq!(decisions, ["rejected", "accepted", "undecided"]);
    place.airlock(&["apply", "r"]).ok();
    assert_eq!(place.git(&["status", "--short"]), " M a.txt\n");
}

#[test]
fn hostile_text_is_shown_and_never_obeyed() {
    let place = Place::new();
    let script = "printf 'a\\033[2Jb\\n\\342\\200\\256c\\r\\n' > a.txt; printf x > \"$(printf 'n\\033]0;t\\007')\"";
    place.sandbox("h", script).ok();
    for args in [&["diff", "h"][..], &["diff", "h", "--stat"], &["diff", "h", "--json"], &["review", "h"]] {
        let out = place.airlock(args);
        assert!(!out.out.contains(['\u{1b}', '\u{7}', '\u{202e}', '\r']), "{args:?}: {:?}", out.out);
    }
    assert!(place.airlock(&["diff", "h"]).out.contains("+a<U+001B>[2Jb"));
    let refused = place.airlock(&["apply", "h", "--accept", "a.txt"]);
    assert!(refused.status == 1 && refused.err.contains("--allow-risky"), "invisible characters are a high finding");
}

#[test]
fn a_planted_repository_is_refused_even_over_rounds() {
    let place = Place::new();
    let bare = "mkdir -p t/objects t/refs; touch t/objects/x t/refs/x; echo 'ref: refs/heads/main' > t/HEAD; \
                printf '[core]\\n fsmonitor = touch PWNED\\n' > t/config";
    place.sandbox("b", bare).ok();
    let ran = place.airlock(&["apply", "b", "--accept-all", "--allow-risky"]);
    assert!(!ran.out.contains("created"), "{ran:?}");
    place.airlock(&["apply", "b", "--accept", "t/HEAD"]).fails(1, &["cannot be accepted"]);
    assert!(!place.repo.join("t").exists());
    // With the other half in the host tree already, which no sandbox has seen.
    place.sandbox("half", "mkdir t; echo 'ref: refs/heads/main' > t/HEAD; echo x > t/config").ok();
    place.write("t/objects/x", "");
    place.write("t/refs/x", "");
    let ran = place.airlock(&["apply", "half", "--accept-all"]);
    assert_eq!(ran.status, 4, "{ran:?}");
    assert!(ran.out.contains("as a repository"), "{}", ran.out);
    assert!(!place.repo.join("t/HEAD").exists());
}

#[test]
fn links_that_climb_after_a_name_are_refused() {
    let place = Place::new();
    place
        .sandbox(
            "l",
            "mkdir -p a/b; ln -s ../.. a/b/up; ln -s a/b/up/../../../etc/passwd esc; ln -s ../a.txt .gitattributes",
        )
        .ok();
    for path in ["esc", ".gitattributes"] {
        place.airlock(&["apply", "l", "--accept", path, "--allow-risky"]).fails(1, &["cannot be accepted"]);
    }
    place.airlock(&["apply", "l", "--accept", "a/b/up", "--allow-risky"]).ok();
}

#[test]
fn a_file_replaced_by_a_pipe_is_not_deleted() {
    let place = Place::new();
    place.sandbox("f", "rm a.txt; mkfifo a.txt; echo x >> c.txt").ok();
    place.airlock(&["apply", "f", "--accept-all"]).ok();
    assert_eq!(place.git(&["status", "--short"]), " M c.txt\n");
}

#[test]
fn permissions_stay_as_they_are() {
    let place = Place::new();
    place.write("priv/old", "content\n");
    place.write("tool", "#!/bin/sh\n");
    let mode = |path: &str, mode: u32| {
        std::fs::set_permissions(place.repo.join(path), std::fs::Permissions::from_mode(mode)).expect("set");
    };
    let is = |path: &str| place.repo.join(path).metadata().expect("it is there").permissions().mode() & 0o777;
    mode("tool", 0o744);
    place.commit();
    place.sandbox("p", "mv priv/old priv/new; echo more >> tool; chmod +x run.sh").ok();
    mode("priv", 0o700);
    mode("run.sh", 0o640);
    place.airlock(&["apply", "p", "--accept-all", "--allow-risky"]).ok();
    assert_eq!((is("priv"), is("tool"), is("run.sh")), (0o700, 0o744, 0o750));
    assert_eq!(place.read("priv/new"), "content\n");
}

#[test]
fn a_directory_of_the_users_own_is_seen_before_anything_is_written() {
    let place = Place::new();
    place.write("d/f", "f\n");
    place.commit();
    place.sandbox("d", "rm -r d; echo file > d; echo x >> a.txt").ok();
    std::fs::create_dir(place.repo.join("d/mine")).expect("made");
    let before = place.picture();
    let ran = place.airlock(&["apply", "d", "--accept-all"]);
    assert_eq!(ran.status, 4, "{ran:?}");
    assert_eq!(place.picture(), before);
}

#[test]
fn rejections_alone_are_taken_from_the_review_and_hints_can_be_pasted() {
    let place = Place::new();
    place.sandbox("q", "echo x >> a.txt; echo y > '$(touch PWNED)'").ok();
    let mut command = place.command(AIRLOCK, &["review", "q"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    child.stdin.take().expect("a pipe").write_all(b"y\ny\n").expect("written");
    assert!(child.wait().expect("it ends").success());
    place.write("$(touch PWNED)", "mine\n");
    let ran = place.airlock(&["apply", "q"]).fails(4, &["add --reject=$'$(touch PWNED)'"]);
    let hint = ran.err.lines().find_map(|l| l.split_once("add ")).expect("a hint").1.to_owned();
    let script = format!("{AIRLOCK} apply q {hint}");
    Ran::of(place.command("bash", &["-c", &script])).ok();
    assert_eq!(place.read("a.txt"), "one\ntwo\nx\n");
    assert!(!place.repo.join("PWNED").exists());
}

#[test]
fn what_a_review_rejected_is_taken_only_by_its_name() {
    let place = Place::new();
    place.sandbox("n", "echo x >> a.txt; echo y > new.txt; ln -s /etc/passwd evil").ok();
    let review = |answers: &str| {
        let mut command = place.command(AIRLOCK, &["review", "n"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        child.stdin.take().expect("a pipe").write_all(answers.as_bytes()).expect("written");
        Ran::from(child.wait_with_output().expect("it ends")).ok().out
    };
    let first = review("maybe\nno\nyes\n");
    assert!(first.contains("evil cannot be accepted: it points to an absolute path"), "{first}");
    assert!(first.contains("\"maybe\" is no answer"), "{first}");
    // Everything is decided: it can be gone through again.
    let second = review("j\nj\n");
    assert!(
        second.contains("a.txt (rejected so far) Apply?") && second.contains("new.txt (accepted so far)"),
        "{second}"
    );
    let ran = place.airlock(&["apply", "n", "--accept-all"]).ok();
    assert!(ran.out.contains("skipped    a.txt    rejected in the review"), "{}", ran.out);
    assert_eq!(place.git(&["status", "--short"]), "?? new.txt\n");
    place.airlock(&["apply", "n", "--accept", "a.txt"]).ok();
    assert_eq!(place.read("a.txt"), "one\ntwo\nx\n");
    place.airlock(&["apply", "n", "--accept", "*.txt", "--reject", "*.txt"]).fails(2, &["leaves nothing of n"]);
}

#[test]
fn what_is_in_the_way_is_told_before_anything_is_written() {
    let place = Place::new();
    place.write("Foo", "f\n");
    place.commit();
    place.sandbox("w", "echo x >> a.txt; echo mine > empty; rm Foo; mkdir foo; echo q > foo/x").ok();
    std::fs::create_dir(place.repo.join("empty")).expect("made");
    let before = place.picture();
    let ran = place.airlock(&["apply", "w", "--accept-all"]).fails(4, &["nothing was written"]);
    assert!(ran.out.contains("conflict   empty  an empty directory of yours is in its place"), "{}", ran.out);
    assert_eq!(place.picture(), before);
    // What goes with the plan is in nobody's way.
    place.airlock(&["apply", "w", "--accept-all", "--reject", "empty"]).ok();
    assert_eq!(place.read("foo/x"), "q\n");
    // An empty directory that the apply has not emptied stays.
    std::fs::create_dir(place.repo.join("stays")).expect("made");
    place.airlock(&["apply", "w", "--accept", "Foo"]).ok();
    assert!(place.repo.join("stays").is_dir() && place.repo.join("empty").is_dir());
    // Where git does not count on modes, they are the user's alone.
    place.git(&["config", "core.fileMode", "false"]);
    place.git(&["checkout", "-q", "a.txt"]);
    let file = place.repo.join("a.txt");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("set");
    place.airlock(&["apply", "w", "--accept", "a.txt"]).ok();
    assert_eq!(file.metadata().expect("it is there").permissions().mode() & 0o777, 0o755);
}

#[test]
fn work_that_is_ignored_is_kept() {
    let place = Place::new();
    let ran = place.airlock(&["run", "--", "sh", "-c", "mkdir target; echo x > target/out"]).ok();
    assert!(ran.err.contains("changed no file, and is kept: it holds ignored new files (target/)"), "{}", ran.err);
    assert!(place.airlock(&["run", "--", "true"]).ok().err.contains("changed nothing, and is removed"));
}

#[test]
fn a_review_can_begin_with_everything_but_high_risk_accepted() {
    let mut place = Place::new();
    place.sandbox("p", "echo x >> a.txt; echo 'export A=1' > .envrc; echo new > n.txt").ok();
    let decisions = |place: &Place| -> Vec<String> {
        let diff = place.diff("p");
        let files = diff["files"].as_array().expect("files").clone();
        files.iter().map(|f| f["hunks"][0]["decision"].as_str().expect("one").to_owned()).collect()
    };
    place.set("AIRLOCK_PRESELECT", "everything");
    place.airlock(&["review", "p"]).fails(2, &["everything"]);
    place.set("AIRLOCK_PRESELECT", "all");
    // Of what is there nothing is asked but the risky file; its end applies nothing.
    let ran = place.airlock_told(&["review", "p", "--plain"], "n\n").ok();
    assert!(ran.out.contains(".envrc Apply?") && !ran.out.contains("a.txt Apply?"), "{}", ran.out);
    assert_eq!(decisions(&place), ["rejected", "accepted", "accepted"]);
    assert_eq!(place.git(&["status", "--short"]), "");
    // Only what comes new is accepted beforehand, and once.
    place.airlock_told(&["review", "p", "--plain"], "j\nj\nn\n").ok();
    assert_eq!(decisions(&place), ["rejected", "accepted", "rejected"]);
    place.airlock(&["resume", "p", "--", "sh", "-c", "echo more >> a.txt"]).ok();
    place.airlock_told(&["review", "p", "--plain"], "q\n").ok();
    assert_eq!(decisions(&place), ["rejected", "accepted", "rejected"]);
}
