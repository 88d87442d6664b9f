//! What becomes of a dropped task file: a task, or a refusal with every reason.
//!
//! **Invariant:** the same drop never makes two tasks, and no drop disappears: it is consumed after its task is
//! durable, refused into `bad/`, or left alone because it may still be written.

use crate::engine::keys::{KeyOf, keyed};
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::base::digest::Digest;
use crate::base::ids::TaskId;
use crate::base::time::Timestamp;
use crate::domain::audit::Entry;
use crate::domain::drop_name::stem;
use crate::domain::hook::{Made, PUSH_KEY, Push, TAGS};
use crate::domain::plan::Plan;
use crate::domain::policy::{Admission, Policy, Subject};
use crate::domain::problem::Problem;
use crate::domain::record::view_file;
use crate::domain::resolve::resolve;
use crate::domain::run::{Accepted, DropKey, Event, Recorded, Run, TaskState};
use crate::domain::submission::{Claims, Schedule, Submission, Work};
use crate::domain::wire::{Wish, read_task, read_wish};
use crate::engine::Engine;
use crate::engine::input::{DropBox, Dropped, Moved};
use crate::engine::outbox::Outbox;
use crate::engine::turn::NewTask;

/// How long a ref may not be where a hook says that it will be.
const SETTLES_MS: i64 = 30_000;
/// For how long hooks may report the same push.
const REPORTED_MS: i64 = 10 * 60_000;

impl Engine {
    pub(super) fn on_dropped(&mut self, file: Dropped, out: &mut Outbox) {
        // It may stand in its box although it was taken: the disk did not let it go, or forgot that it went.
        if file.key.identity().is_some_and(|identity| self.drops.contains(&identity)) {
            return consume(file, None, out);
        }
        match file.drop_box {
            DropBox::Orders => self.on_order(file, out),
            DropBox::New | DropBox::Ready => self.on_submission(file, out),
        }
    }

    fn on_submission(&mut self, file: Dropped, out: &mut Outbox) {
        let wish = match read_wish(&file.bytes, &self.library.zone) {
            Ok(wish) => wish,
            Err(unreadable) if unreadable.truncated && file.may_grow => return,
            Err(unreadable) => return out.refuse(file, None, unreadable.problems),
        };
        match wish {
            Wish::Task(submission) => {
                let into = match file.drop_box {
                    DropBox::Ready => Schedule::Ready,
                    _ => Schedule::New,
                };
                self.on_task(*submission, into, file, out);
            }
            Wish::Push(push) => {
                // An update hook sees a tag before anybody can look it up.
                let age_ms =
                    out.now().0.saturating_sub(file.key.mtime_ns.parse::<i64>().unwrap_or_default() / 1_000_000);
                let unsettled = push.hook == "update" && (0..SETTLES_MS).contains(&age_ms);
                let may_be_wrong = push.hook == "update" && !self.shows(&push);
                match self.library.hooks.of_push(&push) {
                    Some(Ok(_)) if may_be_wrong && file.moved == Moved::No => {
                        not_moved(&push, unsettled, file, out);
                    }
                    Some(Ok(made)) => {
                        let mut file = file;
                        if !may_be_wrong {
                            file.moved = Moved::Yes;
                        }
                        self.on_made(made, Some((push.hook, unsettled)), file, out);
                    }
                    Some(Err(problem)) => out.refuse(file, None, vec![problem]),
                    None => consume(file, None, out),
                }
            }
            Wish::Alert(alert) => match self.library.hooks.of_alert(&alert) {
                Some(made) => self.on_made(made, None, file, out),
                None => consume(file, None, out),
            },
        }
    }

    /// Whether a repository of the library has the pushed tag at the pushed commit: then git has moved it.
    fn shows(&self, push: &Push) -> bool {
        let tag = push.reference.strip_prefix(TAGS);
        let stands = |tags: &BTreeMap<String, String>| tags.get(tag.unwrap_or_default()) == push.commit.as_ref();
        tag.is_some() && push.commit.is_some() && self.library.tags.values().any(stands)
    }

