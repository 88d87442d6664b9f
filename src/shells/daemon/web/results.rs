//! What tasks are and what they printed.
//!
//! **Invariant:** reads the same files through the same fold as everybody; no answer is larger than a page, whatever a task
//! is. A token sees the tasks that it could have submitted, and of each what `[[see]]` in `policy.toml` lets it see.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::adapters::http::{Answer, Request};
use crate::adapters::output_log::{self, Piece};
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::reader::{self, Follower};
use crate::base::ids::{HostName, TaskId};
use crate::base::limits;
use crate::domain::outcome::Ending;
use crate::domain::output::Stream;
use crate::domain::policy::{Part, Person, Policy, Sight};
use crate::domain::record::step_records;
use crate::domain::run::lane::{Lane, LaneStep};
use crate::domain::run::{Run, Stage, StepState, TaskState};
use crate::domain::token::{Token, Verb};
use crate::shells::daemon::sight::groups_of;
use crate::shells::daemon::web::{Web, error, forbidden, json_answer};

/// How many tasks or hosts a page has, unless it is asked for another number.
const PAGE: usize = 100;
/// The most it can be asked for.
const PAGE_MAX: usize = 1000;
/// How many bytes of each host's output a page of hosts has.
const OUTPUT_OF_MANY: u64 = 16 << 10;
/// How many bytes of texts an answer has, but for its last row.
const ANSWER_BYTES: usize = 2 << 20;
/// How many tasks are looked at for one page.
const LOOKED_AT_MAX: usize = 2_000;
/// How much of its script a task has in a list.
const LISTED_SCRIPT_BYTES: usize = 4 << 10;

