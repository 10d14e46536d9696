//! Writes the snapshot, its `.git` and the home into the sandbox's volumes, in parallel.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::time::{SystemTime, UNIX_EPOCH};

use super::SandboxError;
use super::home::HomeEntry;
use super::link::Link;
use crate::path::EntryKind;
use crate::snapshot::{GitDir, HostRepo, Snapshot, SnapshotError};
use crate::wire::{Encoder, Entry, Kind, Root, Stat};

/// Threads that read the object store; as many write in the guest.
const THREADS: usize = 2;
/// Bytes of one frame of entries, and of a piece of a large file. Some dozens are under way at once; below the size from
/// which the allocator asks the system each time.
const BATCH: usize = 96 * 1024;

/// Seeds over a link whose guest runs as the agent's user; returns the stat data of every file, in the snapshot's order.
pub async fn seed(
    host: &HostRepo,
    snapshot: &Snapshot,
    link: &Link,
    home: Vec<HomeEntry>,
) -> Result<Vec<Stat>, SandboxError> {
    let directories = directories(snapshot);
    let mut batch = Batch::new(link, 0);
    for directory in &directories {
        batch.add(Root::Work, directory, &Entry::Directory).await?;
    }
    batch.send().await?;
    link.flush(drop).await?;

    // The index must not be younger than what it lists by less than a second: see "racy git". So files are two seconds old.
    let mtime = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().saturating_sub(2));
    let (host_for_git, host_for_files) = (host.reopen()?, host.reopen()?);
    let (git_snapshot, file_snapshot) = (snapshot.clone(), snapshot.clone());
    let git = tokio::task::spawn_blocking(move || GitDir::create(&host_for_git, &git_snapshot));
    let sender = link.clone();
    let files = tokio::task::spawn_blocking(move || write_files(&host_for_files, &file_snapshot, &sender, mtime));
    let files = files.await.map_err(io::Error::other)?;
    // Links keep the default: they are read again whatever their times are.
    let mut seeded = vec![Stat::default(); snapshot.entries.len()];
    link.flush(|written| {
        if let Some(at) = snapshot.position(&written.path) {
            seeded[at] = written.stat;
        }
    })
    .await?;
    files?;
    let git = git.await.map_err(io::Error::other)??;

    git.write_index(snapshot, &seeded)?;
    let mut batch = Batch::new(link, 0);
    batch.add(Root::Work, b".git", &Entry::Directory).await?;
    for (path, is_directory) in git.files()? {
        let target = [b".git/", path.as_os_str().as_bytes()].concat();
        if is_directory {
            batch.add(Root::Work, &target, &Entry::Directory).await?;
        } else {
            batch.file(Root::Work, &target, &mut std::fs::File::open(git.full(&path))?).await?;
        }
    }
    for entry in home {
        match entry {
            HomeEntry::Directory(path) => batch.add(Root::Home, path.as_bytes(), &Entry::Directory).await?,
            HomeEntry::Link(path, target) => {
                batch.add(Root::Home, path.as_bytes(), &Entry::Link(target.as_bytes())).await?;
            }
            HomeEntry::File(path, content) => {
                batch.file(Root::Home, path.as_bytes(), &mut io::Cursor::new(content)).await?;
            }
        }
    }
    batch.send().await?;
    link.flush(drop).await?;
    Ok(seeded)
}

/// Every directory of a snapshot, parents first; submodules are empty directories.
fn directories(snapshot: &Snapshot) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    let paths = snapshot.entries.iter().map(|e| &e.path).chain(&snapshot.submodules);
    for path in paths {
        let mut parent = path.parent();
        while let Some(directory) = parent {
            if !found.insert(directory.as_bytes().to_vec()) {
                break;
            }
            parent = directory.parent();
        }
    }
    found.extend(snapshot.submodules.iter().map(|s| s.as_bytes().to_vec()));
    found
}

fn write_files(host: &HostRepo, snapshot: &Snapshot, link: &Link, mtime: u64) -> Result<(), SnapshotError> {
    host.read_all(snapshot, THREADS, |lane| {
        let mut encoder = Encoder::default();
        let lane = u32::try_from(lane).unwrap_or(0);
        move |file| {
            let Some((entry, content)) = file else {
                return link.blocking_send(Kind::Write, lane, &std::mem::take(&mut encoder.0));
            };
            if entry.kind == EntryKind::Link {
                encoder.entry(Root::Work, entry.path.as_bytes(), &Entry::Link(content));
            } else {
                for (at, piece) in pieces(content) {
                    let piece = Entry::File {
                        executable: entry.kind == EntryKind::Executable,
                        report: true,
                        mtime,
                        size: content.len() as u64,
                        offset: at as u64,
                        bytes: piece,
                    };
                    encoder.entry(Root::Work, entry.path.as_bytes(), &piece);
                    if encoder.0.len() >= BATCH {
                        link.blocking_send(Kind::Write, lane, &std::mem::take(&mut encoder.0))?;
                    }
                }
            }
            if encoder.0.len() >= BATCH {
                link.blocking_send(Kind::Write, lane, &std::mem::take(&mut encoder.0))?;
            }
            Ok(())
        }
    })
}

/// Cuts content into pieces that fit a frame beside what is there already; empty content is one empty piece.
fn pieces(content: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let size = BATCH - 8192;
    let count = content.len().div_ceil(size).max(1);
    (0..count).map(move |n| (n * size, &content[n * size..((n + 1) * size).min(content.len())]))
}

/// Gathers entries into frames.
struct Batch<'a> {
    link: &'a Link,
    lane: u32,
    encoder: Encoder,
}

impl<'a> Batch<'a> {
    fn new(link: &'a Link, lane: u32) -> Self {
        Self { link, lane, encoder: Encoder::default() }
    }

    async fn add(&mut self, root: Root, path: &[u8], entry: &Entry<'_>) -> Result<(), SandboxError> {
        self.encoder.entry(root, path, entry);
        if self.encoder.0.len() >= BATCH { self.send().await } else { Ok(()) }
    }

    async fn file(
        &mut self,
        root: Root,
        path: &[u8],
        content: &mut (impl Read + io::Seek),
    ) -> Result<(), SandboxError> {
        let size = content.seek(io::SeekFrom::End(0))?;
        content.rewind()?;
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(BATCH - 8192)];
        let mut offset = 0;
        loop {
            let want = buffer.len().min(usize::try_from(size - offset).unwrap_or(usize::MAX));
            content.read_exact(&mut buffer[..want])?;
            let bytes = &buffer[..want];
            let entry = Entry::File { executable: false, report: false, mtime: 0, size, offset, bytes };
            self.add(root, path, &entry).await?;
            offset += want as u64;
            if offset >= size {
                return Ok(());
            }
        }
    }

    async fn send(&mut self) -> Result<(), SandboxError> {
        let bytes = std::mem::take(&mut self.encoder.0);
        Ok(self.link.send(Kind::Write, self.lane, &bytes).await?)
    }
}
