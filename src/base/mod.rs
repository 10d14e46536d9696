//! Bases: the sealed volumes that sandboxes start from, and the deltas over them.

mod build;
mod context;
mod delta;
mod engine_support;
mod error;
mod labels;
mod manifest;
mod prepared;
mod seed;
mod store;
mod tree;
mod view;

pub use build::UseOfBase;
pub(crate) use build::{discard_base, remove_stray_volumes, seal_base};
pub use context::RunContext;
pub(crate) use delta::{BaseDelta, DeltaEntry, write_delta, write_git_files};
pub(crate) use engine_support::{EngineSupport, OverlaySupport};
pub use error::BaseError;
pub(crate) use labels::read_or_create_identity;
pub use labels::{BASE_LABEL, REPOSITORY_LABEL, base_volumes, repository_id};
pub use manifest::Manifest;
pub use prepared::PreparedBase;
pub use seed::seed_volume;
pub(crate) use seed::{SEAL, TREE};
pub use store::{Base, BaseStore};
pub(crate) use tree::BaseTree;
pub(crate) use view::{BaseEntry, BaseView};
