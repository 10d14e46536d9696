//! The review as a pure state machine: it takes the user's actions and returns the next state.
//!
//! This module does not read keys, draw or access files. Every change of a decision, a comment or a split can be undone,
//! without limit. [`ReviewState::take_events`] returns the events to save.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::decisions::{CommentAnchor, Decision, Decisions, UnitDecision};
use super::{ReviewFile, ReviewModel};
use crate::changes::{ContentHash, LineSet, Unit, UnitSelection};
use crate::core::escape::Escaped;

/// Lines of a unit, by the indexes of the file and the unit in the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecisionTarget {
    pub file: usize,
    pub unit: usize,
    /// The lines. `None` is the whole unit.
    pub lines: Option<LineSet>,
}

impl DecisionTarget {
    /// Returns whether the target is the whole unit.
    fn covers(&self, unit: &Unit) -> bool {
        self.lines.as_ref().is_none_or(|lines| lines.len() >= unit.line_count())
    }
}

/// An action of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Decides on the visible target, which also confirms high-risk changes explicitly.
    Decide(Vec<DecisionTarget>, Option<Decision>),
    /// Decides on many units at once. This does not accept high-risk or hidden units.
    BulkDecide {
        items: Vec<DecisionTarget>,
        decision: Decision,
        /// Number of further units that are covered but not visible.
        hidden: usize,
    },
    /// Replaces a hunk with another text. `None` rejects the hunk.
    Edit(DecisionTarget, Option<ContentHash>),
    /// Adds or removes a comment.
    Comment(CommentAnchor, Option<String>),
    /// Splits a hunk above a row, in the order of [`crate::changes::interleave_lines`], or joins it there again.
    Split(String, usize),
    /// Undoes the last change.
    Undo,
    Redo,
}

/// A change that can be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Ruling { unit: String, before: Option<UnitDecision>, after: Option<UnitDecision> },
    Comment { anchor: CommentAnchor, before: Option<String>, after: Option<String> },
    Split { unit: String, row: usize, is_there: bool },
}

/// An event of a review, as one line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// The decision on a unit, or its removal.
    Ruling {
        unit: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        is: Option<UnitDecision>,
    },
    /// A comment, or its removal.
    Comment {
        unit: String,
        /// The line. `None` is the whole unit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        line: Option<usize>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// A split of a hunk above a row, or its removal.
    Split { unit: String, row: usize, is: bool },
    /// Lines of a unit that were visible on the screen.
    Seen { unit: String, lines: String },
    /// The changeset that is reviewed from this event on.
    Round { changeset: String },
    /// Rejections and comments that were sent to the agent.
    Sent {
        /// The items, each as a hash of its location and text.
        items: Vec<String>,
    },
}

/// The state of a review.
#[derive(Debug, Clone, Default)]
pub struct ReviewState {
    /// The decisions and comments.
    pub decisions: Decisions,
    /// Rows above which a hunk is split, by unit id.
    splits: BTreeMap<String, BTreeSet<usize>>,
    /// Lines that were visible on the screen, by unit id.
    seen: BTreeMap<String, LineSet>,
    /// Items that were sent to the agent.
    sent: BTreeSet<String>,
    /// Ids of the changesets that were reviewed, in order.
    rounds: Vec<String>,
    past: Vec<Vec<Change>>,
    future: Vec<Vec<Change>>,
    events: Vec<Event>,
    /// The message about the last action, if its result is not visible.
    pub said: Option<String>,
    /// The units that the last undo or redo changed.
    pub touched: Vec<String>,
}

impl ReviewState {
    /// Creates the state from saved events.
    #[must_use]
    pub fn of(events: impl IntoIterator<Item = Event>) -> Self {
        let mut state = Self::default();
        for event in events {
            state.apply_event(event);
        }
        state
    }

    fn apply_event(&mut self, event: Event) {
        match event {
            Event::Ruling { unit, is } => {
                self.decisions.set(&unit, is);
            }
            Event::Comment { unit, line, text } => {
                self.decisions.comment((unit, line), text);
            }
            Event::Split { unit, row, is } => self.set_split(&unit, row, is),
            Event::Seen { unit, lines } => {
                if let Ok(lines) = lines.parse() {
                    let seen = self.seen.entry(unit).or_default();
                    *seen = seen.union(&lines);
                }
            }
            Event::Sent { items } => self.sent.extend(items),
            Event::Round { changeset } => self.rounds.push(changeset),
        }
    }

