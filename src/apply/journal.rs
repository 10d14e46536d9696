//! The journal of a transaction. It is written before the first change to the working tree, so that an interrupted
//! transaction can be rolled back or completed, and a committed apply can be undone. Each transaction has one directory
//! below `<git common dir>/airlock/applies/`:
//!
//! | file | content |
//! |---|---|
//! | `staged/N` | the staged file; after the exchange, the backup |
//! | `journal` | the journal, once the transaction is prepared; it is unfinished from then on |
//! | `end` | the outcome, once the transaction is committed or rolled back |
//! | `contents/HASH` | the written content, for the merge of an undo |
//! | `index` | a hard link to git's index at that time |
//!
//! `journal` and `end` are written to a temporary file, synced and renamed. Their first line has the format version and a
//! checksum.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::entry_content::EntryContent;
use super::working_tree::{Inode, ObservedFile};
use crate::changes::Selection;
use crate::core::path::RepoPath;

/// The applied units of a path before and after a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectionChange {
    pub path: RepoPath,
    pub before: Selection,
    pub after: Selection,
}

/// The log of one transaction: its operations, and the data that an undo needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// A random number in hexadecimal.
    pub id: String,
    pub kind: TransactionKind,
    /// The sandbox whose changes are applied.
    pub sandbox: String,
    /// The sandbox's unique ID.
    pub sandbox_id: String,
    pub target: WorktreeFingerprint,
    /// Submodules that are treated as part of the working tree.
    pub modules: Vec<RepoPath>,
    pub staging_areas: Vec<StagingArea>,
    /// The operations, in the order of their execution.
    pub ops: Vec<Op>,
    /// For each path, the selected units of the changeset before and after this transaction.
    #[serde(rename = "units")]
    pub selection: Vec<SelectionChange>,
}

impl Journal {
    /// Returns the paths of the files that the transaction changed; of a renamed file, the new one.
    #[must_use]
    pub fn changed_files(&self) -> Vec<&RepoPath> {
        let sources: BTreeSet<&RepoPath> = self.ops.iter().filter_map(Op::moved_from).collect();
        let files = self.ops.iter().filter(|op| matches!(op, Op::Write { .. } | Op::Delete { .. })).map(Op::path);
        files.filter(|path| !sources.contains(path)).collect()
    }
}

/// The kind of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransactionKind {
    Apply,
    /// The undo of the apply with this ID.
    Undo(String),
}

/// The identity and state of a working tree at the start of a transaction, which a recovery compares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorktreeFingerprint {
    /// The random ID of the repository.
    pub repository: String,
    /// The root of the working tree, escaped.
    pub worktree: String,
    /// The inode of the root directory.
    pub root: Inode,
    /// Kernel boot ID. Device numbers are only comparable within one boot.
    pub boot_id: String,
    pub head: String,
    /// The length and the checksum of git's index.
    pub index: Option<(u64, String)>,
}

impl WorktreeFingerprint {
    /// Returns whether both are the same working tree: by path, or by the root's inode if the recorded path no longer exists
    /// or leads to the other path.
    #[must_use]
    pub fn is_same_worktree(&self, other: &Self) -> bool {
        let leads_to_other = || match std::path::Path::new(&self.worktree).canonicalize() {
            Ok(path) => path.as_os_str().as_encoded_bytes().escape_ascii().to_string() == other.worktree,
            Err(_) => true,
        };
        let moved = || self.root.number == other.root.number && leads_to_other();
        self.worktree == other.worktree || moved()
    }
}

/// A directory in which files are staged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagingArea {
    /// The directory of the working tree that contains the staging directory, if the files belong on another mount; `None`
    /// if they are staged in the transaction's own directory.
    pub in_tree: Option<InTreeDir>,
    /// Whether the file system can exchange two files atomically.
    pub can_exchange: bool,
    /// Whether a file keeps its inode number when it is renamed. Some user-space file systems do not guarantee this.
    pub has_stable_inodes: bool,
}

/// A directory of the working tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InTreeDir {
    Root,
    Directory(RepoPath),
}

/// A numbered file in a staging area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Index of the staging area.
    pub area: usize,
    pub number: usize,
}

impl StagedFile {
    /// Returns the file's name.
    #[must_use]
    pub fn file_name(self) -> String {
        self.number.to_string()
    }

    /// Returns the name of the backup, if files cannot be exchanged.
    #[must_use]
    pub fn backup_name(self) -> String {
        format!("{}.was", self.number)
    }
}

/// The properties by which a file is recognized.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    pub version: EntryContent,
    pub mode: u32,
    pub inode: Inode,
}

impl From<&ObservedFile> for FileIdentity {
    fn from(observed: &ObservedFile) -> Self {
        Self { version: observed.version.clone(), mode: observed.mode, inode: observed.inode }
    }
}

/// A change to a single path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// The creation of a directory.
    MakeDirectory {
        path: RepoPath,
        /// The staged directory, which has the permissions that the new directory gets.
        staged: Option<StagedFile>,
    },
    /// The removal of an empty directory. The staged directory has the same permissions.
    RemoveDirectory { path: RepoPath, staged: StagedFile },
    /// The creation or replacement of a file or symlink.
    Write {
        path: RepoPath,
        /// The staged file; after the exchange, the backup.
        staged: StagedFile,
        before: Option<FileIdentity>,
        after: FileIdentity,
        /// The path that the file is moved from. Its deletion is a separate operation.
        moved_from: Option<RepoPath>,
    },
    /// The move of a file or symlink to the staging directory.
    Delete { path: RepoPath, staged: StagedFile, before: FileIdentity },
    /// A case-only rename, on a file system that treats both names as the same.
    CaseRename { from: RepoPath, to: RepoPath },
}

impl Op {
    /// Returns the path that the operation's file is moved from.
    fn moved_from(&self) -> Option<&RepoPath> {
        match self {
            Self::Write { moved_from, .. } => moved_from.as_ref(),
            _ => None,
        }
    }

    /// Returns the path that the operation changes.
    #[must_use]
    pub fn path(&self) -> &RepoPath {
        match self {
            Self::MakeDirectory { path, .. }
            | Self::RemoveDirectory { path, .. }
            | Self::Write { path, .. }
            | Self::Delete { path, .. }
            | Self::CaseRename { to: path, .. } => path,
        }
    }
}

/// The outcome of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionOutcome {
    /// Whether the transaction was committed; otherwise it was rolled back.
    pub committed: bool,
    /// Seconds since the epoch.
    pub at: u64,
}

/// An error from reading a journal file.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file is incomplete, has an unknown format, or does not match its checksum.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// An I/O error.
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// The progress of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Not prepared: the working tree is unchanged.
    Staging,
    /// Prepared, and neither committed nor rolled back.
    Prepared(Box<Journal>),
    /// Committed or rolled back.
    Finished(Box<Journal>, TransactionOutcome),
}
