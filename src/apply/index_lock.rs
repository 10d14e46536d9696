//! git's lock on the index of the working tree. It is held from before the first operation until the transaction finishes,
//! so that no git command sees or commits a partial state.
//!
//! The lock is a hard link to a file in the transaction's directory, which contains the transaction's ID. It is therefore
//! distinguished from other locks by inode and content, and its inode number is not reused while that directory exists.

use std::path::Path;

use super::host_error::{HostError, system_error};
use super::host_fs::{DirEntryRef, HostFs};
use super::journal::Journal;
use super::names::INDEX_LOCK;
use super::report::ApplyTarget;
use super::transaction_log::TransactionDir;
use super::working_tree::{DIR_FLAGS, Inode};

use rustix::fs::{AtFlags, CWD, Mode};
use rustix::io::Errno;

const INDEX: &str = "index";

fn lock_text(id: &str) -> String {
    format!("airlock apply {id}\n")
}

/// Creates the file that is later linked as git's lock, and a hard link to the current index.
pub(crate) fn stage_lock(target: &ApplyTarget, fs: &HostFs, dir: &TransactionDir, id: &str) -> Result<(), Errno> {
    let dir_fd = dir.open_dir()?;
    let file = fs.create_file(DirEntryRef::new(&dir_fd, INDEX_LOCK.as_bytes()), 0o600)?;
    fs.write_all(&file, lock_text(id).as_bytes())?;
    let git = rustix::fs::openat(CWD, &target.git_dir, DIR_FLAGS, Mode::empty())?;
    match fs.hard_link(DirEntryRef::new(&git, INDEX.as_bytes()), DirEntryRef::new(&dir_fd, INDEX.as_bytes())) {
        // Without the hard link, recovery requires confirmation more often after the index has changed. That is the only
        // effect.
        Ok(()) | Err(Errno::NOENT | Errno::PERM | Errno::NOTSUP | Errno::XDEV | Errno::MLINK) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes git's lock on the index. Succeeds if the transaction already holds it.
pub(crate) fn take_lock(
    target: &ApplyTarget,
    fs: &HostFs,
    dir: &TransactionDir,
    journal: &Journal,
) -> Result<(), HostError> {
    let lock = system_error("failed to lock git's index");
    let dir_fd = dir.open_dir().map_err(lock)?;
    let git = rustix::fs::openat(CWD, &target.git_dir, DIR_FLAGS, Mode::empty()).map_err(lock)?;
    let (from, to) = (DirEntryRef::new(&dir_fd, INDEX_LOCK.as_bytes()), DirEntryRef::new(&git, INDEX_LOCK.as_bytes()));
    let taken = match fs.hard_link(from, to) {
        // The file system does not support hard links. The content is unique to this transaction.
        Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::XDEV | Errno::MLINK | Errno::INVAL | Errno::NOENT) => {
            fs.create_file(to, 0o600).and_then(|file| fs.write_all(&file, lock_text(&journal.id).as_bytes()))
        }
        other => other,
    };
    match taken {
        Ok(()) => {}
        Err(Errno::EXIST) if is_own_lock(target, dir, journal) => return Ok(()),
        Err(Errno::EXIST) => return Err(HostError::IndexLocked(target.git_dir.join(INDEX_LOCK))),
        Err(error) => return Err(lock(error)),
    }
    fs.sync_fd(&git).map_err(lock)
}

/// Returns whether git's lock belongs to a transaction.
fn is_own_lock(target: &ApplyTarget, dir: &TransactionDir, journal: &Journal) -> bool {
    if read_lock_text(target).is_none_or(|text| text != lock_text(&journal.id)) {
        return false;
    }
    let inode = |path: &Path| {
        rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)
            .ok()
            .map(|stat| (Inode::from_stat(&stat), stat.st_nlink))
    };
    match (inode(&target.git_dir.join(INDEX_LOCK)), inode(&dir.path.join(INDEX_LOCK))) {
        (Some((git_lock, _)), Some((own_lock, link_count))) => git_lock == own_lock || link_count == 1,
        (git_lock, None) => git_lock.is_some(),
        (None, _) => false,
    }
}

/// Reads the content of git's lock, if it is a small file.
fn read_lock_text(target: &ApplyTarget) -> Option<String> {
    let path = target.git_dir.join(INDEX_LOCK);
    let small = path.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() < 100);
    small.then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// Returns the ID of the transaction that holds git's lock, if it is one of Airlock's.
#[must_use]
pub(crate) fn lock_owner(target: &ApplyTarget) -> Option<String> {
    Some(read_lock_text(target)?.strip_prefix("airlock apply ")?.trim_end().to_owned())
}

/// Removes git's lock if it belongs to the transaction.
pub fn unlock_index(
    target: &ApplyTarget,
    fs: &HostFs,
    dir: &TransactionDir,
    journal: &Journal,
) -> Result<(), HostError> {
    if !is_own_lock(target, dir, journal) {
        return Ok(());
    }
    let failed = system_error("failed to remove the lock on git's index");
    let git = rustix::fs::openat(CWD, &target.git_dir, DIR_FLAGS, Mode::empty()).map_err(failed)?;
    fs.remove_file(DirEntryRef::new(&git, INDEX_LOCK.as_bytes())).map_err(failed)
}
