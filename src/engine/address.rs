//! Finds the engine's address: in the user's choice, `DOCKER_HOST`, the current docker context, and the default and rootless
//! sockets.

use std::env;
use std::path::{Path, PathBuf};

use super::EngineError;

/// An address at which an engine may listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    /// A Unix socket on this machine.
    Unix(PathBuf),
    /// `HOST:PORT`, without TLS.
    Tcp(String),
    /// `HOST:PORT`, over TLS, checked.
    Tls { host: String, files: TlsFiles },
    /// A machine on which `ssh` runs the docker client.
    Ssh(SshTarget),
}

/// Whether `ssh` may ask the user for a passphrase or the key of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Questions {
    Allowed,
    Forbidden,
}

/// The files of a TLS connection, in PEM format.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TlsFiles {
    /// The certificates of authorities; `None` for those of the system.
    pub authorities: Option<PathBuf>,
    /// The client's certificate and key.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl TlsFiles {
    /// Finds docker's TLS files in a directory.
    fn find_in(dir: &Path) -> Self {
        let file = |name: &str| Some(dir.join(name)).filter(|path| path.exists());
        Self { authorities: file("ca.pem"), client: file("cert.pem").zip(file("key.pem")) }
    }
}

/// A machine and how `ssh` gets to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SshTarget {
    /// The machine: `HOST` or `USER@HOST`.
    pub destination: String,
    pub port: Option<u16>,
    /// The engine's socket on that machine, if it is not docker's default there.
    pub socket: Option<String>,
}

impl SshTarget {
    fn parse(text: &str) -> Option<Self> {
        let (authority, path) = text.find('/').map_or((text, ""), |at| text.split_at(at));
        // A bracketed IPv6 address has colons, but no port after the last one.
        let (destination, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().ok()?)),
            _ => (authority, None),
        };
        let (user, host) = destination.rsplit_once('@').map_or((None, destination), |(user, host)| (Some(user), host));
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        // A password in the address would be visible to all users of this machine.
        let is_valid = !host.is_empty() && !host.starts_with('-') && user.is_none_or(is_user_name);
        let destination = user.map_or_else(|| host.to_owned(), |user| format!("{user}@{host}"));
        let socket = Some(path).filter(|path| path.len() > 1).map(str::to_owned);
        is_valid.then_some(Self { destination, port, socket })
    }
}

fn is_user_name(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && !text.contains(':')
}

impl Address {
    /// Parses `unix://PATH`, `tcp://HOST:PORT` or `ssh://[USER@]HOST[:PORT][/SOCKET]`. `tls` makes a TCP address one with TLS.
    pub(super) fn parse(text: &str, tls: Option<TlsFiles>) -> Result<Self, EngineError> {
        let unknown = || EngineError::Address { address: text.into() };
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Self::Unix(path.into()));
        }
        if let Some(target) = text.strip_prefix("ssh://") {
            return SshTarget::parse(target).map(Self::Ssh).ok_or_else(unknown);
        }
        let (host, tls) = match text.strip_prefix("https://") {
            Some(host) => (host, Some(tls.unwrap_or_default())),
            None => (text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")).ok_or_else(unknown)?, tls),
        };
        let host = host.trim_end_matches('/');
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        match tls {
            _ if host.is_empty() || host.contains('/') => Err(unknown()),
            Some(files) => {
                let host = if has_port { host.to_owned() } else { format!("{host}:2376") };
                Ok(Self::Tls { host, files })
            }
            None if has_port => Ok(Self::Tcp(host.to_owned())),
            None => Err(unknown()),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp(host) => write!(f, "tcp://{host}"),
            Self::Tls { host, .. } => write!(f, "tcp://{host} (TLS)"),
            Self::Ssh(SshTarget { destination, port, socket }) => {
                let port = port.map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "ssh://{destination}{port}{}", socket.as_deref().unwrap_or_default())
            }
        }
    }
}

/// Lists the addresses to try: of the engine that the user chose by address or docker context, or of that of the environment.
/// A chosen one is the only one.
pub(super) fn candidate_addresses(choice: Option<&str>) -> Result<Vec<Address>, EngineError> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let chosen = match choice {
        Some(address) if address.contains("://") => Some(Address::parse(address, tls_of_environment(address)?)?),
        Some("default") => None,
        Some(context) => Some(context_address(context)?),
        None => match variable("DOCKER_HOST") {
            Some(host) => Some(Address::parse(&host, tls_of_environment(&host)?)?),
            None => current_context().map(|name| context_address(&name)).transpose()?,
        },
    };
    if let Some(address) = chosen {
        return Ok(vec![address]);
    }
    let below = |variable: &str, path: &str| env::var_os(variable).map(|dir| PathBuf::from(dir).join(path));
    let sockets = [
        Some("/var/run/docker.sock".into()),
        below("XDG_RUNTIME_DIR", "docker.sock"),
        below("HOME", ".docker/run/docker.sock"),
        below("XDG_RUNTIME_DIR", "podman/podman.sock"),
        Some("/run/podman/podman.sock".into()),
    ];
    Ok(sockets.into_iter().flatten().map(Address::Unix).collect())
}

