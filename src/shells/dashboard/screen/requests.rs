//! What was asked of the daemon from this screen, and what came of it.
//!
//! **Invariant:** pure; nothing is called done before the daemon's answer stands in the task's journal.

use ratatui::layout::{Position, Rect};

use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::keys::Action;
use crate::shells::dashboard::list::{self, Item, List, draw_nothing};
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::requests::Answer;
use crate::shells::dashboard::screen::{Reaction, Screen, Targets};
use crate::shells::dashboard::words::fill;

/// The newest requests.
#[derive(Debug)]
pub(in crate::shells::dashboard) struct RequestsScreen {
    list: List,
}

impl RequestsScreen {
    /// Opens it at the newest request.
    pub(super) fn at_end() -> RequestsScreen {
        RequestsScreen { list: List { at: usize::MAX, ..List::default() } }
    }
}

impl Screen for RequestsScreen {
    fn draw(&self, pen: &mut Pen<'_>, cx: Context<'_>, body: Rect) -> Option<Position> {
        let words = pen.look.words;
        let heading = Row::new()
            .gap(2)
            .col(words.col_when, 12, Tone::Dim)
            .col(words.col_act, 30, Tone::Dim)
            .put(words.col_result, Tone::Dim);
        let row = |n: usize| {
            let Some(request) = cx.world.requests().get(n) else { return Row::new() };
            let (said, tone) = match &request.answer {
                Answer::Writing => (words.answer_writing.to_owned(), Tone::Dim),
                Answer::Waits(name) if cx.world.daemon().is_none() => (fill(words.queued, &[name]), Tone::Warn),
                Answer::Waits(name) => (fill(words.sent, &[name]), Tone::Plain),
                Answer::Done(None) => (words.answer_done.to_owned(), Tone::Ok),
                Answer::Done(Some(id)) => (fill(words.taken, &[&id.to_string()]), Tone::Ok),
                Answer::Refused(why) => (why.clone(), Tone::Fail),
                Answer::Unanswered => (words.unanswered.to_owned(), Tone::Warn),
            };
            Row::new()
                .gap(2)
                .col(&cx.world.clock(request.at), 12, Tone::Dim)
                .col(&request.what, 29, Tone::Plain)
                .gap(1)
                .put(&said, tone)
        };
        list::draw(pen, body, &heading, &self.list, cx.world.requests().len(), row);
        if cx.world.requests().len() == 0 {
            draw_nothing(pen, body, words.no_requests);
        }
        None
    }

    fn targets(&self, cx: Context<'_>) -> Targets {
        Targets::of(cx.world.requests().get(self.list.at).and_then(|request| match request.answer {
            Answer::Done(Some(id)) => Some(id),
            _ => request.task,
        }))
    }

    fn key(&mut self, cx: Context<'_>, action: Action) -> Reaction {
        match action {
            Action::Open => self.targets(cx).task.map_or(Reaction::Stay, Reaction::OpenTask),
            _ => Reaction::Pass,
        }
    }

    fn list_mut(&mut self) -> Option<&mut List> {
        Some(&mut self.list)
    }

    fn count(&self, cx: Context<'_>) -> usize {
        cx.world.requests().len()
    }

    fn item(&self, cx: Context<'_>, at: usize) -> Option<Item> {
        cx.world.requests().number(at).map(Item::Request)
    }

    fn place_of(&self, cx: Context<'_>, item: &Item) -> Option<usize> {
        let Item::Request(number) = item else { return None };
        cx.world.requests().place(*number)
    }
}
