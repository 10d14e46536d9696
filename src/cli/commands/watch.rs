//! `airlock ls --watch`: the full-screen list of sandboxes.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::cli::error::CliError;
use crate::cli::ops::attach_session::attach_to;
use crate::cli::ops::find_sandbox::open_repo_of;
use crate::cli::ops::finish_run::FinishOptions;
use crate::cli::ops::listing::{Listing, display_worktree, list_stores};
use crate::cli::ops::repo::{Repo, create_runtime, format_age, sandbox_status};
use crate::cli::ops::round::Round;
use crate::cli::ops::rounds::run_rounds;
use crate::cli::ops::session::{finish_session, start_resume_session};
use crate::cli::ops::settings::{load_settings, load_style_sheet};
use crate::cli::ops::stop_agent::stop_agent;
use crate::cli::output::Output;
use crate::config::Settings;
use crate::sandbox::{Sandbox, SandboxStore};
use crate::terminal::{self, Signals};
use crate::tui::{ListAction, SandboxList, SandboxPhase, SandboxRow, run_list};

/// Interval between looks at the sandboxes.
const REFRESH: Duration = Duration::from_secs(1);
/// Interval at which the screen shows what the last look found.
const REDRAW: Duration = Duration::from_millis(250);

pub(crate) fn run_watch(all: bool, output: Output) -> Result<u8, CliError> {
    if !terminal::is_interactive() {
        return Err(CliError::usage("the list needs a terminal").with_hint("run `airlock ls --json` instead"));
    }
    let stores = || if all { list_stores() } else { Ok(vec![Repo::open_for_write()?.store]) };
    let settings = load_settings()?;
    let mut list = SandboxList::new(load_style_sheet(&settings, output));
    loop {
        Signals::release_signals();
        let watcher = Watcher::start_thread(stores()?)?;
        list.set_rows(watcher.rows.recv().unwrap_or_default());
        let action = run_list(&mut list, &mut || watcher.rows.try_iter().last(), REDRAW)?;
        drop(watcher);
        let (ListAction::Attach(id) | ListAction::Review(id) | ListAction::Resume(id) | ListAction::Stop(id)) = &action
        else {
            return Ok(0);
        };
        let Some(sandbox) = Listing::load(&stores()?)?.sandboxes.into_iter().find(|s| s.record.id == *id) else {
            list.show_message("the sandbox no longer exists");
            continue;
        };
        if let Err(failure) = run_action(&action, sandbox, &mut list, (&settings, output)) {
            list.show_message(format!("error: {}", failure.escaped_message()));
        }
    }
}

fn run_action(
    action: &ListAction,
    mut sandbox: Sandbox,
    list: &mut SandboxList,
    (settings, output): (&Settings, Output),
) -> Result<(), CliError> {
    match action {
        ListAction::Attach(_) => {
            attach_to(&sandbox, (settings, FinishOptions::default()), output)?;
        }
        ListAction::Review(_) => {
            let repo = open_repo_of(&sandbox)?;
            repo.load_changes(&mut sandbox, output)?;
            sandbox.acquire_lock()?;
            run_rounds(&repo.host, Round::Review { sandbox, plain: false }, output)?;
        }
        ListAction::Resume(_) => {
            let session = start_resume_session(&sandbox.record.name, Path::new(&sandbox.record.worktree), output)?;
            let (_, review) = finish_session(session, || open_repo_of(&sandbox), FinishOptions::default(), output)?;
            if let Some((repo, round)) = review {
                run_rounds(&repo.host, round, output)?;
            }
        }
        ListAction::Stop(_) => {
            output.print_status(&format!("ending the agent of {}", sandbox.record.name));
            create_runtime()?.block_on(stop_agent(&sandbox, output))?;
            list.show_message(format!("the agent of {} has ended", sandbox.record.name));
        }
        ListAction::Quit => {}
    }
    Ok(())
}

/// A thread that looks at the sandboxes at intervals. It ends when this is dropped.
struct Watcher {
    rows: Receiver<Vec<SandboxRow>>,
    _end: Sender<()>,
}

impl Watcher {
    fn start_thread(stores: Vec<SandboxStore>) -> Result<Self, CliError> {
        let (sender, rows) = channel();
        let (end, ended) = channel::<()>();
        let watch = move || {
            loop {
                let listing = Listing::load(&stores).map(|listing| listing.sandboxes).unwrap_or_default();
                if sender.send(listing.iter().map(list_row).collect()).is_err()
                    || ended.recv_timeout(REFRESH) != Err(RecvTimeoutError::Timeout)
                {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("watch".into()).spawn(watch)?;
        Ok(Self { rows, _end: end })
    }
}

fn list_row(sandbox: &Sandbox) -> SandboxRow {
    let (word, status) = sandbox_status(sandbox);
    let record = &sandbox.record;
    let phase = match word {
        "waiting" => SandboxPhase::Waiting,
        "running" | "starting" => SandboxPhase::Running,
        "collected" | "interrupted" => SandboxPhase::NeedsReview,
        _ => SandboxPhase::Done,
    };
    SandboxRow {
        phase,
        name: record.name.to_string(),
        status: if word == "collected" && record.progress.is_none() { format!("{status} to review") } else { status },
        age: format_age(record.created),
        worktree: display_worktree(sandbox),
        id: record.id.clone(),
    }
}
