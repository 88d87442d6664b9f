//! Performs what the engine says. Floor 4.
//!
//! **Invariant:** durable effects first and in their order, then acts. Several tasks' creations and appends of one
//! turn are written together and synced once; nothing is acted on before that sync has returned.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::adapters::config::Settings;
use crate::adapters::spool::bad::Refused;
use crate::adapters::spool::intake::{Consumed, Whose};
use crate::adapters::spool::layout::Layout;
use crate::adapters::spool::load::Found;
use crate::adapters::spool::store::{NewFiles, Store};
use crate::adapters::spool::{SpoolError, bad, intake};
use crate::base::digest::Digest;
use crate::base::ids::{GroupNo, HostName, TaskId};
use crate::base::text::visible;
use crate::base::time::Moment;
use crate::domain::audit::Entry;
use crate::domain::callback::{Callback, CallbackKey};
use crate::domain::drop_name::DropName;
use crate::domain::library::Library;
use crate::domain::mask::Masker;
use crate::domain::plan::Plan;
use crate::domain::policy::Policy;
use crate::domain::problem::Problem;
use crate::domain::record::HistoryLine;
use crate::domain::run::{DropKey, Event, Recorded, Run};
use crate::engine::{Act, Commit, Reopened, Stage, Start, Taken, Turn, ViewChange};
use crate::engine::{DropBox, Input};
use crate::engine::{Engine, FoundTask, Past, Waiting, unaudited};
use crate::shells::clock::now;
use crate::shells::daemon::host::{Command, HostOwner};
use crate::shells::daemon::link::LinkSettings;
use crate::shells::daemon::log_sync::LogSync;
use crate::shells::daemon::observers::Observers;
use crate::shells::daemon::sight::Sight;
use crate::shells::daemon::sweeper::Sweeper;
use crate::shells::daemon::web::PostAnswer;
use crate::shells::daemon::written::{history_line, lines, new_files};

/// How many turns in a row may leave their renames to the next one.
const UNSETTLED_TURNS_MAX: u32 = 50;
/// How many lines that the audit lost are added together.
const ENTRIES_AT_ONCE: usize = 1000;
/// How long connections may take to be closed when the daemon lets go of all hosts.
const LET_GO: Duration = Duration::from_secs(5);
/// How long observers may take for what they were not told yet when the daemon stops.
const TELL_AT_THE_END: Duration = Duration::from_millis(500);
/// Every so many tasks, the hosts of one remove what earlier tasks left there a month ago.
const CLEAN_EVERY: u64 = 32;

/// The one who acts for the engine.
pub(super) struct Performer {
    layout: Layout,
    store: Store,
    settings: LinkSettings,
    inputs: UnboundedSender<Input>,
    owners: HashMap<(TaskId, GroupNo, HostName), UnboundedSender<Command>>,
    /// The owners themselves.
    at_work: JoinSet<()>,
    /// What the daemon did of itself since the last turn, for the audit.
    audit: Vec<Entry>,
    /// Who is told of what was recorded.
    observers: Observers,
    /// Who gets at the files of tasks.
    sight: Sight,
    /// Where scripts may say how far they are, and what their tokens are signed with.
    callback: Option<(String, CallbackKey)>,
    /// Files to look at again.
    again: Vec<(DropBox, DropName)>,
    /// Files that were taken and that the system does not let go, of which the log knows.
    stuck: HashMap<DropKey, DropBox>,
    /// Whether others do not know them all.
    stuck_changed: bool,
    /// What was answered since the last turn and stands where it stood.
    settled: Vec<(DropBox, DropName, u64)>,
    /// Whose files were refused since the last turn.
    refused: Vec<u32>,
    /// How many turns ended before their renames were durable.
    unsettled_turns: u32,
    /// Whether to note when somebody looked, once this turn is performed: what a downtime means must be on disk before it is
    /// over.
    notes_seen: bool,
    /// Whether what the last downtime means is on disk.
    downtime_is_over: bool,
    /// Tasks that could not be read, of which the log knows.
    left_alone: BTreeSet<TaskId>,
    /// What brings logs to the disk.
    logs: LogSync,
    /// Deletes what was taken.
    sweeper: Sweeper,
    /// What was posted and waits for what becomes of it.
    posts: HashMap<DropKey, oneshot::Sender<PostAnswer>>,
}

