//! git's lock on the index of the working tree, held from the first exchange to the end: no git command sees, or commits, a half.
//!
//! It is a second name of a file in the apply's folder, with the apply's id in it: so it is told from anybody else's lock by
//! inode and content, and its number is given to no other file as long as the folder is there.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode};
use rustix::io::Errno;

use super::applies::Folder;
use super::hostfs::{At, Disk};
use super::journal::Journal;
use super::transaction::Site;
use super::tree::{DIRECTORY, HostError, Inode, failed};

const INDEX: &str = "index";
pub(super) const INDEX_LOCK: &str = "index.lock";

fn content(id: &str) -> String {
    format!("airlock apply {id}\n")
}

/// Makes the file that will be git's lock, and keeps the index of now under a second name.
pub(super) fn stage(site: &Site, disk: &Disk, folder: &Folder, id: &str) -> Result<(), Errno> {
    let own = folder.open()?;
    let file = disk.create(At::new(&own, INDEX_LOCK.as_bytes()), 0o600)?;
    disk.fill(&file, content(id).as_bytes())?;
    let git = rustix::fs::openat(CWD, &site.git_dir, DIRECTORY, Mode::empty())?;
    match disk.link(At::new(&git, INDEX.as_bytes()), At::new(&own, INDEX.as_bytes())) {
        // Without it a changed index is asked about more often: no more than that.
        Ok(()) | Err(Errno::NOENT | Errno::PERM | Errno::NOTSUP | Errno::XDEV | Errno::MLINK) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Takes git's lock on the index; once more is no error.
pub(super) fn take(site: &Site, disk: &Disk, folder: &Folder, journal: &Journal) -> Result<(), HostError> {
    let lock = failed("failed to lock git's index");
    let own = folder.open().map_err(lock)?;
    let git = rustix::fs::openat(CWD, &site.git_dir, DIRECTORY, Mode::empty()).map_err(lock)?;
    let (from, to) = (At::new(&own, INDEX_LOCK.as_bytes()), At::new(&git, INDEX_LOCK.as_bytes()));
    let taken = match disk.link(from, to) {
        // A file system without hard links: nobody else has this content.
        Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::XDEV | Errno::MLINK | Errno::INVAL | Errno::NOENT) => {
            disk.create(to, 0o600).and_then(|file| disk.fill(&file, content(&journal.id).as_bytes()))
        }
        other => other,
    };
    match taken {
        Ok(()) => {}
        Err(Errno::EXIST) if is_ours(site, folder, journal) => return Ok(()),
        Err(Errno::EXIST) => return Err(HostError::Git(site.git_dir.join(INDEX_LOCK))),
        Err(error) => return Err(lock(error)),
    }
    disk.sync(&git).map_err(lock)
}

/// Tells whether git's lock is that of an apply.
fn is_ours(site: &Site, folder: &Folder, journal: &Journal) -> bool {
    if lock_content(site).is_none_or(|text| text != content(&journal.id)) {
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
fn lock_content(site: &Site) -> Option<String> {
    let path = site.git_dir.join(INDEX_LOCK);
    let small = path.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() < 100);
    small.then(|| std::fs::read_to_string(path).ok()).flatten()
}

/// Gives the id of the apply that git's lock is of; nothing if there is none of Airlock's.
#[must_use]
pub fn lock_owner(site: &Site) -> Option<String> {
    Some(lock_content(site)?.strip_prefix("airlock apply ")?.trim_end().to_owned())
}

/// Removes git's lock where it is that of an apply.
///
/// # Errors
/// What the system says.
pub fn unlock_index(site: &Site, disk: &Disk, folder: &Folder, journal: &Journal) -> Result<(), HostError> {
    if !is_ours(site, folder, journal) {
        return Ok(());
    }
    let failed = failed("failed to remove the lock on git's index");
    let git = rustix::fs::openat(CWD, &site.git_dir, DIRECTORY, Mode::empty()).map_err(failed)?;
    disk.remove(At::new(&git, INDEX_LOCK.as_bytes())).map_err(failed)
}
