//! Changes as text for a person: escaped, and every content line behind our gutter.

use std::fmt::Write as _;

use super::SheetFile;
use crate::changes::{Hunk, HunkLine, Level, Side, UnitKind};
use crate::display::Shown;

/// Colours text, or does not.
#[derive(Debug, Clone, Copy)]
pub struct Painter {
    /// Whether to colour.
    pub colour: bool,
}

/// Blank lines in a row that are shown one by one.
const BLANK_LINES: usize = 40;

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
        let mut at = 0;
        while at < hunk.lines.len().min(limit) {
            let line = &hunk.lines[at];
            let blank = hunk.lines[at..].iter().take_while(|l| *l == line && is_blank(l)).count();
            let (sign, code, bytes) = match line {
                HunkLine::Context(bytes) => (' ', None, bytes),
                HunkLine::Removed(bytes) => ('-', Some(RED), bytes),
                HunkLine::Added(bytes) => ('+', Some(GREEN), bytes),
            };
            let paint = |text: String| code.map_or_else(|| text.clone(), |code| self.paint(code, &text));
            if blank > BLANK_LINES {
                // What follows them stays in sight; no content looks like this, see `display.rs`.
                let _ = writeln!(out, "{}", paint(format!("{sign}<U+000A x{blank}>")));
                at += blank;
                continue;
            }
            let text = format!("{sign}{}", Shown::line(bytes.strip_suffix(b"\n").unwrap_or(bytes)));
            let _ = writeln!(out, "{}", paint(text));
            if !bytes.ends_with(b"\n") {
                // It begins where only gutters are, so no content can imitate it.
                out += "\\ No newline at end of file\n";
            }
            at += 1;
        }
        if at < hunk.lines.len() {
            let more = hunk.lines.len() - at;
            out += &self.note(&format!("… {more} more lines of this block: airlock diff shows all"));
        }
        out
    }
}

fn is_blank(line: &HunkLine<'_>) -> bool {
    let (HunkLine::Context(bytes) | HunkLine::Removed(bytes) | HunkLine::Added(bytes)) = line;
    *bytes == b"\n"
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
    let size = |side: &Option<Side>| format!("{} bytes", side.as_ref().map_or(0, |s| s.size));
    let (old, new) = (size(&file.change.old), size(&file.change.new));
    match kind {
        UnitKind::Block { old, new } => format!("-{} +{} lines", old.len(), new.len()),
        UnitKind::Mode(true) => "becomes executable".into(),
        UnitKind::Mode(false) => "is no longer executable".into(),
        UnitKind::CreateEmpty => "a new empty file".into(),
        UnitKind::Delete => format!("deleted, {old}"),
        UnitKind::Whole => match (&file.change.new, &file.target) {
            (_, Some(target)) => format!("a link to {}", Shown::new(target)),
            (Some(side), None) => {
                let short: String = side.hash.to_string().chars().take(12).collect();
                let what =
                    if file.change.findings.iter().any(|f| f.rule == "binary") { "binary" } else { "as a whole" };
                format!("{what}, {old} → {new}, sha256 {short}")
            }
            (None, None) => "gone".into(),
        },
    }
}
