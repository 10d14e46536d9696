//! The initial files of the agent's home: answers to Claude Code's first-run questions, and a description of the
//! workspace.

use serde_json::json;

use crate::base::Manifest;

/// Returns the initial entries of the home as arguments of the launcher, parents first. The launcher creates the
/// missing ones as the agent's own user.
pub(crate) fn home_files(workdir: &str, placeholder: Option<&str>, manifest: &Manifest) -> Vec<String> {
    let claude_json = claude_json(workdir, placeholder);
    let memory = manifest.format_memory();
    let entries: [&[&str]; 6] = [
        &["file", ".claude.json", &claude_json],
        // Claude Code looks for its own installation here, and warns if it is missing.
        &["dir", ".local"],
        &["dir", ".local/bin"],
        &["link", ".local/bin/claude", "/usr/local/bin/claude"],
        // Claude Code's user memory.
        &["dir", ".claude"],
        &["file", ".claude/CLAUDE.md", &memory],
    ];
    entries.into_iter().flatten().map(|&word| word.to_owned()).collect()
}

/// Returns the content of `~/.claude.json`: onboarding done, the placeholder key approved, the workspace trusted.
fn claude_json(workdir: &str, placeholder: Option<&str>) -> String {
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
}
