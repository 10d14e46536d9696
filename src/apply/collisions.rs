//! Checks the working tree around planned paths for name collisions and for symlinks that would escape. The working tree may have
//! what no sandbox has seen: ignored files, another spelling, a link of the user's own.

use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::plan::{Conflict, Plan, Step};
use super::request::BlobStore;
use super::working_tree::{HostError, PathState, WorkingTree};
use crate::changes::links::{EntryAt, LinkTarget, resolve_link};
use crate::changes::name_collisions::EntryClass;
use crate::path::{EntryKind, RepoPath, fold};

/// Paths that are looked at to follow all links of a plan.
const STEPS: usize = 1_000_000;

/// The host's directories, each listed once.
pub(super) struct DirCache<'a> {
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
pub(super) enum NameCollision {
    None,
    /// The host's file system takes this path for the new one.
    Same(RepoPath),
    /// This file system tells them apart, others do not, and together they would be dangerous.
    Incompatible(RepoPath),
}

impl<'a> DirCache<'a> {
    pub(super) fn of(tree: &'a WorkingTree) -> Self {
        Self { tree, listed: BTreeMap::new() }
    }

    fn list_dir(&mut self, directory: Option<&RepoPath>) -> Result<&DirListing, HostError> {
        Ok(match self.listed.entry(directory.cloned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(DirListing::of(self.tree.read_dir_names(directory)?)),
        })
    }

    /// Returns the names in a directory.
    pub(super) fn dir_names(&mut self, directory: Option<&RepoPath>) -> Result<&BTreeSet<Vec<u8>>, HostError> {
        self.list_dir(directory).map(|listed| &listed.names)
    }

    /// Looks for the twin of a path that is to be written, from the root down.
    pub(super) fn find_collision(&mut self, path: &RepoPath, kind: EntryKind) -> Result<NameCollision, HostError> {
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

impl Plan {
    /// Turns into conflicts the links that would lead out of the host tree as it will be.
    pub(super) fn refuse_escapes(&mut self, tree: &WorkingTree, store: &dyn BlobStore) {
        if !tree.capabilities().symlinks {
            return;
        }
        let made: BTreeMap<&RepoPath, &Step> = self.steps.iter().map(|s| (&s.path, s)).collect();
        let written: BTreeSet<RepoPath> =
            self.steps.iter().filter(|s| s.result.is_some()).map(|s| s.path.clone()).collect();
        let target = |step: &Step| match &step.result {
            Some(version) if version.kind == EntryKind::Link => store.read_blob(&version.hash).ok(),
            _ => None,
        };
        let is_above = |path: &RepoPath| {
            let prefix = [path.as_bytes(), b"/"].concat();
            let from = (Bound::Included(prefix.as_slice()), Bound::Unbounded);
            written.range::<[u8], _>(from).next().is_some_and(|w| w.is_below(path))
        };
        // What cannot be looked at leads nowhere that is known.
        let failed: RefCell<Option<HostError>> = RefCell::default();
        let at = |path: &RepoPath| match made.get(path) {
            Some(step) if step.result.is_some() => target(step).map_or(EntryAt::File, EntryAt::Link),
            _ if is_above(path) => EntryAt::Directory,
            Some(_) => EntryAt::Absent,
            None => match tree.observe(path) {
                Ok(PathState::Directory) => EntryAt::Directory,
                Ok(PathState::File(seen)) if seen.version.kind == EntryKind::Link => {
                    tree.read_symlink(path).ok().flatten().map_or(EntryAt::File, EntryAt::Link)
                }
                Ok(PathState::File(_) | PathState::Special) => EntryAt::File,
                Ok(PathState::BelowRepository(_)) => EntryAt::Repository,
                Ok(PathState::Absent | PathState::BelowFile(_) | PathState::BelowLink(_)) => EntryAt::Absent,
                Err(error) => {
                    failed.replace(Some(error));
                    EntryAt::Absent
                }
            },
        };
        let mut budget = STEPS;
        let mut conflicts = Vec::new();
        for step in &self.steps {
            let Some(target) = target(step) else { continue };
            let leads = resolve_link(&step.path, &target, &mut budget, at);
            if let Some(error) = failed.take() {
                conflicts.push(Conflict { path: step.path.clone(), reason: error.to_string(), sides: None });
            } else if let LinkTarget::Outside(reason) = leads {
                let reason = format!("as a link in your tree it {reason}");
                conflicts.push(Conflict { path: step.path.clone(), reason, sides: None });
            }
        }
        self.conflicts.extend(conflicts);
    }
}
