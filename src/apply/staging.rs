//! Stages the files of a transaction. Each final file is written completely under a temporary name on the file system where
//! it belongs, and synced, before the first path of the working tree is changed.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, Mode};
use rustix::io::Errno;

use super::attributes;
use super::cross_mount::{create_in_tree_dir, find_topmost_dir, open_in_tree_dir, record_in_tree_dir};
use super::entry_content::EntryContent;
use super::host_error::{HostError, system_error};
use super::host_fs::{DirEntryRef, HostFs, Rename};
use super::journal::{FileIdentity, StagedFile, StagingArea};
use super::names::IN_TREE;
use super::transaction_log::TransactionDir;
use super::working_tree::{DIRECTORY, Inode, Mount, ObservedFile, Parent, WorkingTree};
use crate::core::path::{EntryKind, RepoPath};

/// Number of files above which several threads sync them.
const FEW: usize = 32;
const THREADS: usize = 16;

/// The open staging directories of a transaction.
pub(crate) struct Staging {
    pub(crate) places: Vec<StagingArea>,
    folders: Vec<Arc<OwnedFd>>,
    by_mount: BTreeMap<Mount, usize>,
    next_number: AtomicUsize,
}

/// A file to stage.
pub(crate) struct FileToStage<'a> {
    pub(crate) path: &'a RepoPath,
    /// The current path of the file to replace.
    pub(crate) replaced: &'a RepoPath,
    pub(crate) left: &'a EntryContent,
    pub(crate) expected: Option<&'a ObservedFile>,
    /// File to copy the attributes from if no file is replaced.
    pub(crate) like: Option<DirEntryRef<'a>>,
    /// Mode of the replaced file for which `attrs_from` is also used.
    pub(crate) like_over: Option<u32>,
}

impl Staging {
    /// Opens the staging areas of a journal.
    pub(crate) fn open(
        places: &[StagingArea],
        folder: &TransactionDir,
        id: &str,
        tree: &WorkingTree,
    ) -> Result<Self, HostError> {
        let opened = system_error("failed to open the folder of backups");
        let mut folders = Vec::new();
        for place in places {
            folders.push(Arc::new(match &place.in_tree {
                None => folder.open_staging_dir().map_err(opened)?,
                Some(inside) => {
                    let directory = open_in_tree_dir(tree, inside)?;
                    let own = rustix::fs::openat(directory, IN_TREE, DIRECTORY, Mode::empty()).map_err(opened)?;
                    rustix::fs::openat(own, id, DIRECTORY, Mode::empty()).map_err(opened)?
                }
            }));
        }
        let next = AtomicUsize::new(0);
        Ok(Self { places: places.to_vec(), folders, by_mount: BTreeMap::new(), next_number: next })
    }

    /// Creates an empty list of staging areas.
    pub(crate) fn empty() -> Self {
        Self { places: Vec::new(), folders: Vec::new(), by_mount: BTreeMap::new(), next_number: AtomicUsize::new(0) }
    }

    /// Returns a reference to a staged file or backup by name.
    pub(crate) fn entry_ref<'a>(&'a self, slot: StagedFile, name: &'a str) -> DirEntryRef<'a> {
        DirEntryRef::new(self.folders[slot.area].as_ref(), name.as_bytes())
    }

    /// Returns the open directory of a staged file.
    pub(crate) fn area_dir(&self, slot: StagedFile) -> Arc<OwnedFd> {
        Arc::clone(&self.folders[slot.area])
    }

    /// Returns whether the file system of a staged file can exchange two files atomically.
    pub(crate) fn can_exchange(&self, slot: StagedFile) -> bool {
        self.places[slot.area].can_exchange
    }

    /// Returns whether the file system of a staged file keeps inode numbers on rename.
    pub(crate) fn has_stable_inodes(&self, slot: StagedFile) -> bool {
        self.places[slot.area].has_stable_inodes
    }

    /// Reserves a staged file on the same mount as a directory.
    pub(crate) fn allocate(
        &mut self,
        directory: &OwnedFd,
        path: &RepoPath,
        disk: &HostFs,
        tree: &WorkingTree,
        folder: &TransactionDir,
        id: &str,
    ) -> Result<StagedFile, HostError> {
        let mount = Mount::of(directory).map_err(system_error("failed to look at the directory"))?;
        let place = match self.by_mount.get(&mount) {
            Some(place) => *place,
            None => {
                let place = self.add_area(mount, path, disk, tree, folder, id)?;
                self.by_mount.insert(mount, place);
                place
            }
        };
        Ok(StagedFile { area: place, number: self.next_number.fetch_add(1, Ordering::Relaxed) })
    }

