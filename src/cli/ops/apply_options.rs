//! What is to be applied, and how.

use crate::apply::OnConflict;
use crate::review::{Decisions, ReviewModel, ReviewSelection};

/// What to apply, and how to tell of it.
#[derive(Default)]
pub struct ApplyOptions {
    pub selection: ReviewSelection,
    pub dry_run: bool,
    pub json: bool,
    pub allow_risky: bool,
    pub on_conflict: OnConflict,
    /// It was named just now, by options; else a review has accepted it.
    pub is_named: bool,
}

impl ApplyOptions {
    pub fn from_selection(selection: ReviewSelection) -> Self {
        Self { selection, ..Self::default() }
    }

    /// What a review has accepted: each risky part got a yes of its own there.
    pub fn decided(sheet: &ReviewModel<'_>, decisions: &Decisions) -> Self {
        let files = sheet.files.iter().filter(|f| !f.is_refused());
        let picks = files.map(|f| (f.change.path.clone(), decisions.selection(&f.units))).collect();
        Self::from_selection(ReviewSelection { picks, ..ReviewSelection::default() })
    }
}
