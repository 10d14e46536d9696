//! The working tree that an apply writes to. It is locked, free of interrupted applies, and no git operation is in progress
//! in it.

use std::path::Path;

use crate::apply::{
    ApplyError, ApplyHistory, ApplyTarget, FsCapabilities, HostFs, Journal, RecoveryMode, Report, SelectionChange,
    TransactionDir, TransactionLog, TransactionStatus, WorkingTree, WorktreeFingerprint, lock_owner,
    recover_transaction, remove_leftovers, unlock_index,
};
use crate::base::read_or_create_identity;
use crate::cli::confirm::ask_yes_no;
use crate::cli::error::CliError;
use crate::cli::output::{Output, format_count};
use crate::core::escape::Escaped;
use crate::core::known::Known;
use crate::core::name::SandboxName;
use crate::core::path::RepoPath;
use crate::git::HostRepo;
use crate::platform;
use crate::sandbox::{AppliedPath, AppliedState, Sandbox, SandboxStore};
use crate::terminal;

/// A working tree to write to.
pub(crate) struct ApplyContext<'a> {
    repo: &'a HostRepo,
    pub target: ApplyTarget,
    pub fs: HostFs,
    pub log: TransactionLog,
}

impl<'a> ApplyContext<'a> {
    /// Looks up everything that an apply needs. Takes no lock and writes nothing.
    pub(crate) fn new(repo: &'a HostRepo) -> Result<Self, CliError> {
        let state = repo.common_dir.join("airlock");
        let root = WorkingTree::open(&repo.root, [].into(), FsCapabilities::default())?.root_inode()?;
        let fingerprint = WorktreeFingerprint {
            repository: read_or_create_identity(&repo.common_dir)?,
            worktree: repo.worktree_id(),
            root,
            boot_id: platform::boot_id(),
            head: repo.describe_head()?,
            index: repo.index_fingerprint()?,
        };
        let target = ApplyTarget { git_dir: repo.git_dir().to_owned(), fingerprint };
        Ok(Self { repo, target, fs: HostFs::default(), log: TransactionLog::new(&state) })
    }

    /// Opens the working tree. Of the repositories inside it, only `modules` are entered.
    pub(crate) fn open_tree(&self, modules: &[RepoPath]) -> Result<WorkingTree, CliError> {
        let (file_mode, symlinks) = self.repo.fs_capabilities()?;
        Ok(WorkingTree::open(
            &self.repo.root,
            modules.iter().cloned().collect(),
            FsCapabilities { file_mode, symlinks },
        )?)
    }

    /// Takes the lock, rolls back interrupted applies, and fails if a git operation is in progress.
    pub(crate) fn prepare_for_write(&mut self, output: Output) -> Result<(), CliError> {
        self.lock_exclusive()?;
        if let Some(operation) = self.repo.operation_in_progress().filter(|o| *o != "bisect") {
            return Err(CliError::failed(format!("a {operation} is in progress in this working tree")).with_hint(
                format!("run `git {0} --continue` or `git {0} --abort` first", operation.trim_start_matches("git ")),
            ));
        }
        for (dir, journal) in self.find_interrupted(output)? {
            if !self.is_unchanged(&dir, &journal) {
                let question = format!(
                    "An apply was interrupted, and HEAD or the index has changed since. Roll it back ({})?",
                    format_count(journal.ops.len(), "change"),
                );
                if !terminal::is_interactive() || !ask_yes_no(&question, false)? {
                    return Err(CliError::failed("an apply was interrupted, and HEAD or the index has changed since",
                    )
                    .with_hint("to roll it back, run `airlock recover --rollback`; to complete it, run `airlock recover --continue`"));
                }
            }
            self.recover_apply(&dir, &journal, RecoveryMode::RollBack, output)?;
        }
        // The interrupted apply may have changed what git reports.
        self.target.fingerprint.index = self.repo.index_fingerprint()?;
        let lock = self.target.git_dir.join("index.lock");
        if lock.symlink_metadata().is_ok() {
            return Err(ApplyError::Locked(lock).into());
        }
        Ok(())
    }

