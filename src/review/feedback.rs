//! Composes the message to the agent after a review: rejections and comments with path, lines and code.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use sha2::{Digest, Sha256};

use super::decisions::{CommentAnchor, CommentScope, Decision, UnitDecision};
use super::{FileText, HunkRows, ReviewFile, ReviewModel, ReviewState};
use crate::changes::{HunkLine, Unit};
use crate::core::escape::Escaped;
use crate::core::hex::to_hex;
use crate::review::describe_unit;

/// Size of a message, in bytes, above which further items are listed only by location. A single program argument can have 128
/// KiB.
const MAX_QUOTED_BYTES: usize = 96 << 10;
/// Maximum size of a message, in bytes, including the listed locations.
const MAX_MESSAGE_BYTES: usize = 112 << 10;
/// Maximum number of rows in a quotation.
const MAX_QUOTED_ROWS: usize = 60;
/// Maximum number of characters in a quoted line.
const MAX_LINE_CHARS: usize = 400;
/// Maximum number of characters in a comment.
const MAX_COMMENT_CHARS: usize = 8000;
/// Minimum number of backticks in a fence.
const MIN_FENCE_LEN: usize = 3;

const OPENING: &str = "I have reviewed your changes. What I rejected is not applied to my\n\
                       repository: please change it here, address my comments, and leave the\n\
                       rest unchanged.\n";
const SENT_BEFORE: &str = "\n## Sent before and not changed since\n\n";

/// A message to the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// The message, as Markdown.
    pub text: String,
    /// The items that the message contains in full.
    items: Vec<FeedbackItem>,
}

/// One rejection or comment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct FeedbackItem {
    /// The id of the item, see [`super::Event::Sent`].
    id: String,
    is_comment: bool,
    /// The location, for the list of items that are not quoted.
    location: String,
    text: String,
}

impl Feedback {
    /// Composes the message. Returns `None` if there is nothing that was not sent before.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn from_review(model: &ReviewModel<'_>, state: &ReviewState) -> io::Result<Option<Self>> {
        let mut message = Self { text: OPENING.to_owned(), items: Vec::new() };
        let (mut unquoted, mut before) = (Vec::new(), Vec::new());
        for file in &model.files {
            if !file.units.iter().any(|unit| has_feedback(unit, state)) {
                continue;
            }
            let text = FileText::read(model, file)?;
            let mut title = format!("\n## {}\n", Escaped::new(file.change.path.as_bytes()));
            for unit in file.units.iter().filter(|unit| has_feedback(unit, state)) {
                for item in collect_items(model, file, unit, &text, state)? {
                    if state.is_sent(&item.id) {
                        before.push(item.location);
                    } else if message.text.len() + title.len() + item.text.len() > MAX_QUOTED_BYTES {
                        unquoted.push(item.location);
                    } else {
                        message.text += &std::mem::take(&mut title);
                        message.text += &item.text;
                        message.items.push(item);
                    }
                }
            }
        }
        message.append_list("\n## More items, not quoted for lack of space\n\n", unquoted);
        message.append_list(SENT_BEFORE, before);
        Ok((!message.items.is_empty()).then_some(message))
    }

    /// Returns the ids of the items in full, to be recorded once the message was sent. Other items follow in the next
    /// message.
    #[must_use]
    pub fn item_ids(&self) -> Vec<String> {
        self.items.iter().map(|item| item.id.clone()).collect()
    }

    /// Returns the numbers of rejections and comments in full.
    #[must_use]
    pub fn item_counts(&self) -> (usize, usize) {
        let comments = self.items.iter().filter(|item| item.is_comment).count();
        (self.items.len() - comments, comments)
    }

    /// Replaces the message with the user's text. Items that the text no longer contains do not count as sent.
    ///
    /// # Errors
    /// The reason why the text cannot be sent. The message is then unchanged.
    pub fn replace_text(&mut self, text: String) -> Result<(), String> {
        if text.len() > MAX_MESSAGE_BYTES {
            return Err(format!("the message has more than {} KiB and is unchanged", MAX_MESSAGE_BYTES >> 10));
        }
        if text.contains('\0') {
            return Err("the message contains a NUL byte, which no argument can contain, and is unchanged".into());
        }
        // A command line would take the text for an option, and a prompt would take it for a command.
        let needs_opening = text.trim_start().starts_with(['-', '/', '!', '#', '@']);
        self.text = if needs_opening { format!("{OPENING}\n{text}") } else { text };
        self.items.retain(|item| self.text.contains(&item.text));
        Ok(())
    }

    fn append_list(&mut self, title: &str, locations: Vec<String>) {
        let all = locations.len();
        for (at, location) in locations.into_iter().enumerate() {
            if at == 0 {
                self.text += title;
            }
            if self.text.len() + location.len() > MAX_MESSAGE_BYTES {
                self.text += &format!("- and {} more\n", all - at);
                return;
            }
            self.text += &format!("- {location}\n");
        }
    }
}

