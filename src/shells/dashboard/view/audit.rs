//! The audit: who did what, the newest last.
//!
//! **Invariant:** pure; shows what stands in the chain and does not judge it: `spoolgate audit verify` does.

use ratatui::layout::Rect;

use crate::domain::audit::Line;
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::model::{Model, matches};
use crate::shells::dashboard::screens::List;
use crate::shells::dashboard::view::one_line;
use crate::shells::dashboard::words::names;

/// The lines that pass the filter.
pub(in crate::shells::dashboard) fn rows<'m>(model: &'m Model, list: &List) -> Vec<&'m Line> {
    let filter = list.filter.to_lowercase();
    let passes = |line: &&Line| {
        let entry = &line.entry;
        let task = entry.task.map(|task| task.to_string()).unwrap_or_default();
        let detail = entry.detail.as_deref().unwrap_or_default();
        let words = model.look.words;
        let (act, by) = (names::act(words, &entry.act), names::person(words, entry.by.as_ref()));
        filter.is_empty() || matches(&format!("{} {act} {task} {by} {detail}", entry.act), &filter)
    };
    model.audit.iter().filter(passes).collect()
}

pub(super) fn draw(pen: &mut Pen<'_>, model: &Model, list: &List, body: Rect) {
    let words = pen.look.words;
    let lines = rows(model, list);
    let heading = Row::new()
        .right("#", 8, Tone::Dim)
        .gap(2)
        .col(words.col_when, 12, Tone::Dim)
        .col(words.col_by, 14, Tone::Dim)
        .col(words.col_act, 18, Tone::Dim)
        .col(words.col_task, 7, Tone::Dim)
        .put(words.col_detail, Tone::Dim);
    let row = |n: usize| {
        let Some(line) = lines.get(n) else { return Row::new() };
        let entry = &line.entry;
        let states = match (entry.from, entry.to) {
            (Some(from), Some(to)) if from != to => {
                format!("{} -> {}  ", names::state(words, from), names::state(words, to))
            }
            _ => String::new(),
        };
        Row::new()
            .right(&line.seq.to_string(), 8, Tone::Dim)
            .gap(2)
            .col(&model.clock(entry.at), 12, Tone::Dim)
            .col(names::person(words, entry.by.as_ref()), 13, Tone::Plain)
            .gap(1)
            .col(&names::act(words, &entry.act), 18, Tone::Strong)
            .col(&entry.task.map(|task| task.to_string()).unwrap_or_default(), 7, Tone::Title)
            .put(&states, Tone::Dim)
            .put(&one_line(entry.detail.as_deref().unwrap_or_default()), Tone::Plain)
    };
    super::list(pen, body, &heading, list, lines.len(), row);
    if lines.is_empty() {
        pen.row(
            Rect { y: body.y.saturating_add(2), ..body },
            &Row::new().gap(2).put(super::nothing(words, list, words.no_audit), Tone::Plain),
        );
    }
}
