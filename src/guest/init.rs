//! The first process of the agent's container. It starts the command, reaps processes, forwards signals, and ends with
//! the command, with its owner, or at its deadline. When the first process of a container ends, the kernel kills all
//! others.
//!
//! *Invariant:* every process of the container has the system call filter. This process installs it before it starts
//! the command, and no process of the agent's user can trace this process.

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::commits::HeadLog;
use crate::sockets;

/// `sigset_t`: 1,024 bits in glibc and musl.
#[repr(C)]
struct SignalSet([u64; 16]);

impl SignalSet {
    /// Creates a set of one signal.
    fn from_signal(signal: i32) -> Self {
        let mut set = Self([0; 16]);
        // Signals start at 1, so signal N is bit N − 1.
        set.0[0] = 1 << (signal - 1);
        set
    }
}

/// `struct timespec` on 64-bit Linux: seconds and nanoseconds.
#[repr(C)]
struct TimeSpec {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    fn sigfillset(set: *mut SignalSet) -> i32;
    fn sigprocmask(how: i32, set: *const SignalSet, old: *mut SignalSet) -> i32;
    fn sigwait(set: *const SignalSet, signal: *mut i32) -> i32;
    /// See sigtimedwait(2). `info` may be null.
    fn sigtimedwait(set: *const SignalSet, info: *mut std::ffi::c_void, timeout: *const TimeSpec) -> i32;
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
/// The sequence that reports a stopped command, which the host's filter recognizes.
const STOPPED: &[u8] = b"\x1b]airlock-stopped\x07";
/// The sequence that reports that it continues: keys that stop it again have an effect from now on.
const CONTINUED: &[u8] = b"\x1b]airlock-continued\x07";
const SIGTTOU: i32 = 22;
const SIGWINCH: i32 = 28;
const WNOHANG: i32 = 1;
const WUNTRACED: i32 = 2;

/// The offset of a signal's number in the exit status that a shell reports for a command ended by that signal.
const SIGNALED: i32 = 128;

/// The address at which the owner's guest accepts the launcher.
pub enum OwnerAddress {
    /// A loopback port, in a network namespace that the sidecar shares.
    Port(u16),
    /// A socket in a volume that the sidecar shares.
    Socket(PathBuf),
}

/// A connection to the owner's guest, which ends with it.
pub enum Owner {
    Port(TcpStream),
    Socket(UnixStream),
}

/// The owner, the time limit and the base of the command.
pub struct LaunchOptions {
    pub owner: OwnerAddress,
    /// The time limit of the command, if any.
    pub time_limit: Option<Duration>,
    /// The commit that the sandbox started from.
    pub base: OsString,
}

/// The blocked signals, which have to be forwarded.
pub struct Signals(SignalSet);

impl Signals {
    /// Blocks every signal from now on. A blocked signal stays pending, even one that the kernel would not deliver to
    /// the first process of a container.
    pub fn block_all() -> Self {
        let mut all = SignalSet([0; 16]);
        // SAFETY: both calls get a set that lives on this stack.
        unsafe {
            sigfillset(&raw mut all);
            sigprocmask(SIG_BLOCK, &raw const all, std::ptr::null_mut());
        }
        Self(all)
    }

    /// Waits until the size of the terminal changes, or the timeout ends.
    pub fn wait_for_resize(&self, timeout: Duration) {
        let timeout = TimeSpec {
            seconds: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            nanoseconds: timeout.subsec_nanos().into(),
        };
        let set = SignalSet::from_signal(SIGWINCH);
        // SAFETY: the set and the timeout live on this stack, and no information is requested.
        unsafe { sigtimedwait(&raw const set, std::ptr::null_mut(), &raw const timeout) };
    }

    /// Waits for the next signal.
    fn next(&self) -> i32 {
        let mut number = 0;
        // SAFETY: the set is initialized, and the number is written to a local variable.
        unsafe { sigwait(&raw const self.0, &raw mut number) };
        number
    }
}

impl Owner {
    /// Connects to the owner's guest. Over a socket, waits until the guest lets the command start; `None` means that the guest has
    /// ended.
    ///
    /// # Errors
    /// The owner cannot be reached.
    pub fn connect(options: &LaunchOptions) -> io::Result<Option<Self>> {
        match &options.owner {
            OwnerAddress::Port(port) => {
                TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).map(|stream| Some(Self::Port(stream)))
            }
            OwnerAddress::Socket(path) => {
                let stream = sockets::connect_sidecar(path)?;
                Ok(sockets::serve_sidecar(&stream).then_some(Self::Socket(stream)))
            }
        }
    }

