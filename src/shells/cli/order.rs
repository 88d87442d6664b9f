//! `approve`, `reject`, `cancel`: orders, dropped like everybody's. Floor 4.
//!
//! **Invariant:** an approval carries the digest of the plan that was shown or named, never one that was only looked
//! up; the daemon compares again and decides.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;

use crate::adapters::spool::reader::{self, Follower};
use crate::base::digest::Digest;
use crate::base::time::parse_time;
use crate::domain::order::{Act, Order};
use crate::domain::run::{Event, Run, TaskState};
use crate::engine::DropBox;
use crate::shells::cli::Context;
use crate::shells::cli::check::describe;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::submit::{put, refused, unique};
use crate::shells::cli::tasks::{self, ANSWER_LIMIT, daemon_runs, queued, wait_for};
use crate::shells::clock::now;

/// Arguments of `approve`.
#[derive(Debug, Args)]
pub(super) struct Approve {
    /// The task's number, or the name it was dropped under.
    task: String,
    /// The digest of the plan you saw; without a terminal it must be given.
    #[arg(long)]
    digest: Option<Digest>,
    /// When it may start, as in a task file [the plan's own time].
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
}

/// Arguments of `reject`.
#[derive(Debug, Args)]
pub(super) struct Reject {
    /// The task's number, or the name it was dropped under.
    task: String,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
}

/// Arguments of `cancel`.
#[derive(Debug, Args)]
pub(super) struct Cancel {
    /// The task's number, or the name it was dropped under.
    task: String,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
}

impl Approve {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut follower = tasks::open(context, &self.task)?;
        let start = match &self.start {
            None => None,
            Some(text) => {
                let zone = context.config()?.library.zone;
                let time = parse_time(text, &zone);
                Some(time.map_err(|error| Failure::new(Kind::Usage, format!("--start {text}: wanted {error}")))?)
            }
        };
        let run = tasks::run_of(&follower)?;
        let shown = run.accepted.digest;
        let digest = match self.digest {
            Some(digest) if digest == shown => digest,
            Some(digest) => {
                let message = format!(
                    "task {}'s plan is {}, not {}: it is another one than you saw",
                    run.id,
                    shown.short(),
                    digest.short()
                );
                return Err(Failure::new(Kind::Changed, message).hint(format!("spoolgate show {} --plan", run.id)));
            }
            None => ask(context, run)?,
        };
        give(context, &mut follower, Act::Approve { digest, start })
    }
}

impl Reject {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut follower = tasks::open(context, &self.task)?;
        give(context, &mut follower, Act::Reject { reason: self.reason })
    }
}

impl Cancel {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut follower = tasks::open(context, &self.task)?;
        give(context, &mut follower, Act::Cancel { reason: self.reason })
    }
}

/// Shows the plan and asks for the number of hosts, typed: a habit cannot answer that.
fn ask(context: &Context, run: &Run) -> Result<Digest, Failure> {
    if !std::io::stdin().is_terminal() || !context.output.is_terminal() {
        let message = "without a terminal the plan cannot be shown, so its digest must be named";
        let hint = format!("spoolgate plan {0}; spoolgate approve {0} --digest sha256:…", run.id);
        return Err(Failure::new(Kind::Usage, message).hint(hint));
    }
    context.output.bytes(describe(&run.plan, None).as_bytes())?;
    let hosts = run.plan.hosts.len();
    let mut out = std::io::stdout().lock();
    write!(out, "To approve task {}, type the number of its hosts: ", run.id)?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == hosts.to_string() {
        Ok(run.accepted.digest)
    } else {
        Err(Failure::new(Kind::Usage, format!("not approved: {:?} is not {hosts}", answer.trim())))
    }
}

/// Drops the order and waits for the daemon's answer, which is an event in the task's journal.
fn give(context: &Context, follower: &mut Follower, act: Act) -> Result<(), Failure> {
    let (id, state) = {
        let run = tasks::run_of(follower)?;
        (run.id, run.state())
    };
    let word = act.word();
    if state == TaskState::Done {
        return Err(Failure::new(Kind::Refused, format!("task {id} has ended; there is nothing to {word}"))
            .hint(format!("spoolgate show {id}")));
    }
    let order = Order { task: id.to_string(), act };
    let since = now().0;
    let name = put(context, DropBox::Orders, &unique(word), &order.write())?.name;
    if !daemon_runs(context)? {
        return Err(queued(&name));
    }
    let answer = wait_for(Some(ANSWER_LIMIT), || {
        let news = follower.news()?;
        let answer = news.into_iter().find(|recorded| recorded.event.order().is_some_and(|key| key.name == name));
        match (answer, reader::refusal(&context.layout, name.trim_end_matches(".json"), since)) {
            (Some(answer), _) => Ok(Some(answer)),
            (None, Some(why)) => Err(Failure { kind: Kind::Refused, ..refused(&name, &why) }),
            (None, None) => Ok(None),
        }
    })?;
    let Some(answer) = answer else {
        let message = format!("{name} is in its box, and the daemon has not answered yet");
        return Err(Failure::new(Kind::Unavailable, message).hint(format!("spoolgate show {id}")));
    };
    if let Event::OrderRefused { why, .. } = &answer.event {
        let kind = if why.contains("the task's plan is") { Kind::Changed } else { Kind::Refused };
        return Err(Failure::new(kind, format!("{word} of task {id} refused: {why}")));
    }
    if context.output.json {
        return context.output.object(serde_json::json!({"id": id, "answer": answer}));
    }
    let missing = follower.run().map_or(0, Run::approvals_missing);
    let more = if missing > 0 { format!("; {missing} more approval(s) needed") } else { String::new() };
    context.output.line(format!("task {id}: {}{more}", crate::shells::cli::show::said(&answer.event)))
}
