//! How far the review of a sandbox is, for lists.

use serde_json::{Value, json};

use crate::cli::output::format_count;
use crate::sandbox::{ReviewProgress, Sandbox, SandboxRecord};

/// Describes how far a review is, such as `9/16 decided`, `3 applied` and `1 comment`.
pub(crate) fn describe_progress(progress: &ReviewProgress) -> Vec<String> {
    let mut parts = Vec::new();
    if progress.decided == progress.hunks && progress.hunks > 0 {
        parts.push("all decided".into());
    } else if progress.decided > 0 {
        parts.push(format!("{}/{} decided", progress.decided, progress.hunks));
    }
    if progress.applied > 0 {
        parts.push(format!("{} applied", progress.applied));
    } else if progress.accepted > 0 {
        parts.push("not applied".into());
    }
    if progress.comments > 0 {
        parts.push(format_count(progress.comments, "comment"));
    }
    parts
}

/// Returns the number of rounds that were collected, the last included. Rounds that cannot be read do not count.
pub(crate) fn count_rounds(sandbox: &Sandbox) -> usize {
    let is_collected = sandbox.read_changeset().is_ok_and(|changes| changes.is_some());
    sandbox.read_rounds().map_or(0, |rounds| rounds.len()) + usize::from(is_collected)
}

/// Returns how far the last review is; null if there was none of these changes.
pub(crate) fn progress_json(record: &SandboxRecord) -> Value {
    record.progress.as_ref().map_or(Value::Null, |progress| {
        json!({
            "hunks": progress.hunks, "decided": progress.decided, "accepted": progress.accepted,
            "applied": progress.applied, "comments": progress.comments,
        })
    })
}
