//! Applies accepted changes to the working tree: builds a plan, which is inert data, and executes it in an all-or-nothing
//! transaction that can be undone.
//!
//! *Architecture invariant:* [`HostFs`] is the only writer to the working tree, and every directory on a path is opened by
//! descriptor without following symlinks. The index, refs and configuration of the user's git are not changed; only
//! `commit_on_branch` adds a commit and a branch, on request.

mod attributes;
mod branch;
mod capabilities;
mod collisions;
mod commit;
mod conflict_regions;
mod cross_mount;
mod entry_content;
mod entry_merge;
mod escapes;
mod exec;
mod host_error;
mod host_fs;
mod index_lock;
mod journal;
mod leftovers;
mod merge;
mod moves;
mod names;
mod plan;
mod report;
mod request;
mod resolve;
mod staging;
mod step;
mod transaction;
mod transaction_log;
mod undo;
mod working_tree;

pub(crate) use branch::{BranchChange, BranchCommit, BranchError, CommitOptions, check_branch, commit_on_branch};
pub use capabilities::FsCapabilities;
pub(crate) use commit::{read_late_edits, staged_file_path};
pub use entry_content::EntryContent;
pub use entry_merge::ConflictKind;
pub(crate) use host_error::HostError;
pub use host_fs::{FsOp, HostFs, Rename};
pub(crate) use index_lock::lock_owner;
pub use index_lock::unlock_index;
pub(crate) use journal::SelectionChange;
pub use journal::{Journal, TransactionKind, WorktreeFingerprint};
pub(crate) use journal::{JournalError, Op, StagedFile, TransactionStatus};
pub(crate) use leftovers::remove_leftovers;
pub(crate) use merge::ConflictHunk;
pub use merge::{Merged, Sides, merge_content, merge_with_markers};
pub use plan::{Plan, PlanOptions};
pub use report::{ApplyTarget, Report};
pub use request::{
    BlobStore, ChangeTarget, EarlierUnits, PathRequest, PriorRoundChange, RenameRequest, SelectedChange,
};
pub(crate) use resolve::HARD_LINK_REASON;
pub(crate) use step::{Conflict, ConflictSides, MergeMode};
pub use step::{Step, StepAction};
pub use transaction::{ApplyError, ApplyRequest, RecoveryMode, recover_transaction, run_transaction};
pub use transaction_log::{LockError, TransactionDir, TransactionLog};
pub use undo::{ApplyHistory, Undo};
pub(crate) use undo::{FinishedTransaction, UndoError};
pub(crate) use working_tree::PathState;
pub use working_tree::WorkingTree;
