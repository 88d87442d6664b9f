//! What is known of tasks that wait, without their plans, and which of them are wanted awake. Floor 2.
//!
//! **Invariant:** of a task only that is kept which says whether it has to be read, and whether what is read is what was put to
//! sleep.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::digest::Digest;
use crate::base::ids::{HostName, TaskId, is_token_uid};
use crate::base::time::Timestamp;
use crate::domain::run::{Run, TaskState};
use crate::engine::found::Waiting;
use crate::engine::input::Dropped;

/// What reading and judging a task costs beside its hosts, in hosts.
pub(super) const TASK_COSTS: u32 = 32;
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
    pub(super) may_start: bool,
    /// Whom its rights depend on.
    people: Box<[u32]>,
    /// The hosts that it may begin on, with how many tasks may run on each; any when there are none to begin on.
    pub(super) hosts: Option<Box<[(HostName, u32)]>>,
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

    pub(super) fn cost(&self) -> u32 {
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
    pub(super) tasks: BTreeMap<TaskId, Asleep>,
    /// How many of them nobody has looked at since the start.
    pub(super) found: usize,
    /// Orders about tasks that are not in memory, ended ones too.
    pub(super) orders: BTreeMap<TaskId, Vec<Dropped>>,
    /// Whose file is to be written again.
    pub(super) views: BTreeSet<TaskId>,
    /// That could start now.
    pub(super) starting: BTreeSet<TaskId>,
    /// Whose time has come.
    pub(super) fired: BTreeMap<TaskId, Fired>,
    /// That are to be compared with the library and the people of now.
    pub(super) unjudged: BTreeSet<TaskId>,
    /// That are read at this moment, with what each costs.
    pub(super) reading: BTreeMap<TaskId, u32>,
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

    pub(super) fn put(&mut self, run: &Run) {
        self.tasks.insert(run.id, Asleep::Known(Box::new(Known::of(run))));
    }

    pub(super) fn take(&mut self, id: TaskId) -> Option<Asleep> {
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
    pub(super) fn wanted(&self, library_is_broken: bool) -> impl Iterator<Item = TaskId> {
        let to_compare =
            move |id: &&TaskId| !library_is_broken || !matches!(self.tasks.get(id), Some(Asleep::Known(_)));
        let asked = self.orders.keys().chain(&self.views).chain(&self.starting).chain(self.fired.keys());
        let all = asked.chain(self.unjudged.iter().filter(to_compare)).copied();
        all.filter(|id| !self.reading.contains_key(id))
    }
}
