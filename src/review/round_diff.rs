//! The difference between two rounds: hunks that were not there at the last review.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::ReviewModel;
use crate::changes::{Changeset, FileChange, Quarantine, Severity};
use crate::core::path::RepoPath;

/// The difference between two rounds, by unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoundDiff {
    /// Units that are new, by id.
    pub new: BTreeSet<String>,
    /// Number of hunks that are gone.
    pub gone: usize,
    /// Files of which some are new or gone.
    pub touched: BTreeSet<RepoPath>,
}

/// Names the files that need a yes of their own now, and did not in an earlier round: what another file has become can do that
/// to one that is as it was.
#[must_use]
pub fn newly_risky(sheet: &ReviewModel<'_>, before: &Changeset) -> BTreeSet<RepoPath> {
    let level = |f: &FileChange| f.severity() >= Some(Severity::High);
    let was: BTreeMap<&RepoPath, bool> = before.files.iter().map(|f| (&f.path, level(f))).collect();
    // One that was not there then had its yes in another time still.
    let is_risen = |f: &&FileChange| level(f) && was.get(&f.path) != Some(&true);
    sheet.files.iter().map(|f| f.change).filter(is_risen).map(|f| f.path.clone()).collect()
}

impl RoundDiff {
    /// Compares a sheet with the changeset of an earlier round.
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
            // Most files are as they were, and need not be compared line by line.
            if other.is_some_and(|other| sides(other) == sides(file.change)) {
                continue;
            }
            // What cannot be read any more is new.
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
