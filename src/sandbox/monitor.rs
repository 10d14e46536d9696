//! Monitors a running agent, and stops it if it exceeds its limits. The kernel enforces the limits on memory, CPU and
//! processes. This module enforces those on disk and time.
//!
//! A volume has no quota, so its size is measured. Counting many files takes long, but querying the free space of the
//! file system takes no time. Files are therefore counted if the free space shows that much was written, and
//! occasionally in any case.

use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::HumanBytes;
use tokio::time::sleep;

use super::limits::Limits;
use super::resources::EngineResources;
use crate::core::escape::Escaped;
use crate::engine::Engine;
use crate::guest_client::GuestClient;
use crate::protocol::{Root, Space, Usage};

/// Default limit on the size of workspace and home together, in bytes.
pub(crate) const DEFAULT_DISK: u64 = 10 << 30;
/// Default limit on the number of files and directories in them.
pub(crate) const DEFAULT_INODES: u64 = 2_000_000;
/// The interval between two checks.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The delay before the first disk check. A shorter run is not checked, because a check costs an exec.
const FIRST_CHECK_DELAY: Duration = Duration::from_millis(1500);
/// After a measurement that took some time, the next one follows at most this many times later, even if the free space has
/// not changed: other processes may have freed what this agent wrote. A small tree is therefore measured at nearly every
/// check.
const PAUSE_RATIO: u32 = 100;
/// The longest such pause, unless a measurement takes more than a twentieth of it.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Free bytes that the engine's disk must keep, at most a fiftieth of the disk.
const RESERVE: u64 = 1 << 30;
/// Minimum usage in bytes of a sandbox that is stopped because of a full disk.
const MIN_BLAMED_USAGE: u64 = 16 << 20;
/// Grace period of an agent whose time limit has expired.
const GRACE: Duration = Duration::from_secs(10);
/// Maximum time for the rest of the output of an agent that was killed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A limit that an agent has exceeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LimitExceeded {
    /// Workspace and home are too large.
    Disk {
        bytes: u64,
        /// The limit in bytes.
        limit: u64,
        /// The largest directories, with their sizes in bytes.
        largest: Vec<(Vec<u8>, u64)>,
    },
    /// Workspace and home have too many files.
    Inodes {
        entries: u64,
        limit: u64,
        /// The largest directories, with their sizes in bytes.
        largest: Vec<(Vec<u8>, u64)>,
    },
    /// The usage is unknown, because directories are deeper than any path can be.
    Unmeasurable,
    /// The engine's disk is nearly full.
    EngineDisk {
        /// Free space in bytes.
        free: u64,
        /// The largest directories of this sandbox, with their sizes in bytes.
        largest: Vec<(Vec<u8>, u64)>,
    },
    /// The time limit expired.
    Time(Duration),
    /// The kernel killed a process of the agent because of its memory limit in bytes.
    Memory(u64),
    /// The agent had as many processes as it may have.
    Pids(u32),
}

impl fmt::Display for LimitExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, inodes) = (|n: &u64| HumanBytes(*n).to_string(), |n: &u64| n.to_string());
        let list = |largest: &[(Vec<u8>, u64)]| {
            let named: Vec<String> = (largest.iter().take(3))
                .map(|(path, n)| format!("{} {}", Escaped::new(path), HumanBytes(*n)))
                .collect();
            if named.is_empty() { String::new() } else { format!("; largest: {}", named.join(", ")) }
        };
        match self {
            Self::Disk { bytes: n, limit: most, largest } => write!(
                f,
                "the agent was stopped: its workspace and home use {}, the limit is {} (--disk){}",
                bytes(n),
                bytes(most),
                list(largest)
            ),
            Self::Inodes { entries, limit: most, largest } => write!(
                f,
                "the agent was stopped: its workspace and home have {} files and directories, the limit is {} (inodes){}",
                inodes(entries),
                inodes(most),
                list(largest)
            ),
            Self::Unmeasurable => {
                write!(f, "the agent was stopped: its directories are too deep to measure (--disk)")
            }
            Self::EngineDisk { free, largest } => {
                write!(f, "the agent was stopped: the engine's disk has only {} free{}", bytes(free), list(largest))
            }
            Self::Time(time) => {
                write!(f, "the agent was stopped: it reached its time limit of {} s (--timeout)", time.as_secs())
            }
            Self::Memory(most) => write!(f, "the agent reached its memory limit of {} (--memory)", bytes(most)),
            Self::Pids(most) => write!(f, "the agent reached its limit of {most} processes and threads (--pids)"),
        }
    }
}

