//! Executes and reverts single operations of a journal. Operations are idempotent: they inspect the disk rather than
//! remembered state, so they can be repeated, or resumed after a crash at any point.
//!
//! *Invariant:* A path is exchanged with a staged file, never overwritten, and the displaced file is inspected. If it is not
//! the file that the plan observed, another process won the race: the newest file ends up at the path, and all others in the
//! backup.

use std::os::fd::OwnedFd;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::host_error::{HostError, system_error};
use super::host_fs::{DirEntryRef, HostFs, Rename};
use super::journal::{FileIdentity, Op, StagedFile};
use super::staging::Staging;
use super::working_tree::{Inode, Parent, PathState, WorkingTree, observe_in};
use crate::core::path::RepoPath;

/// Maximum number of lost races before an operation fails.
const MAX_RETRIES: usize = 1000;

/// State that executing operations needs.
pub(crate) struct OpExecutor<'a> {
    pub(crate) disk: &'a HostFs,
    pub(crate) tree: &'a WorkingTree,
    pub(crate) slots: &'a Staging,
    /// Whether the journal was written since the last boot, so that device numbers are comparable.
    pub(crate) same_boot: bool,
}

/// The result of reverting an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RevertOutcome {
    /// The operation had not been executed, or was already reverted.
    NotApplied,
    /// The operation was reverted.
    Restored,
    /// The user has changed the path since, so it is left unchanged.
    Skipped(&'static str),
}

