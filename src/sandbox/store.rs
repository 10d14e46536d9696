//! The records of sandboxes: one directory each in `<git common dir>/airlock/sandboxes/`, readable only by the user.
#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::SandboxError;
use super::layer::Layer;
use super::limits::Limits;
use super::ports::PortSpec;
use super::run_report::RunReport;
use super::workspace::WorkspaceKind;
use crate::base::{Base, BaseDelta, DeltaEntry, Manifest};
use crate::changes::{Changeset, ContentHash, Quarantine, Selection};
use crate::claude_config::ConfigSummary;
use crate::core::atomic_file::{sync_and_persist, write_atomic};
use crate::core::known::Known;
use crate::core::name::SandboxName;
use crate::core::path::{EntryKind, RepoPath};
use crate::gateway::{HostLists, NetworkLevel};
use crate::git::ObjectReader;
use crate::protocol::{Decoder, Encoder, Stat, WrittenFile};

/// The record of a sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// The version of this format.
    pub schema_version: u32,
    pub name: SandboxName,
    /// A random number in hexadecimal: the value of the label on all of its objects in the engine.
    pub id: String,
    /// Creation time in seconds since the epoch.
    pub created: u64,
    /// The nanoseconds of the creation time, for the order of sandboxes that were created within a second.
    #[serde(default)]
    pub created_nanos: u32,
    /// `claude`, `run` or `shell`.
    pub verb: String,
    /// The commit that it was seeded with.
    pub base: String,
    /// The branch; `None` for a detached HEAD.
    pub branch: Option<String>,
    /// The repository's id, as in the labels.
    pub repository: String,
    /// The working tree that it was created from, escaped. Its changes are applied only there.
    pub worktree: String,
    /// The same working tree by its git directory, see [`crate::git::HostRepo::worktree_place`].
    #[serde(default)]
    pub worktree_place: Option<String>,
    /// The workspace's mount point.
    pub workspace: String,
    /// The directory in which the agent starts.
    #[serde(default)]
    pub workdir: String,
    /// The kind of workspace. (Records of version 1 lack this field and those below that have a default. Such a sandbox
    /// can only be reviewed and removed.)
    #[serde(default)]
    pub workspace_kind: WorkspaceKind,
    /// The base of the workspace.
    #[serde(default)]
    pub base_volume: Base,
    /// The setup layer below the workspace.
    #[serde(default)]
    pub layer: Option<Layer>,
    /// The layer that this sandbox is to become, if it runs a setup.
    #[serde(default)]
    pub builds_layer: Option<Layer>,
    /// The contents that it started with.
    #[serde(default)]
    pub manifest: Manifest,
    /// The entries that Airlock brought into the home: paths of files with their size, and of directories.
    #[serde(default)]
    pub brought: BTreeMap<String, Option<u64>>,
    /// The user's configuration of Claude Code.
    #[serde(default)]
    pub user_config: ConfigSummary,
    /// Globs of ignored files that are collected.
    #[serde(default)]
    pub includes: Vec<String>,
    /// The agent image's content id.
    pub image: String,
    /// The agent's configuration.
    #[serde(default)]
    pub agent_config: Option<AgentConfig>,
    /// Claude Code's own id of the last conversation.
    #[serde(default)]
    pub conversation: Option<String>,
    /// The limits that the agent reached, as text.
    #[serde(default)]
    pub limits_hit: Vec<String>,
    /// The time in seconds since the epoch when all changes were decided, or when the agent ended without a change. `gc`
    /// counts the age of the sandbox from then on.
    #[serde(default)]
    pub decided_at: Option<u64>,
    /// The progress of the last review.
    #[serde(default)]
    pub progress: Option<ReviewProgress>,
    /// Work that is in none of its changes, as text.
    #[serde(default)]
    pub other_contents: Vec<String>,
    /// Disk usage at the time of collection: bytes, and whether that is only a part.
    #[serde(default)]
    pub size: Option<(u64, bool)>,
    /// The engine that was chosen for it, or `None` for that of the environment.
    #[serde(default)]
    pub engine: Option<String>,
    /// The stage of its lifecycle.
    pub state: SandboxState,
}

/// The progress of the review of a changeset, for lists of sandboxes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReviewProgress {
    /// The ID of the changeset.
    pub changeset: String,
    /// Numbers of hunks: all that can be accepted, and those that are decided, accepted and applied, at least in part.
    pub hunks: usize,
    pub decided: usize,
    pub accepted: usize,
    pub applied: usize,
    pub comments: usize,
}

