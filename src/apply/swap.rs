//! Does one act of an apply, and takes one back. Each looks at what is on disk and not at what was done before, so that it can
//! be done twice, and goes on from any point at which it was cut off.
//!
//! *Invariant:* a path is exchanged with a slot, never overwritten, and what came out is looked at. If it is not what the
//! plan has seen, somebody was faster: the newest file ends up at the path, and every other one in the slot.

use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::hostfs::{At, Disk, Rename};
use super::journal::{Act, Held, Slot};
use super::stage::Slots;
use super::tree::{HostError, HostTree, Inode, Look, Parent, failed, look_in};
use crate::path::RepoPath;

/// How often somebody may be faster before it is given up.
const TRIES: usize = 1000;

/// What it takes.
pub(super) struct Hands<'a> {
    pub(super) disk: &'a Disk,
    pub(super) tree: &'a HostTree,
    pub(super) slots: &'a Slots,
    /// The journal was written since the machine was started: devices have the same numbers.
    pub(super) same_boot: bool,
}

/// What taking an act back came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reverted {
    /// There was nothing to take back.
    Untouched,
    /// It is as it was.
    Back,
    /// The user has changed it since: it is as they left it.
    Left(&'static str),
}

impl Hands<'_> {
    fn is(&self, a: Inode, b: Inode) -> bool {
        a.number == b.number && (a.device == b.device || !self.same_boot)
    }

    /// Tells whether a look has met a certain file, untouched.
    fn holds(&self, slot: Slot, look: &Look, held: &Held) -> bool {
        let Look::File(seen) = look else { return false };
        let same_file = !self.slots.keeps_inodes(slot) || self.is(seen.inode, held.inode);
        (&seen.version, seen.mode) == (&held.version, held.mode) && same_file
    }

    /// Tells whether a slot has a file, whatever its content is now.
    fn has(&self, slot: Slot, name: &str, held: &Held) -> Result<bool, HostError> {
        // Without numbers that stay, nothing is exchanged either: what is staged is the only thing under its name.
        let is = |inode| !self.slots.keeps_inodes(slot) || self.is(inode, held.inode);
        Ok(inode_at(self.slots.at(slot, name))?.is_some_and(is))
    }

    fn is_empty(&self, slot: Slot, name: &str) -> Result<bool, HostError> {
        Ok(inode_at(self.slots.at(slot, name))?.is_none())
    }

    /// Tells whether a path still has a file as it was seen. It is only read if all else is the same.
    fn still_has(&self, at: At<'_>, slot: Slot, held: &Held) -> Result<bool, HostError> {
        let stat = match rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(failed("failed to look at it")(error)),
        };
        let same = !self.slots.keeps_inodes(slot) || self.is(Inode::of(&stat), held.inode);
        if !same || stat.st_mode & 0o7777 != held.mode {
            return Ok(false);
        }
        match look_in(at.directory, at.name) {
            Ok(look) => Ok(self.holds(slot, &look, held)),
            Err(HostError::Stale) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Looks at a slot; somebody may be writing to what is in it.
    fn in_slot(&self, slot: Slot, name: &str) -> Result<Look, HostError> {
        let at = self.slots.at(slot, name);
        look_in(at.directory, at.name)
    }

    fn parent(&self, path: &RepoPath) -> Result<OwnedFd, HostError> {
        match self.tree.parent(path)? {
            Parent::Open(parent) => Ok(parent),
            Parent::Missing | Parent::Blocked(_) => Err(HostError::Stale),
        }
    }

    /// Does an act; one that is done already stays as it is.
    ///
    /// # Errors
    /// [`HostError::Stale`] if somebody has changed the path: then it holds what they made of it. After any error the act
    /// may be done in part, and must be taken back.
    pub(super) fn perform(&self, act: &Act) -> Result<(), HostError> {
        match act {
            Act::MakeDirectory { path, slot } => self.make_directory(path, *slot),
            Act::RemoveDirectory { path, slot } => {
                self.stage_directory(path, *slot)?;
                self.remove_directory(path)
            }
            Act::Respell { from, to } => self.respell(from, to),
            Act::Delete { path, slot, before } => self.delete(path, *slot, before),
            Act::Put { path, slot, before, after } => {
                let parent = self.parent(path)?;
                let at = At::new(&parent, path.file_name());
                match before {
                    Some(before) if self.slots.exchanges(*slot) => self.exchange(at, *slot, before, after),
                    Some(before) => {
                        self.set_aside(at, *slot, before)?;
                        self.put_new(at, *slot, after)
                    }
                    None => self.put_new(at, *slot, after),
                }
            }
        }
    }

    fn make_directory(&self, path: &RepoPath, slot: Option<Slot>) -> Result<(), HostError> {
        let made = failed("failed to make a directory");
        let parent = self.parent(path)?;
        let at = At::new(&parent, path.file_name());
        let done = match slot {
            None => self.disk.make_directory(at, 0o777),
            Some(slot) => match self.move_new(self.slots.at(slot, &slot.name()), at) {
                Err(Errno::NOENT) => Err(Errno::EXIST),
                other => other,
            },
        };
        match done {
            Err(Errno::EXIST) if look_in(&parent, at.name)? == Look::Directory => Ok(()),
            Err(Errno::EXIST) => Err(HostError::Stale),
            other => other.map_err(made),
        }
    }

    /// Stages a directory like one that is to be removed, where that was brought back before from what was staged first.
    fn stage_directory(&self, path: &RepoPath, slot: Slot) -> Result<(), HostError> {
        if !self.is_empty(slot, &slot.name())? {
            return Ok(());
        }
        let Parent::Open(parent) = self.tree.parent(path)? else { return Ok(()) };
        let at = At::new(&parent, path.file_name());
        match inode_at(at)? {
            Some(_) => self.slots.put_directory(slot, at, self.disk, self.tree),
            None => Ok(()),
        }
    }

    fn remove_directory(&self, path: &RepoPath) -> Result<(), HostError> {
        let Parent::Open(parent) = self.tree.parent(path)? else { return Ok(()) };
        match self.disk.remove_directory(At::new(&parent, path.file_name())) {
            // Somebody has put something into it: then it stays.
            // Or something is mounted on it.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::NOTDIR | Errno::BUSY) => Ok(()),
            other => other.map_err(failed("failed to remove the empty directory")),
        }
    }

    fn respell(&self, from: &RepoPath, to: &RepoPath) -> Result<(), HostError> {
        let names = self.tree.names(from.parent().as_ref())?;
        let has = |path: &RepoPath| names.iter().any(|(name, _)| name == path.file_name());
        if !has(from) {
            return if has(to) { Ok(()) } else { Err(HostError::Stale) };
        }
        // Both are there: they are not one file, and the other would be lost.
        if has(to) {
            return Err(HostError::Stale);
        }
        let parent = self.parent(from)?;
        let (old, new) = (At::new(&parent, from.file_name()), At::new(&parent, to.file_name()));
        self.disk.rename(old, new, Rename::Plain).map_err(failed("failed to rename it"))
    }

    fn exchange(&self, at: At<'_>, slot: Slot, before: &Held, after: &Held) -> Result<(), HostError> {
        let name = slot.name();
        let in_slot = self.slots.at(slot, &name);
        // Else it was done before this was cut off; what came out is looked at all the same.
        if self.has(slot, &name, after)? {
            // Looked at first, so that a path that has changed is not touched at all.
            if !self.still_has(at, slot, before)? {
                return Err(HostError::Stale);
            }
            match self.disk.rename(in_slot, at, Rename::Exchange) {
                Err(Errno::NOENT) => return Err(HostError::Stale),
                other => other.map_err(failed("failed to put it in place"))?,
            }
        }
        match self.in_slot(slot, &name) {
            Ok(displaced) if self.holds(slot, &displaced, before) => {
                self.disk.touch(at).map_err(failed("failed to set its time"))
            }
            // Somebody was faster, or is writing to it.
            _ => {
                self.settle(at, slot, after)?;
                Err(HostError::Stale)
            }
        }
    }

    /// Brings the newest file to a path, after ours went there in place of one that was not expected.
    fn settle(&self, at: At<'_>, slot: Slot, ours: &Held) -> Result<(), HostError> {
        let name = slot.name();
        let in_slot = self.slots.at(slot, &name);
        // What we have put at the path; if that is what comes out again, nobody was there meanwhile.
        let mut placed: Option<Inode> = None;
        for _ in 0..TRIES {
            let coming = inode_at(in_slot)?;
            match self.disk.rename(in_slot, at, Rename::Exchange) {
                Ok(()) => {}
                // The path was deleted meanwhile. What was there is not lost for that.
                Err(Errno::NOENT) => match self.move_new(in_slot, at) {
                    Ok(()) => return Ok(()),
                    Err(Errno::EXIST) => continue,
                    Err(error) => return Err(failed("failed to bring back what was there")(error)),
                },
                Err(error) => return Err(failed("failed to bring back what was there")(error)),
            }
            let intact = match placed {
                // Ours may have been opened and written to.
                None => matches!(self.in_slot(slot, &name), Ok(look) if self.holds(slot, &look, ours)),
                Some(placed) => inode_at(in_slot)? == Some(placed),
            };
            if intact {
                self.touch(at);
                return Ok(());
            }
            // It is newer than what is at the path now.
            placed = coming.or(placed);
        }
        Err(HostError::Stale)
    }

    /// Moves what a path holds beside the slot, where nothing can be exchanged.
    fn set_aside(&self, at: At<'_>, slot: Slot, before: &Held) -> Result<(), HostError> {
        self.take_out(at, slot, &slot.aside(), before)
    }

    /// Moves a file out of the tree, and back if it is not the one that was expected.
    fn take_out(&self, at: At<'_>, slot: Slot, name: &str, expected: &Held) -> Result<(), HostError> {
        let to = self.slots.at(slot, name);
        // Else it was moved before this was cut off; what was moved is looked at all the same.
        if self.is_empty(slot, name)? {
            if !self.still_has(at, slot, expected)? {
                return Err(HostError::Stale);
            }
            match self.move_new(at, to) {
                Err(Errno::NOENT) => return Err(HostError::Stale),
                other => other.map_err(failed("failed to move it away"))?,
            }
        } else if are_one(at, to)? {
            self.disk.remove(at).map_err(failed("failed to move it away"))?;
        }
        if matches!(self.in_slot(slot, name), Ok(moved) if self.holds(slot, &moved, expected)) {
            return Ok(());
        }
        match self.move_new(to, at) {
            // A newer one is there already: the other stays where it is.
            Ok(()) | Err(Errno::EXIST) => Err(HostError::Stale),
            Err(error) => Err(failed("failed to bring back what was there")(error)),
        }
    }

    fn put_new(&self, at: At<'_>, slot: Slot, after: &Held) -> Result<(), HostError> {
        let name = slot.name();
        if !self.has(slot, &name, after)? {
            return Ok(());
        }
        match self.move_new(self.slots.at(slot, &name), at) {
            Err(Errno::EXIST | Errno::NOENT) => return Err(HostError::Stale),
            other => other.map_err(failed("failed to put it in place"))?,
        }
        self.disk.touch(at).map_err(failed("failed to set its time"))
    }

    fn delete(&self, path: &RepoPath, slot: Slot, before: &Held) -> Result<(), HostError> {
        let name = slot.name();
        match self.tree.parent(path)? {
            Parent::Open(parent) => self.take_out(At::new(&parent, path.file_name()), slot, &name, before),
            // It was deleted, and its directory removed, before this was cut off.
            _ if matches!(self.in_slot(slot, &name), Ok(look) if self.holds(slot, &look, before)) => Ok(()),
            _ => Err(HostError::Stale),
        }
    }

    /// Gives something a name that nothing has.
    fn move_new(&self, from: At<'_>, to: At<'_>) -> Result<(), Errno> {
        match self.disk.rename(from, to, Rename::NoReplace) {
            Err(Errno::INVAL | Errno::NOSYS) => {}
            other => return other,
        }
        // A file system without that flag: a hard link also fails where something is.
        match self.disk.link(from, to) {
            Ok(()) => return self.disk.remove(from),
            // Without hard links either, such as FAT; and directories have none.
            Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => {}
            // Cut off between the two: it has both names already.
            Err(Errno::EXIST) if are_one(from, to).unwrap_or(false) => return self.disk.remove(from),
            Err(error) => return Err(error),
        }
        match look_in(to.directory, to.name) {
            Ok(Look::Nothing) => self.disk.rename(from, to, Rename::Plain),
            _ => Err(Errno::EXIST),
        }
    }

    /// Takes an act back, as far as it was done.
    ///
    /// # Errors
    /// What the system says: then it is to be tried again.
    pub(super) fn revert(&self, act: &Act) -> Result<Reverted, HostError> {
        match act {
            Act::MakeDirectory { path, .. } => {
                self.remove_directory(path)?;
                Ok(Reverted::Back)
            }
            Act::RemoveDirectory { path, slot } => self.bring_directory_back(path, *slot),
            Act::Respell { from, to } => {
                let Parent::Open(_) = self.tree.parent(to)? else { return Ok(Reverted::Untouched) };
                match self.respell(to, from) {
                    Ok(()) => Ok(Reverted::Back),
                    Err(HostError::Stale) => Ok(Reverted::Left(GONE)),
                    Err(error) => Err(error),
                }
            }
            Act::Delete { path, slot, .. } => {
                let name = slot.name();
                if self.is_empty(*slot, &name)? {
                    return Ok(Reverted::Untouched);
                }
                self.bring_back(path, self.slots.at(*slot, &name))
            }
            Act::Put { path, slot, before: None, after } => self.take_away(path, *slot, after),
            Act::Put { path, slot, before: Some(_), after } if self.slots.exchanges(*slot) => {
                self.exchange_back(path, *slot, after)
            }
            Act::Put { path, slot, before: Some(_), after } => {
                let name = slot.aside();
                if self.is_empty(*slot, &name)? {
                    return Ok(Reverted::Untouched);
                }
                if let Reverted::Left(why) = self.take_away(path, *slot, after)? {
                    return Ok(Reverted::Left(why));
                }
                self.bring_back(path, self.slots.at(*slot, &name))
            }
        }
    }

    fn bring_directory_back(&self, path: &RepoPath, slot: Slot) -> Result<Reverted, HostError> {
        let made = failed("failed to bring the directory back");
        let Parent::Open(parent) = self.tree.parent(path)? else { return Ok(Reverted::Left(GONE)) };
        let at = At::new(&parent, path.file_name());
        match look_in(&parent, at.name)? {
            Look::Directory => return Ok(Reverted::Untouched),
            Look::Nothing => {}
            _ => return Ok(Reverted::Left(OCCUPIED)),
        }
        match self.move_new(self.slots.at(slot, &slot.name()), at) {
            Ok(()) => Ok(Reverted::Back),
            // It was brought back before, and somebody has removed it.
            Err(Errno::NOENT) => self.disk.make_directory(at, 0o777).map(|()| Reverted::Back).map_err(made),
            Err(error) => Err(made(error)),
        }
    }

    /// Moves a deleted file back to its path.
    fn bring_back(&self, path: &RepoPath, from: At<'_>) -> Result<Reverted, HostError> {
        let Parent::Open(parent) = self.tree.parent(path)? else { return Ok(Reverted::Left(GONE)) };
        let at = At::new(&parent, path.file_name());
        match self.move_new(from, at) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(Reverted::Left(OCCUPIED)),
            Err(error) => return Err(failed("failed to bring it back")(error)),
        }
        self.touch(at);
        Ok(Reverted::Back)
    }

    /// Sets a time to now, so that `make` looks at the file again. Somebody else's file may not let us, and has to come back all
    /// the same.
    fn touch(&self, at: At<'_>) {
        let _ = self.disk.touch(at);
    }

    /// Moves a file that an act has made back into its slot.
    fn take_away(&self, path: &RepoPath, slot: Slot, after: &Held) -> Result<Reverted, HostError> {
        let name = slot.name();
        let Parent::Open(parent) = self.tree.parent(path)? else {
            let untouched = self.has(slot, &name, after)?;
            return Ok(if untouched { Reverted::Untouched } else { Reverted::Left(GONE) });
        };
        let at = At::new(&parent, path.file_name());
        if self.has(slot, &name, after)? {
            // Cut off between its two names.
            if self.slots.keeps_inodes(slot) && are_one(at, self.slots.at(slot, &name))? {
                self.disk.remove(at).map_err(failed("failed to take it back"))?;
                return Ok(Reverted::Back);
            }
            return Ok(Reverted::Untouched);
        }
        if inode_at(at)?.is_none() {
            return Ok(Reverted::Back);
        }
        match self.take_out(at, slot, &name, after) {
            Ok(()) => Ok(Reverted::Back),
            Err(HostError::Stale) => Ok(Reverted::Left(EDITED)),
            Err(error) => Err(error),
        }
    }

    fn exchange_back(&self, path: &RepoPath, slot: Slot, after: &Held) -> Result<Reverted, HostError> {
        let name = slot.name();
        if self.has(slot, &name, after)? {
            return Ok(Reverted::Untouched);
        }
        let Parent::Open(parent) = self.tree.parent(path)? else { return Ok(Reverted::Left(GONE)) };
        let at = At::new(&parent, path.file_name());
        if !self.still_has(at, slot, after)? {
            let gone = inode_at(at)?.is_none();
            return Ok(Reverted::Left(if gone { DELETED } else { EDITED }));
        }
        match self.disk.rename(self.slots.at(slot, &name), at, Rename::Exchange) {
            Err(Errno::NOENT) => return Ok(Reverted::Left(DELETED)),
            other => other.map_err(failed("failed to bring back what was there"))?,
        }
        if matches!(self.in_slot(slot, &name), Ok(look) if self.holds(slot, &look, after)) {
            self.touch(at);
            return Ok(Reverted::Back);
        }
        // A save went between: that is the newest, and what it would have replaced stays in the slot.
        self.newest_back(at, slot)?;
        Ok(Reverted::Left(EDITED))
    }

    /// Exchanges until what comes out is what was put in.
    fn newest_back(&self, at: At<'_>, slot: Slot) -> Result<(), HostError> {
        let name = slot.name();
        for _ in 0..TRIES {
            let placed = inode_at(at)?;
            match self.disk.rename(self.slots.at(slot, &name), at, Rename::Exchange) {
                Err(Errno::NOENT) => return Ok(()),
                other => other.map_err(failed("failed to bring back the newest"))?,
            }
            if placed.is_some() && inode_at(self.slots.at(slot, &name))? == placed {
                return Ok(());
            }
        }
        Err(HostError::Stale)
    }

    /// Finds a file of the user's in an act's slot, which is nowhere else: an edit that came too late, or one that an
    /// undone act had in its way. `committed` tells what belongs there.
    pub(super) fn foreign(&self, act: &Act, committed: bool) -> Option<(Slot, String)> {
        let (slot, before, after) = match act {
            Act::Put { slot, before, after, .. } => (*slot, before.as_ref(), Some(after)),
            Act::Delete { slot, before, .. } => (*slot, Some(before), None),
            _ => return None,
        };
        for name in [slot.name(), slot.aside()] {
            let look = self.in_slot(slot, &name);
            let belongs = match &look {
                Ok(Look::Nothing) => true,
                Ok(look) if committed => before.is_some_and(|b| self.holds(slot, look, b)),
                Ok(look) => after.is_some_and(|a| self.holds(slot, look, a)),
                Err(_) => false,
            };
            if !belongs {
                return Some((slot, name));
            }
        }
        None
    }
}

/// Tells which file a name stands for.
fn inode_at(at: At<'_>) -> Result<Option<Inode>, HostError> {
    match rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Inode::of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(failed("failed to look at it")(error)),
    }
}

/// Tells whether two names stand for one file.
fn are_one(one: At<'_>, other: At<'_>) -> Result<bool, HostError> {
    let inode = inode_at(one)?;
    Ok(inode.is_some() && inode == inode_at(other)?)
}

const EDITED: &str = "you have changed it since";
const DELETED: &str = "you have deleted it since";
const GONE: &str = "its directory is gone";
const OCCUPIED: &str = "something of yours is there now";
