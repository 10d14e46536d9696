//! Defines the frames that the host and the guest exchange, and the messages of the file service inside them.
//!
//! The guest includes this file with `#[path]`, so it uses only std. A frame is
//! `length: u32 little endian | kind: u8 | stream: u32 little endian | payload`, where `length` counts only the payload
//! and is at most [`MAX_PAYLOAD`]. Both sides treat the other as hostile: a reader never allocates more than a frame
//! announces within that limit, and never panics.

use std::io::{self, Read};

/// The maximum payload of one frame, in bytes.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// The number of bytes before the payload.
pub const HEADER_LEN: usize = 9;
/// The number of bytes that one side of a tunnel stream may send before it is granted more.
pub const WINDOW: u32 = 256 * 1024;
/// The maximum length of a name in a directory, in bytes (`NAME_MAX` of Linux).
const MAX_NAME: usize = 255;
/// The maximum length of a symlink's target, in bytes (`PATH_MAX` of Linux).
const MAX_TARGET: usize = 4096;
/// The first bytes of the guest's reply to the handshake; the digits are the version of the protocol.
pub const BANNER: &[u8] = b"airlock-guest-9 ";

/// The meaning of a frame. The stream number is a request number for files and a connection number for the tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Host to guest: a nonce. Guest to host: [`BANNER`] and the same nonce.
    Hello = 1,
    /// Host to guest: open the tunnel's listener on the loopback port in the payload (`u16`).
    Listen = 2,
    /// Guest to host: the listener is open.
    Listening = 3,
    /// Host to guest: accept connections on the loopback port in the payload, and hold them open until the guest ends.
    Hold = 4,
    /// Host to guest: accept the launcher on a socket with the name in the payload. The answer, [`Kind::Listening`], follows when
    /// it has connected, or with the reason why none can. From then on, the tunnel's sockets come from it.
    Accept = 5,
    /// Host to guest: let the launcher start its command.
    Start = 6,
    /// Host to guest: a file request, see [`Request`].
    Request = 10,
    /// Guest to host: part of a reply; more parts follow.
    Part = 11,
    /// Guest to host: the last part of a reply.
    Done = 12,
    /// Guest to host: the request failed; the payload is the error number (`i32`) and a text.
    Failed = 13,
    /// Host to guest: entries to write, see [`Entry`]; the stream number is the writer's lane.
    Write = 14,
    /// Guest to host: the tunnel has a new connection to the loopback port in the payload (`u32`).
    Open = 20,
    /// Both directions: bytes of a connection.
    Data = 21,
    /// Both directions: the end of the bytes from this side.
    Finish = 22,
    /// Both directions: the connection is gone.
    Reset = 23,
    /// Both directions: the receiver grants the payload (`u32`) more bytes.
    Grant = 24,
    /// Host to guest: connect to the loopback port in the payload (`u32`). The number is at least [`HOST_STREAMS`].
    Connect = 25,
}

/// The first number of connections that the host opens. Those of the guest are below.
pub const HOST_STREAMS: u32 = 1 << 31;

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::*;
        [
            Hello, Listen, Listening, Hold, Accept, Start, Request, Part, Done, Failed, Write, Open, Data, Finish,
            Reset, Grant, Connect,
        ]
        .into_iter()
        .find(|kind| *kind as u8 == byte)
    }
}

/// One unit of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    /// The number of the request, lane or connection.
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// Encodes a frame's header.
#[must_use]
pub fn encode_header(kind: Kind, stream: u32, length: usize) -> [u8; HEADER_LEN] {
    let mut bytes = [0; HEADER_LEN];
    bytes[..4].copy_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
    bytes[4] = kind as u8;
    bytes[5..].copy_from_slice(&stream.to_le_bytes());
    bytes
}

