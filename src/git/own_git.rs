//! Asks the user's own git for the user's identity and for its trust in a repository.
//!
//! Its answers take precedence: libgit2 supports neither every condition of `includeIf` nor every form of
//! `safe.directory`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::error::SnapshotError;

/// A name and an email address, as on a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub name: String,
    pub email: String,
}

/// The role of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdentityRole {
    Author,
    Committer,
}

/// Returns the identity that git would put on a commit in this directory, or `None` if git does not know one.
#[must_use]
pub(crate) fn read_identity(dir: &Path, role: IdentityRole) -> Option<Identity> {
    let variable = match role {
        IdentityRole::Author => "GIT_AUTHOR_IDENT",
        IdentityRole::Committer => "GIT_COMMITTER_IDENT",
    };
    let out = Command::new("git").args(["var", variable]).current_dir(dir).output().ok()?;
    out.status.success().then(|| parse_identity(&String::from_utf8_lossy(&out.stdout))).flatten()
}

/// Parses `Name <address> seconds zone`.
fn parse_identity(text: &str) -> Option<Identity> {
    let (name, rest) = text.split_once(" <")?;
    let (email, _) = rest.rsplit_once('>')?;
    let is_known = !name.is_empty() && !email.is_empty();
    is_known.then(|| Identity { name: name.to_owned(), email: email.to_owned() })
}

/// Checks that git would use the repository around `from`, whose files belong to another user.
///
/// # Errors
/// [`SnapshotError::Untrusted`] with the directory that git would have to trust.
pub(crate) fn check_trust(from: &Path, root: &Path) -> Result<(), SnapshotError> {
    let out = Command::new("git").args(["rev-parse", "--git-dir"]).current_dir(from).output();
    if out.is_ok_and(|out| out.status.success()) { Ok(()) } else { Err(SnapshotError::Untrusted(root.to_owned())) }
}

/// Checks that `GIT_DIR` and `GIT_WORK_TREE` do not name another repository than the one around the current directory.
///
/// # Errors
/// [`SnapshotError::OtherRepository`].
pub(crate) fn check_environment(root: &Path, git_dir: &Path) -> Result<(), SnapshotError> {
    for (variable, ours) in [("GIT_DIR", git_dir), ("GIT_WORK_TREE", root)] {
        let Some(named) = std::env::var_os(variable).filter(|value| !value.is_empty()) else { continue };
        let named = PathBuf::from(named);
        if named.canonicalize().ok().as_deref() != Some(ours) {
            return Err(SnapshotError::OtherRepository { variable, named, here: ours.to_owned() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_parsed() {
        let identity = |name: &str, email: &str| Some(Identity { name: name.into(), email: email.into() });
        assert_eq!(parse_identity("Ann B <ann@example.org> 1700000000 +0100\n"), identity("Ann B", "ann@example.org"));
        assert_eq!(parse_identity("A <b <c@d> 1 +0000"), identity("A", "b <c@d"));
        assert_eq!(parse_identity(" <a@b> 1 +0000"), None);
        assert_eq!(parse_identity("Ann"), None);
    }
}
