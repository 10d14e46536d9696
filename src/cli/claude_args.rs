//! Reads the arguments of Claude Code as far as they concern this machine: subcommands that change it, conversations to
//! continue, and options that name files.

/// The options that take one value.
const VALUE_OPTIONS: [&str; 32] = [
    "--advisor",
    "--channels",
    "--max-thinking-tokens",
    "--plugin-dir-no-mcp",
    "--prefill",
    "--remote-control-session-name-prefix",
    "--task-budget",
    "--thinking",
    "--agent",
    "--agents",
    "--append-system-prompt",
    "--append-system-prompt-file",
    "--debug-file",
    "--effort",
    "--fallback-model",
    "--input-format",
    "--json-schema",
    "--max-budget-usd",
    "--max-turns",
    "--model",
    "--name",
    "-n",
    "--output-format",
    "--permission-mode",
    "--permission-prompt-tool",
    "--plugin-dir",
    "--plugin-url",
    "--session-id",
    "--setting-sources",
    "--settings",
    "--system-prompt",
    "--system-prompt-file",
];
/// The options that take all values up to the next option.
const LIST_OPTIONS: [&str; 9] = [
    "--add-dir",
    "--allowed-tools",
    "--allowedTools",
    "--betas",
    "--disallowed-tools",
    "--disallowedTools",
    "--file",
    "--mcp-config",
    "--tools",
];
/// The options whose value may be missing.
const OPTIONAL_VALUE_OPTIONS: [&str; 9] =
    ["--debug", "-d", "--from-pr", "--prompt-suggestions", "--remote-control", "--resume", "-r", "--worktree", "-w"];
/// Subcommands that concern the installation, the login and the configuration on this machine.
const MACHINE_COMMANDS: [&str; 11] = [
    "auth",
    "auto-mode",
    "doctor",
    "install",
    "mcp",
    "plugin",
    "plugins",
    "project",
    "setup-token",
    "update",
    "upgrade",
];
/// Subcommands that would start agents or give others access to this machine, with the reason.
const REFUSED_COMMANDS: [(&str, &str); 8] = [
    ("agents", "its agents would run on this machine, outside a sandbox"),
    ("config", "Claude Code no longer has it: use /config in a conversation, or edit settings.json"),
    ("gateway", "it is a server of this machine"),
    ("login", "Claude Code calls it `claude auth login`"),
    ("logout", "Claude Code calls it `claude auth logout`"),
    ("migrate-installer", "Claude Code no longer has it: use `claude install`"),
    ("remote-control", "its agents would run on this machine, outside a sandbox"),
    ("ultrareview", "it uploads the repository"),
];
/// Options that start a conversation. With one of them, Claude Code takes a subcommand for a prompt.
const CONVERSATION_OPTIONS: [&str; 8] = ["--bg", "--background", "-c", "--continue", "-p", "--print", "-r", "--resume"];
/// Options that need a program of this machine, with the reason.
const REFUSED_OPTIONS: [(&str, &str); 6] = [
    ("--background", "a sandbox ends with the command that it was started for; start another terminal"),
    ("--bg", "a sandbox ends with the command that it was started for; start another terminal"),
    ("--chrome", "a sandbox cannot reach the browser of this machine"),
    ("--ide", "a sandbox cannot reach the editor of this machine"),
    ("--remote-control", "the conversation would be controlled from outside"),
    ("--teleport", "a sandbox has its own conversations"),
];

/// Options without a value of Claude Code that people type by themselves.
const PLAIN_OPTIONS: [&str; 5] = ["--dangerously-skip-permissions", "--verbose", "--fork-session", "--ide", "--bare"];

