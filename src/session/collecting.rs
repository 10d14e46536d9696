//! Serves the terminal of a session while the changes are collected.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::client::{Client, Event, Shared};
use super::connections::{accept_from, answer_query, greet_connection, refuse_connection};
use super::frame::{Activity, OwnerMessage};
use super::owner_process::raise_signal;
use super::socket;
use crate::core::progress::{ProgressCounter, ProgressStep};

/// Interval of progress messages.
const TICK: Duration = Duration::from_millis(250);

/// The service of a terminal after the agent has ended.
pub(super) struct Collecting {
    pub client: Option<Client>,
    pub events: mpsc::UnboundedReceiver<Event>,
    pub listener: Option<UnixListener>,
    pub progress: Arc<ProgressCounter>,
    pub shared: Arc<Shared>,
    pub activity: Arc<Mutex<Activity>>,
    pub stoppers: Vec<UnixStream>,
    pub dir: PathBuf,
}

pub(super) struct CollectingTask {
    pub steps: mpsc::Sender<ClosingStep>,
    pub task: JoinHandle<()>,
}

/// A step of the end of a session.
pub(super) enum ClosingStep {
    StopListening(oneshot::Sender<()>),
    Close(OwnerMessage),
}

impl Collecting {
    pub(super) async fn serve_until_close(mut self, mut steps: mpsc::Receiver<ClosingStep>) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                step = steps.recv() => match step {
                    Some(ClosingStep::StopListening(done)) => {
                        if self.listener.take().is_some() {
                            socket::remove(&self.dir);
                        }
                        let _ = done.send(());
                    }
                    Some(ClosingStep::Close(message)) => {
                        // The sandbox is free, so nothing is left to wait for.
                        self.stoppers.clear();
                        if let Some(client) = self.client.take() {
                            client.send_message(message);
                            client.close_after_flush().await;
                        }
                        return;
                    }
                    None => return,
                },
                event = self.events.recv() => match event {
                    Some(Event::Signal { id, name }) if self.client.as_ref().is_some_and(|client| client.id == id) => raise_signal(&name),
                    Some(Event::Gone(id)) if self.client.as_ref().is_some_and(|client| client.id == id) => self.client = None,
                    Some(Event::Attach { stream, .. }) => refuse_connection(stream, "its agent has ended, and its changes are being collected"),
                    Some(Event::Stop(stream)) => self.stoppers.push(stream),
                    Some(Event::Query(stream)) => answer_query(stream, &self.activity),
                    _ => {}
                },
                accepted = accept_from(self.listener.as_ref()) => if let Ok(stream) = accepted {
                    tokio::spawn(greet_connection(stream, self.shared.events.clone()));
                },
                _ = tick.tick() => {
                    let now = self.progress.read();
                    if let Some(client) = self.client.as_ref().filter(|_| now.step == ProgressStep::Collecting) {
                        client.send_message(OwnerMessage::Collecting { files: now.files, bytes: now.bytes });
                    }
                }
            }
        }
    }
}
