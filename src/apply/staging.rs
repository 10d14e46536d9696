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
use super::names::IN_TREE_DIR;
use super::transaction_log::TransactionDir;
use super::working_tree::{DIR_FLAGS, Inode, ObservedFile, Parent, WorkingTree};
use crate::core::path::{EntryKind, RepoPath};
use crate::platform::{Mount, has_stable_inodes, permission_bits};

/// Number of files above which several threads sync them.
const MAX_SEQUENTIAL: usize = 32;
const THREADS: usize = 16;

/// The open staging directories of a transaction.
pub(crate) struct Staging {
    pub(crate) areas: Vec<StagingArea>,
    dirs: Vec<Arc<OwnedFd>>,
    by_mount: BTreeMap<Mount, usize>,
    next_number: AtomicUsize,
}

/// The transaction for which staging areas are created.
#[derive(Clone, Copy)]
pub(crate) struct StagingContext<'a> {
    pub(crate) fs: &'a HostFs,
    pub(crate) tree: &'a WorkingTree,
    pub(crate) dir: &'a TransactionDir,
    pub(crate) id: &'a str,
}

/// A file to stage.
pub(crate) struct FileToStage<'a> {
    pub(crate) path: &'a RepoPath,
    /// The current path of the file that is replaced or moved, and whose attributes are copied.
    pub(crate) replaced: &'a RepoPath,
    pub(crate) result: &'a EntryContent,
    /// That file as the plan observed it.
    pub(crate) expected: Option<&'a ObservedFile>,
    /// File to copy the attributes from if no file is replaced.
    pub(crate) attrs_from: Option<DirEntryRef<'a>>,
    /// Mode of the replaced file for which `attrs_from` is also used.
    pub(crate) attrs_from_if_mode: Option<u32>,
}

impl Staging {
    /// Opens the staging areas of a journal.
    pub(crate) fn open(
        areas: &[StagingArea],
        dir: &TransactionDir,
        id: &str,
        tree: &WorkingTree,
    ) -> Result<Self, HostError> {
        let open_error = system_error("failed to open the backup directory");
        let mut dirs = Vec::new();
        for area in areas {
            dirs.push(Arc::new(match &area.in_tree {
                None => dir.open_staging_dir().map_err(open_error)?,
                Some(in_tree_dir) => {
                    let directory = open_in_tree_dir(tree, in_tree_dir)?;
                    let staging_parent =
                        rustix::fs::openat(directory, IN_TREE_DIR, DIR_FLAGS, Mode::empty()).map_err(open_error)?;
                    rustix::fs::openat(staging_parent, id, DIR_FLAGS, Mode::empty()).map_err(open_error)?
                }
            }));
        }
        let next = AtomicUsize::new(0);
        Ok(Self { areas: areas.to_vec(), dirs, by_mount: BTreeMap::new(), next_number: next })
    }

    /// Creates an empty list of staging areas.
    pub(crate) fn new() -> Self {
        Self { areas: Vec::new(), dirs: Vec::new(), by_mount: BTreeMap::new(), next_number: AtomicUsize::new(0) }
    }

    /// Returns a reference to a staged file or backup by name.
    pub(crate) fn entry_ref<'a>(&'a self, staged: StagedFile, name: &'a str) -> DirEntryRef<'a> {
        DirEntryRef::new(self.dirs[staged.area].as_ref(), name.as_bytes())
    }

    /// Returns the open directory of a staged file.
    pub(crate) fn area_dir(&self, staged: StagedFile) -> Arc<OwnedFd> {
        Arc::clone(&self.dirs[staged.area])
    }

    /// Returns whether the file system of a staged file can exchange two files atomically.
    pub(crate) fn can_exchange(&self, staged: StagedFile) -> bool {
        self.areas[staged.area].can_exchange
    }

