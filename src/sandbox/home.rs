//! The agent's fresh home: Claude's first-run questions, answered beforehand.

use serde_json::json;

/// Something in the agent's fresh home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HomeEntry {
    /// A directory.
    Directory(&'static str),
    /// A file with its content.
    File(&'static str, Vec<u8>),
    /// A link with its target.
    Link(&'static str, &'static str),
}

/// Everything that the home begins with, parents first.
pub fn fresh_home(workdir: &str, placeholder: Option<&str>) -> Vec<HomeEntry> {
    vec![
        HomeEntry::File(".claude.json", claude_json(workdir, placeholder)),
        // Claude Code's own installation is looked for there, and missed with a warning.
        HomeEntry::Directory(".local"),
        HomeEntry::Directory(".local/bin"),
        HomeEntry::Link(".local/bin/claude", "/usr/local/bin/claude"),
    ]
}

/// The content of `~/.claude.json`: onboarding done, the placeholder key approved, the workspace trusted.
fn claude_json(workdir: &str, placeholder: Option<&str>) -> Vec<u8> {
    // Claude Code remembers an approved key by its last 20 characters.
    let approved: Vec<&str> = placeholder.map(|p| &p[p.len().saturating_sub(20)..]).into_iter().collect();
    json!({
        "hasCompletedOnboarding": true,
        "theme": "dark",
        "installMethod": "global",
        "autoUpdates": false,
        "customApiKeyResponses": {"approved": approved, "rejected": []},
        "projects": {workdir: {
            "hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true, "allowedTools": [],
        }},
    })
    .to_string()
    .into_bytes()
}
