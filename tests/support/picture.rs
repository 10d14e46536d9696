//! Draws the screen of a program on a terminal as SVG, for the documentation:
//! `picture OUT.svg COLUMNSxROWS STEP… -- COMMAND…`. Each step is `wait:TEXT`, which waits until the screen shows the
//! text, or `type:KEYS`, with `\r` for Enter and `\e` for Escape. The picture is the screen after the last step.

#![expect(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a tool for scripts")]

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use vt100::{Cell, Color, Parser};

/// The maximum time until the screen shows a text.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time without output after which the screen counts as complete.
const STILL: Duration = Duration::from_millis(400);
/// The size of a cell and the margin of the picture, in pixels.
const WIDTH: usize = 8;
const HEIGHT: usize = 18;
const MARGIN: usize = 10;
const FOREGROUND: &str = "#d4d4d4";
const BACKGROUND: &str = "#16181d";
const PALETTE: [&str; 16] = [
    "#3b4048", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#abb2bf", "#7f848e", "#ff7b86",
    "#b5e890", "#ffd588", "#7cc3ff", "#dd92f0", "#6fd3df", "#ffffff",
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let parted = args.iter().position(|arg| arg == "--").filter(|at| *at >= 2 && at + 1 < args.len());
    let Some(at) = parted else {
        eprintln!("usage: picture OUT.svg COLUMNSxROWS STEP… -- COMMAND…");
        std::process::exit(2);
    };
    let (columns, rows) = args[1].split_once('x').expect("COLUMNSxROWS");
    let (columns, rows): (u16, u16) = (columns.parse().expect("columns"), rows.parse().expect("rows"));
    let screen = run_steps(&args[at + 1..], (columns, rows), &args[2..at]);
    std::fs::write(&args[0], draw_svg(screen.screen())).expect("written");
}

/// Runs the program, does the steps, and ends the program. Returns the screen.
fn run_steps(command: &[String], (columns, rows): (u16, u16), steps: &[String]) -> Parser {
    let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
    let pair = native_pty_system().openpty(size).expect("a terminal");
    let mut builder = CommandBuilder::new(&command[0]);
    builder.args(&command[1..]);
    builder.cwd(std::env::current_dir().expect("a directory"));
    for (name, value) in
        [("TERM", "xterm-256color"), ("COLORTERM", "truecolor"), ("LANG", "C.UTF-8"), ("COLORFGBG", "15;0")]
    {
        builder.env(name, value);
    }
    let mut child = pair.slave.spawn_command(builder).expect("it runs");
    let (sender, output) = mpsc::channel();
    let mut reader = pair.master.try_clone_reader().expect("a reader");
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = reader.read(&mut buffer) {
            if sender.send(buffer[..n].to_vec()).is_err() {
                return;
            }
        }
    });
    let mut keys = pair.master.take_writer().expect("a writer");
    let mut parser = Parser::new(rows, columns, 0);
    for step in steps {
        match step.split_once(':') {
            Some(("type", typed)) => {
                let typed = typed.replace("\\r", "\r").replace("\\e", "\u{1b}");
                keys.write_all(typed.as_bytes()).and_then(|()| keys.flush()).expect("typed");
            }
            Some(("wait", text)) => {
                let end = Instant::now() + PATIENCE;
                while !parser.screen().contents().contains(text) {
                    let left = end.saturating_duration_since(Instant::now());
                    let Ok(bytes) = output.recv_timeout(left) else {
                        panic!("no {text:?} on the screen:\n{}", parser.screen().contents())
                    };
                    parser.process(&bytes);
                }
                // Reads the rest of the screen.
                while let Ok(bytes) = output.recv_timeout(STILL) {
                    parser.process(&bytes);
                }
            }
            _ => panic!("{step} is not a step"),
        }
    }
    child.kill().expect("the program can be ended");
    child.wait().expect("it ends");
    parser
}

fn draw_svg(screen: &vt100::Screen) -> String {
    let (rows, columns) = screen.size();
    let (width, height) = (usize::from(columns) * WIDTH + 2 * MARGIN, usize::from(rows) * HEIGHT + 2 * MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"{BACKGROUND}\"/>\n\
         <g font-family=\"ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace\" font-size=\"13px\">\n"
    );
    for row in 0..rows {
        let mut column = 0;
        while column < columns {
            let Some(first) = screen.cell(row, column) else { break };
            let look = Look::from_cell(first);
            let mut text = String::new();
            let from = column;
            // Box lines are drawn as paths, because a font would leave gaps between them.
            let line = line_directions(first.contents());
            while let Some(cell) = screen.cell(row, column).filter(|cell| Look::from_cell(cell) == look) {
                if line.is_some() && column > from || line.is_none() && line_directions(cell.contents()).is_some() {
                    break;
                }
                text += if cell.has_contents() {
                    cell.contents()
                } else if cell.is_wide_continuation() {
                    ""
                } else {
                    " "
                };
                column += 1;
            }
            let (x, y) = (usize::from(from) * WIDTH + MARGIN, usize::from(row) * HEIGHT + MARGIN);
            draw_run(&mut out, &look, (x, y), usize::from(column - from) * WIDTH, &text, line);
        }
    }
    out + "</g>\n</svg>\n"
}

