//! A token that bounds the time of work on hostile input.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// A deadline and a cancellation flag for building a changeset.
///
/// Hostile input must not keep a processor busy after the caller has stopped waiting.
#[derive(Debug, Clone, Default)]
pub struct CancelToken {
    pub deadline: Option<Instant>,
    /// Set when the caller has stopped waiting.
    pub is_canceled: Arc<AtomicBool>,
}

impl CancelToken {
    pub(crate) fn check_canceled(&self) -> io::Result<()> {
        if self.is_canceled.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match self.deadline {
            Some(deadline) if Instant::now() > deadline => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}
