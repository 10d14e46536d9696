//! The audit log of a sandbox: one line of JSON for each request, allowed or not.
//!
//! *Invariant:* a text from a sandbox is one JSON string, so it cannot forge an entry. The log is bounded, and reports
//! how many entries it dropped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};

use super::counted::{ByteCounts, CountedStream};

/// The size of a log, in bytes, from which on entries are only counted.
const MAX_BYTES: u64 = 64 << 20;
/// The longest text in an entry, in characters.
const MAX_TEXT: usize = 500;
/// The number of distinct hosts that the summary counts one by one.
const MAX_HOSTS: usize = 200;

/// The outcome of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Allowed,
    /// Refused by a rule.
    Denied,
    /// Allowed, but the upstream failed.
    Failed,
}

/// The record of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// The time of its start in milliseconds since the epoch.
    pub time: u64,
    /// The route, such as `npm`; empty if no route matched.
    pub route: String,
    pub method: String,
    /// The host that answered or would have answered, with its port if that is unusual; untrusted.
    pub host: String,
    /// The path as the sandbox sent it; untrusted.
    pub path: String,
    pub verdict: Verdict,
    /// The reason for a refusal or failure.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The status of the response, or 0.
    #[serde(default)]
    pub status: u16,
    /// Bytes of the bodies: from the sandbox, and to it.
    pub sent: u64,
    pub received: u64,
    /// The duration in milliseconds.
    pub duration: u64,
    /// Whether the response came from the cache, without a request to the upstream.
    pub cached: bool,
}

/// An entry for requests that were dropped because the log is full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Overflow {
    dropped: u64,
}

/// Counts over all requests.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSummary {
    /// By route: requests that were answered, and those of them that came from the cache.
    pub routes: BTreeMap<String, (u64, u64)>,
    /// Requests through the proxy that were allowed, by host. Below an allowed wildcard, an agent chooses the names.
    pub proxied: BTreeMap<String, u64>,
    /// Denied requests that the user cannot allow, by method and path. Untrusted.
    pub denied: BTreeMap<String, u64>,
    /// Denied requests to hosts that could be allowed. Untrusted.
    pub allowable: BTreeMap<String, u64>,
    /// Failures in Airlock's words, with their count.
    pub failures: BTreeMap<String, u64>,
    /// Bytes that reached the sandbox.
    pub received: u64,
    /// Entries that are not in the log because it is full.
    pub dropped: u64,
}

impl AuditSummary {
    /// Counts an entry. `is_allowable` tells whether the user could allow its host.
    fn count_entry(&mut self, entry: &AuditEntry, is_allowable: bool) {
        self.received += entry.received;
        match entry.verdict {
            Verdict::Allowed => {
                let counts = self.routes.entry(entry.route.clone()).or_default();
                counts.0 += 1;
                counts.1 += u64::from(entry.cached);
                if entry.route == "proxy" {
                    count_name(&mut self.proxied, entry.host.clone(), "other hosts");
                }
            }
            Verdict::Denied => {
                let name = if is_allowable {
                    entry.host.clone()
                } else {
                    format!("{} {}", entry.method, entry.path).chars().take(120).collect()
                };
                let list = if is_allowable { &mut self.allowable } else { &mut self.denied };
                count_name(list, name, "other requests");
            }
            Verdict::Failed => count_name(&mut self.failures, entry.reason.clone(), "other failures"),
        }
    }
}

/// Counts a name, or `others` once there are too many names.
fn count_name(counts: &mut BTreeMap<String, u64>, name: String, others: &str) {
    let is_counted = counts.len() < MAX_HOSTS || counts.contains_key(&name);
    *counts.entry(if is_counted { name } else { others.to_owned() }).or_default() += 1;
}

struct Log {
    file: Option<File>,
    bytes: u64,
    summary: AuditSummary,
}

/// The log of one sandbox. A run continues the log of the run before.
#[derive(Clone)]
pub struct AuditLog(Arc<Mutex<Log>>);

