//! The tasks that wait on the simulated disk, and how the engine's sleeping ones compare with them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::World;
use super::parts::{LATE_AFTER_MS, library};
use crate::base::ids::TaskId;
use crate::domain::outcome::{Ending, OutputFacts, StepResult};
use crate::domain::run::{Event, Recorded, Run, TaskState};
use crate::engine::input::{DropBox, Input};
use crate::engine::sleepers::{Asleep, Known};
use crate::engine::{Engine, FoundTask, Waiting};

impl World {
    fn fold(&self, id: TaskId) -> Run {
        let (plan, events) = &self.disk.runs[&id];
        Run::fold(id, Arc::clone(plan), events).expect("the journal folds")
    }

    /// Returns the tasks that have no record.
    pub(super) fn unfinished(&self) -> Vec<Run> {
        let ids = self.disk.runs.keys().filter(|id| !self.disk.records.contains(id));
        ids.map(|id| self.fold(*id)).collect()
    }

    /// Returns the tasks that wait.
    pub(super) fn waiting_runs(&self) -> Vec<Run> {
        self.unfinished().into_iter().filter(|run| matches!(run.state(), TaskState::New | TaskState::Ready)).collect()
    }

    /// Returns what a start finds: tasks that have begun with their plans, and of the others what their journals show.
    pub(super) fn found(&self) -> (Vec<FoundTask>, Vec<Waiting>) {
        let (mut found, mut waiting) = (Vec::new(), Vec::new());
        for (id, (plan, events)) in &self.disk.runs {
            if self.disk.records.contains(id) && self.disk.views.contains(&(TaskState::Done, *id)) {
                continue;
            }
            let standing: Vec<TaskState> =
                self.disk.views.iter().filter(|(_, task)| task == id).map(|(state, _)| *state).collect();
            match Waiting::of(*id, events, standing.clone(), 1_000) {
                Some(waits) => waiting.push(waits),
                None => found.push(FoundTask { id: *id, plan: Arc::clone(plan), events: events.clone(), standing }),
            }
        }
        (found, waiting)
    }

    /// Gives the engine the tasks that it wants to see. Now and then one cannot be read at this moment.
    pub(super) fn answer_fetches(&mut self) {
        let wanted = std::mem::take(&mut self.fetched);
        if wanted.is_empty() || self.engine.is_none() {
            return;
        }
        let mut found = Vec::new();
        for id in wanted {
            let known = self.engine.as_ref().and_then(|engine| engine.sleepers.get(id));
            let is_lost =
                self.crashes && matches!(known, Some(Asleep::Known(_))) && self.dice.one_in(self.knobs.read_fails);
            found.push((id, (!is_lost).then(|| Box::new(self.fold(id)))));
        }
        self.input(Input::Fetched(found));
    }
}

/// Whether a task waits and was not looked at since the start: nothing is promised of where its file stands.
pub(super) fn is_found(engine: &Engine, id: TaskId, events: &[Recorded]) -> bool {
    let found = matches!(engine.sleepers.get(id), Some(Asleep::Found { .. }));
    let has_begun = |recorded: &Recorded| matches!(recorded.event, Event::Started | Event::Closed { .. });
    assert!(!found || !events.iter().any(has_begun), "task {id} has begun, and nobody looked at it");
    found
}

/// Whether a task sleeps; what the engine knows of it is what its events say.
pub(super) fn sleeps_well(engine: &Engine, run: &Run) -> bool {
    let Some(Asleep::Known(known)) = engine.sleepers.get(run.id) else { return false };
    assert_eq!(**known, Known::of(run), "task {}: the engine does not know what the events say", run.id);
    true
}

/// A day without crashes.
fn calm() -> World {
    let mut world = World::new(1);
    world.crashes = false;
    world.start_engine();
    world
}

