//! Reads the working tree by descriptor, component by component, without following symlinks. This module never writes.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::attributes;
use super::capabilities::FsCapabilities;
use super::entry_content::EntryContent;
use super::host_error::{HostError, system_error};
use super::host_fs::DirEntryRef;

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::changes::ContentHash;
use crate::changes::name_collisions::EntryClass;
use crate::core::path::{EntryKind, RepoPath};
use crate::platform::{Mount, find_entry_facts, open_below, permission_bits};

/// An open working tree.
#[derive(Debug)]
pub struct WorkingTree {
    root: OwnedFd,
    path: PathBuf,
    /// Submodules that are treated as part of this tree.
    modules: BTreeSet<RepoPath>,
    capabilities: FsCapabilities,
    /// Directories that were entered and are not other repositories. They are opened in one call from then on, still without
    /// following symlinks.
    entered: Mutex<HashSet<RepoPath>>,
}

/// The state of a path in the working tree. `F` is what is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathState<F = ObservedFile> {
    Absent,
    /// A regular file or a symlink.
    File(F),
    Directory,
    /// A device, a socket or a pipe.
    Special,
    /// Absent, because this parent is a file.
    BelowFile(RepoPath),
    /// Not observed, because this parent is a symlink.
    BelowSymlink(RepoPath),
    /// Not observed, because this parent is another repository.
    BelowRepository(RepoPath),
}

impl<F> PathState<F> {
    fn map_file<G>(self, map: impl FnOnce(F) -> G) -> PathState<G> {
        match self {
            Self::Absent => PathState::Absent,
            Self::File(file) => PathState::File(map(file)),
            Self::Directory => PathState::Directory,
            Self::Special => PathState::Special,
            Self::BelowFile(above) => PathState::BelowFile(above),
            Self::BelowSymlink(above) => PathState::BelowSymlink(above),
            Self::BelowRepository(above) => PathState::BelowRepository(above),
        }
    }
}

/// A file or symlink as it was observed. Two values are equal only if the file was not touched in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedFile {
    /// Kind and content, or a symlink's target.
    pub version: EntryContent,
    pub mode: u32,
    pub inode: Inode,
    pub uid: u32,
    fingerprint: StatFingerprint,
}

/// The identity of a file on disk, under any name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Inode {
    /// The device number, which may change at a reboot.
    pub device: u64,
    /// The inode number.
    pub number: u64,
}

impl ObservedFile {
    /// Returns the number of hard links.
    #[must_use]
    pub fn link_count(&self) -> u64 {
        self.fingerprint.link_count
    }

    /// Returns the size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::try_from(self.fingerprint.size).unwrap_or(0)
    }

    fn from_stat(version: EntryContent, stat: &Stat) -> Self {
        Self {
            version,
            mode: permission_bits(stat),
            inode: Inode::from_stat(stat),
            uid: stat.st_uid,
            fingerprint: StatFingerprint::from_stat(stat),
        }
    }
}

impl Inode {
    #[expect(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    pub(crate) fn from_stat(stat: &Stat) -> Self {
        Self { device: stat.st_dev as u64, number: stat.st_ino as u64 }
    }
}

/// Stat fields that change when a file is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StatFingerprint {
    size: i64,
    link_count: u64,
    changed: (i64, u64),
    modified: (i64, u64),
}

impl StatFingerprint {
    #[expect(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    fn from_stat(stat: &Stat) -> Self {
        Self {
            size: stat.st_size as i64,
            link_count: stat.st_nlink as u64,
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        }
    }
}

/// The contents of a directory at any depth.
#[derive(Debug, Default)]
pub struct DirContents {
    pub files: Vec<RepoPath>,
    /// All directories, including empty ones.
    pub directories: Vec<RepoPath>,
}

impl DirContents {
    /// Returns whether each directory contains a file, at any depth.
    pub(crate) fn has_no_empty_directory(&self) -> bool {
        let mut filled: BTreeSet<RepoPath> = BTreeSet::new();
        for file in &self.files {
            let mut above = file.parent();
            while let Some(directory) = above {
                above = directory.parent();
                if !filled.insert(directory) {
                    break;
                }
            }
        }
        self.directories.iter().all(|directory| filled.contains(directory))
    }
}

pub(crate) const DIR_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory that contains a path.
pub(crate) enum Parent {
    Open(OwnedFd),
    Missing,
    Blocked(PathState),
}

