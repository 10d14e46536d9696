//! Finds the other names that symlinks give to a path.
//!
//! An agent that edits `conf/tasks.json` also edits `.vscode/tasks.json` if `.vscode` is a symlink to `conf`.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::path::RepoPath;

/// Maximum number of symlinks in a chain that is followed backward.
const MAX_CHAIN_LENGTH: usize = 4;
/// Maximum number of aliases that are returned for one path.
const MAX_ALIASES: usize = 16;

/// The symlinks of a tree, by the path inside the tree that they point to.
#[derive(Debug, Clone, Default)]
pub struct LinkAliases(BTreeMap<RepoPath, Vec<RepoPath>>);

#[derive(Debug, Default, PartialEq, Eq)]
pub struct PathAliases {
    /// The aliases, up to the maximum number.
    pub paths: Vec<RepoPath>,
    pub is_truncated: bool,
}

impl LinkAliases {
    /// Indexes the symlinks of a tree by their targets.
    pub fn from_links(links: impl IntoIterator<Item = (RepoPath, Vec<u8>)>) -> Self {
        let mut by_target: BTreeMap<RepoPath, Vec<RepoPath>> = BTreeMap::new();
        for (link, target) in links {
            if let Some(to) = resolve_lexically(&link, &target) {
                let sources = by_target.entry(to).or_default();
                // One more than the maximum is kept, so that truncation can be detected.
                if sources.len() <= MAX_ALIASES {
                    sources.push(link);
                }
            }
        }
        Self(by_target)
    }

    /// Returns the aliases of a path.
    #[must_use]
    pub fn find_aliases(&self, path: &RepoPath) -> PathAliases {
        let mut aliases = PathAliases::default();
        if self.0.is_empty() {
            return aliases;
        }
        let mut seen = BTreeSet::from([path.clone()]);
        let mut frontier = vec![path.clone()];
        for _ in 0..MAX_CHAIN_LENGTH {
            let mut next = Vec::new();
            for name in &frontier {
                let mut next_ancestor = Some(name.clone());
                while let Some(ancestor) = next_ancestor {
                    let rest = &name.as_bytes()[ancestor.as_bytes().len()..];
                    for link in self.0.get(&ancestor).into_iter().flatten() {
                        let Ok(alias) = RepoPath::from_bytes(&[link.as_bytes(), rest].concat()) else { continue };
                        if !seen.insert(alias.clone()) {
                            continue;
                        }
                        if aliases.paths.len() == MAX_ALIASES {
                            aliases.is_truncated = true;
                            return aliases;
                        }
                        aliases.paths.push(alias.clone());
                        next.push(alias);
                    }
                    next_ancestor = ancestor.parent();
                }
            }
            frontier = next;
        }
        // The aliases of the last round may have aliases themselves.
        aliases.is_truncated = !frontier.is_empty();
        aliases
    }
}

/// Resolves a relative target without reading the tree.
fn resolve_lexically(link: &RepoPath, target: &[u8]) -> Option<RepoPath> {
    if target.first() == Some(&b'/') {
        return None;
    }
    let mut current = link.parent();
    for component in target.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => current = current?.parent(),
            name => current = Some(RepoPath::from_parent(current.as_ref(), name).ok()?),
        }
    }
    current
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RepoPath {
        RepoPath::from_bytes(text.as_bytes()).expect("valid path")
    }

    /// Returns the aliases of `target`, given symlinks as pairs of path and target.
    fn find_aliases(links: &[(&str, &str)], target: &str) -> Vec<String> {
        let aliases = LinkAliases::from_links(links.iter().map(|(l, t)| (path(l), t.as_bytes().to_vec())));
        aliases
            .find_aliases(&path(target))
            .paths
            .iter()
            .map(|p| String::from_utf8_lossy(p.as_bytes()).into_owned())
            .collect()
    }

    #[test]
    fn aliases_include_symlinks_to_path_and_its_parents() {
        assert_eq!(find_aliases(&[(".vscode", "conf/e")], "conf/e/tasks.json"), [".vscode/tasks.json"]);
        assert_eq!(find_aliases(&[("a/l", "../x")], "x"), ["a/l"]);
        assert_eq!(find_aliases(&[("l", "x/./"), ("m", "l")], "x/y"), ["l/y", "m/y"]);
        assert_eq!(find_aliases(&[("l", "/x"), ("m", "../x"), ("n", "xy"), ("o", ".")], "x"), [""; 0]);
        // Cycles terminate.
        assert!(find_aliases(&[("x/l", "../x")], "x/y").len() <= MAX_ALIASES);
        let links: Vec<(String, String)> = (0..200).map(|n| (format!("l{n}"), "x".to_owned())).collect();
        let links: Vec<(&str, &str)> = links.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(find_aliases(&links, "x").len(), MAX_ALIASES);
        let aliases = LinkAliases::from_links(links.iter().map(|(l, t)| (path(l), t.as_bytes().to_vec())));
        assert!(aliases.find_aliases(&path("x/y")).is_truncated && !aliases.find_aliases(&path("y")).is_truncated);
        let at_limit =
            LinkAliases::from_links(links[..MAX_ALIASES].iter().map(|(l, t)| (path(l), t.as_bytes().to_vec())));
        assert!(!at_limit.find_aliases(&path("x")).is_truncated);
    }
}