    /// Takes the task that the rules make of what happened. What cannot be looked up yet is looked at again soon. `hook` is
    /// the one that reports a push, and whether the ref may not be there yet.
    fn on_made(&mut self, made: Made, hook: Option<(String, bool)>, mut file: Dropped, out: &mut Outbox) {
        let submission = match read_task(made.text.as_bytes(), &self.library.zone) {
            Ok(submission) => submission,
            Err(unreadable) => return out.refuse(file, None, unreadable.problems),
        };
        let (hook, unsettled) = hook.map_or((None, false), |(hook, unsettled)| (Some(hook), unsettled));
        let key = submission.idempotency_key.as_ref().map(|key| KeyOf::new(key, file.key.uid));
        if let Some(id) = key.and_then(|key| self.reported(&key, hook.as_deref(), out.now())) {
            return consume(file, Some(id), out);
        }
        // Over HTTP somebody waits for the answer.
        if unsettled && !file.key.is_posted() && resolve(&submission, &self.library).is_err() {
            return out.look_again(file);
        }
        file.bytes = made.text.into_bytes();
        self.on_new(submission, made.into, file, hook, out);
    }

    /// Returns the task of a push that is reported once more. However many hooks report a push, it is one; but each reports
    /// it once, so that a second report by the same hook is a push of its own, if what the first one made has ended.
    fn reported(&mut self, key: &KeyOf, hook: Option<&str>, now: Timestamp) -> Option<TaskId> {
        let known = self.keys.get_mut(key)?;
        let runs = self.runs.get(&known.id).is_some_and(|run| run.state() != TaskState::Done);
        let goes_on = runs || self.sleepers.holds(known.id);
        let is_new = hook.is_none_or(|hook| !known.hooks.iter().any(|known| known == hook));
        let same = (0..REPORTED_MS).contains(&now.0.saturating_sub(known.at.0)) && (goes_on || is_new);
        known.hooks.extend(hook.filter(|_| same && is_new).map(str::to_owned));
        same.then_some(known.id)
    }

    fn on_task(&mut self, submission: Submission, into: Schedule, file: Dropped, out: &mut Outbox) {
        if let Some(key) = submission.idempotency_key.as_ref().filter(|key| key.starts_with(PUSH_KEY)) {
            let wanted = format!("a key that does not begin with {PUSH_KEY}: those stand for pushes");
            return out.refuse(file, None, vec![Problem::new("/idempotency_key", key, wanted)]);
        }
        if let Some(answer) = self.repeated(&submission, &file) {
            return match answer {
                Ok(id) => consume(file, Some(id), out),
                Err(problem) => out.refuse(file, None, vec![problem]),
            };
        }
        self.on_new(submission, into, file, None, out);
    }

    fn on_new(
        &mut self,
        submission: Submission,
        into: Schedule,
        file: Dropped,
        hook: Option<String>,
        out: &mut Outbox,
    ) {
        let unproved = self.is_unproved(&file);
        let doubt = match (&file.moved, &hook) {
            (Moved::Unknown(why), Some(_)) => {
                Some(format!("its hook ran before git moved the ref, and nobody can look whether it did: {why}"))
            }
            _ if unproved && into == Schedule::Ready => Some(format!(
                "it lay flat in {}/, where others may have put it: only what lies in a directory of its owner's own, {}, can \
                 skip approval",
                file.drop_box.name(),
                own_place(&file)
            )),
            _ => None,
        };
        // Nothing runs by itself because of a ref that may never have moved, or of a file that somebody else may have put there.
        let into = if doubt.is_some() { Schedule::New } else { into };
        match self.judge(&submission, into, &file, out) {
            // Who may skip approval is not known while the rules cannot be read.
            Ok((plan, Admission::Ready { .. })) if self.broken_library.is_some() => {
                let subject = self.subject_of(&plan, &submission, &file);
                let note = Some("the configuration cannot be read at the moment".to_owned());
                let admission = Admission::New { needs: self.library.policy.needs(&subject), note };
                self.accept(file, submission, (plan, admission), hook, out);
            }
            Ok((plan, Admission::New { needs, note })) => {
                let admission = Admission::New { needs, note: doubt.or(note) };
                self.accept(file, submission, (plan, admission), hook, out);
            }
            Ok(judged) => self.accept(file, submission, judged, hook, out),
            Err(problems) => out.refuse(file, None, problems),
        }
    }

