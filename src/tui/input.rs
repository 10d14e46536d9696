//! Input lines for a search, a filter or a comment, and pasted text.

use std::collections::BTreeSet;
use std::io;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use globset::Glob;

use super::app::{App, Cursor, Filter, Mode, PromptKind};
use super::keymap::Command;
use super::keys::Effect;
use crate::changes::Unit;
use crate::core::escape::Escaped;
use crate::review::{ReviewHost, with_all_accepted};

/// Maximum length of an input line: in bytes while typing, and in characters for each paste.
const MAX_INPUT: usize = 2000;

impl App<'_> {
    pub(crate) fn handle_input_key(
        &mut self,
        prompt: PromptKind,
        mut text: String,
        key: KeyEvent,
        host: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        match key.code {
            KeyCode::Esc => {
                self.keep_unsaved_comment(prompt, text);
                return Ok(Effect::Redraw);
            }
            KeyCode::Enter => return self.submit_input(prompt, &text, host),
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Char('e') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                if let PromptKind::Comment(anchor, _) = prompt {
                    return self.edit_comment(anchor, &text, host);
                }
            }
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => text.clear(),
            KeyCode::Char('w') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                let kept = text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                text.truncate(kept);
            }
            KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::CONTROL) && text.len() < MAX_INPUT => {
                text.push(c);
            }
            _ => {}
        }
        self.mode = Mode::Input(prompt, text);
        Ok(Effect::Redraw)
    }

    /// Keeps the text of a comment whose input is closed, for when it is opened again.
    pub(super) fn keep_unsaved_comment(&mut self, prompt: PromptKind, text: String) {
        if let PromptKind::Comment(anchor, _) = prompt
            && !text.trim().is_empty()
            && !self.state.decisions.all_comments().any(|(at, saved)| *at == anchor && saved == text)
        {
            let again = self.key_note(Command::Comment, "continues it");
            self.message = Some(format!("the comment is not saved{again}"));
            self.unsaved_comment = Some((anchor, text));
        }
    }

    /// Inserts pasted text into the open input line. Elsewhere a paste is ignored, so pasted keys never decide anything.
    pub fn insert_paste(&mut self, pasted: &str) {
        match &mut self.mode {
            Mode::Input(_, text) => {
                let line = pasted.split(['\n', '\r']).collect::<Vec<_>>().join(" ");
                text.extend(line.chars().filter(|c| !c.is_control()).take(MAX_INPUT));
            }
            _ => self.message = Some("paste ignored: no input line is open".into()),
        }
    }

    pub(crate) fn submit_input(
        &mut self,
        prompt: PromptKind,
        text: &str,
        host: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        match prompt {
            PromptKind::Search => {
                text.clone_into(&mut self.search);
                if !text.is_empty() {
                    self.find_match(true);
                }
            }
            PromptKind::Comment(anchor, _) => {
                self.save_comment(anchor, text.trim(), host)?;
            }
            PromptKind::Pattern => self.filter_by_pattern(text.trim()),
        }
        Ok(Effect::Redraw)
    }

    /// Shows only the files whose path matches a glob, or contains a text.
    pub(crate) fn filter_by_pattern(&mut self, text: &str) {
        if text.is_empty() {
            return self.set_filter(Filter::All);
        }
        // A word without glob characters matches any part of a path.
        let pattern = if text.contains(['*', '?', '[', '{']) { text.to_owned() } else { format!("*{text}*") };
        match Glob::new(&pattern) {
            Ok(matcher) => self.set_filter(Filter::Glob(text.to_owned(), matcher.compile_matcher())),
            Err(error) => self.message = Some(format!("{} is not a glob: {}", Escaped::new(text), error.kind())),
        }
    }

    /// Shows only the files that would conflict with the working tree if everything were applied.
    pub(crate) fn show_conflicts(&mut self, host: &mut dyn ReviewHost) {
        if let Some(conflicts) = &self.conflicts {
            return self.set_filter(Filter::Conflict(conflicts.keys().copied().collect()));
        }
        match host.preview_apply(&with_all_accepted(self.model, &self.state.decisions)) {
            Ok(preview) => {
                let paths: BTreeSet<_> = preview.lines.iter().filter(|l| l.is_conflict).map(|l| &l.path).collect();
                let files = self.model.files.iter().enumerate();
                let files = files.filter(|(_, f)| paths.contains(&f.change.path)).map(|(at, _)| at).collect();
                self.set_filter(Filter::Conflict(files));
            }
            Err(error) => self.message = Some(error),
        }
    }

    /// Changes the filter, and goes to the first unit that is a reason why its file is shown.
    pub(crate) fn set_filter(&mut self, filter: Filter) {
        let previous_filter = std::mem::replace(&mut self.filter, filter);
        self.select_files();
        if self.files.is_empty() {
            self.filter = previous_filter;
            self.select_files();
            if self.files.is_empty() {
                self.filter = Filter::All;
                self.select_files();
            }
            self.message = Some("no file matches: the filter is unchanged".into());
        }
        if matches!(self.filter, Filter::Commented | Filter::New | Filter::Conflict(_)) {
            let is_reason = |file: usize, unit: &Unit| match &self.filter {
                Filter::Conflict(_) => self.unit_conflict(file, unit).is_some(),
                filter => self.is_unit_selected(filter, unit),
            };
            let unit_of = |file: &usize| {
                let mut units = self.model.files[*file].units.iter();
                Some((*file, units.position(|unit| is_reason(*file, unit))?))
            };
            if let Some((file, unit)) = self.files.iter().find_map(unit_of) {
                return self.move_cursor(Cursor { file, unit, row: 0 });
            }
        }
        self.open_current_file();
    }
}
