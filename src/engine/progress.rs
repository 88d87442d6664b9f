//! How far a running task is. Floor 2.
//!
//! **Invariant:** computed from its run, never stored: whatever changed, it can be computed anew.

use std::collections::{BTreeSet, VecDeque};

use crate::base::ids::GroupNo;
use crate::domain::run::Run;
use crate::domain::run::lane::{Lane, Next};

/// How far a running task is. Computed from its run, never stored.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Lanes of the group it is in that wait for a slot or for their host.
    pub(super) waiting: VecDeque<usize>,
    /// Lanes of that group that wait for somebody to release a step.
    pub(super) asking: BTreeSet<usize>,
    /// Lanes that occupy their host.
    pub(super) active: BTreeSet<usize>,
    /// On how many hosts of the group a step failed, and on how many it may.
    pub(super) failures: (u32, Option<u32>),
    /// The same of the batch that is open.
    pub(super) batch_failures: (u32, Option<u32>),
    /// The batch that follows, if one does.
    pub(super) following: Option<(GroupNo, u32)>,
}

impl Progress {
    /// Returns how far a running task is: in the first group that not every host got past.
    pub(super) fn of(run: &Run) -> Progress {
        let mut progress = Progress::default();
        let open = run.lanes.iter().enumerate().filter(|(_, lane)| lane.open_step().is_some());
        progress.active = open.map(|(n, _)| n).collect();
        if run.is_ended_early() {
            return progress;
        }
        let behind: BTreeSet<GroupNo> =
            run.lanes.iter().filter(|lane| !lane.is_passed()).map(|lane| lane.group).collect();
        let Some(group) = run.plan.groups.iter().find(|group| behind.contains(&group.number)) else { return progress };
        let open = run.open_batch(group.number);
        let in_batch =
            usize::try_from(open).ok().and_then(|open| group.batch_max_fail.get(open.saturating_sub(1))).copied();
        progress.failures = (run.failures(group, None), group.max_fail);
        progress.batch_failures = (in_batch.map_or(0, |_| run.failures(group, Some(open))), in_batch);
        let too_many = progress.has_too_many_failures();
        let waits =
            |lane: &Lane| lane.group == group.number && lane.batch <= open && !(too_many && lane.is_untouched());
        for lane in (0..run.lanes.len()).filter(|lane| waits(&run.lanes[*lane])) {
            progress.line_up(run, lane);
        }
        let more = usize::try_from(open).is_ok_and(|open| open < group.batches.len());
        progress.following = (more && !too_many).then_some((group.number, open.saturating_add(1)));
        progress
    }

    pub(super) fn has_too_many_failures(&self) -> bool {
        let over = |(failed, most): (u32, Option<u32>)| most.is_some_and(|most| failed > most);
        over(self.failures) || over(self.batch_failures)
    }

    /// Whether nothing is left to do, now or later.
    pub(super) fn is_done(&self) -> bool {
        self.is_idle() && self.following.is_none()
    }

    /// Lines up a lane that has a step to take.
    pub(super) fn line_up(&mut self, run: &Run, lane: usize) {
        match run.next_step(lane) {
            Next::Start { .. } => self.waiting.push_back(lane),
            Next::Asks { .. } => drop(self.asking.insert(lane)),
            Next::Nothing => {}
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.active.is_empty() && self.asking.is_empty()
    }
}
