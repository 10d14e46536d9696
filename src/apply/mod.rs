//! Brings accepted changes to the host tree: first a plan, which is inert data, then its execution.
//!
//! *Architecture invariant:* `hostfs.rs` is the only writer to a host tree, and it opens every directory on the way by
//! descriptor without following links. No index, ref or configuration of the user's git is touched.

mod hostfs;
mod plan;
mod surroundings;

pub use hostfs::{Below, Habits, HostError, HostTree, Look, Seen};
pub use plan::{Choice, Conflict, Done, Plan, Prior, Step, Verb};
