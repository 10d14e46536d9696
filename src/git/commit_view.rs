//! Queries the tree of one commit: the entries at paths, the symlinks, and the content of files.

use std::collections::BTreeMap;

use git2::{ErrorCode, ObjectType, Oid, Repository, Tree, TreeWalkMode, TreeWalkResult};

use super::conversion::{AttributeFiles, AttributeSource, ConversionSettings, Converter, MergeAttribute};
use super::error::SnapshotError;
use super::os_path;
use super::repo::HostRepo;
use crate::core::path::{EntryKind, RepoPath};

/// The maximum length of a symlink's target, in bytes (`PATH_MAX` of Linux).
const MAX_TARGET_LEN: usize = 4096;
const SYMLINK_MODE: i32 = 0o120_000;

/// The entry at a path of a commit's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommittedEntry {
    File,
    /// A symlink with this target.
    Symlink(Vec<u8>),
    Directory,
    Submodule,
}

/// The tree of a commit.
pub struct CommittedTree<'a> {
    git: &'a Repository,
    tree: Tree<'a>,
}

impl HostRepo {
    /// Opens the tree of a commit that is given in hexadecimal.
    ///
    /// # Errors
    /// A missing object.
    pub fn open_commit(&self, commit: &str) -> Result<CommittedTree<'_>, SnapshotError> {
        let git = self.repository();
        Ok(CommittedTree { git, tree: git.find_commit(Oid::from_str(commit)?)?.tree()? })
    }
}

impl HostRepo {
    /// Returns the bytes that git would store for a file, by the attributes of this commit with these files in place of
    /// its own. A conversion that the commit's own attributes forbid stays forbidden.
    ///
    /// # Errors
    /// The bytes cannot be converted: `SnapshotError::Convert`.
    pub fn to_git(
        &self,
        commit: &str,
        overrides: &AttributeFiles,
        path: &RepoPath,
        kind: EntryKind,
        bytes: &[u8],
    ) -> Result<Vec<u8>, SnapshotError> {
        if kind == EntryKind::Symlink {
            return Ok(bytes.to_vec());
        }
        let git = self.repository();
        let settings = ConversionSettings::from_repository(git, &self.common_dir)?;
        let tree = git.find_commit(Oid::from_str(commit)?)?.tree_id();
        let stored =
            Converter::new(git, &settings, AttributeSource::Lazy(tree))?.convert_to_stored(path.as_bytes(), bytes)?;
        if overrides.is_empty() {
            return Ok(stored);
        }
        Converter::new(git, &settings, AttributeSource::Overridden(tree, overrides))?
            .convert_to_stored(path.as_bytes(), bytes)
    }

    /// Returns the merge attribute of each of these paths, by the attributes of a commit with these files in place of
    /// its own. The attributes files of submodules are not read.
    ///
    /// # Errors
    /// A missing object.
    pub fn merge_attributes<'a>(
        &self,
        commit: &str,
        overrides: &AttributeFiles,
        paths: impl Iterator<Item = &'a RepoPath>,
    ) -> Result<BTreeMap<RepoPath, MergeAttribute>, SnapshotError> {
        let git = self.repository();
        let settings = ConversionSettings::from_repository(git, &self.common_dir)?;
        let tree = git.revparse_single(commit)?.peel_to_tree()?.id();
        let mut converter = Converter::new(git, &settings, AttributeSource::Overridden(tree, overrides))?;
        paths.map(|path| Ok((path.clone(), converter.merge_attribute(path.as_bytes())?))).collect()
    }
}

impl CommittedTree<'_> {
    /// Returns the entry at a path.
    ///
    /// # Errors
    /// A missing object.
    pub fn find_entry(&self, path: &RepoPath) -> Result<Option<CommittedEntry>, SnapshotError> {
        let entry = match self.tree.get_path(&os_path(path.as_bytes())) {
            Ok(entry) => entry,
            Err(e) if e.code() == ErrorCode::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        Ok(Some(match entry.kind() {
            Some(ObjectType::Tree) => CommittedEntry::Directory,
            Some(ObjectType::Commit) => CommittedEntry::Submodule,
            _ if entry.filemode() == SYMLINK_MODE => {
                CommittedEntry::Symlink(self.git.find_blob(entry.id())?.content().to_vec())
            }
            _ => CommittedEntry::File,
        }))
    }

    /// Lists all symlinks with their targets, except targets that are too long for any system.
    ///
    /// # Errors
    /// A missing object.
    pub fn list_symlinks(&self) -> Result<Vec<(RepoPath, Vec<u8>)>, SnapshotError> {
        let (mut found, mut failed) = (Vec::new(), None);
        self.tree.walk(TreeWalkMode::PreOrder, |directory, entry| {
            if entry.filemode() == SYMLINK_MODE {
                let path = RepoPath::from_bytes(&[directory.as_bytes(), entry.name_bytes()].concat());
                match (path, self.git.find_blob(entry.id())) {
                    (Ok(path), Ok(blob)) if blob.size() <= MAX_TARGET_LEN => {
                        found.push((path, blob.content().to_vec()))
                    }
                    (_, Err(error)) => failed = Some(error),
                    _ => {}
                }
            }
            TreeWalkResult::Ok
        })?;
        failed.map_or(Ok(found), |error| Err(error.into()))
    }

    /// Returns whether the root has a file.
    #[must_use]
    pub fn has_file(&self, name: &str) -> bool {
        let path = RepoPath::from_bytes(name.as_bytes()).ok();
        path.is_some_and(|path| matches!(self.find_entry(&path), Ok(Some(CommittedEntry::File))))
    }

    /// Lists the files whose path is chosen, with the name of their content, in order. Other names than UTF-8 are left out.
    ///
    /// # Errors
    /// A missing object.
    pub fn list_blobs(&self, is_chosen: impl Fn(&str) -> bool) -> Result<Vec<(String, String)>, SnapshotError> {
        let mut found = Vec::new();
        self.tree.walk(TreeWalkMode::PreOrder, |directory, entry| {
            if entry.kind() == Some(ObjectType::Blob)
                && let Ok(name) = std::str::from_utf8(entry.name_bytes())
            {
                let path = format!("{directory}{name}");
                if is_chosen(&path) {
                    found.push((path, entry.id().to_string()));
                }
            }
            TreeWalkResult::Ok
        })?;
        Ok(found)
    }

    /// Reads a file of at most `limit` bytes, or returns `None` if there is no such file.
    ///
    /// # Errors
    /// A missing object.
    pub fn read_file(&self, path: &RepoPath, limit: usize) -> Result<Option<Vec<u8>>, SnapshotError> {
        let entry = match self.tree.get_path(&os_path(path.as_bytes())) {
            Ok(entry) => entry,
            Err(e) if e.code() == ErrorCode::NotFound => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        if entry.kind() != Some(ObjectType::Blob) || entry.filemode() == SYMLINK_MODE {
            return Ok(None);
        }
        let blob = self.git.find_blob(entry.id())?;
        Ok((blob.size() <= limit).then(|| blob.content().to_vec()))
    }
}
