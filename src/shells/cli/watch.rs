//! `watch` and `wait`. Floor 4.
//!
//! **Invariant:** interrupting them only detaches; the task goes on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;

use crate::adapters::config;
use crate::adapters::spool::past::Past;
use crate::adapters::spool::reader::{self, Follower};
use crate::base::ids::TaskId;
use crate::base::time::Zone;
use crate::domain::outcome::Outcome;
use crate::domain::run::{Recorded, Stage};
use crate::domain::wire::parse_seconds;
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind, of_outcome, of_run};
use crate::shells::cli::sentences::{contradiction, said};
use crate::shells::cli::tasks::{self, Meant, wait_for};

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Watch {
    /// The task's number or name [all tasks, until interrupted].
    task: Option<String>,
}

/// Arguments of `wait`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Wait {
    /// The tasks' numbers or names.
    #[arg(required = true)]
    tasks: Vec<String>,
    /// Give up after this time: seconds, or 90s, 5m, 2h.
    #[arg(long, value_parser = duration)]
    timeout: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_seconds(text).map(Duration::from_secs).ok_or_else(|| "wanted seconds, or 90s, 5m, 2h".to_owned())
}

impl Watch {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let Some(word) = &self.task else { return watch_all(context) };
        let id = tasks::run_of(&tasks::open(context, word)?)?.id;
        let (mut follower, events) = tasks::read(context, id)?;
        print(context, id, &events)?;
        let outcome = wait_for(None, || {
            print(context, id, &follower.news()?)?;
            Ok(outcome_of(&follower))
        })?;
        outcome.map_or(Ok(()), |outcome| end_of(&follower, &id.to_string(), outcome))
    }
}

/// Follows every task that has not ended, and those that come.
fn watch_all(context: &Context) -> Result<(), Failure> {
    let mut followed: BTreeMap<TaskId, Follower> = BTreeMap::new();
    let (ids, mut past) = (reader::task_ids(&context.layout)?, Past::default());
    past.look(&context.layout)?;
    let mut newest = ids.last().copied();
    for id in ids.into_iter().filter(|id| !past.has_ended(*id)) {
        let Some((follower, _)) = if_seen(tasks::read(context, id))? else { continue };
        if outcome_of(&follower).is_none() {
            followed.insert(id, follower);
        }
    }
    wait_for(None, || {
        let known = newest;
        for id in reader::task_ids(&context.layout)?.into_iter().filter(|id| Some(*id) > known) {
            newest = Some(id);
            let Some((follower, events)) = if_seen(tasks::read(context, id))? else { continue };
            print(context, id, &events)?;
            followed.insert(id, follower);
        }
        for (id, follower) in &mut followed {
            print(context, *id, &follower.news()?)?;
        }
        followed.retain(|_, follower| outcome_of(follower).is_none());
        Ok(None::<()>)
    })?;
    Ok(())
}

/// Passes over what is for others.
fn if_seen<T>(read: Result<T, Failure>) -> Result<Option<T>, Failure> {
    match read {
        Err(Failure { kind: Kind::Withheld(_), .. }) => Ok(None),
        read => read.map(Some),
    }
}

/// Waits for the end of a task of which no more than that may be seen, and ends with its result.
pub(in crate::shells) fn wait_for_known(context: &Context, id: TaskId, limit: Option<Duration>) -> Result<(), Failure> {
    let mut past = Past::default();
    let ended = wait_for(limit, || {
        past.look(&context.layout)?;
        Ok(if past.has_ended(id) { past.line(id) } else { None })
    })?;
    let Some(line) = ended else {
        return Err(Failure::new(Kind::TimedOut, format!("task {id} has not ended yet")).hint("spoolgate ls"));
    };
    if context.output.json {
        context.output.object(serde_json::json!({"id": id, "outcome": line.outcome}))?;
    }
    of_outcome(&id.to_string(), line.outcome)
}

fn print(context: &Context, id: TaskId, events: &[Recorded]) -> Result<(), Failure> {
    for recorded in events {
        if context.output.json {
            let mut value =
                serde_json::to_value(recorded).map_err(|error| Failure::new(Kind::Bug, error.to_string()))?;
            value["task"] = serde_json::json!(id);
            context.output.object(value)?;
        } else {
            let zone = config::time_zone(&context.dirs.config).unwrap_or_else(Zone::system);
            context.output.line(format!("task {id}: {}  {}", said(&recorded.event), recorded.at.in_zone(&zone)))?;
        }
    }
    Ok(())
}

impl Wait {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let begin = Instant::now();
        // What is no task at all is said before anything is waited for.
        for word in &self.tasks {
            if let Some(Meant::InBox(file)) = if_seen(tasks::meant(context, word))?
                && !tasks::daemon_runs(context)?
            {
                context.output.say(tasks::queued(&file).message);
            }
        }
        let mut result = Ok(());
        for word in &self.tasks {
            if let Err(failure) = wait_for_one(context, word, self.timeout, begin) {
                // Of several tasks the worst result counts; a number that is higher is worse.
                let known = result.as_ref().map_or_else(|known: &Failure| known.exit_code().0, |()| 0);
                if failure.exit_code().0 > known {
                    result = Err(failure);
                }
            }
        }
        result
    }
}

/// Waits for what a word means and ends with its result.
fn wait_for_one(context: &Context, word: &str, limit: Option<Duration>, begin: Instant) -> Result<(), Failure> {
    let left = || limit.map(|limit| limit.saturating_sub(begin.elapsed()));
    let taken = match tasks::taken(context, word, left()) {
        Err(Failure { kind: Kind::Withheld(id), .. }) => return wait_for_known(context, id, left()),
        taken => taken?,
    };
    match taken {
        Some(task) => wait_until_done(context, task?, left()),
        None => Err(Failure::new(Kind::TimedOut, format!("{word}.json is in its box, and nobody has taken it yet"))
            .hint("spoolgate daemon, if none runs")),
    }
}

/// Waits for a task and ends with its result.
pub(in crate::shells) fn wait_until_done(
    context: &Context,
    mut follower: Follower,
    limit: Option<Duration>,
) -> Result<(), Failure> {
    let id = tasks::run_of(&follower)?.id;
    let outcome = wait_for(limit, || {
        follower.news()?;
        Ok(outcome_of(&follower))
    })?;
    match outcome {
        Some(outcome) => {
            if context.output.json {
                context.output.object(serde_json::json!({"id": id, "outcome": outcome}))?;
            }
            end_of(&follower, &id.to_string(), outcome)
        }
        None => {
            Err(Failure::new(Kind::TimedOut, format!("task {id} has not ended yet"))
                .hint(format!("spoolgate show {id}")))
        }
    }
}

/// Returns how a command ends that ends with a task's own result. What a journal says against its own steps is never good.
pub(in crate::shells) fn end_of(follower: &Follower, task: &str, outcome: Outcome) -> Result<(), Failure> {
    let Some(said) = follower.run().and_then(|run| run.contradicted) else {
        return follower.run().map_or_else(|| of_outcome(task, outcome), |run| of_run(run, outcome));
    };
    let known = of_outcome(task, outcome).err();
    let kind = known.map_or(Kind::Changed, |failure| failure.kind);
    Err(Failure::new(kind, contradiction(task, outcome, said)).hint("spoolgate audit verify"))
}

pub(in crate::shells) fn outcome_of(follower: &Follower) -> Option<Outcome> {
    match follower.run()?.stage {
        Stage::Done { outcome, .. } => Some(outcome),
        _ => None,
    }
}
