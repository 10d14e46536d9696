//! One step of a sandbox: a review, or another agent.

use super::resume_session::ResumeOptions;
use crate::sandbox::Sandbox;

/// One step of a sandbox after its first agent.
pub(crate) enum Round {
    /// A review of changes.
    Review { sandbox: Sandbox, plain: bool },
    /// A run of another agent.
    Resume { sandbox: Sandbox, options: Box<ResumeOptions> },
}
