//! What a plan meets around its paths on the host: twins of names, and where links would lead there. The host tree may have
//! what no sandbox has seen: ignored files, another spelling, a link of the user's own.

use std::cell::RefCell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::plan::{Conflict, Plan, Step};
use super::tree::{HostError, HostTree, Look};
use super::wish::Contents;
use crate::changes::links::{At, Leads, resolve};
use crate::changes::twins::TwinKind;
use crate::path::{EntryKind, RepoPath, fold};

/// Paths that are looked at to follow all links of a plan.
const STEPS: usize = 1_000_000;

/// The host's directories, each listed once.
pub(super) struct Neighbours<'a> {
    tree: &'a HostTree,
    listed: BTreeMap<Option<RepoPath>, Listed>,
}

/// The names of one directory, and the same folded.
#[derive(Default)]
struct Listed {
    names: BTreeSet<Vec<u8>>,
    folded: BTreeMap<Vec<u8>, (Vec<u8>, TwinKind)>,
}

impl Listed {
    fn of(names: Vec<(Vec<u8>, TwinKind)>) -> Self {
        let mut listed = Self::default();
        for (name, kind) in names {
            listed.folded.insert(fold(&name), (name.clone(), kind));
            listed.names.insert(name);
        }
        listed
    }
}

/// What stands where a new path would go, under another spelling.
pub(super) enum Twin {
    /// Nothing that matters.
    None,
    /// The host's file system takes this path for the new one.
    Same(RepoPath),
    /// It tells them apart, but others do not, and together they would be dangerous.
    Clash(RepoPath),
}

impl<'a> Neighbours<'a> {
    pub(super) fn of(tree: &'a HostTree) -> Self {
        Self { tree, listed: BTreeMap::new() }
    }

    fn listed(&mut self, directory: Option<&RepoPath>) -> Result<&Listed, HostError> {
        Ok(match self.listed.entry(directory.cloned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Listed::of(self.tree.names(directory)?)),
        })
    }

    /// Gives the names in a directory.
    pub(super) fn names(&mut self, directory: Option<&RepoPath>) -> Result<&BTreeSet<Vec<u8>>, HostError> {
        self.listed(directory).map(|listed| &listed.names)
    }

    /// Looks for the twin of a path that is to be written, from the root down.
    pub(super) fn twin(&mut self, path: &RepoPath, kind: EntryKind) -> Result<Twin, HostError> {
        let mut directory: Option<RepoPath> = None;
        for name in path.components() {
            let Ok(here) = RepoPath::child(directory.as_ref(), name) else { return Ok(Twin::None) };
            let listed = self.listed(directory.as_ref())?;
            if listed.names.contains(name) {
                directory = Some(here);
                continue;
            }
            let Some((other, other_kind)) = listed.folded.get(&fold(name)).cloned() else { break };
            let Ok(twin) = RepoPath::child(directory.as_ref(), &other) else { break };
            // It was not listed; if it is there nevertheless, the file system folds names.
            if self.tree.look(&here)? != Look::Nothing {
                return Ok(Twin::Same(twin));
            }
            let own = match kind {
                _ if here != *path => TwinKind::Directory,
                EntryKind::Link => TwinKind::Other,
                EntryKind::Regular | EntryKind::Executable => TwinKind::File,
            };
            return Ok(if own.goes_with(other_kind) { Twin::None } else { Twin::Clash(twin) });
        }
        Ok(Twin::None)
    }
}

impl Plan {
    /// Turns into conflicts the links that would lead out of the host tree as it will be.
    pub(super) fn refuse_escapes(&mut self, tree: &HostTree, store: &dyn Contents) {
        if !tree.habits().symlinks {
            return;
        }
        let made: BTreeMap<&RepoPath, &Step> = self.steps.iter().map(|s| (&s.path, s)).collect();
        let written: BTreeSet<RepoPath> =
            self.steps.iter().filter(|s| s.left.is_some()).map(|s| s.path.clone()).collect();
        let target = |step: &Step| match &step.left {
            Some(version) if version.kind == EntryKind::Link => store.get(&version.hash).ok(),
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
            Some(step) if step.left.is_some() => target(step).map_or(At::File, At::Link),
            _ if is_above(path) => At::Directory,
            Some(_) => At::Nothing,
            None => match tree.look(path) {
                Ok(Look::Directory) => At::Directory,
                Ok(Look::File(seen)) if seen.version.kind == EntryKind::Link => {
                    tree.target(path).ok().flatten().map_or(At::File, At::Link)
                }
                Ok(Look::File(_) | Look::Special) => At::File,
                Ok(Look::BelowRepository(_)) => At::Repository,
                Ok(Look::Nothing | Look::BelowFile(_) | Look::BelowLink(_)) => At::Nothing,
                Err(error) => {
                    failed.replace(Some(error));
                    At::Nothing
                }
            },
        };
        let mut budget = STEPS;
        let mut conflicts = Vec::new();
        for step in &self.steps {
            let Some(target) = target(step) else { continue };
            let leads = resolve(&step.path, &target, &mut budget, at);
            if let Some(error) = failed.take() {
                conflicts.push(Conflict { path: step.path.clone(), reason: error.to_string(), contest: None });
            } else if let Leads::Out(reason) = leads {
                let reason = format!("as a link in your tree it {reason}");
                conflicts.push(Conflict { path: step.path.clone(), reason, contest: None });
            }
        }
        self.conflicts.extend(conflicts);
    }
}
