//! The row layout of a file: a flat list of row groups with prefix sums, so that any row is found by binary search.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ops::Range;

use crate::changes::{HunkLine, Lines, Unit, UnitKind};
use crate::core::escape::is_blank;
use crate::review::{
    CommentScope, FileText, HunkRows, ReviewFile, ReviewModel, ReviewState, UnitDecision, describe_unit, finding_line,
};

/// Display options of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DisplayOptions {
    /// Lines of context around a hunk.
    pub context: usize,
    /// Whether hunks that change only blanks are hidden.
    pub hides_blanks: bool,
    /// Whether old and new are shown side by side.
    pub side_by_side: bool,
    /// Whether only findings and counts are shown.
    pub folded: bool,
    /// Whether long lines are wrapped.
    pub wraps: bool,
}

/// A group of consecutive rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RowGroup {
    /// A generated row, such as a finding.
    Note(String, NoteKind),
    /// A folded file, with the counts of its changes.
    Folded(String),
    /// A unit without lines.
    Unit(usize),
    /// The content of a deleted file.
    Deleted,
    /// A hunk that is hidden because it changes only blanks.
    Hidden(usize),
    /// Omitted lines of the base.
    Gap(Range<usize>),
    /// Unchanged lines: their range in the base, and the first line in the result.
    Context(Range<usize>, usize),
    Hunk(usize),
    /// The edited text that replaces a hunk.
    Edited(usize),
    /// The note on a conflict of a unit with the working tree.
    Conflict(usize),
    /// A comment of the last round on what was there, with its state.
    EarlierComment(String),
    /// A comment on a unit, on a part or on a line of it.
    Comment(usize, CommentScope, String),
}

/// Style of a generated row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoteKind {
    /// A warning.
    Risk,
    /// Plain information.
    Plain,
}

/// The rows of a hunk in a display row: the removed row and the added row.
type RowPair = (Option<usize>, Option<usize>);

/// The layout of an open file.
#[derive(Debug)]
pub(crate) struct FileLayout {
    pub file: usize,
    /// The reason why the file cannot be read.
    read_error: Option<String>,
    pub text: FileText,
    /// For each unit with lines, its ranges in the base and in the result. Its hunk is computed on first use.
    unit_ranges: Vec<Option<(Range<usize>, Range<usize>)>>,
    hunks: Vec<OnceCell<HunkRows>>,
    /// In side-by-side view, the rows of each hunk: the removed row and the added row.
    side_by_side_rows: Vec<Vec<RowPair>>,
    /// In side-by-side view, the display row of each row of a hunk.
    display_rows: Vec<Vec<usize>>,
    /// The parts of each split hunk, as ranges of rows.
    parts: BTreeMap<usize, Vec<Range<usize>>>,
    /// In the view of one column, the row of a hunk that each display row shows; computed on first use. Empty if they are the
    /// same.
    unified_rows: Vec<OnceCell<Vec<usize>>>,
    /// The comments of the last round at each unit, with their states.
    pub earlier_comments: BTreeMap<usize, Vec<String>>,
    /// The note on the conflict of each unit that has one, as escaped lines.
    pub conflict_notes: BTreeMap<usize, Vec<String>>,
    /// The edited text of each unit that has one.
    pub edited: BTreeMap<usize, Lines<Vec<u8>>>,
    groups: Vec<RowGroup>,
    /// The end of each row group, as a row number.
    group_ends: Vec<usize>,
    /// The row group of each unit; `usize::MAX` if the unit is not shown.
    unit_groups: Vec<usize>,
}

