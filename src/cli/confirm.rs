//! Interactive questions on the terminal.

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use super::error::CliError;
use super::output::{format_count, print_stderr};
use crate::core::escape::Escaped;
use crate::review::{Decisions, ReviewFile, ReviewModel};
use crate::terminal::{self, Signals};

/// Runs a prompt. Signals without a meaning for it are held back until it ends: the prompt takes an interrupted read for Ctrl-C.
fn run_prompt<T>(prompt: impl FnOnce() -> T) -> T {
    terminal::discard_input();
    let held = SigSet::from_iter([Signal::SIGWINCH, Signal::SIGCHLD, Signal::SIGCONT]);
    let before = held.thread_swap_mask(SigmaskHow::SIG_BLOCK);
    let result = prompt();
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    result
}

/// Asks whether to apply. If the accepted changes include high-risk files, the user has to type `apply`.
pub(super) fn confirm_apply(model: &ReviewModel<'_>, decisions: &Decisions, accepted: usize) -> Result<bool, CliError> {
    let is_accepted = |f: &&ReviewFile<'_>| f.units.iter().any(|u| decisions.is_accepted(u));
    let risky: Vec<String> = (model.files.iter())
        .filter(|f| f.is_risky() && !f.is_refused())
        .filter(is_accepted)
        .map(|f| Escaped::new(f.change.path.as_bytes()).to_string())
        .collect();
    let question = format!("Apply {} to your working tree?", format_count(accepted, "hunk"));
    if risky.is_empty() {
        return ask_yes_no(&question, false);
    }
    let more = if risky.len() > 3 { ", …" } else { "" };
    let names = risky.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    let prompt = dialoguer::Input::<String>::new()
        .with_prompt(format!("High risk: {names}{more}. {question} Type apply to confirm"))
        .allow_empty(true);
    let typed = run_prompt(|| prompt.interact_text());
    Ok(typed.is_ok_and(|word| word.trim() == "apply"))
}

/// Lets the user choose one of some lines. Returns `None` if they choose none.
pub(super) fn pick_one(question: &str, lines: &[String]) -> Result<Option<usize>, CliError> {
    let prompt = dialoguer::Select::new().with_prompt(question).items(lines).default(0);
    let picked = run_prompt(|| prompt.interact_opt());
    picked.map_err(|error| CliError::failed(format!("failed to read your choice: {error}")))
}

/// Asks a question until it is answered with yes or no. Input that was typed before the question is discarded.
pub(super) fn ask_yes_no(question: &str, default: bool) -> Result<bool, CliError> {
    let answer = |text: &str| match text.trim().to_lowercase().as_str() {
        "" => Some(default),
        "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    };
    let prompt = dialoguer::Input::<String>::new()
        .with_prompt(format!("{question} [{}]", if default { "Y/n" } else { "y/N" }))
        .allow_empty(true)
        .validate_with(|text: &String| answer(text).map(drop).ok_or("answer y or n"));
    let asked = run_prompt(|| prompt.interact_text());
    if asked.is_err() {
        // Ctrl-C means no, or ends the process if a signal would. The cursor is still in the line of the question.
        if Signals::has_exit_message() {
            Signals::exit_interrupted();
        }
        print_stderr("\n");
    }
    Ok(asked.ok().and_then(|text| answer(&text)).unwrap_or(false))
}
