//! The engine of a command: that of its sandbox, or the one that the user chose.

use std::collections::BTreeSet;

use crate::cli::error::CliError;
use crate::config::Settings;
use crate::engine::Docker;
use crate::sandbox::{SandboxError, SandboxRecord, SandboxStore};

/// Connects to the engine for new sandboxes and images.
///
/// # Errors
/// The engine cannot be reached.
pub(crate) async fn connect_engine(settings: &Settings) -> Result<Docker, CliError> {
    Ok(Docker::connect(settings.engine.as_deref()).await?)
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

/// Lists the engines that may have objects of a repository: the chosen one first, then those of its sandboxes.
///
/// # Errors
/// The records of the sandboxes cannot be read.
pub(crate) fn list_engines(settings: &Settings, store: &SandboxStore) -> Result<Vec<Option<String>>, CliError> {
    let recorded: BTreeSet<Option<String>> =
        store.open_all().map_err(SandboxError::from)?.into_iter().map(|one| one.record.engine).collect();
    let chosen = settings.engine.clone();
    let others = recorded.into_iter().filter(|engine| *engine != chosen);
    Ok([chosen.clone()].into_iter().chain(others).collect())
}
