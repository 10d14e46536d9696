//! `airlock claude`, `run` and `shell`: create a sandbox, run an agent in it and collect its changes.

use std::ffi::OsString;
use std::sync::Arc;

use indicatif::HumanBytes;

use crate::base::{BaseStore, PreparedBase, RunContext, UseOfBase};
use crate::claude_config::HomeCopy;
use crate::cli::args::{RunOptions, UncommittedArg};
use crate::cli::claude_args::{ClaudeArgs, split_letters};
use crate::cli::error::CliError;
use crate::cli::ops::advisories::{SHELL_COMMAND, print_engine_warnings};
use crate::cli::ops::agent_config::{new_agent_config, parse_variables, sandbox_size, workspace_kind};
use crate::cli::ops::agent_image::{ImageChoice, find_or_build_image};
use crate::cli::ops::attach_session::attach_to;
use crate::cli::ops::bring_files::{Place, bring_files, pasted_file_reader};
use crate::cli::ops::choose_image::{Proposal, choose_image};
use crate::cli::ops::claude_on_host::answer_on_host;
use crate::cli::ops::claude_permissions::{BYPASS_ACCEPTED, add_permission_mode};
use crate::cli::ops::conversation::{Conversation, find_conversation, find_running_session};
use crate::cli::ops::engine::{PlacedEngine, check_runtime, place_sandbox};
use crate::cli::ops::find_setup::{find_setup, is_setup_accepted};
use crate::cli::ops::finish_run::{FinishOptions, finish_run};
use crate::cli::ops::inner_sandbox::turn_off_inner_sandbox;
use crate::cli::ops::network::{bind_port, describe_network, plan_network};
use crate::cli::ops::policy::collect_policy;
use crate::cli::ops::repo::{Repo, create_runtime};
use crate::cli::ops::resume_session::ResumeOptions;
use crate::cli::ops::rounds::{resume_here, review_after_session, run_rounds};
use crate::cli::ops::session::{RunPlace, close_session, enter_session};
use crate::cli::ops::settings::load_settings;
use crate::cli::ops::setup_layer::find_or_build_layer;
use crate::cli::ops::start_summary::{DirtyScan, first_line, print_start, worktree_notes};
use crate::cli::ops::user_config::{SandboxConfig, read_sandbox_config};
use crate::cli::ops::worktree_include::requested_includes;
use crate::cli::output::{Output, format_count};
use crate::cli::progress::Progress;
use crate::cli::shell_word::quote_shell_word;
use crate::config::{ClaudePermissions, Settings};
use crate::core::clock::seconds_since_epoch;
use crate::core::name::SandboxName;
use crate::core::progress::ProgressCounter;
use crate::engine::{Engine, ImageInfo, recorded_choice};
use crate::gateway::NetworkLevel;
use crate::git::{History, HistoryChoice, HostRepo, SnapshotOptions, UncommittedScope};
use crate::sandbox::gc::KEPT_BASES;
use crate::sandbox::{AgentPaths, KeptConversation, RunRequest, RunResult, SandboxError, lifecycle, session_path};
use crate::session::SessionOwner;
use crate::terminal;
use crate::terminal::Signals;

pub(crate) fn run_claude(options: RunOptions, args: Vec<OsString>, output: Output) -> Result<u8, CliError> {
    let args = args.into_iter().map(OsString::into_string).collect::<Result<Vec<_>, _>>();
    let args = args.map_err(|bad| CliError::usage(format!("an argument is not UTF-8: {}", bad.to_string_lossy())))?;
    let args = split_letters(args);
    let parsed = ClaudeArgs::parse_args(&args);
    if let Some(status) = answer_on_host(&parsed, &args, output)? {
        return Ok(status);
    }
    if parsed.continues || parsed.resumes.is_some() {
        return continue_conversation(options, args, &parsed, output);
    }
    let command = std::iter::once("claude".to_owned()).chain(args).collect();
    run_sandbox("claude", NetworkLevel::Packages, options, command, output)
}

