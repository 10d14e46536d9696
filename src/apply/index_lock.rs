//! git's lock on the index of the working tree, held from the first exchange to the end: no git command sees, or commits, a half.
//!
//! It is a second name of a file in the apply's folder, with the apply's id in it: so it is told from anybody else's lock by
//! inode and content, and its number is given to no other file as long as the folder is there.

use std::path::Path;

use super::host_error::{HostError, system_error};
use super::host_fs::{DirEntryRef, HostFs};
use super::journal::Journal;
use super::names::INDEX_LOCK;
use super::report::ApplyTarget;
use super::transaction_log::TransactionDir;
use super::working_tree::{DIRECTORY, Inode};

use rustix::fs::{AtFlags, CWD, Mode};
use rustix::io::Errno;

const INDEX: &str = "index";

fn lock_text(id: &str) -> String {
    format!("airlock apply {id}\n")
}

/// Creates the file that will be git's lock, and keeps the index of now under a second name.
pub(crate) fn stage_lock(site: &ApplyTarget, disk: &HostFs, folder: &TransactionDir, id: &str) -> Result<(), Errno> {
    let own = folder.open_dir()?;
    let file = disk.create_file(DirEntryRef::new(&own, INDEX_LOCK.as_bytes()), 0o600)?;
    disk.write_all(&file, lock_text(id).as_bytes())?;
    let git = rustix::fs::openat(CWD, &site.git_dir, DIRECTORY, Mode::empty())?;
    match disk.hard_link(DirEntryRef::new(&git, INDEX.as_bytes()), DirEntryRef::new(&own, INDEX.as_bytes())) {
        // Without it a changed index is asked about more often: no more than that.
        Ok(()) | Err(Errno::NOENT | Errno::PERM | Errno::NOTSUP | Errno::XDEV | Errno::MLINK) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes git's lock on the index; once more is no error.
pub(crate) fn take_lock(
    site: &ApplyTarget,
    disk: &HostFs,
    folder: &TransactionDir,
    journal: &Journal,
) -> Result<(), HostError> {
    let lock = system_error("failed to lock git's index");
    let own = folder.open_dir().map_err(lock)?;
    let git = rustix::fs::openat(CWD, &site.git_dir, DIRECTORY, Mode::empty()).map_err(lock)?;
    let (from, to) = (DirEntryRef::new(&own, INDEX_LOCK.as_bytes()), DirEntryRef::new(&git, INDEX_LOCK.as_bytes()));
    let taken = match disk.hard_link(from, to) {
        // A file system without hard links: nobody else has this content.
        Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::XDEV | Errno::MLINK | Errno::INVAL | Errno::NOENT) => {
            disk.create_file(to, 0o600).and_then(|file| disk.write_all(&file, lock_text(&journal.id).as_bytes()))
        }
        other => other,
    };
    match taken {
        Ok(()) => {}
        Err(Errno::EXIST) if is_ours(site, folder, journal) => return Ok(()),
        Err(Errno::EXIST) => return Err(HostError::Git(site.git_dir.join(INDEX_LOCK))),
        Err(error) => return Err(lock(error)),
    }
    disk.sync_fd(&git).map_err(lock)
}

/// Returns whether git's lock is that of an apply.
fn is_ours(site: &ApplyTarget, folder: &TransactionDir, journal: &Journal) -> bool {
    if read_lock_text(site).is_none_or(|text| text != lock_text(&journal.id)) {
        return false;
    }
    let inode = |path: &Path| {
        rustix::fs::statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW).ok().map(|stat| (Inode::of(&stat), stat.st_nlink))
    };
    match (inode(&site.git_dir.join(INDEX_LOCK)), inode(&folder.path.join(INDEX_LOCK))) {
        (Some((there, _)), Some((here, names))) => there == here || names == 1,
        (there, None) => there.is_some(),
        (None, _) => false,
    }
}

/// Reads git's lock, if it is a small file.
fn read_lock_text(site: &ApplyTarget) -> Option<String> {
    let path = site.git_dir.join(INDEX_LOCK);
    let small = path.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() < 100);
    small.then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// Returns the id of the apply that git's lock is of; nothing if there is none of Airlock's.
#[must_use]
pub fn lock_owner(site: &ApplyTarget) -> Option<String> {
    Some(read_lock_text(site)?.strip_prefix("airlock apply ")?.trim_end().to_owned())
}

/// Removes git's lock where it is that of an apply.
pub fn unlock_index(
    site: &ApplyTarget,
    disk: &HostFs,
    folder: &TransactionDir,
    journal: &Journal,
) -> Result<(), HostError> {
    if !is_ours(site, folder, journal) {
        return Ok(());
    }
    let failed = system_error("failed to remove the lock on git's index");
    let git = rustix::fs::openat(CWD, &site.git_dir, DIRECTORY, Mode::empty()).map_err(failed)?;
    disk.remove_file(DirEntryRef::new(&git, INDEX_LOCK.as_bytes())).map_err(failed)
}
