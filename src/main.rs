//! The program. Its verbs come with the command-line room; until then it only tells its version.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|a| a == "--version") {
        println!("airlock {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    eprintln!("error: this version has no commands yet, see CHANGELOG.md");
    ExitCode::from(2)
}
