//! `airlock review`: runs a review, exports or imports its decisions, or serves it to another program.

use crate::cli::args::ReviewArgs;
use crate::cli::error::CliError;
use crate::cli::ops::decisions::{export_decisions, import_decisions};
use crate::cli::ops::repo::Repo;
use crate::cli::ops::review_server::serve_review;
use crate::cli::ops::round::Round;
use crate::cli::ops::rounds::run_rounds;
use crate::cli::output::Output;

pub(crate) fn run_review(args: &ReviewArgs, output: Output) -> Result<u8, CliError> {
    let repo = Repo::open(output)?;
    let mut sandbox = repo.open_sandbox(args.name.as_deref(), "review")?;
    let changes = repo.load_changes(&mut sandbox, output)?;
    sandbox.acquire_lock()?;
    if let Some(file) = &args.export {
        return export_decisions(&sandbox, &changes, (file, args.force), output);
    }
    if let Some(file) = &args.import {
        return import_decisions(&repo.host, &mut sandbox, &changes, (file, args.allow_risky), output);
    }
    if args.json_rpc {
        return serve_review(&repo.host, sandbox, &changes, output);
    }
    run_rounds(&repo.host, Round::Review { sandbox, plain: args.plain }, output)
}
