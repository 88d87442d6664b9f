//! A step to run. Floor 2.
//!
//! **Invariant:** it holds the proof that its plan was approved; nothing else can be sent to a host.

use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, StepName, TaskId};
use crate::base::time::Timestamp;
use crate::domain::audit::Head;
use crate::domain::callback::{Attempt, Callback};
use crate::domain::policy::Approved;
use crate::domain::run::earlier::Earlier;

/// A step to run.
#[derive(Clone, Debug)]
pub struct Start {
    /// The plan, with what entitles it to run.
    pub approved: Approved,
    /// The task.
    pub task: TaskId,
    /// The group.
    pub group: GroupNo,
    /// The host.
    pub host: HostName,
    /// The step.
    pub step: StepName,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Which batch of its group the host is in, from 1.
    pub batch: u32,
    /// When the start was recorded.
    pub since: Timestamp,
    /// Tells the run from every other one, of other daemons too.
    pub run_key: Digest,
    /// Whether an earlier daemon may have sent it; the host knows.
    pub resume: bool,
    /// Whether it was to be sent so long ago that it may only be shown, and not begin any more.
    pub late: bool,
    /// What its script is told of the steps before it.
    pub earlier: Earlier,
    /// Where the audit ended when it was sent, for the host to keep; whoever performs it fills it in.
    pub audit: Head,
    /// Where its script may say how far it is; whoever performs it fills it in.
    pub callback: Option<Callback>,
}

impl Start {
    /// Returns which attempt it is.
    #[must_use]
    pub fn attempt_name(&self) -> Attempt {
        Attempt {
            task: self.task,
            group: self.group,
            host: self.host.clone(),
            step: self.step.clone(),
            attempt: self.attempt,
        }
    }

    /// Returns how many milliseconds ago it was sent first, by the clock on the wall; 0 where that clock was set back since.
    #[must_use]
    pub fn elapsed_ms(&self, now: Timestamp) -> u64 {
        u64::try_from(now.0.saturating_sub(self.since.0)).unwrap_or(0)
    }
}
