//! Tests of cases from public bug reports about other tools, and of similar cases.

use std::fs;
use std::process::Stdio;

use insta::assert_snapshot;
use portable_pty::CommandBuilder;

use crate::support::{AIRLOCK, CommandOutput, TestRepo};
use crate::terminal::Terminal;

/// Configures the author of commits.
fn set_identity(repo: &TestRepo) {
    repo.git(&["config", "user.name", "Ann"]);
    repo.git(&["config", "user.email", "ann@example.org"]);
}

/// Creates a repository with a stand-in for git-crypt: the content that git stores differs from the working tree.
fn create_filtered_repo() -> TestRepo {
    let repo = TestRepo::empty();
    set_identity(&repo);
    for direction in ["clean", "smudge"] {
        repo.git(&["config", &format!("filter.rot.{direction}"), "tr a-z n-za-m"]);
    }
    repo.git(&["config", "filter.rot.required", "true"]);
    repo.write(".gitattributes", "secret/** filter=rot\n");
    repo.write("secret/old", "hello\nworld\n");
    repo.write("plain", "text\n");
    repo.commit();
    assert_eq!(repo.git(&["cat-file", "blob", "HEAD:secret/old"]), "uryyb\njbeyq\n");
    repo
}

#[test]
fn export_refuses_filtered_content() {
    let repo = create_filtered_repo();
    let script = "cat secret/old; echo password > secret/new; echo x > plain";
    let ran = repo.airlock(&["run", "--name", "c", "--", "sh", "-c", script]).ok();
    assert_eq!(ran.stdout, "uryyb\njbeyq\n", "as git stores it");
    assert!(ran.stderr.contains("1 file in git's stored form, such as secret/old"), "{}", ran.stderr);
    assert!(repo.airlock(&["status", "c"]).ok().stdout.contains("1 file is in the form that git stores (secret/old)"));
    let memory = repo.airlock(&["run", "--", "sh", "-c", "cat ~/.claude/CLAUDE.md"]).ok().stdout;
    assert!(memory.contains("in the form that git stores (secret/old)"), "{memory}");
    assert_snapshot!(repo.airlock(&["apply", "c", "--accept-all", "--allow-risky", "--to", "branch:x"]), @"
    status: 1
    ----- stderr -----
    error: failed to convert secret/new as its attributes require: git stores the output of the filter rot, which Airlock does not run
    ");
    assert_snapshot!(repo.airlock(&["apply", "c", "--accept-all", "--allow-risky", "--to", "patch:-"]), @"
    status: 1
    ----- stderr -----
    error: failed to convert secret/new as its attributes require: git stores the output of the filter rot, which Airlock does not run
    ");
    assert_eq!(repo.git(&["branch", "--list", "x"]), "");
    repo.airlock(&["apply", "c", "--accept", "plain", "--to", "branch:y"]).ok();

    // Attributes in the changes count as well, because git would use them.
    repo.sandbox("own", "echo 's2 filter=rot' >> .gitattributes; echo password > s2").ok();
    repo.sandbox("deep", "mkdir k; echo '* filter=rot' > k/.gitattributes; echo password > k/s3").ok();
    assert_snapshot!(repo.airlock(&["apply", "own", "--accept-all", "--allow-risky", "--to", "branch:x"]), @"
    status: 1
    ----- stderr -----
    error: failed to convert s2 as its attributes require: git stores the output of the filter rot, which Airlock does not run
    ");
    assert_snapshot!(repo.airlock(&["apply", "own", "--accept-all", "--allow-risky", "--to", "patch:-"]), @"
    status: 1
    ----- stderr -----
    error: failed to convert s2 as its attributes require: git stores the output of the filter rot, which Airlock does not run
    ");
    assert_snapshot!(repo.airlock(&["diff", "own", "--patch"]), @"
    status: 1
    ----- stdout -----
    diff --git a/.gitattributes b/.gitattributes
    index [COMMIT]..[COMMIT] 100644
    --- a/.gitattributes
    +++ b/.gitattributes
    @@ -1 +1,2 @@
     secret/** filter=rot
    +s2 filter=rot
    ----- stderr -----
    error: failed to convert s2 as its attributes require: git stores the output of the filter rot, which Airlock does not run
    ");
    assert_snapshot!(repo.airlock(&["apply", "deep", "--accept-all", "--allow-risky", "--to", "branch:x"]), @"
    status: 1
    ----- stderr -----
    error: failed to convert k/.gitattributes as its attributes require: git stores the output of the filter rot, which Airlock does not run
    ");
    assert_snapshot!(repo.airlock(&["apply", "deep", "--accept-all", "--allow-risky", "--to", "patch:-"]), @"
    status: 1
    ----- stderr -----
    error: failed to convert k/.gitattributes as its attributes require: git stores the output of the filter rot, which Airlock does not run
    ");
    assert_snapshot!(repo.airlock(&["diff", "deep", "--patch"]), @"
    status: 1
    ----- stderr -----
    error: failed to convert k/.gitattributes as its attributes require: git stores the output of the filter rot, which Airlock does not run
    ");
    assert_eq!(repo.git(&["branch", "--list", "x"]), "");
}

#[test]
fn apply_keeps_lines_stripped_by_filter() {
    let repo = TestRepo::empty();
    set_identity(&repo);
    repo.git(&["config", "filter.strip.clean", "grep -v ^OUT"]);
    repo.write(".gitattributes", "*.nb filter=strip\n");
    repo.write("n.nb", "OUT 1\nin\nOUT 2\nend\n");
    repo.write("gone.nb", "OUT 1\nin\n");
    repo.commit();
    repo.changeset("f", "sed -i s/^in/IN/ n.nb");
    repo.airlock(&["apply", "f", "--accept-all"]).ok();
    assert_eq!(repo.read("n.nb"), "OUT 1\nIN\nOUT 2\nend\n");
    repo.airlock(&["undo"]).ok();
    assert_eq!(repo.read("n.nb"), "OUT 1\nin\nOUT 2\nend\n");
    repo.changeset("d", "rm gone.nb");
    assert_snapshot!(repo.airlock(&["apply", "d", "--accept-all"]), @"
    status: 4
    ----- stdout -----
      conflict   gone.nb  it would be deleted, but a filter converts it, so Airlock cannot detect whether you changed it

    gone.nb: it would be deleted, but a filter converts it, so Airlock cannot detect whether you changed it
      base                │ a file, 3 bytes, sha256 ab5080369a96…
      ours (working tree) │ a file, 9 bytes, sha256 8c40f1022760…
      theirs (accepted)   │ nothing
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    ");
}

#[test]
fn apply_explains_conflict_under_filter() {
    let repo = create_filtered_repo();
    repo.changeset("f", "sed -i s/jbeyq/WBEYQ/ secret/old");
    assert_snapshot!(repo.airlock(&["apply", "f", "--accept-all"]), @"
    status: 4
    ----- stdout -----
      conflict   secret/old  both sides changed it, and the sandbox has the form that git stores, while your working tree has the output of a filter

    secret/old: both sides changed it, and the sandbox has the form that git stores, while your working tree has the output of a filter
      base, lines 1 to 2
      │ uryyb
      │ jbeyq
      ours (working tree), lines 1 to 2
      │ hello
      │ world
      theirs (accepted), lines 1 to 2
      │ uryyb
      │ WBEYQ
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    ");
    assert_eq!(repo.read("secret/old"), "hello\nworld\n");
    // Markers would mix both forms in one file.
    assert_snapshot!(repo.airlock(&["apply", "f", "--accept-all", "--on-conflict", "markers"]), @"
    status: 4
    ----- stdout -----
      conflict   secret/old  both sides changed it, and the sandbox has the form that git stores, while your working tree has the output of a filter

    secret/old: both sides changed it, and the sandbox has the form that git stores, while your working tree has the output of a filter
      base, lines 1 to 2
      │ uryyb
      │ jbeyq
      ours (working tree), lines 1 to 2
      │ hello
      │ world
      theirs (accepted), lines 1 to 2
      │ uryyb
      │ WBEYQ
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    ");
    assert_eq!(repo.read("secret/old"), "hello\nworld\n");
}

#[test]
fn merge_follows_git_attributes() {
    let repo = TestRepo::empty();
    set_identity(&repo);
    repo.write(
        ".gitattributes",
        "*.lock -merge\n*.po merge=binary\nCHANGES merge=union\n*.json merge=npm\n*.x merge=undefined\n",
    );
    repo.git(&["config", "merge.npm.driver", "false"]);
    let lines: String = (1..=9).map(|n| format!("{n}\n")).collect();
    for name in ["x.lock", "x.po", "CHANGES", "p.json", "a.x"] {
        repo.write(name, &lines);
    }
    repo.commit();
    repo.changeset("m", "sed -i 1s/.*/agent/ x.lock x.po p.json a.x; echo agent >> CHANGES");
    for name in ["x.lock", "x.po", "p.json", "a.x"] {
        repo.write(name, lines.replace("9\n", "mine\n"));
    }
    repo.write("CHANGES", lines.clone() + "mine\n");
    assert_snapshot!(repo.airlock(&["apply", "m", "--accept", "x.lock", "--allow-risky"]), @"
    status: 4
    ----- stdout -----
      conflict   x.lock  both sides changed it, and its `merge` attribute forbids merging by line

    x.lock: both sides changed it, and its `merge` attribute forbids merging by line
      base                │ a file, 18 bytes, sha256 90cdaf13f564…
      ours (working tree) │ a file, 21 bytes, sha256 7bc1feb8283e…
      theirs (accepted)   │ a file, 22 bytes, sha256 5c109f3dd428…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review m` and press x
    ");
    assert_snapshot!(repo.airlock(&["apply", "m", "--accept", "x.po", "--allow-risky"]), @"
    status: 4
    ----- stdout -----
      conflict   x.po  both sides changed it, and its `merge` attribute forbids merging by line

    x.po: both sides changed it, and its `merge` attribute forbids merging by line
      base                │ a file, 18 bytes, sha256 90cdaf13f564…
      ours (working tree) │ a file, 21 bytes, sha256 7bc1feb8283e…
      theirs (accepted)   │ a file, 22 bytes, sha256 5c109f3dd428…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review m` and press x
    ");
    assert_snapshot!(repo.airlock(&["apply", "m", "--accept", "p.json", "--allow-risky"]), @"
    status: 4
    ----- stdout -----
      conflict   p.json  both sides changed it, and its attributes specify a merge driver, which Airlock does not run

    p.json: both sides changed it, and its attributes specify a merge driver, which Airlock does not run
      base                │ a file, 18 bytes, sha256 90cdaf13f564…
      ours (working tree) │ a file, 21 bytes, sha256 7bc1feb8283e…
      theirs (accepted)   │ a file, 22 bytes, sha256 5c109f3dd428…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review m` and press x
    ");
    for path in ["x.lock", "x.po", "p.json"] {
        assert!(repo.read(path).starts_with("1\n"), "nothing is written");
    }
    // For a driver that is not defined, git merges by line.
    assert_snapshot!(repo.airlock(&["apply", "m", "--accept", "a.x", "--allow-risky"]), @"
    status: 0
    ----- stdout -----
      merged     a.x  with your edits of line 9
    ----- stderr -----
    airlock: 1 of 5 files applied. Undo: airlock undo m · Next: airlock review m, or airlock rm m
    ");
    assert_eq!(repo.read("a.x"), lines.replace("1\n", "agent\n").replace("9\n", "mine\n"));
    assert_snapshot!(repo.airlock(&["apply", "m", "--accept", "CHANGES", "--allow-risky"]), @"
    status: 0
    ----- stdout -----
      merged     CHANGES  with your edits of line 10
    ----- stderr -----
    airlock: 1 of 5 files applied. Undo: airlock undo m · Next: airlock review m, or airlock rm m
    ");
    let merged = repo.read("CHANGES");
    assert!(merged.starts_with(&lines) && merged.contains("mine\n") && merged.contains("agent\n"), "{merged}");
}

#[test]
fn undo_and_dirty_tree_follow_git_attributes() {
    let repo = TestRepo::empty();
    set_identity(&repo);
    let lines: String = (1..=9).map(|n| format!("{n}\n")).collect();
    repo.write(".gitattributes", "w -merge\n");
    repo.write("w", &lines);
    repo.write("sub/v", &lines);
    repo.commit();
    repo.changeset("w", "sed -i 1s/.*/agent/ w");
    repo.airlock(&["apply", "w", "--accept-all"]).ok();
    repo.write("w", repo.read("w").replace("9\n", "mine\n"));
    assert_snapshot!(repo.airlock(&["undo", "w"]), @"
    status: 4
    ----- stdout -----
      conflict   w  both sides changed it, and its `merge` attribute forbids merging by line

    w: both sides changed it, and its `merge` attribute forbids merging by line
      base (as applied)         │ a file, 22 bytes, sha256 5c109f3dd428…
      ours (working tree)       │ a file, 25 bytes, sha256 d9082b023a43…
      theirs (before the apply) │ a file, 18 bytes, sha256 90cdaf13f564…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: the previous content of w is in [TMP]/repo/.git/airlock/applies/000001/staged/0
    ");
    assert_eq!(repo.read("w"), lines.replace("1\n", "agent\n").replace("9\n", "mine\n"));

    repo.changeset("v", "sed -i 1s/.*/agent/ sub/v");
    repo.write("sub/v", lines.replace("9\n", "mine\n"));
    repo.write("sub/.gitattributes", "v -merge\n");
    assert_snapshot!(repo.airlock(&["apply", "v", "--accept-all"]), @"
    status: 4
    ----- stdout -----
      conflict   sub/v  both sides changed it, and its `merge` attribute forbids merging by line

    sub/v: both sides changed it, and its `merge` attribute forbids merging by line
      base                │ a file, 18 bytes, sha256 90cdaf13f564…
      ours (working tree) │ a file, 21 bytes, sha256 7bc1feb8283e…
      theirs (accepted)   │ a file, 22 bytes, sha256 5c109f3dd428…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review v` and press x
    ");
}

#[test]
fn apply_and_undo_work_in_moved_repository() {
    let mut repo = TestRepo::new();
    set_identity(&repo);
    repo.changeset("mv", "echo new > b.txt");
    let moved = repo.path.with_file_name("renamed");
    fs::rename(&repo.path, &moved).expect("moved");
    let old = std::mem::replace(&mut repo.path, moved.clone());
    repo.airlock(&["apply", "mv", "--accept-all"]).ok();
    assert_eq!(repo.read("b.txt"), "new\n");
    repo.airlock(&["undo", "mv"]).ok();
    assert!(!moved.join("b.txt").exists());
    // The old path works as well, as a symlink to the new one.
    std::os::unix::fs::symlink(&moved, &old).expect("made");
    repo.path.clone_from(&old);
    repo.airlock(&["apply", "mv", "--accept-all"]).ok();
    repo.airlock(&["undo", "mv"]).ok();
    repo.path.clone_from(&moved);
    repo.airlock(&["apply", "mv", "--accept-all", "--dry-run"]).ok();
    fs::remove_file(&old).expect("removed");
    // Another working tree of the repository is still refused.
    repo.git(&["worktree", "add", "-q", "../other", "-b", "other"]);
    repo.path = moved.with_file_name("other");
    assert_snapshot!(repo.airlock(&["apply", "mv", "--accept-all"]), @"
    status: 1
    ----- stderr -----
    error: `mv` was created from another working tree of this repository
    hint: that working tree no longer exists; to export to a branch, run `airlock apply mv --accept-all --to branch:mv`
    ");
    repo.path = moved;
    assert!(!old.exists());
}

#[test]
fn run_uses_the_chosen_engine() {
    let mut repo = TestRepo::new();
    repo.unset("DOCKER_HOST");
    repo.set("DOCKER_HOST", "");
    repo.set("DOCKER_CONTEXT", "no-such-context");
    assert_snapshot!(repo.airlock(&["run", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: the docker context no-such-context does not exist
    hint: for a machine that you reach by ssh, use `ssh://no-such-context`; otherwise see `docker context ls`, or run `docker context use default`
    ");
    repo.unset("DOCKER_CONTEXT");
    let folder = repo.path.with_file_name("docker");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("config.json"), r#"{"currentContext":"gone"}"#).expect("written");
    repo.set("DOCKER_CONFIG", folder.to_str().expect("UTF-8"));
    assert_snapshot!(repo.airlock(&["run", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: the docker context gone does not exist
    hint: for a machine that you reach by ssh, use `ssh://gone`; otherwise see `docker context ls`, or run `docker context use default`
    ");
    repo.unset("DOCKER_CONFIG");
    repo.set("DOCKER_HOST", "ssh://nobody@127.0.0.1:1");
    assert_snapshot!(repo.airlock(&["run", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: failed to connect to a container engine; tried ssh://nobody@127.0.0.1:1 (ssh: connect to host 127.0.0.1 port 1: Connection refused)
    hint: check that `ssh HOST docker version` works with this host
    ");
    // If TLS is required, not one byte is sent in plain text.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    repo.set("DOCKER_HOST", format!("tcp://{}", listener.local_addr().expect("an address")));
    repo.set("DOCKER_TLS_VERIFY", "1");
    let first_byte = std::thread::spawn(move || {
        let mut byte = [0];
        let (mut stream, _) = listener.accept().expect("a connection");
        std::io::Read::read_exact(&mut stream, &mut byte).expect("a byte");
        byte
    });
    let words = ["tried tcp://127.0.0.1:", "(TLS)", "hint: check the address, and that the engine listens there"];
    repo.airlock(&["run", "--", "true"]).expect_failure(125, &words);
    // The record of a TLS handshake.
    assert_eq!(first_byte.join().expect("no panic"), [0x16]);
    repo.unset("DOCKER_TLS_VERIFY");
    repo.unset("DOCKER_HOST");
}

#[test]
fn run_trusts_safe_directory_settings() {
    if !rustix::process::geteuid().is_root() {
        let note = "run_trusts_safe_directory_settings: skipped, because only root can change the owner of files\n";
        std::io::Write::write_all(&mut std::io::stdout(), note.as_bytes()).expect("written");
        return;
    }
    let mut repo = TestRepo::new();
    repo.write("sub/x", "x\n");
    repo.commit();
    let root = repo.path.clone();
    let set_owner = |user: &str| {
        let ran = CommandOutput::from_command(repo.command("chown", &["-R", user, root.to_str().expect("UTF-8")]));
        assert_eq!(ran.status, 0, "these tests run as root: {ran:?}");
    };
    set_owner("12345");
    repo.path = root.join("sub");
    assert_snapshot!(repo.airlock(&["run", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: git does not trust [TMP]: it is owned by another user
    hint: to trust it, run `git config --global --add safe.directory [TMP]`
    ");
    let parent = format!("{}/*", root.parent().expect("it has a parent").display());
    CommandOutput::from_command(repo.command("git", &["config", "--global", "--add", "safe.directory", &parent])).ok();
    // Airlock accepts patterns if this version of git does.
    let trusts = CommandOutput::from_command(repo.command("git", &["status", "-s"])).status == 0;
    assert_eq!(repo.airlock(&["run", "--", "true"]).status, if trusts { 0 } else { 125 });
    CommandOutput::from_command(
        repo.command("git", &["config", "--global", "--add", "safe.directory", root.to_str().expect("UTF-8")]),
    )
    .ok();
    repo.airlock(&["run", "--", "true"]).ok();
    // An empty value resets the list of values before it.
    CommandOutput::from_command(repo.command("git", &["config", "--global", "--add", "safe.directory", ""])).ok();
    assert_snapshot!(repo.airlock(&["run", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: git does not trust [TMP]: it is owned by another user
    hint: to trust it, run `git config --global --add safe.directory [TMP]`
    ");
    CommandOutput::from_command(repo.command("git", &["config", "--global", "--add", "safe.directory", "*"])).ok();
    repo.airlock(&["gc"]).ok();
    repo.path = root;
}

#[test]
fn run_ignores_harmless_git_extensions() {
    let repo = TestRepo::new();
    repo.git(&["config", "core.repositoryformatversion", "1"]);
    repo.git(&["config", "extensions.partialClone", "origin"]);
    repo.sandbox("pc", "echo new > b.txt; git log --oneline").ok();
    repo.airlock(&["apply", "pc", "--accept-all"]).ok();
    assert_eq!(repo.read("b.txt"), "new\n");
}

#[test]
fn run_rejects_git_dir_of_another_repository() {
    let mut repo = TestRepo::new();
    let other = repo.path.with_file_name("dot.git");
    CommandOutput::from_command(repo.command("git", &["init", "-q", "--bare", other.to_str().expect("UTF-8")])).ok();
    repo.set("GIT_DIR", other.to_str().expect("UTF-8"));
    assert_snapshot!(repo.airlock(&["run", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: GIT_DIR is set to [TMP]/dot.git, but the current repository is [TMP]/repo/.git
    hint: change to that repository, or run `unset GIT_DIR GIT_WORK_TREE`
    ");
    // A hook sets GIT_DIR to the repository of the working tree.
    repo.set("GIT_DIR", ".git");
    assert_eq!(repo.airlock(&["run", "--", "echo", "well"]).ok().stdout, "well\n");
    repo.unset("GIT_DIR");
}

#[test]
fn branch_commit_uses_git_identity() {
    let mut repo = TestRepo::new();
    repo.git(&["remote", "add", "origin", "https://work.example/x.git"]);
    let home = repo.path.with_file_name("home");
    fs::create_dir_all(&home).expect("made");
    fs::write(
        home.join(".gitconfig"),
        "[user]\n\tname = Private\n\temail = private@example.org\n\
         [includeIf \"hasconfig:remote.*.url:https://work.example/**\"]\n\tpath = w.inc\n",
    )
    .expect("written");
    fs::write(home.join("w.inc"), "[user]\n\tname = Work\n\temail = me@work.example\n").expect("written");
    let script = "git config user.email; echo x > b.txt";
    assert_eq!(
        repo.airlock(&["run", "--name", "id", "--review", "never", "--", "sh", "-c", script]).ok().stdout,
        "me@work.example\n"
    );
    repo.airlock(&["apply", "id", "--accept-all", "--to", "branch:one"]).ok();
    assert_eq!(repo.git(&["log", "-1", "--format=%an <%ae>", "one"]), "Work <me@work.example>\n");
    for (name, value) in [("AUTHOR_NAME", "Env"), ("AUTHOR_EMAIL", "env@example.org"), ("COMMITTER_NAME", "Com")] {
        repo.set(&format!("GIT_{name}"), value);
    }
    repo.airlock(&["apply", "id", "--accept-all", "--to", "branch:two"]).ok();
    assert_eq!(
        repo.git(&["log", "-1", "--format=%an <%ae> %cn <%ce>", "two"]),
        "Env <env@example.org> Com <me@work.example>\n"
    );
}

#[test]
fn diff_loses_nothing_to_failing_pager() {
    let repo = TestRepo::new();
    repo.changeset("pg", "echo new > b.txt");
    for (pager, fails) in
        [("nosuch-pager", true), ("sh -c 'exit 3'", true), ("head -1", false), ("cat >/dev/null", false)]
    {
        let mut command = CommandBuilder::new("sh");
        command.args(["-c", &format!("GIT_PAGER=\"{pager}\" {AIRLOCK} diff pg && echo the e''nd")]);
        let mut terminal = Terminal::run(&repo, command);
        let text = terminal.shows("the end");
        assert_eq!(text.contains("the pager failed"), fails, "{pager}: {text}");
        assert_eq!(text.contains("+new"), fails, "{pager}: {text}");
        assert!(terminal.child.wait().expect("it ends").success(), "{pager}");
    }
    // Output that does not fit into a pipe is not lost either.
    repo.changeset("big", "seq 30000 > big.txt; echo the-last > z.txt");
    for pager in ["nosuch-pager", "sh -c 'exit 3'", "sh -c 'head -c 1000 >/dev/null; exit 3'"] {
        let mut command = CommandBuilder::new("sh");
        command.args(["-c", &format!("GIT_PAGER=\"{pager}\" {AIRLOCK} diff big && echo the e''nd")]);
        let mut terminal = Terminal::run(&repo, command);
        let text = terminal.shows("the end");
        assert!(text.contains("+the-last"), "{pager}: {text}");
        assert!(terminal.child.wait().expect("it ends").success(), "{pager}");
    }
}

#[test]
fn apply_hint_separates_hard_links() {
    let repo = TestRepo::new();
    fs::hard_link(repo.path.join("a.txt"), repo.path.with_file_name("other-name")).expect("linked");
    repo.changeset("hl", "echo new >> a.txt");
    let ran = repo.airlock(&["apply", "hl", "--accept-all"]);
    assert_snapshot!(ran, @"
    status: 4
    ----- stdout -----
      conflict   a.txt  it has other hard links, which replacing it would detach
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to separate it from its other hard links, run `cp -p -- a.txt a.txt.new && mv -- a.txt.new a.txt`
    ");
    let script = ran
        .stderr
        .lines()
        .find_map(|l| l.split_once("from its other hard links, run "))
        .expect("a hint")
        .1
        .trim_matches('`');
    CommandOutput::from_command(repo.command("sh", &["-c", script])).ok();
    repo.airlock(&["apply", "hl", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nnew\n");
    assert_eq!(fs::read_to_string(repo.path.with_file_name("other-name")).expect("read"), "one\ntwo\n");
    // The hint also works in a subdirectory.
    fs::hard_link(repo.path.join("dir/keep.txt"), repo.path.with_file_name("another")).expect("linked");
    repo.changeset("sub", "echo new >> dir/keep.txt");
    let mut command = repo.command(AIRLOCK, &["apply", "sub", "--accept-all"]);
    let ran = CommandOutput::from(command.current_dir(repo.path.join("dir")).output().expect("it runs"));
    assert_snapshot!(ran, @"
    status: 4
    ----- stdout -----
      conflict   dir/keep.txt  it has other hard links, which replacing it would detach
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to separate it from its other hard links, run `cp -p -- ../dir/keep.txt ../dir/keep.txt.new && mv -- ../dir/keep.txt.new ../dir/keep.txt`
    ");
    let script = ran
        .stderr
        .lines()
        .find_map(|l| l.split_once("from its other hard links, run "))
        .expect("a hint")
        .1
        .trim_matches('`');
    let mut command = repo.command("sh", &["-c", script]);
    CommandOutput::from(command.current_dir(repo.path.join("dir")).output().expect("it runs")).ok();
    repo.airlock(&["apply", "sub", "--accept-all"]).ok();
}

#[test]
fn run_and_apply_report_unwritable_output() {
    let repo = TestRepo::new();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full can be opened");
    let mut command = repo.command(AIRLOCK, &["run", "--name", "o", "--", "seq", "100000"]);
    let ran: CommandOutput = command.stdout(full()).stderr(Stdio::piped()).output().expect("it runs").into();
    assert_snapshot!(ran, @"
    status: 125
    ----- stderr -----
    airlock: o · main at [COMMIT], 5 files · network: none
    error: failed to write the agent's output: No space left on device (os error 28); the sandbox `o` is kept with the agent's work
    hint: run `airlock diff o`
    ");
    repo.airlock(&["rm", "o"]).ok();
    // The error says that the files were written.
    repo.sandbox("a", "echo new > b.txt").ok();
    let mut command = repo.command(AIRLOCK, &["apply", "a", "--accept-all"]);
    let ran: CommandOutput = command.stdout(full()).stderr(Stdio::piped()).output().expect("it runs").into();
    assert_snapshot!(ran, @"
    status: 1
    ----- stderr -----
    error: 1 file was applied, but the outcome could not be printed: No space left on device (os error 28)
    hint: to undo the apply, run `airlock undo a`
    ");
    assert_eq!(repo.read("b.txt"), "new\n");
}

#[test]
fn diff_reports_lost_non_utf8_bytes() {
    let repo = TestRepo::new();
    repo.write("l.txt", b"caf\xe9 one\nold\nna\xefve\n");
    repo.commit();
    let script = "printf 'caf\\357\\277\\275 one\\nnew\\nna\\357\\277\\275ve\\n' > l.txt";
    repo.changeset("l", script);
    assert_snapshot!(repo.airlock(&["diff", "l"]), @"
    status: 0
    ----- stdout -----
    modified  l.txt
    ! medium: replaces 2 bytes that are not UTF-8 with U+FFFD
    @@ -1,3 +1,3 @@
    -caf<0xE9> one
    -old
    -na<0xEF>ve
    +caf� one
    +new
    +na�ve
    ");
    // A single accepted line keeps the bytes of the other lines.
    let text = repo.airlock(&["review", "l", "--export", "-"]).ok().stdout;
    let mut file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    // Three removed lines come before three added lines. The second of each is accepted.
    file["files"][0]["hunks"][0]["decision"] = "lines nynnyn".into();
    repo.airlock_with_input(&["apply", "l", "--decisions", "-"], &file.to_string()).ok();
    assert_eq!(fs::read(repo.path.join("l.txt")).expect("read"), b"caf\xe9 one\nnew\nna\xefve\n");
}

#[test]
fn apply_keeps_position_of_picked_lines() {
    let repo = TestRepo::new();
    repo.write("o.txt", "a\nb\nc\nd\n");
    repo.commit();
    repo.changeset("o", "printf 'A\\nB\\nC\\nD\\n' > o.txt");
    let text = repo.airlock(&["review", "o", "--export", "-"]).ok().stdout;
    for (letters, result) in [
        ("nynnnynn", "a\nB\nc\nd\n"),
        ("nnnnyyyy", "a\nA\nb\nB\nc\nC\nd\nD\n"),
        ("yyyynnnn", ""),
        ("nnynnyny", "a\nb\nB\nd\nD\n"),
    ] {
        let mut file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        file["files"][0]["hunks"][0]["decision"] = format!("lines {letters}").into();
        repo.airlock_with_input(&["apply", "o", "--decisions", "-"], &file.to_string()).ok();
        assert_eq!(repo.read("o.txt"), result, "{letters}");
        repo.airlock(&["undo", "o"]).ok();
    }
}

#[test]
fn patch_has_the_form_that_git_stores() {
    let repo = TestRepo::empty();
    set_identity(&repo);
    repo.write(".gitattributes", "*.u16 text working-tree-encoding=UTF-16LE\n*.crlf text eol=crlf\n");
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    repo.write("f.u16", wide("a\nb\nc\n"));
    repo.write("f.crlf", "a\r\nb\r\nc\r\n");
    repo.write("q\"uo te\t\u{e9}", "x\n");
    repo.commit();
    let script = "printf 'a\\nB\\nc\\n' | python3 -c 'import sys; sys.stdout.buffer.write(sys.stdin.read().encode(\"utf-16-le\"))' > f.u16; \
                  printf 'a\\r\\nB\\r\\nc\\r\\n' > f.crlf; for f in q*; do echo y > \"$f\"; done; printf '\\0bin' > n.bin";
    repo.changeset("u", script);
    let patch = repo.path.with_file_name("p.diff");
    let to = format!("patch:{}", patch.display());
    repo.airlock(&["apply", "u", "--accept-all", "--allow-risky", "--to", &to]).ok();
    let shown = repo.airlock(&["diff", "u", "--patch"]).ok().stdout;
    assert_eq!(shown.as_bytes(), fs::read(&patch).expect("read"), "diff --patch prints the same patch");
    repo.git(&["apply", patch.to_str().expect("UTF-8")]);
    let tree = repo.read_tree().into_iter().filter(|(path, _)| !path.starts_with(repo.path.join(".git")));
    let by_git: Vec<_> = tree.collect();
    assert_eq!(fs::read(repo.path.join("f.u16")).expect("read"), wide("a\nB\nc\n"));
    repo.git(&["stash", "-qu"]);
    repo.airlock(&["apply", "u", "--accept-all", "--allow-risky"]).ok();
    let tree = repo.read_tree().into_iter().filter(|(path, _)| !path.starts_with(repo.path.join(".git")));
    assert_eq!(tree.collect::<Vec<_>>(), by_git);
}

#[test]
fn uncommitted_option_may_precede_claude() {
    let repo = TestRepo::new();
    let ran = repo.airlock(&["--uncommitted", "--name", "u", "claude", "-p", "hi"]);
    // The arguments are parsed. The run then fails, because there is no credential.
    assert!(!ran.stderr.contains("unexpected argument"), "{}", ran.stderr);
    assert_eq!(ran.status, 125, "{ran:?}");
}
