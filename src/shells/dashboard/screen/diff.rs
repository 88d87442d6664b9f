//! Two runs beside each other: what differs in their plans, and what differs in what came of them.
//!
//! **Invariant:** pure.

use std::collections::BTreeMap;

use ratatui::layout::{Position, Rect};

use crate::base::ids::{HostName, TaskId};
use crate::domain::outcome::Outcome;
use crate::domain::plan::diff::differences;
use crate::domain::run::Run;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::list::{self, List};
use crate::shells::dashboard::look::{Pen, Row, Tone, outcome_tone};
use crate::shells::dashboard::message::Wants;
use crate::shells::dashboard::screen::Screen;
use crate::shells::dashboard::words::{fill, names};

/// What differs between two runs.
#[derive(Debug)]
pub(in crate::shells::dashboard) struct DiffScreen {
    was: TaskId,
    now: TaskId,
    list: List,
}

impl DiffScreen {
    pub(in crate::shells::dashboard) fn of(was: TaskId, now: TaskId) -> DiffScreen {
        DiffScreen { was, now, list: List::default() }
    }

    /// Everything that differs, line by line.
    fn rows(&self, cx: Context<'_>) -> Vec<Row> {
        let words = cx.words;
        let (Some(was), Some(now)) = (cx.world.run(self.was), cx.world.run(self.now)) else {
            return vec![Row::new().gap(1).put(words.reading, Tone::Dim)];
        };
        let mut rows = vec![Row::new().gap(1).put(words.diff_plans, Tone::Strong)];
        let found = differences(&was.plan, &now.plan);
        if found.is_empty() {
            rows.push(Row::new().gap(3).put(words.same_plan, Tone::Ok));
        }
        for difference in found {
            rows.push(Row::new().gap(3).put(&difference.pointer, Tone::Key));
            if let Some(was) = difference.was {
                rows.push(Row::new().gap(5).put("- ", Tone::Fail).put(&was.replace('\n', " "), Tone::Plain));
            }
            if let Some(now) = difference.now {
                rows.push(Row::new().gap(5).put("+ ", Tone::Ok).put(&now.replace('\n', " "), Tone::Plain));
            }
        }
        rows.push(Row::new());
        rows.push(Row::new().gap(1).put(words.diff_hosts, Tone::Strong));
        let (before, after) = (outcomes(was), outcomes(now));
        let mut same = 0_usize;
        for (host, outcome) in &after {
            let known = before.get(host);
            if known == Some(outcome) {
                same = same.saturating_add(1);
                continue;
            }
            let first = known.map_or("-", |outcome| names::outcome(words, *outcome));
            rows.push(
                Row::new()
                    .gap(3)
                    .col(host.as_str(), 26, Tone::Plain)
                    .put(first, known.map_or(Tone::Dim, |outcome| outcome_tone(*outcome)))
                    .put(" -> ", Tone::Dim)
                    .put(names::outcome(words, *outcome), outcome_tone(*outcome)),
            );
        }
        for host in before.keys().filter(|host| !after.contains_key(*host)) {
            rows.push(Row::new().gap(3).col(host.as_str(), 26, Tone::Plain).put(words.not_any_more, Tone::Dim));
        }
        rows.push(Row::new().gap(3).put(&fill(words.same_outcome, &[&same.to_string()]), Tone::Dim));
        rows
    }
}

fn outcomes(run: &Run) -> BTreeMap<HostName, Outcome> {
    let mut worst: BTreeMap<HostName, Outcome> = BTreeMap::new();
    for lane in &run.lanes {
        let outcome = lane.outcome();
        let entry = worst.entry(lane.host.clone()).or_insert(outcome);
        *entry = (*entry).max(outcome);
    }
    worst
}

impl Screen for DiffScreen {
    fn draw(&self, pen: &mut Pen<'_>, cx: Context<'_>, body: Rect) -> Option<Position> {
        let rows = self.rows(cx);
        let heading = fill(pen.look.words.diff_head, &[&self.was.to_string(), &self.now.to_string()]);
        let heading = Row::new().gap(1).put(&heading, Tone::Title);
        list::draw(pen, body, &heading, &self.list, rows.len(), |n| rows.get(n).cloned().unwrap_or_default());
        None
    }

    fn wants(&self, _cx: Context<'_>, wants: &mut Wants) {
        wants.follow.extend([self.was, self.now]);
    }

    fn is_about(&self, id: TaskId) -> bool {
        self.was == id || self.now == id
    }

    fn list_mut(&mut self) -> Option<&mut List> {
        Some(&mut self.list)
    }

    fn count(&self, cx: Context<'_>) -> usize {
        self.rows(cx).len()
    }
}
