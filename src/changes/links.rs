//! Resolves a symlink, component by component, through the other symlinks of the tree that results from a changeset.
//!
//! The caller supplies the entries of the tree; this module performs no I/O. Symlinks are checked against the resulting
//! tree, because two symlinks that are harmless separately may together lead out of it.

use crate::core::path::RepoPath;

/// Maximum number of symlinks that are followed to resolve a path, as in the kernel (`MAXSYMLINKS`,
/// path_resolution(7)).
const MAX_LINK_HOPS: usize = 40;

/// The entry at a path of the resulting tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathEntry {
    Absent,
    File,
    Directory,
    /// A symlink with this target.
    Link(Vec<u8>),
    Repository,
}

/// The result of resolving a symlink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkTarget {
    /// An existing entry inside the tree.
    Inside,
    /// A missing entry inside the tree.
    Missing,
    Loop,
    /// Outside the tree, or a location that symlinks may not point to, with a reason that follows "it".
    Outside(&'static str),
}

/// Resolves a symlink.
///
/// Every component takes one from `budget`; a symlink that exceeds it is [`LinkTarget::Outside`].
pub fn resolve_symlink(
    link: &RepoPath,
    target: &[u8],
    budget: &mut usize,
    mut entry_at: impl FnMut(&RepoPath) -> PathEntry,
) -> LinkTarget {
    let mut current = link.parent();
    // The remaining components, in reverse order.
    let mut remaining: Vec<Vec<u8>> = reversed_components(target);
    if is_absolute(target) {
        return LinkTarget::Outside("points to an absolute path");
    }
    let (mut hops, mut is_missing) = (0, false);
    while let Some(component) = remaining.pop() {
        if *budget == 0 {
            return LinkTarget::Outside("is one of too many symlinks to follow");
        }
        *budget -= 1;
        match component.as_slice() {
            b"" | b"." => continue,
            b".." => {
                let Some(directory) = current else { return LinkTarget::Outside("points out of the working tree") };
                current = directory.parent();
                continue;
            }
            _ => {}
        }
        let Ok(path) = RepoPath::from_parent(current.as_ref(), &component) else {
            return LinkTarget::Outside("points into a repository directory (.git, .jj), or to an invalid name");
        };
        match if is_missing { PathEntry::Absent } else { entry_at(&path) } {
            PathEntry::Link(next) => {
                hops += 1;
                if hops > MAX_LINK_HOPS {
                    return LinkTarget::Loop;
                }
                if is_absolute(&next) {
                    return LinkTarget::Outside("leads through a symlink to an absolute path");
                }
                remaining.extend(reversed_components(&next));
                continue;
            }
            PathEntry::Repository => return LinkTarget::Outside("points into another repository"),
            PathEntry::File if remaining.iter().any(|c| !c.is_empty() && c != b".") => is_missing = true,
            PathEntry::Absent => is_missing = true,
            PathEntry::File | PathEntry::Directory => {}
        }
        current = Some(path);
    }
    if is_missing { LinkTarget::Missing } else { LinkTarget::Inside }
}

/// Returns the reason why a target may never be written, regardless of the tree.
///
/// `..` is only allowed at the start. After a name, it would mean the parent of the directory that this name resolves
/// to, which another symlink determines, now or later.
#[must_use]
pub fn find_forbidden_reason(link: &RepoPath, target: &[u8]) -> Option<&'static str> {
    if is_absolute(target) || target.is_empty() {
        return Some("points to an absolute path");
    }
    let mut depth = link.components().count() - 1;
    let mut descended = false;
    for component in target.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." if descended => return Some("contains `..` after a name"),
            b".." => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return Some("points out of the working tree"),
            },
            name if RepoPath::from_bytes(name).is_err() => {
                return Some("points into a repository directory (.git, .jj), or to an invalid name");
            }
            _ => descended = true,
        }
    }
    None
}

fn is_absolute(target: &[u8]) -> bool {
    target.first() == Some(&b'/')
}

