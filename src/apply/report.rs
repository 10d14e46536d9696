//! The target and the report of a transaction.

use std::path::PathBuf;

use super::journal::WorktreeFingerprint;
use crate::core::path::RepoPath;

/// The working tree that a transaction writes to.
#[derive(Debug, Clone)]
pub struct ApplyTarget {
    /// The git directory of the working tree, which contains its index.
    pub git_dir: PathBuf,
    /// The state that must match for a recovery.
    pub fingerprint: WorktreeFingerprint,
}

/// An edit of the user that was unexpected or late, and was preserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreservedEdit {
    pub path: RepoPath,
    /// The file that contains the edit now.
    pub file: PathBuf,
}

/// A path that was not rolled back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedRevert {
    pub path: RepoPath,
    pub reason: &'static str,
}

/// The result of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The number of the transaction.
    pub number: u64,
    /// Late edits, each preserved in a separate file.
    pub late_edits: Vec<PreservedEdit>,
    /// After a rollback, the paths that the user has changed since.
    pub skipped: Vec<SkippedRevert>,
    /// A failure after the outcome was written that does not affect the working tree.
    pub note: Option<String>,
    /// Whether the file system cannot exchange two files atomically.
    pub is_non_atomic: bool,
}
