//! State of the full-screen review: the content on the screen and the cursor. It neither reads keys nor draws.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;

use globset::GlobMatcher;

use super::counts::ReviewCounts;
use super::dialogs::{ApplyView, FileConflict, Menu, ResolveView};
use super::keymap::{Command, Keymap};
use super::layout::{DisplayOptions, FileLayout};
use super::style::{StyleSheet, Symbol};
use super::syntax::{FileClasses, HighlightRequest, HighlightedFile, is_small};
use super::tree::{ListRow, MIN_TREE_FILES, TreeFile, sort_as_tree};
use crate::changes::{AgentCommit, Severity as Risk, Unit, UnitKind};
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;
use crate::review::{
    Action, Decision, DecisionTarget, Event, Feedback, NewLines, ReviewFile, ReviewHost, ReviewModel, ReviewState,
    RoundDiff, UnitDecision, update_state,
};

/// The extent of a move or a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Granularity {
    File,
    /// A hunk, or one part of a split hunk.
    Hunk,
    Line,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// The highest severity first.
    Risk,
    Path,
    Size,
}

/// The selection of files that are shown.
#[derive(Debug, Clone)]
pub(crate) enum Filter {
    All,
    Undecided,
    Risky,
    /// These files, which would conflict with the working tree if everything were applied.
    Conflict(BTreeSet<usize>),
    Commented,
    /// Files with changes of the last round.
    New,
    Glob(String, GlobMatcher),
}

/// The position of the cursor. `row` is a display row within the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub file: usize,
    pub unit: usize,
    pub row: usize,
}

/// The purpose of a line of input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PromptKind {
    Search,
    /// A path or glob that selects files.
    Pattern,
    /// A comment: its anchor, and its position as shown in the prompt.
    Comment(crate::review::CommentAnchor, String),
}

/// The action that requires confirmation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConfirmAction {
    /// Decides what is undecided in some files, or with `overrides` what is decided.
    Files {
        files: Vec<usize>,
        decision: Decision,
        overrides: bool,
    },
    File(Vec<DecisionTarget>),
    /// Discards the draft.
    Discard,
}

/// The current input mode, which determines the effect of a key.
#[derive(Debug)]
pub(crate) enum Mode {
    Browse,
    Input(PromptKind, String),
    Confirm(String, ConfirmAction),
    /// A menu, and its selected entry.
    Menu {
        menu: Menu,
        selected: usize,
    },
    /// The keys that match a search text, and the scroll position.
    Help(String, usize),
    /// The resulting file.
    Preview {
        title: String,
        content: Vec<u8>,
        new_lines: NewLines,
        scroll: usize,
    },
    /// The list of all comments: the selected row.
    Comments(usize),
    /// The commits of the agent: the scroll position.
    Commits(usize),
    /// The preview of an apply.
    Apply(ApplyView),
    /// The conflicts, to be resolved region by region.
    Resolve(ResolveView),
    /// The message to the agent.
    Send {
        feedback: Feedback,
        scroll: usize,
    },
}

/// Mouse targets, as they were last drawn.
#[derive(Debug, Default)]
pub(crate) struct HitAreas {
    /// The file list: its area, and the index of the first file shown.
    pub files: (ratatui::layout::Rect, usize),
    /// The area of the diff rows.
    pub rows: ratatui::layout::Rect,
    /// The entries of the open menu.
    pub menu: ratatui::layout::Rect,
    /// For each display row, the row of the file that it shows, in whole or in part.
    pub lines: Vec<usize>,
}

/// A row of a unit: file index, unit index, and row within the unit.
pub(crate) type RowPosition = (usize, usize, usize);

