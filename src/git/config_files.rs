//! Finds files and programs of the working tree that the user's own git configuration and hooks name. Git reads or runs
//! them implicitly.
//!
//! The values come from `git config --list`, which runs nothing and follows every include as git does.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use super::error::SnapshotError;
use super::repo::HostRepo;
use crate::core::path::RepoPath;

/// A path that the configuration names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfiguredPath {
    /// The path in the working tree.
    pub path: RepoPath,
    /// Whether the path stands for everything in this directory.
    pub is_directory: bool,
    /// Whether the path is part of the configuration or of git's attributes. Other paths are run, or passed to a
    /// program.
    pub is_read: bool,
}

/// Sections whose values name refs, addresses and people. Except for the keys in [`RUN`], no value names a file that
/// git reads or runs implicitly.
const NO_PATHS: [&[u8]; 9] =
    [b"remote.", b"branch.", b"submodule.", b"url.", b"user.", b"author.", b"committer.", b"color.", b"extensions."];
/// Keys whose value is the path of a directory of programs, relative to the working tree.
const PROGRAM_DIR_KEYS: [&[u8]; 2] = [b"core.hookspath", b"init.templatedir"];
/// Keys whose value is the path of a file that git reads, relative to the working tree (git-config(1)).
const FILE_KEYS: [&[u8]; 17] = [
    b"core.attributesfile",
    b"core.excludesfile",
    b"blame.ignorerevsfile",
    b"commit.template",
    b"diff.orderfile",
    b"fetch.fsck.skiplist",
    b"format.signaturefile",
    b"fsck.skiplist",
    b"gpg.ssh.allowedsignersfile",
    b"gpg.ssh.revocationfile",
    b"http.cookiefile",
    b"http.sslcainfo",
    b"http.sslcapath",
    b"http.sslcert",
    b"http.sslkey",
    b"mailmap.file",
    b"receive.fsck.skiplist",
];
/// The maximum size of a hook that is searched, in bytes.
const MAX_HOOK_BYTES: u64 = 256 * 1024;
/// File name extensions of programs that another program runs.
const SCRIPT_EXTENSIONS: [&[u8]; 12] =
    [b".sh", b".bash", b".zsh", b".py", b".js", b".mjs", b".cjs", b".ts", b".rb", b".pl", b".php", b".lua"];

/// Keys in [`NO_PATHS`] sections whose values are run nevertheless.
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
    /// Lists the paths of the working tree that the configuration of this worktree and of these submodules names.
    /// `.gitmodules` is not read, because it belongs to the clone.
    ///
    /// # Errors
    /// Git cannot be run, or cannot read its configuration.
    pub fn configured_paths<'a>(
        &self,
        modules: impl IntoIterator<Item = &'a RepoPath>,
    ) -> Result<Vec<ConfiguredPath>, SnapshotError> {
        let mut found = list_configured_paths(&self.root, &self.root)?;
        for module in modules {
            let dir = self.root.join(OsStr::from_bytes(module.as_bytes()));
            if dir.join(".git").exists() {
                found.extend(list_configured_paths(&self.root, &dir)?);
            }
        }
        found.sort();
        found.dedup();
        Ok(found)
    }
}

/// Lists the paths below `root` that the configuration in effect in a directory names.
fn list_configured_paths(root: &Path, dir: &Path) -> Result<Vec<ConfiguredPath>, SnapshotError> {
    let failed = |why: String| SnapshotError::Config(why);
    let args = ["config", "--list", "--show-origin", "--includes", "-z"];
    let out = Command::new("git").args(args).current_dir(dir).output().map_err(|e| failed(e.to_string()))?;
    if !out.status.success() {
        return Err(failed(String::from_utf8_lossy(&out.stderr).trim().to_owned()));
    }
    let mut found = Vec::new();
    let mut hooks = None;
    let mut origins = BTreeSet::new();
    let mut fields = out.stdout.split(|b| *b == 0);
    while let (Some(origin), Some(entry)) = (fields.next(), fields.next()) {
        let value_origin = ValueOrigin { root, dir, origin };
        if origins.insert(origin) {
            found.extend(value_origin.find_source_file());
        }
        // A key without a value means "true".
        let Some(at) = memchr::memchr(b'\n', entry) else { continue };
        let (key, value) = (entry[..at].to_ascii_lowercase(), &entry[at + 1..]);
        found.extend(value_origin.find_in_value(&key, &entry[..at], value));
        if key == b"core.hookspath" {
            hooks = Some(value_origin.expand_home(value));
        }
    }
    let value_origin = ValueOrigin { root, dir, origin: b"" };
    for file in default_config_files(dir) {
        found.extend(value_origin.resolve_file(&file));
    }
    let hooks = hooks.map_or_else(|| common_git_dir(dir).map(|dir| dir.join("hooks")), |path| Some(dir.join(path)));
    found.extend(hooks.into_iter().flat_map(|hooks| value_origin.find_in_hooks(&hooks)));
    Ok(found)
}

