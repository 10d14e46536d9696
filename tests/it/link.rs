//! Airlock under the name `claude`: what it answers on this machine, and the link itself.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::support::{AIRLOCK, CommandOutput, TestRepo};

/// A directory with a link named `claude` to Airlock, and another one with a program of that name, which prints its arguments
/// and its directory.
struct Link {
    repo: TestRepo,
    link: PathBuf,
    program: PathBuf,
}

impl Link {
    fn new() -> Self {
        let mut repo = TestRepo::new();
        let (ours, theirs) = (repo.directory().join("ours"), repo.directory().join("theirs"));
        for dir in [&ours, &theirs] {
            std::fs::create_dir_all(dir).expect("made");
        }
        symlink(AIRLOCK, ours.join("claude")).expect("made");
        let program = theirs.join("claude");
        std::fs::write(&program, "#!/bin/sh\necho \"real: $* in $(pwd)\"\nexit 7\n").expect("written");
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("set");
        repo.set("PATH", format!("{}:{}:/usr/bin:/bin", ours.display(), theirs.display()));
        // Neither an engine nor a credential is needed.
        repo.set("DOCKER_HOST", "unix:///nonexistent/docker.sock");
        Self { link: ours.join("claude"), program, repo }
    }

    fn run_in(&self, dir: &Path, args: &[&str]) -> CommandOutput {
        let mut command = self.repo.command(&self.link, args);
        command.current_dir(dir);
        CommandOutput::from_command(command)
    }
}

#[test]
fn version_and_help_answer_anywhere() {
    let mut link = Link::new();
    let outside = tempfile::tempdir().expect("a directory");
    for dir in [outside.path().to_owned(), link.repo.path.clone()] {
        for args in [["--version"], ["-v"]] {
            let shown = link.run_in(&dir, &args).ok();
            assert_eq!((shown.stdout.as_str(), shown.stderr.as_str()), ("2.1.197 (Claude Code)\n", ""));
        }
        let help = link.run_in(&dir, &["--help"]).ok();
        assert!(help.stdout.starts_with("Usage: claude ") && help.stderr.is_empty(), "{}", help.stderr);
    }
    link.repo.set("AIRLOCK_CLAUDE_VERSION", "2.1.150");
    assert_eq!(link.run_in(outside.path(), &["--version"]).ok().stdout, "2.1.150 (Claude Code)\n");
    link.repo.set("AIRLOCK_CLAUDE_VERSION", "latest");
    assert_eq!(link.run_in(outside.path(), &["--version"]).ok().stdout, "2.1.197 (Claude Code)\n");
}

#[test]
fn subcommands_of_this_machine_run_outside_a_sandbox() {
    let link = Link::new();
    // Claude Code starts programs that a project names, so the project is not its directory.
    for args in ["setup-token", "update", "doctor", "install stable", "mcp list", "auth status", "plugin list"] {
        let ran = link.run_in(&link.repo.path, &args.split(' ').collect::<Vec<_>>());
        assert_eq!((ran.status, ran.stdout.as_str()), (7, format!("real: {args} in /\n").as_str()), "{}", ran.stderr);
        assert!(ran.stderr.contains("runs outside a sandbox"), "{}", ran.stderr);
    }
    let here = link.repo.path.display();
    let ran = link.run_in(&link.repo.path, &["mcp", "add", "x", "--", "true"]);
    assert_eq!(ran.stdout, format!("real: mcp add x -- true in {here}\n"));
    for args in
        ["agents", "mcp serve", "remote-control", "ultrareview 12", "login", "config", "update -p hello", "doctor --bg"]
    {
        let refused = link.run_in(&link.repo.path, &args.split(' ').collect::<Vec<_>>());
        refused.expect_failure(125, &["is not run:", "use the path of Claude Code itself"]);
    }
    // Behind an option, Claude Code takes the word for a prompt: it is one for the sandbox, which has no engine here.
    for args in ["-p update", "--model x mcp list", "-pn mcp update", "--max-thinking-tokens update go"] {
        let inside = link.run_in(&link.repo.path, &args.split(' ').collect::<Vec<_>>());
        assert!(inside.status == 125 && !inside.stdout.contains("real:"), "{args}: {inside:?}");
    }
    link.run_in(&link.repo.path, &["--bg", "update"]).expect_failure(125, &["--bg cannot be used in a sandbox"]);
    link.run_in(&link.repo.path, &["--bg", "hello"]).expect_failure(125, &["--bg cannot be used in a sandbox"]);
    std::fs::remove_file(&link.program).expect("removed");
    for (command, hint) in
        [("update", "airlock image update"), ("doctor", "airlock doctor"), ("setup-token", "npm install")]
    {
        let refused = link.run_in(&link.repo.path, &[command]);
        refused.expect_failure(125, &["changes this machine, and no Claude Code is on its PATH", hint]);
    }
}

#[test]
fn link_is_made_checked_and_removed() {
    let mut link = Link::new();
    let (bin, home) = (link.repo.directory().join("bin"), link.repo.directory().join("home"));
    let made = link.repo.airlock(&["link", bin.to_str().expect("UTF-8")]).ok();
    assert!(made.stdout.contains("/bin/claude -> "), "{}", made.stdout);
    // The other link comes first, and is Airlock as well.
    assert!(made.stderr.contains("`claude` runs in a sandbox from now on"), "{}", made.stderr);
    assert!(made.stderr.contains("still run") && made.stderr.contains("/theirs/claude"), "{}", made.stderr);
    let theirs = link.program.parent().expect("a parent").to_owned();
    link.repo.set("PATH", format!("{}:{}:/usr/bin:/bin", theirs.display(), bin.display()));
    let later = link.repo.airlock(&["link", bin.to_str().expect("UTF-8")]).ok();
    assert!(later.stderr.contains("/theirs/claude comes first on your PATH"), "{}", later.stderr);
    assert!(later.stderr.contains(&format!("export PATH=\"{}:$PATH\"", bin.display())), "{}", later.stderr);
    link.repo
        .airlock(&["link", theirs.to_str().expect("UTF-8")])
        .expect_failure(1, &["exists, and is not Airlock: it is not replaced", "earlier on your PATH"]);
    assert!(std::fs::read_to_string(&link.program).expect("read").contains("real:"));
    link.repo
        .airlock(&["link", "--remove", theirs.to_str().expect("UTF-8")])
        .expect_failure(1, &["not a link of Airlock"]);
    link.repo.airlock(&["link", "--remove", bin.to_str().expect("UTF-8")]).ok();
    assert!(!bin.join("claude").exists());

    // By default the directory is that of the user.
    link.repo.set("PATH", format!("{0}/bin:{0}/.local/bin:/usr/bin:/bin", home.display()));
    let default = link.repo.airlock(&["link"]).ok();
    assert!(default.stdout.starts_with(&format!("{}/bin/claude -> ", home.display())), "{}", default.stdout);
    symlink("/nonexistent", home.join("dangling")).expect("made");
    std::fs::remove_file(home.join("bin/claude")).expect("removed");
    std::fs::rename(home.join("dangling"), home.join("bin/claude")).expect("renamed");
    link.repo.airlock(&["link"]).ok();
    assert!(home.join("bin/claude").exists(), "a link that leads nowhere is replaced");
}
