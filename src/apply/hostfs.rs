//! The only reader and writer of a host tree: component by component, by descriptor, never through a link.
#![expect(clippy::disallowed_methods, reason = "this is the one door")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Stat, Uid, XattrFlags};
use rustix::io::Errno;

use crate::changes::ContentHash;
use crate::changes::twins::TwinKind;
use crate::path::{EntryKind, RepoPath};

/// The root of a working tree.
#[derive(Debug)]
pub struct HostTree {
    root: OwnedFd,
    /// Directories of other repositories that belong to this tree.
    modules: BTreeSet<RepoPath>,
    /// What its file system can hold.
    habits: Habits,
}

/// What git was told of the file system (`core.fileMode`, `core.symlinks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habits {
    /// The executable bit means something.
    pub file_mode: bool,
    /// There are links; else a file with the target stands for one.
    pub symlinks: bool,
}

impl Default for Habits {
    fn default() -> Self {
        Self { file_mode: true, symlinks: true }
    }
}

impl Habits {
    /// Gives the kind under which two files compare here.
    #[must_use]
    pub fn seen_as(self, kind: EntryKind) -> EntryKind {
        match kind {
            EntryKind::Executable if !self.file_mode => EntryKind::Regular,
            EntryKind::Link if !self.symlinks => EntryKind::Regular,
            other => other,
        }
    }
}

/// What a path of the host holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Nothing.
    Nothing,
    /// A file or a link.
    File(Seen),
    /// A directory.
    Directory,
    /// A device, a socket or a pipe.
    Special,
    /// Nothing can be there: this path above it is a file.
    BelowFile(RepoPath),
    /// It is not looked at: this path above it is a link.
    BelowLink(RepoPath),
    /// It is not looked at: this directory above it is another repository.
    BelowRepository(RepoPath),
}

/// A file as it was seen; equal only while nobody has touched it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its kind.
    pub kind: EntryKind,
    /// Its content, or the target of a link.
    pub hash: ContentHash,
    identity: Identity,
}

impl Seen {
    /// Tells how many names it has.
    #[must_use]
    pub fn names(&self) -> u64 {
        self.identity.names
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    size: i64,
    names: u64,
    changed: (i64, u64),
    modified: (i64, u64),
}

/// What a directory holds, at any depth.
#[derive(Debug, Default)]
pub struct Below {
    /// Everything but directories.
    pub files: Vec<RepoPath>,
    /// Directories, empty ones too.
    pub directories: Vec<RepoPath>,
}

/// Why a path was not written.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Somebody changed it between the plan and now.
    #[error("it was changed while the changes were being applied")]
    Stale,
    /// What the system says.
    #[error("{attempt}: {error}")]
    Io {
        /// What was attempted.
        attempt: &'static str,
        /// The system's words.
        error: io::Error,
    },
}

fn failed(attempt: &'static str) -> impl Fn(Errno) -> HostError {
    move |error| HostError::Io { attempt, error: error.into() }
}

/// Numbers of temporary files, so that two never share a name.
static TEMPORARY: AtomicU32 = AtomicU32::new(0);

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

enum Parent {
    Open(OwnedFd),
    Missing,
    Blocked(Look),
}

