//! How directories of the working tree are opened.

use rustix::fs::OFlags;

/// Flags for opening a directory of the working tree: never through a symlink.
pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
