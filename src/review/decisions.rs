//! The decisions of a review, by unit and line, with edited hunks and comments.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::changes::{ConflictChoice, ContentHash, LineSet, Selection, Unit, UnitSelection};

/// A decision. A line without one is undecided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The next apply writes the line to the working tree.
    Accepted,
    Rejected,
}

/// The decision on a unit.
///
/// As a string it is `accepted`, `rejected`, `lines` and one letter for each line of the hunk, removed lines first (`y`,
/// `n`, or `.` for undecided; `12y` is twelve of them), or `edited` and the hash of the replacement text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum UnitDecision {
    /// The same decision for the whole unit.
    All(Decision),
    /// Different decisions for its lines, as runs: the number of lines, and their decision.
    Lines(Vec<(usize, Option<Decision>)>),
    /// An accepted replacement text.
    Edited(ContentHash),
}

/// Counts of decided lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecisionCounts {
    pub accepted: usize,
    pub rejected: usize,
    pub undecided: usize,
}

impl DecisionCounts {
    fn from_runs(runs: &[(usize, Option<Decision>)]) -> Self {
        runs.iter().fold(Self::default(), |mut counts, (n, decision)| {
            match decision {
                Some(Decision::Accepted) => counts.accepted += n,
                Some(Decision::Rejected) => counts.rejected += n,
                None => counts.undecided += n,
            }
            counts
        })
    }

    /// Returns the sum of two counts.
    #[must_use]
    pub fn sum_with(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            rejected: self.rejected + other.rejected,
            undecided: self.undecided + other.undecided,
        }
    }

    /// Returns the decision if all lines have the same one.
    #[must_use]
    pub fn unanimous_decision(self) -> Option<Decision> {
        match self {
            Self { accepted: 1.., rejected: 0, undecided: 0 } => Some(Decision::Accepted),
            Self { accepted: 0, rejected: 1.., undecided: 0 } => Some(Decision::Rejected),
            _ => None,
        }
    }
}

/// The part of a unit that a comment is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommentScope {
    Unit,
    /// The part of a split hunk with these rows, as [`super::ReviewState::hunk_parts`] returns them.
    Part {
        from: usize,
        to: usize,
    },
    Line(usize),
}

/// The anchor of a comment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommentAnchor {
    /// The ID of the unit.
    pub unit: String,
    pub scope: CommentScope,
}

impl CommentAnchor {
    /// Creates the anchor of a saved comment. A line counts more than a part.
    #[must_use]
    pub fn new(unit: &str, line: Option<usize>, part: Option<[usize; 2]>) -> Self {
        let scope = match (line, part) {
            (Some(line), _) => CommentScope::Line(line),
            (None, Some([from, to])) => CommentScope::Part { from, to },
            (None, None) => CommentScope::Unit,
        };
        Self { unit: unit.to_owned(), scope }
    }

    /// Returns the line, if the comment is about one.
    #[must_use]
    pub fn scope_line(&self) -> Option<usize> {
        match self.scope {
            CommentScope::Line(line) => Some(line),
            CommentScope::Unit | CommentScope::Part { .. } => None,
        }
    }

    /// Returns the rows of the part, if the comment is about one.
    #[must_use]
    pub fn scope_part(&self) -> Option<[usize; 2]> {
        match self.scope {
            CommentScope::Part { from, to } => Some([from, to]),
            CommentScope::Unit | CommentScope::Line(_) => None,
        }
    }
}

/// All decisions and comments on a changeset.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decisions {
    units: BTreeMap<String, UnitDecision>,
    comments: BTreeMap<CommentAnchor, String>,
    /// The choices for regions in conflict with the working tree, by the ID of the region.
    choices: BTreeMap<String, ConflictChoice>,
}

impl Decisions {
    /// Returns the choices for regions in conflict.
    #[must_use]
    pub fn conflict_choices(&self) -> &BTreeMap<String, ConflictChoice> {
        &self.choices
    }

    /// Removes all choices for regions in conflict.
    pub fn clear_choices(&mut self) {
        self.choices.clear();
    }

