//! Compares the files of a round with those of the last one by line: which lines are new, which decisions are kept, and what became
//! of the hunks that comments were about.
//!
//! *Invariant:* an acceptance is kept only for a whole run of accepted lines that comes back with the same content, in the same
//! order, at the same lines of the base. Files of high risk are accepted again in each round.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use similar::{Algorithm, DiffTag, capture_diff_slices};

use super::decisions::{Decision, Decisions, UnitDecision};
use super::hunk_rows::{FileText, HunkRows};
use super::{ReviewFile, ReviewModel};
use crate::changes::{
    Changeset, FileChange, HunkLine, LineSet, Lines, Quarantine, Unit, UnitKind, is_comparable, is_line_based,
    split_lines, split_units,
};
use crate::core::path::RepoPath;

/// A file in the last round and in this one. Both have the same base.
pub(super) struct ComparedFile {
    /// The hunks of the last round, with their rows.
    earlier: Vec<(Unit, HunkRows)>,
    earlier_text: FileText,
    text: FileText,
    /// For each line of this round's result, the equal line of the last round's.
    earlier_lines: Vec<Option<usize>>,
}

impl ComparedFile {
    /// Compares a file. Returns `None` if one of the versions is no text, or the base is another one.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub(super) fn compare_file(
        model: &ReviewModel<'_>,
        file: &ReviewFile<'_>,
        before: &FileChange,
        store: &Quarantine,
    ) -> io::Result<Option<Self>> {
        if before.old != file.change.old || file.change.is_large() || before.is_large() {
            return Ok(None);
        }
        let ((old, earlier_new), (_, new)) = (before.read_contents(store)?, model.read_contents(file)?);
        if ![&old, &earlier_new, &new].into_iter().all(|content| is_line_based(content)) {
            return Ok(None);
        }
        let units = split_units(before, &old, &earlier_new);
        let (earlier_split, split) = (split_lines(&earlier_new), split_lines(&new));
        if !is_comparable(&earlier_split, &split) {
            return Ok(None);
        }
        let mut earlier_lines = vec![None; split.len()];
        for op in capture_diff_slices(Algorithm::Histogram, &earlier_split, &split) {
            if op.tag() == DiffTag::Equal {
                op.old_range().zip(op.new_range()).for_each(|(old, new)| earlier_lines[new] = Some(old));
            }
        }
        let earlier_text = FileText { old: Lines::new(old.clone()), new: Lines::new(earlier_new.clone()) };
        let text = FileText { old: Lines::new(old), new: Lines::new(new) };
        let rows = |unit: Unit| HunkRows::from_unit(&unit, &earlier_text).map(|rows| (unit, rows));
        let earlier = units.into_iter().filter_map(rows).collect();
        Ok(Some(Self { earlier, earlier_text, text, earlier_lines }))
    }

    /// Returns the lines of a unit that no hunk of the last round had, as a decision counts them.
    pub(super) fn new_lines(&self, unit: &Unit) -> LineSet {
        let UnitKind::Hunk { old, new } = &unit.kind else { return LineSet::default() };
        let was_removed = |line: &usize| self.earlier.iter().any(|(_, rows)| rows.old.contains(line));
        let was_added = |line: &usize| {
            let is_part = |rows: &HunkRows, line: &usize| rows.new.contains(line) && is_touching(&rows.old, old);
            self.earlier_lines[*line].is_some_and(|line| self.earlier.iter().any(|(_, rows)| is_part(rows, &line)))
        };
        let removed = old.clone().filter(|line| !was_removed(line)).map(|line| line - old.start);
        let added = new.clone().filter(|line| !was_added(line)).map(|line| old.len() + line - new.start);
        LineSet::from_lines(removed.chain(added))
    }

    /// Returns the hunk of this round that is where a hunk of the last round was.
    pub(super) fn successor_unit<'u>(&self, earlier: &str, units: &'u [Unit]) -> Option<&'u Unit> {
        let (_, rows) = self.earlier.iter().find(|(unit, _)| unit.id == earlier)?;
        let touches = |unit: &&Unit| match &unit.kind {
            UnitKind::Hunk { old, .. } => is_touching(old, &rows.old),
            _ => false,
        };
        units.iter().find(touches)
    }

    /// Returns the line at which a hunk of the last round began, in its result.
    pub(super) fn earlier_start(&self, earlier: &str) -> Option<usize> {
        self.earlier.iter().find(|(unit, _)| unit.id == earlier).map(|(_, rows)| rows.new.start)
    }

    /// Returns the decision on a unit that follows from acceptances of the last round.
    fn kept_decision(
        &self,
        unit: &Unit,
        decisions: &Decisions,
        model: &ReviewModel<'_>,
    ) -> io::Result<Option<UnitDecision>> {
        let Some(rows) = HunkRows::from_unit(unit, &self.text) else { return Ok(None) };
        let mut accepted: Vec<usize> = Vec::new();
        for (earlier, earlier_rows) in &self.earlier {
            match decisions.get(&earlier.id) {
                Some(UnitDecision::Edited(hash)) => {
                    let edited = model.read_text(hash)?;
                    if self.is_edited_result(unit, earlier_rows, &edited) {
                        return Ok(Some(UnitDecision::All(Decision::Accepted)));
                    }
                }
                Some(_) => {
                    let runs = accepted_runs(earlier, earlier_rows, decisions);
                    let kept = runs.into_iter().filter_map(|run| self.find_run(&rows, earlier_rows, run));
                    accepted.extend(kept.flatten());
                }
                None => {}
            }
        }
        accepted.sort_unstable();
        Ok(Decisions::default().with_lines(unit, accepted, Some(Decision::Accepted)))
    }

    /// Returns whether a unit is what the user's text made of a hunk, or a part of it.
    fn is_edited_result(&self, unit: &Unit, earlier: &HunkRows, edited: &[u8]) -> bool {
        let UnitKind::Hunk { old, new } = &unit.kind else { return false };
        let base = self.text.old.collect_lines(earlier.old.clone());
        let edited = split_lines(edited);
        let result = self.text.new.collect_lines(new.clone());
        capture_diff_slices(Algorithm::Histogram, &base, &edited).iter().any(|op| {
            let (tag, from, to) = op.as_tag_tuple();
            let from = from.start + earlier.old.start..from.end + earlier.old.start;
            tag != DiffTag::Equal && from == *old && edited[to] == result[..]
        })
    }

    /// Returns the lines of a hunk, as a decision counts them, that are a run of rows of a hunk of the last round.
    fn find_run(&self, rows: &HunkRows, earlier: &HunkRows, run: Range<usize>) -> Option<Vec<usize>> {
        let now = |row: usize| -> Option<usize> {
            let is_same = |at: &usize| match (earlier.row_at(row), rows.row_at(*at)) {
                (HunkLine::Removed(was), HunkLine::Removed(is)) => earlier.old.start + was == rows.old.start + is,
                (HunkLine::Added(was), HunkLine::Added(is)) => {
                    self.earlier_lines[rows.new.start + is] == Some(earlier.new.start + was)
                        && base_position(earlier, row) == base_position(rows, *at)
                        && earlier.row_content(&self.earlier_text, row) == rows.row_content(&self.text, *at)
                }
                _ => false,
            };
            (0..rows.len()).find(is_same)
        };
        let found: Vec<usize> = run.map(now).collect::<Option<_>>()?;
        let is_run = found.windows(2).all(|pair| pair[0] + 1 == pair[1]);
        is_run.then(|| found.into_iter().map(|row| rows.decision_line(row)).collect())
    }
}

