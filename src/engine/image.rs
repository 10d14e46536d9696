//! Provides the two images: the guest's, imported from the embedded binary, and the agent's, built from the embedded
//! Dockerfile.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::EngineError;
use super::traits::{BuildProgress, Engine, ImageBuild, TarStream};

/// The statically linked guest.
const GUEST_BINARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/airlock-guest"));
const DOCKERFILE: &str = include_str!("Dockerfile");
/// The version of Claude Code that this version of Airlock was tested with.
pub const CLAUDE_VERSION: &str = "2.1.197";
/// The default base of the agent image.
pub const DEFAULT_BASE: &str = "debian:bookworm-slim";
/// The name of the agent image.
pub const AGENT_IMAGE: &str = "airlock-agent:latest";
/// The label on both images: `guest` or `agent`.
pub const IMAGE_LABEL: &str = "dev.airlock.image";

/// Imports the guest image unless the engine has it, and returns its ID.
///
/// # Errors
/// The engine's architecture is not ours, the import fails, or an image of that name was not created by Airlock.
pub async fn ensure_guest(engine: &dyn Engine) -> Result<String, EngineError> {
    let ours = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let theirs = &engine.engine_info().await?.arch;
    if theirs != ours {
        return Err(EngineError::Refused {
            attempt: "prepare the guest".into(),
            message: format!("this airlock is built for {ours}, but the engine runs on {theirs}"),
            status: 0,
        });
    }
    let hash = guest_hash();
    let name = format!("airlock-guest:{}", &hash[..16]);
    let tar = build_guest_tar()?;
    let layer = format!("sha256:{}", super::sha256_hex(&tar));
    if let Some(image) = engine.find_image(&name).await? {
        if image.labels.get("dev.airlock.guest").is_none_or(|h| h != hash) {
            return Err(EngineError::Foreign { kind: "image", name });
        }
        // Anyone can give an image this name and label (`docker load`), but no one can forge the hash of its layer.
        if image.layers == [layer] && image.volumes.is_empty() {
            return Ok(image.id);
        }
    }
    let changes =
        [format!("LABEL {IMAGE_LABEL}=guest dev.airlock.guest={hash}"), r#"ENTRYPOINT ["/airlock/guest"]"#.into()];
    engine.import_image(Box::pin(futures_util::stream::iter([Ok(Bytes::from(tar))])), &name, &changes).await
}

/// Paths at which no image may declare a volume: the kernel's file systems and Airlock's own directory.
const RESERVED_PATHS: [&str; 4] = ["/proc", "/sys", "/dev", "/airlock"];

/// Returns the paths of an image's volumes that a temporary file system must cover. Otherwise the engine would create
/// volumes there that are neither counted nor removed.
///
/// # Errors
/// A path that cannot be covered: the root, a file system of the kernel, or a part of the workspace.
pub fn volumes_to_cover(volumes: &[String], workspace: &str) -> Result<Vec<String>, EngineError> {
    let mut covered = Vec::new();
    for volume in volumes {
        let path = format!("/{}", volume.split('/').filter(|c| !matches!(*c, "" | ".")).collect::<Vec<_>>().join("/"));
        let is_at_or_below = |parent: &str| path == parent || path.starts_with(&format!("{parent}/"));
        let is_relative = !volume.starts_with('/') || path.split('/').any(|c| c == "..");
        if path == workspace || matches!(path.as_str(), "/home/agent" | "/tmp") {
            continue;
        }
        if is_relative || path == "/" || is_at_or_below(workspace) || RESERVED_PATHS.iter().any(|r| is_at_or_below(r)) {
            let message = format!("the image declares a volume at {volume}, where a sandbox cannot have one");
            return Err(EngineError::Refused { attempt: "use the image".into(), message, status: 0 });
        }
        covered.push(path);
    }
    Ok(covered)
}

/// Returns the guest's identity: the hash of its binary, with a number to raise when the image's layout changes.
#[must_use]
pub fn guest_hash() -> &'static str {
    concat!("4-", env!("AIRLOCK_GUEST_HASH"))
}

