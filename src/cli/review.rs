//! `airlock review`, and the same right after an agent has ended.

use std::io::{self, Read};
use std::path::Path;

use super::apply::Wanted;
use super::args::ReviewArgs;
use super::bring::{bring, plan};
use super::conflict;
use super::editor;
use super::failure::{FAILED, Failure, INTERRUPTED, STALE};
use super::host::Host;
use super::json::render;
use super::judge::Judge;
use super::outcome::{Tense, word};
use super::output::{Output, count, print, shell_word};
use super::repo::Repo;
use super::resume::{self, Round};
use super::target::write_new;
use crate::apply::{Conflict, OnConflict, Step};
use crate::changes::{Changeset, FileChange, Finding};
use crate::config::{Preselect, Settings, ThemeMode};
use crate::display::Shown;
use crate::path::RepoPath;
use crate::review::screen::{self, App, Look, Opening, Theme};
use crate::review::{
    Action, Around, Conflicts, Decision, DecisionFile, DecisionFileError, Decisions, Draft, DraftError, Ended, Event,
    Item, Painter, PlainReview, Preview, PreviewLine, Sheet, Since, State, read_draft, risen, update,
};
use crate::sandbox::{Sandbox, Signals, terminal};
use crate::snapshot::HostRepo;

/// Where the draft is kept, in the sandbox's folder.
pub const DRAFT: &str = "draft.jsonl";

pub fn review(args: &ReviewArgs, output: Output) -> Result<u8, Failure> {
    let repo = Repo::here(output)?;
    let mut sandbox = repo.sandbox(args.name.as_deref(), "review")?;
    let changes = repo.changes(&mut sandbox, output)?;
    sandbox.lock()?;
    if let Some(file) = &args.export {
        return export(&sandbox, &changes, file, output);
    }
    if let Some(file) = &args.import {
        return import(&sandbox, &changes, file, args.allow_risky, output);
    }
    interact(&repo.host, sandbox, &changes, args.plain, output)
}

/// Writes the decisions to a file.
fn export(sandbox: &Sandbox, changes: &Changeset, file: &Path, output: Output) -> Result<u8, Failure> {
    let sheet = Sheet::open(changes, &sandbox.quarantine()?)?;
    let decisions = load(sandbox, &sheet)?.decisions;
    let name = sandbox.record.name.as_str();
    let all = DecisionFile::of(&sheet, &decisions, name, &changes.id)?;
    let text = render(&serde_json::to_value(&all).map_err(io::Error::from)?);
    if file.as_os_str() == "-" {
        print(text.as_bytes())?;
        return Ok(0);
    }
    write_new(file, text.as_bytes())?;
    let word = shell_word(file.as_os_str().as_encoded_bytes());
    output.say(&format!("the decisions on {name} are in {word}. Next: airlock review {name} --import {word}"));
    Ok(0)
}

/// Reads a decision file, and what it makes of the decisions so far.
pub fn decisions_from(
    sheet: &Sheet<'_>,
    so_far: &Decisions,
    file: &Path,
    allow_risky: bool,
) -> Result<Vec<Event>, Failure> {
    let mut bytes = Vec::new();
    let most = MOST_IMPORTED + 1;
    let read = if file.as_os_str() == "-" {
        io::stdin().lock().take(most).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut bytes))
    };
    let shown = file.display();
    read.map_err(|error| Failure::new(FAILED, format!("failed to read {shown}: {error}")))?;
    if bytes.len() as u64 > MOST_IMPORTED {
        return Err(Failure::new(FAILED, format!("{shown} has more than {MOST_IMPORTED} bytes")));
    }
    let parsed = DecisionFile::parse(&bytes).and_then(|all| all.events(sheet, so_far, allow_risky));
    parsed.map_err(|error| {
        let exit = if matches!(error, DecisionFileError::Stale { .. }) { STALE } else { FAILED };
        let failure = Failure::new(exit, format!("{shown}: {error}; nothing of it was taken"));
        match error {
            DecisionFileError::Stale { current, .. } => {
                let more = current.len().saturating_sub(MOST_LISTED);
                let rest = (more > 0).then(|| format!("and {more} more"));
                failure
                    .details(current.into_iter().take(MOST_LISTED).chain(rest))
                    .hint("these are the current ones; airlock review --export - gives all of them")
            }
            DecisionFileError::Risky(_) => failure.hint("look at it, then add --allow-risky"),
            _ => failure,
        }
    })
}

/// Bytes of a decision file that are read.
const MOST_IMPORTED: u64 = 256 << 20;
/// Ids that are listed where one is stale.
const MOST_LISTED: usize = 40;

