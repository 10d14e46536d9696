//! Tests of the HTML page in a browser, with content that tries to be more than text.

use std::path::Path;
use std::process::Command;

use airlock::changes::{Changeset, UncollectedEntry};
use airlock::render::render_page;
use airlock::review::{Action, CommentAnchor, DecisionTarget, ReviewState, update_state};
use insta::assert_snapshot;

use crate::show::sheet;
use crate::support::TestRepo;

/// Texts that would change the page or run a script if they were not escaped.
const ATTACKS: [&str; 6] = [
    "<script>document.title='obeyed'</script>",
    "\"><img src=x onerror=\"document.title='obeyed'\">",
    "'><svg onload=document.title='obeyed'>",
    "</td></table></details></style></title><iframe src=\"data:text/html,x\"></iframe>",
    "<!-- <a href=\"javascript:document.title='obeyed'\">x</a>",
    "&lt;b&gt; \u{202e}\u{1b}[2J <U+202E> \u{feff}",
];

/// Opens a page in a browser, and returns the document after all scripts have run.
fn open_in_browser(html: &str) -> String {
    let names = ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    let browser = all.into_iter().find(|file| file.is_file()).expect("a browser: scripts/browser installs one");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("page.html");
    std::fs::write(&file, html).expect("written");
    // The sandbox of the browser does not work as root. The page is made by this test.
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000", "--dump-dom"]);
    command.arg(format!("--user-data-dir={}", folder.path().join("profile").display()));
    let ran = command.arg(format!("file://{}", file.display())).output().expect("it runs");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8(ran.stdout).expect("UTF-8")
}

/// Returns the title of a document.
fn read_title(document: &str) -> &str {
    let from = document.find("<title>").expect("it has a title") + "<title>".len();
    &document[from..from + document[from..].find("</title>").expect("it ends")]
}

/// Renders a page whose content is made of attacks.
fn render_hostile_page() -> String {
    let evil = ATTACKS.join("\n") + "\n";
    let path = format!("d/{}", ATTACKS[1].replace('/', "|"));
    let sheet = sheet(
        &[(&path, Some("old\n"), Some(&evil)), ("refused", None, Some("x\n")), ("link\n</summary>", None, Some(&evil))],
        &[],
    );
    let refused = ATTACKS.map(|attack| UncollectedEntry { path: attack.into(), reason: attack.into() });
    let hidden = airlock::core::path::RepoPath::from_bytes(path.as_bytes()).expect("a path");
    let changes = Changeset {
        schema_version: 1,
        id: ATTACKS[0].into(),
        base: ATTACKS[0].into(),
        files: Vec::new(),
        rename_findings: Vec::new(),
        uncollected: refused.into(),
        ignored_by_agent_rules: vec![hidden],
        ignored: Default::default(),
        deleted: Default::default(),
    };
    let mut state = ReviewState::default();
    for (line, attack) in ATTACKS.iter().enumerate() {
        for line in [None, Some(line)] {
            let anchor = CommentAnchor::new(&sheet.files[0].units[0].id, line, None);
            state = update_state(state, sheet, Action::Comment(anchor, Some(format!("{attack}\n{attack}"))));
        }
    }
    let edit = sheet.store_text(evil.as_bytes()).expect("kept");
    let other =
        sheet.files.iter().position(|f| f.change.path.as_bytes().starts_with(b"link")).expect("the file exists");
    state = update_state(state, sheet, Action::Edit(DecisionTarget { file: other, unit: 0, lines: None }, Some(edit)));
    render_page("calm-otter", &changes, sheet, &state.decisions).expect("made")
}

#[test]
fn page_shows_agent_text_as_text() {
    let html = render_hostile_page();
    let document = open_in_browser(&html);
    assert_eq!(read_title(&document), "Airlock: calm-otter");
    for tag in ["<script", "<img", "<svg", "<iframe", "<a href=\"javascript"] {
        assert!(!document.contains(tag), "{tag}");
    }
    for hidden in ['\u{202e}', '\u{1b}', '\u{feff}'] {
        assert!(!html.contains(hidden), "{hidden:?}");
    }
    // Each attack is readable in the lines and in the comments.
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    for attack in &ATTACKS[..5] {
        assert!(document.matches(&escape(attack)).count() >= 5, "{attack}");
    }
    assert!(document.contains("&amp;lt;b&amp;gt; <i>&lt;U+202E&gt;</i><i>&lt;U+001B&gt;</i>[2J"), "it is readable");
    assert!(
        document.contains("<i>&lt;U+003C&gt;</i>U+202E&gt;"),
        "text that looks like an escape differs from an escape"
    );
}

