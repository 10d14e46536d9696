//! Errors about the working tree.

use std::io;
use std::path::PathBuf;

use rustix::io::Errno;

/// An error from reading or writing a path of the working tree.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The path was changed after it was planned.
    #[error("it was changed during the apply")]
    Stale,
    /// The user interrupted the command.
    #[error("interrupted")]
    Interrupted,
    #[error("an apply was interrupted")]
    InterruptedApply,
    /// git has locked its index.
    #[error("git is running in this working tree: {} exists", .0.display())]
    IndexLocked(PathBuf),
    /// An I/O error.
    #[error("{attempt}: {error}")]
    Io { attempt: &'static str, error: io::Error },
}

impl HostError {
    /// Returns whether the error is about a single path, rather than the disk or the process.
    #[must_use]
    pub fn is_path_error(&self) -> bool {
        match self {
            Self::Io { error, .. } => {
                matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound)
            }
            Self::Stale => true,
            Self::IndexLocked(_) | Self::Interrupted | Self::InterruptedApply => false,
        }
    }
}

pub(crate) fn system_error(attempt: &'static str) -> impl Fn(Errno) -> HostError + Copy {
    move |error| HostError::Io { attempt, error: error.into() }
}
