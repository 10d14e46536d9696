//! The objects that a newer commit has and an older one has not, found at the cost of what differs: `git rev-list` would
//! mark every object of the older tree first.

use std::collections::BTreeSet;

use git2::{ObjectType, Oid, Repository, Tree};

use super::SnapshotError;

/// Lists the commits that `new` reaches and `old` does not, with the trees and blobs that their parents do not have. A few
/// that `old` has elsewhere may be among them.
pub(super) fn objects(git: &Repository, new: Oid, old: Oid) -> Result<BTreeSet<Oid>, SnapshotError> {
    let mut walk = git.revwalk()?;
    walk.push(new)?;
    walk.hide(old)?;
    let mut found = BTreeSet::new();
    for id in walk {
        let commit = git.find_commit(id?)?;
        found.insert(commit.id());
        let parents = commit.parents().map(|p| p.tree()).collect::<Result<Vec<_>, _>>()?;
        add(git, &commit.tree()?, &parents, &mut found)?;
    }
    Ok(found)
}

/// Adds a tree and what is below it, as far as none of the others has the same object under the same name.
fn add(git: &Repository, tree: &Tree<'_>, others: &[Tree<'_>], found: &mut BTreeSet<Oid>) -> Result<(), SnapshotError> {
    if others.iter().any(|o| o.id() == tree.id()) || !found.insert(tree.id()) {
        return Ok(());
    }
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
                add(git, &git.find_tree(entry.id())?, &below, found)?;
            }
            Some(ObjectType::Blob) => {
                found.insert(entry.id());
            }
            // A submodule's commit is in its own repository.
            _ => {}
        }
    }
    Ok(())
}
