//! The audit: who did what, the newest last.
//!
//! **Invariant:** pure; shows what stands in the chain and does not judge it: `spoolgate audit verify` does.

use ratatui::layout::{Position, Rect};

use crate::domain::audit::Line;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::filter::matches;
use crate::shells::dashboard::keys::Action;
use crate::shells::dashboard::list::{self, Item, List, draw_nothing, nothing};
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::message::Wants;
use crate::shells::dashboard::phrases::one_line;
use crate::shells::dashboard::screen::{BACK, FILTER, LineFilter, OPEN, Offer, Reaction, Screen, Targets};
use crate::shells::dashboard::words::{Words, names};

/// The newest lines of the audit.
#[derive(Debug)]
pub(super) struct AuditScreen {
    list: List,
}

impl AuditScreen {
    /// Opens it at its newest line.
    pub(super) fn at_end() -> AuditScreen {
        AuditScreen { list: List { at: usize::MAX, ..List::default() } }
    }

    /// The lines that pass the filter.
    fn rows<'a>(&self, cx: Context<'a>) -> Vec<&'a Line> {
        let filter = self.list.filter.to_lowercase();
        let passes = |line: &&Line| {
            let entry = &line.entry;
            let task = entry.task.map(|task| task.to_string()).unwrap_or_default();
            let detail = entry.detail.as_deref().unwrap_or_default();
            let words = cx.words;
            let (act, by) = (names::act(words, &entry.act), names::person(words, entry.by.as_ref()));
            filter.is_empty() || matches(&format!("{} {act} {task} {by} {detail}", entry.act), &filter)
        };
        cx.world.audit().iter().filter(passes).collect()
    }
}

impl Screen for AuditScreen {
    fn draw(&self, pen: &mut Pen<'_>, cx: Context<'_>, body: Rect) -> Option<Position> {
        let words = pen.look.words;
        let lines = self.rows(cx);
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
                .col(&cx.world.clock(entry.at), 12, Tone::Dim)
                .col(names::person(words, entry.by.as_ref()), 13, Tone::Plain)
                .gap(1)
                .col(&names::act(words, &entry.act), 18, Tone::Strong)
                .col(&entry.task.map(|task| task.to_string()).unwrap_or_default(), 7, Tone::Title)
                .put(&states, Tone::Dim)
                .put(&one_line(entry.detail.as_deref().unwrap_or_default()), Tone::Plain)
        };
        list::draw(pen, body, &heading, &self.list, lines.len(), row);
        if lines.is_empty() {
            draw_nothing(pen, body, nothing(words, &self.list, words.no_audit));
        }
        None
    }

    fn view(&self) -> &'static str {
        "audit"
    }

    fn offers(&self) -> &'static [Offer] {
        &[OPEN, FILTER, BACK]
    }

    fn wants(&self, _cx: Context<'_>, wants: &mut Wants) {
        wants.audit = true;
    }

    fn targets(&self, cx: Context<'_>) -> Targets {
        Targets::of(self.rows(cx).get(self.list.at).and_then(|line| line.entry.task))
    }

    fn key(&mut self, cx: Context<'_>, action: Action) -> Reaction {
        match action {
            Action::Open => self.targets(cx).task.map_or(Reaction::Stay, Reaction::OpenTask),
            _ => Reaction::Pass,
        }
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
        self.rows(cx).get(at).map(|line| Item::Entry(line.seq))
    }

    fn place_of(&self, cx: Context<'_>, item: &Item) -> Option<usize> {
        let Item::Entry(seq) = item else { return None };
        self.rows(cx).iter().position(|line| line.seq == *seq)
    }
}
