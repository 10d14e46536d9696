//! The launcher, the entry point of the agent's container: prepares the home, closes interfaces of the kernel that a
//! network namespace leaves open, and supervises the command.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::{filter, home, init};

/// `struct winsize`: rows, columns, and two that nobody fills.
#[repr(C)]
#[derive(Default)]
struct Size {
    rows: u16,
    columns: u16,
    unused: [u16; 2],
}

unsafe extern "C" {
    /// See ioctl_tty(2): with [`TIOCGWINSZ`] it fills what it is given.
    fn ioctl(descriptor: i32, request: usize, size: *mut Size) -> i32;
}

const TIOCGWINSZ: usize = 0x5413;
/// How long a terminal may be without a size: the engine sets it after the start, and a fast program would see none.
const SIZELESS: Duration = Duration::from_millis(250);

/// Waits until the terminal, if there is one, has a size.
fn wait_for_size() {
    let end = Instant::now() + SIZELESS;
    loop {
        let mut size = Size::default();
        // SAFETY: it writes one `winsize` to where `size` is.
        let failed = unsafe { ioctl(0, TIOCGWINSZ, &raw mut size) } != 0;
        if failed || size.columns > 0 || Instant::now() > end {
            return;
        }
        // Nothing tells of a size that is set before the program runs: it has to be asked for.
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Reads the terms, the first two arguments: the owner's port, and the seconds that the command may run (0: no limit).
fn terms(args: &mut impl Iterator<Item = OsString>) -> io::Result<init::Terms> {
    let mut number = || {
        let text = args.next().and_then(|arg| arg.into_string().ok());
        text.and_then(|text| text.parse::<u64>().ok())
            .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "a number is missing"))
    };
    let owner = u16::try_from(number()?).map_err(io::Error::other)?;
    let seconds = number()?;
    Ok(init::Terms { owner, time: (seconds > 0).then(|| Duration::from_secs(seconds)) })
}

/// Runs `PORT SECONDS [FURNITURE…] -- COMMAND…` and gives the command's exit status, or 125 where the launcher itself
/// fails.
pub fn exec(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let failed = |attempt: &str, error: &dyn std::fmt::Display| {
        eprintln!("airlock: failed to {attempt}: {error}");
        ExitCode::from(125)
    };
    let signals = init::Signals::hold();
    let terms = match terms(&mut args) {
        Ok(terms) => terms,
        Err(error) => return failed("read the launcher's arguments", &error),
    };
    if let Err(error) = home::populate_home(&mut args) {
        return failed("prepare the home", &error);
    }
    let Some(program) = args.next() else {
        return failed("start", &"no command was given");
    };
    if let Err(error) = filter::install().and_then(|()| filter::forbid_tracing()) {
        return failed("install the system call filter", &error);
    }
    let owner = match init::connect(&terms) {
        Ok(owner) => owner,
        Err(error) => return failed("reach the sidecar", &error),
    };
    wait_for_size();
    init::run(&program, args, &signals, owner, &terms)
}
