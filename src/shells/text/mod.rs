//! Text for a grid of cells: what is shown, how wide it is, where it is cut.
//!
//! **Invariant:** pure. What [`shown`] and [`coloured`] return holds nothing that a terminal obeys or hides, and is as wide
//! in every terminal as [`cells()`] says: a character cluster that terminals disagree about is spelled out.

pub(crate) mod cells;

use ratatui::style::{Color, Modifier, Style};
use unicode_segmentation::UnicodeSegmentation as _;

use crate::base::text::is_hidden;
use cells::{units, width};

/// How long a control string may be, in bytes.
const STRING_MAX: usize = 2_048;
/// How many characters may stand in one cell: more of them are only there to hide something.
const CLUSTER_MAX: usize = 6;
/// How far a tab goes at most.
const TAB_CELLS: usize = 8;

/// Returns how many cells a text takes that [`shown`] returned.
#[must_use]
pub(crate) fn cells(text: &str) -> usize {
    text.chars().map(width).sum()
}

/// Returns a text as it can be shown: hidden characters and disputed clusters are written out.
#[must_use]
pub(crate) fn shown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    if text.is_ascii() {
        text.chars().for_each(|c| push_char(&mut out, c));
    } else {
        text.graphemes(true).for_each(|cluster| push_cluster(&mut out, cluster));
    }
    out
}

fn push_char(out: &mut String, c: char) {
    if is_hidden(c) { spell(out, c) } else { out.push(c) }
}

fn spell(out: &mut String, c: char) {
    use std::fmt::Write as _;
    write!(out, "<U+{:04X}>", u32::from(c)).expect("writing to a string cannot fail");
}

fn push_cluster(out: &mut String, cluster: &str) {
    let clear = |(unit, wide): (&str, usize)| (1..=2).contains(&wide) && unit.chars().count() <= CLUSTER_MAX;
    let joined = cluster.chars().enumerate().any(|(n, c)| is_hidden(c) || is_letter_of_flag(c) || n > 0 && is_skin(c));
    if !joined && units(cluster).all(clear) {
        out.push_str(cluster);
        return;
    }
    // What follows the first is spelled, or the terminal would put it together again.
    for (n, c) in cluster.chars().enumerate() {
        let alone = n == 0 && !is_hidden(c) && !is_letter_of_flag(c) && (1..=2).contains(&width(c));
        if alone { out.push(c) } else { spell(out, c) }
    }
}

/// Whether two of a character make a flag (`Regional_Indicator`): in two cells, in four, or as two letters.
fn is_letter_of_flag(c: char) -> bool {
    ('\u{1f1e6}'..='\u{1f1ff}').contains(&c)
}

/// Whether a character colours the one before it (`Emoji_Modifier`).
fn is_skin(c: char) -> bool {
    ('\u{1f3fb}'..='\u{1f3ff}').contains(&c)
}

/// Cuts a text to at most so many cells, on the edge of one; a cut text ends in `~`.
#[must_use]
pub(crate) fn cut(text: &str, room: usize) -> String {
    if text.len() <= room && text.is_ascii() || cells(text) <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut used = 0_usize;
    for (unit, wide) in units(text) {
        if used.saturating_add(wide).saturating_add(1) > room {
            break;
        }
        kept.push_str(unit);
        used = used.saturating_add(wide);
    }
    if room > 0 {
        kept.push('~');
    }
    kept
}

/// Leaves away what stands in the first cells of a text.
#[must_use]
pub(crate) fn skip_cells(text: &str, count: usize) -> String {
    let mut gone = 0_usize;
    let over = |(_, wide): &(&str, usize)| {
        let skipped = gone < count;
        gone = gone.saturating_add(*wide);
        skipped
    };
    units(text).skip_while(over).map(|(unit, _)| unit).collect()
}

/// Cuts or pads a text to exactly so many cells.
#[must_use]
pub(crate) fn fit(text: &str, room: usize) -> String {
    let mut fitted = cut(text, room);
    let used = cells(&fitted);
    fitted.extend(std::iter::repeat_n(' ', room.saturating_sub(used)));
    fitted
}

/// Like [`fit`], at the right edge.
#[must_use]
pub(crate) fn fit_right(text: &str, room: usize) -> String {
    let kept = cut(text, room);
    " ".repeat(room.saturating_sub(cells(&kept))) + &kept
}

