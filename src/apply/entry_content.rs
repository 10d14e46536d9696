//! The content of a path, by its hash.

use serde::{Deserialize, Serialize};

use crate::changes::ContentHash;
use crate::core::path::EntryKind;

/// The content of a path: kind and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryContent {
    /// Regular file, executable file or symlink.
    pub kind: EntryKind,
    /// Hash of the content, or of a symlink's target.
    pub hash: ContentHash,
}
