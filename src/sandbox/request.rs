//! The request to run an agent, and its result.

use super::attach::DroppedSequences;
use super::monitor::LimitExceeded;
use super::store::{AgentConfig, Sandbox};
use super::workspace::WorkspaceKind;
use super::{CollectPolicy, SandboxError};
use crate::changes::Changeset;
use crate::core::name::SandboxName;
use crate::gateway::{CredentialKind, ModelProxy};

/// The loopback port of the model route inside the sandbox, which has its own network.
pub(super) const MODEL_PORT: u16 = 47_821;

/// A request to run an agent.
#[derive(Clone)]
pub struct RunRequest {
    /// The name that the user chose; otherwise it is random.
    pub name: Option<SandboxName>,
    /// `claude`, `run` or `shell`.
    pub verb: &'static str,
    pub command: Vec<String>,
    /// Additional environment variables, as `KEY=VALUE`.
    pub env: Vec<String>,
    /// The agent image's content id.
    pub image: String,
    /// Mount points of the image's own volumes.
    pub image_volumes: Vec<String>,
    /// The agent's configuration, which `resume` uses again.
    pub agent_config: AgentConfig,
    /// Whether the agent has a terminal.
    pub tty: bool,
    /// The proxy to the model, and the kind of the credential behind it; `None` for a sandbox without a network.
    pub model: Option<(ModelProxy, CredentialKind)>,
    /// The limits and rules for collecting.
    pub policy: CollectPolicy,
    /// The kind of workspace; `None` for an overlay if the engine can mount one.
    pub workspace: Option<WorkspaceKind>,
}

/// A sandbox whose agent has ended.
#[derive(Debug)]
pub struct RunResult {
    /// The sandbox, still owned by this process.
    pub sandbox: Sandbox,
    /// The agent's exit status.
    pub exit: i64,
    pub changes: Changeset,
    /// The limits that the agent reached.
    pub limits_hit: Vec<LimitExceeded>,
    /// Control sequences that were withheld from the terminal.
    pub dropped: DroppedSequences,
    /// The failure to seal a new base for other sandboxes, if any.
    pub seal_error: Option<SandboxError>,
}
