//! Runs the setup command of a repository once, and finds the layer with its result afterwards.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::find_setup::Setup;
use super::network::plan_network;
use crate::base::{PreparedBase, RunContext, UseOfBase, repository_id};
use crate::cli::error::CliError;
use crate::cli::output::{Output, print_stderr};
use crate::config::Settings;
use crate::core::escape::Escaped;
use crate::core::hex::to_hex;
use crate::core::path::RepoPath;
use crate::engine::recorded_choice;
use crate::gateway::NetworkLevel;
use crate::git::{CommittedTree, HostRepo, Snapshot};
use crate::images::is_setup_input;
use crate::sandbox::layer::{Layer, LayerStore};
use crate::sandbox::seal_layer::seal_layer;
use crate::sandbox::{NetworkConfig, NetworkRequest, RunRequest, SandboxError, lifecycle};
use crate::terminal::Signals;

/// A part of every key. Raise it when the same setup gives another layer.
const FORMAT: &str = "airlock-setup-2";
/// Maximum number of files that an error names.
const MAX_NAMED: usize = 3;

/// Returns the key of a layer: the image, the command, the workspace's place, and the files that the result depends on.
///
/// # Errors
/// The commit cannot be read.
pub(crate) fn compute_key(
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

/// Returns whether a layer hides no file of a commit.
pub(crate) fn goes_with(layer: &Layer, tree: &CommittedTree<'_>) -> bool {
    layer.paths.iter().all(|path| matches!(tree.find_entry(path), Ok(None)))
}

/// Finds the layer for a command, or runs the command and seals its result.
///
/// # Errors
/// The setup fails, or changes files that a review would show; its sandbox is kept.
pub(crate) async fn find_or_build_layer(
    context: RunContext<'_>,
    snapshot: &Arc<Snapshot>,
    (request, settings, env): (&RunRequest, &Settings, &[String]),
    (setup, again): (&Setup, bool),
    (signals, output): (&mut Signals, Output),
) -> Result<Layer, CliError> {
    let command = setup.command.as_str();
    let RunContext { engine, host, .. } = context;
    let store = LayerStore::new(&host.common_dir);
    let key = compute_key(host, snapshot, (&request.image, env), command)?;
    let tree = host.open_commit(&snapshot.commit)?;
    // A file of the commit would be hidden by a layer that has its path.
    let goes_with = |layer: &Layer| goes_with(layer, &tree);
    if let Some(layer) = store.find_layer(engine, &key, goes_with).await?.filter(|_| !again) {
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
    if let Some(layer) = store.find_layer(engine, &key, goes_with).await? {
        if !again {
            return Ok(layer);
        }
        // `gc` removes its volume once no sandbox uses it.
        store.remove_record(&layer.id)?;
    }
    output.print_status(&format!(
        "running `{}` in a sandbox, once; later sandboxes have its result",
        Escaped::new(command)
    ));
    let repository = repository_id(&host.common_dir).map_err(SandboxError::from)?;
    let mut layer = Layer::new(repository, key, command.to_owned(), engine.engine_info().await?)?;
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
        engine: settings.engine.as_deref().map(recorded_choice),
        verb: "run",
        // The standard output belongs to the agent.
        command: ["sh", "-c", &format!("exec 1>&2\n{command}")].map(str::to_owned).into(),
        tty: false,
        network,
        // Variables of one run do not shape what all have.
        env: env.to_vec(),
        ports: Vec::new(),
        forwards: Vec::new(),
        home_copies: Vec::new(),
        pasted_files: None,
        claude_json: Default::default(),
        user_config: Default::default(),
        layer: None,
        builds_layer: Some(layer.clone()),
        ..request.clone()
    };
    let base =
        PreparedBase::find_or_build(context, Arc::clone(snapshot), Default::default(), UseOfBase::Exact, signals)
            .await
            .map_err(SandboxError::from)?;
    let sandbox = lifecycle::create_sandbox(host, &base, &run)?;
    let finished = lifecycle::run_new_sandbox(context, base, sandbox, &run, (signals, None), || {}).await?;
    let name = finished.sandbox.record.name.clone();
    let keep = |problem: String| {
        // What the repository asked for is not tried at every start.
        setup.decline_request();
        print_stderr(&format!(
            "airlock: the sandbox {name} is kept, so that you can look: airlock resume {name} -- sh\n"
        ));
        CliError::failed(problem)
            .with_hint("to run it again, use `airlock setup`; to start without it, use `--no-setup`")
    };
    if signals.stop_request().count > 0 {
        lifecycle::remove_sandbox(engine, finished.sandbox, true).await?;
        return Err(SandboxError::Interrupted.into());
    }
    let exit = finished.report.exit;
    if exit != 0 {
        let limits: String = finished.report.limits_hit.iter().map(|limit| format!("; {limit}")).collect();
        let failure = keep(format!("the setup `{command}` ended with status {exit}{limits}"));
        return Err(match exit {
            127 => failure.with_hint(
                "if the image lacks a program, `airlock image build --project` builds one for this repository",
            ),
            _ => failure,
        });
    }
    if !finished.changes.is_empty() {
        let paths =
            finished.changes.files.iter().take(MAX_NAMED).map(|file| Escaped::new(file.path.as_bytes()).to_string());
        let more = if finished.changes.files.len() > MAX_NAMED { ", …" } else { "" };
        let paths = paths.collect::<Vec<_>>().join(", ");
        let failure = keep(format!("the setup `{command}` changed files that are not ignored: {paths}{more}"));
        return Err(failure.with_hint("a setup may only write files that `.gitignore` names"));
    }
    let modules: Vec<_> = snapshot.module_paths().cloned().collect();
    let mut sandbox = finished.sandbox;
    let limit = request.agent_config.limits.disk;
    // What a submodule has is in no tree of this repository.
    let find_committed = |path: &RepoPath| tree.find_entry(path).ok().flatten();
    if let Err(error) = seal_layer(engine, (&mut layer, &sandbox.record, limit), &modules, find_committed).await {
        lifecycle::remove_sandbox(engine, sandbox, true).await?;
        return Err(error.into());
    }
    // From now on, the volume belongs to the layer. Without a record of it, it is garbage.
    sandbox.record.builds_layer = None;
    sandbox.save_record()?;
    store.save_record(&layer)?;
    lifecycle::remove_sandbox(engine, sandbox, true).await?;
    Ok(layer)
}
