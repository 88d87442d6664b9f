//! The life of a task: its events and their fold.
//!
//! **Invariant:** pure. [`Run::apply`] is the one transition table; the daemon, recovery, the CLI and every
//! screen fold the same events through it, so they cannot disagree about what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::base::ids::{Actor, GroupNo, HostName, StepName, TaskId};
use crate::base::time::Timestamp;
use crate::domain::lane::Lane;
use crate::domain::plan::Plan;
use crate::domain::policy::{Admission, Approval, Approved, Grant, approve};
use crate::domain::submission::Claims;

/// One line of `events.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recorded {
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// What can happen to a task. Adding a variant is a format change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The dropped file became a task. Always the first event, and only the first.
    Accepted(Box<Accepted>),
    /// Somebody entitled approved the plan; enough of them make the task ready.
    Approved {
        /// The approval.
        #[serde(flatten)]
        approval: Approval,
        /// Which order file.
        order: DropKey,
    },
    /// Somebody entitled rejected the task. Final.
    Rejected {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
        /// Which order file.
        order: DropKey,
    },
    /// Somebody entitled cancelled the task: nothing more starts, what runs is ended.
    Cancelled {
        /// Who.
        by: Actor,
        /// Why.
        reason: String,
        /// Which order file.
        order: DropKey,
    },
    /// An order was not obeyed. Changes nothing.
    OrderRefused {
        /// Who.
        by: Actor,
        /// What they wanted.
        act: String,
        /// Why not.
        why: String,
        /// Which order file.
        order: DropKey,
    },
    /// The task began to run.
    Started,
    /// A step is about to be sent to a host: from here on the host may have run some of it.
    StepStarted {
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
        /// The step.
        step: StepName,
        /// Which attempt, from 1.
        attempt: u32,
    },
    /// A step was to be ended, and nobody could prove yet that it is gone. It stays open until somebody can.
    KillUnconfirmed {
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
        /// The step.
        step: StepName,
        /// What stands in the way.
        why: String,
    },
    /// A step ended on a host.
    StepEnded {
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
        /// The step.
        step: StepName,
        /// How, and what it left.
        #[serde(flatten)]
        result: StepResult,
    },
    /// The task ended. Always the last event.
    Closed {
        /// How.
        outcome: Outcome,
    },
}

/// How a dropped file became a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The name the file was dropped under, without `.json`; the task answers to it.
    pub name: String,
    /// Who dropped it: the file's owner.
    pub by: Actor,
    /// What the file says about people.
    pub claims: Claims,
    /// Which file it was, so that the same file is never taken twice.
    pub drop: DropKey,
    /// The state it went into and why.
    pub admission: Admission,
    /// The plan's digest.
    pub digest: Digest,
    /// The key that makes repeated submissions one task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The remark.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// The kind of task its submitter says it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub task_type: String,
    /// The file's text, as it was dropped.
    pub submission: String,
}

/// Identifies one dropped file; the same key is the same drop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropKey {
    /// The file's name, with `.json`.
    pub name: String,
    /// Its owner.
    pub uid: u32,
    /// Its device.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// Its time of birth, in nanoseconds since 1970, as text: the same inode number may be given again. 0 where the file
    /// system does not keep it.
    #[serde(default)]
    pub born_ns: String,
    /// Its time of last change, in nanoseconds since 1970, as text: JSON numbers stop at 2^53.
    pub mtime_ns: String,
    /// The digest of its bytes.
    pub digest: Digest,
}

/// How something ended; never one word for two things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done as wished.
    Ok,
    /// Never started, because of something else.
    Skipped,
    /// Undone after a failure.
    RolledBack,
    /// An exit code other than 0, a signal, or a host that could not be reached.
    Failed,
    /// Ended for running too long.
    TimedOut,
    /// Ended on somebody's wish.
    Cancelled,
    /// May have run, may still run: nobody can tell.
    Lost,
    /// Was to be ended, and may still run.
    KillUnconfirmed,
    /// Never allowed to run.
    Rejected,
    /// Its time passed.
    Expired,
    /// The world changed between approval and start.
    Stale,
}

