//! Formats changes as text: escaped, with a gutter, or as an exact patch for `git apply`.

use crate::changes::{CONTEXT_LINES, ContextHunk, ContextLine, UnitKind, build_context_hunks};
use crate::cli::error::CliError;
use crate::core::path::{EntryKind, RepoPath};
use crate::render::TextRenderer;
use crate::review::{FileText, ReviewFile, ReviewModel};

/// Formats the changes of one file for display.
pub(crate) fn format_file(
    model: &ReviewModel<'_>,
    file: &ReviewFile<'_>,
    renderer: TextRenderer,
) -> Result<String, CliError> {
    let is_deleted = file.units.iter().any(|u| u.kind == UnitKind::Delete);
    let FileText { old, new } = FileText::read(model, file)?;
    let (old, new) = (old.collect_lines(0..old.len()), new.collect_lines(0..new.len()));
    let whole = file.units.iter().filter(|u| !matches!(u.kind, UnitKind::Hunk { .. }));
    let whole = whole.map(|u| renderer.unit_row(&u.kind, file));
    let context = if file.shows_whole_content() { old.len() } else { CONTEXT_LINES };
    let mut hunks = build_context_hunks(&file.units, &old, &new, context);
    if file.shows_whole_content() && hunks.is_empty() && !old.is_empty() {
        let lines = old.iter().map(|line| ContextLine::Context(line)).collect();
        hunks.push(ContextHunk { old: 0..old.len(), new: 0..new.len(), lines });
    }
    if is_deleted && !old.is_empty() {
        let lines = old.iter().map(|line| ContextLine::Removed(line)).collect();
        hunks.push(ContextHunk { old: 0..old.len(), new: 0..0, lines });
    }
    let hunks = hunks.iter().map(|hunk| renderer.hunk_rows(hunk, usize::MAX));
    Ok(std::iter::once(renderer.file_heading(file)).chain(whole).chain(hunks).collect())
}

/// One side of a changed file.
pub(crate) struct PatchSide {
    pub kind: EntryKind,
    pub content: Vec<u8>,
}

/// Formats the change of one file as `git diff --binary --full-index --no-renames` does.
pub(crate) fn git_patch(path: &RepoPath, old: Option<PatchSide>, new: Option<PatchSide>) -> Result<Vec<u8>, CliError> {
    // As in git, a symlink that became a file, or the reverse, is a deletion and a creation.
    match (old, new) {
        (Some(old), Some(new)) if (old.kind == EntryKind::Symlink) != (new.kind == EntryKind::Symlink) => {
            let gone = format_patch(path, Some(&old), None)?;
            Ok([gone, format_patch(path, None, Some(&new))?].concat())
        }
        (old, new) => format_patch(path, old.as_ref(), new.as_ref()),
    }
}

fn format_patch(path: &RepoPath, old: Option<&PatchSide>, new: Option<&PatchSide>) -> Result<Vec<u8>, CliError> {
    let failed = |e: git2::Error| CliError::failed(format!("failed to create the patch: {}", e.message()));
    let content = |side: Option<&PatchSide>| side.map_or(Vec::new(), |part| part.content.clone());
    let (before, after) = (content(old), content(new));
    let hash = |side: Option<&PatchSide>| {
        side.map_or(Ok(git2::Oid::ZERO_SHA1), |part| git2::Oid::hash_object(git2::ObjectType::Blob, &part.content))
    };
    let mode = |side: Option<&PatchSide>| side.map(|part| part.kind.git_mode());
    let (a, b) = (quote_path("a/", path), quote_path("b/", path));
    let mut out = format!("diff --git {a} {b}\n");
    match (mode(old), mode(new)) {
        (None, Some(mode)) => out += &format!("new file mode {mode}\n"),
        (Some(mode), None) => out += &format!("deleted file mode {mode}\n"),
        (Some(was), Some(is)) if was != is => out += &format!("old mode {was}\nnew mode {is}\n"),
        _ => {}
    }
    if before == after && old.is_some() && new.is_some() {
        return Ok(out.into_bytes());
    }
    let kept = if mode(old) == mode(new) { format!(" {}", mode(new).unwrap_or_default()) } else { String::new() };
    out += &format!("index {}..{}{kept}\n", hash(old).map_err(failed)?, hash(new).map_err(failed)?);
    if before.is_empty() && after.is_empty() {
        return Ok(out.into_bytes());
    }
    let mut options = git2::DiffOptions::new();
    options.show_binary(true);
    let mut patch = git2::Patch::from_buffers(&before, None, &after, None, Some(&mut options)).map_err(failed)?;
    let text = patch.to_buf().map_err(failed)?.to_vec();
    // The header of a patch between buffers has no path. It is replaced, and the body is kept.
    let find = |mark: &[u8]| text.windows(mark.len()).position(|w| w == mark);
    let body = match (find(b"GIT binary patch\n"), find(b"\n@@ ")) {
        (_, Some(at)) => {
            out += &match old {
                Some(_) => format!("--- {a}\n"),
                None => "--- /dev/null\n".into(),
            };
            out += &match new {
                Some(_) => format!("+++ {b}\n"),
                None => "+++ /dev/null\n".into(),
            };
            &text[at + 1..]
        }
        (Some(at), None) => &text[at..],
        (None, None) => &[],
    };
    Ok([out.as_bytes(), body].concat())
}

/// Quotes a path as git does (`core.quotePath`), so that no two paths look alike and none contains a line feed.
pub(crate) fn quote_path(side: &str, path: &RepoPath) -> String {
    let plain = path.as_bytes().iter().all(|b| (b' '..=b'~').contains(b) && !b"\"\\".contains(b));
    if plain {
        return format!("{side}{}", String::from_utf8_lossy(path.as_bytes()));
    }
    let mut text = format!("\"{side}");
    for byte in path.as_bytes() {
        match byte {
            b'"' | b'\\' => text += &format!("\\{}", char::from(*byte)),
            0x07..=0x0d => text += ["\\a", "\\b", "\\t", "\\n", "\\v", "\\f", "\\r"][usize::from(*byte) - 7],
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => text += &format!("\\{byte:03o}"),
        }
    }
    text + "\""
}
