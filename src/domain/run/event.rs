//! What can happen to a task.
//!
//! **Invariant:** pure. An event says what happened, never what is to happen; adding a variant is a format change.

use serde::{Deserialize, Serialize};

use crate::base::digest::Digest;
use crate::base::ids::{Actor, GroupNo, HostName, StepName, is_token_uid};
use crate::base::time::Timestamp;
use crate::domain::delegate::Report;
use crate::domain::drop_name::DropName;
use crate::domain::outcome::{Outcome, StepResult};
use crate::domain::plan::Plan;
use crate::domain::plan::diff::{Difference, brief};
use crate::domain::policy::{Admission, Approval, Frozen, Need, Policy, Subject};
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

/// One host's work in one group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneName {
    /// The group.
    pub group: GroupNo,
    /// The host.
    pub host: HostName,
}

/// One step on one host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Place {
    /// The group.
    pub group: GroupNo,
    /// The host.
    pub host: HostName,
    /// The step.
    pub step: StepName,
}

/// An order that was obeyed: who gave it, why, in which file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// Who.
    pub by: Actor,
    /// Why, where they said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The rule that allowed it.
    #[serde(default)]
    pub rule: String,
    /// Which order file.
    pub order: DropKey,
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
        /// The rule that allowed it.
        #[serde(default)]
        rule: String,
        /// A remark.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Which order file.
        order: DropKey,
    },
    /// Somebody took back their approval; without enough of them the task waits again.
    Withdrawn(Ordered),
    /// An approval counts no longer: its time passed before the task started, or policy does not let its giver approve
    /// any more.
    Lapsed {
        /// Whose.
        by: Actor,
        /// Why.
        why: String,
    },
    /// Policy asks for other approvals than it did: those that were given are counted again.
    Readmitted {
        /// Who must approve now.
        needs: Vec<Need>,
        /// Why.
        why: String,
    },
    /// The plan that would run now is not the one that was approved: the task waits again, with the new plan.
    Stale {
        /// What differs.
        differences: Vec<Difference>,
        /// Who must approve the new plan.
        needs: Vec<Need>,
        /// The new plan's digest.
        digest: Digest,
        /// The new plan.
        plan: Box<Plan>,
    },
    /// The plan cannot be made any more. The task ends as stale.
    Unresolvable {
        /// What stands in the way.
        problems: Vec<String>,
    },
    /// Somebody entitled rejected the task. Final.
    Rejected(Ordered),
    /// Somebody entitled cancelled the task: nothing more starts, what runs is ended.
    Cancelled(Ordered),
    /// Somebody entitled ended the task's work on some hosts.
    HostsStopped {
        /// The order.
        #[serde(flatten)]
        ordered: Ordered,
        /// Which hosts' work.
        lanes: Vec<LaneName>,
    },
    /// Nothing more starts until the task is released. Without `ordered` the daemon itself holds it.
    Held {
        /// The order.
        #[serde(flatten, default)]
        ordered: Option<Ordered>,
        /// Why.
        why: String,
    },
    /// The task may go on.
    Released(Ordered),
    /// Somebody took back their own hold; those of others stay.
    HoldReleased(Ordered),
    /// A manual or timed step may begin.
    StepsReleased {
        /// The order.
        #[serde(flatten)]
        ordered: Ordered,
        /// Which steps.
        steps: Vec<Place>,
    },
    /// Steps are taken again, and everything after them on those hosts.
    Retried {
        /// The order.
        #[serde(flatten)]
        ordered: Ordered,
        /// The step that each host begins with.
        steps: Vec<Place>,
    },
    /// Hosts go on without a step.
    StepsSkipped {
        /// The order.
        #[serde(flatten)]
        ordered: Ordered,
        /// Which steps.
        steps: Vec<Place>,
    },
    /// A group's next batch waits: for a time, for a person, or for both.
    BatchWaits {
        /// The group.
        group: GroupNo,
        /// The batch, from 1.
        batch: u32,
        /// Not before this time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// Whether somebody must let it begin.
        gate: bool,
    },
    /// Somebody let the next batch begin.
    Continued {
        /// The order.
        #[serde(flatten)]
        ordered: Ordered,
        /// The group.
        group: GroupNo,
        /// The batch, from 1.
        batch: u32,
    },
    /// A group's next batch begins.
    BatchStarted {
        /// The group.
        group: GroupNo,
        /// The batch, from 1.
        batch: u32,
    },
    /// The task's time came in a freeze; it waits for the end of it.
    Frozen(Frozen),
    /// An order was not obeyed. Changes nothing.
    OrderRefused {
        /// Who.
        by: Actor,
        /// What they wanted.
        act: String,
        /// What kind of refusal it is.
        #[serde(default)]
        kind: RefusalKind,
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
    /// The host of a step that runs cannot be reached, and is tried again and again.
    HostUnreachable {
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
        /// The step.
        step: StepName,
        /// What stands in the way.
        why: String,
    },
    /// The host of a step that runs is reached again.
    HostReachable {
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
        /// The step.
        step: StepName,
    },
    /// The script of a step said how far it is.
    StepSaid {
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
        /// The step.
        step: StepName,
        /// Its words.
        text: String,
    },
    /// The engine that a step handed its targets to said how they fare.
    TargetsReported {
        /// The group.
        group: GroupNo,
        /// The host that the engine runs on.
        host: HostName,
        /// The step.
        step: StepName,
        /// What it said; the last word about a target counts.
        reports: Vec<Report>,
    },
    /// A host goes on without a step, because its condition said so.
    StepPassedOver {
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
        /// The step.
        step: StepName,
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
    /// The task ended. The last event, unless somebody retries.
    Closed {
        /// How.
        outcome: Outcome,
    },
}

/// What kind of refusal it is when an order is not obeyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// Policy does not let this person do it.
    NotAllowed,
    /// It approves another plan than the task has.
    OtherPlan,
    /// The task, or what the order names, does not stand so that it could be obeyed. Also what journals do not tell apart that
    /// are older than this word.
    #[default]
    NotNow,
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
    /// Whether somebody else may have put the file where it lay: flat in a box that several can write.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unproved: bool,
    /// The state it went into and why.
    pub admission: Admission,
    /// The plan's digest.
    pub digest: Digest,
    /// The key that makes repeated submissions one task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// The git hook that reported the push that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// The remark.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
    /// The kind of task its submitter says it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub task_type: String,
    /// The file's text, as it was dropped.
    pub submission: String,
}

