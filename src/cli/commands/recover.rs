//! `airlock recover`: rolls back or completes interrupted applies.

use crate::apply::RecoveryMode;
use crate::cli::args::RecoverArgs;
use crate::cli::confirm::ask_yes_no;
use crate::cli::error::CliError;
use crate::cli::ops::apply_context::ApplyContext;
use crate::cli::ops::repo::Repo;
use crate::cli::output::Output;
use crate::terminal;

pub(crate) fn run_recover(args: &RecoverArgs, output: Output) -> Result<u8, CliError> {
    let repo = Repo::open_for_write()?;
    let mut context = ApplyContext::new(&repo.host)?;
    context.lock_exclusive()?;
    let interrupted = context.find_interrupted(output)?;
    if interrupted.is_empty() {
        output.print_status("no apply was interrupted");
        return Ok(0);
    }
    let mode = if args.complete { RecoveryMode::RollForward } else { RecoveryMode::RollBack };
    // The last apply comes first, because it may have written over an earlier one.
    for (dir, journal) in interrupted.iter().rev() {
        if !args.rollback && !args.complete && !context.is_unchanged(dir, journal) {
            let question = "HEAD or the index has changed since the apply was interrupted. Roll it back anyway?";
            if !terminal::is_interactive() || !ask_yes_no(question, false)? {
                return Err(CliError::failed("HEAD or the index has changed since the apply was interrupted")
                    .with_hint("to roll it back, run `airlock recover --rollback`; to complete it, run `airlock recover --continue`"));
            }
        }
        context.recover_apply(dir, journal, mode, output)?;
    }
    Ok(0)
}
