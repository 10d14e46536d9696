//! Keeps the agent's screen in a thread, so that output that is slow to draw never holds up the owner.
//!
//! All output passes through the thread, so what a terminal gets is in order: output, a redraw, later output.

use std::io;

use tokio::sync::mpsc;

use super::screen::Screen;
use crate::terminal::ModeTracker;

/// Number of chunks that wait on each side of the thread.
const QUEUE_LENGTH: usize = 16;

/// A request to the thread.
pub(super) enum ScreenRequest {
    /// Filtered output of the agent.
    Output(Vec<u8>),
    Resize {
        columns: u16,
        rows: u16,
    },
    Redraw(RedrawRequest),
    /// The terminal with this ID is released.
    Leave(u64),
    /// The terminal with this ID is suspended.
    Suspend(u64),
}

/// A request to draw the screen on a terminal.
pub(super) struct RedrawRequest {
    /// The ID of the terminal.
    pub id: u64,
    /// The modes of a terminal that missed output, which are reset first. `None` for one that has just attached, which gets
    /// the lines above the screen as well.
    pub modes: Option<Box<ModeTracker>>,
}

/// A response of the thread.
pub(super) enum ScreenResponse {
    /// Output for the terminal that follows the session.
    Output(Vec<u8>),
    /// The screen for a terminal, which follows the session from here on.
    Redraw { id: u64, bytes: Vec<u8> },
    /// All output before the suspension of a terminal has passed.
    Suspend(u64),
    /// The output that moves the cursor of a released terminal below the contents.
    Leave { id: u64, bytes: Vec<u8> },
}

/// The ends of the thread's channels. The thread ends when its requests end.
pub(super) struct ScreenThread {
    pub requests: mpsc::Sender<ScreenRequest>,
    pub responses: mpsc::Receiver<ScreenResponse>,
}

impl ScreenThread {
    pub(super) fn start_thread(columns: u16, rows: u16) -> io::Result<Self> {
        let (requests, request_receiver) = mpsc::channel(QUEUE_LENGTH);
        let (response_sender, responses) = mpsc::channel(QUEUE_LENGTH);
        let follow = move || follow_requests(Screen::new(columns, rows), request_receiver, &response_sender);
        std::thread::Builder::new().name("screen".into()).spawn(follow)?;
        Ok(Self { requests, responses })
    }
}

fn follow_requests(
    mut screen: Screen,
    mut requests: mpsc::Receiver<ScreenRequest>,
    responses: &mpsc::Sender<ScreenResponse>,
) {
    while let Some(request) = requests.blocking_recv() {
        let response = match request {
            ScreenRequest::Output(bytes) => {
                screen.process_output(&bytes);
                ScreenResponse::Output(bytes)
            }
            ScreenRequest::Resize { columns, rows } => {
                screen.set_size(columns, rows);
                continue;
            }
            ScreenRequest::Redraw(RedrawRequest { id, modes }) => {
                let reset = modes.as_ref().map(|modes| modes.reset_sequence()).unwrap_or_default();
                let bytes = [reset, screen.redraw_sequence(modes.is_none())].concat();
                ScreenResponse::Redraw { id, bytes }
            }
            ScreenRequest::Suspend(id) => ScreenResponse::Suspend(id),
            ScreenRequest::Leave(id) => ScreenResponse::Leave { id, bytes: screen.leave_sequence() },
        };
        if responses.blocking_send(response).is_err() {
            return;
        }
    }
}
