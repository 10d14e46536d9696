//! Rejects new symlinks of a plan that would lead out of the working tree.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::host_error::HostError;
use super::plan::Plan;
use super::request::BlobStore;
use super::step::{Conflict, Step};
use super::working_tree::{PathState, WorkingTree};
use crate::changes::links::{LinkTarget, PathEntry, resolve_symlink};
use crate::core::path::{EntryKind, RepoPath, has_path_below};

/// Maximum number of paths that are examined to follow all symlinks of a plan.
const MAX_EXAMINED_PATHS: usize = 1_000_000;

impl Plan {
    /// Adds a conflict for steps if their symlinks would lead out of the working tree after the apply.
    pub(crate) fn reject_escapes(&mut self, tree: &WorkingTree, store: &dyn BlobStore) {
        if !tree.fs_capabilities().symlinks {
            return;
        }
        let steps_by_path: BTreeMap<&RepoPath, &Step> = self.steps.iter().map(|s| (&s.path, s)).collect();
        let written: BTreeSet<RepoPath> =
            self.steps.iter().filter(|s| s.result.is_some()).map(|s| s.path.clone()).collect();
        let target = |step: &Step| match &step.result {
            Some(version) if version.kind == EntryKind::Symlink => store.read_blob(&version.hash).ok(),
            _ => None,
        };
        // A path that cannot be examined counts as absent; the error then makes the step a conflict.
        let failed: RefCell<Option<HostError>> = RefCell::default();
        let entry_at = |path: &RepoPath| match steps_by_path.get(path) {
            Some(step) if step.result.is_some() => target(step).map_or(PathEntry::File, PathEntry::Link),
            _ if has_path_below(&written, path) => PathEntry::Directory,
            Some(_) => PathEntry::Absent,
            None => match tree.classify_path(path) {
                Ok(PathState::Directory) => PathEntry::Directory,
                Ok(PathState::File(EntryKind::Symlink)) => {
                    tree.read_symlink(path).ok().flatten().map_or(PathEntry::File, PathEntry::Link)
                }
                Ok(PathState::File(_) | PathState::Special) => PathEntry::File,
                Ok(PathState::BelowRepository(_)) => PathEntry::Repository,
                Ok(PathState::Absent | PathState::BelowFile(_) | PathState::BelowSymlink(_)) => PathEntry::Absent,
                Err(error) => {
                    failed.replace(Some(error));
                    PathEntry::Absent
                }
            },
        };
        let mut budget = MAX_EXAMINED_PATHS;
        let mut conflicts = Vec::new();
        for step in &self.steps {
            let Some(target) = target(step) else { continue };
            let link_target = resolve_symlink(&step.path, &target, &mut budget, entry_at);
            if let Some(error) = failed.take() {
                conflicts.push(Conflict::new(step.path.clone(), error.to_string()));
            } else if let LinkTarget::Outside(reason) = link_target {
                let reason = format!("as a symlink in your working tree, it {reason}");
                conflicts.push(Conflict::new(step.path.clone(), reason));
            }
        }
        self.conflicts.extend(conflicts);
    }
}