/// Decodes a frame's header into kind, stream and payload length.
///
/// # Errors
/// `InvalidData` for an unknown kind or a length above [`MAX_PAYLOAD`].
pub fn parse_header(bytes: [u8; HEADER_LEN]) -> io::Result<(Kind, u32, usize)> {
    let [l0, l1, l2, l3, kind, s0, s1, s2, s3] = bytes;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let kind = Kind::from_byte(kind).ok_or_else(|| invalid_data("a frame of an unknown kind"))?;
    if length > MAX_PAYLOAD {
        return Err(invalid_data("a frame longer than the protocol allows"));
    }
    Ok((kind, u32::from_le_bytes([s0, s1, s2, s3]), length))
}

/// Reads one frame, or returns `None` at a clean end.
///
/// # Errors
/// The errors of [`parse_header`] and of the reader, and `UnexpectedEof` within a frame.
pub fn read_frame(reader: &mut impl Read) -> io::Result<Option<Frame>> {
    let mut head = [0; HEADER_LEN];
    let mut got = 0;
    while got < HEADER_LEN {
        match reader.read(&mut head[got..]) {
            Ok(0) if got == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => got += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let (kind, stream, length) = parse_header(head)?;
    let mut payload = vec![0; length];
    reader.read_exact(&mut payload)?;
    Ok(Some(Frame { kind, stream, payload }))
}

/// A volume that the sidecar mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Root {
    Work = 0,
    Home = 1,
    /// The base volume: files below `tree/`, with the seal beside it.
    Base = 2,
    /// The upper directory of an overlay workspace: the files that were touched in it.
    Upper = 3,
    /// The files of a setup layer below the workspace.
    Layer = 4,
    /// The home beside [`Root::Upper`]: what was touched in a home over a layer's, or the home of a layer that is built.
    UpperHome = 5,
    /// The tool caches of a setup layer.
    LayerHome = 6,
}

/// A request to the file service. Paths are relative to the root, without a leading slash; the empty path is the root
/// itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Lists a directory; the reply is a sequence of [`ListedEntry`].
    List(Root, Vec<u8>),
    /// Compares a directory of an overlay's merged view with the base; the reply is a sequence of [`ComparedEntry`].
    Compare(ComparedDir),
    /// Reads a regular file, at most this many bytes.
    Read(Root, Vec<u8>, u64),
    /// Waits until all entries of [`Kind::Write`] frames are written; the reply is a sequence of [`WrittenFile`].
    Flush,
    /// Writes the file system of a volume to disk.
    Sync(Root),
    /// Copies the entries of a directory to another one; the reply is a sequence of [`WrittenFile`], one for each
    /// regular file.
    Copy(CopyTree),
    /// Sums up the disk usage of a volume's files, over at most this many entries; the reply is one [`Usage`].
    Usage(Root, u32),
    /// Returns the free space of a volume's file system; the reply is one [`Space`].
    Space(Root),
}

/// A directory to compare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparedDir {
    pub path: Vec<u8>,
    /// The path in the base's volume, if the base may have the directory.
    pub base: Option<Vec<u8>>,
    /// Whether the upper directory has it.
    pub in_upper: bool,
}

/// One entry of a compared directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComparedEntry {
    /// The name and kind of an entry that is the base's: it is not in the upper directory, and has the base's inode number and type.
    Unchanged(Vec<u8>, FileKind),
    /// Another entry of the merged view, and whether it is in the upper directory.
    Merged(ListedEntry, bool),
    /// The base's entry, if the name is missing from the merged view or precedes as [`ComparedEntry::Merged`].
    Base(ListedEntry),
}

/// A copy of a directory's entries. Special files are omitted, and existing directories are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyTree {
    /// The directory to copy from.
    pub from: (Root, Vec<u8>),
    /// The existing directory to copy to.
    pub to: (Root, Vec<u8>),
    /// The only entry to copy; empty for all.
    pub name: Vec<u8>,
    /// Maximum number of bytes to write.
    pub limit: u64,
}

/// The disk usage of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage {
    pub bytes: u64,
    /// The number of files, directories and all other entries.
    pub entries: u64,
    /// Whether some entries were not counted.
    pub more: bool,
    /// The largest directories of the first two levels, with everything below them; at most [`LARGEST`].
    pub largest: Vec<(Vec<u8>, u64)>,
}

