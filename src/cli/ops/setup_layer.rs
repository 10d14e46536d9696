//! Runs the setup command of a repository once, and finds the layer with its result afterwards.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::answers::Request;
use super::network::plan_network;
use super::policy::read_repository_settings;
use crate::base::{PreparedBase, RunContext, repository_id};
use crate::cli::confirm::ask_yes_no;
use crate::cli::error::CliError;
use crate::cli::output::{Output, print_stderr};
use crate::config::Settings;
use crate::core::escape::Escaped;
use crate::core::hex::to_hex;
use crate::gateway::NetworkLevel;
use crate::git::{HostRepo, Snapshot, UncommittedChanges};
use crate::images::{is_setup_input, suggest_setup};
use crate::sandbox::layer::{Layer, LayerStore, seal_layer};
use crate::sandbox::{NetworkConfig, RunRequest, SandboxError, WorkspaceKind, lifecycle};
use crate::terminal::{self, Signals};

/// A part of every key. Raise it when the same setup gives another layer.
const FORMAT: &str = "airlock-setup-1";
/// Maximum number of files that an error names.
const MAX_NAMED: usize = 3;

/// Finds the setup command of a commit: the user's own, the repository's, the devcontainer's, or the one that fits its lock
/// files. What comes from the repository is asked once.
///
/// # Errors
/// A file of the repository is invalid, or an answer cannot be saved.
pub(crate) fn find_setup(
    host: &HostRepo,
    snapshot: &Snapshot,
    settings: &Settings,
    devcontainer: &[String],
) -> Result<Option<String>, CliError> {
    if let Some(command) = &settings.setup {
        return Ok(Some(command.clone()).filter(|command| command != "none"));
    }
    let requested = read_repository_settings(host, &snapshot.commit)?.and_then(|(settings, _)| settings.setup);
    let devcontainer = (!devcontainer.is_empty()).then(|| devcontainer.join(" && "));
    let tree = host.open_commit(&snapshot.commit)?;
    let Some(command) = requested.or(devcontainer).or_else(|| suggest_setup(|name| tree.has_file(name))) else {
        return Ok(None);
    };
    let request = Request::new(host, &format!("setup\0{command}"))?;
    let answer = match request.find_answer() {
        Some(answer) => answer,
        None if terminal::is_interactive() => {
            let question = format!(
                "Run `{}` once in a sandbox, so that later sandboxes of this repository have its result?",
                Escaped::new(&command)
            );
            let answer = ask_yes_no(&question, true)?;
            request.save_answer(answer)?;
            answer
        }
        None => false,
    };
    Ok(answer.then_some(command))
}

/// Returns the key of a layer: the image, the command, the workspace's place, and the files that the result depends on.
fn compute_key(host: &HostRepo, snapshot: &Snapshot, request: &RunRequest, command: &str) -> Result<String, CliError> {
    let mut key = Sha256::new();
    key.update(format!("{FORMAT}\0{}\0{command}\0{}\0", request.image, host.root.display()));
    for (path, id) in host.open_commit(&snapshot.commit)?.list_blobs(|path| is_setup_input(path, command))? {
        key.update(format!("{id} {path}\0"));
    }
    Ok(to_hex(&key.finalize()))
}

