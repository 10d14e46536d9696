//! Stages what an apply will put in place: every final file under a name of its own, on the file system where it belongs,
//! whole and on disk, before the first path of the tree is touched.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::applies::Folder;
use super::attributes;
use super::decide::Version;
use super::hostfs::{At, Disk, Rename};
use super::inside::{IN_TREE, inside_of, make_inside, note_inside, topmost};
use super::journal::{Held, Place, Slot};
use super::tree::{DIRECTORY, HostError, HostTree, Inode, Mount, Parent, Seen, failed};
use crate::path::{EntryKind, RepoPath};

/// Files above which several threads synchronise.
const FEW: usize = 32;
const THREADS: usize = 16;

/// The folders of slots of one apply, open.
pub(super) struct Slots {
    pub(super) places: Vec<Place>,
    folders: Vec<Arc<OwnedFd>>,
    by_mount: BTreeMap<Mount, usize>,
    numbers: AtomicUsize,
}

/// A file that is to be staged.
pub(super) struct Staging<'a> {
    pub(super) path: &'a RepoPath,
    /// Where what it replaces is now.
    pub(super) replaced: &'a RepoPath,
    pub(super) left: &'a Version,
    pub(super) expected: Option<&'a Seen>,
    /// One whose attributes it gets, where there is nothing to replace.
    pub(super) like: Option<At<'a>>,
    /// And where a file with these permissions is replaced.
    pub(super) like_over: Option<u32>,
}

impl Slots {
    /// Opens those of a journal.
    pub(super) fn open(places: &[Place], folder: &Folder, id: &str, tree: &HostTree) -> Result<Self, HostError> {
        let opened = failed("failed to open the folder of backups");
        let mut folders = Vec::new();
        for place in places {
            folders.push(Arc::new(match &place.inside {
                None => folder.slots().map_err(opened)?,
                Some(inside) => {
                    let directory = inside_of(tree, inside)?;
                    let own = rustix::fs::openat(directory, IN_TREE, DIRECTORY, Mode::empty()).map_err(opened)?;
                    rustix::fs::openat(own, id, DIRECTORY, Mode::empty()).map_err(opened)?
                }
            }));
        }
        let next = AtomicUsize::new(0);
        Ok(Self { places: places.to_vec(), folders, by_mount: BTreeMap::new(), numbers: next })
    }

    /// Begins without any.
    pub(super) fn none() -> Self {
        Self { places: Vec::new(), folders: Vec::new(), by_mount: BTreeMap::new(), numbers: AtomicUsize::new(0) }
    }

    /// Names a slot.
    pub(super) fn at<'a>(&'a self, slot: Slot, name: &'a str) -> At<'a> {
        At::new(self.folders[slot.place].as_ref(), name.as_bytes())
    }

    /// Gives the folder of a slot, open.
    pub(super) fn folder(&self, slot: Slot) -> Arc<OwnedFd> {
        Arc::clone(&self.folders[slot.place])
    }

    /// Tells whether two files of a slot's place are exchanged at once.
    pub(super) fn exchanges(&self, slot: Slot) -> bool {
        self.places[slot.place].exchange
    }

    /// Tells whether a file keeps its number there when it is renamed.
    pub(super) fn keeps_inodes(&self, slot: Slot) -> bool {
        self.places[slot.place].inodes
    }

    /// Gives a free slot on the file system of a directory.
    pub(super) fn take(
        &mut self,
        directory: &OwnedFd,
        path: &RepoPath,
        disk: &Disk,
        tree: &HostTree,
        folder: &Folder,
        id: &str,
    ) -> Result<Slot, HostError> {
        let mount = Mount::of(directory).map_err(failed("failed to look at the directory"))?;
        let place = match self.by_mount.get(&mount) {
            Some(place) => *place,
            None => {
                let place = self.add(mount, path, disk, tree, folder, id)?;
                self.by_mount.insert(mount, place);
                place
            }
        };
        Ok(Slot { place, number: self.numbers.fetch_add(1, Ordering::Relaxed) })
    }

    fn add(
        &mut self,
        mount: Mount,
        path: &RepoPath,
        disk: &Disk,
        tree: &HostTree,
        folder: &Folder,
        id: &str,
    ) -> Result<usize, HostError> {
        let opened = failed("failed to open the folder of backups");
        let own = folder.slots().map_err(opened)?;
        let (slots, inside) = if Mount::of(&own).map_err(opened)? == mount {
            (own, None)
        } else {
            let (inside, directory) = topmost(tree, mount, path)?;
            let made = failed("failed to make a folder for backups");
            note_inside(disk, folder, self.places.len(), &inside, id).map_err(made)?;
            (make_inside(disk, &directory, id).map_err(made)?, Some(inside))
        };
        let (exchange, inodes) = abilities(disk, &slots).map_err(failed("failed to try the file system"))?;
        self.places.push(Place { inside, exchange, inodes });
        self.folders.push(Arc::new(slots));
        Ok(self.places.len() - 1)
    }

