//! The working tree that an apply writes to. It is locked, free of interrupted applies, and no git operation is in progress
//! in it.

use std::path::Path;

use crate::apply::{
    ApplyError, ApplyHistory, ApplyTarget, FsCapabilities, HostError, HostFs, Journal, JournalError, RecoveryMode,
    Report, TransactionDir, TransactionLog, TransactionStatus, WorkingTree, WorktreeFingerprint, lock_owner,
    recover_transaction, remove_leftovers, unlock_index,
};
use crate::base::identity;
use crate::cli::confirm::confirm;
use crate::cli::error::{CliError, FAILED, INTERRUPTED, STALE};
use crate::cli::output::{Output, count, shell_word};
use crate::core::escape::Escaped;
use crate::core::name::SandboxName;
use crate::core::path::RepoPath;
use crate::git::HostRepo;
use crate::sandbox::{AppliedPath, AppliedState, Sandbox, Store};
use crate::terminal;

/// The file with the kernel's boot ID.
const BOOT: &str = "/proc/sys/kernel/random/boot_id";

/// A working tree to write to.
pub struct ApplyContext<'a> {
    repo: &'a HostRepo,
    pub site: ApplyTarget,
    pub disk: HostFs,
    pub applies: TransactionLog,
}

impl<'a> ApplyContext<'a> {
    /// Looks up everything that an apply needs. Takes no lock and writes nothing.
    pub fn of(repo: &'a HostRepo) -> Result<Self, CliError> {
        let state = repo.common_dir.join("airlock");
        let root = WorkingTree::open(&repo.root, [].into(), FsCapabilities::default())?.identity()?;
        let mark = WorktreeFingerprint {
            repository: identity(&repo.common_dir)?,
            worktree: repo.worktree_id(),
            root,
            boot_id: std::fs::read_to_string(BOOT).map(|id| id.trim().to_owned()).unwrap_or_default(),
            head: repo.head()?,
            index: repo.index_mark()?,
        };
        let site = ApplyTarget { git_dir: repo.git_dir().to_owned(), fingerprint: mark };
        Ok(Self { repo, site, disk: HostFs::default(), applies: TransactionLog::of(&state) })
    }

    /// Opens the working tree. Of the repositories inside it, only `modules` are entered.
    pub fn tree(&self, modules: &[RepoPath]) -> Result<WorkingTree, CliError> {
        let (file_mode, symlinks) = self.repo.habits()?;
        Ok(WorkingTree::open(
            &self.repo.root,
            modules.iter().cloned().collect(),
            FsCapabilities { file_mode, symlinks },
        )?)
    }

    /// Takes the lock, rolls back interrupted applies, and fails if a git operation is in progress.
    pub fn prepare(&mut self, output: Output) -> Result<(), CliError> {
        self.lock()?;
        if let Some(operation) = self.repo.operation().filter(|o| *o != "bisect") {
            return Err(CliError::new(FAILED, format!("a {operation} is in progress in this working tree"))
                .hint(format!("end it first: git {} --continue, or --abort", operation.trim_start_matches("git "))));
        }
        for (folder, journal) in self.cut_off(output)? {
            if !self.is_unchanged(&folder, &journal) {
                let question = format!(
                    "An apply was interrupted, and HEAD or the index has changed since. Roll back what it wrote ({})?",
                    count(journal.ops.len(), "change"),
                );
                if !terminal::is_interactive() || !confirm(&question, false)? {
                    return Err(CliError::new(
                        FAILED,
                        "an apply was interrupted, and HEAD or the index has changed since",
                    )
                    .hint("airlock recover --rollback reverts it, airlock recover --continue completes it"));
                }
            }
            self.finish(&folder, &journal, RecoveryMode::RollBack, output)?;
        }
        // The interrupted apply may have changed what git reports.
        self.site.fingerprint.index = self.repo.index_mark()?;
        let lock = self.site.git_dir.join("index.lock");
        if lock.symlink_metadata().is_ok() {
            return Err(ApplyError::Locked(lock).into());
        }
        Ok(())
    }

    /// Takes the exclusive lock on the working trees of this repository.
    pub fn lock(&mut self) -> Result<(), CliError> {
        let boot = self.site.fingerprint.boot_id.clone();
        self.applies.lock_exclusive(&boot).map_err(|error| {
            CliError::new(FAILED, error.to_string()).hint("wait for it to end, and try again: nothing was written")
        })
    }

