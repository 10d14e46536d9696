//! The file server. It lists, reads and writes files of the volumes, component by component, and never follows a
//! symlink.
#![expect(clippy::disallowed_methods, reason = "it writes inside the sandbox's volumes")]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{
    DirBuilderExt, DirEntryExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::Output;
use crate::protocol::{
    ComparedDir, ComparedEntry, CopyTree, Decoder, Encoder, Entry, FileKind, Kind, LARGEST, ListedEntry, MAX_PAYLOAD,
    Request, Root, Space, Stat, Usage, WrittenFile,
};

// Linux `asm/fcntl.h`: `O_NOFOLLOW` and `O_DIRECTORY` have other values on ARM.
const O_NONBLOCK: i32 = 0o4_000;
#[cfg(target_arch = "x86_64")]
const O_NOFOLLOW: i32 = 0o400_000;
#[cfg(target_arch = "x86_64")]
const O_DIRECTORY: i32 = 0o200_000;
#[cfg(target_arch = "aarch64")]
const O_NOFOLLOW: i32 = 0o100_000;
#[cfg(target_arch = "aarch64")]
const O_DIRECTORY: i32 = 0o40_000;

// Linux `asm-generic/errno-base.h` and `errno.h`.
const ENOENT: i32 = 2;
const E2BIG: i32 = 7;
const ENOTDIR: i32 = 20;
const ELOOP: i32 = 40;
/// Maximum number of entries of a directory that are kept in memory for a comparison.
const MAX_KEPT_ENTRIES: usize = 100_000;

/// Number of writer threads.
const WRITERS: usize = 2;

/// Maximum length in bytes of a path that a program can open by its name (`PATH_MAX`).
const PATH_MAX: usize = 4096;
/// Maximum number of open directories in a [`DirStack`].
const MAX_OPEN_DIRS: usize = 512;
/// Bytes that are counted for each entry in addition to its blocks.
const INODE_BYTES: u64 = 256;

fn root_path(root: Root) -> &'static str {
    match root {
        Root::Work => "/v/work",
        Root::Home => "/v/home",
        Root::Base => "/v/base",
        Root::Upper => "/v/upper/upper",
        Root::Layer => "/v/layer/upper",
        Root::UpperHome => "/v/upper/home",
        Root::LayerHome => "/v/layer/home",
    }
}

enum WriteJob {
    Entries(Vec<u8>),
    Flush(SyncSender<()>),
}

#[derive(Default)]
struct WriteReport {
    written: Vec<WrittenFile>,
    failed: Option<String>,
}

/// The file server and its writer threads.
pub struct FileServer {
    output: Output,
    lanes: Vec<SyncSender<WriteJob>>,
    report: Arc<Mutex<WriteReport>>,
}

impl FileServer {
    /// Starts the writer threads.
    pub fn start_writers(output: &Output) -> Self {
        let report = Arc::new(Mutex::new(WriteReport::default()));
        let lanes = (0..WRITERS)
            .map(|_| {
                let (sender, jobs) = mpsc::sync_channel(4);
                let report = Arc::clone(&report);
                std::thread::spawn(move || {
                    let mut writer = Writer::default();
                    for job in jobs {
                        match job {
                            WriteJob::Entries(bytes) => {
                                let result = writer.write_entries(&bytes);
                                let Ok(mut report) = report.lock() else { return };
                                report.written.append(&mut writer.written);
                                if let Err(error) = result {
                                    report.failed.get_or_insert(error);
                                }
                            }
                            WriteJob::Flush(done) => {
                                writer.parent = None;
                                let _ = done.send(());
                            }
                        }
                    }
                });
                sender
            })
            .collect();
        Self { output: output.clone(), lanes, report }
    }

    /// Queues entries for a writer thread.
    pub fn queue_entries(&mut self, lane: u32, payload: Vec<u8>) -> io::Result<()> {
        self.lanes[lane as usize % WRITERS].send(WriteJob::Entries(payload)).map_err(io::Error::other)
    }

