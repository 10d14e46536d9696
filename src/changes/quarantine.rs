//! Stores content by its hash: content that has not been accepted yet, and the base that it is compared with, as far as the
//! repository does not have it.

#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::content_pack::{MAX_PACKED_SIZE, PackIndex, PackWriter, PackedContent, is_pack, remove_unneeded};
use crate::core::hex::to_hex;

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

/// The object store of a repository, which has contents that are not stored again.
pub trait ObjectStore: Send + Sync + fmt::Debug {
    /// Reads the object with this ID.
    ///
    /// # Errors
    /// The object is missing or cannot be read.
    fn read_object(&self, id: &str) -> io::Result<Vec<u8>>;
}

/// The file in the store's directory with the contents that the repository has: on each line, a hash and the ID of an object.
const REFERENCES: &str = "objects";

/// The IDs of objects by the hash of their content.
type References = BTreeMap<String, String>;

/// A directory that stores content by its hash.
#[derive(Debug, Clone)]
pub struct Quarantine {
    dir: PathBuf,
    /// A second store that is only read from.
    fallback_dir: Option<PathBuf>,
    objects: Option<Arc<dyn ObjectStore>>,
    /// The references of both directories, once they are needed.
    references: Arc<Mutex<Option<References>>>,
    packs: Arc<Mutex<Packs>>,
}

/// The packs of a store.
#[derive(Debug, Default)]
struct Packs {
    /// The pack that this process writes, after the first small content.
    writer: Option<PackWriter>,
    /// The contents of both directories, once they are needed.
    index: Option<PackIndex>,
}

