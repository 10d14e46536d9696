//! Setup layers: a command that prepares a project runs once, and later sandboxes have its result.

use std::process::Command;

use airlock::sandbox::layer::{Layer, LayerStore};

use crate::support::{AIRLOCK, CommandOutput, TestRepo};
use crate::terminal::Terminal;

/// A setup that counts its runs in its output, and plants what must not be in a layer.
const SETUP: &str = "mkdir -p deps/bin; cat lock.txt > deps/lock; echo '#!/bin/sh' > deps/bin/tool; git config core.hooksPath /planted; git commit -q --allow-empty -m planted; touch ~/.planted; echo prepared";

fn create_repo() -> TestRepo {
    let mut repo = TestRepo::new();
    repo.write(".gitignore", "deps\n");
    repo.write("requirements-lock.txt", "1\n");
    repo.write("lock.txt", "one\n");
    repo.commit();
    repo.set("AIRLOCK_SETUP", SETUP);
    repo
}

fn list_layers(repo: &TestRepo) -> Vec<Layer> {
    LayerStore::new(&repo.path.join(".git")).list_layers().expect("listed")
}

/// Lists the volumes of setup layers of a repository.
fn list_volumes(repo: &TestRepo) -> Vec<String> {
    let id = airlock::base::repository_id(&repo.path.join(".git")).expect("an id");
    let filter = format!("label=dev.airlock.repo={id}");
    let listed = repo
        .command("docker", &["volume", "ls", "--quiet", "--filter", &filter, "--filter", "label=dev.airlock.layer"]);
    CommandOutput::from_command(listed).ok().stdout.lines().map(str::to_owned).collect()
}

fn run(repo: &TestRepo, script: &str) -> CommandOutput {
    repo.airlock(&["run", "--review", "never", "--", "sh", "-euc", script])
}

#[test]
fn setup_runs_once_and_its_result_is_shared() {
    let mut repo = create_repo();
    let look = "cat deps/lock; test -s deps/bin/tool; git log --format=%s | head -n 1; git config core.hooksPath || echo none; ls ~/.planted 2>/dev/null || echo none; git status --short";
    let before = repo.git(&["log", "-1", "--format=%s"]);
    let expected = format!("one\n{before}none\nnone\n");
    let first = run(&repo, look).ok();
    assert_eq!(first.stdout, expected, "the output of the setup is not the agent's");
    assert!(first.stderr.contains("this happens once") && first.stderr.contains("\nprepared\n"), "{}", first.stderr);
    assert!(first.stderr.contains("changed nothing, so it is removed"), "{}", first.stderr);
    for _ in 0..2 {
        let later = run(&repo, look).ok();
        assert_eq!(later.stdout, expected);
        assert!(!later.stderr.contains("prepared") && later.stderr.contains("changed nothing"), "{}", later.stderr);
    }
    assert_eq!((list_layers(&repo).len(), list_volumes(&repo).len()), (1, 1));

    // Neither another file nor uncommitted work needs another layer; an input does.
    repo.write("a.txt", "other\n");
    repo.commit();
    repo.write("lock.txt", "uncommitted\n");
    assert!(!run(&repo, "true").ok().stderr.contains("prepared"));
    repo.write("requirements-lock.txt", "2\n");
    repo.write("lock.txt", "two\n");
    repo.commit();
    assert_eq!(run(&repo, "cat deps/lock").ok().stdout, "two\n");
    assert_eq!(list_layers(&repo).len(), 2);
    assert_eq!(
        repo.airlock(&["run", "--no-setup", "--", "sh", "-c", "ls deps 2>/dev/null || echo none"]).ok().stdout,
        "none\n"
    );

    // A layer never hides what a commit has.
    repo.set("AIRLOCK_SETUP", "mkdir -p deps/bin; echo prepared; touch deps/bin/tool");
    run(&repo, "test -e deps/bin/tool").ok();
    repo.write("deps/own", "tracked\n");
    repo.git(&["add", "-f", "deps/own"]);
    repo.git(&["commit", "-qm", "tracked"]);
    let tracked = run(&repo, "cat deps/own; ls deps/bin; git status --short").ok();
    assert_eq!(tracked.stdout, "tracked\ntool\n");
    assert!(
        tracked.stderr.contains("\nprepared\n") && tracked.stderr.contains("changed nothing"),
        "{}",
        tracked.stderr
    );
    assert!(!run(&repo, "true").ok().stderr.contains("\nprepared\n"));
    // Nor does it have a file of its own commit, which a later commit may change.
    repo.set("AIRLOCK_SETUP", "mkdir -p deps/bin; cp a.txt copy; cat copy > a.txt; rm copy; touch deps/bin/again");
    repo.write("a.txt", "of the setup's commit\n");
    repo.git(&["commit", "-qam", "before"]);
    run(&repo, "test -e deps/bin/again").ok();
    repo.write("a.txt", "of a later commit\n");
    repo.git(&["commit", "-qam", "after"]);
    assert_eq!(run(&repo, "cat a.txt; ls deps/bin; git status --short").ok().stdout, "of a later commit\nagain\n");
    // The variables of a run are not those of the setup.
    repo.set("AIRLOCK_SETUP", "mkdir -p deps/bin; env > deps/bin/env");
    let leaked = repo.airlock(&["run", "--env", "SECRET=of-one-run", "--", "grep", "-c", "of-one-run", "deps/bin/env"]);
    assert_eq!(leaked.stdout, "0\n", "{}", leaked.stderr);
    repo.set("AIRLOCK_SETUP", "none");
    repo.git(&["rm", "-q", "--cached", "deps/own"]);
    std::fs::remove_dir_all(repo.path.join("deps")).expect("removed");
    repo.commit();
    assert_eq!(run(&repo, "ls deps 2>/dev/null || echo none").ok().stdout, "none\n");
}

