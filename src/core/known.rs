//! A value that may be unknown.

use serde::{Deserialize, Serialize};

/// The content of a path that may be absent, if known.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Known<T> {
    #[default]
    Unknown,
    Absent,
    Present(T),
}

impl<T> Known<T> {
    /// Converts a known content.
    #[must_use]
    pub fn from_option(value: Option<T>) -> Self {
        value.map_or(Self::Absent, Self::Present)
    }

    /// Returns the content, of which `Some(None)` is absent, or `None` if it is unknown.
    #[must_use]
    pub fn as_option(&self) -> Option<Option<&T>> {
        match self {
            Self::Unknown => None,
            Self::Absent => Some(None),
            Self::Present(value) => Some(Some(value)),
        }
    }

    /// Applies a function to a present value.
    pub fn map<R>(self, change: impl FnOnce(T) -> R) -> Known<R> {
        match self {
            Self::Unknown => Known::Unknown,
            Self::Absent => Known::Absent,
            Self::Present(value) => Known::Present(change(value)),
        }
    }
}
