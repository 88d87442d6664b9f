//! Floor 2: the engine. Facts come in as values, what is to be done goes out as values.
//!
//! **Invariant:** no clock, no async, no IO, nothing random. The same inputs at the same times give the same
//! effects, so a seed replays a whole day.
//!
//! The contract with whoever drives it:
//!
//! 1. The stages of a [`Turn`] are performed in their order; the next one begins only when the one before is done.
//! 2. [`Act::RunStep`] and [`Act::StopStep`] return at once; the end comes back as [`Input::StepEnded`].
//! 3. A stage that fails stops the driver; a new start recovers.
//! 4. Every run's events are on disk before anything they announce is done.
//! 5. It asks again after a minute at the latest, with [`Input::Tick`] if with nothing else.
//! 6. A host starts a step of one attempt at most once; [`Act::RunStep`] of one that was sent goes on with it.

mod busy;
mod conditions;
mod found;
mod freshness;
mod heard;
mod input;
mod intake;
mod keys;
mod late;
mod names;
mod orders;
mod outbox;
mod progress;
mod recover;
mod schedule;
mod sleepers;
mod start;
mod turn;
mod waits;
mod wake;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::base::digest::Digest;
use crate::base::ids::TaskId;
use crate::base::time::{Moment, Timestamp};
use crate::domain::audit::Entry;
use crate::domain::drop_name::DropName;
use crate::domain::library::Library;
use crate::domain::policy::Person;
use crate::domain::right::Right;
use crate::domain::run::{Event, Recorded, Run};
use crate::domain::share::Loads;
use crate::domain::wire::read_order;

pub use found::{FoundTask, Past, Waiting};
pub use input::{DropBox, Dropped, Input, Moved};
pub use recover::unaudited;
pub use start::Start;
pub use turn::{Act, Commit, NewTask, Reopened, Stage, Taken, Turn, ViewChange};

use busy::Busy;
use keys::{KeyOf, Keyed};
use names::Names;
use outbox::Outbox;
use progress::Progress;
use sleepers::{Fired, Sleepers, people};
use waits::Waits;

/// All unfinished tasks and what may happen next.
#[derive(Debug)]
pub struct Engine {
    library: Arc<Library>,
    /// What runs; beside it, while an input is taken in, what it is about.
    runs: BTreeMap<TaskId, Run>,
    /// What waits.
    sleepers: Sleepers,
    next_id: u64,
    /// What people mean by a name.
    names: Names,
    /// The files that became tasks and the orders that were answered, all of them, by [`DropKey::identity`](crate::domain::run::DropKey::identity): what somebody moved
    /// before it was taken away is the same, and so is what could not be taken away.
    drops: HashSet<Digest>,
    /// The tasks that carry an idempotency key, by whose key it is.
    keys: HashMap<KeyOf, Keyed>,
    /// When to look at a task again.
    timers: BTreeSet<(Timestamp, TaskId)>,
    /// What waits for a while, whatever the clock shows.
    waits: Waits,
    /// Ready tasks whose time has come and that wait for a slot.
    due: BTreeSet<TaskId>,
    /// Running tasks and how far they are.
    running: BTreeMap<TaskId, Progress>,
    /// Hosts that a step or a connection occupies.
    busy: Busy,
    /// When this engine began, and when another one had looked at the time last.
    begun: Fired,
    /// How often the library was read.
    generation: u64,
    /// With which reading of the library a task's plan was last made.
    verified: HashMap<TaskId, u64>,
    /// Why the library cannot be read, if so.
    broken_library: Option<String>,
    /// The people of waiting tasks, as the system knew them when the library was read.
    people: HashMap<u32, Person>,
    /// When the engine looked at the time last: what lies between was slept through.
    seen: Timestamp,
    /// The same by the clock that nobody sets; `None` when it was another engine that looked.
    seen_steady_ms: Option<i64>,
    /// The lines of the audit that speak of cuts which nobody took note of.
    cuts: BTreeSet<u64>,
    /// What waits of whom.
    loads: Loads,
}

impl Engine {
    /// Returns an engine without tasks; numbers begin at `next_id`.
    #[must_use]
    pub fn new(library: Arc<Library>, next_id: u64) -> Engine {
        Engine {
            library,
            runs: BTreeMap::new(),
            sleepers: Sleepers::default(),
            next_id: next_id.max(1),
            names: Names::default(),
            drops: HashSet::new(),
            keys: HashMap::new(),
            timers: BTreeSet::new(),
            waits: Waits::default(),
            due: BTreeSet::new(),
            running: BTreeMap::new(),
            busy: Busy::default(),
            begun: Fired { seen: Timestamp(i64::MAX), at: Timestamp(i64::MAX) },
            generation: 0,
            verified: HashMap::new(),
            broken_library: None,
            people: HashMap::new(),
            seen: Timestamp(i64::MAX),
            seen_steady_ms: None,
            cuts: BTreeSet::new(),
            loads: Loads::default(),
        }
    }