    /// Handles one request and sends the answer.
    pub fn handle_request(&mut self, id: u32, payload: &[u8]) -> io::Result<()> {
        let request = Decoder(payload).decode_request()?;
        if matches!(request, Request::Flush | Request::Sync(_) | Request::Copy(_) | Request::Usage(..)) {
            // It may take long, and others wait for the earlier answers.
            self.output.flush_frames()?;
        }
        let answer = match &request {
            Request::List(root, path) => self.list_dir(id, *root, path),
            Request::Compare(directory) => self.compare_dir(id, directory),
            Request::Read(root, path, limit) => self.read_file(id, *root, path, *limit),
            Request::Flush => self.flush_writes(id),
            Request::Sync(root) => sync_volume(*root),
            Request::Copy(copy) => self.copy_tree(id, copy),
            Request::Usage(root, limit) => self.measure_usage(id, *root, *limit),
            Request::Space(root) => self.query_space(id, *root),
        };
        match answer {
            Ok(()) => self.output.queue_frame(Kind::Done, id, &[]),
            Err(error) => {
                let mut payload = error.raw_os_error().unwrap_or(0).to_le_bytes().to_vec();
                payload.extend_from_slice(error.to_string().as_bytes());
                self.output.queue_frame(Kind::Failed, id, &payload)
            }
        }
    }

    fn list_dir(&self, id: u32, root: Root, path: &[u8]) -> io::Result<()> {
        let directory = open_directory(root, path)?;
        let base = proc_path(&directory);
        let mut part = Encoder::default();
        for entry in fs::read_dir(&base)? {
            let Some(listed) = stat_entry(&base, &entry?)? else { continue };
            part.encode_listed(&listed);
            self.send_if_full(id, &mut part)?;
        }
        self.output.queue_frame(Kind::Part, id, &part.0)
    }

    /// Compares a directory of the overlay with the base. Only what may differ is examined: an entry that is not in the upper
    /// directory is the base's if it has the inode number of the base's entry. (An entry in the upper directory keeps that number,
    /// too.)
    fn compare_dir(&self, id: u32, directory: &ComparedDir) -> io::Result<()> {
        let merged = open_directory(Root::Work, &directory.path)?;
        let base = match directory.base.as_ref().map(|path| open_directory(Root::Base, path)) {
            Some(Ok(base)) => Some(base),
            // Only the delta has the directory.
            Some(Err(error)) if matches!(error.raw_os_error(), Some(ENOENT | ENOTDIR | ELOOP)) => None,
            Some(Err(error)) => return Err(error),
            None => None,
        };
        let merged_path = proc_path(&merged);
        // Before the upper directory: what a running agent copies up in between is then in the upper directory.
        let entries = fs::read_dir(&merged_path)?.take(MAX_KEPT_ENTRIES + 1).collect::<io::Result<Vec<_>>>()?;
        if entries.len() > MAX_KEPT_ENTRIES {
            return Err(io::Error::from_raw_os_error(E2BIG));
        }
        let in_upper = match directory.in_upper {
            true => read_entries(&open_directory(Root::Upper, &directory.path)?)?,
            false => HashMap::new(),
        };
        let mut base_entries = match &base {
            Some(base) => read_entries(base)?,
            None => HashMap::new(),
        };
        let base_path = base.as_ref().map(proc_path);
        let mut part = Encoder::default();
        for entry in entries {
            let name = entry.file_name();
            let (same, in_upper) = (base_entries.remove(&name), in_upper.contains_key(&name));
            if let Some(same) = &same
                && !in_upper
                && same.ino() == entry.ino()
                && name.as_bytes() != b".gitignore"
                && let (Ok(kind), Ok(base_kind)) = (entry.file_type(), same.file_type())
                && kind == base_kind
            {
                part.encode_compared(&ComparedEntry::Unchanged(name.as_bytes().to_vec(), to_file_kind(kind)));
            } else {
                if let Some(listed) = stat_entry(&merged_path, &entry)? {
                    part.encode_compared(&ComparedEntry::Merged(listed, in_upper));
                }
                self.encode_base_entry(same.as_ref(), base_path.as_deref(), &mut part)?;
            }
            self.send_if_full(id, &mut part)?;
        }
        for entry in base_entries.values() {
            self.encode_base_entry(Some(entry), base_path.as_deref(), &mut part)?;
            self.send_if_full(id, &mut part)?;
        }
        self.output.queue_frame(Kind::Part, id, &part.0)
    }