impl FileLayout {
    /// Reads a file. A file that cannot be read is shown as a note.
    #[must_use]
    pub(crate) fn new(model: &ReviewModel<'_>, file: usize) -> Self {
        let (text, read_error) = match FileText::read(model, &model.files[file]) {
            Ok(text) => (text, None),
            Err(error) => (FileText::default(), Some(format!("failed to read the file: {error}"))),
        };
        let units = &model.files[file].units;
        let unit_ranges = match read_error {
            None => units.iter().map(hunk_ranges).collect(),
            Some(_) => vec![None; units.len()],
        };
        let hunks = vec![OnceCell::new(); units.len()];
        Self {
            file,
            read_error,
            text,
            unit_ranges,
            hunks,
            side_by_side_rows: Vec::new(),
            display_rows: Vec::new(),
            parts: BTreeMap::new(),
            unified_rows: Vec::new(),
            conflict_notes: BTreeMap::new(),
            earlier_comments: BTreeMap::new(),
            edited: BTreeMap::new(),
            groups: Vec::new(),
            group_ends: Vec::new(),
            unit_groups: Vec::new(),
        }
    }

    /// Computes the rows.
    pub(crate) fn compute_rows(&mut self, model: &ReviewModel<'_>, state: &ReviewState, display: DisplayOptions) {
        let file = &model.files[self.file];
        self.groups.clear();
        self.edited.clear();
        self.side_by_side_rows.clear();
        self.display_rows.clear();
        let split_units = file.units.iter().enumerate().filter(|(_, unit)| state.is_split(unit));
        self.parts = split_units.map(|(at, unit)| (at, state.hunk_parts(unit))).collect();
        self.unified_rows = vec![OnceCell::new(); file.units.len()];
        if display.side_by_side {
            self.side_by_side_rows = (0..self.unit_ranges.len())
                .map(|at| self.unit_hunk(at).map(pair_side_by_side).unwrap_or_default())
                .collect();
            self.display_rows = self.side_by_side_rows.iter().map(|rows| index_display_rows(rows)).collect();
        }
        self.add_notes(file);
        if display.folded {
            let (added, removed) = file.line_counts;
            self.groups.push(RowGroup::Folded(change_counts_text(added, removed, file.units.len())));
        } else {
            self.add_units(model, file, state, display);
        }
        self.unit_groups = vec![usize::MAX; self.unit_ranges.len()];
        for (at, group) in self.groups.iter().enumerate() {
            if let RowGroup::Hunk(unit) | RowGroup::Unit(unit) | RowGroup::Hidden(unit) = group {
                self.unit_groups[*unit] = at;
            }
        }
        let mut end = 0;
        self.group_ends = self
            .groups
            .iter()
            .map(|piece| self.count_rows(piece))
            .map(|rows| {
                end += rows;
                end
            })
            .collect();
    }

    fn add_notes(&mut self, file: &ReviewFile<'_>) {
        let read_error = self.read_error.iter().map(|error| RowGroup::Note(error.clone(), NoteKind::Risk));
        self.groups.extend(read_error);
        for finding in &file.change.findings {
            self.groups.push(RowGroup::Note(finding_line(finding), NoteKind::Risk));
        }
        if let Some(from) = file.change.renamed_from.as_ref().filter(|_| !file.change.is_rename()) {
            let from = crate::core::escape::Escaped::new(from.as_bytes()).to_string();
            let text = format!("probably renamed from {from}, whose deletion is a separate change");
            self.groups.push(RowGroup::Note(text, NoteKind::Plain));
        }
    }

    fn add_units(
        &mut self,
        model: &ReviewModel<'_>,
        file: &ReviewFile<'_>,
        state: &ReviewState,
        display: DisplayOptions,
    ) {
        let (mut old, mut new) = (0, 0);
        let is_whole = file.shows_whole_content();
        let context = if is_whole { self.text.old.len() } else { display.context };
        let has_hunks = self.unit_ranges.iter().any(Option::is_some);
        for (at, unit) in file.units.iter().enumerate() {
            let Some((old_lines, new_lines)) = self.unit_ranges[at].clone() else {
                self.groups.push(RowGroup::Unit(at));
                self.add_comments(at, &unit.id, state);
                if unit.kind == UnitKind::Delete && !self.text.old.is_empty() {
                    self.groups.push(RowGroup::Deleted);
                }
                continue;
            };
            self.add_lines_between(old..old_lines.start, new, context, old == 0 && !is_whole);
            let edited = match state.decisions.get(&unit.id) {
                Some(UnitDecision::Edited(hash)) => model.read_text(hash).ok(),
                _ => None,
            };
            if display.hides_blanks && is_blank_change(&old_lines, &new_lines, &self.text) {
                self.groups.push(RowGroup::Hidden(at));
            } else {
                self.groups.push(RowGroup::Hunk(at));
                if let Some(edited) = edited {
                    self.edited.insert(at, Lines::new(edited));
                    self.groups.push(RowGroup::Edited(at));
                }
            }
            self.add_comments(at, &unit.id, state);
            (old, new) = (old_lines.end, new_lines.end);
        }
        if has_hunks {
            self.add_lines_after(old..self.text.old.len(), new, context);
        } else if is_whole && !self.text.old.is_empty() {
            self.groups.push(RowGroup::Context(0..self.text.old.len(), 0));
        }
    }

