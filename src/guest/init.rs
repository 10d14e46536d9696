//! The first process of the agent's container: starts the command, reaps, passes signals on, and ends with the command,
//! with its owner, or at its deadline. When the first process of a container ends, the kernel kills all others.
//!
//! *Invariant:* no process of the container is without the system call filter. This process has installed it before it
//! starts the command, and no process of the agent's user can trace this one.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// `sigset_t`: 1,024 bits in glibc and musl.
#[repr(C)]
struct SignalSet([u64; 16]);

unsafe extern "C" {
    fn sigfillset(set: *mut SignalSet) -> i32;
    fn sigprocmask(how: i32, set: *const SignalSet, old: *mut SignalSet) -> i32;
    fn sigwait(set: *const SignalSet, signal: *mut i32) -> i32;
    fn signal(signal: i32, handler: usize) -> usize;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
    fn kill(pid: i32, signal: i32) -> i32;
    fn tcsetpgrp(descriptor: i32, group: i32) -> i32;
    fn getpid() -> i32;
}

const SIG_BLOCK: i32 = 0;
const SIG_SETMASK: i32 = 2;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
const SIGKILL: i32 = 9;
const SIGCHLD: i32 = 17;
const SIGCONT: i32 = 18;
const SIGTTOU: i32 = 22;
const WNOHANG: i32 = 1;
const WUNTRACED: i32 = 2;

/// What a shell reports for a command that a signal ended: 128 and the signal's number.
const SIGNALED: i32 = 128;

/// Until when and for whom the command may run.
pub struct Terms {
    /// The loopback port where the owner's guest holds a connection.
    pub owner: u16,
    /// How long the command may run; none is without a limit.
    pub time: Option<Duration>,
}

/// Signals that wait to be passed on.
pub struct Signals(SignalSet);

impl Signals {
    /// Holds every signal back from now on: a signal that is blocked stays pending, also one that the kernel would not deliver
    /// to the first process of a container.
    pub fn hold() -> Self {
        let mut all = SignalSet([0; 16]);
        // SAFETY: both calls get a set that lives on this stack.
        unsafe {
            sigfillset(&raw mut all);
            sigprocmask(SIG_BLOCK, &raw const all, std::ptr::null_mut());
        }
        Self(all)
    }

    /// Waits for the next one.
    fn next(&self) -> i32 {
        let mut came = 0;
        // SAFETY: the set was filled, and `came` is written to.
        unsafe { sigwait(&raw const self.0, &raw mut came) };
        came
    }
}

/// Connects to the owner.
///
/// # Errors
/// Nobody listens: the owner has ended.
pub fn connect(terms: &Terms) -> io::Result<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, terms.owner))
}

/// Starts the command and ends with it, with its exit status: 126 if it cannot be executed, 127 if there is none.
pub fn run(
    program: &OsString,
    args: impl Iterator<Item = OsString>,
    signals: &Signals,
    owner: TcpStream,
    terms: &Terms,
) -> ExitCode {
    let mut command = Command::new(program);
    command.args(args).process_group(0);
    // SAFETY: between fork and exec only system calls are made, which are async-signal-safe.
    unsafe {
        command.pre_exec(|| {
            // The terminal's foreground; standard input may be no terminal. The kernel would stop a background process
            // for this.
            signal(SIGTTOU, SIG_IGN);
            tcsetpgrp(0, getpid());
            signal(SIGTTOU, SIG_DFL);
            let none = SignalSet([0; 16]);
            sigprocmask(SIG_SETMASK, &raw const none, std::ptr::null_mut());
            Ok(())
        });
    }
    let child = match command.spawn() {
        Ok(child) => i32::try_from(child.id()).unwrap_or(-1),
        Err(error) => {
            let _ = writeln!(
                io::stderr(),
                "airlock: failed to run {:?} in the sandbox: {error}",
                program.to_string_lossy()
            );
            return ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    std::thread::spawn(move || end_with(owner));
    if let Some(time) = terms.time {
        std::thread::spawn(move || end_after(time));
    }
    loop {
        match signals.next() {
            SIGCHLD => {
                if let Some(status) = reap(child) {
                    return ExitCode::from(u8::try_from(status & 0xff).unwrap_or(u8::MAX));
                }
            }
            // SAFETY: the call takes numbers only.
            other => drop(unsafe { kill(child, other) }),
        }
    }
}

/// Reaps every process that has ended, and gives the exit status of the command if it is among them. A command that has
/// stopped is continued: no shell here could do it later.
fn reap(child: i32) -> Option<i32> {
    let mut ended = None;
    loop {
        let mut status = 0;
        // SAFETY: `status` is written to.
        let pid = unsafe { waitpid(-1, &raw mut status, WNOHANG | WUNTRACED) };
        if pid <= 0 {
            return ended;
        }
        let (signal, value) = (status & 0x7f, (status >> 8) & 0xff);
        match (pid == child, signal) {
            // A stopped process: see `WIFSTOPPED`.
            (true, 0x7f) => proceed(child),
            (true, 0) => ended = Some(value),
            (true, signal) => ended = Some(SIGNALED + signal),
            (false, _) => {}
        }
    }
}

fn proceed(child: i32) {
    let _ = io::stderr().write_all(b"\r\nairlock: a sandbox has no job control; the command goes on\r\n");
    // SAFETY: the calls take numbers only. SIGTTOU is blocked here.
    unsafe {
        tcsetpgrp(0, child);
        kill(-child, SIGCONT);
    }
}

/// Ends everything when the owner's end of the connection is gone.
fn end_with(mut owner: TcpStream) {
    let mut ignored = [0; 64];
    while !matches!(owner.read(&mut ignored), Ok(0) | Err(_)) {}
    end();
}

fn end_after(time: Duration) {
    let end_at = Instant::now() + time;
    while let Some(left) = end_at.checked_duration_since(Instant::now()) {
        // The deadline is this thread's only purpose.
        std::thread::sleep(left);
    }
    end();
}

fn end() -> ! {
    // SAFETY: the call takes numbers only. It reaches every process of this container but this one.
    unsafe { kill(-1, SIGKILL) };
    std::process::exit(SIGNALED + SIGKILL);
}
