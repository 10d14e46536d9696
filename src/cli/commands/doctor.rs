//! `airlock doctor`: checks the settings, engine, git, credential and terminal, and suggests fixes.

use futures_util::future::join_all;
use indicatif::HumanBytes;
use serde::Serialize;
use serde_json::json;

use crate::base::{EngineSupport, OverlaySupport};
use crate::cli::args::AgentOptions;
use crate::cli::error::{CliError, FAILED};
use crate::cli::json::render_json;
use crate::cli::ops::agent_config::{new_agent_config, sandbox_size};
use crate::cli::ops::agent_image::ImageChoice;
use crate::cli::ops::engine::{connect_and_measure, is_any_engine, list_choices};
use crate::cli::ops::repo::create_runtime;
use crate::cli::ops::settings::load_settings;
use crate::cli::ops::user_config::read_sandbox_config;
use crate::cli::output::{Output, format_count, print_stdout};
use crate::config::Settings;
use crate::core::escape::Escaped;
use crate::engine::{Docker, Engine, EngineInfo};
use crate::gateway::{ClaudeSettings, ConnectionSettings, CredentialKind, CredentialSource, NetworkLevel};
use crate::images::{AGENT_IMAGE, CLAUDE_VERSION};
use crate::sandbox::probe;
use crate::terminal;

/// The status of a check, from best to worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
enum CheckStatus {
    Good,
    Note,
    Weak,
    Broken,
}

/// The result of one check.
#[derive(Debug, Serialize)]
struct Check {
    /// The name of the check, for scripts.
    id: &'static str,
    state: CheckStatus,
    /// The finding, escaped.
    found: String,
    /// The suggested fix, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

/// The results so far.
#[derive(Default)]
struct Checks(Vec<Check>);

impl Checks {
    fn add_good(&mut self, id: &'static str, found: impl AsRef<str>) {
        self.add_check(id, CheckStatus::Good, found, None);
    }

