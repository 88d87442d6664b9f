//! The life of a task: its events and their fold.
//!
//! **Invariant:** pure. [`Run::apply`] is the one transition table; the daemon, recovery, the CLI and every
//! screen fold the same events through it, so they cannot disagree about what happened.

mod busy;
pub mod earlier;
mod ends;
mod event;
mod facts;
pub mod lane;

use crate::domain::outcome::Outcome;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::base::ids::{Actor, GroupNo, HostName, StepName, TaskId};
use crate::base::time::Timestamp;
use crate::domain::plan::{Plan, PlannedGroup};
use crate::domain::policy::{Admission, Approval, Approved, Frozen, Grant, Need, Policy, Subject, approve, missing};
use crate::domain::template::Trigger;
use lane::{Lane, Next, Skip};

pub use event::{Accepted, DropKey, Event, LaneName, Ordered, Place, Recorded, RefusalKind};
pub use facts::{BatchWait, Ended, Hold};
pub use lane::StepState;

/// The four states, which are directories of the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Waits for approval.
    New,
    /// Waits for its time and a slot.
    Ready,
    /// Runs.
    Running,
    /// Ended.
    Done,
}

impl TaskState {
    /// Returns the word, which is the directory's name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            TaskState::New => "new",
            TaskState::Ready => "ready",
            TaskState::Running => "running",
            TaskState::Done => "done",
        }
    }
}

/// Where a task stands, with exactly the facts of that moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Waits for approval.
    New,
    /// May run.
    Ready {
        /// What entitles it.
        approved: Approved,
        /// Not before this time.
        start: Option<Timestamp>,
        /// When its timed steps begin.
        timed: Option<Timestamp>,
        /// Since when.
        since: Timestamp,
    },
    /// Runs.
    Running {
        /// What entitles it.
        approved: Approved,
        /// Since when.
        since: Timestamp,
        /// When its timed steps begin; `None` = when somebody says so.
        timed: Option<Timestamp>,
    },
    /// Ended.
    Done {
        /// How.
        outcome: Outcome,
        /// When it began to run, if it did.
        started: Option<Timestamp>,
        /// When it ended.
        ended: Timestamp,
        /// What entitled it to run, if anything did; it still does when somebody retries.
        approved: Option<Approved>,
        /// When its timed steps were to begin.
        timed: Option<Timestamp>,
    },
}

/// Something that a person or the daemon did to the whole task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// When.
    pub at: Timestamp,
    /// Who; `None` for the daemon itself.
    pub by: Option<Actor>,
    /// What: the event's word.
    pub act: String,
    /// The plan it was about.
    pub plan: Digest,
    /// What is known beside it: a reason, what it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Which line of the journal says so, from 0.
    pub event: u64,
    /// The state before; `None` for the first.
    pub from: Option<TaskState>,
    /// The state after.
    pub to: TaskState,
}

/// An event that cannot follow the ones before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {event} cannot happen to task {id} in state {state}")]
pub struct IllegalEvent {
    /// The task.
    pub id: TaskId,
    /// The event's word.
    pub event: &'static str,
    /// The state's word.
    pub state: &'static str,
}

/// A task: the fold of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its number.
    pub id: TaskId,
    /// What would run or runs.
    pub plan: Arc<Plan>,
    /// The plan's digest.
    pub digest: Digest,
    /// Which plan of this task it is, from 1.
    pub plan_version: u32,
    /// How it came to be.
    pub accepted: Accepted,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Where it stands.
    pub stage: Stage,
    /// Who must approve; nobody when empty.
    pub needs: Vec<Need>,
    /// The approvals that count, with their times.
    pub approvals: Vec<(Timestamp, Approval)>,
    /// The rejection, if any.
    pub rejected: Option<Ended>,
    /// The cancellation, if any.
    pub cancelled: Option<Ended>,
    /// Why nothing more starts for now: everybody's hold, and the daemon's own. Nobody's hold ends by somebody else's.
    pub holds: Vec<Hold>,
    /// Whether the daemon held it because its time had passed; it does so once.
    pub was_late: bool,
    /// The freeze that kept it from starting, if one did.
    pub frozen: Option<Frozen>,
    /// Everything that people and the daemon did to it.
    pub acts: Vec<Act>,
    /// The order files answered so far.
    pub orders: BTreeSet<DropKey>,
    /// How many events were folded.
    pub events: u64,
    /// The batch that waits, if one does.
    pub batch_wait: Option<BatchWait>,
    /// How its last event says that it ended, where everything before that says something else: its journal was changed.
    pub contradicted: Option<Outcome>,
    /// Whether its plan could not be made any more.
    unresolvable: bool,
    /// Which batch of each group runs, from 1; the first where nothing is said.
    batches: BTreeMap<GroupNo, u32>,
    /// Every host's way, in the plan's order.
    pub lanes: Vec<Lane>,
    lane_index: BTreeMap<(GroupNo, HostName), usize>,
}

