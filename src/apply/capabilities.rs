//! What a working tree's file system can hold, as git is configured for it.

use crate::core::path::EntryKind;

/// Capabilities of the file system as git is configured (`core.fileMode`, `core.symlinks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FsCapabilities {
    /// The executable bit means something.
    pub file_mode: bool,
    /// There are links; else a file with the target stands for one.
    pub symlinks: bool,
}

impl Default for FsCapabilities {
    fn default() -> Self {
        Self { file_mode: true, symlinks: true }
    }
}

impl FsCapabilities {
    /// Returns the kind under which two files compare here.
    #[must_use]
    pub fn normalize_kind(self, kind: EntryKind) -> EntryKind {
        match kind {
            EntryKind::Executable if !self.file_mode => EntryKind::Regular,
            EntryKind::Link if !self.symlinks => EntryKind::Regular,
            other => other,
        }
    }
}
