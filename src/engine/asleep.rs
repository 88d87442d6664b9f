//! Tasks that wait: what is known of each without its plan, and which of them are read now.
//!
//! **Invariant:** between two inputs every task that waits for approval, its time or a slot is asleep: its plan and its events
//! stand on disk alone. Nothing is decided about one that was not read since it was asked for, and one that is not what was
//! put to sleep is left as it is. However many there are, so many are read at a time that nobody waits long for an answer.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::base::digest::Digest;
use crate::base::ids::{HostName, TaskId, is_token_uid};
use crate::base::time::Timestamp;
use crate::domain::problem::Problem;
use crate::domain::run::{Run, TaskState};
use crate::engine::intake::refuse;
use crate::engine::outbox::Outbox;
use crate::engine::recover::Waiting;
use crate::engine::{Dropped, Effect, Engine};

/// How many tasks are read at once at most.
const AT_ONCE: usize = 64;
/// How many hosts they may have together; one task is read however many it has.
const HOSTS_AT_ONCE: u32 = 4096;
/// What reading and judging a task costs beside its hosts, in hosts.
const TASK_COSTS: u32 = 32;
/// How long a task is left alone that its time came for and that could not be read.
const READ_AGAIN_MS: i64 = 60_000;

/// A task that waits.
#[derive(Debug)]
pub(super) enum Asleep {
    /// It was found at the start, and nobody has looked at it since.
    Found {
        /// The directories that hold a file of it.
        standing: Vec<TaskState>,
        /// The last line of its journal that the audit has.
        audited: Option<u64>,
        /// Whom its rights depend on.
        people: Box<[u32]>,
        /// What reading it costs.
        cost: u32,
    },
    /// It was put to sleep by this engine.
    Known(Box<Known>),
}

/// What is known of a task while it sleeps.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// How many lines its journal has, and the digest of its plan: whatever is read is to be that.
    events: u64,
    digest: Digest,
    pub(super) state: TaskState,
    /// Whether nobody holds it.
    may_start: bool,
    /// Whom its rights depend on.
    people: Box<[u32]>,
    /// The hosts that it may begin on, with how many tasks may run on each; any when there are none to begin on.
    hosts: Option<Box<[(HostName, u32)]>>,
    cost: u32,
}

impl Known {
    pub(super) fn of(run: &Run) -> Known {
        let is_ready = run.state() == TaskState::Ready;
        let hosts = run.plan.groups.first().filter(|_| is_ready).map(|group| {
            let hosts = group.hosts.iter();
            hosts.map(|host| (host.clone(), run.plan.jobs_on(host))).collect()
        });
        Known {
            events: run.events,
            digest: run.digest,
            state: run.state(),
            may_start: run.may_start(),
            people: people(run).collect(),
            hosts,
            cost: u32::try_from(run.lanes.len()).unwrap_or(u32::MAX).saturating_add(TASK_COSTS),
        }
    }
}

impl Asleep {
    pub(super) fn people(&self) -> &[u32] {
        match self {
            Asleep::Found { people, .. } => people,
            Asleep::Known(known) => &known.people,
        }
    }

    fn cost(&self) -> u32 {
        match self {
            Asleep::Found { cost, .. } => *cost,
            Asleep::Known(known) => known.cost,
        }
    }

    fn is_ready(&self) -> bool {
        matches!(self, Asleep::Known(known) if known.state == TaskState::Ready)
    }
}

/// Returns the people whose rights a task depends on: its submitter and its approvers.
pub(super) fn people(run: &Run) -> impl Iterator<Item = u32> {
    let voters = run.approvals.iter().map(|(_, vote)| vote.by.uid);
    voters.chain([run.accepted.by.uid]).filter(|uid| !is_token_uid(*uid))
}

/// When the time of a task was seen to have come, and when the engine had looked before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fired {
    pub(super) seen: Timestamp,
    pub(super) at: Timestamp,
}

