//! Checks that `docs/commands.md` is what the definition of the command line says. With `AIRLOCK_UPDATE_BOOK=1`, the page is
//! written instead.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::args::cli_definition;
use super::commands::man::{EXIT_STATUS, FILES};

const INTRODUCTION: &str = "\
# Commands

This page is made from the definition of the command line; a test compares them. `airlock COMMAND --help` and `airlock man COMMAND` print the
same.

";

/// Returns a text for a cell of a table.
fn table_cell(text: &str) -> String {
    text.trim().replace("\n\n", "<br>").replace('\n', " ").replace('|', "\\|")
}

/// Returns the forms of an option, or the name of an argument.
fn arg_label(arg: &Arg) -> String {
    let value = arg.get_value_names().filter(|_| arg.get_action().takes_values()).map(|names| names[0].to_string());
    if arg.is_positional() {
        return format!("`{}`", table_cell(&value.unwrap_or_else(|| arg.get_id().to_string())));
    }
    let is_optional = arg.get_num_args().is_some_and(|range| range.min_values() == 0);
    let value = match value {
        Some(value) if is_optional => format!("[={value}]"),
        Some(value) => format!(" {value}"),
        None => String::new(),
    };
    let short = arg.get_short().map(|short| format!("-{short}"));
    let long = arg.get_long().map(|long| format!("--{long}"));
    let forms: Vec<String> = short.into_iter().chain(long).collect();
    let (last, others) = forms.split_last().expect("an option has a form");
    let others: String = others.iter().map(|form| format!("`{form}`, ")).collect();
    format!("{others}`{}`", table_cell(&format!("{last}{value}")))
}

/// Returns the description of an argument, with the values that it can have.
fn arg_help(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let values = arg.get_possible_values();
    let names: Vec<String> = values.iter().map(|value| format!("`{}`", value.get_name())).collect();
    if arg.is_hide_possible_values_set() || names.is_empty() || !arg.get_action().takes_values() {
        return table_cell(&help);
    }
    format!("{}: {}", table_cell(&help), names.join(", "))
}

/// Appends a table of arguments.
fn add_args<'a>(page: &mut String, args: impl Iterator<Item = &'a Arg>) {
    let mut rows = String::new();
    for arg in args {
        let _ = writeln!(rows, "| {} | {} |", arg_label(arg), arg_help(arg));
    }
    if !rows.is_empty() {
        *page += &format!("| | |\n|---|---|\n{rows}\n");
    }
}

/// Appends a command and those below it.
fn add_command(page: &mut String, command: &Command, name: &str, root: &Command) {
    let about = command.get_long_about().or_else(|| command.get_about()).map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let about = about.trim_end_matches('.');
    let _ = write!(page, "## {name}\n\n{about}.\n\n```\n{usage}\n```\n\n");
    // `resume` has the options without some of their defaults.
    let head = |arg: &Arg| arg_help(arg).split(['[', '<']).next().map(|text| text.trim().to_owned());
    let is_same = |arg: &Arg, other: &Arg| arg.get_long() == other.get_long() && head(arg) == head(other);
    let is_shared = |arg: &&Arg| !arg.is_positional() && root.get_arguments().any(|other| is_same(arg, other));
    let own = |arg: &&Arg| !arg.is_hide_set() && !is_shared(arg);
    add_args(page, command.get_arguments().filter(own).filter(|arg| arg.is_positional()));
    add_args(page, command.get_arguments().filter(own).filter(|arg| !arg.is_positional()));
    let shared = command.get_arguments().filter(|arg| is_shared(arg) && !arg.is_global_set() && !arg.is_hide_set());
    let shared: Vec<String> = shared.filter_map(|arg| arg.get_long().map(|long| format!("`--{long}`"))).collect();
    if shared.iter().any(|name| name != "`--help`") {
        let shared: Vec<_> = shared.into_iter().filter(|name| name != "`--help`").collect();
        let _ = write!(page, "It has these [options of a sandbox](#options-of-a-sandbox): {}.\n\n", shared.join(", "));
    }
    add_notes(page, command);
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        add_command(page, sub, &format!("{name} {}", sub.get_name()), root);
    }
}

