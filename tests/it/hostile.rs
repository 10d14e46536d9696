//! Attacks by an agent that knows this code: each fixture runs in a real container, and its work goes through collect, diff,
//! review and apply. What a user reads is asserted, and that the host is byte for byte as it was.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{AIRLOCK, CommandOutput, TestRepo, TreeContents};

/// Runs a fixture as the agent.
fn attack(repo: &TestRepo, name: &str, fixture: &str, options: &[&str]) -> CommandOutput {
    let script = fs::read_to_string(format!("fixtures/hostile/{fixture}")).expect("the fixture is there");
    let shell: &[&str] = if fixture.ends_with(".py") { &["python3", "-c"] } else { &["sh", "-c"] };
    let args = [&["run", "--name", name, "--review", "never"], options, &["--"], shell, &[&script]].concat();
    repo.airlock(&args)
}

/// What Airlock says of each path: its strongest level, and the rules.
type Verdicts = BTreeMap<String, (String, Vec<String>)>;

fn verdicts(diff: &Value) -> Verdicts {
    let text = |v: &Value| v.as_str().unwrap_or("none").to_owned();
    let files = diff["files"].as_array().expect("a list").iter();
    files
        .map(|f| {
            let rules = f["findings"].as_array().expect("a list").iter().map(|r| text(&r["rule"])).collect();
            (text(&f["path"]), (text(&f["severity"]), rules))
        })
        .collect()
}

/// Asserts levels and rules of these paths, and gives the others.
#[track_caller]
fn judged(mut verdicts: Verdicts, expected: &[(&str, &str, &str)]) -> Verdicts {
    for (path, level, rule) in expected {
        let Some((found, rules)) = verdicts.remove(*path) else { panic!("{path} is not there: {verdicts:#?}") };
        assert_eq!(found, *level, "{path}: {rules:?}");
        assert!(rule.is_empty() || rules.iter().any(|r| r == rule), "{path} is not {rule} but {rules:?}");
    }
    verdicts
}

/// Path and reason of everything that cannot be taken back.
fn refused(diff: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().expect("a string").to_owned();
    diff["refused"].as_array().expect("a list").iter().map(|r| (text(&r["path"]), text(&r["reason"]))).collect()
}

/// Looks at a sandbox in every way, answers yes to everything in a review, plans everything; and holds the host to what it was.
#[track_caller]
fn look_at(repo: &TestRepo, name: &str, before: &TreeContents) -> Value {
    for args in [&["diff", name][..], &["diff", name, "--stat"], &["status", name], &["ls"]] {
        let ran = repo.airlock(args).ok();
        for text in [&ran.stdout, &ran.stderr] {
            let bad = text.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t');
            assert_eq!(bad, None, "{args:?} drives a terminal: {text:?}");
            assert!(!text.contains('\u{202e}') && !text.contains('\u{200b}'), "{args:?} hides something: {text:?}");
        }
    }
    let json = repo.airlock(&["diff", name, "--json"]).ok().stdout;
    assert!(json.bytes().all(|b| b >= b' ' || b == b'\n'), "JSON drives no terminal either");
    let mut review = repo.command(AIRLOCK, &["review", name, "--plain"]);
    let mut child =
        review.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    // More answers than questions; it may end before it has read them all.
    let _ = child.stdin.take().expect("a pipe").write_all("y\n".repeat(500).as_bytes());
    let ran: CommandOutput = child.wait_with_output().expect("it ends").into();
    let bad = ran.ok().stdout.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t');
    assert_eq!(bad, None, "the review drives a terminal");
    repo.airlock(&["apply", name, "--accept-all", "--allow-risky", "--dry-run"]);
    assert_eq!(repo.read_tree(), *before, "nothing was written");
    serde_json::from_str(&json).expect("JSON")
}

#[test]
fn names_of_repositories_in_every_spelling() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    attack(&repo, "g", "repository-names.sh", &[]).ok();
    let diff = look_at(&repo, "g", &before);
    assert_eq!(diff["files"].as_array().expect("a list").len(), 0, "{:#}", diff["files"]);
    let refused = refused(&diff);
    let names = refused.iter().filter(|(_, reason)| reason.contains("repository's own directory")).count();
    // 20 spellings twice; and two repositories of the agent's own, each as one thing.
    assert_eq!(names, 40, "{refused:#?}");
    let own: Vec<&str> =
        refused.iter().filter(|(_, why)| why.contains("of its own")).map(|(path, _)| path.as_str()).collect();
    assert_eq!((own, refused.len()), (vec!["pointed", "sub"], 42), "{refused:#?}");
    assert!(repo.airlock(&["diff", "g"]).ok().stderr.contains("stays in the sandbox: nested/.GIT"));
    repo.airlock(&["apply", "g", "--accept-all", "--allow-risky"]).expect_failure(2, &["nothing of g"]);
    assert!(!repo.path.join("sub/.git").exists() && !repo.path.join("pointed/.git").exists());
}

