//! The current time, as records have it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the seconds since the epoch.
#[must_use]
pub(crate) fn seconds_since_epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
