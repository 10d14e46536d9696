//! A changeset opened for review: every file with its contents and units.

use std::io;

use crate::changes::{Changeset, FileChange, Level, Quarantine, Unit, units};

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
