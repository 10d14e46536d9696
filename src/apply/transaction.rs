//! Executes a plan as an all-or-nothing transaction, even if an operation fails or the process is killed. The order is:
//!
//! stage all files → write the journal (prepared) → lock git's index → execute and check each operation → sync directories →
//! write the outcome (committed) → unlock the index.
//!
//! A failure before the commit rolls back all operations. If the rollback fails, the journal is kept, and recovery continues
//! from there.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::commit::{Aborted, PreparedTransaction};
use super::entry_content::EntryContent;
use super::host_error::{HostError, system_error};
use super::host_fs::{DirEntryRef, HostFs};
use super::index_lock;
use super::journal::{FileIdentity, Journal, Op, SelectionChange, StagedFile, TransactionKind, TransactionStatus};
use super::leftovers::remove_leftovers;
use super::names::{CONTENTS_DIR, INDEX_LOCK};
use super::plan::{Plan, PlannedOp};
use super::report::{ApplyTarget, Report};
use super::request::{AttrSource, BlobStore};
use super::staging::{FileToStage, Staging, StagingContext};
use super::step::Step;
use super::transaction_log::{TransactionDir, TransactionLog};
use super::working_tree::{DIR_FLAGS, WorkingTree};

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::changes::MAX_TEXT;
use crate::core::path::RepoPath;
use crate::core::random::create_random_id;

/// The inputs of a transaction besides its plan.
pub struct ApplyRequest<'a> {
    pub target: &'a ApplyTarget,
    pub fs: &'a HostFs,
    pub tree: &'a WorkingTree,
    pub kind: TransactionKind,
    /// The sandbox whose changes are applied.
    pub sandbox: &'a str,
    pub sandbox_id: &'a str,
    /// Submodules that are treated as part of the working tree.
    pub modules: Vec<RepoPath>,
    /// For each path, the selected units of the changeset before and after this transaction.
    pub selection: Vec<SelectionChange>,
    pub blobs: &'a dyn BlobStore,
    /// Returns whether the user has interrupted the command.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// An error from running or recovering a transaction.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A failure before this call changed any path.
    #[error("{}{error}", path_prefix(path.as_ref()))]
    NotStarted {
        /// The path that failed.
        path: Option<RepoPath>,
        error: HostError,
    },
    /// git has locked its index.
    #[error("git is running in this working tree: {} exists", .0.display())]
    Locked(PathBuf),
    /// The user interrupted the transaction, which was rolled back.
    #[error("interrupted")]
    Interrupted(Box<Report>),
    /// An operation failed, and the transaction was rolled back.
    #[error("{}{error}", path_prefix(path.as_ref()))]
    RolledBack {
        /// The path that failed.
        path: Option<RepoPath>,
        error: HostError,
        /// The result of the rollback.
        report: Box<Report>,
    },
    /// An operation failed, and so did the rollback.
    #[error("{}{error}; rollback also failed: {}{rollback_error}", path_prefix(path.as_ref()), path_prefix(rollback_path.as_ref()))]
    RollbackFailed {
        /// The path that failed.
        path: Option<RepoPath>,
        error: HostError,
        rollback_error: HostError,
        rollback_path: Option<RepoPath>,
    },
    /// The journal belongs to another working tree.
    #[error("the interrupted apply {} belongs to another working tree: {}", .0.display(), .1)]
    WrongWorktree(PathBuf, String),
}

fn path_prefix(path: Option<&RepoPath>) -> String {
    path.map_or_else(String::new, |p| format!("{}: ", p.as_bytes().escape_ascii()))
}

/// The direction of a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecoveryMode {
    RollForward,
    /// The working tree is restored to its previous state.
    RollBack,
}

/// Executes a plan without conflicts. The caller must hold the exclusive lock of the log since before it built the plan.
///
/// # Errors
/// After any error except [`ApplyError::RollbackFailed`], the working tree is in its previous state, apart from concurrent
/// changes by the user.
pub fn run_transaction(request: &ApplyRequest<'_>, plan: &Plan, log: &TransactionLog) -> Result<Report, ApplyError> {
    if request.target.git_dir.join(INDEX_LOCK).symlink_metadata().is_ok() {
        return Err(ApplyError::Locked(request.target.git_dir.join(INDEX_LOCK)));
    }
    let dir = log.create_dir(request.fs).map_err(|(_, error)| {
        let error = system_error("failed to create the journal directory")(error);
        ApplyError::NotStarted { path: None, error }
    })?;
    let (journal, staging) = match stage_files(request, plan, &dir) {
        Ok(staged) => staged,
        Err((path, error)) => {
            discard_staging(request, &dir);
            return Err(ApplyError::NotStarted { path, error });
        }
    };
    let mut report = Report { number: dir.sequence_number(), ..Report::default() };
    report.is_non_atomic = journal.staging_areas.iter().any(|area| !area.can_exchange);
    if let Err(error) = dir.write_journal(request.fs, &journal) {
        let error = system_error("failed to write the journal")(error);
        // The journal may have been written completely. No operation has been executed in either case.
        if !matches!(dir.read_status(), Ok(TransactionStatus::Staging)) {
            let prepared = request.prepared_transaction(&dir, &journal, &staging);
            return Err(finish_rollback(&prepared, Aborted::without_path(error), report));
        }
        discard_staging(request, &dir);
        return Err(ApplyError::NotStarted { path: None, error });
    }
    let prepared = request.prepared_transaction(&dir, &journal, &staging);
    match prepared.commit(request.interrupted) {
        Ok(()) => {
            prepared.finish_commit(&mut report);
            Ok(report)
        }
        Err(aborted) => Err(finish_rollback(&prepared, aborted, report)),
    }
}

