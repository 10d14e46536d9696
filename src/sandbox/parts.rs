//! What one sandbox has in the engine: three volumes and up to two containers, all found by its label.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sha2::{Digest, Sha256};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::SandboxError;
use super::link::Link;
use super::store::Record;
use crate::engine::{Engine, Labels, image, sidecar_spec};

/// The label whose value is the sandbox's id.
pub const LABEL: &str = "dev.airlock.sandbox";
/// The label whose value is the repository's, see [`repository_id`].
pub const REPOSITORY: &str = "dev.airlock.repo";
/// The label that tells the containers apart.
const ROLE: &str = "dev.airlock.role";
const SIDECAR: &str = "sidecar";

/// The engine objects of one sandbox.
#[derive(Clone)]
pub struct Parts<'a> {
    /// The engine that has them.
    pub engine: &'a dyn Engine,
    id: String,
    repository: String,
}

/// Names a repository for labels and records: a hash of where its git directory is.
#[must_use]
pub fn repository_id(common_dir: &Path) -> String {
    let hash = Sha256::digest(common_dir.as_os_str().as_bytes());
    hash.iter().take(8).map(|b| format!("{b:02x}")).collect()
}

/// A sidecar that answers.
pub struct Sidecar {
    /// The container's id.
    pub container: String,
    /// The conversation with its guest.
    pub link: Link,
}

impl<'a> Parts<'a> {
    /// Names the parts of a sandbox.
    #[must_use]
    pub fn of(engine: &'a dyn Engine, record: &Record) -> Self {
        Self { engine, id: record.id.clone(), repository: record.repository.clone() }
    }

    /// Gives the volumes' names: workspace, home, launcher. The id is random, so nobody can have taken them beforehand;
    /// what is there nevertheless is refused by its labels.
    #[must_use]
    pub fn volumes(&self) -> [String; 3] {
        ["work", "home", "launch"].map(|kind| format!("airlock-{}-{kind}", self.id))
    }

    /// Gives the labels of an object with this role.
    #[must_use]
    pub fn labels(&self, role: &str) -> Labels {
        let own = [(LABEL, &self.id), (REPOSITORY, &self.repository), (ROLE, &role.to_owned())];
        own.into_iter().map(|(label, value)| (label.to_owned(), value.clone())).collect()
    }

    /// Makes the volumes.
    pub async fn create_volumes(&self) -> Result<(), SandboxError> {
        let labels = self.labels("volume");
        for name in self.volumes() {
            self.engine.create_volume(&name, &labels).await?;
        }
        Ok(())
    }

    /// Starts a sidecar over the volumes; connections of the tunnel go to `accept`.
    pub async fn start_sidecar(&self, accept: mpsc::UnboundedSender<DuplexStream>) -> Result<Sidecar, SandboxError> {
        let guest = image::ensure_guest(self.engine).await?;
        let names = self.volumes();
        let volumes = [names[0].as_str(), names[1].as_str(), names[2].as_str()];
        let spec = sidecar_spec(&format!("airlock-{}-sidecar", self.id), &guest, volumes, &self.labels(SIDECAR));
        let container = self.engine.create_container(&spec).await?;
        let attached = self.engine.attach(&container, false).await?;
        self.engine.start(&container).await?;
        let link = Link::greet(attached, accept).await?;
        Ok(Sidecar { container, link })
    }

    /// Talks to a guest of its own in a sidecar that runs: as root it may read everything, as the agent's user it may write.
    pub async fn converse(&self, sidecar: &str, user: &str) -> Result<Link, SandboxError> {
        let attached = self.engine.exec(sidecar, user, &["/airlock/guest", "serve"]).await?;
        let (accept, _none) = mpsc::unbounded_channel();
        Ok(Link::greet(attached, accept).await?)
    }

    /// Finds the sidecar that runs.
    pub async fn running_sidecar(&self) -> Result<Option<String>, SandboxError> {
        let all = self.engine.containers(LABEL, Some(&self.id)).await?;
        Ok(all.into_iter().find(|c| c.running && c.labels.get(ROLE).is_some_and(|role| role == SIDECAR)).map(|c| c.id))
    }

    /// Removes the containers, the agent's before the sidecar whose network it uses.
    pub async fn remove_containers(&self) -> Result<(), SandboxError> {
        let mut all = self.engine.containers(LABEL, Some(&self.id)).await?;
        all.sort_by_key(|c| c.labels.get(ROLE).is_some_and(|role| role == SIDECAR));
        for container in all {
            self.engine.remove_container(&container.id).await?;
        }
        Ok(())
    }

    /// Removes everything.
    pub async fn remove(&self) -> Result<(), SandboxError> {
        self.remove_containers().await?;
        for volume in self.engine.volumes(LABEL, Some(&self.id)).await? {
            self.engine.remove_volume(&volume.name).await?;
        }
        Ok(())
    }
}