impl Parent {
    /// Returns the directory if it could be opened.
    pub(crate) fn into_dir(self) -> Option<OwnedFd> {
        match self {
            Self::Open(directory) => Some(directory),
            Self::Missing | Self::Blocked(_) => None,
        }
    }
}

impl WorkingTree {
    /// Opens a working tree. Nested repositories are only entered if they are in `modules`: the submodules that the snapshot
    /// includes.
    pub fn open(root: &Path, modules: BTreeSet<RepoPath>, capabilities: FsCapabilities) -> io::Result<Self> {
        let opened = rustix::fs::openat(CWD, root, DIR_FLAGS, Mode::empty())?;
        Ok(Self { root: opened, path: root.to_owned(), modules, capabilities, entered: Mutex::default() })
    }

    /// Returns the inode of the root directory.
    pub fn root_inode(&self) -> Result<Inode, HostError> {
        rustix::fs::fstat(&self.root)
            .map(|stat| Inode::from_stat(&stat))
            .map_err(system_error("failed to inspect the working tree"))
    }

    /// Reads the content of a file, or a symlink's target, as it was observed.
    ///
    /// # Errors
    /// The file has changed, or an I/O error.
    pub fn read_file(&self, path: &RepoPath, observed: &ObservedFile) -> Result<Vec<u8>, HostError> {
        if observed.version.kind == EntryKind::Symlink {
            return self.read_symlink(path)?.ok_or(HostError::Stale);
        }
        let Parent::Open(directory) = self.open_parent(path)? else { return Err(HostError::Stale) };
        let opened = attributes::open_entry(DirEntryRef::new(&directory, path.file_name()))
            .map_err(system_error("failed to open the file"))?;
        let mut content = Vec::new();
        let read = |error| HostError::Io { attempt: "failed to read the file", error };
        io::Read::read_to_end(&mut File::from(opened.ok_or(HostError::Stale)?), &mut content).map_err(read)?;
        if ContentHash::from_content(&content) == observed.version.hash { Ok(content) } else { Err(HostError::Stale) }
    }

    /// Opens the root directory again.
    pub(crate) fn open_root(&self) -> Result<OwnedFd, HostError> {
        rustix::fs::openat(&self.root, ".", DIR_FLAGS, Mode::empty())
            .map_err(system_error("failed to open the working tree"))
    }

    /// Opens the deepest existing directory above a path.
    pub(crate) fn open_nearest_existing_dir(&self, path: &RepoPath) -> Result<OwnedFd, HostError> {
        let mut at = path.clone();
        loop {
            if let Parent::Open(directory) = self.open_parent(&at)? {
                return Ok(directory);
            }
            match at.parent() {
                Some(above) => at = above,
                None => return self.open_root(),
            }
        }
    }

