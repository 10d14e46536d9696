//! The container engine: what Airlock asks of it, and how it is reached.
//!
//! *Architecture invariant:* only `docker.rs` and `hijack.rs` speak to an engine, and nothing above this room knows
//! which one it is. The engine's archive (copy) API, its builder's caches and its networks are never used for an agent's data.

mod address;
mod advisory;
mod docker;
mod error;
pub mod fake;
mod hijack;
pub mod image;
mod spec;
mod traits;

pub use advisory::{Advisory, advisories};
pub use docker::Docker;
pub use error::EngineError;
pub use spec::{
    AgentOptions, AgentVolumes, ContainerSpec, Mount, Network, OWNER_PORT, SIDECAR, agent_spec, sidecar_spec,
};
pub use traits::{
    Attached, Build, ContainerInfo, Engine, EngineInfo, ImageInfo, Labels, OutputChunk, Progress, TarStream,
    VolumeInfo, VolumeSpec,
};

/// Returns a SHA-256 in hexadecimal.
fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