/// The configuration of an agent, excluding its files. It is kept for `resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentConfig {
    /// Variables as the user gave them: `KEY=VALUE`, or `KEY` for one of the user's own, whose value is not kept.
    pub env: Vec<String>,
    pub limits: Limits,
    /// CPU limit in billionths of a CPU; 0 for no limit.
    pub nano_cpus: u64,
    /// The name of the runtime, or `None` for the engine's default.
    #[serde(default)]
    pub runtime: Option<String>,
    /// The network of the agent.
    #[serde(default)]
    pub network: NetworkConfig,
}

/// The network of an agent, as the user chose it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    pub level: NetworkLevel,
    pub lists: HostLists,
    /// Whether packages come only from the cache.
    pub offline: bool,
    /// The number of tokens of the model per run.
    pub budget: Option<u64>,
    /// Ports of the sandbox that are published on the host.
    #[serde(default)]
    pub ports: Vec<PortSpec>,
    /// Ports of the host's loopback that the sandbox can reach.
    #[serde(default)]
    pub forwards: Vec<u16>,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        Self {
            level: NetworkLevel::Model,
            lists: HostLists::default(),
            offline: false,
            budget: None,
            ports: Vec::new(),
            forwards: Vec::new(),
        }
    }
}

/// The stage of a sandbox's lifecycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub enum SandboxState {
    /// The sandbox is being filled. If the lock is free, it was interrupted and is worthless.
    Seeding,
    /// The agent is running. If the lock is free, it was interrupted.
    Running,
    /// The agent has ended, and its changes have been collected.
    Collected {
        /// The agent's exit status; `None` if Airlock was killed first.
        exit: Option<i64>,
    },
}

/// The applied state of a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppliedState {
    /// The number of the last apply that is accounted for. The journals have later ones.
    pub last_apply: u64,
    pub paths: BTreeMap<RepoPath, AppliedPath>,
}

/// The applied state of one path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedPath {
    /// The applied selection.
    pub selection: Selection,
    /// The content after the last apply.
    #[serde(default)]
    pub result: Known<(EntryKind, ContentHash)>,
}

/// The record version that this Airlock writes, and the newest one that it reads.
pub(super) const RECORD_VERSION: u32 = 2;
/// Maximum number of earlier rounds that are kept.
const MAX_ROUNDS: usize = 8;
/// The audit log of a sandbox's network, in its directory.
pub(crate) const NETWORK_LOG: &str = "network.jsonl";
/// The directory for the logs of removed sandboxes, beside that of the sandboxes.
const KEPT_LOGS: &str = "network-logs";
/// The prefix of a directory that is being created. No sandbox's name begins with a dot.
const NEW_PREFIX: &str = ".new-";
/// The prefix of a directory that is being removed.
const GONE_PREFIX: &str = ".gone-";

/// The sandboxes of one repository.
#[derive(Debug, Clone)]
pub struct SandboxStore {
    dir: PathBuf,
}

/// A sandbox's directory and record, with its lock if this process owns it.
#[derive(Debug)]
pub struct Sandbox {
    dir: PathBuf,
    /// The record as last read or written.
    pub record: SandboxRecord,
    lock: Option<OwnedLock>,
}

/// A lock that is released when it is dropped, even if a child process that is being started still has a copy of its
/// descriptor.
#[derive(Debug)]
struct OwnedLock(File);

impl Drop for OwnedLock {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

impl SandboxStore {
    /// Creates the store of a repository. Nothing is written yet.
    #[must_use]
    pub fn new(common_dir: &Path) -> Self {
        Self { dir: common_dir.join("airlock/sandboxes") }
    }

    /// Creates a sandbox's directory and takes its lock.
    ///
    /// # Errors
    /// The name is taken.
    pub fn create_sandbox(&self, record: SandboxRecord) -> Result<Sandbox, SandboxError> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        self.remove_leftovers();
        // The directory is created under another name and renamed, so that a sandbox's directory always has a record. The
        // lock remains held.
        let new_dir = self.dir.join(format!("{NEW_PREFIX}{}", record.id));
        let dir = self.dir.join(record.name.as_str());
        DirBuilder::new().mode(0o700).create(&new_dir)?;
        let mut sandbox = Sandbox { dir: new_dir.clone(), record, lock: None };
        sandbox.acquire_lock()?;
        sandbox.save_record()?;
        match fs::rename(&new_dir, &dir) {
            Ok(()) => {
                sandbox.dir = dir;
                Ok(sandbox)
            }
            Err(e) => {
                fs::remove_dir_all(&new_dir)?;
                match e.kind() {
                    io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists => {
                        Err(SandboxError::NameTaken(sandbox.record.name))
                    }
                    _ => Err(e.into()),
                }
            }
        }
    }

