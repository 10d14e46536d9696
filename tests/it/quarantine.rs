//! Tests of disk usage on the host: a diff of a running sandbox stores nothing, and unreferenced contents are removed.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

use insta::assert_snapshot;
use rustix::process::{Signal, kill_process};

use crate::support::{AIRLOCK, TestRepo, pid};
use airlock::changes::{ContentHash, Quarantine};

/// Returns the total size of the files in a directory, in bytes.
fn measure_dir(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { measure_dir(&e.path()) } else { e.metadata().map_or(0, |m| m.len()) }).sum()
}

#[test]
fn diff_of_running_sandbox_stores_nothing() {
    let repo = TestRepo::new();
    let script = "head -c 3000000 /dev/urandom > blob.bin; echo ready; \
                  while :; do head -c 3000000 /dev/urandom > new.bin; mv new.bin blob.bin; done";
    let mut command = repo.command(AIRLOCK, &["run", "--name", "q", "--review", "never", "--", "sh", "-c", script]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    child.stdout.take().expect("a pipe").read_exact(&mut [0; 6]).expect("the agent starts");
    let state = repo.path.join(".git/airlock");
    let before = measure_dir(&state);
    for _ in 0..4 {
        let ran = repo.airlock(&["diff", "q", "--stat"]).ok();
        assert!(ran.stdout.contains("blob.bin"), "{ran:?}");
    }
    assert!(measure_dir(&state) < before + 100_000, "{} bytes were stored", measure_dir(&state) - before);
    kill_process(pid(&child), Signal::INT).expect("airlock still runs");
    child.wait().expect("airlock ends");
}

#[test]
fn gc_removes_only_unreferenced_contents() {
    let repo = TestRepo::new();
    repo.sandbox("s", "echo x >> a.txt; echo y > new.txt").ok();
    repo.airlock_with_input(&["review", "s", "--plain"], "y\nq\n").ok();
    let folder = repo.path.join(".git/airlock/sandboxes/s");
    let stray = folder.join("quarantine").join("0".repeat(64));
    fs::write(&stray, vec![0; 1_000_000]).expect("written");
    // The directories of two diffs that were killed, one long ago and one just now.
    let old = folder.join("live-old");
    fs::create_dir_all(&old).expect("made");
    fs::write(old.join("content"), "x").expect("written");
    let then = std::time::SystemTime::now() - std::time::Duration::from_secs(3 * 24 * 60 * 60);
    fs::File::open(&old).expect("opened").set_modified(then).expect("set");
    fs::create_dir_all(folder.join("live-young")).expect("made");
    let ran = repo.airlock(&["gc"]).ok();
    assert!(ran.stderr.contains("removed unreferenced contents of s"), "{}", ran.stderr);
    assert!(!stray.exists() && !old.exists() && folder.join("live-young").exists());
    // All referenced contents still exist: the decisions, both sides, and the backups of an apply.
    repo.airlock(&["apply", "s"]).ok();
    repo.airlock(&["gc"]).ok();
    repo.airlock(&["undo", "s"]).ok();
    repo.airlock(&["apply", "s", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");
}

#[test]
fn collect_failure_removes_stored_contents() {
    let mut repo = TestRepo::new();
    repo.set("AIRLOCK_MAX_TIME", "1s");
    let script = "import os\nfor i in range(30000): open(f'{i}', 'w').write(str(i))";
    assert_snapshot!(repo.airlock(&["run", "--name", "t", "--", "python3", "-c", script]), @"
    status: 125
    ----- stderr -----
    airlock: t · main at [COMMIT], 5 files · network: none
    error: the sandbox exceeds a collection limit: collection took longer than 1 s (max_time); the sandbox `t` is kept with the agent's work
    hint: run `airlock diff t`
    ");
    let quarantine = repo.path.join(".git/airlock/sandboxes/t/quarantine");
    assert_eq!(fs::read_dir(&quarantine).expect("listed").count(), 0);
    // The changes can still be collected.
    repo.unset("AIRLOCK_MAX_TIME");
    assert_eq!(repo.diff("t")["files"].as_array().expect("a list").len(), 30_000);
}

/// Returns whether the quarantine of a sandbox has a content.
fn has_content(repo: &TestRepo, name: &str, content: &[u8]) -> bool {
    let dir = repo.path.join(".git/airlock/sandboxes").join(name).join("quarantine");
    let store = Quarantine::open(dir).expect("opened");
    store.get(&ContentHash::from_content(content)).is_ok()
}

/// What the repository has in the same form is not stored again. What was converted is, whatever the settings are now.
#[test]
fn old_versions_stay_in_the_repository() {
    let repo = TestRepo::new();
    // The last one has the size of its blob in spite of the conversion: an expanded keyword.
    let id = format!("$Id: {} $\n", "0".repeat(40));
    let files = [
        ("edited.txt", "one\ntwo\n"),
        ("gone.txt", "three\nfour\n"),
        ("umlaut.txt", "f\u{fc}nf\n"),
        ("crlf.txt", "six\nseven\n"),
        ("id.txt", id.as_str()),
    ];
    for (name, content) in files {
        repo.write(name, content);
    }
    repo.write(".gitattributes", "crlf.txt eol=crlf\nid.txt ident\n");
    repo.commit();
    // The working tree gets the converted forms.
    repo.git(&["rm", "-rq", "--cached", "."]);
    repo.git(&["reset", "-q", "--hard"]);
    let script = "echo more >> edited.txt; rm gone.txt umlaut.txt crlf.txt id.txt";
    repo.sandbox("s", script).ok();
    // No conversion is certain of text that is not ASCII, but a comparison is.
    let in_quarantine = |content: &str| has_content(&repo, "s", content.as_bytes());
    for (name, content) in &files[..3] {
        assert!(!in_quarantine(content), "{name} is stored again");
    }
    assert!(in_quarantine("one\ntwo\nmore\n") && in_quarantine("six\r\nseven\r\n"));
    let blob = repo.git(&["rev-parse", "HEAD:id.txt"]);
    assert!(in_quarantine(&format!("$Id: {} $\n", blob.trim())), "as the sandbox had it");
    let diff = repo.airlock(&["diff", "s"]).ok().stdout;
    for line in [" two", "+more", "-three", "-four", "-f\u{fc}nf", "-six", "-$Id: "] {
        assert!(diff.contains(&format!("\n{line}")), "{line} is missing: {diff}");
    }
    // They are still there after `gc`, and an apply and its undo work as always.
    repo.airlock(&["gc"]).ok();
    repo.airlock(&["apply", "s", "--accept-all"]).ok();
    assert!(!repo.path.join("gone.txt").exists() && repo.read("edited.txt").ends_with("more\n"));
    repo.airlock(&["undo", "s"]).ok();
    assert_eq!(repo.read("gone.txt"), "three\nfour\n");
    // Without the object, the error says what is missing.
    let object = repo.git(&["rev-parse", "HEAD:gone.txt"]);
    fs::remove_file(repo.path.join(".git/objects").join(&object[..2]).join(object[2..].trim())).expect("removed");
    let failed = repo.airlock(&["diff", "s"]);
    failed.expect_failure(1, &["the repository no longer has the object", object.trim()]);
}

/// A deleted file may have a name of any bytes.
#[test]
fn deletion_of_any_name_is_collected() {
    let repo = TestRepo::new();
    let name = OsStr::from_bytes(b"caf\xe9.txt");
    for (name, content) in [(name, "coffee\nmilk\n"), (OsStr::new("moved.txt"), "one\ntwo\nthree\n")] {
        fs::write(repo.path.join(name), content).expect("written");
    }
    repo.commit();
    repo.sandbox(
        "s",
        "rm caf*; mv moved.txt \"$(printf 'to\\377')\"; mv \"$(printf 'to\\377')\" \"$(printf 'end\\377')\"",
    )
    .ok();
    let stat = repo.airlock(&["diff", "s", "--stat"]).ok().stdout;
    assert!(stat.contains("2 files") && stat.contains("end") && stat.contains("caf"), "{stat}");
    repo.airlock(&["apply", "s", "--accept-all"]).ok();
    assert!(!repo.path.join(name).exists() && repo.path.join(OsStr::from_bytes(b"end\xff")).exists());
}
