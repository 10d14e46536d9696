//! Plans the undo of a committed apply, as a separate transaction. The replaced content is requested with the written
//! content as the base, so that later changes by the user are merged or are a conflict, and are never lost.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use rustix::fs::{Mode, OFlags};

use super::entry_content::EntryContent;
use super::host_error::HostError;
use super::journal::{
    FileIdentity, Journal, JournalError, Op, StagedFile, TransactionKind, TransactionOutcome, TransactionStatus,
    WorktreeFingerprint,
};
use super::names::CONTENTS_DIR;
use super::plan::PlanOptions;
use super::request::{AttrSource, BlobStore, EarlierUnits, PathRequest, RenameRequest};
use super::staging::Staging;
use super::transaction_log::{TransactionDir, TransactionLog};
use super::working_tree::{DIR_FLAGS, PathState, WorkingTree, observe_in};
use crate::changes::{ContentHash, Selection};
use crate::core::known::Known;
use crate::core::on_conflict::OnConflict;
use crate::core::path::RepoPath;

/// A finished transaction.
#[derive(Debug, Clone)]
pub struct FinishedTransaction {
    pub dir: TransactionDir,
    pub journal: Journal,
    pub outcome: TransactionOutcome,
    /// Whether the transaction has been undone.
    pub undone: bool,
}

/// All transactions of a repository.
#[derive(Debug, Default)]
pub struct ApplyHistory {
    /// Finished transactions, oldest first.
    pub finished: Vec<FinishedTransaction>,
    /// Unfinished transactions.
    pub unfinished: Vec<(TransactionDir, Journal)>,
    /// The errors of transactions whose files are damaged.
    pub damaged: Vec<JournalError>,
}

impl ApplyHistory {
    /// Reads all transactions of a log.
    ///
    /// # Errors
    /// The log directory cannot be read.
    pub fn read_from(log: &TransactionLog) -> io::Result<Self> {
        let mut history = Self::default();
        for dir in log.list_dirs()? {
            match dir.read_status() {
                // The working tree is unchanged.
                Ok(TransactionStatus::Staging) => {}
                Ok(TransactionStatus::Prepared(journal)) => history.unfinished.push((dir, *journal)),
                Ok(TransactionStatus::Finished(journal, outcome)) => {
                    history.finished.push(FinishedTransaction { dir, journal: *journal, outcome, undone: false });
                }
                Err(error) => history.damaged.push(error),
            }
        }
        let undone: BTreeSet<String> = (history.finished.iter().filter(|p| p.outcome.committed))
            .filter_map(|p| match &p.journal.kind {
                TransactionKind::Undo(id) => Some(id.clone()),
                TransactionKind::Apply => None,
            })
            .collect();
        for transaction in &mut history.finished {
            transaction.undone = undone.contains(&transaction.journal.id);
        }
        Ok(history)
    }

    /// Returns the last apply in this working tree that can be undone, optionally of one sandbox.
    #[must_use]
    pub fn find_last_undoable(
        &self,
        worktree: &WorktreeFingerprint,
        sandbox: Option<&str>,
    ) -> Option<&FinishedTransaction> {
        let matches = |p: &&FinishedTransaction| {
            p.is_undoable() && p.is_in_worktree(worktree) && sandbox.is_none_or(|s| s == p.journal.sandbox)
        };
        self.finished.iter().rev().find(matches)
    }
}

impl FinishedTransaction {
    /// Returns whether the transaction was in this working tree, which may have been moved since.
    #[must_use]
    pub fn is_in_worktree(&self, worktree: &WorktreeFingerprint) -> bool {
        self.journal.target.is_same_worktree(worktree)
    }

    /// Returns whether this is a committed apply that has not been undone.
    #[must_use]
    pub fn is_undoable(&self) -> bool {
        self.journal.kind == TransactionKind::Apply && self.outcome.committed && !self.undone
    }
}

