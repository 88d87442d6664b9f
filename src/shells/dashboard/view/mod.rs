//! Painting: the model in, cells out.
//!
//! **Invariant:** pure. Only rows that are seen are built, and the last thing before a frame is handed out is a look at
//! every cell, so that nothing that a terminal would obey leaves here.

pub(super) mod approve;
mod dialogs;
pub(super) mod form;
mod header;
pub(super) mod help;

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};

use crate::shells::dashboard::can::can;
use crate::shells::dashboard::completion::candidates;
use crate::shells::dashboard::dialog::Dialog;
use crate::shells::dashboard::edit::Edit;
use crate::shells::dashboard::keys::{Action, key_of};
use crate::shells::dashboard::layout::ScreenSize;
use crate::shells::dashboard::look::{Pen, Row, Tone, harmless};
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::phrases::one_line;
use crate::shells::dashboard::prompt::Prompt;
use crate::shells::dashboard::screen::Offer;
use crate::shells::dashboard::ui::Ui;
use crate::shells::dashboard::words::{Words, fill};
use crate::shells::text::cells;

/// Paints the whole screen; returns where the terminal's cursor goes.
pub(super) fn draw(model: &Model, buffer: &mut Buffer) -> Option<Position> {
    let (ui, cx) = (&model.ui, model.context());
    let area = buffer.area;
    let mut pen = Pen { buffer, look: &ui.look };
    if ScreenSize::new(area.width, area.height).is_too_small() {
        let ScreenSize { width, height } = ScreenSize::SMALLEST;
        let sentence = fill(ui.look.words.too_small, &[&width.to_string(), &height.to_string()]);
        pen.row(area, &Row::new().put(&sentence, Tone::Plain));
        return None;
    }
    let low = ui.size.is_low();
    pen.row(area, &header::first(cx));
    if !low {
        pen.row(Rect { y: 1, ..area }, &header::views(ui));
        pen.rule(Rect { y: 2, height: 1, ..area });
        if let Some(notice) = header::notice(cx, usize::from(area.width)) {
            pen.row(Rect { y: 2, ..area }, &notice);
        }
        pen.rule(Rect { y: area.height.saturating_sub(3), height: 1, ..area });
    }
    let mut cursor = ui.screen().draw(&mut pen, cx, ui.size.body());
    cursor = bottom(&mut pen, model, area).or(cursor);
    if let Some(dialog) = &ui.dialog {
        let covers = covers_what_is_said(ui, dialog);
        cursor = match dialog {
            Dialog::Approve(approval) => approve::draw(&mut pen, cx, ui, approval),
            Dialog::Confirm(confirm) => dialogs::confirm(&mut pen, cx, confirm),
            Dialog::Choose(choose) => dialogs::choose(&mut pen, choose),
            Dialog::Help(help) => help::draw(&mut pen, cx, help),
            Dialog::Form(form) => form::draw(&mut pen, cx, ui, form),
        };
        if let (true, Some((said, tone))) = (covers, &ui.said) {
            let y = area.height.saturating_sub(1);
            let line = Rect { x: 2, y, width: area.width.saturating_sub(4), height: 1 };
            pen.row(line, &Row::new().gap(1).put(&one_line(said), *tone).gap(1));
        }
    }
    harmless(pen.buffer);
    cursor
}

/// Paints the lines at the bottom; returns where the cursor goes when something is typed there.
fn bottom(pen: &mut Pen<'_>, model: &Model, area: Rect) -> Option<Position> {
    let low = model.ui.size.is_low();
    let bottom = Rect { y: area.height.saturating_sub(1), height: 1, ..area };
    let above = Rect { y: area.height.saturating_sub(2), ..bottom };
    let (line, typed) = message(model);
    match (low, line) {
        (true, Some(row)) if typed.is_none() => {
            // The keys that lead everywhere stay in sight.
            let keys = always(model.ui.look.words, &ALWAYS[1..]);
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
    let y = if low { bottom.y } else { above.y };
    typed.map(|at| Position { x: u16::try_from(at).unwrap_or(u16::MAX).min(area.width.saturating_sub(1)), y })
}

/// Whether a dialog covers the line in which something was said, and does not say it itself.
fn covers_what_is_said(ui: &Ui, dialog: &Dialog) -> bool {
    let words = ui.look.words;
    let own = |said: &str| [words.no_paste, words.not_the_phrase].contains(&said);
    match dialog {
        Dialog::Approve(_) => !ui.said.as_ref().is_some_and(|(said, _)| own(said)),
        Dialog::Help(_) => true,
        Dialog::Confirm(_) | Dialog::Choose(_) => ui.size.is_low(),
        Dialog::Form(_) => false,
    }
}

/// Returns the frame as lines of text, without colours.
pub(super) fn as_text(model: &Model) -> String {
    let ScreenSize { width, height } = model.ui.size;
    let mut buffer = Buffer::empty(Rect { x: 0, y: 0, width, height });
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

/// The line that is typed in, or what there is to say; also the cell of the cursor.
fn message(model: &Model) -> (Option<Row>, Option<usize>) {
    let words = model.ui.look.words;
    let line = |sign: &str, edit: &Edit| {
        let row = Row::new().put(sign, Tone::Key).put(edit.text(), Tone::Plain);
        (row, cells(sign).saturating_add(edit.position().1))
    };
    let (row, at) = match &model.ui.prompt {
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
            let offered = candidates(model.context(), model.targets().task, edit.text()).join(" ");
            (row.gap(3).put(&offered, Tone::Dim), Some(at))
        }
        None => match &model.ui.said {
            Some((said, tone)) => (Row::new().gap(1).put(said.lines().next().unwrap_or_default(), *tone), None),
            None => return (None, None),
        },
    };
    (Some(row), at)
}

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
    let words = model.ui.look.words;
    let mut row = Row::new().gap(1);
    let put = |key: &str, what: &str, row: Row| row.put(key, Tone::Key).gap(1).put(what, Tone::Plain).gap(2);
    if model.ui.prompt.is_some() {
        for (key, what) in [("Enter", words.hint_take), ("Esc", words.hint_leave), ("Tab", words.hint_complete)] {
            row = put(key, what, row);
        }
        return row;
    }
    let width = usize::from(model.ui.size.width);
    let right = always(words, &ALWAYS);
    let targets = model.targets().tasks();
    for (action, what) in model.ui.screen().offers() {
        let possible = || *action == Action::New || can(model.context(), &targets, *action);
        if action.is_act() && (model.ui.readonly || !possible()) {
            continue;
        }
        let next = put(&key_of(*action), what(words), row.clone());
        if next.used().saturating_add(right.used()) <= width {
            row = next;
        }
    }
    row.join(right)
}
