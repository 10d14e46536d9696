//! Conflicts with the working tree: their marks at files and hunks, and the screen that resolves them region by region.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crossterm::event::{KeyCode, KeyEvent};

use super::app::{App, Mode};
use super::dialogs::{FileConflict, ResolveView};
use super::keymap::Command;
use super::keys::Effect;
use super::side_words::{choice_word, side_lines};
use crate::changes::{ConflictChoice, ConflictRegion, Unit, UnitKind};
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;
use crate::review::{Action, DecisionTarget, Decisions, Preview, ReviewHost, with_all_accepted};

/// Lines of the working tree that the note at a hunk shows.
const MAX_NOTE_LINES: usize = 4;

impl App<'_> {
    /// Takes the decisions to plan in the background, if they have changed.
    pub fn take_plan_request(&mut self) -> Option<Decisions> {
        let is_due = std::mem::take(&mut self.needs_plan);
        is_due.then(|| {
            let mut decisions = with_all_accepted(self.model, &self.state.decisions);
            decisions.clear_choices();
            decisions
        })
    }

    /// Stores a plan of everything, and returns whether the marks have changed.
    pub fn store_plan(&mut self, plan: &Preview) -> bool {
        let by_path: BTreeMap<&RepoPath, usize> =
            self.model.files.iter().enumerate().map(|(at, file)| (&file.change.path, at)).collect();
        let conflicts = plan.lines.iter().filter(|line| line.is_conflict);
        let conflicts: BTreeMap<usize, FileConflict> = conflicts
            .filter_map(|line| {
                let conflict = FileConflict { reason: line.reason.clone(), regions: line.regions.clone() };
                Some((*by_path.get(&line.path)?, conflict))
            })
            .collect();
        let is_changed = self.conflicts.as_ref() != Some(&conflicts);
        self.conflicts = Some(conflicts);
        if is_changed {
            self.update_layout();
        }
        is_changed
    }

    /// Returns the conflict of a file with the working tree, if it is known.
    pub(super) fn file_conflict(&self, file: usize) -> Option<&FileConflict> {
        self.conflicts.as_ref()?.get(&file)
    }

    /// Returns whether the user has chosen a result for each region.
    pub(super) fn is_resolved(&self, conflict: &FileConflict) -> bool {
        let choices = self.state.decisions.conflict_choices();
        !conflict.regions.is_empty() && conflict.regions.iter().all(|region| choices.contains_key(&region.id))
    }

    /// Returns the regions of a file's conflict that a unit is part of, and whether it has a conflict at all.
    fn unit_regions<'c>(conflict: &'c FileConflict, unit: &Unit) -> (Vec<&'c ConflictRegion>, bool) {
        let touches = |region: &&ConflictRegion| match &unit.kind {
            UnitKind::Hunk { old, .. } if !region.is_whole => {
                old.start <= region.base.lines.end && region.base.lines.start <= old.end
            }
            _ => true,
        };
        let regions: Vec<&ConflictRegion> = conflict.regions.iter().filter(touches).collect();
        let is_in_conflict = conflict.regions.is_empty() || !regions.is_empty();
        (regions, is_in_conflict)
    }

    /// Returns whether a unit is in conflict with the working tree, and whether that is resolved.
    pub(super) fn unit_conflict(&self, file: usize, unit: &Unit) -> Option<bool> {
        let conflict = self.file_conflict(file)?;
        let (regions, is_in_conflict) = Self::unit_regions(conflict, unit);
        let choices = self.state.decisions.conflict_choices();
        let is_resolved = !regions.is_empty() && regions.iter().all(|region| choices.contains_key(&region.id));
        is_in_conflict.then_some(is_resolved)
    }

    /// Returns the note on the conflict of each unit of the open file: what the working tree has there, and how it is resolved.
    pub(super) fn conflict_notes(&self) -> BTreeMap<usize, Vec<String>> {
        let (Some(file), Some(conflict)) = (self.current_file(), self.file_conflict(self.cursor.file)) else {
            return BTreeMap::new();
        };
        let mut notes = BTreeMap::new();
        for (at, unit) in file.units.iter().enumerate() {
            let (regions, is_in_conflict) = Self::unit_regions(conflict, unit);
            if is_in_conflict {
                notes.insert(at, self.conflict_note(conflict, &regions));
            }
        }
        notes
    }

    fn conflict_note(&self, conflict: &FileConflict, regions: &[&ConflictRegion]) -> Vec<String> {
        let reason = Escaped::new(&conflict.reason);
        let Some(region) = regions.first() else { return vec![format!("conflict: {reason}")] };
        let choices: Vec<&ConflictChoice> =
            regions.iter().filter_map(|region| self.state.decisions.conflict_choices().get(&region.id)).collect();
        if choices.len() == regions.len() {
            let words: BTreeSet<&str> = choices.into_iter().map(choice_word).collect();
            let words = words.into_iter().collect::<Vec<_>>().join(", ");
            let mut note = vec![format!("conflict resolved: {words}{}", self.key_note(Command::Resolve, "changes it"))];
            for region in regions {
                let choice = self.state.decisions.conflict_choices().get(&region.id);
                let text = choice.and_then(|choice| region.chosen_text(choice, |hash| self.model.read_text(hash)).ok());
                note.extend(quote_lines(&text.flatten().unwrap_or_default()));
            }
            return note;
        }
        let key = self.key_note(Command::Resolve, "resolves it");
        if region.is_whole {
            return vec![format!("conflict: {reason}{key}")];
        }
        let mut note =
            vec![format!("conflict: your working tree has other lines here, {}{key}", side_lines(&region.ours))];
        note.extend(quote_lines(region.ours.text.as_deref().unwrap_or_default()));
        note
    }

    /// Opens the screen that resolves the conflicts of the open file.
    pub(super) fn open_resolve_view(&mut self) {
        let Some(file) = self.current_file() else { return };
        let Some(conflict) = self.file_conflict(self.cursor.file) else {
            self.message = Some(match self.conflicts {
                Some(_) => "this file has no conflict with the working tree".into(),
                None => "the conflicts with the working tree are not known yet".into(),
            });
            return;
        };
        if conflict.regions.is_empty() {
            self.message = Some(format!("this cannot be resolved here: {}", Escaped::new(&conflict.reason)));
            return;
        }
        let path = file.change.path.clone();
        let unit = self.current_unit();
        let first = unit.and_then(|unit| Self::unit_regions(conflict, unit).0.first().map(|region| region.id.clone()));
        let items: Vec<_> = conflict.regions.iter().map(|region| (path.clone(), region.clone())).collect();
        let at = items.iter().position(|(_, region)| Some(&region.id) == first.as_ref()).unwrap_or(0);
        self.mode = Mode::Resolve(ResolveView { items, at, scroll: 0, from_apply: false, accepted: BTreeMap::new() });
    }

    /// Opens the screen that resolves the conflicts of an apply.
    pub(super) fn resolve_apply_conflicts(&mut self, preview: &Preview) -> bool {
        let conflicts = preview.lines.iter().filter(|line| line.is_conflict);
        let items: Vec<_> =
            conflicts.flat_map(|line| line.regions.iter().map(|region| (line.path.clone(), region.clone()))).collect();
        if items.is_empty() {
            self.message = Some("these conflicts are not about lines: they cannot be resolved here".into());
            return false;
        }
        let is_open = |(_, region): &(RepoPath, ConflictRegion)| {
            !self.state.decisions.conflict_choices().contains_key(&region.id)
        };
        let at = items.iter().position(is_open).unwrap_or(0);
        self.mode = Mode::Resolve(ResolveView { items, at, scroll: 0, from_apply: true, accepted: BTreeMap::new() });
        true
    }

    pub(super) fn handle_resolve_key(
        &mut self,
        mut view: ResolveView,
        key: KeyEvent,
        host: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        self.message = None;
        let page = usize::from(self.hit_areas.rows.height).max(1);
        let (path, region) = view.items[view.at].clone();
        let choice = match key.code {
            KeyCode::Char('o') => Some(ConflictChoice::Ours),
            KeyCode::Char('t') => Some(ConflictChoice::Theirs),
            KeyCode::Char('b' | 'e') if !region.can_combine => {
                self.message = Some("only text can be combined or edited: choose one side".into());
                None
            }
            KeyCode::Char('b') => Some(ConflictChoice::Both),
            KeyCode::Char('e') => {
                let choice = self.edit_region(&path, &region, host)?;
                if let Some(choice) = choice {
                    self.choose_side(&mut view, &region, Some(choice), host)?;
                }
                return Ok(self.continue_resolving(view, Effect::RedrawAll));
            }
            KeyCode::Char('u') => {
                self.choose_side(&mut view, &region, None, host)?;
                None
            }
            KeyCode::Esc | KeyCode::Char('q') => return Ok(self.leave_resolve_view(view.from_apply, host)),
            KeyCode::Enter if self.first_open_region(&view).is_none() => {
                return Ok(self.leave_resolve_view(view.from_apply, host));
            }
            KeyCode::Char(']' | 'n') | KeyCode::Enter => {
                (view.at, view.scroll) = ((view.at + 1).min(view.items.len() - 1), 0);
                None
            }
            KeyCode::Char('[' | 'p') => {
                (view.at, view.scroll) = (view.at.saturating_sub(1), 0);
                None
            }
            KeyCode::Down | KeyCode::Char('j') => {
                view.scroll += 1;
                None
            }
            KeyCode::Up | KeyCode::Char('k') => {
                view.scroll = view.scroll.saturating_sub(1);
                None
            }
            KeyCode::PageDown | KeyCode::Char(' ') => {
                view.scroll += page;
                None
            }
            KeyCode::PageUp => {
                view.scroll = view.scroll.saturating_sub(page);
                None
            }
            _ => None,
        };
        if let Some(choice) = choice {
            self.choose_side(&mut view, &region, Some(choice), host)?;
            return Ok(self.continue_resolving(view, Effect::Redraw));
        }
        view.scroll = view.scroll.min(self.max_scroll.get());
        self.mode = Mode::Resolve(view);
        Ok(Effect::Redraw)
    }

    fn choose_side(
        &mut self,
        view: &mut ResolveView,
        region: &ConflictRegion,
        choice: Option<ConflictChoice>,
        host: &mut dyn ReviewHost,
    ) -> io::Result<()> {
        // Without the choice, what it has accepted is undecided again.
        let accepts = match &choice {
            Some(_) => self.undecided_in(region),
            None => view.accepted.remove(&region.id).unwrap_or_default(),
        };
        if choice.is_some() {
            view.accepted.entry(region.id.clone()).or_default().extend(accepts.iter().cloned());
        }
        self.run_action(Action::Choose { region: region.id.clone(), choice, accepts }, host)?;
        view.scroll = 0;
        self.update_layout();
        Ok(())
    }

    /// Returns the undecided hunks that a region belongs to. What is chosen for it is their result.
    fn undecided_in(&self, region: &ConflictRegion) -> Vec<DecisionTarget> {
        let mut conflicts = self.conflicts.iter().flatten();
        let Some((file, _)) =
            conflicts.find(|(_, conflict)| conflict.regions.iter().any(|other| other.id == region.id))
        else {
            return Vec::new();
        };
        // Only what the screen has shown: not a rename or an executable bit, and no hunk that is only beside the region.
        let is_part = |unit: &Unit| match &unit.kind {
            UnitKind::Hunk { old, .. } if !region.is_whole => {
                let lines = &region.base.lines;
                let touches = old.start <= lines.end && lines.start <= old.end;
                touches && (old.is_empty() || lines.is_empty() || old.start < lines.end && lines.start < old.end)
            }
            UnitKind::Mode(_) | UnitKind::Rename | UnitKind::LineEndings(_) => false,
            UnitKind::Hunk { .. } | UnitKind::Whole | UnitKind::Delete | UnitKind::CreateEmpty => region.is_whole,
        };
        let units = self.model.files[*file].units.iter().enumerate();
        units
            .filter(|(_, unit)| self.state.decisions.get(&unit.id).is_none() && is_part(unit))
            .map(|(unit, _)| DecisionTarget { file: *file, unit, lines: None })
            .collect()
    }

    fn first_open_region(&self, view: &ResolveView) -> Option<usize> {
        let is_open = |at: &usize| !self.state.decisions.conflict_choices().contains_key(&view.items[*at].1.id);
        (view.at..view.items.len()).chain(0..view.at).find(is_open)
    }

    /// Goes to the next region without a choice. At the last one, stays.
    fn continue_resolving(&mut self, mut view: ResolveView, effect: Effect) -> Effect {
        match self.first_open_region(&view) {
            Some(next) => {
                view.at = next;
                self.mode = Mode::Resolve(view);
            }
            // The result is shown, and can be changed.
            None => {
                if self.message.is_none() {
                    let all = if view.items.len() == 1 { "the conflict is" } else { "all conflicts are" };
                    self.message = Some(format!("{all} resolved: Enter goes back, e edits the result"));
                }
                self.mode = Mode::Resolve(view);
            }
        }
        effect
    }

    fn leave_resolve_view(&mut self, from_apply: bool, host: &mut dyn ReviewHost) -> Effect {
        if from_apply {
            self.open_apply_preview(host);
        }
        Effect::Redraw
    }

    /// Lets the user edit a region: their earlier text, or both sides between markers, which must be removed.
    fn edit_region(
        &mut self,
        path: &RepoPath,
        region: &ConflictRegion,
        host: &mut dyn ReviewHost,
    ) -> io::Result<Option<ConflictChoice>> {
        let chosen = self.state.decisions.conflict_choices().get(&region.id);
        let chosen =
            chosen.and_then(|choice| region.chosen_text(choice, |hash| self.model.read_text(hash)).ok().flatten());
        let edit = |text: &[u8]| host.edit_text(path, text);
        let edited = match chosen {
            Some(text) => region.edit_text(&text, edit),
            None => region.edit_sides(edit),
        };
        match edited {
            Ok(text) => Ok(Some(ConflictChoice::Text(self.model.store_text(&text)?))),
            Err(reason) => {
                self.message = Some(Escaped::new(&reason).to_string());
                Ok(None)
            }
        }
    }
}

/// Returns the first lines of a text as rows of a note.
fn quote_lines(text: &[u8]) -> Vec<String> {
    let lines = crate::changes::split_lines(text);
    let shown = lines.iter().take(MAX_NOTE_LINES).map(|line| crate::changes::trim_line_ending(line));
    let mut rows: Vec<String> = shown.map(|line| format!("| {}", Escaped::from_line(line))).collect();
    if lines.len() > MAX_NOTE_LINES {
        rows.push(format!("| {} more lines", lines.len() - MAX_NOTE_LINES));
    }
    rows
}
