//! Executes a plan as an all-or-nothing transaction, whatever fails and whenever the process ends. The order is:
//!
//! stage all files → write the journal (prepared) → lock git's index → execute and check each operation → sync directories →
//! write the outcome (committed) → unlock the index.
//!
//! A failure before the commit rolls back all operations. If the rollback fails, the journal is kept, and recovery continues
//! from there.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use super::commit::{Aborted, PreparedTransaction};
use super::entry_content::EntryContent;
use super::host_error::{HostError, system_error};
use super::host_fs::{DirEntryRef, HostFs};
use super::index_lock;
use super::journal::{FileIdentity, Journal, Kind, Op, StagedFile, TransactionStatus};
use super::leftovers::remove_leftovers;
use super::names::{CONTENTS, INDEX_LOCK};
use super::plan::{Plan, PlannedOp};
use super::report::{ApplyTarget, Report};
use super::request::{AttrSource, BlobStore};
use super::staging::{FileToStage, Staging};
use super::step::Step;
use super::transaction_log::{TransactionDir, TransactionLog};
use super::working_tree::{DIRECTORY, WorkingTree};

use rustix::fs::Mode;
use rustix::io::Errno;

use crate::changes::{MAX_TEXT, Selection};
use crate::core::path::RepoPath;

/// The inputs of a transaction besides its plan.
pub struct ApplyRequest<'a> {
    pub target: &'a ApplyTarget,
    pub fs: &'a HostFs,
    pub tree: &'a WorkingTree,
    pub kind: Kind,
    /// The sandbox whose changes are applied.
    pub sandbox: &'a str,
    pub sandbox_id: &'a str,
    /// Submodules that are treated as part of the working tree.
    pub modules: Vec<RepoPath>,
    /// For each path, the selected units of the changeset before and after this transaction.
    pub selection: Vec<(RepoPath, Selection, Selection)>,
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
    #[error("git is at work in this working tree: {} is there", .0.display())]
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
    #[error("{}{error}; and then: {}{then}", path_prefix(path.as_ref()), path_prefix(there.as_ref()))]
    RollbackFailed {
        /// The path that failed.
        path: Option<RepoPath>,
        error: HostError,
        then: HostError,
        there: Option<RepoPath>,
    },
    /// The journal belongs to another working tree.
    #[error("the unfinished apply {} belongs to another working tree: {}", .0.display(), .1)]
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
pub fn run_transaction(job: &ApplyRequest<'_>, plan: &Plan, applies: &TransactionLog) -> Result<Report, ApplyError> {
    if job.target.git_dir.join(INDEX_LOCK).symlink_metadata().is_ok() {
        return Err(ApplyError::Locked(job.target.git_dir.join(INDEX_LOCK)));
    }
    let folder = applies.create_dir(job.fs).map_err(|(_, error)| {
        let error = system_error("failed to make a folder for the journal")(error);
        ApplyError::NotStarted { path: None, error }
    })?;
    let (journal, slots) = match stage_files(job, plan, &folder) {
        Ok(staged) => staged,
        Err((path, error)) => {
            discard_staging(job, &folder);
            return Err(ApplyError::NotStarted { path, error });
        }
    };
    let mut report = Report { number: folder.number(), ..Report::default() };
    report.is_non_atomic = journal.staging_areas.iter().any(|place| !place.can_exchange);
    if let Err(error) = folder.write_journal(job.fs, &journal) {
        let error = system_error("failed to write the journal")(error);
        // The journal may have been written completely. No operation has been executed in either case.
        if !matches!(folder.read_status(), Ok(TransactionStatus::Staging)) {
            return finish_rollback(&job.prepared(&folder, &journal, &slots), Aborted::without_path(error), report)
                .map(|()| Report::default());
        }
        discard_staging(job, &folder);
        return Err(ApplyError::NotStarted { path: None, error });
    }
    let end = job.prepared(&folder, &journal, &slots);
    match end.commit(job.interrupted) {
        Ok(()) => {
            end.report_late_edits(&mut report);
            Ok(report)
        }
        Err(stop) => finish_rollback(&end, stop, report).map(|()| Report::default()),
    }
}

