//! Input lines for a search, a filter or a comment, and pasted text.

use std::collections::BTreeSet;
use std::io;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use globset::Glob;

use super::app::{App, Filter, Mode, PromptKind};
use super::keys::Effect;
use crate::core::escape::Escaped;
use crate::review::{Action, Decision, Decisions, ReviewHost, UnitDecision};

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
            KeyCode::Esc => return Ok(Effect::Redraw),
            KeyCode::Enter => return self.submit_input(prompt, &text, host),
            KeyCode::Backspace => drop(text.pop()),
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
                let has_comment = self.state.decisions.all_comments().any(|(at, _)| *at == anchor);
                self.run_action(Action::Comment(anchor, Some(text.trim().to_owned())), host)?;
                if has_comment && text.trim().is_empty() {
                    self.message = Some("comment removed".into());
                }
                self.update_layout();
                self.clamp_cursor();
            }
            PromptKind::Filter => self.set_filter(text.trim(), host),
        }
        Ok(Effect::Redraw)
    }

    pub(crate) fn set_filter(&mut self, text: &str, host: &mut dyn ReviewHost) {
        let previous_filter = self.filter.clone();
        self.filter = match text {
            "" | "all" => Filter::All,
            "u" | "undecided" => Filter::Undecided,
            "r" | "risky" => Filter::Risky,
            "c" | "commented" => Filter::Commented,
            "n" | "new" if self.round_diff.is_none() => {
                self.message = Some("this is the first round: everything is new".into());
                return;
            }
            "n" | "new" => Filter::New,
            "x" | "conflict" => match host.preview_apply(&self.with_all_accepted()) {
                Ok(preview) => {
                    let paths: BTreeSet<_> = preview.lines.iter().filter(|l| l.is_conflict).map(|l| &l.path).collect();
                    let files = self.model.files.iter().enumerate();
                    Filter::Conflict(files.filter(|(_, f)| paths.contains(&f.change.path)).map(|(at, _)| at).collect())
                }
                Err(error) => {
                    self.message = Some(error);
                    return;
                }
            },
            glob => {
                // A word without glob characters matches any part of a path.
                let pattern = if glob.contains(['*', '?', '[', '{']) { glob.to_owned() } else { format!("*{glob}*") };
                match Glob::new(&pattern) {
                    Ok(matcher) => Filter::Glob(glob.to_owned(), matcher.compile_matcher()),
                    Err(error) => {
                        self.message = Some(format!("{} is not a glob: {}", Escaped::new(glob), error.kind()));
                        return;
                    }
                }
            }
        };
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
        self.open_current_file();
    }

    /// Returns the decisions with every unit accepted, except in refused files. Edits are kept.
    pub(crate) fn with_all_accepted(&self) -> Decisions {
        let mut decisions = self.state.decisions.clone();
        for file in self.model.files.iter().filter(|f| !f.is_refused()) {
            for unit in &file.units {
                if !matches!(decisions.get(&unit.id), Some(UnitDecision::Edited(_))) {
                    decisions.set_decision(&unit.id, Some(UnitDecision::All(Decision::Accepted)));
                }
            }
        }
        decisions
    }
}
