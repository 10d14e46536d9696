//! Builds the plan of an apply: one step for each path, as inert data. A dry run prints exactly this plan.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::collisions::{DirCache, NameCollision};
use super::host_error::HostError;
use super::moves::{MoveFinder, MoveSource};
use super::names::IN_TREE_DIR;
use super::request::{AttrSource, BlobStore, EarlierUnits, PathRequest};
use super::resolve::{ExistingFile, ResolvedStep, Resolver};
use super::step::{Conflict, MergeMode, MovedFile, Step, StepAction};
use super::working_tree::{ObservedFile, PathState, WorkingTree};
use crate::changes::{ConflictChoice, EmbeddedRepoRule, Selection, has_folded_path};
use crate::core::on_conflict::OnConflict;
use crate::core::parallel::try_parallel_map;
use crate::core::path::{EntryKind, RepoPath};

/// Options for building a plan.
#[derive(Debug, Default)]
pub struct PlanOptions {
    /// Paths that are not merged as plain text.
    pub merge_modes: BTreeMap<RepoPath, MergeMode>,
    /// The handling of conflicts.
    pub on_conflict: OnConflict,
    /// The user's choices for regions in conflict, by the ID of the region.
    pub choices: BTreeMap<String, ConflictChoice>,
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
    dir_attrs: BTreeMap<RepoPath, AttrSource>,
}

