//! The keys of the full screen and their actions.

use std::io;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::app::{App, ConfirmAction, Cursor, Granularity, Mode, PromptKind};
use crate::review::{Action, Decision, ReviewHost, ReviewOutcome};

/// The effect of a key or mouse event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// A redraw.
    On,
    End(ReviewOutcome),
    /// A return to the shell until the review is resumed.
    Suspend,
    /// A redraw of every cell: another program may have drawn on the terminal.
    Clear,
}

/// Columns per step of sideways scrolling.
pub(crate) const SIDESTEP: usize = 8;

impl App<'_> {
    /// Handles a key.
    ///
    /// # Errors
    /// The events could not be saved.
    pub fn key(&mut self, key: KeyEvent, around: &mut dyn ReviewHost) -> io::Result<Effect> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('z') if control => return Ok(Effect::Suspend),
            KeyCode::Char('l') if control => return Ok(Effect::Clear),
            // Decisions are already saved.
            KeyCode::Char('c') if control => return Ok(Effect::End(ReviewOutcome::Left)),
            _ => {}
        }
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Browse => self.browse(key, around),
            Mode::Input(asking, text) => self.input(asking, text, key, around),
            Mode::Confirm(question, pending) => match key.code {
                KeyCode::Char('y' | 'Y') => self.confirmed(pending, around),
                KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => Ok(Effect::On),
                _ => {
                    self.mode = Mode::Confirm(question, pending);
                    Ok(Effect::On)
                }
            },
            Mode::Help(mut typed, mut scroll) => {
                let page = usize::from(self.hits.rows.height).max(1);
                match key.code {
                    KeyCode::Down => scroll += 1,
                    KeyCode::Up => scroll = scroll.saturating_sub(1),
                    KeyCode::PageDown => scroll += page,
                    KeyCode::PageUp => scroll = scroll.saturating_sub(page),
                    KeyCode::Esc | KeyCode::Enter => return Ok(Effect::On),
                    KeyCode::Char('?' | 'q') if typed.is_empty() => return Ok(Effect::On),
                    KeyCode::Backspace => drop(typed.pop()),
                    KeyCode::Char(c) if !control && typed.len() < 40 => typed.push(c),
                    _ => {}
                }
                self.mode = Mode::Help(typed, scroll.min(self.last_row.get()));
                Ok(Effect::On)
            }
            Mode::Preview { title, content, scroll } => {
                if let KeyCode::Esc | KeyCode::Char('q' | 'p') | KeyCode::Enter = key.code {
                    return Ok(Effect::On);
                }
                let scroll = self.scrolled(scroll, &content, key.code);
                self.mode = Mode::Preview { title, content, scroll };
                Ok(Effect::On)
            }
            Mode::Apply { preview, scroll, typed } => self.on_apply(preview, scroll, typed, key),
            Mode::Send { feedback, scroll } => self.on_send(feedback, scroll, key, around),
        }
    }

    fn browse(&mut self, key: KeyEvent, around: &mut dyn ReviewHost) -> io::Result<Effect> {
        self.message = None;
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let shift = key.modifiers.contains(KeyModifiers::SHIFT);
        let page = usize::from(self.hits.rows.height).max(1);
        match key.code {
            KeyCode::Char('r') if control => return self.travel(Action::Redo, around),
            KeyCode::Char('n') if control => self.find(true),
            KeyCode::Char('p') if control => self.find(false),
            KeyCode::Char(_) if control => {}
            KeyCode::Left if shift => self.sideways = self.sideways.saturating_sub(SIDESTEP),
            KeyCode::Right if shift => self.step_aside(),
            KeyCode::Char('<') => self.sideways = self.sideways.saturating_sub(SIDESTEP),
            KeyCode::Char('>') => self.step_aside(),
            KeyCode::Left | KeyCode::Char('h') => self.set_level(match self.level {
                Granularity::Line => Granularity::Block,
                _ => Granularity::File,
            }),
            KeyCode::Right | KeyCode::Char('l') | KeyCode::Enter => self.set_level(match self.level {
                Granularity::File => Granularity::Block,
                _ => Granularity::Line,
            }),
            KeyCode::Down | KeyCode::Char('j') => self.step(true),
            KeyCode::Up | KeyCode::Char('k') => self.step(false),
            KeyCode::Char(']') => self.move_hunk(true),
            KeyCode::Char('[') => self.move_hunk(false),
            KeyCode::Char('}') => self.move_file(1),
            KeyCode::Char('{') => self.move_file(-1),
            KeyCode::PageDown if self.level == Granularity::File => self.move_file(isize::try_from(page).unwrap_or(1)),
            KeyCode::PageUp if self.level == Granularity::File => self.move_file(-isize::try_from(page).unwrap_or(1)),
            KeyCode::Home | KeyCode::Char('g') if self.level == Granularity::File => self.move_file(isize::MIN),
            KeyCode::End | KeyCode::Char('G') if self.level == Granularity::File => self.move_file(isize::MAX),
            KeyCode::PageDown => self.page(page, true),
            KeyCode::PageUp => self.page(page, false),
            KeyCode::Home | KeyCode::Char('g') => self.go(Cursor { unit: 0, row: 0, ..self.at }),
            KeyCode::End | KeyCode::Char('G') => self.go_last(),
            KeyCode::Char('y') => return self.decide(Some(Decision::Accepted), true, around),
            KeyCode::Char('n') => return self.decide(Some(Decision::Rejected), true, around),
            KeyCode::Char(' ') => return self.decide(self.toggled(), false, around),
            KeyCode::Char('v') => self.begin_range(),
            KeyCode::Char('a') => return self.rest_of_file(Decision::Accepted, around),
            KeyCode::Char('d') => return self.rest_of_file(Decision::Rejected, around),
            KeyCode::Char('A') => self.ask_for_rest(Decision::Accepted),
            KeyCode::Char('D') => self.ask_for_rest(Decision::Rejected),
            KeyCode::Char('s') => return self.split(around),
            KeyCode::Char('e') => return self.edit(around),
            KeyCode::Char('E') => return self.view(around),
            KeyCode::Char('c') => self.begin_comment(),
            KeyCode::Char('R') => self.ask_to_send(),
            KeyCode::Char('u') => return self.travel(Action::Undo, around),
            KeyCode::Char('/') => self.mode = Mode::Input(PromptKind::Search, String::new()),
            KeyCode::Char('f') => self.mode = Mode::Input(PromptKind::Filter, String::new()),
            KeyCode::Char('o') => self.next_order(),
            KeyCode::Char('z') => self.fold(),
            KeyCode::Char('b') => self.hide_blanks(),
            KeyCode::Char('|') => self.put_beside(),
            KeyCode::Char('W') => self.wrap_lines(),
            KeyCode::Char('m') => self.toggle_moved(),
            KeyCode::Char('+' | '=') => self.set_context((self.display.context * 2).clamp(1, 1 << 20)),
            KeyCode::Char('-') => self.set_context(self.display.context / 2),
            KeyCode::Char('p') => return self.preview(),
            KeyCode::Char('w') => self.plan(around),
            KeyCode::Char('q') => return Ok(Effect::End(ReviewOutcome::Left)),
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
        Ok(Effect::On)
    }
}
