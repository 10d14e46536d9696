//! The network of a sandbox: what the user's settings, package clients and repository say, for the gateway.

use std::path::PathBuf;
use std::sync::Arc;

use etcetera::BaseStrategy as _;
use hyper::header::{HeaderName, HeaderValue};
use url::Url;

use super::repository_requests::RepositoryRequests;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::config::{RouteSetting, Settings, parse_bytes, parse_tokens};
use crate::engine::Engine;
use crate::gateway::{
    Cache, ClaudeSettings, ConnectionSettings, CredentialError, CredentialKind, CredentialSource, DEFAULT_CACHE_BYTES,
    DEFAULT_MAX_DOWNLOAD, GATEWAY_PORT, GatewayOptions, GitUpstreams, HostLists, HostPattern, HttpRouteOptions,
    ModelOptions, NetworkLevel, ProviderTools, RouteCredential, parse_route_paths,
};
use crate::git::{HostRepo, find_git_credential};
use crate::registries::{HostClients, HostEnvironment, ImageDefaults, RepositoryRegistries};
use crate::sandbox::image_defaults::find_image_defaults;
use crate::sandbox::ports::{BoundPort, PortSpec};
use crate::sandbox::{NetworkConfig, NetworkRequest, RunRequest};

/// The address of the model's API, unless the user's `ANTHROPIC_BASE_URL` has another one.
const DEFAULT_UPSTREAM: &str = "https://api.anthropic.com";

/// Variables of the user that the agent gets: the names of models, which a gateway of the user may require.
const MODEL_VARIABLES: [&str; 6] = [
    "ANTHROPIC_MODEL",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
    "CLAUDE_CODE_SUBAGENT_MODEL",
];

/// A network that is planned before there is an engine.
pub(crate) struct NetworkPlan {
    config: NetworkConfig,
    model: Option<(ModelOptions, CredentialKind)>,
    env: Vec<String>,
    git: GitUpstreams,
    trusted: Vec<(String, u16)>,
    go_hosts: std::collections::BTreeSet<String>,
    clients: HostClients,
    requests: RepositoryRequests,
    /// Routes beside those of the settings.
    routes: Vec<HttpRouteOptions>,
    connections: ConnectionSettings,
    settings: Settings,
    max_download: u64,
}

/// Plans a network of the configured level; `None` for one without. A missing credential is an error only if the agent
/// is Claude Code.
///
/// # Errors
/// A setting is invalid, or there is no credential for the model.
pub(crate) fn plan_network(
    config: &NetworkConfig,
    settings: &Settings,
    verb: &str,
    host: &HostRepo,
    output: Output,
) -> Result<Option<NetworkPlan>, CliError> {
    if config.level == NetworkLevel::None {
        return Ok(None);
    }
    let env = |name: &str| std::env::var(name).ok();
    let claude = ClaudeSettings::load_settings(env);
    let needs_model = verb == "claude" || config.level == NetworkLevel::Model;
    let model = match plan_model(config, settings, &claude) {
        Ok(model) => Some(model),
        // A build needs packages, but not the model.
        Err(ModelError::Credential(_)) if !needs_model => None,
        Err(ModelError::Credential(error)) => return Err(error.into()),
        Err(ModelError::Other(error)) => return Err(error),
    };
    if model.is_some()
        && let [first, others @ ..] = CredentialSource::list_credentials(env, &claude).as_slice()
        && !others.is_empty()
    {
        output.print_status(&format!("the model's credential is {first}; {} is not used", others.join(" and ")));
    }
    let variables = MODEL_VARIABLES.into_iter().filter_map(|name| {
        let value =
            claude.find_variable(env, name).filter(|value| value.bytes().all(|b| b.is_ascii_graphic() && b != b'"'))?;
        Some(format!("{name}={value}"))
    });
    let max_download = settings.max_download.as_deref().map(parse_bytes).transpose();
    let urls = host.list_fetch_urls();
    let place = |url: &Url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?));
    let trusted: Vec<(String, u16)> = urls.remotes.iter().filter_map(place).collect();
    let mut hosts: Vec<(String, u16)> =
        trusted.iter().cloned().chain(urls.submodules.iter().filter_map(place)).collect();
    hosts.sort();
    hosts.dedup();
    let plain = urls.remotes.iter().chain(&urls.submodules).filter(|url| url.scheme() == "http");
    let http_hosts = plain.filter_map(place).collect();
    Ok(Some(NetworkPlan {
        config: config.clone(),
        env: variables.collect(),
        model,
        git: GitUpstreams {
            hosts,
            http_hosts,
            remotes: urls.remotes,
            find_credential: Some(Arc::new(|url: &Url| {
                let (user, password) = find_git_credential(url)?;
                use base64::Engine as _;
                let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
                let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
                value.set_sensitive(true);
                Some(value)
            })),
        },
        trusted,
        go_hosts: host.list_go_hosts(),
        clients: load_clients(),
        requests: RepositoryRequests::default(),
        routes: Vec::new(),
        connections: ConnectionSettings::from_variables(|name| claude.find_variable(env, name)),
        max_download: max_download
            .map_err(|problem| CliError::usage(format!("max_download: {problem}")))?
            .unwrap_or(DEFAULT_MAX_DOWNLOAD),
        settings: settings.clone(),
    }))
}

