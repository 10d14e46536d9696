//! The transaction log of a repository: its lock, and one directory for each transaction with the files that record its
//! progress.

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::attributes;
use super::host_fs::{DirEntryRef, HostFs, Rename};
use super::journal::{Journal, JournalError, TransactionOutcome, TransactionStatus};
use super::working_tree::DIR_FLAGS;
use crate::changes::ContentHash;
use crate::core::clock::seconds_since_epoch;

const JOURNAL: &str = "journal";
const OUTCOME: &str = "end";
const STAGING: &str = "staged";
/// The start of each journal file; the number is the format version.
const MAGIC: &str = "airlock-journal 1";
/// Maximum size of a journal file in bytes, enough for a million paths.
const MAX_RECORD_BYTES: u64 = 1 << 30;

/// The directory of one transaction.
#[derive(Debug, Clone)]
pub struct TransactionDir {
    pub path: PathBuf,
}

/// All transactions of a repository.
#[derive(Debug)]
pub struct TransactionLog {
    dir: PathBuf,
    lock: Option<File>,
}

/// The process that holds the lock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockOwner {
    pub pid: u32,
    /// Boot ID; the process ID is only meaningful within this boot.
    pub boot: String,
    /// Seconds since the epoch.
    pub since: u64,
}

/// An error from taking the lock.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds the lock.
    #[error("another airlock is writing to this repository's working tree{}", describe_owner(.0.as_ref()))]
    Busy(Option<LockOwner>),
    /// An I/O error.
    #[error("failed to lock the apply log: {0}")]
    Io(#[from] io::Error),
}

fn describe_owner(owner: Option<&LockOwner>) -> String {
    owner.map_or_else(String::new, |o| format!(" (process {})", o.pid))
}

impl TransactionLog {
    /// Creates a handle to the log below Airlock's state directory, without creating the directory.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { dir: state.join("applies"), lock: None }
    }

    /// Takes the exclusive right to write to working trees of this repository, until the log is dropped.
    pub fn lock_exclusive(&mut self, boot: &str) -> Result<(), LockError> {
        if self.lock.is_some() {
            return Ok(());
        }
        create_private_dir(&self.dir)?;
        let path = self.dir.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            File::from(rustix::fs::openat(CWD, &path, flags, Mode::from_raw_mode(0o600)).map_err(io::Error::from)?);
        match file.try_lock() {
            Ok(()) => {}
            // A process that only checks the lock holds it for a moment.
            Err(TryLockError::WouldBlock)
                if (0..10).any(|_| {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                    file.try_lock().is_ok()
                }) => {}
            Err(TryLockError::WouldBlock) => {
                let owner = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                return Err(LockError::Busy(owner));
            }
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let owner = LockOwner { pid: std::process::id(), boot: boot.to_owned(), since: seconds_since_epoch() };
        file.set_len(0)?;
        io::Write::write_all(&mut &file, &serde_json::to_vec(&owner).map_err(io::Error::from)?)?;
        self.lock = Some(file);
        Ok(())
    }

    /// Returns whether any process, including this one, holds the lock.
    #[must_use]
    pub fn is_locked(&self) -> bool {
        let is_held = |file: File| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock));
        self.lock.is_some() || File::open(self.dir.join("lock")).is_ok_and(is_held)
    }

    /// Returns all transactions, oldest first.
    ///
    /// # Errors
    /// The log directory cannot be read.
    pub fn list_dirs(&self) -> io::Result<Vec<TransactionDir>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            if parse_number(&entry.file_name()).is_some() {
                found.push(TransactionDir { path: entry.path() });
            }
        }
        found.sort_by_key(|f| f.path.file_name().and_then(parse_number));
        Ok(found)
    }

    /// Returns the transactions that are prepared and not finished, without reading their files.
    ///
    /// # Errors
    /// The log directory cannot be read.
    pub fn list_unfinished(&self) -> io::Result<Vec<TransactionDir>> {
        let mut all = self.list_dirs()?;
        all.retain(|f| f.is_prepared() && !f.has_record(OUTCOME));
        Ok(all)
    }

    /// Creates the directory of a new transaction, with the next number.
    pub fn create_dir(&self, fs: &HostFs) -> Result<TransactionDir, (PathBuf, Errno)> {
        let last = self.list_dirs().unwrap_or_default().pop().and_then(|f| f.path.file_name().and_then(parse_number));
        let name = format!("{:06}", last.unwrap_or(0) + 1);
        let path = self.dir.join(&name);
        let failed = |error| (path.clone(), error);
        let parent = rustix::fs::openat(CWD, &self.dir, DIR_FLAGS, Mode::empty()).map_err(failed)?;
        fs.create_dir(DirEntryRef::new(&parent, name.as_bytes()), 0o700).map_err(failed)?;
        let dir = TransactionDir { path: path.clone() };
        let dir_fd = dir.open_dir().map_err(failed)?;
        fs.create_dir(DirEntryRef::new(&dir_fd, STAGING.as_bytes()), 0o700).map_err(failed)?;
        // Entries of the staging directory must not inherit a group or an ACL from the repository's directory.
        let staging_dir = dir.open_staging_dir().map_err(failed)?;
        attributes::remove_default_acl(fs, &staging_dir).map_err(failed)?;
        fs.sync_fd(&parent).map_err(failed)?;
        Ok(dir)
    }
}

