//! The history: tasks that ended, the newest first.
//!
//! **Invariant:** pure; knows only the part that is seen.

use ratatui::layout::{Position, Rect};

use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::keys::{Action, Place};
use crate::shells::dashboard::list::{self, Item, List, draw_nothing, nothing};
use crate::shells::dashboard::look::{Pen, Row, Tone, outcome_tone};
use crate::shells::dashboard::message::{HistoryWant, Wants};
use crate::shells::dashboard::phrases::span;
use crate::shells::dashboard::screen::{BACK, FILTER, LineFilter, OPEN, Offer, Reaction, Screen, ScreenEvent, Targets};
use crate::shells::dashboard::words::{Words, names};

/// The tasks that ended.
#[derive(Debug, Default)]
pub(super) struct HistoryScreen {
    list: List,
}

impl Screen for HistoryScreen {
    fn draw(&self, pen: &mut Pen<'_>, cx: Context<'_>, body: Rect) -> Option<Position> {
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
            let Some(line) = cx.world.past().line(n) else { return Row::new() };
            let took = line.started.map(|started| span(line.ended.0.saturating_sub(started.0))).unwrap_or_default();
            Row::new()
                .gap(2)
                .col(&cx.world.clock(line.ended), 12, Tone::Dim)
                .col(&format!("{} {}", line.id, line.task_name), name.saturating_sub(1), Tone::Plain)
                .gap(1)
                .col(&line.submitter.user, 9, Tone::Plain)
                .gap(1)
                .col(names::outcome(words, line.outcome), 12, outcome_tone(line.outcome))
                .right(&format!("{}/{}", line.hosts.saturating_sub(line.hosts_not_ok), line.hosts), 12, Tone::Plain)
                .right(&took, 9, Tone::Dim)
        };
        list::draw(pen, body, &heading, &self.list, cx.world.past().count, line);
        if cx.world.past().count == 0 {
            draw_nothing(pen, body, nothing(words, &self.list, words.nothing_ended));
        }
        None
    }

    fn view(&self) -> &'static str {
        "history"
    }

    fn places(&self) -> &'static [Place] {
        &[Place::Tasks, Place::Lists]
    }

    fn offers(&self) -> &'static [Offer] {
        &[OPEN, FILTER, BACK]
    }

    fn wants(&self, cx: Context<'_>, wants: &mut Wants) {
        let (filter, failed_only) = (self.list.filter.clone(), self.list.failed_only);
        let rows = cx.size.body_rows();
        wants.history = Some(HistoryWant { filter, failed_only, start: self.list.top, rows });
        wants.follow.extend(self.targets(cx).task);
    }

    fn targets(&self, cx: Context<'_>) -> Targets {
        Targets::of(cx.world.past().line(self.list.at).map(|line| line.id))
    }

    fn key(&mut self, cx: Context<'_>, action: Action) -> Reaction {
        match action {
            Action::Open => self.targets(cx).task.map_or(Reaction::Stay, Reaction::OpenTask),
            _ => Reaction::Pass,
        }
    }

    fn on_event(&mut self, cx: Context<'_>, news: &ScreenEvent<'_>) {
        // What ended meanwhile stands above what was known: the rest stands further down.
        if let ScreenEvent::PastGrew(more) = news
            && let Some(Item::Task(id)) = &self.list.chosen
            && cx.world.past().place_of(*id).is_none()
        {
            self.list.at = self.list.at.saturating_add(*more);
            self.list.top = self.list.top.saturating_add(if self.list.top > 0 { *more } else { 0 });
        }
    }

    fn is_partly_known(&self) -> bool {
        true
    }

    fn notes(&self, words: &Words) -> Vec<(String, Tone)> {
        self.list.notes(words)
    }

    fn line_filter(&mut self) -> LineFilter<'_> {
        LineFilter { filter: Some(&mut self.list.filter), failed_only: Some(&mut self.list.failed_only) }
    }

    fn list_mut(&mut self) -> Option<&mut List> {
        Some(&mut self.list)
    }

    fn count(&self, cx: Context<'_>) -> usize {
        cx.world.past().count
    }

    fn item(&self, cx: Context<'_>, at: usize) -> Option<Item> {
        cx.world.past().line(at).map(|line| Item::Task(line.id))
    }

    fn place_of(&self, cx: Context<'_>, item: &Item) -> Option<usize> {
        let Item::Task(id) = item else { return None };
        cx.world.past().place_of(*id)
    }
}
