//! `audit`: the chain of acts. Floor 4.
//!
//! **Invariant:** reads only; what it cannot know, that an end was cut off which nobody remembers, it does not claim.

use clap::{Args, Subcommand};

use crate::adapters::spool::{SpoolError, audit};
use crate::base::ids::TaskId;
use crate::base::text::visible;
use crate::domain::audit::Line;
use crate::domain::order::{Order, Wish};
use crate::engine::DropBox;
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::submit::{put, refused};
use crate::shells::cli::tasks;
use crate::shells::cli::verify::Verify;
use crate::shells::clock::{now, unique};

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Audit {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Verify the chain, and compare journals, plans, records, history and logs with what was recorded; exits
    /// with 4 and names what is wrong.
    Verify(Verify),
    /// Print the last entries.
    Tail {
        /// How many.
        #[arg(default_value_t = 20)]
        count: usize,
    },
    /// Print the entries about one task.
    Show {
        /// The task's number or name.
        task: String,
    },
    /// Print the head of the chain, to be kept elsewhere.
    Head,
    /// Acknowledge removed lines, so that they are no longer reported; policy says who may.
    Acknowledge {
        /// The number of the entry that reports them, as printed by `audit verify`.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        line: u64,
        /// What you know about it, for the record.
        #[arg(long)]
        reason: String,
    },
}

impl Audit {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
        // Where there is no state there is no chain, which is something else than an empty one.
        let dir = context.layout.audit();
        std::fs::read_dir(&dir).map_err(|source| SpoolError::Io { act: "list", path: dir, source })?;
        match self.verb {
            Verb::Verify(verify) => verify.run(context),
            Verb::Tail { count } => {
                let mut last = std::collections::VecDeque::new();
                audit::lines(&context.layout, |_, _, line| {
                    last.push_back(line.to_vec());
                    if last.len() > count {
                        last.pop_front();
                    }
                    true
                })?;
                last.iter().try_for_each(|line| print(context, line))
            }
            Verb::Show { task } => {
                let id = tasks::run_of(&tasks::open(context, &task)?)?.id;
                let mut found = Vec::new();
                audit::lines(&context.layout, |_, _, line| {
                    if about(line) == Some(id) {
                        found.push(line.to_vec());
                    }
                    true
                })?;
                found.iter().try_for_each(|line| print(context, line))
            }
            Verb::Acknowledge { line, reason } => acknowledge(context, line, reason),
            Verb::Head => {
                let verified = audit::verify(&context.layout, None)?;
                if let Some((path, number, fault)) = verified.broken {
                    return Err(Failure::new(Kind::Changed, format!("{}:{number}: {fault}", path.display())));
                }
                if context.output.json {
                    return context.output.object(serde_json::json!({"head": verified.head.to_string()}));
                }
                context.output.line(verified.head.to_string())
            }
        }
    }
}

fn about(line: &[u8]) -> Option<TaskId> {
    serde_json::from_slice::<Line>(line).ok()?.entry.task
}

/// Drops the order and waits until the daemon says it no more.
fn acknowledge(context: &Context, line: u64, reason: String) -> Result<(), Failure> {
    if !audit::open_cuts(&context.layout)?.contains(&line) {
        let message = format!("line {line} of the audit says of nothing that was removed, or somebody took note of it");
        return Err(Failure::new(Kind::NotFound, message).hint("spoolgate audit verify"));
    }
    let order = Order { task: String::new(), wish: Wish::Acknowledge { line }, reason: Some(reason) };
    let since = now().0;
    let put = put(context, DropBox::Orders, &unique(order.wish.right().word()), &order.write())?;
    let name = put.name.file().to_owned();
    if !tasks::daemon_runs(context)? {
        return Err(tasks::queued(&name));
    }
    let answer = tasks::wait_for(Some(tasks::ANSWER_LIMIT), || {
        let open = audit::open_cuts(&context.layout)?.contains(&line);
        match (open, refused(context, DropBox::Orders, &put, since)) {
            (_, Some(why)) => Err(Failure { kind: Kind::Refused, ..Failure::invalid(&name, &why.problems) }),
            (true, None) => Ok(None),
            (false, None) => Ok(Some(())),
        }
    })?;
    if answer.is_none() {
        let message = format!("{name} is in its box, and the daemon has not answered yet");
        return Err(Failure::new(Kind::Unavailable, message).hint("spoolgate audit verify"));
    }
    if context.output.json {
        return context.output.object(serde_json::json!({"acknowledged": line}));
    }
    context.output.line(format!("what line {line} of the audit says is acknowledged"))
}

fn print(context: &Context, line: &[u8]) -> Result<(), Failure> {
    if context.output.json {
        return context.output.json_line(line);
    }
    let Ok(Line { seq, entry, .. }) = serde_json::from_slice(line) else {
        return context.output.line(format!("(not a line of the audit) {}", visible(&String::from_utf8_lossy(line))));
    };
    let by = entry.by.as_ref().map_or_else(|| "the daemon".to_owned(), ToString::to_string);
    let task = entry.task.map(|task| format!(" task {task}")).unwrap_or_default();
    let states = match (entry.from, entry.to) {
        (Some(from), Some(to)) if from != to => format!("  {} -> {}", from.word(), to.word()),
        (_, Some(to)) => format!("  {}", to.word()),
        _ => String::new(),
    };
    let detail = entry.detail.map(|detail| format!("  {}", visible(&detail))).unwrap_or_default();
    let act = entry.act.replace('_', " ");
    context.output.line(format!("{seq}  {}  {by}  {act}{task}{states}{detail}", entry.at))
}
