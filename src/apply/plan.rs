//! Builds the plan of an apply: one step for each path, as inert data. A dry run prints exactly this plan.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::collisions::{DirCache, NameCollision};
use super::host_error::HostError;
use super::names::IN_TREE;
use super::request::{AttrSource, BlobStore, PathRequest};
use super::resolve::Resolver;
use super::step::{Conflict, MergeMode, OnConflict, Step, StepAction};
use super::working_tree::{ObservedFile, PathState, WorkingTree};

use crate::changes::{EmbeddedRepoRule, has_folded};
use crate::core::path::{EntryKind, RepoPath};

/// Options for building a plan.
#[derive(Debug, Default)]
pub struct PlanOptions {
    /// Paths that are not merged as plain text.
    pub merge_modes: BTreeMap<RepoPath, MergeMode>,
    /// The handling of conflicts.
    pub on_conflict: OnConflict,
    /// The only directories to remove when they become empty; `None` for all directories.
    pub removable_dirs: Option<BTreeSet<RepoPath>>,
    /// Existing directories whose permissions are copied to new directories, by the path of the new directory.
    pub dir_attrs: BTreeMap<RepoPath, AttrSource>,
    /// Whether the content was the user's own before, so that symlinks and repositories in it are not rejected.
    pub is_trusted: bool,
}

/// An inert list of steps. A plan with conflicts is not executed.
#[derive(Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    /// Conflicts that prevent the apply.
    pub conflicts: Vec<Conflict>,
    /// Conflicts that are skipped at the user's request.
    pub skipped: Vec<Conflict>,
    /// Directories to create, parents before children.
    pub dirs_to_create: Vec<RepoPath>,
    /// Directories to remove because they become empty, children before parents.
    pub dirs_to_remove: Vec<RepoPath>,
    directories: BTreeMap<RepoPath, AttrSource>,
}

