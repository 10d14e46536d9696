//! Looks at a host tree: component by component, by descriptor, never through a link. Nothing is written here.

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

use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, Statx, StatxAttributes, StatxFlags,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::changes::ContentHash;
use crate::changes::name_collisions::EntryClass;
use crate::core::path::{EntryKind, RepoPath};

/// The root of a working tree.
#[derive(Debug)]
pub struct WorkingTree {
    root: OwnedFd,
    path: PathBuf,
    /// Directories of other repositories that belong to this tree.
    modules: BTreeSet<RepoPath>,
    /// The capabilities of its file system.
    habits: FsCapabilities,
    /// Directories that were entered, and are no other repositories: from then on the system opens them at once, still through
    /// no link.
    entered: Mutex<HashSet<RepoPath>>,
}

/// The state of a path in the working tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathState {
    Absent,
    /// A file or a link.
    File(ObservedFile),
    Directory,
    /// A device, a socket or a pipe.
    Special,
    /// Nothing can be there: this path above it is a file.
    BelowFile(RepoPath),
    /// Not observed: this path above it is a symlink.
    BelowLink(RepoPath),
    /// Not observed: this directory above it is another repository.
    BelowRepository(RepoPath),
}

/// A file or link as it was seen; equal only while nobody has touched it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedFile {
    /// Kind and content, or a symlink's target.
    pub version: EntryContent,
    pub mode: u32,
    /// The file's inode.
    pub inode: Inode,
    pub uid: u32,
    times: StatFingerprint,
}

/// A file on disk, under any name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Inode {
    /// The number of the device, which may be another after the machine was started anew.
    pub device: u64,
    /// The number of the inode.
    pub number: u64,
}

impl ObservedFile {
    /// Returns how many names it has.
    #[must_use]
    pub fn link_count(&self) -> u64 {
        self.times.names
    }

    /// Returns its size in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        u64::try_from(self.times.size).unwrap_or(0)
    }

    /// Returns whether it is the same file with the same content and permissions, whatever it is called now.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.version, self.mode, self.inode) == (&other.version, other.mode, other.inode)
    }

    fn of(version: EntryContent, stat: &Stat) -> Self {
        Self {
            version,
            mode: stat.st_mode & 0o7777,
            inode: Inode::of(stat),
            uid: stat.st_uid,
            times: StatFingerprint::of(stat),
        }
    }
}

impl Inode {
    #[expect(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    pub(crate) fn of(stat: &Stat) -> Self {
        Self { device: stat.st_dev as u64, number: stat.st_ino as u64 }
    }
}

/// Stat fields that change when a file is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
struct StatFingerprint {
    size: i64,
    names: u64,
    changed: (i64, u64),
    modified: (i64, u64),
}

impl StatFingerprint {
    #[expect(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    fn of(stat: &Stat) -> Self {
        Self {
            size: stat.st_size as i64,
            names: stat.st_nlink as u64,
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        }
    }
}

/// The contents of a directory at any depth.
#[derive(Debug, Default)]
pub struct DirContents {
    pub files: Vec<RepoPath>,
    /// Directories, empty ones too.
    pub directories: Vec<RepoPath>,
}

pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The directory that holds a path.
pub(crate) enum Parent {
    Open(OwnedFd),
    Missing,
    Blocked(PathState),
}

impl Parent {
    /// Returns the directory, if it is there.
    pub(crate) fn into_dir(self) -> Option<OwnedFd> {
        match self {
            Self::Open(directory) => Some(directory),
            Self::Missing | Self::Blocked(_) => None,
        }
    }
}

/// A mount; nothing can be renamed from one to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mount(u64, u64);

impl Mount {
    /// Finds the mount that an open directory is on.
    pub fn of(directory: impl AsFd) -> Result<Self, Errno> {
        let wanted = StatxFlags::MNT_ID | StatxFlags::INO;
        let found = rustix::fs::statx(&directory, "", AtFlags::EMPTY_PATH, wanted)?;
        Ok(Self::from(&found))
    }
}

impl From<&Statx> for Mount {
    fn from(found: &Statx) -> Self {
        let device = u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor);
        // Before Linux 5.8 there is no number: then only devices are told apart.
        let mount = if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 { 0 } else { found.stx_mnt_id };
        Self(device, mount)
    }
}

/// Flags of `chattr` that prevent replacing a file.
const FIXED: StatxAttributes = StatxAttributes::IMMUTABLE.union(StatxAttributes::APPEND);

impl WorkingTree {
    /// Opens a working tree. Of the repositories nested in it, only `modules` are entered: the submodules that a snapshot
    /// had taken along.
    pub fn open(root: &Path, modules: BTreeSet<RepoPath>, habits: FsCapabilities) -> io::Result<Self> {
        let opened = rustix::fs::openat(CWD, root, DIRECTORY, Mode::empty())?;
        Ok(Self { root: opened, path: root.to_owned(), modules, habits, entered: Mutex::default() })
    }

    /// Returns which directory the root is.
    pub fn identity(&self) -> Result<Inode, HostError> {
        rustix::fs::fstat(&self.root)
            .map(|stat| Inode::of(&stat))
            .map_err(system_error("failed to look at the working tree"))
    }