/// Returns the line of the base before which a row is, or that it removes.
fn base_position(rows: &HunkRows, row: usize) -> usize {
    rows.old.start + (0..row).filter(|at| matches!(rows.row_at(*at), HunkLine::Removed(_))).count()
}

/// Returns whether two ranges of the base have a line in common or meet.
fn is_touching(one: &Range<usize>, other: &Range<usize>) -> bool {
    one.start <= other.end && other.start <= one.end
}

/// Returns the longest runs of accepted rows of a hunk.
fn accepted_runs(unit: &Unit, rows: &HunkRows, decisions: &Decisions) -> Vec<Range<usize>> {
    let is_accepted =
        |row: usize| decisions.line_decision(&unit.id, rows.decision_line(row)) == Some(Decision::Accepted);
    let mut runs: Vec<Range<usize>> = Vec::new();
    for row in (0..rows.len()).filter(|row| is_accepted(*row)) {
        match runs.last_mut().filter(|run| run.end == row) {
            Some(run) => run.end = row + 1,
            None => runs.push(row..row + 1),
        }
    }
    runs
}

/// Returns the decisions that follow for new units from acceptances of the last round, by unit.
///
/// # Errors
/// The quarantine is damaged.
pub(crate) fn kept_decisions(
    model: &ReviewModel<'_>,
    before: &Changeset,
    store: &Quarantine,
    decisions: &Decisions,
) -> io::Result<Vec<(String, UnitDecision)>> {
    let earlier: BTreeMap<&RepoPath, &FileChange> = before.files.iter().map(|file| (&file.path, file)).collect();
    let mut kept = Vec::new();
    for file in model.files.iter().filter(|file| !file.is_risky() && !file.is_refused()) {
        let open: Vec<&Unit> = file.units.iter().filter(|unit| decisions.get(&unit.id).is_none()).collect();
        let Some(before) = earlier.get(&file.change.path).filter(|_| !open.is_empty()) else { continue };
        if before.new == file.change.new || before.renamed_from != file.change.renamed_from {
            continue;
        }
        let Some(compared) = ComparedFile::compare_file(model, file, before, store)? else { continue };
        for unit in open {
            kept.extend(compared.kept_decision(unit, decisions, model)?.map(|decision| (unit.id.clone(), decision)));
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::changes::{ContentHash, FileVersion, Finding, Severity};
    use crate::core::path::EntryKind;
    use crate::review::{Action, CommentAnchor, DecisionTarget, ReviewState, RoundDiff, update_state};

    const BASE: &str = "a\nb\nc\nd\ne\nf\ng\nh\n";

    fn changeset(store: &Quarantine, result: &str, findings: &[Finding]) -> Changeset {
        let side = |text: &str| {
            let hash = store.store_blob(text.as_bytes()).expect("stored");
            Some(FileVersion { kind: EntryKind::Regular, hash, size: text.len() as u64 })
        };
        let change = FileChange {
            path: RepoPath::from_bytes(b"f.txt").expect("a path"),
            old: side(BASE),
            new: side(result),
            renamed_from: None,
            findings: findings.to_vec(),
        };
        Changeset {
            schema_version: 1,
            id: ContentHash::from_content(result.as_bytes()).to_string(),
            base: "0".repeat(40),
            files: vec![change],
            rename_findings: Vec::new(),
            uncollected: Vec::new(),
            ignored_by_agent_rules: Vec::new(),
            ignored: Default::default(),
            deleted: Default::default(),
        }
    }

    /// Decides on the first round, and returns what is kept in the second one as the letters of its units.
    fn kept(first: &str, second: &str, decide: impl Fn(ReviewState, &ReviewModel<'_>) -> ReviewState) -> Vec<String> {
        kept_with_findings(first, second, &[], decide)
    }

    fn kept_with_findings(
        first: &str,
        second: &str,
        findings: &[Finding],
        decide: impl Fn(ReviewState, &ReviewModel<'_>) -> ReviewState,
    ) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().to_owned()).expect("opened");
        let (before, now) = (changeset(&store, first, findings), changeset(&store, second, findings));
        let model = ReviewModel::open(&before, &store).expect("opened");
        let state = decide(ReviewState::default(), &model);
        let model = ReviewModel::open(&now, &store).expect("opened");
        let kept = kept_decisions(&model, &before, &store, &state.decisions).expect("compared");
        kept.into_iter().map(|(_, decision)| decision.to_string()).collect()
    }

    fn accept(unit: usize, lines: Option<&[usize]>) -> impl Fn(ReviewState, &ReviewModel<'_>) -> ReviewState {
        let lines = lines.map(|lines| LineSet::from_lines(lines.iter().copied()));
        move |state, model| {
            let target = DecisionTarget { file: 0, unit, lines: lines.clone() };
            update_state(state, model, Action::Decide(vec![target], Some(Decision::Accepted)))
        }
    }

    #[test]
    fn accepted_lines_that_come_back_equal_stay_accepted() {
        let first = BASE.replace("c\nd\n", "C\nC2\nD\n");
        // The second half has changed: lines c, C, C2 of the first were accepted. Removed lines are counted first.
        let second = BASE.replace("c\nd\n", "C\nC2\nother\n");
        let half = accept(0, Some(&[0, 2, 3]));
        assert_eq!(kept(&first, &second, &half), ["lines y.2y."]);
        // The whole hunk was accepted, and has grown.
        let grown = BASE.replace("c\nd\n", "C\nC2\nD\nmore\n");
        assert_eq!(kept(&first, &grown, accept(0, None)), ["lines 5y."]);
        // A part of the accepted run is gone: nothing of it is kept.
        let without = BASE.replace("c\nd\n", "C2\nD\n");
        assert_eq!(kept(&first, &without, accept(0, None)), [""; 0]);
        // The accepted lines are somewhere else.
        let moved = BASE.replace("g\n", "C\nC2\nD\n");
        assert_eq!(kept(&first, &moved, accept(0, None)), [""; 0]);
        // Lines that are only added are at another line of the base.
        let added = BASE.replace("c\n", "c\nX1\nX2\nX3\n");
        let before_c = BASE.replace("c\n", "X1\nX2\nX3\nc\n");
        assert_eq!(kept(&added, &before_c, accept(0, None)), [""; 0]);
        let more = BASE.replace("c\n", "c\nX1\nX2\nX3\nX4\n");
        assert_eq!(kept(&added, &more, accept(0, None)), ["lines 3y."]);
        // Nothing was accepted.
        assert_eq!(kept(&first, &second, |state, _| state), [""; 0]);
    }

    #[test]
    fn nothing_of_a_risky_file_stays_accepted() {
        let (first, second) = (BASE.replace("c\nd\n", "C\nC2\nD\n"), BASE.replace("c\nd\n", "C\nC2\nother\n"));
        let finding = |severity| Finding { rule: "x".into(), severity, reason: "does x".into(), line: None };
        let half = accept(0, Some(&[0, 2, 3]));
        assert_eq!(kept_with_findings(&first, &second, &[finding(Severity::Medium)], &half), ["lines y.2y."]);
        assert_eq!(kept_with_findings(&first, &second, &[finding(Severity::High)], &half), [""; 0]);
    }

    #[test]
    fn agent_that_takes_over_the_text_of_the_user_needs_no_other_decision() {
        let first = BASE.replace("c\nd\n", "C\nD\n");
        let edit = |text: &'static str| {
            move |state, model: &ReviewModel<'_>| {
                let hash = model.store_text(text.as_bytes()).expect("stored");
                update_state(state, model, Action::Edit(DecisionTarget { file: 0, unit: 0, lines: None }, Some(hash)))
            }
        };
        let second = BASE.replace("c\nd\n", "mine\nd\nmine too\n");
        assert_eq!(kept(&first, &second, edit("mine\nd\nmine too\n")), ["accepted", "accepted"]);
        assert_eq!(kept(&first, &second, edit("mine\nd\nnot this\n")), ["accepted"]);
        assert_eq!(kept(&first, &second, edit("quite another\n")), [""; 0]);
    }

    #[test]
    fn lines_that_moved_are_new() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().to_owned()).expect("opened");
        let first = BASE.replace("c\n", "c\nX1\nX2\nX3\n");
        let second = BASE.replace("c\n", "X1\nX2\nX3\nc\n");
        let (before, now) = (changeset(&store, &first, &[]), changeset(&store, &second, &[]));
        let model = ReviewModel::open(&now, &store).expect("opened");
        let compared = ComparedFile::compare_file(&model, &model.files[0], &before.files[0], &store).expect("read");
        let unit = &model.files[0].units[0];
        assert_eq!(compared.expect("text").new_lines(unit), LineSet::from_lines([0, 1, 2]));
    }

    #[test]
    fn new_lines_and_comments_of_a_changed_hunk_are_found() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().to_owned()).expect("opened");
        let first = BASE.replace("c\n", "C\n").replace("g\n", "G\n");
        let second = BASE.replace("c\nd\n", "C\nD\n");
        let (before, now) = (changeset(&store, &first, &[]), changeset(&store, &second, &[]));
        let model = ReviewModel::open(&before, &store).expect("opened");
        let mut state = ReviewState::default();
        for (unit, text) in [(0, "also d"), (1, "why?")] {
            let anchor = CommentAnchor::new(&model.files[0].units[unit].id, None, None);
            state = update_state(state, &model, Action::Comment(anchor, Some(text.into())));
        }
        let model = ReviewModel::open(&now, &store).expect("opened");
        let diff = RoundDiff::from_rounds(&model, &before, &store, &state);
        let unit = &model.files[0].units[0];
        assert_eq!(diff.new, BTreeSet::from([unit.id.clone()]));
        // The lines are c, d, C, D.
        assert_eq!(diff.new_lines[&unit.id], LineSet::from_lines([1, 3]));
        let comments: Vec<_> = diff.comments.iter().map(|c| (c.text.as_str(), c.unit.as_ref(), c.line)).collect();
        assert!(comments.contains(&("also d", Some(&unit.id), 2)), "{comments:?}");
        assert!(comments.contains(&("why?", None, 6)), "{comments:?}");
    }
}
