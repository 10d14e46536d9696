//! `airlock claude`, `run` and `shell`: a sandbox from start to end.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use indicatif::HumanBytes;

use super::args::{RunOptions, Which};
use super::beginning::{Counting, first_line, say_beginning, say_dirt};
use super::diff::hidden;
use super::failure::{FAILED, Failure, USAGE};
use super::output::{Output, count, tell};
use super::policy::policy;
use super::progress::Progress;
use super::repo::{Repo, runtime};
use super::{image, review};
use crate::changes::Level;
use crate::config::{Net, ReviewMode, Settings, WorkspaceMode, parse_bytes, parse_duration};
use crate::display::Shown;
use crate::engine::{Docker, Engine, EngineInfo, ImageInfo};
use crate::gateway::{CredentialKind, CredentialSource, ModelRoute};
use crate::review::Sheet;
use crate::sandbox::gc::KEPT_BASES;
use crate::sandbox::lifecycle::{self, DEFAULT_PIDS, Finished, Ground, RunRequest, default_memory};
use crate::sandbox::{
    Bases, DEFAULT_DISK, DEFAULT_INODES, Limits, SandboxError, SandboxName, Signals, Workspace, terminal,
};
use crate::snapshot::{HistoryChoice, HostRepo, SnapshotOptions, Uncommitted};

/// The model's API, unless the user's `ANTHROPIC_BASE_URL` names another.
const UPSTREAM: &str = "https://api.anthropic.com";

pub fn claude(options: RunOptions, args: Vec<OsString>, output: Output) -> Result<u8, Failure> {
    let args = args.into_iter().map(OsString::into_string).collect::<Result<Vec<_>, _>>();
    let args =
        args.map_err(|bad| Failure::new(USAGE, format!("an argument is not UTF-8: {}", bad.to_string_lossy())))?;
    let command = std::iter::once("claude".to_owned()).chain(args).collect();
    sandbox("claude", Net::Model, options, command, output)
}

pub fn command(options: RunOptions, command: Vec<String>, output: Output) -> Result<u8, Failure> {
    sandbox("run", Net::None, options, command, output)
}

pub fn shell(options: RunOptions, output: Output) -> Result<u8, Failure> {
    if !terminal::is_interactive() {
        return Err(Failure::new(USAGE, "a shell needs a terminal").hint("airlock run -- COMMAND…"));
    }
    // An image may come without bash.
    let shell = "command -v bash >/dev/null && exec bash -l || exec sh -l";
    sandbox("shell", Net::None, options, ["sh", "-c", shell].map(str::to_owned).into(), output)
}

/// The command of `airlock run` goes after `--`.
pub fn no_dashes() -> Failure {
    Failure::new(USAGE, "failed to tell the command from the options: it goes after --")
        .hint("airlock run [OPTIONS] -- COMMAND…")
}