    /// Removes leftovers of interrupted removals. They have no use, so a failure is ignored.
    fn remove_leftovers(&self) {
        for entry in fs::read_dir(&self.dir).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(GONE_PREFIX) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Opens a sandbox by name; returns `None` if it does not exist.
    ///
    /// # Errors
    /// The record is damaged, or was written by a newer Airlock.
    pub fn open(&self, name: &SandboxName) -> io::Result<Option<Sandbox>> {
        let dir = self.dir.join(name.as_str());
        let bytes = match fs::read(dir.join("record.json")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let damaged = |why: String| {
            let aside = format!("to continue without it, move {} away, then run `airlock gc`", dir.display());
            io::Error::new(io::ErrorKind::InvalidData, format!("the record of `{name}` {why}; {aside}"))
        };
        // First, because a newer record may have another form.
        let version = serde_json::from_slice(&bytes).map(|FormatVersion { schema_version }| schema_version);
        if version.as_ref().is_ok_and(|version| *version > RECORD_VERSION) {
            return Err(damaged("was written by a newer Airlock".into()));
        }
        let record: SandboxRecord = serde_json::from_slice(&bytes).map_err(|e| damaged(format!("is damaged: {e}")))?;
        Ok(Some(Sandbox { dir, record, lock: None }))
    }

    /// Returns the path of the audit log that a removed sandbox of this name has left, if there is one.
    #[must_use]
    pub fn find_kept_log(&self, name: &SandboxName) -> Option<PathBuf> {
        Some(self.dir.parent()?.join(KEPT_LOGS).join(format!("{name}.jsonl"))).filter(|path| path.exists())
    }

    /// Removes kept logs that are older than `age`, and returns their number.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn expire_kept_logs(&self, age: Duration, dry_run: bool) -> io::Result<usize> {
        let Some(dir) = self.dir.parent().map(|common| common.join(KEPT_LOGS)).filter(|dir| dir.exists()) else {
            return Ok(0);
        };
        let mut removed = 0;
        for entry in fs::read_dir(dir)?.flatten() {
            let is_old = entry.metadata()?.modified()?.elapsed().is_ok_and(|elapsed| elapsed > age);
            if is_old && (dry_run || fs::remove_file(entry.path()).is_ok()) {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Opens all sandboxes, newest first.
    ///
    /// # Errors
    /// A record is damaged.
    pub fn open_all(&self) -> io::Result<Vec<Sandbox>> {
        self.open_each()?.into_iter().map(|(_, opened)| opened).collect()
    }

    /// Opens each sandbox, newest first, with the error for each damaged record.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open_each(&self) -> io::Result<Vec<(SandboxName, io::Result<Sandbox>)>> {
        let mut found = Vec::new();
        let entries = match fs::read_dir(&self.dir) {
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
        let created = |s: &io::Result<Sandbox>| s.as_ref().map_or((0, 0), |s| s.record.creation_time());
        found.sort_by_key(|(name, s)| (std::cmp::Reverse(created(s)), name.clone()));
        Ok(found)
    }
}

impl SandboxRecord {
    /// Returns the creation time for an order: seconds, and the nanoseconds of the last one.
    #[must_use]
    pub fn creation_time(&self) -> (u64, u32) {
        (self.created, self.created_nanos)
    }
}

impl Sandbox {
    /// Takes ownership of the sandbox until it is dropped.
    ///
    /// # Errors
    /// [`SandboxError::Busy`] if another process owns it.
    pub fn acquire_lock(&mut self) -> Result<(), SandboxError> {
        if self.lock.is_none() {
            let file = File::create(self.dir.join("lock"))?;
            for _ in 0..LOCK_ATTEMPTS {
                match file.try_lock() {
                    Ok(()) => {
                        self.lock = Some(OwnedLock(file));
                        return Ok(());
                    }
                    // A process that only looks, see `is_busy`, holds the lock for a moment.
                    Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
                    Err(TryLockError::Error(e)) => return Err(e.into()),
                }
            }
            return Err(SandboxError::Busy(self.record.name.clone()));
        }
        Ok(())
    }

    /// Returns whether another process owns the sandbox.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.lock.is_none()
            && File::open(self.dir.join("lock"))
                .is_ok_and(|f| matches!(f.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Returns the time at which its record was last written.
    ///
    /// # Errors
    /// The record cannot be found.
    pub(crate) fn modified_at(&self) -> io::Result<std::time::SystemTime> {
        fs::metadata(self.dir.join("record.json"))?.modified()
    }

    /// Returns the git directory of its repository.
    pub(super) fn common_dir(&self) -> Option<&Path> {
        self.dir.ancestors().nth(3)
    }

    /// Returns a path in the sandbox's directory.
    #[must_use]
    pub fn file_path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Keeps the audit log of the network beside the sandboxes, for a sandbox that is removed.
    pub fn keep_network_log(&self) -> io::Result<()> {
        let log = self.dir.join(NETWORK_LOG);
        let Some(common) = self.dir.parent().and_then(Path::parent).filter(|_| log.exists()) else { return Ok(()) };
        let kept = common.join(KEPT_LOGS);
        DirBuilder::new().recursive(true).mode(0o700).create(&kept)?;
        fs::rename(log, kept.join(format!("{}.jsonl", self.record.name)))
    }

    /// Writes the report of the last run.
    pub(crate) fn save_report(&self, report: &RunReport) -> io::Result<()> {
        self.write_json(LAST_RUN, report)
    }

    /// Removes the report of an earlier run.
    pub(super) fn remove_report(&self) -> io::Result<()> {
        match fs::remove_file(self.dir.join(LAST_RUN)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Reads the report of the last run, if it was run in a session.
    ///
    /// # Errors
    /// The report is damaged.
    pub(crate) fn read_report(&self) -> io::Result<Option<RunReport>> {
        self.read_json(LAST_RUN)
    }

    /// Writes the record.
    pub fn save_record(&self) -> io::Result<()> {
        self.write_json("record.json", &self.record)
    }

    /// Opens its quarantine.
    pub fn open_quarantine(&self) -> io::Result<Quarantine> {
        let store = Quarantine::open(self.dir.join("quarantine"))?;
        Ok(match self.common_dir() {
            Some(common_dir) => store.with_objects(Arc::new(ObjectReader::new(common_dir))),
            None => store,
        })
    }

    /// Creates a temporary quarantine for a live view. It is removed with its guard, or by the next collection if the
    /// guard is never dropped.
    pub fn create_live_quarantine(&self) -> io::Result<(LiveView, Quarantine)> {
        self.remove_stale_live_views()?;
        let dir = tempfile::Builder::new().prefix(LIVE_PREFIX).tempdir_in(&self.dir)?;
        let lock = File::create_new(dir.path().join("lock"))?;
        lock.lock()?;
        let store = self.open_quarantine()?.layered_over(dir.path().join("content"))?;
        Ok((LiveView { _dir: dir, _lock: lock }, store))
    }

    /// Removes temporary quarantines of processes that were killed.
    fn remove_stale_live_views(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)?.flatten() {
            if !entry.file_name().as_encoded_bytes().starts_with(LIVE_PREFIX.as_bytes()) {
                continue;
            }
            let is_over = match File::open(entry.path().join("lock")) {
                Ok(lock) => lock.try_lock().is_ok(),
                // The lock does not exist while the directory is being created, or if that was interrupted.
                Err(_) => !is_recent(&entry),
            };
            if is_over {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes contents that are no longer referenced, and returns the number of bytes removed.
    ///
    /// References are in changesets, rounds, records of applies, decisions and edits of this sandbox, and in the
    /// journals of applies. The caller must own the sandbox.
    pub fn sweep_quarantine(&self) -> io::Result<u64> {
        let mut referenced = HashSet::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                find_hashes(&fs::read(entry.path())?, &mut referenced);
            }
        }
        self.remove_stale_live_views()?;
        let applies = self.dir.parent().and_then(Path::parent).map(|airlock| airlock.join("applies"));
        for dir in applies.and_then(|applies| fs::read_dir(applies).ok()).into_iter().flatten().flatten() {
            for file in fs::read_dir(dir.path()).into_iter().flatten().flatten() {
                if file.file_type().is_ok_and(|kind| kind.is_file()) {
                    match fs::read(file.path()) {
                        // A journal names its sandbox. Those of others refer to other quarantines.
                        Ok(text) if memchr::memmem::find(&text, self.record.id.as_bytes()).is_none() => {}
                        Ok(text) => find_hashes(&text, &mut referenced),
                        // Another process is writing there and has renamed the file.
                        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        self.open_quarantine()?.remove_unreferenced(|name| referenced.contains(name))
    }

    /// Reads the collected changeset; returns `None` before the first collection.
    ///
    /// # Errors
    /// The changeset is damaged.
    pub fn read_changeset(&self) -> io::Result<Option<Changeset>> {
        self.read_json("changeset.json")
    }

    /// Writes a changeset, and removes contents that are no longer referenced. The changeset of an earlier round is
    /// kept beside it.
    pub fn write_changeset(&self, changeset: &Changeset) -> io::Result<()> {
        // A damaged changeset cannot be kept.
        if let Some(before) = self.read_changeset().ok().flatten().filter(|before| before.id != changeset.id) {
            let numbers = self.round_numbers()?;
            let last = numbers.first().copied().unwrap_or(0);
            // It exists already if this function was interrupted below.
            if self.read_round(last).is_none_or(|round| round.id != before.id) {
                self.write_json(&round_file(last + 1), &before)?;
            }
            for number in numbers.get(MAX_ROUNDS - 1..).unwrap_or_default() {
                fs::remove_file(self.dir.join(round_file(*number)))?;
            }
        }
        self.write_json("changeset.json", changeset)?;
        // Removes contents of dropped rounds, and those that were only read for collecting, such as ignore rules and
        // attributes. If this fails, the next sweep removes them.
        let _ = self.sweep_quarantine();
        Ok(())
    }

    /// Reads the changesets of earlier rounds, last one first, as far as they are kept and readable. If one is missing,
    /// more changes are new, and more are conflicts.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn read_rounds(&self) -> io::Result<Vec<Changeset>> {
        Ok(self.round_numbers()?.into_iter().filter_map(|number| self.read_round(number)).collect())
    }

    fn read_round(&self, number: u32) -> Option<Changeset> {
        self.read_json(&round_file(number)).ok().flatten()
    }

    /// Returns the numbers of the kept rounds, last one first.
    fn round_numbers(&self) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|n| n.strip_prefix("round-")?.strip_suffix(".json")?.parse().ok());
            found.extend(number.filter(|number: &u32| name == *round_file(*number)));
        }
        found.sort_unstable_by(|a, b| b.cmp(a));
        Ok(found)
    }

    /// Reads the units that earlier applies wrote, by path.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn read_applied(&self) -> io::Result<AppliedState> {
        let (through, rows): (u64, Vec<(RepoPath, AppliedPath)>) = self.read_json("applied.json")?.unwrap_or_default();
        Ok(AppliedState { last_apply: through, paths: rows.into_iter().collect() })
    }

    /// Writes the record of the units that applies wrote.
    pub fn write_applied(&self, applied: &AppliedState) -> io::Result<()> {
        self.write_json("applied.json", &(applied.last_apply, applied.paths.iter().collect::<Vec<_>>()))
    }

    /// Writes a text file to the sandbox's directory and returns its path. A file with other content keeps its name,
    /// and the new one gets a number.
    pub fn write_text_file(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let (stem, ending) = name.rsplit_once('.').unwrap_or((name, "txt"));
        let names = std::iter::once(name.to_owned()).chain((2..).map(|n| format!("{stem}-{n}.{ending}")));
        for name in names {
            match fs::read(self.file_path(&name)) {
                // A different text, which may still be needed.
                Ok(existing) if existing != text.as_bytes() => {}
                _ => {
                    write_atomic(&self.dir, &name, text.as_bytes())?;
                    return Ok(self.file_path(&name));
                }
            }
        }
        unreachable!("there is always another number")
    }

    /// Removes a text file that is no longer needed.
    pub fn remove_text_file(&self, path: &Path) {
        let _ = fs::remove_file(path);
    }

    /// Writes the delta over the base.
    pub fn save_delta(&self, delta: &BaseDelta) -> io::Result<()> {
        if delta.is_empty() { Ok(()) } else { self.write_json("delta.json", &delta.to_entries()) }
    }

    /// Reads the delta over the base.
    pub(crate) fn load_delta(&self) -> io::Result<BaseDelta> {
        Ok(BaseDelta::from_stored(self.read_json::<Vec<DeltaEntry>>("delta.json")?.unwrap_or_default()))
    }

    /// Writes the stat data of the files of a copied workspace.
    pub fn write_seeded_stats(&self, seeded: &BTreeMap<RepoPath, Stat>) -> io::Result<()> {
        let mut encoder = Encoder::default();
        for (path, stat) in seeded {
            encoder.encode_written(&WrittenFile { path: path.as_bytes().to_vec(), stat: *stat });
        }
        write_atomic(&self.dir, "seeded", &encoder.0)
    }

    /// Reads the stat data of the files of a copied workspace.
    pub(crate) fn read_seeded_stats(&self) -> io::Result<BTreeMap<Vec<u8>, Stat>> {
        let bytes = fs::read(self.dir.join("seeded"))?;
        let (mut decoder, mut found) = (Decoder(&bytes), BTreeMap::new());
        while !decoder.is_empty() {
            let written = decoder.decode_written()?;
            found.insert(written.path, written.stat);
        }
        Ok(found)
    }

    /// Removes the sandbox's directory.
    pub fn remove(self) -> io::Result<()> {
        let gone_dir = self.dir.with_file_name(format!("{GONE_PREFIX}{}", self.record.id));
        fs::rename(&self.dir, &gone_dir)?;
        fs::remove_dir_all(&gone_dir)
    }

    fn read_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match fs::read(self.dir.join(name)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{name} of `{}` is damaged: {e}", self.record.name))
            }),
        }
    }

    pub(super) fn write_json(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let mut file = io::BufWriter::new(tempfile::NamedTempFile::new_in(&self.dir)?);
        serde_json::to_writer_pretty(&mut file, value)?;
        sync_and_persist(file.into_inner().map_err(io::IntoInnerError::into_error)?, &self.dir.join(name))
    }
}

/// The name of the report of the last run.
const LAST_RUN: &str = "last-run.json";
/// Number of attempts to take the lock of a sandbox, and the pause between them.
const LOCK_ATTEMPTS: usize = 3;
const LOCK_PAUSE: Duration = Duration::from_millis(10);
/// The prefix of directories for live views.
const LIVE_PREFIX: &str = "live-";
/// Maximum age of such a directory without a lock whose process may still be running.
const LIVE_MAX_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// The part of a record that every version has.
#[derive(Deserialize)]
struct FormatVersion {
    schema_version: u32,
}

/// The guard of a temporary quarantine. It removes the directory when dropped, and its lock shows that the directory is
/// in use.
pub struct LiveView {
    _dir: tempfile::TempDir,
    _lock: File,
}

fn is_recent(entry: &fs::DirEntry) -> bool {
    let modified = entry.metadata().and_then(|m| m.modified());
    modified.is_ok_and(|then| then.elapsed().is_ok_and(|age| age < LIVE_MAX_AGE))
}

/// Length of the hash of a content.
const HASH_LENGTH: usize = 64;

/// Finds everything that looks like the hash of a content.
fn find_hashes(text: &[u8], found: &mut HashSet<String>) {
    let is_digit = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    let mut rest = text;
    while let Some(word) = rest.get(..HASH_LENGTH) {
        // Most of a text is skipped, because a window of this length has another character near its end.
        if let Some(at) = word.iter().rposition(|b| !is_digit(b)) {
            rest = &rest[at + 1..];
            continue;
        }
        let length = rest.iter().position(|b| !is_digit(b)).unwrap_or(rest.len());
        if length == HASH_LENGTH {
            found.insert(String::from_utf8_lossy(word).into_owned());
        }
        rest = &rest[length..];
    }
}

fn round_file(number: u32) -> String {
    format!("round-{number}.json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_found_between_other_characters() {
        let (one, other) = ("ab".repeat(32), "0123456789abcdef".repeat(4));
        for text in [
            format!("{one} {other}"),
            format!("{{\"a\":\"{one}\",\"b\":[\"{other}\"]}}"),
            format!("x{one}y{other}z"),
            format!("{} {one} {}f {other}", "a".repeat(63), other),
        ] {
            let mut found = HashSet::new();
            find_hashes(text.as_bytes(), &mut found);
            assert_eq!(found, HashSet::from([one.clone(), other.clone()]), "{text}");
        }
        let mut found = HashSet::new();
        find_hashes("A".repeat(64).as_bytes(), &mut found);
        assert!(found.is_empty());
    }
}
