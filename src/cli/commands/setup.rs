//! `airlock setup`: runs the setup of a repository, and shows its result.

use std::sync::Arc;

use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::base::RunContext;
use crate::cli::args::{AgentOptions, SetupArgs};
use crate::cli::error::CliError;
use crate::cli::json::render_json;
use crate::cli::ops::agent_config::{new_agent_config, parse_variables, workspace_kind};
use crate::cli::ops::agent_image::{ImageChoice, find_or_build_image};
use crate::cli::ops::choose_image::{Proposal, choose_image};
use crate::cli::ops::engine::connect_engine;
use crate::cli::ops::find_setup::{Setup, find_setup, is_setup_accepted};
use crate::cli::ops::policy::collect_policy;
use crate::cli::ops::repo::{Repo, create_runtime, format_age};
use crate::cli::ops::settings::load_settings;
use crate::cli::ops::setup_layer::find_or_build_layer;
use crate::cli::output::{Output, print_stdout};
use crate::config::Settings;
use crate::core::escape::Escaped;
use crate::core::progress::ProgressCounter;
use crate::engine::{Engine, recorded_choice};
use crate::gateway::NetworkLevel;
use crate::git::{Snapshot, SnapshotOptions};
use crate::sandbox::layer::{Layer, LayerStore};
use crate::sandbox::{RunRequest, SandboxError};
use crate::terminal::Signals;

/// Number of paths of a layer that are named.
const MAX_NAMED: usize = 3;

pub(crate) fn run_setup(args: &SetupArgs, output: Output) -> Result<u8, CliError> {
    let (settings, repo) = (load_settings()?, Repo::open(output)?);
    let snapshot = Arc::new(repo.host.take_snapshot(&SnapshotOptions::default())?);
    let choice = choose_image(&repo.host, &snapshot.commit, &settings, Proposal::AskQuietly, output)?;
    let setup = find_setup(&repo.host, &snapshot, &settings, &choice.setup)?;
    if args.show {
        return show_setup(&repo, setup.as_ref(), args.json);
    }
    let Some(setup) = setup else {
        return Err(CliError::failed("nothing in this repository calls for a setup")
            .with_hint("set one in the configuration, or in a committed .airlock.toml: `setup = \"make deps\"`"));
    };
    if args.decline {
        if !setup.is_requested() {
            return Err(CliError::failed("the setup is your own: it is in your configuration")
                .with_hint("`setup = \"none\"` removes it, `--no-setup` omits it once"));
        }
        setup.decline_request();
        output.print_status(&format!("`{}` is not run before the agent", Escaped::new(&setup.command)));
        return Ok(0);
    }
    // To run it by hand is to accept it.
    is_setup_accepted(&setup, Proposal::Take, output)?;
    let layer = create_runtime()?.block_on(build_layer(
        (&repo, &settings, &choice),
        &snapshot,
        (&setup, args.again),
        output,
    ))?;
    let text = if args.json {
        render_json(&json!({"schema_version": 1, "layer": layer_json(&layer)}))
    } else {
        format!("{}\n", describe_layer(&layer))
    };
    print_stdout(&text)?;
    Ok(0)
}

async fn build_layer(
    (repo, settings, choice): (&Repo, &Settings, &ImageChoice),
    snapshot: &Arc<Snapshot>,
    setup: (&Setup, bool),
    output: Output,
) -> Result<Layer, CliError> {
    let mut signals = Signals::take_over()?;
    let engine = connect_engine(settings).await?;
    let image = tokio::select! {
        image = find_or_build_image(&engine, &repo.host, choice, settings, output) => image?,
        _ = signals.next(0) => return Err(SandboxError::Interrupted.into()),
    };
    let memory = engine.engine_info().await?.memory;
    let request = RunRequest {
        name: None,
        engine: settings.engine.as_deref().map(recorded_choice),
        verb: "run",
        command: Vec::new(),
        env: Vec::new(),
        image: image.id,
        image_volumes: image.volumes,
        agent_config: new_agent_config(settings, &AgentOptions::default(), NetworkLevel::Packages, memory)?,
        tty: false,
        network: None,
        ports: Vec::new(),
        forwards: Vec::new(),
        policy: collect_policy(settings, &repo.host, &snapshot.commit, snapshot.module_paths(), output)?,
        home_copies: Vec::new(),
        pasted_files: None,
        claude_json: Default::default(),
        user_config: Default::default(),
        layer: None,
        builds_layer: None,
        workspace: workspace_kind(settings),
    };
    let progress = Arc::new(ProgressCounter::default());
    let context = RunContext { engine: &engine, host: &repo.host, progress: &progress };
    let env = parse_variables(&choice.env)?;
    let prepared = (&request, settings, env.as_slice());
    find_or_build_layer(context, snapshot, prepared, setup, (&mut signals, output)).await
}

fn show_setup(repo: &Repo, setup: Option<&Setup>, json: bool) -> Result<u8, CliError> {
    let layers = LayerStore::new(&repo.host.common_dir).list_layers()?;
    let text = if json {
        let setup = setup
            .map(|setup| json!({"command": setup.command, "origin": setup.origin, "accepted": setup.find_answer()}));
        let layers: Vec<Value> = layers.iter().map(layer_json).collect();
        render_json(&json!({"schema_version": 1, "setup": setup, "layers": layers}))
    } else {
        let mut text = match setup {
            None => "setup: none\n".to_owned(),
            Some(setup) => {
                let answer = match setup.find_answer() {
                    Some(true) => "run before the agent",
                    Some(false) => "not run: it was declined, or it has failed; to run it, use `airlock setup`",
                    None => "not accepted yet; to run it, use `airlock setup`",
                };
                format!("setup: `{}` ({}), {answer}\n", Escaped::new(&setup.command), Escaped::new(&setup.origin))
            }
        };
        for layer in &layers {
            text += &format!("layer: {}, `{}`\n", describe_layer(layer), Escaped::new(&layer.command));
        }
        text
    };
    print_stdout(&text)?;
    Ok(0)
}

/// Describes the content of a layer in one line.
fn describe_layer(layer: &Layer) -> String {
    let mut names: Vec<String> =
        layer.paths.iter().take(MAX_NAMED).map(|path| Escaped::new(path.as_bytes()).to_string()).collect();
    names.extend((layer.paths.len() > MAX_NAMED).then(|| format!("{} more", layer.paths.len() - MAX_NAMED)));
    names.extend(layer.has_home.then(|| "caches of the home".to_owned()));
    if names.is_empty() {
        names.push("nothing".into());
    }
    let files = format!("{} files and directories", layer.entries);
    format!(
        "{} ({}, {files}), made {}, last used {}",
        names.join(", "),
        HumanBytes(layer.bytes),
        format_age(layer.created),
        format_age(layer.used)
    )
}

fn layer_json(layer: &Layer) -> Value {
    json!({
        "id": layer.id, "command": layer.command, "bytes": layer.bytes, "entries": layer.entries,
        "paths": layer.paths.iter().map(|path| String::from_utf8_lossy(path.as_bytes())).collect::<Vec<_>>(),
        "home": layer.has_home, "created": layer.created, "used": layer.used,
    })
}
