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

    fn word(base: &str, host: &str, accepted: &str) -> String {
        let name = |v: &EntryContent| {
            let all = ["a", "b", "c", "a*", "b*", "c*", "@a", "@b", "@c"];
            (*all.iter().find(|t| version(t).as_ref() == Some(v)).expect("a known version")).to_owned()
        };
        match merge_entry(
            version(base).as_ref(),
            version(host).as_ref(),
            version(accepted).as_ref(),
            FsCapabilities::default(),
        ) {
            Resolution::Unchanged => "already".into(),
            Resolution::Write(v) => name(&v),
            Resolution::Delete => "delete".into(),
            Resolution::Merge(EntryKind::Executable) => "merge*".into(),
            Resolution::Merge(_) => "merge".into(),
            Resolution::Conflict(clash) => format!("{clash:?}"),
        }
    }

    /// The rows have the base and the working tree, the columns the accepted side.
    const TABLE: &str = "
        base host |  -           a             a*            b             b*            @a      @b
        -    -    |  already     a             a*            b             b*            @a      @b
        -    a    |  already     already       AddAddMode AddAdd     AddAdd     AddAdd AddAdd
        -    a*   |  already     AddAddMode already       AddAdd     AddAdd     AddAdd AddAdd
        -    @a   |  already     AddAdd     AddAdd     AddAdd     AddAdd     already AddAdd
        a    -    |  already     already       DeleteModify   DeleteModify   DeleteModify   DeleteModify DeleteModify
        a    a    |  delete      already       a*            b             b*            @a      @b
        a    a*   |  ModifyDelete already       already       b*            b*            Links   Links
        a    b    |  ModifyDelete already       b*            already       b*            Links   Links
        a    b*   |  ModifyDelete already       already       already       already       Links   Links
        a    c    |  ModifyDelete already       c*            merge         merge*        Links   Links
        a    c*   |  ModifyDelete already       already       merge*        merge*        Links   Links
        a    @a   |  Kinds       already       Kinds         Kinds         Kinds         already Kinds
        a    @c   |  Kinds       already       Kinds         Kinds         Kinds         Kinds   Kinds
        a*   a*   |  delete      a             already       b             b*            @a      @b
        a*   a    |  ModifyDelete already       already       b             b             Links   Links
        a*   b    |  ModifyDelete already       already       already       already       Links   Links
        a*   c    |  ModifyDelete already       already       merge         merge         Links   Links
        a*   c*   |  ModifyDelete c             already       merge         merge*        Links   Links
        @a   -    |  already     DeleteModify   DeleteModify   DeleteModify   DeleteModify   already DeleteModify
        @a   @a   |  delete      a             a*            b             b*            already @b
        @a   @c   |  ModifyDelete Links         Links         Links         Links         already Links
        @a   c    |  Kinds       Kinds         Kinds         Kinds         Kinds         already Kinds
        @a   a*   |  Kinds       Kinds         already       Kinds         Kinds         already Kinds
    ";

    #[test]
    fn every_combination_has_its_verdict() {
        let mut rows = TABLE.lines().map(str::trim).filter(|l| !l.is_empty());
        let columns: Vec<&str> = rows.next().expect("a head").split_whitespace().skip(3).collect();
        let mut wrong = Vec::new();
        let mut tried = 0;
        for row in rows {
            let cells: Vec<&str> = row.split_whitespace().collect();
            assert_eq!(cells.len(), 3 + columns.len(), "{row}");
            for (accepted, expected) in columns.iter().zip(&cells[3..]) {
                let got = word(cells[0], cells[1], accepted);
                tried += 1;
                if got != *expected {
                    wrong.push(format!("{} {} {accepted}: {got}, not {expected}", cells[0], cells[1]));
                }
            }
        }
        assert_eq!((wrong, tried), (Vec::new(), 161));
    }

    #[test]
    fn rules_that_hold_whatever_is_there() {
        let all = ["-", "a", "a*", "b", "b*", "c", "@a", "@b"];
        for base in all {
            for host in all {
                assert_eq!(word(base, host, base), "already", "nothing was accepted");
                for accepted in all {
                    let got = word(base, host, accepted);
                    if base == host && accepted != base {
                        assert_eq!(got, if accepted == "-" { "delete" } else { accepted });
                    }
                    // The merge is symmetric unless it requires a decision.
                    if got != "already" && got != "delete" && !got.starts_with(char::is_uppercase) {
                        let other = word(base, accepted, host);
                        assert!(other == got || accepted == got && other == "already", "{base} {host} {accepted}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_a_file_system_does_not_have_is_not_compared() {
        let plain = FsCapabilities { file_mode: false, symlinks: false };
        let decide = |b, h, a| merge_entry(version(b).as_ref(), version(h).as_ref(), version(a).as_ref(), plain);
        assert_eq!(decide("a*", "a", "b*"), Resolution::Write(version("b*").expect("a file")));
        assert_eq!(decide("a", "a", "a*"), Resolution::Unchanged);
        assert_eq!(decide("@a", "a", "@b"), Resolution::Write(version("@b").expect("a link")));
    }
}
