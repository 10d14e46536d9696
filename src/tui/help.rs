//! The key bindings.

/// Groups of keys with their descriptions, as the help and the documentation list them.
pub const KEYS: [(&str, &[(&str, &str)]); 6] = [
    (
        "Decide",
        &[
            ("y", "accept, and go on to what is undecided next"),
            ("n", "reject, and go on"),
            ("Space", "toggle: accepted, rejected, undecided"),
            ("v", "begin a range of lines"),
            ("a  d", "accept, reject all that is undecided in this file"),
            ("A  D", "accept, reject all that is undecided (asks; high risk stays)"),
            ("u  Ctrl-r", "undo, redo, back to where this session began"),
        ],
    ),
    (
        "Change and say",
        &[
            ("s", "split the hunk above the line; again: join it"),
            ("e", "edit the hunk's result in your editor"),
            ("E", "look at the agent's file in your editor"),
            ("c", "comment on the hunk or line"),
            ("R", "send comments and rejections to the agent, for another round"),
        ],
    ),
    (
        "Move",
        &[
            ("h l ← →", "files, hunks, lines"),
            ("j k ↓ ↑", "down, up"),
            ("[  ]", "previous, next hunk"),
            ("{  }", "previous, next file"),
            ("g  G", "first, last of the file"),
            ("PgUp PgDn", "by a page"),
            ("<  >", "to the side, in long lines"),
        ],
    ),
    (
        "Find",
        &[
            ("/", "search in changed lines and paths"),
            ("Ctrl-n Ctrl-p", "next, previous"),
            ("f", "show only: undecided, risky, conflict, commented, new, a glob"),
            ("o", "order: risk, path, size"),
        ],
    ),
    (
        "Show",
        &[
            ("z", "fold, unfold the file"),
            ("b", "hide hunks that change nothing but blanks"),
            ("|", "old and new beside each other"),
            ("W", "wrap long lines, or cut them at the edge"),
            ("m", "dim lines that have only moved"),
            ("+  -", "more, less context"),
            ("p", "the file with what is accepted"),
        ],
    ),
    (
        "End",
        &[
            ("w", "what an apply would do; then apply"),
            ("q", "save and leave"),
            ("Q", "discard the draft (asks)"),
            ("Ctrl-z", "to the shell and back (fg)"),
            ("?", "this help"),
        ],
    ),
];
