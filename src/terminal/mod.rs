//! The user's terminal: raw while an agent has it, what may reach it, and the signals that end a run.

mod output_filter;
mod raw_mode;
mod signals;

pub use output_filter::OutputFilter;
pub use raw_mode::*;
pub use signals::{Signals, StopRequest};
