//! The request to run an agent, and its result.

use super::CollectPolicy;
use std::sync::Arc;

use super::layer::Layer;
use super::ports::BoundPort;
use super::run_report::RunReport;
use super::store::{AgentConfig, Sandbox};
use super::workspace::WorkspaceKind;
use crate::changes::Changeset;
use crate::claude_config::{ConfigSummary, HomeCopy};
use crate::core::name::SandboxName;
use crate::gateway::{CredentialKind, GatewayOptions};

/// Returns the copies of the files that a pasted text consists of, and the text with their paths in the sandbox; `None` for any
/// other text.
pub(crate) type PastedFileReader = Arc<dyn Fn(&str) -> Option<(Vec<HomeCopy>, String)> + Send + Sync>;

/// A request to run an agent.
#[derive(Clone)]
pub struct RunRequest {
    /// The name that the user chose; otherwise it is random.
    pub name: Option<SandboxName>,
    /// The engine that the user chose, or `None` for that of the environment.
    pub engine: Option<String>,
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
    /// The network; `None` for a sandbox with loopback only.
    pub network: Option<NetworkRequest>,
    /// Ports of the sandbox that are published on the host.
    pub ports: Vec<BoundPort>,
    /// Ports of the host's loopback that the sandbox can reach.
    pub forwards: Vec<u16>,
    /// The limits and rules for collecting.
    pub policy: CollectPolicy,
    /// Copies of the user's files for the home.
    pub home_copies: Vec<HomeCopy>,
    /// Reads the files whose paths are pasted.
    pub pasted_files: Option<PastedFileReader>,
    /// Further fields of Claude Code's `~/.claude.json`.
    pub claude_json: serde_json::Map<String, serde_json::Value>,
    /// The user's own configuration of Claude Code in the copies.
    pub user_config: ConfigSummary,
    /// The setup layer below the workspace.
    pub layer: Option<Layer>,
    /// The layer that the workspace is to become.
    pub builds_layer: Option<Layer>,
    /// The kind of workspace; `None` for an overlay if the engine can mount one.
    pub workspace: Option<WorkspaceKind>,
}

/// The network of a sandbox.
#[derive(Clone)]
pub struct NetworkRequest {
    pub gateway: GatewayOptions,
    /// The kind of the credential behind the model route, if there is one.
    pub credential: Option<CredentialKind>,
    /// Environment variables for the agent, as `KEY=VALUE`.
    pub env: Vec<String>,
}

/// A sandbox whose agent has ended.
#[derive(Debug)]
pub struct RunResult {
    /// The sandbox, still owned by this process.
    pub sandbox: Sandbox,
    pub changes: Changeset,
    pub report: RunReport,
}
