//! Runs another agent in an existing sandbox. Claude Code continues its conversation and receives the feedback of a review.

use crate::cli::args::AgentOptions;
use crate::cli::error::{CliError, FAILED, USAGE};
use crate::cli::ops::advisories::{SHELL, say_advisories};
use crate::cli::ops::agent_config::{changed, given, model_route, variables};
use crate::cli::ops::draft;
use crate::cli::ops::draft::DRAFT;
use crate::cli::ops::end_summary::{say_ended, summary};
use crate::cli::ops::policy::policy;
use crate::cli::ops::repo::runtime;
use crate::cli::output::{Output, count};
use crate::cli::progress::Progress;
use crate::config::{Net, ReviewMode, Settings};
use crate::core::escape::Escaped;
use crate::engine::{Docker, Engine};
use crate::git::HostRepo;
use crate::review::{DecisionLog, Event, Feedback};
use crate::sandbox::{Finished, Record, RunRequest, Sandbox, State, lifecycle};
use crate::terminal;
use crate::terminal::Signals;

/// The name of the file in the sandbox's directory that keeps a message until it has reached the model.
const MESSAGE: &str = "message.md";

/// The options of another round.
#[derive(Default)]
pub struct ResumeOptions {
    /// Changes to the configuration of the agent.
    pub agent: AgentOptions,
    /// Arguments for Claude Code, or the command.
    pub args: Vec<String>,
    /// The feedback of the review.
    pub feedback: Option<Feedback>,
}

/// Returns the command to run in a resumed sandbox.
fn command(record: &Record, round: &ResumeOptions, tty: bool) -> Result<Vec<String>, CliError> {
    let name = &record.name;
    let args = round.args.iter().cloned();
    let is = |words: &[&str]| round.args.iter().any(|arg| words.contains(&arg.split('=').next().unwrap_or(arg)));
    Ok(match record.verb.as_str() {
        "claude" => {
            let mut command = vec!["claude".to_owned()];
            if !is(&["-c", "--continue", "-r", "--resume", "--session-id"]) {
                match &record.conversation {
                    Some(id) => command.extend(["--resume".into(), id.clone()]),
                    // The sandbox was interrupted before its conversation was recorded.
                    None => command.push("--continue".into()),
                }
            }
            if let Some(feedback) = &round.feedback {
                // The message comes before the options, because some of them take all arguments that follow.
                command.push(feedback.text.clone());
                if !tty && !is(&["-p", "--print"]) {
                    command.push("-p".into());
                }
            }
            command.extend(args);
            command
        }
        "shell" if round.args.is_empty() => ["sh", "-c", SHELL].map(str::to_owned).into(),
        _ if round.args.is_empty() => {
            return Err(CliError::new(USAGE, format!("{name} is a sandbox of airlock run, which needs a command"))
                .hint(format!("airlock resume {name} -- COMMAND…")));
        }
        _ => args.collect(),
    })
}

/// The result of another agent.
pub struct ResumeEnd {
    /// The agent's exit status.
    pub status: u8,
    /// The sandbox with changes to review, and whether to offer a review. `None` if nothing has changed.
    pub review: Option<(Finished, ReviewMode)>,
}

/// Runs another agent in a sandbox that this process has locked. The message is kept in a file until the model has received
/// it, so that the user's text is not lost in a failure.
pub fn resume_sandbox(
    host: &HostRepo,
    sandbox: Sandbox,
    round: &ResumeOptions,
    output: Output,
) -> Result<ResumeEnd, CliError> {
    let kept = round.feedback.as_ref().map(|feedback| sandbox.keep_text(MESSAGE, &feedback.text)).transpose()?;
    let (finished, is_heard) = run(host, sandbox, round, output).map_err(|failure| match &kept {
        Some(path) => failure.details([format!("the message is kept in {}", path.display())]),
        None => failure,
    })?;
    let name = finished.sandbox.record.name.clone();
    let status = u8::try_from(finished.exit).unwrap_or(FAILED);
    if let (Some(feedback), Some(path)) = (&round.feedback, &kept) {
        // A failure to record the message is only a warning, because the agent's changes matter more.
        let noted = if is_heard { remember(&finished.sandbox, feedback) } else { Ok(()) };
        match noted {
            Ok(()) if is_heard => finished.sandbox.drop_text(path),
            Ok(()) => output.say(&format!("the message has not reached the model; it is in {}", path.display())),
            Err(failure) => output.say(&format!("that it was sent could not be noted: {}", failure.message())),
        }
    }
    if finished.changes.is_empty() {
        output.say(&format!("{name} has no changes. Next: airlock resume {name}, or airlock rm {name}"));
        return Ok(ResumeEnd { status, review: None });
    }
    summary(&finished, output)?;
    // After feedback was sent, the review starts without a question.
    let settings = Settings::load(|name| std::env::var(name).ok())?;
    let mode = round.agent.review.or(settings.review).unwrap_or_default();
    let mode = if round.feedback.is_some() && mode == ReviewMode::Ask { ReviewMode::Always } else { mode };
    Ok(ResumeEnd { status, review: Some((finished, mode)) })
}