/// A planned disk operation.
#[derive(Debug, Clone, Copy)]
pub enum PlannedOp<'a> {
    /// The creation of a directory, optionally with the permissions of another.
    MakeDirectory(&'a RepoPath, Option<&'a AttrSource>),
    /// The removal of an empty directory.
    RemoveDirectory(&'a RepoPath),
    /// A case-only rename of a file.
    Respell(&'a RepoPath, &'a RepoPath),
    /// The creation or replacement of a file or symlink.
    Put(&'a Step),
    /// The deletion of a file or symlink.
    Delete(&'a Step),
}

impl<'a> PlannedOp<'a> {
    /// Returns the path that the operation changes.
    #[must_use]
    pub fn path(self) -> &'a RepoPath {
        match self {
            Self::MakeDirectory(path, _) | Self::RemoveDirectory(path) | Self::Respell(_, path) => path,
            Self::Put(step) | Self::Delete(step) => &step.path,
        }
    }
}

/// Whether a path can be written.
enum PathAvailability {
    Free { seen: Option<ObservedFile>, respells: Option<RepoPath>, twin: Option<RepoPath> },
    Blocked(String),
}

impl Plan {
    /// Builds a plan by comparing each request with the current working tree, without writing to it.
    ///
    /// # Errors
    /// Accepted content is damaged.
    pub fn build(
        tree: &WorkingTree,
        wishes: Vec<PathRequest>,
        contents: &dyn BlobStore,
        terms: PlanOptions,
    ) -> io::Result<Self> {
        let mut plan = Self { directories: terms.dir_attrs, ..Self::default() };
        let goes = |w: &&PathRequest| w.theirs.is_none();
        let gone: BTreeSet<RepoPath> = wishes.iter().filter(goes).map(|w| w.path.clone()).collect();
        let mut neighbours = DirCache::of(tree);
        let judge = Resolver { tree, contents, on_conflict: terms.on_conflict, modes: &terms.merge_modes };
        for wish in wishes {
            let way = match way(tree, &mut neighbours, &wish, &|path| gone.contains(path)) {
                Ok(way) => way,
                Err(error) if error.is_about_the_path() => PathAvailability::Blocked(error.to_string()),
                Err(error) => return Err(io::Error::other(format!("{:?}: {error}", wish.path))),
            };
            let conflict = |reason: String, contest| Conflict { path: wish.path.clone(), reason, sides: contest };
            let (seen, respells, twin) = match way {
                PathAvailability::Free { seen, respells, twin } => (seen, respells, twin),
                PathAvailability::Blocked(reason) => {
                    plan.conflicts.push(conflict(reason, None));
                    continue;
                }
            };
            match judge.resolve_request(&wish, seen.as_ref(), respells.is_some())? {
                Ok((verb, left)) => plan.steps.push(Step {
                    path: wish.path,
                    action: verb,
                    picks: wish.picks,
                    superseded: wish.superseded,
                    base: wish.base,
                    expected: seen,
                    result: left,
                    attrs_from: wish.attrs_from,
                    attrs_from_if_mode: wish.attrs_from_if_mode,
                    case_renamed_from: respells,
                    colliding_path: twin,
                }),
                Err((reason, contest)) => plan.conflicts.push(conflict(reason, contest)),
            }
        }
        // A path that is the source of a case-only rename is not deleted.
        let respelled: BTreeSet<RepoPath> = plan.steps.iter().filter_map(|s| s.case_renamed_from.clone()).collect();
        for step in plan.steps.iter_mut().filter(|s| s.result.is_none() && respelled.contains(&s.path)) {
            step.action = StepAction::Unchanged;
        }
        // Repeated because dropping a step can invalidate steps that depend on it.
        loop {
            let known = plan.conflicts.len();
            if !terms.is_trusted {
                plan.refuse_planted(tree);
                plan.drop_conflicts();
                plan.refuse_escapes(tree, contents);
                plan.drop_conflicts();
            }
            plan.refuse_orphans(tree);
            plan.drop_conflicts();
            if plan.conflicts.len() == known {
                break;
            }
        }
        if terms.on_conflict == OnConflict::Skip {
            plan.skipped = std::mem::take(&mut plan.conflicts);
        }
        plan.steps.sort_by(|a, b| a.path.cmp(&b.path));
        plan.conflicts.sort_by(|a, b| a.path.cmp(&b.path));
        plan.directories(tree, &mut neighbours, terms.removable_dirs.as_ref()).map_err(io::Error::other)?;
        Ok(plan)
    }

    fn drop_conflicts(&mut self) {
        let conflicts: BTreeSet<RepoPath> = self.conflicts.iter().map(|c| c.path.clone()).collect();
        self.steps.retain(|s| !conflicts.contains(&s.path));
    }

    /// Returns whether the plan has no operations.
    #[must_use]
    pub fn is_noop(&self) -> bool {
        self.steps.iter().all(|s| s.action == StepAction::Unchanged)
    }

    /// Returns the disk operations in order: deletions that make room for new paths, new directories, files, symlinks, other
    /// deletions, and the removal of directories that become empty.
    #[must_use]
    pub fn acts(&self) -> Vec<PlannedOp<'_>> {
        let done = || self.steps.iter().filter(|s| s.action != StepAction::Unchanged);
        let put: BTreeSet<&RepoPath> = done().filter(|s| s.result.is_some()).map(|s| &s.path).collect();
        let made: BTreeSet<&RepoPath> = self.dirs_to_create.iter().collect();
        let has_above = |path: &RepoPath| {
            let mut above = path.parent();
            while let Some(directory) = above {
                if put.contains(&directory) {
                    return true;
                }
                above = directory.parent();
            }
            false
        };
        let makes_way = |path: &RepoPath| made.contains(path) || put.contains(path) || has_above(path);
        let (early, late): (Vec<&Step>, Vec<&Step>) =
            done().filter(|s| s.result.is_none()).partition(|s| makes_way(&s.path));
        let (early_directories, late_directories): (Vec<_>, Vec<_>) =
            self.dirs_to_remove.iter().partition(|path| makes_way(path));
        let is_link = |s: &&Step| s.result.as_ref().is_some_and(|v| v.kind == EntryKind::Link);
        let files = done().filter(|s| s.result.is_some() && !is_link(s));
        let links = done().filter(is_link);
        let mut acts = Vec::new();
        acts.extend(early.into_iter().map(PlannedOp::Delete));
        acts.extend(early_directories.into_iter().map(PlannedOp::RemoveDirectory));
        acts.extend(self.dirs_to_create.iter().map(|path| PlannedOp::MakeDirectory(path, self.directories.get(path))));
        for step in files.chain(links) {
            acts.extend(step.case_renamed_from.iter().map(|from| PlannedOp::Respell(from, &step.path)));
            acts.push(PlannedOp::Put(step));
        }
        acts.extend(late.into_iter().map(PlannedOp::Delete));
        acts.extend(late_directories.into_iter().map(PlannedOp::RemoveDirectory));
        acts
    }

    /// Computes the missing directories to create and the directories to remove because they become empty.
    fn directories(
        &mut self,
        tree: &WorkingTree,
        neighbours: &mut DirCache<'_>,
        removable: Option<&BTreeSet<RepoPath>>,
    ) -> Result<(), HostError> {
        let done = || self.steps.iter().filter(|s| s.action != StepAction::Unchanged);
        let mut gone: BTreeSet<RepoPath> = done().filter(|s| s.result.is_none()).map(|s| s.path.clone()).collect();
        let put: BTreeSet<RepoPath> = done().filter(|s| s.result.is_some()).map(|s| s.path.clone()).collect();
        let mut needed = BTreeSet::new();
        for path in &put {
            let mut above = path.parent();
            while let Some(directory) = above {
                above = directory.parent();
                if !needed.insert(directory) {
                    break;
                }
            }
        }
        // The set is sorted, so parents come first.
        let mut made = Vec::new();
        for path in &needed {
            if gone.contains(path) || tree.observe(path)? != PathState::Directory {
                made.push(path.clone());
            }
        }
        // The deepest directories come first: a directory may become empty when its subdirectories are removed.
        let mut candidates: BTreeSet<(std::cmp::Reverse<usize>, RepoPath)> = BTreeSet::new();
        let depth = |path: &RepoPath| std::cmp::Reverse(path.components().count());
        candidates.extend(gone.iter().filter_map(RepoPath::parent).map(|path| (depth(&path), path)));
        let mut removed = Vec::new();
        while let Some((_, directory)) = candidates.pop_first() {
            if needed.contains(&directory) || removable.is_some_and(|only| !only.contains(&directory)) {
                continue;
            }
            let mut names =
                neighbours.dir_names(Some(&directory))?.iter().map(|name| RepoPath::child(Some(&directory), name));
            let is_empty = names.all(|path| path.is_ok_and(|path| gone.contains(&path)));
            if !is_empty || tree.observe(&directory)? != PathState::Directory {
                continue;
            }
            candidates.extend(directory.parent().map(|above| (depth(&above), above)));
            gone.insert(directory.clone());
            removed.push(directory);
        }
        (self.dirs_to_create, self.dirs_to_remove) = (made, removed);
        Ok(())
    }

    /// Turns steps into conflicts if they would complete an embedded repository in the working tree, from changes of several
    /// rounds or with the user's own files.
    fn refuse_planted(&mut self, tree: &WorkingTree) {
        let written: Vec<&RepoPath> = self.steps.iter().filter(|s| s.result.is_some()).map(|s| &s.path).collect();
        let folded: BTreeSet<Vec<u8>> = written.iter().map(|p| p.folded()).collect();
        let gone: BTreeSet<&RepoPath> = self.steps.iter().filter(|s| s.result.is_none()).map(|s| &s.path).collect();
        let mut known = BTreeMap::new();
        let mut has = |path: &RepoPath| {
            *known.entry(path.clone()).or_insert_with(|| {
                has_folded(&folded, path)
                    || match tree.observe(path) {
                        Ok(PathState::Absent | PathState::BelowFile(_)) => false,
                        // A symlink that the plan deletes does not count.
                        Ok(PathState::BelowLink(above)) => !gone.contains(&above),
                        _ => true,
                    }
            })
        };
        let mut judged = EmbeddedRepoRule::default();
        for path in &written {
            if let Some(directory) = judged.find_above(path, &mut has) {
                let reason = format!("git would open {directory:?} as a repository");
                self.conflicts.push(Conflict { path: (*path).clone(), reason, sides: None });
            }
        }
    }

    /// Turns steps into conflicts if they depend on the deletion of a path that is a conflict itself, or is skipped.
    fn refuse_orphans(&mut self, tree: &WorkingTree) {
        let stays: BTreeSet<RepoPath> = self.conflicts.iter().map(|c| c.path.clone()).collect();
        if stays.is_empty() {
            return;
        }
        let mut conflicts = Vec::new();
        for step in self.steps.iter().filter(|s| s.result.is_some()) {
            let blocked = match tree.observe(&step.path) {
                Ok(PathState::BelowFile(above) | PathState::BelowLink(above)) => {
                    stays.contains(&above).then_some(above)
                }
                Ok(PathState::Directory) => stays.iter().find(|path| path.is_below(&step.path)).cloned(),
                _ => None,
            };
            let mut relies_on = step.case_renamed_from.iter().chain(&step.colliding_path);
            let blocked = blocked.or_else(|| relies_on.find(|path| stays.contains(*path)).cloned());
            if let Some(above) = blocked {
                let reason = format!("{above:?} stays, and is in its place");
                conflicts.push(Conflict { path: step.path.clone(), reason, sides: None });
            }
        }
        self.conflicts.extend(conflicts);
    }
}

