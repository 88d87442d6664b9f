//! How much of the daemon one person may take: tasks that wait, their bytes, files a minute.
//!
//! **Invariant:** pure. Who may do everything anyway (root, whom the state belongs to) has no limit; everybody else is held to
//! the same one, whether they drop files or post with a token.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::ids::{Actor, TaskId};
use crate::base::limits;
use crate::domain::problem::Problem;

/// What one person may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// How many tasks of theirs may wait for approval, their time or a slot.
    pub waiting_tasks: usize,
    /// How many bytes the texts and plans of those may have together.
    pub waiting_bytes: u64,
    /// How many files of theirs are taken out of the boxes in a minute; orders are counted apart from tasks.
    pub files_per_minute: u32,
    /// Who has no limit.
    pub exempt: BTreeSet<u32>,
}

impl Shares {
    /// Says which limit a person is at, where one task more is one too many; `None` where it may come in.
    #[must_use]
    pub fn refusal(&self, who: &Actor, load: Load, bytes: u64) -> Option<Problem> {
        if self.exempt.contains(&who.uid) {
            return None;
        }
        let all = load.bytes.saturating_add(bytes);
        let (found, limit) = if load.tasks >= self.waiting_tasks {
            let limit = format!("at most {} (limits.waiting_tasks in spoolgate.toml)", self.waiting_tasks);
            (format!("{} tasks of {} wait already", load.tasks, who.user), limit)
        } else if all > self.waiting_bytes {
            let limit = format!("at most {} bytes (limits.waiting_bytes in spoolgate.toml)", self.waiting_bytes);
            (format!("{all} bytes of {} waiting tasks of {}", load.tasks.saturating_add(1), who.user), limit)
        } else {
            return None;
        };
        Some(Problem::limited(found, format!("{limit}; try: drop it again when some have begun or were withdrawn")))
    }

    /// Whether a person can have nothing more wait.
    #[must_use]
    fn is_full(&self, uid: u32, load: Load) -> bool {
        let full = load.tasks >= self.waiting_tasks || load.bytes >= self.waiting_bytes;
        full && !self.exempt.contains(&uid)
    }
}

impl Default for Shares {
    fn default() -> Shares {
        Shares {
            waiting_tasks: limits::WAITING_TASKS,
            waiting_bytes: limits::WAITING_BYTES,
            files_per_minute: limits::FILES_PER_MINUTE,
            exempt: BTreeSet::from([0]),
        }
    }
}

/// What waits of somebody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// How many tasks.
    pub tasks: usize,
    /// How many bytes they have.
    pub bytes: u64,
}

/// What waits, by whose it is.
#[derive(Debug, Default)]
pub struct Loads {
    tasks: BTreeMap<TaskId, (u32, u64)>,
    people: BTreeMap<u32, Load>,
}

impl Loads {
    /// Notes a task that waits from now on.
    pub fn note(&mut self, id: TaskId, uid: u32, bytes: u64) {
        self.forget(id);
        self.tasks.insert(id, (uid, bytes));
        let load = self.people.entry(uid).or_default();
        *load = Load { tasks: load.tasks.saturating_add(1), bytes: load.bytes.saturating_add(bytes) };
    }

    /// Forgets a task that does not wait any more.
    pub fn forget(&mut self, id: TaskId) {
        let Some((uid, bytes)) = self.tasks.remove(&id) else { return };
        let Some(load) = self.people.get_mut(&uid) else { return };
        *load = Load { tasks: load.tasks.saturating_sub(1), bytes: load.bytes.saturating_sub(bytes) };
        if load.tasks == 0 {
            self.people.remove(&uid);
        }
    }

    /// Returns what waits of somebody.
    #[must_use]
    pub fn of(&self, uid: u32) -> Load {
        self.people.get(&uid).copied().unwrap_or_default()
    }

    /// Returns who can have nothing more wait.
    pub fn full<'a>(&'a self, shares: &'a Shares) -> impl Iterator<Item = u32> + 'a {
        self.people.iter().filter(|(uid, load)| shares.is_full(**uid, **load)).map(|(uid, _)| *uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> Shares {
        Shares { waiting_tasks: 3, waiting_bytes: 100, files_per_minute: 10, exempt: BTreeSet::from([0]) }
    }

    #[test]
    fn one_too_many_is_refused_with_the_limit_it_meets() {
        let table = [
            (7, (0, 0), 100, None),
            (7, (2, 99), 1, None),
            (7, (2, 99), 2, Some("limits.waiting_bytes")),
            (7, (0, 0), 101, Some("limits.waiting_bytes")),
            (7, (3, 0), 0, Some("limits.waiting_tasks")),
            (7, (usize::MAX, u64::MAX), u64::MAX, Some("limits.waiting_tasks")),
            (7, (0, u64::MAX), u64::MAX, Some("limits.waiting_bytes")),
            (0, (usize::MAX, u64::MAX), u64::MAX, None),
        ];
        for (uid, (tasks, bytes), more, want) in table {
            let who = Actor { uid, user: format!("uid-{uid}") };
            let refusal = shares().refusal(&who, Load { tasks, bytes }, more);
            assert_eq!(refusal.is_some(), want.is_some(), "{uid} {tasks} {bytes} {more}: {refusal:?}");
            if let (Some(problem), Some(limit)) = (refusal, want) {
                assert!(problem.limited && problem.wanted.contains(limit) && problem.wanted.contains("drop it again"));
                assert!(problem.found.contains("uid-7"), "{problem}");
            }
        }
    }

    #[test]
    fn what_waits_is_counted_by_whose_it_is() {
        let mut loads = Loads::default();
        for (id, uid, bytes) in [(1, 7, 10), (2, 7, 20), (3, 8, 5), (2, 7, 30), (4, 0, 1_000)] {
            loads.note(TaskId(id), uid, bytes);
        }
        assert_eq!((loads.of(7), loads.of(8)), (Load { tasks: 2, bytes: 40 }, Load { tasks: 1, bytes: 5 }));
        loads.note(TaskId(5), 7, 0);
        assert_eq!(loads.full(&shares()).collect::<Vec<_>>(), [7]);
        for id in [1, 2, 5, 5, 9] {
            loads.forget(TaskId(id));
        }
        assert_eq!((loads.of(7), loads.full(&shares()).count()), (Load::default(), 0));
    }
}
