//! The files behind the screens: what changed in them becomes messages.
//!
//! **Invariant:** opens everything for reading only; a journal is never read twice, and nothing is read that no screen wants.
//! A notice of the system that something changed is a nudge: what is lost is found by the next look.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::adapters::config::ConfigError;
use crate::adapters::sources::Sources;
use crate::adapters::spool::bad::Why;
use crate::adapters::spool::drop_file::Put;
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::past::{Past, Wanted};
use crate::adapters::spool::reader::{self, Follower, Journal};
use crate::adapters::spool::{SpoolError, audit};
use crate::base::ids::TaskId;
use crate::base::time::Timestamp;
use crate::domain::audit::Line;
use crate::domain::policy::Part;
use crate::domain::record::view;
use crate::domain::run::{Run, TaskState};
use crate::engine::DropBox;
use crate::shells::configuration::{Dirs, read_configuration};
use crate::shells::dashboard::log_parts::Logs;
use crate::shells::dashboard::message::{HistoryWant, Message, Wants};
use crate::shells::dashboard::refused::Refused;

/// How often everything is looked at anew, notices or not, in milliseconds.
const RESCAN_MS: i64 = 30_000;
/// The same while there are no notices.
const RESCAN_BLIND_MS: i64 = 2_000;
/// How often the configuration and the daemon are looked at.
const SLOW_MS: i64 = 1_000;
/// How many of the newest lines of the history are always known.
const RECENT: usize = 200;
/// How many lines of the audit are shown.
const AUDIT_LINES: usize = 1_000;
/// How much of the audit's newest file is read.
const AUDIT_BYTES: u64 = 1 << 20;
/// How long an answer is waited for, in milliseconds.
const ANSWER_MS: i64 = 30_000;
/// How many numbers in a row may be left out.
const GAP_MAX: u64 = 16;
/// How many changed tasks are read before the next frame.
const READ_AT_ONCE: usize = 50;
/// How many tasks stay open after nobody asks for them.
const OPEN_MAX: usize = 64;

/// The files of one state directory, as a dashboard reads them.
#[derive(Debug)]
pub(super) struct Files {
    dirs: Dirs,
    layout: Layout,
    nudged: Arc<AtomicBool>,
    watcher: Option<RecommendedWatcher>,
    scanned: Option<Timestamp>,
    scanned_all: Option<Timestamp>,
    slow: Option<Timestamp>,
    /// The tasks that have not ended, with how long their journals were.
    unfinished: BTreeMap<TaskId, u64>,
    /// Those of them that changed since they were read.
    unread: BTreeSet<TaskId>,
    /// The highest number there is.
    newest: TaskId,
    sources: Option<Sources>,
    config_problems: Vec<String>,
    /// Which daemon served at the last look; nobody looked before that when `None`.
    daemon: Option<Daemon>,
    journals: BTreeMap<TaskId, Journal>,
    broken: BTreeSet<TaskId>,
    past: Past,
    history: Option<(HistoryWant, u64)>,
    audit: Option<(std::path::PathBuf, u64)>,
    refused: Refused,
    /// How many cuts of the audit nobody took note of, as it was said last.
    cuts: usize,
    pub(super) logs: Logs,
    previous: BTreeSet<TaskId>,
    dropped: Vec<Dropped>,
}

/// Why a task was not read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    /// Its files could not be.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// They say what cannot be.
    #[error("{0}")]
    Illegal(String),
}

impl Unread {
    /// Whether it is for others.
    fn is_denied(&self) -> bool {
        matches!(self, Unread::Spool(error) if error.is_denied())
    }
}

/// Tells where a task stands from where it stood, for who cannot read its journal.
fn stamp(layout: &Layout, id: TaskId) -> u64 {
    let states = [TaskState::New, TaskState::Ready, TaskState::Running];
    let found = states.into_iter().zip(1..).find_map(|(state, n)| {
        let meta = layout.task_file(state, id).metadata().ok()?;
        Some((meta.ino() ^ meta.mtime().unsigned_abs()).rotate_left(2) ^ n)
    });
    found.unwrap_or(0)
}

/// The daemon that serves, if one does.
#[derive(Debug)]
struct Daemon(Option<reader::Serving>);

/// A new task on its way.
#[derive(Debug)]
struct Dropped {
    request: usize,
    drop_box: DropBox,
    put: Put,
    since_ms: i64,
    /// The highest number before it.
    after: TaskId,
}

