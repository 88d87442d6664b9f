//! What becomes of an order: one validator for the dashboard, the CLI and scripts.
//!
//! **Invariant:** an order that is obeyed, and one about an unfinished task that is not, is answered by an event in the
//! task's journal, with the reason; every other one is refused into `bad/`, and the audit says so. What an order means is
//! settled here, host by host, so that the event says exactly what was done.

use std::collections::BTreeSet;

use crate::base::ids::{Actor, GroupNo, HostName, StepName, TaskId};
use crate::base::time::Timestamp;
use crate::domain::audit::Entry;
use crate::domain::order::{Order, Which, Wish};
use crate::domain::outcome::Outcome;
use crate::domain::policy::{Approval, Person, Policy, Refusal};
use crate::domain::problem::Problem;
use crate::domain::right::Right;
use crate::domain::run::lane::{Lane, Next};
use crate::domain::run::{Event, LaneName, Ordered, Place, RefusalKind, Run, Stage, StepState, TaskState};
use crate::domain::wire::read_order;
use crate::engine::Engine;
use crate::engine::input::Dropped;
use crate::engine::intake::own_place;
use crate::engine::names::Meant;
use crate::engine::outbox::Outbox;
use crate::engine::schedule::frozen;

impl Engine {
    pub(super) fn on_order(&mut self, file: Dropped, out: &mut Outbox) {
        let order = match read_order(&file.bytes, &self.library.zone) {
            Ok(order) => order,
            Err(unreadable) if unreadable.truncated && file.may_grow => return,
            Err(unreadable) => return out.refuse(file, None, unreadable.problems),
        };
        if self.is_unproved(&file) {
            let found = format!("an order that lies flat in {}/", file.drop_box.name());
            let wanted = format!(
                "an order in a directory of its giver's own, {0}, since whoever can move a file can put it here: the commands of \
                 spoolgate and the dashboard do so, a script does mkdir -m 0750 {0} and renames it in there",
                own_place(&file)
            );
            return out.refuse(file, None, vec![Problem::new("", found, wanted)]);
        }
        if let Wish::Acknowledge { line } = order.wish {
            return self.acknowledge(line, order.reason.unwrap_or_default(), file, out);
        }
        match self.find(&order.task, file.key.uid) {
            Meant::Task(id) => self.on_order_about(id, &order, file, out),
            Meant::Nothing => {
                let wanted = "the number or name of a task; try: spoolgate ls";
                out.refuse(file, None, vec![Problem::new("/task", &order.task, wanted)]);
            }
            Meant::Several(ids) => {
                let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
                let wanted = format!("the number of a task: {} are called so", ids.join(", "));
                out.refuse(file, None, vec![Problem::new("/task", &order.task, wanted)]);
            }
        }
    }

    /// Answers an order that waited until its task was read. It is about that one, whatever its name means by now.
    pub(super) fn on_order_read(&mut self, id: TaskId, file: Dropped, out: &mut Outbox) {
        match read_order(&file.bytes, &self.library.zone) {
            Ok(order) => self.on_order_about(id, &order, file, out),
            Err(unreadable) => out.refuse(file, Some(id), unreadable.problems),
        }
    }

    fn on_order_about(&mut self, id: TaskId, order: &Order, file: Dropped, out: &mut Outbox) {
        if let Some(run) = self.runs.get(&id) {
            let (drop_box, key) = (file.drop_box, file.key.clone());
            // What was answered before a crash is not answered twice.
            let answered = run.orders.contains(&file.key);
            let identity = file.key.identity();
            if answered || self.obey(id, order, file, out) {
                self.drops.extend(identity);
                out.consume(drop_box, key, Some(id));
            }
        } else if self.sleepers.holds(id) || matches!(order.wish, Wish::Retry { .. }) {
            // A task that waits or has ended is not kept in memory; it is read for this.
            self.sleepers.order(id, file);
        } else {
            let wanted = format!("a task that has not ended; task {id} has");
            out.refuse(file, Some(id), vec![Problem::new("/task", &order.task, wanted)]);
        }
    }

