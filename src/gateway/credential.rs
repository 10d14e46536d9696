//! Finds the user's credential for the model's API, and provides the placeholder of the same kind that the agent gets.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use crate::core::host_command::run_shell;

/// The kind of a credential, which determines its header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CredentialKind {
    /// `ANTHROPIC_API_KEY`, sent as `x-api-key`.
    ApiKey,
    /// `ANTHROPIC_AUTH_TOKEN`, sent as a bearer token.
    AuthToken,
    /// `CLAUDE_CODE_OAUTH_TOKEN` or Claude Code's own login, sent as a bearer token.
    OauthToken,
}

impl CredentialKind {
    /// Returns the environment variable that sets the credential.
    #[must_use]
    pub fn env_variable(self) -> &'static str {
        match self {
            Self::ApiKey => "ANTHROPIC_API_KEY",
            Self::AuthToken => "ANTHROPIC_AUTH_TOKEN",
            Self::OauthToken => "CLAUDE_CODE_OAUTH_TOKEN",
        }
    }

    /// Returns the placeholder that the agent gets instead. It determines the headers that Claude Code sends, and grants no
    /// access.
    #[must_use]
    pub fn placeholder_value(self) -> &'static str {
        match self {
            Self::ApiKey => "sk-ant-api03-airlock-placeholder-not-a-credential",
            Self::AuthToken => "airlock-placeholder-not-a-credential",
            Self::OauthToken => "sk-ant-oat01-airlock-placeholder-not-a-credential",
        }
    }
}

/// A credential. Its value is never printed.
#[derive(Clone)]
pub struct Credential {
    pub kind: CredentialKind,
    value: HeaderValue,
    /// The value of another header, for the output of an `apiKeyHelper`, which Claude Code sends in two.
    bearer: Option<HeaderValue>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credential({:?}, …)", self.kind)
    }
}

/// An error about the credential. No variant contains a part of a credential.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CredentialError {
    /// No credential is set.
    #[error("no credential for Claude: none of ANTHROPIC_API_KEY, ANTHROPIC_AUTH_TOKEN, CLAUDE_CODE_OAUTH_TOKEN is set, and {} does not exist", .0.display())]
    Missing(PathBuf),
    /// The credential cannot be sent in a header.
    #[error("the credential in {0} contains a line break or another character that a header cannot contain")]
    Malformed(String),
    /// Claude Code is set to use another provider.
    #[error("{variable} is set, but the route to the model speaks only the API of Anthropic, not {provider}")]
    OtherProvider { variable: &'static str, provider: &'static str },
    /// The command for a credential failed.
    #[error("the apiKeyHelper in {} failed: {reason}", settings.display())]
    Helper {
        settings: PathBuf,
        /// The problem, without output of the command.
        reason: String,
    },
    /// Claude Code's login has expired.
    #[error("Claude Code's login in {} has expired", .0.display())]
    Expired(PathBuf),
    /// The login file cannot be read, or does not have Claude Code's format.
    #[error("failed to read Claude Code's login from {}: {reason}", path.display())]
    Unreadable {
        path: PathBuf,
        /// The problem, without content of the file.
        reason: String,
    },
}

impl CredentialError {
    /// Returns a suggested fix. `claude` is the shell command that runs Claude Code itself outside a sandbox, if there is
    /// one.
    #[must_use]
    pub fn suggest_fix(&self, claude: Option<&str>) -> String {
        let Some(claude) = claude else {
            return "`claude` on the PATH is Airlock, and Claude Code itself does not exist: install it, then set \
                    CLAUDE_CODE_OAUTH_TOKEN from its setup-token, or set ANTHROPIC_API_KEY"
                .into();
        };
        match self {
            Self::OtherProvider { variable, .. } => {
                format!("run `env -u {variable} airlock …`, with a credential of Anthropic")
            }
            Self::Helper { .. } => "run the command of apiKeyHelper in a shell to see its error".into(),
            Self::Missing(_) => {
                format!(
                    "run `export CLAUDE_CODE_OAUTH_TOKEN=\"$({claude} setup-token)\"` or `export ANTHROPIC_API_KEY=…`"
                )
            }
            Self::Malformed(_) => {
                "set it again without the line break: `export ANTHROPIC_API_KEY=\"$(tr -d '\\n' < FILE)\"`".into()
            }
            Self::Expired(_) | Self::Unreadable { .. } => {
                format!(
                    "to renew it, run `{claude}` outside the sandbox, then /login; or set CLAUDE_CODE_OAUTH_TOKEN from `{claude} setup-token`"
                )
            }
        }
    }
}

