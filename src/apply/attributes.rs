//! Copies file metadata: owner, group, permissions, ACLs and extended attributes. A replacement has all metadata of the file
//! that it replaces; otherwise the file is not replaced.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::capabilities::FsCapabilities;
use super::host_error::{HostError, system_error};
use super::host_fs::{DirEntryRef, HostFs};
use crate::core::path::EntryKind;
use crate::platform::permission_bits;

/// The ACL that a directory passes on to new entries.
const DEFAULT_ACL: &str = "system.posix_acl_default";
/// Attributes that the system derives from the content, so that a copy would be wrong.
const CONTENT_DERIVED: [&[u8]; 2] = [b"security.ima", b"security.evm"];

/// Copies the owner, group, permissions and extended attributes of one open file or directory to another. For a file, `kind`
/// is its kind after the copy, which determines the executable bits.
pub(crate) fn copy_metadata(
    fs: &HostFs,
    old: BorrowedFd<'_>,
    new: BorrowedFd<'_>,
    at: DirEntryRef<'_>,
    kind: Option<EntryKind>,
    capabilities: FsCapabilities,
) -> Result<(), HostError> {
    let stat_error = system_error("failed to read the metadata");
    let (old_stat, new_stat) =
        (rustix::fs::fstat(old).map_err(stat_error)?, rustix::fs::fstat(new).map_err(stat_error)?);
    if (old_stat.st_uid, old_stat.st_gid) != (new_stat.st_uid, new_stat.st_gid) {
        fs.set_owner(at, old_stat.st_uid, old_stat.st_gid)
            .map_err(system_error("failed to preserve the owner and group"))?;
    }
    copy_attributes(fs, old, new)?;
    let mode = permission_bits(&old_stat);
    let mode = match (kind, mode & 0o100 != 0) {
        // The mode is copied as it is if git does not track the executable bit.
        _ if !capabilities.file_mode => mode,
        // Everyone who may read the file may execute it, as with `chmod +x` and a umask.
        (Some(EntryKind::Executable), false) => mode | (mode & 0o444) >> 2,
        (Some(EntryKind::Regular), true) => mode & !0o111,
        _ => mode,
    };
    // The mode is set last, because setting the owner and the ACL changes it.
    if permission_bits(&rustix::fs::fstat(new).map_err(stat_error)?) == mode {
        return Ok(());
    }
    match fs.set_mode(new, mode) {
        // A file system without permissions, such as FAT.
        Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP) if !capabilities.file_mode => Ok(()),
        other => other.map_err(system_error("failed to preserve the permissions")),
    }
}

fn copy_attributes(fs: &HostFs, old: BorrowedFd<'_>, new: BorrowedFd<'_>) -> Result<(), HostError> {
    let copy_error = system_error("failed to preserve the extended attributes");
    let old_names = list_xattrs(old).map_err(copy_error)?;
    // An ACL that the old file did not have would grant access to others.
    for name in list_xattrs(new).map_err(copy_error)? {
        if !old_names.contains(&name) && !name.starts_with(b"security.") {
            fs.remove_attribute(new, OsStr::from_bytes(&name)).map_err(copy_error)?;
        }
    }
    // ACLs are copied last: they may remove the access that setting the other attributes requires.
    let (lists, others): (Vec<_>, Vec<_>) = old_names.into_iter().partition(|name| name.starts_with(b"system."));
    for name in others.into_iter().chain(lists) {
        if CONTENT_DERIVED.contains(&name.as_slice()) {
            continue;
        }
        let value = read_xattr(old, &name).map_err(copy_error)?;
        // Security modules label every new file, usually with the same label already.
        if self::read_xattr(new, &name).is_ok_and(|there| there == value) {
            continue;
        }
        fs.set_attribute(new, OsStr::from_bytes(&name), &value).map_err(copy_error)?;
    }
    Ok(())
}

fn list_xattrs(file: impl AsFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = vec![0; 64 * 1024];
    match rustix::fs::flistxattr(file, &mut names) {
        Ok(length) => Ok(names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()).map(<[u8]>::to_vec).collect()),
        Err(Errno::NOTSUP) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn read_xattr(file: impl AsFd, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0; 64 * 1024];
    let length = rustix::fs::fgetxattr(file, OsStr::from_bytes(name), &mut value)?;
    value.truncate(length);
    Ok(value)
}

/// Returns the reason why a file's attributes cannot be copied to new content, if any. Such attributes grant privileges to
/// the old content only.
pub(crate) fn untransferable_reason(mode: u32, file: Option<&OwnedFd>) -> Option<&'static str> {
    if mode & 0o6000 != 0 {
        return Some("it is set-user-ID or set-group-ID, which new content must not be");
    }
    let capable =
        file.is_some_and(|f| list_xattrs(f).is_ok_and(|names| names.iter().any(|n| n == b"security.capability")));
    capable.then_some("it has file capabilities, which new content must not get")
}

/// Returns whether a directory passes its group or an ACL on to new entries.
pub(crate) fn has_default_acl(directory: impl AsFd) -> bool {
    let directory = directory.as_fd();
    let group = rustix::fs::fstat(directory).is_ok_and(|stat| stat.st_mode & 0o2000 != 0);
    group || rustix::fs::fgetxattr_query(directory, DEFAULT_ACL).is_ok()
}

/// Removes the default ACL and the set-group-ID bit of a directory that Airlock created.
pub(crate) fn remove_default_acl(fs: &HostFs, directory: &OwnedFd) -> Result<(), Errno> {
    if rustix::fs::fgetxattr_query(directory, DEFAULT_ACL).is_ok() {
        fs.remove_attribute(directory, OsStr::new(DEFAULT_ACL))?;
    }
    if permission_bits(&rustix::fs::fstat(directory)?) == 0o700 { Ok(()) } else { fs.set_mode(directory, 0o700) }
}

/// Returns the group that new entries of a directory inherit, if any.
pub(crate) fn inherited_group(directory: impl AsFd) -> Option<u32> {
    rustix::fs::fstat(directory).ok().filter(|stat| stat.st_mode & 0o2000 != 0).map(|stat| stat.st_gid)
}

/// Opens a file or directory to access its attributes. Returns `None` for a symlink.
pub(crate) fn open_entry(at: DirEntryRef<'_>) -> Result<Option<OwnedFd>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(at.directory, at.name, flags, Mode::empty()) {
        Ok(file) => Ok(Some(file)),
        Err(Errno::LOOP) => Ok(None),
        Err(error) => Err(error),
    }
}