/// Returns the known options of Claude Code, some of them more than once.
pub(super) fn claude_options() -> impl Iterator<Item = &'static str> {
    let lists: [&[&'static str]; 5] =
        [&VALUE_OPTIONS, &LIST_OPTIONS, &OPTIONAL_VALUE_OPTIONS, &CONVERSATION_OPTIONS, &PLAIN_OPTIONS];
    lists.into_iter().flatten().copied()
}

/// Returns whether an option is known to belong to Claude Code.
pub(super) fn is_claude_option(name: &str) -> bool {
    claude_options().any(|option| option == name)
}

/// An option that names a file or a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileOption {
    /// A file, or JSON itself.
    JsonOrFile,
    /// The same, with settings.
    Settings,
    File,
    Directory,
    /// A directory or an archive.
    Any,
}

fn file_option(name: &str) -> Option<FileOption> {
    Some(match name {
        "--mcp-config" => FileOption::JsonOrFile,
        "--settings" => FileOption::Settings,
        "--append-system-prompt-file" | "--system-prompt-file" => FileOption::File,
        "--add-dir" => FileOption::Directory,
        "--plugin-dir" => FileOption::Any,
        _ => return None,
    })
}

/// A value of an argument list: the index of its word, and where it begins there (after `--option=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Value {
    pub index: usize,
    pub start: usize,
}

impl Value {
    /// Returns the value's part of its word.
    pub(crate) fn value_text(self, args: &[String]) -> &str {
        &args[self.index][self.start..]
    }
}

/// The arguments of Claude Code, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ClaudeArgs {
    /// The subcommand. Only the first word can be one: behind an option, Claude Code may take it for a prompt.
    pub subcommand: Option<String>,
    pub is_version: bool,
    pub is_help: bool,
    /// Whether the last conversation is to be continued.
    pub continues: bool,
    /// The conversation to resume; `Some(None)` for one to choose.
    pub resumes: Option<Option<String>>,
    /// The option that cannot be used, with the reason.
    pub refused: Option<(String, &'static str)>,
    /// Values that name files.
    pub files: Vec<(FileOption, Value)>,
    /// The prompt, if there is one.
    pub prompt: Option<Value>,
    /// The indices of the words that choose a conversation.
    conversation_words: Vec<usize>,
}

fn is_subcommand(word: &str) -> bool {
    MACHINE_COMMANDS.contains(&word) || REFUSED_COMMANDS.iter().any(|(command, _)| *command == word)
}

/// Writes letters behind one dash as options of their own, and their value as a word: `-pc` as `-p -c`, `-rID` as `-r ID`.
pub(crate) fn split_letters(args: Vec<String>) -> Vec<String> {
    if args.first().is_some_and(|word| is_subcommand(word)) {
        return args;
    }
    let mut found: Vec<String> = Vec::new();
    let mut is_literal = false;
    for arg in args {
        let is_value = found.last().is_some_and(|last| VALUE_OPTIONS.contains(&last.as_str()));
        is_literal |= !is_value && arg == "--";
        let letters = arg.strip_prefix('-').filter(|letters| !is_literal && !is_value && !letters.starts_with('-'));
        match letters.and_then(list_letters) {
            Some(words) => found.extend(words),
            None => found.push(arg),
        }
    }
    found
}

/// Returns the options of several letters, or `None` if one of them is unknown.
fn list_letters(letters: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    for (at, letter) in letters.char_indices() {
        words.push(format!("-{letter}"));
        match letter {
            'p' | 'c' | 'v' | 'h' => {}
            // The rest is the value.
            'n' | 'r' | 'd' | 'w' => {
                let rest = letters[at + 1..].trim_start_matches('=');
                words.extend((!rest.is_empty()).then(|| rest.to_owned()));
                return Some(words);
            }
            _ => return None,
        }
    }
    (words.len() > 1).then_some(words)
}