/// The source of the credential. It is read again for each request.
#[derive(Debug, Clone)]
pub enum CredentialSource {
    /// A credential that was read once from the environment.
    Fixed(Credential),
    /// Claude Code's login file.
    File(PathBuf),
    /// The command in the user's settings that prints a credential.
    Helper(Arc<ApiKeyHelper>),
}

/// The `apiKeyHelper` of the user's Claude Code settings, which runs on the host.
#[derive(Debug)]
pub struct ApiKeyHelper {
    command: String,
    settings: PathBuf,
    /// The time for which its output is used.
    max_age: Duration,
    last: Mutex<Option<(Instant, Credential)>>,
}

/// The time for which the output of an `apiKeyHelper` is used unless `CLAUDE_CODE_API_KEY_HELPER_TTL_MS` is set, as in
/// Claude Code.
const HELPER_MAX_AGE: Duration = Duration::from_secs(300);
/// The time that an `apiKeyHelper` gets.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);

impl ApiKeyHelper {
    fn read(&self) -> Result<Credential, CredentialError> {
        let failed = |reason: String| CredentialError::Helper { settings: self.settings.clone(), reason };
        let mut last = self.last.lock().map_err(|_| failed("a thread panicked".into()))?;
        if let Some((_, credential)) = last.as_ref().filter(|(at, _)| at.elapsed() < self.max_age) {
            return Ok(credential.clone());
        }
        let output = run_shell(&self.command, HELPER_TIMEOUT).map_err(|error| failed(error.to_string()))?;
        let text = String::from_utf8(output.stdout).unwrap_or_default();
        let key = text.trim();
        if !output.status.success() || key.is_empty() {
            return Err(failed(format!("{}, {} bytes of output", output.status, text.len())));
        }
        let kind = CredentialKind::ApiKey;
        let place = "the output of apiKeyHelper";
        let bearer = Some(header_value(CredentialKind::AuthToken, key, place)?);
        let credential = Credential { kind, value: header_value(kind, key, place)?, bearer };
        *last = Some((Instant::now(), credential.clone()));
        Ok(credential)
    }
}

/// The parts of the user's Claude Code settings that concern the model's API.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaudeSettings {
    path: PathBuf,
    env: std::collections::BTreeMap<String, String>,
    api_key_helper: Option<String>,
}

impl ClaudeSettings {
    /// Reads the settings file of the user. A missing or damaged file has no settings.
    pub fn load_settings(env: impl Fn(&str) -> Option<String>) -> Self {
        let path = claude_dir(&env).join("settings.json");
        let json = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        let Some(json) = json else { return Self { path, ..Self::default() } };
        let variables = json.get("env").and_then(|env| env.as_object()).into_iter().flatten();
        let text = |value: &serde_json::Value| {
            value.as_str().map(str::to_owned).or_else(|| value.as_i64().map(|n| n.to_string()))
        };
        let env = variables.filter_map(|(name, value)| Some((name.clone(), text(value)?))).collect();
        let api_key_helper = json.get("apiKeyHelper").and_then(|helper| helper.as_str()).map(str::to_owned);
        Self { path, env, api_key_helper: api_key_helper.filter(|helper| !helper.trim().is_empty()) }
    }

