//! A base and its delta, ready for a sandbox.

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
    /// The manifest of what was included and what was not.
    pub manifest: Manifest,
    pub(crate) includes: Vec<String>,
    /// Until the sandbox is on record, this alone keeps the base.
    _held: Option<BaseLease>,
}

impl PreparedBase {
    /// Finds or makes the base of a snapshot, and puts uncommitted work on top.
    ///
    /// # Errors
    /// A missing object, the engine, a full disk, a signal. Then nothing is left.
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
    /// Returns whether its base was made for it just now.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.fresh.is_some()
    }

    /// Leaves nothing of a base that was made for a sandbox which does not come to be.
    pub async fn discard(self, engine: &dyn Engine) -> Result<(), BaseError> {
        if self.fresh.is_some() { build::discard_base(engine, &self.base).await } else { Ok(()) }
    }

    /// Returns whether nothing is to be written on top of the base.
    pub(crate) fn is_bare(&self) -> bool {
        let same_branch = self.base.branch == self.snapshot.branch;
        self.difference.is_empty() && same_branch && self.base.commit == self.snapshot.commit
    }
}
