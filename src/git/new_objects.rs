//! Lists the objects that a newer commit has and an older one does not, in time proportional to the difference.
//!
//! `git rev-list` would mark every object of the older tree first.

use std::collections::{BTreeMap, BTreeSet};

use git2::{ObjectType, Oid, Repository, Tree};

use super::error::SnapshotError;

/// Lists new commits with the trees and blobs that their parents do not have. The list may contain a few objects that
/// `old` has.
///
/// The parents of commits in `cut` do not exist, so these commits are compared with the tree of `old`. Each object has
/// one of its names, because objects with the same name are usually deltas of each other.
pub(crate) fn list_new_objects(
    git: &Repository,
    commits: &[Oid],
    old: Oid,
    cut: &BTreeSet<Oid>,
) -> Result<BTreeMap<Oid, Vec<u8>>, SnapshotError> {
    let old_tree = git.find_commit(old)?.tree()?;
    let mut found = BTreeMap::new();
    for id in commits {
        let commit = git.find_commit(*id)?;
        found.insert(*id, Vec::new());
        let parents = match cut.contains(id) {
            true => vec![old_tree.clone()],
            false => commit.parents().map(|p| p.tree()).collect::<Result<Vec<_>, _>>()?,
        };
        add_tree(git, &commit.tree()?, b"", &parents, &mut found)?;
    }
    Ok(found)
}

/// Adds a tree and everything below it, except objects that one of the others has under the same name.
fn add_tree(
    git: &Repository,
    tree: &Tree<'_>,
    name: &[u8],
    others: &[Tree<'_>],
    found: &mut BTreeMap<Oid, Vec<u8>>,
) -> Result<(), SnapshotError> {
    if others.iter().any(|o| o.id() == tree.id()) || found.contains_key(&tree.id()) {
        return Ok(());
    }
    found.insert(tree.id(), name.to_vec());
    for entry in tree {
        let same = |other: &Tree<'_>| other.get_name_bytes(entry.name_bytes()).is_some_and(|e| e.id() == entry.id());
        if others.iter().any(same) {
            continue;
        }
        match entry.kind() {
            Some(ObjectType::Tree) => {
                let below = |other: &Tree<'_>| {
                    let entry = other.get_name_bytes(entry.name_bytes())?;
                    git.find_tree(entry.id()).ok()
                };
                let below: Vec<_> = others.iter().filter_map(below).collect();
                add_tree(git, &git.find_tree(entry.id())?, entry.name_bytes(), &below, found)?;
            }
            Some(ObjectType::Blob) => {
                found.insert(entry.id(), entry.name_bytes().to_vec());
            }
            // A submodule's commit is in its own repository.
            _ => {}
        }
    }
    Ok(())
}
