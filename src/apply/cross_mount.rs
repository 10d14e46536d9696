//! Staging directories inside the working tree. They are used for parts of the tree on another mount, because files cannot
//! be renamed between mounts. git ignores them.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use super::host_error::{HostError, system_error};
use super::host_fs::{DirEntryRef, HostFs};
use super::journal::InTreeDir;
use super::names::IN_TREE;
use super::transaction_log::TransactionDir;
use super::working_tree::{DIRECTORY, Mount, Parent, WorkingTree};

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::core::path::RepoPath;

/// The prefix of the files that record these directories.
const INSIDE: &str = "inside-";

/// Records the location of a staging directory in the working tree before it is created, so that it is found after a crash.
pub(crate) fn record_in_tree_dir(
    disk: &HostFs,
    folder: &TransactionDir,
    number: usize,
    inside: &InTreeDir,
    id: &str,
) -> Result<(), Errno> {
    let own = folder.open_dir()?;
    let file = disk.create_file(DirEntryRef::new(&own, format!("{INSIDE}{number}").as_bytes()), 0o600)?;
    disk.write_all(&file, &serde_json::to_vec(&(inside, id)).map_err(|_| Errno::INVAL)?)
}

/// Removes a transaction's staging directories in the working tree, with all files in them.
pub(crate) fn remove_in_tree_dirs(disk: &HostFs, folder: &TransactionDir, tree: &WorkingTree) -> Result<(), HostError> {
    let failed = system_error("failed to remove backups from the working tree");
    for entry in std::fs::read_dir(&folder.path).into_iter().flatten().flatten() {
        if !entry.file_name().as_bytes().starts_with(INSIDE.as_bytes()) {
            continue;
        }
        let noted = std::fs::read(entry.path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        // If writing the record was interrupted, no directory was created.
        let Some((inside, id)): Option<(InTreeDir, String)> = noted else { continue };
        let Ok(directory) = open_in_tree_dir(tree, &inside) else { continue };
        let Ok(own) = rustix::fs::openat(&directory, IN_TREE, DIRECTORY, Mode::empty()) else { continue };
        if let Ok(slots) = rustix::fs::openat(&own, id.as_str(), DIRECTORY, Mode::empty()) {
            remove_contents(disk, &slots).map_err(failed)?;
            disk.remove_dir(DirEntryRef::new(&own, id.as_bytes())).map_err(failed)?;
        }
        // Only `.`, `..` and `.gitignore` are left: no other transaction uses the directory.
        let names = rustix::fs::Dir::read_from(&own).map_err(failed)?.count();
        if names == 3 {
            let _ = disk.remove_file(DirEntryRef::new(&own, b".gitignore"));
            let _ = disk.remove_dir(DirEntryRef::new(&directory, IN_TREE.as_bytes()));
        }
    }
    Ok(())
}

/// Opens a directory of the working tree that contains staging directories.
pub(crate) fn open_in_tree_dir(tree: &WorkingTree, inside: &InTreeDir) -> Result<OwnedFd, HostError> {
    let path = match inside {
        InTreeDir::Root => return tree.open_root(),
        InTreeDir::Directory(path) => path,
    };
    let Parent::Open(parent) = tree.open_parent(path)? else { return Err(HostError::Stale) };
    rustix::fs::openat(parent, OsStr::from_bytes(path.file_name()), DIRECTORY, Mode::empty())
        .map_err(system_error("failed to open the directory"))
}

/// Finds the topmost directory above a path that is on the given mount.
pub(crate) fn find_topmost_dir(
    tree: &WorkingTree,
    mount: Mount,
    path: &RepoPath,
) -> Result<(InTreeDir, OwnedFd), HostError> {
    let look = system_error("failed to look at the directory");
    let root = tree.open_root()?;
    if Mount::of(&root).map_err(look)? == mount {
        return Ok((InTreeDir::Root, root));
    }
    let mut above = Vec::new();
    let mut at = path.parent();
    while let Some(directory) = at {
        at = directory.parent();
        above.push(directory);
    }
    for directory in above.into_iter().rev() {
        let inside = InTreeDir::Directory(directory);
        let Ok(opened) = open_in_tree_dir(tree, &inside) else { break };
        if Mount::of(&opened).map_err(look)? == mount {
            return Ok((inside, opened));
        }
    }
    Err(HostError::Stale)
}

/// Creates a staging directory in a directory of the working tree, with a `.gitignore` that excludes it.
pub(crate) fn create_in_tree_dir(disk: &HostFs, directory: &OwnedFd, id: &str) -> Result<OwnedFd, Errno> {
    match disk.create_dir(DirEntryRef::new(directory, IN_TREE.as_bytes()), 0o700) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let own = rustix::fs::openat(directory, IN_TREE, DIRECTORY, Mode::empty())?;
    match disk.create_file(DirEntryRef::new(&own, b".gitignore"), 0o600) {
        Ok(file) => disk.write_all(&file, b"*\n")?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    disk.create_dir(DirEntryRef::new(&own, id.as_bytes()), 0o700)?;
    rustix::fs::openat(&own, id, DIRECTORY, Mode::empty())
}

/// Removes the files and the empty directories in a directory.
pub(crate) fn remove_contents(disk: &HostFs, directory: &impl AsFd) -> Result<(), Errno> {
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let at = DirEntryRef::new(directory, name);
        match disk.remove_file(at) {
            Err(Errno::ISDIR | Errno::PERM) => disk.remove_dir(at)?,
            other => other?,
        }
    }
    Ok(())
}
