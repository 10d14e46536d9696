//! The sandbox: its record, its volumes and containers, and the way of the data through them — seed, run, collect.

mod attach;
mod base;
mod base_tree;
mod base_view;
mod bases;
mod capable;
mod collect;
mod conversation;
pub mod gc;
mod holdings;
mod home;
pub mod lifecycle;
mod link;
mod manifest;
mod meter;
mod name;
mod on_top;
mod parts;
mod place;
pub mod probe;
mod screen;
mod seed;
mod signals;
mod start;
mod store;
pub mod terminal;
mod walk;
mod watch;
mod work;
mod write;

pub use attach::Dropped;
pub use bases::{Base, Bases};
pub use capable::Capability;
pub use collect::{Caps, Policy, View, collect};
pub use link::{Link, LinkError};
pub use manifest::Manifest;
pub use meter::{Meter, Reading, Step};
pub use name::{NameError, SandboxName, random};
pub use parts::{BASE, LABEL, Parts, REPOSITORY, Sidecar, Workspace, repository_id};
pub use place::Place;
pub use screen::Filter;
pub use seed::{Seeded, seed};
pub use signals::{Asked, Signals};
pub use store::{Applied, Brought, Given, Record, Sandbox, State, Store, identity};
pub use watch::{DEFAULT_DISK, DEFAULT_INODES, Limits, Reached};

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
    /// What the agent printed cannot be passed on.
    #[error("failed to write the agent's output: {0}")]
    Output(std::io::Error),
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
    /// Something failed before the agent could go on, and its containers could not be removed.
    #[error("{0}; and its containers could not be removed: {1}")]
    NotStopped(Box<SandboxError>, String),
    /// A volume of it is not there.
    #[error("the engine has no volume {0} any more")]
    VolumeGone(String),
    /// The base below it is not the one that was sealed.
    #[error("the base {0} is not what was sealed")]
    Unsealed(String),
    /// The engine does not mount the sidecar's volumes.
    #[error("failed to mount the workspace: {0}")]
    Unmountable(EngineError),
    /// A base cannot be used any more, and is forgotten.
    #[error("the base {id} cannot be used any more: {error}")]
    Spoilt {
        /// The base.
        id: String,
        /// Why.
        error: Box<SandboxError>,
    },
    /// The engine's overlays hide what collecting relies on.
    #[error("files of an overlay have other inode numbers than those below it")]
    Inodes,
    /// More came back than is allowed.
    #[error("the sandbox holds more than airlock takes back: {0}")]
    Cap(String),
    /// Stopped by a signal before the agent began.
    #[error("interrupted")]
    Interrupted,
}