/// The style of a cell.
#[derive(PartialEq)]
struct Look {
    fore: String,
    back: Option<String>,
    bold: bool,
    dim: bool,
}

impl Look {
    fn from_cell(cell: &Cell) -> Self {
        let (fore, back) = (css_color(cell.fgcolor()), css_color(cell.bgcolor()));
        let (bold, dim) = (cell.bold(), cell.dim());
        if cell.inverse() {
            let fore = fore.unwrap_or_else(|| FOREGROUND.into());
            return Self { fore: back.unwrap_or_else(|| BACKGROUND.into()), back: Some(fore), bold, dim };
        }
        Self { fore: fore.unwrap_or_else(|| FOREGROUND.into()), back, bold, dim }
    }
}

/// Draws a run of cells of one style: their background, and their text or box line.
fn draw_run(out: &mut String, look: &Look, (x, y): (usize, usize), width: usize, text: &str, line: Option<[bool; 4]>) {
    if let Some(back) = &look.back {
        let _ = writeln!(out, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{HEIGHT}\" fill=\"{back}\"/>");
    }
    let opacity = if look.dim { " opacity=\"0.6\"" } else { "" };
    if let Some([up, down, left, right]) = line {
        let (mid_x, mid_y) = (x + WIDTH / 2, y + HEIGHT / 2);
        let ends = [(up, mid_x, y), (down, mid_x, y + HEIGHT), (left, x, mid_y), (right, x + WIDTH, mid_y)];
        let path: String = (ends.iter().filter(|(is, ..)| *is))
            .map(|(_, to_x, to_y)| format!("M{mid_x} {mid_y}L{to_x} {to_y}"))
            .collect();
        let _ = writeln!(out, "<path d=\"{path}\" stroke=\"{}\"{opacity}/>", look.fore);
    } else if !text.trim().is_empty() {
        let weight = if look.bold { " font-weight=\"bold\"" } else { "" };
        // Blanks at the ends are left out. Blanks between words must not collapse, so they become no-break spaces.
        let blanks = |text: &str| text.chars().take_while(|c| *c == ' ').count();
        let (before, after) = (blanks(text), blanks(&text.chars().rev().collect::<String>()));
        let (x, width) = (x + before * WIDTH, width - (before + after) * WIDTH);
        let text = text.trim_matches(' ').replace(' ', "\u{a0}").replace('&', "&amp;").replace('<', "&lt;");
        let base = y + HEIGHT - 5;
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"{base}\" textLength=\"{width}\" fill=\"{}\"{weight}{opacity}>{text}</text>",
            look.fore
        );
    }
}

/// Returns the directions of a box line from the middle of its cell: up, down, left, right.
fn line_directions(text: &str) -> Option<[bool; 4]> {
    Some(match text {
        "─" => [false, false, true, true],
        "│" => [true, true, false, false],
        "┌" => [false, true, false, true],
        "┐" => [false, true, true, false],
        "└" => [true, false, false, true],
        "┘" => [true, false, true, false],
        "├" => [true, true, false, true],
        "┤" => [true, true, true, false],
        "┬" => [false, true, true, true],
        "┴" => [true, false, true, true],
        "┼" => [true; 4],
        _ => return None,
    })
}

/// Returns a color as CSS; `None` is the default color.
fn css_color(color: Color) -> Option<String> {
    match color {
        Color::Default => None,
        Color::Rgb(r, g, b) => Some(format!("#{r:02x}{g:02x}{b:02x}")),
        Color::Idx(n @ 0..=15) => Some(PALETTE[usize::from(n)].into()),
        Color::Idx(n @ 16..=231) => {
            let level = |at: u8| if at == 0 { 0 } else { 55 + 40 * at };
            let n = n - 16;
            Some(format!("#{:02x}{:02x}{:02x}", level(n / 36), level(n / 6 % 6), level(n % 6)))
        }
        Color::Idx(n) => {
            let grey = 8 + 10 * (n - 232);
            Some(format!("#{grey:02x}{grey:02x}{grey:02x}"))
        }
    }
}
