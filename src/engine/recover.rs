//! The start: tasks as they were found on disk become an engine and the effects that finish what was cut short.
//!
//! **Invariant:** events are believed, directories are corrected. A step that was open when the daemon stopped is asked
//! for again under its old name: its host starts it at most once. A host between two steps goes on with the next. No file
//! that became a task or an order comes in twice, from the first moment on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::ids::{TaskId, is_token_uid};
use crate::base::time::{Moment, Timestamp};
use crate::domain::audit::Entry;
use crate::domain::plan::{Library, Plan};
use crate::domain::record::{HistoryLine, view_file};
use crate::domain::run::{DropKey, Event, IllegalEvent, Recorded, Run, Stage, TaskState};
use crate::engine::asleep::Fired;
use crate::engine::intake::{KeyOf, Keyed, keyed};
use crate::engine::outbox::Outbox;
use crate::engine::schedule::{Progress, finish};
use crate::engine::{DropBox, Effect, Engine};

/// What an earlier daemon left beside unfinished tasks.
#[derive(Debug, Default)]
pub struct Past {
    /// The finished tasks.
    pub history: Vec<HistoryLine>,
    /// The last line of each unfinished task's journal that the audit has.
    pub audited: BTreeMap<TaskId, u64>,
    /// When a daemon looked at the time last; `None` where that is not noted.
    pub seen: Option<Timestamp>,
    /// The tasks that wait, by their numbers.
    pub waiting: Vec<Waiting>,
    /// Unfinished tasks that cannot be read any more, with their first event where that can.
    pub unread: Vec<(TaskId, Option<Recorded>)>,
    /// The lines of the audit that speak of cuts which nobody took note of.
    pub cuts: BTreeSet<u64>,
}

/// An unfinished task as it stands on disk.
#[derive(Debug)]
pub struct FoundTask {
    /// Its number.
    pub id: TaskId,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// Its events.
    pub events: Vec<Recorded>,
    /// The directories that hold a file of it.
    pub standing: Vec<TaskState>,
}

/// An unfinished task that has not begun, as its journal shows it without its plan.
#[derive(Debug)]
pub struct Waiting {
    /// Its number.
    pub id: TaskId,
    /// What it was dropped as.
    name: String,
    /// Whose it is.
    by: u32,
    /// Whose idempotency key it has, and what stands for its submission then.
    key: Option<(KeyOf, Keyed)>,
    /// Its file.
    drop: DropKey,
    /// Those of its orders.
    orders: Vec<DropKey>,
    /// Whom its rights depend on.
    pub(super) people: BTreeSet<u32>,
    /// When its last event was written.
    written: Timestamp,
    /// The directories that hold a file of it.
    pub(super) standing: Vec<TaskState>,
    /// How many bytes its plan has.
    pub(super) plan_bytes: u64,
    /// How many its text has.
    text_bytes: u64,
    /// The last line of its journal that the audit has.
    pub(super) audited: Option<u64>,
}

impl Waiting {
    /// Returns what a journal says of a task that waits; `None` where it has begun or ended, or begins with something else.
    #[must_use]
    pub fn of(id: TaskId, events: &[Recorded], standing: Vec<TaskState>, plan_bytes: u64) -> Option<Waiting> {
        let Some(Recorded { at, event: Event::Accepted(accepted) }) = events.first() else { return None };
        let has_begun = |recorded: &Recorded| matches!(recorded.event, Event::Started | Event::Closed { .. });
        if events.iter().any(has_begun) {
            return None;
        }
        let voter = |recorded: &Recorded| match &recorded.event {
            Event::Approved { approval, .. } => Some(approval.by.uid),
            _ => None,
        };
        let people = events.iter().filter_map(voter).chain([accepted.by.uid]);
        Some(Waiting {
            id,
            name: accepted.name.clone(),
            by: accepted.by.uid,
            key: keyed(id, accepted, *at),
            drop: accepted.drop.clone(),
            orders: events.iter().filter_map(|recorded| recorded.event.order().cloned()).collect(),
            people: people.filter(|uid| !is_token_uid(*uid)).collect(),
            written: events.last().map_or(*at, |recorded| recorded.at),
            standing,
            plan_bytes,
            text_bytes: accepted.submission.len() as u64,
            audited: None,
        })
    }
}

