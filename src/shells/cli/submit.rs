//! `submit`. Floor 4.
//!
//! **Invariant:** what it promises is what the daemon answered, never what it was asked.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::adapters::spool::bad::Why;
use crate::adapters::spool::drop_file::{self, Put};
use crate::adapters::spool::reader::{self, Follower};
use crate::adapters::users;
use crate::base::digest::Digest;
use crate::base::ids::{Actor, TaskId};
use crate::base::limits::DROPPED_FILE_BYTES_MAX;
use crate::base::text::visible;
use crate::base::time::Timestamp;
use crate::domain::drop_name::{broken_rule, broken_rule_of_choice, stem};
use crate::domain::record::HistoryLine;
use crate::domain::run::TaskState;
use crate::domain::wire::read_task;
use crate::engine::DropBox;
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::tasks::{self, ANSWER_LIMIT, daemon_runs, queued, wait_for};
use crate::shells::cli::watch;
use crate::shells::clock::{now, unique};

/// Arguments of `submit`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Submit {
    /// The task file; `-` reads standard input.
    file: PathBuf,
    /// Ask to skip approval; policy decides.
    #[arg(long)]
    ready: bool,
    /// The name of the task [the file's name].
    #[arg(long)]
    name: Option<String>,
    /// Wait for the task and exit with its result.
    #[arg(long)]
    wait: bool,
}

impl Submit {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let (shown, bytes) = read_file(&self.file)?;
        let config = context.config()?;
        let read = read_task(&bytes, &config.library.zone);
        let submission = read.map_err(|bad| Failure::invalid(&shown, &bad.problems))?;
        let name = match self.name {
            Some(name) => chosen(name)?,
            None => name_of(&self.file)?,
        };
        let drop_box = if self.ready { DropBox::Ready } else { DropBox::New };
        let since = now().0;
        let put = put(context, drop_box, &name, &bytes)?;
        let name = put.name.file().to_owned();
        if !daemon_runs(context)? {
            return Err(queued(&name));
        }
        let follower = wait_for(Some(ANSWER_LIMIT), || {
            if let Some(why) = refused(context, drop_box, &put, since) {
                return Err(Failure::invalid(&name, &why.problems));
            }
            accepted_as(context, &put, since, Digest::of(&bytes), submission.idempotency_key.as_deref())
        })?;
        let follower = match follower {
            Some(Accepted::Seen(follower)) => *follower,
            Some(Accepted::Withheld(id)) => return accepted_unseen(context, id, self.wait),
            None => {
                let stands = put.stands(&context.layout);
                let what = if stands {
                    "is in its box, and the daemon has not taken it yet"
                } else {
                    "was taken; spoolgate ls"
                };
                return Err(Failure::new(Kind::Unavailable, format!("{name} {what}")));
            }
        };
        let run = crate::shells::cli::tasks::run_of(&follower)?;
        let id = run.id;
        if context.output.json {
            let state = run.state().word();
            context.output.object(serde_json::json!({"id": id, "state": state, "digest": run.accepted.digest}))?;
        } else {
            context.output.line(id.to_string())?;
        }
        if let crate::domain::policy::Admission::New { note: Some(note), .. } = &run.accepted.admission {
            context.output.say(format!("task {id} waits for approval: {note}"));
        } else if run.state() == TaskState::New {
            context.output.say(format!("task {id} waits for approval: spoolgate show {id}"));
        }
        if self.wait { watch::wait_until_done(context, follower, None) } else { Ok(()) }
    }
}

/// What a dropped file became.
enum Accepted {
    /// A task.
    Seen(Box<Follower>),
    /// A task whose files are for others.
    Withheld(TaskId),
}

/// Says which number the task has, of which its submitter cannot read more.
fn accepted_unseen(context: &Context, id: TaskId, waits: bool) -> Result<(), Failure> {
    if context.output.json {
        let state = tasks::known(context, id).map(|known| known.state.word());
        context.output.object(serde_json::json!({"id": id, "state": state}))?;
    } else {
        context.output.line(id.to_string())?;
    }
    context.output.say(format!("its files are for others: spoolgate show {id} says for whom"));
    if waits { watch::wait_for_known(context, id, None) } else { Ok(()) }
}

/// Returns a name that somebody chose, unless the daemon would not take a file of it.
fn chosen(name: String) -> Result<String, Failure> {
    match broken_rule_of_choice(&name) {
        Some(rule) => Err(Failure::new(Kind::Usage, format!("--name {}: wanted {rule}", visible(&name)))),
        None => Ok(name),
    }
}

