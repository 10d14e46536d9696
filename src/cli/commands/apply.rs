//! `airlock apply`: applies selected changes to the working tree, a branch or a patch.

use crate::apply::OnConflict;
use crate::cli::args::{ApplyArgs, ConflictMode};
use crate::cli::error::{CliError, USAGE};
use crate::cli::ops::apply_options::ApplyOptions;
use crate::cli::ops::apply_to_worktree::apply_to_worktree;
use crate::cli::ops::decisions::decisions_from;
use crate::cli::ops::repo::Repo;
use crate::cli::ops::target::Target;
use crate::cli::ops::{draft, target};
use crate::cli::output::Output;
use crate::review::{Decisions, ReviewModel, ReviewState, SelectionError, Selector};

pub fn apply(args: ApplyArgs, output: Output) -> Result<u8, CliError> {
    let to = args.to.as_deref().map_or(Ok(Target::Worktree), str::parse).map_err(|e| CliError::new(USAGE, e))?;
    let repo = Repo::open_for_write()?;
    let mut sandbox = repo.sandbox(args.name.as_deref(), "apply")?;
    let changes = repo.changes(&mut sandbox, output)?;
    sandbox.lock()?;
    let name = sandbox.record.name.clone();
    let wrong = |error: SelectionError| CliError::of_selection(&error, &name);
    let sheet = ReviewModel::open(&changes, &sandbox.quarantine()?)?;
    let name = sandbox.record.name.clone();
    let selector = Selector {
        accept: args.accept,
        reject: args.reject,
        ids: args.accept_id,
        all: args.accept_all,
        allow_risky: args.allow_risky,
    };
    let selected = !selector.is_empty() || args.decisions.is_some();
    let args_only_reject = selector.is_only_rejects();
    let mut wanted = if let Some(file) = &args.decisions {
        let events = decisions_from(&sheet, &Decisions::default(), file, args.allow_risky)?;
        ApplyOptions::decided(&sheet, &ReviewState::of(events).decisions)
    } else if !selected {
        ApplyOptions::decided(&sheet, &draft::load(&sandbox, &sheet)?.decisions)
    } else if selector.is_only_rejects() {
        // The changes that the review accepted, except the rejected paths.
        let mut decided = ApplyOptions::decided(&sheet, &draft::load(&sandbox, &sheet)?.decisions);
        let rejected = selector.rejected(&sheet).map_err(wrong)?;
        decided.selection.picks.retain(|path, _| !rejected.contains(path));
        decided
    } else {
        let refused: Vec<_> = changes.refused.iter().map(|r| (r.path.clone(), r.reason.clone())).collect();
        let decisions = draft::load(&sandbox, &sheet)?.decisions;
        ApplyOptions::from_selection(selector.select(&sheet, &decisions, &refused).map_err(wrong)?)
    };
    wanted.is_named = selected && !args_only_reject;
    (wanted.dry_run, wanted.json, wanted.allow_risky) = (args.dry_run, args.json, args.allow_risky);
    wanted.on_conflict = match args.on_conflict {
        ConflictMode::Abort => OnConflict::Abort,
        ConflictMode::Markers => OnConflict::Markers,
        ConflictMode::Skip => OnConflict::Skip,
    };
    if selected && wanted.selection.is_empty() {
        return Err(CliError::new(USAGE, format!("the selection leaves nothing of {name}"))
            .hint(format!("airlock diff {name} --name-only lists the paths")));
    }
    if wanted.selection.is_empty() {
        return Err(CliError::new(USAGE, format!("nothing of {name} is accepted yet"))
            .hint(format!("airlock review {name}, or: airlock apply {name} --accept GLOB")));
    }
    match to {
        Target::Worktree => apply_to_worktree(&repo.host, &mut sandbox, &sheet, &wanted, output),
        to => target::export(&repo.host, &sandbox, &sheet, &wanted, &to, output),
    }
}