impl Web {
    /// Lists tasks, the newest first.
    pub(super) async fn list(&self, request: &Request) -> Answer {
        let token = match self.entitled(request, Verb::Read) {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        let (count, before) = match (number(request, "limit"), number(request, "before")) {
            (Ok(count), Ok(before)) => (count.unwrap_or(PAGE as u64).clamp(1, PAGE_MAX as u64), before),
            _ => return error(400, "limit and before are numbers"),
        };
        let (layout, serving) = (self.layout.clone(), self.serving());
        let listed = self.blocking(move || {
            let ids = reader::task_ids(&layout).ok()?;
            let older = ids.into_iter().rev().filter(|id| before.is_none_or(|before| id.0 < before));
            let runs = older.take(LOOKED_AT_MAX).filter_map(|id| run(&layout, id));
            let seen = runs.filter(|run| token.covers(run.plan.work_name()));
            let (mut tasks, mut bytes) = (Vec::new(), 0_usize);
            for run in seen.take(usize::try_from(count).unwrap_or(PAGE)) {
                let task = meta(&run, sight(&serving.library.policy, &token, &run), LISTED_SCRIPT_BYTES);
                bytes = bytes.saturating_add(task.to_string().len());
                tasks.push(task);
                if bytes > ANSWER_BYTES {
                    break;
                }
            }
            Some(tasks)
        });
        match listed.await {
            Some(tasks) => json_answer(200, &json!(tasks)),
            None => error(500, "the tasks cannot be listed; see the daemon's log"),
        }
    }

    /// Reads a task that a token may see.
    pub(super) async fn run_of(&self, id: TaskId, token: &Token) -> Option<Box<Run>> {
        let (layout, token) = (self.layout.clone(), token.clone());
        self.blocking(move || run(&layout, id).filter(|run| token.covers(run.plan.work_name())).map(Box::new)).await
    }

    /// Answers `ID`, `ID/state`, `ID/result`, `ID/stdout` and `ID/stderr`.
    pub(super) async fn result(&self, request: &Request, rest: &str) -> Answer {
        let token = match self.entitled(request, Verb::Read) {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
        let Ok(id) = id.parse().map(TaskId) else {
            return error(404, "the number of a task comes after /api/v1/task/");
        };
        let Some(run) = self.run_of(id, &token).await else { return error(404, &format!("there is no task {id}")) };
        let sees = sight(&self.serving().library.policy, &token, &run);
        let page = match what {
            "" => return json_answer(200, &meta(&run, sees, usize::MAX)),
            "state" if !sees.plan => return json_answer(200, &bare_state(&run, sees)),
            "result" if !sees.plan => Err(not_seen(&token, id, Part::Plan)),
            "stdout" | "stderr" if !sees.output => Err(not_seen(&token, id, Part::Output)),
            "state" | "result" | "stdout" | "stderr" => Page::of(request, &run),
            _ => Err(error(404, "of a task there are state, result, stdout and stderr")),
        };
        let page = match page {
            Ok(page) => page,
            Err(answer) => return answer,
        };
        match what {
            "state" => json_answer(200, &state(&run, sees, &page)),
            "result" => json_answer(200, &result(&run, &page)),
            "stdout" => self.output(run, page, Stream::Out).await,
            _ => self.output(run, page, Stream::Err).await,
        }
    }

    /// Does what waits for the disk where nobody else waits for it, a few at a time.
    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> Option<T> + Send + 'static) -> Option<T> {
        let _turn = self.readers.acquire().await.ok()?;
        tokio::task::spawn_blocking(work).await.ok().flatten()
    }

    async fn output(&self, run: Box<Run>, page: Page, stream: Stream) -> Answer {
        let layout = self.layout.clone();
        let word = if stream == Stream::Out { "stdout" } else { "stderr" };
        let rows = self.blocking(move || {
            let (mut rows, mut bytes, mut count) = (Vec::new(), 0_usize, 0_usize);
            for (lane, steps) in page.lanes(&run) {
                for row in output(&layout, &run, lane, steps, &page, stream, word) {
                    bytes = bytes.saturating_add(row[word].as_str().map_or(0, str::len));
                    rows.push(row);
                }
                count = count.saturating_add(1);
                if bytes > ANSWER_BYTES {
                    break;
                }
            }
            Some(Page { count, ..page.clone() }.wrapped(&run, &rows))
        });
        rows.await.map_or_else(|| error(500, "the output cannot be read"), |rows| json_answer(200, &rows))
    }
}

/// Returns what a token sees of a task.
fn sight(policy: &Policy, token: &Token, run: &Run) -> Sight {
    let person = Person { actor: token.actor(), groups: BTreeSet::new() };
    // Who is in which group is asked only where rules could look at it.
    let of = if policy.limits_sight() { groups_of(&run.accepted.by) } else { BTreeSet::new() };
    policy.sees(&person, &of, &run.subject(policy))
}

fn not_seen(token: &Token, id: TaskId, part: Part) -> Answer {
    let part = part.word();
    forbidden(&format!(
        "token {0} may not see the {part} of task {id}; a [[see]] rule in policy.toml with who = [\"token:{0}\"] lets it",
        token.name
    ))
}

fn run(layout: &Layout, id: TaskId) -> Option<Run> {
    let (follower, _) = Follower::open(layout, id).ok()?;
    follower.run().cloned()
}

fn number(request: &Request, name: &str) -> Result<Option<u64>, Answer> {
    let wrong = || error(400, &format!("{name} is not a number"));
    request.argument(name).filter(|text| !text.is_empty()).map(|text| text.parse().map_err(|_| wrong())).transpose()
}

/// Which hosts, and from where on.
#[derive(Clone, Debug)]
struct Page {
    host: Option<String>,
    step: Option<String>,
    /// The first host of the page.
    from: usize,
    count: usize,
    /// The first byte of the output.
    offset: Option<u64>,
    bytes: u64,
}

impl Page {
    fn of(request: &Request, run: &Run) -> Result<Page, Answer> {
        let host = request.argument("host").map(str::to_owned);
        if let Some(host) = host.as_ref().filter(|host| run.lanes.iter().all(|lane| lane.host.as_str() != *host)) {
            return Err(error(404, &format!("task {} has no host {host}", run.id)));
        }
        let step = request.argument("step").map(str::to_owned);
        let known = |step: &String| {
            run.plan.groups.iter().flat_map(|group| &group.steps).any(|known| known.name.as_str() == step)
        };
        if let Some(step) = step.as_ref().filter(|step| !known(step)) {
            return Err(error(404, &format!("task {} has no step {step}", run.id)));
        }
        let count = number(request, "limit")?.unwrap_or(PAGE as u64).clamp(1, PAGE_MAX as u64);
        let most = if host.is_some() { limits::HTTP_OUTPUT_BYTES_MAX } else { OUTPUT_OF_MANY };
        Ok(Page {
            host,
            step,
            from: usize::try_from(number(request, "from")?.unwrap_or(0)).unwrap_or(usize::MAX),
            count: usize::try_from(count).unwrap_or(PAGE),
            offset: number(request, "offset")?,
            bytes: number(request, "bytes")?.unwrap_or(most).clamp(1, most),
        })
    }

