//! Identifies the contents of a snapshot without reading them, at a cost that does not depend on the size of the tree.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::error::SnapshotError;
use super::history::{History, HistoryChoice};
use super::own_git::{IdentityRole, read_identity};
use super::refs::IncludedRefs;
use super::repo::HostRepo;
use super::submodule::{Modules, SkippedSubmodule, Submodule};
use crate::core::hex::to_hex;
use crate::core::path::RepoPath;

/// A part of every key. Raise it when the content of a base volume changes for the same input.
const BASE_FORMAT: &str = "airlock-base-1";

/// The options of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SnapshotOptions {
    /// Whether to include all tracked files, even in a sparse checkout.
    pub full: bool,
    /// The history to include.
    pub history: HistoryChoice,
    /// Whether to use submodules as they are checked out, instead of as the commit records them.
    pub moved_modules: bool,
}

/// The files of one commit, with its submodules: a clean worktree.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The commit, in hexadecimal.
    pub commit: String,
    /// The branch, or `None` if HEAD is detached.
    pub branch: Option<String>,
    /// The part of the history that is included.
    pub history: History,
    /// The user's own repository, followed by its initialized submodules.
    pub modules: Vec<Submodule>,
    /// Submodules whose content is not included.
    pub skipped_submodules: Vec<SkippedSubmodule>,
    /// The refs beside HEAD's own branch.
    pub refs: Arc<IncludedRefs>,
    /// The name and email address for the agent's commits.
    pub author: (String, String),
}

impl HostRepo {
    /// Creates the snapshot of HEAD.
    ///
    /// # Errors
    /// An unborn HEAD, or a missing object.
    pub fn take_snapshot(&self, options: &SnapshotOptions) -> Result<Snapshot, SnapshotError> {
        let head = self.repository().head().map_err(|e| match e.code() {
            git2::ErrorCode::UnbornBranch | git2::ErrorCode::NotFound => SnapshotError::Unborn,
            _ => e.into(),
        })?;
        let branch = head.is_branch().then(|| String::from_utf8_lossy(head.shorthand_bytes()).into_owned());
        let commit = head.peel_to_commit()?.id();
        let Modules { modules, skipped } = Modules::find_modules(self, commit, options.full, options.moved_modules)?;
        let author = read_identity(&self.root, IdentityRole::Author).map_or_else(
            || ("Airlock".to_owned(), "airlock@localhost".to_owned()),
            |author| (author.name, author.email),
        );
        let history = History::resolve_choice(self, options.history)?;
        Ok(Snapshot {
            commit: commit.to_string(),
            refs: Arc::new(self.select_refs(commit, branch.as_deref(), history)?),
            branch,
            history,
            modules,
            skipped_submodules: skipped,
            author,
        })
    }
}

impl Snapshot {
    /// Returns the user's own repository.
    #[must_use]
    pub fn root_module(&self) -> &Submodule {
        &self.modules[0]
    }

    /// Returns a key for everything that a base volume contains: equal keys mean equal volumes. The branch's name is
    /// only part of the key if the single commit cannot be named otherwise.
    #[must_use]
    pub fn base_key(&self) -> String {
        let mut key = Sha256::new();
        key.update(self.config_key());
        if self.history == History::None {
            key.update(format!("{:?}", self.branch));
        }
        for module in &self.modules {
            key.update(module.tree.as_bytes());
            // Without history, a separate commit is created from the tree and the date of this one.
            key.update(module.commit.as_bytes());
        }
        to_hex(&key.finalize())
    }

    /// Returns a key for everything that determines how trees become files. Bases with the same configuration key
    /// differ only by their commits.
    #[must_use]
    pub fn config_key(&self) -> String {
        let mut key = Sha256::new();
        key.update(BASE_FORMAT);
        key.update(format!("{:?}\0{}\0{}\0", self.history, self.author.0, self.author.1));
        for module in &self.modules {
            module.add_to_key(&mut key);
        }
        for submodule in &self.skipped_submodules {
            key.update(submodule.path.as_bytes());
            key.update(b"\0");
        }
        to_hex(&key.finalize())
    }

    /// Returns the paths of the submodules whose content is included.
    pub fn module_paths(&self) -> impl Iterator<Item = &RepoPath> {
        self.modules.iter().filter_map(|m| m.path.as_ref())
    }

    /// Returns whether the snapshot contains a directory.
    #[must_use]
    pub fn has_directory(&self, path: &[u8]) -> bool {
        let Ok(path) = RepoPath::from_bytes(path) else { return false };
        if self.module_paths().any(|m| *m == path) {
            return true;
        }
        let module = &self.modules[self.module_of(&path)];
        let inside = super::os_path(module.path_in_module(&path));
        let kind = |git: git2::Repository| git.find_tree(module.tree).ok()?.get_path(&inside).ok()?.kind();
        module.open().ok().and_then(kind) == Some(git2::ObjectType::Tree)
    }

    /// Returns whether tracked files may be excluded by a sparse checkout.
    #[must_use]
    pub fn is_sparse(&self) -> bool {
        self.modules.iter().any(|m| m.sparse.is_some())
    }
}
