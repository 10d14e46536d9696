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
    Journal, JournalError, Kind, Op, StagedFile, TransactionOutcome, TransactionStatus, WorktreeFingerprint,
};
use super::names::CONTENTS;
use super::plan::PlanOptions;
use super::request::{AttrSource, BlobStore, PathRequest};
use super::staging::Staging;
use super::step::OnConflict;
use super::transaction_log::{TransactionDir, TransactionLog};
use super::working_tree::{DIRECTORY, PathState, WorkingTree, observe_in};
use crate::changes::{ContentHash, Selection};
use crate::core::path::RepoPath;

/// A finished transaction.
#[derive(Debug, Clone)]
pub struct AppliedTransaction {
    pub folder: TransactionDir,
    pub journal: Journal,
    pub end: TransactionOutcome,
    /// Whether the transaction has been undone.
    pub undone: bool,
}

/// All transactions of a repository.
#[derive(Debug, Default)]
pub struct ApplyHistory {
    /// Finished transactions, oldest first.
    pub past: Vec<AppliedTransaction>,
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
    pub fn of(applies: &TransactionLog) -> io::Result<Self> {
        let mut found = Self::default();
        for folder in applies.list_dirs()? {
            match folder.read_status() {
                // The working tree is unchanged.
                Ok(TransactionStatus::Staging) => {}
                Ok(TransactionStatus::Prepared(journal)) => found.unfinished.push((folder, *journal)),
                Ok(TransactionStatus::Finished(journal, end)) => {
                    found.past.push(AppliedTransaction { folder, journal: *journal, end, undone: false });
                }
                Err(error) => found.damaged.push(error),
            }
        }
        let undone: BTreeSet<String> = (found.past.iter().filter(|p| p.end.committed))
            .filter_map(|p| match &p.journal.kind {
                Kind::Undo(id) => Some(id.clone()),
                Kind::Apply => None,
            })
            .collect();
        for past in &mut found.past {
            past.undone = undone.contains(&past.journal.id);
        }
        Ok(found)
    }

    /// Returns the last apply in this working tree that can be undone, optionally of one sandbox.
    #[must_use]
    pub fn find_last(&self, here: &WorktreeFingerprint, sandbox: Option<&str>) -> Option<&AppliedTransaction> {
        let fits = |p: &&AppliedTransaction| {
            p.is_undoable() && p.is_in_worktree(here) && sandbox.is_none_or(|s| s == p.journal.sandbox)
        };
        self.past.iter().rev().find(fits)
    }
}

impl AppliedTransaction {
    /// Returns whether the transaction was in this working tree, which may have been moved since.
    #[must_use]
    pub fn is_in_worktree(&self, here: &WorktreeFingerprint) -> bool {
        self.journal.target.is_same_worktree(here)
    }

