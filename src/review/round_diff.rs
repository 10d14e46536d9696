//! The difference between two rounds: hunks that did not exist at the last review.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::earlier_round::ComparedFile;
use super::{CommentAnchor, ReviewFile, ReviewModel, ReviewState, is_comment_sent};
use crate::changes::{Changeset, FileChange, LineSet, Quarantine, Severity, Unit};
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
    /// The lines of new units that the last round did not have, as a decision counts them.
    pub new_lines: BTreeMap<String, LineSet>,
    /// The comments of the last round on hunks that have changed since.
    pub comments: Vec<EarlierComment>,
}

/// A comment of the last round on a hunk that has changed since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierComment {
    pub path: RepoPath,
    pub text: String,
    /// Whether the agent has got it.
    pub is_sent: bool,
    /// The line of the last round's file at which its hunk began, from 0.
    pub line: usize,
    /// The unit that is there now; `None` if there is none.
    pub unit: Option<String>,
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
    pub fn from_rounds(model: &ReviewModel<'_>, before: &Changeset, store: &Quarantine, state: &ReviewState) -> Self {
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
            // What cannot be compared has no marks.
            let compared = other.and_then(|other| ComparedFile::compare_file(model, file, other, store).ok().flatten());
            if let Some(compared) = compared {
                let is_new = |unit: &&Unit| !known.contains(&unit.id);
                let lines = file.units.iter().filter(is_new).map(|unit| (unit.id.clone(), compared.new_lines(unit)));
                diff.new_lines.extend(lines);
                let gone = known.difference(&now);
                diff.comments.extend(gone.flat_map(|id| earlier_comments(id, file, &compared, state)));
            }
        }
        let current_paths: BTreeSet<&RepoPath> = model.files.iter().map(|f| &f.change.path).collect();
        for file in before.files.iter().filter(|f| !current_paths.contains(&f.path)) {
            let ids = unit_ids(file, store).unwrap_or_default();
            diff.gone += ids.len().max(1);
            let comments = ids.iter().flat_map(|id| state.decisions.comments_on(id));
            diff.comments.extend(comments.map(|(anchor, text)| EarlierComment {
                path: file.path.clone(),
                text: text.to_owned(),
                is_sent: is_comment_sent(anchor, text, state),
                line: 0,
                unit: None,
            }));
        }
        diff
    }
}

/// Returns the comments on a hunk of the last round that is gone.
fn earlier_comments(
    id: &str,
    file: &ReviewFile<'_>,
    compared: &ComparedFile,
    state: &ReviewState,
) -> Vec<EarlierComment> {
    let comment = |(anchor, text): (&CommentAnchor, &str)| EarlierComment {
        path: file.change.path.clone(),
        text: text.to_owned(),
        is_sent: is_comment_sent(anchor, text, state),
        line: compared.earlier_start(id).unwrap_or(0),
        unit: compared.successor_unit(id, &file.units).map(|unit| unit.id.clone()),
    };
    state.decisions.comments_on(id).map(comment).collect()
}

fn unit_ids(change: &FileChange, store: &Quarantine) -> io::Result<BTreeSet<String>> {
    let (old, new) = change.read_contents(store)?;
    Ok(crate::changes::split_units(change, &old, &new).into_iter().map(|unit| unit.id).collect())
}
