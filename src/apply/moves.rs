//! Finds the file that a rename moves: at its old path, or where an apply of an earlier round moved it.

use std::collections::BTreeSet;
use std::io;

use super::collisions::{DirCache, NameCollision};
use super::entry_content::EntryContent;
use super::host_error::HostError;
use super::request::{BlobStore, PathRequest};
use super::step::MovedFile;
use super::working_tree::{ObservedFile, PathState, WorkingTree};
use crate::changes::{MAX_TEXT, are_similar};
use crate::core::path::{EntryKind, RepoPath};

/// The location of the file of a request.
#[derive(Debug, Default)]
pub(crate) enum MoveSource {
    /// At the path of the request, or nowhere; or the request is no rename.
    #[default]
    None,
    /// At another path.
    File(MovedFile),
    /// At a path that another request writes.
    Requested(RepoPath),
}

impl MoveSource {
    /// Returns the path that the file is moved from.
    pub(crate) fn moved_path(&self) -> Option<&RepoPath> {
        match self {
            Self::File(file) => Some(&file.path),
            Self::None | Self::Requested(_) => None,
        }
    }
}

/// The inputs for finding files.
pub(crate) struct MoveFinder<'a> {
    pub(crate) tree: &'a WorkingTree,
    pub(crate) blobs: &'a dyn BlobStore,
    /// The paths of all requests.
    pub(crate) requested: &'a BTreeSet<RepoPath>,
}

impl MoveFinder<'_> {
    /// Finds the file that a request moves.
    ///
    /// An earlier apply may have moved the file already. Another file at one of its paths is then the user's, unless its
    /// content is similar.
    ///
    /// # Errors
    /// The tree or a blob cannot be read.
    pub(crate) fn find_source(&self, request: &PathRequest, dir_cache: &mut DirCache<'_>) -> io::Result<MoveSource> {
        let Some(rename) = &request.rename else { return Ok(MoveSource::None) };
        if rename.is_applied && self.observe_file(&request.path)?.is_some() {
            return Ok(MoveSource::None);
        }
        let was_moved = rename.is_applied || !request.earlier_paths.is_empty();
        for path in request.earlier_paths.iter().chain([&rename.old_path]) {
            // The file has another spelling, on a file system that treats both as the same.
            if let Ok(NameCollision::Same(_)) = dir_cache.find_collision(path, EntryKind::Regular) {
                continue;
            }
            let Some(observed) = self.observe_file(path)? else { continue };
            if was_moved && !is_similar_file(self.tree, self.blobs, request, path, &observed)? {
                continue;
            }
            if self.requested.contains(path) {
                return Ok(MoveSource::Requested(path.clone()));
            }
            return Ok(MoveSource::File(MovedFile { path: path.clone(), observed: Some(observed), has_edits: false }));
        }
        Ok(MoveSource::None)
    }

    fn observe_file(&self, path: &RepoPath) -> io::Result<Option<ObservedFile>> {
        match self.tree.observe_path(path) {
            Ok(PathState::File(observed)) => Ok(Some(observed)),
            Ok(_) => Ok(None),
            Err(error) if error.is_path_error() => Ok(None),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// Returns whether a file has a content of the request, possibly with edits.
pub(crate) fn is_similar_file(
    tree: &WorkingTree,
    blobs: &dyn BlobStore,
    request: &PathRequest,
    path: &RepoPath,
    observed: &ObservedFile,
) -> io::Result<bool> {
    let is_file = |version: &EntryContent| version.kind != EntryKind::Symlink;
    if request.known_versions().any(|version| *version == observed.version) {
        return Ok(true);
    }
    if !is_file(&observed.version) || observed.size() > MAX_TEXT {
        return Ok(false);
    }
    let content = match tree.read_file(path, observed) {
        Ok(content) => content,
        Err(HostError::Stale) => return Ok(false),
        Err(error) => return Err(io::Error::other(error)),
    };
    for version in request.known_versions().filter(|version| is_file(version)) {
        match blobs.read_blob(&version.hash) {
            Ok(known) if are_similar(&content, &known) => return Ok(true),
            // A large content is not stored.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(false)
}
