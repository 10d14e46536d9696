//! Packs: files that each store many small contents. Creating a file for each content takes longer than writing it.
//!
//! A pack is a sequence of records: the content's hash, a space, its size in bytes as eight hexadecimal digits, a line
//! feed, and the content. One writer appends to a pack. A record that is incomplete at the end is ignored.

#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use super::ContentHash;

/// Maximum size in bytes of a content in a pack.
pub(super) const MAX_PACKED_SIZE: usize = 1 << 20;

/// The first part of a pack's name.
const PREFIX: &str = "pack-";

/// Size in bytes of the head of a record.
const HEAD_SIZE: usize = 64 + 1 + 8 + 1;

/// A pack is rewritten if more than this part (one in so many bytes) of it is no longer needed.
const MAX_WASTE: u64 = 8;

/// The place of a content.
#[derive(Debug, Clone)]
pub(super) struct PackedContent {
    pack: Arc<File>,
    offset: u64,
    size: usize,
}

impl PackedContent {
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.size];
        self.pack.read_exact_at(&mut bytes, self.offset)?;
        Ok(bytes)
    }

    /// Returns whether the pack has not been removed.
    pub(super) fn is_kept(&self) -> bool {
        is_linked(&self.pack)
    }
}

fn is_linked(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
}

/// The writer of a pack, which only one process has.
#[derive(Debug)]
pub(super) struct PackWriter {
    pack: Arc<File>,
    end: u64,
}

impl PackWriter {
    /// Creates a pack. No other process writes to it.
    pub(super) fn create_pack(dir: &Path) -> io::Result<Self> {
        let (file, _) = tempfile::Builder::new().prefix(PREFIX).tempfile_in(dir)?.keep().map_err(|e| e.error)?;
        Ok(Self { pack: Arc::new(file), end: 0 })
    }

    /// Returns whether the pack can be appended to: it has not been removed.
    pub(super) fn is_kept(&self) -> bool {
        is_linked(&self.pack)
    }

    /// Appends a content to the pack.
    ///
    /// # Errors
    /// The content was not written. The next one takes its place.
    pub(super) fn append_content(&mut self, hash: &ContentHash, content: &[u8]) -> io::Result<PackedContent> {
        let mut record = format!("{hash} {:08x}\n", content.len()).into_bytes();
        record.extend_from_slice(content);
        self.pack.write_all_at(&record, self.end)?;
        let offset = self.end + HEAD_SIZE as u64;
        self.end += record.len() as u64;
        Ok(PackedContent { pack: Arc::clone(&self.pack), offset, size: content.len() })
    }
}

/// The contents of all packs in a directory, by hash.
#[derive(Debug, Default)]
pub(super) struct PackIndex(HashMap<String, PackedContent>);

impl PackIndex {
    pub(super) fn find_content(&self, hash: &ContentHash) -> Option<&PackedContent> {
        self.0.get(&hash.to_string())
    }

    /// Forgets a content that turned out to be damaged.
    pub(super) fn forget_content(&mut self, hash: &ContentHash) {
        self.0.remove(&hash.to_string());
    }

    pub(super) fn add_content(&mut self, hash: &ContentHash, content: PackedContent) {
        self.0.insert(hash.to_string(), content);
    }