fn sandbox(
    verb: &'static str,
    default_net: Net,
    options: RunOptions,
    command: Vec<String>,
    output: Output,
) -> Result<u8, Failure> {
    let settings = settings(&options)?;
    let name = options.name.as_deref().map(str::parse::<SandboxName>).transpose()?;
    let env = variables(&options.env)?;
    let repo = Repo::here(output)?;
    let wanted = snapshot_options(&options)?;
    if let Some(name) = &name
        && repo.store.open(name)?.is_some()
    {
        return Err(SandboxError::NameTaken(name.clone()).into());
    }
    let uncommitted = match options.uncommitted {
        None => Uncommitted::None,
        Some(Which::Tracked) => Uncommitted::Tracked,
        Some(Which::All) => Uncommitted::All,
    };
    let counting = Counting::begin(repo.host.reopen()?, uncommitted);
    let route = match settings.net.unwrap_or(default_net) {
        Net::None => None,
        Net::Model => Some(model_route()?),
    };
    let snapshot = Arc::new(repo.host.snapshot(&wanted)?);
    let policy = policy(&settings, &repo.host, &snapshot.commit, output)?;
    let work = repo.host.work(&snapshot, uncommitted, &options.include)?;
    let runtime = runtime()?;
    let (finished, engine, route) = runtime.block_on(async {
        let mut signals = Signals::take_over()?;
        let engine = Docker::connect().await?;
        // An image that takes long to build can be interrupted as well.
        let image = tokio::select! {
            image = both(&engine, settings.image.as_deref(), output) => image?,
            _ = signals.next(0) => return Err(SandboxError::Interrupted.into()),
        };
        let request = RunRequest {
            name,
            verb,
            command,
            env,
            image: image.id,
            limits: limits(&settings, engine.info().await?.memory)?,
            nano_cpus: nano_cpus(settings.cpus)?,
            tty: terminal::is_interactive(),
            model: route.clone(),
            policy,
            workspace: match settings.workspace.unwrap_or_default() {
                WorkspaceMode::Auto => None,
                WorkspaceMode::Overlay => Some(Workspace::Overlay),
                WorkspaceMode::Copy => Some(Workspace::Copy),
            },
        };
        say_advisories(engine.info().await?, output);
        let progress = Progress::start(output);
        let include = options.include.clone();
        let ground =
            Ground::prepare(&engine, &repo.host, snapshot, work, include, &mut signals, &progress.meter).await?;
        let sandbox = match lifecycle::create(&repo.host, &ground, &request) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                ground.discard(&engine).await?;
                return Err(error.into());
            }
        };
        let is_fresh = ground.is_fresh();
        let early = counting.take();
        let line = first_line(&sandbox, early.as_ref(), uncommitted, route.is_some());
        progress.aside(|| say_beginning(&line, early.as_ref(), &ground.manifest, output));
        let started = || {
            progress.pause();
            counting.agent_starts();
        };
        let run =
            lifecycle::run(&engine, &repo.host, ground, sandbox, &request, &mut signals, &progress.meter, started);
        let finished = run.await;
        progress.end();
        // Whoever was not ready before the agent speaks after it, not into its screen.
        if let Some(dirt) = counting.take() {
            say_dirt(&dirt, output);
        }
        signals.end_at_once();
        let finished = finished?;
        if is_fresh {
            say_bases(&repo.host, settings.bases.unwrap_or(KEPT_BASES), output)?;
        }
        Ok::<_, Failure>((finished, engine, route))
    })?;
    if let Some(error) = &finished.unsealed {
        output.say(&format!("the base could not be kept for later starts: {}", Shown::new(&error.to_string())));
    }
    // However quiet: without this the exit status is a riddle.
    for met in &finished.met {
        tell(&format!("airlock: {met}\n"));
    }
    if !finished.dropped.is_empty() {
        let kinds: Vec<&str> = finished.dropped.keys().copied().collect();
        let all: u64 = finished.dropped.values().sum();
        let all = usize::try_from(all).unwrap_or(usize::MAX);
        let kept = if all == 1 { "was" } else { "were" };
        let kinds = kinds.join(", ");
        output.say(&format!("{} {kept} kept from your terminal: {kinds}", count(all, "control sequence")));
    }
    say_route(route.as_ref().map(|(model, _)| model), output);
    let status = u8::try_from(finished.exit).unwrap_or(FAILED);
    if finished.changes.is_empty() && !options.keep {
        let name = finished.sandbox.record.name.clone();
        let ignored = &finished.changes.ignored;
        let only = match ignored.first.first() {
            Some(first) => {
                let more = if ignored.count > 1 { ", …" } else { "" };
                let first = Shown::new(first.as_bytes());
                format!(
                    " but what is ignored ({first}{more}), which stays behind; --include takes it along, --keep keeps it. It"
                )
            }
            None => ", and".into(),
        };
        output.say(&format!("{name} changed nothing{only} is removed"));
        runtime.block_on(lifecycle::remove(&engine, finished.sandbox, false))?;
        return Ok(status);
    }
    summary(&finished, output)?;
    after(&repo.host, finished, settings.review.unwrap_or_default(), output)?;
    Ok(status)
}

