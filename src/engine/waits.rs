//! Waits that last for a while: the interval between batches, the delay before a retry.
//!
//! **Invariant:** a while is measured by the clock that nobody sets, from when this engine first saw the wait; so no wait
//! lasts longer than it was to, whatever the clock on the wall shows. Only what an earlier daemon has waited already is
//! known by that clock, and counts at most as the whole.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{GroupNo, TaskId};
use crate::base::time::{Moment, Timestamp};

/// What waits in a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// A group's next batch.
    Batch(GroupNo, u32),
    /// An attempt at a step of a lane.
    Retry {
        /// The lane's position.
        lane: usize,
        /// The step's.
        step: usize,
        /// Which attempt.
        attempt: u32,
    },
}

/// How long something is to wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// When it ends by the clock on the wall, as it was when it began.
    pub(super) until: Timestamp,
    /// How long it lasts, in milliseconds.
    pub(super) ms: i64,
}

/// The waits that this engine knows.
#[derive(Debug, Default)]
pub(super) struct Waits {
    /// When they end, on the clock that nobody sets.
    ends: BTreeMap<TaskId, BTreeMap<What, i64>>,
    /// When to look again.
    alarms: BTreeSet<(i64, TaskId)>,
}

impl Waits {
    /// Returns how much of a wait is left, in milliseconds; 0 when it is over.
    pub(super) fn left(&mut self, id: TaskId, what: What, wait: Wait, now: Moment) -> i64 {
        let left = wait.until.0.saturating_sub(now.wall.0).clamp(0, wait.ms.max(0));
        let end = *self.ends.entry(id).or_default().entry(what).or_insert(now.steady_ms.saturating_add(left));
        if end > now.steady_ms {
            self.alarms.insert((end, id));
        }
        end.saturating_sub(now.steady_ms).max(0)
    }

    /// Whether a wait is over; one that was not seen yet begins nothing by being asked for.
    pub(super) fn is_over(&self, id: TaskId, what: What, wait: Wait, now: Moment) -> bool {
        match self.ends.get(&id).and_then(|ends| ends.get(&what)) {
            Some(end) => *end <= now.steady_ms,
            None => wait.until <= now.wall || wait.ms <= 0,
        }
    }

    /// Forgets one wait, because another of the same name begins.
    pub(super) fn begin_anew(&mut self, id: TaskId, what: What) {
        if let Some(ends) = self.ends.get_mut(&id) {
            ends.remove(&what);
        }
    }

    /// Forgets what a task waited for.
    pub(super) fn forget(&mut self, id: TaskId) {
        self.ends.remove(&id);
    }

    /// Puts alarms away whose time has come.
    pub(super) fn pass(&mut self, now: Moment) {
        while self.alarms.first().is_some_and(|(end, _)| *end <= now.steady_ms) {
            self.alarms.pop_first();
        }
    }

    /// Returns when the next wait ends, on the clock that nobody sets.
    pub(super) fn next(&self) -> Option<i64> {
        self.alarms.first().map(|(end, _)| *end)
    }

    /// Returns the longest of the waits that are left.
    #[cfg(test)]
    pub(super) fn longest(&self, now: Moment) -> i64 {
        self.ends.values().flat_map(BTreeMap::values).map(|end| end - now.steady_ms).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BATCH: What = What::Batch(GroupNo(1), 2);

    #[test]
    fn a_wait_lasts_as_long_as_it_was_to_whatever_the_clock_shows() {
        let at = |wall, steady_ms| Moment { wall: Timestamp(wall), steady_ms };
        let wait = Wait { until: Timestamp(160_000), ms: 60_000 };
        let mut waits = Waits::default();
        let day = 86_400_000;
        let mut left = |wall, steady| waits.left(TaskId(1), BATCH, wait, at(wall, steady));
        assert_eq!(left(100_000, 5_000), 60_000);
        assert_eq!(left(100_000 - day, 25_000), 40_000, "set back by a day");
        assert_eq!(left(100_000 + day, 45_000), 20_000, "set forward by a day");
        assert_eq!(left(100_000 - day, 65_000), 0);
        let over = |wall, steady| waits.is_over(TaskId(1), BATCH, wait, at(wall, steady));
        assert!(over(100_000 - day, 65_000) && !over(100_000 + day, 64_999), "the clock on the wall does not matter");
        let unseen = Waits::default();
        let over = |wall| unseen.is_over(TaskId(1), BATCH, wait, at(wall, 0));
        assert!(over(160_000) && !over(159_999), "but for what an earlier daemon waited");
        assert_eq!(waits.next(), Some(65_000));
        waits.pass(at(0, 65_000));
        assert_eq!(waits.next(), None);
        // After a restart the clock on the wall says how much is left, and never more than all of it.
        for (wall, want) in [(130_000, 30_000), (130_000 - day, 60_000), (130_000 + day, 0)] {
            assert_eq!(Waits::default().left(TaskId(1), BATCH, wait, at(wall, 0)), want, "{wall}");
        }
    }
}