/// Collects the feedback items of one unit.
fn collect_items(
    model: &ReviewModel<'_>,
    file: &ReviewFile<'_>,
    unit: &Unit,
    text: &FileText,
    state: &ReviewState,
) -> io::Result<Vec<FeedbackItem>> {
    let hunk = HunkRows::from_unit(unit, text);
    let decisions = &state.decisions;
    let mut items = Vec::new();
    let path = Escaped::new(file.change.path.as_bytes());
    let where_of = |rows: &[usize]| match &hunk {
        Some(hunk) => describe_lines(hunk, rows),
        None => describe_unit(&unit.kind, file),
    };
    let quote = |rows: &[usize]| hunk.as_ref().map_or_else(String::new, |hunk| quote_rows(hunk, text, rows));
    let mut add_item = |is_comment, scope, content: &str, location: String, text: String| {
        items.push(FeedbackItem {
            id: item_id(unit, scope, content),
            is_comment,
            location: format!("{path}: {location}"),
            text,
        });
    };
    let all: Vec<usize> = (0..hunk.as_ref().map_or(0, HunkRows::len)).collect();
    // The row of each line that can be decided.
    let rows_of: BTreeMap<usize, usize> =
        hunk.iter().flat_map(|hunk| all.iter().map(|row| (hunk.decision_line(*row), *row))).collect();
    let mut rejected: Vec<usize> = match decisions.get(&unit.id) {
        Some(UnitDecision::All(Decision::Rejected)) => all.clone(),
        Some(unit_decision) => {
            let lines = unit_decision.matching_lines(|decision| decision == Some(Decision::Rejected));
            lines.iter().filter_map(|line| rows_of.get(&line).copied()).collect()
        }
        None => Vec::new(),
    };
    rejected.sort_unstable();
    if let Some(unit_decision) = decisions.get(&unit.id).filter(|unit_decision| has_rejection(unit_decision)) {
        let (rows, word) = match unit_decision {
            UnitDecision::Lines(_) => (&rejected, "Rejected in part"),
            _ => (&all, "Rejected"),
        };
        let at = where_of(rows);
        let text = format!("\n{word}, {at}:\n{}", quote(rows));
        add_item(false, CommentScope::Unit, &unit_decision.to_string(), format!("rejected, {at}"), text);
    }
    if let Some(decision @ UnitDecision::Edited(hash)) = decisions.get(&unit.id) {
        let at = where_of(&all);
        let edited = quote_lines(&model.read_text(hash)?);
        let text = format!("\nI accepted {at} with my own text. Keep it as it is:\n{edited}");
        add_item(false, CommentScope::Unit, &decision.to_string(), format!("{at}: my own text"), text);
    }
    for (anchor, comment) in decisions.comments_on(&unit.id) {
        let rows: Vec<usize> = match anchor.scope {
            CommentScope::Unit => all.clone(),
            CommentScope::Part { from, to } => (from..to.min(all.len())).collect(),
            CommentScope::Line(line) => rows_of.get(&line).copied().into_iter().collect(),
        };
        let at = where_of(&rows);
        // After the quotation of its rejection, the hunk is not quoted again.
        let is_whole = anchor.scope == CommentScope::Unit;
        let rejection = decisions.get(&unit.id).filter(|_| is_whole && rejected.len() == all.len() && !all.is_empty());
        let is_quoted = rejection.is_some_and(|unit_decision| {
            !state.is_sent(&item_id(unit, CommentScope::Unit, &unit_decision.to_string()))
        });
        let code = if is_quoted { String::new() } else { format!("\nComment on {at}:\n{}", quote(&rows)) };
        let text = format!("{code}\n{}", quote_text(comment));
        add_item(true, anchor.scope, comment, format!("{at}: {}", first_line(comment)), text);
    }
    Ok(items)
}

