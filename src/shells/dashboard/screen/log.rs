//! One log: its lines as they came, with the colours that they asked for and nothing else that they asked for.
//!
//! **Invariant:** pure; where a page begins is known by an offset, only the lines of the page are built, and only what was
//! read can be copied.

use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};

use crate::domain::output::Stream;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::edit::Edit;
use crate::shells::dashboard::keys::{Action, Place};
use crate::shells::dashboard::log_keys::log_keys;
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::message::{
    Anchor, Command, LINE_BYTES_MAX, LogKey, LogLine, LogPage, LogPart, LogWant, Wants,
};
use crate::shells::dashboard::phrases::size;
use crate::shells::dashboard::prompt::Prompt;
use crate::shells::dashboard::screen::{BACK, Offer, Reaction, Screen, ScreenEvent, Targets};
use crate::shells::dashboard::words::{Words, fill};
use crate::shells::dashboard::world::World;
use crate::shells::text::cells::units;
use crate::shells::text::{cells, coloured, wrapped};

const OFFERS: &[Offer] = &[
    (Action::Follow, |words| words.hint_follow),
    (Action::Wrap, |words| words.hint_wrap),
    (Action::Find, |words| words.hint_find),
    (Action::Keep, |words| words.hint_keep),
    (Action::NextPane, |words| words.hint_stream),
    (Action::NextLog, |words| words.hint_log_step),
    BACK,
];
/// By how many cells a key moves along the lines.
const SIDEWAYS: isize = 20;

/// One log.
#[derive(Debug)]
pub(in crate::shells::dashboard) struct LogScreen {
    key: LogKey,
    anchor: Anchor,
    page: Option<LogPage>,
    wrap: bool,
    /// How many cells are scrolled away at the left.
    left: usize,
    find: String,
    keep: String,
    stream: Option<Stream>,
    /// How long the log was when following stopped.
    left_at: u64,
}

impl Screen for LogScreen {
    fn draw(&self, pen: &mut Pen<'_>, cx: Context<'_>, body: Rect) -> Option<Position> {
        draw(pen, self, cx.world.withheld(self.key.task).is_some(), body);
        None
    }

    fn places(&self) -> &'static [Place] {
        &[Place::Log]
    }

    fn offers(&self) -> &'static [Offer] {
        OFFERS
    }

    fn wants(&self, cx: Context<'_>, wants: &mut Wants) {
        wants.follow.insert(self.key.task);
        let rows = cx.size.body_rows();
        wants.log = Some(LogWant { of: self.part(), anchor: self.anchor, rows, keep: self.keep.clone() });
    }

    fn targets(&self, _cx: Context<'_>) -> Targets {
        Targets::of(Some(self.key.task))
    }

    fn is_live(&self) -> bool {
        true
    }

    fn key(&mut self, cx: Context<'_>, action: Action) -> Reaction {
        match action {
            Action::First => {
                if self.anchor == Anchor::End {
                    self.left_at = self.page.as_ref().map_or(0, |page| page.length);
                }
                self.anchor = Anchor::At(0);
            }
            Action::Last => self.anchor = Anchor::End,
            Action::Left => self.left = self.left.saturating_sub(SIDEWAYS.unsigned_abs()),
            Action::Right => self.left = self.left.saturating_add_signed(SIDEWAYS),
            Action::Back if !self.keep.is_empty() => self.keep.clear(),
            Action::NextPane => return self.other_stream(true),
            Action::PreviousPane => return self.other_stream(false),
            Action::Find => return Reaction::Ask(Prompt::Find(Edit::default())),
            Action::FindNext => return self.find(true),
            Action::FindPrevious => return self.find(false),
            Action::Keep => return Reaction::Ask(Prompt::Keep(Edit::new(self.keep.clone()))),
            Action::PreviousLog => self.other_log(cx.world, false),
            Action::NextLog => self.other_log(cx.world, true),
            Action::Follow => self.follow(),
            Action::Wrap => {
                self.wrap = !self.wrap;
                self.left = 0;
            }
            Action::Copy => return Reaction::Copy(self.text(cx.size.body_rows())),
            _ => return Reaction::Pass,
        }
        Reaction::Stay
    }

    fn answer(&mut self, prompt: &Prompt) -> Reaction {
        match prompt {
            Prompt::Find(edit) => {
                edit.text().clone_into(&mut self.find);
                self.find(true)
            }
            Prompt::Keep(edit) => {
                edit.text().clone_into(&mut self.keep);
                Reaction::Stay
            }
            Prompt::Filter(_) | Prompt::Command(..) => Reaction::Stay,
        }
    }

    fn on_event(&mut self, _cx: Context<'_>, news: &ScreenEvent<'_>) {
        match news {
            ScreenEvent::Page(page) if page.of == self.part() => self.page = Some((*page).clone()),
            ScreenEvent::PageAt(of, offset) if **of == self.part() => self.anchor = Anchor::At(*offset),
            _ => {}
        }
    }

    fn scroll(&mut self, cx: Context<'_>, by: isize) -> Reaction {
        self.scroll_lines(by, cx.size.body_rows())
    }
}