fn build_guest_tar() -> io::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    // The engine copies the owner and mode of these directories to the empty volumes that are mounted there.
    let directories = [
        ("v", 0),
        ("v/work", 1000),
        ("v/home", 1000),
        ("v/base", 1000),
        ("v/base/tree", 1000),
        ("v/upper", 0),
        ("v/upper/upper", 1000),
        ("v/upper/work", 0),
        ("airlock", 0),
    ];
    for (path, owner) in directories {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o755);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_size(0);
        tar.append_data(&mut header, path, io::empty())?;
    }
    append_file(&mut tar, "airlock/guest", 0o755, GUEST_BINARY)?;
    tar.into_inner()
}

fn append_file(tar: &mut tar::Builder<impl io::Write>, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mode(mode);
    header.set_size(bytes.len() as u64);
    tar.append_data(&mut header, path, bytes)
}

/// The options for building the agent image.
#[derive(Debug, Clone)]
pub struct AgentImageOptions {
    /// The name of an image, or a file that contains a root file system as tar.
    pub base: String,
    /// The version of Claude Code to download unless `claude` is given.
    pub claude_version: String,
    /// A `claude` binary on this machine.
    pub claude: Option<PathBuf>,
}

/// Builds the agent image.
///
/// # Errors
/// A file that cannot be read, or an error of the builder.
pub async fn build_agent(
    engine: &dyn Engine,
    options: &AgentImageOptions,
    progress: &BuildProgress<'_>,
) -> Result<(), EngineError> {
    let mut base = options.base.clone();
    if Path::new(&base).is_file() {
        base = "airlock-base:latest".into();
        progress(&format!("importing the base image from {}", options.base));
        let file = File::open(&options.base).map_err(|e| EngineError::Refused {
            attempt: format!("read the base image {}", options.base),
            message: e.to_string(),
            status: 0,
        })?;
        engine.import_image(stream_file(file), &base, &[format!("LABEL {IMAGE_LABEL}=base")]).await?;
    }
    let fetch = match &options.claude {
        Some(_) => "FROM scratch AS claude\nCOPY claude /claude\n".to_owned(),
        None => concat!(
            "FROM node:22-bookworm-slim AS claude\n",
            "ARG CLAUDE_VERSION\n",
            "RUN cd /tmp && npm pack \"@anthropic-ai/claude-code-linux-$(node -p process.arch)@${CLAUDE_VERSION}\" \\\n",
            " && tar xzf ./*.tgz && mv package/claude /claude\n",
        )
        .to_owned(),
    };
    let dockerfile = DOCKERFILE.replace("# @claude@\n", &fetch);
    let context = build_context(dockerfile, options.claude.clone());
    let version = if options.claude.is_some() { "of this machine".into() } else { options.claude_version.clone() };
    let args = vec![("BASE".into(), base), ("CLAUDE_VERSION".into(), version)];
    // If the engine has no bridge, packages can only be downloaded through the host's network.
    let network = (!engine.has_bridge().await).then(|| "host".to_owned());
    engine.build_image(ImageBuild { context, name: AGENT_IMAGE.into(), args, network }, progress).await
}

fn build_context(dockerfile: String, claude: Option<PathBuf>) -> TarStream {
    let (writer, stream) = open_pipe();
    std::thread::spawn(move || {
        let errors = writer.0.clone();
        let result = (|| {
            let mut tar = tar::Builder::new(writer);
            append_file(&mut tar, "Dockerfile", 0o644, dockerfile.as_bytes())?;
            if let Some(path) = claude {
                let mut header = tar::Header::new_gnu();
                header.set_mode(0o755);
                let file = File::open(&path)?;
                header.set_size(file.metadata()?.len());
                tar.append_data(&mut header, "claude", file)?;
            }
            tar.into_inner().map(drop)
        })();
        if let Err(error) = result {
            let _ = errors.blocking_send(Err(error));
        }
    });
    stream
}

fn stream_file(mut file: File) -> TarStream {
    let (writer, stream) = open_pipe();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 18];
        loop {
            let piece = match file.read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => Ok(Bytes::copy_from_slice(&buffer[..n])),
                Err(error) => Err(error),
            };
            if writer.0.blocking_send(piece).is_err() {
                return;
            }
        }
    });
    stream
}

/// Creates a bounded pipe from a thread to a stream.
fn open_pipe() -> (PipeWriter, TarStream) {
    let (sender, receiver) = mpsc::channel(16);
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let item = receiver.recv().await?;
        Some((item, receiver))
    });
    (PipeWriter(sender), Box::pin(stream))
}

struct PipeWriter(mpsc::Sender<io::Result<Bytes>>);

impl io::Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes))).map_err(io::Error::other)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
