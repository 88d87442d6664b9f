//! What must hold of time, whatever happens to the clock and to the daemon.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{GroupNo, HostName, StepName, TaskId};
use crate::base::time::{Moment, Timestamp};
use crate::domain::run::{Event, Recorded, Run};
use crate::domain::template::Missed;
use crate::engine::input::{DropBox, Input};
use crate::engine::start::Start;

use super::World;
use super::parts::{LATE_AFTER_MS, WAIT_MS};

/// What the laws need to know of what happened.
#[derive(Default)]
pub(super) struct TimeLaws {
    /// When a batch began to wait, by the clock that nobody sets, if the same daemon still runs.
    batches: BTreeMap<(TaskId, GroupNo, u32), i64>,
    /// The batches that are said to wait; what is said of them once more, after the clock was set, begins nothing.
    waiting: BTreeSet<(TaskId, GroupNo, u32)>,
    /// When an attempt ended, by the same clock and under the same condition.
    ended: BTreeMap<(TaskId, HostName, StepName), i64>,
    /// The tasks that ran when the engine is asked after nobody looked for long; nothing of them begins by itself then.
    ran: BTreeSet<TaskId>,
    /// The ready tasks whose time passed while no daemon ran; none of them begins by itself.
    late: BTreeSet<TaskId>,
    /// When the engine was asked last, by the clock that nobody sets.
    looked: Option<i64>,
}

impl TimeLaws {
    /// A new daemon knows by the clock on the wall how long something has waited.
    pub(super) fn crashed(&mut self) {
        self.batches.clear();
        self.ended.clear();
        self.looked = None;
    }

    /// A new engine begins; another one had looked at `noted`. What was late at an earlier start, and was not dealt with, is late.
    pub(super) fn starts(&mut self, waiting: &[Run], noted: Option<Timestamp>, now: Timestamp) {
        let late = waiting.iter().filter(|run| {
            let counts = run.plan.missed != Missed::Run && !run.was_late && run.may_start();
            let unseen = |at: Timestamp| self.late.contains(&run.id) || noted.is_some_and(|noted| at > noted);
            let passed = |at: Timestamp| at >= run.accepted_at && now.0 - at.0 > LATE_AFTER_MS && unseen(at);
            counts && run.begins_at().is_some_and(passed)
        });
        self.late = late.map(|run| run.id).collect();
    }

    /// The engine is asked; it, or another one, was asked last at `seen`.
    pub(super) fn looks(&mut self, seen: Option<Timestamp>, now: Moment, running: impl Iterator<Item = TaskId>) {
        let rested = self.looked.map_or(0, |looked| now.steady_ms - looked);
        let away = seen.is_some_and(|seen| now.wall.0 - seen.0 - rested > LATE_AFTER_MS);
        self.looked = Some(now.steady_ms);
        self.ran = if away { running.collect() } else { BTreeSet::new() };
    }

    pub(super) fn appended(&mut self, id: TaskId, events: &[Recorded], steady_ms: i64) {
        for recorded in events {
            match &recorded.event {
                Event::BatchWaits { group, batch, until: Some(_), .. } if self.waiting.insert((id, *group, *batch)) => {
                    self.batches.insert((id, *group, *batch), steady_ms);
                }
                Event::BatchStarted { group, batch } => {
                    self.waiting.remove(&(id, *group, *batch));
                    let since = self.batches.remove(&(id, *group, *batch));
                    assert!(
                        since.is_none_or(|since| steady_ms - since >= WAIT_MS),
                        "task {id}: a batch waits too little"
                    );
                }
                Event::StepEnded { host, step, .. } => {
                    self.ended.insert((id, host.clone(), step.clone()), steady_ms);
                }
                Event::Started => assert!(!self.late.contains(&id), "task {id} begins by itself, and late"),
                // It is held for it, or has to be approved anew.
                Event::Held { ordered: None, .. }
                | Event::Lapsed { .. }
                | Event::Readmitted { .. }
                | Event::Stale { .. } => {
                    self.late.remove(&id);
                }
                _ => {}
            }
            // What a person wants does not wait; a refused wish changes nothing.
            if recorded.event.actor().is_some() && !matches!(recorded.event, Event::OrderRefused { .. }) {
                self.ran.remove(&id);
                self.late.remove(&id);
                self.ended.retain(|(task, ..), _| *task != id);
                self.batches.retain(|(task, ..), _| *task != id);
            }
        }
    }

    /// A step is sent for the first time.
    pub(super) fn begins(&self, start: &Start, steady_ms: i64) {
        let id = start.task;
        let planned = start.approved.plan().group(start.group).expect("its group");
        let delay_s = planned.steps.iter().find(|step| step.name == start.step).expect("its step").retry_delay_s;
        if let Some(ended) = self.ended.get(&(id, start.host.clone(), start.step.clone())) {
            assert!(steady_ms - ended >= delay_s as i64 * 1000, "task {id}: a retry waits too little");
        }
        let starts_late = start.approved.plan().missed == Missed::Run;
        assert!(starts_late || !self.ran.contains(&id), "task {id}: {} begins by itself, and late", start.step);
    }
}

/// A day of one task that runs "plain" on one host: its first step was sent.
fn day(sets_back_ms: i64) -> World {
    let mut world = World::new(1);
    world.crashes = false;
    world.start_engine();
    let task = r#"{"task_name": "t", "temp_id": "plain", "hosts": {"1": ["h1"]}}"#;
    world.drop_file(DropBox::Ready, "boss", task.to_owned());
    world.rescan();
    assert_eq!(world.flights.len(), 1);
    world.now = world.now.plus_ms(-sets_back_ms);
    world.input(Input::Tick);
    world
}

#[test]
fn what_was_written_before_the_clock_was_set_back_does_not_shorten_a_downtime() {
    for (down_ms, held) in [(LATE_AFTER_MS + 5_000, true), (LATE_AFTER_MS - 5_000, false)] {
        let mut world = day(LATE_AFTER_MS + 4_000);
        world.crash();
        world.pass_ms(down_ms);
        world.start_engine();
        world.input(Input::Tick);
        let run = world.engine.as_ref().and_then(|engine| engine.runs.values().next()).expect("it runs");
        assert_eq!(run.held().is_some(), held, "down for {down_ms} ms");
    }
}

#[test]
fn a_task_whose_clock_is_set_back_while_it_is_read_starts_at_its_time() {
    let mut world = World::new(1);
    world.crashes = false;
    world.start_engine();
    let at = world.now.plus_ms(5_000);
    let task = format!(r#"{{"task_name": "t", "temp_id": "plain", "hosts": {{"1": ["h1"]}}, "exec_time": "{at}"}}"#);
    world.drop_file(DropBox::Ready, "boss", task);
    world.rescan();
    world.pass_ms(6_000);
    // Its time has come, so it is read; meanwhile somebody sets the clock back.
    let now = world.moment();
    let turn = world.engine.as_mut().expect("it runs").handle(now, Input::Tick);
    world.perform(turn);
    assert_eq!(world.fetched.len(), 1);
    world.now = world.now.plus_ms(-4_000);
    world.answer_fetches();
    assert_eq!(world.flights.len(), 0, "its time is yet to come");
    world.pass_ms(4_000);
    world.input(Input::Tick);
    assert_eq!(world.flights.len(), 1, "its time has come again");
}
