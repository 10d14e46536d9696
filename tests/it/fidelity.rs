//! Tests that a workspace has the same files as `git worktree add` writes, byte for byte.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use insta::assert_snapshot;

use crate::support::{AIRLOCK, CommandOutput, TestRepo};

/// The kind and content of each path: `d` without content, `f` and `x` (executable) with their bytes, `l` with its
/// target.
type Tree = BTreeMap<Vec<u8>, (char, Vec<u8>)>;

/// A script that prints kind, name and content of everything in the workspace except git directories, as hexadecimal
/// lines.
const PRINT: &str = r#"
import os, sys
out = []
for top, dirs, files in os.walk(b"."):
    if b".git" in dirs: dirs.remove(b".git")
    for name in dirs + files:
        path = os.path.join(top, name)
        if name == b".git": continue
        if os.path.islink(path): kind, data = "l", os.readlink(path)
        elif os.path.isdir(path): kind, data = "d", b""
        else:
            kind = "x" if os.stat(path).st_mode & 0o100 else "f"
            data = open(path, "rb").read()
        out.append(kind + " " + path[2:].hex() + " " + data.hex())
print("\n".join(out))
"#;

/// Starts a sandbox and returns the tree of its workspace.
fn read_workspace(repo: &TestRepo, options: &[&str]) -> Tree {
    let args = [&["run"], options, &["--", "python3", "-c", PRINT]].concat();
    let out = repo.airlock(&args).ok().stdout;
    let bytes = |hex: &str| {
        let digits: Vec<u8> = hex.bytes().collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("hex"), 16).expect("hex"))
            .collect()
    };
    let line = |line: &str| {
        let parts: Vec<&str> = line.split(' ').collect();
        (bytes(parts[1]), (parts[0].chars().next().expect("a kind"), bytes(parts[2])))
    };
    out.lines().filter(|l| !l.is_empty()).map(line).collect()
}

/// Returns the tree of a directory.
fn read_directory(root: &Path) -> Tree {
    let (mut found, mut open) = (Tree::new(), vec![PathBuf::new()]);
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(root.join(&at)).expect("it can be listed") {
            let entry = entry.expect("it can be listed");
            let (path, kind) = (at.join(entry.file_name()), entry.file_type().expect("a kind"));
            if entry.file_name() == ".git" {
                continue;
            }
            let content = if kind.is_symlink() {
                ('l', fs::read_link(entry.path()).expect("a link").into_os_string().into_encoded_bytes())
            } else if kind.is_dir() {
                open.push(path.clone());
                ('d', Vec::new())
            } else {
                let mode = entry.metadata().expect("there").permissions().mode();
                (if mode & 0o100 == 0 { 'f' } else { 'x' }, fs::read(entry.path()).expect("read"))
            };
            found.insert(path.as_os_str().as_bytes().to_vec(), content);
        }
    }
    found
}

/// Checks that a workspace equals a worktree of the same commit, and that git in the workspace sees no difference.
/// Returns the tree.
#[track_caller]
fn check_matches_worktree(repo: &TestRepo, options: &[&str]) -> Tree {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().join("w");
    repo.git(&["worktree", "add", "-q", "--detach", target.to_str().expect("UTF-8"), "HEAD"]);
    let (expected, found) = (read_directory(&target), read_workspace(repo, options));
    for (path, content) in &expected {
        assert_eq!(found.get(path), Some(content), "{}", path.escape_ascii());
    }
    for path in found.keys() {
        assert!(expected.contains_key(path), "{} is not in the worktree", path.escape_ascii());
    }
    repo.git(&["worktree", "remove", "--force", target.to_str().expect("UTF-8")]);
    let args = [&["run"], options, &["--", "git", "status", "--porcelain"]].concat();
    assert_eq!(repo.airlock(&args).ok().stdout, "", "git in the workspace sees no difference");
    found
}

