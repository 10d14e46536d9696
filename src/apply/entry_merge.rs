//! The three-way merge of the entries at one path: base, working tree and accepted change. The rules are pure and read no
//! content.
//!
//! Presence, kind, executable bit and content are merged separately. A side that is equal to the base yields to the other
//! side. If both sides changed and differ, only the content of two files is merged.

use super::capabilities::FsCapabilities;
use super::entry_content::EntryContent;

use crate::changes::ContentHash;
use crate::core::path::EntryKind;

/// The result of a three-way merge of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// The working tree already has the result.
    Unchanged,
    /// The path is to have this content.
    Write(EntryContent),
    Delete,
    /// The path is to be a file of this kind, with the merged content of all three sides.
    Merge(EntryKind),
    /// The merge requires a decision by the user.
    Conflict(ConflictKind),
}

/// The reason why the user has to decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConflictKind {
    #[error("a different file already exists there")]
    AddAdd,
    /// Both sides added the file, with the same content and different executable bits.
    #[error("the same file already exists there, with other permissions")]
    AddAddMode,
    /// The working tree deleted a file that the accepted side changed.
    #[error("you have deleted it in the working tree")]
    DeleteModify,
    /// The accepted side renames a file to a path at which the working tree has another one.
    #[error("a different file already exists there")]
    RenameAdd,
    /// The accepted side renames a file that the working tree does not have.
    #[error("the file to rename was deleted or moved in the working tree")]
    RenameDelete,
    /// The accepted side renames a file, and a filter applies to only one of the paths.
    #[error("a filter converts it at only one of its two paths")]
    RenameFiltered,
    /// The file moves or becomes executable, and units of earlier rounds would stay in it that the user has not decided on since.
    #[error("an earlier apply wrote parts of it that have changed since; accept all of its changes")]
    EarlierUnits,
    /// The accepted side deletes a file that the working tree changed.
    #[error("it would be deleted, but you have changed it in the working tree")]
    ModifyDelete,
    /// Both sides changed the path, and at least one version is a symlink.
    #[error("it is a symlink on one side, and both sides changed it")]
    Links,
    /// The working tree replaced a file with a symlink, or a symlink with a file.
    #[error("its type has changed in the working tree")]
    Kinds,
    /// Both sides changed the same lines.
    #[error("both sides changed the same lines")]
    Lines,
    /// The content is not text.
    #[error("both sides changed it, and it is not text that can be merged by line")]
    Binary,
    /// The attributes forbid merging by line.
    #[error("both sides changed it, and its `merge` attribute forbids merging by line")]
    NotByLine,
    /// The attributes specify a merge driver.
    #[error("both sides changed it, and its attributes specify a merge driver, which Airlock does not run")]
    Driver,
    /// A filter converts the content between git's stored form and the working tree's file, and the sandbox has the stored
    /// form.
    #[error(
        "both sides changed it, and the sandbox has the form that git stores, while your working tree has the output of a filter"
    )]
    Filtered,
    /// The accepted side deletes a file whose content a filter converts in the working tree.
    #[error("it would be deleted, but a filter converts it, so Airlock cannot detect whether you changed it")]
    FilteredDeletion,
    /// The content is too large to merge.
    #[error("both sides changed it, and it is too large to merge by line")]
    Large,
    /// The two merge engines disagree.
    #[error("both sides changed it, and two merge algorithms give different results")]
    EnginesDisagree,
}

