//! Resource limits.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Resource limits of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of workspace and home together.
    pub disk: u64,
    /// Files and directories in them.
    pub inodes: u64,
    pub time: Option<Duration>,
    /// Bytes of memory, for the message: the kernel sees to it.
    pub memory: u64,
    /// Processes and threads, likewise.
    pub pids: u32,
}
