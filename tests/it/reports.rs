//! What public reports about other tools have taught: each test is one of their cases, or of its kind.

use std::fs;
use std::process::Stdio;

use portable_pty::CommandBuilder;

use crate::support::{AIRLOCK, Place, Ran};
use crate::terminal::Terminal;

fn identity(place: &Place) {
    place.git(&["config", "user.name", "Ann"]);
    place.git(&["config", "user.email", "ann@example.org"]);
}

/// A stand-in for git-crypt: what git stores is not what the working tree has.
fn filtered() -> Place {
    let place = Place::empty();
    identity(&place);
    for direction in ["clean", "smudge"] {
        place.git(&["config", &format!("filter.rot.{direction}"), "tr a-z n-za-m"]);
    }
    place.git(&["config", "filter.rot.required", "true"]);
    place.write(".gitattributes", "secret/** filter=rot\n");
    place.write("secret/old", "hello\nworld\n");
    place.write("plain", "text\n");
    place.commit();
    assert_eq!(place.git(&["cat-file", "blob", "HEAD:secret/old"]), "uryyb\njbeyq\n");
    place
}

#[test]
fn content_under_a_filter_is_never_stored_in_the_wrong_form() {
    let place = filtered();
    let ran = place.airlock(&[
        "run",
        "--name",
        "c",
        "--",
        "sh",
        "-c",
        "cat secret/old; echo password > secret/new; echo x > plain",
    ]);
    let ran = ran.ok();
    assert_eq!(ran.out, "uryyb\njbeyq\n", "as git stores it");
    assert!(ran.err.contains("1 file as git stores them, such as secret/old"), "{}", ran.err);
    assert!(place.airlock(&["status", "c"]).ok().out.contains("1 file is in the form that git stores (secret/old)"));
    let memory = place.airlock(&["run", "--", "sh", "-c", "cat ~/.claude/CLAUDE.md"]).ok().out;
    assert!(memory.contains("in the form that git stores (secret/old)"), "{memory}");
    for to in ["branch:x", "patch:-"] {
        let ran = place.airlock(&["apply", "c", "--accept-all", "--allow-risky", "--to", to]);
        ran.fails(1, &["secret/new", "the filter rot", "Airlock runs no filter"]);
    }
    assert_eq!(place.git(&["branch", "--list", "x"]), "");
    place.airlock(&["apply", "c", "--accept", "plain", "--to", "branch:y"]).ok();

    // Attributes that come along decide, too: git would go by them.
    place.sandbox("own", "echo 's2 filter=rot' >> .gitattributes; echo password > s2").ok();
    place.sandbox("deep", "mkdir k; echo '* filter=rot' > k/.gitattributes; echo password > k/s3").ok();
    for (name, path) in [("own", "s2"), ("deep", "k/")] {
        for to in ["branch:x", "patch:-"] {
            let ran = place.airlock(&["apply", name, "--accept-all", "--allow-risky", "--to", to]);
            ran.fails(1, &[path, "the filter rot", "Airlock runs no filter"]);
        }
        place.airlock(&["diff", name, "--patch"]).fails(1, &[path, "the filter rot"]);
    }
    assert_eq!(place.git(&["branch", "--list", "x"]), "");
}

#[test]
fn lines_that_a_filter_strips_stay_in_the_users_file() {
    let place = Place::empty();
    identity(&place);
    place.git(&["config", "filter.strip.clean", "grep -v ^OUT"]);
    place.write(".gitattributes", "*.nb filter=strip\n");
    place.write("n.nb", "OUT 1\nin\nOUT 2\nend\n");
    place.write("gone.nb", "OUT 1\nin\n");
    place.commit();
    place.sandbox("f", "sed -i s/^in/IN/ n.nb").ok();
    place.airlock(&["apply", "f", "--accept-all"]).ok();
    assert_eq!(place.read("n.nb"), "OUT 1\nIN\nOUT 2\nend\n");
    place.airlock(&["undo"]).ok();
    assert_eq!(place.read("n.nb"), "OUT 1\nin\nOUT 2\nend\n");
    place.sandbox("d", "rm gone.nb").ok();
    let ran = place.airlock(&["apply", "d", "--accept-all"]);
    assert!(ran.out.contains("whether you changed it cannot be told"), "{}", ran.out);
    ran.fails(4, &[]);
}

