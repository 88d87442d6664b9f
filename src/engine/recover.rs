//! The start: tasks as they were found on disk become an engine and the effects that finish what was cut short.
//!
//! **Invariant:** events are believed, directories are corrected. A step that was open when the daemon stopped is asked
//! for again under its old name: its host starts it at most once. A host between two steps goes on with the next. No file
//! that became a task or an order comes in twice, from the first moment on.

use crate::engine::found::{FoundTask, Past, Waiting};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::ids::TaskId;
use crate::base::time::{Moment, Timestamp};
use crate::domain::audit::Entry;
use crate::domain::library::Library;
use crate::domain::record::view_file;
use crate::domain::run::{DropKey, Event, IllegalEvent, Recorded, Run, Stage, TaskState};
use crate::engine::Engine;
use crate::engine::input::DropBox;
use crate::engine::keys::{KeyOf, Keyed};
use crate::engine::outbox::Outbox;
use crate::engine::progress::Progress;
use crate::engine::schedule::finish;
use crate::engine::sleepers::Fired;
use crate::engine::turn::{Turn, ViewChange};

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
    ) -> (Engine, Turn, Vec<IllegalEvent>) {
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
                    lines.for_each(|line| out.audit(line));
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
        (engine, out.into_turn(), unbelievable)
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
        unaudited(&run, audited).for_each(|line| out.audit(line));
        self.take_up(run, standing, out);
    }

    fn take_up(&mut self, run: Run, standing: &[TaskState], out: &mut Outbox) {
        let id = run.id;
        if matches!(run.stage, Stage::Done { .. }) {
            return finish_again(&run, standing, out);
        }
        correct_directory(&run, run.state(), standing, out);
        if run.plan_version > 1 {
            out.replan(&run);
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
            self.close(id, crate::domain::outcome::Outcome::Rejected, out);
        } else if cancelled && !running {
            self.close(id, crate::domain::outcome::Outcome::Cancelled, out);
        } else if cancelled {
            self.stop_running(id, out);
        }
    }
}

impl Engine {
    /// Writes the file of an unfinished task again; of one that sleeps, when it was read.
    pub(super) fn restore_view(&mut self, id: TaskId, out: &mut Outbox) {
        match self.runs.get(&id) {
            Some(run) => out.show(restore(run, run.state())),
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

fn restore(run: &Run, state: TaskState) -> ViewChange {
    let view = view_file(run);
    ViewChange::Restored { id: run.id, state, view }
}

/// Removes the files that a run came from and that were answered in it: a crash may have left them in their boxes,
/// and nobody may take them for new ones.
fn consume_again<'o>(id: TaskId, drop: &DropKey, orders: impl IntoIterator<Item = &'o DropKey>, out: &mut Outbox) {
    for drop_box in [DropBox::New, DropBox::Ready] {
        out.consume(drop_box, drop.clone(), Some(id));
    }
    for key in orders {
        out.consume(DropBox::Orders, key.clone(), Some(id));
    }
}

/// Writes the record of a task whose last event is on disk; what stands in `done/` may still be a view.
fn finish_again(run: &Run, standing: &[TaskState], out: &mut Outbox) {
    let right = standing.first().copied().unwrap_or(TaskState::Running);
    correct_directory(run, right, standing, out);
    out.show(finish(run, right));
}

/// Makes the task's file stand in the right directory, and nowhere else.
fn correct_directory(run: &Run, right: TaskState, standing: &[TaskState], out: &mut Outbox) {
    if standing.contains(&right) {
        for state in standing.iter().filter(|state| **state != right) {
            out.show(ViewChange::Removed { id: run.id, state: *state });
        }
        return;
    }
    match standing {
        [] => out.show(restore(run, right)),
        [from, others @ ..] => {
            out.show(ViewChange::Moved { id: run.id, from: *from, to: right });
            for state in others {
                out.show(ViewChange::Removed { id: run.id, state: *state });
            }
        }
    }
}
