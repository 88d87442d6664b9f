//! What waits for whoever looks: approvals, gates, manual steps, hosts of which nobody knows, refused files; the oldest first.
//!
//! **Invariant:** pure; nothing is listed that the rules do not let this person do, as far as the dashboard knows them.

use ratatui::layout::{Position, Rect};

use crate::base::ids::TaskId;
use crate::base::time::Timestamp;
use crate::domain::needs::{NeedOf, needs_of};
use crate::domain::run::TaskState;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::filter::matches;
use crate::shells::dashboard::keys::Action;
use crate::shells::dashboard::list::{self, Item, List, draw_nothing, nothing};
use crate::shells::dashboard::look::{Pen, Row, Tone};
use crate::shells::dashboard::message::{RefusedFile, Wants};
use crate::shells::dashboard::phrases::one_line;
use crate::shells::dashboard::screen::refused::RefusedScreen;
use crate::shells::dashboard::screen::{BACK, FILTER, LineFilter, OPEN, Offer, Reaction, Screen, Targets};
use crate::shells::dashboard::words::{Words, fill, names};

/// What waits for whoever looks.
#[derive(Debug, Default)]
pub(in crate::shells::dashboard) struct NeedsScreen {
    list: List,
}

/// Something that waits.
struct Line<'a> {
    since: Timestamp,
    of: LineOf<'a>,
    /// What it is called, and what is needed.
    name: String,
    needed: String,
}

enum LineOf<'a> {
    Task(TaskId),
    File(&'a RefusedFile),
}

fn needed(words: &Words, what: &NeedOf) -> String {
    match what {
        NeedOf::Approval => words.need_approval.to_owned(),
        NeedOf::Gate { group, batch } => fill(words.need_gate, &[&batch.to_string(), &group.to_string()]),
        NeedOf::Step { step, hosts } => fill(words.need_step, &[step.as_str(), &hosts.to_string()]),
        NeedOf::Unknown { hosts } => fill(words.need_unknown, &[&hosts.to_string()]),
    }
}

impl NeedsScreen {
    fn rows<'a>(&self, cx: Context<'a>) -> Vec<Line<'a>> {
        let me = cx.world.me().actor.uid;
        let of_tasks = cx.world.runs().values().flat_map(|run| {
            // What is not known yet is shown: the daemon judges.
            let may = |right| !matches!(cx.world.may(right, run), Some(Err(_)));
            let needs = needs_of(run, me, may).into_iter();
            needs.map(move |need| Line {
                since: need.since,
                of: LineOf::Task(run.id),
                name: format!("{} {}", run.id, one_line(&run.plan.task_name)),
                needed: needed(cx.words, &need.what),
            })
        });
        let own = cx.world.refused().iter().filter(|file| file.refusal.uid == Some(me));
        let of_files = own.map(|file| {
            let why =
                file.refusal.problems.first().map(|problem| names::problem(cx.words, problem)).unwrap_or_default();
            Line {
                since: file.refusal.at,
                of: LineOf::File(file),
                name: format!("{}/{}", file.refusal.from, one_line(&file.refusal.name)),
                needed: fill(cx.words.need_refused, &[&one_line(&why)]),
            }
        });
        let filter = self.list.filter.to_lowercase();
        let passes = |line: &Line<'_>| filter.is_empty() || matches(&format!("{} {}", line.name, line.needed), &filter);
        let mut lines: Vec<Line<'a>> = of_tasks.chain(of_files).filter(passes).collect();
        lines.sort_by(|a, b| (a.since, &a.name).cmp(&(b.since, &b.name)));
        lines
    }
}

impl Screen for NeedsScreen {
    fn draw(&self, pen: &mut Pen<'_>, cx: Context<'_>, body: Rect) -> Option<Position> {
        let words = pen.look.words;
        let lines = self.rows(cx);
        let heading = Row::new()
            .gap(2)
            .col(words.col_when, 12, Tone::Dim)
            .col(words.col_task, 30, Tone::Dim)
            .put(words.col_needed, Tone::Dim);
        let row = |n: usize| {
            let Some(line) = lines.get(n) else { return Row::new() };
            let tone = if matches!(line.of, LineOf::File(_)) { Tone::Fail } else { Tone::Plain };
            Row::new()
                .gap(2)
                .col(&cx.world.clock(line.since), 12, Tone::Dim)
                .col(&line.name, 29, Tone::Strong)
                .gap(1)
                .put(&line.needed, tone)
        };
        list::draw(pen, body, &heading, &self.list, lines.len(), row);
        if lines.is_empty() {
            draw_nothing(pen, body, nothing(words, &self.list, words.needs_nothing));
        }
        None
    }

    fn offers(&self) -> &'static [Offer] {
        &[OPEN, FILTER, BACK]
    }

    fn wants(&self, cx: Context<'_>, wants: &mut Wants) {
        wants.refused = true;
        let open = [TaskState::New, TaskState::Running];
        let tasks = cx.world.tasks().iter().filter(|(_, standing)| open.contains(&standing.state));
        wants.follow.extend(tasks.map(|(id, _)| *id));
    }

    fn targets(&self, cx: Context<'_>) -> Targets {
        Targets::of(self.rows(cx).get(self.list.at).and_then(|line| match line.of {
            LineOf::Task(id) => Some(id),
            LineOf::File(_) => None,
        }))
    }

    fn key(&mut self, cx: Context<'_>, action: Action) -> Reaction {
        if action != Action::Open {
            return Reaction::Pass;
        }
        match self.rows(cx).get(self.list.at).map(|line| &line.of) {
            Some(LineOf::Task(id)) => Reaction::OpenTask(*id),
            Some(LineOf::File(_)) => Reaction::Open(Box::new(RefusedScreen::default())),
            None => Reaction::Stay,
        }
    }

    fn line_filter(&mut self) -> LineFilter<'_> {
        LineFilter { filter: Some(&mut self.list.filter), ..LineFilter::default() }
    }

    fn notes(&self, words: &Words) -> Vec<(String, Tone)> {
        self.list.notes(words)
    }

    fn list_mut(&mut self) -> Option<&mut List> {
        Some(&mut self.list)
    }

    fn count(&self, cx: Context<'_>) -> usize {
        self.rows(cx).len()
    }

    fn item(&self, cx: Context<'_>, at: usize) -> Option<Item> {
        self.rows(cx).get(at).map(|line| match line.of {
            LineOf::Task(id) => Item::Task(id),
            LineOf::File(file) => Item::File(file.refusal.at, file.refusal.name.clone()),
        })
    }

    fn place_of(&self, cx: Context<'_>, item: &Item) -> Option<usize> {
        self.rows(cx).iter().position(|line| match (&line.of, item) {
            (LineOf::Task(id), Item::Task(wanted)) => id == wanted,
            (LineOf::File(file), Item::File(at, name)) => file.refusal.at == *at && file.refusal.name == *name,
            _ => false,
        })
    }
}
