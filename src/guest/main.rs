//! The guest: Airlock's own program inside the containers.
//!
//! In the trusted sidecar, `serve` is a file server on its standard streams and the listener of the network tunnel. In
//! the agent's container, `exec` is the launcher. The guest has no policy: the host decides what to list, read and
//! write. The guest must never follow a symlink, hold a secret, or use a crate.
#![expect(clippy::disallowed_macros, reason = "its standard error is the engine's, and has a reader")]

// Shared with the host, which uses all of it.
#[allow(dead_code, reason = "the host uses the other half of the protocol")]
#[path = "../protocol.rs"]
mod protocol;

mod commits;
mod environment;
mod exec;
mod files;
mod filter;
mod home;
mod init;
mod sockets;
mod tunnel;

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use protocol::{Decoder, Kind};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let result = match args.next().as_deref().and_then(|a| a.to_str()) {
        Some("serve") => serve_requests(),
        Some("exec") => return exec::run_launcher(args),
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "usage: airlock-guest serve | exec OWNER SECONDS BASE [HOME_FILE…] -- COMMAND…",
        )),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("airlock-guest: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The only writer to stdout, shared by every thread.
#[derive(Clone)]
pub struct Output(Arc<Mutex<BufWriter<File>>>);

impl Output {
    /// Opens standard output without the standard library's buffer, which writes each line by itself.
    fn open_stdout() -> io::Result<Self> {
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        Ok(Self(Arc::new(Mutex::new(BufWriter::with_capacity(1 << 16, stdout)))))
    }

    /// Sends one complete frame, and those that are queued.
    pub fn send_frame(&self, kind: Kind, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.queue_frame(kind, stream, payload)?;
        self.flush_frames()
    }

    /// Queues one complete frame. It is sent with the next one, when the buffer is full, or when no request waits.
    pub fn queue_frame(&self, kind: Kind, stream: u32, payload: &[u8]) -> io::Result<()> {
        let mut out = self.0.lock().map_err(|_| io::Error::other("a writer panicked"))?;
        out.write_all(&protocol::encode_header(kind, stream, payload.len()))?;
        out.write_all(payload)
    }

    /// Sends the queued frames.
    pub fn flush_frames(&self) -> io::Result<()> {
        self.0.lock().map_err(|_| io::Error::other("a writer panicked"))?.flush()
    }
}

/// Serves requests until stdin ends.
fn serve_requests() -> io::Result<()> {
    let output = Output::open_stdout()?;
    let mut input = BufReader::with_capacity(1 << 16, io::stdin().lock());
    let mut files = files::FileServer::start_writers(&output);
    let sockets = sockets::SocketSource::default();
    let tunnel = tunnel::Tunnel::new(&output, sockets.clone())?;
    while let Some(frame) = protocol::read_frame(&mut input)? {
        match frame.kind {
            Kind::Hello => output.send_frame(Kind::Hello, 0, &[protocol::BANNER, &frame.payload].concat())?,
            Kind::Listen => {
                let port = Decoder(&frame.payload).read_u32()?;
                tunnel.listen_on(u16::try_from(port).map_err(|_| io::Error::other("a port above 65535"))?)?;
                output.send_frame(Kind::Listening, 0, &[])?;
            }
            Kind::Hold => {
                let port = Decoder(&frame.payload).read_u32()?;
                tunnel::hold_port(u16::try_from(port).map_err(|_| io::Error::other("a port above 65535"))?)?;
                output.send_frame(Kind::Listening, 0, &[])?;
            }
            Kind::Accept => {
                let name = String::from_utf8(frame.payload).map_err(io::Error::other)?;
                let (sockets, output) = (sockets.clone(), output.clone());
                // Requests are served while the launcher starts.
                std::thread::spawn(move || {
                    // The answer has the reason of a failure.
                    let failure = sockets.accept_launcher(&name).err().map(|error| error.to_string());
                    let _ = output.send_frame(Kind::Listening, 0, failure.unwrap_or_default().as_bytes());
                });
            }
            // If the launcher has ended, the host notices it by its container.
            Kind::Start => drop(sockets.start_command()),
            Kind::Request => files.handle_request(frame.stream, &frame.payload)?,
            Kind::Write => files.queue_entries(frame.stream, frame.payload)?,
            Kind::Data | Kind::Finish | Kind::Reset | Kind::Grant | Kind::Connect => tunnel.handle_frame(frame)?,
            Kind::Open | Kind::Listening | Kind::Part | Kind::Done | Kind::Failed => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the host sent an answer"));
            }
        }
        // The answers to requests that wait together are sent together, whatever frame is the last of them.
        if input.buffer().is_empty() {
            output.flush_frames()?;
        }
    }
    Ok(())
}
