//! The files that were refused, the newest first, and every reason for the selected one.
//!
//! **Invariant:** pure; names of files are people's, and so are shown like everything that people write.

use ratatui::layout::Rect;

use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::message::RefusedFile;
use crate::shells::dashboard::model::{Model, matches};
use crate::shells::dashboard::screens::List;
use crate::shells::dashboard::view::one_line;
use crate::shells::dashboard::words::{Words, names};
use crate::shells::text::{sentence, shown};

/// The files that pass the filter.
pub(in crate::shells::dashboard) fn rows<'m>(model: &'m Model, list: &List) -> Vec<&'m RefusedFile> {
    let filter = list.filter.to_lowercase();
    let passes = |file: &&RefusedFile| {
        let why = first_reason(model.look.words, file);
        filter.is_empty() || matches(&format!("{} {} {} {why}", file.refusal.name, file.by, file.refusal.from), &filter)
    };
    model.refused.1.iter().filter(passes).collect()
}

fn first_reason(words: &Words, file: &RefusedFile) -> String {
    file.refusal.problems.first().map(|problem| names::problem(words, problem)).unwrap_or_default()
}

pub(super) fn draw(pen: &mut Pen<'_>, model: &Model, list: &List, body: Rect) {
    let words = pen.look.words;
    let files = rows(model, list);
    let height = (body.height.saturating_sub(1) / 2).saturating_add(1);
    let (area, detail) = (
        Rect { height, ..body },
        Rect { y: body.y.saturating_add(height), height: body.height.saturating_sub(height), ..body },
    );
    let heading = Row::new()
        .gap(2)
        .col(words.col_when, 12, Tone::Dim)
        .col(words.col_by, 10, Tone::Dim)
        .col(words.col_file, 26, Tone::Dim)
        .put(words.col_why, Tone::Dim);
    let row = |n: usize| {
        let Some(file) = files.get(n) else { return Row::new() };
        let name = format!("{}/{}", file.refusal.from, one_line(&file.refusal.name));
        Row::new()
            .gap(2)
            .col(&model.clock(file.refusal.at), 12, Tone::Dim)
            .col(&file.by, 9, Tone::Plain)
            .gap(1)
            .col(&name, 25, Tone::Strong)
            .gap(1)
            .put(&one_line(&first_reason(model.look.words, file)), Tone::Fail)
    };
    super::list(pen, area, &heading, list, files.len(), row);
    let Some(file) = files.get(list.at) else {
        pen.row(
            Rect { y: body.y.saturating_add(2), ..body },
            &Row::new().gap(2).put(super::nothing(words, list, words.nothing_refused), Tone::Plain),
        );
        return;
    };
    let title = format!("{}/{}", file.refusal.from, one_line(&file.refusal.name));
    let mut about = vec![Row::new().gap(1).put(&title, Tone::Title)];
    let room = usize::from(detail.width).saturating_sub(4);
    for problem in &file.refusal.problems {
        let lines = sentence(&shown(&names::problem(words, problem)), room);
        about.extend(lines.iter().map(|line| Row::new().gap(3).put(line, Tone::Fail)));
    }
    pen.rows(detail, &about);
}
