//! Collects what one input wants done.
//!
//! **Invariant:** events and moves of one task are merged, which costs fewer syncs and says the same.

use crate::base::ids::{GroupNo, HostName, TaskId};
use crate::base::time::{Moment, Timestamp};
use crate::domain::audit::{Entry, RefusedFile};
use crate::domain::problem::Problem;
use crate::domain::record::view_file;
use crate::domain::run::{DropKey, Recorded, Run, TaskState};
use crate::engine::input::{DropBox, Dropped};
use crate::engine::start::Start;
use crate::engine::turn::{Act, NewTask, Reopened, Taken, Turn, ViewChange};

/// What one input wants done, while it is collected.
#[derive(Debug)]
pub(super) struct Outbox {
    moment: Moment,
    turn: Turn,
}

impl Outbox {
    pub(super) fn new(moment: Moment) -> Outbox {
        Outbox { moment, turn: Turn::default() }
    }

    /// Returns the time of the input.
    pub(super) fn now(&self) -> Timestamp {
        self.moment.wall
    }

    /// Returns the time of the input on both clocks.
    pub(super) fn moment(&self) -> Moment {
        self.moment
    }

    /// Makes a task.
    pub(super) fn create(&mut self, task: NewTask) {
        self.turn.commit.creates.push(task);
    }

    /// Adds an event to what is created or appended of the task.
    pub(super) fn append(&mut self, task: TaskId, recorded: Recorded) {
        let commit = &mut self.turn.commit;
        if let Some(new) = commit.creates.iter_mut().find(|new| new.id == task) {
            return new.events.push(recorded);
        }
        match commit.appends.iter_mut().find(|(id, _)| *id == task) {
            Some((_, events)) => events.push(recorded),
            None => commit.appends.push((task, vec![recorded])),
        }
    }

    /// Adds a line to the audit.
    pub(super) fn audit(&mut self, entry: Entry) {
        self.turn.commit.audit.push(entry);
    }

    /// Takes away a file that became a task, or whose order was answered.
    pub(super) fn consume(&mut self, drop_box: DropBox, key: DropKey, task: Option<TaskId>) {
        self.turn.taken.push(Taken::Consumed { drop_box, key, task });
    }

    /// Refuses a file into `bad/`. The journal of an ended task says nothing more, and there may be none: the audit has it alone.
    pub(super) fn refuse(&mut self, file: Dropped, task: Option<TaskId>, problems: Vec<Problem>) {
        let refused =
            RefusedFile { drop_box: file.drop_box.name(), name: file.key.name.as_str(), digest: Some(file.key.digest) };
        self.audit(Entry::of_refused(self.now(), Some(&file.owner.actor), task, &refused, &problems));
        self.turn.taken.push(Taken::Refused { drop_box: file.drop_box, key: file.key, problems });
    }

    /// Has a file looked at again soon.
    pub(super) fn look_again(&mut self, file: Dropped) {
        self.turn.acts.push(Act::LookAgain { drop_box: file.drop_box, key: file.key });
    }

    /// Changes what people see of a task.
    pub(super) fn show(&mut self, change: ViewChange) {
        self.turn.views.push(change);
    }

    /// Shows the plan of a task as it is now.
    pub(super) fn replan(&mut self, run: &Run) {
        let (version, plan, view) = (run.plan_version, run.plan.canonical(), view_file(run));
        self.show(ViewChange::Replanned { id: run.id, version, plan, view });
    }

    /// Takes an ended task's file back to the running ones, before anything else is said of it.
    pub(super) fn reopen(&mut self, run: &Run) {
        self.turn.reopened.push(Reopened { id: run.id, view: view_file(run) });
    }

    /// Moves a task's file; one that is only being created is created where it belongs.
    pub(super) fn relocate(&mut self, task: TaskId, from: TaskState, to: TaskState) {
        if let Some(new) = self.turn.commit.creates.iter_mut().find(|new| new.id == task) {
            new.state = to;
            return;
        }
        let views = &mut self.turn.views;
        let known = views.iter().rposition(|change| matches!(change, ViewChange::Moved { id, .. } if *id == task));
        match known.map(|n| (n, &mut views[n])) {
            // There and back is not moved at all.
            Some((n, ViewChange::Moved { from, .. })) if *from == to => drop(views.remove(n)),
            Some((_, ViewChange::Moved { to: known, .. })) => *known = to,
            _ if from != to => self.show(ViewChange::Moved { id: task, from, to }),
            _ => {}
        }
    }

    /// Runs a step.
    pub(super) fn run_step(&mut self, start: Start) {
        self.turn.acts.push(Act::RunStep(Box::new(start)));
    }

    /// Ends the step that runs on a host.
    pub(super) fn stop_step(&mut self, task: TaskId, group: GroupNo, host: HostName) {
        self.turn.acts.push(Act::StopStep { task, group, host });
    }

    /// Lets go of a host.
    pub(super) fn release_host(&mut self, task: TaskId, group: GroupNo, host: HostName) {
        self.turn.acts.push(Act::ReleaseHost { task, group, host });
    }

    /// Has a task read.
    pub(super) fn fetch(&mut self, id: TaskId) {
        self.turn.fetched.push(id);
    }

    pub(super) fn into_turn(self) -> Turn {
        self.turn
    }
}
