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
const LONGEST_INPUT: usize = 2000;

impl App<'_> {
    pub(crate) fn input(
        &mut self,
        asking: PromptKind,
        mut text: String,
        key: KeyEvent,
        around: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        match key.code {
            KeyCode::Esc => return Ok(Effect::On),
            KeyCode::Enter => return self.entered(asking, &text, around),
            KeyCode::Backspace => drop(text.pop()),
            KeyCode::Char('u') if key.modifiers.contains(KeyModifiers::CONTROL) => text.clear(),
            KeyCode::Char('w') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                let kept = text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                text.truncate(kept);
            }
            KeyCode::Char(c) if !key.modifiers.contains(KeyModifiers::CONTROL) && text.len() < LONGEST_INPUT => {
                text.push(c);
            }
            _ => {}
        }
        self.mode = Mode::Input(asking, text);
        Ok(Effect::On)
    }

    /// Inserts pasted text into the open input line. Elsewhere a paste is ignored, so pasted keys never decide anything.
    pub fn paste(&mut self, pasted: &str) {
        match &mut self.mode {
            Mode::Input(_, text) => {
                let line = pasted.split(['\n', '\r']).collect::<Vec<_>>().join(" ");
                text.extend(line.chars().filter(|c| !c.is_control()).take(LONGEST_INPUT));
            }
            _ => self.message = Some("what was pasted is ignored: nothing here asks for text".into()),
        }
    }

    pub(crate) fn entered(
        &mut self,
        asking: PromptKind,
        text: &str,
        around: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        match asking {
            PromptKind::Search => {
                text.clone_into(&mut self.search);
                if !text.is_empty() {
                    self.find(true);
                }
            }
            PromptKind::Comment(anchor, _) => {
                let before = self.state.decisions.comments().any(|(at, _)| *at == anchor);
                self.act(Action::Comment(anchor, Some(text.trim().to_owned())), around)?;
                if before && text.trim().is_empty() {
                    self.message = Some("the comment is removed".into());
                }
                self.lay_out();
                self.hold_cursor();
            }
            PromptKind::Filter => self.set_filter(text.trim(), around),
        }
        Ok(Effect::On)
    }

    pub(crate) fn set_filter(&mut self, text: &str, around: &mut dyn ReviewHost) {
        let before = self.filter.clone();
        let mut conflicts = BTreeSet::new();
        self.filter = match text {
            "" | "all" => Filter::All,
            "u" | "undecided" => Filter::Undecided,
            "r" | "risky" => Filter::Risky,
            "c" | "commented" => Filter::Commented,
            "n" | "new" if self.since.is_none() => {
                self.message = Some("this is the first round: all of it is new".into());
                return;
            }
            "n" | "new" => Filter::New,
            "x" | "conflict" => match around.preview_apply(&self.with_everything()) {
                Ok(preview) => {
                    let paths: BTreeSet<_> = preview.lines.iter().filter(|l| l.is_conflict).map(|l| &l.path).collect();
                    let files = self.sheet.files.iter().enumerate();
                    conflicts = files.filter(|(_, f)| paths.contains(&f.change.path)).map(|(at, _)| at).collect();
                    Filter::Conflict
                }
                Err(why) => {
                    self.message = Some(why);
                    return;
                }
            },
            glob => {
                // A word without glob characters matches any part of a path.
                let pattern = if glob.contains(['*', '?', '[', '{']) { glob.to_owned() } else { format!("*{glob}*") };
                match Glob::new(&pattern) {
                    Ok(matcher) => Filter::Glob(glob.to_owned(), matcher.compile_matcher()),
                    Err(error) => {
                        self.message = Some(format!("{} is no glob: {}", Escaped::new(glob), error.kind()));
                        return;
                    }
                }
            }
        };
        self.choose(&conflicts);
        if self.files.is_empty() {
            self.filter = before;
            self.choose(&conflicts);
            if self.files.is_empty() {
                self.filter = Filter::All;
                self.choose(&conflicts);
            }
            self.message = Some("no file is like that: the filter stays as it was".into());
        }
        self.open();
    }

    /// Returns the decisions with every unit accepted, except in refused files. Edits are kept.
    pub(crate) fn with_everything(&self) -> Decisions {
        let mut all = self.state.decisions.clone();
        for file in self.sheet.files.iter().filter(|f| !f.is_refused()) {
            for unit in &file.units {
                if !matches!(all.get(&unit.id), Some(UnitDecision::Edited(_))) {
                    all.set(&unit.id, Some(UnitDecision::All(Decision::Accepted)));
                }
            }
        }
        all
    }
}
