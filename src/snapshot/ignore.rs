//! Ignore rules of the base snapshot and of the user: what an agent makes that stays behind.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use gix_glob::pattern::Case;
use gix_ignore::Search;
use gix_ignore::search::Ignore;

use super::{HostRepo, Snapshot, SnapshotError};
use crate::path::{EntryKind, RepoPath};

/// The rules of one snapshot. Evaluated as git does: the last match of the deepest file wins, and nothing below an
/// ignored directory comes back.
pub struct IgnoreRules {
    search: Search,
}

impl IgnoreRules {
    /// Reads every `.gitignore` of the snapshot, the repository's `info/exclude` and the user's global excludes.
    ///
    /// # Errors
    /// A missing object.
    pub fn of(host: &HostRepo, snapshot: &Snapshot) -> Result<Self, SnapshotError> {
        let parse = Ignore { support_precious: false };
        let config = host.git().config()?;
        let global = config.get_path("core.excludesFile").ok().or_else(|| {
            use etcetera::BaseStrategy as _;
            Some(etcetera::choose_base_strategy().ok()?.config_dir().join("git/ignore"))
        });
        let mut search = Search::default();
        for file in [global, Some(host.common_dir.join("info/exclude"))].into_iter().flatten() {
            if let Ok(bytes) = std::fs::read(&file) {
                search.add_patterns_buffer(&bytes, file, None, parse)?;
            }
        }
        let mut files: Vec<_> = snapshot
            .entries
            .iter()
            .filter(|e| e.kind != EntryKind::Link && e.path.file_name() == b".gitignore")
            .collect();
        files.sort_by_key(|e| e.path.components().count());
        for entry in files {
            let path = PathBuf::from(OsString::from_vec(entry.path.as_bytes().to_vec()));
            search.add_patterns_buffer(&host.read(entry)?, path, Some("".as_ref()), parse)?;
        }
        Ok(Self { search })
    }

    /// Tells whether a rule matches this path itself; the caller does not enter ignored directories.
    #[must_use]
    pub fn ignores(&self, path: &RepoPath, is_directory: bool) -> bool {
        self.search
            .pattern_matching_relative_path(path.as_bytes().into(), Some(is_directory), Case::Sensitive)
            .is_some_and(|m| !m.pattern.is_negative())
    }
}