impl Run {
    /// Begins the fold with the first event, which must be [`Event::Accepted`] for exactly this plan.
    ///
    /// # Errors
    /// When the first event is another, or names another plan.
    pub fn begin(id: TaskId, plan: Arc<Plan>, first: &Recorded) -> Result<Run, IllegalEvent> {
        let illegal = IllegalEvent { id, event: first.event.word(), state: "nothing" };
        let Event::Accepted(accepted) = &first.event else { return Err(illegal) };
        let mut exempt = None;
        let (stage, needs) = match &accepted.admission {
            Admission::New { needs, .. } => (Stage::New, needs.clone()),
            Admission::Ready { .. } => {
                exempt = Some(approve(&plan, accepted.digest, Grant::Exempt).map_err(|_| illegal)?);
                (Stage::New, Vec::new())
            }
        };
        let mut run = Run {
            id,
            digest: accepted.digest,
            plan_version: 1,
            accepted: (**accepted).clone(),
            accepted_at: first.at,
            stage,
            needs,
            approvals: Vec::new(),
            rejected: None,
            cancelled: None,
            holds: Vec::new(),
            was_late: false,
            frozen: None,
            acts: Vec::new(),
            orders: BTreeSet::new(),
            events: 1,
            batch_wait: None,
            contradicted: None,
            unresolvable: false,
            batches: BTreeMap::new(),
            lanes: Vec::new(),
            lane_index: BTreeMap::new(),
            plan,
        };
        run.lay_lanes();
        if let Some(approved) = exempt {
            run.stage = run.ready(approved, None, run.plan.exec_time, first.at);
        }
        run.note_act(first, None);
        Ok(run)
    }

    /// Folds a whole journal.
    ///
    /// # Errors
    /// When the events cannot have followed each other.
    pub fn fold(id: TaskId, plan: Arc<Plan>, events: &[Recorded]) -> Result<Run, IllegalEvent> {
        let (first, rest) = events.split_first().ok_or(IllegalEvent { id, event: "none", state: "nothing" })?;
        let mut run = Run::begin(id, plan, first)?;
        for recorded in rest {
            run.apply(recorded)?;
        }
        Ok(run)
    }

    fn lay_lanes(&mut self) {
        let hosts = self.plan.groups.iter().flat_map(|group| group.hosts.iter().map(move |host| (group, host)));
        self.lanes = hosts.map(|(group, host)| Lane::new(group.number, host.clone(), &group.steps)).collect();
        let batches = |group: &PlannedGroup| {
            let sizes = group.batches.iter().zip(1..);
            sizes.flat_map(|(size, batch)| std::iter::repeat_n(batch, *size as usize)).collect::<Vec<u32>>()
        };
        let batches: Vec<u32> = self.plan.groups.iter().flat_map(batches).collect();
        for (lane, batch) in self.lanes.iter_mut().zip(batches) {
            lane.batch = batch;
        }
        (self.batches, self.batch_wait) = (BTreeMap::new(), None);
        let named = self.lanes.iter().enumerate().map(|(n, lane)| ((lane.group, lane.host.clone()), n));
        self.lane_index = named.collect();
    }

