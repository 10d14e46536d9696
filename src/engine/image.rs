//! Provides the guest's image, imported from the embedded binary, and streams what images are built from.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::EngineError;
use super::spec::WRITABLE_PATHS;
use super::traits::{Engine, TarStream};

/// The statically linked guest.
const GUEST_BINARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/airlock-guest"));
/// The label on all images: `guest`, `agent`, `base` or `stage`.
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
    let labels = json!({IMAGE_LABEL: "guest", "dev.airlock.guest": hash});
    let archive = image_archive(&name, theirs, &labels, &tar)?;
    engine.load_image(Box::pin(futures_util::stream::iter([Ok(Bytes::from(archive))])), &name).await?;
    match engine.find_image(&name).await? {
        Some(image) => Ok(image.id),
        None => Err(EngineError::Refused {
            attempt: "prepare the guest".into(),
            message: format!("the engine has no image {name} after it was loaded"),
            status: 0,
        }),
    }
}

/// Creates an archive with an image of one layer, as `docker save` writes it. Engines import a bare file system in different
/// ways, but load such an archive in the same way.
fn image_archive(name: &str, arch: &str, labels: &Value, layer: &[u8]) -> io::Result<Vec<u8>> {
    let layer_hash = super::sha256_hex(layer);
    let config = json!({
        "architecture": arch,
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {"Labels": labels, "Entrypoint": ["/airlock/guest"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_hash}")]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "airlock"}],
    });
    let config = config.to_string();
    let (config_file, layer_file) =
        (format!("{}.json", super::sha256_hex(config.as_bytes())), format!("{layer_hash}/layer.tar"));
    let manifest = json!([{"Config": config_file, "RepoTags": [name], "Layers": [layer_file]}]).to_string();
    let mut tar = tar::Builder::new(Vec::new());
    append_file(&mut tar, &config_file, 0o644, config.as_bytes())?;
    append_file(&mut tar, &layer_file, 0o644, layer)?;
    append_file(&mut tar, "manifest.json", 0o644, manifest.as_bytes())?;
    tar.into_inner()
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
        if path == workspace || path == "/home/agent" || WRITABLE_PATHS.contains(&path.as_str()) {
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
    concat!("5-", env!("AIRLOCK_GUEST_HASH"))
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
        ("v/upper/home", 1000),
        ("v/upper/home-work", 0),
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

/// Creates the context of a build: a Dockerfile, and a file `claude` if there is one.
pub(crate) fn build_context(dockerfile: String, claude: Option<PathBuf>) -> TarStream {
    stream_archive(move |writer| {
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
    })
}

/// Streams what a thread writes.
pub(crate) fn stream_archive(write: impl FnOnce(&mut dyn io::Write) -> io::Result<()> + Send + 'static) -> TarStream {
    let (mut writer, stream) = open_pipe();
    std::thread::spawn(move || {
        if let Err(error) = write(&mut writer) {
            let _ = writer.0.blocking_send(Err(error));
        }
    });
    stream
}

/// Streams a file to the engine.
pub(crate) fn stream_file(mut file: File) -> TarStream {
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