#[test]
fn a_conflict_under_a_filter_says_why() {
    let place = filtered();
    place.sandbox("f", "sed -i s/jbeyq/WBEYQ/ secret/old").ok();
    let ran = place.airlock(&["apply", "f", "--accept-all"]);
    let out = ran.out.clone();
    ran.fails(4, &[]);
    assert!(out.contains("the sandbox has it as git stores it"), "{out}");
    assert_eq!(place.read("secret/old"), "hello\nworld\n");
    // One file in both forms would be neither.
    place.airlock(&["apply", "f", "--accept-all", "--on-conflict", "markers"]).fails(4, &[]);
    assert_eq!(place.read("secret/old"), "hello\nworld\n");
}

#[test]
fn merges_follow_gits_attributes() {
    let place = Place::empty();
    identity(&place);
    place.write(
        ".gitattributes",
        "*.lock -merge\n*.po merge=binary\nCHANGES merge=union\n*.json merge=npm\n*.x merge=undefined\n",
    );
    place.git(&["config", "merge.npm.driver", "false"]);
    let lines: String = (1..=9).map(|n| format!("{n}\n")).collect();
    for name in ["x.lock", "x.po", "CHANGES", "p.json", "a.x"] {
        place.write(name, &lines);
    }
    place.commit();
    place.sandbox("m", "sed -i 1s/.*/agent/ x.lock x.po p.json a.x; echo agent >> CHANGES").ok();
    for name in ["x.lock", "x.po", "p.json", "a.x"] {
        place.write(name, lines.replace("9\n", "mine\n"));
    }
    place.write("CHANGES", lines.clone() + "mine\n");
    let reason = |path: &str| {
        let ran = place.airlock(&["apply", "m", "--accept", path, "--allow-risky"]);
        (ran.status, ran.out)
    };
    for (path, why) in [
        ("x.lock", "its attributes say that it is not merged by line"),
        ("x.po", "its attributes say that it is not merged by line"),
        ("p.json", "its attributes name a merge driver, which Airlock does not run"),
    ] {
        let (status, out) = reason(path);
        assert!(status == 4 && out.contains(why), "{path}: {status} {out}");
        assert!(place.read(path).starts_with("1\n"), "nothing is written");
    }
    // A driver that nobody defines is git's own.
    assert_eq!(reason("a.x").0, 0);
    assert_eq!(place.read("a.x"), lines.replace("1\n", "agent\n").replace("9\n", "mine\n"));
    assert_eq!(reason("CHANGES").0, 0);
    let merged = place.read("CHANGES");
    assert!(merged.starts_with(&lines) && merged.contains("mine\n") && merged.contains("agent\n"), "{merged}");
}

#[test]
fn undo_and_uncommitted_attributes_follow_gits_attributes() {
    let place = Place::empty();
    identity(&place);
    let lines: String = (1..=9).map(|n| format!("{n}\n")).collect();
    place.write(".gitattributes", "w -merge\n");
    place.write("w", &lines);
    place.write("sub/v", &lines);
    place.commit();
    place.sandbox("w", "sed -i 1s/.*/agent/ w").ok();
    place.airlock(&["apply", "w", "--accept-all"]).ok();
    place.write("w", place.read("w").replace("9\n", "mine\n"));
    let ran = place.airlock(&["undo", "w"]);
    assert!(ran.out.contains("its attributes say that it is not merged by line"), "{}", ran.out);
    ran.fails(4, &[]);
    assert_eq!(place.read("w"), lines.replace("1\n", "agent\n").replace("9\n", "mine\n"));

    place.sandbox("v", "sed -i 1s/.*/agent/ sub/v").ok();
    place.write("sub/v", lines.replace("9\n", "mine\n"));
    place.write("sub/.gitattributes", "v -merge\n");
    let ran = place.airlock(&["apply", "v", "--accept-all"]);
    assert!(ran.out.contains("its attributes say that it is not merged by line"), "{}", ran.out);
    ran.fails(4, &[]);
}

