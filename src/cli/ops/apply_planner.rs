//! Plans an apply for the review, without writing: on request, and in the background while the user decides.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::apply_context::ApplyContext;
use super::apply_options::ApplyOptions;
use super::apply_to_worktree::{PlanInputs, build_plan};
use super::conflict;
use super::selected_changes::load_needed_rounds;
use crate::apply::{Conflict, Step};
use crate::cli::error::CliError;
use crate::cli::outcome::{OutcomeMode, step_label, step_note, units_by_path};
use crate::git::HostRepo;
use crate::review::{ApplyPlanner, Decisions, Preview, PreviewLine, ReviewModel};
use crate::sandbox::Sandbox;

/// Plans applies of one review. Each plan opens the repository, because several threads plan.
pub(crate) struct WorktreePlanner<'a> {
    root: PathBuf,
    sandbox: &'a Sandbox,
    model: &'a ReviewModel<'a>,
}

impl<'a> WorktreePlanner<'a> {
    pub(crate) fn new(repo: &HostRepo, sandbox: &'a Sandbox, model: &'a ReviewModel<'a>) -> Self {
        Self { root: repo.root.clone(), sandbox, model }
    }

    fn build_preview(
        &self,
        decisions: &Decisions,
        is_cancelled: &(dyn Fn() -> bool + Sync),
    ) -> Result<Preview, CliError> {
        let repo = HostRepo::discover(&self.root)?;
        let context = ApplyContext::new(&repo)?;
        let tree = context.open_tree(&self.sandbox.record.manifest.submodules)?;
        let (store, before) = (self.sandbox.open_quarantine()?, context.applied_state(self.sandbox)?);
        let rounds = load_needed_rounds(self.sandbox, self.model, &before)?;
        let options = ApplyOptions::from_decisions(self.model, decisions);
        let plan = build_plan(&PlanInputs {
            repo: &repo,
            commit: &self.sandbox.record.base,
            tree: &tree,
            model: self.model,
            options: &options,
            before: &before,
            rounds: &rounds,
            store: &store,
            is_cancelled,
        })?;
        let units = units_by_path(self.model);
        let line = |step: &Step| PreviewLine {
            path: step.path.clone(),
            outcome: step_label(step, OutcomeMode::Planned),
            renamed_from: step.renamed_from().cloned(),
            reason: step_note(step, &units),
            is_conflict: false,
            sides: Vec::new(),
            regions: Vec::new(),
            has_git_merge: false,
            result: step.result.as_ref().map(|content| content.hash.clone()),
        };
        let conflict = |c: &Conflict| PreviewLine {
            path: c.path.clone(),
            renamed_from: c.renamed_from.clone(),
            outcome: "conflict",
            reason: c.reason.clone(),
            is_conflict: true,
            has_git_merge: c.sides.as_ref().is_some_and(|sides| sides.git_merge.is_some()),
            regions: c.split_regions(&store),
            result: None,
            sides: conflict::format_conflicts(std::slice::from_ref(c), conflict::APPLY_LABELS, &store)
                .lines()
                .skip(2)
                .map(str::to_owned)
                .collect(),
        };
        let steps = plan.steps.iter().filter(|step| step.moved_to.is_none()).map(line);
        let mut lines: Vec<PreviewLine> = steps.chain(plan.conflicts.iter().map(conflict)).collect();
        lines.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Preview { lines })
    }
}

impl ApplyPlanner for WorktreePlanner<'_> {
    fn plan_apply(&self, decisions: &Decisions, is_cancelled: &(dyn Fn() -> bool + Sync)) -> Result<Preview, String> {
        self.build_preview(decisions, is_cancelled).map_err(|failure| failure.escaped_message())
    }

    fn tree_state(&self) -> u64 {
        let mut state = DefaultHasher::new();
        for path in self.model.files.iter().flat_map(|file| file.change.affected_paths()) {
            let file = self.root.join(std::ffi::OsStr::from_bytes(path.as_bytes()));
            let seen = file.symlink_metadata().ok();
            let seen =
                seen.map(|m| (m.ino(), m.size(), m.mode(), m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()));
            seen.hash(&mut state);
        }
        state.finish()
    }
}