/// Merges the entries of one path. `None` is an absent path.
#[must_use]
pub(crate) fn merge_entry(
    base: Option<&EntryContent>,
    ours: Option<&EntryContent>,
    theirs: Option<&EntryContent>,
    capabilities: FsCapabilities,
) -> Resolution {
    // Kinds are compared as the file system supports them.
    let normalize = |v: Option<&EntryContent>| {
        v.map(|v| EntryContent { kind: capabilities.normalize_kind(v.kind), hash: v.hash.clone() })
    };
    let (normalized_base, normalized_ours, normalized_theirs) = (normalize(base), normalize(ours), normalize(theirs));
    if normalized_ours == normalized_theirs || normalized_theirs == normalized_base {
        return Resolution::Unchanged;
    }
    if normalized_ours == normalized_base {
        return theirs.map_or(Resolution::Delete, |v| Resolution::Write(v.clone()));
    }
    let is_link = |v: &Option<EntryContent>| v.as_ref().is_some_and(|v| v.kind == EntryKind::Symlink);
    match (&normalized_base, &normalized_ours, &normalized_theirs) {
        (None, Some(host), Some(accepted))
            if host.hash == accepted.hash && !is_link(&normalized_ours) && !is_link(&normalized_theirs) =>
        {
            Resolution::Conflict(ConflictKind::AddAddMode)
        }
        (None, _, _) => Resolution::Conflict(ConflictKind::AddAdd),
        (Some(_), None, _) => Resolution::Conflict(ConflictKind::DeleteModify),
        (Some(base), Some(ours), None) => {
            let other_kind = (base.kind == EntryKind::Symlink) != (ours.kind == EntryKind::Symlink);
            Resolution::Conflict(if other_kind { ConflictKind::Kinds } else { ConflictKind::ModifyDelete })
        }
        (Some(base), Some(ours), Some(theirs)) => {
            if is_link(&normalized_base) != is_link(&normalized_ours) {
                return Resolution::Conflict(ConflictKind::Kinds);
            }
            if is_link(&normalized_base) || is_link(&normalized_theirs) {
                return Resolution::Conflict(ConflictKind::Links);
            }
            let kind = if ours.kind == base.kind { theirs.kind } else { ours.kind };
            let write_if_changed = |hash: &ContentHash| match (kind, hash) == (ours.kind, &ours.hash) {
                true => Resolution::Unchanged,
                false => Resolution::Write(EntryContent { kind, hash: hash.clone() }),
            };
            if ours.hash == base.hash || ours.hash == theirs.hash {
                write_if_changed(&theirs.hash)
            } else if theirs.hash == base.hash {
                write_if_changed(&ours.hash)
            } else {
                Resolution::Merge(kind)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `-` as absent, `a` as a file, `a*` as the same file but executable, and `@a` as a symlink.
    fn version(text: &str) -> Option<EntryContent> {
        let (kind, content) = match (text, text.strip_prefix('@'), text.strip_suffix('*')) {
            ("-", ..) => return None,
            (_, Some(target), _) => (EntryKind::Symlink, target),
            (_, _, Some(content)) => (EntryKind::Executable, content),
            (content, ..) => (EntryKind::Regular, content),
        };
        Some(EntryContent { kind, hash: ContentHash::from_content(content.as_bytes()) })
    }

    fn merge_label(base: &str, ours: &str, theirs: &str) -> String {
        let version_name = |v: &EntryContent| {
            let all = ["a", "b", "c", "a*", "b*", "c*", "@a", "@b", "@c"];
            (*all.iter().find(|t| version(t).as_ref() == Some(v)).expect("a known version")).to_owned()
        };
        match merge_entry(
            version(base).as_ref(),
            version(ours).as_ref(),
            version(theirs).as_ref(),
            FsCapabilities::default(),
        ) {
            Resolution::Unchanged => "unchanged".into(),
            Resolution::Write(v) => version_name(&v),
            Resolution::Delete => "delete".into(),
            Resolution::Merge(EntryKind::Executable) => "merge*".into(),
            Resolution::Merge(_) => "merge".into(),
            Resolution::Conflict(conflict) => format!("{conflict:?}"),
        }
    }

    /// The expected outcomes. Rows are base and ours, columns are theirs.
    const TABLE: &str = "
        base ours | -            a            a*           b            b*           @a           @b
        -    -    | unchanged    a            a*           b            b*           @a           @b
        -    a    | unchanged    unchanged    AddAddMode   AddAdd       AddAdd       AddAdd       AddAdd
        -    a*   | unchanged    AddAddMode   unchanged    AddAdd       AddAdd       AddAdd       AddAdd
        -    @a   | unchanged    AddAdd       AddAdd       AddAdd       AddAdd       unchanged    AddAdd
        a    -    | unchanged    unchanged    DeleteModify DeleteModify DeleteModify DeleteModify DeleteModify
        a    a    | delete       unchanged    a*           b            b*           @a           @b
        a    a*   | ModifyDelete unchanged    unchanged    b*           b*           Links        Links
        a    b    | ModifyDelete unchanged    b*           unchanged    b*           Links        Links
        a    b*   | ModifyDelete unchanged    unchanged    unchanged    unchanged    Links        Links
        a    c    | ModifyDelete unchanged    c*           merge        merge*       Links        Links
        a    c*   | ModifyDelete unchanged    unchanged    merge*       merge*       Links        Links
        a    @a   | Kinds        unchanged    Kinds        Kinds        Kinds        unchanged    Kinds
        a    @c   | Kinds        unchanged    Kinds        Kinds        Kinds        Kinds        Kinds
        a*   a*   | delete       a            unchanged    b            b*           @a           @b
        a*   a    | ModifyDelete unchanged    unchanged    b            b            Links        Links
        a*   b    | ModifyDelete unchanged    unchanged    unchanged    unchanged    Links        Links
        a*   c    | ModifyDelete unchanged    unchanged    merge        merge        Links        Links
        a*   c*   | ModifyDelete c            unchanged    merge        merge*       Links        Links
        @a   -    | unchanged    DeleteModify DeleteModify DeleteModify DeleteModify unchanged    DeleteModify
        @a   @a   | delete       a            a*           b            b*           unchanged    @b
        @a   @c   | ModifyDelete Links        Links        Links        Links        unchanged    Links
        @a   c    | Kinds        Kinds        Kinds        Kinds        Kinds        unchanged    Kinds
        @a   a*   | Kinds        Kinds        unchanged    Kinds        Kinds        unchanged    Kinds
    ";

    #[test]
    fn entry_merge_covers_every_combination() {
        let mut rows = TABLE.lines().map(str::trim).filter(|l| !l.is_empty());
        let columns: Vec<&str> = rows.next().expect("header row").split_whitespace().skip(3).collect();
        let mut failures = Vec::new();
        let mut count = 0;
        for row in rows {
            let cells: Vec<&str> = row.split_whitespace().collect();
            assert_eq!(cells.len(), 3 + columns.len(), "{row}");
            for (theirs, expected) in columns.iter().zip(&cells[3..]) {
                let got = merge_label(cells[0], cells[1], theirs);
                count += 1;
                if got != *expected {
                    failures.push(format!("{} {} {theirs}: {got}, not {expected}", cells[0], cells[1]));
                }
            }
        }
        assert_eq!((failures, count), (Vec::new(), 161));
    }

    #[test]
    fn entry_merge_keeps_its_invariants() {
        let all = ["-", "a", "a*", "b", "b*", "c", "@a", "@b"];
        for base in all {
            for ours in all {
                assert_eq!(merge_label(base, ours, base), "unchanged", "theirs equals base");
                for theirs in all {
                    let got = merge_label(base, ours, theirs);
                    if base == ours && theirs != base {
                        assert_eq!(got, if theirs == "-" { "delete" } else { theirs });
                    }
                    // The merge is symmetric unless it requires a decision.
                    if got != "unchanged" && got != "delete" && !got.starts_with(char::is_uppercase) {
                        let swapped = merge_label(base, theirs, ours);
                        assert!(swapped == got || theirs == got && swapped == "unchanged", "{base} {ours} {theirs}");
                    }
                }
            }
        }
    }

    #[test]
    fn unsupported_kinds_are_not_compared() {
        let capabilities = FsCapabilities { file_mode: false, symlinks: false };
        let merge = |base, ours, theirs| {
            merge_entry(version(base).as_ref(), version(ours).as_ref(), version(theirs).as_ref(), capabilities)
        };
        assert_eq!(merge("a*", "a", "b*"), Resolution::Write(version("b*").expect("a version")));
        assert_eq!(merge("a", "a", "a*"), Resolution::Unchanged);
        assert_eq!(merge("@a", "a", "@b"), Resolution::Write(version("@b").expect("a version")));
    }
}
