//! The calls that differ between operating systems. Each system has a module with the same functions; nothing else in the library
//! depends on the system. `docs/platforms.md` says which systems are supported, and what is left for others.

use std::ffi::OsStr;
use std::os::fd::AsFd;

use rustix::io::Errno;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("Airlock runs on Linux. docs/platforms.md lists what another system needs.");

pub(crate) use system::{
    NO_ACCESS_TIME, UNNAMED_FILE, boot_id, close_on_exec_pipe, find_entry_facts, has_stable_inodes, kernel_release,
    kernel_setting_exists, mode_from_bits, open_below, open_file_path, permission_bits, running_program, sync_to_disk,
};

/// A mount. Files cannot be renamed between mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mount {
    pub device: u64,
    /// The number of the mount, or 0 if the system does not tell mounts of a device apart.
    pub number: u64,
}

impl Mount {
    /// Returns the mount of an open directory.
    pub(crate) fn from_fd(directory: impl AsFd) -> Result<Self, Errno> {
        Ok(find_entry_facts(directory, OsStr::new(""))?.mount)
    }
}

/// Facts about a directory entry that its metadata does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EntryFacts {
    pub mount: Mount,
    /// Whether a flag of the file forbids replacing it, such as that of `chattr +i`.
    pub is_immutable: bool,
}