    /// Takes note of what was removed from the audit: the line that says so is said no more.
    fn acknowledge(&mut self, line: u64, reason: String, file: Dropped, out: &mut Outbox) {
        let refusal = match (&self.broken_library, self.library.policy.may_acknowledge(&file.owner)) {
            (Some(why), _) => {
                Some(("/order", format!("the configuration cannot be read, so nobody knows who may: {why}")))
            }
            (None, Err(refusal)) => Some(("/order", refusal.to_string())),
            (None, Ok(_)) if !self.cuts.contains(&line) => Some((
                "/line",
                "a line that says that lines were removed, of which nobody took note; try: spoolgate audit verify"
                    .to_owned(),
            )),
            (None, Ok(_)) => None,
        };
        if let Some((field, wanted)) = refusal {
            let found = if field == "/line" { line.to_string() } else { Right::Acknowledge.word().to_owned() };
            return out.refuse(file, None, vec![Problem::new(field, found, wanted)]);
        }
        self.cuts.remove(&line);
        out.audit(Entry::of_acknowledged(out.now(), file.owner.actor, line, reason));
        out.consume(file.drop_box, file.key, None);
    }

    /// Finds a task by its number or by the name it was dropped under, as somebody means it.
    fn find(&self, word: &str, uid: u32) -> Meant {
        // A number is a number: nobody takes over another task's orders by the name of a file.
        let by_number = word.parse().ok().map(TaskId).filter(|id| id.0 < self.next_id && id.0 > 0);
        by_number.map_or_else(|| self.names.find(word, uid), Meant::Task)
    }

    /// Answers an order; false when it went to `bad/` instead.
    fn obey(&mut self, id: TaskId, order: &Order, file: Dropped, out: &mut Outbox) -> bool {
        // Nobody approves what would not be what runs, and nothing that has changed is tried again.
        let unchanged = match order.wish {
            Wish::Approve { .. } => {
                self.recheck(id, out);
                Ok(())
            }
            Wish::Retry { .. } => self.differs(id),
            _ => Ok(()),
        };
        self.meet(&file.owner);
        let Some(run) = self.runs.get_mut(&id) else {
            let wanted = format!(
                "a task that can be approved; what task {id} would run cannot be planned any more: spoolgate show {id}"
            );
            out.refuse(file, Some(id), vec![Problem::new("/task", &order.task, wanted)]);
            return false;
        };
        let before = run.state();
        let by = file.owner.actor.clone();
        let (rule, key) = (String::new(), file.key.clone());
        let ordered = Ordered { by: by.clone(), reason: order.reason.clone(), rule, order: key };
        let decision = unchanged
            .and_then(|()| match &self.broken_library {
                Some(why) if matches!(order.wish, Wish::Approve { .. } | Wish::Retry { .. }) => Err(Refused::not_now(
                    format!("the configuration cannot be read, so nothing can be compared with it: {why}"),
                )),
                _ => Ok(()),
            })
            .and_then(|()| permitted(&self.library.policy, run, order, &file.owner))
            .and_then(|rule| {
                let ordered = Ordered { rule, ..ordered };
                meaning(run, order, ordered, &self.library.policy, &file.owner, out.now())
            });
        match decision {
            Ok(event) => {
                let reopened = before == TaskState::Done;
                Engine::record(run, event, out);
                if reopened {
                    out.reopen(run);
                }
                self.follow(id, before, out);
            }
            // The journal of a task that has ended says how it ended, and nothing more unless it runs again. Nor does anybody fill
            // the journal of somebody's task with what they may not do: their answer stands in `bad/` then.
            Err(Refused { why, .. }) if before == TaskState::Done || refusals(run, &by) >= REFUSALS_MAX => {
                let said = format!("{} of task {id} refused: {why}", order.wish.right().word());
                out.refuse(file, Some(id), vec![Problem::denied(said, "")]);
                return false;
            }
            Err(Refused { kind, why }) => {
                let act = order.wish.right().word().to_owned();
                let event = Event::OrderRefused { by, act, kind, why, order: file.key };
                Engine::record(run, event, out);
            }
        }
        true
    }