    /// Serves the guest until it has ended.
    fn serve_until_end(self) {
        match self {
            Self::Port(mut stream) => {
                let mut ignored = [0; 64];
                while !matches!(stream.read(&mut ignored), Ok(0) | Err(_)) {}
            }
            Self::Socket(stream) => while sockets::serve_sidecar(&stream) {},
        }
    }
}

/// Runs the command and returns its exit status: 126 if it cannot be executed, 127 if it does not exist.
pub fn run(
    program: &OsString,
    args: impl Iterator<Item = OsString>,
    signals: &Signals,
    options: &LaunchOptions,
) -> ExitCode {
    let head_log = HeadLog::find_log();
    let mut command = Command::new(program);
    command.args(args).process_group(0);
    // SAFETY: only async-signal-safe system calls are made between fork and exec.
    unsafe {
        command.pre_exec(|| {
            // Makes the command the terminal's foreground process group; standard input may not be a terminal. The kernel
            // would stop a background process for this call.
            signal(SIGTTOU, SIG_IGN);
            tcsetpgrp(0, getpid());
            signal(SIGTTOU, SIG_DFL);
            let empty_set = SignalSet([0; 16]);
            sigprocmask(SIG_SETMASK, &raw const empty_set, std::ptr::null_mut());
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
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            if is_missing && !program.to_string_lossy().contains('/') {
                let _ = writeln!(
                    io::stderr(),
                    "hint: to add it to the image, run `airlock image build --with PACKAGE`, or `--project` for what this repository calls for"
                );
            }
            return ExitCode::from(if is_missing { 127 } else { 126 });
        }
    };
    if let Some(time) = options.time_limit {
        std::thread::spawn(move || end_after(time));
    }
    loop {
        match signals.next() {
            SIGCHLD => {
                if let Some(status) = reap_processes(child) {
                    if let Some(log) = &head_log {
                        log.write_commits(&options.base);
                    }
                    return ExitCode::from(u8::try_from(status & 0xff).unwrap_or(u8::MAX));
                }
            }
            SIGCONT => continue_command(child),
            // SAFETY: the call takes only numbers.
            other => drop(unsafe { kill(child, other) }),
        }
    }
}

/// Lets a command start with no signal blocked.
pub fn unblock_signals(command: &mut Command) {
    // SAFETY: only an async-signal-safe system call is made between fork and exec, with a set on its stack.
    unsafe {
        command.pre_exec(|| {
            let empty_set = SignalSet([0; 16]);
            sigprocmask(SIG_SETMASK, &raw const empty_set, std::ptr::null_mut());
            Ok(())
        });
    }
}

/// Reaps all ended processes, and returns the exit status of the command if it is among them. A stopped command is
/// reported, because no shell in the container could continue it.
fn reap_processes(child: i32) -> Option<i32> {
    let mut ended = None;
    loop {
        let mut status = 0;
        // SAFETY: `status` is valid for writes.
        let pid = unsafe { waitpid(-1, &raw mut status, WNOHANG | WUNTRACED) };
        if pid <= 0 {
            return ended;
        }
        let (signal, value) = (status & 0x7f, (status >> 8) & 0xff);
        match (pid == child, signal) {
            // A stopped process, see `WIFSTOPPED`.
            (true, 0x7f) => report_stopped(child),
            (true, 0) => ended = Some(value),
            (true, signal) => ended = Some(SIGNALED + signal),
            (false, _) => {}
        }
    }
}

/// Reports that the command has stopped. On a terminal, the host continues it by SIGCONT, after it was suspended itself if
/// the user wanted that.
fn report_stopped(child: i32) {
    if io::stdin().is_terminal() {
        let _ = io::stderr().write_all(STOPPED);
        return;
    }
    let _ = io::stderr().write_all(b"\r\nairlock: a sandbox has no job control; the command continues\r\n");
    continue_command(child);
}

fn continue_command(child: i32) {
    // SAFETY: the calls take only numbers. SIGTTOU is blocked in this process.
    unsafe {
        tcsetpgrp(0, child);
        kill(-child, SIGCONT);
    }
    if io::stdin().is_terminal() {
        let _ = io::stderr().write_all(CONTINUED);
    }
}

/// Ends all processes when the owner's guest has ended.
pub fn watch_owner(owner: Owner) {
    std::thread::spawn(move || {
        owner.serve_until_end();
        kill_all();
    });
}

fn end_after(time: Duration) {
    let end_at = Instant::now() + time;
    while let Some(remaining) = end_at.checked_duration_since(Instant::now()) {
        // The deadline is the only purpose of this thread.
        std::thread::sleep(remaining);
    }
    kill_all();
}

fn kill_all() -> ! {
    // SAFETY: the call takes only numbers. It reaches every process of this container except this one.
    unsafe { kill(-1, SIGKILL) };
    std::process::exit(SIGNALED + SIGKILL);
}