    /// Applies one event: the transition table.
    ///
    /// # Errors
    /// When the event cannot happen here; the run is unchanged then.
    pub fn apply(&mut self, recorded: &Recorded) -> Result<(), IllegalEvent> {
        let from = self.state();
        self.transition(recorded).ok_or_else(|| IllegalEvent {
            id: self.id,
            event: recorded.event.word(),
            state: from.word(),
        })?;
        self.orders.extend(recorded.event.order().cloned());
        self.events = self.events.saturating_add(1);
        self.note_act(recorded, Some(from));
        Ok(())
    }

    /// Returns why nothing more starts for now, if so: the newest hold.
    #[must_use]
    pub fn held(&self) -> Option<&Hold> {
        self.holds.last()
    }

    /// Whether somebody holds it.
    #[must_use]
    pub fn is_held_by(&self, who: &Actor) -> bool {
        self.holds.iter().any(|hold| hold.by.as_ref() == Some(who))
    }

    /// Returns the task as rules see it.
    #[must_use]
    pub fn subject(&self, policy: &Policy) -> Subject {
        self.subject_with(&self.plan, policy)
    }

    /// Returns the task as rules would see it with another plan.
    #[must_use]
    pub fn subject_with(&self, plan: &Plan, policy: &Policy) -> Subject {
        self.accepted.subject(plan, policy)
    }

    /// Returns the files that it came from and was answered to: its own and those of its orders.
    pub fn drops(&self) -> impl Iterator<Item = &DropKey> {
        std::iter::once(&self.accepted.drop).chain(&self.orders)
    }

    /// Changes the run as the event says; `None`, and no change, when it cannot happen.
    fn transition(&mut self, recorded: &Recorded) -> Option<()> {
        let at = recorded.at;
        match (&recorded.event, &self.stage) {
            (Event::OrderRefused { .. }, _) => {}
            (Event::Unresolvable { .. }, Stage::New | Stage::Ready { .. }) => self.unresolvable = true,
            (Event::Approved { approval, .. }, Stage::New) => self.add_approval(at, approval),
            (Event::Withdrawn(Ordered { by, .. }) | Event::Lapsed { by, .. }, Stage::New | Stage::Ready { .. }) => {
                self.take_approval(by.uid)?;
            }
            (Event::Readmitted { needs, .. }, Stage::New | Stage::Ready { .. }) => {
                self.needs.clone_from(needs);
                self.recount();
            }
            (Event::Stale { digest, plan, needs, .. }, Stage::New | Stage::Ready { .. })
                if plan.digest() == *digest =>
            {
                self.replan(*digest, (**plan).clone(), needs.clone());
            }
            (Event::Rejected(ordered), Stage::New | Stage::Ready { .. }) => {
                self.rejected = Some(ended(ordered, at));
            }
            (Event::Cancelled(ordered), Stage::New | Stage::Ready { .. } | Stage::Running { .. })
                if self.cancelled.is_none() =>
            {
                self.cancelled = Some(ended(ordered, at));
                self.batch_wait = None;
            }
            (Event::Held { ordered, why }, Stage::New | Stage::Ready { .. } | Stage::Running { .. }) => {
                let by = ordered.as_ref().map(|ordered| ordered.by.clone());
                self.was_late |= by.is_none();
                self.holds.retain(|hold| hold.by != by);
                self.holds.push(Hold { by, why: why.clone(), at });
            }
            (Event::Released(_), _) if self.held().is_some() => self.holds.clear(),
            (Event::HoldReleased(ordered), _) if self.is_held_by(&ordered.by) => {
                self.holds.retain(|hold| hold.by.as_ref() != Some(&ordered.by));
            }
            (Event::Frozen(frozen), Stage::Ready { .. }) => self.frozen = Some(frozen.clone()),
            (Event::Started, Stage::Ready { approved, timed, .. }) if self.may_start() => {
                self.stage = Stage::Running { approved: approved.clone(), since: at, timed: *timed };
            }
            (Event::Closed { outcome }, Stage::New | Stage::Ready { .. } | Stage::Running { .. })
                if self.lanes.iter().all(|lane| lane.open_step().is_none()) =>
            {
                self.close(*outcome, at);
            }
            (Event::Retried { steps, .. }, Stage::Running { .. } | Stage::Done { approved: Some(_), .. }) => {
                self.retry(steps, at)?;
            }
            (event, Stage::Running { .. }) => return self.step_transition(event, at),
            _ => return None,
        }
        Some(())
    }