impl LogScreen {
    pub(in crate::shells::dashboard) fn of(key: LogKey) -> LogScreen {
        LogScreen {
            key,
            anchor: Anchor::End,
            page: None,
            wrap: false,
            left: 0,
            find: String::new(),
            keep: String::new(),
            stream: None,
            left_at: 0,
        }
    }

    /// What of the log is shown.
    fn part(&self) -> LogPart {
        LogPart { key: self.key.clone(), stream: self.stream }
    }

    fn scroll_lines(&mut self, by: isize, seen: usize) -> Reaction {
        let Some(page) = &self.page else { return Reaction::Stay };
        // The page may be older than the last key: what counts is where the last key led.
        let at = match self.anchor {
            Anchor::At(offset) => offset,
            Anchor::End => page.lines.first().map_or(page.length, |line| line.offset),
        };
        if by > 0 {
            if self.anchor == Anchor::End {
                return Reaction::Stay;
            }
            let here = page.lines.iter().position(|line| line.offset >= at).unwrap_or(page.lines.len());
            let there = here.saturating_add(by.unsigned_abs());
            // Past the end there is nothing to see: the log is followed again.
            let ends = page.next >= page.length;
            self.anchor = match page.lines.get(there) {
                Some(line) if !(ends && page.lines.len().saturating_sub(there) < seen) => Anchor::At(line.offset),
                _ if ends => Anchor::End,
                _ => Anchor::At(page.next),
            };
            return Reaction::Stay;
        }
        if self.anchor == Anchor::End {
            self.left_at = page.length;
        }
        let (of, keep) = (self.part(), self.keep.clone());
        Reaction::Do(Command::LogBack { of, from: at, lines: by.unsigned_abs(), keep })
    }

    /// Shows the log of the step or attempt before or after on the same host.
    fn other_log(&mut self, world: &World, next: bool) {
        let Some(run) = world.run(self.key.task) else { return };
        let all = log_keys(run, &self.key.host);
        let here = all.iter().position(|key| *key == self.key);
        let there = match (here, next) {
            (Some(at), true) => Some(at.saturating_add(1)),
            (Some(at), false) => at.checked_sub(1),
            (None, _) => Some(0),
        };
        if let Some(key) = there.and_then(|at| all.get(at)).cloned() {
            let (wrap, find, keep, stream) = (self.wrap, self.find.clone(), self.keep.clone(), self.stream);
            *self = LogScreen { wrap, find, keep, stream, ..LogScreen::of(key) };
        }
    }

    fn find(&self, forward: bool) -> Reaction {
        if self.find.is_empty() {
            return Reaction::Stay;
        }
        let lines = self.page.as_ref().map_or(&[][..], |page| &page.lines);
        let first = lines.first().map_or(0, |line| line.offset);
        // From the line after the first that is seen, or from the first one backwards.
        let from = if forward { lines.get(1).map_or(first.saturating_add(1), |line| line.offset) } else { first };
        Reaction::Do(Command::LogFind { of: self.part(), from, needle: self.find.clone(), forward })
    }

    /// Shows the next or the previous of both streams, standard output and standard error, where the log stands.
    fn other_stream(&mut self, next: bool) -> Reaction {
        let of = self.part();
        let stream = match (self.stream, next) {
            (None, true) | (Some(Stream::Err), false) => Some(Stream::Out),
            (Some(Stream::Out), true) | (None, false) => Some(Stream::Err),
            _ => None,
        };
        // What was counted and read is of the other part.
        (self.stream, self.page, self.left_at) = (stream, None, 0);
        match self.anchor {
            Anchor::End => Reaction::Stay,
            Anchor::At(from) => Reaction::Do(Command::LogMove { of, from, to: stream }),
        }
    }

    fn follow(&mut self) {
        self.anchor = match (self.anchor, &self.page) {
            (Anchor::End, Some(page)) => {
                self.left_at = page.length;
                Anchor::At(page.lines.first().map_or(0, |line| line.offset))
            }
            _ => Anchor::End,
        };
    }

    /// The lines that are seen. What is copied is what is seen: a clipboard is pasted into shells.
    fn text(&self, rows: usize) -> String {
        let lines = self.page.as_ref().map_or(&[][..], |page| &page.lines);
        let plain = |bytes: &[u8]| coloured(bytes).pieces.into_iter().map(|(text, _)| text).collect::<String>() + "\n";
        lines.iter().take(rows).map(|line| plain(&line.bytes)).collect()
    }
}

fn draw(pen: &mut Pen<'_>, screen: &LogScreen, is_withheld: bool, body: Rect) {
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
        let marked = style.add_modifier(Modifier::REVERSED);
        row = row.styled(&rest[..at], style).styled(&rest[at..at.saturating_add(find.len())], marked);
        rest = &rest[at.saturating_add(find.len())..];
    }
    row.styled(rest, style)
}
