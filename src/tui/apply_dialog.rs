//! The apply dialog: the preview of a file, the preview of an apply, and its confirmation.

use std::io;

use crossterm::event::{KeyCode, KeyEvent};

use super::app::{App, Mode};
use super::keys::Effect;
use crate::core::escape::Escaped;
use crate::review::{ConflictHandling, FileText, Preview, PreviewLine, ReviewHost, ReviewOutcome, resulting};

impl App<'_> {
    pub(crate) fn preview(&mut self) -> io::Result<Effect> {
        let Some(file) = self.file() else { return Ok(Effect::On) };
        let empty = FileText::default();
        let text = self.opened.as_ref().map_or(&empty, |o| &o.text);
        let picks = self.state.decisions.selection(&file.units);
        match resulting(self.sheet, file.change, &picks, text) {
            Ok(Some((_, content))) => {
                let title = format!("{} with what is accepted", self.path(self.at.file));
                self.mode = Mode::Preview { title, content, scroll: 0 };
            }
            Ok(None) => self.message = Some("nothing that could be shown is accepted of this file".into()),
            Err(error) => self.message = Some(Escaped::new(&error.to_string()).to_string()),
        }
        Ok(Effect::On)
    }

    pub(crate) fn plan(&mut self, around: &mut dyn ReviewHost) {
        if self.counts.total().accepted == 0 {
            self.message = Some("nothing is accepted yet: y accepts what the cursor is on".into());
            return;
        }
        match around.preview_apply(&self.state.decisions) {
            Ok(preview) => self.mode = Mode::Apply { preview, scroll: 0, typed: None },
            Err(why) => self.message = Some(why),
        }
    }

    pub(crate) fn on_apply(
        &mut self,
        preview: Preview,
        scroll: usize,
        typed: Option<(String, ConflictHandling)>,
        key: KeyEvent,
    ) -> io::Result<Effect> {
        let conflicts = preview.conflicts();
        let page = usize::from(self.hits.rows.height).max(1);
        let mut next = (scroll, typed);
        if let (_, Some((word, conflicts))) = &mut next {
            match key.code {
                KeyCode::Enter if word == "apply" => return Ok(Effect::End(ReviewOutcome::Apply(Some(*conflicts)))),
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
                    return Ok(Effect::On);
                }
                KeyCode::Char('y') | KeyCode::Enter if conflicts > 0 => {
                    let text = "nothing is written while there is a conflict: s passes over them, m puts both sides between markers";
                    self.message = Some(text.into());
                }
                KeyCode::Char('s' | 'm') if conflicts == 0 => {}
                KeyCode::Char('y' | 's' | 'm') | KeyCode::Enter => {
                    let with = match key.code {
                        KeyCode::Char('s') => ConflictHandling::Skip,
                        KeyCode::Char('m') => ConflictHandling::Markers,
                        _ => ConflictHandling::Abort,
                    };
                    if !self.writes_risk(&preview, with) {
                        return Ok(Effect::End(ReviewOutcome::Apply(Some(with))));
                    }
                    next.1 = Some((String::new(), with));
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
        self.mode = Mode::Apply { preview, scroll: scroll.min(self.last_row.get()), typed };
        Ok(Effect::On)
    }

    /// Returns whether an apply would write a risky file.
    fn writes_risk(&self, preview: &Preview, with: ConflictHandling) -> bool {
        let is_written = |line: &PreviewLine| match line.is_conflict {
            true => with == ConflictHandling::Markers,
            false => line.outcome != "unchanged",
        };
        self.sheet.files.iter().enumerate().any(|(at, f)| {
            let line = preview.lines.iter().find(|line| line.path == f.change.path);
            f.is_risky() && !f.is_refused() && self.counts.file(at).accepted > 0 && line.is_none_or(is_written)
        })
    }
}
