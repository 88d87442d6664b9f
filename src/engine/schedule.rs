//! Who may start now: time, order of groups, slots over all tasks, one task at a time on a host.
//!
//! **Invariant:** a step starts only in a running task that nobody ended, on a host that nothing else occupies,
//! while a slot is free. A failed host never stops its siblings, and blocks the next group.

use std::collections::{BTreeSet, VecDeque};

use crate::base::ids::{GroupNo, HostName, StepName, TaskId};
use crate::domain::lane::{Lane, Next};
use crate::domain::record::{HistoryLine, record};
use crate::domain::run::{Event, Outcome, Run, Stage, StepResult, StepState, TaskState};
use crate::engine::outbox::Outbox;
use crate::engine::{Effect, Engine, Start};

/// How far a running task is. Computed from its run, never stored.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The group that runs, as a position in the plan.
    group: usize,
    /// Lanes of that group that wait for a slot or for their host.
    waiting: VecDeque<usize>,
    /// Lanes that occupy their host.
    active: BTreeSet<usize>,
}

impl Engine {
    /// Sets the timers of a run.
    pub(super) fn watch(&mut self, run: &Run) {
        let start = match &run.stage {
            Stage::Ready { start, .. } => Some(start.unwrap_or(run.accepted_at)),
            _ => None,
        };
        let end = run.plan.not_after.filter(|_| matches!(run.stage, Stage::New | Stage::Ready { .. }));
        self.timers.extend(start.into_iter().chain(end).map(|at| (at, run.id)));
    }

    pub(super) fn watch_id(&mut self, id: TaskId) {
        if let Some(run) = self.runs.remove(&id) {
            self.watch(&run);
            self.runs.insert(id, run);
        }
    }

    /// Looks at everything whose time has come and starts what may start.
    pub(super) fn schedule(&mut self, out: &mut Outbox) {
        while let Some((at, id)) = self.timers.first().copied().filter(|(at, _)| *at <= out.now()) {
            self.timers.remove(&(at, id));
            self.on_timer(id, out);
        }
        let running: Vec<TaskId> = self.running.keys().copied().collect();
        for id in running {
            self.start_lanes(id, out);
        }
        let due: Vec<TaskId> = self.due.iter().copied().collect();
        for id in due {
            self.start_task(id, out);
        }
    }

    fn on_timer(&mut self, id: TaskId, out: &mut Outbox) {
        let Some(run) = self.runs.get(&id) else { return };
        let waits = matches!(run.stage, Stage::New | Stage::Ready { .. });
        if waits && run.plan.not_after.is_some_and(|end| end <= out.now()) {
            return self.close(id, Outcome::Expired, out);
        }
        if let Stage::Ready { start, .. } = &run.stage
            && start.is_none_or(|start| start <= out.now())
        {
            self.due.insert(id);
        }
    }

    fn free_slots(&self) -> usize {
        self.library.defaults.hosts_in_flight.saturating_sub(self.busy.len())
    }

    /// Turns a due task into a running one when its first host can start.
    fn start_task(&mut self, id: TaskId, out: &mut Outbox) {
        let Some(run) = self.runs.get_mut(&id) else {
            self.due.remove(&id);
            return;
        };
        let first = run.plan.groups.first();
        let can_start = first.is_none_or(|group| group.hosts.iter().any(|host| !self.busy.contains(host)));
        if self.library.defaults.hosts_in_flight <= self.busy.len() || !can_start {
            return;
        }
        self.due.remove(&id);
        Engine::record(run, Event::Started, out);
        out.relocate(id, TaskState::Ready, TaskState::Running);
        let progress = Progress::of(run);
        self.running.insert(id, progress);
        self.start_lanes(id, out);
    }