    /// Returns whether this is a committed apply that has not been undone.
    #[must_use]
    pub fn is_undoable(&self) -> bool {
        self.journal.kind == Kind::Apply && self.end.committed && !self.undone
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
    #[error("the backup of {0:?} is gone")]
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
    pub fn of(past: &AppliedTransaction, tree: &WorkingTree) -> Result<Self, UndoError> {
        let AppliedTransaction { folder, journal, .. } = past;
        let slots = Staging::open(&journal.staging_areas, folder, &journal.id, tree)?;
        let mut undo = Self {
            requests: Vec::new(),
            options: PlanOptions {
                on_conflict: OnConflict::Abort,
                removable_dirs: Some(BTreeSet::new()),
                is_trusted: true,
                ..PlanOptions::default()
            },
            blobs: Backups::of(folder)?,
            late_edits: Vec::new(),
        };
        let before: BTreeMap<&RepoPath, &Selection> = journal.selection.iter().map(|(p, old, _)| (p, old)).collect();
        let picks = |path: &RepoPath| before.get(path).copied().cloned().unwrap_or_default();
        let wish = |path: &RepoPath,
                    base: Option<&EntryContent>,
                    accepted: Option<EntryContent>,
                    like: Option<AttrSource>| PathRequest {
            path: path.clone(),
            base: base.cloned(),
            theirs: accepted,
            last_applied: base.cloned(),
            pristine: base.cloned(),
            alternate_bases: Vec::new(),
            superseded: Selection::default(),
            reapply: false,
            if_fully_applied: None,
            attrs_from_if_mode: None,
            picks: picks(path),
            attrs_from: like,
        };
        let respelled: BTreeMap<&RepoPath, &RepoPath> = (journal.ops.iter())
            .filter_map(|act| match act {
                Op::CaseRename { from, to } => Some((to, from)),
                _ => None,
            })
            .collect();
        for act in &journal.ops {
            match act {
                Op::MakeDirectory { path, .. } => {
                    undo.options.removable_dirs.get_or_insert_default().insert(path.clone());
                }
                Op::RemoveDirectory { path, slot } => {
                    undo.options.dir_attrs.insert(path.clone(), attr_source(&slots, *slot, slot.name()));
                }
                Op::CaseRename { .. } => {}
                Op::Write { path, before: None, after, .. } => {
                    undo.requests.push(wish(path, Some(&after.version), None, None));
                }
                Op::Write { path, slot, before: Some(before), after } => {
                    let name = if slots.can_exchange(*slot) { slot.name() } else { slot.backup_name() };
                    let old = undo.find_backup(&slots, *slot, &name, path, &before.version)?;
                    match respelled.get(path) {
                        None => {
                            let like = attr_source(&slots, *slot, name);
                            let wish = wish(path, Some(&after.version), Some(old), Some(like));
                            undo.requests.push(PathRequest { attrs_from_if_mode: Some(after.mode), ..wish });
                        }
                        Some(from) => {
                            undo.requests.push(wish(path, Some(&after.version), None, None));
                            undo.requests.push(wish(from, None, Some(old), Some(attr_source(&slots, *slot, name))));
                        }
                    }
                }
                Op::Delete { path, slot, before } => {
                    let old = undo.find_backup(&slots, *slot, &slot.name(), path, &before.version)?;
                    undo.requests.push(wish(path, None, Some(old), Some(attr_source(&slots, *slot, slot.name()))));
                }
            }
        }
        Ok(undo)
    }

    /// Observes a backup and registers its content.
    fn find_backup(
        &mut self,
        slots: &Staging,
        slot: StagedFile,
        name: &str,
        path: &RepoPath,
        before: &EntryContent,
    ) -> Result<EntryContent, UndoError> {
        let at = slots.entry_ref(slot, name);
        let PathState::File(seen) = observe_in(at.directory, at.name)? else {
            return Err(UndoError::Gone(path.clone()));
        };
        if seen.version != *before {
            self.late_edits.push(path.clone());
        }
        self.blobs.insert(&seen.version.hash, attr_source(slots, slot, name.to_owned()));
        Ok(seen.version)
    }
}

fn attr_source(slots: &Staging, slot: StagedFile, name: String) -> AttrSource {
    AttrSource { folder: slots.area_dir(slot), name }
}

/// The content of an apply's backups.
#[derive(Debug)]
pub struct Backups {
    files: BTreeMap<ContentHash, AttrSource>,
    written: Option<OwnedFd>,
    made: Mutex<BTreeMap<ContentHash, Vec<u8>>>,
}

impl Backups {
    fn of(folder: &TransactionDir) -> io::Result<Self> {
        let written = rustix::fs::openat(folder.open_dir()?, CONTENTS, DIRECTORY, Mode::empty()).ok();
        Ok(Self { files: BTreeMap::new(), written, made: Mutex::default() })
    }

    fn insert(&mut self, hash: &ContentHash, file: AttrSource) {
        self.files.insert(hash.clone(), file);
    }
}

impl BlobStore for Backups {
    fn read_blob(&self, hash: &ContentHash) -> io::Result<Vec<u8>> {
        if let Some(made) = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(hash) {
            return Ok(made.clone());
        }
        let content = match (self.files.get(hash), &self.written) {
            (Some(file), _) => read_backup(&file.folder, &file.name)?,
            (None, Some(written)) => read_backup(written, &hash.to_string())?,
            (None, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        if ContentHash::of(&content) == *hash {
            Ok(content)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("the backup {hash} is damaged")))
        }
    }

    fn write_blob(&self, bytes: &[u8]) -> io::Result<ContentHash> {
        let hash = ContentHash::of(bytes);
        let mut made = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        made.insert(hash.clone(), bytes.to_vec());
        Ok(hash)
    }
}

/// Reads a file, or a symlink's target.
fn read_backup(folder: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::openat(folder, OsStr::new(name), flags, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => Ok(rustix::fs::readlinkat(folder, OsStr::new(name), Vec::new())?.into_bytes()),
        opened => {
            let mut content = Vec::new();
            File::from(opened?).read_to_end(&mut content)?;
            Ok(content)
        }
    }
}
