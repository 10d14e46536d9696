//! Limits and modes of collecting.

use std::time::Duration;

use crate::core::path::MAX_DEPTH;

/// Questions under way at once.
pub(crate) const PARALLEL: usize = 32;

/// Characters of a refused path that are kept.
pub(crate) const SHOWN: usize = 300;

/// Bounds on what is taken back; each is a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CollectLimits {
    /// New entries of the workspace that are listed, of any kind (`max_entries`).
    pub entries: usize,
    /// Files that differ (`max_files`); those after it in the order of paths are refused.
    pub changed: usize,
    /// Bytes of one file (`max_file`).
    pub file: u64,
    /// Bytes of all files that differ (`max_total`); the largest are refused until the rest fits.
    pub total: u64,
    /// Directories above one another (`max_depth`).
    pub depth: usize,
    /// Time limit of collecting (`max_time`).
    pub time: Duration,
}

/// Whether the agent is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CollectMode {
    /// It is; what is found is the result.
    Final,
    /// It is at work: files come and go, and what is found may be torn.
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
