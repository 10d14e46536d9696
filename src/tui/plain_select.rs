//! The answers of the line-based review that choose what is asked: filters, the order of files, and lines of a hunk.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};

use globset::Glob;

use super::comments::CommentState;
use super::plain::{AnswerEffect, PlainReview, Question};
use crate::changes::{HunkLine, Severity, Unit, trim_line_ending};
use crate::core::escape::Escaped;
use crate::review::{Action, Decision, DecisionTarget, FileText, HunkRows, ReviewHost, ReviewState};

impl<I: BufRead, O: Write> PlainReview<'_, I, O> {
    /// Asks only about some files from now on. Without an argument, the choices are listed.
    pub(super) fn filter_files(
        &mut self,
        argument: &str,
        state: &ReviewState,
        host: &mut dyn ReviewHost,
    ) -> io::Result<AnswerEffect> {
        let has_units = |at: &usize, is_met: &dyn Fn(&Unit) -> bool| self.model.files[*at].units.iter().any(is_met);
        let all = || 0..self.model.files.len();
        let found: Vec<usize> = match argument {
            "" => return self.print_filters(state),
            "a" => all().collect(),
            "u" => all().filter(|at| has_units(at, &|unit| !state.decisions.is_decided(unit))).collect(),
            "r" => all().filter(|at| self.model.files[*at].change.max_severity() > Some(Severity::Note)).collect(),
            "c" => all()
                .filter(|at| has_units(at, &|unit| state.decisions.comments_on(&unit.id).next().is_some()))
                .collect(),
            "n" => {
                let is_new = |unit: &Unit| self.round_diff.as_ref().is_some_and(|since| since.new.contains(&unit.id));
                all().filter(|at| has_units(at, &is_new)).collect()
            }
            "x" => {
                let conflicts = self.find_conflicts(state, host);
                let is_in = |at: &usize| conflicts.iter().any(|line| line.path == self.model.files[*at].change.path);
                all().filter(is_in).collect()
            }
            pattern => {
                let glob = match Glob::new(pattern) {
                    Ok(glob) => glob.compile_matcher(),
                    Err(error) => {
                        return self.print_reply(&format!("This is not a glob: {}", Escaped::new(&error.to_string())));
                    }
                };
                let matches = |at: &usize| {
                    let mut paths = self.model.files[*at].change.affected_paths();
                    paths.any(|path| glob.is_match(String::from_utf8_lossy(path.as_bytes()).as_ref()))
                };
                all().filter(matches).collect()
            }
        };
        if !found.iter().any(|at| !self.model.files[*at].is_refused()) {
            return self.print_reply("No file is like that.");
        }
        let count = found.len();
        self.files.retain(|at| found.contains(at));
        let missing: Vec<usize> = found.into_iter().filter(|at| !self.files.contains(at)).collect();
        self.files.extend(missing);
        self.sort_files();
        writeln!(self.output, "{count} of {} files are asked about.", self.model.files.len())?;
        Ok(AnswerEffect::GoTo(0))
    }

    fn print_filters(&mut self, state: &ReviewState) -> io::Result<AnswerEffect> {
        let units = || self.model.files.iter().filter(|file| !file.is_refused()).flat_map(|file| &file.units);
        let decided = units().filter(|unit| state.decisions.is_decided(unit)).count();
        let unseen: usize = units().map(|unit| state.count_unseen_accepted(unit)).sum();
        let all = units().count();
        writeln!(self.output, "{decided} of {all} hunks are decided; {unseen} accepted lines were not shown.")?;
        self.print_reply(
            "Type f and a letter or a glob: a all, u undecided, r risky, x in conflict, c commented, n new since the last round.",
        )
    }

    /// Changes the order of the files.
    pub(super) fn order_files(&mut self, argument: &str) -> io::Result<AnswerEffect> {
        let Some(order) = ["r", "p", "s"].into_iter().find(|order| *order == argument) else {
            return self.print_reply("Type o and a letter: r by risk, p by path, s by size.");
        };
        self.order = order;
        self.sort_files();
        Ok(AnswerEffect::GoTo(0))
    }

    fn sort_files(&mut self) {
        let files = &self.model.files;
        match self.order {
            "r" => self.files.sort_by_key(|at| (Reverse(files[*at].change.max_severity()), *at)),
            "s" => self.files.sort_by_key(|at| {
                let (added, removed) = files[*at].line_counts;
                (Reverse(added + removed), *at)
            }),
            _ => self.files.sort_unstable(),
        }
    }

    /// Returns the rows of the question with their numbers, in the order in which they are shown.
    fn numbered_rows(&self, question: &Question, text: &FileText) -> Option<(HunkRows, Vec<usize>)> {
        let hunk = HunkRows::from_unit(self.question_unit(question), text)?;
        let rows = hunk.removed_first(question.rows.clone());
        Some((hunk, rows))
    }

    /// Lists the lines of the hunk with numbers, for `y 2-4`.
    pub(super) fn list_lines(
        &mut self,
        question: &Question,
        text: &FileText,
        state: &ReviewState,
    ) -> io::Result<AnswerEffect> {
        let Some((hunk, rows)) = self.numbered_rows(question, text) else {
            return self.print_reply("This has no lines that are decided one by one.");
        };
        let id = self.question_unit(question).id.clone();
        for (number, row) in rows.iter().enumerate() {
            let decision = match state.decisions.line_decision(&id, hunk.decision_line(*row)) {
                None => ' ',
                Some(Decision::Accepted) => 'y',
                Some(Decision::Rejected) => 'n',
            };
            let sign = if matches!(hunk.row_at(*row), HunkLine::Removed(_)) { '-' } else { '+' };
            let content = Escaped::from_line(trim_line_ending(hunk.row_content(text, *row)));
            writeln!(self.output, "{:4} {decision} {sign}{content}", number + 1)?;
        }
        self.print_reply("Type y or n and numbers, such as y 2-4.")
    }

    /// Decides some lines of the hunk, given as `3` or `2-4`.
    pub(super) fn decide_lines(
        &mut self,
        numbers: &str,
        decision: Decision,
        question: &Question,
        (text, state): (&FileText, &mut ReviewState),
    ) -> io::Result<AnswerEffect> {
        let Some((hunk, rows)) = self.numbered_rows(question, text) else {
            return self.print_reply("This has no lines that are decided one by one.");
        };
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let (first, last) = match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            (Ok(first), Ok(last)) if (1..=rows.len()).contains(&first) && (first..=rows.len()).contains(&last) => {
                (first, last)
            }
            _ => {
                return self
                    .print_reply(&format!("Type a number or a range from 1 to {}; l lists the lines.", rows.len()));
            }
        };
        let lines = hunk.decision_lines(rows[first - 1..last].iter().copied());
        let lines = Some(lines).filter(|lines| lines.len() < hunk.len());
        let item = DecisionTarget { file: question.file, unit: question.unit, lines };
        self.run_action(state, Action::Decide(vec![item], Some(decision)))?;
        let mut cached_text = None;
        Ok(if self.is_undecided(question, state, &mut cached_text) {
            AnswerEffect::RepeatPrompt
        } else {
            AnswerEffect::NextUndecided
        })
    }

    /// Prints which lines are new in this round, and the comments of the last round that led to the hunk.
    pub(super) fn print_round_notes(&mut self, question: &Question, text: &FileText) -> io::Result<()> {
        let Some(since) = &self.round_diff else { return Ok(()) };
        let unit = self.question_unit(question);
        let mut notes = Vec::new();
        if since.new.contains(&unit.id) {
            let rows = self.numbered_rows(question, text).map(|(hunk, rows)| {
                let new_lines = since.new_lines.get(&unit.id).map(|new| new.iter().collect::<BTreeSet<usize>>());
                let is_new = |row: &usize| new_lines.as_ref().is_none_or(|new| new.contains(&hunk.decision_line(*row)));
                let new = rows.iter().enumerate().filter(|(_, row)| is_new(row)).map(|(at, _)| at + 1);
                (new.collect::<Vec<_>>(), rows.len())
            });
            notes.push(match rows {
                Some((new, all)) if new.len() < all => format!("new in this round: {}", line_ranges(&new)),
                _ => "new in this round".to_owned(),
            });
        }
        let comments = since.comments.iter().filter(|comment| comment.unit.as_ref() == Some(&unit.id));
        notes.extend(comments.map(|comment| {
            let word = CommentState::from_earlier(comment).state_word();
            format!("{word}: {}", Escaped::new(comment.text.lines().next().unwrap_or_default()))
        }));
        for note in notes {
            let row = self.renderer.note_row(&note);
            self.output.write_all(row.as_bytes())?;
        }
        Ok(())
    }
}

/// Describes numbers in ascending order, such as `lines 1, 3-5`.
fn line_ranges(numbers: &[usize]) -> String {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => ranges.push((*number, *number)),
        }
    }
    let texts = ranges
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") });
    let texts: Vec<String> = texts.collect();
    match texts.as_slice() {
        [] => "only removed lines are gone".into(),
        _ => format!("lines {}", texts.join(", ")),
    }
}