    /// Takes the exclusive lock on the working trees of this repository.
    pub(crate) fn lock_exclusive(&mut self) -> Result<(), CliError> {
        let boot = self.target.fingerprint.boot_id.clone();
        self.log.lock_exclusive(&boot).map_err(|error| {
            CliError::failed(error.to_string()).with_hint("wait for it to finish, then try again; nothing was written")
        })
    }

    /// Returns the interrupted applies of this working tree. Also removes the leftovers of applies that were not even
    /// prepared, and git's index lock if it belongs to an apply that has ended. The lock must be held.
    pub(crate) fn find_interrupted(&self, output: Output) -> Result<Vec<(TransactionDir, Journal)>, CliError> {
        let mut found = Vec::new();
        let others = self.repo.other_worktrees()?;
        let all = self.log.list_dirs()?;
        for dir in self.log.list_unfinished()? {
            if let TransactionStatus::Prepared(journal) = dir.read_status()? {
                // An apply of another working tree is recovered in that working tree.
                let is_this_worktree = journal.target.is_same_worktree(&self.target.fingerprint);
                let is_gone = !Path::new(&journal.target.worktree).exists();
                if !is_this_worktree && is_gone {
                    let staging_dir = dir.staging_path();
                    let staging_dir = Escaped::new(staging_dir.as_os_str().as_encoded_bytes()).to_string();
                    output.print_status(&format!(
                        "apply {} was interrupted in a working tree that no longer exists; the files that it replaced are in {staging_dir}",
                        dir.sequence_number()
                    ));
                } else if is_this_worktree || !others.contains(&journal.target.worktree) {
                    found.push((dir, *journal));
                }
            }
        }
        for dir in all.iter().filter(|f| !f.is_prepared()) {
            // Leftovers that cannot be removed are tried again next time.
            let _ = remove_leftovers(&self.fs, dir, &self.open_tree(&[])?);
        }
        // The index lock may belong to an apply that has ended but could not remove it.
        if let Some(id) = lock_owner(&self.target) {
            for dir in all.iter().rev() {
                if let Ok(TransactionStatus::Finished(journal, _)) = dir.read_status()
                    && journal.id == id
                {
                    unlock_index(&self.target, &self.fs, dir, &journal)?;
                }
            }
        }
        Ok(found)
    }

    /// Returns whether HEAD and the index are the same as when an apply began.
    pub(crate) fn is_unchanged(&self, dir: &TransactionDir, journal: &Journal) -> bool {
        let (now, then) = (&self.target.fingerprint, &journal.target);
        let same_index = now.index == then.index || self.repo.has_same_index(&dir.index_path()).unwrap_or(false);
        now.head == then.head && same_index
    }

    /// Reads the applied changes of a sandbox: its record, and what newer journals add. Nothing is lost if an apply or an
    /// undo is interrupted between its commit and the update of the record.
    pub(crate) fn applied_state(&self, sandbox: &Sandbox) -> Result<AppliedState, CliError> {
        let mut applied = sandbox.read_applied()?;
        let known = applied.last_apply;
        for dir in self.log.list_dirs()?.iter().filter(|f| f.sequence_number() > known) {
            let Ok(TransactionStatus::Finished(journal, end)) = dir.read_status() else { continue };
            if !end.committed || journal.sandbox_id != sandbox.record.id {
                continue;
            }
            for SelectionChange { path, after, .. } in &journal.selection {
                if after.is_empty() {
                    applied.paths.remove(path);
                } else {
                    applied
                        .paths
                        .insert(path.clone(), AppliedPath { selection: after.clone(), result: Known::Unknown });
                }
            }
            applied.last_apply = dir.sequence_number();
        }
        Ok(applied)
    }

    /// Updates the record of a sandbox, if it still exists, with its changes that are now in the working tree. A sandbox in
    /// use is skipped, because it reads the journals itself.
    pub(crate) fn record_applied(&self, sandbox: &str) -> Result<(), CliError> {
        let Ok(name) = sandbox.parse::<SandboxName>() else { return Ok(()) };
        let Some(mut sandbox) = SandboxStore::new(&self.repo.common_dir).open(&name)? else { return Ok(()) };
        if sandbox.acquire_lock().is_err() {
            return Ok(());
        }
        sandbox.write_applied(&self.applied_state(&sandbox)?)?;
        // What is applied is counted again by the next review or apply.
        let (decided_at, progress) = (sandbox.record.decided_at.take(), sandbox.record.progress.take());
        if decided_at.is_some() || progress.is_some() {
            sandbox.save_record()?;
        }
        Ok(())
    }

