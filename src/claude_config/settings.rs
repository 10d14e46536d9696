//! Filters the user's `settings.json`.

use serde_json::{Map, Value};

use super::LeftOut;

/// The settings of a user that a sandbox gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FilteredSettings {
    /// The settings; empty if nothing remains.
    pub values: Map<String, Value>,
    pub left_out: Vec<LeftOut>,
}

/// Settings that change only how Claude Code behaves.
const KEPT: [&str; 31] = [
    "agent",
    "alwaysThinkingEnabled",
    "attribution",
    "autoCompactEnabled",
    "autoMemoryEnabled",
    "availableModels",
    "cleanupPeriodDays",
    "companyAnnouncements",
    "disableAllHooks",
    "disabledMcpjsonServers",
    "editorMode",
    "effortLevel",
    "enableAllProjectMcpServers",
    "enabledMcpjsonServers",
    "fastMode",
    "feedbackSurveyRate",
    "includeCoAuthoredBy",
    "includeGitInstructions",
    "language",
    "model",
    "outputStyle",
    "plansDirectory",
    "prefersReducedMotion",
    "respectGitignore",
    "showTurnDuration",
    "spinnerTipsEnabled",
    "spinnerVerbs",
    "syntaxHighlightingDisabled",
    "theme",
    "verbose",
    "viewMode",
];
/// Settings that are left out, with the reason.
const LEFT_OUT: [(&str, &str); 16] = [
    ("apiKeyHelper", "it runs on this machine, for the gateway"),
    ("awsAuthRefresh", "it is a command of this machine"),
    ("awsCredentialExport", "it is a command of this machine"),
    ("enabledPlugins", "plugins are not brought along"),
    ("extraKnownMarketplaces", "plugins are not brought along"),
    ("fileSuggestion", "it is a command of this machine"),
    ("forceLoginMethod", "the gateway has the login"),
    ("forceLoginOrgUUID", "the gateway has the login"),
    ("gcpAuthRefresh", "it is a command of this machine"),
    ("hooks", "they are commands of this machine"),
    ("otelHeadersHelper", "it is a command of this machine"),
    ("permissions.additionalDirectories", "they are directories of this machine"),
    ("permissions.defaultMode", "to skip all permissions has to be asked for in each sandbox"),
    ("sandbox", "Airlock is the sandbox"),
    ("statusLine", "it is a command of this machine"),
    ("subagentStatusLine", "it is a command of this machine"),
];
/// Variables that change only how Claude Code behaves. Any other may be a credential, or a path of this machine.
const KEPT_VARIABLES: [&str; 32] = [
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "BASH_DEFAULT_TIMEOUT_MS",
    "BASH_MAX_OUTPUT_LENGTH",
    "BASH_MAX_TIMEOUT_MS",
    "CLAUDE_AUTOCOMPACT_PCT_OVERRIDE",
    "CLAUDE_BASH_MAINTAIN_PROJECT_WORKING_DIR",
    "CLAUDE_CODE_AUTO_COMPACT_WINDOW",
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS",
    "CLAUDE_CODE_DISABLE_TERMINAL_TITLE",
    "CLAUDE_CODE_EFFORT_LEVEL",
    "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
    "CLAUDE_CODE_SUBAGENT_MODEL",
    "DISABLE_AUTOUPDATER",
    "DISABLE_AUTO_COMPACT",
    "DISABLE_COMPACT",
    "DISABLE_COST_WARNINGS",
    "DISABLE_ERROR_REPORTING",
    "DISABLE_FEEDBACK_COMMAND",
    "DISABLE_INTERLEAVED_THINKING",
    "DISABLE_PROMPT_CACHING",
    "DISABLE_TELEMETRY",
    "ENABLE_TOOL_SEARCH",
    "MAX_MCP_OUTPUT_TOKENS",
    "MAX_THINKING_TOKENS",
    "MCP_TIMEOUT",
    "MCP_TOOL_TIMEOUT",
    "SLASH_COMMAND_TOOL_CHAR_BUDGET",
];
/// Lists of permission rules.
const RULES: [&str; 3] = ["deny", "ask", "allow"];
/// Modes in which a permission is asked for, or denied.
const KEPT_MODES: [&str; 5] = ["acceptEdits", "auto", "default", "dontAsk", "plan"];

