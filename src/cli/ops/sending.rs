//! Whether feedback can be sent to the agent of a sandbox.

use crate::review::{ReviewModel, has_unsent};
use crate::sandbox::Record;

/// Returns why feedback cannot be sent to a sandbox.
pub fn cannot_send(record: &Record) -> Option<String> {
    if record.verb != "claude" {
        return Some(format!("comments are sent to Claude Code, and this is a sandbox of airlock {}", record.verb));
    }
    None
}

/// Names the command that sends what has been said, where there is something to send.
pub fn way_to_send(record: &Record, sheet: &ReviewModel<'_>, state: &crate::review::ReviewState) -> String {
    let sends = cannot_send(record).is_none() && has_unsent(sheet.files.iter().flat_map(|f| &f.units), state);
    if sends { format!(", airlock resume {} --feedback", record.name) } else { String::new() }
}