/// The state of the full-screen review.
pub struct App<'a> {
    pub(crate) model: &'a ReviewModel<'a>,
    pub state: ReviewState,
    pub(crate) name: String,
    pub(crate) styles: StyleSheet,
    pub(crate) keymap: Keymap,
    pub(crate) counts: ReviewCounts,
    /// The changes of the last round; `None` in the first round.
    pub(crate) round_diff: Option<RoundDiff>,
    /// The reason why feedback cannot be sent to the agent, if any.
    pub(crate) cannot_send: Option<String>,
    /// The message to the agent, once the user has confirmed that it is sent.
    pub pending_feedback: Option<Feedback>,
    /// The commits of the agent, oldest first.
    pub(crate) commits: Vec<AgentCommit>,
    pub(crate) order: Order,
    pub(crate) filter: Filter,
    /// The files that are shown, in display order.
    pub(crate) files: Vec<usize>,
    /// Whether the file list is a tree of folders.
    pub(crate) is_tree: bool,
    pub(crate) collapsed_folders: BTreeSet<Vec<u8>>,
    /// The rows of the file list.
    pub(crate) list: Vec<ListRow>,
    /// The folder at the cursor, if it is at one.
    pub(crate) folder: Option<Vec<u8>>,
    pub(crate) display: DisplayOptions,
    pub(crate) folded_files: BTreeSet<usize>,
    pub(crate) moved_lines: Option<HashSet<u64>>,
    pub(crate) granularity: Granularity,
    pub(crate) cursor: Cursor,
    /// The other end of a range of lines: unit and row.
    pub(crate) anchor: Option<(usize, usize)>,
    /// The row at which the mouse button was pressed.
    pub(crate) pressed_row: Option<(usize, usize)>,
    pub(crate) layout: Option<FileLayout>,
    pub(crate) scroll: usize,
    pub(crate) h_scroll: usize,
    /// For each line that is wider than its area, the column up to which it has been shown without a gap.
    pub(crate) viewed_columns: BTreeMap<RowPosition, usize>,
    /// Whether the scroll position follows the cursor. The mouse wheel turns this off.
    pub(crate) scroll_follows_cursor: bool,
    pub(crate) search: String,
    /// The last match, while no other command has moved the cursor.
    pub(crate) last_match: Option<RowPosition>,
    /// A search text, and the files known not to contain it. File contents do not change during a review.
    pub(crate) search_misses: (Vec<u8>, BTreeSet<usize>),
    pub(crate) mode: Mode,
    pub(crate) message: Option<String>,
    /// The comment whose input was closed without saving, by its anchor.
    pub(crate) unsaved_comment: Option<(crate::review::CommentAnchor, String)>,
    /// The conflicts with the working tree if everything were accepted; `None` until they are known.
    pub(crate) conflicts: Option<BTreeMap<usize, FileConflict>>,
    /// The units with a text of the user, as of the last plan.
    edited_units: BTreeSet<String>,
    /// Whether a plan of other decisions is needed to know them.
    pub(crate) needs_plan: bool,
    pub(crate) highlighted: BTreeMap<usize, [FileClasses; 2]>,
    highlight_requested: BTreeSet<usize>,
    input_guard: InputGuard,
    /// Keys without an effect that a message has named.
    pub(crate) noted_keys: BTreeSet<String>,
    /// Whether the open file has a unit that changes all line endings.
    has_line_ending_unit: bool,
    highlight_request: Option<HighlightRequest>,
    pub(crate) hit_areas: HitAreas,
    /// Whether a visible line continues to the right, as of the last draw.
    pub(crate) is_truncated: Cell<bool>,
    /// The maximum scroll position of the overlay, as of the last draw.
    pub(crate) max_scroll: Cell<usize>,
    pub(crate) files_scroll: usize,
}

/// The element on the screen that discards pending input when it appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InputGuard {
    None,
    Question,
    File(usize),
}

/// Options of a review on the full screen.
pub struct ReviewOptions {
    pub name: String,
    pub styles: StyleSheet,
    /// The changes of the last round; `None` in the first round.
    pub round_diff: Option<RoundDiff>,
    /// The reason why feedback cannot be sent to the agent, if any.
    pub cannot_send: Option<String>,
    /// The file at which the review starts, instead of the first undecided one.
    pub start_at: Option<RepoPath>,
    /// A message to begin with.
    pub notice: Option<String>,
    /// The commits of the agent, oldest first.
    pub commits: Vec<AgentCommit>,
    pub keymap: Keymap,
}

/// Returns the message about a new round: the number of its changes, and of older undecided units.
fn describe_round_diff(since: &RoundDiff, model: &ReviewModel<'_>, counts: &ReviewCounts, filter: &str) -> String {
    let hunks = |n: usize| if n == 1 { "1 hunk".into() } else { format!("{n} hunks") };
    let mut parts = vec![format!("{} new since you decided", hunks(since.new.len()))];
    if since.gone > 0 {
        parts.push(format!("{} removed", since.gone));
    }
    let count_older = |(at, file): (usize, &ReviewFile<'_>)| {
        let is_undecided = |(unit, review_unit): (usize, &Unit)| {
            !since.new.contains(&review_unit.id) && counts.unit_line_counts(at, unit).undecided > 0
        };
        if file.is_refused() { 0 } else { file.units.iter().enumerate().filter(|u| is_undecided(*u)).count() }
    };
    let older_count: usize = model.files.iter().enumerate().map(count_older).sum();
    if older_count > 0 {
        parts.push(format!("{older_count} older undecided"));
    }
    if since.new.is_empty() { parts.join(", ") } else { format!("{} · {filter} a shows all", parts.join(", ")) }
}

