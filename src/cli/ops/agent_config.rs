//! The configuration that an agent is started with: limits, variables and the route to the model.

use super::network::{new_network_config, parse_budget};
use crate::cli::args::AgentOptions;
use crate::cli::error::CliError;
use crate::config::{Settings, WorkspaceMode, parse_bytes, parse_duration};
use crate::gateway::{CredentialKind, NetworkLevel};
use crate::sandbox::lifecycle::{DEFAULT_PIDS, default_memory};
use crate::sandbox::placement::SandboxSize;
use crate::sandbox::ports::forward_obstacle;
use crate::sandbox::{AgentConfig, DEFAULT_DISK, DEFAULT_INODES, Limits, WorkspaceKind};

/// Returns the configuration of a new agent on an engine with this much memory, in bytes.
pub(crate) fn new_agent_config(
    settings: &Settings,
    options: &AgentOptions,
    default_level: NetworkLevel,
    engine_memory: u64,
) -> Result<AgentConfig, CliError> {
    let limits = Limits {
        disk: DEFAULT_DISK,
        inodes: DEFAULT_INODES,
        time: None,
        memory: default_memory(engine_memory),
        pids: DEFAULT_PIDS,
    };
    let network = new_network_config(settings, default_level)?;
    with_overrides(AgentConfig { env: Vec::new(), limits, nano_cpus: 0, runtime: None, network }, settings, options)
}

/// Returns a configuration changed by the given settings and variables.
pub(crate) fn with_overrides(
    mut config: AgentConfig,
    settings: &Settings,
    options: &AgentOptions,
) -> Result<AgentConfig, CliError> {
    let wrong = |option: &'static str| move |problem| CliError::usage(format!("{option}: {problem}"));
    let bytes = |text: &Option<String>, option| text.as_deref().map(parse_bytes).transpose().map_err(wrong(option));
    let time = settings.timeout.as_deref().map(parse_duration).transpose().map_err(wrong("--timeout"))?;
    let limits = &mut config.limits;
    limits.disk = bytes(&settings.disk, "--disk")?.unwrap_or(limits.disk);
    limits.inodes = settings.inodes.unwrap_or(limits.inodes);
    limits.time = time.or(limits.time);
    limits.memory = bytes(&settings.memory, "--memory")?.unwrap_or(limits.memory);
    limits.pids = settings.pids.unwrap_or(limits.pids);
    if let Some(cpus) = settings.cpus {
        config.nano_cpus = parse_cpus(cpus)?;
    }
    config.runtime = settings.runtime.clone().or(config.runtime);
    let network = &mut config.network;
    network.level = settings.net.unwrap_or(network.level);
    network.budget = parse_budget(settings)?.or(network.budget);
    network.offline |= options.offline;
    for pattern in &options.allow {
        network.lists.set_pattern(pattern, true);
    }
    if network.level == NetworkLevel::None && !options.allow.is_empty() {
        return Err(
            CliError::usage("--allow has no effect with --net none").with_hint("use `--net model` or `--net packages`")
        );
    }
    if !options.port.is_empty() {
        network.ports.clone_from(&options.port);
    }
    if !options.forward.is_empty() {
        network.forwards.clone_from(&options.forward);
    }
    for port in &options.forward {
        if let Some(obstacle) = forward_obstacle(*port) {
            return Err(CliError::usage(format!("--forward {port}: the port {obstacle}")));
        }
    }
    let env = &options.env;
    // The last value of a variable takes effect.
    let name = |variable: &String| variable.split('=').next().map(str::to_owned);
    config.env.retain(|old| env.iter().all(|new| name(new) != name(old)));
    config.env.extend(env.iter().cloned());
    Ok(config)
}

/// Returns the size of a sandbox with these settings.
pub(crate) fn sandbox_size(settings: &Settings) -> Result<SandboxSize, CliError> {
    let memory = settings.memory.as_deref().map(parse_bytes).transpose();
    let memory = memory.map_err(|problem| CliError::usage(format!("--memory: {problem}")))?;
    Ok(SandboxSize { memory, nano_cpus: settings.cpus.map(parse_cpus).transpose()?.unwrap_or(0) })
}

fn parse_cpus(cpus: f64) -> Result<u64, CliError> {
    if !(0.01..=1024.0).contains(&cpus) {
        return Err(CliError::usage(format!("--cpus: {cpus} is not between 0.01 and 1024")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    Ok((cpus * 1e9) as u64)
}

/// Returns the variables of `--env` as `KEY=VALUE`. Refuses variables that would bring the credential into the sandbox.
pub(crate) fn parse_variables(args: &[String]) -> Result<Vec<String>, CliError> {
    let secret_names = [CredentialKind::ApiKey, CredentialKind::AuthToken, CredentialKind::OauthToken]
        .map(CredentialKind::env_variable);
    let mut found = Vec::new();
    for variable in args {
        let (name, value) = match variable.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => match std::env::var(variable) {
                Ok(value) => (variable.as_str(), value),
                Err(_) => return Err(CliError::usage(format!("--env {variable}: the variable is not set"))),
            },
        };
        if name.is_empty() {
            return Err(CliError::usage(format!("--env {variable}: the name is missing")));
        }
        if secret_names.contains(&name) || name == "ANTHROPIC_BASE_URL" {
            return Err(CliError::usage(format!("--env {name}: Airlock keeps the credential outside the sandbox"))
                .with_hint("omit the option; `--net model` gives access to the model"));
        }
        found.push(format!("{name}={value}"));
    }
    Ok(found)
}

/// Returns the kind of workspace that the settings choose; `None` for an overlay if the engine can mount one.
pub(crate) fn workspace_kind(settings: &Settings) -> Option<WorkspaceKind> {
    match settings.workspace.unwrap_or_default() {
        WorkspaceMode::Auto => None,
        WorkspaceMode::Overlay => Some(WorkspaceKind::Overlay),
        WorkspaceMode::Copy => Some(WorkspaceKind::Copy),
    }
}
