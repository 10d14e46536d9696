//! The cache of package files and index documents: one per user, shared by all sandboxes and processes.
//!
//! `objects/` holds contents under their SHA-256, `entries/` one JSON file per URL that names an object. Both are
//! written to a temporary file and renamed, so that two processes can store the same content. They are not synced: a file
//! that a crash of the machine damaged is found by its hash, like any other.
//!
//! *Invariant:* content is hashed when it is stored and again before it is served, so an entry that was changed or
//! truncated on disk is never delivered.
#![expect(clippy::disallowed_methods, reason = "our own cache, outside every working tree")]

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::core::clock::seconds_since_epoch;
use crate::core::hex::to_hex;

/// The size of the cache, in bytes, above which the least recently used contents are removed.
pub const DEFAULT_CACHE_BYTES: u64 = 10 << 30;
/// Age from which on a temporary file is the leftover of a process that was killed.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// The part of the limit that remains after an eviction.
const KEPT_PERCENT: u64 = 80;

/// The stored facts about one URL.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CacheEntry {
    /// The URL, and the form that was requested of it.
    pub key: String,
    /// The SHA-256 of the content, in hexadecimal.
    pub object: String,
    pub size: u64,
    pub content_type: String,
    /// The entity tag of the upstream, for documents.
    #[serde(default)]
    pub etag: Option<String>,
    /// The URL that sent the content, after redirects.
    #[serde(default)]
    pub final_url: String,
    /// The time of the last request to the upstream in seconds since the epoch.
    pub checked: u64,
    /// The digest from the index that the content was checked against, if any.
    #[serde(default)]
    pub digest: Option<String>,
}

/// The cache below one directory.
#[derive(Debug, Clone)]
pub struct Cache {
    dir: PathBuf,
}

/// The size of a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheUsage {
    pub bytes: u64,
    pub objects: usize,
}

