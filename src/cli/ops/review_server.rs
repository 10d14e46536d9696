//! A review that another program drives, such as an editor: `airlock review --json-rpc`.

use std::io;

use serde::Deserialize;
use serde_json::{Value, json};

use super::apply_options::{ApplyOptions, ReportForm};
use super::apply_to_worktree::apply_to_worktree;
use super::decided::update_decided;
use super::decisions::decision_error;
use super::draft::{draft_error, open_draft, open_model};
use crate::changes::{Changeset, UnitKind};
use crate::cli::error::CliError;
use crate::cli::json::{diff_frame, file_to_json, path_text};
use crate::cli::json_rpc::{RpcError, parse_params, serve_requests};
use crate::cli::output::Output;
use crate::core::on_conflict::OnConflict;
use crate::git::HostRepo;
use crate::review::{
    CommentAnchor, DecisionFile, DecisionLog, Event, FileText, HunkDecision, ReviewFile, ReviewModel, ReviewState,
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
    state: ReviewState,
    output: Output,
}

/// Maximum numbers of lines and bytes of a file's hunks in one reply.
const MAX_LINES: usize = 20_000;
const MAX_LINE_BYTES: usize = 4 << 20;

/// The parameters of a method without any.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoParams {}

/// A file of the changes, as listed: by its path, or by its bytes if they are not UTF-8.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileParams {
    #[serde(default)]
    path: String,
    path_bytes: Option<Vec<u8>>,
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
    part: Option<[usize; 2]>,
    /// The text. An empty text, or none, removes the comment.
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
    let (draft, state) = open_draft(&sandbox, &model)?;
    let mut server = ReviewServer { host, sandbox, changes, model: &model, draft, state, output };
    let served = serve_requests(io::stdin().lock(), |method, params| server.answer_request(method, params));
    let ReviewServer { mut sandbox, draft, state, .. } = server;
    draft.sync_and_close().map_err(|error| draft_error(&error, &sandbox))?;
    update_decided(host, &mut sandbox, &model, &state)?;
    served.map(|()| 0)
}

