//! The file server. It lists, reads and writes files of the volumes, component by component, and never follows a
//! symlink.
#![expect(clippy::disallowed_methods, reason = "it writes inside the sandbox's volumes")]

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::Output;
use crate::protocol::{
    Decoder, Encoder, Entry, FileKind, Kind, LARGEST, Listed, MAX_PAYLOAD, Request, Root, Space, Stat, Usage, Written,
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

/// Number of writer threads.
const LANES: usize = 2;

/// Maximum length in bytes of a path that a program can open by its name (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;
/// Maximum number of open directories in a [`DirStack`].
const MOST_OPEN: usize = 512;
/// Bytes that are counted for each entry in addition to its blocks.
const INODE: u64 = 256;

fn root_path(root: Root) -> &'static str {
    match root {
        Root::Work => "/v/work",
        Root::Home => "/v/home",
        Root::Base => "/v/base",
        Root::Upper => "/v/upper/upper",
    }
}

enum WriteJob {
    Entries(Vec<u8>),
    Flush(SyncSender<()>),
}

#[derive(Default)]
struct Report {
    written: Vec<Written>,
    failed: Option<String>,
}

/// The file server and its writer threads.
pub struct Files {
    output: Output,
    lanes: Vec<SyncSender<WriteJob>>,
    report: Arc<Mutex<Report>>,
}

