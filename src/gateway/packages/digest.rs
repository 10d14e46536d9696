//! Digests by which an index identifies a file.

use sha2::{Digest as _, Sha256, Sha512};

use crate::core::hex::to_hex;

/// A digest of a file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FileDigest {
    Sha256([u8; 32]),
    Sha512([u8; 64]),
}

impl FileDigest {
    /// Parses a SHA-256 in hexadecimal.
    pub(super) fn from_sha256_hex(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self::Sha256(bytes))
    }

    /// Parses the strongest supported digest of a Subresource Integrity text, such as `sha512-…`.
    pub(super) fn from_integrity(text: &str) -> Option<Self> {
        use base64::Engine as _;
        let decode = |prefix: &str| {
            let digest = text.split_ascii_whitespace().find_map(|word| word.strip_prefix(prefix))?;
            base64::engine::general_purpose::STANDARD.decode(digest.split('?').next()?).ok()
        };
        let strong = decode("sha512-").and_then(|bytes| bytes.try_into().ok()).map(Self::Sha512);
        strong.or_else(|| decode("sha256-").and_then(|bytes| bytes.try_into().ok()).map(Self::Sha256))
    }
}

impl std::fmt::Display for FileDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sha256(bytes) => write!(f, "sha256:{}", to_hex(bytes)),
            Self::Sha512(bytes) => write!(f, "sha512:{}", to_hex(bytes)),
        }
    }
}

/// A check of content against a digest, chunk by chunk. Without a digest any content passes.
pub(super) enum DigestCheck {
    None,
    Sha256(Box<Sha256>, [u8; 32]),
    Sha512(Box<Sha512>, [u8; 64]),
}

impl DigestCheck {
    pub(super) fn new(digest: Option<&FileDigest>) -> Self {
        match digest {
            None => Self::None,
            Some(FileDigest::Sha256(bytes)) => Self::Sha256(Box::default(), *bytes),
            Some(FileDigest::Sha512(bytes)) => Self::Sha512(Box::default(), *bytes),
        }
    }

    pub(super) fn update_hash(&mut self, chunk: &[u8]) {
        match self {
            Self::None => {}
            Self::Sha256(hash, _) => hash.update(chunk),
            Self::Sha512(hash, _) => hash.update(chunk),
        }
    }

    /// Returns whether the whole content has the digest.
    pub(super) fn finish_check(self) -> bool {
        match self {
            Self::None => true,
            Self::Sha256(hash, expected) => hash.finalize().as_slice() == expected,
            Self::Sha512(hash, expected) => hash.finalize().as_slice() == expected,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_parsed_and_checked() {
        let hex = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let sri =
            "sha1-qZk= sha512-3a81oZNherrMQXNJriBBMRLm+k6JqX6iCp7u5ktV05ohkpkqJ0/BqDa6PCOj/uu9RU1EI2Q86A4qmslPpUyknw==";
        for digest in [FileDigest::from_sha256_hex(hex), FileDigest::from_integrity(sri)] {
            let digest = digest.expect("valid");
            let mut check = DigestCheck::new(Some(&digest));
            check.update_hash(b"a");
            check.update_hash(b"bc");
            assert!(check.finish_check(), "{digest}");
            let mut check = DigestCheck::new(Some(&digest));
            check.update_hash(b"abd");
            assert!(!check.finish_check(), "{digest}");
        }
        for bad in ["", "sha512-", "sha512-AAAA", "md5-AAAA", "sha1-qZk="] {
            assert_eq!(FileDigest::from_integrity(bad), None, "{bad}");
        }
        assert_eq!(FileDigest::from_sha256_hex(&"g".repeat(64)), None);
        assert_eq!(FileDigest::from_sha256_hex(&"+f".repeat(32)), None);
    }
}
