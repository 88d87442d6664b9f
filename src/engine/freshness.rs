//! Whether what was approved is still what would run, and still approved.
//!
//! **Invariant:** a plan is made anew, from the same bytes and what stands in the configuration now, before it is
//! approved and before its first step; when it is another one, nothing of the old one runs. Policy is asked anew as well:
//! who must approve, and whether those who did still may. After every change all ready tasks are looked at, so many a turn
//! that others are not kept waiting; what was not looked at yet is looked at before it is approved or starts.

use std::collections::{BTreeSet, HashMap};

use crate::base::ids::{Actor, TaskId, is_token_uid};
use crate::base::time::Timestamp;
use crate::domain::outcome::Outcome;
use crate::domain::plan::Plan;
use crate::domain::plan::diff::differences;
use crate::domain::policy::{Admission, Approval, Need, Person, missing};
use crate::domain::problem::Problem;
use crate::domain::resolve::resolve;
use crate::domain::right::Right;
use crate::domain::run::{Event, Run, TaskState};
use crate::domain::submission::Schedule;
use crate::domain::wire::read_task;
use crate::engine::Engine;
use crate::engine::orders::Refused;
use crate::engine::outbox::Outbox;
use crate::engine::sleepers::people;

impl Engine {
    /// Makes a waiting task's plan anew and asks policy anew, when either may have changed since the last time. A task that
    /// is not what was approved any more waits for approval again. Returns whether it was the same.
    pub(super) fn recheck(&mut self, id: TaskId, out: &mut Outbox) -> bool {
        let Some(run) = self.runs.get(&id) else { return false };
        // What cannot be read says nothing about any task.
        if self.broken_library.is_some() {
            return false;
        }
        let before = run.state();
        if !matches!(before, TaskState::New | TaskState::Ready) || self.verified.get(&id) == Some(&self.generation) {
            return true;
        }
        let plan = match self.plan_of(run) {
            Ok(plan) => plan,
            Err(problems) => {
                let problems = problems.iter().map(ToString::to_string).collect();
                let Some(run) = self.runs.get_mut(&id) else { return false };
                Engine::record(run, Event::Unresolvable { problems }, out);
                self.close(id, Outcome::Stale, out);
                return false;
            }
        };
        let events = if plan.digest() == run.digest { self.policy_changes(run) } else { vec![self.stale(run, plan)] };
        self.verified.insert(id, self.generation);
        let Some(run) = self.runs.get_mut(&id) else { return false };
        let (version, same) = (run.plan_version, events.is_empty());
        for event in events {
            Engine::record(run, event, out);
        }
        out.relocate(id, before, run.state());
        if run.plan_version != version {
            out.replan(run);
        }
        if run.state() == TaskState::New {
            self.due.remove(&id);
        }
        same
    }

    /// Refuses to take again what would be another plan now, or would need approvals that it does not have.
    pub(super) fn differs(&self, id: TaskId) -> Result<(), Refused> {
        let Some(run) = self.runs.get(&id) else { return Ok(()) };
        let why = match self.plan_of(run) {
            Err(problems) => problems.first().map(ToString::to_string),
            Ok(plan) if plan.digest() != run.digest => differences(&run.plan, &plan).first().map(ToString::to_string),
            Ok(_) => self.policy_changes(run).iter().find_map(Event::detail),
        };
        match why {
            Some(why) => Err(Refused::not_now(format!(
                "what ran is not what would run now ({why}); submit it again, so that it can be approved"
            ))),
            None => Ok(()),
        }
    }

    fn plan_of(&self, run: &Run) -> Result<Plan, Vec<Problem>> {
        let submission = read_task(run.accepted.submission.as_bytes(), &self.library.zone);
        resolve(&submission.map_err(|unreadable| unreadable.problems)?, &self.library)
    }

    fn stale(&self, run: &Run, plan: Plan) -> Event {
        let policy = &self.library.policy;
        let subject = run.subject_with(&plan, policy);
        let (differences, needs) = (differences(&run.plan, &plan), policy.needs(&subject));
        Event::Stale { differences, needs, digest: plan.digest(), plan: Box::new(plan) }
    }

