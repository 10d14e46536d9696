//! Records on disk: one folder per sandbox below `<git common dir>/airlock/sandboxes/`, readable by the user alone.
#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SandboxError;
use super::limits::Limits;
use super::workspace::Workspace;
use crate::base::{Base, BaseDelta, DeltaEntry, Manifest};
use crate::changes::{Changeset, ContentHash, Quarantine, Selection};
use crate::core::atomic_file::{put_in_place, write_atomic};
use crate::core::name::SandboxName;
use crate::core::path::{EntryKind, RepoPath};
use crate::protocol::{Decoder, Encoder, Stat, Written};

/// The record of a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// Version of this format.
    pub schema_version: u32,
    pub name: SandboxName,
    /// A random number in hexadecimal: the value of the label on everything of it in the engine.
    pub id: String,
    /// Seconds since the epoch.
    pub created: u64,
    /// `claude`, `run` or `shell`.
    pub verb: String,
    /// The commit it was seeded with.
    pub base: String,
    /// The branch, or nothing for a detached HEAD.
    pub branch: Option<String>,
    /// The repository, as on the labels.
    pub repository: String,
    /// The working tree it was made from, escaped; its changes go nowhere else.
    pub worktree: String,
    /// The same by its git directory, see [`crate::git::HostRepo::worktree_place`].
    #[serde(default)]
    pub worktree_place: Option<String>,
    /// The workspace's mount point.
    pub workspace: String,
    /// The directory in which the agent starts.
    #[serde(default)]
    pub workdir: String,
    /// The kind of workspace. (This and what follows is not in records of version 1: such a sandbox can be reviewed and removed.)
    #[serde(default)]
    pub workspace_kind: Workspace,
    /// The base below it.
    #[serde(default)]
    pub base_volume: Base,
    /// The contents that it started with.
    #[serde(default)]
    pub manifest: Manifest,
    /// Globs of files that come back although they are ignored.
    #[serde(default)]
    pub includes: Vec<String>,
    /// The agent image's content id.
    pub image: String,
    /// The agent's configuration.
    #[serde(default)]
    pub agent_config: Option<AgentConfig>,
    /// Claude Code's own id of the last conversation in it.
    #[serde(default)]
    pub conversation: Option<String>,
    /// The limits that the agent met, in words.
    #[serde(default)]
    pub met: Vec<String>,
    /// When all of it was decided, or it ended without a change, in seconds since the epoch: from then on `gc` removes it by
    /// its age.
    #[serde(default)]
    pub settled: Option<u64>,
    /// Work that is in none of its changes, as text.
    #[serde(default)]
    pub holds: Vec<String>,
    /// Disk usage when it was collected: bytes, and whether that is only a part.
    #[serde(default)]
    pub size: Option<(u64, bool)>,
    /// The state of its life.
    pub state: State,
}

/// An agent's configuration besides its files; kept for `resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentConfig {
    /// Variables as the user gave them: `KEY=VALUE`, or `KEY` for one of theirs, whose value is not kept.
    pub env: Vec<String>,
    /// Resource limits.
    pub limits: Limits,
    /// Billionths of a CPU, 0 for no limit.
    pub nano_cpus: u64,
    /// Whether it reaches the model.
    pub model: bool,
}

/// The state of a sandbox's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum State {
    /// Being filled; if nobody holds the lock, it was interrupted and is worth nothing.
    Seeding,
    /// The agent works; if nobody holds the lock, it was interrupted.
    Running,
    /// The agent ended and its changes have been collected.
    Collected {
        /// The agent's exit status; nothing if Airlock was killed first.
        exit: Option<i64>,
    },
}

/// The applied state of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppliedState {
    /// The number of the last apply that is accounted for; the journals have what came after it.
    pub through: u64,
    pub paths: BTreeMap<RepoPath, AppliedPath>,
}

/// The applied state of one path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedPath {
    /// The applied selection.
    #[serde(rename = "units")]
    pub picks: Selection,
    /// The content after the last apply, if known: `Some(None)` is absent.
    #[serde(default, with = "known")]
    pub left: Option<Option<(EntryKind, ContentHash)>>,
}

/// Distinguishes "absent" from "unknown" in JSON: a list of none, one `null` or one value.
mod known {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(crate) fn serialize<T: Serialize, S: Serializer>(value: &Option<T>, to: S) -> Result<S::Ok, S::Error> {
        value.as_slice().serialize(to)
    }

    pub(crate) fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
        Vec::deserialize(from).map(|mut list: Vec<T>| list.pop())
    }
}

