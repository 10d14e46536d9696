//! The guest's end of the tunnel: a loopback listener whose connections are forwarded to the host, multiplexed and with
//! flow control.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::Output;
use crate::protocol::{Decoder, Frame, Kind, WINDOW};

/// Maximum number of open connections. Further ones are closed at once, so that an agent cannot exhaust the threads.
const MAX_CONNECTIONS: usize = 256;

/// Maximum number of held connections. The launcher's connection comes before any of the agent's.
const MAX_HELD: usize = 8;

/// Accepts connections on a loopback port and holds them open until this process ends. This lets a launcher notice that
/// its owner has ended. Nothing is read or written.
pub fn hold_port(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    std::thread::spawn(move || {
        let connections: Vec<TcpStream> = listener.incoming().flatten().take(MAX_HELD).collect();
        // The listener is closed after the last connection; the connections remain open.
        drop(listener);
        std::mem::forget(connections);
    });
    Ok(())
}

#[derive(Default)]
struct ConnectionState {
    /// Number of bytes that may still be sent to the host.
    credit: u32,
    /// Bytes from the host, at most [`WINDOW`].
    queue: VecDeque<u8>,
    finished: bool,
    is_closed: bool,
}

struct Connection {
    state: Mutex<ConnectionState>,
    changed: Condvar,
}

type Connections = Arc<Mutex<HashMap<u32, Arc<Connection>>>>;

/// The connections of one sandbox.
pub struct Tunnel {
    output: Output,
    connections: Connections,
    next: Arc<AtomicU32>,
}

impl Tunnel {
    /// Creates a tunnel that does not listen yet.
    pub fn new(output: &Output) -> Self {
        Self { output: output.clone(), connections: Connections::default(), next: Arc::default() }
    }

    /// Listens on a loopback port and serves its connections in threads.
    pub fn listen_on(&self, port: u16) -> io::Result<()> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let (output, connections, next) = (self.output.clone(), Arc::clone(&self.connections), Arc::clone(&self.next));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let id = next.fetch_add(1, Ordering::Relaxed);
                // A connection that cannot be served is closed when its stream is dropped.
                let _ = serve_connection(id, stream, &output, &connections);
            }
        });
        Ok(())
    }

    /// Handles a frame from the host. Never blocks.
    pub fn handle_frame(&self, frame: Frame) -> io::Result<()> {
        let Some(connection) = lock_mutex(&self.connections)?.get(&frame.stream).cloned() else { return Ok(()) };
        let mut state = lock_mutex(&connection.state)?;
        match frame.kind {
            Kind::Data if state.queue.len() + frame.payload.len() > WINDOW as usize => state.is_closed = true,
            Kind::Data => state.queue.extend(frame.payload),
            Kind::Finish => state.finished = true,
            Kind::Grant => state.credit = state.credit.saturating_add(Decoder(&frame.payload).read_u32()?),
            _ => state.is_closed = true,
        }
        connection.changed.notify_all();
        Ok(())
    }
}

fn serve_connection(id: u32, stream: TcpStream, output: &Output, connections: &Connections) -> io::Result<()> {
    let connection = Arc::new(Connection {
        state: Mutex::new(ConnectionState { credit: WINDOW, ..ConnectionState::default() }),
        changed: Condvar::new(),
    });
    {
        let mut all = lock_mutex(connections)?;
        if all.len() >= MAX_CONNECTIONS {
            return Ok(());
        }
        all.insert(id, Arc::clone(&connection));
    }
    let opened = stream
        .set_nodelay(true)
        .and_then(|()| stream.try_clone())
        .and_then(|up| output.send_frame(Kind::Open, id, &[]).map(|()| up));
    let (up, down) = match opened {
        Ok(up) => (up, stream),
        Err(error) => {
            // The host never hears of this connection, so nothing else would remove it.
            lock_mutex(connections)?.remove(&id);
            return Err(error);
        }
    };
    let (output, connections) = (output.clone(), Arc::clone(connections));
    std::thread::spawn(move || {
        let sender = {
            let (connection, output) = (Arc::clone(&connection), output.clone());
            std::thread::spawn(move || send_up(id, up, &connection, &output))
        };
        let sent_down = send_down(id, &down, &connection, &output);
        if sent_down.is_err() {
            let _ = down.shutdown(Shutdown::Both);
            let _ = output.send_frame(Kind::Reset, id, &[]);
        }
        let _ = sender.join();
        if let Ok(mut all) = connections.lock() {
            all.remove(&id);
        }
    });
    Ok(())
}

/// Copies data from the agent to the host, as far as the host has granted credit.
fn send_up(id: u32, mut stream: TcpStream, connection: &Connection, output: &Output) {
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let allowed = {
            let Ok(mut state) = connection.state.lock() else { return };
            while state.credit == 0 && !state.is_closed {
                let Ok(waited) = connection.changed.wait(state) else { return };
                state = waited;
            }
            if state.is_closed {
                return;
            }
            buffer.len().min(state.credit as usize)
        };
        match stream.read(&mut buffer[..allowed]) {
            Ok(0) => {
                let _ = output.send_frame(Kind::Finish, id, &[]);
                return;
            }
            Ok(n) => {
                if let Ok(mut state) = connection.state.lock() {
                    state.credit -= u32::try_from(n).unwrap_or(state.credit);
                }
                if output.send_frame(Kind::Data, id, &buffer[..n]).is_err() {
                    return;
                }
            }
            Err(_) => {
                if let Ok(mut state) = connection.state.lock() {
                    state.is_closed = true;
                    connection.changed.notify_all();
                }
                let _ = output.send_frame(Kind::Reset, id, &[]);
                return;
            }
        }
    }
}

/// Copies data from the host to the agent, and grants credit for delivered bytes.
fn send_down(id: u32, mut stream: &TcpStream, connection: &Connection, output: &Output) -> io::Result<()> {
    loop {
        let bytes: Vec<u8> = {
            let mut state = lock_mutex(&connection.state)?;
            while state.queue.is_empty() && !state.finished && !state.is_closed {
                state = connection.changed.wait(state).map_err(|_| io::Error::other("a thread panicked"))?;
            }
            if state.is_closed {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if state.queue.is_empty() {
                stream.shutdown(Shutdown::Write)?;
                return Ok(());
            }
            state.queue.drain(..).collect()
        };
        if let Err(error) = stream.write_all(&bytes) {
            lock_mutex(&connection.state)?.is_closed = true;
            connection.changed.notify_all();
            return Err(error);
        }
        let granted = u32::try_from(bytes.len()).unwrap_or(WINDOW);
        output.send_frame(Kind::Grant, id, &granted.to_le_bytes())?;
    }
}

fn lock_mutex<T>(mutex: &Mutex<T>) -> io::Result<std::sync::MutexGuard<'_, T>> {
    mutex.lock().map_err(|_| io::Error::other("a thread panicked"))
}
