//! Errors for people: what failed, why, and the next command.

use std::error::Error;
use std::fmt::Write as _;
use std::io;

use super::claude_path::real_claude_command;
use crate::apply::{ApplyError, HostError, JournalError, Report, UndoError};
use crate::base::BaseError;
use crate::cli::shell_word::quote_shell_word;
use crate::config::ConfigError;
use crate::core::escape::Escaped;
use crate::core::name::{NameError, SandboxName};
use crate::core::path::RepoPath;
use crate::engine::EngineError;
use crate::gateway::CredentialError;
use crate::git::SnapshotError;
use crate::guest_client::GuestError;
use crate::review::SelectionError;
use crate::sandbox::SandboxError;

/// The exit status of a failure; nothing was changed unless the message says otherwise.
pub(super) const FAILED: u8 = 1;
/// The exit status if there are conflicts; nothing was written.
pub(super) const CONFLICT: u8 = 4;
/// The exit status if Airlock itself failed, where it is otherwise that of the agent.
pub(super) const EXIT_INTERNAL: u8 = 125;

/// The kind of an error, which determines the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorKind {
    Failed,
    Usage,
    /// The selection or the working tree is stale.
    Stale,
    Interrupted,
}

impl ErrorKind {
    /// Returns the exit status of the program.
    pub(super) fn exit_status(self) -> u8 {
        match self {
            Self::Failed => FAILED,
            Self::Usage => 2,
            Self::Stale => 5,
            Self::Interrupted => 130,
        }
    }
}

/// An error that ends the program. Its texts can contain anything: they are escaped when they are printed.
#[derive(Debug)]
pub(super) struct CliError {
    pub kind: ErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
    details: Vec<String>,
    hints: Vec<String>,
}

