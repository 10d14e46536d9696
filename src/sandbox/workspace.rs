//! The kinds of workspaces.

use serde::{Deserialize, Serialize};

/// The method by which a workspace gets the files of its base.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkspaceKind {
    /// An overlay over the base volume, without copying.
    #[default]
    Overlay,
    /// A copy of the base volume, for engines that cannot mount an overlay.
    Copy,
}