fn settings(options: &RunOptions) -> Result<Settings, Failure> {
    let flags = Settings {
        image: options.image.clone(),
        memory: options.memory.clone(),
        cpus: options.cpus,
        pids: options.pids,
        net: options.net,
        disk: options.disk.clone(),
        timeout: options.timeout.clone(),
        review: options.review,
        ..Settings::default()
    };
    Ok(Settings::load(|name| std::env::var(name).ok())?.under(flags))
}

/// What the agent may take, on an engine with so much memory.
pub fn limits(settings: &Settings, machine: u64) -> Result<Limits, Failure> {
    let wrong = |option: &'static str| move |problem| Failure::new(USAGE, format!("{option}: {problem}"));
    let bytes = |text: &Option<String>, option| text.as_deref().map(parse_bytes).transpose().map_err(wrong(option));
    let time = settings.timeout.as_deref().map(parse_duration).transpose().map_err(wrong("--timeout"))?;
    Ok(Limits {
        disk: bytes(&settings.disk, "--disk")?.unwrap_or(DEFAULT_DISK),
        inodes: settings.inodes.unwrap_or(DEFAULT_INODES),
        time,
        memory: bytes(&settings.memory, "--memory")?.unwrap_or_else(|| default_memory(machine)),
        pids: settings.pids.unwrap_or(DEFAULT_PIDS),
    })
}

fn nano_cpus(cpus: Option<f64>) -> Result<u64, Failure> {
    let Some(cpus) = cpus else { return Ok(0) };
    if !(0.01..=1024.0).contains(&cpus) {
        return Err(Failure::new(USAGE, format!("{cpus} is not a number of CPUs such as 1.5")));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    Ok((cpus * 1e9) as u64)
}

/// Makes `KEY=VALUE` of what `--env` was given. Variables that would bring the credential in are refused.
fn variables(given: &[String]) -> Result<Vec<String>, Failure> {
    let secret =
        [CredentialKind::ApiKey, CredentialKind::AuthToken, CredentialKind::OauthToken].map(CredentialKind::variable);
    let mut found = Vec::new();
    for variable in given {
        let (name, value) = match variable.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => match std::env::var(variable) {
                Ok(value) => (variable.as_str(), value),
                Err(_) => return Err(Failure::new(USAGE, format!("--env {variable}: it is not set here"))),
            },
        };
        if name.is_empty() {
            return Err(Failure::new(USAGE, format!("--env {variable}: it has no name")));
        }
        if secret.contains(&name) || name == "ANTHROPIC_BASE_URL" {
            return Err(Failure::new(USAGE, format!("--env {name}: Airlock keeps the credential outside the sandbox"))
                .hint("leave it out; the model is reached with --net model"));
        }
        found.push(format!("{name}={value}"));
    }
    Ok(found)
}

fn model_route() -> Result<(ModelRoute, CredentialKind), Failure> {
    let env = |name: &str| std::env::var(name).ok();
    let source = CredentialSource::find(env)?;
    let kind = source.read()?.kind;
    let upstream = env("ANTHROPIC_BASE_URL").filter(|v| !v.is_empty()).unwrap_or_else(|| UPSTREAM.into());
    let route = ModelRoute::new(&upstream, Some(source))
        .map_err(|error| Failure::new(FAILED, format!("failed to prepare the way to the model's API: {error}")))?;
    Ok((route, kind))
}

/// Finds the image, and asks the engine what it is meanwhile.
async fn both(engine: &dyn Engine, image: Option<&str>, output: Output) -> Result<ImageInfo, Failure> {
    let (image, info) = tokio::join!(image::find(engine, image, output), engine.info());
    info?;
    image
}

