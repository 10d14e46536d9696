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
use crate::platform::permission_bits;

/// Maximum number of lost races before an operation fails.
const MAX_RETRIES: usize = 1000;

/// State that executing operations needs.
pub(crate) struct OpExecutor<'a> {
    pub(crate) fs: &'a HostFs,
    pub(crate) tree: &'a WorkingTree,
    pub(crate) staging: &'a Staging,
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
    fn is_unmodified_file(&self, staged: StagedFile, state: &PathState, identity: &FileIdentity) -> bool {
        let PathState::File(observed) = state else { return false };
        let same_file = !self.staging.has_stable_inodes(staged) || self.is_same_inode(observed.inode, identity.inode);
        (&observed.version, observed.mode) == (&identity.version, identity.mode) && same_file
    }

    /// Returns whether a staging entry is the given file, regardless of its current content.
    fn has_staged_file(&self, staged: StagedFile, name: &str, identity: &FileIdentity) -> Result<bool, HostError> {
        // Without stable inode numbers, files are not exchanged either, so an existing entry is always the staged file.
        let is_expected = |inode| !self.staging.has_stable_inodes(staged) || self.is_same_inode(inode, identity.inode);
        Ok(inode_at(self.staging.entry_ref(staged, name))?.is_some_and(is_expected))
    }

    fn is_entry_absent(&self, staged: StagedFile, name: &str) -> Result<bool, HostError> {
        Ok(inode_at(self.staging.entry_ref(staged, name))?.is_none())
    }

    /// Returns whether a path still has the given file, unmodified. Reads the content only if everything else matches.
    fn still_has_file(
        &self,
        at: DirEntryRef<'_>,
        staged: StagedFile,
        identity: &FileIdentity,
    ) -> Result<bool, HostError> {
        let stat = match rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(error) => return Err(system_error("failed to read the metadata")(error)),
        };
        let same =
            !self.staging.has_stable_inodes(staged) || self.is_same_inode(Inode::from_stat(&stat), identity.inode);
        if !same || permission_bits(&stat) != identity.mode {
            return Ok(false);
        }
        match observe_in(at.directory, at.name) {
            Ok(state) => Ok(self.is_unmodified_file(staged, &state, identity)),
            Err(HostError::Stale) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Observes a staging entry. Another process may be writing to it.
    fn observe_staged(&self, staged: StagedFile, name: &str) -> Result<PathState, HostError> {
        let at = self.staging.entry_ref(staged, name);
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
    pub(crate) fn execute_op(&self, op: &Op) -> Result<(), HostError> {
        match op {
            Op::MakeDirectory { path, staged } => self.create_directory(path, *staged),
            Op::RemoveDirectory { path, staged } => {
                self.stage_directory(path, *staged)?;
                self.remove_directory(path)
            }
            Op::CaseRename { from, to } => self.rename_case(from, to),
            Op::Delete { path, staged, before } => self.delete_file(path, *staged, before),
            Op::Write { path, staged, before, after, .. } => {
                let parent = self.open_parent_dir(path)?;
                let at = DirEntryRef::new(&parent, path.file_name());
                match before {
                    Some(before) if self.staging.can_exchange(*staged) => {
                        self.exchange_files(at, *staged, before, after)
                    }
                    Some(before) => {
                        self.move_to_backup_name(at, *staged, before)?;
                        self.write_new_file(at, *staged, after)
                    }
                    None => self.write_new_file(at, *staged, after),
                }
            }
        }
    }

    fn create_directory(&self, path: &RepoPath, staged: Option<StagedFile>) -> Result<(), HostError> {
        let create_error = system_error("failed to create the directory");
        let parent = self.open_parent_dir(path)?;
        let at = DirEntryRef::new(&parent, path.file_name());
        let result = match staged {
            None => self.fs.create_dir(at, 0o777),
            Some(staged) => match self.move_to_free_name(self.staging.entry_ref(staged, &staged.file_name()), at) {
                Err(Errno::NOENT) => Err(Errno::EXIST),
                other => other,
            },
        };
        match result {
            Err(Errno::EXIST) if observe_in(&parent, at.name)? == PathState::Directory => Ok(()),
            Err(Errno::EXIST) => Err(HostError::Stale),
            other => other.map_err(create_error),
        }
    }

    /// Stages a copy of a directory that is to be removed, if the staged one was already used to restore the directory.
    fn stage_directory(&self, path: &RepoPath, staged: StagedFile) -> Result<(), HostError> {
        if !self.is_entry_absent(staged, &staged.file_name())? {
            return Ok(());
        }
        let Parent::Open(parent) = self.tree.open_parent(path)? else { return Ok(()) };
        let at = DirEntryRef::new(&parent, path.file_name());
        match inode_at(at)? {
            Some(_) => self.staging.stage_directory(staged, at, self.fs, self.tree),
            None => Ok(()),
        }
    }

    fn remove_directory(&self, path: &RepoPath) -> Result<(), HostError> {
        let Parent::Open(parent) = self.tree.open_parent(path)? else { return Ok(()) };
        match self.fs.remove_dir(DirEntryRef::new(&parent, path.file_name())) {
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
        self.fs.rename_entry(old, new, Rename::Plain).map_err(system_error("failed to rename the file"))
    }

    fn exchange_files(
        &self,
        at: DirEntryRef<'_>,
        staged: StagedFile,
        before: &FileIdentity,
        after: &FileIdentity,
    ) -> Result<(), HostError> {
        let name = staged.file_name();
        let staged_entry = self.staging.entry_ref(staged, &name);
        // Otherwise the exchange was done before an interruption. The displaced file is inspected in both cases.
        if self.has_staged_file(staged, &name, after)? {
            // Checked before the exchange, so that a path that has changed is not touched.
            if !self.still_has_file(at, staged, before)? {
                return Err(HostError::Stale);
            }
            match self.fs.rename_entry(staged_entry, at, Rename::Exchange) {
                Err(Errno::NOENT) => return Err(HostError::Stale),
                other => other.map_err(system_error("failed to move the new file into place"))?,
            }
        }
        match self.observe_staged(staged, &name) {
            Ok(displaced) if self.is_unmodified_file(staged, &displaced, before) => {
                self.fs.touch_entry(at).map_err(system_error("failed to set the modification time"))
            }
            // Another process replaced the file, or is writing to it.
            _ => {
                self.resolve_race(at, staged, after)?;
                Err(HostError::Stale)
            }
        }
    }

    /// Restores the newest file to a path, after a staged file displaced one that was not expected.
    fn resolve_race(&self, at: DirEntryRef<'_>, staged: StagedFile, ours: &FileIdentity) -> Result<(), HostError> {
        let name = staged.file_name();
        let staged_entry = self.staging.entry_ref(staged, &name);
        // The file that the last exchange put at the path. If the next exchange displaces that same file, no other process
        // has changed the path in between.
        let mut placed: Option<Inode> = None;
        for _ in 0..MAX_RETRIES {
            let incoming = inode_at(staged_entry)?;
            match self.fs.rename_entry(staged_entry, at, Rename::Exchange) {
                Ok(()) => {}
                // The path was deleted in between. The displaced file is still restored.
                Err(Errno::NOENT) => match self.move_to_free_name(staged_entry, at) {
                    Ok(()) => return Ok(()),
                    Err(Errno::EXIST) => continue,
                    Err(error) => return Err(system_error("failed to restore the previous file")(error)),
                },
                Err(error) => return Err(system_error("failed to restore the previous file")(error)),
            }
            let intact = match placed {
                // The staged file may have been opened and written to.
                None => {
                    matches!(self.observe_staged(staged, &name), Ok(look) if self.is_unmodified_file(staged, &look, ours))
                }
                Some(placed) => inode_at(staged_entry)? == Some(placed),
            };
            if intact {
                self.touch_entry(at);
                return Ok(());
            }
            // The file in the staging entry is newer than the file at the path.
            placed = incoming.or(placed);
        }
        Err(HostError::Stale)
    }

    /// Moves the file at a path to its backup name, if files cannot be exchanged.
    fn move_to_backup_name(
        &self,
        at: DirEntryRef<'_>,
        staged: StagedFile,
        before: &FileIdentity,
    ) -> Result<(), HostError> {
        self.move_to_backup(at, staged, &staged.backup_name(), before)
    }

    /// Moves a file out of the tree, and back if it is not the expected file.
    fn move_to_backup(
        &self,
        at: DirEntryRef<'_>,
        staged: StagedFile,
        name: &str,
        expected: &FileIdentity,
    ) -> Result<(), HostError> {
        let to = self.staging.entry_ref(staged, name);
        // Otherwise the file was moved before an interruption. The moved file is inspected in both cases.
        if self.is_entry_absent(staged, name)? {
            if !self.still_has_file(at, staged, expected)? {
                return Err(HostError::Stale);
            }
            match self.move_to_free_name(at, to) {
                Err(Errno::NOENT) => return Err(HostError::Stale),
                other => other.map_err(system_error("failed to move the file to the backup"))?,
            }
        } else if are_same_file(at, to)? {
            self.fs.remove_file(at).map_err(system_error("failed to move the file to the backup"))?;
        }
        if matches!(self.observe_staged(staged, name), Ok(moved) if self.is_unmodified_file(staged, &moved, expected)) {
            return Ok(());
        }
        match self.move_to_free_name(to, at) {
            // A newer file is already at the path, so the moved file is kept as the backup.
            Ok(()) | Err(Errno::EXIST) => Err(HostError::Stale),
            Err(error) => Err(system_error("failed to restore the previous file")(error)),
        }
    }

    fn write_new_file(&self, at: DirEntryRef<'_>, staged: StagedFile, after: &FileIdentity) -> Result<(), HostError> {
        let name = staged.file_name();
        if !self.has_staged_file(staged, &name, after)? {
            return Ok(());
        }
        match self.move_to_free_name(self.staging.entry_ref(staged, &name), at) {
            Err(Errno::EXIST | Errno::NOENT) => return Err(HostError::Stale),
            other => other.map_err(system_error("failed to move the new file into place"))?,
        }
        self.fs.touch_entry(at).map_err(system_error("failed to set the modification time"))
    }

    fn delete_file(&self, path: &RepoPath, staged: StagedFile, before: &FileIdentity) -> Result<(), HostError> {
        let name = staged.file_name();
        match self.tree.open_parent(path)? {
            Parent::Open(parent) => {
                self.move_to_backup(DirEntryRef::new(&parent, path.file_name()), staged, &name, before)
            }
            // The file was deleted, and its directory removed, before an interruption.
            _ if matches!(self.observe_staged(staged, &name), Ok(look) if self.is_unmodified_file(staged, &look, before)) => {
                Ok(())
            }
            _ => Err(HostError::Stale),
        }
    }

    /// Moves a file or directory to a name that does not exist.
    fn move_to_free_name(&self, from: DirEntryRef<'_>, to: DirEntryRef<'_>) -> Result<(), Errno> {
        match self.fs.rename_entry(from, to, Rename::NoReplace) {
            Err(Errno::INVAL | Errno::NOSYS) => {}
            other => return other,
        }
        // The file system does not support `RENAME_NOREPLACE`. A hard link also fails if the target exists.
        match self.fs.hard_link(from, to) {
            Ok(()) => return self.fs.remove_file(from),
            // The file system does not support hard links, such as FAT, or the entry is a directory.
            Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => {}
            // Interrupted between the two calls: the file already has both names.
            Err(Errno::EXIST) if are_same_file(from, to).unwrap_or(false) => return self.fs.remove_file(from),
            Err(error) => return Err(error),
        }
        match observe_in(to.directory, to.name) {
            Ok(PathState::Absent) => self.fs.rename_entry(from, to, Rename::Plain),
            _ => Err(Errno::EXIST),
        }
    }

    /// Reverts the executed part of an operation.
    ///
    /// # Errors
    /// The system's error; the operation can be reverted again.
    pub(crate) fn revert_op(&self, op: &Op) -> Result<RevertOutcome, HostError> {
        match op {
            Op::MakeDirectory { path, .. } => {
                self.remove_directory(path)?;
                Ok(RevertOutcome::Restored)
            }
            Op::RemoveDirectory { path, staged } => self.restore_directory(path, *staged),
            Op::CaseRename { from, to } => {
                let Parent::Open(_) = self.tree.open_parent(to)? else { return Ok(RevertOutcome::NotApplied) };
                match self.rename_case(to, from) {
                    Ok(()) => Ok(RevertOutcome::Restored),
                    Err(HostError::Stale) => Ok(RevertOutcome::Skipped(GONE)),
                    Err(error) => Err(error),
                }
            }
            Op::Delete { path, staged, .. } => {
                let name = staged.file_name();
                if self.is_entry_absent(*staged, &name)? {
                    return Ok(RevertOutcome::NotApplied);
                }
                self.restore_backup(path, self.staging.entry_ref(*staged, &name))
            }
            Op::Write { staged, before: None, after, moved_from: Some(from), .. }
                if !self.has_staged_file(*staged, &staged.file_name(), after)?
                    && !matches!(self.tree.classify_path(from)?, PathState::File(_)) =>
            {
                Ok(RevertOutcome::Skipped(SOURCE_GONE))
            }
            Op::Write { path, staged, before: None, after, .. } => self.revert_write(path, *staged, after),
            Op::Write { path, staged, before: Some(_), after, .. } if self.staging.can_exchange(*staged) => {
                self.revert_exchange(path, *staged, after)
            }
            Op::Write { path, staged, before: Some(_), after, .. } => {
                let name = staged.backup_name();
                if self.is_entry_absent(*staged, &name)? {
                    return Ok(RevertOutcome::NotApplied);
                }
                if let RevertOutcome::Skipped(why) = self.revert_write(path, *staged, after)? {
                    return Ok(RevertOutcome::Skipped(why));
                }
                self.restore_backup(path, self.staging.entry_ref(*staged, &name))
            }
        }
    }

    fn restore_directory(&self, path: &RepoPath, staged: StagedFile) -> Result<RevertOutcome, HostError> {
        let restore_error = system_error("failed to restore the directory");
        let Parent::Open(parent) = self.tree.open_parent(path)? else { return Ok(RevertOutcome::Skipped(GONE)) };
        let at = DirEntryRef::new(&parent, path.file_name());
        match observe_in(&parent, at.name)? {
            PathState::Directory => return Ok(RevertOutcome::NotApplied),
            PathState::Absent => {}
            _ => return Ok(RevertOutcome::Skipped(OCCUPIED)),
        }
        match self.move_to_free_name(self.staging.entry_ref(staged, &staged.file_name()), at) {
            Ok(()) => Ok(RevertOutcome::Restored),
            // The directory was restored before and has been removed by someone.
            Err(Errno::NOENT) => self.fs.create_dir(at, 0o777).map(|()| RevertOutcome::Restored).map_err(restore_error),
            Err(error) => Err(restore_error(error)),
        }
    }

    /// Moves a backup to its path.
    fn restore_backup(&self, path: &RepoPath, from: DirEntryRef<'_>) -> Result<RevertOutcome, HostError> {
        let Parent::Open(parent) = self.tree.open_parent(path)? else { return Ok(RevertOutcome::Skipped(GONE)) };
        let at = DirEntryRef::new(&parent, path.file_name());
        match self.move_to_free_name(from, at) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Ok(RevertOutcome::Skipped(OCCUPIED)),
            Err(error) => return Err(system_error("failed to restore the backup")(error)),
        }
        self.touch_entry(at);
        Ok(RevertOutcome::Restored)
    }

    /// Sets the modification time to now, so that `make` notices the file. A failure is ignored: a file of another user may
    /// not permit it, and must be restored nevertheless.
    fn touch_entry(&self, at: DirEntryRef<'_>) {
        let _ = self.fs.touch_entry(at);
    }

    /// Moves a file that an operation wrote back to its staging entry.
    fn revert_write(
        &self,
        path: &RepoPath,
        staged: StagedFile,
        after: &FileIdentity,
    ) -> Result<RevertOutcome, HostError> {
        let name = staged.file_name();
        let Parent::Open(parent) = self.tree.open_parent(path)? else {
            let untouched = self.has_staged_file(staged, &name, after)?;
            return Ok(if untouched { RevertOutcome::NotApplied } else { RevertOutcome::Skipped(GONE) });
        };
        let at = DirEntryRef::new(&parent, path.file_name());
        if self.has_staged_file(staged, &name, after)? {
            // Interrupted while the file had both names.
            if self.staging.has_stable_inodes(staged) && are_same_file(at, self.staging.entry_ref(staged, &name))? {
                self.fs.remove_file(at).map_err(system_error("failed to remove the new file"))?;
                return Ok(RevertOutcome::Restored);
            }
            return Ok(RevertOutcome::NotApplied);
        }
        if inode_at(at)?.is_none() {
            return Ok(RevertOutcome::Restored);
        }
        match self.move_to_backup(at, staged, &name, after) {
            Ok(()) => Ok(RevertOutcome::Restored),
            Err(HostError::Stale) => Ok(RevertOutcome::Skipped(EDITED)),
            Err(error) => Err(error),
        }
    }

    fn revert_exchange(
        &self,
        path: &RepoPath,
        staged: StagedFile,
        after: &FileIdentity,
    ) -> Result<RevertOutcome, HostError> {
        let name = staged.file_name();
        if self.has_staged_file(staged, &name, after)? {
            return Ok(RevertOutcome::NotApplied);
        }
        let Parent::Open(parent) = self.tree.open_parent(path)? else { return Ok(RevertOutcome::Skipped(GONE)) };
        let at = DirEntryRef::new(&parent, path.file_name());
        if !self.still_has_file(at, staged, after)? {
            let is_gone = inode_at(at)?.is_none();
            return Ok(RevertOutcome::Skipped(if is_gone { DELETED } else { EDITED }));
        }
        match self.fs.rename_entry(self.staging.entry_ref(staged, &name), at, Rename::Exchange) {
            Err(Errno::NOENT) => return Ok(RevertOutcome::Skipped(DELETED)),
            other => other.map_err(system_error("failed to restore the previous file"))?,
        }
        if matches!(self.observe_staged(staged, &name), Ok(look) if self.is_unmodified_file(staged, &look, after)) {
            self.touch_entry(at);
            return Ok(RevertOutcome::Restored);
        }
        // The file was saved during the exchange. The saved file is the newest; the file that it would have replaced is kept
        // as the backup.
        self.restore_newest(at, staged)?;
        Ok(RevertOutcome::Skipped(EDITED))
    }

    /// Exchanges the path and the staging entry until the displaced file is the one that was last put at the path.
    fn restore_newest(&self, at: DirEntryRef<'_>, staged: StagedFile) -> Result<(), HostError> {
        let name = staged.file_name();
        for _ in 0..MAX_RETRIES {
            let placed = inode_at(at)?;
            match self.fs.rename_entry(self.staging.entry_ref(staged, &name), at, Rename::Exchange) {
                Err(Errno::NOENT) => return Ok(()),
                other => other.map_err(system_error("failed to restore the newest file"))?,
            }
            if placed.is_some() && inode_at(self.staging.entry_ref(staged, &name))? == placed {
                return Ok(());
            }
        }
        Err(HostError::Stale)
    }

    /// Finds a file of the user that exists only in an operation's staging entry: a late edit, or a file that a reverted
    /// operation had to move away. `committed` determines which file is expected there.
    pub(crate) fn unexpected_backup(&self, op: &Op, committed: bool) -> Option<(StagedFile, String)> {
        let (staged, before, after) = match op {
            Op::Write { staged, before, after, .. } => (*staged, before.as_ref(), Some(after)),
            Op::Delete { staged, before, .. } => (*staged, Some(before), None),
            _ => return None,
        };
        for name in [staged.file_name(), staged.backup_name()] {
            let state = self.observe_staged(staged, &name);
            let belongs = match &state {
                Ok(PathState::Absent) => true,
                Ok(state) if committed => before.is_some_and(|b| self.is_unmodified_file(staged, state, b)),
                Ok(state) => after.is_some_and(|a| self.is_unmodified_file(staged, state, a)),
                Err(_) => false,
            };
            if !belongs {
                return Some((staged, name));
            }
        }
        None
    }
}

/// Returns the inode of a directory entry, if it exists.
fn inode_at(at: DirEntryRef<'_>) -> Result<Option<Inode>, HostError> {
    match rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(Inode::from_stat(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(system_error("failed to read the metadata")(error)),
    }
}

/// Returns whether two directory entries are the same file.
fn are_same_file(one: DirEntryRef<'_>, other: DirEntryRef<'_>) -> Result<bool, HostError> {
    let inode = inode_at(one)?;
    Ok(inode.is_some() && inode == inode_at(other)?)
}

const EDITED: &str = "it has been changed since";
const DELETED: &str = "it has been deleted since";
const GONE: &str = "its directory no longer exists";
const OCCUPIED: &str = "another file or directory now exists at this path";
const SOURCE_GONE: &str = "the file that it was moved from no longer exists";