/// Recovers an unfinished transaction.
pub fn recover_transaction(
    target: &ApplyTarget,
    fs: &HostFs,
    tree: &WorkingTree,
    dir: &TransactionDir,
    journal: &Journal,
    mode: RecoveryMode,
) -> Result<Report, ApplyError> {
    let recorded = &journal.target;
    let same_boot = recorded.boot_id == target.fingerprint.boot_id;
    let root = recorded.root.number == target.fingerprint.root.number
        && (!same_boot || recorded.root == target.fingerprint.root);
    if recorded.repository != target.fingerprint.repository || !root {
        return Err(ApplyError::WrongWorktree(dir.path.clone(), recorded.worktree.clone()));
    }
    let staging = Staging::open(&journal.staging_areas, dir, &journal.id, tree)
        .map_err(|error| ApplyError::NotStarted { path: None, error })?;
    let prepared = PreparedTransaction { target, fs, tree, dir, journal, staging: &staging, same_boot };
    let mut report = Report { number: dir.sequence_number(), ..Report::default() };
    prepared.lock_index().map_err(|error| match error {
        HostError::IndexLocked(lock) => ApplyError::Locked(lock),
        error => ApplyError::NotStarted { path: None, error },
    })?;
    if mode == RecoveryMode::RollForward {
        return match prepared.commit(&|| false) {
            Ok(()) => {
                prepared.finish_commit(&mut report);
                Ok(report)
            }
            Err(aborted) => Err(finish_rollback(&prepared, aborted, report)),
        };
    }
    match prepared.roll_back(&mut report) {
        Ok(()) => Ok(report),
        Err(Aborted { path, error }) => {
            let rollback_error = error.unwrap_or(HostError::Interrupted);
            Err(ApplyError::RollbackFailed {
                path: path.clone(),
                error: HostError::InterruptedApply,
                rollback_error,
                rollback_path: path,
            })
        }
    }
}

/// Rolls back, and returns the original error with the result of the rollback.
fn finish_rollback(prepared: &PreparedTransaction<'_>, aborted: Aborted, mut report: Report) -> ApplyError {
    let Aborted { path, error } = aborted;
    match (prepared.roll_back(&mut report), error) {
        (Ok(()), None) => ApplyError::Interrupted(Box::new(report)),
        (Ok(()), Some(error)) => ApplyError::RolledBack { path, error, report: Box::new(report) },
        (Err(aborted), error) => {
            let error = error.unwrap_or(HostError::Interrupted);
            let rollback_error = aborted.error.unwrap_or(HostError::Interrupted);
            ApplyError::RollbackFailed { path, error, rollback_error, rollback_path: aborted.path }
        }
    }
}

type StagedTransaction = (Journal, Staging);

