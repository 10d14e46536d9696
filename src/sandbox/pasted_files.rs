//! Brings files that are pasted into a session to the home of its sandbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::home_copies::write_home_copies;
use super::request::PastedFileReader;
use super::resources::EngineResources;
use crate::session::PasteHandler;

/// The directory in the home for copies of the user's files.
pub(crate) const COPIES_DIRECTORY: &str = "from-host";

/// Writes pasted files to a running sandbox.
pub(super) struct PastedFiles<'a> {
    pub resources: &'a EngineResources<'a>,
    pub sidecar: &'a str,
    pub reader: &'a PastedFileReader,
    /// Whether a file was brought.
    pub is_used: AtomicBool,
}

#[async_trait::async_trait]
impl PasteHandler for PastedFiles<'_> {
    async fn bring_pasted(&self, text: String) -> Option<String> {
        // A file may be on a disk that does not answer.
        let reader = Arc::clone(self.reader);
        let (copies, replaced) = tokio::task::spawn_blocking(move || reader(&text)).await.ok()??;
        let writer = self.resources.exec_guest(self.sidecar, "1000:1000").await.ok()?;
        write_home_copies(&writer, &copies, "").await.ok()?;
        self.is_used.store(true, Ordering::SeqCst);
        Some(replaced)
    }
}
