//! Setup layers: the ignored files that a project's setup command wrote, such as `node_modules`. They are the upper
//! directory of one sandbox, sealed, and a lower directory of the workspaces of later ones.
//!
//! *Invariant:* a layer is recorded after its setup ended without an error and without a change that a review would show,
//! and after the git directories of the workspace were removed from it. A layer is never written to again.
#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SandboxError;
use crate::base::REPOSITORY_LABEL;
use crate::core::atomic_file::write_atomic;
use crate::core::clock::seconds_since_epoch;
use crate::core::path::RepoPath;
use crate::core::random::create_random_id;
use crate::engine::{Engine, EngineInfo, Labels, VolumeSpec};

/// The label whose value is a layer's id.
pub(crate) const LAYER_LABEL: &str = "dev.airlock.layer";
/// Number of layers that are kept for each repository, besides those in use.
pub const KEPT_LAYERS: usize = 5;
/// A setup layer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// A random number in hexadecimal: the value of the label on the volume.
    pub id: String,
    /// The repository's id, as in the labels.
    pub repository: String,
    /// The key of all that determines the content.
    pub key: String,
    /// The place where its engine stores volumes, see `EngineInfo`. Empty in records of earlier versions.
    #[serde(default)]
    pub place: String,
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
    /// Returns whether the volume may be on this engine.
    #[must_use]
    pub fn may_be_on(&self, engine: &EngineInfo) -> bool {
        self.place == engine.place || self.place.is_empty() && engine.address.starts_with("unix://")
    }

    /// Creates a layer that is not recorded yet.
    ///
    /// # Errors
    /// No random numbers are available.
    pub fn new(repository: String, key: String, command: String, engine: &EngineInfo) -> io::Result<Self> {
        let now = seconds_since_epoch();
        Ok(Self {
            id: create_random_id::<8>()?,
            repository,
            key,
            place: engine.place.clone(),
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

    pub(super) fn volume_labels(&self) -> Labels {
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
        let info = engine.engine_info().await?;
        let fits = |layer: &Layer| layer.key == key && layer.may_be_on(info) && goes_with(layer);
        for layer in self.list_layers()?.into_iter().filter(fits) {
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
