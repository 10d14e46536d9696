//! Runs another agent in an existing sandbox. Claude Code continues its conversation and receives the feedback of a review.

use crate::base::RunContext;
use crate::claude_config::HomeCopy;
use crate::cli::args::AgentOptions;
use crate::cli::error::CliError;
use crate::cli::ops::advisories::{SHELL_COMMAND, print_engine_warnings};
use crate::cli::ops::agent_config::{new_agent_config, parse_variables, with_overrides};
use crate::cli::ops::bring_files::pasted_file_reader;
use crate::cli::ops::claude_permissions::add_permission_mode;
use crate::cli::ops::decided::update_decided;
use crate::cli::ops::draft;
use crate::cli::ops::draft::DRAFT_FILE;
use crate::cli::ops::engine::{check_runtime, connect_engine_of};
use crate::cli::ops::inner_sandbox::turn_off_inner_sandbox;
use crate::cli::ops::network::{bind_port, describe_network, plan_network};
use crate::cli::ops::policy::collect_policy;
use crate::cli::ops::settings::load_settings;
use crate::cli::ops::user_config::read_sandbox_config;
use crate::cli::output::{Output, format_count};
use crate::cli::progress::Progress;
use crate::core::escape::Escaped;
use crate::engine::Engine;
use crate::gateway::NetworkLevel;
use crate::git::HostRepo;
use crate::review::{DecisionLog, Event, Feedback};
use crate::sandbox::{RunRequest, RunResult, Sandbox, SandboxRecord, SandboxState, lifecycle};
use crate::session::SessionOwner;
use crate::terminal::Signals;

/// The name of the file in the sandbox's directory that keeps a message until it has reached the model.
const MESSAGE_FILE: &str = "message.md";

/// The options of another round.
#[derive(Default)]
pub(crate) struct ResumeOptions {
    /// Changes to the configuration of the agent.
    pub agent: AgentOptions,
    /// Arguments for Claude Code, or the command.
    pub args: Vec<String>,
    /// The feedback of the review.
    pub feedback: Option<Feedback>,
    /// A command to run without a network in place of the agent, whose configuration is kept.
    pub command: Option<Vec<String>>,
    /// Whether that command has the terminal.
    pub takes_terminal: bool,
    /// Copies of the user's files that the arguments name.
    pub home_copies: Vec<HomeCopy>,
}

/// Returns the command to run in a resumed sandbox.
fn resume_command(record: &SandboxRecord, round: &ResumeOptions, tty: bool) -> Result<Vec<String>, CliError> {
    if let Some(command) = &round.command {
        return Ok(command.clone());
    }
    let name = &record.name;
    let args = round.args.iter().cloned();
    let has_arg = |words: &[&str]| round.args.iter().any(|arg| words.contains(&arg.split('=').next().unwrap_or(arg)));
    Ok(match record.verb.as_str() {
        "claude" => {
            let mut command = vec!["claude".to_owned()];
            if !has_arg(&["-c", "--continue", "-r", "--resume", "--session-id"]) {
                match &record.conversation {
                    Some(id) => command.extend(["--resume".into(), id.clone()]),
                    // The sandbox was interrupted before its conversation was recorded.
                    None => command.push("--continue".into()),
                }
            }
            if let Some(feedback) = &round.feedback {
                // The message comes before the options, because some of them take all arguments that follow.
                command.push(feedback.text.clone());
                if !tty && !has_arg(&["-p", "--print"]) {
                    command.push("-p".into());
                }
            }
            command.extend(args);
            command
        }
        "shell" if round.args.is_empty() => ["sh", "-c", SHELL_COMMAND].map(str::to_owned).into(),
        _ if round.args.is_empty() => {
            return Err(CliError::usage(format!("`{name}` is a sandbox of `airlock run`, which needs a command"))
                .with_hint(format!("run `airlock resume {name} -- COMMAND…`")));
        }
        _ => args.collect(),
    })
}

