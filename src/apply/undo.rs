//! Takes a committed apply back, as an apply of its own: what was replaced is asked for again, with what was written as the
//! base, so that whatever the user did since is merged, or is a conflict, and never lost.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Mutex;

use rustix::fs::{Mode, OFlags};

use super::applies::{Applies, Folder};
use super::decide::Version;
use super::journal::{Act, End, Journal, JournalError, Kind, Mark, Slot, Stage};
use super::plan::{OnConflict, Terms};
use super::stage::Slots;
use super::transaction::CONTENTS;
use super::tree::{DIRECTORY, HostError, HostTree, Look, look_in};
use super::wish::{Contents, Like, PathRequest};
use crate::changes::{ContentHash, Picks};
use crate::path::RepoPath;

/// An apply with what is known of it.
#[derive(Debug, Clone)]
pub struct Past {
    /// Its folder.
    pub folder: Folder,
    /// Its journal.
    pub journal: Journal,
    /// How it ended.
    pub end: End,
    /// It was taken back since.
    pub undone: bool,
}

/// What a repository's applies are.
#[derive(Debug, Default)]
pub struct History {
    /// Those that ended, oldest first.
    pub past: Vec<Past>,
    /// Those that did not.
    pub unfinished: Vec<(Folder, Journal)>,
    /// Those whose files are damaged.
    pub damaged: Vec<JournalError>,
}

