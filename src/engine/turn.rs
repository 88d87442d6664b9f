//! What the engine wants done in one turn, in stages. Floor 2.
//!
//! **Invariant:** [`Turn::stages`] is the only way to what a turn holds, and yields the stages in the order in which they are
//! performed: what is durable before what shows it, and all of it before any act. The daemon and the simulator go the same way.

use std::sync::Arc;

use crate::base::ids::{GroupNo, HostName, TaskId};
use crate::domain::audit::Entry;
use crate::domain::plan::Plan;
use crate::domain::problem::Problem;
use crate::domain::record::HistoryLine;
use crate::domain::run::{DropKey, Recorded, TaskState};
use crate::engine::input::DropBox;
use crate::engine::start::Start;

/// Everything that is to be done because of what the engine was told, of one input or of several.
#[derive(Debug, Default)]
pub struct Turn {
    pub(super) reopened: Vec<Reopened>,
    pub(super) commit: Commit,
    pub(super) taken: Vec<Taken>,
    pub(super) views: Vec<ViewChange>,
    pub(super) acts: Vec<Act>,
    pub(super) fetched: Vec<TaskId>,
}

/// A part of a turn. The next one begins only when this one is done; one that fails stops the driver, and a new start recovers.
#[derive(Debug)]
pub enum Stage {
    /// Put views in the place of ended tasks' records, which go back to `running/`.
    Reopen(Vec<Reopened>),
    /// Write what happened.
    Commit(Commit),
    /// Take away dropped files, of which everything is on disk now that they became.
    Take(Vec<Taken>),
    /// Show the tasks that the commit made, and then where each one's file stands now. Everything here can be done again from the
    /// journals.
    Show(Vec<ViewChange>),
    /// Begin, end and release work on hosts.
    Act(Vec<Act>),
    /// Read tasks that wait, or ended ones that orders are about, as the stages before left them; they come back in one
    /// [`Input::Fetched`](crate::engine::Input::Fetched).
    Fetch(Vec<TaskId>),
}

/// What is written together and synced once: any part of it may be on disk after a crash before that.
#[derive(Debug, Default)]
pub struct Commit {
    /// New tasks.
    pub creates: Vec<NewTask>,
    /// Events for the journals of tasks, each task's in their order.
    pub appends: Vec<(TaskId, Vec<Recorded>)>,
    /// Lines of the audit about them; they are written when all of the above is durable.
    pub audit: Vec<Entry>,
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

/// An ended task that runs again.
#[derive(Debug)]
pub struct Reopened {
    /// The task.
    pub id: TaskId,
    /// Its view's bytes.
    pub view: Vec<u8>,
}

/// A dropped file that was judged.
#[derive(Debug)]
pub enum Taken {
    /// It became a task, or its order was answered.
    Consumed {
        /// Where it stands.
        drop_box: DropBox,
        /// Which file.
        key: DropKey,
        /// The task that it became, or that its order was about; none when nothing was to be done.
        task: Option<TaskId>,
    },
    /// It goes to `bad/` with the reasons.
    Refused {
        /// Where it stands.
        drop_box: DropBox,
        /// Which file.
        key: DropKey,
        /// Everything wrong with it.
        problems: Vec<Problem>,
    },
}

/// A change of what people see of a task beside its journal.
#[derive(Debug)]
pub enum ViewChange {
    /// Its file stands in another state's directory.
    Moved {
        /// The task.
        id: TaskId,
        /// Where it stands.
        from: TaskState,
        /// Where it belongs.
        to: TaskState,
    },
    /// Its record takes the place of its file and stands in `done/`; the history has a line more.
    Finished {
        /// The task.
        id: TaskId,
        /// Where its file stands.
        from: TaskState,
        /// The record's bytes.
        record: Vec<u8>,
        /// The history's line.
        line: Box<HistoryLine>,
    },
    /// A new plan stands beside the old one, and its view says so.
    Replanned {
        /// The task.
        id: TaskId,
        /// Which plan of the task it is.
        version: u32,
        /// The plan's bytes.
        plan: Vec<u8>,
        /// The view's bytes.
        view: Vec<u8>,
    },
    /// Its file is written again, because it is missing.
    Restored {
        /// The task.
        id: TaskId,
        /// Where it belongs.
        state: TaskState,
        /// Its bytes.
        view: Vec<u8>,
    },
    /// Its file goes from a directory it does not belong in.
    Removed {
        /// The task.
        id: TaskId,
        /// Where it stands wrongly.
        state: TaskState,
    },
}

/// What is done in the world; nothing of it is done before what announces it is durable. Each returns at once.
#[derive(Debug)]
pub enum Act {
    /// Run a step on a host; its end comes back in [`Input::StepEnded`](crate::engine::Input::StepEnded).
    RunStep(Box<Start>),
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
    /// Look at a dropped file again soon: what it needs may come.
    LookAgain {
        /// Where it stands.
        drop_box: DropBox,
        /// Which file.
        key: DropKey,
    },
}

impl Turn {
    /// Returns what is to be done, stage by stage.
    #[must_use]
    pub fn stages(self) -> [Stage; 6] {
        let Turn { reopened, commit, taken, views, acts, fetched } = self;
        [
            Stage::Reopen(reopened),
            Stage::Commit(commit),
            Stage::Take(taken),
            Stage::Show(views),
            Stage::Act(acts),
            Stage::Fetch(fetched),
        ]
    }

    /// Adds what a later input wants, to be done together with this.
    pub fn extend(&mut self, later: Turn) {
        let Turn { reopened, commit, taken, views, acts, fetched } = later;
        self.reopened.extend(reopened);
        self.commit.creates.extend(commit.creates);
        self.commit.appends.extend(commit.appends);
        self.commit.audit.extend(commit.audit);
        self.taken.extend(taken);
        self.views.extend(views);
        self.acts.extend(acts);
        self.fetched.extend(fetched);
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Turn { reopened, commit, taken, views, acts, fetched } = self;
        let Commit { creates, appends, audit } = commit;
        let written = creates.is_empty() && appends.is_empty() && audit.is_empty();
        written && reopened.is_empty() && taken.is_empty() && views.is_empty() && acts.is_empty() && fetched.is_empty()
    }

    /// Returns the events that are appended to journals.
    pub fn appended(&self) -> impl Iterator<Item = &Recorded> {
        self.commit.appends.iter().flat_map(|(_, events)| events)
    }
}
