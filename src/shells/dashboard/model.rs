//! What the dashboard knows.
//!
//! **Invariant:** pure. Everything here came by a message; what a screen shows is computed from it when it is painted, and
//! only for the rows that are seen.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::adapters::spool::reader::Serving;
use crate::base::ids::{HostName, TaskId};
use crate::base::time::{Timestamp, Zone};
use crate::domain::audit::Line;
use crate::domain::library::Library;
use crate::domain::plan::Plan;
use crate::domain::policy::{Part, Person, Policy};
use crate::domain::record::{HistoryLine, View};
use crate::domain::resolve::resolve;
use crate::domain::right::Right;
use crate::domain::risk::Risk;
use crate::domain::run::{Run, TaskState};
use crate::domain::wire::read_task;
use crate::shells::dashboard::dialog::Dialog;
use crate::shells::dashboard::edit::Edit;
use crate::shells::dashboard::form::Form;
use crate::shells::dashboard::look::{Look, Tone};
use crate::shells::dashboard::message::{Fresh, HistoryWant, LogKey, LogWant, RefusedFile, Tail, Wants};
use crate::shells::dashboard::rows::Rows;
use crate::shells::dashboard::screens::{Board, BoardRow, Screen, Zoom};
use crate::shells::dashboard::table::{HostRow, RowKey};
use crate::shells::dashboard::view::audit::rows as audit_rows;
use crate::shells::dashboard::words::{Lang, names};

/// From this width on lanes, maps and logs stand side by side.
pub(super) const WIDE: u16 = 140;
/// Below this height there is one line above and one below, and no rules.
pub(super) const LOW: u16 = 18;
/// The smallest screen that is painted.
pub(super) const SMALLEST: (u16, u16) = (60, 15);
/// How long a row that changed is bold.
pub(super) const NEWS_MS: i64 = 5_000;
/// How many unfinished tasks are looked through for a host.
const HOST_TASKS_MAX: usize = 200;
/// How many requests are remembered.
const REQUESTS_MAX: usize = 200;

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

/// A line that asks for something in the bottom of the screen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Prompt {
    /// Only what has this text is shown.
    Filter(Edit),
    /// A text to find in a log.
    Find(Edit),
    /// Only lines with this text are shown.
    Keep(Edit),
    /// A command; also which of the earlier ones is shown.
    Command(Edit, Option<usize>),
}

/// Something that was asked of the daemon.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) at: Timestamp,
    /// Which task it is about; `None` for a new one.
    pub(super) task: Option<TaskId>,
    /// What was asked, as a command line says it.
    pub(super) what: String,
    pub(super) answer: Answer,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is on its way into its box.
    Writing,
    /// It is in its box under this name.
    Waits(String),
    /// It was obeyed; a new task has this number.
    Done(Option<TaskId>),
    /// It was not, for this reason.
    Refused(String),
    /// Nobody said anything for a while.
    Unanswered,
}

