//! The simulated disk, and a turn performed on it stage by stage, as the daemon performs it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::mutants::Mutant;
use super::parts::library;
use super::{World, is_entitled};
use crate::base::ids::TaskId;
use crate::domain::audit::Entry;
use crate::domain::drop_name::DropName;
use crate::domain::plan::Plan;
use crate::domain::record::HistoryLine;
use crate::domain::run::{Event, Recorded, Run, TaskState};
use crate::engine::input::{DropBox, Dropped};
use crate::engine::turn::{Act, Commit, NewTask, Reopened, Stage, Taken, Turn, ViewChange};

/// What is on disk.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) runs: BTreeMap<TaskId, (Arc<Plan>, Vec<Recorded>)>,
    pub(super) views: BTreeSet<(TaskState, TaskId)>,
    pub(super) records: BTreeSet<TaskId>,
    pub(super) boxes: BTreeMap<(DropBox, DropName), Dropped>,
    /// What was taken out of the boxes, in order: the last of it may be back after a crash.
    pub(super) taken: Vec<Dropped>,
    pub(super) bad: BTreeSet<DropName>,
    pub(super) history: Vec<HistoryLine>,
    /// The audit: which line of which task's journal, in order.
    pub(super) audit: Vec<(TaskId, u64)>,
}

/// A crash came; nothing more is done.
struct Crashed;

impl World {
    /// Performs a turn to its end or to a crash: before, between and inside its stages.
    pub(super) fn perform(&mut self, turn: Turn) {
        if self.crashes && self.dice.one_in(self.knobs.crash_in_turn) {
            self.fuse = Some(self.dice.roll(operations(&turn) + 1));
        }
        let mut stages: Vec<Stage> = turn.stages().into();
        if let Some(mutant) = self.mutant {
            mutant.change(&mut stages);
        }
        let mut created = Vec::new();
        let whole = stages.into_iter().try_for_each(|stage| self.perform_stage(stage, &mut created));
        // What is left of the fuse burns after the turn.
        if whole.is_err() || self.fuse.take().is_some() {
            self.crash();
        }
    }

    fn perform_stage(&mut self, stage: Stage, created: &mut Vec<(TaskId, TaskState)>) -> Result<(), Crashed> {
        match stage {
            Stage::Reopen(tasks) => tasks.into_iter().try_for_each(|Reopened { id, .. }| {
                self.goes_on()?;
                self.disk.views.insert((TaskState::Running, id));
                self.disk.views.remove(&(TaskState::Done, id));
                self.disk.records.remove(&id);
                Ok(())
            }),
            Stage::Commit(commit) => {
                created.extend(commit.creates.iter().map(|new| (new.id, new.state)));
                self.commit(commit)
            }
            Stage::Take(files) => files.into_iter().try_for_each(|file| {
                self.goes_on()?;
                self.take(file);
                Ok(())
            }),
            Stage::Show(changes) => {
                for (id, state) in created.drain(..) {
                    self.goes_on()?;
                    self.disk.views.insert((state, id));
                }
                changes.into_iter().try_for_each(|change| {
                    self.goes_on()?;
                    self.show(change);
                    Ok(())
                })
            }
            Stage::Act(acts) => acts.into_iter().try_for_each(|act| {
                self.goes_on()?;
                self.act(act);
                Ok(())
            }),
            Stage::Fetch(ids) => {
                self.fetched.extend(ids);
                Ok(())
            }
        }
    }

