//! What the screen of a task remembers, and the rows of its hosts.
//!
//! **Invariant:** pure; what is shown between two counts is what was counted at the first, with rows that fit it. The
//! selection stays with its host, or with the fold that holds it.

use std::sync::Arc;

use crate::base::digest::Digest;
use crate::base::ids::TaskId;
use crate::base::limits::HOSTS_IN_FLIGHT;
use crate::base::time::Timestamp;
use crate::domain::run::{Run, TaskState};
use crate::shells::dashboard::eta::left_ms;
use crate::shells::dashboard::list::{Item, List};
use crate::shells::dashboard::table::{HostRow, RowKey, Shape, Table, host_rows};
use crate::shells::dashboard::world::World;

/// How many hosts are worth a millisecond between two counts.
const LANES_A_MS: i64 = 40;

/// One task.
#[derive(Debug)]
pub(in crate::shells::dashboard) struct TaskScreen {
    pub(in crate::shells::dashboard) id: TaskId,
    pub(in crate::shells::dashboard) list: List,
    /// The row that is selected: that of the host that was chosen, or of the fold that holds it.
    pub(in crate::shells::dashboard) selected: Option<RowKey>,
    pub(in crate::shells::dashboard) shape: Shape,
    /// The cell that is selected on the map.
    pub(in crate::shells::dashboard) cell: usize,
    /// How many hosts a cell of the map stood for last.
    pub(in crate::shells::dashboard) each: usize,
    pub(super) zoom: Zoom,
    /// How many rows of the acts are scrolled away.
    pub(super) acts_top: usize,
    /// Which plan its hosts are of.
    plan: Option<Digest>,
    counted: Option<Counted>,
    /// How often something was counted.
    pub(super) counts: u64,
    hosts: Option<(u64, Shape, Arc<[HostRow]>)>,
}

/// What was counted of a task.
#[derive(Debug)]
struct Counted {
    /// How many events it had then.
    events: u64,
    at: Timestamp,
    table: Table,
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

impl TaskScreen {
    pub(in crate::shells::dashboard) fn of(id: TaskId) -> TaskScreen {
        TaskScreen {
            id,
            list: List::default(),
            selected: None,
            shape: Shape::default(),
            cell: 0,
            each: 0,
            zoom: Zoom::default(),
            acts_top: 0,
            plan: None,
            counted: None,
            counts: 0,
            hosts: None,
        }
    }

    /// The task in numbers, as it was at the last [`TaskScreen::count_again`].
    pub(super) fn table(&self) -> Option<&Table> {
        self.counted.as_ref().map(|counted| &counted.table)
    }

    /// The rows of hosts, as they were at the last [`TaskScreen::count_again`].
    pub(in crate::shells::dashboard) fn host_rows(&self) -> Arc<[HostRow]> {
        self.hosts.as_ref().map_or_else(Arc::default, |(_, _, rows)| Arc::clone(rows))
    }

    /// The lane whose row is selected.
    pub(super) fn lane(&self) -> Option<usize> {
        self.selected.as_ref().and_then(RowKey::lane)
    }

    /// Forgets what was counted, while nobody sees it.
    pub(super) fn forget_counts(&mut self) {
        (self.counted, self.hosts) = (None, None);
    }

    /// Forgets which hosts are shown of a task whose plan is another one: its hosts are others.
    pub(super) fn forget_other_plan(&mut self, run: &Run) {
        if self.plan.replace(run.digest).is_some_and(|known| known != run.digest) {
            self.shape.only = None;
            self.shape.unfolded.clear();
            if matches!(self.list.chosen, Some(Item::Fold(..))) {
                self.list.stand(0);
            }
        }
    }