impl Files {
    /// Starts the writer threads.
    pub fn start(output: &Output) -> Self {
        let report = Arc::new(Mutex::new(Report::default()));
        let lanes = (0..LANES)
            .map(|_| {
                let (sender, jobs) = mpsc::sync_channel(4);
                let report = Arc::clone(&report);
                std::thread::spawn(move || {
                    let mut writer = Writer::default();
                    for job in jobs {
                        match job {
                            WriteJob::Entries(bytes) => {
                                let result = writer.entries(&bytes);
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
    pub fn write(&mut self, lane: u32, payload: Vec<u8>) -> io::Result<()> {
        self.lanes[lane as usize % LANES].send(WriteJob::Entries(payload)).map_err(io::Error::other)
    }

    /// Handles one request and sends the answer.
    pub fn request(&mut self, id: u32, payload: &[u8]) -> io::Result<()> {
        let request = Decoder(payload).request()?;
        let answer = match &request {
            Request::List(root, path) => self.list(id, *root, path),
            Request::Read(root, path, limit) => self.read(id, *root, path, *limit),
            Request::Flush => self.flush(id),
            Request::Sync(root) => sync(*root),
            Request::Copy => self.copy(id),
            Request::Usage(root, limit) => self.usage(id, *root, *limit),
            Request::Space(root) => self.space(id, *root),
        };
        match answer {
            Ok(()) => self.output.send(Kind::Done, id, &[]),
            Err(error) => {
                let mut payload = error.raw_os_error().unwrap_or(0).to_le_bytes().to_vec();
                payload.extend_from_slice(error.to_string().as_bytes());
                self.output.send(Kind::Failed, id, &payload)
            }
        }
    }

    fn list(&self, id: u32, root: Root, path: &[u8]) -> io::Result<()> {
        let directory = open_directory(root, path)?;
        let base = proc_path(&directory);
        let mut part = Encoder::default();
        for entry in fs::read_dir(&base)? {
            let name = entry?.file_name();
            let full = base.join(&name);
            // A running agent may have removed the entry.
            let metadata = match fs::symlink_metadata(&full) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            let kind = metadata.file_type();
            let (kind, target) = if kind.is_file() {
                (FileKind::Regular, Vec::new())
            } else if kind.is_dir() {
                (FileKind::Directory, Vec::new())
            } else if kind.is_symlink() {
                match fs::read_link(&full) {
                    Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => continue,
                    other => (FileKind::Link, other?.as_os_str().as_bytes().to_vec()),
                }
            } else {
                debug_assert!(kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device());
                (FileKind::Special, Vec::new())
            };
            part.listed(&Listed { name: name.as_bytes().to_vec(), kind, stat: stat(&metadata), target });
            if part.0.len() > MAX_PAYLOAD / 4 {
                self.output.send(Kind::Part, id, &std::mem::take(&mut part.0))?;
            }
        }
        self.output.send(Kind::Part, id, &part.0)
    }

    fn read(&self, id: u32, root: Root, path: &[u8], limit: u64) -> io::Result<()> {
        let (parent, name) = open_parent(root, path)?;
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(O_NOFOLLOW | O_NONBLOCK)
            .open(proc_path(&parent).join(std::ffi::OsStr::from_bytes(name)))?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut left = limit;
        let mut buffer = vec![0; 256 * 1024];
        while left > 0 {
            let want = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = file.read(&mut buffer[..want])?;
            if got == 0 {
                break;
            }
            self.output.send(Kind::Part, id, &buffer[..got])?;
            left -= got as u64;
        }
        Ok(())
    }

    fn flush(&mut self, id: u32) -> io::Result<()> {
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
            self.report(id, &mut part, written)?;
        }
        self.output.send(Kind::Part, id, &part.0)
    }

    fn report(&self, id: u32, part: &mut Encoder, written: &Written) -> io::Result<()> {
        part.written(written);
        if part.0.len() > MAX_PAYLOAD / 4 {
            self.output.send(Kind::Part, id, &std::mem::take(&mut part.0))?;
        }
        Ok(())
    }

    fn usage(&self, id: u32, root: Root, limit: u32) -> io::Result<()> {
        let (mut open, mut usage, mut left) = (vec![Vec::new()], Usage::default(), limit);
        let mut sums: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
        let (mut trail, mut linked) = (DirStack::new(root)?, HashSet::new());
        while let Some(at) = open.pop() {
            // A running agent may have removed the directory, or made it unreadable.
            let Ok(directory) = trail.enter(&at) else { continue };
            let mut here = 0;
            let Ok(entries) = fs::read_dir(proc_path(directory)) else { continue };
            for entry in entries {
                if left == 0 {
                    usage.more = true;
                    open.clear();
                    break;
                }
                left -= 1;
                let Ok(entry) = entry else { break };
                let Ok(metadata) = entry.metadata() else { continue };
                usage.entries += 1;
                if metadata.is_dir() {
                    let below = [&at, entry.file_name().as_bytes(), b"/"].concat();
                    // The directory is deeper than any path can be. It cannot be opened in one step and is not measured.
                    if below.len() > LONGEST_PATH {
                        usage.more = true;
                    } else {
                        open.push(below);
                    }
                } else if metadata.nlink() > 1 && !linked.insert((metadata.dev(), metadata.ino())) {
                    // Another hard link of a file that was counted.
                    continue;
                }
                here += metadata.blocks() * 512 + INODE;
            }
            usage.bytes += here;
            // Adds the size to the directories of the first two levels of the path.
            let ends = at.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(end, _)| end).take(2);
            for end in ends {
                *sums.entry(at[..end].to_vec()).or_default() += here;
            }
            if at.is_empty() {
                sums.insert(b".".to_vec(), here);
            }
        }
        let mut largest: Vec<_> = sums.into_iter().collect();
        largest.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        largest.truncate(LARGEST);
        let mut part = Encoder::default();
        part.usage(&Usage { largest, ..usage });
        self.output.send(Kind::Part, id, &part.0)
    }

    fn space(&self, id: u32, root: Root) -> io::Result<()> {
        let directory = open_directory(root, b"")?;
        let mut seen = Statvfs::default();
        if fstatvfs(directory.as_raw_fd(), &mut seen) != 0 {
            return Err(io::Error::last_os_error());
        }
        let bytes = |blocks: u64| blocks.saturating_mul(seen.fragment);
        let space = Space { free: bytes(seen.available), total: bytes(seen.blocks), free_entries: seen.free_files };
        let mut part = Encoder::default();
        part.space(space);
        self.output.send(Kind::Part, id, &part.0)
    }

    /// Copies the base's tree to the workspace. Both are trusted: no agent has written to either yet.
    fn copy(&self, id: u32) -> io::Result<()> {
        let (mut open, mut part) = (vec![Vec::new()], Encoder::default());
        while let Some(at) = open.pop() {
            let inside = [b"tree/", &at[..]].concat();
            let (from, to) = (open_directory(Root::Base, &inside)?, open_directory(Root::Work, &at)?);
            for entry in fs::read_dir(proc_path(&from))? {
                let entry = entry?;
                let (name, source) = (entry.file_name(), proc_path(&from).join(entry.file_name()));
                let (target, kind) = (proc_path(&to).join(&name), entry.file_type()?);
                let path =
                    if at.is_empty() { name.as_bytes().to_vec() } else { [&at, &b"/"[..], name.as_bytes()].concat() };
                if kind.is_dir() {
                    DirBuilder::new().mode(0o755).create(&target)?;
                    open.push(path);
                } else if kind.is_symlink() {
                    std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
                } else {
                    let mut old = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(&source)?;
                    let seen = old.metadata()?;
                    let mode = seen.permissions().mode() & 0o777;
                    let mut new = OpenOptions::new().write(true).create_new(true).mode(mode).open(&target)?;
                    io::copy(&mut old, &mut new)?;
                    new.set_modified(seen.modified()?)?;
                    self.report(id, &mut part, &Written { path, stat: stat(&new.metadata()?) })?;
                }
            }
        }
        self.output.send(Kind::Part, id, &part.0)
    }
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
    fn enter(&mut self, path: &[u8]) -> io::Result<&File> {
        while self.open.back().is_some_and(|(above, _)| !path.starts_with(above)) {
            self.open.pop_back();
        }
        let done = self.open.back().map_or(0, |(above, _)| above.len());
        let mut at = done;
        for component in path[done..].split(|b| *b == b'/').filter(|c| !c.is_empty()) {
            let above = self.open.back().map_or(&self.root, |(_, file)| file);
            let next = step_into(above, component)?;
            at += component.len() + 1;
            self.open.push_back((path[..at].to_vec(), next));
            if self.open.len() > MOST_OPEN {
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
fn sync(root: Root) -> io::Result<()> {
    let directory = open_directory(root, b"")?;
    if syncfs(directory.as_raw_fd()) == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A writer of entries. It keeps the last directory open, because entries arrive sorted.
#[derive(Default)]
struct Writer {
    parent: Option<(Root, Vec<u8>, File)>,
    written: Vec<Written>,
}

impl Writer {
    fn entries(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut decoder = Decoder(bytes);
        while !decoder.is_empty() {
            let (root, path, entry) = decoder.entry().map_err(|e| e.to_string())?;
            self.entry(root, path, &entry).map_err(|e| format!("{}: {e}", path.escape_ascii()))?;
        }
        Ok(())
    }

    fn entry(&mut self, root: Root, path: &[u8], entry: &Entry<'_>) -> io::Result<()> {
        let (directory, name) = split(path);
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
                prune(root, directory)
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
                        self.written.push(Written { path: path.to_vec(), stat: stat(&file.metadata()?) });
                    }
                }
                Ok(())
            }
        }
    }
}

/// Removes a directory if it is empty, and then its parents in the same way.
fn prune(root: Root, mut directory: &[u8]) -> io::Result<()> {
    while !directory.is_empty() {
        let (parent, name) = open_parent(root, directory)?;
        match fs::remove_dir(proc_path(&parent).join(std::ffi::OsStr::from_bytes(name))) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            other => other?,
        }
        directory = split(directory).0;
    }
    Ok(())
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

fn open_parent(root: Root, path: &[u8]) -> io::Result<(File, &[u8])> {
    let (directory, name) = split(path);
    if name.is_empty() || name == b".." || name == b"." {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok((open_directory(root, directory)?, name))
}

/// Opens a directory below a root, one component at a time, without following a symlink.
fn open_directory(root: Root, path: &[u8]) -> io::Result<File> {
    let mut directory = open_no_link(PathBuf::from(root_path(root)))?;
    for component in path.split(|b| *b == b'/').filter(|c| !c.is_empty()) {
        if component == b".." || component == b"." {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        directory = step_into(&directory, component)?;
    }
    Ok(directory)
}

fn step_into(directory: &File, name: &[u8]) -> io::Result<File> {
    open_no_link(proc_path(directory).join(std::ffi::OsStr::from_bytes(name)))
}

fn open_no_link(path: PathBuf) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_DIRECTORY | O_NONBLOCK).open(path)
}

fn proc_path(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn stat(metadata: &fs::Metadata) -> Stat {
    let nanos = |n: i64| u32::try_from(n).unwrap_or(0);
    Stat {
        mode: metadata.mode(),
        size: metadata.size(),
        ino: metadata.ino(),
        mtime: (metadata.mtime(), nanos(metadata.mtime_nsec())),
        ctime: (metadata.ctime(), nanos(metadata.ctime_nsec())),
    }
}
