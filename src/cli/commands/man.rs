//! `airlock man`: shows the manual, or writes its pages.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::Command;

use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::cli::args::cli_definition;
use crate::cli::error::CliError;
use crate::cli::output::{Output, format_count, print_stdout};
use crate::config::closest_name;

pub(crate) const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "success"),
    ("1", "failure; nothing was changed, unless the message says what was"),
    ("2", "wrong usage (125 for claude, run, shell, resume, attach)"),
    ("3", "there are changes (diff --exit-code), or findings (diff --fail-on)"),
    ("4", "conflicts; nothing was written"),
    ("5", "the selection or the working tree has changed since"),
    ("125", "claude, run, shell, resume, attach: a failure of Airlock; otherwise the status is that of the agent"),
    ("126, 127", "the agent's command cannot be run, or does not exist"),
    ("130", "interrupted"),
];

pub(crate) const FILES: &[(&str, &str)] = &[
    ("~/.config/airlock/config.toml", "settings of this user; `airlock config init` creates the file"),
    (".airlock.toml", "requests and risk rules of a repository, as committed"),
    (".git/airlock/", "sandboxes, their changes and backups; removed by `airlock rm` and `airlock gc`"),
];

/// Shows the page of a command, or writes all pages to a directory.
pub(crate) fn run_man(command: Option<&str>, directory: Option<&Path>, output: Output) -> Result<u8, CliError> {
    let pages = all_pages()?;
    if let Some(directory) = directory {
        for (name, page) in &pages {
            let path = directory.join(format!("{name}.1"));
            crate::core::atomic_file::replace_unsynced(&path, page).map_err(|error| {
                CliError::failed(format!("failed to write {}: {error}", path.display()))
                    .with_hint(format!("create the directory: `mkdir -p {}`", directory.display()))
            })?;
        }
        let place = directory.display();
        output.print_status(&format!("wrote {} to {place}", format_count(pages.len(), "page")));
        return Ok(0);
    }
    let wanted = command.map_or("airlock".to_owned(), |command| format!("airlock-{command}"));
    let Some((_, page)) = pages.iter().find(|(name, _)| *name == wanted) else {
        let named = command.unwrap_or_default();
        let failure = CliError::usage(format!("there is no command named `{named}`"));
        let known = pages.iter().filter_map(|(name, _)| name.strip_prefix("airlock-"));
        return Err(match closest_name(named, known) {
            Some(close) => failure.with_hint(format!("did you mean `airlock man {close}`?")),
            None => failure.with_hint("to list the commands, run `airlock --help`"),
        });
    };
    if io::stdout().is_terminal() && show_with_man(page).is_ok() {
        return Ok(0);
    }
    print_stdout(&String::from_utf8_lossy(page))?;
    Ok(0)
}

/// Shows a page with the program `man`.
fn show_with_man(page: &[u8]) -> io::Result<()> {
    let mut file = tempfile::Builder::new().suffix(".1").tempfile()?;
    file.write_all(page)?;
    let shown = Command::new("man").arg("--local-file").arg(file.path()).status()?;
    if shown.success() { Ok(()) } else { Err(io::Error::other("man failed")) }
}

/// Returns the name and the text of each page.
fn all_pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut root = show_all_options(cli_definition().disable_help_subcommand(true));
    root.build();
    let mut pages = vec![("airlock".to_owned(), render_page(&root, "airlock", true)?)];
    add_pages(&root, "airlock", &mut pages)?;
    Ok(pages)
}

/// Shows the options that the short help leaves out: a page would have them without their descriptions.
fn show_all_options(command: clap::Command) -> clap::Command {
    command.mut_args(|arg| arg.hide_short_help(false)).mut_subcommands(show_all_options)
}

fn add_pages(parent: &clap::Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    for command in parent.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = format!("{name}-{}", command.get_name());
        pages.push((name.clone(), render_page(command, &name, false)?));
        add_pages(command, &name, pages)?;
    }
    Ok(())
}

fn render_page(command: &clap::Command, name: &str, is_root: bool) -> io::Result<Vec<u8>> {
    let examples = command.get_after_long_help().map(ToString::to_string);
    let man = Man::new(command.clone().display_name(name.to_owned()).version(env!("CARGO_PKG_VERSION")));
    let man = man
        .title(name.to_uppercase())
        .date("")
        .manual("Airlock")
        .source(concat!("airlock ", env!("CARGO_PKG_VERSION")));
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    let mut roff = Roff::new();
    let text = examples.unwrap_or_default();
    let (examples, notes) = text.split_once("\n\n").unwrap_or((&text, ""));
    if let Some(lines) = examples.strip_prefix("Examples:\n") {
        roff.control("SH", ["EXAMPLES"]);
        for line in lines.lines() {
            match line.strip_prefix("    ") {
                Some(command) => roff.control("RS", ["4"]).text([bold(command)]).control("RE", []),
                None => roff.control("PP", []).text([roman(line.trim())]),
            };
        }
    }
    if !notes.is_empty() {
        roff.control("SH", ["NOTES"]).text([roman(notes)]);
    }
    if is_root {
        for (title, rows) in [("EXIT STATUS", EXIT_STATUS), ("FILES", FILES)] {
            roff.control("SH", [title]);
            for (term, text) in rows {
                roff.control("TP", []).text([bold(*term)]).text([roman(*text)]);
            }
        }
    } else {
        roff.control("SH", ["SEE ALSO"]).text([bold("airlock"), roman("(1)")]);
    }
    roff.to_writer(&mut page)?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page() {
        let pages = all_pages().expect("rendered");
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        for name in ["airlock", "airlock-apply", "airlock-image-build", "airlock-completions"] {
            assert!(names.contains(&name), "{name} is not in {names:?}");
        }
        let run = pages.iter().find(|(name, _)| name == "airlock-run").expect("it has a page");
        assert!(String::from_utf8_lossy(&run.1).contains("\nLimit memory, e.g. 4g"), "{run:?}");
        for (name, page) in &pages {
            let page = String::from_utf8(page.clone()).expect("UTF-8");
            for section in ["NAME", "SYNOPSIS", "DESCRIPTION"] {
                assert!(page.contains(&format!(".SH {section}\n")), "{name} has no {section}");
            }
        }
    }
}
