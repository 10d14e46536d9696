//! Setup layers: the ignored files that a project's setup command wrote, such as `node_modules`. They are the upper
//! directory of one sandbox, sealed, and a lower directory of the workspaces of later ones.
//!
//! *Invariant:* a layer is recorded after its setup ended without an error and without a change that a review would show,
//! and after the git directories of the workspace were removed from it. A layer is never written to again.
#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::SandboxError;
use super::resources::EngineResources;
use super::store::SandboxRecord;
use super::workspace::WorkspaceKind;
use crate::base::REPOSITORY_LABEL;
use crate::core::atomic_file::write_atomic;
use crate::core::clock::seconds_since_epoch;
use crate::core::escape::escape_lossy;
use crate::core::path::RepoPath;
use crate::core::random::create_random_id;
use crate::engine::{ContainerSpec, Engine, Labels, Mount, SIDECAR_MOUNTS, VolumeSpec, image, sidecar_spec};
use crate::git::CommittedEntry;
use crate::guest_client::{EntryBatch, GuestClient, GuestError};
use crate::protocol::{CopyTree, Entry, FileKind, Root};

/// The label whose value is a layer's id.
pub(crate) const LAYER_LABEL: &str = "dev.airlock.layer";
/// Number of layers that are kept for each repository, besides those in use.
pub const KEPT_LAYERS: usize = 5;
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

/// A setup layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// A random number in hexadecimal: the value of the label on the volume.
    pub id: String,
    /// The repository's id, as in the labels.
    pub repository: String,
    /// The key of all that determines the content.
    pub key: String,
    /// The setup command.
    pub command: String,
    /// The topmost paths that it adds. A commit that has one of them does not go with it.
    #[serde(default)]
    pub paths: Vec<RepoPath>,
    /// Whether it has tool caches for the home.
    #[serde(default)]
    pub has_home: bool,
    /// The size in bytes.
    pub bytes: u64,
    /// The number of files, directories and all other entries.
    #[serde(default)]
    pub entries: u64,
    /// The time of the setup in seconds since the epoch.
    pub created: u64,
    /// The time of the last use in seconds since the epoch.
    pub used: u64,
}

impl Layer {
    /// Creates a layer that is not recorded yet.
    ///
    /// # Errors
    /// No random numbers are available.
    pub fn new(repository: String, key: String, command: String) -> io::Result<Self> {
        let now = seconds_since_epoch();
        Ok(Self {
            id: create_random_id::<8>()?,
            repository,
            key,
            command,
            paths: Vec::new(),
            has_home: false,
            bytes: 0,
            entries: 0,
            created: now,
            used: now,
        })
    }

    /// Returns the specification of its volume.
    #[must_use]
    pub(crate) fn volume_spec(&self) -> VolumeSpec {
        VolumeSpec::new_plain(&format!("airlock-setup-{}", self.id), &self.volume_labels())
    }

    fn volume_labels(&self) -> Labels {
        let labels = [(LAYER_LABEL, &self.id), (REPOSITORY_LABEL, &self.repository)];
        labels.into_iter().map(|(label, value)| (label.to_owned(), value.clone())).collect()
    }
}

/// The layers of one repository: a file each in `<git common dir>/airlock/layers/`.
#[derive(Debug, Clone)]
pub struct LayerStore {
    dir: PathBuf,
}

/// The lock on building a layer. Two concurrent first starts therefore run the setup once.
#[derive(Debug)]
pub struct LayerLock(#[expect(dead_code, reason = "the lock is what it is for")] File);

impl LayerStore {
    /// Creates the store of a repository. Nothing is written yet.
    #[must_use]
    pub fn new(common_dir: &Path) -> Self {
        Self { dir: common_dir.join("airlock/layers") }
    }

    /// Lists all layers, last used first. A damaged record is skipped, and its volume is an orphan then.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list_layers(&self) -> io::Result<Vec<Layer>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                found.extend(serde_json::from_slice::<Layer>(&fs::read(path).unwrap_or_default()).ok());
            }
        }
        found.sort_by(|a, b| b.used.cmp(&a.used).then_with(|| a.id.cmp(&b.id)));
        Ok(found)
    }

    /// Locks the building of layers without waiting; returns `None` while another process builds one.
    ///
    /// # Errors
    /// The lock file cannot be created.
    pub fn try_lock_build(&self) -> io::Result<Option<LayerLock>> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let file = File::create(self.dir.join("lock"))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(LayerLock(file))),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }

    /// Waits until no other process builds a layer of this repository.
    ///
    /// # Errors
    /// The lock file cannot be created.
    pub fn lock_build(&self) -> io::Result<LayerLock> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        let file = File::create(self.dir.join("lock"))?;
        file.lock()?;
        Ok(LayerLock(file))
    }

    /// Returns whether a process is building a layer.
    #[must_use]
    pub fn is_building(&self) -> bool {
        let opened = File::open(self.dir.join("lock"));
        opened.is_ok_and(|file| matches!(file.try_lock_shared(), Err(fs::TryLockError::WouldBlock)))
    }

    /// Records a layer, or its last use.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_record(&self, layer: &Layer) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        write_atomic(&self.dir, &format!("{}.json", layer.id), &serde_json::to_vec_pretty(layer)?)
    }

    /// Removes the record of a layer. A missing record is not an error.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn remove_record(&self, id: &str) -> io::Result<()> {
        match fs::remove_file(self.dir.join(format!("{id}.json"))) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Finds the layer with a key whose volume exists, and that goes with a commit, and records its use.
    ///
    /// # Errors
    /// The engine fails, or a record cannot be written.
    pub async fn find_layer(
        &self,
        engine: &dyn Engine,
        key: &str,
        goes_with: impl Fn(&Layer) -> bool,
    ) -> Result<Option<Layer>, SandboxError> {
        for layer in self.list_layers()?.into_iter().filter(|layer| layer.key == key && goes_with(layer)) {
            let spec = layer.volume_spec();
            match engine.find_volume(&spec.name).await? {
                Some(found) if spec.is_same_volume(&found) => {
                    let layer = Layer { used: seconds_since_epoch(), ..layer };
                    self.save_record(&layer)?;
                    return Ok(Some(layer));
                }
                // The volume was pruned, or something else has its name.
                _ => self.remove_record(&layer.id)?,
            }
        }
        Ok(None)
    }
}

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
