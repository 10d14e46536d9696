//! The guest's end of the tunnel: connections of loopback ports, multiplexed over the guest's streams, with flow control
//! for each.
//!
//! One thread serves all connections, which are non-blocking. It holds at most [`WINDOW`] bytes of each, and takes no
//! further connection while it has [`MAX_CONNECTIONS`]: the kernel's queue holds the rest back.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::Output;
use crate::protocol::{Decoder, Frame, HOST_STREAMS, Kind, WINDOW};
use crate::sockets::SocketSource;

/// Maximum number of open connections.
const MAX_CONNECTIONS: usize = 1024;

/// Maximum number of connections that the host has closed and that the agent has not.
const MAX_CLOSING: usize = 256;

/// Maximum number of held connections. The launcher's connection comes before any of the agent's.
const MAX_HELD: usize = 8;

/// Number of bytes that are read from a connection at once.
const CHUNK: usize = 32 * 1024;

/// `struct pollfd`, see poll(2).
#[repr(C)]
struct PollEntry {
    descriptor: RawFd,
    events: i16,
    returned: i16,
}

unsafe extern "C" {
    /// See poll(2). `count` is `nfds_t`, an unsigned long.
    #[link_name = "poll"]
    fn poll_entries(entries: *mut PollEntry, count: usize, timeout: i32) -> i32;
}

const POLLIN: i16 = 1;
const POLLOUT: i16 = 4;

/// Waits until a descriptor can be read. Returns `false` at the timeout.
pub fn wait_readable(descriptor: RawFd, timeout: Duration) -> io::Result<bool> {
    let mut entry = PollEntry { descriptor, events: POLLIN, returned: 0 };
    let milliseconds = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).max(1);
    // SAFETY: the entry lives during the call, and `count` is 1.
    let ready = unsafe { poll_entries(&raw mut entry, 1, milliseconds) };
    if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(ready > 0) }
}

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

/// An event for the thread.
enum Event {
    Frame(Frame),
    Listener(TcpListener, u16),
    /// A connection that the host requested, or `None` if it failed.
    Connected(u32, Option<TcpStream>),
}

#[derive(Clone)]
struct Events {
    queue: Arc<Mutex<VecDeque<Event>>>,
    wake: Arc<UnixStream>,
}

impl Events {
    fn send_event(&self, event: Event) -> io::Result<()> {
        let mut queue = self.queue.lock().map_err(|_| io::Error::other("a thread panicked"))?;
        queue.push_back(event);
        if queue.len() == 1 {
            // The pipe is non-blocking. A full one wakes the thread as well.
            let _ = (&*self.wake).write(&[0]);
        }
        Ok(())
    }
}

/// The connections of one sandbox.
pub struct Tunnel {
    events: Events,
    sockets: SocketSource,
}

impl Tunnel {
    /// Creates a tunnel that does not listen yet, and starts its thread.
    pub fn new(output: &Output, sockets: SocketSource) -> io::Result<Self> {
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let events = Events { queue: Arc::default(), wake: Arc::new(wake) };
        let mut connections = Connections {
            output: output.clone(),
            events: events.clone(),
            woken,
            listeners: Vec::new(),
            open: HashMap::new(),
            connecting: HashMap::new(),
            closing: VecDeque::new(),
            next: 0,
        };
        std::thread::spawn(move || connections.serve_all());
        Ok(Self { events, sockets })
    }

    /// Listens on a loopback port, over IPv6 as well if the sandbox has it.
    pub fn listen_on(&self, port: u16) -> io::Result<()> {
        let listener = self.sockets.listen_on((Ipv4Addr::LOCALHOST, port).into())?;
        let second = self.sockets.listen_on((Ipv6Addr::LOCALHOST, port).into()).ok();
        for listener in [Some(listener), second].into_iter().flatten() {
            listener.set_nonblocking(true)?;
            self.events.send_event(Event::Listener(listener, port))?;
        }
        Ok(())
    }

    /// Handles a frame from the host. Never blocks.
    pub fn handle_frame(&self, frame: Frame) -> io::Result<()> {
        if frame.kind != Kind::Connect {
            return self.events.send_event(Event::Frame(frame));
        }
        let (id, port) = (frame.stream, u16::try_from(Decoder(&frame.payload).read_u32()?).map_err(io::Error::other)?);
        self.events.send_event(Event::Frame(frame))?;
        let events = self.events.clone();
        let sockets = self.sockets.clone();
        let connect = move || {
            // A server may listen on one of the two addresses only.
            let connect_to = |ip: IpAddr| sockets.connect_to((ip, port).into());
            let connected = connect_to(Ipv4Addr::LOCALHOST.into()).or_else(|_| connect_to(Ipv6Addr::LOCALHOST.into()));
            events.send_event(Event::Connected(id, connected.ok()))
        };
        // Without a thread, the connection fails.
        match std::thread::Builder::new().spawn(connect) {
            Ok(_) => Ok(()),
            Err(_) => self.events.send_event(Event::Connected(id, None)),
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// Number of bytes that may still be sent to the host.
    credit: u32,
    /// Bytes from the host, at most [`WINDOW`].
    queue: VecDeque<u8>,
    /// Whether the host has finished sending.
    host_finished: bool,
    /// Whether the agent's end has finished sending.
    agent_finished: bool,
    /// Whether the host has closed the connection. What the agent's end still sends is discarded: closing a socket with
    /// unread bytes would take the last bytes of the response from the agent.
    is_closing: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            credit: WINDOW,
            queue: VecDeque::new(),
            host_finished: false,
            agent_finished: false,
            is_closing: false,
        })
    }

    fn wanted_events(&self) -> i16 {
        let read = if (self.credit > 0 || self.is_closing) && !self.agent_finished { POLLIN } else { 0 };
        let write = if self.queue.is_empty() { 0 } else { POLLOUT };
        read | write
    }

    fn is_done(&self) -> bool {
        self.agent_finished && self.host_finished && self.queue.is_empty()
    }
}

