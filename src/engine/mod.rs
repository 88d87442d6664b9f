//! Floor 2: the engine. Facts come in as values, effects go out as values.
//!
//! **Invariant:** no clock, no async, no IO, nothing random. The same inputs at the same times give the same
//! effects, so a seed replays a whole day.
//!
//! The contract with whoever drives it:
//!
//! 1. Effects are performed in order; the next one starts only after a durable one has returned.
//! 2. [`Effect::RunStep`] and [`Effect::StopStep`] return at once; the end comes back as [`Input::StepEnded`].
//! 3. A failed durable effect stops the driver; a new start recovers.
//! 4. Every run's events are on disk before anything they announce is done.
//! 5. It asks again after a minute at the latest, with [`Input::Tick`] if with nothing else.
//! 6. A host starts a step of one attempt at most once; [`Effect::RunStep`] of one that was sent goes on with it.

mod asleep;
mod busy;
mod conditions;
mod freshness;
mod heard;
mod intake;
mod late;
mod names;
mod orders;
mod outbox;
mod recover;
mod schedule;
mod waits;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, StepName, TaskId};
use crate::base::time::{Moment, Timestamp};
use crate::domain::audit::{Entry, Head};
use crate::domain::callback::{Attempt, Callback};
use crate::domain::delegate::Report;
use crate::domain::drop_name::DropName;
use crate::domain::plan::Library;
use crate::domain::policy::{Approved, Person, Right};
use crate::domain::problem::Problem;
use crate::domain::record::HistoryLine;
use crate::domain::run::earlier::Earlier;
use crate::domain::run::{DropKey, Event, Recorded, Run, StepResult, TaskState};
use crate::domain::share::Loads;
use crate::domain::token::Scope;
use crate::domain::wire::read_order;

pub use outbox::NewTask;
pub use recover::{FoundTask, Past, Waiting, unaudited};

use asleep::{Fired, Sleepers, people};
use busy::Busy;
use intake::{KeyOf, Keyed};
use names::Names;
use outbox::Outbox;
use schedule::Progress;
use waits::Waits;

/// A drop box of the spool. Orders come first: a cancellation must not stand in line behind new tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropBox {
    /// `orders/`: acts on tasks.
    Orders,
    /// `new/`: tasks that wait for approval.
    New,
    /// `ready/`: tasks that wish to skip it.
    Ready,
}

impl DropBox {
    /// Returns the name of its directory.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            DropBox::Orders => "orders",
            DropBox::New => "new",
            DropBox::Ready => "ready",
        }
    }
}

/// A file that stands in a drop box, as it was read.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// Where it stands.
    pub drop_box: DropBox,
    /// Which file it is.
    pub key: DropKey,
    /// Its owner.
    pub owner: Person,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether it may still be written, so that a text that ends too early is left alone.
    pub may_grow: bool,
    /// What limits it beside policy, where it came with a token.
    pub scope: Option<Scope>,
    /// Of a ref that an update hook reported: whether it stands where the hook said that it would.
    pub moved: Moved,
}

/// Whether a ref stands where a hook said that it would; git asks an update hook before it moves a ref, and may still not
/// move it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Moved {
    /// It does, or nobody reported it before.
    #[default]
    Yes,
    /// It does not.
    No,
    /// Nobody can look, for this reason.
    Unknown(String),
}

/// What the engine is told.
#[derive(Debug)]
pub enum Input {
    /// Files stood in a drop box.
    Dropped(Vec<Dropped>),
    /// A step that [`Effect::RunStep`] began has ended.
    StepEnded {
        /// The task.
        task: TaskId,
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
        /// The step.
        step: StepName,
        /// How.
        result: StepResult,
    },
    /// A step that was to be ended may live on: its host could not be asked yet. Its end will come in
    /// [`Input::StepEnded`].
    KillUnconfirmed {
        /// The task.
        task: TaskId,
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
        /// The step.
        step: StepName,
        /// What stands in the way.
        why: String,
    },
    /// The script of an attempt said how far it is.
    Said(Attempt, String),
    /// The engine that an attempt handed its targets to said how they fare.
    Reported(Attempt, Vec<Report>),
    /// A task's file did not stand where it belongs: somebody took it away.
    ViewLost(TaskId),
    /// Configuration, templates, inventory or policy were read again; with the groups that the system knows now for
    /// [`Engine::people`].
    Reloaded(Arc<Library>, HashMap<u32, Person>),
    /// Whether the host of a step that runs can be asked how it fares, and if not, why.
    Reach(Attempt, Option<String>),
    /// Which groups the people are in now whom judgements depend on, asked before something is judged or started.
    People(HashMap<u32, Person>),
    /// They changed and cannot be read: until they can, nothing is approved and nothing starts.
    LibraryBroken(String),
    /// OpenSSH's configuration was asked about more hosts; what it said before still holds.
    Asked(Arc<Library>),
    /// What each [`Effect::Fetch`] of a turn asked for; `None` when it cannot be read.
    Fetched(Vec<(TaskId, Option<Box<Run>>)>),
    /// Time passed.
    Tick,
}

