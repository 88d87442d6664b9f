//! Which tasks people mean by a name.
//!
//! **Invariant:** names are their users' own: nobody's task takes the place of somebody else's by being called the same.

use std::collections::{BTreeMap, HashMap};

use crate::base::ids::TaskId;

/// Each user's newest task of each name.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<String, BTreeMap<u32, TaskId>>);

/// What a name means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant {
    /// No task.
    Nothing,
    /// This task.
    Task(TaskId),
    /// Tasks of several others.
    Several(Vec<TaskId>),
}

impl Names {
    /// Notes a task of a user.
    pub(super) fn note(&mut self, name: String, uid: u32, id: TaskId) {
        let known = self.0.entry(name).or_default().entry(uid).or_insert(id);
        *known = (*known).max(id);
    }

    /// Returns what a user means by a name: the newest task of their own, or else that of the only other who uses it.
    pub(super) fn find(&self, name: &str, uid: u32) -> Meant {
        let Some(tasks) = self.0.get(name) else { return Meant::Nothing };
        match (tasks.get(&uid), tasks.values().next()) {
            (Some(own), _) => Meant::Task(*own),
            (None, Some(only)) if tasks.len() == 1 => Meant::Task(*only),
            (None, Some(_)) => Meant::Several(tasks.values().copied().collect()),
            (None, None) => Meant::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_means_ones_own_task_first_and_never_one_of_several_others() {
        let mut names = Names::default();
        for (name, uid, id) in [("nightly", 1, 5), ("nightly", 2, 9), ("nightly", 1, 3), ("release", 2, 4)] {
            names.note(name.to_owned(), uid, TaskId(id));
        }
        for (name, uid, want) in [
            ("nightly", 1, Meant::Task(TaskId(5))),
            ("nightly", 2, Meant::Task(TaskId(9))),
            ("nightly", 3, Meant::Several(vec![TaskId(5), TaskId(9)])),
            ("release", 1, Meant::Task(TaskId(4))),
            ("other", 1, Meant::Nothing),
        ] {
            assert_eq!(names.find(name, uid), want, "{name} by {uid}");
        }
    }
}
