//! The only writer to a host tree, and to what is kept for its undo: one function for each thing that is done to a disk, all
//! of them relative to an open directory, none of them through a link. A fault can be put before each, so that a test can
//! fail, or end, an apply at any of its operations.
#![expect(clippy::disallowed_methods, reason = "this is the one door")]

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

/// An operation, for a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsOp {
    /// A directory is made.
    MakeDirectory,
    /// A file is made.
    Create,
    /// A file is filled; with a fault before it, the first half of the bytes is written.
    Fill,
    /// A symbolic link is made.
    MakeLink,
    /// A name is given to a file a second time.
    Link,
    /// Something is renamed, or two things exchanged.
    Rename(Rename),
    /// A file is removed.
    Remove,
    /// An empty directory is removed.
    RemoveDirectory,
    /// Owner and group are set.
    SetOwner,
    SetMode,
    /// An extended attribute is set.
    SetAttribute,
    /// An extended attribute is removed.
    RemoveAttribute,
    /// The time of modification is set to now.
    Touch,
    /// A file or directory is written to disk.
    Sync,
}

/// Decides before each operation whether it fails, for tests.
pub type FaultInjector = dyn Fn(FsOp) -> Result<(), Errno> + Send + Sync;

/// The door.
#[derive(Clone, Default)]
pub struct HostFs {
    fault: Option<Arc<FaultInjector>>,
}

impl fmt::Debug for HostFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("faulty", &self.fault.is_some()).finish()
    }
}

/// A name in an open directory.
#[derive(Debug, Clone, Copy)]
pub struct DirEntryRef<'a> {
    pub directory: BorrowedFd<'a>,
    pub name: &'a OsStr,
}

impl<'a> DirEntryRef<'a> {
    /// Names something in a directory.
    pub fn new(directory: &'a impl AsFd, name: &'a [u8]) -> Self {
        Self { directory: directory.as_fd(), name: OsStr::from_bytes(name) }
    }
}

/// The mode of a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// Both names are there, and afterwards stand for each other's file.
    Exchange,
    /// Nothing is at the new name.
    NoReplace,
    /// Whatever is at the new name is lost: for file systems without the other two, and for files of ours.
    Plain,
}

const NOTHING: AtFlags = AtFlags::empty();

impl HostFs {
    /// Creates one that asks `fault` before each operation.
    #[must_use]
    pub fn with_faults(fault: Arc<FaultInjector>) -> Self {
        Self { fault: Some(fault) }
    }

    fn check_fault(&self, call: FsOp) -> Result<(), Errno> {
        self.fault.as_ref().map_or(Ok(()), |fault| fault(call))
    }

    /// Creates a directory.
    ///
    /// # Errors
    /// The system's error, here and below.
    pub fn create_dir(&self, at: DirEntryRef<'_>, mode: u32) -> Result<(), Errno> {
        self.check_fault(FsOp::MakeDirectory)?;
        rustix::fs::mkdirat(at.directory, at.name, Mode::from_raw_mode(mode))
    }

    /// Creates an empty file that was not there; the umask counts.
    pub fn create_file(&self, at: DirEntryRef<'_>, mode: u32) -> Result<File, Errno> {
        self.check_fault(FsOp::Create)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(at.directory, at.name, flags, Mode::from_raw_mode(mode)).map(File::from)
    }