/// Appends the examples and notes of a command.
fn add_notes(page: &mut String, command: &Command) {
    let notes = command.get_after_long_help().or_else(|| command.get_after_help()).map(ToString::to_string);
    let notes = notes.unwrap_or_default();
    let (examples, rest) = match notes.strip_prefix("Examples:\n") {
        Some(examples) => examples.split_once("\n\n").unwrap_or((examples, "")),
        None => ("", notes.as_str()),
    };
    let mut lines = examples.lines();
    while let (Some(task), Some(line)) = (lines.next(), lines.next()) {
        let _ = write!(page, "{}\n\n```\n{}\n```\n\n", task.trim(), line.trim());
    }
    if !rest.is_empty() {
        let _ = write!(page, "{}\n\n", rest.trim());
    }
}

fn render_reference() -> String {
    let mut root = cli_definition().disable_help_subcommand(true);
    root.build();
    let mut page = INTRODUCTION.to_owned();
    page += "| command | |\n|---|---|\n";
    let mut visible: Vec<&Command> = root.get_subcommands().filter(|command| !command.is_hide_set()).collect();
    visible.sort_by_key(|command| command.get_display_order());
    for command in &visible {
        let name = format!("airlock {}", command.get_name());
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = writeln!(page, "| [`{name}`](#{}) | {} |", name.replace(' ', "-"), table_cell(&about));
    }
    page += "\n## Examples\n\n";
    add_notes(&mut page, &root);
    page += "## Options of a sandbox\n\nThey come before the word `claude`, or after `run` and `shell`.\n\n";
    let (general, sandbox): (Vec<_>, Vec<_>) = root
        .get_arguments()
        .filter(|arg| !arg.is_hide_set() && arg.get_id() != "version")
        .partition(|arg| arg.is_global_set() || arg.get_id() == "help");
    add_args(&mut page, sandbox.into_iter());
    page += "## Options of every command\n\n";
    add_args(&mut page, general.into_iter());
    page += "`airlock --version` prints the version.\n\n";
    for command in visible {
        add_command(&mut page, command, &format!("airlock {}", command.get_name()), &root);
    }
    for (title, rows) in [("Exit status", EXIT_STATUS), ("Files", FILES)] {
        let _ = write!(page, "## {title}\n\n| | |\n|---|---|\n");
        for (term, text) in rows {
            let _ = writeln!(page, "| `{term}` | {} |", table_cell(text));
        }
        page.push('\n');
    }
    format!("{}\n", page.trim_end())
}

#[test]
fn page_of_commands_is_up_to_date() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/commands.md");
    let page = render_reference();
    if std::env::var_os("AIRLOCK_UPDATE_BOOK").is_some() {
        #[expect(clippy::disallowed_methods, reason = "the test writes the documentation on request")]
        std::fs::write(&path, &page).expect("written");
        return;
    }
    let written = std::fs::read_to_string(&path).expect("the page exists");
    assert_eq!(page, written, "to update the page, set AIRLOCK_UPDATE_BOOK=1");
}

/// The table of settings has their defaults, and options that exist.
#[test]
fn table_of_settings_has_defaults_and_options() {
    let page = include_str!("../../docs/settings.md");
    let root = cli_definition();
    let exists = |flag: &str| root.get_arguments().any(|arg| arg.get_long() == flag.strip_prefix("--"));
    for info in crate::config::SETTINGS {
        let start = format!("| `{}` |", info.name);
        let row = page.lines().find(|line| line.starts_with(&start)).expect("a row of each setting");
        let cells: Vec<&str> = row.split('|').skip(1).map(|cell| cell.trim_matches([' ', '`'])).collect();
        assert!(cells[1].is_empty() || exists(cells[1]), "{row}");
        let is_flag = root.get_arguments().any(|arg| arg.get_long() == Some(info.name));
        assert_eq!(is_flag, !cells[1].is_empty(), "{row}");
        let default = info.sample.trim_matches('"');
        assert!(info.kind != "default" || cells[2] == default, "the default is {default}: {row}");
    }
}
