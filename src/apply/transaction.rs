//! Carries a plan out so that all of it is done or nothing, whatever fails and whenever the process ends:
//!
//! stage every file → journal (prepared) → git's index locked → each act, looked at → directories on disk → end (committed) →
//! index unlocked.
//!
//! Whatever goes wrong before "committed" takes back all that was done; if even that fails, the journal stays, and recovery
//! begins where this ended.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use rustix::fs::{AtFlags, CWD, Mode};
use rustix::io::Errno;

use super::decide::Version;
use super::hostfs::{At, Disk, Rename};
use super::journal::{Act, Applies, End, Folder, Held, Journal, JournalError, Kind, Mark, Slot, now};
use super::plan::{Plan, Planned, Step};
use super::stage::{Slots, Staging, empty, remove_inside};
use super::swap::{Hands, Reverted};
use super::tree::{DIRECTORY, HostError, HostTree, Inode, failed};
use super::wish::Like;
use crate::changes::MAX_TEXT;
use crate::path::RepoPath;

const INDEX: &str = "index";
const INDEX_LOCK: &str = "index.lock";
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
    /// Submodules, which are entered.
    pub modules: Vec<RepoPath>,
    /// Per path, units before and after.
    pub units: Vec<(RepoPath, Vec<String>, Vec<String>)>,
    /// Gives accepted content.
    pub content: &'a (dyn Fn(&Version) -> io::Result<Vec<u8>> + Sync),
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
    #[error("{}{error}; and then: {then}", of(path.as_ref()))]
    Unfinished {
        /// The path that failed.
        path: Option<RepoPath>,
        /// What happened.
        error: HostError,
        /// What happened then.
        then: HostError,
    },
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
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

/// What stopped the acts.
struct Stop {
    path: Option<RepoPath>,
    error: Option<HostError>,
}

impl Stop {
    fn at(path: &RepoPath) -> impl Fn(HostError) -> Self {
        move |error| Self { path: Some(path.clone()), error: Some(error) }
    }

    fn plain(error: HostError) -> Self {
        Self { path: None, error: Some(error) }
    }
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
        if !matches!(folder.stage(), Ok(super::journal::Stage::Begun)) {
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
    let lock = Cell::new(journal.lock);
    let end = Ending { site, disk, tree, folder, journal, slots: &slots, same_boot, lock };
    let mut report = Report { number: folder.number(), ..Report::default() };
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
        Err(error) => Err(Problem::NotBegun { path: None, error }),
    }
}

/// Removes git's lock where an apply that has ended was cut off before it could; nothing if it is not ours.
///
/// # Errors
/// What the system says.
pub fn unlock_index(site: &Site, disk: &Disk, journal: &Journal) -> Result<bool, HostError> {
    unlock(site, disk, journal, journal.lock)
}

fn unlock(site: &Site, disk: &Disk, journal: &Journal, ours: Option<Inode>) -> Result<bool, HostError> {
    let failed = failed("failed to remove the lock on git's index");
    let Some(ours) = ours else { return Ok(false) };
    let git = rustix::fs::openat(CWD, &site.git_dir, DIRECTORY, Mode::empty()).map_err(failed)?;
    let at = At::new(&git, INDEX_LOCK.as_bytes());
    match rustix::fs::statat(&git, at.name, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => return Ok(false),
        Ok(stat) => {
            let is = Inode::of(&stat);
            if is.number != ours.number || journal.site.boot == site.mark.boot && is != ours {
                return Ok(false);
            }
        }
        Err(error) => return Err(failed(error)),
    }
    disk.remove(at).map_err(failed)?;
    Ok(true)
}

/// Tells whether git's lock of an apply that has ended is still there.
#[must_use]
pub fn has_left_lock(site: &Site, journal: &Journal) -> bool {
    use std::os::unix::fs::MetadataExt;
    let found = site.git_dir.join(INDEX_LOCK).symlink_metadata();
    found.is_ok_and(|m| journal.lock.is_some_and(|ours| ours.number == m.ino()))
}

