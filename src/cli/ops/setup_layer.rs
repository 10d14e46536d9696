//! Runs the setup command of a repository once, and finds the layer with its result afterwards.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::answers::Request;
use super::network::plan_network;
use super::policy::read_repository_settings;
use crate::base::{PreparedBase, RunContext, UseOfBase, repository_id};
use crate::cli::confirm::ask_yes_no;
use crate::cli::error::CliError;
use crate::cli::output::{Output, print_stderr};
use crate::config::Settings;
use crate::core::escape::Escaped;
use crate::core::hex::to_hex;
use crate::core::path::RepoPath;
use crate::gateway::NetworkLevel;
use crate::git::{HostRepo, Snapshot};
use crate::images::{is_setup_input, suggest_setup};
use crate::sandbox::layer::{Layer, LayerStore, seal_layer};
use crate::sandbox::{NetworkConfig, NetworkRequest, RunRequest, SandboxError, WorkspaceKind, lifecycle};
use crate::terminal::{self, Signals};

/// A part of every key. Raise it when the same setup gives another layer.
const FORMAT: &str = "airlock-setup-1";
/// The message for a workspace that cannot have a layer.
pub(crate) const NO_LAYERS: &str = "a copied workspace has no setup: the agent has to run it";
/// Maximum number of files that an error names.
const MAX_NAMED: usize = 3;

/// A setup command with its origin.
pub(crate) struct Setup {
    pub command: String,
    /// The request of the repository, unless the user's configuration has the command.
    request: Option<Request>,
}

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
) -> Result<Option<Setup>, CliError> {
    if let Some(command) = &settings.setup {
        let setup = Setup { command: command.clone(), request: None };
        return Ok(Some(setup).filter(|setup| setup.command != "none"));
    }
    let requested = read_repository_settings(host, &snapshot.commit)?.and_then(|(settings, _)| settings.setup);
    let devcontainer = (!devcontainer.is_empty()).then(|| devcontainer.join(" && "));
    let tree = host.open_commit(&snapshot.commit)?;
    let Some(command) = requested.or(devcontainer).or_else(|| suggest_setup(|name| tree.has_file(name))) else {
        return Ok(None);
    };
    if command.trim() == "none" {
        return Ok(None);
    }
    let request = Request::new(host, "setup", std::slice::from_ref(&command))?;
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
    Ok(answer.then_some(Setup { command, request: Some(request) }))
}

/// Returns the key of a layer: the image, the command, the workspace's place, and the files that the result depends on.
fn compute_key(
    host: &HostRepo,
    snapshot: &Snapshot,
    (image, env): (&str, &[String]),
    command: &str,
) -> Result<String, CliError> {
    let mut key = Sha256::new();
    key.update(format!("{FORMAT}\0{image}\0{command}\0{}\0{env:?}\0", host.root.display()));
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
    (request, settings, env): (&RunRequest, &Settings, &[String]),
    setup: &Setup,
    (signals, output): (&mut Signals, Output),
) -> Result<Option<Layer>, CliError> {
    let command = setup.command.as_str();
    let RunContext { engine, host, .. } = context;
    let store = LayerStore::new(&host.common_dir);
    let key = compute_key(host, snapshot, (&request.image, env), command)?;
    let tree = host.open_commit(&snapshot.commit)?;
    // A file of the commit would be hidden by a layer that has its path.
    let goes_with = |layer: &Layer| layer.paths.iter().all(|path| matches!(tree.find_entry(path), Ok(None)));
    if let Some(layer) = store.find_layer(engine, &key, goes_with).await? {
        return Ok(Some(layer));
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
    if let Some(layer) = store.find_layer(engine, &key, goes_with).await? {
        return Ok(Some(layer));
    }
    output.print_status(&format!(
        "running `{}` in a sandbox; this happens once, until a lock file changes",
        Escaped::new(command)
    ));
    let repository = repository_id(&host.common_dir).map_err(SandboxError::from)?;
    let mut layer = Layer::new(repository, key, command.to_owned())?;
    let chosen = request.agent_config.network.clone();
    let config = NetworkConfig { level: NetworkLevel::Packages, ports: Vec::new(), forwards: Vec::new(), ..chosen };
    let network = match plan_network(&config, settings, "run", host, output)? {
        Some(mut plan) => {
            plan.read_requests(host, &snapshot.commit)?;
            Some(plan.into_request(host, (engine, &request.image), output).await?)
        }
        None => None,
    };
    // The model is the agent's.
    let network = network.map(|mut network: NetworkRequest| {
        network.gateway.model = None;
        network.credential = None;
        network
    });
    let run = RunRequest {
        name: None,
        verb: "run",
        // The standard output belongs to the agent.
        command: ["sh", "-c", &format!("exec 1>&2\n{command}")].map(str::to_owned).into(),
        tty: false,
        network,
        // Variables of one run do not shape what all have.
        env: env.to_vec(),
        ports: Vec::new(),
        forwards: Vec::new(),
        layer: None,
        builds_layer: Some(layer.clone()),
        ..request.clone()
    };
    let base =
        PreparedBase::find_or_build(context, Arc::clone(snapshot), Default::default(), UseOfBase::Exact, signals)
            .await
            .map_err(SandboxError::from)?;
    let sandbox = lifecycle::create_sandbox(host, &base, &run)?;
    let finished = lifecycle::run_new_sandbox(context, base, sandbox, &run, signals, || {}).await?;
    let name = finished.sandbox.record.name.clone();
    if finished.sandbox.record.workspace_kind == WorkspaceKind::Copy {
        lifecycle::remove_sandbox(engine, finished.sandbox, true).await?;
        output.print_status(NO_LAYERS);
        return Ok(None);
    }
    let keep = |problem: String| {
        // What the repository asked for is not tried at every start.
        if let Some(request) = &setup.request {
            let _ = request.save_answer(false);
        }
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
    // What a submodule has is in no tree of this repository.
    let find_committed = |path: &RepoPath| tree.find_entry(path).ok().flatten();
    if let Err(error) = seal_layer(engine, &mut layer, &modules, find_committed).await {
        lifecycle::remove_sandbox(engine, sandbox, true).await?;
        return Err(error.into());
    }
    // From now on, the volume belongs to the layer. Without a record of it, it is garbage.
    sandbox.record.builds_layer = None;
    sandbox.save_record()?;
    store.save_record(&layer)?;
    lifecycle::remove_sandbox(engine, sandbox, true).await?;
    Ok(Some(layer))
}