    fn encode_base_entry(
        &self,
        entry: Option<&fs::DirEntry>,
        directory: Option<&Path>,
        part: &mut Encoder,
    ) -> io::Result<()> {
        if let (Some(entry), Some(directory)) = (entry, directory)
            && let Some(listed) = stat_entry(directory, entry)?
        {
            part.encode_compared(&ComparedEntry::Base(listed));
        }
        Ok(())
    }

    fn send_if_full(&self, id: u32, part: &mut Encoder) -> io::Result<()> {
        if part.0.len() > MAX_PAYLOAD / 4 {
            self.output.queue_frame(Kind::Part, id, &std::mem::take(&mut part.0))?;
        }
        Ok(())
    }

    fn read_file(&self, id: u32, root: Root, path: &[u8], limit: u64) -> io::Result<()> {
        let (parent, name) = open_parent(root, path)?;
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(O_NOFOLLOW | O_NONBLOCK)
            .open(proc_path(&parent).join(std::ffi::OsStr::from_bytes(name)))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut remaining = limit;
        let mut buffer = vec![0; 256 * 1024];
        while remaining > 0 {
            let want = buffer.len().min(usize::try_from(remaining).unwrap_or(usize::MAX));
            let got = file.read(&mut buffer[..want])?;
            if got == 0 {
                break;
            }
            self.output.queue_frame(Kind::Part, id, &buffer[..got])?;
            remaining -= got as u64;
        }
        Ok(())
    }

    fn flush_writes(&mut self, id: u32) -> io::Result<()> {
        for lane in &self.lanes {
            let (done, wait) = mpsc::sync_channel(1);
            lane.send(WriteJob::Flush(done)).map_err(io::Error::other)?;
            wait.recv().map_err(io::Error::other)?;
        }
        let report = std::mem::take(&mut *self.report.lock().map_err(|_| io::Error::other("a writer panicked"))?);
        if let Some(error) = report.failed {
            return Err(io::Error::other(error));
        }
        let mut part = Encoder::default();
        for written in &report.written {
            self.report_written(id, &mut part, written)?;
        }
        self.output.queue_frame(Kind::Part, id, &part.0)
    }

    fn report_written(&self, id: u32, part: &mut Encoder, written: &WrittenFile) -> io::Result<()> {
        part.encode_written(written);
        if part.0.len() > MAX_PAYLOAD / 4 {
            self.output.queue_frame(Kind::Part, id, &std::mem::take(&mut part.0))?;
        }
        Ok(())
    }

