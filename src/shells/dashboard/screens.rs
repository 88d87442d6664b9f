//! The screens, and what each of them remembers.
//!
//! **Invariant:** pure. What is selected is known by what it is, not by where it stands, so that lists may change under it.

use std::collections::BTreeSet;

use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, TaskId, TemplateName};
use crate::base::time::Timestamp;
use crate::domain::output::Stream;
use crate::domain::run::TaskState;
use crate::shells::dashboard::message::{Anchor, LogKey, LogPage, LogPart};
use crate::shells::dashboard::table::{RowKey, Shape};

/// What the whole screen shows; the last one of a stack is seen.
#[derive(Debug)]
pub(super) enum Screen {
    Board(Board),
    Task(TaskScreen),
    Log(LogScreen),
    Hosts(List),
    Host(HostName, List),
    History(List),
    Audit(List),
    Templates(List),
    Refused(List),
    Diff(DiffScreen),
    Requests(List),
}

impl Screen {
    /// The list of a screen that is nothing but a list.
    pub(super) fn list_mut(&mut self) -> Option<&mut List> {
        match self {
            Screen::Hosts(list)
            | Screen::Host(_, list)
            | Screen::History(list)
            | Screen::Audit(list)
            | Screen::Templates(list)
            | Screen::Refused(list)
            | Screen::Requests(list)
            | Screen::Diff(DiffScreen { list, .. }) => Some(list),
            Screen::Board(_) | Screen::Task(_) | Screen::Log(_) => None,
        }
    }
}

/// A list of lines with one selected.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    /// Which line is selected.
    pub(super) at: usize,
    /// The first line that is seen.
    pub(super) top: usize,
    pub(super) filter: String,
    pub(super) failed_only: bool,
    /// What is selected, once it is known; the line changes when it stands elsewhere.
    pub(super) chosen: Option<Item>,
    /// Whether somebody changed what is listed: what stands where the selection was is selected, when that is gone.
    pub(super) again: bool,
    /// Whether what was selected is not listed any more: then nothing is selected, until somebody selects something.
    pub(super) lost: bool,
}

/// What a line of a list is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    Task(TaskId),
    /// A section of the board, where the line stands for what is not listed of it.
    More(TaskState),
    /// A host of a task.
    Lane(GroupNo, HostName),
    /// Hosts of a task in the same state, and which of them there were.
    Fold(RowKey, Vec<usize>),
    Host(HostName),
    Template(TemplateName),
    /// A line of the audit, by its number.
    Entry(u64),
    /// A refused file, by when it was refused and its name.
    File(Timestamp, String),
    /// A request, by its number.
    Request(usize),
}

impl List {
    /// Moves by so many lines of `count`.
    pub(super) fn step(&mut self, by: isize, count: usize) {
        self.stand(self.at.saturating_add_signed(by).min(count.saturating_sub(1)));
    }

    /// Selects what stands in a line, whatever that is.
    pub(super) fn stand(&mut self, at: usize) {
        (self.at, self.chosen, self.lost) = (at, None, false);
    }

    /// Follows what is selected to where it stands now, `None` when it is nowhere. Returns whether what stands at its old
    /// place is to be selected instead.
    pub(super) fn follow(&mut self, found: Option<usize>) -> bool {
        let again = std::mem::take(&mut self.again);
        if let Some(at) = found {
            // It stays where it is on the screen; what comes in above the first line is seen.
            if self.top > 0 {
                self.top = self.top.saturating_add(at).saturating_sub(self.at);
            }
            (self.at, self.lost) = (at, false);
            return false;
        }
        self.lost = self.chosen.is_some() && !again;
        !self.lost
    }

    /// Keeps the selected line on a screen of `rows` lines.
    pub(super) fn settle(&mut self, count: usize, rows: usize) {
        // An empty list may only not have been read yet; whoever stands at its end stays there.
        if count == 0 {
            return;
        }
        self.at = self.at.min(count.saturating_sub(1));
        let rows = rows.max(1);
        self.top = self.top.min(count.saturating_sub(rows)).min(self.at);
        if self.at >= self.top.saturating_add(rows) {
            self.top = self.at.saturating_add(1).saturating_sub(rows);
        }
    }
}

/// The tasks.
#[derive(Debug, Default)]
pub(super) struct Board {
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

/// One task.
#[derive(Debug)]
pub(super) struct TaskScreen {
    pub(super) id: TaskId,
    pub(super) list: List,
    /// The row that is selected: that of the host that was chosen, or of the fold that holds it.
    pub(super) selected: Option<RowKey>,
    /// Which plan its hosts are of.
    pub(super) plan: Option<Digest>,
    pub(super) shape: Shape,
    pub(super) zoom: Zoom,
    /// The cell that is selected on the map.
    pub(super) cell: usize,
    /// How many hosts a cell of the map stood for last.
    pub(super) each: usize,
    /// How many rows of the acts are scrolled away.
    pub(super) acts_top: usize,
}

impl TaskScreen {
    pub(super) fn of(id: TaskId) -> TaskScreen {
        TaskScreen {
            id,
            list: List::default(),
            selected: None,
            plan: None,
            shape: Shape::default(),
            zoom: Zoom::default(),
            cell: 0,
            each: 0,
            acts_top: 0,
        }
    }
}

/// What of a task is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Zoom {
    /// Steps, map and hosts, as much as there is room for.
    #[default]
    All,
    /// Hosts only.
    Hosts,
    /// The map only.
    Map,
    /// Who did what.
    Acts,
}

impl Zoom {
    pub(super) fn next(self) -> Zoom {
        match self {
            Zoom::All => Zoom::Hosts,
            Zoom::Hosts => Zoom::Map,
            Zoom::Map => Zoom::Acts,
            Zoom::Acts => Zoom::All,
        }
    }
}

/// One log.
#[derive(Debug)]
pub(super) struct LogScreen {
    pub(super) key: LogKey,
    pub(super) anchor: Anchor,
    pub(super) page: Option<LogPage>,
    pub(super) wrap: bool,
    /// How many cells are scrolled away at the left.
    pub(super) left: usize,
    pub(super) find: String,
    pub(super) keep: String,
    pub(super) stream: Option<Stream>,
    /// How long the log was when following stopped.
    pub(super) left_at: u64,
}

impl LogScreen {
    /// What of the log is shown.
    pub(super) fn part(&self) -> LogPart {
        LogPart { key: self.key.clone(), stream: self.stream }
    }

    pub(super) fn of(key: LogKey) -> LogScreen {
        LogScreen {
            key,
            anchor: Anchor::End,
            page: None,
            wrap: false,
            left: 0,
            find: String::new(),
            keep: String::new(),
            stream: None,
            left_at: 0,
        }
    }
}

/// What differs between two runs.
#[derive(Debug)]
pub(super) struct DiffScreen {
    pub(super) was: TaskId,
    pub(super) now: TaskId,
    pub(super) list: List,
}
