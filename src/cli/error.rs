//! Errors for people: what, why, and the next command.

use std::fmt::Write as _;
use std::io;

use crate::base::BaseError;
use crate::config::ConfigError;
use crate::core::escape::Escaped;
use crate::core::name::{NameError, SandboxName};
use crate::engine::EngineError;
use crate::gateway::CredentialError;
use crate::git::SnapshotError;
use crate::guest_client::GuestError;
use crate::review::SelectionError;
use crate::sandbox::SandboxError;

/// Failed; nothing was changed unless the message says what.
pub const FAILED: u8 = 1;
/// Wrong usage.
pub const USAGE: u8 = 2;
/// Conflicts; nothing written.
pub const CONFLICT: u8 = 4;
/// The selection or the host tree is stale.
pub const STALE: u8 = 5;
/// Airlock itself failed, where the status is otherwise the agent's.
pub const EXIT_INTERNAL: u8 = 125;
/// Interrupted.
pub const INTERRUPTED: u8 = 130;

/// A failure that ends the program.
#[derive(Debug)]
pub struct CliError {
    pub exit: u8,
    message: String,
    details: Vec<String>,
    hint: Option<String>,
}

impl CliError {
    /// Creates one from words that may hold anything; they are escaped.
    pub fn new(exit: u8, message: impl AsRef<str>) -> Self {
        Self { exit, message: Escaped::new(message.as_ref()).to_string(), details: Vec::new(), hint: None }
    }

    /// Adds lines below the message, escaped.
    pub fn details(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(lines.into_iter().map(|l| Escaped::new(&l).to_string()));
        self
    }

    /// Adds the next command.
    pub fn hint(mut self, hint: impl AsRef<str>) -> Self {
        self.hint = Some(Escaped::new(hint.as_ref()).to_string());
        self
    }

    fn maybe_hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint.map(|h| Escaped::new(&h).to_string());
        self
    }

    /// Returns what went wrong, escaped.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Returns the text for standard error.
    pub fn text(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        for line in &self.details {
            let _ = writeln!(text, "  {line}");
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "hint: {hint}");
        }
        text
    }
}

impl From<BaseError> for CliError {
    fn from(error: BaseError) -> Self {
        SandboxError::from(error).into()
    }
}

impl From<SandboxError> for CliError {
    fn from(error: SandboxError) -> Self {
        let message = error.to_string();
        let interrupted = |error: &SandboxError| match error {
            SandboxError::Interrupted => INTERRUPTED,
            _ => FAILED,
        };
        match error {
            SandboxError::Engine(error) => error.into(),
            SandboxError::Snapshot(error) => error.into(),
            SandboxError::Interrupted => Self::new(INTERRUPTED, message),
            SandboxError::NameTaken(name) => {
                Self::new(FAILED, message).hint(format!("choose another --name, or: airlock rm {name}"))
            }
            SandboxError::Busy(name) => {
                Self::new(FAILED, message).hint(format!("end the agent first, or look on: airlock diff {name}"))
            }
            SandboxError::Guest(GuestError::DiskFull) => Self::new(FAILED, message)
                .hint("see what fills it: docker system df; airlock ls lists sandboxes to remove"),
            SandboxError::CorruptBase { .. } => {
                Self::new(FAILED, message).hint("try again: it is built again; airlock gc removes what is left of it")
            }
            SandboxError::MissingVolume(_) => Self::new(FAILED, message)
                .hint("what was collected before is still there: airlock diff; airlock ls lists what can go"),
            SandboxError::Unmountable(_) => Self::new(FAILED, message)
                .hint("set workspace = \"auto\" in the configuration, so that the files are copied instead"),
            SandboxError::FailedAfterRun { name, error } => {
                Self::new(interrupted(&error), message).hint(format!("airlock diff {name}"))
            }
            SandboxError::CleanupFailed { name, error, .. } => {
                Self::new(interrupted(&error), message).hint(format!("airlock rm {name}"))
            }
            _ => Self::new(FAILED, message),
        }
    }
}

impl From<SnapshotError> for CliError {
    fn from(error: SnapshotError) -> Self {
        Self::new(FAILED, error.to_string()).maybe_hint(error.hint())
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        Self::new(FAILED, error.to_string()).maybe_hint(error.hint())
    }
}

impl From<CredentialError> for CliError {
    fn from(error: CredentialError) -> Self {
        Self::new(FAILED, error.to_string()).hint(error.suggest_fix(super::claude_path::find_real_claude().as_deref()))
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let hint = error.suggestion.as_ref().map(|s| format!("did you mean {s}?"));
        Self::new(USAGE, error.to_string()).maybe_hint(hint)
    }
}

impl From<NameError> for CliError {
    fn from(error: NameError) -> Self {
        Self::new(USAGE, error.to_string())
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::new(FAILED, error.to_string())
    }
}

impl CliError {
    /// Creates the error for an invalid selection of changes.
    pub fn of_selection(error: &SelectionError, sandbox: &SandboxName) -> Self {
        let exit = if matches!(error, SelectionError::StaleId { .. }) { STALE } else { FAILED };
        // The text of a rejection is escaped already; escaping is injective, not idempotent.
        let failure = Self { exit, message: error.to_string(), details: Vec::new(), hint: None };
        match error {
            SelectionError::Risky { .. } => failure.hint("look at it, then add --allow-risky"),
            SelectionError::NoMatch { .. } => {
                failure.hint(format!("airlock diff {sandbox} --name-only lists the paths"))
            }
            SelectionError::StaleId { .. } | SelectionError::AmbiguousId { .. } => {
                failure.hint(format!("airlock diff {sandbox} --json lists the current ids"))
            }
            SelectionError::BadGlob { .. } | SelectionError::Refused { .. } => failure,
        }
    }
}