impl HostTree {
    /// Opens a working tree. Of the repositories nested in it, only `modules` are entered: the submodules that a snapshot
    /// had taken along.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(root: &Path, modules: BTreeSet<RepoPath>, habits: Habits) -> io::Result<Self> {
        Ok(Self { root: rustix::fs::openat(CWD, root, DIRECTORY, Mode::empty())?, modules, habits })
    }

    /// Gives what its file system can hold.
    #[must_use]
    pub fn habits(&self) -> Habits {
        self.habits
    }

    /// Lists the names of a directory (`None` is the root); nothing if there is none to enter.
    ///
    /// # Errors
    /// What the system says.
    pub fn names(&self, directory: Option<&RepoPath>) -> Result<Vec<(Vec<u8>, TwinKind)>, HostError> {
        let opened = match directory {
            None => rustix::fs::openat(&self.root, ".", DIRECTORY, Mode::empty()),
            Some(directory) => match self.parent(directory, false)? {
                Parent::Open(parent) => {
                    rustix::fs::openat(&parent, OsStr::from_bytes(directory.file_name()), DIRECTORY, Mode::empty())
                }
                Parent::Missing | Parent::Blocked(_) => return Ok(Vec::new()),
            },
        };
        let opened = match opened {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(Vec::new()),
            other => other.map_err(failed("failed to open the directory"))?,
        };
        let mut found = Vec::new();
        for entry in rustix::fs::Dir::read_from(&opened).map_err(failed("failed to list the directory"))? {
            let entry = entry.map_err(failed("failed to list the directory"))?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::RegularFile => TwinKind::File,
                FileType::Directory => TwinKind::Directory,
                _ => TwinKind::Other,
            };
            found.push((name.to_vec(), kind));
        }
        Ok(found)
    }

    /// Reads the target of a link; nothing if it is none.
    ///
    /// # Errors
    /// What the system says.
    pub fn target(&self, path: &RepoPath) -> Result<Option<Vec<u8>>, HostError> {
        let Parent::Open(directory) = self.parent(path, false)? else { return Ok(None) };
        match rustix::fs::readlinkat(&directory, OsStr::from_bytes(path.file_name()), Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::INVAL | Errno::NOENT) => Ok(None),
            Err(error) => Err(failed("failed to read the link")(error)),
        }
    }

    /// Looks at a path without following any link.
    ///
    /// # Errors
    /// What the system says.
    pub fn look(&self, path: &RepoPath) -> Result<Look, HostError> {
        match self.parent(path, false)? {
            Parent::Open(directory) => look_in(&directory, OsStr::from_bytes(path.file_name())),
            Parent::Missing => Ok(Look::Nothing),
            Parent::Blocked(look) => Ok(look),
        }
    }

    /// Lists every file and every directory below a directory; `None` if there is a name that is no path of ours (a nested
    /// repository, say).
    ///
    /// # Errors
    /// What the system says.
    pub fn below(&self, directory: &RepoPath) -> Result<Option<Below>, HostError> {
        let (mut found, mut open) = (Below::default(), vec![directory.clone()]);
        while let Some(at) = open.pop() {
            let Parent::Open(parent) = self.parent(&at, false)? else { continue };
            let list = rustix::fs::openat(&parent, OsStr::from_bytes(at.file_name()), DIRECTORY, Mode::empty())
                .and_then(rustix::fs::Dir::new)
                .map_err(failed("failed to list a directory"))?;
            for entry in list {
                let entry = entry.map_err(failed("failed to list a directory"))?;
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

    /// Writes a file or link, whole or not at all: a temporary file in the same directory, synchronised, then renamed.
    /// A replaced file keeps its owner, group, permissions and extended attributes; a new one gets the umask's.
    ///
    /// # Errors
    /// The path no longer holds `expected`; or what the system says. Then it is as it was.
    pub fn write(
        &self,
        path: &RepoPath,
        kind: EntryKind,
        content: &[u8],
        expected: Option<&Seen>,
    ) -> Result<(), HostError> {
        let Parent::Open(directory) = self.parent(path, true)? else { return Err(HostError::Stale) };
        let name = OsStr::from_bytes(path.file_name());
        let kind = if kind == EntryKind::Link { self.habits.seen_as(kind) } else { kind };
        let temporary = Temporary::make(&directory, kind, content)?;
        if let (Some(file), Some(_)) = (&temporary.file, expected) {
            keep_attributes(&directory, name, file, kind, self.habits)?;
        }
        if let Some(file) = &temporary.file {
            file.sync_all().map_err(|error| HostError::Io { attempt: "failed to write it to disk", error })?;
        }
        let now = look_in(&directory, name)?;
        let flags = match (&now, expected) {
            (Look::File(seen), Some(expected)) if seen == expected => RenameFlags::empty(),
            (Look::Nothing, None) => RenameFlags::NOREPLACE,
            _ => return Err(HostError::Stale),
        };
        if temporary.rename(name, flags)? == Placed::Unsupported {
            make_exclusively(&directory, name, kind, content)?;
        }
        rustix::fs::fsync(&directory).map_err(failed("failed to write the directory to disk"))
    }

    /// Gives a file another spelling of its name, on a file system that takes both for one; gives what is there then.
    ///
    /// # Errors
    /// The path no longer holds `expected`; or what the system says. Then it is as it was.
    pub fn respell(&self, from: &RepoPath, to: &RepoPath, expected: &Seen) -> Result<Seen, HostError> {
        let Parent::Open(directory) = self.parent(from, false)? else { return Err(HostError::Stale) };
        let (old, new) = (OsStr::from_bytes(from.file_name()), OsStr::from_bytes(to.file_name()));
        if !matches!(look_in(&directory, old)?, Look::File(seen) if seen == *expected) {
            return Err(HostError::Stale);
        }
        rustix::fs::renameat(&directory, old, &directory, new).map_err(failed("failed to rename it"))?;
        match look_in(&directory, new)? {
            Look::File(seen) if (seen.kind, &seen.hash) == (expected.kind, &expected.hash) => Ok(seen),
            _ => Err(HostError::Stale),
        }
    }

    /// Deletes a file or link.
    ///
    /// # Errors
    /// The path no longer holds `expected`; or what the system says.
    pub fn delete(&self, path: &RepoPath, expected: &Seen) -> Result<(), HostError> {
        let Parent::Open(directory) = self.parent(path, false)? else { return Err(HostError::Stale) };
        let name = OsStr::from_bytes(path.file_name());
        if !matches!(look_in(&directory, name)?, Look::File(seen) if seen == *expected) {
            return Err(HostError::Stale);
        }
        rustix::fs::unlinkat(&directory, name, AtFlags::empty()).map_err(failed("failed to delete it"))?;
        rustix::fs::fsync(&directory).map_err(failed("failed to write the directory to disk"))
    }

    /// Removes the directories above a deleted path that are empty now, as git does; with `top`, none above that.
    pub fn prune(&self, deleted: &RepoPath, top: Option<&RepoPath>) {
        let mut above = deleted.parent();
        while let Some(directory) = above {
            if top.is_some_and(|top| directory != *top && !directory.is_below(top)) {
                break;
            }
            let Ok(Parent::Open(parent)) = self.parent(&directory, false) else { break };
            let name = OsStr::from_bytes(directory.file_name());
            if rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).is_err() {
                break;
            }
            above = directory.parent();
        }
    }

    /// Opens the directory that holds a path, making those on the way if `make`.
    fn parent(&self, path: &RepoPath, make: bool) -> Result<Parent, HostError> {
        let mut directory =
            self.root.try_clone().map_err(|error| HostError::Io { attempt: "failed to open it", error })?;
        let Some(above) = path.parent() else { return Ok(Parent::Open(directory)) };
        let mut walked: Option<RepoPath> = None;
        for component in above.components() {
            let Ok(here) = RepoPath::child(walked.as_ref(), component) else { return Err(HostError::Stale) };
            let name = OsStr::from_bytes(component);
            let next = match rustix::fs::openat(&directory, name, DIRECTORY, Mode::empty()) {
                Err(Errno::NOENT) if make => {
                    match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o777)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(failed("failed to make a directory")(error)),
                    }
                    rustix::fs::openat(&directory, name, DIRECTORY, Mode::empty())
                }
                other => other,
            };
            directory = match next {
                Ok(next) => next,
                Err(Errno::NOENT) => return Ok(Parent::Missing),
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let link = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)
                        .is_ok_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Symlink);
                    return Ok(Parent::Blocked(if link { Look::BelowLink(here) } else { Look::BelowFile(here) }));
                }
                Err(error) => return Err(failed("failed to open the directory")(error)),
            };
            let is_repository = rustix::fs::statat(&directory, ".git", AtFlags::SYMLINK_NOFOLLOW).is_ok();
            if is_repository && !self.modules.contains(&here) {
                return Ok(Parent::Blocked(Look::BelowRepository(here)));
            }
            walked = Some(here);
        }
        Ok(Parent::Open(directory))
    }
}

