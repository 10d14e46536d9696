//! Checks the working tree around planned paths for name collisions and for symlinks that would escape. The working tree may have
//! what no sandbox has seen: ignored files, another spelling, a link of the user's own.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::host_error::HostError;
use super::working_tree::{PathState, WorkingTree};
use crate::changes::name_collisions::EntryClass;
use crate::core::path::{EntryKind, RepoPath, fold};

/// The host's directories, each listed once.
pub(crate) struct DirCache<'a> {
    tree: &'a WorkingTree,
    listed: BTreeMap<Option<RepoPath>, DirListing>,
}

/// The names of one directory, and the same folded.
#[derive(Default)]
struct DirListing {
    names: BTreeSet<Vec<u8>>,
    folded: BTreeMap<Vec<u8>, (Vec<u8>, EntryClass)>,
}

impl DirListing {
    fn of(names: Vec<(Vec<u8>, EntryClass)>) -> Self {
        let mut listed = Self::default();
        for (name, kind) in names {
            listed.folded.insert(fold(&name), (name.clone(), kind));
            listed.names.insert(name);
        }
        listed
    }
}

/// An existing entry whose name collides with a new path.
pub(crate) enum NameCollision {
    None,
    /// The host's file system takes this path for the new one.
    Same(RepoPath),
    /// This file system tells them apart, others do not, and together they would be dangerous.
    Incompatible(RepoPath),
}

impl<'a> DirCache<'a> {
    pub(crate) fn of(tree: &'a WorkingTree) -> Self {
        Self { tree, listed: BTreeMap::new() }
    }

    fn list_dir(&mut self, directory: Option<&RepoPath>) -> Result<&DirListing, HostError> {
        Ok(match self.listed.entry(directory.cloned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(DirListing::of(self.tree.read_dir_names(directory)?)),
        })
    }

    /// Returns the names in a directory.
    pub(crate) fn dir_names(&mut self, directory: Option<&RepoPath>) -> Result<&BTreeSet<Vec<u8>>, HostError> {
        self.list_dir(directory).map(|listed| &listed.names)
    }

    /// Looks for the twin of a path that is to be written, from the root down.
    pub(crate) fn find_collision(&mut self, path: &RepoPath, kind: EntryKind) -> Result<NameCollision, HostError> {
        let mut directory: Option<RepoPath> = None;
        for name in path.components() {
            let Ok(here) = RepoPath::child(directory.as_ref(), name) else { return Ok(NameCollision::None) };
            let listed = self.list_dir(directory.as_ref())?;
            if listed.names.contains(name) {
                directory = Some(here);
                continue;
            }
            let Some((other, other_kind)) = listed.folded.get(&fold(name)).cloned() else { break };
            let Ok(twin) = RepoPath::child(directory.as_ref(), &other) else { break };
            // It was not listed; if it is there nevertheless, the file system folds names.
            if self.tree.observe(&here)? != PathState::Absent {
                return Ok(NameCollision::Same(twin));
            }
            let own = match kind {
                _ if here != *path => EntryClass::Directory,
                EntryKind::Link => EntryClass::Other,
                EntryKind::Regular | EntryKind::Executable => EntryClass::File,
            };
            return Ok(if own.can_coexist(other_kind) {
                NameCollision::None
            } else {
                NameCollision::Incompatible(twin)
            });
        }
        Ok(NameCollision::None)
    }
}
