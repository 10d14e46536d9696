//! `airlock review`, and the same right after an agent has ended.

use std::io;

use super::apply::Wanted;
use super::bring::bring;
use super::failure::{FAILED, Failure};
use super::output::{Output, count};
use super::repo::Repo;
use crate::changes::Changeset;
use crate::review::{Decision, Decisions, Ended, Painter, PlainReview, Sheet};
use crate::sandbox::{Sandbox, terminal};
use crate::snapshot::HostRepo;

/// Where the decisions are kept, in the sandbox's folder.
const FILE: &str = "decisions.json";

pub fn review(name: Option<&str>, output: Output) -> Result<u8, Failure> {
    let repo = Repo::here(output)?;
    let mut sandbox = repo.sandbox(name, "review")?;
    let changes = repo.changes(&mut sandbox, output)?;
    sandbox.lock()?;
    interact(&repo.host, sandbox, &changes, output)
}

/// Reads the decisions on a sandbox's changes.
pub fn load(sandbox: &Sandbox) -> Result<Decisions, Failure> {
    match std::fs::read(sandbox.path(FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Decisions::default()),
        Err(error) => Err(error.into()),
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            Failure::new(FAILED, format!("the decisions on {} are damaged: {error}", sandbox.record.name))
                .hint(format!("to begin anew, remove {}", sandbox.path(FILE).display()))
        }),
    }
}

/// Asks block by block, then whether to apply; gives the exit status of that.
pub fn interact(host: &HostRepo, mut sandbox: Sandbox, changes: &Changeset, output: Output) -> Result<u8, Failure> {
    let sheet = Sheet::open(changes, &sandbox.quarantine()?)?;
    let mut decisions = load(&sandbox)?;
    let name = sandbox.record.name.clone();
    terminal::discard_input();
    let painter = Painter { colour: output.colours(), width: output.width() };
    let mut plain = PlainReview { sheet: &sheet, input: io::stdin().lock(), output: io::stdout().lock(), painter };
    let ended = plain.run(&mut decisions, |decisions| sandbox.keep(FILE, decisions))?;
    drop(plain);
    let accepted = sheet.files.iter().flat_map(|f| &f.units);
    let accepted = accepted.filter(|u| decisions.of(&u.id) == Some(Decision::Accepted)).count();
    if ended == Ended::Left || accepted == 0 {
        let what = if accepted == 0 { "nothing is accepted" } else { "the decisions are saved" };
        output.say(&format!("{what}. Next: airlock review {name}, or airlock rm {name}"));
        return Ok(0);
    }
    if terminal::is_interactive()
        && confirm(&format!("Apply {} to your working tree?", count(accepted, "block")), false)?
    {
        let status = bring(host, &mut sandbox, &sheet, &Wanted::decided(&sheet, &decisions), output)?;
        if status != 0 {
            output.say(&format!("the decisions are saved. Next: airlock apply {name}"));
        }
        return Ok(status);
    }
    output.say(&format!("the decisions are saved. Next: airlock apply {name}"));
    Ok(0)
}

/// Asks yes or no. What was typed before the question is not an answer to it.
pub fn confirm(question: &str, default: bool) -> Result<bool, Failure> {
    terminal::discard_input();
    let asked = dialoguer::Confirm::new().with_prompt(question).default(default).interact_opt();
    // Escape, q or Ctrl-C.
    Ok(asked.unwrap_or(None).unwrap_or(false))
}
