//! Targets of a decision: parts of a hunk, lines, a range, a file, and undecided units.

use std::collections::BTreeSet;

use super::app::{App, Granularity};
use super::layout::is_hidden_as_blank;
use crate::changes::{LineSet, Unit, UnitKind};
use crate::review::{DecisionTarget, FileText};

impl App<'_> {
    /// Returns the display rows, within the unit, of the part at the cursor.
    pub(crate) fn current_part(&self) -> std::ops::Range<usize> {
        let parts = self.unit_parts(self.cursor.unit);
        let current = parts.iter().find(|part| part.contains(&self.cursor.row));
        current.or(parts.first()).cloned().unwrap_or(0..1)
    }

    /// Returns the parts of a unit of the open file as display rows.
    pub(crate) fn unit_parts(&self, unit: usize) -> Vec<std::ops::Range<usize>> {
        let (Some(file), Some(opened)) = (self.current_file(), &self.layout) else { return Vec::new() };
        let Some(review_unit) = file.units.get(unit) else { return Vec::new() };
        if !matches!(review_unit.kind, UnitKind::Hunk { .. }) {
            return std::iter::once(0..1).collect();
        }
        opened.part_rows(unit)
    }

    /// Returns whether a part of a split unit of the open file starts at a display row.
    pub(crate) fn is_part_start(&self, unit: usize, row: usize) -> bool {
        let Some(review_unit) = self.current_file().and_then(|f| f.units.get(unit)) else { return false };
        self.state.is_split(review_unit) && self.unit_parts(unit).iter().any(|part| part.start == row)
    }

    /// Returns the lines in display rows of a unit of the open file, or `None` for the whole unit.
    pub(crate) fn lines_in_rows(&self, unit: usize, rows: std::ops::Range<usize>) -> Option<LineSet> {
        let opened = self.layout.as_ref()?;
        let hunk = opened.unit_hunk(unit)?;
        if rows == (0..opened.unit_row_count(unit)) {
            return None;
        }
        let mut lines: Vec<usize> = rows
            .flat_map(|row| {
                let (removed, added) = opened.row_pair(unit, row);
                removed.into_iter().chain(added)
            })
            .map(|row| hunk.decision_line(row))
            .collect();
        lines.sort_unstable();
        Some(LineSet::from_lines(lines))
    }

    /// Returns the targets of a decision at the cursor.
    pub(crate) fn decision_targets(&self) -> Vec<DecisionTarget> {
        let (file, Some(review_file)) = (self.cursor.file, self.current_file()) else { return Vec::new() };
        let is_shown = |unit: &usize| self.layout.as_ref().is_none_or(|o| !o.is_hidden(*unit));
        // The parts of a folded file are not visible.
        let level = if self.display.folded { Granularity::File } else { self.granularity };
        match level {
            Granularity::File => (0..review_file.units.len())
                .filter(is_shown)
                .map(|unit| DecisionTarget { file, unit, lines: None })
                .collect(),
            Granularity::Hunk => {
                let unit = self.cursor.unit;
                std::iter::once(DecisionTarget { file, unit, lines: self.lines_in_rows(unit, self.current_part()) })
                    .filter(|item| is_shown(&item.unit))
                    .collect()
            }
            Granularity::Line => {
                let (first, last) = self.selected_range();
                (first.0..=last.0)
                    .filter(is_shown)
                    .map(|unit| {
                        let from = if unit == first.0 { first.1 } else { 0 };
                        let size = self.layout.as_ref().map_or(1, |o| o.unit_row_count(unit));
                        let to = if unit == last.0 { last.1 + 1 } else { size };
                        DecisionTarget { file, unit, lines: self.lines_in_rows(unit, from..to.min(size)) }
                    })
                    .collect()
            }
        }
    }

    /// Returns both ends of the selected range of lines, in order, or the line at the cursor.
    pub(crate) fn selected_range(&self) -> ((usize, usize), (usize, usize)) {
        let cursor = (self.cursor.unit, self.cursor.row);
        let anchor = self.anchor.unwrap_or(cursor);
        (cursor.min(anchor), cursor.max(anchor))
    }

    /// Returns the undecided targets of a file, and the number of undecided units that are hidden.
    pub(crate) fn undecided_targets(&self, file: usize) -> (Vec<DecisionTarget>, usize) {
        let review_file = &self.model.files[file];
        let (mut items, mut hidden) = (Vec::new(), 0);
        if review_file.is_refused() {
            return (items, hidden);
        }
        let hidden_units = self.hidden_units(file);
        for (unit, review_unit) in review_file.units.iter().enumerate() {
            let line_counts = self.counts.unit_line_counts(file, unit);
            if line_counts.undecided == 0 {
                continue;
            }
            if hidden_units.contains(&unit) {
                hidden += 1;
                continue;
            }
            let unit_decision =
                self.state.decisions.get(&review_unit.id).filter(|_| line_counts.undecided < review_unit.line_count());
            let lines = unit_decision.map(|unit_decision| unit_decision.matching_lines(|decision| decision.is_none()));
            items.push(DecisionTarget { file, unit, lines });
        }
        (items, hidden)
    }

    /// Returns the units of a file that a display option hides.
    pub(super) fn hidden_units(&self, file: usize) -> BTreeSet<usize> {
        let review_file = &self.model.files[file];
        let layout = self.layout.as_ref().filter(|o| o.file == file);
        // A file that cannot be read shows its error when it is opened, and none of its units is hidden.
        let text = (self.display.hides_blanks && layout.is_none())
            .then(|| FileText::read(self.model, review_file).ok())
            .flatten();
        let is_hidden = |(unit, review_unit): &(usize, &Unit)| match layout {
            Some(opened) => opened.is_hidden(*unit),
            None => text.as_ref().is_some_and(|text| is_hidden_as_blank(review_unit, text)),
        };
        review_file.units.iter().enumerate().filter(is_hidden).map(|(unit, _)| unit).collect()
    }
}