/// A planned disk operation.
#[derive(Debug, Clone, Copy)]
pub enum PlannedOp<'a> {
    /// The creation of a directory, optionally with the permissions of another.
    CreateDirectory(&'a RepoPath, Option<&'a AttrSource>),
    /// The removal of an empty directory.
    RemoveDirectory(&'a RepoPath),
    /// A case-only rename of a file.
    CaseRename(&'a RepoPath, &'a RepoPath),
    /// The creation or replacement of a file or symlink.
    Write(&'a Step),
    /// The deletion of a file or symlink.
    Delete(&'a Step),
}

impl<'a> PlannedOp<'a> {
    /// Returns the path that the operation changes.
    #[must_use]
    pub fn path(self) -> &'a RepoPath {
        match self {
            Self::CreateDirectory(path, _) | Self::RemoveDirectory(path) | Self::CaseRename(_, path) => path,
            Self::Write(step) | Self::Delete(step) => &step.path,
        }
    }
}

/// Whether a path can be written.
enum PathAvailability {
    Free { observed: Option<ObservedFile>, case_renamed_from: Option<RepoPath>, colliding_path: Option<RepoPath> },
    Blocked(String),
}

impl Plan {
    /// Builds a plan by comparing each request with the current working tree, without writing to it.
    ///
    /// # Errors
    /// Accepted content is damaged.
    pub fn build(
        tree: &WorkingTree,
        mut requests: Vec<PathRequest>,
        blobs: &dyn BlobStore,
        options: PlanOptions,
    ) -> io::Result<Self> {
        let mut plan = Self { dir_attrs: options.dir_attrs, ..Self::default() };
        let mut dir_cache = DirCache::new(tree);
        let requested: BTreeSet<RepoPath> = requests.iter().map(|request| request.path.clone()).collect();
        let finder = MoveFinder { tree, blobs, requested: &requested };
        let mut sources: BTreeMap<RepoPath, MoveSource> = BTreeMap::new();
        for request in &mut requests {
            let mut source = finder.find_source(request, &mut dir_cache)?;
            // The user has moved the file back since: the rename stays reverted, as hunks do.
            if let (MoveSource::File(file), Some(rename)) = (&source, &request.rename)
                && rename.is_applied
                && !request.reapply
                && file.path == rename.old_path
            {
                (request.path, request.rename, source) = (rename.old_path.clone(), None, MoveSource::None);
            }
            sources.insert(request.path.clone(), source);
        }
        let is_deletion = |w: &&PathRequest| w.theirs.is_none();
        let mut deleted_paths: BTreeSet<RepoPath> =
            requests.iter().filter(is_deletion).map(|w| w.path.clone()).collect();
        deleted_paths.extend(sources.values().filter_map(MoveSource::moved_path).cloned());
        let resolver = Resolver {
            tree,
            blobs,
            on_conflict: options.on_conflict,
            merge_modes: &options.merge_modes,
            choices: &options.choices,
        };
        // The files are read and hashed by several threads, and so are those that are merged.
        let states = try_parallel_map(&requests, |request| Ok(tree.observe_path(&request.path)))?;
        let mut sites = Vec::new();
        for (request, state) in requests.into_iter().zip(states) {
            let is_deleted = |path: &RepoPath| deleted_paths.contains(path);
            let context = (&is_deleted as &dyn Fn(&RepoPath) -> bool, options.is_trusted);
            let availability = match check_availability(tree, &mut dir_cache, &request, state, context) {
                Ok(way) => way,
                Err(error) if error.is_path_error() => PathAvailability::Blocked(error.to_string()),
                Err(error) => return Err(io::Error::other(format!("{:?}: {error}", request.path))),
            };
            match availability {
                PathAvailability::Free { observed, case_renamed_from, colliding_path } => {
                    let source = sources.remove(&request.path).unwrap_or_default();
                    let site = PathSite { source, observed, case_renamed_from, colliding_path };
                    sites.push((request, site));
                }
                PathAvailability::Blocked(reason) => plan.conflicts.push(Conflict {
                    renamed_from: request.rename.map(|rename| rename.old_path),
                    ..Conflict::new(request.path, reason)
                }),
            }
        }
        let resolved = try_parallel_map(&sites, |(request, site)| site.resolve_request(request, &resolver))?;
        for ((request, site), resolved) in sites.into_iter().zip(resolved) {
            plan.add_resolved(request, (site, resolved), &requested, &resolver);
        }
        // A path that is the source of a case-only rename is not deleted.
        let case_renamed: BTreeSet<RepoPath> = plan.steps.iter().filter_map(|s| s.case_renamed_from.clone()).collect();
        let mut renamed_away = BTreeSet::new();
        for step in plan.steps.iter_mut() {
            if step.action == StepAction::Delete && case_renamed.contains(&step.path) {
                step.action = StepAction::Unchanged;
                renamed_away.insert(step.path.clone());
            }
        }
        // Repeated because dropping a step can invalidate steps that depend on it.
        loop {
            let conflict_count = plan.conflicts.len();
            if !options.is_trusted {
                plan.reject_embedded_repos(tree);
                plan.drop_conflicting_steps();
                plan.reject_escapes(tree, blobs);
                plan.drop_conflicting_steps();
            }
            plan.reject_dependents(tree, &renamed_away);
            plan.drop_conflicting_steps();
            if plan.conflicts.len() == conflict_count {
                break;
            }
        }
        if options.on_conflict == OnConflict::Skip {
            plan.skipped = std::mem::take(&mut plan.conflicts);
        }
        plan.steps.sort_by(|a, b| a.path.cmp(&b.path));
        plan.conflicts.sort_by(|a, b| a.path.cmp(&b.path));
        plan.plan_directories(tree, &mut dir_cache, options.removable_dirs.as_ref()).map_err(io::Error::other)?;
        Ok(plan)
    }

    /// Adds the steps of a request, or its conflict.
    fn add_resolved(
        &mut self,
        mut request: PathRequest,
        (site, resolved): (PathSite, ResolvedStep),
        requested: &BTreeSet<RepoPath>,
        resolver: &Resolver<'_>,
    ) {
        let (occupant, moved) = site.existing_files(&request);
        let old_path = moved.map(|file| file.path).or(request.rename.as_ref().map(|rename| &rename.old_path)).cloned();
        let (action, result) = match resolved {
            Ok(resolved) => resolved,
            Err((reason, sides)) => {
                self.conflicts.push(Conflict { path: request.path, renamed_from: old_path, reason, sides });
                return;
            }
        };
        let moves_content = moved.is_some() && occupant.is_none();
        let existing = moved.or(occupant);
        if let EarlierUnits::Obsolete { units, .. } = &request.earlier_units
            && existing.is_some_and(|file| request.drops_earlier_units(file.path))
        {
            request.superseded = request.superseded.union(units);
        }
        let PathSite { source, observed, case_renamed_from, colliding_path } = site;
        let action = match action {
            StepAction::Unchanged | StepAction::Replace | StepAction::Resolve if moves_content => StepAction::Create,
            action => action,
        };
        let has_edits = moves_content
            && !matches!(action, StepAction::Merge(_) | StepAction::Resolve | StepAction::WriteConflictMarkers(_))
            && result.as_ref().map(|v| &v.hash) != request.theirs.as_ref().map(|v| &v.hash)
            && resolver.merge_mode(&request.path) != MergeMode::Filtered;
        let moved_from = request.rename.as_ref().map(|rename| match source {
            MoveSource::File(file) => MovedFile { has_edits, ..file },
            MoveSource::None | MoveSource::Requested(_) => {
                MovedFile { path: rename.old_path.clone(), observed: None, has_edits: false }
            }
        });
        if let Some(file) = &moved_from {
            self.steps.extend(left_path_steps(&request, file, requested));
        }
        self.steps.push(Step {
            path: request.path,
            action,
            selection: request.selection,
            superseded: request.superseded,
            base: request.base,
            expected: observed,
            result,
            attrs_from: request.attrs_from,
            attrs_from_if_mode: request.attrs_from_if_mode,
            moved_from,
            moved_to: None,
            case_renamed_from,
            colliding_path,
        });
    }

    fn drop_conflicting_steps(&mut self) {
        let renames: BTreeMap<&RepoPath, &RepoPath> =
            self.steps.iter().filter_map(|step| Some((&step.path, step.renamed_from()?))).collect();
        for conflict in &mut self.conflicts {
            if let Some(old_path) = renames.get(&conflict.path) {
                conflict.renamed_from = Some((*old_path).clone());
            }
        }
        let conflict_paths = self.conflict_paths();
        let is_dropped = |step: &Step| {
            [Some(&step.path), step.moved_to.as_ref()].into_iter().flatten().any(|path| conflict_paths.contains(path))
        };
        self.steps.retain(|step| !is_dropped(step));
    }

    /// Returns the paths that the conflicts are about.
    fn conflict_paths(&self) -> BTreeSet<RepoPath> {
        self.conflicts.iter().flat_map(Conflict::both_paths).cloned().collect()
    }

    /// Returns the number of files that the plan is about. A rename is one.
    #[must_use]
    pub fn count_files(&self) -> usize {
        self.steps.iter().filter(|step| step.moved_to.is_none()).count()
    }

    /// Returns the number of files that the plan changes.
    #[must_use]
    pub fn count_written_files(&self) -> usize {
        self.steps.iter().filter(|step| step.moved_to.is_none() && step.is_written()).count()
    }

    /// Returns whether the plan has no operations.
    #[must_use]
    pub fn is_noop(&self) -> bool {
        self.steps.iter().all(|s| s.action == StepAction::Unchanged)
    }

    /// Returns the disk operations in order: deletions that make room for new paths, new directories, files, symlinks, other
    /// deletions, and the removal of directories that become empty.
    #[must_use]
    pub fn planned_ops(&self) -> Vec<PlannedOp<'_>> {
        let changes = || self.steps.iter().filter(|s| s.action != StepAction::Unchanged);
        let written: BTreeSet<&RepoPath> = changes().filter(|s| s.result.is_some()).map(|s| &s.path).collect();
        let created: BTreeSet<&RepoPath> = self.dirs_to_create.iter().collect();
        let has_above = |path: &RepoPath| {
            let mut parent = path.parent();
            while let Some(directory) = parent {
                if written.contains(&directory) {
                    return true;
                }
                parent = directory.parent();
            }
            false
        };
        let makes_room = |path: &RepoPath| created.contains(path) || written.contains(path) || has_above(path);
        let (early, late): (Vec<&Step>, Vec<&Step>) =
            changes().filter(|s| s.result.is_none()).partition(|s| makes_room(&s.path));
        let (early_directories, late_directories): (Vec<_>, Vec<_>) =
            self.dirs_to_remove.iter().partition(|path| makes_room(path));
        let is_link = |s: &&Step| s.result.as_ref().is_some_and(|v| v.kind == EntryKind::Symlink);
        let files = changes().filter(|s| s.result.is_some() && !is_link(s));
        let links = changes().filter(is_link);
        let mut ops = Vec::new();
        ops.extend(early.into_iter().map(PlannedOp::Delete));
        ops.extend(early_directories.into_iter().map(PlannedOp::RemoveDirectory));
        ops.extend(self.dirs_to_create.iter().map(|path| PlannedOp::CreateDirectory(path, self.dir_attrs.get(path))));
        for step in files.chain(links) {
            ops.extend(step.case_renamed_from.iter().map(|from| PlannedOp::CaseRename(from, &step.path)));
            ops.push(PlannedOp::Write(step));
        }
        ops.extend(late.into_iter().map(PlannedOp::Delete));
        ops.extend(late_directories.into_iter().map(PlannedOp::RemoveDirectory));
        ops
    }

    /// Computes the missing directories to create and the directories to remove because they become empty.
    fn plan_directories(
        &mut self,
        tree: &WorkingTree,
        dir_cache: &mut DirCache<'_>,
        removable: Option<&BTreeSet<RepoPath>>,
    ) -> Result<(), HostError> {
        let changes = || self.steps.iter().filter(|s| s.action != StepAction::Unchanged);
        let mut deleted: BTreeSet<RepoPath> =
            changes().filter(|s| s.result.is_none()).map(|s| s.path.clone()).collect();
        let written: BTreeSet<RepoPath> = changes().filter(|s| s.result.is_some()).map(|s| s.path.clone()).collect();
        let mut needed = BTreeSet::new();
        for path in &written {
            let mut parent = path.parent();
            while let Some(directory) = parent {
                parent = directory.parent();
                if !needed.insert(directory) {
                    break;
                }
            }
        }
        // The set is sorted, so parents come first.
        let mut created = Vec::new();
        for path in &needed {
            if deleted.contains(path) || tree.classify_path(path)? != PathState::Directory {
                created.push(path.clone());
            }
        }
        // The deepest directories come first: a directory may become empty when its subdirectories are removed.
        let mut candidates: BTreeSet<(std::cmp::Reverse<usize>, RepoPath)> = BTreeSet::new();
        let depth = |path: &RepoPath| std::cmp::Reverse(path.components().count());
        candidates.extend(deleted.iter().filter_map(RepoPath::parent).map(|path| (depth(&path), path)));
        let mut removed = Vec::new();
        while let Some((_, directory)) = candidates.pop_first() {
            if needed.contains(&directory) || removable.is_some_and(|only| !only.contains(&directory)) {
                continue;
            }
            let mut names =
                dir_cache.dir_names(Some(&directory))?.iter().map(|name| RepoPath::from_parent(Some(&directory), name));
            let is_empty = names.all(|path| path.is_ok_and(|path| deleted.contains(&path)));
            if !is_empty || tree.classify_path(&directory)? != PathState::Directory {
                continue;
            }
            candidates.extend(directory.parent().map(|parent| (depth(&parent), parent)));
            deleted.insert(directory.clone());
            removed.push(directory);
        }
        (self.dirs_to_create, self.dirs_to_remove) = (created, removed);
        Ok(())
    }

    /// Adds a conflict for steps if they would complete an embedded repository in the working tree, from changes of several
    /// rounds or with the user's own files.
    fn reject_embedded_repos(&mut self, tree: &WorkingTree) {
        let written: Vec<&RepoPath> = self.steps.iter().filter(|s| s.result.is_some()).map(|s| &s.path).collect();
        let folded: BTreeSet<Vec<u8>> = written.iter().map(|p| p.folded_key()).collect();
        let deleted: BTreeSet<&RepoPath> = self.steps.iter().filter(|s| s.result.is_none()).map(|s| &s.path).collect();
        let mut cache = BTreeMap::new();
        let mut has = |path: &RepoPath| {
            *cache.entry(path.clone()).or_insert_with(|| {
                has_folded_path(&folded, path)
                    || match tree.classify_path(path) {
                        Ok(PathState::Absent | PathState::BelowFile(_)) => false,
                        // A symlink that the plan deletes does not count.
                        Ok(PathState::BelowSymlink(above)) => !deleted.contains(&above),
                        _ => true,
                    }
            })
        };
        let mut rule = EmbeddedRepoRule::default();
        for path in &written {
            if let Some(directory) = rule.find_enclosing_repo(path, &mut has) {
                let reason = format!("git would open {directory:?} as a repository");
                self.conflicts.push(Conflict::new((*path).clone(), reason));
            }
        }
    }

    /// Adds a conflict for steps if they depend on the deletion of a path that is not deleted: it is a conflict itself, is
    /// skipped, or is a file of the user's by now. `renamed_away` are the sources of case-only renames.
    fn reject_dependents(&mut self, tree: &WorkingTree, renamed_away: &BTreeSet<RepoPath>) {
        let mut deleted: BTreeSet<&RepoPath> = renamed_away.iter().collect();
        deleted.extend(self.steps.iter().filter(|s| s.action == StepAction::Delete).map(|s| &s.path));
        let mut conflicts = Vec::new();
        for step in self.steps.iter().filter(|s| s.result.is_some()) {
            let below = match tree.classify_path(&step.path) {
                Ok(PathState::BelowFile(above) | PathState::BelowSymlink(above)) => vec![above],
                Ok(PathState::Directory) => {
                    tree.read_dir_contents(&step.path).ok().flatten().map(|below| below.files).unwrap_or_default()
                }
                _ => Vec::new(),
            };
            let mut relies_on = below.iter().chain(&step.case_renamed_from).chain(&step.colliding_path);
            if let Some(blocking) = relies_on.find(|path| !deleted.contains(path)) {
                let reason = format!("{blocking:?} is not deleted and blocks this path");
                conflicts.push(Conflict::new(step.path.clone(), reason));
            }
        }
        self.conflicts.extend(conflicts);
    }
}

