//! Reads files through the guest into the quarantine.

use super::client::{GuestClient, GuestError};
use crate::changes::{ContentHash, Quarantine};
use crate::protocol::Root;

/// Size in bytes above which a file is written to the quarantine piece by piece.
pub(crate) const PIECEWISE: u64 = 4 << 20;

/// Reads at most `limit` bytes of a file into the quarantine, and returns its hash and size.
pub(crate) async fn take(
    link: &GuestClient,
    root: Root,
    path: &[u8],
    limit: u64,
    store: &Quarantine,
) -> Result<(ContentHash, u64), GuestError> {
    let failed = |e: std::io::Error| match e.kind() {
        std::io::ErrorKind::StorageFull => GuestError::HostDiskFull(e.to_string()),
        _ => GuestError::File { attempt: "keep a file's content".into(), message: e.to_string() },
    };
    if limit <= PIECEWISE {
        let content = link.read(root, path, limit).await?;
        return Ok((store.put(&content).map_err(failed)?, content.len() as u64));
    }
    let mut incoming = store.start_blob().map_err(failed)?;
    link.read_pieces(root, path, limit, |piece| incoming.append(piece)).await?;
    incoming.finish().map_err(failed)
}
