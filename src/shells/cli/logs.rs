//! `logs`: what steps printed. Floor 4.
//!
//! **Invariant:** bytes of hosts reach a terminal only with their control characters written out, but for colours, which are
//! written anew, and carriage returns, whose last line is shown; `--raw` is for files and pipes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ratatui::style::{Color, Modifier, Style};
use serde_json::{Value, json};

use crate::adapters::output_log;
use crate::adapters::spool::gc;
use crate::adapters::spool::reader::Follower;
use crate::base::digest::Digester;
use crate::base::text::{visible, visible_lines};
use crate::base::time::Timestamp;
use crate::domain::outcome::StepResult;
use crate::domain::output::Stream;
use crate::domain::plan::PlannedStep;
use crate::domain::run::lane::{Lane, LaneStep};
use crate::domain::run::{Run, StepState};
use crate::shells::cli::context::Context;
use crate::shells::cli::failure::{Failure, Kind};
use crate::shells::cli::tasks::{self, wait_for};
use crate::shells::cli::watch::{end_of, outcome_of};
use crate::shells::text::coloured;

/// Arguments of `logs`.
#[derive(Debug, Args)]
pub(in crate::shells) struct Logs {
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
    /// Follow the output until the task ends, and exit with its result.
    #[arg(long, short)]
    follow: bool,
    /// Print the raw bytes; refused on a terminal.
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
    /// Of everything up to there.
    digester: Digester,
    /// The ends of lines that have not come whole: of both streams together, or of each.
    rest: [Vec<u8>; 2],
}

impl Logs {
    pub(in crate::shells) fn run(self, context: &Context) -> Result<(), Failure> {
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
        tasks::check_output(context, tasks::run_of(&follower)?.id)?;
        let mut tails = BTreeMap::new();
        self.print(context, &follower, &mut tails)?;
        if !self.follow {
            flush(context, &mut tails)?;
            let compared = self.compare(context, tasks::run_of(&follower)?, &tails)?;
            if tails.is_empty() && !compared {
                context.output.say(format!("task {}: nothing was printed", tasks::run_of(&follower)?.id));
            }
            return Ok(());
        }
        let outcome = wait_for(None, || {
            follower.news()?;
            let outcome = outcome_of(&follower);
            self.print(context, &follower, &mut tails)?;
            Ok(outcome)
        })?;
        flush(context, &mut tails)?;
        let compared = self.compare(context, tasks::run_of(&follower)?, &tails);
        outcome.map_or(Ok(()), |outcome| end_of(&follower, &self.task, outcome))?;
        compared.map(drop)
    }

    /// Compares what was printed with what was recorded of every attempt that has ended. Returns whether anything is recorded.
    fn compare(&self, context: &Context, run: &Run, tails: &BTreeMap<PathBuf, Tail>) -> Result<bool, Failure> {
        let removed = gc::removed(&context.layout, run.id);
        let (mut any, mut wrong, mut gone) = (false, Vec::new(), 0_usize);
        for (lane, step, result) in self.ended(run) {
            any |= result.output.sha256.is_some();
            let path = context.layout.log(run.id, &lane.host, &step.name, result.attempt);
            let shown = tails.get(&path);
            let found = shown.filter(|tail| tail.offset > 0).map(|tail| tail.digester.clone().finish());
            if found == result.output.sha256 {
                continue;
            }
            if shown.is_none() && removed.as_ref().is_some_and(|removed| removed.covers(result.ended)) {
                gone = gone.saturating_add(1);
                continue;
            }
            let recorded = result.output.sha256.map_or("nothing".to_owned(), |digest| digest.to_string());
            let found = found.map_or("nothing".to_owned(), |found| found.to_string());
            let log = path.display();
            wrong.push(format!("{log}: this is not what was recorded: expected {recorded}, found {found}"));
        }
        if let Some(removed) = removed.filter(|_| gone > 0) {
            let text = format!("task {}: {} removed {gone} log(s) at {} (gc)", run.id, removed.by.user, removed.at);
            if tails.is_empty() && wrong.is_empty() && !self.follow {
                return Err(Failure::new(Kind::NotFound, text));
            }
            context.output.say(text);
        }
        if wrong.is_empty() {
            return Ok(any);
        }
        Err(Failure::new(Kind::Changed, wrong.join("\n")).hint("spoolgate audit verify"))
    }

