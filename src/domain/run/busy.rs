//! Which host a task waits for because other tasks are at work on it.
//!
//! **Invariant:** pure, and the same that keeps the engine from starting it.

use std::collections::BTreeMap;

use super::{Run, TaskState};
use crate::base::ids::{HostName, TaskId};

impl Run {
    /// Returns the host that a ready task waits for, and a task that is at work on it: until then its time may have come, and
    /// every host that it could begin on is taken.
    #[must_use]
    pub fn waits_for<'a>(&self, others: impl Iterator<Item = &'a Run>) -> Option<(&HostName, TaskId)> {
        if self.state() != TaskState::Ready || !self.may_start() {
            return None;
        }
        let mut taken: BTreeMap<&HostName, (u32, TaskId)> = BTreeMap::new();
        for run in others.filter(|run| run.id != self.id && run.state() == TaskState::Running) {
            for lane in run.lanes.iter().filter(|lane| lane.open_step().is_some()) {
                let (count, _) = taken.entry(&lane.host).or_insert((0, run.id));
                *count = count.saturating_add(1);
            }
        }
        let hosts = &self.plan.groups.first()?.hosts;
        let is_taken = |host: &HostName| taken.get(host).is_some_and(|(count, _)| *count >= self.plan.jobs_on(host));
        let first = hosts.first().filter(|_| hosts.iter().all(is_taken))?;
        Some((first, taken.get(first)?.1))
    }
}