impl ClaudeArgs {
    /// Reads the arguments. Unknown options are taken as ones without a value.
    pub(crate) fn parse_args(args: &[String]) -> Self {
        let mut found = Self::default();
        if let Some(word) = args.first().filter(|word| is_subcommand(word)) {
            found.subcommand = Some(word.clone());
            return found;
        }
        let mut index = 0;
        while let Some(arg) = args.get(index) {
            let value_at = index;
            index += 1;
            if arg == "--" {
                found.add_positional(args, index);
                break;
            }
            if !arg.starts_with('-') || arg == "-" {
                found.add_positional(args, value_at);
                continue;
            }
            let (name, inline) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(Value { index: value_at, start: arg.len() - value.len() })),
                None => (arg.as_str(), None),
            };
            found.read_flag(name);
            let is_option = |at: usize| args.get(at).is_none_or(|next| next.starts_with('-'));
            let mut values: Vec<Value> = inline.into_iter().collect();
            if values.is_empty() {
                let next = Value { index, start: 0 };
                if VALUE_OPTIONS.contains(&name) && index < args.len()
                    || OPTIONAL_VALUE_OPTIONS.contains(&name) && !is_option(index)
                {
                    values.push(next);
                    index += 1;
                } else if LIST_OPTIONS.contains(&name) {
                    while !is_option(index) {
                        values.push(Value { index, start: 0 });
                        index += 1;
                    }
                }
            }
            if let Some(kind) = file_option(name) {
                found.files.extend(values.iter().map(|value| (kind, *value)));
            }
            if matches!(name, "-c" | "--continue" | "-r" | "--resume") {
                found.conversation_words.extend(value_at..index);
            }
            if matches!(name, "-r" | "--resume") {
                found.resumes = Some(values.first().map(|value| value.value_text(args).to_owned()));
            }
        }
        found
    }

    fn read_flag(&mut self, name: &str) {
        match name {
            "-v" | "--version" => self.is_version = true,
            "-h" | "--help" => self.is_help = true,
            "-c" | "--continue" => self.continues = true,
            _ => {}
        }
        if let Some((option, reason)) = REFUSED_OPTIONS.iter().find(|(option, _)| *option == name) {
            self.refused.get_or_insert(((*option).to_owned(), reason));
        }
    }

    fn add_positional(&mut self, args: &[String], index: usize) {
        if index < args.len() && self.prompt.is_none() {
            self.prompt = Some(Value { index, start: 0 });
        }
    }

    /// Returns the arguments without those that choose a conversation.
    pub(crate) fn without_conversation(&self, args: &[String]) -> Vec<String> {
        let kept = args.iter().enumerate().filter(|(index, _)| !self.conversation_words.contains(index));
        kept.map(|(_, arg)| arg.clone()).collect()
    }

    /// Returns the reason why a subcommand is not run on this machine, or `None` if it is.
    pub(crate) fn subcommand_obstacle(&self, args: &[String]) -> Option<&'static str> {
        let name = self.subcommand.as_ref()?;
        let own = args.iter().take_while(|word| *word != "--");
        if own.clone().any(|word| CONVERSATION_OPTIONS.contains(&word.as_str())) {
            return Some("with such options it is a conversation, which would run outside a sandbox");
        }
        if name == "mcp" && own.skip(1).any(|word| word == "serve") {
            return Some("it would give other programs access to this machine");
        }
        REFUSED_COMMANDS.iter().find(|(command, _)| command == name).map(|(_, reason)| *reason)
    }

    /// Returns whether a subcommand needs the current directory. All others run in `/`, because Claude Code starts programs
    /// that the files of a project name.
    pub(crate) fn needs_directory(&self, args: &[String]) -> bool {
        let changes = ["add", "add-from-claude-desktop", "add-json", "remove", "reset-project-choices"];
        match self.subcommand.as_deref() {
            Some("project") => true,
            Some("mcp") => args.get(1).is_some_and(|next| changes.contains(&next.as_str())),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> (ClaudeArgs, Vec<String>) {
        let args = split_letters(line.split(' ').map(str::to_owned).collect());
        (ClaudeArgs::parse_args(&args), args)
    }

    #[test]
    fn values_are_told_from_options_and_prompts() {
        let (found, args) = parse("-p --model opus --mcp-config a.json {\"x\":1} --settings=s.json -- -c");
        assert!(!found.continues && !found.is_version);
        let texts: Vec<&str> = found.files.iter().map(|(_, value)| value.value_text(&args)).collect();
        assert_eq!(texts, ["a.json", "{\"x\":1}", "s.json"]);
        assert_eq!(found.prompt.map(|value| value.value_text(&args)), Some("-c"));
        let (found, args) = parse("--append-system-prompt --version -p hi");
        assert!(!found.is_version);
        assert_eq!(found.prompt.map(|value| value.value_text(&args)), Some("hi"));
        assert!(parse("--version").0.is_version && parse("-p -h").0.is_help);
        let (found, args) = parse("--add-dir ../a ../b -p x");
        assert_eq!(found.files.iter().map(|(_, value)| value.value_text(&args)).collect::<Vec<_>>(), ["../a", "../b"]);
    }

    #[test]
    fn letters_behind_one_dash_are_options() {
        let split = |line: &str| split_letters(line.split(' ').map(str::to_owned).collect()).join(" ");
        assert_eq!(split("-pc again"), "-p -c again");
        assert_eq!(split("-p -r0c1d-v again"), "-p -r 0c1d-v again");
        assert_eq!(split("-dapi,hooks -p"), "-d api,hooks -p");
        assert_eq!(split("-n=x -w"), "-n x -w");
        for unchanged in ["-p x", "-xyz", "--append-system-prompt -pc y", "-- -pc", "mcp add x -pc", "-"] {
            assert_eq!(split(unchanged), unchanged);
        }
        let (found, args) = parse("-pc again");
        assert!(found.continues && !found.is_version);
        assert_eq!(found.without_conversation(&args), ["-p", "again"]);
        assert!(!parse("-dcache x").0.continues);
    }

    #[test]
    fn conversations_are_found() {
        assert!(parse("-c -p again").0.continues);
        assert_eq!(parse("--resume").0.resumes, Some(None));
        assert_eq!(parse("--resume -p again").0.resumes, Some(None));
        assert_eq!(parse("-r abc again").0.resumes, Some(Some("abc".into())));
        assert_eq!(parse("--resume=abc").0.resumes, Some(Some("abc".into())));
        assert_eq!(parse("resume the work").0.resumes, None);
        let (found, args) = parse("-p -r abc again --continue");
        assert_eq!(found.without_conversation(&args), ["-p", "again"]);
    }

    #[test]
    fn subcommands_run_here_or_are_refused() {
        let obstacle = |line: &str| {
            let (found, args) = parse(line);
            (found.subcommand.is_some(), found.subcommand_obstacle(&args).is_some(), found.needs_directory(&args))
        };
        assert_eq!(obstacle("mcp list"), (true, false, false));
        assert_eq!(obstacle("mcp add x -- npx -p y"), (true, false, true));
        assert_eq!(obstacle("auth login"), (true, false, false));
        for refused in ["mcp serve", "mcp --debug serve", "agents", "login", "update -p x", "doctor --bg", "config"] {
            assert_eq!(obstacle(refused), (true, true, false), "{refused}");
        }
        // Behind an option, Claude Code takes the word for a prompt, so it goes into the sandbox.
        for prompt in
            ["-p update", "--max-thinking-tokens update do", "-pn update do", "--model x mcp add", "please update"]
        {
            assert!(!obstacle(prompt).0, "{prompt}");
        }
        let (found, args) = parse("-pn update do");
        assert_eq!(found.prompt.map(|value| value.value_text(&args)), Some("do"));
        assert_eq!(parse("--bg x").0.refused.map(|(name, _)| name), Some("--bg".into()));
        assert_eq!(parse("--no-chrome x").0.refused, None);
    }
}
