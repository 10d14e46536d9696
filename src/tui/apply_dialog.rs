//! The apply dialog: the preview of a file, the preview of an apply, and its confirmation.

use std::io;

use crossterm::event::{KeyCode, KeyEvent};

use super::app::{App, Mode};
use super::dialogs::{ApplyRequest, ApplyStep, ApplyView};
use super::keymap::Command;
use super::keys::{Effect, PREVIEW_MARGIN};
use super::style::Symbol;
use crate::core::escape::Escaped;
use crate::core::on_conflict::OnConflict;
use crate::review::{FileText, NewLines, Preview, PreviewLine, ReviewHost, find_new_lines, resulting_file};

impl App<'_> {
    /// Shows the file with what is accepted; one in conflict with the working tree, as an apply would leave it.
    pub(crate) fn open_file_preview(&mut self, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        let Some(file) = self.current_file() else { return Ok(Effect::Redraw) };
        if self.file_conflict(self.cursor.file).is_some() {
            return self.open_result_preview(host);
        }
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

    fn open_result_preview(&mut self, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        let Some(file) = self.current_file() else { return Ok(Effect::Redraw) };
        let preview = match host.preview_apply(&self.state.decisions) {
            Ok(preview) => preview,
            Err(error) => {
                self.message = Some(error);
                return Ok(Effect::Redraw);
            }
        };
        let line = preview.lines.into_iter().find(|line| line.path == file.change.path);
        match line.map(|line| (line.is_conflict, line.result)) {
            Some((false, Some(hash))) => {
                let content = self.model.read_text(&hash)?;
                let title = format!("{} as the apply would leave it", self.escaped_path(self.cursor.file));
                let (new_lines, scroll) = (NewLines::default(), 0);
                self.mode = Mode::Preview { title, content, new_lines, scroll };
            }
            Some((true, _)) => {
                let resolve = self.key_note(Command::Resolve, "resolves it");
                self.message = Some(format!("this file is in conflict with your working tree{resolve}"));
            }
            _ => self.message = Some("this file has no accepted changes to show".into()),
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
            Ok(preview) => {
                self.mode = Mode::Apply(ApplyView { preview, scroll: 0, step: ApplyStep::Look, lists_rest: false })
            }
            Err(error) => self.message = Some(error),
        }
    }

    pub(crate) fn handle_apply_key(&mut self, mut view: ApplyView, key: KeyEvent) -> io::Result<Effect> {
        match &mut view.step {
            ApplyStep::Look => return self.handle_apply_command(view, key.code),
            ApplyStep::Confirm(request) => match key.code {
                KeyCode::Char('y' | 'Y') => return Ok(self.finish_apply(view.preview, *request)),
                KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => view.step = ApplyStep::Look,
                _ => {}
            },
            ApplyStep::Type(word, request) => match key.code {
                KeyCode::Enter if word == "apply" => return Ok(Effect::Exit(request.review_outcome())),
                KeyCode::Enter => self.message = Some("type the word apply, or Esc to go back".into()),
                KeyCode::Esc => {
                    self.message = None;
                    view.step = ApplyStep::Look;
                }
                KeyCode::Backspace => drop(word.pop()),
                KeyCode::Char(c) if word.len() < 20 => word.push(c),
                _ => {}
            },
        }
        self.mode = Mode::Apply(view);
        Ok(Effect::Redraw)
    }

    fn handle_apply_command(&mut self, mut view: ApplyView, key: KeyCode) -> io::Result<Effect> {
        let page = usize::from(self.hit_areas.rows.height).max(1);
        let conflicts = view.preview.conflict_count();
        let on_conflict = match key {
            KeyCode::Char('s') => OnConflict::Skip,
            KeyCode::Char('m') => OnConflict::Markers,
            KeyCode::Char('M') => OnConflict::GitMerge,
            _ => OnConflict::Abort,
        };
        match key {
            KeyCode::Esc | KeyCode::Char('q' | 'n') => {
                self.message = None;
                return Ok(Effect::Redraw);
            }
            KeyCode::Char('y' | 'Y') | KeyCode::Enter if conflicts > 0 => {
                let git = if view.preview.has_git_merge() { ", M writes git's merge" } else { "" };
                self.message = Some(format!(
                    "conflicts prevent the apply: r resolves them, s skips them, m writes conflict markers{git}"
                ));
            }
            KeyCode::Char('r' | 's' | 'm') if conflicts == 0 => {}
            KeyCode::Char('M') if !view.preview.has_git_merge() => {}
            KeyCode::Char('r') if self.resolve_apply_conflicts(&view.preview) => return Ok(Effect::Redraw),
            KeyCode::Char('r') => {}
            KeyCode::Char('y' | 'Y' | 's') | KeyCode::Enter => {
                let request = ApplyRequest { on_conflict, stays: key == KeyCode::Char('Y') };
                return Ok(self.finish_apply(view.preview, request));
            }
            KeyCode::Char('m' | 'M') => view.step = ApplyStep::Confirm(ApplyRequest { on_conflict, stays: false }),
            KeyCode::Char('z') => view.lists_rest = !view.lists_rest,
            KeyCode::Down | KeyCode::Char('j') => view.scroll += 1,
            KeyCode::Up | KeyCode::Char('k') => view.scroll = view.scroll.saturating_sub(1),
            KeyCode::PageDown | KeyCode::Char(' ') => view.scroll += page,
            KeyCode::PageUp => view.scroll = view.scroll.saturating_sub(page),
            KeyCode::Home | KeyCode::Char('g') => view.scroll = 0,
            KeyCode::End | KeyCode::Char('G') => view.scroll = usize::MAX,
            _ => {}
        }
        view.scroll = view.scroll.min(self.max_scroll.get());
        self.mode = Mode::Apply(view);
        Ok(Effect::Redraw)
    }

    /// Ends the review with an apply, or asks for the word `apply` if a risky file is written.
    fn finish_apply(&mut self, preview: Preview, request: ApplyRequest) -> Effect {
        if !self.has_risky_writes(&preview, request.on_conflict) {
            return Effect::Exit(request.review_outcome());
        }
        let step = ApplyStep::Type(String::new(), request);
        self.mode = Mode::Apply(ApplyView { preview, scroll: 0, step, lists_rest: false });
        Effect::Redraw
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