/// A monitor of one agent.
pub(crate) struct ResourceMonitor<'a> {
    pub engine: &'a dyn Engine,
    pub resources: &'a EngineResources<'a>,
    pub sidecar: &'a str,
    pub agent: &'a str,
    pub limits: Limits,
    /// The bytes and files that a copied workspace began with.
    pub initial_usage: (u64, u64),
    pub limits_hit: Mutex<Vec<LimitExceeded>>,
}

impl ResourceMonitor<'_> {
    /// Monitors the agent until it exceeds a limit and has been stopped. Exceeded limits are recorded.
    pub(super) async fn run(&self) {
        let time = async {
            match self.limits.time {
                Some(time) => sleep(time).await,
                None => std::future::pending().await,
            }
        };
        let mut disk = std::pin::pin!(self.watch_disk());
        tokio::select! {
            () = time => {
                self.record_limit(LimitExceeded::Time(self.limits.time.unwrap_or_default()));
                let _ = self.engine.signal_container(self.agent, "SIGTERM").await;
                tokio::select! {
                    () = sleep(GRACE) => {}
                    reached = &mut disk => self.record_limit(reached),
                }
            }
            reached = &mut disk => self.record_limit(reached),
        }
        let _ = self.engine.signal_container(self.agent, "SIGKILL").await;
        sleep(DRAIN_TIMEOUT).await;
    }

    /// Returns the exceeded limits, each one once.
    pub(super) fn into_limits_hit(self) -> Vec<LimitExceeded> {
        self.limits_hit.into_inner().unwrap_or_default()
    }

    /// Asks the engine whether the kernel killed a process because of its memory. Called after the agent has failed.
    pub(super) async fn check_memory(&self) {
        if self.engine.ran_out_of_memory(self.agent).await.unwrap_or(false) {
            self.record_limit(LimitExceeded::Memory(self.limits.memory));
        }
    }

    fn record_limit(&self, reached: LimitExceeded) {
        if let Ok(mut limits_hit) = self.limits_hit.lock()
            && !limits_hit.contains(&reached)
        {
            limits_hit.push(reached);
        }
    }

    /// Returns once a disk limit is exceeded. If the guest does not answer, the agent is about to end, and this never
    /// returns.
    async fn watch_disk(&self) -> LimitExceeded {
        sleep(FIRST_CHECK_DELAY).await;
        let Ok(guest) = self.resources.exec_guest(self.sidecar, "0:0").await else {
            return std::future::pending().await;
        };
        let roots = self.resources.touched_roots();
        let (bytes, files) = self.initial_usage;
        let (disk, inodes) = (self.limits.disk.saturating_add(bytes), self.limits.inodes.saturating_add(files));
        let mut estimator = DiskEstimator::new(Limits { disk, inodes, ..self.limits });
        loop {
            if self.engine.count_processes(self.agent).await.unwrap_or(0) >= u64::from(self.limits.pids) {
                self.record_limit(LimitExceeded::Pids(self.limits.pids));
            }
            let Ok(space) = guest.query_space(roots[0]).await else { return std::future::pending().await };
            if estimator.is_due(space, Instant::now()) {
                let begun = Instant::now();
                let Ok(usage) = measure_usage(&guest, roots).await else { return std::future::pending().await };
                if let Some(reached) = estimator.check_usage(usage, space, begun, Instant::now()) {
                    return reached;
                }
            }
            sleep(CHECK_INTERVAL).await;
        }
    }
}

