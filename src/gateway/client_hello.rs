//! Reads the server name (SNI) from the first message of a TLS connection (RFC 8446, 4.1.2; RFC 6066, 3).

/// The longest first message that is read, in bytes.
pub(super) const MAX_HELLO: usize = 16 * 1024 + 5;

/// The result of reading the bytes so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HelloState {
    /// More bytes are needed.
    Incomplete,
    /// The message names this server.
    ServerName(String),
    /// The bytes are no client's first message, or it names no server.
    Invalid,
}

/// Parses the bytes so far. The message may be split over several records.
#[must_use]
pub fn parse_hello(mut bytes: &[u8]) -> HelloState {
    let mut message = Vec::new();
    loop {
        let Some((head, rest)) = bytes.split_first_chunk::<5>() else {
            let is_record =
                bytes.first().is_none_or(|kind| *kind == 22) && bytes.get(1).is_none_or(|major| *major == 3);
            return if is_record { HelloState::Incomplete } else { HelloState::Invalid };
        };
        let length = usize::from(u16::from_be_bytes([head[3], head[4]]));
        // A handshake record of TLS 1.0 to 1.3.
        if head[0] != 22 || head[1] != 3 || length == 0 || length > 16 * 1024 {
            return HelloState::Invalid;
        }
        let Some((record, rest)) = rest.split_at_checked(length) else { return HelloState::Incomplete };
        message.extend_from_slice(record);
        bytes = rest;
        if let Some(size) = message.get(1..4) {
            let size = usize::from(size[0]) << 16 | usize::from(size[1]) << 8 | usize::from(size[2]);
            if message[0] != 1 || size > MAX_HELLO {
                return HelloState::Invalid;
            }
            if let Some(body) = message.get(4..4 + size) {
                return find_server_name(body).map_or(HelloState::Invalid, HelloState::ServerName);
            }
        }
    }
}

fn find_server_name(body: &[u8]) -> Option<String> {
    // Version and random.
    let mut rest = body.get(34..)?;
    for length_bytes in [1, 2, 1] {
        // Session ID, cipher suites, compression methods.
        take_vector(&mut rest, length_bytes)?;
    }
    let mut extensions = take_vector(&mut rest, 2)?;
    let mut found = None;
    while !extensions.is_empty() {
        let (kind, after) = extensions.split_first_chunk::<2>()?;
        extensions = after;
        let mut content = take_vector(&mut extensions, 2)?;
        if *kind == [0, 0] {
            let mut names = take_vector(&mut content, 2)?;
            let (kind, after) = names.split_first()?;
            names = after;
            let name = take_vector(&mut names, 2)?;
            // A second name, or a second extension, could be the one that the server reads.
            if *kind != 0 || !names.is_empty() || !content.is_empty() || found.is_some() {
                return None;
            }
            found = Some(std::str::from_utf8(name).ok().filter(|name| name.is_ascii())?.to_owned());
        }
    }
    found
}

/// Takes a vector with a length prefix of one or two bytes.
fn take_vector<'a>(bytes: &mut &'a [u8], length_bytes: usize) -> Option<&'a [u8]> {
    let (length, rest) = bytes.split_at_checked(length_bytes)?;
    let length = length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (vector, rest) = rest.split_at_checked(length)?;
    *bytes = rest;
    Some(vector)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn real_hello(name: &str) -> Vec<u8> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let name = name.to_owned().try_into().expect("a server name");
        let mut connection = rustls::ClientConnection::new(Arc::new(config), name).expect("a connection");
        let mut bytes = Vec::new();
        connection.write_tls(&mut bytes).expect("written");
        bytes
    }

    #[test]
    fn server_name_is_read_at_every_split() {
        let hello = real_hello("files.example");
        for end in 0..hello.len() {
            assert_eq!(parse_hello(&hello[..end]), HelloState::Incomplete, "{end}");
        }
        assert_eq!(parse_hello(&hello), HelloState::ServerName("files.example".into()));
        // The same message in records of 40 bytes.
        let split: Vec<u8> = hello[5..]
            .chunks(40)
            .flat_map(|chunk| [&[22, 3, 1, 0, u8::try_from(chunk.len()).expect("small")][..], chunk].concat())
            .collect();
        assert_eq!(parse_hello(&split), HelloState::ServerName("files.example".into()));
        assert_eq!(parse_hello(&real_hello("127.0.0.1")), HelloState::Invalid, "an address is no name");
    }

    #[test]
    fn other_first_messages_are_invalid() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SSH-2.0-x\r\n",
            &[22, 2, 0, 0, 0],
            &[23, 3, 3, 0, 1, 0],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0, 4, 2, 0, 0, 0],
            &[22, 3, 1, 255, 255],
        ] {
            assert_eq!(parse_hello(bytes), HelloState::Invalid, "{bytes:?}");
        }
        let hello = real_hello("files.example");
        for at in 0..hello.len() {
            let mut changed = hello.clone();
            changed[at] ^= 0xff;
            // Must not panic, and never names another well-formed host than one that differs by the changed byte.
            let _ = parse_hello(&changed);
        }
    }
}