    /// Takes in one fact and returns what is to be done, in order.
    ///
    /// Total: whatever comes from outside yields an event, a refusal or nothing, never a panic.
    pub fn handle(&mut self, now: Moment, input: Input) -> Turn {
        let mut out = Outbox::new(now);
        // Of what only tells nothing starts: what came meanwhile is heard before, and a tick or another input follows.
        let may_start = input.may_start_something();
        if may_start {
            self.hold_late(&mut out);
        }
        self.take_in(input, &mut out);
        if may_start {
            self.schedule(&mut out);
        }
        self.lie_down();
        self.read_more(&mut out);
        out.into_turn()
    }

    fn take_in(&mut self, input: Input, out: &mut Outbox) {
        match input {
            Input::Dropped(mut files) => {
                files.sort_by_cached_key(|file| self.turn_of(file));
                // However often a file is shown in one input, it is one drop.
                let mut shown = BTreeSet::new();
                for file in files {
                    if shown.insert(file.key.clone()) {
                        self.on_dropped(file, out);
                    }
                }
            }
            Input::StepEnded { task, group, host, step, result } => {
                self.on_step_ended(task, group, &host, step, result, out);
            }
            Input::KillUnconfirmed { task, group, host, step, why } => {
                self.on_kill_unconfirmed(task, group, host, step, why, out);
            }
            Input::Said(attempt, text) => self.on_said(attempt, text, out),
            Input::Reach(attempt, barrier) => self.on_reach(attempt, barrier, out),
            Input::Reported(attempt, reports) => self.on_reported(attempt, reports, out),
            Input::ViewLost(id) => self.restore_view(id, out),
            Input::Reloaded(library, people) => {
                self.library = library;
                self.people = people;
                self.generation = self.generation.saturating_add(1);
                self.broken_library = None;
                self.sleepers.judge_all();
            }
            // No plan that was made is another one by this.
            Input::Asked(library) => self.library = library,
            Input::People(people) => self.take_people(people),
            Input::LibraryBroken(why) => self.broken_library = Some(why),
            Input::Fetched(found) => {
                for (id, run) in found {
                    self.on_fetched(id, run.map(|run| *run), out);
                }
            }
            Input::Tick => {}
        }
    }

    /// Returns in how many milliseconds [`Engine::handle`] wants a [`Input::Tick`] at the latest.
    #[must_use]
    pub fn rest_ms(&self, now: Moment) -> Option<i64> {
        let timer = self.timers.first().map(|(at, _)| at.0.saturating_sub(now.wall.0));
        let wait = self.waits.next().map(|end| end.saturating_sub(now.steady_ms));
        timer.into_iter().chain(wait).min()
    }

    /// Whether what comes next may compare plans with the library, so that it must be what stands on disk.
    #[must_use]
    pub fn needs_library(&self, now: Timestamp) -> bool {
        !self.due.is_empty() || self.timers.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Returns the people whose rights unfinished tasks depend on: submitters and approvers.
    #[must_use]
    pub fn people(&self) -> BTreeSet<u32> {
        let asleep = self.sleepers.iter().flat_map(|(_, task)| task.people().iter().copied());
        self.runs.values().flat_map(people).chain(asleep).collect()
    }

    /// Whether nothing is left to find out of what became of tasks while no daemon ran: until then, when somebody looked last
    /// is when another one did.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.sleepers.are_settled()
    }

    /// Whether the library on disk cannot be read.
    #[must_use]
    pub fn library_is_broken(&self) -> bool {
        self.broken_library.is_some()
    }

    /// Returns how many tasks have not ended.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.runs.len().saturating_add(self.sleepers.len())
    }

    /// Returns who can have no more tasks wait: they are at a limit.
    pub fn at_limit(&self) -> impl Iterator<Item = u32> {
        self.loads.full(&self.library.shares)
    }

    /// Returns how many hosts are in flight.
    #[must_use]
    pub fn hosts_in_flight(&self) -> usize {
        self.busy.len()
    }

    /// Orders come first, and of them the one that was given first. Of two that the file system's clock does not tell
    /// apart the one that lets something happen comes first, so that the other one is the last word.
    fn turn_of(&self, file: &Dropped) -> (DropBox, i128, bool, DropName) {
        let name = file.key.name.clone();
        if file.drop_box != DropBox::Orders {
            return (file.drop_box, 0, false, name);
        }
        let wish = read_order(&file.bytes, &self.library.zone).map(|order| order.wish.right());
        let stops = matches!(wish, Ok(Right::Reject | Right::Withdraw | Right::Cancel | Right::Hold));
        (file.drop_box, file.key.mtime_ns.parse().unwrap_or_default(), stops, name)
    }

    /// Applies an event to a run and puts it into the outbox: the two can never differ.
    fn record(run: &mut Run, event: Event, out: &mut Outbox) {
        let recorded = Recorded { at: out.now(), event };
        run.apply(&recorded).expect("the engine records only what can happen");
        let is_act = recorded.event.is_act();
        out.append(run.id, recorded);
        if let Some(act) = run.acts.last().filter(|_| is_act) {
            out.audit(Entry::of(run.id, act));
        }
    }
}

#[cfg(test)]
mod simulator;