    /// Adds the contents of a directory's packs.
    ///
    /// # Errors
    /// A pack cannot be read.
    pub(super) fn load_packs(&mut self, dir: &Path) -> io::Result<()> {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if is_pack(&entry.file_name()) {
                match File::open(entry.path()) {
                    Ok(pack) => self.0.extend(read_records(pack)?.all),
                    // Another process has just rewritten it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

/// Returns whether a name in the directory is that of a pack.
pub(super) fn is_pack(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(PREFIX.as_bytes())
}

/// The records of a pack.
struct Records {
    all: Vec<(String, PackedContent)>,
    /// Whether a head cannot be read. What follows it is unknown.
    is_damaged: bool,
}

fn read_records(pack: File) -> io::Result<Records> {
    let (length, pack) = (pack.metadata()?.len(), Arc::new(pack));
    let mut records = Records { all: Vec::new(), is_damaged: false };
    let mut at = 0;
    let mut head = [0; HEAD_SIZE];
    while at + HEAD_SIZE as u64 <= length {
        pack.read_exact_at(&mut head, at)?;
        let Some((hash, size)) = parse_head(&head) else {
            records.is_damaged = true;
            break;
        };
        let offset = at + HEAD_SIZE as u64;
        at = offset + size as u64;
        if at > length {
            break;
        }
        records.all.push((hash, PackedContent { pack: Arc::clone(&pack), offset, size }));
    }
    Ok(records)
}

fn parse_head(head: &[u8]) -> Option<(String, usize)> {
    let (hash, size) = std::str::from_utf8(head).ok()?.strip_suffix('\n')?.split_once(' ')?;
    let size = usize::from_str_radix(size, 16).ok().filter(|size| *size <= MAX_PACKED_SIZE)?;
    Some((hash.to_owned(), size))
}

/// Removes what is not needed from a pack, unless that is only a small part of it. Returns the number of bytes removed.
pub(super) fn remove_unneeded(dir: &Path, pack: &Path, is_needed: impl Fn(&str) -> bool) -> io::Result<u64> {
    let file = File::open(pack)?;
    let length = file.metadata()?.len();
    let Records { all: mut needed, is_damaged } = read_records(file)?;
    if is_damaged {
        // Something that is needed may follow.
        return Ok(0);
    }
    needed.retain(|(hash, _)| is_needed(hash));
    let needed_length: u64 = needed.iter().map(|(_, content)| (HEAD_SIZE + content.size) as u64).sum();
    if length - needed_length <= length / MAX_WASTE && !needed.is_empty() {
        return Ok(0);
    }
    if !needed.is_empty() {
        let mut writer = PackWriter::create_pack(dir)?;
        for (hash, content) in needed {
            let hash = ContentHash::try_from(hash).map_err(io::Error::other)?;
            writer.append_content(&hash, &content.read()?)?;
        }
        // The old pack may have been on the disk for long.
        writer.pack.sync_all()?;
        File::open(dir)?.sync_all()?;
    }
    fs::remove_file(pack)?;
    Ok(length - needed_length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(content: &[u8]) -> ContentHash {
        ContentHash::from_content(content)
    }

    fn load(dir: &Path) -> PackIndex {
        let mut index = PackIndex::default();
        index.load_packs(dir).expect("loaded");
        index
    }

    fn pack_paths(dir: &Path) -> Vec<std::path::PathBuf> {
        fs::read_dir(dir).expect("listed").map(|entry| entry.expect("an entry").path()).collect()
    }

    #[test]
    fn contents_are_read_back_whatever_they_are() {
        let dir = tempfile::tempdir().expect("a directory");
        let contents: [&[u8]; 4] = [b"", b"\n \n", &[0xff; 300], &[b'x'; MAX_PACKED_SIZE]];
        let mut writer = PackWriter::create_pack(dir.path()).expect("created");
        for content in contents {
            let packed = writer.append_content(&hash(content), content).expect("appended");
            assert_eq!(packed.read().expect("read"), content);
        }
        let index = load(dir.path());
        for content in contents {
            assert_eq!(index.find_content(&hash(content)).expect("found").read().expect("read"), content);
        }
    }

    #[test]
    fn cut_record_is_ignored_wherever_it_ends() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut writer = PackWriter::create_pack(dir.path()).expect("created");
        writer.append_content(&hash(b"first"), b"first").expect("appended");
        let first = writer.end;
        writer.append_content(&hash(b"second"), b"second").expect("appended");
        let path = &pack_paths(dir.path())[0];
        for length in (first..writer.end).rev() {
            File::options().write(true).open(path).expect("opened").set_len(length).expect("cut");
            let index = load(dir.path());
            assert!(
                index.find_content(&hash(b"first")).is_some() && index.find_content(&hash(b"second")).is_none(),
                "{length}"
            );
        }
    }

    #[test]
    fn damaged_pack_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut writer = PackWriter::create_pack(dir.path()).expect("created");
        let (first, second) = ([b'a'; 100], [b'b'; 100]);
        writer.append_content(&hash(&first), &first).expect("appended");
        let end = writer.end;
        writer.append_content(&hash(&second), &second).expect("appended");
        writer.pack.write_all_at(&[0; HEAD_SIZE], end).expect("damaged");
        let path = &pack_paths(dir.path())[0];
        assert_eq!(remove_unneeded(dir.path(), path, |_| false).expect("ok"), 0);
        assert!(load(dir.path()).find_content(&hash(&first)).is_some());
    }

    #[test]
    fn pack_is_rewritten_when_much_is_unneeded() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut writer = PackWriter::create_pack(dir.path()).expect("created");
        let (large, small) = ([b'a'; 2000], b"small");
        writer.append_content(&hash(&large), &large).expect("appended");
        writer.append_content(&hash(small), small).expect("appended");
        let remove = |needed: &[ContentHash]| {
            let needed: Vec<String> = needed.iter().map(ToString::to_string).collect();
            remove_unneeded(dir.path(), &pack_paths(dir.path())[0], |hash| needed.iter().any(|n| n == hash))
                .expect("ok")
        };
        assert_eq!(remove(&[hash(&large)]), 0, "little is wasted");
        assert!(writer.is_kept());
        assert_eq!(remove(&[hash(small)]), 2000 + HEAD_SIZE as u64);
        assert!(!writer.is_kept(), "the old pack is gone");
        let index = load(dir.path());
        assert!(index.find_content(&hash(&large)).is_none());
        assert_eq!(index.find_content(&hash(small)).expect("kept").read().expect("read"), small);
        assert_eq!(remove(&[]), (HEAD_SIZE + small.len()) as u64);
        assert_eq!(pack_paths(dir.path()).len(), 0);
    }
}
