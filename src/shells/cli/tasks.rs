//! Finding tasks and waiting for them. Floor 4.
//!
//! **Invariant:** a word is a task's number or the name it was dropped under; of several with a name the newest of the user's
//! own. A name that only others gave means their task, unless they are several.

use std::time::{Duration, Instant};

use crate::adapters::spool::bad::Why;
use crate::adapters::spool::past::Past;
use crate::adapters::spool::reader::{self, Follower};
use crate::adapters::spool::{drop_file, past};
use crate::adapters::users;
use crate::base::ids::{Actor, TaskId};
use crate::base::text::visible;
use crate::base::time::Timestamp;
use crate::domain::drop_name::{DropName, broken_rule_of_choice, stem};
use crate::domain::outcome::Outcome;
use crate::domain::record::HistoryLine;
use crate::domain::run::{Recorded, Run, TaskState};
use crate::engine::DropBox;
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};

/// How often files are looked at while waiting for somebody else to change them.
const POLL: Duration = Duration::from_millis(50);
/// How long the daemon may take to answer.
pub(in crate::shells) const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Whether a word that may be a task's name is a file: one that is there, or what no task is called.
pub(in crate::shells) fn is_file(word: &str) -> bool {
    std::path::Path::new(word).is_file() || word.contains('/') || stem(word) != word
}

/// Opens the task that a word means.
pub(in crate::shells) fn open(context: &Context, word: &str) -> Result<Follower, Failure> {
    read(context, find(context, word)?).map(|(follower, _)| follower)
}

/// Reads a task, unless its files are for others.
pub(in crate::shells) fn read(context: &Context, id: TaskId) -> Result<(Follower, Vec<Recorded>), Failure> {
    Follower::open(&context.layout, id)
        .map_err(|error| if error.is_denied() { withheld(context, id) } else { error.into() })
}

/// What everybody may know of a task.
#[derive(Debug)]
pub(in crate::shells) struct Known {
    pub(in crate::shells) name: String,
    pub(in crate::shells) task_name: String,
    pub(in crate::shells) submitter: Actor,
    pub(in crate::shells) state: TaskState,
    pub(in crate::shells) outcome: Option<Outcome>,
    pub(in crate::shells) accepted_at: Timestamp,
    pub(in crate::shells) hosts: usize,
    pub(in crate::shells) unproved: bool,
}

/// Returns what everybody may know of a task; nothing where it is on its way from one state to the next.
pub(in crate::shells) fn known(context: &Context, id: TaskId) -> Option<Known> {
    if let Some((view, state)) = reader::view(&context.layout, id) {
        return Some(Known {
            name: view.name,
            task_name: view.task_name,
            submitter: view.submitter,
            state,
            outcome: None,
            accepted_at: view.accepted_at,
            hosts: view.hosts,
            unproved: view.unproved,
        });
    }
    let line = ended(context, id)?;
    Some(Known {
        name: line.name,
        task_name: line.task_name,
        submitter: line.submitter,
        state: TaskState::Done,
        outcome: Some(line.outcome),
        accepted_at: line.accepted_at,
        hosts: line.hosts,
        unproved: false,
    })
}

/// Returns the line of the history about a task that has ended.
fn ended(context: &Context, id: TaskId) -> Option<HistoryLine> {
    let mut past = Past::default();
    past.look(&context.layout).ok()?;
    past.line(id)
}

/// Says that the files of a task are for others, for whom, and what to do.
fn withheld(context: &Context, id: TaskId) -> Failure {
    let known = known(context, id);
    let mine = known.as_ref().is_some_and(|known| known.submitter.uid == users::current_uid());
    let daemon = daemon_user(context);
    let task = known.map_or_else(String::new, |known| {
        let state = known.outcome.map_or(known.state.word(), Outcome::word);
        format!(" ({}, {state}, of {})", visible(&known.task_name), known.submitter.user)
    });
    let (message, hint) = if mine {
        (
            format!(
                "task {id}{task} is yours, and its files cannot be given to you: they know one group, and policy.toml names \
                 none for it that you are in"
            ),
            "ask who keeps policy.toml for a [[see]] rule with a group of yours, read it over HTTP with a token",
        )
    } else {
        (
            format!(
                "you may not see what task {id}{task} runs and prints: that is for its submitter, for whoever may approve it, and \
                 for those whom [[see]] in policy.toml names"
            ),
            "ask one of them, or who keeps policy.toml",
        )
    };
    Failure::new(Kind::Withheld(id), message).hint(format!("{hint}; or: sudo -u {daemon} spoolgate show {id}"))
}

/// Refuses where what a task printed is for others.
pub(in crate::shells) fn check_output(context: &Context, id: TaskId) -> Result<(), Failure> {
    match std::fs::read_dir(context.layout.run(id).join("output")) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let message = format!(
                "you may not see what task {id} printed: that is for its submitter and for those whom [[see]] in policy.toml lets \
                 see the output"
            );
            let hint = format!(
                "ask one of them, or who keeps policy.toml; or: sudo -u {} spoolgate logs {id}",
                daemon_user(context)
            );
            Err(Failure::new(Kind::Refused, message).hint(hint))
        }
        _ => Ok(()),
    }
}

