//! Failures of a base.

use crate::engine::EngineError;
use crate::git::SnapshotError;
use crate::guest_client::GuestError;

/// A base that could not be found, built, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error("failed to keep the record of the base: {0}")]
    Io(#[from] std::io::Error),
    /// Stopped by a signal.
    #[error("interrupted")]
    Interrupted,
}
