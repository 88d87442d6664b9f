//! What the board remembers, and its lines.
//!
//! **Invariant:** pure; what is shown between two counts is what was counted at the first.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::base::ids::TaskId;
use crate::domain::record::{HistoryLine, View};
use crate::domain::run::TaskState;
use crate::shells::dashboard::filter::matches;
use crate::shells::dashboard::list::{Item, List};
use crate::shells::dashboard::world::{Standing, World};

/// The tasks.
#[derive(Debug, Default)]
pub(in crate::shells::dashboard) struct BoardScreen {
    pub(super) list: List,
    /// The task whose line is selected.
    pub(super) selected: Option<TaskId>,
    /// Whether somebody chose it; before that the first task is selected, whichever that is.
    pub(super) moved: bool,
    pub(super) marks: BTreeSet<TaskId>,
    /// Where a range of marks began.
    pub(super) range: Option<TaskId>,
    /// The states whose tasks are all shown.
    pub(super) unfolded: BTreeSet<TaskState>,
    rows: (Shape, Arc<[BoardRow]>),
}

/// A line of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BoardRow {
    Heading(TaskState),
    Task(TaskId),
    /// A task that ended, by its place in the part of the history that is known.
    Ended(usize),
    /// How many more there are.
    More(TaskState, usize),
}

/// What the lines depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shape {
    listed: u64,
    filter: String,
    failed_only: bool,
    unfolded: BTreeSet<TaskState>,
    minute: i64,
}

impl BoardScreen {
    /// The lines, as they were at the last [`BoardScreen::count_again`].
    pub(super) fn rows(&self) -> Arc<[BoardRow]> {
        Arc::clone(&self.rows.1)
    }

    /// The line that is selected.
    pub(super) fn row(&self) -> Option<BoardRow> {
        self.rows.1.get(self.list.at).copied()
    }

    /// Makes the lines again, if something changed since the last time.
    pub(super) fn count_again(&mut self, world: &World) {
        let shape = Shape {
            listed: world.listed(),
            filter: self.list.filter.clone(),
            failed_only: self.list.failed_only,
            unfolded: self.unfolded.clone(),
            minute: world.now().0 / 60_000,
        };
        if self.rows.0 != shape {
            self.rows = (shape, self.make_rows(world).into());
        }
    }

    fn make_rows(&self, world: &World) -> Vec<BoardRow> {
        let filter = self.list.filter.to_lowercase();
        let mut rows = Vec::new();
        for (state, most) in [(TaskState::New, 10_usize), (TaskState::Ready, 6), (TaskState::Running, 10)] {
            let of_state = |task: &&Standing| task.state == state && passes(&task.view, &filter);
            let mut tasks: Vec<&Standing> = world.tasks().values().filter(of_state).collect();
            if state == TaskState::Ready {
                tasks.sort_by_key(|task| (task.view.exec_time, task.view.id));
            }
            if tasks.is_empty() || self.list.failed_only {
                continue;
            }
            rows.push(BoardRow::Heading(state));
            let whole = self.unfolded.contains(&state) || !filter.is_empty() || tasks.len() <= most.saturating_add(1);
            let seen = if whole { tasks.len() } else { most };
            rows.extend(tasks[..seen].iter().map(|task| BoardRow::Task(task.view.id)));
            if seen < tasks.len() {
                rows.push(BoardRow::More(state, tasks.len().saturating_sub(seen)));
            }
        }
        let recent = world.recent();
        let mut ended: Vec<usize> = (0..recent.len()).filter(|n| line_passes(&recent[*n], &filter)).collect();
        // What ended badly today stands first, whatever came after it; alone, all of it is shown.
        let today = world.now().0.saturating_sub(86_400_000);
        let bad = |n: &usize| {
            let line = &recent[*n];
            line.outcome.is_failure() && (line.ended.0 > today || self.list.failed_only)
        };
        ended.sort_by_key(|n| !bad(n));
        if self.list.failed_only {
            ended.retain(bad);
        }
        if !ended.is_empty() {
            rows.push(BoardRow::Heading(TaskState::Done));
            rows.extend(ended.into_iter().map(BoardRow::Ended));
        }
        rows
    }

    /// Finds what was selected where it stands now, and keeps it in sight.
    pub(super) fn settle_rows(&mut self, world: &World, seen: usize) {
        let lines = self.rows();
        let can = |n: &usize| !matches!(lines[*n], BoardRow::Heading(_));
        let found = match &self.list.chosen {
            _ if !self.moved => None,
            Some(Item::Task(id)) => {
                let state = world.tasks().get(id).map(|task| task.state);
                let own = lines.iter().position(|row| row.task(world) == Some(*id));
                own.or_else(|| lines.iter().position(|row| matches!(row, BoardRow::More(of, _) if Some(*of) == state)))
            }
            Some(Item::More(state)) => lines.iter().position(|row| matches!(row, BoardRow::More(of, _) if of == state)),
            _ => None,
        };
        let near = if self.moved { self.list.at.min(lines.len().saturating_sub(1)) } else { 0 };
        let near = (near..lines.len()).find(can).or_else(|| (0..near).rev().find(can)).unwrap_or(0);
        // Before somebody selected a task the first one is selected.
        if !self.moved {
            self.list.stand(near);
        }
        if self.list.follow(found) && !lines.is_empty() {
            self.list.at = near;
            self.list.chosen = lines.get(near).and_then(|row| match row {
                BoardRow::More(state, _) => Some(Item::More(*state)),
                row => row.task(world).map(Item::Task),
            });
        }
        self.list.settle(lines.len(), seen);
        let (at, lost) = (self.list.at, self.list.lost);
        // The heading of the first task is seen with it.
        let heading =
            at.checked_sub(1).filter(|n| lines.get(*n).is_some_and(|row| matches!(row, BoardRow::Heading(_))));
        if let Some(heading) = heading {
            self.list.top = self.list.top.min(heading);
        }
        self.selected = lines.get(at).filter(|_| !lost).and_then(|row| row.task(world));
    }
}

impl BoardRow {
    /// The task that the line is about.
    pub(super) fn task(self, world: &World) -> Option<TaskId> {
        match self {
            BoardRow::Task(id) => Some(id),
            BoardRow::Ended(n) => world.recent().get(n).map(|line| line.id),
            BoardRow::Heading(_) | BoardRow::More(..) => None,
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