    /// Adds the notes below a unit: its conflict and its comments.
    fn add_comments(&mut self, at: usize, id: &str, state: &ReviewState) {
        if self.conflict_notes.contains_key(&at) {
            self.groups.push(RowGroup::Conflict(at));
        }
        let earlier = self.earlier_comments.get(&at).into_iter().flatten();
        self.groups.extend(earlier.map(|text| RowGroup::EarlierComment(text.clone())));
        for (anchor, text) in state.decisions.comments_on(id) {
            self.groups.push(RowGroup::Comment(at, anchor.scope, text.to_owned()));
        }
    }

    /// Adds the unchanged lines between two hunks, or before the first.
    fn add_lines_between(&mut self, lines: Range<usize>, new: usize, context: usize, is_first: bool) {
        let before = if is_first { 0 } else { context };
        if lines.len() <= before + context + 1 {
            if !lines.is_empty() {
                self.groups.push(RowGroup::Context(lines, new));
            }
            return;
        }
        if before > 0 {
            self.groups.push(RowGroup::Context(lines.start..lines.start + before, new));
        }
        self.groups.push(RowGroup::Gap(lines.start + before..lines.end - context));
        if context > 0 {
            let from = lines.end - context;
            self.groups.push(RowGroup::Context(from..lines.end, new + (from - lines.start)));
        }
    }

    fn add_lines_after(&mut self, lines: Range<usize>, new: usize, context: usize) {
        if lines.len() <= context + 1 {
            if !lines.is_empty() {
                self.groups.push(RowGroup::Context(lines, new));
            }
            return;
        }
        if context > 0 {
            self.groups.push(RowGroup::Context(lines.start..lines.start + context, new));
        }
        self.groups.push(RowGroup::Gap(lines.start + context..lines.end));
    }

    fn count_rows(&self, group: &RowGroup) -> usize {
        match group {
            RowGroup::Note(..)
            | RowGroup::Folded(_)
            | RowGroup::Unit(_)
            | RowGroup::Gap(_)
            | RowGroup::Comment(..)
            | RowGroup::Conflict(_)
            | RowGroup::EarlierComment(_)
            | RowGroup::Hidden(_) => 1,
            RowGroup::Context(lines, _) => lines.len(),
            RowGroup::Deleted => self.text.old.len(),
            RowGroup::Edited(unit) => 1 + self.edited.get(unit).map_or(0, Lines::len),
            RowGroup::Hunk(unit) => match self.side_by_side_rows.get(*unit) {
                Some(rows) => rows.len(),
                None => self.unit_row_count(*unit),
            },
        }
    }

    /// Returns the hunk of a unit, if the unit has lines.
    #[must_use]
    pub(crate) fn unit_hunk(&self, unit: usize) -> Option<&HunkRows> {
        let (old, new) = self.unit_ranges.get(unit)?.clone()?;
        Some(self.hunks[unit].get_or_init(|| HunkRows::from_ranges(old, new, &self.text)))
    }

    /// Returns the number of rows.
    #[must_use]
    pub(crate) fn row_count(&self) -> usize {
        self.group_ends.last().copied().unwrap_or(0)
    }

