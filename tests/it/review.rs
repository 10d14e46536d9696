//! Review and apply: parts, rounds, conflicts, odd names and kinds.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use serde_json::Value;

use crate::support::{AIRLOCK, CommandOutput, TestRepo};

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
    let repo = TestRepo::new();
    repo.write("n.txt", numbered());
    repo.commit();
    repo.sandbox("b", "sed -i -e 's/^line 3$/three/' -e 's/^line 15$/fifteen/' -e 's/^line 28$/twenty-eight/' n.txt")
        .ok();
    let blocks = ids(&repo.diff("b"), "n.txt");
    assert_eq!(blocks.len(), 3);
    repo.airlock(&["apply", "b", "--accept-id", &blocks[1]]).ok();
    assert_eq!(repo.read("n.txt"), numbered().replace("line 15\n", "fifteen\n"));
    repo.airlock(&["apply", "b", "--accept-id", &blocks[0], "--accept-id", &blocks[2]]).ok();
    let all = numbered().replace("line 15\n", "fifteen\n").replace("line 3\n", "three\n");
    assert_eq!(repo.read("n.txt"), all.replace("line 28\n", "twenty-eight\n"));
    let again = repo.airlock(&["apply", "b", "--accept-all"]).ok();
    assert!(again.stdout.contains("unchanged  n.txt"), "{}", again.stdout);
    // Taken back by the user: what was applied before does not come along.
    repo.git(&["checkout", "-q", "n.txt"]);
    repo.airlock(&["apply", "b", "--accept-id", &blocks[0]]).ok();
    assert_eq!(repo.read("n.txt"), numbered().replace("line 3\n", "three\n"));
    repo.airlock(&["apply", "b", "--accept-id", "0123456789abcdef"])
        .expect_failure(5, &["0123456789abcdef", "hint: airlock diff"]);
}

#[test]
fn a_host_file_that_differs_is_a_conflict_and_nothing_is_written() {
    let repo = TestRepo::new();
    repo.changeset("x", "echo x >> a.txt; echo y >> dir/keep.txt; echo z > new.txt");
    repo.write("a.txt", "mine\n");
    repo.write("new.txt", "mine too\n");
    let before = repo.read_tree();
    let ran = repo.airlock(&["apply", "x", "--accept-all"]).expect_failure(4, &["nothing was written"]);
    assert!(ran.stdout.contains("conflict   a.txt") && ran.stdout.contains("conflict   new.txt"), "{}", ran.stdout);
    assert_eq!(repo.read_tree(), before);
    let json = repo.airlock(&["apply", "x", "--accept-all", "--json"]);
    assert_eq!(json.status, 4);
    let json: Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["applied"], 0);
    assert_eq!(json["files"][0]["outcome"], "conflict");
    repo.airlock(&["apply", "x", "--accept-all", "--reject", "a.txt", "--reject", "new.txt"]).ok();
    assert_eq!(repo.read("dir/keep.txt"), "k\ny\n");
    assert_eq!((repo.read("a.txt"), repo.read("new.txt")), ("mine\n".into(), "mine too\n".into()));
}

#[test]
fn the_host_keeps_modes_and_links_are_never_written_through() {
    let repo = TestRepo::new();
    repo.write("secret", "s\n");
    repo.write("lib/f", "f\n");
    repo.commit();
    repo.changeset("k", "echo more >> secret; echo more >> lib/f; echo more > lib/new");
    let secret = repo.path.join("secret");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).expect("set");
    let outside = tempfile::tempdir().expect("a folder");
    std::fs::write(outside.path().join("f"), "f\n").expect("written");
    std::fs::remove_dir_all(repo.path.join("lib")).expect("removed");
    symlink(outside.path(), repo.path.join("lib")).expect("made");
    repo.airlock(&["apply", "k", "--accept", "lib/f"]).expect_failure(4, &[]);
    repo.airlock(&["apply", "k", "--accept", "lib/new"]).expect_failure(4, &[]);
    assert_eq!(std::fs::read(outside.path().join("f")).expect("it is there"), b"f\n");
    assert!(!outside.path().join("new").exists());
    repo.airlock(&["apply", "k", "--accept", "secret"]).ok();
    assert_eq!(repo.read("secret"), "s\nmore\n");
    assert_eq!(secret.metadata().expect("it is there").permissions().mode() & 0o777, 0o600);
    // A hard-linked file would be parted from its other name.
    repo.git(&["checkout", "-q", "secret"]);
    std::fs::hard_link(&secret, outside.path().join("other")).expect("linked");
    let inode = repo.inode("secret");
    let ran = repo.airlock(&["apply", "k", "--accept", "secret"]);
    assert_eq!(ran.status, 4, "{ran:?}");
    assert!(ran.stdout.contains("hard links"), "{}", ran.stdout);
    assert_eq!(repo.inode("secret"), inode);
}

