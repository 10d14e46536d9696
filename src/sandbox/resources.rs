//! The engine's resources of one sandbox: its volumes and up to two containers, identified by its label.

use std::time::Duration;

use tokio::sync::mpsc;

use super::SandboxError;
use super::layer::Layer;
use super::store::SandboxRecord;
use super::workspace::WorkspaceKind;
use crate::base::{Base, REPOSITORY_LABEL, SEAL, TREE, base_volumes};
use crate::engine::{
    ContainerSpec, Engine, EngineError, Labels, LinkKind, Mount, Network, SIDECAR_MOUNTS, VolumeInfo, VolumeSpec,
    sidecar_spec,
};
use crate::gateway::TunnelConnection;
use crate::guest_client::GuestClient;
use crate::protocol::Root;

/// The label whose value is the sandbox's id.
pub(crate) const SANDBOX_LABEL: &str = "dev.airlock.sandbox";
/// The label that distinguishes the containers.
pub(super) const ROLE_LABEL: &str = "dev.airlock.role";
pub(super) const ROLE_SIDECAR: &str = "sidecar";
/// Maximum time that a command waits for the removal of volumes. The engine then continues by itself.
const REMOVAL_TIMEOUT: Duration = Duration::from_millis(150);
/// Maximum time for the whole removal, if the engine is behind a link or does not answer.
const REMOVAL_LIMIT: Duration = Duration::from_secs(10);

/// Number of retries of a removal while the engine is still busy, and the pause between them.
const REMOVAL_RETRIES: u32 = 50;
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The expected state of the volumes when a sidecar starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VolumeState {
    /// The base was just seeded by this process, and is not sealed yet.
    Unsealed,
    /// The base is sealed, and the workspace is unused.
    Fresh,
    /// The base is sealed; an agent has worked in the workspace.
    Used,
    /// An agent has worked in the workspace, and the process that built the base was killed before it could seal it.
    UsedUnsealed,
}

/// The engine's resources of one sandbox.
#[derive(Clone)]
pub(crate) struct EngineResources<'a> {
    pub engine: &'a dyn Engine,
    /// The kind of workspace.
    pub workspace: WorkspaceKind,
    id: String,
    repository: String,
    base: Base,
    /// The setup layer below an overlay workspace, or copied to a copied one.
    layer: Option<Layer>,
    /// The layer that the upper directory is to become.
    output: Option<Layer>,
}

/// A sidecar whose guest has answered.
pub(crate) struct Sidecar {
    pub container: String,
    /// The connection to its guest.
    pub guest: GuestClient,
}

impl<'a> EngineResources<'a> {
    /// Creates the resources of a recorded sandbox.
    #[must_use]
    pub(crate) fn from_record(engine: &'a dyn Engine, record: &SandboxRecord) -> Self {
        Self {
            engine,
            workspace: record.workspace_kind,
            id: record.id.clone(),
            repository: record.repository.clone(),
            base: record.base_volume.clone(),
            layer: record.layer.clone(),
            output: record.builds_layer.clone(),
        }
    }

    /// Creates resources without a record.
    #[must_use]
    pub(crate) fn new(
        engine: &'a dyn Engine,
        workspace: WorkspaceKind,
        id: String,
        repository: String,
        base: Base,
    ) -> Self {
        Self { engine, workspace, id, repository, base, layer: None, output: None }
    }

    /// Returns the name of a volume. The id is random, so the name cannot have been taken in advance. A volume that has
    /// it nevertheless is rejected by its labels, driver and options.
    #[must_use]
    pub(crate) fn volume_name(&self, kind: &str) -> String {
        format!("airlock-{}-{kind}", self.id)
    }

    /// Returns the name of a container.
    #[must_use]
    pub(crate) fn container_name(&self, role: &str) -> String {
        format!("airlock-{}-{role}", self.id)
    }

    /// Returns the labels of an object with this role.
    #[must_use]
    pub(crate) fn labels_for(&self, role: &str) -> Labels {
        let pairs = [(SANDBOX_LABEL, &self.id), (REPOSITORY_LABEL, &self.repository), (ROLE_LABEL, &role.to_owned())];
        pairs.into_iter().map(|(label, value)| (label.to_owned(), value.clone())).collect()
    }

    fn plain_volume(&self, kind: &str) -> VolumeSpec {
        VolumeSpec::new_plain(&self.volume_name(kind), &self.labels_for("volume"))
    }

