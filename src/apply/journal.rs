//! What an apply writes down before its first change, so that whoever comes after a crash can take it back or finish it, and
//! so that it can be undone. One folder each below `<git common dir>/airlock/applies/`:
//!
//! | file | is there |
//! |---|---|
//! | `slots/N` | staged content; after the exchange, what was replaced |
//! | `journal` | once the apply is prepared: from now on it is unfinished |
//! | `end` | once it is committed, or taken back |
//! | `contents/HASH` | what was written, for the merge of an undo |
//! | `index` | the index of that time, a second name of the file |
//!
//! Each is written aside, synchronised and renamed, and begins with a line that has the format and a checksum.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::entry_content::EntryContent;
use super::working_tree::{Inode, ObservedFile};
use crate::changes::Selection;
use crate::core::path::RepoPath;

/// The log of one transaction: its operations, and what an undo needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// A random number in hexadecimal.
    pub id: String,
    /// Apply or undo.
    pub kind: Kind,
    /// The sandbox whose changes are applied.
    pub sandbox: String,
    /// The sandbox's unique id.
    pub sandbox_id: String,
    pub target: WorktreeFingerprint,
    /// Submodules, which are entered.
    pub modules: Vec<RepoPath>,
    pub staging_areas: Vec<StagingArea>,
    /// In the order in which they are done.
    pub ops: Vec<Op>,
    /// Per path, what of the changeset was in it before, and what is after this.
    #[serde(rename = "units")]
    pub selection: Vec<(RepoPath, Selection, Selection)>,
}

/// The kind of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Apply,
    /// The undo of one, by its id.
    Undo(String),
}

/// The place and the time of an apply: what must be the same for its recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorktreeFingerprint {
    /// The repository's own random number.
    pub repository: String,
    /// The root of the working tree, escaped.
    pub worktree: String,
    /// The same as a directory on disk.
    pub root: Inode,
    /// Kernel boot ID. Device numbers are only comparable within one boot.
    pub boot_id: String,
    pub head: String,
    /// The length and the checksum of git's index.
    pub index: Option<(u64, String)>,
}

impl WorktreeFingerprint {
    /// Returns whether this is a working tree: by its path, or as a directory on disk where that path is gone or leads here.
    #[must_use]
    pub fn is_same_worktree(&self, here: &Self) -> bool {
        let leads_here = || match std::path::Path::new(&self.worktree).canonicalize() {
            Ok(path) => path.as_os_str().as_encoded_bytes().escape_ascii().to_string() == here.worktree,
            Err(_) => true,
        };
        let moved = || self.root.number == here.root.number && leads_here();
        self.worktree == here.worktree || moved()
    }
}

/// A directory in which files are staged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagingArea {
    /// The directory in the working tree that has a folder for them; nothing if they are in the apply's own folder. For a
    /// part of the tree that is mounted from elsewhere.
    pub in_tree: Option<InTreeDir>,
    /// The file system exchanges two files at once.
    pub can_exchange: bool,
    /// A file keeps its number when it is renamed. (Not so in some file systems of user space.)
    pub has_stable_inodes: bool,
}

/// A directory of the working tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InTreeDir {
    Root,
    Directory(RepoPath),
}

/// A numbered file in a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Index of the staging area.
    pub area: usize,
    pub number: usize,
}

impl StagedFile {
    /// Returns the file's name.
    #[must_use]
    pub fn name(self) -> String {
        self.number.to_string()
    }

    /// Returns the name of what was replaced, where nothing can be exchanged.
    #[must_use]
    pub fn backup_name(self) -> String {
        format!("{}.was", self.number)
    }
}

/// A file as it is recognised again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    pub version: EntryContent,
    pub mode: u32,
    /// The file's inode.
    pub inode: Inode,
}

impl From<&ObservedFile> for FileIdentity {
    fn from(seen: &ObservedFile) -> Self {
        Self { version: seen.version.clone(), mode: seen.mode, inode: seen.inode }
    }
}

/// One change of one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// A directory is made.
    MakeDirectory {
        path: RepoPath,
        /// The staged directory whose permissions it gets.
        slot: Option<StagedFile>,
    },
    /// An empty directory is removed; the slot has one with the same permissions.
    RemoveDirectory { path: RepoPath, slot: StagedFile },
    /// A file or link is made or replaced.
    Write {
        path: RepoPath,
        /// The staged file; after the exchange, the backup.
        slot: StagedFile,
        before: Option<FileIdentity>,
        after: FileIdentity,
    },
    /// A file or link is moved into the slot.
    Delete { path: RepoPath, slot: StagedFile, before: FileIdentity },
    /// A file gets another spelling of its name, on a file system that takes both for one.
    CaseRename { from: RepoPath, to: RepoPath },
}

impl Op {
    /// Returns the path that it changes.
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
    /// Whether it was committed; otherwise it was rolled back.
    pub committed: bool,
    /// Seconds since the epoch.
    pub at: u64,
}

/// Why a journal is not used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The content does not match its checksum.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    /// An I/O error.
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// The progress of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransactionStatus {
    /// Not prepared: nothing of the tree was changed.
    Staging,
    /// Prepared, and neither committed nor taken back.
    Prepared(Box<Journal>),
    /// Committed or taken back.
    Finished(Box<Journal>, TransactionOutcome),
}
