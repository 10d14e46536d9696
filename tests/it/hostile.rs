//! Attacks by an agent that knows this code. Each fixture runs in a real container, and its work goes through collect,
//! diff, review and apply. The tests check what a user reads, and that the host repository is unchanged byte for byte.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::Stdio;

use insta::assert_snapshot;
use serde_json::Value;

use crate::support::{AIRLOCK, CommandOutput, TestRepo, TreeContents};

/// Runs a fixture as the agent.
fn run_attack(repo: &TestRepo, name: &str, fixture: &str, options: &[&str]) -> CommandOutput {
    let script = fs::read_to_string(format!("fixtures/hostile/{fixture}")).expect("the fixture exists");
    let shell: &[&str] = if fixture.ends_with(".py") { &["python3", "-c"] } else { &["sh", "-c"] };
    let args = [&["run", "--name", name, "--review", "never"], options, &["--"], shell, &[&script]].concat();
    repo.airlock(&args)
}

/// The findings of each path: its highest severity, and the names of the rules.
type Verdicts = BTreeMap<String, (String, Vec<String>)>;

/// Reads the findings of each path from a diff.
fn read_verdicts(diff: &Value) -> Verdicts {
    let text = |v: &Value| v.as_str().unwrap_or("none").to_owned();
    let files = diff["files"].as_array().expect("a list").iter();
    files
        .map(|f| {
            let rules = f["findings"].as_array().expect("a list").iter().map(|r| text(&r["rule"])).collect();
            (text(&f["path"]), (text(&f["severity"]), rules))
        })
        .collect()
}

/// Checks the severities and rules of these paths, and returns the other paths.
#[track_caller]
fn check_verdicts(mut verdicts: Verdicts, expected: &[(&str, &str, &str)]) -> Verdicts {
    for (path, level, rule) in expected {
        let Some((found, rules)) = verdicts.remove(*path) else { panic!("{path} is missing: {verdicts:#?}") };
        assert_eq!(found, *level, "{path}: {rules:?}");
        assert!(rule.is_empty() || rules.iter().any(|r| r == rule), "{path} has {rules:?}, not {rule}");
    }
    verdicts
}

/// Returns path and reason of everything that cannot be collected.
fn read_refused(diff: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().expect("a string").to_owned();
    diff["not_collected"].as_array().expect("a list").iter().map(|r| (text(&r["path"]), text(&r["reason"]))).collect()
}

/// Shows a sandbox with every command, accepts everything in a review, and plans an apply of everything. Checks that no
/// output controls a terminal, and that the host repository is unchanged. Returns the diff as JSON.
#[track_caller]
fn inspect_sandbox(repo: &TestRepo, name: &str, before: &TreeContents) -> Value {
    for args in [&["diff", name][..], &["diff", name, "--stat"], &["status", name], &["ls"]] {
        let ran = repo.airlock(args).ok();
        for text in [&ran.stdout, &ran.stderr] {
            let bad = text.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t');
            assert_eq!(bad, None, "{args:?} controls a terminal: {text:?}");
            assert!(
                !text.contains('\u{202e}') && !text.contains('\u{200b}'),
                "{args:?} prints invisible characters: {text:?}"
            );
        }
    }
    let json = repo.airlock(&["diff", name, "--json", "--no-renames"]).ok().stdout;
    assert!(json.bytes().all(|b| b >= b' ' || b == b'\n'), "the JSON has control characters");
    let mut review = repo.command(AIRLOCK, &["review", name, "--plain"]);
    let mut child =
        review.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    // There are more answers than questions. The review may end before it has read all of them.
    let _ = child.stdin.take().expect("a pipe").write_all("y\n".repeat(500).as_bytes());
    let ran: CommandOutput = child.wait_with_output().expect("it ends").into();
    let bad = ran.ok().stdout.chars().find(|c| c.is_control() && *c != '\n' && *c != '\t');
    assert_eq!(bad, None, "the review controls a terminal");
    // The status depends on the changes.
    repo.airlock(&["apply", name, "--accept-all", "--allow-risky", "--dry-run"]);
    assert_eq!(repo.read_tree(), *before, "the host repository changed");
    serde_json::from_str(&json).expect("JSON")
}

