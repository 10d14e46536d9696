//! The keys of the full screen and their actions.

use std::io;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::app::{App, ConfirmAction, Cursor, Granularity, Mode, PromptKind};
use super::dialogs::Menu;
use super::keymap::{Command, key_name};
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
    /// Returns whether a key can accept something, in the review or in a dialog. Held down, it must not answer a dialog that it
    /// opened.
    #[must_use]
    pub fn is_accepting_key(&self, key: KeyEvent) -> bool {
        matches!(key.code, KeyCode::Char('y' | 'Y') | KeyCode::Enter)
            || self.keymap.command_of(key).is_some_and(Command::is_accepting)
    }

    /// Handles a key.
    ///
    /// # Errors
    /// The events could not be saved.
    pub fn handle_key(&mut self, key: KeyEvent, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('z') if control => return Ok(Effect::Suspend),
            KeyCode::Char('l') if control => return Ok(Effect::RedrawAll),
            // Decisions are already saved. In a dialog, the same key only closes it.
            KeyCode::Char('c') if control && matches!(self.mode, Mode::Browse) => {
                return Ok(Effect::Exit(ReviewOutcome::Quit));
            }
            KeyCode::Char('c') if control => {
                if let Mode::Input(prompt, text) = std::mem::replace(&mut self.mode, Mode::Browse) {
                    self.keep_unsaved_comment(prompt, text);
                }
                return Ok(Effect::Redraw);
            }
            _ => {}
        }
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Browse => self.handle_browse_key(key, host),
            Mode::Input(prompt, text) => self.handle_input_key(prompt, text, key, host),
            Mode::Confirm(question, pending) => self.handle_confirm_key(question, pending, key, host),
            Mode::Menu { menu, selected } => self.handle_menu_key(menu, selected, key, host),
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
            Mode::Preview { title, content, new_lines, scroll } => {
                let scroll = match key.code {
                    KeyCode::Esc | KeyCode::Char('q' | 'p') | KeyCode::Enter => return Ok(Effect::Redraw),
                    KeyCode::Char(']') => scroll_to_new(scroll, &new_lines.added, true),
                    KeyCode::Char('[') => scroll_to_new(scroll, &new_lines.added, false),
                    code => self.scroll_text(scroll, &content, code),
                };
                self.mode = Mode::Preview { title, content, new_lines, scroll };
                Ok(Effect::Redraw)
            }
            Mode::Commits(scroll) => {
                let scroll = match key.code {
                    KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | 'L') => return Ok(Effect::Redraw),
                    KeyCode::Down | KeyCode::Char('j') => scroll + 1,
                    KeyCode::Up | KeyCode::Char('k') => scroll.saturating_sub(1),
                    KeyCode::PageDown | KeyCode::Char(' ') => scroll + usize::from(self.hit_areas.rows.height),
                    KeyCode::PageUp => scroll.saturating_sub(self.hit_areas.rows.height.into()),
                    _ => scroll,
                };
                self.mode = Mode::Commits(scroll.min(self.max_scroll.get()));
                Ok(Effect::Redraw)
            }
            Mode::Comments(selected) => self.handle_comments_key(selected, key),
            Mode::Apply(view) => self.handle_apply_key(view, key),
            Mode::Resolve(view) => self.handle_resolve_key(view, key, host),
            Mode::Send { feedback, scroll } => self.handle_feedback_key(feedback, scroll, key, host),
        }
    }

    fn handle_confirm_key(
        &mut self,
        question: String,
        pending: ConfirmAction,
        key: KeyEvent,
        host: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        self.message = None;
        match key.code {
            KeyCode::Char('y' | 'Y') => return self.run_confirmed_action(pending, host),
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {}
            _ => self.mode = Mode::Confirm(question, pending),
        }
        Ok(Effect::Redraw)
    }

    fn handle_browse_key(&mut self, key: KeyEvent, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        self.message = None;
        let Some(command) = self.keymap.command_of(key) else {
            if key.code == KeyCode::Esc {
                // One step back: the range or the search, then the single lines.
                if self.anchor.take().is_none() && self.search.is_empty() && self.granularity == Granularity::Line {
                    self.set_granularity(Granularity::Hunk);
                }
                self.search.clear();
            } else {
                self.note_unknown_key(key);
            }
            return Ok(Effect::Redraw);
        };
        self.run_command(command, host)
    }

    /// Shows once that a key has no effect.
    fn note_unknown_key(&mut self, key: KeyEvent) {
        let name = key_name(key, self.styles.unicode);
        if self.noted_keys.insert(name.clone()) {
            let help = self.key_note(Command::Help, "lists the keys");
            self.message = Some(format!("{name} has no effect here{help}"));
        }
    }

    /// Runs a command of the review.
    pub(super) fn run_command(&mut self, command: Command, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        let page = usize::from(self.hit_areas.rows.height).max(1);
        let page_of_files = isize::try_from(page).unwrap_or(1);
        let is_at_file = self.granularity == Granularity::File;
        if self.run_folder_command(command) {
            return Ok(Effect::Redraw);
        }
        if !matches!(command, Command::NextMatch | Command::PreviousMatch) {
            self.last_match = None;
        }
        match command {
            Command::Accept => return self.decide_targets(Some(Decision::Accepted), true, host),
            Command::Reject => return self.decide_targets(Some(Decision::Rejected), true, host),
            Command::Toggle => return self.decide_targets(self.toggled_decision(), false, host),
            Command::SelectRange => self.toggle_range(),
            Command::AcceptFile => return self.decide_rest_of_file(Decision::Accepted, host),
            Command::RejectFile => return self.decide_rest_of_file(Decision::Rejected, host),
            Command::AcceptAll => self.ask_to_decide_rest(Decision::Accepted),
            Command::RejectAll => self.ask_to_decide_rest(Decision::Rejected),
            Command::Undo => return self.undo_or_redo(Action::Undo, host),
            Command::Redo => return self.undo_or_redo(Action::Redo, host),
            Command::Split => return self.split_or_join_hunk(host),
            Command::Edit => return self.edit_hunk(host),
            Command::View => return self.view_file(host),
            Command::Comment => return self.open_comment_prompt(host),
            Command::Comments => self.open_comments(),
            Command::Commits if self.commits.is_empty() => self.message = Some("the agent made no commits".into()),
            Command::Commits => self.mode = Mode::Commits(0),
            Command::Send => self.open_feedback_dialog(),
            Command::Outward if is_at_file => self.move_to_parent_folder(),
            Command::Outward => self.set_granularity(match self.granularity {
                Granularity::Line => Granularity::Hunk,
                _ => Granularity::File,
            }),
            Command::Inward => self.set_granularity(match self.granularity {
                Granularity::File => Granularity::Hunk,
                _ => Granularity::Line,
            }),
            Command::Down => self.step_cursor(true),
            Command::Up => self.step_cursor(false),
            Command::NextHunk => self.move_hunk(true),
            Command::PreviousHunk => self.move_hunk(false),
            Command::NextFile => self.move_file(1),
            Command::PreviousFile => self.move_file(-1),
            Command::PageDown if is_at_file => self.move_list_row(page_of_files),
            Command::PageUp if is_at_file => self.move_list_row(-page_of_files),
            Command::First if is_at_file => self.move_list_row(isize::MIN),
            Command::Last if is_at_file => self.move_list_row(isize::MAX),
            Command::PageDown => self.scroll_page(page, true),
            Command::PageUp => self.scroll_page(page, false),
            Command::First => self.move_cursor(Cursor { unit: 0, row: 0, ..self.cursor }),
            Command::Last => self.move_to_end(),
            Command::ScrollLeft => self.h_scroll = self.h_scroll.saturating_sub(H_SCROLL_STEP),
            Command::ScrollRight => self.scroll_right(),
            Command::Search => self.mode = Mode::Input(PromptKind::Search, String::new()),
            Command::NextMatch => self.find_match(true),
            Command::PreviousMatch => self.find_match(false),
            Command::Filter => self.open_menu(Menu::Filter),
            Command::Order => self.open_menu(Menu::Order),
            Command::ViewMenu => self.open_menu(Menu::View),
            Command::Tree => self.toggle_tree(),
            Command::Fold => self.toggle_fold(),
            Command::HideBlanks => self.toggle_blanks(),
            Command::SideBySide => self.toggle_side_by_side(),
            Command::Wrap => self.toggle_wrapping(),
            Command::DimMoved => self.toggle_moved(),
            Command::MoreContext => self.set_context((self.display.context * 2).clamp(1, 1 << 20)),
            Command::LessContext => self.set_context(self.display.context / 2),
            Command::Preview => return self.open_file_preview(host),
            Command::Resolve => self.open_resolve_view(),
            Command::Apply => self.open_apply_preview(host),
            Command::Quit => return Ok(Effect::Exit(ReviewOutcome::Quit)),
            Command::Discard => {
                let question = "Discard all decisions and comments on these changes?".to_owned();
                self.mode = Mode::Confirm(question, ConfirmAction::Discard);
            }
            Command::Help => self.mode = Mode::Help(String::new(), 0),
        }
        Ok(Effect::Redraw)
    }
}

/// Lines shown above the new line that a file preview is scrolled to.
pub(super) const PREVIEW_MARGIN: usize = 3;

/// Returns the scroll position of a file preview at the next or previous run of new lines.
fn scroll_to_new(scroll: usize, added: &[usize], forward: bool) -> usize {
    let starts = added.iter().enumerate().filter(|(at, line)| *at == 0 || added[at - 1] + 1 != **line);
    let mut positions = starts.map(|(_, line)| line.saturating_sub(PREVIEW_MARGIN));
    let found = if forward { positions.find(|to| *to > scroll) } else { positions.rfind(|to| *to < scroll) };
    found.unwrap_or(scroll)
}