/// Returns whether a unit has a rejection, a text of the user or a comment.
fn has_feedback(unit: &Unit, state: &ReviewState) -> bool {
    let decisions = &state.decisions;
    decisions.get(&unit.id).is_some_and(concerns_agent) || decisions.comments_on(&unit.id).next().is_some()
}

fn has_rejection(unit_decision: &UnitDecision) -> bool {
    match unit_decision {
        UnitDecision::All(decision) => *decision == Decision::Rejected,
        UnitDecision::Lines(runs) => runs.iter().any(|(_, decision)| *decision == Some(Decision::Rejected)),
        UnitDecision::Edited(_) => false,
    }
}

/// Returns whether the agent has to know a decision: a rejection, or the user's own text.
fn concerns_agent(unit_decision: &UnitDecision) -> bool {
    has_rejection(unit_decision) || matches!(unit_decision, UnitDecision::Edited(_))
}

/// Returns whether a comment, which is meant for the agent, has not been sent yet.
pub(crate) fn has_unsent_comment<'a>(units: impl IntoIterator<Item = &'a Unit>, state: &ReviewState) -> bool {
    let is_unsent =
        |unit: &Unit| state.decisions.comments_on(&unit.id).any(|(anchor, said)| !is_comment_sent(anchor, said, state));
    units.into_iter().any(is_unsent)
}

/// Returns whether there is anything to send, without reading a file.
pub(crate) fn has_unsent<'a>(units: impl IntoIterator<Item = &'a Unit> + Clone, state: &ReviewState) -> bool {
    let is_unsent = |unit: &Unit| {
        let unit_decision = state.decisions.get(&unit.id).filter(|unit_decision| concerns_agent(unit_decision));
        unit_decision
            .is_some_and(|unit_decision| !state.is_sent(&item_id(unit, CommentScope::Unit, &unit_decision.to_string())))
    };
    units.clone().into_iter().any(is_unsent) || has_unsent_comment(units, state)
}

/// Returns whether a comment was sent with this text.
pub(crate) fn is_comment_sent(anchor: &CommentAnchor, text: &str, state: &ReviewState) -> bool {
    state.is_sent(&scoped_id(&anchor.unit, anchor.scope, text))
}

/// Returns the id of a rejection or comment: a hash of its location and text.
fn item_id(unit: &Unit, scope: CommentScope, text: &str) -> String {
    scoped_id(&unit.id, scope, text)
}

fn scoped_id(unit: &str, scope: CommentScope, text: &str) -> String {
    let scope = match scope {
        CommentScope::Unit => String::new(),
        CommentScope::Part { from, to } => format!("{from}-{to}"),
        CommentScope::Line(line) => line.to_string(),
    };
    let hash = Sha256::new().chain_update(format!("{unit}\0{scope}\0")).chain_update(text).finalize();
    to_hex(&hash[..16])
}

