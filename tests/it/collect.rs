//! Collecting finds exactly the changes: each case is checked against a full comparison of the two trees, in an overlay
//! workspace and in a copied workspace.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{TestRepo, engine_lacks};

/// The files of a tree by path: the kind (`f`, `x` or `l`), and the content or target.
type Tree = BTreeMap<String, (char, Vec<u8>)>;

/// A Python script that prints the workspace's files without `.git`.
const PRINT: &str = r#"
import os
for top, dirs, files in os.walk("."):
    if ".git" in dirs: dirs.remove(".git")
    for name in files + [d for d in dirs if os.path.islink(os.path.join(top, d))]:
        path = os.path.join(top, name)
        if os.path.islink(path): kind, data = "l", os.readlink(path).encode()
        elif not os.path.isfile(path): continue
        else:
            kind = "x" if os.stat(path).st_mode & 0o100 else "f"
            data = open(path, "rb").read()
        print(kind, path[2:].encode().hex(), data.hex())
"#;

fn parse_tree(out: &str) -> Tree {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).expect("hex")).collect()
    };
    let line = |line: &str| {
        let parts: Vec<&str> = line.split(' ').collect();
        let path = String::from_utf8(bytes(parts[1])).expect("UTF-8");
        (path, (parts[0].chars().next().expect("a kind"), bytes(parts[2])))
    };
    out.lines().map(line).collect()
}

/// Creates a repository with files of every kind.
fn sample_repo() -> TestRepo {
    let repo = TestRepo::new();
    for n in 0..6 {
        repo.write(&format!("d/one/f{n}"), format!("one {n}\n"));
        repo.write(&format!("d/two/f{n}"), format!("two {n}\n"));
        repo.write(&format!("k/sub/f{n}"), format!("kay {n}\n"));
    }
    // These files have the names and the contents of files in another directory.
    repo.write("same/f0", "one 0\n");
    repo.write("same/f1", "one 1\n");
    std::os::unix::fs::symlink("../a.txt", repo.path.join("d/link")).expect("made");
    repo.write(".gitignore", "/target\n*.o\n/cache/*\n!/cache/keep\n");
    repo.write("cache/keep", "kept\n");
    repo.commit();
    repo
}

/// Lists the differences between two trees, with the words of `airlock diff`.
fn expected_changes(base: &Tree, result: &Tree) -> BTreeSet<(String, String)> {
    let paths: BTreeSet<&String> = base.keys().chain(result.keys()).collect();
    let verb = |path: &String| match (base.get(path), result.get(path)) {
        (None, _) => Some("added"),
        (_, None) => Some("deleted"),
        (Some(old), Some(new)) if old == new => None,
        (Some(old), Some(new)) if (old.0 == 'l') != (new.0 == 'l') => Some("replaced"),
        (Some(old), Some(new)) if old.1 == new.1 => Some("mode"),
        _ => Some("modified"),
    };
    paths.into_iter().filter_map(|path| Some((path.clone(), verb(path)?.to_owned()))).collect()
}

fn read_base_tree(repo: &TestRepo) -> Tree {
    parse_tree(&repo.airlock(&["run", "--", "python3", "-c", PRINT]).ok().stdout)
}

/// Runs a script, and compares the collected changes and the host tree after an apply with the workspace.
#[track_caller]
fn check_case(repo: &TestRepo, name: &str, script: &str, base: &Tree, ignored: &[&str]) {
    let whole = format!("({script}) >&2\npython3 -c '{PRINT}'");
    let ran = repo.airlock(&["run", "--name", name, "--keep", "--", "bash", "-euc", &whole]).ok();
    let mut result = parse_tree(&ran.stdout);
    for path in ignored {
        assert!(result.remove(*path).is_some(), "{name}: {path} exists");
    }
    let found: BTreeSet<_> = repo.changes(name).into_iter().collect();
    assert_eq!(found, expected_changes(base, &result), "{name}: {script}\n{}", ran.stderr);
    if !found.is_empty() {
        repo.airlock(&["apply", name, "--accept-all", "--allow-risky"]).ok();
        let script = format!("git -c core.quotePath=off status --short >&2; python3 -c '{PRINT}'");
        let applied = crate::support::CommandOutput::from_command(repo.command("bash", &["-euc", &script])).ok();
        assert!(parse_tree(&applied.stdout) == result, "{name}: the applied tree equals the workspace");
        repo.git(&["checkout", "-q", "--force", "HEAD"]);
        repo.git(&["clean", "-qfdx"]);
    }
    repo.airlock(&["rm", name]).ok();
}

