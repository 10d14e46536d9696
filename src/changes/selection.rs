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
        // Only the executable bit is selected. If the base does not have the file, there is no content to apply it to.
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
        let side = |bytes: &[u8]| FileVersion {
            kind: EntryKind::Regular,
            hash: ContentHash::from_content(bytes),
            size: bytes.len() as u64,
        };
        FileChange {
            path: RepoPath::from_bytes(b"f").expect("a path"),
            old: old.map(side),
            new: new.map(side),
            renamed_from: None,
            findings: Vec::new(),
        }
    }

    fn content(change: &FileChange, old: &[u8], new: &[u8], picks: &Selection) -> Option<Vec<u8>> {
        let text = |hash: &ContentHash| panic!("no text {hash} is asked for");
        match apply_selection(change, old, new, picks, &text).expect("nothing is read") {
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

    /// A naive reference implementation: decides each line of both sides separately, as strings, and joins the rest.
    fn reference(all: &[Unit], old: &[u8], new: &[u8], is_picked: impl Fn(&Unit, usize) -> bool) -> Vec<u8> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        let (old_text, new_text) = (text(old), text(new));
        let (old_lines, new_lines): (Vec<&str>, Vec<&str>) =
            (old_text.split_inclusive('\n').collect(), new_text.split_inclusive('\n').collect());
        let mut left: Vec<&str> = Vec::new();
        let mut next = 0;
        for unit in all {
            let UnitKind::Hunk { old: o, new: n } = &unit.kind else { continue };
            left.extend(&old_lines[next..o.start]);
            next = o.end;
            let all_picked = (0..unit.line_count()).all(|line| is_picked(unit, line));
            let (removed, added) = (split_lines(old)[o.clone()].to_vec(), split_lines(new)[n.clone()].to_vec());
            for row in interleave_lines(&removed, &added) {
                match row {
                    HunkLine::Removed(i) if !is_picked(unit, i) => left.push(old_lines[o.start + i]),
                    HunkLine::Added(j) if is_picked(unit, o.len() + j) && !all_picked => {
                        left.push(new_lines[n.start + j])
                    }
                    _ => {}
                }
            }
            if all_picked {
                left.extend(&new_lines[n.clone()]);
            }
        }
        left.extend(&old_lines[next..]);
        let crlf = |text: &str| {
            text.contains('\n')
                .then(|| {
                    let ends = text.split_inclusive('\n').filter(|l| l.ends_with('\n'));
                    let crlf: Vec<bool> = ends.map(|l| l.ends_with("\r\n")).collect();
                    crlf.iter().all(|c| *c == crlf[0]).then(|| crlf[0])
                })
                .flatten()
        };
        let whole = match (crlf(&old_text), crlf(&new_text)) {
            (Some(a), Some(b)) if a != b => {
                let unit = all.iter().find(|u| matches!(u.kind, UnitKind::LineEndings(_))).expect("endings changed");
                Some(if is_picked(unit, 0) { b } else { a })
            }
            _ => None,
        };
        let end = |crlf: bool| if crlf { "\r\n" } else { "\n" };
        let mut joined = String::new();
        for line in left {
            if !joined.is_empty() && !joined.ends_with('\n') {
                joined += end(whole.or_else(|| crlf(&joined)).or_else(|| crlf(line)).unwrap_or(false));
            }
            match whole {
                Some(to) if line.ends_with('\n') => {
                    let body = line.strip_suffix("\r\n").or_else(|| line.strip_suffix('\n')).expect("it ends so");
                    joined += body;
                    joined += end(to);
                }
                _ => joined += line,
            }
        }
        joined.into_bytes()
    }

    #[test]
    fn what_is_selected_equals_a_naive_reference_in_200_000_random_cases() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        let (mut partial, mut endings) = (0, 0);
        for case in 0..200_000 {
            let (old, new) = (random.text(), random.text());
            if old == new {
                continue;
            }
            let change = change(Some(&old), Some(&new));
            let all = split_units(&change, &old, &new);
            let say =
                || format!("case {case}: {:?} {:?}", String::from_utf8_lossy(&old), String::from_utf8_lossy(&new));
            assert_eq!(content(&change, &old, &new, &Selection::default()), None, "{}", say());
            assert_eq!(content(&change, &old, &new, &Selection::select_all(&all)).as_deref(), Some(&*new), "{}", say());
            let chosen: Vec<Vec<bool>> =
                all.iter().map(|u| (0..u.line_count()).map(|_| random.below(2) == 0).collect()).collect();
            let of = |unit: &Unit| &chosen[all.iter().position(|u| u.id == unit.id).expect("a unit")];
            let pick = |unit: &Unit| {
                UnitSelection::Lines(LineSet::from_lines((0..unit.line_count()).filter(|line| of(unit)[*line])))
            };
            let picks: Selection = all.iter().map(|u| (u.id.clone(), pick(u))).collect();
            let got = content(&change, &old, &new, &picks);
            let picks = picks.restricted_to(&all);
            let expected = reference(&all, &old, &new, |unit, line| of(unit)[line]);
            assert_eq!(got.as_deref(), (!picks.is_empty()).then_some(&*expected), "{} {chosen:?}", say());
            partial += usize::from(picks.iter().any(|(_, p)| matches!(p, UnitSelection::Lines(_))));
            endings += usize::from(all.iter().any(|u| matches!(u.kind, UnitKind::LineEndings(_))));
            // The union of two partial selections gives the same result.
            let (one, two): (Vec<_>, Vec<_>) =
                picks.iter().map(|(id, p)| (id.to_owned(), p.clone())).partition(|_| random.below(2) == 0);
            let both = Selection::from_iter(one).union(&two.into_iter().collect());
            assert_eq!(content(&change, &old, &new, &both), got, "{}", say());
        }
        assert!(partial > 100_000 && endings > 5_000, "{partial} {endings}");
    }

    #[test]
    fn neighbouring_lines_are_taken_one_by_one() {
        let old = b"let a = 1;\nlet b = 2;\nlet c = 3;\n";
        let new = b"let a = 10;\nlet b = 20;\nlet c = 30;\n";
        let change = change(Some(old), Some(new));
        let id = split_units(&change, old, new)[0].id.clone();
        let middle = Selection::from_iter([(id, UnitSelection::Lines(LineSet::from_lines([1, 4])))]);
        let expected = b"let a = 1;\nlet b = 20;\nlet c = 3;\n".to_vec();
        assert_eq!(content(&change, old, new, &middle), Some(expected));
    }

    #[test]
    fn a_text_takes_the_place_of_a_block() {
        let (old, new) = (b"a\nb\nc", b"a\nx\nc");
        let change = change(Some(old), Some(new));
        let hash = ContentHash::from_content(b"mine");
        let picks =
            Selection::from_iter([(split_units(&change, old, new)[0].id.clone(), UnitSelection::Text(hash.clone()))]);
        let text = |asked: &ContentHash| if *asked == hash { Ok(b"mine".to_vec()) } else { Err(io::Error::other("?")) };
        let got = apply_selection(&change, old, new, &picks, &text).expect("it is read");
        assert_eq!(got, Some(SelectedContent::Content(EntryKind::Regular, b"a\nmine\nc".to_vec())));
        assert!(apply_selection(&change, old, new, &picks, &|_| Err(io::Error::other("gone"))).is_err());
    }

    fn stored(change: &FileChange, content: &[u8], picks: &Selection) -> Option<SelectedContent> {
        apply_selection(change, b"", content, picks, &|_| Err(io::Error::other("no text"))).expect("nothing is read")
    }

    fn only(units: &[Unit], kind: fn(&UnitKind) -> bool) -> Selection {
        Selection::select_all(units.iter().filter(|u| kind(&u.kind)))
    }

    #[test]
    fn an_executable_bit_alone_keeps_the_content_of_a_file_that_is_too_large_to_read() {
        let mut large = change(Some(b"old"), Some(b"new"));
        for (side, kind) in [(&mut large.old, EntryKind::Regular), (&mut large.new, EntryKind::Executable)] {
            let side = side.as_mut().expect("a side");
            (side.size, side.kind) = (super::super::MAX_TEXT + 1, kind);
        }
        // The contents of a large file are empty.
        let all = split_units(&large, b"", b"");
        assert_eq!((all.len(), &all[0].kind, &all[1].kind), (2, &UnitKind::Mode(true), &UnitKind::Whole));
        let kept = |kind, bytes: &[u8]| Some(SelectedContent::Stored(kind, ContentHash::from_content(bytes)));
        let mode = only(&all, |k| matches!(k, UnitKind::Mode(_)));
        let whole = only(&all, |k| matches!(k, UnitKind::Whole));
        assert_eq!(stored(&large, b"", &mode), kept(EntryKind::Executable, b"old"));
        assert_eq!(stored(&large, b"", &whole), kept(EntryKind::Regular, b"new"));
        assert_eq!(stored(&large, b"", &mode.union(&whole)), kept(EntryKind::Executable, b"new"));
    }

    #[test]
    fn an_executable_bit_alone_does_not_make_a_file() {
        let content = b"#!/bin/sh\n".to_vec();
        let mut added = change(None, Some(&content));
        added.new.as_mut().expect("a side").kind = EntryKind::Executable;
        let all = split_units(&added, b"", &content);
        let mode = only(&all, |k| matches!(k, UnitKind::Mode(true)));
        let block = only(&all, |k| matches!(k, UnitKind::Hunk { .. }));
        assert_eq!(stored(&added, &content, &mode), None);
        let made = |kind| Some(SelectedContent::Content(kind, content.clone()));
        assert_eq!(stored(&added, &content, &block), made(EntryKind::Regular));
        assert_eq!(stored(&added, &content, &mode.union(&block)), made(EntryKind::Executable));
    }
}
