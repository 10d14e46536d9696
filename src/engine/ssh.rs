//! Connects to an engine on another machine by the user's own `ssh`, which runs `docker system dial-stdio` there, as docker's
//! client does.
//!
//! The first run may ask for a passphrase or the key of the host. The others share its connection (`ControlMaster`), ask nothing,
//! and are in a process group of their own, so that Ctrl-C does not cut the connection before everything is cleaned up.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::Mutex;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::OnceCell;

use super::address::{Questions, SshTarget};

/// Time in seconds that a shared connection stays open after its last use, and that a new one may take.
const PERSIST_SECS: u32 = 60;
const CONNECT_SECS: u32 = 30;
/// Time in seconds after which a silent machine is asked whether it is there, and number of questions without an answer.
const ALIVE_SECS: u32 = 15;
const ALIVE_PROBES: u32 = 3;
/// Maximum length of the path of a shared connection's socket. The name of a socket has at most 104 bytes on some systems, and
/// ssh adds a suffix of 17 while it creates it.
const MAX_SOCKET: usize = 86;
/// Length of `%C` in such a path, a hash that ssh computes.
const HASH_LENGTH: usize = 40;
/// Maximum length of ssh's messages in an error.
const MAX_MESSAGE: usize = 500;

/// Number of connections that are opened in advance. Opening one takes several times as long as a request.
const SPARES: usize = 2;

/// Connections to one machine, which share its `ssh`.
pub(super) struct SshConnector {
    target: SshTarget,
    questions: Questions,
    /// The options of each run, once the first one has succeeded.
    options: OnceCell<Vec<String>>,
    spares: Mutex<VecDeque<SshStream>>,
}

impl SshConnector {
    pub(super) fn new(target: &SshTarget, questions: Questions) -> Self {
        Self { target: target.clone(), questions, options: OnceCell::new(), spares: Mutex::default() }
    }

    /// Opens a connection. The first one checks that the machine has a docker client that reaches its engine, unless a
    /// connection to it is already shared.
    pub(super) async fn open_connection(&self) -> io::Result<SshStream> {
        let options = self.options.get_or_try_init(|| self.check_machine()).await?;
        let spare = self.spares.lock().ok().and_then(|mut spares| {
            // One that has ended, because the engine or the connection did, is of no use.
            spares.retain_mut(|spare| matches!(spare.client.try_wait(), Ok(None)));
            spares.pop_front()
        });
        let stream = spare.map_or_else(|| self.start_client(options), Ok)?;
        // A spare that cannot be started is not needed yet.
        if let Ok(mut spares) = self.spares.lock() {
            while spares.len() < SPARES
                && let Ok(spare) = self.start_client(options)
            {
                spares.push_back(spare);
            }
        }
        Ok(stream)
    }

    /// Checks the machine, which may ask for a passphrase.
    pub(super) async fn check_once(&self) -> io::Result<()> {
        self.options.get_or_try_init(|| self.check_machine()).await.map(drop)
    }

