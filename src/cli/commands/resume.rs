//! `airlock resume`: runs another agent in a sandbox.

use crate::cli::args::{AgentOptions, ResumeArgs, RunOptions};
use crate::cli::error::CliError;
use crate::cli::ops::advisories::SHELL_COMMAND;
use crate::cli::ops::attach_session::{attach_to, is_agent_running};
use crate::cli::ops::draft;
use crate::cli::ops::finish_run::FinishOptions;
use crate::cli::ops::repo::Repo;
use crate::cli::ops::resume_session::ResumeOptions;
use crate::cli::ops::rounds::{resume_here, review_after_session};
use crate::cli::ops::sending::send_obstacle;
use crate::cli::ops::session::{RunPlace, enter_session};
use crate::cli::ops::settings::load_settings;
use crate::cli::output::{Output, print_stdout};
use crate::review::Feedback;
use crate::sandbox::Sandbox;
use crate::terminal;

pub(crate) fn run_resume(args: ResumeArgs, before: AgentOptions, output: Output) -> Result<u8, CliError> {
    let finish = FinishOptions {
        review: args.agent.review.or(before.review),
        is_after_feedback: args.feedback,
        ..FinishOptions::default()
    };
    // An agent that runs keeps its options. With new ones, the error says that it runs.
    let has_options = args.agent.changes_agent() || before.changes_agent();
    if !args.feedback && args.args.is_empty() && !has_options && terminal::is_interactive() {
        let repo = Repo::open_for_write()?;
        if let Some(running) = repo.open_sandbox(args.name.as_deref(), "resume").ok().filter(is_agent_running) {
            output.print_status(&format!("the agent of {} is running", running.record.name));
            return attach_to(&running, (&load_settings()?, finish), output);
        }
    }
    let place = if args.dry_run { RunPlace::Here(None) } else { enter_session(&load_settings()?, output)? };
    let session = match place {
        RunPlace::Here(session) => session,
        RunPlace::Elsewhere(end) => return review_after_session(end, finish, output),
    };
    let repo = Repo::open(output)?;
    let mut sandbox = repo.open_sandbox(args.name.as_deref(), "resume")?;
    sandbox.acquire_lock()?;
    let feedback = args.feedback.then(|| compose_feedback(&repo, &mut sandbox, output)).transpose()?;
    if args.dry_run {
        let text = feedback.map(|feedback| feedback.text).unwrap_or_default();
        print_stdout(&text)?;
        return Ok(0);
    }
    let round = ResumeOptions {
        agent: args.agent.with_defaults(before),
        args: args.args,
        feedback,
        ..ResumeOptions::default()
    };
    resume_here(&repo, sandbox, round, (session, finish), output)
}

/// Runs a shell in an existing sandbox, without a network, to look around in it.
pub(crate) fn run_shell_in(name: &str, options: &RunOptions, output: Output) -> Result<u8, CliError> {
    if let Some(option) = options.first_of_new_sandbox() {
        return Err(CliError::usage(format!("{option} is only for a new sandbox, and {name} exists")));
    }
    if !terminal::is_interactive() {
        return Err(CliError::usage("a shell needs a terminal").with_hint(format!(
            "to run a command in a sandbox of `airlock run`, use `airlock resume {name} -- COMMAND…`"
        )));
    }
    let repo = Repo::open_for_write()?;
    let running = repo.open_sandbox(Some(name), "shell").map(|sandbox| is_agent_running(&sandbox))?;
    if running {
        return Err(CliError::failed(format!("the agent of `{name}` is running")).with_hint(format!(
            "to see its session, run `airlock attach {name}`; its changes, `airlock diff {name}`"
        )));
    }
    drop(repo);
    let finish = FinishOptions { review: options.agent.review, ..FinishOptions::default() };
    let session = match enter_session(&load_settings()?, output)? {
        RunPlace::Here(session) => session,
        RunPlace::Elsewhere(end) => return review_after_session(end, finish, output),
    };
    let repo = Repo::open(output)?;
    let mut sandbox = repo.open_sandbox(Some(name), "shell")?;
    sandbox.acquire_lock()?;
    let command = ["sh", "-c", SHELL_COMMAND].map(str::to_owned).into();
    let round = ResumeOptions {
        agent: options.agent.clone(),
        command: Some(command),
        takes_terminal: true,
        ..ResumeOptions::default()
    };
    resume_here(&repo, sandbox, round, (session, finish), output)
}

/// Composes the message to the agent.
fn compose_feedback(repo: &Repo, sandbox: &mut Sandbox, output: Output) -> Result<Feedback, CliError> {
    let name = sandbox.record.name.clone();
    if let Some(why) = send_obstacle(&sandbox.record) {
        return Err(CliError::failed(format!("failed to send feedback to the agent of `{name}`: {why}")));
    }
    let changes = repo.load_changes(sandbox, output)?;
    let model = draft::open_model(sandbox, &changes)?;
    Feedback::from_review(&model, &draft::load_draft(sandbox, &model)?)?.ok_or_else(|| {
        CliError::failed("there is nothing to send: nothing was rejected or commented on since the last message")
            .with_hint(format!("run `airlock review {name}` or `airlock resume {name}`"))
    })
}
