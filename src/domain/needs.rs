//! What of a task waits for one person. Floor 1.
//!
//! **Invariant:** pure. Only that is named which this person may do, as far as the caller knows; the daemon judges again.

use crate::base::ids::{GroupNo, StepName};
use crate::base::time::Timestamp;
use crate::domain::outcome::Outcome;
use crate::domain::right::Right;
use crate::domain::run::lane::{Lane, Next};
use crate::domain::run::{Run, StepState, TaskState};

/// Something that waits for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Since when.
    pub since: Timestamp,
    /// What it is.
    pub what: NeedOf,
}

/// What a task needs of a person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NeedOf {
    /// Their approval.
    Approval,
    /// That they let a batch begin.
    Gate {
        /// Of which group.
        group: GroupNo,
        /// Which one, from 1.
        batch: u32,
    },
    /// That they let a step begin.
    Step {
        /// Which one.
        step: StepName,
        /// On how many hosts.
        hosts: usize,
    },
    /// That they find out what became of steps: nobody knows whether these ran, or still run.
    Unknown {
        /// On how many hosts.
        hosts: usize,
    },
}

/// Returns what of a task waits for the person with this uid, the oldest first; `may` says what they may do with it.
#[must_use]
pub fn needs_of(run: &Run, uid: u32, may: impl Fn(Right) -> bool) -> Vec<Need> {
    let mut needs = Vec::new();
    let last = |word: &str| run.acts.iter().rev().find(|act| act.act == word).map(|act| act.at);
    if run.state() == TaskState::New && may(Right::Approve) && run.approvals.iter().all(|(_, vote)| vote.by.uid != uid)
    {
        let came = run.acts.iter().rev().find(|act| act.to == TaskState::New && act.from != Some(TaskState::New));
        needs.push(Need { since: came.map_or(run.accepted_at, |act| act.at), what: NeedOf::Approval });
    }
    let goes_on = run.state() == TaskState::Running && run.held().is_none();
    if let Some(wait) = run.batch_wait.filter(|wait| wait.gate && goes_on && may(Right::Continue)) {
        let since = last("batch_waits").unwrap_or(run.accepted_at).max(wait.until.unwrap_or(run.accepted_at));
        needs.push(Need { since, what: NeedOf::Gate { group: wait.group, batch: wait.batch } });
    }
    if goes_on && may(Right::Release) {
        needs.extend(steps(run));
    }
    let unknown: Vec<&Lane> = run.lanes.iter().filter(|lane| is_unknown(lane.outcome())).collect();
    if let Some(since) = unknown.iter().filter_map(|lane| ended(lane)).min().filter(|_| may(Right::Retry)) {
        needs.push(Need { since, what: NeedOf::Unknown { hosts: unknown.len() } });
    }
    needs.sort_by(|a, b| (a.since, &a.what).cmp(&(b.since, &b.what)));
    needs
}

/// The manual steps that hosts wait at, each once.
fn steps(run: &Run) -> Vec<Need> {
    let mut found: Vec<Need> = Vec::new();
    for (position, lane) in run.lanes.iter().enumerate() {
        let Next::Asks { step } = run.next_step(position) else { continue };
        let Some(name) = run.step_name(position, step) else { continue };
        let since = ended(lane).or_else(|| run.acts.iter().rev().find(|act| act.act == "started").map(|act| act.at));
        let since = since.unwrap_or(run.accepted_at);
        let known = found.iter_mut().find(|need| matches!(&need.what, NeedOf::Step { step, .. } if *step == name));
        match known {
            Some(Need { since: first, what: NeedOf::Step { hosts, .. } }) => {
                *first = since.min(*first);
                *hosts = hosts.saturating_add(1);
            }
            _ => found.push(Need { since, what: NeedOf::Step { step: name, hosts: 1 } }),
        }
    }
    found
}

fn is_unknown(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Lost | Outcome::KillUnconfirmed)
}

/// When the last step of a host ended.
fn ended(lane: &Lane) -> Option<Timestamp> {
    let ended = lane.steps.iter().filter_map(|step| match &step.state {
        StepState::Ended(result) => Some(result.ended),
        _ => None,
    });
    ended.max()
}