    /// Returns whether the file system of a staged file keeps inode numbers on rename.
    pub(crate) fn has_stable_inodes(&self, staged: StagedFile) -> bool {
        self.areas[staged.area].has_stable_inodes
    }

    /// Reserves a staged file on the same mount as a directory.
    pub(crate) fn allocate_file(
        &mut self,
        directory: &OwnedFd,
        path: &RepoPath,
        context: StagingContext<'_>,
    ) -> Result<StagedFile, HostError> {
        let mount = Mount::from_fd(directory).map_err(system_error("failed to inspect the directory"))?;
        let area = match self.by_mount.get(&mount) {
            Some(area) => *area,
            None => {
                let area = self.add_area(mount, path, context)?;
                self.by_mount.insert(mount, area);
                area
            }
        };
        Ok(StagedFile { area, number: self.next_number.fetch_add(1, Ordering::Relaxed) })
    }

    fn add_area(&mut self, mount: Mount, path: &RepoPath, context: StagingContext<'_>) -> Result<usize, HostError> {
        let StagingContext { fs, tree, dir, id } = context;
        let open_error = system_error("failed to open the backup directory");
        let staging_dir = dir.open_staging_dir().map_err(open_error)?;
        let (area_dir, in_tree_dir) = if Mount::from_fd(&staging_dir).map_err(open_error)? == mount {
            (staging_dir, None)
        } else {
            let (in_tree_dir, directory) = find_topmost_dir(tree, mount, path)?;
            let create_error = system_error("failed to create the backup directory");
            record_in_tree_dir(fs, dir, self.areas.len(), &in_tree_dir, id).map_err(create_error)?;
            (create_in_tree_dir(fs, &directory, id).map_err(create_error)?, Some(in_tree_dir))
        };
        let (exchange, inodes) = probe_fs(fs, &area_dir).map_err(system_error("failed to test the file system"))?;
        self.areas.push(StagingArea { in_tree: in_tree_dir, can_exchange: exchange, has_stable_inodes: inodes });
        self.dirs.push(Arc::new(area_dir));
        Ok(self.areas.len() - 1)
    }

