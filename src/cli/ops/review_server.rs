//! A review that another program drives, such as an editor: `airlock review --json-rpc`.

use std::io;

use serde::Deserialize;
use serde_json::{Value, json};

use super::apply_options::{ApplyOptions, ReportForm};
use super::apply_to_worktree::apply_to_worktree;
use super::decided::update_decided;
use super::decisions::decision_error;
use super::draft::{draft_error, load_draft, open_draft, open_model};
use crate::changes::{Changeset, UnitKind};
use crate::cli::error::CliError;
use crate::cli::json::{diff_frame, file_to_json};
use crate::cli::json_rpc::{RpcError, parse_params, serve_requests};
use crate::cli::output::Output;
use crate::core::on_conflict::OnConflict;
use crate::core::path::RepoPath;
use crate::git::HostRepo;
use crate::review::{
    CommentAnchor, DecisionFile, DecisionLog, Decisions, Event, FileText, HunkDecision, ReviewFile, ReviewModel,
    UnitDecision, hunk_comments,
};
use crate::sandbox::Sandbox;

/// The review of one sandbox, which is locked until the client closes its connection.
struct ReviewServer<'a> {
    host: &'a HostRepo,
    sandbox: Sandbox,
    changes: &'a Changeset,
    model: &'a ReviewModel<'a>,
    draft: DecisionLog,
    output: Output,
}

/// The parameters of `list`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParams {
    /// The only file to list.
    path: Option<String>,
    /// Whether the lines, comments and replacement texts of hunks are listed.
    #[serde(default)]
    lines: bool,
}

/// The parameters of `contents`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ContentsParams {
    path: String,
}

/// The parameters of `decide`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct DecideParams {
    hunks: Vec<NewDecision>,
    #[serde(default)]
    allow_risky: bool,
}

/// The decision on a hunk, as in a decision file. Comments are not changed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewDecision {
    id: String,
    decision: String,
    text: Option<String>,
}

/// The parameters of `comment`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommentParams {
    id: String,
    line: Option<usize>,
    /// The text; null removes the comment.
    text: Option<String>,
}

/// The parameters of `apply`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApplyParams {
    #[serde(default)]
    dry_run: bool,
    on_conflict: Option<ConflictHandling>,
}

/// The handling of conflicts that a client can choose.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ConflictHandling {
    Abort,
    Skip,
    Markers,
}

/// Answers requests about the changes of a sandbox until the input ends. Decisions are saved before a request is answered.
pub(crate) fn serve_review(
    host: &HostRepo,
    sandbox: Sandbox,
    changes: &Changeset,
    output: Output,
) -> Result<u8, CliError> {
    let model = open_model(&sandbox, changes)?;
    let (draft, _) = open_draft(&sandbox, &model)?;
    let mut server = ReviewServer { host, sandbox, changes, model: &model, draft, output };
    let served = serve_requests(io::stdin().lock(), |method, params| server.answer_request(method, params));
    let ReviewServer { mut sandbox, draft, .. } = server;
    draft.sync_and_close().map_err(|error| draft_error(&error, &sandbox))?;
    let state = load_draft(&sandbox, &model)?;
    update_decided(host, &mut sandbox, &model, &state)?;
    served.map(|()| 0)
}

