//! What a person has decided, by unit id.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A decision; a unit without one is undecided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It goes to the host tree with the next apply.
    Accepted,
    /// It stays out.
    Rejected,
}

/// The decisions on one changeset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decisions {
    /// Version of this format.
    pub schema_version: u32,
    /// By unit id.
    pub units: BTreeMap<String, Decision>,
}

impl Default for Decisions {
    fn default() -> Self {
        Self { schema_version: 1, units: BTreeMap::new() }
    }
}

impl Decisions {
    /// Gives the decision on a unit.
    #[must_use]
    pub fn of(&self, id: &str) -> Option<Decision> {
        self.units.get(id).copied()
    }
}
