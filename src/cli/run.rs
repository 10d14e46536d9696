//! `airlock claude`, `run` and `shell`: a sandbox from start to end.

use std::ffi::OsString;
use std::time::Duration;

use indicatif::ProgressBar;

use super::args::RunOptions;
use super::failure::{FAILED, Failure, USAGE};
use super::output::{Output, count, tell};
use super::repo::{Repo, runtime};
use super::{image, review};
use crate::changes::Level;
use crate::config::{Net, ReviewMode, Settings, parse_bytes};
use crate::display::Shown;
use crate::engine::{Docker, Engine};
use crate::gateway::{CredentialKind, CredentialSource, ModelRoute};
use crate::review::Sheet;
use crate::sandbox::lifecycle::{self, DEFAULT_PIDS, Finished, RunRequest, default_memory};
use crate::sandbox::{SandboxName, Signals, terminal};
use crate::snapshot::{Dirt, HostRepo};

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
    let repo = Repo::here()?;
    let route = match settings.net.unwrap_or(default_net) {
        Net::None => None,
        Net::Model => Some(model_route()?),
    };
    let snapshot = repo.host.snapshot()?;
    let runtime = runtime()?;
    let (finished, engine, route) = runtime.block_on(async {
        let mut signals = Signals::take_over()?;
        let engine = Docker::connect().await?;
        // An image that takes long to build can be interrupted as well.
        let image = tokio::select! {
            image = image::find(&engine, settings.image.as_deref(), output) => image?,
            _ = signals.next(0) => return Err(crate::sandbox::SandboxError::Interrupted.into()),
        };
        let request = RunRequest {
            name,
            verb,
            command,
            env,
            image: image.id,
            memory: match &settings.memory {
                Some(text) => parse_bytes(text).map_err(|e| Failure::new(USAGE, e))?,
                None => default_memory(engine.info().memory),
            },
            pids: settings.pids.unwrap_or(DEFAULT_PIDS),
            nano_cpus: nano_cpus(settings.cpus)?,
            tty: terminal::is_interactive(),
            model: route.clone(),
        };
        let sandbox = lifecycle::create(&repo.host, &snapshot, &request)?;
        let short: String = snapshot.commit.chars().take(7).collect();
        let branch = snapshot.branch.as_deref().unwrap_or("detached HEAD");
        output.say(&format!(
            "{} · {} at {short}, {} · network: {}",
            sandbox.record.name,
            Shown::new(branch),
            count(snapshot.entries.len(), "file"),
            if route.is_some() { "model only" } else { "none" },
        ));
        // Looking for uncommitted work reads the whole tree: beside the seeding, not before it.
        let dirt = look_for_dirt(repo.host.reopen()?);
        let bar = spinner(output, &format!("copying {}", count(snapshot.entries.len(), "file")));
        let started = || {
            bar.finish_and_clear();
            // Whoever is not ready now speaks after the agent, not into its screen.
            if let Ok(dirt) = dirt.try_recv() {
                say_dirt(&dirt, output);
            }
        };
        let run = lifecycle::run(&engine, &repo.host, &snapshot, sandbox, &request, &mut signals, started);
        let finished = run.await;
        bar.finish_and_clear();
        if let Ok(dirt) = dirt.try_recv() {
            say_dirt(&dirt, output);
        }
        signals.end_at_once();
        let finished = finished?;
        Ok::<_, Failure>((finished, engine, route))
    })?;
    say_route(route.as_ref().map(|(model, _)| model), output);
    let status = u8::try_from(finished.exit).unwrap_or(FAILED);
    if finished.changes.is_empty() && !options.keep {
        let name = finished.sandbox.record.name.clone();
        runtime.block_on(lifecycle::remove(&engine, finished.sandbox))?;
        output.say(&format!("{name} changed nothing, and is removed"));
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
        review: options.review,
    };
    Ok(Settings::load(|name| std::env::var(name).ok())?.under(flags))
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

fn spinner(output: Output, message: &str) -> ProgressBar {
    let bar = if output.shows_progress() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    bar.set_message(message.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Looks for uncommitted work on a thread of its own.
fn look_for_dirt(host: HostRepo) -> std::sync::mpsc::Receiver<Dirt> {
    let (sender, found) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        if let Ok(dirt) = host.dirt() {
            let _ = sender.send(dirt);
        }
    });
    found
}

fn say_dirt(dirt: &Dirt, output: Output) {
    if let Some(operation) = dirt.operation {
        output.say(&format!("a {operation} is in progress here; the sandbox has HEAD without it"));
    }
    if dirt.files > 0 {
        let verb = if dirt.files == 1 { "stays" } else { "stay" };
        output.say(&format!("{} {verb} behind", count(dirt.files, "uncommitted file")));
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
        review::interact(host, finished.sandbox, &finished.changes, output).map(drop)
    } else {
        // Said however quiet: without the name nobody finds it.
        tell(&format!("airlock: kept. Next: airlock review {name}\n"));
        Ok(())
    }
}