    /// Does what follows from an order that was obeyed.
    fn follow(&mut self, id: TaskId, before: TaskState, out: &mut Outbox) {
        let Some(run) = self.runs.get(&id) else { return };
        let after = run.state();
        if run.rejected.is_some() {
            return self.close(id, Outcome::Rejected, out);
        }
        if run.cancelled.is_some() && before != TaskState::Running && after != TaskState::Running {
            return self.close(id, Outcome::Cancelled, out);
        }
        if after != before && before != TaskState::Done {
            out.relocate(id, before, after);
        }
        match after {
            TaskState::Running if run.cancelled.is_some() => self.stop_running(id, out),
            TaskState::Running => self.look_again(id, out),
            TaskState::New => drop(self.due.remove(&id)),
            TaskState::Ready | TaskState::Done => {}
        }
        self.watch_id(id);
    }
}

/// How many refused orders of one person a task's journal holds.
const REFUSALS_MAX: usize = 20;

/// Returns how many orders of somebody a task's journal says were refused.
fn refusals(run: &Run, by: &Actor) -> usize {
    let word = Event::REFUSED_WORD;
    run.acts.iter().filter(|act| act.act == word && act.by.as_ref() == Some(by)).take(REFUSALS_MAX).count()
}

/// Why an order is not obeyed.
#[derive(Debug)]
pub(super) struct Refused {
    kind: RefusalKind,
    why: String,
}

impl Refused {
    /// The task, or what the order names, does not stand so that it could be obeyed.
    pub(super) fn not_now(why: impl Into<String>) -> Refused {
        Refused { kind: RefusalKind::NotNow, why: why.into() }
    }
}

/// Whoever asked may not do it.
fn not_allowed(run: &Run) -> impl FnOnce(Refusal) -> Refused {
    let id = run.id.to_string();
    move |refusal| Refused { kind: RefusalKind::NotAllowed, why: refusal.said_of(&id) }
}

/// Decides whether this person may do this at all; the answer is the rule that says so.
fn permitted(policy: &Policy, run: &Run, order: &Order, person: &Person) -> Result<String, Refused> {
    let subject = run.subject(policy);
    match policy.allows(person, order.wish.right(), &subject) {
        Err(_) if order.wish == Wish::Release && run.is_held_by(&person.actor) => Ok(OWN_HOLD.to_owned()),
        answer => answer.map_err(not_allowed(run)),
    }
}

/// The rule by which everybody may take back a hold of their own, and no other.
const OWN_HOLD: &str = "everybody may release what they hold";

/// Works out what an approval does: it counts for exactly the plan that its giver saw.
fn approval(
    run: &Run,
    order: &Order,
    ordered: Ordered,
    policy: &Policy,
    person: &Person,
    now: Timestamp,
) -> Result<Event, Refused> {
    let refusal = |why: String| Err(Refused::not_now(why));
    let (id, state) = (run.id, run.state());
    let Wish::Approve { digest, start, until } = &order.wish else { return refusal("no approval".to_owned()) };
    if state != TaskState::New {
        return refusal(format!("task {id} is {}; only a new task can be approved", state.word()));
    }
    if *digest != run.digest {
        let why = format!(
            "this approves the plan {}, but the task's plan is {}; look at it again: spoolgate show {id}",
            digest.short(),
            run.digest.short(),
        );
        return Err(Refused { kind: RefusalKind::OtherPlan, why });
    }
    if run.approvals.iter().any(|(_, approval)| approval.by.uid == person.actor.uid) {
        return refusal(format!("{} has approved this task already", person.actor.user));
    }
    if let Some(until) = until.filter(|until| *until <= now) {
        return refusal(format!("this approval ended at {until}"));
    }
    let groups = policy.groups_that_count(person);
    let approval = Approval { by: ordered.by, groups, digest: *digest, start: *start, until: *until };
    Ok(Event::Approved { approval, rule: ordered.rule, reason: ordered.reason, order: ordered.order })
}