#[test]
fn work_on_files_of_the_setup_stays_in_its_sandbox() {
    let mut repo = create_repo();
    // Files that the setup wrote are no changes, and neither is their removal.
    let removed = run(&repo, "rm -rf deps; echo new > a.txt; test ! -e deps");
    let name = removed
        .ok()
        .stderr
        .lines()
        .find_map(|line| line.strip_prefix("airlock: kept. Next: airlock review "))
        .expect("kept")
        .to_owned();
    assert_eq!(repo.changes(&name), [("a.txt".to_owned(), "modified".to_owned())]);
    let edited = run(&repo, "echo evil > deps/bin/tool; echo evil > deps/more").ok();
    assert!(edited.stderr.contains("ignored new files (deps/)"), "{}", edited.stderr);
    // A directory that is moved away is new where it is not ignored, and so is a directory in place of a file.
    repo.airlock(&[
        "run",
        "--name",
        "moved",
        "--review",
        "never",
        "--",
        "sh",
        "-euc",
        "mv deps moved; mkdir -p deps/lock",
    ])
    .ok();
    let expected = [("moved/bin/tool", "added"), ("moved/lock", "added")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(repo.changes("moved"), expected);
    assert_eq!(run(&repo, "cat deps/bin/tool deps/lock; ls deps").ok().stdout, "#!/bin/sh\none\nbin\nlock\n");
    // A sandbox is resumed over the same layer.
    let resumed = repo
        .airlock(&[
            "resume",
            &name,
            "--review",
            "never",
            "--",
            "sh",
            "-c",
            "ls deps 2>/dev/null || echo none; cat a.txt",
        ])
        .ok();
    assert_eq!(resumed.stdout, "none\nnew\n");
    let status = repo.airlock(&["status", "moved"]).ok().stdout;
    assert!(status.contains("the ignored files that `mkdir -p deps/bin"), "{status}");
    // A copied workspace has no layers, and says so.
    repo.set("AIRLOCK_WORKSPACE", "copy");
    let copied = run(&repo, "ls deps 2>/dev/null || echo none").ok();
    assert_eq!(copied.stdout, "none\n");
    assert!(copied.stderr.contains("a copied workspace has no setup"), "{}", copied.stderr);
}

#[test]
fn failed_setup_seals_nothing() {
    let mut repo = create_repo();
    for (setup, message) in [
        ("mkdir deps; echo half > deps/x; echo wrong >&2; exit 7", "ended with status 7"),
        ("mkdir deps; echo x > a.txt; rm c.txt; touch new", "changed files that are not ignored: a.txt, c.txt, new"),
        ("mkdir deps; head -c 40m /dev/zero > deps/x; sleep 600", "disk"),
    ] {
        repo.set("AIRLOCK_SETUP", setup);
        let failed = repo.airlock(&["run", "--name", "w", "--disk", "20m", "--", "true"]);
        assert_eq!(failed.status, 125, "{failed:?}");
        assert!(failed.stderr.contains(message) && failed.stderr.contains("--no-setup"), "{}", failed.stderr);
        let kept = failed
            .stderr
            .split("the sandbox ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .expect("kept")
            .to_owned();
        assert!(list_layers(&repo).is_empty());
        assert_eq!(list_volumes(&repo).len(), 1, "it can be looked at");
        let looked = repo.airlock(&["resume", &kept, "--review", "never", "--disk", "1g", "--", "ls", "deps"]);
        assert_eq!(looked.ok().stdout.contains('x'), setup.contains("deps/x"));
        repo.airlock(&["run", "--no-setup", "--", "true"]).ok();
        repo.airlock(&["rm", "--force", &kept]).ok();
        assert!(list_volumes(&repo).is_empty());
    }

    // Ctrl-C while it runs.
    repo.set("AIRLOCK_SETUP", "mkdir deps; echo running; sleep 600");
    let mut terminal = Terminal::start(&repo, &["run", "--", "true"]);
    terminal.shows("running");
    terminal.types("\x03");
    let status = terminal.child.wait().expect("it ends");
    assert!(!status.success());
    assert!(list_layers(&repo).is_empty() && list_volumes(&repo).is_empty());
    assert_eq!(repo.airlock(&["ls"]).ok().stdout, "");
}

#[test]
fn concurrent_first_starts_run_the_setup_once() {
    let mut repo = create_repo();
    repo.set("AIRLOCK_SETUP", "mkdir -p deps; echo x > deps/lock; echo prepared");
    let start = || {
        let mut command = repo.command(AIRLOCK, &["run", "--", "cat", "deps/lock"]);
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().expect("it runs")
    };
    let started: Vec<_> = (0..3).map(|_| start()).collect();
    let ran = started.into_iter().map(|child| CommandOutput::from(child.wait_with_output().expect("it ends")));
    let ran: Vec<CommandOutput> = ran.map(CommandOutput::ok).collect();
    assert!(ran.iter().all(|output| output.stdout == "x\n"), "{ran:?}");
    assert_eq!(ran.iter().filter(|output| output.stderr.contains("\nprepared\n")).count(), 1, "{ran:?}");
    assert_eq!((list_layers(&repo).len(), list_volumes(&repo).len()), (1, 1));
}

#[test]
fn setup_of_the_repository_is_asked_once() {
    let mut repo = create_repo();
    repo.unset("AIRLOCK_SETUP");
    repo.write(".airlock.toml", "setup = \"mkdir -p deps && echo from-toml > deps/lock\"\n");
    repo.commit();
    assert_eq!(run(&repo, "cat deps/lock 2>/dev/null || echo none").ok().stdout, "none\n");
    let mut terminal = Terminal::start(&repo, &["run", "--", "cat", "deps/lock"]);
    terminal.shows("Run `mkdir -p deps && echo from-toml > deps/lock` once in a sandbox");
    terminal.types("y\r");
    terminal.shows("from-toml");
    terminal.child.wait().expect("it ends");
    assert_eq!(run(&repo, "cat deps/lock").ok().stdout, "from-toml\n");
    repo.write(".airlock.toml", "setup = \"mkdir -p deps && echo evil > deps/lock\"\n");
    repo.commit();
    assert_eq!(
        run(&repo, "cat deps/lock 2>/dev/null || echo none").ok().stdout,
        "none\n",
        "another command, another answer"
    );
}

#[test]
fn gc_keeps_used_layers_and_removes_old_ones_and_orphans() {
    let mut repo = create_repo();
    for n in 0..7 {
        repo.set("AIRLOCK_SETUP", format!("mkdir -p deps; echo {n} > deps/lock"));
        let keep = if n == 0 { &["--keep", "run", "--name", "first"][..] } else { &["run"] };
        repo.airlock(&[keep, &["--review", "never", "--", "true"]].concat()).ok();
    }
    assert_eq!(list_layers(&repo).len(), 7);
    let id = airlock::base::repository_id(&repo.path.join(".git")).expect("an id");
    let label = format!("dev.airlock.repo={id}");
    let orphan = [
        "volume",
        "create",
        "--label",
        &label,
        "--label",
        "dev.airlock.layer=0123456789abcdef",
        "airlock-setup-0123456789abcdef",
    ];
    CommandOutput::from_command(repo.command("docker", &orphan)).ok();
    let collected = repo.airlock(&["gc"]).ok();
    assert!(
        collected.stderr.contains("removed the setup layer of `mkdir -p deps; echo 1 > deps/lock`"),
        "{}",
        collected.stderr
    );
    // Five, and the one that a sandbox uses.
    let left: Vec<String> = list_layers(&repo).into_iter().map(|layer| layer.command).collect();
    assert_eq!((left.len(), left.iter().any(|command| command.contains("echo 0 "))), (6, true), "{left:?}");
    assert_eq!(list_volumes(&repo).len(), 6);
    // A volume that is gone is made again.
    let volume = format!("airlock-setup-{}", list_layers(&repo)[0].id);
    assert!(Command::new("docker").args(["volume", "rm", &volume]).status().expect("it runs").success());
    assert!(run(&repo, "cat deps/lock").ok().stderr.contains("this happens once"));
    let mut dry = repo.command(AIRLOCK, &["gc", "--dry-run"]);
    dry.env("AIRLOCK_BASES", "9");
    assert!(!CommandOutput::from_command(dry).ok().stderr.contains("airlock-setup-"));
}
