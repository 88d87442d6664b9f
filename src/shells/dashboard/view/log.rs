//! One log: its lines as they came, with the colours that they asked for and nothing else that they asked for.
//!
//! **Invariant:** pure; only the lines of the page are built, and a line is cut or wrapped by its cells.

use ratatui::layout::Rect;
use ratatui::style::Style;

use crate::domain::output::Stream;
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::message::{Anchor, LINE_BYTES_MAX, LogLine};
use crate::shells::dashboard::screens::LogScreen;
use crate::shells::dashboard::view::size;
use crate::shells::dashboard::words::{Words, fill};
use crate::shells::text::cells::units;
use crate::shells::text::{cells, coloured, wrapped};

pub(super) fn draw(pen: &mut Pen<'_>, screen: &LogScreen, is_withheld: bool, body: Rect) {
    let words = pen.look.words;
    let key = &screen.key;
    let attempt = if key.attempt > 1 { format!(" @{}", key.attempt) } else { String::new() };
    let mut head = Row::new()
        .gap(1)
        .put(words.log, Tone::Dim)
        .put(&format!(" {} ", key.task), Tone::Title)
        .put(key.host.as_str(), Tone::Strong)
        .put(&format!("  {}{attempt}", key.step), Tone::Plain);
    let page = screen.page.as_ref();
    let follows = screen.anchor == Anchor::End;
    if !screen.keep.is_empty() {
        head = head.gap(2).put(&fill(words.kept, &[&screen.keep]), Tone::Warn);
    }
    let facts = facts(words, screen, usize::from(body.width).saturating_sub(head.used()));
    let room = usize::from(body.width).saturating_sub(facts.used());
    pen.row(body, &head.to(room).join(facts));
    let area = Rect { y: body.y.saturating_add(1), height: body.height.saturating_sub(1), ..body };
    let Some(page) = page else {
        pen.row(area, &Row::new().gap(1).put(words.reading, Tone::Dim));
        return;
    };
    if page.length == 0 {
        let said = match screen.stream {
            _ if is_withheld => &format!("{} {}", words.withheld_output, words.withheld_do),
            None => words.nothing_printed,
            Some(_) => words.nothing_in_stream,
        };
        let lines = wrapped(said, usize::from(area.width).saturating_sub(2));
        pen.rows(area, &lines.iter().map(|line| Row::new().gap(1).put(line, Tone::Dim)).collect::<Vec<_>>());
        return;
    }
    let width = usize::from(area.width).saturating_sub(5);
    let rows: Vec<Row> = page
        .lines
        .iter()
        .flat_map(|line| {
            let cut = page.cut.filter(|at| line.offset <= *at && *at < line.offset.saturating_add(line.length.max(1)));
            let note = cut.map(|_| Row::new().gap(1).put(words.left_out_here, Tone::Warn));
            note.into_iter().chain(lines(line, screen, width))
        })
        .collect();
    let height = usize::from(area.height);
    let first = if follows { rows.len().saturating_sub(height) } else { 0 };
    pen.rows(area, &rows[first..]);
}

/// What is known of a log, as much as there is room for: what is said last here is left away first.
fn facts(words: &Words, screen: &LogScreen, room: usize) -> Row {
    let follows = screen.anchor == Anchor::End;
    let stream = match screen.stream {
        None => words.both_streams,
        Some(Stream::Out) => "stdout",
        Some(Stream::Err) => "stderr",
    };
    let page = screen.page.as_ref();
    let new = page.filter(|page| !follows && page.length > screen.left_at && screen.left_at > 0);
    let number = page.and_then(|page| page.number);
    let said = [
        (4, page.map(|page| (size(page.length), Tone::Plain))),
        (1, number.map(|number| (fill(words.line_number, &[&number.to_string()]), Tone::Dim))),
        (3, new.map(|page| (fill(words.new_bytes, &[&size(page.length.saturating_sub(screen.left_at))]), Tone::Warn))),
        (2, Some((stream.to_owned(), Tone::Dim))),
        (
            5,
            Some(if follows {
                (words.follow_on.to_owned(), Tone::Ok)
            } else {
                (words.follow_off.to_owned(), Tone::Dim)
            }),
        ),
    ];
    let row = |from: i32| {
        let kept = said.iter().filter(|(worth, _)| *worth >= from).filter_map(|(_, fact)| fact.as_ref());
        kept.fold(Row::new(), |row, (text, tone)| row.gap(2).put(text, *tone)).gap(1)
    };
    (1..5).map(row).find(|row| row.used() <= room).unwrap_or_else(|| row(5))
}

/// The rows that a line takes: one, or as many as it is wrapped into.
fn lines(line: &LogLine, screen: &LogScreen, width: usize) -> Vec<Row> {
    let (sign, tone) = match (line.stream, line.goes_on) {
        (Stream::Out, false) => (" out|", Tone::Dim),
        (Stream::Out, true) => (" out:", Tone::Dim),
        (Stream::Err, false) => (" err|", Tone::Warn),
        (Stream::Err, true) => (" err:", Tone::Warn),
    };
    let mut pieces = coloured(&line.bytes).pieces;
    if line.length > LINE_BYTES_MAX as u64 {
        pieces.push((format!("<{} more>", size(line.length.saturating_sub(LINE_BYTES_MAX as u64))), Style::new()));
    }
    let start = |row: Row| row.put(sign, tone);
    if !screen.wrap {
        let mut row = start(Row::new());
        let mut hidden = screen.left;
        for (text, style) in &pieces {
            row = found(row, &without(text, &mut hidden), *style, &screen.find);
        }
        return vec![row];
    }
    let mut rows = Vec::new();
    let mut row = start(Row::new());
    let mut used = 0;
    for (text, style) in &pieces {
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let taken = prefix(rest, width.saturating_sub(used).max(if used == 0 { 2 } else { 0 }));
            if taken == 0 {
                rows.push(std::mem::replace(&mut row, Row::new().put("     ", Tone::Dim)));
                used = 0;
                continue;
            }
            row = found(row, &rest[..taken], *style, &screen.find);
            used = used.saturating_add(cells(&rest[..taken]));
            rest = &rest[taken..];
        }
    }
    rows.push(row);
    rows
}

/// Returns how many bytes of a text fit into so many cells.
fn prefix(text: &str, room: usize) -> usize {
    let (mut used, mut at) = (0_usize, 0_usize);
    for (unit, wide) in units(text) {
        used = used.saturating_add(wide);
        if used > room {
            return at;
        }
        at = at.saturating_add(unit.len());
    }
    text.len()
}

/// Leaves away the first cells of a text.
fn without(text: &str, hidden: &mut usize) -> String {
    if *hidden == 0 {
        return text.to_owned();
    }
    let taken = prefix(text, *hidden);
    let gone = cells(&text[..taken]);
    *hidden = hidden.saturating_sub(gone.min(*hidden));
    if taken < text.len() {
        *hidden = 0;
    }
    text[taken..].to_owned()
}

/// Adds a piece, with what was looked for marked in it.
fn found(mut row: Row, text: &str, style: Style, find: &str) -> Row {
    if find.is_empty() {
        return row.styled(text, style);
    }
    let mut rest = text;
    while let Some(at) = rest.find(find) {
        let marked = style.add_modifier(ratatui::style::Modifier::REVERSED);
        row = row.styled(&rest[..at], style).styled(&rest[at..at.saturating_add(find.len())], marked);
        rest = &rest[at.saturating_add(find.len())..];
    }
    row.styled(rest, style)
}