/// Works out what an order does to a task as it stands: the event that says so.
fn meaning(
    run: &Run,
    order: &Order,
    ordered: Ordered,
    policy: &Policy,
    person: &Person,
    now: Timestamp,
) -> Result<Event, Refused> {
    let (id, state) = (run.id, run.state());
    let refusal = |why: String| Err(Refused::not_now(why));
    match &order.wish {
        Wish::Approve { .. } => approval(run, order, ordered, policy, person, now),
        Wish::Acknowledge { .. } => refusal(format!("task {id} is no line of the audit")),
        Wish::Reject => match state {
            TaskState::New | TaskState::Ready => Ok(Event::Rejected(ordered)),
            _ => refusal(format!("task {id} is {}; it can only be cancelled now", state.word())),
        },
        Wish::Withdraw => match state {
            _ if run.approvals.iter().all(|(_, approval)| approval.by.uid != person.actor.uid) => {
                refusal(format!("{} has not approved task {id}", person.actor.user))
            }
            TaskState::New | TaskState::Ready => Ok(Event::Withdrawn(ordered)),
            _ => refusal(format!("task {id} has begun; it can only be cancelled now")),
        },
        Wish::Cancel { hosts } if hosts.is_empty() => match &run.cancelled {
            None => Ok(Event::Cancelled(ordered)),
            Some(_) => refusal(format!("task {id} is being cancelled already")),
        },
        Wish::Cancel { hosts } => {
            let hosts = known_hosts(run, hosts)?;
            stop(run, |lane| hosts.contains(&lane.host), ordered)
        }
        Wish::CancelBatch { group, batch } => stop_batch(run, (*group, *batch), ordered),
        // Who wants it held is obeyed, whoever holds it already: their hold may be released a moment later.
        Wish::Hold => Ok(Event::Held { why: order.reason.clone().unwrap_or_default(), ordered: Some(ordered) }),
        Wish::Release => match run.held() {
            Some(_) if ordered.rule == OWN_HOLD => Ok(Event::HoldReleased(ordered)),
            Some(_) => Ok(Event::Released(ordered)),
            None => refusal(format!("task {id} is not held; a step that waits is released by its name")),
        },
        Wish::Continue { group, batch } => match run.batch_wait.filter(|wait| wait.gate && state == TaskState::Running)
        {
            Some(wait) if (wait.group, wait.batch) != (*group, *batch) => refusal(format!(
                "batch {} of group {} waits for somebody, not batch {batch} of group {group}",
                wait.batch, wait.group
            )),
            Some(wait) => {
                not_frozen(run, policy, now)?;
                Ok(Event::Continued { ordered, group: wait.group, batch: wait.batch })
            }
            None => refusal(format!("no batch of task {id} waits for somebody to continue")),
        },
        Wish::ReleaseStep { step, hosts } => {
            let asks = |lane: &Lane| lane_asks(run, lane, step);
            let steps = places(run, hosts, step, asks)?;
            none_is_refused(&steps, || format!("no host waits for somebody to release {step}"))?;
            not_frozen(run, policy, now)?;
            Ok(Event::StepsReleased { ordered, steps })
        }
        Wish::Skip { step, hosts } => {
            // Where steps were undone, what stands on them must not go on without them.
            let stands = |lane: &Lane| lane_stands_at(run, lane, step) && may_be_skipped(run, lane, step);
            let steps = places(run, hosts, step, stands)?;
            none_is_refused(&steps, || {
                format!(
                    "no host stands still at {step}; what runs can be cancelled first, what was rolled back retried"
                )
            })?;
            Ok(Event::StepsSkipped { ordered, steps })
        }
        Wish::Retry { which, step, again } => {
            not_frozen(run, policy, now)?;
            let over = run.approvals.iter().filter_map(|(_, vote)| vote.until).chain(run.plan.not_after).min();
            if let Some(end) = over.filter(|end| *end <= now) {
                return refusal(format!("what was approved was to begin before {end}; submit it again"));
            }
            let redo = Redo { which, step: step.as_ref(), again: *again };
            retry(run, &redo, ordered, policy, person)
        }
    }
}

/// Refuses what would begin in a freeze.
fn not_frozen(run: &Run, policy: &Policy, now: Timestamp) -> Result<(), Refused> {
    match frozen(run, policy, now) {
        Some(frozen) => {
            Err(Refused::not_now(format!("the freeze {} lets nothing begin until {}", frozen.freeze, frozen.until)))
        }
        None => Ok(()),
    }
}

