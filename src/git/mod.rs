//! Reads the host repository from which a sandbox is seeded.
//!
//! The host repository is only read: its index, refs, stash and worktrees do not change, and no hook, filter or monitor
//! that a repository names is run.

mod archive;
mod blob_reader;
mod commit_view;
mod config_files;
mod conversion;
mod delta;
mod error;
mod git_dir;
mod go_modules;
mod history;
mod ignore;
mod include;
mod listing;
mod new_objects;
mod open_dir;
mod own_git;
mod refs;
mod remotes;
mod repo;
mod scope;
mod source;
mod sparse;
mod stored_files;
mod submodule;
mod tree_diff;
mod uncommitted;
mod wildmatch;

pub use archive::CommittedDir;
pub use commit_view::{CommittedEntry, CommittedTree};
pub(crate) use config_files::ConfiguredPath;
pub(crate) use conversion::{AttributeFiles, MergeAttribute};
pub use delta::DeltaLimit;
pub(crate) use delta::SnapshotDelta;
pub(crate) use error::SnapshotError;
pub use git_dir::{GitDir, GitFiles, PreviousRefs};
pub use history::{History, HistoryChoice};
pub use ignore::IgnoreRules;
pub(crate) use include::Includes;
pub(crate) use listing::{Listing, Unconverted};
pub(crate) use own_git::{IdentityRole, read_identity};
pub use refs::{IncludedRefs, RefsSummary};
pub(crate) use remotes::find_git_credential;
pub use repo::HostRepo;
pub(crate) use repo::WorktreeStatus;
pub use scope::UncommittedScope;
pub use source::{Snapshot, SnapshotOptions};
pub(crate) use stored_files::{ObjectReader, StoredFiles};
pub(crate) use submodule::SkippedSubmodule;
pub use submodule::Submodule;
pub use uncommitted::UncommittedChanges;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Converts the bytes of a path in a repository for libgit2.
fn os_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}