    /// Starts hosts of a running task while slots are free; goes on to the next group or closes the task.
    pub(super) fn start_lanes(&mut self, id: TaskId, out: &mut Outbox) {
        loop {
            let Some(progress) = self.running.get_mut(&id) else { return };
            let mut waiting = std::mem::take(&mut progress.waiting);
            let mut passed_over = VecDeque::new();
            while self.free_slots() > 0
                && let Some(lane) = waiting.pop_front()
            {
                if !self.start_lane(id, lane, out) {
                    passed_over.push_back(lane);
                }
            }
            passed_over.append(&mut waiting);
            let Some(progress) = self.running.get_mut(&id) else { return };
            progress.waiting = passed_over;
            if !progress.waiting.is_empty() || !progress.active.is_empty() {
                return;
            }
            let run = &self.runs[&id];
            if !progress.next_group(run) {
                let outcome = run.worst_outcome();
                return self.close(id, outcome, out);
            }
        }
    }

    /// Occupies the lane's host and starts its next step; false while something else occupies the host.
    fn start_lane(&mut self, id: TaskId, lane: usize, out: &mut Outbox) -> bool {
        let run = &self.runs[&id];
        if let Some(at) = next_step(run, lane).and_then(|next| next.not_before).filter(|at| *at > out.now()) {
            self.timers.insert((at, id));
            return false;
        }
        let host = run.lanes[lane].host.clone();
        if !self.busy.insert(host) {
            return false;
        }
        if let Some(progress) = self.running.get_mut(&id) {
            progress.active.insert(lane);
        }
        if !self.start_step(id, lane, out) {
            self.release(id, lane, out);
        }
        true
    }

    /// Starts the lane's next step; false when there is none.
    fn start_step(&mut self, id: TaskId, lane: usize, out: &mut Outbox) -> bool {
        let Some(run) = self.runs.get_mut(&id) else { return false };
        let Stage::Running { approved, .. } = &run.stage else { return false };
        let Some(next) = next_step(run, lane).filter(|_| !run.is_ended_early()) else { return false };
        if next.not_before.is_some_and(|at| at > out.now()) {
            return false;
        }
        let (attempt, step) = (next.attempt, run.step_name(lane, next.step));
        let Some(step) = step else { return false };
        let (group, host) = (run.lanes[lane].group, run.lanes[lane].host.clone());
        let (approved, run_key, since) = (approved.clone(), run.key(), out.now());
        let event = Event::StepStarted { group, host: host.clone(), step: step.clone(), attempt };
        Engine::record(run, event, out);
        let start = Start { approved, task: id, group, host, step, attempt, since, run_key, resume: false };
        out.act(Effect::RunStep(start));
        true
    }

    /// Goes on with the steps that were open when an earlier daemon stopped; their hosts know how far they are.
    pub(super) fn resume_open_steps(&mut self, id: TaskId, out: &mut Outbox) {
        let (Some(run), Some(progress)) = (self.runs.get(&id), self.running.get_mut(&id)) else { return };
        let Stage::Running { approved, .. } = &run.stage else { return };
        let run_key = run.key();
        for (n, lane) in run.lanes.iter().enumerate() {
            let Some(open) = lane.open_step() else { continue };
            let StepState::Open { attempt, since, .. } = lane.steps[open] else { continue };
            let Some(group) = run.plan.group(lane.group) else { continue };
            let start = Start {
                approved: approved.clone(),
                task: id,
                group: lane.group,
                host: lane.host.clone(),
                step: group.steps[open].name.clone(),
                attempt,
                since,
                run_key,
                resume: true,
            };
            progress.active.insert(n);
            self.busy.insert(lane.host.clone());
            out.act(Effect::RunStep(start));
        }
    }

