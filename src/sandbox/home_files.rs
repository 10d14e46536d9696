//! The agent's fresh home: Claude's first-run questions, answered beforehand, and what the workspace is.

use serde_json::json;

use crate::base::Manifest;

/// Everything that the home begins with, parents first, as arguments of the launcher: it makes what is not there yet, as
/// the agent's own user.
pub(crate) fn home_files(workdir: &str, placeholder: Option<&str>, manifest: &Manifest) -> Vec<String> {
    let claude_json = claude_json(workdir, placeholder);
    let memory = manifest.memory();
    let entries: [&[&str]; 6] = [
        &["file", ".claude.json", &claude_json],
        // Claude Code's own installation is looked for there, and missed with a warning.
        &["dir", ".local"],
        &["dir", ".local/bin"],
        &["link", ".local/bin/claude", "/usr/local/bin/claude"],
        // The user memory of Claude Code.
        &["dir", ".claude"],
        &["file", ".claude/CLAUDE.md", &memory],
    ];
    entries.into_iter().flatten().map(|&word| word.to_owned()).collect()
}

/// The content of `~/.claude.json`: onboarding done, the placeholder key approved, the workspace trusted.
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
