//! The environment and home directory of the user, from which configuration is read.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::core::host_command::run_limited;

/// Maximum size of a configuration file in bytes.
const MAX_CONFIG: u64 = 1 << 20;
/// The time that a keyring gets.
const KEYRING_TIMEOUT: Duration = Duration::from_secs(20);

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

    /// Asks the `keyring` command for a password, as pip and uv do with `subprocess`. A keyring that is locked has no
    /// terminal to ask at, and does not answer.
    pub(super) fn ask_keyring(&self, service: &str, user: &str) -> Option<String> {
        let path = self.find_variable("PATH")?;
        let program = std::env::split_paths(&path).map(|dir| dir.join("keyring")).find(|program| program.is_file())?;
        let output = run_limited(Command::new(program).args(["get", service, user]), KEYRING_TIMEOUT).ok()?;
        let text = String::from_utf8(output.stdout).ok()?.trim_end_matches(['\n', '\r']).to_owned();
        (output.status.success() && !text.is_empty()).then_some(text)
    }

    pub(super) fn read_file(&self, path: &Path) -> Option<String> {
        let metadata = std::fs::metadata(path).ok()?;
        (metadata.is_file() && metadata.len() <= MAX_CONFIG).then(|| std::fs::read_to_string(path).ok()).flatten()
    }
}
