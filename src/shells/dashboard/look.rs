//! How things look: tones, themes, and rows that are painted cell by cell.
//!
//! **Invariant:** pure. A colour is never the only sign of anything: each state has a glyph and a word too. Nothing is
//! painted outside of its area, and nothing that a terminal would obey is painted at all.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};

use crate::base::text::is_hidden;
use crate::domain::outcome::Outcome;
use crate::shells::dashboard::words::Words;
use crate::shells::text::cells::units;
use crate::shells::text::{cells, cut, fit, fit_right, shown};

/// What a piece of text is, for the eye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Dim,
    Strong,
    Title,
    Key,
    Ok,
    Run,
    Warn,
    Fail,
    Lost,
    Danger,
}

/// A set of colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Theme {
    Dark,
    Light,
    Mono,
    /// Blue and orange instead of green and red.
    Safe,
}

impl Theme {
    pub(super) const ALL: [Theme; 4] = [Theme::Dark, Theme::Light, Theme::Mono, Theme::Safe];

    pub(super) fn word(self) -> &'static str {
        match self {
            Theme::Dark => "dark",
            Theme::Light => "light",
            Theme::Mono => "mono",
            Theme::Safe => "safe",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Theme> {
        Theme::ALL.into_iter().find(|theme| theme.word() == word)
    }

    fn style(self, tone: Tone) -> Style {
        let plain = Style::new();
        let bold = plain.add_modifier(Modifier::BOLD);
        let colour = |dark: Color, light: Color| plain.fg(if self == Theme::Light { light } else { dark });
        let pick = |usual: Style, safe: u8| if self == Theme::Safe { plain.fg(Color::Indexed(safe)) } else { usual };
        if self == Theme::Mono {
            return match tone {
                Tone::Plain | Tone::Ok => plain,
                Tone::Dim => plain.add_modifier(Modifier::DIM),
                Tone::Strong | Tone::Title | Tone::Key | Tone::Run => bold,
                Tone::Warn | Tone::Lost => plain.add_modifier(Modifier::UNDERLINED),
                Tone::Fail => bold.add_modifier(Modifier::UNDERLINED),
                Tone::Danger => bold.add_modifier(Modifier::REVERSED),
            };
        }
        match tone {
            Tone::Plain => plain,
            Tone::Dim => colour(Color::Gray, Color::DarkGray),
            Tone::Strong => bold,
            Tone::Title => colour(Color::Cyan, Color::Blue).add_modifier(Modifier::BOLD),
            Tone::Key => colour(Color::Yellow, Color::Magenta),
            Tone::Ok => pick(colour(Color::Green, Color::Green), 33),
            Tone::Run => pick(colour(Color::Cyan, Color::Blue), 44).add_modifier(Modifier::BOLD),
            Tone::Warn => pick(colour(Color::Yellow, Color::Magenta), 220),
            Tone::Fail => pick(colour(Color::LightRed, Color::Red), 208).add_modifier(Modifier::BOLD),
            Tone::Lost => pick(colour(Color::Magenta, Color::Magenta), 177).add_modifier(Modifier::BOLD),
            Tone::Danger => pick(plain.fg(Color::White).bg(Color::Red), 208).add_modifier(
                Modifier::BOLD | if self == Theme::Safe { Modifier::REVERSED } else { Modifier::empty() },
            ),
        }
    }
}

/// Everything that decides how a screen looks, beside what it says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) theme: Theme,
    /// Only characters that every terminal has, in the width that every terminal gives them.
    pub(super) ascii: bool,
    pub(super) words: &'static Words,
}

/// The lines that frames are made of.
pub(super) struct Frame {
    pub(super) across: char,
    pub(super) down: char,
    pub(super) corners: [char; 4],
    pub(super) tees: [char; 2],
}

impl Look {
    pub(super) fn style(&self, tone: Tone) -> Style {
        self.theme.style(tone)
    }

    pub(super) fn frame(&self) -> Frame {
        if self.ascii {
            Frame { across: '-', down: '|', corners: ['+'; 4], tees: ['+'; 2] }
        } else {
            Frame { across: '─', down: '│', corners: ['┌', '┐', '└', '┘'], tees: ['├', '┤'] }
        }
    }

    /// The style of the row that acts are about.
    pub(super) fn selected(&self) -> Style {
        match self.theme {
            Theme::Mono => Style::new().add_modifier(Modifier::REVERSED),
            Theme::Light => Style::new().bg(Color::Indexed(254)),
            Theme::Dark | Theme::Safe => Style::new().bg(Color::Indexed(237)),
        }
    }

    /// Output that asked for colours gets them, but for a theme without any.
    pub(super) fn of_output(&self, style: Style) -> Style {
        if self.theme == Theme::Mono { Style { fg: None, bg: None, ..style } } else { style }
    }
}

/// How one step stands on one host, in one cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Mark {
    /// From best to worst, so that the worst of several can be told.
    Ok,
    Skipped,
    Waits,
    Asks,
    Runs,
    Failed,
    Lost,
}

