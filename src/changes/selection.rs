//! Computes the content of a path for a selection of its units, from the operations of the diff rather than by
//! patching.

use std::borrow::Cow;
use std::io;

use super::interleave::{HunkLine, interleave_lines};
use super::{
    ContentHash, FileChange, LineEnding, Selection, UnitKind, UnitSelection, detect_line_ending_change, split_lines,
    split_units, trim_line_ending,
};
use crate::core::path::EntryKind;

/// The content of a path after a selection is applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectedContent {
    /// A file with content that is assembled from the selected parts.
    Content(EntryKind, Vec<u8>),
    /// A file or symlink with content from the quarantine.
    Stored(EntryKind, ContentHash),
    Deleted,
}

/// Returns the selected result, or `None` if no part of the change is selected.
///
/// `old` and `new` are the contents, as returned by [`FileChange::read_contents`]. `text` reads the user's replacement for a
/// hunk.
///
/// If only some lines of a hunk are selected, the remaining lines are in the order of `interleave_lines`. A last line
/// without a line feed gets one if another line follows.
///
/// # Errors
/// Returns errors of `text`.
pub fn apply_selection(
    change: &FileChange,
    old: &[u8],
    new: &[u8],
    selection: &Selection,
    text: &dyn Fn(&ContentHash) -> io::Result<Vec<u8>>,
) -> io::Result<Option<SelectedContent>> {
    let units = split_units(change, old, new);
    let selection = selection.restricted_to(&units);
    if selection.is_empty() {
        return Ok(None);
    }
    let mut kind = change.old.as_ref().map_or(EntryKind::Regular, |s| s.kind);
    let (mut hunks, mut ending) = (Vec::new(), None);
    for unit in &units {
        let Some(selected) = selection.get(&unit.id) else { continue };
        match &unit.kind {
            UnitKind::Delete => return Ok(Some(SelectedContent::Deleted)),
            UnitKind::Whole => {
                let Some(after) = &change.new else { return Ok(None) };
                let kind = match (kind, after.kind) {
                    // The executable bit is a separate unit.
                    (EntryKind::Executable | EntryKind::Regular, EntryKind::Executable | EntryKind::Regular) => kind,
                    (_, after) => after,
                };
                return Ok(Some(SelectedContent::Stored(kind, after.hash.clone())));
            }
            UnitKind::Mode(set) => kind = if *set { EntryKind::Executable } else { EntryKind::Regular },
            // The caller decides on the path.
            UnitKind::Rename => {}
            UnitKind::CreateEmpty => return Ok(Some(SelectedContent::Content(kind, Vec::new()))),
            UnitKind::LineEndings(to) => ending = Some(*to),
            UnitKind::Hunk { old, new } => hunks.push((old, new, selected)),
        }
    }
    if hunks.is_empty() && ending.is_none() {
        // Only the executable bit or the rename is selected. If the base does not have the file, there is no content to apply it to.
        return Ok(change.old.as_ref().map(|side| SelectedContent::Stored(kind, side.hash.clone())));
    }
    let (old_lines, new_lines) = (split_lines(old), split_lines(new));
    // If the line endings of the two sides differ, all lines get the selected one (the base's by default).
    let ending = detect_line_ending_change(old, new).and_then(|_| ending.or_else(|| LineEnding::detect_uniform(old)));
    let mut content = LineBuffer { bytes: Vec::with_capacity(old.len().max(new.len())), ending };
    let mut at = 0;
    for (o, n, selected) in hunks {
        old_lines[at..o.start].iter().for_each(|line| content.push(line));
        at = o.end;
        match selected {
            UnitSelection::All => new_lines[n.clone()].iter().for_each(|line| content.push(line)),
            UnitSelection::Text(hash) => split_lines(&text(hash)?).iter().for_each(|line| content.push(line)),
            UnitSelection::Lines(picked) => {
                for row in interleave_lines(&old_lines[o.clone()], &new_lines[n.clone()]) {
                    match row {
                        HunkLine::Removed(i) if !picked.contains_line(i) => content.push(old_lines[o.start + i]),
                        HunkLine::Added(j) if picked.contains_line(o.len() + j) => content.push(new_lines[n.start + j]),
                        HunkLine::Removed(_) | HunkLine::Added(_) => {}
                    }
                }
            }
        }
    }
    old_lines[at..].iter().for_each(|line| content.push(line));
    Ok(Some(SelectedContent::Content(kind, content.bytes)))
}

