//! The start: tasks as they were found on disk become an engine and the effects that finish what was cut short.
//!
//! **Invariant:** events are believed, directories are corrected. A step that was open when the daemon stopped is asked
//! for again under its old name: its host starts it at most once. A host between two steps goes on with the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::ids::TaskId;
use crate::base::time::{Moment, Timestamp};
use crate::domain::audit::Entry;
use crate::domain::plan::{Library, Plan};
use crate::domain::record::{HistoryLine, view_file};
use crate::domain::run::{Event, IllegalEvent, Recorded, Run, Stage, TaskState};
use crate::engine::intake::{KeyOf, Keyed};
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

impl Engine {
    /// Returns the engine that goes on from what is on disk, the effects that repair it, and the tasks whose
    /// journal cannot be believed; those are left as they are for a person to look at.
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
        let written = written.filter(|at| *at <= now.wall).max();
        engine.seen = past.seen.or(written).unwrap_or(Timestamp(i64::MIN));
        engine.cuts = past.cuts;
        for line in past.history {
            engine.next_id = engine.next_id.max(line.id.0 + 1);
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
        for task in found {
            engine.next_id = engine.next_id.max(task.id.0 + 1);
            match Run::fold(task.id, task.plan, &task.events) {
                Ok(run) => {
                    let lines = unaudited(&run, past.audited.get(&run.id).copied());
                    lines.for_each(|line| out.durable(Effect::Audit(line)));
                    engine.resume(run, &task.standing, &mut out);
                }
                Err(illegal) => {
                    engine.leave_alone(task.id, task.events.into_iter().next());
                    unbelievable.push(illegal);
                }
            }
        }
        // Nothing starts yet: orders that came while no daemon ran are heard first.
        (engine, out.into_effects(), unbelievable)
    }

    /// Remembers of a task that cannot be believed what keeps it from coming in a second time.
    fn leave_alone(&mut self, id: TaskId, first: Option<Recorded>) {
        self.next_id = self.next_id.max(id.0 + 1);
        if let Some(Recorded { at, event: Event::Accepted(accepted) }) = first {
            self.index_accepted(id, &accepted, at);
        }
    }

    fn resume(&mut self, run: Run, standing: &[TaskState], out: &mut Outbox) {
        let id = run.id;
        consume_again(&run, out);
        self.index(&run);
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
    /// Writes the file of an unfinished task again.
    pub(super) fn restore_view(&self, id: TaskId, out: &mut Outbox) {
        if let Some(run) = self.runs.get(&id) {
            out.durable(restore(run, run.state()));
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
fn consume_again(run: &Run, out: &mut Outbox) {
    for drop_box in [DropBox::New, DropBox::Ready] {
        out.durable(Effect::Consume { drop_box, key: run.accepted.drop.clone(), task: Some(run.id) });
    }
    for key in &run.orders {
        out.durable(Effect::Consume { drop_box: DropBox::Orders, key: key.clone(), task: Some(run.id) });
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