/// Takes decisions from a file.
fn import(
    sandbox: &Sandbox,
    changes: &Changeset,
    file: &Path,
    allow_risky: bool,
    output: Output,
) -> Result<u8, Failure> {
    let sheet = Sheet::open(changes, &sandbox.quarantine()?)?;
    let (mut draft, state) = open(sandbox, &sheet)?;
    let events = decisions_from(&sheet, &state.decisions, file, allow_risky)?;
    draft.keep(&events).and_then(|()| draft.close()).map_err(|error| failure(&error, sandbox))?;
    let decisions = load(sandbox, &sheet)?.decisions;
    let units = || sheet.files.iter().flat_map(|f| &f.units);
    let decided = units().filter(|u| decisions.is_decided(u)).count();
    let name = &sandbox.record.name;
    output.say(&format!(
        "{} decided of {}. Next: airlock apply {name}, or airlock review {name}",
        count(decided, "block"),
        units().count()
    ));
    Ok(0)
}

/// Tells whether a person sits at a terminal that can show the full screen.
fn is_full_screen() -> bool {
    terminal::is_interactive() && std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb")
}

/// Reads the draft of a review of a sandbox's changes.
pub fn load(sandbox: &Sandbox, sheet: &Sheet<'_>) -> Result<State, Failure> {
    let mut state = read_draft(&sandbox.path(DRAFT)).map_err(|error| failure(&error, sandbox))?;
    go_over(&mut state, sandbox, sheet)?;
    Ok(state)
}

/// Opens it to be written to.
pub fn open(sandbox: &Sandbox, sheet: &Sheet<'_>) -> Result<(Draft, State), Failure> {
    let (mut draft, mut state) = Draft::open(&sandbox.path(DRAFT)).map_err(|error| failure(&error, sandbox))?;
    go_over(&mut state, sandbox, sheet)?;
    draft.keep(&state.take_events()).map_err(|error| failure(&error, sandbox))?;
    Ok((draft, state))
}

/// Goes over to the changes of another round, if these are: a yes from before a file became one of high risk counts no more.
fn go_over(state: &mut State, sandbox: &Sandbox, sheet: &Sheet<'_>) -> Result<(), Failure> {
    let Some(last) = state.rounds().last().filter(|last| **last != *sheet.changeset) else {
        if state.rounds().is_empty() {
            state.begin_round(sheet.changeset);
        }
        return Ok(());
    };
    // Where that round cannot be read any more, every one of high risk may be such a file.
    let before = sandbox.rounds()?.into_iter().find(|round| round.id == *last);
    let risen = before.map(|before| risen(sheet, &before));
    let is_risen = |path| risen.as_ref().is_none_or(|risen| risen.contains(path));
    let files = sheet.files.iter().filter(|f| f.is_risky() && is_risen(&f.change.path));
    state.forget_accepted(files.flat_map(|f| &f.units));
    state.begin_round(sheet.changeset);
    Ok(())
}

pub fn failure(error: &DraftError, sandbox: &Sandbox) -> Failure {
    let failure = Failure::new(FAILED, error.to_string());
    match error {
        DraftError::Damaged { .. } => {
            failure.hint(format!("to begin anew, move it away: mv {0} {0}.damaged", sandbox.path(DRAFT).display()))
        }
        DraftError::Io(_) => failure,
    }
}

/// The program around a review.
struct Desk<'a> {
    repo: &'a HostRepo,
    sandbox: &'a Sandbox,
    sheet: &'a Sheet<'a>,
    judge: Judge,
    draft: Draft,
}

impl Around for Desk<'_> {
    fn keep(&mut self, events: &[Event]) -> io::Result<()> {
        self.draft.keep(events).map_err(io::Error::other)
    }

    fn edit(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<Vec<u8>> {
        editor::edit(path, text)
    }

    fn view(&mut self, path: &RepoPath, text: &[u8]) -> io::Result<()> {
        editor::view(path, text)
    }

    fn judge(&self, change: &FileChange, old: &[u8], new: &[u8]) -> Vec<Finding> {
        self.judge.findings(change, old, new)
    }

    fn plan(&mut self, decisions: &Decisions) -> Result<Preview, String> {
        self.preview(decisions).map_err(|failure| failure.message().to_owned())
    }
}

