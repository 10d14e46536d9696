//! The difference between two rounds: hunks that did not exist at the last review.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::ReviewModel;
use crate::changes::{Changeset, FileChange, Quarantine, Severity};
use crate::core::path::RepoPath;

/// The difference between two rounds, by unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoundDiff {
    /// The ids of new units.
    pub new: BTreeSet<String>,
    /// Number of hunks that are gone.
    pub gone: usize,
    /// Files with new or gone units.
    pub touched: BTreeSet<RepoPath>,
}

/// Returns the files that require explicit confirmation now, and did not in an earlier round. A change of another file can
/// cause this for an unchanged file.
#[must_use]
pub(crate) fn newly_risky(model: &ReviewModel<'_>, before: &Changeset) -> BTreeSet<RepoPath> {
    let is_high = |f: &FileChange| f.max_severity() >= Some(Severity::High);
    let was: BTreeMap<&RepoPath, bool> = before.files.iter().map(|f| (&f.path, is_high(f))).collect();
    // A file that was not in that round may have been accepted in an even earlier round.
    let is_newly_risky = |f: &&FileChange| is_high(f) && was.get(&f.path) != Some(&true);
    model.files.iter().map(|f| f.change).filter(is_newly_risky).map(|f| f.path.clone()).collect()
}

impl RoundDiff {
    /// Compares a model with the changeset of an earlier round.
    #[must_use]
    pub fn from_rounds(model: &ReviewModel<'_>, before: &Changeset, store: &Quarantine) -> Self {
        let earlier: BTreeMap<&RepoPath, &FileChange> = before.files.iter().map(|f| (&f.path, f)).collect();
        let risky_paths = newly_risky(model, before);
        let sides = |f: &FileChange| (f.old.clone(), f.new.clone(), f.renamed_from.clone());
        let mut diff = Self::default();
        for file in &model.files {
            let path = &file.change.path;
            let other = earlier.get(path);
            if risky_paths.contains(path) {
                diff.new.extend(file.units.iter().map(|unit| unit.id.clone()));
                continue;
            }
            // Most files are unchanged, and need not be compared line by line.
            if other.is_some_and(|other| sides(other) == sides(file.change)) {
                continue;
            }
            // Units that can no longer be read count as new.
            let known = other.and_then(|other| unit_ids(other, store).ok()).unwrap_or_default();
            let now: BTreeSet<String> = file.units.iter().map(|unit| unit.id.clone()).collect();
            let gone = known.difference(&now).count();
            if gone > 0 || !now.is_subset(&known) {
                diff.touched.insert(path.clone());
            }
            diff.gone += gone;
            diff.new.extend(now.difference(&known).cloned());
        }
        let current_paths: BTreeSet<&RepoPath> = model.files.iter().map(|f| &f.change.path).collect();
        for file in before.files.iter().filter(|f| !current_paths.contains(&f.path)) {
            diff.gone += unit_ids(file, store).map_or(1, |ids| ids.len());
        }
        diff
    }
}

fn unit_ids(change: &FileChange, store: &Quarantine) -> io::Result<BTreeSet<String>> {
    let (old, new) = change.read_contents(store)?;
    Ok(crate::changes::split_units(change, &old, &new).into_iter().map(|unit| unit.id).collect())
}
