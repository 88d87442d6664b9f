//! Who may start now: time, freezes, order of groups, slots over all tasks, so many tasks at a time on a host.
//!
//! **Invariant:** a step starts only in a running task that nobody ended or holds, on a host that nothing else occupies,
//! while a slot is free. A failed host never stops its siblings, and blocks the next group. A step that waits for a
//! person or for its time occupies nothing.

use crate::engine::progress::Progress;
use std::collections::{BTreeSet, HashSet, VecDeque};

use crate::base::ids::{GroupNo, HostName, StepName, TaskId};
use crate::base::time::Timestamp;
use crate::domain::audit::Head;
use crate::domain::outcome::{Outcome, StepResult};
use crate::domain::policy::{Approval, Frozen, Policy};
use crate::domain::record::{HistoryLine, record};
use crate::domain::run::earlier::Earlier;
use crate::domain::run::lane::Next;
use crate::domain::run::{BatchWait, Event, Run, Stage, StepState, TaskState};
use crate::domain::template::{Missed, Trigger};
use crate::engine::outbox::Outbox;
use crate::engine::sleepers::Fired;
use crate::engine::start::Start;
use crate::engine::turn::ViewChange;
use crate::engine::waits::{Wait, What};
use crate::engine::{Engine, conditions};

/// By how much the clock must have been set for what was said of times to be said again.
const CLOCK_WAS_SET_MS: i64 = 5_000;

