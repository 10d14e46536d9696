//! Ignore rules: what an agent makes that stays behind.

use std::collections::BTreeSet;
use std::path::PathBuf;

use gix_glob::pattern::Case;
use gix_ignore::Search;
use gix_ignore::search::Ignore;

use super::{HostRepo, SnapshotError};
use crate::path::RepoPath;

const PARSE: Ignore = Ignore { support_precious: false };

/// The rules of one tree. Evaluated as git does: the last match of the deepest file wins, and nothing below an ignored
/// directory comes back. The files with the rules are added as their directories are entered, parents first; each
/// submodule has rules of its own.
#[derive(Debug, Clone)]
pub struct IgnoreRules {
    /// The user's own, which hold in every repository.
    user: Search,
    /// Where each repository begins (with a `/` at its end, or empty), and its rules.
    modules: Vec<(Vec<u8>, Search)>,
}

impl IgnoreRules {
    /// Reads the user's global excludes and the repository's `info/exclude`.
    ///
    /// # Errors
    /// What libgit2 says.
    pub fn of(host: &HostRepo, modules: &BTreeSet<RepoPath>) -> Result<Self, SnapshotError> {
        let config = host.git().config()?;
        let global = config.get_path("core.excludesFile").ok().or_else(|| {
            use etcetera::BaseStrategy as _;
            Some(etcetera::choose_base_strategy().ok()?.config_dir().join("git/ignore"))
        });
        let mut user = Search::default();
        if let Some(file) = global
            && let Ok(bytes) = std::fs::read(&file)
        {
            user.add_patterns_buffer(&bytes, file, None, PARSE)?;
        }
        let mut root = Search::default();
        let exclude = host.common_dir.join("info/exclude");
        if let Ok(bytes) = std::fs::read(&exclude) {
            root.add_patterns_buffer(&bytes, exclude, None, PARSE)?;
        }
        let below = modules.iter().map(|m| ([m.as_bytes(), b"/"].concat(), Search::default()));
        Ok(Self { user, modules: std::iter::once((Vec::new(), root)).chain(below).collect() })
    }

    /// Adds the rules of the `.gitignore` in a directory (`None` is the root).
    ///
    /// # Errors
    /// A path that the matcher cannot hold.
    pub fn add(&mut self, directory: Option<&RepoPath>, text: &[u8]) -> Result<(), SnapshotError> {
        let whole = directory.map_or_else(Vec::new, |d| [d.as_bytes(), b"/"].concat());
        let (start, search) = self.module_mut(&whole);
        let source: PathBuf = super::os_path(&[&whole[start..], b".gitignore"].concat());
        Ok(search.add_patterns_buffer(text, source, Some("".as_ref()), PARSE)?)
    }

    fn module_mut(&mut self, path: &[u8]) -> (usize, &mut Search) {
        let at = self.module_at(path);
        let (start, search) = &mut self.modules[at];
        (start.len(), search)
    }

    fn module_at(&self, path: &[u8]) -> usize {
        let depth = |at: &usize| self.modules[*at].0.len();
        (0..self.modules.len()).filter(|at| path.starts_with(&self.modules[*at].0)).max_by_key(depth).unwrap_or(0)
    }

    /// Tells whether a rule matches this path itself; the caller does not enter ignored directories.
    #[must_use]
    pub fn ignores(&self, path: &RepoPath, is_directory: bool) -> bool {
        let (start, search) = &self.modules[self.module_at(path.as_bytes())];
        let inside = &path.as_bytes()[start.len()..];
        // The repository's own rules beat the user's.
        [search, &self.user]
            .into_iter()
            .find_map(|s| s.pattern_matching_relative_path(inside.into(), Some(is_directory), Case::Sensitive))
            .is_some_and(|m| !m.pattern.is_negative())
    }
}
