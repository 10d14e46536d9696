//! What a session does for its agent beside the screen: input, the size of the terminal, and signals.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::{Notify, mpsc, watch};

use super::client::Shared;
use crate::engine::Engine;

/// Pause after an agent was continued, so that forged reports do not occupy the engine.
const STOP_PAUSE: Duration = Duration::from_millis(200);
/// Maximum time for an agent's report that it continues.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum time of a call to the engine that nothing waits for.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(3);

/// Writes input to the agent, except while it is stopped.
pub(super) async fn write_input(
    input: Option<mpsc::UnboundedReceiver<Vec<u8>>>,
    mut agent: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>,
    shared: Arc<Shared>,
) {
    let Some(mut input) = input else { return };
    let mut is_stopped = shared.is_stopped.subscribe();
    while let Some(bytes) = input.recv().await {
        let _ = is_stopped.wait_for(|is_stopped| !is_stopped).await;
        let written = agent.write_all(&bytes).await;
        shared.input_room.add_permits(bytes.len());
        if written.is_err() || agent.flush().await.is_err() {
            break;
        }
    }
    // The connection stays open for the output. On some engines, dropping the input would end the output as well.
    std::future::pending::<()>().await;
}

/// Sends the size to the agent's terminal, now and at each change.
pub(super) async fn follow_size(engine: &dyn Engine, container: &str, mut sizes: watch::Receiver<(u16, u16)>) {
    loop {
        let (columns, rows) = *sizes.borrow_and_update();
        let _ = engine.resize_terminal(container, columns, rows).await;
        if sizes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Continues the stopped agent at each request.
pub(super) async fn continue_agent(
    engine: &dyn Engine,
    container: &str,
    mut requests: mpsc::Receiver<()>,
    is_stopped: &watch::Sender<bool>,
) {
    while requests.recv().await.is_some() {
        let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(container, "SIGCONT")).await;
        // Keys that arrive before it continues would be lost. Its report may be as well.
        let mut reports = is_stopped.subscribe();
        let _ = tokio::time::timeout(REPORT_TIMEOUT, reports.wait_for(|is_stopped| !is_stopped)).await;
        is_stopped.send_replace(false);
        tokio::time::sleep(STOP_PAUSE).await;
    }
    std::future::pending::<()>().await;
}

/// Grace period of an agent that is ended by Ctrl-C.
const CTRL_C_GRACE: Duration = Duration::from_secs(2);

/// Ends an agent after repeated Ctrl-C, and returns if its output still does not end.
pub(super) async fn end_on_keys(engine: &dyn Engine, container: &str, end_requested: &Notify) {
    end_requested.notified().await;
    let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(container, "SIGTERM")).await;
    tokio::time::sleep(CTRL_C_GRACE).await;
    let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(container, "SIGKILL")).await;
    tokio::time::sleep(ENGINE_TIMEOUT).await;
}