    /// Whether one more thing is done before the crash, if one comes.
    fn goes_on(&mut self) -> Result<(), Crashed> {
        match &mut self.fuse {
            Some(0) => Err(Crashed),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Writes what is synced together. A crash before that leaves any of the new tasks, each whole or not at all, and any prefix of
    /// each journal's new lines; the audit's lines follow when all of it is durable.
    fn commit(&mut self, commit: Commit) -> Result<(), Crashed> {
        let Commit { creates, appends, audit } = commit;
        if !appends.is_empty() {
            let length = |id: &TaskId| self.disk.runs.get(id).map_or(0, |(_, events)| events.len());
            self.unsynced = appends.iter().map(|(id, _)| (*id, length(id))).collect();
        }
        let files = creates.len() + appends.len();
        if (0..files).try_for_each(|_| self.goes_on()).is_err() {
            self.tear(creates, appends);
            return Err(Crashed);
        }
        for new in creates {
            let known = self.disk.runs.insert(new.id, (new.plan, new.events));
            assert!(known.is_none(), "task {} made twice", new.id);
        }
        for (id, events) in appends {
            self.laws.appended(id, &events, self.steady_ms);
            let begins = events.iter().any(|recorded| recorded.event == Event::Started);
            self.disk.runs.get_mut(&id).expect("the task exists").1.extend(events);
            if begins {
                self.check_begin(id);
            }
        }
        audit.into_iter().try_for_each(|entry| {
            self.goes_on()?;
            self.audit(&entry);
            Ok(())
        })
    }

    fn tear(&mut self, creates: Vec<NewTask>, appends: Vec<(TaskId, Vec<Recorded>)>) {
        for new in creates {
            if self.dice.one_in(2) {
                self.disk.runs.insert(new.id, (new.plan, new.events));
            }
        }
        for (id, events) in appends {
            let kept = self.dice.roll(events.len() as u64 + 1) as usize;
            if let Some((_, journal)) = self.disk.runs.get_mut(&id) {
                journal.extend_from_slice(&events[..kept]);
            }
        }
    }

    /// What begins is today's plan, with today's approvals.
    fn check_begin(&self, id: TaskId) {
        let (plan, events) = &self.disk.runs[&id];
        let run = Run::fold(id, Arc::clone(plan), events).expect("the journal folds");
        let today = format!("ops{}", self.library / 2);
        assert!(run.plan.hosts.values().all(|host| host.user == today), "task {id} began with an old plan");
        assert!(is_entitled(&run, &library(self.library).policy), "task {id} began without enough approvals");
    }

    fn audit(&mut self, entry: &Entry) {
        let Some(event) = entry.event else {
            // A file that was refused, perhaps once more after a crash.
            return assert_eq!(entry.act, "refused");
        };
        let task = entry.task.expect("a task's");
        assert!(!self.disk.audit.contains(&(task, event)), "line {event} of task {task} audited twice");
        self.disk.audit.push((task, event));
    }

    fn take(&mut self, file: Taken) {
        let disk = &mut self.disk;
        match file {
            Taken::Consumed { drop_box, key, .. } => disk.taken.extend(disk.boxes.remove(&(drop_box, key.name))),
            Taken::Refused { drop_box, key, .. } => {
                // One turn may refuse a file twice: as it was shown, and as it waited for its task to be read.
                if disk.boxes.remove(&(drop_box, key.name.clone())).is_some() {
                    disk.bad.insert(key.name);
                }
            }
        }
    }

    fn show(&mut self, change: ViewChange) {
        let disk = &mut self.disk;
        match change {
            ViewChange::Moved { id, from, to } => {
                assert!(disk.views.remove(&(from, id)), "task {id} is not in {from:?}");
                disk.views.insert((to, id));
            }
            ViewChange::Finished { id, from, line, .. } => {
                assert!(disk.views.remove(&(from, id)), "task {id} is not in {from:?}");
                disk.views.insert((TaskState::Done, id));
                disk.records.insert(id);
                disk.history.push(*line);
            }
            ViewChange::Restored { id, state, .. } => drop(disk.views.insert((state, id))),
            ViewChange::Removed { id, state } => assert!(disk.views.remove(&(state, id))),
            ViewChange::Replanned { .. } => {}
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::RunStep(start) => {
                let key = (start.task, start.host.clone(), start.step.clone(), start.attempt);
                // The host of one that ended knows that it did, whatever is on disk of it.
                let known = self.started.contains_key(&key);
                self.started.entry(key).or_insert(None);
                let resumes = start.resume && self.mutant != Some(Mutant::StartsTwice);
                if !resumes {
                    self.laws.begins(&start, self.steady_ms);
                    self.stopped.remove(&(start.task, start.host.clone()));
                }
                assert!(!known || resumes, "{} of task {} sent twice to {}", start.step, start.task, start.host);
                self.flights.push((start.task, start.group, start.host, start.step, start.attempt));
            }
            Act::StopStep { task, host, .. } => drop(self.stopped.insert((task, host))),
            Act::ReleaseHost { .. } | Act::LookAgain { .. } => {}
        }
    }

    /// Loses what nobody synced.
    pub(super) fn lose_unsynced(&mut self) {
        for (id, length) in std::mem::take(&mut self.unsynced) {
            if let Some((_, events)) =
                self.disk.runs.get_mut(&id).filter(|_| self.mutant == Some(Mutant::ForgetsToSync))
            {
                events.truncate(length.max(1));
            }
        }
    }

    /// Puts files back into their boxes that were taken out of them: renames that were not durable, or that the disk refused,
    /// however long ago.
    pub(super) fn lose_renames(&mut self) {
        while !self.disk.taken.is_empty() && self.dice.one_in(self.knobs.rename_lost) {
            let at = self.dice.roll(self.disk.taken.len() as u64) as usize;
            let back = self.disk.taken.swap_remove(at);
            self.disk.boxes.insert((back.drop_box, back.key.name.clone()), back);
        }
    }
}

/// How many things a turn does, one after the other.
fn operations(turn: &Turn) -> u64 {
    let Turn { reopened, commit, taken, views, acts, .. } = turn;
    let written = 2 * commit.creates.len() + commit.appends.len() + commit.audit.len();
    (reopened.len() + written + taken.len() + views.len() + acts.len()) as u64
}
