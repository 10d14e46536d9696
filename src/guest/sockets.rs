//! Sockets in the agent's network namespace. If the sidecar has joined it, they are created here. Otherwise the launcher creates
//! them and passes them to the sidecar's guest over a Unix socket in a volume that both containers mount.
//!
//! The launcher connects before the command starts, and the guest accepts a single connection, so no program of the agent can
//! reach the guest this way. Other guests in the sidecar get their sockets from the one that the launcher connected to, over an
//! abstract socket, which exists only in the sidecar's network namespace.
#![expect(clippy::disallowed_methods, reason = "it writes to a volume of the sandbox")]

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// The directory of the shared volume in the sidecar. It is missing if the sidecar's network namespace is the agent's.
const SHARED_DIR: &str = "/v/launcher";

/// The abstract name at which the other guests in the sidecar get sockets.
const ABSTRACT_NAME: &[u8] = b"airlock-sockets";

/// Maximum time that a launcher takes for a socket.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause between two attempts where a directory cannot be watched.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Maximum time that a launcher waits for the sidecar. It allows for a machine under load.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);

/// Number of connections that the kernel queues for a port. A client whose connection is not queued waits for a second.
const BACKLOG: i32 = 4096;

/// The requests of the guest, a byte each.
const REQUEST_IPV4: u8 = b'4';
const REQUEST_IPV6: u8 = b'6';
const REQUEST_START: u8 = b's';

/// `struct iovec`, see readv(2).
#[repr(C)]
struct IoSlice {
    base: *mut u8,
    length: usize,
}

/// `struct msghdr`, see recvmsg(2). The C libraries disagree on the width of the two lengths, which are small and little endian.
#[repr(C)]
struct MessageHeader {
    name: *mut u8,
    name_length: u64,
    slices: *mut IoSlice,
    slice_count: u64,
    control: *mut ControlMessage,
    control_length: u64,
    flags: i32,
}

/// `struct cmsghdr` with a single descriptor, see cmsg(3).
#[repr(C, align(8))]
#[derive(Default)]
struct ControlMessage {
    length: u64,
    level: i32,
    kind: i32,
    descriptor: RawFd,
}

/// `struct sockaddr_in` and `struct sockaddr_in6`, see ip(7) and ipv6(7).
#[repr(C, align(4))]
struct SocketAddress([u8; 28]);

unsafe extern "C" {
    #[link_name = "socket"]
    fn create_socket(domain: i32, kind: i32, protocol: i32) -> RawFd;
    #[link_name = "bind"]
    fn bind_socket(descriptor: RawFd, address: *const SocketAddress, length: u32) -> i32;
    #[link_name = "connect"]
    fn connect_socket(descriptor: RawFd, address: *const SocketAddress, length: u32) -> i32;
    #[link_name = "listen"]
    fn listen_socket(descriptor: RawFd, backlog: i32) -> i32;
    #[link_name = "sendmsg"]
    fn send_message(descriptor: RawFd, message: *const MessageHeader, flags: i32) -> isize;
    #[link_name = "recvmsg"]
    fn receive_message(descriptor: RawFd, message: *mut MessageHeader, flags: i32) -> isize;
    #[link_name = "inotify_init1"]
    fn create_watch(flags: i32) -> RawFd;
    #[link_name = "inotify_add_watch"]
    fn add_watch(descriptor: RawFd, path: *const std::ffi::c_char, mask: u32) -> i32;
}

const AF_INET: i32 = 2;
const AF_INET6: i32 = 10;
const SOCK_STREAM: i32 = 1;
const SOCK_CLOEXEC: i32 = 0x8_0000;
const SOL_SOCKET: i32 = 1;
const SCM_RIGHTS: i32 = 1;
const MSG_NOSIGNAL: i32 = 0x4000;
const MSG_CMSG_CLOEXEC: i32 = 0x4000_0000;
const IN_CLOEXEC: i32 = 0x8_0000;
const IN_MOVED_TO: u32 = 0x80;
/// `CMSG_LEN` of one descriptor.
const CONTROL_LENGTH: u64 = 20;

/// Returns the result of a system call that gives -1 for an error.
fn check_call(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Creates a stream socket in the network namespace of this process.
fn create_stream_socket(is_ipv6: bool) -> io::Result<OwnedFd> {
    // SAFETY: the call takes only numbers, and its result is an open descriptor that nothing else owns.
    unsafe {
        let domain = if is_ipv6 { AF_INET6 } else { AF_INET };
        check_call(create_socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0))
            .map(|descriptor| OwnedFd::from_raw_fd(descriptor))
    }
}

/// Encodes an address with the length of its structure.
fn encode_address(address: SocketAddr) -> (SocketAddress, u32) {
    let mut bytes = [0; 28];
    bytes[2..4].copy_from_slice(&address.port().to_be_bytes());
    let (family, length) = match address.ip() {
        IpAddr::V4(ip) => {
            bytes[4..8].copy_from_slice(&ip.octets());
            (AF_INET, 16)
        }
        IpAddr::V6(ip) => {
            bytes[8..24].copy_from_slice(&ip.octets());
            (AF_INET6, 28)
        }
    };
    bytes[..2].copy_from_slice(&u16::try_from(family).unwrap_or(0).to_ne_bytes());
    (SocketAddress(bytes), length)
}