fn look_in(directory: &OwnedFd, name: &OsStr) -> Result<Look, HostError> {
    let stat = match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(Look::Nothing),
        Err(error) => return Err(failed("failed to look at it")(error)),
    };
    let (kind, hash, stat) = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => return Ok(Look::Directory),
        FileType::Symlink => {
            let target =
                rustix::fs::readlinkat(directory, name, Vec::new()).map_err(failed("failed to read the link"))?;
            (EntryKind::Link, ContentHash::of(target.as_bytes()), stat)
        }
        FileType::RegularFile => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file =
                rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(failed("failed to open it"))?;
            let stat = rustix::fs::fstat(&file).map_err(failed("failed to look at it"))?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                return Err(HostError::Stale);
            }
            let mut file = File::from(file);
            let hash = ContentHash::of_reader(&mut file)
                .map_err(|error| HostError::Io { attempt: "failed to read it", error })?;
            // Somebody who writes while it is read would otherwise go unseen.
            if Identity::of(&rustix::fs::fstat(&file).map_err(failed("failed to look at it"))?) != Identity::of(&stat) {
                return Err(HostError::Stale);
            }
            let executable = stat.st_mode & 0o100 != 0;
            (if executable { EntryKind::Executable } else { EntryKind::Regular }, hash, stat)
        }
        _ => return Ok(Look::Special),
    };
    Ok(Look::File(Seen { kind, hash, identity: Identity::of(&stat) }))
}

