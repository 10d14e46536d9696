//! The engine of a command: that of its sandbox, or the one that the user chose.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use futures_util::future::join_all;

use crate::cli::error::CliError;
use crate::cli::output::{Output, format_count};
use crate::config::Settings;
use crate::core::escape::Escaped;
use crate::core::state_dir::state_dir;
use crate::engine::{Docker, Engine, EngineInfo};
use crate::sandbox::placement::{EngineLoad, EngineNeeds, Reservation, SandboxSize, reserve_place};
use crate::sandbox::{SandboxError, SandboxRecord, SandboxStore};

/// The choice of any of the engines in the setting `engines`.
const ANY: &str = "any";
/// Maximum time to find out how much room an engine has.
const LOAD_TIMEOUT: Duration = Duration::from_secs(20);

/// Connects to the engine for images and setups.
///
/// # Errors
/// The engine cannot be reached, or any of several is chosen.
pub(crate) async fn connect_engine(settings: &Settings) -> Result<Docker, CliError> {
    if is_any_engine(settings) {
        let engines = list_choices(settings)?.join(", ");
        return Err(CliError::usage("`any` is a choice for new sandboxes; this command is about one engine")
            .with_hint(format!("name one with `--engine`: {engines}")));
    }
    Ok(Docker::connect(settings.engine.as_deref()).await?)
}

/// Returns whether a new sandbox is placed on one of several engines.
#[must_use]
pub(crate) fn is_any_engine(settings: &Settings) -> bool {
    settings.engine.as_deref() == Some(ANY)
}

/// Returns the engines that `any` stands for.
///
/// # Errors
/// The setting names no engine, or `any` itself.
pub(crate) fn list_choices(settings: &Settings) -> Result<&[String], CliError> {
    let engines = settings.engines.as_ref().map_or(&[][..], |words| &words.0);
    if engines.is_empty() || engines.iter().any(|name| name == ANY) {
        let problem = if engines.is_empty() { "is empty" } else { "contains `any` itself" };
        return Err(CliError::usage(format!("the engine is `any`, but the setting `engines` {problem}"))
            .with_hint("add `engines = [\"default\", \"ssh://build-box\"]` with your engines to the configuration"));
    }
    Ok(engines)
}

/// The engine of a new sandbox.
pub(crate) struct PlacedEngine {
    pub engine: Docker,
    /// The user's settings, with this engine.
    pub settings: Settings,
    /// The reservation on one of several engines, until the sandbox has containers.
    pub reservation: Option<Reservation>,
}

/// Connects to the engine for a new sandbox. If the user chose any of several, this is the one with the most room.
///
/// # Errors
/// The engine, or each of several, cannot be reached.
pub(crate) async fn place_sandbox(
    settings: &Settings,
    size: SandboxSize,
    needs: &EngineNeeds,
    output: Output,
) -> Result<PlacedEngine, CliError> {
    if !is_any_engine(settings) {
        let engine = connect_engine(settings).await?;
        return Ok(PlacedEngine { engine, settings: settings.clone(), reservation: None });
    }
    let choices = list_choices(settings)?;
    let answers = join_all(choices.iter().map(|choice| connect_and_measure(choice, needs))).await;
    let (mut reached, mut failures) = (Vec::new(), Vec::new());
    for (choice, answer) in choices.iter().zip(answers) {
        match answer {
            Ok((engine, load)) => reached.push((choice.as_str(), load, engine)),
            Err(problem) => failures.push(problem),
        }
    }
    if reached.is_empty() {
        return Err(CliError::failed("none of the engines can be used")
            .with_details(failures)
            .with_hint("for the details of one, run `airlock --engine NAME doctor`"));
    }
    for failure in &failures {
        output.print_status(&format!("skipped an engine: {}", Escaped::new(failure)));
    }
    let dir = state_dir().ok_or_else(|| CliError::failed("there is no directory for Airlock's state; set HOME"))?;
    let loads: Vec<_> = reached.iter().map(|(choice, load, _)| (*choice, *load)).collect();
    let reservation = reserve_place(&dir.join("placements"), &loads, size)?
        .ok_or_else(|| io::Error::other("there is no engine to choose"))?;
    let (choice, _, engine) = reached.swap_remove(reservation.position);
    let is_only = reached.is_empty();
    output.print_status(&describe_place(choice, &reservation.load, size, is_only));
    let settings = Settings { engine: Some(choice.to_owned()), ..settings.clone() };
    Ok(PlacedEngine { engine, settings, reservation: Some(reservation) })
}

