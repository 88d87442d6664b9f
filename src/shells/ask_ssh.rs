//! Has OpenSSH's configuration asked about the hosts of tasks, before they are planned. Floor 4.
//!
//! **Invariant:** only hosts are asked about that some task needs; planning itself asks nobody.

use std::collections::BTreeSet;

use crate::adapters::config::ssh;
use crate::domain::library::Library;
use crate::domain::resolve::unasked;
use crate::domain::ssh_config::Query;
use crate::domain::submission::Submission;
use crate::domain::wire::read_task;

/// How often an answer may raise a question: each names hosts on the way at most.
const ROUNDS_MAX: usize = 10;

/// Whether a library says too little for some tasks.
pub(super) fn asks(library: &Library, submissions: &[Submission]) -> bool {
    submissions.iter().any(|task| !unasked(task, library).is_empty())
}

/// Completes a library for some tasks; says whether that took anything.
pub(super) fn complete(library: &mut Library, submissions: &[Submission]) -> bool {
    let mut asked = false;
    for _ in 0..ROUNDS_MAX {
        let queries: BTreeSet<Query> = submissions.iter().flat_map(|task| unasked(task, library)).collect();
        let Some(answers) = library.ssh.as_mut().filter(|_| !queries.is_empty()) else { break };
        ssh::ask(answers, &queries);
        asked = true;
    }
    asked
}

/// Reads task files that may be none.
pub(super) fn tasks_in<'a>(texts: impl Iterator<Item = &'a [u8]>, library: &Library) -> Vec<Submission> {
    if library.ssh.is_none() {
        return Vec::new();
    }
    texts.filter_map(|text| read_task(text, &library.zone).ok()).collect()
}