    /// Writes and syncs all files, and returns their identities on disk.
    pub(crate) fn stage_files(
        &self,
        files: &[(FileToStage<'_>, StagedFile)],
        fs: &HostFs,
        tree: &WorkingTree,
        content: &dyn Fn(&EntryContent) -> std::io::Result<Vec<u8>>,
    ) -> Result<Vec<FileIdentity>, (RepoPath, HostError)> {
        let with_path = |file: &FileToStage<'_>| {
            let path = file.path.clone();
            move |error| (path, error)
        };
        let mut identities = Vec::with_capacity(files.len());
        for (file, staged_file) in files {
            let bytes = content(file.result)
                .map_err(|error| HostError::Io { attempt: "failed to read the accepted content", error })
                .map_err(with_path(file))?;
            identities.push(self.write_staged_file(file, *staged_file, fs, tree, &bytes).map_err(with_path(file))?);
        }
        // A directory accepts one new file at a time, but a disk can sync many files in the time of one.
        try_parallel_for_each(files, |(file, staged_file)| self.sync_file(*staged_file, fs).map_err(with_path(file)))?;
        Ok(identities)
    }

    fn sync_file(&self, staged: StagedFile, fs: &HostFs) -> Result<(), HostError> {
        let name = staged.file_name();
        let opened = attributes::open_entry(self.entry_ref(staged, &name))
            .map_err(system_error("failed to open the staged file"))?;
        // A symlink has no content to sync.
        opened.map_or(Ok(()), |file| fs.sync_fd(&file).map_err(system_error("failed to sync the staged file")))
    }

    fn write_staged_file(
        &self,
        file: &FileToStage<'_>,
        staged: StagedFile,
        fs: &HostFs,
        tree: &WorkingTree,
        bytes: &[u8],
    ) -> Result<FileIdentity, HostError> {
        let name = staged.file_name();
        let at = self.entry_ref(staged, &name);
        let capabilities = tree.fs_capabilities();
        let kind = if file.result.kind == EntryKind::Symlink {
            capabilities.normalize_kind(EntryKind::Symlink)
        } else {
            file.result.kind
        };
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
        let was_link = file.expected.is_some_and(|e| e.version.kind == EntryKind::Symlink);
        let untouched = file.expected.is_some_and(|e| !was_link && file.attrs_from_if_mode == Some(e.mode));
        let attrs_from = match &parent {
            Some(_) if untouched => file.attrs_from,
            Some(parent) if !was_link || kind == EntryKind::Symlink => {
                Some(DirEntryRef::new(parent, file.replaced.file_name()))
            }
            _ => file.attrs_from,
        };
        if kind == EntryKind::Symlink {
            fs.create_symlink(bytes, at).map_err(system_error("failed to create the symlink"))?;
            if let Some(attrs_from) = attrs_from {
                copy_owner(fs, attrs_from, at)?;
            }
        } else {
            let created = create_entry(file, at, kind, fs, tree, attrs_from.is_some())?;
            fs.write_all(&created, bytes).map_err(system_error("failed to write the file"))?;
            if let Some(attrs_from) = attrs_from
                && let Some(old) =
                    attributes::open_entry(attrs_from).map_err(system_error("failed to open the file to replace"))?
            {
                let stat = rustix::fs::fstat(&old).map_err(system_error("failed to read the metadata"))?;
                let replaced = file.expected.filter(|_| !was_link && !untouched);
                if replaced.is_some_and(|e| e.inode != Inode::from_stat(&stat)) {
                    return Err(HostError::Stale);
                }
                attributes::copy_metadata(fs, old.as_fd(), created.as_fd(), at, Some(kind), capabilities)?;
            }
        }
        let stat = rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system_error("failed to read the metadata"))?;
        let version = EntryContent { kind: capabilities.normalize_kind(kind), hash: file.result.hash.clone() };
        // The kind as it will be observed: the file system may not support executable bits.
        let executable = stat.st_mode & 0o100 != 0;
        let version = match version.kind {
            EntryKind::Symlink => version,
            _ if executable => EntryContent { kind: EntryKind::Executable, ..version },
            _ => EntryContent { kind: EntryKind::Regular, ..version },
        };
        Ok(FileIdentity { version, mode: permission_bits(&stat), inode: Inode::from_stat(&stat) })
    }

    /// Stages a directory with the permissions of another directory.
    pub(crate) fn stage_directory(
        &self,
        staged: StagedFile,
        attrs_from: DirEntryRef<'_>,
        fs: &HostFs,
        tree: &WorkingTree,
    ) -> Result<(), HostError> {
        let open_error = system_error("failed to open the directory");
        let name = staged.file_name();
        let at = self.entry_ref(staged, &name);
        fs.create_dir(at, 0o700).map_err(system_error("failed to create the directory"))?;
        let new = rustix::fs::openat(at.directory, at.name, DIR_FLAGS, Mode::empty()).map_err(open_error)?;
        let old =
            rustix::fs::openat(attrs_from.directory, attrs_from.name, DIR_FLAGS, Mode::empty()).map_err(open_error)?;
        attributes::copy_metadata(fs, old.as_fd(), new.as_fd(), at, None, tree.fs_capabilities())
    }

    /// Syncs the staging directories to disk.
    pub(crate) fn sync_areas(&self, fs: &HostFs) -> Result<(), Errno> {
        self.dirs.iter().try_for_each(|dir| fs.sync_fd(dir.as_ref()))
    }
}

