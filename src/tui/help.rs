//! The key bindings.

/// Groups of keys with their descriptions, as the help and the documentation list them.
pub const KEYS: [(&str, &[(&str, &str)]); 6] = [
    (
        "Decide",
        &[
            ("y", "accept, then go to the next undecided hunk"),
            ("n", "reject, then go to the next undecided hunk"),
            ("Space", "toggle: accepted, rejected, undecided"),
            ("v", "start a range of lines"),
            ("a  d", "accept, reject everything undecided in this file"),
            ("A  D", "accept, reject everything undecided (asks; skips high risk)"),
            ("u  Ctrl-r", "undo, redo decisions of this session"),
        ],
    ),
    (
        "Edit and comment",
        &[
            ("s", "split the hunk above the line; again: join it"),
            ("e", "edit the hunk's result in your editor"),
            ("E", "view the agent's file in your editor"),
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
            ("PgUp PgDn", "up, down by a page"),
            ("<  >", "left, right in long lines"),
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
            ("b", "hide whitespace-only hunks"),
            ("|", "old and new side by side"),
            ("W", "wrap or truncate long lines"),
            ("m", "dim moved lines"),
            ("+  -", "more, less context"),
            ("p", "preview the file with accepted changes"),
        ],
    ),
    (
        "End",
        &[
            ("w", "preview the apply, then apply"),
            ("q", "save and leave"),
            ("Q", "discard the draft (asks)"),
            ("Ctrl-z", "suspend (fg resumes)"),
            ("?", "this help"),
        ],
    ),
];