/// The maximum number of directories that [`Usage`] lists.
pub const LARGEST: usize = 5;

/// The free space of a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// The bytes that can still be written.
    pub free: u64,
    /// The size of the file system in bytes.
    pub total: u64,
    /// The number of files that can still be created, or 0 if there is no such limit.
    pub free_entries: u64,
}

/// One entry to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry<'a> {
    /// A directory; an existing one is not an error.
    Directory,
    /// A chunk of a regular file. The chunk at offset 0 creates the file; the last one ends at `size`.
    File {
        /// Whether to set the executable bits.
        executable: bool,
        /// Whether to include the file's stat data in the reply to [`Request::Flush`].
        report: bool,
        /// The modification time to set in seconds since the epoch, or 0 for none.
        mtime: u64,
        /// The size of the whole file, in bytes.
        size: u64,
        /// The offset of this chunk in the file.
        offset: u64,
        bytes: &'a [u8],
    },
    /// A symlink with this target.
    Link(&'a [u8]),
    /// A removal of the file or symlink at this path, and of the directories that this leaves empty.
    Nothing,
}

/// The kind of a directory entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FileKind {
    Regular = 0,
    Directory = 1,
    Link = 2,
    /// A device, a socket or a pipe.
    Special = 3,
}

/// The stat data of a file that the file service sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// The complete `st_mode`.
    pub mode: u32,
    pub size: u64,
    pub ino: u64,
    /// The time of the last modification in seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// The time of the last change of the inode in seconds and nanoseconds.
    pub ctime: (i64, u32),
}

/// One entry of a directory listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedEntry {
    /// The name, without a slash.
    pub name: Vec<u8>,
    pub kind: FileKind,
    pub stat: Stat,
    /// The target of a symlink, otherwise empty.
    pub target: Vec<u8>,
}

/// One written file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenFile {
    pub path: Vec<u8>,
    /// The stat data after the last write.
    pub stat: Stat,
}

/// An encoder that appends values to a buffer.
#[derive(Debug, Default)]
pub struct Encoder(pub Vec<u8>);

