//! The services that a review needs from the program: save events, edit a text, find risks and plan an apply.

use std::io;

use super::{Decisions, Event};
use crate::changes::{ConflictRegion, ContentHash, FileChange, Finding};
use crate::core::on_conflict::OnConflict;
use crate::core::path::RepoPath;

/// The program that hosts a review.
pub trait ReviewHost {
    /// Saves events.
    ///
    /// # Errors
    /// An I/O error. No further decisions must be recorded then.
    fn save_events(&mut self, events: &[Event]) -> io::Result<()>;

    /// Lets the user edit a text in an editor, and returns the result. The editor has the screen while it runs.
    ///
    /// # Errors
    /// The editor did not start, or failed.
    fn edit_text(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<Vec<u8>>;

    /// Shows a text in the user's editor, and returns whether the user changed it. The changes are ignored.
    ///
    /// # Errors
    /// As [`ReviewHost::edit_text`].
    fn view_text(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<bool>;

    /// Returns the findings for a file with this content.
    fn find_risks(&self, change: &FileChange, old: &[u8], new: &[u8]) -> Vec<Finding>;

    /// Returns the outcome of an apply for every accepted path, without writing.
    ///
    /// # Errors
    /// The reason for a failure, for messages.
    fn preview_apply(&mut self, decisions: &Decisions) -> Result<Preview, String>;
}

/// Plans an apply in the background of a review.
pub trait ApplyPlanner: Sync {
    /// Returns the outcome of an apply for every accepted path, without writing, as [`ReviewHost::preview_apply`] does. A plan
    /// that is cancelled is an error.
    ///
    /// # Errors
    /// The reason for a failure, for messages.
    fn plan_apply(&self, decisions: &Decisions, is_cancelled: &(dyn Fn() -> bool + Sync)) -> Result<Preview, String>;

    /// Returns a value that is another one after a file that the changes are about has changed in the working tree.
    fn tree_state(&self) -> u64;
}

/// The outcome of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewOutcome {
    /// Every unit was visited.
    Completed,
    /// The user quit. The decisions are saved.
    Quit,
    /// The user wants to apply. The handling of conflicts is set if the user has already confirmed.
    Apply(Option<OnConflict>),
    /// The user has confirmed an apply, and the review goes on after it.
    ApplyAndStay,
    /// The review starts again, because a rename was split or joined.
    Reopen,
    /// The user wants to send comments and rejections to the agent.
    Send,
    /// The user discarded the draft.
    Discarded,
    /// A signal ended the review. The decisions are saved.
    Interrupted,
}

/// The preview of an apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// One line for each path.
    pub lines: Vec<PreviewLine>,
}

/// The preview of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewLine {
    pub path: RepoPath,
    /// The path before a rename.
    pub renamed_from: Option<RepoPath>,
    pub outcome: &'static str,
    pub reason: String,
    /// Whether the path is in conflict. Nothing is written then.
    pub is_conflict: bool,
    /// The three sides of a conflict as escaped lines.
    pub sides: Vec<String>,
    /// The regions of a conflict that can be resolved one by one.
    pub regions: Vec<ConflictRegion>,
    /// Whether git's merge, which is among these lines, can be written.
    pub has_git_merge: bool,
    /// The content of the file after the apply, if it would have one.
    pub result: Option<ContentHash>,
}

impl Preview {
    /// Returns whether git's merge of a conflict can be written.
    #[must_use]
    pub fn has_git_merge(&self) -> bool {
        self.lines.iter().any(|line| line.has_git_merge)
    }

    #[must_use]
    pub fn conflict_count(&self) -> usize {
        self.lines.iter().filter(|line| line.is_conflict).count()
    }
}
