//! A changeset opened for review: every file with its units. Contents are read when they are shown, one file at a time.

use std::io;

use crate::changes::{Changeset, FileChange, Level, Quarantine, Unit, UnitKind, units};
use crate::path::EntryKind;

/// All files under review.
#[derive(Debug)]
pub struct Sheet<'a> {
    /// In the changeset's order.
    pub files: Vec<SheetFile<'a>>,
    store: Quarantine,
}

/// One file under review.
#[derive(Debug)]
pub struct SheetFile<'a> {
    /// The change.
    pub change: &'a FileChange,
    /// What can be decided.
    pub units: Vec<Unit>,
    /// Where a link leads that the file becomes.
    pub target: Option<Vec<u8>>,
    /// Lines that are added and removed, those of a deleted text among them.
    pub line_counts: (usize, usize),
}

impl<'a> Sheet<'a> {
    /// Finds the units of every file.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn open(changes: &'a Changeset, store: &Quarantine) -> io::Result<Self> {
        let open = |change: &'a FileChange| {
            let (old, new) = change.contents(store)?;
            let units = units(change, &old, &new);
            let is_link = change.new.as_ref().is_some_and(|s| s.kind == EntryKind::Link);
            let line_counts = count_lines(&units, &old);
            Ok(SheetFile { change, units, line_counts, target: is_link.then_some(new) })
        };
        let files = changes.files.iter().map(open).collect::<io::Result<_>>()?;
        Ok(Self { files, store: store.clone() })
    }
}

impl Sheet<'_> {
    /// Reads what a file was and is; see [`FileChange::contents`].
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn contents(&self, file: &SheetFile<'_>) -> io::Result<(Vec<u8>, Vec<u8>)> {
        file.change.contents(&self.store)
    }

    /// Counts the lines that are added and removed in all files.
    #[must_use]
    pub fn line_counts(&self) -> (usize, usize) {
        self.files.iter().map(|f| f.line_counts).fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1))
    }
}

impl SheetFile<'_> {
    /// Tells whether it needs a yes of its own.
    #[must_use]
    pub fn is_risky(&self) -> bool {
        self.change.level() >= Some(Level::High)
    }

    /// Tells whether it cannot be accepted at all.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.change.level() == Some(Level::Refused)
    }
}

/// Counts lines; the last one may have no line feed.
fn count(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count() + usize::from(bytes.last().is_some_and(|b| *b != b'\n'))
}

fn count_lines(units: &[Unit], old: &[u8]) -> (usize, usize) {
    units.iter().fold((0, 0), |(added, removed), unit| match &unit.kind {
        UnitKind::Block { old, new } => (added + new.len(), removed + old.len()),
        UnitKind::Delete if !old.contains(&0) => (added, removed + count(old)),
        _ => (added, removed),
    })
}
