//! The report of a run: what is said about it after its agent has ended.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::gateway::{AuditSummary, ModelStats};

/// The report of a run. It is kept with the sandbox, for a terminal that shows it later.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunReport {
    /// The agent's exit status.
    pub exit: i64,
    /// Whether it was the first agent of the sandbox.
    pub is_first: bool,
    /// The ID of the changeset that it left.
    #[serde(default)]
    pub changeset: String,
    /// Whether the sandbox is kept even if it contains nothing.
    #[serde(default)]
    pub keep: bool,
    /// The review that the user asked for when the run was started.
    #[serde(default)]
    pub review: Option<String>,
    /// The limits that the agent reached, as text.
    pub limits_hit: Vec<String>,
    /// Control sequences that were withheld from the terminal, by kind.
    pub dropped: BTreeMap<String, u64>,
    /// The use of the network, if the sandbox has one.
    pub network: Option<NetworkUsage>,
    /// The failure to seal a new base for other sandboxes, if any. Escaped.
    pub seal_error: Option<String>,
    /// Further messages of Airlock, escaped.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// The counts of a run's network.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NetworkUsage {
    pub requests: AuditSummary,
    pub model: ModelStats,
}

impl NetworkUsage {
    /// Returns whether anything but the model was used or refused.
    #[must_use]
    pub fn is_notable(&self) -> bool {
        let requests = &self.requests;
        requests.routes.keys().any(|route| route != "model")
            || !requests.denied.is_empty()
            || !requests.allowable.is_empty()
    }
}