impl Cache {
    /// Opens the cache at `dir`, and creates it if necessary.
    ///
    /// # Errors
    /// A directory of the cache is a symlink or belongs to another user.
    pub fn open(dir: &Path) -> io::Result<Self> {
        if let Some(parent) = dir.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        }
        let cache = Self { dir: dir.to_owned() };
        // A path with a slash at its end would follow a symlink.
        check_directory(dir)?;
        for name in ["objects", "entries", "new"] {
            check_directory(&dir.join(name))?;
        }
        Ok(cache)
    }

    fn entry_path(&self, key: &str) -> PathBuf {
        let name = to_hex(&Sha256::digest(key.as_bytes()));
        self.dir.join("entries").join(&name[..2]).join(name)
    }

    fn object_path(&self, object: &str) -> Option<PathBuf> {
        let is_hash = object.len() == 64 && object.bytes().all(|b| b.is_ascii_hexdigit());
        is_hash.then(|| self.dir.join("objects").join(&object[..2]).join(object))
    }

    /// Returns the entry of a key.
    pub(super) fn find_entry(&self, key: &str) -> Option<CacheEntry> {
        let mut file = open_own(&self.entry_path(key)).ok()?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok().filter(|entry: &CacheEntry| entry.key == key)
    }

    /// Opens an entry's content after it was hashed, and marks it as used. Content that does not match is removed.
    pub(super) fn open_object(&self, entry: &CacheEntry) -> Option<File> {
        let path = self.object_path(&entry.object)?;
        let mut file = open_own(&path).ok()?;
        let (mut hash, mut size) = (Sha256::new(), 0);
        let mut buffer = vec![0; 128 * 1024];
        loop {
            match file.read(&mut buffer).ok()? {
                0 => break,
                n => {
                    hash.update(&buffer[..n]);
                    size += n as u64;
                }
            }
        }
        if size != entry.size || to_hex(&hash.finalize()) != entry.object {
            let _ = fs::remove_file(&path);
            return None;
        }
        // The modification time orders the eviction. Another process may be removing the file.
        let _ = file.set_modified(SystemTime::now());
        io::Seek::rewind(&mut file).ok()?;
        Some(file)
    }

    /// Creates a writer for new content.
    pub(super) fn create_object(&self) -> io::Result<ObjectWriter> {
        let file = NamedTempFile::new_in(self.dir.join("new"))?;
        Ok(ObjectWriter { file, hash: Sha256::new(), size: 0 })
    }

    /// Stores content that was written completely, and the entry that names it.
    pub(super) fn store_object(&self, writer: ObjectWriter, mut entry: CacheEntry) -> io::Result<CacheEntry> {
        let ObjectWriter { file, hash, size } = writer;
        entry.object = to_hex(&hash.finalize());
        entry.size = size;
        entry.checked = seconds_since_epoch();
        let path = self.object_path(&entry.object).ok_or(io::ErrorKind::InvalidData)?;
        create_parent(&path)?;
        file.persist(&path).map_err(|e| e.error)?;
        self.write_entry(&entry)?;
        Ok(entry)
    }

    /// Writes an entry whose content is stored already.
    pub(super) fn write_entry(&self, entry: &CacheEntry) -> io::Result<()> {
        let path = self.entry_path(&entry.key);
        create_parent(&path)?;
        let mut file = NamedTempFile::new_in(self.dir.join("new"))?;
        file.write_all(&serde_json::to_vec(entry)?)?;
        file.persist(&path).map_err(|e| e.error)?;
        Ok(())
    }

    /// Measures the size of all contents.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn measure_usage(&self) -> io::Result<CacheUsage> {
        let files = self.list_files("objects")?;
        Ok(CacheUsage { bytes: files.iter().map(|file| file.size).sum(), objects: files.len() })
    }

    /// Returns the number of bytes that [`Cache::evict_oldest`] would remove.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn excess_bytes(&self, limit: u64) -> io::Result<u64> {
        let total = self.measure_usage()?.bytes;
        Ok(if total > limit { total - kept_bytes(limit) } else { 0 })
    }

    /// Removes the least recently used contents if there are more than `limit` bytes, and returns the number of bytes
    /// removed. Entries without content are removed as well. One process at a time does this.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn evict_oldest(&self, limit: u64) -> io::Result<u64> {
        let lock = File::options().create(true).append(true).mode(0o600).open(self.dir.join("lock"))?;
        if lock.try_lock().is_err() {
            return Ok(0);
        }
        self.remove_stale_files()?;
        let mut files = self.list_files("objects")?;
        let mut total: u64 = files.iter().map(|file| file.size).sum();
        if total <= limit {
            return Ok(0);
        }
        files.sort_by_key(|file| file.modified);
        let (before, kept) = (total, kept_bytes(limit));
        for file in files {
            if total <= kept {
                break;
            }
            if fs::remove_file(&file.path).is_ok() {
                total -= file.size;
            }
        }
        for file in self.list_files("entries")? {
            let entry = fs::read(&file.path).ok().and_then(|bytes| serde_json::from_slice::<CacheEntry>(&bytes).ok());
            let object = entry.and_then(|entry| self.object_path(&entry.object));
            if !object.is_some_and(|path| path.exists()) {
                let _ = fs::remove_file(&file.path);
            }
        }
        Ok(before - total)
    }

    fn remove_stale_files(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.dir.join("new"))?.flatten() {
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > STALE) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    fn list_files(&self, name: &str) -> io::Result<Vec<StoredFile>> {
        let mut found = Vec::new();
        for group in fs::read_dir(self.dir.join(name))?.flatten() {
            for entry in fs::read_dir(group.path()).into_iter().flatten().flatten() {
                // Another process may have removed the file.
                let Ok(metadata) = entry.metadata() else { continue };
                let modified = metadata.modified()?;
                found.push(StoredFile { path: entry.path(), size: metadata.len(), modified });
            }
        }
        Ok(found)
    }
}

/// Returns the size to which an eviction reduces a cache.
fn kept_bytes(limit: u64) -> u64 {
    limit / 100 * KEPT_PERCENT
}

struct StoredFile {
    path: PathBuf,
    size: u64,
    modified: SystemTime,
}

