//! The host side of the sandbox's network: the connections of the tunnel, and the routes for the requests in them.
//!
//! *Architecture invariant:* credentials exist only in this process. They are set on outgoing requests, and never written
//! to the tunnel, a log, an error or a record. If the model's API repeats its credential, it is masked.
//!
//! *Architecture invariant:* a route lets nothing out but what it was made for. Package routes and the git route only
//! read; the model route passes four kinds of requests; a tunnel goes to a host that the user allowed.

mod address;
mod audit;
mod authority;
mod body;
mod cache;
mod client_hello;
mod connections;
mod counted;
mod credential;
mod download_budget;
mod git_route;
mod headers;
mod host;
mod http_route;
mod model;
mod model_request;
mod packages;
mod policy;
mod proxy;
mod reply;
mod request_path;
mod server;
mod tunnel;
mod upstream;
mod usage;

pub use audit::{AuditEntry, AuditLog, AuditSummary, LogLine, Verdict};
pub(crate) use authority::Authority;
pub use cache::{Cache, CacheUsage, DEFAULT_CACHE_BYTES};
pub use client_hello::{HelloState, parse_hello};
pub use connections::ConnectionSettings;
pub(crate) use credential::{ClaudeSettings, Credential, CredentialError, CredentialKind, CredentialSource};
pub use git_route::{FindGitCredential, GitUpstreams, check_upload_request};
pub use host::{HostName, HostPattern};
pub use http_route::{HttpRouteOptions, RouteCredential, parse_route_paths};
pub use model::{ModelOptions, ModelStats};
pub use model_request::{ProviderTools, check_message_request};
pub use packages::{ChecksumDatabase, PackageUpstreams, parse_any_document, parse_any_path};
pub use policy::{HostLists, NetworkLevel};
pub use server::{DEFAULT_MAX_DOWNLOAD, GATEWAY_PORT, Gateway, GatewayOptions};
pub(crate) use tunnel::Tunnel;
pub use tunnel::{TunnelConnection, TunnelStream};
pub(crate) use upstream::is_path_below;
pub use upstream::{UpstreamOptions, UrlCredential};
pub use usage::TokenUsage;