impl OpExecutor<'_> {
    fn is_same_inode(&self, a: Inode, b: Inode) -> bool {
        a.number == b.number && (a.device == b.device || !self.same_boot)
    }

    /// Returns whether an observed state is the given file, unmodified.
    fn slot_holds(&self, slot: StagedFile, look: &PathState, held: &FileIdentity) -> bool {
        let PathState::File(seen) = look else { return false };
        let same_file = !self.slots.has_stable_inodes(slot) || self.is_same_inode(seen.inode, held.inode);
        (&seen.version, seen.mode) == (&held.version, held.mode) && same_file
    }

    /// Returns whether a staging entry is the given file, regardless of its current content.
    fn has_file(&self, slot: StagedFile, name: &str, held: &FileIdentity) -> Result<bool, HostError> {
        // Without stable inode numbers, files are not exchanged either, so an existing entry is always the staged file.
        let is = |inode| !self.slots.has_stable_inodes(slot) || self.is_same_inode(inode, held.inode);
        Ok(inode_at(self.slots.entry_ref(slot, name))?.is_some_and(is))
    }

    fn is_slot_empty(&self, slot: StagedFile, name: &str) -> Result<bool, HostError> {
        Ok(inode_at(self.slots.entry_ref(slot, name))?.is_none())
    }

    /// Returns whether a path still has the given file, unmodified. Reads the content only if everything else matches.
    fn still_has_file(&self, at: DirEntryRef<'_>, slot: StagedFile, held: &FileIdentity) -> Result<bool, HostError> {
        let stat = match rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(system_error("failed to look at it")(error)),
        };
        let same = !self.slots.has_stable_inodes(slot) || self.is_same_inode(Inode::of(&stat), held.inode);
        if !same || stat.st_mode & 0o7777 != held.mode {
            return Ok(false);
        }
        match observe_in(at.directory, at.name) {
            Ok(look) => Ok(self.slot_holds(slot, &look, held)),
            Err(HostError::Stale) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Observes a staging entry. Another process may be writing to it.
    fn look_in_slot(&self, slot: StagedFile, name: &str) -> Result<PathState, HostError> {
        let at = self.slots.entry_ref(slot, name);
        observe_in(at.directory, at.name)
    }

    fn open_parent_dir(&self, path: &RepoPath) -> Result<OwnedFd, HostError> {
        match self.tree.open_parent(path)? {
            Parent::Open(parent) => Ok(parent),
            Parent::Missing | Parent::Blocked(_) => Err(HostError::Stale),
        }
    }

    /// Executes an operation. An operation that is already done has no effect.
    ///
    /// # Errors
    /// [`HostError::Stale`] if the path has been changed by someone else; the changed file is then at the path. After any
    /// error, the operation may be partly done and must be reverted.
    pub(crate) fn execute_op(&self, act: &Op) -> Result<(), HostError> {
        match act {
            Op::MakeDirectory { path, slot } => self.make_directory(path, *slot),
            Op::RemoveDirectory { path, slot } => {
                self.stage_directory(path, *slot)?;
                self.remove_directory(path)
            }
            Op::CaseRename { from, to } => self.rename_case(from, to),
            Op::Delete { path, slot, before } => self.delete_file(path, *slot, before),
            Op::Write { path, slot, before, after } => {
                let parent = self.open_parent_dir(path)?;
                let at = DirEntryRef::new(&parent, path.file_name());
                match before {
                    Some(before) if self.slots.can_exchange(*slot) => self.exchange_files(at, *slot, before, after),
                    Some(before) => {
                        self.move_to_backup_beside(at, *slot, before)?;
                        self.write_new_file(at, *slot, after)
                    }
                    None => self.write_new_file(at, *slot, after),
                }
            }
        }
    }

    fn make_directory(&self, path: &RepoPath, slot: Option<StagedFile>) -> Result<(), HostError> {
        let made = system_error("failed to make a directory");
        let parent = self.open_parent_dir(path)?;
        let at = DirEntryRef::new(&parent, path.file_name());
        let done = match slot {
            None => self.disk.create_dir(at, 0o777),
            Some(slot) => match self.move_to_free_name(self.slots.entry_ref(slot, &slot.name()), at) {
                Err(Errno::NOENT) => Err(Errno::EXIST),
                other => other,
            },
        };
        match done {
            Err(Errno::EXIST) if observe_in(&parent, at.name)? == PathState::Directory => Ok(()),
            Err(Errno::EXIST) => Err(HostError::Stale),
            other => other.map_err(made),
        }
    }

    /// Stages a copy of a directory that is to be removed, if the staged one was already used to restore the directory.
    fn stage_directory(&self, path: &RepoPath, slot: StagedFile) -> Result<(), HostError> {
        if !self.is_slot_empty(slot, &slot.name())? {
            return Ok(());
        }
        let Parent::Open(parent) = self.tree.open_parent(path)? else { return Ok(()) };
        let at = DirEntryRef::new(&parent, path.file_name());
        match inode_at(at)? {
            Some(_) => self.slots.stage_directory(slot, at, self.disk, self.tree),
            None => Ok(()),
        }
    }

    fn remove_directory(&self, path: &RepoPath) -> Result<(), HostError> {
        let Parent::Open(parent) = self.tree.open_parent(path)? else { return Ok(()) };
        match self.disk.remove_dir(DirEntryRef::new(&parent, path.file_name())) {
            // The directory is kept if someone has added an entry to it or mounted something on it.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT | Errno::NOTDIR | Errno::BUSY) => Ok(()),
            other => other.map_err(system_error("failed to remove the empty directory")),
        }
    }

    fn rename_case(&self, from: &RepoPath, to: &RepoPath) -> Result<(), HostError> {
        let names = self.tree.read_dir_names(from.parent().as_ref())?;
        let has = |path: &RepoPath| names.iter().any(|(name, _)| name == path.file_name());
        if !has(from) {
            return if has(to) { Ok(()) } else { Err(HostError::Stale) };
        }
        // Both names exist, so they are different files, and renaming would overwrite one of them.
        if has(to) {
            return Err(HostError::Stale);
        }
        let parent = self.open_parent_dir(from)?;
        let (old, new) = (DirEntryRef::new(&parent, from.file_name()), DirEntryRef::new(&parent, to.file_name()));
        self.disk.rename_entry(old, new, Rename::Plain).map_err(system_error("failed to rename it"))
    }

    fn exchange_files(
        &self,
        at: DirEntryRef<'_>,
        slot: StagedFile,
        before: &FileIdentity,
        after: &FileIdentity,
    ) -> Result<(), HostError> {
        let name = slot.name();
        let in_slot = self.slots.entry_ref(slot, &name);
        // Otherwise the exchange was done before an interruption. The displaced file is inspected in both cases.
        if self.has_file(slot, &name, after)? {
            // Checked before the exchange, so that a path that has changed is not touched.
            if !self.still_has_file(at, slot, before)? {
                return Err(HostError::Stale);
            }
            match self.disk.rename_entry(in_slot, at, Rename::Exchange) {
                Err(Errno::NOENT) => return Err(HostError::Stale),
                other => other.map_err(system_error("failed to put it in place"))?,
            }
        }
        match self.look_in_slot(slot, &name) {
            Ok(displaced) if self.slot_holds(slot, &displaced, before) => {
                self.disk.touch_entry(at).map_err(system_error("failed to set its time"))
            }
            // Another process replaced the file, or is writing to it.
            _ => {
                self.resolve_race(at, slot, after)?;
                Err(HostError::Stale)
            }
        }
    }

    /// Restores the newest file to a path, after a staged file displaced one that was not expected.
    fn resolve_race(&self, at: DirEntryRef<'_>, slot: StagedFile, ours: &FileIdentity) -> Result<(), HostError> {
        let name = slot.name();
        let in_slot = self.slots.entry_ref(slot, &name);
        // The file that the last exchange put at the path. If the next exchange displaces that same file, no other process
        // has changed the path in between.
        let mut placed: Option<Inode> = None;
        for _ in 0..MAX_RETRIES {
            let coming = inode_at(in_slot)?;
            match self.disk.rename_entry(in_slot, at, Rename::Exchange) {
                Ok(()) => {}
                // The path was deleted in between. The displaced file is still restored.
                Err(Errno::NOENT) => match self.move_to_free_name(in_slot, at) {
                    Ok(()) => return Ok(()),
                    Err(Errno::EXIST) => continue,
                    Err(error) => return Err(system_error("failed to bring back what was there")(error)),
                },
                Err(error) => return Err(system_error("failed to bring back what was there")(error)),
            }
            let intact = match placed {
                // The staged file may have been opened and written to.
                None => matches!(self.look_in_slot(slot, &name), Ok(look) if self.slot_holds(slot, &look, ours)),
                Some(placed) => inode_at(in_slot)? == Some(placed),
            };
            if intact {
                self.touch_entry(at);
                return Ok(());
            }
            // The file in the staging entry is newer than the file at the path.
            placed = coming.or(placed);
        }
        Err(HostError::Stale)
    }

    /// Moves the file at a path to its backup name, if files cannot be exchanged.
    fn move_to_backup_beside(
        &self,
        at: DirEntryRef<'_>,
        slot: StagedFile,
        before: &FileIdentity,
    ) -> Result<(), HostError> {
        self.move_to_backup(at, slot, &slot.backup_name(), before)
    }

    /// Moves a file out of the tree, and back if it is not the expected file.
    fn move_to_backup(
        &self,
        at: DirEntryRef<'_>,
        slot: StagedFile,
        name: &str,
        expected: &FileIdentity,
    ) -> Result<(), HostError> {
        let to = self.slots.entry_ref(slot, name);
        // Otherwise the file was moved before an interruption. The moved file is inspected in both cases.
        if self.is_slot_empty(slot, name)? {
            if !self.still_has_file(at, slot, expected)? {
                return Err(HostError::Stale);
            }
            match self.move_to_free_name(at, to) {
                Err(Errno::NOENT) => return Err(HostError::Stale),
                other => other.map_err(system_error("failed to move it away"))?,
            }
        } else if are_same_file(at, to)? {
            self.disk.remove_file(at).map_err(system_error("failed to move it away"))?;
        }
        if matches!(self.look_in_slot(slot, name), Ok(moved) if self.slot_holds(slot, &moved, expected)) {
            return Ok(());
        }
        match self.move_to_free_name(to, at) {
            // A newer file is already at the path, so the moved file is kept as the backup.
            Ok(()) | Err(Errno::EXIST) => Err(HostError::Stale),
            Err(error) => Err(system_error("failed to bring back what was there")(error)),
        }
    }

    fn write_new_file(&self, at: DirEntryRef<'_>, slot: StagedFile, after: &FileIdentity) -> Result<(), HostError> {
        let name = slot.name();
        if !self.has_file(slot, &name, after)? {
            return Ok(());
        }
        match self.move_to_free_name(self.slots.entry_ref(slot, &name), at) {
            Err(Errno::EXIST | Errno::NOENT) => return Err(HostError::Stale),
            other => other.map_err(system_error("failed to put it in place"))?,
        }
        self.disk.touch_entry(at).map_err(system_error("failed to set its time"))
    }

    fn delete_file(&self, path: &RepoPath, slot: StagedFile, before: &FileIdentity) -> Result<(), HostError> {
        let name = slot.name();
        match self.tree.open_parent(path)? {
            Parent::Open(parent) => {
                self.move_to_backup(DirEntryRef::new(&parent, path.file_name()), slot, &name, before)
            }
            // The file was deleted, and its directory removed, before an interruption.
            _ if matches!(self.look_in_slot(slot, &name), Ok(look) if self.slot_holds(slot, &look, before)) => Ok(()),
            _ => Err(HostError::Stale),
        }
    }

    /// Moves a file or directory to a name that does not exist.
    fn move_to_free_name(&self, from: DirEntryRef<'_>, to: DirEntryRef<'_>) -> Result<(), Errno> {
        match self.disk.rename_entry(from, to, Rename::NoReplace) {
            Err(Errno::INVAL | Errno::NOSYS) => {}
            other => return other,
        }
        // The file system does not support `RENAME_NOREPLACE`. A hard link also fails if the target exists.
        match self.disk.hard_link(from, to) {
            Ok(()) => return self.disk.remove_file(from),
            // The file system does not support hard links, such as FAT, or the entry is a directory.
            Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => {}
            // Interrupted between the two calls: the file already has both names.
            Err(Errno::EXIST) if are_same_file(from, to).unwrap_or(false) => return self.disk.remove_file(from),
            Err(error) => return Err(error),
        }
        match observe_in(to.directory, to.name) {
            Ok(PathState::Absent) => self.disk.rename_entry(from, to, Rename::Plain),
            _ => Err(Errno::EXIST),
        }
    }

    /// Reverts an operation as far as it was executed.
    ///
    /// # Errors
    /// The system's error; the operation can be reverted again.
    pub(crate) fn revert_op(&self, act: &Op) -> Result<RevertOutcome, HostError> {
        match act {
            Op::MakeDirectory { path, .. } => {
                self.remove_directory(path)?;
                Ok(RevertOutcome::Restored)
            }
            Op::RemoveDirectory { path, slot } => self.restore_directory(path, *slot),
            Op::CaseRename { from, to } => {
                let Parent::Open(_) = self.tree.open_parent(to)? else { return Ok(RevertOutcome::NotApplied) };
                match self.rename_case(to, from) {
                    Ok(()) => Ok(RevertOutcome::Restored),
                    Err(HostError::Stale) => Ok(RevertOutcome::Skipped(GONE)),
                    Err(error) => Err(error),
                }
            }
            Op::Delete { path, slot, .. } => {
                let name = slot.name();
                if self.is_slot_empty(*slot, &name)? {
                    return Ok(RevertOutcome::NotApplied);
                }
                self.restore_backup(path, self.slots.entry_ref(*slot, &name))
            }
            Op::Write { path, slot, before: None, after } => self.revert_write(path, *slot, after),
            Op::Write { path, slot, before: Some(_), after } if self.slots.can_exchange(*slot) => {
                self.revert_exchange(path, *slot, after)
            }
            Op::Write { path, slot, before: Some(_), after } => {
                let name = slot.backup_name();
                if self.is_slot_empty(*slot, &name)? {
                    return Ok(RevertOutcome::NotApplied);
                }
                if let RevertOutcome::Skipped(why) = self.revert_write(path, *slot, after)? {
                    return Ok(RevertOutcome::Skipped(why));
                }
                self.restore_backup(path, self.slots.entry_ref(*slot, &name))
            }
        }
    }

    fn restore_directory(&self, path: &RepoPath, slot: StagedFile) -> Result<RevertOutcome, HostError> {
        let made = system_error("failed to bring the directory back");
        let Parent::Open(parent) = self.tree.open_parent(path)? else { return Ok(RevertOutcome::Skipped(GONE)) };
        let at = DirEntryRef::new(&parent, path.file_name());
        match observe_in(&parent, at.name)? {
            PathState::Directory => return Ok(RevertOutcome::NotApplied),
            PathState::Absent => {}
            _ => return Ok(RevertOutcome::Skipped(OCCUPIED)),
        }
        match self.move_to_free_name(self.slots.entry_ref(slot, &slot.name()), at) {
            Ok(()) => Ok(RevertOutcome::Restored),
            // The directory was restored before and has been removed by someone.
            Err(Errno::NOENT) => self.disk.create_dir(at, 0o777).map(|()| RevertOutcome::Restored).map_err(made),
            Err(error) => Err(made(error)),
        }
    }

    /// Moves a backup to its path.
    fn restore_backup(&self, path: &RepoPath, from: DirEntryRef<'_>) -> Result<RevertOutcome, HostError> {
        let Parent::Open(parent) = self.tree.open_parent(path)? else { return Ok(RevertOutcome::Skipped(GONE)) };
        let at = DirEntryRef::new(&parent, path.file_name());
        match self.move_to_free_name(from, at) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(RevertOutcome::Skipped(OCCUPIED)),
            Err(error) => return Err(system_error("failed to bring it back")(error)),
        }
        self.touch_entry(at);
        Ok(RevertOutcome::Restored)
    }

    /// Sets the modification time to now, so that `make` notices the file. A failure is ignored: a file of another user may
    /// not permit it, and must be restored nevertheless.
    fn touch_entry(&self, at: DirEntryRef<'_>) {
        let _ = self.disk.touch_entry(at);
    }

    /// Moves a file that an operation wrote back to its staging entry.
    fn revert_write(
        &self,
        path: &RepoPath,
        slot: StagedFile,
        after: &FileIdentity,
    ) -> Result<RevertOutcome, HostError> {
        let name = slot.name();
        let Parent::Open(parent) = self.tree.open_parent(path)? else {
            let untouched = self.has_file(slot, &name, after)?;
            return Ok(if untouched { RevertOutcome::NotApplied } else { RevertOutcome::Skipped(GONE) });
        };
        let at = DirEntryRef::new(&parent, path.file_name());
        if self.has_file(slot, &name, after)? {
            // Interrupted while the file had both names.
            if self.slots.has_stable_inodes(slot) && are_same_file(at, self.slots.entry_ref(slot, &name))? {
                self.disk.remove_file(at).map_err(system_error("failed to revert it"))?;
                return Ok(RevertOutcome::Restored);
            }
            return Ok(RevertOutcome::NotApplied);
        }
        if inode_at(at)?.is_none() {
            return Ok(RevertOutcome::Restored);
        }
        match self.move_to_backup(at, slot, &name, after) {
            Ok(()) => Ok(RevertOutcome::Restored),
            Err(HostError::Stale) => Ok(RevertOutcome::Skipped(EDITED)),
            Err(error) => Err(error),
        }
    }

    fn revert_exchange(
        &self,
        path: &RepoPath,
        slot: StagedFile,
        after: &FileIdentity,
    ) -> Result<RevertOutcome, HostError> {
        let name = slot.name();
        if self.has_file(slot, &name, after)? {
            return Ok(RevertOutcome::NotApplied);
        }
        let Parent::Open(parent) = self.tree.open_parent(path)? else { return Ok(RevertOutcome::Skipped(GONE)) };
        let at = DirEntryRef::new(&parent, path.file_name());
        if !self.still_has_file(at, slot, after)? {
            let gone = inode_at(at)?.is_none();
            return Ok(RevertOutcome::Skipped(if gone { DELETED } else { EDITED }));
        }
        match self.disk.rename_entry(self.slots.entry_ref(slot, &name), at, Rename::Exchange) {
            Err(Errno::NOENT) => return Ok(RevertOutcome::Skipped(DELETED)),
            other => other.map_err(system_error("failed to bring back what was there"))?,
        }
        if matches!(self.look_in_slot(slot, &name), Ok(look) if self.slot_holds(slot, &look, after)) {
            self.touch_entry(at);
            return Ok(RevertOutcome::Restored);
        }
        // The file was saved during the exchange. The saved file is the newest; the file that it would have replaced is kept
        // as the backup.
        self.restore_newest(at, slot)?;
        Ok(RevertOutcome::Skipped(EDITED))
    }

    /// Exchanges the path and the staging entry until the displaced file is the one that was last put at the path.
    fn restore_newest(&self, at: DirEntryRef<'_>, slot: StagedFile) -> Result<(), HostError> {
        let name = slot.name();
        for _ in 0..MAX_RETRIES {
            let placed = inode_at(at)?;
            match self.disk.rename_entry(self.slots.entry_ref(slot, &name), at, Rename::Exchange) {
                Err(Errno::NOENT) => return Ok(()),
                other => other.map_err(system_error("failed to bring back the newest"))?,
            }
            if placed.is_some() && inode_at(self.slots.entry_ref(slot, &name))? == placed {
                return Ok(());
            }
        }
        Err(HostError::Stale)
    }

    /// Finds a file of the user that exists only in an operation's staging entry: a late edit, or a file that a reverted
    /// operation had to move away. `committed` determines which file is expected there.
    pub(crate) fn unexpected_backup(&self, act: &Op, committed: bool) -> Option<(StagedFile, String)> {
        let (slot, before, after) = match act {
            Op::Write { slot, before, after, .. } => (*slot, before.as_ref(), Some(after)),
            Op::Delete { slot, before, .. } => (*slot, Some(before), None),
            _ => return None,
        };
        for name in [slot.name(), slot.backup_name()] {
            let look = self.look_in_slot(slot, &name);
            let belongs = match &look {
                Ok(PathState::Absent) => true,
                Ok(look) if committed => before.is_some_and(|b| self.slot_holds(slot, look, b)),
                Ok(look) => after.is_some_and(|a| self.slot_holds(slot, look, a)),
                Err(_) => false,
            };
            if !belongs {
                return Some((slot, name));
            }
        }
        None
    }
}

/// Returns the inode of a directory entry, if it exists.
fn inode_at(at: DirEntryRef<'_>) -> Result<Option<Inode>, HostError> {
    match rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Inode::of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(system_error("failed to look at it")(error)),
    }
}

/// Returns whether two directory entries are the same file.
fn are_same_file(one: DirEntryRef<'_>, other: DirEntryRef<'_>) -> Result<bool, HostError> {
    let inode = inode_at(one)?;
    Ok(inode.is_some() && inode == inode_at(other)?)
}

const EDITED: &str = "you have changed it since";
const DELETED: &str = "you have deleted it since";
const GONE: &str = "its directory is gone";
const OCCUPIED: &str = "something of yours is there now";
