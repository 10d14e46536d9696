//! The environment and home directory of the user, from which configuration is read.

use std::path::{Path, PathBuf};

/// Maximum size of a configuration file in bytes.
const MAX_CONFIG: u64 = 1 << 20;

/// The environment and home directory from which the configuration is read.
pub struct HostEnvironment<'a> {
    pub env: &'a dyn Fn(&str) -> Option<String>,
    pub home: PathBuf,
}

impl HostEnvironment<'_> {
    /// Returns a variable that is not empty.
    pub(super) fn find_variable(&self, name: &str) -> Option<String> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    /// Returns a path in the home directory.
    pub(super) fn home_path(&self, path: &str) -> PathBuf {
        self.home.join(path)
    }

    /// Returns a path in the directory for configuration.
    pub(super) fn config_path(&self, path: &str) -> PathBuf {
        self.find_variable("XDG_CONFIG_HOME").map_or_else(|| self.home_path(".config"), PathBuf::from).join(path)
    }

    pub(super) fn read_file(&self, path: &Path) -> Option<String> {
        let metadata = std::fs::metadata(path).ok()?;
        (metadata.is_file() && metadata.len() <= MAX_CONFIG).then(|| std::fs::read_to_string(path).ok()).flatten()
    }
}