impl Mark {
    pub(super) const ALL: [Mark; 7] =
        [Mark::Waits, Mark::Asks, Mark::Runs, Mark::Ok, Mark::Failed, Mark::Lost, Mark::Skipped];

    pub(super) fn of(outcome: Outcome) -> Mark {
        match outcome {
            Outcome::Ok => Mark::Ok,
            Outcome::Skipped => Mark::Skipped,
            Outcome::Lost | Outcome::KillUnconfirmed => Mark::Lost,
            _ => Mark::Failed,
        }
    }

    pub(super) fn glyph(self) -> char {
        match self {
            Mark::Ok => '+',
            Mark::Skipped => '-',
            Mark::Waits => '.',
            Mark::Asks => '!',
            Mark::Runs => '>',
            Mark::Failed => 'x',
            Mark::Lost => '?',
        }
    }

    pub(super) fn tone(self) -> Tone {
        match self {
            Mark::Ok => Tone::Ok,
            Mark::Skipped | Mark::Waits => Tone::Dim,
            Mark::Asks => Tone::Warn,
            Mark::Runs => Tone::Run,
            Mark::Failed => Tone::Fail,
            Mark::Lost => Tone::Lost,
        }
    }
}

/// Returns the tone of an outcome.
pub(super) fn outcome_tone(outcome: Outcome) -> Tone {
    match outcome {
        // What people end is no failure.
        Outcome::Cancelled | Outcome::Rejected => Tone::Warn,
        outcome => Mark::of(outcome).tone(),
    }
}

/// A line that is built from pieces.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pieces: Vec<(String, Piece)>,
    used: usize,
}

#[derive(Clone, Copy, Debug)]
enum Piece {
    Tone(Tone),
    Style(Style),
}

impl Row {
    pub(super) fn new() -> Row {
        Row::default()
    }

    /// Adds text as it is wide; what a terminal would obey or hide is written out.
    pub(super) fn put(mut self, text: &str, tone: Tone) -> Row {
        self.push(shown(text), Piece::Tone(tone));
        self
    }

    /// Adds text in exactly so many cells.
    pub(super) fn col(mut self, text: &str, room: usize, tone: Tone) -> Row {
        self.push(fit(&shown(text), room), Piece::Tone(tone));
        self
    }

    /// Adds text at the right edge of so many cells.
    pub(super) fn right(mut self, text: &str, room: usize, tone: Tone) -> Row {
        self.push(fit_right(&shown(text), room), Piece::Tone(tone));
        self
    }

    /// Adds empty cells.
    pub(super) fn gap(mut self, count: usize) -> Row {
        self.push(" ".repeat(count), Piece::Tone(Tone::Plain));
        self
    }

    /// Adds empty cells up to a column.
    pub(super) fn to(self, column: usize) -> Row {
        let count = column.saturating_sub(self.used);
        self.gap(count)
    }

    /// Adds a piece of output that was made safe already.
    pub(super) fn styled(mut self, text: &str, style: Style) -> Row {
        self.push(text.to_owned(), Piece::Style(style));
        self
    }

    /// Adds another row's pieces.
    pub(super) fn join(mut self, other: Row) -> Row {
        self.used = self.used.saturating_add(other.used);
        self.pieces.extend(other.pieces);
        self
    }

    /// How many cells it takes.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    fn push(&mut self, text: String, piece: Piece) {
        self.used = self.used.saturating_add(cells(&text));
        self.pieces.push((text, piece));
    }
}

/// Paints rows into an area of a buffer.
pub(super) struct Pen<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) look: &'a Look,
}

