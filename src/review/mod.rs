//! Decisions on a changeset: what they are, how they are saved, how a selection becomes them, and the plain front end.

mod decisions;
mod plain;
mod selection;
mod sheet;
mod show;

pub use decisions::{Decision, Decisions};
pub use plain::{Ended, PlainReview};
pub use selection::{Rejection, Selection, Selector};
pub use sheet::{Sheet, SheetFile};
pub use show::{Painter, describe, level_word};
