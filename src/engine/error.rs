//! Defines the errors of engine operations, one variant for each kind of failure.

/// The attempted action when a container is started.
pub(crate) const START_ATTEMPT: &str = "start the container";

/// A failed operation on the engine.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("failed to connect to a container engine; tried {}", tried.join(", "))]
    Unreachable {
        /// Each address with the reason for its failure.
        tried: Vec<String>,
    },
    /// The socket exists, but this user may not use it.
    #[error("no permission to use the engine at {address}")]
    Forbidden { address: String },
    /// The address is not supported.
    #[error(
        "the engine address {address} is not supported: use unix://PATH, tcp://HOST:PORT, ssh://[USER@]HOST, or the name of a docker context"
    )]
    Address { address: String },
    /// The docker context that the user chose does not exist.
    #[error("the docker context {name} does not exist")]
    NoContext { name: String },
    /// The user asks for TLS without a check of the server, so that any machine could pose as the engine.
    #[error("{asked} asks for TLS without a check of the engine at {address}, which Airlock does not support")]
    UncheckedTls {
        address: String,
        /// The setting that asks for it.
        asked: String,
    },
    /// A file of the TLS connection cannot be used.
    #[error("failed to read {path} for TLS: {problem}")]
    TlsFile { path: String, problem: String },
    /// The engine is older than what Airlock needs.
    #[error("the engine at {address} is too old: it supports API {api}, Airlock requires 1.41 (Docker 20.10) or later")]
    TooOld {
        address: String,
        /// The engine's highest API version.
        api: String,
    },
    /// The engine has an object with this name that Airlock did not create.
    #[error("the engine already has a {kind} named {name} that Airlock did not create")]
    Foreign {
        /// `volume`, `image` or `container`.
        kind: &'static str,
        name: String,
    },
    /// An image build would use the host's network, which an engine that maps users does not share.
    #[error("the engine maps users (userns-remap) and has no bridge network, so an image build has no network there")]
    NoBuildNetwork,
    /// The engine refused a request.
    #[error("failed to {attempt}: {message}")]
    Refused {
        attempt: String,
        /// The engine's message, untrusted.
        message: String,
        /// The HTTP status, or 0 if there was no response.
        status: u16,
    },
    #[error("the connection to the engine failed: {0}")]
    Stream(#[from] std::io::Error),
}

impl EngineError {
    /// Returns whether a container failed to start.
    #[must_use]
    pub fn is_start_failure(&self) -> bool {
        matches!(self, Self::Refused { attempt, .. } if attempt == START_ATTEMPT)
    }

    /// Returns whether an image does not have the program of a container. Podman already notices when it attaches.
    #[must_use]
    pub fn is_missing_program(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains("executable file") && message.contains("not found"))
    }

    /// Returns whether an object cannot be removed because it is in use.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: 409, .. })
    }

    /// Returns a suggested fix, if one is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Unreachable { tried } if tried.iter().all(|address| address.starts_with("ssh://")) => {
                Some("check that `ssh HOST docker version` works with this host".into())
            }
            Self::Unreachable { tried } if tried.iter().all(|address| address.starts_with("tcp://")) => {
                Some("check the address, and that the engine listens there".into())
            }
            Self::Unreachable { .. } => Some(
                "start Docker with `sudo systemctl start docker`, or set DOCKER_HOST to a running engine".into(),
            ),
            Self::Forbidden { .. } => Some(
                "add yourself to the group docker with `sudo usermod -aG docker \"$USER\"` and log in again, or use a rootless engine".into(),
            ),
            Self::Address { .. } => Some(
                "check DOCKER_HOST, or the engine that you chose; `export DOCKER_HOST=unix:///var/run/docker.sock` is that of this machine".into(),
            ),
            Self::NoContext { name } if is_host_name(name) => Some(format!(
                "for a machine that you reach by ssh, use `ssh://{name}`; otherwise see `docker context ls`, or run `docker context use default`"
            )),
            Self::NoContext { .. } => {
                Some("list the contexts with `docker context ls`; then use one of them, or run `docker context use default` or `unset DOCKER_CONTEXT`".into())
            }
            Self::UncheckedTls { .. } => Some(
                "set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH to the folder with ca.pem, or use ssh://HOST".into(),
            ),
            Self::TlsFile { .. } => Some("check the files in DOCKER_CERT_PATH, or of the docker context".into()),
            Self::NoBuildNetwork => Some(
                "give the engine a bridge network, or load an image that was built elsewhere: `docker save airlock-agent | docker --host ADDRESS load`".into(),
            ),
            Self::TooOld { .. } => Some("install Docker 20.10 or later".into()),
            _ => None,
        }
    }
}

/// Returns whether a text could be the name of a machine, with or without a user.
fn is_host_name(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('-')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    text.split('@').count() <= 2 && text.split('@').all(is_part)
}
