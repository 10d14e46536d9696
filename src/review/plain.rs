//! Review by question and answer, as `git add -p` asks: one block at a time, with the keys of the full screen.

use std::io::{self, BufRead, Write};

use super::show::Painter;
use super::{Decision, Decisions, Sheet, SheetFile};
use crate::changes::{Unit, UnitKind, hunks, lines};
use crate::display::Shown;

/// Lines of a block that are shown before it is cut; a cut block says so and how to see all of it.
const LONGEST: usize = 400;

/// How a review ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Every unit was visited.
    Through,
    /// The person left; what was decided is saved.
    Left,
}

/// A review over lines of input.
pub struct PlainReview<'a, I, O> {
    /// What is reviewed.
    pub sheet: &'a Sheet<'a>,
    /// Answers, one line each.
    pub input: I,
    /// The screen.
    pub output: O,
    /// How it is drawn.
    pub painter: Painter,
}

impl<I: BufRead, O: Write> PlainReview<'_, I, O> {
    /// Asks about every unit without a decision; `save` is called after each answer.
    ///
    /// # Errors
    /// What the terminal or `save` says.
    pub fn run(
        &mut self,
        decisions: &mut Decisions,
        mut save: impl FnMut(&Decisions) -> io::Result<()>,
    ) -> io::Result<Ended> {
        let order: Vec<(usize, usize)> = (self.sheet.files.iter().enumerate())
            .filter(|(_, f)| !f.is_refused())
            .flat_map(|(file, f)| (0..f.units.len()).map(move |unit| (file, unit)))
            .collect();
        let undecided = |d: &Decisions, at: usize| d.of(&self.sheet.files[order[at].0].units[order[at].1].id).is_none();
        for file in self.sheet.files.iter().filter(|f| f.is_refused()) {
            let reason = file.change.findings.first().map_or("", |f| f.reason.as_str());
            let text =
                format!("{} cannot be accepted: it {}", Shown::new(file.change.path.as_bytes()), Shown::new(reason));
            write!(self.output, "{}", self.painter.note(&text))?;
        }
        if order.is_empty() {
            return Ok(Ended::Through);
        }
        // Where everything is decided, all of it is gone through once more.
        let again = !(0..order.len()).any(|at| undecided(decisions, at));
        let mut at = (0..order.len()).find(|at| undecided(decisions, *at)).unwrap_or(0);
        let mut shown_file = None;
        'next: loop {
            let (file_at, unit_at) = order[at];
            let file = &self.sheet.files[file_at];
            if shown_file != Some(file_at) {
                write!(self.output, "\n{}", self.painter.head(file))?;
                shown_file = Some(file_at);
            }
            self.unit(file, &file.units[unit_at])?;
            loop {
                let so_far = match decisions.of(&file.units[unit_at].id) {
                    None => String::new(),
                    Some(Decision::Accepted) => " (accepted so far)".into(),
                    Some(Decision::Rejected) => " (rejected so far)".into(),
                };
                write!(
                    self.output,
                    "({}/{}) {}{so_far} Apply? [y,n,a,d,j,k,q,?] ",
                    at + 1,
                    order.len(),
                    Shown::new(file.change.path.as_bytes()),
                )?;
                self.output.flush()?;
                let mut answer = String::new();
                if self.input.read_line(&mut answer)? == 0 {
                    writeln!(self.output)?;
                    return Ok(Ended::Left);
                }
                let rest = &order[at..];
                let rest_of_file = rest.iter().take_while(|(f, _)| *f == file_at);
                let mut decide = |units: &mut dyn Iterator<Item = &(usize, usize)>, decision: Decision| {
                    for (_, unit) in units {
                        decisions.units.insert(file.units[*unit].id.clone(), decision);
                    }
                    save(decisions)
                };
                let step = match answer.trim() {
                    "y" | "yes" => {
                        decide(&mut rest.iter().take(1), Decision::Accepted)?;
                        1
                    }
                    "n" | "no" => {
                        decide(&mut rest.iter().take(1), Decision::Rejected)?;
                        1
                    }
                    "a" if file.is_risky() => {
                        writeln!(self.output, "This file needs a yes for each of its parts; answer y.")?;
                        continue;
                    }
                    "a" | "d" => {
                        let decision = if answer.trim() == "a" { Decision::Accepted } else { Decision::Rejected };
                        decide(&mut rest_of_file.clone(), decision)?;
                        rest_of_file.count()
                    }
                    "j" => 1,
                    "k" if at == 0 => {
                        writeln!(self.output, "This is the first.")?;
                        continue;
                    }
                    "k" => {
                        at -= 1;
                        continue 'next;
                    }
                    "q" => return Ok(Ended::Left),
                    other => {
                        if other != "?" {
                            writeln!(
                                self.output,
                                "\"{}\" is no answer. Type one of these, then Enter:",
                                Shown::new(other)
                            )?;
                        }
                        self.output.write_all(HELP.as_bytes())?;
                        continue;
                    }
                };
                at += step;
                // Onwards to what is undecided; `j` and `k` also visit what is decided.
                if answer.trim() != "j" && !again {
                    at = (at..order.len()).find(|at| undecided(decisions, *at)).unwrap_or(order.len());
                }
                if at >= order.len() {
                    return Ok(Ended::Through);
                }
                continue 'next;
            }
        }
    }

    fn unit(&mut self, file: &SheetFile<'_>, unit: &Unit) -> io::Result<()> {
        let text = match &unit.kind {
            UnitKind::Block { .. } => {
                let (old, new) = self.sheet.contents(file)?;
                let (old, new) = (lines(&old), lines(&new));
                let found = hunks(std::slice::from_ref(unit), &old, &new);
                found.iter().map(|hunk| self.painter.hunk(hunk, LONGEST)).collect()
            }
            other => self.painter.unit(other, file),
        };
        self.output.write_all(text.as_bytes())
    }
}

const HELP: &str = "\
y  accept this block             n  reject it
a  accept the rest of the file   d  reject the rest of the file
j  leave it as it is, go on      k  go back
q  save and leave                ?  this help
";