/// The version of records that this Airlock writes, and the newest that it reads.
pub const VERSION: u32 = 2;
/// Earlier rounds that are kept.
const MOST_ROUNDS: usize = 8;
/// Begins the name of a folder that is being made; no sandbox's name begins with a dot.
const NEW: &str = ".new-";
/// Begins the name of a folder that is being removed.
const GONE: &str = ".gone-";

/// All sandboxes of one repository.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
}

/// One sandbox's folder, perhaps owned.
#[derive(Debug)]
pub struct Sandbox {
    folder: PathBuf,
    /// Its record as last read or written.
    pub record: Record,
    lock: Option<File>,
}

impl Store {
    /// Names the store of a repository; nothing is made yet.
    #[must_use]
    pub fn of(common_dir: &Path) -> Self {
        Self { folder: common_dir.join("airlock/sandboxes") }
    }

    /// Creates a sandbox's folder and takes its lock.
    ///
    /// # Errors
    /// The name is taken.
    pub fn create(&self, record: Record) -> Result<Sandbox, SandboxError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        self.sweep();
        // Made aside and renamed: a folder under a name always has a record. The lock goes along.
        let aside = self.folder.join(format!("{NEW}{}", record.id));
        let folder = self.folder.join(record.name.as_str());
        DirBuilder::new().mode(0o700).create(&aside)?;
        let mut sandbox = Sandbox { folder: aside.clone(), record, lock: None };
        sandbox.lock()?;
        sandbox.save()?;
        match fs::rename(&aside, &folder) {
            Ok(()) => {
                sandbox.folder = folder;
                Ok(sandbox)
            }
            Err(e) => {
                fs::remove_dir_all(&aside)?;
                match e.kind() {
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                        Err(SandboxError::NameTaken(sandbox.record.name))
                    }
                    _ => Err(e.into()),
                }
            }
        }
    }

    /// Removes what a removal that was cut short has left. It is of no use to anybody, so a failure is no error.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(GONE) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Opens a sandbox by name; `None` if there is none.
    ///
    /// # Errors
    /// Its record is damaged.
    pub fn open(&self, name: &SandboxName) -> io::Result<Option<Sandbox>> {
        let folder = self.folder.join(name.as_str());
        let bytes = match fs::read(folder.join("record.json")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let damaged = |why: String| {
            let aside = format!("to go on without it, move {} away; airlock gc removes its volumes", folder.display());
            io::Error::new(io::ErrorKind::InvalidData, format!("the record of {name} {why}; {aside}"))
        };
        let record: Record = serde_json::from_slice(&bytes).map_err(|e| damaged(format!("is damaged: {e}")))?;
        if record.schema_version > VERSION {
            return Err(damaged("is of a newer Airlock".into()));
        }
        Ok(Some(Sandbox { folder, record, lock: None }))
    }

    /// Opens all of them, newest first.
    ///
    /// # Errors
    /// A record is damaged.
    pub fn all(&self) -> io::Result<Vec<Sandbox>> {
        self.each()?.into_iter().map(|(_, opened)| opened).collect()
    }

    /// Opens each, newest first; those whose records are damaged come with what is wrong.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn each(&self) -> io::Result<Vec<(SandboxName, io::Result<Sandbox>)>> {
        let mut found = Vec::new();
        let entries = match fs::read_dir(&self.folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(found),
            other => other?,
        };
        for entry in entries {
            if let Some(name) = entry?.file_name().to_str().and_then(|n| n.parse::<SandboxName>().ok())
                && let Some(opened) = self.open(&name).transpose()
            {
                found.push((name, opened));
            }
        }
        let created = |s: &io::Result<Sandbox>| s.as_ref().map_or(0, |s| s.record.created);
        found.sort_by_key(|(name, s)| (std::cmp::Reverse(created(s)), name.clone()));
        Ok(found)
    }
}

impl Sandbox {
    /// Becomes its owner until dropped.
    ///
    /// # Errors
    /// [`SandboxError::Busy`] if another process is.
    pub fn lock(&mut self) -> Result<(), SandboxError> {
        if self.lock.is_none() {
            let file = File::create(self.folder.join("lock"))?;
            match file.try_lock() {
                Ok(()) => self.lock = Some(file),
                Err(TryLockError::WouldBlock) => return Err(SandboxError::Busy(self.record.name.clone())),
                Err(TryLockError::Error(e)) => return Err(e.into()),
            }
        }
        Ok(())
    }

