//! The directory for what Airlock remembers about this machine, outside of all repositories.

use std::path::PathBuf;

use etcetera::BaseStrategy as _;

/// Returns the directory, such as `~/.local/state/airlock`. It may not exist. `None` without a home directory.
#[must_use]
pub(crate) fn state_dir() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.state_dir()?.join("airlock"))
}
