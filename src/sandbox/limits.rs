//! Resource limits of a sandbox's containers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Resource limits of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Maximum size of workspace and home together, in bytes.
    pub disk: u64,
    /// Maximum number of files and directories in them.
    pub inodes: u64,
    pub time: Option<Duration>,
    /// Maximum memory in bytes, which the kernel enforces.
    pub memory: u64,
    /// Maximum number of processes and threads, which the kernel enforces.
    pub pids: u32,
}
