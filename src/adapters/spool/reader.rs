//! Reads tasks as anybody may who can read the files. Floor 3.
//!
//! **Invariant:** never writes, takes no lock, and never reads an event twice: a follower goes on where it stopped.

use std::cmp::Reverse;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::adapters::spool::bad::Why;
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::{Lack, SpoolError};
use crate::base::ids::{Actor, TaskId};
use crate::base::time::Timestamp;
use crate::domain::drop_name::{DropName, stem};
use crate::domain::plan::Plan;
use crate::domain::record::{HistoryLine, View};
use crate::domain::run::{Accepted, Event, Recorded, Run, TaskState};
use crate::engine::DropBox;

/// No view is longer: it holds a remark and the names of people, all of one dropped file.
const VIEW_BYTES_MAX: u64 = 64 << 20;
/// How many refused files are counted at most.
const COUNTED: usize = 1000;

/// Returns the numbers of all tasks, ascending.
///
/// # Errors
/// When the runs cannot be listed.
pub fn task_ids(layout: &Layout) -> Result<Vec<TaskId>, SpoolError> {
    let dir = layout.runs();
    let mut ids = Vec::new();
    for entry in fs::read_dir(&dir).map_err(|e| SpoolError::io("list", &dir, e))? {
        let name = entry.map_err(|e| SpoolError::io("list", &dir, e))?.file_name();
        ids.extend(name.to_str().and_then(|digits| digits.parse().ok()).map(TaskId));
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Returns the tasks whose files stand in a state's directory.
///
/// # Errors
/// When it cannot be listed.
pub fn standing(layout: &Layout, state: TaskState) -> Result<Vec<TaskId>, SpoolError> {
    let dir = layout.state(state);
    let mut ids = Vec::new();
    for entry in fs::read_dir(&dir).map_err(|e| SpoolError::io("list", &dir, e))? {
        let name = entry.map_err(|e| SpoolError::io("list", &dir, e))?.file_name();
        ids.extend(name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok()).map(TaskId));
    }
    Ok(ids)
}

/// A line of the history that says that a task runs again which had ended.
#[derive(serde::Deserialize)]
struct Reopened {
    id: TaskId,
    #[serde(rename = "reopened")]
    _reopened: bool,
}

/// Returns how a task was accepted, and its newest plan; `None` where they cannot be read.
#[must_use]
pub fn beginning(layout: &Layout, id: TaskId) -> Option<(Accepted, Plan)> {
    let mut line = Vec::new();
    BufReader::new(File::open(layout.events(id)).ok()?).read_until(b'\n', &mut line).ok()?;
    let recorded: Recorded = serde_json::from_slice(&line).ok()?;
    let Event::Accepted(accepted) = recorded.event else { return None };
    let later = |version: &u32| layout.later_plan(id, *version);
    let newest = (2..u32::MAX).take_while(|version| later(version).exists()).last();
    let path = newest.map_or_else(|| layout.plan(id), |version| later(&version));
    Some((*accepted, serde_json::from_slice(&fs::read(path).ok()?).ok()?))
}

/// Returns what everybody may know of a task that has not ended, and its state. What others dropped into a box under its name
/// says nothing.
#[must_use]
pub fn view(layout: &Layout, id: TaskId) -> Option<(View, TaskState)> {
    let daemon = fs::metadata(layout.runs()).ok()?.uid();
    [TaskState::New, TaskState::Ready, TaskState::Running].into_iter().find_map(|state| {
        let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(layout.task_file(state, id));
        let mut file = opened.ok().filter(|file| {
            file.metadata().is_ok_and(|meta| meta.is_file() && meta.uid() == daemon && meta.len() <= VIEW_BYTES_MAX)
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).ok()?;
        let view: View = serde_json::from_slice(&bytes).ok()?;
        (view.id == id).then_some((view, state))
    })
}

/// Returns the name that a task was dropped under and the uid of who dropped it, by the first bytes of its journal, or by what
/// everybody may know of it.
#[must_use]
pub fn name_of(layout: &Layout, id: TaskId) -> Option<(String, u32)> {
    begins_with(layout, id).or_else(|| view(layout, id).map(|(view, _)| (view.name, view.submitter.uid)))
}

fn begins_with(layout: &Layout, id: TaskId) -> Option<(String, u32)> {
    /// Names are short, and stand first.
    const BEGINNING: u64 = 4 << 10;
    let mut bytes = Vec::new();
    File::open(layout.events(id)).ok()?.take(BEGINNING).read_to_end(&mut bytes).ok()?;
    let mark = b"\"event\":\"accepted\",\"name\":";
    let at = memchr::memmem::find(&bytes, mark)?.saturating_add(mark.len());
    let mut texts = serde_json::Deserializer::from_slice(&bytes[at..]).into_iter();
    let name = texts.next()?.ok()?;
    let rest = bytes[at..].get(texts.byte_offset()..)?.strip_prefix(b",\"by\":")?;
    let by: Actor = serde_json::Deserializer::from_slice(rest).into_iter().next()?.ok()?;
    Some((name, by.uid))
}

/// Returns the history's lines, one a task; one that is torn or of another version is passed over.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn history(layout: &Layout) -> Result<Vec<HistoryLine>, SpoolError> {
    let path = layout.history();
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(SpoolError::io("read", &path, error)),
    };
    // A task that was retried ended more than once; its last end counts, unless it runs again.
    let mut seen = std::collections::HashSet::new();
    let mut lines: Vec<HistoryLine> = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n').rev() {
        if let Ok(line) = serde_json::from_slice::<HistoryLine>(line) {
            if seen.insert(line.id) {
                lines.push(line);
            }
        } else if let Ok(reopened) = serde_json::from_slice::<Reopened>(line) {
            seen.insert(reopened.id);
        }
    }
    lines.reverse();
    Ok(lines)
}

