//! The subcommands, one module each. `run` uses `image` to build the agent image; no other module imports another.

pub mod apply;
pub mod diff;
pub mod doctor;
pub mod gc;
pub mod image;
pub mod ls;
pub mod recover;
pub mod resume;
pub mod review;
pub mod rm;
pub mod run;
pub mod status;
pub mod undo;