impl TransactionDir {
    /// Returns the number of the transaction, for messages.
    #[must_use]
    pub fn sequence_number(&self) -> u64 {
        self.path.file_name().and_then(parse_number).unwrap_or(0)
    }

    /// Returns whether the transaction has a journal.
    #[must_use]
    pub fn is_prepared(&self) -> bool {
        self.has_record(JOURNAL)
    }

    /// Returns whether a file exists. A file that cannot be examined counts as existing.
    fn has_record(&self, name: &str) -> bool {
        match self.path.join(name).symlink_metadata() {
            Err(error) => error.kind() != io::ErrorKind::NotFound,
            Ok(_) => true,
        }
    }

    /// Returns the path of the hard link to git's index from the start of the transaction.
    #[must_use]
    pub fn index_path(&self) -> PathBuf {
        self.path.join("index")
    }

    /// Opens the directory.
    pub(crate) fn open_dir(&self) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(CWD, &self.path, DIR_FLAGS, Mode::empty())
    }

    /// Opens the staging directory.
    pub(crate) fn open_staging_dir(&self) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(CWD, self.path.join(STAGING), DIR_FLAGS, Mode::empty())
    }

    /// Returns the path of the staging directory, for messages.
    #[must_use]
    pub fn staging_path(&self) -> PathBuf {
        self.path.join(STAGING)
    }

    /// Reads the progress of the transaction.
    ///
    /// # Errors
    /// A journal file is damaged or cannot be read.
    pub fn read_status(&self) -> Result<TransactionStatus, JournalError> {
        let Some(journal) = self.read_record::<Journal>(JOURNAL)? else { return Ok(TransactionStatus::Staging) };
        Ok(match self.read_record::<TransactionOutcome>(OUTCOME)? {
            None => TransactionStatus::Prepared(Box::new(journal)),
            Some(outcome) => TransactionStatus::Finished(Box::new(journal), outcome),
        })
    }

    /// Writes the journal; from then on the transaction is prepared.
    pub(crate) fn write_journal(&self, fs: &HostFs, journal: &Journal) -> Result<(), Errno> {
        self.write_record(fs, JOURNAL, journal)
    }

    /// Writes the outcome; from then on the transaction is finished.
    pub(crate) fn write_outcome(&self, fs: &HostFs, outcome: &TransactionOutcome) -> Result<(), Errno> {
        self.write_record(fs, OUTCOME, outcome)
    }

    fn read_record<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, JournalError> {
        let path = self.path.join(name);
        let io = |error: io::Error| JournalError::Io { path: path.clone(), error };
        let damaged = |reason: &str| JournalError::Damaged { path: path.clone(), reason: reason.to_owned() };
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(CWD, &path, flags, Mode::empty()) {
            Err(Errno::NOENT) => return Ok(None),
            other => File::from(other.map_err(|e| io(e.into()))?),
        };
        let metadata = file.metadata().map_err(io)?;
        if !metadata.is_file() || metadata.len() > MAX_RECORD_BYTES {
            return Err(damaged("it is not an Airlock record"));
        }
        let mut text = Vec::new();
        io::Read::read_to_end(&mut &file, &mut text).map_err(io)?;
        let line_end = text.iter().position(|b| *b == b'\n').ok_or_else(|| damaged("its first line is incomplete"))?;
        let (head, body) = (&text[..line_end], &text[line_end + 1..]);
        let head = std::str::from_utf8(head).map_err(|_| damaged("its first line is invalid"))?;
        let Some(checksum) = head.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' ')) else {
            return Err(damaged("this version does not support its format"));
        };
        if ContentHash::from_content(body).to_string() != checksum {
            return Err(damaged("its checksum does not match"));
        }
        serde_json::from_slice(body).map(Some).map_err(|e| damaged(&e.to_string()))
    }

    fn write_record(&self, fs: &HostFs, name: &str, value: &impl Serialize) -> Result<(), Errno> {
        let body = serde_json::to_vec(value).map_err(|_| Errno::INVAL)?;
        let text = [format!("{MAGIC} {}\n", ContentHash::from_content(&body)).as_bytes(), &body].concat();
        let dir_fd = self.open_dir()?;
        let temp_name = format!("{name}.new");
        let file = match fs.create_file(DirEntryRef::new(&dir_fd, temp_name.as_bytes()), 0o600) {
            // Left by an interrupted write.
            Err(Errno::EXIST) => {
                fs.remove_file(DirEntryRef::new(&dir_fd, temp_name.as_bytes()))?;
                fs.create_file(DirEntryRef::new(&dir_fd, temp_name.as_bytes()), 0o600)?
            }
            other => other?,
        };
        fs.write_all(&file, &text)?;
        fs.sync_fd(&file)?;
        fs.rename_entry(
            DirEntryRef::new(&dir_fd, temp_name.as_bytes()),
            DirEntryRef::new(&dir_fd, name.as_bytes()),
            Rename::Plain,
        )?;
        fs.sync_fd(&dir_fd)
    }
}

