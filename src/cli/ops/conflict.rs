//! Formats conflicts for a person: the three sides, with a gutter, and ways to resolve them.

use std::fmt::Write as _;
use std::ops::Range;

use crate::apply::{BlobStore, Conflict, ConflictHunk, ConflictSides, EntryContent, HARD_LINKS};
use crate::changes::{is_by_line, split_lines};
use crate::cli::output::shell_word;
use crate::core::escape::Escaped;
use crate::core::path::EntryKind;

/// Maximum numbers of lines shown of a side, and of hunks shown of a file.
const MOST_LINES: usize = 12;
const MOST_PLACES: usize = 4;

/// Labels of the three sides: base, ours and theirs.
pub type MarkerLabels = [&'static str; 3];

/// The labels for an apply.
pub const APPLY: MarkerLabels = ["base", "yours", "accepted"];

/// The labels for an undo.
pub const UNDO: MarkerLabels = ["applied", "yours", "before it"];

/// Formats the sides of each conflict that has sides.
pub fn show(conflicts: &[Conflict], names: MarkerLabels, contents: &dyn BlobStore) -> String {
    let mut text = String::new();
    for conflict in conflicts {
        let Some(contest) = &conflict.sides else { continue };
        let _ = writeln!(text, "\n{}: {}", Escaped::new(conflict.path.as_bytes()), Escaped::new(&conflict.reason));
        sides(&mut text, contest, names, contents);
    }
    text
}

fn sides(text: &mut String, contest: &ConflictSides, names: MarkerLabels, contents: &dyn BlobStore) {
    let all = [(names[0], &contest.base), (names[1], &contest.ours), (names[2], &contest.theirs)];
    let read = |v: &Option<EntryContent>| v.as_ref().and_then(|v| contents.read_blob(&v.hash).ok());
    let bytes = all.map(|(_, version)| read(version));
    if contest.hunks.is_empty() {
        for ((name, version), bytes) in all.iter().zip(&bytes) {
            let _ = writeln!(text, "  {name:9} │ {}", describe(version.as_ref(), bytes.as_deref()));
        }
        return;
    }
    let split = bytes.iter().map(|b| b.as_deref().filter(|b| is_by_line(b)).map(split_lines).unwrap_or_default());
    let split: Vec<Vec<&[u8]>> = split.collect();
    for region in contest.hunks.iter().take(MOST_PLACES) {
        let ConflictHunk { base, ours: host, theirs: accepted } = region;
        for ((name, _), (lines, range)) in all.iter().zip(split.iter().zip([base, host, accepted])) {
            side(text, name, lines, range);
        }
        if contest.hunks.len() > 1 {
            text.push('\n');
        }
    }
    if contest.hunks.len() > MOST_PLACES {
        let _ = writeln!(text, "  … and {} more places", contest.hunks.len() - MOST_PLACES);
    }
}

fn side(text: &mut String, name: &str, lines: &[&[u8]], range: &Range<usize>) {
    let place = match range.len() {
        0 => format!("{name}, nothing after line {}", range.start),
        1 => format!("{name}, line {}", range.start + 1),
        _ => format!("{name}, lines {} to {}", range.start + 1, range.end),
    };
    let _ = writeln!(text, "  {place}");
    let shown = lines.get(range.clone()).unwrap_or_default();
    for line in shown.iter().take(MOST_LINES) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let _ = writeln!(text, "  │ {}", Escaped::new(line));
    }
    if shown.len() > MOST_LINES {
        let _ = writeln!(text, "  │ … {} more lines", shown.len() - MOST_LINES);
    }
}

fn describe(version: Option<&EntryContent>, bytes: Option<&[u8]>) -> String {
    let Some(version) = version else { return "nothing".into() };
    let short: String = version.hash.to_string().chars().take(12).collect();
    let size = bytes.map_or(String::new(), |b| format!(", {} bytes", b.len()));
    match version.kind {
        EntryKind::Link => format!("a link to {}", bytes.map_or(String::new(), |b| Escaped::new(b).to_string())),
        EntryKind::Executable => format!("an executable file{size}, sha256 {short}…"),
        EntryKind::Regular => format!("a file{size}, sha256 {short}…"),
    }
}

/// Returns ways to resolve conflicts, as options to add to the command. `others` says whether anything else could be
/// written. `top` is the path from the current directory to the top of the working tree, empty or with a `/` at its end.
pub fn resolution_hints(conflicts: &[Conflict], others: bool, markers: bool, top: &[u8]) -> Vec<String> {
    let mut ways = Vec::new();
    if others {
        let paths: Vec<String> =
            conflicts.iter().take(8).map(|c| format!("--reject={}", shell_word(c.path.as_bytes()))).collect();
        if conflicts.len() <= 8 {
            ways.push(format!("to leave them out, add {}", paths.join(" ")));
        }
        ways.push("to write all but conflicts, whatever they are, add --on-conflict skip".into());
    }
    for path in conflicts.iter().filter(|c| c.reason == HARD_LINKS).map(|c| c.path.as_bytes()).take(3) {
        let (one, new) = (shell_word(&[top, path].concat()), shell_word(&[top, path, b".new"].concat()));
        ways.push(format!("to part it from its other names: cp -p -- {one} {new} && mv -- {new} {one}"));
    }
    if markers && conflicts.iter().any(|c| c.sides.as_ref().is_some_and(|c| c.is_text())) {
        ways.push("to have both sides of the lines between markers, add --on-conflict markers".into());
    }
    ways
}
