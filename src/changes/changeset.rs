//! Base against result, sealed under one id.

use std::collections::BTreeSet;
use std::io;

use serde::{Deserialize, Serialize};

use super::{ContentHash, Finding, Quarantine, Severity};
use crate::core::path::{EntryKind, RepoPath};

/// Bytes above which a file is one unit, and its lines are not looked at.
pub const MAX_TEXT: u64 = 16 << 20;

/// All that an agent changed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Changeset {
    /// Version of this format.
    pub schema_version: u32,
    /// Hash of everything below.
    pub id: String,
    /// The commit that the sandbox was seeded with.
    pub base: String,
    /// The changes, sorted by path.
    pub files: Vec<FileChange>,
    /// Entries that cannot be accepted.
    pub refused: Vec<Refused>,
    /// New files, and directories of such, that were left out because rules that the agent made ignore them.
    #[serde(default)]
    pub ignored_by_agent_rules: Vec<RepoPath>,
    /// New files that the base's own rules, or the user's, ignore.
    #[serde(default)]
    pub ignored: Ignored,
}

/// New files, and directories of such, that rules ignore: how many, and the first of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ignored {
    pub count: usize,
    pub first: Vec<IgnoredPath>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IgnoredPath {
    pub path: RepoPath,
    /// Whether it is a directory, with all that is in it.
    pub is_directory: bool,
}

/// One path that differs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileChange {
    pub path: RepoPath,
    /// The base's version.
    pub old: Option<FileVersion>,
    /// The result's version.
    pub new: Option<FileVersion>,
    /// For a person only: the deleted file that this added one was probably made from.
    pub renamed_from: Option<RepoPath>,
    /// The risk findings.
    pub findings: Vec<Finding>,
}

/// One side of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileVersion {
    /// File, executable file or link.
    pub kind: EntryKind,
    pub hash: ContentHash,
    pub size: u64,
}

/// Something in the workspace that stays out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its path, untrusted and perhaps cut.
    pub path: String,
    pub reason: String,
}

impl FileChange {
    /// Returns the strongest level among the findings.
    #[must_use]
    pub fn severity(&self) -> Option<Severity> {
        self.findings.iter().map(|f| f.severity).max()
    }

    /// One word for what happened.
    #[must_use]
    pub fn change_word(&self) -> &'static str {
        match (&self.old, &self.new) {
            (None, _) => "added",
            (_, None) => "deleted",
            (Some(old), Some(new)) if (old.kind == EntryKind::Link) != (new.kind == EntryKind::Link) => "replaced",
            (Some(old), Some(new)) if old.hash == new.hash => "mode",
            _ => "modified",
        }
    }

    /// Returns the same change with other content as its result.
    #[must_use]
    pub fn with_result(&self, kind: EntryKind, content: &[u8]) -> Self {
        let new = FileVersion { kind, hash: ContentHash::of(content), size: content.len() as u64 };
        Self { new: Some(new), ..self.clone() }
    }

    /// Returns whether one of its sides is above [`MAX_TEXT`].
    #[must_use]
    pub fn is_large(&self) -> bool {
        [&self.old, &self.new].into_iter().flatten().any(|side| side.size > MAX_TEXT)
    }

    /// Reads both sides; a missing one is empty. Of a large file (see [`FileChange::is_large`]) both are: nobody looks at
    /// its lines.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn contents(&self, store: &Quarantine) -> io::Result<(Vec<u8>, Vec<u8>)> {
        if self.is_large() {
            return Ok((Vec::new(), Vec::new()));
        }
        let read = |side: &Option<FileVersion>| side.as_ref().map_or(Ok(Vec::new()), |s| store.get(&s.hash));
        Ok((read(&self.old)?, read(&self.new)?))
    }
}

impl Changeset {
    /// Returns whether the agent left anything that a person should see.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.refused.is_empty() && self.ignored_by_agent_rules.is_empty()
    }

    /// Returns every path that differs.
    #[must_use]
    pub fn paths(&self) -> BTreeSet<RepoPath> {
        self.files.iter().map(|f| f.path.clone()).collect()
    }
}
