//! Decisions as a file that people and programs can read and edit: every hunk with its id, decision and comments.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::state::Event;
use super::{CommentAnchor, Decision, Decisions, ReviewModel, UnitDecision};
use crate::changes::UnitKind;
use crate::core::escape::{Escaped, escape_lossy};

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionFile {
    pub schema_version: u32,
    /// The name of the sandbox, for information only.
    pub sandbox: String,
    /// The id of the changeset, for information only. Hunks are identified by their ids.
    pub changeset: String,
    /// The files, in the order of the changeset.
    pub files: Vec<FileDecisions>,
}

/// The decisions on one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileDecisions {
    /// The path of the file. A hunk that is listed under another path is an error.
    pub path: String,
    /// The units that can be decided.
    pub hunks: Vec<HunkDecision>,
}

/// The decision on one hunk or other unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HunkDecision {
    pub id: String,
    /// The lines of the base and of the result as in `@@`, for information only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// `undecided`, `accepted`, `rejected`, `edited`, or `lines` and a letter for each line, removed lines first: `y`, `n`
    /// or `.` (`12y` is twelve of them).
    pub decision: String,
    /// The replacement text of an edited hunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub comments: Vec<HunkComment>,
}

/// A comment on a hunk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HunkComment {
    /// The line of the hunk, from 0, with removed lines first. `None` is the whole hunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The rows of a part of a split hunk: the first, and the one after the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<[usize; 2]>,
    pub text: String,
}

/// The reason why a decision file is refused as a whole.
#[derive(Debug, thiserror::Error)]
pub enum DecisionFileError {
    /// The file is not a decision file.
    #[error("this is not a decision file: {0}")]
    Malformed(String),
    /// The file has another version.
    #[error("it has format version {0}, and this Airlock reads version {VERSION}")]
    Version(u32),
    /// The file names hunks that this changeset does not have.
    #[error("this changeset has no hunk `{}`", ids.join("`, `"))]
    Stale {
        ids: Vec<String>,
        /// The hunks of the changeset, with their paths.
        current: Vec<String>,
    },
    /// The file lists a hunk twice.
    #[error("the hunk {0} is listed twice")]
    Duplicate(String),
    /// The hunk cannot have this decision or comment.
    #[error("hunk {id} of {path}: {reason}")]
    InvalidDecision { id: String, path: String, reason: String },
    /// The file accepts a high-risk change.
    #[error("{0} is high risk and requires confirmation")]
    Risky(String),
    /// The file accepts a change that cannot be accepted.
    #[error("{0} cannot be accepted")]
    Refused(String),
    #[error("failed to store an edited text: {0}")]
    Io(#[from] std::io::Error),
}

/// The field that every version has.
#[derive(Deserialize)]
struct FormatVersion {
    schema_version: u32,
}

impl DecisionFile {
    /// Creates a decision file from the decisions of a review.
    ///
    /// # Errors
    /// The quarantine is damaged, or an edited text is not UTF-8.
    pub fn from_decisions(
        model: &ReviewModel<'_>,
        decisions: &Decisions,
        sandbox: &str,
        changeset: &str,
    ) -> std::io::Result<Self> {
        let mut files = Vec::new();
        for file in &model.files {
            let mut hunks = Vec::new();
            for unit in &file.units {
                let (decision, text) = match decisions.get(&unit.id) {
                    None => ("undecided".to_owned(), None),
                    Some(UnitDecision::Edited(hash)) => {
                        let lossy = |_| {
                            let path = Escaped::new(file.change.path.as_bytes());
                            std::io::Error::other(format!(
                                "an edited text of {path} is not UTF-8 and cannot be exported"
                            ))
                        };
                        ("edited".to_owned(), Some(String::from_utf8(model.read_text(hash)?).map_err(lossy)?))
                    }
                    Some(unit_decision) => (unit_decision.to_string(), None),
                };
                let at = match &unit.kind {
                    UnitKind::Hunk { old, new } => {
                        Some(format!("-{},{} +{},{}", old.start + 1, old.len(), new.start + 1, new.len()))
                    }
                    _ => None,
                };
                let comments = hunk_comments(decisions, &unit.id);
                hunks.push(HunkDecision { id: unit.id.clone(), at, decision, text, comments });
            }
            files.push(FileDecisions { path: escape_lossy(file.change.path.as_bytes()), hunks });
        }
        Ok(Self { schema_version: VERSION, sandbox: sandbox.into(), changeset: changeset.into(), files })
    }

    /// Creates a decision file from decisions on hunks, with the paths of these changes. An unknown hunk has no path.
    #[must_use]
    pub fn from_hunks(model: &ReviewModel<'_>, hunks: impl IntoIterator<Item = HunkDecision>) -> Self {
        let units = model.files.iter().flat_map(|file| file.units.iter().map(move |unit| (unit.id.as_str(), file)));
        let paths: HashMap<&str, _> = units.collect();
        let files = hunks.into_iter().map(|hunk| {
            let file = paths.get(hunk.id.as_str());
            let path = file.map(|file| escape_lossy(file.change.path.as_bytes())).unwrap_or_default();
            FileDecisions { path, hunks: vec![hunk] }
        });
        let files = files.collect();
        Self { schema_version: VERSION, sandbox: String::new(), changeset: model.changeset.to_owned(), files }
    }