#[test]
fn kinds_that_change_and_names_that_are_odd() {
    let repo = TestRepo::new();
    repo.write("file", "f\n");
    repo.write("folder/one", "1\n");
    repo.write("folder/two", "2\n");
    symlink("a.txt", repo.path.join("soft")).expect("made");
    let odd = repo.path.join(std::ffi::OsStr::from_bytes(b"caf\xe9"));
    std::fs::write(&odd, "latin\n").expect("written");
    repo.write("two\nlines", "x\n");
    repo.commit();
    let script = "rm file; mkdir file; echo in > file/inside; rm -r folder; echo now > folder; \
                  rm soft; echo plain > soft; for f in caf*; do echo more >> \"$f\"; done; \
                  echo more >> \"$(printf 'two\\nlines')\"; printf x > ./-rf; mkfifo pipe";
    repo.changeset("o", script);
    let diff = repo.diff("o");
    assert_eq!(diff["refused"][0]["path"], "pipe");
    let latin = diff["files"].as_array().expect("a list").iter().find(|f| f.get("path_bytes").is_some());
    assert_eq!(latin.expect("it is there")["path_bytes"], serde_json::json!(b"caf\xe9"));
    repo.airlock(&["apply", "o", "--accept", "pipe"]).expect_failure(1, &["pipe", "cannot be accepted"]);
    repo.airlock(&["apply", "o", "--accept", "file/inside"]).expect_failure(4, &[]);
    // A file of the user's own keeps the directory.
    repo.write("folder/mine", "m\n");
    let ran = repo.airlock(&["apply", "o", "--accept-all", "--allow-risky"]);
    assert_eq!(ran.status, 4, "{ran:?}");
    std::fs::remove_file(repo.path.join("folder/mine")).expect("removed");
    repo.airlock(&["apply", "o", "--accept-all", "--allow-risky"]).ok();
    assert_eq!(repo.read("file/inside"), "in\n");
    assert_eq!(repo.read("folder"), "now\n");
    assert_eq!(repo.read("soft"), "plain\n");
    assert!(!repo.path.join("soft").is_symlink());
    assert_eq!(std::fs::read(odd).expect("it is there"), b"latin\nmore\n");
    assert_eq!(repo.read("two\nlines"), "x\nmore\n");
    assert_eq!(repo.read("-rf"), "x");
}

#[test]
fn the_patch_is_what_accepting_everything_gives() {
    let repo = TestRepo::new();
    repo.write("data.bin", b"\0\x01\x02binary\xff");
    repo.write("no-newline", "last");
    repo.write("old name", "moved\n");
    repo.commit();
    let script = "echo x >> a.txt; rm c.txt; chmod +x run.sh; ln -s a.txt link; printf '\\000new' > data.bin; \
                  printf 'last line' > no-newline; mv 'old name' \"$(printf 'n\\303\\251w\\tname')\"; : > empty";
    repo.changeset("p", script);
    let patch = repo.command(AIRLOCK, &["diff", "p", "--patch"]).output().expect("it runs").stdout;
    let other = tempfile::tempdir().expect("a folder");
    let clone = other.path().join("clone");
    repo.git(&["clone", "-q", ".", clone.to_str().expect("UTF-8")]);
    let mut git = std::process::Command::new("git")
        .args(["apply", "--index"])
        .current_dir(&clone)
        .stdin(Stdio::piped())
        .spawn()
        .expect("git runs");
    git.stdin.take().expect("a pipe").write_all(&patch).expect("written");
    assert!(git.wait().expect("it ends").success(), "{}", String::from_utf8_lossy(&patch));
    repo.airlock(&["apply", "p", "--accept-all", "--allow-risky"]).ok();
    repo.git(&["add", "-A"]);
    let tree = |folder: &std::path::Path| {
        let out = std::process::Command::new("git").arg("write-tree").current_dir(folder).output().expect("git runs");
        String::from_utf8(out.stdout).expect("a hash")
    };
    assert_eq!(tree(&clone), tree(&repo.path));
}