/// Reads the configuration of the user's package clients.
pub(crate) fn load_clients() -> HostClients {
    let env = |name: &str| std::env::var(name).ok();
    let home = etcetera::home_dir().unwrap_or_default();
    HostClients::load_clients(&HostEnvironment { env: &env, home })
}

impl NetworkPlan {
    /// Adds routes to those of the settings.
    pub(crate) fn add_routes(&mut self, routes: Vec<HttpRouteOptions>) {
        self.routes.extend(routes);
    }

    /// Reads what the repository requests in a commit.
    ///
    /// # Errors
    /// A file is invalid.
    pub(crate) fn read_requests(&mut self, host: &HostRepo, commit: &str) -> Result<(), CliError> {
        self.requests = RepositoryRequests::read_commit(host, commit)?;
        Ok(())
    }

    fn add_hosts(&mut self, hosts: &[HostPattern]) {
        for host in hosts {
            if !self.config.lists.deny.contains(host) && !self.config.lists.allow.contains(host) {
                self.config.lists.allow.push(host.clone());
            }
        }
    }

    /// Completes the plan with the default registries of the package clients in the image, and with what the repository
    /// requests, if the user allows it.
    ///
    /// # Errors
    /// The engine fails, or the cache cannot be used.
    pub(crate) async fn into_request(
        mut self,
        host: &HostRepo,
        (engine, image): (&dyn Engine, &str),
        output: Output,
    ) -> Result<NetworkRequest, CliError> {
        let defaults = if self.config.level >= NetworkLevel::Packages {
            find_image_defaults(engine, image).await?
        } else {
            ImageDefaults::default()
        };
        let private_hosts = self.settings.private_hosts.clone().unwrap_or_default().0;
        let (mut packages, mut upstream) = std::mem::take(&mut self.clients).with_defaults(&defaults, private_hosts);
        let mut requests = std::mem::take(&mut self.requests);
        if self.config.level < NetworkLevel::Packages {
            requests.registries = RepositoryRegistries::default();
        }
        let (hosts, registries) = requests.ask_user(host, &packages, &self.config.lists, output)?;
        self.add_hosts(&hosts);
        registries.add_to(&mut packages);
        packages.go_hosts = self.go_hosts;
        upstream.connections = self.connections;
        upstream.trusted.extend(self.trusted);
        let (model, credential) = self.model.unzip();
        let mut http = self.settings.route.iter().map(parse_route).collect::<Result<Vec<_>, _>>()?;
        http.extend(self.routes);
        // The user's configuration names these upstreams.
        let place = |url: &Url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?));
        upstream.trusted.extend(http.iter().filter_map(|route| place(&route.url)));
        let mut env = self.env;
        env.extend(http.iter().map(|route| {
            let name = route.name.to_uppercase().replace('-', "_");
            format!("AIRLOCK_ROUTE_{name}=http://127.0.0.1:{GATEWAY_PORT}/http/{}", route.name)
        }));
        Ok(NetworkRequest {
            gateway: GatewayOptions {
                level: self.config.level,
                lists: HostLists {
                    allow: self.config.lists.allow,
                    deny: self.config.lists.deny.into_iter().chain(self.settings.deny.unwrap_or_default().0).collect(),
                },
                model,
                packages,
                git: self.git,
                http,
                upstream,
                cache: open_cache()?,
                is_offline: self.config.offline,
                max_download: self.max_download,
                // Set when the sandbox has its name.
                name: String::new(),
            },
            credential,
            env,
        })
    }
}

