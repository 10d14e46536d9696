//! Reads standard input in a thread that polls, so that no key is swallowed after the agent has ended.

use std::io::{self, IsTerminal, Read};
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::mpsc;

use super::raw_mode::{TerminalAnswers, stdin_unbuffered};
use crate::platform::close_on_exec_pipe;

/// A thread that reads typed or piped input.
#[derive(Debug)]
pub struct InputReader {
    wake: OwnedFd,
    thread: std::thread::JoinHandle<u64>,
}

impl InputReader {
    /// Starts the thread. The channel ends with the input.
    ///
    /// If the agent has no terminal, input that is typed into ours remains there for the next program that reads it. The
    /// agent's input ends at once then.
    ///
    /// # Errors
    /// No file descriptor or thread is available.
    pub fn start_thread(tty: bool) -> io::Result<(mpsc::Receiver<Vec<u8>>, Self)> {
        let (sender, input) = mpsc::channel(8);
        let (wait, wake) = close_on_exec_pipe()?;
        let mut stdin = stdin_unbuffered()?;
        let read = move || {
            let mut answers = TerminalAnswers::default();
            if !tty && stdin.is_terminal() {
                return 0;
            }
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let mut watched = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&wait, PollFlags::IN)];
                match poll(&mut watched, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    // The other end of the pipe still exists, so input is still needed.
                    Ok(_) if watched[1].revents().is_empty() => {}
                    Ok(_) | Err(_) => return answers.attribute_count(),
                }
                match stdin.read(&mut buffer) {
                    Ok(n @ 1..) => {
                        if tty {
                            answers.parse_input(&buffer[..n]);
                        }
                        if sender.blocking_send(buffer[..n].to_vec()).is_err() {
                            return answers.attribute_count();
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(0) | Err(_) => return answers.attribute_count(),
                }
            }
        };
        let thread = std::thread::Builder::new().name("stdin".into()).spawn(read)?;
        Ok((input, Self { wake, thread }))
    }

    /// Ends the thread, and returns the number of answers to DA1. The next reader of the input then gets the rest.
    pub async fn stop_thread(self) -> u64 {
        drop(self.wake);
        let thread = self.thread;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        joined.ok().and_then(Result::ok).unwrap_or_default()
    }
}