impl AuditLog {
    /// Opens the log at `path`, readable only by the user.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options().append(true).create(true).mode(0o600).open(path)?;
        let bytes = file.metadata()?.len();
        Ok(Self(Arc::new(Mutex::new(Log { file: Some(file), bytes, summary: AuditSummary::default() }))))
    }

    /// Creates a log that only counts.
    #[must_use]
    pub fn new_unwritten() -> Self {
        Self(Arc::new(Mutex::new(Log { file: None, bytes: 0, summary: AuditSummary::default() })))
    }

    /// Writes an entry. A failure is ignored: the disk may be full, and the agent must not learn of it.
    pub(super) fn write_entry(&self, entry: &AuditEntry, is_allowable: bool) {
        let Ok(mut log) = self.0.lock() else { return };
        log.summary.count_entry(entry, is_allowable);
        let Ok(mut line) = serde_json::to_vec(entry) else { return };
        line.push(b'\n');
        if log.bytes + line.len() as u64 > MAX_BYTES {
            log.summary.dropped += 1;
            return;
        }
        log.bytes += line.len() as u64;
        if let Some(file) = &mut log.file {
            let _ = file.write_all(&line);
        }
    }

    /// Counts an event that is no request, for the summary at the end.
    pub(super) fn note_event(&self, event: &str) {
        if let Ok(mut log) = self.0.lock() {
            *log.summary.failures.entry(event.to_owned()).or_default() += 1;
        }
    }

    /// Returns the counts so far.
    #[must_use]
    pub fn current_summary(&self) -> AuditSummary {
        self.0.lock().map(|log| log.summary.clone()).unwrap_or_default()
    }

    /// Writes the number of dropped entries, if any, at the end of a run.
    pub fn close_run(&self) {
        let Ok(mut log) = self.0.lock() else { return };
        let dropped = log.summary.dropped;
        if dropped > 0
            && let (Some(file), Ok(mut line)) = (&mut log.file, serde_json::to_vec(&Overflow { dropped }))
        {
            line.push(b'\n');
            let _ = file.write_all(&line);
        }
    }
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogLine {
    Entry(AuditEntry),
    /// The number of entries that the log does not have.
    Dropped(u64),
}

impl LogLine {
    /// Parses a line of a log. A line that a crash truncated is `None`.
    #[must_use]
    pub fn parse(line: &str) -> Option<Self> {
        serde_json::from_str::<AuditEntry>(line)
            .map(Self::Entry)
            .or_else(|_| serde_json::from_str::<Overflow>(line).map(|o| Self::Dropped(o.dropped)))
            .ok()
    }
}

/// The permit for a concurrent request.
pub(super) type RequestPermit = Option<tokio::sync::OwnedSemaphorePermit>;

/// A request that is being answered. Its entry is written when it is dropped, with everything that was transferred by
/// then.
pub(super) struct Exchange {
    log: AuditLog,
    entry: AuditEntry,
    started: Instant,
    is_allowable: bool,
    /// Returned with the entry.
    permit: RequestPermit,
    memory: RequestPermit,
}

impl Exchange {
    /// Begins an exchange. It counts as failed until its verdict is set.
    pub(super) fn start_exchange(log: &AuditLog, route: &str, method: &str, path: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self {
            log: log.clone(),
            started: Instant::now(),
            is_allowable: false,
            permit: None,
            memory: None,
            entry: AuditEntry {
                time: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
                route: route.into(),
                method: shorten_text(method),
                host: String::new(),
                path: shorten_text(path),
                verdict: Verdict::Failed,
                reason: String::new(),
                status: 0,
                sent: 0,
                received: 0,
                duration: 0,
                cached: false,
            },
        }
    }

    /// Returns the name of the route.
    pub(super) fn route_name(&self) -> &str {
        &self.entry.route
    }

    pub(super) fn set_host(&mut self, host: &str) {
        self.entry.host = shorten_text(host);
    }

    /// Holds a permit until the response has ended.
    pub(super) fn hold_permit(&mut self, permit: RequestPermit) {
        self.permit = permit;
    }