impl Performer {
    pub(super) fn new(
        layout: Layout,
        store: Store,
        settings: LinkSettings,
        inputs: UnboundedSender<Input>,
        (sweeper, observers): (Sweeper, Observers),
    ) -> Performer {
        Performer {
            sight: Sight::new(layout.clone()),
            layout,
            store,
            settings,
            inputs,
            owners: HashMap::new(),
            at_work: JoinSet::new(),
            audit: Vec::new(),
            observers,
            callback: None,
            again: Vec::new(),
            stuck: HashMap::new(),
            stuck_changed: false,
            settled: Vec::new(),
            refused: Vec::new(),
            unsettled_turns: 0,
            notes_seen: false,
            downtime_is_over: false,
            left_alone: BTreeSet::new(),
            logs: LogSync::start(),
            sweeper,
            posts: HashMap::new(),
        }
    }

    /// Follows these rules about who sees what; `shared` is whether the state has a group.
    pub(super) fn set_sight(&mut self, policy: &Policy, shared: bool) -> Result<(), SpoolError> {
        self.sight.follow(policy, shared)?;
        self.store.set_closes_refused(self.sight.is_limited());
        Ok(())
    }

    /// Notes something that the daemon does of itself; it is written with the next effects.
    pub(super) fn audit(&mut self, act: &str, detail: Option<String>) {
        self.audit.push(Entry::of_daemon(now(), act, detail));
    }

    pub(super) fn store_mut(&mut self) -> &mut Store {
        &mut self.store
    }

    pub(super) fn masker(&self) -> Arc<Masker> {
        self.settings.secrets.masker()
    }

    /// Takes other settings, for connections that are made from now on, and for observers.
    pub(super) fn set_settings(&mut self, settings: &Settings, config_dir: &Path) {
        self.observers.set(settings);
        // Connections that are open go on.
        let (tunnels, workers) = (self.settings.tunnels.clone(), self.settings.workers.clone());
        let settings = LinkSettings::of(settings, config_dir, workers);
        let secrets = self.settings.secrets.moved_to(&settings.secrets);
        self.settings = LinkSettings { tunnels, secrets, ..settings };
    }

    /// Waits a moment until those are told of everything who are told of what was recorded.
    pub(super) async fn finish_telling(&mut self) {
        self.observers.catch_up(TELL_AT_THE_END).await;
    }

    /// Lets scripts say how far they are.
    pub(super) fn set_callback(&mut self, callback: Option<(String, CallbackKey)>) {
        self.callback = callback;
    }

    /// Remembers who waits for what becomes of a post.
    pub(super) fn await_answer(&mut self, key: DropKey, reply: oneshot::Sender<PostAnswer>) {
        self.posts.insert(key, reply);
    }

    /// Returns the files that are to be looked at again soon.
    pub(super) fn take_again(&mut self) -> Vec<(DropBox, DropName)> {
        std::mem::take(&mut self.again)
    }

