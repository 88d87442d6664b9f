//! What the dashboard knows: tasks, hosts, the history, the audit, the configuration, the time.
//!
//! **Invariant:** pure. Every fact came by a message; what a screen shows is computed from them, and nothing here knows of
//! a screen. Only this file changes a fact.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::adapters::spool::reader::Serving;
use crate::base::ids::TaskId;
use crate::base::time::{Timestamp, Zone};
use crate::domain::audit::Line;
use crate::domain::library::Library;
use crate::domain::plan::Plan;
use crate::domain::policy::{Part, Person, Policy};
use crate::domain::record::{HistoryLine, View, view};
use crate::domain::right::Right;
use crate::domain::risk::Risk;
use crate::domain::run::{Recorded, Run, TaskState};
use crate::shells::dashboard::message::{HistoryWant, LogKey, Message, RefusedFile, Tail};
use crate::shells::dashboard::requests::{Answer, Requests};

/// How long a task that changed is news.
pub(super) const NEWS_MS: i64 = 5_000;

/// A task in one of the states that are listed one by one.
#[derive(Clone, Debug)]
pub(super) struct Standing {
    pub(super) state: TaskState,
    pub(super) view: View,
    /// When it came into this state, as far as the dashboard saw.
    pub(super) since: Timestamp,
}

/// The part of the history that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// What was wanted of it.
    pub(super) of: HistoryWant,
    pub(super) count: usize,
    pub(super) start: usize,
    pub(super) lines: Vec<HistoryLine>,
}

/// The last run of the same work as a task, once it was looked for.
pub(super) type Previous = Option<(TaskId, Box<Plan>)>;

/// What the dashboard knows.
#[derive(Debug)]
pub(super) struct World {
    now: Timestamp,
    zone: Zone,
    me: Person,
    daemon: Option<Serving>,
    /// Whether anybody could find out whether one serves.
    daemon_known: bool,
    watch_lost: bool,
    library: Option<Arc<Library>>,
    /// What is wrong with the configuration; the last good one counts meanwhile.
    library_problems: Vec<String>,
    /// How often the configuration was read.
    generation: u64,
    tasks: BTreeMap<TaskId, Standing>,
    /// How often the tasks that are listed changed.
    listed: u64,
    runs: BTreeMap<TaskId, Run>,
    unreadable: BTreeMap<TaskId, String>,
    /// Tasks of which a part is for others: the plan, and so everything, or the output.
    withheld: BTreeMap<TaskId, Part>,
    /// The newest tasks that ended.
    recent: Vec<HistoryLine>,
    past: Past,
    /// Why the state cannot be looked at.
    blind: Option<String>,
    /// How many tasks have ended, and how many of them failed.
    ended: usize,
    failed: usize,
    audit: Vec<Line>,
    /// How many cuts of the audit nobody took note of.
    cuts: usize,
    /// How many files were refused, and the newest of them, the newest first.
    refused: (usize, Vec<RefusedFile>),
    tails: BTreeMap<LogKey, Tail>,
    previous: BTreeMap<TaskId, Previous>,
    requests: Requests,
}