impl History {
    /// Reads all of them.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn of(applies: &Applies) -> io::Result<Self> {
        let mut found = Self::default();
        for folder in applies.all()? {
            match folder.stage() {
                // Nothing was done by it.
                Ok(Stage::Begun) => {}
                Ok(Stage::Unfinished(journal)) => found.unfinished.push((folder, *journal)),
                Ok(Stage::Ended(journal, end)) => {
                    found.past.push(Past { folder, journal: *journal, end, undone: false });
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

    /// Gives the last apply that can be undone, of a sandbox or of any, in this working tree.
    #[must_use]
    pub fn last(&self, here: &Mark, sandbox: Option<&str>) -> Option<&Past> {
        let fits = |p: &&Past| p.is_undoable() && p.is_in(here) && sandbox.is_none_or(|s| s == p.journal.sandbox);
        self.past.iter().rev().find(fits)
    }
}

impl Past {
    /// Tells whether it was in a working tree, which may have been moved since.
    #[must_use]
    pub fn is_in(&self, here: &Mark) -> bool {
        self.journal.site.is_place(here)
    }

    /// Tells whether it stands.
    #[must_use]
    pub fn is_undoable(&self) -> bool {
        self.journal.kind == Kind::Apply && self.end.committed && !self.undone
    }
}

/// An undo in the making.
pub struct Undo {
    /// What is asked for.
    pub wishes: Vec<PathRequest>,
    /// The terms of the plan.
    pub terms: Terms,
    /// Where content comes from.
    pub contents: Backups,
    /// Paths whose backup somebody wrote to after the apply: that is what comes back.
    pub late: Vec<RepoPath>,
}

/// Why an undo cannot be planned.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// A backup is not there, or is no file.
    #[error("the backup of {0:?} is gone")]
    Gone(RepoPath),
    /// What the system says.
    #[error(transparent)]
    Host(#[from] HostError),
    /// What the system says.
    #[error("failed to read the backups: {0}")]
    Io(#[from] io::Error),
}

impl Undo {
    /// Prepares the undo of an apply.
    ///
    /// # Errors
    /// [`UndoError`].
    pub fn of(past: &Past, tree: &HostTree) -> Result<Self, UndoError> {
        let Past { folder, journal, .. } = past;
        let slots = Slots::open(&journal.places, folder, &journal.id, tree)?;
        let mut undo = Self {
            wishes: Vec::new(),
            terms: Terms {
                on_conflict: OnConflict::Abort,
                removable: Some(BTreeSet::new()),
                own: true,
                ..Terms::default()
            },
            contents: Backups::of(folder)?,
            late: Vec::new(),
        };
        let before: BTreeMap<&RepoPath, &Picks> = journal.picks.iter().map(|(p, old, _)| (p, old)).collect();
        let picks = |path: &RepoPath| before.get(path).copied().cloned().unwrap_or_default();
        let wish = |path: &RepoPath, base: Option<&Version>, accepted: Option<Version>, like: Option<Like>| PathRequest {
            path: path.clone(),
            base: base.cloned(),
            accepted,
            last: base.cloned(),
            original: base.cloned(),
            instead: Vec::new(),
            superseded: Picks::default(),
            again: false,
            done: None,
            like_over: None,
            picks: picks(path),
            like,
        };
        let respelled: BTreeMap<&RepoPath, &RepoPath> = (journal.acts.iter())
            .filter_map(|act| match act {
                Act::Respell { from, to } => Some((to, from)),
                _ => None,
            })
            .collect();
        for act in &journal.acts {
            match act {
                Act::MakeDirectory { path, .. } => {
                    undo.terms.removable.get_or_insert_default().insert(path.clone());
                }
                Act::RemoveDirectory { path, slot } => {
                    undo.terms.directories.insert(path.clone(), like(&slots, *slot, slot.name()));
                }
                Act::Respell { .. } => {}
                Act::Put { path, before: None, after, .. } => {
                    undo.wishes.push(wish(path, Some(&after.version), None, None));
                }
                Act::Put { path, slot, before: Some(before), after } => {
                    let name = if slots.exchanges(*slot) { slot.name() } else { slot.aside() };
                    let old = undo.backup(&slots, *slot, &name, path, &before.version)?;
                    match respelled.get(path) {
                        None => {
                            let like = like(&slots, *slot, name);
                            let wish = wish(path, Some(&after.version), Some(old), Some(like));
                            undo.wishes.push(PathRequest { like_over: Some(after.mode), ..wish });
                        }
                        Some(from) => {
                            undo.wishes.push(wish(path, Some(&after.version), None, None));
                            undo.wishes.push(wish(from, None, Some(old), Some(like(&slots, *slot, name))));
                        }
                    }
                }
                Act::Delete { path, slot, before } => {
                    let old = undo.backup(&slots, *slot, &slot.name(), path, &before.version)?;
                    undo.wishes.push(wish(path, None, Some(old), Some(like(&slots, *slot, slot.name()))));
                }
            }
        }
        Ok(undo)
    }

    /// Finds what is in a slot.
    fn backup(
        &mut self,
        slots: &Slots,
        slot: Slot,
        name: &str,
        path: &RepoPath,
        before: &Version,
    ) -> Result<Version, UndoError> {
        let at = slots.at(slot, name);
        let Look::File(seen) = look_in(at.directory, at.name)? else { return Err(UndoError::Gone(path.clone())) };
        if seen.version != *before {
            self.late.push(path.clone());
        }
        self.contents.add(&seen.version.hash, like(slots, slot, name.to_owned()));
        Ok(seen.version)
    }
}

fn like(slots: &Slots, slot: Slot, name: String) -> Like {
    Like { folder: slots.folder(slot), name }
}

/// Content out of an apply's backups.
#[derive(Debug)]
pub struct Backups {
    files: BTreeMap<ContentHash, Like>,
    written: Option<OwnedFd>,
    made: Mutex<BTreeMap<ContentHash, Vec<u8>>>,
}

impl Backups {
    fn of(folder: &Folder) -> io::Result<Self> {
        let written = rustix::fs::openat(folder.open()?, CONTENTS, DIRECTORY, Mode::empty()).ok();
        Ok(Self { files: BTreeMap::new(), written, made: Mutex::default() })
    }

    fn add(&mut self, hash: &ContentHash, file: Like) {
        self.files.insert(hash.clone(), file);
    }
}

impl Contents for Backups {
    fn get(&self, hash: &ContentHash) -> io::Result<Vec<u8>> {
        if let Some(made) = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(hash) {
            return Ok(made.clone());
        }
        let content = match (self.files.get(hash), &self.written) {
            (Some(file), _) => read(&file.folder, &file.name)?,
            (None, Some(written)) => read(written, &hash.to_string())?,
            (None, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        if ContentHash::of(&content) == *hash {
            Ok(content)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, format!("the backup {hash} is damaged")))
        }
    }

    fn put(&self, bytes: &[u8]) -> io::Result<ContentHash> {
        let hash = ContentHash::of(bytes);
        let mut made = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        made.insert(hash.clone(), bytes.to_vec());
        Ok(hash)
    }
}

/// Reads a file, or a link's target.
fn read(folder: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
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
