//! Finds the user's credential for the model's API, and provides the placeholder of the same kind that the agent gets.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

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
}

impl CredentialSource {
    /// Finds the credential in the environment, or else in Claude Code's login.
    ///
    /// # Errors
    /// No credential was found, or it cannot be used.
    pub fn find_credential(env: impl Fn(&str) -> Option<String>) -> Result<Self, CredentialError> {
        for kind in [CredentialKind::ApiKey, CredentialKind::AuthToken, CredentialKind::OauthToken] {
            if let Some(value) = env(kind.env_variable()).filter(|v| !v.is_empty()) {
                return Ok(Self::Fixed(Credential { kind, value: header_value(kind, &value, kind.env_variable())? }));
            }
        }
        let dir = env("CLAUDE_CONFIG_DIR")
            .map(PathBuf::from)
            .unwrap_or_else(|| PathBuf::from(env("HOME").unwrap_or_default()).join(".claude"));
        let path = dir.join(".credentials.json");
        if !path.exists() {
            return Err(CredentialError::Missing(path));
        }
        let source = Self::File(path);
        source.read()?;
        Ok(source)
    }

    /// Returns the current credential.
    ///
    /// # Errors
    /// The login file is gone, damaged or expired.
    pub fn read(&self) -> Result<Credential, CredentialError> {
        let path = match self {
            Self::Fixed(credential) => return Ok(credential.clone()),
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
        Ok(Credential { kind, value: header_value(kind, token, &path.display().to_string())? })
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
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use super::*;

    #[test]
    fn credential_is_found_validated_and_never_printed() {
        let key = |value: &'static str| move |name: &str| (name == "ANTHROPIC_API_KEY").then(|| value.to_owned());
        let source = CredentialSource::find_credential(key("sk-secret")).expect("credential is set");
        assert!(!format!("{source:?}").contains("secret"));
        let error = CredentialSource::find_credential(key("sk-sec\nret")).expect_err("newline in credential");
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
        assert!(matches!(CredentialSource::find_credential(env), Err(CredentialError::Missing(_))));
        let write = |expires: u64| {
            let json = serde_json::json!({"claudeAiOauth": {"accessToken": "t", "expiresAt": expires}});
            std::fs::write(&file, json.to_string()).expect("written");
        };
        write(4_102_444_800_000);
        let source = CredentialSource::find_credential(env).expect("credential file exists");
        write(1);
        assert!(matches!(source.read(), Err(CredentialError::Expired(_))));
        std::fs::write(&file, "{").expect("written");
        assert!(matches!(source.read(), Err(CredentialError::Unreadable { .. })));
    }
}
