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
    pub(crate) fn ask_to_send(&mut self) {
        if let Some(why) = &self.cannot_send {
            self.message = Some(why.clone());
            return;
        }
        self.message = match Feedback::compose(self.sheet, &self.state) {
            Ok(Some(feedback)) => {
                self.sideways = 0;
                self.mode = Mode::Send { feedback, scroll: 0 };
                return;
            }
            Ok(None) if self.counts.total().lines.rejected > 0 || self.state.decisions.comments().next().is_some() => {
                Some("nothing new to send: all of it was sent before".into())
            }
            Ok(None) => Some("there is nothing to send: comment (c) or reject (n) something first".into()),
            Err(error) => Some(Escaped::new(&error.to_string()).to_string()),
        };
    }

    pub(crate) fn on_send(
        &mut self,
        mut feedback: Feedback,
        scroll: usize,
        key: KeyEvent,
        around: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        let (mut scroll, mut flow) = (scroll, Effect::On);
        match key.code {
            KeyCode::Esc | KeyCode::Char('n' | 'q') => return Ok(Effect::On),
            KeyCode::Char('y') => {
                self.outbox = Some(feedback);
                return Ok(Effect::End(ReviewOutcome::Send));
            }
            KeyCode::Char('e') => {
                self.edit_message(&mut feedback, around);
                (scroll, flow) = (0, Effect::Clear);
            }
            code => scroll = self.scrolled(scroll, feedback.text.as_bytes(), code),
        }
        self.mode = Mode::Send { feedback, scroll };
        Ok(flow)
    }

    fn edit_message(&mut self, feedback: &mut Feedback, around: &mut dyn ReviewHost) {
        let edited = RepoPath::from_bytes(b"message.md")
            .map_err(io::Error::other)
            .and_then(|path| around.edit_text(&path, feedback.text.as_bytes()));
        match edited {
            Ok(text) if text.trim_ascii().is_empty() => self.message = Some("an empty message is not sent".into()),
            Ok(text) => self.message = feedback.rewrite(String::from_utf8_lossy(&text).into_owned()).err(),
            Err(error) => self.message = Some(format!("the editor failed: {}", Escaped::new(&error.to_string()))),
        }
    }
}
