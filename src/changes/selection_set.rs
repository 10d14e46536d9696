//! Represents the selected parts of a change: units by ID, and for hunks optionally some lines or a replacement text.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::{ContentHash, Unit};

/// A set of lines of a hunk, counted from 0, removed lines before added ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LineSet {
    /// Sorted, non-empty and non-adjacent.
    ranges: Vec<Range<usize>>,
}

impl LineSet {
    /// Creates a set from lines in ascending order.
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

    /// Creates a set of all lines below `end`.
    #[must_use]
    pub fn from_prefix(end: usize) -> Self {
        Self { ranges: (end > 0).then_some(0..end).into_iter().collect() }
    }

    /// Returns whether the set contains a line.
    #[must_use]
    pub fn contains_line(&self, line: usize) -> bool {
        let at = self.ranges.partition_point(|r| r.end <= line);
        self.ranges.get(at).is_some_and(|r| r.contains(&line))
    }

    /// Returns the lines in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.ranges.iter().flat_map(Clone::clone)
    }

    /// Returns the number of lines.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.iter().map(Range::len).sum()
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    fn end_line(&self) -> usize {
        self.ranges.last().map_or(0, |r| r.end)
    }

    /// Returns the lines that are in either set.
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

    /// Returns the lines that are not in the other set.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self::from_lines(self.iter().filter(|n| !other.contains_line(*n)))
    }
}

/// The selected part of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitSelection {
    All,
    /// Some lines of a hunk, neither all nor none.
    Lines(LineSet),
    /// A replacement for the lines of a hunk, stored in the quarantine.
    Text(ContentHash),
}

/// The selected parts of a change, by unit ID.
///
/// In records and journals, each part is a string: `ID`, `ID:0-2,5` for lines (counted from 0, removed lines before
/// added ones), or `ID=SHA256` for a replacement text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Selection {
    units: BTreeMap<String, UnitSelection>,
}

impl Selection {
    /// Selects all of these units.
    pub fn select_all<'a>(units: impl IntoIterator<Item = &'a Unit>) -> Self {
        units.into_iter().map(|u| (u.id.clone(), UnitSelection::All)).collect()
    }

    /// Returns the selected part of a unit.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&UnitSelection> {
        self.units.get(id)
    }

    /// Selects a part of a unit, and replaces the earlier selection of this unit, if any.
    pub fn select_unit(&mut self, id: String, selected: UnitSelection) {
        self.units.insert(id, selected);
    }

    /// Deselects a unit and returns its selected part.
    pub fn remove(&mut self, id: &str) -> Option<UnitSelection> {
        self.units.remove(id)
    }

    /// Returns the selected parts in order of unit ID.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &UnitSelection)> {
        self.units.iter().map(|(id, pick)| (id.as_str(), pick))
    }

    /// Returns whether nothing is selected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// Returns the number of units.
    #[must_use]
    pub fn len(&self) -> usize {
        self.units.len()
    }

    /// Returns whether all of these units are selected completely and unmodified.
    #[must_use]
    pub fn covers_all(&self, units: &[Unit]) -> bool {
        units.iter().all(|unit| self.get(&unit.id) == Some(&UnitSelection::All))
    }

    /// Returns the selection restricted to these units, in normal form.
    ///
    /// A hunk of which all lines are selected is selected as a whole. A hunk with no selected line, or with a line that
    /// does not exist, is dropped.
    #[must_use]
    pub fn restricted_to(&self, units: &[Unit]) -> Self {
        let normalize = |unit: &Unit| {
            let pick = match self.get(&unit.id)? {
                UnitSelection::Lines(lines) if lines.is_empty() || lines.end_line() > unit.line_count() => return None,
                UnitSelection::Lines(lines) if lines.len() == unit.line_count() => UnitSelection::All,
                pick => pick.clone(),
            };
            Some((unit.id.clone(), pick))
        };
        units.iter().filter_map(normalize).collect()
    }

    /// Returns the union of two selections. If either has a replacement text for a unit, `other` takes precedence.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut merged = self.clone();
        for (id, theirs) in &other.units {
            let pick = match (self.get(id), theirs) {
                (Some(UnitSelection::All), UnitSelection::Lines(_)) => UnitSelection::All,
                (Some(UnitSelection::Lines(ours)), UnitSelection::Lines(theirs)) => {
                    UnitSelection::Lines(ours.union(theirs))
                }
                _ => theirs.clone(),
            };
            merged.select_unit(id.clone(), pick);
        }
        merged
    }

    /// Returns the selected parts of these units that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self, units: &[Unit]) -> Self {
        let subtract = |unit: &Unit| {
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
        units.iter().filter_map(subtract).collect::<Self>().restricted_to(units)
    }

    /// Returns whether `other` includes the whole selection.
    #[must_use]
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.units.iter().all(|(id, ours)| match (ours, other.get(id)) {
            (UnitSelection::Lines(_), Some(UnitSelection::All)) => true,
            (UnitSelection::Lines(ours), Some(UnitSelection::Lines(theirs))) => {
                ours.iter().all(|n| theirs.contains_line(n))
            }
            (ours, theirs) => Some(ours) == theirs,
        })
    }

    /// Returns the string of each part.
    #[must_use]
    pub fn to_strings(&self) -> Vec<String> {
        self.units.iter().map(|(id, pick)| format!("{id}{pick}")).collect()
    }
}