impl Files {
    pub(super) fn new(dirs: Dirs) -> Files {
        let layout = Layout::new(dirs.state.clone());
        let nudged = Arc::new(AtomicBool::new(true));
        let watcher = watch(&layout, Arc::clone(&nudged)).ok();
        let logs = Logs::new(dirs.state.clone());
        Files {
            dirs,
            layout,
            nudged,
            watcher,
            scanned: None,
            scanned_all: None,
            slow: None,
            unfinished: BTreeMap::new(),
            unread: BTreeSet::new(),
            newest: TaskId(0),
            sources: None,
            config_problems: Vec::new(),
            daemon: None,
            journals: BTreeMap::new(),
            broken: BTreeSet::new(),
            past: Past::default(),
            history: None,
            audit: None,
            refused: Refused::default(),
            cuts: 0,
            logs,
            previous: BTreeSet::new(),
            dropped: Vec::new(),
        }
    }

    pub(super) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether something is on its way that is to be looked at soon.
    pub(super) fn is_busy(&self) -> bool {
        !self.dropped.is_empty() || !self.unread.is_empty()
    }

    /// Remembers a dropped file, to say what became of it.
    pub(super) fn await_answer(&mut self, request: usize, drop_box: DropBox, put: Put, since_ms: i64) {
        self.dropped.push(Dropped { request, drop_box, put, since_ms, after: self.newest });
    }

    /// Looks at everything that may have changed and that `wants` asks for.
    pub(super) fn look(&mut self, wants: &Wants, now: Timestamp) -> Vec<Message> {
        let mut messages = Vec::new();
        let rescan = if self.watcher.is_some() { RESCAN_MS } else { RESCAN_BLIND_MS };
        let due = self.scanned_all.is_none_or(|at| now.0.saturating_sub(at.0) >= rescan || now < at);
        // Where very many tasks wait, a look at all of their journals is not worth taking at every notice.
        let pause = i64::try_from(self.unfinished.len() / 20).unwrap_or(0);
        let rested = self.scanned.is_none_or(|at| now.0.saturating_sub(at.0) >= pause || now < at);
        if due || (rested && self.nudged.swap(false, Ordering::Relaxed)) {
            self.scan(due, &mut messages);
            self.scanned = Some(now);
            self.scanned_all = if due { Some(now) } else { self.scanned_all };
        }
        self.read_some(&mut messages);
        if self.slow.is_none_or(|at| now.0.saturating_sub(at.0) >= SLOW_MS || now < at) {
            self.look_slowly(&mut messages);
            self.slow = Some(now);
        }
        self.follow(&wants.follow, &mut messages);
        self.look_at_history(wants.history.as_ref(), &mut messages);
        if wants.audit {
            self.look_at_audit(&mut messages);
        } else {
            self.audit = None;
        }
        messages.extend(self.refused.look(&self.layout, wants.refused));
        self.logs.look(wants, &mut messages);
        self.look_for_previous(wants.previous.as_ref(), &mut messages);
        self.look_for_dropped(&wants.answered, now, &mut messages);
        messages
    }

    /// Finds out which tasks there are, and which of those that nobody follows have changed.
    ///
    /// The boxes that people drop into cannot be listed by everybody; the runs and the history can, by everybody who may
    /// look at all.
    fn scan(&mut self, all: bool, messages: &mut Vec<Message>) {
        let known = self.past.version();
        if let Err(error) = self.past.look(&self.layout) {
            messages.push(Message::Say(error.to_string()));
        }
        if self.past.version() != known {
            self.previous.clear();
            let part = self.past.part(&Wanted { rows: RECENT, ..Wanted::default() });
            messages.push(Message::Recent { all: part.all, failed: part.failed, lines: part.lines });
        }
        let mut found = self.past.take_reopened();
        if all {
            match reader::task_ids(&self.layout) {
                Ok(ids) => found.extend(ids),
                Err(error) => messages.push(Message::Blind(error.to_string())),
            }
        } else {
            // Numbers ascend; a few may be left out where a crash took one.
            let (mut last, mut next) = (self.newest.0, self.newest.0.saturating_add(1));
            while next <= last.saturating_add(GAP_MAX) {
                if self.layout.run(TaskId(next)).exists() {
                    found.push(TaskId(next));
                    last = next;
                }
                next = next.saturating_add(1);
            }
        }
        for id in found {
            self.newest = self.newest.max(id);
            if !self.past.has_ended(id) {
                self.unfinished.entry(id).or_insert(0);
            }
        }
        let ended: Vec<TaskId> = self.unfinished.keys().filter(|id| self.past.has_ended(**id)).copied().collect();
        for id in ended {
            self.unfinished.remove(&id);
            messages.push(Message::Gone(id));
        }
        for (id, size) in &mut self.unfinished {
            let length = if self.journals.contains_key(id) {
                *size
            } else {
                match self.layout.events(*id).metadata() {
                    Ok(meta) => meta.len(),
                    // Of what is for others everybody may know where it stands.
                    Err(error) if error.kind() == ErrorKind::PermissionDenied => stamp(&self.layout, *id),
                    Err(_) => 0,
                }
            };
            if length != *size {
                *size = length;
                self.unread.insert(*id);
            }
        }
    }