    /// Returns a variable of the environment, or else of the settings. An empty one does not count.
    pub fn find_variable(&self, env: impl Fn(&str) -> Option<String>, name: &str) -> Option<String> {
        let is_set = |value: &String| !value.is_empty();
        env(name).filter(is_set).or_else(|| self.env.get(name).cloned().filter(is_set))
    }
}

fn claude_dir(env: &impl Fn(&str) -> Option<String>) -> PathBuf {
    env("CLAUDE_CONFIG_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| PathBuf::from(env("HOME").unwrap_or_default()).join(".claude"))
}

/// The variables that make Claude Code use another provider.
const OTHER_PROVIDERS: [(&str, &str); 3] = [
    ("CLAUDE_CODE_USE_BEDROCK", "that of Amazon Bedrock"),
    ("CLAUDE_CODE_USE_VERTEX", "that of Google Vertex AI"),
    ("CLAUDE_CODE_USE_FOUNDRY", "that of Microsoft Foundry"),
];

impl CredentialSource {
    /// Finds the credential in Claude Code's own order: `ANTHROPIC_AUTH_TOKEN`, `ANTHROPIC_API_KEY`, `apiKeyHelper`,
    /// `CLAUDE_CODE_OAUTH_TOKEN`, the login. Variables may come from the user's settings.
    ///
    /// # Errors
    /// No credential was found, or it cannot be used.
    pub fn find_credential(
        env: impl Fn(&str) -> Option<String>,
        settings: &ClaudeSettings,
    ) -> Result<Self, CredentialError> {
        let variable = |name: &str| settings.find_variable(&env, name);
        let is_on = |name: &str| {
            variable(name).is_some_and(|value| !matches!(value.to_lowercase().as_str(), "0" | "false" | "no" | "off"))
        };
        if let Some((variable, provider)) = OTHER_PROVIDERS.into_iter().find(|(name, _)| is_on(name)) {
            return Err(CredentialError::OtherProvider { variable, provider });
        }
        for kind in [CredentialKind::AuthToken, CredentialKind::ApiKey] {
            if let Some(value) = variable(kind.env_variable()) {
                return Ok(Self::Fixed(Credential {
                    kind,
                    value: header_value(kind, &value, kind.env_variable())?,
                    bearer: None,
                }));
            }
        }
        if let Some(command) = &settings.api_key_helper {
            let max_age = variable("CLAUDE_CODE_API_KEY_HELPER_TTL_MS").and_then(|text| text.parse().ok());
            let helper = ApiKeyHelper {
                command: command.clone(),
                settings: settings.path.clone(),
                max_age: max_age.map_or(HELPER_MAX_AGE, Duration::from_millis),
                last: Mutex::default(),
            };
            helper.read()?;
            return Ok(Self::Helper(Arc::new(helper)));
        }
        let kind = CredentialKind::OauthToken;
        if let Some(value) = variable(kind.env_variable()) {
            return Ok(Self::Fixed(Credential {
                kind,
                value: header_value(kind, &value, kind.env_variable())?,
                bearer: None,
            }));
        }
        let path = claude_dir(&env).join(".credentials.json");
        if !path.exists() {
            return Err(CredentialError::Missing(path));
        }
        let source = Self::File(path);
        source.read()?;
        Ok(source)
    }

    /// Lists the names of all credentials that are set, the one that is used first.
    pub fn list_credentials(env: impl Fn(&str) -> Option<String>, settings: &ClaudeSettings) -> Vec<&'static str> {
        let is_set =
            |kind: CredentialKind| settings.find_variable(&env, kind.env_variable()).map(|_| kind.env_variable());
        let helper = settings.api_key_helper.as_ref().map(|_| "apiKeyHelper");
        let login = claude_dir(&env).join(".credentials.json").exists().then_some("Claude Code's login");
        let [token, key, oauth] =
            [CredentialKind::AuthToken, CredentialKind::ApiKey, CredentialKind::OauthToken].map(is_set);
        [token, key, helper, oauth, login].into_iter().flatten().collect()
    }

    /// Discards a stored credential that the API refused, so that the next request gets a new one.
    pub(super) fn discard_stored(&self) {
        if let Self::Helper(helper) = self
            && let Ok(mut last) = helper.last.lock()
        {
            *last = None;
        }
    }

    /// Returns the current credential.
    ///
    /// # Errors
    /// The login file is gone, damaged or expired.
    pub fn read(&self) -> Result<Credential, CredentialError> {
        let path = match self {
            Self::Fixed(credential) => return Ok(credential.clone()),
            Self::Helper(helper) => return helper.read(),
            Self::File(path) => path,
        };
        let unreadable = |reason: &str| CredentialError::Unreadable { path: path.clone(), reason: reason.into() };
        let bytes = std::fs::read(path).map_err(|e| unreadable(&e.to_string()))?;
        let json: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_| unreadable("it is not JSON"))?;
        let login = json.get("claudeAiOauth").ok_or_else(|| unreadable("it contains no claudeAiOauth"))?;
        let token = login
            .get("accessToken")
            .and_then(|t| t.as_str())
            .ok_or_else(|| unreadable("it contains no accessToken"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis());
        if login.get("expiresAt").and_then(serde_json::Value::as_u64).is_some_and(|at| u128::from(at) <= now) {
            return Err(CredentialError::Expired(path.clone()));
        }
        let kind = CredentialKind::OauthToken;
        Ok(Credential { kind, value: header_value(kind, token, &path.display().to_string())?, bearer: None })
    }
}