/// Describes the lines of rows in the agent's file, or in the base if the rows were all removed.
fn describe_lines(hunk: &HunkRows, rows: &[usize]) -> String {
    let added = |row: &&usize| matches!(hunk.row_at(**row), HunkLine::Added(_));
    let number = |row: &usize| match hunk.row_at(*row) {
        HunkLine::Added(line) | HunkLine::Removed(line) => line,
    };
    let to_numbers = |range: &Range<usize>, lines: Vec<usize>| {
        let (first, last) = (lines.iter().min().copied().unwrap_or(0), lines.iter().max().copied().unwrap_or(0));
        (range.start + first + 1, range.start + last + 1)
    };
    let span = |(first, last): (usize, usize)| {
        if first == last { format!("line {first}") } else { format!("lines {first} to {last}") }
    };
    let new: Vec<usize> = rows.iter().filter(added).map(number).collect();
    if new.is_empty() {
        let old = rows.iter().map(number).collect();
        return format!("{} of the original file, which you removed", span(to_numbers(&hunk.old, old)));
    }
    span(to_numbers(&hunk.new, new))
}

/// Quotes rows as a diff, in a fence that no row can close.
fn quote_rows(hunk: &HunkRows, text: &FileText, rows: &[usize]) -> String {
    let mut quoted = String::new();
    let (removed, added): (Vec<usize>, Vec<usize>) =
        rows.iter().partition(|row| matches!(hunk.row_at(**row), HunkLine::Removed(_)));
    for row in removed.iter().chain(&added).take(MAX_QUOTED_ROWS) {
        let sign = if matches!(hunk.row_at(*row), HunkLine::Added(_)) { '+' } else { '-' };
        let content = hunk.row_content(text, *row);
        let line = Escaped::from_line(content.strip_suffix(b"\r\n").or(content.strip_suffix(b"\n")).unwrap_or(content))
            .to_string();
        let cut: String = line.chars().take(MAX_LINE_CHARS).collect();
        let more = if cut.len() < line.len() { "…" } else { "" };
        quoted += &format!("{sign}{cut}{more}\n");
    }
    if rows.len() > MAX_QUOTED_ROWS {
        quoted += &format!("… and {} more lines\n", rows.len() - MAX_QUOTED_ROWS);
    }
    fence_text(&quoted, "diff")
}

/// Quotes a text by line, in a fence that no line can close.
fn quote_lines(text: &[u8]) -> String {
    let lines = crate::changes::split_lines(text);
    let shown = lines.iter().take(MAX_QUOTED_ROWS).map(|line| {
        let line = Escaped::from_line(crate::changes::trim_line_ending(line)).to_string();
        let cut: String = line.chars().take(MAX_LINE_CHARS).collect();
        let more = if cut.len() < line.len() { "…" } else { "" };
        format!("{cut}{more}\n")
    });
    let mut quoted: String = shown.collect();
    if lines.len() > MAX_QUOTED_ROWS {
        quoted += &format!("… and {} more lines\n", lines.len() - MAX_QUOTED_ROWS);
    }
    fence_text(&quoted, "")
}

fn fence_text(quoted: &str, language: &str) -> String {
    let fence = "`".repeat(longest_run(quoted).max(MIN_FENCE_LEN - 1) + 1);
    format!("\n{fence}{language}\n{quoted}{fence}\n")
}

fn longest_run(text: &str) -> usize {
    text.split(|c| c != '`').map(str::len).max().unwrap_or(0)
}

/// Quotes the user's text.
fn quote_text(text: &str) -> String {
    let cut: String = text.chars().take(MAX_COMMENT_CHARS).collect();
    cut.lines().map(|line| format!("> {}\n", Escaped::from_line(line))).collect()
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(80).collect();
    let more = if cut.len() < text.trim_end().len() { "…" } else { "" };
    format!("{}{more}", Escaped::from_line(&cut))
}
