//! State of the full-screen review: the content on the screen and the cursor. It neither reads keys nor draws.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;

use globset::GlobMatcher;

use super::counts::Counts;
use super::layout::{DisplayOptions, FileLayout};
use super::style::StyleSheet;
use super::syntax::{Answer, Highlighted, Request, is_small};
use crate::changes::{Severity as Risk, Unit, UnitKind};
use crate::core::escape::Escaped;
use crate::review::{
    Action, ConflictHandling, Decision, DecisionTarget, Feedback, Preview, ReviewFile, ReviewHost, ReviewModel,
    ReviewState, RoundDiff, update,
};

/// The extent of a move or a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Granularity {
    File,
    /// A hunk, or one part of a split hunk.
    Block,
    Line,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The highest severity first.
    Risk,
    Path,
    Size,
}

/// The selection of files that are shown.
#[derive(Debug, Clone)]
pub enum Filter {
    All,
    Undecided,
    Risky,
    /// Files that conflict with the working tree.
    Conflict,
    Commented,
    /// Files with changes of the last round.
    New,
    Glob(String, GlobMatcher),
}

/// The position of the cursor. `row` is a display row within the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    pub file: usize,
    pub unit: usize,
    pub row: usize,
}

/// The purpose of a line of input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptKind {
    Search,
    Filter,
    /// A comment: its anchor, and its position as shown in the prompt.
    Comment(crate::review::CommentAnchor, String),
}

/// The action that requires confirmation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfirmAction {
    /// Decides all undecided units.
    All(Decision),
    File(Vec<DecisionTarget>),
    /// Discards the draft.
    Discard,
}

/// The current input mode, which determines the effect of a key.
#[derive(Debug)]
pub enum Mode {
    Browse,
    Input(PromptKind, String),
    Confirm(String, ConfirmAction),
    /// The keys that match a search text, and the scroll position.
    Help(String, usize),
    /// The resulting file.
    Preview {
        title: String,
        content: Vec<u8>,
        scroll: usize,
    },
    /// The apply preview. `typed` is set while the word `apply` must be typed, and also holds the handling of conflicts.
    Apply {
        preview: Preview,
        scroll: usize,
        typed: Option<(String, ConflictHandling)>,
    },
    /// The message to the agent.
    Send {
        feedback: Feedback,
        scroll: usize,
    },
}

/// Mouse targets, as they were last drawn.
#[derive(Debug, Default)]
pub struct HitAreas {
    /// The file list: its area, and the index of the first file shown.
    pub files: (ratatui::layout::Rect, usize),
    /// The area of the diff rows.
    pub rows: ratatui::layout::Rect,
    /// For each display row, the row of the file that it shows, in whole or in part.
    pub lines: Vec<usize>,
}

/// A row of a unit: file index, unit index, and row within the unit.
pub(crate) type Place = (usize, usize, usize);

/// The state of the full-screen review.
pub struct App<'a> {
    pub(crate) sheet: &'a ReviewModel<'a>,
    pub state: ReviewState,
    pub(crate) name: String,
    pub(crate) look: StyleSheet,
    pub(crate) counts: Counts,
    /// The changes of the last round; `None` in the first round.
    pub(crate) since: Option<RoundDiff>,
    /// The reason why feedback cannot be sent to the agent, if any.
    pub(crate) cannot_send: Option<String>,
    /// The message to the agent, once the user has confirmed that it is sent.
    pub outbox: Option<Feedback>,
    pub(crate) order: Order,
    pub(crate) filter: Filter,
    /// The files that are shown, in display order.
    pub(crate) files: Vec<usize>,
    pub(crate) display: DisplayOptions,
    pub(crate) folds: BTreeSet<usize>,
    pub(crate) moved: Option<HashSet<u64>>,
    pub(crate) level: Granularity,
    pub(crate) at: Cursor,
    /// The other end of a range of lines: unit and row.
    pub(crate) anchor: Option<(usize, usize)>,
    pub(crate) opened: Option<FileLayout>,
    pub(crate) scroll: usize,
    pub(crate) sideways: usize,
    /// For each line that is wider than its area, the column up to which it has been shown without a gap.
    pub(crate) shown_to: BTreeMap<Place, usize>,
    /// Whether the scroll position follows the cursor. The mouse wheel turns this off.
    pub(crate) follows: bool,
    pub(crate) search: String,
    /// A search text, and the files known not to contain it. File contents do not change during a review.
    pub(crate) without: (Vec<u8>, BTreeSet<usize>),
    pub(crate) mode: Mode,
    pub(crate) message: Option<String>,
    pub(crate) highlighted: BTreeMap<usize, [Highlighted; 2]>,
    asked: BTreeSet<usize>,
    attention: Attention,
    /// Whether the open file has a unit that changes all line endings.
    has_endings: bool,
    request: Option<Request>,
    pub(crate) hits: HitAreas,
    /// Whether a visible line continues to the right, as of the last draw.
    pub(crate) goes_on: Cell<bool>,
    /// The maximum scroll position of the overlay, as of the last draw.
    pub(crate) last_row: Cell<usize>,
    pub(crate) files_scroll: usize,
}

