//! The outcome of an apply or an undo for each path, before or after it: as text and as JSON.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};

use super::error::CliError;
use super::json as shapes;
use super::output::{format_count, print_stdout};
use crate::apply::{ApplyError, Conflict, EntryContent, Plan, Step, StepAction};
use crate::changes::{Unit, UnitSelection, rename_label};
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;
use crate::review::ReviewModel;

/// The outcomes of all paths, and the plan as JSON.
pub(super) struct Outcome {
    lines: BTreeMap<RepoPath, OutcomeLine>,
    plan: Value,
}

struct OutcomeLine {
    path: RepoPath,
    renamed_from: Option<RepoPath>,
    outcome: &'static str,
    reason: String,
}

/// The units of each path.
pub(super) type UnitsByPath<'a> = BTreeMap<&'a RepoPath, &'a [Unit]>;

/// Returns the units by path. A renamed file is listed under both of its paths.
pub(super) fn units_by_path<'a>(model: &'a ReviewModel<'_>) -> UnitsByPath<'a> {
    model.files_by_path().into_iter().map(|(path, file)| (path, file.units.as_slice())).collect()
}

/// The mode in which a plan is described.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutcomeMode {
    /// A plan that is not executed.
    Planned,
    /// An executed apply.
    Applied,
    /// An executed undo.
    Undone,
}

impl Outcome {
    /// Creates the outcomes of a plan.
    pub(super) fn from_plan(plan: &Plan, units_by_path: &UnitsByPath<'_>, mode: OutcomeMode) -> Self {
        let steps = plan.steps.iter().filter(|step| step.moved_to.is_none()).map(|s| OutcomeLine {
            path: s.path.clone(),
            renamed_from: s.renamed_from().cloned(),
            outcome: step_label(s, mode),
            reason: step_note(s, units_by_path),
        });
        let line = |c: &Conflict, outcome| OutcomeLine {
            path: c.path.clone(),
            renamed_from: c.renamed_from.clone(),
            outcome,
            reason: c.reason.clone(),
        };
        let conflicts = plan.conflicts.iter().map(|c| line(c, "conflict"));
        let lines = steps.chain(conflicts).chain(plan.skipped.iter().map(|c| line(c, "skipped")));
        Self { lines: lines.map(|line| (line.path.clone(), line)).collect(), plan: plan_to_json(plan) }
    }

    /// Adds a path that is not in the plan.
    pub(super) fn add_path(&mut self, path: &RepoPath, outcome: &'static str, reason: &str) {
        self.lines.entry(path.clone()).or_insert_with(|| OutcomeLine {
            path: path.clone(),
            renamed_from: None,
            outcome,
            reason: reason.to_owned(),
        });
    }

    /// Replaces the outcome of a path.
    pub(super) fn set_outcome(&mut self, path: &RepoPath, outcome: &'static str, reason: &str) {
        if let Some(line) = self.lines.get_mut(path) {
            (line.outcome, line.reason) = (outcome, reason.to_owned());
        }
    }

    /// Sets the outcomes of a plan whose execution failed.
    pub(super) fn mark_failed(&mut self, plan: &Plan, problem: &ApplyError) {
        self.mark_skipped(
            plan,
            match problem {
                ApplyError::RollbackFailed { .. } => "may be partly written; see the error",
                _ => "nothing was written",
            },
        );
        if let ApplyError::RolledBack { path: Some(path), error, .. }
        | ApplyError::NotStarted { path: Some(path), error } = problem
        {
            self.set_outcome(path, "failed", &error.to_string());
        }
    }

    /// Marks all steps that write as skipped.
    pub(super) fn mark_skipped(&mut self, plan: &Plan, reason: &str) {
        for step in plan.steps.iter().filter(|s| s.is_written()) {
            self.set_outcome(&step.path, "skipped", reason);
        }
    }

