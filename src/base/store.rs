//! The records of a repository's base volumes: one folder each below `<git common dir>/airlock/bases/`.
//!
//! *Architecture invariant:* a base is recorded after it was sealed, and its record holds the nonce of the seal. A volume
//! without a record, or with another seal, is never mounted below a workspace.
#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::core::atomic_file::write_atomic;
use crate::core::path::RepoPath;

/// The record of one base.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Version of this format.
    pub schema_version: u32,
    /// A random number in hexadecimal: the name of its folder, and the value of the label on its volume.
    pub id: String,
    /// The repository, as on the labels.
    pub repository: String,
    pub volume: String,
    /// The volume with the launcher that the agent containers over it begin with.
    pub launcher: String,
    /// The content of the seal in the volume.
    pub nonce: String,
    /// Names all that went in, see [`crate::git::Snapshot::key`].
    pub key: String,
    /// Names the rules by which it went in.
    pub config_key: String,
    /// The commit of its files, in hexadecimal.
    pub commit: String,
    /// The branch that its HEAD names.
    pub branch: Option<String>,
    /// Files, git's own apart.
    pub files: usize,
    /// Bytes of these files.
    pub bytes: u64,
    /// LFS pointers whose content was not here.
    pub missing_lfs_objects: Vec<RepoPath>,
    /// Files that are as git stores them, because of a filter that Airlock does not run.
    #[serde(default)]
    pub filtered: Vec<RepoPath>,
    /// Milliseconds since the epoch.
    pub created: u64,
    /// Milliseconds since the epoch.
    pub used: u64,
}

/// All bases of one repository.
#[derive(Debug, Clone)]
pub struct BaseStore {
    folder: PathBuf,
}

/// Held by whoever uses a base until that is on a sandbox's record, and by whoever removes it.
#[derive(Debug)]
pub struct BaseLease(#[expect(dead_code, reason = "the lock is what it is for")] File);

/// Held while a base of one key is being made, so that two first starts make one.
#[derive(Debug)]
pub struct BuildLock(#[expect(dead_code, reason = "the lock is what it is for")] File);

impl BaseStore {
    /// Names the bases of a repository; nothing is made yet.
    #[must_use]
    pub fn of(common_dir: &Path) -> Self {
        Self { folder: common_dir.join("airlock/bases") }
    }

    /// Lists them, last used first. A record that is damaged is none: its volume is an orphan then.
    pub fn list_bases(&self) -> io::Result<Vec<Base>> {
        let entries = match fs::read_dir(&self.folder) {
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

    /// Finds one by its id.
    pub fn find(&self, id: &str) -> io::Result<Option<Base>> {
        Ok(self.list_bases()?.into_iter().find(|b| b.id == id))
    }

    /// Waits for whoever makes a base of this key, and keeps others waiting until dropped.
    pub fn lock_build(&self, key: &str) -> io::Result<BuildLock> {
        let file = self.lock_file(key)?;
        file.lock()?;
        Ok(BuildLock(file))
    }

    /// The same without waiting; `None` if somebody makes one.
    pub fn try_lock_build(&self, key: &str) -> io::Result<Option<BuildLock>> {
        let file = self.lock_file(key)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(BuildLock(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }

    /// Returns whether some process makes a base now.
    pub fn is_building(&self) -> io::Result<bool> {
        for digit in "0123456789abcdef".chars() {
            let path = self.folder.join("making").join(digit.to_string());
            match File::open(path).map(|file| file.try_lock_shared()) {
                Ok(Err(fs::TryLockError::WouldBlock)) => return Ok(true),
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        Ok(false)
    }

    fn lock_file(&self, key: &str) -> io::Result<File> {
        let locks = self.folder.join("making");
        DirBuilder::new().recursive(true).mode(0o700).create(&locks)?;
        // A few locks for all keys: they are never removed, which a lock that others wait for must not be.
        let name = key.get(..1).unwrap_or("0");
        File::create(locks.join(name))
    }

    /// Keeps a base from being removed; `None` if it just was.
    pub fn lease_shared(&self, id: &str) -> io::Result<Option<BaseLease>> {
        let Some(file) = self.open_lock_file(id)? else { return Ok(None) };
        file.lock_shared()?;
        Ok(self.find(id)?.map(|_| BaseLease(file)))
    }

    /// Keeps a base from being used, so that it can be removed; `None` if somebody uses it.
    pub fn lease_exclusive(&self, id: &str) -> io::Result<Option<BaseLease>> {
        let Some(file) = self.open_lock_file(id)? else { return Ok(None) };
        match file.try_lock() {
            Ok(()) => Ok(Some(BaseLease(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }

    fn open_lock_file(&self, id: &str) -> io::Result<Option<File>> {
        match File::create(self.folder.join(id).join("lock")) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Records a sealed base, with a copy of its index.
    pub fn save(&self, base: &Base, index: &[u8]) -> io::Result<()> {
        let folder = self.folder.join(&base.id);
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        write_atomic(&folder, "index", index)?;
        write_atomic(&folder, "record.json", &serde_json::to_vec_pretty(base)?)
    }

    /// Returns the path of a base's index.
    #[must_use]
    pub fn index(&self, base: &Base) -> PathBuf {
        self.folder.join(&base.id).join("index")
    }

    /// Notes that a base is used now.
    pub fn record_use(&self, base: &Base) -> io::Result<()> {
        let now = Base { used: now(), ..base.clone() };
        // Another process may have forgotten it meanwhile: then it stays forgotten.
        match write_atomic(&self.folder.join(&base.id), "record.json", &serde_json::to_vec_pretty(&now)?) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Forgets a base.
    pub fn remove_record(&self, id: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.folder.join(id)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Milliseconds since the epoch.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
