//! One task: its steps over its hosts, a map of all of them, why they fail, and what the selected one prints.
//!
//! **Invariant:** pure; acts are about the host whose row is selected, or about no host.

mod draw;
mod hosts;
mod parts;
mod state;

use std::collections::BTreeSet;

use ratatui::layout::{Position, Rect};

use crate::base::ids::{HostName, TaskId};
use crate::domain::run::TaskState;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::keys::{Action, Place};
use crate::shells::dashboard::list::{List, notes};
use crate::shells::dashboard::log_keys::log_key;
use crate::shells::dashboard::look::{Pen, Tone};
use crate::shells::dashboard::message::Wants;
use crate::shells::dashboard::screen::log::LogScreen;
use crate::shells::dashboard::screen::task::parts::{host_rows_seen, map_room};
use crate::shells::dashboard::screen::task::state::Zoom;
use crate::shells::dashboard::screen::{LineFilter, Offer, Reaction, Screen, ScreenEvent, Targets};
use crate::shells::dashboard::table::{HostRow, heat};
use crate::shells::dashboard::words::{Words, fill};

pub(in crate::shells::dashboard) use state::TaskScreen;

const OFFERS: &[Offer] = &[
    (Action::Open, |words| words.hint_log),
    (Action::Approve, |words| words.hint_approve),
    (Action::Reject, |words| words.hint_reject),
    (Action::Release, |words| words.hint_release),
    (Action::Hold, |words| words.hint_hold),
    (Action::Cancel, |words| words.hint_cancel),
    (Action::Retry, |words| words.hint_retry),
    (Action::Zoom, |words| words.hint_zoom),
];

/// How much is read of a log for its last line, and for the pane of the selected host.
const LAST_LINE_BYTES: usize = 512;
const PANE_BYTES: usize = 16 << 10;
/// Of how many reasons a host's last line is read.
const SAMPLES: usize = 20;

impl Screen for TaskScreen {
    fn draw(&self, pen: &mut Pen<'_>, cx: Context<'_>, body: Rect) -> Option<Position> {
        draw::draw(pen, cx, self, body)
    }

