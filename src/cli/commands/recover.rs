//! `airlock recover`: rolls back or completes interrupted applies.

use crate::apply::RecoveryMode;
use crate::cli::args::RecoverArgs;
use crate::cli::confirm::confirm;
use crate::cli::error::{CliError, FAILED};
use crate::cli::ops::apply_context::ApplyContext;
use crate::cli::ops::repo::Repo;
use crate::cli::output::Output;
use crate::terminal;

pub fn recover(args: &RecoverArgs, output: Output) -> Result<u8, CliError> {
    let repo = Repo::open_for_write()?;
    let mut host = ApplyContext::of(&repo.host)?;
    host.lock()?;
    let cut_off = host.cut_off(output)?;
    if cut_off.is_empty() {
        output.say("no apply was interrupted");
        return Ok(0);
    }
    let way = if args.complete { RecoveryMode::RollForward } else { RecoveryMode::RollBack };
    // The last apply comes first, because it may have written over an earlier one.
    for (folder, journal) in cut_off.iter().rev() {
        if !args.rollback && !args.complete && !host.is_unchanged(folder, journal) {
            let question = "HEAD or the index has changed since the apply was interrupted. Roll it back anyway?";
            if !terminal::is_interactive() || !confirm(question, false)? {
                return Err(CliError::new(FAILED, "HEAD or the index has changed since the apply was interrupted")
                    .hint("say which way: airlock recover --rollback, or airlock recover --continue"));
            }
        }
        host.finish(folder, journal, way, output)?;
    }
    Ok(0)
}
