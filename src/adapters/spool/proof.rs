//! Compares what is recorded of every task with what its journal says: plans, records, history, views and logs. Floor 3.
//!
//! **Invariant:** reads only. The journals are what the audit's chain holds digests of; everything else is computed from them
//! or has its digest in them, and is compared with that. No more than one task a core is in memory, and of the history only
//! where its lines stand.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::adapters::spool::audit::{Audited, Verified};
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::prefix::digest_of_lines;
use crate::adapters::spool::{SpoolError, gc, reader};
use crate::base::digest::{Digest, Digester};
use crate::base::ids::TaskId;
use crate::domain::file_check::{Difference, of_line, of_lines};
use crate::domain::outcome::StepResult;
use crate::domain::plan::Plan;
use crate::domain::record::{HistoryLine, record, view};
use crate::domain::run::{Event, Recorded, Run, StepState, TaskState};

/// How many findings are kept; whoever has more does not read them.
const FINDINGS_MAX: usize = 1000;
/// How much of a log is read at a time.
const PIECE_BYTES: usize = 64 << 10;

/// Something that is not what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which file.
    pub path: PathBuf,
    /// Of which task, where it is one's.
    pub task: Option<TaskId>,
    /// How it differs.
    pub difference: Difference,
}

/// What a look at everything found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// How many tasks there are.
    pub tasks: u64,
    /// How many logs were compared.
    pub logs: u64,
    /// How many logs are known to have been removed.
    pub removed: u64,
    /// What is not what was recorded, by task.
    pub findings: Vec<Finding>,
    /// How many more there are.
    pub more: u64,
}

impl Proof {
    fn add(&mut self, other: Proof) {
        self.tasks = self.tasks.saturating_add(other.tasks);
        self.logs = self.logs.saturating_add(other.logs);
        self.removed = self.removed.saturating_add(other.removed);
        let room = FINDINGS_MAX.saturating_sub(self.findings.len());
        self.more =
            self.more.saturating_add(other.more.saturating_add(other.findings.len().saturating_sub(room) as u64));
        self.findings.extend(other.findings.into_iter().take(room));
    }

    fn find(&mut self, path: impl Into<PathBuf>, task: impl Into<Option<TaskId>>, difference: Difference) {
        self.findings.push(Finding { path: path.into(), task: task.into(), difference });
    }

    fn differs(
        &mut self,
        path: impl Into<PathBuf>,
        task: TaskId,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) {
        self.find(path, task, Difference::new(expected, found));
    }
}

