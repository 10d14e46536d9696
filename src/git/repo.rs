//! Opens the user's repository around a directory, and reads its state.

use crate::core::hex::to_hex;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{ErrorCode, Repository, RepositoryOpenFlags, RepositoryState, StatusOptions};

use super::error::SnapshotError;
use super::own_git;
use super::scope::UncommittedScope;

/// A host repository with a working tree and a commit.
pub struct HostRepo {
    /// The canonical root of the working tree.
    pub root: PathBuf,
    /// The git directory that all worktrees share.
    pub common_dir: PathBuf,
    /// The user's directory, relative to the root.
    pub subdir: PathBuf,
    git_dir: PathBuf,
    git: Repository,
}

/// Uncommitted work that a snapshot of HEAD does not include.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorktreeStatus {
    /// The number of files with uncommitted changes, including untracked but not ignored files.
    pub files: usize,
    /// The number of untracked files among them.
    pub untracked: usize,
    /// An operation in progress, such as `merge`.
    pub operation: Option<&'static str>,
}

/// Returns whether a file belongs to this user, or to the user who became root with sudo(8), as git checks it.
fn is_owned_by_user(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let us = rustix::process::geteuid();
    let sudo = std::env::var("SUDO_UID").ok().filter(|_| us.is_root()).and_then(|uid| uid.parse::<u32>().ok());
    path.metadata().is_ok_and(|m| m.uid() == us.as_raw() || Some(m.uid()) == sudo)
}

impl HostRepo {
    /// Returns the path from the user's directory to the root, empty or with a slash at its end.
    #[must_use]
    pub fn path_to_root(&self) -> String {
        "../".repeat(self.subdir.components().count())
    }

    /// Opens the repository around `from`.
    ///
    /// # Errors
    /// No repository, a bare one, or an untrusted one.
    pub fn discover(from: &Path) -> Result<Self, SnapshotError> {
        // Git verified the blobs when it stored them. Verifying each of them again doubles the time of seeding.
        git2::opts::strict_hash_verification(false);
        let from = from.canonicalize()?;
        let none: [&Path; 0] = [];
        let git = Repository::open_ext(&from, RepositoryOpenFlags::empty(), none).map_err(|e| match e.code() {
            ErrorCode::NotFound => SnapshotError::NotARepository(from.clone()),
            ErrorCode::Owner => SnapshotError::Untrusted(from.clone()),
            _ if e.message().contains("object format") || e.message().contains("objectformat") => {
                SnapshotError::Sha256(from.clone())
            }
            _ if e.message().contains("refstorage") => SnapshotError::Reftable(from.clone()),
            _ => e.into(),
        })?;
        let root = git.workdir().ok_or_else(|| SnapshotError::Bare(git.path().to_owned()))?.canonicalize()?;
        let subdir = from.strip_prefix(&root).map(Path::to_owned).unwrap_or_default();
        let (common_dir, git_dir) = (git.commondir().canonicalize()?, git.path().canonicalize()?);
        own_git::check_environment(&root, &git_dir)?;
        if [&root, &git_dir].into_iter().any(|path| !is_owned_by_user(path)) {
            own_git::check_trust(&from, &root)?;
        }
        Ok(Self { root, common_dir, subdir, git_dir, git })
    }

    /// Returns the libgit2 repository.
    pub(crate) fn repository(&self) -> &Repository {
        &self.git
    }

    /// Returns the git directory of this worktree.
    #[must_use]
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// Opens the repository again, for another thread.
    pub fn reopen(&self) -> Result<Self, SnapshotError> {
        Ok(Self {
            root: self.root.clone(),
            common_dir: self.common_dir.clone(),
            subdir: self.subdir.clone(),
            git_dir: self.git_dir.clone(),
            git: Repository::open(&self.root)?,
        })
    }

    /// Returns the size of the index file in bytes, a cheap measure of the tree's size.
    #[must_use]
    pub fn index_bytes(&self) -> u64 {
        self.git_dir.join("index").metadata().map_or(0, |m| m.len())
    }

