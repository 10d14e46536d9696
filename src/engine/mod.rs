//! Defines the operations of the container engine and connects to it.
//!
//! *Architecture invariant:* only `docker.rs`, `buildkit.rs` and `hijack.rs` communicate with an engine, and no other module knows
//! which engine it is. The engine's archive (copy) API, its builder's caches and its networks are never used for an
//! agent's data.

use crate::core::hex::to_hex;
mod address;
mod advisory;
mod buildkit;
mod connect;
mod docker;
mod error;
pub mod fake;
mod hijack;
pub mod image;
mod local_stream;
mod spec;
mod ssh;
mod traits;

pub use address::recorded_choice;
pub use docker::Docker;
pub(crate) use error::EngineError;
pub(crate) use spec::{
    AgentContainerOptions, AgentVolumes, ContainerSpec, Mount, Network, OWNER_PORT, SIDECAR_MOUNTS, SidecarLink,
    agent_spec,
};
pub use spec::{LinkKind, sidecar_spec};
pub use traits::{AttachedStreams, Engine, ImageInfo, Labels, OutputChunk};
pub(crate) use traits::{BuildLine, BuildProgress, EngineInfo, ImageBuild, TarStream, VolumeInfo, VolumeSpec};

/// Returns the SHA-256 in hexadecimal.
fn sha256_hex(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    to_hex(&Sha256::digest(bytes))
}
