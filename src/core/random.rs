//! Random bytes of the kernel.

use std::fs::File;
use std::io::{self, Read};

use super::hex::to_hex;

/// Reads random bytes from the kernel.
///
/// # Errors
/// If the kernel does not provide random bytes.
pub fn read_random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Creates a random ID of `N` bytes in hexadecimal.
///
/// # Errors
/// If the kernel does not provide random bytes.
pub fn create_random_id<const N: usize>() -> io::Result<String> {
    Ok(to_hex(&read_random_bytes::<N>()?))
}
