//! Line-based review, as in `git add -p`: one hunk at a time, with the keys of the full screen.

use std::io::{self, BufRead, Write};
use std::ops::Range;

use crate::changes::{AgentCommit, CONTEXT_LINES, ContextHunk, ContextLine, HunkLine, Unit, UnitKind};
use crate::core::escape::Escaped;
use crate::render::TextRenderer;
use crate::review::{
    Action, CommentAnchor, Decision, DecisionTarget, EDITOR_RETURNED_AT_ONCE, EditResult, FileText, HunkRows,
    ReviewFile, ReviewHost, ReviewModel, ReviewOutcome, ReviewState, RoundDiff, edit_hunk, refusal_message,
    resulting_file, update_state,
};

/// Maximum number of lines of a hunk that are shown. A truncated hunk names the command that shows all of it.
const MAX_HUNK_LINES: usize = 400;

/// A line-based review, for terminals without cursor control.
pub(crate) struct PlainReview<'a, I, O> {
    pub model: &'a ReviewModel<'a>,
    /// The answers, one per line.
    pub input: I,
    pub output: O,
    pub renderer: TextRenderer,
    /// The reason why feedback cannot be sent to the agent, if any.
    pub cannot_send: Option<String>,
    /// The commits of the agent, oldest first.
    pub commits: Vec<AgentCommit>,
    /// The difference from the last round, if there was one.
    pub round_diff: Option<RoundDiff>,
    /// The files that are asked about, in their order.
    pub files: Vec<usize>,
    /// The letter of the order.
    pub order: &'static str,
}

/// The question that is asked.
#[derive(Clone, Copy)]
struct Position<'a> {
    /// The index of the question.
    at: usize,
    questions: &'a [Question],
    /// The contents of its file.
    text: &'a FileText,
}

/// A unit or a part of a split unit, in the order of the questions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub file: usize,
    pub unit: usize,
    pub rows: Range<usize>,
}

pub(super) enum AnswerEffect {
    /// Repeat the prompt.
    RepeatPrompt,
    /// Repeat the text and the prompt.
    RepeatQuestion,
    /// Go to the next undecided question.
    NextUndecided,
    GoTo(usize),
    Exit(ReviewOutcome),
}

