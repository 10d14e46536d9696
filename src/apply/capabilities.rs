//! The capabilities of a working tree's file system, as configured in git.

use crate::core::path::EntryKind;

/// The capabilities of a file system as configured in git (`core.fileMode`, `core.symlinks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsCapabilities {
    /// Whether the executable bit is significant.
    pub file_mode: bool,
    /// Whether symlinks are supported; otherwise a regular file that contains the target represents a symlink.
    pub symlinks: bool,
}

impl Default for FsCapabilities {
    fn default() -> Self {
        Self { file_mode: true, symlinks: true }
    }
}

impl FsCapabilities {
    /// Returns the kind that a file of this kind has on this file system, for comparisons.
    #[must_use]
    pub fn normalize_kind(self, kind: EntryKind) -> EntryKind {
        match kind {
            EntryKind::Executable if !self.file_mode => EntryKind::Regular,
            EntryKind::Symlink if !self.symlinks => EntryKind::Regular,
            other => other,
        }
    }
}