#[test]
fn a_repository_that_was_moved_goes_on() {
    let mut place = Place::new();
    identity(&place);
    place.sandbox("mv", "echo new > b.txt").ok();
    let moved = place.repo.with_file_name("renamed");
    fs::rename(&place.repo, &moved).expect("moved");
    let old = std::mem::replace(&mut place.repo, moved.clone());
    place.airlock(&["apply", "mv", "--accept-all"]).ok();
    assert_eq!(place.read("b.txt"), "new\n");
    place.airlock(&["undo", "mv"]).ok();
    assert!(!moved.join("b.txt").exists());
    // By its old name, which leads to the new one.
    std::os::unix::fs::symlink(&moved, &old).expect("made");
    place.repo.clone_from(&old);
    place.airlock(&["apply", "mv", "--accept-all"]).ok();
    place.airlock(&["undo", "mv"]).ok();
    place.repo.clone_from(&moved);
    place.airlock(&["apply", "mv", "--accept-all", "--dry-run"]).ok();
    fs::remove_file(&old).expect("removed");
    // Another working tree of it is still another.
    place.git(&["worktree", "add", "-q", "../other", "-b", "other"]);
    place.repo = moved.with_file_name("other");
    place.airlock(&["apply", "mv", "--accept-all"]).fails(1, &["another working tree of this repository"]);
    place.repo = moved;
    assert!(!old.exists());
}

