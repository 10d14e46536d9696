//! Folders in the file list: moving to them, collapsing them, and decisions on their files.

use std::collections::BTreeSet;

use super::app::{App, ConfirmAction, Cursor, Filter, Granularity, Mode};
use super::keymap::Command;
use super::tree::{Folder, ListRow, tree_rows};
use crate::changes::UnitKind;
use crate::core::escape::Escaped;
use crate::review::{Decision, DecisionTarget};

impl App<'_> {
    /// Recomputes the rows of the file list.
    pub(super) fn update_list(&mut self) {
        self.list = if self.is_tree {
            let path = |file: &usize| (*file, &self.model.files[*file].change.path);
            tree_rows(&self.files.iter().map(path).collect::<Vec<_>>(), &self.collapsed_folders)
        } else {
            self.files.iter().map(|file| ListRow::File { file: *file, depth: 0 }).collect()
        };
        if self.folder.is_some() && self.current_folder().is_none() {
            self.folder = None;
        }
    }

    /// Returns the index of the row at the cursor.
    pub(super) fn current_list_row(&self) -> usize {
        let is_current = |row: &ListRow| match (row, &self.folder) {
            (ListRow::Folder(folder), Some(path)) => folder.path == *path,
            (ListRow::File { file, .. }, None) => *file == self.cursor.file,
            _ => false,
        };
        self.list.iter().position(is_current).unwrap_or(0)
    }

    /// Returns the folder at the cursor.
    pub(super) fn current_folder(&self) -> Option<&Folder> {
        let path = self.folder.as_ref()?;
        self.list.iter().find_map(|row| match row {
            ListRow::Folder(folder) if folder.path == *path => Some(folder),
            _ => None,
        })
    }

    /// Moves by rows of the file list, and stops at both ends.
    pub(super) fn move_list_row(&mut self, by: isize) {
        let to = self.current_list_row().saturating_add_signed(by).min(self.list.len().saturating_sub(1));
        self.go_to_list_row(to);
    }

    /// Moves to a row of the file list. At a folder, the diff is that of its first file.
    pub(super) fn go_to_list_row(&mut self, row: usize) {
        let (file, folder) = match self.list.get(row) {
            Some(ListRow::File { file, .. }) => (*file, None),
            Some(ListRow::Folder(folder)) => (self.files[folder.files.start], Some(folder.path.clone())),
            None => return,
        };
        if self.cursor.file != file {
            self.cursor = Cursor { file, unit: 0, row: 0 };
            self.open_current_file();
        }
        self.folder = folder;
        if self.folder.is_some() {
            self.granularity = Granularity::File;
        }
        self.clamp_cursor();
    }

    /// Moves from a row of the tree to its folder, or collapses the folder at the cursor.
    pub(super) fn move_to_parent_folder(&mut self) {
        if self.current_folder().is_some_and(|folder| !folder.is_collapsed) {
            return self.toggle_folder();
        }
        let at = self.current_list_row();
        let depth = |row: &ListRow| match row {
            ListRow::Folder(folder) => folder.depth,
            ListRow::File { depth, .. } => *depth,
        };
        let Some(current) = self.list.get(at).map(depth) else { return };
        let is_parent = |row: &ListRow| matches!(row, ListRow::Folder(folder) if folder.depth < current);
        if let Some(parent) = self.list[..at].iter().rposition(is_parent) {
            self.go_to_list_row(parent);
        }
    }

    /// Collapses or expands the folder at the cursor.
    pub(super) fn toggle_folder(&mut self) {
        let Some(path) = self.folder.clone() else { return };
        if !self.collapsed_folders.remove(&path) {
            self.collapsed_folders.insert(path);
        }
        self.update_list();
    }

    /// Expands the folders above the open file.
    pub(super) fn show_open_file_in_list(&mut self) {
        self.folder = None;
        let Some(file) = self.current_file() else { return };
        let path = file.change.path.as_bytes();
        let before = self.collapsed_folders.len();
        self.collapsed_folders.retain(|folder| !path.starts_with(folder));
        if self.collapsed_folders.len() != before {
            self.update_list();
        }
    }

    /// Switches between a tree of folders and a list of files.
    pub(crate) fn toggle_tree(&mut self) {
        self.is_tree = !self.is_tree;
        self.collapsed_folders = BTreeSet::new();
        self.select_files();
    }

    /// Runs a command at a folder. Returns whether it is complete.
    pub(super) fn run_folder_command(&mut self, command: Command) -> bool {
        let Some(folder) = self.current_folder().filter(|_| self.granularity == Granularity::File) else {
            return false;
        };
        let files = self.files.get(folder.files.clone()).unwrap_or_default().to_vec();
        let name = Escaped::new(&folder.path).to_string();
        let is_collapsed = folder.is_collapsed;
        match command {
            Command::Accept | Command::AcceptFile => self.ask_to_decide(files, Decision::Accepted, &name),
            Command::Reject | Command::RejectFile => self.ask_to_decide(files, Decision::Rejected, &name),
            Command::Toggle => {
                let is_accepted = |file: &usize| self.counts.file_counts(*file).lines.unanimous_decision();
                let all_accepted = files.iter().all(|file| is_accepted(file) == Some(Decision::Accepted));
                let decision = if all_accepted { Decision::Rejected } else { Decision::Accepted };
                self.ask_to_decide(files, decision, &name);
            }
            Command::Fold => self.toggle_folder(),
            Command::Outward => self.move_to_parent_folder(),
            Command::Inward if is_collapsed => self.toggle_folder(),
            Command::Inward => self.move_list_row(1),
            Command::SelectRange
            | Command::Split
            | Command::Edit
            | Command::View
            | Command::Comment
            | Command::Preview => {
                self.message = Some(format!("{name} is a folder: go to a file of it first"));
            }
            _ => return false,
        }
        true
    }

    /// Asks to decide what is undecided in files; if nothing is, all of them. `place` is a folder, or empty for everything that is
    /// shown.
    pub(super) fn ask_to_decide(&mut self, files: Vec<usize>, decision: Decision, place: &str) {
        let has_undecided = files.iter().any(|file| {
            let (items, hidden) = self.undecided_targets(*file);
            !items.is_empty() || hidden > 0
        });
        let overrides = !has_undecided && !place.is_empty();
        let (mut units, mut in_files, mut risky, mut not_shown) = (0, 0, 0, 0);
        for file in &files {
            let items = self.bulk_targets(*file, decision, overrides).0;
            if decision == Decision::Accepted && self.model.files[*file].is_risky() {
                risky += items.len();
            } else if !items.is_empty() {
                units += items.len();
                in_files += 1;
                let lines = |item: &DecisionTarget| {
                    let unit = &self.model.files[item.file].units[item.unit];
                    let has_lines = matches!(unit.kind, UnitKind::Hunk { .. });
                    if has_lines { self.state.count_unseen(unit, item.lines.as_ref()) } else { 0 }
                };
                not_shown += items.iter().map(lines).sum::<usize>();
            }
        }
        if decision == Decision::Rejected {
            not_shown = 0;
        }
        let word = if decision == Decision::Accepted { "Accept" } else { "Reject" };
        let remaining = match risky {
            0 => String::new(),
            1 => " 1 high-risk is skipped.".into(),
            n => format!(" {n} high-risk are skipped."),
        };
        if units == 0 {
            let what = if overrides { "hunk" } else { "undecided hunk" };
            self.message = Some(format!("no {what} can be {}ed.{remaining}", word.to_lowercase()));
            return;
        }
        let hunks = if units == 1 { "hunk" } else { "hunks" };
        let noun = if in_files == 1 { "file" } else { "files" };
        let shown = if matches!(self.filter, Filter::All) { "" } else { " shown" };
        let place = if place.is_empty() { String::new() } else { format!(" of {place}") };
        let state = if overrides { "decided" } else { "undecided" };
        // The number includes folded lines.
        let unseen_note = match not_shown {
            0 => String::new(),
            1 => ", 1 line unseen".into(),
            n => format!(", {n} lines unseen"),
        };
        let question =
            format!("{word} {units} {state} {hunks} in {in_files} {noun}{place}{shown}{unseen_note}?{remaining}");
        self.mode = Mode::Confirm(question, ConfirmAction::Files { files, decision, overrides });
    }

    /// Returns the targets of a decision on a whole file: what is undecided, or with `overrides` what is decided otherwise. Also
    /// returns the number of units that are hidden.
    pub(super) fn bulk_targets(
        &self,
        file: usize,
        decision: Decision,
        overrides: bool,
    ) -> (Vec<DecisionTarget>, usize) {
        let review_file = &self.model.files[file];
        if !overrides || review_file.is_refused() {
            return self.undecided_targets(file);
        }
        let is_other = |unit: &usize| self.counts.unit_line_counts(file, *unit).unanimous_decision() != Some(decision);
        // Lines that are not shown cannot be accepted.
        let hidden_units = if decision == Decision::Accepted { self.hidden_units(file) } else { BTreeSet::new() };
        let (hidden, units): (Vec<usize>, Vec<usize>) =
            (0..review_file.units.len()).filter(is_other).partition(|unit| hidden_units.contains(unit));
        (units.into_iter().map(|unit| DecisionTarget { file, unit, lines: None }).collect(), hidden.len())
    }
}
