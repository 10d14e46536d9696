//! A content-addressed store of bytes that nobody has accepted yet, and of the base they are compared with.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The SHA-256 of some content, in lower-case hexadecimal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ContentHash(String);

impl ContentHash {
    /// Hashes content.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(hex(&Sha256::digest(bytes)))
    }

    /// Hashes what a reader gives, without holding it.
    ///
    /// # Errors
    /// What the reader gives.
    pub fn of_reader(reader: &mut impl io::Read) -> io::Result<Self> {
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 64 * 1024]);
        loop {
            match reader.read(&mut buffer)? {
                0 => return Ok(Self(hex(&hash.finalize()))),
                n => hash.update(&buffer[..n]),
            }
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl TryFrom<String> for ContentHash {
    type Error = &'static str;
    /// A record on disk may have been edited; the hash becomes a file name.
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let fits = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if fits { Ok(Self(text)) } else { Err("not a content hash") }
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

/// Content on its way into the store; it is gone if it is dropped before its end.
#[derive(Debug)]
pub struct Incoming {
    folder: PathBuf,
    file: tempfile::NamedTempFile,
    hash: Sha256,
    size: u64,
}

impl Incoming {
    /// Adds a piece.
    ///
    /// # Errors
    /// What the file system says.
    pub fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        self.file.write_all(bytes)
    }

    /// Ends it, and gives its hash and size.
    ///
    /// # Errors
    /// What the file system says.
    pub fn end(self) -> io::Result<(ContentHash, u64)> {
        let hash = ContentHash(hex(&self.hash.finalize()));
        self.file.persist(self.folder.join(&hash.0)).map_err(|e| e.error)?;
        Ok((hash, self.size))
    }
}

/// A folder of ours that holds content by its hash.
#[derive(Debug, Clone)]
pub struct Quarantine {
    folder: PathBuf,
}

impl Quarantine {
    /// Opens or makes the store.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// Gives its folder: each content is in a file under its hash, which is never written to again.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.folder
    }

    /// Stores content whole or not at all.
    ///
    /// # Errors
    /// What the file system says.
    pub fn put(&self, bytes: &[u8]) -> io::Result<ContentHash> {
        let hash = ContentHash::of(bytes);
        let path = self.folder.join(&hash.0);
        if !path.exists() {
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(bytes)?;
            file.persist(path).map_err(|e| e.error)?;
        }
        Ok(hash)
    }

    /// Begins to take in content that comes in pieces.
    ///
    /// # Errors
    /// What the file system says.
    pub fn incoming(&self) -> io::Result<Incoming> {
        let file = tempfile::NamedTempFile::new_in(&self.folder)?;
        Ok(Incoming { folder: self.folder.clone(), file, hash: Sha256::new(), size: 0 })
    }

    /// Reads content back and verifies it.
    ///
    /// # Errors
    /// It is not there, or it is not what was stored.
    pub fn get(&self, hash: &ContentHash) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.folder.join(&hash.0))?;
        if ContentHash::of(&bytes) != *hash {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the quarantined content {hash} is damaged"),
            ));
        }
        Ok(bytes)
    }
}
