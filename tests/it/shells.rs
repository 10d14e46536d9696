//! Tests of completion in real shells, and of the manual and the version.

use portable_pty::CommandBuilder;

use crate::support::{AIRLOCK, CommandOutput, TestRepo};
use crate::terminal::Terminal;

/// A repository with two sandboxes. The names of some files would be commands of a shell.
fn repo_with_sandboxes() -> TestRepo {
    let mut repo = TestRepo::new();
    let script = "echo x >> a.txt; mkdir docs; echo y > docs/new.md; echo z > 'docs/$(touch hacked)'; echo z > 'docs/;touch hacked'";
    repo.changeset("calm-otter", script);
    repo.changeset("brave-heron", "echo x > other.txt");
    let programs = std::path::Path::new(AIRLOCK).parent().expect("a directory");
    let path = std::env::var("PATH").expect("a PATH");
    repo.set("PATH", format!("{}:{path}", programs.display()));
    repo
}

/// Returns what bash offers for the last word of a line.
fn complete_in_bash(repo: &TestRepo, line: &str) -> Vec<String> {
    let words: Vec<String> = line.split(' ').map(|word| format!("'{word}'")).collect();
    let script = format!(
        "eval \"$(airlock completions bash)\"; COMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9; COMP_LINE='{line}'; \
         _clap_complete_airlock airlock {} ''; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.join(" "),
        words.len() - 1,
        words.last().expect("a word"),
    );
    let shown = CommandOutput::from_command(repo.command("bash", &["--norc", "-c", &script])).ok();
    assert_eq!(shown.stderr, "");
    shown.stdout.lines().filter(|line| !line.is_empty()).map(|line| line.trim_end().to_owned()).collect()
}

#[test]
fn bash_completes_what_this_repository_has() {
    let repo = repo_with_sandboxes();
    let offered = |line: &str| complete_in_bash(&repo, line);
    assert_eq!(offered("airlock review cal"), ["calm-otter"]);
    assert_eq!(offered("airlock rm calm-otter br"), ["brave-heron"]);
    assert_eq!(offered("airlock com"), ["completions"]);
    assert_eq!(offered("airlock run --uncom"), ["--uncommitted"]);
    assert_eq!(offered("airlock apply --on-conflict m"), ["markers"]);
    assert_eq!(offered("airlock apply calm-otter --accept docs/"), ["docs/new.md"], "no word is a command");
    assert_eq!(offered("airlock diff brave-heron -- o"), ["other.txt"]);
    assert_eq!(offered("airlock apply --accept o"), Vec::<String>::new(), "either sandbox could be meant");
    let hunks = offered("airlock apply calm-otter --accept-id ");
    let diff = repo.diff("calm-otter").to_string();
    assert!(hunks.len() == 4 && hunks.iter().all(|id| id.len() == 64 && diff.contains(id.as_str())), "{hunks:?}");
    // After the word `claude`, options are those of Claude Code.
    assert_eq!(offered("airlock claude --perm"), ["--permission-mode", "--permission-prompt-tool"]);
    assert_eq!(offered("airlock --memory 4g claude --colo"), Vec::<String>::new());
    // The names of files here are not interpreted either.
    for name in ["$(touch hacked).json", "notes.json", "no tes.json", ".hidden.json"] {
        repo.write(name, "x");
    }
    assert_eq!(offered("airlock review --import "), ["a.txt", "c.txt", "dir/", "notes.json", "run.sh"]);
    assert_eq!(offered("airlock review --import dir/"), ["dir/keep.txt"]);
    assert_eq!(offered("airlock claude --mcp-config .h"), [".hidden.json"]);
    assert_eq!(offered("airlock run --include no"), ["notes.json"]);
    assert!(!repo.path.join("hacked").exists());
}

#[test]
fn completion_outside_a_repository_is_silent() {
    let repo = repo_with_sandboxes();
    let outside = tempfile::tempdir().expect("a directory");
    let mut command = repo.command(AIRLOCK, &["--", "airlock", "review", ""]);
    command.current_dir(outside.path()).env("AIRLOCK_COMPLETE", "fish");
    let shown = CommandOutput::from_command(command).ok();
    assert!(!shown.stdout.contains("otter") && shown.stderr.is_empty(), "{shown:?}");
}

#[test]
fn fish_completes_with_descriptions() {
    let repo = repo_with_sandboxes();
    let offered = |line: &str| {
        let script = format!("airlock completions fish | source; complete -C '{line}'");
        CommandOutput::from_command(repo.command("fish", &["--no-config", "-c", &script])).ok().stdout
    };
    assert_eq!(offered("airlock review c"), "calm-otter\t4 files\n");
    assert!(offered("airlock d").contains("diff\tShow what changed, even while the agent runs\n"));
    assert_eq!(offered("airlock apply brave-heron --accept o"), "other.txt\n");
}

#[test]
fn zsh_completes_at_its_prompt() {
    let repo = repo_with_sandboxes();
    let mut command = CommandBuilder::new("zsh");
    command.args(["-f", "-i"]);
    let mut zsh = Terminal::run(&repo, command);
    // The script is evaluated, so that the compiled definitions of an earlier session have no effect.
    zsh.types("PS1='ready> '; autoload -Uz compinit && compinit -u -D && eval \"$(airlock completions zsh)\" && echo loa''ded\r");
    zsh.shows("loaded");
    zsh.types("airlock review cal\t");
    zsh.shows("ready> airlock review calm-otter");
    zsh.types("\x15airlock apply calm-otter --accept docs/\t");
    zsh.shows("ready> airlock apply calm-otter --accept docs/new.md");
    zsh.types("\x15exit\r");
    assert!(zsh.ends().success());
}

#[test]
fn manual_has_a_page_for_each_command() {
    let repo = TestRepo::new();
    let page = repo.airlock(&["man", "apply"]).ok().stdout;
    for text in [".TH AIRLOCK-APPLY 1", "airlock\\-apply \\- Apply accepted changes", "accept\\-all", ".SH EXAMPLES"] {
        assert!(page.contains(text), "{text} is missing: {page}");
    }
    assert!(repo.airlock(&["man"]).ok().stdout.contains(".SH \"EXIT STATUS\""));
    let failed = repo.airlock(&["man", "aply"]);
    assert!(failed.stderr.contains("hint: did you mean `airlock man apply`?"), "{failed:?}");
    let pages = repo.directory().join("man1");
    let pages = pages.to_str().expect("UTF-8");
    let failed = repo.airlock(&["man", "--write", pages]);
    assert!(failed.stderr.contains("hint: create the directory: `mkdir -p "), "{failed:?}");
    std::fs::create_dir(pages).expect("created");
    repo.airlock(&["man", "--write", pages]).ok();
    assert!(std::fs::read(format!("{pages}/airlock-image-build.1")).is_ok_and(|page| !page.is_empty()));
}

#[test]
fn version_is_one_line() {
    let repo = TestRepo::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(repo.airlock(&["-V"]).ok().stdout, format!("airlock {version}\n"));
    let long = repo.airlock(&["--version"]).ok().stdout;
    assert!(long.starts_with(&format!("airlock {version} (")) && long.lines().count() == 1, "{long}");
}
