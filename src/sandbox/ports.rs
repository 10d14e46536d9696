//! Ports: servers in the sandbox that are reached from the host, and services of the host that are reached from the
//! sandbox. Both go through the tunnel.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};

use crate::engine::OWNER_PORT;
use crate::gateway::{AuditLog, GATEWAY_PORT, TunnelConnection};
use crate::guest_client::GuestClient;

/// A port of the sandbox to publish: `[[ADDRESS:]HOSTPORT:]PORT`. The address is loopback unless it is given; a host port
/// of 0 stands for a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortSpec {
    pub address: IpAddr,
    pub host_port: u16,
    /// The port in the sandbox.
    pub port: u16,
}

impl std::str::FromStr for PortSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is not a port such as 3000, 8080:3000 or 0.0.0.0:8080:3000");
        let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
        let (rest, port) = text.rsplit_once(':').map_or((None, text), |(rest, port)| (Some(rest), port));
        let port = number(port)?;
        if port == 0 {
            return Err(wrong());
        }
        let address = |text: &str| text.trim_matches(['[', ']']).parse::<IpAddr>().map_err(|_| wrong());
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (address, host_port) = match rest {
            None => (local, port),
            Some(rest) if rest.bytes().all(|b| b.is_ascii_digit()) => (local, number(rest)?),
            Some(rest) => match rest.rsplit_once(':') {
                Some((host, host_port)) if !rest.ends_with(']') => (address(host)?, number(host_port)?),
                _ => (address(rest)?, port),
            },
        };
        Ok(Self { address, host_port, port })
    }
}

impl TryFrom<String> for PortSpec {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PortSpec> for String {
    fn from(spec: PortSpec) -> Self {
        spec.to_string()
    }
}

impl fmt::Display for PortSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", SocketAddr::new(self.address, self.host_port), self.port)
    }
}

/// A port of the host that is bound for a port of the sandbox.
#[derive(Debug, Clone)]
pub struct BoundPort {
    listener: Arc<std::net::TcpListener>,
    pub address: SocketAddr,
    pub port: u16,
}

impl BoundPort {
    /// Binds the host's port. Connections wait until they are served.
    ///
    /// # Errors
    /// The port is in use, or the address is none of this machine.
    pub fn bind_port(spec: PortSpec) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((spec.address, spec.host_port))?;
        listener.set_nonblocking(true)?;
        Ok(Self { address: listener.local_addr()?, listener: Arc::new(listener), port: spec.port })
    }

    /// Serves connections until the guest ends.
    ///
    /// # Errors
    /// The listener fails.
    pub async fn serve_port(self, guest: GuestClient, log: AuditLog) -> io::Result<()> {
        let listener = TcpListener::from_std(self.listener.try_clone()?)?;
        loop {
            let (client, peer) = listener.accept().await?;
            let Ok(inner) = guest.connect_to(self.port).await else { return Ok(()) };
            let (log, text) = (log.clone(), format!("{peer} to port {}", self.port));
            tokio::spawn(async move { log.relay_port("port", &text, inner, client).await });
        }
    }
}

/// Tasks that end when this is dropped.
#[derive(Default)]
pub(crate) struct PortTasks(Vec<tokio::task::JoinHandle<()>>);

impl PortTasks {
    /// Starts to serve a bound port.
    pub(crate) fn start_port(&mut self, bound: BoundPort, guest: &GuestClient, log: &AuditLog) {
        let serving = bound.serve_port(guest.clone(), log.clone());
        self.0.push(tokio::spawn(async move {
            let _ = serving.await;
        }));
    }
}

impl Drop for PortTasks {
    fn drop(&mut self) {
        self.0.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

/// Returns the problem of a port of the host that the sandbox should reach, if any.
#[must_use]
pub fn forward_obstacle(port: u16) -> Option<&'static str> {
    match port {
        0 => Some("is no port"),
        GATEWAY_PORT | OWNER_PORT => Some("is used by Airlock inside the sandbox"),
        1..1024 => Some("cannot be opened inside the sandbox, because it is below 1024"),
        _ => None,
    }
}

/// Connects a connection of the sandbox to the same port of the host's loopback.
pub(super) async fn forward_connection(connection: TunnelConnection, log: AuditLog) {
    let TunnelConnection { port, stream } = connection;
    let host = format!("127.0.0.1:{port}");
    match TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        Ok(service) => log.relay_port("forward", &host, stream, service).await,
        Err(error) => log.write_failed_port("forward", &host, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_parsed() {
        for (text, expected) in [
            ("3000", "127.0.0.1:3000:3000"),
            ("0:3000", "127.0.0.1:0:3000"),
            ("8080:3000", "127.0.0.1:8080:3000"),
            ("0.0.0.0:3000", "0.0.0.0:3000:3000"),
            ("0.0.0.0:8080:3000", "0.0.0.0:8080:3000"),
            ("[::1]:3000", "[::1]:3000:3000"),
            ("[::1]:8080:3000", "[::1]:8080:3000"),
        ] {
            let spec: PortSpec = text.parse().expect(text);
            assert_eq!(spec.to_string(), expected);
            assert_eq!(expected.parse(), Ok(spec));
        }
        for bad in ["", "0", "x", "70000", "3000:", ":3000", "a:3000", "8080:0", "1:2:3", "-1"] {
            assert!(bad.parse::<PortSpec>().is_err(), "{bad}");
        }
    }
}