/// The name of each case, its script, and the files that are ignored at its end.
const CASES: &[(&str, &str, &[&str])] = &[
    ("nothing", "true", &[]),
    ("touched", "touch a.txt d/one/f0; chmod +x run.sh; chmod -x run.sh", &[]),
    ("same-bytes", "cp -r d/one x; rm -rf d/one; mv x d/one", &[]),
    ("edit", "echo more >> d/one/f1", &[]),
    ("delete", "rm d/one/f1 c.txt", &[]),
    ("delete-all", "rm -rf -- * ", &[]),
    ("delete-and-recreate", "rm d/one/f1; echo new > d/one/f1; rm c.txt; echo gone > c.txt", &[]),
    ("opaque", "rm -rf d/one; mkdir d/one; echo 1 > d/one/f1", &[]),
    ("opaque-same", "rm -rf d/one; mkdir d/one; echo 'one 1' > d/one/f1", &[]),
    ("new-tree", "mkdir -p n/e/w; echo 1 > n/e/w/f; mkdir n/empty", &[]),
    ("rename-file", "mv d/one/f1 d/two/g1", &[]),
    ("rename-directory", "mv d/one moved", &[]),
    ("rename-over-deleted", "rm -rf k; mv d k", &[]),
    ("rename-swap", "mv d t; mv k d; mv t k", &[]),
    ("rename-same-content", "rm -rf d/one; mkdir d/one; mv same/f0 same/f1 d/one/", &[]),
    ("rename-chain", "mv d/one d/three; mv d/three/f1 d/three/z; mv d e; echo x > e/three/new", &[]),
    ("git-mv", "git mv d/one d/six; git mv k/sub/f0 top", &[]),
    (
        "git-commit",
        "git checkout -qb side; git rm -rq k; git commit -qm x; echo more >> a.txt; git stash -q; git stash pop -q",
        &[],
    ),
    ("file-to-directory", "rm c.txt; mkdir c.txt; echo in > c.txt/in", &[]),
    ("directory-to-file", "rm -rf d/one; echo file > d/one", &[]),
    ("directory-to-link", "rm -rf d/one; ln -s two d/one", &[]),
    ("link-to-directory", "rm d/link; mkdir d/link; echo x > d/link/x", &[]),
    ("link-target", "ln -sfn ../c.txt d/link", &[]),
    ("link-same-target", "rm d/link; ln -s ../a.txt d/link", &[]),
    ("link-to-file", "rm d/link; cp a.txt d/link", &[]),
    ("hard-link", "ln a.txt second; echo x >> second", &[]),
    ("hard-link-elsewhere", "ln d/one/f0 d/two/hard", &[]),
    ("mode", "chmod +x d/one/f0", &[]),
    (
        "ignored",
        "mkdir target; echo 1 > target/x; echo 2 > d/z.o; echo 3 > cache/x; echo 4 >> cache/keep",
        &["target/x", "d/z.o", "cache/x"],
    ),
    ("ignored-over-tracked", "git rm -q --cached a.txt; echo x > target; echo y > d/one/f1", &["target"]),
    (
        "exchange",
        "python3 -c 'import os; os.rename(\"d/one/f0\", \"t\"); os.rename(\"d/two/f0\", \"d/one/f0\"); os.rename(\"t\", \"d/two/f0\")'",
        &[],
    ),
    ("truncate", ": > a.txt; : > c.txt; truncate -s 4 d/one/f1", &[]),
];

fn check_scripted_cases(mode: &str) {
    let mut repo = sample_repo();
    repo.set("AIRLOCK_WORKSPACE", mode);
    let base = read_base_tree(&repo);
    assert!(base.len() > 20, "{}", base.len());
    for (name, script, ignored) in CASES {
        check_case(&repo, name, script, &base, ignored);
    }
}

#[test]
fn collect_matches_full_diff_in_overlay() {
    if engine_lacks("overlay") {
        return;
    }
    check_scripted_cases("overlay");
}