    /// Reads a file or a link's target as it was seen.
    ///
    /// # Errors
    /// The file has changed, or an I/O error.
    pub fn read_file(&self, path: &RepoPath, seen: &ObservedFile) -> Result<Vec<u8>, HostError> {
        if seen.version.kind == EntryKind::Link {
            return self.read_symlink(path)?.ok_or(HostError::Stale);
        }
        let Parent::Open(directory) = self.open_parent(path)? else { return Err(HostError::Stale) };
        let opened = attributes::open_entry(DirEntryRef::new(&directory, path.file_name()))
            .map_err(system_error("failed to open it"))?;
        let mut content = Vec::new();
        let read = |error| HostError::Io { attempt: "failed to read it", error };
        io::Read::read_to_end(&mut File::from(opened.ok_or(HostError::Stale)?), &mut content).map_err(read)?;
        if ContentHash::of(&content) == seen.version.hash { Ok(content) } else { Err(HostError::Stale) }
    }

    /// Opens the root once more.
    pub(crate) fn open_root(&self) -> Result<OwnedFd, HostError> {
        rustix::fs::openat(&self.root, ".", DIRECTORY, Mode::empty())
            .map_err(system_error("failed to open the working tree"))
    }

    /// Opens the deepest directory above a path that is there.
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