impl Identity {
    #[expect(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev as u64,
            inode: stat.st_ino as u64,
            size: stat.st_size as i64,
            names: stat.st_nlink as u64,
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as u64),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        }
    }
}

/// Whether a temporary file has become the real one.
#[derive(Debug, PartialEq, Eq)]
enum Placed {
    There,
    /// The file system cannot do it without the risk of replacing something.
    Unsupported,
}

/// Makes a new file under its own name, which fails where something is. What a crash leaves half-written is ours alone.
fn make_exclusively(directory: &OwnedFd, name: &OsStr, kind: EntryKind, content: &[u8]) -> Result<(), HostError> {
    if kind == EntryKind::Link {
        let made = rustix::fs::symlinkat(OsStr::from_bytes(content), directory, name);
        return made
            .map_err(|e| if e == Errno::EXIST { HostError::Stale } else { failed("failed to make the link")(e) });
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(if kind == EntryKind::Executable { 0o777 } else { 0o666 });
    let mut file = match rustix::fs::openat(directory, name, flags, mode) {
        Ok(file) => File::from(file),
        Err(Errno::EXIST) => return Err(HostError::Stale),
        Err(error) => return Err(failed("failed to make it")(error)),
    };
    file.write_all(content).and_then(|()| file.sync_all()).map_err(|error| {
        let _ = rustix::fs::unlinkat(directory, name, AtFlags::empty());
        HostError::Io { attempt: "failed to write it", error }
    })
}

/// A file of ours beside its target; gone when dropped, unless it was renamed.
struct Temporary<'a> {
    directory: &'a OwnedFd,
    name: String,
    /// Open, unless it is a link.
    file: Option<File>,
    renamed: bool,
}

impl<'a> Temporary<'a> {
    fn make(directory: &'a OwnedFd, kind: EntryKind, content: &[u8]) -> Result<Self, HostError> {
        loop {
            let number = TEMPORARY.fetch_add(1, Ordering::Relaxed);
            let name = format!(".airlock-{}-{number}", std::process::id());
            let made = match kind {
                EntryKind::Link => {
                    rustix::fs::symlinkat(OsStr::from_bytes(content), directory, name.as_str()).map(|()| None)
                }
                EntryKind::Regular | EntryKind::Executable => {
                    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    let mode = Mode::from_raw_mode(if kind == EntryKind::Executable { 0o777 } else { 0o666 });
                    rustix::fs::openat(directory, name.as_str(), flags, mode).map(|fd| Some(File::from(fd)))
                }
            };
            match made {
                Err(Errno::EXIST) => {}
                Err(error) => return Err(failed("failed to make a temporary file beside it")(error)),
                Ok(file) => {
                    let mut temporary = Self { directory, name, file, renamed: false };
                    if let Some(file) = &mut temporary.file {
                        file.write_all(content).map_err(|error| HostError::Io {
                            attempt: "failed to write a temporary file beside it",
                            error,
                        })?;
                    }
                    return Ok(temporary);
                }
            }
        }
    }

