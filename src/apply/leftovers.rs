//! Removes the files of a transaction.

use super::cross_mount::{remove_contents, remove_in_tree_dirs};
use super::host_error::{HostError, system_error};
use super::host_fs::{DirEntryRef, HostFs};
use super::names::CONTENTS;
use super::transaction_log::TransactionDir;
use super::working_tree::{DIRECTORY, WorkingTree};

use rustix::fs::{CWD, Mode};
use rustix::io::Errno;

/// Removes a transaction's directory and its staging directories in the working tree.
pub fn remove_leftovers(disk: &HostFs, folder: &TransactionDir, tree: &WorkingTree) -> Result<(), HostError> {
    // The journal is removed first: without it, the remaining files do not count as an unfinished transaction.
    remove_records(disk, folder).map_err(system_error("failed to remove the journal of an apply"))?;
    remove_in_tree_dirs(disk, folder, tree)?;
    remove_staging(disk, folder).map_err(system_error("failed to remove the folder of an apply"))
}

fn remove_records(disk: &HostFs, folder: &TransactionDir) -> Result<(), Errno> {
    let own = folder.open_dir()?;
    match disk.remove_file(DirEntryRef::new(&own, b"journal")) {
        Ok(()) => disk.sync_fd(&own),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove_staging(disk: &HostFs, folder: &TransactionDir) -> Result<(), Errno> {
    let own = folder.open_dir()?;
    for name in ["slots", CONTENTS] {
        match rustix::fs::openat(&own, name, DIRECTORY, Mode::empty()) {
            Ok(inner) => remove_contents(disk, &inner)?,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
        }
        disk.remove_dir(DirEntryRef::new(&own, name.as_bytes()))?;
    }
    remove_contents(disk, &own)?;
    let name = folder.path.file_name().map(|n| n.as_encoded_bytes().to_vec()).unwrap_or_default();
    let above = rustix::fs::openat(CWD, folder.path.parent().unwrap_or(&folder.path), DIRECTORY, Mode::empty())?;
    disk.remove_dir(DirEntryRef::new(&above, &name))
}