    /// Returns the events that turn an empty state into this one.
    #[must_use]
    pub fn to_events(&self) -> Vec<Event> {
        let rulings = self.decisions.unit_decisions();
        let rulings = rulings.map(|(unit, ruling)| Event::Ruling { unit: unit.to_owned(), is: Some(ruling.clone()) });
        let comments = self.decisions.comments().map(|((unit, line), text)| Event::Comment {
            unit: unit.clone(),
            line: *line,
            text: Some(text.to_owned()),
        });
        let splits = self.splits.iter().flat_map(|(unit, rows)| {
            rows.iter().map(move |row| Event::Split { unit: unit.clone(), row: *row, is: true })
        });
        let seen = self.seen.iter().map(|(unit, lines)| Event::Seen { unit: unit.clone(), lines: lines.to_string() });
        let sent = (!self.sent.is_empty()).then(|| Event::Sent { items: self.sent.iter().cloned().collect() });
        let rounds = self.rounds.iter().map(|id| Event::Round { changeset: id.clone() });
        rounds.chain(rulings).chain(comments).chain(splits).chain(seen).chain(sent).collect()
    }

    /// Returns the events since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Returns whether a hunk is split.
    #[must_use]
    pub fn is_parted(&self, unit: &Unit) -> bool {
        self.splits.contains_key(&unit.id) && !matches!(self.decisions.get(&unit.id), Some(UnitDecision::Edited(_)))
    }

    /// Returns the parts of a hunk as ranges of rows. A hunk that is not split has one part.
    #[must_use]
    pub fn parts(&self, unit: &Unit) -> Vec<std::ops::Range<usize>> {
        // A replacement text stands for the whole hunk.
        if matches!(self.decisions.get(&unit.id), Some(UnitDecision::Edited(_))) {
            return std::iter::once(0..unit.line_count()).collect();
        }
        let cuts =
            self.splits.get(&unit.id).into_iter().flatten().copied().filter(|row| (1..unit.line_count()).contains(row));
        let mut from = 0;
        let mut parts: Vec<_> = cuts.map(|row| std::mem::replace(&mut from, row)..row).collect();
        parts.push(from..unit.line_count());
        parts
    }

    /// Returns the ids of the changesets that were reviewed, in order.
    #[must_use]
    pub fn rounds(&self) -> &[String] {
        &self.rounds
    }

    /// Starts the round of another changeset.
    pub fn begin_round(&mut self, changeset: &str) {
        let event = Event::Round { changeset: changeset.to_owned() };
        self.apply_event(event.clone());
        self.events.push(event);
    }

