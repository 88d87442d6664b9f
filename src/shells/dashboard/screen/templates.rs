//! The catalogue: what tasks can be made of.
//!
//! **Invariant:** pure; shows the scripts as they are, byte for byte but for what a terminal would obey.

use ratatui::layout::{Position, Rect};

use crate::domain::template::{ParamKind, Template};
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::filter::matches;
use crate::shells::dashboard::keys::Action;
use crate::shells::dashboard::layout::{ScreenSize, above, beside, lines};
use crate::shells::dashboard::list::{self, Item, List};
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::screen::{BACK, FILTER, LineFilter, Offer, Reaction, Screen};
use crate::shells::dashboard::words::{Words, fill, names};

/// The templates of the configuration.
#[derive(Debug, Default)]
pub(super) struct TemplatesScreen {
    list: List,
}

/// Where the list stands, and what is known of its selected line.
fn parts(size: ScreenSize, body: Rect) -> (Rect, Rect) {
    if size.is_wide() { beside(body) } else { above(body) }
}

impl TemplatesScreen {
    /// The templates that pass the filter.
    fn rows<'a>(&self, cx: Context<'a>) -> Vec<&'a Template> {
        let Some(library) = cx.world.library() else { return Vec::new() };
        let filter = self.list.filter.to_lowercase();
        let passes = |template: &&Template| {
            filter.is_empty() || matches(&format!("{} {} {}", template.id, template.name, template.title), &filter)
        };
        library.catalogue.iter().filter(passes).collect()
    }
}

impl Screen for TemplatesScreen {
    fn draw(&self, pen: &mut Pen<'_>, cx: Context<'_>, body: Rect) -> Option<Position> {
        let words = pen.look.words;
        let templates = self.rows(cx);
        let (area, detail) = parts(cx.size, body);
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
        list::draw(pen, area, &heading, &self.list, templates.len(), row);
        if let Some(template) = templates.get(self.list.at) {
            let about = about(words, template);
            pen.rows(detail, &about);
        }
        None
    }

    fn view(&self) -> &'static str {
        "templates"
    }

    fn offers(&self) -> &'static [Offer] {
        &[(Action::Open, |words| words.hint_new), FILTER, BACK]
    }

    fn key(&mut self, cx: Context<'_>, action: Action) -> Reaction {
        if action != Action::Open {
            return Reaction::Pass;
        }
        let template = self.rows(cx).get(self.list.at).filter(|_| !cx.readonly).map(|template| template.name.clone());
        template.map_or(Reaction::Stay, Reaction::OpenForm)
    }

    fn notes(&self, words: &Words) -> Vec<(String, Tone)> {
        self.list.notes(words)
    }

    fn line_filter(&mut self) -> LineFilter<'_> {
        LineFilter { filter: Some(&mut self.list.filter), ..LineFilter::default() }
    }

    fn list_mut(&mut self) -> Option<&mut List> {
        Some(&mut self.list)
    }

    fn count(&self, cx: Context<'_>) -> usize {
        self.rows(cx).len()
    }

    fn item(&self, cx: Context<'_>, at: usize) -> Option<Item> {
        self.rows(cx).get(at).map(|template| Item::Template(template.name.clone()))
    }

    fn place_of(&self, cx: Context<'_>, item: &Item) -> Option<usize> {
        let Item::Template(name) = item else { return None };
        self.rows(cx).iter().position(|template| template.name == *name)
    }

    fn seen(&self, cx: Context<'_>) -> usize {
        lines(parts(cx.size, cx.size.body()).0)
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
