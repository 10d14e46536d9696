//! Decisions on a changeset: their types, how they are saved, and how a selection is turned into them.

mod collapsed;
mod decision_file;
mod decision_log;
mod decisions;
mod describe;
mod edit;
mod feedback;
mod host;
mod hunk_rows;
mod intraline;
mod model;
mod round_diff;
mod selection;
mod state;

pub use decision_file::{DecisionFile, DecisionFileError};
pub use decision_log::{DecisionLog, DecisionLogError, read_draft};
pub use decisions::{CommentAnchor, Decision, DecisionCounts, Decisions, ParseDecisionError, UnitDecision};
pub use describe::{describe_unit, finding_line, severity_word};
pub use edit::{EDITOR_RETURNED_AT_ONCE, EditResult, edit_hunk, resulting_file};
pub use feedback::{Feedback, has_unsent, has_unsent_comment, is_comment_sent};
pub use host::{Preview, PreviewLine, ReviewHost, ReviewOutcome};
pub use hunk_rows::{FileText, HunkRows};
pub use intraline::intraline_diff;
pub use model::{ReviewFile, ReviewModel};
pub use round_diff::{RoundDiff, newly_risky};
pub use selection::{ReviewSelection, SelectionError, Selector, restrict_to_paths};
pub use state::{Action, DecisionTarget, Event, ReviewState, refusal_message, update_state};
