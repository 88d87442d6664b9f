//! Whether what was approved is still what would run.
//!
//! **Invariant:** a plan is made anew, from the same bytes and what stands in the configuration now, before it is
//! approved and before its first step; when it is another one, nothing of the old one runs.

use crate::base::ids::TaskId;
use crate::domain::plan::{Plan, resolve};
use crate::domain::plan_diff::{Difference, differences};
use crate::domain::policy::{Admission, Need, Refusal, Subject, missing};
use crate::domain::problem::Problem;
use crate::domain::record::view;
use crate::domain::run::{Event, Outcome, Run, TaskState};
use crate::domain::wire::read_task;
use crate::engine::outbox::Outbox;
use crate::engine::{Effect, Engine};

/// What a look at a task's plan found.
enum Found {
    /// It is the same.
    Same,
    /// It is another one, or needs other people's approval.
    Other { plan: Box<Plan>, needs: Vec<Need>, differences: Vec<Difference> },
    /// There is none any more.
    None(Vec<Problem>),
}

impl Engine {
    /// Makes a waiting task's plan anew, when anything may have changed since the last time; a task whose plan is another
    /// one waits for approval again. Returns whether it was the same.
    pub(super) fn recheck(&mut self, id: TaskId, out: &mut Outbox) -> bool {
        let Some(run) = self.runs.get(&id) else { return false };
        let before = run.state();
        if !matches!(before, TaskState::New | TaskState::Ready) || self.verified.get(&id) == Some(&self.generation) {
            return true;
        }
        let found = self.look_at_plan(run);
        self.verified.insert(id, self.generation);
        let Some(run) = self.runs.get_mut(&id) else { return false };
        match found {
            Found::Same => true,
            Found::Other { plan, needs, differences } => {
                let digest = plan.digest();
                Engine::record(run, Event::Stale { differences, needs, digest, plan }, out);
                if before != TaskState::New {
                    out.relocate(id, before, TaskState::New);
                }
                let view = serde_json::to_vec_pretty(&view(run)).expect("a view holds nothing that JSON cannot say");
                let plan = run.plan.canonical();
                out.durable(Effect::Replan { id, version: run.plan_version, plan, view });
                self.due.remove(&id);
                false
            }
            Found::None(problems) => {
                let problems = problems.iter().map(ToString::to_string).collect();
                Engine::record(run, Event::Unresolvable { problems }, out);
                self.close(id, Outcome::Stale, out);
                false
            }
        }
    }

    /// Refuses what would run under another plan than the one that ran.
    pub(super) fn differs(&self, id: TaskId) -> Result<(), Refusal> {
        let Some(run) = self.runs.get(&id) else { return Ok(()) };
        let first = match self.look_at_plan(run) {
            Found::Same => return Ok(()),
            Found::Other { differences, .. } => differences.first().map(ToString::to_string),
            Found::None(problems) => problems.first().map(ToString::to_string),
        };
        let first = first.unwrap_or_default();
        Err(Refusal(format!(
            "what ran is not what would run now ({first}); submit it again, so that it can be approved"
        )))
    }

    fn look_at_plan(&self, run: &Run) -> Found {
        let submission = match read_task(run.accepted.submission.as_bytes(), &self.library.zone) {
            Ok(submission) => submission,
            Err(unreadable) => return Found::None(unreadable.problems),
        };
        let plan = match resolve(&submission, &self.library) {
            Ok(plan) => plan,
            Err(problems) => return Found::None(problems),
        };
        let policy = &self.library.policy;
        let subject = Subject::of(&plan, &run.accepted.by, &run.accepted.claims, policy);
        let needs = policy.needs(&subject);
        if plan.digest() != run.digest {
            let differences = differences(&run.plan, &plan);
            return Found::Other { plan: Box::new(plan), needs, differences };
        }
        // A policy that asks for more than when the task came in asks for it now.
        let exempt = matches!(run.accepted.admission, Admission::Ready { .. }) && run.plan_version == 1;
        let votes: Vec<_> = run.approvals.iter().map(|(_, approval)| approval).collect();
        let enough = run.state() != TaskState::Ready || missing(&needs, &votes) == 0;
        let ended = run.state() == TaskState::Done;
        if exempt || ended || needs == run.needs || (enough && run.state() == TaskState::Ready) {
            return Found::Same;
        }
        let said = |needs: &[Need]| {
            let one = |need: &Need| {
                format!(
                    "{} of {}",
                    need.approvals,
                    if need.of.is_empty() { "all who may".to_owned() } else { need.of.join(", ") }
                )
            };
            Some(needs.iter().map(one).collect::<Vec<_>>().join("; "))
        };
        let difference =
            Difference { pointer: "policy: approvals".to_owned(), was: said(&run.needs), now: said(&needs) };
        Found::Other { plan: Box::new(plan), needs, differences: vec![difference] }
    }
}