#[test]
fn the_engine_is_the_one_that_the_user_chose() {
    let mut place = Place::new();
    place.unset("DOCKER_HOST");
    place.set("DOCKER_HOST", "");
    place.set("DOCKER_CONTEXT", "no-such-context");
    place
        .airlock(&["run", "--", "true"])
        .fails(125, &["there is no docker context no-such-context", "docker context ls"]);
    place.unset("DOCKER_CONTEXT");
    let folder = place.repo.with_file_name("docker");
    fs::create_dir(&folder).expect("made");
    fs::write(folder.join("config.json"), r#"{"currentContext":"gone"}"#).expect("written");
    place.set("DOCKER_CONFIG", folder.to_str().expect("UTF-8"));
    place.airlock(&["run", "--", "true"]).fails(125, &["there is no docker context gone"]);
    place.unset("DOCKER_CONFIG");
    place.set("DOCKER_HOST", "ssh://nobody@host.invalid");
    place.airlock(&["run", "--", "true"]).fails(125, &["ssh://nobody@host.invalid is not supported"]);
    // Where TLS is asked for, not one byte goes out in plain text.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    place.set("DOCKER_HOST", format!("tcp://{}", listener.local_addr().expect("an address")));
    place.set("DOCKER_TLS_VERIFY", "1");
    place.airlock(&["run", "--", "true"]).fails(125, &["by TLS (DOCKER_TLS_VERIFY), which Airlock does not speak"]);
    listener.set_nonblocking(true).expect("set");
    assert!(listener.accept().is_err(), "nobody has connected");
    place.unset("DOCKER_TLS_VERIFY");
    place.unset("DOCKER_HOST");
}

#[test]
fn what_git_trusts_is_trusted() {
    if !rustix::process::geteuid().is_root() {
        let told = "what_git_trusts_is_trusted: only root can give files to another user, so this was not tried\n";
        std::io::Write::write_all(&mut std::io::stdout(), told.as_bytes()).expect("written");
        return;
    }
    let mut place = Place::new();
    place.write("sub/x", "x\n");
    place.commit();
    let root = place.repo.clone();
    let own = |user: &str| {
        let ran = Ran::of(place.command("chown", &["-R", user, root.to_str().expect("UTF-8")]));
        assert_eq!(ran.status, 0, "these tests run as root: {ran:?}");
    };
    own("12345");
    place.repo = root.join("sub");
    let hint = format!("git config --global --add safe.directory '{}'", root.display());
    place.airlock(&["run", "--", "true"]).fails(125, &["it belongs to another user", &hint]);
    let parent = format!("{}/*", root.parent().expect("it has one").display());
    Ran::of(place.command("git", &["config", "--global", "--add", "safe.directory", &parent])).ok();
    // Where this git knows patterns, so does Airlock.
    let trusts = Ran::of(place.command("git", &["status", "-s"])).status == 0;
    assert_eq!(place.airlock(&["run", "--", "true"]).status, if trusts { 0 } else { 125 });
    Ran::of(place.command("git", &["config", "--global", "--add", "safe.directory", root.to_str().expect("UTF-8")]))
        .ok();
    place.airlock(&["run", "--", "true"]).ok();
    // The last empty value takes back what stands before it.
    Ran::of(place.command("git", &["config", "--global", "--add", "safe.directory", ""])).ok();
    place.airlock(&["run", "--", "true"]).fails(125, &["it belongs to another user"]);
    Ran::of(place.command("git", &["config", "--global", "--add", "safe.directory", "*"])).ok();
    place.airlock(&["gc"]).ok();
    place.repo = root;
}

#[test]
fn extensions_that_git_reads_past_do_not_matter() {
    let place = Place::new();
    place.git(&["config", "core.repositoryformatversion", "1"]);
    place.git(&["config", "extensions.partialClone", "origin"]);
    place.sandbox("pc", "echo new > b.txt; git log --oneline").ok();
    place.airlock(&["apply", "pc", "--accept-all"]).ok();
    assert_eq!(place.read("b.txt"), "new\n");
}

#[test]
fn another_repository_in_the_environment_is_not_passed_over() {
    let mut place = Place::new();
    let other = place.repo.with_file_name("dot.git");
    Ran::of(place.command("git", &["init", "-q", "--bare", other.to_str().expect("UTF-8")])).ok();
    place.set("GIT_DIR", other.to_str().expect("UTF-8"));
    place.airlock(&["run", "--", "true"]).fails(125, &["GIT_DIR names", "dot.git", "unset GIT_DIR GIT_WORK_TREE"]);
    // As a hook sets it: the repository that is meant.
    place.set("GIT_DIR", ".git");
    assert_eq!(place.airlock(&["run", "--", "echo", "well"]).ok().out, "well\n");
    place.unset("GIT_DIR");
}

#[test]
fn commits_carry_the_name_that_git_would_put_on_them() {
    let mut place = Place::new();
    place.git(&["remote", "add", "origin", "https://work.example/x.git"]);
    place.git(&["config", "commit.gpgSign", "true"]);
    let home = place.repo.with_file_name("home");
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
        place.airlock(&["run", "--name", "id", "--review", "never", "--", "sh", "-c", script]).ok().out,
        "me@work.example\n"
    );
    let ran = place.airlock(&["apply", "id", "--accept-all", "--to", "branch:one"]).ok();
    assert!(ran.err.contains("the commit is not signed"), "{}", ran.err);
    assert_eq!(place.git(&["log", "-1", "--format=%an <%ae>", "one"]), "Work <me@work.example>\n");
    for (name, value) in [("AUTHOR_NAME", "Env"), ("AUTHOR_EMAIL", "env@example.org"), ("COMMITTER_NAME", "Com")] {
        place.set(&format!("GIT_{name}"), value);
    }
    place.airlock(&["apply", "id", "--accept-all", "--to", "branch:two"]).ok();
    assert_eq!(
        place.git(&["log", "-1", "--format=%an <%ae> %cn <%ce>", "two"]),
        "Env <env@example.org> Com <me@work.example>\n"
    );
}

