//! The starting tree of a sandbox, with which its changes are checked: the tree of its commit with the delta applied.

use std::collections::{BTreeMap, BTreeSet};

use super::delta::BaseDelta;
use crate::changes::links::PathEntry;
use crate::changes::{BaseEntries, Quarantine};
use crate::core::path::{EntryKind, RepoPath};
use crate::git::{CommittedEntry, CommittedTree};

pub(crate) struct BaseTree<'a> {
    pub committed: &'a CommittedTree<'a>,
    pub delta: &'a BaseDelta,
    pub store: &'a Quarantine,
    /// Paths of the tree that can turn a directory into a repository.
    pub repo_markers: &'a BTreeSet<RepoPath>,
}

impl BaseEntries for BaseTree<'_> {
    fn entry_at(&self, path: &RepoPath) -> PathEntry {
        if self.delta.has_entries_below(path) {
            return PathEntry::Directory;
        }
        match self.delta.get(path).map(|t| &t.side) {
            Some(Some(side)) if side.kind == EntryKind::Symlink => {
                self.store.get(&side.hash).map_or(PathEntry::File, PathEntry::Link)
            }
            Some(Some(_)) => PathEntry::File,
            Some(None) => PathEntry::Absent,
            // A path that cannot be read counts as absent, so that no symlink may rely on it.
            None => match self.committed.find_entry(path).unwrap_or(None) {
                None => PathEntry::Absent,
                Some(CommittedEntry::File) => PathEntry::File,
                Some(CommittedEntry::Symlink(target)) => PathEntry::Link(target),
                Some(CommittedEntry::Directory) => PathEntry::Directory,
                Some(CommittedEntry::Submodule) => PathEntry::Repository,
            },
        }
    }

    fn list_symlinks(&self) -> Vec<(RepoPath, Vec<u8>)> {
        let mut links: BTreeMap<RepoPath, Vec<u8>> =
            self.committed.list_symlinks().unwrap_or_default().into_iter().collect();
        for entry in self.delta.entries_below(None) {
            links.remove(&entry.path);
            if let Some(side) = entry.side.as_ref().filter(|s| s.kind == EntryKind::Symlink)
                && let Ok(target) = self.store.get(&side.hash)
            {
                links.insert(entry.path.clone(), target);
            }
        }
        links.into_iter().collect()
    }

    fn has_repo_marker(&self, path: &RepoPath) -> bool {
        self.repo_markers.contains(path)
    }
}