impl Engine {
    /// Sets the timers of a run.
    pub(super) fn watch(&mut self, run: &Run) {
        self.timers.extend(times_of(run).map(|at| (at, run.id)));
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
            let fired = Fired { seen: self.seen, at: out.now() };
            if !self.sleepers.fire(id, fired) {
                self.on_timer(id, fired, out);
            }
        }
        self.waits.pass(out.moment());
        let running: Vec<TaskId> = self.running.keys().copied().collect();
        for id in running {
            self.start_lanes(id, out);
        }
        self.start_due(out);
        self.seen = out.now();
        self.seen_steady_ms = Some(out.moment().steady_ms);
    }

    /// Starts due tasks, the oldest first. One that sleeps is read before; what came after it waits as long.
    fn start_due(&mut self, out: &mut Outbox) {
        let due: Vec<TaskId> = self.due.iter().copied().collect();
        let (mut asleep, mut taken) = (BTreeSet::new(), HashSet::new());
        for id in due {
            if self.free_slots() <= asleep.len() || self.broken_library.is_some() {
                break;
            }
            if !self.sleepers.holds(id) && asleep.is_empty() {
                self.start_task(id, out);
            } else if self.could_start(id, &mut taken) {
                asleep.insert(id);
            }
        }
        self.sleepers.start(asleep);
    }

    /// Looks at a task whose time has come, as it was seen then.
    pub(super) fn on_timer(&mut self, id: TaskId, fired: Fired, out: &mut Outbox) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        // What it was seen for may be yet to come: the clock may have been set back since.
        self.timers.extend(times_of(run).filter(|at| *at > out.now()).map(|at| (at, id)));
        let waits = matches!(run.stage, Stage::New | Stage::Ready { .. });
        if waits && run.plan.not_after.is_some_and(|end| end <= out.now()) {
            return self.close(id, Outcome::Expired, out);
        }
        let before = run.state();
        if waits {
            Engine::lapse(run, out.now(), out);
        }
        if run.state() != before {
            out.relocate(id, before, run.state());
            self.due.remove(&id);
        }
        let begins_at = run.begins_at();
        if !matches!(run.stage, Stage::Ready { .. }) || begins_at.is_some_and(|at| at > out.now()) {
            return;
        }
        // A task that came in after its time is wanted at once, as CODO's are.
        let slept_through = |at: &Timestamp| {
            *at > fired.seen
                && *at >= run.accepted_at
                && fired.at.0.saturating_sub(at.0) > self.library.defaults.late_after_ms
        };
        if let Some(at) = begins_at.filter(slept_through).filter(|_| !run.was_late && run.may_start()) {
            match run.plan.missed {
                Missed::Run => {}
                Missed::Expire => return self.close(id, Outcome::Expired, out),
                Missed::Hold => {
                    let why = format!("its time, {at}, passed while it could not start; release it to start it now");
                    Engine::record(run, Event::Held { ordered: None, why }, out);
                }
            }
        }
        self.due.insert(id);
    }

    fn free_slots(&self) -> usize {
        self.library.defaults.hosts_in_flight.saturating_sub(self.busy.len())
    }

    /// Turns a due task into a running one when its first host can start.
    fn start_task(&mut self, id: TaskId, out: &mut Outbox) {
        let Some(run) = self.runs.get(&id).filter(|run| matches!(run.stage, Stage::Ready { .. })) else {
            self.due.remove(&id);
            return;
        };
        let first = run.plan.groups.first();
        let can_start =
            first.is_none_or(|group| group.hosts.iter().any(|host| self.busy.has_room(host, run.plan.jobs_on(host))));
        if !can_start || !run.may_start() {
            return;
        }
        if !self.recheck(id, out) || self.freeze(id, out) {
            self.due.remove(&id);
            return;
        }
        let Some(run) = self.runs.get_mut(&id) else { return };
        self.due.remove(&id);
        Engine::record(run, Event::Started, out);
        out.relocate(id, TaskState::Ready, TaskState::Running);
        let progress = progress(run, out);
        self.running.insert(id, progress);
        self.start_lanes(id, out);
    }

    /// Lets a task wait for the end of a freeze, if one holds.
    fn freeze(&mut self, id: TaskId, out: &mut Outbox) -> bool {
        let Some(run) = self.runs.get_mut(&id) else { return false };
        let policy = &self.library.policy;
        let Some(frozen) = frozen(run, policy, out.now()) else { return false };
        let Frozen { until, .. } = frozen;
        if run.frozen.as_ref() != Some(&frozen) {
            Engine::record(run, Event::Frozen(frozen), out);
        }
        self.timers.insert((until, id));
        true
    }

    /// Works out anew what a running task does next, after somebody changed what it may do.
    pub(super) fn look_again(&mut self, id: TaskId, out: &mut Outbox) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let progress = progress(run, out);
        for lane in &progress.active {
            let lane = &run.lanes[*lane];
            if lane.stopped {
                out.stop_step(id, lane.group, lane.host.clone());
            }
        }
        self.running.insert(id, progress);
    }

    /// Starts hosts of a running task while slots are free; goes on to the next group or closes the task.
    pub(super) fn start_lanes(&mut self, id: TaskId, out: &mut Outbox) {
        loop {
            let Some(run) = self.runs.get(&id) else { return };
            let held = run.held().is_some() && !run.is_ended_early();
            let Some(progress) = self.running.get_mut(&id) else { return };
            if held {
                // What has nothing left to do ends, held or not.
                if progress.active.is_empty() && Progress::of(run).is_done() {
                    let outcome = run.worst_outcome();
                    self.close(id, outcome, out);
                }
                return;
            }
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
            if !progress.is_idle() {
                return;
            }
            let Some(run) = self.runs.get_mut(&id) else { return };
            *progress = self::progress(run, out);
            if progress.is_done() || run.is_ended_early() {
                let outcome = run.worst_outcome();
                return self.close(id, outcome, out);
            }
            // A batch of which nothing is left to do is followed at once.
            if progress.is_idle() && !self.open_batch(id, out) {
                return;
            }
        }
    }

    /// Opens the batch that follows when its time has come and nobody must be asked; false while it waits.
    fn open_batch(&mut self, id: TaskId, out: &mut Outbox) -> bool {
        let (Some(run), Some(progress)) = (self.runs.get_mut(&id), self.running.get_mut(&id)) else { return false };
        let Some((group, batch)) = progress.following else { return false };
        let (interval_s, gate) = (run.plan.batch_interval_s, run.plan.batch_gate);
        // Nobody is asked to go on with a batch that was cancelled meanwhile.
        let has_work = (0..run.lanes.len()).any(|n| {
            let lane = &run.lanes[n];
            (lane.group, lane.batch) == (group, batch) && run.next_step(n) != Next::Nothing
        });
        if !has_work {
            Engine::record(run, Event::BatchStarted { group, batch }, out);
            *progress = self::progress(run, out);
            return true;
        }
        if run.batch_wait.is_none() && (interval_s > 0 || gate) {
            let until = (interval_s > 0).then(|| out.now().plus_ms(interval_ms(run)));
            Engine::record(run, Event::BatchWaits { group, batch, until, gate }, out);
            // The same batch may have waited before, in what a retry repeats.
            self.waits.begin_anew(id, What::Batch(group, batch));
        }
        if let Some(wait) = run.batch_wait {
            if let Some((what, interval)) = batch_interval(run) {
                let now = out.moment();
                let left_ms = self.waits.left(id, what, interval, now);
                if left_ms > 0 {
                    say_until_again(run, wait, now.wall.plus_ms(left_ms), out);
                    return false;
                }
            }
            if wait.gate {
                return false;
            }
        }
        Engine::record(run, Event::BatchStarted { group, batch }, out);
        *progress = self::progress(run, out);
        true
    }

    /// Occupies the lane's host and starts its next step; false while something else occupies the host.
    fn start_lane(&mut self, id: TaskId, lane: usize, out: &mut Outbox) -> bool {
        let run = &self.runs[&id];
        let next @ Next::Start { step, .. } = run.next_step(lane) else { return true };
        if !self.has_come(id, lane, next, out) {
            return false;
        }
        let run = &self.runs[&id];
        // Too many failed: who has not begun does not begin.
        if run.lanes[lane].is_untouched() && self.running.get(&id).is_some_and(Progress::has_too_many_failures) {
            return true;
        }
        let host = run.lanes[lane].host.clone();
        let most = run.plan.jobs_on(&host);
        if !self.busy.take(host, most) {
            return false;
        }
        if let Some(progress) = self.running.get_mut(&id) {
            progress.active.insert(lane);
        }
        if self.start_step(id, lane, out) {
            return true;
        }
        self.release(id, lane, out);
        // Steps may have been passed over by their conditions; the one behind them waits as it would have alone.
        match self.runs.get(&id).map(|run| run.next_step(lane)) {
            Some(Next::Start { step: other, .. }) if other != step => self.start_lane(id, lane, out),
            Some(Next::Asks { .. }) => {
                if let Some(progress) = self.running.get_mut(&id) {
                    progress.asking.insert(lane);
                }
                true
            }
            _ => true,
        }
    }

    /// Whether the time of a lane's next step has come; otherwise a timer is set.
    fn has_come(&mut self, id: TaskId, lane: usize, next: Next, out: &Outbox) -> bool {
        let Next::Start { step, attempt, not_before, delay_ms } = next else { return false };
        let now = out.moment();
        if let (Some(until), Some(ms)) = (not_before, delay_ms) {
            return self.waits.left(id, What::Retry { lane, step, attempt }, Wait { until, ms }, now) == 0;
        }
        let in_freeze = || step_frozen(self.runs.get(&id)?, lane, step, &self.library.policy, now.wall);
        match not_before.filter(|at| *at > now.wall).or_else(in_freeze) {
            Some(at) => {
                self.timers.insert((at, id));
                false
            }
            None => true,
        }
    }

    /// Starts the lane's next step; false when there is none, or not yet.
    fn start_step(&mut self, id: TaskId, lane: usize, out: &mut Outbox) -> bool {
        let Some(run) = self.runs.get_mut(&id) else { return false };
        if run.may_start() {
            conditions::pass(run, lane, out);
        }
        let next @ Next::Start { step, attempt, .. } = run.next_step(lane) else { return false };
        if !run.may_start() || !self.has_come(id, lane, next, out) {
            return false;
        }
        let Some(run) = self.runs.get_mut(&id) else { return false };
        let Stage::Running { approved, .. } = &run.stage else { return false };
        let earlier = Earlier::of(run, lane, step);
        let Some(step) = run.step_name(lane, step) else { return false };
        let (group, host) = (run.lanes[lane].group, run.lanes[lane].host.clone());
        let (approved, run_key, since) = (approved.clone(), run.key(), out.now());
        let batch = run.lanes[lane].batch;
        let event = Event::StepStarted { group, host: host.clone(), step: step.clone(), attempt };
        Engine::record(run, event, out);
        let start = Start {
            approved,
            task: id,
            group,
            host,
            step,
            attempt,
            batch,
            since,
            run_key,
            resume: false,
            late: false,
            earlier,
            audit: Head::default(),
            callback: None,
        };
        out.run_step(start);
        true
    }

    /// Goes on with the steps that were open when an earlier daemon stopped; their hosts know how far they are.
    pub(super) fn resume_open_steps(&mut self, id: TaskId, out: &mut Outbox) {
        let Some(run) = self.runs.get(&id) else { return };
        let Stage::Running { approved, .. } = &run.stage else { return };
        let run_key = run.key();
        for (position, lane) in run.lanes.iter().enumerate() {
            let Some(open) = lane.open_step() else { continue };
            let StepState::Open { attempt, since, .. } = lane.steps[open].state else { continue };
            let Some(group) = run.plan.group(lane.group) else { continue };
            let start = Start {
                approved: approved.clone(),
                task: id,
                group: lane.group,
                host: lane.host.clone(),
                step: group.steps[open].name.clone(),
                attempt,
                batch: lane.batch,
                since,
                run_key,
                resume: true,
                late: self.was_away(out.moment()) && run.plan.missed != Missed::Run,
                earlier: Earlier::of(run, position, open),
                audit: Head::default(),
                callback: None,
            };
            self.busy.resume(lane.host.clone());
            out.run_step(start);
            if lane.stopped {
                out.stop_step(id, lane.group, lane.host.clone());
            }
        }
    }

    /// Frees the lane's host.
    fn release(&mut self, id: TaskId, lane: usize, out: &mut Outbox) {
        let Some(run) = self.runs.get(&id) else { return };
        let (group, host) = (run.lanes[lane].group, run.lanes[lane].host.clone());
        self.busy.free(&host);
        if let Some(progress) = self.running.get_mut(&id) {
            progress.active.remove(&lane);
        }
        out.release_host(id, group, host);
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
        let has_failed = |run: &Run| {
            let group = run.plan.group(group);
            group.is_some_and(|group| run.lanes[lane].has_failed(&group.steps, run.timed_at()))
        };
        let had_failed = has_failed(run);
        Engine::record(run, Event::StepEnded { group, host: host.clone(), step, result }, out);
        // It counts at once: no other host begins while this one is handled or rolled back.
        if let Some(progress) = self.running.get_mut(&id).filter(|_| !had_failed && has_failed(run)) {
            progress.failures.0 = progress.failures.0.saturating_add(1);
            progress.batch_failures.0 = progress.batch_failures.0.saturating_add(1);
        }
        if !self.start_step(id, lane, out) {
            self.release(id, lane, out);
            // A step that is tried again later, or waits for a person, holds neither its host nor a slot meanwhile.
            if let (Some(run), Some(progress)) = (self.runs.get(&id), self.running.get_mut(&id))
                && !run.is_ended_early()
            {
                progress.line_up(run, lane);
            }
        }
    }

    /// Ends what a cancelled task runs and forgets what it has not started.
    pub(super) fn stop_running(&mut self, id: TaskId, out: &mut Outbox) {
        let (Some(progress), Some(run)) = (self.running.get_mut(&id), self.runs.get(&id)) else { return };
        progress.waiting.clear();
        progress.asking.clear();
        for lane in &progress.active {
            let lane = &run.lanes[*lane];
            out.stop_step(id, lane.group, lane.host.clone());
        }
    }

    /// Ends a task: its last event, its record, its place in the history.
    pub(super) fn close(&mut self, id: TaskId, outcome: Outcome, out: &mut Outbox) {
        let Some(mut run) = self.runs.remove(&id) else { return };
        let from = run.state();
        Engine::record(&mut run, Event::Closed { outcome }, out);
        self.running.remove(&id);
        self.due.remove(&id);
        self.verified.remove(&id);
        self.waits.forget(id);
        self.loads.forget(id);
        out.show(finish(&run, from));
    }
}

