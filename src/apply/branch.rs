//! Commits accepted changes to a new branch, on top of the sandbox's starting commit. Only the object store and the
//! new branch are written; the working tree, index and HEAD are unchanged.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use git2::{Branch, ErrorCode, FileMode, Oid, Repository, Signature, Tree, build::TreeUpdateBuilder};

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
    /// The commit could not be signed.
    #[error("failed to sign the commit: {0}; no branch was created")]
    Sign(String),
    /// An error from libgit2.
    #[error("failed to create the commit: {}", .0.message())]
    Git(#[from] git2::Error),
}

/// A commit to create.
#[derive(Debug)]
pub(crate) struct BranchCommit {
    pub changes: Vec<BranchChange>,
    pub message: String,
}

/// The identities of commits, and whether they are signed.
pub(crate) struct CommitOptions<'a> {
    pub author: Signature<'a>,
    pub committer: Signature<'a>,
    /// Whether git signs them, as the user has configured it.
    pub signs: bool,
}

/// Creates commits, each on top of the one before, and the branch. Returns the ID of the last commit.
pub(crate) fn commit_on_branch(
    root: &Path,
    base: &str,
    name: &str,
    commits: &[BranchCommit],
    options: &CommitOptions<'_>,
) -> Result<String, BranchError> {
    let git = Repository::open(root)?;
    check_branch_free(&git, name)?;
    let mut parent = git.find_commit(Oid::from_str(base)?)?;
    for BranchCommit { changes, message } in commits {
        let tree = changed_tree(&git, &parent.tree()?, changes)?;
        let id = if options.signs {
            sign_commit(root, (tree.id(), parent.id()), message, options)?
        } else {
            git.commit(None, &options.author, &options.committer, message, &tree, &[&parent])?
        };
        parent = git.find_commit(id)?;
    }
    match git.branch(name, &parent, false) {
        Ok(_) => Ok(parent.id().to_string()),
        Err(e) if e.code() == ErrorCode::Exists => Err(BranchError::Exists(name.to_owned())),
        Err(e) => Err(e.into()),
    }
}

/// Writes the tree of a commit with changes.
fn changed_tree<'g>(git: &'g Repository, tree: &Tree<'_>, changes: &[BranchChange]) -> Result<Tree<'g>, BranchError> {
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
    let cleared = git.find_tree(builder.create_updated(git, tree)?)?;
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
    Ok(git.find_tree(builder.create_updated(git, &cleared)?)?)
}

/// Creates a signed commit by git itself, which knows the user's key and program. No hook runs.
fn sign_commit(
    root: &Path,
    (tree, parent): (Oid, Oid),
    message: &str,
    options: &CommitOptions<'_>,
) -> Result<Oid, BranchError> {
    let failed = |reason: String| BranchError::Sign(reason);
    let date = |signature: &Signature<'_>| {
        let (seconds, offset) = (signature.when().seconds(), signature.when().offset_minutes());
        let sign = if offset < 0 { '-' } else { '+' };
        format!("{seconds} {sign}{:02}{:02}", offset.abs() / 60, offset.abs() % 60)
    };
    let mut command = Command::new("git");
    command.args(["commit-tree", "-S", "-p", &parent.to_string(), "-F", "-", &tree.to_string()]).current_dir(root);
    for (role, signature) in [("AUTHOR", &options.author), ("COMMITTER", &options.committer)] {
        command.env(format!("GIT_{role}_NAME"), OsStr::from_bytes(signature.name_bytes()));
        command.env(format!("GIT_{role}_EMAIL"), OsStr::from_bytes(signature.email_bytes()));
        command.env(format!("GIT_{role}_DATE"), date(signature));
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("git could not be run: {error}")))?;
    // Without its input, git fails, and says why.
    let _ = child.stdin.take().map(|mut input| input.write_all(message.as_bytes()));
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() {
        return Err(failed(format!("git commit-tree ended with {}", output.status)));
    }
    Ok(Oid::from_str(&id)?)
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
