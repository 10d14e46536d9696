//! Folders for slots inside the working tree: for a part of it that is mounted from elsewhere, since nothing can be renamed from
//! one mount to another. git takes them for ignored.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::applies::Folder;
use super::hostfs::{At, Disk};
use super::journal::Inside;
use super::sweep::empty;
use super::tree::{DIRECTORY, HostError, HostTree, Mount, Parent, failed};
use crate::path::RepoPath;

/// Their name.
pub(super) const IN_TREE: &str = ".airlock";
/// Begins the names of the notes on them.
const INSIDE: &str = "inside-";

/// Notes where a folder for slots is made in the tree, so that it is found if this goes no further.
pub(super) fn note_inside(disk: &Disk, folder: &Folder, number: usize, inside: &Inside, id: &str) -> Result<(), Errno> {
    let own = folder.open()?;
    let file = disk.create(At::new(&own, format!("{INSIDE}{number}").as_bytes()), 0o600)?;
    disk.fill(&file, &serde_json::to_vec(&(inside, id)).map_err(|_| Errno::INVAL)?)
}

/// Removes the folders of slots that an apply has inside the tree, with all that is in them.
pub(super) fn remove_inside(disk: &Disk, folder: &Folder, tree: &HostTree) -> Result<(), HostError> {
    let failed = failed("failed to remove backups from the working tree");
    for entry in std::fs::read_dir(&folder.path).into_iter().flatten().flatten() {
        if !entry.file_name().as_bytes().starts_with(INSIDE.as_bytes()) {
            continue;
        }
        let noted = std::fs::read(entry.path()).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        // One that was cut off before it was written was not followed by a folder.
        let Some((inside, id)): Option<(Inside, String)> = noted else { continue };
        let Ok(directory) = inside_of(tree, &inside) else { continue };
        let Ok(own) = rustix::fs::openat(&directory, IN_TREE, DIRECTORY, Mode::empty()) else { continue };
        if let Ok(slots) = rustix::fs::openat(&own, id.as_str(), DIRECTORY, Mode::empty()) {
            empty(disk, &slots).map_err(failed)?;
            disk.remove_directory(At::new(&own, id.as_bytes())).map_err(failed)?;
        }
        // The last one takes the rest along.
        let names = rustix::fs::Dir::read_from(&own).map_err(failed)?.count();
        if names == 3 {
            let _ = disk.remove(At::new(&own, b".gitignore"));
            let _ = disk.remove_directory(At::new(&directory, IN_TREE.as_bytes()));
        }
    }
    Ok(())
}

/// Opens the directory that has slots inside the tree.
pub(super) fn inside_of(tree: &HostTree, inside: &Inside) -> Result<OwnedFd, HostError> {
    let path = match inside {
        Inside::Root => return tree.root(),
        Inside::Directory(path) => path,
    };
    let Parent::Open(parent) = tree.parent(path)? else { return Err(HostError::Stale) };
    rustix::fs::openat(parent, OsStr::from_bytes(path.file_name()), DIRECTORY, Mode::empty())
        .map_err(failed("failed to open the directory"))
}

/// Finds the topmost directory above a path that is on a mount.
pub(super) fn topmost(tree: &HostTree, mount: Mount, path: &RepoPath) -> Result<(Inside, OwnedFd), HostError> {
    let look = failed("failed to look at the directory");
    let root = tree.root()?;
    if Mount::of(&root).map_err(look)? == mount {
        return Ok((Inside::Root, root));
    }
    let mut above = Vec::new();
    let mut at = path.parent();
    while let Some(directory) = at {
        at = directory.parent();
        above.push(directory);
    }
    for directory in above.into_iter().rev() {
        let inside = Inside::Directory(directory);
        let Ok(opened) = inside_of(tree, &inside) else { break };
        if Mount::of(&opened).map_err(look)? == mount {
            return Ok((inside, opened));
        }
    }
    Err(HostError::Stale)
}

/// Makes a folder for slots in the working tree, which git takes for ignored.
pub(super) fn make_inside(disk: &Disk, directory: &OwnedFd, id: &str) -> Result<OwnedFd, Errno> {
    match disk.make_directory(At::new(directory, IN_TREE.as_bytes()), 0o700) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let own = rustix::fs::openat(directory, IN_TREE, DIRECTORY, Mode::empty())?;
    match disk.create(At::new(&own, b".gitignore"), 0o600) {
        Ok(file) => disk.fill(&file, b"*\n")?,
        Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    disk.make_directory(At::new(&own, id.as_bytes()), 0o700)?;
    rustix::fs::openat(&own, id, DIRECTORY, Mode::empty())
}