/// A daemon that serves a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Its process id.
    pub pid: String,
    /// What it waits for before it does anything; nothing when it does everything.
    pub lacks: Option<Lack>,
    /// How many people are at a limit, and who the first of them is, where somebody is.
    pub limited: Option<(usize, String)>,
}

/// Returns the daemon that serves this state; `None` when none does.
///
/// # Errors
/// When the lock file is there and cannot be looked at.
pub fn daemon(layout: &Layout) -> Result<Option<Serving>, SpoolError> {
    let path = layout.sign();
    let file = match OpenOptions::new().read(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SpoolError::io("open", &path, error)),
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_free) => Ok(None),
        Err((mut file, _)) => {
            let mut text = Vec::new();
            file.read_to_end(&mut text).map_err(|e| SpoolError::io("read", &path, e))?;
            let text = String::from_utf8_lossy(&text);
            let mut lines = text.lines().map(str::trim);
            let pid = lines.next().unwrap_or_default().to_owned();
            // Whoever can read the file can hold it; a daemon lives.
            let lives = std::path::Path::new("/proc").join(&pid).exists();
            let word = lines.next().unwrap_or_default();
            let lacks = Lack::ALL.into_iter().find(|lack| lack.word() == word);
            let limited = lines.next().and_then(|line| line.split_once(' '));
            let limited = limited.and_then(|(people, first)| Some((people.parse().ok()?, first.to_owned())));
            Ok(Some(Serving { pid, lacks, limited }).filter(|daemon| !daemon.pid.is_empty() && lives))
        }
    }
}

/// Says why a file was refused that was dropped into one of `boxes`: the newest refusal since `since_ms` of a file that is called
/// so, wherever in its box it stood, and that `is_it` takes for the right one.
#[must_use]
pub fn refusal(
    layout: &Layout,
    boxes: &[DropBox],
    name: &DropName,
    since_ms: i64,
    is_it: impl Fn(&Why) -> bool,
) -> Option<Why> {
    use std::os::unix::fs::MetadataExt as _;
    let stem = stem(name.file());
    let is_of = |file: &str| {
        file.strip_prefix(stem).and_then(|rest| rest.strip_suffix(".why")).is_some_and(|middle| {
            middle.is_empty()
                || middle.strip_prefix('.').is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit() || b == b'-'))
        })
    };
    let mut found: Vec<(i64, PathBuf)> = fs::read_dir(layout.bad())
        .ok()?
        .filter_map(Result::ok)
        .filter(|entry| is_of(&entry.file_name().to_string_lossy()))
        .filter_map(|entry| {
            let meta = entry.metadata().ok()?;
            let changed_ms = meta.mtime().saturating_mul(1000).saturating_add(meta.mtime_nsec() / 1_000_000);
            (changed_ms >= since_ms).then(|| (changed_ms, entry.path()))
        })
        .collect();
    found.sort();
    // The reasons of `a.1.json` and the second ones of `a.json` stand under one name; and what is still written says nothing yet.
    found.into_iter().rev().find_map(|(_, path)| {
        let why: Why = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        (is_it(&why) && boxes.iter().any(|known| known.name() == why.from)).then_some(why)
    })
}

