//! Formats conflicts: the three sides, with a gutter, and ways to resolve them.

use std::fmt::Write as _;
use std::ops::Range;

use unicode_width::UnicodeWidthChar as _;

use crate::apply::{BlobStore, Conflict, ConflictHunk, ConflictKind, ConflictSides, EntryContent, HARD_LINK_REASON};
use crate::changes::{is_line_based, rename_label, split_lines};
use crate::cli::shell_word::quote_shell_word;
use crate::core::escape::Escaped;
use crate::core::path::EntryKind;

/// Maximum numbers of lines shown of a side, and of hunks shown of a file.
const MAX_LINES: usize = 12;
const MAX_HUNKS: usize = 4;

/// Labels of the three sides: base, ours and theirs.
pub(crate) type MarkerLabels = [&'static str; 3];

/// The labels for an apply: the merge base, the working tree, and the accepted content.
pub(crate) const APPLY_LABELS: MarkerLabels = ["base", "ours (working tree)", "theirs (accepted)"];

/// The labels for an undo: what the apply wrote, the working tree, and what was there before the apply.
pub(crate) const UNDO_LABELS: MarkerLabels = ["base (as applied)", "ours (working tree)", "theirs (before the apply)"];

/// Formats the sides of each conflict that has sides.
pub(crate) fn format_conflicts(conflicts: &[Conflict], labels: MarkerLabels, blobs: &dyn BlobStore) -> String {
    let mut text = String::new();
    for conflict in conflicts {
        let Some(conflict_sides) = &conflict.sides else { continue };
        let path = match &conflict.renamed_from {
            Some(from) => rename_label(from, &conflict.path, "→"),
            None => Escaped::new(conflict.path.as_bytes()).to_string(),
        };
        let _ = writeln!(text, "\n{path}: {}", Escaped::new(&conflict.reason));
        format_sides(&mut text, conflict_sides, labels, blobs);
    }
    text
}

fn format_sides(text: &mut String, conflict_sides: &ConflictSides, labels: MarkerLabels, blobs: &dyn BlobStore) {
    let all =
        [(labels[0], &conflict_sides.base), (labels[1], &conflict_sides.ours), (labels[2], &conflict_sides.theirs)];
    let read = |v: &Option<EntryContent>| v.as_ref().and_then(|v| blobs.read_blob(&v.hash).ok());
    let bytes = all.map(|(_, version)| read(version));
    if conflict_sides.hunks.is_empty() {
        let width = labels.iter().map(|label| label.len()).max().unwrap_or(0);
        for ((name, version), bytes) in all.iter().zip(&bytes) {
            let _ = writeln!(text, "  {name:width$} │ {}", describe_side(version.as_ref(), bytes.as_deref()));
        }
    }
    if let (Some(merged), Some(ours)) = (read(&conflict_sides.git_merge), bytes[1].as_deref()) {
        format_git_merge(text, ours, &merged);
    }
    if conflict_sides.hunks.is_empty() {
        return;
    }
    let split = bytes.iter().map(|b| b.as_deref().filter(|b| is_line_based(b)).map(split_lines).unwrap_or_default());
    let split: Vec<Vec<&[u8]>> = split.collect();
    for hunk in conflict_sides.hunks.iter().take(MAX_HUNKS) {
        let ConflictHunk { base, ours, theirs } = hunk;
        for ((name, _), (lines, range)) in all.iter().zip(split.iter().zip([base, ours, theirs])) {
            format_side(text, name, lines, range);
        }
        if conflict_sides.hunks.len() > 1 {
            text.push('\n');
        }
    }
    if conflict_sides.hunks.len() > MAX_HUNKS {
        let _ = writeln!(text, "  … and {} more places", conflict_sides.hunks.len() - MAX_HUNKS);
    }
}

/// Formats the lines that git's merge would change in the user's file.
fn format_git_merge(text: &mut String, ours: &[u8], merged: &[u8]) {
    let (old, new) = (split_lines(ours), split_lines(merged));
    let changes = similar::capture_diff_slices(similar::Algorithm::Histogram, &old, &new);
    let changes: Vec<_> = changes.iter().filter(|op| op.tag() != similar::DiffTag::Equal).collect();
    for change in changes.iter().take(MAX_HUNKS) {
        let _ = writeln!(text, "  git's merge would change ours after line {}", change.old_range().start);
        let removed = old[change.old_range()].iter().map(|line| ('-', line));
        let added = new[change.new_range()].iter().map(|line| ('+', line));
        let rows: Vec<_> = removed.chain(added).collect();
        for (sign, line) in rows.iter().take(2 * MAX_LINES) {
            let _ = writeln!(text, "  │ {sign}{}", shown_line(line));
        }
        if rows.len() > 2 * MAX_LINES {
            let _ = writeln!(text, "  │ … {} more lines", rows.len() - 2 * MAX_LINES);
        }
    }
    if changes.len() > MAX_HUNKS {
        let _ = writeln!(text, "  … and {} more places", changes.len() - MAX_HUNKS);
    }
}

fn format_side(text: &mut String, name: &str, lines: &[&[u8]], range: &Range<usize>) {
    let heading = match range.len() {
        0 => format!("{name}, nothing after line {}", range.start),
        1 => format!("{name}, line {}", range.start + 1),
        _ => format!("{name}, lines {} to {}", range.start + 1, range.end),
    };
    let _ = writeln!(text, "  {heading}");
    let shown = lines.get(range.clone()).unwrap_or_default();
    for line in shown.iter().take(MAX_LINES) {
        let _ = writeln!(text, "  │ {}", shown_line(line));
    }
    if shown.len() > MAX_LINES {
        let _ = writeln!(text, "  │ … {} more lines", shown.len() - MAX_LINES);
    }
}

/// Maximum number of paths that a hint names.
const MAX_NAMED: usize = 8;
/// Columns of a tab.
const TAB_WIDTH: usize = 8;

/// Returns a line as it is shown, with tabs as spaces.
fn shown_line(line: &[u8]) -> String {
    let (mut shown, mut columns) = (String::new(), 0);
    for c in Escaped::from_line(line.strip_suffix(b"\n").unwrap_or(line)).to_string().chars() {
        let width = if c == '\t' { TAB_WIDTH - columns % TAB_WIDTH } else { c.width().unwrap_or(0) };
        if c == '\t' {
            shown.extend(std::iter::repeat_n(' ', width));
        } else {
            shown.push(c);
        }
        columns += width;
    }
    shown
}

fn describe_side(version: Option<&EntryContent>, bytes: Option<&[u8]>) -> String {
    let Some(version) = version else { return "nothing".into() };
    let short: String = version.hash.to_string().chars().take(12).collect();
    let size = bytes.map_or(String::new(), |b| format!(", {} bytes", b.len()));
    match version.kind {
        EntryKind::Symlink => format!("a symlink to {}", bytes.map_or(String::new(), |b| Escaped::new(b).to_string())),
        EntryKind::Executable => format!("an executable file{size}, sha256 {short}…"),
        EntryKind::Regular => format!("a file{size}, sha256 {short}…"),
    }
}

/// Returns ways to resolve conflicts, as options to add to the command. `others`: whether other paths could be
/// written. `top` is the path from the current directory to the top of the working tree, empty or with a `/` at its end.
pub(crate) fn resolution_hints(conflicts: &[Conflict], others: bool, markers: bool, top: &[u8]) -> Vec<String> {
    let mut hints = Vec::new();
    let reject =
        |conflict: &&Conflict| format!("--reject={}", quote_shell_word(&[top, conflict.path.as_bytes()].concat()));
    let all: Vec<&Conflict> = conflicts.iter().collect();
    let reject_all = |conflicts: &[&Conflict]| conflicts.iter().map(reject).collect::<Vec<_>>().join(" ");
    if others {
        if conflicts.len() <= MAX_NAMED {
            hints.push(format!("to skip them, add `{}`", reject_all(&all)));
        }
        hints.push(match markers {
            true => "to write everything except conflicts, add `--on-conflict skip`".into(),
            false => "to write everything except conflicts, use `--on-conflict skip` instead".into(),
        });
    }
    let is_separable = |kind| matches!(kind, ConflictKind::RenameDelete | ConflictKind::EarlierUnits);
    let mut renames = conflicts.iter().filter(|conflict| conflict.renamed_from.is_some());
    if renames.any(|conflict| conflict.sides.as_ref().is_some_and(|sides| is_separable(sides.kind))) {
        hints.push("to apply a rename as an addition and a deletion, add `--no-renames`".into());
    }
    let linked = conflicts.iter().filter(|c| c.reason == HARD_LINK_REASON);
    for path in linked.map(|c| c.renamed_from.as_ref().unwrap_or(&c.path).as_bytes()).take(3) {
        let (one, new) = (quote_shell_word(&[top, path].concat()), quote_shell_word(&[top, path, b".new"].concat()));
        hints
            .push(format!("to separate it from its other hard links, run `cp -p -- {one} {new} && mv -- {new} {one}`"));
    }
    let can_have_markers = |c: &&Conflict| c.sides.as_ref().is_some_and(|sides| sides.can_have_markers());
    let (marked, unmarked): (Vec<&Conflict>, Vec<&Conflict>) = all.iter().partition(|c| can_have_markers(c));
    match (markers && !marked.is_empty(), unmarked.len()) {
        (false, _) => {}
        (true, count) if count > MAX_NAMED => {}
        (true, 0) => hints.push("to write both sides between conflict markers, add `--on-conflict markers`".into()),
        // The others would still be conflicts, and nothing would be written.
        (true, _) => hints.push(format!(
            "to write both sides between conflict markers where that is possible, add `--on-conflict markers {}`",
            reject_all(&unmarked)
        )),
    }
    if markers && conflicts.iter().any(|c| c.sides.as_ref().is_some_and(|sides| sides.git_merge.is_some())) {
        hints.push(
            "to write git's merge where only the second merge engine disagrees, add `--on-conflict git-merge`".into(),
        );
    }
    hints
}
