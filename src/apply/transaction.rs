//! Carries a plan out so that all of it is done or nothing, whatever fails and whenever the process ends:
//!
//! stage every file → journal (prepared) → git's index locked → each act, looked at → directories on disk → end (committed) →
//! index unlocked.
//!
//! Whatever goes wrong before "committed" takes back all that was done; if even that fails, the journal stays, and recovery
//! begins where this ended.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::applies::{Applies, Folder};
use super::decide::Version;
use super::ending::{Ending, Stop};
use super::hostfs::{At, Disk};
use super::index_lock::{self, INDEX_LOCK};
use super::journal::{Act, Held, Journal, Kind, Mark, Slot, Stage};
use super::plan::{Plan, Planned, Step};
use super::stage::{Slots, Staging};
use super::sweep::sweep;
use super::tree::{DIRECTORY, HostError, HostTree, failed};
use super::wish::{Contents, Like};
use crate::changes::{MAX_TEXT, Picks};
use crate::path::RepoPath;

/// The folder of what was written, by hash.
pub(super) const CONTENTS: &str = "contents";

/// Where an apply happens.
#[derive(Debug, Clone)]
pub struct Site {
    /// The git directory of the working tree, which has its index.
    pub git_dir: PathBuf,
    /// What must be the same for a recovery.
    pub mark: Mark,
}

/// What is applied, besides the plan.
pub struct Job<'a> {
    /// Where.
    pub site: &'a Site,
    /// Through which door.
    pub disk: &'a Disk,
    /// The working tree.
    pub tree: &'a HostTree,
    /// Whether it applies or takes back.
    pub kind: Kind,
    /// The sandbox whose changes they are.
    pub sandbox: &'a str,
    /// Its id.
    pub of: &'a str,
    /// Submodules, which are entered.
    pub modules: Vec<RepoPath>,
    /// Per path, what of the changeset it holds before and after.
    pub picks: Vec<(RepoPath, Picks, Picks)>,
    /// Accepted content.
    pub contents: &'a dyn Contents,
    /// Tells whether the user wants it to stop.
    pub interrupted: &'a dyn Fn() -> bool,
}

/// A file of the user's that was not expected, or came too late.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Where it belongs.
    pub path: RepoPath,
    /// Where it is now.
    pub file: PathBuf,
}

/// A path that was not taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftAlone {
    /// Which.
    pub path: RepoPath,
    /// Why.
    pub reason: &'static str,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The number of the apply.
    pub number: u64,
    /// Edits that came too late, each in a file of its own.
    pub kept: Vec<Kept>,
    /// When it was taken back: paths that the user has changed since.
    pub left: Vec<LeftAlone>,
    /// Something after the end that does not matter for the tree.
    pub note: Option<String>,
    /// The file system cannot exchange two files at once.
    pub weaker: bool,
}

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Before the first path was touched.
    #[error("{}{error}", of(path.as_ref()))]
    NotBegun {
        /// The path that it was about.
        path: Option<RepoPath>,
        /// What happened.
        error: HostError,
    },
    /// git works on the index.
    #[error("git is at work in this working tree: {} is there", .0.display())]
    Locked(PathBuf),
    /// The user wanted it to stop; all is as it was.
    #[error("interrupted")]
    Interrupted(Box<Report>),
    /// Something failed, and what was done was taken back.
    #[error("{}{error}", of(path.as_ref()))]
    TakenBack {
        /// The path that failed.
        path: Option<RepoPath>,
        /// What happened.
        error: HostError,
        /// What taking back came to.
        report: Box<Report>,
    },
    /// Something failed, and taking back failed too.
    #[error("{}{error}; and then: {}{then}", of(path.as_ref()), of(there.as_ref()))]
    Unfinished {
        /// The path that failed.
        path: Option<RepoPath>,
        /// What happened.
        error: HostError,
        /// What happened then.
        then: HostError,
        /// At which path.
        there: Option<RepoPath>,
    },
    /// It belongs to another working tree.
    #[error("the unfinished apply {} belongs to another working tree: {}", .0.display(), .1)]
    Foreign(PathBuf, String),
}

fn of(path: Option<&RepoPath>) -> String {
    path.map_or_else(String::new, |p| format!("{}: ", p.as_bytes().escape_ascii()))
}

/// Which way an unfinished apply is brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// All is done.
    Forward,
    /// All is as it was.
    Back,
}