/// Recovers an unfinished transaction.
pub fn recover_transaction(
    site: &ApplyTarget,
    disk: &HostFs,
    tree: &WorkingTree,
    folder: &TransactionDir,
    journal: &Journal,
    way: RecoveryMode,
) -> Result<Report, ApplyError> {
    let mark = &journal.target;
    let same_boot = mark.boot_id == site.fingerprint.boot_id;
    let root = mark.root.number == site.fingerprint.root.number && (!same_boot || mark.root == site.fingerprint.root);
    if mark.repository != site.fingerprint.repository || !root {
        return Err(ApplyError::WrongWorktree(folder.path.clone(), mark.worktree.clone()));
    }
    let slots = Staging::open(&journal.staging_areas, folder, &journal.id, tree)
        .map_err(|error| ApplyError::NotStarted { path: None, error })?;
    let end = PreparedTransaction { site, disk, tree, folder, journal, slots: &slots, same_boot };
    let mut report = Report { number: folder.number(), ..Report::default() };
    end.lock_index().map_err(|error| match error {
        HostError::Git(lock) => ApplyError::Locked(lock),
        error => ApplyError::NotStarted { path: None, error },
    })?;
    if way == RecoveryMode::RollForward {
        match end.commit(&|| false) {
            Ok(()) => {
                end.report_late_edits(&mut report);
                return Ok(report);
            }
            Err(stop) => finish_rollback(&end, stop, report)?,
        }
        return Ok(Report::default());
    }
    match end.roll_back(&mut report) {
        Ok(()) => Ok(report),
        Err(Aborted { path, error }) => {
            let then = error.unwrap_or(HostError::Interrupted);
            Err(ApplyError::RollbackFailed {
                path: path.clone(),
                error: HostError::InterruptedApply,
                then,
                there: path,
            })
        }
    }
}

/// Rolls back, and returns the original error with the result of the rollback.
fn finish_rollback(end: &PreparedTransaction<'_>, stop: Aborted, mut report: Report) -> Result<(), ApplyError> {
    let Aborted { path, error } = stop;
    match (end.roll_back(&mut report), error) {
        (Ok(()), None) => Err(ApplyError::Interrupted(Box::new(report))),
        (Ok(()), Some(error)) => Err(ApplyError::RolledBack { path, error, report: Box::new(report) }),
        (Err(stop), error) => {
            let error = error.unwrap_or(HostError::Interrupted);
            let then = stop.error.unwrap_or(HostError::Interrupted);
            Err(ApplyError::RollbackFailed { path, error, then, there: stop.path })
        }
    }
}

type Staged<'a> = (Journal, Staging);

