//! Collects the effects of one input.
//!
//! **Invariant:** what is durable comes first and in order, acts come last; so no act can overtake the event
//! that announces it. Events and moves of one task are merged, which costs fewer syncs and says the same.

use crate::base::ids::TaskId;
use crate::base::time::{Moment, Timestamp};
use crate::domain::audit::{Entry, RefusedFile};
use crate::domain::problem::Problem;
use crate::domain::record::view_file;
use crate::domain::run::{Recorded, Run, TaskState};
use crate::engine::effect::Effect;
use crate::engine::input::Dropped;

/// The effects of one input, while they are collected.
#[derive(Debug)]
pub(super) struct Outbox {
    moment: Moment,
    durable: Vec<Effect>,
    acts: Vec<Effect>,
}

impl Outbox {
    pub(super) fn new(moment: Moment) -> Outbox {
        Outbox { moment, durable: Vec::new(), acts: Vec::new() }
    }

    /// Returns the time of the input.
    pub(super) fn now(&self) -> Timestamp {
        self.moment.wall
    }

    /// Returns the time of the input on both clocks.
    pub(super) fn moment(&self) -> Moment {
        self.moment
    }

    /// Adds a durable effect.
    pub(super) fn durable(&mut self, effect: Effect) {
        self.durable.push(effect);
    }

    /// Adds an act.
    pub(super) fn act(&mut self, effect: Effect) {
        self.acts.push(effect);
    }

    /// Adds an event to the task's last creation or append in this outbox, or a new append.
    pub(super) fn append(&mut self, task: TaskId, recorded: Recorded) {
        for effect in self.durable.iter_mut().rev() {
            match effect {
                Effect::Create(new) if new.id == task => return new.events.push(recorded),
                Effect::Append { id, events } if *id == task => return events.push(recorded),
                _ => {}
            }
        }
        self.durable.push(Effect::Append { id: task, events: vec![recorded] });
    }

    /// Takes an ended task's file back to the running ones, before anything else is said of it.
    pub(super) fn reopen(&mut self, run: &Run) {
        let view = view_file(run);
        self.durable.insert(0, Effect::Reopen { id: run.id, view });
    }

    /// Moves a task's file; one that is only being created is created where it belongs.
    pub(super) fn relocate(&mut self, task: TaskId, from: TaskState, to: TaskState) {
        let moves = |effect: &Effect| match effect {
            Effect::Create(new) => new.id == task,
            Effect::Move { id, .. } => *id == task,
            _ => false,
        };
        if let Some(n) = self.durable.iter().rposition(moves) {
            match &mut self.durable[n] {
                Effect::Create(new) => new.state = to,
                // There and back is not moved at all.
                Effect::Move { from, .. } if *from == to => drop(self.durable.remove(n)),
                Effect::Move { to: known, .. } => *known = to,
                _ => {}
            }
            return;
        }
        if from != to {
            self.durable.push(Effect::Move { id: task, from, to });
        }
    }

    pub(super) fn into_effects(self) -> Vec<Effect> {
        let mut effects = self.durable;
        effects.extend(self.acts);
        effects
    }
}

/// Refuses a file into `bad/`. The journal of an ended task says nothing more, and there may be none: the audit has it alone.
pub(super) fn refuse(file: Dropped, task: Option<TaskId>, problems: Vec<Problem>, out: &mut Outbox) {
    let refused =
        RefusedFile { drop_box: file.drop_box.name(), name: file.key.name.as_str(), digest: Some(file.key.digest) };
    let entry = Entry::of_refused(out.now(), Some(&file.owner.actor), task, &refused, &problems);
    out.durable(Effect::Audit(entry));
    out.durable(Effect::Refuse { drop_box: file.drop_box, key: file.key, problems });
}
