//! Evaluates the ignore rules of git, which exclude files that an agent creates.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use gix_glob::Pattern;
use gix_glob::pattern::Mode;

use super::error::SnapshotError;
use super::repo::HostRepo;
use super::wildmatch::{StepBudget, matches_pattern};
use crate::core::path::RepoPath;

/// The patterns of one file, in order.
#[derive(Debug, Clone, Default)]
struct Patterns(Vec<Pattern>);

impl Patterns {
    fn parse(text: &[u8]) -> Self {
        Self(gix_ignore::parse(text, false).map(|(pattern, ..)| pattern).collect())
    }

    /// Returns whether the last matching pattern ignores the path, which is relative to the file's directory.
    fn match_last(&self, path: &[u8], is_directory: bool, budgets: [&StepBudget; 2]) -> Option<bool> {
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or(path);
        let is_match = |pattern: &&Pattern| {
            let is_name = pattern.mode.contains(Mode::NO_SUB_DIR) && !pattern.mode.contains(Mode::ABSOLUTE);
            let text = if is_name { name } else { path };
            let (is_for_directories, wild) = (pattern.mode.contains(Mode::MUST_BE_DIR), pattern.first_wildcard_pos);
            (is_directory || !is_for_directories)
                && match wild {
                    // A literal pattern counts as well: it must not match after the budget could not afford a later one,
                    // which may include the path again.
                    None => {
                        budgets.iter().all(|budget| budget.take_steps(LITERAL_STEPS)) && text == pattern.text.as_slice()
                    }
                    Some(at) => text.starts_with(&pattern.text[..at]) && matches_pattern(&pattern.text, text, budgets),
                }
        };
        Some(!self.0.iter().rev().find(is_match)?.is_negative())
    }
}

/// The steps of a comparison with a pattern without wildcards.
const LITERAL_STEPS: usize = 8;

/// The ignore rules of one tree.
///
/// They are evaluated as git does: the last match in the deepest file wins, and no pattern includes a path below an
/// ignored directory again. The rules of a directory are added when it is entered, and a lookup only uses those above
/// the path. Each submodule has separate rules.
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules {
    /// The user's rules, which apply to every repository.
    user: Patterns,
    /// The repository's `info/exclude`.
    exclude: Patterns,
    /// The paths of the submodules, with a trailing `/`.
    modules: BTreeSet<Vec<u8>>,
    /// The rules of each directory, by its path with a trailing `/`; the root is empty.
    directories: BTreeMap<Vec<u8>, Patterns>,
    /// The budget of all lookups, which copies share.
    budget: Arc<StepBudget>,
}

impl IgnoreRules {
    /// Reads the user's global excludes and the repository's `info/exclude`.
    pub fn from_host(host: &HostRepo, modules: &BTreeSet<RepoPath>) -> Result<Self, SnapshotError> {
        let config = host.repository().config()?;
        let global = config.get_path("core.excludesFile").ok().or_else(|| {
            use etcetera::BaseStrategy as _;
            Some(etcetera::choose_base_strategy().ok()?.config_dir().join("git/ignore"))
        });
        let read = |file: Option<PathBuf>| {
            let bytes = file.and_then(|file| std::fs::read(file).ok()).unwrap_or_default();
            Patterns::parse(&bytes)
        };
        Ok(Self {
            user: read(global),
            exclude: read(Some(host.common_dir.join("info/exclude"))),
            modules: modules.iter().map(|m| [m.as_bytes(), b"/"].concat()).collect(),
            directories: BTreeMap::new(),
            budget: Arc::default(),
        })
    }

    /// Adds the rules of a directory's `.gitignore` (`None` is the root).
    pub fn add_rules(&mut self, directory: Option<&RepoPath>, text: &[u8]) {
        let directory = directory.map_or_else(Vec::new, |d| [d.as_bytes(), b"/"].concat());
        self.directories.insert(directory, Patterns::parse(text));
    }

    /// Returns whether a rule matches this path itself; the caller does not enter ignored directories. The time is
    /// bounded for any rules. A path that exceeds the budget is not ignored.
    #[must_use]
    pub fn is_ignored(&self, path: &RepoPath, is_directory: bool) -> bool {
        let (path, budget) = (path.as_bytes(), StepBudget::for_path());
        let look_up = |patterns: &Patterns, from: usize| {
            patterns.match_last(&path[from..], is_directory, [&budget, &self.budget])
        };
        let slashes = path.iter().enumerate().rev().filter(|(_, b)| **b == b'/').map(|(at, _)| at + 1);
        for from in slashes.chain([0]) {
            if let Some(answer) = self.directories.get(&path[..from]).and_then(|search| look_up(search, from)) {
                return answer;
            }
            if from > 0 && self.modules.contains(&path[..from]) {
                return look_up(&self.user, from).unwrap_or(false);
            }
        }
        look_up(&self.exclude, 0).or_else(|| look_up(&self.user, 0)).unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exhausted_ignore_budget_ignores_nothing() {
        let path = RepoPath::from_bytes(b"secret.rs").expect("valid path");
        let mut rules = IgnoreRules::default();
        rules.add_rules(None, b"secret.rs\n");
        assert!(rules.is_ignored(&path, false));
        // The budget ends before the last patterns are matched, and one of them could include the file.
        let costly = format!("!{}*x\n", "*a".repeat(2000)).repeat(2000);
        rules.add_rules(None, format!("secret.rs\n!*.rs\n{costly}").as_bytes());
        assert!(!rules.is_ignored(&path, false));
    }
}
