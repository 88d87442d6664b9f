//! The screens: one file each, with what it remembers, what it wants read, what its keys do, and how it is painted.
//!
//! **Invariant:** pure; a screen changes nothing but itself. What else is to happen it returns as a [`Reaction`].

mod audit;
mod board;
mod diff;
mod history;
mod host;
mod hosts;
mod log;
mod needs;
mod refused;
mod requests;
pub(super) mod table;
mod task;
mod templates;
mod withheld;

use std::any::Any;
use std::fmt::Debug;

use ratatui::layout::{Position, Rect};

use crate::base::ids::{HostName, TaskId, TemplateName};
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::keys::{Action, Place};
use crate::shells::dashboard::list::{Item, List};
use crate::shells::dashboard::look::{Pen, Tone};
use crate::shells::dashboard::message::{Command, LogPage, LogPart, Wants};
use crate::shells::dashboard::prompt::Prompt;
use crate::shells::dashboard::words::Words;

pub(super) use board::BoardScreen;
pub(super) use diff::DiffScreen;
pub(super) use requests::RequestsScreen;
pub(super) use task::TaskScreen;

/// An act, and what the last line calls it.
pub(super) type Offer = (Action, fn(&Words) -> &'static str);

/// What the last line offers on a list whose lines can be opened.
const OPEN: Offer = (Action::Open, |words| words.hint_open);
const FILTER: Offer = (Action::Find, |words| words.hint_filter);
const BACK: Offer = (Action::Back, |words| words.hint_back);

/// What follows from a key on a screen.
#[derive(Debug)]
pub(super) enum Reaction {
    /// It is none of the screen's own keys.
    Pass,
    /// Nothing else.
    Stay,
    /// Another screen is shown over this one.
    Open(Box<dyn Screen>),
    /// A task is shown over this screen.
    OpenTask(TaskId),
    /// The form for a new task of this template is opened.
    OpenForm(TemplateName),
    /// Something is said in the bottom line.
    Say(String, Tone),
    /// Something is asked for in the bottom line; the screen gets the answer.
    Ask(Prompt),
    /// A text is put where it can be pasted.
    Copy(String),
    /// Something is done outside.
    Do(Command),
}

/// What acts are about.
#[derive(Clone, Debug, Default)]
pub(super) struct Targets {
    /// The task that is selected or shown.
    pub(super) task: Option<TaskId>,
    /// The tasks that are marked.
    pub(super) marked: Vec<TaskId>,
    /// The host of the task that is selected.
    pub(super) host: Option<HostName>,
    /// The hosts of the task that are shown, where not all of them are.
    pub(super) hosts: Vec<HostName>,
}

impl Targets {
    pub(super) fn of(task: Option<TaskId>) -> Targets {
        Targets { task, ..Targets::default() }
    }

    /// The tasks that an act is about: those that are marked, or the one that is selected.
    pub(super) fn tasks(&self) -> Vec<TaskId> {
        if self.marked.is_empty() { self.task.into_iter().collect() } else { self.marked.clone() }
    }
}

/// What chooses the lines that a screen shows, as far as it can be changed.
#[derive(Debug, Default)]
pub(super) struct LineFilter<'a> {
    /// The text that lines must have.
    pub(super) filter: Option<&'a mut String>,
    /// Whether only what failed is shown.
    pub(super) failed_only: Option<&'a mut bool>,
}