fn none_is_refused<T>(found: &[T], why: impl Fn() -> String) -> Result<(), Refused> {
    if found.is_empty() { Err(Refused::not_now(why())) } else { Ok(()) }
}

/// Refuses a step that the task does not have.
fn known_step(run: &Run, step: &StepName) -> Result<(), Refused> {
    let steps = || run.plan.groups.iter().flat_map(|group| &group.steps).map(|step| &step.name);
    if steps().any(|known| known == step) {
        return Ok(());
    }
    let names: BTreeSet<&str> = steps().map(StepName::as_str).collect();
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    Err(Refused::not_now(format!("task {} has no step {step}; it has {names}", run.id)))
}

/// Refuses hosts that the task does not have.
fn known_hosts(run: &Run, hosts: &[HostName]) -> Result<BTreeSet<HostName>, Refused> {
    let stranger = hosts.iter().find(|host| !run.plan.hosts.contains_key(*host));
    match stranger {
        Some(host) => Err(Refused::not_now(format!("task {} has no host {host}", run.id))),
        None => Ok(hosts.iter().cloned().collect()),
    }
}

fn stop_batch(run: &Run, place: (GroupNo, u32), ordered: Ordered) -> Result<Event, Refused> {
    let meant = |lane: &Lane| (lane.group, lane.batch) == place;
    if !run.lanes.iter().any(meant) {
        return Err(Refused::not_now(format!("task {} has no batch {} in group {}", run.id, place.1, place.0)));
    }
    stop(run, meant, ordered)
}

/// Stops the work on the hosts that are meant.
fn stop(run: &Run, meant: impl Fn(&Lane) -> bool, ordered: Ordered) -> Result<Event, Refused> {
    if run.state() != TaskState::Running {
        return Err(Refused::not_now(format!(
            "task {} is {}; hosts can be stopped while it runs",
            run.id,
            run.state().word()
        )));
    }
    let going = |lane: &&Lane| meant(lane) && !lane.stopped && !lane.is_passed();
    let lanes: Vec<LaneName> =
        run.lanes.iter().filter(going).map(|lane| LaneName { group: lane.group, host: lane.host.clone() }).collect();
    none_is_refused(&lanes, || "these hosts have nothing left to do".to_owned())?;
    Ok(Event::HostsStopped { ordered, lanes })
}

/// Returns the place of `step` on every named host, or on every host, where `fits` says so.
fn places(run: &Run, hosts: &[HostName], step: &StepName, fits: impl Fn(&Lane) -> bool) -> Result<Vec<Place>, Refused> {
    known_step(run, step)?;
    let hosts = known_hosts(run, hosts)?;
    let named = |lane: &&Lane| hosts.is_empty() || hosts.contains(&lane.host);
    let place = |lane: &Lane| Place { group: lane.group, host: lane.host.clone(), step: step.clone() };
    Ok(run.lanes.iter().filter(named).filter(|lane| fits(lane)).map(place).collect())
}

/// Whether the lane waits for somebody to release a step, or will.
fn lane_asks(run: &Run, lane: &Lane, step: &StepName) -> bool {
    let Stage::Running { timed, .. } = &run.stage else { return false };
    let (Some(n), Some(group)) = (run.step_index(lane.group, step), run.plan.group(lane.group)) else { return false };
    match lane.next_step(&group.steps, *timed) {
        Next::Asks { step } => step == n,
        // A timed step may be wanted before its time.
        Next::Start { step, not_before, .. } => {
            step == n && not_before.is_some() && matches!(lane.steps[n].state, StepState::Waiting)
        }
        Next::Nothing => false,
    }
}

/// Whether the lane stands still at a step: it waits for it, or the step did not end well.
fn lane_stands_at(run: &Run, lane: &Lane, step: &StepName) -> bool {
    let (Some(n), Some(group)) = (run.step_index(lane.group, step), run.plan.group(lane.group)) else { return false };
    run.state() == TaskState::Running && lane.open_step().is_none() && lane.at(&group.steps) == Some(n)
}

