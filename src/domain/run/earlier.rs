//! What a step's script is told of the steps before it on its host.
//!
//! **Invariant:** pure, and the same however often it is asked: of a step that has begun nothing before it changes.

use serde_json::json;

use crate::base::ids::StepName;
use crate::domain::outcome::{Ending, StepResult};
use crate::domain::run::lane::Role;
use crate::domain::run::{Run, StepState};

/// What came before a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// The step that the host took last.
    pub previous: Option<Taken>,
    /// The step that failed, for what handles it or undoes the others.
    pub failed: Option<Taken>,
}

/// A step that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its name.
    pub step: StepName,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its exit code; 128 and the signal's number are not guessed at.
    pub code: Option<i32>,
    /// What it came to, as JSON.
    pub result: String,
}

impl Earlier {
    /// Returns what came before the step at position `step` of a lane.
    #[must_use]
    pub fn of(run: &Run, lane: usize, step: usize) -> Earlier {
        let Some(known) = run.lanes.get(lane) else { return Earlier::default() };
        let ended = |n: usize| match &known.steps.get(n)?.state {
            StepState::Ended(result) => Some((n, result)),
            _ => None,
        };
        let taken = |(n, result): (usize, &StepResult)| {
            let planned = run.plan.group(known.group)?.steps.get(n)?;
            Some(Taken::of(planned.name.clone(), planned.args.clone(), result))
        };
        let own = |n: &usize| known.steps[*n].is_step();
        match known.steps.get(step).map(|step| step.role) {
            Some(Role::Step) => {
                let last = (0..step).rev().filter(own).find_map(ended);
                Earlier { previous: last.and_then(taken), failed: None }
            }
            Some(Role::Handler(of)) => {
                let failed = ended(of).and_then(taken);
                Earlier { previous: failed.clone(), failed }
            }
            Some(Role::Rollback { .. }) => {
                // A step whose failure was let pass is not the one that rolls back: that is the last one.
                let mut ends = (0..known.steps.len()).rev().filter(own).filter_map(ended);
                let failed = ends.find(|(_, result)| result.ending != Ending::Exit(0)).and_then(taken);
                Earlier { previous: failed.clone(), failed }
            }
            None => Earlier::default(),
        }
    }
}

impl Taken {
    fn of(step: StepName, args: Vec<String>, result: &StepResult) -> Taken {
        let code = if let Ending::Exit(code) = result.ending { Some(code) } else { None };
        let said = json!({
            "step": step,
            "outcome": result.ending.outcome(),
            "ending": result.ending,
            "exit_code": code,
            "attempt": result.attempt,
            "started": result.started,
            "ended": result.ended,
        });
        Taken { step, args, code, result: said.to_string() }
    }
}
