//! `airlock claude`, `run` and `shell`: create a sandbox, run an agent in it and collect its changes.

use std::ffi::OsString;
use std::sync::Arc;

use indicatif::HumanBytes;

use super::image;
use crate::base::{BaseStore, PreparedBase};
use crate::cli::args::{RunOptions, UncommittedArg};
use crate::cli::error::{CliError, FAILED, USAGE};
use crate::cli::ops::advisories::{SHELL, say_advisories};
use crate::cli::ops::agent_config::{given, model_route, variables};
use crate::cli::ops::end_summary::{say_ended, summary};
use crate::cli::ops::holdings::{holdings, way_to_get};
use crate::cli::ops::offer_review::is_review_wanted;
use crate::cli::ops::policy::policy;
use crate::cli::ops::repo::{Repo, runtime};
use crate::cli::ops::rounds::{Round, run_rounds};
use crate::cli::ops::start_summary::{DirtyScan, first_line, say_beginning, say_dirt};
use crate::cli::output::{Output, count, eprint};
use crate::cli::progress::Progress;
use crate::config::{Net, Settings, WorkspaceMode};
use crate::core::name::SandboxName;
use crate::engine::{Docker, Engine, ImageInfo};
use crate::git::{History, HistoryChoice, HostRepo, SnapshotOptions, UncommittedScope};
use crate::sandbox::gc::KEPT_BASES;
use crate::sandbox::{RunRequest, SandboxError, Workspace, lifecycle};
use crate::terminal;
use crate::terminal::Signals;

pub fn claude(options: RunOptions, args: Vec<OsString>, output: Output) -> Result<u8, CliError> {
    let args = args.into_iter().map(OsString::into_string).collect::<Result<Vec<_>, _>>();
    let args =
        args.map_err(|bad| CliError::new(USAGE, format!("an argument is not UTF-8: {}", bad.to_string_lossy())))?;
    let command = std::iter::once("claude".to_owned()).chain(args).collect();
    sandbox("claude", Net::Model, options, command, output)
}

pub fn command(options: RunOptions, command: Vec<String>, output: Output) -> Result<u8, CliError> {
    sandbox("run", Net::None, options, command, output)
}

pub fn shell(options: RunOptions, output: Output) -> Result<u8, CliError> {
    if !terminal::is_interactive() {
        return Err(CliError::new(USAGE, "a shell needs a terminal").hint("airlock run -- COMMAND…"));
    }
    sandbox("shell", Net::None, options, ["sh", "-c", SHELL].map(str::to_owned).into(), output)
}

/// Returns the error for `airlock run` without `--` before its command.
pub fn no_dashes() -> CliError {
    CliError::new(USAGE, "failed to tell the command from the options: it goes after --")
        .hint("airlock run [OPTIONS] -- COMMAND…")
}