impl ReviewServer<'_> {
    fn answer_request(&mut self, method: &str, params: Value) -> Result<Value, RpcError> {
        match method {
            "list" => self.list_files(&parse_params(params)?),
            "hunks" => self.list_hunks(&parse_params(params)?),
            "contents" => self.read_contents(&parse_params(params)?),
            "decide" => self.decide_hunks(parse_params(params)?),
            "comment" => self.add_comment(parse_params(params)?),
            "apply" => self.apply_accepted(&parse_params(params)?),
            _ => Err(RpcError::UnknownMethod),
        }
    }

    fn find_file(&self, params: &FileParams) -> Result<&ReviewFile<'_>, RpcError> {
        let wanted = params.path_bytes.as_deref().unwrap_or(params.path.as_bytes());
        let named = |file: &&ReviewFile<'_>| path_text(&file.change.path) == params.path;
        // A client that leaves out the bytes could mean any of these.
        if params.path_bytes.is_none() && self.model.files.iter().filter(named).count() > 1 {
            return Err(RpcError::InvalidParams("several files are listed with this path: pass `path_bytes`".into()));
        }
        let file = self.model.files.iter().find(|file| file.change.path.as_bytes() == wanted);
        let name = &self.sandbox.record.name;
        file.ok_or_else(|| RpcError::from(CliError::failed(format!("`{name}` did not change this file"))))
    }

    /// Returns what `airlock diff --json` prints.
    fn list_files(&self, _: &NoParams) -> Result<Value, RpcError> {
        let files = self.model.files.iter().map(|file| file_to_json(file, &self.state.decisions));
        let commits = self.sandbox.read_commits(&self.changes.id).commits;
        let mut all = diff_frame(self.sandbox.record.name.as_str(), self.changes, (&commits, false));
        all["files"] = files.collect();
        Ok(all)
    }

    /// Returns a file as it is listed, with the lines, comments and replacement texts of its hunks.
    fn list_hunks(&self, params: &FileParams) -> Result<Value, RpcError> {
        let file = self.find_file(params)?;
        let decisions = &self.state.decisions;
        let mut value = file_to_json(file, decisions);
        let text = FileText::read(self.model, file)?;
        let mut budget = LineBudget { lines: MAX_LINES, bytes: MAX_LINE_BYTES };
        for (unit, listed) in file.units.iter().enumerate() {
            let hunk = &mut value["hunks"][unit];
            if let UnitKind::Hunk { old, new } = &listed.kind {
                let removed = old.clone().map(|line| ("removed", line, text.old.get(line)));
                let added = new.clone().map(|line| ("added", line, text.new.get(line)));
                let lines =
                    removed.chain(added).map_while(|(kind, line, content)| budget.take_line(kind, line, content));
                let lines: Vec<Value> = lines.collect();
                hunk["is_truncated"] = (lines.len() < listed.line_count()).into();
                hunk["lines"] = lines.into();
            }
            if let Some(UnitDecision::Edited(hash)) = decisions.get(&listed.id) {
                hunk["text"] = String::from_utf8_lossy(&self.model.read_text(hash)?).into();
            }
            let comments = hunk_comments(decisions, &listed.id);
            hunk["comments"] = serde_json::to_value(comments).map_err(io::Error::from)?;
        }
        if let Some(target) = &file.target {
            value["target"] = String::from_utf8_lossy(target).into();
        }
        Ok(value)
    }

    /// Returns both versions of a text file.
    fn read_contents(&self, params: &FileParams) -> Result<Value, RpcError> {
        let file = self.find_file(params)?;
        if file.change.is_large() {
            return Ok(json!({ "old": null, "new": null }));
        }
        let (old, new) = self.model.read_contents(file)?;
        let text = |is_there: bool, bytes: Vec<u8>| is_there.then(|| String::from_utf8(bytes).ok()).flatten();
        let (has_old, has_new) = (file.change.old.is_some(), file.change.new.is_some());
        Ok(json!({ "old": text(has_old, old), "new": text(has_new, new) }))
    }

    /// Saves decisions: all of them, or none.
    fn decide_hunks(&mut self, params: DecideParams) -> Result<Value, RpcError> {
        let decisions = &self.state.decisions;
        let hunk = |new: NewDecision| {
            let comments = hunk_comments(decisions, &new.id);
            HunkDecision { id: new.id, at: None, decision: new.decision, text: new.text, comments }
        };
        let file = DecisionFile::from_hunks(self.model, params.hunks.into_iter().map(hunk));
        let events = file.to_events(self.model, decisions, params.allow_risky).map_err(|error| {
            let message = error.to_string();
            decision_error(error, &message, "nothing was decided", "review it, then decide it with `allow_risky`")
        })?;
        self.save_events(events)
    }

    fn add_comment(&mut self, params: CommentParams) -> Result<Value, RpcError> {
        let unit = self.model.files.iter().flat_map(|file| &file.units).find(|unit| unit.id == params.id);
        let Some(unit) = unit else {
            return Err(CliError::stale(format!("this changeset has no hunk `{}`", params.id)).into());
        };
        if params.line.is_some_and(|line| line >= unit.line_count()) {
            return Err(RpcError::InvalidParams(format!("the hunk has {} lines", unit.line_count())));
        }
        let is_missing = |[from, to]: [usize; 2]| from >= to || to > unit.line_count();
        if params.part.is_some_and(is_missing) || params.line.is_some() && params.part.is_some() {
            return Err(RpcError::InvalidParams(
                "`part` is the first row and the one after the last, without `line`".into(),
            ));
        }
        let anchor = CommentAnchor::new(&params.id, params.line, params.part);
        let text = params.text.filter(|text| !text.trim().is_empty());
        self.save_events(vec![Event::comment_event(&anchor, text)])
    }

    /// Applies what is accepted, or plans it.
    fn apply_accepted(&mut self, params: &ApplyParams) -> Result<Value, RpcError> {
        let options = ApplyOptions::from_decisions(self.model, &self.state.decisions);
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
    fn save_events(&mut self, events: Vec<Event>) -> Result<Value, RpcError> {
        self.draft.append_events(&events).map_err(|error| draft_error(&error, &self.sandbox))?;
        self.state.record_events(events);
        let decisions = &self.state.decisions;
        let units = || self.model.files.iter().filter(|file| !file.is_refused()).flat_map(|file| &file.units);
        let decided = units().filter(|unit| decisions.is_decided(unit)).count();
        Ok(json!({ "hunks": units().count(), "decided": decided }))
    }
}

/// The rest of the limits of a reply.
struct LineBudget {
    lines: usize,
    bytes: usize,
}

impl LineBudget {
    /// Returns a line without its line break, unless a limit is reached. Numbers count from 1.
    fn take_line(&mut self, kind: &str, line: usize, content: &[u8]) -> Option<Value> {
        self.lines = self.lines.checked_sub(1)?;
        self.bytes = self.bytes.checked_sub(content.len())?;
        let text = content.strip_suffix(b"\n");
        let mut value = json!({
            "kind": kind, "number": line + 1, "text": String::from_utf8_lossy(text.unwrap_or(content)),
        });
        if text.is_none() {
            value["no_newline"] = true.into();
        }
        Some(value)
    }
}
