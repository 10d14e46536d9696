//! Computes the delta to write over a base that has an older commit, or that lacks the uncommitted work.

use std::collections::{BTreeMap, BTreeSet};

use git2::{ObjectType, Oid, Repository, TreeWalkMode, TreeWalkResult};

use super::conversion::{AttributeSource, Converter};
use super::error::SnapshotError;
use super::listing::{Unconverted, converter_at, missing_object_error};
use super::source::Snapshot;
use super::submodule::Submodule;
use super::tree_diff::{ChangedPath, compare_trees};
use crate::core::path::{EntryKind, RepoPath};

/// The new content of a path: a file or symlink, or `None` if it is deleted.
pub(crate) type WorktreeContent = Option<(EntryKind, Vec<u8>)>;

/// The paths that differ from a base.
#[derive(Debug, Clone, Default)]
pub struct SnapshotDelta {
    /// The content in worktree form.
    pub files: BTreeMap<RepoPath, WorktreeContent>,
    /// The new index entries of the user's own repository for paths whose commit differs; `None` for a deleted path.
    pub(crate) index: BTreeMap<Vec<u8>, Option<(EntryKind, Oid)>>,
    /// Paths that the base does not have.
    new: BTreeSet<RepoPath>,
    /// The files among these that are not in worktree form.
    pub unconverted: Unconverted,
    /// Paths with uncommitted work, which no index may record as unchanged.
    pub(crate) uncommitted: BTreeSet<RepoPath>,
}

/// The maximum size of a delta. A larger difference requires a new base.
#[derive(Debug, Clone, Copy)]
pub struct DeltaLimit {
    pub paths: usize,
    /// The maximum number of bytes, which are held in memory.
    pub bytes: u64,
}

impl DeltaLimit {
    /// Returns the limit for a base of this many files: a twentieth of them but at least 200 paths, and 64 MiB.
    #[must_use]
    pub fn for_base(files: usize) -> Self {
        Self { paths: (files / 20).max(200), bytes: 64 << 20 }
    }
}

impl Snapshot {
    /// Counts the paths that differ between the tree of an older commit and this snapshot, in time proportional to the
    /// difference.
    ///
    /// Returns `None` if a separate base is required: too many paths differ, or the commit is not an ancestor or does
    /// not exist.
    ///
    /// # Errors
    /// A missing object.
    pub fn count_changed_paths(&self, commit: &str, limit: DeltaLimit) -> Result<Option<usize>, SnapshotError> {
        let module = self.root_module();
        let git = module.open()?;
        let Ok(old) = git.find_commit(Oid::from_str(commit)?) else { return Ok(None) };
        // The cheap check comes first: it stops at the limit.
        let paths = compare_trees(&git, old.tree_id(), module.tree, limit.paths)?.len();
        if paths > limit.paths {
            return Ok(None);
        }
        // The sandbox may only contain what HEAD reaches, so a rewritten history is never used as a base.
        let is_ancestor = old.id() == module.commit || git.graph_descendant_of(module.commit, old.id())?;
        Ok(is_ancestor.then_some(paths))
    }

