//! Defines sandbox names that are easy to say, such as `calm-otter`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A valid sandbox name: 1 to 40 of `a-z 0-9 -`, starting with a letter or digit. It is also used as a directory name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxName(String);

/// The error for an invalid sandbox name.
#[derive(Debug, thiserror::Error)]
#[error("a sandbox name has 1 to 40 lower-case letters, digits and hyphens, and starts with a letter or digit")]
pub struct NameError;

const ADJECTIVES: [&str; 32] = [
    "amber", "bold", "brave", "brisk", "calm", "clear", "clever", "cosy", "crisp", "eager", "early", "fair", "fleet",
    "fond", "gentle", "glad", "keen", "kind", "lively", "lucky", "mellow", "merry", "mild", "neat", "noble", "plain",
    "proud", "quiet", "sunny", "swift", "warm", "wise",
];
const ANIMALS: [&str; 32] = [
    "badger", "bear", "beaver", "bison", "crane", "deer", "dove", "eagle", "egret", "falcon", "finch", "fox", "gull",
    "hare", "heron", "ibis", "kite", "lark", "lynx", "marten", "mole", "otter", "owl", "panda", "puffin", "raven",
    "robin", "seal", "stork", "swan", "tern", "wren",
];

impl SandboxName {
    /// Picks a name from random bytes.
    #[must_use]
    pub fn from_random_bytes(bytes: [u8; 2]) -> Self {
        let pick = |words: &[&'static str; 32], b: u8| words[usize::from(b) % 32];
        Self(format!("{}-{}", pick(&ADJECTIVES, bytes[0]), pick(&ANIMALS, bytes[1])))
    }

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SandboxName {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        let is_valid = (1..=40).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-');
        if is_valid { Ok(Self(text)) } else { Err(NameError) }
    }
}

impl std::str::FromStr for SandboxName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        text.to_owned().try_into()
    }
}

impl From<SandboxName> for String {
    fn from(name: SandboxName) -> Self {
        name.0
    }
}

impl fmt::Display for SandboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandbox_name_refuses_malformed_names() {
        for bad in ["", "-a", "A", "a/b", "..", "a b", "é", &"x".repeat(41)] {
            assert!(bad.parse::<SandboxName>().is_err(), "{bad}");
        }
        for seed in 0..=255 {
            let name = SandboxName::from_random_bytes([seed, seed.wrapping_mul(7)]);
            assert_eq!(name.as_str().parse::<SandboxName>().expect("random names are valid"), name);
        }
    }
}
