//! What can be done with a task as it stands: what hints offer, and why a key does nothing.
//!
//! **Invariant:** pure. A question is only asked whose answer the daemon would take, as far as this screen knows; the daemon
//! checks again.

use crate::base::ids::TaskId;
use crate::domain::order::{Which, Wish};
use crate::domain::outcome::Outcome;
use crate::domain::right::Right;
use crate::domain::run::lane::{Lane, Next};
use crate::domain::run::{Run, Stage, StepState, TaskState};
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::keys::Action;
use crate::shells::dashboard::words::{Words, fill, names};

/// Returns what an act is called, as a command and of what it was done to.
pub(super) fn called(words: &Words, wish: &Wish) -> (&'static str, &'static str) {
    match wish {
        Wish::Approve { .. } => (words.hint_approve, words.be_approved),
        Wish::Reject => (words.hint_reject, words.be_rejected),
        Wish::Withdraw => (words.act_withdraw, words.be_withdrawn),
        Wish::Cancel { .. } | Wish::CancelBatch { .. } => (words.hint_cancel, words.be_cancelled),
        Wish::Hold => (words.hint_hold, words.be_held),
        Wish::Release | Wish::ReleaseStep { .. } => (words.hint_release, words.be_released),
        Wish::Retry { .. } => (words.hint_retry, words.be_retried),
        Wish::Skip { .. } => (words.act_skip, words.be_skipped),
        Wish::Continue { .. } => (words.act_continue, words.be_continued),
        // It is about no task.
        Wish::Acknowledge { .. } => (words.audit, words.audit),
    }
}

/// Says why an order would be refused as the task stands; `None` when nothing speaks against it.
pub(super) fn why_not(cx: Context<'_>, run: &Run, wish: &Wish) -> Option<String> {
    let words = cx.words;
    let (state, id) = (run.state(), run.id.to_string());
    let fits = match wish {
        Wish::Approve { .. } => state == TaskState::New,
        Wish::Withdraw if !has_voted(cx, run) => return Some(fill(words.not_voted, &[&id])),
        Wish::Reject | Wish::Withdraw => matches!(state, TaskState::New | TaskState::Ready),
        Wish::Cancel { hosts } if hosts.is_empty() => {
            if run.cancelled.is_some() && state != TaskState::Done {
                return Some(fill(words.cancelled_already, &[&id]));
            }
            state != TaskState::Done
        }
        Wish::Release if state != TaskState::Done && run.held().is_none() => return Some(fill(words.not_held, &[&id])),
        Wish::Hold | Wish::Release => state != TaskState::Done,
        Wish::Retry { .. } if !has_begun(run) => return Some(words.nothing_to_retry.to_owned()),
        Wish::Retry { .. } => true,
        Wish::Acknowledge { .. } => false,
        Wish::Cancel { .. }
        | Wish::CancelBatch { .. }
        | Wish::ReleaseStep { .. }
        | Wish::Continue { .. }
        | Wish::Skip { .. } => state == TaskState::Running,
    };
    (!fits).then(|| fill(words.wrong_state, &[&id, names::state(words, state), called(words, wish).1]))
}

/// Whether a key does something with what is selected or marked: what hints show.
pub(super) fn can(cx: Context<'_>, targets: &[TaskId], action: Action) -> bool {
    targets.iter().any(|id| can_with(cx, *id, action))
}

fn can_with(cx: Context<'_>, id: TaskId, action: Action) -> bool {
    let Some(run) = cx.world.run(id) else { return false };
    let wish = match action {
        Action::Approve | Action::Reject => Wish::Reject,
        Action::Withdraw => Wish::Withdraw,
        Action::Cancel => Wish::Cancel { hosts: Vec::new() },
        Action::Hold if run.held().is_some() => return false,
        Action::Hold => Wish::Hold,
        Action::Release => Wish::Release,
        Action::Retry => Wish::Retry { which: Which::Failed, step: None, again: false },
        _ => return true,
    };
    let may = |wish: &Wish| !matches!(cx.world.may(wish.right(), run), Some(Err(_)));
    match action {
        Action::Approve => {
            let may = !matches!(cx.world.may(Right::Approve, run), Some(Err(_)));
            run.state() == TaskState::New && !has_voted(cx, run) && may
        }
        Action::Release => waits_for_somebody(run) && may(&wish),
        Action::Retry => has_begun(run) && run.lanes.iter().any(|lane| could_be_better(run, lane)) && may(&wish),
        _ => why_not(cx, run, &wish).is_none() && may(&wish),
    }
}

/// Whether whoever looks has approved it.
pub(super) fn has_voted(cx: Context<'_>, run: &Run) -> bool {
    run.approvals.iter().any(|(_, vote)| vote.by.uid == cx.world.me().actor.uid)
}

/// Whether something of it was ever to be started.
pub(super) fn has_begun(run: &Run) -> bool {
    matches!(run.stage, Stage::Running { .. } | Stage::Done { approved: Some(_), .. })
}

/// Whether something was sent to a host.
pub(super) fn is_sent(lane: &Lane) -> bool {
    lane.steps.iter().any(|step| matches!(step.state, StepState::Open { .. } | StepState::Ended(_)))
}

/// Whether some of these hosts would run a step a second time that ended well, if they began where they stopped.
pub(super) fn runs_again(run: &Run, which: &Which) -> bool {
    let again = |lane: &Lane| lane.done_from(lane.at(&run.plan.group(lane.group)?.steps)?);
    run.lanes.iter().any(|lane| which.means(&lane.host, lane.outcome()) && again(lane).is_some())
}

/// Whether a host failed, or never came to its end and will not by itself.
pub(super) fn could_be_better(run: &Run, lane: &Lane) -> bool {
    match lane.outcome() {
        Outcome::Ok => false,
        Outcome::Skipped => run.state() == TaskState::Done,
        _ => true,
    }
}

/// Whether it is held, or a batch or a step of it waits until somebody lets it begin.
fn waits_for_somebody(run: &Run) -> bool {
    let asks = |lane: &Lane| {
        let planned = run.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
        matches!(lane.next_step(planned, run.timed_at()), Next::Asks { .. })
    };
    let running = run.state() == TaskState::Running;
    let gate = run.batch_wait.as_ref().is_some_and(|wait| wait.gate);
    (run.held().is_some() && run.state() != TaskState::Done) || running && (gate || run.lanes.iter().any(asks))
}
