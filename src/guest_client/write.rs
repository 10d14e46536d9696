//! Collects entries for the guest into frames.

use std::io::{self, Read};

use super::client::{GuestClient, GuestError};
use crate::protocol::{Encoder, Entry, Kind, Root};

/// Target size in bytes of a frame of entries. Dozens of frames can be in flight. The size is below the one from which
/// the allocator requests memory from the system each time.
pub(crate) const FRAME_SIZE: usize = 96 * 1024;

/// Splits content into pieces that fit into a frame beside other entries, each with its offset. Empty content is one
/// empty piece.
pub(crate) fn split_content(content: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let size = FRAME_SIZE - 8192;
    let count = content.len().div_ceil(size).max(1);
    (0..count).map(move |n| (n * size, &content[n * size..((n + 1) * size).min(content.len())]))
}

/// A batch of entries for one root, sent as frames of the first lane.
pub(crate) struct EntryBatch<'a> {
    guest: &'a GuestClient,
    root: Root,
    encoder: Encoder,
}

impl<'a> EntryBatch<'a> {
    pub(crate) fn new(guest: &'a GuestClient, root: Root) -> Self {
        Self { guest, root, encoder: Encoder::default() }
    }

    pub(crate) async fn add_entry(&mut self, path: &[u8], entry: &Entry<'_>) -> Result<(), GuestError> {
        self.encoder.encode_entry(self.root, path, entry);
        if self.encoder.0.len() >= FRAME_SIZE { self.send_entries().await } else { Ok(()) }
    }

    /// Adds a regular, non-executable file without a request for its stat data.
    pub(crate) async fn add_file(
        &mut self,
        path: &[u8],
        content: &mut (impl Read + io::Seek),
    ) -> Result<(), GuestError> {
        let size = content.seek(io::SeekFrom::End(0))?;
        content.rewind()?;
        let mut buffer = vec![0; usize::try_from(size).unwrap_or(usize::MAX).min(FRAME_SIZE - 8192)];
        let mut offset = 0;
        loop {
            let piece_len = buffer.len().min(usize::try_from(size - offset).unwrap_or(usize::MAX));
            content.read_exact(&mut buffer[..piece_len])?;
            let bytes = &buffer[..piece_len];
            let entry = Entry::File { executable: false, report: false, mtime: 0, size, offset, bytes };
            self.add_entry(path, &entry).await?;
            offset += piece_len as u64;
            if offset >= size {
                return Ok(());
            }
        }
    }

    pub(crate) async fn send_entries(&mut self) -> Result<(), GuestError> {
        let bytes = std::mem::take(&mut self.encoder.0);
        if bytes.is_empty() {
            return Ok(());
        }
        self.guest.send_frame(Kind::Write, 0, &bytes).await
    }
}
