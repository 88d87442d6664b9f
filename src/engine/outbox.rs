//! Collects the effects of one input.
//!
//! **Invariant:** what is durable comes first and in order, acts come last; so no act can overtake the event
//! that announces it. Events and moves of one task are merged, which costs fewer syncs and says the same.

use std::sync::Arc;

use crate::base::ids::TaskId;
use crate::base::time::{Moment, Timestamp};
use crate::domain::plan::Plan;
use crate::domain::record::view_file;
use crate::domain::run::{Recorded, Run, TaskState};
use crate::engine::Effect;

/// A task that does not exist on disk yet.
#[derive(Debug)]
pub struct NewTask {
    /// Its number.
    pub id: TaskId,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// Its first events.
    pub events: Vec<Recorded>,
    /// The state it is in after them.
    pub state: TaskState,
    /// The bytes of its file there.
    pub view: Vec<u8>,
}

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