    /// Revokes acceptances of changes that have since become risky. This is not an action of the user, so it cannot be
    /// undone. Rejections and the user's own texts are kept.
    pub fn forget_accepted<'a>(&mut self, units: impl IntoIterator<Item = &'a Unit>) {
        let mut open = 0;
        for unit in units {
            let is = match (self.decisions.selection_of(unit), self.decisions.get(&unit.id)) {
                (None | Some(UnitSelection::Text(_)), _) => continue,
                (_, Some(ruling @ UnitDecision::Lines(_))) => {
                    let accepted = ruling.lines(|decision| decision == Some(Decision::Accepted));
                    self.decisions.with_lines(unit, accepted.iter(), None)
                }
                _ => None,
            };
            let event = Event::Ruling { unit: unit.id.clone(), is };
            self.apply_event(event.clone());
            self.events.push(event);
            open += 1;
        }
        if open > 0 {
            let hunk = if open == 1 { "1 hunk is" } else { &format!("{open} hunks are") };
            self.said = Some(format!("{hunk} open again: the file needs a closer look now"));
        }
    }

    /// Returns whether a rejection or comment was already sent in this form.
    #[must_use]
    pub fn is_sent(&self, item: &str) -> bool {
        self.sent.contains(item)
    }

    /// Records that lines of a unit were visible on the screen.
    pub fn mark_viewed(&mut self, unit: &str, lines: &LineSet) {
        let seen = self.seen.get(unit);
        if lines.iter().all(|line| seen.is_some_and(|seen| seen.contains(line))) {
            return;
        }
        let all = seen.map_or_else(|| lines.clone(), |seen| seen.union(lines));
        self.seen.insert(unit.to_owned(), all);
        self.events.push(Event::Seen { unit: unit.to_owned(), lines: lines.to_string() });
    }

    /// Counts the accepted lines that were never visible on the screen.
    #[must_use]
    pub fn unseen(&self, unit: &Unit) -> usize {
        let accepted = match self.decisions.selection_of(unit) {
            None | Some(UnitSelection::Text(_)) => return 0,
            Some(UnitSelection::All) => LineSet::up_to(unit.line_count()),
            Some(UnitSelection::Lines(lines)) => lines,
        };
        self.seen.get(&unit.id).map_or(accepted.len(), |seen| accepted.difference(seen).len())
    }

    /// Counts the lines of a unit that were never visible on the screen, among the given lines or all lines.
    #[must_use]
    pub fn not_shown(&self, unit: &Unit, lines: Option<&LineSet>) -> usize {
        let all = lines.cloned().unwrap_or_else(|| LineSet::up_to(unit.line_count()));
        self.seen.get(&unit.id).map_or(all.len(), |seen| all.difference(seen).len())
    }

    fn set_split(&mut self, unit: &str, row: usize, is: bool) {
        let rows = self.splits.entry(unit.to_owned()).or_default();
        if is {
            rows.insert(row);
        } else {
            rows.remove(&row);
        }
        if rows.is_empty() {
            self.splits.remove(unit);
        }
    }

    /// Applies changes, and records their events.
    fn put(&mut self, changes: &[Change]) {
        for change in changes {
            let event = match change.clone() {
                Change::Ruling { unit, after, .. } => Event::Ruling { unit, is: after },
                Change::Comment { anchor: (unit, line), after, .. } => Event::Comment { unit, line, text: after },
                Change::Split { unit, row, is_there } => Event::Split { unit, row, is: is_there },
            };
            self.apply_event(event.clone());
            self.events.push(event);
        }
    }

    fn make(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.put(&changes);
            self.past.push(changes);
            self.future.clear();
        }
    }

    fn ruling(&self, unit: &str, after: Option<UnitDecision>) -> Option<Change> {
        let before = self.decisions.get(unit).cloned();
        (before != after).then(|| Change::Ruling { unit: unit.to_owned(), before, after })
    }

    fn decide(&self, sheet: &ReviewModel<'_>, items: &[DecisionTarget], decision: Option<Decision>) -> Vec<Change> {
        // Several targets may belong to one unit.
        let mut rulings: BTreeMap<&str, Option<UnitDecision>> = BTreeMap::new();
        let mut scratch = Decisions::default();
        for item in items {
            let Some(unit) = unit_of(sheet, item) else { continue };
            let after = match &item.lines {
                // The user's own text is not decided by the lines that it replaced.
                Some(_)
                    if !item.covers(unit) && matches!(self.decisions.get(&unit.id), Some(UnitDecision::Edited(_))) =>
                {
                    continue;
                }
                Some(lines) if !item.covers(unit) => {
                    let before = rulings.get(unit.id.as_str()).cloned();
                    scratch.set(&unit.id, before.unwrap_or_else(|| self.decisions.get(&unit.id).cloned()));
                    scratch.with_lines(unit, lines.iter(), decision)
                }
                _ => decision.map(|decision| match (decision, self.decisions.get(&unit.id)) {
                    // An edit is already accepted.
                    (Decision::Accepted, Some(edited @ UnitDecision::Edited(_))) => edited.clone(),
                    _ => UnitDecision::All(decision),
                }),
            };
            rulings.insert(&unit.id, after);
        }
        rulings.into_iter().filter_map(|(unit, after)| self.ruling(unit, after)).collect()
    }

    fn travel(&mut self, back: bool) {
        let (from, to, word) =
            if back { (&mut self.past, &mut self.future, "undo") } else { (&mut self.future, &mut self.past, "redo") };
        let Some(changes) = from.pop() else {
            self.said = Some(format!("there is nothing to {word}"));
            return;
        };
        let other_way: Vec<Change> = changes.iter().rev().cloned().map(Change::reversed).collect();
        to.push(other_way.clone());
        self.touched = changes.iter().map(|change| change.unit().to_owned()).collect();
        self.put(&other_way);
    }
}

impl Change {
    fn reversed(self) -> Self {
        match self {
            Self::Ruling { unit, before, after } => Self::Ruling { unit, before: after, after: before },
            Self::Comment { anchor, before, after } => Self::Comment { anchor, before: after, after: before },
            Self::Split { unit, row, is_there } => Self::Split { unit, row, is_there: !is_there },
        }
    }