/// Creates an empty file with the permissions that it would have if it were created at its path.
fn create_entry(
    file: &FileToStage<'_>,
    at: DirEntryRef<'_>,
    kind: EntryKind,
    fs: &HostFs,
    tree: &WorkingTree,
    replaces: bool,
) -> Result<File, HostError> {
    let create_error = system_error("failed to create the file");
    if replaces {
        // Only the owner has access until the permissions of the replaced file are copied.
        return fs.create_file(at, 0o600).map_err(create_error);
    }
    let mode = if kind == EntryKind::Executable { 0o777 } else { 0o666 };
    let parent = tree.open_nearest_existing_dir(file.path)?;
    if attributes::has_default_acl(&parent) {
        match fs.create_file_in(parent.as_fd(), at, mode) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::XDEV) => {}
            other => return other.map_err(create_error),
        }
        // The file system does not support unnamed files, so the default ACL is not inherited.
        let file = fs.create_file(at, mode).map_err(create_error)?;
        if let Some(group) = attributes::inherited_group(&parent) {
            let stat = rustix::fs::fstat(&file).map_err(system_error("failed to read the metadata"))?;
            fs.set_owner(at, stat.st_uid, group).map_err(system_error("failed to set the directory's group"))?;
        }
        return Ok(file);
    }
    fs.create_file(at, mode).map_err(create_error)
}

/// Calls a function for each item of a list, in several threads if the list is long. Returns the results in order, or the
/// first error.
pub(crate) fn try_parallel_for_each<T: Sync, R: Send, E: Send>(
    list: &[T],
    action: impl Fn(&T) -> Result<R, E> + Sync,
) -> Result<Vec<R>, E> {
    if list.len() <= MAX_SEQUENTIAL {
        return list.iter().map(action).collect();
    }
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = list.get(at) else { return };
                    let result = action(item);
                    // After an error, the remaining items are skipped.
                    if result.is_err() {
                        next.store(list.len(), Ordering::Relaxed);
                    }
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert(at, result);
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.into_values().collect()
}

/// Copies the owner of a replaced symlink to the new one.
fn copy_owner(fs: &HostFs, replaced: DirEntryRef<'_>, at: DirEntryRef<'_>) -> Result<(), HostError> {
    let stat_entry = |at: DirEntryRef<'_>| {
        rustix::fs::statat(at.directory, at.name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(system_error("failed to read the metadata"))
    };
    let (old_stat, new_stat) = (stat_entry(replaced)?, stat_entry(at)?);
    if (old_stat.st_uid, old_stat.st_gid) == (new_stat.st_uid, new_stat.st_gid) {
        return Ok(());
    }
    fs.set_owner(at, old_stat.st_uid, old_stat.st_gid).map_err(system_error("failed to preserve the owner and group"))
}

/// Probes whether the file system can exchange two names, and whether files keep their inode numbers on rename.
fn probe_fs(fs: &HostFs, dir: &OwnedFd) -> Result<(bool, bool), Errno> {
    let (one, other) = (DirEntryRef::new(dir, b"try-1"), DirEntryRef::new(dir, b"try-2"));
    let number =
        |at: DirEntryRef<'_>| rustix::fs::statat(dir, at.name, AtFlags::SYMLINK_NOFOLLOW).map(|s| Inode::from_stat(&s));
    fs.create_file(one, 0o600)?;
    fs.create_file(other, 0o600)?;
    // FAT can exchange files, but assigns inode numbers as it reads them.
    let keeps_numbers = has_stable_inodes(dir);
    let first = number(one)?;
    let support = match fs.rename_entry(one, other, Rename::Exchange) {
        Ok(()) if number(other)? == first => {
            fs.remove_file(one)?;
            (keeps_numbers, keeps_numbers)
        }
        // The file system accepts the flag but ignores it, or has no inode numbers.
        Ok(()) => return Err(Errno::OPNOTSUPP),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            fs.rename_entry(one, other, Rename::Plain)?;
            (false, keeps_numbers && number(other)? == first)
        }
        Err(error) => return Err(error),
    };
    fs.remove_file(other)?;
    Ok(support)
}