    /// Returns the interrupted applies of this working tree. Also removes the leftovers of applies that were not even
    /// prepared, and git's index lock if it belongs to an apply that has ended. The lock must be held.
    pub fn cut_off(&self, output: Output) -> Result<Vec<(TransactionDir, Journal)>, CliError> {
        let mut found = Vec::new();
        let others = self.repo.other_worktrees()?;
        let all = self.applies.list_dirs()?;
        for folder in self.applies.list_unfinished()? {
            if let TransactionStatus::Prepared(journal) = folder.read_status()? {
                // An apply of another working tree is recovered in that working tree.
                let here = journal.target.is_same_worktree(&self.site.fingerprint);
                let gone = !Path::new(&journal.target.worktree).exists();
                if !here && gone {
                    let slots = folder.staging_path();
                    let slots = Escaped::new(slots.as_os_str().as_encoded_bytes()).to_string();
                    output.say(&format!(
                        "apply {} of a working tree that is gone was interrupted; what it replaced is in {slots}",
                        folder.number()
                    ));
                } else if here || !others.contains(&journal.target.worktree) {
                    found.push((folder, *journal));
                }
            }
        }
        for folder in all.iter().filter(|f| !f.is_prepared()) {
            // Leftovers that cannot be removed are tried again next time.
            let _ = remove_leftovers(&self.disk, folder, &self.tree(&[])?);
        }
        // The index lock may belong to an apply that has ended but could not remove it.
        if let Some(id) = lock_owner(&self.site) {
            for folder in all.iter().rev() {
                if let Ok(TransactionStatus::Finished(journal, _)) = folder.read_status()
                    && journal.id == id
                {
                    unlock_index(&self.site, &self.disk, folder, &journal)?;
                }
            }
        }
        Ok(found)
    }

    /// Returns whether HEAD and the index are the same as when an apply began.
    pub fn is_unchanged(&self, folder: &TransactionDir, journal: &Journal) -> bool {
        let (now, then) = (&self.site.fingerprint, &journal.target);
        let same_index = now.index == then.index || self.repo.has_same_index(&folder.index()).unwrap_or(false);
        now.head == then.head && same_index
    }

    /// Reads the applied changes of a sandbox: its record, and what newer journals add. Nothing is lost if an apply or an
    /// undo is interrupted between its commit and the update of the record.
    pub fn applied_state(&self, sandbox: &Sandbox) -> Result<AppliedState, CliError> {
        let mut applied = sandbox.applied()?;
        let known = applied.through;
        for folder in self.applies.list_dirs()?.iter().filter(|f| f.number() > known) {
            let Ok(TransactionStatus::Finished(journal, end)) = folder.read_status() else { continue };
            if !end.committed || journal.sandbox_id != sandbox.record.id {
                continue;
            }
            for (path, _, after) in &journal.selection {
                if after.is_empty() {
                    applied.paths.remove(path);
                } else {
                    applied.paths.insert(path.clone(), AppliedPath { picks: after.clone(), left: None });
                }
            }
            applied.through = folder.number();
        }
        Ok(applied)
    }

    /// Updates the record of a sandbox, if it still exists, with its changes that are now in the working tree. A sandbox in
    /// use is skipped, because it reads the journals itself.
    pub fn record_applied(&self, sandbox: &str) -> Result<(), CliError> {
        let Ok(name) = sandbox.parse::<SandboxName>() else { return Ok(()) };
        let Some(mut sandbox) = Store::of(&self.repo.common_dir).open(&name)? else { return Ok(()) };
        if sandbox.lock().is_err() {
            return Ok(());
        }
        sandbox.set_applied(&self.applied_state(&sandbox)?)?;
        if sandbox.record.settled.take().is_some() {
            sandbox.save()?;
        }
        Ok(())
    }

    /// Returns whether a sandbox still exists.
    pub fn has(&self, sandbox: &str) -> bool {
        let name = sandbox.parse::<SandboxName>().ok();
        name.is_some_and(|name| Store::of(&self.repo.common_dir).open(&name).is_ok_and(|found| found.is_some()))
    }

    /// Recovers an interrupted apply, and prints the result.
    pub fn finish(
        &self,
        folder: &TransactionDir,
        journal: &Journal,
        way: RecoveryMode,
        output: Output,
    ) -> Result<(), CliError> {
        let tree = self.tree(&journal.modules)?;
        let report = recover_transaction(&self.site, &self.disk, &tree, folder, journal, way)?;
        if way == RecoveryMode::RollForward {
            self.record_applied(&journal.sandbox)?;
        }
        let done = match way {
            RecoveryMode::RollBack => "was interrupted; rolling back",
            RecoveryMode::RollForward => "was interrupted; completing",
        };
        output.say(&format!("apply {} of {} {done}", folder.number(), Escaped::new(&journal.sandbox)));
        tell(&report, output);
        Ok(())
    }
}

/// Prints what happened to the user's own edits, and other notes of a report.
pub fn tell(report: &Report, output: Output) {
    for left in &report.skipped {
        output.say(&format!("{} is left as it is: {}", Escaped::new(left.path.as_bytes()), left.reason));
    }
    for kept in &report.late_edits {
        let file = Escaped::new(kept.file.as_os_str().as_encoded_bytes()).to_string();
        output.say(&format!("another version of {} is kept in {file}", Escaped::new(kept.path.as_bytes())));
    }
    if report.is_non_atomic {
        output.say(
            "this file system cannot exchange two files at once: each replaced path was missing for a moment (nothing \
             can be lost by that)",
        );
    }
    if let Some(note) = &report.note {
        output.say(&Escaped::new(note).to_string());
    }
}

