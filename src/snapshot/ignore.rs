//! Ignore rules: what an agent makes that stays behind.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use gix_glob::pattern::Case;
use gix_ignore::Search;
use gix_ignore::search::Ignore;

use super::{HostRepo, SnapshotError};
use crate::path::RepoPath;

const PARSE: Ignore = Ignore { support_precious: false };

/// The rules of one tree. Evaluated as git does: the last match of the deepest file wins, and nothing below an ignored
/// directory comes back. The files with the rules are added as their directories are entered; a lookup asks those above
/// the path alone. Each submodule has rules of its own.
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules {
    /// The user's own, which hold in every repository.
    user: Search,
    /// The repository's `info/exclude`.
    exclude: Search,
    /// Where each submodule begins, with a `/` at its end.
    modules: BTreeSet<Vec<u8>>,
    /// The rules of each directory, by its path with a `/` at its end; the root's is empty.
    directories: BTreeMap<Vec<u8>, Search>,
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
        let read = |file: Option<PathBuf>| {
            let mut search = Search::default();
            if let Some(file) = file
                && let Ok(bytes) = std::fs::read(&file)
            {
                search.add_patterns_buffer(&bytes, file, None, PARSE)?;
            }
            Ok::<_, SnapshotError>(search)
        };
        Ok(Self {
            user: read(global)?,
            exclude: read(Some(host.common_dir.join("info/exclude")))?,
            modules: modules.iter().map(|m| [m.as_bytes(), b"/"].concat()).collect(),
            directories: BTreeMap::new(),
        })
    }

    /// Adds the rules of the `.gitignore` in a directory (`None` is the root).
    ///
    /// # Errors
    /// A path that the matcher cannot hold.
    pub fn add(&mut self, directory: Option<&RepoPath>, text: &[u8]) -> Result<(), SnapshotError> {
        let mut search = Search::default();
        search.add_patterns_buffer(text, ".gitignore", None, PARSE)?;
        self.directories.insert(directory.map_or_else(Vec::new, |d| [d.as_bytes(), b"/"].concat()), search);
        Ok(())
    }

    /// Tells whether a rule matches this path itself; the caller does not enter ignored directories.
    #[must_use]
    pub fn ignores(&self, path: &RepoPath, is_directory: bool) -> bool {
        let path = path.as_bytes();
        let asked = |search: &Search, from: usize| {
            let found = search.pattern_matching_relative_path(path[from..].into(), Some(is_directory), Case::Sensitive);
            found.map(|m| !m.pattern.is_negative())
        };
        let slashes = path.iter().enumerate().rev().filter(|(_, b)| **b == b'/').map(|(at, _)| at + 1);
        for from in slashes.chain([0]) {
            if let Some(answer) = self.directories.get(&path[..from]).and_then(|search| asked(search, from)) {
                return answer;
            }
            if from > 0 && self.modules.contains(&path[..from]) {
                return asked(&self.user, from).unwrap_or(false);
            }
        }
        asked(&self.exclude, 0).or_else(|| asked(&self.user, 0)).unwrap_or(false)
    }
}
