//! Determines whether all changes of a sandbox are decided. From then on, the sandbox is not chosen by default, and `gc`
//! removes it by its age.

use super::apply_context::ApplyContext;
use super::draft::{join_renames, load_draft, open_model};
use super::selected_changes::applied_selection;
use super::sending::send_obstacle;
use crate::changes::UnitSelection;
use crate::cli::error::CliError;
use crate::core::name::SandboxName;
use crate::git::HostRepo;
use crate::review::{Decision, ReviewModel, ReviewState, has_unsent_comment};
use crate::sandbox::{AppliedState, ReviewProgress, Sandbox, SandboxRecord, SandboxStore, lifecycle};

/// Updates the record of a sandbox after a review of it, or an agent in it.
pub(crate) fn update_decided(
    host: &HostRepo,
    sandbox: &mut Sandbox,
    model: &ReviewModel<'_>,
    state: &ReviewState,
) -> Result<(), CliError> {
    let applied = ApplyContext::new(host)?.applied_state(sandbox)?;
    save_progress(sandbox, model, state, &applied).map(|_| ())
}

/// Counts again what is applied of a sandbox, if it still exists, after an undo. A sandbox in use is skipped, because it counts
/// when it is released.
pub(crate) fn remeasure_progress(host: &HostRepo, name: &str) -> Result<(), CliError> {
    let Ok(name) = name.parse::<SandboxName>() else { return Ok(()) };
    let Some(mut sandbox) = SandboxStore::new(&host.common_dir).open(&name)? else { return Ok(()) };
    if sandbox.acquire_lock().is_err() {
        return Ok(());
    }
    let Some(changes) = sandbox.read_changeset()? else { return Ok(()) };
    let changes = join_renames(&sandbox, changes);
    let model = open_model(&sandbox, &changes)?;
    let state = load_draft(&sandbox, &model)?;
    update_decided(host, &mut sandbox, &model, &state)
}

/// Records how far the review is. Returns whether all changes are decided.
pub(crate) fn save_progress(
    sandbox: &mut Sandbox,
    model: &ReviewModel<'_>,
    state: &ReviewState,
    applied: &AppliedState,
) -> Result<bool, CliError> {
    let is_decided = is_decided(model, &sandbox.record, state, applied);
    lifecycle::set_decided(sandbox, is_decided, Some(measure_progress(model, state, applied)))?;
    Ok(is_decided)
}

/// Counts what a review has decided.
fn measure_progress(model: &ReviewModel<'_>, state: &ReviewState, applied: &AppliedState) -> ReviewProgress {
    let mut progress = ReviewProgress { changeset: model.changeset.to_owned(), ..ReviewProgress::default() };
    for file in &model.files {
        let written = applied_selection(applied, file.change);
        progress.comments += file.units.iter().map(|unit| state.decisions.comments_on(&unit.id).count()).sum::<usize>();
        for unit in file.units.iter().filter(|_| !file.is_refused()) {
            progress.hunks += 1;
            progress.decided += usize::from(state.decisions.is_decided(unit));
            progress.accepted += usize::from(state.decisions.is_accepted(unit));
            progress.applied += usize::from(written.get(&unit.id).is_some());
        }
    }
    progress
}

/// Returns whether each part of the changes is applied or rejected, and no comment waits to be sent. A sandbox in which
/// nothing can be accepted is not decided, because its changes exist only there.
fn is_decided(model: &ReviewModel<'_>, record: &SandboxRecord, state: &ReviewState, applied: &AppliedState) -> bool {
    let decisions = &state.decisions;
    if send_obstacle(record).is_none() && has_unsent_comment(model.files.iter().flat_map(|f| &f.units), state) {
        return false;
    }
    let mut files = model.files.iter().filter(|file| !file.is_refused()).peekable();
    files.peek().is_some()
        && files.all(|file| {
            let written = applied_selection(applied, file.change);
            file.units.iter().all(|unit| {
                let is_rejected = |line| decisions.line_decision(&unit.id, line) == Some(Decision::Rejected);
                match written.get(&unit.id) {
                    Some(UnitSelection::All | UnitSelection::Text(_)) => true,
                    Some(UnitSelection::Lines(lines)) => {
                        (0..unit.line_count()).all(|line| lines.contains_line(line) || is_rejected(line))
                    }
                    None => decisions.count_lines(unit).rejected == unit.line_count(),
                }
            })
        })
}
