//! The steps and conflicts of a plan.

use std::ops::Range;

use super::entry_content::EntryContent;
use super::entry_merge::ConflictKind;
use super::merge::ConflictHunk;
use super::request::AttrSource;
use super::working_tree::ObservedFile;
use crate::changes::Selection;
use crate::core::path::{EntryKind, RepoPath};

/// The action of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StepAction {
    Create,
    /// Replacement with the accepted content.
    Replace,
    /// Replacement with the accepted content and the user's own edits. The ranges are the lines of these edits.
    Merge(Vec<Range<usize>>),
    /// Replacement with what the user chose where both sides changed the same lines.
    Resolve,
    /// Replacement with both sides between conflict markers. The number is the number of conflicts.
    WriteConflictMarkers(usize),
    Delete,
    /// No action: the path already has the accepted content.
    Unchanged,
}

/// A step for a single path of a plan.
#[derive(Debug)]
pub struct Step {
    pub path: RepoPath,
    pub action: StepAction,
    /// The units that are applied after this step, including those of earlier applies.
    pub selection: Selection,
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
    /// Mode of the existing file for which `attrs_from` is also used when the file is replaced.
    pub attrs_from_if_mode: Option<u32>,
    /// The file that is moved to the path.
    pub moved_from: Option<MovedFile>,
    /// The path that the file is moved to. The two steps of a rename are both executed, or neither.
    pub moved_to: Option<RepoPath>,
    /// The same file under another spelling that the plan deletes. The file is renamed instead, so that it always exists.
    pub(crate) case_renamed_from: Option<RepoPath>,
    /// Another spelling that must not coexist with the path and that the plan deletes.
    pub(crate) colliding_path: Option<RepoPath>,
}

/// The file of the working tree that a rename moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedFile {
    pub path: RepoPath,
    /// The file as observed there; `None` if it is at the new path already.
    pub observed: Option<ObservedFile>,
    /// Whether the result has edits of the user besides the accepted content.
    pub has_edits: bool,
}

/// A path that cannot be written in the current state of the working tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub path: RepoPath,
    /// The other path, if a rename is the conflict.
    pub renamed_from: Option<RepoPath>,
    /// The reason, for messages; names in it are escaped.
    pub reason: String,
    /// The sides, if they are the reason for the conflict.
    pub sides: Option<ConflictSides>,
}

impl Conflict {
    /// Creates a conflict without sides.
    pub(crate) fn new(path: RepoPath, reason: impl Into<String>) -> Self {
        Self { path, renamed_from: None, reason: reason.into(), sides: None }
    }

    /// Returns the path, and the other path of a rename.
    pub(crate) fn both_paths(&self) -> impl Iterator<Item = &RepoPath> {
        std::iter::once(&self.path).chain(&self.renamed_from)
    }
}

impl Step {
    /// Returns whether the step moves a file to the path.
    #[must_use]
    pub fn moves_file(&self) -> bool {
        self.moved_from.as_ref().is_some_and(|file| file.observed.is_some())
    }

    /// Returns whether the step, or that at the old path of a rename, changes the working tree.
    #[must_use]
    pub fn is_written(&self) -> bool {
        self.action != StepAction::Unchanged || self.moves_file()
    }

    /// Returns the old path, if the step is the one at the new path of a rename.
    #[must_use]
    pub fn renamed_from(&self) -> Option<&RepoPath> {
        self.moved_from.as_ref().map(|file| &file.path)
    }
}

/// The three sides of a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictSides {
    pub kind: ConflictKind,
    /// The merge base.
    pub base: Option<EntryContent>,
    /// The working tree's content.
    pub ours: Option<EntryContent>,
    pub theirs: Option<EntryContent>,
    /// Lines that both sides changed, if the conflict is about lines.
    pub hunks: Vec<ConflictHunk>,
    /// Git's merge, if git has no conflict and the other engine disagrees.
    pub git_merge: Option<EntryContent>,
}

impl ConflictSides {
    /// Returns whether both sides can be written between conflict markers.
    #[must_use]
    pub fn can_have_markers(&self) -> bool {
        let is_file = |side: &Option<EntryContent>| side.as_ref().is_some_and(|side| side.kind != EntryKind::Symlink);
        match self.kind {
            // If git's merge has no conflict, there is nothing to put between markers.
            ConflictKind::EnginesDisagree => self.git_merge.is_none(),
            ConflictKind::Lines => true,
            ConflictKind::AddAdd => is_file(&self.ours) && is_file(&self.theirs),
            _ => false,
        }
    }
}

/// The merge behavior of a path according to git's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MergeMode {
    #[default]
    Text,
    /// By line, with the lines of both sides where both changed the same lines (`union`).
    Union,
    /// Not merged (`-merge`, `binary`).
    NotByLine,
    /// By a merge driver that the user configured.
    Driver,
    /// By line, although a filter gives the two sides different forms.
    Filtered,
}
