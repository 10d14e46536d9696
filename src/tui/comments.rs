//! Comments of all files with their states, as a list.

use std::collections::BTreeMap;
use std::io;

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::app::{App, Cursor, Mode};
use super::keys::Effect;
use super::outline::draw_box;
use super::scrollbar::{ScrollPosition, draw_scrollbar};
use super::style::{StyleKind, Symbol};
use super::text_layout::truncate_text;
use crate::changes::UnitKind;
use crate::core::escape::Escaped;
use crate::review::{EarlierComment, is_comment_sent};

/// A comment in the list.
struct CommentRow {
    state: CommentState,
    place: String,
    text: String,
    /// The file and the unit, if they still exist.
    target: Option<(usize, usize)>,
}

/// The state of a comment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CommentState {
    /// The agent has not got it yet.
    Open,
    /// The agent has got it, and its hunk is unchanged.
    Sent,
    /// The agent has got it, and has changed its hunk since.
    Answered,
    /// Its hunk is gone.
    Outdated,
}

impl CommentState {
    pub(super) fn state_word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Sent => "sent",
            Self::Answered => "answered",
            Self::Outdated => "outdated",
        }
    }

    pub(super) fn from_earlier(comment: &EarlierComment) -> Self {
        match (comment.is_sent, &comment.unit) {
            (true, Some(_)) => Self::Answered,
            (_, None) => Self::Outdated,
            (false, Some(_)) => Self::Open,
        }
    }
}

impl App<'_> {
    /// Returns the comments of the last round at each unit of the open file, with their states.
    pub(super) fn earlier_comments(&self) -> BTreeMap<usize, Vec<String>> {
        let mut found: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for comment in self.round_diff.iter().flat_map(|since| &since.comments) {
            let position = comment.unit.as_ref().and_then(|unit| self.counts.unit_position(unit));
            if let Some((file, unit)) = position
                && file == self.cursor.file
            {
                let text = format!("{}: {}", CommentState::from_earlier(comment).state_word(), comment.text);
                found.entry(unit).or_default().push(text);
            }
        }
        found
    }

    /// Lists all comments: those on this round's hunks, then those of the last round on hunks that have changed.
    fn comment_rows(&self) -> Vec<CommentRow> {
        let current = self.state.decisions.all_comments().filter_map(|(anchor, text)| {
            let (file, unit) = self.counts.unit_position(&anchor.unit)?;
            let line = match &self.model.files[file].units[unit].kind {
                UnitKind::Hunk { new, .. } => format!(":{}", new.start + 1),
                _ => String::new(),
            };
            let state =
                if is_comment_sent(anchor, text, &self.state) { CommentState::Sent } else { CommentState::Open };
            let place = format!("{}{line}", self.escaped_path(file));
            Some(CommentRow { state, place, text: text.to_owned(), target: Some((file, unit)) })
        });
        let earlier = self.round_diff.iter().flat_map(|since| &since.comments).map(|comment| CommentRow {
            state: CommentState::from_earlier(comment),
            place: format!("{}:{}", Escaped::new(comment.path.as_bytes()), comment.line + 1),
            text: comment.text.clone(),
            target: comment.unit.as_ref().and_then(|unit| self.counts.unit_position(unit)),
        });
        let mut rows: Vec<CommentRow> = current.chain(earlier).collect();
        rows.sort_by_key(|row| row.target.is_none());
        rows
    }

    pub(super) fn open_comments(&mut self) {
        if self.comment_rows().is_empty() {
            self.message = Some("there are no comments yet".into());
            return;
        }
        self.mode = Mode::Comments(0);
    }

    pub(super) fn handle_comments_key(&mut self, selected: usize, key: KeyEvent) -> io::Result<Effect> {
        let rows = self.comment_rows();
        let last = rows.len().saturating_sub(1);
        let selected = match key.code {
            KeyCode::Esc | KeyCode::Char('q' | 'C') => return Ok(Effect::Redraw),
            KeyCode::Enter => {
                match rows.get(selected).and_then(|row| row.target) {
                    Some((file, unit)) => {
                        if !self.files.contains(&file) {
                            self.set_filter(super::app::Filter::All);
                        }
                        self.folded_files.remove(&file);
                        self.set_granularity(super::app::Granularity::Hunk);
                        self.move_cursor(Cursor { file, unit, row: 0 });
                    }
                    None => self.message = Some("the hunk of this comment is gone".into()),
                }
                return Ok(Effect::Redraw);
            }
            KeyCode::Down | KeyCode::Char('j') => (selected + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => selected.saturating_sub(1),
            KeyCode::Home | KeyCode::Char('g') => 0,
            KeyCode::End | KeyCode::Char('G') => last,
            _ => selected,
        };
        self.mode = Mode::Comments(selected);
        Ok(Effect::Redraw)
    }

    /// Selects the comment at a line of the list; the second click goes to it.
    pub(super) fn click_comment(&mut self, selected: usize, line: Option<usize>) -> io::Result<Effect> {
        let first = (selected + 1).saturating_sub(usize::from(self.hit_areas.rows.height).max(1));
        match line.map(|line| first + line) {
            Some(at) if at == selected => {
                self.mode = Mode::Browse;
                return self.handle_comments_key(selected, KeyEvent::from(KeyCode::Enter));
            }
            Some(at) if at < self.comment_rows().len() => self.mode = Mode::Comments(at),
            _ => {}
        }
        Ok(Effect::Redraw)
    }
}

/// Draws the list: state, place, and the first line of each comment.
pub(super) fn draw_comments(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect, selected: usize) {
    let rows = app.comment_rows();
    let inner = draw_box(app, frame, area, &format!(" Comments {}/{} ", selected + 1, rows.len()), true);
    app.hit_areas.rows = inner;
    let (width, height) = (usize::from(inner.width), usize::from(inner.height).max(1));
    let first = (selected + 1).saturating_sub(height);
    let ellipsis = app.styles.symbol_text(Symbol::Ellipsis);
    let lines: Vec<Line<'static>> = rows
        .iter()
        .enumerate()
        .skip(first)
        .take(height)
        .map(|(at, row)| {
            let text = Escaped::new(row.text.lines().next().unwrap_or_default()).to_string();
            let more = if row.text.lines().nth(1).is_some() { format!(" {ellipsis}") } else { String::new() };
            let line = format!(" {:8}  {}  {text}{more}", row.state.state_word(), row.place);
            let role = match (at == selected, row.state) {
                (true, _) => StyleKind::Cursor,
                (false, CommentState::Open) => StyleKind::Strong,
                (false, CommentState::Sent | CommentState::Answered) => StyleKind::Context,
                (false, CommentState::Outdated) => StyleKind::Faint,
            };
            Line::styled(truncate_text(&line, width, ellipsis), app.styles.role_style(role))
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), inner);
    draw_scrollbar(app, frame, area, ScrollPosition { first, shown: height, all: rows.len() });
}