/// Finds the layer for a command, or runs the command and seals its result.
///
/// # Errors
/// The setup fails, or changes files that a review would show; its sandbox is kept.
pub(crate) async fn find_or_build_layer(
    context: RunContext<'_>,
    snapshot: &Arc<Snapshot>,
    (request, settings): (&RunRequest, &Settings),
    command: &str,
    (signals, output): (&mut Signals, Output),
) -> Result<Layer, CliError> {
    let RunContext { engine, host, .. } = context;
    let store = LayerStore::new(&host.common_dir);
    let key = compute_key(host, snapshot, request, command)?;
    if let Some(layer) = store.find_layer(engine, &key).await? {
        return Ok(layer);
    }
    let _lock = match store.try_lock_build()? {
        Some(lock) => lock,
        None => {
            output.print_status("waiting for another process that runs the setup of this repository");
            // The thread is not joined, because it may wait for a long time.
            let (sender, locked) = tokio::sync::oneshot::channel();
            let waiting = store.clone();
            std::thread::spawn(move || sender.send(waiting.lock_build()));
            tokio::select! {
                lock = locked => lock.map_err(std::io::Error::other)??,
                _ = signals.next(0) => return Err(SandboxError::Interrupted.into()),
            }
        }
    };
    if let Some(layer) = store.find_layer(engine, &key).await? {
        return Ok(layer);
    }
    output.print_status(&format!(
        "running `{}` in a sandbox; this happens once, until a lock file changes",
        Escaped::new(command)
    ));
    let repository = repository_id(&host.common_dir).map_err(SandboxError::from)?;
    let mut layer = Layer::new(repository, key, command.to_owned())?;
    let config = NetworkConfig { level: NetworkLevel::Packages, ..NetworkConfig::default() };
    let network = match plan_network(&config, settings, "run", host, output)? {
        Some(mut plan) => {
            plan.read_requests(host, &snapshot.commit)?;
            Some(plan.into_request(host, (engine, &request.image), output).await?)
        }
        None => None,
    };
    let setup = RunRequest {
        name: None,
        verb: "run",
        // The standard output belongs to the agent.
        command: ["sh", "-c", &format!("exec 1>&2\n{command}")].map(str::to_owned).into(),
        tty: false,
        network: network.map(|network| crate::sandbox::NetworkRequest { credential: None, ..network }),
        ports: Vec::new(),
        forwards: Vec::new(),
        layer: None,
        builds_layer: Some(layer.clone()),
        workspace: Some(WorkspaceKind::Overlay),
        ..request.clone()
    };
    let base =
        PreparedBase::find_or_build(context, Arc::clone(snapshot), UncommittedChanges::default(), Vec::new(), signals)
            .await
            .map_err(SandboxError::from)?;
    let sandbox = lifecycle::create_sandbox(host, &base, &setup)?;
    let finished = lifecycle::run_new_sandbox(context, base, sandbox, &setup, signals, || {}).await?;
    let name = finished.sandbox.record.name.clone();
    let keep = |problem: String| {
        print_stderr(&format!(
            "airlock: the sandbox {name} is kept, so that you can look: airlock resume {name} -- sh\n"
        ));
        CliError::failed(problem).with_hint("to start without the setup, use `--no-setup`")
    };
    if signals.stop_request().count > 0 {
        lifecycle::remove_sandbox(engine, finished.sandbox, true).await?;
        return Err(SandboxError::Interrupted.into());
    }
    if finished.exit != 0 {
        let limits: String = finished.limits_hit.iter().map(|limit| format!("; {limit}")).collect();
        return Err(keep(format!("the setup `{command}` ended with status {}{limits}", finished.exit)));
    }
    if !finished.changes.is_empty() {
        let paths =
            finished.changes.files.iter().take(MAX_NAMED).map(|file| Escaped::new(file.path.as_bytes()).to_string());
        let more = if finished.changes.files.len() > MAX_NAMED { ", …" } else { "" };
        let paths = paths.collect::<Vec<_>>().join(", ");
        return Err(keep(format!("the setup `{command}` changed files that are not ignored: {paths}{more}")));
    }
    let modules: Vec<_> = snapshot.module_paths().cloned().collect();
    let mut sandbox = finished.sandbox;
    if let Err(error) = seal_layer(engine, &mut layer, &modules).await {
        lifecycle::remove_sandbox(engine, sandbox, true).await?;
        return Err(error.into());
    }
    store.save_record(&layer)?;
    // From now on, the volume belongs to the layer.
    sandbox.record.builds_layer = None;
    sandbox.save_record()?;
    lifecycle::remove_sandbox(engine, sandbox, true).await?;
    Ok(layer)
}
