//! The kinds of workspaces.

use serde::{Deserialize, Serialize};

/// The way in which a workspace gets its base's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Workspace {
    /// An overlay over the base volume: nothing is copied.
    #[default]
    Overlay,
    /// A copy of the base volume, for engines that cannot mount an overlay.
    Copy,
}
