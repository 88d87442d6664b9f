//! What was asked of the daemon from this screen, and what came of it.
//!
//! **Invariant:** pure; nothing is called done before the daemon's answer stands in the task's journal.

use ratatui::layout::Rect;

use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::model::{Answer, Model};
use crate::shells::dashboard::screens::List;
use crate::shells::dashboard::words::fill;

pub(super) fn draw(pen: &mut Pen<'_>, model: &Model, list: &List, body: Rect) {
    let words = pen.look.words;
    let heading = Row::new()
        .gap(2)
        .col(words.col_when, 12, Tone::Dim)
        .col(words.col_act, 30, Tone::Dim)
        .put(words.col_result, Tone::Dim);
    let row = |n: usize| {
        let Some(request) = model.requests.get(n) else { return Row::new() };
        let (said, tone) = match &request.answer {
            Answer::Writing => (words.answer_writing.to_owned(), Tone::Dim),
            Answer::Waits(name) if model.daemon.is_none() => (fill(words.queued, &[name]), Tone::Warn),
            Answer::Waits(name) => (fill(words.sent, &[name]), Tone::Plain),
            Answer::Done(None) => (words.answer_done.to_owned(), Tone::Ok),
            Answer::Done(Some(id)) => (fill(words.taken, &[&id.to_string()]), Tone::Ok),
            Answer::Refused(why) => (why.clone(), Tone::Fail),
            Answer::Unanswered => (words.unanswered.to_owned(), Tone::Warn),
        };
        Row::new()
            .gap(2)
            .col(&model.clock(request.at), 12, Tone::Dim)
            .col(&request.what, 29, Tone::Plain)
            .gap(1)
            .put(&said, tone)
    };
    super::list(pen, body, &heading, list, model.requests.len(), row);
    if model.requests.is_empty() {
        pen.row(Rect { y: body.y.saturating_add(2), ..body }, &Row::new().gap(2).put(words.no_requests, Tone::Plain));
    }
}
