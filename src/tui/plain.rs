//! Line-based review, as in `git add -p`: one hunk at a time, with the keys of the full screen.

use std::io::{self, BufRead, Write};
use std::ops::Range;

use crate::changes::{ContextHunk, ContextLine, HunkLine, Unit, UnitKind};
use crate::core::escape::Escaped;
use crate::render::TextRenderer;
use crate::review::{
    Action, DOES_IT_WAIT, Decision, DecisionTarget, Edited, FileText, HunkRows, ReviewFile, ReviewHost, ReviewModel,
    ReviewOutcome, ReviewState, edit, refusal, resulting, update,
};

/// Maximum number of lines of a hunk that are shown. A truncated hunk names the command that shows all of it.
const LONGEST: usize = 400;
/// Lines of context around a hunk.
const CONTEXT: usize = 3;

/// A line-based review.
pub struct PlainReview<'a, I, O> {
    pub sheet: &'a ReviewModel<'a>,
    /// The answers, one per line.
    pub input: I,
    pub output: O,
    pub painter: TextRenderer,
}

/// A unit or a part of a split unit, in the order of the questions.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Question {
    file: usize,
    unit: usize,
    rows: Range<usize>,
}

enum Next {
    /// Repeat the prompt.
    Again,
    /// Repeat the text and the prompt.
    Show,
    /// Go to the next undecided question.
    Undecided,
    Go(usize),
    End(ReviewOutcome),
}