    /// Returns whether another process owns it.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.lock.is_none()
            && File::open(self.folder.join("lock"))
                .is_ok_and(|f| matches!(f.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Returns a path in its folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the record.
    pub fn save(&self) -> io::Result<()> {
        self.write_json("record.json", &self.record)
    }

    /// Opens its quarantine.
    pub fn quarantine(&self) -> io::Result<Quarantine> {
        Quarantine::open(self.folder.join("quarantine"))
    }

    /// Creates a place for what is only looked at: it goes with its guard, and with the next collecting if that is never dropped.
    pub fn passing_quarantine(&self) -> io::Result<(LiveView, Quarantine)> {
        self.sweep_passing()?;
        let folder = tempfile::Builder::new().prefix(PASSING).tempdir_in(&self.folder)?;
        let lock = File::create_new(folder.path().join("lock"))?;
        lock.lock()?;
        let store = self.quarantine()?.layered_over(folder.path().join("content"))?;
        Ok((LiveView { _folder: folder, _lock: lock }, store))
    }

    /// Removes what processes that were killed have only looked at.
    fn sweep_passing(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.folder)?.flatten() {
            if !entry.file_name().as_encoded_bytes().starts_with(PASSING.as_bytes()) {
                continue;
            }
            let is_over = match File::open(entry.path().join("lock")) {
                Ok(lock) => lock.try_lock().is_ok(),
                // It is being made, or was interrupted then.
                Err(_) => !is_young(&entry),
            };
            if is_over {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes what nothing names any more: no changeset, round, record of an apply, decision or edit, neither of this sandbox
    /// nor of an apply of it. The caller owns the sandbox. Returns how many bytes were removed.
    pub fn sweep_quarantine(&self) -> io::Result<u64> {
        let mut named = HashSet::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                hashes(&fs::read(entry.path())?, &mut named);
            }
        }
        self.sweep_passing()?;
        let applies = self.folder.parent().and_then(Path::parent).map(|airlock| airlock.join("applies"));
        for folder in applies.and_then(|applies| fs::read_dir(applies).ok()).into_iter().flatten().flatten() {
            for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                if file.file_type().is_ok_and(|kind| kind.is_file()) {
                    match fs::read(file.path()) {
                        Ok(text) => hashes(&text, &mut named),
                        // Another process writes there, and has renamed it.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        self.quarantine()?.remove_unreferenced(|name| named.contains(name))
    }

    /// Reads the collected changeset; `None` before that.
    ///
    /// # Errors
    /// It is damaged.
    pub fn changeset(&self) -> io::Result<Option<Changeset>> {
        self.read_json("changeset.json")
    }

    /// Seals a changeset, and removes the contents that nothing names. One of an earlier round, if there is another, is kept
    /// beside it.
    pub fn set_changeset(&self, changeset: &Changeset) -> io::Result<()> {
        // A damaged one has nothing to be kept.
        if let Some(before) = self.changeset().ok().flatten().filter(|before| before.id != changeset.id) {
            let numbers = self.round_numbers()?;
            let last = numbers.first().copied().unwrap_or(0);
            // It is there already if this was interrupted below.
            if self.round(last).is_none_or(|round| round.id != before.id) {
                self.write_json(&round_file(last + 1), &before)?;
            }
            for number in numbers.get(MOST_ROUNDS - 1..).unwrap_or_default() {
                fs::remove_file(self.folder.join(round_file(*number)))?;
            }
        }
        self.write_json("changeset.json", changeset)?;
        // Contents of a round that is gone, and what was read for the way to write alone: ignore rules, attributes. What is
        // left by a sweep that fails, the next one finds.
        let _ = self.sweep_quarantine();
        Ok(())
    }

    /// Reads the changesets of earlier rounds, the last one first, as far as they are kept and can be read: with less, more is
    /// new, and more is a conflict.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn rounds(&self) -> io::Result<Vec<Changeset>> {
        Ok(self.round_numbers()?.into_iter().filter_map(|number| self.round(number)).collect())
    }

    fn round(&self, number: u32) -> Option<Changeset> {
        self.read_json(&round_file(number)).ok().flatten()
    }

    /// Returns the numbers of the rounds that are kept, the last one first.
    fn round_numbers(&self) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|n| n.strip_prefix("round-")?.strip_suffix(".json")?.parse().ok());
            found.extend(number.filter(|number: &u32| name == *round_file(*number)));
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// Reads which units earlier applies brought, by path.
    ///
    /// # Errors
    /// It is damaged.
    pub fn applied(&self) -> io::Result<AppliedState> {
        let (through, rows): (u64, Vec<(RepoPath, AppliedPath)>) = self.read_json("brought.json")?.unwrap_or_default();
        Ok(AppliedState { through, paths: rows.into_iter().collect() })
    }

    /// Remembers which units applies brought.
    pub fn set_applied(&self, applied: &AppliedState) -> io::Result<()> {
        self.write_json("brought.json", &(applied.through, applied.paths.iter().collect::<Vec<_>>()))
    }

    /// Keeps a further file of JSON in the sandbox's folder.
    pub fn keep(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        self.write_json(name, value)
    }

    /// Keeps a text in the sandbox's folder, beside others of that name, and gives its path.
    pub fn keep_text(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let (stem, ending) = name.rsplit_once('.').unwrap_or((name, "txt"));
        let names = std::iter::once(name.to_owned()).chain((2..).map(|n| format!("{stem}-{n}.{ending}")));
        for name in names {
            match fs::read(self.path(&name)) {
                // Another one, that somebody may want yet.
                Ok(there) if there != text.as_bytes() => {}
                _ => {
                    write_atomic(&self.folder, &name, text.as_bytes())?;
                    return Ok(self.path(&name));
                }
            }
        }
        unreachable!("there is always another number")
    }

    /// Removes such a text, which nobody needs any more.
    pub fn drop_text(&self, path: &Path) {
        let _ = fs::remove_file(path);
    }

    /// Remembers what was written on top of the base.
    pub fn set_on_top(&self, on_top: &BaseDelta) -> io::Result<()> {
        if on_top.is_empty() { Ok(()) } else { self.write_json("on-top.json", &on_top.to_store()) }
    }

    /// Reads it back.
    pub(crate) fn on_top(&self) -> io::Result<BaseDelta> {
        Ok(BaseDelta::from_stored(self.read_json::<Vec<DeltaEntry>>("on-top.json")?.unwrap_or_default()))
    }

    /// Remembers the stat data of the files of a copied workspace.
    pub fn set_seeded(&self, seeded: &BTreeMap<RepoPath, Stat>) -> io::Result<()> {
        let mut encoder = Encoder::default();
        for (path, stat) in seeded {
            encoder.written(&Written { path: path.as_bytes().to_vec(), stat: *stat });
        }
        write_atomic(&self.folder, "seeded", &encoder.0)
    }

    /// Reads them back.
    pub(crate) fn seeded(&self) -> io::Result<BTreeMap<Vec<u8>, Stat>> {
        let bytes = fs::read(self.folder.join("seeded"))?;
        let (mut decoder, mut found) = (Decoder(&bytes), BTreeMap::new());
        while !decoder.is_empty() {
            let written = decoder.written()?;
            found.insert(written.path, written.stat);
        }
        Ok(found)
    }

    /// Removes the folder with all that is in it.
    pub fn remove(self) -> io::Result<()> {
        let aside = self.folder.with_file_name(format!("{GONE}{}", self.record.id));
        fs::rename(&self.folder, &aside)?;
        fs::remove_dir_all(&aside)
    }

    fn read_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.folder.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{name} of {} is damaged: {e}", self.record.name))
            }),
        }
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let mut file = io::BufWriter::new(tempfile::NamedTempFile::new_in(&self.folder)?);
        serde_json::to_writer_pretty(&mut file, value)?;
        put_in_place(file.into_inner().map_err(io::IntoInnerError::into_error)?, &self.folder.join(name))
    }
}

/// The beginning of the names of folders for what is only looked at.
const PASSING: &str = "looked-at-";
/// Maximum age of such a folder while its process may still run.
const PASSES_WITHIN: Duration = Duration::from_secs(24 * 60 * 60);

/// A place for what is only looked at: it goes with this guard, and its lock tells others that it is in use.
pub struct LiveView {
    _folder: tempfile::TempDir,
    _lock: File,
}

fn is_young(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|m| m.modified());
    modified.is_ok_and(|then| then.elapsed().is_ok_and(|age| age < PASSES_WITHIN))
}

/// Finds everything that looks like a content's hash.
fn hashes(text: &[u8], found: &mut HashSet<String>) {
    let is_digit = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    for word in text.split(|b| !is_digit(b)).filter(|word| word.len() == 64) {
        found.insert(String::from_utf8_lossy(word).into_owned());
    }
}

fn round_file(number: u32) -> String {
    format!("round-{number}.json")
}
