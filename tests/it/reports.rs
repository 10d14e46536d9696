//! What public reports about other tools have taught: each test is one of their cases, or of its kind.

use std::fs;
use std::process::Stdio;

use portable_pty::CommandBuilder;

use crate::support::{AIRLOCK, CommandOutput, TestRepo};
use crate::terminal::Terminal;

fn identity(repo: &TestRepo) {
    repo.git(&["config", "user.name", "Ann"]);
    repo.git(&["config", "user.email", "ann@example.org"]);
}

/// A stand-in for git-crypt: what git stores is not what the working tree has.
fn filtered() -> TestRepo {
    let repo = TestRepo::empty();
    identity(&repo);
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
fn content_under_a_filter_is_never_stored_in_the_wrong_form() {
    let repo = filtered();
    let ran = repo.airlock(&[
        "run",
        "--name",
        "c",
        "--",
        "sh",
        "-c",
        "cat secret/old; echo password > secret/new; echo x > plain",
    ]);
    let ran = ran.ok();
    assert_eq!(ran.stdout, "uryyb\njbeyq\n", "as git stores it");
    assert!(ran.stderr.contains("1 file as git stores them, such as secret/old"), "{}", ran.stderr);
    assert!(repo.airlock(&["status", "c"]).ok().stdout.contains("1 file is in the form that git stores (secret/old)"));
    let memory = repo.airlock(&["run", "--", "sh", "-c", "cat ~/.claude/CLAUDE.md"]).ok().stdout;
    assert!(memory.contains("in the form that git stores (secret/old)"), "{memory}");
    for to in ["branch:x", "patch:-"] {
        let ran = repo.airlock(&["apply", "c", "--accept-all", "--allow-risky", "--to", to]);
        ran.expect_failure(1, &["secret/new", "the filter rot", "Airlock runs no filter"]);
    }
    assert_eq!(repo.git(&["branch", "--list", "x"]), "");
    repo.airlock(&["apply", "c", "--accept", "plain", "--to", "branch:y"]).ok();

    // Attributes that come along decide, too: git would go by them.
    repo.sandbox("own", "echo 's2 filter=rot' >> .gitattributes; echo password > s2").ok();
    repo.sandbox("deep", "mkdir k; echo '* filter=rot' > k/.gitattributes; echo password > k/s3").ok();
    for (name, path) in [("own", "s2"), ("deep", "k/")] {
        for to in ["branch:x", "patch:-"] {
            let ran = repo.airlock(&["apply", name, "--accept-all", "--allow-risky", "--to", to]);
            ran.expect_failure(1, &[path, "the filter rot", "Airlock runs no filter"]);
        }
        repo.airlock(&["diff", name, "--patch"]).expect_failure(1, &[path, "the filter rot"]);
    }
    assert_eq!(repo.git(&["branch", "--list", "x"]), "");
}

#[test]
fn lines_that_a_filter_strips_stay_in_the_users_file() {
    let repo = TestRepo::empty();
    identity(&repo);
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
    let ran = repo.airlock(&["apply", "d", "--accept-all"]);
    assert!(ran.stdout.contains("whether you changed it cannot be told"), "{}", ran.stdout);
    ran.expect_failure(4, &[]);
}

#[test]
fn a_conflict_under_a_filter_says_why() {
    let repo = filtered();
    repo.changeset("f", "sed -i s/jbeyq/WBEYQ/ secret/old");
    let ran = repo.airlock(&["apply", "f", "--accept-all"]);
    let out = ran.stdout.clone();
    ran.expect_failure(4, &[]);
    assert!(out.contains("the sandbox has it as git stores it"), "{out}");
    assert_eq!(repo.read("secret/old"), "hello\nworld\n");
    // One file in both forms would be neither.
    repo.airlock(&["apply", "f", "--accept-all", "--on-conflict", "markers"]).expect_failure(4, &[]);
    assert_eq!(repo.read("secret/old"), "hello\nworld\n");
}

#[test]
fn merges_follow_gits_attributes() {
    let repo = TestRepo::empty();
    identity(&repo);
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
    let reason = |path: &str| {
        let ran = repo.airlock(&["apply", "m", "--accept", path, "--allow-risky"]);
        (ran.status, ran.stdout)
    };
    for (path, why) in [
        ("x.lock", "its attributes say that it is not merged by line"),
        ("x.po", "its attributes say that it is not merged by line"),
        ("p.json", "its attributes name a merge driver, which Airlock does not run"),
    ] {
        let (status, out) = reason(path);
        assert!(status == 4 && out.contains(why), "{path}: {status} {out}");
        assert!(repo.read(path).starts_with("1\n"), "nothing is written");
    }
    // A driver that nobody defines is git's own.
    assert_eq!(reason("a.x").0, 0);
    assert_eq!(repo.read("a.x"), lines.replace("1\n", "agent\n").replace("9\n", "mine\n"));
    assert_eq!(reason("CHANGES").0, 0);
    let merged = repo.read("CHANGES");
    assert!(merged.starts_with(&lines) && merged.contains("mine\n") && merged.contains("agent\n"), "{merged}");
}

#[test]
fn undo_and_uncommitted_attributes_follow_gits_attributes() {
    let repo = TestRepo::empty();
    identity(&repo);
    let lines: String = (1..=9).map(|n| format!("{n}\n")).collect();
    repo.write(".gitattributes", "w -merge\n");
    repo.write("w", &lines);
    repo.write("sub/v", &lines);
    repo.commit();
    repo.changeset("w", "sed -i 1s/.*/agent/ w");
    repo.airlock(&["apply", "w", "--accept-all"]).ok();
    repo.write("w", repo.read("w").replace("9\n", "mine\n"));
    let ran = repo.airlock(&["undo", "w"]);
    assert!(ran.stdout.contains("its attributes say that it is not merged by line"), "{}", ran.stdout);
    ran.expect_failure(4, &[]);
    assert_eq!(repo.read("w"), lines.replace("1\n", "agent\n").replace("9\n", "mine\n"));

    repo.changeset("v", "sed -i 1s/.*/agent/ sub/v");
    repo.write("sub/v", lines.replace("9\n", "mine\n"));
    repo.write("sub/.gitattributes", "v -merge\n");
    let ran = repo.airlock(&["apply", "v", "--accept-all"]);
    assert!(ran.stdout.contains("its attributes say that it is not merged by line"), "{}", ran.stdout);
    ran.expect_failure(4, &[]);
}

#[test]
fn a_repository_that_was_moved_goes_on() {
    let mut repo = TestRepo::new();
    identity(&repo);
    repo.changeset("mv", "echo new > b.txt");
    let moved = repo.path.with_file_name("renamed");
    fs::rename(&repo.path, &moved).expect("moved");
    let old = std::mem::replace(&mut repo.path, moved.clone());
    repo.airlock(&["apply", "mv", "--accept-all"]).ok();
    assert_eq!(repo.read("b.txt"), "new\n");
    repo.airlock(&["undo", "mv"]).ok();
    assert!(!moved.join("b.txt").exists());
    // By its old name, which leads to the new one.
    std::os::unix::fs::symlink(&moved, &old).expect("made");
    repo.path.clone_from(&old);
    repo.airlock(&["apply", "mv", "--accept-all"]).ok();
    repo.airlock(&["undo", "mv"]).ok();
    repo.path.clone_from(&moved);
    repo.airlock(&["apply", "mv", "--accept-all", "--dry-run"]).ok();
    fs::remove_file(&old).expect("removed");
    // Another working tree of it is still another.
    repo.git(&["worktree", "add", "-q", "../other", "-b", "other"]);
    repo.path = moved.with_file_name("other");
    repo.airlock(&["apply", "mv", "--accept-all"]).expect_failure(1, &["another working tree of this repository"]);
    repo.path = moved;
    assert!(!old.exists());
}

#[test]
fn the_engine_is_the_one_that_the_user_chose() {
    let mut repo = TestRepo::new();
    repo.unset("DOCKER_HOST");
    repo.set("DOCKER_HOST", "");
    repo.set("DOCKER_CONTEXT", "no-such-context");
    repo.airlock(&["run", "--", "true"])
        .expect_failure(125, &["there is no docker context no-such-context", "docker context ls"]);
    repo.unset("DOCKER_CONTEXT");
    let folder = repo.path.with_file_name("docker");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("config.json"), r#"{"currentContext":"gone"}"#).expect("written");
    repo.set("DOCKER_CONFIG", folder.to_str().expect("UTF-8"));
    repo.airlock(&["run", "--", "true"]).expect_failure(125, &["there is no docker context gone"]);
    repo.unset("DOCKER_CONFIG");
    repo.set("DOCKER_HOST", "ssh://nobody@host.invalid");
    repo.airlock(&["run", "--", "true"]).expect_failure(125, &["ssh://nobody@host.invalid is not supported"]);
    // Where TLS is asked for, not one byte goes out in plain text.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    repo.set("DOCKER_HOST", format!("tcp://{}", listener.local_addr().expect("an address")));
    repo.set("DOCKER_TLS_VERIFY", "1");
    repo.airlock(&["run", "--", "true"])
        .expect_failure(125, &["by TLS (DOCKER_TLS_VERIFY), which Airlock does not speak"]);
    listener.set_nonblocking(true).expect("set");
    assert!(listener.accept().is_err(), "nobody has connected");
    repo.unset("DOCKER_TLS_VERIFY");
    repo.unset("DOCKER_HOST");
}

#[test]
fn what_git_trusts_is_trusted() {
    if !rustix::process::geteuid().is_root() {
        let told = "what_git_trusts_is_trusted: only root can give files to another user, so this was not tried\n";
        std::io::Write::write_all(&mut std::io::stdout(), told.as_bytes()).expect("written");
        return;
    }
    let mut repo = TestRepo::new();
    repo.write("sub/x", "x\n");
    repo.commit();
    let root = repo.path.clone();
    let own = |user: &str| {
        let ran = CommandOutput::from_command(repo.command("chown", &["-R", user, root.to_str().expect("UTF-8")]));
        assert_eq!(ran.status, 0, "these tests run as root: {ran:?}");
    };
    own("12345");
    repo.path = root.join("sub");
    let hint = format!("git config --global --add safe.directory '{}'", root.display());
    repo.airlock(&["run", "--", "true"]).expect_failure(125, &["it belongs to another user", &hint]);
    let parent = format!("{}/*", root.parent().expect("it has one").display());
    CommandOutput::from_command(repo.command("git", &["config", "--global", "--add", "safe.directory", &parent])).ok();
    // Where this git knows patterns, so does Airlock.
    let trusts = CommandOutput::from_command(repo.command("git", &["status", "-s"])).status == 0;
    assert_eq!(repo.airlock(&["run", "--", "true"]).status, if trusts { 0 } else { 125 });
    CommandOutput::from_command(
        repo.command("git", &["config", "--global", "--add", "safe.directory", root.to_str().expect("UTF-8")]),
    )
    .ok();
    repo.airlock(&["run", "--", "true"]).ok();
    // The last empty value takes back what stands before it.
    CommandOutput::from_command(repo.command("git", &["config", "--global", "--add", "safe.directory", ""])).ok();
    repo.airlock(&["run", "--", "true"]).expect_failure(125, &["it belongs to another user"]);
    CommandOutput::from_command(repo.command("git", &["config", "--global", "--add", "safe.directory", "*"])).ok();
    repo.airlock(&["gc"]).ok();
    repo.path = root;
}

#[test]
fn extensions_that_git_reads_past_do_not_matter() {
    let repo = TestRepo::new();
    repo.git(&["config", "core.repositoryformatversion", "1"]);
    repo.git(&["config", "extensions.partialClone", "origin"]);
    repo.changeset("pc", "echo new > b.txt; git log --oneline");
    repo.airlock(&["apply", "pc", "--accept-all"]).ok();
    assert_eq!(repo.read("b.txt"), "new\n");
}

#[test]
fn another_repository_in_the_environment_is_not_passed_over() {
    let mut repo = TestRepo::new();
    let other = repo.path.with_file_name("dot.git");
    CommandOutput::from_command(repo.command("git", &["init", "-q", "--bare", other.to_str().expect("UTF-8")])).ok();
    repo.set("GIT_DIR", other.to_str().expect("UTF-8"));
    repo.airlock(&["run", "--", "true"])
        .expect_failure(125, &["GIT_DIR names", "dot.git", "unset GIT_DIR GIT_WORK_TREE"]);
    // As a hook sets it: the repository that is meant.
    repo.set("GIT_DIR", ".git");
    assert_eq!(repo.airlock(&["run", "--", "echo", "well"]).ok().stdout, "well\n");
    repo.unset("GIT_DIR");
}

#[test]
fn commits_carry_the_name_that_git_would_put_on_them() {
    let mut repo = TestRepo::new();
    repo.git(&["remote", "add", "origin", "https://work.example/x.git"]);
    repo.git(&["config", "commit.gpgSign", "true"]);
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
    let ran = repo.airlock(&["apply", "id", "--accept-all", "--to", "branch:one"]).ok();
    assert!(ran.stderr.contains("the commit is not signed"), "{}", ran.stderr);
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
fn a_pager_that_fails_loses_nothing() {
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
    // What does not fit into a pipe is not lost either.
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
fn a_file_with_several_names_has_a_way_on() {
    let repo = TestRepo::new();
    fs::hard_link(repo.path.join("a.txt"), repo.path.with_file_name("other-name")).expect("linked");
    repo.changeset("hl", "echo new >> a.txt");
    let ran = repo.airlock(&["apply", "hl", "--accept-all"]);
    let way = ran.stderr.lines().find_map(|l| l.split_once("from its other names: ")).expect("a way on").1.to_owned();
    ran.expect_failure(4, &[]);
    CommandOutput::from_command(repo.command("sh", &["-c", &way])).ok();
    repo.airlock(&["apply", "hl", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nnew\n");
    assert_eq!(fs::read_to_string(repo.path.with_file_name("other-name")).expect("read"), "one\ntwo\n");
    // From a subdirectory, too.
    fs::hard_link(repo.path.join("dir/keep.txt"), repo.path.with_file_name("another")).expect("linked");
    repo.changeset("sub", "echo new >> dir/keep.txt");
    let mut command = repo.command(AIRLOCK, &["apply", "sub", "--accept-all"]);
    let ran = CommandOutput::from(command.current_dir(repo.path.join("dir")).output().expect("it runs"));
    let way = ran.stderr.lines().find_map(|l| l.split_once("from its other names: ")).expect("a way on").1.to_owned();
    ran.expect_failure(4, &[]);
    let mut command = repo.command("sh", &["-c", &way]);
    CommandOutput::from(command.current_dir(repo.path.join("dir")).output().expect("it runs")).ok();
    repo.airlock(&["apply", "sub", "--accept-all"]).ok();
}

#[test]
fn output_that_cannot_be_written_is_named_as_what_it_is() {
    let repo = TestRepo::new();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
    let mut command = repo.command(AIRLOCK, &["run", "--name", "o", "--", "seq", "100000"]);
    let ran: CommandOutput = command.stdout(full()).stderr(Stdio::piped()).output().expect("it runs").into();
    ran.expect_failure(125, &["failed to write the agent's output: No space left on device"]);
    repo.airlock(&["rm", "o"]).ok();
    // After an apply it is told that the files are written.
    repo.sandbox("a", "echo new > b.txt").ok();
    let mut command = repo.command(AIRLOCK, &["apply", "a", "--accept-all"]);
    let ran: CommandOutput = command.stdout(full()).stderr(Stdio::piped()).output().expect("it runs").into();
    ran.expect_failure(1, &["1 file was applied, and that could not be printed", "No space left on device"]);
    assert_eq!(repo.read("b.txt"), "new\n");
}

#[test]
fn text_of_older_encodings_is_shown_and_its_loss_is_told() {
    let repo = TestRepo::new();
    repo.write("l.txt", b"caf\xe9 one\nold\nna\xefve\n");
    repo.commit();
    let script = "printf 'caf\\357\\277\\275 one\\nnew\\nna\\357\\277\\275ve\\n' > l.txt";
    repo.changeset("l", script);
    let shown = repo.airlock(&["diff", "l"]).ok().stdout;
    assert!(shown.contains("U+FFFD in place of 2 bytes that are not UTF-8"), "{shown}");
    for line in ["-caf<0xE9> one", "-old", "+new", "-na<0xEF>ve"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    // One line alone, as bytes.
    let text = repo.airlock(&["review", "l", "--export", "-"]).ok().stdout;
    let mut file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    // Removed lines first: of three and three, the second of each.
    file["files"][0]["hunks"][0]["decision"] = "lines nynnyn".into();
    repo.airlock_with_input(&["apply", "l", "--decisions", "-"], &file.to_string()).ok();
    assert_eq!(fs::read(repo.path.join("l.txt")).expect("read"), b"caf\xe9 one\nnew\nna\xefve\n");
}

#[test]
fn lines_that_are_picked_keep_their_place() {
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
fn a_patch_is_in_the_form_that_git_stores() {
    let repo = TestRepo::empty();
    identity(&repo);
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
    assert_eq!(shown.as_bytes(), fs::read(&patch).expect("read"), "diff --patch is the same patch");
    repo.git(&["apply", patch.to_str().expect("UTF-8")]);
    let picture = repo.read_tree().into_iter().filter(|(path, _)| !path.starts_with(repo.path.join(".git")));
    let by_git: Vec<_> = picture.collect();
    assert_eq!(fs::read(repo.path.join("f.u16")).expect("read"), wide("a\nB\nc\n"));
    repo.git(&["stash", "-qu"]);
    repo.airlock(&["apply", "u", "--accept-all", "--allow-risky"]).ok();
    let picture = repo.read_tree().into_iter().filter(|(path, _)| !path.starts_with(repo.path.join(".git")));
    assert_eq!(picture.collect::<Vec<_>>(), by_git);
}

#[test]
fn an_option_with_an_optional_value_may_stand_before_claude() {
    let repo = TestRepo::new();
    let ran = repo.airlock(&["--uncommitted", "--name", "u", "claude", "-p", "hi"]);
    // There is no credential here; the words were understood.
    assert!(!ran.stderr.contains("unexpected argument"), "{}", ran.stderr);
    assert_eq!(ran.status, 125, "{ran:?}");
}
