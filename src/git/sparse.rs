//! Reads the patterns of a sparse checkout, which exclude tracked files from a working tree.

use git2::Repository;
use gix_glob::pattern::Case;
use gix_ignore::Search;
use gix_ignore::search::Ignore;

use super::error::SnapshotError;

/// The patterns of `info/sparse-checkout`. Cone patterns have the same meaning when they are read as plain ones
/// (git-sparse-checkout(1), "Internals — cone pattern set").
#[derive(Debug, Clone)]
pub(crate) struct SparsePatterns {
    text: Vec<u8>,
    search: Search,
}

impl SparsePatterns {
    /// Reads the patterns, or returns `None` if the checkout is not sparse.
    pub(crate) fn from_repository(git: &Repository) -> Result<Option<Self>, SnapshotError> {
        let config = git.config()?.snapshot()?;
        // libgit2 does not read `config.worktree`, where git stores this setting.
        let config_path = git.path().join("config.worktree");
        let worktree_config = config_path.is_file().then(|| git2::Config::open(&config_path)).transpose()?;
        let worktree_setting = worktree_config.and_then(|c| c.get_bool("core.sparseCheckout").ok());
        if !worktree_setting.or_else(|| config.get_bool("core.sparseCheckout").ok()).unwrap_or(false) {
            return Ok(None);
        }
        match std::fs::read(git.path().join("info/sparse-checkout")) {
            Ok(text) => Ok(Some(Self::parse(text)?)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn parse(text: Vec<u8>) -> Result<Self, SnapshotError> {
        let mut search = Search::default();
        search.add_patterns_buffer(&text, "info/sparse-checkout", None, Ignore { support_precious: false })?;
        Ok(Self { text, search })
    }

    /// Returns the patterns as written.
    pub(crate) fn pattern_text(&self) -> &[u8] {
        &self.text
    }

    /// Returns whether a tracked path is in the working tree. The last pattern that matches the path decides, or
    /// otherwise the last one that matches the deepest of its directories with a match.
    pub(crate) fn is_included(&self, path: &[u8]) -> bool {
        let (mut end, mut is_directory) = (path.len(), false);
        loop {
            let found =
                self.search.pattern_matching_relative_path(path[..end].into(), Some(is_directory), Case::Sensitive);
            if let Some(found) = found {
                return !found.pattern.is_negative();
            }
            match path[..end].iter().rposition(|b| *b == b'/') {
                Some(cut) => (end, is_directory) = (cut, true),
                None => return false,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::SparsePatterns;

    #[test]
    fn sparse_patterns_are_evaluated() {
        let cone =
            SparsePatterns::parse(b"/*\n!/*/\n/docs/\n/src/\n!/src/*/\n/src/a/\n".to_vec()).expect("valid patterns");
        for (path, included) in [
            ("x", true),
            ("docs/a/b", true),
            ("src/x", true),
            ("src/a/y", true),
            ("src/b/z", false),
            ("other/x", false),
        ] {
            assert_eq!(cone.is_included(path.as_bytes()), included, "{path}");
        }
        let non_cone = SparsePatterns::parse(b"/*\n!*.bin\nkeep.bin\n".to_vec()).expect("valid patterns");
        for (path, included) in [("a/b", true), ("a/x.bin", false), ("a/keep.bin", true)] {
            assert_eq!(non_cone.is_included(path.as_bytes()), included, "{path}");
        }
    }
}
