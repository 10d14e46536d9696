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
/// Prefixes of variables that change only how Claude Code behaves.
const KEPT_VARIABLES: [&str; 11] = [
    "ANTHROPIC_DEFAULT_",
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "BASH_",
    "CLAUDE_AUTOCOMPACT_",
    "CLAUDE_BASH_",
    "CLAUDE_CODE_",
    "DISABLE_",
    "MAX_",
    "MCP_",
    "SLASH_COMMAND_",
];
/// Words in the names of variables that may be credentials, or that concern programs and paths of this machine.
const PRIVATE_WORDS: [&str; 14] = [
    "API_KEY",
    "AUTH",
    "CERT",
    "CREDENTIAL",
    "DIR",
    "HEADERS",
    "HELPER",
    "HOST",
    "PASS",
    "PATH",
    "PROXY",
    "SECRET",
    "TOKEN",
    "USE_",
];

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

    /// Adds the rules. A mode that asks for no permission is one for this machine's user to choose each time.
    fn add_permissions(&mut self, value: Value) {
        let Value::Object(mut rules) = value else { return self.leave_out("permissions".into()) };
        if rules.remove("additionalDirectories").is_some() {
            self.leave_out("permissions.additionalDirectories".into());
        }
        if rules.get("defaultMode").and_then(Value::as_str) == Some("bypassPermissions") {
            rules.remove("defaultMode");
            self.leave_out("permissions.defaultMode".into());
        }
        if !rules.is_empty() {
            self.values.insert("permissions".into(), Value::Object(rules));
        }
    }

    fn add_variables(&mut self, value: Value) {
        let Value::Object(variables) = value else { return self.leave_out("env".into()) };
        let mut kept = Map::new();
        for (name, value) in variables {
            let is_behavior = KEPT_VARIABLES.iter().any(|prefix| name.starts_with(prefix));
            // A model may have TOKENS in its name: `MAX_OUTPUT_TOKENS` is a number.
            let is_private = PRIVATE_WORDS.iter().any(|word| name.replace("_TOKENS", "").contains(word));
            if is_behavior && !is_private {
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
            "ANTHROPIC_AUTH_TOKEN": "x", "ANTHROPIC_API_KEY": "x", "ANTHROPIC_CUSTOM_HEADERS": "x", "DATABASE_URL": "x",
            "CLAUDE_CODE_OAUTH_TOKEN": "x", "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "9", "MAX_THINKING_TOKENS": "1",
            "BASH_DEFAULT_TIMEOUT_MS": "5", "CLAUDE_CODE_USE_BEDROCK": "1", "MCP_OAUTH_CLIENT_SECRET": "x", "HTTPS_PROXY": "x",
        });
        let (values, left_out) = filter(&serde_json::json!({"env": env}));
        let kept: Vec<&String> = values["env"].as_object().expect("an object").keys().collect();
        assert_eq!(kept, ["BASH_DEFAULT_TIMEOUT_MS", "CLAUDE_CODE_MAX_OUTPUT_TOKENS", "MAX_THINKING_TOKENS"]);
        assert_eq!(left_out.len(), 8);
    }

    #[test]
    fn damaged_settings_are_an_error() {
        assert!(filter_settings("{").is_err() && filter_settings("[]").is_err());
        assert_eq!(filter_settings("{}"), Ok(FilteredSettings::default()));
        assert_eq!(filter(&serde_json::json!({"permissions": 1, "env": 2})).1, ["env", "permissions"]);
    }
}