    fn start_client(&self, options: &[String]) -> io::Result<SshStream> {
        // The first value of an option counts. A client that shared its own connection would end it for the others.
        let options = [&["-oControlMaster=no".to_owned(), "-oBatchMode=yes".into()][..], options].concat();
        let mut command = self.remote_command(&options);
        command.args(self.dial_arguments()).process_group(0).kill_on_drop(true);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(input), Some(output)) => Ok(SshStream { input: Some(input), output, client: child }),
            _ => Err(io::Error::other("ssh has no streams")),
        }
    }

    /// Runs the docker client once, without input, unless a connection is already shared. Returns the options with which a later
    /// run shares it.
    async fn check_machine(&self) -> io::Result<Vec<String>> {
        let mut options = vec![
            format!("-oConnectTimeout={CONNECT_SECS}"),
            format!("-oServerAliveInterval={ALIVE_SECS}"),
            format!("-oServerAliveCountMax={ALIVE_PROBES}"),
            "-T".into(),
        ];
        if self.questions == Questions::Forbidden {
            options.push("-oBatchMode=yes".into());
        }
        if !self.has_own_sharing().await
            && let Some(socket) = sharing_socket()
        {
            options.push("-oControlMaster=auto".into());
            options.push(format!("-oControlPersist={PERSIST_SECS}"));
            options.push(format!("-oControlPath={}", socket.display()));
            if self.is_shared(&options).await {
                return Ok(options);
            }
        }
        let mut command = self.remote_command(&options);
        let command = command.args(self.dial_arguments()).stdin(Stdio::null()).stdout(Stdio::null());
        let output = command.stderr(Stdio::piped()).kill_on_drop(true).output().await.map_err(|error| {
            if error.kind() == io::ErrorKind::NotFound { io::Error::other("ssh is not installed") } else { error }
        })?;
        if output.status.success() {
            return Ok(options);
        }
        let message = String::from_utf8_lossy(&output.stderr);
        let message: String =
            message.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(MAX_MESSAGE).collect();
        Err(io::Error::other(if message.is_empty() { format!("ssh ended with {}", output.status) } else { message }))
    }

    /// Returns whether Airlock's shared connection to the machine is open, which was checked then.
    async fn is_shared(&self, options: &[String]) -> bool {
        let mut command = self.remote_command(options);
        command.args(["-Ocheck", "--", &self.target.destination]);
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.kill_on_drop(true).status().await.is_ok_and(|status| status.success())
    }

    /// Returns whether the user's configuration of ssh keeps connections and shares them already.
    async fn has_own_sharing(&self) -> bool {
        let mut command = self.remote_command(&["-G".to_owned()]);
        let command = command.args(["--", &self.target.destination]).stdin(Stdio::null()).stderr(Stdio::null());
        let Ok(output) = command.kill_on_drop(true).output().await else { return false };
        let text = String::from_utf8_lossy(&output.stdout);
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let is_set = |name: &str| value(name).is_some_and(|value| !matches!(value, "none" | "no" | "false"));
        is_set("controlpath") && is_set("controlmaster") && is_set("controlpersist")
    }

    fn remote_command(&self, options: &[String]) -> Command {
        let mut command = Command::new("ssh");
        command.args(options);
        if let Some(port) = self.target.port {
            command.arg(format!("-p{port}"));
        }
        command
    }

    fn dial_arguments(&self) -> Vec<String> {
        let mut arguments = vec!["--".to_owned(), self.target.destination.clone(), "docker".into()];
        if let Some(socket) = &self.target.socket {
            // The shell of that machine parses the arguments again.
            let quoted = socket.replace('\'', "'\\''");
            arguments.extend(["--host".to_owned(), format!("'unix://{quoted}'")]);
        }
        arguments.extend(["system".to_owned(), "dial-stdio".to_owned()]);
        arguments
    }
}

/// Returns the path of the socket of a shared connection, in a directory of this user alone, or `None` if there is none that is
/// short enough.
fn sharing_socket() -> Option<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_dir());
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".ssh")).filter(|dir| dir.is_dir());
    let path = runtime.or_else(home)?.join("airlock-%C");
    let length = path.as_os_str().len() - "%C".len() + HASH_LENGTH;
    // ssh expands other percent signs as well.
    let is_plain = path.to_str().is_some_and(|text| text.matches('%').count() == 1);
    (length <= MAX_SOCKET && is_plain).then_some(path)
}

/// The streams of a running `ssh`, which ends with this value.
pub(super) struct SshStream {
    input: Option<ChildStdin>,
    output: ChildStdout,
    client: Child,
}

impl AsyncRead for SshStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(context, buffer)
    }
}

impl AsyncWrite for SshStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.input {
            Some(input) => Pin::new(input).poll_write(context, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.as_mut().map_or(Poll::Ready(Ok(())), |input| Pin::new(input).poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A pipe ends when it is closed, and the docker client then ends the input of the engine.
        self.input = None;
        Poll::Ready(Ok(()))
    }
}