impl Pen<'_> {
    /// Paints a row at the top of `area`, cut at its right edge.
    pub(super) fn row(&mut self, area: Rect, row: &Row) {
        self.row_over(area, row, Style::new());
    }

    /// Paints a row over a background that fills the line.
    pub(super) fn row_over(&mut self, area: Rect, row: &Row, over: Style) {
        let area = area.intersection(self.buffer.area);
        if area.is_empty() {
            return;
        }
        let line = Rect { height: 1, ..area };
        if over != Style::new() {
            self.buffer.set_style(line, over);
        }
        let mut left = usize::from(area.width);
        let mut x = area.x;
        for (text, piece) in &row.pieces {
            let style = match piece {
                Piece::Tone(tone) => self.look.style(*tone),
                Piece::Style(style) => self.look.of_output(*style),
            };
            let fits = cells(text) <= left;
            let cut_text = if fits { std::borrow::Cow::Borrowed(text.as_str()) } else { cut(text, left).into() };
            // What carries meaning by its own background keeps it.
            let style = if over.bg.is_some() && style.bg.is_none() {
                style.patch(Style { bg: over.bg, ..Style::new() })
            } else {
                style
            };
            let style = if over.add_modifier.contains(Modifier::REVERSED) {
                style.add_modifier(Modifier::REVERSED)
            } else {
                style
            };
            for (unit, wide) in units(&cut_text).filter(|(_, wide)| *wide > 0) {
                if wide > left {
                    left = 0;
                    break;
                }
                self.buffer[(x, area.y)].set_symbol(unit).set_style(style);
                let next = x.saturating_add(u16::try_from(wide).unwrap_or(u16::MAX));
                (x.saturating_add(1)..next).for_each(|beside| self.buffer[(beside, area.y)].reset());
                x = next;
                left = left.saturating_sub(wide);
            }
            if !fits || left == 0 {
                break;
            }
        }
    }

    /// Paints rows below each other.
    pub(super) fn rows<'r>(&mut self, area: Rect, rows: impl IntoIterator<Item = &'r Row>) {
        for (row, y) in rows.into_iter().zip(area.y..area.bottom()) {
            self.row(Rect { y, height: 1, ..area }, row);
        }
    }

    /// Draws a line across.
    pub(super) fn rule(&mut self, area: Rect) {
        let line: String = std::iter::repeat_n(self.look.frame().across, usize::from(area.width)).collect();
        self.row(area, &Row::new().put(&line, Tone::Dim));
    }

    /// Draws a frame with a title, empties what it holds, and returns the area inside.
    pub(super) fn window(&mut self, area: Rect, title: &str, tone: Tone) -> Rect {
        let area = area.intersection(self.buffer.area);
        if area.width < 4 || area.height < 3 {
            return Rect { width: 0, height: 0, ..area };
        }
        self.blank(area);
        let frame = self.look.frame();
        let inside = usize::from(area.width).saturating_sub(2);
        let title = cut(&shown(title), inside.saturating_sub(4));
        let title = if title.is_empty() { String::new() } else { format!(" {title} ") };
        let rest: String =
            std::iter::repeat_n(frame.across, inside.saturating_sub(1).saturating_sub(cells(&title))).collect();
        let across: String = std::iter::repeat_n(frame.across, inside).collect();
        let [a, b, c, d] = frame.corners;
        let top =
            Row::new().put(&format!("{a}{}", frame.across), tone).put(&title, tone).put(&format!("{rest}{b}"), tone);
        self.row(area, &top);
        self.row(
            Rect { y: area.bottom().saturating_sub(1), height: 1, ..area },
            &Row::new().put(&format!("{c}{across}{d}"), tone),
        );
        for y in area.y.saturating_add(1)..area.bottom().saturating_sub(1) {
            let side = Row::new().put(&frame.down.to_string(), tone);
            self.row(Rect { y, height: 1, ..area }, &side);
            self.row(Rect { x: area.right().saturating_sub(1), y, width: 1, height: 1 }, &side);
        }
        Rect {
            x: area.x.saturating_add(2),
            y: area.y.saturating_add(1),
            width: area.width.saturating_sub(4),
            height: area.height.saturating_sub(2),
        }
    }

    /// Draws a window over a screen. The lines that it covers are emptied from side to side: pieces of words at its edges say
    /// nothing.
    pub(super) fn popup(&mut self, lines: Rect, area: Rect, title: &str, tone: Tone) -> Rect {
        self.blank(Rect { y: area.y, height: area.height, ..lines });
        self.window(area, title, tone)
    }

    fn blank(&mut self, area: Rect) {
        let area = area.intersection(self.buffer.area);
        let blank = " ".repeat(usize::from(area.width));
        for y in area.y..area.bottom() {
            let line = Rect { y, height: 1, ..area };
            self.buffer.set_style(line, Style::reset());
            self.row(line, &Row::new().put(&blank, Tone::Plain));
        }
    }

    /// Draws a line through a window, from side to side.
    pub(super) fn divide(&mut self, window: Rect, y: u16) {
        let frame = self.look.frame();
        let across: String = std::iter::repeat_n(frame.across, usize::from(window.width).saturating_sub(2)).collect();
        let line = format!("{}{across}{}", frame.tees[0], frame.tees[1]);
        self.row(Rect { y, height: 1, ..window }, &Row::new().put(&line, Tone::Dim));
    }
}

/// The last look at a screen before it goes to a terminal: nothing in it may be obeyed or hidden, and a wide character
/// that a window covers half of is gone.
pub(super) fn harmless(buffer: &mut Buffer) {
    let width = usize::from(buffer.area.width).max(1);
    for n in 0..buffer.content.len() {
        let symbol = buffer.content[n].symbol();
        if symbol.chars().any(is_hidden) {
            buffer.content[n].set_symbol("?");
        } else if cells(symbol) > 1 {
            let beside =
                if n.saturating_add(1).is_multiple_of(width) { None } else { buffer.content.get(n.saturating_add(1)) };
            if beside.is_none_or(|cell| cell.symbol() != " ") {
                buffer.content[n].set_symbol(" ");
            }
        }
    }
}

/// A bar of so many cells, filled by a part of the whole.
pub(super) fn bar(part: usize, whole: usize, room: usize) -> String {
    let inside = room.saturating_sub(2);
    // What has begun shows, and only what is whole looks so.
    let share = part.saturating_mul(inside).checked_div(whole).unwrap_or(0);
    let full = share.max(usize::from(part > 0 && part < whole)).min(inside);
    format!("[{}{}]", "#".repeat(full), ".".repeat(inside.saturating_sub(full)))
}