    /// Returns the row group of a row, and the row's index in that group.
    #[must_use]
    pub(crate) fn group_at(&self, row: usize) -> Option<(&RowGroup, usize)> {
        let group = self.group_ends.partition_point(|end| *end <= row);
        let start = group.checked_sub(1).map_or(0, |before| self.group_ends[before]);
        self.groups.get(group).map(|piece| (piece, row - start))
    }

    /// Returns the end of the last omitted lines before others: the lines of the base from there on are shown.
    #[must_use]
    pub(crate) fn shown_since(&self, gap: &Range<usize>) -> usize {
        let at = self.groups.iter().position(|group| matches!(group, RowGroup::Gap(lines) if lines == gap));
        let before = &self.groups[..at.unwrap_or(0)];
        let last = before.iter().rev().find_map(|group| match group {
            RowGroup::Gap(lines) => Some(lines.end),
            _ => None,
        });
        last.unwrap_or(0)
    }

    /// Returns the rows of a unit, or `None` if it is not shown.
    #[must_use]
    pub(crate) fn unit_rows(&self, unit: usize) -> Option<Range<usize>> {
        let at = *self.unit_groups.get(unit)?;
        let end = *self.group_ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.group_ends[before]);
        Some(start..end)
    }

    /// Returns whether a unit is hidden because it changes only blanks.
    #[must_use]
    pub(crate) fn is_hidden(&self, unit: usize) -> bool {
        self.unit_groups.get(unit).is_some_and(|at| self.groups.get(*at) == Some(&RowGroup::Hidden(unit)))
    }

    /// Returns the number of rows of a unit that can be decided one by one.
    #[must_use]
    pub(crate) fn unit_row_count(&self, unit: usize) -> usize {
        match self.side_by_side_rows.get(unit) {
            Some(rows) if !rows.is_empty() => rows.len(),
            _ => match self.unit_ranges.get(unit) {
                Some(Some((old, new))) => old.len() + new.len(),
                _ => 1,
            },
        }
    }

    /// Returns the rows of a hunk, as [`HunkRows`] orders them, in a display row: the removed row and the added row.
    #[must_use]
    pub(crate) fn row_pair(&self, unit: usize, row: usize) -> RowPair {
        if let Some(rows) = self.side_by_side_rows.get(unit) {
            return rows.get(row).copied().unwrap_or_default();
        }
        let Some(hunk) = self.unit_hunk(unit) else { return (None, None) };
        let row = self.unified_order(unit, hunk).get(row).copied().unwrap_or(row);
        match hunk.row_at(row) {
            HunkLine::Removed(_) => (Some(row), None),
            HunkLine::Added(_) => (None, Some(row)),
        }
    }

    /// Returns the display row, within the unit, that shows a row of a hunk.
    #[must_use]
    pub(crate) fn display_row(&self, unit: usize, row: usize) -> usize {
        if let Some(rows) = self.display_rows.get(unit) {
            return rows.get(row).copied().unwrap_or(0);
        }
        let Some(hunk) = self.unit_hunk(unit) else { return row };
        self.unified_order(unit, hunk).iter().position(|shown| *shown == row).unwrap_or(row)
    }

    /// Returns the parts of a unit with lines as display rows.
    #[must_use]
    pub(crate) fn part_rows(&self, unit: usize) -> Vec<Range<usize>> {
        let size = self.unit_row_count(unit);
        let mut cuts: Vec<usize> = self.parts.get(&unit).into_iter().flatten().skip(1).map(|part| part.start).collect();
        if let Some(rows) = self.display_rows.get(unit) {
            cuts.iter_mut().for_each(|cut| *cut = rows.get(*cut).copied().unwrap_or(0));
        }
        cuts.retain(|cut| (1..size).contains(cut));
        cuts.dedup();
        let mut from = 0;
        cuts.into_iter().chain([size]).map(|end| std::mem::replace(&mut from, end)..end).collect()
    }

    /// Returns the row of a hunk that each display row of the view of one column shows: in each part, removed lines come first.
    fn unified_order(&self, unit: usize, hunk: &HunkRows) -> &[usize] {
        let Some(order) = self.unified_rows.get(unit) else { return &[] };
        order.get_or_init(|| {
            if !hunk.is_interleaved() {
                return Vec::new();
            }
            match self.parts.get(&unit) {
                Some(parts) => parts.iter().flat_map(|part| hunk.removed_first(part.clone())).collect(),
                None => hunk.removed_first(0..hunk.len()),
            }
        })
    }

    /// Returns whether both sides have lines, so that a row has two numbers.
    #[must_use]
    pub(crate) fn has_both_sides(&self) -> bool {
        !self.text.old.is_empty() && !self.text.new.is_empty()
    }

    /// Returns the number of digits of the largest line number.
    #[must_use]
    pub(crate) fn line_number_width(&self) -> usize {
        self.text.old.len().max(self.text.new.len()).max(1).to_string().len()
    }
}

