//! Files and programs of the working tree that the user's own git configuration names: git reads or runs them without being
//! asked.
//!
//! The values come from `git config --list`, which runs nothing and follows every include as git does.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::{HostRepo, SnapshotError};
use crate::path::RepoPath;

/// A path that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfiguredPath {
    /// Where it is in the working tree.
    pub path: RepoPath,
    /// Everything in it is meant.
    pub is_directory: bool,
    /// It is a part of the configuration, or of git's attributes; other paths are run, or handed to a program.
    pub is_read: bool,
}

/// Sections whose values name refs, addresses and people, and but for [`RUN`] no file that git reads or runs by itself.
const NO_PATHS: [&[u8]; 9] =
    [b"remote.", b"branch.", b"submodule.", b"url.", b"user.", b"author.", b"committer.", b"color.", b"extensions."];
/// Keys whose value is one path, relative to the working tree.
const PATHS: [&[u8]; 4] = [b"core.hookspath", b"core.attributesfile", b"core.excludesfile", b"init.templatedir"];

/// Keys of these sections whose values are run all the same.
const RUN: [(&[u8], &[u8]); 3] = [(b"remote.", b".uploadpack"), (b"remote.", b".receivepack"), (b"remote.", b".vcs")];
/// Hooks that git runs (githooks(5)).
const HOOKS: [&str; 28] = [
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "p4-changelist",
    "p4-post-changelist",
    "p4-pre-submit",
    "p4-prepare-changelist",
    "post-applypatch",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-receive",
    "post-rewrite",
    "post-update",
    "pre-applypatch",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-push",
    "pre-rebase",
    "pre-receive",
    "prepare-commit-msg",
    "proc-receive",
    "push-to-checkout",
    "reference-transaction",
    "sendemail-validate",
    "update",
];

impl HostRepo {
    /// Lists what the configuration of this worktree, and of these submodules in it, names in the working tree. What
    /// `.gitmodules` says is not asked: it is the clone's.
    ///
    /// # Errors
    /// Git cannot be run, or cannot read its configuration.
    pub fn configured_paths<'a>(
        &self,
        modules: impl IntoIterator<Item = &'a RepoPath>,
    ) -> Result<Vec<ConfiguredPath>, SnapshotError> {
        let mut found = named_in(&self.root, &self.root)?;
        for module in modules {
            let folder = self.root.join(OsStr::from_bytes(module.as_bytes()));
            if folder.join(".git").exists() {
                found.extend(named_in(&self.root, &folder)?);
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }
}

/// Lists what the configuration in effect in `folder` names below `root`.
fn named_in(root: &Path, folder: &Path) -> Result<Vec<ConfiguredPath>, SnapshotError> {
    let failed = |why: String| SnapshotError::Config(why);
    let args = ["config", "--list", "--show-origin", "--includes", "-z"];
    let out = Command::new("git").args(args).current_dir(folder).output().map_err(|e| failed(e.to_string()))?;
    if !out.status.success() {
        return Err(failed(String::from_utf8_lossy(&out.stderr).trim().to_owned()));
    }
    let mut found = Vec::new();
    let mut fields = out.stdout.split(|b| *b == 0);
    while let (Some(origin), Some(entry)) = (fields.next(), fields.next()) {
        // A key without a value stands for "true".
        let Some(at) = memchr::memchr(b'\n', entry) else { continue };
        let (key, value) = (entry[..at].to_ascii_lowercase(), &entry[at + 1..]);
        let place = Place { root, folder, origin };
        found.extend(place.named(&key, value));
    }
    Ok(found)
}

/// Where a value was read.
struct Place<'a> {
    root: &'a Path,
    folder: &'a Path,
    /// As `--show-origin` gives it: `file:PATH`, relative to the folder.
    origin: &'a [u8],
}

