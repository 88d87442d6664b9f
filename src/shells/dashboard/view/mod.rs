//! Painting: the model in, cells out.
//!
//! **Invariant:** pure. Only rows that are seen are built, and the last thing before a frame is handed out is a look at
//! every cell, so that nothing that a terminal would obey leaves here.

pub(super) mod approve;
pub(super) mod audit;
mod board;
mod dialogs;
pub(super) mod diff;
pub(super) mod form;
mod header;
pub(super) mod help;
pub(super) mod history;
pub(super) mod hosts;
mod log;
pub(super) mod refused;
mod requests;
pub(super) mod task;
pub(super) mod templates;
mod withheld;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::shells::dashboard::dialog::Dialog;
use crate::shells::dashboard::keys::{Action, BINDINGS, key_of};
use crate::shells::dashboard::look::{Pen, Row, Tone, harmless};
use crate::shells::dashboard::model::{Model, Prompt, SMALLEST};
use crate::shells::dashboard::screens::{List, Screen};
use crate::shells::dashboard::words::{Words, fill};
use crate::shells::text::{cells, shown};

/// Paints the whole screen; returns where the terminal's cursor goes.
pub(super) fn draw(model: &Model, buffer: &mut Buffer) -> Option<Position> {
    let area = buffer.area;
    let mut pen = Pen { buffer, look: &model.look };
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let sentence = fill(model.look.words.too_small, &[&SMALLEST.0.to_string(), &SMALLEST.1.to_string()]);
        pen.row(area, &Row::new().put(&sentence, Tone::Plain));
        return None;
    }
    let low = model.is_low();
    pen.row(area, &header::first(model));
    let body = if low {
        Rect { y: 1, height: area.height.saturating_sub(2), ..area }
    } else {
        pen.row(Rect { y: 1, ..area }, &header::views(model));
        pen.rule(Rect { y: 2, height: 1, ..area });
        if let Some(notice) = header::notice(model, usize::from(area.width)) {
            pen.row(Rect { y: 2, ..area }, &notice);
        }
        pen.rule(Rect { y: area.height.saturating_sub(3), height: 1, ..area });
        Rect { y: 3, height: area.height.saturating_sub(6), ..area }
    };
    let mut cursor = screen(&mut pen, model, body);
    let bottom = Rect { y: area.height.saturating_sub(1), height: 1, ..area };
    let above = Rect { y: area.height.saturating_sub(2), ..bottom };
    let (line, typed) = message(model);
    match (low, line) {
        (true, Some(row)) if typed.is_none() => {
            // The keys that lead everywhere stay in sight.
            let keys = always(model.look.words, &ALWAYS[1..]);
            let room = usize::from(area.width).saturating_sub(keys.used());
            let line = Rect { width: u16::try_from(room).unwrap_or(0), ..bottom };
            pen.row(line, &row);
            pen.row(Rect { x: line.right(), width: area.width.saturating_sub(line.width), ..bottom }, &keys);
        }
        (true, Some(row)) => pen.row(bottom, &row),
        (true, None) => pen.row(bottom, &hints(model)),
        (false, row) => {
            pen.row(above, &row.unwrap_or_default());
            pen.row(bottom, &hints(model));
        }
    }
    if let Some(at) = typed {
        let y = if low { bottom.y } else { above.y };
        cursor = Some(Position { x: u16::try_from(at).unwrap_or(u16::MAX).min(area.width.saturating_sub(1)), y });
    }
    if let Some(dialog) = &model.dialog {
        let covers = covers_what_is_said(model, dialog);
        cursor = match dialog {
            Dialog::Approve(approval) => approve::draw(&mut pen, model, approval),
            Dialog::Confirm(confirm) => dialogs::confirm(&mut pen, model, confirm),
            Dialog::Choose(choose) => dialogs::choose(&mut pen, model, choose),
            Dialog::Help(help) => help::draw(&mut pen, model, help),
            Dialog::Form(form) => form::draw(&mut pen, model, form),
        };
        if let (true, Some((said, tone))) = (covers, &model.said) {
            let line = Rect { x: 2, width: area.width.saturating_sub(4), ..bottom };
            pen.row(line, &Row::new().gap(1).put(&one_line(said), *tone).gap(1));
        }
    }
    harmless(pen.buffer);
    cursor
}

/// Whether a dialog covers the line in which something was said, and does not say it itself.
fn covers_what_is_said(model: &Model, dialog: &Dialog) -> bool {
    let words = model.look.words;
    let own = |said: &str| [words.no_paste, words.not_the_phrase].contains(&said);
    match dialog {
        Dialog::Approve(_) => !model.said.as_ref().is_some_and(|(said, _)| own(said)),
        Dialog::Help(_) => true,
        Dialog::Confirm(_) | Dialog::Choose(_) => model.is_low(),
        Dialog::Form(_) => false,
    }
}