    /// Returns why nothing else can take the place of a file, if so: what its attributes allow was meant for it alone.
    pub fn untransferable_reason(
        &self,
        path: &RepoPath,
        seen: &ObservedFile,
    ) -> Result<Option<&'static str>, HostError> {
        let Parent::Open(directory) = self.open_parent(path)? else { return Ok(None) };
        let file = match seen.version.kind {
            EntryKind::Link => return Ok(None),
            _ => attributes::open_entry(DirEntryRef::new(&directory, path.file_name()))
                .map_err(system_error("failed to open it"))?,
        };
        Ok(attributes::untransferable_reason(seen.mode, file.as_ref()))
    }

    /// Returns why the system lets nobody replace what is at a path, if so (`chattr +i`, `chattr +a`, a mount).
    pub fn immutability_reason(&self, path: &RepoPath) -> Result<Option<&'static str>, HostError> {
        let look = system_error("failed to look at it");
        let Parent::Open(directory) = self.open_parent(path)? else { return Ok(None) };
        let wanted = StatxFlags::TYPE | StatxFlags::MNT_ID;
        let name = OsStr::from_bytes(path.file_name());
        match rustix::fs::statx(&directory, name, AtFlags::SYMLINK_NOFOLLOW, wanted) {
            Ok(found) if found.stx_attributes.intersects(FIXED) => {
                Ok(Some("the system lets nobody replace it (see: lsattr)"))
            }
            Ok(found) if Mount::from(&found) != Mount::of(&directory).map_err(look)? => {
                Ok(Some("something is mounted on it"))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOSYS) => Ok(None),
            Err(error) => Err(look(error)),
        }
    }

    /// Returns why nothing can be made, replaced or deleted where a path is, if so.
    pub fn unwritable_reason(&self, path: &RepoPath) -> Result<Option<&'static str>, HostError> {
        let look = system_error("failed to look at its directory");
        let directory = self.open_nearest_existing_dir(path)?;
        match rustix::fs::statx(&directory, "", AtFlags::EMPTY_PATH, StatxFlags::TYPE) {
            Ok(found) if found.stx_attributes.intersects(FIXED) => {
                return Ok(Some("the system lets nobody change its directory (see: lsattr)"));
            }
            Ok(_) | Err(Errno::NOSYS) => {}
            Err(error) => return Err(look(error)),
        }
        match rustix::fs::accessat(&directory, ".", Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS) {
            Ok(()) => Ok(None),
            Err(Errno::ACCESS | Errno::ROFS | Errno::PERM) => Ok(Some("you may not write to its directory")),
            Err(error) => Err(look(error)),
        }
    }

    /// Returns the path that it was opened by, for a person.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns what its file system can hold.
    #[must_use]
    pub fn capabilities(&self) -> FsCapabilities {
        self.habits
    }

    /// Lists the names of a directory (`None` is the root); nothing if there is none to enter.
    pub fn read_dir_names(&self, directory: Option<&RepoPath>) -> Result<Vec<(Vec<u8>, EntryClass)>, HostError> {
        let opened = match directory {
            None => rustix::fs::openat(&self.root, ".", DIRECTORY, Mode::empty()),
            Some(directory) => match self.open_parent(directory)? {
                Parent::Open(parent) => {
                    rustix::fs::openat(&parent, OsStr::from_bytes(directory.file_name()), DIRECTORY, Mode::empty())
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

    /// Reads the target of a link; nothing if it is none.
    pub fn read_symlink(&self, path: &RepoPath) -> Result<Option<Vec<u8>>, HostError> {
        let Parent::Open(directory) = self.open_parent(path)? else { return Ok(None) };
        match rustix::fs::readlinkat(&directory, OsStr::from_bytes(path.file_name()), Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(error) => Err(system_error("failed to read the link")(error)),
        }
    }

    /// Looks at a path without following any link.
    pub fn observe(&self, path: &RepoPath) -> Result<PathState, HostError> {
        match self.open_parent(path)? {
            Parent::Open(directory) => observe_in(&directory, OsStr::from_bytes(path.file_name())),
            Parent::Missing => Ok(PathState::Absent),
            Parent::Blocked(look) => Ok(look),
        }
    }

    /// Lists every file and every directory below a directory; `None` if there is a name that is no path of ours (a nested
    /// repository, say).
    pub fn read_dir_contents(&self, directory: &RepoPath) -> Result<Option<DirContents>, HostError> {
        let (mut found, mut open) = (DirContents::default(), vec![directory.clone()]);
        while let Some(at) = open.pop() {
            let Parent::Open(parent) = self.open_parent(&at)? else { continue };
            let list = rustix::fs::openat(&parent, OsStr::from_bytes(at.file_name()), DIRECTORY, Mode::empty())
                .and_then(rustix::fs::Dir::new)
                .map_err(system_error("failed to list a directory"))?;
            for entry in list {
                let entry = entry.map_err(system_error("failed to list a directory"))?;
                let name = entry.file_name().to_bytes();
                if name == b"." || name == b".." {
                    continue;
                }
                let Ok(path) = RepoPath::child(Some(&at), name) else { return Ok(None) };
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

    /// Opens the directory that holds a path.
    pub(crate) fn open_parent(&self, path: &RepoPath) -> Result<Parent, HostError> {
        let Some(above) = path.parent() else {
            let root = self.root.try_clone();
            return root.map(Parent::Open).map_err(|error| HostError::Io { attempt: "failed to open it", error });
        };
        let entered = || self.entered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if entered().contains(&above)
            && let Ok(directory) = rustix::fs::openat2(
                &self.root,
                OsStr::from_bytes(above.as_bytes()),
                DIRECTORY,
                Mode::empty(),
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS,
            )
        {
            return Ok(Parent::Open(directory));
        }
        let parent = self.walk_to(&above)?;
        if let Parent::Open(_) = parent {
            entered().insert(above);
        }
        Ok(parent)
    }

    /// Opens a directory component by component.
    fn walk_to(&self, above: &RepoPath) -> Result<Parent, HostError> {
        let mut directory =
            self.root.try_clone().map_err(|error| HostError::Io { attempt: "failed to open it", error })?;
        let mut walked: Option<RepoPath> = None;
        for component in above.components() {
            let Ok(here) = RepoPath::child(walked.as_ref(), component) else { return Err(HostError::Stale) };
            let name = OsStr::from_bytes(component);
            directory = match rustix::fs::openat(&directory, name, DIRECTORY, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT) => return Ok(Parent::Missing),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let link = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
                        .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Symlink);
                    return Ok(Parent::Blocked(if link {
                        PathState::BelowLink(here)
                    } else {
                        PathState::BelowFile(here)
                    }));
                }
                Err(error) => return Err(system_error("failed to open the directory")(error)),
            };
            let is_repository = rustix::fs::statat(&directory, ".git", AtFlags::SYMLINK_NOFOLLOW).is_ok();
            if is_repository && !self.modules.contains(&here) {
                return Ok(Parent::Blocked(PathState::BelowRepository(here)));
            }
            walked = Some(here);
        }
        Ok(Parent::Open(directory))
    }
}

/// Looks at a name in an open directory.
pub(crate) fn observe_in(directory: impl AsFd, name: &OsStr) -> Result<PathState, HostError> {
    let directory = directory.as_fd();
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(PathState::Absent),
        Err(error) => return Err(system_error("failed to look at it")(error)),
    };
    let (kind, hash, stat) = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => return Ok(PathState::Directory),
        FileType::Symlink => {
            let target =
                rustix::fs::readlinkat(directory, name, Vec::new()).map_err(system_error("failed to read the link"))?;
            (EntryKind::Link, ContentHash::of(target.as_bytes()), stat)
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
                // Something else is there by now.
                Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Err(HostError::Stale),
                other => other.map_err(system_error("failed to open it"))?,
            };
            let stat = rustix::fs::fstat(&file).map_err(system_error("failed to look at it"))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(HostError::Stale);
            }
            let mut file = File::from(file);
            let hash = ContentHash::of_reader(&mut file)
                .map_err(|error| HostError::Io { attempt: "failed to read it", error })?;
            // Somebody who writes while it is read would otherwise go unseen.
            if StatFingerprint::of(&rustix::fs::fstat(&file).map_err(system_error("failed to look at it"))?)
                != StatFingerprint::of(&stat)
            {
                return Err(HostError::Stale);
            }
            let executable = stat.st_mode & 0o100 != 0;
            (if executable { EntryKind::Executable } else { EntryKind::Regular }, hash, stat)
        }
        _ => return Ok(PathState::Special),
    };
    Ok(PathState::File(ObservedFile::of(EntryContent { kind, hash }, &stat)))
}
