//! Finding tasks and waiting for them. Floor 4.
//!
//! **Invariant:** a word is a task's number or the name it was dropped under; of several with a name the newest.

use std::time::{Duration, Instant};

use crate::adapters::spool::reader::{self, Follower};
use crate::base::ids::TaskId;
use crate::domain::run::Run;
use crate::shells::cli::Context;
use crate::shells::cli::failure::{Failure, Kind};

/// How often files are looked at while waiting for somebody else to change them.
const POLL: Duration = Duration::from_millis(50);
/// How long the daemon may take to answer.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Opens the task that a word means.
pub(super) fn open(context: &Context, word: &str) -> Result<Follower, Failure> {
    let ids = reader::task_ids(&context.layout)?;
    if let Some(id) = word.parse().ok().map(TaskId).filter(|id| ids.binary_search(id).is_ok()) {
        return Ok(Follower::open(&context.layout, id)?.0);
    }
    for id in ids.into_iter().rev() {
        let Ok((follower, _)) = Follower::open(&context.layout, id) else { continue };
        if follower.run().is_some_and(|run| run.accepted.name == word) {
            return Ok(follower);
        }
    }
    Err(Failure::new(Kind::NotFound, format!("there is no task {word}")).hint("spoolgate ls"))
}

/// Returns the fold of an opened task.
pub(super) fn run_of(follower: &Follower) -> Result<&Run, Failure> {
    follower.run().ok_or_else(|| Failure::new(Kind::Unavailable, "the task's journal is empty"))
}

/// Looks again and again until there is an answer, or the limit has passed.
pub(super) fn wait_for<T>(
    limit: Option<Duration>,
    mut look: impl FnMut() -> Result<Option<T>, Failure>,
) -> Result<Option<T>, Failure> {
    let begin = Instant::now();
    loop {
        if let Some(answer) = look()? {
            return Ok(Some(answer));
        }
        if limit.is_some_and(|limit| begin.elapsed() >= limit) {
            return Ok(None);
        }
        std::thread::park_timeout(POLL);
    }
}

/// Whether a daemon serves this state.
pub(super) fn daemon_runs(context: &Context) -> Result<bool, Failure> {
    Ok(reader::daemon_pid(&context.layout)?.is_some())
}

/// The failure of something that is in its box, and that nobody takes.
pub(super) fn queued(what: &str) -> Failure {
    let message = format!("{what} is in its box; the daemon does not run, and takes it when it does");
    Failure::new(Kind::Unavailable, message).hint("spoolgate daemon")
}
