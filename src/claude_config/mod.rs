//! The user's own configuration of Claude Code, as a filtered copy for a sandbox.
//!
//! *Invariant:* no credential, no command of the host and no path of the host is in the copy: what is not known to be
//! harmless is left out and named.

mod directory;
mod mcp;
mod settings;

pub use directory::{UserConfig, is_private, load_user_config};
pub use mcp::{McpServers, RemoteServer};
pub use settings::{FilteredSettings, filter_settings};

/// A file for the home of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HomeCopy {
    /// The path relative to the home.
    pub path: String,
    pub content: Vec<u8>,
    pub executable: bool,
}

/// A part of the configuration that is not in the copy.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct LeftOut {
    /// Its name, such as `hooks` or `commands/deploy.md`.
    pub name: String,
    pub reason: String,
}

impl LeftOut {
    fn new(name: impl Into<String>, reason: &str) -> Self {
        Self { name: name.into(), reason: reason.into() }
    }
}

/// The user's configuration of Claude Code in a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ConfigSummary {
    /// Its parts, such as `3 commands`.
    pub parts: Vec<String>,
    /// The parts that are not in the sandbox.
    pub left_out: Vec<LeftOut>,
}
