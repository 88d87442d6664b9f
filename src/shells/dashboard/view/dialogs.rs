//! Questions in a window over the screen.
//!
//! **Invariant:** pure; what will happen stands above what is typed.

use ratatui::layout::{Position, Rect};

use crate::shells::dashboard::can::called;
use crate::shells::dashboard::consequences::consequences;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::dialog::{Choose, Confirm};
use crate::shells::dashboard::layout::centred;
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::words::fill;
use crate::shells::text::{cells, sentence, shown, skip_cells};

pub(super) fn confirm(pen: &mut Pen<'_>, cx: Context<'_>, confirm: &Confirm) -> Option<Position> {
    let words = pen.look.words;
    let screen = pen.buffer.area;
    let width = screen.width.min(76);
    let room = usize::from(width).saturating_sub(4);
    let tasks: Vec<String> = confirm
        .targets
        .iter()
        .take(5)
        .map(|id| match (cx.world.run(*id), cx.world.tasks().get(id)) {
            (Some(run), _) => format!("{id} {}", run.plan.task_name),
            (None, Some(task)) => format!("{id} {}", task.view.task_name),
            (None, None) => id.to_string(),
        })
        .collect();
    let mut rows: Vec<Row> = tasks.iter().map(|task| Row::new().put(task, Tone::Strong)).collect();
    if confirm.targets.len() > tasks.len() {
        rows.push(
            Row::new()
                .put(&fill(words.more, &[&confirm.targets.len().saturating_sub(tasks.len()).to_string()]), Tone::Dim),
        );
    }
    rows.push(Row::new());
    for said in consequences(cx, &confirm.targets, &confirm.wish) {
        rows.extend(sentence(&shown(&said), room).iter().map(|line| Row::new().put(line, Tone::Plain)));
    }
    rows.push(Row::new());
    let mut cursor = None;
    if let Some(phrase) = &confirm.phrase {
        let label = fill(words.type_phrase, &[phrase]);
        rows.push(Row::new().put(&label, if confirm.at_reason { Tone::Dim } else { Tone::Key }));
        rows.push(Row::new().put("> ", Tone::Key).put(confirm.typed.text(), Tone::Strong));
        if !confirm.at_reason {
            cursor = Some((rows.len().saturating_sub(1), confirm.typed.position().1.saturating_add(2)));
        }
    }
    let label = if confirm.needs_reason { words.reason_needed } else { words.reason_optional };
    rows.push(Row::new().put(label, if confirm.at_reason { Tone::Key } else { Tone::Dim }));
    let typed = confirm.reason.text();
    let over = cells(&shown(typed)).saturating_add(3).saturating_sub(room);
    let tail: String =
        if over > 0 { "~".to_owned() + &skip_cells(&shown(typed), over.saturating_add(1)) } else { shown(typed) };
    rows.push(Row::new().put("> ", Tone::Key).put(&tail, Tone::Strong));
    if confirm.at_reason {
        cursor = Some((
            rows.len().saturating_sub(1),
            confirm.reason.position().1.saturating_add(2).min(room.saturating_sub(1)),
        ));
    }
    let problem = confirm.problem.as_deref().unwrap_or_default();
    rows.extend(sentence(problem, room).iter().map(|line| Row::new().put(line, Tone::Fail)));
    let keys = [("Enter", words.hint_do), ("Tab", words.hint_field), ("Esc", words.hint_leave)];
    let two = [keys[0], keys[2]];
    rows.push(hint(if confirm.phrase.is_some() { &keys } else { &two }, room));
    let height = u16::try_from(rows.len().saturating_add(2)).unwrap_or(u16::MAX);
    let window = centred(screen, width, height);
    let title = called(words, &confirm.wish).0.to_uppercase();
    let inside = pen.popup(screen, window, &title, Tone::Warn);
    // On a low screen the questions are worth more than the sentences above them.
    let skip = rows.len().saturating_sub(usize::from(inside.height));
    pen.rows(inside, &rows[skip..]);
    place(inside, cursor, skip)
}

/// The keys of a dialog, as many as there is room for; the last one, which leaves it, is always there.
pub(super) fn hint(keys: &[(&str, &str)], room: usize) -> Row {
    let put = |row: Row, (key, what): &(&str, &str)| row.put(key, Tone::Key).gap(1).put(what, Tone::Plain);
    let Some((leave, others)) = keys.split_last() else { return Row::new() };
    let leave = put(Row::new(), leave);
    let mut row = Row::new();
    for key in others {
        let next = put(row.clone(), key).gap(2);
        if next.used().saturating_add(leave.used()) <= room {
            row = next;
        }
    }
    row.join(leave)
}

fn place(inside: Rect, cursor: Option<(usize, usize)>, skip: usize) -> Option<Position> {
    let (row, cell) = cursor?;
    let y = inside.y.saturating_add(u16::try_from(row.checked_sub(skip)?).ok()?);
    let x = inside.x.saturating_add(u16::try_from(cell).ok()?.min(inside.width.saturating_sub(1)));
    (y < inside.bottom()).then_some(Position { x, y })
}

pub(super) fn choose(pen: &mut Pen<'_>, choose: &Choose) -> Option<Position> {
    let words = pen.look.words;
    let screen = pen.buffer.area;
    let count = u16::try_from(choose.items.len()).unwrap_or(u16::MAX);
    let window = centred(screen, 76, count.saturating_add(4).min(screen.height.saturating_sub(2)));
    let inside = pen.popup(screen, window, &choose.title, Tone::Title);
    let room = usize::from(inside.height).saturating_sub(2).max(1);
    let top = choose.at.saturating_add(1).saturating_sub(room);
    let mut cursor = None;
    for (n, (label, _)) in choose.items.iter().enumerate().skip(top).take(room) {
        let y = inside.y.saturating_add(u16::try_from(n.saturating_sub(top)).unwrap_or(0));
        let line = Rect { y, height: 1, ..inside };
        let sign = if n == choose.at { "> " } else { "  " };
        let row = Row::new().put(sign, Tone::Key).put(label, Tone::Plain);
        if n == choose.at {
            pen.row_over(line, &row, pen.look.selected());
            cursor = Some(Position { x: inside.x, y });
        } else {
            pen.row(line, &row);
        }
    }
    let bottom = Rect { y: inside.bottom().saturating_sub(1), height: 1, ..inside };
    pen.row(bottom, &hint(&[("Enter", words.hint_take), ("Esc", words.hint_leave)], usize::from(inside.width)));
    cursor
}