/// Breaks a text into lines of at most so many cells.
#[must_use]
pub(crate) fn wrapped(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0_usize;
    for (unit, wide) in units(text) {
        if used.saturating_add(wide) > room.max(2) {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        line.push_str(unit);
        used = used.saturating_add(wide);
    }
    lines.push(line);
    lines
}

/// Breaks a sentence into lines between its words, where it has any.
#[must_use]
pub(crate) fn sentence(text: &str, room: usize) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("there is a first line");
        let glue = usize::from(!last.is_empty());
        if cells(last).saturating_add(glue).saturating_add(cells(word)) <= room {
            last.push_str(if glue == 1 { " " } else { "" });
            last.push_str(word);
        } else {
            let begun = !last.is_empty();
            let mut pieces = wrapped(word, room);
            if !begun {
                lines.pop();
            }
            lines.append(&mut pieces);
        }
    }
    lines
}

/// A line of a host's output: pieces with the colours that it asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coloured {
    /// The pieces.
    pub(crate) pieces: Vec<(String, Style)>,
    /// How many sequences were taken out.
    pub(crate) removed: usize,
}

/// Reads a line of output: SGR colours are kept, every other sequence is taken out and named, hidden characters are
/// written out (ECMA-48, section 5.4 and 8.3.117).
#[must_use]
pub(crate) fn coloured(bytes: &[u8]) -> Coloured {
    let text = String::from_utf8_lossy(bytes);
    let mut line = Coloured::default();
    let mut style = Style::new();
    let mut plain = String::new();
    let mut rest = text.as_ref();
    let mut column = 0_usize;
    while let Some(c) = rest.chars().next() {
        if let Some((sequence, length)) = sequence(rest) {
            rest = &rest[length..];
            match sequence {
                Sequence::Sgr(params) => {
                    flush(&mut line, &mut plain, style);
                    style = sgr(style, params);
                }
                Sequence::Removed(name) => {
                    line.removed = line.removed.saturating_add(1);
                    let note = format!("<{name}>");
                    column = column.saturating_add(note.len());
                    plain.push_str(&note);
                }
            }
            continue;
        }
        if c == '\t' {
            let step = TAB_CELLS.saturating_sub(column % TAB_CELLS);
            plain.extend(std::iter::repeat_n(' ', step));
            column = column.saturating_add(step);
            rest = &rest[1..];
            continue;
        }
        let end = rest.find(['\x1b', '\t', '\u{9b}', '\u{9d}', '\u{90}']).filter(|end| *end > 0).unwrap_or(rest.len());
        // A carriage return at the very end belongs to the line's end.
        let piece = if end == rest.len() { rest.trim_end_matches('\r') } else { &rest[..end] };
        let piece = shown(piece);
        column = column.saturating_add(cells(&piece));
        plain.push_str(&piece);
        rest = &rest[end..];
    }
    flush(&mut line, &mut plain, style);
    line
}

fn flush(line: &mut Coloured, plain: &mut String, style: Style) {
    if !plain.is_empty() {
        line.pieces.push((std::mem::take(plain), style));
    }
}

