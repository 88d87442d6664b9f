//! What becomes of an order: one validator for the dashboard, the CLI and scripts.
//!
//! **Invariant:** an order about an unfinished task is answered by an event in its journal, accepted or refused
//! with the reason; an order about anything else is refused into `bad/`.

use crate::base::ids::TaskId;
use crate::domain::order::{Act, Order};
use crate::domain::policy::{Approval, Refusal};
use crate::domain::problem::Problem;
use crate::domain::run::{Event, Outcome, Run, Stage};
use crate::engine::outbox::Outbox;
use crate::engine::{Dropped, Effect, Engine};

impl Engine {
    pub(super) fn on_order(&mut self, file: Dropped, out: &mut Outbox) {
        let order = match Order::read(&file.bytes, &self.library.zone) {
            Ok(order) => order,
            Err(_) if file.may_grow => return,
            Err(problems) => {
                return out.durable(Effect::Refuse { drop_box: file.drop_box, key: file.key, problems });
            }
        };
        let Some(id) = self.find(&order.task).filter(|id| self.runs.contains_key(id)) else {
            let wanted = match self.find(&order.task) {
                Some(id) => format!("a task that has not ended; task {id} has"),
                None => "the number or name of a task; try: spoolgate ls".to_owned(),
            };
            let problems = vec![Problem::new("/task", &order.task, wanted)];
            return out.durable(Effect::Refuse { drop_box: file.drop_box, key: file.key, problems });
        };
        let consume = Effect::Consume { drop_box: file.drop_box, key: file.key.clone() };
        self.obey(id, order.act, file, out);
        out.durable(consume);
    }

    /// Finds a task by its number or by the name it was dropped under.
    fn find(&self, word: &str) -> Option<TaskId> {
        let by_number = word.parse().ok().map(TaskId).filter(|id| id.0 < self.next_id && id.0 > 0);
        self.names
            .get(word)
            .copied()
            .filter(|id| self.runs.contains_key(id))
            .or(by_number)
            .or_else(|| self.names.get(word).copied())
    }

    fn obey(&mut self, id: TaskId, act: Act, file: Dropped, out: &mut Outbox) {
        let run = self.runs.get_mut(&id).expect("the caller found it");
        let by = file.owner.actor.clone();
        if let Err(Refusal(why)) = permitted(&self.library.policy, run, &act, &file) {
            let event = Event::OrderRefused { by, act: act.word().to_owned(), why, order: file.key };
            return Engine::record(run, event, out);
        }
        let before = run.state();
        match act {
            Act::Approve { digest, start } => {
                let approval = Approval { by, digest, start };
                Engine::record(run, Event::Approved { approval, order: file.key }, out);
                if run.state() != before {
                    out.relocate(id, before, run.state());
                    self.watch_id(id);
                }
            }
            Act::Reject { reason } => {
                Engine::record(run, Event::Rejected { by, reason, order: file.key }, out);
                self.close(id, Outcome::Rejected, out);
            }
            Act::Cancel { reason } => {
                Engine::record(run, Event::Cancelled { by, reason, order: file.key }, out);
                match run.stage {
                    Stage::Running { .. } => self.stop_running(id, out),
                    _ => self.close(id, Outcome::Cancelled, out),
                }
            }
        }
    }
}

/// Decides whether an act may be done: by this person, in this state, for this plan.
fn permitted(policy: &crate::domain::policy::Policy, run: &Run, act: &Act, file: &Dropped) -> Result<(), Refusal> {
    let person = &file.owner;
    let (submitter, work) = (&run.accepted.by, run.plan.work_name());
    let state = run.state().word();
    match act {
        Act::Approve { digest, .. } => {
            policy.may_approve(person, submitter, work)?;
            if !matches!(run.stage, Stage::New) {
                return Err(Refusal(format!("task {} is {state}; only a new task can be approved", run.id)));
            }
            if *digest != run.accepted.digest {
                return Err(Refusal(format!(
                    "this approves the plan {}, but the task's plan is {}; look at it again: spoolgate show {}",
                    digest.short(),
                    run.accepted.digest.short(),
                    run.id
                )));
            }
            if run.approvals.iter().any(|(_, approval)| approval.by.uid == person.actor.uid) {
                return Err(Refusal(format!("{} has approved this task already", person.actor.user)));
            }
            Ok(())
        }
        Act::Reject { .. } => {
            policy.may_reject(person, work)?;
            match run.stage {
                Stage::New | Stage::Ready { .. } => Ok(()),
                _ => Err(Refusal(format!("task {} is {state}; it can only be cancelled now", run.id))),
            }
        }
        Act::Cancel { .. } => {
            policy.may_cancel(person, submitter, work)?;
            match &run.cancelled {
                None => Ok(()),
                Some(_) => Err(Refusal(format!("task {} is being cancelled already", run.id))),
            }
        }
    }
}
