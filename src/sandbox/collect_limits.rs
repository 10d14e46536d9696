//! Limits and modes of collecting.

use std::time::Duration;

use crate::core::path::MAX_DEPTH;

/// Maximum number of directories that are listed at once.
pub(crate) const MAX_CONCURRENT_LISTS: usize = 16;
/// Maximum number of files that are read at once. A remote engine needs many requests in flight.
pub(crate) const MAX_CONCURRENT_READS: usize = 256;

/// Maximum number of characters of a refused path.
pub(crate) const MAX_PATH_CHARS: usize = 300;

/// The limits of a collection. Each one is a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectLimits {
    /// Maximum number of new entries of the workspace, of any kind (`max_entries`).
    pub max_entries: usize,
    /// Maximum number of changed files (`max_files`). Files after it in the order of paths are refused.
    pub max_files: usize,
    /// Maximum size of one file in bytes (`max_file`).
    pub max_file: u64,
    /// Maximum size of all changed files in bytes (`max_total`). The largest are refused until the rest fits.
    pub max_total: u64,
    /// Maximum depth of directories (`max_depth`).
    pub max_depth: usize,
    /// The time limit (`max_time`).
    pub max_time: Duration,
}

/// The state of the agent during a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CollectMode {
    /// The agent has ended, so the result is final.
    Final,
    /// The agent is running: files come and go, and the result may be inconsistent.
    Live,
}

impl Default for CollectLimits {
    fn default() -> Self {
        Self {
            max_entries: 250_000,
            max_files: 100_000,
            max_file: 100 << 20,
            max_total: 2 << 30,
            max_depth: MAX_DEPTH,
            max_time: Duration::from_secs(600),
        }
    }
}