    /// Returns the specification of the volume with the upper directory.
    fn upper_volume(&self) -> VolumeSpec {
        self.output.as_ref().map_or_else(|| self.plain_volume("upper"), Layer::volume_spec)
    }

    /// Returns the volume of the setup layer, if there is one.
    async fn layer_volume(&self) -> Result<Option<VolumeInfo>, SandboxError> {
        match &self.layer {
            Some(layer) => self.require_volume(&layer.volume_spec()).await.map(Some),
            None => Ok(None),
        }
    }

    fn overlay_volume(&self, base: &VolumeInfo, layer: Option<&VolumeInfo>, upper: &VolumeInfo) -> VolumeSpec {
        let mut lower = format!("{}/{}", base.mountpoint, String::from_utf8_lossy(TREE).trim_end_matches('/'));
        if let Some(layer) = layer {
            lower = format!("{}/upper:{lower}", layer.mountpoint);
        }
        let (up, work) = (format!("{}/upper", upper.mountpoint), format!("{}/work", upper.mountpoint));
        VolumeSpec::new_overlay(&self.volume_name("work"), &self.labels_for("volume"), &lower, &up, &work)
    }

    /// Returns the root with what was touched in the workspace, and that of the home.
    pub(crate) fn touched_roots(&self) -> [Root; 2] {
        let work = if self.workspace == WorkspaceKind::Overlay { Root::Upper } else { Root::Work };
        [work, if self.layer_with_home().is_some() { Root::UpperHome } else { Root::Home }]
    }

    /// Returns the layer whose home is below that of an overlay workspace's sandbox.
    fn layer_with_home(&self) -> Option<&Layer> {
        self.layer.as_ref().filter(|layer| layer.has_home && self.workspace == WorkspaceKind::Overlay)
    }

    /// Returns the specification of the home: a plain volume, or an overlay over the layer's.
    fn home_volume(&self, layer: Option<&VolumeInfo>, upper: Option<&VolumeInfo>) -> VolumeSpec {
        let (Some(layer), Some(upper), Some(_)) = (layer, upper, self.layer_with_home()) else {
            return self.plain_volume("home");
        };
        let path = |volume: &VolumeInfo, name: &str| format!("{}/{name}", volume.mountpoint);
        let (lower, up, work) = (path(layer, "home"), path(upper, "home"), path(upper, "home-work"));
        VolumeSpec::new_overlay(&self.volume_name("home"), &self.labels_for("volume"), &lower, &up, &work)
    }

    /// Creates the volume with the launcher's socket, if the containers are connected by one. An earlier run may have left it.
    pub(crate) async fn create_socket_volume(&self, link: LinkKind) -> Result<(), SandboxError> {
        if link == LinkKind::Socket {
            self.engine.create_volume(&self.plain_volume("socket")).await?;
        }
        Ok(())
    }

    /// Creates the volumes over an existing base.
    pub(crate) async fn create_volumes(
        &self,
        base: &VolumeInfo,
        guest_image: &str,
        link: LinkKind,
    ) -> Result<(), SandboxError> {
        let layer = self.layer_volume().await?;
        let (upper, work) = match self.workspace {
            WorkspaceKind::Copy => (None, self.plain_volume("work")),
            WorkspaceKind::Overlay => {
                let upper = self.engine.create_volume(&self.upper_volume()).await?;
                let work = self.overlay_volume(base, layer.as_ref(), &upper);
                (Some(upper), work)
            }
        };
        let home = self.home_volume(layer.as_ref(), upper.as_ref());
        let fill = async || match &upper {
            Some(_) if self.engine.engine_info().await?.is_podman => self.fill_upper(guest_image).await,
            _ => Ok(()),
        };
        let create = async |spec: &VolumeSpec| self.engine.create_volume(spec).await.map_err(SandboxError::from);
        tokio::try_join!(create(&home), create(&work), fill(), self.create_socket_volume(link))?;
        Ok(())
    }

    /// Fills the volume with the upper directory from the guest image by a container that ends at once. Podman mounts all volumes
    /// of a container before it fills one.
    async fn fill_upper(&self, guest_image: &str) -> Result<(), SandboxError> {
        let mount = Mount {
            volume: self.upper_volume().name,
            target: SIDECAR_MOUNTS.upper.into(),
            read_only: false,
            fill_from_image: true,
        };
        let name = self.container_name("fill");
        let spec = sidecar_spec(&name, guest_image, vec![mount], &self.labels_for("fill"));
        let container = self.engine.create_container(&spec).await?;
        // Without input, the guest ends.
        drop(self.engine.attach_container(&container, false).await?);
        self.engine.start_container(&container).await?;
        Ok(self.engine.remove_container(&container).await?)
    }