/// The element on the screen that discards pending input when it appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attention {
    None,
    Question,
    File(usize),
}

/// Options of a review on the full screen.
pub struct ReviewOptions {
    pub name: String,
    pub look: StyleSheet,
    /// The changes of the last round; `None` in the first round.
    pub since: Option<RoundDiff>,
    /// The reason why feedback cannot be sent to the agent, if any.
    pub cannot_send: Option<String>,
}

/// Returns the message about a new round: the number of its changes, and of older undecided units.
fn say_since(since: &RoundDiff, sheet: &ReviewModel<'_>, counts: &Counts) -> String {
    let blocks = |n: usize| if n == 1 { "1 hunk".into() } else { format!("{n} hunks") };
    let mut said = vec![format!("{} new since you decided", blocks(since.new.len()))];
    if since.gone > 0 {
        said.push(format!("{} gone", since.gone));
    }
    let older = |(at, file): (usize, &ReviewFile<'_>)| {
        let open = |(unit, of): (usize, &Unit)| !since.new.contains(&of.id) && counts.unit(at, unit).undecided > 0;
        if file.is_refused() { 0 } else { file.units.iter().enumerate().filter(|u| open(*u)).count() }
    };
    let older: usize = sheet.files.iter().enumerate().map(older).sum();
    if older > 0 {
        said.push(format!("{older} older undecided"));
    }
    if since.new.is_empty() { said.join(", ") } else { format!("{} · f, Enter shows all", said.join(", ")) }
}

/// The message when nothing is undecided.
pub(crate) const ALL_DECIDED: &str = "all is decided · w shows what an apply would do";

/// Maximum number of files whose highlighting is cached.
const MOST_HIGHLIGHTED: usize = 12;

impl<'a> App<'a> {
    /// Opens the screen on the first file with something undecided.
    #[must_use]
    pub fn new(sheet: &'a ReviewModel<'a>, mut state: ReviewState, opening: ReviewOptions) -> Self {
        let folds = (0..sheet.files.len()).filter(|at| sheet.files[*at].begins_folded).collect();
        let counts = Counts::of(sheet, &state.decisions);
        let is_first = opening.since.is_none();
        let since = opening.since.as_ref().map(|since| say_since(since, sheet, &counts));
        let said: Vec<String> = state.said.take().into_iter().chain(since).collect();
        let message = (!said.is_empty()).then(|| said.join(" · "));
        let mut app = Self {
            sheet,
            name: opening.name,
            look: opening.look,
            counts,
            since: opening.since,
            cannot_send: opening.cannot_send,
            outbox: None,
            order: Order::Risk,
            filter: if is_first { Filter::All } else { Filter::New },
            files: Vec::new(),
            display: DisplayOptions {
                context: 3,
                hides_blanks: false,
                side_by_side: false,
                folded: false,
                wraps: true,
            },
            shown_to: BTreeMap::new(),
            folds,
            moved: None,
            level: Granularity::Block,
            at: Cursor { file: 0, unit: 0, row: 0 },
            anchor: None,
            opened: None,
            scroll: 0,
            sideways: 0,
            follows: true,
            search: String::new(),
            without: Default::default(),
            mode: Mode::Browse,
            message,
            highlighted: BTreeMap::new(),
            asked: BTreeSet::new(),
            attention: Attention::None,
            has_endings: false,
            request: None,
            hits: HitAreas::default(),
            goes_on: Cell::new(false),
            last_row: Cell::new(0),
            files_scroll: 0,
            state,
        };
        app.choose(&BTreeSet::new());
        if app.files.is_empty() {
            app.filter = Filter::All;
            app.choose(&BTreeSet::new());
        }
        let total = app.counts.total();
        if app.message.is_none() && total.all > 0 && total.decided == total.all {
            app.message = Some(ALL_DECIDED.into());
        }
        let first = app.files.first().copied().unwrap_or(0);
        app.at.file = first;
        if !app.has_open(first, 0) {
            app.at = app.next_open().unwrap_or(app.at);
        }
        app.open();
        app
    }

