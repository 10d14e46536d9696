//! What is to be written on top of a base that holds an older commit, or none of the uncommitted work.

use std::collections::{BTreeMap, BTreeSet};

use git2::{ObjectType, Oid};

use super::listing::{converter_at, missing};
use super::trees::{Changed, compare};
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
    /// Counts the paths in which the tree of an older commit differs from this snapshot's, at the cost of what differs. `None`
    /// where a base of its own is needed: too much differs, or its history does not lead here.
    ///
    /// # Errors
    /// A missing object.
    pub fn distance_from(&self, commit: &str, share: Share) -> Result<Option<usize>, SnapshotError> {
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
        let paths = compare(&git, old.tree_id(), module.tree, share.paths)?.len();
        Ok(Some(paths).filter(|paths| *paths <= share.paths))
    }

    /// Reads in what the tree of such a commit differs. `None` where a base of its own is needed nevertheless: too many bytes
    /// differ, or the rules by which unchanged files get their form do.
    ///
    /// # Errors
    /// A missing object.
    pub fn difference_from(&self, commit: &str, share: Share) -> Result<Option<Difference>, SnapshotError> {
        let module = self.root();
        let git = module.open()?;
        let old = git.find_commit(Oid::from_str(commit)?)?;
        let mut converter = converter_at(&git, module)?;
        let mut found = Difference::default();
        let mut bytes = 0;
        for Changed { path, old, new } in compare(&git, old.tree_id(), module.tree, share.paths)? {
            let is_gitlink = [old, new].into_iter().flatten().any(|(mode, _)| mode == 0o160_000);
            let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
            if is_gitlink || name == b".gitattributes" || name == b".gitmodules" {
                return Ok(None);
            }
            let whole = RepoPath::from_bytes(&path)
                .map_err(|reason| SnapshotError::BadPath { path: String::from_utf8_lossy(&path).into(), reason })?;
            let present = module.sparse.as_ref().is_none_or(|s| s.includes(&path));
            let new = new.map(|(mode, blob)| match mode {
                0o120_000 => (EntryKind::Link, blob),
                mode if mode & 0o100 != 0 => (EntryKind::Executable, blob),
                _ => (EntryKind::Regular, blob),
            });
            found.index.insert(path.clone(), new);
            if !present {
                continue;
            }
            let Some((kind, blob)) = new else {
                found.files.insert(whole, None);
                continue;
            };
            let blob = git.find_blob(blob).map_err(|e| missing(e, &whole))?;
            bytes += blob.content().len() as u64;
            if bytes > share.bytes {
                return Ok(None);
            }
            let content = match kind {
                EntryKind::Link => blob.content().to_vec(),
                _ => converter.convert(&path, blob.content())?.0.into_owned(),
            };
            if old.is_none() {
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