/// Carries a plan without conflicts out. `applies` is locked by the caller since before the plan was made.
///
/// # Errors
/// [`Problem`]; after all but [`Problem::Unfinished`] the tree is as it was, save what the user did meanwhile.
pub fn run(job: &Job<'_>, plan: &Plan, applies: &Applies) -> Result<Report, Problem> {
    if job.site.git_dir.join(INDEX_LOCK).symlink_metadata().is_ok() {
        return Err(Problem::Locked(job.site.git_dir.join(INDEX_LOCK)));
    }
    let folder = applies.begin(job.disk).map_err(|(_, error)| {
        let error = failed("failed to make a folder for the journal")(error);
        Problem::NotBegun { path: None, error }
    })?;
    let (journal, slots) = match stage(job, plan, &folder) {
        Ok(staged) => staged,
        Err((path, error)) => {
            discard(job, &folder);
            return Err(Problem::NotBegun { path, error });
        }
    };
    let mut report = Report { number: folder.number(), ..Report::default() };
    report.weaker = journal.places.iter().any(|place| !place.exchange);
    if let Err(error) = folder.prepare(job.disk, &journal) {
        let error = failed("failed to write the journal")(error);
        // Perhaps it was written whole; nothing is done yet in any case.
        if !matches!(folder.stage(), Ok(Stage::Begun)) {
            return finish_back(&job.end(&folder, &journal, &slots), Stop::plain(error), report)
                .map(|()| Report::default());
        }
        discard(job, &folder);
        return Err(Problem::NotBegun { path: None, error });
    }
    let end = job.end(&folder, &journal, &slots);
    match end.forward(job.interrupted) {
        Ok(()) => {
            end.committed(&mut report);
            Ok(report)
        }
        Err(stop) => finish_back(&end, stop, report).map(|()| Report::default()),
    }
}

/// Brings an unfinished apply to its end.
///
/// # Errors
/// [`Problem`].
pub fn recover(
    site: &Site,
    disk: &Disk,
    tree: &HostTree,
    folder: &Folder,
    journal: &Journal,
    way: Way,
) -> Result<Report, Problem> {
    let mark = &journal.site;
    let same_boot = mark.boot == site.mark.boot;
    let root = mark.root.number == site.mark.root.number && (!same_boot || mark.root == site.mark.root);
    if mark.repository != site.mark.repository || !root {
        return Err(Problem::Foreign(folder.path.clone(), mark.worktree.clone()));
    }
    let slots = Slots::open(&journal.places, folder, &journal.id, tree)
        .map_err(|error| Problem::NotBegun { path: None, error })?;
    let end = Ending { site, disk, tree, folder, journal, slots: &slots, same_boot };
    let mut report = Report { number: folder.number(), ..Report::default() };
    end.lock_index().map_err(|error| match error {
        HostError::Git(lock) => Problem::Locked(lock),
        error => Problem::NotBegun { path: None, error },
    })?;
    if way == Way::Forward {
        match end.forward(&|| false) {
            Ok(()) => {
                end.committed(&mut report);
                return Ok(report);
            }
            Err(stop) => finish_back(&end, stop, report)?,
        }
        return Ok(Report::default());
    }
    match end.back(&mut report) {
        Ok(()) => Ok(report),
        Err(Stop { path, error }) => {
            let then = error.unwrap_or(HostError::Interrupted);
            Err(Problem::Unfinished { path: path.clone(), error: HostError::CutOff, then, there: path })
        }
    }
}

/// Takes back what was done, and tells why.
fn finish_back(end: &Ending<'_>, stop: Stop, mut report: Report) -> Result<(), Problem> {
    let Stop { path, error } = stop;
    match (end.back(&mut report), error) {
        (Ok(()), None) => Err(Problem::Interrupted(Box::new(report))),
        (Ok(()), Some(error)) => Err(Problem::TakenBack { path, error, report: Box::new(report) }),
        (Err(stop), error) => {
            let error = error.unwrap_or(HostError::Interrupted);
            let then = stop.error.unwrap_or(HostError::Interrupted);
            Err(Problem::Unfinished { path, error, then, there: stop.path })
        }
    }
}

type Staged<'a> = (Journal, Slots);