#[test]
fn collect_matches_full_diff_in_copy() {
    check_scripted_cases("copy");
}

/// A Python script that makes random changes as agents make them. The seed is the first argument.
const RANDOM: &str = r#"
import os, random, shutil, sys
r = random.Random(int(sys.argv[1]))
def walk(dirs):
    out = []
    for top, ds, fs in os.walk("."):
        if ".git" in ds: ds.remove(".git")
        ds.sort(); fs.sort()
        out += [os.path.join(top, n) for n in (ds if dirs else fs) if os.path.islink(os.path.join(top, n)) != dirs or not dirs]
    return sorted(p for p in out if p != "./.gitignore")
def new():
    parent = r.choice(walk(True) + ["."] * 2)
    return os.path.join(parent, "n%d" % r.randrange(40))
def free():
    path = new()
    return None if os.path.lexists(path) else path
def write():
    path = new()
    if os.path.isdir(path) or os.path.islink(path): return
    open(path, "ab").write(b"w%d\n" % r.randrange(5))
def rename(pick):
    a, b = pick(), free()
    if a and b and not (b + "/").startswith(a + "/"): os.rename(a, b)
def file(): return r.choice(walk(False) or [None])
def directory(): return r.choice(walk(True) or [None])
def over():
    a, b = directory(), directory()
    if a and b and a != b and not (a + "/").startswith(b + "/") and not (b + "/").startswith(a + "/") and not os.path.islink(a) and not os.path.islink(b):
        shutil.rmtree(b); os.rename(a, b)
def append():
    f = file()
    if f and os.path.isfile(f): open(f, "ab").write(b"a\n")
def touch():
    f = file()
    if f and os.path.isfile(f) and not os.path.islink(f):
        data = open(f, "rb").read(); open(f, "wb").write(data)
def recreate():
    f = file()
    if f and os.path.isfile(f) and not os.path.islink(f):
        data = open(f, "rb").read(); os.remove(f); open(f, "wb").write(data)
def swap_kind():
    f = file()
    if f: os.remove(f); os.mkdir(f); open(f + "/in", "w").write("in")
def flatten():
    d = directory()
    if d and not os.path.islink(d): shutil.rmtree(d); open(d, "w").write("flat")
def remove():
    f = file()
    if f: os.remove(f)
def rmtree():
    d = directory()
    if d and not os.path.islink(d) and r.random() < 0.4: shutil.rmtree(d)
def chmod():
    f = file()
    if f and os.path.isfile(f) and not os.path.islink(f): os.chmod(f, os.stat(f).st_mode ^ 0o111)
def link():
    p = free()
    if p: os.symlink("n1", p)
def hard():
    f, p = file(), free()
    if f and p and not os.path.islink(f): os.link(f, p)
def mkdir():
    p = free()
    if p: os.mkdir(p)
ops = [write, write, append, append, touch, recreate, remove, lambda: rename(file), lambda: rename(directory), lambda: rename(directory), over, swap_kind, flatten, rmtree, chmod, link, hard, mkdir]
for _ in range(60): r.choice(ops)()
"#;

fn check_random_operations(mode: &str, seeds: std::ops::Range<u32>) {
    let mut repo = sample_repo();
    repo.set("AIRLOCK_WORKSPACE", mode);
    compare_random_runs(&repo, &[], seeds);
}

fn compare_random_runs(repo: &TestRepo, options: &[&str], seeds: std::ops::Range<u32>) {
    let print = [&["run"], options, &["--", "python3", "-c", PRINT]].concat();
    let base = parse_tree(&repo.airlock(&print).ok().stdout);
    for seed in seeds {
        let script = format!("cat > /tmp/r.py <<'END'\n{RANDOM}\nEND\npython3 /tmp/r.py {seed}");
        let whole = format!("({script}) >&2\npython3 -c '{PRINT}'");
        let args = [&["run", "--name", "r", "--keep"], options, &["--", "bash", "-euc", &whole]].concat();
        let ran = repo.airlock(&args).ok();
        let found: BTreeSet<_> = repo.changes("r").into_iter().collect();
        let mut result = parse_tree(&ran.stdout);
        // Removes the files that a rule ignores and that are not in the base.
        let ignored = |path: &str| path.starts_with("cache/") && !path.starts_with("cache/keep/");
        result.retain(|path, _| !ignored(path) || base.contains_key(path));
        let wanted = expected_changes(&base, &result);
        assert!(!wanted.is_empty(), "seed {seed} does something");
        assert_eq!(found, wanted, "seed {seed}");
        repo.airlock(&["rm", "r"]).ok();
    }
}

