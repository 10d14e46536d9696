//! The page of HTML: looked at by a browser, with content that would like to be more than text.

use std::path::Path;
use std::process::Command;

use airlock::changes::{Changeset, Refused};
use airlock::render::render_page;
use airlock::review::{Action, DecisionTarget, ReviewState, update};

use crate::show::sheet;
use crate::support::TestRepo;

/// What a page would do that is obeyed.
const DEEDS: [&str; 6] = [
    "<script>document.title='obeyed'</script>",
    "\"><img src=x onerror=\"document.title='obeyed'\">",
    "'><svg onload=document.title='obeyed'>",
    "</td></table></details></style></title><iframe src=\"data:text/html,x\"></iframe>",
    "<!-- <a href=\"javascript:document.title='obeyed'\">x</a>",
    "&lt;b&gt; \u{202e}\u{1b}[2J <U+202E> \u{feff}",
];

/// Opens a page in a browser, and gives what became of it: the document after everything that would run has run.
fn opened(html: &str) -> String {
    let names = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    let browser = all.into_iter().find(|file| file.is_file()).expect("a browser: scripts/browser installs one");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("page.html");
    std::fs::write(&file, html).expect("written");
    // Its own sandbox does not work for root; what it opens is ours.
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
    let ran = command.arg(format!("file://{}", file.display())).output().expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("UTF-8")
}

fn title(document: &str) -> &str {
    let from = document.find("<title>").expect("it has one") + "<title>".len();
    &document[from..from + document[from..].find("</title>").expect("it ends")]
}

fn hostile() -> String {
    let evil = DEEDS.join("\n") + "\n";
    let path = format!("d/{}", DEEDS[1].replace('/', "|"));
    let sheet = sheet(
        &[(&path, Some("old\n"), Some(&evil)), ("refused", None, Some("x\n")), ("link\n</summary>", None, Some(&evil))],
        &[],
    );
    let refused = DEEDS.map(|deed| Refused { path: deed.into(), reason: deed.into() });
    let hidden = airlock::core::path::RepoPath::from_bytes(path.as_bytes()).expect("a path");
    let changes = Changeset {
        schema_version: 1,
        id: DEEDS[0].into(),
        base: DEEDS[0].into(),
        files: Vec::new(),
        refused: refused.into(),
        ignored_by_agent_rules: vec![hidden],
        ignored: Default::default(),
    };
    let mut state = ReviewState::default();
    for (line, deed) in DEEDS.iter().enumerate() {
        for line in [None, Some(line)] {
            let anchor = (sheet.files[0].units[0].id.clone(), line);
            state = update(state, sheet, Action::Comment(anchor, Some(format!("{deed}\n{deed}"))));
        }
    }
    let edit = sheet.keep_text(evil.as_bytes()).expect("kept");
    let other = sheet.files.iter().position(|f| f.change.path.as_bytes().starts_with(b"link")).expect("it is there");
    state = update(state, sheet, Action::Edit(DecisionTarget { file: other, unit: 0, lines: None }, Some(edit)));
    render_page("calm-otter", &changes, sheet, &state.decisions).expect("made")
}

#[test]
fn what_an_agent_wrote_is_text_and_nothing_more() {
    let html = hostile();
    let document = opened(&html);
    assert_eq!(title(&document), "Airlock: calm-otter");
    for tag in ["<script", "<img", "<svg", "<iframe", "<a href=\"javascript"] {
        assert!(!document.contains(tag), "{tag}");
    }
    for hidden in ['\u{202e}', '\u{1b}', '\u{feff}'] {
        assert!(!html.contains(hidden), "{hidden:?}");
    }
    // And each is to be read, in the lines and in what was said.
    let read = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    for deed in &DEEDS[..5] {
        assert!(document.matches(&read(deed)).count() >= 5, "{deed}");
    }
    assert!(document.contains("&amp;lt;b&amp;gt; <i>&lt;U+202E&gt;</i><i>&lt;U+001B&gt;</i>[2J"), "it can be read");
    assert!(document.contains("<i>&lt;U+003C&gt;</i>U+202E&gt;"), "what looks like an escape is told from one");
}