#[test]
fn workspace_matches_names_kinds_and_content() {
    let repo = TestRepo::new();
    repo.write("empty", "");
    repo.write("large", vec![7_u8; 700_000]);
    fs::set_permissions(repo.path.join("run.sh"), PermissionsExt::from_mode(0o755)).expect("set");
    symlink("nowhere", repo.path.join("dangling")).expect("made");
    symlink("dir", repo.path.join("to-a-directory")).expect("made");
    for name in
        [&b"\xff\xfe"[..], b"a\nb", b"-rf", b":(glob)*", b"\"q\"", b" trailing ", b"caf\xc3\xa9", b"cafe\xcc\x81"]
    {
        fs::write(repo.path.join(OsStr::from_bytes(name)), name).expect("written");
    }
    repo.write(&"n".repeat(255), "long name");
    repo.write(&format!("{}/f", ["deep"; 60].join("/")), "deep");
    repo.write("Twin", "upper");
    repo.write("twin", "lower");
    repo.write("left-out", "is there");
    repo.write(".gitattributes", "left-out export-ignore\n");
    repo.commit();
    let found = check_matches_worktree(&repo, &[]);
    assert!(found.len() > 80, "{}", found.len());
}

#[test]
fn workspace_matches_line_endings_and_encodings() {
    let repo = TestRepo::new();
    repo.write("crlf.txt", "one\ntwo\n");
    repo.write("lf.txt", "one\ntwo\n");
    repo.write("auto.txt", "one\ntwo\n");
    repo.write("binary.txt", "one\n\0two\n");
    repo.write("id.c", "/* $Id$ */\nint x;\n");
    repo.write("sub/deeper.txt", "a\nb\n");
    repo.write("utf16.txt", "smörgås\nbord\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>());
    repo.write(
        "marked.txt",
        [&[0xff, 0xfe][..], &"été\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()].concat(),
    );
    repo.write("utf32.txt", "a🙂\n".chars().flat_map(|c| u32::from(c).to_be_bytes()).collect::<Vec<u8>>());
    repo.write("latin.txt", b"caf\xe9\n");
    repo.write(
        ".gitattributes",
        "*.txt text=auto\ncrlf.txt text eol=crlf\nlf.txt text eol=lf\n*.c ident\n\
         utf16.txt text working-tree-encoding=UTF-16LE\nmarked.txt text working-tree-encoding=utf-16le-bom\n\
         utf32.txt text working-tree-encoding=UTF-32BE\nlatin.txt text working-tree-encoding=ISO-8859-1\n",
    );
    repo.write("sub/.gitattributes", "[attr]ignored text eol=lf\ndeeper.txt eol=crlf\n");
    repo.commit();
    let found = check_matches_worktree(&repo, &[]);
    assert_eq!(found[&b"crlf.txt"[..]].1, b"one\r\ntwo\r\n");
    assert_eq!(found[&b"sub/deeper.txt"[..]].1, b"a\r\nb\r\n");
    assert!(found[&b"id.c"[..]].1.starts_with(b"/* $Id: "));

    // The configuration of the repository and `info/attributes` count as well.
    repo.git(&["config", "core.autocrlf", "true"]);
    let found = check_matches_worktree(&repo, &[]);
    assert_eq!(found[&b"auto.txt"[..]].1, b"one\r\ntwo\r\n");
    assert_eq!(found[&b"lf.txt"[..]].1, b"one\ntwo\n");
    assert_eq!(found[&b"binary.txt"[..]].1, b"one\n\0two\n");
    fs::write(repo.path.join(".git/info/attributes"), "auto.txt -text\n").expect("written");
    assert_eq!(check_matches_worktree(&repo, &[])[&b"auto.txt"[..]].1, b"one\ntwo\n");
}

#[test]
fn changed_attributes_rewrite_unchanged_files() {
    let repo = TestRepo::new();
    let pointer = format!("version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 1\n", "0".repeat(64));
    for (path, content) in [
        ("sub/deep/x.txt", "x\n"),
        ("sub/y.dat", "y\n"),
        ("id.c", "/* $Id$ */\n"),
        ("wide.u", "w\0\n\0"),
        ("secret/s", "s\n"),
        ("sub/l.bin", &pointer),
    ] {
        repo.write(path, content);
    }
    repo.write(".gitattributes", "*.u text working-tree-encoding=UTF-16LE\n");
    repo.git(&["config", "filter.rot.clean", "cat"]);
    repo.commit();
    check_matches_worktree(&repo, &[]);
    for (path, content) in [
        (".gitattributes", "*.u text working-tree-encoding=UTF-16LE\n*.txt eol=crlf\n"),
        (".gitattributes", "*.u text working-tree-encoding=UTF-16BE\n*.txt eol=crlf\n*.c ident\n"),
        ("sub/.gitattributes", "*.txt eol=lf\n"),
        ("sub/deep/.gitattributes", "x.txt -text\n"),
        ("sub/.gitattributes", "[attr]ignored eol=crlf\n*.dat text eol=crlf\nl.bin filter=lfs -text\n"),
        (".gitattributes", "*.u -text\nsecret/* filter=rot\n"),
        ("sub/deep/.gitattributes", ""),
        (".gitattributes", "* text=auto eol=crlf\n"),
    ] {
        repo.write(path, content);
        // Not `add -A`, so that the stored files stay as they are and only the attributes differ.
        repo.git(&["add", path]);
        repo.git(&["commit", "-qm", path]);
        check_matches_worktree(&repo, &[]);
        assert_eq!(repo.base_volumes(), 1, "{path} {content:?}");
        let status = repo.airlock(&["run", "--", "git", "status", "--short"]).ok().stdout;
        assert_eq!(status, "", "{path} {content:?}");
    }
}

#[test]
fn sparse_checkout_is_kept_without_full() {
    let repo = TestRepo::new();
    repo.write("docs/a", "a");
    repo.write("docs/sub/b", "b");
    repo.write("src/x/y", "y");
    repo.commit();
    repo.git(&["sparse-checkout", "set", "docs/sub"]);
    let found = check_matches_worktree(&repo, &[]);
    assert!(found.contains_key(&b"docs/sub/b"[..]) && found.contains_key(&b"docs/a"[..]));
    assert!(!found.contains_key(&b"src/x/y"[..]) && !found.contains_key(&b"dir/keep.txt"[..]));
    let all = read_workspace(&repo, &["--full"]);
    assert_eq!(all[&b"src/x/y"[..]].1, b"y");
    // Files outside the sparse checkout count as deleted neither by the user nor by an agent.
    let ran = repo.airlock(&["run", "--full", "--uncommitted=all", "--", "cat", "src/x/y"]).ok();
    assert!(ran.stdout == "y" && !ran.stderr.contains("uncommitted"), "{ran:?}");
    let ran = repo.sandbox("out", "mkdir -p src/x; echo mine > src/x/y; echo new > src/x/new").ok();
    assert!(!ran.stderr.contains("not included"), "{}", ran.stderr);
    assert_eq!(repo.changes("out"), [("src/x/new".to_owned(), "added".to_owned())]);
    assert!(
        repo.diff("out")["not_collected"][0]["reason"]
            .as_str()
            .is_some_and(|r| r.contains("outside the sparse checkout"))
    );
    repo.sandbox("s", "echo new > docs/a");
    assert_eq!(repo.changes("s"), [("docs/a".to_owned(), "modified".to_owned())]);

    repo.git(&["sparse-checkout", "set", "--no-cone", "/*", "!dir"]);
    let found = check_matches_worktree(&repo, &[]);
    assert!(!found.contains_key(&b"dir/keep.txt"[..]) && found.contains_key(&b"src/x/y"[..]));
}

#[test]
fn linked_worktrees_and_moved_git_dirs_work() {
    let repo = TestRepo::new();
    let other = repo.path.with_file_name("linked");
    repo.git(&["worktree", "add", "-q", "-b", "side", other.to_str().expect("UTF-8")]);
    fs::write(other.join("only-here"), "x").expect("written");
    let git = |args: &[&str]| {
        let mut command = repo.command("git", args);
        command.current_dir(&other);
        CommandOutput::from_command(command).ok();
    };
    git(&["add", "-A"]);
    git(&["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "-qm", "side"]);
    let mut run = repo.command(AIRLOCK, &["run", "--", "sh", "-c", "cat only-here; git branch --show-current"]);
    run.current_dir(&other);
    assert_eq!(CommandOutput::from_command(run).ok().stdout, "xside\n");
    repo.git(&["worktree", "remove", "--force", other.to_str().expect("UTF-8")]);

    let moved = repo.path.with_file_name("elsewhere.git");
    fs::rename(repo.path.join(".git"), &moved).expect("moved");
    fs::write(repo.path.join(".git"), format!("gitdir: {}\n", moved.display())).expect("written");
    check_matches_worktree(&repo, &[]);
    repo.sandbox("e", "echo x >> a.txt");
    repo.airlock(&["apply", "e", "--accept-all"]).ok();
    assert_eq!(repo.read("a.txt"), "one\ntwo\nx\n");
}

#[test]
fn unusual_repositories_run_or_fail_with_a_hint() {
    let repo = TestRepo::new();
    repo.write("a.txt", "second\n");
    repo.commit();
    let folder = repo.path.parent().expect("a folder");
    let url = format!("file://{}", repo.path.display());
    let clone = |name: &str, options: &[&str]| {
        let target = folder.join(name);
        repo.git(&[&["clone", "-q"], options, &[&url, target.to_str().expect("UTF-8")]].concat());
        target
    };
    let run = |at: &Path, args: &[&str]| {
        let mut command = repo.command(AIRLOCK, args);
        command.current_dir(at);
        CommandOutput::from_command(command)
    };
    let shallow = clone("shallow", &["--depth", "1"]);
    let ran =
        run(&shallow, &["run", "--", "sh", "-c", "git log --format=%s; git fsck --no-dangling; git status --short"]);
    assert_eq!(ran.ok().stdout, "start\n");

    repo.git(&["config", "uploadpack.allowFilter", "true"]);
    let partial = clone("partial", &["--filter=blob:none"]);
    // The files of HEAD are there. Its history is not, and nothing is fetched.
    let ran = run(&partial, &["run", "--", "sh", "-c", "cat a.txt; git log --format=%s"]).ok();
    assert!(ran.stdout.starts_with("second\nairlock: snapshot of "), "{}", ran.stdout);
    assert!(ran.stderr.contains("this is a partial clone, so its history is not included"), "{}", ran.stderr);
    // Not a snapshot, because the error has a message of git.
    run(&partial, &["run", "--history", "full", "--", "true"])
        .expect_failure(125, &["--refetch --no-filter", "--history none"]);
    let bare = clone("without", &["--filter=blob:none", "--no-checkout"]);
    assert_snapshot!(run(&bare, &["run", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: the content of .gitignore is missing: the repository is a partial or damaged clone
    hint: to fetch missing objects, run `git fetch --refetch --no-filter`
    ");

    let target = folder.join("sha256");
    repo.git(&["init", "-q", "--object-format=sha256", target.to_str().expect("UTF-8")]);
    assert_snapshot!(run(&target, &["run", "--", "true"]), @"
    status: 125
    ----- stderr -----
    error: [TMP]/sha256 uses SHA-256 object names, which Airlock does not support yet
    hint: Airlock needs a repository that names its objects by SHA-1
    ");
    for at in [&shallow, &partial] {
        let mut swept = repo.command(AIRLOCK, &["gc"]);
        swept.env("AIRLOCK_BASES", "0").current_dir(at);
        CommandOutput::from_command(swept).ok();
    }
}

#[test]
fn lfs_files_come_from_the_local_store() {
    let repo = TestRepo::new();
    let content = b"large media\n";
    let id = "4ff1d9d8a8c2cbb8ad1d0d5e8f0e1b9dd23a8cce1ce0ca4e3d1ba4a2f0e1b4f0";
    let real = {
        use sha2::Digest as _;
        sha2::Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    let pointer =
        |id: &str, size: usize| format!("version https://git-lfs.github.com/spec/v1\noid sha256:{id}\nsize {size}\n");
    repo.write("here.bin", pointer(&real, content.len()));
    repo.write("gone.bin", pointer(id, 99));
    repo.write("no-lfs.txt", pointer(&real, content.len()));
    repo.write(".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n");
    repo.commit();
    let store = repo.path.join(".git/lfs/objects").join(&real[..2]).join(&real[2..4]);
    fs::create_dir_all(&store).expect("made");
    fs::write(store.join(&real), content).expect("written");
    let ran = repo.airlock(&["run", "--name", "l", "--keep", "--", "cat", "here.bin", "gone.bin", "no-lfs.txt"]).ok();
    let expected = format!("large media\n{}{}", pointer(id, 99), pointer(&real, content.len()));
    assert_eq!(ran.stdout, expected);
    assert!(ran.stderr.contains("1 submodule or file not included: airlock status l"), "{}", ran.stderr);
    assert!(
        repo.airlock(&["status", "l"]).ok().stdout.contains("Git LFS pointers without content: 1, such as gone.bin")
    );

    // Content that was fetched later is used: the base with the pointer is not used again.
    let late = b"fetched later\n";
    let late_id = {
        use sha2::Digest as _;
        sha2::Sha256::digest(late).iter().map(|b| format!("{b:02x}")).collect::<String>()
    };
    repo.write("gone.bin", pointer(&late_id, late.len()));
    repo.commit();
    assert!(repo.airlock(&["run", "--", "cat", "gone.bin"]).ok().stdout.starts_with("version https://git-lfs"));
    let store = repo.path.join(".git/lfs/objects").join(&late_id[..2]).join(&late_id[2..4]);
    fs::create_dir_all(&store).expect("made");
    fs::write(store.join(&late_id), late).expect("written");
    assert_eq!(repo.airlock(&["run", "--", "cat", "gone.bin"]).ok().stdout, "fetched later\n");
}

#[test]
fn submodules_are_included_and_changes_applied() {
    let repo = TestRepo::new();
    let folder = repo.path.parent().expect("a folder").to_owned();
    for name in ["inner", "middle", "absent"] {
        let at = folder.join(name);
        repo.git(&["init", "-q", "-b", "main", at.to_str().expect("UTF-8")]);
        fs::write(at.join("f.txt"), format!("of {name}\n")).expect("written");
        fs::write(at.join(".gitignore"), "*.tmp\n").expect("written");
        let git = |args: &[&str]| {
            repo.git(&[&["-C", at.to_str().expect("UTF-8"), "-c", "protocol.file.allow=always"], args].concat())
        };
        if name == "middle" {
            git(&["submodule", "add", "-q", folder.join("inner").to_str().expect("UTF-8"), "inner"]);
        }
        git(&["add", "-A"]);
        git(&["commit", "-qm", name]);
    }
    let allow = ["-c", "protocol.file.allow=always", "submodule"];
    let path = |name: &str| folder.join(name).to_str().expect("UTF-8").to_owned();
    repo.git(&[&allow[..], &["add", "-q", &path("middle"), "lib/middle"]].concat());
    repo.git(&[&allow[..], &["add", "-q", &path("absent"), "absent"]].concat());
    repo.git(&[&allow[..], &["update", "-q", "--init", "--recursive", "lib"]].concat());
    repo.git(&["submodule", "deinit", "-q", "-f", "absent"]);
    repo.commit();

    let script = "cat lib/middle/f.txt lib/middle/inner/f.txt; ls absent; git status --short; \
                  git -C lib/middle log --format=%s; git -C lib/middle/inner status --short; \
                  echo more >> lib/middle/f.txt; echo new > lib/middle/inner/n.txt; echo x > lib/middle/y.tmp";
    let ran = repo.airlock(&["run", "--name", "m", "--", "sh", "-euc", script]).ok();
    assert_eq!(ran.stdout, "of middle\nof inner\nmiddle\n");
    let pairs =
        |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).into(), (*b).into())).collect::<Vec<(String, String)>>();
    assert_eq!(repo.changes("m"), pairs(&[("lib/middle/f.txt", "modified"), ("lib/middle/inner/n.txt", "added")]));
    let status = repo.airlock(&["status", "m"]).ok().stdout;
    assert!(status.contains("submodule lib/middle/inner with its files"), "{status}");
    assert!(status.contains("submodule absent not included: not initialized"), "{status}");
    repo.airlock(&["apply", "m", "--accept-all"]).ok();
    assert_eq!(repo.read("lib/middle/f.txt"), "of middle\nmore\n");
    assert_eq!(repo.read("lib/middle/inner/n.txt"), "new\n");

    // Files in a submodule that was left out are reported, and so is a file that replaces it.
    let ran = repo.sandbox("i", "echo x > absent/file; echo y > absent/other").ok();
    assert!(ran.stderr.contains("1 not collected") && ran.stderr.contains("kept"), "{}", ran.stderr);
    assert_eq!(repo.diff("i")["not_collected"][0]["reason"], "is a submodule that was not included, but has files");
    let ran = repo.sandbox("p", "rmdir absent; echo x > absent; echo y >> a.txt").ok();
    assert!(ran.stderr.contains("1 not collected"), "{}", ran.stderr);
    assert_eq!(repo.changes("p"), pairs(&[("a.txt", "modified")]));
}

#[test]
fn hostile_gitmodules_have_no_effect() {
    let repo = TestRepo::new();
    let fifo = repo.path.with_file_name("fifo");
    assert!(CommandOutput::from_command(repo.command("mkfifo", &[fifo.to_str().expect("UTF-8")])).status == 0);
    let includes = format!("[InClude]\n\tpath = {}\n[submodule \"x\"]\n\tpath = dir\n", fifo.display());
    for text in [includes.as_str(), "[submodule \"x\"\n", "[submodule \"x\"]\n\tpath = ../up\n\tpath = /etc\n\tpath\n"]
    {
        repo.write(".gitmodules", text);
        repo.commit();
        let ran = repo.airlock(&["run", "--", "cat", "dir/keep.txt"]).ok();
        assert_eq!(ran.stdout, "k\n");
    }
}

#[test]
fn unshallowed_clone_gets_a_new_base() {
    let repo = TestRepo::new();
    repo.git(&["branch", "topic"]);
    for n in 0..3 {
        repo.write(&format!("new/{n}"), "x");
        repo.commit();
    }
    repo.git(&["checkout", "-q", "topic"]);
    repo.write("topic/file", "t");
    repo.commit();
    repo.git(&["checkout", "-q", "main"]);
    let target = repo.path.with_file_name("clone");
    let url = format!("file://{}", repo.path.display());
    repo.git(&["clone", "-q", "--depth", "1", "--no-single-branch", &url, target.to_str().expect("UTF-8")]);
    let at = |program: &str, args: &[&str]| {
        let mut command = repo.command(program, args);
        command.current_dir(&target);
        CommandOutput::from_command(command).ok().stdout
    };
    let topic = at("git", &["rev-parse", "origin/topic"]);
    let shallow = at(AIRLOCK, &["run", "--", "cat", ".git/shallow"]);
    assert!(shallow.lines().count() == 1 && !shallow.contains(topic.trim()), "only what HEAD reaches: {shallow}");
    at("git", &["fetch", "-q", "--unshallow"]);
    at("git", &["-c", "user.name=A", "-c", "user.email=a@example.org", "merge", "-q", "-m", "merge", "origin/topic"]);
    let script = "git fsck --no-dangling && git log --format=%s | wc -l && git log -p -1 HEAD^2 | tail -n 1";
    assert_eq!(at(AIRLOCK, &["run", "--", "sh", "-c", script]), "6\n\\ No newline at end of file\n");
    let mut swept = repo.command(AIRLOCK, &["gc"]);
    swept.env("AIRLOCK_BASES", "0").current_dir(&target);
    CommandOutput::from_command(swept).ok();
}
