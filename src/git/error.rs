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
    #[error("{} is a bare repository; it has no working tree to apply changes to", .0.display())]
    Bare(PathBuf),
    /// HEAD names a branch without a commit.
    #[error("the repository has no commit yet, so no snapshot can be created")]
    Unborn,
    /// The repository is owned by another user.
    #[error("git does not trust {}: it is owned by another user", .0.display())]
    Untrusted(PathBuf),
    /// The environment names another repository than the one around the current directory.
    #[error("{variable} is set to {}, but the current repository is {}", named.display(), here.display())]
    OtherRepository {
        /// The variable, `GIT_DIR` or `GIT_WORK_TREE`.
        variable: &'static str,
        named: PathBuf,
        here: PathBuf,
    },
    /// A tracked path that cannot be written safely.
    #[error("the commit contains a path that Airlock does not write: {path:?}: {reason}")]
    InvalidPath {
        path: String,
        /// The rule that the path violates.
        reason: PathError,
    },
    /// Objects are named by SHA-256, which libgit2 does not support.
    #[error("{} uses SHA-256 object names, which Airlock does not support yet", .0.display())]
    Sha256(PathBuf),
    /// Refs are stored in a format that libgit2 does not support.
    #[error("{} stores its refs in a reftable, which Airlock does not support yet", .0.display())]
    Reftable(PathBuf),
    /// The content of a committed file is missing in this repository.
    #[error("the content of {0} is missing: the repository is a partial or damaged clone")]
    MissingObject(String),
    /// A file cannot be converted as its attributes require.
    #[error("failed to convert {path} as its attributes require: {reason}")]
    Convert { path: String, reason: String },
    /// The index has a format that libgit2 does not support.
    #[error("failed to find uncommitted changes: the index is {0}")]
    Index(&'static str),
    /// An uncommitted file cannot be read.
    #[error("failed to read {path}: {reason}")]
    HostFile { path: String, reason: String },
    /// A file changed each time it was read.
    #[error("{0} changed each time it was read")]
    ChangingFile(String),
    #[error("the uncommitted and included files exceed {most} MiB; {path} does not fit")]
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
            Self::NotARepository(_) => Some(
                "change to your project, or create a repository with `git init && git add -A && git commit -m start`"
                    .into(),
            ),
            Self::Bare(path) => Some(format!(
                "create a working tree with `git -C {} worktree add ../work` and change to it",
                quote_path(path)
            )),
            Self::Unborn => Some("create a commit with `git add -A && git commit -m start`".into()),
            Self::Untrusted(root) => {
                Some(format!("to trust it, run `git config --global --add safe.directory {}`", quote_path(root)))
            }
            Self::OtherRepository { .. } => {
                Some("change to that repository, or run `unset GIT_DIR GIT_WORK_TREE`".into())
            }
            Self::Sha256(_) => Some("Airlock needs a repository that names its objects by SHA-1".into()),
            Self::Reftable(_) => Some("to convert the refs, run `git refs migrate --ref-format=files`".into()),
            Self::MissingObject(_) => Some("to fetch missing objects, run `git fetch --refetch --no-filter`".into()),
            Self::Git(e) if e.code() == ErrorCode::NotFound => Some(
                "an object is missing (a partial or damaged clone); to fetch it, run `git fetch --refetch --no-filter`"
                    .into(),
            ),
            Self::Index("split") => Some("to convert the index, run `git update-index --no-split-index`".into()),
            Self::Index(_) => Some("to convert the index, run `git sparse-checkout reapply --no-sparse-index`".into()),
            Self::ChangingFile(_) => {
                Some("stop the process that writes to it, or do not include uncommitted files".into())
            }
            Self::TooManyBytes { .. } => {
                Some("include fewer files with `--include`, or commit large files first".into())
            }
            Self::UnmatchedInclude(_) => {
                Some("globs start at the root of the repository, as in `--include 'config/*.env'`".into())
            }
            Self::Pack(_) => Some(
                "the history may be incomplete; run `git fetch --refetch --no-filter`, or start with `--history none`"
                    .into(),
            ),
            _ => None,
        }
    }
}

/// Quotes a path for a shell.
fn quote_path(path: &std::path::Path) -> String {
    let text = path.display().to_string();
    let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./,+@%".contains(&b));
    if is_plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}
