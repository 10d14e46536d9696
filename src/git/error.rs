//! Defines the errors of snapshots.

use std::path::PathBuf;

use git2::ErrorCode;

use crate::core::path::PathError;

/// An error that prevents a snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("{} is not in a git repository", .0.display())]
    NotARepository(PathBuf),
    /// The repository has no working tree.
    #[error("{} is a bare repository; it has no working tree to bring changes back to", .0.display())]
    Bare(PathBuf),
    /// HEAD names a branch without a commit.
    #[error("the repository has no commit yet, so there is nothing to take a snapshot of")]
    Unborn,
    /// The repository is owned by another user.
    #[error("git does not trust {}: it belongs to another user", .0.display())]
    Untrusted(PathBuf),
    /// The environment names another repository than the one around the current directory.
    #[error("{variable} names {}, and the repository here is {}", named.display(), here.display())]
    OtherRepository {
        /// The variable, `GIT_DIR` or `GIT_WORK_TREE`.
        variable: &'static str,
        named: PathBuf,
        here: PathBuf,
    },
    /// A tracked path that cannot be written safely.
    #[error("the commit holds a path that Airlock will not write: {path:?}: {reason}")]
    InvalidPath {
        path: String,
        /// The rule that the path violates.
        reason: PathError,
    },
    /// Objects are named by SHA-256, which libgit2 does not support.
    #[error("{} names its objects by SHA-256, which Airlock does not read yet", .0.display())]
    Sha256(PathBuf),
    /// Refs are stored in a format that libgit2 does not support.
    #[error("{} keeps its refs in a reftable, which Airlock does not read yet", .0.display())]
    Reftable(PathBuf),
    /// The content of a committed file is missing in this repository.
    #[error("the content of {0} is not in this repository: it is a partial or damaged clone")]
    MissingObject(String),
    /// A file cannot be converted as its attributes require.
    #[error("failed to convert {path} to the form of a working tree: {reason}")]
    Convert { path: String, reason: String },
    /// The index has a format that libgit2 does not support.
    #[error("failed to look for uncommitted work: the index is {0}")]
    Index(&'static str),
    /// An uncommitted file cannot be read.
    #[error("failed to read {path}: {reason}")]
    HostFile { path: String, reason: String },
    /// A file changed each time it was read.
    #[error("{0} keeps changing while it is read")]
    ChangingFile(String),
    #[error("the uncommitted and included files have more than {most} MiB; {path} does not fit any more")]
    TooManyBytes {
        /// The first path that does not fit, escaped.
        path: String,
        most: u64,
    },
    /// A glob that matches nothing.
    #[error("--include {0} matches no file")]
    UnmatchedInclude(String),
    /// An invalid glob.
    #[error("--include: {0}")]
    InvalidInclude(String),
    /// Git is missing or failed.
    #[error("failed to pack the snapshot's objects with git: {0}")]
    Pack(String),
    /// Git's configuration cannot be read.
    #[error("failed to read git's configuration: {0}")]
    Config(String),
    /// An error of libgit2.
    #[error("failed to read the repository: {}", .0.message())]
    Git(#[from] git2::Error),
    #[error("failed to prepare the snapshot: {0}")]
    Io(#[from] std::io::Error),
}

impl SnapshotError {
    /// Returns a suggested fix, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotARepository(_) => {
                Some("go into your project first, or make it one: git init && git add -A && git commit -m start".into())
            }
            Self::Bare(path) => Some(format!("git -C {} worktree add ../work, then go there", path.display())),
            Self::Unborn => Some("git add -A && git commit -m start".into()),
            Self::Untrusted(root) => Some(format!("git config --global --add safe.directory '{}'", root.display())),
            Self::OtherRepository { .. } => Some("go there, or: unset GIT_DIR GIT_WORK_TREE".into()),
            Self::Sha256(_) => Some("git clone into a repository with --object-format=sha1 and work there".into()),
            Self::Reftable(_) => Some("git refs migrate --ref-format=files".into()),
            Self::MissingObject(_) => Some("git fetch --refetch --no-filter".into()),
            Self::Git(e) if e.code() == ErrorCode::NotFound => {
                Some("an object is missing (a partial or damaged clone): git fetch --refetch --no-filter".into())
            }
            Self::Index("split") => Some("git update-index --no-split-index".into()),
            Self::Index(_) => Some("git sparse-checkout reapply --no-sparse-index".into()),
            Self::ChangingFile(_) => Some("end what writes it, or leave the uncommitted work behind".into()),
            Self::TooManyBytes { .. } => Some("name less with --include, or commit large files first".into()),
            Self::UnmatchedInclude(_) => {
                Some("globs start at the root of the repository: --include 'config/*.env'".into())
            }
            Self::Pack(_) => Some(
                "the history may be incomplete here: git fetch --refetch --no-filter, or start with --history none"
                    .into(),
            ),
            _ => None,
        }
    }
}
