//! Runs work on many items with several threads.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Number of items below which starting threads is not worth it.
const MIN_PARALLEL_ITEMS: usize = 16;
/// Maximum number of threads, each of which may hold the content of a file.
const MAX_THREADS: usize = 8;

/// Maps items in parallel, and returns the results in order. After an error, no further item is started.
///
/// # Errors
/// The error of the first item that failed.
pub(crate) fn try_parallel_map<'a, T: Sync, R: Send>(
    all: &'a [T],
    work: impl Fn(&'a T) -> io::Result<R> + Sync,
) -> io::Result<Vec<R>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    if all.len() < MIN_PARALLEL_ITEMS || threads < 2 {
        return all.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let work_loop = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = all.get(at) else { return done };
            let result = work(item);
            if result.is_err() {
                // Nothing is left to start.
                next.store(all.len(), Ordering::Relaxed);
            }
            done.push((at, result));
        }
    };
    let mut done = std::thread::scope(|scope| {
        // This thread works as well, so that the work is done even if no other can be started.
        let start = |_| std::thread::Builder::new().spawn_scoped(scope, work_loop).ok();
        let started: Vec<_> = (1..threads).filter_map(start).collect();
        let mut done = work_loop();
        for thread in started {
            done.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        done
    });
    done.sort_unstable_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_and_an_error_ends_the_work() {
        let items: Vec<usize> = (0..5000).collect();
        let doubled = try_parallel_map(&items, |n| Ok(n * 2)).expect("no error");
        assert!(doubled.iter().enumerate().all(|(at, n)| *n == at * 2) && doubled.len() == 5000);
        let started = AtomicUsize::new(0);
        let failed = try_parallel_map(&items, |n| {
            started.fetch_add(1, Ordering::SeqCst);
            std::thread::yield_now();
            if *n == 20 { Err(io::Error::other("twenty")) } else { Ok(*n) }
        });
        assert_eq!(failed.expect_err("it fails").to_string(), "twenty");
        assert!(started.load(Ordering::SeqCst) < 5000, "the rest is not started");
    }
}