    /// Changes lanes of a running task.
    fn step_transition(&mut self, event: &Event, at: Timestamp) -> Option<()> {
        match event {
            Event::StepStarted { group, host, step, attempt } if self.may_start() => {
                let (lane, n) = self.find(*group, host, step)?;
                self.lanes[lane].steps[n].start(at, *attempt)?;
            }
            Event::KillUnconfirmed { group, host, step, .. }
            | Event::HostUnreachable { group, host, step, .. }
            | Event::HostReachable { group, host, step } => {
                let (lane, n) = self.find(*group, host, step)?;
                self.lanes[lane].steps[n].doubt(event)?;
            }
            Event::StepSaid { group, host, step, text } => {
                let (lane, n) = self.find(*group, host, step)?;
                self.lanes[lane].steps[n].say(at, text)?;
            }
            Event::TargetsReported { group, host, step, reports } => {
                let targets = self.plan.group(*group)?.targets.len();
                let (lane, n) = self.find(*group, host, step)?;
                self.lanes[lane].steps[n].report(at, reports, targets)?;
            }
            Event::StepPassedOver { group, host, step } => {
                let (lane, n) = self.find(*group, host, step)?;
                let waits = self.lanes[lane].steps[n].state == StepState::Waiting;
                waits.then(|| self.lanes[lane].skip(n, Skip::Condition))?;
            }
            Event::StepEnded { group, host, step, result } => {
                let (lane, n) = self.find(*group, host, step)?;
                let state @ StepState::Open { .. } = &mut self.lanes[lane].steps[n].state else { return None };
                *state = StepState::Ended(result.clone());
            }
            Event::HostsStopped { lanes, .. } => {
                let found: Option<Vec<usize>> = lanes.iter().map(|l| self.lane_position(l.group, &l.host)).collect();
                for lane in found? {
                    self.lanes[lane].stopped = true;
                }
            }
            Event::BatchWaits { group, batch, until, gate } if *batch == self.open_batch(*group).saturating_add(1) => {
                self.batch_wait = Some(BatchWait { group: *group, batch: *batch, until: *until, gate: *gate });
            }
            Event::Continued { group, batch, .. } => {
                let wait = self
                    .batch_wait
                    .as_mut()
                    .filter(|wait| wait.gate && (wait.group, wait.batch) == (*group, *batch))?;
                wait.gate = false;
            }
            Event::BatchStarted { group, batch } if *batch == self.open_batch(*group).saturating_add(1) => {
                self.batches.insert(*group, *batch);
                self.batch_wait = None;
            }
            Event::StepsReleased { steps, .. } => {
                for (lane, n) in self.find_all(steps)? {
                    self.lanes[lane].steps[n].released = true;
                }
            }
            Event::StepsSkipped { steps, .. } => {
                let found = self.find_all(steps)?;
                if found.iter().any(|(lane, _)| self.lanes[*lane].open_step().is_some()) {
                    return None;
                }
                for (lane, n) in found {
                    self.lanes[lane].skip(n, Skip::Person);
                }
            }
            _ => return None,
        }
        Some(())
    }

    /// Takes steps again; a task that has ended runs again for that.
    fn retry(&mut self, steps: &[Place], at: Timestamp) -> Option<()> {
        let found = self.find_all(steps)?;
        if found.is_empty() || found.iter().any(|(lane, _)| self.lanes[*lane].open_step().is_some()) {
            return None;
        }
        if let Stage::Done { approved: Some(approved), started, timed, .. } = &self.stage {
            let since = started.unwrap_or(at);
            self.stage = Stage::Running { approved: approved.clone(), since, timed: *timed };
            (self.cancelled, self.contradicted) = (None, None);
        }
        for (lane, n) in found {
            self.lanes[lane].retry_from(n);
        }
        Some(())
    }