/// Measures workspace and home. Paths in the home begin with `~/`.
async fn measure_usage(guest: &GuestClient, roots: [Root; 2]) -> Result<Usage, crate::guest_client::GuestError> {
    let [work, home] = roots;
    let (mut work, home) = (guest.measure_usage(work, u32::MAX).await?, guest.measure_usage(home, u32::MAX).await?);
    work.bytes += home.bytes;
    work.entries += home.entries;
    work.more |= home.more;
    work.largest.extend(home.largest.into_iter().map(|(path, bytes)| ([b"~/", &path[..]].concat(), bytes)));
    work.largest.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    // Omits a directory if one below it accounts for nearly all of its size.
    let all = work.largest.clone();
    work.largest.retain(|(path, bytes)| {
        let prefix = [&path[..], b"/"].concat();
        all.iter().all(|(other, n)| !other.starts_with(&prefix) || n * 10 < bytes * 9)
    });
    Ok(work)
}

/// Decides when to measure, and whether a measurement exceeds a limit.
struct DiskEstimator {
    limits: Limits,
    /// The last measurement: free space, time, duration, bytes and entries.
    last: Option<(Space, Instant, Duration, u64, u64)>,
    /// Free space at the first measurement.
    first_free: Option<u64>,
}

impl DiskEstimator {
    fn new(limits: Limits) -> Self {
        Self { limits, last: None, first_free: None }
    }

    fn is_due(&self, space: Space, now: Instant) -> bool {
        let Some((then, at, took, bytes, entries)) = self.last else { return true };
        let since = now.saturating_duration_since(at);
        // A quarter of what may still be written was written, by any process.
        let written = then.free.saturating_sub(space.free) > self.limits.disk.saturating_sub(bytes) / 4;
        let made =
            then.free_entries.saturating_sub(space.free_entries) > self.limits.inodes.saturating_sub(entries) / 4;
        let low = space.free < reserved_bytes(space);
        (written || made || low) && since >= took || since >= (took * PAUSE_RATIO).min(MAX_PAUSE.max(took * 20))
    }

    fn check_usage(&mut self, usage: Usage, space: Space, begun: Instant, ended: Instant) -> Option<LimitExceeded> {
        let Usage { bytes, entries, largest, more } = usage;
        let first_free = *self.first_free.get_or_insert(space.free);
        self.last = Some((space, ended, ended.saturating_duration_since(begun), bytes, entries));
        if bytes > self.limits.disk {
            return Some(LimitExceeded::Disk { bytes, limit: self.limits.disk, largest });
        }
        if entries > self.limits.inodes {
            return Some(LimitExceeded::Inodes { entries, limit: self.limits.inodes, largest });
        }
        if more {
            return Some(LimitExceeded::Unmeasurable);
        }
        // Deleted files that are still open are in no measurement.
        let blamed = bytes > MIN_BLAMED_USAGE || first_free.saturating_sub(space.free) > MIN_BLAMED_USAGE;
        (space.free < reserved_bytes(space) && blamed)
            .then_some(LimitExceeded::EngineDisk { free: space.free, largest })
    }
}