#[test]
fn a_plain_review_is_saved_at_every_answer_and_its_end_applies_nothing() {
    let repo = TestRepo::new();
    repo.changeset("r", "echo x >> a.txt; rm c.txt; echo 'export A=1' > .envrc");
    let before = repo.read_tree();
    let review = |answers: &str| {
        let mut command = repo.command(AIRLOCK, &["review", "r", "--plain"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
        child.stdin.take().expect("a pipe").write_all(answers.as_bytes()).expect("written");
        CommandOutput::from(child.wait_with_output().expect("it ends")).ok()
    };
    let first = review("?\nk\na\nn\ny\n");
    assert!(first.stdout.contains("! high: runs when you enter the directory"), "{}", first.stdout);
    assert!(first.stdout.contains("This file needs a yes for each of its parts"), "{}", first.stdout);
    assert!(first.stdout.contains("(3/3) c.txt Apply?"), "{}", first.stdout);
    assert_eq!(repo.read_tree(), before, "the end of input applies nothing");
    let second = review("");
    assert!(!second.stdout.contains("a.txt Apply?") && second.stdout.contains("c.txt Apply?"), "{}", second.stdout);
    let decisions: Vec<String> = (repo.diff("r")["files"].as_array().expect("a list").iter())
        .map(|f| f["hunks"][0]["decision"].as_str().expect("a word").to_owned())
        .collect();
    assert_eq!(decisions, ["rejected", "accepted", "undecided"]);
    repo.airlock(&["apply", "r"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n");
}

#[test]
fn hostile_text_is_shown_and_never_obeyed() {
    let repo = TestRepo::new();
    let script = "printf 'a\\033[2Jb\\n\\342\\200\\256c\\r\\n' > a.txt; printf x > \"$(printf 'n\\033]0;t\\007')\"";
    repo.changeset("h", script);
    for args in [&["diff", "h"][..], &["diff", "h", "--stat"], &["diff", "h", "--json"], &["review", "h"]] {
        let out = repo.airlock(args);
        assert!(!out.stdout.contains(['\u{1b}', '\u{7}', '\u{202e}', '\r']), "{args:?}: {:?}", out.stdout);
    }
    assert!(repo.airlock(&["diff", "h"]).stdout.contains("+a<U+001B>[2Jb"));
    let refused = repo.airlock(&["apply", "h", "--accept", "a.txt"]);
    assert!(refused.status == 1 && refused.stderr.contains("--allow-risky"), "invisible characters are a high finding");
}

#[test]
fn a_planted_repository_is_refused_even_over_rounds() {
    let repo = TestRepo::new();
    let bare = "mkdir -p t/objects t/refs; touch t/objects/x t/refs/x; echo 'ref: refs/heads/main' > t/HEAD; \
                printf '[core]\\n fsmonitor = touch PWNED\\n' > t/config";
    repo.changeset("b", bare);
    let ran = repo.airlock(&["apply", "b", "--accept-all", "--allow-risky"]);
    assert!(!ran.stdout.contains("created"), "{ran:?}");
    repo.airlock(&["apply", "b", "--accept", "t/HEAD"]).expect_failure(1, &["cannot be accepted"]);
    assert!(!repo.path.join("t").exists());
    // With the other half in the host tree already, which no sandbox has seen.
    repo.changeset("half", "mkdir t; echo 'ref: refs/heads/main' > t/HEAD; echo x > t/config");
    repo.write("t/objects/x", "");
    repo.write("t/refs/x", "");
    let ran = repo.airlock(&["apply", "half", "--accept-all"]);
    assert_eq!(ran.status, 4, "{ran:?}");
    assert!(ran.stdout.contains("as a repository"), "{}", ran.stdout);
    assert!(!repo.path.join("t/HEAD").exists());
}

#[test]
fn links_that_climb_after_a_name_are_refused() {
    let repo = TestRepo::new();
    repo.sandbox(
        "l",
        "mkdir -p a/b; ln -s ../.. a/b/up; ln -s a/b/up/../../../etc/passwd esc; ln -s ../a.txt .gitattributes",
    )
    .ok();
    for path in ["esc", ".gitattributes"] {
        repo.airlock(&["apply", "l", "--accept", path, "--allow-risky"]).expect_failure(1, &["cannot be accepted"]);
    }
    repo.airlock(&["apply", "l", "--accept", "a/b/up", "--allow-risky"]).ok();
}

#[test]
fn a_file_replaced_by_a_pipe_is_not_deleted() {
    let repo = TestRepo::new();
    repo.changeset("f", "rm a.txt; mkfifo a.txt; echo x >> c.txt");
    repo.airlock(&["apply", "f", "--accept-all"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), " M c.txt\n");
}

#[test]
fn permissions_stay_as_they_are() {
    let repo = TestRepo::new();
    repo.write("priv/old", "content\n");
    repo.write("tool", "#!/bin/sh\n");
    let mode = |path: &str, mode: u32| {
        std::fs::set_permissions(repo.path.join(path), std::fs::Permissions::from_mode(mode)).expect("set");
    };
    let is = |path: &str| repo.path.join(path).metadata().expect("it is there").permissions().mode() & 0o777;
    mode("tool", 0o744);
    repo.commit();
    repo.changeset("p", "mv priv/old priv/new; echo more >> tool; chmod +x run.sh");
    mode("priv", 0o700);
    mode("run.sh", 0o640);
    repo.airlock(&["apply", "p", "--accept-all", "--allow-risky"]).ok();
    assert_eq!((is("priv"), is("tool"), is("run.sh")), (0o700, 0o744, 0o750));
    assert_eq!(repo.read("priv/new"), "content\n");
}

#[test]
fn a_directory_of_the_users_own_is_seen_before_anything_is_written() {
    let repo = TestRepo::new();
    repo.write("d/f", "f\n");
    repo.commit();
    repo.changeset("d", "rm -r d; echo file > d; echo x >> a.txt");
    std::fs::create_dir(repo.path.join("d/mine")).expect("made");
    let before = repo.read_tree();
    let ran = repo.airlock(&["apply", "d", "--accept-all"]);
    assert_eq!(ran.status, 4, "{ran:?}");
    assert_eq!(repo.read_tree(), before);
}

#[test]
fn rejections_alone_are_taken_from_the_review_and_hints_can_be_pasted() {
    let repo = TestRepo::new();
    repo.changeset("q", "echo x >> a.txt; echo y > '$(touch PWNED)'");
    let mut command = repo.command(AIRLOCK, &["review", "q"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it runs");
    child.stdin.take().expect("a pipe").write_all(b"y\ny\n").expect("written");
    assert!(child.wait().expect("it ends").success());
    repo.write("$(touch PWNED)", "mine\n");
    let ran = repo.airlock(&["apply", "q"]).expect_failure(4, &["add --reject=$'$(touch PWNED)'"]);
    let hint = ran.stderr.lines().find_map(|l| l.split_once("add ")).expect("a hint").1.to_owned();
    let script = format!("{AIRLOCK} apply q {hint}");
    CommandOutput::from_command(repo.command("bash", &["-c", &script])).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");
    assert!(!repo.path.join("PWNED").exists());
}

#[test]
fn what_a_review_rejected_is_taken_only_by_its_name() {
    let repo = TestRepo::new();
    repo.changeset("n", "echo x >> a.txt; echo y > new.txt; ln -s /etc/passwd evil");
    let review = |answers: &str| {
        let mut command = repo.command(AIRLOCK, &["review", "n"]);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("runs");
        child.stdin.take().expect("a pipe").write_all(answers.as_bytes()).expect("written");
        CommandOutput::from(child.wait_with_output().expect("it ends")).ok().stdout
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
    let ran = repo.airlock(&["apply", "n", "--accept-all"]).ok();
    assert!(ran.stdout.contains("skipped    a.txt    rejected in the review"), "{}", ran.stdout);
    assert_eq!(repo.git(&["status", "--short"]), "?? new.txt\n");
    repo.airlock(&["apply", "n", "--accept", "a.txt"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");
    repo.airlock(&["apply", "n", "--accept", "*.txt", "--reject", "*.txt"]).expect_failure(2, &["leaves nothing of n"]);
}

#[test]
fn what_is_in_the_way_is_told_before_anything_is_written() {
    let repo = TestRepo::new();
    repo.write("Foo", "f\n");
    repo.commit();
    repo.changeset("w", "echo x >> a.txt; echo mine > empty; rm Foo; mkdir foo; echo q > foo/x");
    std::fs::create_dir(repo.path.join("empty")).expect("made");
    let before = repo.read_tree();
    let ran = repo.airlock(&["apply", "w", "--accept-all"]).expect_failure(4, &["nothing was written"]);
    assert!(ran.stdout.contains("conflict   empty  an empty directory of yours is in its place"), "{}", ran.stdout);
    assert_eq!(repo.read_tree(), before);
    // What goes with the plan is in nobody's way.
    repo.airlock(&["apply", "w", "--accept-all", "--reject", "empty"]).ok();
    assert_eq!(repo.read("foo/x"), "q\n");
    // An empty directory that the apply has not emptied stays.
    std::fs::create_dir(repo.path.join("stays")).expect("made");
    repo.airlock(&["apply", "w", "--accept", "Foo"]).ok();
    assert!(repo.path.join("stays").is_dir() && repo.path.join("empty").is_dir());
    // Where git does not count on modes, they are the user's alone.
    repo.git(&["config", "core.fileMode", "false"]);
    repo.git(&["checkout", "-q", "a.txt"]);
    let file = repo.path.join("a.txt");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("set");
    repo.airlock(&["apply", "w", "--accept", "a.txt"]).ok();
    assert_eq!(file.metadata().expect("it is there").permissions().mode() & 0o777, 0o755);
}

#[test]
fn work_that_is_ignored_is_kept() {
    let repo = TestRepo::new();
    let ran = repo.airlock(&["run", "--", "sh", "-c", "mkdir target; echo x > target/out"]).ok();
    assert!(
        ran.stderr.contains("changed no file, and is kept: it holds ignored new files (target/)"),
        "{}",
        ran.stderr
    );
    assert!(repo.airlock(&["run", "--", "true"]).ok().stderr.contains("changed nothing, and is removed"));
}

#[test]
fn a_review_can_begin_with_everything_but_high_risk_accepted() {
    let mut repo = TestRepo::new();
    repo.sandbox("p", "echo x >> a.txt; echo 'export A=1' > .envrc; echo new > n.txt").ok();
    let decisions = |repo: &TestRepo| -> Vec<String> {
        let diff = repo.diff("p");
        let files = diff["files"].as_array().expect("files").clone();
        files.iter().map(|f| f["hunks"][0]["decision"].as_str().expect("one").to_owned()).collect()
    };
    repo.set("AIRLOCK_PRESELECT", "everything");
    repo.airlock(&["review", "p"]).expect_failure(2, &["everything"]);
    repo.set("AIRLOCK_PRESELECT", "all");
    // Of what is there nothing is asked but the risky file; its end applies nothing.
    let ran = repo.airlock_with_input(&["review", "p", "--plain"], "n\n").ok();
    assert!(ran.stdout.contains(".envrc Apply?") && !ran.stdout.contains("a.txt Apply?"), "{}", ran.stdout);
    assert_eq!(decisions(&repo), ["rejected", "accepted", "accepted"]);
    assert_eq!(repo.git(&["status", "--short"]), "");
    // Only what comes new is accepted beforehand, and once.
    repo.airlock_with_input(&["review", "p", "--plain"], "j\nj\nn\n").ok();
    assert_eq!(decisions(&repo), ["rejected", "accepted", "rejected"]);
    repo.airlock(&["resume", "p", "--", "sh", "-c", "echo more >> a.txt"]).ok();
    repo.airlock_with_input(&["review", "p", "--plain"], "q\n").ok();
    assert_eq!(decisions(&repo), ["rejected", "accepted", "rejected"]);
}
