//! What stands in the state files: the view of a task while it waits or runs, and its record once it ended.
//!
//! **Invariant:** both are computed from the fold alone, so they can be written again at any time and come out
//! byte for byte the same. No view names a state: the directory it stands in does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::base::ids::{Actor, GroupNo, HostName, StepName, TaskId};
use crate::base::time::Timestamp;
use crate::domain::delegate::{Report, TargetState};
use crate::domain::outcome::{Ending, Outcome, OutputFacts, ProvedBy, StepResult};
use crate::domain::plan::UsedTemplate;
use crate::domain::policy::{Admission, Approval};
use crate::domain::run::lane::{Lane, LaneStep, Skip};
use crate::domain::run::{Act, DropKey, Ended, Run, Stage, StepState};
use crate::domain::submission::Claims;

/// What `new/ID.json`, `ready/ID.json` and `running/ID.json` hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The task's number.
    pub id: TaskId,
    /// The name it was dropped under.
    pub name: String,
    /// What people call it.
    pub task_name: String,
    /// The template it runs; `None` for a script of its own.
    pub template: Option<UsedTemplate>,
    /// The plan's digest.
    pub digest: Digest,
    /// Who submitted it.
    pub submitter: Actor,
    /// Whether somebody else may have put its file where it lay.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproved: bool,
    /// What the file claims about people.
    pub claims: Claims,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// How it was let in.
    pub admission: Admission,
    /// Not before this time, as submitted.
    pub exec_time: Option<Timestamp>,
    /// How many hosts it touches.
    pub hosts: usize,
    /// The remark.
    pub details: String,
}

/// What `done/ID.json` holds: complete, readable without any other file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it was.
    #[serde(flatten)]
    pub view: View,
    /// How it ended.
    pub outcome: Outcome,
    /// When it began to run, if it did.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Timestamp,
    /// Who approved it and when.
    pub approvals: Vec<TimedApproval>,
    /// The rejection, if any.
    pub rejected: Option<Ended>,
    /// The cancellation, if any.
    pub cancelled: Option<Ended>,
    /// Everything that people and the daemon did to it, with the states before and after.
    pub acts: Vec<Act>,
    /// How each host ended.
    pub outcomes: BTreeMap<HostName, Outcome>,
    /// Per host, every step of its plan in the order it takes them.
    pub results: BTreeMap<HostName, Vec<StepRecord>>,
    /// The file's text, as it was dropped.
    pub submission: String,
}

/// An approval and its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimedApproval {
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub approval: Approval,
}

/// One step on one host, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The group.
    pub group: GroupNo,
    /// The step.
    pub step: StepName,
    /// How it ended; `skipped` when it never started.
    pub outcome: Outcome,
    /// The process's exit code, when it exited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal, when one ended the process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// What is known of an ending that is neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// By what its host proved how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proved_by: Option<ProvedBy>,
    /// How often it was started.
    pub attempts: u32,
    /// When it was sent.
    pub started: Option<Timestamp>,
    /// When its end was known.
    pub ended: Option<Timestamp>,
    /// What it printed.
    #[serde(flatten)]
    pub output: OutputFacts,
    /// How each target fared, where another engine carried the step out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub targets: BTreeMap<HostName, TargetRecord>,
    /// What earlier attempts came to; their logs stand beside the last one's, as `STEP@ATTEMPT.log`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<StepResult>,
}

/// How a target of another engine fared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRecord {
    /// How.
    pub state: TargetState,
    /// Why, where it failed.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

impl TargetRecord {
    fn of(report: &Report) -> TargetRecord {
        TargetRecord { state: report.state, detail: report.detail.clone() }
    }
}

/// Returns the view of a task.
#[must_use]
pub fn view(run: &Run) -> View {
    View {
        id: run.id,
        name: run.accepted.name.clone(),
        task_name: run.plan.task_name.clone(),
        template: run.plan.template.clone(),
        digest: run.digest,
        submitter: run.accepted.by.clone(),
        unproved: run.accepted.unproved,
        claims: run.accepted.claims.clone(),
        accepted_at: run.accepted_at,
        admission: run.accepted.admission.clone(),
        exec_time: run.plan.exec_time,
        hosts: run.plan.hosts.len(),
        details: run.accepted.details.clone(),
    }
}

/// Returns the view of a task as its file holds it.
#[must_use]
pub fn view_file(run: &Run) -> Vec<u8> {
    serde_json::to_vec_pretty(&view(run)).expect("a view holds nothing that JSON cannot say")
}

/// Returns the record of a task that ended; `None` while it has not.
#[must_use]
pub fn record(run: &Run) -> Option<Record> {
    let Stage::Done { outcome, started, ended, .. } = run.stage else { return None };
    let mut outcomes: BTreeMap<HostName, Outcome> = BTreeMap::new();
    let mut results: BTreeMap<HostName, Vec<StepRecord>> = BTreeMap::new();
    for lane in &run.lanes {
        let lane_outcome = lane.outcome();
        // A host in two groups is as bad as its worse group; skipped says less than anything that happened.
        outcomes
            .entry(lane.host.clone())
            .and_modify(|known| {
                if lane_outcome != Outcome::Skipped && (*known == Outcome::Skipped || lane_outcome > *known) {
                    *known = lane_outcome;
                }
            })
            .or_insert(lane_outcome);
        results.entry(lane.host.clone()).or_default().extend(step_records(run, lane));
    }
    Some(Record {
        view: view(run),
        outcome,
        started,
        ended,
        approvals: run
            .approvals
            .iter()
            .map(|(at, approval)| TimedApproval { at: *at, approval: approval.clone() })
            .collect(),
        rejected: run.rejected.clone(),
        cancelled: run.cancelled.clone(),
        acts: run.acts.clone(),
        outcomes,
        results,
        submission: run.accepted.submission.clone(),
    })
}

