//! Defines the flags for opening directories of the working tree.

use rustix::fs::OFlags;

/// The flags for opening a directory of the working tree, never through a symlink.
pub(crate) const OPEN_DIR_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