#[test]
fn page_policy_blocks_unescaped_markup() {
    let attacks = "<script>document.title='obeyed'</script><img src=x onerror=\"document.title='obeyed'\">\
                   <style>h1 { content: 'obeyed' }</style>";
    let html = render_hostile_page().replacen("<h1>", &format!("{attacks}<h1>"), 1);
    assert_eq!(read_title(&open_in_browser(&html)), "Airlock: calm-otter");
    // Without the policy, the script runs.
    let from = html.find("<meta http-equiv").expect("the page has a policy");
    let end = from + html[from..].find('>').expect("it ends");
    let open = format!("{}{}", &html[..from], &html[end + 1..]);
    assert_eq!(read_title(&open_in_browser(&open)), "obeyed");
}

#[test]
fn page_has_everything_of_the_review() {
    let repo = TestRepo::new();
    repo.sandbox("p", "sed -i 's/two/two more/' a.txt; echo 'export X=1' > .envrc; rm c.txt; chmod +x dir/keep.txt")
        .ok();
    repo.airlock_with_input(&["review", "p", "--plain"], "c\nwhat for?\nn\nc\nbetter so\ny\n").ok();
    let file = repo.path.join("../page.html");
    let file = file.to_str().expect("UTF-8");
    assert_snapshot!(repo.airlock(&["diff", "p", "--html", file]), @"
    status: 0
    ----- stderr -----
    airlock: wrote the page to [TMP]/repo/../page.html
    ");
    assert_snapshot!(repo.airlock(&["diff", "p", "--html", file]), @"
    status: 1
    ----- stderr -----
    error: [TMP]/repo/../page.html already exists; nothing was written
    hint: to replace it, add `--force`, or use `-` for stdout
    ");
    let html = std::fs::read_to_string(Path::new(file)).expect("written");
    let document = open_in_browser(&html);
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
    assert!(!html.contains("http:") && !html.contains("https:"), "the page needs no other files");
    // The page can be limited to paths, and a page of the same changes is the same.
    let some = repo.airlock(&["diff", "p", "--html", "-", "--", "dir", "a.txt"]).ok().stdout;
    assert!(some.contains("a.txt") && some.contains("dir/keep.txt") && !some.contains(".envrc"), "{some}");
    assert_eq!(repo.airlock(&["diff", "p", "--html", "-"]).ok().stdout, html);
}

#[test]
fn page_counts_omitted_lines() {
    let (added, gone) = ("a line\n".repeat(25_000), "an old line\n".repeat(20_001));
    let sheet = sheet(&[("new", None, Some(&added)), ("gone", Some(&gone), None)], &[]);
    let changes = serde_json::json!({"schema_version": 1, "id": "x", "base": "y", "files": [], "uncollected": []});
    let changes: Changeset = serde_json::from_value(changes).expect("one");
    let html = render_page("s", &changes, sheet, &ReviewState::default().decisions).expect("made");
    assert_eq!(html.matches("<td>a line<td>").count(), 20_000);
    assert_eq!(html.matches("<td>an old line<td>").count(), 20_000);
    assert!(html.contains("… 5000 more lines (") && html.contains("… 1 more lines ("));
}

#[test]
fn diff_can_be_limited_to_paths() {
    let repo = TestRepo::new();
    repo.changeset("d", "echo x >> a.txt; echo y >> dir/keep.txt; echo z > new.txt");
    let names = |paths: &[&str]| repo.airlock(&[&["diff", "d", "--name-only", "--"], paths].concat()).ok().stdout;
    assert_eq!(names(&["a.txt", "dir"]), "a.txt\ndir/keep.txt\n");
    assert_eq!(names(&["*.txt"]), "a.txt\nnew.txt\n");
    assert_snapshot!(repo.airlock(&["diff", "d", "--patch", "--", "new.txt"]), @"
    status: 0
    ----- stdout -----
    diff --git a/new.txt b/new.txt
    new file mode 100644
    index [COMMIT]..[COMMIT]
    --- /dev/null
    +++ b/new.txt
    @@ -0,0 +1 @@
    +z
    ");
    assert_eq!(repo.airlock(&["diff", "d", "--json", "--", "dir/"]).ok().stdout.matches("\"path\"").count(), 1);
    assert_snapshot!(repo.airlock(&["diff", "d", "--", "run.sh"]), @"
    status: 1
    ----- stderr -----
    error: the path run.sh matches no changed file
    hint: to list the paths, run `airlock diff d --name-only`
    ");
    assert_snapshot!(repo.airlock(&["diff", "d", "--exit-code", "--stat", "--", "a.txt"]), @"
    status: 3
    ----- stdout -----
    modified  a.txt  +1 −0
    1 file, +1 −0
    ");
}