    /// Returns whose files were refused in this turn, once for each.
    pub(super) fn take_refused(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.refused)
    }

    /// Returns what was answered in this turn and stands where it stood, with its inode.
    pub(super) fn take_settled(&mut self) -> Vec<(DropBox, DropName, u64)> {
        std::mem::take(&mut self.settled)
    }

    /// Notes when somebody looked, once the next turn is performed.
    pub(super) fn note_seen(&mut self) {
        self.notes_seen = true;
    }

    /// Sets whether everything is settled that a downtime means: until it is, the time noted is that of before.
    pub(super) fn set_downtime_over(&mut self, is_over: bool) {
        self.downtime_is_over = is_over;
    }

    /// Looks whether the state is still ours, has the time noted, and begins to delete what dropped files left behind.
    pub(super) fn look_around(&mut self) -> Result<(), SpoolError> {
        self.store.check_place()?;
        while let Some(ended) = self.at_work.try_join_next() {
            if let Err(error) = ended {
                tracing::error!("a host's owner broke down: {error}");
            }
        }
        self.note_seen();
        let before = self.stuck.len();
        let layout = &self.layout;
        self.stuck.retain(|key, drop_box| match intake::whose(layout, *drop_box, &key.name) {
            Whose::Of { inode, .. } => inode == key.ino,
            Whose::Unknown => true,
            Whose::Gone => false,
        });
        self.stuck_changed |= self.stuck.len() != before;
        self.list_taken();
        self.sweeper.begin(&mut self.store)
    }

    /// Returns how soon to perform something, if only what is to be swept.
    pub(super) fn sweeps_in(&self) -> Duration {
        self.sweeper.next_in()
    }

    /// Keeps when somebody looked. An older time does no harm; but everybody sees what is missing.
    fn keep_seen(&self) {
        let noted = self.store.note_seen(now());
        if let Err(error) = &noted {
            tracing::warn!("{error}; it is tried again");
        }
        self.store.say(noted.err().and_then(|error| error.lack()));
    }

    /// Lets go of all hosts; their steps go on there. When it returns, nothing is written to their logs any more.
    pub(super) async fn let_go(&mut self) {
        self.owners.clear();
        let ends = async { while self.at_work.join_next().await.is_some() {} };
        if timeout(LET_GO, ends).await.is_err() {
            self.at_work.shutdown().await;
        }
    }

    /// Performs a turn; `more_waits` when the next one begins at once.
    pub(super) fn perform(&mut self, turn: Turn, more_waits: bool) -> Result<(), SpoolError> {
        let (mut answers, mut created) = (self.answers(&turn), Vec::new());
        for stage in turn.stages() {
            match stage {
                Stage::Reopen(tasks) => {
                    for Reopened { id, view } in tasks {
                        self.store.reopen(id, &view)?;
                        // What it printed may have been removed, with the gate before it.
                        self.sight.set_again(id)?;
                    }
                }
                Stage::Commit(commit) => created = self.commit(commit)?,
                Stage::Take(files) => self.take_away(files, &mut answers)?,
                Stage::Show(changes) => {
                    self.show(&created, changes)?;
                    // Who posted hears of it when it stands on disk, where everybody sees it.
                    self.answer(std::mem::take(&mut answers));
                }
                Stage::Act(acts) => acts.into_iter().for_each(|act| self.act(act)),
                Stage::Fetch(ids) => self.fetch_all(ids)?,
            }
        }
        // Renames can be done again from the journals, so nothing waits for them but the next turn; and where that begins
        // at once, it syncs the whole file system anyway.
        if more_waits && self.unsettled_turns < UNSETTLED_TURNS_MAX && self.store.may_settle_later() {
            self.unsettled_turns = self.unsettled_turns.saturating_add(1);
            return Ok(());
        }
        self.unsettled_turns = 0;
        self.store.settle()
    }

    /// Writes what happened, with what the daemon did of itself; returns the files of the new tasks.
    fn commit(&mut self, commit: Commit) -> Result<Vec<NewFiles>, SpoolError> {
        let Commit { creates, appends, mut audit } = commit;
        let created: Vec<NewFiles> = creates.iter().map(|new| new_files(new, &self.sight)).collect();
        let appended = appends.iter().map(|(id, events)| (*id, lines(events))).collect();
        audit.append(&mut self.audit);
        self.store.write(&created, appended, audit)?;
        self.observers.set_durable(self.store.audit_head().seq);
        Ok(created)
    }

    /// Shows what was written, and what is known of the state's files beside.
    fn show(&mut self, created: &[NewFiles], changes: Vec<ViewChange>) -> Result<(), SpoolError> {
        self.list_taken();
        self.store.publish_views(created)?;
        for change in changes {
            self.change_view(change)?;
        }
        self.sweeper.go_on(&mut self.store)?;
        for id in self.store.take_lost_views() {
            // The loop that receives this lives as long as the daemon.
            let _ = self.inputs.send(Input::ViewLost(id));
        }
        if self.downtime_is_over && std::mem::take(&mut self.notes_seen) {
            self.keep_seen();
        }
        Ok(())
    }

    fn change_view(&mut self, change: ViewChange) -> Result<(), SpoolError> {
        match change {
            ViewChange::Moved { id, from, to } => self.store.move_task(id, from, to),
            ViewChange::Finished { id, from, record, line } => {
                self.store.finish(id, from, &record, &history_line(&line))
            }
            ViewChange::Restored { id, state, view } => self.store.restore_view(id, state, &view),
            ViewChange::Removed { id, state } => self.store.remove_view(id, state),
            ViewChange::Replanned { id, version, plan, view } => {
                self.store.replan(id, version, &plan, &view)?;
                self.sight.set_again(id)
            }
        }
    }

    fn answer(&mut self, answers: HashMap<DropKey, PostAnswer>) {
        for (key, answer) in answers {
            if let Some(reply) = self.posts.remove(&key) {
                // The client may have gone.
                let _ = reply.send(answer);
            }
        }
    }

    fn fetch_all(&mut self, ids: Vec<TaskId>) -> Result<(), SpoolError> {
        if !ids.is_empty() {
            let read: Result<Vec<_>, SpoolError> = ids.into_iter().map(|id| Ok((id, self.fetch(id)?))).collect();
            let _ = self.inputs.send(Input::Fetched(read?));
        }
        Ok(())
    }

    /// Returns the answers to orders that were posted and not obeyed.
    fn answers(&self, turn: &Turn) -> HashMap<DropKey, PostAnswer> {
        if self.posts.is_empty() {
            return HashMap::new();
        }
        let refused = turn.appended().filter_map(|recorded| match &recorded.event {
            Event::OrderRefused { act, why, order, .. } if order.is_posted() => {
                Some((order.clone(), Err(vec![Problem::denied(format!("{act} refused: {why}"), "")])))
            }
            _ => None,
        });
        refused.collect()
    }

    fn take_away(&mut self, files: Vec<Taken>, answers: &mut HashMap<DropKey, PostAnswer>) -> Result<(), SpoolError> {
        for file in files {
            match file {
                Taken::Consumed { key, task, .. } if key.is_posted() => {
                    answers.entry(key).or_insert(Ok(task));
                }
                Taken::Refused { key, problems, .. } if key.is_posted() => {
                    answers.insert(key, Err(problems));
                }
                Taken::Consumed { drop_box, key, .. } => {
                    if let Consumed::Stays(error) = intake::consume(&self.layout, drop_box, &key)? {
                        self.stays(drop_box, key, &error);
                    }
                    self.store.touched(self.layout.drop_box(drop_box));
                }
                // A file that replaced it meanwhile was not judged; it is looked at in its turn.
                Taken::Refused { drop_box, key, .. } if !intake::stands(&self.layout, drop_box, &key) => {}
                Taken::Refused { drop_box, key, problems } => {
                    tracing::info!(file = %visible(key.name.as_str()), owner = key.uid, problems = problems.len(), "refused");
                    let refused = bad::refuse(&mut self.store, drop_box, &key.name, Some(key.uid), &problems, now())?;
                    self.refused.push(key.uid);
                    if refused == Refused::Stays {
                        self.settled.push((drop_box, key.name, key.ino));
                    }
                }
            }
        }
        Ok(())
    }

    /// Notes a file that was taken and stands where it stood: it counts once all the same.
    fn stays(&mut self, drop_box: DropBox, key: DropKey, error: &std::io::Error) {
        self.settled.push((drop_box, key.name.clone(), key.ino));
        // In a directory of somebody's own only they may remove it, and their next command does.
        if key.name.directory().is_none() && !self.stuck.contains_key(&key) {
            let path = self.layout.drop_box(drop_box).join(key.name.as_str());
            tracing::warn!(
                file = %visible(&path.to_string_lossy()),
                "it was taken and cannot be moved out of its box; it counts once all the same; remove it: {error}"
            );
        }
        self.stuck_changed |= self.stuck.insert(key, drop_box).is_none();
    }

    /// Tells the owners of files that were taken and that the daemon may not remove.
    fn list_taken(&mut self) {
        if !std::mem::take(&mut self.stuck_changed) {
            return;
        }
        let stamps = self.stuck.keys().map(intake::stamp_of).collect();
        if let Err(error) = self.store.list_taken(&stamps) {
            tracing::warn!("{error}; it is tried again");
            self.stuck_changed = true;
        }
    }

    /// Returns where the script of a step may say how far it is.
    fn callback_of(&self, start: &Start) -> Option<Callback> {
        let (url, key) = self.callback.as_ref()?;
        let token = key.token(&start.attempt_name());
        Some(Callback { url: format!("{}/api/v1/progress", url.trim_end_matches('/')), token })
    }

    /// Reads a task that is not in memory. A bad block in its files is nothing that others wait for.
    fn fetch(&mut self, id: TaskId) -> Result<Option<Box<Run>>, SpoolError> {
        let why = match read_run(&self.store, id) {
            Ok(Ok(run)) => return Ok(run.map(Box::new)),
            Ok(Err(why)) => why,
            Err(error) if error.lack().is_some() => return Err(error),
            Err(error) => error.to_string(),
        };
        if self.left_alone.insert(id) {
            tracing::error!(task = %id, "the task is left alone: {why}");
            self.audit("left_alone", Some(format!("task {id}: {why}")));
        }
        Ok(None)
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::RunStep(mut start) => {
                start.audit = self.store.audit_head();
                start.callback = self.callback_of(&start);
                let key = (start.task, start.group, start.host.clone());
                if !self.owners.contains_key(&key) {
                    self.sight.make_host(start.task, &start.host);
                }
                let owner = self.owners.entry(key.clone()).or_insert_with(|| {
                    let (sender, commands) = unbounded_channel();
                    let (task, group, host) = key;
                    let owner = HostOwner {
                        task,
                        group,
                        output: self.layout.output(task, &host),
                        host,
                        settings: self.settings.clone(),
                        // Now and then a host is rid of what ended long ago; it costs a process.
                        clean: task.0.is_multiple_of(CLEAN_EVERY),
                        commands,
                        inputs: self.inputs.clone(),
                        logs: self.logs.clone(),
                    };
                    self.at_work.spawn(owner.run());
                    sender
                });
                // An owner ends only when it is released or the daemon stops; then nobody waits for an answer.
                let _ = owner.send(Command::Run(start));
            }
            Act::StopStep { task, group, host } => {
                if let Some(owner) = self.owners.get(&(task, group, host)) {
                    let _ = owner.send(Command::Stop);
                }
            }
            Act::ReleaseHost { task, group, host } => {
                if let Some(owner) = self.owners.remove(&(task, group, host)) {
                    let _ = owner.send(Command::Release);
                }
            }
            Act::LookAgain { drop_box, key } => self.again.push((drop_box, key.name)),
        }
    }
}

