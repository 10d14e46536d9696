//! The apply dialog: the preview of a file, the preview of an apply, and its confirmation.

use std::io;

use crossterm::event::{KeyCode, KeyEvent};

use super::app::{App, Mode};
use super::keymap::Command;
use super::keys::{Effect, PREVIEW_MARGIN};
use super::style::Symbol;
use crate::core::escape::Escaped;
use crate::core::on_conflict::OnConflict;
use crate::review::{FileText, Preview, PreviewLine, ReviewHost, ReviewOutcome, find_new_lines, resulting_file};

impl App<'_> {
    pub(crate) fn open_file_preview(&mut self) -> io::Result<Effect> {
        let Some(file) = self.current_file() else { return Ok(Effect::Redraw) };
        let empty = FileText::default();
        let text = self.layout.as_ref().map_or(&empty, |o| &o.text);
        let selection = self.state.decisions.accepted_selection(&file.units);
        match resulting_file(self.model, file.change, &selection, text) {
            Ok(Some((_, content))) => {
                let new_lines = find_new_lines(text.old.as_bytes(), &content);
                let minus = self.styles.symbol_text(Symbol::Minus);
                let counts = format!("+{} {minus}{}", new_lines.added.len(), new_lines.removed);
                let title = format!("{} with accepted changes, {counts}", self.escaped_path(self.cursor.file));
                let scroll = new_lines.added.first().map_or(0, |line| line.saturating_sub(PREVIEW_MARGIN));
                self.mode = Mode::Preview { title, content, new_lines, scroll };
            }
            Ok(None) => self.message = Some("this file has no accepted changes to show".into()),
            Err(error) => self.message = Some(Escaped::new(&error.to_string()).to_string()),
        }
        Ok(Effect::Redraw)
    }

    pub(crate) fn open_apply_preview(&mut self, host: &mut dyn ReviewHost) {
        if self.counts.total_counts().accepted == 0 {
            let accept = self.key_note(Command::Accept, "accepts at the cursor");
            self.message = Some(format!("nothing is accepted yet{accept}"));
            return;
        }
        match host.preview_apply(&self.state.decisions) {
            Ok(preview) => self.mode = Mode::Apply { preview, scroll: 0, typed: None },
            Err(error) => self.message = Some(error),
        }
    }

    pub(crate) fn handle_apply_key(
        &mut self,
        preview: Preview,
        scroll: usize,
        typed: Option<(String, OnConflict)>,
        key: KeyEvent,
    ) -> io::Result<Effect> {
        let conflicts = preview.conflict_count();
        let page = usize::from(self.hit_areas.rows.height).max(1);
        let mut next = (scroll, typed);
        if let (_, Some((word, conflicts))) = &mut next {
            match key.code {
                KeyCode::Enter if word == "apply" => return Ok(Effect::Exit(ReviewOutcome::Apply(Some(*conflicts)))),
                KeyCode::Enter => self.message = Some("type the word apply, or Esc to go back".into()),
                KeyCode::Esc => {
                    self.message = None;
                    next.1 = None;
                }
                KeyCode::Backspace => drop(word.pop()),
                KeyCode::Char(c) if word.len() < 20 => word.push(c),
                _ => {}
            }
        } else {
            match key.code {
                KeyCode::Esc | KeyCode::Char('q' | 'n') => {
                    self.message = None;
                    return Ok(Effect::Redraw);
                }
                KeyCode::Char('y') | KeyCode::Enter if conflicts > 0 => {
                    let git = if preview.has_git_merge() { ", M writes git's merge" } else { "" };
                    let text = format!("conflicts prevent the apply: s skips them, m writes conflict markers{git}");
                    self.message = Some(text);
                }
                KeyCode::Char('s' | 'm') if conflicts == 0 => {}
                KeyCode::Char('M') if !preview.has_git_merge() => {}
                KeyCode::Char('y' | 's' | 'm' | 'M') | KeyCode::Enter => {
                    let conflict_handling = match key.code {
                        KeyCode::Char('s') => OnConflict::Skip,
                        KeyCode::Char('m') => OnConflict::Markers,
                        KeyCode::Char('M') => OnConflict::GitMerge,
                        _ => OnConflict::Abort,
                    };
                    if !self.has_risky_writes(&preview, conflict_handling) {
                        return Ok(Effect::Exit(ReviewOutcome::Apply(Some(conflict_handling))));
                    }
                    next.1 = Some((String::new(), conflict_handling));
                }
                KeyCode::Down | KeyCode::Char('j') => next.0 += 1,
                KeyCode::Up | KeyCode::Char('k') => next.0 = next.0.saturating_sub(1),
                KeyCode::PageDown | KeyCode::Char(' ') => next.0 += page,
                KeyCode::PageUp => next.0 = next.0.saturating_sub(page),
                KeyCode::Home | KeyCode::Char('g') => next.0 = 0,
                KeyCode::End | KeyCode::Char('G') => next.0 = usize::MAX,
                _ => {}
            }
        }
        let (scroll, typed) = next;
        self.mode = Mode::Apply { preview, scroll: scroll.min(self.max_scroll.get()), typed };
        Ok(Effect::Redraw)
    }

    /// Returns whether an apply would write a risky file.
    fn has_risky_writes(&self, preview: &Preview, conflict_handling: OnConflict) -> bool {
        let is_written = |line: &PreviewLine| match line.is_conflict {
            true => matches!(conflict_handling, OnConflict::Markers | OnConflict::GitMerge),
            false => line.outcome != "unchanged",
        };
        self.model.files.iter().enumerate().any(|(at, f)| {
            let line = preview.lines.iter().find(|line| line.path == f.change.path);
            f.is_risky() && !f.is_refused() && self.counts.file_counts(at).accepted > 0 && line.is_none_or(is_written)
        })
    }
}