impl Encoder {
    fn put_u8(&mut self, v: u8) {
        self.0.push(v);
    }
    fn put_u32(&mut self, v: u32) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    fn put_u64(&mut self, v: u64) {
        self.0.extend_from_slice(&v.to_le_bytes());
    }
    fn put_bytes(&mut self, v: &[u8]) {
        self.put_u32(u32::try_from(v.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(v);
    }
    fn put_time(&mut self, (seconds, nanos): (i64, u32)) {
        self.0.extend_from_slice(&seconds.to_le_bytes());
        self.put_u32(nanos);
    }

    pub fn encode_request(&mut self, request: &Request) {
        match request {
            Request::List(root, path) => {
                self.put_u8(0);
                self.put_u8(*root as u8);
                self.put_bytes(path);
            }
            Request::Compare(ComparedDir { path, base, in_upper }) => {
                self.put_u8(7);
                self.put_bytes(path);
                self.put_u8(u8::from(base.is_some()) | u8::from(*in_upper) << 1);
                self.put_bytes(base.as_deref().unwrap_or_default());
            }
            Request::Read(root, path, limit) => {
                self.put_u8(1);
                self.put_u8(*root as u8);
                self.put_bytes(path);
                self.put_u64(*limit);
            }
            Request::Flush => self.put_u8(2),
            Request::Sync(root) => {
                self.put_u8(3);
                self.put_u8(*root as u8);
            }
            Request::Copy(CopyTree { from, to, name, limit }) => {
                self.put_u8(4);
                for (root, path) in [from, to] {
                    self.put_u8(*root as u8);
                    self.put_bytes(path);
                }
                self.put_bytes(name);
                self.put_u64(*limit);
            }
            Request::Usage(root, limit) => {
                self.put_u8(5);
                self.put_u8(*root as u8);
                self.put_u32(*limit);
            }
            Request::Space(root) => {
                self.put_u8(6);
                self.put_u8(*root as u8);
            }
        }
    }

    /// Appends an entry to write.
    pub fn encode_entry(&mut self, root: Root, path: &[u8], entry: &Entry<'_>) {
        self.put_u8(root as u8);
        self.put_bytes(path);
        match entry {
            Entry::Directory => self.put_u8(0),
            Entry::File { executable, report, mtime, size, offset, bytes } => {
                self.put_u8(1);
                self.put_u8(u8::from(*executable) | u8::from(*report) << 1);
                self.put_u64(*mtime);
                self.put_u64(*size);
                self.put_u64(*offset);
                self.put_bytes(bytes);
            }
            Entry::Link(target) => {
                self.put_u8(2);
                self.put_bytes(target);
            }
            Entry::Nothing => self.put_u8(3),
        }
    }

    pub fn encode_stat(&mut self, stat: &Stat) {
        self.put_u32(stat.mode);
        self.put_u64(stat.size);
        self.put_u64(stat.ino);
        self.put_time(stat.mtime);
        self.put_time(stat.ctime);
    }

    /// Appends a listed entry.
    pub fn encode_listed(&mut self, listed: &ListedEntry) {
        self.put_bytes(&listed.name);
        self.put_u8(listed.kind as u8);
        self.encode_stat(&listed.stat);
        self.put_bytes(&listed.target);
    }

    /// Appends an entry of a compared directory.
    pub fn encode_compared(&mut self, entry: &ComparedEntry) {
        match entry {
            ComparedEntry::Unchanged(name, kind) => {
                self.put_u8(0);
                self.put_bytes(name);
                self.put_u8(*kind as u8);
            }
            ComparedEntry::Merged(listed, in_upper) => {
                self.put_u8(1 + u8::from(*in_upper));
                self.encode_listed(listed);
            }
            ComparedEntry::Base(listed) => {
                self.put_u8(3);
                self.encode_listed(listed);
            }
        }
    }

    /// Appends the disk usage of a volume.
    pub fn encode_usage(&mut self, usage: &Usage) {
        self.put_u64(usage.bytes);
        self.put_u64(usage.entries);
        self.put_u8(usage.more.into());
        self.put_u8(u8::try_from(usage.largest.len().min(LARGEST)).unwrap_or(0));
        for (path, bytes) in usage.largest.iter().take(LARGEST) {
            self.put_bytes(path);
            self.put_u64(*bytes);
        }
    }

    /// Appends the free space of a file system.
    pub fn encode_space(&mut self, space: Space) {
        self.put_u64(space.free);
        self.put_u64(space.total);
        self.put_u64(space.free_entries);
    }

    /// Appends a written file.
    pub fn encode_written(&mut self, written: &WrittenFile) {
        self.put_bytes(&written.path);
        self.encode_stat(&written.stat);
    }
}

/// A decoder that reads values from a buffer. Every method fails with `InvalidData` if the buffer is too short or
/// invalid.
#[derive(Debug)]
pub struct Decoder<'a>(pub &'a [u8]);

impl<'a> Decoder<'a> {
    /// Returns whether the whole buffer was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn take_bytes(&mut self, n: usize) -> io::Result<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n).ok_or_else(|| invalid_data("a message that ends early"))?;
        self.0 = rest;
        Ok(head)
    }
    fn take_array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        self.take_bytes(N)?.try_into().map_err(|_| invalid_data("a message that ends early"))
    }
    fn read_u8(&mut self) -> io::Result<u8> {
        Ok(self.take_array::<1>()?[0])
    }
    /// Reads a number of four bytes.
    pub fn read_u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.take_array()?))
    }
    fn read_u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.take_array()?))
    }
    fn read_bytes(&mut self) -> io::Result<&'a [u8]> {
        let n = self.read_u32()? as usize;
        self.take_bytes(n)
    }
    fn read_time(&mut self) -> io::Result<(i64, u32)> {
        Ok((i64::from_le_bytes(self.take_array()?), self.read_u32()?))
    }
    fn read_root(&mut self) -> io::Result<Root> {
        match self.read_u8()? {
            0 => Ok(Root::Work),
            1 => Ok(Root::Home),
            2 => Ok(Root::Base),
            3 => Ok(Root::Upper),
            4 => Ok(Root::Layer),
            5 => Ok(Root::UpperHome),
            6 => Ok(Root::LayerHome),
            _ => Err(invalid_data("an unknown volume")),
        }
    }

    pub fn decode_request(&mut self) -> io::Result<Request> {
        Ok(match self.read_u8()? {
            0 => Request::List(self.read_root()?, self.read_bytes()?.to_vec()),
            1 => Request::Read(self.read_root()?, self.read_bytes()?.to_vec(), self.read_u64()?),
            2 => Request::Flush,
            3 => Request::Sync(self.read_root()?),
            4 => Request::Copy(CopyTree {
                from: (self.read_root()?, self.read_bytes()?.to_vec()),
                to: (self.read_root()?, self.read_bytes()?.to_vec()),
                name: self.read_bytes()?.to_vec(),
                limit: self.read_u64()?,
            }),
            5 => Request::Usage(self.read_root()?, self.read_u32()?),
            6 => Request::Space(self.read_root()?),
            7 => {
                let (path, flags) = (self.read_bytes()?.to_vec(), self.read_u8()?);
                let base = self.read_bytes()?.to_vec();
                Request::Compare(ComparedDir { path, base: (flags & 1 != 0).then_some(base), in_upper: flags & 2 != 0 })
            }
            _ => return Err(invalid_data("an unknown request")),
        })
    }

    /// Reads an entry to write, with its volume and path.
    pub fn decode_entry(&mut self) -> io::Result<(Root, &'a [u8], Entry<'a>)> {
        let root = self.read_root()?;
        let path = self.read_bytes()?;
        let entry = match self.read_u8()? {
            0 => Entry::Directory,
            1 => {
                let flags = self.read_u8()?;
                Entry::File {
                    executable: flags & 1 != 0,
                    report: flags & 2 != 0,
                    mtime: self.read_u64()?,
                    size: self.read_u64()?,
                    offset: self.read_u64()?,
                    bytes: self.read_bytes()?,
                }
            }
            2 => Entry::Link(self.read_bytes()?),
            3 => Entry::Nothing,
            _ => return Err(invalid_data("an unknown entry")),
        };
        Ok((root, path, entry))
    }

    pub fn decode_stat(&mut self) -> io::Result<Stat> {
        Ok(Stat {
            mode: self.read_u32()?,
            size: self.read_u64()?,
            ino: self.read_u64()?,
            mtime: self.read_time()?,
            ctime: self.read_time()?,
        })
    }

    fn read_name(&mut self) -> io::Result<Vec<u8>> {
        let name = self.read_bytes()?.to_vec();
        if name.is_empty() || name.len() > MAX_NAME || name.contains(&b'/') || name.contains(&0) {
            return Err(invalid_data("a name that no directory has"));
        }
        Ok(name)
    }

    fn read_kind(&mut self) -> io::Result<FileKind> {
        Ok(match self.read_u8()? {
            0 => FileKind::Regular,
            1 => FileKind::Directory,
            2 => FileKind::Link,
            3 => FileKind::Special,
            _ => return Err(invalid_data("an unknown kind of file")),
        })
    }

    /// Reads a listed entry.
    pub fn decode_listed(&mut self) -> io::Result<ListedEntry> {
        let (name, kind) = (self.read_name()?, self.read_kind()?);
        let (stat, target) = (self.decode_stat()?, self.read_bytes()?.to_vec());
        if target.len() > MAX_TARGET {
            return Err(invalid_data("a target that no link has"));
        }
        Ok(ListedEntry { name, kind, stat, target })
    }

    /// Reads an entry of a compared directory.
    pub fn decode_compared(&mut self) -> io::Result<ComparedEntry> {
        Ok(match self.read_u8()? {
            0 => ComparedEntry::Unchanged(self.read_name()?, self.read_kind()?),
            tag @ (1 | 2) => ComparedEntry::Merged(self.decode_listed()?, tag == 2),
            3 => ComparedEntry::Base(self.decode_listed()?),
            _ => return Err(invalid_data("an unknown entry")),
        })
    }

    /// Reads the disk usage of a volume.
    pub fn decode_usage(&mut self) -> io::Result<Usage> {
        let (bytes, entries, more) = (self.read_u64()?, self.read_u64()?, self.read_u8()? != 0);
        let count = usize::from(self.read_u8()?);
        if count > LARGEST {
            return Err(invalid_data("more directories than are named"));
        }
        let largest =
            (0..count).map(|_| Ok((self.read_bytes()?.to_vec(), self.read_u64()?))).collect::<io::Result<_>>()?;
        Ok(Usage { bytes, entries, more, largest })
    }

    /// Reads the free space of a file system.
    pub fn decode_space(&mut self) -> io::Result<Space> {
        Ok(Space { free: self.read_u64()?, total: self.read_u64()?, free_entries: self.read_u64()? })
    }

    /// Reads a written file.
    pub fn decode_written(&mut self) -> io::Result<WrittenFile> {
        Ok(WrittenFile { path: self.read_bytes()?.to_vec(), stat: self.decode_stat()? })
    }
}

