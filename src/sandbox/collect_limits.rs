//! Limits and modes of collecting.

use std::time::Duration;

use crate::core::path::MAX_DEPTH;

/// Maximum number of concurrent requests.
pub(crate) const PARALLEL: usize = 32;

/// Maximum number of characters of a refused path.
pub(crate) const SHOWN: usize = 300;

/// The limits of a collection. Each one is a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectLimits {
    /// Maximum number of new entries of the workspace, of any kind (`max_entries`).
    pub entries: usize,
    /// Maximum number of changed files (`max_files`). Files after it in the order of paths are refused.
    pub changed: usize,
    /// Maximum size of one file in bytes (`max_file`).
    pub file: u64,
    /// Maximum size of all changed files in bytes (`max_total`). The largest are refused until the rest fits.
    pub total: u64,
    /// Maximum depth of directories (`max_depth`).
    pub depth: usize,
    /// The time limit (`max_time`).
    pub time: Duration,
}

/// The state of the agent during a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectMode {
    /// The agent has ended, so the result is final.
    Final,
    /// The agent is running: files come and go, and the result may be inconsistent.
    Live,
}

impl Default for CollectLimits {
    fn default() -> Self {
        Self {
            entries: 250_000,
            changed: 100_000,
            file: 100 << 20,
            total: 2 << 30,
            depth: MAX_DEPTH,
            time: Duration::from_secs(600),
        }
    }
}