    /// Creates an empty file as if it were made in the directory `heir`, which may pass its group and access list on.
    ///
    /// # Errors
    /// As above; `OPNOTSUPP` where the file system has no files without a name.
    pub fn create_file_in(&self, heir: BorrowedFd<'_>, at: DirEntryRef<'_>, mode: u32) -> Result<File, Errno> {
        self.check_fault(FsOp::Create)?;
        let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(heir, ".", flags, Mode::from_raw_mode(mode))?);
        self.check_fault(FsOp::Link)?;
        let open = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        rustix::fs::linkat(CWD, open.as_str(), at.directory, at.name, AtFlags::SYMLINK_FOLLOW)?;
        Ok(file)
    }

    /// Writes all of a file's content.
    pub fn write_all(&self, mut file: &File, bytes: &[u8]) -> Result<(), Errno> {
        let written = |r: std::io::Result<()>| r.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO));
        if let Err(error) = self.check_fault(FsOp::Fill) {
            written(file.write_all(&bytes[..bytes.len() / 2]))?;
            return Err(error);
        }
        written(file.write_all(bytes))
    }

    /// Creates a symbolic link.
    pub fn create_symlink(&self, target: &[u8], at: DirEntryRef<'_>) -> Result<(), Errno> {
        self.check_fault(FsOp::MakeLink)?;
        rustix::fs::symlinkat(OsStr::from_bytes(target), at.directory, at.name)
    }

    /// Returns a file a second name, which was not there.
    pub fn hard_link(&self, from: DirEntryRef<'_>, to: DirEntryRef<'_>) -> Result<(), Errno> {
        self.check_fault(FsOp::Link)?;
        rustix::fs::linkat(from.directory, from.name, to.directory, to.name, NOTHING)
    }

    /// Renames something.
    ///
    /// # Errors
    /// As above; `INVAL` where the file system cannot do it in this way.
    pub fn rename_entry(&self, from: DirEntryRef<'_>, to: DirEntryRef<'_>, how: Rename) -> Result<(), Errno> {
        self.check_fault(FsOp::Rename(how))?;
        let flags = match how {
            Rename::Exchange => RenameFlags::EXCHANGE,
            Rename::NoReplace => RenameFlags::NOREPLACE,
            Rename::Plain => RenameFlags::empty(),
        };
        rustix::fs::renameat_with(from.directory, from.name, to.directory, to.name, flags)
    }

    /// Removes a file or a link.
    pub fn remove_file(&self, at: DirEntryRef<'_>) -> Result<(), Errno> {
        self.check_fault(FsOp::Remove)?;
        rustix::fs::unlinkat(at.directory, at.name, NOTHING)
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, at: DirEntryRef<'_>) -> Result<(), Errno> {
        self.check_fault(FsOp::RemoveDirectory)?;
        rustix::fs::unlinkat(at.directory, at.name, AtFlags::REMOVEDIR)
    }

    /// Sets owner and group, of a link itself.
    pub fn set_owner(&self, at: DirEntryRef<'_>, user: u32, group: u32) -> Result<(), Errno> {
        self.check_fault(FsOp::SetOwner)?;
        let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        rustix::fs::chownat(at.directory, at.name, user, group, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Sets the permissions of an open file or directory.
    pub fn set_mode(&self, fd: impl AsFd, mode: u32) -> Result<(), Errno> {
        self.check_fault(FsOp::SetMode)?;
        rustix::fs::fchmod(fd, Mode::from_raw_mode(mode))
    }

    /// Sets an extended attribute of an open file or directory.
    pub fn set_attribute(&self, fd: impl AsFd, name: &OsStr, value: &[u8]) -> Result<(), Errno> {
        self.check_fault(FsOp::SetAttribute)?;
        rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty())
    }

    /// Removes an extended attribute of an open file or directory.
    pub fn remove_attribute(&self, fd: impl AsFd, name: &OsStr) -> Result<(), Errno> {
        self.check_fault(FsOp::RemoveAttribute)?;
        rustix::fs::fremovexattr(fd, name)
    }

    /// Sets the time of modification to now, of a link itself.
    pub fn touch_entry(&self, at: DirEntryRef<'_>) -> Result<(), Errno> {
        self.check_fault(FsOp::Touch)?;
        let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        let times = Timestamps { last_access: time(UTIME_OMIT), last_modification: time(UTIME_NOW) };
        rustix::fs::utimensat(at.directory, at.name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Waits until a file or directory is on disk.
    pub fn sync_fd(&self, fd: impl AsFd) -> Result<(), Errno> {
        self.check_fault(FsOp::Sync)?;
        rustix::fs::fsync(fd)
    }
}
