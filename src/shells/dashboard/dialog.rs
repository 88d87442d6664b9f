//! Questions that are answered before anything is done.
//!
//! **Invariant:** pure. A dialog names what will happen; an approval carries the digest of the plan that is on the screen,
//! and is open to nobody whom policy does not let approve.

use std::sync::Arc;

use crate::base::digest::Digest;
use crate::base::ids::{TaskId, TemplateName};
use crate::base::limits::TITLE_BYTES_MAX;
use crate::base::time::Timestamp;
use crate::domain::level::Level;
use crate::domain::order::Wish;
use crate::domain::plan::Plan;
use crate::domain::resolve::resolve;
use crate::domain::right::Right;
use crate::domain::run::{Run, TaskState};
use crate::domain::wire::read_task;
use crate::shells::dashboard::context::Context;
use crate::shells::dashboard::edit::Edit;
use crate::shells::dashboard::form::Form;
use crate::shells::dashboard::message::Fresh;
use crate::shells::dashboard::words::names;
use crate::shells::dashboard::world::World;

/// A question over the screen.
#[derive(Debug)]
pub(super) enum Dialog {
    Approve(Approval),
    Confirm(Confirm),
    Choose(Choose),
    Help(Help),
    Form(Box<Form>),
}

impl Dialog {
    /// The tasks it is about.
    pub(super) fn tasks(&self) -> Vec<TaskId> {
        match self {
            Dialog::Approve(approval) => vec![approval.id],
            Dialog::Confirm(confirm) => confirm.targets.clone(),
            Dialog::Choose(_) | Dialog::Help(_) | Dialog::Form(_) => Vec::new(),
        }
    }
}

/// How many sections the approval has.
pub(super) const SECTIONS: usize = 5;
/// Which of them must be read to the end before something of high risk is approved: all but the raw text.
pub(super) const SECTIONS_TO_READ: usize = 4;
/// The section that says what differs.
pub(super) const DIFF: usize = 3;
/// How long the field stays closed for something of high risk.
const PAUSE_MS: i64 = 3_000;
/// How long it is shut after a wrong try, and after keys that nobody typed.
const WRONG_MS: i64 = 1_000;
const BURST_MS: i64 = 2_000;

/// Whether exactly this may run.
#[derive(Debug)]
pub(super) struct Approval {
    pub(super) id: TaskId,
    /// The plan that is on the screen; `None` until it was read.
    pub(super) shown: Option<(Digest, Arc<Plan>)>,
    /// What it would be if it were planned now, and of which configuration and plan that was found out.
    pub(super) fresh: Option<(u64, Digest, Fresh)>,
    pub(super) opened: Timestamp,
    pub(super) section: usize,
    pub(super) tops: [usize; SECTIONS],
    /// Which sections were seen to their ends.
    pub(super) read: [bool; SECTIONS],
    pub(super) field: Edit,
    /// The plan that was on the screen before, or that was submitted, when it is another one.
    pub(super) was: Option<Arc<Plan>>,
    /// Whether it changed while somebody looked.
    pub(super) changed: bool,
    /// Until when nothing can be typed, because what came last was wrong or was not typed.
    shut: Option<Timestamp>,
}

/// Why an approval cannot be given now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The plan is still read.
    Reading,
    /// The task does not wait any more.
    NotNew(TaskState),
    /// Policy does not let this person.
    NotAllowed(String),
    /// They have already.
    Given,
    /// Nothing can be made of it any more.
    Unresolvable(Vec<String>),
    /// It was shut for a moment by what came last.
    Shut,
    /// It opens in so many seconds.
    Pause(i64),
    /// These sections were not read to their ends.
    Unread(Vec<usize>),
}

impl Approval {
    pub(super) fn of(id: TaskId, now: Timestamp) -> Approval {
        Approval {
            id,
            shown: None,
            fresh: None,
            opened: now,
            section: 0,
            tops: [0; SECTIONS],
            read: [false; SECTIONS],
            field: Edit::at_most(TITLE_BYTES_MAX),
            was: None,
            changed: false,
            shut: None,
        }
    }

    /// Throws away what was typed, which was wrong, and takes nothing for a moment: the next line of a paste is no try.
    pub(super) fn shut_wrong(&mut self, now: Timestamp) {
        self.shut_until(now.plus_ms(WRONG_MS));
    }

    /// Throws away what was typed and what comes with it: nobody typed it.
    pub(super) fn shut_burst(&mut self, now: Timestamp) {
        self.shut_until(now.plus_ms(BURST_MS));
    }

    fn shut_until(&mut self, until: Timestamp) {
        self.field.clear();
        self.shut = self.shut.max(Some(until));
    }

    pub(super) fn is_shut(&self, now: Timestamp) -> bool {
        // A clock that was set back does not shut it for long.
        self.shut.is_some_and(|until| now < until && until.0.saturating_sub(now.0) <= BURST_MS)
    }

