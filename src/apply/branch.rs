//! Commits accepted changes to a new branch, with the sandbox's starting commit as the parent. Only the object store and the
//! new branch are written; the working tree, index and HEAD are unchanged.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use git2::{Branch, ErrorCode, FileMode, Oid, Repository, Signature, build::TreeUpdateBuilder};

use crate::core::path::{EntryKind, RepoPath};

/// A changed path of the commit.
#[derive(Debug)]
pub(crate) struct BranchChange {
    pub path: RepoPath,
    /// The content in git's stored form. The bytes are `None` to keep the base's content; the whole field is `None` to
    /// delete the path.
    pub content: Option<(EntryKind, Option<Vec<u8>>)>,
}

/// An error from committing to a branch.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BranchError {
    /// The branch already exists.
    #[error("the branch {0} already exists; nothing was written")]
    Exists(String),
    /// The name is not valid for a branch.
    #[error("{0} is not a valid branch name")]
    BadName(String),
    /// No author name and address are configured in git.
    #[error("git has no name and email address for the commit")]
    NoAuthor,
    /// An error from libgit2.
    #[error("failed to create the commit: {}", .0.message())]
    Git(#[from] git2::Error),
}

/// Creates the commit and the branch, and returns the commit's ID.
pub(crate) fn commit_on_branch(
    root: &Path,
    base: &str,
    name: &str,
    changes: &[BranchChange],
    message: &str,
    (author, committer): (&Signature<'_>, &Signature<'_>),
) -> Result<String, BranchError> {
    let git = Repository::open(root)?;
    check_branch_free(&git, name)?;
    let parent = git.find_commit(Oid::from_str(base)?)?;
    let tree = parent.tree()?;
    let path = |change: &BranchChange| PathBuf::from(OsStr::from_bytes(change.path.as_bytes()));
    // Deletions are applied first, as a separate tree update, so that a file can become a directory. Files that were copied
    // into the sandbox without being committed are not in the base tree.
    let mut builder = TreeUpdateBuilder::new();
    for change in changes.iter().filter(|c| c.content.is_none()) {
        match tree.get_path(&path(change)) {
            Ok(_) => drop(builder.remove(change.path.as_bytes())),
            Err(e) if e.code() == ErrorCode::NotFound => {}
            Err(e) => return Err(e.into()),
        }
    }
    let cleared = git.find_tree(builder.create_updated(&git, &tree)?)?;
    let mut builder = TreeUpdateBuilder::new();
    for change in changes {
        let Some((kind, bytes)) = &change.content else { continue };
        let id = match bytes {
            Some(bytes) => git.blob(bytes)?,
            None => tree.get_path(&path(change))?.id(),
        };
        let mode = match kind {
            EntryKind::Regular => FileMode::Blob,
            EntryKind::Executable => FileMode::BlobExecutable,
            EntryKind::Symlink => FileMode::Link,
        };
        builder.upsert(change.path.as_bytes(), id, mode);
    }
    let tree = git.find_tree(builder.create_updated(&git, &cleared)?)?;
    let commit = git.commit(None, author, committer, message, &tree, &[&parent])?;
    match git.branch(name, &git.find_commit(commit)?, false) {
        Ok(_) => Ok(commit.to_string()),
        Err(e) if e.code() == ErrorCode::Exists => Err(BranchError::Exists(name.to_owned())),
        Err(e) => Err(e.into()),
    }
}

/// Checks that a branch with this name can be created.
///
/// # Errors
/// [`BranchError::Exists`], [`BranchError::BadName`].
pub(crate) fn check_branch(root: &Path, name: &str) -> Result<(), BranchError> {
    check_branch_free(&Repository::open(root)?, name)
}

fn check_branch_free(git: &Repository, name: &str) -> Result<(), BranchError> {
    // The two names that git reserves besides.
    if !Branch::name_is_valid(name)? || ["@", "HEAD"].contains(&name) {
        return Err(BranchError::BadName(name.to_owned()));
    }
    match git.find_reference(&format!("refs/heads/{name}")) {
        Ok(_) => Err(BranchError::Exists(name.to_owned())),
        Err(e) if e.code() == ErrorCode::NotFound => Ok(()),
        Err(e) => Err(e.into()),
    }
}