/// A buffer that content is appended to line by line.
struct LineBuffer {
    bytes: Vec<u8>,
    /// The line ending that all lines get.
    ending: Option<LineEnding>,
}

impl LineBuffer {
    fn push(&mut self, line: &[u8]) {
        if self.bytes.last().is_some_and(|b| *b != b'\n') {
            let ending = self
                .ending
                .or_else(|| LineEnding::detect_uniform(&self.bytes))
                .or_else(|| LineEnding::detect_uniform(line));
            self.bytes.extend(ending.unwrap_or(LineEnding::Lf).as_bytes());
        }
        let line = match self.ending {
            Some(ending) if line.ends_with(b"\n") => Cow::Owned([trim_line_ending(line), ending.as_bytes()].concat()),
            _ => Cow::Borrowed(line),
        };
        self.bytes.extend_from_slice(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FileVersion, LineSet, Unit};
    use super::*;
    use crate::core::path::RepoPath;

    fn change(old: Option<&[u8]>, new: Option<&[u8]>) -> FileChange {
        let version = |bytes: &[u8]| FileVersion {
            kind: EntryKind::Regular,
            hash: ContentHash::from_content(bytes),
            size: bytes.len() as u64,
        };
        FileChange {
            path: RepoPath::from_bytes(b"f").expect("valid path"),
            old: old.map(version),
            new: new.map(version),
            renamed_from: None,
            findings: Vec::new(),
        }
    }

    fn selected_content(change: &FileChange, old: &[u8], new: &[u8], selection: &Selection) -> Option<Vec<u8>> {
        let text = |hash: &ContentHash| panic!("unexpected read of text {hash}");
        match apply_selection(change, old, new, selection, &text).expect("selection is applied") {
            None => None,
            Some(SelectedContent::Content(EntryKind::Regular, bytes)) => Some(bytes),
            other => panic!("{other:?}"),
        }
    }

    /// A random number generator with the same sequence in every run (Marsaglia's xorshift).
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 33).expect("31 bits") % n
        }

        fn text(&mut self) -> Vec<u8> {
            const LINES: [&[u8]; 10] =
                [b"a", b"b", b"", b"let x = 1;", b"let x = 2;", b"let y = 2; // \xc3\xa9", b"x", b"}", b"\r", b"a a"];
            let ending: &[u8] = [&b"\n"[..], b"\n", b"\r\n", b""][self.below(4)];
            let mut text = Vec::new();
            for _ in 0..self.below(9) {
                text.extend(LINES[self.below(10)]);
                // An empty ending stands for mixed line endings.
                text.extend(if ending.is_empty() { [&b"\n"[..], b"\r\n"][self.below(2)] } else { ending });
            }
            if self.below(3) == 0 {
                text.extend(LINES[self.below(10)]);
            }
            text
        }
    }

    /// A naive reference implementation. Decides each line of both sides separately, as a string, and joins the lines
    /// that remain.
    fn reference(units: &[Unit], old: &[u8], new: &[u8], is_selected: impl Fn(&Unit, usize) -> bool) -> Vec<u8> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let (old_text, new_text) = (text(old), text(new));
        let (old_lines, new_lines): (Vec<&str>, Vec<&str>) =
            (old_text.split_inclusive('\n').collect(), new_text.split_inclusive('\n').collect());
        let mut lines: Vec<&str> = Vec::new();
        let mut next = 0;
        for unit in units {
            let UnitKind::Hunk { old: o, new: n } = &unit.kind else { continue };
            lines.extend(&old_lines[next..o.start]);
            next = o.end;
            let all_selected = (0..unit.line_count()).all(|line| is_selected(unit, line));
            let (removed, added) = (split_lines(old)[o.clone()].to_vec(), split_lines(new)[n.clone()].to_vec());
            for row in interleave_lines(&removed, &added) {
                match row {
                    HunkLine::Removed(i) if !is_selected(unit, i) => lines.push(old_lines[o.start + i]),
                    HunkLine::Added(j) if is_selected(unit, o.len() + j) && !all_selected => {
                        lines.push(new_lines[n.start + j])
                    }
                    _ => {}
                }
            }
            if all_selected {
                lines.extend(&new_lines[n.clone()]);
            }
        }
        lines.extend(&old_lines[next..]);
        let crlf = |text: &str| {
            text.contains('\n')
                .then(|| {
                    let ends = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
                    let crlf: Vec<bool> = ends.map(|l| l.ends_with("\r\n")).collect();
                    crlf.iter().all(|c| *c == crlf[0]).then(|| crlf[0])
                })
                .flatten()
        };
        let target_ending = match (crlf(&old_text), crlf(&new_text)) {
            (Some(a), Some(b)) if a != b => {
                let unit =
                    units.iter().find(|u| matches!(u.kind, UnitKind::LineEndings(_))).expect("a line ending unit");
                Some(if is_selected(unit, 0) { b } else { a })
            }
            _ => None,
        };
        let ending = |crlf: bool| if crlf { "\r\n" } else { "\n" };
        let mut joined = String::new();
        for line in lines {
            if !joined.is_empty() && !joined.ends_with('\n') {
                joined += ending(target_ending.or_else(|| crlf(&joined)).or_else(|| crlf(line)).unwrap_or(false));
            }
            match target_ending {
                Some(is_crlf) if line.ends_with('\n') => {
                    let body = line
                        .strip_suffix("\r\n")
                        .or_else(|| line.strip_suffix('\n'))
                        .expect("line ends with a newline");
                    joined += body;
                    joined += ending(is_crlf);
                }
                _ => joined += line,
            }
        }
        joined.into_bytes()
    }

    #[test]
    fn selection_equals_naive_reference_in_200_000_random_cases() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut partial, mut endings) = (0, 0);
        for case in 0..200_000 {
            let (old, new) = (random.text(), random.text());
            if old == new {
                continue;
            }
            let change = change(Some(&old), Some(&new));
            let units = split_units(&change, &old, &new);
            let context =
                || format!("case {case}: {:?} {:?}", String::from_utf8_lossy(&old), String::from_utf8_lossy(&new));
            assert_eq!(selected_content(&change, &old, &new, &Selection::default()), None, "{}", context());
            assert_eq!(
                selected_content(&change, &old, &new, &Selection::select_all(&units)).as_deref(),
                Some(&*new),
                "{}",
                context()
            );
            let flags: Vec<Vec<bool>> =
                units.iter().map(|u| (0..u.line_count()).map(|_| random.below(2) == 0).collect()).collect();
            let unit_flags = |unit: &Unit| &flags[units.iter().position(|u| u.id == unit.id).expect("a unit")];
            let select_lines = |unit: &Unit| {
                UnitSelection::Lines(LineSet::from_lines((0..unit.line_count()).filter(|line| unit_flags(unit)[*line])))
            };
            let selection: Selection = units.iter().map(|u| (u.id.clone(), select_lines(u))).collect();
            let got = selected_content(&change, &old, &new, &selection);
            let selection = selection.restricted_to(&units);
            let expected = reference(&units, &old, &new, |unit, line| unit_flags(unit)[line]);
            assert_eq!(got.as_deref(), (!selection.is_empty()).then_some(&*expected), "{} {flags:?}", context());
            partial += usize::from(selection.iter().any(|(_, p)| matches!(p, UnitSelection::Lines(_))));
            endings += usize::from(units.iter().any(|u| matches!(u.kind, UnitKind::LineEndings(_))));
            // The union of two partial selections gives the same result.
            let (first, second): (Vec<_>, Vec<_>) =
                selection.iter().map(|(id, p)| (id.to_owned(), p.clone())).partition(|_| random.below(2) == 0);
            let union = Selection::from_iter(first).union(&second.into_iter().collect());
            assert_eq!(selected_content(&change, &old, &new, &union), got, "{}", context());
        }
        assert!(partial > 100_000 && endings > 5_000, "{partial} {endings}");
    }

    #[test]
    fn adjacent_lines_are_selected_separately() {
        let old = b"let a = 1;\nlet b = 2;\nlet c = 3;\n";
        let new = b"let a = 10;\nlet b = 20;\nlet c = 30;\n";
        let change = change(Some(old), Some(new));
        let id = split_units(&change, old, new)[0].id.clone();
        let middle = Selection::from_iter([(id, UnitSelection::Lines(LineSet::from_lines([1, 4])))]);
        let expected = b"let a = 1;\nlet b = 20;\nlet c = 3;\n".to_vec();
        assert_eq!(selected_content(&change, old, new, &middle), Some(expected));
    }

    #[test]
    fn replacement_text_replaces_hunk() {
        let (old, new) = (b"a\nb\nc", b"a\nx\nc");
        let change = change(Some(old), Some(new));
        let hash = ContentHash::from_content(b"mine");
        let selection =
            Selection::from_iter([(split_units(&change, old, new)[0].id.clone(), UnitSelection::Text(hash.clone()))]);
        let text = |requested: &ContentHash| {
            if *requested == hash { Ok(b"mine".to_vec()) } else { Err(io::Error::other("?")) }
        };
        let got = apply_selection(&change, old, new, &selection, &text).expect("selection is applied");
        assert_eq!(got, Some(SelectedContent::Content(EntryKind::Regular, b"a\nmine\nc".to_vec())));
        assert!(apply_selection(&change, old, new, &selection, &|_| Err(io::Error::other("gone"))).is_err());
    }

    fn apply_with_empty_old(change: &FileChange, content: &[u8], selection: &Selection) -> Option<SelectedContent> {
        apply_selection(change, b"", content, selection, &|_| Err(io::Error::other("no text")))
            .expect("selection is applied")
    }

    fn select_kind(units: &[Unit], kind: fn(&UnitKind) -> bool) -> Selection {
        Selection::select_all(units.iter().filter(|u| kind(&u.kind)))
    }

    #[test]
    fn executable_bit_alone_keeps_content_of_large_file() {
        let mut large = change(Some(b"old"), Some(b"new"));
        for (version, kind) in [(&mut large.old, EntryKind::Regular), (&mut large.new, EntryKind::Executable)] {
            let version = version.as_mut().expect("a version");
            (version.size, version.kind) = (super::super::MAX_TEXT + 1, kind);
        }
        // The contents of a large file are empty.
        let units = split_units(&large, b"", b"");
        assert_eq!((units.len(), &units[0].kind, &units[1].kind), (2, &UnitKind::Mode(true), &UnitKind::Whole));
        let stored_content = |kind, bytes: &[u8]| Some(SelectedContent::Stored(kind, ContentHash::from_content(bytes)));
        let mode = select_kind(&units, |k| matches!(k, UnitKind::Mode(_)));
        let whole = select_kind(&units, |k| matches!(k, UnitKind::Whole));
        assert_eq!(apply_with_empty_old(&large, b"", &mode), stored_content(EntryKind::Executable, b"old"));
        assert_eq!(apply_with_empty_old(&large, b"", &whole), stored_content(EntryKind::Regular, b"new"));
        assert_eq!(
            apply_with_empty_old(&large, b"", &mode.union(&whole)),
            stored_content(EntryKind::Executable, b"new")
        );
    }

    #[test]
    fn executable_bit_alone_creates_no_file() {
        let content = b"#!/bin/sh\n".to_vec();
        let mut added = change(None, Some(&content));
        added.new.as_mut().expect("a version").kind = EntryKind::Executable;
        let units = split_units(&added, b"", &content);
        let mode = select_kind(&units, |k| matches!(k, UnitKind::Mode(true)));
        let hunk = select_kind(&units, |k| matches!(k, UnitKind::Hunk { .. }));
        assert_eq!(apply_with_empty_old(&added, &content, &mode), None);
        let created = |kind| Some(SelectedContent::Content(kind, content.clone()));
        assert_eq!(apply_with_empty_old(&added, &content, &hunk), created(EntryKind::Regular));
        assert_eq!(apply_with_empty_old(&added, &content, &mode.union(&hunk)), created(EntryKind::Executable));
    }
}
