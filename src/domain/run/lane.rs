//! One host's way through the steps of one group, and what it takes next.
//!
//! **Invariant:** pure. What a lane takes next follows from its steps' states and the plan alone, so the daemon, recovery
//! and every screen say the same.

use crate::base::ids::{GroupNo, HostName};
use crate::base::time::Timestamp;
use crate::domain::plan::PlannedStep;
use crate::domain::run::outcome::{Ending, Outcome, StepResult};
use crate::domain::template::{OnFailure, Trigger};

/// Where one step stands on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepState {
    /// Nothing was sent, or it is to be taken again.
    Waiting,
    /// The start is on disk, so the host may have run some of it.
    Open {
        /// Which attempt, from 1.
        attempt: u32,
        /// Since when.
        since: Timestamp,
        /// Why nobody can say that it is gone, once it was to be ended.
        unconfirmed: Option<String>,
    },
    /// It ended.
    Ended(StepResult),
    /// Somebody let the host go on without it.
    Skipped,
}

/// One step of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStep {
    /// Where it stands.
    pub state: StepState,
    /// What earlier attempts came to.
    pub earlier: Vec<StepResult>,
    /// How many attempts were made before somebody wanted it taken again.
    pub spent: u32,
    /// Whether somebody let it begin, where it waits for that.
    pub released: bool,
    /// What the script of the last attempt said last of how far it is.
    pub said: Option<Said>,
}

/// How far a script says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// When.
    pub at: Timestamp,
    /// Its words.
    pub text: String,
    /// How often it said something.
    pub words: u32,
}

impl LaneStep {
    fn new() -> LaneStep {
        LaneStep { state: StepState::Waiting, earlier: Vec::new(), spent: 0, released: false, said: None }
    }

    /// Notes what the script says; `None` when none runs.
    pub(super) fn say(&mut self, at: Timestamp, text: &str) -> Option<()> {
        let words = self.said.as_ref().map_or(0, |said| said.words) + 1;
        matches!(self.state, StepState::Open { .. })
            .then(|| self.said = Some(Said { at, text: text.to_owned(), words }))
    }

    /// Returns the number of the next attempt.
    #[must_use]
    pub fn next_attempt(&self) -> u32 {
        let last = match &self.state {
            StepState::Ended(result) => Some(result),
            _ => self.earlier.last(),
        };
        last.map_or(1, |result| result.attempt + 1)
    }

    /// Puts the result of the last attempt to the earlier ones.
    fn set_aside(&mut self, state: StepState) {
        if let StepState::Ended(result) = std::mem::replace(&mut self.state, state) {
            self.spent = result.attempt;
            self.earlier.push(result);
        }
        self.released = false;
    }
}

/// One host's way through the steps of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The group.
    pub group: GroupNo,
    /// The host.
    pub host: HostName,
    /// Its steps, in the plan's order.
    pub steps: Vec<LaneStep>,
    /// Whether somebody ended its work.
    pub stopped: bool,
    /// Which batch of its group it is in, from 1.
    pub batch: u32,
}

/// What a lane takes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Nothing: a step is open, one failed, somebody ended it, or all is done.
    Nothing,
    /// A step to start.
    Start {
        /// The step's position in its group.
        step: usize,
        /// Which attempt, from 1.
        attempt: u32,
        /// Not before this time.
        not_before: Option<Timestamp>,
    },
    /// A step that waits until somebody lets it begin.
    Asks {
        /// The step's position in its group.
        step: usize,
    },
}

/// Whether a step that ended so is started again by itself: what failed by itself, what never reached its host, and what
/// was lost when the plan says that it may run twice.
fn may_retry(step: &PlannedStep, result: &StepResult, spent: u32) -> bool {
    let again = match &result.ending {
        ending if ending.is_the_scripts_own() => true,
        Ending::Unreachable(_) => true,
        Ending::Lost(_) | Ending::Died(_) => step.idempotent,
        _ => false,
    };
    again && result.attempt.saturating_sub(spent) <= step.retries
}

impl Lane {
    /// Returns a lane on which nothing happened.
    #[must_use]
    pub fn new(group: GroupNo, host: HostName, steps: usize) -> Lane {
        Lane { group, host, steps: vec![LaneStep::new(); steps], stopped: false, batch: 1 }
    }

