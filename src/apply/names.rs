//! Names of files and directories that several modules of this directory use.

/// The directory of the written contents, each named by its hash.
pub(crate) const CONTENTS_DIR: &str = "contents";

/// The directory for staged files in a part of the working tree that is a separate mount.
pub(crate) const IN_TREE_DIR: &str = ".airlock";

/// The lock of git's index.
pub(crate) const INDEX_LOCK: &str = "index.lock";
