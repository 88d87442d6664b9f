//! `logs`: what steps printed. Floor 4.
//!
//! **Invariant:** bytes of hosts reach a terminal only with their control characters written out; `--raw` is for
//! files and pipes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::adapters::output_log;
use crate::adapters::spool::reader::Follower;
use crate::base::text::{visible, visible_lines};
use crate::base::time::Timestamp;
use crate::domain::output::Stream;
use crate::domain::run::{Run, StepState};
use crate::shells::cli::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::tasks::{self, wait_for};
use crate::shells::cli::watch::{end_of, outcome_of};

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(super) struct Logs {
    /// The task's number, or the name it was dropped under.
    task: String,
    /// Only this host.
    #[arg(long)]
    host: Option<String>,
    /// Only this step.
    #[arg(long)]
    step: Option<String>,
    /// Only standard output, or only standard error.
    #[arg(long, value_enum)]
    stream: Option<StreamName>,
    /// Print what comes until the task ends, and end with its result.
    #[arg(long, short)]
    follow: bool,
    /// Print the bytes as they came; not to a terminal.
    #[arg(long)]
    raw: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum StreamName {
    Out,
    Err,
}

/// A log that is printed piece by piece.
struct Tail {
    label: String,
    /// What every line of it says in JSON.
    place: Value,
    path: PathBuf,
    offset: u64,
    /// The ends of lines that have not come whole: of both streams together, or of each.
    rest: [Vec<u8>; 2],
}

impl Logs {
    pub(super) fn run(self, context: &Context) -> Result<(), Failure> {
        if self.raw && context.output.is_terminal() {
            return Err(
                Failure::new(Kind::Usage, "--raw would let hosts command your terminal").hint("redirect it to a file")
            );
        }
        if self.raw && context.output.json {
            return Err(Failure::new(Kind::Usage, "--raw and --json are two forms: choose one"));
        }
        let mut follower = tasks::open(context, &self.task)?;
        self.check_names(tasks::run_of(&follower)?)?;
        let mut tails = BTreeMap::new();
        self.print(context, &follower, &mut tails)?;
        if tails.is_empty() && !self.follow {
            context.output.say(format!("task {}: nothing was printed", tasks::run_of(&follower)?.id));
        }
        if !self.follow {
            return flush(context, &mut tails);
        }
        let outcome = wait_for(None, || {
            follower.news()?;
            let outcome = outcome_of(&follower);
            self.print(context, &follower, &mut tails)?;
            Ok(outcome)
        })?;
        flush(context, &mut tails)?;
        outcome.map_or(Ok(()), |outcome| end_of(&follower, &self.task, outcome))
    }

    /// Refuses a host or a step that the task does not have.
    fn check_names(&self, run: &Run) -> Result<(), Failure> {
        let none = |what: &str, name: &str| {
            Failure::new(Kind::NotFound, format!("task {} has no {what} {}", run.id, visible(name)))
                .hint(format!("spoolgate plan {}", run.id))
        };
        let mut steps = run.plan.groups.iter().flat_map(|group| &group.steps);
        match (&self.host, &self.step) {
            (Some(host), _) if run.lanes.iter().all(|lane| lane.host.as_str() != host) => Err(none("host", host)),
            (_, Some(name)) if steps.all(|step| step.name.as_str() != name) => Err(none("step", name)),
            _ => Ok(()),
        }
    }

    /// Prints what is new in every log that is wanted.
    fn print(
        &self,
        context: &Context,
        follower: &Follower,
        tails: &mut BTreeMap<PathBuf, Tail>,
    ) -> Result<(), Failure> {
        let run = tasks::run_of(follower)?;
        let one = self.host.is_some() && self.step.is_some();
        for lane in run.lanes.iter().filter(|lane| self.host.as_ref().is_none_or(|host| lane.host.as_str() == host)) {
            let steps = run.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
            for (step, state) in steps.iter().zip(&lane.steps) {
                let wanted = self.step.as_ref().is_none_or(|name| step.name.as_str() == name);
                let attempts = match state.state {
                    StepState::Open { attempt, .. } => attempt,
                    _ => state.next_attempt() - 1,
                };
                for attempt in (1..=attempts).filter(|_| wanted) {
                    let path = context.layout.log(run.id, &lane.host, &step.name, attempt);
                    if !path.exists() {
                        continue;
                    }
                    let name = if attempt == 1 { step.name.to_string() } else { format!("{}@{attempt}", step.name) };
                    let label = if one { String::new() } else { format!("{} {name} | ", lane.host) };
                    let place = json!({
                        "task": run.id, "group": lane.group, "host": lane.host, "step": step.name, "attempt": attempt,
                    });
                    let rest = [Vec::new(), Vec::new()];
                    let tail = tails.entry(path.clone()).or_insert(Tail { label, place, path, offset: 0, rest });
                    self.print_news(context, tail)?;
                }
            }
        }
        Ok(())
    }

    fn print_news(&self, context: &Context, tail: &mut Tail) -> Result<(), Failure> {
        let from = tail.offset;
        let bytes = read_from(&tail.path, from)?;
        if bytes.is_empty() {
            return Ok(());
        }
        tail.offset += bytes.len() as u64;
        let wanted = |stream: Stream| self.stream.is_none_or(|name| stream_of(name) == stream);
        let spans = || output_log::spans(&tail.path, from, &bytes).into_iter().filter(|(mark, _)| wanted(mark.stream));
        if context.output.json {
            for (mark, span) in spans() {
                let rest = &mut tail.rest[usize::from(mark.stream == Stream::Err)];
                rest.extend(span);
                print_objects(context, &tail.place, mark.stream, Some(mark.at), &whole_lines(rest))?;
            }
            return Ok(());
        }
        let bytes = match self.stream {
            None => bytes,
            Some(_) => spans().flat_map(|(_, span)| span).copied().collect(),
        };
        if self.raw {
            return context.output.bytes(&bytes);
        }
        tail.rest[0].extend(bytes);
        print_lines(context, &tail.label, &whole_lines(&mut tail.rest[0]))
    }
}

/// Takes the lines out of a buffer that have come whole.
fn whole_lines(rest: &mut Vec<u8>) -> Vec<u8> {
    let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    rest.drain(..whole).collect()
}

/// Prints the last lines that never ended.
fn flush(context: &Context, tails: &mut BTreeMap<PathBuf, Tail>) -> Result<(), Failure> {
    for tail in tails.values_mut() {
        for (rest, stream) in tail.rest.iter_mut().zip([Stream::Out, Stream::Err]) {
            let mut rest = std::mem::take(rest);
            if rest.is_empty() {
                continue;
            }
            rest.push(b'\n');
            if context.output.json {
                print_objects(context, &tail.place, stream, None, &rest)?;
            } else {
                print_lines(context, &tail.label, &rest)?;
            }
        }
    }
    Ok(())
}

fn print_lines(context: &Context, label: &str, bytes: &[u8]) -> Result<(), Failure> {
    let text = String::from_utf8_lossy(bytes);
    let lines: String = text.lines().map(|line| format!("{label}{}\n", visible_lines(line))).collect();
    context.output.bytes(lines.as_bytes())
}

/// Prints one object for each line, with the time at which its end came, where that is known.
fn print_objects(
    context: &Context,
    place: &Value,
    stream: Stream,
    at: Option<Timestamp>,
    bytes: &[u8],
) -> Result<(), Failure> {
    String::from_utf8_lossy(bytes).lines().try_for_each(|line| {
        let mut value = place.clone();
        value["stream"] = match stream {
            Stream::Out => "out".into(),
            Stream::Err => "err".into(),
        };
        value["at"] = json!(at);
        value["text"] = line.into();
        context.output.object(value)
    })
}

fn read_from(path: &PathBuf, offset: u64) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(bytes),
        Err(error) => return Err(error.into()),
    };
    file.seek(SeekFrom::Start(offset))?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn stream_of(name: StreamName) -> Stream {
    match name {
        StreamName::Out => Stream::Out,
        StreamName::Err => Stream::Err,
    }
}
