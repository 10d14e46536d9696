//! Decisions on a changeset: what they are, how they are saved, how a selection becomes them, and the plain front end.

mod decisions;
mod plain;
mod selection;
mod sheet;

pub use decisions::{Decision, Decisions};
pub use plain::{Ended, PlainReview, describe, level_word, shown_line};
pub use selection::{Rejection, Selection, Selector};
pub use sheet::{Sheet, SheetFile};
