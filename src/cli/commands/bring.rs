//! `airlock bring`: makes commits, a stash or a worktree of a sandbox, or its ignored files, changes like any others.
//!
//! The git of the image does it, inside the sandbox without a network. The host reads no git directory of an agent.

use crate::cli::args::BringArgs;
use crate::cli::error::CliError;
use crate::cli::ops::holdings::describe_holdings;
use crate::cli::ops::repo::Repo;
use crate::cli::ops::resume_session::ResumeOptions;
use crate::cli::ops::round::Round;
use crate::cli::ops::rounds::run_rounds;
use crate::cli::output::Output;
use crate::git::Includes;

/// Checks out a commit, a stash or the content of a worktree. The files as they were, and commits that no branch has, become
/// a branch.
const SCRIPT: &str = r#"
set -eu
exec 1>&2
cd "$1"
what=$2
export GIT_AUTHOR_NAME=airlock GIT_AUTHOR_EMAIL=airlock@localhost
export GIT_COMMITTER_NAME=airlock GIT_COMMITTER_EMAIL=airlock@localhost
command -v git > /dev/null || { echo "the image of this sandbox has no git"; exit 127; }
# Commits the files of a working tree without a change of its branch.
save() {
    git -C "$1" add --all
    git -C "$1" commit-tree "$(git -C "$1" write-tree)" -p HEAD -m "files before airlock bring"
}
# A worktree by its path, or by its name: it has what its branch has, and more.
place=$what
[ -e "$what/.git" ] || place=$(git worktree list --porcelain | sed -n 's/^worktree //p' | sed 1d | grep "/$what\$" | head -n 1)
if [ -n "$place" ] && [ -e "$place/.git" ]; then
    commit=$(save "$place")
elif ! commit=$(git rev-parse --verify --quiet --end-of-options "$what^{commit}"); then
    echo "error: the sandbox has neither a commit nor a worktree $what"
    echo "hint: it has:"
    git for-each-ref --format='  %(refname:short)  %(subject)' refs/heads
    git stash list --format='  %gd  %s'
    git worktree list | sed 1d | sed 's/^/  /'
    exit 1
fi
before=
if [ -n "$(git status --porcelain)" ]; then
    before=$(save .)
elif ! git symbolic-ref --quiet HEAD > /dev/null && [ -z "$(git for-each-ref --count=1 --contains HEAD)" ]; then
    before=$(git rev-parse HEAD)
fi
if [ -n "$before" ]; then
    n=1
    while git show-ref --quiet "refs/heads/before-bring-$n"; do n=$((n + 1)); done
    git update-ref "refs/heads/before-bring-$n" "$before"
    echo "the files as they were are the branch before-bring-$n of the sandbox"
fi
git checkout --quiet --force --detach "$commit"
# A stash keeps untracked files in a third parent.
case $what in stash*)
    if untracked=$(git rev-parse --verify --quiet "$commit^3"); then git checkout --quiet "$untracked" -- .; fi
esac
echo "airlock: the files of the sandbox are those of $what now; its HEAD is detached"
"#;

pub(crate) fn run_bring(args: BringArgs, output: Output) -> Result<u8, CliError> {
    let repo = Repo::open(output)?;
    let mut sandbox = repo.open_sandbox(Some(&args.name), "bring")?;
    sandbox.acquire_lock()?;
    let name = sandbox.record.name.clone();
    if args.what.is_none() && args.include.is_empty() {
        let ignored = sandbox.read_changeset()?.map(|changes| changes.ignored).unwrap_or_default();
        let contains = describe_holdings(&sandbox.record, &ignored, false).unwrap_or_else(|| "nothing else".into());
        return Err(CliError::usage(format!(
            "nothing to bring is named; besides its changes, {name} contains {contains}"
        ))
        .with_hint(format!("run `airlock bring {name} BRANCH`, or `airlock bring {name} --include GLOB`")));
    }
    Includes::parse_globs(&args.include)?;
    let record = &mut sandbox.record;
    record.includes.extend(args.include);
    record.includes.sort();
    record.includes.dedup();
    sandbox.save_record()?;
    let workspace = sandbox.record.workspace.clone();
    let command = match args.what {
        Some(what) => {
            let what = what.into_string();
            let what = what.map_err(|_| CliError::usage("the name of the commit or worktree is not UTF-8"))?;
            ["sh", "-c", SCRIPT, "bring", &workspace, &what].map(str::to_owned).into()
        }
        None => vec!["true".to_owned()],
    };
    let options = Box::new(ResumeOptions { command: Some(command), ..ResumeOptions::default() });
    run_rounds(&repo.host, Round::Resume { sandbox, options }, output)
}
