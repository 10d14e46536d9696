//! The options of an apply.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::changes::ConflictChoice;
use crate::core::on_conflict::OnConflict;
use crate::review::{Decisions, ReviewModel, ReviewSelection};

/// The form in which an apply reports the outcome of each path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum ReportForm {
    #[default]
    Text,
    Json,
    /// Nothing is printed, and the caller gets JSON.
    Returned,
}

/// The end of an apply that did not fail.
pub(crate) struct ApplyEnd {
    pub status: u8,
    /// The outcome of each path as JSON. It is null unless it was asked for with [`ReportForm::Returned`].
    pub outcome: Value,
}

/// The selection to apply, and how to apply and report it.
#[derive(Default)]
pub(crate) struct ApplyOptions {
    pub selection: ReviewSelection,
    pub dry_run: bool,
    pub report: ReportForm,
    pub allow_risky: bool,
    /// The message of an exported commit.
    pub message: Option<String>,
    /// Whether a branch gets one commit for each of the agent's.
    pub per_commit: bool,
    /// Whether an existing patch file is replaced.
    pub force: bool,
    pub on_conflict: OnConflict,
    /// The user's choices for regions in conflict, by the ID of the region.
    pub choices: BTreeMap<String, ConflictChoice>,
    /// Whether options named the selection. Otherwise, a review accepted it.
    pub is_named: bool,
}

impl ApplyOptions {
    pub(crate) fn from_selection(selection: ReviewSelection) -> Self {
        Self { selection, ..Self::default() }
    }

    /// Creates options from the decisions of a review, in which each high-risk part was confirmed explicitly.
    pub(crate) fn from_decisions(model: &ReviewModel<'_>, decisions: &Decisions) -> Self {
        let files = model.files.iter().filter(|f| !f.is_refused());
        let selections = files.map(|f| (f.change.path.clone(), decisions.accepted_selection(&f.units))).collect();
        let selection = ReviewSelection { selections, ..ReviewSelection::default() };
        Self { choices: decisions.conflict_choices().clone(), ..Self::from_selection(selection) }
    }
}
