//! Conditions of steps that only earlier results answer.
//!
//! **Invariant:** a condition is asked when its step's turn has come, before anything of the step is sent; its answer is an
//! event. One that has no answer is a failure of its step, never a quiet no.

use crate::domain::condition::Condition;
use crate::domain::outcome::{Ending, Outcome, OutputFacts, StepResult};
use crate::domain::run::lane::Next;
use crate::domain::run::{Event, Run, StepState};
use crate::engine::Engine;
use crate::engine::outbox::Outbox;

/// Lets a lane pass over the steps whose conditions do not hold; true when it passed any.
pub(super) fn pass(run: &mut Run, lane: usize, out: &mut Outbox) -> bool {
    let mut passed = false;
    loop {
        let (Next::Start { step: n, .. } | Next::Asks { step: n }) = run.next_step(lane) else { return passed };
        let Some(asked) = answer(run, lane, n) else { return passed };
        let Some(step) = run.step_name(lane, n) else { return passed };
        let (group, host) = (run.lanes[lane].group, run.lanes[lane].host.clone());
        match asked {
            Ok(true) => return passed,
            Ok(false) => Engine::record(run, Event::StepPassedOver { group, host, step }, out),
            Err(why) => {
                let attempt = run.lanes[lane].steps[n].next_attempt();
                let (group_again, host_again, step_again) = (group, host.clone(), step.clone());
                Engine::record(run, Event::StepStarted { group, host, step, attempt }, out);
                let (started, ended, output) = (out.now(), out.now(), OutputFacts::default());
                let result =
                    StepResult { attempt, ending: Ending::NotSent(why), started, ended, output, proved_by: None };
                let event = Event::StepEnded { group: group_again, host: host_again, step: step_again, result };
                Engine::record(run, event, out);
            }
        }
        passed = true;
    }
}

/// Asks the condition of a lane's step, if it has one that waits for results.
fn answer(run: &Run, lane: usize, n: usize) -> Option<Result<bool, String>> {
    let lane = &run.lanes[lane];
    let step = run.plan.group(lane.group)?.steps.get(n)?;
    let text = step.when.as_ref().filter(|_| lane.steps[n].state == StepState::Waiting)?;
    let condition = match Condition::parse(text) {
        Ok(condition) => condition,
        Err(why) => return Some(Err(why)),
    };
    if !condition.needs_results() {
        return None;
    }
    let host = run.plan.hosts.get(&lane.host)?;
    let mut results = Vec::new();
    for known in run.lanes.iter().filter(|known| known.host == lane.host) {
        let planned = run.plan.group(known.group).map_or(&[][..], |group| &group.steps);
        for (planned, step) in planned.iter().zip(&known.steps) {
            match &step.state {
                StepState::Ended(result) => {
                    let code = if let Ending::Exit(code) = result.ending { Some(code) } else { None };
                    results.push((planned.name.as_str(), result.ending.outcome(), code));
                }
                StepState::Skipped(_) => results.push((planned.name.as_str(), Outcome::Skipped, None)),
                StepState::Waiting | StepState::Open { .. } => {}
            }
        }
    }
    Some(condition.holds(&host.facts(&lane.host, (&run.plan.env, &run.plan.typed), &host.vars, results)))
}
