//! A prepared apply on its way to one of its ends: committed, or taken back.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::applies::{Folder, now};
use super::hostfs::Disk;
use super::index_lock;
use super::inside::IN_TREE;
use super::journal::{End, Inside, Journal, Slot, Stage};
use super::stage::{Slots, spread};
use super::swap::{Hands, Reverted};
use super::transaction::{Kept, LeftAlone, Report, Site};
use super::tree::{HostError, HostTree, failed};
use crate::path::RepoPath;

/// What stopped the acts.
pub(super) struct Stop {
    pub(super) path: Option<RepoPath>,
    pub(super) error: Option<HostError>,
}

impl Stop {
    fn at(path: &RepoPath) -> impl Fn(HostError) -> Self {
        move |error| Self { path: Some(path.clone()), error: Some(error) }
    }

    pub(super) fn plain(error: HostError) -> Self {
        Self { path: None, error: Some(error) }
    }
}

/// A prepared apply on its way to one of its ends.
pub(super) struct Ending<'a> {
    pub(super) site: &'a Site,
    pub(super) disk: &'a Disk,
    pub(super) tree: &'a HostTree,
    pub(super) folder: &'a Folder,
    pub(super) journal: &'a Journal,
    pub(super) slots: &'a Slots,
    pub(super) same_boot: bool,
}

impl Ending<'_> {
    fn hands(&self) -> Hands<'_> {
        Hands { disk: self.disk, tree: self.tree, slots: self.slots, same_boot: self.same_boot }
    }

    /// Takes git's lock on the index, unless it is taken already.
    pub(super) fn lock_index(&self) -> Result<(), HostError> {
        index_lock::take(self.site, self.disk, self.folder, self.journal)
    }

    /// Does all acts and commits.
    pub(super) fn forward(&self, interrupted: &dyn Fn() -> bool) -> Result<(), Stop> {
        self.lock_index().map_err(Stop::plain)?;
        let hands = self.hands();
        for act in &self.journal.acts {
            if interrupted() {
                return Err(Stop { path: None, error: None });
            }
            hands.perform(act).map_err(Stop::at(act.path()))?;
        }
        self.sync_directories().map_err(Stop::plain)?;
        let end = End { committed: true, at: now() };
        match self.folder.end(self.disk, &end) {
            Ok(()) => Ok(()),
            // It is there: from now on it is committed, whatever else failed.
            Err(_) if self.is_committed() => Ok(()),
            Err(error) => Err(Stop::plain(failed("failed to write the end of the journal")(error))),
        }
    }

    fn is_committed(&self) -> bool {
        matches!(self.folder.stage(), Ok(Stage::Ended(_, end)) if end.committed)
    }

    /// What is left to do once it is committed.
    pub(super) fn committed(&self, report: &mut Report) {
        if let Err(error) = index_lock::unlock_index(self.site, self.disk, self.folder, self.journal) {
            report.note = Some(format!("{error}; airlock recover removes it"));
        }
        report.kept = self.kept(true);
    }

    fn kept(&self, committed: bool) -> Vec<Kept> {
        kept(&self.hands(), self.folder, self.journal, committed)
    }

    /// Takes all acts back, the last one first.
    pub(super) fn back(&self, report: &mut Report) -> Result<(), Stop> {
        let hands = self.hands();
        for act in self.journal.acts.iter().rev() {
            if let Reverted::Left(reason) = hands.revert(act).map_err(Stop::at(act.path()))? {
                report.left.push(LeftAlone { path: act.path().clone(), reason });
            }
        }
        self.sync_directories().map_err(Stop::plain)?;
        report.kept = self.kept(false);
        let end = End { committed: false, at: now() };
        let ended = self.folder.end(self.disk, &end).map_err(failed("failed to write the end of the journal"));
        ended.map_err(Stop::plain)?;
        if let Err(error) = index_lock::unlock_index(self.site, self.disk, self.folder, self.journal) {
            report.note = Some(format!("{error}; airlock recover removes it"));
        }
        Ok(())
    }

    /// Writes every directory that was changed to disk.
    fn sync_directories(&self) -> Result<(), HostError> {
        let sync = failed("failed to write a directory to disk");
        let parents: BTreeSet<Option<RepoPath>> = self.journal.acts.iter().map(|act| act.path().parent()).collect();
        let parents: Vec<Option<RepoPath>> = parents.into_iter().collect();
        spread(&parents, |parent| {
            let opened = match parent {
                None => Some(self.tree.root()?),
                // By way of a name in it.
                Some(directory) => match RepoPath::child(Some(directory), b"x") {
                    Ok(path) => self.tree.parent(&path)?.opened(),
                    Err(_) => None,
                },
            };
            opened.map_or(Ok(()), |opened| self.disk.sync(&opened).map_err(sync))
        })?;
        self.slots.sync(self.disk).map_err(sync)
    }
}

/// Finds edits that came after the end of an apply, through descriptors that were open before, or that were kept by it:
/// files that are in its slots and nowhere else.
///
/// # Errors
/// The slots cannot be opened.
pub fn kept_since(
    folder: &Folder,
    journal: &Journal,
    committed: bool,
    tree: &HostTree,
) -> Result<Vec<Kept>, HostError> {
    let slots = Slots::open(&journal.places, folder, &journal.id, tree)?;
    let disk = Disk::default();
    // Devices may have other numbers by now.
    let hands = Hands { disk: &disk, tree, slots: &slots, same_boot: false };
    Ok(kept(&hands, folder, journal, committed))
}

fn kept(hands: &Hands<'_>, folder: &Folder, journal: &Journal, committed: bool) -> Vec<Kept> {
    let kept = journal.acts.iter().filter_map(|act| {
        let (slot, name) = hands.foreign(act, committed)?;
        Some(Kept { path: act.path().clone(), file: slot_path(hands.tree, journal, folder, slot, &name) })
    });
    kept.collect()
}

/// Gives the path of a slot, for a person.
#[must_use]
pub fn slot_path(tree: &HostTree, journal: &Journal, folder: &Folder, slot: Slot, name: &str) -> PathBuf {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    match journal.places.get(slot.place).and_then(|place| place.inside.as_ref()) {
        None => folder.slots_path().join(name),
        Some(Inside::Root) => tree.path().join(IN_TREE).join(&journal.id).join(name),
        Some(Inside::Directory(path)) => {
            tree.path().join(OsStr::from_bytes(path.as_bytes())).join(IN_TREE).join(&journal.id).join(name)
        }
    }
}