impl<I: BufRead, O: Write> PlainReview<'_, I, O> {
    /// Asks about every undecided unit. Each answer is saved before the next question. At the end of the input, the review
    /// ends.
    ///
    /// # Errors
    /// An error of the terminal or of the host.
    pub fn run(&mut self, state: &mut ReviewState, around: &mut dyn ReviewHost) -> io::Result<ReviewOutcome> {
        for file in self.sheet.files.iter().filter(|f| f.is_refused()) {
            write!(self.output, "{}", self.painter.note(&refusal(file)))?;
        }
        let questions = self.questions(state);
        if questions.is_empty() {
            return Ok(ReviewOutcome::Through);
        }
        // If everything is decided, visit all questions again.
        let mut read = None;
        let first = questions.iter().position(|q| self.is_open(q, state, &mut read));
        let (again, mut at) = (first.is_none(), first.unwrap_or(0));
        let (mut shown_file, mut text) = (None, FileText::default());
        loop {
            let mut questions = self.questions(state);
            if at >= questions.len() {
                return Ok(ReviewOutcome::Through);
            }
            let file = &self.sheet.files[questions[at].file];
            if shown_file != Some(questions[at].file) {
                write!(self.output, "\n{}", self.painter.head(file))?;
                shown_file = Some(questions[at].file);
                text = FileText::read(self.sheet, file)?;
            }
            self.show(&questions[at], &text, state)?;
            loop {
                let question = &questions[at];
                let so_far = self.so_far(question, &text, state);
                write!(
                    self.output,
                    "({}/{}) {}{so_far} Apply? [y,n,a,d,s,e,c,u,j,k,g,/,p,w,q,?] ",
                    at + 1,
                    questions.len(),
                    Escaped::new(file.change.path.as_bytes()),
                )?;
                self.output.flush()?;
                let mut answer = String::new();
                if self.input.read_line(&mut answer)? == 0 {
                    writeln!(self.output)?;
                    return Ok(ReviewOutcome::Left);
                }
                let next = self.answer(answer.trim(), at, &questions, &text, state, around)?;
                around.save_events(&state.take_events())?;
                questions = self.questions(state);
                at = match next {
                    Next::Again => continue,
                    Next::Show => at.min(questions.len() - 1),
                    Next::Go(at) => at,
                    // Continue with the next undecided question; `j` and `k` also visit decided ones.
                    Next::Undecided if again => at + 1,
                    Next::Undecided => {
                        let mut read = None;
                        let is_open = |at: &usize| self.is_open(&questions[*at], state, &mut read);
                        (at..questions.len()).find(is_open).unwrap_or(questions.len())
                    }
                    Next::End(ended) => return Ok(ended),
                };
                break;
            }
        }
    }

    fn questions(&self, state: &ReviewState) -> Vec<Question> {
        let files = self.sheet.files.iter().enumerate().filter(|(_, f)| !f.is_refused());
        let units = files.flat_map(|(file, f)| f.units.iter().enumerate().map(move |(unit, u)| (file, unit, u)));
        units
            .flat_map(|(file, unit, u)| state.parts(u).into_iter().map(move |rows| Question { file, unit, rows }))
            .collect()
    }

    fn unit(&self, question: &Question) -> &Unit {
        &self.sheet.files[question.file].units[question.unit]
    }

    fn item(&self, question: &Question, text: &FileText) -> DecisionTarget {
        let unit = self.unit(question);
        let lines = HunkRows::from_unit(unit, text)
            .filter(|block| question.rows.len() < block.len())
            .map(|block| block.lines(question.rows.clone()));
        DecisionTarget { file: question.file, unit: question.unit, lines }
    }

    /// Returns whether a question is undecided. The text of the file that was read last is cached.
    fn is_open(&self, question: &Question, state: &ReviewState, read: &mut Option<(usize, FileText)>) -> bool {
        let unit = self.unit(question);
        if question.rows.len() == unit.line_count() || state.decisions.is_decided(unit) {
            return !state.decisions.is_decided(unit);
        }
        if read.as_ref().is_none_or(|(file, _)| *file != question.file) {
            // A file that cannot be read is asked about, so that its error is shown.
            let text = FileText::read(self.sheet, &self.sheet.files[question.file]).unwrap_or_default();
            *read = Some((question.file, text));
        }
        let Some((_, text)) = read else { return true };
        let lines = HunkRows::from_unit(unit, text).map(|b| b.lines(question.rows.clone())).unwrap_or_default();
        lines.iter().any(|line| state.decisions.line(&unit.id, line).is_none())
    }

    fn so_far(&self, question: &Question, text: &FileText, state: &ReviewState) -> &'static str {
        let unit = self.unit(question);
        if let Some(crate::review::UnitDecision::Edited(_)) = state.decisions.get(&unit.id) {
            return " (edited by you)";
        }
        let item = self.item(question, text);
        let all: Vec<usize> = item.lines.map_or((0..unit.line_count()).collect(), |lines| lines.iter().collect());
        let first = all.first().and_then(|line| state.decisions.line(&unit.id, *line));
        if all.iter().any(|line| state.decisions.line(&unit.id, *line) != first) {
            return " (in part so far)";
        }
        match first {
            None => "",
            Some(Decision::Accepted) => " (accepted so far)",
            Some(Decision::Rejected) => " (rejected so far)",
        }
    }

    fn say(&mut self, text: &str) -> io::Result<Next> {
        writeln!(self.output, "{text}")?;
        Ok(Next::Again)
    }

    fn act(&mut self, state: &mut ReviewState, action: Action) -> io::Result<()> {
        *state = update(std::mem::take(state), self.sheet, action);
        if let Some(said) = state.said.take() {
            writeln!(self.output, "{said}")?;
        }
        Ok(())
    }

    fn answer(
        &mut self,
        answer: &str,
        at: usize,
        questions: &[Question],
        text: &FileText,
        state: &mut ReviewState,
        around: &mut dyn ReviewHost,
    ) -> io::Result<Next> {
        let question = &questions[at];
        let file = &self.sheet.files[question.file];
        let unit = &file.units[question.unit];
        let (key, argument) = answer.split_at_checked(1).map_or((answer, ""), |(key, rest)| (key, rest.trim()));
        let (key, argument) = match answer {
            "yes" => ("y", ""),
            "no" => ("n", ""),
            _ if !argument.is_empty() && !matches!(key, "c" | "g" | "/") => (answer, ""),
            _ => (key, argument),
        };
        match key {
            "y" | "n" => {
                let decision = if key == "y" { Decision::Accepted } else { Decision::Rejected };
                let item = self.item(question, text);
                self.act(state, Action::Decide(vec![item], Some(decision)))?;
                Ok(Next::Undecided)
            }
            "a" if file.is_risky() => self.say("This file needs a yes for each of its parts; answer y."),
            "a" | "d" => {
                let decision = if key == "a" { Decision::Accepted } else { Decision::Rejected };
                let rest = questions[at..].iter().take_while(|q| q.file == question.file);
                // The current question, and the undecided ones after it.
                let mut read = None;
                let rest = rest.filter(|q| *q == question || self.is_open(q, state, &mut read));
                let items = rest.map(|q| self.item(q, text)).collect();
                *state = update(std::mem::take(state), self.sheet, Action::BulkDecide { items, decision, hidden: 0 });
                state.said = None;
                Ok(Next::Undecided)
            }
            "s" => self.split(question, text, state),
            "e" => match edit(self.sheet, state, &self.item(question, text), text, around) {
                Ok(Edited::Unchanged { at_once: true }) => self.say(&capital(DOES_IT_WAIT)),
                Ok(Edited::Unchanged { at_once: false }) => self.say("Nothing was changed, and nothing is decided."),
                Ok(Edited::Wrong(why)) => self.say(&capital(why)),
                Ok(Edited::Done(action, findings)) => {
                    let is_rejection = matches!(action, Action::Edit(_, None));
                    self.act(state, action)?;
                    if is_rejection {
                        self.say("Nothing of it is left: rejected.")?;
                    }
                    for finding in findings {
                        write!(self.output, "{}", self.painter.finding(&finding))?;
                    }
                    Ok(Next::Undecided)
                }
                Err(error) => self.say(&format!("The editor failed: {}", Escaped::new(&error.to_string()))),
            },
            "c" => {
                let mut said = argument.to_owned();
                if said.is_empty() {
                    write!(self.output, "Comment (empty removes it): ")?;
                    self.output.flush()?;
                    self.input.read_line(&mut said)?;
                }
                let said = said.trim().to_owned();
                self.act(state, Action::Comment((unit.id.clone(), None), Some(said)))?;
                Ok(Next::Again)
            }
            "u" => {
                self.act(state, Action::Undo)?;
                let touched = state.touched.clone();
                let to = questions.iter().position(|q| touched.contains(&self.unit(q).id));
                Ok(to.map_or(Next::Again, Next::Go))
            }
            "j" => Ok(Next::Go(at + 1)),
            "k" if at == 0 => self.say("This is the first."),
            "k" => Ok(Next::Go(at - 1)),
            "g" => self.go(argument, questions),
            "/" => {
                if argument.is_empty() {
                    return self.say("Type / and what to look for.");
                }
                match self.find(argument, at, questions)? {
                    Some(to) => Ok(Next::Go(to)),
                    None => self.say(&format!("\"{}\" is nowhere in the changes.", Escaped::new(argument))),
                }
            }
            "p" => self.preview(file, text, state),
            "w" => Ok(Next::End(ReviewOutcome::Apply(None))),
            "q" => Ok(Next::End(ReviewOutcome::Left)),
            "?" => {
                self.output.write_all(HELP.as_bytes())?;
                Ok(Next::Again)
            }
            other => {
                writeln!(self.output, "\"{}\" is no answer. Type one of these, then Enter:", Escaped::new(other))?;
                self.output.write_all(HELP.as_bytes())?;
                Ok(Next::Again)
            }
        }
    }

    /// Splits a hunk at each row that is not paired with the row before it.
    fn split(&mut self, question: &Question, text: &FileText, state: &mut ReviewState) -> io::Result<Next> {
        let unit = self.unit(question).clone();
        let Some(block) = HunkRows::from_unit(&unit, text).filter(|_| question.rows.len() > 1) else {
            return self.say("This cannot be split any further.");
        };
        let cut = |row: &usize| block.paired_row(*row) != Some(row - 1) || question.rows.len() == 2;
        let rows: Vec<usize> = (question.rows.start + 1..question.rows.end).filter(cut).collect();
        for row in rows {
            self.act(state, Action::Split(unit.id.clone(), row))?;
        }
        Ok(Next::Show)
    }

    fn go(&mut self, to: &str, questions: &[Question]) -> io::Result<Next> {
        if let Ok(number) = to.parse::<usize>()
            && (1..=questions.len()).contains(&number)
        {
            return Ok(Next::Go(number - 1));
        }
        let path = |q: &Question| Escaped::new(self.sheet.files[q.file].change.path.as_bytes()).to_string();
        let exact = questions.iter().position(|q| path(q) == to);
        let found = exact.or_else(|| questions.iter().position(|q| !to.is_empty() && path(q).contains(to)));
        if let Some(found) = found {
            return Ok(Next::Go(found));
        }
        let mut last = None;
        for (number, question) in questions.iter().enumerate() {
            if last != Some(question.file) {
                writeln!(self.output, "{:5}  {}", number + 1, path(question))?;
                last = Some(question.file);
            }
        }
        self.say("Type g and a number, or a part of a path.")
    }

    fn find(&self, what: &str, at: usize, questions: &[Question]) -> io::Result<Option<usize>> {
        let mut open: Option<(usize, FileText)> = None;
        for step in 1..=questions.len() {
            let to = (at + step) % questions.len();
            let question = &questions[to];
            let file = &self.sheet.files[question.file];
            if open.as_ref().is_none_or(|(file, _)| *file != question.file) {
                open = Some((question.file, FileText::read(self.sheet, file)?));
            }
            let Some((_, text)) = &open else { continue };
            let Some(block) = HunkRows::from_unit(self.unit(question), text) else { continue };
            let holds = |row: usize| contains(block.content(text, row), what.as_bytes());
            if question.rows.clone().any(holds) {
                return Ok(Some(to));
            }
        }
        Ok(None)
    }

    fn preview(&mut self, file: &ReviewFile<'_>, text: &FileText, state: &ReviewState) -> io::Result<Next> {
        let Some((_, content)) = resulting(self.sheet, file.change, &state.decisions.selection(&file.units), text)?
        else {
            return self.say("Nothing that could be shown is accepted of this file.");
        };
        let shown = self.painter.content(&content, LONGEST);
        self.output.write_all(shown.as_bytes())?;
        Ok(Next::Again)
    }

    fn show(&mut self, question: &Question, text: &FileText, state: &mut ReviewState) -> io::Result<()> {
        let sheet = self.sheet;
        let file = &sheet.files[question.file];
        let unit = &file.units[question.unit];
        let shown = match HunkRows::from_unit(unit, text) {
            Some(block) => {
                let cut = question.rows.start..question.rows.end.min(question.rows.start + LONGEST);
                state.mark_viewed(&unit.id, &block.lines(cut));
                self.painter.hunk(&hunk(&block, &question.rows, text), LONGEST)
            }
            None => {
                state.mark_viewed(&unit.id, &crate::changes::LineSet::from_lines([0]));
                let mut shown = self.painter.unit(&unit.kind, file);
                if unit.kind == UnitKind::Delete && !text.old.is_empty() {
                    let lines = text.old.list(0..text.old.len()).into_iter().map(ContextLine::Removed).collect();
                    shown += &self.painter.hunk(&ContextHunk { old: 0..text.old.len(), new: 0..0, lines }, LONGEST);
                }
                shown
            }
        };
        self.output.write_all(shown.as_bytes())?;
        for (_, comment) in state.decisions.comments_on(&unit.id) {
            let note = self.painter.note(&format!("● {}", Escaped::new(comment)));
            self.output.write_all(note.as_bytes())?;
        }
        Ok(())
    }
}