    /// Answers a submission whose idempotency key is known: the same bytes are the same task.
    fn repeated(&self, submission: &Submission, file: &Dropped) -> Option<Result<TaskId, Problem>> {
        let key = submission.idempotency_key.as_ref()?;
        let known = self.keys.get(&KeyOf::new(key, file.key.uid))?;
        Some(if known.digest == Digest::of(&file.bytes) {
            Ok(known.id)
        } else {
            let wanted = format!("a key of its own: task {} has this key and other bytes", known.id);
            Err(Problem::new("/idempotency_key", key, wanted))
        })
    }

    /// Resolves a submission and asks policy; all problems of both.
    fn judge(
        &self,
        submission: &Submission,
        into: Schedule,
        file: &Dropped,
        out: &Outbox,
    ) -> Result<(Arc<Plan>, Admission), Vec<Problem>> {
        let mut problems = Vec::new();
        if submission.not_after.is_some_and(|end| end <= out.now()) {
            problems.push(Problem::new("/not_after", "a time that has passed", "a time to come"));
        }
        let plan = resolve(submission, &self.library).map_err(|found| problems.extend(found)).ok();
        let by = &file.owner.actor;
        let mut into = into;
        if let Some(scope) = &file.scope {
            into = if scope.ready { into } else { Schedule::New };
            // What it is now called is what it was limited to, however the library changed meanwhile.
            let work = plan.as_ref().map_or_else(|| self.work_name(submission), |plan| plan.work_name().to_owned());
            if !work.is_empty() && !scope.covers(&work) {
                problems.push(Problem::denied(format!("{by} may not submit {work}: it is for other templates"), ""));
            }
        }
        let wish = match (into, submission.schedule) {
            (Schedule::Ready, None | Some(Schedule::Ready)) => Schedule::Ready,
            // Where box and file differ the more careful one holds.
            _ => Schedule::New,
        };
        if self.is_unproved(file) && self.library.policy.refuses_unproved() {
            let found = format!("a file that lies flat in {}/", file.drop_box.name());
            let wanted = format!(
                "a file in a directory of its owner's own, {}: policy.toml says unproved = \"refuse\"",
                own_place(file)
            );
            problems.push(Problem::new("", found, wanted));
        }
        let subject = match &plan {
            Some(plan) => self.subject_of(plan, submission, file),
            None => match self.work_name(submission) {
                // Of a template that does not exist no rule can be asked.
                none if none.is_empty() => return Err(problems),
                work => Subject::unresolved(work, by),
            },
        };
        let admission = self
            .library
            .policy
            .admit(&file.owner, &subject, wish)
            .map_err(|refusal| problems.push(Problem::denied(&refusal.why, refusal.more("FILE").unwrap_or_default())))
            .ok();
        match (plan, admission) {
            (Some(plan), Some(admission)) if problems.is_empty() => Ok((Arc::new(plan), admission)),
            _ => Err(problems),
        }
    }

    /// Whether somebody else may have put a file where it lay, in a state where that matters.
    pub(super) fn is_unproved(&self, file: &Dropped) -> bool {
        !file.key.is_proved() && matches!(self.library.policy, Policy::Rules(_))
    }