#[test]
fn a_pager_that_fails_loses_nothing() {
    let place = Place::new();
    place.sandbox("pg", "echo new > b.txt").ok();
    for (pager, fails) in
        [("nosuch-pager", true), ("sh -c 'exit 3'", true), ("head -1", false), ("cat >/dev/null", false)]
    {
        let mut command = CommandBuilder::new("sh");
        command.args(["-c", &format!("GIT_PAGER=\"{pager}\" {AIRLOCK} diff pg && echo the e''nd")]);
        let mut terminal = Terminal::run(&place, command);
        let text = terminal.shows("the end");
        assert_eq!(text.contains("the pager failed"), fails, "{pager}: {text}");
        assert_eq!(text.contains("+new"), fails, "{pager}: {text}");
        assert!(terminal.child.wait().expect("it ends").success(), "{pager}");
    }
    // What does not fit into a pipe is not lost either.
    place.sandbox("big", "seq 30000 > big.txt; echo the-last > z.txt").ok();
    for pager in ["nosuch-pager", "sh -c 'exit 3'", "sh -c 'head -c 1000 >/dev/null; exit 3'"] {
        let mut command = CommandBuilder::new("sh");
        command.args(["-c", &format!("GIT_PAGER=\"{pager}\" {AIRLOCK} diff big && echo the e''nd")]);
        let mut terminal = Terminal::run(&place, command);
        let text = terminal.shows("the end");
        assert!(text.contains("+the-last"), "{pager}: {text}");
        assert!(terminal.child.wait().expect("it ends").success(), "{pager}");
    }
}

#[test]
fn a_file_with_several_names_has_a_way_on() {
    let place = Place::new();
    fs::hard_link(place.repo.join("a.txt"), place.repo.with_file_name("other-name")).expect("linked");
    place.sandbox("hl", "echo new >> a.txt").ok();
    let ran = place.airlock(&["apply", "hl", "--accept-all"]);
    let way = ran.err.lines().find_map(|l| l.split_once("from its other names: ")).expect("a way on").1.to_owned();
    ran.fails(4, &[]);
    Ran::of(place.command("sh", &["-c", &way])).ok();
    place.airlock(&["apply", "hl", "--accept-all"]).ok();
    assert_eq!(place.read("a.txt"), "one\ntwo\nnew\n");
    assert_eq!(fs::read_to_string(place.repo.with_file_name("other-name")).expect("read"), "one\ntwo\n");
    // From a subdirectory, too.
    fs::hard_link(place.repo.join("dir/keep.txt"), place.repo.with_file_name("another")).expect("linked");
    place.sandbox("sub", "echo new >> dir/keep.txt").ok();
    let mut command = place.command(AIRLOCK, &["apply", "sub", "--accept-all"]);
    let ran = Ran::from(command.current_dir(place.repo.join("dir")).output().expect("it runs"));
    let way = ran.err.lines().find_map(|l| l.split_once("from its other names: ")).expect("a way on").1.to_owned();
    ran.fails(4, &[]);
    let mut command = place.command("sh", &["-c", &way]);
    Ran::from(command.current_dir(place.repo.join("dir")).output().expect("it runs")).ok();
    place.airlock(&["apply", "sub", "--accept-all"]).ok();
}

#[test]
fn output_that_cannot_be_written_is_named_as_what_it_is() {
    let place = Place::new();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
    let mut command = place.command(AIRLOCK, &["run", "--name", "o", "--", "seq", "100000"]);
    let ran: Ran = command.stdout(full()).stderr(Stdio::piped()).output().expect("it runs").into();
    ran.fails(125, &["failed to write the agent's output: No space left on device"]);
    place.airlock(&["rm", "o"]).ok();
    // After an apply it is told that the files are written.
    place.sandbox("a", "echo new > b.txt").ok();
    let mut command = place.command(AIRLOCK, &["apply", "a", "--accept-all"]);
    let ran: Ran = command.stdout(full()).stderr(Stdio::piped()).output().expect("it runs").into();
    ran.fails(1, &["1 file was applied, and that could not be printed", "No space left on device"]);
    assert_eq!(place.read("b.txt"), "new\n");
}

