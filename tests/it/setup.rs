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

/// Returns the name of the sandbox that a run kept.
fn kept_name(output: &CommandOutput) -> String {
    let next = output.stderr.lines().find_map(|line| line.strip_prefix("airlock: kept. Next: airlock review "));
    next.expect("kept").to_owned()
}

#[test]
fn setup_runs_once_and_its_result_is_shared() {
    let mut repo = create_repo();
    let look = "cat deps/lock; test -s deps/bin/tool; git log --format=%s | head -n 1; git config core.hooksPath || echo none; ls ~/.planted 2>/dev/null || echo none; git status --short";
    let before = repo.git(&["log", "-1", "--format=%s"]);
    let expected = format!("one\n{before}none\nnone\n");
    let first = run(&repo, look).ok();
    assert_eq!(first.stdout, expected, "the output of the setup is not the agent's");
    assert!(
        first.stderr.contains("later sandboxes have its result") && first.stderr.contains("\nprepared\n"),
        "{}",
        first.stderr
    );
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
    let repo = create_repo();
    // Files that the setup wrote are no changes, and neither is their removal.
    let removed = run(&repo, "rm -rf deps; echo new > a.txt; test ! -e deps");
    let name = kept_name(&removed.ok());
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
}

/// A setup below a tracked directory that also fills caches of tools, and leaves other files in the home.
const NESTED: &str = "mkdir -p web/deps ~/.cargo/registry/cache ~/go/pkg/mod/a@v1; echo tool > web/deps/tool; ln -s tool web/deps/link; mkfifo web/deps/pipe; chmod 555 ~/go/pkg/mod/a@v1; echo crate > ~/.cargo/registry/cache/x; echo '[build]' > ~/.cargo/config.toml; echo evil >> ~/.bashrc; echo prepared";

#[test]
fn copied_workspace_and_overlay_have_the_same_layer() {
    let mut repo = create_repo();
    repo.write("web/index.js", "1\n");
    repo.commit();
    repo.set("AIRLOCK_SETUP", NESTED);
    let look = "cat web/deps/tool web/deps/link web/index.js ~/.cargo/registry/cache/x; ls -a ~/.cargo ~/go/pkg/mod | tr '\\n' ' '; test ! -e ~/.bashrc; echo more >> ~/.cargo/registry/cache/x; git status --short";
    let expected =
        "tool\ntool\n1\ncrate\n/home/agent/.cargo:\n.\n..\nregistry\n\n/home/agent/go/pkg/mod:\n.\n..\na@v1\n";
    for (workspace, runs) in [("copy", 1), ("overlay", 0), ("copy", 0)] {
        if runs == 0 && workspace == "overlay" {
            // A layer that was made by copying is one for overlays as well; and the other way around below.
            assert_eq!(list_layers(&repo).len(), 1);
        }
        repo.set("AIRLOCK_WORKSPACE", workspace);
        for n in 0..2 {
            let ran = run(&repo, look).ok();
            assert_eq!(ran.stdout.replace(' ', "\n"), expected, "{workspace}: {}", ran.stderr);
            assert_eq!(ran.stderr.contains("\nprepared\n"), runs == 1 && n == 0, "{}", ran.stderr);
            assert!(ran.stderr.contains("changed nothing, so it is removed"), "{workspace}: {}", ran.stderr);
        }
    }
    let layers = list_layers(&repo);
    assert_eq!((layers.len(), layers[0].has_home), (1, true));
    assert_eq!(layers[0].paths.iter().map(|path| path.as_bytes()).collect::<Vec<_>>(), [b"web/deps"]);

    // Work on the files is seen, kept, and stays in its sandbox, as in an overlay.
    for workspace in ["copy", "overlay"] {
        repo.set("AIRLOCK_WORKSPACE", workspace);
        let edited = run(&repo, "echo evil > web/deps/more; echo new > web/index.js").ok();
        assert!(edited.stderr.contains("ignored new files (web/deps/"), "{workspace}: {}", edited.stderr);
        let name = kept_name(&edited);
        assert_eq!(repo.changes(&name), [("web/index.js".to_owned(), "modified".to_owned())], "{workspace}");
        let resumed = repo.airlock(&[
            "resume",
            &name,
            "--review",
            "never",
            "--",
            "sh",
            "-c",
            "cat web/deps/more ~/.cargo/registry/cache/x",
        ]);
        assert_eq!(resumed.ok().stdout, "evil\ncrate\n");
        repo.airlock(&["rm", "--force", &name]).ok();
    }

    // What an overlay left is a layer for copies.
    repo.set("AIRLOCK_SETUP", format!("{NESTED} again"));
    run(&repo, "true").ok();
    repo.set("AIRLOCK_WORKSPACE", "copy");
    let later = run(&repo, look).ok();
    assert!(!later.stderr.contains("\nprepared"), "{}", later.stderr);
    assert_eq!(later.stdout.replace(' ', "\n"), expected);

    // A sparse file is larger than its blocks, and is not copied beyond the limit of the disk.
    repo.set("AIRLOCK_SETUP", "mkdir -p web/deps; truncate -s 200m web/deps/sparse");
    let sparse = repo.airlock(&["run", "--disk", "20m", "--", "true"]);
    assert_eq!(sparse.status, 125, "{}", sparse.stderr);
    assert!(sparse.stderr.contains("exceed the limit"), "{}", sparse.stderr);
    assert_eq!((list_layers(&repo).len(), list_volumes(&repo).len()), (2, 2));
}

