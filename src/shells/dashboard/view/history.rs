//! The history: tasks that ended, the newest first.
//!
//! **Invariant:** pure; knows only the part that is seen.

use ratatui::layout::Rect;

use crate::shells::dashboard::look::{Pen, Row, Tone, outcome_tone};
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::screens::List;
use crate::shells::dashboard::view::span;
use crate::shells::dashboard::words::names;

pub(super) fn draw(pen: &mut Pen<'_>, model: &Model, list: &List, body: Rect) {
    let words = pen.look.words;
    let name = usize::from(body.width).saturating_sub(2 + 12 + 10 + 12 + 12 + 9 + 1).max(16);
    let heading = Row::new()
        .gap(2)
        .col(words.col_ended, 12, Tone::Dim)
        .col(words.col_task, name, Tone::Dim)
        .col(words.col_by, 10, Tone::Dim)
        .col(words.col_result, 12, Tone::Dim)
        .right(words.col_hosts, 12, Tone::Dim)
        .right(words.col_took, 9, Tone::Dim);
    let line = |n: usize| {
        let Some(line) = n.checked_sub(model.past.start).and_then(|n| model.past.lines.get(n)) else {
            return Row::new();
        };
        let took = line.started.map(|started| span(line.ended.0.saturating_sub(started.0))).unwrap_or_default();
        Row::new()
            .gap(2)
            .col(&model.clock(line.ended), 12, Tone::Dim)
            .col(&format!("{} {}", line.id, line.task_name), name.saturating_sub(1), Tone::Plain)
            .gap(1)
            .col(&line.submitter.user, 9, Tone::Plain)
            .gap(1)
            .col(names::outcome(words, line.outcome), 12, outcome_tone(line.outcome))
            .right(&format!("{}/{}", line.hosts.saturating_sub(line.hosts_not_ok), line.hosts), 12, Tone::Plain)
            .right(&took, 9, Tone::Dim)
    };
    super::list(pen, body, &heading, list, model.past.count, line);
    if model.past.count == 0 {
        pen.row(
            Rect { y: body.y.saturating_add(2), ..body },
            &Row::new().gap(2).put(super::nothing(words, list, words.nothing_ended), Tone::Plain),
        );
    }
}