    /// Returns what a policy that changed makes of a task: approvals that lapse, and other needs. Nothing when it stays as
    /// it is.
    fn policy_changes(&self, run: &Run) -> Vec<Event> {
        let policy = &self.library.policy;
        let subject = run.subject(policy);
        let needs = policy.needs(&subject);
        let mut events = Vec::new();
        let exempt = matches!(run.accepted.admission, Admission::Ready { .. }) && run.needs.is_empty();
        if exempt {
            let person = self.person(&run.accepted.by);
            let admitted = policy.admit(&person, &subject, Schedule::Ready);
            let why = match (self.is_not_any_more(&run.accepted.by), admitted) {
                (None, Ok(Admission::Ready { .. })) => return events,
                (Some(why), _) => format!("who submitted it {why}"),
                (None, _) => format!("policy does not let {} run it without approval any more", person.actor.user),
            };
            return vec![Event::Readmitted { needs, why }];
        }
        let mut kept: Vec<&Approval> = Vec::new();
        for (_, vote) in &run.approvals {
            if let Some(why) = self.is_not_any_more(&vote.by) {
                events.push(Event::Lapsed { by: vote.by.clone(), why: format!("who gave it {why}") });
                continue;
            }
            let person = self.person(&vote.by);
            // An approval counts for the groups that its giver was in, as long as they are.
            let left = vote.groups.difference(&person.groups).next();
            if let Some(group) = left.filter(|_| self.people.contains_key(&vote.by.uid)) {
                let why = format!("{} is not in the group {group} any more", vote.by.user);
                events.push(Event::Lapsed { by: vote.by.clone(), why });
                continue;
            }
            match policy.allows(&person, Right::Approve, &subject) {
                Ok(_) => kept.push(vote),
                Err(refusal) => {
                    events.push(Event::Lapsed { by: vote.by.clone(), why: refusal.said_of(&run.id.to_string()) });
                }
            }
        }
        // Rules are named by their lines, which say nothing about what they ask for.
        let asked = |needs: &[Need]| needs.iter().map(|need| (need.approvals, need.of.clone())).collect::<Vec<_>>();
        // What has ended was approved by the needs of its time; more of them need more people now.
        let ended = run.state() == TaskState::Done;
        if asked(&needs) != asked(&run.needs) && !(ended && missing(&needs, &kept) == 0) {
            let said = |needs: &[Need]| {
                let of = |need: &Need| if need.of.is_empty() { "all who may".to_owned() } else { need.of.join(", ") };
                needs.iter().map(|need| format!("{} of {}", need.approvals, of(need))).collect::<Vec<_>>().join("; ")
            };
            let why = format!("policy asks for {} now, it asked for {}", said(&needs), said(&run.needs));
            events.push(Event::Readmitted { needs, why });
        }
        events
    }

    /// Returns what became of somebody's account, if it is not the one that acted: an act counts for a number and its name
    /// together. What a number is called that has no account is known to all.
    fn is_not_any_more(&self, actor: &Actor) -> Option<String> {
        let known = &self.people.get(&actor.uid)?.actor.user;
        let Actor { uid, user } = actor;
        match known {
            same if same == user => None,
            none if *none == format!("uid-{uid}") => {
                Some(format!("has no account any more ({user}, uid {uid}); an account made later is another one"))
            }
            other => {
                Some(format!("was {user}, and uid {uid} is {other} now; what {user} did does not count for {other}"))
            }
        }
    }

    /// Remembers which groups somebody is in who was judged just now.
    pub(super) fn meet(&mut self, person: &Person) {
        let uid = person.actor.uid;
        if is_token_uid(uid) {
            return;
        }
        let known = self.people.insert(uid, person.clone());
        if known.is_some_and(|known| known.actor != person.actor) {
            for id in self.concerned(&BTreeSet::from([uid])) {
                self.verified.remove(&id);
            }
        }
    }

    /// Returns the unfinished tasks that were submitted or approved by one of these.
    fn concerned(&self, uids: &BTreeSet<u32>) -> Vec<TaskId> {
        let awake = self.runs.values().filter(|run| people(run).any(|uid| uids.contains(&uid))).map(|run| run.id);
        let asleep = self.sleepers.iter().filter(|(_, task)| task.people().iter().any(|uid| uids.contains(uid)));
        awake.chain(asleep.map(|(id, _)| id)).collect()
    }

    /// Learns who people are now and which groups they are in. Where that changed, the tasks that depend on them are judged anew.
    pub(super) fn take_people(&mut self, people: HashMap<u32, Person>) {
        let differs = |person: &&Person| {
            let known = self.people.get(&person.actor.uid);
            known.is_some_and(|known| known.groups != person.groups || known.actor != person.actor)
        };
        let changed: BTreeSet<u32> = people.values().filter(differs).map(|person| person.actor.uid).collect();
        self.people.extend(people);
        if changed.is_empty() {
            return;
        }
        for id in self.concerned(&changed) {
            self.verified.remove(&id);
            self.sleepers.judge(id);
        }
    }

    /// Returns a person with the groups that the system knows for them; without groups when it was not asked.
    fn person(&self, actor: &Actor) -> Person {
        let known = self.people.get(&actor.uid).cloned();
        known.unwrap_or_else(|| Person { actor: actor.clone(), groups: std::collections::BTreeSet::new() })
    }

    /// Lets an approval lapse whose time has passed.
    pub(super) fn lapse(run: &mut Run, now: Timestamp, out: &mut Outbox) {
        let ended = |(_, vote): &(Timestamp, Approval)| vote.until.filter(|until| *until <= now);
        while let Some((vote, until)) = run.approvals.iter().find_map(|timed| Some((&timed.1, ended(timed)?))) {
            let (by, why) = (vote.by.clone(), format!("it was to hold until {until}"));
            Engine::record(run, Event::Lapsed { by, why }, out);
        }
    }
}