/// The inputs for planning an undo.
pub struct Undo {
    /// The requests that restore the replaced content.
    pub requests: Vec<PathRequest>,
    pub options: PlanOptions,
    /// The store of the replaced content.
    pub blobs: Backups,
    /// Paths whose backup was written to after the apply. The edited backup is restored.
    pub late_edits: Vec<RepoPath>,
}

/// An error from preparing an undo.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// A backup is missing, or is not a file.
    #[error("the backup of {0:?} is missing")]
    Gone(RepoPath),
    /// An error from opening or reading the backups.
    #[error(transparent)]
    Host(#[from] HostError),
    /// An I/O error.
    #[error("failed to read the backups: {0}")]
    Io(#[from] io::Error),
}

impl Undo {
    /// Prepares the undo of an apply.
    pub fn from_transaction(transaction: &FinishedTransaction, tree: &WorkingTree) -> Result<Self, UndoError> {
        let FinishedTransaction { dir, journal, .. } = transaction;
        let staging = Staging::open(&journal.staging_areas, dir, &journal.id, tree)?;
        let mut undo = Self {
            requests: Vec::new(),
            options: PlanOptions {
                on_conflict: OnConflict::Abort,
                removable_dirs: Some(BTreeSet::new()),
                is_trusted: true,
                ..PlanOptions::default()
            },
            blobs: Backups::open(dir)?,
            late_edits: Vec::new(),
        };
        let before: BTreeMap<&RepoPath, &Selection> =
            journal.selection.iter().map(|change| (&change.path, &change.before)).collect();
        let picks = |path: &RepoPath| before.get(path).copied().cloned().unwrap_or_default();
        let make_request = |path: &RepoPath,
                            base: Option<&EntryContent>,
                            theirs: Option<EntryContent>,
                            attrs_from: Option<AttrSource>| PathRequest {
            path: path.clone(),
            rename: None,
            earlier_paths: Vec::new(),
            base: base.cloned(),
            theirs,
            last_applied: base.cloned(),
            pristine: base.cloned(),
            alternate_bases: Vec::new(),
            superseded: Selection::default(),
            earlier_units: EarlierUnits::None,
            is_made_executable: false,
            is_deleted: false,
            reapply: false,
            fully_applied_result: Known::Unknown,
            attrs_from_if_mode: None,
            selection: picks(path),
            attrs_from,
        };
        let case_renames: BTreeMap<&RepoPath, &RepoPath> = (journal.ops.iter())
            .filter_map(|op| match op {
                Op::CaseRename { from, to } => Some((to, from)),
                _ => None,
            })
            .collect();
        let moved: BTreeMap<&RepoPath, (&RepoPath, &FileIdentity)> = (journal.ops.iter())
            .filter_map(|op| match op {
                Op::Write { path, after, moved_from: Some(from), .. } => Some((from, (path, after))),
                _ => None,
            })
            // If the user has moved or deleted the new file, the old one is restored from its backup.
            .filter(|(_, (path, _))| matches!(tree.classify_path(path), Ok(PathState::File(_))))
            .collect();
        for op in &journal.ops {
            match op {
                // Moved back by the request for its old path.
                Op::Write { moved_from: Some(_), .. } => {}
                Op::MakeDirectory { path, .. } => {
                    undo.options.removable_dirs.get_or_insert_default().insert(path.clone());
                }
                Op::RemoveDirectory { path, staged } => {
                    undo.options.dir_attrs.insert(path.clone(), attr_source(&staging, *staged, staged.file_name()));
                }
                Op::CaseRename { .. } => {}
                Op::Write { path, before: None, after, .. } => {
                    undo.requests.push(make_request(path, Some(&after.version), None, None));
                }
                Op::Write { path, staged, before: Some(before), after, .. } => {
                    let name = if staging.can_exchange(*staged) { staged.file_name() } else { staged.backup_name() };
                    let old = undo.find_backup(&staging, *staged, &name, path, &before.version)?;
                    match case_renames.get(path) {
                        None => {
                            let attrs_from = attr_source(&staging, *staged, name);
                            let request = make_request(path, Some(&after.version), Some(old), Some(attrs_from));
                            undo.requests.push(PathRequest { attrs_from_if_mode: Some(after.mode), ..request });
                        }
                        Some(from) => {
                            undo.requests.push(make_request(path, Some(&after.version), None, None));
                            undo.requests.push(make_request(
                                from,
                                None,
                                Some(old),
                                Some(attr_source(&staging, *staged, name)),
                            ));
                        }
                    }
                }
                Op::Delete { path, staged, before } => {
                    let old = undo.find_backup(&staging, *staged, &staged.file_name(), path, &before.version)?;
                    let attrs_from = Some(attr_source(&staging, *staged, staged.file_name()));
                    let request = match moved.get(path) {
                        None => make_request(path, None, Some(old), attrs_from),
                        Some((new_path, after)) => PathRequest {
                            rename: Some(RenameRequest { old_path: (*new_path).clone(), is_applied: false }),
                            attrs_from_if_mode: Some(after.mode),
                            ..make_request(path, Some(&after.version), Some(old), attrs_from)
                        },
                    };
                    undo.requests.push(request);
                }
            }
        }
        Ok(undo)
    }

    /// Observes a backup and registers its content.
    fn find_backup(
        &mut self,
        staging: &Staging,
        staged: StagedFile,
        name: &str,
        path: &RepoPath,
        before: &EntryContent,
    ) -> Result<EntryContent, UndoError> {
        let at = staging.entry_ref(staged, name);
        let PathState::File(observed) = observe_in(at.directory, at.name)? else {
            return Err(UndoError::Gone(path.clone()));
        };
        if observed.version != *before {
            self.late_edits.push(path.clone());
        }
        self.blobs.insert(&observed.version.hash, attr_source(staging, staged, name.to_owned()));
        Ok(observed.version)
    }
}

fn attr_source(staging: &Staging, staged: StagedFile, name: String) -> AttrSource {
    AttrSource { dir: staging.area_dir(staged), name }
}

/// The content of an apply's backups.
#[derive(Debug)]
pub struct Backups {
    files: BTreeMap<ContentHash, AttrSource>,
    contents_dir: Option<OwnedFd>,
    created: Mutex<BTreeMap<ContentHash, Vec<u8>>>,
}

impl Backups {
    fn open(dir: &TransactionDir) -> io::Result<Self> {
        let written = rustix::fs::openat(dir.open_dir()?, CONTENTS_DIR, DIR_FLAGS, Mode::empty()).ok();
        Ok(Self { files: BTreeMap::new(), contents_dir: written, created: Mutex::default() })
    }

    fn insert(&mut self, hash: &ContentHash, file: AttrSource) {
        self.files.insert(hash.clone(), file);
    }
}

impl BlobStore for Backups {
    fn read_blob(&self, hash: &ContentHash) -> io::Result<Vec<u8>> {
        if let Some(created) = self.created.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(hash) {
            return Ok(created.clone());
        }
        let content = match (self.files.get(hash), &self.contents_dir) {
            (Some(file), _) => read_backup(&file.dir, &file.name)?,
            (None, Some(written)) => read_backup(written, &hash.to_string())?,
            (None, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        if ContentHash::from_content(&content) == *hash {
            Ok(content)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("the backup {hash} is damaged")))
        }
    }

    fn write_blob(&self, bytes: &[u8]) -> io::Result<ContentHash> {
        let hash = ContentHash::from_content(bytes);
        let mut created = self.created.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        created.insert(hash.clone(), bytes.to_vec());
        Ok(hash)
    }
}

/// Reads a file, or a symlink's target.
fn read_backup(dir: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(dir, OsStr::new(name), flags, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => Ok(rustix::fs::readlinkat(dir, OsStr::new(name), Vec::new())?.into_bytes()),
        opened => {
            let mut content = Vec::new();
            File::from(opened?).read_to_end(&mut content)?;
            Ok(content)
        }
    }
}
