//! Linux.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags, Stat, StatxAttributes, StatxFlags};
use rustix::io::Errno;
use rustix::pipe::PipeFlags;

use super::{EntryFacts, Mount};

/// The flag of `open` that keeps the access time of a file. Only its owner may use it.
pub(crate) const NO_ACCESS_TIME: OFlags = OFlags::NOATIME;

/// The flag of `open` that creates a file without a name, if the system has one.
pub(crate) const UNNAMED_FILE: Option<OFlags> = Some(OFlags::TMPFILE);

/// Flags of `chattr` that forbid replacing a file.
const REPLACE_BLOCKING_FLAGS: StatxAttributes = StatxAttributes::IMMUTABLE.union(StatxAttributes::APPEND);

/// File system types of FAT and exFAT (statfs(2)).
const FAT: [u64; 2] = [0x4d44, 0x2011_bab0];

/// Returns facts about a directory entry, or about the directory if the name is empty. A symlink is not followed.
///
/// # Errors
/// As statx(2); `NOSYS` if a sandbox around this process forbids it.
pub(crate) fn find_entry_facts(directory: impl AsFd, name: &OsStr) -> Result<EntryFacts, Errno> {
    let flags = if name.is_empty() { AtFlags::EMPTY_PATH } else { AtFlags::SYMLINK_NOFOLLOW };
    let mask = StatxFlags::TYPE | StatxFlags::INO | StatxFlags::MNT_ID;
    let found = rustix::fs::statx(directory, name, flags, mask)?;
    // Linux before 5.8 has no mount IDs.
    let number = if found.stx_mask & StatxFlags::MNT_ID.bits() == 0 { 0 } else { found.stx_mnt_id };
    let device = u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor);
    let is_immutable = found.stx_attributes.intersects(REPLACE_BLOCKING_FLAGS);
    Ok(EntryFacts { mount: Mount { device, number }, is_immutable })
}

/// Opens a path below a directory in one call. No component may be a symlink or lead out of the directory.
///
/// # Errors
/// As openat2(2). If the system lacks it, the caller opens one component after another.
pub(crate) fn open_below(directory: impl AsFd, path: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve)
}

/// Returns a path that leads to an open file or directory, if the system has one.
#[expect(clippy::unnecessary_wraps, reason = "other systems have none")]
pub(crate) fn open_file_path(file: &File) -> Option<PathBuf> {
    Some(PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())))
}

/// Returns the permissions of a file, with the bits for set-user-ID and the like.
pub(crate) fn permission_bits(stat: &Stat) -> u32 {
    stat.st_mode & 0o7777
}

/// Returns permissions as the system's calls take them.
pub(crate) fn mode_from_bits(bits: u32) -> Mode {
    Mode::from_raw_mode(bits)
}

/// Returns whether the files of a directory's file system keep their inode numbers when they are renamed. FAT assigns them as it
/// reads files.
pub(crate) fn has_stable_inodes(directory: impl AsFd) -> bool {
    !FAT.contains(&rustix::fs::fstatfs(directory).map_or(0, |fs| fs.f_type as u64))
}

/// Syncs a file or directory to disk.
#[expect(clippy::disallowed_methods, reason = "only the writer of a working tree calls this")]
pub(crate) fn sync_to_disk(fd: impl AsFd) -> Result<(), Errno> {
    rustix::fs::fsync(fd)
}

/// Creates a pipe that programs do not inherit: its ends for reading and for writing.
pub(crate) fn close_on_exec_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?)
}

/// Returns an ID that changes when the machine starts again, or an empty text if there is none.
pub(crate) fn boot_id() -> String {
    read_setting("kernel.random.boot_id")
}

/// Returns the path of the running program, also if its file was replaced since it was started.
pub(crate) fn running_program() -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.to_owned()) } else { std::env::current_exe() }
}

/// Returns the release of this machine's kernel.
pub(crate) fn kernel_release() -> String {
    read_setting("kernel.osrelease")
}

/// Returns whether this machine's kernel has a setting of sysctl(8).
pub(crate) fn kernel_setting_exists(name: &str) -> bool {
    setting_path(name).exists()
}

fn setting_path(name: &str) -> PathBuf {
    Path::new("/proc/sys").join(name.replace('.', "/"))
}

fn read_setting(name: &str) -> String {
    std::fs::read_to_string(setting_path(name)).map(|text| text.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_a_directory_are_on_its_mount() {
        let dir = tempfile::tempdir().expect("created");
        std::fs::File::create_new(dir.path().join("file")).expect("created");
        let open = File::open(dir.path()).expect("opened");
        let of_directory = find_entry_facts(&open, OsStr::new("")).expect("found");
        let of_file = find_entry_facts(&open, OsStr::new("file")).expect("found");
        assert_eq!(of_directory.mount, of_file.mount);
        assert!(!of_file.is_immutable);
        assert_eq!(find_entry_facts(&open, OsStr::new("missing")), Err(Errno::NOENT));
        let root = File::open("/proc").expect("opened");
        assert_ne!(find_entry_facts(&root, OsStr::new("")).expect("found").mount, of_file.mount);
    }

    #[test]
    fn paths_below_a_directory_have_no_symlinks() {
        let dir = tempfile::tempdir().expect("created");
        std::fs::create_dir_all(dir.path().join("a/b")).expect("created");
        #[expect(clippy::disallowed_methods, reason = "the test prepares a directory")]
        std::os::unix::fs::symlink("a", dir.path().join("link")).expect("created");
        let open = File::open(dir.path()).expect("opened");
        let opened = |path: &str| open_below(&open, OsStr::new(path), OFlags::DIRECTORY | OFlags::CLOEXEC).err();
        for (path, error) in [("a/b", None), ("link/b", Some(Errno::LOOP)), ("a/../..", Some(Errno::XDEV))] {
            assert!(opened(path) == error || opened(path) == Some(Errno::NOSYS), "{path}: {:?}", opened(path));
        }
    }

    #[test]
    fn boot_id_is_read() {
        assert_eq!(boot_id().len(), 36, "{}", boot_id());
        assert!(kernel_setting_exists("kernel.random.boot_id") && !kernel_setting_exists("kernel.nothing"));
    }
}
