//! Counts of decided units per file, updated incrementally because a file may have fifty thousand units.

use std::collections::HashMap;

use crate::review::{DecisionCounts, Decisions, Event, ReviewModel};

/// Counts of units and lines by decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct UnitCounts {
    /// Units with no undecided line.
    pub decided: usize,
    /// Units with at least one accepted line.
    pub accepted: usize,
    pub all: usize,
    pub lines: DecisionCounts,
}

#[derive(Debug, Default)]
pub(crate) struct ReviewCounts {
    units: Vec<Vec<DecisionCounts>>,
    files: Vec<UnitCounts>,
    total: UnitCounts,
    positions: HashMap<String, (usize, usize)>,
}

impl ReviewCounts {
    /// Counts the units of all files.
    #[must_use]
    pub(crate) fn new(model: &ReviewModel<'_>, decisions: &Decisions) -> Self {
        let mut counts = Self::default();
        for (file_at, file) in model.files.iter().enumerate() {
            let mut count = UnitCounts::default();
            let mut file_line_counts = Vec::with_capacity(file.units.len());
            for (unit_at, unit) in file.units.iter().enumerate() {
                let line_counts = decisions.count_lines(unit);
                count.add_unit(line_counts);
                file_line_counts.push(line_counts);
                counts.positions.insert(unit.id.clone(), (file_at, unit_at));
            }
            if !file.is_refused() {
                counts.total = counts.total.sum_with(count);
            }
            counts.units.push(file_line_counts);
            counts.files.push(count);
        }
        counts
    }

    /// Updates the counts of the units that events changed.
    pub(crate) fn apply_events(&mut self, model: &ReviewModel<'_>, decisions: &Decisions, events: &[Event]) {
        for event in events {
            let Event::Decision { unit, .. } = event else { continue };
            let Some((file, unit)) = self.unit_position(unit) else { continue };
            let after = decisions.count_lines(&model.files[file].units[unit]);
            let before = std::mem::replace(&mut self.units[file][unit], after);
            let is_counted = !model.files[file].is_refused();
            for count in std::iter::once(&mut self.files[file]).chain(is_counted.then_some(&mut self.total)) {
                count.remove_unit(before);
                count.add_unit(after);
            }
        }
    }

    /// Returns the file index and unit index of a unit ID.
    #[must_use]
    pub(crate) fn unit_position(&self, unit: &str) -> Option<(usize, usize)> {
        self.positions.get(unit).copied()
    }

    /// Returns the line counts of a unit.
    #[must_use]
    pub(crate) fn unit_line_counts(&self, file: usize, unit: usize) -> DecisionCounts {
        self.units[file][unit]
    }

    /// Returns the counts of a file.
    #[must_use]
    pub(crate) fn file_counts(&self, file: usize) -> UnitCounts {
        self.files[file]
    }

    /// Returns the counts of all files that are not refused.
    #[must_use]
    pub(crate) fn total_counts(&self) -> UnitCounts {
        self.total
    }
}

impl UnitCounts {
    fn add_unit(&mut self, counts: DecisionCounts) {
        self.all += 1;
        self.decided += usize::from(counts.undecided == 0);
        self.accepted += usize::from(counts.accepted > 0);
        self.lines = self.lines.sum_with(counts);
    }

    fn remove_unit(&mut self, counts: DecisionCounts) {
        self.all -= 1;
        self.decided -= usize::from(counts.undecided == 0);
        self.accepted -= usize::from(counts.accepted > 0);
        self.lines.accepted -= counts.accepted;
        self.lines.rejected -= counts.rejected;
        self.lines.undecided -= counts.undecided;
    }

    fn sum_with(self, other: Self) -> Self {
        Self {
            decided: self.decided + other.decided,
            accepted: self.accepted + other.accepted,
            all: self.all + other.all,
            lines: self.lines.sum_with(other.lines),
        }
    }
}
