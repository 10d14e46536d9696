//! The initial files of the agent's home: answers to Claude Code's first-run questions, and a description of the
//! workspace.

use serde_json::{Map, Value, json};

use super::client_files::{HomeFile, client_files};
use super::request::NetworkRequest;
use crate::base::Manifest;
use crate::gateway::NetworkLevel;

/// Returns the initial entries of the home as arguments of the launcher, parents first. The launcher creates the
/// missing ones as the agent's own user. The certificate of the sandbox's authority belongs to its network.
pub(crate) fn home_files(
    (workdir, fields): (&str, &Map<String, Value>),
    placeholder: Option<&str>,
    manifest: &Manifest,
    network: Option<(&NetworkRequest, &str)>,
) -> Vec<String> {
    let claude_json = claude_json((workdir, fields), placeholder);
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
    let mut words: Vec<String> = entries.into_iter().flatten().map(|&word| word.to_owned()).collect();
    let files = network.map(|(network, certificate)| client_files(network, certificate)).unwrap_or_default();
    for HomeFile { kind, path, content } in files {
        words.extend([kind.to_owned(), path]);
        words.extend(content);
    }
    words
}

/// Describes the network to the agent.
pub(super) fn describe_network(network: Option<&NetworkRequest>) -> String {
    let Some(network) = network else { return "There is no network.".into() };
    let refused = "For any other host, ask the user to run `airlock allow` with the name of the sandbox and the host; the refusal has the command.";
    match network.gateway.level {
        NetworkLevel::None | NetworkLevel::Model => format!("The network reaches only the model's API. {refused}"),
        NetworkLevel::Packages => {
            let names = network.gateway.packages.list_clients().join(", ");
            let clients = if names.is_empty() {
                String::new()
            } else {
                format!("package clients ({names}) can install, but not publish; ")
            };
            format!(
                "The network reaches the model's API; {clients}git can fetch from the repository's remotes, but not push. {refused}"
            )
        }
        NetworkLevel::Open => {
            "The network reaches public hosts through an HTTP proxy, and every request is recorded.".into()
        }
    }
}

/// Returns the content of `~/.claude.json`: onboarding done, the placeholder key approved, the workspace trusted.
fn claude_json((workdir, fields): (&str, &Map<String, Value>), placeholder: Option<&str>) -> String {
    // Claude Code remembers an approved key by its last 20 characters.
    let approved: Vec<&str> = placeholder.map(|p| &p[p.len().saturating_sub(20)..]).into_iter().collect();
    let mut value = json!({
        "hasCompletedOnboarding": true,
        "theme": "dark",
        "installMethod": "global",
        "autoUpdates": false,
        "customApiKeyResponses": {"approved": approved, "rejected": []},
        "projects": {workdir: {
            "hasTrustDialogAccepted": true, "hasCompletedProjectOnboarding": true, "allowedTools": [],
        }},
    });
    if let Value::Object(all) = &mut value {
        all.extend(fields.clone());
    }
    value.to_string()
}