/// The source of the sidecar's sockets.
#[derive(Clone, Default)]
pub struct SocketSource {
    /// The connection of the launcher, if it has its own network namespace.
    launcher: Arc<OnceLock<Mutex<UnixStream>>>,
}

impl SocketSource {
    /// Listens on an address.
    pub fn listen_on(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = self.open_socket(address.is_ipv6())?;
        let (encoded, length) = encode_address(address);
        // SAFETY: the address lives during the call, which reads `length` bytes of it.
        check_call(unsafe { bind_socket(socket.as_raw_fd(), &raw const encoded, length) })?;
        // SAFETY: the call takes only numbers.
        check_call(unsafe { listen_socket(socket.as_raw_fd(), BACKLOG) })?;
        Ok(TcpListener::from(socket))
    }

    /// Connects to an address.
    pub fn connect_to(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.open_socket(address.is_ipv6())?;
        let (encoded, length) = encode_address(address);
        // SAFETY: the address lives during the call, which reads `length` bytes of it.
        check_call(unsafe { connect_socket(socket.as_raw_fd(), &raw const encoded, length) })?;
        Ok(TcpStream::from(socket))
    }

    fn open_socket(&self, is_ipv6: bool) -> io::Result<OwnedFd> {
        if let Some(launcher) = self.launcher.get() {
            // A request and its answer are not mixed with another one.
            let launcher = launcher.lock().map_err(|_| io::Error::other("a thread panicked"))?;
            return request_socket(&launcher, is_ipv6);
        }
        // In the agent's network namespace, the agent could be what is connected to.
        if Path::new(SHARED_DIR).is_dir() {
            let first_guest = UnixStream::connect_addr(&UnixAddress::from_abstract_name(ABSTRACT_NAME)?)?;
            return request_socket(&first_guest, is_ipv6);
        }
        create_stream_socket(is_ipv6)
    }

    /// Waits for the launcher's connection to a socket of this name.
    pub fn accept_launcher(&self, name: &str) -> io::Result<()> {
        let path = Path::new(SHARED_DIR).join(name);
        let hidden = path.with_extension("new");
        let listener = UnixListener::bind(&hidden)?;
        std::fs::set_permissions(&hidden, std::fs::Permissions::from_mode(0o666))?;
        std::fs::rename(&hidden, &path)?;
        let accepted = listener.accept();
        // The command has not started, so nothing else can have connected or can connect later.
        std::fs::remove_file(&path)?;
        let (stream, _) = accepted?;
        // A launcher that is frozen holds up nothing but its own connections.
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        self.launcher.set(Mutex::new(stream)).map_err(|_| io::Error::other("a launcher is connected already"))?;
        self.serve_other_guests()
    }

    /// Passes sockets to the other guests in this container.
    fn serve_other_guests(&self) -> io::Result<()> {
        let listener = UnixListener::bind_addr(&UnixAddress::from_abstract_name(ABSTRACT_NAME)?)?;
        let source = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let source = source.clone();
                match stream {
                    // Without a thread, the connection ends.
                    Ok(stream) => drop(std::thread::Builder::new().spawn(move || {
                        serve_requests(&stream, |is_ipv6| source.open_socket(is_ipv6));
                    })),
                    // Such as too many open files.
                    Err(_) => std::thread::sleep(RETRY_PAUSE),
                }
            }
        });
        Ok(())
    }

    /// Lets the launcher start its command.
    pub fn start_command(&self) -> io::Result<()> {
        let launcher = self.launcher.get().ok_or_else(|| io::Error::other("no launcher is connected"))?;
        launcher.lock().map_err(|_| io::Error::other("a thread panicked"))?.write_all(&[REQUEST_START])
    }
}

/// Connects a launcher to the sidecar's socket, and waits until it exists.
pub fn connect_sidecar(path: &Path) -> io::Result<UnixStream> {
    let directory = path.parent().unwrap_or(path).as_os_str().as_encoded_bytes();
    let directory = std::ffi::CString::new(directory).map_err(io::Error::other)?;
    // Other processes of the same user, in other containers as well, may have used up the watches.
    let mut watch = watch_directory(&directory).ok();
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    let mut events = [0; 1024];
    loop {
        match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            connected => return connected,
        }
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() || !path.parent().is_some_and(Path::is_dir) {
            return Err(if remaining.is_zero() { io::ErrorKind::TimedOut } else { io::ErrorKind::NotFound }.into());
        }
        match &mut watch {
            Some(watch) if crate::tunnel::wait_readable(watch.as_raw_fd(), remaining)? => {
                let _ = watch.read(&mut events)?;
            }
            Some(_) => {}
            None => std::thread::sleep(RETRY_PAUSE),
        }
    }
}

