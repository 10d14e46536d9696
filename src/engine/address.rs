//! Finds the engine's address in `DOCKER_HOST`, the current docker context, and the default and rootless sockets.

use std::env;
use std::path::PathBuf;

use super::EngineError;

/// An address at which an engine may listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A Unix socket on this machine.
    Unix(PathBuf),
    /// `HOST:PORT`, without TLS.
    Tcp(String),
}

impl Address {
    /// Parses `unix://PATH` or `tcp://HOST:PORT`.
    pub(super) fn parse(text: &str) -> Result<Self, EngineError> {
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Self::Unix(path.into()));
        }
        match text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")) {
            Some(host) if host.contains(':') => Ok(Self::Tcp(host.trim_end_matches('/').into())),
            _ => Err(EngineError::Address { address: text.into() }),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
        }
    }
}

/// Lists the addresses to try. An address that the user chose is the only one.
pub(super) fn candidate_addresses() -> Result<Vec<Address>, EngineError> {
    let chosen = match env::var("DOCKER_HOST").ok().filter(|h| !h.is_empty()) {
        Some(host) => Some(host),
        None => context_host()?,
    };
    // Docker takes every non-empty value of these variables as set, even `0` and `false`.
    let tls_variable =
        ["DOCKER_TLS_VERIFY", "DOCKER_TLS"].into_iter().find(|n| env::var_os(n).is_some_and(|v| !v.is_empty()));
    if let Some(host) = chosen {
        let address = Address::parse(&host)?;
        return match (&address, tls_variable) {
            (Address::Tcp(_), Some(asked)) => {
                Err(EngineError::Tls { address: address.to_string(), asked: asked.into() })
            }
            _ => Ok(vec![address]),
        };
    }
    let mut found = vec![Address::Unix("/var/run/docker.sock".into())];
    if let Some(run) = env::var_os("XDG_RUNTIME_DIR") {
        found.push(Address::Unix(PathBuf::from(run).join("docker.sock")));
    }
    if let Some(home) = env::var_os("HOME") {
        found.push(Address::Unix(PathBuf::from(home).join(".docker/run/docker.sock")));
    }
    Ok(found)
}

/// Returns the host of the current docker context, or `None` for the default context.
///
/// # Errors
/// The context that the user chose does not exist, in which case no other engine is used, or it requires TLS.
fn context_host() -> Result<Option<String>, EngineError> {
    let config = match (env::var_os("DOCKER_CONFIG"), env::var_os("HOME")) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(home)) => PathBuf::from(home).join(".docker"),
        (None, None) => PathBuf::new(),
    };
    let json = |path: PathBuf| serde_json::from_slice::<serde_json::Value>(&std::fs::read(path).ok()?).ok();
    let name = match env::var("DOCKER_CONTEXT") {
        Ok(name) if !name.is_empty() => name,
        _ => {
            let settings = json(config.join("config.json")).unwrap_or_default();
            settings.get("currentContext").and_then(|name| name.as_str()).unwrap_or_default().to_owned()
        }
    };
    if matches!(name.as_str(), "" | "default") {
        return Ok(None);
    }
    let context_dir = super::sha256_hex(name.as_bytes());
    let meta = json(config.join("contexts/meta").join(&context_dir).join("meta.json")).unwrap_or_default();
    let Some(host) = meta.pointer("/Endpoints/docker/Host").and_then(|host| host.as_str()) else {
        return Err(EngineError::NoContext { name });
    };
    if config.join("contexts/tls").join(context_dir).join("docker").is_dir() {
        return Err(EngineError::Tls { address: host.to_owned(), asked: format!("the docker context {name}") });
    }
    Ok(Some(host.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_addresses_are_named() {
        assert_eq!(Address::parse("unix:///x y").expect("valid socket address"), Address::Unix("/x y".into()));
        assert_eq!(Address::parse("tcp://h:2375/").expect("valid TCP address"), Address::Tcp("h:2375".into()));
        for bad in ["ssh://host", "tcp://host", "/var/run/docker.sock", ""] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }
}