impl Input {
    /// Whether something may begin because of it.
    fn may_start_something(&self) -> bool {
        let only_tells = matches!(
            self,
            Input::Said(..)
                | Input::Reach(..)
                | Input::Reported(..)
                | Input::Reloaded(..)
                | Input::Asked(_)
                | Input::People(_)
                | Input::LibraryBroken(_)
        );
        !only_tells
    }
}

/// What the engine wants done. What is no act on hosts is durable.
#[derive(Debug)]
pub enum Effect {
    /// Make a task: its directory with plan and events, and its file in the state's directory.
    Create(NewTask),
    /// Append events to a task's journal.
    Append {
        /// The task.
        id: TaskId,
        /// The events.
        events: Vec<Recorded>,
    },
    /// Add a line to the audit, together with the events it stands for.
    Audit(Entry),
    /// Put a view in the place of an ended task's record, which goes back to `running/`. Comes before its events.
    Reopen {
        /// The task.
        id: TaskId,
        /// Its view's bytes.
        view: Vec<u8>,
    },
    /// Write a task's new plan beside the old one, and its view anew.
    Replan {
        /// The task.
        id: TaskId,
        /// Which plan of the task it is.
        version: u32,
        /// The plan's bytes.
        plan: Vec<u8>,
        /// The view's bytes.
        view: Vec<u8>,
    },
    /// Move a task's file between the states' directories.
    Move {
        /// The task.
        id: TaskId,
        /// Where it stands.
        from: TaskState,
        /// Where it belongs.
        to: TaskState,
    },
    /// Write a task's record in place of its file, move it to `done/` and add the line to the history.
    Finish {
        /// The task.
        id: TaskId,
        /// Where its file stands.
        from: TaskState,
        /// The record's bytes.
        record: Vec<u8>,
        /// The history's line.
        line: HistoryLine,
    },
    /// Remove a dropped file that became a task, or whose order was answered.
    Consume {
        /// Where it stands.
        drop_box: DropBox,
        /// Which file.
        key: DropKey,
        /// The task that it became, or that its order was about; none when nothing was to be done.
        task: Option<TaskId>,
    },
    /// Look at a dropped file again soon: what it needs may come.
    LookAgain {
        /// Where it stands.
        drop_box: DropBox,
        /// Which file.
        key: DropKey,
    },
    /// Move a dropped file to `bad/` with the reasons.
    Refuse {
        /// Where it stands.
        drop_box: DropBox,
        /// Which file.
        key: DropKey,
        /// Everything wrong with it.
        problems: Vec<Problem>,
    },
    /// Write a task's file again, because it is missing.
    RestoreView {
        /// The task.
        id: TaskId,
        /// Where it belongs.
        state: TaskState,
        /// Its bytes.
        view: Vec<u8>,
    },
    /// Remove a task's file from a directory it does not belong in.
    RemoveView {
        /// The task.
        id: TaskId,
        /// Where it stands wrongly.
        state: TaskState,
    },
    /// Read a task that waits, or an ended one that an order is about. Its events are to be as all durable effects before this
    /// one left them.
    Fetch(TaskId),
    /// Run one step on one host. Only an approved plan can be named here.
    RunStep(Start),
    /// End the step that runs on a host, and prove it.
    StopStep {
        /// The task.
        task: TaskId,
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
    },
    /// The host has taken its last step of this task; its connection is not needed any more.
    ReleaseHost {
        /// The task.
        task: TaskId,
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
    },
}

/// A step to run.
#[derive(Clone, Debug)]
pub struct Start {
    /// The plan, with what entitles it to run.
    pub approved: Approved,
    /// The task.
    pub task: TaskId,
    /// The group.
    pub group: GroupNo,
    /// The host.
    pub host: HostName,
    /// The step.
    pub step: StepName,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Which batch of its group the host is in, from 1.
    pub batch: u32,
    /// When the start was recorded.
    pub since: Timestamp,
    /// Tells the run from every other one, of other daemons too.
    pub run_key: Digest,
    /// Whether an earlier daemon may have sent it; the host knows.
    pub resume: bool,
    /// Whether it was to be sent so long ago that it may only be shown, and not begin any more.
    pub late: bool,
    /// What its script is told of the steps before it.
    pub earlier: Earlier,
    /// Where the audit ended when it was sent, for the host to keep; whoever performs it fills it in.
    pub audit: Head,
    /// Where its script may say how far it is; whoever performs it fills it in.
    pub callback: Option<Callback>,
}

impl Start {
    /// Returns which attempt it is.
    #[must_use]
    pub fn attempt_name(&self) -> Attempt {
        Attempt {
            task: self.task,
            group: self.group,
            host: self.host.clone(),
            step: self.step.clone(),
            attempt: self.attempt,
        }
    }
}

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
    /// The files that became tasks and the orders that were answered, all of them, by [`DropKey::identity`]: what somebody moved
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
    pub fn handle(&mut self, now: Moment, input: Input) -> Vec<Effect> {
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
        out.into_effects()
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
            out.durable(Effect::Audit(Entry::of(run.id, act)));
        }
    }
}

#[cfg(test)]
mod simulator;