#[test]
fn links_that_lead_out_are_refused_and_others_told() {
    let repo = TestRepo::new();
    // A link of the user's own, which leads where it likes.
    std::os::unix::fs::symlink("/opt", repo.path.join("ext")).expect("made");
    repo.commit();
    let before = repo.read_tree();
    attack(&repo, "l", "links.sh", &[]).ok();
    let diff = look_at(&repo, "l", &before);
    let left = judged(
        verdicts(&diff),
        &[
            ("absolute", "refused", "link-escape"),
            ("leaving", "refused", "link-escape"),
            ("deep/er/leaving", "refused", "link-escape"),
            ("climbs-after-a-name", "refused", "link-escape"),
            ("climbs-inside", "refused", "link-escape"),
            ("git-directly", "refused", "link-escape"),
            ("git-in-disguise", "refused", "link-escape"),
            ("git-by-its-short-name", "refused", "link-escape"),
            ("deep/two", "refused", "link-escape"),
            ("through-the-users-own", "refused", "link-escape"),
            (".gitmodules", "refused", "link-of-git"),
            (".gitattributes", "refused", "link-of-git"),
            (".mailmap", "refused", "link-of-git"),
            (".GITignore", "refused", "link-of-git"),
            ("loop-a", "high", "link-loop"),
            ("loop-b", "high", "link-loop"),
            ("dangling", "high", "link-dangling"),
            ("deep/up", "high", "link"),
            ("fine", "high", "link"),
        ],
    );
    assert!(left.is_empty(), "{left:?}");
    repo.airlock(&["apply", "l", "--accept", "absolute", "--allow-risky"]).expect_failure(1, &["absolute"]);
    repo.airlock(&["apply", "l", "--accept-all"]).ok();
    assert_eq!(repo.read_tree(), before, "all of them need a yes of their own");
    repo.airlock(&["apply", "l", "--accept-all", "--allow-risky"]).ok();
    let made = repo.git(&["status", "--short", "--untracked-files=all"]);
    assert_eq!(made, "?? dangling\n?? deep/up\n?? fine\n?? loop-a\n?? loop-b\n");
}

#[test]
fn thousands_of_long_links_keep_nobody_waiting() {
    let mut repo = TestRepo::new();
    repo.set("AIRLOCK_MAX_TIME", "60s");
    let script = "import os\ntarget = 'x/' * 1900\nos.mkdir('d')\n\
                  for i in range(3000): os.symlink(target + str(i), f'd/l{i}'); os.symlink('d', f'a{i}'); open(f'd/{i}', 'w').write('x')";
    repo.airlock(&["run", "--name", "f", "--", "python3", "-c", script]).ok();
    assert_eq!(repo.diff("f")["files"].as_array().expect("a list").len(), 9000);
    // Where it takes too long all the same, the setting is named and the work is kept.
    repo.set("AIRLOCK_MAX_TIME", "1s");
    let script = "import os\nfor i in range(60000): open(f'{i}', 'w').write(str(i))";
    repo.airlock(&["run", "--name", "t", "--", "python3", "-c", script])
        .expect_failure(125, &["max_time", "t is kept with the agent's work"]);
    repo.unset("AIRLOCK_MAX_TIME");
}

#[test]
fn links_are_followed_once_more_on_the_host() {
    let repo = TestRepo::new();
    repo.changeset("h", "ln -s mine/passwd new; ln -s a.txt fine");
    // Nothing that a sandbox has seen: untracked, and made since.
    std::os::unix::fs::symlink("/etc", repo.path.join("mine")).expect("made");
    let before = repo.read_tree();
    let ran =
        repo.airlock(&["apply", "h", "--accept", "new", "--allow-risky"]).expect_failure(4, &["nothing was written"]);
    assert!(
        ran.stdout.contains("as a link in your tree it leads through a link to an absolute path"),
        "{}",
        ran.stdout
    );
    assert_eq!(repo.read_tree(), before);
    repo.airlock(&["apply", "h", "--accept", "fine", "--allow-risky"]).ok();
}

#[test]
fn a_part_of_a_change_is_judged_as_what_it_makes() {
    let repo = TestRepo::new();
    let body: String = (0..9).map(|n| format!(" \"k{n}\": {n},\n")).collect();
    let json = |first: &str, last: &str| format!("{{\n{first}{body}{last} \"end\": 0\n}}\n");
    let scripts = " \"scripts\": {\"test\": \"guard\"},\n";
    repo.write("package.json", json("", scripts));
    repo.commit();
    repo.write("moved", json(scripts, ""));
    repo.airlock(&["run", "--name", "m", "--uncommitted=all", "--", "mv", "moved", "package.json"]).ok();
    let diff = repo.diff("m");
    let file = diff["files"].as_array().expect("a list").iter().find(|f| f["path"] == "package.json").expect("changed");
    assert_eq!(file["severity"], Value::Null, "all of it changes no script");
    let id = file["hunks"][1]["id"].as_str().expect("an id");
    let ran = repo.airlock(&["apply", "m", "--accept-id", id]).ok();
    assert!(
        ran.stderr.contains("what is accepted of package.json has no scripts any more, other than all of it"),
        "{}",
        ran.stderr
    );
}