    /// Returns the step that is open.
    #[must_use]
    pub fn open_step(&self) -> Option<usize> {
        self.steps.iter().position(|step| matches!(step.state, StepState::Open { .. }))
    }

    /// Returns the step the lane is at: the first that it did not get past.
    #[must_use]
    pub fn at(&self, planned: &[PlannedStep]) -> Option<usize> {
        self.steps.iter().zip(planned).position(|(step, planned)| match &step.state {
            StepState::Skipped => false,
            StepState::Ended(result) if result.ending.outcome() == Outcome::Ok => false,
            // Only what the script itself did may be ignored; a lost or cancelled host takes no more steps.
            StepState::Ended(result) => {
                let ignored = planned.on_failure == OnFailure::Continue && result.ending.is_the_scripts_own();
                !ignored || may_retry(planned, result, step.spent)
            }
            StepState::Waiting | StepState::Open { .. } => true,
        })
    }

    /// Returns what to start next. `planned` are the steps of the lane's group, `timed` is when timed steps begin.
    #[must_use]
    pub fn next_step(&self, planned: &[PlannedStep], timed: Option<Timestamp>) -> Next {
        let Some(n) = self.at(planned).filter(|_| !self.stopped) else { return Next::Nothing };
        let (step, plan) = (&self.steps[n], &planned[n]);
        let start = |not_before| Next::Start { step: n, attempt: step.next_attempt(), not_before };
        match &step.state {
            StepState::Waiting => match (plan.trigger, timed) {
                (Trigger::Auto, _) => start(None),
                _ if step.released => start(None),
                (Trigger::Timed, Some(time)) => start(Some(time)),
                (Trigger::Manual | Trigger::Timed, _) => Next::Asks { step: n },
            },
            StepState::Ended(result) if may_retry(plan, result, step.spent) => {
                let delay_ms = i64::try_from(plan.retry_delay_s.saturating_mul(1000)).unwrap_or(i64::MAX);
                start(Some(result.ended.plus_ms(delay_ms)))
            }
            StepState::Open { .. } | StepState::Ended(_) | StepState::Skipped => Next::Nothing,
        }
    }

    /// Whether a step ended badly, and nothing more comes of it by itself.
    #[must_use]
    pub fn has_failed(&self, planned: &[PlannedStep], timed: Option<Timestamp>) -> bool {
        self.open_step().is_none()
            && !matches!(self.outcome(), Outcome::Ok | Outcome::Skipped)
            && self.next_step(planned, timed) == Next::Nothing
    }

    /// Whether nothing was ever sent.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.steps.iter().all(|step| step.state == StepState::Waiting && step.earlier.is_empty())
    }

    /// Whether the next group may follow: every step ended well, or somebody let the host go on without it.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.steps.iter().all(|step| match &step.state {
            StepState::Ended(result) => result.ending.outcome() == Outcome::Ok,
            StepState::Skipped => true,
            StepState::Waiting | StepState::Open { .. } => false,
        })
    }

    /// Takes a step and everything after it again.
    pub(super) fn retry_from(&mut self, step: usize) {
        self.stopped = false;
        for step in &mut self.steps[step..] {
            step.set_aside(StepState::Waiting);
        }
    }

    /// Goes on without a step.
    pub(super) fn skip(&mut self, step: usize) {
        self.steps[step].set_aside(StepState::Skipped);
    }

    /// Returns the worst outcome of the lane's steps, [`Outcome::Skipped`] when none was taken. A step that somebody
    /// skipped after it had failed counts as what it was.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let of = |step: &LaneStep| match &step.state {
            StepState::Ended(result) => Some(result.ending.outcome()),
            StepState::Skipped => Some(step.earlier.last().map_or(Outcome::Ok, |result| result.ending.outcome())),
            StepState::Waiting | StepState::Open { .. } => None,
        };
        let unfinished = self.steps.iter().any(|step| of(step).is_none());
        match self.steps.iter().filter_map(of).max() {
            None | Some(Outcome::Ok) if unfinished && self.stopped => Outcome::Cancelled,
            Some(Outcome::Ok) if unfinished => Outcome::Skipped,
            Some(worst) => worst,
            None => Outcome::Skipped,
        }
    }
}
