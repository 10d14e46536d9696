//! The services that a front end asks of the program around it: save events, edit a text, assess risk, plan.

use std::io;

use super::{Decisions, Event};
use crate::changes::{FileChange, Finding};
use crate::core::path::RepoPath;

/// The program around a review.
pub trait ReviewHost {
    /// Keeps what has happened.
    ///
    /// # Errors
    /// An I/O error; then nothing more must be decided.
    fn save_events(&mut self, events: &[Event]) -> io::Result<()>;

    /// Has a person edit a text in their editor, and gives what they left. The screen is theirs meanwhile.
    ///
    /// # Errors
    /// It did not start, or failed.
    fn edit_text(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<Vec<u8>>;

    /// Has a person look at a text in their editor; what they write there is not taken.
    ///
    /// # Errors
    /// As [`ReviewHost::edit_text`].
    fn view_text(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<()>;

    /// Returns the findings for a file with this content.
    fn find_risks(&self, change: &FileChange, old: &[u8], new: &[u8]) -> Vec<Finding>;

    /// Returns the outcome of an apply for every accepted path, without writing.
    ///
    /// # Errors
    /// In words, for a person.
    fn preview_apply(&mut self, decisions: &Decisions) -> Result<Preview, String>;
}

/// The outcome of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReviewOutcome {
    /// Every unit was visited.
    Through,
    /// The person left; what was decided is saved.
    Left,
    /// They want it applied; and with how conflicts are dealt with, where they have confirmed it already.
    Apply(Option<ConflictHandling>),
    /// They want comments and rejections sent to the agent.
    Send,
    /// They threw the draft away.
    Discarded,
    /// A signal ended it; what was decided is saved.
    Signalled,
}

/// The handling of conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictHandling {
    /// There is none, and if one comes up nothing is written.
    Abort,
    /// They are passed over.
    Skip,
    /// Both sides go between markers.
    Markers,
}

/// The preview of an apply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// One for each path.
    pub lines: Vec<PreviewLine>,
}

/// The preview of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreviewLine {
    pub path: RepoPath,
    pub outcome: &'static str,
    pub reason: String,
    /// It is in conflict: nothing at all is written.
    pub is_conflict: bool,
    /// Of a conflict the three sides, line by line, escaped.
    pub sides: Vec<String>,
}

impl Preview {
    /// Counts the conflicts.
    #[must_use]
    pub fn conflicts(&self) -> usize {
        self.lines.iter().filter(|line| line.is_conflict).count()
    }
}