#[test]
fn nothing_is_written_through_a_link_of_the_same_round() {
    let repo = TestRepo::new();
    let outside = repo.path.parent().expect("it has one").join("outside");
    let before = repo.read_tree();
    attack(&repo, "w", "write-through.sh", &[]).ok();
    let diff = look_at(&repo, "w", &before);
    judged(
        verdicts(&diff),
        &[
            ("dir", "refused", "link-escape"),
            ("lib/x", "none", ""),
            ("lib-link", "high", "link"),
            ("A/config", "refused", "twin"),
            ("a", "refused", "twin"),
        ],
    );
    repo.airlock(&["apply", "w", "--accept-all", "--allow-risky"]);
    assert!(!outside.exists() && !repo.path.join("A").exists() && !repo.path.join("a").exists());
}

#[test]
fn twins_are_told_and_dangerous_ones_refused() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    attack(&repo, "t", "twins.sh", &[]).ok();
    let diff = look_at(&repo, "t", &before);
    judged(
        verdicts(&diff),
        &[
            ("Twin/x", "refused", "twin"),
            ("twin", "refused", "twin"),
            ("README", "note", "twin"),
            ("readme", "note", "twin"),
            ("caf\u{e9}", "note", "twin"),
            ("cafe\u{301}", "note", "twin"),
            ("\u{17f}et.txt", "high", "twin"),
            ("set.txt", "note", "twin"),
            ("Kind", "refused", "twin"),
            ("kind/file", "refused", "twin"),
            ("A.TXT", "refused", "twin"),
        ],
    );
    let shown = repo.airlock(&["diff", "t"]).ok().stdout;
    assert!(shown.contains("is the same as readme to some file systems"), "{shown}");
    // This file system tells plain twins apart.
    repo.airlock(&["apply", "t", "--accept", "README", "--accept", "readme"]).ok();
    assert_eq!((repo.read("README"), repo.read("readme")), ("upper\n".into(), "lower\n".into()));
    // The host has a link that the sandbox has never seen, and the agent's file is its twin.
    std::os::unix::fs::symlink("/etc", repo.path.join("Set.txt")).expect("made");
    let ran = repo.airlock(&["apply", "t", "--accept", "set.txt"]).expect_failure(4, &["nothing was written"]);
    assert!(ran.stdout.contains("other file systems would take it for \"Set.txt\""), "{}", ran.stdout);
}

#[test]
fn odd_names_survive_unharmed() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    attack(&repo, "o", "odd-names.sh", &[]).ok();
    let diff = look_at(&repo, "o", &before);
    let found = judged(
        verdicts(&diff),
        &[
            ("aux.c", "note", "windows-name"),
            ("a:b", "note", "windows-name"),
            ("a\nb", "note", "control-name"),
            ("-rf", "none", ""),
        ],
    );
    assert_eq!(found.len() + 4, 19, "{found:?}");
    let files = diff["files"].as_array().expect("a list");
    assert!(files.iter().any(|f| f["path_bytes"] == serde_json::json!([255])));
    assert!(repo.airlock(&["diff", "o", "--stat"]).ok().stdout.contains("a<U+000A>b"));
    // Those with control characters have them in their content as well.
    repo.airlock(&["apply", "o", "--accept-all", "--allow-risky"]).ok();
    let status = repo.git(&["status", "--porcelain", "-z", "--untracked-files=all"]);
    assert_eq!(status.matches("?? ").count(), 19, "{status:?}");
    assert_eq!(repo.read("$(touch owned)"), "$(touch owned)\n");
    assert!(!repo.path.join("owned").exists());
}

#[test]
fn kinds_and_permissions() {
    let mut repo = TestRepo::new();
    repo.set("AIRLOCK_MAX_FILE", "1m");
    let before = repo.read_tree();
    attack(&repo, "k", "kinds.sh", &[]).ok();
    let diff = look_at(&repo, "k", &before);
    judged(
        verdicts(&diff),
        &[
            ("suid", "high", "mode-bits"),
            ("sgid", "high", "mode-bits"),
            ("writable", "high", "mode-bits"),
            ("sticky", "high", "mode-bits"),
            ("run.sh", "high", "mode-bits"),
            ("hard-link", "none", ""),
            ("dir", "none", ""),
            ("dir/keep.txt", "none", ""),
        ],
    );
    let refused = refused(&diff);
    let reason = |path: &str| refused.iter().find(|(p, _)| p == path).map(|(_, r)| r.as_str());
    for special in ["pipe", "socket", "c.txt"] {
        assert_eq!(reason(special), Some("is a device, a socket or a pipe"), "{refused:?}");
    }
    assert_eq!(reason("sparse"), Some("is larger than 1 MiB (max_file)"));
    assert!(
        repo.airlock(&["diff", "k"])
            .ok()
            .stdout
            .contains("had the mode 4755, of which only the executable bit travels")
    );
    repo.airlock(&["apply", "k", "--accept-all", "--allow-risky"]).ok();
    use std::os::unix::fs::PermissionsExt;
    for name in ["suid", "sgid", "writable", "sticky", "run.sh"] {
        let mode = repo.path.join(name).metadata().expect("it is there").permissions().mode() & 0o7777;
        assert_eq!(mode & 0o7002, 0, "{name}: {mode:o}");
    }
    assert_eq!(repo.read("c.txt"), "gone\n", "what a pipe took the place of stays");
    assert_eq!(repo.read("dir"), "now a file\n");
}

