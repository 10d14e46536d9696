//! Changes as text for a person: escaped, and every content line behind our gutter.

use std::fmt::Write as _;

use super::SheetFile;
use crate::changes::{Hunk, HunkLine, Level, UnitKind};
use crate::display::Shown;
use crate::path::EntryKind;

/// Colours text, or does not.
#[derive(Debug, Clone, Copy)]
pub struct Painter {
    /// Whether to colour.
    pub colour: bool,
}

const BOLD: &str = "1";
const RED: &str = "31";
const GREEN: &str = "32";
const YELLOW: &str = "33";
const CYAN: &str = "36";

impl Painter {
    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Gives the lines above a file's changes: what happened to it, and what is risky about it.
    #[must_use]
    pub fn head(self, file: &SheetFile<'_>) -> String {
        let change = file.change;
        let title = format!("{}  {}", change.verb(), Shown::new(change.path.as_bytes()));
        let from = change.renamed_from.as_ref().map(|p| format!("  (as {} was)", Shown::new(p.as_bytes())));
        let mut out = format!("{}{}\n", self.paint(BOLD, &title), from.unwrap_or_default());
        for finding in &change.findings {
            let line = finding.line.map(|l| format!(" (line {l})")).unwrap_or_default();
            out += &self.note(&format!("! {}: {}{line}", level_word(finding.level), Shown::new(&finding.reason)));
        }
        out
    }

    /// Gives a line that asks for attention. The text has been escaped.
    #[must_use]
    pub fn note(self, text: &str) -> String {
        self.paint(YELLOW, text) + "\n"
    }

    /// Gives the line for a unit that has no lines of its own.
    #[must_use]
    pub fn unit(self, kind: &UnitKind, file: &SheetFile<'_>) -> String {
        self.paint(CYAN, &describe(kind, file)) + "\n"
    }

    /// Gives a hunk, at most `limit` of its lines; a cut one says how to see all of it.
    #[must_use]
    pub fn hunk(self, hunk: &Hunk<'_>, limit: usize) -> String {
        let mut out = self.paint(CYAN, &hunk.head()) + "\n";
        for line in hunk.lines.iter().take(limit) {
            let (sign, code, bytes) = match line {
                HunkLine::Context(bytes) => (' ', None, bytes),
                HunkLine::Removed(bytes) => ('-', Some(RED), bytes),
                HunkLine::Added(bytes) => ('+', Some(GREEN), bytes),
            };
            let text = format!("{sign}{}", Shown::line(bytes.strip_suffix(b"\n").unwrap_or(bytes)));
            let _ = writeln!(out, "{}", code.map_or_else(|| text.clone(), |code| self.paint(code, &text)));
            if !bytes.ends_with(b"\n") {
                // It begins where only gutters are, so no content can imitate it.
                out += "\\ No newline at end of file\n";
            }
        }
        if hunk.lines.len() > limit {
            let more = hunk.lines.len() - limit;
            out += &self.note(&format!("… {more} more lines of this block: airlock diff shows all"));
        }
        out
    }
}

/// Names a level for a person.
#[must_use]
pub fn level_word(level: Level) -> &'static str {
    match level {
        Level::Note => "note",
        Level::Medium => "medium",
        Level::High => "high",
        Level::Refused => "refused",
    }
}

/// Describes a unit that has no lines.
#[must_use]
pub fn describe(kind: &UnitKind, file: &SheetFile<'_>) -> String {
    let size = |bytes: &[u8]| format!("{} bytes", bytes.len());
    match kind {
        UnitKind::Block { old, new } => format!("-{} +{} lines", old.len(), new.len()),
        UnitKind::Mode(true) => "becomes executable".into(),
        UnitKind::Mode(false) => "is no longer executable".into(),
        UnitKind::CreateEmpty => "a new empty file".into(),
        UnitKind::Delete => format!("deleted, {}", size(&file.old)),
        UnitKind::Whole => match &file.change.new {
            Some(side) if side.kind == EntryKind::Link => format!("a link to {}", Shown::new(&file.new)),
            Some(side) => {
                let short: String = side.hash.to_string().chars().take(12).collect();
                format!("binary, {} → {}, sha256 {short}", size(&file.old), size(&file.new))
            }
            None => "gone".into(),
        },
    }
}
