//! Detects embedded repositories: directories that git would open as bare repositories, with their own configuration.
//!
//! git opens a directory that contains `HEAD` and either both `objects` and `refs`, or `commondir`, or
//! `config.worktree`. The `core.fsmonitor` setting in its `config` then runs on `git status`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::core::path::RepoPath;

/// Names that can complete or change a repository.
pub(crate) const REPO_MARKER_NAMES: [&str; 5] = ["HEAD", "objects", "refs", "commondir", "config.worktree"];

/// Returns whether git would open a directory in which `has` finds these names.
fn is_repository(has: impl Fn(&str) -> bool) -> bool {
    has("HEAD") && (has("objects") && has("refs") || has("commondir") || has("config.worktree"))
}

/// Returns whether a set of folded paths (see [`RepoPath::folded_key`]) contains a path or anything below it.
///
/// On a file system that folds names, `head` is the same as `HEAD`.
#[must_use]
pub(crate) fn has_folded_path(folded: &BTreeSet<Vec<u8>>, path: &RepoPath) -> bool {
    let path = path.folded_key();
    let below = [&path[..], b"/"].concat();
    folded.contains(&path) || folded.range(below.clone()..).next().is_some_and(|p| p.starts_with(&below))
}

/// A cache of directories and whether they would be repositories.
#[derive(Debug, Default)]
pub(crate) struct EmbeddedRepoRule(HashMap<RepoPath, bool>);

impl EmbeddedRepoRule {
    /// Returns the closest directory above a path to be written that would be a repository.
    ///
    /// `has` returns whether a path exists in the result. The root is never reported: it is a working tree, and git
    /// looks for its `.git` first.
    pub(crate) fn find_enclosing_repo(
        &mut self,
        path: &RepoPath,
        mut has: impl FnMut(&RepoPath) -> bool,
    ) -> Option<RepoPath> {
        let mut ancestor = path.parent();
        while let Some(directory) = ancestor {
            let is_repo = match self.0.get(&directory) {
                Some(known) => *known,
                None => {
                    let mut present = BTreeMap::new();
                    for name in REPO_MARKER_NAMES {
                        let found = RepoPath::from_parent(Some(&directory), name.as_bytes()).is_ok_and(|p| has(&p));
                        present.insert(name, found);
                        // Without `HEAD`, the other names are irrelevant.
                        if name == "HEAD" && !found {
                            break;
                        }
                    }
                    let is_repo = is_repository(|name| present.get(name).copied().unwrap_or(false));
                    self.0.insert(directory.clone(), is_repo);
                    is_repo
                }
            };
            if is_repo {
                return Some(directory);
            }
            ancestor = directory.parent();
        }
        None
    }
}
