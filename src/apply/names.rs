//! Names of files and directories that applies use in more than one place.

/// The folder of what was written, by hash.
pub(crate) const CONTENTS: &str = "contents";

/// The folder for staged files inside a part of the working tree that is a mount of its own.
pub(crate) const IN_TREE: &str = ".airlock";

/// The lock of git's index.
pub(crate) const INDEX_LOCK: &str = "index.lock";