/// Returns the directory of the package cache.
pub(crate) fn cache_dir() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("airlock/packages"))
}

/// Opens the package cache if it exists.
///
/// # Errors
/// A directory of it is not the user's own.
pub(crate) fn find_cache() -> Result<Option<Cache>, CliError> {
    if cache_dir().is_some_and(|dir| dir.exists()) { open_cache() } else { Ok(None) }
}

/// Opens the package cache, and creates it if necessary.
///
/// # Errors
/// A directory of it is not the user's own.
pub(crate) fn open_cache() -> Result<Option<Cache>, CliError> {
    let Some(dir) = cache_dir() else { return Ok(None) };
    let opened = Cache::open(&dir).map_err(|error| {
        CliError::failed(format!("failed to open the package cache: {error}")).with_hint(format!(
            "remove it: `rm -r {}`",
            crate::cli::shell_word::quote_shell_word(dir.as_os_str().as_encoded_bytes())
        ))
    });
    opened.map(Some)
}

/// Returns the limit of the package cache in bytes.
///
/// # Errors
/// The setting is invalid.
pub(crate) fn cache_limit(settings: &Settings) -> Result<u64, CliError> {
    let limit = settings.cache_size.as_deref().map(parse_bytes).transpose();
    Ok(limit.map_err(|problem| CliError::usage(format!("cache_size: {problem}")))?.unwrap_or(DEFAULT_CACHE_BYTES))
}

enum ModelError {
    Credential(CredentialError),
    Other(CliError),
}

fn plan_model(
    config: &NetworkConfig,
    settings: &Settings,
    claude: &ClaudeSettings,
) -> Result<(ModelOptions, CredentialKind), ModelError> {
    let env = |name: &str| std::env::var(name).ok();
    let source = CredentialSource::find_credential(env, claude).map_err(ModelError::Credential)?;
    let kind = source.read().map_err(ModelError::Credential)?.kind;
    let failed = |reason: &str| {
        ModelError::Other(CliError::failed(format!("failed to set up the route to the model's API: {reason}")))
    };
    let upstream = claude.find_variable(env, "ANTHROPIC_BASE_URL").unwrap_or_else(|| DEFAULT_UPSTREAM.into());
    let names = settings.provider_tools.clone().unwrap_or_default().0;
    let model = ModelOptions {
        upstream: ModelOptions::parse_upstream(&upstream).map_err(failed)?,
        credential: Some(source),
        headers: parse_headers(&claude.find_variable(env, "ANTHROPIC_CUSTOM_HEADERS").unwrap_or_default()),
        provider_tools: ProviderTools { all: config.level == NetworkLevel::Open, names },
        budget: config.budget,
    };
    Ok((model, kind))
}