    fn measure_usage(&self, id: u32, root: Root, limit: u32) -> io::Result<()> {
        let (mut open, mut usage, mut remaining) = (vec![Vec::new()], Usage::default(), limit);
        let mut sums: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let (mut stack, mut seen_links) = (DirStack::new(root)?, HashSet::new());
        while let Some(dir_path) = open.pop() {
            // A running agent may have removed the directory, or made it unreadable.
            let Ok(directory) = stack.open_dir(&dir_path) else { continue };
            let mut dir_bytes = 0;
            let Ok(entries) = fs::read_dir(proc_path(directory)) else { continue };
            for entry in entries {
                if remaining == 0 {
                    usage.more = true;
                    open.clear();
                    break;
                }
                remaining -= 1;
                let Ok(entry) = entry else { break };
                let Ok(metadata) = entry.metadata() else { continue };
                usage.entries += 1;
                if metadata.is_dir() {
                    let below = [&dir_path, entry.file_name().as_bytes(), b"/"].concat();
                    // The directory is deeper than any path can be. It cannot be opened in one step and is not measured.
                    if below.len() > PATH_MAX {
                        usage.more = true;
                    } else {
                        open.push(below);
                    }
                } else if metadata.nlink() > 1 && !seen_links.insert((metadata.dev(), metadata.ino())) {
                    // Another hard link of a file that was counted.
                    continue;
                }
                dir_bytes += metadata.blocks() * 512 + INODE_BYTES;
            }
            usage.bytes += dir_bytes;
            // Adds the size to the directories of the first two levels of the path.
            let ends = dir_path.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(end, _)| end).take(2);
            for end in ends {
                *sums.entry(dir_path[..end].to_vec()).or_default() += dir_bytes;
            }
            if dir_path.is_empty() {
                sums.insert(b".".to_vec(), dir_bytes);
            }
        }
        let mut largest: Vec<_> = sums.into_iter().collect();
        largest.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        largest.truncate(LARGEST);
        let mut part = Encoder::default();
        part.encode_usage(&Usage { largest, ..usage });
        self.output.queue_frame(Kind::Part, id, &part.0)
    }

    fn query_space(&self, id: u32, root: Root) -> io::Result<()> {
        let directory = open_directory(root, b"")?;
        let mut stats = Statvfs::default();
        if fstatvfs(directory.as_raw_fd(), &mut stats) != 0 {
            return Err(io::Error::last_os_error());
        }
        let bytes = |blocks: u64| blocks.saturating_mul(stats.fragment);
        let space = Space { free: bytes(stats.available), total: bytes(stats.blocks), free_entries: stats.free_files };
        let mut part = Encoder::default();
        part.encode_space(space);
        self.output.queue_frame(Kind::Part, id, &part.0)
    }

    /// Copies the entries of a directory. Nothing else writes to either tree, but the source may come from an agent.
    fn copy_tree(&self, id: u32, copy: &CopyTree) -> io::Result<()> {
        let (mut open, mut part, mut left) = (vec![Vec::new()], Encoder::default(), copy.limit);
        while let Some(dir_path) = open.pop() {
            let place = |(root, path): &(Root, Vec<u8>)| (*root, join_path(path, &dir_path));
            let ((from_root, from_path), (to_root, to_path)) = (place(&copy.from), place(&copy.to));
            let (from, to) = (open_directory(from_root, &from_path)?, open_directory(to_root, &to_path)?);
            for entry in fs::read_dir(proc_path(&from))? {
                let entry = entry?;
                let (name, source) = (entry.file_name(), proc_path(&from).join(entry.file_name()));
                if dir_path.is_empty() && !copy.name.is_empty() && name.as_bytes() != copy.name {
                    continue;
                }
                let (target, kind) = (proc_path(&to).join(&name), entry.file_type()?);
                let too_many = || io::Error::new(io::ErrorKind::FileTooLarge, "the files exceed the limit");
                left = left.checked_sub(INODE_BYTES).ok_or_else(too_many)?;
                // A file that was included from the working tree takes precedence over a layer's.
                if !kind.is_dir() && fs::symlink_metadata(&target).is_ok() {
                    continue;
                }
                if kind.is_dir() {
                    match DirBuilder::new().mode(0o755).create(&target) {
                        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                        _ => open.push(join_path(&dir_path, name.as_bytes())),
                    }
                } else if kind.is_symlink() {
                    std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
                } else if kind.is_file() {
                    let old = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(&source)?;
                    let metadata = old.metadata()?;
                    let mode = metadata.permissions().mode() & 0o777;
                    let mut new = OpenOptions::new().write(true).create_new(true).mode(mode).open(&target)?;
                    left = left
                        .checked_sub(io::copy(&mut old.take(left.saturating_add(1)), &mut new)?)
                        .ok_or_else(too_many)?;
                    new.set_modified(metadata.modified()?)?;
                    let path = join_path(&to_path, name.as_bytes());
                    self.report_written(id, &mut part, &WrittenFile { path, stat: to_stat(&new.metadata()?) })?;
                }
            }
        }
        self.output.queue_frame(Kind::Part, id, &part.0)
    }
}

/// Reads the entries of a directory by name.
///
/// Fails with `ArgumentListTooLong` if there are too many to keep: the host then lists the directories instead.
fn read_entries(directory: &File) -> io::Result<HashMap<OsString, fs::DirEntry>> {
    let mut found = HashMap::new();
    for entry in fs::read_dir(proc_path(directory))? {
        let entry = entry?;
        if found.len() >= MAX_KEPT_ENTRIES {
            return Err(io::Error::from_raw_os_error(E2BIG));
        }
        found.insert(entry.file_name(), entry);
    }
    Ok(found)
}

