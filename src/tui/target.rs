//! Targets of a decision: parts of a hunk, lines, a range, a file, and undecided units.

use super::app::{App, Granularity};
use super::layout::hides;
use crate::changes::{LineSet, UnitKind};
use crate::review::{DecisionTarget, FileText};

impl App<'_> {
    /// Returns the display rows, within the unit, of the part at the cursor.
    pub(crate) fn part(&self) -> std::ops::Range<usize> {
        let all = self.parts(self.at.unit);
        let within = all.iter().find(|part| part.contains(&self.at.row));
        within.or(all.first()).cloned().unwrap_or(0..1)
    }

    /// Returns the parts of a unit of the open file as display rows.
    pub(crate) fn parts(&self, unit: usize) -> Vec<std::ops::Range<usize>> {
        let (Some(file), Some(opened)) = (self.file(), &self.opened) else { return Vec::new() };
        let Some(of) = file.units.get(unit) else { return Vec::new() };
        if !matches!(of.kind, UnitKind::Hunk { .. }) {
            return std::iter::once(0..1).collect();
        }
        let size = opened.size(unit);
        let mut cuts: Vec<usize> =
            self.state.parts(of).iter().skip(1).map(|part| opened.screen_row(unit, part.start)).collect();
        cuts.retain(|cut| (1..size).contains(cut));
        cuts.dedup();
        let ends = cuts.iter().copied().chain([size]);
        let mut from = 0;
        ends.map(|end| std::mem::replace(&mut from, end)..end).collect()
    }

    /// Returns whether a part of a split unit of the open file starts at a display row.
    pub(crate) fn begins_part(&self, unit: usize, row: usize) -> bool {
        let Some(of) = self.file().and_then(|f| f.units.get(unit)) else { return false };
        self.state.is_parted(of) && self.parts(unit).iter().any(|part| part.start == row)
    }

    /// Returns the lines in display rows of a unit of the open file, or `None` for the whole unit.
    pub(crate) fn lines(&self, unit: usize, rows: std::ops::Range<usize>) -> Option<LineSet> {
        let opened = self.opened.as_ref()?;
        let block = opened.hunk(unit)?;
        if rows == (0..opened.size(unit)) {
            return None;
        }
        let mut lines: Vec<usize> = rows
            .flat_map(|row| {
                let (removed, added) = opened.pair(unit, row);
                removed.into_iter().chain(added)
            })
            .map(|row| block.line(row))
            .collect();
        lines.sort_unstable();
        Some(LineSet::from_lines(lines))
    }

    /// Returns the targets of a decision at the cursor.
    pub(crate) fn items(&self) -> Vec<DecisionTarget> {
        let (file, Some(of)) = (self.at.file, self.file()) else { return Vec::new() };
        let shown = |unit: &usize| self.opened.as_ref().is_none_or(|o| !o.is_hidden(*unit));
        // The parts of a folded file are not visible.
        let level = if self.display.folded { Granularity::File } else { self.level };
        match level {
            Granularity::File => {
                (0..of.units.len()).filter(shown).map(|unit| DecisionTarget { file, unit, lines: None }).collect()
            }
            Granularity::Block => {
                let unit = self.at.unit;
                std::iter::once(DecisionTarget { file, unit, lines: self.lines(unit, self.part()) })
                    .filter(|item| shown(&item.unit))
                    .collect()
            }
            Granularity::Line => {
                let (first, last) = self.range();
                (first.0..=last.0)
                    .filter(shown)
                    .map(|unit| {
                        let from = if unit == first.0 { first.1 } else { 0 };
                        let size = self.opened.as_ref().map_or(1, |o| o.size(unit));
                        let to = if unit == last.0 { last.1 + 1 } else { size };
                        DecisionTarget { file, unit, lines: self.lines(unit, from..to.min(size)) }
                    })
                    .collect()
            }
        }
    }

    /// Returns both ends of the selected range of lines, in order, or the line at the cursor.
    pub(crate) fn range(&self) -> ((usize, usize), (usize, usize)) {
        let here = (self.at.unit, self.at.row);
        let there = self.anchor.unwrap_or(here);
        (here.min(there), here.max(there))
    }

    /// Returns the undecided targets of a file, and the number of undecided units that are hidden.
    pub(crate) fn open_items(&self, file: usize) -> (Vec<DecisionTarget>, usize) {
        let of = &self.sheet.files[file];
        let (mut items, mut hidden) = (Vec::new(), 0);
        if of.is_refused() {
            return (items, hidden);
        }
        let is_here = self.opened.as_ref().filter(|o| o.file == file);
        // A file that cannot be read shows its error when it is opened, and none of its units is hidden.
        let text =
            (self.display.hides_blanks && is_here.is_none()).then(|| FileText::read(self.sheet, of).ok()).flatten();
        for (unit, of) in of.units.iter().enumerate() {
            let tally = self.counts.unit(file, unit);
            if tally.undecided == 0 {
                continue;
            }
            let is_hidden = match is_here {
                Some(opened) => opened.is_hidden(unit),
                None => text.as_ref().is_some_and(|text| hides(of, text)),
            };
            if is_hidden {
                hidden += 1;
                continue;
            }
            let ruling = self.state.decisions.get(&of.id).filter(|_| tally.undecided < of.line_count());
            let lines = ruling.map(|ruling| ruling.lines(|decision| decision.is_none()));
            items.push(DecisionTarget { file, unit, lines });
        }
        (items, hidden)
    }
}
