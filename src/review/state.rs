//! The review as a pure state machine: it takes the user's actions and returns the next state.
//!
//! This module does not read keys, draw or access files. Every change of a decision, a comment or a split can be undone,
//! without limit. [`ReviewState::take_events`] returns the events to save.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::decisions::{CommentAnchor, Decision, Decisions, UnitDecision};
use super::{ReviewFile, ReviewModel};
use crate::changes::{ConflictChoice, ContentHash, LineSet, Unit, UnitSelection};
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;

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
    fn covers_unit(&self, unit: &Unit) -> bool {
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
    /// Chooses the result of a region in conflict, by its ID, or takes the choice back.
    Choose {
        region: String,
        choice: Option<ConflictChoice>,
        /// The undecided units of the region that are accepted with a choice, or are undecided again without it.
        accepts: Vec<DecisionTarget>,
    },
    /// Splits a hunk above a row, in the order of `crate::changes::interleave_lines`, or joins it there again.
    Split(String, usize),
    /// Undoes the last change.
    Undo,
    Redo,
}

/// A change that can be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Decision { unit: String, before: Option<UnitDecision>, after: Option<UnitDecision> },
    Comment { anchor: CommentAnchor, before: Option<String>, after: Option<String> },
    Split { unit: String, row: usize, is_split: bool },
    Choice { region: String, before: Option<ConflictChoice>, after: Option<ConflictChoice> },
}

/// An event of a review, as one line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Event {
    /// The decision on a unit, or its removal.
    Decision {
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
        /// The rows of a part of a split hunk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        part: Option<[usize; 2]>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// The choice for a region in conflict with the working tree, or its removal.
    Choice {
        region: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        is: Option<ConflictChoice>,
    },
    /// A split of a hunk above a row, or its removal.
    Split { unit: String, row: usize, is: bool },
    /// A rename that is reviewed as an addition and a deletion, by its new path, or as one change again.
    SeparateRename { path: RepoPath, is: bool },
    /// Lines of a unit that were visible on the screen.
    Viewed { unit: String, lines: String },
    /// The changeset that is reviewed from this event on.
    Round { changeset: String },
    /// Rejections and comments that were sent to the agent.
    Sent {
        /// The items, each as a hash of its location and text.
        items: Vec<String>,
    },
}

impl Event {
    /// Returns the event of a comment, or of its removal.
    #[must_use]
    pub fn comment_event(anchor: &CommentAnchor, text: Option<String>) -> Self {
        Self::Comment { unit: anchor.unit.clone(), line: anchor.scope_line(), part: anchor.scope_part(), text }
    }
}

/// The state of a review.
#[derive(Debug, Clone, Default)]
pub struct ReviewState {
    /// The decisions and comments.
    pub decisions: Decisions,
    /// Rows above which a hunk is split, by unit id.
    splits: BTreeMap<String, BTreeSet<usize>>,
    /// New paths of renames that are reviewed as an addition and a deletion.
    separate_renames: BTreeSet<RepoPath>,
    /// Lines that were visible on the screen, by unit id.
    viewed: BTreeMap<String, LineSet>,
    /// Items that were sent to the agent.
    sent: BTreeSet<String>,
    /// Ids of the changesets that were reviewed, in order.
    rounds: Vec<String>,
    undo_stack: Vec<Vec<Change>>,
    redo_stack: Vec<Vec<Change>>,
    events: Vec<Event>,
    /// The message about the last action, if its result is not visible.
    pub message: Option<String>,
    /// The units that the last undo or redo changed.
    pub touched: Vec<String>,
}

impl ReviewState {
    /// Creates the state from saved events.
    #[must_use]
    pub fn from_events(events: impl IntoIterator<Item = Event>) -> Self {
        let mut state = Self::default();
        for event in events {
            state.apply_event(event);
        }
        state
    }

    fn apply_event(&mut self, event: Event) {
        match event {
            Event::Decision { unit, is } => {
                self.decisions.set_decision(&unit, is);
            }
            Event::Comment { unit, line, part, text } => {
                self.decisions.set_comment(CommentAnchor::new(&unit, line, part), text);
            }
            Event::Choice { region, is } => self.decisions.set_choice(&region, is),
            Event::Split { unit, row, is } => self.set_split(&unit, row, is),
            Event::SeparateRename { path, is: true } => {
                self.separate_renames.insert(path);
            }
            Event::SeparateRename { path, is: false } => {
                self.separate_renames.remove(&path);
            }
            Event::Viewed { unit, lines } => {
                if let Ok(lines) = lines.parse() {
                    let seen = self.viewed.entry(unit).or_default();
                    *seen = seen.union(&lines);
                }
            }
            Event::Sent { items } => self.sent.extend(items),
            Event::Round { changeset } => self.rounds.push(changeset),
        }
    }

