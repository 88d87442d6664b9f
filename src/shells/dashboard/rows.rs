//! The rows of the screen that is seen, made when something changed and kept until then.
//!
//! **Invariant:** pure; what is shown between two counts is what was counted at the first, with rows that fit it.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::ids::TaskId;
use crate::base::limits::HOSTS_IN_FLIGHT;
use crate::base::time::Timestamp;
use crate::domain::record::{HistoryLine, View};
use crate::domain::run::TaskState;
use crate::shells::dashboard::eta::left_ms;
use crate::shells::dashboard::model::{Model, Standing, matches};
use crate::shells::dashboard::screens::{Board, BoardRow, Screen};
use crate::shells::dashboard::table::{HostRow, Shape, Table, host_rows};

/// How many hosts are worth a millisecond between two counts.
const LANES_A_MS: i64 = 40;

/// What was made for the screen that is seen.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// What was counted of the task that is seen.
    counted: Option<Counted>,
    /// How often something was counted.
    counts: u64,
    board: (BoardShape, Arc<[BoardRow]>),
    hosts: Option<(HostsShape, Arc<[HostRow]>)>,
}

/// What was counted of a task.
#[derive(Debug)]
struct Counted {
    id: TaskId,
    /// How many events it had then.
    events: u64,
    at: Timestamp,
    table: Table,
}

/// What the lines of the board depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct BoardShape {
    listed: u64,
    filter: String,
    failed_only: bool,
    unfolded: BTreeSet<TaskState>,
    minute: i64,
}

/// What the rows of hosts depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
struct HostsShape {
    id: TaskId,
    counted: u64,
    shape: Shape,
}

impl Model {
    /// The lines of the board, as they were at the last [`Model::count_again`].
    pub(super) fn board_rows(&self) -> Arc<[BoardRow]> {
        Arc::clone(&self.rows.board.1)
    }

    fn make_board_rows(&self, board: &Board) -> Vec<BoardRow> {
        let filter = board.list.filter.to_lowercase();
        let mut rows = Vec::new();
        for (state, most) in [(TaskState::New, 10_usize), (TaskState::Ready, 6), (TaskState::Running, 10)] {
            let mut tasks: Vec<&Standing> =
                self.tasks.values().filter(|task| task.state == state && passes(&task.view, &filter)).collect();
            if state == TaskState::Ready {
                tasks.sort_by_key(|task| (task.view.exec_time, task.view.id));
            }
            if tasks.is_empty() || board.list.failed_only {
                continue;
            }
            rows.push(BoardRow::Heading(state));
            let whole = board.unfolded.contains(&state) || !filter.is_empty() || tasks.len() <= most.saturating_add(1);
            let seen = if whole { tasks.len() } else { most };
            rows.extend(tasks[..seen].iter().map(|task| BoardRow::Task(task.view.id)));
            if seen < tasks.len() {
                rows.push(BoardRow::More(state, tasks.len().saturating_sub(seen)));
            }
        }
        let mut ended: Vec<usize> = (0..self.recent.len()).filter(|n| line_passes(&self.recent[*n], &filter)).collect();
        // What ended badly today stands first, whatever came after it; alone, all of it is shown.
        let today = self.now.0.saturating_sub(86_400_000);
        let bad = |n: &usize| {
            let line = &self.recent[*n];
            line.outcome.is_failure() && (line.ended.0 > today || board.list.failed_only)
        };
        ended.sort_by_key(|n| !bad(n));
        if board.list.failed_only {
            ended.retain(bad);
        }
        if !ended.is_empty() {
            rows.push(BoardRow::Heading(TaskState::Done));
            rows.extend(ended.into_iter().map(BoardRow::Ended));
        }
        rows
    }

    /// The rows of hosts of the task that is seen, as they were at the last [`Model::count_again`].
    pub(super) fn host_rows(&self) -> Arc<[HostRow]> {
        let Screen::Task(screen) = self.screen() else { return Arc::default() };
        let rows = self.rows.hosts.as_ref().filter(|(known, _)| known.id == screen.id);
        rows.map_or_else(Arc::default, |(_, rows)| Arc::clone(rows))
    }

    /// What was counted of the task that is seen.
    pub(super) fn table(&self) -> Option<&Table> {
        let Screen::Task(screen) = self.screen() else { return None };
        self.rows.counted.as_ref().filter(|counted| counted.id == screen.id).map(|counted| &counted.table)
    }

    /// How often something was counted: a screen that was painted before the last time is old.
    pub(super) fn counts(&self) -> u64 {
        self.rows.counts
    }

    /// Counts what is seen again and puts its rows in order, as far as something changed since the last time.
    pub(super) fn count_again(&mut self) {
        match self.screen() {
            Screen::Task(screen) => {
                let id = screen.id;
                self.count_hosts(id);
            }
            Screen::Board(board) => {
                let shape = BoardShape {
                    listed: self.listed,
                    filter: board.list.filter.clone(),
                    failed_only: board.list.failed_only,
                    unfolded: board.unfolded.clone(),
                    minute: self.now.0 / 60_000,
                };
                if self.rows.board.0 != shape {
                    self.rows.board = (shape, self.make_board_rows(board).into());
                }
                (self.rows.counted, self.rows.hosts) = (None, None);
            }
            _ => (self.rows.counted, self.rows.hosts) = (None, None),
        }
    }

    fn count_hosts(&mut self, id: TaskId) {
        let Some(run) = self.runs.get(&id) else {
            (self.rows.counted, self.rows.hosts) = (None, None);
            return;
        };
        let runs = run.state() == TaskState::Running;
        // Nobody reads ten thousand hosts more than a few times a second.
        let pause = i64::try_from(run.lanes.len()).unwrap_or(i64::MAX) / LANES_A_MS;
        let fresh = self.rows.counted.as_ref().is_some_and(|known| {
            let rests = known.at <= self.now && self.now.0.saturating_sub(known.at.0) < pause;
            let same = known.events == run.events && (!runs || known.at.0 / 1000 == self.now.0 / 1000);
            // A task that was planned anew has other hosts.
            known.id == id && known.table.lanes.len() == run.lanes.len() && (rests || same)
        });
        if !fresh {
            let at_once = self.library.as_ref().map_or(HOSTS_IN_FLIGHT, |library| library.defaults.hosts_in_flight);
            let table = Table { left_ms: left_ms(run, self.now, at_once), ..Table::of(run, self.now) };
            self.rows.counted = Some(Counted { id, events: run.events, at: self.now, table });
            self.rows.counts = self.rows.counts.saturating_add(1);
        }
        let (Screen::Task(screen), Some(counted)) = (self.screen(), &self.rows.counted) else { return };
        let same =
            |known: &HostsShape| known.id == id && known.counted == self.rows.counts && known.shape == screen.shape;
        if !self.rows.hosts.as_ref().is_some_and(|(known, _)| same(known)) {
            let shape = HostsShape { id, counted: self.rows.counts, shape: screen.shape.clone() };
            self.rows.hosts = Some((shape, host_rows(run, &counted.table, &screen.shape).into()));
        }
    }
}

fn passes(view: &View, filter: &str) -> bool {
    if filter.is_empty() {
        return true;
    }
    let template = view.template.as_ref().map_or("script", |template| template.name.as_str());
    matches(&format!("{} {} {} {} {template}", view.id, view.task_name, view.name, view.submitter.user), filter)
}

fn line_passes(line: &HistoryLine, filter: &str) -> bool {
    filter.is_empty() || matches(&line.words(), filter)
}