#[test]
fn even_a_hole_in_the_escaping_would_come_to_nothing() {
    let deeds = "<script>document.title='obeyed'</script><img src=x onerror=\"document.title='obeyed'\">\
                 <style>h1 { content: 'obeyed' }</style>";
    let html = hostile().replacen("<h1>", &format!("{deeds}<h1>"), 1);
    assert_eq!(title(&opened(&html)), "Airlock: calm-otter");
    // It is the policy that does it.
    let from = html.find("<meta http-equiv").expect("there is one");
    let end = from + html[from..].find('>').expect("it ends");
    let open = format!("{}{}", &html[..from], &html[end + 1..]);
    assert_eq!(title(&opened(&open)), "obeyed");
}

#[test]
fn a_page_has_all_that_a_review_has() {
    let repo = TestRepo::new();
    repo.sandbox("p", "sed -i 's/two/two more/' a.txt; echo 'export X=1' > .envrc; rm c.txt; chmod +x dir/keep.txt")
        .ok();
    repo.airlock_with_input(&["review", "p", "--plain"], "c\nwhat for?\nn\nc\nbetter so\ny\n").ok();
    let file = repo.path.join("../page.html");
    let file = file.to_str().expect("UTF-8");
    let ran = repo.airlock(&["diff", "p", "--html", file]).ok();
    assert!(ran.stderr.contains("the page is in"), "{}", ran.stderr);
    repo.airlock(&["diff", "p", "--html", file]).expect_failure(1, &["is there already; nothing was written"]);
    let html = std::fs::read_to_string(Path::new(file)).expect("written");
    let document = opened(&html);
    for part in [
        "<h1>p</h1>",
        "4 files, +2 −2",
        "href=\"#f1\"",
        "! high: ",
        "● what for?",
        "● better so",
        "becomes executable",
        "deleted, 5 bytes",
        "two<mark> more</mark>",
        "1/1 decided",
    ] {
        assert!(document.contains(part) || html.contains(part), "{part}: {document}");
    }
    assert!(!html.contains("http:") && !html.contains("https:"), "it needs nothing else");
    // Only some of it, and the same page twice.
    let some = repo.airlock(&["diff", "p", "--html", "-", "--", "dir", "a.txt"]).ok().stdout;
    assert!(some.contains("a.txt") && some.contains("dir/keep.txt") && !some.contains(".envrc"), "{some}");
    assert_eq!(repo.airlock(&["diff", "p", "--html", "-"]).ok().stdout, html);
}

#[test]
fn what_a_page_has_no_room_for_is_counted() {
    let lines = |count: usize| "a line\n".repeat(count);
    let (added, gone) = (lines(25_000), lines(20_001));
    let sheet = sheet(&[("new", None, Some(&added)), ("gone", Some(&gone), None)], &[]);
    let changes = serde_json::json!({"schema_version": 1, "id": "x", "base": "y", "files": [], "refused": []});
    let changes: Changeset = serde_json::from_value(changes).expect("one");
    let html = render_page("s", &changes, sheet, &ReviewState::default().decisions).expect("made");
    assert_eq!(html.matches("<td>a line<td>").count(), 40_000);
    assert!(html.contains("… 5000 more lines here") && html.contains("… 1 more lines here"));
}

#[test]
fn a_diff_of_some_paths() {
    let repo = TestRepo::new();
    repo.changeset("d", "echo x >> a.txt; echo y >> dir/keep.txt; echo z > new.txt");
    let names = |paths: &[&str]| repo.airlock(&[&["diff", "d", "--name-only", "--"], paths].concat()).ok().stdout;
    assert_eq!(names(&["a.txt", "dir"]), "a.txt\ndir/keep.txt\n");
    assert_eq!(names(&["*.txt"]), "a.txt\nnew.txt\n");
    let patch = repo.airlock(&["diff", "d", "--patch", "--", "new.txt"]).ok().stdout;
    assert!(patch.starts_with("diff --git a/new.txt b/new.txt\nnew file mode 100644\n"), "{patch}");
    assert_eq!(repo.airlock(&["diff", "d", "--json", "--", "dir/"]).ok().stdout.matches("\"path\"").count(), 1);
    repo.airlock(&["diff", "d", "--", "run.sh"])
        .expect_failure(1, &["the path run.sh matches no changed file", "hint:"]);
    assert_eq!(repo.airlock(&["diff", "d", "--exit-code", "--stat", "--", "a.txt"]).status, 3);
}