#[test]
fn text_of_older_encodings_is_shown_and_its_loss_is_told() {
    let place = Place::new();
    place.write("l.txt", b"caf\xe9 one\nold\nna\xefve\n");
    place.commit();
    let script = "printf 'caf\\357\\277\\275 one\\nnew\\nna\\357\\277\\275ve\\n' > l.txt";
    place.sandbox("l", script).ok();
    let shown = place.airlock(&["diff", "l"]).ok().out;
    assert!(shown.contains("U+FFFD in place of 2 bytes that are not UTF-8"), "{shown}");
    for line in ["-caf<0xE9> one", "-old", "+new", "-na<0xEF>ve"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    // One line alone, as bytes.
    let text = place.airlock(&["review", "l", "--export", "-"]).ok().out;
    let mut file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    // Removed lines first: of three and three, the second of each.
    file["files"][0]["hunks"][0]["decision"] = "lines nynnyn".into();
    place.airlock_told(&["apply", "l", "--decisions", "-"], &file.to_string()).ok();
    assert_eq!(fs::read(place.repo.join("l.txt")).expect("read"), b"caf\xe9 one\nnew\nna\xefve\n");
}

#[test]
fn lines_that_are_picked_keep_their_place() {
    let place = Place::new();
    place.write("o.txt", "a\nb\nc\nd\n");
    place.commit();
    place.sandbox("o", "printf 'A\\nB\\nC\\nD\\n' > o.txt").ok();
    let text = place.airlock(&["review", "o", "--export", "-"]).ok().out;
    for (letters, result) in [
        ("nynnnynn", "a\nB\nc\nd\n"),
        ("nnnnyyyy", "a\nA\nb\nB\nc\nC\nd\nD\n"),
        ("yyyynnnn", ""),
        ("nnynnyny", "a\nb\nB\nd\nD\n"),
    ] {
        let mut file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        file["files"][0]["hunks"][0]["decision"] = format!("lines {letters}").into();
        place.airlock_told(&["apply", "o", "--decisions", "-"], &file.to_string()).ok();
        assert_eq!(place.read("o.txt"), result, "{letters}");
        place.airlock(&["undo", "o"]).ok();
    }
}

#[test]
fn a_patch_is_in_the_form_that_git_stores() {
    let place = Place::empty();
    identity(&place);
    place.write(".gitattributes", "*.u16 text working-tree-encoding=UTF-16LE\n*.crlf text eol=crlf\n");
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    place.write("f.u16", wide("a\nb\nc\n"));
    place.write("f.crlf", "a\r\nb\r\nc\r\n");
    place.write("q\"uo te\t\u{e9}", "x\n");
    place.commit();
    let script = "printf 'a\\nB\\nc\\n' | python3 -c 'import sys; sys.stdout.buffer.write(sys.stdin.read().encode(\"utf-16-le\"))' > f.u16; \
                  printf 'a\\r\\nB\\r\\nc\\r\\n' > f.crlf; for f in q*; do echo y > \"$f\"; done; printf '\\0bin' > n.bin";
    place.sandbox("u", script).ok();
    let patch = place.repo.with_file_name("p.diff");
    let to = format!("patch:{}", patch.display());
    place.airlock(&["apply", "u", "--accept-all", "--allow-risky", "--to", &to]).ok();
    let shown = place.airlock(&["diff", "u", "--patch"]).ok().out;
    assert_eq!(shown.as_bytes(), fs::read(&patch).expect("read"), "diff --patch is the same patch");
    place.git(&["apply", patch.to_str().expect("UTF-8")]);
    let picture = place.picture().into_iter().filter(|(path, _)| !path.starts_with(place.repo.join(".git")));
    let by_git: Vec<_> = picture.collect();
    assert_eq!(fs::read(place.repo.join("f.u16")).expect("read"), wide("a\nB\nc\n"));
    place.git(&["stash", "-qu"]);
    place.airlock(&["apply", "u", "--accept-all", "--allow-risky"]).ok();
    let picture = place.picture().into_iter().filter(|(path, _)| !path.starts_with(place.repo.join(".git")));
    assert_eq!(picture.collect::<Vec<_>>(), by_git);
}

#[test]
fn an_option_with_an_optional_value_may_stand_before_claude() {
    let place = Place::new();
    let ran = place.airlock(&["--uncommitted", "--name", "u", "claude", "-p", "hi"]);
    // There is no credential here; the words were understood.
    assert!(!ran.err.contains("unexpected argument"), "{}", ran.err);
    assert_eq!(ran.status, 125, "{ran:?}");
}