    fn add_check(&mut self, id: &'static str, state: CheckStatus, found: impl AsRef<str>, fix: Option<&str>) {
        let found = Escaped::new(found.as_ref()).to_string();
        self.0.push(Check { id, state, found, fix: fix.map(|f| Escaped::new(f).to_string()) });
    }
}

pub(crate) fn run_doctor(json: bool, output: Output) -> Result<u8, CliError> {
    let mut checks = Checks::default();
    let settings = match load_settings() {
        Ok(settings) => {
            match new_agent_config(&settings, &AgentOptions::default(), NetworkLevel::None, 1 << 30)
                .and_then(|_| crate::cli::ops::policy::collect_limits(&settings))
            {
                Ok(_) => match read_sandbox_config(&settings, std::path::Path::new("/")) {
                    Err(error) if settings.mcp.is_none() => {
                        checks.add_check("settings", CheckStatus::Broken, error.escaped_message(), None);
                    }
                    _ => checks.add_good("settings", "the settings are valid"),
                },
                Err(failure) => checks.add_check("settings", CheckStatus::Broken, failure.escaped_message(), None),
            }
            settings
        }
        Err(error) => {
            checks.add_check(
                "settings",
                CheckStatus::Broken,
                error.escaped_message(),
                error.hints().first().map(String::as_str),
            );
            Settings::default()
        }
    };
    create_runtime()?.block_on(async {
        if is_any_engine(&settings) {
            return check_several_engines(&settings, &mut checks).await;
        }
        match Docker::connect(settings.engine.as_deref()).await {
            Ok(engine) => check_engine(&engine, &settings, &mut checks).await,
            Err(error) => checks.add_check("engine", CheckStatus::Broken, error.to_string(), error.hint().as_deref()),
        }
    });
    check_git(&mut checks);
    check_credential(&mut checks);
    check_connections(&mut checks);
    check_terminal(&mut checks);
    let worst = checks.0.iter().map(|c| c.state).max().unwrap_or(CheckStatus::Good);
    if json {
        let value =
            json!({"schema_version": 1, "version": env!("CARGO_PKG_VERSION"), "state": worst, "checks": checks.0});
        print_stdout(&render_json(&value))?;
    } else {
        print_stdout(&format_checks(&checks.0, output.is_colored()))?;
        let summary = match worst {
            CheckStatus::Good | CheckStatus::Note => "everything works",
            CheckStatus::Weak => "works, with warnings",
            CheckStatus::Broken => "does not work with this configuration",
        };
        output.print_status(summary);
    }
    Ok(if worst == CheckStatus::Broken { FAILED } else { 0 })
}

fn format_checks(checks: &[Check], color: bool) -> String {
    let mut out = String::new();
    for check in checks {
        let (word, code) = match check.state {
            CheckStatus::Good => ("good", "32"),
            CheckStatus::Note => ("note", "36"),
            CheckStatus::Weak => ("weak", "33"),
            CheckStatus::Broken => ("broken", "31"),
        };
        let word = if color { format!("\x1b[{code}m{word:6}\x1b[0m") } else { format!("{word:6}") };
        out += &format!("{word}  {:11} {}\n", check.id, check.found);
        if let Some(fix) = &check.fix {
            out += &format!("{:8}{:11} → {fix}\n", "", "");
        }
    }
    out
}

/// Checks whether the engines that `any` stands for can be reached.
async fn check_several_engines(settings: &Settings, checks: &mut Checks) {
    let choices = match list_choices(settings) {
        Ok(choices) => choices,
        Err(error) => {
            let hint = error.hints().first().map(String::as_str);
            return checks.add_check("engine", CheckStatus::Broken, error.escaped_message(), hint);
        }
    };
    let needs = ImageChoice::default().engine_needs(settings);
    let answers = join_all(choices.iter().map(|choice| connect_and_measure(choice, &needs))).await;
    let size = sandbox_size(settings).ok();
    let state = if answers.iter().any(Result::is_ok) { CheckStatus::Weak } else { CheckStatus::Broken };
    for (choice, answer) in choices.iter().zip(answers) {
        match answer {
            Ok((_, load)) => {
                let (cpus, memory) = (load.cpus, HumanBytes(load.memory));
                let sandboxes = format_count(usize::try_from(load.sandboxes).unwrap_or(usize::MAX), "sandbox");
                let room = size.map_or(0, |size| load.free_places(size));
                let missing = if load.has_image { "" } else { ", without the agent image" };
                let found = format!("{choice}: {cpus} CPUs, {memory}, {sandboxes}, room for {room} more{missing}");
                let (purpose, command) = if load.has_image { ("check", "doctor") } else { ("prepare", "image build") };
                let fix = format!("to {purpose} it, run `airlock --engine {choice} {command}`");
                let state = if load.has_image { CheckStatus::Good } else { CheckStatus::Note };
                checks.add_check("engine", state, found, Some(&fix));
            }
            Err(problem) => checks.add_check("engine", state, problem, None),
        }
    }
}

async fn check_engine(engine: &Docker, settings: &Settings, checks: &mut Checks) {
    let image = settings.image.as_deref();
    let info = match engine.engine_info().await {
        Ok(info) => info,
        Err(error) => {
            return checks.add_check("engine", CheckStatus::Broken, error.to_string(), error.hint().as_deref());
        }
    };
    let memory = HumanBytes(info.memory);
    checks.add_good(
        "engine",
        format!(
            "{} {} at {}, API {}, {} CPUs, {memory}",
            if info.is_podman { "Podman" } else { "Docker" },
            info.version,
            info.address,
            info.api,
            info.cpus
        ),
    );
    check_hardening(info, checks);
    check_runtimes(info, settings.runtime.as_deref(), checks);
    // The probe forgets it.
    let separation = EngineSupport::load_for(info).separations.remove(info.runtime_name(settings.runtime.as_deref()));
    match probe::probe_engine(engine).await {
        Ok(probed) => {
            match &probed.overlay_support {
                OverlaySupport::Overlay => checks.add_good("overlay", "workspaces are mounted over their base, so starts are fast"),
                // Without root, the kernel mounts no overlay that could record a directory's move.
                OverlaySupport::Copy(why) if info.security_option("rootless").is_some() => checks.add_check(
                    "overlay",
                    CheckStatus::Note,
                    format!("workspaces are copied from their base, as usual for an engine without root, which takes longer in a large tree: {why}"),
                    None,
                ),
                OverlaySupport::Copy(why) => checks.add_check(
                    "overlay",
                    CheckStatus::Note,
                    format!("workspaces are copied from their base, which is slower: {why}"),
                    Some("to mount them, use an engine with native overlay2, or on ext4 or XFS with its root on the same file system"),
                ),
            }
            if let Some(why) = separation {
                let found = format!("agents share a network namespace with their sidecar, so starts are slower: {why}");
                checks.add_check("sockets", CheckStatus::Note, found, Some("the next start tries again"));
            }
            if let Some(space) = probed.space {
                let (free, total) = (HumanBytes(space.free), HumanBytes(space.total));
                let found = format!("{free} of {total} are free where the engine stores volumes");
                let scarce = space.free < (10 << 30).min(space.total / 10);
                let fix = "`docker system df` shows the usage; `airlock gc` removes old bases";
                checks.add_check(
                    "disk",
                    if scarce { CheckStatus::Weak } else { CheckStatus::Good },
                    found,
                    scarce.then_some(fix),
                );
            }
        }
        Err(error) => {
            checks.add_check("overlay", CheckStatus::Broken, format!("failed to create a workspace: {error}"), None);
        }
    }
    let name = image.unwrap_or(AGENT_IMAGE);
    match (engine.find_image(name).await, image) {
        (Ok(Some(found)), _) => checks.add_good("image", format!("{name} exists, {}", HumanBytes(found.size))),
        (Ok(None), None) => checks.add_check(
            "image",
            CheckStatus::Note,
            format!("the agent image (Claude Code {CLAUDE_VERSION}) does not exist yet; the first start builds it"),
            Some("to build it now, run `airlock image build`"),
        ),
        (Ok(None), Some(_)) => {
            checks.add_check(
                "image",
                CheckStatus::Broken,
                format!("the configured image {name} does not exist"),
                Some("to list the images, run `airlock image ls`"),
            );
        }
        (Err(error), _) => checks.add_check("image", CheckStatus::Broken, error.to_string(), None),
    }
}

/// Checks the runtime of the agent's container.
fn check_runtimes(info: &EngineInfo, chosen: Option<&str>, checks: &mut Checks) {
    let known = info.runtimes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    match chosen {
        None if info.default_runtime.is_empty() => {}
        None => checks
            .add_good("runtimes", format!("agents run in {}, the engine's default of {known}", info.default_runtime)),
        Some(name) if !info.may_have_runtime(name) => checks.add_check(
            "runtimes",
            CheckStatus::Broken,
            format!("the engine has no runtime {name}; its runtimes are {known}"),
            Some("register it in the engine's configuration (daemon.json, runtimes), or remove the setting `runtime`"),
        ),
        Some(name) => checks.add_check(
            "runtimes",
            CheckStatus::Note,
            format!("agents run in {name}; sidecars run in {}, the engine's default", info.default_runtime),
            Some("whether an agent in it reaches its sidecar is found out by a start: `airlock run -- true`"),
        ),
    }
}

/// Checks how the engine isolates containers from its machine.
fn check_hardening(info: &EngineInfo, checks: &mut Checks) {
    let advisories = info.list_advisories();
    for (component, version, advisory, may_be_fixed) in &advisories {
        let found = format!("{component} {version} is affected by {}, which allows {}", advisory.id, advisory.allows);
        if *may_be_fixed {
            let fix = "check the security tracker of your distribution, which may have fixed it under the same version number";
            checks.add_check("runtime", CheckStatus::Note, found, Some(fix));
        } else {
            checks.add_check("runtime", CheckStatus::Weak, found, Some("update the engine and its runtime"));
        }
    }
    if advisories.is_empty() {
        let parts: Vec<String> = info.components.iter().map(|(name, version)| format!("{name} {version}")).collect();
        checks.add_good("runtime", format!("no known vulnerabilities in {}", parts.join(", ")));
    }
    checks.add_good("kernel", format!("{} on {}", info.kernel, info.system));
    match info.security_option("seccomp") {
        None => checks.add_check(
            "seccomp",
            CheckStatus::Weak,
            "the engine does not filter system calls; Airlock's own filter blocks only a few",
            Some("use a kernel and an engine with seccomp"),
        ),
        Some(detail) if detail.contains("unconfined") => checks.add_check(
            "seccomp",
            CheckStatus::Weak,
            "the engine's default profile is disabled",
            Some("remove `seccomp-profile` from the engine's daemon.json"),
        ),
        Some(_) => checks.add_good("seccomp", "system calls are filtered by the engine and by Airlock"),
    }
    let module = ["apparmor", "selinux"].into_iter().find(|name| info.security_option(name).is_some());
    match module {
        Some(name) => checks.add_good("lsm", format!("{name} confines containers")),
        None => checks.add_check(
            "lsm",
            CheckStatus::Note,
            "neither AppArmor nor SELinux confines containers",
            Some("enable one of them on the engine's machine"),
        ),
    }
    let (rootless, mapped) = (info.security_option("rootless").is_some(), info.security_option("userns").is_some());
    match (rootless, mapped) {
        (true, _) => checks.add_good("users", "the engine runs without root"),
        (_, true) => checks.add_good("users", "container users are mapped to other users (userns-remap)"),
        _ => checks.add_check(
            "users",
            CheckStatus::Note,
            "root in a container is root on the engine's machine; agents run as user 1000 without capabilities",
            Some("for additional isolation, use a rootless engine or set `userns-remap` in daemon.json"),
        ),
    }
    let warned = info.warnings.iter().find(|w| w.contains("limit") || w.contains("cfs") || w.contains("cgroup"));
    let fix = "enable the cgroup controllers (on Debian: cgroup_enable=memory swapaccount=1; rootless: cgroup v2 and systemd)";
    if !info.unlimited_resources.is_empty() {
        let found = format!("the engine does not limit {}", info.unlimited_resources.join(", "));
        checks.add_check("limits", CheckStatus::Weak, found, Some(fix));
    } else if let Some(warned) = warned {
        checks.add_check(
            "limits",
            CheckStatus::Note,
            format!("the engine cannot enforce all limits: {warned}"),
            Some(fix),
        );
    } else {
        checks.add_good("limits", format!("memory, CPUs and processes are limited by cgroup v{}", info.cgroup));
    }
    checks.add_good("storage", format!("images and containers are on {}", info.driver));
}

fn check_git(checks: &mut Checks) {
    match std::process::Command::new("git").arg("--version").output() {
        Ok(out) if out.status.success() => checks.add_good("git", String::from_utf8_lossy(&out.stdout).trim()),
        _ => checks.add_check("git", CheckStatus::Broken, "git cannot be run", Some("install git")),
    }
}

/// Checks the credential. Reports its kind, never a part of its value.
fn check_credential(checks: &mut Checks) {
    let env = |name: &str| std::env::var(name).ok();
    let claude = ClaudeSettings::load_settings(env);
    let found = CredentialSource::find_credential(env, &claude).and_then(|source| source.read());
    match found {
        Ok(credential) => {
            let kind = match credential.kind {
                CredentialKind::ApiKey => "an API key",
                CredentialKind::AuthToken => "an authorization token",
                CredentialKind::OauthToken => "a Claude login",
            };
            let others = CredentialSource::list_credentials(env, &claude).into_iter().skip(1).collect::<Vec<_>>();
            let unused =
                if others.is_empty() { String::new() } else { format!("; {} is not used", others.join(" and ")) };
            checks.add_good("credential", format!("{kind} was found; it never enters a sandbox{unused}"));
        }
        Err(error) => checks.add_check(
            "credential",
            CheckStatus::Note,
            error.to_string(),
            Some(&error.suggest_fix(crate::cli::claude_path::real_claude_command().as_deref())),
        ),
    }
}

/// Checks which proxies and certificates apply to connections from the host. A password in an address is not shown.
fn check_connections(checks: &mut Checks) {
    let env = |name: &str| std::env::var(name).ok();
    let claude = ClaudeSettings::load_settings(env);
    let connections = ConnectionSettings::from_variables(|name| claude.find_variable(env, name));
    let mut found: Vec<String> = Vec::new();
    for (name, value) in connections.list_proxies() {
        if name == "NO_PROXY" {
            found.push(format!("NO_PROXY is {value}"));
            continue;
        }
        let text = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
        match url::Url::parse(&text) {
            Ok(url) if url.scheme() == "http" => {
                found.push(format!(
                    "{name} is {}:{}",
                    url.host_str().unwrap_or_default(),
                    url.port_or_known_default().unwrap_or(80)
                ));
            }
            _ => checks.add_check(
                "proxy",
                CheckStatus::Broken,
                format!("{name} is not the address of an HTTP proxy"),
                Some(&format!("set it to an http:// address, or unset it: `unset {name}`")),
            ),
        }
    }
    found.extend(connections.list_certificates().map(|(name, value)| format!("{name} is {}", value.display())));
    let found = if found.is_empty() { "no proxy; the certificates of the system".to_owned() } else { found.join("; ") };
    match connections.check_certificates() {
        Ok(()) => checks.add_good("connections", found),
        Err(error) => checks.add_check(
            "connections",
            CheckStatus::Broken,
            format!("{found}; {error}"),
            Some("install ca-certificates, or correct the variable"),
        ),
    }
}

fn check_terminal(checks: &mut Checks) {
    let term = std::env::var("TERM").unwrap_or_default();
    if !terminal::is_interactive() {
        return checks.add_good("terminal", "none, so no questions are asked");
    }
    let size = terminal::terminal_size().map_or_else(String::new, |(columns, rows)| format!(", {columns} x {rows}"));
    let utf8 = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|n| std::env::var(n).ok().filter(|v| !v.is_empty()));
    let utf8 = utf8.is_some_and(|v| v.to_lowercase().replace('-', "").contains("utf8"));
    if term.is_empty() || term == "dumb" {
        checks.add_check(
            "terminal",
            CheckStatus::Note,
            "the terminal can only show plain text (TERM)",
            Some("if it supports more, run `export TERM=xterm-256color`"),
        );
    } else if utf8 {
        checks.add_good("terminal", format!("{term}{size}"));
    } else {
        checks.add_check(
            "terminal",
            CheckStatus::Note,
            format!("{term}{size}; the locale is not UTF-8, so non-ASCII characters may be garbled"),
            Some("run `export LANG=C.UTF-8`"),
        );
    }
}
