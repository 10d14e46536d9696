//! Where a transaction writes, and what it reports.

use std::path::PathBuf;

use super::journal::WorktreeFingerprint;
use crate::core::path::RepoPath;

/// The working tree that is written to.
#[derive(Debug, Clone)]
pub struct ApplyTarget {
    /// The git directory of the working tree, which has its index.
    pub git_dir: PathBuf,
    /// The state that must match for a recovery.
    pub fingerprint: WorktreeFingerprint,
}

/// A file of the user's that was not expected, or came too late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreservedEdit {
    pub path: RepoPath,
    /// The file that holds the edit now.
    pub file: PathBuf,
}

/// A path that was not taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedRevert {
    pub path: RepoPath,
    pub reason: &'static str,
}

/// The result of a transaction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The number of the apply.
    pub number: u64,
    /// Edits that came too late, each in a file of its own.
    pub late_edits: Vec<PreservedEdit>,
    /// When it was taken back: paths that the user has changed since.
    pub skipped: Vec<SkippedRevert>,
    /// Something after the end that does not matter for the tree.
    pub note: Option<String>,
    /// The file system cannot exchange two files at once.
    pub is_non_atomic: bool,
}