/// Maximum number of files whose highlighting is cached.
const MAX_HIGHLIGHTED: usize = 12;

impl<'a> App<'a> {
    /// Opens the screen on the first file with something undecided.
    #[must_use]
    pub fn new(model: &'a ReviewModel<'a>, mut state: ReviewState, options: ReviewOptions) -> Self {
        let folds = (0..model.files.len()).filter(|at| model.files[*at].is_collapsed).collect();
        let counts = ReviewCounts::new(model, &state.decisions);
        let is_first = options.round_diff.is_none();
        let round_message = options.round_diff.as_ref().map(|since| {
            let filter = options.keymap.first_key_name(Command::Filter, options.styles.unicode);
            describe_round_diff(since, model, &counts, &filter)
        });
        let messages: Vec<String> =
            round_message.into_iter().chain(state.message.take()).chain(options.notice).collect();
        let message = (!messages.is_empty()).then(|| messages.join(" · "));
        let mut app = Self {
            model,
            name: options.name,
            styles: options.styles,
            keymap: options.keymap,
            counts,
            round_diff: options.round_diff,
            cannot_send: options.cannot_send,
            pending_feedback: None,
            commits: options.commits,
            order: Order::Risk,
            filter: if is_first { Filter::All } else { Filter::New },
            files: Vec::new(),
            is_tree: model.files.len() >= MIN_TREE_FILES,
            collapsed_folders: BTreeSet::new(),
            list: Vec::new(),
            folder: None,
            display: DisplayOptions {
                context: 3,
                hides_blanks: false,
                side_by_side: false,
                folded: false,
                wraps: true,
            },
            viewed_columns: BTreeMap::new(),
            folded_files: folds,
            moved_lines: None,
            granularity: Granularity::Hunk,
            cursor: Cursor { file: 0, unit: 0, row: 0 },
            anchor: None,
            pressed_row: None,
            layout: None,
            scroll: 0,
            h_scroll: 0,
            scroll_follows_cursor: true,
            search: String::new(),
            last_match: None,
            search_misses: Default::default(),
            mode: Mode::Browse,
            message,
            unsaved_comment: None,
            conflicts: None,
            edited_units: BTreeSet::new(),
            needs_plan: true,
            highlighted: BTreeMap::new(),
            highlight_requested: BTreeSet::new(),
            input_guard: InputGuard::None,
            noted_keys: BTreeSet::new(),
            has_line_ending_unit: false,
            highlight_request: None,
            hit_areas: HitAreas::default(),
            is_truncated: Cell::new(false),
            max_scroll: Cell::new(0),
            files_scroll: 0,
            state,
        };
        app.select_files();
        if app.files.is_empty() {
            app.filter = Filter::All;
            app.select_files();
        }
        let total = app.counts.total_counts();
        if app.message.is_none() && total.all > 0 && total.decided == total.all {
            app.message = Some(app.all_decided_message());
        }
        let first = app.files.first().copied().unwrap_or(0);
        app.cursor.file = first;
        if !app.has_undecided(first, 0) {
            app.cursor = app.next_undecided().unwrap_or(app.cursor);
        }
        let start = |file: &&usize| Some(&app.model.files[**file].change.path) == options.start_at.as_ref();
        if let Some(file) = app.files.iter().find(start) {
            app.cursor = Cursor { file: *file, unit: 0, row: 0 };
        }
        app.open_current_file();
        app
    }

    /// Returns the file at the cursor.
    pub(crate) fn current_file(&self) -> Option<&'a ReviewFile<'a>> {
        self.model.files.get(self.cursor.file)
    }

    /// Returns a note for messages on what a command's key does, such as ` (u undoes it)`; nothing if the command has no key.
    pub(crate) fn key_note(&self, command: Command, effect: &str) -> String {
        match self.keymap.first_key_name(command, self.styles.unicode).as_str() {
            "" => String::new(),
            key => format!(" ({key} {effect})"),
        }
    }

    pub(crate) fn all_decided_message(&self) -> String {
        format!("all changes are decided{}", self.key_note(Command::Apply, "previews the apply"))
    }

    /// Returns the path of the file at the cursor.
    #[must_use]
    pub fn current_path(&self) -> Option<RepoPath> {
        self.current_file().map(|file| file.change.path.clone())
    }

