//! Divides an accepted file among the agent's commits. Only accepted lines get into a commit: contents of the agent's commits
//! are compared with them, and never used themselves.

use std::ops::Range;

use super::hunks::{find_line_changes, is_line_based, split_lines};

/// A run of lines of the base that the accepted content replaces.
struct Block {
    old: Range<usize>,
    new: Range<usize>,
    /// The lines of `new` that the commits so far have, or `None` for the lines of the base.
    taken: Option<Vec<usize>>,
}

impl Block {
    fn is_done(&self) -> bool {
        self.taken.as_ref().is_some_and(|taken| taken.len() == self.new.len())
    }
}

/// An accepted file, as it is after the commits so far.
pub(crate) struct CommitStates<'a> {
    base: &'a [u8],
    accepted: &'a [u8],
    /// `None` if the file is compared as a whole.
    blocks: Option<Vec<Block>>,
    is_done: bool,
}

impl<'a> CommitStates<'a> {
    /// Begins at the base. Both contents are as git stores them; an absent file has none.
    pub(crate) fn new(base: &'a [u8], accepted: &'a [u8]) -> Self {
        let by_line = is_line_based(base) && is_line_based(accepted);
        let blocks = by_line.then(|| {
            let changes = find_line_changes(&split_lines(base), &split_lines(accepted));
            changes.into_iter().map(|(old, new)| Block { old, new, taken: None }).collect()
        });
        Self { base, accepted, blocks, is_done: false }
    }

    /// Advances to the agent's version at a commit. In place of a run of the base's lines, the accepted lines
    /// are taken that the agent's file has there, if it has no others there.
    pub(crate) fn advance_to(&mut self, version: &[u8]) {
        if version == self.accepted {
            return self.take_all();
        }
        let (Some(blocks), true) = (&mut self.blocks, is_line_based(version)) else { return };
        let (base, accepted, version) = (split_lines(self.base), split_lines(self.accepted), split_lines(version));
        let positions = matched_positions(&base, &version);
        for block in blocks.iter_mut().filter(|block| !block.is_done()) {
            let Range { start, end } = block.old;
            let first = if start == 0 { Some(0) } else { positions[start - 1].map(|at| at + 1) };
            let last = if end == base.len() { Some(version.len()) } else { positions[end] };
            let (Some(first), Some(last)) = (first, last) else { continue };
            let Some(lines) = version.get(first..last) else { continue };
            let target = &accepted[block.new.clone()];
            let Some(found) = find_subsequence(lines, target) else { continue };
            let is_more = match &block.taken {
                None => !(block.old.is_empty() && found.is_empty()),
                // Lines that a commit reverts stay.
                Some(taken) => {
                    let before: Vec<&[u8]> = taken.iter().map(|at| target[*at]).collect();
                    found.len() > taken.len() && find_subsequence(&before, lines).is_some()
                }
            };
            if is_more {
                block.taken = Some(found);
            }
        }
    }

    /// Advances to the accepted content.
    pub(crate) fn take_all(&mut self) {
        self.is_done = true;
    }

    /// Returns whether the content is the accepted one.
    pub(crate) fn is_finished(&self) -> bool {
        self.is_done || self.blocks.as_ref().is_some_and(|blocks| blocks.iter().all(Block::is_done))
    }

    /// Returns whether the content is that of the base.
    pub(crate) fn is_base(&self) -> bool {
        !self.is_done && self.blocks.iter().flatten().all(|block| block.taken.is_none())
    }

    /// Returns the content after the commits so far.
    pub(crate) fn current_content(&self) -> Vec<u8> {
        if self.is_finished() {
            return self.accepted.to_vec();
        }
        let (base, accepted) = (split_lines(self.base), split_lines(self.accepted));
        let (mut content, mut at) = (Vec::new(), 0);
        for block in self.blocks.iter().flatten() {
            content.extend(&base[at..block.old.start]);
            at = block.old.end;
            match &block.taken {
                Some(taken) => content.extend(taken.iter().map(|at| accepted[block.new.start + at])),
                None => content.extend(&base[block.old.clone()]),
            }
        }
        content.extend(&base[at..]);
        content.concat()
    }
}

/// Returns the position in `version` of each line of `base` that is unchanged there.
fn matched_positions(base: &[&[u8]], version: &[&[u8]]) -> Vec<Option<usize>> {
    let mut positions = vec![None; base.len()];
    let (mut old_at, mut new_at) = (0, 0);
    let end = (base.len()..base.len(), version.len()..version.len());
    for (old, new) in find_line_changes(base, version).into_iter().chain([end]) {
        while old_at < old.start {
            positions[old_at] = Some(new_at);
            (old_at, new_at) = (old_at + 1, new_at + 1);
        }
        (old_at, new_at) = (old.end, new.end);
    }
    positions
}

