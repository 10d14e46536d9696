//! Chooses one of several engines for a new sandbox: the one with room for the most further sandboxes of its size.
//!
//! Engines do not know of sandboxes that are about to start. Each start of this machine therefore holds a reservation, a locked
//! file with the engine's name, until its containers exist.

#![expect(clippy::disallowed_methods, reason = "our own state, outside every working tree")]

use std::cmp::Ordering;
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::SandboxError;
use super::lifecycle::default_memory;
use super::resources::ROLE_LABEL;
use crate::core::random::create_random_id;
use crate::engine::Engine;

/// The role of an agent's container.
const ROLE_AGENT: &str = "agent";
/// The file whose lock orders the choices of concurrent starts.
const LOCK_FILE: &str = "lock";
/// Billionths of a CPU.
const NANO: u64 = 1_000_000_000;

/// Requirements of a sandbox that not every engine meets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EngineNeeds {
    /// The name of the image.
    pub image: String,
    /// Whether Airlock can build the image.
    pub builds_image: bool,
    pub runtime: Option<String>,
}

/// The size of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SandboxSize {
    /// The memory limit in bytes; `None` for the default, which depends on the machine.
    pub memory: Option<u64>,
    /// The CPU limit in billionths of a CPU; 0 for no limit, which counts as one CPU.
    pub nano_cpus: u64,
}

/// The resources of an engine's machine, and their use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EngineLoad {
    pub memory: u64,
    pub cpus: u64,
    /// Number of sandboxes whose agent runs or starts.
    pub sandboxes: u64,
    /// Whether the engine has the agent image. Building it takes minutes.
    pub has_image: bool,
}

impl EngineLoad {
    /// Asks an engine how much room it has.
    ///
    /// # Errors
    /// The engine fails.
    pub(crate) async fn measure_load(engine: &dyn Engine, image: &str) -> Result<Self, SandboxError> {
        let (info, agents, image) = tokio::try_join!(
            engine.engine_info(),
            engine.list_containers(ROLE_LABEL, Some(ROLE_AGENT)),
            engine.find_image(image)
        )?;
        let sandboxes = agents.iter().filter(|agent| !agent.has_ended).count() as u64;
        Ok(Self { memory: info.memory, cpus: info.cpus, sandboxes, has_image: image.is_some() })
    }

    /// Returns for how many sandboxes of a size there is room on an idle machine.
    fn all_places(&self, size: SandboxSize) -> u64 {
        let nano_cpus = if size.nano_cpus == 0 { NANO } else { size.nano_cpus };
        let by_memory = self.memory / size.memory.unwrap_or(default_memory(self.memory)).max(1);
        let by_cpus = self.cpus.saturating_mul(NANO) / nano_cpus;
        by_memory.min(by_cpus)
    }

    /// Returns for how many sandboxes of a size there is room besides those that run.
    #[must_use]
    pub(crate) fn free_places(&self, size: SandboxSize) -> u64 {
        self.all_places(size).saturating_sub(self.sandboxes)
    }

    /// Returns whether the last sandbox, which is counted, still had room.
    #[must_use]
    pub(crate) fn has_room_without(&self, size: SandboxSize) -> bool {
        Self { sandboxes: self.sandboxes.saturating_sub(1), ..*self }.free_places(size) > 0
    }

    /// Compares two engines. The greater one is the better place.
    fn compare_room(&self, other: &Self, size: SandboxSize) -> Ordering {
        let (own, others) = (self.free_places(size), other.free_places(size));
        // The share of the machine that is in use with one more sandbox, which matters if both are full.
        let share = |one: &Self, of: &Self| u128::from(one.sandboxes + 1) * u128::from(of.all_places(size).max(1));
        (own > 0)
            .cmp(&(others > 0))
            .then(self.has_image.cmp(&other.has_image))
            .then(own.cmp(&others))
            .then(share(other, self).cmp(&share(self, other)))
    }
}

/// An engine that was chosen for a sandbox that is about to start.
#[derive(Debug)]
pub(crate) struct Reservation {
    /// The position of the engine among the candidates.
    pub position: usize,
    /// The engine with all reservations.
    pub load: EngineLoad,
    path: PathBuf,
    _lock: File,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // One that stays is not locked, and does not count.
        let _ = fs::remove_file(&self.path);
    }
}