impl<I: BufRead, O: Write> PlainReview<'_, I, O> {
    /// Asks about every undecided unit. Each answer is saved before the next question. At the end of the input, the review
    /// ends.
    ///
    /// # Errors
    /// An error of the terminal or of the host.
    pub(crate) fn run(&mut self, state: &mut ReviewState, host: &mut dyn ReviewHost) -> io::Result<ReviewOutcome> {
        for file in self.model.files.iter().filter(|f| f.is_refused()) {
            write!(self.output, "{}", self.renderer.note_row(&refusal_message(file)))?;
        }
        let questions = self.list_questions(state);
        if questions.is_empty() {
            return Ok(ReviewOutcome::Completed);
        }
        let conflicts = self.find_conflicts(state, host);
        // If everything is decided, visit all questions again.
        let mut cached_text = None;
        let first = questions.iter().position(|q| self.is_undecided(q, state, &mut cached_text));
        let (is_second_pass, mut at) = (first.is_none(), first.unwrap_or(0));
        let (mut shown_file, mut text) = (None, FileText::default());
        loop {
            let mut questions = self.list_questions(state);
            if at >= questions.len() {
                if self.files.len() == self.model.files.len() {
                    return Ok(ReviewOutcome::Completed);
                }
                // After the files of a filter, the others are asked about.
                self.files = (0..self.model.files.len()).collect();
                questions = self.list_questions(state);
                let mut cached_text = None;
                let Some(next) = questions.iter().position(|q| self.is_undecided(q, state, &mut cached_text)) else {
                    return Ok(ReviewOutcome::Completed);
                };
                at = next;
            }
            let file = &self.model.files[questions[at].file];
            if shown_file != Some(questions[at].file) {
                write!(self.output, "\n{}", self.renderer.file_heading(file))?;
                if let Some(line) = conflicts.iter().find(|line| line.path == file.change.path) {
                    let key = if line.regions.is_empty() { "" } else { " (x resolves it)" };
                    let note = format!("conflict with the working tree: {}{key}", Escaped::new(&line.reason));
                    write!(self.output, "{}", self.renderer.note_row(&note))?;
                }
                shown_file = Some(questions[at].file);
                text = FileText::read(self.model, file)?;
            }
            self.print_question(&questions[at], &text, state)?;
            loop {
                let question = &questions[at];
                let decision_note = self.decision_so_far(question, &text, state);
                write!(
                    self.output,
                    "({}/{}) {}{decision_note} Apply? [y,n,a,d,A,D,s,l,e,E,x,c,C,L,R,u,r,j,k,g,/,f,o,p,w,Y,q,Q,?] ",
                    at + 1,
                    questions.len(),
                    Escaped::new(file.change.path.as_bytes()),
                )?;
                self.output.flush()?;
                let mut answer = String::new();
                if self.input.read_line(&mut answer)? == 0 {
                    writeln!(self.output)?;
                    return Ok(ReviewOutcome::Quit);
                }
                let next = self.handle_answer(
                    answer.trim(),
                    Position { at, questions: &questions, text: &text },
                    state,
                    host,
                )?;
                host.save_events(&state.take_events())?;
                questions = self.list_questions(state);
                at = match next {
                    AnswerEffect::RepeatPrompt => continue,
                    AnswerEffect::RepeatQuestion => at.min(questions.len() - 1),
                    AnswerEffect::GoTo(at) => at,
                    // Continue with the next undecided question; `j` and `k` also visit decided ones.
                    AnswerEffect::NextUndecided if is_second_pass => at + 1,
                    AnswerEffect::NextUndecided => {
                        let mut cached_text = None;
                        let is_open = |at: &usize| self.is_undecided(&questions[*at], state, &mut cached_text);
                        (at..questions.len()).find(is_open).unwrap_or(questions.len())
                    }
                    AnswerEffect::Exit(outcome) => return Ok(outcome),
                };
                break;
            }
        }
    }

    pub(super) fn list_questions(&self, state: &ReviewState) -> Vec<Question> {
        let files = self.files.iter().map(|at| (*at, &self.model.files[*at])).filter(|(_, f)| !f.is_refused());
        let units = files.flat_map(|(file, f)| f.units.iter().enumerate().map(move |(unit, u)| (file, unit, u)));
        units
            .flat_map(|(file, unit, u)| state.hunk_parts(u).into_iter().map(move |rows| Question { file, unit, rows }))
            .collect()
    }

    pub(super) fn question_unit(&self, question: &Question) -> &Unit {
        &self.model.files[question.file].units[question.unit]
    }

    pub(super) fn decision_target(&self, question: &Question, text: &FileText) -> DecisionTarget {
        let unit = self.question_unit(question);
        let lines = HunkRows::from_unit(unit, text)
            .filter(|block| question.rows.len() < block.len())
            .map(|block| block.decision_lines(question.rows.clone()));
        DecisionTarget { file: question.file, unit: question.unit, lines }
    }

    /// Returns whether a question is undecided. The text of the file that was read last is cached.
    pub(super) fn is_undecided(
        &self,
        question: &Question,
        state: &ReviewState,
        cached_text: &mut Option<(usize, FileText)>,
    ) -> bool {
        let unit = self.question_unit(question);
        if question.rows.len() == unit.line_count() || state.decisions.is_decided(unit) {
            return !state.decisions.is_decided(unit);
        }
        if cached_text.as_ref().is_none_or(|(file, _)| *file != question.file) {
            // A file that cannot be read is asked about, so that its error is shown.
            let text = FileText::read(self.model, &self.model.files[question.file]).unwrap_or_default();
            *cached_text = Some((question.file, text));
        }
        let Some((_, text)) = cached_text else { return true };
        let lines =
            HunkRows::from_unit(unit, text).map(|b| b.decision_lines(question.rows.clone())).unwrap_or_default();
        lines.iter().any(|line| state.decisions.line_decision(&unit.id, line).is_none())
    }

    fn decision_so_far(&self, question: &Question, text: &FileText, state: &ReviewState) -> &'static str {
        let unit = self.question_unit(question);
        if let Some(crate::review::UnitDecision::Edited(_)) = state.decisions.get(&unit.id) {
            return " (edited by you)";
        }
        let item = self.decision_target(question, text);
        let target_lines: Vec<usize> =
            item.lines.map_or((0..unit.line_count()).collect(), |lines| lines.iter().collect());
        let first = target_lines.first().and_then(|line| state.decisions.line_decision(&unit.id, *line));
        if target_lines.iter().any(|line| state.decisions.line_decision(&unit.id, *line) != first) {
            return " (in part so far)";
        }
        match first {
            None => "",
            Some(Decision::Accepted) => " (accepted so far)",
            Some(Decision::Rejected) => " (rejected so far)",
        }
    }

    pub(super) fn print_reply(&mut self, text: &str) -> io::Result<AnswerEffect> {
        writeln!(self.output, "{text}")?;
        Ok(AnswerEffect::RepeatPrompt)
    }

    pub(super) fn run_action(&mut self, state: &mut ReviewState, action: Action) -> io::Result<()> {
        *state = update_state(std::mem::take(state), self.model, action);
        if let Some(message) = state.message.take() {
            writeln!(self.output, "{message}")?;
        }
        Ok(())
    }

    fn handle_answer(
        &mut self,
        answer: &str,
        position: Position<'_>,
        state: &mut ReviewState,
        host: &mut dyn ReviewHost,
    ) -> io::Result<AnswerEffect> {
        let Position { at, questions, text } = position;
        let question = &questions[at];
        let file = &self.model.files[question.file];
        let unit = &file.units[question.unit];
        let (key, argument) = answer.split_at_checked(1).map_or((answer, ""), |(key, rest)| (key, rest.trim()));
        let (key, argument) = match answer {
            "yes" => ("y", ""),
            "no" => ("n", ""),
            _ if !argument.is_empty() && !matches!(key, "y" | "n" | "c" | "g" | "/" | "A" | "D" | "f" | "o") => {
                (answer, "")
            }
            _ => (key, argument),
        };
        match key {
            "y" | "n" => {
                let decision = if key == "y" { Decision::Accepted } else { Decision::Rejected };
                if !argument.is_empty() {
                    return self.decide_lines(argument, decision, question, (text, state));
                }
                let item = self.decision_target(question, text);
                self.run_action(state, Action::Decide(vec![item], Some(decision)))?;
                Ok(AnswerEffect::NextUndecided)
            }
            "a" if file.is_risky() => self.print_reply("This file is high risk: answer y for each hunk."),
            "a" | "d" => {
                let decision = if key == "a" { Decision::Accepted } else { Decision::Rejected };
                let rest = questions[at..].iter().take_while(|q| q.file == question.file);
                // The current question, and the undecided ones after it.
                let mut cached_text = None;
                let rest = rest.filter(|q| *q == question || self.is_undecided(q, state, &mut cached_text));
                let items = rest.map(|q| self.decision_target(q, text)).collect();
                *state =
                    update_state(std::mem::take(state), self.model, Action::BulkDecide { items, decision, hidden: 0 });
                state.message = None;
                Ok(AnswerEffect::NextUndecided)
            }
            "A" => self.decide_rest(argument, Decision::Accepted, state),
            "D" => self.decide_rest(argument, Decision::Rejected, state),
            "s" => self.split_hunk(question, text, state),
            "e" => match edit_hunk(self.model, state, &self.decision_target(question, text), text, host) {
                Ok(EditResult::Unchanged { returned_at_once: true }) => {
                    self.print_reply(&capitalize_first(EDITOR_RETURNED_AT_ONCE))
                }
                Ok(EditResult::Unchanged { returned_at_once: false }) => {
                    self.print_reply("Nothing was changed or decided.")
                }
                Ok(EditResult::Invalid(reason)) => self.print_reply(&capitalize_first(reason)),
                Ok(EditResult::Done(action, findings)) => {
                    let is_rejection = matches!(action, Action::Edit(_, None));
                    self.run_action(state, action)?;
                    if is_rejection {
                        self.print_reply("Nothing is left of the hunk: rejected.")?;
                    }
                    for finding in findings {
                        write!(self.output, "{}", self.renderer.finding_row(&finding))?;
                    }
                    Ok(AnswerEffect::NextUndecided)
                }
                Err(error) => self.print_reply(&format!("The editor failed: {}", Escaped::new(&error.to_string()))),
            },
            "c" => {
                let mut comment = argument.to_owned();
                if comment.is_empty() {
                    write!(self.output, "Comment (empty removes it): ")?;
                    self.output.flush()?;
                    self.input.read_line(&mut comment)?;
                }
                let comment = comment.trim().to_owned();
                self.run_action(state, Action::Comment(comment_anchor(unit, &question.rows), Some(comment)))?;
                Ok(AnswerEffect::RepeatPrompt)
            }
            "x" => self.resolve_conflicts(question.file, state, host),
            "C" => self.list_comments(state),
            "L" => self.list_commits(),
            "R" => self.send_feedback(state),
            "u" | "r" => {
                self.run_action(state, if key == "u" { Action::Undo } else { Action::Redo })?;
                let touched = state.touched.clone();
                let to = questions.iter().position(|q| touched.contains(&self.question_unit(q).id));
                Ok(to.map_or(AnswerEffect::RepeatPrompt, AnswerEffect::GoTo))
            }
            "j" => Ok(AnswerEffect::GoTo(at + 1)),
            "k" if at == 0 => self.print_reply("This is the first hunk."),
            "k" => Ok(AnswerEffect::GoTo(at - 1)),
            "g" => self.go_to_question(argument, questions),
            "/" => {
                if argument.is_empty() {
                    return self.print_reply("Type / and a search text.");
                }
                match self.find_question(argument, at, questions)? {
                    Some(to) => Ok(AnswerEffect::GoTo(to)),
                    None => self.print_reply(&format!("\"{}\" was not found in the changes.", Escaped::new(argument))),
                }
            }
            "l" => self.list_lines(question, text, state),
            "f" => self.filter_files(argument, state, host),
            "o" => self.order_files(argument),
            "p" => self.print_preview(file, text, state),
            "E" => self.view_in_editor(file, host),
            "w" => self.offer_apply(state, host),
            "Y" => Ok(AnswerEffect::Exit(ReviewOutcome::ApplyAndStay)),
            "Q" if self.ask_yes_no("Discard all decisions and comments on these changes?")? => {
                Ok(AnswerEffect::Exit(ReviewOutcome::Discarded))
            }
            "Q" => Ok(AnswerEffect::RepeatPrompt),
            "q" => Ok(AnswerEffect::Exit(ReviewOutcome::Quit)),
            "?" => {
                self.output.write_all(HELP.as_bytes())?;
                Ok(AnswerEffect::RepeatPrompt)
            }
            other => {
                writeln!(self.output, "\"{}\" is not an answer. Type one of these, then Enter:", Escaped::new(other))?;
                self.output.write_all(HELP.as_bytes())?;
                Ok(AnswerEffect::RepeatPrompt)
            }
        }
    }

    /// Splits a hunk at each row that is not paired with the row before it.
    fn split_hunk(
        &mut self,
        question: &Question,
        text: &FileText,
        state: &mut ReviewState,
    ) -> io::Result<AnswerEffect> {
        let unit = self.question_unit(question).clone();
        let Some(hunk) = HunkRows::from_unit(&unit, text).filter(|_| question.rows.len() > 1) else {
            return self.print_reply("This cannot be split further.");
        };
        let is_cut = |row: &usize| hunk.paired_row(*row) != Some(row - 1) || question.rows.len() == 2;
        let rows: Vec<usize> = (question.rows.start + 1..question.rows.end).filter(is_cut).collect();
        for row in rows {
            self.run_action(state, Action::Split(unit.id.clone(), row))?;
        }
        Ok(AnswerEffect::RepeatQuestion)
    }

    fn go_to_question(&mut self, to: &str, questions: &[Question]) -> io::Result<AnswerEffect> {
        if let Ok(number) = to.parse::<usize>()
            && (1..=questions.len()).contains(&number)
        {
            return Ok(AnswerEffect::GoTo(number - 1));
        }
        let path = |q: &Question| Escaped::new(self.model.files[q.file].change.path.as_bytes()).to_string();
        let exact = questions.iter().position(|q| path(q) == to);
        let position = exact.or_else(|| questions.iter().position(|q| !to.is_empty() && path(q).contains(to)));
        if let Some(position) = position {
            return Ok(AnswerEffect::GoTo(position));
        }
        let mut last = None;
        for (number, question) in questions.iter().enumerate() {
            if last != Some(question.file) {
                writeln!(self.output, "{:5}  {}", number + 1, path(question))?;
                last = Some(question.file);
            }
        }
        self.print_reply("Type g and a number or part of a path.")
    }

    fn find_question(&self, needle: &str, at: usize, questions: &[Question]) -> io::Result<Option<usize>> {
        let mut cached_text: Option<(usize, FileText)> = None;
        for step in 1..=questions.len() {
            let to = (at + step) % questions.len();
            let question = &questions[to];
            let file = &self.model.files[question.file];
            if cached_text.as_ref().is_none_or(|(file, _)| *file != question.file) {
                cached_text = Some((question.file, FileText::read(self.model, file)?));
            }
            let Some((_, text)) = &cached_text else { continue };
            let Some(hunk) = HunkRows::from_unit(self.question_unit(question), text) else { continue };
            let has_match = |row: usize| contains_smart_case(hunk.row_content(text, row), needle.as_bytes());
            if question.rows.clone().any(has_match) {
                return Ok(Some(to));
            }
        }
        Ok(None)
    }

    fn print_preview(
        &mut self,
        file: &ReviewFile<'_>,
        text: &FileText,
        state: &ReviewState,
    ) -> io::Result<AnswerEffect> {
        let Some((_, content)) =
            resulting_file(self.model, file.change, &state.decisions.accepted_selection(&file.units), text)?
        else {
            return self.print_reply("This file has no accepted changes to show.");
        };
        let shown = self.renderer.file_content(&content, MAX_HUNK_LINES);
        self.output.write_all(shown.as_bytes())?;
        Ok(AnswerEffect::RepeatPrompt)
    }

    fn print_question(&mut self, question: &Question, text: &FileText, state: &mut ReviewState) -> io::Result<()> {
        let model = self.model;
        let file = &model.files[question.file];
        let unit = &file.units[question.unit];
        let shown = match HunkRows::from_unit(unit, text) {
            Some(hunk) => {
                let shown_rows = hunk.removed_first(question.rows.clone()).into_iter().take(MAX_HUNK_LINES);
                state.mark_viewed(&unit.id, &hunk.decision_lines(shown_rows));
                self.renderer.hunk_rows(&context_hunk(&hunk, &question.rows, text), MAX_HUNK_LINES)
            }
            None => {
                state.mark_viewed(&unit.id, &crate::changes::LineSet::from_lines([0]));
                let mut shown = self.renderer.unit_row(&unit.kind, file);
                if unit.kind == UnitKind::Delete && !text.old.is_empty() {
                    let lines =
                        text.old.collect_lines(0..text.old.len()).into_iter().map(ContextLine::Removed).collect();
                    shown += &self
                        .renderer
                        .hunk_rows(&ContextHunk { old: 0..text.old.len(), new: 0..0, lines }, MAX_HUNK_LINES);
                }
                if unit.kind == UnitKind::Rename && file.shows_whole_content() {
                    let lines = text.old.collect_lines(0..text.old.len()).concat();
                    shown += &self.renderer.file_content(&lines, MAX_HUNK_LINES);
                }
                shown
            }
        };
        self.output.write_all(shown.as_bytes())?;
        self.print_round_notes(question, text)?;
        for (anchor, comment) in state.decisions.comments_on(&unit.id) {
            // A comment on another part is shown with that part.
            if anchor.scope_part().is_some_and(|[from, to]| from >= question.rows.end || to <= question.rows.start) {
                continue;
            }
            for line in comment.lines() {
                let note = self.renderer.note_row(&format!("● {}", Escaped::new(line)));
                self.output.write_all(note.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Returns the anchor of a comment on some rows of a unit.
fn comment_anchor(unit: &Unit, rows: &Range<usize>) -> CommentAnchor {
    let part = (rows.len() < unit.line_count()).then_some([rows.start, rows.end]);
    CommentAnchor::new(&unit.id, None, part)
}

/// Returns some rows of a hunk as a hunk, with context at the ends of the original hunk.
fn context_hunk<'a>(hunk: &HunkRows, rows: &Range<usize>, text: &'a FileText) -> ContextHunk<'a> {
    let is_removed = |row: &usize| matches!(hunk.row_at(*row), HunkLine::Removed(_));
    let before = (0..rows.start).filter(is_removed).count();
    let within = rows.clone().filter(is_removed).count();
    let mut old = hunk.old.start + before..hunk.old.start + before + within;
    let new_start = hunk.new.start + rows.start - before;
    let mut new = new_start..new_start + rows.len() - within;
    let mut lines = Vec::new();
    if rows.start == 0 {
        let context = hunk.old.start.min(CONTEXT_LINES);
        lines.extend((old.start - context..old.start).map(|line| ContextLine::Context(text.old.get(line))));
        (old.start, new.start) = (old.start - context, new.start - context);
    }
    lines.extend(hunk.removed_first(rows.clone()).into_iter().map(|row| match hunk.row_at(row) {
        HunkLine::Removed(_) => ContextLine::Removed(hunk.row_content(text, row)),
        HunkLine::Added(_) => ContextLine::Added(hunk.row_content(text, row)),
    }));
    if rows.end == hunk.len() {
        let context = (text.old.len() - hunk.old.end).min(CONTEXT_LINES);
        lines.extend((old.end..old.end + context).map(|line| ContextLine::Context(text.old.get(line))));
        (old.end, new.end) = (old.end + context, new.end + context);
    }
    ContextHunk { old, new, lines }
}

/// Returns whether bytes contain others. ASCII case is ignored unless the search text has an uppercase letter.
pub(super) fn contains_smart_case(bytes: &[u8], needle: &[u8]) -> bool {
    if needle.iter().any(u8::is_ascii_uppercase) {
        return memchr::memmem::find(bytes, needle).is_some();
    }
    bytes.windows(needle.len().max(1)).any(|window| window.eq_ignore_ascii_case(needle))
}

const HELP: &str = "\
y  accept this hunk             n  reject it (y 2-4: these lines)
a  accept the rest of the file   d  reject the rest of the file
A  accept the rest of all files  D  reject it (A FOLDER: of a folder)
s  split it into smaller hunks   l  list its lines with numbers
e  edit it in $EDITOR, accept it E  open the agent's file in $EDITOR
x  resolve conflicts of the file c  comment (c TEXT)
C  list all comments             L  list the agent's commits
R  send comments and rejections  u  undo the last answer, r: redo it
j  go to the next hunk           k  go to the previous hunk
g  go to (g NUMBER, g PATH)      /  search (/TEXT)
f  filter the files (f a: all)   o  order the files
p  show the resulting file       w  apply accepted changes
Y  apply, and go on reviewing    q  save and leave
Q  discard the draft (asks)      ?  this help
";

/// Capitalizes the first letter.
fn capitalize_first(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
