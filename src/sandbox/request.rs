//! What is asked of a sandbox, and what it gives.

use super::attach::Dropped;
use super::monitor::LimitExceeded;
use super::store::{AgentConfig, Sandbox};
use super::workspace::Workspace;
use super::{CollectPolicy, SandboxError};
use crate::changes::Changeset;
use crate::core::name::SandboxName;
use crate::gateway::{CredentialKind, ModelProxy};

/// The loopback port of the model route inside the sandbox, which has a network of its own.
pub const MODEL_PORT: u16 = 47_821;

/// A request to run an agent.
#[derive(Clone)]
pub struct RunRequest {
    /// The user's name for it; else a random one.
    pub name: Option<SandboxName>,
    /// `claude`, `run` or `shell`.
    pub verb: &'static str,
    pub command: Vec<String>,
    /// More of its environment, as `KEY=VALUE`.
    pub env: Vec<String>,
    /// The agent image's content id.
    pub image: String,
    /// Places of the image's own volumes.
    pub image_volumes: Vec<String>,
    /// The agent's configuration; the same is used by `resume`.
    pub given: AgentConfig,
    /// Whether it has a terminal.
    pub tty: bool,
    /// The way to the model, and the kind of the credential behind it; nothing for a sandbox without a network.
    pub model: Option<(ModelProxy, CredentialKind)>,
    /// The limits and rules for collecting.
    pub policy: CollectPolicy,
    /// The kind of workspace; `None` for an overlay where the engine can mount one.
    pub workspace: Option<Workspace>,
}

/// A sandbox whose agent has ended.
#[derive(Debug)]
pub struct Finished {
    /// The sandbox, still owned.
    pub sandbox: Sandbox,
    /// The agent's exit status.
    pub exit: i64,
    pub changes: Changeset,
    /// The limits that it met.
    pub limits_hit: Vec<LimitExceeded>,
    /// Control sequences that were kept from the terminal.
    pub dropped: Dropped,
    /// Why the base that was made could not be kept for others.
    pub unsealed: Option<SandboxError>,
}