fn parse_number(name: &OsStr) -> Option<u64> {
    name.to_str().filter(|n| n.len() >= 6 && n.bytes().all(|b| b.is_ascii_digit()))?.parse().ok()
}

fn create_private_dir(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::super::entry_content::EntryContent;
    use super::super::journal::{FileIdentity, Op, StagedFile, StagingArea, TransactionKind, WorktreeFingerprint};
    use super::super::working_tree::Inode;
    use super::*;
    use crate::core::path::{EntryKind, RepoPath};

    fn journal() -> Journal {
        let path = RepoPath::from_bytes(b"a\xff").expect("valid path");
        let file = FileIdentity {
            version: EntryContent { kind: EntryKind::Regular, hash: ContentHash::from_content(b"x") },
            mode: 0o644,
            inode: Inode { device: 1, number: 2 },
        };
        let staged = StagedFile { area: 0, number: 1 };
        Journal {
            id: "1".into(),
            kind: TransactionKind::Apply,
            sandbox: "s".into(),
            sandbox_id: "i".into(),
            target: WorktreeFingerprint {
                repository: "r".into(),
                worktree: "w".into(),
                root: Inode { device: 1, number: 1 },
                boot_id: "b".into(),
                head: "h".into(),
                index: Some((1, "i".into())),
            },
            modules: Vec::new(),
            staging_areas: vec![StagingArea { in_tree: None, can_exchange: true, has_stable_inodes: true }],
            ops: vec![Op::Write {
                path: path.clone(),
                staged,
                before: Some(file.clone()),
                after: file,
                moved_from: None,
            }],
            selection: vec![super::super::journal::SelectionChange {
                path,
                before: crate::changes::Selection::default(),
                after: vec!["u".to_owned()].try_into().expect("valid selection"),
            }],
        }
    }

    #[test]
    fn journal_truncated_or_changed_anywhere_is_refused() {
        let state = tempfile::tempdir().expect("a directory");
        let mut log = TransactionLog::new(state.path());
        log.lock_exclusive("b").expect("locked");
        let (host_fs, journal) = (HostFs::default(), journal());
        let transaction = log.create_dir(&host_fs).expect("created");
        assert_eq!(transaction.read_status().expect("read"), TransactionStatus::Staging);
        transaction.write_journal(&host_fs, &journal).expect("written");
        assert!(
            matches!(transaction.read_status().expect("read"), TransactionStatus::Prepared(j) if j.ops == journal.ops)
        );
        let path = transaction.path.join(JOURNAL);
        let valid = fs::read(&path).expect("read");
        let overwrite =
            |bytes: &[u8]| io::Write::write_all(&mut File::options().write(true).truncate(true).open(&path)?, bytes);
        for at in 0..valid.len() {
            overwrite(&valid[..at]).expect("written");
            assert!(matches!(transaction.read_status(), Err(JournalError::Damaged { .. })), "truncated at {at}");
            let mut damaged = valid.clone();
            damaged[at] ^= 0x20;
            overwrite(&damaged).expect("written");
            assert!(matches!(transaction.read_status(), Err(JournalError::Damaged { .. })), "changed at {at}");
        }
        overwrite(&valid).expect("written");
        transaction.write_outcome(&host_fs, &TransactionOutcome { committed: true, at: 1 }).expect("written");
        assert!(
            matches!(transaction.read_status().expect("read"), TransactionStatus::Finished(_, outcome) if outcome.committed)
        );
    }

    #[test]
    fn lock_is_exclusive_and_names_its_owner() {
        let state = tempfile::tempdir().expect("a directory");
        let (mut first, mut second) = (TransactionLog::new(state.path()), TransactionLog::new(state.path()));
        first.lock_exclusive("b").expect("locked");
        first.lock_exclusive("b").expect("locking twice is allowed");
        let error = second.lock_exclusive("b").expect_err("lock is held");
        assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        second.lock_exclusive("b").expect("locked");
    }

    #[test]
    fn sequence_numbers_increase() {
        let state = tempfile::tempdir().expect("a directory");
        let mut log = TransactionLog::new(state.path());
        log.lock_exclusive("b").expect("locked");
        let numbers: Vec<u64> =
            (0..3).map(|_| log.create_dir(&HostFs::default()).expect("created").sequence_number()).collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert_eq!(
            log.list_dirs().expect("listed").iter().map(TransactionDir::sequence_number).collect::<Vec<_>>(),
            numbers
        );
    }
}