    fn unit(&self) -> &str {
        match self {
            Self::Ruling { unit, .. } | Self::Comment { anchor: (unit, _), .. } | Self::Split { unit, .. } => unit,
        }
    }
}

fn unit_of<'a>(sheet: &'a ReviewModel<'_>, item: &DecisionTarget) -> Option<&'a Unit> {
    sheet.files.get(item.file)?.units.get(item.unit)
}

/// Returns the message that a file cannot be accepted, with the reason.
#[must_use]
pub fn refusal(file: &ReviewFile<'_>) -> String {
    let reason = file.change.findings.first().map_or("", |f| f.reason.as_str());
    format!("{} cannot be accepted: it {}", Escaped::new(file.change.path.as_bytes()), Escaped::new(reason))
}

/// Returns the state after an action.
#[must_use]
pub fn update(mut state: ReviewState, sheet: &ReviewModel<'_>, action: Action) -> ReviewState {
    state.said = None;
    state.touched.clear();
    let refused = |items: &[DecisionTarget]| {
        items.iter().filter_map(|item| sheet.files.get(item.file)).find(|file| file.is_refused()).map(refusal)
    };
    match action {
        Action::Decide(items, decision) => {
            if decision == Some(Decision::Accepted)
                && let Some(why) = refused(&items)
            {
                state.said = Some(why);
                return state;
            }
            let is_part = |item: &DecisionTarget| {
                let unit = unit_of(sheet, item);
                let is_edited = |u: &&Unit| matches!(state.decisions.get(&u.id), Some(UnitDecision::Edited(_)));
                item.lines.is_some() && unit.filter(is_edited).is_some_and(|u| !item.covers(u))
            };
            // The lines of an edited hunk are not the lines of its result.
            if items.iter().any(is_part) {
                state.said = Some("this hunk is edited: decide on all of it, or undo the edit (u)".into());
                return state;
            }
            let changes = state.decide(sheet, &items, decision);
            state.make(changes);
        }
        Action::BulkDecide { items, decision, hidden } => {
            let needs_own_yes = |item: &&DecisionTarget| {
                decision == Decision::Accepted && sheet.files.get(item.file).is_some_and(ReviewFile::is_risky)
            };
            let is_open = |item: &&DecisionTarget| {
                unit_of(sheet, item).is_some_and(|unit| state.decisions.count_lines(unit).accepted < unit.line_count())
            };
            let passed = items.iter().filter(needs_own_yes).filter(is_open).count();
            let taken: Vec<DecisionTarget> = items.iter().filter(|item| !needs_own_yes(item)).cloned().collect();
            let changes = state.decide(sheet, &taken, Some(decision));
            let done = changes.len();
            state.make(changes);
            let mut said = Vec::new();
            if passed > 0 {
                said.push(format!("{passed} of high risk left: each needs its own confirmation"));
            }
            if hidden > 0 && decision == Decision::Accepted {
                said.push(format!("{hidden} left that this view hides"));
            }
            let word = if decision == Decision::Accepted { "accepted" } else { "rejected" };
            said.insert(0, format!("{done} {word}"));
            state.said = Some(said.join(" · "));
        }
        Action::Edit(item, text) => {
            let Some(unit) = unit_of(sheet, &item) else { return state };
            if text.is_some()
                && let Some(why) = refused(std::slice::from_ref(&item))
            {
                state.said = Some(why);
                return state;
            }
            let after = text.map_or(UnitDecision::All(Decision::Rejected), UnitDecision::Edited);
            let changes = state.ruling(&unit.id, Some(after)).into_iter().collect();
            state.make(changes);
        }
        Action::Comment(anchor, after) => {
            let before = state.decisions.comments().find(|(at, _)| **at == anchor).map(|(_, text)| text.to_owned());
            let after = after.filter(|text| !text.trim().is_empty());
            if before != after {
                state.make(vec![Change::Comment { anchor, before, after }]);
            }
        }
        Action::Split(unit, row) => {
            let is_there = !state.splits.get(&unit).is_some_and(|rows| rows.contains(&row));
            state.make(vec![Change::Split { unit, row, is_there }]);
        }
        Action::Undo => state.travel(true),
        Action::Redo => state.travel(false),
    }
    state
}