impl Outcome {
    /// Returns the word, as in files.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Skipped => "skipped",
            Outcome::RolledBack => "rolled_back",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::Cancelled => "cancelled",
            Outcome::Lost => "lost",
            Outcome::KillUnconfirmed => "kill_unconfirmed",
            Outcome::Rejected => "rejected",
            Outcome::Expired => "expired",
            Outcome::Stale => "stale",
        }
    }
}

/// How a step ended on a host, told apart as far as anyone can know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// The process exited with this code.
    Exit(i32),
    /// A signal ended the process.
    Signal(String),
    /// It ran longer than it may and was proved dead.
    TimedOut,
    /// It printed nothing for longer than it may and was proved dead.
    IdleTimedOut,
    /// What watched it on the host was killed, and with it the knowledge of how it ended; nothing of it is left.
    Died(String),
    /// The host did not answer in time or at all: nothing was sent.
    Unreachable(String),
    /// The host was not trusted, or would not run it: nothing ran.
    NotSent(String),
    /// Nobody can tell what became of it: the host was started again, or was not reached any more.
    Lost(String),
    /// It was ended on somebody's wish and proved dead.
    Cancelled,
    /// It was to be ended, and nobody could prove that it is gone.
    KillUnconfirmed(String),
}

impl Ending {
    /// Whether the script itself ended so, and not what carried it.
    #[must_use]
    pub fn is_the_scripts_own(&self) -> bool {
        matches!(self, Ending::Exit(_) | Ending::Signal(_) | Ending::TimedOut | Ending::IdleTimedOut)
    }

    /// Returns the outcome that the ending counts as.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        match self {
            Ending::Exit(0) => Outcome::Ok,
            Ending::Exit(_) | Ending::Signal(_) | Ending::Died(_) | Ending::Unreachable(_) | Ending::NotSent(_) => {
                Outcome::Failed
            }
            Ending::TimedOut | Ending::IdleTimedOut => Outcome::TimedOut,
            Ending::Lost(_) => Outcome::Lost,
            Ending::Cancelled => Outcome::Cancelled,
            Ending::KillUnconfirmed(_) => Outcome::KillUnconfirmed,
        }
    }
}

/// What a step left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    /// Which attempt, from 1.
    pub attempt: u32,
    /// How it ended.
    pub ending: Ending,
    /// When it was sent, by this machine's clock.
    pub started: Timestamp,
    /// When its end was known.
    pub ended: Timestamp,
    /// How much it printed.
    #[serde(default)]
    pub output: OutputFacts,
}

/// How much a step printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputFacts {
    /// Bytes on stdout, kept or not.
    pub out_bytes: u64,
    /// Bytes on stderr, kept or not.
    pub err_bytes: u64,
    /// Bytes that are in no log because there were too many.
    pub dropped_bytes: u64,
    /// The digest of the log file; `None` when nothing was printed.
    pub sha256: Option<Digest>,
}

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
    },
    /// Runs.
    Running {
        /// What entitles it.
        approved: Approved,
        /// Since when.
        since: Timestamp,
    },
    /// Ended.
    Done {
        /// How.
        outcome: Outcome,
        /// When it began to run, if it did.
        started: Option<Timestamp>,
        /// When it ended.
        ended: Timestamp,
    },
}

/// Where one step stands on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepState {
    /// Nothing was sent.
    Waiting,
    /// The start is on disk, so the host may have run some of it.
    Open {
        /// Which attempt, from 1.
        attempt: u32,
        /// Since when.
        since: Timestamp,
        /// Why nobody can say that it is gone, once it was to be ended.
        unconfirmed: Option<String>,
    },
    /// It ended.
    Ended(StepResult),
}

