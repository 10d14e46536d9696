//! The host side of the connection to the guest program in a container. It reads and writes the files of volumes.

mod client;
mod read_file;
mod write;

pub use client::{DirComparison, GuestClient, GuestError};
pub(crate) use read_file::{STREAM_THRESHOLD, read_to_quarantine, wait_for_stores};
pub(crate) use write::{EntryBatch, FRAME_SIZE, split_content};
