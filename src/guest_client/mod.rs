//! The host side of the connection to the guest program in a container. It reads and writes the files of volumes.

mod client;
mod read_file;
mod write;

pub use client::{GuestClient, GuestError};
pub(crate) use read_file::{PIECEWISE, take};
pub(crate) use write::{BATCH, Batch, pieces};
