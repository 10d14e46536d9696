//! The starting tree of a sandbox, with which its changes are checked: the tree of its commit with the delta applied.

use std::collections::{BTreeMap, BTreeSet};

use super::delta::BaseDelta;
use crate::changes::links::EntryAt;
use crate::changes::{BaseEntries, Quarantine};
use crate::core::path::{EntryKind, RepoPath};
use crate::git::{Committed, CommittedEntry};

pub(crate) struct BaseTree<'a> {
    pub committed: &'a Committed<'a>,
    pub on_top: &'a BaseDelta,
    pub store: &'a Quarantine,
    /// Paths of the tree that can turn a directory into a repository.
    pub planted: &'a BTreeSet<RepoPath>,
}

impl BaseEntries for BaseTree<'_> {
    fn at(&self, path: &RepoPath) -> EntryAt {
        if self.on_top.has_entries_below(path) {
            return EntryAt::Directory;
        }
        match self.on_top.get(path).map(|t| &t.side) {
            Some(Some(side)) if side.kind == EntryKind::Link => {
                self.store.get(&side.hash).map_or(EntryAt::File, EntryAt::Link)
            }
            Some(Some(_)) => EntryAt::File,
            Some(None) => EntryAt::Absent,
            // A path that cannot be read counts as absent, so that no symlink may rely on it.
            None => match self.committed.at(path).unwrap_or(None) {
                None => EntryAt::Absent,
                Some(CommittedEntry::File) => EntryAt::File,
                Some(CommittedEntry::Link(target)) => EntryAt::Link(target),
                Some(CommittedEntry::Directory) => EntryAt::Directory,
                Some(CommittedEntry::Module) => EntryAt::Repository,
            },
        }
    }

    fn links(&self) -> Vec<(RepoPath, Vec<u8>)> {
        let mut links: BTreeMap<RepoPath, Vec<u8>> = self.committed.links().unwrap_or_default().into_iter().collect();
        for topped in self.on_top.below(None) {
            links.remove(&topped.path);
            if let Some(side) = topped.side.as_ref().filter(|s| s.kind == EntryKind::Link)
                && let Ok(target) = self.store.get(&side.hash)
            {
                links.insert(topped.path.clone(), target);
            }
        }
        links.into_iter().collect()
    }

    fn has(&self, path: &RepoPath) -> bool {
        self.planted.contains(path)
    }
}