fn reserved_bytes(space: Space) -> u64 {
    RESERVE.min(space.total / 50)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn limits() -> Limits {
        Limits { disk: 10 * GIB, inodes: 1000, time: None, memory: 1, pids: 1 }
    }

    fn space(free: u64, free_entries: u64) -> Space {
        Space { free, total: 100 * GIB, free_entries }
    }

    fn usage(bytes: u64, entries: u64) -> Usage {
        Usage { bytes, entries, more: false, largest: vec![(b"target".to_vec(), bytes)] }
    }

    #[test]
    fn usage_is_measured_after_writes() {
        let (mut estimator, now) = (DiskEstimator::new(limits()), Instant::now());
        assert!(estimator.is_due(space(50 * GIB, 9000), now), "the first measurement is due immediately");
        let duration = Duration::from_millis(100);
        assert_eq!(estimator.check_usage(usage(2 * GIB, 100), space(50 * GIB, 9000), now, now + duration), None);
        let later = now + duration + Duration::from_secs(1);
        assert!(!estimator.is_due(space(49 * GIB, 9000), later), "1 GiB of the remaining 8 GiB was written");
        assert!(estimator.is_due(space(47 * GIB, 9000), later), "3 GiB of the remaining 8 GiB were written");
        assert!(
            !estimator.is_due(space(47 * GIB, 9000), now + duration + duration / 2),
            "not more often than a measurement takes"
        );
        assert!(estimator.is_due(space(50 * GIB, 8700), later), "many files were created");
        assert!(estimator.is_due(space(50 * GIB, 9000), later + MAX_PAUSE), "due after the maximum pause");
        let quick = Duration::from_millis(5);
        estimator.check_usage(usage(2 * GIB, 100), space(50 * GIB, 9000), now, now + quick);
        assert!(
            estimator.is_due(space(60 * GIB, 9000), now + quick + CHECK_INTERVAL),
            "due at each check if measuring is fast"
        );
        let slow = Duration::from_secs(60);
        estimator.check_usage(usage(2 * GIB, 100), space(50 * GIB, 9000), now, now + slow);
        assert!(!estimator.is_due(space(50 * GIB, 9000), now + slow + MAX_PAUSE), "rarely due if measuring is slow");
    }

    #[test]
    fn usage_is_compared_with_limits() {
        let (now, mut estimator) = (Instant::now(), DiskEstimator::new(limits()));
        let mut check = |usage, space| estimator.check_usage(usage, space, now, now);
        assert_eq!(check(usage(10 * GIB, 1000), space(50 * GIB, 9)), None);
        assert!(matches!(check(usage(10 * GIB + 1, 1), space(50 * GIB, 9)), Some(LimitExceeded::Disk { .. })));
        assert!(matches!(check(usage(1, 1001), space(50 * GIB, 9)), Some(LimitExceeded::Inodes { .. })));
        assert!(matches!(check(usage(GIB, 1), space(GIB - 1, 9)), Some(LimitExceeded::EngineDisk { .. })));
        let mut other = DiskEstimator::new(limits());
        assert_eq!(
            other.check_usage(usage(MIN_BLAMED_USAGE, 1), space(GIB - 1, 9), now, now),
            None,
            "another program filled the disk"
        );
        let deleted = other.check_usage(usage(1, 1), space(GIB - 1 - MIN_BLAMED_USAGE * 2, 9), now, now);
        assert!(
            matches!(deleted, Some(LimitExceeded::EngineDisk { .. })),
            "filled by deleted files that are still open"
        );
        let incomplete = Usage { more: true, ..usage(1, 1) };
        assert_eq!(
            DiskEstimator::new(limits()).check_usage(incomplete, space(50 * GIB, 9), now, now),
            Some(LimitExceeded::Unmeasurable)
        );
        let mut check = |usage, space| estimator.check_usage(usage, space, now, now);
        let small = Space { free: 50 << 20, total: 2 * GIB, free_entries: 0 };
        assert_eq!(check(usage(GIB, 1), small), None, "the minimum is 1/50 of 2 GiB, which is 41 MiB");
    }

    #[test]
    fn limit_messages_name_option_and_file_system() {
        let exceeded =
            LimitExceeded::Disk { bytes: 11 * GIB, limit: 10 * GIB, largest: vec![(b"a\x1b[2J".to_vec(), GIB)] };
        let text = exceeded.to_string();
        assert!(
            text.contains("11.00 GiB") && text.contains("(--disk)") && text.contains("a<U+001B>[2J 1.00 GiB"),
            "{text}"
        );
        assert!(LimitExceeded::Memory(GIB).to_string().contains("--memory"));
        assert!(LimitExceeded::Pids(7).to_string().contains("7 processes and threads (--pids)"));
        assert!(LimitExceeded::Time(Duration::from_secs(90)).to_string().contains("limit of 90 s (--timeout)"));
    }
}