fn sandbox(
    verb: &'static str,
    default_net: Net,
    options: RunOptions,
    command: Vec<String>,
    output: Output,
) -> Result<u8, CliError> {
    let settings = Settings::load(|name| std::env::var(name).ok())?.under(options.agent.settings());
    let name = options.name.as_deref().map(str::parse::<SandboxName>).transpose()?;
    let env = variables(&options.agent.env)?;
    let repo = Repo::open(output)?;
    let wanted = snapshot_options(&options)?;
    if let Some(name) = &name
        && repo.store.open(name)?.is_some()
    {
        return Err(SandboxError::NameTaken(name.clone()).into());
    }
    let uncommitted = match options.uncommitted {
        None => UncommittedScope::None,
        Some(UncommittedArg::Tracked) => UncommittedScope::Tracked,
        Some(UncommittedArg::All) => UncommittedScope::All,
    };
    let counting = DirtyScan::begin(repo.host.reopen()?, uncommitted);
    let route = match settings.net.unwrap_or(default_net) {
        Net::None => None,
        Net::Model => Some(model_route()?),
    };
    let snapshot = Arc::new(repo.host.snapshot(&wanted)?);
    let policy = policy(&settings, &repo.host, &snapshot.commit, snapshot.module_paths(), output)?;
    let work = repo.host.work(&snapshot, uncommitted, &options.include)?;
    let runtime = runtime()?;
    let (finished, engine, route) = runtime.block_on(async {
        let mut signals = Signals::take_over()?;
        let engine = Docker::connect().await?;
        // A long image build can be interrupted as well.
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
            image_volumes: image.volumes,
            given: given(&settings, &options.agent.env, default_net, engine.info().await?.memory)?,
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
            PreparedBase::prepare(&engine, &repo.host, snapshot, work, include, &mut signals, &progress.meter).await?;
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
        progress.aside(|| {
            say_beginning(&line, early.as_ref(), &ground.manifest, output);
            if options.history.is_none() && ground.manifest.history == History::None {
                output.say("this is a partial clone: its history does not go along; where all of it is here, --history full takes it (git fetch --refetch --no-filter gets it)");
            }
        });
        let started = || {
            progress.pause();
            counting.agent_starts();
        };
        let run =
            lifecycle::run(&engine, &repo.host, ground, sandbox, &request, &mut signals, &progress.meter, started);
        let finished = run.await;
        progress.end();
        // A scan that was not finished before the agent started is printed after it, not into the agent's screen.
        if let Some(dirt) = counting.take() {
            say_dirt(&dirt, output);
        }
        signals.end_at_once();
        let finished = finished?;
        if is_fresh {
            say_bases(&repo.host, settings.bases.unwrap_or(KEPT_BASES), output)?;
        }
        Ok::<_, CliError>((finished, engine, route))
    })?;
    say_ended(&finished, route.as_ref().map(|(model, _)| model), output);
    let status = u8::try_from(finished.exit).unwrap_or(FAILED);
    let has_talked = route.as_ref().is_some_and(|(route, _)| route.report().answered > 0);
    if finished.changes.is_empty() && !options.keep {
        let name = finished.sandbox.record.name.clone();
        let holds = holdings(&finished.sandbox.record, &finished.changes.ignored, has_talked);
        let Some(holds) = holds else {
            output.say(&format!("{name} changed nothing, and is removed"));
            runtime.block_on(lifecycle::remove(&engine, finished.sandbox, false))?;
            return Ok(status);
        };
        let mut sandbox = finished.sandbox;
        lifecycle::settle(&mut sandbox)?;
        // Printed even with `--quiet`, because the user needs the name to find the sandbox.
        eprint(&format!("airlock: {name} changed no file, and is kept: it holds {holds}\n"));
        let how = if sandbox.record.verb == "claude" { "" } else { " -- COMMAND" };
        eprint(&format!("airlock: next: airlock resume {name}{how}, or airlock rm {name}\n"));
        if let Some(way) = way_to_get(name.as_str(), &finished.changes.ignored) {
            output.say(&way);
        }
        return Ok(status);
    }
    summary(&finished, output)?;
    if is_review_wanted(&finished.sandbox, settings.review.unwrap_or_default())? {
        // The exit status is still the agent's.
        let round = Round::Review { sandbox: finished.sandbox, changes: finished.changes, plain: false };
        run_rounds(&repo.host, round, output)?;
    }
    Ok(status)
}

fn snapshot_options(options: &RunOptions) -> Result<SnapshotOptions, CliError> {
    let history = match &options.history {
        None => HistoryChoice::Auto,
        Some(text) => HistoryChoice::Given(text.parse().map_err(|e| CliError::new(USAGE, format!("--history: {e}")))?),
    };
    Ok(SnapshotOptions { full: options.full, history, moved_modules: options.uncommitted.is_some() })
}

/// Prints the disk usage of the bases if there are more than `keep`.
fn say_bases(host: &HostRepo, keep: usize, output: Output) -> Result<(), CliError> {
    let all = BaseStore::of(&host.common_dir).list_bases()?;
    if all.len() > keep {
        let bytes = HumanBytes(all.iter().map(|b| b.bytes).sum());
        output
            .say(&format!("{} of this repository take {bytes}; airlock gc removes old ones", count(all.len(), "base")));
    }
    Ok(())
}

/// Finds or builds the image, while querying the engine's properties.
async fn both(engine: &dyn Engine, image: Option<&str>, output: Output) -> Result<ImageInfo, CliError> {
    let (image, info) = tokio::join!(image::find(engine, image, output), engine.info());
    info?;
    image
}
