//! Runs rounds: a review may resume the agent, and the agent's new changes are reviewed.

use super::offer_review::is_review_wanted;
use super::resume_session::{ResumeOptions, resume_sandbox};
use super::review_session::{ReviewEnd, review_sandbox};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::git::HostRepo;
use crate::sandbox::Sandbox;

/// One step of a sandbox after its first agent.
pub(crate) enum Round {
    /// A review of changes.
    Review { sandbox: Sandbox, plain: bool },
    /// A run of another agent.
    Resume { sandbox: Sandbox, options: Box<ResumeOptions> },
}

/// Runs rounds until none follows. Returns the first exit status, because later rounds are not part of the command.
pub(crate) fn run_rounds(host: &HostRepo, first: Round, output: Output) -> Result<u8, CliError> {
    let mut first_status = None;
    let mut next = Some(first);
    while let Some(round) = next {
        let status;
        (status, next) = match round {
            Round::Review { sandbox, plain } => match review_sandbox(host, sandbox, plain, None, output)? {
                ReviewEnd::Done(status) => (Some(status), None),
                ReviewEnd::Send(sandbox, feedback) => {
                    let options = Box::new(ResumeOptions { feedback: Some(feedback), ..ResumeOptions::default() });
                    (None, Some(Round::Resume { sandbox: *sandbox, options }))
                }
            },
            Round::Resume { sandbox, options } => {
                let end = resume_sandbox(host, sandbox, &options, output)?;
                let review = match end.review {
                    Some((finished, mode)) if is_review_wanted(&finished.sandbox, mode)? => {
                        Some(Round::Review { sandbox: finished.sandbox, plain: false })
                    }
                    _ => None,
                };
                (Some(end.status), review)
            }
        };
        first_status = first_status.or(status);
    }
    Ok(first_status.unwrap_or_default())
}
