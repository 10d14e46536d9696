//! Sandboxes: their records, volumes and containers, and the flow of data through them (seed, run, collect).

mod agent_commits;
mod agent_paths;
mod attach;
mod claude_session;
mod client_files;
mod collect;
mod collect_limits;
mod conversation_store;
mod file_copies;
pub mod gc;
mod holdings;
mod home_copies;
mod home_files;
pub mod image_defaults;
pub mod layer;
pub mod lifecycle;
mod limits;
mod monitor;
mod old_versions;
mod pasted_files;
pub(crate) mod placement;
pub mod ports;
pub mod probe;
mod repository_index;
mod request;
mod resources;
mod run_agent;
mod run_report;
pub mod seal_layer;
mod start;
mod store;
mod user_surroundings;
mod walk;
mod workspace;

pub use agent_commits::AgentCommits;
pub(crate) use agent_paths::AgentPaths;
pub(crate) use claude_session::session_path;
pub(crate) use collect::CollectPolicy;
pub(crate) use collect_limits::{CollectLimits, CollectMode};
pub use conversation_store::{ConversationStore, KeptConversation};
pub(crate) use limits::Limits;
pub(crate) use monitor::{DEFAULT_DISK, DEFAULT_INODES};
pub(crate) use pasted_files::COPIES_DIRECTORY;
pub use repository_index::RepositoryIndex;
pub(crate) use request::{NetworkRequest, PastedFileReader, RunRequest, RunResult};
pub(crate) use resources::SANDBOX_LABEL;
pub(crate) use run_report::{NetworkUsage, RunReport};
pub(crate) use start::NETWORK_LISTS;
pub(crate) use store::NETWORK_LOG;
pub(crate) use store::{AgentConfig, AppliedPath, AppliedState, NetworkConfig};
pub use store::{LiveView, ReviewProgress, Sandbox, SandboxRecord, SandboxState, SandboxStore};
pub use workspace::WorkspaceKind;

use crate::base::BaseError;
use crate::core::name::SandboxName;
use crate::engine::EngineError;
use crate::git::SnapshotError;
use crate::guest_client::GuestError;

/// A failure of a sandbox. The agent's own exit status is not a failure.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error(transparent)]
    Guest(#[from] GuestError),
    #[error("failed to access the sandbox's record: {0}")]
    Io(#[from] std::io::Error),
    #[error("failed to read the certificates of this machine: {0}")]
    Certificates(std::io::Error),
    #[error("failed to write the agent's output: {0}")]
    Output(std::io::Error),
    #[error("the sandbox `{0}` already exists")]
    NameTaken(SandboxName),
    #[error("the sandbox `{0}` is in use by another airlock process")]
    Busy(SandboxName),
    /// A failure after the agent ran.
    #[error("{error}; the sandbox `{name}` is kept with the agent's work")]
    FailedAfterRun { name: SandboxName, error: Box<SandboxError> },
    /// A failure, and the failure of the cleanup after it.
    #[error("{error}; cleanup also failed: {left}")]
    CleanupFailed {
        /// The sandbox that was not removed.
        name: SandboxName,
        error: Box<SandboxError>,
        left: String,
    },
    /// A failure before the agent could resume, and the failure to remove its containers.
    #[error("{0}; removing its containers also failed: {1}")]
    NotStopped(Box<SandboxError>, String),
    #[error("the volume {0} no longer exists in the engine")]
    MissingVolume(String),
    /// The base does not have the seal of its record.
    #[error("the base {0} differs from its seal")]
    SealMismatch(String),
    /// The engine cannot mount the sidecar's volumes.
    #[error("failed to mount the workspace: {0}")]
    Unmountable(EngineError),
    /// The agent's container ended before it connected to the sidecar.
    #[error("the agent's container cannot connect to the sidecar: {message}")]
    Unconnected {
        message: String,
        /// Whether other containers of the engine cannot connect either.
        is_lasting: bool,
    },
    /// The base is unusable, and its record was removed.
    #[error("the base {id} is no longer usable: {error}")]
    CorruptBase { id: String, error: Box<SandboxError> },
    /// The engine's overlays change the inode numbers that collecting relies on.
    #[error("files of an overlay have different inode numbers than in its lower layer")]
    InodeMismatch,
    /// A limit of collecting was exceeded.
    #[error("the sandbox exceeds a collection limit: {0}")]
    CollectLimit(String),
    /// A signal arrived while the sandbox was being started or collected.
    #[error("interrupted")]
    Interrupted,
}

impl From<BaseError> for SandboxError {
    fn from(error: BaseError) -> Self {
        match error {
            BaseError::Engine(error) => Self::Engine(error),
            BaseError::Snapshot(error) => Self::Snapshot(error),
            BaseError::Guest(error) => Self::Guest(error),
            BaseError::Io(error) => Self::Io(error),
            BaseError::Interrupted => Self::Interrupted,
        }
    }
}