/// Runs another agent to its end. Also returns whether the model has answered.
fn run(host: &HostRepo, sandbox: Sandbox, round: &ResumeOptions, output: Output) -> Result<(Finished, bool), CliError> {
    let name = sandbox.record.name.clone();
    let record = sandbox.record.clone();
    let tty = terminal::is_interactive();
    match record.state {
        State::Seeding => {
            return Err(CliError::new(FAILED, format!("{name} was interrupted before its agent started"))
                .hint(format!("airlock rm {name}")));
        }
        State::Running | State::Collected { .. } => {}
    }
    if record.verb == "shell" && round.args.is_empty() && !tty {
        return Err(CliError::new(USAGE, "a shell needs a terminal").hint(format!("airlock resume {name} -- COMMAND…")));
    }
    let command = command(&record, round, tty)?;
    let settings = Settings::load(|name| std::env::var(name).ok())?;
    let flags = round.agent.settings();
    let verb = if record.verb == "claude" { "claude" } else { "run" };
    let default_net = if verb == "claude" { Net::Model } else { Net::None };
    let policy = policy(&settings, host, &record.base, &record.manifest.modules, output)?;
    let runtime = runtime()?;
    let (finished, route) = runtime.block_on(async {
        let mut signals = Signals::take_over()?;
        let engine = Docker::connect().await?;
        let info = engine.info().await?;
        let had = match &record.agent_config {
            Some(had) => had.clone(),
            None => given(&settings, &[], default_net, info.memory)?,
        };
        let given = changed(had, &flags, &round.agent.env)?;
        let route = if given.model { Some(model_route()?) } else { None };
        let image = round.agent.image.as_deref().unwrap_or(&record.image);
        let Some(image) = engine.image(image).await? else {
            return Err(CliError::new(FAILED, format!("the engine has no image {image} any more"))
                .hint(format!("airlock resume {name} --image IMAGE")));
        };
        let request = RunRequest {
            name: None,
            verb,
            command,
            env: variables(&given.env)?,
            image: image.id,
            image_volumes: image.volumes,
            given,
            tty,
            model: route.clone(),
            policy,
            workspace: None,
        };
        say_advisories(info, output);
        let progress = Progress::start(output);
        let line = first_line(&record, round.feedback.as_ref(), route.is_some());
        progress.aside(|| output.say(&line));
        let started = || progress.pause();
        let finished =
            lifecycle::resume(&engine, host, sandbox, &request, &mut signals, &progress.meter, started).await;
        progress.end();
        signals.end_at_once();
        Ok::<_, CliError>((finished?, route))
    })?;
    say_ended(&finished, route.as_ref().map(|(model, _)| model), output);
    let is_heard = route.as_ref().is_some_and(|(route, _)| route.report().answered > 0);
    Ok((finished, is_heard))
}

/// Returns the first line that is printed for a resumed sandbox.
fn first_line(record: &Record, feedback: Option<&Feedback>, has_route: bool) -> String {
    let short: String = record.base.chars().take(7).collect();
    let branch = record.branch.as_deref().unwrap_or("detached HEAD");
    let mut line = format!("{} goes on · {} at {short}", record.name, Escaped::new(branch));
    if let Some(feedback) = feedback {
        let (rejections, comments) = feedback.counts();
        let said = [(rejections, "rejection"), (comments, "comment")];
        let said: Vec<String> = said.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| count(n, what)).collect();
        line += &format!(" · with {}", said.join(" and "));
    }
    line + if has_route { " · network: model only" } else { " · network: none" }
}

/// Records in the draft that the feedback was sent.
fn remember(sandbox: &Sandbox, feedback: &Feedback) -> Result<(), CliError> {
    let (mut draft, _) = DecisionLog::open(&sandbox.path(DRAFT)).map_err(|error| draft::failure(&error, sandbox))?;
    let kept = draft.keep(&[Event::Sent { items: feedback.items() }]);
    kept.and_then(|()| draft.close()).map_err(|error| draft::failure(&error, sandbox))
}