impl Place<'_> {
    fn named(&self, key: &[u8], value: &[u8]) -> Vec<ConfiguredPath> {
        let is_include = key == b"include.path" || key.starts_with(b"includeif.") && key.ends_with(b".path");
        if is_include {
            // Relative to the file that it is in.
            let file = self.origin.strip_prefix(b"file:").map(|p| self.folder.join(OsStr::from_bytes(p)));
            let from = file.as_deref().and_then(Path::parent).unwrap_or(self.folder);
            return self.inside(from, value, true).into_iter().collect();
        }
        let is_run = RUN.iter().any(|(section, end)| key.starts_with(section) && key.ends_with(end))
            || key.starts_with(b"submodule.") && key.ends_with(b".update") && value.starts_with(b"!")
            || key.starts_with(b"remote.") && key.ends_with(b"url") && value.starts_with(b"ext::");
        if !is_run && NO_PATHS.iter().any(|section| key.starts_with(section)) {
            return Vec::new();
        }
        if PATHS.contains(&key) {
            let is_read = key != b"core.hookspath" && key != b"init.templatedir";
            let Some(whole) = self.below(self.folder, value) else { return Vec::new() };
            if whole.as_os_str().is_empty() {
                // The top of the tree itself: of a folder of hooks, git runs those with these names.
                let hooks = HOOKS.iter().filter(|_| key == b"core.hookspath");
                return hooks.filter_map(|hook| configured(self.root, Path::new(hook), false)).collect();
            }
            return configured(self.root, &whole, is_read).into_iter().collect();
        }
        let words: Vec<Vec<u8>> = words(value);
        let paths =
            words.iter().enumerate().filter(|(at, word)| word.contains(&b'/') || *at > 0 && self.may_be_file(word));
        paths.filter_map(|(_, word)| self.inside(self.folder, word, false)).collect()
    }

    /// Tells whether an argument is a file, or could become one: `clean.py`.
    fn may_be_file(&self, word: &[u8]) -> bool {
        let place = self.folder.join(OsStr::from_bytes(word));
        let ending = word.iter().rposition(|b| *b == b'.').map_or(&[][..], |at| &word[at + 1..]);
        let looks_like_one = word[0] != b'-'
            && (1..=5).contains(&ending.len())
            && ending.iter().all(u8::is_ascii_alphanumeric)
            && ending.iter().any(u8::is_ascii_alphabetic);
        place.is_file() || looks_like_one && place.symlink_metadata().is_err()
    }

    fn inside(&self, from: &Path, named: &[u8], is_read: bool) -> Option<ConfiguredPath> {
        configured(self.root, &self.below(from, named)?, is_read)
    }

    /// Resolves a path, and gives it relative to the root; nothing if it is not there: neither as it is written, nor where the
    /// links on its way lead.
    fn below(&self, from: &Path, named: &[u8]) -> Option<PathBuf> {
        let named = Path::new(OsStr::from_bytes(named));
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let named = match named.strip_prefix("~") {
            Ok(rest) => home?.join(rest),
            Err(_) => named.to_owned(),
        };
        let mut whole = PathBuf::new();
        for component in from.join(named).components() {
            match component {
                Component::ParentDir => drop(whole.pop()),
                Component::CurDir => {}
                other => whole.push(other),
            }
        }
        if let Ok(relative) = whole.strip_prefix(self.root) {
            return Some(relative.to_owned());
        }
        // As much of it as is there: the root has no links in it, the way to it may have some.
        let there = whole.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)))?;
        let rest = whole.strip_prefix(there.0).ok()?;
        Some(there.1.join(rest).strip_prefix(self.root).ok()?.to_owned())
    }
}

fn configured(root: &Path, relative: &Path, is_read: bool) -> Option<ConfiguredPath> {
    let path = RepoPath::from_bytes(relative.as_os_str().as_bytes()).ok()?;
    let whole = root.join(relative);
    Some(ConfiguredPath { path, is_directory: whole.is_dir() || !whole.exists(), is_read })
}