/// Returns the steps of one lane as they are recorded, in order.
pub fn step_records<'a>(run: &'a Run, lane: &'a Lane) -> impl Iterator<Item = StepRecord> + 'a {
    let steps = run.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
    let shown = steps.iter().zip(&lane.steps).filter(|(_, step)| step.is_shown());
    shown.map(|(planned, step)| StepRecord {
        earlier: step.earlier.clone(),
        ..step_record(lane.group, &planned.name, step)
    })
}

fn step_record(group: GroupNo, name: &StepName, step: &LaneStep) -> StepRecord {
    let mut record = StepRecord {
        group,
        step: name.clone(),
        outcome: Outcome::Skipped,
        exit_code: None,
        signal: None,
        reason: None,
        proved_by: None,
        attempts: 0,
        started: None,
        ended: None,
        output: OutputFacts::default(),
        targets: step.targets.iter().map(|(name, report)| (name.clone(), TargetRecord::of(report))).collect(),
        earlier: Vec::new(),
    };
    match &step.state {
        StepState::Waiting => record.attempts = step.next_attempt().saturating_sub(1),
        StepState::Skipped(why) => {
            record.attempts = step.next_attempt().saturating_sub(1);
            let why = match why {
                Skip::Person => "somebody let the host go on without it",
                Skip::Condition => "its condition does not hold here",
            };
            record.reason = Some(why.to_owned());
        }
        StepState::Open { attempt, since, .. } => {
            record.attempts = *attempt;
            record.started = Some(*since);
        }
        StepState::Ended(result) => {
            record.outcome = result.ending.outcome();
            record.attempts = result.attempt;
            record.started = Some(result.started);
            record.ended = Some(result.ended);
            record.output = result.output;
            record.proved_by = result.proved_by;
            match &result.ending {
                Ending::Exit(code) => record.exit_code = Some(*code),
                Ending::Signal(name) => record.signal = Some(name.clone()),
                Ending::NotSent(why)
                | Ending::Unreachable(why)
                | Ending::NotAllDone(why)
                | Ending::Died(why)
                | Ending::Lost(why)
                | Ending::KillUnconfirmed(why) => {
                    record.reason = Some(why.clone());
                }
                Ending::IdleTimedOut => record.reason = Some("it printed nothing for too long".to_owned()),
                Ending::TimedOut | Ending::Cancelled => {}
            }
        }
    }
    record
}

/// One line of `history.jsonl`: enough to list a finished task and to recognise a repeated submission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryLine {
    /// The task's number.
    pub id: TaskId,
    /// The name it was dropped under.
    pub name: String,
    /// What people call it.
    pub task_name: String,
    /// What policy knows the work as.
    pub work: String,
    /// Who submitted it.
    pub submitter: Actor,
    /// How it ended.
    pub outcome: Outcome,
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// When it began to run, if it did.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Timestamp,
    /// How many hosts it was for.
    pub hosts: usize,
    /// On how many of them it did not end well.
    pub hosts_not_ok: usize,
    /// On how many of them nothing was done, or not all of it, without anything having failed.
    #[serde(default)]
    pub hosts_skipped: usize,
    /// The digest of its submission's bytes.
    pub submission: Digest,
    /// How many acts the audit has of it.
    #[serde(default)]
    pub acts: u64,
    /// The key that makes repeated submissions one task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The git hook that reported the push that it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// The file it came from and those of its orders, by [`DropKey::identity`]: one that could not be taken out of its box
    /// counts once all the same. Older lines have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drops: Vec<Digest>,
}

impl HistoryLine {
    /// Returns what people know the task by, for filters.
    #[must_use]
    pub fn words(&self) -> String {
        let outcome = self.outcome.word();
        format!("{} {} {} {} {} {outcome}", self.id, self.task_name, self.name, self.submitter.user, self.work)
    }

    /// Returns how many hosts came to an end of their own, good or bad.
    #[must_use]
    pub fn hosts_ended(&self) -> usize {
        // Older lines do not say how many were skipped; of a task that never began it was all of them.
        self.started.map_or(0, |_| self.hosts.saturating_sub(self.hosts_skipped))
    }

    /// Returns the line of a record.
    #[must_use]
    pub fn of(run: &Run, record: &Record) -> HistoryLine {
        let hosts_that = |fits: fn(&Outcome) -> bool| record.outcomes.values().filter(|outcome| fits(outcome)).count();
        HistoryLine {
            id: run.id,
            name: run.accepted.name.clone(),
            task_name: run.plan.task_name.clone(),
            work: run.plan.work_name().to_owned(),
            submitter: run.accepted.by.clone(),
            outcome: record.outcome,
            accepted_at: run.accepted_at,
            started: record.started,
            ended: record.ended,
            hosts: record.outcomes.len(),
            hosts_not_ok: hosts_that(|outcome| *outcome != Outcome::Ok),
            hosts_skipped: hosts_that(|outcome| *outcome == Outcome::Skipped),
            submission: Digest::of(run.accepted.submission.as_bytes()),
            acts: run.acts.len() as u64,
            idempotency_key: run.accepted.idempotency_key.clone(),
            hook: run.accepted.hook.clone(),
            drops: run.drops().filter_map(DropKey::identity).collect(),
        }
    }
}
