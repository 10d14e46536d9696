//! The user's terminal: raw mode while an agent runs, the filter for its output, and the signals that end a run.

mod input_reader;
mod job_control;
mod keys;
mod output_filter;
mod raw_mode;
mod signals;

pub use input_reader::InputReader;
pub use job_control::{is_orphan, suspend_with_agent};
pub use keys::{CtrlCDetector, DetachDetector, DetachKeys, has_ctrl_z};
pub use output_filter::OutputFilter;
pub use raw_mode::*;
pub use signals::Signals;
