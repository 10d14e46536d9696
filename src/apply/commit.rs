//! Commits or rolls back a prepared transaction.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::exec::{OpExecutor, RevertOutcome};
use super::host_error::{HostError, system_error};
use super::host_fs::HostFs;
use super::index_lock;
use super::journal::{InTreeDir, Journal, StagedFile, TransactionOutcome, TransactionStatus};
use super::names::IN_TREE;
use super::report::{ApplyTarget, PreservedEdit, Report, SkippedRevert};
use super::staging::{Staging, try_parallel_for_each};
use super::transaction_log::{TransactionDir, seconds_since_epoch};
use super::working_tree::WorkingTree;
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
    pub(crate) site: &'a ApplyTarget,
    pub(crate) disk: &'a HostFs,
    pub(crate) tree: &'a WorkingTree,
    pub(crate) folder: &'a TransactionDir,
    pub(crate) journal: &'a Journal,
    pub(crate) slots: &'a Staging,
    pub(crate) same_boot: bool,
}

impl PreparedTransaction<'_> {
    fn executor(&self) -> OpExecutor<'_> {
        OpExecutor { disk: self.disk, tree: self.tree, slots: self.slots, same_boot: self.same_boot }
    }

    /// Locks git's index. Succeeds if the transaction already holds the lock.
    pub(crate) fn lock_index(&self) -> Result<(), HostError> {
        index_lock::take_lock(self.site, self.disk, self.folder, self.journal)
    }

    /// Executes all operations and commits.
    pub(crate) fn commit(&self, interrupted: &dyn Fn() -> bool) -> Result<(), Aborted> {
        self.lock_index().map_err(Aborted::without_path)?;
        let hands = self.executor();
        for act in &self.journal.ops {
            if interrupted() {
                return Err(Aborted { path: None, error: None });
            }
            hands.execute_op(act).map_err(Aborted::with_path(act.path()))?;
        }
        self.sync_directories().map_err(Aborted::without_path)?;
        let end = TransactionOutcome { committed: true, at: seconds_since_epoch() };
        match self.folder.write_outcome(self.disk, &end) {
            Ok(()) => Ok(()),
            // The outcome is on disk, so the transaction is committed regardless of the error.
            Err(_) if self.is_committed() => Ok(()),
            Err(error) => Err(Aborted::without_path(system_error("failed to write the end of the journal")(error))),
        }
    }

    fn is_committed(&self) -> bool {
        matches!(self.folder.read_status(), Ok(TransactionStatus::Finished(_, end)) if end.committed)
    }

    /// Unlocks git's index and reports edits that are preserved in backups, after the commit.
    pub(crate) fn report_late_edits(&self, report: &mut Report) {
        if let Err(error) = index_lock::unlock_index(self.site, self.disk, self.folder, self.journal) {
            report.note = Some(format!("{error}; airlock recover removes it"));
        }
        report.late_edits = self.find_late_edits(true);
    }

    fn find_late_edits(&self, committed: bool) -> Vec<PreservedEdit> {
        find_preserved_edits(&self.executor(), self.folder, self.journal, committed)
    }

    /// Reverts all operations in reverse order.
    pub(crate) fn roll_back(&self, report: &mut Report) -> Result<(), Aborted> {
        let hands = self.executor();
        for act in self.journal.ops.iter().rev() {
            if let RevertOutcome::Skipped(reason) = hands.revert_op(act).map_err(Aborted::with_path(act.path()))? {
                report.skipped.push(SkippedRevert { path: act.path().clone(), reason });
            }
        }
        self.sync_directories().map_err(Aborted::without_path)?;
        report.late_edits = self.find_late_edits(false);
        let end = TransactionOutcome { committed: false, at: seconds_since_epoch() };
        let ended =
            self.folder.write_outcome(self.disk, &end).map_err(system_error("failed to write the end of the journal"));
        ended.map_err(Aborted::without_path)?;
        if let Err(error) = index_lock::unlock_index(self.site, self.disk, self.folder, self.journal) {
            report.note = Some(format!("{error}; airlock recover removes it"));
        }
        Ok(())
    }

    /// Syncs every directory that was changed to disk.
    fn sync_directories(&self) -> Result<(), HostError> {
        let sync = system_error("failed to write a directory to disk");
        let parents: BTreeSet<Option<RepoPath>> = self.journal.ops.iter().map(|act| act.path().parent()).collect();
        let parents: Vec<Option<RepoPath>> = parents.into_iter().collect();
        try_parallel_for_each(&parents, |parent| {
            let opened = match parent {
                None => Some(self.tree.open_root()?),
                // `open_parent` takes a path inside the directory; the name is arbitrary.
                Some(directory) => match RepoPath::child(Some(directory), b"x") {
                    Ok(path) => self.tree.open_parent(&path)?.into_dir(),
                    Err(_) => None,
                },
            };
            opened.map_or(Ok(()), |opened| self.disk.sync_fd(&opened).map_err(sync))
        })?;
        self.slots.sync_areas(self.disk).map_err(sync)
    }
}

/// Finds edits that only the staging directories contain: edits that were written after the transaction finished, through
/// descriptors that were already open, and edits that the transaction preserved.
///
/// # Errors
/// A staging directory cannot be opened.
pub fn late_edits(
    folder: &TransactionDir,
    journal: &Journal,
    committed: bool,
    tree: &WorkingTree,
) -> Result<Vec<PreservedEdit>, HostError> {
    let slots = Staging::open(&journal.staging_areas, folder, &journal.id, tree)?;
    let disk = HostFs::default();
    // Device numbers may have changed since the journal was written.
    let hands = OpExecutor { disk: &disk, tree, slots: &slots, same_boot: false };
    Ok(find_preserved_edits(&hands, folder, journal, committed))
}

fn find_preserved_edits(
    hands: &OpExecutor<'_>,
    folder: &TransactionDir,
    journal: &Journal,
    committed: bool,
) -> Vec<PreservedEdit> {
    let kept = journal.ops.iter().filter_map(|act| {
        let (slot, name) = hands.unexpected_backup(act, committed)?;
        Some(PreservedEdit {
            path: act.path().clone(),
            file: staged_file_path(hands.tree, journal, folder, slot, &name),
        })
    });
    kept.collect()
}

/// Returns the path of a staged file or backup, for messages.
#[must_use]
pub fn staged_file_path(
    tree: &WorkingTree,
    journal: &Journal,
    folder: &TransactionDir,
    slot: StagedFile,
    name: &str,
) -> PathBuf {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    match journal.staging_areas.get(slot.area).and_then(|place| place.in_tree.as_ref()) {
        None => folder.staging_path().join(name),
        Some(InTreeDir::Root) => tree.path().join(IN_TREE).join(&journal.id).join(name),
        Some(InTreeDir::Directory(path)) => {
            tree.path().join(OsStr::from_bytes(path.as_bytes())).join(IN_TREE).join(&journal.id).join(name)
        }
    }
}
