//! macOS. This module is compiled, and has not been run: `docs/platforms.md` lists what is left.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use rustix::io::{Errno, FdFlags};

use super::{EntryFacts, Mount};
use crate::core::host_command::run_limited;

/// There is no such flag: reading a file may update its access time.
pub(crate) const NO_ACCESS_TIME: OFlags = OFlags::empty();

/// There are no files without a name: a new file does not inherit the ACL of the directory that it is staged for.
pub(crate) const UNNAMED_FILE: Option<OFlags> = None;

/// The time limit of sysctl(8).
const SYSCTL_TIME_LIMIT: Duration = Duration::from_secs(10);

/// Flags of `chflags` that forbid replacing a file (`uappnd`, `uchg`, `sappnd`, `schg`).
const REPLACE_BLOCKING_FLAGS: u32 = 0x2 | 0x4 | 0x2_0000 | 0x4_0000;

/// Returns facts about a directory entry, or about the directory if the name is empty. A symlink is not followed. There are no
/// mount IDs; two mounts of a device do not exist.
pub(crate) fn find_entry_facts(directory: impl AsFd, name: &OsStr) -> Result<EntryFacts, Errno> {
    let found = if name.is_empty() {
        rustix::fs::fstat(directory)?
    } else {
        rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?
    };
    let device = u64::from(found.st_dev.cast_unsigned());
    let is_immutable = found.st_flags & REPLACE_BLOCKING_FLAGS != 0;
    Ok(EntryFacts { mount: Mount { device, number: 0 }, is_immutable })
}

/// There is no such call: the caller opens one component after another.
pub(crate) fn open_below(_: impl AsFd, _: &OsStr, _: OFlags) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

/// There is no such path.
pub(crate) fn open_file_path(_: &File) -> Option<PathBuf> {
    None
}

/// Returns the permissions of a file, with the bits for set-user-ID and the like.
pub(crate) fn permission_bits(stat: &Stat) -> u32 {
    u32::from(stat.st_mode) & 0o7777
}

/// Returns permissions as the system's calls take them.
pub(crate) fn mode_from_bits(bits: u32) -> Mode {
    Mode::from_raw_mode(u16::try_from(bits & 0o7777).unwrap_or(0))
}

/// Returns whether the files of a directory's file system keep their inode numbers when they are renamed. It is assumed of all file
/// systems; none was tried.
pub(crate) fn has_stable_inodes(_: impl AsFd) -> bool {
    true
}

/// Syncs a file or directory to disk. A plain fsync(2) leaves the data in the cache of the disk.
#[expect(clippy::disallowed_methods, reason = "only the writer of a working tree calls this")]
pub(crate) fn sync_to_disk(fd: impl AsFd) -> Result<(), Errno> {
    match rustix::fs::fcntl_fullfsync(&fd) {
        // A file system without it.
        Err(Errno::INVAL | Errno::NOTSUP | Errno::NOTTY) => rustix::fs::fsync(fd),
        other => other,
    }
}

/// Creates a pipe that programs do not inherit: its ends for reading and for writing. A program that another thread starts in between
/// does inherit it.
pub(crate) fn close_on_exec_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe()?;
    rustix::io::fcntl_setfd(&read, FdFlags::CLOEXEC)?;
    rustix::io::fcntl_setfd(&write, FdFlags::CLOEXEC)?;
    Ok((read, write))
}

/// Returns an ID that changes when the machine starts again, or an empty text if there is none.
pub(crate) fn boot_id() -> String {
    let output = run_limited(Command::new("/usr/sbin/sysctl").args(["-n", "kern.bootsessionuuid"]), SYSCTL_TIME_LIMIT);
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

/// Returns the path of the running program.
pub(crate) fn running_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}

/// Engines do not run on this kernel, but in a virtual machine.
pub(crate) fn kernel_release() -> String {
    String::new()
}

/// Engines do not run on this kernel, but in a virtual machine.
pub(crate) fn kernel_setting_exists(_: &str) -> bool {
    false
}
