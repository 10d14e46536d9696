//! Which parts of a change are meant: units by id, of a hunk perhaps some lines alone, or a text that a person put in
//! its place.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{ContentHash, Unit};

/// Some lines of a hunk: the removed ones are counted first, then the added ones, from 0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineSet {
    /// Sorted, apart, none empty.
    ranges: Vec<Range<usize>>,
}

impl LineSet {
    /// Creates one of numbers that ascend.
    pub fn from_lines(lines: impl IntoIterator<Item = usize>) -> Self {
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for line in lines {
            match ranges.last_mut() {
                Some(last) if last.end == line => last.end += 1,
                _ => ranges.push(line..line + 1),
            }
        }
        Self { ranges }
    }

    /// Creates one of all lines below a number.
    #[must_use]
    pub fn up_to(end: usize) -> Self {
        Self { ranges: (end > 0).then_some(0..end).into_iter().collect() }
    }

    /// Returns whether a line is in it.
    #[must_use]
    pub fn contains(&self, line: usize) -> bool {
        let at = self.ranges.partition_point(|r| r.end <= line);
        self.ranges.get(at).is_some_and(|r| r.contains(&line))
    }

    /// Returns its lines in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.ranges.iter().flat_map(Clone::clone)
    }

    /// Counts them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.iter().map(Range::len).sum()
    }

    /// Returns whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    fn end(&self) -> usize {
        self.ranges.last().map_or(0, |r| r.end)
    }

    /// Returns what is in one of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all: Vec<Range<usize>> = self.ranges.iter().chain(&other.ranges).cloned().collect();
        all.sort_unstable_by_key(|r| r.start);
        let mut ranges: Vec<Range<usize>> = Vec::with_capacity(all.len());
        for range in all {
            match ranges.last_mut() {
                Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
                _ => ranges.push(range),
            }
        }
        Self { ranges }
    }

    /// Returns what is not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self::from_lines(self.iter().filter(|n| !other.contains(*n)))
    }
}

/// The selected part of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitSelection {
    All,
    /// These lines of a hunk, not all and not none.
    Lines(LineSet),
    /// Another text in place of a hunk's lines; it is in the quarantine.
    Text(ContentHash),
}

/// The selected parts of a change, by unit id.
///
/// In records and journals each is one string: `ID`, `ID:0-2,5` for lines (the removed ones are counted first, then the
/// added ones, from 0), `ID=SHA256` for another text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Selection {
    picks: BTreeMap<String, UnitSelection>,
}

impl Selection {
    /// Means all of these units.
    pub fn select_all<'a>(units: impl IntoIterator<Item = &'a Unit>) -> Self {
        units.into_iter().map(|u| (u.id.clone(), UnitSelection::All)).collect()
    }

    /// Returns what is meant of a unit.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&UnitSelection> {
        self.picks.get(id)
    }

    /// Means more; of a unit that is in it already, this instead.
    pub fn set(&mut self, id: String, pick: UnitSelection) {
        self.picks.insert(id, pick);
    }

    /// Means no more of a unit.
    pub fn remove(&mut self, id: &str) -> Option<UnitSelection> {
        self.picks.remove(id)
    }

    /// Returns each, by id.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &UnitSelection)> {
        self.picks.iter().map(|(id, pick)| (id.as_str(), pick))
    }

    /// Returns whether nothing is meant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.picks.is_empty()
    }

    /// Counts the units.
    #[must_use]
    pub fn len(&self) -> usize {
        self.picks.len()
    }

    /// Returns whether it is all of these units, as they are.
    #[must_use]
    pub fn covers(&self, units: &[Unit]) -> bool {
        units.iter().all(|unit| self.get(&unit.id) == Some(&UnitSelection::All))
    }

    /// Keeps what is about these units, and has lines that are all of a hunk mean the hunk, none of them nothing.
    #[must_use]
    pub fn restricted_to(&self, units: &[Unit]) -> Self {
        let normal = |unit: &Unit| {
            let pick = match self.get(&unit.id)? {
                UnitSelection::Lines(lines) if lines.is_empty() || lines.end() > unit.line_count() => return None,
                UnitSelection::Lines(lines) if lines.len() == unit.line_count() => UnitSelection::All,
                pick => pick.clone(),
            };
            Some((unit.id.clone(), pick))
        };
        units.iter().filter_map(normal).collect()
    }

    /// Returns both. Of a unit with another text, what `other` says counts.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut both = self.clone();
        for (id, theirs) in &other.picks {
            let pick = match (self.get(id), theirs) {
                (Some(UnitSelection::All), UnitSelection::Lines(_)) => UnitSelection::All,
                (Some(UnitSelection::Lines(ours)), UnitSelection::Lines(theirs)) => {
                    UnitSelection::Lines(ours.union(theirs))
                }
                _ => theirs.clone(),
            };
            both.set(id.clone(), pick);
        }
        both
    }

    /// Returns what is not in `other`, of these units.
    #[must_use]
    pub fn difference(&self, other: &Self, units: &[Unit]) -> Self {
        let left = |unit: &Unit| {
            let all = || LineSet::from_lines(0..unit.line_count());
            let pick = match (self.get(&unit.id)?, other.get(&unit.id)) {
                (ours, None) => ours.clone(),
                (UnitSelection::All, Some(UnitSelection::Lines(theirs))) => {
                    UnitSelection::Lines(all().difference(theirs))
                }
                (UnitSelection::Lines(ours), Some(UnitSelection::Lines(theirs))) => {
                    UnitSelection::Lines(ours.difference(theirs))
                }
                (_, Some(_)) => return None,
            };
            Some((unit.id.clone(), pick))
        };
        units.iter().filter_map(left).collect::<Self>().restricted_to(units)
    }

    /// Returns whether all of it is in `other`.
    #[must_use]
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.picks.iter().all(|(id, ours)| match (ours, other.get(id)) {
            (UnitSelection::Lines(_), Some(UnitSelection::All)) => true,
            (UnitSelection::Lines(ours), Some(UnitSelection::Lines(theirs))) => ours.iter().all(|n| theirs.contains(n)),
            (ours, theirs) => Some(ours) == theirs,
        })
    }

    /// Writes each as a string.
    #[must_use]
    pub fn to_strings(&self) -> Vec<String> {
        self.picks.iter().map(|(id, pick)| format!("{id}{pick}")).collect()
    }
}