    /// Sets or removes the choice for a region in conflict.
    pub fn set_choice(&mut self, region: &str, choice: Option<ConflictChoice>) {
        match choice {
            Some(choice) => drop(self.choices.insert(region.to_owned(), choice)),
            None => drop(self.choices.remove(region)),
        }
    }

    /// Returns the decision on a unit.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&UnitDecision> {
        self.units.get(id)
    }

    /// Returns the decision on one line of a unit, or on a whole unit that has no lines.
    #[must_use]
    pub fn line_decision(&self, id: &str, line: usize) -> Option<Decision> {
        match self.get(id)? {
            UnitDecision::All(decision) => Some(*decision),
            UnitDecision::Edited(_) => Some(Decision::Accepted),
            UnitDecision::Lines(runs) => {
                let mut end = 0;
                runs.iter()
                    .find(|(n, _)| {
                        end += n;
                        line < end
                    })?
                    .1
            }
        }
    }

    /// Counts the lines of a unit by decision.
    #[must_use]
    pub fn count_lines(&self, unit: &Unit) -> DecisionCounts {
        let size = unit.line_count();
        match self.get(&unit.id) {
            None => DecisionCounts { undecided: size, ..DecisionCounts::default() },
            Some(UnitDecision::All(Decision::Rejected)) => {
                DecisionCounts { rejected: size, ..DecisionCounts::default() }
            }
            Some(UnitDecision::All(Decision::Accepted) | UnitDecision::Edited(_)) => {
                DecisionCounts { accepted: size, ..DecisionCounts::default() }
            }
            Some(UnitDecision::Lines(runs)) => DecisionCounts::from_runs(runs),
        }
    }

    /// Returns whether a unit has no undecided part.
    #[must_use]
    pub fn is_decided(&self, unit: &Unit) -> bool {
        match self.get(&unit.id) {
            None => false,
            Some(UnitDecision::Lines(runs)) => runs.iter().all(|(_, decision)| decision.is_some()),
            Some(_) => true,
        }
    }

    /// Returns whether a part of a unit is accepted.
    #[must_use]
    pub fn is_accepted(&self, unit: &Unit) -> bool {
        self.accepted_part(unit).is_some()
    }

    /// Returns the accepted part of a unit.
    #[must_use]
    pub fn accepted_part(&self, unit: &Unit) -> Option<UnitSelection> {
        match self.get(&unit.id)? {
            UnitDecision::All(Decision::Accepted) => Some(UnitSelection::All),
            UnitDecision::All(Decision::Rejected) => None,
            UnitDecision::Edited(hash) => Some(UnitSelection::Text(hash.clone())),
            unit_decision @ UnitDecision::Lines(_) => {
                let lines = unit_decision.matching_lines(|decision| decision == Some(Decision::Accepted));
                (!lines.is_empty()).then_some(UnitSelection::Lines(lines))
            }
        }
    }

    /// Returns the accepted parts of units.
    pub fn accepted_selection<'a>(&self, units: impl IntoIterator<Item = &'a Unit>) -> Selection {
        units.into_iter().filter_map(|unit| Some((unit.id.clone(), self.accepted_part(unit)?))).collect()
    }

    /// Returns the decision on a unit after these lines are set to `decision`.
    #[must_use]
    pub fn with_lines(
        &self,
        unit: &Unit,
        lines: impl IntoIterator<Item = usize>,
        decision: Option<Decision>,
    ) -> Option<UnitDecision> {
        let size = unit.line_count();
        let mut all = match self.get(&unit.id) {
            Some(UnitDecision::Lines(runs)) => runs.iter().flat_map(|(n, d)| std::iter::repeat_n(*d, *n)).collect(),
            Some(UnitDecision::Edited(_)) => vec![None; size],
            _ => vec![self.line_decision(&unit.id, 0); size],
        };
        all.resize(size, None);
        lines.into_iter().filter(|line| *line < size).for_each(|line| all[line] = decision);
        UnitDecision::from_lines(&all)
    }

    /// Sets or removes the decision on a unit, and returns the previous one.
    pub fn set_decision(&mut self, id: &str, decision: Option<UnitDecision>) -> Option<UnitDecision> {
        match decision {
            Some(decision) => self.units.insert(id.to_owned(), decision),
            None => self.units.remove(id),
        }
    }

    /// Sets or removes a comment, and returns the previous one.
    pub fn set_comment(&mut self, anchor: CommentAnchor, text: Option<String>) -> Option<String> {
        match text {
            Some(text) => self.comments.insert(anchor, text),
            None => self.comments.remove(&anchor),
        }
    }

    /// Returns all decisions with their unit ids.
    pub fn unit_decisions(&self) -> impl Iterator<Item = (&str, &UnitDecision)> {
        self.units.iter().map(|(id, decision)| (id.as_str(), decision))
    }

    /// Returns all comments with their anchors.
    pub fn all_comments(&self) -> impl Iterator<Item = (&CommentAnchor, &str)> {
        self.comments.iter().map(|(anchor, text)| (anchor, text.as_str()))
    }

    /// Returns the comments on a unit. Those on the whole unit come first.
    pub fn comments_on(&self, id: &str) -> impl Iterator<Item = (&CommentAnchor, &str)> {
        let from = CommentAnchor { unit: id.to_owned(), scope: CommentScope::Unit };
        let id = id.to_owned();
        let found = self.comments.range(from..).take_while(move |(anchor, _)| anchor.unit == id);
        found.map(|(anchor, text)| (anchor, text.as_str()))
    }
}