/// What a recovery found: the engine, what repairs the disk, and the tasks that nobody can believe, with why.
pub(super) type Recovered = (Engine, Turn, Vec<(TaskId, String)>);

/// Reads the spool and makes the engine that goes on from it.
pub(super) fn recover(store: &mut Store, library: Arc<Library>, now: Moment) -> Result<Recovered, SpoolError> {
    store.say_cut(now.wall)?;
    let cuts = store.open_cuts().clone();
    for line in &cuts {
        tracing::error!("lines were removed from the audit: line {line} of it says which, spoolgate audit verify too");
    }
    let (mut found, mut waiting, mut unread, mut left_alone) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let loaded = store.load(|task| {
        let (id, events) = (task.id, read_events(&task.events));
        let waits = events.as_ref().ok().and_then(|events| {
            let plan_bytes = task.plan.length();
            Waiting::of(id, events, task.standing.clone(), plan_bytes)
        });
        if let Some(waits) = waits {
            waiting.push(waits);
            return Ok(());
        }
        let first = task.events.split(|byte| *byte == b'\n').next().unwrap_or_default().to_vec();
        match found_task(task, events)? {
            Ok(task) => found.push(task),
            Err(why) => {
                unread.push((id, serde_json::from_slice(&first).ok()));
                left_alone.push((id, why));
            }
        }
        Ok(())
    })?;
    if !cuts.is_empty() {
        audit_again(store, &loaded.history)?;
    }
    unread.extend(loaded.unreadable.iter().map(|(id, _)| (*id, None)));
    left_alone.extend(loaded.unreadable);
    let history =
        loaded.history.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    let past = Past { history, audited: loaded.audited, seen: loaded.seen, waiting, unread, cuts };
    let (engine, effects, illegal) = Engine::recover(library, loaded.next_id, found, past, now);
    left_alone.extend(illegal.into_iter().map(|illegal| (illegal.id, illegal.to_string())));
    Ok((engine, effects, left_alone))
}