/// Compares everything that is recorded with the journals, and those with the chain; `only` some tasks where it says so.
///
/// # Errors
/// When something cannot be read that this person may not read, or directories cannot be listed.
pub fn check(layout: &Layout, chain: &Verified, only: Option<&[TaskId]>) -> Result<Proof, SpoolError> {
    let known = reader::task_ids(layout)?;
    let history = History::read(layout)?;
    let mut proof = Proof::default();
    let mut ids = only.map_or_else(|| known.clone(), <[TaskId]>::to_vec);
    // What the chain or the history knows and nobody else.
    ids.extend(chain.journals.keys().chain(history.lines.keys()).filter(|id| known.binary_search(id).is_err()));
    for (number, line) in &history.strange {
        let found = format!("line {number}: {}", String::from_utf8_lossy(line));
        proof.find(layout.history(), None, Difference::new("lines of tasks that have ended", found));
    }
    ids.extend(records_of_nobody(layout, &known)?);
    ids.sort_unstable();
    ids.dedup();
    let (next, sum, wrong) = (AtomicUsize::new(0), Mutex::new(Proof::default()), Mutex::new(Vec::new()));
    let failed = Mutex::new(None);
    let work = || {
        while let Some(id) = ids.get(next.fetch_add(1, Ordering::Relaxed)) {
            let (audited, whole) = (chain.journals.get(id).copied(), chain.broken.is_none());
            let part = Look { layout, id: *id, audited, history: &history, whole }.check();
            match part {
                Ok(part) if part.findings.is_empty() => lock(&sum).add(part),
                Ok(part) => lock(&wrong).push((*id, part)),
                Err(error) => {
                    lock(&failed).get_or_insert(error);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    if let Some(error) = lock(&failed).take() {
        return Err(error);
    }
    let mut parts = std::mem::take(&mut *lock(&wrong));
    parts.sort_by_key(|(id, _)| *id);
    proof.add(std::mem::take(&mut *lock(&sum)));
    for (_, part) in parts {
        proof.add(part);
    }
    Ok(proof)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Returns the numbers of records whose tasks are not there.
fn records_of_nobody(layout: &Layout, known: &[TaskId]) -> Result<Vec<TaskId>, SpoolError> {
    let dir = layout.state(TaskState::Done);
    let mut found = Vec::new();
    for entry in fs::read_dir(&dir).map_err(|e| SpoolError::io("list", &dir, e))? {
        let name = entry.map_err(|e| SpoolError::io("list", &dir, e))?.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok()).map(TaskId);
        found.extend(id.filter(|id| known.binary_search(id).is_err()));
    }
    Ok(found)
}

/// Where the lines of the history stand.
struct History {
    path: PathBuf,
    file: Option<File>,
    /// By task, in their order: where a line begins and how long it is.
    lines: HashMap<TaskId, Vec<(u64, u32)>>,
    /// Whole lines that are about no task, with their numbers from 1.
    strange: Vec<(usize, Vec<u8>)>,
    /// Where the first line stands that remembers files: versions that remembered none wrote what stands before it.
    files_from: Option<u64>,
}

impl History {
    fn read(layout: &Layout) -> Result<History, SpoolError> {
        let path = layout.history();
        let fail = |act| {
            let path = path.clone();
            move |e: io::Error| SpoolError::io(act, &path, e)
        };
        let mut history =
            History { path: path.clone(), file: None, lines: HashMap::new(), strange: Vec::new(), files_from: None };
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(history),
            other => other.map_err(fail("open"))?,
        };
        let mut reader = io::BufReader::with_capacity(1 << 20, &file);
        let (mut line, mut at, mut number) = (Vec::new(), 0, 0_usize);
        loop {
            line.clear();
            let read = io::BufRead::read_until(&mut reader, b'\n', &mut line).map_err(fail("read"))?;
            // A line without its end is still written, or was cut by a crash: the daemon writes it again.
            if read == 0 || line.pop() != Some(b'\n') {
                break;
            }
            number = number.saturating_add(1);
            match id_of(&line) {
                Some(id) => {
                    let length = u32::try_from(line.len()).unwrap_or(u32::MAX);
                    // Inside of a string every quotation mark has a backslash before it, so this stands for itself.
                    if history.files_from.is_none() && memchr::memmem::find(&line, b",\"drops\":[").is_some() {
                        history.files_from = Some(at);
                    }
                    history.lines.entry(id).or_default().push((at, length));
                }
                None if history.strange.len() < FINDINGS_MAX => history.strange.push((number, line.clone())),
                None => {}
            }
            at = at.saturating_add(read as u64);
        }
        history.file = Some(file);
        Ok(history)
    }

    /// Reads the lines of a task, each with its place.
    fn of(&self, id: TaskId) -> Result<Vec<(u64, Vec<u8>)>, SpoolError> {
        let (Some(file), Some(places)) = (&self.file, self.lines.get(&id)) else { return Ok(Vec::new()) };
        let read = |(at, length): &(u64, u32)| {
            let mut line = vec![0; *length as usize];
            file.read_exact_at(&mut line, *at).map(|()| (*at, line))
        };
        places.iter().map(|place| read(place).map_err(|e| SpoolError::io("read", &self.path, e))).collect()
    }

    /// Returns how a line differs from an end of its task.
    fn difference(&self, (at, line): &(u64, Vec<u8>), end: &HistoryLine) -> Option<Difference> {
        let difference = of_line(line, end)?;
        if self.files_from.is_some_and(|from| *at >= from) {
            return Some(difference);
        }
        of_line(line, &HistoryLine { drops: Vec::new(), ..end.clone() })
    }
}

/// Returns the number that a line of the history begins with.
fn id_of(line: &[u8]) -> Option<TaskId> {
    let rest = line.strip_prefix(b"{\"id\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok().map(TaskId)
}

/// One task that is looked at.
struct Look<'a> {
    layout: &'a Layout,
    id: TaskId,
    audited: Option<Audited>,
    history: &'a History,
    /// Whether the chain holds to its end, so that what it does not have is not there.
    whole: bool,
}

impl Look<'_> {
    fn check(&self) -> Result<Proof, SpoolError> {
        let mut proof = Proof { tasks: 1, ..Proof::default() };
        let Some(events) = self.journal(&mut proof)? else { return Ok(proof) };
        let Some(plan) = self.plans(&events, &mut proof)? else { return Ok(proof) };
        let (id, path) = (self.id, self.layout.events(self.id));
        // Every end of it, as its line of the history says it: a task that was retried has several.
        let mut ends = Vec::new();
        let mut run: Option<Run> = None;
        for recorded in &events {
            let applied = match &mut run {
                Some(run) => run.apply(recorded),
                None => Run::begin(id, std::sync::Arc::clone(&plan), recorded).map(|begun| run = Some(begun)),
            };
            if let Err(illegal) = applied {
                proof.differs(path, id, "events that can follow each other", illegal.to_string());
                return Ok(proof);
            }
            if let (Event::Closed { .. }, Some(run)) = (&recorded.event, &run) {
                ends.extend(record(run).map(|record| HistoryLine::of(run, &record)));
            }
        }
        let Some(run) = run else { return Ok(proof) };
        if let Some(said) = run.contradicted {
            let outcome = ends.last().map_or("", |line| line.outcome.word());
            proof.differs(
                path,
                id,
                format!("an end that its steps came to: {outcome}"),
                format!("closed as {}", said.word()),
            );
        }
        let acts = self.audited.map_or(0, |known| known.acts);
        if self.whole && run.state() == TaskState::Done && acts < run.acts.len() as u64 {
            let dir = self.layout.audit();
            proof.differs(
                dir,
                id,
                format!("{} act(s) of task {id}", run.acts.len()),
                format!("{acts}; lines are missing"),
            );
        }
        self.files(&run, &mut proof)?;
        self.lines(&run, &ends, &mut proof)?;
        self.logs(&run, &mut proof)?;
        Ok(proof)
    }

    /// Reads the journal and compares it with what the chain knows of it; nothing where there is none to go on with.
    fn journal(&self, proof: &mut Proof) -> Result<Option<Vec<Recorded>>, SpoolError> {
        let (id, path) = (self.id, self.layout.events(self.id));
        let Some(bytes) = read(&path)? else {
            // What a power cut left of a task that was never announced has no events either.
            let known = self.audited.is_some() || self.history.lines.contains_key(&id);
            let record = self.layout.task_file(TaskState::Done, id);
            if known || record.exists() {
                proof.differs(path, id, format!("the journal of task {id}"), "no file");
            }
            return Ok(None);
        };
        if let Some((event, digest)) = self.audited.and_then(|known| known.last) {
            let found = digest_of_lines(&bytes, event);
            if found != Some(digest) {
                let found = found.map_or_else(
                    || format!("fewer than {} line(s)", event.saturating_add(1)),
                    |found| found.to_string(),
                );
                let expected = format!("{digest} up to line {}", event.saturating_add(1));
                proof.find(path, id, Difference { expected, found });
                return Ok(None);
            }
        }
        let mut events = Vec::new();
        for (n, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate().filter(|(_, line)| *line != b"\n") {
            match serde_json::from_slice(line) {
                Ok(event) => events.push(event),
                // The last one is still written, or was cut by a crash.
                Err(_) if !line.ends_with(b"\n") => break,
                Err(error) => {
                    proof.differs(path, id, "events", format!("line {}: {error}", n.saturating_add(1)));
                    return Ok(None);
                }
            }
        }
        if self.whole && self.audited.is_none() && !events.is_empty() {
            proof.differs(self.layout.audit(), id, format!("the acts of task {id}"), "no line of it");
        }
        self.nothing_after_the_end(&path, &events, proof);
        Ok(Some(events))
    }

    /// A task that has ended has no events that the chain does not cover.
    fn nothing_after_the_end(&self, path: &Path, events: &[Recorded], proof: &mut Proof) {
        let Some((last, _)) = self.audited.and_then(|known| known.last) else { return };
        let at = usize::try_from(last).unwrap_or(usize::MAX);
        let ended = matches!(events.get(at), Some(Recorded { event: Event::Closed { .. }, .. }));
        if ended && events.len() > at.saturating_add(1) {
            let more = events.len().saturating_sub(at).saturating_sub(1);
            proof.differs(path, self.id, "nothing after the task's end", format!("{more} more event(s)"));
        }
    }

    /// Compares the plans with their digests, which the journal has; returns the first one.
    fn plans(&self, events: &[Recorded], proof: &mut Proof) -> Result<Option<std::sync::Arc<Plan>>, SpoolError> {
        let mut first = None;
        let mut version = 1_u32;
        for recorded in events {
            let (path, digest) = match &recorded.event {
                Event::Accepted(accepted) => (self.layout.plan(self.id), accepted.digest),
                Event::Stale { digest, .. } => {
                    version = version.saturating_add(1);
                    (self.layout.later_plan(self.id, version), *digest)
                }
                _ => continue,
            };
            let bytes = read(&path)?;
            match &bytes {
                None => {
                    let found = "no file".to_owned();
                    proof.find(&path, self.id, Difference { expected: digest.to_string(), found });
                }
                Some(bytes) => match Difference::of_digest(digest, Digest::of(bytes)) {
                    Some(difference) => proof.find(&path, self.id, difference),
                    None if version == 1 => first = serde_json::from_slice(bytes).ok().map(std::sync::Arc::new),
                    None => {}
                },
            }
        }
        Ok(first)
    }

    /// Compares the record of a task that has ended, or the view of one that has not.
    fn files(&self, run: &Run, proof: &mut Proof) -> Result<(), SpoolError> {
        let (id, state) = (self.id, run.state());
        let done = self.layout.task_file(TaskState::Done, id);
        let Some(wanted) = record(run) else {
            let path = self.layout.task_file(state, id);
            match read(&path)? {
                None => proof.differs(path, id, format!("the view of task {id}"), "no file"),
                // Anybody may drop a file that is called like it.
                Some(bytes) if self.is_ours(&path) => {
                    if let Some(difference) = of_lines(&bytes, &view(run)) {
                        proof.find(path, id, difference);
                    }
                }
                Some(_) => {}
            }
            if done.exists() {
                proof.differs(done, id, format!("no record: task {id} is {}", state.word()), "a file");
            }
            return Ok(());
        };
        match read(&done)? {
            None => proof.differs(done, id, format!("the record of task {id}"), "no file"),
            Some(bytes) => {
                if let Some(difference) = of_lines(&bytes, &wanted) {
                    proof.find(done, id, difference);
                }
            }
        }
        Ok(())
    }

    /// Whether a file belongs to whom the journal belongs to.
    fn is_ours(&self, path: &Path) -> bool {
        let owner = |path: &Path| fs::symlink_metadata(path).map(|meta| meta.uid()).ok();
        owner(path) == owner(&self.layout.events(self.id))
    }

    /// Compares the lines that the history has of the task with the ends that it came to.
    fn lines(&self, run: &Run, ends: &[HistoryLine], proof: &mut Proof) -> Result<(), SpoolError> {
        let (id, path) = (self.id, self.layout.history());
        let lines = self.history.of(id)?;
        let again = format!("{{\"id\":{id},\"reopened\":true}}");
        for (n, line) in lines.iter().filter(|(_, line)| line != again.as_bytes()).enumerate() {
            let differences: Option<Vec<Difference>> =
                ends.iter().map(|end| self.history.difference(line, end)).collect();
            // Where it is none of the ends, it is most like the one that has its place.
            let Some(mut differences) = differences else { continue };
            match differences.len() {
                0 => proof.differs(&path, id, format!("no line of task {id}: it has not ended"), "a line"),
                count => proof.find(&path, id, differences.swap_remove(n.min(count.saturating_sub(1)))),
            }
        }
        let last = lines.last().filter(|(_, line)| line != again.as_bytes());
        match (ends.last().filter(|_| run.state() == TaskState::Done), last) {
            (Some(_), None) => proof.differs(&path, id, format!("a line of task {id}: it has ended"), "none"),
            (Some(end), Some(line)) if lines.len() > 1 && self.history.difference(line, end).is_some() => {
                proof.differs(&path, id, format!("the last end of task {id} in its last line"), "an earlier one");
            }
            (None, Some(_)) if !ends.is_empty() => {
                proof.differs(&path, id, format!("that task {id} runs again"), "that it has ended");
            }
            _ => {}
        }
        Ok(())
    }

    /// Compares what every attempt printed with the digest that its end says.
    fn logs(&self, run: &Run, proof: &mut Proof) -> Result<(), SpoolError> {
        let removed = gc::removed(self.layout, self.id);
        for lane in &run.lanes {
            let steps = run.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
            for (planned, step) in steps.iter().zip(&lane.steps) {
                let last = if let StepState::Ended(result) = &step.state { Some(result) } else { None };
                for result in step.earlier.iter().chain(last) {
                    let path = self.layout.log(self.id, &lane.host, &planned.name, result.attempt);
                    let gone = removed.as_ref().is_some_and(|removed| removed.covers(result.ended));
                    self.log(&path, result, gone, proof)?;
                }
            }
        }
        Ok(())
    }

    fn log(&self, path: &Path, result: &StepResult, gone: bool, proof: &mut Proof) -> Result<(), SpoolError> {
        let kept = |facts: &crate::domain::outcome::OutputFacts| {
            facts.out_bytes.plus(facts.err_bytes).less(facts.dropped_bytes)
        };
        match (result.output.sha256, digest_of(path)?) {
            (None, None | Some((_, 0))) => {}
            (Some(_), None) if gone => proof.removed = proof.removed.saturating_add(1),
            (Some(digest), None) => {
                let expected = format!("{digest} of {} byte(s)", kept(&result.output));
                proof.find(path, self.id, Difference { expected, found: "no file".to_owned() });
            }
            (None, Some((_, bytes))) => {
                proof.differs(path, self.id, "nothing: it printed nothing", format!("{bytes} byte(s)"));
            }
            (Some(digest), Some((found, bytes))) => {
                proof.logs = proof.logs.saturating_add(1);
                if digest != found {
                    let expected = format!("{digest} of {} byte(s)", kept(&result.output));
                    proof.find(path, self.id, Difference { expected, found: format!("{found} of {bytes} byte(s)") });
                }
            }
        }
        Ok(())
    }
}

/// Returns the digest of a file and how long it is; nothing when it is not there.
///
/// # Errors
/// When it cannot be read.
pub fn digest_of(path: &Path) -> Result<Option<(Digest, u64)>, SpoolError> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| SpoolError::io("open", path, e))?,
    };
    let (mut digester, mut length, mut piece) = (Digester::default(), 0, vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece).map_err(|e| SpoolError::io("read", path, e))? {
            0 => return Ok(Some((digester.finish(), length))),
            count => {
                digester.update(&piece[..count]);
                length = length.saturating_add(count as u64);
            }
        }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, SpoolError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(SpoolError::io("read", path, error)),
    }
}
