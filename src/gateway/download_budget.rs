//! The bytes that a sandbox may still download by all routes but the model's, and by the proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The reason of a refusal when no bytes are left.
pub(super) const NO_BUDGET: &str = "the sandbox has downloaded as much as max_download allows";

/// A number of bytes that all requests of a sandbox share.
#[derive(Debug, Clone)]
pub(super) struct DownloadBudget(Arc<AtomicU64>);

impl DownloadBudget {
    pub(super) fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// Charges bytes, and returns whether there were enough. If not, none are left.
    pub(super) fn charge_bytes(&self, bytes: u64) -> bool {
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(bytes)))
            .is_ok_and(|left| left >= bytes)
    }

    /// Returns whether no bytes are left.
    pub(super) fn is_spent(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_clones_share_the_bytes() {
        let budget = DownloadBudget::new(10);
        let other = budget.clone();
        assert!(budget.charge_bytes(6) && other.charge_bytes(4));
        assert!(budget.is_spent() && other.charge_bytes(0) && !other.charge_bytes(1));
        let budget = DownloadBudget::new(3);
        assert!(!budget.charge_bytes(4) && budget.is_spent());
    }
}