/// The file that a request is about, in the working tree.
struct PathSite {
    /// The location of the file to move to the path.
    source: MoveSource,
    /// The file at the path.
    observed: Option<ObservedFile>,
    case_renamed_from: Option<RepoPath>,
    colliding_path: Option<RepoPath>,
}

impl PathSite {
    /// Returns the file at the path of a request, and the file to move there.
    fn existing_files<'s>(&'s self, request: &'s PathRequest) -> (Option<ExistingFile<'s>>, Option<ExistingFile<'s>>) {
        let at = |path, observed| ExistingFile { path, observed };
        let here = self.observed.as_ref().map(|observed| at(&request.path, observed));
        // A case-only rename changes the name of the file that it was observed as.
        let occupant = here.filter(|_| self.case_renamed_from.is_none());
        let moved = match &self.source {
            MoveSource::File(file) => file.observed.as_ref().map(|observed| at(&file.path, observed)),
            MoveSource::None | MoveSource::Requested(_) => None,
        };
        (occupant, moved)
    }

    fn resolve_request(&self, request: &PathRequest, resolver: &Resolver<'_>) -> io::Result<ResolvedStep> {
        match (&request.rename, self.existing_files(request)) {
            (None, (occupant, _)) => resolver.resolve_request(request, occupant),
            (Some(_), (Some(occupant), Some(moved))) => resolver.resolve_occupied_move(request, occupant, moved),
            (Some(_), (None, Some(moved))) => resolver.resolve_request(request, Some(moved)),
            (Some(rename), (occupant, None)) => {
                resolver.resolve_moved_file(request, rename.is_applied, occupant, &self.source)
            }
        }
    }
}