/// What the dashboard knows.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own, and any of them goes with any other")]
pub(super) struct Model {
    pub(super) size: (u16, u16),
    pub(super) now: Timestamp,
    pub(super) zone: Zone,
    pub(super) look: Look,
    pub(super) lang: Lang,
    pub(super) me: Person,
    pub(super) readonly: bool,
    pub(super) mouse: bool,
    pub(super) bell: bool,
    pub(super) daemon: Option<Serving>,
    /// Whether anybody could find out whether one serves.
    pub(super) daemon_known: bool,
    pub(super) watch_lost: bool,
    pub(super) library: Option<Arc<Library>>,
    /// What is wrong with the configuration; the last good one counts meanwhile.
    pub(super) library_problems: Vec<String>,
    pub(super) tasks: BTreeMap<TaskId, Standing>,
    pub(super) runs: BTreeMap<TaskId, Run>,
    pub(super) unreadable: BTreeMap<TaskId, String>,
    /// Tasks of which a part is for others: the plan, and so everything, or the output.
    pub(super) withheld: BTreeMap<TaskId, Part>,
    /// The newest tasks that ended.
    pub(super) recent: Vec<HistoryLine>,
    pub(super) past: Past,
    /// Why the state cannot be looked at.
    pub(super) blind: Option<String>,
    /// New tasks on their way, as they were written.
    pub(super) sent: BTreeMap<usize, Box<Form>>,
    /// Those that were refused, to be mended as soon as nothing else is asked.
    pub(super) refused_forms: VecDeque<Box<Form>>,
    /// Tasks whose approvals wait for their turn.
    pub(super) queue: Vec<TaskId>,
    /// How many tasks have ended, and how many of them failed.
    pub(super) ended: usize,
    pub(super) failed: usize,
    pub(super) audit: Vec<Line>,
    /// How many cuts of the audit nobody took note of.
    pub(super) cuts: usize,
    /// How many files were refused, and the newest of them, the newest first.
    pub(super) refused: (usize, Vec<RefusedFile>),
    pub(super) tails: BTreeMap<LogKey, Tail>,
    pub(super) previous: BTreeMap<TaskId, Option<(TaskId, Box<Plan>)>>,
    /// How often the configuration was read.
    pub(super) generation: u64,
    pub(super) screens: Vec<Screen>,
    pub(super) dialog: Option<Dialog>,
    pub(super) prompt: Option<Prompt>,
    pub(super) said: Option<(String, Tone)>,
    pub(super) requests: VecDeque<Request>,
    /// How many requests were forgotten: the number of the first that is known.
    pub(super) first_request: usize,
    pub(super) commands: Vec<String>,
    /// What was counted of it for the screen that is seen.
    pub(super) rows: Rows,
    /// How often the tasks that are listed changed.
    pub(super) listed: u64,
}

impl Model {
    pub(super) fn new(me: Person, zone: Zone, look: Look, lang: Lang, now: Timestamp, size: (u16, u16)) -> Model {
        Model {
            size,
            now,
            zone,
            look,
            lang,
            me,
            readonly: false,
            mouse: false,
            bell: true,
            daemon: None,
            daemon_known: false,
            watch_lost: false,
            library: None,
            library_problems: Vec::new(),
            tasks: BTreeMap::new(),
            runs: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            withheld: BTreeMap::new(),
            recent: Vec::new(),
            past: Past::default(),
            blind: None,
            sent: BTreeMap::new(),
            refused_forms: VecDeque::new(),
            queue: Vec::new(),
            ended: 0,
            failed: 0,
            audit: Vec::new(),
            cuts: 0,
            refused: (0, Vec::new()),
            tails: BTreeMap::new(),
            previous: BTreeMap::new(),
            generation: 0,
            screens: vec![Screen::Board(Board::default())],
            dialog: None,
            prompt: None,
            said: None,
            requests: VecDeque::new(),
            first_request: 0,
            commands: Vec::new(),
            rows: Rows::default(),
            listed: 0,
        }
    }

    pub(super) fn screen(&self) -> &Screen {
        self.screens.last().expect("the stack of screens is never empty")
    }

    pub(super) fn screen_mut(&mut self) -> &mut Screen {
        self.screens.last_mut().expect("the stack of screens is never empty")
    }

    pub(super) fn say(&mut self, text: impl Into<String>, tone: Tone) {
        self.said = Some((text.into(), tone));
    }

    pub(super) fn is_low(&self) -> bool {
        self.size.1 < LOW
    }

    pub(super) fn is_wide(&self) -> bool {
        self.size.0 >= WIDE
    }

