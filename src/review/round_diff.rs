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
pub fn newly_risky(sheet: &ReviewModel<'_>, before: &Changeset) -> BTreeSet<RepoPath> {
    let level = |f: &FileChange| f.severity() >= Some(Severity::High);
    let was: BTreeMap<&RepoPath, bool> = before.files.iter().map(|f| (&f.path, level(f))).collect();
    // A file that was not in that round may have been accepted in an even earlier round.
    let is_risen = |f: &&FileChange| level(f) && was.get(&f.path) != Some(&true);
    sheet.files.iter().map(|f| f.change).filter(is_risen).map(|f| f.path.clone()).collect()
}

impl RoundDiff {
    /// Compares a model with the changeset of an earlier round.
    #[must_use]
    pub fn of(sheet: &ReviewModel<'_>, before: &Changeset, store: &Quarantine) -> Self {
        let earlier: BTreeMap<&RepoPath, &FileChange> = before.files.iter().map(|f| (&f.path, f)).collect();
        let risen = newly_risky(sheet, before);
        let sides = |f: &FileChange| (f.old.clone(), f.new.clone(), f.renamed_from.clone());
        let mut since = Self::default();
        for file in &sheet.files {
            let path = &file.change.path;
            let other = earlier.get(path);
            if risen.contains(path) {
                since.new.extend(file.units.iter().map(|unit| unit.id.clone()));
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
                since.touched.insert(path.clone());
            }
            since.gone += gone;
            since.new.extend(now.difference(&known).cloned());
        }
        let here: BTreeSet<&RepoPath> = sheet.files.iter().map(|f| &f.change.path).collect();
        for file in before.files.iter().filter(|f| !here.contains(&f.path)) {
            since.gone += unit_ids(file, store).map_or(1, |ids| ids.len());
        }
        since
    }
}

fn unit_ids(change: &FileChange, store: &Quarantine) -> io::Result<BTreeSet<String>> {
    let (old, new) = change.contents(store)?;
    Ok(crate::changes::split_units(change, &old, &new).into_iter().map(|unit| unit.id).collect())
}