impl Desk<'_> {
    fn preview(&self, decisions: &Decisions) -> Result<Preview, Failure> {
        let host = Host::of(self.repo)?;
        let tree = host.tree(&self.sandbox.record.manifest.modules)?;
        let (store, before) = (self.sandbox.quarantine()?, host.brought(self.sandbox)?);
        let rounds = self.sandbox.rounds()?;
        let plan = plan(&tree, self.sheet, &Wanted::decided(self.sheet, decisions), (&before, &rounds), &store)?;
        let parts = self.sheet.files.iter().map(|f| (&f.change.path, f.units.as_slice())).collect();
        let line = |step: &Step| PreviewLine {
            path: step.path.clone(),
            outcome: word(&step.verb, Tense::Future),
            reason: super::outcome::remark(step, &parts),
            is_conflict: false,
            sides: Vec::new(),
        };
        let conflict = |c: &Conflict| PreviewLine {
            path: c.path.clone(),
            outcome: "conflict",
            reason: c.reason.clone(),
            is_conflict: true,
            sides: conflict::show(std::slice::from_ref(c), conflict::APPLY, &store)
                .lines()
                .skip(2)
                .map(str::to_owned)
                .collect(),
        };
        let mut lines: Vec<PreviewLine> =
            plan.steps.iter().map(line).chain(plan.conflicts.iter().map(conflict)).collect();
        lines.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Preview { lines })
    }
}

/// Reviews, then asks whether to apply; gives the exit status of that.
pub fn interact(
    host: &HostRepo,
    mut sandbox: Sandbox,
    changes: &Changeset,
    plain: bool,
    output: Output,
) -> Result<u8, Failure> {
    let sheet = Sheet::open(changes, &sandbox.quarantine()?)?;
    let name = sandbox.record.name.clone();
    let settings = Settings::load(|name| std::env::var(name).ok())?;
    let known = read_draft(&sandbox.path(DRAFT)).map_err(|error| failure(&error, &sandbox))?;
    let is_first = known.rounds().last() != Some(&changes.id);
    let (draft, mut state) = open(&sandbox, &sheet)?;
    let judge = Judge::of(host, &sandbox, &sheet, output)?;
    let since = since(&sandbox, &sheet, &state)?;
    let mut outbox = None;
    let mut desk = Desk { repo: host, sandbox: &sandbox, sheet: &sheet, judge, draft };
    if is_first && settings.preselect == Some(Preselect::All) {
        let accept = preselected(&sheet, &state.decisions);
        state = update(state, &sheet, accept);
        desk.keep(&state.take_events())?;
    }
    terminal::discard_input();
    let ended = if plain || !is_full_screen() {
        let painter = Painter { colour: output.colours(), width: output.width() };
        loop {
            let (input, out) = (io::stdin().lock(), io::stdout().lock());
            let mut plain = PlainReview { sheet: &sheet, input, output: out, painter };
            let ended = plain.run(&mut state, &mut desk)?;
            drop(plain);
            if ended != Ended::Apply(None) || !terminal::is_interactive() {
                break ended;
            }
            let accepted = accepted(&sheet, &state.decisions);
            // Whoever does not want to after all goes on.
            if accepted == 0 || confirm_apply(&sheet, &state.decisions, accepted)? {
                break Ended::Apply(Some(Conflicts::Abort));
            }
        }
    } else {
        // The screen has to be put back before a signal ends us.
        Signals::yield_turn();
        let theme = match settings.theme.unwrap_or_default() {
            ThemeMode::Auto => None,
            ThemeMode::Dark => Some(Theme::Dark),
            ThemeMode::Light => Some(Theme::Light),
        };
        let look = Look::of(output.colours(), theme, &|name| std::env::var(name).ok());
        let cannot_send = resume::cannot_send(&sandbox.record);
        let opening = Opening { name: name.to_string(), look, since, cannot_send };
        let mut app = App::new(&sheet, std::mem::take(&mut state), opening);
        let ended = screen::run(&mut app, &mut desk)?;
        (state, outbox) = (app.state, app.outbox);
        ended
    };
    if ended == Ended::Discarded {
        desk.draft.discard().map_err(|error| failure(&error, &sandbox))?;
        output.say(&format!("the draft is discarded. Next: airlock review {name}, or airlock rm {name}"));
        return Ok(0);
    }
    desk.draft.close().map_err(|error| failure(&error, &sandbox))?;
    if ended == Ended::Signalled {
        return Err(Failure::new(INTERRUPTED, "interrupted; what was decided is saved")
            .hint(format!("airlock review {name} goes on")));
    }
    if let (Ended::Send, Some(feedback)) = (ended, outbox) {
        return resume::go_on(host, sandbox, Round { feedback: Some(feedback), ..Round::default() }, output);
    }
    let decisions = &state.decisions;
    let accepted = accepted(&sheet, decisions);
    let send = resume::way_to_send(&sandbox.record, &sheet, &state)?;
    if ended == Ended::Left || accepted == 0 {
        let what = if accepted == 0 { "nothing is accepted" } else { "the decisions are saved" };
        output.say(&format!("{what}. Next: airlock review {name}{send}, or airlock rm {name}"));
        return Ok(0);
    }
    let on_conflict = match ended {
        Ended::Apply(Some(conflicts)) => Some(conflicts),
        // In the full screen whoever wants to apply says so there.
        Ended::Through if terminal::is_interactive() => {
            confirm_apply(&sheet, decisions, accepted)?.then_some(Conflicts::Abort)
        }
        _ => None,
    };
    if let Some(on_conflict) = on_conflict {
        let on_conflict = match on_conflict {
            Conflicts::Abort => OnConflict::Abort,
            Conflicts::Skip => OnConflict::Skip,
            Conflicts::Markers => OnConflict::Markers,
        };
        let wanted = Wanted { on_conflict, ..Wanted::decided(&sheet, decisions) };
        let status = bring(host, &mut sandbox, &sheet, &wanted, output)?;
        if status != 0 {
            output.say(&format!("the decisions are saved. Next: airlock apply {name}"));
        }
        return Ok(status);
    }
    output.say(&format!("the decisions are saved. Next: airlock apply {name}{send}"));
    Ok(0)
}