#[test]
fn planted_repositories() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    attack(&repo, "p", "planted.sh", &[]).ok();
    let diff = look_at(&repo, "p", &before);
    let rule = "planted-repository";
    let left = judged(
        verdicts(&diff),
        &[
            ("fixtures/repo/HEAD", "refused", rule),
            ("fixtures/repo/config", "refused", rule),
            ("fixtures/repo/objects/x", "refused", rule),
            ("fixtures/repo/refs/x", "refused", rule),
            ("linked/HEAD", "refused", rule),
            ("linked/objects", "refused", rule),
            ("linked/refs", "refused", rule),
            ("common/HEAD", "refused", rule),
            ("common/commondir", "refused", rule),
            ("tree/HEAD", "refused", rule),
            ("tree/config.worktree", "refused", rule),
            ("folded/head", "refused", rule),
            ("folded/Objects/x", "refused", rule),
            ("folded/REFS/x", "refused", rule),
            ("partly/HEAD", "none", ""),
            ("partly/objects/x", "none", ""),
            ("real/x", "none", ""),
        ],
    );
    assert!(left.is_empty(), "{left:?}");
    // Two rounds cannot do it either: the host has the last third.
    repo.write("partly/refs/y", "");
    repo.airlock(&["apply", "p", "--accept-all", "--allow-risky"]).expect_failure(4, &["nothing was written"]);
    assert!(!repo.path.join("partly/HEAD").exists() && !repo.path.join("fixtures").exists());
}

#[test]
fn the_agents_own_repository_is_never_read() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    attack(&repo, "r", "own-repository.sh", &[]).ok();
    let diff = look_at(&repo, "r", &before);
    assert_eq!(verdicts(&diff).into_keys().collect::<Vec<_>>(), ["a.txt"]);
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n");
    let git = |p: &TreeContents| {
        p.iter()
            .filter(|(k, _)| k.starts_with(repo.path.join(".git")))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect::<TreeContents>()
    };
    let (mut was, mut is) = (git(&before), git(&repo.read_tree()));
    // `git status` of the test itself refreshes the index.
    let index = repo.path.join(".git/index");
    was.remove(&index);
    is.remove(&index);
    assert_eq!(was, is);
    assert!(!std::path::Path::new("/tmp/owned").exists());
}

#[test]
fn text_that_drives_hides_or_pretends() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    attack(&repo, "d", "display.sh", &[]).ok();
    let diff = look_at(&repo, "d", &before);
    judged(
        verdicts(&diff),
        &[
            ("escapes.txt", "high", "invisible"),
            ("carriage-return.txt", "high", "invisible"),
            ("sequences.txt", "high", "invisible"),
            ("bidi.c", "high", "invisible"),
            ("zero-width.txt", "high", "invisible"),
            ("literal.txt", "none", ""),
            ("prompt.txt", "none", ""),
            ("far-right.txt", "medium", "out-of-sight"),
            ("far-down.txt", "medium", "out-of-sight"),
            ("nul.bin", "medium", "binary"),
            ("late-nul.bin", "medium", "binary"),
            ("utf16.txt", "medium", "binary"),
            ("latin1.txt", "medium", "encoding"),
            ("escaping-link", "high", "link"),
            ("\u{455}ettings.json", "high", "look-alike"),
            ("name\u{1b}[2J\u{202e}", "high", "hidden-name"),
        ],
    );
    let shown = repo.airlock(&["diff", "d"]).ok().stdout;
    for line in [
        "+shown<U+001B>[2J<U+001B>[1A<U+001B>[2Khidden",
        "+good<U+000D>evil",
        "+if (admin<U+202E> <U+2066>// check<U+2069>) {}",
        "+literal <U+003C>U+202E> and <U+003C>0x9B>",
        "+Apply? [y/N] y",
        "+@@ -1 +1 @@",
        "+(1/1) a.txt Apply? [y,n,a,d,s,e,c,u,j,k,g,/,p,w,q,?] ",
        "+\\ No newline at end of file",
        "+start<U+0020 x5000>evil()",
        "+<U+000A x10000>",
        "a link to a<U+001B>[2J",
        "added  name<U+001B>[2J<U+202E>",
        "-one",
        "+one ",
        "\\ No newline at end of file",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line:?} is not shown:\n{shown}");
    }
    // Beyond our own words every line has a gutter of ours.
    let pretends =
        |l: &&str| l.starts_with("Apply?") || l.starts_with("--- ") || l.starts_with("+++ ") || l.starts_with("(1/1)");
    assert_eq!(shown.lines().find(pretends), None);
    for binary in ["utf16.txt", "nul.bin", "late-nul.bin"] {
        let at = shown.find(&format!("added  {binary}")).expect("it is shown");
        let unit = shown[at..].lines().find(|l| l.starts_with("binary, ")).expect("it is one unit");
        assert!(unit.contains("bytes, sha256 "), "{unit}");
    }
}

