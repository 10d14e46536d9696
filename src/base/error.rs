//! The error type of bases.

use crate::engine::EngineError;
use crate::git::SnapshotError;
use crate::guest_client::GuestError;

/// A failure to find, build, read or remove a base.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error("failed to access the record of the base: {0}")]
    Io(#[from] std::io::Error),
    /// A signal arrived.
    #[error("interrupted")]
    Interrupted,
}