    /// Returns the attempts that have ended, of those that are wanted.
    fn ended<'r>(&'r self, run: &'r Run) -> impl Iterator<Item = (&'r Lane, &'r PlannedStep, &'r StepResult)> {
        let lanes = run.lanes.iter().filter(|lane| self.host.as_ref().is_none_or(|host| lane.host.as_str() == host));
        lanes.flat_map(move |lane| {
            let steps = run.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
            let wanted = |(step, _): &(&PlannedStep, &LaneStep)| {
                self.step.as_ref().is_none_or(|name| step.name.as_str() == name)
            };
            steps.iter().zip(&lane.steps).filter(wanted).flat_map(move |(step, state)| {
                let last = if let StepState::Ended(result) = &state.state { Some(result) } else { None };
                state.earlier.iter().chain(last).map(move |result| (lane, step, result))
            })
        })
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
                    _ => state.next_attempt().saturating_sub(1),
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
                    let tail = tails.entry(path.clone()).or_insert_with(|| Tail {
                        label,
                        place,
                        path,
                        offset: 0,
                        digester: Digester::default(),
                        rest,
                    });
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
        tail.offset = tail.offset.saturating_add(bytes.len() as u64);
        tail.digester.update(&bytes);
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
        if self.raw {
            return match self.stream {
                None => context.output.bytes(&bytes),
                Some(_) => context.output.bytes(&spans().flat_map(|(_, span)| span).copied().collect::<Vec<_>>()),
            };
        }
        let mut of_streams: Vec<(Stream, &[u8])> = spans().map(|(mark, span)| (mark.stream, span)).collect();
        if of_streams.is_empty() && self.stream.is_none() {
            of_streams.push((Stream::Out, &bytes));
        }
        // A line is of one stream: what the other printed in between stands before or after it.
        for (stream, span) in of_streams {
            let rest = &mut tail.rest[usize::from(stream == Stream::Err)];
            rest.extend(span);
            print_lines(context, &tail.label, &whole_lines(rest))?;
        }
        Ok(())
    }
}

/// Takes the lines out of a buffer that have come whole.
fn whole_lines(rest: &mut Vec<u8>) -> Vec<u8> {
    let whole = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end.saturating_add(1));
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
    let colours = context.output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let whole = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let line = |line: &[u8]| {
        let line = written_over(line);
        if colours { in_colours(line) } else { visible_lines(&String::from_utf8_lossy(line)) }
    };
    let lines = whole.split(|byte| *byte == b'\n').filter(|_| !bytes.is_empty());
    let lines: String = lines.map(|bytes| format!("{label}{}\n", line(bytes))).collect();
    context.output.bytes(lines.as_bytes())
}

/// What is left of a line that was written over again and again, as progress bars are: what stands behind the last carriage
/// return that something follows.
fn written_over(line: &[u8]) -> &[u8] {
    let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last.saturating_add(1));
    let begin = line[..end].iter().rposition(|byte| *byte == b'\r').map_or(0, |at| at.saturating_add(1));
    &line[begin..end]
}

/// Writes a line with the colours that it asks for and nothing else that a terminal obeys; they end with the line.
fn in_colours(line: &[u8]) -> String {
    let pieces = coloured(line).pieces;
    let piece = |(text, style): &(String, Style)| match sgr(*style) {
        codes if codes.is_empty() => text.clone(),
        codes => format!("\x1b[{codes}m{text}\x1b[0m"),
    };
    pieces.iter().map(piece).collect()
}

/// The parameters of a "select graphic rendition" that makes a style.
fn sgr(style: Style) -> String {
    let colour = |colour: Option<Color>, kind: u8| match colour {
        Some(Color::Indexed(n)) => Some(format!("{kind};5;{n}")),
        _ => None,
    };
    let modifiers = [
        (Modifier::BOLD, "1"),
        (Modifier::DIM, "2"),
        (Modifier::ITALIC, "3"),
        (Modifier::UNDERLINED, "4"),
        (Modifier::REVERSED, "7"),
    ];
    let modifiers = modifiers.into_iter().filter(|(modifier, _)| style.add_modifier.contains(*modifier));
    let codes = modifiers.map(|(_, code)| code.to_owned()).chain(colour(style.fg, 38)).chain(colour(style.bg, 48));
    codes.collect::<Vec<_>>().join(";")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_written_over_is_what_stands_at_its_end() {
        for (line, want) in [
            (&b"plain"[..], &b"plain"[..]),
            (b"dos\r", b"dos"),
            (b"10%\r20%\r100%", b"100%"),
            (b"10%\r100%\r\r", b"100%"),
            (b"\r", b""),
            (b"", b""),
        ] {
            assert_eq!(written_over(line), want, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn colours_are_written_anew_and_nothing_else_is_obeyed() {
        for (line, want) in [
            (&b"\x1b[31mred\x1b[0m plain"[..], "\x1b[38;5;1mred\x1b[0m plain"),
            (b"\x1b[1;97;44mbold", "\x1b[1;38;5;15;48;5;4mbold\x1b[0m"),
            (b"\x1b[8mhidden\x1b[5mblinks", "hiddenblinks"),
            (b"\x1b]0;title\x07\x1b[2Jx\x07", "<OSC><CSI>x<U+0007>"),
            ("\u{202e}发".as_bytes(), "<U+202E>发"),
        ] {
            assert_eq!(in_colours(line), want, "{}", line.escape_ascii());
        }
    }
}