impl UnitDecision {
    /// Creates a decision from one for each line. Returns `None` if all lines are undecided.
    #[must_use]
    pub fn from_lines(lines: &[Option<Decision>]) -> Option<Self> {
        let runs = lines.chunk_by(|a, b| a == b).map(|run| (run.len(), run[0])).collect::<Vec<_>>();
        if runs.is_empty() {
            return None;
        }
        Self::Lines(runs).simplify_lines()
    }

    /// Returns the decision on the whole unit if that is the decision on each line, and `None` if all lines are undecided. To be
    /// called after [`UnitDecision::is_valid_for`], because the number of lines is lost.
    #[must_use]
    pub fn simplify_lines(self) -> Option<Self> {
        match &self {
            Self::Lines(runs) => match runs[..] {
                [(_, decision)] => decision.map(Self::All),
                _ => Some(self),
            },
            _ => Some(self),
        }
    }

    /// Returns the lines with a matching decision. Only [`UnitDecision::Lines`] has any.
    pub fn matching_lines(&self, is_match: impl Fn(Option<Decision>) -> bool) -> LineSet {
        let runs = if let Self::Lines(runs) = self { runs.as_slice() } else { &[] };
        let mut from = 0;
        LineSet::from_lines(runs.iter().flat_map(|(n, decision)| {
            from += n;
            from - n..if is_match(*decision) { from } else { from - n }
        }))
    }

    /// Returns whether a unit can have this decision. Only hunks can be decided by line or edited, and decisions by line
    /// must cover every line.
    #[must_use]
    pub fn is_valid_for(&self, unit: &Unit) -> bool {
        let is_hunk = matches!(unit.kind, crate::changes::UnitKind::Hunk { .. });
        match self {
            Self::All(_) => true,
            Self::Lines(runs) => is_hunk && runs.iter().map(|(n, _)| n).sum::<usize>() == unit.line_count(),
            Self::Edited(_) => is_hunk,
        }
    }
}

impl fmt::Display for UnitDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(Decision::Accepted) => f.write_str("accepted"),
            Self::All(Decision::Rejected) => f.write_str("rejected"),
            Self::Edited(hash) => write!(f, "edited {hash}"),
            Self::Lines(lines) => {
                f.write_str("lines ")?;
                lines.iter().try_for_each(|(n, decision)| {
                    if *n > 1 {
                        write!(f, "{n}")?;
                    }
                    f.write_str(match decision {
                        Some(Decision::Accepted) => "y",
                        Some(Decision::Rejected) => "n",
                        None => ".",
                    })
                })
            }
        }
    }
}

/// Maximum length of a run. No hunk has so many lines.
const MAX_RUN_LINES: usize = 1 << 32;

/// The error for a string that is not a decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a decision (accepted, rejected, or lines followed by y, n or . for each line)")]
pub struct ParseDecisionError(String);

