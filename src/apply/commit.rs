//! Commits or rolls back a prepared transaction.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::exec::{OpExecutor, RevertOutcome};
use super::host_error::{HostError, system_error};
use super::host_fs::HostFs;
use super::index_lock;
use super::journal::{InTreeDir, Journal, StagedFile, TransactionOutcome, TransactionStatus};
use super::names::IN_TREE_DIR;
use super::report::{ApplyTarget, PreservedEdit, Report, SkippedRevert};
use super::staging::{Staging, try_parallel_for_each};
use super::transaction_log::TransactionDir;
use super::working_tree::WorkingTree;
use crate::core::clock::seconds_since_epoch;
use crate::core::path::RepoPath;

/// The error that stopped the operations, or an interruption if `error` is `None`.
pub(crate) struct Aborted {
    pub(crate) path: Option<RepoPath>,
    pub(crate) error: Option<HostError>,
}

impl Aborted {
    fn with_path(path: &RepoPath) -> impl Fn(HostError) -> Self {
        move |error| Self { path: Some(path.clone()), error: Some(error) }
    }

    pub(crate) fn without_path(error: HostError) -> Self {
        Self { path: None, error: Some(error) }
    }
}

/// A transaction whose journal is written and that can be committed or rolled back.
pub(crate) struct PreparedTransaction<'a> {
    pub(crate) target: &'a ApplyTarget,
    pub(crate) fs: &'a HostFs,
    pub(crate) tree: &'a WorkingTree,
    pub(crate) dir: &'a TransactionDir,
    pub(crate) journal: &'a Journal,
    pub(crate) staging: &'a Staging,
    pub(crate) same_boot: bool,
}

impl PreparedTransaction<'_> {
    fn op_executor(&self) -> OpExecutor<'_> {
        OpExecutor { fs: self.fs, tree: self.tree, staging: self.staging, same_boot: self.same_boot }
    }

    /// Locks git's index. Succeeds if the transaction already holds the lock.
    pub(crate) fn lock_index(&self) -> Result<(), HostError> {
        index_lock::take_lock(self.target, self.fs, self.dir, self.journal)
    }

    /// Executes all operations and commits.
    pub(crate) fn commit(&self, interrupted: &dyn Fn() -> bool) -> Result<(), Aborted> {
        self.lock_index().map_err(Aborted::without_path)?;
        let executor = self.op_executor();
        for op in &self.journal.ops {
            if interrupted() {
                return Err(Aborted { path: None, error: None });
            }
            executor.execute_op(op).map_err(Aborted::with_path(op.path()))?;
        }
        self.sync_directories().map_err(Aborted::without_path)?;
        let outcome = TransactionOutcome { committed: true, at: seconds_since_epoch() };
        match self.dir.write_outcome(self.fs, &outcome) {
            Ok(()) => Ok(()),
            // The outcome is on disk, so the transaction is committed regardless of the error.
            Err(_) if self.is_committed() => Ok(()),
            Err(error) => Err(Aborted::without_path(system_error("failed to write the outcome to the journal")(error))),
        }
    }

    fn is_committed(&self) -> bool {
        matches!(self.dir.read_status(), Ok(TransactionStatus::Finished(_, end)) if end.committed)
    }

    /// Unlocks git's index and reports edits that are preserved in backups, after the commit.
    pub(crate) fn finish_commit(&self, report: &mut Report) {
        if let Err(error) = index_lock::unlock_index(self.target, self.fs, self.dir, self.journal) {
            report.note = Some(format!("{error}; to remove it, run `airlock recover`"));
        }
        report.late_edits = self.find_late_edits(true);
    }

    fn find_late_edits(&self, committed: bool) -> Vec<PreservedEdit> {
        find_preserved_edits(&self.op_executor(), self.dir, self.journal, committed)
    }

    /// Reverts all operations in reverse order.
    pub(crate) fn roll_back(&self, report: &mut Report) -> Result<(), Aborted> {
        let executor = self.op_executor();
        for op in self.journal.ops.iter().rev() {
            if let RevertOutcome::Skipped(reason) = executor.revert_op(op).map_err(Aborted::with_path(op.path()))? {
                report.skipped.push(SkippedRevert { path: op.path().clone(), reason });
            }
        }
        self.sync_directories().map_err(Aborted::without_path)?;
        report.late_edits = self.find_late_edits(false);
        let outcome = TransactionOutcome { committed: false, at: seconds_since_epoch() };
        let result = self
            .dir
            .write_outcome(self.fs, &outcome)
            .map_err(system_error("failed to write the outcome to the journal"));
        result.map_err(Aborted::without_path)?;
        if let Err(error) = index_lock::unlock_index(self.target, self.fs, self.dir, self.journal) {
            report.note = Some(format!("{error}; to remove it, run `airlock recover`"));
        }
        Ok(())
    }

    /// Syncs every directory that was changed to disk.
    fn sync_directories(&self) -> Result<(), HostError> {
        let sync = system_error("failed to sync a directory");
        let parents: BTreeSet<Option<RepoPath>> = self.journal.ops.iter().map(|op| op.path().parent()).collect();
        let parents: Vec<Option<RepoPath>> = parents.into_iter().collect();
        try_parallel_for_each(&parents, |parent| {
            let opened = match parent {
                None => Some(self.tree.open_root()?),
                // `open_parent` takes a path inside the directory; the name is arbitrary.
                Some(directory) => match RepoPath::from_parent(Some(directory), b"x") {
                    Ok(path) => self.tree.open_parent(&path)?.into_dir(),
                    Err(_) => None,
                },
            };
            opened.map_or(Ok(()), |opened| self.fs.sync_fd(&opened).map_err(sync))
        })?;
        self.staging.sync_areas(self.fs).map_err(sync)
    }
}