/// Content that is being written.
pub(super) struct ObjectWriter {
    file: NamedTempFile,
    hash: Sha256,
    size: u64,
}

impl ObjectWriter {
    /// Appends a chunk of content.
    pub(super) fn write_chunk(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.hash.update(chunk);
        self.size += chunk.len() as u64;
        self.file.write_all(chunk)
    }
}

/// Creates a directory unless it exists, and checks that it is a directory of this user.
fn check_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let metadata = path.symlink_metadata()?;
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() || metadata.mode() & 0o022 != 0 {
        let what = "is not a directory that only this user can write";
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("{} {what}", path.display())));
    }
    Ok(())
}

fn create_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => DirBuilder::new().recursive(true).mode(0o700).create(parent),
        None => Ok(()),
    }
}

/// Opens a regular file of this user, without following a symlink.
fn open_own(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).map_err(io::Error::other)?;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(cache: &Cache, key: &str, content: &[u8]) -> CacheEntry {
        let mut writer = cache.create_object().expect("created");
        writer.write_chunk(content).expect("written");
        cache.store_object(writer, CacheEntry { key: key.into(), ..CacheEntry::default() }).expect("stored")
    }

    fn read(cache: &Cache, key: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        cache.open_object(&cache.find_entry(key)?)?.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    #[test]
    fn changed_or_truncated_content_is_not_served() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(&dir.path().join("a/packages")).expect("opened");
        let entry = store(&cache, "https://x.example/a", b"content");
        assert_eq!(read(&cache, "https://x.example/a").as_deref(), Some(&b"content"[..]));
        assert_eq!(read(&cache, "https://x.example/b"), None);
        let path = cache.object_path(&entry.object).expect("a hash");
        for changed in [&b"contenT"[..], b"conten", b""] {
            fs::write(&path, changed).expect("written");
            assert_eq!(read(&cache, "https://x.example/a"), None);
            assert!(!path.exists(), "damaged content is removed");
            store(&cache, "https://x.example/a", b"content");
        }
        let target = dir.path().join("target");
        fs::write(&target, b"content").expect("written");
        fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink(&target, &path).expect("linked");
        assert_eq!(read(&cache, "https://x.example/a"), None, "a symlink is not followed");
    }

    #[test]
    fn foreign_directories_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("elsewhere")).expect("made");
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), dir.path().join("packages")).expect("linked");
        assert!(Cache::open(&dir.path().join("packages")).is_err());
        let writable = dir.path().join("writable");
        fs::create_dir(&writable).expect("made");
        fs::set_permissions(&writable, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("set");
        assert!(Cache::open(&writable).is_err());
    }

    #[test]
    fn eviction_removes_what_was_used_longest_ago() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(&dir.path().join("packages")).expect("opened");
        for (n, key) in ["a", "b", "c", "d"].into_iter().enumerate() {
            let entry = store(&cache, key, &[b'x'; 100].map(|b| b + u8::try_from(n).expect("small")));
            let at = SystemTime::now() - Duration::from_secs(100 - n as u64);
            let path = cache.object_path(&entry.object).expect("a hash");
            File::options().write(true).open(path).and_then(|f| f.set_modified(at)).expect("set");
        }
        assert!(read(&cache, "a").is_some(), "it is used again");
        assert_eq!(cache.evict_oldest(400).expect("evicted"), 0);
        assert_eq!(cache.evict_oldest(300).expect("evicted"), 200);
        assert!(read(&cache, "a").is_some() && read(&cache, "d").is_some());
        assert!(read(&cache, "b").is_none() && cache.find_entry("c").is_none());
        assert_eq!(cache.measure_usage().expect("measured"), CacheUsage { bytes: 200, objects: 2 });
    }

    #[test]
    fn processes_that_store_the_same_content_do_not_collide() {
        let dir = tempfile::tempdir().expect("a directory");
        let cache = Cache::open(&dir.path().join("packages")).expect("opened");
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10 {
                        store(&cache, "key", b"content");
                        assert_eq!(read(&cache, "key").as_deref(), Some(&b"content"[..]));
                    }
                });
            }
        });
    }
}
