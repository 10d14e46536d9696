//! Staging directories inside the working tree. They are used for parts of the tree on another mount, because files cannot
//! be renamed between mounts. git ignores them.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use super::host_error::{HostError, system_error};
use super::host_fs::{DirEntryRef, HostFs};
use super::journal::InTreeDir;
use super::names::IN_TREE_DIR;
use super::transaction_log::TransactionDir;
use super::working_tree::{DIR_FLAGS, Parent, WorkingTree};

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::core::path::RepoPath;
use crate::platform::Mount;

/// The prefix of the files that record these directories.
const RECORD_PREFIX: &str = "inside-";

/// Records the location of a staging directory in the working tree before it is created, so that it is found after a crash.
pub(crate) fn record_in_tree_dir(
    fs: &HostFs,
    dir: &TransactionDir,
    number: usize,
    in_tree_dir: &InTreeDir,
    id: &str,
) -> Result<(), Errno> {
    let dir_fd = dir.open_dir()?;
    let file = fs.create_file(DirEntryRef::new(&dir_fd, format!("{RECORD_PREFIX}{number}").as_bytes()), 0o600)?;
    fs.write_all(&file, &serde_json::to_vec(&(in_tree_dir, id)).map_err(|_| Errno::INVAL)?)
}

/// Removes a transaction's staging directories in the working tree, with all files in them.
pub(crate) fn remove_in_tree_dirs(fs: &HostFs, dir: &TransactionDir, tree: &WorkingTree) -> Result<(), HostError> {
    let failed = system_error("failed to remove backups from the working tree");
    for entry in std::fs::read_dir(&dir.path).into_iter().flatten().flatten() {
        if !entry.file_name().as_bytes().starts_with(RECORD_PREFIX.as_bytes()) {
            continue;
        }
        let record = std::fs::read(entry.path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        // If writing the record was interrupted, no directory was created.
        let Some((in_tree_dir, id)): Option<(InTreeDir, String)> = record else { continue };
        let Ok(directory) = open_in_tree_dir(tree, &in_tree_dir) else { continue };
        let Ok(staging_parent) = rustix::fs::openat(&directory, IN_TREE_DIR, DIR_FLAGS, Mode::empty()) else {
            continue;
        };
        if let Ok(staging_dir) = rustix::fs::openat(&staging_parent, id.as_str(), DIR_FLAGS, Mode::empty()) {
            remove_contents(fs, &staging_dir).map_err(failed)?;
            fs.remove_dir(DirEntryRef::new(&staging_parent, id.as_bytes())).map_err(failed)?;
        }
        // Only `.`, `..` and `.gitignore` are left: no other transaction uses the directory.
        let names = rustix::fs::Dir::read_from(&staging_parent).map_err(failed)?.count();
        if names == 3 {
            let _ = fs.remove_file(DirEntryRef::new(&staging_parent, b".gitignore"));
            let _ = fs.remove_dir(DirEntryRef::new(&directory, IN_TREE_DIR.as_bytes()));
        }
    }
    Ok(())
}

/// Opens a directory of the working tree that contains staging directories.
pub(crate) fn open_in_tree_dir(tree: &WorkingTree, in_tree_dir: &InTreeDir) -> Result<OwnedFd, HostError> {
    let path = match in_tree_dir {
        InTreeDir::Root => return tree.open_root(),
        InTreeDir::Directory(path) => path,
    };
    let Parent::Open(parent) = tree.open_parent(path)? else { return Err(HostError::Stale) };
    rustix::fs::openat(parent, OsStr::from_bytes(path.file_name()), DIR_FLAGS, Mode::empty())
        .map_err(system_error("failed to open the directory"))
}

/// Finds the topmost directory above a path that is on the given mount.
pub(crate) fn find_topmost_dir(
    tree: &WorkingTree,
    mount: Mount,
    path: &RepoPath,
) -> Result<(InTreeDir, OwnedFd), HostError> {
    let stat_error = system_error("failed to inspect the directory");
    let root = tree.open_root()?;
    if Mount::from_fd(&root).map_err(stat_error)? == mount {
        return Ok((InTreeDir::Root, root));
    }
    let mut parents = Vec::new();
    let mut at = path.parent();
    while let Some(directory) = at {
        at = directory.parent();
        parents.push(directory);
    }
    for directory in parents.into_iter().rev() {
        let in_tree_dir = InTreeDir::Directory(directory);
        let Ok(opened) = open_in_tree_dir(tree, &in_tree_dir) else { break };
        if Mount::from_fd(&opened).map_err(stat_error)? == mount {
            return Ok((in_tree_dir, opened));
        }
    }
    Err(HostError::Stale)
}

/// Creates a staging directory in a directory of the working tree, with a `.gitignore` that excludes it.
pub(crate) fn create_in_tree_dir(fs: &HostFs, directory: &OwnedFd, id: &str) -> Result<OwnedFd, Errno> {
    match fs.create_dir(DirEntryRef::new(directory, IN_TREE_DIR.as_bytes()), 0o700) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let staging_parent = rustix::fs::openat(directory, IN_TREE_DIR, DIR_FLAGS, Mode::empty())?;
    match fs.create_file(DirEntryRef::new(&staging_parent, b".gitignore"), 0o600) {
        Ok(file) => fs.write_all(&file, b"*\n")?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    fs.create_dir(DirEntryRef::new(&staging_parent, id.as_bytes()), 0o700)?;
    rustix::fs::openat(&staging_parent, id, DIR_FLAGS, Mode::empty())
}

/// Removes the files and the empty directories in a directory.
pub(crate) fn remove_contents(fs: &HostFs, directory: &impl AsFd) -> Result<(), Errno> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let at = DirEntryRef::new(directory, name);
        match fs.remove_file(at) {
            Err(Errno::ISDIR | Errno::PERM) => fs.remove_dir(at)?,
            other => other?,
        }
    }
    Ok(())
}