/// Checks whether a path can be written, given the paths that the plan deletes.
fn way(
    tree: &WorkingTree,
    neighbours: &mut DirCache<'_>,
    wish: &PathRequest,
    deleted: &dyn Fn(&RepoPath) -> bool,
) -> Result<PathAvailability, HostError> {
    let path = &wish.path;
    if wish.theirs.is_some() && path.components().any(|name| name == IN_TREE.as_bytes()) {
        return Ok(PathAvailability::Blocked(format!("Airlock keeps backups under the name {IN_TREE}")));
    }
    let mut look = tree.observe(path)?;
    let (mut respells, mut gone_twin) = (None, None);
    match &wish.theirs {
        // The path is deleted under this spelling already.
        None => {
            if let Ok(NameCollision::Same(_)) = neighbours.find_collision(path, EntryKind::Regular) {
                look = PathState::Absent;
            }
        }
        Some(version) => match neighbours.find_collision(path, version.kind)? {
            NameCollision::None => {}
            // The colliding entry is deleted by the plan.
            NameCollision::Incompatible(twin) if deleted(&twin) => gone_twin = Some(twin),
            // A case-only rename.
            NameCollision::Same(twin) if deleted(&twin) && twin.parent() == path.parent() => {
                // Observed under its current name: a file system may report a different inode number for the other spelling.
                if let PathState::File(_) = look {
                    look = tree.observe(&twin)?;
                    respells = Some(twin);
                }
            }
            NameCollision::Same(twin) => {
                return Ok(PathAvailability::Blocked(format!("your file system takes it for {twin:?}")));
            }
            NameCollision::Incompatible(twin) => {
                let reason = format!("other file systems would take it for {twin:?}, which is of another kind");
                return Ok(PathAvailability::Blocked(reason));
            }
        },
    }
    let blocked = |reason: String| Ok(PathAvailability::Blocked(reason));
    if let Some(reason) = tree.unwritable_reason(path)? {
        return blocked(reason.into());
    }
    let seen = match look {
        PathState::Absent => None,
        // The path is deleted already: something else is at the path or at a parent.
        PathState::BelowFile(_) | PathState::BelowLink(_) | PathState::Directory if wish.theirs.is_none() => None,
        PathState::File(seen) => Some(seen),
        PathState::BelowFile(above) | PathState::BelowLink(above) if deleted(&above) => None,
        PathState::BelowFile(above) => {
            return blocked(format!("{above:?} is a file; accept its deletion too, or move it away"));
        }
        PathState::Directory => match tree.read_dir_contents(path)? {
            // Every directory in it becomes empty when the plan deletes its files, and is removed.
            Some(below)
                if !below.files.is_empty()
                    && below.files.iter().all(deleted)
                    && below.directories.iter().all(|d| below.files.iter().any(|f| f.is_below(d))) =>
            {
                None
            }
            Some(below) if below.files.is_empty() && below.directories.is_empty() => {
                return blocked("an empty directory of yours is in its place".into());
            }
            _ => return blocked("a directory with files or directories of your own is in its place".into()),
        },
        PathState::Special => return blocked("a device, a socket or a pipe is in its place".into()),
        PathState::BelowLink(above) => return blocked(format!("{above:?} is a link, and Airlock writes through none")),
        PathState::BelowRepository(above) => return blocked(format!("{above:?} is another repository")),
    };
    Ok(PathAvailability::Free { seen, respells, twin: gone_twin })
}
