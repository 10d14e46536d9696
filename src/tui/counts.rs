//! How many parts of each file are decided, kept up to date one by one: a file may have fifty thousand.

use std::collections::HashMap;

use crate::review::{DecisionCounts, Decisions, Event, ReviewModel};

/// Decided parts of something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Parts of which nothing is open.
    pub decided: usize,
    /// Parts of which something is accepted.
    pub accepted: usize,
    pub all: usize,
    pub lines: DecisionCounts,
}

/// The counts of all files.
#[derive(Debug, Default)]
pub struct Counts {
    units: Vec<Vec<DecisionCounts>>,
    files: Vec<Count>,
    total: Count,
    places: HashMap<String, (usize, usize)>,
}

impl Counts {
    /// Counts everything.
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

    /// Takes in what has happened.
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

    /// Finds a unit by its id.
    #[must_use]
    pub fn place(&self, unit: &str) -> Option<(usize, usize)> {
        self.places.get(unit).copied()
    }

    /// Returns the lines of a unit.
    #[must_use]
    pub fn unit(&self, file: usize, unit: usize) -> DecisionCounts {
        self.units[file][unit]
    }

    /// Counts the parts of a file.
    #[must_use]
    pub fn file(&self, file: usize) -> Count {
        self.files[file]
    }

    /// Counts the parts of all files that can be accepted.
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