    /// Checks every volume before it is mounted again.
    pub(crate) async fn verify_volumes(&self) -> Result<(), SandboxError> {
        let [base, launcher] = base_volumes(&self.base);
        let base = self.require_volume(&base).await?;
        self.require_volume(&launcher).await?;
        let layer = self.layer_volume().await?;
        let (upper, work) = match self.workspace {
            WorkspaceKind::Copy => (None, self.plain_volume("work")),
            WorkspaceKind::Overlay => {
                let upper = self.require_volume(&self.upper_volume()).await?;
                let work = self.overlay_volume(&base, layer.as_ref(), &upper);
                (Some(upper), work)
            }
        };
        self.require_volume(&work).await?;
        self.require_volume(&self.home_volume(layer.as_ref(), upper.as_ref())).await?;
        Ok(())
    }

    async fn require_volume(&self, spec: &VolumeSpec) -> Result<VolumeInfo, SandboxError> {
        match self.engine.find_volume(&spec.name).await? {
            Some(found) if spec.is_same_volume(&found) => Ok(found),
            Some(_) => Err(EngineError::Foreign { kind: "volume", name: spec.name.clone() }.into()),
            None => Err(SandboxError::MissingVolume(spec.name.clone())),
        }
    }

    /// Returns the sidecar's mounts. The base is read-only, so that nothing written here can reach another sandbox.
    fn sidecar_mounts(&self, link: Option<LinkKind>) -> Vec<Mount> {
        let mount = |volume: String, target: &str, read_only, fill| Mount {
            volume,
            target: target.into(),
            read_only,
            fill_from_image: fill,
        };
        let overlay = self.workspace == WorkspaceKind::Overlay;
        let mut mounts = vec![
            mount(self.base.volume.clone(), SIDECAR_MOUNTS.base, true, false),
            // An overlay has the owner of its upper directory. That directory is initialized from the guest image when
            // the container is created, before the overlay is mounted.
            mount(self.volume_name("work"), SIDECAR_MOUNTS.work, false, !overlay),
            mount(self.volume_name("home"), SIDECAR_MOUNTS.home, false, self.layer_with_home().is_none()),
        ];
        if overlay {
            mounts.push(mount(self.upper_volume().name, SIDECAR_MOUNTS.upper, true, true));
        }
        if link == Some(LinkKind::Socket) {
            mounts.push(mount(self.volume_name("socket"), SIDECAR_MOUNTS.socket, false, false));
        }
        if let Some(layer) = &self.layer {
            mounts.push(mount(layer.volume_spec().name, SIDECAR_MOUNTS.layer, true, false));
        }
        mounts
    }

    /// Creates the sidecar without starting it. `link` is its connection to an agent's container, if there will be one.
    pub(crate) async fn create_sidecar(
        &self,
        guest_image: &str,
        link: Option<LinkKind>,
    ) -> Result<String, SandboxError> {
        let labels = self.labels_for(ROLE_SIDECAR);
        let spec = sidecar_spec(&self.container_name(ROLE_SIDECAR), guest_image, self.sidecar_mounts(link), &labels);
        let network = if link == Some(LinkKind::Network) { Network::None } else { spec.network };
        Ok(self.engine.create_container(&ContainerSpec { network, ..spec }).await?)
    }

    /// Starts the sidecar and checks the base's seal. New connections of the tunnel go to `accept`.
    pub(crate) async fn start_sidecar(
        &self,
        container: String,
        expect: VolumeState,
        accept: mpsc::UnboundedSender<TunnelConnection>,
    ) -> Result<Sidecar, SandboxError> {
        let attached = match self.engine.attach_container(&container, false).await {
            // It mounts the volumes then.
            Err(error) if self.engine.engine_info().await?.is_podman => return Err(SandboxError::Unmountable(error)),
            attached => attached?,
        };
        self.engine.start_container(&container).await.map_err(SandboxError::Unmountable)?;
        let guest = GuestClient::perform_handshake(attached, accept).await?;
        let is_sealed = matches!(expect, VolumeState::Fresh | VolumeState::Used);
        let untouched = matches!(expect, VolumeState::Fresh | VolumeState::Unsealed);
        let check_inodes = async || match self.workspace {
            WorkspaceKind::Overlay if untouched => inodes_agree(&guest).await,
            _ => Ok(true),
        };
        let (seal, agree) = tokio::join!(guest.read(Root::Base, SEAL, 1024), check_inodes());
        if is_sealed && seal.unwrap_or_default() != self.base.nonce.as_bytes() {
            return Err(SandboxError::SealMismatch(self.base.id.clone()));
        }
        if !agree? {
            return Err(SandboxError::InodeMismatch);
        }
        Ok(Sidecar { container, guest })
    }

