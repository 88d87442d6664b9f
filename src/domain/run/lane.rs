//! One host's way through the steps of one group, and what it takes next.
//!
//! **Invariant:** pure. What a lane takes next follows from its steps' states and the plan alone, so the daemon, recovery
//! and every screen say the same.

use std::collections::BTreeMap;

use crate::base::ids::{GroupNo, HostName, StepName};
use crate::base::time::Timestamp;
use crate::domain::delegate::{Report, progress};
use crate::domain::outcome::{Ending, Outcome, StepResult};
use crate::domain::plan::{Part, PlannedStep};
use crate::domain::run::event::Event;
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
        /// Why its host cannot be asked how it fares, as long as it cannot.
        unreachable: Option<String>,
    },
    /// It ended.
    Ended(StepResult),
    /// The host goes on without it.
    Skipped(Skip),
}

/// Why a host goes on without a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// Somebody wanted it.
    Person,
    /// Its condition said so.
    Condition,
}

/// What a step of a lane is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// One of the host's steps.
    Step,
    /// Taken when the step at this position failed.
    Handler(usize),
    /// Undoes the step at this position.
    Rollback {
        /// The position.
        of: usize,
        /// Whether also when that step itself failed.
        partial: bool,
    },
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
    /// What the engine that carries it out said of each target.
    pub targets: BTreeMap<HostName, Report>,
    /// What it is for.
    pub role: Role,
    /// Whether the plan says that this host does not take it.
    pub excluded: bool,
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
    fn new(role: Role, excluded: bool) -> LaneStep {
        let state = if excluded { StepState::Skipped(Skip::Condition) } else { StepState::Waiting };
        LaneStep {
            state,
            earlier: Vec::new(),
            spent: 0,
            released: false,
            said: None,
            targets: BTreeMap::new(),
            role,
            excluded,
        }
    }

    /// Whether it is one of the host's steps, and not only taken when one of them failed.
    #[must_use]
    pub fn is_step(&self) -> bool {
        self.role == Role::Step
    }

    /// Whether it belongs to what the host did or will do: a step, or a part for failures that was needed.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.is_step() || self.state != StepState::Waiting || !self.earlier.is_empty()
    }

    /// Takes what an event says of whether anybody knows how it fares; nothing unless it is open.
    pub(super) fn doubt(&mut self, event: &Event) -> Option<()> {
        let StepState::Open { unconfirmed, unreachable, .. } = &mut self.state else { return None };
        match event {
            Event::KillUnconfirmed { why, .. } => *unconfirmed = Some(why.clone()),
            Event::HostUnreachable { why, .. } => *unreachable = Some(why.clone()),
            Event::HostReachable { .. } => *unreachable = None,
            _ => return None,
        }
        Some(())
    }

    /// Whether somebody may want it taken again: a step, or a part for failures that did not end well.
    #[must_use]
    pub fn may_be_named(&self) -> bool {
        self.is_step() || (self.is_shown() && !self.is_ok())
    }

    /// Whether it ended well.
    fn is_ok(&self) -> bool {
        matches!(&self.state, StepState::Ended(result) if result.ending.outcome() == Outcome::Ok)
    }

    /// Whether it ended, well or not, and is not tried again; or the host goes on without it.
    fn is_over(&self, planned: &PlannedStep) -> bool {
        match &self.state {
            StepState::Ended(result) => !may_retry(planned, result, self.spent),
            StepState::Skipped(_) => true,
            StepState::Waiting | StepState::Open { .. } => false,
        }
    }

    /// Returns the last bad ending of a step that was taken, also of one that somebody skipped after it.
    fn bad_ending(&self) -> Option<&Ending> {
        let last = match &self.state {
            StepState::Ended(result) => Some(result),
            StepState::Skipped(_) => self.earlier.last(),
            StepState::Waiting | StepState::Open { .. } => None,
        };
        last.map(|result| &result.ending).filter(|ending| ending.outcome() != Outcome::Ok)
    }

    /// Begins an attempt; `None` when it is not the next one, or cannot be.
    pub(super) fn start(&mut self, at: Timestamp, attempt: u32) -> Option<()> {
        let may_begin = !matches!(self.state, StepState::Open { .. } | StepState::Skipped(_));
        (may_begin && attempt == self.next_attempt()).then_some(())?;
        self.said = None;
        self.targets.clear();
        let state = StepState::Open { attempt, since: at, unconfirmed: None, unreachable: None };
        if let StepState::Ended(result) = std::mem::replace(&mut self.state, state) {
            self.earlier.push(result);
        }
        Some(())
    }

    /// Notes what the script says; `None` when none runs.
    pub(super) fn say(&mut self, at: Timestamp, text: &str) -> Option<()> {
        let words = self.said.as_ref().map_or(0, |said| said.words).saturating_add(1);
        matches!(self.state, StepState::Open { .. })
            .then(|| self.said = Some(Said { at, text: text.to_owned(), words }))
    }

    /// Notes how targets fare; `None` when no engine is at work on them.
    pub(super) fn report(&mut self, at: Timestamp, reports: &[Report], targets: usize) -> Option<()> {
        if !matches!(self.state, StepState::Open { .. }) {
            return None;
        }
        self.targets.extend(reports.iter().map(|report| (report.target.clone(), report.clone())));
        let words = self.said.as_ref().map_or(0, |said| said.words);
        self.said = Some(Said { at, text: progress(&self.targets, targets), words });
        Some(())
    }

    /// Returns the number of the next attempt.
    #[must_use]
    pub fn next_attempt(&self) -> u32 {
        let last = match &self.state {
            StepState::Ended(result) => Some(result),
            _ => self.earlier.last(),
        };
        last.map_or(1, |result| result.attempt.saturating_add(1))
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
        /// For how long it was to wait until then, where it is no time that somebody chose.
        delay_ms: Option<i64>,
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
    pub fn new(group: GroupNo, host: HostName, planned: &[PlannedStep]) -> Lane {
        let position = |name: &StepName| planned.iter().position(|step| step.name == *name).unwrap_or_default();
        let role = |step: &PlannedStep| match &step.part {
            Part::Step => Role::Step,
            Part::Handler(of) => Role::Handler(position(of)),
            Part::Rollback { of, partial } => Role::Rollback { of: position(of), partial: *partial },
        };
        let steps = planned.iter().map(|step| LaneStep::new(role(step), step.not_on.contains(&host))).collect();
        Lane { group, host, steps, stopped: false, batch: 1 }
    }

    /// Returns the step that is open.
    #[must_use]
    pub fn open_step(&self) -> Option<usize> {
        self.steps.iter().position(|step| matches!(step.state, StepState::Open { .. }))
    }

    /// Returns the step the lane is at: the first that it did not get past. After a failure that is what handles it, then
    /// what undoes the steps before it, and when nothing of that is left, the step that failed.
    #[must_use]
    pub fn at(&self, planned: &[PlannedStep]) -> Option<usize> {
        for (n, (step, plan)) in self.steps.iter().zip(planned).enumerate().filter(|(_, (step, _))| step.is_step()) {
            let result = match &step.state {
                StepState::Skipped(_) => continue,
                StepState::Waiting | StepState::Open { .. } => return Some(n),
                StepState::Ended(result) if result.ending.outcome() == Outcome::Ok => continue,
                StepState::Ended(result) if may_retry(plan, result, step.spent) => return Some(n),
                StepState::Ended(result) => result,
            };
            if let Some(part) = self.after_failure(n, &result.ending, planned) {
                return Some(part);
            }
            // Only what the script itself did may be ignored; a lost or cancelled host takes no more steps.
            if !(plan.on_failure == OnFailure::Continue && result.ending.is_the_scripts_own()) {
                return Some(n);
            }
        }
        None
    }

    /// Returns the part for failures that the lane is at, after the step at `failed` ended so for good.
    fn after_failure(&self, failed: usize, ending: &Ending, planned: &[PlannedStep]) -> Option<usize> {
        if !ending.may_be_handled() {
            return None;
        }
        let handler = self.steps.iter().position(|step| step.role == Role::Handler(failed));
        if let Some(handler) = handler.filter(|n| !self.steps[*n].is_over(&planned[*n])) {
            return Some(handler);
        }
        if planned[failed].on_failure != OnFailure::Rollback {
            return None;
        }
        // One that failed keeps the ones before it from running: they would undo what stands on it.
        self.needed_rollbacks(failed).find(|n| {
            let step = &self.steps[*n];
            !step.is_over(&planned[*n]) || matches!(&step.state, StepState::Ended(_) if !step.is_ok())
        })
    }

    /// Returns what undoes the steps that were done before the one that failed, in the order in which it is taken.
    fn needed_rollbacks(&self, failed: usize) -> impl Iterator<Item = usize> {
        self.steps.iter().enumerate().filter_map(move |(n, step)| match step.role {
            Role::Rollback { of, .. } if of < failed => self.steps[of].is_ok().then_some(n),
            Role::Rollback { of, partial } => (of == failed && partial).then_some(n),
            _ => None,
        })
    }

    /// Returns the step that failed for good, so that the lane does not go on with the steps behind it.
    #[must_use]
    pub fn failed_step(&self, planned: &[PlannedStep]) -> Option<usize> {
        let step = |n: usize| match self.steps[n].role {
            Role::Step => Some(n),
            Role::Handler(of) => (planned[of].on_failure != OnFailure::Continue).then_some(of),
            Role::Rollback { .. } => self.steps.iter().position(|step| step.is_step() && step.bad_ending().is_some()),
        };
        let failed = step(self.at(planned)?)?;
        let over = self.steps[failed].is_over(&planned[failed]) && self.steps[failed].bad_ending().is_some();
        over.then_some(failed)
    }

    /// Returns what to start next. `planned` are the steps of the lane's group, `timed` is when timed steps begin.
    #[must_use]
    pub fn next_step(&self, planned: &[PlannedStep], timed: Option<Timestamp>) -> Next {
        let Some(n) = self.at(planned).filter(|_| !self.stopped) else { return Next::Nothing };
        let (step, plan) = (&self.steps[n], &planned[n]);
        let attempt = step.next_attempt();
        let start = |not_before| Next::Start { step: n, attempt, not_before, delay_ms: None };
        match &step.state {
            StepState::Waiting => match (plan.trigger, timed) {
                (Trigger::Auto, _) => start(None),
                _ if step.released => start(None),
                (Trigger::Timed, Some(time)) => start(Some(time)),
                (Trigger::Manual | Trigger::Timed, _) => Next::Asks { step: n },
            },
            StepState::Ended(result) if may_retry(plan, result, step.spent) => {
                let delay_ms = i64::try_from(plan.retry_delay_s.saturating_mul(1000)).unwrap_or(i64::MAX);
                let not_before = Some(result.ended.plus_ms(delay_ms));
                Next::Start { step: n, attempt, not_before, delay_ms: Some(delay_ms) }
            }
            StepState::Open { .. } | StepState::Ended(_) | StepState::Skipped(_) => Next::Nothing,
        }
    }

    /// Whether something may begin here by itself when the open step ends, whichever way it does.
    #[must_use]
    pub fn may_go_on(&self, planned: &[PlannedStep], timed: Option<Timestamp>, now: Timestamp) -> bool {
        let Some(open) = self.open_step().filter(|_| !self.stopped) else { return false };
        let waiting = || self.steps.iter().enumerate().filter(|(_, step)| step.state == StepState::Waiting);
        let next = waiting().find(|(n, step)| step.is_step() && *n > open);
        let begins = |n: usize| match planned[n].trigger {
            Trigger::Auto => true,
            Trigger::Timed => timed.is_some_and(|at| at <= now),
            Trigger::Manual => false,
        };
        planned[open].retries > 0 || next.is_some_and(|(n, _)| begins(n)) || waiting().any(|(_, step)| !step.is_step())
    }

    /// Whether a step ended badly, and no later step comes of it by itself; what handles it or undoes the others may run.
    #[must_use]
    pub fn has_failed(&self, planned: &[PlannedStep], timed: Option<Timestamp>) -> bool {
        self.failed_step(planned).is_some()
            || (!matches!(self.outcome(), Outcome::Ok | Outcome::Skipped) && self.is_over(planned, timed))
    }

    /// Whether it has come to its end: nothing runs, and nothing more begins by itself or by being released.
    #[must_use]
    pub fn is_over(&self, planned: &[PlannedStep], timed: Option<Timestamp>) -> bool {
        self.open_step().is_none() && self.next_step(planned, timed) == Next::Nothing
    }

    /// Returns the first step that ended well, was not undone, and would run a second time if `step` were taken again.
    #[must_use]
    pub fn done_from(&self, step: usize) -> Option<usize> {
        let undoes =
            |part: &LaneStep, n: usize| matches!(part.role, Role::Rollback { of, .. } if of == n) && part.is_ok();
        let done = |n: &usize| self.steps[*n].is_step() && self.steps[*n].is_ok();
        (self.taken_again_from(step)..self.steps.len())
            .filter(done)
            .find(|n| !self.steps.iter().any(|part| undoes(part, *n)))
    }

    /// Whether nothing was ever sent.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        let untouched = |state: &StepState| matches!(state, StepState::Waiting | StepState::Skipped(Skip::Condition));
        self.steps.iter().all(|step| untouched(&step.state) && step.earlier.is_empty())
    }

    /// Whether the next group may follow: every step ended well, or the host goes on without it.
    #[must_use]
    pub fn is_passed(&self) -> bool {
        self.steps.iter().filter(|step| step.is_step()).all(|step| match &step.state {
            StepState::Ended(_) => step.is_ok(),
            StepState::Skipped(_) => true,
            StepState::Waiting | StepState::Open { .. } => false,
        })
    }

    /// Returns from where on steps are taken again when this one is: what a rollback began to undo may be half undone.
    #[must_use]
    pub fn taken_again_from(&self, step: usize) -> usize {
        let begun = self.steps.iter().filter(|part| part.state != StepState::Waiting);
        let undone = begun.filter_map(|part| match part.role {
            Role::Rollback { of, .. } => Some(of),
            _ => None,
        });
        if self.steps[step].is_step() { undone.min().map_or(step, |of| of.min(step)) } else { step }
    }

    /// Takes a step and everything after it again; what was undone is done again too.
    pub(super) fn retry_from(&mut self, step: usize) {
        self.stopped = false;
        let of_steps = self.steps[step].is_step();
        let first = self.taken_again_from(step);
        // Of handlers and rollbacks what ended well is done, and is not done twice.
        for step in self.steps[first..].iter_mut().filter(|step| of_steps || !step.is_ok()) {
            let again = if step.excluded { StepState::Skipped(Skip::Condition) } else { StepState::Waiting };
            step.set_aside(again);
        }
    }

    /// Whether something was undone, or is about to be.
    #[must_use]
    pub fn is_rolling_back(&self) -> bool {
        let rollback = |step: &LaneStep| matches!(step.role, Role::Rollback { .. });
        self.steps.iter().any(|step| rollback(step) && step.state != StepState::Waiting)
    }

    /// Goes on without a step.
    pub(super) fn skip(&mut self, step: usize, why: Skip) {
        self.steps[step].set_aside(StepState::Skipped(why));
    }

    /// Returns the worst outcome of the lane's steps, [`Outcome::Skipped`] when none was taken. A step that somebody
    /// skipped after it had failed counts as what it was. A failure whose steps were all undone is [`Outcome::RolledBack`];
    /// a handler never makes one good.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let of = |step: &LaneStep| match &step.state {
            StepState::Ended(_) | StepState::Skipped(_) => Some(step.bad_ending().map_or(Outcome::Ok, Ending::outcome)),
            StepState::Waiting | StepState::Open { .. } => None,
        };
        let own = || self.steps.iter().filter(|step| step.is_step());
        let unfinished = own().any(|step| of(step).is_none());
        let worst = own().filter_map(of).max();
        // What nobody knows of a handler or a rollback is as unknown as of a step.
        let parts = self.steps.iter().filter(|step| !step.is_step());
        let unknown = parts.filter_map(of).filter(|outcome| *outcome >= Outcome::Lost).max();
        match worst.max(unknown) {
            None | Some(Outcome::Ok) if unfinished && self.stopped => Outcome::Cancelled,
            Some(Outcome::Ok) if unfinished => Outcome::Skipped,
            Some(worst @ (Outcome::Failed | Outcome::TimedOut)) => self.after_rollback().unwrap_or(worst),
            Some(worst) => worst,
            None => Outcome::Skipped,
        }
    }

    /// Returns what a rollback made of the lane's failure, if one began.
    fn after_rollback(&self) -> Option<Outcome> {
        let rollback = |step: &&LaneStep| matches!(step.role, Role::Rollback { .. });
        let mut begun = self.steps.iter().filter(rollback).filter(|step| step.state != StepState::Waiting).peekable();
        begun.peek()?;
        if begun.any(|step| step.bad_ending().is_some_and(|ending| *ending != Ending::Cancelled)) {
            return Some(Outcome::RollbackFailed);
        }
        let failed = self.steps.iter().position(|step| step.is_step() && step.bad_ending().is_some())?;
        let all = self.needed_rollbacks(failed).all(|n| self.steps[n].is_ok());
        all.then_some(Outcome::RolledBack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::digest::Digest;
    use crate::domain::outcome::OutputFacts;

    /// Four steps; the third one rolls back, and has a handler. The first two have rollbacks.
    fn planned(on_failure: OnFailure) -> Vec<PlannedStep> {
        let plain = |name: &str| PlannedStep::plain(name.parse().unwrap(), Digest::of(b""));
        let mut steps: Vec<PlannedStep> = ["a", "b", "c", "d"].map(plain).into();
        steps[2].on_failure = on_failure;
        steps.push(PlannedStep { part: Part::Handler("c".parse().unwrap()), ..plain("c.handler") });
        for of in ["b", "a"] {
            let part = Part::Rollback { of: of.parse().unwrap(), partial: false };
            steps.push(PlannedStep { part, ..plain(&format!("{of}.rollback")) });
        }
        steps
    }

    fn result(ending: Ending) -> StepState {
        let zero = Timestamp(0);
        StepState::Ended(StepResult {
            attempt: 1,
            ending,
            started: zero,
            ended: zero,
            output: OutputFacts::default(),
            proved_by: None,
        })
    }

    /// Walks a lane to its end, each step ending as `fails` says, and returns what it took and how it ended.
    #[track_caller]
    fn check(on_failure: OnFailure, fails: &[(&str, Ending)], want: &str) {
        let planned = planned(on_failure);
        let mut lane = Lane::new(GroupNo(1), "h".parse().unwrap(), &planned);
        let mut taken = Vec::new();
        while let Next::Start { step, .. } = lane.next_step(&planned, None) {
            let name = planned[step].name.as_str();
            taken.push(name.to_owned());
            let ending = fails.iter().find(|(failing, _)| *failing == name);
            lane.steps[step].state = result(ending.map_or(Ending::Exit(0), |(_, ending)| ending.clone()));
        }
        let outcome = lane.outcome().word();
        let failed = if lane.has_failed(&planned, None) { " failed" } else { "" };
        assert_eq!(format!("{} = {outcome}{failed}", taken.join(" ")), want);
    }

    #[test]
    fn what_was_done_is_undone_backwards_and_a_handler_launders_nothing() {
        let exit = |code| Ending::Exit(code);
        check(OnFailure::Stop, &[], "a b c d = ok");
        check(OnFailure::Stop, &[("c", exit(1))], "a b c c.handler = failed failed");
        check(OnFailure::Continue, &[("c", exit(1))], "a b c c.handler d = failed failed");
        check(OnFailure::Rollback, &[("c", exit(1))], "a b c c.handler b.rollback a.rollback = rolled_back failed");
        check(OnFailure::Rollback, &[("b", exit(1))], "a b = failed failed");
        check(OnFailure::Rollback, &[("d", exit(1))], "a b c d = failed failed");
        check(
            OnFailure::Rollback,
            &[("c", exit(1)), ("c.handler", exit(9))],
            "a b c c.handler b.rollback a.rollback = rolled_back failed",
        );
        check(
            OnFailure::Rollback,
            &[("c", exit(1)), ("b.rollback", exit(1))],
            "a b c c.handler b.rollback = rollback_failed failed",
        );
        check(
            OnFailure::Rollback,
            &[("c", exit(1)), ("a.rollback", Ending::Lost(String::new()))],
            "a b c c.handler b.rollback a.rollback = lost failed",
        );
        check(
            OnFailure::Rollback,
            &[("c", Ending::TimedOut)],
            "a b c c.handler b.rollback a.rollback = rolled_back failed",
        );
        for theirs in [Ending::Cancelled, Ending::Lost(String::new()), Ending::KillUnconfirmed(String::new())] {
            let word = theirs.outcome().word();
            check(OnFailure::Rollback, &[("c", theirs)], &format!("a b c = {word} failed"));
        }
    }

    #[test]
    fn what_was_undone_is_done_again_by_a_retry() {
        let planned = planned(OnFailure::Rollback);
        let mut lane = Lane::new(GroupNo(1), "h".parse().unwrap(), &planned);
        for n in [0, 1, 4, 5, 6] {
            lane.steps[n].state = result(Ending::Exit(0));
        }
        lane.steps[2].state = result(Ending::Exit(1));
        assert_eq!((lane.at(&planned), lane.outcome()), (Some(2), Outcome::RolledBack));
        // A part that ended well is not taken twice.
        let mut parts = lane.clone();
        parts.retry_from(5);
        assert_eq!(parts, lane);
        lane.retry_from(2);
        assert_eq!(
            lane.next_step(&planned, None),
            Next::Start { step: 0, attempt: 2, not_before: None, delay_ms: None }
        );
        // One that failed half-way leaves a step that must be done again too.
        lane.steps[0].state = result(Ending::Exit(0));
        lane.steps[1].state = result(Ending::Exit(0));
        lane.steps[2].state = result(Ending::Exit(1));
        lane.steps[5].state = result(Ending::Exit(1));
        assert!(lane.is_rolling_back());
        lane.retry_from(2);
        assert!(matches!(lane.next_step(&planned, None), Next::Start { step: 1, .. }));
    }

    #[test]
    fn a_host_that_the_plan_excludes_goes_on_without_the_step() {
        let mut planned = planned(OnFailure::Stop);
        planned[0].not_on.insert("h".parse().unwrap());
        let mut lane = Lane::new(GroupNo(1), "h".parse().unwrap(), &planned);
        assert!(lane.is_untouched());
        assert_eq!(
            lane.next_step(&planned, None),
            Next::Start { step: 1, attempt: 1, not_before: None, delay_ms: None }
        );
        lane.retry_from(0);
        assert_eq!(
            lane.next_step(&planned, None),
            Next::Start { step: 1, attempt: 1, not_before: None, delay_ms: None }
        );
    }

    #[test]
    fn what_would_run_a_second_time_is_known_before_a_retry() {
        let check = |fails: &str, from: usize, want: Option<usize>| {
            let planned = planned(OnFailure::Rollback);
            let mut lane = Lane::new(GroupNo(1), "h".parse().unwrap(), &planned);
            while let Next::Start { step, .. } = lane.next_step(&planned, None) {
                let fails = planned[step].name.as_str() == fails;
                lane.steps[step].state = result(Ending::Exit(i32::from(fails)));
            }
            assert_eq!(lane.done_from(from), want, "{fails} from {from}");
        };
        check("none", 1, Some(1));
        check("none", 3, Some(3));
        check("b", 1, None);
        // What was undone is done again, and is no second time.
        check("c", 2, None);
        // A step whose rollback failed was not undone.
        let planned = planned(OnFailure::Rollback);
        let mut lane = Lane::new(GroupNo(1), "h".parse().unwrap(), &planned);
        while let Next::Start { step, .. } = lane.next_step(&planned, None) {
            let fails = ["c", "a.rollback"].contains(&planned[step].name.as_str());
            lane.steps[step].state = result(Ending::Exit(i32::from(fails)));
        }
        assert_eq!(lane.done_from(2), Some(0));
    }
}
