//! Reads files of a commit from the object store, and finds out which of them a working tree has in the very form in which git
//! stores them.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use git2::{ErrorCode, ObjectType, Oid, Repository};

use super::blob_reader::BlobReader;
use super::conversion::parse_lfs_pointer;
use super::error::SnapshotError;
use super::os_path;
use super::repo::HostRepo;
use crate::core::path::RepoPath;

/// A file of a commit.
pub(crate) struct StoredFile {
    /// The ID of its blob.
    pub id: String,
    pub content: Vec<u8>,
    /// Whether the working tree certainly has these bytes.
    pub is_certain: bool,
}

/// A reader for the files of one commit. Each thread has its own.
pub(crate) struct StoredFiles {
    git: Repository,
    blobs: BlobReader,
    tree: Oid,
}

impl HostRepo {
    /// Opens the files of a commit for one more thread.
    ///
    /// # Errors
    /// A missing object.
    pub(crate) fn open_stored_files(&self, commit: &str) -> Result<StoredFiles, SnapshotError> {
        let git = Repository::open(&self.common_dir)?;
        let tree = git.find_commit(Oid::from_str(commit)?)?.tree_id();
        Ok(StoredFiles { blobs: BlobReader::open(&git), git, tree })
    }
}

impl StoredFiles {
    /// Reads a file that has a size in the working tree. Returns `None` if the blob has another size.
    ///
    /// A conversion of line endings, `ident` (of a keyword that is not expanded) and LFS content change the size, if they change
    /// anything, whatever the settings were when the file was written. An expanded keyword, a pointer, and text of another encoding
    /// than ASCII may have the same size in both forms.
    pub(crate) fn read_file(&mut self, path: &RepoPath, size: u64) -> Result<Option<StoredFile>, SnapshotError> {
        let tree = self.git.find_tree(self.tree)?;
        let entry = match tree.get_path(&os_path(path.as_bytes())) {
            Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
            entry => entry?,
        };
        if entry.kind() != Some(ObjectType::Blob) {
            return Ok(None);
        }
        let content = self.blobs.read_blob(&self.git.odb()?, entry.id())?;
        if content.len() as u64 != size {
            return Ok(None);
        }
        let is_certain = content.is_ascii()
            && memchr::memmem::find(content, b"$Id:").is_none()
            && parse_lfs_pointer(content).is_none();
        Ok(Some(StoredFile { id: entry.id().to_string(), content: content.to_vec(), is_certain }))
    }
}

/// The objects of a repository, for any thread.
pub(crate) struct ObjectReader {
    common_dir: PathBuf,
    /// Repositories that no thread uses now.
    idle: Mutex<Vec<(Repository, BlobReader)>>,
}

impl std::fmt::Debug for ObjectReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ObjectReader").field("common_dir", &self.common_dir).finish_non_exhaustive()
    }
}

impl ObjectReader {
    /// Prepares to read from a git directory, which is opened when it is needed.
    #[must_use]
    pub(crate) fn new(common_dir: &Path) -> Self {
        Self { common_dir: common_dir.to_owned(), idle: Mutex::default() }
    }

    /// Reads the content of a blob.
    ///
    /// # Errors
    /// The object is missing or damaged.
    pub(crate) fn read_blob(&self, id: &str) -> Result<Vec<u8>, SnapshotError> {
        let idle = self.idle.lock().ok().and_then(|mut idle| idle.pop());
        let (git, mut blobs) = match idle {
            Some(idle) => idle,
            None => {
                let git = Repository::open(&self.common_dir)?;
                let blobs = BlobReader::open(&git);
                (git, blobs)
            }
        };
        let content = blobs.read_blob(&git.odb()?, Oid::from_str(id)?)?.to_vec();
        if let Ok(mut idle) = self.idle.lock() {
            idle.push((git, blobs));
        }
        Ok(content)
    }
}
