//! The agent's fresh home: Claude's first-run questions, answered beforehand, and what the workspace is.

use serde_json::json;

use super::SandboxError;
use super::link::Link;
use super::manifest::Manifest;
use super::write::Batch;
use crate::wire::{Entry, Root};

/// Something in the agent's fresh home.
enum HomeEntry {
    /// A directory.
    Directory(&'static str),
    /// A file with its content.
    File(&'static str, Vec<u8>),
    /// A link with its target.
    Link(&'static str, &'static str),
}

/// Everything that the home begins with, parents first.
fn fresh_home(workdir: &str, placeholder: Option<&str>, manifest: &Manifest) -> Vec<HomeEntry> {
    vec![
        HomeEntry::File(".claude.json", claude_json(workdir, placeholder)),
        // Claude Code's own installation is looked for there, and missed with a warning.
        HomeEntry::Directory(".local"),
        HomeEntry::Directory(".local/bin"),
        HomeEntry::Link(".local/bin/claude", "/usr/local/bin/claude"),
        // The user memory of Claude Code.
        HomeEntry::Directory(".claude"),
        HomeEntry::File(".claude/CLAUDE.md", manifest.memory().into_bytes()),
    ]
}

/// Puts what the home begins with beside the launcher, which carries it over as the agent's own user.
pub(super) async fn furnish(
    link: &Link,
    workdir: &str,
    placeholder: Option<&str>,
    manifest: &Manifest,
) -> Result<(), SandboxError> {
    let mut batch = Batch::new(link, Root::Launch);
    batch.add(b"home", &Entry::Directory).await?;
    for entry in fresh_home(workdir, placeholder, manifest) {
        let inside = |path: &str| [b"home/", path.as_bytes()].concat();
        match entry {
            HomeEntry::Directory(path) => batch.add(&inside(path), &Entry::Directory).await?,
            HomeEntry::Link(path, target) => batch.add(&inside(path), &Entry::Link(target.as_bytes())).await?,
            HomeEntry::File(path, content) => {
                batch.file(&inside(path), &mut std::io::Cursor::new(content)).await?;
            }
        }
    }
    batch.send().await?;
    Ok(link.flush(drop).await?)
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
