//! The full-screen review with `ratatui`. The terminal is always restored at the end, even after a panic.

mod actions;
mod app;
mod apply_dialog;
mod counts;
mod draw;
mod feedback_dialog;
mod files;
mod find;
mod input;
mod key_repeat;
mod keymap;
mod keys;
mod layout;
mod mouse;
mod moved_lines;
mod navigation;
mod outline;
mod overlay;
mod plain;
mod rows;
mod sandbox_list;
mod style;
mod syntax;
mod target;
mod terminal;
mod text_layout;
mod view_options;

pub use app::{App, ReviewOptions};
pub use draw::draw;
pub use keymap::Keymap;
pub use keys::Effect;
pub(crate) use plain::PlainReview;
pub(crate) use sandbox_list::shorten_path;
pub use sandbox_list::{ListAction, SandboxList, SandboxPhase, SandboxRow};
pub use style::{ColorDepth, StyleSheet, Theme};
pub use terminal::{run, run_list};
