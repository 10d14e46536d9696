//! Connections to the socket of a session, by their purpose.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::client::Event;
use super::frame::{Activity, Frame, OwnerMessage, Purpose, TerminalMessage, VERSION, read_frame, write_frame};
use super::owner_process::raise_signal;
use super::socket;

/// Time within which a new connection must say its purpose.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn accept_from(listener: Option<&UnixListener>) -> io::Result<UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Reads the purpose of a new connection.
pub(super) async fn greet_connection(stream: UnixStream, events: mpsc::UnboundedSender<Event>) {
    let Ok(mut stream) = socket::check_peer(stream) else { return };
    let hello = tokio::time::timeout(HELLO_TIMEOUT, read_frame::<TerminalMessage>(&mut stream)).await;
    let Ok(Ok(Some(Frame::Control(TerminalMessage::Hello { version, purpose, detach_keys, columns, rows })))) = hello
    else {
        return;
    };
    if version != VERSION {
        return refuse_connection(stream, "it was started by another version of Airlock");
    }
    let event = match purpose {
        Purpose::Attach => match detach_keys.parse() {
            Ok(keys) => Event::Attach { stream, keys, columns, rows },
            Err(_) => return refuse_connection(stream, "its detach keys are not valid"),
        },
        Purpose::Stop => Event::Stop(stream),
        Purpose::Query => Event::Query(stream),
    };
    let _ = events.send(event);
}

pub(super) fn refuse_connection(mut stream: UnixStream, reason: &str) {
    let message = Frame::Control(OwnerMessage::Refused { reason: reason.to_owned() });
    tokio::spawn(async move { write_frame(&mut stream, &message).await });
}

pub(super) fn answer_query(mut stream: UnixStream, activity: &Mutex<Activity>) {
    let Ok(activity) = activity.lock().map(|activity| *activity) else { return };
    tokio::spawn(async move { write_frame(&mut stream, &Frame::Control(OwnerMessage::Activity(activity))).await });
}

/// The socket of a run whose agent has no terminal. It can be stopped and queried.
pub(crate) struct ControlSocket {
    dir: PathBuf,
    task: JoinHandle<()>,
}

impl ControlSocket {
    /// Creates the socket in a sandbox's directory; returns `None` if the file system has no sockets.
    pub(crate) fn open(dir: &Path) -> Option<Self> {
        let listener = socket::open_listener(dir).ok()?;
        let (sender, mut events) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let activity = Mutex::new(Activity { is_waiting: false, is_attached: true, quiet_secs: 0 });
            let mut stoppers = Vec::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        tokio::spawn(greet_connection(stream, sender.clone()));
                    },
                    event = events.recv() => match event {
                        Some(Event::Stop(stream)) => {
                            stoppers.push(stream);
                            raise_signal("SIGTERM");
                        }
                        Some(Event::Attach { stream, .. }) => refuse_connection(stream, "its agent has no terminal"),
                        Some(Event::Query(stream)) => answer_query(stream, &activity),
                        _ => {}
                    }
                }
            }
        });
        Some(Self { dir: dir.to_owned(), task })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
        socket::remove(&self.dir);
    }
}