    fn add_area(
        &mut self,
        mount: Mount,
        path: &RepoPath,
        disk: &HostFs,
        tree: &WorkingTree,
        folder: &TransactionDir,
        id: &str,
    ) -> Result<usize, HostError> {
        let opened = system_error("failed to open the folder of backups");
        let own = folder.open_staging_dir().map_err(opened)?;
        let (slots, inside) = if Mount::of(&own).map_err(opened)? == mount {
            (own, None)
        } else {
            let (inside, directory) = find_topmost_dir(tree, mount, path)?;
            let made = system_error("failed to make a folder for backups");
            record_in_tree_dir(disk, folder, self.places.len(), &inside, id).map_err(made)?;
            (create_in_tree_dir(disk, &directory, id).map_err(made)?, Some(inside))
        };
        let (exchange, inodes) = probe_fs(disk, &slots).map_err(system_error("failed to try the file system"))?;
        self.places.push(StagingArea { in_tree: inside, can_exchange: exchange, has_stable_inodes: inodes });
        self.folders.push(Arc::new(slots));
        Ok(self.places.len() - 1)
    }

    /// Writes and syncs all files, and returns their identities on disk.
    pub(crate) fn stage_file(
        &self,
        files: &[(FileToStage<'_>, StagedFile)],
        disk: &HostFs,
        tree: &WorkingTree,
        content: &dyn Fn(&EntryContent) -> std::io::Result<Vec<u8>>,
    ) -> Result<Vec<FileIdentity>, (RepoPath, HostError)> {
        let named = |file: &FileToStage<'_>| {
            let path = file.path.clone();
            move |error| (path, error)
        };
        let mut staged = Vec::with_capacity(files.len());
        for (file, slot) in files {
            let bytes = content(file.left)
                .map_err(|error| HostError::Io { attempt: "failed to read what was accepted", error })
                .map_err(named(file))?;
            staged.push(self.write_file(file, *slot, disk, tree, &bytes).map_err(named(file))?);
        }
        // A directory accepts one new file at a time, but a disk can sync many files in the time of one.
        try_parallel_for_each(files, |(file, slot)| self.sync_file(*slot, disk).map_err(named(file)))?;
        Ok(staged)
    }

    fn sync_file(&self, slot: StagedFile, disk: &HostFs) -> Result<(), HostError> {
        let name = slot.name();
        let opened = attributes::open_entry(self.entry_ref(slot, &name))
            .map_err(system_error("failed to open what was staged"))?;
        // A symlink has no content to sync.
        opened.map_or(Ok(()), |file| disk.sync_fd(&file).map_err(system_error("failed to write it to disk")))
    }

    fn write_file(
        &self,
        file: &FileToStage<'_>,
        slot: StagedFile,
        disk: &HostFs,
        tree: &WorkingTree,
        bytes: &[u8],
    ) -> Result<FileIdentity, HostError> {
        let name = slot.name();
        let at = self.entry_ref(slot, &name);
        let habits = tree.capabilities();
        let kind =
            if file.left.kind == EntryKind::Link { habits.normalize_kind(EntryKind::Link) } else { file.left.kind };
        // The replaced file, for its attributes. It must be the file that the plan observed.
        let parent = match file.expected {
            Some(_) => match tree.open_parent(file.replaced)? {
                Parent::Open(parent) => Some(parent),
                _ => return Err(HostError::Stale),
            },
            None => None,
        };
        // A replaced symlink has only an owner to preserve. A regular file that replaces it is treated as new, or as a
        // restored backup.
        let was_link = file.expected.is_some_and(|e| e.version.kind == EntryKind::Link);
        let untouched = file.expected.is_some_and(|e| !was_link && file.like_over == Some(e.mode));
        let like = match &parent {
            Some(_) if untouched => file.like,
            Some(parent) if !was_link || kind == EntryKind::Link => {
                Some(DirEntryRef::new(parent, file.replaced.file_name()))
            }
            _ => file.like,
        };
        if kind == EntryKind::Link {
            disk.create_symlink(bytes, at).map_err(system_error("failed to make the link"))?;
            if let Some(like) = like {
                keep_owner(disk, like, at)?;
            }
        } else {
            let made = self.create_entry(file, at, kind, disk, tree, like.is_some())?;
            disk.write_all(&made, bytes).map_err(system_error("failed to write it"))?;
            if let Some(like) = like
                && let Some(old) =
                    attributes::open_entry(like).map_err(system_error("failed to open the file to replace"))?
            {
                let stat = rustix::fs::fstat(&old).map_err(system_error("failed to look at it"))?;
                let replaced = file.expected.filter(|_| !was_link && !untouched);
                if replaced.is_some_and(|e| e.inode != Inode::of(&stat)) {
                    return Err(HostError::Stale);
                }
                attributes::copy_metadata(disk, old.as_fd(), made.as_fd(), at, Some(kind), habits)?;
            }
        }
        let stat = rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system_error("failed to look at it"))?;
        let version = EntryContent { kind: habits.normalize_kind(kind), hash: file.left.hash.clone() };
        // The kind as it will be observed: the file system may not support executable bits.
        let executable = stat.st_mode & 0o100 != 0;
        let version = match version.kind {
            EntryKind::Link => version,
            _ if executable => EntryContent { kind: EntryKind::Executable, ..version },
            _ => EntryContent { kind: EntryKind::Regular, ..version },
        };
        Ok(FileIdentity { version, mode: stat.st_mode & 0o7777, inode: Inode::of(&stat) })
    }