impl Accepted {
    /// Returns the task as rules see it, with a plan.
    #[must_use]
    pub fn subject(&self, plan: &Plan, policy: &Policy) -> Subject {
        Subject { unproved: self.unproved, ..Subject::of(plan, &self.by, &self.claims, &policy.bounds()) }
    }
}

/// Identifies one dropped file; the same key is the same drop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DropKey {
    /// Where it stood in its box, with `.json`.
    pub name: DropName,
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

impl DropKey {
    /// Returns what tells this file from all others wherever it stands, whatever it is called and whatever its device is
    /// numbered after a reboot; `None` where a later file could say the same.
    #[must_use]
    pub fn identity(&self) -> Option<Digest> {
        let said = format!("{} {} {} {}", self.uid, self.ino, self.born_ns, self.digest);
        (!self.born_ns.is_empty() && self.born_ns != "0").then(|| Digest::of(said.as_bytes()))
    }

    /// Whether it came over HTTP and never was a file.
    #[must_use]
    pub fn is_posted(&self) -> bool {
        is_token_uid(self.uid)
    }

    /// Whether nobody but its owner can have put it there: it stood in a directory of theirs, or came with their token.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        self.is_posted() || self.name.directory().is_some()
    }
}

impl Event {
    /// The word of [`Event::OrderRefused`].
    pub const REFUSED_WORD: &str = "order_refused";

