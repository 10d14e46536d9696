//! The only module that writes to the working tree and to the backups. Each disk operation is one function that works
//! relative to an open directory and never follows a symlink. Tests can inject a fault before each operation, to make it
//! fail or to end the process there.
#![expect(clippy::disallowed_methods, reason = "this is the only writer")]

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, Gid, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::platform;

/// A disk operation, for fault injection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsOp {
    CreateDirectory,
    CreateFile,
    /// The write of a file's content. If a fault is injected, the first half of the bytes is written.
    WriteContent,
    CreateSymlink,
    HardLink,
    /// A rename of one entry, or an exchange of two.
    Rename(Rename),
    RemoveFile,
    RemoveDirectory,
    SetOwner,
    SetMode,
    SetAttribute,
    RemoveAttribute,
    /// The update of the modification time to now.
    Touch,
    /// The sync of a file or directory to disk.
    Sync,
}

/// A test hook that decides before each operation whether it fails.
pub(crate) type FaultInjector = dyn Fn(FsOp) -> Result<(), Errno> + Send + Sync;

/// The file-system layer through which all writes to the working tree go.
#[derive(Clone, Default)]
pub struct HostFs {
    fault: Option<Arc<FaultInjector>>,
}

impl fmt::Debug for HostFs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostFs").field("faulty", &self.fault.is_some()).finish()
    }
}

/// A name in an open directory.
#[derive(Debug, Clone, Copy)]
pub struct DirEntryRef<'a> {
    pub directory: BorrowedFd<'a>,
    pub name: &'a OsStr,
}

impl<'a> DirEntryRef<'a> {
    pub fn new(directory: &'a impl AsFd, name: &'a [u8]) -> Self {
        Self { directory: directory.as_fd(), name: OsStr::from_bytes(name) }
    }
}

/// The mode of a rename.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rename {
    /// Both names exist; the rename exchanges their files.
    Exchange,
    /// The new name must not exist.
    NoReplace,
    /// An existing file at the new name is overwritten: for file systems that support neither of the other modes, and for
    /// Airlock's own files.
    Plain,
}

const NO_FLAGS: AtFlags = AtFlags::empty();

impl HostFs {
    /// Creates a layer that calls `fault` before each operation.
    #[must_use]
    pub fn with_faults(fault: Arc<FaultInjector>) -> Self {
        Self { fault: Some(fault) }
    }

    fn check_fault(&self, op: FsOp) -> Result<(), Errno> {
        self.fault.as_ref().map_or(Ok(()), |fault| fault(op))
    }

    /// Creates a directory.
    ///
    /// # Errors
    /// The system's error, as for all functions of this type.
    pub fn create_dir(&self, at: DirEntryRef<'_>, mode: u32) -> Result<(), Errno> {
        self.check_fault(FsOp::CreateDirectory)?;
        rustix::fs::mkdirat(at.directory, at.name, platform::mode_from_bits(mode))
    }

    /// Creates an empty file that must not exist. The umask applies.
    pub fn create_file(&self, at: DirEntryRef<'_>, mode: u32) -> Result<File, Errno> {
        self.check_fault(FsOp::CreateFile)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(at.directory, at.name, flags, platform::mode_from_bits(mode)).map(File::from)
    }

    /// Creates an empty file as if it were created in the directory `parent`, so that it inherits that directory's group and
    /// default ACL.
    ///
    /// # Errors
    /// As above; `OPNOTSUPP` if the file system does not support files without a name.
    pub fn create_file_in(&self, parent: BorrowedFd<'_>, at: DirEntryRef<'_>, mode: u32) -> Result<File, Errno> {
        self.check_fault(FsOp::CreateFile)?;
        let unnamed = platform::UNNAMED_FILE.ok_or(Errno::OPNOTSUPP)?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC | unnamed;
        let file = File::from(rustix::fs::openat(parent, ".", flags, platform::mode_from_bits(mode))?);
        self.check_fault(FsOp::HardLink)?;
        let fd_path = platform::open_file_path(&file).ok_or(Errno::OPNOTSUPP)?;
        rustix::fs::linkat(CWD, &fd_path, at.directory, at.name, AtFlags::SYMLINK_FOLLOW)?;
        Ok(file)
    }

