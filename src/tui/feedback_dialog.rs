//! The feedback dialog: shows the message to the agent before it is sent.

use std::io;

use crossterm::event::{KeyCode, KeyEvent};

use super::app::{App, Mode};
use super::keys::Effect;
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;
use crate::review::{Feedback, ReviewHost, ReviewOutcome};

impl App<'_> {
    /// Opens the feedback dialog, or shows a message if there is nothing to send.
    pub(crate) fn open_feedback_dialog(&mut self) {
        if let Some(reason) = &self.cannot_send {
            self.message = Some(reason.clone());
            return;
        }
        self.message = match Feedback::from_review(self.model, &self.state) {
            Ok(Some(feedback)) => {
                self.h_scroll = 0;
                self.mode = Mode::Send { feedback, scroll: 0 };
                return;
            }
            Ok(None)
                if self.counts.total_counts().lines.rejected > 0
                    || self.state.decisions.all_comments().next().is_some() =>
            {
                Some("nothing new to send: everything was sent before".into())
            }
            Ok(None) => Some("nothing to send: comment (c) or reject (n) first".into()),
            Err(error) => Some(Escaped::new(&error.to_string()).to_string()),
        };
    }

    pub(crate) fn handle_feedback_key(
        &mut self,
        mut feedback: Feedback,
        scroll: usize,
        key: KeyEvent,
        host: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        let (mut scroll, mut effect) = (scroll, Effect::Redraw);
        match key.code {
            KeyCode::Esc | KeyCode::Char('n' | 'q') => return Ok(Effect::Redraw),
            KeyCode::Char('y') => {
                self.pending_feedback = Some(feedback);
                return Ok(Effect::Exit(ReviewOutcome::Send));
            }
            KeyCode::Char('e') => {
                self.edit_feedback(&mut feedback, host);
                (scroll, effect) = (0, Effect::RedrawAll);
            }
            code => scroll = self.scroll_text(scroll, feedback.text.as_bytes(), code),
        }
        self.mode = Mode::Send { feedback, scroll };
        Ok(effect)
    }

    fn edit_feedback(&mut self, feedback: &mut Feedback, host: &mut dyn ReviewHost) {
        let edited = RepoPath::from_bytes(b"message.md")
            .map_err(io::Error::other)
            .and_then(|path| host.edit_text(&path, feedback.text.as_bytes()));
        match edited {
            Ok(text) if text.trim_ascii().is_empty() => self.message = Some("an empty message is not sent".into()),
            Ok(text) => self.message = feedback.replace_text(String::from_utf8_lossy(&text).into_owned()).err(),
            Err(error) => self.message = Some(format!("the editor failed: {}", Escaped::new(&error.to_string()))),
        }
    }
}
