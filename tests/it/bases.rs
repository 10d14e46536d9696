//! Bases: shared, sealed, brought on to newer commits, never built on after a rewrite, never trusted half-made.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Signal, kill_process};

use airlock::git::{
    DeltaLimit, GitDir, GitFiles, History, HistoryChoice, HostRepo, PreviousRefs, Snapshot, SnapshotOptions,
};

use crate::support::{AIRLOCK, Place, Ran, engine_in_between, pid};

fn text(place: &Place, options: &[&str], script: &str) -> String {
    place.airlock(&[&["run"], options, &["--", "sh", "-euc", script]].concat()).ok().out
}

fn names(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn one_base_serves_many_sandboxes_and_newer_commits() {
    let place = Place::new();
    assert_eq!(text(&place, &[], "git log --format=%s"), "start\n");
    place.sandbox("x", "echo poison > a.txt; rm -rf dir; git commit -qam poison; echo p > ~/planted").ok();
    assert_eq!(text(&place, &[], "cat a.txt; ls dir; ls ~; git log --format=%s"), "one\ntwo\nkeep.txt\nstart\n");
    assert_eq!(place.base_volumes(), 1);

    // HEAD moves: a change, a new file, a deletion, a mode, a link, a directory that becomes a file, and back again.
    place.write("a.txt", "one\ntwo\nthree\n");
    place.write("new/deep/file", "new\n");
    std::fs::remove_file(place.repo.join("c.txt")).expect("removed");
    std::fs::remove_dir_all(place.repo.join("dir")).expect("removed");
    place.write("dir", "a file now\n");
    std::os::unix::fs::symlink("a.txt", place.repo.join("link")).expect("made");
    place.commit();
    let script =
        "git log --format=%s; git status --short; git fsck --no-dangling; cat a.txt dir new/deep/file link; ls";
    let expected = "start\nstart\none\ntwo\nthree\na file now\nnew\none\ntwo\nthree\na.txt\ndir\nlink\nnew\nrun.sh\n";
    assert_eq!(text(&place, &[], script), expected);
    place.git(&["checkout", "-q", "-b", "other", "HEAD~1"]);
    place.write("c.txt", "on another branch\n");
    place.commit();
    assert_eq!(
        text(&place, &[], "git branch; cat c.txt dir/keep.txt; git log --format=%s HEAD~1"),
        "* other\non another branch\nk\nstart\n"
    );
    assert_eq!(place.base_volumes(), 1, "all of this is on top of the first");

    // Collecting compares with what the sandbox began with, not with the base volume.
    place.git(&["checkout", "-q", "main"]);
    place.sandbox("moved", "echo four >> a.txt; rm new/deep/file; echo x > c.txt; echo y >> run.sh").ok();
    let found =
        names(&[("a.txt", "modified"), ("c.txt", "added"), ("new/deep/file", "deleted"), ("run.sh", "modified")]);
    assert_eq!(place.changes("moved"), found);
    place.airlock(&["apply", "moved", "--accept-all"]).ok();
    assert_eq!(place.read("a.txt"), "one\ntwo\nthree\nfour\n");

    // Too much differs: a base of its own.
    place.git(&["checkout", "-qf", "main"]);
    place.git(&["clean", "-qfd"]);
    for n in 0..250 {
        place.write(&format!("many/{n}"), "x");
    }
    place.commit();
    assert_eq!(text(&place, &[], "ls many | wc -l"), "250\n");
    assert_eq!(place.base_volumes(), 2);
}

#[test]
fn files_in_stored_form_are_named_when_a_newer_commit_brings_them() {
    let place = Place::new();
    place.git(&["config", "filter.rot.clean", "rev"]);
    assert_eq!(text(&place, &[], "cat a.txt"), "one\ntwo\n");
    place.write(".gitattributes", "a.txt filter=rot\nnew/* filter=rot\n");
    place.write("new/one", "1\n");
    place.commit();
    place.sandbox("stored", "echo x > x").ok();
    assert_eq!(place.base_volumes(), 1);
    let status = place.airlock(&["status", "stored"]).ok().out;
    assert!(status.contains("2 files are in the form that git stores (a.txt, new/one)"), "{status}");
}

#[test]
fn a_history_that_was_rewritten_is_never_served_again() {
    let place = Place::new();
    place.write("secret", "the password\n");
    place.commit();
    let commit = place.git(&["rev-parse", "HEAD"]);
    let blob = place.git(&["rev-parse", "HEAD:secret"]);
    assert_eq!(text(&place, &[], "cat secret"), "the password\n");
    std::fs::remove_file(place.repo.join("secret")).expect("removed");
    place.git(&["add", "-A"]);
    place.git(&["commit", "-q", "--amend", "--allow-empty", "-m", "without it"]);
    let script = format!("for id in {} {}; do ! git cat-file -e $id; done; ls", commit.trim(), blob.trim());
    assert_eq!(text(&place, &[], &script), "a.txt\nc.txt\ndir\nrun.sh\n");
}

#[test]
fn as_much_history_as_was_asked_for() {
    let place = Place::new();
    for n in 1..6 {
        place.write("a.txt", format!("{n}\n"));
        place.git(&["commit", "-qam", &format!("commit {n}")]);
    }
    place.git(&["branch", "elsewhere"]);
    place.git(&["remote", "add", "origin", "https://example.org/private.git"]);
    place.git(&["tag", "v1"]);
    place.write("a.txt", "stashed");
    place.git(&["stash", "-q"]);
    let log = "git log --format=%s | cat; git status --short";
    assert_eq!(text(&place, &[], log).lines().count(), 6);
    assert_eq!(text(&place, &["--history", "3"], log), "commit 5\ncommit 4\ncommit 3\n");
    let alone = text(&place, &["--history", "none"], log);
    assert!(alone.starts_with("airlock: snapshot of ") && alone.lines().count() == 1, "{alone}");
    assert_eq!(
        text(&place, &[], "git diff HEAD~3 --stat | tail -n 1"),
        " 1 file changed, 1 insertion(+), 1 deletion(-)\n"
    );
    assert!(text(&place, &[], "git blame a.txt").contains("(Ann "));
    // Nothing else of the host's git directory.
    assert_eq!(
        text(&place, &[], "git for-each-ref --format='%(refname)'; git remote; ls .git/hooks 2>/dev/null || true"),
        "refs/heads/main\n"
    );
    place.airlock(&["run", "--history", "some", "--", "true"]).fails(125, &["not full, none or a number"]);
}

#[test]
fn uncommitted_work_goes_along_when_asked_for() {
    let place = Place::new();
    place.write("a.txt", "one\ntwo\nmine\n");
    place.write("staged.txt", "staged\n");
    place.git(&["add", "staged.txt"]);
    std::fs::remove_file(place.repo.join("c.txt")).expect("removed");
    place.write("untracked.txt", "untracked\n");
    place.write("target/out", "ignored\n");
    place.write(".env.test", "KEY=1\n");
    place.write("target/env/b", "ignored too\n");
    let index = std::fs::metadata(place.repo.join(".git/index")).expect("there").modified().expect("a time");
    let before = place.picture();

    let ran =
        place.airlock(&["run", "--uncommitted", "--", "sh", "-c", "cat a.txt staged.txt; ls; git status --short"]).ok();
    assert_eq!(ran.out, "one\ntwo\nmine\nstaged\na.txt\ndir\nrun.sh\nstaged.txt\n M a.txt\n D c.txt\n?? staged.txt\n");
    assert!(
        ran.err
            .contains("and 3 uncommitted changes · 2 untracked files stay behind (--uncommitted=all takes them along)"),
        "{}",
        ran.err
    );
    let ran = place.airlock(&["run", "--uncommitted=all", "--", "ls", "-A"]).ok();
    assert_eq!(ran.out, ".env.test\n.git\n.gitignore\na.txt\ndir\nrun.sh\nstaged.txt\nuntracked.txt\n");
    let include = ["--include", "target/env/", "--include", "*.test"];
    assert_eq!(text(&place, &include, "cat target/env/b .env.test; ls target"), "ignored too\nKEY=1\nenv\n");
    place
        .airlock(&["run", "--include", "nothing/*", "--", "true"])
        .fails(125, &["--include nothing/* matches no file", "hint:"]);
    place.airlock(&["run", "--include", "../*", "--", "true"]).fails(125, &["matches no file"]);
    assert_eq!(place.picture(), before, "nothing of the host has changed");
    assert_eq!(std::fs::metadata(place.repo.join(".git/index")).expect("there").modified().expect("a time"), index);

    // The changeset is the agent's part alone, and goes back onto the uncommitted work.
    let args = ["run", "--name", "u", "--uncommitted=all", "--include", "target/env/", "--", "sh", "-euc"];
    let script = "echo agent >> a.txt; echo agent >> untracked.txt; echo agent >> target/env/b; echo new > target/env/c; \
                  echo no > target/no; rm staged.txt";
    place.airlock(&[&args[..], &[script]].concat()).ok();
    let found = names(&[
        ("a.txt", "modified"),
        ("staged.txt", "deleted"),
        ("target/env/b", "modified"),
        ("target/env/c", "added"),
        ("untracked.txt", "modified"),
    ]);
    assert_eq!(place.changes("u"), found);
    let status = place.airlock(&["status", "u"]).ok().out;
    assert!(status.contains("5 uncommitted changes"), "{status}");
    place.airlock(&["apply", "u", "--accept-all"]).ok();
    assert_eq!(place.read("a.txt"), "one\ntwo\nmine\nagent\n");
    assert_eq!(place.read("target/env/b"), "ignored too\nagent\n");
    assert_eq!(place.base_volumes(), 1);

    // With a newer commit and on a copied workspace it is the same.
    let mut place = place;
    place.git(&["commit", "-qam", "second"]);
    place.write("a.txt", "other work\n");
    place.set("AIRLOCK_WORKSPACE", "copy");
    let script = "cat a.txt; git status --short; git log --format=%s";
    assert_eq!(text(&place, &["--uncommitted"], script), "other work\n M a.txt\nsecond\nstart\n");
}

#[test]
fn two_first_starts_at_once_make_one_base() {
    let place = Place::new();
    for n in 0..300 {
        place.write(&format!("f/{n}"), vec![b'x'; 10_000]);
    }
    place.commit();
    let start = || {
        let mut command = place.command(AIRLOCK, &["run", "--", "sh", "-c", "ls f | wc -l"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs")
    };
    let both: Vec<Child> = (0..3).map(|_| start()).collect();
    for child in both {
        let ran: Ran = child.wait_with_output().expect("it ends").into();
        assert_eq!(ran.ok().out, "300\n");
    }
    assert_eq!(place.base_volumes(), 1);
}

#[test]
fn a_base_that_was_not_finished_is_never_used() {
    let place = Place::new();
    for n in 0..3000 {
        place.write(&format!("f/{n}"), vec![b'x'; 20_000]);
    }
    place.commit();
    let mut child = place.command(AIRLOCK, &["run", "--", "true"]).stderr(Stdio::null()).spawn().expect("it runs");
    // Seeding has begun when its volume is there.
    while place.base_volumes() == 0 {
        assert!(child.try_wait().expect("it can be asked").is_none(), "it is killed while it seeds");
    }
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    assert_eq!(text(&place, &[], "ls f | wc -l; git status --short"), "3000\n");
    let dry = place.airlock(&["gc", "--dry-run"]).ok();
    assert!(dry.err.contains("would remove the volume airlock-base-"), "{}", dry.err);
    place.airlock(&["gc"]).ok();
    assert_eq!(place.base_volumes(), 1, "the whole one is kept");

    // Ctrl-C leaves nothing at all.
    place.git(&["commit", "-q", "--amend", "-m", "another"]);
    let mut child = place.command(AIRLOCK, &["run", "--", "true"]).stderr(Stdio::null()).spawn().expect("it runs");
    while place.base_volumes() == 1 {
        assert!(child.try_wait().expect("it can be asked").is_none(), "it is interrupted while it seeds");
    }
    kill_process(pid(&child), Signal::INT).expect("it is there");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!((place.base_volumes(), place.engine_objects()), (1, 0));
}

#[test]
fn bases_that_are_gone_or_foreign_are_not_used() {
    let place = Place::new();
    let docker = |args: &[&str]| Ran::of(place.command("docker", args));
    let volume = |name: &str| {
        place.sandbox(name, "echo x >> a.txt").ok();
        let json: serde_json::Value =
            serde_json::from_str(&place.airlock(&["status", name, "--json"]).ok().out).expect("JSON");
        place.airlock(&["rm", name]).ok();
        format!("airlock-base-{}", json["base"].as_str().expect("an id"))
    };
    let first = volume("one");
    docker(&["volume", "rm", &first]).ok();
    let second = volume("two");
    assert_ne!(first, second, "a volume that a prune has taken is made anew");

    // A bind of a host directory under the name of a base: not one file of it is read, let alone written.
    let trap = place.repo.with_file_name("trap");
    std::fs::create_dir_all(trap.join("tree")).expect("made");
    std::fs::write(trap.join("tree/host-file"), "precious").expect("written");
    docker(&["volume", "rm", &second]).ok();
    let device = format!("device={}", trap.display());
    docker(&["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, &second]).ok();
    assert_eq!(text(&place, &[], "ls"), "a.txt\nc.txt\ndir\nrun.sh\n");
    docker(&["volume", "rm", &second]).ok();

    // A volume of ours by name and labels that does not hold the seal.
    let third = volume("three");
    let labels: serde_json::Value =
        serde_json::from_str(&docker(&["volume", "inspect", &third]).ok().out).expect("JSON");
    docker(&["volume", "rm", &third]).ok();
    let mut args = vec!["volume".to_owned(), "create".into()];
    for (key, value) in labels[0]["Labels"].as_object().expect("labels") {
        args.extend(["--label".into(), format!("{key}={}", value.as_str().expect("text"))]);
    }
    args.push(third.clone());
    docker(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    place.airlock(&["run", "--", "true"]).fails(125, &["cannot be used any more", "hint: try again"]);
    assert_eq!(place.engine_objects(), 0);
    assert_eq!(text(&place, &[], "cat c.txt"), "gone\n");
    // The same with a tree in it.
    let fourth = volume("four");
    let seal = |command: &str| {
        let mount = format!("{fourth}:/v");
        docker(&[
            "run",
            "--rm",
            "--user",
            "0",
            "--network",
            "none",
            "-v",
            &mount,
            "airlock-agent:latest",
            "sh",
            "-c",
            command,
        ])
        .ok()
    };
    seal("echo another > /v/seal");
    place.airlock(&["run", "--", "true"]).fails(125, &["is not what was sealed", "hint: try again"]);
    assert_eq!(place.engine_objects(), 0);
    assert_eq!(text(&place, &[], "cat c.txt"), "gone\n");
}

#[test]
fn gc_keeps_the_newest_and_what_is_in_use() {
    let mut place = Place::new();
    for n in 0..4 {
        // Rewritten each time, so that none is built on another.
        place.write("a.txt", format!("{n}\n"));
        place.git(&["commit", "-q", "--all", "--amend", "-m", &format!("c{n}")]);
        if n == 0 {
            place.sandbox("first", "echo x >> a.txt").ok();
        } else {
            text(&place, &[], "true");
        }
    }
    assert_eq!(place.base_volumes(), 4);
    place.set("AIRLOCK_BASES", "1");
    let ran = place.airlock(&["gc"]).ok();
    assert!(ran.err.contains("removed the base of ") && ran.err.contains("2 things, freed"), "{}", ran.err);
    assert_eq!(place.base_volumes(), 2, "the newest, and the one below a sandbox");
    assert!(place.airlock(&["gc"]).ok().err.contains("nothing to remove"));
    assert_eq!(place.changes("first"), names(&[("a.txt", "modified")]));

    // What a killed process has left is found, and nothing of one that works.
    let mut child = place.command(AIRLOCK, &["run", "--name", "k", "--", "sh", "-c", "echo ready; exec sleep 1000"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    place.set("AIRLOCK_BASES", "0");
    let ran = place.airlock(&["gc"]).ok();
    assert!(ran.err.contains("nothing to remove"), "both bases are in use: {}", ran.err);
    std::fs::remove_dir_all(place.repo.join(".git/airlock/sandboxes/k")).expect("the record is lost");
    // What runs may be somebody's whose records are not here.
    let ran = place.airlock(&["gc"]).ok();
    assert!(ran.err.contains("kept, in use now: the container") && ran.err.contains("docker rm -f"), "{}", ran.err);
    let label =
        format!("label=dev.airlock.repo={}", airlock::base::repository_id(&place.repo.join(".git")).expect("an id"));
    let ids = Ran::of(place.command("docker", &["ps", "-q", "--filter", &label])).ok().out;
    // Container and sidecar end by themselves when nobody talks to them any more.
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    for id in ids.lines() {
        Ran::of(place.command("docker", &["wait", id]));
    }
    let ran = place.airlock(&["gc"]).ok();
    assert!(ran.err.contains("removed the container") && ran.err.contains("of no sandbox"), "{}", ran.err);
    place.airlock(&["rm", "first"]).ok();
    place.airlock(&["gc"]).ok();
    assert_eq!((place.base_volumes(), place.engine_objects()), (0, 0));
}

/// An engine that cannot mount overlays: their type is misspelt on the way to it.
fn engine_without_overlay() -> (String, Arc<AtomicUsize>) {
    engine_in_between(
        (b"\"type\":\"overlay\"", b"\"type\":\"overlai\""),
        (b"\"type\":\"overlai\"", b"\"type\":\"overlay\""),
    )
}

#[test]
fn an_engine_that_cannot_mount_overlays_gets_copies() {
    let mut place = Place::new();
    let (address, asked) = engine_without_overlay();
    place.set("DOCKER_HOST", &address);
    let ran = place
        .airlock(&["run", "--name", "c", "--", "sh", "-euc", "git status --short; echo x >> a.txt; mv dir e"])
        .ok();
    assert_eq!((ran.out.as_str(), asked.load(Ordering::SeqCst)), ("", 1));
    assert_eq!(
        place.changes("c"),
        names(&[("a.txt", "modified"), ("dir/keep.txt", "deleted"), ("e/keep.txt", "added")])
    );
    let status = place.airlock(&["status", "c"]).ok().out;
    assert!(status.contains("a copy of base") && status.contains("the engine cannot mount an overlay"), "{status}");
    assert_eq!(text(&place, &[], "cat a.txt"), "one\ntwo\n");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "it is not tried again");
    place.set("AIRLOCK_WORKSPACE", "overlay");
    place.airlock(&["run", "--", "true"]).fails(125, &["failed to mount the workspace", "hint: set workspace"]);
    place.unset("AIRLOCK_WORKSPACE");
    place.airlock(&["rm", "c"]).ok();
    assert_eq!(place.engine_objects(), 0);
}

#[test]
fn a_sandbox_of_an_earlier_version_is_listed_and_removed() {
    let place = Place::new();
    place.sandbox("old", "echo x >> a.txt").ok();
    let path = place.repo.join(".git/airlock/sandboxes/old/record.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
    for key in ["workspace_kind", "base_volume", "manifest", "includes", "size"] {
        record.as_object_mut().expect("an object").remove(key).expect("it was there");
    }
    record["schema_version"] = 1.into();
    std::fs::write(&path, record.to_string()).expect("written");
    // One that is damaged is in nobody's way but gc's, which must know all.
    let damaged = place.repo.join(".git/airlock/sandboxes/bad");
    std::fs::create_dir(&damaged).expect("made");
    std::fs::write(damaged.join("record.json"), "{}").expect("written");
    assert!(place.airlock(&["ls"]).ok().err.contains("the record of bad is damaged"));
    place.airlock(&["gc"]).fails(1, &["the record of bad is damaged", "move "]);
    assert_eq!(place.changes("old"), names(&[("a.txt", "modified")]));
    std::fs::remove_dir_all(damaged).expect("removed");
    assert!(place.airlock(&["ls"]).ok().out.starts_with("old  1 file"));
    place.airlock(&["apply", "old", "--accept-all"]).ok();
    assert_eq!(place.read("a.txt"), "one\ntwo\nx\n");
    place.airlock(&["rm", "old", "old"]).ok();
    assert_eq!(place.engine_objects(), 0);
}

#[test]
fn gc_touches_nothing_of_a_repository_that_was_here_before() {
    let place = Place::new();
    place.sandbox("precious", "echo x > work.txt").ok();
    let old = place.repo.with_file_name("old");
    std::fs::rename(&place.repo, &old).expect("moved");
    std::fs::create_dir(&place.repo).expect("made");
    place.git(&["init", "-q", "-b", "main"]);
    place.write("a", "another repository");
    place.commit();
    assert!(place.airlock(&["gc"]).ok().err.contains("nothing to remove"));
    std::fs::remove_dir_all(&place.repo).expect("removed");
    std::fs::rename(&old, &place.repo).expect("moved back");
    assert_eq!(place.engine_objects(), 3, "its home, its workspace and what is below that");
    place.airlock(&["rm", "precious"]).ok();
    assert_eq!((place.engine_objects(), place.base_volumes()), (0, 1));
}

#[test]
fn a_base_is_held_while_it_is_used() {
    let place = Place::new();
    text(&place, &[], "true");
    let bases = airlock::base::BaseStore::of(&place.repo.join(".git"));
    let id = bases.list_bases().expect("listed")[0].id.clone();
    let held = bases.lease_shared(&id).expect("asked").expect("it is there");
    let mut none_kept = place.command(AIRLOCK, &["gc"]);
    none_kept.env("AIRLOCK_BASES", "0");
    assert!(Ran::of(none_kept).ok().err.contains("kept, in use now"));
    assert_eq!(place.base_volumes(), 1);
    drop(held);
    let claimed = bases.lease_exclusive(&id).expect("asked").expect("nobody holds it");
    bases.remove_record(&id).expect("forgotten");
    drop(claimed);
    assert!(bases.lease_shared(&id).expect("asked").is_none(), "it is gone for whoever comes after");
}

#[test]
fn kinds_that_differ_between_the_host_tree_and_its_commit() {
    let place = Place::new();
    // A tracked file is a directory here, with an ignored file in it.
    std::fs::remove_file(place.repo.join("c.txt")).expect("removed");
    place.write(".git/info/exclude", "*.env\n");
    place.write("c.txt/x.env", "inside\n");
    assert_eq!(text(&place, &["--include", "c.txt/x.env"], "cat c.txt/x.env"), "inside\n");
    // A submodule without content is a file here.
    let inner = place.repo.with_file_name("inner");
    place.git(&["init", "-q", inner.to_str().expect("UTF-8")]);
    place.git(&["-C", inner.to_str().expect("UTF-8"), "commit", "-q", "--allow-empty", "-m", "inner"]);
    place.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        inner.to_str().expect("UTF-8"),
        "sub",
    ]);
    place.git(&["commit", "-qm", "with a submodule"]);
    place.git(&["submodule", "--quiet", "deinit", "-f", "sub"]);
    place.git(&["rm", "-q", "--cached", "sub"]);
    std::fs::remove_dir(place.repo.join("sub")).expect("removed");
    place.write("sub", "a file now\n");
    place.git(&["add", "sub"]);
    assert_eq!(text(&place, &["--uncommitted"], "cat sub"), "a file now\n");
}

/// Writes a git directory as a sandbox gets it, and what is put over it.
fn lay_out(folder: &std::path::Path, base: &GitDir, over: &GitFiles) {
    let folder = folder.join(".git");
    std::fs::create_dir_all(folder.join("refs")).expect("made");
    for (path, is_directory) in base.files().expect("listed") {
        let target = folder.join(&path);
        if is_directory {
            std::fs::create_dir_all(target).expect("made");
        } else {
            std::fs::copy(base.full(&path), target).expect("copied");
        }
    }
    for (path, content) in over {
        let target = folder.join(std::str::from_utf8(path).expect("UTF-8"));
        match content {
            Some(content) => {
                std::fs::create_dir_all(target.parent().expect("a folder")).expect("made");
                std::fs::write(target, content).expect("written");
            }
            None => std::fs::remove_file(target).expect("removed"),
        }
    }
}

/// Branches that began long before the depth, and are merged after the base was made: a sandbox over the base has the same
/// commits as one with a base of its own, and every object of them.
#[test]
fn a_part_of_the_history_is_brought_on_over_merges_of_old_branches() {
    let place = Place::new();
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut tips = vec![place.git(&["rev-parse", "HEAD"]).trim().to_owned()];
    for n in 0..60 {
        let main = tips[tips.len() - 1].clone();
        place.git(&["checkout", "-q", "--detach", &main]);
        if n % 3 == 2 {
            let fork = tips[usize::try_from(next(tips.len() as u64)).expect("small")].clone();
            place.git(&["checkout", "-q", "--detach", &fork]);
            for _ in 0..=next(3) {
                place.write(&format!("topic/{n}/{}", next(4)), format!("{}\n", next(1000)));
                place.write("shared.txt", format!("{fork}\n"));
                place.commit();
            }
            let topic = place.git(&["rev-parse", "HEAD"]);
            place.git(&["checkout", "-q", "--detach", &main]);
            place.git(&["merge", "-q", "-s", "ours", "-m", "merge", topic.trim()]);
        } else {
            place.write(&format!("f/{}", next(9)), format!("{}\n", next(1000)));
            place.commit();
        }
        tips.push(place.git(&["rev-parse", "HEAD"]).trim().to_owned());
    }
    for commits in [1, 2, 4, 7] {
        for (old, new) in [(10, 60), (40, 60), (58, 60), (30, 44), (59, 60), (2, 33)] {
            let snapshot = |at: usize| {
                place.git(&["checkout", "-q", "--detach", &tips[at]]);
                let host = HostRepo::discover(&place.repo).expect("a repository");
                let history = HistoryChoice::Given(History::Depth { commits, chosen: false });
                host.snapshot(&SnapshotOptions { history, ..SnapshotOptions::default() }).expect("named")
            };
            let create = |snapshot: &Snapshot| {
                let directory = GitDir::create(snapshot, 0).expect("made");
                let listing = snapshot.list().expect("listed");
                directory
                    .write_index(snapshot, &listing, &vec![Default::default(); listing.entries.len()])
                    .expect("written");
                directory
            };
            let before = snapshot(old);
            let base = create(&before);
            let now = snapshot(new);
            let share = DeltaLimit { paths: 10_000, bytes: 1 << 30 };
            let difference = now.difference_from(&before.commit, share).expect("read").expect("few differ");
            assert!(now.distance_from(&before.commit, share).expect("asked").is_some());
            let index = || std::fs::read(base.full("index".as_ref()));
            let from = PreviousRefs { commit: &before.commit, branch: None };
            let over = now.fast_forward(&from, index, &difference, &Default::default()).expect("made");
            let folder = tempfile::tempdir().expect("a folder");
            let git = |folder: &std::path::Path, args: &[&str]| {
                let mut command = place.command("git", args);
                command.current_dir(folder);
                Ran::of(command).ok().out
            };
            let (brought, fresh) = (folder.path().join("brought"), folder.path().join("fresh"));
            lay_out(&brought, &base, &over);
            lay_out(&fresh, &create(&now), &GitFiles::new());
            let what = format!("{commits} deep, {old} to {new}");
            for args in [
                &["rev-list", "--objects", "HEAD"][..],
                &["log", "--format=%H %P", "--graph"],
                &["ls-files", "--stage"],
                &["fsck", "--full", "--no-dangling"],
            ] {
                assert_eq!(git(&brought, args), git(&fresh, args), "{what}: {args:?}");
            }
        }
    }
}
