//! The starting tree of a sandbox as the guest shows it: the base volume with the delta applied.

use std::collections::{BTreeMap, BTreeSet};

use super::delta::BaseDelta;
use super::error::BaseError;
use super::seed::TREE;
use crate::changes::{ContentHash, FileVersion, Quarantine};
use crate::core::path::{EntryKind, RepoPath};
use crate::guest_client::{GuestClient, GuestError, STREAM_THRESHOLD, read_to_quarantine};
use crate::protocol::{FileKind, ListedEntry, Root, Stat};

/// Maximum number of names in one directory of a base.
const MAX_NAMES: usize = 5_000_000;

/// An entry of the base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BaseEntry {
    /// A directory, with its inode in the base volume; `None` if only the delta has the directory.
    Directory(Option<u64>),
    /// A file or symlink of the base volume.
    File(EntryKind, Stat, Vec<u8>),
    /// A file or symlink of the delta.
    Delta(FileVersion),
}

impl BaseEntry {
    /// Returns the number of bytes that have to be read for the content.
    pub(crate) fn content_size(&self) -> u64 {
        match self {
            Self::File(_, stat, _) => stat.size,
            Self::Directory(_) | Self::Delta(_) => 0,
        }
    }
}

/// The base of one sandbox.
#[derive(Clone, Copy)]
pub(crate) struct BaseView<'a> {
    pub guest: &'a GuestClient,
    pub delta: &'a BaseDelta,
    pub modules: &'a BTreeSet<RepoPath>,
    pub store: &'a Quarantine,
}

impl BaseView<'_> {
    /// Returns whether an entry is the git directory of the repository or of an included submodule.
    pub(crate) fn is_git_dir(&self, directory: Option<&RepoPath>, name: &[u8]) -> bool {
        name == b".git" && directory.is_none_or(|d| self.modules.contains(d))
    }

    /// Lists a directory (`None` is the root).
    pub(crate) async fn list_dir(
        &self,
        directory: Option<&RepoPath>,
    ) -> Result<BTreeMap<Vec<u8>, BaseEntry>, BaseError> {
        let listed = match self.guest.list_dir(Root::Base, &Self::volume_path(directory), MAX_NAMES).await {
            // Only the delta has the directory.
            Err(GuestError::Gone) => Vec::new(),
            Err(GuestError::NotADirectory) => Vec::new(),
            other => other?,
        };
        self.apply_delta(directory, listed)
    }

    /// Returns the path of a directory in the base's volume.
    pub(crate) fn volume_path(directory: Option<&RepoPath>) -> Vec<u8> {
        [TREE, directory.map_or(&b""[..], |d| d.as_bytes())].concat()
    }

    /// Returns entries of a directory of the base's volume with those of the delta instead.
    pub(crate) fn apply_delta(
        &self,
        directory: Option<&RepoPath>,
        listed: Vec<ListedEntry>,
    ) -> Result<BTreeMap<Vec<u8>, BaseEntry>, BaseError> {
        let mut found = BTreeMap::new();
        for entry in listed {
            if self.is_git_dir(directory, &entry.name) {
                continue;
            }
            let entry_kind = match entry.kind {
                FileKind::Directory => BaseEntry::Directory(Some(entry.stat.ino)),
                FileKind::Link => BaseEntry::File(EntryKind::Symlink, entry.stat, entry.target),
                FileKind::Regular if entry.stat.mode & 0o100 != 0 => {
                    BaseEntry::File(EntryKind::Executable, entry.stat, Vec::new())
                }
                FileKind::Regular => BaseEntry::File(EntryKind::Regular, entry.stat, Vec::new()),
                FileKind::Special => return Err(GuestError::Protocol("a base holds no devices".into()).into()),
            };
            found.insert(entry.name, entry_kind);
        }
        let start = directory.map_or(0, |d| d.as_bytes().len() + 1);
        for delta_entry in self.delta.entries_below(directory) {
            let rest = &delta_entry.path.as_bytes()[start..];
            match (rest.iter().position(|b| *b == b'/'), &delta_entry.side) {
                (Some(cut), Some(_)) => {
                    let entry = found.entry(rest[..cut].to_vec()).or_insert(BaseEntry::Directory(None));
                    // The delta replaces a file of the base volume with a directory.
                    if !matches!(entry, BaseEntry::Directory(_)) {
                        *entry = BaseEntry::Directory(None);
                    }
                }
                (Some(_), None) => {}
                (None, Some(side)) => {
                    found.insert(rest.to_vec(), BaseEntry::Delta(side.clone()));
                }
                // The delta deletes a file. A directory of the same name may replace it, and its entries sort after the
                // file.
                (None, None) => {
                    if !matches!(found.get(rest), Some(BaseEntry::Directory(_))) {
                        found.remove(rest);
                    }
                }
            }
        }
        Ok(found)
    }

    /// Returns the version of a file, after storing its content in the quarantine, unless it has the hash `known`.
    pub(crate) async fn read_version(
        &self,
        path: &RepoPath,
        entry: &BaseEntry,
        known: Option<&ContentHash>,
    ) -> Result<Option<FileVersion>, BaseError> {
        let (kind, (hash, size)) = match entry {
            BaseEntry::Directory(_) => return Ok(None),
            BaseEntry::Delta(side) => return Ok(Some(side.clone())),
            BaseEntry::File(EntryKind::Symlink, _, target) => {
                (EntryKind::Symlink, (self.store.store_blob(target)?, target.len() as u64))
            }
            BaseEntry::File(kind, stat, _) => {
                let volume_path = [TREE, path.as_bytes()].concat();
                if let Some(known) = known.filter(|_| stat.size <= STREAM_THRESHOLD) {
                    let content = self.guest.read(Root::Base, &volume_path, stat.size).await?;
                    let (hash, size) = (ContentHash::from_content(&content), content.len() as u64);
                    if hash != *known {
                        self.store.store_blob(&content)?;
                    }
                    return Ok(Some(FileVersion { kind: *kind, hash, size }));
                }
                (*kind, read_to_quarantine(self.guest, Root::Base, &volume_path, stat.size, self.store).await?)
            }
        };
        Ok(Some(FileVersion { kind, hash, size }))
    }
}