/// Returns an entry with its stat data, or `None` if a running agent has just removed it.
fn stat_entry(directory: &Path, entry: &fs::DirEntry) -> io::Result<Option<ListedEntry>> {
    let metadata = match entry.metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let kind = to_file_kind(metadata.file_type());
    let target = match kind {
        FileKind::Link => match fs::read_link(directory.join(entry.file_name())) {
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => return Ok(None),
            other => other?.into_os_string().into_vec(),
        },
        FileKind::Regular | FileKind::Directory | FileKind::Special => Vec::new(),
    };
    Ok(Some(ListedEntry { name: entry.file_name().into_vec(), kind, stat: to_stat(&metadata), target }))
}

fn to_file_kind(kind: fs::FileType) -> FileKind {
    if kind.is_file() {
        FileKind::Regular
    } else if kind.is_dir() {
        FileKind::Directory
    } else if kind.is_symlink() {
        FileKind::Link
    } else {
        debug_assert!(kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device());
        FileKind::Special
    }
}

/// Joins two relative paths, of which each may be empty.
fn join_path(directory: &[u8], path: &[u8]) -> Vec<u8> {
    let separator: &[u8] = if directory.is_empty() || path.is_empty() { b"" } else { b"/" };
    [directory, separator, path].concat()
}

/// `struct statvfs` of 64-bit Linux, the same in glibc and musl.
#[repr(C)]
#[derive(Default)]
struct Statvfs {
    block: u64,
    fragment: u64,
    blocks: u64,
    free: u64,
    available: u64,
    files: u64,
    free_files: u64,
    available_files: u64,
    id: u64,
    flags: u64,
    longest_name: u64,
    spare: [i32; 6],
}

/// The open directories down to the one that was entered last, so that the next one is only a step away.
struct DirStack {
    root: File,
    open: VecDeque<(Vec<u8>, File)>,
}

impl DirStack {
    fn new(root: Root) -> io::Result<Self> {
        Ok(Self { root: open_directory(root, b"")?, open: VecDeque::new() })
    }

    /// Opens a directory. Its path ends with a slash, and the root's path is empty.
    fn open_dir(&mut self, path: &[u8]) -> io::Result<&File> {
        while self.open.back().is_some_and(|(above, _)| !path.starts_with(above)) {
            self.open.pop_back();
        }
        let prefix_len = self.open.back().map_or(0, |(above, _)| above.len());
        let mut path_len = prefix_len;
        for component in path[prefix_len..].split(|b| *b == b'/').filter(|c| !c.is_empty()) {
            let above = self.open.back().map_or(&self.root, |(_, file)| file);
            let next = open_child_dir(above, component)?;
            path_len += component.len() + 1;
            self.open.push_back((path[..path_len].to_vec(), next));
            if self.open.len() > MAX_OPEN_DIRS {
                self.open.pop_front();
            }
        }
        Ok(self.open.back().map_or(&self.root, |(_, file)| file))
    }
}

unsafe extern "C" {
    /// See syncfs(2). It accepts any number as a descriptor.
    safe fn syncfs(descriptor: i32) -> i32;
    /// See fstatvfs(3). It accepts any number as a descriptor and fills `found`.
    safe fn fstatvfs(descriptor: i32, found: &mut Statvfs) -> i32;
}

