//! The catalogue: what tasks can be made of.
//!
//! **Invariant:** pure; shows the scripts as they are, byte for byte but for what a terminal would obey.

use ratatui::layout::Rect;

use crate::domain::template::{ParamKind, Template};
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::model::{Model, matches};
use crate::shells::dashboard::screens::List;
use crate::shells::dashboard::words::{Words, fill, names};

/// The templates that pass the filter.
pub(in crate::shells::dashboard) fn rows<'m>(model: &'m Model, list: &List) -> Vec<&'m Template> {
    let Some(library) = &model.library else { return Vec::new() };
    let filter = list.filter.to_lowercase();
    let passes = |template: &&Template| {
        filter.is_empty() || matches(&format!("{} {} {}", template.id, template.name, template.title), &filter)
    };
    library.catalogue.iter().filter(passes).collect()
}

pub(super) fn draw(pen: &mut Pen<'_>, model: &Model, list: &List, body: Rect) {
    let words = pen.look.words;
    let templates = rows(model, list);
    let (area, detail) = if model.is_wide() {
        let width = body.width.saturating_mul(2) / 5;
        (
            Rect { width, ..body },
            Rect {
                x: body.x.saturating_add(width).saturating_add(1),
                width: body.width.saturating_sub(width).saturating_sub(1),
                ..body
            },
        )
    } else {
        let height = ((body.height.saturating_sub(1)) / 2).saturating_add(1);
        (
            Rect { height, ..body },
            Rect { y: body.y.saturating_add(height), height: body.height.saturating_sub(height), ..body },
        )
    };
    let heading = Row::new()
        .right("id", 6, Tone::Dim)
        .gap(2)
        .col(words.col_template, 24, Tone::Dim)
        .put(words.col_title, Tone::Dim);
    let row = |n: usize| {
        let Some(template) = templates.get(n) else { return Row::new() };
        Row::new()
            .right(&template.id.to_string(), 6, Tone::Dim)
            .gap(2)
            .col(template.name.as_str(), 23, Tone::Plain)
            .gap(1)
            .put(&template.title, Tone::Plain)
    };
    super::list(pen, area, &heading, list, templates.len(), row);
    if let Some(template) = templates.get(list.at) {
        let about = about(words, template);
        pen.rows(detail, &about);
    }
}

fn about(words: &Words, template: &Template) -> Vec<Row> {
    let mut rows =
        vec![Row::new().gap(1).put(template.name.as_str(), Tone::Title).gap(2).put(&template.title, Tone::Plain)];
    for param in &template.params {
        let kind = match &param.kind {
            ParamKind::String | ParamKind::Path => words.kind_text.to_owned(),
            ParamKind::Int => words.kind_int.to_owned(),
            ParamKind::Bool => "true | false".to_owned(),
            ParamKind::Enum(values) => values.join(" | "),
            ParamKind::Tag(repository) => fill(words.kind_tag, &[repository]),
        };
        let default = param.default.as_ref().map(|value| format!(" = {value}")).unwrap_or_default();
        let required = if param.required && param.default.is_none() { " *" } else { "" };
        rows.push(
            Row::new()
                .gap(3)
                .put(&format!("{}{required}", param.name), Tone::Strong)
                .put(&format!("  {}  {kind}{default}", param.label), Tone::Plain),
        );
    }
    for step in &template.steps {
        let account = step.work.account.as_ref().map(|account| format!(" {account}")).unwrap_or_default();
        let trigger = names::trigger(words, step.trigger);
        rows.push(
            Row::new()
                .gap(1)
                .put(&format!("{}.{}", step.group, step.name), Tone::Strong)
                .put(&format!("{account}  {trigger}  {}s", step.work.timeout_s), Tone::Dim),
        );
        rows.extend(
            step.work.script.lines().take(40).map(|line| Row::new().gap(3).put("| ", Tone::Dim).put(line, Tone::Plain)),
        );
    }
    rows
}
