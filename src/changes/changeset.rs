//! Defines the changeset: the difference between base and result, under one ID.

use std::collections::BTreeSet;
use std::io;

use serde::{Deserialize, Serialize};

use super::{ContentHash, DeletedContent, Finding, Quarantine, Severity};
use crate::core::path::{EntryKind, RepoPath};

/// Maximum size in bytes of a file that is split into lines. A larger file is a single unit.
pub(crate) const MAX_TEXT: u64 = 16 << 20;

/// All changes of an agent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changeset {
    /// The version of this format.
    pub schema_version: u32,
    /// The hash of `base`, `files`, `rename_findings`, `refused` and `ignored_by_agent_rules`.
    pub id: String,
    /// The commit that the sandbox was seeded with.
    pub base: String,
    /// The changes, sorted by path.
    pub files: Vec<FileChange>,
    /// The findings of renames that are joined into one change.
    #[serde(default)]
    pub rename_findings: Vec<RenameFindings>,
    /// Entries that cannot be accepted.
    pub uncollected: Vec<UncollectedEntry>,
    /// New files and directories that were excluded because rules which the agent added ignore them.
    #[serde(default)]
    pub ignored_by_agent_rules: Vec<RepoPath>,
    /// New files that are ignored by rules of the base or the user.
    #[serde(default)]
    pub ignored: IgnoredPaths,
    /// The facts about contents of deleted files, as far as they are known; sorted by path.
    #[serde(default)]
    pub deleted: Vec<(RepoPath, DeletedContent)>,
}

/// The number of new files and directories that rules ignore, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredPaths {
    pub count: usize,
    pub first: Vec<IgnoredPath>,
}

/// An ignored file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredPath {
    pub path: RepoPath,
    /// Whether the path is a directory, which includes everything in it.
    pub is_directory: bool,
}

/// A path that differs between base and result.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileChange {
    pub path: RepoPath,
    /// The version in the base.
    pub old: Option<FileVersion>,
    /// The version in the result.
    pub new: Option<FileVersion>,
    /// The path before a rename. If `old` is absent, the deletion of that path is a separate change.
    pub renamed_from: Option<RepoPath>,
    pub findings: Vec<Finding>,
}

/// The findings of a rename: of its content at both paths, compared with the old content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RenameFindings {
    /// The new path.
    pub path: RepoPath,
    pub findings: Vec<Finding>,
}

/// The version of a file on one side of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    /// Regular file, executable file or symlink.
    pub kind: EntryKind,
    pub hash: ContentHash,
    pub size: u64,
}

/// An entry of the workspace that is excluded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UncollectedEntry {
    /// The path, which is untrusted and may be truncated.
    pub path: String,
    pub reason: String,
}

impl FileChange {
    /// Returns the highest severity of the findings.
    #[must_use]
    pub fn max_severity(&self) -> Option<Severity> {
        self.findings.iter().map(|f| f.severity).max()
    }

    /// Returns the kind of change as one word.
    #[must_use]
    pub fn kind_label(&self) -> &'static str {
        match (&self.old, &self.new) {
            _ if self.is_rename() => "renamed",
            (None, _) => "added",
            (_, None) => "deleted",
            (Some(old), Some(new)) if (old.kind == EntryKind::Symlink) != (new.kind == EntryKind::Symlink) => {
                "replaced"
            }
            (Some(old), Some(new)) if old.hash == new.hash => "mode",
            _ => "modified",
        }
    }

    /// Returns the same change with a different result.
    #[must_use]
    pub fn with_result(&self, kind: EntryKind, content: &[u8]) -> Self {
        let new = FileVersion { kind, hash: ContentHash::from_content(content), size: content.len() as u64 };
        Self { new: Some(new), ..self.clone() }
    }

    /// Returns whether either version is larger than `MAX_TEXT`.
    #[must_use]
    pub fn is_large(&self) -> bool {
        [&self.old, &self.new].into_iter().flatten().any(|side| side.size > MAX_TEXT)
    }

    /// Reads the contents of both versions.
    ///
    /// The content of a missing version is empty. For a large file (see [`FileChange::is_large`]), both are empty,
    /// because its lines are not shown.
    ///
    /// # Errors
    /// Fails if the quarantine is damaged.
    pub fn read_contents(&self, store: &Quarantine) -> io::Result<(Vec<u8>, Vec<u8>)> {
        if self.is_large() {
            return Ok((Vec::new(), Vec::new()));
        }
        let read = |side: &Option<FileVersion>| side.as_ref().map_or(Ok(Vec::new()), |s| store.get(&s.hash));
        Ok((read(&self.old)?, read(&self.new)?))
    }
}

impl Changeset {
    /// Returns whether the changeset has no changes, no refused entries and no files ignored by the agent's rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.uncollected.is_empty() && self.ignored_by_agent_rules.is_empty()
    }

    /// Returns what is known about the content of a deleted file.
    #[must_use]
    pub fn find_deleted(&self, path: &RepoPath) -> Option<DeletedContent> {
        let found = self.deleted.binary_search_by(|(deleted, _)| deleted.cmp(path));
        found.ok().map(|at| self.deleted[at].1)
    }

    /// Returns the paths of all changes.
    #[must_use]
    pub fn changed_paths(&self) -> BTreeSet<RepoPath> {
        self.files.iter().map(|f| f.path.clone()).collect()
    }
}
