//! Reads the host repository: what a sandbox is seeded with. Read-only: no index, no ref, no stash, no worktree of the
//! host's is touched, and no hook, filter or monitor that a repository names is run.

mod committed;
mod config_files;
mod difference;
mod form;
mod fresh;
mod gitdir;
mod history;
mod ignore;
mod include;
mod listing;
mod module;
mod own_git;
mod repo;
mod source;
mod sparse;
mod trees;
mod wildmatch;
mod work;

pub use committed::{Committed, CommittedEntry};
pub use config_files::ConfiguredPath;
pub use difference::{Content, Difference, Share};
pub use form::{AttributeFiles, MergeAttribute};
pub use gitdir::{GitDir, GitFiles, Old};
pub use history::{History, HistoryChoice};
pub use ignore::IgnoreRules;
pub use include::Includes;
pub use listing::{Listing, TreeEntry, Unconverted};
pub use module::{LeftModule, Module};
pub use own_git::{Identity, Role, identity};
pub use repo::{Dirt, HostRepo, SnapshotError};
pub use source::{Snapshot, SnapshotOptions};
pub use work::{Uncommitted, Work};

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Makes a path for libgit2 of a repository's bytes.
fn os_path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

/// Spells bytes in lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
