//! Seals what a setup left in its sandbox as a layer.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

use super::SandboxError;
use super::layer::Layer;
use super::resources::EngineResources;
use super::store::SandboxRecord;
use super::workspace::WorkspaceKind;
use crate::core::escape::escape_lossy;
use crate::core::path::RepoPath;
use crate::engine::{ContainerSpec, Engine, Mount, SIDECAR_MOUNTS, image, sidecar_spec};
use crate::git::CommittedEntry;
use crate::guest_client::{EntryBatch, GuestClient, GuestError};
use crate::protocol::{CopyTree, Entry, FileKind, Root};

/// Maximum number of entries that a setup may have written into git directories.
const MAX_GIT_ENTRIES: usize = 100_000;
/// Maximum number of entries that are counted to measure a layer.
const MAX_MEASURED: u32 = 2_000_000;

/// Directories of the home in which tools keep what they installed or downloaded. Nothing else of a setup's home is in a
/// layer: configuration would change later programs, and has no place among caches.
const TOOL_CACHES: [&str; 22] = [
    ".bun/install/cache",
    ".bundle/cache",
    ".cache/Cypress",
    ".cache/go-build",
    ".cache/ms-playwright",
    ".cache/pypoetry",
    ".cargo/git",
    ".cargo/registry",
    ".composer/cache",
    ".gem/ruby",
    ".gradle/caches",
    ".gradle/wrapper",
    ".hex/packages",
    ".ivy2",
    ".local/share/gem",
    ".local/share/uv",
    ".local/share/virtualenvs",
    ".m2/repository",
    ".mix/archives",
    ".nuget/packages",
    ".yarn/berry",
    "go/pkg/mod",
];

/// Makes the volume of a layer from what a setup left in its sandbox, writes it to disk and measures it.
///
/// In an overlay workspace, the volume has the upper directory already; in a copied one, the files that the commit does
/// not have are copied. Tool caches of the home are copied in both. `modules` are the paths of submodules.
///
/// # Errors
/// The engine or the guest fails, or the setup has written too much into a git directory, or more than `limit` bytes.
pub async fn seal_layer(
    engine: &dyn Engine,
    (layer, record, limit): (&mut Layer, &SandboxRecord, u64),
    modules: &[RepoPath],
    find_committed: impl Fn(&RepoPath) -> Option<CommittedEntry>,
) -> Result<(), SandboxError> {
    let guest_image = image::ensure_guest(engine).await?;
    let resources = EngineResources::from_record(engine, record);
    let mount = |volume: String, target: &str, read_only| Mount {
        volume,
        target: target.into(),
        read_only,
        fill_from_image: !read_only,
    };
    let volume = layer.volume_spec();
    let mut mounts = vec![
        mount(volume.name.clone(), SIDECAR_MOUNTS.upper, false),
        mount(resources.volume_name("home"), SIDECAR_MOUNTS.home, true),
    ];
    let is_copy = record.workspace_kind == WorkspaceKind::Copy;
    if is_copy {
        engine.create_volume(&volume).await?;
        mounts.push(mount(resources.volume_name("work"), SIDECAR_MOUNTS.work, true));
    }
    let spec = ContainerSpec {
        user: "1000:1000".into(),
        capabilities: Vec::new(),
        ..sidecar_spec(&format!("airlock-{}-sealer", layer.id), &guest_image, mounts, &layer.volume_labels())
    };
    let container = engine.create_container(&spec).await?;
    let sealed = async {
        let attached = engine.attach_container(&container, false).await?;
        engine.start_container(&container).await?;
        let (accept, _none) = mpsc::unbounded_channel();
        let guest = GuestClient::perform_handshake(attached, accept).await?;
        let git_dirs = modules.iter().map(|path| [path.as_bytes(), b"/.git"].concat()).chain([b".git".to_vec()]);
        if is_copy {
            let git_dirs: BTreeSet<Vec<u8>> = git_dirs.collect();
            layer.paths = list_topmost(&guest, Root::Work, find_committed).await?.0;
            layer.paths.retain(|path| !git_dirs.contains(path.as_bytes()));
            copy_paths(&guest, (Root::Work, Root::Upper), &layer.paths, limit).await?;
        } else {
            for path in git_dirs {
                remove_tree(&guest, path).await?;
            }
            let (paths, again) = list_topmost(&guest, Root::Upper, find_committed).await?;
            remove_rewritten(&guest, &again).await?;
            layer.paths = paths;
        }
        let caches = TOOL_CACHES.iter().filter_map(|path| RepoPath::from_bytes(path.as_bytes()).ok());
        layer.has_home = copy_paths(&guest, (Root::Home, Root::UpperHome), &caches.collect::<Vec<_>>(), limit).await?;
        let (files, home) = (
            guest.measure_usage(Root::Upper, MAX_MEASURED).await?,
            guest.measure_usage(Root::UpperHome, MAX_MEASURED).await?,
        );
        (layer.bytes, layer.entries) = (files.bytes + home.bytes, files.entries + home.entries);
        Ok::<_, SandboxError>(guest.sync_volume(Root::Upper).await?)
    };
    let sealed = sealed.await;
    engine.remove_container(&container).await?;
    sealed
}