impl World {
    pub(super) fn new(me: Person, zone: Zone, now: Timestamp) -> World {
        World {
            now,
            zone,
            me,
            daemon: None,
            daemon_known: false,
            watch_lost: false,
            library: None,
            library_problems: Vec::new(),
            generation: 0,
            tasks: BTreeMap::new(),
            listed: 0,
            runs: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            withheld: BTreeMap::new(),
            recent: Vec::new(),
            past: Past::default(),
            blind: None,
            ended: 0,
            failed: 0,
            audit: Vec::new(),
            cuts: 0,
            refused: (0, Vec::new()),
            tails: BTreeMap::new(),
            previous: BTreeMap::new(),
            requests: Requests::default(),
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn zone(&self) -> &Zone {
        &self.zone
    }

    /// Who looks.
    pub(super) fn me(&self) -> &Person {
        &self.me
    }

    /// The daemon that serves; `None` where none does, or where nobody could find out.
    pub(super) fn daemon(&self) -> Option<&Serving> {
        self.daemon.as_ref()
    }

    pub(super) fn is_daemon_known(&self) -> bool {
        self.daemon_known
    }

    pub(super) fn is_watch_lost(&self) -> bool {
        self.watch_lost
    }

    /// The last configuration without a problem.
    pub(super) fn library(&self) -> Option<&Arc<Library>> {
        self.library.as_ref()
    }

    /// What is wrong with the configuration as it is now.
    pub(super) fn library_problems(&self) -> &[String] {
        &self.library_problems
    }

    /// How often the configuration was read.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// The tasks that have not ended.
    pub(super) fn tasks(&self) -> &BTreeMap<TaskId, Standing> {
        &self.tasks
    }

    /// How often the tasks that are listed changed.
    pub(super) fn listed(&self) -> u64 {
        self.listed
    }

    /// The tasks whose journals are followed.
    pub(super) fn runs(&self) -> &BTreeMap<TaskId, Run> {
        &self.runs
    }

    pub(super) fn run(&self, id: TaskId) -> Option<&Run> {
        self.runs.get(&id)
    }

    /// Why a task's files cannot be read.
    pub(super) fn why_unreadable(&self, id: TaskId) -> Option<&String> {
        self.unreadable.get(&id)
    }

    /// Which part of a task is for others.
    pub(super) fn withheld(&self, id: TaskId) -> Option<&Part> {
        self.withheld.get(&id)
    }

    /// The newest tasks that ended.
    pub(super) fn recent(&self) -> &[HistoryLine] {
        &self.recent
    }

    pub(super) fn past(&self) -> &Past {
        &self.past
    }

    /// Why the state cannot be looked at.
    pub(super) fn blind(&self) -> Option<&String> {
        self.blind.as_ref()
    }

    /// How many of the tasks that have ended failed.
    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// The newest lines of the audit, oldest first.
    pub(super) fn audit(&self) -> &[Line] {
        &self.audit
    }

    /// How many cuts of the audit nobody took note of.
    pub(super) fn cuts(&self) -> usize {
        self.cuts
    }

    /// How many files were refused.
    pub(super) fn refused_count(&self) -> usize {
        self.refused.0
    }

    /// The newest files that were refused, the newest first.
    pub(super) fn refused(&self) -> &[RefusedFile] {
        &self.refused.1
    }

    /// The end of a log.
    pub(super) fn tail(&self, key: &LogKey) -> Option<&Tail> {
        self.tails.get(key)
    }

    /// The last run of the same work as a task; `None` until it was looked for.
    pub(super) fn previous(&self, id: TaskId) -> Option<&Previous> {
        self.previous.get(&id)
    }

    pub(super) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Writes a time as people here read it: the clock today, the day before and after.
    pub(super) fn clock(&self, time: Timestamp) -> String {
        let full = time.in_zone(&self.zone);
        let today = self.now.in_zone(&self.zone);
        match (full.get(..10), today.get(..10)) {
            (Some(day), Some(now)) if day == now => full.get(11..19).unwrap_or(&full).to_owned(),
            _ => full.get(5..16).unwrap_or(&full).to_owned(),
        }
    }

    /// What may be done with a task, and why not.
    pub(super) fn may(&self, right: Right, run: &Run) -> Option<Result<String, String>> {
        let policy = &self.library.as_ref()?.policy;
        let subject = run.subject(policy);
        Some(policy.allows(&self.me, right, &subject).map_err(|refusal| refusal.said_of(&run.id.to_string())))
    }

    /// How much a task can break.
    pub(super) fn risk(&self, plan: &Plan) -> Risk {
        let bounds = self.library.as_ref().map(|library| library.policy.bounds()).unwrap_or_default();
        Risk::of(plan, &bounds)
    }

    pub(super) fn is_personal(&self) -> bool {
        self.library.as_ref().is_some_and(|library| matches!(library.policy, Policy::Personal { .. }))
    }

    /// Whether something runs that is followed, so that a screen changes by itself.
    pub(super) fn moves(&self) -> bool {
        let running = |run: &&Run| run.state() == TaskState::Running;
        self.runs.values().filter(running).any(|run| run.lanes.iter().any(|lane| lane.open_step().is_some()))
    }

    /// How many tasks stand in a state.
    pub(super) fn count(&self, state: TaskState) -> usize {
        match state {
            TaskState::Done => self.ended,
            state => self.tasks.values().filter(|task| task.state == state).count(),
        }
    }

    /// Takes a fact that nothing but facts depends on.
    pub(super) fn learn(&mut self, fact: Message) {
        match fact {
            Message::Tick(now) => self.now = now,
            Message::Opened(run) => self.open(*run),
            Message::Forgotten(id) => {
                self.runs.remove(&id);
                self.previous.remove(&id);
            }
            Message::Withheld(id, part) => drop(self.withheld.insert(id, part)),
            Message::Unreadable(id, why) => drop(self.unreadable.insert(id, why)),
            Message::Library(Ok(library)) => {
                self.zone = library.zone.clone();
                self.library = Some(library);
                self.generation = self.generation.saturating_add(1);
                self.library_problems.clear();
            }
            Message::Library(Err(why)) => self.library_problems = why,
            Message::Daemon(daemon) => (self.daemon, self.daemon_known) = (daemon, true),
            Message::WatchLost(lost) => self.watch_lost = lost,
            Message::Recent { all, failed, lines } => {
                (self.ended, self.failed, self.recent) = (all, failed, lines);
                self.listed = self.listed.saturating_add(1);
            }
            Message::Blind(why) => self.blind = Some(why),
            Message::Audit(lines) => self.audit = lines,
            Message::Cuts(count) => self.cuts = count,
            Message::Refusals { count, files } => {
                self.refused.0 = count;
                self.refused.1 = files.unwrap_or_else(|| std::mem::take(&mut self.refused.1));
            }
            Message::Tails(tails) => self.tails = tails,
            Message::Previous(id, plan) => drop(self.previous.insert(id, plan)),
            _ => {}
        }
    }

    /// Lists a task where it stands; it is news when it stood elsewhere.
    pub(super) fn place(&mut self, state: TaskState, view: View) {
        let id = view.id;
        if state == TaskState::Done {
            self.remove(id);
            return;
        }
        match self.tasks.get_mut(&id) {
            Some(known) if known.state == state => {
                if known.view != view {
                    known.view = view;
                    self.listed = self.listed.saturating_add(1);
                }
            }
            _ => {
                self.tasks.insert(id, Standing { state, view, since: self.now });
                self.listed = self.listed.saturating_add(1);
            }
        }
    }

    /// Lists a task no more.
    pub(super) fn remove(&mut self, id: TaskId) {
        self.listed = self.listed.saturating_add(u64::from(self.tasks.remove(&id).is_some()));
    }

    fn open(&mut self, run: Run) {
        self.unreadable.remove(&run.id);
        self.withheld.remove(&run.id);
        self.place(run.state(), view(&run));
        self.runs.insert(run.id, run);
    }

    /// Folds what happened to a task that is followed; `false` where it is not, or where its journal breaks off.
    pub(super) fn fold(&mut self, id: TaskId, events: &[Recorded]) -> bool {
        let Some(run) = self.runs.get_mut(&id) else { return false };
        for recorded in events {
            if let Err(illegal) = run.apply(recorded) {
                self.unreadable.insert(id, illegal.to_string());
                return false;
            }
        }
        let (state, view) = (run.state(), view(run));
        self.place(state, view);
        true
    }

    /// Takes a part of the history; returns how many lines it has more than the part that was known of the same choice.
    pub(super) fn take_past(&mut self, past: Past) -> usize {
        let same = (&past.of.filter, past.of.failed_only) == (&self.past.of.filter, self.past.of.failed_only);
        let more = past.count.saturating_sub(self.past.count);
        let known = self.past.count > 0;
        self.past = past;
        if same && known { more } else { 0 }
    }

    /// Remembers a request and returns its number.
    pub(super) fn request(&mut self, task: Option<TaskId>, what: String) -> usize {
        self.requests.add(self.now, task, what)
    }

    /// Notes what came of the request with a number.
    pub(super) fn answer(&mut self, number: usize, answer: Answer) {
        self.requests.answer(number, answer);
    }

    /// Notes what came of the request that waits in its box under a name; returns what was asked.
    pub(super) fn answer_named(&mut self, name: &str, answer: Answer) -> Option<String> {
        let request = self.requests.waiting_as(name)?;
        request.answer = answer;
        Some(request.what.clone())
    }

    /// Makes somebody else look.
    #[cfg(test)]
    pub(super) fn seen_by(&mut self, actor: crate::base::ids::Actor) {
        self.me.actor = actor;
    }
}

impl Past {
    /// Where a task stands in the history, as far as it is in the part that is known.
    pub(super) fn place_of(&self, id: TaskId) -> Option<usize> {
        self.lines.iter().position(|line| line.id == id).map(|n| self.start.saturating_add(n))
    }

    /// The line at a place, as far as it is known.
    pub(super) fn line(&self, at: usize) -> Option<&HistoryLine> {
        self.lines.get(at.checked_sub(self.start)?)
    }
}
