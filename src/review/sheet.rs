//! A changeset opened for review: every file with its contents and units.

use std::io;

use crate::changes::{Changeset, FileChange, Level, Quarantine, Unit, UnitKind, lines, units};

/// All files under review.
#[derive(Debug)]
pub struct Sheet<'a> {
    /// In the changeset's order.
    pub files: Vec<SheetFile<'a>>,
}

/// One file under review.
#[derive(Debug)]
pub struct SheetFile<'a> {
    /// The change.
    pub change: &'a FileChange,
    /// The base's content, empty where there is none.
    pub old: Vec<u8>,
    /// The result's content.
    pub new: Vec<u8>,
    /// What can be decided.
    pub units: Vec<Unit>,
}

impl<'a> Sheet<'a> {
    /// Reads the contents.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn open(changes: &'a Changeset, store: &Quarantine) -> io::Result<Self> {
        let open = |change: &'a FileChange| {
            let (old, new) = change.contents(store)?;
            let units = units(change, &old, &new);
            Ok(SheetFile { change, old, new, units })
        };
        Ok(Self { files: changes.files.iter().map(open).collect::<io::Result<_>>()? })
    }
}

impl Sheet<'_> {
    /// Counts the lines that are added and removed in all files.
    #[must_use]
    pub fn line_counts(&self) -> (usize, usize) {
        self.files.iter().map(SheetFile::line_counts).fold((0, 0), |sum, n| (sum.0 + n.0, sum.1 + n.1))
    }
}

impl SheetFile<'_> {
    /// Tells whether it needs a yes of its own.
    #[must_use]
    pub fn is_risky(&self) -> bool {
        self.change.level() >= Some(Level::High)
    }

    /// Counts the lines that are added and removed, those of a deleted text among them.
    #[must_use]
    pub fn line_counts(&self) -> (usize, usize) {
        self.units.iter().fold((0, 0), |(added, removed), unit| match &unit.kind {
            UnitKind::Block { old, new } => (added + new.len(), removed + old.len()),
            UnitKind::Delete if !self.old.contains(&0) => (added, removed + lines(&self.old).len()),
            _ => (added, removed),
        })
    }

    /// Tells whether it cannot be accepted at all.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.change.level() == Some(Level::Refused)
    }
}
