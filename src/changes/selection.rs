//! Computes what a path holds once some of its units are accepted: from the diff's operations, never by patching.

use std::collections::BTreeSet;

use super::{ContentHash, FileChange, UnitKind, lines, units};
use crate::path::EntryKind;

/// What a path shall hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selected {
    /// A file with this content, made of parts.
    Content(EntryKind, Vec<u8>),
    /// A file or link with content that is in the quarantine.
    Stored(EntryKind, ContentHash),
    /// Nothing.
    Deleted,
}

/// Gives the selected result, or `None` if no unit of this change is accepted. `old` and `new` are the contents, as
/// [`FileChange::contents`] gives them.
#[must_use]
pub fn select(change: &FileChange, old: &[u8], new: &[u8], accepted: &BTreeSet<String>) -> Option<Selected> {
    let all = units(change, old, new);
    if !all.iter().any(|u| accepted.contains(&u.id)) {
        return None;
    }
    let mut kind = change.old.as_ref().map_or(EntryKind::Regular, |s| s.kind);
    let mut blocks = Vec::new();
    for unit in all.iter().filter(|u| accepted.contains(&u.id)) {
        match &unit.kind {
            UnitKind::Delete => return Some(Selected::Deleted),
            UnitKind::Whole => {
                let after = change.new.as_ref()?;
                let kind = match (kind, after.kind) {
                    // The executable bit is a unit of its own.
                    (EntryKind::Executable | EntryKind::Regular, EntryKind::Executable | EntryKind::Regular) => kind,
                    (_, after) => after,
                };
                return Some(Selected::Stored(kind, after.hash.clone()));
            }
            UnitKind::Mode(set) => kind = if *set { EntryKind::Executable } else { EntryKind::Regular },
            UnitKind::CreateEmpty => return Some(Selected::Content(kind, Vec::new())),
            UnitKind::Block { old, new } => blocks.push((old, new)),
        }
    }
    if blocks.is_empty() {
        // The executable bit alone: of a file whose content was not accepted it has nothing to stand on.
        return change.old.as_ref().map(|side| Selected::Stored(kind, side.hash.clone()));
    }
    let (old_lines, new_lines) = (lines(old), lines(new));
    let (mut content, mut at) = (Vec::with_capacity(old.len().max(new.len())), 0);
    for (o, n) in blocks {
        content.extend(old_lines[at..o.start].concat());
        content.extend(new_lines[n.clone()].concat());
        at = o.end;
    }
    content.extend(old_lines[at..].concat());
    Some(Selected::Content(kind, content))
}

#[cfg(test)]
mod tests {
    use super::super::{ContentHash, Side};
    use super::*;
    use crate::path::RepoPath;
    use proptest::prelude::*;

    fn change(old: Option<&[u8]>, new: Option<&[u8]>) -> FileChange {
        let side =
            |bytes: &[u8]| Side { kind: EntryKind::Regular, hash: ContentHash::of(bytes), size: bytes.len() as u64 };
        FileChange {
            path: RepoPath::from_bytes(b"f").expect("a path"),
            old: old.map(side),
            new: new.map(side),
            renamed_from: None,
            findings: Vec::new(),
        }
    }

    fn text() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec!["a\n", "b\n", "c\r\n", "\n", "é\n", "x"]), 0..12)
            .prop_map(|parts| parts.concat().into_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn all_is_the_result_none_is_the_base_and_order_does_not_matter(
            old in text(), new in text(), picks in prop::collection::vec(any::<bool>(), 12),
        ) {
            prop_assume!(old != new);
            let change = change(Some(&old), Some(&new));
            let all = units(&change, &old, &new);
            let ids: BTreeSet<_> = all.iter().map(|u| u.id.clone()).collect();
            prop_assert_eq!(ids.len(), all.len());
            prop_assert_eq!(select(&change, &old, &new, &BTreeSet::new()), None);
            prop_assert_eq!(
                select(&change, &old, &new, &ids),
                Some(Selected::Content(EntryKind::Regular, new.clone()))
            );
            // A naive reference: write each base line or the block that replaces it.
            let some: BTreeSet<_> =
                all.iter().zip(&picks).filter(|(_, p)| **p).map(|(u, _)| u.id.clone()).collect();
            let (old_lines, new_lines) = (lines(&old), lines(&new));
            let mut expected: Vec<u8> = Vec::new();
            for at in 0..=old_lines.len() {
                let mut covered = false;
                for unit in &all {
                    let UnitKind::Block { old: o, new: n } = &unit.kind else { unreachable!("text has blocks") };
                    if some.contains(&unit.id) {
                        if o.start == at { expected.extend(new_lines[n.clone()].concat()); }
                        covered |= o.contains(&at);
                    }
                }
                if !covered && at < old_lines.len() { expected.extend(old_lines[at]); }
            }
            let got = select(&change, &old, &new, &some);
            prop_assert_eq!(got, (!some.is_empty()).then_some(Selected::Content(EntryKind::Regular, expected)));
        }
    }

    #[test]
    fn an_executable_bit_alone_keeps_the_content_of_a_file_that_is_too_large_to_read() {
        let mut large = change(Some(b"old"), Some(b"new"));
        for (side, kind) in [(&mut large.old, EntryKind::Regular), (&mut large.new, EntryKind::Executable)] {
            let side = side.as_mut().expect("a side");
            (side.size, side.kind) = (super::super::MAX_TEXT + 1, kind);
        }
        // Its contents are not given.
        let all = units(&large, b"", b"");
        let id = |n: usize| BTreeSet::from([all[n].id.clone()]);
        assert_eq!((all.len(), &all[0].kind, &all[1].kind), (2, &UnitKind::Mode(true), &UnitKind::Whole));
        let stored = |kind, bytes: &[u8]| Some(Selected::Stored(kind, ContentHash::of(bytes)));
        assert_eq!(select(&large, b"", b"", &id(0)), stored(EntryKind::Executable, b"old"));
        assert_eq!(select(&large, b"", b"", &id(1)), stored(EntryKind::Regular, b"new"));
        let both = id(0).union(&id(1)).cloned().collect();
        assert_eq!(select(&large, b"", b"", &both), stored(EntryKind::Executable, b"new"));
    }

    #[test]
    fn an_executable_bit_alone_does_not_make_a_file() {
        let mut added = change(None, Some(b"#!/bin/sh\n"));
        added.new.as_mut().expect("a side").kind = EntryKind::Executable;
        let all = units(&added, b"", b"#!/bin/sh\n");
        let id = |kind: fn(&UnitKind) -> bool| {
            BTreeSet::from([all.iter().find(|u| kind(&u.kind)).expect("a unit").id.clone()])
        };
        let mode = id(|k| matches!(k, UnitKind::Mode(true)));
        let block = id(|k| matches!(k, UnitKind::Block { .. }));
        assert_eq!(select(&added, b"", b"#!/bin/sh\n", &mode), None);
        let content = b"#!/bin/sh\n".to_vec();
        assert_eq!(select(&added, b"", &content, &block), Some(Selected::Content(EntryKind::Regular, content.clone())));
        let both = mode.union(&block).cloned().collect();
        assert_eq!(select(&added, b"", &content, &both), Some(Selected::Content(EntryKind::Executable, content)));
    }
}
