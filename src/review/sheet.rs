//! A changeset opened for review: every file with its units. Contents are read when they are shown, one file at a time.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::folds::begins_folded;
use crate::changes::{Changeset, ContentHash, FileChange, Level, Quarantine, Unit, UnitKind, units};
use crate::path::EntryKind;

/// All files under review.
#[derive(Debug)]
pub struct Sheet<'a> {
    /// The changeset's id.
    pub changeset: &'a str,
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
    /// Nobody wrote it by hand: a lock file, a generated one.
    pub begins_folded: bool,
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
            let begins_folded = begins_folded(&change.path, &old, line_counts.0 + line_counts.1);
            Ok(SheetFile { change, units, line_counts, begins_folded, target: is_link.then_some(new) })
        };
        let files = in_parallel(&changes.files, open)?;
        Ok(Self { changeset: &changes.id, files, store: store.clone() })
    }
}

/// Files below which no further thread is worth its start.
const FEW: usize = 16;

/// Does the same with many things at once, and gives what came of it in their order.
fn in_parallel<'a, T: Sync, R: Send>(all: &'a [T], work: impl Fn(&'a T) -> io::Result<R> + Sync) -> io::Result<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    if all.len() < FEW || threads < 2 {
        return all.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let one = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            match all.get(at).map(&work) {
                Some(Ok(result)) => done.push((at, result)),
                Some(Err(error)) => return Err(error),
                None => return Ok(done),
            }
        }
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(one)).collect();
        let ended =
            started.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))));
        ended.collect::<io::Result<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

impl Sheet<'_> {
    /// Reads what a file was and is; see [`FileChange::contents`].
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn contents(&self, file: &SheetFile<'_>) -> io::Result<(Vec<u8>, Vec<u8>)> {
        file.change.contents(&self.store)
    }

    /// Reads a text that a person put in place of a block.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn text(&self, hash: &ContentHash) -> io::Result<Vec<u8>> {
        self.store.get(hash)
    }

    /// Keeps such a text.
    ///
    /// # Errors
    /// What the file system says.
    pub fn keep_text(&self, text: &[u8]) -> io::Result<ContentHash> {
        self.store.put(text)
    }

    /// Finds a unit by its id.
    #[must_use]
    pub fn unit(&self, id: &str) -> Option<(&SheetFile<'_>, &Unit)> {
        self.files.iter().find_map(|f| Some((f, f.units.iter().find(|u| u.id == id)?)))
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
