//! Runs the transcripts of the documentation: each `console` block of a page, in order, in one repository, with real Claude Code. The
//! output must be what the page shows. With `AIRLOCK_UPDATE_BOOK=1`, the pages are changed instead.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use regex::Regex;

use crate::claude::model;
use crate::support::model::Step;
use crate::support::{AIRLOCK, TestRepo};

/// The commit that pages show. Each run has another one.
const COMMIT: &str = "fb28a4a";

/// The repository of the pages: two committed files and an edit that is not committed.
fn greeter() -> TestRepo {
    let mut repo = TestRepo::empty();
    for name in ["README.md", "src/greet.py"] {
        repo.write(name, read(&root().join("fixtures/greeter").join(name)));
    }
    repo.commit();
    repo.git(&["config", "user.name", "Ann"]);
    repo.git(&["config", "user.email", "ann@example.org"]);
    let readme = repo.read("README.md");
    repo.write("README.md", format!("{readme}\nThis line is not committed.\n"));
    let programs = Path::new(AIRLOCK).parent().expect("a directory");
    let path = std::env::var("PATH").expect("a PATH");
    let scripts = root().join("scripts");
    repo.set("PATH", format!("{}:{}:{path}", programs.display(), scripts.display()));
    repo
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs a command as a person would at a prompt, and returns what appears, stdout and stderr in their order.
fn run_line(repo: &TestRepo, line: &str) -> String {
    let output = repo.command("bash", &["-c", &format!("exec 2>&1\n{line}")]).output().expect("bash runs");
    normalize(repo, &String::from_utf8_lossy(&output.stdout))
}

/// Replaces what differs between runs by what a page shows.
fn normalize(repo: &TestRepo, text: &str) -> String {
    static COMMITS: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bat [0-9a-f]{7}\b").expect("a pattern"));
    static AGES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(just now|\d+ (second|minute)s? ago)").expect("a pattern"));
    static BRANCHES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bat [0-9a-f]{12}\b").expect("a pattern"));
    static TIMES: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d").expect("a pattern"));
    static CI_NAMES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bci-[0-9a-f]{12}\b").expect("a pattern"));
    static BASES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bbase [0-9a-f]{16}\b").expect("a pattern"));
    static SIZES: LazyLock<Regex> = LazyLock::new(|| Regex::new(r" +\d+\.\d+ KiB").expect("a pattern"));
    let directory = repo.path.to_str().expect("UTF-8");
    let home = format!("{}/home", repo.directory().display());
    let text = text
        .replace(directory, "~/greeter")
        .replace(&format!("PATH=\"{home}"), "PATH=\"$HOME")
        .replace(&home, "~")
        .replace(AIRLOCK, "/usr/local/bin/airlock");
    let commit = repo.git(&["rev-parse", "HEAD"]);
    let text = text.replace(&commit[..12], "fb28a4aec261").replace(&commit[..7], COMMIT);
    let text = BASES.replace_all(&text, "base 0ef8675ab80b6850");
    let text = SIZES.replace_all(&text, |size: &regex::Captures<'_>| format!("{:>1$}", "28.00 KiB", size[0].len()));
    let text = COMMITS.replace_all(&text, format!("at {COMMIT}"));
    let text = BRANCHES.replace_all(&text, "at 8d2c7d1f9a04");
    let text = TIMES.replace_all(&text, "2026-12-01 09:30:00");
    let text = CI_NAMES.replace_all(&text, "ci-5d1f6c0be7a2");
    AGES.replace_all(&text, "just now").into_owned()
}

/// Runs the blocks of a page, and returns the page with the outputs.
fn run_page(repo: &TestRepo, page: &str) -> String {
    let mut result = String::new();
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        result += &format!("{line}\n");
        if line != "```console" {
            continue;
        }
        while let Some(line) = lines.next_if(|line| *line != "```") {
            // Lines without a prompt are the output of the last run.
            let Some(first) = line.strip_prefix("$ ") else { continue };
            let mut command = first.to_owned();
            result += &format!("{line}\n");
            while let Some(more) = lines.next_if(|line| line.starts_with("> ")) {
                command += &format!("\n{}", &more[2..]);
                result += &format!("{more}\n");
            }
            result += &run_line(repo, &command);
        }
    }
    result
}

/// Checks a page, or changes it if that was asked for.
fn check_page(name: &str) {
    let mut repo = greeter();
    let workspace = repo.path.to_str().expect("UTF-8").to_owned();
    let script = read(&root().join("fixtures/greeter.json")).replace("$WORKSPACE", &workspace);
    let steps: Vec<Step> = serde_json::from_str(&script).expect("a list of steps");
    let (_runtime, _model) = model(&mut repo, steps);
    let path = root().join(name);
    let page = read(&path);
    let actual = run_page(&repo, &page);
    if std::env::var_os("AIRLOCK_UPDATE_BOOK").is_some() {
        fs::write(&path, &actual).expect("written");
        return;
    }
    assert!(page.contains("\n```console\n"), "{name} has no transcript");
    let differences: Vec<_> = page.lines().zip(actual.lines()).filter(|(page, actual)| page != actual).collect();
    assert!(page == actual, "{name} shows and prints: {differences:#?}\nthe page would be:\n{actual}");
}

/// Declares a test for each page with transcripts.
macro_rules! pages {
    ($($test:ident: $page:literal,)*) => {
        const PAGES: &[&str] = &[$($page),*];

        $(#[test]
        fn $test() {
            check_page($page);
        })*
    };
}

pages! {
    page_apply: "docs/apply.md",
    page_ci: "docs/ci.md",
    page_claude: "docs/claude.md",
    page_daily: "docs/daily.md",
    page_editors: "docs/editors.md",
    page_environment: "docs/environment.md",
    page_experiments: "docs/experiments.md",
    page_network: "docs/network.md",
    page_parallel: "docs/parallel.md",
    page_review: "docs/review.md",
    page_security: "docs/security.md",
    page_start: "docs/start.md",
    page_troubleshooting: "docs/troubleshooting.md",
    page_uncommitted: "docs/uncommitted.md",
    readme: "README.md",
}

/// Each prompt in the documentation is in a transcript that is run.
#[test]
fn every_transcript_is_run() {
    let mut wrong = Vec::new();
    let mut found = Vec::new();
    for page in listed_pages() {
        let mut block = None;
        for line in read(&root().join(&page)).lines() {
            match (line.strip_prefix("```"), block) {
                (Some(kind), None) => block = Some(kind == "console"),
                (Some(_), Some(_)) => block = None,
                (None, Some(false) | None) if line.starts_with("$ ") => wrong.push(format!("{page}: {line}")),
                (None, Some(true)) if !found.contains(&page) => found.push(page.clone()),
                _ => {}
            }
        }
    }
    found.sort_by_key(|page| (page.as_str() == "README.md", page.clone()));
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(found, PAGES);
}

/// Returns the pages of the documentation, relative to the root.
fn listed_pages() -> Vec<String> {
    let args = ["ls-files", "--cached", "--others", "--exclude-standard", "*.md"];
    let pages = Command::new("git").current_dir(root()).args(args).output().expect("git runs");
    let pages = String::from_utf8(pages.stdout).expect("UTF-8");
    pages.lines().filter(|page| !page.starts_with("fixtures/")).map(str::to_owned).collect()
}

/// Checks the links of all pages: to pages, to headings, and to the files that they name.
#[test]
fn links_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").expect("a pattern");
    let named = Regex::new(r"`((?:docs|src|tests|scripts|fixtures|packaging)/[A-Za-z0-9_./-]+)`").expect("a pattern");
    let mut broken = Vec::new();
    let mut checked = 0;
    for page in listed_pages() {
        let text = read(&root().join(&page));
        let directory = Path::new(&page).parent().expect("a directory");
        for target in link.captures_iter(&text).map(|found| found.get(1).expect("a group").as_str().to_owned()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            let (file, heading) = target.split_once('#').unwrap_or((&target, ""));
            let file = if file.is_empty() { root().join(&page) } else { root().join(directory).join(file) };
            let has_heading = || heading.is_empty() || headings(&read(&file)).contains(&heading.to_owned());
            if !file.exists() || !has_heading() {
                broken.push(format!("{page}: {target}"));
            }
        }
        // The changelog also names files of the past.
        for file in named.captures_iter(&text).filter(|_| page != "CHANGELOG.md") {
            checked += 1;
            let file = file.get(1).expect("a group").as_str();
            let exists = root().join(file).exists() || root().join("src").join(file).exists();
            if !exists && !file.contains("NAME") {
                broken.push(format!("{page}: {file}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(checked > 50, "{checked} links");
}

/// Returns the anchors of a page's headings.
fn headings(page: &str) -> Vec<String> {
    let titles = page.lines().filter_map(|line| line.strip_prefix('#')).map(|line| line.trim_start_matches('#').trim());
    let keep = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | ' ');
    titles
        .map(|title| title.chars().filter(|c| keep(*c)).collect::<String>().to_lowercase().replace(' ', "-"))
        .collect()
}

/// Every page is in the book's table of contents.
#[test]
fn table_of_contents_is_complete() {
    let contents = read(&root().join("docs/SUMMARY.md"));
    for entry in fs::read_dir(root().join("docs")).expect("listed") {
        let name = entry.expect("an entry").file_name().into_string().expect("UTF-8");
        if name.ends_with(".md") && name != "SUMMARY.md" {
            assert!(contents.contains(&format!("({name})")), "{name} is not in docs/SUMMARY.md");
        }
    }
}