/// Checks a route of the settings.
fn parse_route(setting: &RouteSetting) -> Result<HttpRouteOptions, CliError> {
    let wrong =
        |problem: String| CliError::usage(format!("the route {} in the configuration: {problem}", setting.name));
    let is_name =
        !setting.name.is_empty() && setting.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if !is_name {
        return Err(wrong("its name has other characters than letters, digits, - and _".into()));
    }
    let url = Url::parse(&setting.url)
        .ok()
        .filter(|url| matches!(url.scheme(), "https" | "http") && url.username().is_empty() && url.query().is_none());
    let url =
        url.ok_or_else(|| wrong(format!("{} is not an http(s) address without a name and query", setting.url)))?;
    let methods = setting.methods.iter().map(|method| method.parse()).collect::<Result<Vec<_>, _>>();
    let methods = methods.map_err(|_| wrong("a method is invalid".into()))?;
    parse_route_paths(&setting.paths).map_err(wrong)?;
    let header =
        setting.header.parse().map_err(|_| wrong(format!("{} is not the name of a header", setting.header)))?;
    let credential = match (&setting.value_env, &setting.value_command) {
        (Some(_), Some(_)) => return Err(wrong("it has both value_env and value_command".into())),
        (Some(name), None) => Some(RouteCredential::Variable(name.clone())),
        (None, Some(command)) => Some(RouteCredential::Command(command.clone())),
        (None, None) => None,
    };
    Ok(HttpRouteOptions {
        name: setting.name.clone(),
        url,
        methods,
        paths: setting.paths.clone(),
        header,
        prefix: setting.prefix.clone(),
        credential,
    })
}

/// Parses `ANTHROPIC_CUSTOM_HEADERS`: one `NAME: VALUE` a line.
fn parse_headers(text: &str) -> Vec<(HeaderName, HeaderValue)> {
    let parse_line = |line: &str| {
        let (name, value) = line.split_once(':')?;
        let mut value = HeaderValue::from_str(value.trim()).ok()?;
        value.set_sensitive(true);
        Some((name.trim().parse().ok()?, value))
    };
    text.lines().filter_map(parse_line).collect()
}

/// Returns the network of a new agent.
///
/// # Errors
/// A setting is invalid.
pub(crate) fn new_network_config(settings: &Settings, default_level: NetworkLevel) -> Result<NetworkConfig, CliError> {
    let lists = HostLists {
        allow: settings.allow.clone().unwrap_or_default().0,
        // The denied hosts of the configuration are read at each start.
        deny: Vec::new(),
    };
    Ok(NetworkConfig {
        level: settings.net.unwrap_or(default_level),
        lists,
        offline: false,
        ports: Vec::new(),
        forwards: Vec::new(),
        budget: parse_budget(settings)?,
    })
}

/// Parses the budget of the settings.
///
/// # Errors
/// The setting is invalid.
pub(crate) fn parse_budget(settings: &Settings) -> Result<Option<u64>, CliError> {
    let budget = settings.budget.as_deref().map(parse_tokens).transpose();
    budget.map_err(|problem| CliError::usage(format!("--budget: {problem}")))
}

/// Binds a port of the host.
///
/// # Errors
/// The port is in use, or the address is none of this machine.
pub(crate) fn bind_port(spec: PortSpec) -> Result<BoundPort, CliError> {
    BoundPort::bind_port(spec).map_err(|error| {
        let host = std::net::SocketAddr::new(spec.address, spec.host_port);
        CliError::failed(format!("failed to publish port {} on {host}: {error}", spec.port))
            .with_hint(format!("to use any free port, add `--port 0:{}` instead", spec.port))
    })
}

/// Describes the network and the ports for the first line of a sandbox.
pub(crate) fn describe_network(request: &RunRequest) -> String {
    let ports = request.ports.iter().map(|bound| format!("{} is port {}", bound.address, bound.port));
    let forwards = request.forwards.iter().map(|port| format!("port {port} is the host's"));
    let ports: String = ports.chain(forwards).map(|text| format!(" · {text}")).collect();
    describe_level(request.network.as_ref()) + &ports
}

fn describe_level(network: Option<&NetworkRequest>) -> String {
    let Some(network) = network else { return " · network: none".into() };
    let gateway = &network.gateway;
    let mut parts: Vec<String> = Vec::new();
    if gateway.model.is_some() {
        parts.push("model".into());
    }
    if gateway.level >= NetworkLevel::Packages {
        parts.push("packages".into());
    }
    if gateway.level == NetworkLevel::Open {
        parts.push("any public host".into());
    }
    parts.extend(gateway.lists.allow.iter().map(ToString::to_string));
    if gateway.is_offline {
        parts.push("offline".into());
    }
    match parts.as_slice() {
        [only] if only == "model" => " · network: model only".into(),
        _ => format!(" · network: {}", parts.join(", ")),
    }
}