/// Returns the name that a file's task gets: the file's own.
fn name_of(file: &Path) -> Result<String, Failure> {
    if file.as_os_str() == "-" {
        return Ok(unique("stdin"));
    }
    let name = file.file_stem().map_or_else(|| unique("task"), |stem| stem.to_string_lossy().into_owned());
    match broken_rule(&format!("{name}.json")) {
        Some(rule) => {
            Err(Failure::new(Kind::Usage, format!("no task can be called {}: wanted {rule}", visible(&name)))
                .hint("choose another name for it with --name"))
        }
        None => Ok(name),
    }
}

/// Returns why a file was refused that this process dropped.
pub(in crate::shells) fn refused(context: &Context, drop_box: DropBox, put: &Put, since: i64) -> Option<Why> {
    reader::refusal(&context.layout, &[drop_box], &put.name, since, |why| why.name == put.name.as_str())
}

/// Finds the task that a drop became, once the file has left its box: before that, nothing is promised. Only the newest
/// tasks can be it, but for a repeated submission, which its key names; a key is its user's own.
fn accepted_as(
    context: &Context,
    put: &Put,
    since: i64,
    digest: Digest,
    key: Option<&str>,
) -> Result<Option<Accepted>, Failure> {
    if put.stands(&context.layout) {
        return Ok(None);
    }
    let me = users::current_uid();
    // Of a task whose files are for others: one's own, of that name, and of now.
    let is_it = |by: &Actor, name: &str, at: Timestamp| by.uid == me && name == stem(put.name.file()) && at.0 >= since;
    let mut withheld = false;
    for id in reader::task_ids(&context.layout)?.into_iter().rev().take(2_000) {
        let follower = match Follower::open(&context.layout, id) {
            Ok((follower, _)) => follower,
            Err(error) if error.is_denied() => {
                withheld = true;
                if reader::view(&context.layout, id)
                    .is_some_and(|(view, _)| is_it(&view.submitter, &view.name, view.accepted_at))
                {
                    return Ok(Some(Accepted::Withheld(id)));
                }
                continue;
            }
            // A task that cannot be read is not this one: this one was just written.
            Err(_) => continue,
        };
        let accepted = follower.run().map(|run| &run.accepted);
        let same_file = accepted
            .is_some_and(|known| known.by.uid == me && known.drop.ino == put.inode && known.drop.digest == digest);
        let same_key = key.is_some()
            && accepted.is_some_and(|known| known.by.uid == me && known.idempotency_key.as_deref() == key);
        if same_file || same_key {
            return Ok(Some(Accepted::Seen(Box::new(follower))));
        }
    }
    let same_key =
        |line: &HistoryLine| key.is_some() && line.submitter.uid == me && line.idempotency_key.as_deref() == key;
    let same_task = |line: &HistoryLine| withheld && is_it(&line.submitter, &line.name, line.accepted_at);
    let known = reader::history(&context.layout)?.into_iter().rev().find(|line| same_key(line) || same_task(line));
    Ok(match known {
        Some(line) => Some(match tasks::read(context, line.id) {
            Err(Failure { kind: Kind::Withheld(id), .. }) => Accepted::Withheld(id),
            read => Accepted::Seen(Box::new(read?.0)),
        }),
        None => None,
    })
}

/// Reads a file, or standard input for `-`; also returns the name to show.
pub(in crate::shells) fn read_file(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    let (shown, read) = if path.as_os_str() == "-" {
        ("stdin".to_owned(), read_most(std::io::stdin().lock()))
    } else {
        (path.display().to_string(), std::fs::File::open(path).and_then(read_most))
    };
    let bytes = read.map_err(|error| Failure::new(Kind::Invalid, format!("cannot read {shown}: {error}")))?;
    if bytes.len() as u64 > DROPPED_FILE_BYTES_MAX {
        let wanted = format!("{shown}: found more than {DROPPED_FILE_BYTES_MAX} bytes; wanted at most as many");
        return Err(Failure::new(Kind::Invalid, wanted));
    }
    Ok((shown, bytes))
}

/// Reads all of something, or a byte more than a task may have.
fn read_most(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(DROPPED_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Puts a file into a box, under the name `stem.json` or one with a number.
pub(in crate::shells) fn put(context: &Context, drop_box: DropBox, stem: &str, bytes: &[u8]) -> Result<Put, Failure> {
    let me = users::actor(users::current_uid());
    drop_file::put(&context.layout, drop_box, &me, (stem, &unique("submit")), bytes).map_err(|error| {
        let hint = "is this the right --state, and are you in the group that spoolgate.toml names?";
        Failure::new(Kind::Unavailable, error.to_string()).hint(hint)
    })
}