/// An order to end a task early, as it was obeyed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Who.
    pub by: Actor,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
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
    /// How it came to be.
    pub accepted: Accepted,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Where it stands.
    pub stage: Stage,
    /// The approvals so far, with their times.
    pub approvals: Vec<(Timestamp, Approval)>,
    /// The rejection, if any.
    pub rejected: Option<Ended>,
    /// The cancellation, if any.
    pub cancelled: Option<Ended>,
    /// The order files answered so far.
    pub orders: BTreeSet<DropKey>,
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
        let stage = match &accepted.admission {
            Admission::New { .. } => Stage::New,
            Admission::Ready { .. } => {
                let approved = approve(&plan, accepted.digest, Grant::Exempt).map_err(|_| illegal)?;
                Stage::Ready { approved, start: plan.exec_time }
            }
        };
        let lanes: Vec<Lane> = plan
            .groups
            .iter()
            .flat_map(|group| group.hosts.iter().map(move |host| (group, host)))
            .map(|(group, host)| Lane {
                group: group.number,
                host: host.clone(),
                steps: vec![StepState::Waiting; group.steps.len()],
                earlier: vec![Vec::new(); group.steps.len()],
            })
            .collect();
        let lane_index = lanes.iter().enumerate().map(|(n, lane)| ((lane.group, lane.host.clone()), n)).collect();
        Ok(Run {
            id,
            plan,
            accepted: (**accepted).clone(),
            accepted_at: first.at,
            stage,
            approvals: Vec::new(),
            rejected: None,
            cancelled: None,
            orders: BTreeSet::new(),
            lanes,
            lane_index,
        })
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

    /// Applies one event: the transition table.
    ///
    /// # Errors
    /// When the event cannot happen here; the run is unchanged then.
    pub fn apply(&mut self, recorded: &Recorded) -> Result<(), IllegalEvent> {
        let at = recorded.at;
        match (&recorded.event, &self.stage) {
            (Event::OrderRefused { .. }, _) => {}
            (Event::Approved { approval, .. }, Stage::New) => self.apply_approval(at, approval),
            (Event::Rejected { by, reason, .. }, Stage::New | Stage::Ready { .. }) => {
                self.rejected = Some(Ended { by: by.clone(), reason: reason.clone(), at });
            }
            (Event::Cancelled { by, reason, .. }, Stage::New | Stage::Ready { .. } | Stage::Running { .. })
                if self.cancelled.is_none() =>
            {
                self.cancelled = Some(Ended { by: by.clone(), reason: reason.clone(), at });
            }
            (Event::Started, Stage::Ready { approved, .. }) if !self.is_ended_early() => {
                self.stage = Stage::Running { approved: approved.clone(), since: at };
            }
            (Event::StepStarted { group, host, step, attempt }, Stage::Running { .. }) if !self.is_ended_early() => {
                let n = self.step_index(*group, step).ok_or_else(|| self.illegal(&recorded.event))?;
                let lane = self.lane_position(*group, host).ok_or_else(|| self.illegal(&recorded.event))?;
                let lane = &mut self.lanes[lane];
                match &lane.steps[n] {
                    StepState::Waiting if *attempt == 1 => {}
                    StepState::Ended(result) if *attempt == result.attempt + 1 => lane.earlier[n].push(result.clone()),
                    _ => return Err(self.illegal(&recorded.event)),
                }
                lane.steps[n] = StepState::Open { attempt: *attempt, since: at, unconfirmed: None };
            }
            (Event::KillUnconfirmed { group, host, step, why }, Stage::Running { .. }) => {
                let n = self.step_index(*group, step).ok_or_else(|| self.illegal(&recorded.event))?;
                match self.step_mut(*group, host, n) {
                    Some(StepState::Open { unconfirmed, .. }) => *unconfirmed = Some(why.clone()),
                    _ => return Err(self.illegal(&recorded.event)),
                }
            }
            (Event::StepEnded { group, host, step, result }, Stage::Running { .. }) => {
                let n = self.step_index(*group, step).ok_or_else(|| self.illegal(&recorded.event))?;
                match self.step_mut(*group, host, n) {
                    Some(state @ StepState::Open { .. }) => *state = StepState::Ended(result.clone()),
                    _ => return Err(self.illegal(&recorded.event)),
                }
            }
            (Event::Closed { outcome }, Stage::New | Stage::Ready { .. } | Stage::Running { .. })
                if self.lanes.iter().all(|lane| lane.open_step().is_none()) =>
            {
                let started = match &self.stage {
                    Stage::Running { since, .. } => Some(*since),
                    _ => None,
                };
                self.stage = Stage::Done { outcome: *outcome, started, ended: at };
            }
            _ => return Err(self.illegal(&recorded.event)),
        }
        self.orders.extend(recorded.event.order().cloned());
        Ok(())
    }

    /// Counts an approval; a second one by the same person changes nothing.
    fn apply_approval(&mut self, at: Timestamp, approval: &Approval) {
        if self.approvals.iter().any(|(_, known)| known.by.uid == approval.by.uid) {
            return;
        }
        self.approvals.push((at, approval.clone()));
        let Admission::New { approvals: needed, .. } = self.accepted.admission else { return };
        let votes: Vec<Approval> = self.approvals.iter().map(|(_, approval)| approval.clone()).collect();
        let grant = Grant::Votes { approvals: &votes, needed };
        if let Ok(approved) = approve(&self.plan, self.accepted.digest, grant) {
            // Of several wished starts the latest holds for all: nobody approved an earlier one.
            let start = votes.iter().filter_map(|vote| vote.start).max().or(self.plan.exec_time);
            self.stage = Stage::Ready { approved, start };
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

    /// Returns how many more people must approve; 0 once it is ready.
    #[must_use]
    pub fn approvals_missing(&self) -> u32 {
        match (&self.stage, &self.accepted.admission) {
            (Stage::New, Admission::New { approvals, .. }) => {
                approvals.saturating_sub(u32::try_from(self.approvals.len()).unwrap_or(u32::MAX))
            }
            _ => 0,
        }
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

    /// Returns the name of a step of a lane.
    #[must_use]
    pub fn step_name(&self, lane: usize, step: usize) -> Option<StepName> {
        let lane = self.lanes.get(lane)?;
        Some(self.plan.group(lane.group)?.steps.get(step)?.name.clone())
    }

    fn step_mut(&mut self, group: GroupNo, host: &HostName, step: usize) -> Option<&mut StepState> {
        let lane = self.lane_position(group, host)?;
        self.lanes[lane].steps.get_mut(step)
    }

    fn illegal(&self, event: &Event) -> IllegalEvent {
        IllegalEvent { id: self.id, event: event.word(), state: self.state().word() }
    }

    /// Returns the outcome of everything that ran: the worst of its lanes, with hosts that never started left out.
    #[must_use]
    pub fn worst_outcome(&self) -> Outcome {
        let worst = self.lanes.iter().map(Lane::outcome).filter(|outcome| *outcome != Outcome::Skipped).max();
        match (worst, self.cancelled.is_some()) {
            (Some(worst @ (Outcome::Lost | Outcome::KillUnconfirmed)), _) => worst,
            (_, true) => Outcome::Cancelled,
            (Some(Outcome::Ok), false) if self.lanes.iter().any(|lane| lane.outcome() != Outcome::Ok) => {
                Outcome::Failed
            }
            (Some(worst), false) => worst,
            (None, false) => Outcome::Ok,
        }
    }
}

impl Event {
    /// Returns the word the event is written under.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Event::Accepted(_) => "accepted",
            Event::Approved { .. } => "approved",
            Event::Rejected { .. } => "rejected",
            Event::Cancelled { .. } => "cancelled",
            Event::OrderRefused { .. } => "order_refused",
            Event::Started => "started",
            Event::StepStarted { .. } => "step_started",
            Event::KillUnconfirmed { .. } => "kill_unconfirmed",
            Event::StepEnded { .. } => "step_ended",
            Event::Closed { .. } => "closed",
        }
    }

    /// Returns the order file that the event answers.
    #[must_use]
    pub fn order(&self) -> Option<&DropKey> {
        match self {
            Event::Approved { order, .. }
            | Event::Rejected { order, .. }
            | Event::Cancelled { order, .. }
            | Event::OrderRefused { order, .. } => Some(order),
            _ => None,
        }
    }
}