impl FromStr for UnitDecision {
    type Err = ParseDecisionError;

    fn from_str(text: &str) -> Result<Self, ParseDecisionError> {
        let wrong = || ParseDecisionError(text.chars().take(80).collect());
        match text.split_once(' ') {
            None if text == "accepted" => Ok(Self::All(Decision::Accepted)),
            None if text == "rejected" => Ok(Self::All(Decision::Rejected)),
            Some(("edited", hash)) => Ok(Self::Edited(hash.to_owned().try_into().map_err(|_| wrong())?)),
            Some(("lines", letters)) if !letters.is_empty() => {
                let mut runs: Vec<(usize, Option<Decision>)> = Vec::new();
                for run in letters.split_inclusive(|c: char| !c.is_ascii_digit()) {
                    let (digits, decision) = match run.split_at_checked(run.len() - 1) {
                        Some((digits, "y")) => (digits, Some(Decision::Accepted)),
                        Some((digits, "n")) => (digits, Some(Decision::Rejected)),
                        Some((digits, ".")) => (digits, None),
                        _ => return Err(wrong()),
                    };
                    let n = if digits.is_empty() { 1 } else { digits.parse().map_err(|_| wrong())? };
                    match runs.last_mut() {
                        _ if n == 0 || n > MAX_RUN_LINES => return Err(wrong()),
                        Some((before, same)) if *same == decision => *before += n,
                        _ => runs.push((n, decision)),
                    }
                }
                Ok(Self::Lines(runs))
            }
            _ => Err(wrong()),
        }
    }
}

impl TryFrom<String> for UnitDecision {
    type Error = ParseDecisionError;

    fn try_from(text: String) -> Result<Self, ParseDecisionError> {
        let parsed: Self = text.parse()?;
        Ok(parsed.clone().simplify_lines().unwrap_or(parsed))
    }
}

impl From<UnitDecision> for String {
    fn from(decision: UnitDecision) -> Self {
        decision.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::UnitKind;

    #[test]
    fn decisions_round_trip() {
        let hash = ContentHash::from_content(b"x");
        for text in ["accepted", "rejected", "lines y2n.", &format!("edited {hash}")] {
            assert_eq!(text.parse::<UnitDecision>().expect("valid unit decision").to_string(), text);
        }
        for bad in
            ["", "undecided", "lines", "lines ", "lines yx", "edited", "edited x", "accepted ", "lines 0y", "lines 2"]
        {
            assert!(bad.parse::<UnitDecision>().is_err(), "{bad}");
        }
    }

    #[test]
    fn line_decisions_add_up_to_unit_decision() {
        let unit = Unit { id: "u".into(), kind: UnitKind::Hunk { old: 0..1, new: 0..2 } };
        let mut decisions = Decisions::default();
        let first = decisions.with_lines(&unit, [0], Some(Decision::Accepted));
        decisions.set_decision("u", first);
        assert_eq!(decisions.accepted_part(&unit), Some(UnitSelection::Lines(LineSet::from_lines([0]))));
        assert_eq!(decisions.count_lines(&unit), DecisionCounts { accepted: 1, rejected: 0, undecided: 2 });
        assert_eq!(decisions.with_lines(&unit, [0, 9], None), None);
        let all = decisions.with_lines(&unit, 1..3, Some(Decision::Accepted));
        assert_eq!(all, Some(UnitDecision::All(Decision::Accepted)));
        let is_valid = |text: &str| text.parse::<UnitDecision>().expect("valid unit decision").is_valid_for(&unit);
        assert!(is_valid("lines yn.") && is_valid("lines 2yn") && !is_valid("lines yn") && is_valid("accepted"));
        assert!(is_valid("lines 2yy") && !is_valid("lines 2y") && !is_valid("lines 2."), "the number of lines counts");
        let simple = |text: &str| text.parse::<UnitDecision>().expect("valid unit decision").simplify_lines();
        assert_eq!(simple("lines 2yy"), Some(UnitDecision::All(Decision::Accepted)));
        assert_eq!(simple("lines 3."), None);
    }
}