/// Takes back what was done, and tells why.
fn finish_back(end: &Ending<'_>, stop: Stop, mut report: Report) -> Result<(), Problem> {
    let Stop { path, error } = stop;
    match (end.back(&mut report), error) {
        (Ok(()), None) => Err(Problem::Interrupted(Box::new(report))),
        (Ok(()), Some(error)) => Err(Problem::TakenBack { path, error, report: Box::new(report) }),
        (Err(then), error) => {
            let error = error.unwrap_or(HostError::Interrupted);
            Err(Problem::Unfinished { path, error, then })
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
                files.push((Staging { path: &step.path, replaced, left, expected, like }, slot));
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
    let content = |version: &Version| {
        let bytes = (job.content)(version)?;
        // For the merge of an undo: larger ones are not merged.
        if bytes.len() as u64 <= MAX_TEXT {
            match job.disk.create(At::new(&own, version.hash.to_string().as_bytes()), 0o600) {
                Ok(file) => job.disk.fill(&file, &bytes)?,
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(bytes)
    };
    let staged = slots.stage(&files, job.disk, job.tree, &content).map_err(|(path, error)| (Some(path), error))?;
    for (((at, step), after), (_, slot)) in waiting.into_iter().zip(staged).zip(&files) {
        let before = step.expected.as_ref().map(Held::from);
        acts[at] = Act::Put { path: step.path.clone(), slot: *slot, before, after };
    }
    let lock = stage_lock(job, folder).map_err(failed("failed to make the lock for git's index")).map_err(none)?;
    slots.sync(job.disk).map_err(failed("failed to write what was staged to disk")).map_err(none)?;
    let journal = Journal {
        id,
        kind: job.kind.clone(),
        sandbox: job.sandbox.to_owned(),
        created: now(),
        site: job.site.mark.clone(),
        modules: job.modules.clone(),
        lock: Some(lock),
        places: slots.places.clone(),
        acts,
        units: job.units.clone(),
    };
    Ok((journal, slots))
}

/// Makes the file that will be git's lock, and keeps the index of now under a second name.
fn stage_lock(job: &Job<'_>, folder: &Folder) -> Result<Inode, Errno> {
    let own = folder.open()?;
    let file = job.disk.create(At::new(&own, INDEX_LOCK.as_bytes()), 0o600)?;
    let git = rustix::fs::openat(CWD, &job.site.git_dir, DIRECTORY, Mode::empty())?;
    match job.disk.link(At::new(&git, INDEX.as_bytes()), At::new(&own, INDEX.as_bytes())) {
        // Without it a changed index is asked about more often: no more than that.
        Ok(()) | Err(Errno::NOENT | Errno::PERM | Errno::NOTSUP | Errno::XDEV | Errno::MLINK) => {}
        Err(error) => return Err(error),
    }
    rustix::fs::fstat(&file).map(|stat| Inode::of(&stat))
}

/// Removes an apply that was not prepared: there is nothing in it that is not elsewhere. What cannot be removed stays, and
/// is swept later.
fn discard(job: &Job<'_>, folder: &Folder) {
    let _ = sweep(job.disk, folder, job.tree);
}

/// Removes a folder of ours with all files in it, and what belongs to it inside the tree.
///
/// # Errors
/// What the system says.
pub fn sweep(disk: &Disk, folder: &Folder, tree: &HostTree) -> Result<(), HostError> {
    remove_inside(disk, folder, tree)?;
    sweep_own(disk, folder).map_err(failed("failed to remove the folder of an apply"))
}

fn sweep_own(disk: &Disk, folder: &Folder) -> Result<(), Errno> {
    let own = folder.open()?;
    for name in ["slots", CONTENTS] {
        match rustix::fs::openat(&own, name, DIRECTORY, Mode::empty()) {
            Ok(inner) => empty(disk, &inner)?,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error),
        }
        disk.remove_directory(At::new(&own, name.as_bytes()))?;
    }
    empty(disk, &own)?;
    let name = folder.path.file_name().map(|n| n.as_encoded_bytes().to_vec()).unwrap_or_default();
    let above = rustix::fs::openat(CWD, folder.path.parent().unwrap_or(&folder.path), DIRECTORY, Mode::empty())?;
    disk.remove_directory(At::new(&above, &name))
}

impl Job<'_> {
    fn end<'b>(&'b self, folder: &'b Folder, journal: &'b Journal, slots: &'b Slots) -> Ending<'b> {
        let Self { site, disk, tree, .. } = self;
        let lock = Cell::new(journal.lock);
        Ending { site, disk, tree, folder, journal, slots, same_boot: true, lock }
    }
}

/// A prepared apply on its way to one of its ends.
struct Ending<'a> {
    site: &'a Site,
    disk: &'a Disk,
    tree: &'a HostTree,
    folder: &'a Folder,
    journal: &'a Journal,
    slots: &'a Slots,
    same_boot: bool,
    /// Git's lock, once it is taken.
    lock: Cell<Option<Inode>>,
}

impl Ending<'_> {
    fn hands(&self) -> Hands<'_> {
        Hands { disk: self.disk, tree: self.tree, slots: self.slots, same_boot: self.same_boot }
    }

    /// Does all acts and commits.
    fn forward(&self, interrupted: &dyn Fn() -> bool) -> Result<(), Stop> {
        self.lock_index().map_err(Stop::plain)?;
        let hands = self.hands();
        for act in &self.journal.acts {
            if interrupted() {
                return Err(Stop { path: None, error: None });
            }
            hands.perform(act).map_err(Stop::at(act.path()))?;
        }
        self.sync_directories().map_err(Stop::plain)?;
        let end = self.end_of(true);
        match self.folder.end(self.disk, &end) {
            Ok(()) => Ok(()),
            // It is there: from now on it is committed, whatever else failed.
            Err(_) if self.is_committed() => Ok(()),
            Err(error) => Err(Stop::plain(failed("failed to write the end of the journal")(error))),
        }
    }

    fn is_committed(&self) -> bool {
        matches!(self.folder.stage(), Ok(super::journal::Stage::Ended(_, end)) if end.committed)
    }

    /// What is left to do once it is committed.
    fn committed(&self, report: &mut Report) {
        if let Err(error) = unlock(self.site, self.disk, self.journal, self.lock.get()) {
            report.note = Some(format!("{error}; airlock recover removes it"));
        }
        report.kept = self.kept(true);
    }

    fn kept(&self, committed: bool) -> Vec<Kept> {
        let hands = self.hands();
        let found = self.journal.acts.iter().filter_map(|act| {
            let (slot, name) = hands.foreign(act, committed)?;
            Some(Kept { path: act.path().clone(), file: self.file(slot, &name) })
        });
        found.collect()
    }

    /// Gives the path of a slot for a person.
    fn file(&self, slot: Slot, name: &str) -> PathBuf {
        slot_path(self.journal, self.folder, slot, name)
    }

    fn end_of(&self, committed: bool) -> End {
        let kept = if committed { Vec::new() } else { self.kept(false) };
        let kept = kept.into_iter().map(|k| (k.path, k.file.display().to_string())).collect();
        End { committed, at: now(), kept }
    }

    /// Takes all acts back, the last one first.
    fn back(&self, report: &mut Report) -> Result<(), HostError> {
        let hands = self.hands();
        for act in self.journal.acts.iter().rev() {
            if let Reverted::Left(reason) = hands.revert(act)? {
                report.left.push(LeftAlone { path: act.path().clone(), reason });
            }
        }
        self.sync_directories()?;
        report.kept = self.kept(false);
        let end = self.end_of(false);
        self.folder.end(self.disk, &end).map_err(failed("failed to write the end of the journal"))?;
        if let Err(error) = unlock(self.site, self.disk, self.journal, self.lock.get()) {
            report.note = Some(format!("{error}; airlock recover removes it"));
        }
        Ok(())
    }

    /// Takes git's lock on the index, so that no git command sees, or commits, a half.
    fn lock_index(&self) -> Result<(), HostError> {
        let lock = failed("failed to lock git's index");
        let own = self.folder.open().map_err(lock)?;
        let git = rustix::fs::openat(CWD, &self.site.git_dir, DIRECTORY, Mode::empty()).map_err(lock)?;
        let (from, to) = (At::new(&own, INDEX_LOCK.as_bytes()), At::new(&git, INDEX_LOCK.as_bytes()));
        match self.disk.rename(from, to, Rename::NoReplace) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            // Taken already, before it was cut off.
            Err(Errno::NOENT) if has_left_lock(self.site, self.journal) => return Ok(()),
            // Somebody has removed it since: another does as well.
            Err(Errno::NOENT) => {
                let file = self.disk.create(to, 0o600);
                match file {
                    Ok(file) => {
                        let stat = rustix::fs::fstat(&file).map_err(lock)?;
                        self.lock.set(Some(Inode::of(&stat)));
                        return Ok(());
                    }
                    Err(Errno::EXIST) => {}
                    Err(error) => return Err(lock(error)),
                }
            }
            Err(Errno::INVAL | Errno::NOSYS) => match self.disk.link(from, to) {
                Ok(()) => return self.disk.remove(from).map_err(lock),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(lock(error)),
            },
            Err(error) => return Err(lock(error)),
        }
        Err(HostError::Git(self.site.git_dir.join(INDEX_LOCK)))
    }

    /// Writes every directory that was changed to disk.
    fn sync_directories(&self) -> Result<(), HostError> {
        let sync = failed("failed to write a directory to disk");
        let hands = self.hands();
        let parents: BTreeSet<Option<RepoPath>> = self.journal.acts.iter().map(|act| act.path().parent()).collect();
        for parent in parents {
            let opened = match &parent {
                None => Some(self.tree.root()?),
                // By way of a name in it.
                Some(directory) => match RepoPath::child(Some(directory), b"x") {
                    Ok(path) => hands.directory_of(&path)?,
                    Err(_) => None,
                },
            };
            if let Some(opened) = opened {
                self.disk.sync(&opened).map_err(sync)?;
            }
        }
        self.slots.sync(self.disk).map_err(sync)
    }
}