/// Returns some rows of a hunk as a hunk, with context at the ends of the original hunk.
fn hunk<'a>(block: &HunkRows, rows: &Range<usize>, text: &'a FileText) -> ContextHunk<'a> {
    let is_removed = |row: &usize| matches!(block.row(*row), HunkLine::Removed(_));
    let before = (0..rows.start).filter(is_removed).count();
    let within = rows.clone().filter(is_removed).count();
    let mut old = block.old.start + before..block.old.start + before + within;
    let new_start = block.new.start + rows.start - before;
    let mut new = new_start..new_start + rows.len() - within;
    let mut lines = Vec::new();
    if rows.start == 0 {
        let context = block.old.start.min(CONTEXT);
        lines.extend((old.start - context..old.start).map(|line| ContextLine::Context(text.old.get(line))));
        (old.start, new.start) = (old.start - context, new.start - context);
    }
    lines.extend(rows.clone().map(|row| match block.row(row) {
        HunkLine::Removed(_) => ContextLine::Removed(block.content(text, row)),
        HunkLine::Added(_) => ContextLine::Added(block.content(text, row)),
    }));
    if rows.end == block.len() {
        let context = (text.old.len() - block.old.end).min(CONTEXT);
        lines.extend((old.end..old.end + context).map(|line| ContextLine::Context(text.old.get(line))));
        (old.end, new.end) = (old.end + context, new.end + context);
    }
    ContextHunk { old, new, lines }
}

/// Returns whether bytes contain others. ASCII case is ignored unless the search text has an uppercase letter.
pub fn contains(bytes: &[u8], what: &[u8]) -> bool {
    if what.iter().any(u8::is_ascii_uppercase) {
        return memchr::memmem::find(bytes, what).is_some();
    }
    bytes.windows(what.len().max(1)).any(|window| window.eq_ignore_ascii_case(what))
}

const HELP: &str = "\
y  accept this hunk             n  reject it
a  accept the rest of the file   d  reject the rest of the file
s  split it into smaller ones    e  edit it in $EDITOR, and accept what you leave
c  comment (c TEXT)              u  undo the last answer
j  leave it as it is, go on      k  go back
g  go to (g NUMBER, g PATH)      /  search (/TEXT)
p  show the resulting file       w  apply what is accepted
q  save and leave                ?  this help
";

/// Capitalizes the first letter.
fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