/// Finds edits that only the staging directories contain: edits that were written after the transaction finished, through
/// descriptors that were already open, and edits that the transaction preserved.
///
/// # Errors
/// A staging directory cannot be opened.
pub(crate) fn read_late_edits(
    dir: &TransactionDir,
    journal: &Journal,
    committed: bool,
    tree: &WorkingTree,
) -> Result<Vec<PreservedEdit>, HostError> {
    let staging = Staging::open(&journal.staging_areas, dir, &journal.id, tree)?;
    let fs = HostFs::default();
    // Device numbers may have changed since the journal was written.
    let executor = OpExecutor { fs: &fs, tree, staging: &staging, same_boot: false };
    Ok(find_preserved_edits(&executor, dir, journal, committed))
}

fn find_preserved_edits(
    executor: &OpExecutor<'_>,
    dir: &TransactionDir,
    journal: &Journal,
    committed: bool,
) -> Vec<PreservedEdit> {
    let edits = journal.ops.iter().filter_map(|op| {
        let (staged, name) = executor.unexpected_backup(op, committed)?;
        Some(PreservedEdit {
            path: op.path().clone(),
            file: staged_file_path(executor.tree, journal, dir, staged, &name),
        })
    });
    edits.collect()
}

/// Returns the path of a staged file or backup, for messages.
#[must_use]
pub(crate) fn staged_file_path(
    tree: &WorkingTree,
    journal: &Journal,
    dir: &TransactionDir,
    staged: StagedFile,
    name: &str,
) -> PathBuf {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    match journal.staging_areas.get(staged.area).and_then(|area| area.in_tree.as_ref()) {
        None => dir.staging_path().join(name),
        Some(InTreeDir::Root) => tree.root_path().join(IN_TREE_DIR).join(&journal.id).join(name),
        Some(InTreeDir::Directory(path)) => {
            tree.root_path().join(OsStr::from_bytes(path.as_bytes())).join(IN_TREE_DIR).join(&journal.id).join(name)
        }
    }
}