#[test]
fn what_runs_later_is_found_however_it_comes() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    attack(&repo, "y", "delayed.sh", &[]).ok();
    let diff = look_at(&repo, "y", &before);
    judged(
        verdicts(&diff),
        &[
            (".VSCode/TASKS.json", "high", "editor-config"),
            (".claude/hooks/settings.json", "high", "agent-config"),
            (".envrc", "high", "directory-hook"),
            (".github/workflows/ci.yml", "medium", "ci"),
            ("sub/.Husky/pre-commit", "high", "git-hook"),
            ("tool", "high", "executable"),
            (".cursor", "high", "agent-config"),
            ("conf/mcp.json", "high", "agent-config"),
            (".idea/keep.txt", "high", "editor-config"),
            ("dir/keep.txt", "none", ""),
            ("run.sh", "none", ""),
            ("package.json", "medium", "package-scripts"),
            ("package-lock.json", "medium", "lock-host"),
            ("config.ini", "high", "secret"),
            (".gitignore", "note", "hides-new-files"),
        ],
    );
    assert_eq!(diff["ignored_by_agent_rules"], serde_json::json!(["hidden"]));
    repo.airlock(&["apply", "y", "--accept", ".envrc"]).expect_failure(1, &[".envrc", "--allow-risky"]);
    let ran = repo.airlock(&["apply", "y", "--accept-all"]).ok();
    assert!(ran.stdout.contains("skipped    .envrc") && !repo.path.join(".envrc").exists(), "{}", ran.stdout);
    assert!(!repo.path.join("tool").exists() && !repo.path.join("config.ini").exists());
}

#[test]
fn caps_name_their_setting_and_the_rest_comes_back() {
    let mut repo = TestRepo::new();
    for (name, value) in
        [("MAX_ENTRIES", "1000"), ("MAX_FILES", "30"), ("MAX_FILE", "1m"), ("MAX_TOTAL", "800k"), ("MAX_DEPTH", "40")]
    {
        repo.set(&format!("AIRLOCK_{name}"), value);
    }
    let before = repo.read_tree();
    attack(&repo, "b", "bombs.sh", &[]).ok();
    let diff = look_at(&repo, "b", &before);
    let refused = refused(&diff);
    for (path, reason) in [
        ("many", "the most is 1000 new files and directories (max_entries)"),
        ("one-line", "is larger than 1 MiB (max_file)"),
        ("b-zero", "all files together may have 819200 bytes (max_total)"),
        ("wide/", "files differ, the most is 30 (max_files)"),
        ("d/d/d", "is too deep: the most is 40 directories (max_depth)"),
    ] {
        let found = refused.iter().any(|(p, r)| p.starts_with(path) && r.contains(reason));
        assert!(found, "{path} {reason}: {refused:#?}");
    }
    assert!(verdicts(&diff).contains_key("fine.txt"));
    // With room, all of it comes.
    for name in ["MAX_ENTRIES", "MAX_FILES", "MAX_FILE", "MAX_TOTAL", "MAX_DEPTH"] {
        repo.unset(&format!("AIRLOCK_{name}"));
    }
    attack(&repo, "b2", "bombs.sh", &[]).ok();
    assert_eq!(repo.diff("b2")["refused"], serde_json::json!([]));
    repo.set("AIRLOCK_MAX_DEPTH", "999");
    repo.airlock(&["run", "--", "true"]).expect_failure(125, &["max_depth: 999 is not from 1 to 256"]);
}

#[test]
fn a_host_file_that_was_never_sent_is_not_overwritten() {
    let repo = TestRepo::new();
    repo.write(".gitignore", "/target\n.env\n");
    repo.commit();
    repo.write(".env", "SECRET=mine\n");
    repo.write("untracked", "mine\n");
    repo.write("vendor/inner/x", "mine\n");
    repo.git(&["init", "-q", "vendor/inner"]);
    repo.write("skipped", "base\n");
    repo.git(&["add", "skipped"]);
    repo.git(&["commit", "-qm", "more"]);
    repo.git(&["update-index", "--skip-worktree", "skipped"]);
    repo.write("skipped", "mine\n");
    let script = "echo evil > .env; echo evil > untracked; mkdir -p vendor/inner; echo evil > vendor/inner/x; echo evil > skipped; \
                  echo fine > fine";
    repo.airlock(&["run", "--name", "u", "--include", ".env", "--", "sh", "-euc", "cat .env"]).ok();
    repo.sandbox("v", script).ok();
    let before = repo.read_tree();
    for path in ["untracked", "vendor/inner/x", "skipped"] {
        let ran = repo.airlock(&["apply", "v", "--accept", path]).expect_failure(4, &["nothing was written"]);
        assert!(ran.stdout.contains("conflict"), "{path}: {}", ran.stdout);
    }
    // An ignored file does not even come back, unless it was asked for.
    assert!(!repo.changes("v").iter().any(|(p, _)| p == ".env"));
    assert_eq!(repo.read_tree(), before);
    repo.airlock(&["run", "--name", "e", "--include", ".env", "--", "sh", "-c", "echo evil > .env"]).ok();
    repo.write(".env", "SECRET=newer\n");
    let ran = repo.airlock(&["apply", "e", "--accept", ".env", "--allow-risky"]);
    assert_eq!((ran.status, repo.read(".env").as_str()), (4, "SECRET=newer\n"));
}

