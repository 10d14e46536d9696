//! Prepares a base and its delta for a sandbox.

use std::sync::Arc;

use super::build;
use super::build::{UnsealedBase, UseOfBase};
use super::context::RunContext;
use super::error::BaseError;
use super::manifest::Manifest;
use super::store::{Base, BaseLease};
use crate::engine::{Engine, VolumeInfo, image};
use crate::git::{Snapshot, SnapshotDelta, UncommittedChanges};
use crate::terminal::Signals;

/// A base and its delta, ready for a sandbox.
pub struct PreparedBase {
    /// The guest image's id.
    pub(crate) guest_image: String,
    pub snapshot: Arc<Snapshot>,
    pub base: Base,
    pub(crate) volume: VolumeInfo,
    pub(crate) delta: Arc<SnapshotDelta>,
    pub(crate) unsealed: Option<UnsealedBase>,
    /// The manifest of included and excluded content.
    pub manifest: Manifest,
    pub(crate) includes: Vec<String>,
    /// The lease, which alone protects the base until the sandbox is recorded.
    _lease: Option<BaseLease>,
}

impl PreparedBase {
    /// Finds or builds the base of a snapshot and adds uncommitted work to its delta.
    ///
    /// # Errors
    /// An object is missing, the engine fails, the disk is full, or a signal arrives. A new base is removed then.
    pub async fn find_or_build(
        context: RunContext<'_>,
        snapshot: Arc<Snapshot>,
        (uncommitted, includes): (UncommittedChanges, Vec<String>),
        use_of_base: UseOfBase,
        signals: &mut Signals,
    ) -> Result<Self, BaseError> {
        let RunContext { engine, host, .. } = context;
        let (guest_image, found) =
            tokio::join!(image::ensure_guest(engine), build::find_base(engine, host, &snapshot, use_of_base));
        let guest_image = guest_image?;
        let mut found = match found? {
            Some(found) => found,
            None => {
                let listed = Arc::clone(&snapshot);
                let listing = tokio::task::spawn_blocking(move || listed.list_files()).await;
                let listing = listing.map_err(std::io::Error::other)??;
                build::build_base(context, &snapshot, &listing, (&guest_image, use_of_base), signals).await?
            }
        };
        let manifest = Manifest::new(&snapshot, &found.base, &found.delta, &uncommitted);
        found.delta.overlay_uncommitted(uncommitted.files);
        let build::ResolvedBase { base, volume, delta, unsealed, lease } = found;
        let delta = Arc::new(delta);
        Ok(Self { guest_image, snapshot, base, volume, delta, unsealed, manifest, includes, _lease: lease })
    }
}

impl PreparedBase {
    /// Returns whether the base was just built for this sandbox.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.unsealed.is_some()
    }

    /// Removes the base if it was built for this sandbox, which did not start.
    pub async fn discard_if_fresh(self, engine: &dyn Engine) -> Result<(), BaseError> {
        if self.unsealed.is_some() { build::discard_base(engine, &self.base).await } else { Ok(()) }
    }

    /// Returns whether nothing has to be written over the base.
    pub(crate) fn is_unchanged(&self) -> bool {
        let same_branch = self.base.branch == self.snapshot.branch;
        let same_refs = self.base.refs == self.snapshot.refs.content_key();
        self.delta.is_empty() && same_branch && same_refs && self.base.commit == self.snapshot.commit
    }
}