    /// Returns the reason why a file cannot be replaced because of its attributes, if any. Such attributes grant privileges
    /// to the old content only.
    pub fn untransferable_reason(
        &self,
        path: &RepoPath,
        observed: &ObservedFile,
    ) -> Result<Option<&'static str>, HostError> {
        let Parent::Open(directory) = self.open_parent(path)? else { return Ok(None) };
        let file = match observed.version.kind {
            EntryKind::Symlink => return Ok(None),
            _ => attributes::open_entry(DirEntryRef::new(&directory, path.file_name()))
                .map_err(system_error("failed to open the file"))?,
        };
        Ok(attributes::untransferable_reason(observed.mode, file.as_ref()))
    }

    /// Returns the reason why the system does not permit replacing a path, if any (`chattr +i`, `chattr +a`, a mount).
    pub fn immutability_reason(&self, path: &RepoPath) -> Result<Option<&'static str>, HostError> {
        let stat_error = system_error("failed to read the metadata");
        let Parent::Open(directory) = self.open_parent(path)? else { return Ok(None) };
        match find_entry_facts(&directory, OsStr::from_bytes(path.file_name())) {
            Ok(found) if found.is_immutable => Ok(Some("it is immutable or append-only (see `lsattr`)")),
            Ok(found) if found.mount != Mount::from_fd(&directory).map_err(stat_error)? => {
                Ok(Some("it is a mount point"))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOSYS) => Ok(None),
            Err(error) => Err(stat_error(error)),
        }
    }

    /// Returns the reason why entries of a path's directory cannot be created, replaced or deleted, if any.
    pub fn unwritable_reason(&self, path: &RepoPath) -> Result<Option<&'static str>, HostError> {
        let stat_error = system_error("failed to inspect the parent directory");
        let directory = self.open_nearest_existing_dir(path)?;
        match find_entry_facts(&directory, OsStr::new("")) {
            Ok(found) if found.is_immutable => {
                return Ok(Some("its directory is immutable or append-only (see `lsattr`)"));
            }
            Ok(_) | Err(Errno::NOSYS) => {}
            Err(error) => return Err(stat_error(error)),
        }
        match rustix::fs::accessat(&directory, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) => Ok(None),
            Err(Errno::ACCESS | Errno::ROFS | Errno::PERM) => Ok(Some("its directory is not writable")),
            Err(error) => Err(stat_error(error)),
        }
    }

    /// Returns the path by which the working tree was opened, for messages.
    #[must_use]
    pub fn root_path(&self) -> &Path {
        &self.path
    }

    /// Returns the capabilities of the file system.
    #[must_use]
    pub fn fs_capabilities(&self) -> FsCapabilities {
        self.capabilities
    }

    /// Returns the names in a directory (`None` is the root). Returns an empty list if the directory cannot be entered.
    pub fn read_dir_names(&self, directory: Option<&RepoPath>) -> Result<Vec<(Vec<u8>, EntryClass)>, HostError> {
        let opened = match directory {
            None => rustix::fs::openat(&self.root, ".", DIR_FLAGS, Mode::empty()),
            Some(directory) => match self.open_parent(directory)? {
                Parent::Open(parent) => {
                    rustix::fs::openat(&parent, OsStr::from_bytes(directory.file_name()), DIR_FLAGS, Mode::empty())
                }
                Parent::Missing | Parent::Blocked(_) => return Ok(Vec::new()),
            },
        };
        let opened = match opened {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            other => other.map_err(system_error("failed to open the directory"))?,
        };
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&opened).map_err(system_error("failed to list the directory"))? {
            let entry = entry.map_err(system_error("failed to list the directory"))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::RegularFile => EntryClass::File,
                FileType::Directory => EntryClass::Directory,
                _ => EntryClass::Other,
            };
            found.push((name.to_vec(), kind));
        }
        Ok(found)
    }

    /// Reads the target of a symlink. Returns `None` if the path is not a symlink.
    pub fn read_symlink(&self, path: &RepoPath) -> Result<Option<Vec<u8>>, HostError> {
        let Parent::Open(directory) = self.open_parent(path)? else { return Ok(None) };
        match rustix::fs::readlinkat(&directory, OsStr::from_bytes(path.file_name()), Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(error) => Err(system_error("failed to read the symlink")(error)),
        }
    }

    /// Observes the state of a path without following symlinks.
    pub fn observe_path(&self, path: &RepoPath) -> Result<PathState, HostError> {
        match self.open_parent(path)? {
            Parent::Open(directory) => observe_in(&directory, OsStr::from_bytes(path.file_name())),
            Parent::Missing => Ok(PathState::Absent),
            Parent::Blocked(state) => Ok(state),
        }
    }

    /// Returns the state of a path without reading a file there.
    ///
    /// # Errors
    /// A directory or the metadata cannot be read.
    pub fn classify_path(&self, path: &RepoPath) -> Result<PathState<EntryKind>, HostError> {
        let directory = match self.open_parent(path)? {
            Parent::Open(directory) => directory,
            Parent::Missing => return Ok(PathState::Absent),
            Parent::Blocked(state) => return Ok(state.map_file(|file| file.version.kind)),
        };
        let name = OsStr::from_bytes(path.file_name());
        let stat = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(PathState::Absent),
            Err(error) => return Err(system_error("failed to read the metadata")(error)),
        };
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => PathState::File(regular_kind(&stat)),
            FileType::Symlink => PathState::File(EntryKind::Symlink),
            FileType::Directory => PathState::Directory,
            _ => PathState::Special,
        })
    }

    /// Returns all files and directories below a directory. Returns `None` if a name is not a valid repository path, such as
    /// the `.git` of a nested repository.
    pub fn read_dir_contents(&self, directory: &RepoPath) -> Result<Option<DirContents>, HostError> {
        let (mut found, mut open) = (DirContents::default(), vec![directory.clone()]);
        while let Some(at) = open.pop() {
            let Parent::Open(parent) = self.open_parent(&at)? else { continue };
            let list = rustix::fs::openat(&parent, OsStr::from_bytes(at.file_name()), DIR_FLAGS, Mode::empty())
                .and_then(rustix::fs::Dir::new)
                .map_err(system_error("failed to list the directory"))?;
            for entry in list {
                let entry = entry.map_err(system_error("failed to list the directory"))?;
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let Ok(path) = RepoPath::from_parent(Some(&at), name) else { return Ok(None) };
                if entry.file_type() == FileType::Directory {
                    open.push(path.clone());
                    found.directories.push(path);
                } else {
                    found.files.push(path);
                }
            }
        }
        Ok(Some(found))
    }

    /// Opens the directory that contains a path.
    pub(crate) fn open_parent(&self, path: &RepoPath) -> Result<Parent, HostError> {
        let Some(above) = path.parent() else {
            let root = self.root.try_clone();
            return root
                .map(Parent::Open)
                .map_err(|error| HostError::Io { attempt: "failed to open the directory", error });
        };
        let entered = || self.entered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if entered().contains(&above)
            && let Ok(directory) = open_below(&self.root, OsStr::from_bytes(above.as_bytes()), DIR_FLAGS)
        {
            return Ok(Parent::Open(directory));
        }
        let parent = self.open_by_component(&above)?;
        if let Parent::Open(_) = parent {
            entered().insert(above);
        }
        Ok(parent)
    }

    /// Opens a directory component by component.
    fn open_by_component(&self, above: &RepoPath) -> Result<Parent, HostError> {
        let mut directory =
            self.root.try_clone().map_err(|error| HostError::Io { attempt: "failed to open the directory", error })?;
        let mut walked: Option<RepoPath> = None;
        for component in above.components() {
            let Ok(current) = RepoPath::from_parent(walked.as_ref(), component) else { return Err(HostError::Stale) };
            let name = OsStr::from_bytes(component);
            directory = match rustix::fs::openat(&directory, name, DIR_FLAGS, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT) => return Ok(Parent::Missing),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let link = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
                        .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Symlink);
                    return Ok(Parent::Blocked(if link {
                        PathState::BelowSymlink(current)
                    } else {
                        PathState::BelowFile(current)
                    }));
                }
                Err(error) => return Err(system_error("failed to open the directory")(error)),
            };
            let is_repository = rustix::fs::statat(&directory, ".git", AtFlags::SYMLINK_NOFOLLOW).is_ok();
            if is_repository && !self.modules.contains(&current) {
                return Ok(Parent::Blocked(PathState::BelowRepository(current)));
            }
            walked = Some(current);
        }
        Ok(Parent::Open(directory))
    }
}

