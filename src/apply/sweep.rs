//! Removes what is left of an apply.

use std::os::fd::AsFd;

use rustix::fs::{CWD, Mode};
use rustix::io::Errno;

use super::applies::Folder;
use super::hostfs::{At, Disk};
use super::inside::remove_inside;
use super::transaction::CONTENTS;
use super::tree::{DIRECTORY, HostError, HostTree, failed};

/// Removes a folder of ours with all files in it, and what belongs to it inside the tree.
///
/// # Errors
/// What the system says.
pub fn sweep(disk: &Disk, folder: &Folder, tree: &HostTree) -> Result<(), HostError> {
    // The journal first: without it the rest is nothing that has to be brought to an end.
    forget(disk, folder).map_err(failed("failed to remove the journal of an apply"))?;
    remove_inside(disk, folder, tree)?;
    sweep_own(disk, folder).map_err(failed("failed to remove the folder of an apply"))
}

fn forget(disk: &Disk, folder: &Folder) -> Result<(), Errno> {
    let own = folder.open()?;
    match disk.remove(At::new(&own, b"journal")) {
        Ok(()) => disk.sync(&own),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

fn sweep_own(disk: &Disk, folder: &Folder) -> Result<(), Errno> {
    let own = folder.open()?;
    for name in ["slots", CONTENTS] {
        match rustix::fs::openat(&own, name, DIRECTORY, Mode::empty()) {
            Ok(inner) => empty(disk, &inner)?,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
        }
        disk.remove_directory(At::new(&own, name.as_bytes()))?;
    }
    empty(disk, &own)?;
    let name = folder.path.file_name().map(|n| n.as_encoded_bytes().to_vec()).unwrap_or_default();
    let above = rustix::fs::openat(CWD, folder.path.parent().unwrap_or(&folder.path), DIRECTORY, Mode::empty())?;
    disk.remove_directory(At::new(&above, &name))
}

/// Removes the files and the empty directories in a directory.
pub(super) fn empty(disk: &Disk, directory: &impl AsFd) -> Result<(), Errno> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let at = At::new(directory, name);
        match disk.remove(at) {
            Err(Errno::ISDIR | Errno::PERM) => disk.remove_directory(at)?,
            other => other?,
        }
    }
    Ok(())
}