    /// Counts an approval; a second one by the same person changes nothing.
    fn add_approval(&mut self, at: Timestamp, approval: &Approval) {
        if self.approvals.iter().any(|(_, known)| known.by.uid == approval.by.uid) {
            return;
        }
        self.approvals.push((at, approval.clone()));
        self.count_approvals(at);
    }

    /// Takes an approval away; the task waits again when too few are left.
    fn take_approval(&mut self, uid: u32) -> Option<()> {
        let position = self.approvals.iter().position(|(_, approval)| approval.by.uid == uid)?;
        self.approvals.remove(position);
        self.recount();
        Some(())
    }

    fn recount(&mut self) {
        self.stage = Stage::New;
        // A new start is a new time that may pass.
        self.was_late = false;
        let last = self.approvals.last().map_or(self.accepted_at, |(at, _)| *at);
        self.count_approvals(last);
    }

    fn count_approvals(&mut self, since: Timestamp) {
        let votes: Vec<Approval> = self.approvals.iter().map(|(_, approval)| approval.clone()).collect();
        let grant = Grant::Votes { approvals: &votes, needs: &self.needs };
        if let Ok(approved) = approve(&self.plan, self.digest, grant) {
            // Of several wished starts the latest holds for all: nobody approved an earlier one.
            let wished = votes.iter().map(|vote| vote.start.or(self.plan.exec_time)).max().flatten();
            let explicit = votes.iter().filter_map(|vote| vote.start).max();
            self.stage = self.ready(approved, explicit, wished, since);
        }
    }

    /// A task with timed steps begins as soon as an approver lets it, and those steps wait for its time; every other task
    /// waits as a whole.
    fn ready(
        &self,
        approved: Approved,
        explicit: Option<Timestamp>,
        wished: Option<Timestamp>,
        since: Timestamp,
    ) -> Stage {
        let mut steps = self.plan.groups.iter().flat_map(|group| &group.steps);
        let has_timed = steps.any(|step| step.trigger == Trigger::Timed);
        Stage::Ready { approved, start: if has_timed { explicit } else { wished }, timed: wished, since }
    }

    /// Puts another plan in the place of the one that would have run; nobody has approved it yet.
    fn replan(&mut self, digest: Digest, plan: Plan, needs: Vec<Need>) {
        self.plan = Arc::new(plan);
        self.digest = digest;
        self.plan_version = self.plan_version.saturating_add(1);
        self.needs = needs;
        self.approvals.clear();
        self.stage = Stage::New;
        self.was_late = false;
        self.lay_lanes();
    }

    fn note_act(&mut self, recorded: &Recorded, from: Option<TaskState>) {
        if recorded.event.is_act() {
            self.acts.push(Act {
                at: recorded.at,
                by: recorded.event.actor().cloned(),
                act: recorded.event.word().to_owned(),
                detail: recorded.event.detail(),
                plan: self.digest,
                event: self.events.saturating_sub(1),
                from,
                to: self.state(),
            });
        }
    }

    /// Returns the directory the task belongs in.
    #[must_use]
    pub fn state(&self) -> TaskState {
        match self.stage {
            Stage::New => TaskState::New,
            Stage::Ready { .. } => TaskState::Ready,
            Stage::Running { .. } => TaskState::Running,
            Stage::Done { .. } => TaskState::Done,
        }
    }

    /// Returns a digest that no other run has, of this or any other daemon: of the first event, which names the file it
    /// came from and the time.
    #[must_use]
    pub fn key(&self) -> Digest {
        let first = (self.id, self.accepted_at, &self.accepted.drop, self.accepted.digest);
        Digest::of(&serde_json::to_vec(&first).expect("identifiers serialise"))
    }

    /// Whether somebody rejected or cancelled it, so that nothing more may start.
    #[must_use]
    pub fn is_ended_early(&self) -> bool {
        self.rejected.is_some() || self.cancelled.is_some()
    }

    /// Whether something may start: nobody ended or holds it.
    #[must_use]
    pub fn may_start(&self) -> bool {
        !self.is_ended_early() && self.held().is_none()
    }