#[test]
fn nothing_of_one_sandbox_is_in_another_or_in_a_base() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    let ran = attack(&repo, "one", "poison.sh", &[]).ok();
    assert_eq!(ran.stdout, "", "what it could write or see");
    let diff = look_at(&repo, "one", &before);
    judged(
        verdicts(&diff),
        &[("dir", "refused", "link-escape"), ("base-link", "refused", "link-escape"), ("a.txt", "none", "")],
    );
    let look = "cat a.txt; git config core.poison; ls .git/poison dir; readlink ~/.claude ~/.claude.json; ls ~/.config; git status --short";
    let next = repo.airlock(&["run", "--name", "two", "--keep", "--", "sh", "-c", look]).ok();
    assert_eq!(next.stdout, "one\ntwo\ndir:\nkeep.txt\n", "{}", next.stderr);
    // On top of the same base, which newer commits are written to.
    repo.write("a.txt", "newer\n");
    repo.commit();
    let third = repo.airlock(&["run", "--name", "three", "--keep", "--", "sh", "-c", look]).ok();
    assert_eq!(third.stdout, "newer\ndir:\nkeep.txt\n", "{}", third.stderr);
    assert_eq!(repo.base_volumes(), 1, "all over one base");
}

#[test]
fn the_kernels_other_doors_are_closed() {
    let mut repo = TestRepo::new();
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-the-real-one");
    let ran = attack(&repo, "x", "doors.py", &["--net", "model"]).ok();
    assert_eq!(ran.stdout, "tried everything\n", "{}", ran.stderr);
}

#[test]
fn a_container_root_leaves_devices_setuid_files_and_odd_owners() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    repo.sandbox("root", "echo x >> a.txt").ok();
    // Not through Airlock, which gives no agent a capability: a root of the engine's works in the same volumes.
    let record = fs::read_to_string(repo.path.join(".git/airlock/sandboxes/root/record.json")).expect("a record");
    let record: Value = serde_json::from_str(&record).expect("JSON");
    let volume = format!("airlock-{}-work:/w", record["id"].as_str().expect("an id"));
    let script = "cd /w; mknod disk b 8 0; mknod null c 1 3; mknod zero-zero c 5 1; mkfifo pipe; cp /bin/su su; chmod 6755 su; \
                  echo mine > foreign; chown 4242:4242 foreign; chmod 000 foreign; mkdir locked; echo in > locked/in; chmod 000 locked; \
                  ln -s /etc/shadow shadow; setfattr -n user.x -v y a.txt 2>/dev/null; rm c.txt; mknod c.txt c 1 3; true";
    let mut docker = std::process::Command::new("docker");
    docker.args([
        "run",
        "--rm",
        "--network=none",
        "--user",
        "0",
        "--volume",
        &volume,
        "--entrypoint",
        "sh",
        "airlock-agent:latest",
        "-c",
        script,
    ]);
    CommandOutput::from_command(docker).ok();
    // Its work is taken back once more, as after a crash.
    let folder = repo.path.join(".git/airlock/sandboxes/root");
    let mut record = record;
    record["state"] = serde_json::json!({"is": "running"});
    let text = serde_json::to_string(&record).expect("JSON");
    fs::write(folder.join("record.json"), text).expect("written");
    let diff = look_at(&repo, "root", &before);
    judged(
        verdicts(&diff),
        &[
            ("su", "high", "mode-bits"),
            ("foreign", "none", ""),
            ("locked/in", "none", ""),
            ("shadow", "refused", "link-escape"),
            ("a.txt", "none", ""),
        ],
    );
    let refused = refused(&diff);
    for special in ["disk", "null", "zero-zero", "pipe", "c.txt"] {
        assert!(refused.iter().any(|(p, r)| p == special && r.contains("is a device")), "{special}: {refused:?}");
    }
    repo.airlock(&["apply", "root", "--accept-all", "--allow-risky"]).ok();
    use std::os::unix::fs::MetadataExt;
    for name in ["su", "foreign", "locked/in"] {
        let metadata = repo.path.join(name).symlink_metadata().expect("it is there");
        assert_eq!((metadata.uid(), metadata.mode() & 0o7000), (rustix::process::getuid().as_raw(), 0), "{name}");
    }
    assert_eq!(repo.read("c.txt"), "gone\n");
}

