//! What is to be written on top of a base that holds an older commit, or none of the uncommitted work.

use std::collections::{BTreeMap, BTreeSet};

use git2::{Delta, DiffOptions, ObjectType, Oid};

use super::listing::{converter_at, missing};
use super::{Snapshot, SnapshotError};
use crate::path::{EntryKind, RepoPath};

/// What a path holds instead: a file or link with its content, or nothing.
pub type Content = Option<(EntryKind, Vec<u8>)>;

/// Paths that differ from a base.
#[derive(Debug, Clone, Default)]
pub struct Difference {
    /// What each holds in worktree form.
    pub files: BTreeMap<RepoPath, Content>,
    /// What the index of the user's own repository is to record of paths whose commit differs; nothing for a path that is
    /// gone.
    pub(super) index: BTreeMap<Vec<u8>, Option<(EntryKind, Oid)>>,
    /// Paths that the base does not have.
    new: BTreeSet<RepoPath>,
    /// Paths that hold uncommitted work, so that no index may take them for unchanged.
    pub(super) uncommitted: BTreeSet<RepoPath>,
}

/// How much may differ before a base of its own is made instead.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// Most paths.
    pub paths: usize,
    /// Most bytes, which are held in memory.
    pub bytes: u64,
}

impl Share {
    /// Gives the share for a base of so many files: a twentieth of them, but always 200, and 64 MiB.
    #[must_use]
    pub fn of(files: usize) -> Self {
        Self { paths: (files / 20).max(200), bytes: 64 << 20 }
    }
}

impl Snapshot {
    /// Compares the tree of an older commit with this snapshot's. Its cost follows what differs. `None` where a base of its
    /// own is needed: too much differs, or the rules by which unchanged files get their form do.
    ///
    /// # Errors
    /// A missing object.
    pub fn difference_from(&self, commit: &str, share: Share) -> Result<Option<Difference>, SnapshotError> {
        let module = self.root();
        let git = module.open()?;
        let Ok(old) = git.find_commit(Oid::from_str(commit)?) else { return Ok(None) };
        // Only what HEAD reaches may be in the sandbox: a history that was rewritten is never built on.
        if old.id() != module.commit
            && !(git.graph_descendant_of(module.commit, old.id())?
                && self.history.joins(&git, module.commit, old.id())?)
        {
            return Ok(None);
        }
        let (old, new) = (old.tree()?, git.find_tree(module.tree)?);
        let mut options = DiffOptions::new();
        options.include_typechange(true).ignore_submodules(false);
        let diff = git.diff_tree_to_tree(Some(&old), Some(&new), Some(&mut options))?;
        if diff.deltas().len() > share.paths {
            return Ok(None);
        }
        let mut converter = converter_at(&git, module)?;
        let mut found = Difference::default();
        let mut bytes = 0;
        for delta in diff.deltas() {
            let sides = [delta.old_file(), delta.new_file()];
            let is_gitlink = sides.iter().any(|s| s.mode() == git2::FileMode::Commit);
            let path = sides.iter().find_map(git2::DiffFile::path_bytes).unwrap_or_default().to_vec();
            let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
            if is_gitlink || name == b".gitattributes" || name == b".gitmodules" {
                return Ok(None);
            }
            let whole = RepoPath::from_bytes(&path)
                .map_err(|reason| SnapshotError::BadPath { path: String::from_utf8_lossy(&path).into(), reason })?;
            let present = module.sparse.as_ref().is_none_or(|s| s.includes(&path));
            let new = delta.new_file();
            let kind = match new.mode() {
                _ if delta.status() == Delta::Deleted => None,
                git2::FileMode::Link => Some(EntryKind::Link),
                git2::FileMode::BlobExecutable => Some(EntryKind::Executable),
                _ => Some(EntryKind::Regular),
            };
            found.index.insert(path.clone(), kind.map(|kind| (kind, new.id())));
            if !present {
                continue;
            }
            let Some(kind) = kind else {
                found.files.insert(whole, None);
                continue;
            };
            let blob = git.find_blob(new.id()).map_err(|e| missing(e, &whole))?;
            bytes += blob.content().len() as u64;
            if bytes > share.bytes {
                return Ok(None);
            }
            let content = match kind {
                EntryKind::Link => blob.content().to_vec(),
                _ => converter.convert(&path, blob.content())?.0.into_owned(),
            };
            if delta.status() == Delta::Added {
                found.new.insert(whole.clone());
            }
            found.files.insert(whole, Some((kind, content)));
        }
        Ok(Some(found))
    }

    /// Reads what the snapshot holds at one path.
    ///
    /// # Errors
    /// A missing object.
    pub fn read_at(&self, path: &RepoPath) -> Result<Content, SnapshotError> {
        let module = &self.modules[self.module_of(path)];
        let git = module.open()?;
        let inside = module.inside(path);
        if module.sparse.as_ref().is_some_and(|s| !s.includes(inside)) {
            return Ok(None);
        }
        let entry = match git.find_tree(module.tree)?.get_path(&super::os_path(inside)) {
            Ok(entry) if entry.kind() == Some(ObjectType::Blob) => entry,
            Ok(_) => return Ok(None),
            Err(e) if e.code() == git2::ErrorCode::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let blob = git.find_blob(entry.id()).map_err(|e| missing(e, path))?;
        Ok(Some(match entry.filemode() {
            0o120_000 => (EntryKind::Link, blob.content().to_vec()),
            mode => {
                let kind = if mode & 0o100 == 0 { EntryKind::Regular } else { EntryKind::Executable };
                (kind, converter_at(&git, module)?.convert(inside, blob.content())?.0.into_owned())
            }
        }))
    }
}

impl Difference {
    /// Tells whether nothing differs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty() && self.index.is_empty()
    }

    /// Tells whether the base does not have a path that the newer commit has.
    #[must_use]
    pub fn is_new(&self, path: &RepoPath) -> bool {
        self.new.contains(path)
    }

    /// Puts what the working tree holds over it.
    pub fn put(&mut self, work: BTreeMap<RepoPath, Content>) {
        self.uncommitted.extend(work.keys().cloned());
        self.files.extend(work);
    }
}
