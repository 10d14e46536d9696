//! Examples of each command, for `--help` and the manual.

/// A task, and the command that does it.
type Example = (&'static str, &'static str);

const OVERVIEW: &[Example] = &[
    ("Run Claude Code in a sandbox, then review what it changed", "airlock"),
    ("Let it finish a task by itself, and apply what you accept", "airlock claude -p 'fix the failing test'"),
    ("Decide, line by line, what reaches your files", "airlock review"),
    ("Try a command that may break everything", "airlock run -- make install"),
    ("Go back to what was there before the last apply", "airlock undo"),
];

const OF_COMMANDS: &[(&str, &[Example])] = &[
    (
        "claude",
        &[
            ("With a memory limit, and a host that it may reach", "airlock --memory 4g --allow example.org claude"),
            ("With the work that is not committed yet", "airlock --uncommitted=all claude"),
        ],
    ),
    (
        "run",
        &[
            ("Without a network", "airlock run -- cargo test --offline"),
            ("With packages, and a file that git ignores", "airlock run --net packages --include .env -- npm test"),
            ("On another machine", "airlock --engine ssh://build-box run -- make"),
        ],
    ),
    (
        "shell",
        &[
            ("In a new sandbox", "airlock shell --net packages"),
            ("Look around in an existing one", "airlock shell calm-otter"),
        ],
    ),
    (
        "resume",
        &[
            ("Continue the conversation", "airlock resume calm-otter"),
            ("Send your comments and rejections", "airlock resume calm-otter --feedback"),
        ],
    ),
    (
        "diff",
        &[
            ("One directory", "airlock diff calm-otter -- src/"),
            ("A page for a browser", "airlock diff calm-otter --html changes.html"),
            ("For a script: status 3 if there are changes", "airlock diff --exit-code --name-only"),
        ],
    ),
    (
        "edit",
        &[
            ("All files that changed", "airlock edit calm-otter"),
            ("One file, as the agent has it now", "airlock edit calm-otter src/greet.py"),
        ],
    ),
    (
        "review",
        &[
            ("Without the full screen", "airlock review calm-otter --plain"),
            ("Answer an editor's requests", "airlock review calm-otter --json-rpc"),
            ("Take the decisions to another machine", "airlock review calm-otter --export decisions.json"),
        ],
    ),
    (
        "apply",
        &[
            ("What the review accepted", "airlock apply calm-otter"),
            ("One directory, without its lock file", "airlock apply --accept src/ --reject src/Cargo.lock"),
            (
                "Everything, as a commit on a new branch",
                "airlock apply --accept-all --to branch:greeting -m 'Greet by name'",
            ),
        ],
    ),
    ("undo", &[("The last apply of a sandbox", "airlock undo calm-otter"), ("An earlier one", "airlock undo --list")]),
    ("ls", &[("All agents of all repositories, up to date", "airlock ls --all --watch")]),
    ("attach", &[("The only running one", "airlock attach")]),
    ("log", &[("Hosts that were refused", "airlock log calm-otter --denied")]),
    ("allow", &[("In this sandbox and in all later ones", "airlock allow calm-otter example.org --always")]),
    ("port", &[("Open a development server in your browser", "airlock port calm-otter 3000")]),
    (
        "bring",
        &[
            ("A branch that the agent left", "airlock bring calm-otter feature"),
            ("A file that git ignores", "airlock bring calm-otter --include notes.local"),
        ],
    ),
    ("rm", &[("Without a question", "airlock rm --force calm-otter brave-heron")]),
    ("gc", &[("Only look", "airlock gc --dry-run")]),
    (
        "image",
        &[
            ("With the tools that this repository asks for", "airlock image build --project"),
            ("With packages of the distribution", "airlock image build --with ripgrep,postgresql-client"),
        ],
    ),
    ("config", &[("Where each value comes from", "airlock config show --origin")]),
    (
        "completions",
        &[
            (
                "For bash, for this user",
                "airlock completions bash > ~/.local/share/bash-completion/completions/airlock",
            ),
            ("For zsh, in a directory of $fpath", "airlock completions zsh > ~/.zfunc/_airlock"),
            ("For fish", "airlock completions fish > ~/.config/fish/completions/airlock.fish"),
        ],
    ),
    (
        "man",
        &[
            ("The page of a command", "airlock man apply"),
            ("All pages, where man finds them", "airlock man --write ~/.local/share/man/man1"),
        ],
    ),
];

/// Adds the examples to the long help of each command.
pub(super) fn add_examples(command: clap::Command) -> clap::Command {
    let overview = format_examples(OVERVIEW);
    let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let command = command.after_long_help(format!("{overview}\n\n{notes}"));
    OF_COMMANDS.iter().fold(command, |command, (name, examples)| {
        command.mut_subcommand(name, |sub| {
            let notes = sub.get_after_help().map(|notes| format!("\n\n{notes}")).unwrap_or_default();
            sub.after_long_help(format_examples(examples) + &notes)
        })
    })
}

fn format_examples(examples: &[Example]) -> String {
    let lines = examples.iter().map(|(task, command)| format!("  {task}:\n    {command}"));
    std::iter::once("Examples:".to_owned()).chain(lines).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::super::args::Cli;
    use super::super::split_args;
    use super::*;

    /// Splits a command line without substitutions, as a shell does.
    fn split_words(line: &str) -> Vec<std::ffi::OsString> {
        let line = line.split(" > ").next().expect("a command");
        let mut words = vec![String::new()];
        let mut quoted = false;
        for c in line.chars() {
            match c {
                '\'' => quoted = !quoted,
                ' ' if !quoted => words.push(String::new()),
                c => words.last_mut().expect("a word").push(c),
            }
        }
        words.into_iter().map(Into::into).collect()
    }

    #[test]
    fn every_example_is_accepted() {
        for (task, line) in OVERVIEW.iter().chain(OF_COMMANDS.iter().flat_map(|(_, examples)| *examples)) {
            let (ours, _) = split_args(split_words(line));
            let parsed = Cli::try_parse_from(ours);
            assert!(parsed.is_ok(), "{task}: {line}: {}", parsed.expect_err("it failed"));
        }
    }

    #[test]
    fn examples_belong_to_commands() {
        let command = Cli::command();
        for (name, _) in OF_COMMANDS {
            assert!(command.find_subcommand(name).is_some(), "{name}");
        }
    }
}