fn drop_ready(world: &mut World, host: &str, more: &str) {
    // A file that lies flat in its box does not skip approval.
    world.dropped += u64::from((world.dropped + 1).is_multiple_of(world.knobs.flat));
    let text = format!(r#"{{"task_name": "t", "temp_id": "plain", "hosts": {{"1": ["{host}"]}}{more}}}"#);
    world.drop_file(DropBox::Ready, "boss", text);
}

/// Hands an input to the engine and performs what it says, but for what it wants to read: that is returned.
fn hand_in(world: &mut World, input: Input) -> Vec<TaskId> {
    let now = world.moment();
    let turn = world.engine.as_mut().expect("it runs").handle(now, input);
    world.perform(turn);
    std::mem::take(&mut world.fetched)
}

fn files(world: &World) -> Input {
    Input::Dropped(world.disk.boxes.values().cloned().collect())
}

#[test]
fn however_many_wait_so_many_are_compared_in_a_turn_and_nobody_waits_for_the_rest() {
    const WAITING: usize = 300;
    for restarts in [false, true] {
        let mut world = calm();
        let tomorrow = world.now.plus_ms(86_400_000);
        for _ in 0..WAITING {
            drop_ready(&mut world, "h1", &format!(r#", "exec_time": "{tomorrow}""#));
        }
        world.rescan();
        world.library = 2;
        if restarts {
            world.crash();
            world.start_engine();
        }
        let mut reads = vec![hand_in(&mut world, Input::Reloaded(library(2), HashMap::new()))];
        drop_ready(&mut world, "h2", "");
        let dropped = files(&world);
        let more = hand_in(&mut world, dropped);
        assert_eq!((world.flights.len(), more.len()), (1, 0), "a new task starts while others are read");
        while let Some(ids) = reads.last().filter(|ids| !ids.is_empty()) {
            assert!(ids.len() <= 64, "{} at once", ids.len());
            let found = ids.iter().map(|id| (*id, Some(Box::new(world.fold(*id))))).collect();
            let next = hand_in(&mut world, Input::Fetched(found));
            reads.push(next);
        }
        let read: BTreeSet<TaskId> = reads.concat().into_iter().collect();
        assert_eq!((read.len(), reads.concat().len()), (WAITING, WAITING), "each of them once");
        let new = world.waiting_runs().iter().filter(|run| run.state() == TaskState::New).count();
        assert_eq!(new, WAITING, "with other plans all of them wait for approval");
        world.check();
    }
}

#[test]
fn the_oldest_of_those_that_are_due_starts_first_though_it_sleeps() {
    let mut world = calm();
    for _ in 0..3 {
        drop_ready(&mut world, "h1", "");
    }
    let dropped = files(&world);
    assert_eq!(hand_in(&mut world, dropped), [], "one runs, and its host takes no other");
    let order = r#"{"order":"cancel","task":1,"reason":"enough"}"#.to_owned();
    world.drop_file(DropBox::Orders, "boss", order);
    let dropped = files(&world);
    assert_eq!(hand_in(&mut world, dropped), []);
    world.end_flight();
    // What was wanted when its host became free is read; whatever else is dropped for that host meanwhile waits.
    assert_eq!(world.flights.iter().map(|flight| flight.0.0).collect::<Vec<_>>(), [2]);
    world.drop_file(DropBox::Orders, "boss", r#"{"order":"cancel","task":2,"reason":"enough"}"#.to_owned());
    let dropped = files(&world);
    hand_in(&mut world, dropped);
    let (task, group, host, step, attempt) = world.flights.pop().expect("it runs");
    let result = StepResult {
        attempt,
        ending: Ending::Cancelled,
        started: world.now,
        ended: world.now,
        output: OutputFacts::default(),
        proved_by: None,
    };
    let wanted = hand_in(&mut world, Input::StepEnded { task, group, host, step, result });
    assert_eq!(wanted, [TaskId(3)]);
    drop_ready(&mut world, "h1", "");
    let dropped = files(&world);
    assert_eq!(hand_in(&mut world, dropped), []);
    assert_eq!(world.flights.len(), 0, "the newest has not taken its host");
    let found = vec![(TaskId(3), Some(Box::new(world.fold(TaskId(3)))))];
    hand_in(&mut world, Input::Fetched(found));
    assert_eq!(world.flights.iter().map(|flight| flight.0.0).collect::<Vec<_>>(), [3]);
}

#[test]
fn an_order_is_about_the_task_that_its_name_meant_when_it_came() {
    let mut world = calm();
    let tomorrow = world.now.plus_ms(86_400_000);
    drop_ready(&mut world, "h1", &format!(r#", "exec_time": "{tomorrow}""#));
    let first = world.disk.boxes.values().next().expect("it was dropped").clone();
    world.rescan();
    world.drop_file(DropBox::Orders, "boss", r#"{"order":"hold","task":"f1","reason":"wait"}"#.to_owned());
    let dropped = files(&world);
    assert_eq!(hand_in(&mut world, dropped), [TaskId(1)]);
    // Another file of that name comes while the task is read.
    let mut second = first;
    second.key.ino += 100;
    world.disk.boxes.insert((DropBox::Ready, second.key.name.clone()), second.clone());
    hand_in(&mut world, Input::Dropped(vec![second]));
    let found = vec![(TaskId(1), Some(Box::new(world.fold(TaskId(1)))))];
    hand_in(&mut world, Input::Fetched(found));
    let held = [1, 2].map(|id| world.fold(TaskId(id)).held().is_some());
    assert_eq!(held, [true, false]);
}

#[test]
fn a_downtime_is_not_over_before_every_task_was_looked_at() {
    let mut world = calm();
    let soon = world.now.plus_ms(5_000);
    drop_ready(&mut world, "h1", &format!(r#", "exec_time": "{soon}""#));
    world.rescan();
    world.crash();
    world.pass_ms(LATE_AFTER_MS + 10_000);
    let is_settled = |world: &World| world.engine.as_ref().is_some_and(Engine::is_settled);
    for _ in 0..2 {
        world.start_engine();
        assert_eq!(hand_in(&mut world, Input::Tick), [TaskId(1)]);
        // It is not read before the next crash, so the time noted is still that of before the first one.
        assert!(!is_settled(&world));
        world.crash();
        world.pass_ms(1_000);
    }
    world.start_engine();
    world.input(Input::Tick);
    assert!(is_settled(&world));
    let run = world.fold(TaskId(1));
    assert_eq!((run.state(), run.held().is_some()), (TaskState::Ready, true), "its time passed while no daemon ran");
}