/// Splits a command into what may be words of it: at blanks, quotes and the shell's operators.
fn words(command: &[u8]) -> Vec<Vec<u8>> {
    let ends = |b: &u8| b.is_ascii_whitespace() || b"\"'`;|&<>(){}=,:!$".contains(b);
    command.split(ends).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use super::*;

    fn named(key: &str, value: &str) -> Vec<(String, bool)> {
        let root = Path::new("/nowhere/repo");
        let place = Place { root, folder: root, origin: b"file:.git/config" };
        let found = place.named(key.as_bytes(), value.as_bytes()).into_iter();
        found.map(|p| (String::from_utf8_lossy(p.path.as_bytes()).into_owned(), p.is_read)).collect()
    }

    #[test]
    fn values_that_name_a_path_of_the_tree_are_found() {
        let one = |path: &str, is_read| vec![(path.to_owned(), is_read)];
        assert_eq!(named("core.hookspath", "tools/git"), one("tools/git", false));
        assert_eq!(named("core.hookspath", "hooks"), one("hooks", false));
        assert_eq!(named("core.hookspath", "/nowhere/repo/./a/../hooks/"), one("hooks", false));
        assert_eq!(named("include.path", "../team.inc"), one("team.inc", true));
        assert_eq!(named("includeif.gitdir:~/x/.path", "../a/b.inc"), one("a/b.inc", true));
        assert_eq!(named("core.attributesfile", ".attributes"), one(".attributes", true));
        assert_eq!(named("filter.mine.clean", "./filt/clean.sh %f"), one("filt/clean.sh", false));
        assert_eq!(
            named("alias.st", "!sh -c 'bin/st --x=tools/y'"),
            [one("bin/st", false), one("tools/y", false)].concat()
        );
        assert_eq!(named("core.sshcommand", "ssh -F ./ssh.conf"), one("ssh.conf", false));
        assert_eq!(named("credential.helper", "!./cred"), one("cred", false));
        assert_eq!(named("submodule.x.update", "!./tools/up.sh"), one("tools/up.sh", false));
        assert_eq!(named("remote.x.uploadpack", "./up"), one("up", false));
        assert_eq!(named("remote.x.url", "ext::./proxy.sh %S"), one("proxy.sh", false));
        assert_eq!(named("filter.mine.clean", "python3 clean.py --fast"), one("clean.py", false));
        assert!(named("core.hookspath", ".").contains(&("pre-commit".to_owned(), false)));
        assert!(named("core.hookspath", "/nowhere/repo").contains(&("post-checkout".to_owned(), false)));
    }

    #[test]
    fn a_way_to_the_tree_may_have_links() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("it is there").join("data/repo");
        std::fs::create_dir_all(&root).expect("made");
        std::os::unix::fs::symlink(folder.path().join("data"), folder.path().join("home")).expect("made");
        let value = folder.path().join("home/repo/hooks");
        let place = Place { root: &root, folder: &root, origin: b"file:.git/config" };
        let found = place.named(b"core.hookspath", value.as_os_str().as_bytes());
        assert_eq!(found.iter().map(|p| p.path.as_bytes()).collect::<Vec<_>>(), [b"hooks"]);
    }

    #[test]
    fn other_values_name_none() {
        for (key, value) in [
            ("core.hookspath", "/etc/hooks"),
            ("core.hookspath", "../elsewhere"),
            ("include.path", "~/team.inc"),
            ("include.path", "other"),
            ("remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*"),
            ("branch.main.merge", "refs/heads/main"),
            ("core.editor", "vim"),
            ("core.pager", "less -FRX"),
            ("alias.lg", "log --graph --oneline"),
            ("user.name", "a/b"),
            ("submodule.x.update", "rebase"),
            ("remote.x.url", "https://example.org/a/b.git"),
            ("filter.lfs.smudge", "git-lfs smudge -- %f"),
            ("diff.tool", "vimdiff 2.0"),
        ] {
            assert_eq!(named(key, value), [], "{key} = {value}");
        }
    }
}