/// Writes the file system of a volume to disk.
fn sync_volume(root: Root) -> io::Result<()> {
    let directory = open_directory(root, b"")?;
    if syncfs(directory.as_raw_fd()) == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A writer of entries. It keeps the last directory open, because entries arrive sorted.
#[derive(Default)]
struct Writer {
    parent: Option<(Root, Vec<u8>, File)>,
    written: Vec<WrittenFile>,
}

impl Writer {
    fn write_entries(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut decoder = Decoder(bytes);
        while !decoder.is_empty() {
            let (root, path, entry) = decoder.decode_entry().map_err(|e| e.to_string())?;
            self.write_entry(root, path, &entry).map_err(|e| format!("{}: {e}", path.escape_ascii()))?;
        }
        Ok(())
    }

    fn write_entry(&mut self, root: Root, path: &[u8], entry: &Entry<'_>) -> io::Result<()> {
        let (directory, name) = split_parent(path);
        if !matches!(&self.parent, Some((r, d, _)) if *r == root && d == directory) {
            match open_directory(root, directory) {
                Ok(opened) => self.parent = Some((root, directory.to_vec(), opened)),
                // ENOENT or ENOTDIR: the path does not exist.
                Err(e) if *entry == Entry::Nothing && matches!(e.raw_os_error(), Some(2 | 20)) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        let Some((_, _, parent)) = &self.parent else { unreachable!("set above") };
        let full = proc_path(parent).join(std::ffi::OsStr::from_bytes(name));
        match entry {
            Entry::Directory => match DirBuilder::new().mode(0o755).create(&full) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && fs::symlink_metadata(&full)?.is_dir() => Ok(()),
                other => other,
            },
            Entry::Link(target) => std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &full),
            Entry::Nothing => {
                match fs::remove_file(&full) {
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
                    // The directory of a submodule without content.
                    Err(e) if e.kind() == io::ErrorKind::IsADirectory => fs::remove_dir(&full)?,
                    other => other?,
                }
                self.parent = None;
                remove_empty_dirs(root, directory)
            }
            Entry::File { executable, report, mtime, size, offset, bytes } => {
                let mut options = OpenOptions::new();
                options.write(true).custom_flags(O_NOFOLLOW | O_NONBLOCK);
                if *offset == 0 {
                    options.create_new(true).mode(if *executable { 0o755 } else { 0o644 });
                }
                let file = options.open(&full)?;
                file.write_all_at(bytes, *offset)?;
                if offset + bytes.len() as u64 == *size {
                    if *executable {
                        file.set_permissions(Permissions::from_mode(0o755))?;
                    }
                    if *mtime != 0 {
                        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(*mtime))?;
                    }
                    if *report {
                        self.written.push(WrittenFile { path: path.to_vec(), stat: to_stat(&file.metadata()?) });
                    }
                }
                Ok(())
            }
        }
    }
}

/// Removes a directory if it is empty, and then its parents in the same way.
fn remove_empty_dirs(root: Root, mut directory: &[u8]) -> io::Result<()> {
    while !directory.is_empty() {
        let (parent, name) = open_parent(root, directory)?;
        match fs::remove_dir(proc_path(&parent).join(std::ffi::OsStr::from_bytes(name))) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            other => other?,
        }
        directory = split_parent(directory).0;
    }
    Ok(())
}

fn split_parent(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

fn open_parent(root: Root, path: &[u8]) -> io::Result<(File, &[u8])> {
    let (directory, name) = split_parent(path);
    if name.is_empty() || name == b".." || name == b"." {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok((open_directory(root, directory)?, name))
}

/// Opens a directory below a root, one component at a time, without following a symlink.
fn open_directory(root: Root, path: &[u8]) -> io::Result<File> {
    let mut directory = open_nofollow(PathBuf::from(root_path(root)))?;
    for component in path.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
        if component == b".." || component == b"." {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        directory = open_child_dir(&directory, component)?;
    }
    Ok(directory)
}

fn open_child_dir(directory: &File, name: &[u8]) -> io::Result<File> {
    open_nofollow(proc_path(directory).join(std::ffi::OsStr::from_bytes(name)))
}

fn open_nofollow(path: PathBuf) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_DIRECTORY | O_NONBLOCK).open(path)
}

fn proc_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn to_stat(metadata: &fs::Metadata) -> Stat {
    let nanos = |n: i64| u32::try_from(n).unwrap_or(0);
    Stat {
        mode: metadata.mode(),
        size: metadata.size(),
        ino: metadata.ino(),
        mtime: (metadata.mtime(), nanos(metadata.mtime_nsec())),
        ctime: (metadata.ctime(), nanos(metadata.ctime_nsec())),
    }
}