/// Returns the choice as a sandbox records it: without the variables that this process has, an address with TLS is still one.
#[must_use]
pub fn recorded_choice(choice: &str) -> String {
    match (choice.strip_prefix("tcp://"), tls_of_environment(choice)) {
        (Some(host), Ok(Some(_))) => format!("https://{host}"),
        _ => choice.to_owned(),
    }
}

/// Returns the TLS files that docker's variables name, or `None` if they do not ask for TLS.
///
/// # Errors
/// They ask for TLS without a check of the server.
fn tls_of_environment(address: &str) -> Result<Option<TlsFiles>, EngineError> {
    // Docker takes every non-empty value of these variables as set, even `0` and `false`.
    let is_set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    if address.starts_with("unix://") || address.starts_with("ssh://") {
        return Ok(None);
    }
    match (is_set("DOCKER_TLS_VERIFY") || address.starts_with("https://"), is_set("DOCKER_TLS")) {
        (true, _) => {
            let dir = env::var_os("DOCKER_CERT_PATH").map_or_else(docker_config, PathBuf::from);
            Ok(Some(TlsFiles::find_in(&dir)))
        }
        (false, true) => Err(EngineError::UncheckedTls { address: address.into(), asked: "DOCKER_TLS".into() }),
        (false, false) => Ok(None),
    }
}

fn docker_config() -> PathBuf {
    match (env::var_os("DOCKER_CONFIG"), env::var_os("HOME")) {
        (Some(folder), _) => PathBuf::from(folder),
        (None, Some(home)) => PathBuf::from(home).join(".docker"),
        (None, None) => PathBuf::new(),
    }
}

fn read_json(path: PathBuf) -> Option<serde_json::Value> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Returns the name of the current docker context, unless it is the default one.
fn current_context() -> Option<String> {
    let name = match env::var("DOCKER_CONTEXT") {
        Ok(name) if !name.is_empty() => name,
        _ => {
            let settings = read_json(docker_config().join("config.json")).unwrap_or_default();
            settings.get("currentContext").and_then(|name| name.as_str()).unwrap_or_default().to_owned()
        }
    };
    Some(name).filter(|name| !matches!(name.as_str(), "" | "default"))
}

/// Returns the address of a docker context.
///
/// # Errors
/// The context does not exist, in which case no other engine is used, or it asks for TLS without a check of the server.
fn context_address(name: &str) -> Result<Address, EngineError> {
    let config = docker_config();
    let context_dir = super::sha256_hex(name.as_bytes());
    let meta = read_json(config.join("contexts/meta").join(&context_dir).join("meta.json")).unwrap_or_default();
    let Some(host) = meta.pointer("/Endpoints/docker/Host").and_then(|host| host.as_str()) else {
        return Err(EngineError::NoContext { name: name.to_owned() });
    };
    let tls_dir = config.join("contexts/tls").join(context_dir).join("docker");
    let tls = tls_dir.is_dir().then(|| TlsFiles::find_in(&tls_dir));
    let is_unchecked = meta.pointer("/Endpoints/docker/SkipTLSVerify").and_then(serde_json::Value::as_bool);
    if is_unchecked == Some(true) {
        return Err(EngineError::UncheckedTls {
            address: host.to_owned(),
            asked: format!("the docker context {name}"),
        });
    }
    Address::parse(host, tls)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> String {
        Address::parse(text, None).map_or_else(|_| "-".into(), |address| format!("{address:?}"))
    }

    #[test]
    fn unusable_addresses_are_refused() {
        assert_eq!(parse("unix:///x y"), "Unix(\"/x y\")");
        assert_eq!(parse("tcp://h:2375/"), "Tcp(\"h:2375\")");
        for bad in
            ["tcp://host", "tcp://", "tcp://h:1/path", "/var/run/docker.sock", "", "ssh://", "ssh://-oProxyCommand=x"]
        {
            assert!(Address::parse(bad, None).is_err(), "{bad}");
        }
        for bad in ["ssh://user:password@host", "ssh://-l@host", "ssh://host:port", "ssh:///path"] {
            assert!(Address::parse(bad, None).is_err(), "{bad}");
        }
        let tls = |text: &str| Address::parse(text, Some(TlsFiles::default())).map(|address| address.to_string()).ok();
        assert_eq!(tls("tcp://h").as_deref(), Some("tcp://h:2376 (TLS)"));
        assert_eq!(tls("tcp://[::1]:99").as_deref(), Some("tcp://[::1]:99 (TLS)"));
    }

    #[test]
    fn ssh_destinations_are_parsed() {
        let target = |text: &str| match Address::parse(text, None) {
            Ok(Address::Ssh(target)) => (target.destination, target.port, target.socket),
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(target("ssh://box"), ("box".into(), None, None));
        assert_eq!(target("ssh://ann@box:2222/"), ("ann@box".into(), Some(2222), None));
        assert_eq!(target("ssh://ann@[::1]:22/run/d.sock"), ("ann@::1".into(), Some(22), Some("/run/d.sock".into())));
        assert_eq!(target("ssh://[fe80::1]"), ("fe80::1".into(), None, None));
    }
}
