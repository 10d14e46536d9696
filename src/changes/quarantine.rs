//! Stores content by its hash: content that has not been accepted yet, and the base that it is compared with.

#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use crate::core::hex::to_hex;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The SHA-256 of content, in lower-case hexadecimal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ContentHash(String);

impl ContentHash {
    /// Computes the hash of content.
    #[must_use]
    pub fn from_content(bytes: &[u8]) -> Self {
        Self(to_hex(&Sha256::digest(bytes)))
    }

    /// Computes the hash of a reader's content without loading all of it into memory.
    ///
    /// # Errors
    /// Returns errors of the reader.
    pub fn from_reader(reader: &mut impl io::Read) -> io::Result<Self> {
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(Self(to_hex(&hash.finalize()))),
                n => hash.update(&buffer[..n]),
            }
        }
    }
}

impl TryFrom<String> for ContentHash {
    type Error = &'static str;
    /// Validates the text: a record on disk may have been edited, and the hash becomes a file name.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_valid = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if is_valid { Ok(Self(text)) } else { Err("not a content hash") }
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Content that is being written to the store. It is discarded if this is dropped before [`BlobWriter::finish`].
#[derive(Debug)]
pub struct BlobWriter {
    dir: PathBuf,
    file: tempfile::NamedTempFile,
    hash: Sha256,
    size: u64,
}

/// Maximum number of bytes that must remain free on the disk. For small disks, it is a fiftieth of their size.
const MAX_RESERVED_BYTES: u64 = 256 << 20;

/// Checks that a disk has room for more bytes and the reserve. An agent's output must not fill the user's disk.
fn check_free_space(dir: &Path, bytes: usize) -> io::Result<()> {
    let Ok(stats) = rustix::fs::statvfs(dir) else { return Ok(()) };
    // Some file systems do not report their size.
    if stats.f_blocks == 0 {
        return Ok(());
    }
    let (free, total) = (stats.f_bavail.saturating_mul(stats.f_frsize), stats.f_blocks.saturating_mul(stats.f_frsize));
    if free >= (bytes as u64).saturating_add(MAX_RESERVED_BYTES.min(total / 50)) {
        return Ok(());
    }
    let message = format!("the disk of {} has only {} MiB free", dir.display(), free >> 20);
    Err(io::Error::new(io::ErrorKind::StorageFull, message))
}

impl BlobWriter {
    /// Appends a chunk.
    ///
    /// # Errors
    /// Fails with `StorageFull` if the disk is nearly full.
    pub fn append_chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        check_free_space(&self.dir, bytes.len())?;
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Completes the content and returns its hash and size.
    pub fn finish(self) -> io::Result<(ContentHash, u64)> {
        let hash = ContentHash(to_hex(&self.hash.finalize()));
        self.file.persist(self.dir.join(&hash.0)).map_err(|e| e.error)?;
        Ok((hash, self.size))
    }
}

/// A directory that stores content by its hash.
#[derive(Debug, Clone)]
pub struct Quarantine {
    dir: PathBuf,
    /// A second store that is only read from.
    fallback_dir: Option<PathBuf>,
}

impl Quarantine {
    /// Opens the store, and creates it if necessary.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, fallback_dir: None })
    }

    /// Creates a store in another directory that also reads from this one.
    pub fn layered_over(&self, dir: PathBuf) -> io::Result<Self> {
        Ok(Self { fallback_dir: Some(self.dir.clone()), ..Self::open(dir)? })
    }

    /// Removes all content for which `is_needed` returns false, and the partial files of interrupted writes. Returns
    /// the number of bytes removed.
    ///
    /// No other process may write to the store during the call.
    pub fn remove_unreferenced(&self, is_needed: impl Fn(&str) -> bool) -> io::Result<u64> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !entry.file_name().to_str().is_some_and(&is_needed) {
                removed += entry.metadata().map_or(0, |m| m.len());
                fs::remove_file(entry.path())?;
            }
        }
        Ok(removed)
    }

    /// Returns the directory. Each content is a file named by its hash, which is never written to again.
    #[must_use]
    pub fn as_path(&self) -> &std::path::Path {
        &self.dir
    }

    /// Stores content atomically.
    pub fn store_blob(&self, bytes: &[u8]) -> io::Result<ContentHash> {
        let hash = ContentHash::from_content(bytes);
        let path = self.dir.join(&hash.0);
        if !path.exists() {
            check_free_space(&self.dir, bytes.len())?;
            let mut file = tempfile::NamedTempFile::new_in(&self.dir)?;
            file.write_all(bytes)?;
            file.persist(path).map_err(|e| e.error)?;
        }
        Ok(hash)
    }

    /// Starts storing content that arrives in chunks.
    pub fn start_blob(&self) -> io::Result<BlobWriter> {
        let file = tempfile::NamedTempFile::new_in(&self.dir)?;
        Ok(BlobWriter { dir: self.dir.clone(), file, hash: Sha256::new(), size: 0 })
    }

    /// Reads content and verifies it.
    ///
    /// # Errors
    /// Fails if the content is missing or differs from the one that was stored.
    pub fn get(&self, hash: &ContentHash) -> io::Result<Vec<u8>> {
        let bytes = match (fs::read(self.dir.join(&hash.0)), &self.fallback_dir) {
            (Err(error), Some(below)) if error.kind() == io::ErrorKind::NotFound => fs::read(below.join(&hash.0))?,
            (read, _) => read?,
        };
        if ContentHash::from_content(&bytes) != *hash {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the quarantined content {hash} is damaged"),
            ));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layered_quarantine_reads_both_and_writes_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let lower = Quarantine::open(dir.path().join("below")).expect("opened");
        let old = lower.store_blob(b"old").expect("stored");
        let upper = lower.layered_over(dir.path().join("over")).expect("opened");
        let new = upper.store_blob(b"new").expect("stored");
        assert_eq!(
            (upper.get(&old).expect("read"), upper.get(&new).expect("read")),
            (b"old".to_vec(), b"new".to_vec())
        );
        assert!(lower.get(&new).is_err());
    }

    #[test]
    fn sweep_keeps_listed_blobs() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().to_owned()).expect("opened");
        let (kept, unlisted) = (store.store_blob(b"kept").expect("stored"), store.store_blob(b"gone").expect("stored"));
        fs::write(dir.path().join(".tmpABC"), "cut off").expect("written");
        assert_eq!(store.remove_unreferenced(|name| name == kept.to_string()).expect("removed"), 11);
        assert!(store.get(&kept).is_ok() && store.get(&unlisted).is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 1);
    }
}
