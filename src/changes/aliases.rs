//! Finds the other names that symlinks give to a path.
//!
//! An agent that edits `conf/tasks.json` also edits `.vscode/tasks.json` if `.vscode` is a symlink to `conf`.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::path::RepoPath;

/// Maximum number of symlinks in a chain that is followed backward.
const ROUNDS: usize = 4;
/// Maximum number of aliases that are returned for one path.
const MOST: usize = 16;

/// The symlinks of a tree, by the path inside the tree that they point to.
#[derive(Debug, Clone, Default)]
pub struct LinkAliases(BTreeMap<RepoPath, Vec<RepoPath>>);

#[derive(Debug, Default, PartialEq, Eq)]
pub struct PathAliases {
    /// The aliases, up to the maximum number.
    pub names: Vec<RepoPath>,
    pub is_truncated: bool,
}

impl LinkAliases {
    /// Indexes the symlinks of a tree by their targets.
    pub fn from_links(links: impl IntoIterator<Item = (RepoPath, Vec<u8>)>) -> Self {
        let mut by_target: BTreeMap<RepoPath, Vec<RepoPath>> = BTreeMap::new();
        for (link, target) in links {
            if let Some(to) = resolve_lexically(&link, &target) {
                let links = by_target.entry(to).or_default();
                // One more than the maximum is kept, so that truncation can be detected.
                if links.len() <= MOST {
                    links.push(link);
                }
            }
        }
        Self(by_target)
    }

    /// Returns the aliases of a path.
    #[must_use]
    pub fn aliases_of(&self, path: &RepoPath) -> PathAliases {
        let mut found = PathAliases::default();
        if self.0.is_empty() {
            return found;
        }
        let mut seen = BTreeSet::from([path.clone()]);
        let mut from = vec![path.clone()];
        for _ in 0..ROUNDS {
            let mut next = Vec::new();
            for name in &from {
                let mut above = Some(name.clone());
                while let Some(part) = above {
                    let rest = &name.as_bytes()[part.as_bytes().len()..];
                    for link in self.0.get(&part).into_iter().flatten() {
                        let Ok(alias) = RepoPath::from_bytes(&[link.as_bytes(), rest].concat()) else { continue };
                        if !seen.insert(alias.clone()) {
                            continue;
                        }
                        if found.names.len() == MOST {
                            found.is_truncated = true;
                            return found;
                        }
                        found.names.push(alias.clone());
                        next.push(alias);
                    }
                    above = part.parent();
                }
            }
            from = next;
        }
        // The aliases of the last round may have aliases themselves.
        found.is_truncated = !from.is_empty();
        found
    }
}

/// Resolves a relative target without reading the tree.
fn resolve_lexically(link: &RepoPath, target: &[u8]) -> Option<RepoPath> {
    if target.first() == Some(&b'/') {
        return None;
    }
    let mut here = link.parent();
    for component in target.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." => here = here?.parent(),
            name => here = Some(RepoPath::child(here.as_ref(), name).ok()?),
        }
    }
    here
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RepoPath {
        RepoPath::from_bytes(text.as_bytes()).expect("a path")
    }

    fn aliases(links: &[(&str, &str)], of: &str) -> Vec<String> {
        let all = LinkAliases::from_links(links.iter().map(|(l, t)| (path(l), t.as_bytes().to_vec())));
        all.aliases_of(&path(of)).names.iter().map(|p| String::from_utf8_lossy(p.as_bytes()).into_owned()).collect()
    }

    #[test]
    fn links_to_a_path_or_above_it_are_its_names() {
        assert_eq!(aliases(&[(".vscode", "conf/e")], "conf/e/tasks.json"), [".vscode/tasks.json"]);
        assert_eq!(aliases(&[("a/l", "../x")], "x"), ["a/l"]);
        assert_eq!(aliases(&[("l", "x/./"), ("m", "l")], "x/y"), ["l/y", "m/y"]);
        assert_eq!(aliases(&[("l", "/x"), ("m", "../x"), ("n", "xy"), ("o", ".")], "x"), [""; 0]);
        // Cycles terminate.
        assert!(aliases(&[("x/l", "../x")], "x/y").len() <= MOST);
        let many: Vec<(String, String)> = (0..200).map(|n| (format!("l{n}"), "x".to_owned())).collect();
        let many: Vec<(&str, &str)> = many.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(aliases(&many, "x").len(), MOST);
        let all = LinkAliases::from_links(many.iter().map(|(l, t)| (path(l), t.as_bytes().to_vec())));
        assert!(all.aliases_of(&path("x/y")).is_truncated && !all.aliases_of(&path("y")).is_truncated);
        let few = LinkAliases::from_links(many[..MOST].iter().map(|(l, t)| (path(l), t.as_bytes().to_vec())));
        assert!(!few.aliases_of(&path("x")).is_truncated);
    }
}