/// Prints the report of a rollback, and returns the error.
pub fn told(problem: ApplyError, output: Output) -> CliError {
    if let ApplyError::RolledBack { report, .. } | ApplyError::Interrupted(report) = &problem {
        tell(report, output);
    }
    problem.into()
}

/// Warns about interrupted applies. Nothing is written, because a shell prompt may run the command.
pub fn warn(repo: &HostRepo, output: Output) {
    let applies = TransactionLog::of(&repo.common_dir.join("airlock"));
    let unfinished = applies.list_unfinished().unwrap_or_default();
    // While the lock is held, the apply is still in progress.
    if unfinished.is_empty() || applies.is_locked() {
        return;
    }
    for folder in unfinished {
        let elsewhere = match folder.read_status() {
            Ok(TransactionStatus::Prepared(journal)) => {
                Some(journal.target.worktree).filter(|there| *there != repo.worktree_id())
            }
            _ => None,
        };
        match elsewhere.filter(|there| Path::new(there).exists()) {
            None => output.say("an apply was interrupted; run airlock recover to roll it back"),
            Some(there) => {
                output.say(&format!("an apply was interrupted in {0}; run airlock recover there", Escaped::new(&there)))
            }
        }
    }
}

/// Reads all applies. A damaged journal is an error.
pub fn history(applies: &TransactionLog) -> Result<ApplyHistory, CliError> {
    let history = ApplyHistory::of(applies)?;
    match history.damaged.into_iter().next() {
        Some(error) => Err(error.into()),
        None => Ok(ApplyHistory { damaged: Vec::new(), ..history }),
    }
}

impl From<JournalError> for CliError {
    fn from(error: JournalError) -> Self {
        let path = match &error {
            JournalError::Damaged { path, .. } | JournalError::Io { path, .. } => path.clone(),
        };
        let folder = path.parent().unwrap_or(&path);
        let advice = format!(
            "look at what is in {0}/slots (numbered files: what was to be written, or what was replaced), then move it away: mv {1} {1}.damaged",
            folder.display(),
            shell_word(folder.as_os_str().as_encoded_bytes()),
        );
        Self::new(FAILED, format!("{error}; nothing was written")).hint(advice)
    }
}

impl From<HostError> for CliError {
    fn from(error: HostError) -> Self {
        Self::new(exit(&error), error.to_string())
    }
}

fn as_it_was(report: &Report) -> &'static str {
    if report.skipped.is_empty() { "all is as it was" } else { "all is as it was, but for what is said above" }
}

fn exit(error: &HostError) -> u8 {
    match error {
        HostError::Stale => STALE,
        HostError::Interrupted => INTERRUPTED,
        HostError::Io { .. } | HostError::Git(_) | HostError::InterruptedApply => FAILED,
    }
}

impl From<ApplyError> for CliError {
    fn from(problem: ApplyError) -> Self {
        let text = |path: &Option<RepoPath>, error: &HostError| match path {
            Some(path) => format!("failed to write {}: {error}", String::from_utf8_lossy(path.as_bytes())),
            None => error.to_string(),
        };
        match &problem {
            ApplyError::NotStarted { path, error } => {
                Self::new(exit(error), format!("{}; nothing was written", text(path, error)))
            }
            ApplyError::RolledBack { path, error, report } => {
                let failure = Self::new(exit(error), format!("{}; {}", text(path, error), as_it_was(report)));
                if exit(error) == STALE {
                    failure.hint("run the same command again to look at the tree again")
                } else {
                    failure
                }
            }
            ApplyError::Interrupted(report) => Self::new(INTERRUPTED, format!("interrupted; {}", as_it_was(report))),
            ApplyError::RollbackFailed { path, error, then, there } => {
                let there = there.as_ref().map_or_else(String::new, |p| {
                    format!("{}: ", String::from_utf8_lossy(p.as_bytes()))
                });
                Self::new(FAILED, format!("{}; rolling back failed as well: {there}{then}", text(path, error)))
                    .hint("fix that, then run airlock recover; nothing is lost")
            }
            ApplyError::Locked(lock) => Self::new(FAILED, problem.to_string()).hint(format!(
                "wait for git to end; if none runs: rm {}",
                shell_word(lock.as_os_str().as_encoded_bytes())
            )),
            ApplyError::WrongWorktree(folder, _) => Self::new(FAILED, format!("{problem}; nothing was written")).hint(format!(
                "go there and finish it: airlock recover; if this repository is a copy, move the folder away: mv {0} {0}.foreign",
                shell_word(folder.as_os_str().as_encoded_bytes())
            )),
        }
    }
}