/// Something that happened, and that screens hear of beside the facts.
#[derive(Debug)]
pub(super) enum ScreenEvent<'a> {
    /// A task is listed no more.
    Gone(TaskId),
    /// So many lines came in above the part of the history that was known.
    PastGrew(usize),
    /// A page of a log was read.
    Page(&'a LogPage),
    /// The page of a log is to begin at this offset.
    PageAt(&'a LogPart, u64),
    /// Something was asked of the daemon about what acts were about.
    Ordered,
    /// Another screen is shown over this one.
    Covered,
}

/// A screen. Everything that is not the same for all plain lists has to be said by the screen itself.
pub(super) trait Screen: Any + Debug {
    /// Paints it into the room between the lines above and below; returns where the terminal's cursor goes.
    fn draw(&self, pen: &mut Pen<'_>, cx: Context<'_>, body: Rect) -> Option<Position>;

    /// The name of the view that it is a part of.
    fn view(&self) -> &'static str {
        "board"
    }

    /// Where the keys that work on it mean something, beside those that work everywhere.
    fn places(&self) -> &'static [Place] {
        &[Place::Lists]
    }

    /// What the last line offers, what is worth most first.
    fn offers(&self) -> &'static [Offer] {
        &[OPEN, BACK]
    }

    /// What is said of it beside the names of the views.
    fn notes(&self, _words: &Words) -> Vec<(String, Tone)> {
        Vec::new()
    }

    /// Adds what it needs to know; files are read for nothing else.
    fn wants(&self, _cx: Context<'_>, _wants: &mut Wants) {}

    /// What acts are about here.
    fn targets(&self, _cx: Context<'_>) -> Targets {
        Targets::default()
    }

    /// Whether it shows a task that could turn out not to be there.
    fn is_about(&self, _id: TaskId) -> bool {
        false
    }

    /// Whether it shows something that grows at any moment, and so is looked at often.
    fn is_live(&self) -> bool {
        false
    }

    /// How often it counted again what it shows: a frame that was painted before the last time is old.
    fn times_counted(&self) -> u64 {
        0
    }

    /// Does what a key of its own asks for. What every list does alike with a key follows when it passes.
    fn key(&mut self, _cx: Context<'_>, _action: Action) -> Reaction {
        Reaction::Pass
    }

    /// Takes what was typed where it had asked for something.
    fn answer(&mut self, _prompt: &Prompt) -> Reaction {
        Reaction::Stay
    }

    /// Takes what happened beside the facts.
    fn on_event(&mut self, _cx: Context<'_>, _news: &ScreenEvent<'_>) {}

    /// What chooses its lines.
    fn line_filter(&mut self) -> LineFilter<'_> {
        LineFilter::default()
    }

    /// Its list of lines.
    fn list_mut(&mut self) -> Option<&mut List> {
        None
    }

    /// How many lines its list has.
    fn count(&self, _cx: Context<'_>) -> usize {
        0
    }

    /// How many lines of its list are seen at once.
    fn seen(&self, cx: Context<'_>) -> usize {
        cx.size.body_rows().saturating_sub(1)
    }

    /// What a line of its list is about.
    fn item(&self, _cx: Context<'_>, _at: usize) -> Option<Item> {
        None
    }

    /// Where its list has what a line is about.
    fn place_of(&self, _cx: Context<'_>, _item: &Item) -> Option<usize> {
        None
    }

    /// Whether lines may be there that are not known: what is in no line that is known stays selected.
    fn is_partly_known(&self) -> bool {
        false
    }

    /// Moves the selection, or what is seen.
    fn scroll(&mut self, cx: Context<'_>, by: isize) -> Reaction {
        let count = self.count(cx);
        if let Some(list) = self.list_mut() {
            list.step(by, count);
        }
        Reaction::Stay
    }

    /// Selects what a row of the body shows; the first row names the columns.
    fn click(&mut self, _cx: Context<'_>, row: usize) {
        if let Some(list) = self.list_mut() {
            list.stand(list.top.saturating_add(row.saturating_sub(1)));
        }
    }

    /// Finds what was selected where it stands now, and keeps it in sight.
    fn settle(&mut self, cx: Context<'_>) {
        let (count, seen, partly) = (self.count(cx), self.seen(cx), self.is_partly_known());
        let Some(chosen) = self.list_mut().map(|list| list.chosen.clone()) else { return };
        let found = chosen.as_ref().and_then(|item| self.place_of(cx, item));
        let Some(list) = self.list_mut() else { return };
        // Of a long history only a part is known; what stands in no known part is where it was.
        let elsewhere = partly && chosen.is_some() && found.is_none() && !list.again;
        let instead = !elsewhere && list.follow(found);
        list.settle(count, seen);
        if instead {
            let at = list.at;
            let item = self.item(cx, at);
            if let Some(list) = self.list_mut() {
                list.chosen = item;
            }
        }
    }
}

impl dyn Screen {
    /// Whether it is of this kind.
    pub(super) fn is<S: Screen>(&self) -> bool {
        let any: &dyn Any = self;
        any.is::<S>()
    }

    /// Whether it is of the same kind as another.
    pub(super) fn is_like(&self, other: &dyn Screen) -> bool {
        let (own, other): (&dyn Any, &dyn Any) = (self, other);
        own.type_id() == other.type_id()
    }

    /// Remembers that somebody changed what is listed.
    pub(super) fn listed_anew(&mut self) {
        if let Some(list) = self.list_mut() {
            list.again = true;
        }
    }

    /// The screen as what it is.
    #[cfg(test)]
    pub(super) fn as_kind<S: Screen>(&self) -> Option<&S> {
        let any: &dyn Any = self;
        any.downcast_ref()
    }
}