    /// Returns the outcomes as JSON, with the fields of `more`.
    pub(super) fn to_json(&self, more: Value) -> Value {
        let files: Vec<_> = self.lines.values().map(OutcomeLine::to_json).collect();
        let mut all = json!({ "schema_version": 1, "files": files });
        if let Value::Object(fields) = more {
            fields.into_iter().for_each(|(key, value)| all[key] = value);
        }
        all["plan"] = self.plan.clone();
        all
    }

    /// Prints the outcomes as lines, or as JSON with the fields of `more`.
    pub(super) fn print_outcome(&self, json: bool, more: Value) -> Result<(), CliError> {
        if json {
            return Ok(print_stdout(&shapes::render_json(&self.to_json(more)))?);
        }
        let width = self.lines.values().map(|line| line.path_text().chars().count()).max();
        let width = width.unwrap_or(0).min(40);
        let mut text = String::new();
        for line in self.lines.values() {
            let path = line.path_text();
            let line = format!("  {:9}  {path:width$}  {}", line.outcome, Escaped::new(&line.reason));
            text += line.trim_end();
            text.push('\n');
        }
        Ok(print_stdout(&text)?)
    }
}

impl OutcomeLine {
    /// Returns the path, after that before a rename, escaped.
    fn path_text(&self) -> String {
        match &self.renamed_from {
            Some(from) => rename_label(from, &self.path, "→"),
            None => Escaped::new(self.path.as_bytes()).to_string(),
        }
    }

    fn to_json(&self) -> Value {
        let mut line = json!({"path": shapes::path_text(&self.path), "outcome": self.outcome});
        if let Some(from) = &self.renamed_from {
            line["renamed_from"] = shapes::path_text(from).into();
        }
        if !self.reason.is_empty() {
            line["reason"] = self.reason.as_str().into();
        }
        if shapes::path_text(&self.path).contains(char::REPLACEMENT_CHARACTER) {
            line["path_bytes"] = json!(self.path.as_bytes());
        }
        line
    }
}

/// Returns the label of a step. A moved file has the label of a rename.
pub(super) fn step_label(step: &Step, mode: OutcomeMode) -> &'static str {
    match mode {
        _ if !step.moves_file() => action_label(&step.action, mode),
        OutcomeMode::Planned => "rename",
        OutcomeMode::Applied => "renamed",
        OutcomeMode::Undone => "restored",
    }
}

fn action_label(action: &StepAction, mode: OutcomeMode) -> &'static str {
    match (action, mode) {
        (StepAction::Unchanged, _) => "unchanged",
        (StepAction::Create, OutcomeMode::Applied) => "created",
        (StepAction::Replace, OutcomeMode::Applied) => "applied",
        (StepAction::Delete, OutcomeMode::Applied) => "deleted",
        (StepAction::Create | StepAction::Replace, OutcomeMode::Undone) => "restored",
        (StepAction::Delete, OutcomeMode::Undone) => "removed",
        (StepAction::Merge(_), OutcomeMode::Applied | OutcomeMode::Undone) => "merged",
        (StepAction::Resolve, OutcomeMode::Applied | OutcomeMode::Undone) => "resolved",
        (StepAction::Resolve, OutcomeMode::Planned) => "resolve",
        (StepAction::WriteConflictMarkers(_), OutcomeMode::Applied | OutcomeMode::Undone) => "marked",
        (StepAction::Create, OutcomeMode::Planned) => "create",
        (StepAction::Replace, OutcomeMode::Planned) => "apply",
        (StepAction::Merge(_), OutcomeMode::Planned) => "merge",
        (StepAction::WriteConflictMarkers(_), OutcomeMode::Planned) => "mark",
        (StepAction::Delete, OutcomeMode::Planned) => "delete",
    }
}