    /// Returns the file at the cursor.
    pub(crate) fn file(&self) -> Option<&'a ReviewFile<'a>> {
        self.sheet.files.get(self.at.file)
    }

    /// Returns the unit at the cursor.
    pub(crate) fn unit(&self) -> Option<&'a Unit> {
        self.file()?.units.get(self.at.unit)
    }

    /// Selects and sorts the files to show. `conflicts` are the files that would conflict if everything were applied.
    pub(crate) fn choose(&mut self, conflicts: &BTreeSet<usize>) {
        let commented: BTreeSet<&str> = self.state.decisions.comments().map(|((unit, _), _)| unit.as_str()).collect();
        let is_shown = |at: &usize| {
            let file = &self.sheet.files[*at];
            match &self.filter {
                Filter::All => true,
                Filter::Undecided => !file.is_refused() && self.counts.file(*at).decided < file.units.len(),
                Filter::Risky => file.change.severity() > Some(Risk::Note),
                Filter::Conflict => conflicts.contains(at),
                Filter::Commented => file.units.iter().any(|u| commented.contains(u.id.as_str())),
                Filter::New => self.since.as_ref().is_some_and(|s| file.units.iter().any(|u| s.new.contains(&u.id))),
                Filter::Glob(_, glob) => glob.is_match(String::from_utf8_lossy(file.change.path.as_bytes()).as_ref()),
            }
        };
        let mut files: Vec<usize> = (0..self.sheet.files.len()).filter(is_shown).collect();
        let path = |at: &usize| &self.sheet.files[*at].change.path;
        match self.order {
            Order::Path => files.sort_by(|a, b| path(a).cmp(path(b))),
            Order::Risk => files.sort_by(|a, b| {
                let level = |at: &usize| self.sheet.files[*at].change.severity();
                level(b).cmp(&level(a)).then_with(|| path(a).cmp(path(b)))
            }),
            Order::Size => files.sort_by(|a, b| {
                let lines = |at: &usize| {
                    let (added, removed) = self.sheet.files[*at].line_counts;
                    added + removed
                };
                lines(b).cmp(&lines(a)).then_with(|| path(a).cmp(path(b)))
            }),
        }
        self.files = files;
        if !self.files.contains(&self.at.file)
            && let Some(first) = self.files.first()
        {
            self.at = Cursor { file: *first, unit: 0, row: 0 };
            self.open();
        }
    }

    /// Opens the file at the cursor if another file is open, and lays it out.
    pub(crate) fn open(&mut self) {
        if self.file().is_none() {
            return;
        }
        if self.opened.as_ref().is_none_or(|o| o.file != self.at.file) {
            self.opened = Some(FileLayout::of(self.sheet, self.at.file));
            let is_ending = |u: &Unit| matches!(u.kind, UnitKind::LineEndings(_));
            self.has_endings = self.file().is_some_and(|f| f.units.iter().any(is_ending));
            (self.scroll, self.sideways, self.anchor) = (0, 0, None);
            self.ask_for_colours();
        }
        self.follows = true;
        self.lay_out();
    }

    /// Recomputes the layout of the open file.
    pub(crate) fn lay_out(&mut self) {
        self.display.folded = self.folds.contains(&self.at.file);
        // Row numbers may change.
        self.shown_to.clear();
        if let Some(opened) = &mut self.opened {
            opened.lay_out(self.sheet, &self.state, self.display);
        }
    }

    fn ask_for_colours(&mut self) {
        let Some(opened) = &self.opened else { return };
        let (old, new) = (opened.text.old.bytes(), opened.text.new.bytes());
        let is_worth_it = (!old.is_empty() || !new.is_empty()) && is_small(old) && is_small(new);
        if is_worth_it && self.asked.insert(opened.file) {
            let name = self.sheet.files[opened.file].change.path.file_name();
            let name = String::from_utf8_lossy(name).into_owned();
            self.request = Some(Request { file: opened.file, name, contents: [old.to_vec(), new.to_vec()] });
        }
    }

    /// Takes the pending highlight request.
    pub fn take_request(&mut self) -> Option<Request> {
        self.request.take()
    }

    /// Stores highlighted contents, and returns whether they belong to the open file.
    pub fn highlight(&mut self, answer: Answer) -> bool {
        while self.highlighted.len() >= MOST_HIGHLIGHTED {
            let furthest = self.highlighted.keys().copied().max_by_key(|file| file.abs_diff(self.at.file));
            let Some(furthest) = furthest else { break };
            self.highlighted.remove(&furthest);
            self.asked.remove(&furthest);
        }
        let is_shown = answer.file == self.at.file;
        self.highlighted.insert(answer.file, answer.sides);
        is_shown
    }

    /// Runs an action and saves its events.
    pub(crate) fn act(&mut self, action: Action, around: &mut dyn ReviewHost) -> io::Result<()> {
        self.state = update(std::mem::take(&mut self.state), self.sheet, action);
        self.message = self.state.said.take();
        self.flush(around)
    }

    /// Saves pending events, and updates the counts.
    pub fn flush(&mut self, around: &mut dyn ReviewHost) -> io::Result<()> {
        let events = self.state.take_events();
        around.save_events(&events)?;
        self.counts.follow(self.sheet, &self.state.decisions, &events);
        Ok(())
    }

    /// Returns whether the open file has a unit that changes all line endings. Lines are then shown without their endings.
    pub(crate) fn has_ending_unit(&self) -> bool {
        self.has_endings
    }

    /// Returns whether the last round changed the unit at the cursor.
    pub(crate) fn is_new(&self) -> bool {
        let Some(unit) = self.unit() else { return false };
        self.since.as_ref().is_some_and(|since| since.new.contains(&unit.id))
    }

    /// Returns a note if the last round changed a file and accepted units elsewhere in it were kept.
    pub(crate) fn kept_in(&self, file: usize) -> Option<String> {
        let since = self.since.as_ref()?;
        let ReviewFile { change, units, .. } = &self.sheet.files[file];
        let kept = units.iter().filter(|u| !since.new.contains(&u.id) && self.state.decisions.is_accepted(u)).count();
        let noun = if kept == 1 { "decision" } else { "decisions" };
        (kept > 0 && since.touched.contains(&change.path))
            .then(|| format!("{}: {kept} {noun} kept, though the file changed otherwise", self.path(file)))
    }

    /// Returns whether a dialog or a risky file has appeared since the last call. Pending input must then be discarded.
    pub(crate) fn consume_input_guard(&mut self) -> bool {
        let now = match &self.mode {
            Mode::Confirm(..) | Mode::Apply { .. } | Mode::Send { .. } => Attention::Question,
            _ if self.file().is_some_and(ReviewFile::is_risky) => Attention::File(self.at.file),
            _ => Attention::None,
        };
        let before = std::mem::replace(&mut self.attention, now);
        now != before && now != Attention::None
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.message = Some(text.to_owned());
    }

    /// Returns a file's path, escaped for display.
    pub(crate) fn path(&self, file: usize) -> String {
        Escaped::new(self.sheet.files[file].change.path.as_bytes()).to_string()
    }
}