    /// Returns the unit at the cursor.
    pub(crate) fn current_unit(&self) -> Option<&'a Unit> {
        self.current_file()?.units.get(self.cursor.unit)
    }

    /// Returns whether a filter shows a file.
    pub(crate) fn matches_filter(&self, filter: &Filter, at: usize) -> bool {
        let file = &self.model.files[at];
        match filter {
            Filter::All => true,
            Filter::Undecided => !file.is_refused() && self.counts.file_counts(at).decided < file.units.len(),
            Filter::Risky => file.change.max_severity() > Some(Risk::Note),
            Filter::Conflict(files) => files.contains(&at),
            Filter::Commented | Filter::New => file.units.iter().any(|unit| self.is_unit_selected(filter, unit)),
            Filter::Glob(_, glob) => (file.change.affected_paths())
                .any(|path| glob.is_match(String::from_utf8_lossy(path.as_bytes()).as_ref())),
        }
    }

    /// Returns whether a unit is a reason why a filter shows its file.
    pub(crate) fn is_unit_selected(&self, filter: &Filter, unit: &Unit) -> bool {
        match filter {
            Filter::Commented => self.state.decisions.comments_on(&unit.id).next().is_some(),
            Filter::New => self.round_diff.as_ref().is_some_and(|since| since.new.contains(&unit.id)),
            _ => false,
        }
    }

    /// Selects and sorts the files to show.
    pub(crate) fn select_files(&mut self) {
        let mut files: Vec<usize> =
            (0..self.model.files.len()).filter(|at| self.matches_filter(&self.filter, *at)).collect();
        let path = |at: &usize| &self.model.files[*at].change.path;
        let key = |at: &usize| {
            let ReviewFile { change, line_counts, .. } = &self.model.files[*at];
            match self.order {
                Order::Path => Reverse((None, 0)),
                Order::Risk => Reverse((change.max_severity(), 0)),
                Order::Size => Reverse((None, line_counts.0 + line_counts.1)),
            }
        };
        if self.is_tree {
            let mut sorted: Vec<_> =
                files.iter().map(|at| TreeFile { file: *at, path: path(at), key: key(at) }).collect();
            sort_as_tree(&mut sorted);
            files = sorted.into_iter().map(|file| file.file).collect();
        } else {
            files.sort_by(|a, b| key(a).cmp(&key(b)).then_with(|| path(a).cmp(path(b))));
        }
        self.files = files;
        self.update_list();
        if !self.files.contains(&self.cursor.file)
            && let Some(first) = self.files.first()
        {
            self.cursor = Cursor { file: *first, unit: 0, row: 0 };
            self.open_current_file();
        }
    }

    /// Opens the file at the cursor if another file is open, and lays it out.
    pub(crate) fn open_current_file(&mut self) {
        if self.current_file().is_none() {
            return;
        }
        if self.layout.as_ref().is_none_or(|o| o.file != self.cursor.file) {
            self.layout = Some(FileLayout::new(self.model, self.cursor.file));
            let is_ending = |u: &Unit| matches!(u.kind, UnitKind::LineEndings(_));
            self.has_line_ending_unit = self.current_file().is_some_and(|f| f.units.iter().any(is_ending));
            (self.scroll, self.h_scroll, self.anchor) = (0, 0, None);
            self.request_highlighting();
        }
        self.scroll_follows_cursor = true;
        self.update_layout();
    }

    /// Recomputes the layout of the open file.
    pub(crate) fn update_layout(&mut self) {
        self.display.folded = self.folded_files.contains(&self.cursor.file);
        // Row numbers may change.
        self.viewed_columns.clear();
        let (notes, earlier_comments) = (self.conflict_notes(), self.earlier_comments());
        if let Some(opened) = &mut self.layout {
            (opened.conflict_notes, opened.earlier_comments) = (notes, earlier_comments);
            opened.compute_rows(self.model, &self.state, self.display);
        }
    }

    fn request_highlighting(&mut self) {
        let Some(opened) = &self.layout else { return };
        let (old, new) = (opened.text.old.as_bytes(), opened.text.new.as_bytes());
        let is_highlightable = (!old.is_empty() || !new.is_empty()) && is_small(old) && is_small(new);
        if is_highlightable && self.highlight_requested.insert(opened.file) {
            let name = self.model.files[opened.file].change.path.file_name();
            let name = String::from_utf8_lossy(name).into_owned();
            self.highlight_request =
                Some(HighlightRequest { file: opened.file, name, contents: [old.to_vec(), new.to_vec()] });
        }
    }

    /// Takes the pending highlight request.
    pub fn take_highlight_request(&mut self) -> Option<HighlightRequest> {
        self.highlight_request.take()
    }

    /// Stores highlighted contents, and returns whether they belong to the open file.
    pub fn store_highlighting(&mut self, answer: HighlightedFile) -> bool {
        while self.highlighted.len() >= MAX_HIGHLIGHTED {
            let furthest = self.highlighted.keys().copied().max_by_key(|file| file.abs_diff(self.cursor.file));
            let Some(furthest) = furthest else { break };
            self.highlighted.remove(&furthest);
            self.highlight_requested.remove(&furthest);
        }
        let is_shown = answer.file == self.cursor.file;
        self.highlighted.insert(answer.file, answer.sides);
        is_shown
    }

    /// Runs an action and saves its events.
    pub(crate) fn run_action(&mut self, action: Action, host: &mut dyn ReviewHost) -> io::Result<()> {
        self.state = update_state(std::mem::take(&mut self.state), self.model, action);
        self.message = self.state.message.take();
        self.save_pending_events(host)
    }

    /// Saves pending events, and updates the counts.
    pub fn save_pending_events(&mut self, host: &mut dyn ReviewHost) -> io::Result<()> {
        let events = self.state.take_events();
        host.save_events(&events)?;
        // Edited text is another accepted content; which units are accepted does not matter.
        let is_edit = |event: &Event| match event {
            Event::Decision { unit, is } => {
                matches!(is, Some(UnitDecision::Edited(_))) || self.edited_units.contains(unit)
            }
            _ => false,
        };
        if events.iter().any(is_edit) {
            self.needs_plan = true;
            let edited = self.state.decisions.unit_decisions().filter(|(_, is)| matches!(is, UnitDecision::Edited(_)));
            self.edited_units = edited.map(|(unit, _)| unit.to_owned()).collect();
        }
        self.counts.apply_events(self.model, &self.state.decisions, &events);
        Ok(())
    }

    /// Returns whether the open file has a unit that changes all line endings. Lines are then shown without their endings.
    pub(crate) fn hides_line_endings(&self) -> bool {
        self.has_line_ending_unit
    }

    /// Returns whether the last round did not have a line of a unit, although it had others of it.
    pub(crate) fn is_new_line(&self, unit: &Unit, line: usize) -> bool {
        let lines = self.round_diff.as_ref().and_then(|since| since.new_lines.get(&unit.id));
        lines.is_some_and(|lines| lines.len() < unit.line_count() && lines.contains_line(line))
    }

    /// Returns whether the last round changed the unit at the cursor.
    pub(crate) fn is_new(&self) -> bool {
        let Some(unit) = self.current_unit() else { return false };
        self.round_diff.as_ref().is_some_and(|since| since.new.contains(&unit.id))
    }

    /// Returns a note if the last round changed a file and accepted units elsewhere in it were kept.
    pub(crate) fn kept_decisions_note(&self, file: usize) -> Option<String> {
        let since = self.round_diff.as_ref()?;
        let ReviewFile { change, units, .. } = &self.model.files[file];
        let kept = units.iter().filter(|u| !since.new.contains(&u.id) && self.state.decisions.is_accepted(u)).count();
        let noun = if kept == 1 { "decision" } else { "decisions" };
        (kept > 0 && since.touched.contains(&change.path))
            .then(|| format!("{}: {kept} {noun} kept, but the file changed elsewhere", self.escaped_path(file)))
    }

    /// Returns whether a dialog or a risky file has appeared since the last call. Pending input must then be discarded.
    pub(crate) fn consume_input_guard(&mut self) -> bool {
        let now = match &self.mode {
            Mode::Confirm(..) | Mode::Apply(_) | Mode::Send { .. } => InputGuard::Question,
            _ if self.current_file().is_some_and(ReviewFile::is_risky) => InputGuard::File(self.cursor.file),
            _ => InputGuard::None,
        };
        let before = std::mem::replace(&mut self.input_guard, now);
        now != before && now != InputGuard::None
    }

    /// Returns whether a dialog is open whose answer is final. The key that opened it, held down, must not answer it.
    pub(crate) fn is_question_open(&self) -> bool {
        matches!(self.input_guard, InputGuard::Question)
    }

    pub(crate) fn show_message(&mut self, text: &str) {
        self.message = Some(text.to_owned());
    }

    /// Returns a file's path, or both paths of a rename, escaped for display.
    pub(crate) fn path_label(&self, file: usize) -> String {
        self.model.files[file].change.path_label(self.styles.symbol_text(Symbol::Arrow))
    }

    /// Returns a file's path, escaped for display.
    pub(crate) fn escaped_path(&self, file: usize) -> String {
        Escaped::new(self.model.files[file].change.path.as_bytes()).to_string()
    }
}