impl Quarantine {
    /// Opens the store, and creates it if necessary.
    pub fn open(dir: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, fallback_dir: None, objects: None, references: Arc::default(), packs: Arc::default() })
    }

    /// Returns the store with the repository's objects behind it.
    #[must_use]
    pub fn with_objects(self, objects: Arc<dyn ObjectStore>) -> Self {
        Self { objects: Some(objects), ..self }
    }

    /// Creates a store in another directory that also reads from this one.
    pub fn layered_over(&self, dir: PathBuf) -> io::Result<Self> {
        Ok(Self { fallback_dir: Some(self.dir.clone()), objects: self.objects.clone(), ..Self::open(dir)? })
    }

    /// Removes all content for which `is_needed` returns false, and the partial files of interrupted writes. Returns
    /// the number of bytes removed.
    ///
    /// No other process may write to the store during the call.
    pub fn remove_unreferenced(&self, is_needed: impl Fn(&str) -> bool) -> io::Result<u64> {
        let mut removed = 0;
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name() == REFERENCES {
                removed += self.remove_unreferenced_objects(&is_needed)?;
                continue;
            }
            if is_pack(&entry.file_name()) {
                removed += remove_unneeded(&self.dir, &entry.path(), &is_needed)?;
                continue;
            }
            if !entry.file_name().to_str().is_some_and(&is_needed) {
                removed += entry.metadata().map_or(0, |m| m.len());
                fs::remove_file(entry.path())?;
            }
        }
        self.lock_packs()?.index = None;
        Ok(removed)
    }

    fn lock_packs(&self) -> io::Result<MutexGuard<'_, Packs>> {
        self.packs.lock().map_err(|_| io::Error::other("a thread panicked"))
    }

    /// Returns the directories with contents.
    fn content_dirs(&self) -> impl Iterator<Item = &PathBuf> {
        [Some(&self.dir), self.fallback_dir.as_ref()].into_iter().flatten()
    }

    /// Loads the index of the packs again.
    fn load_packs(&self, packs: &mut Packs) -> io::Result<()> {
        let mut index = PackIndex::default();
        for dir in self.content_dirs() {
            index.load_packs(dir)?;
        }
        packs.index = Some(index);
        Ok(())
    }

    /// Finds content in the packs that are known, or in all that exist now.
    fn find_packed(&self, hash: &ContentHash, reload: bool) -> io::Result<Option<PackedContent>> {
        let mut packs = self.lock_packs()?;
        if reload || packs.index.is_none() {
            self.load_packs(&mut packs)?;
        }
        Ok(packs.index.as_ref().and_then(|index| index.find_content(hash)).cloned())
    }

    /// Appends content to a pack, unless one has it.
    fn store_packed(&self, hash: &ContentHash, bytes: &[u8]) -> io::Result<()> {
        let mut packs = self.lock_packs()?;
        if packs.index.is_none() {
            self.load_packs(&mut packs)?;
        }
        // Another instance may have removed a pack.
        if packs.index.as_ref().and_then(|index| index.find_content(hash)).is_some_and(PackedContent::is_kept) {
            return Ok(());
        }
        check_free_space(&self.dir, bytes.len())?;
        let mut writer = match packs.writer.take().filter(PackWriter::is_kept) {
            Some(writer) => writer,
            None => PackWriter::create_pack(&self.dir)?,
        };
        let packed = writer.append_content(hash, bytes)?;
        packs.writer = Some(writer);
        if let Some(index) = &mut packs.index {
            index.add_content(hash, packed);
        }
        Ok(())
    }

    /// Removes the references that are not needed, and returns the number of bytes that they take.
    fn remove_unreferenced_objects(&self, is_needed: impl Fn(&str) -> bool) -> io::Result<u64> {
        let (mut all, before) = (read_references(&self.dir)?, self.dir.join(REFERENCES).metadata()?.len());
        let count = all.len();
        all.retain(|hash, _| is_needed(hash));
        if all.len() == count {
            return Ok(0);
        }
        write_references(&self.dir, &all)?;
        self.forget_references();
        Ok(before.saturating_sub(self.dir.join(REFERENCES).metadata()?.len()))
    }

    /// Records contents that the repository has: each with the ID of the object.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn reference_objects(&self, found: impl IntoIterator<Item = (ContentHash, String)>) -> io::Result<()> {
        let mut all = read_references(&self.dir)?;
        let count = all.len();
        all.extend(found.into_iter().map(|(hash, id)| (hash.0, id)));
        if all.len() > count {
            write_references(&self.dir, &all)?;
        }
        self.forget_references();
        Ok(())
    }

    /// Lets the next read load the references again.
    fn forget_references(&self) {
        if let Ok(mut loaded) = self.references.lock() {
            *loaded = None;
        }
    }

    /// Reads content that the repository has.
    fn read_referenced(&self, hash: &ContentHash) -> io::Result<Vec<u8>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("the content {hash} is not stored"));
        let objects = self.objects.as_ref().ok_or_else(missing)?;
        let id = {
            let mut loaded = self.references.lock().map_err(|_| io::Error::other("a reader panicked"))?;
            if loaded.is_none() {
                let mut all = read_references(&self.dir)?;
                if let Some(below) = &self.fallback_dir {
                    all.extend(read_references(below)?);
                }
                *loaded = Some(all);
            }
            loaded.as_ref().and_then(|all| all.get(&hash.0)).cloned().ok_or_else(missing)?
        };
        objects.read_object(&id).map_err(|error| {
            let message = format!("the repository no longer has the object {id} of the sandbox's base: {error}");
            io::Error::new(error.kind(), message)
        })
    }

    /// Returns the directory: packs of small contents, and a file named by its hash for each larger one.
    #[must_use]
    pub fn as_path(&self) -> &std::path::Path {
        &self.dir
    }

    /// Stores content atomically.
    pub fn store_blob(&self, bytes: &[u8]) -> io::Result<ContentHash> {
        let hash = ContentHash::from_content(bytes);
        if bytes.len() <= MAX_PACKED_SIZE {
            self.store_packed(&hash, bytes)?;
            return Ok(hash);
        }
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
        if let Some(packed) = self.find_packed(hash, false)? {
            match packed.read() {
                Ok(bytes) if ContentHash::from_content(&bytes) == *hash => return Ok(bytes),
                // Another place may have it, and it can be stored again.
                _ => self.forget_packed(hash)?,
            }
        }
        let bytes = self.read_stored(hash)?;
        if ContentHash::from_content(&bytes) != *hash {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the quarantined content {hash} is damaged"),
            ));
        }
        Ok(bytes)
    }

    fn forget_packed(&self, hash: &ContentHash) -> io::Result<()> {
        if let Some(index) = &mut self.lock_packs()?.index {
            index.forget_content(hash);
        }
        Ok(())
    }

    /// Reads content from its own file, from the repository, or from a pack that is new.
    fn read_stored(&self, hash: &ContentHash) -> io::Result<Vec<u8>> {
        let stored = self.content_dirs().find_map(|dir| {
            let read = fs::read(dir.join(&hash.0));
            if matches!(&read, Err(error) if error.kind() == io::ErrorKind::NotFound) { None } else { Some(read) }
        });
        stored.unwrap_or_else(|| self.read_referenced(hash)).or_else(|error| {
            // Another process has stored it since the packs were listed.
            self.find_packed(hash, true)?.map_or(Err(error), |packed| packed.read())
        })
    }
}