    /// Stages files, each into its slot; gives what they are on disk.
    pub(super) fn stage(
        &self,
        files: &[(Staging<'_>, Slot)],
        disk: &Disk,
        tree: &HostTree,
        content: &dyn Fn(&Version) -> std::io::Result<Vec<u8>>,
    ) -> Result<Vec<Held>, (RepoPath, HostError)> {
        let named = |file: &Staging<'_>| {
            let path = file.path.clone();
            move |error| (path, error)
        };
        let mut staged = Vec::with_capacity(files.len());
        for (file, slot) in files {
            let bytes = content(file.left)
                .map_err(|error| HostError::Io { attempt: "failed to read what was accepted", error })
                .map_err(named(file))?;
            staged.push(self.put(file, *slot, disk, tree, &bytes).map_err(named(file))?);
        }
        // One directory takes one new file at a time, but a disk synchronises many at once in the time of one.
        spread(files, |(file, slot)| self.sync_file(*slot, disk).map_err(named(file)))?;
        Ok(staged)
    }

    fn sync_file(&self, slot: Slot, disk: &Disk) -> Result<(), HostError> {
        let name = slot.name();
        let opened = attributes::open(self.at(slot, &name)).map_err(failed("failed to open what was staged"))?;
        // A link has nothing but its name.
        opened.map_or(Ok(()), |file| disk.sync(&file).map_err(failed("failed to write it to disk")))
    }

    fn put(
        &self,
        file: &Staging<'_>,
        slot: Slot,
        disk: &Disk,
        tree: &HostTree,
        bytes: &[u8],
    ) -> Result<Held, HostError> {
        let name = slot.name();
        let at = self.at(slot, &name);
        let habits = tree.habits();
        let kind = if file.left.kind == EntryKind::Link { habits.seen_as(EntryKind::Link) } else { file.left.kind };
        // What the path holds now, for its attributes; it must be what the plan has seen.
        let parent = match file.expected {
            Some(_) => match tree.parent(file.replaced)? {
                Parent::Open(parent) => Some(parent),
                _ => return Err(HostError::Stale),
            },
            None => None,
        };
        // Of a link there is only an owner to keep: a file in its place is as a new one, or as the backup that comes back.
        let was_link = file.expected.is_some_and(|e| e.version.kind == EntryKind::Link);
        let untouched = file.expected.is_some_and(|e| !was_link && file.like_over == Some(e.mode));
        let like = match &parent {
            Some(_) if untouched => file.like,
            Some(parent) if !was_link || kind == EntryKind::Link => Some(At::new(parent, file.replaced.file_name())),
            _ => file.like,
        };
        if kind == EntryKind::Link {
            disk.make_link(bytes, at).map_err(failed("failed to make the link"))?;
            if let Some(like) = like {
                keep_owner(disk, like, at)?;
            }
        } else {
            let made = self.make(file, at, kind, disk, tree, like.is_some())?;
            disk.fill(&made, bytes).map_err(failed("failed to write it"))?;
            if let Some(like) = like
                && let Some(old) = attributes::open(like).map_err(failed("failed to open the file to replace"))?
            {
                let stat = rustix::fs::fstat(&old).map_err(failed("failed to look at it"))?;
                let replaced = file.expected.filter(|_| !was_link && !untouched);
                if replaced.is_some_and(|e| e.inode != Inode::of(&stat)) {
                    return Err(HostError::Stale);
                }
                attributes::keep(disk, old.as_fd(), made.as_fd(), at, Some(kind), habits)?;
            }
        }
        let stat = rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("failed to look at it"))?;
        let version = Version { kind: habits.seen_as(kind), hash: file.left.hash.clone() };
        // As it will be seen: a file system may have no executable bit.
        let executable = stat.st_mode & 0o100 != 0;
        let version = match version.kind {
            EntryKind::Link => version,
            _ if executable => Version { kind: EntryKind::Executable, ..version },
            _ => Version { kind: EntryKind::Regular, ..version },
        };
        Ok(Held { version, mode: stat.st_mode & 0o7777, inode: Inode::of(&stat) })
    }