fn invalid_data(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the peer sent {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let entry = Entry::File { executable: true, report: false, mtime: 7, size: 9, offset: 4, bytes: b"\0\xffab" };
        let mut encoder = Encoder::default();
        encoder.encode_entry(Root::Home, b"a/b", &entry);
        encoder.encode_request(&Request::Read(Root::Work, b"x".to_vec(), 3));
        let mut decoder = Decoder(&encoder.0);
        assert_eq!(decoder.decode_entry().expect("valid entry"), (Root::Home, &b"a/b"[..], entry));
        assert_eq!(decoder.decode_request().expect("valid request"), Request::Read(Root::Work, b"x".to_vec(), 3));
        assert!(decoder.is_empty());
        let compare =
            |base: Option<Vec<u8>>, in_upper| Request::Compare(ComparedDir { path: b"a".to_vec(), base, in_upper });
        for request in [compare(None, true), compare(Some(b"tree/a".to_vec()), false)] {
            let mut encoder = Encoder::default();
            encoder.encode_request(&request);
            assert_eq!(Decoder(&encoder.0).decode_request().expect("valid request"), request);
        }
        let (name, stat) = (b"n".to_vec(), Stat { mode: 1, size: 2, ino: 3, mtime: (-4, 5), ctime: (6, 7) });
        let listed = ListedEntry { name: name.clone(), kind: FileKind::Link, stat, target: b"t".to_vec() };
        for entry in [
            ComparedEntry::Unchanged(name, FileKind::Directory),
            ComparedEntry::Merged(listed.clone(), true),
            ComparedEntry::Merged(listed.clone(), false),
            ComparedEntry::Base(listed),
        ] {
            let mut encoder = Encoder::default();
            encoder.encode_compared(&entry);
            assert_eq!(Decoder(&encoder.0).decode_compared().expect("valid entry"), entry);
        }
    }

    #[test]
    fn hostile_message_fails_without_allocating() {
        let mut huge = encode_header(Kind::Part, 1, 0).to_vec();
        huge[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(read_frame(&mut &huge[..]).is_err());
        let mut unknown = encode_header(Kind::Part, 1, 0).to_vec();
        unknown[4] = 99;
        assert!(read_frame(&mut &unknown[..]).is_err());
        let frame = [&encode_header(Kind::Part, 1, 3)[..], b"abc"].concat();
        for len in 1..frame.len() {
            assert!(read_frame(&mut &frame[..len]).is_err(), "{len}");
        }
        assert!(read_frame(&mut &b""[..]).expect("end of input").is_none());
        for bytes in [&b""[..], &[9], &[0, 9], &[1, 0, 255, 255, 255, 255]] {
            assert!(Decoder(bytes).decode_request().is_err());
            assert!(Decoder(bytes).decode_entry().is_err());
            assert!(Decoder(bytes).decode_listed().is_err());
            assert!(Decoder(bytes).decode_compared().is_err());
        }
    }
}