/// Runs another agent in a sandbox that this process has locked. The message is kept in a file until the model has received
/// it, so that the user's text is not lost in a failure.
pub(crate) fn resume_sandbox(
    (host, runtime): (&HostRepo, &tokio::runtime::Runtime),
    sandbox: Sandbox,
    round: &ResumeOptions,
    session: Option<&mut SessionOwner>,
    output: Output,
) -> Result<RunResult, CliError> {
    let kept =
        round.feedback.as_ref().map(|feedback| sandbox.write_text_file(MESSAGE_FILE, &feedback.text)).transpose()?;
    let was_decided = sandbox.record.decided_at.is_some();
    let (mut finished, is_delivered) =
        run_agent((host, runtime), sandbox, round, session, output).map_err(|failure| match &kept {
            Some(path) => failure.with_details([format!("the message is saved in {}", path.display())]),
            None => failure,
        })?;
    if let (Some(feedback), Some(path)) = (&round.feedback, &kept) {
        // A failure to record the message is only a warning, because the agent's changes matter more.
        let recorded = if is_delivered { record_sent(&finished.sandbox, feedback) } else { Ok(()) };
        let notes = &mut finished.report.notes;
        match recorded {
            Ok(()) if is_delivered => finished.sandbox.remove_text_file(path),
            Ok(()) => {
                notes.push(format!("the message did not reach the model; it is saved in {}", path.display()));
            }
            Err(failure) => {
                notes.push(format!("failed to record that the message was sent: {}", failure.escaped_message()));
            }
        }
    }
    if was_decided && !finished.changes.is_empty() {
        // The agent may have changed nothing since.
        let changes = draft::join_renames(&finished.sandbox, finished.changes.clone());
        let model = draft::open_model(&finished.sandbox, &changes)?;
        let state = draft::load_draft(&finished.sandbox, &model)?;
        update_decided(host, &mut finished.sandbox, &model, &state)?;
    }
    Ok(finished)
}

