//! Checks whether feedback can be sent to the agent of a sandbox.

use crate::review::{ReviewModel, has_unsent};
use crate::sandbox::Record;

/// Returns the reason why feedback cannot be sent to a sandbox, or `None` if it can.
pub fn cannot_send(record: &Record) -> Option<String> {
    if record.verb != "claude" {
        return Some(format!("comments are sent to Claude Code, and this is a sandbox of airlock {}", record.verb));
    }
    None
}

/// Returns the command that sends feedback, or an empty string if there is nothing to send.
pub fn way_to_send(record: &Record, sheet: &ReviewModel<'_>, state: &crate::review::ReviewState) -> String {
    let sends = cannot_send(record).is_none() && has_unsent(sheet.files.iter().flat_map(|f| &f.units), state);
    if sends { format!(", airlock resume {} --feedback", record.name) } else { String::new() }
}
