//! The program `airlock`; under the name `claude`, the same as `airlock claude`.

use std::process::ExitCode;

fn main() -> ExitCode {
    airlock::cli::main(std::env::args_os().collect())
}
