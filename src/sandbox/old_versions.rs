//! The old versions of changed files, as far as the repository has them. They are neither read through the engine nor stored
//! again.

use std::io;
use std::sync::Mutex;

use super::SandboxError;
use crate::base::BaseEntry;
use crate::changes::{CancelToken, ContentHash, DeletedContent, FileVersion, ObjectStore};
use crate::core::parallel::try_parallel_map;
use crate::core::path::{EntryKind, RepoPath};
use crate::git::{HostRepo, ObjectReader, StoredFiles};

/// Maximum size in bytes of a file that is read into memory. Larger ones are read through the engine, in pieces.
const MAX_SIZE: u64 = 16 << 20;

/// An old version in the form in which the repository has it.
pub(super) struct OldVersion {
    /// Whether the base certainly has this form. Otherwise the two are compared.
    pub is_certain: bool,
    pub version: FileVersion,
    /// The ID of its blob.
    pub object: String,
    pub facts: DeletedContent,
}

/// An old version to find.
pub(super) struct WantedVersion {
    pub path: RepoPath,
    kind: EntryKind,
    size: u64,
}

impl WantedVersion {
    /// Returns what is to be found for an entry of the base volume, or `None` if the entry says everything.
    pub(super) fn from_entry(path: &RepoPath, entry: &BaseEntry) -> Option<Self> {
        match entry {
            BaseEntry::File(kind @ (EntryKind::Regular | EntryKind::Executable), stat, _) if stat.size <= MAX_SIZE => {
                Some(Self { path: path.clone(), kind: *kind, size: stat.size })
            }
            _ => None,
        }
    }
}

/// Finds old versions in a commit, with several threads. `None` stands for a version that the repository does not have.
pub(super) fn find_old_versions(
    host: HostRepo,
    commit: &str,
    wanted: &[WantedVersion],
    cancel: &CancelToken,
) -> Result<Vec<Option<OldVersion>>, SandboxError> {
    // Each thread takes one of these, or opens another one. The repository itself is not shared by threads.
    let host = Mutex::new(host);
    let idle = Mutex::new(Vec::<StoredFiles>::new());
    let found = try_parallel_map(wanted, |one| {
        cancel.check_canceled()?;
        let taken = idle.lock().ok().and_then(|mut idle| idle.pop());
        let mut files = match taken {
            Some(files) => files,
            None => {
                let host = host.lock().map_err(|_| io::Error::other("a thread panicked"))?;
                let Ok(files) = host.open_stored_files(commit) else { return Ok(None) };
                files
            }
        };
        // The base volume has a file whose object is damaged, or whose attributes cannot be read.
        let stored = files.read_file(&one.path, one.size).unwrap_or(None);
        if let Ok(mut idle) = idle.lock() {
            idle.push(files);
        }
        Ok(stored.map(|stored| OldVersion {
            is_certain: stored.is_certain,
            version: FileVersion {
                kind: one.kind,
                hash: ContentHash::from_content(&stored.content),
                size: stored.content.len() as u64,
            },
            facts: DeletedContent::from_content(&stored.content),
            object: stored.id,
        }))
    });
    found.map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => SandboxError::Interrupted,
        _ => error.into(),
    })
}

impl ObjectStore for ObjectReader {
    fn read_object(&self, id: &str) -> io::Result<Vec<u8>> {
        self.read_blob(id).map_err(|error| io::Error::new(io::ErrorKind::NotFound, error.to_string()))
    }
}