/// Stages all files and creates the journal, without changing the working tree.
fn stage_files<'a>(
    job: &ApplyRequest<'a>,
    plan: &Plan,
    folder: &TransactionDir,
) -> Result<Staged<'a>, (Option<RepoPath>, HostError)> {
    let id = random_id().map_err(|error| (None, HostError::Io { attempt: "failed to draw a number", error }))?;
    let none = |error| (None, error);
    let mut slots = Staging::empty();
    let mut acts = Vec::new();
    let mut files: Vec<(FileToStage<'_>, StagedFile)> = Vec::new();
    let mut waiting: Vec<(usize, &Step)> = Vec::new();
    for planned in plan.acts() {
        let path = planned.path();
        let named = |error| (Some(path.clone()), error);
        let mut take = |of: &RepoPath| {
            let directory = job.tree.open_nearest_existing_dir(of)?;
            slots.allocate(&directory, of, job.fs, job.tree, folder, &id)
        };
        acts.push(match planned {
            PlannedOp::MakeDirectory(path, None) => Op::MakeDirectory { path: path.clone(), slot: None },
            PlannedOp::MakeDirectory(path, Some(like)) => {
                let slot = take(path).map_err(named)?;
                slots.stage_directory(slot, like.at(), job.fs, job.tree).map_err(named)?;
                Op::MakeDirectory { path: path.clone(), slot: Some(slot) }
            }
            PlannedOp::RemoveDirectory(path) => {
                let slot = take(path).map_err(named)?;
                let Some(parent) = job.tree.open_parent(path).map_err(named)?.into_dir() else {
                    return Err(named(HostError::Stale));
                };
                let like = DirEntryRef::new(&parent, path.file_name());
                slots.stage_directory(slot, like, job.fs, job.tree).map_err(named)?;
                Op::RemoveDirectory { path: path.clone(), slot }
            }
            PlannedOp::Respell(from, to) => Op::CaseRename { from: from.clone(), to: to.clone() },
            PlannedOp::Delete(step) => {
                let slot = take(&step.path).map_err(named)?;
                let Some(seen) = &step.expected else { continue };
                Op::Delete { path: step.path.clone(), slot, before: FileIdentity::from(seen) }
            }
            PlannedOp::Put(step) => {
                let Some(left) = &step.result else { continue };
                let slot = take(&step.path).map_err(named)?;
                let expected = step.expected.as_ref();
                let like = step.attrs_from.as_ref().map(AttrSource::at);
                let replaced = step.case_renamed_from.as_ref().unwrap_or(&step.path);
                let like_over = step.attrs_from_if_mode;
                files.push((FileToStage { path: &step.path, replaced, left, expected, like, like_over }, slot));
                waiting.push((acts.len(), step));
                // A placeholder; replaced below by the write of the staged file.
                Op::CaseRename { from: step.path.clone(), to: step.path.clone() }
            }
        });
    }
    let own = folder.open_dir().and_then(|own| {
        job.fs.create_dir(DirEntryRef::new(&own, CONTENTS.as_bytes()), 0o700)?;
        rustix::fs::openat(&own, CONTENTS, DIRECTORY, Mode::empty())
    });
    let own = own.map_err(system_error("failed to make a folder for contents")).map_err(none)?;
    let source = job.blobs.folder();
    let content = |version: &EntryContent| {
        let bytes = job.blobs.read_blob(&version.hash)?;
        // Stored for the merge of an undo. Larger contents are not merged.
        if bytes.len() as u64 <= MAX_TEXT {
            store_content(job, source.as_deref(), &own, version, &bytes)?;
        }
        Ok(bytes)
    };
    let staged = slots.stage_file(&files, job.fs, job.tree, &content).map_err(|(path, error)| (Some(path), error))?;
    for (((at, step), after), (_, slot)) in waiting.into_iter().zip(staged).zip(&files) {
        let before = step.expected.as_ref().map(FileIdentity::from);
        acts[at] = Op::Write { path: step.path.clone(), slot: *slot, before, after };
    }
    index_lock::stage_lock(job.target, job.fs, folder, &id)
        .map_err(system_error("failed to make the lock for git's index"))
        .map_err(none)?;
    slots.sync_areas(job.fs).map_err(system_error("failed to write what was staged to disk")).map_err(none)?;
    let journal = Journal {
        id,
        kind: job.kind.clone(),
        sandbox: job.sandbox.to_owned(),
        sandbox_id: job.sandbox_id.to_owned(),
        target: job.target.fingerprint.clone(),
        modules: job.modules.clone(),
        staging_areas: slots.places.clone(),
        ops: acts,
        selection: job.selection.clone(),
    };
    Ok((journal, slots))
}

/// Stores content under its hash: as a hard link if the source file is immutable, otherwise as a copy.
fn store_content(
    job: &ApplyRequest<'_>,
    source: Option<&OwnedFd>,
    folder: &OwnedFd,
    version: &EntryContent,
    bytes: &[u8],
) -> Result<(), Errno> {
    let name = version.hash.to_string();
    let to = DirEntryRef::new(folder, name.as_bytes());
    if let Some(source) = source {
        match job.fs.hard_link(DirEntryRef::new(source, name.as_bytes()), to) {
            Ok(()) | Err(Errno::EXIST) => return Ok(()),
            Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::XDEV | Errno::MLINK | Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    match job.fs.create_file(to, 0o600) {
        Ok(file) => job.fs.write_all(&file, bytes),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes a transaction that was not prepared. It contains no unique data. Files that cannot be removed are left for a
/// later cleanup.
fn discard_staging(job: &ApplyRequest<'_>, folder: &TransactionDir) {
    let _ = remove_leftovers(job.fs, folder, job.tree);
}

impl ApplyRequest<'_> {
    fn prepared<'b>(
        &'b self,
        folder: &'b TransactionDir,
        journal: &'b Journal,
        slots: &'b Staging,
    ) -> PreparedTransaction<'b> {
        let Self { target: site, fs: disk, tree, .. } = self;
        PreparedTransaction { site, disk, tree, folder, journal, slots, same_boot: true }
    }
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0_u8; 8];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