impl ReviewServer<'_> {
    fn answer_request(&mut self, method: &str, params: Value) -> Result<Value, RpcError> {
        match method {
            "list" => self.list_files(&parse_params(params)?),
            "contents" => self.read_contents(&parse_params(params)?),
            "decide" => self.decide_hunks(parse_params(params)?),
            "comment" => self.add_comment(parse_params(params)?),
            "apply" => self.apply_accepted(&parse_params(params)?),
            _ => Err(RpcError::UnknownMethod),
        }
    }

    fn load_decisions(&self) -> Result<Decisions, CliError> {
        Ok(load_draft(&self.sandbox, self.model)?.decisions)
    }

    fn find_file(&self, path: &str) -> Result<&ReviewFile<'_>, RpcError> {
        let name = &self.sandbox.record.name;
        let path = RepoPath::from_bytes(path.as_bytes()).ok();
        let file = path.and_then(|path| self.model.files.iter().find(|file| file.change.path == path));
        file.ok_or_else(|| RpcError::from(CliError::failed(format!("`{name}` did not change this file"))))
    }

    /// Returns what `airlock diff --json` prints, and the lines of hunks if they were asked for.
    fn list_files(&self, params: &ListParams) -> Result<Value, RpcError> {
        let decisions = self.load_decisions()?;
        let files: Vec<&ReviewFile<'_>> = match &params.path {
            Some(path) => vec![self.find_file(path)?],
            None => self.model.files.iter().collect(),
        };
        let mut listed = Vec::new();
        for file in files {
            let mut value = file_to_json(file, &decisions);
            if params.lines {
                self.add_lines(file, &decisions, &mut value)?;
            }
            listed.push(value);
        }
        let commits = self.sandbox.read_commits(&self.changes.id).commits;
        let mut all = diff_frame(self.sandbox.record.name.as_str(), self.changes, (&commits, false));
        all["files"] = listed.into();
        Ok(all)
    }

    /// Adds the lines, comments and replacement texts to the hunks of a listed file.
    fn add_lines(&self, file: &ReviewFile<'_>, decisions: &Decisions, value: &mut Value) -> Result<(), CliError> {
        let text = FileText::read(self.model, file)?;
        for (unit, listed) in file.units.iter().enumerate() {
            let hunk = &mut value["hunks"][unit];
            if let UnitKind::Hunk { old, new } = &listed.kind {
                let removed = old.clone().map(|line| line_to_json("removed", line, text.old.get(line)));
                let added = new.clone().map(|line| line_to_json("added", line, text.new.get(line)));
                hunk["lines"] = removed.chain(added).collect();
            }
            if let Some(UnitDecision::Edited(hash)) = decisions.get(&listed.id) {
                hunk["text"] = String::from_utf8_lossy(&self.model.read_text(hash)?).into();
            }
            let comments = hunk_comments(decisions, &listed.id);
            hunk["comments"] = serde_json::to_value(comments).map_err(io::Error::from)?;
        }
        Ok(())
    }

    /// Returns both versions of a text file.
    fn read_contents(&self, params: &ContentsParams) -> Result<Value, RpcError> {
        let file = self.find_file(&params.path)?;
        let (old, new) = self.model.read_contents(file)?;
        let text = |is_there: bool, bytes: Vec<u8>| is_there.then(|| String::from_utf8(bytes).ok()).flatten();
        let (has_old, has_new) = (file.change.old.is_some(), file.change.new.is_some());
        Ok(json!({ "path": params.path, "old": text(has_old, old), "new": text(has_new, new) }))
    }

    /// Saves decisions: all of them, or none.
    fn decide_hunks(&mut self, params: DecideParams) -> Result<Value, RpcError> {
        let decisions = self.load_decisions()?;
        let hunk = |new: NewDecision| {
            let comments = hunk_comments(&decisions, &new.id);
            HunkDecision { id: new.id, at: None, decision: new.decision, text: new.text, comments }
        };
        let file = DecisionFile::from_hunks(self.model, params.hunks.into_iter().map(hunk));
        let events = file.to_events(self.model, &decisions, params.allow_risky).map_err(|error| {
            let message = error.to_string();
            decision_error(error, &message, "nothing was decided", "review it, then decide it with `allow_risky`")
        })?;
        self.save_events(&events)
    }

    fn add_comment(&mut self, params: CommentParams) -> Result<Value, RpcError> {
        let unit = self.model.files.iter().flat_map(|file| &file.units).find(|unit| unit.id == params.id);
        let Some(unit) = unit else {
            return Err(CliError::stale(format!("this changeset has no hunk `{}`", params.id)).into());
        };
        if params.line.is_some_and(|line| line >= unit.line_count()) {
            return Err(RpcError::InvalidParams(format!("the hunk has {} lines", unit.line_count())));
        }
        let anchor = CommentAnchor::new(&params.id, params.line, None);
        self.save_events(&[Event::comment_event(&anchor, params.text)])
    }

    /// Applies what is accepted, or plans it.
    fn apply_accepted(&mut self, params: &ApplyParams) -> Result<Value, RpcError> {
        let options = ApplyOptions::from_decisions(self.model, &self.load_decisions()?);
        let on_conflict = match params.on_conflict {
            Some(ConflictHandling::Skip) => OnConflict::Skip,
            Some(ConflictHandling::Markers) => OnConflict::Markers,
            Some(ConflictHandling::Abort) | None => OnConflict::Abort,
        };
        let options = ApplyOptions { dry_run: params.dry_run, report: ReportForm::Returned, on_conflict, ..options };
        if options.selection.is_empty() {
            return Err(CliError::failed("nothing is accepted").into());
        }
        let end = apply_to_worktree(self.host, &mut self.sandbox, self.model, &options, self.output)?;
        let mut outcome = end.outcome;
        outcome["status"] = end.status.into();
        Ok(outcome)
    }

    /// Saves events, and returns the numbers of hunks and of those that are decided.
    fn save_events(&mut self, events: &[Event]) -> Result<Value, RpcError> {
        self.draft.append_events(events).map_err(|error| draft_error(&error, &self.sandbox))?;
        let decisions = self.load_decisions()?;
        let units = || self.model.files.iter().filter(|file| !file.is_refused()).flat_map(|file| &file.units);
        let decided = units().filter(|unit| decisions.is_decided(unit)).count();
        Ok(json!({ "hunks": units().count(), "decided": decided }))
    }
}

/// Returns a line without its line break. Numbers count from 1.
fn line_to_json(kind: &str, line: usize, content: &[u8]) -> Value {
    let content = content.strip_suffix(b"\n").unwrap_or(content);
    json!({ "kind": kind, "number": line + 1, "text": String::from_utf8_lossy(content) })
}
