//! Where a host of a task stands, in words.
//!
//! **Invariant:** pure; every list of hosts says it alike.

use crate::domain::outcome::{Ending, Outcome};
use crate::domain::run::lane::{Lane, LaneStep};
use crate::domain::run::{Run, StepState};
use crate::shells::dashboard::look::Mark;
use crate::shells::dashboard::table::{LaneLine, doubt};
use crate::shells::dashboard::words::{Words, fill, names};

/// Says where a host of a task stands.
pub(super) fn host_state(words: &Words, run: &Run, n: usize, line: &LaneLine) -> String {
    let Some(lane) = run.lanes.get(n) else { return String::new() };
    let at = told_of(lane, line);
    let step = at.and_then(|step| run.step_name(n, step)).map_or_else(String::new, |name| name.to_string());
    match (line.mark, at.and_then(|at| exit(words, lane, at))) {
        (Mark::Failed, _) if lane.outcome() == Outcome::RolledBack => words.rolled_back.to_owned(),
        (Mark::Failed, _) if lane.outcome() == Outcome::RollbackFailed => words.rollback_failed.to_owned(),
        (Mark::Failed | Mark::Lost, Some(exit)) => format!("{exit} {step}"),
        (Mark::Lost, None) => doubt(words, lane),
        (Mark::Runs, _) => step,
        (Mark::Asks, _) => fill(words.asks_for, &[&step]),
        (Mark::Skipped, _) if lane.outcome() == Outcome::Cancelled => words.cancelled.to_owned(),
        (mark, _) => names::mark(words, mark).to_owned(),
    }
}

/// Returns the step that a lane's line tells of: of a failure the step that failed, and not what handled it.
fn told_of(lane: &Lane, line: &LaneLine) -> Option<usize> {
    let bad = |step: &LaneStep| match &step.state {
        StepState::Ended(result) => result.ending != Ending::Exit(0),
        _ => false,
    };
    let failed = lane.steps.iter().rposition(bad).filter(|_| matches!(line.mark, Mark::Failed | Mark::Lost));
    failed.or(line.step)
}

/// How a step of a lane ended.
fn exit(words: &Words, lane: &Lane, step: usize) -> Option<String> {
    match &lane.steps.get(step)?.state {
        StepState::Ended(result) => Some(names::ending(words, &result.ending)),
        _ => None,
    }
}
