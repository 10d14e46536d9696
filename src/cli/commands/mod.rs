//! The subcommands, one module each. None imports another.

pub(super) mod apply;
pub(super) mod attach;
pub(super) mod bring;
pub(super) mod config;
pub(super) mod diff;
pub(super) mod doctor;
pub(super) mod edit;
pub(super) mod gc;
pub(super) mod hosts;
pub(super) mod image;
pub(super) mod link;
pub(super) mod log;
pub(super) mod ls;
pub(super) mod man;
pub(super) mod port;
pub(super) mod recover;
pub(super) mod resume;
pub(super) mod review;
pub(super) mod rm;
pub(super) mod run;
pub(super) mod setup;
pub(super) mod status;
pub(super) mod stop;
pub(super) mod undo;
pub(super) mod watch;
