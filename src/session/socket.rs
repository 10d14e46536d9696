//! The socket of a session: a file in the directory of its sandbox, which only the user can open.
#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use crate::platform::open_file_path;

/// The name of the socket in a sandbox's directory.
const SOCKET: &str = "session.sock";
/// Maximum length of a socket's path in bytes: `sun_path` has 108 on Linux and 104 on other systems, with a NUL at the end.
const MAX_PATH: usize = 103;

/// The path of a socket, which may go through an open directory.
struct SocketPath {
    path: PathBuf,
    _dir: Option<File>,
}

impl SocketPath {
    /// Returns a path that is short enough.
    fn new(dir: &Path) -> io::Result<Self> {
        let path = dir.join(SOCKET);
        if path.as_os_str().len() <= MAX_PATH {
            return Ok(Self { path, _dir: None });
        }
        let open = File::open(dir)?;
        let short = open_file_path(&open).ok_or_else(|| {
            let longest = MAX_PATH - SOCKET.len() - 1;
            io::Error::new(io::ErrorKind::InvalidFilename, format!("the path is longer than {longest} bytes"))
        })?;
        Ok(Self { path: short.join(SOCKET), _dir: Some(open) })
    }
}

/// Creates the socket in a sandbox's directory. The caller owns the sandbox, so an existing one is of an earlier owner.
///
/// # Errors
/// The file system has no sockets.
pub(crate) fn open_listener(dir: &Path) -> io::Result<UnixListener> {
    let place = SocketPath::new(dir)?;
    remove(dir);
    let listener = UnixListener::bind(&place.path)?;
    fs::set_permissions(&place.path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Removes the socket. The owner does so at its end.
pub(crate) fn remove(dir: &Path) {
    let _ = fs::remove_file(dir.join(SOCKET));
}

/// Removes a socket that is alone in its directory, with the directory.
pub(super) fn remove_with_directory(socket: &Path) {
    let _ = fs::remove_file(socket);
    let _ = socket.parent().map(fs::remove_dir);
}

/// Connects to the owner of a session; returns `None` if there is none.
///
/// # Errors
/// The connection is refused for another reason.
pub(crate) async fn connect(dir: &Path) -> io::Result<Option<UnixStream>> {
    let place = SocketPath::new(dir)?;
    match UnixStream::connect(&place.path).await {
        Ok(stream) => check_peer(stream).map(Some),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns a connection whose other end is a process of this user.
///
/// # Errors
/// It is a process of another user.
pub(crate) fn check_peer(stream: UnixStream) -> io::Result<UnixStream> {
    let peer = stream.peer_cred()?.uid();
    if peer == rustix::process::geteuid().as_raw() {
        return Ok(stream);
    }
    Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("the other end belongs to user {peer}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[tokio::test]
    async fn only_user_can_connect_and_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        // The path is longer than a socket's address.
        let deep = dir.path().join("d".repeat(100));
        fs::create_dir(&deep).expect("created");
        for place in [dir.path(), deep.as_path()] {
            assert!(connect(place).await.expect("nothing listens").is_none());
            drop(open_listener(place).expect("created"));
            assert!(connect(place).await.expect("a stale socket").is_none());
            let listener = open_listener(place).expect("replaced");
            assert_eq!(fs::metadata(place.join(SOCKET)).expect("it exists").mode() & 0o777, 0o600);
            let (connected, accepted) = tokio::join!(connect(place), listener.accept());
            assert!(connected.expect("connected").is_some());
            check_peer(accepted.expect("accepted").0).expect("the same user");
            remove(place);
        }
    }
}