    /// Writes the content of a file.
    pub fn write_all(&self, mut file: &File, bytes: &[u8]) -> Result<(), Errno> {
        let written = |r: std::io::Result<()>| r.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO));
        if let Err(error) = self.check_fault(FsOp::WriteContent) {
            written(file.write_all(&bytes[..bytes.len() / 2]))?;
            return Err(error);
        }
        written(file.write_all(bytes))
    }

    pub fn create_symlink(&self, target: &[u8], at: DirEntryRef<'_>) -> Result<(), Errno> {
        self.check_fault(FsOp::CreateSymlink)?;
        rustix::fs::symlinkat(OsStr::from_bytes(target), at.directory, at.name)
    }

    /// Creates a hard link to a file at a name that must not exist.
    pub fn hard_link(&self, from: DirEntryRef<'_>, to: DirEntryRef<'_>) -> Result<(), Errno> {
        self.check_fault(FsOp::HardLink)?;
        rustix::fs::linkat(from.directory, from.name, to.directory, to.name, NO_FLAGS)
    }

    /// Renames a directory entry.
    ///
    /// # Errors
    /// As above; `INVAL` if the file system does not support the mode.
    pub fn rename_entry(&self, from: DirEntryRef<'_>, to: DirEntryRef<'_>, how: Rename) -> Result<(), Errno> {
        self.check_fault(FsOp::Rename(how))?;
        let flags = match how {
            Rename::Exchange => RenameFlags::EXCHANGE,
            Rename::NoReplace => RenameFlags::NOREPLACE,
            Rename::Plain => RenameFlags::empty(),
        };
        rustix::fs::renameat_with(from.directory, from.name, to.directory, to.name, flags)
    }

    /// Removes a file or a symlink.
    pub fn remove_file(&self, at: DirEntryRef<'_>) -> Result<(), Errno> {
        self.check_fault(FsOp::RemoveFile)?;
        rustix::fs::unlinkat(at.directory, at.name, NO_FLAGS)
    }

    /// Removes an empty directory.
    pub fn remove_dir(&self, at: DirEntryRef<'_>) -> Result<(), Errno> {
        self.check_fault(FsOp::RemoveDirectory)?;
        rustix::fs::unlinkat(at.directory, at.name, AtFlags::REMOVEDIR)
    }

    /// Sets the owner and group, without following a symlink.
    pub fn set_owner(&self, at: DirEntryRef<'_>, user: u32, group: u32) -> Result<(), Errno> {
        self.check_fault(FsOp::SetOwner)?;
        let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        rustix::fs::chownat(at.directory, at.name, user, group, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Sets the permissions of an open file or directory.
    pub fn set_mode(&self, fd: impl AsFd, mode: u32) -> Result<(), Errno> {
        self.check_fault(FsOp::SetMode)?;
        rustix::fs::fchmod(fd, platform::mode_from_bits(mode))
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

    /// Sets the modification time to now, without following a symlink.
    pub fn touch_entry(&self, at: DirEntryRef<'_>) -> Result<(), Errno> {
        self.check_fault(FsOp::Touch)?;
        let time = |tv_nsec| Timespec { tv_sec: 0, tv_nsec };
        let times = Timestamps { last_access: time(UTIME_OMIT), last_modification: time(UTIME_NOW) };
        rustix::fs::utimensat(at.directory, at.name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Syncs a file or directory to disk.
    pub fn sync_fd(&self, fd: impl AsFd) -> Result<(), Errno> {
        self.check_fault(FsOp::Sync)?;
        platform::sync_to_disk(fd)
    }
}
