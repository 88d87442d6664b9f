//! One host's way through the steps of one group, and what it takes next.
//!
//! **Invariant:** pure. What a lane takes next follows from its steps' states and the plan alone, so the daemon, recovery
//! and every screen say the same.

use crate::base::ids::{GroupNo, HostName};
use crate::base::time::Timestamp;
use crate::domain::plan::PlannedStep;
use crate::domain::run::{Ending, Outcome, StepResult, StepState};
use crate::domain::template::OnFailure;

/// One host's way through the steps of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The group.
    pub group: GroupNo,
    /// The host.
    pub host: HostName,
    /// Its steps, in the plan's order.
    pub steps: Vec<StepState>,
    /// What earlier attempts at each step came to.
    pub earlier: Vec<Vec<StepResult>>,
}

/// What a lane takes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The step's position in its group.
    pub step: usize,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// Not before this time.
    pub not_before: Option<Timestamp>,
}

/// Whether a step that ended so is started again by itself: what failed by itself, what never reached its host, and what
/// was lost when the plan says that it may run twice.
fn may_retry(step: &PlannedStep, result: &StepResult) -> bool {
    let again = match &result.ending {
        ending if ending.is_the_scripts_own() => true,
        Ending::Unreachable(_) => true,
        Ending::Lost(_) | Ending::Died(_) => step.idempotent,
        _ => false,
    };
    again && result.attempt <= step.retries
}

impl Lane {
    /// Returns the step that is open.
    #[must_use]
    pub fn open_step(&self) -> Option<usize> {
        self.steps.iter().position(|step| matches!(step, StepState::Open { .. }))
    }

    /// Returns what to start next: nothing while a step is open, after a failure that stops the host, or at the end.
    /// `planned` are the steps of the lane's group.
    #[must_use]
    pub fn next_step(&self, planned: &[PlannedStep]) -> Option<Next> {
        for (n, (state, step)) in self.steps.iter().zip(planned).enumerate() {
            match state {
                StepState::Waiting => return Some(Next { step: n, attempt: 1, not_before: None }),
                StepState::Ended(result) if result.ending.outcome() == Outcome::Ok => {}
                StepState::Ended(result) if may_retry(step, result) => {
                    let delay_ms = i64::try_from(step.retry_delay_s.saturating_mul(1000)).unwrap_or(i64::MAX);
                    let not_before = Some(result.ended.plus_ms(delay_ms));
                    return Some(Next { step: n, attempt: result.attempt + 1, not_before });
                }
                // Only what the script itself did may be ignored; a lost or cancelled host takes no more steps.
                StepState::Ended(result)
                    if step.on_failure == OnFailure::Continue && result.ending.is_the_scripts_own() => {}
                StepState::Open { .. } | StepState::Ended(_) => return None,
            }
        }
        None
    }

    /// Returns the worst outcome of the lane's steps; [`Outcome::Skipped`] when none ended.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let ended = self.steps.iter().filter_map(|step| match step {
            StepState::Ended(result) => Some(result.ending.outcome()),
            StepState::Waiting | StepState::Open { .. } => None,
        });
        match ended.max() {
            Some(Outcome::Ok) if self.steps.iter().any(|step| matches!(step, StepState::Waiting)) => Outcome::Skipped,
            Some(worst) => worst,
            None => Outcome::Skipped,
        }
    }
}
