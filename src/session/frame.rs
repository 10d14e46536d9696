//! The messages between the owner of a session and a terminal: frames of bytes or of JSON.
//!
//! A frame is its kind (one byte), its length (four bytes, big-endian) and its content. Both ends are processes of the same
//! user, but they may be of different versions of Airlock, see [`VERSION`].

use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The version of the messages. A terminal of another version is refused.
pub(crate) const VERSION: u32 = 1;
/// Maximum length of a frame in bytes.
const MAX_FRAME: usize = 16 << 20;

const BYTES: u8 = 0;
const CONTROL: u8 = 1;

/// A frame of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame<C> {
    /// Keys for the agent, or its output.
    Bytes(Vec<u8>),
    Control(C),
}

/// The purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Purpose {
    /// To show the session on a terminal.
    Attach,
    /// To end the agent.
    Stop,
    /// To ask for the session's activity.
    Query,
}

/// A message of a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub(crate) enum TerminalMessage {
    /// The first message of a connection, with the size and the detach keys of a terminal that attaches.
    Hello {
        version: u32,
        purpose: Purpose,
        #[serde(default)]
        detach_keys: String,
        columns: u16,
        rows: u16,
    },
    /// The size of the terminal.
    Resize { columns: u16, rows: u16 },
    /// The terminal's process has received this many signals, of which this is the last.
    Signal { name: String, count: u32 },
    /// The terminal's process was resumed after [`OwnerMessage::Suspend`]. `by_itself` if no shell could have resumed it,
    /// so it was not suspended.
    Continued { by_itself: bool },
}

/// A message of the owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "is")]
pub(crate) enum OwnerMessage {
    /// The terminal belongs to the agent from now on.
    /// `is_first` if the session was started from it.
    Attached { name: String, is_first: bool },
    /// The connection is refused, with the reason.
    Refused { reason: String },
    /// The agent was suspended by Ctrl-Z.
    Suspend,
    /// A message of Airlock for the user.
    Note { text: String },
    /// The terminal is released, because the user asked for it or another one has attached.
    Detached { taken_over: bool },
    /// The agent has ended.
    AgentEnded,
    /// The progress of collecting the changes.
    Collecting { files: u64, bytes: u64 },
    /// The changes are collected, and the sandbox is free.
    Finished,
    /// Airlock itself failed, with its message and exit status.
    Failed { text: String, status: u8 },
    /// The answer to [`Purpose::Query`].
    Activity(Activity),
}

/// The activity of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Activity {
    /// Whether the agent waits for the user.
    pub is_waiting: bool,
    /// Whether a terminal shows the session.
    pub is_attached: bool,
    /// Seconds since the agent's last output.
    pub quiet_secs: u64,
}

/// Reads a frame; returns `None` at the end of the connection.
///
/// # Errors
/// The connection fails, or the frame is malformed.
pub(crate) async fn read_frame<C: DeserializeOwned>(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<Frame<C>>> {
    let mut head = [0; 5];
    match stream.read_exact(&mut head).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let [kind, length @ ..] = head;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    let malformed = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    if length > MAX_FRAME {
        return Err(malformed(format!("a frame of {length} bytes is too long")));
    }
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await?;
    match kind {
        BYTES => Ok(Some(Frame::Bytes(content))),
        CONTROL => {
            let message = serde_json::from_slice(&content).map_err(|error| malformed(error.to_string()))?;
            Ok(Some(Frame::Control(message)))
        }
        kind => Err(malformed(format!("the kind of frame {kind} does not exist"))),
    }
}

/// Encodes a frame for a connection.
///
/// # Errors
/// The frame is too long.
pub(crate) fn encode_frame<C: Serialize>(frame: &Frame<C>) -> io::Result<Vec<u8>> {
    let (kind, content) = match frame {
        Frame::Bytes(bytes) => (BYTES, bytes.clone()),
        Frame::Control(message) => (CONTROL, serde_json::to_vec(message)?),
    };
    let length = u32::try_from(content.len()).ok().filter(|_| content.len() <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::other("the message is too long"))?;
    let mut encoded = vec![kind];
    encoded.extend(length.to_be_bytes());
    encoded.extend(content);
    Ok(encoded)
}

/// Writes a frame to a connection.
///
/// # Errors
/// The connection fails.
pub(crate) async fn write_frame<C: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    frame: &Frame<C>,
) -> io::Result<()> {
    stream.write_all(&encode_frame(frame)?).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_arrive_as_sent() {
        let frames = [
            Frame::Bytes(b"\x1b[0m\0".to_vec()),
            Frame::Bytes(Vec::new()),
            Frame::Control(TerminalMessage::Hello {
                version: VERSION,
                purpose: Purpose::Attach,
                detach_keys: "none".into(),
                columns: 80,
                rows: 24,
            }),
            Frame::Control(TerminalMessage::Resize { columns: 80, rows: 24 }),
            Frame::Control(TerminalMessage::Continued { by_itself: true }),
        ];
        let mut bytes = Vec::new();
        for frame in &frames {
            write_frame(&mut bytes, frame).await.expect("written");
        }
        let mut stream = bytes.as_slice();
        for frame in frames {
            assert_eq!(read_frame(&mut stream).await.expect("read"), Some(frame));
        }
        assert_eq!(read_frame::<TerminalMessage>(&mut stream).await.expect("the end"), None);
    }

    #[tokio::test]
    async fn malformed_frames_are_errors() {
        for bad in [&b"\x02\0\0\0\0"[..], b"\0\xff\xff\xff\xff", b"\x01\0\0\0\x02{]", b"\0\0\0\0\x09short"] {
            let mut stream = bad;
            assert!(read_frame::<TerminalMessage>(&mut stream).await.is_err(), "{}", bad.escape_ascii());
        }
    }
}
