//! Checks whether feedback can be sent to the agent of a sandbox.

use crate::review::{ReviewModel, has_unsent};
use crate::sandbox::SandboxRecord;

/// Returns the reason why feedback cannot be sent to a sandbox, or `None` if it can.
pub(crate) fn send_obstacle(record: &SandboxRecord) -> Option<String> {
    if record.verb != "claude" {
        return Some(format!("only Claude Code receives comments, and this is a sandbox of airlock {}", record.verb));
    }
    None
}

/// Returns the command that starts the next agent of a sandbox.
pub(crate) fn resume_command(record: &SandboxRecord) -> String {
    let what = if record.verb == "claude" { "" } else { " -- COMMAND" };
    format!("airlock resume {}{what}", record.name)
}

/// Returns the command that sends feedback, or an empty string if there is nothing to send.
pub(crate) fn send_hint(record: &SandboxRecord, model: &ReviewModel<'_>, state: &crate::review::ReviewState) -> String {
    let sends = send_obstacle(record).is_none() && has_unsent(model.files.iter().flat_map(|f| &f.units), state);
    if sends { format!(", airlock resume {} --feedback", record.name) } else { String::new() }
}