    fn subject_of(&self, plan: &Plan, submission: &Submission, file: &Dropped) -> Subject {
        let subject = Subject::of(plan, &file.owner.actor, &submission.claims, &self.library.policy.bounds());
        Subject { unproved: self.is_unproved(file), ..subject }
    }

    /// Returns what policy knows the work as, when the plan could not be made.
    fn work_name(&self, submission: &Submission) -> String {
        match &submission.work {
            Work::Script { .. } => "script".to_owned(),
            Work::Template { template, .. } => {
                self.library.catalogue.find(template).map_or_else(String::new, |found| found.name.to_string())
            }
        }
    }

    fn accept(
        &mut self,
        file: Dropped,
        submission: Submission,
        (plan, admission): (Arc<Plan>, Admission),
        hook: Option<String>,
        out: &mut Outbox,
    ) {
        let canonical = plan.canonical();
        let bytes = (canonical.len() as u64).saturating_add(file.bytes.len() as u64);
        let load = self.loads.of(file.key.uid);
        if let Some(problem) = self.library.shares.refusal(&file.owner.actor, load, bytes) {
            return out.refuse(file, None, vec![problem]);
        }
        self.meet(&file.owner);
        let id = TaskId(self.next_id);
        self.loads.note(id, file.key.uid, bytes);
        self.next_id = self.next_id.saturating_add(1);
        let name = stem(file.key.name.file()).to_owned();
        let unproved = self.is_unproved(&file);
        let accepted = Recorded {
            at: out.now(),
            event: Event::Accepted(Box::new(Accepted {
                name: name.clone(),
                by: file.owner.actor,
                claims: Claims { owner: file.scope.and_then(|scope| scope.owner), ..submission.claims },
                drop: file.key.clone(),
                unproved,
                admission,
                digest: Digest::of(&canonical),
                idempotency_key: submission.idempotency_key,
                hook,
                details: submission.details,
                task_type: submission.task_type,
                submission: String::from_utf8_lossy(&file.bytes).into_owned(),
            })),
        };
        let run = Run::begin(id, Arc::clone(&plan), &accepted).expect("the digest is the plan's own");
        let view = view_file(&run);
        out.create(NewTask { id, plan, events: vec![accepted], state: run.state(), view });
        out.audit(Entry::of(id, &run.acts[0]));
        out.consume(file.drop_box, file.key, Some(id));
        self.index(&run);
        self.watch(&run);
        self.verified.insert(id, self.generation);
        self.runs.insert(id, run);
    }

    /// Makes an unfinished run findable by what it came from.
    pub(super) fn index(&mut self, run: &Run) {
        self.drops.extend(run.drops().filter_map(DropKey::identity));
        self.index_accepted(run.id, &run.accepted, run.accepted_at);
    }

    /// Makes a task findable of which perhaps nothing else can be read, so that it does not come in a second time.
    pub(super) fn index_accepted(&mut self, id: TaskId, accepted: &Accepted, at: Timestamp) {
        self.drops.extend(accepted.drop.identity());
        self.names.note(accepted.name.clone(), accepted.by.uid, id);
        self.keys.extend(keyed(id, accepted, at));
    }
}

/// Answers a hook whose ref is not where it said: it may come there, and git may have refused it for another one's sake.
fn not_moved(push: &Push, unsettled: bool, file: Dropped, out: &mut Outbox) {
    if unsettled {
        return out.look_again(file);
    }
    let found = format!("{} does not point at {}", push.reference, push.new);
    let wanted = "a ref that git moved after its update hook was asked; it did not (push --atomic, another hook), or moved \
                  it on since";
    out.refuse(file, None, vec![Problem::new("/ref", found, wanted)]);
}

/// Returns where a file would have to lie to prove its owner.
pub(super) fn own_place(file: &Dropped) -> String {
    format!("{}/{}/", file.drop_box.name(), file.owner.actor.user)
}

fn consume(file: Dropped, task: Option<TaskId>, out: &mut Outbox) {
    out.consume(file.drop_box, file.key, task);
}
