//! `approve`, `reject` and the other acts on tasks: orders, dropped like everybody's. Floor 4.
//!
//! **Invariant:** an approval carries the digest of the plan that was shown or named, never one that was only looked
//! up; the daemon compares again and decides.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use clap::Args;

use crate::adapters::spool::audit;
use crate::adapters::spool::reader::Follower;
use crate::adapters::users;
use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, StepName, TaskId};
use crate::base::text::visible;
use crate::base::time::{Timestamp, parse_time};
use crate::domain::audit::{Entry, Line};
use crate::domain::level::Level;
use crate::domain::order::{Order, Which, Wish};
use crate::domain::risk::Risk;
use crate::domain::run::{Event, RefusalKind, Run, TaskState};
use crate::engine::DropBox;
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::submit::{put, refused};
use crate::shells::cli::tasks::{self, ANSWER_LIMIT, daemon_runs, queued, wait_for};
use crate::shells::clock::{now, unique};
use crate::shells::describe::describe;

/// Arguments of `approve`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Approve {
    /// The task's number, or the name it was dropped under.
    task: String,
    /// The digest of the plan you reviewed; required without a terminal.
    #[arg(long)]
    digest: Option<Digest>,
    /// Earliest start, as in a task file [the plan's own time].
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// When your approval expires, unless the task has started [never].
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// A comment for the record.
    #[arg(long)]
    reason: Option<String>,
}

/// Arguments of acts that want a reason.
#[derive(Debug, Args)]
pub(in crate::shells) struct WithReason {
    /// The task's number, or the name it was dropped under.
    task: String,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
}

/// Arguments of `withdraw` and `continue`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Withdraw {
    /// The task's number, or the name it was dropped under.
    task: String,
    /// Why, for the record.
    #[arg(long)]
    reason: Option<String>,
}

/// Arguments of `cancel`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Cancel {
    /// The task's number, or the name it was dropped under.
    task: String,
    /// Only on these hosts.
    #[arg(long = "host", value_name = "HOST", value_delimiter = ',', conflicts_with = "batch")]
    hosts: Vec<HostName>,
    /// Only this batch, counted from 1; what has not started of it never starts.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// The group whose batch it is.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "batch")]
    group: u32,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
}

/// Arguments of `release`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Release {
    /// The task's number, or the name it was dropped under.
    task: String,
    /// The manual or timed step to start [the whole task, if it is held].
    step: Option<StepName>,
    /// Only on these hosts.
    #[arg(long = "host", value_name = "HOST", value_delimiter = ',', requires = "step")]
    hosts: Vec<HostName>,
    /// Why, for the record.
    #[arg(long)]
    reason: Option<String>,
}

/// Arguments of `retry`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Retry {
    /// The task's number, or the name it was dropped under.
    task: String,
    /// Only these hosts [those with a failed step].
    #[arg(long = "host", value_name = "HOST", value_delimiter = ',')]
    hosts: Vec<HostName>,
    /// Also hosts that did not finish.
    #[arg(long, conflicts_with = "hosts")]
    unfinished: bool,
    /// Run this step and all later ones again [from the step at which each host stopped].
    #[arg(long = "from", value_name = "STEP")]
    step: Option<StepName>,
    /// Also steps that succeeded or whose result is unknown; they may run twice.
    #[arg(long)]
    again: bool,
    /// Why, for the record.
    #[arg(long)]
    reason: Option<String>,
}

/// Arguments of `skip`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Skip {
    /// The task's number, or the name it was dropped under.
    task: String,
    /// The step to skip.
    step: StepName,
    /// Only on these hosts [all that are stopped at it].
    #[arg(long = "host", value_name = "HOST", value_delimiter = ',')]
    hosts: Vec<HostName>,
    /// Why, for the record.
    #[arg(long)]
    reason: String,
}

impl Approve {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let mut follower = tasks::open(context, &self.task)?;
        let start = time(context, "--start", self.start.as_deref())?;
        let until = time(context, "--until", self.until.as_deref())?;
        let run = tasks::run_of(&follower)?;
        if run.state() != TaskState::New {
            let message = format!("task {} is {}; only a new task can be approved", run.id, run.state().word());
            return Err(Failure::new(Kind::Refused, message).hint(format!("spoolgate show {}", run.id)));
        }
        let shown = run.digest;
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
        give(context, &mut follower, Wish::Approve { digest, start, until }, self.reason)
    }
}

