//! The keys of the full screen and their actions.

use std::io;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::app::{App, ConfirmAction, Cursor, Granularity, Mode, PromptKind};
use crate::review::{Action, Decision, ReviewHost, ReviewOutcome};

/// The effect of a key or mouse event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A redraw.
    Redraw,
    Exit(ReviewOutcome),
    /// A return to the shell until the review is resumed.
    Suspend,
    /// A redraw of every cell: another program may have drawn on the terminal.
    RedrawAll,
}

/// Columns per step of sideways scrolling.
pub(crate) const H_SCROLL_STEP: usize = 8;

impl App<'_> {
    /// Handles a key.
    ///
    /// # Errors
    /// The events could not be saved.
    pub fn handle_key(&mut self, key: KeyEvent, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('z') if control => return Ok(Effect::Suspend),
            KeyCode::Char('l') if control => return Ok(Effect::RedrawAll),
            // Decisions are already saved.
            KeyCode::Char('c') if control => return Ok(Effect::Exit(ReviewOutcome::Quit)),
            _ => {}
        }
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Browse => self.handle_browse_key(key, host),
            Mode::Input(prompt, text) => self.handle_input_key(prompt, text, key, host),
            Mode::Confirm(question, pending) => match key.code {
                KeyCode::Char('y' | 'Y') => self.run_confirmed_action(pending, host),
                KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => Ok(Effect::Redraw),
                _ => {
                    self.mode = Mode::Confirm(question, pending);
                    Ok(Effect::Redraw)
                }
            },
            Mode::Help(mut typed, mut scroll) => {
                let page = usize::from(self.hit_areas.rows.height).max(1);
                match key.code {
                    KeyCode::Down => scroll += 1,
                    KeyCode::Up => scroll = scroll.saturating_sub(1),
                    KeyCode::PageDown => scroll += page,
                    KeyCode::PageUp => scroll = scroll.saturating_sub(page),
                    KeyCode::Esc | KeyCode::Enter => return Ok(Effect::Redraw),
                    KeyCode::Char('?' | 'q') if typed.is_empty() => return Ok(Effect::Redraw),
                    KeyCode::Backspace => drop(typed.pop()),
                    KeyCode::Char(c) if !control && typed.len() < 40 => typed.push(c),
                    _ => {}
                }
                self.mode = Mode::Help(typed, scroll.min(self.max_scroll.get()));
                Ok(Effect::Redraw)
            }
            Mode::Preview { title, content, scroll } => {
                if let KeyCode::Esc | KeyCode::Char('q' | 'p') | KeyCode::Enter = key.code {
                    return Ok(Effect::Redraw);
                }
                let scroll = self.scroll_text(scroll, &content, key.code);
                self.mode = Mode::Preview { title, content, scroll };
                Ok(Effect::Redraw)
            }
            Mode::Apply { preview, scroll, typed } => self.handle_apply_key(preview, scroll, typed, key),
            Mode::Send { feedback, scroll } => self.handle_feedback_key(feedback, scroll, key, host),
        }
    }

    fn handle_browse_key(&mut self, key: KeyEvent, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        self.message = None;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let shift = key.modifiers.contains(KeyModifiers::SHIFT);
        let page = usize::from(self.hit_areas.rows.height).max(1);
        match key.code {
            KeyCode::Char('r') if control => return self.undo_or_redo(Action::Redo, host),
            KeyCode::Char('n') if control => self.find_match(true),
            KeyCode::Char('p') if control => self.find_match(false),
            KeyCode::Char(_) if control => {}
            KeyCode::Left if shift => self.h_scroll = self.h_scroll.saturating_sub(H_SCROLL_STEP),
            KeyCode::Right if shift => self.scroll_right(),
            KeyCode::Char('<') => self.h_scroll = self.h_scroll.saturating_sub(H_SCROLL_STEP),
            KeyCode::Char('>') => self.scroll_right(),
            KeyCode::Left | KeyCode::Char('h') => self.set_granularity(match self.granularity {
                Granularity::Line => Granularity::Hunk,
                _ => Granularity::File,
            }),
            KeyCode::Right | KeyCode::Char('l') | KeyCode::Enter => self.set_granularity(match self.granularity {
                Granularity::File => Granularity::Hunk,
                _ => Granularity::Line,
            }),
            KeyCode::Down | KeyCode::Char('j') => self.step_cursor(true),
            KeyCode::Up | KeyCode::Char('k') => self.step_cursor(false),
            KeyCode::Char(']') => self.move_hunk(true),
            KeyCode::Char('[') => self.move_hunk(false),
            KeyCode::Char('}') => self.move_file(1),
            KeyCode::Char('{') => self.move_file(-1),
            KeyCode::PageDown if self.granularity == Granularity::File => {
                self.move_file(isize::try_from(page).unwrap_or(1))
            }
            KeyCode::PageUp if self.granularity == Granularity::File => {
                self.move_file(-isize::try_from(page).unwrap_or(1))
            }
            KeyCode::Home | KeyCode::Char('g') if self.granularity == Granularity::File => self.move_file(isize::MIN),
            KeyCode::End | KeyCode::Char('G') if self.granularity == Granularity::File => self.move_file(isize::MAX),
            KeyCode::PageDown => self.scroll_page(page, true),
            KeyCode::PageUp => self.scroll_page(page, false),
            KeyCode::Home | KeyCode::Char('g') => self.move_cursor(Cursor { unit: 0, row: 0, ..self.cursor }),
            KeyCode::End | KeyCode::Char('G') => self.move_to_end(),
            KeyCode::Char('y') => return self.decide_targets(Some(Decision::Accepted), true, host),
            KeyCode::Char('n') => return self.decide_targets(Some(Decision::Rejected), true, host),
            KeyCode::Char(' ') => return self.decide_targets(self.toggled_decision(), false, host),
            KeyCode::Char('v') => self.toggle_range(),
            KeyCode::Char('a') => return self.decide_rest_of_file(Decision::Accepted, host),
            KeyCode::Char('d') => return self.decide_rest_of_file(Decision::Rejected, host),
            KeyCode::Char('A') => self.ask_to_decide_rest(Decision::Accepted),
            KeyCode::Char('D') => self.ask_to_decide_rest(Decision::Rejected),
            KeyCode::Char('s') => return self.split_or_join_hunk(host),
            KeyCode::Char('e') => return self.edit_hunk(host),
            KeyCode::Char('E') => return self.view_file(host),
            KeyCode::Char('c') => self.open_comment_prompt(),
            KeyCode::Char('R') => self.open_feedback_dialog(),
            KeyCode::Char('u') => return self.undo_or_redo(Action::Undo, host),
            KeyCode::Char('/') => self.mode = Mode::Input(PromptKind::Search, String::new()),
            KeyCode::Char('f') => self.mode = Mode::Input(PromptKind::Filter, String::new()),
            KeyCode::Char('o') => self.cycle_order(),
            KeyCode::Char('z') => self.toggle_fold(),
            KeyCode::Char('b') => self.toggle_blanks(),
            KeyCode::Char('|') => self.toggle_side_by_side(),
            KeyCode::Char('W') => self.toggle_wrapping(),
            KeyCode::Char('m') => self.toggle_moved(),
            KeyCode::Char('+' | '=') => self.set_context((self.display.context * 2).clamp(1, 1 << 20)),
            KeyCode::Char('-') => self.set_context(self.display.context / 2),
            KeyCode::Char('p') => return self.open_file_preview(),
            KeyCode::Char('w') => self.open_apply_preview(host),
            KeyCode::Char('q') => return Ok(Effect::Exit(ReviewOutcome::Quit)),
            KeyCode::Char('Q') => {
                let question = "Discard all decisions and comments on these changes?".to_owned();
                self.mode = Mode::Confirm(question, ConfirmAction::Discard);
            }
            KeyCode::Char('?') => self.mode = Mode::Help(String::new(), 0),
            KeyCode::Esc => {
                self.anchor = None;
                self.search.clear();
            }
            _ => {}
        }
        Ok(Effect::Redraw)
    }
}