impl Engine {
    /// Returns the engine that goes on from what is on disk, the effects that repair it, and the tasks whose
    /// journal cannot be believed; those are left as they are for a person to look at.
    ///
    /// Of what waits only that is known at once which keeps it from coming in a second time; the rest of it is read by and by,
    /// and whatever is wrong with it on disk is repaired then.
    #[must_use]
    pub fn recover(
        library: Arc<Library>,
        next_id: u64,
        found: Vec<FoundTask>,
        past: Past,
        now: Moment,
    ) -> (Engine, Vec<Effect>, Vec<IllegalEvent>) {
        let mut engine = Engine::new(library, next_id);
        // Where no time is noted, the journals say when a daemon wrote last. Where one is, they say nothing more: an event may
        // be from before the clock was set back, and look newer than it is.
        let written = found.iter().flat_map(|task| &task.events).map(|recorded| recorded.at);
        let written = written.chain(past.waiting.iter().map(|task| task.written));
        let written = written.filter(|at| *at <= now.wall).max();
        engine.seen = past.seen.or(written).unwrap_or(Timestamp(i64::MIN));
        engine.begun = Fired { seen: engine.seen, at: now.wall };
        engine.cuts = past.cuts;
        for line in past.history {
            engine.next_id = engine.next_id.max(line.id.0.saturating_add(1));
            if let Some(key) = line.idempotency_key {
                let hooks = line.hook.into_iter().collect();
                let keyed = Keyed { id: line.id, digest: line.submission, at: line.accepted_at, hooks };
                engine.keys.insert(KeyOf::new(&key, line.submitter.uid), keyed);
            }
            engine.names.note(line.name, line.submitter.uid, line.id);
            engine.drops.extend(line.drops);
        }
        for (id, first) in past.unread {
            engine.leave_alone(id, first);
        }
        let mut out = Outbox::new(now);
        let mut unbelievable = Vec::new();
        let mut waiting = past.waiting.into_iter().peekable();
        for task in found {
            while let Some(task) = waiting.next_if(|waiting| waiting.id < task.id) {
                engine.find_asleep(task, &past.audited, &mut out);
            }
            engine.next_id = engine.next_id.max(task.id.0.saturating_add(1));
            match Run::fold(task.id, task.plan, &task.events) {
                Ok(run) => {
                    let lines = unaudited(&run, past.audited.get(&run.id).copied());
                    lines.for_each(|line| out.durable(Effect::Audit(line)));
                    consume_again(run.id, &run.accepted.drop, &run.orders, &mut out);
                    engine.index(&run);
                    engine.take_up(run, &task.standing, &mut out);
                }
                Err(illegal) => {
                    engine.leave_alone(task.id, task.events.into_iter().next());
                    unbelievable.push(illegal);
                }
            }
        }
        waiting.for_each(|task| engine.find_asleep(task, &past.audited, &mut out));
        // Nothing starts yet: orders that came while no daemon ran are heard first.
        (engine, out.into_effects(), unbelievable)
    }

    /// Remembers of a task that cannot be believed what keeps it from coming in a second time.
    fn leave_alone(&mut self, id: TaskId, first: Option<Recorded>) {
        self.next_id = self.next_id.max(id.0.saturating_add(1));
        if let Some(Recorded { at, event: Event::Accepted(accepted) }) = first {
            self.index_accepted(id, &accepted, at);
        }
    }

    /// Makes a task that waits findable by what it came from. Its plan is not read yet.
    fn find_asleep(&mut self, mut task: Waiting, audited: &BTreeMap<TaskId, u64>, out: &mut Outbox) {
        let id = task.id;
        self.next_id = self.next_id.max(id.0.saturating_add(1));
        consume_again(id, &task.drop, &task.orders, out);
        self.drops.extend(std::iter::once(&task.drop).chain(&task.orders).filter_map(DropKey::identity));
        self.names.note(std::mem::take(&mut task.name), task.by, id);
        self.keys.extend(task.key.take());
        task.audited = audited.get(&id).copied();
        self.loads.note(id, task.by, task.plan_bytes.saturating_add(task.text_bytes));
        self.sleepers.find(task);
    }