/// The descriptors that are ready.
struct Ready {
    has_events: bool,
    /// The indices of listeners.
    listeners: Vec<usize>,
    /// The IDs of connections.
    connections: Vec<u32>,
}

/// The state of the thread.
struct Connections {
    output: Output,
    events: Events,
    woken: UnixStream,
    listeners: Vec<(TcpListener, u16)>,
    open: HashMap<u32, Connection>,
    /// The frames of the host for connections that are not established yet.
    connecting: HashMap<u32, Vec<Frame>>,
    /// The IDs of closing connections, the oldest first.
    closing: VecDeque<u32>,
    next: u32,
}

impl Connections {
    /// Serves all connections until the output is closed.
    fn serve_all(&mut self) {
        let mut buffer = vec![0; CHUNK];
        while self.serve_once(&mut buffer).is_ok() {}
        // Without the output, the host is gone, and the process ends with its input.
    }

    fn serve_once(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let ready = self.wait_ready()?;
        if ready.has_events {
            self.handle_events(buffer)?;
        }
        for at in ready.listeners {
            self.accept_waiting(at)?;
        }
        for id in ready.connections {
            self.transfer_bytes(id, buffer)?;
        }
        Ok(())
    }

    /// Waits until something is ready.
    fn wait_ready(&self) -> io::Result<Ready> {
        let entry = |descriptor, events| PollEntry { descriptor, events, returned: 0 };
        let accepts = if self.active_count() < MAX_CONNECTIONS { POLLIN } else { 0 };
        let mut entries = vec![entry(self.woken.as_raw_fd(), POLLIN)];
        entries.extend(self.listeners.iter().map(|(listener, _)| entry(listener.as_raw_fd(), accepts)));
        let mut ids = Vec::with_capacity(self.open.len());
        for (id, connection) in &self.open {
            // An entry without wanted events would report a hang-up again and again.
            let events = connection.wanted_events();
            if events != 0 {
                ids.push(*id);
                entries.push(entry(connection.stream.as_raw_fd(), events));
            }
        }
        // SAFETY: the entries live during the call, and `count` is their number.
        let ready = unsafe { poll_entries(entries.as_mut_ptr(), entries.len(), -1) };
        if ready < 0 && io::Error::last_os_error().kind() != ErrorKind::Interrupted {
            return Err(io::Error::last_os_error());
        }
        let is_ready = |entry: &PollEntry| ready > 0 && entry.returned != 0;
        let (own, connections) = entries.split_at(1 + self.listeners.len());
        Ok(Ready {
            has_events: is_ready(&own[0]),
            listeners: (0..self.listeners.len()).filter(|at| is_ready(&own[1 + at])).collect(),
            connections: ids
                .into_iter()
                .zip(connections)
                .filter(|(_, entry)| is_ready(entry))
                .map(|(id, _)| id)
                .collect(),
        })
    }

    fn handle_events(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        while matches!(self.woken.read(buffer), Ok(1..)) {}
        let events = {
            let mut queue = self.events.queue.lock().map_err(|_| io::Error::other("a thread panicked"))?;
            std::mem::take(&mut *queue)
        };
        for event in events {
            match event {
                Event::Listener(listener, port) => self.listeners.push((listener, port)),
                Event::Connected(id, stream) => {
                    let frames = self.connecting.remove(&id).unwrap_or_default();
                    match stream.and_then(|stream| Connection::new(stream).ok()) {
                        Some(connection) if self.active_count() < MAX_CONNECTIONS => {
                            self.open.insert(id, connection);
                            for frame in frames {
                                self.handle_frame(frame, buffer)?;
                            }
                        }
                        _ => self.output.send_frame(Kind::Reset, id, &[])?,
                    }
                }
                Event::Frame(frame) => self.handle_frame(frame, buffer)?,
            }
        }
        Ok(())
    }

