//! The conflicts of an apply as a user sees and resolves them, region by region.
//!
//! A choice is bound to the exact state of the three sides by the ID of its region, so that it is never used for another one.

use std::fmt;
use std::io;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ContentHash, is_line_based};

/// The marker lines around the sides of a region in an editor.
const EDIT_MARKERS: [&str; 4] = ["<<<<<<< ours", "||||||| base", "=======", ">>>>>>> theirs"];

/// A region of a file in which both sides changed the same lines, or a whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictRegion {
    /// A hash of the path, the position in the base, and the content of all three sides.
    pub id: String,
    pub base: RegionSide,
    /// The side of the working tree.
    pub ours: RegionSide,
    /// The side of the accepted content.
    pub theirs: RegionSide,
    /// Whether the region is the whole file.
    pub is_whole: bool,
    /// Whether both sides are text, so that they can be combined and edited.
    pub can_combine: bool,
}

/// One side of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegionSide {
    /// The lines of the side, counted from 0.
    pub lines: Range<usize>,
    /// The text of these lines; `None` if there is no file, or no text.
    pub text: Option<Vec<u8>>,
    /// A description of a side without text, escaped.
    pub note: String,
}

/// The user's choice for a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ConflictChoice {
    /// The working tree's lines.
    Ours,
    /// The lines of the accepted content.
    Theirs,
    /// The working tree's lines, then the accepted ones.
    Both,
    /// A text that the user wrote.
    Text(ContentHash),
}

impl fmt::Display for ConflictChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours => f.write_str("ours"),
            Self::Theirs => f.write_str("theirs"),
            Self::Both => f.write_str("both"),
            Self::Text(hash) => write!(f, "text {hash}"),
        }
    }
}

impl FromStr for ConflictChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(' ') {
            None if text == "ours" => Ok(Self::Ours),
            None if text == "theirs" => Ok(Self::Theirs),
            None if text == "both" => Ok(Self::Both),
            Some(("text", hash)) => Ok(Self::Text(hash.to_owned().try_into()?)),
            _ => Err(format!("{:?} is not a choice", text.chars().take(80).collect::<String>())),
        }
    }
}

impl TryFrom<String> for ConflictChoice {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<ConflictChoice> for String {
    fn from(choice: ConflictChoice) -> Self {
        choice.to_string()
    }
}

impl ConflictRegion {
    /// Returns the text that a choice puts in place of the region; `None` if a side without text is chosen. `read` reads the
    /// user's text.
    ///
    /// # Errors
    /// The error of `read`.
    pub fn chosen_text<E>(
        &self,
        choice: &ConflictChoice,
        read: impl FnOnce(&ContentHash) -> Result<Vec<u8>, E>,
    ) -> Result<Option<Vec<u8>>, E> {
        Ok(match choice {
            ConflictChoice::Ours => self.ours.text.clone(),
            ConflictChoice::Theirs => self.theirs.text.clone(),
            ConflictChoice::Both => match (&self.ours.text, &self.theirs.text) {
                (Some(ours), Some(theirs)) => Some([&with_line_feed(ours.clone())[..], theirs].concat()),
                _ => None,
            },
            ConflictChoice::Text(hash) => Some(read(hash)?),
        })
    }

    /// Lets the user edit both sides, with the base between them and markers around them, which must be removed.
    ///
    /// # Errors
    /// The reason why the result cannot be used, not escaped.
    pub fn edit_sides(&self, edit: impl FnOnce(&[u8]) -> io::Result<Vec<u8>>) -> Result<Vec<u8>, String> {
        let text = |side: &RegionSide| with_line_feed(side.text.clone().unwrap_or_default());
        let marker = |at: usize| format!("{}\n", EDIT_MARKERS[at]).into_bytes();
        let (ours, base, theirs) = (text(&self.ours), text(&self.base), text(&self.theirs));
        let all = [marker(0), ours, marker(1), base, marker(2), theirs, marker(3)].concat();
        self.edit_text(&all, edit)
    }

    /// Lets the user edit a text for the region.
    ///
    /// # Errors
    /// The reason why the result cannot be used, not escaped.
    pub fn edit_text(&self, text: &[u8], edit: impl FnOnce(&[u8]) -> io::Result<Vec<u8>>) -> Result<Vec<u8>, String> {
        let edited = edit(text).map_err(|error| format!("the editor failed: {error}"))?;
        let is_marker = |line: &[u8]| {
            EDIT_MARKERS.iter().any(|marker| marker.as_bytes() == line.strip_suffix(b"\r").unwrap_or(line))
        };
        if edited.split(|b| *b == b'\n').any(is_marker) {
            return Err("the text still has conflict markers, so nothing is chosen".into());
        }
        if !is_line_based(&edited) {
            return Err("the text is not UTF-8 without NUL, so nothing is chosen".into());
        }
        Ok(edited)
    }
}

/// Adds a line feed to a text that does not end with one.
pub(crate) fn with_line_feed(mut text: Vec<u8>) -> Vec<u8> {
    if text.last().is_some_and(|last| *last != b'\n') {
        text.push(b'\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_with_markers_is_no_choice() {
        let side = |text: &str| RegionSide { lines: 0..1, text: Some(text.into()), note: String::new() };
        let region = ConflictRegion {
            id: String::new(),
            base: side("b\r\n"),
            ours: side("o\r\n"),
            theirs: side("t"),
            is_whole: false,
            can_combine: true,
        };
        let all = "<<<<<<< ours\no\r\n||||||| base\nb\r\n=======\nt\n>>>>>>> theirs\n";
        let shown = |text: &[u8]| {
            assert_eq!(String::from_utf8_lossy(text), all);
            Ok(b"mine\n".to_vec())
        };
        assert_eq!(region.edit_sides(shown), Ok(b"mine\n".to_vec()));
        // Also if the editor has changed the line endings.
        for left in [all.into(), all.replace('\n', "\r\n"), "a\n=======\r\n".into(), "a\n=======".to_owned()] {
            assert!(region.edit_sides(|_| Ok(left.into_bytes())).is_err_and(|error| error.contains("markers")));
        }
        assert!(region.edit_text(b"", |_| Ok(vec![0])).is_err_and(|error| error.contains("NUL")));
        assert!(region.edit_text(b"", |_| Err(io::Error::other("gone"))).is_err_and(|error| error.contains("gone")));
    }

    #[test]
    fn choices_are_saved_as_words() {
        let text = ConflictChoice::Text(ContentHash::from_content(b"x"));
        for choice in [ConflictChoice::Ours, ConflictChoice::Theirs, ConflictChoice::Both, text] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("text 12".parse::<ConflictChoice>().is_err() && "mine".parse::<ConflictChoice>().is_err());
    }
}
