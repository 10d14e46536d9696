//! Describes the contents of a sandbox besides its changes.

use crate::changes::{Changeset, IgnoredPaths};
use crate::cli::shell_word::quote_shell_word;
use crate::core::escape::Escaped;
use crate::sandbox::SandboxRecord;

/// Returns the message about files that new ignore rules keep out of the changes.
pub(crate) fn hidden_files_message(changes: &Changeset) -> String {
    let names: Vec<String> =
        changes.ignored_by_agent_rules.iter().take(3).map(|p| Escaped::new(p.as_bytes()).to_string()).collect();
    let more = if changes.ignored_by_agent_rules.len() > 3 { ", …" } else { "" };
    format!("not collected, because ignore rules of the agent match: {}{more}", names.join(", "))
}

/// Maximum number of ignored paths that are named.
const MAX_NAMED_PATHS: usize = 3;

/// Returns the commands that make work besides the changes reviewable.
pub(crate) fn bring_hints(record: &SandboxRecord, ignored: &IgnoredPaths) -> Vec<String> {
    let name = &record.name;
    let mut hints = Vec::new();
    let first = record.other_contents.iter().find_map(|text| match text.split_once(' ') {
        Some(("branch" | "worktree", one)) => Some(quote_shell_word(one.as_bytes()).to_string()),
        // Commits on the branch of the workspace are among the changes, unless they were reverted.
        _ if ["branches", "commits on no branch", "worktrees"].iter().any(|word| text.contains(word)) => {
            Some("NAME".into())
        }
        _ if text.contains("stash") => Some("'stash@{0}'".into()),
        _ => None,
    });
    if let Some(first) = first {
        hints.push(format!("to review commits, a stash or a worktree, run `airlock bring {name} {first}`"));
    }
    if let Some(first) = ignored.first.first() {
        let word = quote_shell_word(first.path.as_bytes());
        hints.push(format!("to review ignored files, run `airlock bring {name} --include {word}`"));
    }
    hints
}

/// Lists what a sandbox holds that is in none of its changes. Returns `None` if nothing would be missed. A conversation
/// counts if the model has answered in it.
pub(crate) fn describe_holdings(record: &SandboxRecord, ignored: &IgnoredPaths, has_talked: bool) -> Option<String> {
    let mut all: Vec<String> = record.other_contents.iter().map(|text| Escaped::new(text).to_string()).collect();
    let names: Vec<String> = (ignored.first.iter().take(MAX_NAMED_PATHS))
        .map(|i| format!("{}{}", Escaped::new(i.path.as_bytes()), if i.is_directory { "/" } else { "" }))
        .collect();
    if !names.is_empty() {
        let more = if ignored.count > names.len() { ", …" } else { "" };
        all.push(format!("ignored new files ({}{more})", names.join(", ")));
    }
    if has_talked && record.conversation.is_some() {
        all.push("a conversation".to_owned());
    }
    (!all.is_empty()).then(|| all.join(", "))
}