/// Chooses the best of these engines, the first of equal ones, and reserves a place there. Returns `None` if there is none.
///
/// # Errors
/// The directory of the reservations cannot be written.
pub(crate) fn reserve_place(
    dir: &Path,
    engines: &[(&str, EngineLoad)],
    size: SandboxSize,
) -> io::Result<Option<Reservation>> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let order = open_private(&dir.join(LOCK_FILE))?;
    order.lock()?;
    let reserved = list_reservations(dir)?;
    let count = |name: &str| reserved.iter().filter(|one| *one == name).count() as u64;
    let with_reserved =
        |(name, load): &(&str, EngineLoad)| EngineLoad { sandboxes: load.sandboxes + count(name), ..*load };
    let loads = engines.iter().map(with_reserved).enumerate();
    // The last of equal ones counts.
    let Some((position, load)) = loads.rev().max_by(|(_, a), (_, b)| a.compare_room(b, size)) else { return Ok(None) };
    let path = dir.join(create_random_id::<8>()?);
    let mut file = open_private(&path)?;
    file.try_lock()?;
    file.write_all(engines[position].0.as_bytes())?;
    Ok(Some(Reservation { position, load: EngineLoad { sandboxes: load.sandboxes + 1, ..load }, path, _lock: file }))
}

/// Lists the engines of the reservations that a process holds, and removes the others.
fn list_reservations(dir: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name == LOCK_FILE) {
            continue;
        }
        // It may have just been removed.
        let Ok(mut file) = File::open(&path) else { continue };
        if matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) {
            let mut name = String::new();
            file.read_to_string(&mut name)?;
            found.push(name);
        } else {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(found)
}

fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;
    const SIZE: SandboxSize = SandboxSize { memory: None, nano_cpus: 0 };

    fn load(memory_gib: u64, cpus: u64, sandboxes: u64) -> EngineLoad {
        EngineLoad { memory: memory_gib * GIB, cpus, sandboxes, has_image: true }
    }

    #[test]
    fn scarcest_resource_limits_places() {
        assert_eq!(load(64, 4, 0).free_places(SIZE), 4, "CPUs");
        assert_eq!(load(64, 32, 3).free_places(SIZE), 5, "memory");
        assert_eq!(load(64, 32, 9).free_places(SIZE), 0, "full");
        assert_eq!(load(64, 32, 0).free_places(SandboxSize { nano_cpus: 16 * NANO, ..SIZE }), 2);
        assert_eq!(load(64, 32, 0).free_places(SandboxSize { memory: Some(20 * GIB), ..SIZE }), 3);
        assert_eq!(load(4, 2, 0).free_places(SIZE), 1, "the default is less on a small machine");
        assert_eq!(load(0, 2, 0).free_places(SIZE), 0, "an engine that tells no memory");
    }

    fn choose(engines: &[(&str, EngineLoad)]) -> String {
        let dir = tempfile::tempdir().expect("a directory");
        let reservation = reserve_place(dir.path(), engines, SIZE).expect("reserved").expect("an engine");
        engines[reservation.position].0.to_owned()
    }

    #[test]
    fn engine_with_most_room_is_chosen() {
        assert_eq!(choose(&[("small", load(32, 8, 0)), ("large", load(64, 16, 2))]), "large");
        assert_eq!(choose(&[("first", load(64, 8, 1)), ("second", load(64, 8, 1))]), "first");
        assert_eq!(choose(&[("busy", load(72, 9, 1)), ("idle", load(64, 8, 0))]), "idle");
        let without_image = EngineLoad { has_image: false, ..load(256, 64, 0) };
        assert_eq!(choose(&[("without", without_image), ("with", load(64, 8, 7))]), "with", "it has room");
        assert_eq!(choose(&[("without", without_image), ("full", load(64, 8, 8))]), "without");
        assert_eq!(choose(&[("small", load(8, 2, 1)), ("large", load(128, 16, 16))]), "large", "both are full");
    }

    #[test]
    fn reservations_spread_concurrent_starts() {
        let dir = tempfile::tempdir().expect("a directory");
        let engines = [("a", load(64, 8, 0)), ("b", load(32, 4, 0))];
        let reserve = || reserve_place(dir.path(), &engines, SIZE).expect("reserved").expect("an engine");
        let mut held: Vec<Reservation> = (0..6).map(|_| reserve()).collect();
        let positions = |held: &[Reservation]| held.iter().map(|one| one.position).collect::<Vec<_>>();
        // Until both have room for four more, and then in turn.
        assert_eq!(positions(&held), [0, 0, 0, 0, 1, 0]);
        assert_eq!(held[5].load.sandboxes, 5, "with its own");
        held.truncate(1);
        assert_eq!(reserve().position, 0, "the others have ended");
        // A process that was killed leaves its file.
        fs::write(dir.path().join("left"), "a").expect("written");
        drop(held);
        assert_eq!(reserve().load.sandboxes, 1);
        assert!(!dir.path().join("left").exists());
    }
}
