//! `airlock log`: shows the requests of a sandbox to the network.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use crate::cli::error::CliError;
use crate::cli::ops::repo::Repo;
use crate::cli::output::{Output, print_stderr, print_stdout};
use crate::core::clock::format_time;
use crate::core::escape::Escaped;
use crate::core::name::SandboxName;
use crate::gateway::{AuditEntry, LogLine, Verdict};
use crate::sandbox::{NETWORK_LOG, Sandbox};

/// The pause between two looks at a log that another process writes.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// The requests to show and their form.
#[derive(Clone, Copy)]
pub(crate) struct LogOptions {
    pub denied: bool,
    pub follow: bool,
    pub json: bool,
}

pub(crate) fn run_log(name: Option<&str>, options: LogOptions, output: Output) -> Result<u8, CliError> {
    let repo = Repo::open(output)?;
    let kept =
        name.and_then(|name| name.parse::<SandboxName>().ok()).filter(|name| matches!(repo.store.open(name), Ok(None)));
    if let Some(path) = kept.and_then(|name| repo.store.find_kept_log(&name)) {
        // The sandbox was removed, because nothing changed in it.
        return print_lines(&mut BufReader::new(File::open(path)?), options);
    }
    let sandbox = repo.open_sandbox(name, "log")?;
    let Some(mut log) = open_log(&sandbox)? else {
        print_stderr(&format!("airlock: {} has used no network\n", sandbox.record.name));
        return Ok(0);
    };
    let mut line = String::new();
    loop {
        // Whether the agent runs is determined before the rest of the log is read.
        let is_running = sandbox.is_busy();
        while log.read_line(&mut line)? > 0 {
            // Another process may have written only the beginning of the line.
            if !line.ends_with('\n') {
                break;
            }
            if let Some(text) = LogLine::parse(&line).and_then(|parsed| format_line(&parsed, &line, options)) {
                print_stdout(&text)?;
            }
            line.clear();
        }
        if !options.follow || !is_running {
            return Ok(0);
        }
        std::thread::sleep(FOLLOW_PAUSE);
    }
}

fn print_lines(log: &mut impl BufRead, options: LogOptions) -> Result<u8, CliError> {
    for line in log.lines() {
        let line = line? + "\n";
        if let Some(text) = LogLine::parse(&line).and_then(|parsed| format_line(&parsed, &line, options)) {
            print_stdout(&text)?;
        }
    }
    Ok(0)
}

fn open_log(sandbox: &Sandbox) -> Result<Option<BufReader<File>>, CliError> {
    match File::open(sandbox.file_path(NETWORK_LOG)) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn format_line(parsed: &LogLine, line: &str, options: LogOptions) -> Option<String> {
    let entry = match parsed {
        LogLine::Entry(entry) => entry,
        LogLine::Dropped(n) if !options.json => return Some(format!("… {n} more requests; the log is full\n")),
        LogLine::Dropped(_) => return Some(line.to_owned()),
    };
    if options.denied && entry.verdict == Verdict::Allowed {
        return None;
    }
    Some(if options.json { escape_json(line) } else { format_entry(entry) })
}

/// Escapes what is not ASCII in a line of JSON, which may go to a terminal.
fn escape_json(line: &str) -> String {
    let mut escaped = String::new();
    for c in line.chars() {
        if c == '\n' || c.is_ascii_graphic() || c == ' ' {
            escaped.push(c);
        } else {
            let mut units = [0; 2];
            c.encode_utf16(&mut units).iter().for_each(|unit| escaped += &format!("\\u{unit:04x}"));
        }
    }
    escaped
}

fn format_entry(entry: &AuditEntry) -> String {
    let verdict = match (entry.verdict, entry.cached) {
        (Verdict::Allowed, true) => "cached",
        (Verdict::Allowed, false) => "allowed",
        (Verdict::Denied, _) => "denied",
        (Verdict::Failed, _) => "failed",
    };
    let status = if entry.status > 0 { entry.status.to_string() } else { "-".into() };
    let mut text = format!(
        "{}  {verdict:7}  {:8}  {:7}  {status:3}  {:>9}  {}  {}",
        format_time(entry.time / 1000),
        if entry.route.is_empty() { "-" } else { &entry.route },
        Escaped::new(&entry.method).to_string(),
        indicatif::HumanBytes(entry.received).to_string(),
        Escaped::new(&entry.host),
        Escaped::new(&entry.path),
    );
    if !entry.reason.is_empty() {
        text += &format!("  ({})", Escaped::new(&entry.reason));
    }
    text + "\n"
}
