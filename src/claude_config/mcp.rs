//! The user's MCP servers that a sandbox gets, by name.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::LeftOut;
use super::settings::may_hold_secret;

/// MCP servers for the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct McpServers {
    /// Those whose program runs in the sandbox, for its `~/.claude.json`.
    pub local: Map<String, Value>,
    /// The addresses of those behind HTTP, with their headers, which the gateway adds.
    pub remote: BTreeMap<String, RemoteServer>,
    pub left_out: Vec<LeftOut>,
}

/// An MCP server behind HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteServer {
    pub url: String,
    /// Its transport, `http` or `sse`.
    pub kind: String,
    pub headers: BTreeMap<String, String>,
}

impl McpServers {
    /// Selects servers of the user's `~/.claude.json` by name: those of the project, or else those of all projects. A variable
    /// of a program is left out: it may be a credential.
    ///
    /// # Errors
    /// The name that no server has.
    pub fn select_servers(claude_json: &Value, project: &str, names: &[String]) -> Result<Self, String> {
        let mut found = Self::default();
        for name in names {
            let of_project = claude_json.get("projects").and_then(|all| all.get(project));
            let find = |all: &'_ Value| all.get("mcpServers")?.get(name).cloned();
            let Some(server) = of_project.and_then(find).or_else(|| find(claude_json)) else {
                return Err(name.clone());
            };
            let text = |key: &str| server.get(key).and_then(Value::as_str).map(str::to_owned);
            let kind = text("type").unwrap_or_else(|| "stdio".into());
            match (kind.as_str(), text("url"), text("command")) {
                ("http" | "sse", Some(url), _) => {
                    let headers = server.get("headers").and_then(Value::as_object).into_iter().flatten();
                    let headers =
                        headers.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
                    found.remote.insert(name.clone(), RemoteServer { url, kind, headers });
                }
                ("stdio", _, Some(_)) if server.get("args").is_some_and(|args| may_hold_secret(&args.to_string())) => {
                    let reason = "its arguments may hold a credential";
                    found.left_out.push(LeftOut::new(format!("MCP server {name}"), reason));
                }
                ("stdio", _, Some(command)) => {
                    let mut kept = Map::from_iter([("command".to_owned(), Value::String(command))]);
                    kept.extend(server.get("args").map(|args| ("args".to_owned(), args.clone())));
                    let variables = server.get("env").and_then(Value::as_object).into_iter().flat_map(Map::keys);
                    found.left_out.extend(variables.map(|variable| {
                        let name = format!("MCP server {name}: {variable}");
                        LeftOut::new(name, "it may be a credential; `--env` passes a variable")
                    }));
                    found.local.insert(name.clone(), Value::Object(kept));
                }
                _ => {
                    let reason = "only stdio, http and sse servers are known";
                    found.left_out.push(LeftOut::new(format!("MCP server {name}"), reason));
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_selected_by_name() {
        let json = serde_json::json!({"mcpServers": {
            "files": {"command": "npx", "args": ["-y", "x"], "env": {"KEY": "secret"}},
            "web": {"type": "http", "url": "https://mcp.example.org/x", "headers": {"Authorization": "Bearer s"}},
            "other": {"command": "y"}, "socket": {"type": "ws", "url": "wss://x"},
            "remote": {"command": "npx", "args": ["mcp-remote", "--header", "Authorization: Bearer planted"]},
        }, "projects": {"/p": {"mcpServers": {"local": {"command": "z"}}}}});
        let names = ["files", "web", "socket", "remote"].map(str::to_owned);
        let found = McpServers::select_servers(&json, "/p", &names).expect("found");
        let one = |project: &str, name: &str| McpServers::select_servers(&json, project, &[name.to_owned()]);
        assert_eq!(one("/p", "local").expect("found").local["local"]["command"], "z");
        assert_eq!((one("/other", "local"), one("/p", "missing")), (Err("local".into()), Err("missing".into())));
        assert_eq!(Value::Object(found.local), serde_json::json!({"files": {"command": "npx", "args": ["-y", "x"]}}));
        assert_eq!(found.remote["web"].headers["Authorization"], "Bearer s");
        let left: Vec<String> = found.left_out.into_iter().map(|left| left.name).collect();
        assert_eq!(left, ["MCP server files: KEY", "MCP server socket", "MCP server remote"]);
    }
}