impl FromIterator<(String, UnitSelection)> for Selection {
    fn from_iter<I: IntoIterator<Item = (String, UnitSelection)>>(picks: I) -> Self {
        Self { units: picks.into_iter().collect() }
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
        let invalid = || ParseSelectionError(text.to_owned());
        let number = |digits: &str| digits.parse::<usize>().ok().filter(|n| *n < MAX_LINE).ok_or_else(invalid);
        let mut ranges: Vec<Range<usize>> = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = number(first)?..number(last)? + 1;
            if range.is_empty() || ranges.last().is_some_and(|before| before.end >= range.start) {
                return Err(invalid());
            }
            ranges.push(range);
        }
        Ok(Self { ranges })
    }
}

/// Upper bound of line numbers, which no hunk reaches.
const MAX_LINE: usize = 1 << 32;

/// An invalid string in a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid selection")]
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

    fn parse_selection(strings: &[&str]) -> Selection {
        strings.iter().map(ToString::to_string).collect::<Vec<_>>().try_into().expect("valid selection")
    }

    #[test]
    fn selection_strings_round_trip() {
        let hash = ContentHash::from_content(b"x");
        let strings = ["a".to_owned(), "b:0-2,5".into(), format!("c={hash}")];
        let parsed = Selection::try_from(strings.to_vec()).expect("valid selection");
        assert_eq!(parsed.to_strings(), strings);
        assert_eq!(parsed.get("b"), Some(&UnitSelection::Lines(LineSet::from_lines([0, 1, 2, 5]))));
        for bad in ["b:", "b:2-1", "b:1,1", "b:3,1", "b:-1", "b:1-", "b:0,1", "b:x", "c=x", "b:99999999999999"] {
            assert!(Selection::try_from(vec![bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn replacement_text_replaces_earlier_selection() {
        let text = format!("a={}", ContentHash::from_content(b"x"));
        let slice_of = std::slice::from_ref;
        let unit = Unit { id: "a".into(), kind: UnitKind::Hunk { old: 0..1, new: 0..1 } };
        assert_eq!(parse_selection(&["a:0"]).union(&parse_selection(&[&text])), parse_selection(&[&text]));
        assert_eq!(parse_selection(&[&text]).union(&parse_selection(&["a"])), parse_selection(&["a"]));
        assert!(
            !parse_selection(&[&text]).is_subset_of(&parse_selection(&["a"]))
                && parse_selection(&[&text]).is_subset_of(&parse_selection(&[&text]))
        );
        assert_eq!(
            parse_selection(&[&text]).difference(&parse_selection(&["a:0"]), slice_of(&unit)),
            Selection::default()
        );
        assert_eq!(
            parse_selection(&["a"]).difference(&parse_selection(&["a:0"]), slice_of(&unit)),
            parse_selection(&["a:1"])
        );
        assert_eq!(parse_selection(&["a:0-1", "gone"]).restricted_to(slice_of(&unit)), parse_selection(&["a"]));
        assert_eq!(
            parse_selection(&["a:1-2"]).restricted_to(slice_of(&unit)),
            Selection::default(),
            "the unit has no such line"
        );
    }

    proptest! {
        #[test]
        fn line_set_behaves_as_set(
            a in prop::collection::btree_set(0usize..20, 0..12), b in prop::collection::btree_set(0usize..20, 0..12),
        ) {
            let (x, y) = (LineSet::from_lines(a.iter().copied()), LineSet::from_lines(b.iter().copied()));
            prop_assert_eq!(x.len(), a.len());
            prop_assert!((0..20).all(|n| x.contains_line(n) == a.contains(&n)));
            prop_assert_eq!(x.union(&y), LineSet::from_lines(a.union(&b).copied()));
            prop_assert_eq!(x.difference(&y), LineSet::from_lines(a.difference(&b).copied()));
            if !x.is_empty() {
                prop_assert_eq!(x.to_string().parse(), Ok(x));
            }
        }
    }
}
