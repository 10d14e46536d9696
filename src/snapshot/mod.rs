//! Reads the host repository: what a sandbox is seeded with. Read-only: no index, no ref, no stash, no worktree of the
//! host's is touched, and no hook, filter or monitor that a repository names is run.

mod gitdir;
mod ignore;
mod repo;
mod tree;

pub use gitdir::GitDir;
pub use ignore::IgnoreRules;
pub use repo::{Dirt, HostRepo, SnapshotError};
pub use tree::{Snapshot, TreeEntry};