impl FromIterator<(String, UnitSelection)> for Selection {
    fn from_iter<I: IntoIterator<Item = (String, UnitSelection)>>(picks: I) -> Self {
        Self { picks: picks.into_iter().collect() }
    }
}

impl fmt::Display for LineSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.ranges.iter().enumerate() {
            let comma = if at > 0 { "," } else { "" };
            match range.len() {
                1 => write!(f, "{comma}{}", range.start)?,
                _ => write!(f, "{comma}{}-{}", range.start, range.end - 1)?,
            }
        }
        Ok(())
    }
}

impl std::str::FromStr for LineSet {
    type Err = ParseSelectionError;

    fn from_str(text: &str) -> Result<Self, ParseSelectionError> {
        let wrong = || ParseSelectionError(text.to_owned());
        let number = |digits: &str| digits.parse::<usize>().ok().filter(|n| *n < MAX_LINE).ok_or_else(wrong);
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = number(first)?..number(last)? + 1;
            if range.is_empty() || ranges.last().is_some_and(|before| before.end >= range.start) {
                return Err(wrong());
            }
            ranges.push(range);
        }
        Ok(Self { ranges })
    }
}

/// No hunk has so many lines.
const MAX_LINE: usize = 1 << 32;

/// A string in a record that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no part of a change")]
pub struct ParseSelectionError(String);

impl fmt::Display for UnitSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Lines(lines) => write!(f, ":{lines}"),
            Self::Text(hash) => write!(f, "={hash}"),
        }
    }
}

impl TryFrom<Vec<String>> for Selection {
    type Error = ParseSelectionError;

    fn try_from(strings: Vec<String>) -> Result<Self, ParseSelectionError> {
        let parse = |text: String| {
            if let Some((id, lines)) = text.split_once(':') {
                return Ok((id.to_owned(), UnitSelection::Lines(lines.parse()?)));
            }
            if let Some((id, hash)) = text.split_once('=') {
                let hash = hash.to_owned().try_into().map_err(|_| ParseSelectionError(text.clone()))?;
                return Ok((id.to_owned(), UnitSelection::Text(hash)));
            }
            Ok((text, UnitSelection::All))
        };
        strings.into_iter().map(parse).collect()
    }
}

impl From<Selection> for Vec<String> {
    fn from(picks: Selection) -> Self {
        picks.to_strings()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::UnitKind;
    use proptest::prelude::*;

    fn picks(strings: &[&str]) -> Selection {
        strings.iter().map(ToString::to_string).collect::<Vec<_>>().try_into().expect("picks")
    }

    #[test]
    fn strings_are_read_as_they_are_written() {
        let hash = ContentHash::of(b"x");
        let strings = ["a".to_owned(), "b:0-2,5".into(), format!("c={hash}")];
        let read = Selection::try_from(strings.to_vec()).expect("picks");
        assert_eq!(read.to_strings(), strings);
        assert_eq!(read.get("b"), Some(&UnitSelection::Lines(LineSet::from_lines([0, 1, 2, 5]))));
        for bad in ["b:", "b:2-1", "b:1,1", "b:3,1", "b:-1", "b:1-", "b:0,1", "b:x", "c=x", "b:99999999999999"] {
            assert!(Selection::try_from(vec![bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn another_text_takes_the_place_of_what_was_meant_before() {
        let text = format!("a={}", ContentHash::of(b"x"));
        let one = std::slice::from_ref;
        let unit = Unit { id: "a".into(), kind: UnitKind::Hunk { old: 0..1, new: 0..1 } };
        assert_eq!(picks(&["a:0"]).union(&picks(&[&text])), picks(&[&text]));
        assert_eq!(picks(&[&text]).union(&picks(&["a"])), picks(&["a"]));
        assert!(!picks(&[&text]).is_subset_of(&picks(&["a"])) && picks(&[&text]).is_subset_of(&picks(&[&text])));
        assert_eq!(picks(&[&text]).difference(&picks(&["a:0"]), one(&unit)), Selection::default());
        assert_eq!(picks(&["a"]).difference(&picks(&["a:0"]), one(&unit)), picks(&["a:1"]));
        assert_eq!(picks(&["a:0-1", "gone"]).restricted_to(one(&unit)), picks(&["a"]));
        assert_eq!(picks(&["a:1-2"]).restricted_to(one(&unit)), Selection::default(), "it has no such line");
    }

    proptest! {
        #[test]
        fn sets_of_lines_are_sets(
            a in prop::collection::btree_set(0usize..20, 0..12), b in prop::collection::btree_set(0usize..20, 0..12),
        ) {
            let (x, y) = (LineSet::from_lines(a.iter().copied()), LineSet::from_lines(b.iter().copied()));
            prop_assert_eq!(x.len(), a.len());
            prop_assert!((0..20).all(|n| x.contains(n) == a.contains(&n)));
            prop_assert_eq!(x.union(&y), LineSet::from_lines(a.union(&b).copied()));
            prop_assert_eq!(x.difference(&y), LineSet::from_lines(a.difference(&b).copied()));
            if !x.is_empty() {
                prop_assert_eq!(x.to_string().parse(), Ok(x));
            }
        }
    }
}