    /// Reads some of the tasks that changed: many of them do not keep keys waiting.
    fn read_some(&mut self, messages: &mut Vec<Message>) {
        for _ in 0..READ_AT_ONCE {
            let Some(id) = self.unread.pop_first() else { return };
            match self.open(id) {
                Ok(Some((_, run))) => messages.push(Message::Stands(Box::new(view(&run)), run.state())),
                Ok(None) => {}
                Err(why) => {
                    let known = reader::view(&self.layout, id).filter(|_| why.is_denied());
                    messages.extend(known.map(|(view, state)| Message::Stands(Box::new(view), state)));
                    self.unreadable(id, &why, messages);
                }
            }
        }
    }

    fn look_slowly(&mut self, messages: &mut Vec<Message>) {
        match reader::daemon(&self.layout) {
            Ok(daemon) if self.daemon.as_ref().is_none_or(|known| known.0 != daemon) => {
                messages.push(Message::Daemon(daemon.clone()));
                self.daemon = Some(Daemon(daemon));
            }
            Ok(_) => {}
            // Who may not look does not know whether one serves.
            Err(error) => messages.push(Message::Say(error.to_string())),
        }
        let cuts = audit::open_cuts(&self.layout).map_or(0, |cuts| cuts.len());
        if std::mem::replace(&mut self.cuts, cuts) != cuts {
            messages.push(Message::Cuts(cuts));
        }
        if self.watcher.is_none() {
            self.watcher = watch(&self.layout, Arc::clone(&self.nudged)).ok();
            messages.push(Message::WatchLost(self.watcher.is_none()));
        }
        if self.sources.as_ref().is_none_or(Sources::changed) {
            match read_configuration(&self.dirs) {
                Ok(mut read) => {
                    // The daemon asks OpenSSH; what is typed here is shown as the inventory alone says.
                    if let Some(answers) = &mut read.config.library.ssh {
                        answers.lenient = true;
                    }
                    self.sources = Some(read.sources);
                    self.config_problems.clear();
                    messages.push(Message::Library(Ok(Arc::new(read.config.library))));
                }
                Err(error) => {
                    self.sources = self.sources.as_ref().map(|sources| sources.again(crate::shells::clock::now()));
                    let said = match &error {
                        ConfigError::Wrong { problems, .. } => problems.iter().map(ToString::to_string).collect(),
                        ConfigError::Unreadable { .. } => vec![error.to_string()],
                    };
                    if self.config_problems != said {
                        messages.push(Message::Library(Err(said.clone())));
                        self.config_problems = said;
                    }
                }
            }
        }
    }

