//! Which logs a task has.
//!
//! **Invariant:** pure; a log is known by the attempt at a step that wrote it.

use crate::base::ids::HostName;
use crate::domain::run::lane::LaneStep;
use crate::domain::run::{Run, StepState};
use crate::shells::dashboard::message::LogKey;

/// The log of the step that a lane is at, or was at last.
pub(super) fn log_key(run: &Run, lane: usize) -> Option<LogKey> {
    let state = run.lanes.get(lane)?;
    let planned = run.plan.group(state.group)?;
    let begun = state.steps.iter().rposition(|step| step.next_attempt() > 1 || attempt(step) > 0)?;
    let attempt = attempt(&state.steps[begun]);
    (attempt > 0).then(|| LogKey {
        task: run.id,
        host: state.host.clone(),
        step: planned.steps[begun].name.clone(),
        attempt,
    })
}

/// The logs of a host in a task, in the order in which they were begun.
pub(super) fn log_keys(run: &Run, host: &HostName) -> Vec<LogKey> {
    let lanes = run.lanes.iter().filter(|lane| lane.host == *host);
    lanes
        .flat_map(|lane| {
            let steps = run.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
            steps.iter().zip(&lane.steps).flat_map(|(planned, step)| {
                (1..=attempt(step)).map(|attempt| LogKey {
                    task: run.id,
                    host: host.clone(),
                    step: planned.name.clone(),
                    attempt,
                })
            })
        })
        .collect()
}

/// Returns the number of the last attempt at a step; 0 when there was none.
fn attempt(step: &LaneStep) -> u32 {
    match &step.state {
        StepState::Open { attempt, .. } => *attempt,
        _ => step.next_attempt().saturating_sub(1),
    }
}