#[test]
fn repository_names_are_refused_in_every_spelling() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    run_attack(&repo, "g", "repository-names.sh", &[]).ok();
    let diff = inspect_sandbox(&repo, "g", &before);
    assert_eq!(diff["files"].as_array().expect("a list").len(), 0, "{:#}", diff["files"]);
    let refused = read_refused(&diff);
    let names = refused.iter().filter(|(_, reason)| reason.contains("names a repository directory")).count();
    // 20 spellings at two locations. The agent's two repositories are one entry each.
    assert_eq!(names, 40, "{refused:#?}");
    let own: Vec<&str> =
        refused.iter().filter(|(_, why)| why.contains("embedded repository")).map(|(path, _)| path.as_str()).collect();
    assert_eq!((own, refused.len()), (vec!["pointed", "sub"], 42), "{refused:#?}");
    assert_snapshot!(repo.airlock(&["diff", "g"]), @r"
    status: 0
    ----- stderr -----
    airlock: not collected: .GIT: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: .JJ: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: .\.GIT\foobar: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: .gIt: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: .git : a component of the path names a repository directory (.git, .jj)
    airlock: not collected: .git.: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: .git...: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: .git...:x: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: .git::$INDEX_ALLOCATION: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: .git:foo: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: .git\foobar: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: .git<U+202E>: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: .g<U+200C>it: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: .jj: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: GI2837~1: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: GI7EBA~1: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: GIT~1: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: git~1: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: git~9: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.GIT: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.JJ: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.\.GIT\foobar: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.gIt: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.git : a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.git.: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.git...: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.git...:x: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.git::$INDEX_ALLOCATION: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.git:foo: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.git\foobar: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.git<U+202E>: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.g<U+200C>it: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/.jj: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/GI2837~1: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/GI7EBA~1: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/GIT~1: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/git~1: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/git~9: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: nested/<U+FEFF>.git: a component of the path names a repository directory (.git, .jj)
    airlock: not collected: pointed: is an embedded repository or worktree, whose files are not collected
    airlock: not collected: sub: is an embedded repository or worktree, whose files are not collected
    airlock: not collected: <U+FEFF>.git: a component of the path names a repository directory (.git, .jj)
    ");
    assert_snapshot!(repo.airlock(&["apply", "g", "--accept-all", "--allow-risky"]), @"
    status: 2
    ----- stderr -----
    error: the selection contains no changes of `g`
    hint: to list the paths, run `airlock diff g --name-only`
    ");
    assert!(!repo.path.join("sub/.git").exists() && !repo.path.join("pointed/.git").exists());
}

#[test]
fn symlinks_out_of_the_tree_are_refused() {
    let repo = TestRepo::new();
    // A symlink that the user committed. It may point outside the tree.
    std::os::unix::fs::symlink("/opt", repo.path.join("ext")).expect("made");
    repo.commit();
    let before = repo.read_tree();
    run_attack(&repo, "l", "links.sh", &[]).ok();
    let diff = inspect_sandbox(&repo, "l", &before);
    let left = check_verdicts(
        read_verdicts(&diff),
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
    assert_snapshot!(repo.airlock(&["apply", "l", "--accept", "absolute", "--allow-risky"]), @"
    status: 1
    ----- stderr -----
    error: absolute cannot be accepted: it points to an absolute path
    ");
    assert_snapshot!(repo.airlock(&["apply", "l", "--accept-all"]), @"
    status: 0
    ----- stdout -----
      refused    .GITignore             cannot be accepted
      refused    .gitattributes         cannot be accepted
      refused    .gitmodules            cannot be accepted
      refused    .mailmap               cannot be accepted
      refused    absolute               cannot be accepted
      refused    climbs-after-a-name    cannot be accepted
      refused    climbs-inside          cannot be accepted
      skipped    dangling               high finding: needs --allow-risky
      refused    deep/er/leaving        cannot be accepted
      refused    deep/two               cannot be accepted
      skipped    deep/up                high finding: needs --allow-risky
      skipped    fine                   high finding: needs --allow-risky
      refused    git-by-its-short-name  cannot be accepted
      refused    git-directly           cannot be accepted
      refused    git-in-disguise        cannot be accepted
      refused    leaving                cannot be accepted
      skipped    loop-a                 high finding: needs --allow-risky
      skipped    loop-b                 high finding: needs --allow-risky
      refused    through-the-users-own  cannot be accepted
    ----- stderr -----
    airlock: 0 of 19 files applied. Next: airlock review l, or airlock rm l
    ");
    assert_eq!(repo.read_tree(), before, "every symlink needs --allow-risky");
    repo.airlock(&["apply", "l", "--accept-all", "--allow-risky"]).ok();
    let made = repo.git(&["status", "--short", "--untracked-files=all"]);
    assert_eq!(made, "?? dangling\n?? deep/up\n?? fine\n?? loop-a\n?? loop-b\n");
}

#[test]
fn collect_of_many_symlinks_has_a_time_limit() {
    let mut repo = TestRepo::new();
    repo.set("AIRLOCK_MAX_TIME", "60s");
    let script = "import os\ntarget = 'x/' * 1900\nos.mkdir('d')\n\
                  for i in range(3000): os.symlink(target + str(i), f'd/l{i}'); os.symlink('d', f'a{i}'); open(f'd/{i}', 'w').write('x')";
    repo.airlock(&["run", "--name", "f", "--", "python3", "-c", script]).ok();
    assert_eq!(repo.diff("f")["files"].as_array().expect("a list").len(), 9000);
    // If collecting still takes too long, the message names the setting, and the work is kept.
    repo.set("AIRLOCK_MAX_TIME", "1s");
    let script = "import os\nfor i in range(60000): open(f'{i}', 'w').write(str(i))";
    assert_snapshot!(repo.airlock(&["run", "--name", "t", "--", "python3", "-c", script]), @"
    status: 125
    ----- stderr -----
    airlock: t · main at [COMMIT], 5 files · network: none
    error: the sandbox exceeds a collection limit: collection took longer than 1 s (max_time); the sandbox `t` is kept with the agent's work
    hint: run `airlock diff t`
    ");
    repo.unset("AIRLOCK_MAX_TIME");
}

#[test]
fn apply_resolves_symlinks_in_the_working_tree() {
    let repo = TestRepo::new();
    repo.changeset("h", "ln -s mine/passwd new; ln -s a.txt fine");
    // This symlink is untracked and newer than the sandbox, so the sandbox has no record of it.
    std::os::unix::fs::symlink("/etc", repo.path.join("mine")).expect("made");
    let before = repo.read_tree();
    assert_snapshot!(repo.airlock(&["apply", "h", "--accept", "new", "--allow-risky"]), @"
    status: 4
    ----- stdout -----
      conflict   new  as a symlink in your working tree, it leads through a symlink to an absolute path
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    ");
    assert_eq!(repo.read_tree(), before);
    repo.airlock(&["apply", "h", "--accept", "fine", "--allow-risky"]).ok();
}

#[test]
fn apply_judges_the_result_of_a_partial_change() {
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
    assert_eq!(file["severity"], Value::Null, "the whole change leaves the scripts as they are");
    let id = file["hunks"][1]["id"].as_str().expect("an id");
    assert_snapshot!(repo.airlock(&["apply", "m", "--accept-id", id]), @"
    status: 0
    ----- stdout -----
      applied    package.json  1 of 2 hunks
    ----- stderr -----
    airlock: what is written to package.json no longer has scripts, unlike the whole change
    airlock: 1 of 2 files applied. Undo: airlock undo m · Next: airlock review m, or airlock rm m
    ");
}

#[test]
fn apply_never_writes_through_a_new_symlink() {
    let repo = TestRepo::new();
    let outside = repo.directory().join("outside");
    let before = repo.read_tree();
    run_attack(&repo, "w", "write-through.sh", &[]).ok();
    let diff = inspect_sandbox(&repo, "w", &before);
    check_verdicts(
        read_verdicts(&diff),
        &[
            ("dir", "refused", "link-escape"),
            ("lib/x", "none", ""),
            ("lib-link", "high", "link"),
            ("A/config", "refused", "name-collision"),
            ("a", "refused", "name-collision"),
        ],
    );
    assert_snapshot!(repo.airlock(&["apply", "w", "--accept-all", "--allow-risky"]), @"
    status: 0
    ----- stdout -----
      refused    A/config      cannot be accepted
      refused    a             cannot be accepted
      refused    dir           cannot be accepted
      deleted    dir/keep.txt
      created    lib-link
      created    lib/x
    ----- stderr -----
    airlock: 3 of 6 files applied. Undo: airlock undo w · All changes are decided. Next: airlock resume w -- COMMAND, or airlock rm w
    ");
    assert!(!outside.exists() && !repo.path.join("A").exists() && !repo.path.join("a").exists());
}

#[test]
fn name_collisions_are_reported_or_refused() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    run_attack(&repo, "t", "name-collisions.sh", &[]).ok();
    let diff = inspect_sandbox(&repo, "t", &before);
    check_verdicts(
        read_verdicts(&diff),
        &[
            ("Twin/x", "refused", "name-collision"),
            ("twin", "refused", "name-collision"),
            ("README", "note", "name-collision"),
            ("readme", "note", "name-collision"),
            ("caf\u{e9}", "note", "name-collision"),
            ("cafe\u{301}", "note", "name-collision"),
            ("\u{17f}et.txt", "high", "name-collision"),
            ("set.txt", "note", "name-collision"),
            ("Kind", "refused", "name-collision"),
            ("kind/file", "refused", "name-collision"),
            ("A.TXT", "refused", "name-collision"),
        ],
    );
    // Not a snapshot, because it would contain names that look the same.
    let shown = repo.airlock(&["diff", "t"]).ok().stdout;
    assert!(shown.contains("collides with readme on some file systems"), "{shown}");
    // This file system distinguishes upper and lower case.
    repo.airlock(&["apply", "t", "--accept", "README", "--accept", "readme"]).ok();
    assert_eq!((repo.read("README"), repo.read("readme")), ("upper\n".into(), "lower\n".into()));
    // The host has a symlink that is newer than the sandbox, and the agent's file collides with its name.
    std::os::unix::fs::symlink("/etc", repo.path.join("Set.txt")).expect("made");
    assert_snapshot!(repo.airlock(&["apply", "t", "--accept", "set.txt"]), @r#"
    status: 4
    ----- stdout -----
      conflict   set.txt  other file systems treat it as the same name as "Set.txt", which is of another type
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    "#);
}

#[test]
fn odd_names_are_applied_unchanged() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    run_attack(&repo, "o", "odd-names.sh", &[]).ok();
    let diff = inspect_sandbox(&repo, "o", &before);
    let found = check_verdicts(
        read_verdicts(&diff),
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
    assert_snapshot!(repo.airlock(&["diff", "o", "--stat"]), @r#"
    status: 0
    ----- stdout -----
    added     "q"             +1 −0  note
    added     $(touch owned)  +1 −0
    added     *               +1 −0  note
    added     --help          +1 −0
    added     -rf             +1 −0
    added     :(glob)*        +1 −0  note
    added     ;touch owned    +1 −0
    added     C:x             +1 −0  note
    added     \\?\x           +1 −0  note
    added     `touch owned`   +1 −0
    added     a<U+000A>b      +2 −0  note
    added     a:b             +1 −0  note
    added     aux.c           +1 −0  note
    added     bell<U+0007>    +1 −0  high
    added     esc<U+001B>[2J  +1 −0  high
    added     trailing        +1 −0  note
    added     ~               +1 −0
    added     é               +1 −0
    added     <0xFF>          binary, 0 bytes → 2 bytes, sha256 e4688624e5f1  medium
    19 files, +19 −0
    "#);
    // Files with control characters in their names also have them in their content.
    repo.airlock(&["apply", "o", "--accept-all", "--allow-risky"]).ok();
    let status = repo.git(&["status", "--porcelain", "-z", "--untracked-files=all"]);
    assert_eq!(status.matches("?? ").count(), 19, "{status:?}");
    assert_eq!(repo.read("$(touch owned)"), "$(touch owned)\n");
    assert!(!repo.path.join("owned").exists());
}

#[test]
fn special_files_and_mode_bits_are_not_applied() {
    let mut repo = TestRepo::new();
    repo.set("AIRLOCK_MAX_FILE", "1m");
    let before = repo.read_tree();
    run_attack(&repo, "k", "kinds.sh", &[]).ok();
    let diff = inspect_sandbox(&repo, "k", &before);
    check_verdicts(
        read_verdicts(&diff),
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
    let refused = read_refused(&diff);
    let reason = |path: &str| refused.iter().find(|(p, _)| p == path).map(|(_, r)| r.as_str());
    for special in ["pipe", "socket", "c.txt"] {
        assert_eq!(reason(special), Some("is a device, a socket or a pipe"), "{refused:?}");
    }
    assert_eq!(reason("sparse"), Some("is larger than 1 MiB (max_file)"));
    // Not a snapshot, because `suid` is a program of the image.
    let shown = repo.airlock(&["diff", "k"]).ok().stdout;
    assert!(shown.contains("has mode 4755, of which only the executable bit is kept"), "{shown}");
    repo.airlock(&["apply", "k", "--accept-all", "--allow-risky"]).ok();
    use std::os::unix::fs::PermissionsExt;
    for name in ["suid", "sgid", "writable", "sticky", "run.sh"] {
        let mode = repo.path.join(name).metadata().expect("the file exists").permissions().mode() & 0o7777;
        assert_eq!(mode & 0o7002, 0, "{name}: {mode:o}");
    }
    assert_eq!(repo.read("c.txt"), "gone\n", "a file that a pipe replaced stays");
    assert_eq!(repo.read("dir"), "now a file\n");
}

#[test]
fn planted_repositories_are_refused() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    run_attack(&repo, "p", "planted.sh", &[]).ok();
    let diff = inspect_sandbox(&repo, "p", &before);
    let rule = "planted-repository";
    let left = check_verdicts(
        read_verdicts(&diff),
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
    // A repository in two parts is found as well: the host has the last third.
    repo.write("partly/refs/y", "");
    assert_snapshot!(repo.airlock(&["apply", "p", "--accept-all", "--allow-risky"]), @r#"
    status: 4
    ----- stdout -----
      refused    common/HEAD              cannot be accepted
      refused    common/commondir         cannot be accepted
      refused    fixtures/repo/HEAD       cannot be accepted
      refused    fixtures/repo/config     cannot be accepted
      refused    fixtures/repo/objects/x  cannot be accepted
      refused    fixtures/repo/refs/x     cannot be accepted
      refused    folded/Objects/x         cannot be accepted
      refused    folded/REFS/x            cannot be accepted
      refused    folded/head              cannot be accepted
      refused    linked/HEAD              cannot be accepted
      refused    linked/objects           cannot be accepted
      refused    linked/refs              cannot be accepted
      conflict   partly/HEAD              git would open "partly" as a repository
      conflict   partly/objects/x         git would open "partly" as a repository
      skipped    real/x                   because of the conflicts
      refused    tree/HEAD                cannot be accepted
      refused    tree/config.worktree     cannot be accepted
    ----- stderr -----
    airlock: 2 conflicts; nothing was written
    airlock: to skip them, add `--reject=partly/HEAD --reject=partly/objects/x`
    airlock: to write everything except conflicts, add `--on-conflict skip`
    "#);
    assert!(!repo.path.join("partly/HEAD").exists() && !repo.path.join("fixtures").exists());
}

#[test]
fn sandbox_git_dir_is_never_read_on_the_host() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    run_attack(&repo, "r", "own-repository.sh", &[]).ok();
    let diff = inspect_sandbox(&repo, "r", &before);
    assert_eq!(read_verdicts(&diff).into_keys().collect::<Vec<_>>(), ["a.txt"]);
    repo.airlock(&["apply", "r", "--accept-all"]).ok();
    assert_eq!(repo.git(&["status", "--short"]), " M a.txt\n");
    let git = |p: &TreeContents| {
        p.iter()
            .filter(|(k, _)| k.starts_with(repo.path.join(".git")))
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect::<TreeContents>()
    };
    let (mut was, mut is) = (git(&before), git(&repo.read_tree()));
    // The test's own `git status` refreshes the index.
    let index = repo.path.join(".git/index");
    was.remove(&index);
    is.remove(&index);
    assert_eq!(was, is);
    assert!(!std::path::Path::new("/tmp/owned").exists());
}

#[test]
fn diff_escapes_deceptive_text() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    run_attack(&repo, "d", "display.sh", &[]).ok();
    let diff = inspect_sandbox(&repo, "d", &before);
    check_verdicts(
        read_verdicts(&diff),
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
        "+(1/1) a.txt Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] ",
        "+\\ No newline at end of file",
        "+start<U+0020 x5000>evil()",
        "+<U+000A x10000>",
        "symlink to a<U+001B>[2J",
        "added  name<U+001B>[2J<U+202E>",
        "-one",
        "+one ",
        "\\ No newline at end of file",
    ] {
        assert!(shown.lines().any(|l| l == line), "{line:?} is not shown:\n{shown}");
    }
    // Every line of content starts with a gutter, so that it cannot pretend to be a message.
    let pretends =
        |l: &&str| l.starts_with("Apply?") || l.starts_with("--- ") || l.starts_with("+++ ") || l.starts_with("(1/1)");
    assert_eq!(shown.lines().find(pretends), None);
    for binary in ["utf16.txt", "nul.bin", "late-nul.bin"] {
        let at = shown.find(&format!("added  {binary}")).expect("the file is shown");
        let unit = shown[at..].lines().find(|l| l.starts_with("binary, ")).expect("the file is one unit");
        assert!(unit.contains("bytes, sha256 "), "{unit}");
    }
}

#[test]
fn risk_rules_find_delayed_execution() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    run_attack(&repo, "y", "delayed.sh", &[]).ok();
    let diff = inspect_sandbox(&repo, "y", &before);
    check_verdicts(
        read_verdicts(&diff),
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
    assert_snapshot!(repo.airlock(&["apply", "y", "--accept", ".envrc"]), @"
    status: 1
    ----- stderr -----
    error: .envrc is high risk and requires confirmation: it runs when you enter the directory; sets environment variables of commands
    hint: review it, then add `--allow-risky`
    ");
    assert_snapshot!(repo.airlock(&["apply", "y", "--accept-all"]), @"
    status: 0
    ----- stdout -----
      skipped    .VSCode/TASKS.json           high finding: needs --allow-risky
      skipped    .claude/hooks/settings.json  high finding: needs --allow-risky
      skipped    .cursor                      high finding: needs --allow-risky
      skipped    .envrc                       high finding: needs --allow-risky
      created    .github/workflows/ci.yml
      applied    .gitignore
      skipped    .idea/keep.txt               high finding: needs --allow-risky
      skipped    conf/mcp.json                high finding: needs --allow-risky
      skipped    config.ini                   high finding: needs --allow-risky
      created    package-lock.json
      created    package.json
      skipped    sub/.Husky/pre-commit        high finding: needs --allow-risky
      skipped    tool                         high finding: needs --allow-risky
    ----- stderr -----
    airlock: 4 of 13 files applied. Undo: airlock undo y · Next: airlock review y, or airlock rm y
    ");
    for path in [".envrc", "tool", "config.ini"] {
        assert!(!repo.path.join(path).exists(), "{path}");
    }
}

#[test]
fn collect_limits_name_their_setting() {
    let mut repo = TestRepo::new();
    for (name, value) in
        [("MAX_ENTRIES", "1000"), ("MAX_FILES", "30"), ("MAX_FILE", "1m"), ("MAX_TOTAL", "800k"), ("MAX_DEPTH", "40")]
    {
        repo.set(&format!("AIRLOCK_{name}"), value);
    }
    let before = repo.read_tree();
    run_attack(&repo, "b", "bombs.sh", &[]).ok();
    let diff = inspect_sandbox(&repo, "b", &before);
    let refused = read_refused(&diff);
    for (path, reason) in [
        ("many", "too many new files and directories (limit: 1000, max_entries)"),
        ("one-line", "is larger than 1 MiB (max_file)"),
        ("b-zero", "exceeds the total limit of 819200 bytes (max_total)"),
        ("wide/", "exceed the limit of 30 files (max_files;"),
        ("d/d/d", "is nested too deeply (limit: 40 directories, max_depth)"),
    ] {
        let found = refused.iter().any(|(p, r)| p.starts_with(path) && r.contains(reason));
        assert!(found, "{path} {reason}: {refused:#?}");
    }
    assert!(read_verdicts(&diff).contains_key("fine.txt"));
    // With the default limits, everything is collected.
    for name in ["MAX_ENTRIES", "MAX_FILES", "MAX_FILE", "MAX_TOTAL", "MAX_DEPTH"] {
        repo.unset(&format!("AIRLOCK_{name}"));
    }
    run_attack(&repo, "b2", "bombs.sh", &[]).ok();
    assert_eq!(repo.diff("b2")["not_collected"], serde_json::json!([]));
    repo.set("AIRLOCK_MAX_DEPTH", "999");
    assert_snapshot!(repo.airlock(&["run", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: max_depth: 999 is not between 1 and 256
    ");
}

#[test]
fn apply_keeps_files_that_were_never_sent() {
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
    assert_snapshot!(repo.airlock(&["apply", "v", "--accept", "untracked"]), @"
    status: 4
    ----- stdout -----
      conflict   untracked  a different file already exists there

    untracked: a different file already exists there
      base                │ nothing
      ours (working tree) │ a file, 5 bytes, sha256 fcbc800db3f1…
      theirs (accepted)   │ a file, 5 bytes, sha256 886b67480dbe…
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review v` and press x
    airlock: to write both sides between conflict markers, add `--on-conflict markers`
    ");
    assert_snapshot!(repo.airlock(&["apply", "v", "--accept", "vendor/inner/x"]), @r#"
    status: 4
    ----- stdout -----
      conflict   vendor/inner/x  "vendor/inner" is another repository
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    "#);
    assert_snapshot!(repo.airlock(&["apply", "v", "--accept", "skipped"]), @"
    status: 4
    ----- stdout -----
      conflict   skipped  both sides changed the same lines

    skipped: both sides changed the same lines
      base, line 1
      │ base
      ours (working tree), line 1
      │ mine
      theirs (accepted), line 1
      │ evil
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review v` and press x
    airlock: to write both sides between conflict markers, add `--on-conflict markers`
    ");
    // An ignored file is only collected with --include.
    assert!(!repo.changes("v").iter().any(|(p, _)| p == ".env"));
    assert_eq!(repo.read_tree(), before);
    repo.airlock(&["run", "--name", "e", "--include", ".env", "--", "sh", "-c", "echo evil > .env"]).ok();
    repo.write(".env", "SECRET=newer\n");
    assert_snapshot!(repo.airlock(&["apply", "e", "--accept", ".env", "--allow-risky"]), @"
    status: 4
    ----- stdout -----
      conflict   .env  both sides changed the same lines

    .env: both sides changed the same lines
      base, line 1
      │ SECRET=mine
      ours (working tree), line 1
      │ SECRET=newer
      theirs (accepted), line 1
      │ evil
    ----- stderr -----
    airlock: 1 conflict; nothing was written
    airlock: to resolve conflicts one by one, run `airlock review e` and press x
    airlock: to write both sides between conflict markers, add `--on-conflict markers`
    ");
    assert_eq!(repo.read(".env"), "SECRET=newer\n");
}

#[test]
fn sandboxes_are_isolated_from_each_other() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    let ran = run_attack(&repo, "one", "poison.sh", &[]).ok();
    assert_eq!(ran.stdout, "", "the agent could write or list protected paths");
    let diff = inspect_sandbox(&repo, "one", &before);
    check_verdicts(
        read_verdicts(&diff),
        &[("dir", "refused", "link-escape"), ("base-link", "refused", "link-escape"), ("a.txt", "none", "")],
    );
    let look = "cat a.txt; git config core.poison; ls .git/poison dir; readlink ~/.claude ~/.claude.json; ls ~/.config; git status --short";
    let next = repo.airlock(&["run", "--name", "two", "--keep", "--", "sh", "-c", look]).ok();
    assert_eq!(next.stdout, "one\ntwo\ndir:\nkeep.txt\n", "{}", next.stderr);
    // A newer commit is a delta over the same base.
    repo.write("a.txt", "newer\n");
    repo.commit();
    let third = repo.airlock(&["run", "--name", "three", "--keep", "--", "sh", "-c", look]).ok();
    assert_eq!(third.stdout, "newer\ndir:\nkeep.txt\n", "{}", third.stderr);
    assert_eq!(repo.base_volumes(), 1, "all sandboxes share one base");
}

#[test]
fn agent_cannot_use_other_kernel_interfaces() {
    let mut repo = TestRepo::new();
    repo.set("ANTHROPIC_API_KEY", "sk-ant-api03-the-real-one");
    let ran = run_attack(&repo, "x", "doors.py", &["--net", "model"]).ok();
    assert_eq!(ran.stdout, "tried everything\n", "{}", ran.stderr);
}

#[test]
fn collect_sanitizes_files_of_container_root() {
    let repo = TestRepo::new();
    let before = repo.read_tree();
    repo.sandbox("root", "echo x >> a.txt").ok();
    // Airlock gives no capability to an agent, so a container outside Airlock writes to the same volumes as root.
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
    // The work is collected again, as after a crash.
    let folder = repo.path.join(".git/airlock/sandboxes/root");
    let mut record = record;
    record["state"] = serde_json::json!({"is": "running"});
    let text = serde_json::to_string(&record).expect("JSON");
    fs::write(folder.join("record.json"), text).expect("written");
    let diff = inspect_sandbox(&repo, "root", &before);
    check_verdicts(
        read_verdicts(&diff),
        &[
            ("su", "high", "mode-bits"),
            ("foreign", "none", ""),
            ("locked/in", "none", ""),
            ("shadow", "refused", "link-escape"),
            ("a.txt", "none", ""),
        ],
    );
    let refused = read_refused(&diff);
    for special in ["disk", "null", "zero-zero", "pipe", "c.txt"] {
        assert!(refused.iter().any(|(p, r)| p == special && r.contains("is a device")), "{special}: {refused:?}");
    }
    repo.airlock(&["apply", "root", "--accept-all", "--allow-risky"]).ok();
    use std::os::unix::fs::MetadataExt;
    for name in ["su", "foreign", "locked/in"] {
        let metadata = repo.path.join(name).symlink_metadata().expect("the file exists");
        assert_eq!((metadata.uid(), metadata.mode() & 0o7000), (rustix::process::getuid().as_raw(), 0), "{name}");
    }
    assert_eq!(repo.read("c.txt"), "gone\n");
}

#[test]
fn risk_rules_come_from_user_and_commit() {
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
    // The agent's version of `.airlock.toml` has no effect.
    let script = "echo > .airlock.toml; mkdir -p migrations x/deploy y/.airlock; echo 1 > migrations/1.sql; echo 1 > y/.airlock/f; echo 1 > x/deploy/run; echo 1 > .envrc";
    let ran = repo.sandbox("r", script).ok();
    assert!(ran.stderr.contains(".airlock.toml: `image` is ignored"), "{}", ran.stderr);
    check_verdicts(
        read_verdicts(&repo.diff("r")),
        &[
            ("migrations/1.sql", "refused", "repository"),
            ("y/.airlock/f", "refused", "airlock-folder"),
            ("x/deploy/run", "high", "user"),
            (".airlock.toml", "high", "airlock-config"),
            (".envrc", "high", "directory-hook"),
        ],
    );
    assert_snapshot!(repo.airlock(&["diff", "r"]), @r#"
    status: 0
    ----- stdout -----
    modified  .airlock.toml
    ! high: configures Airlock
    @@ -1,6 +1 @@
    -image = "evil"
    -[[risk]]
    -name = "repository"
    -severity = "refused"
    -paths = ["migrations/**"]
    -reason = "is the repository's"
    +

    added  .envrc
    ! high: runs when you enter the directory
    ! high: sets environment variables of commands
    @@ -0,0 +1 @@
    +1

    added  migrations/1.sql
    ! refused: matches the repository's rule repository: is the repository's
    @@ -0,0 +1 @@
    +1

    added  x/deploy/run
    ! high: is the user's
    @@ -0,0 +1 @@
    +1

    added  y/.airlock/f
    ! refused: is where Airlock stages files on another mount
    @@ -0,0 +1 @@
    +1
    "#);
    assert_snapshot!(repo.airlock(&["apply", "r", "--accept-all"]), @"
    status: 0
    ----- stdout -----
      skipped    .airlock.toml     high finding: needs --allow-risky
      skipped    .envrc            high finding: needs --allow-risky
      refused    migrations/1.sql  cannot be accepted
      skipped    x/deploy/run      high finding: needs --allow-risky
      refused    y/.airlock/f      cannot be accepted
    ----- stderr -----
    airlock: 0 of 5 files applied. Next: airlock review r, or airlock rm r
    ");
    assert!(!repo.path.join("migrations").exists() && !repo.path.join("x").exists() && !repo.path.join("y").exists());
    // An invalid rule is an error before anything starts.
    fs::write(config.join("airlock/config.toml"), rule("user", "high", "[")).expect("written");
    assert_snapshot!(repo.airlock(&["run", "--", "true"]), @"
    status: 125
    ----- stderr -----
    airlock: .airlock.toml: `image` is ignored; a repository can only add risk rules and request hosts or a setup
    error: the risk rule user is invalid: error parsing glob '**/[': unclosed character class; missing ']'
    ");
    let deep = "{".repeat(3000) + "a" + &"}".repeat(3000);
    fs::write(config.join("airlock/config.toml"), rule("user", "high", &deep)).expect("written");
    assert_snapshot!(repo.airlock(&["run", "--", "true"]), @"
    status: 125
    ----- stderr -----
    airlock: .airlock.toml: `image` is ignored; a repository can only add risk rules and request hosts or a setup
    error: the risk rule user is invalid: a glob has more than 8192 bytes or 16 levels of braces
    ");
    fs::remove_dir_all(config).expect("removed");
}

#[test]
fn git_config_targets_need_allow_risky() {
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
        // The files are harmless, because git runs them in this test.
        repo.git(&["config", key, value]);
    }
    let script = "for f in tools/git/pre-commit filt/clean.sh fsm.sh; do echo 'touch owned' >> $f; done; \
                  mkdir scripts; for f in scripts/new.sh tools/git/post-commit attributes; do echo 'touch owned' > $f; done; \
                  printf '[core]\\n\\tfsmonitor = touch owned\\n' > team.inc; echo x >> plain/tools";
    repo.airlock(&["run", "--name", "g", "--review", "never", "--", "sh", "-c", script]).ok();
    let left = check_verdicts(
        read_verdicts(&repo.diff("g")),
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
    assert_snapshot!(repo.airlock(&["diff", "g"]), @"
    status: 0
    ----- stdout -----
    added  attributes
    ! high: is part of your git configuration
    @@ -0,0 +1 @@
    +touch owned

    modified  filt/clean.sh
    ! high: is run by your git configuration
    @@ -1,2 +1,3 @@
     #!/bin/sh
     cat
    +touch owned

    modified  fsm.sh
    ! high: is run by your git configuration
    @@ -1,2 +1,3 @@
     #!/bin/sh
     echo 0
    +touch owned

    modified  plain/tools
    @@ -1 +1,2 @@
     no program
    +x

    added  scripts/new.sh
    ! high: is run by your git configuration
    @@ -0,0 +1 @@
    +touch owned

    modified  team.inc
    ! high: is part of your git configuration
    @@ -1,2 +1,2 @@
    -[alias]
    -	st = status
    +[core]
    +	fsmonitor = touch owned

    added  tools/git/post-commit
    ! high: is run by your git configuration
    @@ -0,0 +1 @@
    +touch owned

    modified  tools/git/pre-commit
    ! high: is run by your git configuration
    @@ -1,2 +1,3 @@
     #!/bin/sh
     exit 0
    +touch owned
    ");
    assert_snapshot!(repo.airlock(&["apply", "g", "--accept-all"]), @"
    status: 0
    ----- stdout -----
      skipped    attributes             high finding: needs --allow-risky
      skipped    filt/clean.sh          high finding: needs --allow-risky
      skipped    fsm.sh                 high finding: needs --allow-risky
      applied    plain/tools
      skipped    scripts/new.sh         high finding: needs --allow-risky
      skipped    team.inc               high finding: needs --allow-risky
      skipped    tools/git/post-commit  high finding: needs --allow-risky
      skipped    tools/git/pre-commit   high finding: needs --allow-risky
    ----- stderr -----
    airlock: 1 of 8 files applied. Undo: airlock undo g · Next: airlock review g, or airlock rm g
    ");
    assert_eq!(repo.read("fsm.sh"), "#!/bin/sh\necho 0\n");
    assert_eq!(repo.read("team.inc"), "[alias]\n\tst = status\n");
}

/// The targets are programs that the repository's hooks run, and files of the configuration that are symlinks into the
/// tree.
#[test]
fn hook_and_symlink_targets_need_allow_risky() {
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
    let left = check_verdicts(
        read_verdicts(&repo.diff("g")),
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

    // A name that was added to the configuration after the changes were collected counts as well.
    repo.sandbox("later", "echo x >> only/named; echo x >> a.txt").ok();
    repo.git(&["config", "alias.later", "!./only/named"]);
    assert_snapshot!(repo.airlock(&["apply", "later", "--accept-all"]), @"
    status: 1
    ----- stderr -----
    error: only/named is run by your git configuration, since the changes were collected; nothing was written
    hint: review it, then add `--allow-risky`
    ");
    assert_snapshot!(repo.airlock(&["apply", "later", "--accept-all", "--to", "branch:b"]), @"
    status: 1
    ----- stderr -----
    error: only/named is run by your git configuration, since the changes were collected; nothing was written
    hint: review it, then add `--allow-risky`
    ");
    assert_eq!(repo.read("only/named"), quiet);
    repo.airlock(&["apply", "later", "--accept-all", "--allow-risky"]).ok();
}

#[test]
fn slow_ignore_patterns_do_not_block() {
    let mut repo = TestRepo::new();
    // Ignore rules of a hostile clone, and ignore rules of an agent.
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
    // Attributes of a clone. Most git commands would not end on them, so the commit is made from objects.
    repo.write(&format!("{below}.txt"), "x\n");
    repo.commit();
    let attributes = repo.path.with_file_name("attributes");
    fs::write(&attributes, "**/".repeat(60) + "zz eol=crlf\n").expect("written");
    let script = "id=$(git hash-object -w --no-filters ../attributes) && \
                  (git ls-tree HEAD; printf '100644 blob %s\\t.gitattributes\\n' $id) | git mktree";
    let tree = CommandOutput::from_command(repo.command("sh", &["-c", script])).ok().stdout;
    let commit = repo.git(&["commit-tree", "-p", "HEAD", "-m", "attributes", tree.trim()]);
    repo.git(&["update-ref", "HEAD", commit.trim()]);
    assert_snapshot!(repo.airlock(&["run", "--name", "attr", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: failed to convert a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a.txt as its attributes require: an attributes file has a pattern with 60 `**`, which takes too long to match at this depth
    ");
    assert_eq!(
        repo.airlock(&["ls", "--json"]).ok().stdout.matches("\"name\"").count(),
        1,
        "the failed run left a sandbox"
    );
    // The same if the agent makes the deep directories, and their files are to be stored as git would store them.
    let repo = TestRepo::new();
    fs::write(repo.path.with_file_name("attributes"), "**/".repeat(60) + "zz eol=crlf\n").expect("written");
    let tree = CommandOutput::from_command(repo.command("sh", &["-c", script])).ok().stdout;
    let commit = repo.git(&["commit-tree", "-p", "HEAD", "-m", "attributes", tree.trim()]);
    repo.git(&["update-ref", "HEAD", commit.trim()]);
    repo.sandbox("at", &format!("mkdir -p {below}; echo x > {below}/f.txt")).ok();
    let refusals =
        ["branch:b", "patch:-"].map(|to| repo.airlock(&["apply", "at", "--accept-all", "--to", to]).to_string());
    assert_snapshot!(refusals.concat(), @"
    status: 1
    ----- stderr -----
    error: failed to convert a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/f.txt as its attributes require: an attributes file has a pattern with 60 `**`, which takes too long to match at this depth
    status: 1
    ----- stderr -----
    error: failed to convert a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/f.txt as its attributes require: an attributes file has a pattern with 60 `**`, which takes too long to match at this depth
    ");
}