impl CliError {
    fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None, details: Vec::new(), hints: Vec::new() }
    }

    /// Creates an error of a failed operation.
    pub(super) fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, message)
    }

    /// Creates an error of wrong usage.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Usage, message)
    }

    /// Creates an error of a stale selection or working tree.
    pub(super) fn stale(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Stale, message)
    }

    /// Creates an error of an interruption.
    pub(super) fn interrupted(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Interrupted, message)
    }

    /// Creates an error with the message of another one, which becomes its source.
    fn from_source(kind: ErrorKind, error: impl Error + Send + Sync + 'static) -> Self {
        let message = error.to_string();
        Self { source: Some(Box::new(error)), ..Self::new(kind, message) }
    }

    /// Adds lines below the message.
    pub(super) fn with_details(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(lines);
        self
    }

    /// Adds a hint: the next command, in backticks.
    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    fn with_hints(mut self, hints: impl IntoIterator<Item = String>) -> Self {
        self.hints.extend(hints);
        self
    }

    /// Returns the message, which is not escaped.
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Returns the lines below the message, which are not escaped.
    pub(super) fn detail_lines(&self) -> &[String] {
        &self.details
    }

    /// Returns the hints, which are not escaped.
    pub(super) fn hints(&self) -> &[String] {
        &self.hints
    }

    /// Returns the escaped message.
    pub(super) fn escaped_message(&self) -> String {
        Escaped::new(&self.message).to_string()
    }

    /// Returns the escaped text for stderr: the message, its causes, details and hints.
    pub(super) fn format_text(&self) -> String {
        let mut text = format!("error: {}\n", Escaped::new(&self.message));
        let mut cause = self.source.as_ref().and_then(|error| error.source());
        while let Some(error) = cause {
            let line = error.to_string();
            // Most messages include that of their source.
            if !self.message.contains(&line) {
                let _ = writeln!(text, "  caused by: {}", Escaped::new(&line));
            }
            cause = error.source();
        }
        for line in &self.details {
            let _ = writeln!(text, "  {}", Escaped::new(line));
        }
        for hint in &self.hints {
            let _ = writeln!(text, "hint: {}", Escaped::new(hint));
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
        let kind_of = |error: &SandboxError| match error {
            SandboxError::Interrupted => ErrorKind::Interrupted,
            _ => ErrorKind::Failed,
        };
        let (kind, hint) = match &error {
            SandboxError::Engine(_) | SandboxError::Snapshot(_) => {
                return match error {
                    SandboxError::Engine(error) => error.into(),
                    SandboxError::Snapshot(error) => error.into(),
                    other => Self::from_source(ErrorKind::Failed, other),
                };
            }
            SandboxError::NameTaken(name) => {
                (ErrorKind::Failed, Some(format!("choose another `--name`, or run `airlock rm {name}`")))
            }
            SandboxError::Busy(name) => {
                let hint = format!(
                    "if its agent runs, `airlock attach {name}` shows it, `airlock stop {name}` ends it, and `airlock diff {name}` shows its changes"
                );
                (ErrorKind::Failed, Some(hint))
            }
            SandboxError::Certificates(_) => (
                ErrorKind::Failed,
                Some("install them: `sudo apt-get install ca-certificates`, or set SSL_CERT_FILE or NODE_EXTRA_CA_CERTS".into()),
            ),
            SandboxError::Guest(GuestError::DiskFull) => (
                ErrorKind::Failed,
                Some("`docker system df` shows what uses the disk, and `airlock ls` lists sandboxes that can be removed".into()),
            ),
            SandboxError::CorruptBase { .. } => {
                (ErrorKind::Failed, Some("run the command again: the base is built again, and `airlock gc` removes the old one".into()))
            }
            SandboxError::MissingVolume(_) => (
                ErrorKind::Failed,
                Some("what was collected is still there: run `airlock diff`; `airlock ls` lists sandboxes that can be removed".into()),
            ),
            SandboxError::Unmountable(_) => {
                (ErrorKind::Failed, Some("set `workspace = \"auto\"` in the configuration to copy the files instead".into()))
            }
            SandboxError::FailedAfterRun { name, error } => (kind_of(error), Some(format!("run `airlock diff {name}`"))),
            SandboxError::CleanupFailed { name, error, .. } => (kind_of(error), Some(format!("run `airlock rm {name}`"))),
            other => (kind_of(other), None),
        };
        Self::from_source(kind, error).with_hints(hint)
    }
}

impl From<SnapshotError> for CliError {
    fn from(error: SnapshotError) -> Self {
        let hint = error.hint();
        Self::from_source(ErrorKind::Failed, error).with_hints(hint)
    }
}

impl From<EngineError> for CliError {
    fn from(error: EngineError) -> Self {
        let hint = error.hint();
        Self::from_source(ErrorKind::Failed, error).with_hints(hint)
    }
}

impl From<CredentialError> for CliError {
    fn from(error: CredentialError) -> Self {
        let hint = error.suggest_fix(real_claude_command().as_deref());
        Self::from_source(ErrorKind::Failed, error).with_hint(hint)
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let hint = error.suggestion.as_ref().map(|s| format!("did you mean `{s}`?"));
        Self::from_source(ErrorKind::Usage, error).with_hints(hint)
    }
}

impl From<NameError> for CliError {
    fn from(error: NameError) -> Self {
        Self::from_source(ErrorKind::Usage, error)
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        Self::from_source(ErrorKind::Failed, error)
    }
}

impl CliError {
    /// Creates the error of an invalid selection of changes.
    pub(super) fn from_selection(error: SelectionError, sandbox: &SandboxName) -> Self {
        let (kind, hint) = match &error {
            SelectionError::Risky { .. } => (ErrorKind::Failed, Some("review it, then add `--allow-risky`".into())),
            SelectionError::NoMatch { .. } => {
                (ErrorKind::Failed, Some(format!("to list the paths, run `airlock diff {sandbox} --name-only`")))
            }
            SelectionError::StaleId { .. } | SelectionError::AmbiguousId { .. } => {
                let kind =
                    if matches!(error, SelectionError::StaleId { .. }) { ErrorKind::Stale } else { ErrorKind::Failed };
                (kind, Some(format!("to list the current IDs, run `airlock diff {sandbox} --json`")))
            }
            SelectionError::BadGlob { .. } | SelectionError::Refused { .. } => (ErrorKind::Failed, None),
        };
        Self::from_source(kind, error).with_hints(hint)
    }
}