/// Finds edits that came after the end of an apply, through descriptors that were open before, or that were kept by it:
/// files that are in its slots and nowhere else.
///
/// # Errors
/// The slots cannot be opened.
pub fn kept_since(
    folder: &Folder,
    journal: &Journal,
    committed: bool,
    tree: &HostTree,
) -> Result<Vec<Kept>, HostError> {
    let slots = Slots::open(&journal.places, folder, &journal.id, tree)?;
    let disk = Disk::default();
    // Devices may have other numbers by now.
    let hands = Hands { disk: &disk, tree, slots: &slots, same_boot: false };
    let kept = journal.acts.iter().filter_map(|act| {
        let (slot, name) = hands.foreign(act, committed)?;
        Some(Kept { path: act.path().clone(), file: slot_path(journal, folder, slot, &name) })
    });
    Ok(kept.collect())
}

/// Gives the path of a slot, for a person.
#[must_use]
pub fn slot_path(journal: &Journal, folder: &Folder, slot: Slot, name: &str) -> PathBuf {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    match journal.places.get(slot.place).and_then(|place| place.inside.as_ref()) {
        None => folder.slots_path().join(name),
        Some(super::journal::Inside::Root) => PathBuf::from(".airlock").join(&journal.id).join(name),
        Some(super::journal::Inside::Directory(path)) => {
            PathBuf::from(OsStr::from_bytes(path.as_bytes())).join(".airlock").join(&journal.id).join(name)
        }
    }
}

fn random_id() -> io::Result<String> {
    let mut bytes = [0_u8; 8];
    io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}