/// Continues a conversation in the sandbox that has it.
fn continue_conversation(
    options: RunOptions,
    mut args: Vec<String>,
    parsed: &ClaudeArgs,
    output: Output,
) -> Result<u8, CliError> {
    let settings = load_settings()?.overridden_by(options.agent.settings());
    let finish = FinishOptions { review: settings.review, ..FinishOptions::default() };
    let has_options = options.agent.changes_agent() || options.first_of_new_sandbox().is_some();
    if terminal::is_interactive() && !has_options && parsed.without_conversation(&args).is_empty() {
        let repo = Repo::open_for_write()?;
        if let Some(running) = find_running_session(&repo, parsed)? {
            output.print_status(&format!("the agent of {} is running", running.record.name));
            return attach_to(&running, (&settings, finish), output);
        }
    }
    let session = match enter_session(&settings, output)? {
        RunPlace::Here(session) => session,
        RunPlace::Elsewhere(end) => return review_after_session(end, finish, output),
    };
    let repo = Repo::open(output)?;
    let mut sandbox = match find_conversation(&repo, parsed)? {
        Conversation::InSandbox(sandbox) => *sandbox,
        Conversation::Kept(kept) => {
            output.print_status(&format!(
                "the sandbox of this conversation was removed: it continues in a new one, without the changes of {}",
                kept.sandbox
            ));
            let resume = ["claude".to_owned(), "--resume".into(), kept.id.clone()];
            let command = resume.into_iter().chain(parsed.without_conversation(&args)).collect();
            let run = NewRun { verb: "claude", default_level: NetworkLevel::Packages, command, kept: Some(kept) };
            return run_in_new_sandbox(&repo, run, options, (&settings, finish), session, output);
        }
    };
    if let Some(option) = options.first_of_new_sandbox() {
        return Err(CliError::usage(format!("{option} is for a new sandbox; a conversation is continued in its own")));
    }
    sandbox.acquire_lock()?;
    let run = format!("{}-", seconds_since_epoch());
    let record = &sandbox.record;
    let place = Place { repo: &repo, commit: &record.base, workspace: &record.workspace, run: &run };
    let home_copies = bring_files(&mut args, parsed, place, output)?;
    // The conversation is named by its ID, which is known.
    let args = parsed.without_conversation(&args);
    let options = ResumeOptions { agent: options.agent, args, home_copies, ..ResumeOptions::default() };
    resume_here(&repo, sandbox, options, (session, finish), output)
}

pub(crate) fn run_command(options: RunOptions, command: Vec<String>, output: Output) -> Result<u8, CliError> {
    if command.is_empty() {
        return Err(no_command_error());
    }
    run_sandbox("run", NetworkLevel::None, options, command, output)
}

pub(crate) fn run_shell(options: RunOptions, output: Output) -> Result<u8, CliError> {
    if !terminal::is_interactive() {
        return Err(CliError::usage("a shell needs a terminal").with_hint("run `airlock run -- COMMAND…` instead"));
    }
    run_sandbox("shell", NetworkLevel::None, options, ["sh", "-c", SHELL_COMMAND].map(str::to_owned).into(), output)
}

/// Returns the error for `airlock run` whose options and those of its command cannot be separated. The command begins at a word.
pub(crate) fn missing_dashes_error(words: &[String], at: usize) -> CliError {
    let quoted: Vec<String> = words.iter().map(|word| quote_shell_word(word.as_bytes())).collect();
    let before = quoted[..at].iter().map(|word| format!("{word} ")).collect::<String>();
    CliError::usage("the options of airlock and those of the command cannot be separated")
        .with_hint(format!("run `airlock run {before}-- {}`", quoted[at..].join(" ")))
}

/// Returns the error for `airlock run` without a command.
fn no_command_error() -> CliError {
    CliError::usage("no command was given").with_hint("run `airlock run -- COMMAND…`, or `airlock shell` for a shell")
}

fn run_sandbox(
    verb: &'static str,
    default_level: NetworkLevel,
    options: RunOptions,
    command: Vec<String>,
    output: Output,
) -> Result<u8, CliError> {
    let settings = load_settings()?.overridden_by(options.agent.settings());
    let finish = FinishOptions { keep: options.keep, review: settings.review, is_after_feedback: false };
    let session = match enter_session(&settings, output)? {
        RunPlace::Here(session) => session,
        RunPlace::Elsewhere(end) => return review_after_session(end, finish, output),
    };
    let run = NewRun { verb, default_level, command, kept: None };
    run_in_new_sandbox(&Repo::open(output)?, run, options, (&settings, finish), session, output)
}

/// The first run of a new sandbox.
struct NewRun {
    /// `claude`, `run` or `shell`.
    verb: &'static str,
    default_level: NetworkLevel,
    command: Vec<String>,
    /// The conversation of a removed sandbox that it continues.
    kept: Option<KeptConversation>,
}

