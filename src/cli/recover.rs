//! `airlock recover`: brings an apply that was cut off to its end.

use super::args::RecoverArgs;
use super::confirm::confirm;
use super::failure::{FAILED, Failure};
use super::host::Host;
use super::output::Output;
use super::repo::Repo;
use crate::apply::RecoveryMode;
use crate::sandbox::terminal;

pub fn recover(args: &RecoverArgs, output: Output) -> Result<u8, Failure> {
    let repo = Repo::to_write()?;
    let mut host = Host::of(&repo.host)?;
    host.lock()?;
    let cut_off = host.cut_off(output)?;
    if cut_off.is_empty() {
        output.say("no apply was cut off");
        return Ok(0);
    }
    let way = if args.forward { RecoveryMode::RollForward } else { RecoveryMode::RollBack };
    // The last one first: what it wrote may lie over what the one before wrote.
    for (folder, journal) in cut_off.iter().rev() {
        if !args.back && !args.forward && !host.is_unchanged(folder, journal) {
            let question = "HEAD or the index has changed since the apply was cut off. Take it back all the same?";
            if !terminal::is_interactive() || !confirm(question, false)? {
                return Err(Failure::new(FAILED, "HEAD or the index has changed since the apply was cut off")
                    .hint("say which way: airlock recover --back, or airlock recover --forward"));
            }
        }
        host.finish(folder, journal, way, output)?;
    }
    Ok(0)
}