    fn handle_frame(&mut self, frame: Frame, buffer: &mut [u8]) -> io::Result<()> {
        let id = frame.stream;
        if frame.kind == Kind::Connect {
            self.connecting.insert(id, Vec::new());
            return Ok(());
        }
        if let Some(frames) = self.connecting.get_mut(&id) {
            // As many bytes as the host has credit for.
            frames.push(frame);
            return Ok(());
        }
        let Some(connection) = self.open.get_mut(&id) else { return Ok(()) };
        match frame.kind {
            Kind::Data if connection.queue.len() + frame.payload.len() > WINDOW as usize => {
                return self.reset_connection(id);
            }
            Kind::Data => connection.queue.extend(frame.payload),
            Kind::Finish => connection.host_finished = true,
            Kind::Grant => {
                connection.credit = connection.credit.saturating_add(Decoder(&frame.payload).read_u32()?);
                return Ok(());
            }
            // The host has closed the connection. What it has sent before is delivered.
            _ if connection.host_finished => {
                connection.is_closing = true;
                self.closing.push_back(id);
                self.drop_oldest_closing();
            }
            _ => {
                self.remove_connection(id);
                return Ok(());
            }
        }
        self.transfer_bytes(id, buffer)
    }

    /// Accepts the connections that wait, as far as there is room.
    fn accept_waiting(&mut self, listener: usize) -> io::Result<()> {
        let port = self.listeners[listener].1;
        while self.active_count() < MAX_CONNECTIONS {
            // None is waiting, or there are too many descriptors: the next poll tries again.
            let Ok((stream, _)) = self.listeners[listener].0.accept() else { break };
            let Ok(connection) = Connection::new(stream) else { continue };
            while self.open.contains_key(&self.next) {
                self.next = (self.next + 1) % HOST_STREAMS;
            }
            let id = self.next;
            self.next = (self.next + 1) % HOST_STREAMS;
            self.output.send_frame(Kind::Open, id, &u32::from(port).to_le_bytes())?;
            self.open.insert(id, connection);
        }
        Ok(())
    }

    /// Transfers what is ready in both directions. A failure of the connection resets it.
    fn transfer_bytes(&mut self, id: u32, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = self.open.get_mut(&id) else { return Ok(()) };
        match send_down(connection) {
            Ok(0) => {}
            Ok(n) => self.output.send_frame(Kind::Grant, id, &n.to_le_bytes())?,
            Err(_) => return self.reset_connection(id),
        }
        let Some(connection) = self.open.get_mut(&id) else { return Ok(()) };
        match read_up(connection, buffer) {
            Ok(None) => {}
            Ok(Some(0)) => {
                connection.agent_finished = true;
                if !connection.is_closing {
                    self.output.send_frame(Kind::Finish, id, &[])?;
                }
            }
            Ok(Some(_)) if connection.is_closing => {}
            Ok(Some(n)) => {
                connection.credit -= u32::try_from(n).unwrap_or(connection.credit);
                self.output.send_frame(Kind::Data, id, &buffer[..n])?;
            }
            Err(_) => return self.reset_connection(id),
        }
        if self.open.get(&id).is_some_and(Connection::is_done) {
            self.remove_connection(id);
        }
        Ok(())
    }

    fn remove_connection(&mut self, id: u32) -> Option<Connection> {
        let removed = self.open.remove(&id)?;
        if removed.is_closing {
            self.closing.retain(|other| *other != id);
        }
        Some(removed)
    }

    fn drop_oldest_closing(&mut self) {
        while self.closing.len() > MAX_CLOSING {
            if let Some(oldest) = self.closing.pop_front() {
                self.open.remove(&oldest);
            }
        }
    }

    /// Returns the number of connections that the host has not closed.
    fn active_count(&self) -> usize {
        self.open.len() - self.closing.len()
    }

    fn reset_connection(&mut self, id: u32) -> io::Result<()> {
        match self.remove_connection(id) {
            // The host has already forgotten it.
            Some(connection) if connection.is_closing => Ok(()),
            Some(connection) => {
                let _ = connection.stream.shutdown(Shutdown::Both);
                self.output.send_frame(Kind::Reset, id, &[])
            }
            None => self.output.send_frame(Kind::Reset, id, &[]),
        }
    }
}

/// Writes queued bytes to the agent's end, and returns their number.
fn send_down(connection: &mut Connection) -> io::Result<u32> {
    let mut sent = 0;
    while !connection.queue.is_empty() {
        match connection.stream.write(connection.queue.as_slices().0) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(n) => {
                connection.queue.drain(..n);
                sent += u32::try_from(n).unwrap_or(0);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    if connection.queue.is_empty() && connection.host_finished {
        // The agent's end may be closed already.
        let _ = connection.stream.shutdown(Shutdown::Write);
    }
    Ok(sent)
}

/// Reads bytes from the agent's end, as far as the host has granted credit. Returns `None` if there are none yet.
fn read_up(connection: &mut Connection, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    if connection.agent_finished || (connection.credit == 0 && !connection.is_closing) {
        return Ok(None);
    }
    let allowed = if connection.is_closing { buffer.len() } else { buffer.len().min(connection.credit as usize) };
    match connection.stream.read(&mut buffer[..allowed]) {
        Ok(n) => Ok(Some(n)),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}
