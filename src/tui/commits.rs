//! The commits of the agent as a list, oldest first: data of the agent, escaped.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::app::App;
use super::outline::draw_box;
use super::scrollbar::{ScrollPosition, draw_scrollbar};
use super::style::StyleKind;
use super::text_layout::wrap_text;
use crate::core::escape::Escaped;

/// Maximum number of lines of a message.
const MAX_LINES: usize = 40;

pub(super) fn draw_commits(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect, scroll: usize) {
    let inner = draw_box(app, frame, area, " Commits of the agent, oldest first ", true);
    app.hit_areas.rows = inner;
    let (width, height) = (usize::from(inner.width), usize::from(inner.height));
    let styles = app.styles;
    let mut lines: Vec<Line<'static>> = Vec::new();
    for commit in &app.commits {
        let id: String = commit.id.chars().take(10).collect();
        let files = if commit.files.len() == 1 { "1 file".to_owned() } else { format!("{} files", commit.files.len()) };
        let title = format!(" {id}  {}, {files}", Escaped::new(&commit.author));
        let rows = |text: &str, indent, role| {
            let rows = wrap_text(text, width, indent).into_iter();
            rows.map(|row| Line::styled(row, styles.role_style(role))).collect::<Vec<_>>()
        };
        lines.extend(rows(&title, 3, StyleKind::Faint));
        for (at, line) in commit.message.lines().take(MAX_LINES).enumerate() {
            let role = if at == 0 { StyleKind::Strong } else { StyleKind::Context };
            lines.extend(rows(&format!("   {}", Escaped::from_line(line)), 3, role));
        }
        lines.push(Line::default());
    }
    let last = lines.len().saturating_sub(height);
    app.max_scroll.set(last);
    let position = ScrollPosition { first: scroll.min(last), shown: height, all: lines.len() };
    frame.render_widget(Paragraph::new(lines.into_iter().skip(position.first).collect::<Vec<_>>()), inner);
    draw_scrollbar(app, frame, area, position);
}
