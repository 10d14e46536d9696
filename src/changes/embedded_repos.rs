//! Planted repositories: directories that git would open as a bare repository, and then obey their configuration.
//!
//! git opens a directory that holds `HEAD` with `objects` and `refs`, or with `commondir` or `config.worktree`; then
//! `core.fsmonitor` of its `config` runs on `git status`.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::core::path::RepoPath;

/// Names whose arrival can complete a repository, or change one.
const NAMES: [&str; 5] = ["HEAD", "objects", "refs", "commondir", "config.worktree"];

/// Returns whether git would open a directory in which `has` finds these names.
fn is_repository(has: impl Fn(&str) -> bool) -> bool {
    has("HEAD") && (has("objects") && has("refs") || has("commondir") || has("config.worktree"))
}

/// Returns whether folded paths (see [`RepoPath::folded`]) have this one or something below it: a file system that folds names
/// makes `HEAD` of `head`.
#[must_use]
pub fn has_folded(folded: &BTreeSet<Vec<u8>>, path: &RepoPath) -> bool {
    let path = path.folded();
    let below = [&path[..], b"/"].concat();
    folded.contains(&path) || folded.range(below.clone()..).next().is_some_and(|p| p.starts_with(&below))
}

/// Directories that would be repositories, each judged once.
#[derive(Debug, Default)]
pub struct EmbeddedRepoRule(HashMap<RepoPath, bool>);

impl EmbeddedRepoRule {
    /// Finds, for a path that is to be written, the directory above it that would be a repository. `has` tells whether a path
    /// is there in the result. The root is none: it is a working tree, and git looks for its `.git` first.
    pub fn find_above(&mut self, path: &RepoPath, mut has: impl FnMut(&RepoPath) -> bool) -> Option<RepoPath> {
        let mut above = path.parent();
        while let Some(directory) = above {
            let is_one = match self.0.get(&directory) {
                Some(known) => *known,
                None => {
                    let mut there = BTreeMap::new();
                    for name in NAMES {
                        let found = RepoPath::child(Some(&directory), name.as_bytes()).is_ok_and(|p| has(&p));
                        there.insert(name, found);
                        // Without HEAD the others do not matter.
                        if name == "HEAD" && !found {
                            break;
                        }
                    }
                    let is_one = is_repository(|name| there.get(name).copied().unwrap_or(false));
                    self.0.insert(directory.clone(), is_one);
                    is_one
                }
            };
            if is_one {
                return Some(directory);
            }
            above = directory.parent();
        }
        None
    }
}