    /// Starts another guest in a running sidecar. As root it may read everything; as the agent's user it may write.
    pub(crate) async fn exec_guest(&self, sidecar: &str, user: &str) -> Result<GuestClient, SandboxError> {
        let attached = self.engine.exec_process(sidecar, user, &["/airlock/guest", "serve"]).await?;
        let (accept, _none) = mpsc::unbounded_channel();
        Ok(GuestClient::perform_handshake(attached, accept).await?)
    }

    /// Returns the container of the running sidecar.
    pub(crate) async fn running_sidecar(&self) -> Result<Option<String>, SandboxError> {
        let all = self.engine.list_containers(SANDBOX_LABEL, Some(&self.id)).await?;
        let is_sidecar = |labels: &Labels| labels.get(ROLE_LABEL).is_some_and(|role| role == ROLE_SIDECAR);
        Ok(all.into_iter().find(|c| c.running && is_sidecar(&c.labels)).map(|c| c.id))
    }

    /// Removes the containers. The agent's comes before the sidecar's, whose network it may use.
    pub(crate) async fn remove_containers(&self) -> Result<(), SandboxError> {
        let mut all = self.engine.list_containers(SANDBOX_LABEL, Some(&self.id)).await?;
        all.sort_by_key(|c| c.labels.get(ROLE_LABEL).is_some_and(|role| role == ROLE_SIDECAR));
        for container in all {
            self.engine.remove_container(&container.id).await?;
        }
        Ok(())
    }

    /// Removes everything, and waits until it is gone.
    ///
    /// If an Airlock process was killed, the engine may still be creating a container. It appears after the others were
    /// removed and holds the volumes, so the removal is repeated for a while.
    pub(crate) async fn remove_all(&self) -> Result<(), SandboxError> {
        let mut retries = REMOVAL_RETRIES;
        loop {
            self.remove_containers().await?;
            match self.remove_volumes().await {
                Err(SandboxError::Engine(EngineError::Refused { status: 409, .. })) if retries > 0 => retries -= 1,
                other => return other,
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    async fn remove_volumes(&self) -> Result<(), SandboxError> {
        let all = self.engine.list_volumes(SANDBOX_LABEL, Some(&self.id)).await?;
        self.remove_listed(&all).await
    }

    async fn remove_listed(&self, all: &[VolumeInfo]) -> Result<(), SandboxError> {
        futures_util::future::try_join_all(all.iter().map(|v| self.engine.remove_volume(&v.name))).await?;
        // A layer that was not sealed goes with the sandbox that was to become it.
        match &self.output {
            Some(layer) => Ok(self.engine.remove_volume(&layer.volume_spec().name).await?),
            None => Ok(()),
        }
    }

    /// Asks the engine to remove the volumes of a sandbox without containers. Waits only briefly, because the engine
    /// continues by itself as soon as it has the requests. Leftovers can be found by their label.
    pub(crate) async fn remove_detached(&self) -> Result<(), SandboxError> {
        let removal = async {
            let all = self.engine.list_volumes(SANDBOX_LABEL, Some(&self.id)).await?;
            if self.engine.is_behind_link() {
                return self.remove_listed(&all).await;
            }
            tokio::time::timeout(REMOVAL_TIMEOUT, self.remove_listed(&all)).await.unwrap_or(Ok(()))
        };
        // A request that ssh has not sent yet is lost when this process ends, so the answers are waited for.
        tokio::time::timeout(REMOVAL_LIMIT, removal).await.unwrap_or(Ok(()))
    }
}

/// Returns whether an unchanged file has the base's inode number in the overlay, which collecting relies on.
async fn inodes_agree(guest: &GuestClient) -> Result<bool, SandboxError> {
    let inode = async |root, path: &[u8]| {
        let listed = guest.list_dir(root, path, 10_000).await?;
        Ok::<_, SandboxError>(listed.into_iter().find(|e| e.name == b"config").map(|e| e.stat.ino))
    };
    let in_base = [TREE, b".git"].concat();
    let (base, merged) = tokio::try_join!(inode(Root::Base, &in_base), inode(Root::Work, b".git"))?;
    Ok(base.is_some() && base == merged)
}
