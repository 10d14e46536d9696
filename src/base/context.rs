//! The services that building a base and running a sandbox share.

use std::sync::Arc;

use crate::core::progress::ProgressCounter;
use crate::engine::Engine;
use crate::git::HostRepo;

/// The engine, the host repository and the progress counter.
#[derive(Clone, Copy)]
pub struct RunContext<'a> {
    pub engine: &'a dyn Engine,
    pub host: &'a HostRepo,
    pub progress: &'a Arc<ProgressCounter>,
}