impl From<JournalError> for CliError {
    fn from(error: JournalError) -> Self {
        let path = match &error {
            JournalError::Damaged { path, .. } | JournalError::Io { path, .. } => path.clone(),
        };
        let dir = path.parent().unwrap_or(&path);
        let advice = format!(
            "inspect {0}/staged (numbered files with new or replaced contents), then run `mv {1} {1}.damaged`",
            dir.display(),
            quote_shell_word(dir.as_os_str().as_encoded_bytes()),
        );
        Self::failed(format!("{error}; nothing was written")).with_hint(advice)
    }
}

impl From<HostError> for CliError {
    fn from(error: HostError) -> Self {
        Self::new(host_error_kind(&error), error.to_string())
    }
}

fn rollback_summary(report: &Report) -> &'static str {
    if report.skipped.is_empty() { "nothing was changed" } else { "all other changes were rolled back" }
}

fn host_error_kind(error: &HostError) -> ErrorKind {
    match error {
        HostError::Stale => ErrorKind::Stale,
        HostError::Interrupted => ErrorKind::Interrupted,
        HostError::Io { .. } | HostError::IndexLocked(_) | HostError::InterruptedApply => ErrorKind::Failed,
    }
}

impl From<ApplyError> for CliError {
    fn from(problem: ApplyError) -> Self {
        let text = |path: &Option<RepoPath>, error: &HostError| match path {
            Some(path) => format!("failed to write {}: {error}", String::from_utf8_lossy(path.as_bytes())),
            None => error.to_string(),
        };
        match &problem {
            ApplyError::NotStarted { path, error } => {
                Self::new(host_error_kind(error), format!("{}; nothing was written", text(path, error)))
            }
            ApplyError::RolledBack { path, error, report } => {
                let failure =
                    Self::new(host_error_kind(error), format!("{}; {}", text(path, error), rollback_summary(report)));
                if host_error_kind(error) == ErrorKind::Stale {
                    failure.with_hint("to re-read the working tree, run the command again")
                } else {
                    failure
                }
            }
            ApplyError::Interrupted(report) => Self::interrupted(format!("interrupted; {}", rollback_summary(report))),
            ApplyError::RollbackFailed { path, error, rollback_error, rollback_path } => {
                let rollback_path = rollback_path
                    .as_ref()
                    .map_or_else(String::new, |p| format!("{}: ", String::from_utf8_lossy(p.as_bytes())));
                Self::failed(format!("{}; rollback also failed: {rollback_path}{rollback_error}", text(path, error)))
                    .with_hint("fix the problem, then run `airlock recover`; no data has been lost")
            }
            ApplyError::Locked(lock) => Self::failed(problem.to_string()).with_hint(format!(
                "wait for git to finish; if no git process runs, remove the lock with `rm {}`",
                quote_shell_word(lock.as_os_str().as_encoded_bytes())
            )),
            ApplyError::WrongWorktree(dir, _) => {
                Self::failed(format!("{problem}; nothing was written")).with_hint(format!(
                    "run `airlock recover` there; if this repository is a copy, run `mv {0} {0}.foreign` instead",
                    quote_shell_word(dir.as_os_str().as_encoded_bytes())
                ))
            }
        }
    }
}

impl From<UndoError> for CliError {
    fn from(error: UndoError) -> Self {
        Self::failed(format!("{error}; nothing was written"))
    }
}