/// Returns the components of a target in reverse order.
fn reversed_components(target: &[u8]) -> Vec<Vec<u8>> {
    target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn path(text: &str) -> RepoPath {
        RepoPath::from_bytes(text.as_bytes()).expect("valid path")
    }

    fn resolve(link: &str, links: &[(&str, &str)], file_names: &[&str]) -> LinkTarget {
        let links: BTreeMap<RepoPath, Vec<u8>> = links.iter().map(|(l, t)| (path(l), t.as_bytes().to_vec())).collect();
        let files: Vec<RepoPath> = file_names.iter().map(|f| path(f)).collect();
        let mut budget = 1000;
        resolve_symlink(&path(link), &links[&path(link)].clone(), &mut budget, |p| {
            if let Some(target) = links.get(p) {
                return PathEntry::Link(target.clone());
            }
            match (files.contains(p), files.iter().chain(links.keys()).any(|f| f.is_below(p))) {
                (true, _) if p.file_name() == b"module" => PathEntry::Repository,
                (true, _) => PathEntry::File,
                (_, true) => PathEntry::Directory,
                _ => PathEntry::Absent,
            }
        })
    }

    #[test]
    fn symlinks_are_resolved_through_others() {
        let cases: &[(&[(&str, &str)], LinkTarget)] = &[
            (&[("l", "dir/file")], LinkTarget::Inside),
            (&[("l", ".")], LinkTarget::Inside),
            (&[("dir/l", "../dir/file")], LinkTarget::Inside),
            (&[("l", "gone")], LinkTarget::Missing),
            (&[("l", "dir/file/x")], LinkTarget::Missing),
            (&[("l", "dir/file/.")], LinkTarget::Inside),
            (&[("l", "l")], LinkTarget::Loop),
            (&[("l", "m"), ("m", "l")], LinkTarget::Loop),
            (&[("l", "m/x"), ("m", "/etc")], LinkTarget::Outside("leads through a symlink to an absolute path")),
            (&[("l", "m"), ("m", "..")], LinkTarget::Outside("points out of the working tree")),
            // `m` leads three levels down, so leaving the tree takes four `..` components.
            (&[("l", "m/../../.."), ("m", "a/b/c")], LinkTarget::Inside),
            (&[("l", "m/../../../.."), ("m", "a/b/c")], LinkTarget::Outside("points out of the working tree")),
            (&[("l", "gone/../../x")], LinkTarget::Outside("points out of the working tree")),
            (
                &[("l", "m/config"), ("m", ".git")],
                LinkTarget::Outside("points into a repository directory (.git, .jj), or to an invalid name"),
            ),
            (&[("l", "module/x")], LinkTarget::Outside("points into another repository")),
            (&[("l", "/etc")], LinkTarget::Outside("points to an absolute path")),
        ];
        for (links, expected) in cases {
            assert_eq!(resolve(links[0].0, links, &["dir/file", "a/b/c/d", "module"]), *expected, "{links:?}");
        }
    }

    #[test]
    fn symlink_resolution_is_bounded() {
        let chain: Vec<(String, String)> = (0..60).map(|n| (format!("l{n}"), format!("l{}", n + 1))).collect();
        let chain: Vec<(&str, &str)> = chain.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(resolve("l0", &chain, &[]), LinkTarget::Loop, "60 symlinks exceed the limit");
        assert_eq!(resolve("l25", &chain, &["l60"]), LinkTarget::Inside);
        let mut budget = 3;
        let target = resolve_symlink(&path("l"), b"a/b/c/d", &mut budget, |_| PathEntry::Directory);
        assert_eq!(target, LinkTarget::Outside("is one of too many symlinks to follow"));
    }

    #[test]
    fn forbidden_targets_are_refused() {
        for target in ["/etc/passwd", "../../x", "a/../x", "../.git/config", "", "../.GIT", ".git", "../git~1/x"] {
            assert!(find_forbidden_reason(&path("d/l"), target.as_bytes()).is_some(), "{target}");
        }
        for target in ["../x", ".", "x/y", "./x", "..", "../d//x"] {
            assert_eq!(find_forbidden_reason(&path("d/l"), target.as_bytes()), None, "{target}");
        }
    }
}
