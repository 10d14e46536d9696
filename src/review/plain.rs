//! Review by question and answer, as `git add -p` asks: one block at a time, with the keys of the full screen.

use std::io::{self, BufRead, Write};

use super::{Decision, Decisions, Sheet, SheetFile};
use crate::changes::{Hunk, HunkLine, Unit, UnitKind, hunks, lines};
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
    /// Whether to colour.
    pub colour: bool,
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
            writeln!(self.output, "{}", self.paint("33", &text))?;
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
                self.head(file)?;
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

    fn head(&mut self, file: &SheetFile<'_>) -> io::Result<()> {
        let change = file.change;
        let path = Shown::new(change.path.as_bytes()).to_string();
        let from = change.renamed_from.as_ref().map(|p| format!("  (as {} was)", Shown::new(p.as_bytes())));
        writeln!(self.output, "\n{} {}{}", self.paint("1", &path), change.verb(), from.unwrap_or_default())?;
        for finding in &change.findings {
            let line = finding.line.map(|l| format!(" (line {l})")).unwrap_or_default();
            let text = format!("! {}: {}{line}", level_word(finding.level), Shown::new(&finding.reason));
            writeln!(self.output, "{}", self.paint("33", &text))?;
        }
        Ok(())
    }

    fn unit(&mut self, file: &SheetFile<'_>, unit: &Unit) -> io::Result<()> {
        let (old, new) = (lines(&file.old), lines(&file.new));
        match &unit.kind {
            UnitKind::Block { .. } => {
                for hunk in hunks(std::slice::from_ref(unit), &old, &new) {
                    self.hunk(&hunk)?;
                }
                Ok(())
            }
            other => {
                let text = describe(other, file);
                writeln!(self.output, "{}", self.paint("36", &text))
            }
        }
    }

    fn hunk(&mut self, hunk: &Hunk<'_>) -> io::Result<()> {
        writeln!(self.output, "{}", self.paint("36", &hunk.head()))?;
        for line in hunk.lines.iter().take(LONGEST) {
            let (sign, colour, bytes) = match line {
                HunkLine::Context(bytes) => (' ', "", bytes),
                HunkLine::Removed(bytes) => ('-', "31", bytes),
                HunkLine::Added(bytes) => ('+', "32", bytes),
            };
            let (text, unended) = shown_line(bytes);
            writeln!(self.output, "{}", self.paint(colour, &format!("{sign}{text}")))?;
            if let Some(mark) = unended {
                writeln!(self.output, "{mark}")?;
            }
        }
        if hunk.lines.len() > LONGEST {
            let more = format!("… {} more lines of this block: airlock diff shows all", hunk.lines.len() - LONGEST);
            writeln!(self.output, "{}", self.paint("33", &more))?;
        }
        Ok(())
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.colour && !colour.is_empty() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

const HELP: &str = "\
y  accept this block             n  reject it
a  accept the rest of the file   d  reject the rest of the file
j  leave it as it is, go on      k  go back
q  save and leave                ?  this help
";

/// Names a level for a person.
#[must_use]
pub fn level_word(level: crate::changes::Level) -> &'static str {
    use crate::changes::Level;
    match level {
        Level::Note => "note",
        Level::Medium => "medium",
        Level::High => "high",
        Level::Refused => "refused",
    }
}

/// Describes a unit that has no lines.
#[must_use]
pub fn describe(kind: &UnitKind, file: &SheetFile<'_>) -> String {
    use crate::path::EntryKind;
    let size = |bytes: &[u8]| format!("{} bytes", bytes.len());
    match kind {
        UnitKind::Block { old, new } => format!("-{} +{} lines", old.len(), new.len()),
        UnitKind::Mode(true) => "becomes executable".into(),
        UnitKind::Mode(false) => "is no longer executable".into(),
        UnitKind::CreateEmpty => "a new empty file".into(),
        UnitKind::Delete => format!("deleted, {}", size(&file.old)),
        UnitKind::Whole => match &file.change.new {
            Some(side) if side.kind == EntryKind::Link => format!("a link to {}", Shown::new(&file.new)),
            Some(side) => {
                let short: String = side.hash.to_string().chars().take(12).collect();
                format!("binary, {} → {}, sha256 {short}", size(&file.old), size(&file.new))
            }
            None => "gone".into(),
        },
    }
}

/// Gives a content line as it is shown after its gutter, and what follows on a line of its own where the line feed is
/// missing. That mark begins where only gutters are, so no content can imitate it.
#[must_use]
pub fn shown_line(bytes: &[u8]) -> (String, Option<&'static str>) {
    match bytes.strip_suffix(b"\n") {
        Some(line) => (Shown::line(line).to_string(), None),
        None => (Shown::line(bytes).to_string(), Some("\\ No newline at end of file")),
    }
}