/// Counts the blocks of which something is accepted.
fn accepted(sheet: &Sheet<'_>, decisions: &Decisions) -> usize {
    sheet.files.iter().flat_map(|f| &f.units).filter(|u| decisions.is_accepted(u)).count()
}

/// Accepts all that nobody has decided on, as `A` does: high risk stays.
fn preselected(sheet: &Sheet<'_>, decisions: &Decisions) -> Action {
    let files = sheet.files.iter().enumerate().filter(|(_, f)| !f.is_refused());
    let units = files.flat_map(|(file, f)| f.units.iter().enumerate().map(move |(unit, of)| (file, unit, of)));
    let open = units.filter(|(_, _, of)| decisions.of(&of.id).is_none());
    let items = open.map(|(file, unit, _)| Item { file, unit, lines: None }).collect();
    Action::Sweep { items, decision: Decision::Accepted, hidden: 0 }
}

/// Finds what has changed since somebody reviewed an earlier round; nothing if nobody has.
fn since(sandbox: &Sandbox, sheet: &Sheet<'_>, state: &State) -> Result<Option<Since>, Failure> {
    let is_reviewed = |round: &Changeset| round.id != *sheet.changeset && state.rounds().contains(&round.id);
    let Some(before) = sandbox.rounds()?.into_iter().find(is_reviewed) else { return Ok(None) };
    Ok(Some(Since::of(sheet, &before, &sandbox.quarantine()?)))
}

/// Asks whether to apply: with a word to type where something of high risk is among it.
fn confirm_apply(sheet: &Sheet<'_>, decisions: &Decisions, accepted: usize) -> Result<bool, Failure> {
    let is_accepted = |f: &&crate::review::SheetFile<'_>| f.units.iter().any(|u| decisions.is_accepted(u));
    let risky: Vec<String> = (sheet.files.iter())
        .filter(|f| f.is_risky() && !f.is_refused())
        .filter(is_accepted)
        .map(|f| Shown::new(f.change.path.as_bytes()).to_string())
        .collect();
    let question = format!("Apply {} to your working tree?", count(accepted, "block"));
    if risky.is_empty() {
        return confirm(&question, false);
    }
    let more = if risky.len() > 3 { ", …" } else { "" };
    let names = risky.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    terminal::discard_input();
    let typed = dialoguer::Input::<String>::new()
        .with_prompt(format!("High risk among it: {names}{more}. {question} Type apply to do it"))
        .allow_empty(true)
        .interact_text();
    Ok(typed.is_ok_and(|word| word.trim() == "apply"))
}

/// Asks yes or no, until it is one of them. What was typed before the question is not an answer to it.
pub fn confirm(question: &str, default: bool) -> Result<bool, Failure> {
    terminal::discard_input();
    let answer = |text: &str| match text.trim().to_lowercase().as_str() {
        "" => Some(default),
        "y" | "yes" => Some(true),
        "n" | "no" => Some(false),
        _ => None,
    };
    let asked = dialoguer::Input::<String>::new()
        .with_prompt(format!("{question} [{}]", if default { "Y/n" } else { "y/N" }))
        .allow_empty(true)
        .validate_with(|text: &String| answer(text).map(drop).ok_or("answer y or n"))
        .interact_text();
    // Ctrl-C is none.
    Ok(asked.ok().and_then(|text| answer(&text)).unwrap_or(false))
}
