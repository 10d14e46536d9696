//! The answers of the line-based review that are not about one hunk: conflicts, comments, commits and feedback.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};

use super::comments::CommentState;
use super::plain::{AnswerEffect, PlainReview};
use super::side_words::{choice_word, side_lines};
use crate::changes::{ConflictChoice, ConflictRegion, RegionSide, UnitKind, split_lines, trim_line_ending};
use crate::core::escape::Escaped;
use crate::core::on_conflict::OnConflict;
use crate::core::path::RepoPath;
use crate::review::{
    Action, Decision, Feedback, FileText, PreviewLine, ReviewFile, ReviewHost, ReviewOutcome, ReviewState,
    is_comment_sent, with_all_accepted,
};

impl<I: BufRead, O: Write> PlainReview<'_, I, O> {
    /// Returns the conflicts with the working tree if everything were accepted. A plan that fails has none: the apply
    /// fails with its reason.
    pub(super) fn find_conflicts(&self, state: &ReviewState, host: &mut dyn ReviewHost) -> Vec<PreviewLine> {
        let mut decisions = with_all_accepted(self.model, &state.decisions);
        decisions.clear_choices();
        let plan = host.preview_apply(&decisions);
        plan.map_or_else(|_| Vec::new(), |plan| plan.lines.into_iter().filter(|line| line.is_conflict).collect())
    }

    /// Asks for a choice for each region in which a file conflicts with the working tree.
    pub(super) fn resolve_conflicts(
        &mut self,
        file: usize,
        state: &mut ReviewState,
        host: &mut dyn ReviewHost,
    ) -> io::Result<AnswerEffect> {
        let path = &self.model.files[file].change.path;
        let conflicts = self.find_conflicts(state, host);
        let Some(line) = conflicts.into_iter().find(|line| line.path == *path) else {
            return self.print_reply("This file has no conflict with the working tree.");
        };
        if line.regions.is_empty() {
            return self.print_reply(&format!("This cannot be resolved here: {}", Escaped::new(&line.reason)));
        }
        for (at, region) in line.regions.iter().enumerate() {
            self.print_region(region, (at + 1, line.regions.len()))?;
            let choice = self.ask_choice(path, region, host)?;
            if let Some(choice) = choice {
                let word = choice_word(&choice);
                self.run_action(
                    state,
                    Action::Choose { region: region.id.clone(), choice: Some(choice), accepts: Vec::new() },
                )?;
                writeln!(self.output, "Resolved: {word}.")?;
            }
        }
        Ok(AnswerEffect::RepeatPrompt)
    }

    fn print_region(&mut self, region: &ConflictRegion, (at, all): (usize, usize)) -> io::Result<()> {
        writeln!(self.output, "Conflict {at} of {all}")?;
        let sides =
            [("base", &region.base), ("ours (working tree)", &region.ours), ("theirs (accepted)", &region.theirs)];
        for (name, side) in sides {
            let place = if region.is_whole { String::new() } else { format!(", {}", side_lines(side)) };
            writeln!(self.output, "  {name}{place}")?;
            self.print_side(side)?;
        }
        Ok(())
    }

    fn print_side(&mut self, side: &RegionSide) -> io::Result<()> {
        match &side.text {
            None => writeln!(self.output, "  | {}", side.note),
            Some(text) => split_lines(text)
                .iter()
                .try_for_each(|line| writeln!(self.output, "  | {}", Escaped::from_line(trim_line_ending(line)))),
        }
    }

    /// Asks until the answer is one of the choices. An empty answer, or the end of the input, chooses nothing.
    fn ask_choice(
        &mut self,
        path: &RepoPath,
        region: &ConflictRegion,
        host: &mut dyn ReviewHost,
    ) -> io::Result<Option<ConflictChoice>> {
        loop {
            let more = if region.can_combine { ", b: both, e: edit" } else { "" };
            write!(self.output, "o: ours, t: theirs{more}, Enter: leave it: ")?;
            self.output.flush()?;
            let mut answer = String::new();
            if self.input.read_line(&mut answer)? == 0 {
                writeln!(self.output)?;
                return Ok(None);
            }
            return Ok(Some(match answer.trim() {
                "" => return Ok(None),
                "o" => ConflictChoice::Ours,
                "t" => ConflictChoice::Theirs,
                "b" if region.can_combine => ConflictChoice::Both,
                "e" if region.can_combine => match region.edit_sides(|text| host.edit_text(path, text)) {
                    Ok(edited) => ConflictChoice::Text(self.model.store_text(&edited)?),
                    Err(reason) => {
                        writeln!(self.output, "{}", Escaped::new(&reason))?;
                        continue;
                    }
                },
                _ => {
                    writeln!(self.output, "Type one of these letters, then Enter.")?;
                    continue;
                }
            }));
        }
    }

    /// Decides what is undecided, in a folder or everywhere, after a question. High-risk files are never accepted so.
    pub(super) fn decide_rest(
        &mut self,
        folder: &str,
        decision: Decision,
        state: &mut ReviewState,
    ) -> io::Result<AnswerEffect> {
        let prefix = folder.trim_end_matches('/').as_bytes();
        let is_in = |path: &RepoPath| {
            let rest = path.as_bytes().strip_prefix(prefix);
            prefix.is_empty() || rest.is_some_and(|rest| rest.starts_with(b"/"))
        };
        let (mut items, mut files, mut risky) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        let (mut cached_text, mut text) = (None, FileText::default());
        for question in self.list_questions(state) {
            let file = &self.model.files[question.file];
            if !is_in(&file.change.path) || !self.is_undecided(&question, state, &mut cached_text) {
                continue;
            }
            if decision == Decision::Accepted && file.is_risky() {
                risky.insert(question.file);
                continue;
            }
            if files.insert(question.file) {
                text = FileText::read(self.model, file)?;
            }
            items.push(self.decision_target(&question, &text));
        }
        let skipped = if risky.is_empty() { String::new() } else { format!(", without {} of high risk", risky.len()) };
        if items.is_empty() {
            return self.print_reply(&format!("Nothing is undecided there{skipped}."));
        }
        let word = if decision == Decision::Accepted { "Accept" } else { "Reject" };
        let (hunks, all) = (items.len(), files.len());
        if !self.ask_yes_no(&format!("{word} {hunks} undecided hunks in {all} files{skipped}?"))? {
            return Ok(AnswerEffect::RepeatPrompt);
        }
        self.run_action(state, Action::BulkDecide { items, decision, hidden: 0 })?;
        Ok(AnswerEffect::NextUndecided)
    }

    pub(super) fn ask_yes_no(&mut self, question: &str) -> io::Result<bool> {
        write!(self.output, "{question} [y/N] ")?;
        self.output.flush()?;
        let mut answer = String::new();
        self.input.read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "yes"))
    }

    /// Lists all comments with their places and whether they were sent.
    pub(super) fn list_comments(&mut self, state: &ReviewState) -> io::Result<AnswerEffect> {
        let mut count = 0;
        for file in &self.model.files {
            for unit in &file.units {
                let line = match &unit.kind {
                    UnitKind::Hunk { new, .. } => format!(":{}", new.start + 1),
                    _ => String::new(),
                };
                for (anchor, text) in state.decisions.comments_on(&unit.id) {
                    let word = if is_comment_sent(anchor, text, state) { "sent" } else { "open" };
                    let path = Escaped::new(file.change.path.as_bytes());
                    writeln!(self.output, "{word}  {path}{line}  {}", Escaped::new(text.lines().next().unwrap_or("")))?;
                    count += 1;
                }
            }
        }
        for comment in self.round_diff.iter().flat_map(|since| &since.comments) {
            let (word, path) =
                (CommentState::from_earlier(comment).state_word(), Escaped::new(comment.path.as_bytes()));
            let text = Escaped::new(comment.text.lines().next().unwrap_or("")).to_string();
            writeln!(self.output, "{word}  {path}:{}  {text}", comment.line + 1)?;
            count += 1;
        }
        if count == 0 { self.print_reply("There are no comments yet.") } else { Ok(AnswerEffect::RepeatPrompt) }
    }

    /// Lists the commits of the agent with their messages.
    pub(super) fn list_commits(&mut self) -> io::Result<AnswerEffect> {
        if self.commits.is_empty() {
            return self.print_reply("The agent made no commits.");
        }
        for commit in &self.commits {
            let id: String = commit.id.chars().take(10).collect();
            writeln!(self.output, "{id}  {}", Escaped::new(&commit.author))?;
            for line in commit.message.lines() {
                writeln!(self.output, "    {}", Escaped::from_line(line))?;
            }
        }
        Ok(AnswerEffect::RepeatPrompt)
    }

    /// Shows what an apply would do with conflicts, and ends the review to apply if the user agrees.
    pub(super) fn offer_apply(&mut self, state: &ReviewState, host: &mut dyn ReviewHost) -> io::Result<AnswerEffect> {
        let apply = |choice| Ok(AnswerEffect::Exit(ReviewOutcome::Apply(choice)));
        // A plan that fails does so again when it is applied, with its reason.
        let Ok(preview) = host.preview_apply(&state.decisions) else { return apply(None) };
        let conflicts: Vec<&PreviewLine> = preview.lines.iter().filter(|line| line.is_conflict).collect();
        if conflicts.is_empty() {
            return apply(None);
        }
        for line in &conflicts {
            let path = Escaped::new(line.path.as_bytes());
            writeln!(self.output, "conflict  {path}: {}", Escaped::new(&line.reason))?;
        }
        let git = if preview.has_git_merge() { ", M: write git's merge" } else { "" };
        loop {
            write!(self.output, "s: skip them, m: write conflict markers{git}, Enter: go back (x resolves them): ")?;
            self.output.flush()?;
            let mut answer = String::new();
            if self.input.read_line(&mut answer)? == 0 {
                writeln!(self.output)?;
                return Ok(AnswerEffect::RepeatPrompt);
            }
            return match answer.trim() {
                "" => Ok(AnswerEffect::RepeatPrompt),
                "s" => apply(Some(OnConflict::Skip)),
                "m" => apply(Some(OnConflict::Markers)),
                "M" if preview.has_git_merge() => apply(Some(OnConflict::GitMerge)),
                _ => {
                    writeln!(self.output, "Type one of these letters, then Enter.")?;
                    continue;
                }
            };
        }
    }

    /// Opens a copy of the agent's file in the editor.
    pub(super) fn view_in_editor(
        &mut self,
        file: &ReviewFile<'_>,
        host: &mut dyn ReviewHost,
    ) -> io::Result<AnswerEffect> {
        let (_, new) = self.model.read_contents(file)?;
        match host.view_text(&file.change.path, &new) {
            Ok(false) => Ok(AnswerEffect::RepeatPrompt),
            Ok(true) => self.print_reply("That was a copy of the agent's file; your changes to it are discarded."),
            Err(error) => self.print_reply(&format!("The editor failed: {}", Escaped::new(&error.to_string()))),
        }
    }

    /// Shows the message to the agent, and ends the review to send it if the user agrees.
    pub(super) fn send_feedback(&mut self, state: &ReviewState) -> io::Result<AnswerEffect> {
        if let Some(reason) = &self.cannot_send {
            let reason = reason.clone();
            return self.print_reply(&format!("This cannot be sent: {}", Escaped::new(&reason)));
        }
        let Some(feedback) = Feedback::from_review(self.model, state)? else {
            return self.print_reply("There is nothing to send: nothing was rejected, edited or commented on since.");
        };
        for line in feedback.text.lines() {
            writeln!(self.output, "| {}", Escaped::from_line(line))?;
        }
        let sends = self.ask_yes_no("Send this to the agent?")?;
        Ok(if sends { AnswerEffect::Exit(ReviewOutcome::Send) } else { AnswerEffect::RepeatPrompt })
    }
}