pub(super) fn step_note(step: &Step, units_by_path: &UnitsByPath<'_>) -> String {
    let all = units_by_path.get(&step.path).copied().unwrap_or_default();
    let some = step.selection.iter().filter(|(_, pick)| !matches!(pick, UnitSelection::All)).count();
    let part = (!step.selection.covers_all(all)).then(|| {
        let whole = step.selection.len() - some;
        match (whole, some) {
            (_, 0) => format!("{whole} of {}", format_count(all.len(), "hunk")),
            (0, _) => format!("{some} partial or edited of {}", format_count(all.len(), "hunk")),
            _ => format!("{whole} whole and {some} partial or edited of {}", format_count(all.len(), "hunk")),
        }
    });
    let more = match &step.action {
        StepAction::Merge(own) if own.is_empty() => Some("with your edits".into()),
        StepAction::Merge(own) => Some(format!("with your edits of {}", format_line_ranges(own))),
        StepAction::WriteConflictMarkers(places) => {
            Some(format!("{} between markers", format_count(*places, "conflict")))
        }
        _ if step.moved_from.as_ref().is_some_and(|file| file.has_edits) => Some("with your edits".into()),
        _ => None,
    };
    part.into_iter().chain(more).collect::<Vec<_>>().join(", ")
}

/// Formats line numbers, such as `line 3` or `lines 40 to 52 and 60`.
fn format_line_ranges(ranges: &[Range<usize>]) -> String {
    let one = |r: &Range<usize>| match r.len() {
        // A deletion is between two lines.
        0 => format!("after {}", r.start),
        1 => (r.start + 1).to_string(),
        _ => format!("{} to {}", r.start + 1, r.end),
    };
    let shown: Vec<String> = ranges.iter().take(3).map(one).collect();
    let many = ranges.len() > 1 || ranges[0].len() != 1;
    let more = if ranges.len() > 3 { format!(" and {} more places", ranges.len() - 3) } else { String::new() };
    let list = match shown.split_last() {
        Some((last, rest)) if !rest.is_empty() && more.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => shown.join(", "),
    };
    format!("{} {list}{more}", if many { "lines" } else { "line" })
}

/// Returns a plan as JSON.
fn plan_to_json(plan: &Plan) -> Value {
    let side = |v: &Option<EntryContent>| v.as_ref().map(|v| json!({"mode": v.kind.git_mode(), "sha256": v.hash}));
    let steps = plan.steps.iter().map(|s| {
        let expected = s.expected.as_ref().map(|seen| {
            json!({
                "mode": seen.version.kind.git_mode(), "permissions": format!("{:04o}", seen.mode),
                "sha256": seen.version.hash,
            })
        });
        json!({
            "path": shapes::path_text(&s.path), "operation": action_label(&s.action, OutcomeMode::Planned),
            "base": side(&s.base), "expected": expected, "final": side(&s.result),
        })
    });
    let paths = |paths: &[RepoPath]| paths.iter().map(shapes::path_text).collect::<Vec<_>>();
    json!({"steps": steps.collect::<Vec<_>>(), "dirs_to_create": paths(&plan.dirs_to_create), "dirs_to_remove": paths(&plan.dirs_to_remove)})
}

#[cfg(test)]
mod tests {
    use super::format_line_ranges;

    #[test]
    fn line_ranges_are_formatted() {
        for (ranges, text) in [
            (&[(2, 3)][..], "line 3"),
            (&[(39, 52)], "lines 40 to 52"),
            (&[(2, 3), (5, 7)], "lines 3 and 6 to 7"),
            (&[(2, 3), (5, 7), (9, 10)], "lines 3, 6 to 7 and 10"),
            (&[(4, 4)], "lines after 4"),
            (&[(0, 1), (2, 3), (4, 5), (6, 7), (8, 9)], "lines 1, 3, 5 and 2 more places"),
        ] {
            let ranges: Vec<_> = ranges.iter().map(|(from, to)| *from..*to).collect();
            assert_eq!(format_line_ranges(&ranges), text);
        }
    }
}
