//! The files that were refused, the newest first, and every reason for the selected one.
//!
//! **Invariant:** pure; names of files are people's, and so are shown like everything that people write.

use ratatui::layout::{Position, Rect};

use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::filter::matches;
use crate::shells::dashboard::layout::{above, lines};
use crate::shells::dashboard::list::{self, Item, List, draw_nothing, nothing};
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::message::{RefusedFile, Wants};
use crate::shells::dashboard::phrases::one_line;
use crate::shells::dashboard::screen::{BACK, FILTER, LineFilter, Offer, Screen};
use crate::shells::dashboard::words::{Words, names};
use crate::shells::text::{sentence, shown};

/// The files that were refused.
#[derive(Debug, Default)]
pub(in crate::shells::dashboard) struct RefusedScreen {
    list: List,
}

impl RefusedScreen {
    /// The files that pass the filter.
    fn rows<'a>(&self, cx: Context<'a>) -> Vec<&'a RefusedFile> {
        let filter = self.list.filter.to_lowercase();
        let passes = |file: &&RefusedFile| {
            let why = first_reason(cx.words, file);
            filter.is_empty()
                || matches(&format!("{} {} {} {why}", file.refusal.name, file.by, file.refusal.from), &filter)
        };
        cx.world.refused().iter().filter(passes).collect()
    }
}

fn first_reason(words: &Words, file: &RefusedFile) -> String {
    file.refusal.problems.first().map(|problem| names::problem(words, problem)).unwrap_or_default()
}

impl Screen for RefusedScreen {
    fn draw(&self, pen: &mut Pen<'_>, cx: Context<'_>, body: Rect) -> Option<Position> {
        let words = pen.look.words;
        let files = self.rows(cx);
        let (area, detail) = above(body);
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
                .col(&cx.world.clock(file.refusal.at), 12, Tone::Dim)
                .col(&file.by, 9, Tone::Plain)
                .gap(1)
                .col(&name, 25, Tone::Strong)
                .gap(1)
                .put(&one_line(&first_reason(cx.words, file)), Tone::Fail)
        };
        list::draw(pen, area, &heading, &self.list, files.len(), row);
        let Some(file) = files.get(self.list.at) else {
            draw_nothing(pen, body, nothing(words, &self.list, words.nothing_refused));
            return None;
        };
        let title = format!("{}/{}", file.refusal.from, one_line(&file.refusal.name));
        let mut about = vec![Row::new().gap(1).put(&title, Tone::Title)];
        let room = usize::from(detail.width).saturating_sub(4);
        for problem in &file.refusal.problems {
            let lines = sentence(&shown(&names::problem(words, problem)), room);
            about.extend(lines.iter().map(|line| Row::new().gap(3).put(line, Tone::Fail)));
        }
        pen.rows(detail, &about);
        None
    }

    fn offers(&self) -> &'static [Offer] {
        &[FILTER, BACK]
    }

    fn wants(&self, _cx: Context<'_>, wants: &mut Wants) {
        wants.refused = true;
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
        self.rows(cx).get(at).map(|file| Item::File(file.refusal.at, file.refusal.name.clone()))
    }

    fn place_of(&self, cx: Context<'_>, item: &Item) -> Option<usize> {
        let Item::File(at, name) = item else { return None };
        self.rows(cx).iter().position(|file| file.refusal.at == *at && file.refusal.name == *name)
    }

    fn seen(&self, cx: Context<'_>) -> usize {
        lines(above(cx.size.body()).0)
    }
}