#[test]
fn collect_matches_random_operations_in_overlay() {
    if engine_lacks("overlay") {
        return;
    }
    check_random_operations("overlay", 0..24);
}

/// Checks random operations over a delta: the base volume has an older commit; a newer commit and uncommitted work are
/// the delta.
fn check_random_operations_over_delta(mode: &str, seeds: std::ops::Range<u32>) {
    let mut repo = sample_repo();
    repo.set("AIRLOCK_WORKSPACE", mode);
    repo.airlock(&["run", "--", "true"]).ok();
    let script = "rm -rf d/two k/sub/f1; mkdir d/two.d; echo x > d/two.d/new; mv same other; echo more >> a.txt; \
                  rm c.txt; mkdir c.txt; echo in > c.txt/in; rm d/link; echo file > d/link; git add -A; \
                  git -c user.name=A -c user.email=a@example.org commit -qm next; \
                  echo work >> d/one/f0; rm d/one/f1; echo u > d/one/untracked; rm -rf dir; echo f > dir";
    crate::support::CommandOutput::from_command(repo.command("bash", &["-euc", script])).ok();
    compare_random_runs(&repo, &["--uncommitted=all"], seeds);
    assert_eq!(repo.base_volumes(), 1);
}

#[test]
fn collect_matches_random_operations_over_delta() {
    if engine_lacks("overlay") {
        return;
    }
    check_random_operations_over_delta("overlay", 200..208);
    check_random_operations_over_delta("copy", 300..303);
}

#[test]
fn collect_matches_random_operations_in_copy() {
    check_random_operations("copy", 100..108);
}

#[test]
fn agent_ignore_rules_are_reported() {
    let repo = sample_repo();
    let script = "echo '/hidden/' >> .gitignore; echo '*.py' > d/.gitignore; mkdir hidden; echo x > hidden/evil.sh; \
                  echo y > d/evil.py; echo z > evil.py; echo w >> d/one/f0";
    let ran = repo.sandbox("h", script).ok();
    assert!(ran.stderr.contains("because ignore rules of the agent match: d/evil.py, hidden"), "{}", ran.stderr);
    let names: Vec<String> = repo.changes("h").into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, [".gitignore", "d/.gitignore", "d/one/f0", "evil.py"]);
    let diff = repo.diff("h");
    let findings = |n: usize| diff["files"][n]["findings"].to_string();
    assert!(findings(0).contains("ignores new files: d/evil.py and 1 more"), "{}", findings(0));
    assert!(findings(1).contains("ignores new files: d/evil.py"), "{}", findings(1));
    assert_eq!(diff["ignored_by_agent_rules"].as_array().expect("a list").len(), 2);

    // If the agent removes a rule, files that the base ignores are still not collected.
    repo.sandbox("u", ": > .gitignore; mkdir target; echo x > target/x; echo x > x.o").ok();
    assert_eq!(repo.changes("u"), [(".gitignore".to_owned(), "modified".to_owned())]);
}

#[test]
fn fully_ignored_work_keeps_sandbox() {
    let repo = TestRepo::new();
    let script = "mkdir feature; echo '*' > feature/.gitignore; echo 'print(1)' > feature/code.py";
    let ran = repo.sandbox("h", script).ok();
    assert!(ran.stderr.contains("kept. Next") && ran.stderr.contains("feature/code.py"), "{}", ran.stderr);
    assert_eq!(repo.changes("h"), [("feature/.gitignore".to_owned(), "added".to_owned())]);
}

#[test]
fn ignore_rules_over_limit_hide_nothing() {
    let repo = TestRepo::new();
    let script = "open('.gitignore', 'w').write('*b?\\n' * 250000); import os; os.mkdir('zz')\n\
                  for n in range(3000): open('zz/' + 'a' * 200 + str(n), 'w')";
    repo.airlock(&["run", "--name", "q", "--", "python3", "-c", script]).ok();
    assert_eq!(repo.changes("q").len(), 3001, "rules above the limit hide no file");
}
