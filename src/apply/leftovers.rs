//! Removes the files of a transaction.

use super::cross_mount::{remove_contents, remove_in_tree_dirs};
use super::host_error::{HostError, system_error};
use super::host_fs::{DirEntryRef, HostFs};
use super::names::CONTENTS_DIR;
use super::transaction_log::TransactionDir;
use super::working_tree::{DIR_FLAGS, WorkingTree};

use rustix::fs::{CWD, Mode};
use rustix::io::Errno;

/// Removes a transaction's directory and its staging directories in the working tree.
pub(crate) fn remove_leftovers(fs: &HostFs, dir: &TransactionDir, tree: &WorkingTree) -> Result<(), HostError> {
    // The journal is removed first: without it, the remaining files do not count as an unfinished transaction.
    remove_journal(fs, dir).map_err(system_error("failed to remove the journal of an apply"))?;
    remove_in_tree_dirs(fs, dir, tree)?;
    remove_transaction_dir(fs, dir).map_err(system_error("failed to remove the directory of an apply"))
}

fn remove_journal(fs: &HostFs, dir: &TransactionDir) -> Result<(), Errno> {
    let dir_fd = dir.open_dir()?;
    match fs.remove_file(DirEntryRef::new(&dir_fd, b"journal")) {
        Ok(()) => fs.sync_fd(&dir_fd),
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove_transaction_dir(fs: &HostFs, dir: &TransactionDir) -> Result<(), Errno> {
    let dir_fd = dir.open_dir()?;
    for name in ["staged", CONTENTS_DIR] {
        match rustix::fs::openat(&dir_fd, name, DIR_FLAGS, Mode::empty()) {
            Ok(inner) => remove_contents(fs, &inner)?,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
        }
        fs.remove_dir(DirEntryRef::new(&dir_fd, name.as_bytes()))?;
    }
    remove_contents(fs, &dir_fd)?;
    let name = dir.path.file_name().map(|n| n.as_encoded_bytes().to_vec()).unwrap_or_default();
    let parent = rustix::fs::openat(CWD, dir.path.parent().unwrap_or(&dir.path), DIR_FLAGS, Mode::empty())?;
    fs.remove_dir(DirEntryRef::new(&parent, &name))
}