    /// Returns how many more people must approve at least; 0 once it is ready.
    #[must_use]
    pub fn approvals_missing(&self) -> u32 {
        match &self.stage {
            Stage::New => {
                let approvals: Vec<&Approval> = self.approvals.iter().map(|(_, approval)| approval).collect();
                missing(&self.needs, &approvals)
            }
            _ => 0,
        }
    }

    /// Returns the needs that are not met, each with how many people it still asks for.
    pub fn open_needs(&self) -> impl Iterator<Item = (&Need, u32)> {
        let missing = |need: &Need| need.missing(self.approvals.iter().map(|(_, approval)| approval));
        self.needs.iter().map(move |need| (need, missing(need))).filter(|(_, missing)| *missing > 0)
    }

    /// Returns when a ready task may start at the soonest; `None` = at once.
    #[must_use]
    pub fn begins_at(&self) -> Option<Timestamp> {
        let Stage::Ready { start, .. } = &self.stage else { return None };
        *start
    }

    /// Returns when its timed steps begin, while it runs.
    #[must_use]
    pub fn timed_at(&self) -> Option<Timestamp> {
        match &self.stage {
            Stage::Running { timed, .. } | Stage::Done { timed, .. } => *timed,
            Stage::New | Stage::Ready { .. } => None,
        }
    }

    /// Returns which batch of a group runs, from 1.
    #[must_use]
    pub fn open_batch(&self, group: GroupNo) -> u32 {
        self.batches.get(&group).copied().unwrap_or(1)
    }

    /// Returns on how many hosts of a group, or of one of its batches, a step failed that is not tried again.
    #[must_use]
    pub fn failures(&self, group: &PlannedGroup, batch: Option<u32>) -> u32 {
        let meant = |lane: &Lane| lane.group == group.number && batch.is_none_or(|batch| lane.batch == batch);
        // What a person kept from beginning has not failed.
        let kept = |lane: &Lane| lane.stopped && lane.is_untouched();
        let failed = |lane: &&Lane| meant(lane) && !kept(lane) && lane.has_failed(&group.steps, self.timed_at());
        u32::try_from(self.lanes.iter().filter(failed).count()).unwrap_or(u32::MAX)
    }

    /// Returns the lane of a host in a group.
    #[must_use]
    pub fn lane(&self, group: GroupNo, host: &HostName) -> Option<&Lane> {
        self.lane_position(group, host).map(|n| &self.lanes[n])
    }

    /// Returns the position of a lane in [`Run::lanes`].
    #[must_use]
    pub fn lane_position(&self, group: GroupNo, host: &HostName) -> Option<usize> {
        self.lane_index.get(&(group, host.clone())).copied()
    }

    /// Returns the position of a step in its group.
    #[must_use]
    pub fn step_index(&self, group: GroupNo, step: &StepName) -> Option<usize> {
        self.plan.group(group)?.steps.iter().position(|planned| planned.name == *step)
    }

    /// Returns what a lane takes next.
    #[must_use]
    pub fn next_step(&self, lane: usize) -> Next {
        let lane = &self.lanes[lane];
        self.plan.group(lane.group).map_or(Next::Nothing, |group| lane.next_step(&group.steps, self.timed_at()))
    }

    /// Returns the name of a step of a lane.
    #[must_use]
    pub fn step_name(&self, lane: usize, step: usize) -> Option<StepName> {
        let lane = self.lanes.get(lane)?;
        Some(self.plan.group(lane.group)?.steps.get(step)?.name.clone())
    }

    fn find(&self, group: GroupNo, host: &HostName, step: &StepName) -> Option<(usize, usize)> {
        Some((self.lane_position(group, host)?, self.step_index(group, step)?))
    }

    fn find_all(&self, steps: &[Place]) -> Option<Vec<(usize, usize)>> {
        steps.iter().map(|place| self.find(place.group, &place.host, &place.step)).collect()
    }
}

fn ended(ordered: &Ordered, at: Timestamp) -> Ended {
    Ended { by: ordered.by.clone(), reason: ordered.reason.clone().unwrap_or_default(), at }
}

#[cfg(test)]
mod tests;