/// Makes everything ready: slots, journal; nothing of the tree is changed.
fn stage<'a>(job: &Job<'a>, plan: &Plan, folder: &Folder) -> Result<Staged<'a>, (Option<RepoPath>, HostError)> {
    let id = random_id().map_err(|error| (None, HostError::Io { attempt: "failed to draw a number", error }))?;
    let none = |error| (None, error);
    let mut slots = Slots::none();
    let mut acts = Vec::new();
    let mut files: Vec<(Staging<'_>, Slot)> = Vec::new();
    let mut waiting: Vec<(usize, &Step)> = Vec::new();
    for planned in plan.acts() {
        let path = planned.path();
        let named = |error| (Some(path.clone()), error);
        let mut take = |of: &RepoPath| {
            let directory = job.tree.nearest(of)?;
            slots.take(&directory, of, job.disk, job.tree, folder, &id)
        };
        acts.push(match planned {
            Planned::MakeDirectory(path, None) => Act::MakeDirectory { path: path.clone(), slot: None },
            Planned::MakeDirectory(path, Some(like)) => {
                let slot = take(path).map_err(named)?;
                slots.put_directory(slot, like.at(), job.disk, job.tree).map_err(named)?;
                Act::MakeDirectory { path: path.clone(), slot: Some(slot) }
            }
            Planned::RemoveDirectory(path) => {
                let slot = take(path).map_err(named)?;
                let Some(parent) = job.tree.parent(path).map_err(named)?.opened() else {
                    return Err(named(HostError::Stale));
                };
                let like = At::new(&parent, path.file_name());
                slots.put_directory(slot, like, job.disk, job.tree).map_err(named)?;
                Act::RemoveDirectory { path: path.clone(), slot }
            }
            Planned::Respell(from, to) => Act::Respell { from: from.clone(), to: to.clone() },
            Planned::Delete(step) => {
                let slot = take(&step.path).map_err(named)?;
                let Some(seen) = &step.expected else { continue };
                Act::Delete { path: step.path.clone(), slot, before: Held::from(seen) }
            }
            Planned::Put(step) => {
                let Some(left) = &step.left else { continue };
                let slot = take(&step.path).map_err(named)?;
                let expected = step.expected.as_ref();
                let like = step.like.as_ref().map(Like::at);
                let replaced = step.respells.as_ref().unwrap_or(&step.path);
                let like_over = step.like_over;
                files.push((Staging { path: &step.path, replaced, left, expected, like, like_over }, slot));
                waiting.push((acts.len(), step));
                // In its place comes what was staged.
                Act::Respell { from: step.path.clone(), to: step.path.clone() }
            }
        });
    }
    let own = folder.open().and_then(|own| {
        job.disk.make_directory(At::new(&own, CONTENTS.as_bytes()), 0o700)?;
        rustix::fs::openat(&own, CONTENTS, DIRECTORY, Mode::empty())
    });
    let own = own.map_err(failed("failed to make a folder for contents")).map_err(none)?;
    let source = job.contents.folder();
    let content = |version: &Version| {
        let bytes = job.contents.get(&version.hash)?;
        // For the merge of an undo: larger ones are not merged.
        if bytes.len() as u64 <= MAX_TEXT {
            keep_content(job, source.as_deref(), &own, version, &bytes)?;
        }
        Ok(bytes)
    };
    let staged = slots.stage(&files, job.disk, job.tree, &content).map_err(|(path, error)| (Some(path), error))?;
    for (((at, step), after), (_, slot)) in waiting.into_iter().zip(staged).zip(&files) {
        let before = step.expected.as_ref().map(Held::from);
        acts[at] = Act::Put { path: step.path.clone(), slot: *slot, before, after };
    }
    index_lock::stage(job.site, job.disk, folder, &id)
        .map_err(failed("failed to make the lock for git's index"))
        .map_err(none)?;
    slots.sync(job.disk).map_err(failed("failed to write what was staged to disk")).map_err(none)?;
    let journal = Journal {
        id,
        kind: job.kind.clone(),
        sandbox: job.sandbox.to_owned(),
        of: job.of.to_owned(),
        site: job.site.mark.clone(),
        modules: job.modules.clone(),
        places: slots.places.clone(),
        acts,
        picks: job.picks.clone(),
    };
    Ok((journal, slots))
}

/// Keeps content under its hash: a second name where it is in a file that never changes, a copy otherwise.
fn keep_content(
    job: &Job<'_>,
    source: Option<&OwnedFd>,
    folder: &OwnedFd,
    version: &Version,
    bytes: &[u8],
) -> Result<(), Errno> {
    let name = version.hash.to_string();
    let to = At::new(folder, name.as_bytes());
    if let Some(source) = source {
        match job.disk.link(At::new(source, name.as_bytes()), to) {
            Ok(()) | Err(Errno::EXIST) => return Ok(()),
            Err(Errno::PERM | Errno::NOTSUP | Errno::NOSYS | Errno::XDEV | Errno::MLINK | Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
    }
    match job.disk.create(to, 0o600) {
        Ok(file) => job.disk.fill(&file, bytes),
        Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Removes an apply that was not prepared: there is nothing in it that is not elsewhere. What cannot be removed stays, and
/// is swept later.
fn discard(job: &Job<'_>, folder: &Folder) {
    let _ = sweep(job.disk, folder, job.tree);
}

impl Job<'_> {
    fn end<'b>(&'b self, folder: &'b Folder, journal: &'b Journal, slots: &'b Slots) -> Ending<'b> {
        let Self { site, disk, tree, .. } = self;
        Ending { site, disk, tree, folder, journal, slots, same_boot: true }
    }
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0_u8; 8];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
