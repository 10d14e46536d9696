//! Tests of bases: they are shared and sealed, newer commits are a delta over them, and neither a rewritten history nor
//! an unfinished base is used.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use insta::assert_snapshot;
use rustix::process::{Signal, kill_process};

use airlock::git::{
    DeltaLimit, GitDir, GitFiles, History, HistoryChoice, HostRepo, PreviousRefs, Snapshot, SnapshotOptions,
};

use crate::support::{
    AIRLOCK, CommandOutput, TestRepo, engine_in_between, engine_lacks, is_declared_lacking, is_podman, pid, wait_until,
};

/// Runs a script in a new sandbox and returns its stdout.
fn run_script(repo: &TestRepo, options: &[&str], script: &str) -> String {
    repo.airlock(&[&["run"], options, &["--", "sh", "-euc", script]].concat()).ok().stdout
}

fn base_count(repo: &TestRepo) -> usize {
    airlock::base::BaseStore::new(&repo.path.join(".git")).list_bases().expect("listed").len()
}

fn to_owned_pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

#[test]
fn base_serves_many_sandboxes_and_newer_commits() {
    let repo = TestRepo::new();
    assert_eq!(run_script(&repo, &[], "git log --format=%s"), "start\n");
    repo.sandbox("x", "echo poison > a.txt; rm -rf dir; git commit -qam poison; echo p > ~/planted").ok();
    assert_eq!(run_script(&repo, &[], "cat a.txt; ls dir; ls ~; git log --format=%s"), "one\ntwo\nkeep.txt\nstart\n");
    assert_eq!(repo.base_volumes(), 1);

    // HEAD moves: a change, a new file, deletions, a symlink, a directory that becomes a file, and a directory again.
    repo.write("a.txt", "one\ntwo\nthree\n");
    repo.write("new/deep/file", "new\n");
    std::fs::remove_file(repo.path.join("c.txt")).expect("removed");
    std::fs::remove_dir_all(repo.path.join("dir")).expect("removed");
    repo.write("dir", "a file now\n");
    std::os::unix::fs::symlink("a.txt", repo.path.join("link")).expect("made");
    repo.commit();
    let script =
        "git log --format=%s; git status --short; git fsck --no-dangling; cat a.txt dir new/deep/file link; ls";
    let expected = "start\nstart\none\ntwo\nthree\na file now\nnew\none\ntwo\nthree\na.txt\ndir\nlink\nnew\nrun.sh\n";
    assert_eq!(run_script(&repo, &[], script), expected);
    repo.git(&["checkout", "-q", "-b", "other", "HEAD~1"]);
    repo.write("c.txt", "on another branch\n");
    repo.commit();
    assert_eq!(
        run_script(&repo, &[], "git branch; cat c.txt dir/keep.txt; git log --format=%s HEAD~1"),
        "* other\non another branch\nk\nstart\n"
    );
    assert_eq!(repo.base_volumes(), 1, "all sandboxes use the first base");

    // Collecting compares with the files that the sandbox started with, not with the base volume.
    repo.git(&["checkout", "-q", "main"]);
    repo.sandbox("moved", "echo four >> a.txt; rm new/deep/file; echo x > c.txt; echo y >> run.sh").ok();
    let found = to_owned_pairs(&[
        ("a.txt", "modified"),
        ("c.txt", "added"),
        ("new/deep/file", "deleted"),
        ("run.sh", "modified"),
    ]);
    assert_eq!(repo.changes("moved"), found);
    repo.airlock(&["apply", "moved", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nthree\nfour\n");

    // If too much differs, a new base is built.
    repo.git(&["checkout", "-qf", "main"]);
    repo.git(&["clean", "-qfd"]);
    for n in 0..250 {
        repo.write(&format!("many/{n}"), "x");
    }
    repo.commit();
    assert_eq!(run_script(&repo, &[], "ls many | wc -l"), "250\n");
    assert_eq!(repo.base_volumes(), 2);
}

#[test]
fn status_names_files_in_stored_form() {
    let repo = TestRepo::new();
    repo.git(&["config", "filter.rot.clean", "rev"]);
    assert_eq!(run_script(&repo, &[], "cat a.txt"), "one\ntwo\n");
    repo.write(".gitattributes", "a.txt filter=rot\nnew/* filter=rot\n");
    repo.write("new/one", "1\n");
    repo.commit();
    repo.sandbox("stored", "echo x > x").ok();
    assert_eq!(repo.base_volumes(), 1);
    let status = repo.airlock(&["status", "stored"]).ok().stdout;
    assert!(status.contains("2 files are in the form that git stores (a.txt, new/one)"), "{status}");
}

#[test]
fn rewritten_history_gets_a_new_base() {
    let repo = TestRepo::new();
    repo.write("secret", "the password\n");
    repo.commit();
    let commit = repo.git(&["rev-parse", "HEAD"]);
    let blob = repo.git(&["rev-parse", "HEAD:secret"]);
    assert_eq!(run_script(&repo, &[], "cat secret"), "the password\n");
    std::fs::remove_file(repo.path.join("secret")).expect("removed");
    repo.git(&["add", "-A"]);
    repo.git(&["commit", "-q", "--amend", "--allow-empty", "-m", "without it"]);
    let script = format!("for id in {} {}; do ! git cat-file -e $id; done; ls", commit.trim(), blob.trim());
    assert_eq!(run_script(&repo, &[], &script), "a.txt\nc.txt\ndir\nrun.sh\n");
}

#[test]
fn tags_and_base_branch_go_along_with_their_commits() {
    if engine_lacks("overlay") {
        return;
    }
    let mut repo = TestRepo::new();
    repo.git(&["tag", "-a", "v1.0", "-m", "the first"]);
    repo.git(&["tag", "-a", "of-a-tag", "-m", "nested", "v1.0"]);
    repo.git(&["tag", "blob", repo.git(&["rev-parse", "HEAD:a.txt"]).trim()]);
    repo.git(&["update-ref", "refs/remotes/origin/main", "HEAD"]);
    repo.git(&["symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/main"]);
    repo.git(&["update-ref", "refs/remotes/origin/other", "HEAD"]);
    repo.git(&["checkout", "-qb", "side"]);
    repo.write("a.txt", "side\n");
    repo.git(&["commit", "-qam", "side"]);
    repo.git(&["tag", "-a", "unreached", "-m", "of another branch"]);
    let unreached = repo.git(&["rev-parse", "unreached", "unreached^{commit}"]).replace('\n', " ");
    repo.git(&["checkout", "-qb", "feature", "main"]);
    repo.write("b.txt", "feature\n");
    repo.git(&["add", "b.txt"]);
    repo.git(&["commit", "-qm", "feature"]);
    let refs = "git for-each-ref --format='%(refname)'";
    let script = format!(
        "{refs}; git describe; git diff --name-only main...HEAD; git log --format=%s origin/main..HEAD; for id in {unreached}; do ! git cat-file -e $id 2>&1; done; git fsck 2>&1"
    );
    let all = "refs/heads/feature\nrefs/heads/main\nrefs/remotes/origin/main\nrefs/tags/of-a-tag\nrefs/tags/v1.0\n";
    for mode in ["overlay", "copy"] {
        repo.set("AIRLOCK_WORKSPACE", mode);
        let shown = run_script(&repo, &[], &script);
        assert!(shown.starts_with(&format!("{all}{}", repo.git(&["describe"]))), "{shown}");
        assert!(shown.ends_with("\nb.txt\nfeature\n"), "{shown}");
    }
    repo.set("AIRLOCK_WORKSPACE", "overlay");
    let commit = repo.git(&["rev-parse", "HEAD"]);
    assert!(repo.airlock(&["run", "--", "true"]).ok().stderr.contains("changed nothing, so it is removed"));

    // Refs change while the commit and its base stay.
    repo.git(&["tag", "-a", "v1.1", "-m", "the second"]);
    repo.git(&["tag", "-d", "of-a-tag"]);
    let bases = base_count(&repo);
    let newer = "refs/heads/feature\nrefs/heads/main\nrefs/remotes/origin/main\nrefs/tags/v1.0\nrefs/tags/v1.1\n";
    let described =
        run_script(&repo, &[], &format!("{refs}; git describe; git cat-file -t v1.1; git fsck --no-dangling 2>&1"));
    assert_eq!(described, format!("{newer}v1.1\ntag\n"));
    assert_eq!((base_count(&repo), repo.git(&["rev-parse", "HEAD"])), (bases, commit));

    // The base branch has moved on.
    repo.git(&["update-ref", "refs/remotes/origin/main", "side"]);
    repo.git(&["branch", "-f", "main", "side"]);
    repo.sandbox("moved", &format!("{refs}; cat ~/.claude/CLAUDE.md; touch new")).ok();
    let status = repo.airlock(&["status", "moved"]).ok().stdout;
    let fork = repo.git(&["merge-base", "HEAD", "side"]);
    assert!(status.contains("2 tags"), "{status}");
    let note = format!("main has further commits, which are not included; HEAD left it at {}", fork.trim());
    assert!(status.contains(&note), "{status}");
    let shown = run_script(&repo, &[], &format!("{refs}; cat ~/.claude/CLAUDE.md"));
    assert!(!shown.contains("refs/heads/main") && shown.contains(&note), "{shown}");

    // Other refs of the agent are named as before.
    let kept = repo.airlock(&["run", "--", "git", "pack-refs", "--all"]).ok().stderr;
    assert!(kept.contains("packed refs"), "{kept}");
    assert_eq!(
        run_script(&repo, &["--history", "none"], &format!("{refs}; git describe --always >/dev/null")),
        "refs/heads/feature\n"
    );
    assert!(run_script(&repo, &["--history", "1"], refs).ends_with("refs/tags/v1.1\n"));
}

#[test]
fn history_option_limits_commits() {
    let repo = TestRepo::new();
    for n in 1..6 {
        repo.write("a.txt", format!("{n}\n"));
        repo.git(&["commit", "-qam", &format!("commit {n}")]);
    }
    repo.git(&["branch", "elsewhere"]);
    repo.git(&["remote", "add", "origin", "https://example.org/private.git"]);
    repo.git(&["tag", "v1"]);
    repo.write("a.txt", "stashed");
    repo.git(&["stash", "-q"]);
    let log = "git log --format=%s | cat; git status --short";
    assert_eq!(run_script(&repo, &[], log).lines().count(), 6);
    assert_eq!(run_script(&repo, &["--history", "3"], log), "commit 5\ncommit 4\ncommit 3\n");
    let alone = run_script(&repo, &["--history", "none"], log);
    assert!(alone.starts_with("airlock: snapshot of ") && alone.lines().count() == 1, "{alone}");
    assert_eq!(
        run_script(&repo, &[], "git diff HEAD~3 --stat | tail -n 1"),
        " 1 file changed, 1 insertion(+), 1 deletion(-)\n"
    );
    assert!(run_script(&repo, &[], "git blame a.txt").contains("(Ann "));
    // Nothing else of the host's git directory is in the sandbox.
    assert_eq!(
        run_script(&repo, &[], "git for-each-ref --format='%(refname)'; git remote; ls .git/hooks 2>/dev/null || true"),
        "refs/heads/main\nrefs/tags/v1\n"
    );
    assert_snapshot!(repo.airlock(&["run", "--history", "some", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: --history: some is not full, none or a number of commits
    ");
}

#[test]
fn uncommitted_and_include_add_files() {
    let repo = TestRepo::new();
    repo.write("a.txt", "one\ntwo\nmine\n");
    repo.write("staged.txt", "staged\n");
    repo.git(&["add", "staged.txt"]);
    std::fs::remove_file(repo.path.join("c.txt")).expect("removed");
    repo.write("untracked.txt", "untracked\n");
    repo.write("target/out", "ignored\n");
    repo.write(".env.test", "KEY=1\n");
    repo.write("target/env/b", "ignored too\n");
    let index = std::fs::metadata(repo.path.join(".git/index")).expect("there").modified().expect("a time");
    let before = repo.read_tree();

    let ran =
        repo.airlock(&["run", "--uncommitted", "--", "sh", "-c", "cat a.txt staged.txt; ls; git status --short"]).ok();
    assert_eq!(
        ran.stdout,
        "one\ntwo\nmine\nstaged\na.txt\ndir\nrun.sh\nstaged.txt\n M a.txt\n D c.txt\n?? staged.txt\n"
    );
    assert!(
        ran.stderr
            .contains("and 3 uncommitted changes · 2 untracked files not included (--uncommitted=all includes them)"),
        "{}",
        ran.stderr
    );
    let ran = repo.airlock(&["run", "--uncommitted=all", "--", "ls", "-A"]).ok();
    assert_eq!(ran.stdout, ".env.test\n.git\n.gitignore\na.txt\ndir\nrun.sh\nstaged.txt\nuntracked.txt\n");
    let include = ["--include", "target/env/", "--include", "*.test"];
    assert_eq!(run_script(&repo, &include, "cat target/env/b .env.test; ls target"), "ignored too\nKEY=1\nenv\n");
    assert_snapshot!(repo.airlock(&["run", "--include", "nothing/*", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: --include nothing/* matches no file
    hint: globs start at the root of the repository, as in `--include 'config/*.env'`
    ");
    assert_snapshot!(repo.airlock(&["run", "--include", "../*", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: --include ../* matches no file
    hint: globs start at the root of the repository, as in `--include 'config/*.env'`
    ");
    assert_eq!(repo.read_tree(), before, "the host repository changed");
    assert_eq!(std::fs::metadata(repo.path.join(".git/index")).expect("there").modified().expect("a time"), index);

    // The changeset has only the agent's changes, and is applied to the uncommitted work.
    let args = ["run", "--name", "u", "--uncommitted=all", "--include", "target/env/", "--", "sh", "-euc"];
    let script = "echo agent >> a.txt; echo agent >> untracked.txt; echo agent >> target/env/b; echo new > target/env/c; \
                  echo no > target/no; rm staged.txt";
    repo.airlock(&[&args[..], &[script]].concat()).ok();
    let found = to_owned_pairs(&[
        ("a.txt", "modified"),
        ("staged.txt", "deleted"),
        ("target/env/b", "modified"),
        ("target/env/c", "added"),
        ("untracked.txt", "modified"),
    ]);
    assert_eq!(repo.changes("u"), found);
    let status = repo.airlock(&["status", "u"]).ok().stdout;
    assert!(status.contains("5 uncommitted changes"), "{status}");
    repo.airlock(&["apply", "u", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nmine\nagent\n");
    assert_eq!(repo.read("target/env/b"), "ignored too\nagent\n");
    assert_eq!(repo.base_volumes(), 1);

    // The same with a newer commit and a copied workspace.
    let mut repo = repo;
    repo.git(&["commit", "-qam", "second"]);
    repo.write("a.txt", "other work\n");
    repo.set("AIRLOCK_WORKSPACE", "copy");
    let script = "cat a.txt; git status --short; git log --format=%s";
    assert_eq!(run_script(&repo, &["--uncommitted"], script), "other work\n M a.txt\nsecond\nstart\n");
}

#[test]
fn concurrent_first_runs_share_one_base() {
    let repo = TestRepo::new();
    for n in 0..300 {
        repo.write(&format!("f/{n}"), vec![b'x'; 10_000]);
    }
    repo.commit();
    let start = || {
        let mut command = repo.command(AIRLOCK, &["run", "--", "sh", "-c", "ls f | wc -l"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs")
    };
    let children: Vec<Child> = (0..3).map(|_| start()).collect();
    for child in children {
        let ran: CommandOutput = child.wait_with_output().expect("it ends").into();
        assert_eq!(ran.ok().stdout, "300\n");
    }
    assert_eq!(repo.base_volumes(), 1);
}

#[test]
fn unfinished_base_is_never_used() {
    let repo = TestRepo::new();
    for n in 0..3000 {
        repo.write(&format!("f/{n}"), vec![b'x'; 20_000]);
    }
    repo.commit();
    let mut child = repo.command(AIRLOCK, &["run", "--", "true"]).stderr(Stdio::null()).spawn().expect("it runs");
    // Seeding has started when the volume exists.
    while repo.base_volumes() == 0 {
        assert!(child.try_wait().expect("it can be asked").is_none(), "the run ended before its base was seeded");
    }
    child.kill().expect("killed");
    child.wait().expect("it ends");
    assert_eq!(run_script(&repo, &[], "ls f | wc -l; git status --short"), "3000\n");
    let dry = repo.airlock(&["gc", "--dry-run"]).ok();
    assert!(dry.stderr.contains("would remove the volume airlock-base-"), "{}", dry.stderr);
    repo.airlock(&["gc"]).ok();
    assert_eq!(repo.base_volumes(), 1, "the complete base is kept");

    // An interrupted run removes its base.
    repo.git(&["commit", "-q", "--amend", "-m", "another"]);
    let mut child = repo.command(AIRLOCK, &["run", "--", "true"]).stderr(Stdio::null()).spawn().expect("it runs");
    while repo.base_volumes() == 1 {
        assert!(child.try_wait().expect("it can be asked").is_none(), "the run ended before its base was seeded");
    }
    kill_process(pid(&child), Signal::INT).expect("signaled");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!((repo.base_volumes(), repo.engine_objects()), (1, 0));
}

#[test]
fn missing_or_foreign_base_is_not_used() {
    let repo = TestRepo::new();
    let docker = |args: &[&str]| CommandOutput::from_command(repo.command("docker", args));
    let volume = |name: &str| {
        repo.sandbox(name, "echo x >> a.txt").ok();
        let json: serde_json::Value =
            serde_json::from_str(&repo.airlock(&["status", name, "--json"]).ok().stdout).expect("JSON");
        repo.airlock(&["rm", name]).ok();
        format!("airlock-base-{}", json["base_volume"].as_str().expect("an id"))
    };
    let first = volume("one");
    docker(&["volume", "rm", &first]).ok();
    let second = volume("two");
    assert_ne!(first, second, "a removed volume is replaced by a new one");

    // A bind mount of a host directory under the name of a base: no file of it is read or written.
    let trap = repo.path.with_file_name("trap");
    std::fs::create_dir_all(trap.join("tree")).expect("made");
    std::fs::write(trap.join("tree/host-file"), "precious").expect("written");
    docker(&["volume", "rm", &second]).ok();
    let device = format!("device={}", trap.display());
    docker(&["volume", "create", "--opt", "type=none", "--opt", "o=bind", "--opt", &device, &second]).ok();
    assert_eq!(run_script(&repo, &[], "ls"), "a.txt\nc.txt\ndir\nrun.sh\n");
    docker(&["volume", "rm", &second]).ok();

    // A volume with the name and labels of a base, but without the seal.
    let third = volume("three");
    let labels: serde_json::Value =
        serde_json::from_str(&docker(&["volume", "inspect", &third]).ok().stdout).expect("JSON");
    docker(&["volume", "rm", &third]).ok();
    let mut args = vec!["volume".to_owned(), "create".into()];
    for (key, value) in labels[0]["Labels"].as_object().expect("labels") {
        args.extend(["--label".into(), format!("{key}={}", value.as_str().expect("text"))]);
    }
    args.push(third.clone());
    docker(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    // The rest of the message is the engine's.
    repo.airlock(&["run", "--", "true"]).expect_failure(125, &["is no longer usable", "hint: run the command again"]);
    assert_eq!(repo.engine_objects(), 0);
    assert_eq!(run_script(&repo, &[], "cat c.txt"), "gone\n");
    // A complete base with another seal.
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
    assert_snapshot!(repo.airlock(&["run", "--name", "n", "--", "true"]), @"
    status: 125
    ----- stderr -----
    airlock: n · main at [COMMIT], 5 files · network: none
    error: the base [BASE] is no longer usable: the base [BASE] differs from its seal
    hint: run the command again: the base is built again, and `airlock gc` removes the old one
    ");
    assert_eq!(repo.engine_objects(), 0);
    assert_eq!(run_script(&repo, &[], "cat c.txt"), "gone\n");
}

#[test]
fn gc_keeps_newest_and_used_bases() {
    let mut repo = TestRepo::new();
    for n in 0..4 {
        // The history is rewritten each time, so that no base serves another commit.
        repo.write("a.txt", format!("{n}\n"));
        repo.git(&["commit", "-q", "--all", "--amend", "-m", &format!("c{n}")]);
        if n == 0 {
            repo.sandbox("first", "echo x >> a.txt").ok();
        } else {
            run_script(&repo, &[], "true");
        }
    }
    assert_eq!(repo.base_volumes(), 4);
    repo.set("AIRLOCK_BASES", "1");
    let ran = repo.airlock(&["gc"]).ok();
    assert!(ran.stderr.contains("removed the base of ") && ran.stderr.contains("removed 2 items ("), "{}", ran.stderr);
    assert_eq!(repo.base_volumes(), 2, "the newest base, and the base of a sandbox");
    assert_snapshot!(repo.airlock(&["gc"]), @"
    status: 0
    ----- stderr -----
    airlock: nothing to remove
    ");
    assert_eq!(repo.changes("first"), to_owned_pairs(&[("a.txt", "modified")]));

    // gc finds the leftovers of a killed process, and leaves a running process alone.
    let mut child = repo.command(AIRLOCK, &["run", "--name", "k", "--", "sh", "-c", "echo ready; exec sleep 1000"]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it runs");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line).expect("a line");
    repo.set("AIRLOCK_BASES", "0");
    // Both bases are in use.
    assert_snapshot!(repo.airlock(&["gc"]), @"
    status: 0
    ----- stderr -----
    airlock: nothing to remove
    ");
    std::fs::remove_dir_all(repo.path.join(".git/airlock/sandboxes/k")).expect("removed");
    // A running container may belong to a user whose records are elsewhere.
    let ran = repo.airlock(&["gc"]).ok();
    assert!(
        ran.stderr.contains("kept (in use): the container") && ran.stderr.contains("docker rm -f"),
        "{}",
        ran.stderr
    );
    let label =
        format!("label=dev.airlock.repo={}", airlock::base::repository_id(&repo.path.join(".git")).expect("an id"));
    let ids = CommandOutput::from_command(repo.command("docker", &["ps", "-q", "--filter", &label])).ok().stdout;
    // Container and sidecar end when their connection to Airlock ends.
    child.kill().expect("killed");
    child.wait().expect("it ends");
    for id in ids.lines() {
        CommandOutput::from_command(repo.command("docker", &["wait", id]));
    }
    let ran = repo.airlock(&["gc"]).ok();
    assert!(
        ran.stderr.contains("removed the container") && ran.stderr.contains("which belongs to no sandbox"),
        "{}",
        ran.stderr
    );
    repo.airlock(&["rm", "first"]).ok();
    repo.airlock(&["gc"]).ok();
    assert_eq!((repo.base_volumes(), repo.engine_objects()), (0, 0));
}

/// Starts a proxy to the engine, through which it cannot mount overlays: the proxy misspells their type.
fn start_engine_without_overlay() -> (String, Arc<AtomicUsize>) {
    engine_in_between(
        (b"\"type\":\"overlay\"", b"\"type\":\"overlai\""),
        (b"\"type\":\"overlai\"", b"\"type\":\"overlay\""),
    )
}

#[test]
fn workspace_is_copied_without_overlay_support() {
    let mut repo = TestRepo::new();
    let (address, asked) = start_engine_without_overlay();
    repo.set("DOCKER_HOST", &address);
    let ran =
        repo.airlock(&["run", "--name", "c", "--", "sh", "-euc", "git status --short; echo x >> a.txt; mv dir e"]).ok();
    assert_eq!((ran.stdout.as_str(), asked.load(Ordering::SeqCst)), ("", 1));
    assert_eq!(
        repo.changes("c"),
        to_owned_pairs(&[("a.txt", "modified"), ("dir/keep.txt", "deleted"), ("e/keep.txt", "added")])
    );
    let status = repo.airlock(&["status", "c"]).ok().stdout;
    assert!(status.contains("a copy of base") && status.contains("the engine cannot mount an overlay"), "{status}");
    assert_eq!(run_script(&repo, &[], "cat a.txt"), "one\ntwo\n");
    assert_eq!(asked.load(Ordering::SeqCst), 1, "the overlay is not tried again");
    repo.set("AIRLOCK_WORKSPACE", "overlay");
    // The rest of the message is the engine's.
    repo.airlock(&["run", "--", "true"])
        .expect_failure(125, &["failed to mount the workspace", "hint: set `workspace"]);
    repo.unset("AIRLOCK_WORKSPACE");
    repo.airlock(&["rm", "c"]).ok();
    // The engine may remove the volumes after the command has ended.
    wait_until("an object is left", || repo.engine_objects() == 0);
}

#[test]
fn records_of_version_1_are_read() {
    let repo = TestRepo::new();
    repo.sandbox("old", "echo x >> a.txt").ok();
    let path = repo.path.join(".git/airlock/sandboxes/old/record.json");
    let mut record: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
    for key in ["workspace_kind", "base_volume", "manifest", "includes", "size"] {
        record.as_object_mut().expect("an object").remove(key).expect("the field exists");
    }
    record["schema_version"] = 1.into();
    std::fs::write(&path, record.to_string()).expect("written");
    // A damaged record stops only gc, which needs all records.
    let damaged = repo.path.join(".git/airlock/sandboxes/bad");
    std::fs::create_dir(&damaged).expect("made");
    std::fs::write(damaged.join("record.json"), "{}").expect("written");
    assert!(repo.airlock(&["ls"]).ok().stderr.contains("the record of `bad` is damaged"));
    assert_snapshot!(repo.airlock(&["gc"]), @"
    status: 1
    ----- stderr -----
    error: failed to access the sandbox's record: the record of `bad` is damaged: missing field `schema_version` at line 1 column 2; to continue without it, move [TMP]/repo/.git/airlock/sandboxes/bad away, then run `airlock gc`
    ");
    assert_eq!(repo.changes("old"), to_owned_pairs(&[("a.txt", "modified")]));
    std::fs::remove_dir_all(damaged).expect("removed");
    assert!(repo.airlock(&["ls"]).ok().stdout.contains("\nold   1 file"));
    repo.airlock(&["apply", "old", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");
    repo.airlock(&["rm", "old", "old"]).ok();
    assert_eq!(repo.engine_objects(), 0);
}

#[test]
fn gc_ignores_objects_of_a_moved_repository() {
    let repo = TestRepo::new();
    repo.sandbox("precious", "echo x > work.txt").ok();
    let old = repo.path.with_file_name("old");
    std::fs::rename(&repo.path, &old).expect("moved");
    std::fs::create_dir(&repo.path).expect("made");
    repo.git(&["init", "-q", "-b", "main"]);
    repo.write("a", "another repository");
    repo.commit();
    assert_snapshot!(repo.airlock(&["gc"]), @"
    status: 0
    ----- stderr -----
    airlock: nothing to remove
    ");
    std::fs::remove_dir_all(&repo.path).expect("removed");
    std::fs::rename(&old, &repo.path).expect("moved back");
    // Home, workspace, the volume below the workspace, and that of the socket.
    let fewer = usize::from(is_podman()) + usize::from(is_declared_lacking("overlay"));
    assert_eq!(repo.engine_objects(), 4 - fewer);
    repo.airlock(&["rm", "precious"]).ok();
    assert_eq!((repo.engine_objects(), repo.base_volumes()), (0, 1));
}

#[test]
fn gc_keeps_a_leased_base() {
    let repo = TestRepo::new();
    run_script(&repo, &[], "true");
    let bases = airlock::base::BaseStore::new(&repo.path.join(".git"));
    let id = bases.list_bases().expect("listed")[0].id.clone();
    let held = bases.lease_shared(&id).expect("asked").expect("the base exists");
    let mut none_kept = repo.command(AIRLOCK, &["gc"]);
    none_kept.env("AIRLOCK_BASES", "0");
    assert!(CommandOutput::from_command(none_kept).ok().stderr.contains("kept (in use)"));
    assert_eq!(repo.base_volumes(), 1);
    drop(held);
    let claimed = bases.lease_exclusive(&id).expect("asked").expect("the base is unused");
    bases.remove_record(&id).expect("forgotten");
    drop(claimed);
    assert!(bases.lease_shared(&id).expect("asked").is_none(), "a removed base cannot be leased");
}

#[test]
fn snapshot_handles_paths_of_another_kind() {
    let repo = TestRepo::new();
    // A tracked file is a directory in the working tree, with an ignored file in it.
    std::fs::remove_file(repo.path.join("c.txt")).expect("removed");
    repo.write(".git/info/exclude", "*.env\n");
    repo.write("c.txt/x.env", "inside\n");
    assert_eq!(run_script(&repo, &["--include", "c.txt/x.env"], "cat c.txt/x.env"), "inside\n");
    // A submodule without content is a file in the working tree.
    let inner = repo.path.with_file_name("inner");
    repo.git(&["init", "-q", inner.to_str().expect("UTF-8")]);
    repo.git(&["-C", inner.to_str().expect("UTF-8"), "commit", "-q", "--allow-empty", "-m", "inner"]);
    repo.git(&[
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        inner.to_str().expect("UTF-8"),
        "sub",
    ]);
    repo.git(&["commit", "-qm", "with a submodule"]);
    repo.git(&["submodule", "--quiet", "deinit", "-f", "sub"]);
    repo.git(&["rm", "-q", "--cached", "sub"]);
    std::fs::remove_dir(repo.path.join("sub")).expect("removed");
    repo.write("sub", "a file now\n");
    repo.git(&["add", "sub"]);
    assert_eq!(run_script(&repo, &["--uncommitted"], "cat sub"), "a file now\n");
}

/// Writes a git directory as a sandbox gets it, with the files of a delta over it.
fn write_git_dir(folder: &std::path::Path, base: &GitDir, delta: &GitFiles) {
    let folder = folder.join(".git");
    std::fs::create_dir_all(folder.join("refs")).expect("made");
    for (path, is_directory) in base.list_files().expect("listed") {
        let target = folder.join(&path);
        if is_directory {
            std::fs::create_dir_all(target).expect("made");
        } else {
            std::fs::copy(base.file_path(&path), target).expect("copied");
        }
    }
    for (path, content) in delta {
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

/// The branches start long before the depth of the history, and are merged after the base was built. A sandbox with a
/// delta over the base has the same commits as a sandbox with a new base, and all objects of them.
#[test]
fn partial_history_fast_forwards_over_old_merges() {
    let repo = TestRepo::new();
    let mut random = 7_u64;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    let mut tips = vec![repo.git(&["rev-parse", "HEAD"]).trim().to_owned()];
    for n in 0..60 {
        let main = tips[tips.len() - 1].clone();
        repo.git(&["checkout", "-q", "--detach", &main]);
        if n % 3 == 2 {
            let fork = tips[usize::try_from(next(tips.len() as u64)).expect("small")].clone();
            repo.git(&["checkout", "-q", "--detach", &fork]);
            for _ in 0..=next(3) {
                repo.write(&format!("topic/{n}/{}", next(4)), format!("{}\n", next(1000)));
                repo.write("shared.txt", format!("{fork}\n"));
                repo.commit();
            }
            let topic = repo.git(&["rev-parse", "HEAD"]);
            repo.git(&["checkout", "-q", "--detach", &main]);
            repo.git(&["merge", "-q", "-s", "ours", "-m", "merge", topic.trim()]);
        } else {
            repo.write(&format!("f/{}", next(9)), format!("{}\n", next(1000)));
            repo.commit();
        }
        tips.push(repo.git(&["rev-parse", "HEAD"]).trim().to_owned());
    }
    for commits in [1, 2, 4, 7] {
        for (old, new) in [(10, 60), (40, 60), (58, 60), (30, 44), (59, 60), (2, 33)] {
            let snapshot = |at: usize| {
                repo.git(&["checkout", "-q", "--detach", &tips[at]]);
                let host = HostRepo::discover(&repo.path).expect("a repository");
                let history = HistoryChoice::Explicit(History::Depth { commits, chosen: false });
                host.take_snapshot(&SnapshotOptions { history, ..SnapshotOptions::default() }).expect("named")
            };
            let create = |snapshot: &Snapshot| {
                let directory = GitDir::create_for_module(snapshot, 0).expect("made");
                let listing = snapshot.list_files().expect("listed");
                directory
                    .write_index(snapshot, &listing, &vec![Default::default(); listing.entries.len()])
                    .expect("written");
                directory
            };
            let before = snapshot(old);
            let base = create(&before);
            let now = snapshot(new);
            let share = DeltaLimit { paths: 10_000, bytes: 1 << 30 };
            let difference = now.read_delta_from(&before.commit, share).expect("read").expect("few differ");
            assert!(now.count_changed_paths(&before.commit, share).expect("asked").is_some());
            let index = || std::fs::read(base.file_path("index".as_ref()));
            let from = PreviousRefs { commit: &before.commit, branch: None, refs: &before.refs.content_key() };
            let delta = now.fast_forward(&from, index, &difference, &Default::default()).expect("made");
            let folder = tempfile::tempdir().expect("a folder");
            let git = |folder: &std::path::Path, args: &[&str]| {
                let mut command = repo.command("git", args);
                command.current_dir(folder);
                CommandOutput::from_command(command).ok().stdout
            };
            let (forwarded, fresh) = (folder.path().join("forwarded"), folder.path().join("fresh"));
            write_git_dir(&forwarded, &base, &delta);
            write_git_dir(&fresh, &create(&now), &GitFiles::new());
            let what = format!("{commits} deep, {old} to {new}");
            for args in [
                &["rev-list", "--objects", "HEAD"][..],
                &["log", "--format=%H %P", "--graph"],
                &["ls-files", "--stage"],
                &["fsck", "--full", "--no-dangling"],
            ] {
                assert_eq!(git(&forwarded, args), git(&fresh, args), "{what}: {args:?}");
            }
        }
    }
}