    /// Returns the hosts of the page, with the places of their steps.
    fn lanes<'a>(&'a self, run: &'a Run) -> impl Iterator<Item = (&'a Lane, Vec<usize>)> {
        let of_host = run.lanes.iter().filter(|lane| self.host.as_ref().is_none_or(|host| lane.host.as_str() == host));
        of_host.skip(self.from).take(self.count).map(|lane| {
            let steps = run.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
            let shown = |n: &usize| lane.steps.get(*n).is_some_and(LaneStep::is_shown);
            let wanted = |n: &usize| self.step.as_ref().is_none_or(|step| steps[*n].name.as_str() == step);
            (lane, (0..steps.len()).filter(shown).filter(wanted).collect())
        })
    }

    /// Says which part of all hosts it is.
    fn wrapped(&self, run: &Run, rows: &[Value]) -> Value {
        let all =
            run.lanes.iter().filter(|lane| self.host.as_ref().is_none_or(|host| lane.host.as_str() == host)).count();
        let next = self.from.saturating_add(self.count);
        let next = (next < all).then_some(next);
        json!({"id": run.id, "count": all, "from": self.from, "next": next, "hosts": rows})
    }
}

/// A task in the words of open-devops, and ours beside them. What is not seen of it is empty.
fn meta(run: &Run, sees: Sight, script_bytes: usize) -> Value {
    let hosts: Vec<&str> = run.plan.hosts.keys().filter(|_| sees.plan).map(HostName::as_str).collect();
    let step = run.plan.groups.iter().flat_map(|group| &group.steps).find(|_| sees.plan);
    let script = step.and_then(|step| run.plan.scripts.get(&step.script)).map(String::as_str).unwrap_or_default();
    let script = &script[..script.floor_char_boundary(script_bytes)];
    let outcome = match &run.stage {
        Stage::Done { outcome, .. } => Some(outcome.word()),
        _ => None,
    };
    let mut said = json!({
        "id": run.id,
        "title": run.plan.task_name,
        "account": step.and_then(|step| step.account.as_ref()).map(ToString::to_string).unwrap_or_default(),
        "timeout": step.map(|step| step.timeout_s),
        "hosts_raw": json!(hosts).to_string(),
        "script": script,
        "args": step.map(|step| step.args.join(",,")).unwrap_or_default(),
        "creator": run.accepted.claims.submitter.as_deref().unwrap_or(&run.accepted.by.user),
        "created": run.accepted_at,
        "done": u8::from(run.state() == TaskState::Done),
        "state": run.state().word(),
        "outcome": outcome,
        "submitter": run.accepted.by.user,
        "template": run.plan.template.as_ref().map(|template| template.name.to_string()),
        "digest": run.digest,
    });
    note_withheld(&mut said, sees);
    said
}

/// Says which parts of a task are not seen, where some are not.
fn note_withheld(said: &mut Value, sees: Sight) {
    let withheld = sees.withheld();
    if !withheld.is_empty() {
        said["withheld"] = json!(withheld);
    }
}

/// In which of open-devops' states a host is.
fn status(run: &Run, lane: &Lane) -> &'static str {
    let open = lane.open_step().is_some();
    let ended = lane.steps.iter().rev().find_map(|step| match &step.state {
        StepState::Ended(result) if result.ending != Ending::Exit(0) => Some(&result.ending),
        _ => None,
    });
    let mut own = lane.steps.iter().filter(|step| step.is_shown());
    let all = own.all(|step| matches!(step.state, StepState::Ended(_) | StepState::Skipped(_)));
    match (open, ended) {
        (true, _) if run.cancelled.is_some() || lane.stopped => "killing",
        (true, _) => "running",
        (_, Some(Ending::TimedOut | Ending::IdleTimedOut)) => "timeout",
        (_, Some(Ending::Cancelled)) => "killed",
        (_, Some(Ending::KillUnconfirmed(_) | Ending::Lost(_))) => "killfailed",
        (_, Some(_)) => "failed",
        (_, None) if all => "success",
        (_, None) if run.state() == TaskState::Done || lane.stopped => "cancelled",
        _ => "waiting",
    }
}

/// What the script of a host's open step, or of its last one, said of how far it is.
fn progress(lane: &Lane) -> Option<&str> {
    lane.steps.iter().rev().find_map(|step| step.said.as_ref()).map(|said| said.text.as_str())
}

fn state(run: &Run, sees: Sight, page: &Page) -> Value {
    let hosts =
        page.lanes(run).map(|(lane, _)| json!({"host": lane.host, "group": lane.group, "status": status(run, lane), "progress": progress(lane)}));
    with_state(page.wrapped(run, &hosts.collect::<Vec<_>>()), run, sees)
}