/// Runs another agent to its end. Also returns whether the model has answered.
fn run_agent(
    (host, runtime): (&HostRepo, &tokio::runtime::Runtime),
    sandbox: Sandbox,
    round: &ResumeOptions,
    mut session: Option<&mut SessionOwner>,
    output: Output,
) -> Result<(RunResult, bool), CliError> {
    let name = sandbox.record.name.clone();
    let record = sandbox.record.clone();
    let tty = session.is_some();
    match record.state {
        SandboxState::Seeding => {
            return Err(CliError::failed(format!("`{name}` was interrupted before its agent started"))
                .with_hint(format!("to remove it, run `airlock rm {name}`")));
        }
        SandboxState::Running | SandboxState::Collected { .. } => {}
    }
    if record.verb == "shell" && round.args.is_empty() && round.command.is_none() && !tty {
        return Err(
            CliError::usage("a shell needs a terminal").with_hint(format!("run `airlock resume {name} -- COMMAND…`"))
        );
    }
    let mut command = resume_command(&record, round, tty)?;
    let mut home_copies = round.home_copies.clone();
    if record.verb == "claude" && round.command.is_none() {
        turn_off_inner_sandbox(&mut command, &mut home_copies, host, &record.base)?;
    }
    let settings = load_settings()?;
    if record.verb == "claude" && round.command.is_none() {
        add_permission_mode(&mut command, settings.claude_permissions.unwrap_or_default());
    }
    let flags = round.agent.settings();
    let verb = if record.verb == "claude" { "claude" } else { "run" };
    let default_level = if verb == "claude" { NetworkLevel::Packages } else { NetworkLevel::None };
    let policy = collect_policy(&settings, host, &record.base, &record.manifest.submodules, output)?;
    let finished = runtime.block_on(async {
        let mut signals = Signals::take_over()?;
        if let Some(session) = session.as_mut() {
            session.watch_terminal(&signals)?;
        }
        let engine = connect_engine_of(&record).await?;
        let info = engine.engine_info().await?;
        let previous = match &record.agent_config {
            Some(previous) => previous.clone(),
            None => new_agent_config(&settings, &AgentOptions::default(), default_level, info.memory)?,
        };
        let config = with_overrides(previous, &flags, &round.agent)?;
        check_runtime(info, config.runtime.as_deref())?;
        let no_ports = Vec::new();
        let wanted_ports = if round.command.is_some() { &no_ports } else { &config.network.ports };
        let ports = wanted_ports.iter().map(|spec| bind_port(*spec)).collect::<Result<Vec<_>, _>>()?;
        let mut network = match round.command {
            Some(_) => None,
            None => plan_network(&config.network, &settings, verb, host, output)?,
        };
        if let Some(network) = &mut network {
            network.read_requests(host, &record.base)?;
            if verb == "claude" {
                network
                    .add_routes(read_sandbox_config(&settings, &host.root).map(|user| user.routes).unwrap_or_default());
            }
        }
        let image = round.agent.image.as_deref().unwrap_or(&record.image);
        let Some(image) = engine.find_image(image).await? else {
            return Err(CliError::failed(format!("the image `{image}` no longer exists"))
                .with_hint(format!("to use another image, run `airlock resume {name} --image IMAGE`")));
        };
        let network = match network {
            Some(plan) => Some(plan.into_request(host, (&engine, &image.id), output).await?),
            None => None,
        };
        let request = RunRequest {
            name: None,
            engine: record.engine.clone(),
            verb,
            command,
            env: parse_variables(&config.env)?,
            image: image.id,
            image_volumes: image.volumes,
            agent_config: config.clone(),
            tty: tty && (round.command.is_none() || round.takes_terminal),
            network,
            ports,
            forwards: if round.command.is_some() { Vec::new() } else { config.network.forwards.clone() },
            policy,
            home_copies,
            pasted_files: Some(pasted_file_reader(host.root.clone(), record.base.clone())),
            claude_json: Default::default(),
            user_config: Default::default(),
            layer: None,
            builds_layer: None,
            workspace: None,
        };
        print_engine_warnings(info, output);
        let progress = Progress::start_bar(output);
        let line = first_line(&record, round.feedback.as_ref(), &describe_network(&request));
        progress.suspend_bar(|| output.print_status(&line));
        let context = RunContext { engine: &engine, host, progress: &progress.counter };
        let started = || progress.pause_bar();
        let finished = lifecycle::resume_agent(context, sandbox, &request, (&mut signals, session), started).await;
        progress.remove_bar();
        signals.end_at_once();
        Ok::<_, CliError>(finished?)
    })?;
    let is_delivered = finished.report.network.as_ref().is_some_and(|network| network.model.answered > 0);
    Ok((finished, is_delivered))
}

/// Returns the first line that is printed for a resumed sandbox.
fn first_line(record: &SandboxRecord, feedback: Option<&Feedback>, network: &str) -> String {
    let short: String = record.base.chars().take(7).collect();
    let branch = record.branch.as_deref().unwrap_or("detached HEAD");
    let mut line = format!("resuming {} · {} at {short}", record.name, Escaped::new(branch));
    if let Some(feedback) = feedback {
        let (rejections, comments) = feedback.item_counts();
        let items = [(rejections, "rejection"), (comments, "comment")];
        let items: Vec<String> =
            items.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format_count(n, what)).collect();
        line += &format!(" · with {}", items.join(" and "));
    }
    line + network
}

/// Records in the draft that the feedback was sent.
fn record_sent(sandbox: &Sandbox, feedback: &Feedback) -> Result<(), CliError> {
    let (mut draft, _) =
        DecisionLog::open(&sandbox.file_path(DRAFT_FILE)).map_err(|error| draft::draft_error(&error, sandbox))?;
    let kept = draft.append_events(&[Event::Sent { items: feedback.item_ids() }]);
    kept.and_then(|()| draft.sync_and_close()).map_err(|error| draft::draft_error(&error, sandbox))
}