/// Returns whether a text may hold a credential: an assignment, a login in an address, or a word that says so.
#[must_use]
pub(super) fn may_hold_secret(text: &str) -> bool {
    let lower = text.to_lowercase();
    let words = ["authorization", "bearer", "api-key", "api_key", "apikey", "password", "passwd", "secret", "token"];
    let is_name =
        |word: &str| word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    let has_assignment = text
        .split(|c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '\''))
        .any(|word| word.split_once('=').is_some_and(|(name, _)| is_name(name)));
    let has_login =
        lower.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().unwrap_or_default().contains('@'));
    has_assignment || has_login || words.iter().any(|word| lower.contains(word))
}

/// Filters settings. `text` is the content of the file.
///
/// # Errors
/// It is not a JSON object; the rules that it may have are then unknown.
pub fn filter_settings(text: &str) -> Result<FilteredSettings, String> {
    let parsed: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let Value::Object(fields) = parsed else { return Err("it is not an object".into()) };
    let mut filtered = FilteredSettings::default();
    for (name, value) in fields {
        match name.as_str() {
            "permissions" => filtered.add_permissions(value),
            "env" => filtered.add_variables(value),
            "$schema" => {}
            _ if KEPT.contains(&name.as_str()) => drop(filtered.values.insert(name, value)),
            _ => filtered.leave_out(name),
        }
    }
    Ok(filtered)
}

impl FilteredSettings {
    fn leave_out(&mut self, name: String) {
        let reason =
            LEFT_OUT.iter().find(|(known, _)| *known == name).map_or("it is not known to Airlock", |(_, why)| why);
        self.left_out.push(LeftOut::new(name, reason));
    }

    /// Adds the rules. A mode that asks for no permission is one for this machine's user to choose each time. An approval may
    /// hold a credential; it is left out then, and a denial is widened to the whole tool.
    fn add_permissions(&mut self, value: Value) {
        let Value::Object(given) = value else { return self.leave_out("permissions".into()) };
        let mut rules = Map::new();
        for (name, value) in given {
            match (name.as_str(), value) {
                (list, Value::Array(texts)) if RULES.contains(&list) => {
                    let mut kept: Vec<Value> = Vec::new();
                    for text in texts.iter().filter_map(Value::as_str) {
                        let tool = text.split('(').next().unwrap_or_default();
                        if !may_hold_secret(text) {
                            kept.push(text.into());
                            continue;
                        }
                        let reason = "a rule may hold a credential";
                        self.left_out.push(LeftOut::new(format!("permissions.{list}: {tool}(…)"), reason));
                        if list != "allow" {
                            kept.push(tool.into());
                        }
                    }
                    rules.insert(name, kept.into());
                }
                ("defaultMode", Value::String(mode)) if KEPT_MODES.contains(&mode.as_str()) => {
                    rules.insert(name, mode.into());
                }
                ("disableBypassPermissionsMode", value) => drop(rules.insert(name, value)),
                _ => self.leave_out(format!("permissions.{name}")),
            }
        }
        if !rules.is_empty() {
            self.values.insert("permissions".into(), Value::Object(rules));
        }
    }

    fn add_variables(&mut self, value: Value) {
        let Value::Object(variables) = value else { return self.leave_out("env".into()) };
        let mut kept = Map::new();
        for (name, value) in variables {
            if KEPT_VARIABLES.binary_search(&name.as_str()).is_ok() {
                kept.insert(name, value);
            } else {
                self.left_out
                    .push(LeftOut::new(format!("env.{name}"), "it may be a credential or a path; `--env` passes one"));
            }
        }
        if !kept.is_empty() {
            self.values.insert("env".into(), Value::Object(kept));
        }
    }