fn time(context: &Context, option: &str, text: Option<&str>) -> Result<Option<Timestamp>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let zone = context.config()?.library.zone;
    let time = parse_time(text, &zone);
    Ok(Some(time.map_err(|error| Failure::new(Kind::Usage, format!("{option} {text}: wanted {error}")))?))
}

impl WithReason {
    pub(in crate::shells) fn reject(self, context: &Context) -> Result<(), Failure> {
        order(context, &self.task, Wish::Reject, Some(self.reason))
    }

    pub(in crate::shells) fn hold(self, context: &Context) -> Result<(), Failure> {
        order(context, &self.task, Wish::Hold, Some(self.reason))
    }
}

impl Withdraw {
    pub(in crate::shells) fn go_on(self, context: &Context) -> Result<(), Failure> {
        let mut follower = tasks::open(context, &self.task)?;
        let run = tasks::run_of(&follower)?;
        let Some(wait) = run.batch_wait else {
            return Err(Failure::new(
                Kind::Refused,
                format!("no batch of task {} waits for somebody to continue", run.id),
            ));
        };
        let wish = Wish::Continue { group: wait.group, batch: wait.batch };
        give(context, &mut follower, wish, self.reason)
    }

    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        order(context, &self.task, Wish::Withdraw, self.reason)
    }
}

impl Cancel {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let wish = match self.batch {
            Some(batch) => Wish::CancelBatch { group: GroupNo(self.group), batch },
            None => Wish::Cancel { hosts: self.hosts },
        };
        order(context, &self.task, wish, Some(self.reason))
    }
}

impl Release {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let wish = self.step.map_or(Wish::Release, |step| Wish::ReleaseStep { step, hosts: self.hosts });
        order(context, &self.task, wish, self.reason)
    }
}

impl Retry {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        let which = match (self.unfinished, self.hosts.is_empty()) {
            (true, _) => Which::Unfinished,
            (false, true) => Which::Failed,
            (false, false) => Which::Hosts(self.hosts),
        };
        order(context, &self.task, Wish::Retry { which, step: self.step, again: self.again }, self.reason)
    }
}

impl Skip {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        order(context, &self.task, Wish::Skip { step: self.step, hosts: self.hosts }, Some(self.reason))
    }
}

fn order(context: &Context, task: &str, wish: Wish, reason: Option<String>) -> Result<(), Failure> {
    match tasks::open(context, task) {
        // Who may do something with a task need not see what it runs.
        Err(Failure { kind: Kind::Withheld(id), .. }) => give_unseen(context, id, wish, reason),
        follower => give(context, &mut follower?, wish, reason),
    }
}

/// Drops the order about a task whose journal is for others, and waits for the daemon's answer in the audit.
fn give_unseen(context: &Context, id: TaskId, wish: Wish, reason: Option<String>) -> Result<(), Failure> {
    let word = wish.right().word();
    let order = Order { task: id.to_string(), wish, reason };
    let (since, me) = (now(), users::current_uid());
    let put = put(context, DropBox::Orders, &unique(word), &order.write())?;
    let name = put.name.file().to_owned();
    if !daemon_runs(context)? {
        return Err(queued(&name));
    }
    let answer = wait_for(Some(ANSWER_LIMIT), || {
        if let Some(why) = refused(context, DropBox::Orders, &put, since.0) {
            return Err(Failure { kind: Kind::Refused, ..Failure::invalid(&name, &why.problems) });
        }
        if put.stands(&context.layout) {
            return Ok(None);
        }
        // The answer is among the newest lines.
        let Some(newest) = audit::files(&context.layout)?.pop() else { return Ok(None) };
        let bytes = std::fs::read(newest)?;
        let lines = bytes.split(|byte| *byte == b'\n').rev();
        let entries = lines.filter_map(|line| serde_json::from_slice::<Line>(line).ok()).map(|line| line.entry);
        let by_me = |entry: &Entry| entry.task == Some(id) && entry.by.as_ref().is_some_and(|by| by.uid == me);
        Ok(entries.take_while(|entry| entry.at >= since).find(by_me))
    })?;
    let Some(entry) = answer else {
        let message = format!("{name} is in its box, and the daemon has not answered yet");
        return Err(Failure::new(Kind::Unavailable, message).hint("spoolgate ls"));
    };
    let detail = entry.detail.as_ref().map(|detail| format!(": {}", visible(detail))).unwrap_or_default();
    if entry.act == Event::REFUSED_WORD {
        return Err(Failure::new(Kind::Refused, format!("{word} of task {id} refused{detail}")));
    }
    if context.output.json {
        return context.output.object(serde_json::json!({"id": id, "answer": entry}));
    }
    let by = entry.by.map(|by| format!(" by {by}")).unwrap_or_default();
    context.output.line(format!("task {id}: {}{by}{detail}", entry.act.replace('_', " ")))
}