    /// Opens the tasks that are wanted and reads what came to those that are open.
    fn follow(&mut self, wanted: &BTreeSet<TaskId>, messages: &mut Vec<Message>) {
        let spare = self.journals.len().saturating_sub(wanted.len().max(OPEN_MAX));
        let unwanted: Vec<TaskId> =
            self.journals.keys().filter(|id| !wanted.contains(id)).copied().take(spare).collect();
        for id in unwanted {
            self.journals.remove(&id);
            self.previous.remove(&id);
            messages.push(Message::Forgotten(id));
        }
        for id in wanted {
            if let Some(journal) = self.journals.get_mut(id) {
                match journal.news() {
                    Ok(events) if events.is_empty() => {}
                    Ok(events) => messages.push(Message::Events(*id, events)),
                    Err(error) => self.unreadable(*id, &Unread::Spool(error), messages),
                }
                continue;
            }
            if !self.layout.run(*id).exists() {
                messages.push(Message::Missing(*id));
                continue;
            }
            match self.open(*id) {
                Ok(Some((journal, run))) => {
                    self.broken.remove(id);
                    self.journals.insert(*id, journal);
                    messages.push(Message::Opened(Box::new(run)));
                    let printed = std::fs::read_dir(self.layout.run(*id).join("output"));
                    if printed.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied) {
                        messages.push(Message::Withheld(*id, Part::Output));
                    }
                }
                Ok(None) => {}
                Err(why) => self.unreadable(*id, &why, messages),
            }
        }
    }

    fn open(&self, id: TaskId) -> Result<Option<(Journal, Run)>, Unread> {
        let plan = Arc::new(reader::plan(&self.layout, id)?);
        let mut journal = Journal::of(&self.layout, id);
        let events = journal.news()?;
        if events.is_empty() {
            return Ok(None);
        }
        Run::fold(id, plan, &events)
            .map(|run| Some((journal, run)))
            .map_err(|illegal| Unread::Illegal(illegal.to_string()))
    }

    fn unreadable(&mut self, id: TaskId, why: &Unread, messages: &mut Vec<Message>) {
        if self.broken.insert(id) {
            messages.push(match why {
                why if why.is_denied() => Message::Withheld(id, Part::Plan),
                why => Message::Unreadable(id, why.to_string()),
            });
        }
    }

    fn look_at_history(&mut self, wanted: Option<&HistoryWant>, messages: &mut Vec<Message>) {
        let Some(wanted) = wanted else { return };
        // What was added is found when everything is looked at; here it is only shown.
        let seen = (wanted.clone(), self.past.version());
        if self.history.as_ref() == Some(&seen) {
            return;
        }
        let HistoryWant { filter, failed_only, start, rows } = wanted.clone();
        let part = self.past.part(&Wanted { filter, failed_only, start, rows });
        self.history = Some(seen);
        messages.push(Message::History { of: wanted.clone(), count: part.count, start, lines: part.lines });
    }

    /// Reads the end of the audit's newest file.
    fn look_at_audit(&mut self, messages: &mut Vec<Message>) {
        let Ok(files) = audit::files(&self.layout) else { return };
        let Some(path) = files.last() else { return };
        let Ok(file) = std::fs::File::open(path) else { return };
        let length = file.metadata().map_or(0, |meta| meta.len());
        if self.audit.as_ref().is_some_and(|(known, size)| known == path && *size == length) {
            return;
        }
        let from = length.saturating_sub(AUDIT_BYTES);
        let mut bytes = vec![0; usize::try_from(length.saturating_sub(from)).unwrap_or(0)];
        if file.read_exact_at(&mut bytes, from).is_err() {
            return;
        }
        let whole = &bytes[..bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end.saturating_add(1))];
        let mut lines: Vec<Line> =
            whole.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
        lines.drain(..lines.len().saturating_sub(AUDIT_LINES));
        self.audit = Some((path.clone(), length));
        messages.push(Message::Audit(lines));
    }

    fn look_for_previous(&mut self, wanted: Option<&(TaskId, String)>, messages: &mut Vec<Message>) {
        let Some((id, work)) = wanted else { return };
        if !self.previous.insert(*id) {
            return;
        }
        // Whatever the history holds is known when an approval asks.
        let _ = self.past.look(&self.layout);
        let needle = format!("\"work\":{}", serde_json::Value::from(work.as_str()));
        let before = self.past.newest(&needle, |line| line.work == *work && line.id != *id && line.started.is_some());
        let plan = before.and_then(|line| {
            let (follower, _) = Follower::open(&self.layout, line.id).ok()?;
            Some((line.id, Box::new((*follower.run()?.plan).clone())))
        });
        messages.push(Message::Previous(*id, plan));
    }

    /// Finds out what became of tasks that were dropped from here.
    fn look_for_dropped(&mut self, answered: &BTreeSet<usize>, now: Timestamp, messages: &mut Vec<Message>) {
        if self.dropped.is_empty() {
            return;
        }
        let (layout, newest) = (&self.layout, self.newest);
        self.dropped.retain(|dropped| {
            let is_it = |why: &Why| why.name == dropped.put.name.as_str();
            if let Some(why) = reader::refusal(layout, &[dropped.drop_box], &dropped.put.name, dropped.since_ms, is_it)
            {
                let reasons: Vec<String> = why.problems.iter().map(ToString::to_string).collect();
                messages.push(Message::Refused(dropped.request, reasons.join("; ")));
                return false;
            }
            if now.0.saturating_sub(dropped.since_ms) > ANSWER_MS {
                messages.push(Message::Unanswered(dropped.request));
                return false;
            }
            // What an order does stands in its task's journal.
            if dropped.drop_box == DropBox::Orders {
                return !answered.contains(&dropped.request);
            }
            if dropped.put.stands(layout) {
                return true;
            }
            let taken = (dropped.after.0.saturating_add(1)..=newest.0).rev().map(TaskId).find(|id| {
                let opened = Follower::open(layout, *id).ok();
                opened
                    .and_then(|(follower, _)| follower.run().map(|run| run.accepted.drop.name == dropped.put.name))
                    .unwrap_or(false)
            });
            if let Some(id) = taken {
                messages.push(Message::Taken(dropped.request, id));
                return false;
            }
            true
        });
    }
}

fn watch(layout: &Layout, nudged: Arc<AtomicBool>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // What is read changes nothing, and what reads most is this dashboard.
        if event.is_ok_and(|event| event.kind.is_access()) {
            return;
        }
        nudged.store(true, Ordering::Relaxed);
    })?;
    // A new task makes a directory, every act a line of the audit, every end a line of the history.
    for dir in
        [layout.runs(), layout.audit(), layout.history().parent().map(std::path::Path::to_owned).unwrap_or_default()]
    {
        watcher.watch(&dir, RecursiveMode::NonRecursive)?;
    }
    Ok(watcher)
}
