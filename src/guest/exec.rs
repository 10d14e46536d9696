//! The launcher, which is the entry point of the agent's container. It prepares the home, closes kernel interfaces that
//! a network namespace leaves open, and supervises the command.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::{environment, filter, home, init};

/// `struct winsize`: rows, columns and two unused fields.
#[repr(C)]
#[derive(Default)]
struct WindowSize {
    rows: u16,
    columns: u16,
    unused: [u16; 2],
}

unsafe extern "C" {
    /// See ioctl_tty(2). With [`TIOCGWINSZ`] it fills `size`.
    fn ioctl(descriptor: i32, request: usize, size: *mut WindowSize) -> i32;
}

const TIOCGWINSZ: usize = 0x5413;
/// The exit status of a launcher that can never connect to a socket of the sidecar.
const UNREACHABLE: u8 = 121;
/// Maximum time to wait for a terminal's size. The engine sets it after the start, and a fast program would not see it.
const SIZE_TIMEOUT: Duration = Duration::from_millis(250);

/// Waits until the terminal, if any, has a size.
fn wait_for_size(signals: &init::Signals) {
    let deadline = Instant::now() + SIZE_TIMEOUT;
    loop {
        let mut size = WindowSize::default();
        // SAFETY: the call writes one `winsize`, which has the layout of `size`.
        let failed = unsafe { ioctl(0, TIOCGWINSZ, &raw mut size) } != 0;
        let remaining = deadline.saturating_duration_since(Instant::now());
        if failed || size.columns > 0 || remaining.is_zero() {
            return;
        }
        // This process leads the terminal's session, so it is notified. The signal is blocked and thus not lost.
        signals.wait_for_resize(remaining);
    }
}

/// Parses the first three arguments: the owner's port or the path of its socket, the time limit of the command in seconds (0: no
/// limit), and the commit that the sandbox started from.
fn parse_options(args: &mut impl Iterator<Item = OsString>) -> io::Result<init::LaunchOptions> {
    let missing = |what: &str| io::Error::new(ErrorKind::InvalidInput, format!("{what} is missing"));
    let owner = args.next().and_then(|arg| arg.into_string().ok()).ok_or_else(|| missing("the owner's address"))?;
    let owner = if owner.starts_with('/') {
        init::OwnerAddress::Socket(owner.into())
    } else {
        init::OwnerAddress::Port(owner.parse().map_err(io::Error::other)?)
    };
    let seconds = args.next().and_then(|arg| arg.into_string().ok()).and_then(|text| text.parse::<u64>().ok());
    let seconds = seconds.ok_or_else(|| missing("the time limit"))?;
    let base = args.next().ok_or_else(|| missing("the base"))?;
    let time_limit = (seconds > 0).then(|| Duration::from_secs(seconds));
    Ok(init::LaunchOptions { owner, time_limit, base })
}

/// Runs `OWNER SECONDS BASE [HOME_FILE…] -- COMMAND…` and returns the command's exit status, or 125 if the launcher itself
/// fails.
pub fn run_launcher(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let failed = |attempt: &str, error: &dyn std::fmt::Display| {
        eprintln!("airlock: failed to {attempt}: {error}");
        ExitCode::from(125)
    };
    let signals = init::Signals::block_all();
    let options = match parse_options(&mut args) {
        Ok(options) => options,
        Err(error) => return failed("read the launcher's arguments", &error),
    };
    environment::adapt_environment();
    if let Err(error) = filter::install_filter().and_then(|()| filter::forbid_tracing()) {
        return failed("install the system call filter", &error);
    }
    let owner = match init::Owner::connect(&options) {
        Ok(Some(owner)) => owner,
        // The sandbox was given up before the command started.
        Ok(None) => return ExitCode::from(125),
        Err(error) => {
            failed("connect to the sidecar", &error);
            // The containers cannot share a socket. Other failures may pass.
            let is_lasting = matches!(
                error.kind(),
                ErrorKind::PermissionDenied
                    | ErrorKind::ConnectionRefused
                    | ErrorKind::NotFound
                    | ErrorKind::Unsupported
            );
            return ExitCode::from(if is_lasting { UNREACHABLE } else { 125 });
        }
    };
    init::watch_owner(owner);
    if let Err(error) = home::populate_home(&mut args) {
        return failed("prepare the home directory", &error);
    }
    let Some(program) = args.next() else {
        return failed("start", &"no command was given");
    };
    wait_for_size(&signals);
    init::run(&program, args, &signals, &options)
}