    /// Why the field is closed; `None` while it is open.
    pub(super) fn closed(&self, world: &World) -> Option<Closed> {
        let Some(run) = world.run(self.id) else { return Some(Closed::Reading) };
        if let Some(why) = world.why_unreadable(self.id) {
            return Some(Closed::NotAllowed(why.clone()));
        }
        if run.state() != TaskState::New {
            return Some(Closed::NotNew(run.state()));
        }
        if run.approvals.iter().any(|(_, approval)| approval.by.uid == world.me().actor.uid) {
            return Some(Closed::Given);
        }
        if let Some(Err(why)) = world.may(Right::Approve, run) {
            return Some(Closed::NotAllowed(why));
        }
        if let Some((_, _, Fresh::Unresolvable(problems))) = &self.fresh {
            return Some(Closed::Unresolvable(problems.clone()));
        }
        let Some((_, plan)) = &self.shown else { return Some(Closed::Reading) };
        if self.is_shut(world.now()) {
            return Some(Closed::Shut);
        }
        if world.risk(plan).level < Level::High {
            return None;
        }
        let waited = world.now().0.saturating_sub(self.opened.0);
        if waited < PAUSE_MS {
            return Some(Closed::Pause(PAUSE_MS.saturating_sub(waited).saturating_add(999) / 1000));
        }
        let unread: Vec<usize> = (0..SECTIONS_TO_READ).filter(|section| !self.read[*section]).collect();
        (!unread.is_empty()).then_some(Closed::Unread(unread))
    }

    /// What is to be typed.
    pub(super) fn phrase(&self, world: &World) -> Option<String> {
        self.shown.as_ref().map(|(_, plan)| world.risk(plan).phrase(plan))
    }

    /// Whether the last run to compare with is still read.
    pub(super) fn is_reading(&self, world: &World) -> bool {
        let has_template = world.run(self.id).is_some_and(|run| run.plan.template.is_some());
        has_template && world.previous(self.id).is_none()
    }

    /// Puts on the screen what would run now; whatever was typed or read of another plan counts no longer.
    pub(super) fn refresh(&mut self, cx: Context<'_>) {
        let Some(run) = cx.world.run(self.id) else { return };
        if self.fresh.as_ref().is_none_or(|(of, plan, _)| (*of, *plan) != (cx.world.generation(), run.digest)) {
            self.fresh = Some((cx.world.generation(), run.digest, plan_anew(cx, run)));
        }
        let (digest, plan) = match &self.fresh {
            Some((_, _, Fresh::Differs(plan))) => (plan.digest(), plan),
            _ => (run.digest, &run.plan),
        };
        match &self.shown {
            Some((known, _)) if *known == digest => return,
            Some((_, was)) => {
                (self.was, self.changed) = (Some(Arc::clone(was)), true);
                self.field.clear();
                self.read = [false; SECTIONS];
                self.opened = cx.world.now();
            }
            None if digest != run.digest => self.was = Some(Arc::clone(&run.plan)),
            None => {}
        }
        if self.was.is_some() {
            (self.section, self.tops) = (DIFF, [0; SECTIONS]);
        }
        self.shown = Some((digest, Arc::clone(plan)));
    }
}

/// What a task would be if it were planned now.
fn plan_anew(cx: Context<'_>, run: &Run) -> Fresh {
    let Some(library) = cx.world.library() else { return Fresh::Same };
    let read = read_task(run.accepted.submission.as_bytes(), &library.zone).map_err(|unreadable| unreadable.problems);
    if library.ssh.is_some() {
        // Its hosts are asked about by the daemon, which compares before it takes an approval.
        return Fresh::Same;
    }
    match read.and_then(|submission| resolve(&submission, library)) {
        Err(problems) => {
            Fresh::Unresolvable(problems.iter().map(|problem| names::problem(cx.words, problem)).collect())
        }
        Ok(plan) if plan.digest() == run.digest => Fresh::Same,
        Ok(plan) => Fresh::Differs(Arc::new(plan)),
    }
}

/// Whether something is to be done to tasks.
#[derive(Debug)]
pub(super) struct Confirm {
    pub(super) wish: Wish,
    pub(super) targets: Vec<TaskId>,
    pub(super) reason: Edit,
    /// Whether nothing is sent without a reason.
    pub(super) needs_reason: bool,
    /// What is to be typed first, where a habit must not answer.
    pub(super) phrase: Option<String>,
    pub(super) typed: Edit,
    /// Whether the reason is typed now.
    pub(super) at_reason: bool,
    pub(super) problem: Option<String>,
}

impl Confirm {
    pub(super) fn of(wish: Wish, targets: Vec<TaskId>, marked: bool) -> Confirm {
        let needs_reason = matches!(
            wish,
            Wish::Reject | Wish::Cancel { .. } | Wish::CancelBatch { .. } | Wish::Hold | Wish::Skip { .. }
        );
        let phrase = matches!(wish, Wish::Retry { again: true, .. }).then(|| "run again".to_owned());
        let phrase = phrase.or_else(|| (marked || targets.len() > 1).then(|| targets.len().to_string()));
        Confirm {
            wish,
            targets,
            reason: Edit::at_most(TITLE_BYTES_MAX),
            needs_reason,
            at_reason: phrase.is_none(),
            phrase,
            typed: Edit::at_most(TITLE_BYTES_MAX),
            problem: None,
        }
    }
}

/// Which of several things is meant.
#[derive(Debug)]
pub(super) struct Choose {
    pub(super) title: String,
    pub(super) items: Vec<(String, Chosen)>,
    pub(super) at: usize,
}

/// What follows a choice.
#[derive(Clone, Debug)]
pub(super) enum Chosen {
    /// The same question as for every act.
    Wish(TaskId, Wish),
    /// A form for a template, or for a script without one.
    Template(Option<TemplateName>),
}

/// The keys that work here.
#[derive(Debug, Default)]
pub(super) struct Help {
    pub(super) filter: Edit,
    pub(super) top: usize,
}
