//! Writes a snapshot with its git directories into a new base volume, in parallel, and seals it.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use super::error::BaseError;
use crate::core::clock::seconds_since_epoch;
use crate::core::path::EntryKind;
use crate::core::progress::{ProgressCounter, ProgressStep};
use crate::git::{GitDir, Listing, Snapshot, SnapshotError, Unconverted};
use crate::guest_client::{EntryBatch, FRAME_SIZE, GuestClient, split_content};
use crate::protocol::{Encoder, Entry, Kind, Root, Stat};

/// Number of threads that read the object store. The guest has as many writers.
const READER_THREADS: usize = 2;
/// The directory of a base volume that holds its files.
pub(crate) const TREE: &[u8] = b"tree/";
/// The file beside [`TREE`] that is written last.
pub(crate) const SEAL: &[u8] = b"seal";

/// The result of seeding.
#[derive(Debug)]
pub struct SeedResult {
    /// Files that are in git's stored form.
    pub unconverted: Unconverted,
    /// Total size of all files in bytes.
    pub bytes: u64,
    /// The index of the main repository.
    pub index: Vec<u8>,
}

/// Writes a snapshot into a base volume. The guest must run as the agent's user.
///
/// # Errors
/// An object is missing, the disk is full, or the guest ends.
pub async fn seed_volume(
    snapshot: &Arc<Snapshot>,
    listing: &Listing,
    guest: &GuestClient,
    progress: &Arc<ProgressCounter>,
) -> Result<SeedResult, BaseError> {
    progress.begin_step(ProgressStep::Seeding, listing.entries.len());
    let mut batch = EntryBatch::new(guest, Root::Base);
    batch.add_entry(b"tree", &Entry::Directory).await?;
    for directory in &list_directories(listing) {
        batch.add_entry(&[TREE, directory].concat(), &Entry::Directory).await?;
    }
    batch.send_entries().await?;
    guest.flush_writes(drop).await?;

    // The index must be at least a second newer than the files that it lists, see "racy git". The files are therefore
    // two seconds old.
    let mtime = seconds_since_epoch().saturating_sub(2);
    let git_snapshot = Arc::clone(snapshot);
    let git = tokio::task::spawn_blocking(move || {
        (0..git_snapshot.modules.len())
            .map(|n| GitDir::create_for_module(&git_snapshot, n))
            .collect::<Result<Vec<_>, _>>()
    });
    let (files_snapshot, sender, files_listing, counter) =
        (Arc::clone(snapshot), guest.clone(), listing.clone(), Arc::clone(progress));
    let files =
        tokio::task::spawn_blocking(move || write_files(&files_snapshot, &files_listing, &sender, mtime, &counter));
    let files = files.await.map_err(io::Error::other)?;
    // Symlinks keep the default. Git reads them again regardless of their times.
    let mut stats = vec![Stat::default(); listing.entries.len()];
    guest
        .flush_writes(|written| {
            if let Some(at) = written.path.strip_prefix(TREE).and_then(|path| listing.find_position(path)) {
                stats[at] = written.stat;
            }
        })
        .await?;
    let unconverted = files?;
    let git = git.await.map_err(io::Error::other)??;

    let mut batch = EntryBatch::new(guest, Root::Base);
    let mut index = Vec::new();
    for directory in &git {
        directory.write_index(snapshot, listing, &stats)?;
        let git_dir = [TREE, &directory.path_in_workspace(snapshot)].concat();
        batch.add_entry(&git_dir, &Entry::Directory).await?;
        for (path, is_directory) in directory.list_files()? {
            let target = [&git_dir, &b"/"[..], path.as_os_str().as_bytes()].concat();
            if is_directory {
                batch.add_entry(&target, &Entry::Directory).await?;
            } else {
                batch.add_file(&target, &mut std::fs::File::open(directory.file_path(&path))?).await?;
            }
        }
    }
    batch.send_entries().await?;
    guest.flush_writes(drop).await?;
    if let Some(root) = git.first() {
        index = std::fs::read(root.file_path("index".as_ref()))?;
    }
    Ok(SeedResult { unconverted, bytes: progress.read().bytes, index })
}

/// Writes everything to disk, and then the seal. A sealed base is therefore complete, even after a crash of the
/// machine.
pub(super) async fn seal_volume(guest: &GuestClient, nonce: &str) -> Result<(), BaseError> {
    guest.sync_volume(Root::Base).await?;
    let mut batch = EntryBatch::new(guest, Root::Base);
    batch.add_file(SEAL, &mut io::Cursor::new(nonce.as_bytes())).await?;
    batch.send_entries().await?;
    guest.flush_writes(drop).await?;
    guest.sync_volume(Root::Base).await?;
    Ok(())
}

/// Returns every directory of a listing, parents first. Submodules without content are empty directories.
fn list_directories(listing: &Listing) -> BTreeSet<Vec<u8>> {
    let mut found = BTreeSet::new();
    for path in listing.entries.iter().map(|e| &e.path).chain(&listing.empty_dirs) {
        let mut parent = path.parent();
        while let Some(directory) = parent {
            if !found.insert(directory.as_bytes().to_vec()) {
                break;
            }
            parent = directory.parent();
        }
    }
    found.extend(listing.empty_dirs.iter().map(|s| s.as_bytes().to_vec()));
    found
}

fn write_files(
    snapshot: &Snapshot,
    listing: &Listing,
    guest: &GuestClient,
    mtime: u64,
    progress: &ProgressCounter,
) -> Result<Unconverted, SnapshotError> {
    snapshot.read_all(listing, READER_THREADS, |lane| {
        let mut encoder = Encoder::default();
        let lane = u32::try_from(lane).unwrap_or(0);
        let mut path = Vec::new();
        move |file| {
            let Some((entry, content)) = file else {
                return guest.blocking_send(Kind::Write, lane, &std::mem::take(&mut encoder.0));
            };
            path.clear();
            path.extend_from_slice(TREE);
            path.extend_from_slice(entry.path.as_bytes());
            if entry.kind == EntryKind::Symlink {
                encoder.encode_entry(Root::Base, &path, &Entry::Link(content));
            } else {
                let executable = entry.kind == EntryKind::Executable;
                for (at, bytes) in split_content(content) {
                    let (size, offset) = (content.len() as u64, at as u64);
                    let piece = Entry::File { executable, report: true, mtime, size, offset, bytes };
                    encoder.encode_entry(Root::Base, &path, &piece);
                    if encoder.0.len() >= FRAME_SIZE {
                        guest.blocking_send(Kind::Write, lane, &std::mem::take(&mut encoder.0))?;
                    }
                }
            }
            progress.add_file(content.len());
            if encoder.0.len() >= FRAME_SIZE {
                guest.blocking_send(Kind::Write, lane, &std::mem::take(&mut encoder.0))?;
            }
            Ok(())
        }
    })
}