/// Copies files and directories to the same places of another root, and returns whether any of them exists.
async fn copy_paths(
    guest: &GuestClient,
    (from, to): (Root, Root),
    paths: &[RepoPath],
    limit: u64,
) -> Result<bool, SandboxError> {
    let (mut remaining, mut exists) = (limit, false);
    for path in paths {
        let parent = path.parent();
        let parent_path = parent.as_ref().map_or_else(Vec::new, |parent| parent.as_bytes().to_vec());
        match guest.list_dir(from, &parent_path, MAX_GIT_ENTRIES).await {
            Ok(listed) if listed.iter().any(|entry| entry.name == path.file_name()) => exists = true,
            Ok(_) | Err(GuestError::Gone | GuestError::NotADirectory) => continue,
            Err(error) => return Err(error.into()),
        }
        let mut batch = EntryBatch::new(guest, to);
        for (end, _) in parent_path.iter().chain(b"/").enumerate().filter(|(_, byte)| **byte == b'/') {
            if end > 0 {
                batch.add_entry(&parent_path[..end], &Entry::Directory).await?;
            }
        }
        batch.send_entries().await?;
        guest.flush_writes(drop).await?;
        let name = path.file_name().to_vec();
        let copy = CopyTree { from: (from, parent_path.clone()), to: (to, parent_path), name, limit: remaining };
        guest.copy_tree(copy, |written| remaining = remaining.saturating_sub(written.stat.size)).await?;
    }
    Ok(exists)
}

/// Lists the topmost paths of the workspace or of the upper directory that the commit does not have, and the files of
/// the commit that are in the upper directory.
///
/// A file of the commit that the setup wrote again with the same content would hide that of a later commit, and is to be
/// removed. In a directory it is an error: the directory may be a new one, and would then hide all of the base's.
async fn list_topmost(
    guest: &GuestClient,
    root: Root,
    find_committed: impl Fn(&RepoPath) -> Option<CommittedEntry>,
) -> Result<(Vec<RepoPath>, Vec<RepoPath>), SandboxError> {
    let (mut found, mut open, mut again) = (Vec::new(), vec![None], Vec::new());
    while let Some(directory) = open.pop() {
        let bytes = directory.as_ref().map_or(&b""[..], RepoPath::as_bytes);
        for entry in guest.list_dir(root, bytes, MAX_GIT_ENTRIES).await? {
            if directory.is_none() && entry.name == b".git" {
                continue;
            }
            let Ok(path) = RepoPath::from_parent(directory.as_ref(), &entry.name) else {
                return Err(SandboxError::CollectLimit("the setup wrote a file whose name is not valid".into()));
            };
            match find_committed(&path) {
                None => found.push(path),
                Some(CommittedEntry::Directory | CommittedEntry::Submodule) if entry.kind == FileKind::Directory => {
                    open.push(Some(path));
                }
                // The workspace has all files of the commit.
                Some(_) if root == Root::Work => {}
                Some(_) if directory.is_none() => again.push(path),
                Some(_) => {
                    let path = escape_lossy(path.as_bytes());
                    return Err(SandboxError::CollectLimit(format!(
                        "the setup wrote the tracked file {path} again, with the same content"
                    )));
                }
            }
        }
        if found.len() > MAX_GIT_ENTRIES {
            return Err(SandboxError::CollectLimit(format!(
                "the setup wrote more than {MAX_GIT_ENTRIES} files beside tracked ones"
            )));
        }
    }
    Ok((found, again))
}

/// Removes files from the upper directory.
async fn remove_rewritten(guest: &GuestClient, paths: &[RepoPath]) -> Result<(), SandboxError> {
    let mut batch = EntryBatch::new(guest, Root::Upper);
    for path in paths {
        batch.add_entry(path.as_bytes(), &Entry::Nothing).await?;
    }
    batch.send_entries().await?;
    Ok(guest.flush_writes(drop).await?)
}

/// Removes a file, or a directory with everything in it, from the upper directory.
async fn remove_tree(guest: &GuestClient, top: Vec<u8>) -> Result<(), SandboxError> {
    let (mut files, mut open) = (BTreeMap::new(), vec![top.clone()]);
    while let Some(path) = open.pop() {
        let listed = match guest.list_dir(Root::Upper, &path, MAX_GIT_ENTRIES).await {
            Ok(listed) => listed,
            Err(GuestError::Gone) => continue,
            // A file, or the overlay's mark of a deleted directory.
            Err(GuestError::NotADirectory) => {
                files.insert(path, false);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        files.insert(path.clone(), true);
        for entry in listed {
            let below = [&path[..], b"/", &entry.name].concat();
            if entry.kind == FileKind::Directory {
                open.push(below);
            } else {
                files.insert(below, false);
            }
        }
        if files.len() > MAX_GIT_ENTRIES {
            return Err(SandboxError::CollectLimit(format!(
                "the setup wrote more than {MAX_GIT_ENTRIES} files into a git directory"
            )));
        }
    }
    let mut batch = EntryBatch::new(guest, Root::Upper);
    // The deepest first; the guest removes files, and then empty directories.
    for path in files.keys().rev() {
        batch.add_entry(path, &Entry::Nothing).await?;
    }
    batch.send_entries().await?;
    Ok(guest.flush_writes(drop).await?)
}
