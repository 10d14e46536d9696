//! The user's own configuration of Claude Code for a sandbox.

use std::path::{Path, PathBuf};

use hyper::Method;
use hyper::header::HeaderName;
use serde_json::{Map, Value, json};
use url::Url;

use crate::claude_config::{ConfigSummary, HomeCopy, McpServers, RemoteServer, load_user_config};
use crate::cli::error::CliError;
use crate::config::{ClaudeConfigMode, Settings};
use crate::gateway::{GATEWAY_PORT, HttpRouteOptions, RouteCredential};

/// Fields of `~/.claude.json` that change only how Claude Code looks and behaves.
const KEPT_FIELDS: [&str; 6] =
    ["autoCompactEnabled", "editorMode", "hasSeenTasksHint", "theme", "tipsHistory", "verbose"];

/// The configuration for a sandbox.
#[derive(Default)]
pub(crate) struct SandboxConfig {
    pub copies: Vec<HomeCopy>,
    /// Fields of the sandbox's `~/.claude.json`.
    pub claude_json: Map<String, Value>,
    pub summary: ConfigSummary,
    /// Routes of the gateway to MCP servers.
    pub routes: Vec<HttpRouteOptions>,
}

/// Reads the configuration of the user, unless the settings omit it.
///
/// # Errors
/// The user's settings are not valid, so that the user's permission rules are unknown, or an MCP server does not exist.
pub(crate) fn read_sandbox_config(settings: &Settings, root: &Path) -> Result<SandboxConfig, CliError> {
    if settings.claude_config.unwrap_or_default() == ClaudeConfigMode::None {
        return Ok(SandboxConfig::default());
    }
    let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
    let chosen = std::env::var_os("CLAUDE_CONFIG_DIR").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let claude_dir = chosen.clone().unwrap_or_else(|| home.join(".claude"));
    let found = load_user_config(&claude_dir, &home).map_err(|problem| {
        CliError::failed(format!("failed to read your configuration of Claude Code: {problem}"))
            .with_hint("correct it, or start without it: `AIRLOCK_CLAUDE_CONFIG=none`")
    })?;
    let mut config = SandboxConfig {
        copies: found.files,
        summary: ConfigSummary { parts: found.parts, left_out: found.left_out },
        ..SandboxConfig::default()
    };
    if let Some(memory) = found.memory {
        let content = format!("# The user's own instructions\n\n{memory}").into_bytes();
        config.copies.push(HomeCopy { path: ".claude/CLAUDE.md".into(), content, executable: false });
    }
    let path = chosen.unwrap_or(home).join(".claude.json");
    let own: Value = std::fs::read(path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    for name in KEPT_FIELDS {
        config.claude_json.extend(own.get(name).map(|value| (name.to_owned(), value.clone())));
    }
    config.add_servers((&own, root), &settings.mcp.clone().unwrap_or_default().0)?;
    Ok(config)
}

impl SandboxConfig {
    fn add_servers(&mut self, (own, root): (&Value, &Path), names: &[String]) -> Result<(), CliError> {
        let servers = McpServers::select_servers(own, &root.to_string_lossy(), names).map_err(|name| {
            CliError::usage(format!("the setting mcp names {name}, but ~/.claude.json has no MCP server of that name"))
        })?;
        self.summary.left_out.extend(servers.left_out);
        let mut all = servers.local;
        for (name, server) in servers.remote {
            let route = to_route(&name, &server)
                .map_err(|problem| CliError::usage(format!("the MCP server {name} in ~/.claude.json: {problem}")))?;
            // The address itself may be a secret, and stays outside.
            let url = format!("http://127.0.0.1:{GATEWAY_PORT}/http/{}", route.name);
            all.insert(name, json!({"type": server.kind, "url": url}));
            self.routes.push(route);
        }
        if !all.is_empty() {
            let count = all.len();
            self.summary.parts.push(format!("{count} MCP server{}", if count == 1 { "" } else { "s" }));
            self.claude_json.insert("mcpServers".into(), Value::Object(all));
        }
        Ok(())
    }
}

/// Returns the route to an MCP server: exactly its address, with its first header.
fn to_route(name: &str, server: &RemoteServer) -> Result<HttpRouteOptions, String> {
    let url = Url::parse(&server.url).map_err(|error| error.to_string())?;
    if url.query().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err("its address has a query or a login, which a route cannot have".into());
    }
    // One header is added. If there are several, it is the one that is a credential by its name.
    let is_credential = |name: &str| {
        let lower = name.to_lowercase();
        ["authorization", "key", "token", "secret"].iter().any(|word| lower.contains(word))
    };
    let chosen = server.headers.iter().find(|(name, _)| is_credential(name)).or_else(|| server.headers.iter().next());
    let (header, value) = match chosen {
        Some((header, value)) => (header.as_str(), Some(value.as_str())),
        None => ("authorization", None),
    };
    let header: HeaderName = header.parse().map_err(|_| format!("{header} is not the name of a header"))?;
    let (prefix, credential) = match value {
        Some(value) => match value.strip_prefix("Bearer ") {
            Some(token) => ("Bearer ", Some(token)),
            None => ("", Some(value)),
        },
        None => ("", None),
    };
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' };
    Ok(HttpRouteOptions {
        name: format!("mcp-{}", name.chars().map(safe).collect::<String>()),
        url,
        methods: vec![Method::GET, Method::POST, Method::DELETE],
        // Only the address itself.
        paths: vec![String::new()],
        header,
        prefix: prefix.into(),
        credential: credential.map(|value| RouteCredential::Value(value.into())),
    })
}
