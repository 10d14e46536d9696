//! Prepares a base and its delta for a sandbox.

use std::sync::Arc;

use super::build;
use super::build::UnsealedBase;
use super::error::BaseError;
use super::manifest::Manifest;
use super::store::{Base, BaseLease};
use crate::core::progress::ProgressCounter;
use crate::engine::{Engine, VolumeInfo, image};
use crate::git::{HostRepo, Snapshot, SnapshotDelta, UncommittedChanges};
use crate::terminal::Signals;

/// A base and its delta, ready for a sandbox.
pub struct PreparedBase {
    /// The guest image's id.
    pub(crate) guest: String,
    pub snapshot: Arc<Snapshot>,
    pub base: Base,
    pub(crate) volume: VolumeInfo,
    pub(crate) difference: Arc<SnapshotDelta>,
    pub(crate) fresh: Option<UnsealedBase>,
    /// The manifest of included and excluded content.
    pub manifest: Manifest,
    pub(crate) includes: Vec<String>,
    /// The lease, which alone protects the base until the sandbox is recorded.
    _held: Option<BaseLease>,
}

impl PreparedBase {
    /// Finds or builds the base of a snapshot and adds uncommitted work to its delta.
    ///
    /// # Errors
    /// An object is missing, the engine fails, the disk is full, or a signal arrives. A new base is removed then.
    pub async fn prepare(
        engine: &dyn Engine,
        host: &HostRepo,
        snapshot: Arc<Snapshot>,
        work: UncommittedChanges,
        includes: Vec<String>,
        signals: &mut Signals,
        meter: &Arc<ProgressCounter>,
    ) -> Result<Self, BaseError> {
        let (guest, found) = tokio::join!(image::ensure_guest(engine), build::find_base(engine, host, &snapshot));
        let guest = guest?;
        let mut found = match found? {
            Some(found) => found,
            None => {
                let for_list = Arc::clone(&snapshot);
                let listing = tokio::task::spawn_blocking(move || for_list.list()).await;
                let listing = listing.map_err(std::io::Error::other)??;
                build::build_base(engine, host, &snapshot, &listing, &guest, signals, meter).await?
            }
        };
        let manifest = Manifest::of(&snapshot, &found.base, &found.difference, &work);
        found.difference.overlay_uncommitted(work.files);
        let build::ResolvedBase { base, volume, difference, fresh, held } = found;
        let difference = Arc::new(difference);
        Ok(Self { guest, snapshot, base, volume, difference, fresh, manifest, includes, _held: held })
    }
}

impl PreparedBase {
    /// Returns whether the base was just built for this sandbox.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.fresh.is_some()
    }

    /// Removes the base if it was built for this sandbox, which did not start.
    pub async fn discard(self, engine: &dyn Engine) -> Result<(), BaseError> {
        if self.fresh.is_some() { build::discard_base(engine, &self.base).await } else { Ok(()) }
    }

    /// Returns whether nothing has to be written over the base.
    pub(crate) fn is_bare(&self) -> bool {
        let same_branch = self.base.branch == self.snapshot.branch;
        self.difference.is_empty() && same_branch && self.base.commit == self.snapshot.commit
    }
}