/// Returns the frame as lines of text, without colours.
pub(super) fn as_text(model: &Model) -> String {
    let mut buffer = Buffer::empty(Rect { x: 0, y: 0, width: model.size.0, height: model.size.1 });
    draw(model, &mut buffer);
    lines_of(&buffer).join("\n") + "\n"
}

/// Returns what a terminal would show, line by line.
pub(super) fn lines_of(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    (0..area.height)
        .map(|y| {
            let mut line = String::new();
            let mut x = 0;
            while x < area.width {
                let symbol = buffer[(x, y)].symbol();
                line.push_str(symbol);
                x = x.saturating_add(u16::try_from(cells(symbol)).unwrap_or(1).max(1));
            }
            line.trim_end().to_owned()
        })
        .collect()
}

/// Paints the screen that is seen.
fn screen(pen: &mut Pen<'_>, model: &Model, body: Rect) -> Option<Position> {
    match model.screen() {
        Screen::Board(board) => return board::draw(pen, model, board, body),
        Screen::Task(screen) => return task::draw(pen, model, screen, body),
        Screen::Log(screen) => log::draw(pen, screen, model.withheld.contains_key(&screen.key.task), body),
        Screen::Hosts(list) => hosts::draw(pen, model, list, body),
        Screen::Host(name, list) => hosts::draw_page(pen, model, name, list, body),
        Screen::History(list) => history::draw(pen, model, list, body),
        Screen::Audit(list) => audit::draw(pen, model, list, body),
        Screen::Templates(list) => templates::draw(pen, model, list, body),
        Screen::Refused(list) => refused::draw(pen, model, list, body),
        Screen::Diff(screen) => diff::draw(pen, model, screen, body),
        Screen::Requests(list) => requests::draw(pen, model, list, body),
    }
    None
}

/// How many rows the list of the screen has, below its heading.
pub(super) fn list_rows(model: &Model) -> usize {
    match model.screen() {
        Screen::Task(screen) => task::host_rows_seen(model, screen),
        Screen::Templates(_) if model.is_wide() => model.body_rows().saturating_sub(1),
        Screen::Refused(_) | Screen::Templates(_) => model.body_rows().saturating_sub(1) / 2,
        _ => model.body_rows().saturating_sub(1),
    }
}

/// Paints a list: a heading, and the rows that are seen, each made by `row`.
fn list(
    pen: &mut Pen<'_>,
    area: Rect,
    heading: &Row,
    list: &List,
    count: usize,
    row: impl Fn(usize) -> Row,
) -> Option<Position> {
    pen.row(area, heading);
    let rows = usize::from(area.height).saturating_sub(1);
    let mut cursor = None;
    for (n, at) in (list.top..count).take(rows).enumerate() {
        let y = area.y.saturating_add(1).saturating_add(u16::try_from(n).unwrap_or(u16::MAX));
        let line = Rect { y, height: 1, ..area };
        if at == list.at && !list.lost {
            pen.row_over(line, &row(at), pen.look.selected());
            // A colour alone is no sign.
            if pen.buffer[(area.x, y)].symbol() == " " {
                pen.buffer[(area.x, y)].set_symbol(">");
            }
            cursor = Some(Position { x: area.x, y });
        } else {
            pen.row(line, &row(at));
        }
    }
    cursor
}

