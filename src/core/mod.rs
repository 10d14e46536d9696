//! Defines types that every layer uses: repository paths, escaped text, names, progress.

pub mod atomic_file;
pub(crate) mod clock;
pub mod escape;
pub(crate) mod hex;
pub(crate) mod host_command;
pub mod known;
pub mod name;
pub mod on_conflict;
pub(crate) mod parallel;
pub mod path;
pub mod progress;
pub mod random;
pub(crate) mod state_dir;
