//! `audit`: the chain of acts. Floor 4.
//!
//! **Invariant:** reads only; what it cannot know, that an end was cut off which nobody remembers, it does not claim.

use clap::{Args, Subcommand};

use crate::adapters::spool::audit::{Cut, LastKnown};
use crate::adapters::spool::{SpoolError, audit, reader};
use crate::base::ids::TaskId;
use crate::base::text::visible;
use crate::domain::audit::{Head, Line};
use crate::domain::order::{Order, Wish};
use crate::domain::record::HistoryLine;
use crate::engine::DropBox;
use crate::shells::cli::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::submit::put;
use crate::shells::cli::tasks;
use crate::shells::clock::{now, unique};

/// Arguments of `audit`.
#[derive(Debug, Args)]
pub(super) struct Audit {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check every link of the chain; ends with 4 and names the first wrong line when one is.
    Verify {
        /// A head that was kept elsewhere, as NUMBER:sha256:…; the chain must pass through it.
        #[arg(long)]
        head: Option<String>,
    },
    /// Print the last acts.
    Tail {
        /// How many.
        #[arg(default_value_t = 20)]
        count: usize,
    },
    /// Print the acts on one task.
    Show {
        /// The task's number or name.
        task: String,
    },
    /// Print where the chain ends, to be kept elsewhere.
    Head,
    /// Take note of lines that were removed, so that nobody is told of them any more; policy says who may.
    Acknowledge {
        /// The number of the line that says so, as `audit verify` names it.
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        line: u64,
        /// What is known of it, for the record.
        #[arg(long)]
        reason: String,
    },
}

impl Audit {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        // Where there is no state there is no chain, which is something else than an empty one.
        let dir = context.layout.audit();
        std::fs::read_dir(&dir).map_err(|source| SpoolError::Io { act: "list", path: dir, source })?;
        match self.verb {
            Verb::Verify { head } => verify(context, head.as_deref()),
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
                    return Err(broken(&path, number, &fault));
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

fn broken(path: &std::path::Path, number: usize, fault: &crate::domain::audit::Fault) -> Failure {
    Failure::new(Kind::Changed, format!("{}:{number}: {fault}", path.display()))
}

fn verify(context: &Context, known: Option<&str>) -> Result<(), Failure> {
    let known: Option<Head> = match known {
        None => None,
        Some(text) => {
            Some(text.parse().map_err(|wanted| Failure::new(Kind::Usage, format!("--head {text}: wanted {wanted}")))?)
        }
    };
    // What ended while the chain is read is in the chain too.
    let history = reader::history(&context.layout)?;
    let verified = audit::verify(&context.layout, known)?;
    let head = verified.head;
    if let Some((path, number, fault)) = &verified.broken {
        return Err(broken(path, *number, fault));
    }
    if let Some(known) = known.filter(|_| !verified.passes) {
        let message = format!(
            "the chain ends at line {} and does not pass through {known}: its end was cut off or written anew",
            head.seq
        );
        return Err(Failure::new(Kind::Changed, message));
    }
    if verified.unfinished && !tasks::daemon_runs(context)? {
        let message = format!("after line {} stands a line without an end, and no daemon writes it", head.seq);
        return Err(Failure::new(Kind::Changed, message));
    }
    // The daemon and the history remember what the chain had; an end that they know and it does not was cut off.
    match verified.last {
        LastKnown::Passes => {}
        LastKnown::Differs(last) => {
            let message = format!(
                "the chain ends at line {} and does not pass through {last}, where the daemon wrote last that it ended: lines were removed",
                head.seq
            );
            return Err(Failure::new(Kind::Changed, message));
        }
        // Whoever kept a head elsewhere needs no other.
        LastKnown::Lost if known.is_some() || head == Head::default() => {}
        LastKnown::Lost => {
            let message = format!(
                "{} is gone or none of ours: nobody can tell whether lines after line {} were removed",
                context.layout.audit_head().display(),
                head.seq
            );
            return Err(
                Failure::new(Kind::Changed, message).hint("spoolgate audit verify --head, with one kept elsewhere")
            );
        }
    }
    unacknowledged(&verified.cuts)?;
    let known_acts = |line: &HistoryLine| verified.journals.get(&line.id).map_or(0, |known| known.acts);
    if let Some(first) = history.iter().find(|line| known_acts(line) < line.acts) {
        let (id, has, wanted) = (first.id, known_acts(first), first.acts);
        let message = format!("of task {id} the audit has {has} act(s) of {wanted}: lines were cut off");
        return Err(Failure::new(Kind::Changed, message));
    }
    if let Some(id) = verified.changed_journal(&context.layout)? {
        let message = format!(
            "{} is not the journal that the audit knows: lines of it were changed, removed or added",
            context.layout.events(id).display()
        );
        return Err(Failure::new(Kind::Changed, message));
    }
    let cuts: Vec<u64> = verified.cuts.iter().map(|cut| cut.line.seq).collect();
    if context.output.json {
        let value = serde_json::json!({"ok": true, "lines": head.seq, "head": head.to_string(), "cuts": cuts});
        return context.output.object(value);
    }
    for cut in &verified.cuts {
        context.output.line(of_cut(cut))?;
    }
    context.output.line(format!("{} line(s), every link holds; the chain ends at {head}", head.seq))
}

/// Fails while there are cuts of which nobody took note.
fn unacknowledged(cuts: &[Cut]) -> Result<(), Failure> {
    let open: Vec<&Cut> = cuts.iter().filter(|cut| cut.acknowledged.is_none()).collect();
    let Some(first) = open.first() else { return Ok(()) };
    let said: Vec<String> = open.iter().map(|cut| of_cut(cut)).collect();
    let hint = format!("spoolgate audit acknowledge {} --reason …, when it is known who did it", first.line.seq);
    Err(Failure::new(Kind::Changed, said.join("\n")).hint(hint))
}

/// Says what was removed, and who took note of it.
fn of_cut(cut: &Cut) -> String {
    let entry = &cut.line.entry;
    let what = visible(entry.detail.as_deref().unwrap_or_default());
    let noted = cut.acknowledged.as_ref().map_or(String::new(), |line| {
        let by = line.entry.by.as_ref().map_or_else(|| "the daemon".to_owned(), ToString::to_string);
        let reason = visible(line.entry.detail.as_deref().unwrap_or_default());
        format!("; {by} took note of it at {}: {reason}", line.entry.at)
    });
    format!("line {}, noticed at {}: {what}{noted}", cut.line.seq, entry.at)
}

/// Drops the order and waits until the daemon says it no more.
fn acknowledge(context: &Context, line: u64, reason: String) -> Result<(), Failure> {
    if !audit::open_cuts(&context.layout)?.contains(&line) {
        let message = format!("line {line} of the audit says of nothing that was removed, or somebody took note of it");
        return Err(Failure::new(Kind::NotFound, message).hint("spoolgate audit verify"));
    }
    let order = Order { task: String::new(), wish: Wish::Acknowledge { line }, reason: Some(reason) };
    let since = now().0;
    let name = put(context, DropBox::Orders, &unique(order.wish.right().word()), &order.write())?.name;
    if !tasks::daemon_runs(context)? {
        return Err(tasks::queued(&name));
    }
    let answer = tasks::wait_for(Some(tasks::ANSWER_LIMIT), || {
        let open = audit::open_cuts(&context.layout)?.contains(&line);
        match (open, reader::refusal(&context.layout, &[DropBox::Orders], &name, since)) {
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
        let mut bytes = line.to_vec();
        bytes.push(b'\n');
        return context.output.bytes(&bytes);
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