enum Sequence<'a> {
    Sgr(&'a str),
    Removed(&'static str),
}

/// Reads the escape sequence that a text begins with; also returns how long it is.
fn sequence(text: &str) -> Option<(Sequence<'_>, usize)> {
    let (opener, body_at) = match text.chars().next()? {
        '\u{9b}' => ('[', 2),
        '\u{9d}' => (']', 2),
        '\u{90}' => ('P', 2),
        '\x1b' => match text[1..].chars().next() {
            None => return Some((Sequence::Removed("ESC"), 1)),
            Some(next) => (next, next.len_utf8().saturating_add(1)),
        },
        _ => return None,
    };
    let body = &text[body_at..];
    match opener {
        '[' => {
            let params = body.find(|c: char| !('\x20'..='\x3f').contains(&c)).unwrap_or(body.len());
            match body[params..].chars().next() {
                Some('m') if body[..params].bytes().all(|b| b.is_ascii_digit() || b == b';' || b == b':') => {
                    Some((Sequence::Sgr(&body[..params]), body_at.saturating_add(params).saturating_add(1)))
                }
                Some(last @ '\x40'..='\x7e') => {
                    Some((Sequence::Removed("CSI"), body_at.saturating_add(params).saturating_add(last.len_utf8())))
                }
                _ => Some((Sequence::Removed("CSI"), body_at.saturating_add(params))),
            }
        }
        ']' => Some((Sequence::Removed("OSC"), body_at.saturating_add(string_length(body)))),
        'P' => Some((Sequence::Removed("DCS"), body_at.saturating_add(string_length(body)))),
        'X' | '^' | '_' => Some((Sequence::Removed("APC"), body_at.saturating_add(string_length(body)))),
        // Two characters, or three where the second only chooses a set.
        '\x20'..='\x2f' => {
            let last = body.chars().next().filter(|c| ('\x30'..='\x7e').contains(c)).map_or(0, char::len_utf8);
            Some((Sequence::Removed("ESC"), body_at.saturating_add(last)))
        }
        '\x30'..='\x7e' => Some((Sequence::Removed("ESC"), body_at)),
        _ => Some((Sequence::Removed("ESC"), 1)),
    }
}

/// Returns how long a control string is with its end. One without an end hides nothing: only its opener is taken.
fn string_length(body: &str) -> usize {
    let mut chars = body.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\x07' => return at.saturating_add(1),
            '\u{9c}' => return at.saturating_add(2),
            '\x1b' if chars.peek().is_some_and(|(_, next)| *next == '\\') => return at.saturating_add(2),
            // Terminals give up as well: what is longer is no title and no link.
            _ if at > STRING_MAX => return 0,
            _ => {}
        }
    }
    0
}

/// Applies the parameters of a "select graphic rendition".
fn sgr(mut style: Style, params: &str) -> Style {
    let mut codes = params.split([';', ':']).map(|code| code.parse::<u16>().unwrap_or(0));
    while let Some(code) = codes.next() {
        style = match code {
            0 => Style::new(),
            1 => style.add_modifier(Modifier::BOLD),
            2 => style.add_modifier(Modifier::DIM),
            3 => style.add_modifier(Modifier::ITALIC),
            4 => style.add_modifier(Modifier::UNDERLINED),
            7 => style.add_modifier(Modifier::REVERSED),
            22 => style.remove_modifier(Modifier::BOLD | Modifier::DIM),
            23 => style.remove_modifier(Modifier::ITALIC),
            24 => style.remove_modifier(Modifier::UNDERLINED),
            27 => style.remove_modifier(Modifier::REVERSED),
            30..=37 | 90..=97 => style.fg(sixteen(code)),
            40..=47 | 100..=107 => style.bg(sixteen(code.saturating_sub(10))),
            39 => Style { fg: None, ..style },
            49 => Style { bg: None, ..style },
            38 => indexed(&mut codes).map_or(style, |colour| style.fg(colour)),
            48 => indexed(&mut codes).map_or(style, |colour| style.bg(colour)),
            // Blinking and hiding (5, 6, 8) are nobody's to ask for.
            _ => style,
        };
    }
    style
}

fn sixteen(code: u16) -> Color {
    let bright = if code >= 90 { 8 } else { 0 };
    Color::Indexed(u8::try_from(code % 10).unwrap_or(7).saturating_add(bright))
}