    /// Holds the memory of the request's body until the response has ended.
    pub(super) fn hold_memory(&mut self, memory: RequestPermit) {
        self.memory = memory;
    }

    pub(super) fn set_cached(&mut self) {
        self.entry.cached = true;
    }

    pub(super) fn set_status(&mut self, status: u16) {
        self.entry.status = status;
    }

    pub(super) fn mark_allowed(&mut self) {
        self.entry.verdict = Verdict::Allowed;
        self.entry.reason.clear();
    }

    /// Refuses the request. `is_allowable` tells whether the user could allow the host.
    pub(super) fn mark_denied(&mut self, reason: &str, is_allowable: bool) {
        self.entry.verdict = Verdict::Denied;
        self.entry.reason = shorten_text(reason);
        self.is_allowable = is_allowable;
    }

    pub(super) fn mark_failed(&mut self, reason: &str) {
        self.entry.verdict = Verdict::Failed;
        self.entry.reason = shorten_text(reason);
    }

    pub(super) fn add_sent(&mut self, bytes: usize) {
        self.entry.sent += bytes as u64;
    }

    pub(super) fn add_received(&mut self, bytes: usize) {
        self.entry.received += bytes as u64;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.entry.duration = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.log.write_entry(&self.entry, self.is_allowable);
    }
}

impl AuditLog {
    /// Connects the two ends of a connection through a port until both are closed, and writes its entry. `inner` is the
    /// end in the sandbox.
    pub async fn relay_port<A, B>(&self, route: &str, host: &str, inner: A, mut outer: B)
    where
        A: AsyncRead + AsyncWrite + Unpin,
        B: AsyncRead + AsyncWrite + Unpin,
    {
        let mut exchange = Exchange::start_exchange(self, route, "TCP", host);
        exchange.set_host(host);
        exchange.mark_allowed();
        let counts = ByteCounts::default();
        let mut inner = CountedStream::new(inner, &counts);
        // An error of one side ends the connection.
        let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
        (exchange.entry.sent, exchange.entry.received) = counts.current_counts();
    }

    /// Writes the entry of a connection through a port that could not be made.
    pub fn write_failed_port(&self, route: &str, host: &str, reason: &str) {
        let mut exchange = Exchange::start_exchange(self, route, "TCP", host);
        exchange.set_host(host);
        exchange.mark_failed(reason);
    }
}

fn shorten_text(text: &str) -> String {
    text.chars().take(MAX_TEXT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_has_one_line_per_request_and_is_bounded() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("network.jsonl");
        let log = AuditLog::open(&path).expect("opened");
        let forged = "/a\"}\n{\"time\":1,\"verdict\":\"allowed\"\u{202e}";
        let mut exchange = Exchange::start_exchange(&log, "npm", "GET", forged);
        exchange.set_host("registry.example");
        exchange.add_received(7);
        exchange.mark_allowed();
        drop(exchange);
        let mut denied = Exchange::start_exchange(&log, "", "CONNECT", "evil.example:443");
        denied.set_host("evil.example");
        denied.mark_denied("not allowed", true);
        drop(denied);
        let text = std::fs::read_to_string(&path).expect("written");
        assert_eq!(text.lines().count(), 2);
        let Some(LogLine::Entry(first)) = text.lines().next().and_then(LogLine::parse) else { panic!("{text}") };
        assert_eq!((first.path.as_str(), first.received, first.verdict), (forged, 7, Verdict::Allowed));
        assert_eq!(log.current_summary().allowable["evil.example"], 1);
        log.0.lock().expect("no panic").bytes = MAX_BYTES - 10;
        drop(Exchange::start_exchange(&log, "npm", "GET", "/x"));
        log.close_run();
        let text = std::fs::read_to_string(&path).expect("written");
        assert_eq!(text.lines().last().and_then(LogLine::parse), Some(LogLine::Dropped(1)));
        assert_eq!(LogLine::parse("{\"time\":1"), None);
    }
}