/// Whether a host may go on without a step: not when what it stands on was undone. What undoes may be skipped.
fn may_be_skipped(run: &Run, lane: &Lane, step: &StepName) -> bool {
    let is_part = run.step_index(lane.group, step).is_some_and(|n| !lane.steps[n].is_step());
    is_part || !lane.is_rolling_back()
}

/// Decides whether what ended well on a host may run there a second time. An approval is one of one run: another one takes
/// somebody who says so, and who might have approved the task.
fn twice(
    run: &Run,
    place: (&StepName, &HostName),
    again: bool,
    policy: &Policy,
    person: &Person,
) -> Result<(), Refused> {
    let (step, host) = place;
    if !again {
        return Err(Refused::not_now(format!(
            "{step} ended well on {host} and would run there a second time; say \"again\": true (--again) to run it all the same"
        )));
    }
    let subject = run.subject(policy);
    match policy.allows(person, Right::Approve, &subject) {
        Err(refusal) if !run.needs.is_empty() => Err(not_allowed(run)(refusal.because(&format!(
            "{step} ended well on {host}; to run it there a second time takes somebody who may approve the task"
        )))),
        _ => Ok(()),
    }
}

/// What is to be taken again.
struct Redo<'a> {
    which: &'a Which,
    /// From this step on; from the one that a host did not get past when nothing is said.
    step: Option<&'a StepName>,
    /// Also what may run a second time.
    again: bool,
}

fn retry(run: &Run, redo: &Redo<'_>, ordered: Ordered, policy: &Policy, person: &Person) -> Result<Event, Refused> {
    let Redo { which, step, again } = *redo;
    match &run.stage {
        Stage::Running { .. } if run.cancelled.is_some() => {
            return Err(Refused::not_now(format!("task {} is being cancelled; retry it when it has ended", run.id)));
        }
        Stage::Running { .. } | Stage::Done { approved: Some(_), .. } => {}
        Stage::Done { .. } => {
            return Err(Refused::not_now(format!("task {} never ran; submit it again", run.id)));
        }
        Stage::New | Stage::Ready { .. } => {
            return Err(Refused::not_now(format!("task {} has not run yet", run.id)));
        }
    }
    step.map_or(Ok(()), |step| known_step(run, step))?;
    // A set, because ten thousand may be named.
    let named = match which {
        Which::Hosts(hosts) => known_hosts(run, hosts)?,
        Which::Failed | Which::Unfinished => BTreeSet::new(),
    };
    let (mut steps, mut second) = (Vec::new(), None);
    for lane in run.lanes.iter().filter(|lane| lane.open_step().is_none()) {
        let Some(group) = run.plan.group(lane.group) else { continue };
        let meant = match which {
            Which::Hosts(_) => named.contains(&lane.host),
            Which::Failed | Which::Unfinished => which.means(&lane.host, lane.outcome()),
        };
        // Without a step, a host begins with what it did not get past; what only waits for its turn is no retry.
        let from = match step {
            Some(step) => run.step_index(lane.group, step).filter(|n| lane.steps[*n].may_be_named()),
            None => lane.at(&group.steps).filter(|n| {
                lane.stopped || run.state() == TaskState::Done || !matches!(lane.steps[*n].state, StepState::Waiting)
            }),
        };
        if let Some(n) = from.filter(|_| meant) {
            let unknown = lane.steps[lane.taken_again_from(n)..].iter().any(|step| match &step.state {
                StepState::Ended(result) => matches!(result.ending.outcome(), Outcome::Lost | Outcome::KillUnconfirmed),
                _ => false,
            });
            if unknown && !again {
                return Err(Refused::not_now(format!(
                    "nobody knows what became of a step on {}: it may have run, or may still run; say \"again\": true to take it again all the same",
                    lane.host
                )));
            }
            if let Some(well) = lane.done_from(n) {
                second.get_or_insert((&group.steps[well].name, &lane.host));
            }
            steps.push(Place { group: lane.group, host: lane.host.clone(), step: group.steps[n].name.clone() });
        }
    }
    if let Some((step, host)) = second {
        twice(run, (step, host), again, policy, person)?;
    }
    none_is_refused(&steps, || "none of these hosts has a step to retry".to_owned())?;
    Ok(Event::Retried { ordered, steps })
}
