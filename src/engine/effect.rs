//! What the engine wants done. Floor 2.
//!
//! **Invariant:** values only. A step can be run only of a plan that was approved: [`Start`] holds the proof.

use std::sync::Arc;

use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, StepName, TaskId};
use crate::base::time::Timestamp;
use crate::domain::audit::{Entry, Head};
use crate::domain::callback::{Attempt, Callback};
use crate::domain::plan::Plan;
use crate::domain::policy::Approved;
use crate::domain::problem::Problem;
use crate::domain::record::HistoryLine;
use crate::domain::run::earlier::Earlier;
use crate::domain::run::{DropKey, Recorded, TaskState};
use crate::engine::input::DropBox;

/// What the engine wants done. What is no act on hosts is durable.
#[derive(Debug)]
pub enum Effect {
    /// Make a task: its directory with plan and events, and its file in the state's directory.
    Create(NewTask),
    /// Append events to a task's journal.
    Append {
        /// The task.
        id: TaskId,
        /// The events.
        events: Vec<Recorded>,
    },
    /// Add a line to the audit, together with the events it stands for.
    Audit(Entry),
    /// Put a view in the place of an ended task's record, which goes back to `running/`. Comes before its events.
    Reopen {
        /// The task.
        id: TaskId,
        /// Its view's bytes.
        view: Vec<u8>,
    },
    /// Write a task's new plan beside the old one, and its view anew.
    Replan {
        /// The task.
        id: TaskId,
        /// Which plan of the task it is.
        version: u32,
        /// The plan's bytes.
        plan: Vec<u8>,
        /// The view's bytes.
        view: Vec<u8>,
    },
    /// Move a task's file between the states' directories.
    Move {
        /// The task.
        id: TaskId,
        /// Where it stands.
        from: TaskState,
        /// Where it belongs.
        to: TaskState,
    },
    /// Write a task's record in place of its file, move it to `done/` and add the line to the history.
    Finish {
        /// The task.
        id: TaskId,
        /// Where its file stands.
        from: TaskState,
        /// The record's bytes.
        record: Vec<u8>,
        /// The history's line.
        line: HistoryLine,
    },
    /// Remove a dropped file that became a task, or whose order was answered.
    Consume {
        /// Where it stands.
        drop_box: DropBox,
        /// Which file.
        key: DropKey,
        /// The task that it became, or that its order was about; none when nothing was to be done.
        task: Option<TaskId>,
    },
    /// Look at a dropped file again soon: what it needs may come.
    LookAgain {
        /// Where it stands.
        drop_box: DropBox,
        /// Which file.
        key: DropKey,
    },
    /// Move a dropped file to `bad/` with the reasons.
    Refuse {
        /// Where it stands.
        drop_box: DropBox,
        /// Which file.
        key: DropKey,
        /// Everything wrong with it.
        problems: Vec<Problem>,
    },
    /// Write a task's file again, because it is missing.
    RestoreView {
        /// The task.
        id: TaskId,
        /// Where it belongs.
        state: TaskState,
        /// Its bytes.
        view: Vec<u8>,
    },
    /// Remove a task's file from a directory it does not belong in.
    RemoveView {
        /// The task.
        id: TaskId,
        /// Where it stands wrongly.
        state: TaskState,
    },
    /// Read a task that waits, or an ended one that an order is about. Its events are to be as all durable effects before this
    /// one left them.
    Fetch(TaskId),
    /// Run one step on one host. Only an approved plan can be named here.
    RunStep(Start),
    /// End the step that runs on a host, and prove it.
    StopStep {
        /// The task.
        task: TaskId,
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
    },
    /// The host has taken its last step of this task; its connection is not needed any more.
    ReleaseHost {
        /// The task.
        task: TaskId,
        /// The group.
        group: GroupNo,
        /// The host.
        host: HostName,
    },
}

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

/// A task that does not exist on disk yet.
#[derive(Debug)]
pub struct NewTask {
    /// Its number.
    pub id: TaskId,
    /// Its plan.
    pub plan: Arc<Plan>,
    /// Its first events.
    pub events: Vec<Recorded>,
    /// The state it is in after them.
    pub state: TaskState,
    /// The bytes of its file there.
    pub view: Vec<u8>,
}
