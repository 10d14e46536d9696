//! The agent's fresh home: Claude's first-run questions, answered beforehand.

use serde_json::json;

/// The content of `~/.claude.json`: onboarding done, the placeholder key approved, the workspace trusted.
pub fn claude_json(workdir: &str, placeholder: Option<&str>) -> Vec<u8> {
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
