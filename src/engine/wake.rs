//! Putting to sleep what waits, and waking what is wanted. Floor 2.
//!
//! **Invariant:** between two inputs every task that waits for approval, its time or a slot is asleep: its plan and its events
//! stand on disk alone. Nothing is decided about one that was not read since it was asked for, and one that is not what was
//! put to sleep is left as it is. However many there are, so many are read at a time that nobody waits long for an answer.

use std::collections::{BTreeMap, HashSet};

use crate::base::ids::{HostName, TaskId};
use crate::domain::problem::Problem;
use crate::domain::run::{Run, TaskState};
use crate::engine::Engine;
use crate::engine::outbox::Outbox;
use crate::engine::sleepers::{Asleep, Fired, Known, TASK_COSTS};

/// How many tasks are read at once at most.
const AT_ONCE: usize = 64;

/// How many hosts they may have together; one task is read however many it has.
const HOSTS_AT_ONCE: u32 = 4096;

/// How long a task is left alone that its time came for and that could not be read.
const READ_AGAIN_MS: i64 = 60_000;

impl Engine {
    /// Puts to sleep what waits.
    pub(super) fn lie_down(&mut self) {
        let waits = |run: &&Run| matches!(run.state(), TaskState::New | TaskState::Ready);
        let waiting: Vec<TaskId> = self.runs.values().filter(waits).map(|run| run.id).collect();
        self.runs.values().filter(|run| !waits(run)).for_each(|run| self.loads.forget(run.id));
        for id in waiting {
            if let Some(run) = self.runs.remove(&id) {
                self.sleepers.put(&run);
            }
        }
    }

    /// Asks for the tasks that are wanted awake, so many that the next turn does not last.
    pub(super) fn read_more(&mut self, out: &mut Outbox) {
        let mut cost: u32 = self.sleepers.reading.values().fold(0, |all, cost| all.saturating_add(*cost));
        let room = AT_ONCE.saturating_sub(self.sleepers.reading.len());
        let mut chosen = BTreeMap::new();
        for id in self.sleepers.wanted(self.broken_library.is_some()) {
            if chosen.len() >= room || cost >= HOSTS_AT_ONCE {
                break;
            }
            let own = self.sleepers.tasks.get(&id).map_or(TASK_COSTS, Asleep::cost);
            if chosen.insert(id, own).is_none() {
                cost = cost.saturating_add(own);
                out.fetch(id);
            }
        }
        self.sleepers.reading.append(&mut chosen);
    }

    /// Goes on with a task that was read; `None` when it cannot be.
    pub(super) fn on_fetched(&mut self, id: TaskId, found: Option<Run>, out: &mut Outbox) {
        let sleepers = &mut self.sleepers;
        sleepers.reading.remove(&id);
        sleepers.starting.remove(&id);
        let files = sleepers.orders.remove(&id).unwrap_or_default();
        let (view, unjudged) = (sleepers.views.remove(&id), sleepers.unjudged.remove(&id));
        let mut fired = sleepers.fired.remove(&id);
        if !self.wake(id, found, &mut fired, out) {
            for file in files {
                let wanted = "a task whose files can be read";
                out.refuse(file, Some(id), vec![Problem::new("/task", id.to_string(), wanted)]);
            }
            return;
        }
        if unjudged
            && self.broken_library.is_none()
            && self.runs.get(&id).is_some_and(|run| run.state() == TaskState::Ready)
        {
            self.recheck(id, out);
            // Its time, or a freeze, may be another one too.
            self.watch_id(id);
        }
        // Who wants to stop it is heard before it starts.
        for file in files {
            self.on_order_read(id, file, out);
        }
        if view {
            self.restore_view(id, out);
        }
        if let Some(fired) = fired {
            self.on_timer(id, fired, out);
        }
        // An ended task was only looked at, unless it runs again.
        if self.runs.get(&id).is_some_and(|run| run.state() == TaskState::Done) {
            self.runs.remove(&id);
        }
    }

    /// Takes a task into memory; false when it is not there or cannot be believed. The time of one that was found at the start
    /// may have come while no daemon ran.
    fn wake(&mut self, id: TaskId, found: Option<Run>, fired: &mut Option<Fired>, out: &mut Outbox) -> bool {
        if self.runs.contains_key(&id) {
            return true;
        }
        let waits = |run: &Run| matches!(run.state(), TaskState::New | TaskState::Ready);
        let run = match self.sleepers.get(id) {
            None => found.filter(|run| run.state() == TaskState::Done),
            Some(Asleep::Found { .. }) => found.filter(waits),
            Some(Asleep::Known(known)) => found.filter(|run| Known::of(run) == **known),
        };
        match (run, self.sleepers.take(id)) {
            (Some(run), Some(Asleep::Found { standing, audited, .. })) => {
                self.look_at(run, audited, &standing, out);
                *fired = Some(self.begun);
            }
            (Some(run), Some(Asleep::Known(_)) | None) => {
                self.runs.insert(id, run);
            }
            (None, Some(Asleep::Known(known))) => {
                if self.due.remove(&id) || fired.is_some() {
                    self.timers.insert((out.now().plus_ms(READ_AGAIN_MS), id));
                }
                self.sleepers.tasks.insert(id, Asleep::Known(known));
                return false;
            }
            // As one whose files cannot be read at a start.
            (None, Some(Asleep::Found { .. }) | None) => {
                self.loads.forget(id);
                return false;
            }
        }
        true
    }

    /// Whether a task that sleeps could start now, on a host that no other one of these takes; takes that host.
    pub(super) fn could_start(&self, id: TaskId, taken: &mut HashSet<HostName>) -> bool {
        let Some(Asleep::Known(known)) = self.sleepers.get(id) else { return false };
        if !known.may_start {
            return false;
        }
        let Some(hosts) = &known.hosts else { return true };
        let free = |(host, most): &&(HostName, u32)| !taken.contains(host) && self.busy.has_room(host, *most);
        let Some((host, _)) = hosts.iter().find(free) else { return false };
        taken.insert(host.clone())
    }
}
