//! Reads files through the guest into the quarantine.

use tokio::sync::Semaphore;

use super::client::{GuestClient, GuestError};
use crate::changes::{ContentHash, Quarantine};
use crate::protocol::Root;

/// Size in bytes above which a file is written to the quarantine piece by piece.
pub(crate) const STREAM_THRESHOLD: u64 = 4 << 20;
/// Maximum number of threads that store contents.
const STORING_THREADS: u32 = 4;

static STORING: Semaphore = Semaphore::const_new(STORING_THREADS as usize);

/// Waits until no thread stores a content. One continues when its caller has stopped waiting.
pub(crate) async fn wait_for_stores() {
    drop(STORING.acquire_many(STORING_THREADS).await);
}

/// Reads at most `limit` bytes of a file into the quarantine, and returns its hash and size.
pub(crate) async fn read_to_quarantine(
    guest: &GuestClient,
    root: Root,
    path: &[u8],
    limit: u64,
    store: &Quarantine,
) -> Result<(ContentHash, u64), GuestError> {
    let to_guest_error = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::StorageFull => GuestError::HostDiskFull(e.to_string()),
        _ => GuestError::File { attempt: "store a file's content".into(), message: e.to_string() },
    };
    if limit <= STREAM_THRESHOLD {
        let content = guest.read(root, path, limit).await?;
        // Other threads hash and write, because this one reads the answers.
        let (store, size) = (store.clone(), content.len() as u64);
        let permit = STORING.acquire().await.ok();
        let stored = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            store.store_blob(&content)
        });
        let stored = stored.await;
        let hash = stored.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(to_guest_error)?;
        return Ok((hash, size));
    }
    let mut blob = store.start_blob().map_err(to_guest_error)?;
    guest.read_pieces(root, path, limit, |piece| blob.append_chunk(piece)).await?;
    blob.finish().map_err(to_guest_error)
}
