//! A signal while the working tree is written to: the first one has it taken back, the second ends the process at once,
//! which is safe too.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::terminal::Signals;

/// Whether a signal has come.
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Takes the signals over, for the rest of the process. Where that fails, a signal ends it.
    pub fn watch() -> Self {
        let came = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&came);
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
        Self(came)
    }

    /// Returns whether the signal has arrived.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}