#[test]
fn rules_are_added_by_the_user_and_by_what_the_repository_has_committed() {
    let mut repo = TestRepo::new();
    let rule = |name: &str, level: &str, path: &str| {
        format!(
            "[[risk]]\nname = \"{name}\"\nseverity = \"{level}\"\npaths = [\"{path}\"]\nreason = \"is the {name}'s\"\n"
        )
    };
    repo.write(".airlock.toml", format!("image = \"evil\"\n{}", rule("repository", "refused", "migrations/**")));
    repo.commit();
    let config = repo.path.with_file_name("config");
    fs::create_dir_all(config.join("airlock")).expect("made");
    fs::write(config.join("airlock/config.toml"), rule("user", "high", "deploy/**")).expect("written");
    repo.set("XDG_CONFIG_HOME", config.to_str().expect("UTF-8"));
    // The agent's own version of it counts for nothing.
    let script = "echo > .airlock.toml; mkdir -p migrations x/deploy y/.airlock; echo 1 > migrations/1.sql; echo 1 > y/.airlock/f; echo 1 > x/deploy/run; echo 1 > .envrc";
    let ran = repo.sandbox("r", script).ok();
    assert!(ran.stderr.contains(".airlock.toml: image is not obeyed"), "{}", ran.stderr);
    judged(
        verdicts(&repo.diff("r")),
        &[
            ("migrations/1.sql", "refused", "repository"),
            ("y/.airlock/f", "refused", "airlock-folder"),
            ("x/deploy/run", "high", "user"),
            (".airlock.toml", "high", "airlock-config"),
            (".envrc", "high", "directory-hook"),
        ],
    );
    assert!(
        repo.airlock(&["diff", "r"])
            .ok()
            .stdout
            .contains("! refused: matches the repository's rule repository: is the repository's")
    );
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    assert!(!repo.path.join("migrations").exists() && !repo.path.join("x").exists() && !repo.path.join("y").exists());
    // A rule that cannot be read is an error before anything starts.
    fs::write(config.join("airlock/config.toml"), rule("user", "high", "[")).expect("written");
    repo.airlock(&["run", "--", "true"]).expect_failure(125, &["the risk rule user"]);
    let deep = "{".repeat(3000) + "a" + &"}".repeat(3000);
    fs::write(config.join("airlock/config.toml"), rule("user", "high", &deep)).expect("written");
    repo.airlock(&["run", "--", "true"]).expect_failure(125, &["the risk rule user", "levels of braces"]);
    fs::remove_dir_all(config).expect("removed");
}

#[test]
fn what_the_users_git_configuration_names_needs_its_own_yes() {
    let repo = TestRepo::new();
    repo.write("tools/git/pre-commit", "#!/bin/sh\nexit 0\n");
    repo.write("team.inc", "[alias]\n\tst = status\n");
    repo.write("filt/clean.sh", "#!/bin/sh\ncat\n");
    repo.write("fsm.sh", "#!/bin/sh\necho 0\n");
    repo.write("plain/tools", "no program\n");
    repo.commit();
    for (key, value) in [
        ("core.hooksPath", "tools/git"),
        ("include.path", "../team.inc"),
        ("filter.mine.clean", "./filt/clean.sh"),
        ("core.fsmonitor", "./fsm.sh"),
        ("alias.x", "!sh scripts/new.sh"),
        ("core.attributesFile", "attributes"),
    ] {
        // The files are harmless: git runs them in this test.
        repo.git(&["config", key, value]);
    }
    let script = "for f in tools/git/pre-commit filt/clean.sh fsm.sh; do echo 'touch owned' >> $f; done; \
                  mkdir scripts; for f in scripts/new.sh tools/git/post-commit attributes; do echo 'touch owned' > $f; done; \
                  printf '[core]\\n\\tfsmonitor = touch owned\\n' > team.inc; echo x >> plain/tools";
    repo.airlock(&["run", "--name", "g", "--review", "never", "--", "sh", "-c", script]).ok();
    let left = judged(
        verdicts(&repo.diff("g")),
        &[
            ("tools/git/pre-commit", "high", "git-config"),
            ("tools/git/post-commit", "high", "git-config"),
            ("filt/clean.sh", "high", "git-config"),
            ("fsm.sh", "high", "git-config"),
            ("scripts/new.sh", "high", "git-config"),
            ("team.inc", "high", "git-config"),
            ("attributes", "high", "git-config"),
            ("plain/tools", "none", ""),
        ],
    );
    assert!(left.is_empty(), "{left:?}");
    let shown = repo.airlock(&["diff", "g"]).ok().stdout;
    assert!(shown.contains("is run by your git configuration"), "{shown}");
    assert!(shown.contains("is part of your git configuration"), "{shown}");
    let ran = repo.airlock(&["apply", "g", "--accept-all"]).ok();
    assert!(ran.stdout.contains("applied    plain/tools") || ran.stdout.contains("plain/tools"), "{ran:?}");
    assert_eq!(repo.read("fsm.sh"), "#!/bin/sh\necho 0\n");
    assert_eq!(repo.read("team.inc"), "[alias]\n\tst = status\n");
}