/// Watches a directory for files that are renamed to names in it.
fn watch_directory(directory: &std::ffi::CStr) -> io::Result<std::fs::File> {
    // SAFETY: the path is a C string that lives during the call; the descriptor is owned by the file.
    unsafe {
        let watch = std::fs::File::from_raw_fd(check_call(create_watch(IN_CLOEXEC))?);
        check_call(add_watch(watch.as_raw_fd(), directory.as_ptr(), IN_MOVED_TO))?;
        Ok(watch)
    }
}

/// Answers the requests of the sidecar's guest. Returns `true` when the command is to start, and `false` when the guest has
/// ended.
pub fn serve_sidecar(stream: &UnixStream) -> bool {
    serve_requests(stream, create_stream_socket)
}

fn serve_requests(stream: &UnixStream, open_socket: impl Fn(bool) -> io::Result<OwnedFd>) -> bool {
    loop {
        let mut request = [0];
        match (&*stream).read(&mut request) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(1) => {}
            _ => return false,
        }
        if request[0] == REQUEST_START {
            return true;
        }
        if send_socket(stream, open_socket(request[0] == REQUEST_IPV6).ok()).is_err() {
            return false;
        }
    }
}

fn request_socket(mut stream: &UnixStream, is_ipv6: bool) -> io::Result<OwnedFd> {
    stream.write_all(&[if is_ipv6 { REQUEST_IPV6 } else { REQUEST_IPV4 }])?;
    receive_socket(stream)?.ok_or_else(|| io::Error::other("no socket can be opened"))
}

/// Sends a byte, with a socket if there is one.
fn send_socket(stream: &UnixStream, socket: Option<OwnedFd>) -> io::Result<()> {
    let mut byte = [u8::from(socket.is_some())];
    let descriptor = socket.as_ref().map_or(-1, AsRawFd::as_raw_fd);
    let mut control = ControlMessage { length: CONTROL_LENGTH, level: SOL_SOCKET, kind: SCM_RIGHTS, descriptor };
    let mut slice = IoSlice { base: byte.as_mut_ptr(), length: 1 };
    let mut message = build_message(&mut slice, &mut control);
    if socket.is_none() {
        message.control_length = 0;
    }
    // SAFETY: the message points to values that live on this stack.
    let sent = unsafe { send_message(stream.as_raw_fd(), &raw const message, MSG_NOSIGNAL) };
    if sent == 1 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Receives what [`send_socket`] sends.
fn receive_socket(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let (mut byte, mut control) = ([0], ControlMessage::default());
    let mut slice = IoSlice { base: byte.as_mut_ptr(), length: 1 };
    let mut message = build_message(&mut slice, &mut control);
    // SAFETY: the message points to values that live on this stack, and there is room for a single descriptor.
    let received = unsafe { receive_message(stream.as_raw_fd(), &raw mut message, MSG_CMSG_CLOEXEC) };
    let control_length = message.control_length;
    match received {
        1 => {}
        0 => return Err(io::ErrorKind::UnexpectedEof.into()),
        _ => return Err(io::Error::last_os_error()),
    }
    if control_length == 0
        || control.length != CONTROL_LENGTH
        || (control.level, control.kind) != (SOL_SOCKET, SCM_RIGHTS)
    {
        return Ok(None);
    }
    // SAFETY: the kernel has just opened the descriptor for this process, and nothing else owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(control.descriptor) }))
}

fn build_message(slice: &mut IoSlice, control: &mut ControlMessage) -> MessageHeader {
    MessageHeader {
        name: std::ptr::null_mut(),
        name_length: 0,
        slices: slice,
        slice_count: 1,
        control,
        control_length: CONTROL_LENGTH,
        flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr};

    #[test]
    fn sockets_are_passed_until_the_start_and_after_it() {
        let (guest, launcher) = UnixStream::pair().expect("a pair");
        let serving = std::thread::spawn(move || {
            let has_started = serve_sidecar(&launcher);
            (has_started, serve_sidecar(&launcher))
        });
        let source = SocketSource::default();
        assert!(source.launcher.set(Mutex::new(guest)).is_ok());
        let listener = source.listen_on((Ipv4Addr::LOCALHOST, 0).into()).expect("it listens");
        source.start_command().expect("sent");
        let address = listener.local_addr().expect("an address");
        let mut client = source.connect_to(address).expect("it connects");
        client.write_all(b"x").expect("written");
        let mut byte = [0];
        listener.accept().expect("accepted").0.read_exact(&mut byte).expect("read");
        assert_eq!(byte, *b"x");
        drop(listener);
        assert_eq!(source.connect_to(address).expect_err("closed").kind(), io::ErrorKind::ConnectionRefused);
        drop(source);
        assert_eq!(serving.join().expect("it ends"), (true, false));
    }

    #[test]
    fn addresses_are_encoded_as_the_kernel_reads_them() {
        let (encoded, length) = encode_address((Ipv4Addr::LOCALHOST, 0x1234).into());
        assert_eq!((&encoded.0[..8], length), (&[2, 0, 0x12, 0x34, 127, 0, 0, 1][..], 16));
        let (encoded, length) = encode_address((Ipv6Addr::LOCALHOST, 80).into());
        assert_eq!((encoded.0[0], encoded.0[23], length), (10, 1, 28));
    }
}