    /// Counts the task again and puts its rows in order, as far as something changed since the last time.
    pub(super) fn count_again(&mut self, world: &World) {
        let Some(run) = world.run(self.id) else {
            self.forget_counts();
            return;
        };
        let (now, runs) = (world.now(), run.state() == TaskState::Running);
        // Nobody reads ten thousand hosts more than a few times a second.
        let pause = i64::try_from(run.lanes.len()).unwrap_or(i64::MAX) / LANES_A_MS;
        let fresh = self.counted.as_ref().is_some_and(|known| {
            let rests = known.at <= now && now.0.saturating_sub(known.at.0) < pause;
            let same = known.events == run.events && (!runs || known.at.0 / 1000 == now.0 / 1000);
            // A task that was planned anew has other hosts.
            known.table.lanes.len() == run.lanes.len() && (rests || same)
        });
        if !fresh {
            let at_once = world.library().map_or(HOSTS_IN_FLIGHT, |library| library.defaults.hosts_in_flight);
            let table = Table { left_ms: left_ms(run, now, at_once), ..Table::of(run, now) };
            self.counted = Some(Counted { events: run.events, at: now, table });
            self.counts = self.counts.saturating_add(1);
        }
        let Some(counted) = &self.counted else { return };
        let same = self.hosts.as_ref().is_some_and(|(of, shape, _)| *of == self.counts && *shape == self.shape);
        if !same {
            let rows = host_rows(run, &counted.table, &self.shape).into();
            self.hosts = Some((self.counts, self.shape.clone(), rows));
        }
    }

    /// Finds what was selected where it stands now, and keeps it in sight.
    pub(super) fn settle_hosts(&mut self, world: &World, seen: usize) {
        let lines = self.host_rows();
        let found = self.place_of_chosen(world, &lines);
        let near = self.list.at.min(lines.len().saturating_sub(1));
        let item_at = |at: usize| match lines.get(at)? {
            HostRow::Lane(lane) => {
                let lane = world.run(self.id)?.lanes.get(*lane)?;
                Some(Item::Lane(lane.group, lane.host.clone()))
            }
            HostRow::Fold { key, lanes, .. } => Some(Item::Fold(key.clone(), lanes.clone())),
        };
        // Of a fold those hosts count that it has now; a host that was chosen is remembered while it is in a fold.
        let fold = found.filter(|_| matches!(self.list.chosen, Some(Item::Fold(..)))).and_then(item_at);
        let near_item = item_at(near);
        if self.list.follow(found) {
            (self.list.at, self.list.chosen) = (near, near_item);
        }
        if let Some(fold) = fold {
            self.list.chosen = Some(fold);
        }
        self.list.settle(lines.len(), seen);
        self.selected = lines.get(self.list.at).filter(|_| !self.list.lost).map(HostRow::key);
    }

    /// Keeps the cell of the map with its hosts: `cells` of them, each for `each` hosts.
    pub(super) fn settle_map(&mut self, cells: usize, each: usize) {
        // A cell of the map stands for the same hosts when the map has another size.
        if self.each != each {
            self.cell = self.cell.saturating_mul(self.each.max(1)).checked_div(each).unwrap_or(0);
            self.each = each;
        }
        self.cell = self.cell.min(cells.saturating_sub(1));
    }

    /// Where the host or the fold that was chosen stands: in its own row, or in that of the fold that holds it.
    fn place_of_chosen(&self, world: &World, lines: &[HostRow]) -> Option<usize> {
        let run = world.run(self.id)?;
        let own = |key: &RowKey| lines.iter().position(|row| row.key() == *key);
        match self.list.chosen.as_ref()? {
            Item::Lane(group, host) => {
                let lane = run.lane_position(*group, host)?;
                let holds =
                    |row: &HostRow| matches!(row, HostRow::Fold { lanes, .. } if lanes.binary_search(&lane).is_ok());
                own(&RowKey::Lane(lane)).or_else(|| lines.iter().position(holds))
            }
            // A fold is known by the state of its hosts, or by most of its hosts when that changed.
            Item::Fold(key, known) => own(key).or_else(|| {
                let shared = |row: &HostRow| match row {
                    HostRow::Fold { lanes, .. } => {
                        known.iter().filter(|lane| lanes.binary_search(lane).is_ok()).count()
                    }
                    HostRow::Lane(_) => 0,
                };
                let best = (0..lines.len()).max_by_key(|n| (shared(&lines[*n]), std::cmp::Reverse(*n)))?;
                (shared(&lines[best]) > 0).then_some(best)
            }),
            _ => None,
        }
    }
}