fn snapshot_options(options: &RunOptions) -> Result<SnapshotOptions, Failure> {
    let history = match &options.history {
        None => HistoryChoice::Auto,
        Some(text) => HistoryChoice::Given(text.parse().map_err(|e| Failure::new(USAGE, format!("--history: {e}")))?),
    };
    Ok(SnapshotOptions { full: options.full, history, moved_modules: options.uncommitted.is_some() })
}

/// Says what bases take, where there are more than are kept.
fn say_bases(host: &HostRepo, keep: usize, output: Output) -> Result<(), Failure> {
    let all = Bases::of(&host.common_dir).all()?;
    if all.len() > keep {
        let bytes = HumanBytes(all.iter().map(|b| b.bytes).sum());
        output
            .say(&format!("{} of this repository take {bytes}; airlock gc removes old ones", count(all.len(), "base")));
    }
    Ok(())
}

/// Warns of a runtime with a known way out. What a distribution may have mended is for `doctor` alone.
fn say_advisories(info: &EngineInfo, output: Output) {
    let mut known: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for (component, version, advisory, _) in info.advisories().into_iter().filter(|(.., mended)| !mended) {
        known.entry((component, version)).or_default().push(advisory.id);
    }
    for ((component, version), ids) in known {
        let (component, version) = (Shown::new(component), Shown::new(version));
        output.say(&format!("{component} {version} has {}; airlock doctor tells more", ids.join(", ")));
    }
}

fn say_route(route: Option<&ModelRoute>, output: Output) {
    let Some(report) = route.map(ModelRoute::report) else { return };
    for (what, n) in &report.failures {
        output.say(&format!("{} ({n} times)", Shown::new(what)));
    }
    if !report.refused.is_empty() {
        let list: Vec<String> = report.refused.iter().take(3).map(|(what, _)| Shown::new(what).to_string()).collect();
        let all: u64 = report.refused.values().sum();
        output.say(&format!("the gateway refused {all} requests, such as {}", list.join(", ")));
    }
}

fn summary(finished: &Finished, output: Output) -> Result<(), Failure> {
    let changes = &finished.changes;
    let sheet = Sheet::open(changes, &finished.sandbox.quarantine()?)?;
    let (added, removed) = sheet.line_counts();
    let mut text = format!(
        "{} changed {}, +{added} −{removed}",
        finished.sandbox.record.name,
        count(changes.files.len(), "file"),
    );
    let risky: Vec<String> = (changes.files.iter())
        .filter(|f| f.level() == Some(Level::High))
        .map(|f| Shown::new(f.path.as_bytes()).to_string())
        .collect();
    if !risky.is_empty() {
        let need = if risky.len() == 1 { "needs" } else { "need" };
        let more = if risky.len() > 3 { ", …" } else { "" };
        text += &format!(" · {} {need} a closer look: {}{more}", risky.len(), risky[..risky.len().min(3)].join(", "));
    }
    let refused = changes.refused.len() + changes.files.iter().filter(|f| f.level() == Some(Level::Refused)).count();
    if refused > 0 {
        text += &format!(" · {refused} cannot be accepted");
    }
    output.say(&text);
    if !changes.hidden.is_empty() {
        output.say(&hidden(changes));
    }
    Ok(())
}

fn after(host: &HostRepo, finished: Finished, mode: ReviewMode, output: Output) -> Result<(), Failure> {
    let name = finished.sandbox.record.name.clone();
    let now = terminal::is_interactive()
        && match mode {
            ReviewMode::Never => false,
            ReviewMode::Always => true,
            ReviewMode::Ask => review::confirm("Review now?", true)?,
        };
    if now {
        // The exit status stays the agent's.
        review::interact(host, finished.sandbox, &finished.changes, false, output).map(drop)
    } else {
        // Said however quiet: without the name nobody finds it.
        tell(&format!("airlock: kept. Next: airlock review {name}\n"));
        Ok(())
    }
}
