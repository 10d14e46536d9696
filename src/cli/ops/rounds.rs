//! Runs rounds: a review may resume the agent, and the agent's new changes are reviewed.

use super::finish_run::{FinishOptions, finish_run};
use super::repo::{Repo, create_runtime};
use super::resume_session::{ResumeOptions, resume_sandbox};
use super::review_session::{ReviewEnd, review_sandbox};
use super::round::Round;
use super::session::{SessionEnd, close_session, finish_session, start_feedback_session};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::git::HostRepo;
use crate::sandbox::Sandbox;
use crate::session::SessionOwner;
use crate::terminal;

/// Runs rounds until none follows. Returns the first exit status, because later rounds are not part of the command.
pub(crate) fn run_rounds(host: &HostRepo, first: Round, output: Output) -> Result<u8, CliError> {
    let mut first_status = None;
    let mut next = Some(first);
    while let Some(round) = next {
        let status;
        (status, next) = match round {
            Round::Review { sandbox, plain } => match review_sandbox(host, sandbox, plain, (None, None), output)? {
                ReviewEnd::Done(status) => (Some(status), None),
                ReviewEnd::Send(sandbox, _) if terminal::is_interactive() => {
                    let name = sandbox.record.name.clone();
                    // The owner takes the lock, and composes the same message.
                    drop(sandbox);
                    let session = start_feedback_session(&name, output)?;
                    let options = FinishOptions { is_after_feedback: true, ..FinishOptions::default() };
                    let (_, review) = finish_session(session, Repo::open_for_write, options, output)?;
                    (None, review.map(|(_, round)| round))
                }
                ReviewEnd::Send(sandbox, feedback) => {
                    let options = Box::new(ResumeOptions { feedback: Some(feedback), ..ResumeOptions::default() });
                    (None, Some(Round::Resume { sandbox: *sandbox, options }))
                }
            },
            Round::Resume { sandbox, options } => {
                let finish = FinishOptions {
                    review: options.agent.review,
                    is_after_feedback: options.feedback.is_some(),
                    ..FinishOptions::default()
                };
                let runtime = create_runtime()?;
                let finished = resume_sandbox((host, &runtime), sandbox, &options, None, output)?;
                let (status, review) = finish_run(finished, finish, output)?;
                (Some(status), review)
            }
        };
        first_status = first_status.or(status);
    }
    Ok(first_status.unwrap_or_default())
}

/// Runs another agent in this process. If this process is the owner of a session, its terminal goes on from there.
pub(crate) fn resume_here(
    repo: &Repo,
    sandbox: Sandbox,
    options: ResumeOptions,
    (session, finish): (Option<Box<SessionOwner>>, FinishOptions),
    output: Output,
) -> Result<u8, CliError> {
    let Some(mut session) = session else {
        return run_rounds(&repo.host, Round::Resume { sandbox, options: Box::new(options) }, output);
    };
    let runtime = create_runtime()?;
    let finished = resume_sandbox((&repo.host, &runtime), sandbox, &options, Some(&mut session), output);
    close_session(&runtime, session, finish, finished)
}

/// Finishes a session on this terminal, and runs the rounds that follow. Returns the exit status of the session.
pub(crate) fn review_after_session(end: SessionEnd, options: FinishOptions, output: Output) -> Result<u8, CliError> {
    let (status, review) = finish_session(end, Repo::open_for_write, options, output)?;
    if let Some((repo, round)) = review {
        run_rounds(&repo.host, round, output)?;
    }
    Ok(status)
}