/// Returns the steps at the paths that a rename leaves: the file is deleted where it was, and nothing is recorded as applied at
/// the paths of earlier rounds. Other changes that write one of these paths have their own steps.
fn left_path_steps(request: &PathRequest, file: &MovedFile, requested: &BTreeSet<RepoPath>) -> Vec<Step> {
    let old_path = request.rename.as_ref().map(|rename| &rename.old_path);
    let left_paths = old_path.into_iter().chain(&request.earlier_paths).filter(|path| !requested.contains(*path));
    let step = |path: &RepoPath| {
        let observed = file.observed.clone().filter(|_| file.path == *path);
        Step {
            path: path.clone(),
            action: if observed.is_some() { StepAction::Delete } else { StepAction::Unchanged },
            selection: if Some(path) == old_path { request.selection.clone() } else { Selection::default() },
            superseded: request.superseded.clone(),
            base: request.base.clone(),
            expected: observed,
            result: None,
            attrs_from: None,
            attrs_from_if_mode: None,
            moved_from: None,
            moved_to: Some(request.path.clone()),
            case_renamed_from: None,
            colliding_path: None,
        }
    };
    left_paths.map(step).collect()
}

/// Checks whether a path with this state can be written, given the paths that the plan deletes.
fn check_availability(
    tree: &WorkingTree,
    dir_cache: &mut DirCache<'_>,
    request: &PathRequest,
    state: Result<PathState, HostError>,
    (is_deleted, is_trusted): (&dyn Fn(&RepoPath) -> bool, bool),
) -> Result<PathAvailability, HostError> {
    let path = &request.path;
    if request.theirs.is_some() && path.components().any(|name| name == IN_TREE_DIR.as_bytes()) {
        return Ok(PathAvailability::Blocked(format!("the name {IN_TREE_DIR} is reserved for Airlock's backups")));
    }
    let mut state = state?;
    let (mut case_renamed_from, mut colliding_path) = (None, None);
    match &request.theirs {
        // The path is deleted under this spelling already.
        None => {
            if let Ok(NameCollision::Same(_)) = dir_cache.find_collision(path, EntryKind::Regular) {
                state = PathState::Absent;
            }
        }
        Some(version) => match dir_cache.find_collision(path, version.kind)? {
            NameCollision::None => {}
            // Both names existed before the apply that is undone.
            NameCollision::Incompatible(_) if is_trusted => {}
            // The colliding entry is deleted by the plan.
            NameCollision::Incompatible(existing) if is_deleted(&existing) => colliding_path = Some(existing),
            // A case-only rename.
            NameCollision::Same(existing) if is_deleted(&existing) && existing.parent() == path.parent() => {
                // Observed under its current name: a file system may report a different inode number for the other spelling.
                if let PathState::File(_) = state {
                    state = tree.observe_path(&existing)?;
                    case_renamed_from = Some(existing);
                }
            }
            NameCollision::Same(existing) => {
                return Ok(PathAvailability::Blocked(format!(
                    "your file system treats it as the same name as {existing:?}"
                )));
            }
            NameCollision::Incompatible(existing) => {
                let reason =
                    format!("other file systems treat it as the same name as {existing:?}, which is of another type");
                return Ok(PathAvailability::Blocked(reason));
            }
        },
    }
    let blocked = |reason: String| Ok(PathAvailability::Blocked(reason));
    if let Some(reason) = tree.unwritable_reason(path)? {
        return blocked(reason.into());
    }
    let observed = match state {
        PathState::Absent => None,
        // The path is deleted already: something else is at the path or at a parent.
        PathState::BelowFile(_) | PathState::BelowSymlink(_) | PathState::Directory if request.theirs.is_none() => None,
        PathState::File(observed) => Some(observed),
        PathState::BelowFile(above) | PathState::BelowSymlink(above) if is_deleted(&above) => None,
        PathState::BelowFile(above) => {
            return blocked(format!("{above:?} is a file, not a directory; accept its deletion as well, or move it"));
        }
        PathState::Directory => match tree.read_dir_contents(path)? {
            // Every directory in it becomes empty when the plan deletes its files, and is removed.
            Some(below)
                if !below.files.is_empty() && below.files.iter().all(is_deleted) && below.has_no_empty_directory() =>
            {
                None
            }
            Some(below) if below.files.is_empty() && below.directories.is_empty() => {
                return blocked("an empty directory exists at this path".into());
            }
            _ => return blocked("a directory with other files or directories exists at this path".into()),
        },
        PathState::Special => return blocked("a device, a socket or a pipe exists at this path".into()),
        PathState::BelowSymlink(above) => {
            return blocked(format!("{above:?} is a symlink, and Airlock does not write through symlinks"));
        }
        PathState::BelowRepository(above) => return blocked(format!("{above:?} is another repository")),
    };
    Ok(PathAvailability::Free { observed, case_renamed_from, colliding_path })
}