/// Returns the kind of a regular file.
fn regular_kind(stat: &Stat) -> EntryKind {
    if stat.st_mode & 0o100 != 0 { EntryKind::Executable } else { EntryKind::Regular }
}

/// Observes the state of a name in an open directory.
pub(crate) fn observe_in(directory: impl AsFd, name: &OsStr) -> Result<PathState, HostError> {
    let directory = directory.as_fd();
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(PathState::Absent),
        Err(error) => return Err(system_error("failed to read the metadata")(error)),
    };
    let (kind, hash, stat) = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => return Ok(PathState::Directory),
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(directory, name, Vec::new())
                .map_err(system_error("failed to read the symlink"))?;
            (EntryKind::Symlink, ContentHash::from_content(target.as_bytes()), stat)
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
                // The file has been replaced since.
                Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Err(HostError::Stale),
                other => other.map_err(system_error("failed to open the file"))?,
            };
            let stat = rustix::fs::fstat(&file).map_err(system_error("failed to read the metadata"))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(HostError::Stale);
            }
            let mut file = File::from(file);
            let hash = ContentHash::from_reader(&mut file)
                .map_err(|error| HostError::Io { attempt: "failed to read the file", error })?;
            // Detects writes to the file while it was read.
            if StatFingerprint::from_stat(
                &rustix::fs::fstat(&file).map_err(system_error("failed to read the metadata"))?,
            ) != StatFingerprint::from_stat(&stat)
            {
                return Err(HostError::Stale);
            }
            (regular_kind(&stat), hash, stat)
        }
        _ => return Ok(PathState::Special),
    };
    Ok(PathState::File(ObservedFile::from_stat(EntryContent { kind, hash }, &stat)))
}
