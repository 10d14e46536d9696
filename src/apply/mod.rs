//! Brings accepted changes to the host tree: first a plan, which is inert data, then a transaction that does all of it or
//! nothing, and that can be undone.
//!
//! *Architecture invariant:* `hostfs.rs` is the only writer to a host tree, and every directory on the way is opened by
//! descriptor without following links. No index, ref or configuration of the user's git is touched; `branch.rs` alone adds
//! a commit and a branch, when that is asked for.

mod applies;
mod attributes;
mod branch;
mod decide;
mod ending;
mod hostfs;
mod index_lock;
mod inside;
mod journal;
mod judge;
mod merge;
mod plan;
mod stage;
mod surroundings;
mod swap;
mod sweep;
mod transaction;
mod tree;
mod undo;
mod wish;

pub use applies::{Applies, Folder, LockError};
pub use branch::{BranchChange, BranchError, check_branch, commit_on_branch};
pub use decide::{Clash, Verdict, Version, decide};
pub use ending::{kept_since, slot_path};
pub use hostfs::{Call, Disk, Fault, Rename};
pub use index_lock::{lock_owner, unlock_index};
pub use journal::{Act, End, Held, Journal, JournalError, Kind, Mark, Slot, Stage};
pub use judge::HARD_LINKS;
pub use merge::{Merged, Region, Sides, merge, with_markers};
pub use plan::{Conflict, Contest, MergeMode, OnConflict, Plan, Planned, Step, Terms, Verb};
pub use sweep::sweep;
pub use transaction::{Job, Kept, LeftAlone, Problem, Report, Site, Way, recover, run};
pub use tree::{Below, Habits, HostError, HostTree, Inode, Look, Mount, Seen};
pub use undo::{Backups, History, Past, Undo, UndoError};
pub use wish::{Choice, Contents, Earlier, Like, PathRequest};
