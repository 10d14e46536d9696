//! Checks the directories around planned paths for name collisions. The working tree may contain entries that no sandbox
//! contained: ignored files, other spellings, and the user's own symlinks.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::host_error::HostError;
use super::working_tree::{PathState, WorkingTree};
use crate::changes::name_collisions::EntryClass;
use crate::core::path::{EntryKind, RepoPath, fold_component};

/// A cache of directory listings: each directory of the working tree is listed once.
pub(crate) struct DirCache<'a> {
    tree: &'a WorkingTree,
    listings: BTreeMap<Option<RepoPath>, DirListing>,
}

/// The names of one directory, as they are and case-folded.
#[derive(Default)]
struct DirListing {
    names: BTreeSet<Vec<u8>>,
    folded: BTreeMap<Vec<u8>, (Vec<u8>, EntryClass)>,
}

impl DirListing {
    fn from_names(names: Vec<(Vec<u8>, EntryClass)>) -> Self {
        let mut listing = Self::default();
        for (name, kind) in names {
            listing.folded.insert(fold_component(&name), (name.clone(), kind));
            listing.names.insert(name);
        }
        listing
    }
}

/// An existing entry whose name collides with a new path.
pub(crate) enum NameCollision {
    None,
    /// The working tree's file system treats this path and the new path as the same.
    Same(RepoPath),
    /// The file system distinguishes this path from the new path, but others do not, and the two entries cannot safely
    /// coexist.
    Incompatible(RepoPath),
}

impl<'a> DirCache<'a> {
    pub(crate) fn new(tree: &'a WorkingTree) -> Self {
        Self { tree, listings: BTreeMap::new() }
    }

    fn list_dir(&mut self, directory: Option<&RepoPath>) -> Result<&DirListing, HostError> {
        Ok(match self.listings.entry(directory.cloned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(DirListing::from_names(self.tree.read_dir_names(directory)?)),
        })
    }

    /// Returns the names of the entries in a directory.
    pub(crate) fn dir_names(&mut self, directory: Option<&RepoPath>) -> Result<&BTreeSet<Vec<u8>>, HostError> {
        self.list_dir(directory).map(|listed| &listed.names)
    }

    /// Finds an existing entry that collides with a path to be written, checking each component from the root down.
    pub(crate) fn find_collision(&mut self, path: &RepoPath, kind: EntryKind) -> Result<NameCollision, HostError> {
        let mut directory: Option<RepoPath> = None;
        for name in path.components() {
            let Ok(current) = RepoPath::from_parent(directory.as_ref(), name) else { return Ok(NameCollision::None) };
            let listed = self.list_dir(directory.as_ref())?;
            if listed.names.contains(name) {
                directory = Some(current);
                continue;
            }
            let Some((other, other_kind)) = listed.folded.get(&fold_component(name)).cloned() else { break };
            let Ok(existing) = RepoPath::from_parent(directory.as_ref(), &other) else { break };
            // The name was not listed. If the path exists nevertheless, the file system folds names.
            if self.tree.classify_path(&current)? != PathState::Absent {
                return Ok(NameCollision::Same(existing));
            }
            let class = match kind {
                _ if current != *path => EntryClass::Directory,
                EntryKind::Symlink => EntryClass::Other,
                EntryKind::Regular | EntryKind::Executable => EntryClass::File,
            };
            return Ok(if class.can_coexist(other_kind) {
                NameCollision::None
            } else {
                NameCollision::Incompatible(existing)
            });
        }
        Ok(NameCollision::None)
    }
}
