//! What is heard of steps that run, before they end.
//!
//! **Invariant:** nothing starts or ends because of it; it is recorded of the attempt that it is about, while that runs.

use std::collections::BTreeSet;

use crate::base::ids::{GroupNo, HostName, StepName, TaskId};
use crate::domain::callback::Attempt;
use crate::domain::delegate::Report;
use crate::domain::run::lane::Lane;
use crate::domain::run::{Event, StepState};
use crate::engine::Engine;
use crate::engine::outbox::Outbox;

/// How often a script's words are recorded at most, and how many of them of one attempt.
const SAID_EVERY_MS: i64 = 1000;
const SAID_MAX: u32 = 1000;

impl Engine {
    pub(super) fn on_kill_unconfirmed(
        &mut self,
        id: TaskId,
        group: GroupNo,
        host: HostName,
        step: StepName,
        why: String,
        out: &mut Outbox,
    ) {
        let Some(run) = self.runs.get_mut(&id) else { return };
        let open = run.lane(group, &host).and_then(Lane::open_step);
        if open.is_some() && open == run.step_index(group, &step) {
            Engine::record(run, Event::KillUnconfirmed { group, host, step, why }, out);
        }
    }

    /// Records how far a script says that it is, if it is that attempt that runs; not more often than anybody reads it.
    pub(super) fn on_said(&mut self, attempt: Attempt, text: String, out: &mut Outbox) {
        let Attempt { task, group, host, step, attempt } = attempt;
        let Some(run) = self.runs.get_mut(&task) else { return };
        let Some(n) = run.step_index(group, &step) else { return };
        let Some(known) = run.lane(group, &host).and_then(|lane| lane.steps.get(n)) else { return };
        let runs = matches!(&known.state, StepState::Open { attempt: open, .. } if *open == attempt);
        let rests = known.said.as_ref().is_none_or(|said| {
            said.words < SAID_MAX && (out.now() < said.at || out.now().0.saturating_sub(said.at.0) >= SAID_EVERY_MS)
        });
        if runs && rests {
            Engine::record(run, Event::StepSaid { group, host, step, text }, out);
        }
    }

    /// Records that the host of a step that runs cannot be reached, or can be again.
    pub(super) fn on_reach(&mut self, attempt: Attempt, barrier: Option<String>, out: &mut Outbox) {
        let Attempt { task, group, host, step, attempt } = attempt;
        let Some(run) = self.runs.get_mut(&task) else { return };
        let Some(n) = run.step_index(group, &step) else { return };
        let known = match run.lane(group, &host).and_then(|lane| lane.steps.get(n)).map(|known| &known.state) {
            Some(StepState::Open { attempt: open, unreachable, .. }) if *open == attempt => unreachable.is_some(),
            _ => return,
        };
        match barrier {
            Some(why) if !known => Engine::record(run, Event::HostUnreachable { group, host, step, why }, out),
            None if known => Engine::record(run, Event::HostReachable { group, host, step }, out),
            _ => {}
        }
    }

    /// Records how targets fare, if it is that attempt that runs and they are its targets.
    pub(super) fn on_reported(&mut self, attempt: Attempt, mut reports: Vec<Report>, out: &mut Outbox) {
        let Attempt { task, group, host, step, attempt } = attempt;
        let Some(run) = self.runs.get_mut(&task) else { return };
        let (Some(n), Some(planned)) = (run.step_index(group, &step), run.plan.group(group)) else { return };
        let Some(known) = run.lane(group, &host).and_then(|lane| lane.steps.get(n)) else { return };
        let targets: BTreeSet<&HostName> = planned.targets.iter().collect();
        reports.retain(|report| targets.contains(&report.target) && known.targets.get(&report.target) != Some(report));
        let runs = matches!(&known.state, StepState::Open { attempt: open, .. } if *open == attempt);
        if runs && !reports.is_empty() {
            Engine::record(run, Event::TargetsReported { group, host, step, reports }, out);
        }
    }
}