/// Connects to one of several engines, and asks how much room it has.
pub(crate) async fn connect_and_measure(choice: &str, needs: &EngineNeeds) -> Result<(Docker, EngineLoad), String> {
    let ask = async {
        let engine = Docker::connect_silently(Some(choice)).await.map_err(|error| error.to_string())?;
        let load = EngineLoad::measure_load(&engine, &needs.image).await.map_err(|error| error.to_string())?;
        let info = engine.engine_info().await.map_err(|error| error.to_string())?;
        match &needs.runtime {
            Some(name) if !info.may_have_runtime(name) => Err(format!("{choice} has no runtime `{name}`")),
            _ if !load.has_image && !needs.builds_image => Err(format!("{choice} has no image `{}`", needs.image)),
            _ => Ok((engine, load)),
        }
    };
    let timeout = || Err(format!("{choice} did not answer within {} s", LOAD_TIMEOUT.as_secs()));
    tokio::time::timeout(LOAD_TIMEOUT, ask).await.unwrap_or_else(|_| timeout())
}

/// Describes the engine that was chosen, with the new sandbox.
fn describe_place(choice: &str, load: &EngineLoad, size: SandboxSize, is_only: bool) -> String {
    let sandboxes = format_count(usize::try_from(load.sandboxes).unwrap_or(usize::MAX), "sandbox");
    let room = match load.free_places(size) {
        0 if load.has_room_without(size) => "it is full now".to_owned(),
        0 if is_only => "more than it has room for".into(),
        0 => "more than it has room for: all engines are full".into(),
        places => format!("room for {places} more"),
    };
    format!("engine: {} · {sandboxes}, including this one · {room}", Escaped::new(choice))
}

/// Checks that an engine has the runtime that the user chose.
///
/// # Errors
/// It does not.
pub(crate) fn check_runtime(info: &EngineInfo, runtime: Option<&str>) -> Result<(), CliError> {
    let Some(name) = runtime.filter(|name| !info.may_have_runtime(name)) else { return Ok(()) };
    let known = info.runtimes.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let address = &info.address;
    Err(CliError::failed(format!("the engine at {address} has no runtime `{name}`; its runtimes are {known}"))
        .with_hint("register it in the engine's configuration (daemon.json, runtimes), or omit `--runtime`"))
}

/// Connects to the engine that a sandbox was created on, whatever is chosen now.
///
/// # Errors
/// The engine cannot be reached.
pub(crate) async fn connect_engine_of(record: &SandboxRecord) -> Result<Docker, CliError> {
    Docker::connect(record.engine.as_deref()).await.map_err(|error| {
        let failure = CliError::from(error);
        match &record.engine {
            Some(engine) => failure.with_details([format!("{} is on the engine {engine}", record.name)]),
            None => failure,
        }
    })
}

/// Lists the engines that may have objects of a repository: the chosen ones first, then those of its sandboxes.
///
/// # Errors
/// The records of the sandboxes cannot be read.
pub(crate) fn list_engines(settings: &Settings, store: &SandboxStore) -> Result<Vec<Option<String>>, CliError> {
    let recorded: BTreeSet<Option<String>> =
        store.open_all().map_err(SandboxError::from)?.into_iter().map(|one| one.record.engine).collect();
    let chosen: Vec<Option<String>> = if is_any_engine(settings) {
        list_choices(settings)?.iter().cloned().map(Some).collect()
    } else {
        vec![settings.engine.clone()]
    };
    let others = recorded.into_iter().filter(|engine| !chosen.contains(engine));
    Ok(chosen.iter().cloned().chain(others).collect())
}
