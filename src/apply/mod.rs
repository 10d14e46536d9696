//! Applies accepted changes to the working tree: builds a plan, which is inert data, and executes it in an all-or-nothing
//! transaction that can be undone.
//!
//! *Architecture invariant:* [`HostFs`] is the only writer to the working tree, and every directory on a path is opened by
//! descriptor without following symlinks. The index, refs and configuration of the user's git are not changed; only
//! [`commit_on_branch`] adds a commit and a branch, on request.

mod attributes;
mod branch;
mod capabilities;
mod collisions;
mod commit;
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

pub use branch::{BranchChange, BranchError, check_branch, commit_on_branch};
pub use capabilities::FsCapabilities;
pub use commit::{read_late_edits, staged_file_path};
pub use entry_content::EntryContent;
pub use entry_merge::{ConflictKind, Resolution, merge_entry};
pub use host_error::HostError;
pub use host_fs::{FaultInjector, FsOp, HostFs, Rename};
pub use index_lock::{lock_owner, unlock_index};
pub use journal::{
    FileIdentity, Journal, JournalError, Op, StagedFile, TransactionKind, TransactionOutcome, TransactionStatus,
    WorktreeFingerprint,
};
pub use leftovers::remove_leftovers;
pub use merge::{ConflictHunk, Merged, Sides, merge_content, merge_with_markers};
pub use plan::{Plan, PlanOptions, PlannedOp};
pub use report::{ApplyTarget, PreservedEdit, Report, SkippedRevert};
pub use request::{AttrSource, BlobStore, ChangeSide, PathRequest, PriorRoundChange, SelectedChange};
pub use resolve::HARD_LINK_REASON;
pub use step::{Conflict, ConflictSides, MergeMode, Step, StepAction};
pub use transaction::{ApplyError, ApplyRequest, RecoveryMode, recover_transaction, run_transaction};
pub use transaction_log::{LockError, TransactionDir, TransactionLog};
pub use undo::{AppliedTransaction, ApplyHistory, Backups, Undo, UndoError};
pub use working_tree::{DirContents, Inode, Mount, ObservedFile, PathState, WorkingTree};
