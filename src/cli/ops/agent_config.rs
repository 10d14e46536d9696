//! The configuration that an agent is started with: limits, variables and the route to the model.

use crate::cli::error::CliError;
use crate::config::{NetworkAccess, Settings, parse_bytes, parse_duration};
use crate::gateway::{CredentialKind, CredentialSource, ModelProxy};
use crate::sandbox::lifecycle::{DEFAULT_PIDS, default_memory};
use crate::sandbox::{AgentConfig, DEFAULT_DISK, DEFAULT_INODES, Limits};

/// The address of the model's API, unless the user's `ANTHROPIC_BASE_URL` has another one.
const DEFAULT_UPSTREAM: &str = "https://api.anthropic.com";

/// Returns the configuration of a new agent on an engine with this much memory, in bytes.
pub(crate) fn new_agent_config(
    settings: &Settings,
    env: &[String],
    default_net: NetworkAccess,
    engine_memory: u64,
) -> Result<AgentConfig, CliError> {
    let limits = Limits {
        disk: DEFAULT_DISK,
        inodes: DEFAULT_INODES,
        time: None,
        memory: default_memory(engine_memory),
        pids: DEFAULT_PIDS,
    };
    with_overrides(
        AgentConfig { env: Vec::new(), limits, nano_cpus: 0, model: default_net == NetworkAccess::Model },
        settings,
        env,
    )
}

/// Returns a configuration changed by the given settings and variables.
pub(crate) fn with_overrides(
    mut config: AgentConfig,
    settings: &Settings,
    env: &[String],
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
    if let Some(net) = settings.net {
        config.model = net == NetworkAccess::Model;
    }
    // The last value of a variable takes effect.
    let name = |variable: &String| variable.split('=').next().map(str::to_owned);
    config.env.retain(|old| env.iter().all(|new| name(new) != name(old)));
    config.env.extend(env.iter().cloned());
    Ok(config)
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

pub(crate) fn create_model_route() -> Result<(ModelProxy, CredentialKind), CliError> {
    let env = |name: &str| std::env::var(name).ok();
    let source = CredentialSource::find_credential(env)?;
    let kind = source.read()?.kind;
    let upstream = env("ANTHROPIC_BASE_URL").filter(|v| !v.is_empty()).unwrap_or_else(|| DEFAULT_UPSTREAM.into());
    let route = ModelProxy::new(&upstream, Some(source))
        .map_err(|error| CliError::failed(format!("failed to set up the route to the model's API: {error}")))?;
    Ok((route, kind))
}