/// Returns the positions in `all` of lines that occur there in this order, or `None` if one does not.
fn find_subsequence(lines: &[&[u8]], all: &[&[u8]]) -> Option<Vec<usize>> {
    let mut next = 0;
    let find = |line: &&[u8]| {
        let at = next + all[next..].iter().position(|one| one == line)?;
        next = at + 1;
        Some(at)
    };
    lines.iter().map(find).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the content after each version.
    fn states(base: &str, accepted: &str, versions: &[&str]) -> Vec<String> {
        let mut states = CommitStates::new(base.as_bytes(), accepted.as_bytes());
        let state = |version: &&str| {
            states.advance_to(version.as_bytes());
            String::from_utf8(states.current_content()).expect("text")
        };
        versions.iter().map(state).collect()
    }

    #[test]
    fn hunks_are_taken_when_the_agent_has_them() {
        let (base, both) = ("a\nb\nc\nd\ne\n", "A\nb\nc\nd\nE\n");
        assert_eq!(states(base, both, &["A\nb\nc\nd\ne\n", both]), ["A\nb\nc\nd\ne\n", both]);
        // A hunk that was rejected never appears.
        let only_last = "a\nb\nc\nd\nE\n";
        assert_eq!(states(base, only_last, &["A\nb\nc\nd\ne\n", both]), [base, only_last]);
        // Lines in between that were not accepted are skipped.
        assert_eq!(states(base, both, &["SECRET\nb\nc\nd\nE\n", both]), ["a\nb\nc\nd\nE\n", both]);
        // A commit that reverts an earlier one changes nothing.
        assert_eq!(states(base, both, &["A\nb\nc\nd\ne\n", base, both]), ["A\nb\nc\nd\ne\n", "A\nb\nc\nd\ne\n", both]);
    }

    #[test]
    fn lines_of_a_new_file_are_divided() {
        let accepted = "one\ntwo\nthree\n";
        assert_eq!(states("", accepted, &["one\nthree\n", accepted]), ["one\nthree\n", accepted]);
        assert_eq!(states("", accepted, &["one\nother\n", accepted]), ["", accepted]);
        assert_eq!(states("", accepted, &["three\n", "one\ntwo\n"]), ["three\n", "three\n"]);
    }

    #[test]
    fn replaced_lines_are_divided() {
        let (base, accepted) = ("a\nb\nc\n", "a\n1\n2\nc\n");
        assert_eq!(states(base, accepted, &["a\n1\nc\n", accepted]), ["a\n1\nc\n", accepted]);
        assert_eq!(states(base, accepted, &["a\nc\n", accepted]), ["a\nc\n", accepted]);
        assert_eq!(states(base, accepted, &["a\n1\nb\nc\n", accepted]), [base, accepted]);
    }

    #[test]
    fn files_without_lines_are_taken_as_a_whole() {
        assert_eq!(states("a\0", "b\0", &["x\0", "b\0", "c\0"]), ["a\0", "b\0", "b\0"]);
        let states = CommitStates::new(b"a\n", b"a\n");
        assert!(states.is_finished() && states.is_base());
    }

    /// Whatever the agent's versions are, a state has no line that is neither in the base nor accepted.
    #[test]
    fn states_have_accepted_lines_only() {
        let mut seed = 7_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        let mut text = |letters| (0..random(8)).map(|_| format!("{}\n", random(letters))).collect::<String>();
        let mut divided = 0;
        for _ in 0..3000 {
            let (base, accepted) = (text(6), text(6));
            let versions: Vec<String> = (0..3).map(|_| text(9)).collect();
            let mut states = CommitStates::new(base.as_bytes(), accepted.as_bytes());
            for version in &versions {
                states.advance_to(version.as_bytes());
                let content = String::from_utf8(states.current_content()).expect("text");
                let is_known = |line: &str| base.lines().chain(accepted.lines()).any(|known| known == line);
                assert!(content.lines().all(is_known), "{base:?} {accepted:?} {versions:?}");
                divided += u32::from(content != base && content != accepted);
            }
            states.take_all();
            assert_eq!(states.current_content(), accepted.as_bytes());
        }
        assert!(divided > 100, "{divided}");
    }
}