/// Adds to the audit what it does not have any more of tasks that have ended: their journals know it.
fn audit_again(store: &mut Store, history: &[u8]) -> Result<(), SpoolError> {
    let known = store.audited_acts()?;
    let lines =
        history.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice::<HistoryLine>(line).ok());
    let short = |line: &HistoryLine| known.get(&line.id).is_none_or(|(acts, _)| *acts < line.acts);
    let tasks: BTreeSet<TaskId> = lines.filter(short).map(|line| line.id).collect();
    let mut entries = Vec::new();
    for id in tasks {
        if let Ok(Some(run)) = read_run(store, id)? {
            entries.extend(unaudited(&run, known.get(&id).map(|(_, last)| *last)));
        } else {
            tracing::error!(task = %id, "the audit has less of it than there was, and it cannot be read");
        }
        if entries.len() >= ENTRIES_AT_ONCE {
            store.write(&[], Vec::new(), std::mem::take(&mut entries))?;
        }
    }
    store.write(&[], Vec::new(), entries)
}

/// Reads the lines of a journal.
fn read_events(bytes: &[u8]) -> serde_json::Result<Vec<Recorded>> {
    bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice).collect()
}

/// Reads a task that waits or has ended; none when its files are not there. What is wrong with them says why it is to be left
/// alone.
fn read_run(store: &Store, id: TaskId) -> Result<Result<Option<Run>, String>, SpoolError> {
    let Some(task) = store.fetch(id)? else { return Ok(Ok(None)) };
    let events = read_events(&task.events);
    let folded = found_task(task, events)?.and_then(|task| {
        let run = Run::fold(id, task.plan, &task.events);
        run.map(Some).map_err(|illegal| illegal.to_string())
    });
    Ok(folded)
}

/// Reads the plan of what was found of a task, whose events were read; or says why the task is to be left alone.
fn found_task(task: Found, events: serde_json::Result<Vec<Recorded>>) -> Result<Result<FoundTask, String>, SpoolError> {
    let bytes = task.plan.read()?;
    let plan: Result<Plan, _> = serde_json::from_slice(&bytes);
    // Nothing runs that is not, byte for byte, what the task was accepted with.
    let digest = Digest::of(&bytes);
    let accepted = |events: &[Recorded]| match events.first() {
        Some(Recorded { event: Event::Accepted(accepted), .. }) => accepted.digest == digest,
        _ => false,
    };
    Ok(match (plan, events) {
        (Ok(_), Ok(events)) if !accepted(&events) => Err("plan.json is not the plan that was accepted".to_owned()),
        (Ok(plan), Ok(events)) => Ok(FoundTask { id: task.id, plan: Arc::new(plan), events, standing: task.standing }),
        (plan, events) => {
            let why = plan.err().or(events.err()).map(|error| error.to_string()).unwrap_or_default();
            Err(format!("plan.json or events.jsonl cannot be read: {why}"))
        }
    })
}
