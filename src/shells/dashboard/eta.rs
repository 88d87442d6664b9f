//! How long a running task may still take.
//!
//! **Invariant:** pure. Time in which a person was awaited counts for nothing, and while a person is awaited, or will be,
//! nobody can say.

use std::collections::BTreeMap;

use crate::base::ids::GroupNo;
use crate::base::time::Timestamp;
use crate::domain::outcome::Ending;
use crate::domain::plan::PlannedStep;
use crate::domain::run::lane::Lane;
use crate::domain::run::{Run, StepState, TaskState};
use crate::domain::template::Trigger;

/// How many steps must have ended before anything is said.
const KNOWN_MIN: usize = 3;
/// A step that takes longer than others did is said to take this part of their time yet.
const OVER: i64 = 10;

/// Returns how many milliseconds a task may still take, if every step takes as long as it usually did, with at most so many
/// hosts at once; `None` when that cannot be said.
pub(super) fn left_ms(run: &Run, now: Timestamp, at_once: usize) -> Option<i64> {
    let gate = run.batch_wait.is_some_and(|wait| wait.gate);
    if run.state() != TaskState::Running || run.held().is_some() || run.cancelled.is_some() || gate {
        return None;
    }
    let usual = Usual::of(run)?;
    let mut left = 0_i64;
    for group in &run.plan.groups {
        // Batches of a group come one after the other, and so do groups.
        let mut batches: BTreeMap<u32, (i64, i64)> = BTreeMap::new();
        for lane in run.lanes.iter().filter(|lane| lane.group == group.number) {
            let rest = usual.rest(run, lane, &group.steps, now)?;
            if rest > 0 {
                let (longest, sum) = batches.entry(lane.batch).or_default();
                (*longest, *sum) = (rest.max(*longest), sum.saturating_add(rest));
            }
        }
        let open = run.open_batch(group.number);
        let pauses = batches.keys().filter(|batch| **batch > open).count();
        if pauses > 0 && run.plan.batch_gate {
            return None;
        }
        let interval = i64::try_from(run.plan.batch_interval_s.saturating_mul(1_000)).ok()?;
        left = left.saturating_add(interval.saturating_mul(i64::try_from(pauses).ok()?));
        let width = i64::try_from(at_once.max(1)).ok()?;
        let sums = batches.values().map(|(longest, sum)| (*longest).max(sum.checked_div(width).unwrap_or(*sum)));
        left = sums.fold(left, i64::saturating_add);
        if run.failures(group, None) > 0 {
            // Whatever comes after it is not begun.
            break;
        }
    }
    // An interval that runs is counted from its beginning above.
    if let Some(until) = run.batch_wait.and_then(|wait| wait.until) {
        let interval = i64::try_from(run.plan.batch_interval_s.saturating_mul(1_000)).ok()?;
        left = left
            .saturating_sub(interval.saturating_sub(until.0.saturating_sub(now.0).max(0)).clamp(0, interval).min(left));
    }
    (left > 0).then_some(left)
}

/// How long steps usually take.
struct Usual {
    of: BTreeMap<(GroupNo, usize), i64>,
    any: i64,
}

impl Usual {
    fn of(run: &Run) -> Option<Usual> {
        let mut times: BTreeMap<(GroupNo, usize), Vec<i64>> = BTreeMap::new();
        for lane in &run.lanes {
            for (n, step) in lane.steps.iter().enumerate() {
                if let StepState::Ended(result) = &step.state
                    && result.ending == Ending::Exit(0)
                {
                    times.entry((lane.group, n)).or_default().push(result.ended.0.saturating_sub(result.started.0));
                }
            }
        }
        let all: Vec<i64> = times.values().flatten().copied().collect();
        let of = times.into_iter().map(|(step, times)| (step, median(times))).collect();
        (all.len() >= KNOWN_MIN).then(|| Usual { of, any: median(all) })
    }

    /// How long a host may still work; `None` when a person must let a step begin.
    fn rest(&self, run: &Run, lane: &Lane, planned: &[PlannedStep], now: Timestamp) -> Option<i64> {
        if lane.stopped || lane.is_over(planned, run.timed_at()) {
            return Some(0);
        }
        let mut rest = 0_i64;
        for (n, (step, planned)) in lane.steps.iter().zip(planned).enumerate() {
            let usual = self.of.get(&(lane.group, n)).copied().unwrap_or(self.any);
            match &step.state {
                StepState::Open { since, .. } => {
                    let left = usual.saturating_sub(now.0.saturating_sub(since.0));
                    rest = rest.saturating_add(left.max(usual / OVER));
                }
                StepState::Waiting if step.is_step() && planned.trigger != Trigger::Auto && !step.released => {
                    return None;
                }
                StepState::Waiting if step.is_step() => rest = rest.saturating_add(usual),
                _ => {}
            }
        }
        Some(rest)
    }
}

fn median(mut times: Vec<i64>) -> i64 {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}