/// Returns the git directory that all worktrees of a repository share.
fn common_git_dir(dir: &Path) -> Option<PathBuf> {
    Some(git2::Repository::open(dir).ok()?.commondir().to_owned())
}

/// Lists the files that git reads although no configuration names them. They may be symlinks to the working tree.
fn default_config_files(dir: &Path) -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or_else(|| home.map(|h| h.join(".config")));
    let users = config.into_iter().flat_map(|c| ["git/config", "git/attributes", "git/ignore"].map(|f| c.join(f)));
    let own = common_git_dir(dir).into_iter().flat_map(|d| ["info/attributes", "info/exclude"].map(|f| d.join(f)));
    users.chain(own).collect()
}

/// The origin of a configuration value.
struct ValueOrigin<'a> {
    root: &'a Path,
    dir: &'a Path,
    /// The origin as `--show-origin` prints it: `file:PATH`, relative to the directory.
    origin: &'a [u8],
}

impl ValueOrigin<'_> {
    /// Finds the paths that a value names. `key` is in lower case, `spelled` is the key as written.
    fn find_in_value(&self, key: &[u8], spelled: &[u8], value: &[u8]) -> Vec<ConfiguredPath> {
        let is_include = key == b"include.path" || key.starts_with(b"includeif.") && key.ends_with(b".path");
        if is_include {
            // The path is relative to the including file.
            let file = self.origin.strip_prefix(b"file:").map(|p| self.dir.join(OsStr::from_bytes(p)));
            let from = file.as_deref().and_then(Path::parent).unwrap_or(self.dir);
            return self.find_path(from, value, true).into_iter().collect();
        }
        let is_run = RUN.iter().any(|(section, end)| key.starts_with(section) && key.ends_with(end))
            || key.starts_with(b"submodule.") && key.ends_with(b".update") && value.starts_with(b"!")
            || key.starts_with(b"remote.") && key.ends_with(b"url") && value.starts_with(b"ext::");
        // The key contains the address that replaces another.
        if key.starts_with(b"url.ext::") {
            let end = spelled.iter().rposition(|b| *b == b'.').unwrap_or(spelled.len());
            return self.find_in_command(&spelled[b"url.ext::".len()..end]);
        }
        if !is_run && NO_PATHS.iter().any(|section| key.starts_with(section)) {
            return Vec::new();
        }
        let (is_program, is_read) = (PROGRAM_DIR_KEYS.contains(&key), FILE_KEYS.contains(&key));
        if is_program || is_read {
            let Some(whole) = self.relative_to_root(self.dir, value) else { return Vec::new() };
            if whole.as_os_str().is_empty() {
                // The value is the root of the working tree. In a directory of hooks, git runs only files with these
                // names.
                let hooks = HOOKS.iter().filter(|_| key == b"core.hookspath");
                return hooks.filter_map(|hook| new_configured_path(self.root, Path::new(hook), false)).collect();
            }
            return new_configured_path(self.root, &whole, is_read).into_iter().collect();
        }
        self.find_in_command(value)
    }

    /// Finds the paths that a command may name, however a shell reads it. It returns too many rather than too few.
    fn find_in_command(&self, command: &[u8]) -> Vec<ConfiguredPath> {
        let words = split_words(command);
        let mut dirs = vec![self.dir.to_owned()];
        let mut found = Vec::new();
        for (at, word) in words.iter().enumerate() {
            let before = at.checked_sub(1).map(|before| words[before].as_slice());
            if matches!(before, Some(b"cd" | b"-C" | b"pushd")) {
                dirs.push(self.dir.join(OsStr::from_bytes(word)));
            }
            for dir in &dirs {
                if before == Some(b"-m") && words[..at].iter().any(|w| memchr::memmem::find(w, b"python").is_some()) {
                    found.extend(self.find_python_module(dir, word));
                }
                if word.contains(&b'/') || at > 0 && may_be_file(dir, word) {
                    found.extend(self.find_path(dir, word, false));
                    // After `$(git rev-parse --show-toplevel)` or `${dir}`, the rest of a path begins with a slash.
                    let rest: Vec<u8> = word.iter().copied().skip_while(|b| *b == b'/').collect();
                    if rest.len() < word.len() && !Path::new(OsStr::from_bytes(word)).exists() {
                        found.extend(self.find_path(dir, &rest, false));
                    }
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    /// Finds the files of a Python module, as `-m a.b` names it.
    fn find_python_module(&self, dir: &Path, name: &[u8]) -> Vec<ConfiguredPath> {
        let parts: Vec<&[u8]> = name.split(|b| *b == b'.').collect();
        let top = |n: usize| parts[..n].join(&b'/');
        let packages = (1..parts.len()).map(|n| [&top(n)[..], b"/__init__.py"].concat());
        let candidates = [[&top(parts.len())[..], b".py"].concat(), top(parts.len())];
        // An installed package has no file here, but one could be created.
        packages.chain(candidates).filter_map(|path| self.find_path(dir, &path, false)).collect()
    }

    /// Finds the paths that hooks link to or name. Only existing files count, because a hook contains many words.
    fn find_in_hooks(&self, hooks: &Path) -> Vec<ConfiguredPath> {
        let mut found = Vec::new();
        for hook in HOOKS.map(|hook| hooks.join(hook)) {
            found.extend(self.resolve_file(&hook));
            let is_small = hook.metadata().is_ok_and(|m| m.is_file() && m.len() <= MAX_HOOK_BYTES);
            let Some(text) = is_small.then(|| std::fs::read(&hook).ok()).flatten() else { continue };
            if text.contains(&0) {
                continue;
            }
            for line in text.split(|b| *b == b'\n').filter(|line| !line.trim_ascii_start().starts_with(b"#")) {
                let is_file = |named: &ConfiguredPath| {
                    let path = named.path.as_bytes();
                    let is_program = path.contains(&b'/') || SCRIPT_EXTENSIONS.iter().any(|end| path.ends_with(end));
                    is_program && self.root.join(OsStr::from_bytes(path)).is_file()
                };
                found.extend(self.find_in_command(line).into_iter().filter(is_file));
            }
        }
        found
    }

    /// Finds the file of the tree that the configuration was read from, by its own name or through a symlink.
    fn find_source_file(&self) -> Option<ConfiguredPath> {
        let file = self.origin.strip_prefix(b"file:")?;
        self.resolve_file(&self.dir.join(OsStr::from_bytes(file))).map(|path| ConfiguredPath { is_read: true, ..path })
    }

    /// Finds the file of the tree that a path resolves to.
    fn resolve_file(&self, file: &Path) -> Option<ConfiguredPath> {
        let whole = file.canonicalize().ok()?;
        new_configured_path(self.root, whole.strip_prefix(self.root).ok()?, false)
    }

    /// Expands `~` to the home directory.
    fn expand_home(&self, value: &[u8]) -> PathBuf {
        let path = Path::new(OsStr::from_bytes(value));
        match (path.strip_prefix("~"), std::env::var_os("HOME")) {
            (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
            _ => path.to_owned(),
        }
    }
    fn find_path(&self, from: &Path, named: &[u8], is_read: bool) -> Option<ConfiguredPath> {
        new_configured_path(self.root, &self.relative_to_root(from, named)?, is_read)
    }

    /// Resolves a path relative to the root. Returns `None` if neither the path as written nor its target behind
    /// symlinks is below the root.
    fn relative_to_root(&self, from: &Path, named: &[u8]) -> Option<PathBuf> {
        let named = self.expand_home(named);
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
        // Resolve the longest existing ancestor. The root has no symlinks in it, but the path to it may have some.
        let existing = whole.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)))?;
        let rest = whole.strip_prefix(existing.0).ok()?;
        Some(existing.1.join(rest).strip_prefix(self.root).ok()?.to_owned())
    }
}

fn new_configured_path(root: &Path, relative: &Path, is_read: bool) -> Option<ConfiguredPath> {
    let path = RepoPath::from_bytes(relative.as_os_str().as_bytes()).ok()?;
    let whole = root.join(relative);
    Some(ConfiguredPath { path, is_directory: whole.is_dir() || !whole.exists(), is_read })
}

/// Returns whether an argument is a file or could become one, such as `clean.py`.
fn may_be_file(dir: &Path, word: &[u8]) -> bool {
    let path = dir.join(OsStr::from_bytes(word));
    let ending = word.iter().rposition(|b| *b == b'.').map_or(&[][..], |at| &word[at + 1..]);
    let looks_like_one = word[0] != b'-'
        && (1..=5).contains(&ending.len())
        && ending.iter().all(u8::is_ascii_alphanumeric)
        && ending.iter().any(u8::is_ascii_alphabetic);
    path.is_file() || looks_like_one && path.symlink_metadata().is_err()
}

/// Splits a command into its possible words: at whitespace, quotes and the shell's operators. Quoted strings follow as
/// a whole and without quotes. A variable at the start of a path is omitted, because its value is unknown.
fn split_words(command: &[u8]) -> Vec<Vec<u8>> {
    let ends = |b: u8| b.is_ascii_whitespace() || b"\"'`;|&<>(){}=,:!$".contains(&b);
    let (mut found, mut from) = (Vec::new(), 0);
    for at in 0..=command.len() {
        if at < command.len() && !ends(command[at]) {
            continue;
        }
        let word = &command[from..at];
        let is_variable = from > 0 && command[from - 1] == b'$';
        let path_part =
            if is_variable { word.iter().position(|b| *b == b'/').map_or(&[][..], |cut| &word[cut..]) } else { word };
        if !path_part.is_empty() {
            found.push(path_part.to_vec());
        }
        from = at + 1;
    }
    found.extend(quoted_words(command));
    found
}

/// Lists the words that contain a blank in quotes or behind a backslash.
fn quoted_words(command: &[u8]) -> Vec<Vec<u8>> {
    let (mut found, mut word, mut open, mut has_blank) = (Vec::new(), Vec::new(), None, false);
    let mut bytes = command.iter().copied();
    while let Some(byte) = bytes.next() {
        match (byte, open) {
            (b'\\', None | Some(b'"')) => {
                let next = bytes.next();
                has_blank |= next.is_some_and(|b| b == b' ' || b == b'\t');
                word.extend(next);
            }
            (quote, Some(end)) if quote == end => open = None,
            (b'"' | b'\'', None) => open = Some(byte),
            (b, None) if b.is_ascii_whitespace() || b";|&<>()".contains(&b) => {
                found.extend(std::mem::take(&mut has_blank).then(|| std::mem::take(&mut word)));
                word.clear();
            }
            (b, open) => {
                has_blank |= open.is_some() && (b == b' ' || b == b'\t');
                word.push(b);
            }
        }
    }
    found.extend(has_blank.then_some(word));
    found
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use super::*;

    fn find_paths(key: &str, value: &str) -> Vec<(String, bool)> {
        let root = Path::new("/nowhere/repo");
        let value_origin = ValueOrigin { root, dir: root, origin: b"file:.git/config" };
        let found =
            value_origin.find_in_value(key.to_lowercase().as_bytes(), key.as_bytes(), value.as_bytes()).into_iter();
        found.map(|p| (String::from_utf8_lossy(p.path.as_bytes()).into_owned(), p.is_read)).collect()
    }

    #[test]
    fn config_values_with_paths_in_tree_are_found() {
        let path_list = |path: &str, is_read| vec![(path.to_owned(), is_read)];
        assert_eq!(find_paths("core.hookspath", "tools/git"), path_list("tools/git", false));
        assert_eq!(find_paths("core.hookspath", "hooks"), path_list("hooks", false));
        assert_eq!(find_paths("core.hookspath", "/nowhere/repo/./a/../hooks/"), path_list("hooks", false));
        assert_eq!(find_paths("include.path", "../team.inc"), path_list("team.inc", true));
        assert_eq!(find_paths("includeif.gitdir:~/x/.path", "../a/b.inc"), path_list("a/b.inc", true));
        assert_eq!(find_paths("core.attributesfile", ".attributes"), path_list(".attributes", true));
        assert_eq!(find_paths("filter.mine.clean", "./filt/clean.sh %f"), path_list("filt/clean.sh", false));
        let found = find_paths("alias.st", "!sh -c 'bin/st --x=tools/y'");
        assert!(
            found.contains(&path_list("bin/st", false)[0]) && found.contains(&path_list("tools/y", false)[0]),
            "{found:?}"
        );
        assert_eq!(find_paths("core.sshcommand", "ssh -F ./ssh.conf"), path_list("ssh.conf", false));
        assert_eq!(find_paths("credential.helper", "!./cred"), path_list("cred", false));
        assert_eq!(find_paths("submodule.x.update", "!./tools/up.sh"), path_list("tools/up.sh", false));
        assert_eq!(find_paths("remote.x.uploadpack", "./up"), path_list("up", false));
        assert_eq!(find_paths("remote.x.url", "ext::./proxy.sh %S"), path_list("proxy.sh", false));
        assert_eq!(find_paths("filter.mine.clean", "python3 clean.py --fast"), path_list("clean.py", false));
        assert!(find_paths("filter.sp.clean", "'./my tools/c.sh' %f").contains(&("my tools/c.sh".to_owned(), false)));
        assert!(find_paths("filter.sp.clean", "./my\\ tools/c.sh").contains(&("my tools/c.sh".to_owned(), false)));
        assert!(find_paths("alias.c", "!cd tools && ./cd.sh").contains(&("tools/cd.sh".to_owned(), false)));
        for (value, path) in [
            ("\"$(git rev-parse --show-toplevel)/tools/top.sh\" %f", "tools/top.sh"),
            ("!$PWD/tools/pwd.sh", "tools/pwd.sh"),
            ("!\"$GIT_WORK_TREE\"/tools/w.sh", "tools/w.sh"),
            ("!${GIT_PREFIX:-.}/tools/envf.sh", "tools/envf.sh"),
            ("python3 -m tools.mod", "tools/mod.py"),
            ("python3 -m tools.mod", "tools/__init__.py"),
        ] {
            let found = find_paths("filter.x.clean", value);
            assert!(found.contains(&(path.to_owned(), false)), "{value}: {found:?}");
        }
        assert_eq!(find_paths("url.ext::./insteadOf.sh %S.insteadOf", "x:"), path_list("insteadOf.sh", false));
        assert_eq!(find_paths("gpg.ssh.allowedSignersFile", "signers"), path_list("signers", true));
        assert!(find_paths("core.hookspath", ".").contains(&("pre-commit".to_owned(), false)));
        assert!(find_paths("core.hookspath", "/nowhere/repo").contains(&("post-checkout".to_owned(), false)));
    }

    #[test]
    fn config_paths_are_found_through_symlinks() {
        let dir = tempfile::tempdir().expect("a directory");
        let root = dir.path().canonicalize().expect("directory exists").join("data/repo");
        std::fs::create_dir_all(&root).expect("created");
        std::os::unix::fs::symlink(dir.path().join("data"), dir.path().join("home")).expect("created");
        let value = dir.path().join("home/repo/hooks");
        let value_origin = ValueOrigin { root: &root, dir: &root, origin: b"file:.git/config" };
        let found = value_origin.find_in_value(b"core.hookspath", b"core.hooksPath", value.as_os_str().as_bytes());
        assert_eq!(found.iter().map(|p| p.path.as_bytes()).collect::<Vec<_>>(), [b"hooks"]);
    }

    #[test]
    fn other_config_values_have_no_paths() {
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
            assert_eq!(find_paths(key, value), [], "{key} = {value}");
        }
    }
}
