//! The state of menus and dialogs: an apply, conflicts, and short menus.

use std::collections::BTreeMap;

use crate::changes::ConflictRegion;
use crate::core::on_conflict::OnConflict;
use crate::core::path::RepoPath;
use crate::review::{DecisionTarget, Preview, ReviewOutcome};

/// The conflict of a file, if everything were accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileConflict {
    pub reason: String,
    /// The regions that can be resolved; none if the conflict is not about content.
    pub regions: Vec<ConflictRegion>,
}

/// The screen that resolves conflicts.
#[derive(Debug)]
pub(crate) struct ResolveView {
    /// The regions, each with its path.
    pub items: Vec<(RepoPath, ConflictRegion)>,
    pub at: usize,
    pub scroll: usize,
    /// Whether the screen was opened from the preview of the apply, and returns there.
    pub from_apply: bool,
    /// The hunks that were accepted with the choice for a region, by its ID.
    pub accepted: BTreeMap<String, Vec<DecisionTarget>>,
}

/// The preview of an apply on the screen.
#[derive(Debug)]
pub(crate) struct ApplyView {
    pub preview: Preview,
    pub scroll: usize,
    pub step: ApplyStep,
    /// Whether the files that are not applied are listed.
    pub lists_rest: bool,
}

/// The input that the screen waits for.
#[derive(Debug)]
pub(crate) enum ApplyStep {
    Look,
    /// A yes for conflict markers or git's merge.
    Confirm(ApplyRequest),
    /// The word `apply`, because high-risk changes are written.
    Type(String, ApplyRequest),
}

/// The apply that the user asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ApplyRequest {
    pub on_conflict: OnConflict,
    /// Whether the review goes on afterwards.
    pub stays: bool,
}

impl ApplyRequest {
    /// Returns the outcome of the review that asks for this apply.
    pub(super) fn review_outcome(self) -> ReviewOutcome {
        if self.stays { ReviewOutcome::ApplyAndStay } else { ReviewOutcome::Apply(Some(self.on_conflict)) }
    }
}

/// A menu that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Menu {
    Filter,
    Order,
    View,
}
