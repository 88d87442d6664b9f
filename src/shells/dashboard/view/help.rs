//! Help: the keys that work here, from the table that makes them work.
//!
//! **Invariant:** pure; a key that is not in the table is not here, and does nothing.

use ratatui::layout::{Position, Rect};

use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::dialog::Help;
use crate::shells::dashboard::filter::matches;
use crate::shells::dashboard::keys::{BINDINGS, Place};
use crate::shells::dashboard::layout::centred;
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::text::{cells, sentence, shown};

const WIDTH: u16 = 78;

/// The lines of the help that pass its filter.
pub(in crate::shells::dashboard) fn rows(cx: Context<'_>, help: &Help) -> Vec<Row> {
    let words = cx.words;
    let filter = help.filter.text().to_lowercase();
    let places = [
        (Place::Tasks, words.help_tasks),
        (Place::Task, words.help_task),
        (Place::Lists, words.help_lists),
        (Place::Log, words.help_log),
        (Place::Everywhere, words.help_everywhere),
    ];
    let room = usize::from(cx.size.width.min(WIDTH)).saturating_sub(4);
    let mut rows = problems(cx);
    for (place, title) in places {
        let here: Vec<Row> = BINDINGS
            .iter()
            .filter(|binding| binding.place == place && !(cx.readonly && binding.acts))
            .filter_map(|binding| {
                let keys = binding.keys.iter().map(|key| key.word()).collect::<Vec<_>>().join(" ");
                let what = (binding.what)(words);
                let shown = filter.is_empty() || matches(&format!("{keys} {what}"), &filter);
                shown.then(|| {
                    let lines = sentence(what, room.saturating_sub(18)).into_iter().enumerate();
                    let key = |n: usize| if n == 0 { keys.clone() } else { String::new() };
                    let line = |(n, line): (usize, String)| {
                        Row::new().gap(2).col(&key(n), 16, Tone::Key).put(&line, Tone::Plain)
                    };
                    lines.map(line).collect::<Vec<_>>()
                })
            })
            .flatten()
            .collect();
        if !here.is_empty() {
            rows.push(Row::new().put(title, Tone::Title));
            rows.extend(here);
        }
    }
    if filter.is_empty() {
        rows.push(Row::new().put(words.help_commands, Tone::Title));
        for line in words.help_command_lines.lines() {
            rows.extend(
                sentence(line, room.saturating_sub(2)).iter().map(|line| Row::new().gap(2).put(line, Tone::Plain)),
            );
        }
    }
    rows
}

/// Everything that is wrong with the configuration, where somebody who sees that something is looks for it.
fn problems(cx: Context<'_>) -> Vec<Row> {
    let all = cx.world.library_problems();
    let room = usize::from(cx.size.width.min(WIDTH)).saturating_sub(6);
    let lines = all.iter().flat_map(|problem| sentence(&shown(problem), room));
    let lines = lines.map(|line| Row::new().gap(2).put(&line, Tone::Fail));
    let title = (!all.is_empty()).then(|| Row::new().put(cx.words.help_configuration, Tone::Title));
    title.into_iter().chain(lines).collect()
}

pub(super) fn draw(pen: &mut Pen<'_>, cx: Context<'_>, help: &Help) -> Option<Position> {
    let words = pen.look.words;
    let screen = pen.buffer.area;
    let window = centred(screen, WIDTH, screen.height.saturating_sub(2));
    let inside = pen.popup(screen, window, words.help_title, Tone::Title);
    let label = format!("{}: ", words.help_search);
    pen.row(inside, &Row::new().put(&label, Tone::Dim).put(help.filter.text(), Tone::Strong));
    let rows = rows(cx, help);
    let area = Rect { y: inside.y.saturating_add(1), height: inside.height.saturating_sub(1), ..inside };
    pen.rows(area, rows.iter().skip(help.top));
    let x = inside.x.saturating_add(u16::try_from(cells(&label).saturating_add(help.filter.position().1)).ok()?);
    Some(Position { x: x.min(inside.right()), y: inside.y })
}