    /// Applies events that were saved after the state was read.
    pub fn record_events(&mut self, events: impl IntoIterator<Item = Event>) {
        events.into_iter().for_each(|event| self.apply_event(event));
    }

    /// Returns the events that turn an empty state into this one.
    #[must_use]
    pub fn to_events(&self) -> Vec<Event> {
        let unit_decisions = self.decisions.unit_decisions();
        let unit_decisions = unit_decisions
            .map(|(unit, unit_decision)| Event::Decision { unit: unit.to_owned(), is: Some(unit_decision.clone()) });
        let comments =
            self.decisions.all_comments().map(|(anchor, text)| Event::comment_event(anchor, Some(text.to_owned())));
        let splits = self.splits.iter().flat_map(|(unit, rows)| {
            rows.iter().map(move |row| Event::Split { unit: unit.clone(), row: *row, is: true })
        });
        let choices = self.decisions.conflict_choices().iter();
        let choices =
            choices.map(|(region, choice)| Event::Choice { region: region.clone(), is: Some(choice.clone()) });
        let seen =
            self.viewed.iter().map(|(unit, lines)| Event::Viewed { unit: unit.clone(), lines: lines.to_string() });
        let sent = (!self.sent.is_empty()).then(|| Event::Sent { items: self.sent.iter().cloned().collect() });
        let rounds = self.rounds.iter().map(|id| Event::Round { changeset: id.clone() });
        let separate = self.separate_renames.iter();
        let separate = separate.map(|path| Event::SeparateRename { path: path.clone(), is: true });
        rounds
            .chain(unit_decisions)
            .chain(comments)
            .chain(choices)
            .chain(splits)
            .chain(separate)
            .chain(seen)
            .chain(sent)
            .collect()
    }

    /// Returns the events since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Returns whether a hunk is split.
    #[must_use]
    pub fn is_split(&self, unit: &Unit) -> bool {
        self.splits.contains_key(&unit.id) && !matches!(self.decisions.get(&unit.id), Some(UnitDecision::Edited(_)))
    }

