//! The steps and conflicts of a plan.

use std::ops::Range;

use super::entry_content::EntryContent;
use super::entry_merge::ConflictKind;
use super::merge::ConflictHunk;
use super::request::AttrSource;
use super::working_tree::ObservedFile;
use crate::changes::Selection;
use crate::core::path::RepoPath;

/// The action of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepAction {
    Create,
    /// Replaces it with what was accepted.
    Replace,
    /// Replaces it with what was accepted and the user's own edits.
    Merge(Vec<Range<usize>>),
    /// Replaces it with both sides between markers, in so many places.
    WriteConflictMarkers(usize),
    Delete,
    /// Nothing: it holds the accepted content already.
    Unchanged,
}

/// One path of a plan.
#[derive(Debug)]
pub struct Step {
    pub path: RepoPath,
    pub action: StepAction,
    /// The selection that is applied afterwards, earlier applies included.
    pub picks: Selection,
    /// Units of earlier rounds that this selection supersedes.
    pub superseded: Selection,
    /// The merge base.
    pub base: Option<EntryContent>,
    /// The file as observed in the working tree.
    pub expected: Option<ObservedFile>,
    /// The resulting content; `None` if the path is deleted.
    pub result: Option<EntryContent>,
    /// File to copy the permissions from if the path is created.
    pub attrs_from: Option<AttrSource>,
    /// Copy them also if a file with this mode is replaced.
    pub attrs_from_if_mode: Option<u32>,
    /// The same file under another spelling, which the plan deletes: one rename, so that it is never gone.
    pub(crate) case_renamed_from: Option<RepoPath>,
    /// Another spelling that must not be there with it, and that the plan deletes.
    pub(crate) colliding_path: Option<RepoPath>,
}

/// A path that cannot be written as the host is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub path: RepoPath,
    /// Why, for a person; names in it are escaped.
    pub reason: String,
    /// The sides, where they are what is in the way.
    pub sides: Option<ConflictSides>,
}

/// Three versions of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictSides {
    /// The kind of conflict.
    pub kind: ConflictKind,
    /// The merge base.
    pub base: Option<EntryContent>,
    /// The working tree's content.
    pub ours: Option<EntryContent>,
    pub theirs: Option<EntryContent>,
    /// Lines that both changed, if it is about lines.
    pub hunks: Vec<ConflictHunk>,
}

impl ConflictSides {
    /// Returns whether both sides can be put between markers.
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self.kind, ConflictKind::Lines | ConflictKind::EnginesDisagree)
    }
}

/// The handling of conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    #[default]
    Abort,
    /// Both sides are written between markers, where that is possible.
    Markers,
    /// The other paths are written.
    Skip,
}

/// How git's attributes say a path is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MergeMode {
    #[default]
    Text,
    /// By line, with the lines of both sides where both changed the same (`union`).
    Union,
    /// Not at all (`-merge`, `binary`).
    NotByLine,
    /// By a program of the user's.
    Driver,
    /// By line, but the two sides have it in different forms: a filter made the one of the other.
    Filtered,
}