/// The tasks that wait, and why some of them are wanted awake.
#[derive(Debug, Default)]
pub(super) struct Sleepers {
    tasks: BTreeMap<TaskId, Asleep>,
    /// How many of them nobody has looked at since the start.
    found: usize,
    /// Orders about tasks that are not in memory, ended ones too.
    orders: BTreeMap<TaskId, Vec<Dropped>>,
    /// Whose file is to be written again.
    views: BTreeSet<TaskId>,
    /// That could start now.
    starting: BTreeSet<TaskId>,
    /// Whose time has come.
    fired: BTreeMap<TaskId, Fired>,
    /// That are to be compared with the library and the people of now.
    unjudged: BTreeSet<TaskId>,
    /// That are read at this moment, with what each costs.
    reading: BTreeMap<TaskId, u32>,
}

impl Sleepers {
    pub(super) fn get(&self, id: TaskId) -> Option<&Asleep> {
        self.tasks.get(&id)
    }

    pub(super) fn holds(&self, id: TaskId) -> bool {
        self.tasks.contains_key(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (TaskId, &Asleep)> {
        self.tasks.iter().map(|(id, task)| (*id, task))
    }

    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// Whether every task that was found at the start was looked at, and every one whose time came.
    pub(super) fn are_settled(&self) -> bool {
        self.found == 0 && self.fired.is_empty()
    }

    /// Takes up what was found at the start.
    pub(super) fn find(&mut self, task: Waiting) {
        let cost = u32::try_from(task.plan_bytes / 256).unwrap_or(u32::MAX).saturating_add(TASK_COSTS);
        let (people, standing, audited) = (task.people.into_iter().collect(), task.standing, task.audited);
        self.found = self.found.saturating_add(1);
        self.unjudged.insert(task.id);
        self.tasks.insert(task.id, Asleep::Found { standing, audited, people, cost });
    }

    fn put(&mut self, run: &Run) {
        self.tasks.insert(run.id, Asleep::Known(Box::new(Known::of(run))));
    }

    fn take(&mut self, id: TaskId) -> Option<Asleep> {
        let task = self.tasks.remove(&id);
        self.found = self.found.saturating_sub(usize::from(matches!(task, Some(Asleep::Found { .. }))));
        task
    }

    /// Has an order wait until its task was read. However often its file is shown, it is one order.
    pub(super) fn order(&mut self, id: TaskId, file: Dropped) {
        let waiting = self.orders.entry(id).or_default();
        if waiting.iter().all(|known| known.key != file.key) {
            waiting.push(file);
        }
    }

    /// Has a task's file written again.
    pub(super) fn want_view(&mut self, id: TaskId) {
        if self.holds(id) {
            self.views.insert(id);
        }
    }

    /// Has a task looked at whose time has come; false when it does not sleep.
    pub(super) fn fire(&mut self, id: TaskId, fired: Fired) -> bool {
        let sleeps = self.holds(id);
        if sleeps {
            self.fired.entry(id).or_insert(fired);
        }
        sleeps
    }

    /// Has a ready task compared with the library and the people of now.
    pub(super) fn judge(&mut self, id: TaskId) {
        if self.tasks.get(&id).is_some_and(Asleep::is_ready) {
            self.unjudged.insert(id);
        }
    }

    /// Has all ready tasks compared with the library and the people of now.
    pub(super) fn judge_all(&mut self) {
        let ready = self.tasks.iter().filter(|(_, task)| task.is_ready()).map(|(id, _)| *id);
        self.unjudged.extend(ready);
    }

    /// Says which tasks could start now, if they were awake.
    pub(super) fn start(&mut self, starting: BTreeSet<TaskId>) {
        self.starting = starting;
    }

    /// Returns the tasks that are wanted awake and that nobody reads yet, in the order of their turn. What only is to be
    /// compared with a library waits while that cannot be read.
    fn wanted(&self, library_is_broken: bool) -> impl Iterator<Item = TaskId> {
        let to_compare =
            move |id: &&TaskId| !library_is_broken || !matches!(self.tasks.get(id), Some(Asleep::Known(_)));
        let asked = self.orders.keys().chain(&self.views).chain(&self.starting).chain(self.fired.keys());
        let all = asked.chain(self.unjudged.iter().filter(to_compare)).copied();
        all.filter(|id| !self.reading.contains_key(id))
    }
}

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
                out.act(Effect::Fetch(id));
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
                refuse(file, Some(id), vec![Problem::new("/task", id.to_string(), wanted)], out);
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
