//! The other names that links give to a path: an agent that edits `conf/tasks.json` edits `.vscode/tasks.json` where `.vscode`
//! is a link to `conf`.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::path::RepoPath;

/// Rounds of links to links that are followed back.
const ROUNDS: usize = 4;
/// Names of one path that are looked at.
const MOST: usize = 16;

/// Links by where they lead, inside the tree.
#[derive(Debug, Clone, Default)]
pub struct LinkAliases(BTreeMap<RepoPath, Vec<RepoPath>>);

/// The other names of a path.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PathAliases {
    /// At most [`MOST`].
    pub names: Vec<RepoPath>,
    pub is_truncated: bool,
}

impl LinkAliases {
    /// Takes the links of a tree with their targets.
    pub fn from_links(links: impl IntoIterator<Item = (RepoPath, Vec<u8>)>) -> Self {
        let mut by_target: BTreeMap<RepoPath, Vec<RepoPath>> = BTreeMap::new();
        for (link, target) in links {
            if let Some(to) = resolve_lexically(&link, &target) {
                let links = by_target.entry(to).or_default();
                // One more than are looked at, so that it is seen that there are more.
                if links.len() <= MOST {
                    links.push(link);
                }
            }
        }
        Self(by_target)
    }

    /// Returns the other names of a path.
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
        // What the last round has found may have more names.
        found.is_truncated = !from.is_empty();
        found
    }
}

/// Takes a relative target for what it says, without asking what is there.
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
        // Round and round, but not for ever.
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
