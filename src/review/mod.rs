//! Decisions on a changeset: what they are, how they are saved, how a selection becomes them, and the plain front end.

mod around;
mod block;
mod decision_file;
mod decisions;
mod draft;
mod edit;
mod feedback;
mod folds;
mod page;
mod plain;
pub mod screen;
mod selection;
mod sheet;
mod show;
mod since;
mod state;
mod words;

pub use around::{Around, Conflicts, Ended, Preview, PreviewLine};
pub use block::{Block, Text};
pub use decision_file::{DecisionFile, DecisionFileError};
pub use decisions::{Anchor, Decision, Decisions, NotRuling, Ruling, Tally};
pub use draft::{Draft, DraftError, read as read_draft};
pub use feedback::{Feedback, has_unsent, has_unsent_comment};
pub use page::page;
pub use plain::PlainReview;
pub use selection::{Rejection, Selection, Selector, keep_only};
pub use sheet::{Sheet, SheetFile};
pub use show::{Painter, describe, finding_line, level_word};
pub use since::{Since, risen};
pub use state::{Action, Event, Item, State, refusal, update};
