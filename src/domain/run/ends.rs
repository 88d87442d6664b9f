//! How a task ends.
//!
//! **Invariant:** pure. An end is computed from the steps and from what people did; the event that says it is compared with
//! that and never believed against it.

use super::lane::Lane;
use super::{Run, Stage, TaskState};
use crate::base::time::Timestamp;
use crate::domain::outcome::Outcome;

impl Run {
    /// Ends the task. `said` is what the event calls it.
    pub(super) fn close(&mut self, said: Outcome, ended: Timestamp) {
        let computed = self.computed_outcome();
        let outcome = if self.was_called(computed, said) { said } else { computed };
        let (started, approved, timed) = match &self.stage {
            Stage::Running { since, approved, timed } => (Some(*since), Some(approved.clone()), *timed),
            _ => (None, None, None),
        };
        self.contradicted = (outcome != said).then_some(said);
        self.stage = Stage::Done { outcome, started, ended, approved, timed };
        self.holds.clear();
        self.batch_wait = None;
    }

    /// Whether an older version said this of an end that is computed as `outcome`: a task of which somebody had ended the work
    /// on some hosts had failed.
    fn was_called(&self, outcome: Outcome, said: Outcome) -> bool {
        let worst = self.lanes.iter().map(Lane::outcome).max();
        said == Outcome::Failed
            && outcome != Outcome::Ok
            && worst == Some(Outcome::Cancelled)
            && self.cancelled.is_none()
    }

    /// Returns how a task ends that ends now.
    fn computed_outcome(&self) -> Outcome {
        match &self.stage {
            Stage::Running { .. } => self.worst_outcome(),
            Stage::Done { outcome, .. } => *outcome,
            Stage::New | Stage::Ready { .. } if self.rejected.is_some() => Outcome::Rejected,
            Stage::New | Stage::Ready { .. } if self.cancelled.is_some() => Outcome::Cancelled,
            Stage::New | Stage::Ready { .. } if self.unresolvable => Outcome::Stale,
            // Its time passed: nothing else ends what never began.
            Stage::New | Stage::Ready { .. } => Outcome::Expired,
        }
    }

    /// Returns how a host's work ended; `None` while it has not.
    #[must_use]
    pub fn outcome_of(&self, lane: &Lane) -> Option<Outcome> {
        let planned = self.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
        (self.state() == TaskState::Done || lane.is_over(planned, self.timed_at())).then(|| lane.outcome())
    }

    /// Returns the outcome of everything that ran: the worst of its lanes, with hosts that never started left out.
    #[must_use]
    pub fn worst_outcome(&self) -> Outcome {
        let worst = self.lanes.iter().map(Lane::outcome).filter(|outcome| *outcome != Outcome::Skipped).max();
        match (worst, self.cancelled.is_some()) {
            (Some(worst @ (Outcome::Lost | Outcome::KillUnconfirmed)), _) => worst,
            (_, true) => Outcome::Cancelled,
            // Somebody ended the work on some hosts; what failed on others counts all the same.
            (Some(Outcome::Cancelled), false) => {
                let failed = |outcome: &Outcome| outcome.is_failure() && *outcome < Outcome::Cancelled;
                self.lanes.iter().map(Lane::outcome).filter(failed).max().unwrap_or(Outcome::Cancelled)
            }
            (Some(Outcome::Ok), false) if self.lanes.iter().any(|lane| lane.outcome() != Outcome::Ok) => {
                Outcome::Failed
            }
            (Some(worst), false) => worst,
            (None, false) => Outcome::Ok,
        }
    }
}
