//! Plans an apply of everything in the background, and again when a file changes in the working tree, so that conflicts are
//! marked before the user decides.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::Scope;
use std::time::Duration;

use crate::review::{ApplyPlanner, Decisions, Preview};

/// Interval at which the files of the changes are compared with their last state.
const INTERVAL: Duration = Duration::from_secs(1);

/// Plans that are made in the background.
pub(super) struct ConflictWatch<'scope> {
    requests: Sender<Decisions>,
    pub plans: Receiver<Preview>,
    is_stopped: &'scope AtomicBool,
}

impl<'scope> ConflictWatch<'scope> {
    /// Starts the thread. It calls `wake` after each plan, and ends when the watch is dropped.
    pub(super) fn start_watch<'env>(
        scope: &'scope Scope<'scope, 'env>,
        planner: &'scope dyn ApplyPlanner,
        is_stopped: &'scope AtomicBool,
        wake: impl Fn() + Send + 'scope,
    ) -> Self {
        let (requests, received) = mpsc::channel();
        let (sender, plans) = mpsc::channel();
        scope.spawn(move || watch_tree(planner, &received, &sender, is_stopped, &wake));
        Self { requests, plans, is_stopped }
    }

    /// Asks for a plan of other decisions.
    pub(super) fn request_plan(&self, decisions: Decisions) {
        // The thread ends early only if it panics; there are no marks then.
        let _ = self.requests.send(decisions);
    }
}

impl Drop for ConflictWatch<'_> {
    fn drop(&mut self) {
        self.is_stopped.store(true, Ordering::SeqCst);
    }
}

fn watch_tree(
    planner: &dyn ApplyPlanner,
    requests: &Receiver<Decisions>,
    plans: &Sender<Preview>,
    is_stopped: &AtomicBool,
    wake: &dyn Fn(),
) {
    let (mut decisions, mut planned_state) = (None, None);
    while !is_stopped.load(Ordering::SeqCst) {
        match requests.recv_timeout(INTERVAL) {
            Ok(request) => (decisions, planned_state) = (Some(request), None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Ok(request) = requests.try_recv() {
            decisions = Some(request);
        }
        let Some(decisions) = &decisions else { continue };
        // A change during the plan leads to another plan.
        let state = planner.tree_state();
        if planned_state == Some(state) {
            continue;
        }
        planned_state = Some(state);
        // A plan that fails, such as during a rebase, keeps the marks; the apply screen shows the reason.
        if let Ok(plan) = planner.plan_apply(decisions, &|| is_stopped.load(Ordering::SeqCst)) {
            if plans.send(plan).is_err() {
                return;
            }
            wake();
        }
    }
}