    fn rename(mut self, name: &OsStr, flags: RenameFlags) -> Result<Placed, HostError> {
        let renamed = rustix::fs::renameat_with(self.directory, self.name.as_str(), self.directory, name, flags);
        match renamed {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(HostError::Stale),
            // A file system without that flag: a hard link also fails where something is.
            Err(Errno::INVAL) if flags.contains(RenameFlags::NOREPLACE) => {
                let linked =
                    rustix::fs::linkat(self.directory, self.name.as_str(), self.directory, name, AtFlags::empty());
                return match linked {
                    Ok(()) => Ok(Placed::There),
                    Err(Errno::EXIST) => Err(HostError::Stale),
                    // Without hard links either, such as FAT.
                    Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::INVAL) => Ok(Placed::Unsupported),
                    Err(error) => Err(failed("failed to put it in place")(error)),
                };
            }
            Err(error) => return Err(failed("failed to put it in place")(error)),
        }
        self.renamed = true;
        Ok(Placed::There)
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = rustix::fs::unlinkat(self.directory, self.name.as_str(), AtFlags::empty());
        }
    }
}

/// Gives a new file the owner, group, permissions and extended attributes (access lists among them) of the one it replaces.
fn keep_attributes(
    directory: &OwnedFd,
    name: &OsStr,
    new: &File,
    kind: EntryKind,
    habits: Habits,
) -> Result<(), HostError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let old = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(old) => old,
        // It replaces a link, which has none.
        Err(Errno::LOOP) => return Ok(()),
        Err(error) => return Err(failed("failed to open the file to replace")(error)),
    };
    let (was, is) = (
        rustix::fs::fstat(&old).map_err(failed("failed to look at it"))?,
        rustix::fs::fstat(new).map_err(failed("failed to look at it"))?,
    );
    if (was.st_uid, was.st_gid) != (is.st_uid, is.st_gid) {
        let (uid, gid) = (Uid::from_raw(was.st_uid), Gid::from_raw(was.st_gid));
        rustix::fs::fchown(new, Some(uid), Some(gid)).map_err(failed("failed to keep its owner and group"))?;
    }
    copy_xattrs(&old, new)?;
    let mode = was.st_mode & 0o777;
    let mode = match (kind == EntryKind::Executable, mode & 0o100 != 0) {
        // What git does not count on is nobody's to change.
        _ if !habits.file_mode => mode,
        // Whoever may read may execute, as with `chmod +x` and a umask.
        (true, false) => mode | (mode & 0o444) >> 2,
        (false, true) => mode & !0o111,
        _ => mode,
    };
    match rustix::fs::fchmod(new, Mode::from_raw_mode(mode)) {
        // A file system without permissions, such as FAT.
        Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP) if !habits.file_mode => Ok(()),
        other => other.map_err(failed("failed to keep its permissions")),
    }
}

fn copy_xattrs(old: &impl AsFd, new: &File) -> Result<(), HostError> {
    let keep = failed("failed to keep its extended attributes");
    let mut names = vec![0; 64 * 1024];
    let length = match rustix::fs::flistxattr(old, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(keep(error)),
    };
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        // Labels of the security modules are given by the system to every new file.
        if name.starts_with(b"security.") {
            continue;
        }
        let name = OsStr::from_bytes(name);
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::fgetxattr(old, name, &mut value).map_err(&keep)?;
        rustix::fs::fsetxattr(new, name, &value[..length], XattrFlags::empty()).map_err(&keep)?;
    }
    Ok(())
}