    /// Returns the parts of a hunk as ranges of rows. A hunk that is not split has one part.
    #[must_use]
    pub fn hunk_parts(&self, unit: &Unit) -> Vec<std::ops::Range<usize>> {
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

    /// Returns the new paths of renames that are reviewed as an addition and a deletion.
    #[must_use]
    pub fn separate_renames(&self) -> &BTreeSet<RepoPath> {
        &self.separate_renames
    }

    /// Switches a rename between one change, and an addition and a deletion. The model must be opened again.
    pub fn toggle_separate_rename(&mut self, path: &RepoPath) {
        let event = Event::SeparateRename { path: path.clone(), is: !self.separate_renames.contains(path) };
        self.apply_event(event.clone());
        self.events.push(event);
    }

    /// Returns the ids of the changesets that were reviewed, in order.
    #[must_use]
    pub fn reviewed_rounds(&self) -> &[String] {
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
    pub fn revoke_accepted<'a>(&mut self, units: impl IntoIterator<Item = &'a Unit>) {
        let mut open = 0;
        for unit in units {
            let is = match (self.decisions.accepted_part(unit), self.decisions.get(&unit.id)) {
                (None | Some(UnitSelection::Text(_)), _) => continue,
                (_, Some(unit_decision @ UnitDecision::Lines(_))) => {
                    let accepted = unit_decision.matching_lines(|decision| decision == Some(Decision::Accepted));
                    self.decisions.with_lines(unit, accepted.iter(), None)
                }
                _ => None,
            };
            let event = Event::Decision { unit: unit.id.clone(), is };
            self.apply_event(event.clone());
            self.events.push(event);
            open += 1;
        }
        if open > 0 {
            let hunk = if open == 1 { "1 hunk is" } else { &format!("{open} hunks are") };
            self.message = Some(format!("{hunk} undecided again: the file is now high risk"));
        }
    }

    /// Adopts acceptances of the last round for lines that came back equal. This is not an action of the user, so it cannot be
    /// undone.
    pub fn keep_accepted(&mut self, kept: Vec<(String, UnitDecision)>) {
        let count = kept.len();
        for (unit, decision) in kept {
            let event = Event::Decision { unit, is: Some(decision) };
            self.apply_event(event.clone());
            self.events.push(event);
        }
        if count > 0 {
            let hunks = if count == 1 { "1 changed hunk".to_owned() } else { format!("{count} changed hunks") };
            let note = format!("in {hunks}, lines that came back equal stay accepted");
            self.message = Some(self.message.take().map_or(note.clone(), |message| format!("{message} · {note}")));
        }
    }

    /// Returns whether a rejection or comment was already sent in this form.
    #[must_use]
    pub fn is_sent(&self, item: &str) -> bool {
        self.sent.contains(item)
    }

    /// Records that lines of a unit were visible on the screen.
    pub fn mark_viewed(&mut self, unit: &str, lines: &LineSet) {
        let seen = self.viewed.get(unit);
        if lines.iter().all(|line| seen.is_some_and(|seen| seen.contains_line(line))) {
            return;
        }
        let all = seen.map_or_else(|| lines.clone(), |seen| seen.union(lines));
        self.viewed.insert(unit.to_owned(), all);
        self.events.push(Event::Viewed { unit: unit.to_owned(), lines: lines.to_string() });
    }

    /// Counts the accepted lines that were never visible on the screen.
    #[must_use]
    pub fn count_unseen_accepted(&self, unit: &Unit) -> usize {
        let accepted = match self.decisions.accepted_part(unit) {
            None | Some(UnitSelection::Text(_)) => return 0,
            Some(UnitSelection::All) => LineSet::from_prefix(unit.line_count()),
            Some(UnitSelection::Lines(lines)) => lines,
        };
        self.viewed.get(&unit.id).map_or(accepted.len(), |seen| accepted.difference(seen).len())
    }

    /// Counts the lines of a unit that were never visible on the screen, among the given lines or all lines.
    #[must_use]
    pub fn count_unseen(&self, unit: &Unit, lines: Option<&LineSet>) -> usize {
        let all = lines.cloned().unwrap_or_else(|| LineSet::from_prefix(unit.line_count()));
        self.viewed.get(&unit.id).map_or(all.len(), |seen| all.difference(seen).len())
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
    fn apply_changes(&mut self, changes: &[Change]) {
        for change in changes {
            let event = match change.clone() {
                Change::Decision { unit, after, .. } => Event::Decision { unit, is: after },
                Change::Comment { anchor, after, .. } => Event::comment_event(&anchor, after),
                Change::Split { unit, row, is_split: is_there } => Event::Split { unit, row, is: is_there },
                Change::Choice { region, after, .. } => Event::Choice { region, is: after },
            };
            self.apply_event(event.clone());
            self.events.push(event);
        }
    }

    fn perform_changes(&mut self, changes: Vec<Change>) {
        if !changes.is_empty() {
            self.apply_changes(&changes);
            self.undo_stack.push(changes);
            self.redo_stack.clear();
        }
    }

    fn decision_change(&self, unit: &str, after: Option<UnitDecision>) -> Option<Change> {
        let before = self.decisions.get(unit).cloned();
        (before != after).then(|| Change::Decision { unit: unit.to_owned(), before, after })
    }

    fn decision_changes(
        &self,
        model: &ReviewModel<'_>,
        items: &[DecisionTarget],
        decision: Option<Decision>,
    ) -> Vec<Change> {
        // Several targets may belong to one unit.
        let mut unit_decisions: BTreeMap<&str, Option<UnitDecision>> = BTreeMap::new();
        let mut scratch = Decisions::default();
        for item in items {
            let Some(unit) = target_unit(model, item) else { continue };
            let after = match &item.lines {
                // The user's own text is not decided by the lines that it replaced.
                Some(_)
                    if !item.covers_unit(unit)
                        && matches!(self.decisions.get(&unit.id), Some(UnitDecision::Edited(_))) =>
                {
                    continue;
                }
                Some(lines) if !item.covers_unit(unit) => {
                    let before = unit_decisions.get(unit.id.as_str()).cloned();
                    scratch.set_decision(&unit.id, before.unwrap_or_else(|| self.decisions.get(&unit.id).cloned()));
                    scratch.with_lines(unit, lines.iter(), decision)
                }
                _ => decision.map(|decision| match (decision, self.decisions.get(&unit.id)) {
                    // An edit is already accepted.
                    (Decision::Accepted, Some(edited @ UnitDecision::Edited(_))) => edited.clone(),
                    _ => UnitDecision::All(decision),
                }),
            };
            unit_decisions.insert(&unit.id, after);
        }
        unit_decisions.into_iter().filter_map(|(unit, after)| self.decision_change(unit, after)).collect()
    }

    fn undo_or_redo(&mut self, model: &ReviewModel<'_>, back: bool) {
        let (from, to, word) = if back {
            (&mut self.undo_stack, &mut self.redo_stack, "undo")
        } else {
            (&mut self.redo_stack, &mut self.undo_stack, "redo")
        };
        let Some(changes) = from.pop() else {
            self.message = Some(format!("nothing to {word}"));
            return;
        };
        let other_way: Vec<Change> = changes.iter().rev().cloned().map(Change::reversed_change).collect();
        to.push(other_way.clone());
        self.touched = changes.iter().map(|change| change.unit_id().to_owned()).collect();
        self.apply_changes(&other_way);
        self.message = Some(match back {
            true => format!("undone: {}", describe_changes(model, &changes)),
            false => format!("redone: {}", describe_changes(model, &other_way)),
        });
    }
}

impl Change {
    fn reversed_change(self) -> Self {
        match self {
            Self::Decision { unit, before, after } => Self::Decision { unit, before: after, after: before },
            Self::Comment { anchor, before, after } => Self::Comment { anchor, before: after, after: before },
            Self::Split { unit, row, is_split: is_there } => Self::Split { unit, row, is_split: !is_there },
            Self::Choice { region, before, after } => Self::Choice { region, before: after, after: before },
        }
    }

    fn unit_id(&self) -> &str {
        match self {
            Self::Decision { unit, .. } | Self::Split { unit, .. } => unit,
            Self::Comment { anchor, .. } => &anchor.unit,
            Self::Choice { region, .. } => region,
        }
    }
}

/// Describes changes in a few words, such as `2 hunks of a.rs accepted`.
fn describe_changes(model: &ReviewModel<'_>, changes: &[Change]) -> String {
    let units: BTreeSet<&str> = changes.iter().map(Change::unit_id).collect();
    let has_unit = |file: &&ReviewFile<'_>| file.units.iter().any(|unit| units.contains(unit.id.as_str()));
    let files: Vec<&ReviewFile<'_>> = model.files.iter().filter(has_unit).collect();
    let place = match files[..] {
        [file] => Escaped::new(file.change.path.as_bytes()).to_string(),
        _ => format!("{} files", files.len()),
    };
    let word = |change: &Change| match change {
        Change::Decision { after: Some(UnitDecision::All(Decision::Accepted)), .. } => "accepted",
        Change::Decision { after: Some(UnitDecision::All(Decision::Rejected)), .. } => "rejected",
        Change::Decision { after: Some(UnitDecision::Edited(_)), .. } => "edited",
        Change::Decision { after: Some(UnitDecision::Lines(_)), .. } => "decided in part",
        Change::Decision { after: None, .. } => "set to undecided",
        Change::Comment { after: None, .. } => "comment removed",
        Change::Comment { before: None, .. } => "commented",
        Change::Comment { .. } => "comment changed",
        Change::Choice { .. } => "conflict resolved",
        Change::Split { is_split: true, .. } => "split",
        Change::Split { is_split: false, .. } => "joined",
    };
    let words: BTreeSet<&str> = changes.iter().map(word).collect();
    if let [Change::Choice { after, .. }] = changes {
        return match after {
            Some(choice @ (ConflictChoice::Ours | ConflictChoice::Theirs | ConflictChoice::Both)) => {
                format!("conflict resolved with {choice}")
            }
            Some(ConflictChoice::Text(_)) => "conflict resolved with your text".into(),
            None => "choice for a conflict removed".into(),
        };
    }
    let hunks = if units.len() == 1 { "1 hunk".to_owned() } else { format!("{} hunks", units.len()) };
    format!("{hunks} of {place} {}", words.into_iter().collect::<Vec<_>>().join(", "))
}

fn target_unit<'a>(model: &'a ReviewModel<'_>, item: &DecisionTarget) -> Option<&'a Unit> {
    model.files.get(item.file)?.units.get(item.unit)
}

/// Returns the message that a file cannot be accepted, with the reason.
#[must_use]
pub(crate) fn refusal_message(file: &ReviewFile<'_>) -> String {
    let reasons = file.severity_reasons();
    format!("{} cannot be accepted: it {}", Escaped::new(file.change.path.as_bytes()), Escaped::new(&reasons))
}

/// Returns the state after an action.
#[must_use]
pub fn update_state(mut state: ReviewState, model: &ReviewModel<'_>, action: Action) -> ReviewState {
    state.message = None;
    state.touched.clear();
    let refused = |items: &[DecisionTarget]| {
        items.iter().filter_map(|item| model.files.get(item.file)).find(|file| file.is_refused()).map(refusal_message)
    };
    match action {
        Action::Decide(items, decision) => {
            if decision == Some(Decision::Accepted)
                && let Some(why) = refused(&items)
            {
                state.message = Some(why);
                return state;
            }
            let is_part = |item: &DecisionTarget| {
                let unit = target_unit(model, item);
                let is_edited = |u: &&Unit| matches!(state.decisions.get(&u.id), Some(UnitDecision::Edited(_)));
                item.lines.is_some() && unit.filter(is_edited).is_some_and(|u| !item.covers_unit(u))
            };
            // The lines of an edited hunk are not the lines of its result.
            if items.iter().any(is_part) {
                state.message = Some("this hunk is edited: decide the whole hunk, or undo the edit".into());
                return state;
            }
            let changes = state.decision_changes(model, &items, decision);
            state.perform_changes(changes);
        }
        Action::BulkDecide { items, decision, hidden } => {
            let needs_confirmation = |item: &&DecisionTarget| {
                decision == Decision::Accepted && model.files.get(item.file).is_some_and(ReviewFile::is_risky)
            };
            let is_open = |item: &&DecisionTarget| {
                target_unit(model, item)
                    .is_some_and(|unit| state.decisions.count_lines(unit).accepted < unit.line_count())
            };
            let skipped = items.iter().filter(needs_confirmation).filter(is_open).count();
            let is_refused = |item: &&DecisionTarget| {
                decision == Decision::Accepted && model.files.get(item.file).is_some_and(ReviewFile::is_refused)
            };
            let taken = items.iter().filter(|item| !needs_confirmation(item) && !is_refused(item));
            let taken: Vec<DecisionTarget> = taken.cloned().collect();
            let changes = state.decision_changes(model, &taken, Some(decision));
            let done = changes.len();
            state.perform_changes(changes);
            let mut messages = Vec::new();
            if skipped > 0 {
                messages.push(format!("{skipped} high-risk skipped: each requires confirmation"));
            }
            if hidden > 0 && decision == Decision::Accepted {
                messages.push(format!("{hidden} hidden by this view skipped"));
            }
            let word = if decision == Decision::Accepted { "accepted" } else { "rejected" };
            messages.insert(0, format!("{done} {word}"));
            state.message = Some(messages.join(" · "));
        }
        Action::Edit(item, text) => {
            let Some(unit) = target_unit(model, &item) else { return state };
            if text.is_some()
                && let Some(why) = refused(std::slice::from_ref(&item))
            {
                state.message = Some(why);
                return state;
            }
            let after = text.map_or(UnitDecision::All(Decision::Rejected), UnitDecision::Edited);
            let changes = state.decision_change(&unit.id, Some(after)).into_iter().collect();
            state.perform_changes(changes);
        }
        Action::Comment(anchor, after) => {
            let before = state.decisions.all_comments().find(|(at, _)| **at == anchor).map(|(_, text)| text.to_owned());
            let after = after.filter(|text| !text.trim().is_empty());
            if before != after {
                state.perform_changes(vec![Change::Comment { anchor, before, after }]);
            }
        }
        Action::Choose { region, choice, accepts } => {
            let before = state.decisions.conflict_choices().get(&region).cloned();
            let (mut changes, has_choice) = (Vec::new(), choice.is_some());
            if before != choice {
                changes.push(Change::Choice { region, before, after: choice });
            }
            if refused(&accepts).is_none() {
                let decision = has_choice.then_some(Decision::Accepted);
                changes.extend(state.decision_changes(model, &accepts, decision));
            }
            if !changes.is_empty() {
                state.perform_changes(changes);
            }
        }
        Action::Split(unit, row) => {
            let is_split = !state.splits.get(&unit).is_some_and(|rows| rows.contains(&row));
            state.perform_changes(vec![Change::Split { unit, row, is_split }]);
        }
        Action::Undo => state.undo_or_redo(model, true),
        Action::Redo => state.undo_or_redo(model, false),
    }
    state
}