/// Runs an agent in a new sandbox in this process, and finishes the run here or in the terminal of the session.
fn run_in_new_sandbox(
    repo: &Repo,
    run: NewRun,
    options: RunOptions,
    (settings, finish): (&Settings, FinishOptions),
    mut session: Option<Box<SessionOwner>>,
    output: Output,
) -> Result<u8, CliError> {
    let runtime = create_runtime()?;
    let finished = run_agent((repo, &runtime), run, options, settings, session.as_deref_mut(), output);
    if let Some(session) = session {
        return close_session(&runtime, session, finish, finished);
    }
    // The exit status is the agent's, whatever the review does.
    let (status, review) = finish_run(finished?, finish, output)?;
    if let Some(round) = review {
        run_rounds(&repo.host, round, output)?;
    }
    Ok(status)
}

/// Creates a sandbox and runs its first agent.
fn run_agent(
    (repo, runtime): (&Repo, &tokio::runtime::Runtime),
    NewRun { verb, default_level, mut command, kept }: NewRun,
    options: RunOptions,
    settings: &Settings,
    mut session: Option<&mut SessionOwner>,
    output: Output,
) -> Result<RunResult, CliError> {
    let name = options.name.as_deref().map(str::parse::<SandboxName>).transpose()?;
    parse_variables(&options.agent.env)?;
    let base_options = snapshot_options(&options)?;
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
    let mut user =
        if verb == "run" { SandboxConfig::default() } else { read_sandbox_config(settings, &repo.host.root)? };
    let dirty_scan = DirtyScan::start_scan(repo.host.reopen()?, uncommitted);
    // The memory limit is known once there is an engine.
    let config = new_agent_config(settings, &options.agent, default_level, 0)?;
    let ports = config.network.ports.iter().map(|spec| bind_port(*spec)).collect::<Result<Vec<_>, _>>()?;
    let mut network = plan_network(&config.network, settings, verb, &repo.host, output)?;
    let snapshot = Arc::new(repo.host.take_snapshot(&base_options)?);
    if let Some(network) = &mut network {
        network.read_requests(&repo.host, &snapshot.commit)?;
        network.add_routes(user.routes);
    }
    let snapshot_commit = snapshot.commit.clone();
    let mut home_copies = user.copies;
    if verb == "claude" {
        let AgentPaths { workspace, workdir, .. } = AgentPaths::new(&repo.host, &snapshot);
        if let Some(kept) = kept {
            let (path, content) = (session_path(&workdir, &kept.id), kept.read()?);
            home_copies.push(HomeCopy { path, content, executable: false });
        }
        let place = Place { repo, commit: &snapshot.commit, workspace: &workspace, run: "" };
        let parsed = ClaudeArgs::parse_args(&command[1..]);
        home_copies.extend(bring_files(&mut command[1..], &parsed, place, output)?);
        turn_off_inner_sandbox(&mut command, &mut home_copies, &repo.host, &snapshot.commit)?;
        let permissions = settings.claude_permissions.unwrap_or_default();
        add_permission_mode(&mut command, permissions);
        if permissions == ClaudePermissions::All {
            // The user has chosen it in their settings, where its meaning is described.
            user.claude_json.insert(BYPASS_ACCEPTED.into(), true.into());
        }
    }
    let proposal = if verb == "claude" { Proposal::Ask } else { Proposal::AskQuietly };
    let choice = choose_image(&repo.host, &snapshot.commit, settings, proposal, output)?;
    let mut options = options;
    options.agent.env.splice(0..0, choice.env.iter().cloned());
    let env = parse_variables(&options.agent.env)?;
    let policy = collect_policy(settings, &repo.host, &snapshot.commit, snapshot.module_paths(), output)?;
    let setup = match find_setup(&repo.host, &snapshot, settings, &choice.setup)? {
        Some(setup) if !options.no_setup && is_setup_accepted(&setup, proposal, output)? => Some(setup),
        _ => None,
    };
    options.include.extend(requested_includes(&repo.host, &snapshot.commit, proposal, output)?);
    let work = repo.host.read_uncommitted(&snapshot, uncommitted, &options.include)?;
    runtime.block_on(async {
        let mut signals = Signals::take_over()?;
        if let Some(session) = session.as_mut() {
            session.watch_terminal(&signals)?;
        }
        let (size, needs) = (sandbox_size(settings)?, choice.engine_needs(settings));
        let placed = tokio::select! {
            placed = place_sandbox(settings, size, &needs, output) => placed?,
            _ = signals.next(0) => return Err(SandboxError::Interrupted.into()),
        };
        let PlacedEngine { engine, settings, reservation } = placed;
        let settings = &settings;
        check_runtime(engine.engine_info().await?, settings.runtime.as_deref())?;
        // A long image build can be interrupted as well.
        let image = tokio::select! {
            image = find_image_and_info(&engine, &repo.host, &choice, settings, output) => image?,
            _ = signals.next(0) => return Err(SandboxError::Interrupted.into()),
        };
        let network = match network {
            Some(plan) => Some(plan.into_request(&repo.host, (&engine, &image.id), output).await?),
            None => None,
        };
        let mut request = RunRequest {
            name,
            engine: settings.engine.as_deref().map(recorded_choice),
            verb,
            command,
            env,
            image: image.id,
            image_volumes: image.volumes,
            agent_config: new_agent_config(settings, &options.agent, default_level, engine.engine_info().await?.memory)?,
            tty: session.is_some(),
            network,
            ports,
            forwards: config.network.forwards.clone(),
            policy,
            home_copies,
            pasted_files: Some(pasted_file_reader(repo.host.root.clone(), snapshot_commit.clone())),
            claude_json: user.claude_json,
            user_config: user.summary,
            layer: None,
            builds_layer: None,
            workspace: workspace_kind(settings),
        };
        print_engine_warnings(engine.engine_info().await?, output);
        if let Some(setup) = &setup {
            let context = RunContext { engine: &engine, host: &repo.host, progress: &Arc::new(ProgressCounter::default()) };
            let prepared = (&request, settings, choice.env.as_slice());
            let layer = find_or_build_layer(context, &snapshot, prepared, (setup, false), (&mut signals, output)).await?;
            request.layer = Some(layer);
        }
        let progress = Progress::start_bar(output);
        let context = RunContext { engine: &engine, host: &repo.host, progress: &progress.counter };
        let include = options.include.clone();
        let base =
            PreparedBase::find_or_build(context, snapshot, (work, include), UseOfBase::WithDelta, &mut signals).await?;
        let sandbox = match lifecycle::create_sandbox(&repo.host, &base, &request) {
            Ok(sandbox) => sandbox,
            Err(error) => {
                base.discard_if_fresh(&engine).await?;
                return Err(error.into());
            }
        };
        let is_fresh = base.is_fresh();
        let early_status = dirty_scan.take_result();
        let line = first_line(&sandbox, early_status.as_ref(), uncommitted, &describe_network(&request));
        progress.suspend_bar(|| {
            print_start(&line, early_status.as_ref(), &base.manifest, output);
            if options.history.is_none() && base.manifest.history == History::None {
                output.print_status("this is a partial clone, so its history is not included; to include it, run `git fetch --refetch --no-filter` and use `--history full`");
            }
        });
        let started = || {
            drop(reservation);
            progress.pause_bar();
            dirty_scan.signal_agent_start();
        };
        let run =
            lifecycle::run_new_sandbox(context, base, sandbox, &request, (&mut signals, session), started);
        let finished = run.await;
        progress.remove_bar();
        signals.end_at_once();
        let mut finished = finished?;
        // A scan that was not finished before the agent started is reported after it, not into the agent's screen.
        if let Some(worktree_status) = dirty_scan.take_result() {
            finished.report.notes.extend(worktree_notes(&worktree_status));
        }
        if is_fresh {
            finished.report.notes.extend(base_usage_note(&repo.host, settings.bases.unwrap_or(KEPT_BASES))?);
        }
        Ok(finished)
    })
}
fn snapshot_options(options: &RunOptions) -> Result<SnapshotOptions, CliError> {
    let history = match &options.history {
        None => HistoryChoice::Auto,
        Some(text) => HistoryChoice::Explicit(text.parse().map_err(|e| CliError::usage(format!("--history: {e}")))?),
    };
    Ok(SnapshotOptions { full: options.full, history, moved_modules: options.uncommitted.is_some() })
}

/// Returns the message about the disk usage of the bases if there are more than `keep`.
fn base_usage_note(host: &HostRepo, keep: usize) -> Result<Option<String>, CliError> {
    let all = BaseStore::new(&host.common_dir).list_bases()?;
    let bytes = HumanBytes(all.iter().map(|b| b.bytes).sum());
    let note =
        || format!("{} of this repository use {bytes}; `airlock gc` removes old ones", format_count(all.len(), "base"));
    Ok((all.len() > keep).then(note))
}

/// Finds or builds the image, while querying the engine's properties.
async fn find_image_and_info(
    engine: &dyn Engine,
    host: &HostRepo,
    choice: &ImageChoice,
    settings: &Settings,
    output: Output,
) -> Result<ImageInfo, CliError> {
    let (image, info) = tokio::join!(find_or_build_image(engine, host, choice, settings, output), engine.engine_info());
    info?;
    image
}
