//! The rows below the panes while something is asked: the question, the input, and the keys.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::app::{App, Mode, PromptKind};
use super::outline::display_width;
use super::style::{StyleKind, Symbol};
use super::text_layout::{truncate_start, truncate_text, wrap_text};
use crate::core::escape::Escaped;
use crate::review::CommentScope;

/// The sign before the input.
const INPUT_SIGN: &str = " > ";

/// Returns the rows of the open prompt or question; none if nothing is asked.
pub(super) fn prompt_rows(app: &App<'_>, area: Rect) -> Vec<Line<'static>> {
    let width = usize::from(area.width);
    let (strong, faint) = (app.styles.role_style(StyleKind::Strong), app.styles.role_style(StyleKind::Faint));
    let ellipsis = app.styles.symbol_text(Symbol::Ellipsis);
    match &app.mode {
        Mode::Input(prompt, text) => {
            let (label, keys) = prompt_texts(prompt);
            vec![
                Line::styled(truncate_text(&format!(" {label}"), width, ellipsis), strong),
                Line::from(vec![Span::styled(INPUT_SIGN, strong), Span::raw(shown_input(app, text, area.width))]),
                Line::styled(truncate_text(&format!(" {keys}"), width, ellipsis), faint),
            ]
        }
        Mode::Confirm(question, _) => {
            // A long question never hides what is asked about it.
            let max_rows = usize::from(area.height).saturating_sub(4).max(1);
            let rows = wrap_text(&format!(" {question} [y/n]"), width, 1).into_iter().take(max_rows);
            let message = app.message.iter().map(|text| truncate_text(&format!(" {text}"), width, ellipsis));
            rows.map(|row| Line::styled(row, strong)).chain(message.map(|row| Line::styled(row, faint))).collect()
        }
        _ => Vec::new(),
    }
}

/// Returns what is asked for, and the keys.
fn prompt_texts(prompt: &PromptKind) -> (String, &'static str) {
    match prompt {
        PromptKind::Search => ("Search in changed lines and paths".into(), "Enter search   Esc back"),
        PromptKind::Pattern => (
            "Show only files whose path contains a word, or matches a glob".into(),
            "Enter show   Esc back   empty: all files",
        ),
        PromptKind::Comment(anchor, place) => {
            let what = match anchor.scope {
                CommentScope::Line(_) => "Comment on",
                CommentScope::Part { .. } => "Comment on the part of the hunk at",
                CommentScope::Unit => "Comment on the hunk at",
            };
            (format!("{what} {place}"), "Enter save   Ctrl-e in your editor   Esc back   empty: remove")
        }
    }
}

/// Returns the end of the input that fits.
fn shown_input(app: &App<'_>, text: &str, width: u16) -> String {
    let room = usize::from(width).saturating_sub(INPUT_SIGN.len() + 1);
    truncate_start(&Escaped::new(text).to_string(), room, app.styles.symbol_text(Symbol::Ellipsis))
}

/// Returns the column of the cursor in the row of the input.
pub(super) fn prompt_cursor(app: &App<'_>, width: u16) -> Option<u16> {
    let Mode::Input(_, text) = &app.mode else { return None };
    let column = INPUT_SIGN.len() + display_width(&shown_input(app, text, width));
    Some(u16::try_from(column).unwrap_or(u16::MAX).min(width.saturating_sub(1)))
}