    /// Looks at a task that waited when the daemon started, for the first time.
    pub(super) fn look_at(&mut self, run: Run, audited: Option<u64>, standing: &[TaskState], out: &mut Outbox) {
        unaudited(&run, audited).for_each(|line| out.durable(Effect::Audit(line)));
        self.take_up(run, standing, out);
    }

    fn take_up(&mut self, run: Run, standing: &[TaskState], out: &mut Outbox) {
        let id = run.id;
        if matches!(run.stage, Stage::Done { .. }) {
            return finish_again(&run, standing, out);
        }
        correct_directory(&run, run.state(), standing, out);
        if run.plan_version > 1 {
            let view = view_file(&run);
            out.durable(Effect::Replan { id, version: run.plan_version, plan: run.plan.canonical(), view });
        }
        let (rejected, cancelled) = (run.rejected.is_some(), run.cancelled.is_some());
        let running = matches!(run.stage, Stage::Running { .. });
        if running {
            self.running.insert(id, Progress::of(&run));
        }
        self.watch(&run);
        self.runs.insert(id, run);
        self.resume_open_steps(id, out);
        if rejected {
            self.close(id, crate::domain::run::Outcome::Rejected, out);
        } else if cancelled && !running {
            self.close(id, crate::domain::run::Outcome::Cancelled, out);
        } else if cancelled {
            self.stop_running(id, out);
        }
    }
}

impl Engine {
    /// Writes the file of an unfinished task again; of one that sleeps, when it was read.
    pub(super) fn restore_view(&mut self, id: TaskId, out: &mut Outbox) {
        match self.runs.get(&id) {
            Some(run) => out.durable(restore(run, run.state())),
            None => self.sleepers.want_view(id),
        }
    }
}

/// Returns the lines of the audit that say what the last one it has of a task does not: they were never durable, or somebody
/// removed them.
pub fn unaudited(run: &Run, last: Option<u64>) -> impl Iterator<Item = Entry> {
    let missing = run.acts.iter().filter(move |act| last.is_none_or(|last| act.event > last));
    missing.map(|act| Entry { recovered: true, ..Entry::of(run.id, act) })
}

fn restore(run: &Run, state: TaskState) -> Effect {
    let view = view_file(run);
    Effect::RestoreView { id: run.id, state, view }
}

/// Removes the files that a run came from and that were answered in it: a crash may have left them in their boxes,
/// and nobody may take them for new ones.
fn consume_again<'o>(id: TaskId, drop: &DropKey, orders: impl IntoIterator<Item = &'o DropKey>, out: &mut Outbox) {
    for drop_box in [DropBox::New, DropBox::Ready] {
        out.durable(Effect::Consume { drop_box, key: drop.clone(), task: Some(id) });
    }
    for key in orders {
        out.durable(Effect::Consume { drop_box: DropBox::Orders, key: key.clone(), task: Some(id) });
    }
}

/// Writes the record of a task whose last event is on disk; what stands in `done/` may still be a view.
fn finish_again(run: &Run, standing: &[TaskState], out: &mut Outbox) {
    let right = standing.first().copied().unwrap_or(TaskState::Running);
    correct_directory(run, right, standing, out);
    out.durable(finish(run, right));
}

/// Makes the task's file stand in the right directory, and nowhere else.
fn correct_directory(run: &Run, right: TaskState, standing: &[TaskState], out: &mut Outbox) {
    if standing.contains(&right) {
        for state in standing.iter().filter(|state| **state != right) {
            out.durable(Effect::RemoveView { id: run.id, state: *state });
        }
        return;
    }
    match standing {
        [] => out.durable(restore(run, right)),
        [from, others @ ..] => {
            out.durable(Effect::Move { id: run.id, from: *from, to: right });
            for state in others {
                out.durable(Effect::RemoveView { id: run.id, state: *state });
            }
        }
    }
}