/// Why a list is empty: what chooses its lines leaves none, or there are none.
fn nothing(words: &Words, list: &List, otherwise: &'static str) -> &'static str {
    match (list.filter.is_empty(), list.failed_only) {
        (false, _) => words.nothing_matches,
        (true, true) => words.none_failed,
        (true, false) => otherwise,
    }
}

/// The line that is typed in, or what there is to say; also the cell of the cursor.
fn message(model: &Model) -> (Option<Row>, Option<usize>) {
    let words = model.look.words;
    let line = |sign: &str, edit: &crate::shells::dashboard::edit::Edit| {
        let row = Row::new().put(sign, Tone::Key).put(edit.text(), Tone::Plain);
        (row, cells(sign).saturating_add(edit.position().1))
    };
    let (row, at) = match &model.prompt {
        Some(Prompt::Filter(edit)) => {
            let (row, at) = line(&format!(" {} ", words.filter), edit);
            (row, Some(at))
        }
        Some(Prompt::Find(edit)) => {
            let (row, at) = line(&format!(" {} ", words.find), edit);
            (row, Some(at))
        }
        Some(Prompt::Keep(edit)) => {
            let (row, at) = line(&format!(" {} ", words.keep), edit);
            (row, Some(at))
        }
        Some(Prompt::Command(edit, _)) => {
            let (row, at) = line(" :", edit);
            let offered = crate::shells::dashboard::update::candidates(model, edit.text()).join(" ");
            (row.gap(3).put(&offered, Tone::Dim), Some(at))
        }
        None => match &model.said {
            Some((said, tone)) => (Row::new().gap(1).put(said.lines().next().unwrap_or_default(), *tone), None),
            None => return (None, None),
        },
    };
    (Some(row), at)
}

/// An act, and what it is called.
type Offer = (Action, fn(&Words) -> &'static str);

/// The keys that work on every screen.
const ALWAYS: [Offer; 3] = [
    (Action::CommandLine, |words| words.hint_command),
    (Action::Help, |words| words.hint_help),
    (Action::Quit, |words| words.hint_quit),
];

fn always(words: &Words, keys: &[Offer]) -> Row {
    keys.iter().fold(Row::new(), |row, (action, what)| {
        row.put(&key_of(*action), Tone::Key).gap(1).put(what(words), Tone::Plain).gap(2)
    })
}

/// The keys that matter most here.
fn hints(model: &Model) -> Row {
    let words = model.look.words;
    let mut row = Row::new().gap(1);
    let put = |key: &str, what: &str, row: Row| row.put(key, Tone::Key).gap(1).put(what, Tone::Plain).gap(2);
    if model.prompt.is_some() {
        for (key, what) in [("Enter", words.hint_take), ("Esc", words.hint_leave), ("Tab", words.hint_complete)] {
            row = put(key, what, row);
        }
        return row;
    }
    let acts: &[(Action, &str)] = match model.screen() {
        Screen::Board(_) => &[
            (Action::Open, words.hint_open),
            (Action::Approve, words.hint_approve),
            (Action::Reject, words.hint_reject),
            (Action::Release, words.hint_release),
            (Action::Hold, words.hint_hold),
            (Action::Cancel, words.hint_cancel),
            (Action::Retry, words.hint_retry),
            (Action::New, words.hint_new),
            (Action::Mark, words.hint_mark),
            (Action::Find, words.hint_filter),
        ],
        Screen::Task(_) => &[
            (Action::Open, words.hint_log),
            (Action::Approve, words.hint_approve),
            (Action::Reject, words.hint_reject),
            (Action::Release, words.hint_release),
            (Action::Hold, words.hint_hold),
            (Action::Cancel, words.hint_cancel),
            (Action::Retry, words.hint_retry),
            (Action::Zoom, words.hint_zoom),
        ],
        Screen::Log(_) => &[
            (Action::Follow, words.hint_follow),
            (Action::Wrap, words.hint_wrap),
            (Action::Find, words.hint_find),
            (Action::Keep, words.hint_keep),
            (Action::NextPane, words.hint_stream),
            (Action::NextLog, words.hint_log_step),
            (Action::Back, words.hint_back),
        ],
        Screen::Templates(_) => {
            &[(Action::Open, words.hint_new), (Action::Find, words.hint_filter), (Action::Back, words.hint_back)]
        }
        Screen::Refused(_) => &[(Action::Find, words.hint_filter), (Action::Back, words.hint_back)],
        Screen::Hosts(_) | Screen::History(_) | Screen::Audit(_) => {
            &[(Action::Open, words.hint_open), (Action::Find, words.hint_filter), (Action::Back, words.hint_back)]
        }
        _ => &[(Action::Open, words.hint_open), (Action::Back, words.hint_back)],
    };
    let width = usize::from(model.size.0);
    let right = always(words, &ALWAYS);
    for (action, what) in acts {
        let acting = BINDINGS.iter().any(|binding| binding.action == *action && binding.acts);
        if acting
            && (model.readonly || !(*action == Action::New || crate::shells::dashboard::update::can(model, *action)))
        {
            continue;
        }
        let next = put(&key_of(*action), what, row.clone());
        if next.used().saturating_add(right.used()) <= width {
            row = next;
        }
    }
    row.join(right)
}

/// Writes a span of time as people say it.
pub(super) fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0 if ms > 0 => format!("{ms}ms"),
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Writes a count of bytes as people say it.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{}.{} KiB", bytes >> 10, (bytes & 1023).saturating_mul(10) / 1024),
        1_048_576..1_073_741_824 => format!("{}.{} MiB", bytes >> 20, (bytes >> 10 & 1023).saturating_mul(10) / 1024),
        _ => format!("{}.{} GiB", bytes >> 30, (bytes >> 20 & 1023).saturating_mul(10) / 1024),
    }
}

/// One line of text that is safe to show, with its inner lines joined.
pub(super) fn one_line(text: &str) -> String {
    shown(&text.replace(['\n', '\t'], " "))
}
