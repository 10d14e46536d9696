//! Counts of decided units per file, updated incrementally because a file may have fifty thousand units.

use std::collections::HashMap;

use crate::review::{DecisionCounts, Decisions, Event, ReviewModel};

/// Counts of units and lines by decision.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Units with no undecided line.
    pub decided: usize,
    /// Units with at least one accepted line.
    pub accepted: usize,
    pub all: usize,
    pub lines: DecisionCounts,
}

#[derive(Debug, Default)]
pub struct Counts {
    units: Vec<Vec<DecisionCounts>>,
    files: Vec<Count>,
    total: Count,
    places: HashMap<String, (usize, usize)>,
}

impl Counts {
    /// Counts the units of all files.
    #[must_use]
    pub fn of(sheet: &ReviewModel<'_>, decisions: &Decisions) -> Self {
        let mut counts = Self::default();
        for (file_at, file) in sheet.files.iter().enumerate() {
            let mut count = Count::default();
            let mut tallies = Vec::with_capacity(file.units.len());
            for (unit_at, unit) in file.units.iter().enumerate() {
                let tally = decisions.count_lines(unit);
                count.add(tally);
                tallies.push(tally);
                counts.places.insert(unit.id.clone(), (file_at, unit_at));
            }
            if !file.is_refused() {
                counts.total = counts.total.plus(count);
            }
            counts.units.push(tallies);
            counts.files.push(count);
        }
        counts
    }

    /// Updates the counts of the units that events changed.
    pub fn follow(&mut self, sheet: &ReviewModel<'_>, decisions: &Decisions, events: &[Event]) {
        for event in events {
            let Event::Ruling { unit, .. } = event else { continue };
            let Some((file, unit)) = self.place(unit) else { continue };
            let after = decisions.count_lines(&sheet.files[file].units[unit]);
            let before = std::mem::replace(&mut self.units[file][unit], after);
            let is_counted = !sheet.files[file].is_refused();
            for count in std::iter::once(&mut self.files[file]).chain(is_counted.then_some(&mut self.total)) {
                count.take_away(before);
                count.add(after);
            }
        }
    }

    /// Returns the file index and unit index of a unit ID.
    #[must_use]
    pub fn place(&self, unit: &str) -> Option<(usize, usize)> {
        self.places.get(unit).copied()
    }

    /// Returns the line counts of a unit.
    #[must_use]
    pub fn unit(&self, file: usize, unit: usize) -> DecisionCounts {
        self.units[file][unit]
    }

    /// Returns the counts of a file.
    #[must_use]
    pub fn file(&self, file: usize) -> Count {
        self.files[file]
    }

    /// Returns the counts of all files that are not refused.
    #[must_use]
    pub fn total(&self) -> Count {
        self.total
    }
}

impl Count {
    fn add(&mut self, tally: DecisionCounts) {
        self.all += 1;
        self.decided += usize::from(tally.undecided == 0);
        self.accepted += usize::from(tally.accepted > 0);
        self.lines = self.lines.sum_with(tally);
    }

    fn take_away(&mut self, tally: DecisionCounts) {
        self.all -= 1;
        self.decided -= usize::from(tally.undecided == 0);
        self.accepted -= usize::from(tally.accepted > 0);
        self.lines.accepted -= tally.accepted;
        self.lines.rejected -= tally.rejected;
        self.lines.undecided -= tally.undecided;
    }

    fn plus(self, other: Self) -> Self {
        Self {
            decided: self.decided + other.decided,
            accepted: self.accepted + other.accepted,
            all: self.all + other.all,
            lines: self.lines.sum_with(other.lines),
        }
    }
}