fn header_value(kind: CredentialKind, value: &str, source: &str) -> Result<HeaderValue, CredentialError> {
    let text = if kind == CredentialKind::ApiKey { value.to_owned() } else { format!("Bearer {value}") };
    let mut header = HeaderValue::from_str(&text).map_err(|_| CredentialError::Malformed(source.into()))?;
    header.set_sensitive(true);
    Ok(header)
}

/// Headers by which a request could carry another credential to the model's API or to a proxy before it.
const CREDENTIAL_HEADERS: [&str; 13] = [
    "api-key",
    "authorization",
    "cookie",
    "forwarded",
    "ocp-apim-subscription-key",
    "private-token",
    "proxy-authorization",
    "x-access-token",
    "x-amz-security-token",
    "x-api-key",
    "x-api-token",
    "x-auth-token",
    "x-goog-api-key",
];

impl Credential {
    /// Returns the value that must not be in a response, without `Bearer`.
    pub(crate) fn secret_bytes(&self) -> &[u8] {
        let value = self.value.as_bytes();
        value.strip_prefix(b"Bearer ").unwrap_or(value)
    }

    /// Removes all credentials from a request, and sets this one.
    pub fn apply_to_headers(&self, headers: &mut HeaderMap) {
        for name in CREDENTIAL_HEADERS {
            headers.remove(name);
        }
        let name = match self.kind {
            CredentialKind::ApiKey => HeaderName::from_static("x-api-key"),
            _ => AUTHORIZATION,
        };
        headers.insert(name, self.value.clone());
        if let Some(bearer) = &self.bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use super::*;

    #[test]
    fn credential_is_found_validated_and_never_printed() {
        let key = |value: &'static str| move |name: &str| (name == "ANTHROPIC_API_KEY").then(|| value.to_owned());
        let none = ClaudeSettings::default();
        let source = CredentialSource::find_credential(key("sk-secret"), &none).expect("credential is set");
        assert!(!format!("{source:?}").contains("secret"));
        let error = CredentialSource::find_credential(key("sk-sec\nret"), &none).expect_err("newline in credential");
        assert!(matches!(error, CredentialError::Malformed(_)) && !error.to_string().contains("sec"));
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer foreign"));
        headers.insert("x-api-key", HeaderValue::from_static("foreign"));
        source.read().expect("readable credential").apply_to_headers(&mut headers);
        assert_eq!(headers.len(), 1);
        assert_eq!(headers["x-api-key"], "sk-secret");
    }

    #[test]
    fn login_file_is_read_for_each_request() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join(".credentials.json");
        let dir = home.path().to_str().expect("UTF-8").to_owned();
        let env = |name: &str| (name == "CLAUDE_CONFIG_DIR").then(|| dir.clone());
        assert!(matches!(
            CredentialSource::find_credential(env, &ClaudeSettings::default()),
            Err(CredentialError::Missing(_))
        ));
        let write = |expires: u64| {
            let json = serde_json::json!({"claudeAiOauth": {"accessToken": "t", "expiresAt": expires}});
            std::fs::write(&file, json.to_string()).expect("written");
        };
        write(4_102_444_800_000);
        let source =
            CredentialSource::find_credential(env, &ClaudeSettings::default()).expect("credential file exists");
        write(1);
        assert!(matches!(source.read(), Err(CredentialError::Expired(_))));
        std::fs::write(&file, "{").expect("written");
        assert!(matches!(source.read(), Err(CredentialError::Unreadable { .. })));
    }