/// Returns the freeze that lets nothing of a task begin now, if one does.
pub(super) fn frozen(run: &Run, policy: &Policy, now: Timestamp) -> Option<Frozen> {
    if !policy.has_freezes() {
        return None;
    }
    let subject = run.subject(policy);
    let approvals: Vec<&Approval> = run.approvals.iter().map(|(_, approval)| approval).collect();
    policy.frozen(&subject, &approvals, now)
}

/// Returns until when a freeze keeps a lane's timed step from beginning, if one does.
fn step_frozen(run: &Run, lane: usize, step: usize, policy: &Policy, now: Timestamp) -> Option<Timestamp> {
    let timed = run.plan.group(run.lanes[lane].group)?.steps[step].trigger == Trigger::Timed;
    if timed { frozen(run, policy, now).map(|frozen| frozen.until) } else { None }
}

/// Returns how long a task waits between two batches.
fn interval_ms(run: &Run) -> i64 {
    i64::try_from(run.plan.batch_interval_s.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// Returns the interval that a task's next batch waits for, if one does.
pub(super) fn batch_interval(run: &Run) -> Option<(What, Wait)> {
    let wait = run.batch_wait?;
    Some((What::Batch(wait.group, wait.batch), Wait { until: wait.until?, ms: interval_ms(run) }))
}

/// Says anew until when a batch waits, where the clock was set since it was said.
fn say_until_again(run: &mut Run, wait: BatchWait, until: Timestamp, out: &mut Outbox) {
    let said = wait.until.map_or(0, |said| said.0);
    if said.saturating_sub(until.0).saturating_abs() > CLOCK_WAS_SET_MS {
        let (group, batch, gate) = (wait.group, wait.batch, wait.gate);
        Engine::record(run, Event::BatchWaits { group, batch, until: Some(until), gate }, out);
    }
}

/// Returns when a task that waits has to be looked at: when it may begin, when it or an approval of it ends.
fn times_of(run: &Run) -> impl Iterator<Item = Timestamp> {
    let start = match &run.stage {
        Stage::Ready { .. } => Some(run.begins_at().unwrap_or(run.accepted_at)),
        _ => None,
    };
    let waits = matches!(run.stage, Stage::New | Stage::Ready { .. });
    let end = run.plan.not_after.filter(|_| waits);
    let lapses = run.approvals.iter().filter_map(|(_, approval)| approval.until).filter(move |_| waits);
    start.into_iter().chain(end).chain(lapses)
}

/// Returns the effect that writes a closed run's record.
pub(super) fn finish(run: &Run, from: TaskState) -> ViewChange {
    let record = record(run).expect("the run is closed");
    let line = HistoryLine::of(run, &record);
    let record = serde_json::to_vec_pretty(&record).expect("a record holds nothing that JSON cannot say");
    ViewChange::Finished { id: run.id, from, record, line: Box::new(line) }
}

/// Works out how far a running task is. A host is asked for nothing that its condition says it does not take.
fn progress(run: &mut Run, out: &mut Outbox) -> Progress {
    let progress = Progress::of(run);
    let mut passed = false;
    for lane in &progress.asking {
        passed |= conditions::pass(run, *lane, out);
    }
    if passed { Progress::of(run) } else { progress }
}