    fn places(&self) -> &'static [Place] {
        &[Place::Task, Place::Tasks, Place::Lists]
    }

    fn offers(&self) -> &'static [Offer] {
        OFFERS
    }

    fn notes(&self, words: &Words) -> Vec<(String, Tone)> {
        let only = self.shape.only.as_ref();
        let only = only.map(|only| (fill(words.only_hosts, &[&only.len().to_string()]), Tone::Warn));
        notes(words, &self.shape.filter, self.shape.failed_only).into_iter().chain(only).collect()
    }

    fn wants(&self, cx: Context<'_>, wants: &mut Wants) {
        wants.follow.insert(self.id);
        let Some(run) = cx.world.run(self.id).filter(|_| self.zoom != Zoom::Acts) else { return };
        let rows = self.host_rows();
        let seen = rows.iter().skip(self.list.top).take(cx.size.body_rows()).filter_map(|row| match row {
            HostRow::Lane(lane) => Some(*lane),
            HostRow::Fold { .. } => None,
        });
        let reasons = self.table().into_iter().flat_map(|table| &table.reasons);
        let samples = reasons.take(SAMPLES).filter_map(|(_, lanes)| lanes.first().copied());
        let wanted = seen.chain(samples).filter_map(|lane| log_key(run, lane));
        wants.tails.extend(wanted.map(|key| (key, LAST_LINE_BYTES)));
        if cx.size.is_wide()
            && let Some(key) = self.lane().and_then(|lane| log_key(run, lane))
        {
            wants.tails.insert(key, PANE_BYTES);
        }
    }

    fn targets(&self, cx: Context<'_>) -> Targets {
        let run = cx.world.run(self.id);
        let host = |lane: usize| Some(run?.lanes.get(lane)?.host.clone());
        let only = self.shape.only.iter().flatten();
        let hosts: BTreeSet<HostName> = only.filter_map(|lane| host(*lane)).collect();
        Targets { host: self.lane().and_then(host), hosts: hosts.into_iter().collect(), ..Targets::of(Some(self.id)) }
    }

    fn is_about(&self, id: TaskId) -> bool {
        self.id == id
    }

    fn times_counted(&self) -> u64 {
        self.counts
    }

    fn key(&mut self, cx: Context<'_>, action: Action) -> Reaction {
        match action {
            Action::Open => return self.open(cx),
            Action::Back if self.shape.only.is_some() => {
                self.shape.only = None;
                self.list.again = true;
            }
            Action::Back if self.zoom != Zoom::All => self.zoom = Zoom::All,
            Action::Left => self.sideways(false),
            Action::Right => self.sideways(true),
            Action::Zoom | Action::NextPane => self.zoom = self.zoom.next(),
            Action::PreviousPane => self.zoom = self.zoom.next().next().next(),
            Action::Order => {
                self.shape.order = self.shape.order.next();
                self.list.again = true;
            }
            _ => return Reaction::Pass,
        }
        Reaction::Stay
    }

    fn on_event(&mut self, _cx: Context<'_>, news: &ScreenEvent<'_>) {
        if matches!(news, ScreenEvent::Covered) {
            self.forget_counts();
        }
    }

    fn line_filter(&mut self) -> LineFilter<'_> {
        LineFilter { filter: Some(&mut self.shape.filter), failed_only: Some(&mut self.shape.failed_only) }
    }

    fn list_mut(&mut self) -> Option<&mut List> {
        Some(&mut self.list)
    }

    fn count(&self, cx: Context<'_>) -> usize {
        match self.zoom {
            Zoom::Acts => cx.world.run(self.id).map_or(0, |run| run.acts.len()),
            _ => self.host_rows().len(),
        }
    }

    fn seen(&self, cx: Context<'_>) -> usize {
        host_rows_seen(cx.size, self)
    }

    fn scroll(&mut self, cx: Context<'_>, by: isize) -> Reaction {
        let rows = self.count(cx);
        match self.zoom {
            Zoom::Map => {
                let columns = isize::try_from(map_room(cx.size).1).unwrap_or(1);
                self.cell = self.cell.saturating_add_signed(by.saturating_mul(columns));
            }
            Zoom::Acts => {
                self.acts_top = self.acts_top.saturating_add_signed(by).min(rows.saturating_sub(1));
            }
            Zoom::All | Zoom::Hosts => self.list.step(by, rows),
        }
        Reaction::Stay
    }

    /// Its rows stand somewhere else with every zoom: no click finds them.
    fn click(&mut self, _cx: Context<'_>, _row: usize) {}

    fn settle(&mut self, cx: Context<'_>) {
        if let Some(run) = cx.world.run(self.id) {
            self.forget_other_plan(run);
        }
        self.count_again(cx.world);
        self.settle_hosts(cx.world, self.seen(cx));
        let (rows, columns) = map_room(cx.size);
        let (cells, each) = self.table().map_or((1, 1), |table| {
            let (cells, each) = heat(table, rows.saturating_mul(columns));
            (cells.len(), each)
        });
        self.settle_map(cells, each);
    }
}

impl TaskScreen {
    /// Moves on the map, or folds and unfolds the selected row.
    fn sideways(&mut self, right: bool) {
        if self.zoom == Zoom::Map {
            self.cell = self.cell.saturating_add_signed(if right { 1 } else { -1 });
        } else if let Some(key) = self.selected.clone() {
            self.list.again = true;
            if right {
                self.shape.unfolded.insert(key)
            } else {
                self.shape.unfolded.remove(&key)
            };
        }
    }

    fn open(&mut self, cx: Context<'_>) -> Reaction {
        if self.zoom == Zoom::Map {
            self.open_cell(cx);
            return Reaction::Stay;
        }
        match self.host_rows().get(self.list.at).filter(|_| !self.list.lost) {
            Some(HostRow::Fold { .. }) => {
                self.sideways(true);
                Reaction::Stay
            }
            Some(HostRow::Lane(lane)) => self.open_log(cx, *lane),
            None => Reaction::Stay,
        }
    }

    fn open_log(&self, cx: Context<'_>, lane: usize) -> Reaction {
        let Some(run) = cx.world.run(self.id) else { return Reaction::Stay };
        let nothing = if run.state() == TaskState::Done { cx.words.was_skipped } else { cx.words.not_begun };
        match log_key(run, lane) {
            Some(key) => Reaction::Open(Box::new(LogScreen::of(key))),
            None => Reaction::Say(nothing.to_owned(), Tone::Plain),
        }
    }

    /// Shows the hosts that a cell of the map stands for.
    fn open_cell(&mut self, cx: Context<'_>) {
        let (rows, columns) = map_room(cx.size);
        let Some(table) = self.table() else { return };
        let (_, each) = heat(table, rows.saturating_mul(columns));
        let all = table.lanes.len();
        let first = self.cell.saturating_mul(each).min(all);
        self.shape.only = Some((first..first.saturating_add(each).min(all)).collect());
        self.zoom = Zoom::Hosts;
        self.list = List::default();
    }
}