/// Where a task stands, for who does not see on which hosts.
fn bare_state(run: &Run, sees: Sight) -> Value {
    with_state(json!({"id": run.id, "count": 0, "from": 0, "next": null, "hosts": []}), run, sees)
}

fn with_state(mut said: Value, run: &Run, sees: Sight) -> Value {
    let of_task = meta(run, sees, 0);
    for name in ["state", "outcome", "done"] {
        said[name] = of_task[name].clone();
    }
    note_withheld(&mut said, sees);
    said
}

fn result(run: &Run, page: &Page) -> Value {
    let hosts = page.lanes(run).map(|(lane, steps)| {
        let names: Vec<_> = steps.iter().filter_map(|n| run.plan.group(lane.group)?.steps.get(*n)).collect();
        let records = step_records(run, lane).filter(|record| names.iter().any(|step| step.name == record.step));
        json!({
            "host": lane.host,
            "group": lane.group,
            "status": status(run, lane),
            "outcome": run.outcome_of(lane),
            "steps": records.collect::<Vec<_>>(),
        })
    });
    page.wrapped(run, &hosts.collect::<Vec<_>>())
}

/// How many bytes a character of UTF-8 may have.
const CHARACTER: u64 = 4;

/// Leaves the parts of characters at the ends of a piece to the pages beside it.
fn whole_characters(mut piece: Piece, from_anywhere: bool) -> Piece {
    let is_continued = |byte: &u8| byte & 0xc0 == 0x80;
    if from_anywhere && piece.from > 0 {
        let parts = piece.bytes.iter().take(3).take_while(|byte| is_continued(byte)).count();
        piece.bytes.drain(..parts);
        piece.from = piece.from.saturating_add(parts as u64);
    }
    let ends = piece.from.saturating_add(piece.bytes.len() as u64) == piece.length;
    let begun = piece.bytes.iter().rev().take(3).position(|byte| byte & 0xc0 == 0xc0);
    if let Some(back) = begun.filter(|_| !ends) {
        let at = piece.bytes.len().saturating_sub(back).saturating_sub(1);
        let wanted = piece.bytes[at].leading_ones() as usize;
        if wanted > back.saturating_add(1) && at > 0 {
            piece.bytes.truncate(at);
        }
    }
    piece
}

/// Reads what the last attempts at a host's steps printed: of several hosts the end, of one from where it was asked for.
fn output(
    layout: &Layout,
    run: &Run,
    lane: &Lane,
    steps: Vec<usize>,
    page: &Page,
    stream: Stream,
    word: &str,
) -> Vec<Value> {
    let planned = run.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
    let row = |n: usize| {
        let step = &lane.steps[n];
        let attempt = match step.state {
            StepState::Open { attempt, .. } => attempt,
            _ => step.next_attempt().saturating_sub(1),
        };
        let path = layout.log(run.id, &lane.host, &planned[n].name, attempt);
        let offset = page.offset.filter(|_| page.host.is_some());
        let piece = output_log::piece(stream, &path, offset, page.bytes.max(CHARACTER)).unwrap_or_default();
        let piece = whole_characters(piece, offset.is_none());
        json!({
            "host": lane.host,
            "group": lane.group,
            "step": planned[n].name,
            "attempt": attempt,
            word: String::from_utf8_lossy(&piece.bytes),
            "from": piece.from,
            "next": piece.from.saturating_add(piece.bytes.len() as u64),
            "length": piece.length,
        })
    };
    steps.into_iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_are_never_cut_between_pages() {
        let text = "a发布ü成功🎉z".as_bytes();
        for most in 4..12 {
            let (mut whole, mut from) = (String::new(), 0);
            while from < text.len() {
                let bytes = text[from..(from + most).min(text.len())].to_vec();
                let piece = whole_characters(Piece { bytes, from: from as u64, length: text.len() as u64 }, false);
                assert!(!piece.bytes.is_empty());
                from += piece.bytes.len();
                whole += &String::from_utf8(piece.bytes).expect("whole characters");
            }
            assert_eq!(whole.as_bytes(), text, "by {most}");
            let end = Piece {
                bytes: text[text.len() - most..].to_vec(),
                from: (text.len() - most) as u64,
                length: text.len() as u64,
            };
            assert!(String::from_utf8(whole_characters(end, true).bytes).is_ok(), "the last {most}");
        }
        let odd = Piece { bytes: vec![0xff; 9], from: 0, length: 20 };
        assert!(!whole_characters(odd, true).bytes.is_empty(), "what is no text goes on, too");
    }
}