    /// Returns whether git relies on the executable bit and on symlinks in this working tree (`core.fileMode`,
    /// `core.symlinks`).
    pub fn fs_capabilities(&self) -> Result<(bool, bool), SnapshotError> {
        let config = self.git.config()?;
        let flag = |name: &str| match config.get_bool(name) {
            Err(e) if e.code() == ErrorCode::NotFound => Ok(true),
            other => other,
        };
        Ok((flag("core.fileMode")?, flag("core.symlinks")?))
    }

    /// Returns whether the user signs every commit (`commit.gpgSign`).
    #[must_use]
    pub fn signs_commits(&self) -> bool {
        self.git.config().and_then(|config| config.get_bool("commit.gpgSign")).unwrap_or(false)
    }

    /// Returns the operation in progress, such as `merge`.
    #[must_use]
    pub fn operation_in_progress(&self) -> Option<&'static str> {
        match self.git.state() {
            RepositoryState::Clean => None,
            RepositoryState::Merge => Some("merge"),
            RepositoryState::Rebase | RepositoryState::RebaseInteractive | RepositoryState::RebaseMerge => {
                Some("rebase")
            }
            RepositoryState::CherryPick | RepositoryState::CherryPickSequence => Some("cherry-pick"),
            RepositoryState::Revert | RepositoryState::RevertSequence => Some("revert"),
            RepositoryState::Bisect => Some("bisect"),
            RepositoryState::ApplyMailbox | RepositoryState::ApplyMailboxOrRebase => Some("git am"),
        }
    }

    /// Returns the short name of the branch of HEAD, if it is on one.
    #[must_use]
    pub fn head_branch(&self) -> Option<String> {
        let head = self.git.find_reference("HEAD").ok()?;
        let name = head.symbolic_target_bytes()?.strip_prefix(b"refs/heads/")?.to_vec();
        Some(String::from_utf8_lossy(&name).into_owned())
    }

    /// Returns how many commits HEAD has that a commit does not reach, and the reverse. `None` if one of them is unknown.
    #[must_use]
    pub fn head_distance(&self, commit: &str) -> Option<(usize, usize)> {
        let (head, commit) = (self.git.head().ok()?.target()?, git2::Oid::from_str(commit).ok()?);
        if head == commit {
            return Some((0, 0));
        }
        self.git.graph_ahead_behind(head, commit).ok()
    }

    /// Returns whether the repository has a commit.
    #[must_use]
    pub fn has_commit(&self, id: &str) -> bool {
        git2::Oid::from_str(id).is_ok_and(|id| self.git.find_commit(id).is_ok())
    }

    /// Returns the branch and the commit of HEAD, as far as they exist, separated by a space.
    pub fn describe_head(&self) -> Result<String, SnapshotError> {
        let head = self.git.find_reference("HEAD")?;
        let branch = head.symbolic_target_bytes().map(|name| name.escape_ascii().to_string());
        let commit = head.resolve().ok().and_then(|r| r.target()).map(|id| id.to_string());
        Ok([branch, commit].into_iter().flatten().collect::<Vec<_>>().join(" "))
    }

    /// Returns the length and the checksum of git's index, or `None` if it does not exist.
    pub fn index_fingerprint(&self) -> std::io::Result<Option<(u64, String)>> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = match std::fs::File::open(self.git_dir.join("index")) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let length = file.metadata()?.len();
        let mut sum = Vec::new();
        file.seek(SeekFrom::Start(length.saturating_sub(20)))?;
        file.read_to_end(&mut sum)?;
        if sum.iter().all(|b| *b == 0) {
            // Git omitted the checksum (`index.skipHash`), so compute one.
            let mut whole = Vec::new();
            file.seek(SeekFrom::Start(0))?;
            file.read_to_end(&mut whole)?;
            sum = <sha2::Sha256 as sha2::Digest>::digest(&whole).to_vec();
        }
        Ok(Some((length, to_hex(&sum))))
    }

    /// Returns whether another index stages the same paths with the same content and modes as git's own.
    ///
    /// # Errors
    /// One of the indexes cannot be read.
    pub fn has_same_index(&self, other: &Path) -> Result<bool, SnapshotError> {
        let (index, other) = (self.git.index().map_err(index_error)?, git2::Index::open(other).map_err(index_error)?);
        let staged = |e: git2::IndexEntry| (e.path, e.id, e.mode, e.flags & 0x3000);
        Ok(index.len() == other.len() && index.iter().map(staged).eq(other.iter().map(staged)))
    }

    /// Lists the other working trees of this repository, in the form of [`HostRepo::worktree_id`].
    pub fn other_worktrees(&self) -> Result<Vec<String>, SnapshotError> {
        let escaped = |path: &Path| path.as_os_str().as_bytes().escape_ascii().to_string();
        let mut found = Vec::new();
        for name in &self.git.worktrees()? {
            let Some(name) = name? else { continue };
            let path = self.git.find_worktree(name)?.path().to_owned();
            found.push(escaped(&path.canonicalize().unwrap_or(path)));
        }
        // Git's list does not include the main working tree.
        if let Some(main) = self.common_dir.parent().filter(|_| self.common_dir.ends_with(".git")) {
            found.push(escaped(main));
        }
        found.retain(|path| *path != self.worktree_id());
        Ok(found)
    }

    /// Returns the identifier of the working tree for a record: its root, escaped.
    #[must_use]
    pub fn worktree_id(&self) -> String {
        self.root.as_os_str().as_bytes().escape_ascii().to_string()
    }

    /// Returns the git directory of the working tree, relative to the one that all worktrees share. It stays the same
    /// when the repository is moved.
    #[must_use]
    pub fn worktree_place(&self) -> String {
        let inside = self.git_dir.strip_prefix(&self.common_dir).unwrap_or(&self.git_dir);
        inside.as_os_str().as_bytes().escape_ascii().to_string()
    }

    /// Returns the name of the working tree's directory, for a title or a fallback path.
    #[must_use]
    pub fn dir_name(&self) -> String {
        self.root.file_name().map_or_else(|| "repository".into(), |n| n.to_string_lossy().into_owned())
    }

    /// Counts the uncommitted files that are not included in this scope. Reads the index and the tree, and writes
    /// neither.
    pub fn worktree_status(&self, scope: UncommittedScope) -> Result<WorktreeStatus, SnapshotError> {
        let mut options = StatusOptions::new();
        options.include_untracked(true).recurse_untracked_dirs(true).include_ignored(false).update_index(false);
        options.exclude_submodules(true);
        let statuses = self.git.statuses(Some(&mut options)).map_err(index_error)?;
        let is_excluded = |status: git2::Status| match scope {
            UncommittedScope::None => true,
            UncommittedScope::Tracked => status == git2::Status::WT_NEW,
            UncommittedScope::All => false,
        };
        let index = self.git.index().map_err(index_error)?;
        let excluded: Vec<git2::Status> = (statuses.iter())
            .filter(|s| is_excluded(s.status()) && !is_sparse_excluded(&index, s.path_bytes(), s.status()))
            .map(|s| s.status())
            .collect();
        let untracked = excluded.iter().filter(|s| **s == git2::Status::WT_NEW).count();
        Ok(WorktreeStatus { files: excluded.len(), untracked, operation: self.operation_in_progress() })
    }
}

/// Returns whether a tracked file is missing only because a sparse checkout excludes it, which libgit2 reports as
/// deleted.
pub(crate) fn is_sparse_excluded(index: &git2::Index, path: &[u8], status: git2::Status) -> bool {
    let skipped = git2::IndexEntryExtendedFlag::SKIP_WORKTREE.bits();
    status == git2::Status::WT_DELETED
        && index.get_path(&super::os_path(path), 0).is_some_and(|entry| entry.flags_extended & skipped != 0)
}

/// Returns the error for an index format that libgit2 cannot read; other errors pass through.
pub(crate) fn index_error(error: git2::Error) -> SnapshotError {
    match error.message() {
        text if text.contains("'link'") => SnapshotError::Index("split"),
        text if text.contains("'sdir'") => SnapshotError::Index("sparse"),
        _ => error.into(),
    }
}