/// Shows the plan and asks for something typed that a habit cannot answer, the more the higher the risk.
fn ask(context: &Context, run: &Run) -> Result<Digest, Failure> {
    if !std::io::stdin().is_terminal() || !context.output.is_terminal() {
        let message = "without a terminal the plan cannot be shown, so its digest must be named";
        let hint = format!("spoolgate plan {0}; spoolgate approve {0} --digest sha256:…", run.id);
        return Err(Failure::new(Kind::Usage, message).hint(hint));
    }
    context.output.bytes(describe(&run.plan, None).as_bytes())?;
    let risk = Risk::of(&run.plan, &context.config()?.library.policy.bounds());
    let phrase = risk.phrase(&run.plan);
    let what = match risk.level {
        Level::Low => "yes",
        Level::Medium => "the number of its hosts",
        Level::High => "its template's name and the number of its hosts",
    };
    for reason in &risk.reasons {
        context.output.line(format!("risk       {reason}"))?;
    }
    // What was typed before the question, a line of a paste for one, is no answer to it.
    nix::sys::termios::tcflush(std::io::stdin(), nix::sys::termios::FlushArg::TCIFLUSH)
        .map_err(|errno| Failure::new(Kind::Unavailable, format!("the terminal: {errno}")))?;
    let mut out = std::io::stdout().lock();
    write!(out, "To approve task {} ({} risk), type {what}: ", run.id, risk.level.word())?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    if answer.trim() == phrase {
        Ok(run.digest)
    } else {
        Err(Failure::new(Kind::Usage, format!("not approved: {:?} is not {phrase}", answer.trim())))
    }
}

/// Drops the order and waits for the daemon's answer, which is an event in the task's journal.
fn give(context: &Context, follower: &mut Follower, wish: Wish, reason: Option<String>) -> Result<(), Failure> {
    let (id, state) = {
        let run = tasks::run_of(follower)?;
        (run.id, run.state())
    };
    let word = wish.right().word();
    if state == TaskState::Done && !matches!(wish, Wish::Retry { .. }) {
        return Err(Failure::new(Kind::Refused, format!("task {id} has ended; there is nothing to {word}"))
            .hint(format!("spoolgate show {id}")));
    }
    let order = Order { task: id.to_string(), wish, reason };
    let since = now().0;
    let put = put(context, DropBox::Orders, &unique(word), &order.write())?;
    let name = put.name.file().to_owned();
    if !daemon_runs(context)? {
        return Err(queued(&name));
    }
    let answer = wait_for(Some(ANSWER_LIMIT), || {
        let news = follower.news()?;
        let answers = |event: &Event| event.order().is_some_and(|key| key.name == put.name);
        let answer = news.into_iter().find(|recorded| {
            // A task whose plan cannot be made any more ends over it.
            answers(&recorded.event) || matches!(recorded.event, Event::Unresolvable { .. })
        });
        match (answer, refused(context, DropBox::Orders, &put, since)) {
            (Some(answer), _) => Ok(Some(answer)),
            (None, Some(why)) => Err(Failure { kind: Kind::Refused, ..Failure::invalid(&name, &why.problems) }),
            (None, None) => Ok(None),
        }
    })?;
    let Some(answer) = answer else {
        let message = format!("{name} is in its box, and the daemon has not answered yet");
        return Err(Failure::new(Kind::Unavailable, message).hint(format!("spoolgate show {id}")));
    };
    match &answer.event {
        Event::OrderRefused { kind, why, .. } => {
            let kind = match kind {
                RefusalKind::OtherPlan => Kind::Changed,
                RefusalKind::NotAllowed | RefusalKind::NotNow => Kind::Refused,
            };
            return Err(Failure::new(kind, format!("{word} of task {id} refused: {why}")));
        }
        Event::Unresolvable { .. } => {
            let message = format!("task {id} cannot be planned any more and has ended");
            return Err(Failure::new(Kind::Changed, message).hint(format!("spoolgate show {id}")));
        }
        _ => {}
    }
    if context.output.json {
        return context.output.object(serde_json::json!({"id": id, "answer": answer}));
    }
    let missing = follower.run().map_or(0, Run::approvals_missing);
    let more = if missing > 0 { format!("; {missing} more approval(s) needed") } else { String::new() };
    context.output.line(format!("task {id}: {}{more}", crate::shells::cli::sentences::said(&answer.event)))
}