fn daemon_user(context: &Context) -> String {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(context.layout.runs()).map_or_else(|_| "root".to_owned(), |meta| users::actor(meta.uid()).user)
}

/// Finds the task that a word means.
fn find(context: &Context, word: &str) -> Result<TaskId, Failure> {
    let ids = reader::task_ids(&context.layout)?;
    if let Some(id) = word.parse().ok().map(TaskId).filter(|id| ids.binary_search(id).is_ok()) {
        return Ok(id);
    }
    let newest = past::newest_named(&context.layout, &ids, word)?;
    let mine = newest.get(&users::current_uid()).copied();
    match (mine, newest.values().next()) {
        (Some(id), _) => Ok(id),
        (None, None) => Err(no_task(word)),
        (None, Some(id)) if newest.len() == 1 => Ok(*id),
        (None, Some(_)) => {
            let whose = newest.iter().map(|(uid, id)| format!("{id} of {}", users::actor(*uid).user));
            let message = format!(
                "several people have a task called {}: {}",
                visible(word),
                whose.collect::<Vec<_>>().join(", ")
            );
            Err(Failure::new(Kind::Usage, message).hint("name it by its number"))
        }
    }
}

/// What a word means that may be the name of a file which was dropped a moment ago: the newest thing of that name.
#[derive(Debug)]
pub(in crate::shells) enum Meant {
    /// A task.
    Task(Box<Follower>),
    /// A file that was refused, and why.
    Refused(Failure),
    /// A file that stands in its box still.
    InBox(String),
}

/// Finds out what a word means.
pub(in crate::shells) fn meant(context: &Context, word: &str) -> Result<Meant, Failure> {
    const BOXES: [DropBox; 2] = [DropBox::New, DropBox::Ready];
    let file = format!("{word}.json");
    if broken_rule_of_choice(word).is_some() {
        return open(context, word).map(|task| Meant::Task(Box::new(task)));
    }
    let me = users::actor(users::current_uid());
    // The box first: a file leaves it after its task, or its refusal, can be found.
    if drop_file::stands(&context.layout, &BOXES, &me, &file) {
        return Ok(Meant::InBox(file));
    }
    let task = match open(context, word) {
        Ok(follower) => Some(follower),
        Err(failure) if failure.kind == Kind::NotFound => None,
        Err(failure) => return Err(failure),
    };
    let before = task.as_ref().and_then(Follower::run);
    let since = before.map_or(0, |run| run.accepted_at.0.saturating_add(1));
    let hint = before.map_or("correct the file and drop it again".to_owned(), |run| {
        format!("the task of that name before it: spoolgate show {}", run.id)
    });
    let named = DropName::from(file.as_str());
    let is_it = |why: &Why| DropName::from(why.name.as_str()).file() == file && why.uid.is_none_or(|uid| uid == me.uid);
    match (reader::refusal(&context.layout, &BOXES, &named, since, is_it), task) {
        (Some(why), _) => Ok(Meant::Refused(Failure::invalid(&file, &why.problems).hint(hint))),
        (None, Some(task)) => Ok(Meant::Task(Box::new(task))),
        (None, None) => Err(no_task(word)),
    }
}

/// Waits until a word means no file in a box any more; `None` when the limit passed before.
pub(in crate::shells) fn taken(
    context: &Context,
    word: &str,
    limit: Option<Duration>,
) -> Result<Option<Result<Follower, Failure>>, Failure> {
    wait_for(limit, || {
        Ok(match meant(context, word)? {
            Meant::InBox(_) => None,
            Meant::Task(task) => Some(Ok(*task)),
            Meant::Refused(failure) => Some(Err(failure)),
        })
    })
}

fn no_task(word: &str) -> Failure {
    Failure::new(Kind::NotFound, format!("there is no task {}", visible(word))).hint("spoolgate ls")
}

/// Returns the fold of an opened task.
pub(in crate::shells) fn run_of(follower: &Follower) -> Result<&Run, Failure> {
    follower.run().ok_or_else(|| Failure::new(Kind::Unavailable, "the task's journal is empty"))
}

/// Looks again and again until there is an answer, or the limit has passed.
pub(in crate::shells) fn wait_for<T>(
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
pub(in crate::shells) fn daemon_runs(context: &Context) -> Result<bool, Failure> {
    Ok(reader::daemon(&context.layout)?.is_some())
}

/// The failure of something that is in its box, and that nobody takes.
pub(in crate::shells) fn queued(what: &str) -> Failure {
    let message = format!("{what} is queued; no daemon is running: it takes the file when it starts");
    Failure::new(Kind::Unavailable, message).hint("spoolgate daemon")
}