    pub(super) fn on_kill_unconfirmed(
        &mut self,
        id: TaskId,
        group: GroupNo,
        host: HostName,
        step: StepName,
        why: String,
        out: &mut Outbox,
    ) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let open = run.lane(group, &host).and_then(Lane::open_step);
        if open.is_some() && open == run.step_index(group, &step) {
            Engine::record(run, Event::KillUnconfirmed { group, host, step, why }, out);
        }
    }

    /// Frees the lane's host.
    fn release(&mut self, id: TaskId, lane: usize, out: &mut Outbox) {
        let Some(run) = self.runs.get(&id) else { return };
        let (group, host) = (run.lanes[lane].group, run.lanes[lane].host.clone());
        self.busy.remove(&host);
        if let Some(progress) = self.running.get_mut(&id) {
            progress.active.remove(&lane);
        }
        out.act(Effect::ReleaseHost { task: id, group, host });
    }

    pub(super) fn on_step_ended(
        &mut self,
        id: TaskId,
        group: GroupNo,
        host: &HostName,
        step: StepName,
        result: StepResult,
        out: &mut Outbox,
    ) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let Some(lane) = run.lane_position(group, host) else { return };
        let open = run.lanes[lane].open_step();
        // An end that is not awaited, such as a second one for the same step, changes nothing.
        if open.is_none() || open != run.step_index(group, &step) {
            return;
        }
        Engine::record(run, Event::StepEnded { group, host: host.clone(), step, result }, out);
        if !self.start_step(id, lane, out) {
            self.release(id, lane, out);
            // A step that is tried again later holds neither its host nor a slot meanwhile.
            if let (Some(run), Some(progress)) = (self.runs.get(&id), self.running.get_mut(&id))
                && !run.is_ended_early()
                && next_step(run, lane).is_some()
            {
                progress.waiting.push_back(lane);
            }
        }
    }

    /// Ends what a cancelled task runs and forgets what it has not started.
    pub(super) fn stop_running(&mut self, id: TaskId, out: &mut Outbox) {
        let (Some(progress), Some(run)) = (self.running.get_mut(&id), self.runs.get(&id)) else { return };
        progress.waiting.clear();
        progress.group = run.plan.groups.len();
        for lane in &progress.active {
            let lane = &run.lanes[*lane];
            out.act(Effect::StopStep { task: id, group: lane.group, host: lane.host.clone() });
        }
    }

    /// Ends a task: its last event, its record, its place in the history.
    pub(super) fn close(&mut self, id: TaskId, outcome: Outcome, out: &mut Outbox) {
        let Some(mut run) = self.runs.remove(&id) else { return };
        let from = run.state();
        Engine::record(&mut run, Event::Closed { outcome }, out);
        self.running.remove(&id);
        self.due.remove(&id);
        out.durable(finish(&run, from));
    }
}

/// Returns the effect that writes a closed run's record.
pub(super) fn finish(run: &Run, from: TaskState) -> Effect {
    let record = record(run).expect("the run is closed");
    let line = HistoryLine::of(run, &record);
    let record = serde_json::to_vec_pretty(&record).expect("a record holds nothing that JSON cannot say");
    Effect::Finish { id: run.id, from, record, line }
}

/// Returns what the lane takes next.
fn next_step(run: &Run, lane: usize) -> Option<Next> {
    let lane = &run.lanes[lane];
    lane.next_step(&run.plan.group(lane.group)?.steps)
}

impl Progress {
    /// Returns how far a running task is: in its first group that can still do something.
    pub(super) fn of(run: &Run) -> Progress {
        let mut progress = Progress::default();
        progress.enter(run);
        let is_open = |progress: &Progress| {
            let group = run.plan.groups.get(progress.group).map(|group| group.number);
            run.lanes.iter().any(|lane| Some(lane.group) == group && lane.open_step().is_some())
        };
        while progress.waiting.is_empty() && !is_open(&progress) && progress.next_group(run) {}
        progress
    }

    /// Goes on to the next group; false when there is none or this one did not end well.
    fn next_group(&mut self, run: &Run) -> bool {
        let Some(group) = run.plan.groups.get(self.group) else { return false };
        let all_ok =
            run.lanes.iter().filter(|lane| lane.group == group.number).all(|lane| lane.outcome() == Outcome::Ok);
        if !all_ok || run.is_ended_early() || self.group + 1 >= run.plan.groups.len() {
            return false;
        }
        self.group += 1;
        self.enter(run);
        true
    }

    /// Lines up the group's lanes that have a step to take.
    fn enter(&mut self, run: &Run) {
        let Some(group) = run.plan.groups.get(self.group) else { return };
        self.waiting = (0..run.lanes.len())
            .filter(|lane| run.lanes[*lane].group == group.number && next_step(run, *lane).is_some())
            .collect();
    }
}