    /// Returns whether a sandbox still exists.
    pub(crate) fn has_sandbox(&self, sandbox: &str) -> bool {
        let name = sandbox.parse::<SandboxName>().ok();
        name.is_some_and(|name| SandboxStore::new(&self.repo.common_dir).open(&name).is_ok_and(|found| found.is_some()))
    }

    /// Recovers an interrupted apply, and prints the result.
    pub(crate) fn recover_apply(
        &self,
        dir: &TransactionDir,
        journal: &Journal,
        mode: RecoveryMode,
        output: Output,
    ) -> Result<(), CliError> {
        let tree = self.open_tree(&journal.modules)?;
        let report = recover_transaction(&self.target, &self.fs, &tree, dir, journal, mode)?;
        if mode == RecoveryMode::RollForward {
            self.record_applied(&journal.sandbox)?;
        }
        let done = match mode {
            RecoveryMode::RollBack => "was interrupted; rolling back",
            RecoveryMode::RollForward => "was interrupted; completing",
        };
        output.print_status(&format!("apply {} of {} {done}", dir.sequence_number(), Escaped::new(&journal.sandbox)));
        print_report(&report, output);
        Ok(())
    }
}

/// Prints what happened to the user's own edits, and other notes of a report.
pub(crate) fn print_report(report: &Report, output: Output) {
    for skipped in &report.skipped {
        output.print_status(&format!("{} was not changed: {}", Escaped::new(skipped.path.as_bytes()), skipped.reason));
    }
    for edit in &report.late_edits {
        let file = Escaped::new(edit.file.as_os_str().as_encoded_bytes()).to_string();
        output.print_status(&format!("another version of {} is kept in {file}", Escaped::new(edit.path.as_bytes())));
    }
    if report.is_non_atomic {
        output.print_status(
            "this file system cannot exchange two files atomically, so each replaced path was missing for a moment (no \
             data was lost)",
        );
    }
    if let Some(note) = &report.note {
        output.print_status(&Escaped::new(note).to_string());
    }
}

/// Prints the report of a rollback, and returns the error.
pub(crate) fn report_apply_error(problem: ApplyError, output: Output) -> CliError {
    if let ApplyError::RolledBack { report, .. } | ApplyError::Interrupted(report) = &problem {
        print_report(report, output);
    }
    problem.into()
}

/// Warns about interrupted applies. Nothing is written, because a shell prompt may run the command.
pub(crate) fn warn_interrupted(repo: &HostRepo, output: Output) {
    let log = TransactionLog::new(&repo.common_dir.join("airlock"));
    let unfinished = log.list_unfinished().unwrap_or_default();
    // While the lock is held, the apply is still in progress.
    if unfinished.is_empty() || log.is_locked() {
        return;
    }
    for dir in unfinished {
        let elsewhere = match dir.read_status() {
            Ok(TransactionStatus::Prepared(journal)) => {
                Some(journal.target.worktree).filter(|there| *there != repo.worktree_id())
            }
            _ => None,
        };
        match elsewhere.filter(|there| Path::new(there).exists()) {
            None => output.print_status("an apply was interrupted; to roll it back, run `airlock recover`"),
            Some(there) => output.print_status(&format!(
                "an apply was interrupted in {0}; to roll it back, run `airlock recover` there",
                Escaped::new(&there)
            )),
        }
    }
}

/// Reads all applies. A damaged journal is an error.
pub(crate) fn load_history(log: &TransactionLog) -> Result<ApplyHistory, CliError> {
    let history = ApplyHistory::read_from(log)?;
    match history.damaged.into_iter().next() {
        Some(error) => Err(error.into()),
        None => Ok(ApplyHistory { damaged: Vec::new(), ..history }),
    }
}