/// What runs by the repository's hooks, and files of the configuration that are links into the tree.
#[test]
fn what_hooks_and_links_lead_to_needs_its_own_yes() {
    let repo = TestRepo::new();
    let quiet = "#!/bin/sh\nexit 0\n";
    for path in ["scripts/pre-commit", "scripts/post.sh", "tools/top.sh", "my tools/c.sh", "tools/mod.py", "only/named"]
    {
        repo.write(path, quiet);
    }
    repo.write("gitconfig-home", "[user]\n\tname = Ann\n");
    repo.write("signers", "ann ssh-ed25519 x\n");
    repo.commit();
    let hooks = repo.path.join(".git/hooks");
    fs::create_dir_all(&hooks).expect("made");
    std::os::unix::fs::symlink("../../scripts/pre-commit", hooks.join("pre-commit")).expect("made");
    fs::write(hooks.join("post-commit"), "#!/bin/sh\n# see only/named\nexec ./scripts/post.sh\n").expect("written");
    let home = repo.path.with_file_name("home").join(".gitconfig");
    fs::create_dir_all(home.parent().expect("a folder")).expect("made");
    std::os::unix::fs::symlink(repo.path.join("gitconfig-home"), &home).expect("made");
    for (key, value) in [
        ("filter.top.clean", "\"$(git rev-parse --show-toplevel)/tools/top.sh\""),
        ("filter.sp.clean", "'./my tools/c.sh'"),
        ("filter.mod.clean", "python3 -m tools.mod"),
        ("gpg.ssh.allowedSignersFile", "signers"),
    ] {
        repo.git(&["config", key, value]);
    }
    let script = "for f in scripts/* tools/* 'my tools/c.sh' gitconfig-home signers only/named; do echo '# more' >> \"$f\"; done";
    repo.airlock(&["run", "--name", "g", "--review", "never", "--", "sh", "-c", script]).ok();
    let high = "high";
    let left = judged(
        verdicts(&repo.diff("g")),
        &[
            ("scripts/pre-commit", high, "git-config"),
            ("scripts/post.sh", high, "git-config"),
            ("tools/top.sh", high, "git-config"),
            ("my tools/c.sh", high, "git-config"),
            ("tools/mod.py", high, "git-config"),
            ("gitconfig-home", high, "git-config"),
            ("signers", high, "git-config"),
            ("only/named", "none", ""),
        ],
    );
    assert!(left.is_empty(), "{left:?}");

    // What the configuration names since the changes were collected counts as well.
    repo.sandbox("later", "echo x >> only/named; echo x >> a.txt").ok();
    repo.git(&["config", "alias.later", "!./only/named"]);
    let ran = repo.airlock(&["apply", "later", "--accept-all"]);
    ran.expect_failure(1, &["only/named", "is run by your git configuration", "--allow-risky"]);
    let to = ["apply", "later", "--accept-all", "--to", "branch:b"];
    repo.airlock(&to).expect_failure(1, &["only/named", "is run by your git configuration"]);
    assert_eq!(repo.read("only/named"), quiet);
    repo.airlock(&["apply", "later", "--accept-all", "--allow-risky"]).ok();
}

#[test]
fn rules_that_take_for_ever_hold_nobody_up() {
    let mut repo = TestRepo::new();
    // The rules of a hostile clone, and those of an agent.
    repo.write("deep/.gitignore", "**/".repeat(60) + "zz\n!*/\n");
    repo.commit();
    let script = "import os\nopen('.gitignore', 'w').write('**/' * 60 + 'zz\\n' + '**/a/' * 60 + 'zz\\n!*/\\n')\n\
                  for start in ('.', 'deep'):\n\
                  \x20   path = start\n\
                  \x20   for _ in range(100): path += '/a'; os.mkdir(path)\n\
                  \x20   open(path + '/a', 'w').write('x')\n";
    repo.set("AIRLOCK_MAX_TIME", "60s");
    repo.airlock(&["run", "--name", "deep", "--review", "never", "--", "python3", "-c", script]).ok();
    let changes = repo.changes("deep");
    let below = "a/".repeat(100) + "a";
    assert!(changes.contains(&(below.clone(), "added".into())), "{changes:?}");
    assert!(changes.contains(&(format!("deep/{below}"), "added".into())), "{changes:?}");
    repo.airlock(&["diff", "deep", "--stat"]).ok();
    // Attributes of a clone: most of git never ends on them, so this is made of objects.
    repo.write(&format!("{below}.txt"), "x\n");
    repo.commit();
    let attributes = repo.path.with_file_name("attributes");
    fs::write(&attributes, "**/".repeat(60) + "zz eol=crlf\n").expect("written");
    let script = "id=$(git hash-object -w --no-filters ../attributes) && \
                  (git ls-tree HEAD; printf '100644 blob %s\\t.gitattributes\\n' $id) | git mktree";
    let tree = CommandOutput::from_command(repo.command("sh", &["-c", script])).ok().stdout;
    let commit = repo.git(&["commit-tree", "-p", "HEAD", "-m", "attributes", tree.trim()]);
    repo.git(&["update-ref", "HEAD", commit.trim()]);
    let ran = repo.airlock(&["run", "--name", "attr", "--", "true"]);
    ran.expect_failure(125, &["has a pattern with 60 times **, which takes too long at this depth"]);
    assert_eq!(repo.airlock(&["ls", "--json"]).ok().stdout.matches("\"name\"").count(), 1, "nothing is left of it");
    // The same where the agent has made what is deep, and it is to be stored as git would.
    let repo = TestRepo::new();
    fs::write(repo.path.with_file_name("attributes"), "**/".repeat(60) + "zz eol=crlf\n").expect("written");
    let tree = CommandOutput::from_command(repo.command("sh", &["-c", script])).ok().stdout;
    let commit = repo.git(&["commit-tree", "-p", "HEAD", "-m", "attributes", tree.trim()]);
    repo.git(&["update-ref", "HEAD", commit.trim()]);
    repo.sandbox("at", &format!("mkdir -p {below}; echo x > {below}/f.txt")).ok();
    for to in ["branch:b", "patch:-"] {
        let ran = repo.airlock(&["apply", "at", "--accept-all", "--to", to]);
        ran.expect_failure(1, &["has a pattern with 60 times **, which takes too long at this depth"]);
    }
}
