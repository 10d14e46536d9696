//! `airlock apply`: applies selected changes to the working tree, a branch or a patch.

use crate::cli::args::ApplyArgs;
use crate::cli::error::CliError;
use crate::cli::ops::apply_options::{ApplyOptions, ReportForm};
use crate::cli::ops::apply_to_worktree::apply_to_worktree;
use crate::cli::ops::decisions::read_decision_file;
use crate::cli::ops::repo::Repo;
use crate::cli::ops::target::Target;
use crate::cli::ops::{draft, target};
use crate::cli::output::Output;
use crate::review::{Decisions, ReviewState, SelectionError, Selector};

pub(crate) fn run_apply(args: ApplyArgs, output: Output) -> Result<u8, CliError> {
    let to = args.to.as_deref().map_or(Ok(Target::Worktree), str::parse).map_err(CliError::usage)?;
    let repo = Repo::open_for_write()?;
    let mut sandbox = repo.open_sandbox(args.name.as_deref(), "apply")?;
    let changes = if args.no_renames {
        repo.load_separate_changes(&mut sandbox, output)?
    } else {
        repo.load_changes(&mut sandbox, output)?
    };
    sandbox.acquire_lock()?;
    let name = sandbox.record.name.clone();
    let wrong = |error: SelectionError| CliError::from_selection(error, &name);
    let model = draft::open_model(&sandbox, &changes)?;
    let name = sandbox.record.name.clone();
    let selector = Selector {
        accept: args.accept,
        reject: args.reject,
        ids: args.accept_id,
        all: args.accept_all,
        allow_risky: args.allow_risky,
        directory: repo.host.subdir.clone(),
    };
    let selected = !selector.is_empty() || args.decisions.is_some();
    let args_only_reject = selector.is_only_rejects();
    let mut options = if let Some(file) = &args.decisions {
        let events = read_decision_file(&model, &Decisions::default(), file, args.allow_risky)?;
        ApplyOptions::from_decisions(&model, &ReviewState::from_events(events).decisions)
    } else if !selected {
        ApplyOptions::from_decisions(&model, &draft::load_draft(&sandbox, &model)?.decisions)
    } else if selector.is_only_rejects() {
        // The changes that the review accepted, except the rejected paths.
        let mut decided = ApplyOptions::from_decisions(&model, &draft::load_draft(&sandbox, &model)?.decisions);
        let rejected = selector.rejected_files(&model).map_err(wrong)?;
        decided.selection.selections.retain(|path, _| !rejected.contains(path));
        decided
    } else {
        let refused: Vec<_> = changes.uncollected.iter().map(|r| (r.path.clone(), r.reason.clone())).collect();
        let decisions = draft::load_draft(&sandbox, &model)?.decisions;
        let selection = selector.select_units(&model, &decisions, &refused).map_err(wrong)?;
        // A choice holds for a conflict of exactly these contents, also if the command line selected them.
        ApplyOptions { choices: decisions.conflict_choices().clone(), ..ApplyOptions::from_selection(selection) }
    };
    options.is_named = selected && !args_only_reject;
    (options.dry_run, options.allow_risky) = (args.dry_run, args.allow_risky);
    options.report = if args.json { ReportForm::Json } else { ReportForm::Text };
    (options.message, options.per_commit) = (args.message, args.per_commit);
    (options.on_conflict, options.force) = (args.on_conflict, args.force);
    if selected && options.selection.is_empty() {
        return Err(CliError::usage(format!("the selection contains no changes of `{name}`"))
            .with_hint(format!("to list the paths, run `airlock diff {name} --name-only`")));
    }
    if options.selection.is_empty() {
        return Err(CliError::usage(format!("no changes of `{name}` are accepted yet"))
            .with_hint(format!("run `airlock review {name}` or `airlock apply {name} --accept GLOB`")));
    }
    match to {
        Target::Worktree if options.message.is_some() || options.per_commit => Err(target::message_needs_branch()),
        Target::Worktree => Ok(apply_to_worktree(&repo.host, &mut sandbox, &model, &options, output)?.status),
        to => target::export_selection(&repo.host, &sandbox, &model, &options, &to, output),
    }
}