    /// Creates an empty file with the permissions that it would have if it were created at its path.
    fn create_entry(
        &self,
        file: &FileToStage<'_>,
        at: DirEntryRef<'_>,
        kind: EntryKind,
        disk: &HostFs,
        tree: &WorkingTree,
        replaces: bool,
    ) -> Result<File, HostError> {
        let made = system_error("failed to make it");
        if replaces {
            // Only the owner has access until the permissions of the replaced file are copied.
            return disk.create_file(at, 0o600).map_err(made);
        }
        let mode = if kind == EntryKind::Executable { 0o777 } else { 0o666 };
        let heir = tree.open_nearest_existing_dir(file.path)?;
        if attributes::has_default_acl(&heir) {
            match disk.create_file_in(heir.as_fd(), at, mode) {
                Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::XDEV) => {}
                other => return other.map_err(made),
            }
            // The file system does not support unnamed files, so the default ACL is not inherited.
            let file = disk.create_file(at, mode).map_err(made)?;
            if let Some(group) = attributes::inherited_group(&heir) {
                let stat = rustix::fs::fstat(&file).map_err(system_error("failed to look at it"))?;
                disk.set_owner(at, stat.st_uid, group)
                    .map_err(system_error("failed to give it its directory's group"))?;
            }
            return Ok(file);
        }
        disk.create_file(at, mode).map_err(made)
    }

    /// Stages a directory with the permissions of another directory.
    pub(crate) fn stage_directory(
        &self,
        slot: StagedFile,
        like: DirEntryRef<'_>,
        disk: &HostFs,
        tree: &WorkingTree,
    ) -> Result<(), HostError> {
        let opened = system_error("failed to open the directory");
        let name = slot.name();
        let at = self.entry_ref(slot, &name);
        disk.create_dir(at, 0o700).map_err(system_error("failed to make a directory"))?;
        let new = rustix::fs::openat(at.directory, at.name, DIRECTORY, Mode::empty()).map_err(opened)?;
        let old = rustix::fs::openat(like.directory, like.name, DIRECTORY, Mode::empty()).map_err(opened)?;
        attributes::copy_metadata(disk, old.as_fd(), new.as_fd(), at, None, tree.capabilities())
    }

    /// Syncs the staging directories to disk.
    pub(crate) fn sync_areas(&self, disk: &HostFs) -> Result<(), Errno> {
        self.folders.iter().try_for_each(|folder| disk.sync_fd(folder.as_ref()))
    }
}

/// Calls a function for each item of a list, in several threads if the list is long. Returns the results in order, or the
/// first error.
pub(crate) fn try_parallel_for_each<T: Sync, R: Send, E: Send>(
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
                    // After an error, the remaining items are skipped.
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

/// Copies the owner of a replaced symlink to the new one.
fn keep_owner(disk: &HostFs, like: DirEntryRef<'_>, at: DirEntryRef<'_>) -> Result<(), HostError> {
    let look = |at: DirEntryRef<'_>| {
        rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system_error("failed to look at it"))
    };
    let (was, is) = (look(like)?, look(at)?);
    if (was.st_uid, was.st_gid) == (is.st_uid, is.st_gid) {
        return Ok(());
    }
    disk.set_owner(at, was.st_uid, was.st_gid).map_err(system_error("failed to keep its owner and group"))
}

/// File system types of FAT and exFAT (statfs(2)).
const FAT: [u64; 2] = [0x4d44, 0x2011_bab0];

/// Probes whether the file system can exchange two names, and whether files keep their inode numbers on rename.
fn probe_fs(disk: &HostFs, folder: &OwnedFd) -> Result<(bool, bool), Errno> {
    let (one, other) = (DirEntryRef::new(folder, b"try-1"), DirEntryRef::new(folder, b"try-2"));
    let number =
        |at: DirEntryRef<'_>| rustix::fs::statat(folder, at.name, AtFlags::SYMLINK_NOFOLLOW).map(|s| Inode::of(&s));
    disk.create_file(one, 0o600)?;
    disk.create_file(other, 0o600)?;
    // FAT can exchange files, but assigns inode numbers as it reads them.
    let numbers_last = !FAT.contains(&rustix::fs::fstatfs(folder).map_or(0, |fs| fs.f_type as u64));
    let first = number(one)?;
    let can = match disk.rename_entry(one, other, Rename::Exchange) {
        Ok(()) if number(other)? == first => {
            disk.remove_file(one)?;
            (numbers_last, numbers_last)
        }
        // The file system accepts the flag but ignores it, or has no inode numbers.
        Ok(()) => return Err(Errno::OPNOTSUPP),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            disk.rename_entry(one, other, Rename::Plain)?;
            (false, numbers_last && number(other)? == first)
        }
        Err(error) => return Err(error),
    };
    disk.remove_file(other)?;
    Ok(can)
}