fn hunk_ranges(unit: &Unit) -> Option<(Range<usize>, Range<usize>)> {
    match &unit.kind {
        UnitKind::Hunk { old, new } => Some((old.clone(), new.clone())),
        _ => None,
    }
}

/// Returns the number of changed lines as text, or of units if no lines changed.
#[must_use]
pub(super) fn change_counts_text(added: usize, removed: usize, units: usize) -> String {
    if (added, removed) == (0, 0) {
        return if units == 1 { "1 part".into() } else { format!("{units} parts") };
    }
    format!("+{added} -{removed} lines")
}

/// Returns the text of a unit that is shown without lines.
#[must_use]
pub(super) fn unit_text(file: &ReviewFile<'_>, unit: usize) -> String {
    match &file.units[unit].kind {
        UnitKind::Hunk { old, new } => format!("-{} +{} lines that cannot be read", old.len(), new.len()),
        kind => describe_unit(kind, file),
    }
}

/// Pairs each run of removed lines with the run of added lines that follows it.
fn pair_side_by_side(hunk: &HunkRows) -> Vec<(Option<usize>, Option<usize>)> {
    let is_removed = |row: &usize| matches!(hunk.row_at(*row), HunkLine::Removed(_));
    let (mut rows, mut at) = (Vec::new(), 0);
    while at < hunk.len() {
        let removed = at..(at..hunk.len()).find(|row| !is_removed(row)).unwrap_or(hunk.len());
        let added = removed.end..(removed.end..hunk.len()).find(|row| is_removed(row)).unwrap_or(hunk.len());
        at = added.end;
        let longest = removed.len().max(added.len());
        let nth = |range: &Range<usize>, n: usize| (n < range.len()).then_some(range.start + n);
        rows.extend((0..longest).map(|n| (nth(&removed, n), nth(&added, n))));
    }
    rows
}

/// Returns the display row of each row of a hunk.
fn index_display_rows(rows: &[(Option<usize>, Option<usize>)]) -> Vec<usize> {
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for (at, (removed, added)) in rows.iter().enumerate() {
        pairs.extend(removed.iter().chain(added).map(|row| (*row, at)));
    }
    pairs.sort_unstable();
    pairs.into_iter().map(|(_, at)| at).collect()
}

/// Returns whether a unit is hidden when hunks that change only blanks are hidden.
#[must_use]
pub(super) fn is_hidden_as_blank(unit: &Unit, text: &FileText) -> bool {
    hunk_ranges(unit).is_some_and(|(old, new)| is_blank_change(&old, &new, text))
}

/// Returns whether a hunk changes only blanks.
fn is_blank_change(old: &Range<usize>, new: &Range<usize>, text: &FileText) -> bool {
    let without_blanks = |bytes: &[u8]| -> Vec<u8> {
        let text = String::from_utf8_lossy(bytes);
        text.chars().filter(|c| *c != '\n' && *c != '\r' && !is_blank(*c)).collect::<String>().into_bytes()
    };
    let (old, new) = (text.old.slice_lines(old.clone()), text.new.slice_lines(new.clone()));
    without_blanks(old) == without_blanks(new)
}