    #[test]
    fn credentials_have_the_order_of_claude_code() {
        let home = tempfile::tempdir().expect("a directory");
        let dir = home.path().to_str().expect("UTF-8").to_owned();
        let settings = |json: serde_json::Value| {
            std::fs::write(home.path().join("settings.json"), json.to_string()).expect("written");
            ClaudeSettings::load_settings(|name| (name == "CLAUDE_CONFIG_DIR").then(|| dir.clone()))
        };
        let find = |variables: &[(&str, &str)], settings: &ClaudeSettings| {
            let env = |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
            CredentialSource::find_credential(env, settings)
                .and_then(|source| source.read())
                .map(|credential| (credential.kind, String::from_utf8_lossy(credential.secret_bytes()).into_owned()))
        };
        let none = settings(serde_json::json!({}));
        let all =
            [("ANTHROPIC_API_KEY", "key"), ("ANTHROPIC_AUTH_TOKEN", "token"), ("CLAUDE_CODE_OAUTH_TOKEN", "oauth")];
        assert_eq!(find(&all, &none).expect("set"), (CredentialKind::AuthToken, "token".into()));
        assert_eq!(find(&[all[0], all[2]], &none).expect("set"), (CredentialKind::ApiKey, "key".into()));
        let helper = settings(
            serde_json::json!({"apiKeyHelper": "printf 'from-helper\\n'", "env": {"ANTHROPIC_MODEL": "m", "N": 3}}),
        );
        assert_eq!(find(&[all[2]], &helper).expect("set"), (CredentialKind::ApiKey, "from-helper".into()));
        assert_eq!(helper.find_variable(|_| None, "ANTHROPIC_MODEL").as_deref(), Some("m"));
        let failing = settings(serde_json::json!({"apiKeyHelper": "echo secret-text; exit 3"}));
        let error = find(&[], &failing).expect_err("the command fails").to_string();
        assert!(error.contains("exit status: 3") && !error.contains("secret-text"), "{error}");
        let variables = settings(serde_json::json!({"env": {"ANTHROPIC_AUTH_TOKEN": "from-settings"}}));
        assert_eq!(find(&[all[0]], &variables).expect("set").1, "from-settings");
        let bedrock = find(&[("CLAUDE_CODE_USE_BEDROCK", "1"), all[0]], &none).expect_err("another provider");
        assert!(bedrock.to_string().contains("Bedrock"), "{bedrock}");
        assert!(find(&[("CLAUDE_CODE_USE_VERTEX", "0"), all[0]], &none).is_ok());
    }
}
