//! The sandbox: its record, its volumes and containers, and the way of the data through them — seed, run, collect.

mod attach;
mod collect;
mod home;
pub mod lifecycle;
mod link;
mod name;
mod parts;
mod place;
mod seed;
mod signals;
mod store;
pub mod terminal;

pub use collect::{Caps, View, collect};
pub use home::{HomeEntry, fresh_home};
pub use link::{Link, LinkError};
pub use name::{NameError, SandboxName, random};
pub use parts::{LABEL, Parts, REPOSITORY, Sidecar, repository_id};
pub use place::Place;
pub use seed::seed;
pub use signals::{Asked, Signals};
pub use store::{Applied, Record, Sandbox, State, Store};

use crate::engine::EngineError;
use crate::snapshot::SnapshotError;

/// A failure of a sandbox; the agent's own exit status is none.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The host repository.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The guest.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Our own state.
    #[error("failed to keep the sandbox's record: {0}")]
    State(#[from] std::io::Error),
    /// A sandbox of that name is there.
    #[error("a sandbox named {0} exists already")]
    NameTaken(SandboxName),
    /// Another process owns it.
    #[error("the sandbox {0} is in use by another airlock")]
    Busy(SandboxName),
    /// The agent ran, and then something failed.
    #[error("{error}; {name} is kept with the agent's work")]
    Kept {
        /// The sandbox.
        name: SandboxName,
        /// What failed.
        error: Box<SandboxError>,
    },
    /// Something failed, and so did cleaning up after it.
    #[error("{error}; and cleaning up failed: {left}")]
    LeftBehind {
        /// The sandbox that is left.
        name: SandboxName,
        /// What failed first.
        error: Box<SandboxError>,
        /// What failed then.
        left: String,
    },
    /// More came back than is allowed.
    #[error("the sandbox holds more than airlock takes back: {0}")]
    Cap(String),
    /// Stopped by a signal before the agent began.
    #[error("interrupted")]
    Interrupted,
}