#[test]
fn setup_runs_by_hand() {
    let mut repo = create_repo();
    let shown = repo.airlock(&["setup", "--show"]).ok().stdout;
    assert!(shown.contains("(your configuration), run before the agent\n") && !shown.contains("layer:"), "{shown}");
    let ran = repo.airlock(&["setup"]).ok();
    assert!(ran.stderr.contains("\nprepared\n"), "{}", ran.stderr);
    assert!(ran.stdout.starts_with("deps (") && ran.stdout.contains("made just now"), "{}", ran.stdout);
    assert!(!repo.airlock(&["setup"]).ok().stderr.contains("\nprepared\n"));
    let again: serde_json::Value =
        serde_json::from_str(&repo.airlock(&["setup", "--again", "--json"]).ok().stdout).expect("JSON");
    assert_eq!((again["layer"]["paths"][0].as_str(), list_layers(&repo).len()), (Some("deps"), 1));
    assert_eq!(list_volumes(&repo).len(), 2, "the old one may be in use");
    repo.airlock(&["gc"]).ok();
    assert_eq!(list_volumes(&repo).len(), 1);
    assert_eq!(run(&repo, "cat deps/lock").ok().stdout, "one\n");
    let listed: serde_json::Value = serde_json::from_str(&repo.airlock(&["ls", "--json"]).ok().stdout).expect("JSON");
    assert_eq!(listed["setup_layers"], 1);
    repo.airlock(&["setup", "--decline"]).expect_failure(1, &["it is in your configuration", "--no-setup"]);

    // What a repository asks for is run by hand, and declined, without a terminal.
    repo.unset("AIRLOCK_SETUP");
    repo.airlock(&["setup"]).expect_failure(1, &["nothing in this repository calls for a setup", ".airlock.toml"]);
    repo.write(".airlock.toml", "setup = \"mkdir -p deps; echo asked > deps/lock\"\n");
    repo.commit();
    let state = |repo: &TestRepo| {
        let shown = repo.airlock(&["setup", "--show", "--json"]).ok().stdout;
        serde_json::from_str::<serde_json::Value>(&shown).expect("JSON")["setup"]["accepted"].clone()
    };
    assert!(state(&repo).is_null());
    repo.airlock(&["setup"]).ok();
    assert_eq!((state(&repo), run(&repo, "cat deps/lock").ok().stdout.as_str()), (true.into(), "asked\n"));
    repo.airlock(&["setup", "--decline"]).ok();
    assert_eq!(run(&repo, "ls deps 2>/dev/null || echo none").ok().stdout, "none\n");
    assert_eq!(state(&repo), false);
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
    assert!(run(&repo, "cat deps/lock").ok().stderr.contains("later sandboxes have its result"));
    let mut dry = repo.command(AIRLOCK, &["gc", "--dry-run"]);
    dry.env("AIRLOCK_BASES", "9");
    assert!(!CommandOutput::from_command(dry).ok().stderr.contains("airlock-setup-"));
}