/// Stages all files and creates the journal, without changing the working tree.
fn stage_files<'a>(
    request: &ApplyRequest<'a>,
    plan: &Plan,
    dir: &TransactionDir,
) -> Result<StagedTransaction, (Option<RepoPath>, HostError)> {
    let id = create_random_id::<8>()
        .map_err(|error| (None, HostError::Io { attempt: "failed to generate an ID", error }))?;
    let none = |error| (None, error);
    let mut staging = Staging::new();
    let mut ops = Vec::new();
    let mut files: Vec<(FileToStage<'_>, StagedFile)> = Vec::new();
    let mut pending_writes: Vec<(usize, &Step)> = Vec::new();
    for planned in plan.planned_ops() {
        let path = planned.path();
        let named = |error| (Some(path.clone()), error);
        let mut reserve = |target: &RepoPath| {
            let directory = request.tree.open_nearest_existing_dir(target)?;
            staging.allocate_file(
                &directory,
                target,
                StagingContext { fs: request.fs, tree: request.tree, dir, id: &id },
            )
        };
        ops.push(match planned {
            PlannedOp::CreateDirectory(path, None) => Op::MakeDirectory { path: path.clone(), staged: None },
            PlannedOp::CreateDirectory(path, Some(attrs_from)) => {
                let staged = reserve(path).map_err(named)?;
                staging.stage_directory(staged, attrs_from.entry_ref(), request.fs, request.tree).map_err(named)?;
                Op::MakeDirectory { path: path.clone(), staged: Some(staged) }
            }
            PlannedOp::RemoveDirectory(path) => {
                let staged = reserve(path).map_err(named)?;
                let Some(parent) = request.tree.open_parent(path).map_err(named)?.into_dir() else {
                    return Err(named(HostError::Stale));
                };
                let attrs_from = DirEntryRef::new(&parent, path.file_name());
                staging.stage_directory(staged, attrs_from, request.fs, request.tree).map_err(named)?;
                Op::RemoveDirectory { path: path.clone(), staged }
            }
            PlannedOp::CaseRename(from, to) => Op::CaseRename { from: from.clone(), to: to.clone() },
            PlannedOp::Delete(step) => {
                let staged = reserve(&step.path).map_err(named)?;
                let Some(observed) = &step.expected else { continue };
                Op::Delete { path: step.path.clone(), staged, before: FileIdentity::from(observed) }
            }
            PlannedOp::Write(step) => {
                let Some(result) = &step.result else { continue };
                let staged = reserve(&step.path).map_err(named)?;
                // A moved file keeps its attributes, as a replaced one does.
                let moved = step.moved_from.as_ref().filter(|_| step.expected.is_none());
                let moved = moved.and_then(|file| Some((&file.path, file.observed.as_ref()?)));
                let expected = moved.map(|(_, observed)| observed).or(step.expected.as_ref());
                let attrs_from = step.attrs_from.as_ref().map(AttrSource::entry_ref);
                let replaced = moved.map(|(path, _)| path).or(step.case_renamed_from.as_ref()).unwrap_or(&step.path);
                let attrs_from_if_mode = step.attrs_from_if_mode;
                files.push((
                    FileToStage { path: &step.path, replaced, result, expected, attrs_from, attrs_from_if_mode },
                    staged,
                ));
                pending_writes.push((ops.len(), step));
                // A placeholder; replaced below by the write of the staged file.
                Op::CaseRename { from: step.path.clone(), to: step.path.clone() }
            }
        });
    }
    let contents_dir = dir.open_dir().and_then(|contents_dir| {
        request.fs.create_dir(DirEntryRef::new(&contents_dir, CONTENTS_DIR.as_bytes()), 0o700)?;
        rustix::fs::openat(&contents_dir, CONTENTS_DIR, DIR_FLAGS, Mode::empty())
    });
    let contents_dir = contents_dir.map_err(system_error("failed to create the content directory")).map_err(none)?;
    let source = request.blobs.blob_dir();
    let content = |version: &EntryContent| {
        let bytes = request.blobs.read_blob(&version.hash)?;
        // Stored for the merge of an undo. Larger contents are not merged.
        if bytes.len() as u64 <= MAX_TEXT {
            store_content(request, source.as_deref(), &contents_dir, version, &bytes)?;
        }
        Ok(bytes)
    };
    let staged =
        staging.stage_files(&files, request.fs, request.tree, &content).map_err(|(path, error)| (Some(path), error))?;
    for (((at, step), after), (_, staged)) in pending_writes.into_iter().zip(staged).zip(&files) {
        let before = step.expected.as_ref().map(FileIdentity::from);
        let moved = step.moved_from.as_ref().filter(|file| before.is_none() && file.observed.is_some());
        let moved_from = moved.map(|file| file.path.clone());
        ops[at] = Op::Write { path: step.path.clone(), staged: *staged, before, after, moved_from };
    }
    index_lock::stage_lock(request.target, request.fs, dir, &id)
        .map_err(system_error("failed to create the lock of git's index"))
        .map_err(none)?;
    staging.sync_areas(request.fs).map_err(system_error("failed to sync the staged files")).map_err(none)?;
    let journal = Journal {
        id,
        kind: request.kind.clone(),
        sandbox: request.sandbox.to_owned(),
        sandbox_id: request.sandbox_id.to_owned(),
        target: request.target.fingerprint.clone(),
        modules: request.modules.clone(),
        staging_areas: staging.areas.clone(),
        ops,
        selection: request.selection.clone(),
    };
    Ok((journal, staging))
}

/// Stores content under its hash: as a hard link if the source file is immutable, otherwise as a copy.
fn store_content(
    request: &ApplyRequest<'_>,
    source: Option<&OwnedFd>,
    dir: &OwnedFd,
    version: &EntryContent,
    bytes: &[u8],
) -> Result<(), Errno> {
    let name = version.hash.to_string();
    let to = DirEntryRef::new(dir, name.as_bytes());
    if let Some(source) = source {
        match request.fs.hard_link(DirEntryRef::new(source, name.as_bytes()), to) {
            Ok(()) | Err(Errno::EXIST) => return Ok(()),
            Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::XDEV | Errno::MLINK | Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    match request.fs.create_file(to, 0o600) {
        Ok(file) => request.fs.write_all(&file, bytes),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a transaction that was not prepared. It contains no unique data. Files that cannot be removed are left for a
/// later cleanup.
fn discard_staging(request: &ApplyRequest<'_>, dir: &TransactionDir) {
    let _ = remove_leftovers(request.fs, dir, request.tree);
}

impl ApplyRequest<'_> {
    fn prepared_transaction<'b>(
        &'b self,
        dir: &'b TransactionDir,
        journal: &'b Journal,
        staging: &'b Staging,
    ) -> PreparedTransaction<'b> {
        let Self { target, fs, tree, .. } = self;
        PreparedTransaction { target, fs, tree, dir, journal, staging, same_boot: true }
    }
}
