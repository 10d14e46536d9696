//! The records of a repository's base volumes: one directory each in `<git common dir>/airlock/bases/`.
//!
//! *Invariant:* a base is recorded after it was sealed, and its record holds the nonce of the seal. A volume without a
//! record is mounted only for the sandbox that built it, and a recorded volume with another seal is never mounted below
//! a workspace.
#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::core::atomic_file::write_atomic;
use crate::core::path::RepoPath;
use crate::engine::EngineInfo;

/// The record of one base.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The version of this format.
    pub schema_version: u32,
    /// A random number in hexadecimal: the name of the record's directory, and the value of the label on the volume.
    pub id: String,
    /// The repository's id, as in the labels.
    pub repository: String,
    pub volume: String,
    /// The place where its engine stores volumes, see `EngineInfo`. Empty in records of earlier versions.
    #[serde(default)]
    pub place: String,
    /// The volume with the launcher for the agent containers that use this base.
    pub launcher: String,
    /// The content of the seal in the volume.
    pub nonce: String,
    /// The key of all content, see [`crate::git::Snapshot::base_key`].
    pub key: String,
    /// The key of the rules by which the content was written.
    pub config_key: String,
    /// The commit of the files, in hexadecimal.
    pub commit: String,
    /// The branch that HEAD names.
    pub branch: Option<String>,
    /// The key of the refs beside that branch.
    #[serde(default)]
    pub refs: String,
    /// Number of files, excluding git's own.
    pub files: usize,
    /// Total size of these files in bytes.
    pub bytes: u64,
    /// LFS pointers whose content the local store did not have.
    pub missing_lfs_objects: Vec<RepoPath>,
    /// Files that are in git's stored form, because Airlock does not run their filter.
    #[serde(default)]
    pub filtered: Vec<RepoPath>,
    /// Creation time in milliseconds since the epoch.
    pub created: u64,
    /// Time of the last use in milliseconds since the epoch.
    pub used: u64,
}

impl Base {
    /// Returns whether the volume may be on this engine.
    #[must_use]
    pub fn may_be_on(&self, engine: &EngineInfo) -> bool {
        self.place == engine.place || self.place.is_empty() && engine.address.starts_with("unix://")
    }
}

/// The bases of one repository.
#[derive(Debug, Clone)]
pub struct BaseStore {
    dir: PathBuf,
}

/// The lock on a base. It is shared while a process uses the base for a sandbox that is not recorded yet, and exclusive
/// while a process removes the base.
#[derive(Debug)]
pub struct BaseLease(#[expect(dead_code, reason = "the lock is what it is for")] File);

/// The lock on building bases with the same key. Two concurrent first starts therefore build only one base.
#[derive(Debug)]
pub struct BuildLock(#[expect(dead_code, reason = "the lock is what it is for")] File);

impl BaseStore {
    /// Creates the store of a repository. Nothing is written yet.
    #[must_use]
    pub fn new(common_dir: &Path) -> Self {
        Self { dir: common_dir.join("airlock/bases") }
    }

    /// Returns all bases, last used first. A damaged record is skipped, and its volume is an orphan then.
    pub fn list_bases(&self) -> io::Result<Vec<Base>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let bytes = fs::read(entry?.path().join("record.json")).unwrap_or_default();
            found.extend(serde_json::from_slice::<Base>(&bytes).ok().filter(|b| b.schema_version == 1));
        }
        found.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.id.cmp(&b.id)));
        Ok(found)
    }

    /// Returns the base with this id.
    pub fn find_by_id(&self, id: &str) -> io::Result<Option<Base>> {
        Ok(self.list_bases()?.into_iter().find(|b| b.id == id))
    }

    /// Locks the building of bases with this key. Waits while another process builds one.
    pub fn lock_build(&self, key: &str) -> io::Result<BuildLock> {
        let file = self.lock_file(key)?;
        file.lock()?;
        Ok(BuildLock(file))
    }

    /// Locks the building of bases with this key without waiting; returns `None` if another process builds one.
    pub fn try_lock_build(&self, key: &str) -> io::Result<Option<BuildLock>> {
        let file = self.lock_file(key)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(BuildLock(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }

    /// Returns whether any process is building a base.
    pub fn is_building(&self) -> io::Result<bool> {
        for digit in "0123456789abcdef".chars() {
            let path = self.dir.join("making").join(digit.to_string());
            match File::open(path).map(|file| file.try_lock_shared()) {
                Ok(Err(fs::TryLockError::WouldBlock)) => return Ok(true),
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(false)
    }

    fn lock_file(&self, key: &str) -> io::Result<File> {
        let locks = self.dir.join("making");
        DirBuilder::new().recursive(true).mode(0o700).create(&locks)?;
        // A few locks are shared by all keys. They are never removed, because another process may wait for a lock.
        let name = key.get(..1).unwrap_or("0");
        File::create(locks.join(name))
    }

    /// Protects a base from removal; returns `None` if it was just removed.
    pub fn lease_shared(&self, id: &str) -> io::Result<Option<BaseLease>> {
        let Some(file) = self.open_lock_file(id)? else { return Ok(None) };
        file.lock_shared()?;
        Ok(self.find_by_id(id)?.map(|_| BaseLease(file)))
    }

    /// Protects a base from use, so that it can be removed; returns `None` if it is in use or has no record.
    pub fn lease_exclusive(&self, id: &str) -> io::Result<Option<BaseLease>> {
        let Some(file) = self.open_lock_file(id)? else { return Ok(None) };
        match file.try_lock() {
            Ok(()) => Ok(Some(BaseLease(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }

    fn open_lock_file(&self, id: &str) -> io::Result<Option<File>> {
        match File::create(self.dir.join(id).join("lock")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Records a sealed base, with a copy of its index.
    pub fn save_record(&self, base: &Base, index: &[u8]) -> io::Result<()> {
        let record_dir = self.dir.join(&base.id);
        DirBuilder::new().recursive(true).mode(0o700).create(&record_dir)?;
        write_atomic(&record_dir, "index", index)?;
        write_atomic(&record_dir, "record.json", &serde_json::to_vec_pretty(base)?)
    }

    /// Returns the path of a base's index.
    #[must_use]
    pub fn index_path(&self, base: &Base) -> PathBuf {
        self.dir.join(&base.id).join("index")
    }

    /// Records that a base is used now.
    pub fn record_use(&self, base: &Base) -> io::Result<()> {
        let updated = Base { used: now_millis(), ..base.clone() };
        // Another process may have removed the record. It is not created again then.
        match write_atomic(&self.dir.join(&base.id), "record.json", &serde_json::to_vec_pretty(&updated)?) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Removes the record of a base. A missing record is not an error.
    pub fn remove_record(&self, id: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.dir.join(id)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Returns the current time in milliseconds since the epoch.
#[must_use]
pub(super) fn now_millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