    /// Parses a decision file.
    ///
    /// # Errors
    /// `DecisionFileError::Malformed`, `DecisionFileError::Version`.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecisionFileError> {
        let malformed = |e: serde_json::Error| DecisionFileError::Malformed(Escaped::new(&e.to_string()).to_string());
        // First, because another version may have other fields.
        let FormatVersion { schema_version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if schema_version != VERSION {
            return Err(DecisionFileError::Version(schema_version));
        }
        serde_json::from_slice(bytes).map_err(malformed)
    }

    /// Returns the events that bring a review to the decisions of the file. Hunks that the file does not list are not
    /// changed.
    ///
    /// # Errors
    /// The file does not fit these changes, or it accepts high findings and `allow_risky` is not set.
    pub fn to_events(
        &self,
        model: &ReviewModel<'_>,
        decisions: &Decisions,
        allow_risky: bool,
    ) -> Result<Vec<Event>, DecisionFileError> {
        let hunks = || self.files.iter().flat_map(|f| &f.hunks);
        let units =
            model.files.iter().flat_map(|file| file.units.iter().map(move |unit| (unit.id.as_str(), (file, unit))));
        let units: HashMap<&str, _> = units.collect();
        let stale: Vec<String> = hunks().filter(|b| !units.contains_key(b.id.as_str())).map(|b| b.id.clone()).collect();
        if !stale.is_empty() {
            let current = model.files.iter().flat_map(|f| {
                f.units.iter().map(|u| format!("{}  {}", u.id, String::from_utf8_lossy(f.change.path.as_bytes())))
            });
            return Err(DecisionFileError::Stale { ids: stale, current: current.collect() });
        }
        let mut events = Vec::new();
        let mut seen = std::collections::BTreeSet::new();
        for (named, hunk) in self.files.iter().flat_map(|f| f.hunks.iter().map(move |hunk| (&f.path, hunk))) {
            let Some((file, unit)) = units.get(hunk.id.as_str()).copied() else { continue };
            if !seen.insert(&hunk.id) {
                return Err(DecisionFileError::Duplicate(hunk.id.clone()));
            }
            let path = String::from_utf8_lossy(file.change.path.as_bytes()).into_owned();
            let wrong =
                |reason: String| DecisionFileError::InvalidDecision { id: hunk.id.clone(), path: path.clone(), reason };
            if *named != escape_lossy(file.change.path.as_bytes()) {
                return Err(wrong(format!("it is listed under {named}")));
            }
            let unit_decision = match (hunk.decision.as_str(), &hunk.text) {
                ("undecided", None) => None,
                ("edited", Some(text)) => Some(UnitDecision::Edited(model.store_text(text.as_bytes())?)),
                ("edited", None) => return Err(wrong("it is edited, but its text is missing".into())),
                (_, Some(_)) => return Err(wrong("it has a text, but is not edited".into())),
                (word, None) => {
                    let unit_decision: UnitDecision = word
                        .parse()
                        .map_err(|e: super::ParseDecisionError| wrong(Escaped::new(&e.to_string()).to_string()))?;
                    if matches!(unit_decision, UnitDecision::Edited(_)) {
                        return Err(wrong("it is edited, but its text is missing".into()));
                    }
                    Some(unit_decision)
                }
            };
            if let Some(unit_decision) = &unit_decision {
                if !unit_decision.is_valid_for(unit) {
                    return Err(wrong(format!(
                        "it has {} lines, but {} describes a different number",
                        unit.line_count(),
                        Escaped::new(&hunk.decision)
                    )));
                }
                if has_acceptance(unit_decision) && file.is_refused() {
                    return Err(DecisionFileError::Refused(path));
                }
                if has_acceptance(unit_decision) && file.is_risky() && !allow_risky {
                    return Err(DecisionFileError::Risky(path));
                }
            }
            events.push(Event::Decision {
                unit: hunk.id.clone(),
                is: unit_decision.and_then(UnitDecision::simplify_lines),
            });
            events.extend(decisions.comments_on(&hunk.id).map(|(anchor, _)| Event::comment_event(anchor, None)));
            for comment in &hunk.comments {
                let is_part_missing = |[from, to]: [usize; 2]| from >= to || to > unit.line_count();
                if comment.line.is_some_and(|line| line >= unit.line_count())
                    || comment.part.is_some_and(is_part_missing)
                {
                    return Err(wrong("a comment refers to a line that it does not have".into()));
                }
                let text = Some(comment.text.clone());
                events.push(Event::comment_event(&CommentAnchor::new(&hunk.id, comment.line, comment.part), text));
            }
        }
        Ok(events)
    }
}

/// Returns the comments on a hunk, for a decision file.
pub(crate) fn hunk_comments(decisions: &Decisions, id: &str) -> Vec<HunkComment> {
    let comments = decisions.comments_on(id);
    comments
        .map(|(at, text)| HunkComment { line: at.scope_line(), part: at.scope_part(), text: text.to_owned() })
        .collect()
}

fn has_acceptance(unit_decision: &UnitDecision) -> bool {
    match unit_decision {
        UnitDecision::All(decision) => *decision == Decision::Accepted,
        UnitDecision::Edited(_) => true,
        UnitDecision::Lines(runs) => runs.iter().any(|(_, decision)| *decision == Some(Decision::Accepted)),
    }
}