/// Returns how many files of people were refused since a time, and the newest reasons of all that stand in `bad/`. An order
/// that was refused is no file that somebody misses: it has had its answer.
///
/// # Errors
/// When `bad/` cannot be listed.
pub fn refusals(layout: &Layout, since: Timestamp, most: usize) -> Result<(usize, Vec<Why>), SpoolError> {
    let dir = layout.bad();
    let mut reasons = Vec::new();
    for entry in fs::read_dir(&dir).map_err(|e| SpoolError::io("list", &dir, e))? {
        let path = entry.map_err(|e| SpoolError::io("list", &dir, e))?.path();
        if path.extension().is_some_and(|ending| ending == "why") {
            let changed = fs::metadata(&path).map_or((0, 0), |meta| (meta.mtime(), meta.mtime_nsec()));
            reasons.push((Reverse(changed), path));
        }
    }
    reasons.sort();
    let read = |path: &PathBuf| -> Option<Why> { serde_json::from_slice(&fs::read(path).ok()?).ok() };
    let is_missed = |why: &Why| why.at >= since && why.from != DropBox::Orders.name();
    // The file is written just after the time in it.
    let recent =
        reasons.iter().take_while(|(changed, _)| changed.0.0 >= (since.0 / 1000).saturating_sub(1)).take(COUNTED);
    let count = recent.filter_map(|(_, path)| read(path)).filter(is_missed).count();
    Ok((count, reasons.iter().take(most).filter_map(|(_, path)| read(path)).collect()))
}

/// A task's journal, read piece by piece.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    offset: u64,
}

impl Journal {
    /// Names a task's journal; nothing is read yet.
    #[must_use]
    pub fn of(layout: &Layout, id: TaskId) -> Journal {
        Journal { path: layout.events(id), offset: 0 }
    }

    /// Reads the events that came since the last call; a line that is still written is left for the next.
    ///
    /// # Errors
    /// When the journal cannot be read, or says what cannot be.
    pub fn news(&mut self) -> Result<Vec<Recorded>, SpoolError> {
        let fail = |act, source| SpoolError::io(act, &self.path, source);
        let mut file = File::open(&self.path).map_err(|e| fail("open", e))?;
        if file.metadata().map_err(|e| fail("look at", e))?.len() == self.offset {
            return Ok(Vec::new());
        }
        file.seek(SeekFrom::Start(self.offset)).map_err(|e| fail("seek in", e))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|e| fail("read", e))?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end.saturating_add(1));
        let mut events: Vec<Recorded> = Vec::new();
        for line in bytes[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            events.push(serde_json::from_slice(line).map_err(|e| fail("understand", io::Error::from(e)))?);
        }
        self.offset = self.offset.saturating_add(whole as u64);
        Ok(events)
    }
}

/// Reads a task's first plan.
///
/// # Errors
/// When it cannot be read, or is none.
pub fn plan(layout: &Layout, id: TaskId) -> Result<Plan, SpoolError> {
    let path = layout.plan(id);
    let bytes = fs::read(&path).map_err(|e| SpoolError::io("read", &path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| SpoolError::io("understand", &path, io::Error::from(e)))
}

/// A task that is being read: the fold of its events so far, and where they stopped.
#[derive(Debug)]
pub struct Follower {
    journal: Journal,
    id: TaskId,
    plan: Arc<Plan>,
    /// The fold; `None` before the first event.
    run: Option<Run>,
}

impl Follower {
    /// Opens a task and reads what is there.
    ///
    /// # Errors
    /// When its files cannot be read, or say what cannot be.
    pub fn open(layout: &Layout, id: TaskId) -> Result<(Follower, Vec<Recorded>), SpoolError> {
        let plan = Arc::new(plan(layout, id)?);
        let mut follower = Follower { journal: Journal::of(layout, id), id, plan, run: None };
        let events = follower.news()?;
        Ok((follower, events))
    }

    /// Returns the task as far as its events are read.
    #[must_use]
    pub fn run(&self) -> Option<&Run> {
        self.run.as_ref()
    }

    /// Reads and folds the events that came since the last call.
    ///
    /// # Errors
    /// When the journal cannot be read, or says what cannot be.
    pub fn news(&mut self) -> Result<Vec<Recorded>, SpoolError> {
        let events = self.journal.news()?;
        for recorded in &events {
            let applied = match (&mut self.run, &recorded.event) {
                (Some(run), _) => run.apply(recorded),
                (None, _) => Run::begin(self.id, Arc::clone(&self.plan), recorded).map(|run| self.run = Some(run)),
            };
            applied.map_err(|illegal| SpoolError::io("believe", &self.journal.path, io::Error::other(illegal)))?;
        }
        Ok(events)
    }
}