    /// Returns the word the event is written under.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Event::Accepted(_) => "accepted",
            Event::Approved { .. } => "approved",
            Event::Withdrawn(_) => "withdrawn",
            Event::Lapsed { .. } => "lapsed",
            Event::Readmitted { .. } => "readmitted",
            Event::Stale { .. } => "stale",
            Event::Unresolvable { .. } => "unresolvable",
            Event::Rejected(_) => "rejected",
            Event::Cancelled(_) => "cancelled",
            Event::HostsStopped { .. } => "hosts_stopped",
            Event::Held { .. } => "held",
            Event::Released(_) => "released",
            Event::HoldReleased(_) => "hold_released",
            Event::StepsReleased { .. } => "steps_released",
            Event::Retried { .. } => "retried",
            Event::StepsSkipped { .. } => "steps_skipped",
            Event::BatchWaits { .. } => "batch_waits",
            Event::Continued { .. } => "continued",
            Event::BatchStarted { .. } => "batch_started",
            Event::Frozen(_) => "frozen",
            Event::OrderRefused { .. } => Event::REFUSED_WORD,
            Event::Started => "started",
            Event::StepStarted { .. } => "step_started",
            Event::KillUnconfirmed { .. } => "kill_unconfirmed",
            Event::HostUnreachable { .. } => "host_unreachable",
            Event::HostReachable { .. } => "host_reachable",
            Event::StepSaid { .. } => "step_said",
            Event::TargetsReported { .. } => "targets_reported",
            Event::StepPassedOver { .. } => "step_passed_over",
            Event::StepEnded { .. } => "step_ended",
            Event::Closed { .. } => "closed",
        }
    }

    /// Returns the order that was obeyed, where one was.
    #[must_use]
    pub fn ordered(&self) -> Option<&Ordered> {
        match self {
            Event::Withdrawn(ordered)
            | Event::Rejected(ordered)
            | Event::Cancelled(ordered)
            | Event::Released(ordered)
            | Event::HoldReleased(ordered)
            | Event::HostsStopped { ordered, .. }
            | Event::StepsReleased { ordered, .. }
            | Event::Retried { ordered, .. }
            | Event::Continued { ordered, .. }
            | Event::StepsSkipped { ordered, .. } => Some(ordered),
            Event::Held { ordered, .. } => ordered.as_ref(),
            _ => None,
        }
    }

    /// Returns the order file that the event answers.
    #[must_use]
    pub fn order(&self) -> Option<&DropKey> {
        match self {
            Event::Approved { order, .. } | Event::OrderRefused { order, .. } => Some(order),
            other => other.ordered().map(|ordered| &ordered.order),
        }
    }

    /// Returns who did it; `None` for what the daemon does by itself.
    #[must_use]
    pub fn actor(&self) -> Option<&Actor> {
        match self {
            Event::Accepted(accepted) => Some(&accepted.by),
            Event::Approved { approval, .. } => Some(&approval.by),
            Event::OrderRefused { by, .. } => Some(by),
            other => other.ordered().map(|ordered| &ordered.by),
        }
    }

    /// Whether it is an act on the whole task, of a person or of the daemon, and not a step's.
    #[must_use]
    pub fn is_act(&self) -> bool {
        !matches!(
            self,
            Event::StepStarted { .. }
                | Event::KillUnconfirmed { .. }
                | Event::HostUnreachable { .. }
                | Event::HostReachable { .. }
                | Event::StepSaid { .. }
                | Event::TargetsReported { .. }
                | Event::StepPassedOver { .. }
                | Event::StepEnded { .. }
        )
    }
}

/// How many of a list are named before the rest is counted.
const NAMED_MAX: usize = 3;

impl Event {
    /// Returns what is known beside who, when and what: a reason, and what it was about.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        let what = match self {
            Event::Accepted(accepted) => match &accepted.admission {
                Admission::New { note, .. } => note.clone(),
                Admission::Ready { rule } => Some(rule.clone()),
            },
            Event::Approved { approval, reason, .. } => {
                let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                let start = approval.start.map(|at| format!(", to start at {at}")).unwrap_or_default();
                let until = approval.until.map(|at| format!(", until {at}")).unwrap_or_default();
                Some(format!("plan {}{start}{until}{reason}", approval.digest.short()))
            }
            Event::Lapsed { by, why } => Some(format!("the approval of {by}: {why}")),
            Event::Stale { digest, differences, .. } => {
                let brief = brief(differences);
                let first = brief.iter().take(NAMED_MAX).cloned();
                Some(listed(first, brief.len()) + &format!("; the plan is {} now", digest.short()))
            }
            Event::Unresolvable { problems } => Some(listed(problems.iter().take(NAMED_MAX).cloned(), problems.len())),
            Event::HostsStopped { lanes, .. } => {
                Some(listed(lanes.iter().take(NAMED_MAX).map(|lane| lane.host.to_string()), lanes.len()))
            }
            Event::Held { ordered: None, why } | Event::Readmitted { why, .. } => Some(why.clone()),
            Event::StepsReleased { steps, .. } | Event::Retried { steps, .. } | Event::StepsSkipped { steps, .. } => {
                let named = steps.iter().take(NAMED_MAX).map(|place| format!("{} on {}", place.step, place.host));
                Some(listed(named, steps.len()))
            }
            Event::BatchWaits { group, batch, until, gate } => {
                let until = until.map(|until| format!(" until {until}")).unwrap_or_default();
                let gate = if *gate { ", for somebody to continue" } else { "" };
                Some(format!("batch {batch} of group {group}{until}{gate}"))
            }
            Event::Continued { group, batch, .. } | Event::BatchStarted { group, batch } => {
                Some(format!("batch {batch} of group {group}"))
            }
            Event::Frozen(frozen) => Some(format!("{}, until {}", frozen.freeze, frozen.until)),
            Event::OrderRefused { act, why, .. } => Some(format!("{act}: {why}")),
            Event::Closed { outcome } => Some(outcome.word().to_owned()),
            _ => None,
        };
        match (what, self.ordered().and_then(|ordered| ordered.reason.clone())) {
            (Some(what), Some(reason)) => Some(format!("{what}: {reason}")),
            (what, reason) => what.or(reason),
        }
    }
}

/// Lists the first few of `count`.
fn listed(first: impl Iterator<Item = String>, count: usize) -> String {
    let text = first.collect::<Vec<_>>().join(", ");
    if count > NAMED_MAX { format!("{text} and {} more", count.saturating_sub(NAMED_MAX)) } else { text }
}