    /// How many rows there are between the lines at the top and at the bottom.
    pub(super) fn body_rows(&self) -> usize {
        let taken = if self.is_low() { 2 } else { 6 };
        usize::from(self.size.1.saturating_sub(taken))
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

    /// Lists a task where it stands; it is news when it stood elsewhere.
    pub(super) fn place(&mut self, task: Standing) {
        let id = task.view.id;
        if task.state == TaskState::Done {
            self.remove(id);
            return;
        }
        match self.tasks.get_mut(&id) {
            Some(known) if known.state == task.state => {
                if known.view != task.view {
                    known.view = task.view;
                    self.listed = self.listed.saturating_add(1);
                }
            }
            _ => {
                self.tasks.insert(id, task);
                self.listed = self.listed.saturating_add(1);
            }
        }
    }

    /// Lists a task no more.
    pub(super) fn remove(&mut self, id: TaskId) {
        self.listed = self.listed.saturating_add(u64::from(self.tasks.remove(&id).is_some()));
    }

    /// Takes the newest part of the history.
    pub(super) fn set_recent(&mut self, all: usize, failed: usize, lines: Vec<HistoryLine>) {
        (self.ended, self.failed, self.recent) = (all, failed, lines);
        self.listed = self.listed.saturating_add(1);
    }

    /// The task that a line of the board is about.
    pub(super) fn task_of_row(&self, row: BoardRow) -> Option<TaskId> {
        match row {
            BoardRow::Task(id) => Some(id),
            BoardRow::Ended(n) => self.recent.get(n).map(|line| line.id),
            BoardRow::Heading(_) | BoardRow::More(..) => None,
        }
    }

    /// The task that acts are about on this screen.
    pub(super) fn current_task(&self) -> Option<TaskId> {
        match self.screen() {
            Screen::Board(board) => board.selected,
            Screen::Task(screen) => Some(screen.id),
            Screen::Log(screen) => Some(screen.key.task),
            Screen::History(list) => self.past.lines.get(list.at.checked_sub(self.past.start)?).map(|line| line.id),
            Screen::Audit(list) => audit_rows(self, list).get(list.at).and_then(|line| line.entry.task),
            Screen::Requests(list) => self.requests.get(list.at).and_then(|request| match request.answer {
                Answer::Done(Some(id)) => Some(id),
                _ => request.task,
            }),
            _ => None,
        }
    }

    /// What the screens that are seen need to know.
    pub(super) fn wants(&self) -> Wants {
        let mut wants = Wants::default();
        let running = self.tasks.values().filter(|task| task.state == TaskState::Running).map(|task| task.view.id);
        wants.follow.extend(running.take(64));
        let rows = self.body_rows();
        match self.screen() {
            Screen::Board(board) => {
                let seen = self.board_rows();
                let seen = seen.iter().skip(board.list.top).take(rows);
                wants.follow.extend(seen.filter_map(|row| match row {
                    BoardRow::Task(id) => Some(*id),
                    _ => None,
                }));
                wants.follow.extend(board.selected);
            }
            Screen::Task(screen) => {
                wants.follow.insert(screen.id);
                let lane = screen.selected.as_ref().and_then(RowKey::lane);
                self.want_tails(screen.id, screen.zoom, screen.list.top, lane, &mut wants);
            }
            Screen::Log(screen) => {
                wants.follow.insert(screen.key.task);
                let of = screen.part();
                wants.log = Some(LogWant { of, anchor: screen.anchor, rows, keep: screen.keep.clone() });
            }
            Screen::History(list) => {
                let filter = list.filter.clone();
                let failed_only = list.failed_only;
                wants.history = Some(HistoryWant { filter, failed_only, start: list.top, rows });
                wants.follow.extend(self.current_task());
            }
            Screen::Audit(_) => wants.audit = true,
            Screen::Refused(_) => wants.refused = true,
            Screen::Diff(screen) => wants.follow.extend([screen.was, screen.now]),
            // Which of them have something to do there stands in their plans.
            Screen::Host(..) => wants.follow.extend(self.tasks.keys().take(HOST_TASKS_MAX)),
            Screen::Hosts(_) | Screen::Templates(_) | Screen::Requests(_) => {}
        }
        if let Some(dialog) = &self.dialog {
            wants.follow.extend(dialog.tasks());
            if let Dialog::Approve(approval) = dialog {
                let work = self.runs.get(&approval.id).map(|run| run.plan.work_name().to_owned());
                wants.previous = work.filter(|work| work != "script").map(|work| (approval.id, work));
            }
        }
        let answers = self
            .requests
            .iter()
            .enumerate()
            .filter(|(_, request)| !matches!(request.answer, Answer::Writing | Answer::Waits(_)));
        wants.answered = answers.map(|(n, _)| self.first_request.saturating_add(n)).collect();
        let waiting = self.requests.iter().filter(|request| matches!(request.answer, Answer::Waits(_)));
        wants.follow.extend(waiting.filter_map(|request| request.task));
        wants
    }

    fn want_tails(&self, id: TaskId, zoom: Zoom, top: usize, selected: Option<usize>, wants: &mut Wants) {
        const LAST_LINE_BYTES: usize = 512;
        const PANE_BYTES: usize = 16 << 10;
        const SAMPLES: usize = 20;
        let Some(run) = self.runs.get(&id) else { return };
        if matches!(zoom, Zoom::Acts) {
            return;
        }
        let seen = self.host_rows();
        let seen = seen.iter().skip(top).take(self.body_rows()).filter_map(|row| match row {
            HostRow::Lane(lane) => Some(*lane),
            HostRow::Fold { .. } => None,
        });
        let reasons = self.table().into_iter().flat_map(|table| &table.reasons);
        let samples = reasons.take(SAMPLES).filter_map(|(_, lanes)| lanes.first().copied());
        let wanted = seen.chain(samples).filter_map(|lane| log_key(run, lane));
        wants.tails.extend(wanted.map(|key| (key, LAST_LINE_BYTES)));
        if self.is_wide()
            && let Some(key) = selected.and_then(|lane| log_key(run, lane))
        {
            wants.tails.insert(key, PANE_BYTES);
        }
    }

    /// What a task would be if it were planned now.
    pub(super) fn plan_anew(&self, run: &Run) -> Fresh {
        let Some(library) = &self.library else { return Fresh::Same };
        let read =
            read_task(run.accepted.submission.as_bytes(), &library.zone).map_err(|unreadable| unreadable.problems);
        if library.ssh.is_some() {
            // Its hosts are asked about by the daemon, which compares before it takes an approval.
            return Fresh::Same;
        }
        match read.and_then(|submission| resolve(&submission, library)) {
            Err(problems) => {
                Fresh::Unresolvable(problems.iter().map(|problem| names::problem(self.look.words, problem)).collect())
            }
            Ok(plan) if plan.digest() == run.digest => Fresh::Same,
            Ok(plan) => Fresh::Differs(Arc::new(plan)),
        }
    }

    /// Remembers a request and returns its number.
    pub(super) fn request(&mut self, task: Option<TaskId>, what: String) -> usize {
        self.requests.push_back(Request { at: self.now, task, what, answer: Answer::Writing });
        if self.requests.len() > REQUESTS_MAX {
            self.requests.pop_front();
            self.first_request = self.first_request.saturating_add(1);
        }
        self.first_request.saturating_add(self.requests.len()).saturating_sub(1)
    }

    pub(super) fn request_mut(&mut self, number: usize) -> Option<&mut Request> {
        self.requests.get_mut(number.checked_sub(self.first_request)?)
    }
}

/// The log of the step that a lane is at, or was at last.
pub(super) fn log_key(run: &Run, lane: usize) -> Option<LogKey> {
    let state = run.lanes.get(lane)?;
    let planned = run.plan.group(state.group)?;
    let begun = state.steps.iter().rposition(|step| step.next_attempt() > 1 || attempt(step) > 0)?;
    let attempt = attempt(&state.steps[begun]);
    (attempt > 0).then(|| LogKey {
        task: run.id,
        host: state.host.clone(),
        step: planned.steps[begun].name.clone(),
        attempt,
    })
}

/// The logs of a host in a task, in the order in which they were begun.
pub(super) fn log_keys(run: &Run, host: &HostName) -> Vec<LogKey> {
    let lanes = run.lanes.iter().filter(|lane| lane.host == *host);
    lanes
        .flat_map(|lane| {
            let steps = run.plan.group(lane.group).map_or(&[][..], |group| &group.steps);
            steps.iter().zip(&lane.steps).flat_map(|(planned, step)| {
                (1..=attempt(step)).map(|attempt| LogKey {
                    task: run.id,
                    host: host.clone(),
                    step: planned.name.clone(),
                    attempt,
                })
            })
        })
        .collect()
}

/// Returns the number of the last attempt at a step; 0 when there was none.
pub(super) fn attempt(step: &crate::domain::run::lane::LaneStep) -> u32 {
    match &step.state {
        crate::domain::run::StepState::Open { attempt, .. } => *attempt,
        _ => step.next_attempt().saturating_sub(1),
    }
}

/// Whether a text passes a filter: `!` in front turns it round.
pub(super) fn matches(text: &str, filter: &str) -> bool {
    match filter.strip_prefix('!') {
        Some(not) if !not.is_empty() => !text.to_lowercase().contains(not),
        _ => text.to_lowercase().contains(filter),
    }
}