    /// Reads the files that differ from an older commit: changed files, and unchanged files whose attributes give them
    /// another form.
    ///
    /// Returns `None` if a separate base is required: too many paths or bytes differ, or a submodule does.
    ///
    /// # Errors
    /// A missing object.
    pub fn read_delta_from(&self, commit: &str, limit: DeltaLimit) -> Result<Option<SnapshotDelta>, SnapshotError> {
        let module = self.root_module();
        let git = module.open()?;
        let old_tree = git.find_commit(Oid::from_str(commit)?)?.tree_id();
        let mut converter = converter_at(&git, module)?;
        let mut found = SnapshotDelta::default();
        let mut bytes = 0;
        let mut attribute_dirs: Vec<Vec<u8>> = Vec::new();
        for ChangedPath { path, old, new } in compare_trees(&git, old_tree, module.tree, limit.paths)? {
            let is_gitlink = [old, new].into_iter().flatten().any(|(mode, _)| mode == 0o160_000);
            let (directory, name) = path.split_at(path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1));
            if is_gitlink || name == b".gitmodules" {
                return Ok(None);
            }
            if name == b".gitattributes" {
                attribute_dirs.push(directory.to_vec());
            }
            let whole = RepoPath::from_bytes(&path)
                .map_err(|reason| SnapshotError::InvalidPath { path: String::from_utf8_lossy(&path).into(), reason })?;
            let present = module.sparse.as_ref().is_none_or(|s| s.is_included(&path));
            let new = new.map(|(mode, blob)| (kind_of(mode), blob));
            found.index.insert(path.clone(), new);
            if !present {
                continue;
            }
            let Some((kind, blob)) = new else {
                found.files.insert(whole, None);
                continue;
            };
            let blob = git.find_blob(blob).map_err(|e| missing_object_error(e, &whole))?;
            bytes += blob.content().len() as u64;
            if bytes > limit.bytes {
                return Ok(None);
            }
            let content = match kind {
                EntryKind::Symlink => blob.content().to_vec(),
                _ => {
                    let (content, stored) = converter.convert_to_worktree(&path, blob.content())?;
                    found.unconverted.record_outcome(&whole, stored);
                    content.into_owned()
                }
            };
            if old.is_none() {
                found.new.insert(whole.clone());
            }
            found.files.insert(whole, Some((kind, content)));
        }
        let mut old_converter = Converter::new(&git, &module.form, AttributeSource::Lazy(old_tree))?;
        for directory in topmost_dirs(attribute_dirs) {
            for (path, mode, blob) in unchanged_below(&git, module, &directory, &found)? {
                if converter.form_attributes(&path)? == old_converter.form_attributes(&path)? {
                    continue;
                }
                let whole = RepoPath::from_bytes(&path).map_err(|reason| SnapshotError::InvalidPath {
                    path: String::from_utf8_lossy(&path).into(),
                    reason,
                })?;
                let content = git.find_blob(blob).map_err(|e| missing_object_error(e, &whole))?;
                bytes += content.content().len() as u64;
                let (before, was_stored) = old_converter.convert_to_worktree(&path, content.content())?;
                let (after, stored) = converter.convert_to_worktree(&path, content.content())?;
                if before == after && was_stored == stored {
                    continue;
                }
                let kind = kind_of(mode);
                found.index.insert(path.clone(), Some((kind, blob)));
                found.unconverted.record_outcome(&whole, stored);
                found.files.insert(whole, Some((kind, after.into_owned())));
                if bytes > limit.bytes || found.files.len() > limit.paths {
                    return Ok(None);
                }
            }
        }
        Ok(Some(found))
    }

    /// Reads the snapshot's content of one path.
    ///
    /// # Errors
    /// A missing object.
    pub fn read_at(&self, path: &RepoPath) -> Result<WorktreeContent, SnapshotError> {
        let module = &self.modules[self.module_of(path)];
        let git = module.open()?;
        let inside = module.path_in_module(path);
        if module.sparse.as_ref().is_some_and(|s| !s.is_included(inside)) {
            return Ok(None);
        }
        let entry = match git.find_tree(module.tree)?.get_path(&super::os_path(inside)) {
            Ok(entry) if entry.kind() == Some(ObjectType::Blob) => entry,
            Ok(_) => return Ok(None),
            Err(e) if e.code() == git2::ErrorCode::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let blob = git.find_blob(entry.id()).map_err(|e| missing_object_error(e, path))?;
        Ok(Some(match kind_of(entry.filemode()) {
            EntryKind::Symlink => (EntryKind::Symlink, blob.content().to_vec()),
            kind => (kind, converter_at(&git, module)?.convert_to_worktree(inside, blob.content())?.0.into_owned()),
        }))
    }
}

/// Returns the kind of a blob with this mode.
fn kind_of(mode: i32) -> EntryKind {
    match mode {
        0o120_000 => EntryKind::Symlink,
        mode if mode & 0o100 != 0 => EntryKind::Executable,
        _ => EntryKind::Regular,
    }
}

/// Returns the directories that are not below any of the others. Each ends with a `/` or is empty.
fn topmost_dirs(mut directories: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    directories.sort();
    directories.dedup_by(|below, above| below.starts_with(above));
    directories
}

/// Lists the regular files below a directory that are in the working tree and not in the delta: path, mode and blob.
fn unchanged_below(
    git: &Repository,
    module: &Submodule,
    directory: &[u8],
    delta: &SnapshotDelta,
) -> Result<Vec<(Vec<u8>, i32, Oid)>, SnapshotError> {
    let root = git.find_tree(module.tree)?;
    let tree = match directory.split_last() {
        None => root,
        Some((_, name)) => match root.get_path(&super::os_path(name)) {
            Ok(entry) if entry.kind() == Some(ObjectType::Tree) => git.find_tree(entry.id())?,
            Ok(_) => return Ok(Vec::new()),
            Err(e) if e.code() == git2::ErrorCode::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(e.into()),
        },
    };
    let mut found = Vec::new();
    tree.walk(TreeWalkMode::PreOrder, |below, entry| {
        let path = [directory, below.as_bytes(), entry.name_bytes()].concat();
        let is_file = entry.kind() == Some(ObjectType::Blob) && entry.filemode() != 0o120_000;
        let is_present = module.sparse.as_ref().is_none_or(|s| s.is_included(&path));
        if is_file && is_present && !delta.index.contains_key(&path) {
            found.push((path, entry.filemode(), entry.id()));
        }
        TreeWalkResult::Ok
    })?;
    Ok(found)
}

impl SnapshotDelta {
    /// Returns whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.index.is_empty()
    }

    /// Returns whether the newer commit has a path that the base does not have.
    #[must_use]
    pub fn is_new(&self, path: &RepoPath) -> bool {
        self.new.contains(path)
    }

    /// Adds the uncommitted content of the working tree, which replaces the commit's.
    pub fn overlay_uncommitted(&mut self, uncommitted: BTreeMap<RepoPath, WorktreeContent>) {
        self.uncommitted.extend(uncommitted.keys().cloned());
        self.files.extend(uncommitted);
    }
}
