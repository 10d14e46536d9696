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

pub use decision_file::DecisionFile;
pub(crate) use decision_file::DecisionFileError;
pub use decision_log::read_draft;
pub(crate) use decision_log::{DecisionLog, DecisionLogError};
pub use decisions::{CommentAnchor, CommentScope};
pub use decisions::{Decision, Decisions};
pub(crate) use decisions::{DecisionCounts, ParseDecisionError, UnitDecision};
pub(crate) use describe::{describe_unit, finding_line, severity_word};
pub(crate) use edit::{EDITOR_RETURNED_AT_ONCE, EditResult, NewLines, edit_hunk, find_new_lines, resulting_file};
pub use feedback::Feedback;
pub(crate) use feedback::{has_unsent, has_unsent_comment, is_comment_sent};
pub use host::{ApplyPlanner, Preview, PreviewLine, ReviewHost, ReviewOutcome};
pub(crate) use hunk_rows::{FileText, HunkRows};
pub(crate) use intraline::intraline_diff;
pub use model::{ReviewFile, ReviewModel};
pub use round_diff::RoundDiff;
pub(crate) use round_diff::newly_risky;
pub use selection::Selector;
pub(crate) use selection::{ReviewSelection, SelectionError, restrict_to_paths};
pub(crate) use state::refusal_message;
pub use state::{Action, DecisionTarget, Event, ReviewState, update_state};
