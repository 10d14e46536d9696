//! Names the contents of a snapshot without reading them: the cost does not depend on the size of the tree.

use sha2::{Digest, Sha256};

use super::error::SnapshotError;
use super::hex;
use super::history::{History, HistoryChoice};
use super::own_git::{Role, identity};
use super::repo::HostRepo;
use super::submodule::{Modules, SkippedSubmodule, Submodule};
use crate::core::path::RepoPath;

/// Part of every key: raise it when what a base volume holds for the same input changes.
const FORMAT: &str = "airlock-base-1";

/// Options of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// All tracked files, in a sparse checkout too.
    pub full: bool,
    /// The part of the history.
    pub history: HistoryChoice,
    /// Submodules as they are checked out, instead of as the commit records them.
    pub moved_modules: bool,
}

/// The files of one commit, with its submodules: a clean worktree.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The commit, in hexadecimal.
    pub commit: String,
    /// Its branch, or `None` when HEAD is detached.
    pub branch: Option<String>,
    /// The part of the history that is included.
    pub history: History,
    /// The user's own repository first, then its initialised submodules.
    pub modules: Vec<Submodule>,
    /// Submodules that stay behind.
    pub skipped_submodules: Vec<SkippedSubmodule>,
    /// The name and address for the agent's commits.
    pub author: (String, String),
}

impl HostRepo {
    /// Names the snapshot of HEAD.
    ///
    /// # Errors
    /// An unborn HEAD, a missing object.
    pub fn snapshot(&self, options: &SnapshotOptions) -> Result<Snapshot, SnapshotError> {
        let head = self.git().head().map_err(|e| match e.code() {
            git2::ErrorCode::UnbornBranch | git2::ErrorCode::NotFound => SnapshotError::Unborn,
            _ => e.into(),
        })?;
        let branch = head.is_branch().then(|| String::from_utf8_lossy(head.shorthand_bytes()).into_owned());
        let commit = head.peel_to_commit()?.id();
        let Modules { found, left } = Modules::find(self, commit, options.full, options.moved_modules)?;
        let author = identity(&self.root, Role::Author).map_or_else(
            || ("Airlock".to_owned(), "airlock@localhost".to_owned()),
            |author| (author.name, author.email),
        );
        Ok(Snapshot {
            commit: commit.to_string(),
            branch,
            history: History::choose(self, options.history)?,
            modules: found,
            skipped_submodules: left,
            author,
        })
    }
}

impl Snapshot {
    /// Returns the user's own repository.
    #[must_use]
    pub fn root(&self) -> &Submodule {
        &self.modules[0]
    }

    /// Names everything that a base volume holds: equal keys, equal volumes. The branch's name is not in it, unless the one
    /// commit there is cannot be named otherwise.
    #[must_use]
    pub fn key(&self) -> String {
        let mut key = Sha256::new();
        key.update(self.config_key());
        if self.history == History::None {
            key.update(format!("{:?}", self.branch));
        }
        for module in &self.modules {
            key.update(module.tree.as_bytes());
            // Without history a commit of its own is made of the tree and its date.
            key.update(module.commit.as_bytes());
        }
        hex(&key.finalize())
    }

    /// Names everything that decides how trees become files: bases of one flavour differ by their commits alone.
    #[must_use]
    pub fn config_key(&self) -> String {
        let mut key = Sha256::new();
        key.update(FORMAT);
        key.update(format!("{:?}\0{}\0{}\0", self.history, self.author.0, self.author.1));
        for module in &self.modules {
            module.fingerprint(&mut key);
        }
        for left in &self.skipped_submodules {
            key.update(left.path.as_bytes());
            key.update(b"\0");
        }
        hex(&key.finalize())
    }

    /// Returns the paths of the submodules whose content goes along.
    pub fn module_paths(&self) -> impl Iterator<Item = &RepoPath> {
        self.modules.iter().filter_map(|m| m.path.as_ref())
    }

    /// Returns whether a directory is in it.
    #[must_use]
    pub fn has_directory(&self, path: &[u8]) -> bool {
        let Ok(path) = RepoPath::from_bytes(path) else { return false };
        if self.module_paths().any(|m| *m == path) {
            return true;
        }
        let module = &self.modules[self.module_of(&path)];
        let inside = super::os_path(module.inside(&path));
        let kind = |git: git2::Repository| git.find_tree(module.tree).ok()?.get_path(&inside).ok()?.kind();
        module.open().ok().and_then(kind) == Some(git2::ObjectType::Tree)
    }

    /// Returns whether tracked files may be left out.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        self.modules.iter().any(|m| m.sparse.is_some())
    }
}
