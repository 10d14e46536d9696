//! Runs work on many items with all processors.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Number of items below which starting threads is not worth it.
const MIN_PARALLEL_ITEMS: usize = 16;

/// Maps items in parallel, and returns the results in order.
///
/// # Errors
/// The first error of a thread.
pub(crate) fn try_parallel_map<'a, T: Sync, R: Send>(
    all: &'a [T],
    work: impl Fn(&'a T) -> io::Result<R> + Sync,
) -> io::Result<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    if all.len() < MIN_PARALLEL_ITEMS || threads < 2 {
        return all.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let work_loop = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            match all.get(at).map(&work) {
                Some(Ok(result)) => done.push((at, result)),
                Some(Err(error)) => return Err(error),
                None => return Ok(done),
            }
        }
    };
    let mut done: Vec<(usize, R)> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(work_loop)).collect();
        let results =
            started.into_iter().map(|t| t.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked"))));
        results.collect::<io::Result<Vec<_>>>()
    })?
    .into_iter()
    .flatten()
    .collect();
    done.sort_unstable_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}