    /// Returns the number of permission rules.
    #[must_use]
    pub fn count_rules(&self) -> usize {
        let rules = self.values.get("permissions").and_then(Value::as_object).into_iter().flat_map(Map::values);
        rules.filter_map(Value::as_array).map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(value: &Value) -> (Value, Vec<String>) {
        let filtered = filter_settings(&value.to_string()).expect("valid");
        (Value::Object(filtered.values), filtered.left_out.into_iter().map(|left| left.name).collect())
    }

    #[test]
    fn rules_are_kept_and_commands_are_not() {
        let settings = serde_json::json!({
            "permissions": {
                "deny": ["Bash(rm:*)"], "allow": ["Bash(make:*)"], "additionalDirectories": ["/etc"],
                "defaultMode": "bypassPermissions",
            },
            "hooks": {"PreToolUse": []}, "apiKeyHelper": "cat key", "statusLine": {"type": "command", "command": "x"},
            "sandbox": {"enabled": true}, "enabledPlugins": {"a@b": true}, "model": "opus", "someday": {"secret": 1},
        });
        let (values, left_out) = filter(&settings);
        let expected = serde_json::json!({
            "permissions": {"deny": ["Bash(rm:*)"], "allow": ["Bash(make:*)"]}, "model": "opus",
        });
        assert_eq!(values, expected);
        let names = [
            "apiKeyHelper",
            "enabledPlugins",
            "hooks",
            "permissions.additionalDirectories",
            "permissions.defaultMode",
            "sandbox",
            "someday",
            "statusLine",
        ];
        assert_eq!(left_out, names);
        assert_eq!(
            filter(&serde_json::json!({"permissions": {"defaultMode": "plan"}})).0["permissions"]["defaultMode"],
            "plan"
        );
    }

    #[test]
    fn variables_that_may_be_secrets_are_left_out() {
        let env = serde_json::json!({
            "ANTHROPIC_AUTH_TOKEN": "x", "ANTHROPIC_API_KEY": "x", "ANTHROPIC_CUSTOM_HEADERS": "x", "DATABASE_URL": "x", "MCP_ACCESS_KEY": "x",
            "CLAUDE_CODE_OAUTH_TOKEN": "x", "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "9", "MAX_THINKING_TOKENS": "1",
            "BASH_DEFAULT_TIMEOUT_MS": "5", "CLAUDE_CODE_USE_BEDROCK": "1", "MCP_OAUTH_CLIENT_SECRET": "x", "HTTPS_PROXY": "x",
        });
        let (values, left_out) = filter(&serde_json::json!({"env": env}));
        let kept: Vec<&String> = values["env"].as_object().expect("an object").keys().collect();
        assert_eq!(kept, ["BASH_DEFAULT_TIMEOUT_MS", "CLAUDE_CODE_MAX_OUTPUT_TOKENS", "MAX_THINKING_TOKENS"]);
        assert!(KEPT_VARIABLES.is_sorted());
        assert_eq!(left_out.len(), 9);
    }

    #[test]
    fn rules_with_credentials_are_left_out_or_widened() {
        let rules = serde_json::json!({
            "allow": ["Bash(PGPASSWORD=x psql:*)", "Bash(curl -H 'Authorization: Bearer x')", "Bash(git clone https://u:p@h/x)", "Bash(make CC=gcc)"],
            "deny": ["Bash(DB_PASS=x rm:*)", "Read(./.env)"], "ask": [], "other": ["x"],
        });
        let (values, left_out) = filter(&serde_json::json!({"permissions": rules}));
        let expected = serde_json::json!({"permissions": {"allow": [], "deny": ["Bash", "Read(./.env)"], "ask": []}});
        assert_eq!(values, expected);
        assert_eq!(left_out.len(), 6, "{left_out:?}");
        assert!(left_out.iter().all(|name| !name.contains("psql")));
    }

    #[test]
    fn damaged_settings_are_an_error() {
        assert!(filter_settings("{").is_err() && filter_settings("[]").is_err());
        assert_eq!(filter_settings("{}"), Ok(FilteredSettings::default()));
        assert_eq!(filter(&serde_json::json!({"permissions": 1, "env": 2})).1, ["env", "permissions"]);
    }
}
