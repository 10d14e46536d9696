//! Handles signals while the working tree is written. The first signal rolls the write back. The second ends the process at
//! once, which is safe as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::terminal::Signals;

/// A flag that is set by a signal.
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Starts to handle signals, for the rest of the process. If this fails, a signal ends the process.
    pub(super) fn watch_signals() -> Self {
        let arrived = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&arrived);
        std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                let Ok(mut signals) = Signals::take_over() else { return };
                signals.next(0).await;
                flag.store(true, Ordering::SeqCst);
                signals.end_at_once();
                std::future::pending::<()>().await;
            });
        });
        Self(arrived)
    }

    /// Returns whether a signal has arrived.
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
