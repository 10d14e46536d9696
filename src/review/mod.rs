//! Decisions on a changeset: what they are, how they are saved, how a selection becomes them, and the plain front end.

mod collapsed;
mod decision_file;
mod decision_log;
mod decisions;
mod edit;
mod feedback;
mod host;
mod hunk_rows;
mod intraline;
mod model;
mod page;
mod plain;
mod round_diff;
pub mod screen;
mod selection;
mod state;
mod text_renderer;

pub use decision_file::{DecisionFile, DecisionFileError};
pub use decision_log::{DecisionLog, DecisionLogError, read_draft};
pub use decisions::{CommentAnchor, Decision, DecisionCounts, Decisions, ParseDecisionError, UnitDecision};
pub use feedback::{Feedback, has_unsent, has_unsent_comment};
pub use host::{ConflictHandling, Preview, PreviewLine, ReviewHost, ReviewOutcome};
pub use hunk_rows::{FileText, HunkRows};
pub use model::{ReviewFile, ReviewModel};
pub use page::render_page;
pub use plain::PlainReview;
pub use round_diff::{RoundDiff, newly_risky};
pub use selection::{ReviewSelection, SelectionError, Selector, restrict_to_paths};
pub use state::{Action, DecisionTarget, Event, ReviewState, refusal, update};
pub use text_renderer::{TextRenderer, describe_unit, finding_line, severity_word};
