//! Orders: acts on a task, dropped as small JSON files into `orders/`.
//!
//! **Invariant:** an order says what is wanted, never who wants it; that is the file's owner. [`Order::write`] writes what
//! [`read_order`](crate::domain::wire::read_order) reads.

use serde_json::{Value, json};

use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, StepName};
use crate::base::time::Timestamp;
use crate::domain::outcome::Outcome;
use crate::domain::right::Right;

/// An act on a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The task's number, or the name it was dropped under; empty where the order is about none.
    pub task: String,
    /// What is wanted.
    pub wish: Wish,
    /// Why, for the record.
    pub reason: Option<String>,
}

/// What an order wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Let exactly the plan of this digest run.
    Approve {
        /// The plan the approver saw.
        digest: Digest,
        /// When it may start; the plan's own time when `None`.
        start: Option<Timestamp>,
        /// When the approval ends, if the task has not started by then.
        until: Option<Timestamp>,
    },
    /// Never run the task.
    Reject,
    /// Take back one's own approval.
    Withdraw,
    /// Stop the task, or its work on some hosts: what runs is ended, what has not started never starts.
    Cancel {
        /// On these hosts; the whole task when empty.
        hosts: Vec<HostName>,
    },
    /// Stop one batch of hosts: what runs there is ended, what has not started never starts. The other batches go on.
    CancelBatch {
        /// Of which group.
        group: GroupNo,
        /// Which one, from 1.
        batch: u32,
    },
    /// Start nothing more for now.
    Hold,
    /// Let the task go on.
    Release,
    /// Let a step begin that waits for that.
    ReleaseStep {
        /// The step.
        step: StepName,
        /// On these hosts; on all of them when empty.
        hosts: Vec<HostName>,
    },
    /// Take steps again.
    Retry {
        /// On which hosts.
        which: Which,
        /// From which step on; each host's own failed step when `None`.
        step: Option<StepName>,
        /// Also steps of which nobody knows whether they ran, or still run.
        again: bool,
    },
    /// Let a batch begin.
    Continue {
        /// Of which group.
        group: GroupNo,
        /// Which one, from 1: whoever comes second lets no later one begin.
        batch: u32,
    },
    /// Go on without a step.
    Skip {
        /// The step.
        step: StepName,
        /// On these hosts; on all that stand at it when empty.
        hosts: Vec<HostName>,
    },
    /// Take note of lines that were removed from the audit.
    Acknowledge {
        /// The number of the line that says so.
        line: u64,
    },
}

/// Which hosts are tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those on which a step did not end well.
    Failed,
    /// Those, and the ones that never came to their end.
    Unfinished,
    /// These.
    Hosts(Vec<HostName>),
}

impl Which {
    /// Whether a host with this outcome is meant.
    #[must_use]
    pub fn means(&self, host: &HostName, outcome: Outcome) -> bool {
        match self {
            Which::Hosts(hosts) => hosts.contains(host),
            Which::Failed => !matches!(outcome, Outcome::Ok | Outcome::Skipped),
            Which::Unfinished => outcome != Outcome::Ok,
        }
    }
}

/// The words of [`Which`] that are not lists of hosts.
pub(crate) const FAILED: &str = "failed";
/// See [`FAILED`].
pub(crate) const UNFINISHED: &str = "unfinished";

impl Wish {
    /// Returns the right it takes.
    #[must_use]
    pub fn right(&self) -> Right {
        match self {
            Wish::Approve { .. } => Right::Approve,
            Wish::Reject => Right::Reject,
            Wish::Withdraw => Right::Withdraw,
            Wish::Cancel { .. } | Wish::CancelBatch { .. } => Right::Cancel,
            Wish::Hold => Right::Hold,
            Wish::Release | Wish::ReleaseStep { .. } => Right::Release,
            Wish::Retry { .. } => Right::Retry,
            Wish::Skip { .. } => Right::Skip,
            Wish::Continue { .. } => Right::Continue,
            Wish::Acknowledge { .. } => Right::Acknowledge,
        }
    }
}

impl Order {
    /// Writes the order as a file.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let mut file = json!({"order": self.wish.right().word()});
        let mut put = |name: &str, value: Value| {
            let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            if !empty {
                file[name] = value;
            }
        };
        put("task", json!(Some(&self.task).filter(|task| !task.is_empty())));
        put("reason", json!(self.reason));
        match &self.wish {
            Wish::Approve { digest, start, until } => {
                put("digest", json!(digest));
                put("start", json!(start));
                put("until", json!(until));
            }
            Wish::Cancel { hosts } => put("hosts", json!(hosts)),
            Wish::ReleaseStep { step, hosts } | Wish::Skip { step, hosts } => {
                put("step", json!(step));
                put("hosts", json!(hosts));
            }
            Wish::Retry { which, step, again } => {
                put("again", again.then_some(true).into());
                let hosts = match which {
                    Which::Failed => json!(FAILED),
                    Which::Unfinished => json!(UNFINISHED),
                    Which::Hosts(hosts) => json!(hosts),
                };
                put("hosts", hosts);
                put("step", json!(step));
            }
            Wish::CancelBatch { group, batch } | Wish::Continue { group, batch } => {
                put("group", json!(group));
                put("batch", json!(batch));
            }
            Wish::Acknowledge { line } => put("line", json!(line)),
            Wish::Reject | Wish::Withdraw | Wish::Hold | Wish::Release => {}
        }
        serde_json::to_vec(&file).expect("words serialise")
    }
}
