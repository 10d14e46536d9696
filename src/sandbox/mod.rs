//! The sandbox: its record, its volumes and containers, and the way of the data through them — seed, run, collect.

mod agent_paths;
mod attach;
mod claude_session;
mod collect;
mod collect_limits;
pub mod gc;
mod holdings;
mod home_files;
pub mod lifecycle;
mod limits;
mod monitor;
pub mod probe;
mod request;
mod resources;
mod run_agent;
mod start;
mod store;
mod walk;
mod workspace;

pub use agent_paths::AgentPaths;
pub use attach::Dropped;
pub use collect::{CollectPolicy, collect};
pub use collect_limits::{CollectLimits, CollectMode};
pub use limits::Limits;
pub use monitor::{DEFAULT_DISK, DEFAULT_INODES, LimitExceeded};
pub use request::{Finished, RunRequest};
pub use resources::{EngineResources, LABEL, Sidecar};
pub use store::{AgentConfig, AppliedPath, AppliedState, Record, Sandbox, State, Store};
pub use workspace::Workspace;

use crate::base::BaseError;
use crate::core::name::SandboxName;
use crate::engine::EngineError;
use crate::git::SnapshotError;
use crate::guest_client::GuestError;

/// A failure of a sandbox; the agent's own exit status is none.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Link(#[from] GuestError),
    #[error("failed to keep the sandbox's record: {0}")]
    State(#[from] std::io::Error),
    /// The agent's output cannot be written.
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
    Kept { name: SandboxName, error: Box<SandboxError> },
    /// Something failed, and so did cleaning up after it.
    #[error("{error}; and cleaning up failed: {left}")]
    LeftBehind {
        /// The sandbox that is left.
        name: SandboxName,
        error: Box<SandboxError>,
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
    Spoilt { id: String, error: Box<SandboxError> },
    /// The engine's overlays hide what collecting relies on.
    #[error("files of an overlay have other inode numbers than those below it")]
    Inodes,
    /// More came back than is allowed.
    #[error("the sandbox exceeds a limit of what is collected: {0}")]
    Cap(String),
    /// Stopped by a signal before the agent began.
    #[error("interrupted")]
    Interrupted,
}

impl From<BaseError> for SandboxError {
    fn from(error: BaseError) -> Self {
        match error {
            BaseError::Engine(error) => Self::Engine(error),
            BaseError::Snapshot(error) => Self::Snapshot(error),
            BaseError::Guest(error) => Self::Link(error),
            BaseError::Io(error) => Self::State(error),
            BaseError::Interrupted => Self::Interrupted,
        }
    }
}
