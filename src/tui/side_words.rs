//! Words for the sides of a conflict and for the choices between them.

use crate::changes::{ConflictChoice, RegionSide};

/// Returns the word for a choice.
pub(super) fn choice_word(choice: &ConflictChoice) -> &'static str {
    match choice {
        ConflictChoice::Ours => "ours",
        ConflictChoice::Theirs => "theirs",
        ConflictChoice::Both => "both",
        ConflictChoice::Text(_) => "your text",
    }
}

/// Returns the line numbers of a side.
pub(super) fn side_lines(side: &RegionSide) -> String {
    match side.lines.len() {
        0 => format!("after line {}", side.lines.start),
        1 => format!("line {}", side.lines.start + 1),
        _ => format!("lines {} to {}", side.lines.start + 1, side.lines.end),
    }
}
