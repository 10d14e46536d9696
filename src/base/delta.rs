//! The delta of a workspace over its base: newer commits and uncommitted work. For the changeset it is part of the
//! base.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::error::BaseError;
use crate::changes::{FileVersion, Quarantine};
use crate::core::path::{EntryKind, RepoPath};
use crate::git::{GitFiles, SnapshotDelta};
use crate::guest_client::{EntryBatch, GuestClient, split_content};
use crate::protocol::{Entry, Root, Stat};

/// A path that differs from the base volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeltaEntry {
    pub path: RepoPath,
    /// The content; `None` if the path is deleted.
    pub side: Option<FileVersion>,
}

/// All entries of a delta, by path.
#[derive(Debug, Clone, Default)]
pub struct BaseDelta(BTreeMap<RepoPath, DeltaEntry>);

impl BaseDelta {
    /// Stores the contents of a snapshot's delta in the quarantine and returns their entries.
    pub fn from_snapshot_delta(delta: &SnapshotDelta, store: &Quarantine) -> Result<Self, BaseError> {
        let mut all = BTreeMap::new();
        for (path, content) in &delta.files {
            let side = match content {
                None => None,
                Some((kind, bytes)) => {
                    Some(FileVersion { kind: *kind, hash: store.store_blob(bytes)?, size: bytes.len() as u64 })
                }
            };
            all.insert(path.clone(), DeltaEntry { path: path.clone(), side });
        }
        Ok(Self(all))
    }

    /// Creates a delta from stored entries.
    #[must_use]
    pub fn from_stored(stored: Vec<DeltaEntry>) -> Self {
        Self(stored.into_iter().map(|t| (t.path.clone(), t)).collect())
    }

    /// Returns all entries, to be stored.
    #[must_use]
    pub fn to_entries(&self) -> Vec<&DeltaEntry> {
        self.0.values().collect()
    }

    /// Returns the entry of a path.
    #[must_use]
    pub fn get(&self, path: &RepoPath) -> Option<&DeltaEntry> {
        self.0.get(path)
    }

    /// Returns the entries below a directory (`None` is the root).
    pub fn entries_below<'a>(&'a self, directory: Option<&'a RepoPath>) -> impl Iterator<Item = &'a DeltaEntry> {
        let prefix = directory.map_or_else(Vec::new, |d| [d.as_bytes(), b"/"].concat());
        let range = (std::ops::Bound::Included(prefix.clone()), std::ops::Bound::Unbounded);
        self.0
            .range::<[u8], _>((range.0.as_ref().map(Vec::as_slice), range.1))
            .map(|(_, entry)| entry)
            .take_while(move |t| t.path.as_bytes().starts_with(&prefix))
            .collect::<Vec<_>>()
            .into_iter()
    }

    /// Returns whether the delta has a file below a directory. Deleted paths do not count.
    #[must_use]
    pub fn has_entries_below(&self, directory: &RepoPath) -> bool {
        let prefix = [directory.as_bytes(), b"/"].concat();
        let from = (std::ops::Bound::Included(prefix.as_slice()), std::ops::Bound::Unbounded);
        let below = self.0.range::<[u8], _>(from).take_while(|(path, _)| path.as_bytes().starts_with(&prefix));
        below.map(|(_, entry)| &entry.side).any(Option::is_some)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes a delta into a workspace and returns the stat data of each regular file.
///
/// The guest must run as the agent's user.
pub(crate) async fn write_delta(
    guest: &GuestClient,
    delta: &SnapshotDelta,
    mtime: u64,
) -> Result<BTreeMap<RepoPath, Stat>, BaseError> {
    let mut batch = EntryBatch::new(guest, Root::Work);
    // Replaced paths are removed first, deepest first: a directory can become a file, and a file a directory.
    for path in delta.files.keys().rev() {
        batch.add_entry(path.as_bytes(), &Entry::Nothing).await?;
    }
    let present = delta.files.iter().filter_map(|(path, content)| Some((path, content.as_ref()?)));
    for directory in parent_dirs(present.clone().map(|(path, _)| path.as_bytes())) {
        batch.add_entry(directory, &Entry::Directory).await?;
    }
    for (path, (kind, content)) in present {
        if *kind == EntryKind::Symlink {
            batch.add_entry(path.as_bytes(), &Entry::Link(content)).await?;
            continue;
        }
        let executable = *kind == EntryKind::Executable;
        for (at, bytes) in split_content(content) {
            let (size, offset) = (content.len() as u64, at as u64);
            batch
                .add_entry(path.as_bytes(), &Entry::File { executable, report: true, mtime, size, offset, bytes })
                .await?;
        }
    }
    batch.send_entries().await?;
    let mut written = BTreeMap::new();
    guest
        .flush_writes(|w| {
            if let Ok(path) = RepoPath::from_bytes(&w.path) {
                written.insert(path, w.stat);
            }
        })
        .await?;
    Ok(written)
}

/// Writes files into the workspace's git directory.
pub(crate) async fn write_git_files(guest: &GuestClient, files: &GitFiles) -> Result<(), BaseError> {
    let contents: BTreeMap<Vec<u8>, _> = files.iter().map(|(path, c)| ([b".git/", &path[..]].concat(), c)).collect();
    let mut batch = EntryBatch::new(guest, Root::Work);
    for path in contents.keys().rev() {
        batch.add_entry(path, &Entry::Nothing).await?;
    }
    let present = contents.iter().filter_map(|(path, content)| Some((path, content.as_ref()?)));
    // Git does not recognize a git directory without `refs`.
    let required = &b".git/refs/heads/x"[..];
    for directory in parent_dirs(present.clone().map(|(path, _)| path.as_slice()).chain([required])) {
        batch.add_entry(directory, &Entry::Directory).await?;
    }
    for (path, content) in present {
        batch.add_file(path, &mut std::io::Cursor::new(content)).await?;
    }
    batch.send_entries().await?;
    Ok(guest.flush_writes(drop).await?)
}

/// Returns the directories above the paths, parents first.
fn parent_dirs<'a>(paths: impl Iterator<Item = &'a [u8]>) -> Vec<&'a [u8]> {
    let mut found = std::collections::BTreeSet::new();
    for path in paths {
        let cuts = path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| at);
        found.extend(cuts.map(|at| &path[..at]));
    }
    found.into_iter().collect()
}
