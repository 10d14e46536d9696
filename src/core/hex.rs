//! Formats bytes in hexadecimal.

/// Formats bytes in lowercase hexadecimal.
#[must_use]
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