fn indexed(codes: &mut impl Iterator<Item = u16>) -> Option<Color> {
    let byte = |code: Option<u16>| u8::try_from(code.unwrap_or(0)).ok();
    match codes.next()? {
        5 => Some(Color::Indexed(byte(codes.next())?)),
        2 => {
            let (r, g, b) = (byte(codes.next())?, byte(codes.next())?, byte(codes.next())?);
            let level = |c: u8| u16::from(c) * 5 / 255;
            u8::try_from(
                level(r)
                    .saturating_mul(36)
                    .saturating_add(16)
                    .saturating_add(level(g).saturating_mul(6))
                    .saturating_add(level(b)),
            )
            .ok()
            .map(Color::Indexed)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(bytes: &[u8]) -> String {
        coloured(bytes).pieces.into_iter().map(|(text, _)| text).collect()
    }

    #[test]
    fn texts_are_cut_on_the_edges_of_characters() {
        for (text, room, want) in [
            ("abc", 5, "abc  "),
            ("发布", 5, "发布 "),
            ("发布任务", 5, "发布~"),
            ("发布任务", 6, "发布~ "),
            ("abcdef", 5, "abcd~"),
            ("e\u{301}tude", 4, "e\u{301}tu~"),
            ("abc", 0, ""),
        ] {
            assert_eq!(fit(text, room), want, "{text} in {room}");
        }
        assert_eq!(fit_right("42", 5), "   42");
        assert_eq!(wrapped("发布任务ab", 5), ["发布", "任务a", "b"]);
    }

    #[test]
    fn what_terminals_disagree_about_is_spelled_out() {
        for (text, want) in [
            ("safe\u{202e}txt", "safe<U+202E>txt"),
            ("\u{1f468}\u{200d}\u{1f469}", "\u{1f468}<U+200D><U+1F469>"),
            ("\u{1f44d}\u{1f3fd}", "\u{1f44d}<U+1F3FD>"),
            ("\u{2764}\u{fe0f}", "\u{2764}<U+FE0F>"),
            ("\u{301}a", "<U+0301>a"),
            ("각", "각"),
            ("\u{1100}\u{1161}\u{11a8}", "\u{1100}\u{1161}\u{11a8}"),
            ("\u{1f1e8}\u{1f1f3}", "<U+1F1E8><U+1F1F3>"),
            ("a\u{1f1e8}b", "a<U+1F1E8>b"),
            ("\u{17d8}", "<U+17D8>"),
            // Clusters of several characters that take room each stay as they are written.
            ("น\u{e33}", "น\u{e33}"),
            ("\u{928}\u{94d}\u{924}\u{94d}\u{930}", "\u{928}\u{94d}\u{924}\u{94d}\u{930}"),
            ("\u{995}\u{9be}", "\u{995}\u{9be}"),
            ("a\u{301}\u{302}\u{303}\u{304}\u{305}\u{306}", "a<U+0301><U+0302><U+0303><U+0304><U+0305><U+0306>"),
        ] {
            assert_eq!(shown(text), want);
        }
    }

    #[test]
    fn colours_stay_and_commands_go() {
        for (bytes, want) in [
            (&b"\x1b[31mred\x1b[0m plain"[..], "red plain"),
            (b"\x1b]0;pwned\x07title", "<OSC>title"),
            (b"\x1b]52;c;aGk=\x1b\\copy", "<OSC>copy"),
            (b"\x1b]0;no end", "<OSC>0;no end"),
            (b"\x1b[2Jx\x1b[6n", "<CSI>x<CSI>"),
            (b"\x1bP1$r\x1b\\q", "<DCS>q"),
            (b"a\x1b", "a<ESC>"),
            (b"\x1b(0x\x1bc", "<ESC>x<ESC>"),
            ("\u{9b}31mc1".as_bytes(), "c1"),
            ("\u{9d}0;x\u{9c}y".as_bytes(), "<OSC>y"),
            (b"bell\x07 back\x08 nul\0", "bell<U+0007> back<U+0008> nul<U+0000>"),
            (b"progress 1\rprogress 2\r", "progress 1<U+000D>progress 2"),
            (b"a\tb", "a       b"),
            (b"\xc0\xaf\xff", "\u{fffd}\u{fffd}\u{fffd}"),
            (b"\x1b[38;5;300mx\x1b[38;2;255;0;0my\x1b[?25lz", "xy<CSI>z"),
        ] {
            assert_eq!(plain(bytes), want, "{:?}", String::from_utf8_lossy(bytes));
        }
        let red = &coloured(b"\x1b[1;31mred").pieces[0];
        assert_eq!(red.1, Style::new().fg(Color::Indexed(1)).add_modifier(Modifier::BOLD));
        assert_eq!(coloured(b"\x1b[38;2;255;0;0mx").pieces[0].1.fg, Some(Color::Indexed(196)));
    }

    #[test]
    fn nothing_of_any_bytes_is_obeyed() {
        let mut seed = 0x5eed_u64;
        for _ in 0..20_000 {
            let bytes: Vec<u8> = (0..24)
                .map(|_| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let pick = seed.to_le_bytes()[5];
                    if pick.is_multiple_of(3) { b"\x1b[]P;m0\x07\x9b\x9d\\"[usize::from(pick) % 11] } else { pick }
                })
                .collect();
            let text = plain(&bytes);
            assert!(!text.chars().any(is_hidden), "{bytes:?} became {text:?}");
            assert_eq!(cells(&text), units(&text).map(|(_, wide)| wide).sum::<usize>());
        }
    }
}