    /// Makes an empty file with the permissions that it would have if it were made where it goes.
    fn make(
        &self,
        file: &Staging<'_>,
        at: At<'_>,
        kind: EntryKind,
        disk: &Disk,
        tree: &HostTree,
        replaces: bool,
    ) -> Result<File, HostError> {
        let made = failed("failed to make it");
        if replaces {
            // Nobody's but the owner's, until it has the other's permissions.
            return disk.create(at, 0o600).map_err(made);
        }
        let mode = if kind == EntryKind::Executable { 0o777 } else { 0o666 };
        let heir = tree.nearest(file.path)?;
        if attributes::passes_on(&heir) {
            match disk.create_in(heir.as_fd(), at, mode) {
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::XDEV) => {}
                other => return other.map_err(made),
            }
            // A file system without files that have no name; its access lists are not passed on then.
            let file = disk.create(at, mode).map_err(made)?;
            if let Some(group) = attributes::group_passed_on(&heir) {
                let stat = rustix::fs::fstat(&file).map_err(failed("failed to look at it"))?;
                disk.set_owner(at, stat.st_uid, group).map_err(failed("failed to give it its directory's group"))?;
            }
            return Ok(file);
        }
        disk.create(at, mode).map_err(made)
    }

    /// Stages a directory with the permissions of another.
    pub(super) fn put_directory(
        &self,
        slot: Slot,
        like: At<'_>,
        disk: &Disk,
        tree: &HostTree,
    ) -> Result<(), HostError> {
        let opened = failed("failed to open the directory");
        let name = slot.name();
        let at = self.at(slot, &name);
        disk.make_directory(at, 0o700).map_err(failed("failed to make a directory"))?;
        let new = rustix::fs::openat(at.directory, at.name, DIRECTORY, Mode::empty()).map_err(opened)?;
        let old = rustix::fs::openat(like.directory, like.name, DIRECTORY, Mode::empty()).map_err(opened)?;
        attributes::keep(disk, old.as_fd(), new.as_fd(), at, None, tree.habits())
    }

    /// Writes the folders to disk.
    pub(super) fn sync(&self, disk: &Disk) -> Result<(), Errno> {
        self.folders.iter().try_for_each(|folder| disk.sync(folder.as_ref()))
    }
}

/// Does something with each of a list, by several threads if there are many; gives the results in order, or the first failure.
pub(super) fn spread<T: Sync, R: Send, E: Send>(
    list: &[T],
    one: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    if list.len() <= FEW {
        return list.iter().map(one).collect();
    }
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = list.get(at) else { return };
                    let result = one(item);
                    // After a failure nobody needs the rest.
                    if result.is_err() {
                        next.store(list.len(), Ordering::Relaxed);
                    }
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(at, result);
                }
            });
        }
    });
    let done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.into_values().collect()
}

/// Gives a link the owner of what it replaces.
fn keep_owner(disk: &Disk, like: At<'_>, at: At<'_>) -> Result<(), HostError> {
    let look = |at: At<'_>| {
        rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("failed to look at it"))
    };
    let (was, is) = (look(like)?, look(at)?);
    if (was.st_uid, was.st_gid) == (is.st_uid, is.st_gid) {
        return Ok(());
    }
    disk.set_owner(at, was.st_uid, was.st_gid).map_err(failed("failed to keep its owner and group"))
}

/// What statfs(2) calls FAT and exFAT.
const FAT: [u64; 2] = [0x4d44, 0x2011_bab0];

/// Tries whether two names can be exchanged here, and whether files keep their numbers when they are renamed.
fn abilities(disk: &Disk, folder: &OwnedFd) -> Result<(bool, bool), Errno> {
    let (one, other) = (At::new(folder, b"try-1"), At::new(folder, b"try-2"));
    let number = |at: At<'_>| rustix::fs::statat(folder, at.name, AtFlags::SYMLINK_NOFOLLOW).map(|s| Inode::of(&s));
    disk.create(one, 0o600)?;
    disk.create(other, 0o600)?;
    // FAT exchanges, but numbers its files as it meets them.
    let numbers_last = !FAT.contains(&rustix::fs::fstatfs(folder).map_or(0, |fs| fs.f_type as u64));
    let first = number(one)?;
    let can = match disk.rename(one, other, Rename::Exchange) {
        Ok(()) if number(other)? == first => {
            disk.remove(one)?;
            (numbers_last, numbers_last)
        }
        // A file system that takes the flag and does not heed it, or one without numbers.
        Ok(()) => return Err(Errno::OPNOTSUPP),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            disk.rename(one, other, Rename::Plain)?;
            (false, numbers_last && number(other)? == first)
        }
        Err(error) => return Err(error),
    };
    disk.remove(other)?;
    Ok(can)
}