fn read_references(dir: &Path) -> io::Result<References> {
    let text = match fs::read_to_string(dir.join(REFERENCES)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(References::new()),
        read => read?,
    };
    let pairs = text.lines().filter_map(|line| line.split_once(' '));
    Ok(pairs.map(|(hash, id)| (hash.to_owned(), id.to_owned())).collect())
}

fn write_references(dir: &Path, all: &References) -> io::Result<()> {
    let text: String = all.iter().flat_map(|(hash, id)| [hash, " ", id, "\n"]).collect();
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(text.as_bytes())?;
    file.persist(dir.join(REFERENCES)).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct OneObject(&'static str, &'static [u8]);

    impl ObjectStore for OneObject {
        fn read_object(&self, id: &str) -> io::Result<Vec<u8>> {
            if id == self.0 { Ok(self.1.to_vec()) } else { Err(io::ErrorKind::NotFound.into()) }
        }
    }

    #[test]
    fn referenced_objects_are_read_from_repository_and_verified() {
        let dir = tempfile::tempdir().expect("a directory");
        let open = |content| {
            let store = Quarantine::open(dir.path().join("store")).expect("opened");
            store.with_objects(Arc::new(OneObject("id", content)))
        };
        let (old, other) = (ContentHash::from_content(b"old"), ContentHash::from_content(b"other"));
        let store = open(b"old");
        store.reference_objects([(old.clone(), "id".into()), (other.clone(), "gone".into())]).expect("written");
        assert_eq!(store.get(&old).expect("read"), b"old");
        let live = store.layered_over(dir.path().join("live")).expect("opened");
        assert_eq!(live.get(&old).expect("read through the layer"), b"old");
        let message = store.get(&other).expect_err("the object is gone").to_string();
        assert!(message.contains("no longer has the object gone"), "{message}");
        assert_eq!(open(b"new").get(&old).expect_err("another content").kind(), io::ErrorKind::InvalidData);
        // A stored content comes first, unless it is damaged.
        store.store_blob(b"old").expect("stored");
        assert_eq!(open(b"new").get(&old).expect("read"), b"old");
        let files =
            fs::read_dir(dir.path().join("store")).expect("listed").map(|entry| entry.expect("an entry").path());
        let pack = files.into_iter().find(|path| is_pack(path.file_name().expect("a name"))).expect("a pack");
        let whole = fs::read(&pack).expect("read");
        fs::write(&pack, [&whole[..whole.len() - 1], b"X"].concat()).expect("damaged");
        assert_eq!(open(b"old").get(&old).expect("read from the repository"), b"old");
        assert_eq!(open(b"new").get(&old).expect_err("nothing has it").kind(), io::ErrorKind::InvalidData);
        fs::write(&pack, whole).expect("written");
        store.remove_unreferenced(|name| name == other.to_string()).expect("removed");
        assert!(store.get(&old).is_err());
        assert!(open(b"").get(&other).expect_err("still referenced").to_string().contains("gone"));
    }

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
        let large = vec![b'x'; MAX_PACKED_SIZE + 1];
        let large_hash = store.store_blob(&large).expect("stored");
        let sweep = |store: &Quarantine, needed: &[&ContentHash]| {
            let needed: Vec<String> = needed.iter().map(ToString::to_string).collect();
            store.remove_unreferenced(|name| needed.iter().any(|needed| needed == name)).expect("removed")
        };
        let other = Quarantine::open(dir.path().to_owned()).expect("opened");
        assert!(sweep(&other, &[&kept, &large_hash]) >= 11);
        for store in [&store, &other] {
            assert!(store.get(&kept).is_ok() && store.get(&large_hash).is_ok());
        }
        assert!(other.get(&unlisted).is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 2);
        // What another instance has removed is stored again, and no content goes to a removed pack.
        let new = store.store_blob(b"new").expect("stored");
        assert_eq!(store.store_blob(b"gone").expect("stored"), unlisted);
        for hash in [&new, &unlisted, &kept] {
            assert!(Quarantine::open(dir.path().to_owned()).expect("opened").get(hash).is_ok());
            assert!(other.get(hash).is_ok(), "stored since it was listed");
        }
        assert_eq!(sweep(&store, &[]), 3 * 74 + 11 + large.len() as u64);
        assert_eq!(fs::read_dir(dir.path()).expect("listed").count(), 0);
    }
}
