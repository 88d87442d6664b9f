//! The seeded simulator: the engine's real code against a model of the disk, the hosts and the people.
//!
//! Every seed chooses tasks, votes, failures and times, and crashes the daemon after any effect, in the middle
//! of an append too. After every input: the directories are what the events fold to, nothing dropped is lost,
//! nothing is started twice, slots hold. A calm phase without crashes follows, in which every task that may
//! end must end. Replay one seed with `SIM_SEED=7 cargo test --lib simulator`.

#![expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "rolls of dice are small")]

mod disk;
mod knobs;
mod mutants;
mod parts;
mod people;
mod sleep;
mod time_laws;

use crate::base::ids::{Actor, GroupNo, HostName, StepName};
use crate::domain::outcome::{Ending, Outcome, OutputFacts, StepResult};
use crate::domain::run::{DropKey, Stage, TaskState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::*;
use crate::domain::drop_name::DropName;
use crate::domain::policy::{Admission, Policy, missing};
use crate::domain::right::Right;
use disk::Disk;

use crate::domain::submission::Schedule;
use knobs::Knobs;
use mutants::Mutant;
use parts::{Dice, SLOTS, WAIT_MS, library, no_failure_is_laundered, orders_count_once, wanted_releases};
use sleep::{is_found, sleeps_well};
use time_laws::TimeLaws;

/// A step that was sent to a host and has not answered.
type Flight = (TaskId, GroupNo, HostName, StepName, u32);

struct World {
    dice: Dice,
    now: Timestamp,
    /// The clock that nobody sets.
    steady_ms: i64,
    laws: TimeLaws,
    engine: Option<Engine>,
    disk: Disk,
    dropped: u64,
    /// Every file that was dropped, and whether it may be the same task as another one.
    files: Vec<(DropName, bool)>,
    flights: Vec<Flight>,
    /// Tasks that the engine wants to see.
    fetched: Vec<TaskId>,
    stopped: BTreeSet<(TaskId, HostName)>,
    /// What the hosts' runners know: every step that was ever started, and how it ended.
    started: BTreeMap<(TaskId, HostName, StepName, u32), Option<Ending>>,
    crashes: bool,
    knobs: Knobs,
    /// What a turn wants that is performed together with the next one.
    pending: Turn,
    /// How many more things are done to the disk and the hosts before a crash.
    fuse: Option<u64>,
    /// How long journals were before the last turn that appended to them.
    unsynced: Vec<(TaskId, usize)>,
    /// What is done wrongly, to see whether the laws find it.
    mutant: Option<Mutant>,
    /// Which library is on disk.
    library: u64,
    /// When an engine looked at the time last.
    seen: Option<Timestamp>,
    /// The same as it is noted on disk.
    noted: Option<Timestamp>,
    /// How long each journal was when it was last looked at, and what it said: an unchanged one says the same.
    known: BTreeMap<TaskId, (usize, TaskState)>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut dice = Dice(seed);
        World {
            knobs: Knobs::draw(&mut dice),
            pending: Turn::default(),
            fuse: None,
            unsynced: Vec::new(),
            mutant: None,
            dice,
            now: Timestamp(1_000_000),
            steady_ms: 0,
            laws: TimeLaws::default(),
            engine: None,
            disk: Disk::default(),
            dropped: 0,
            files: Vec::new(),
            flights: Vec::new(),
            fetched: Vec::new(),
            stopped: BTreeSet::new(),
            started: BTreeMap::new(),
            crashes: true,
            library: 0,
            seen: None,
            noted: None,
            known: BTreeMap::new(),
        }
    }

    fn moment(&self) -> Moment {
        Moment { wall: self.now, steady_ms: self.steady_ms }
    }

    /// Lets time pass on both clocks; a turn takes none.
    fn pass_ms(&mut self, ms: i64) {
        self.perform_pending();
        self.now = self.now.plus_ms(ms);
        self.steady_ms += ms;
    }

    fn crash(&mut self) {
        self.laws.crashed();
        self.lose_renames();
        self.lose_unsynced();
        self.pending = Turn::default();
        self.fuse = None;
        self.known.clear();
        self.engine = None;
        self.fetched.clear();
        self.flights.clear();
        self.stopped.clear();
    }

    fn start_engine(&mut self) {
        self.seen = self.noted;
        let (found, waiting) = self.found();
        self.laws.starts(&self.waiting_runs(), self.noted, self.now);
        let next_id = self.disk.runs.keys().last().map_or(1, |id| id.0 + 1);
        let audited = self.disk.audit.iter().copied().collect();
        let past = Past { history: self.disk.history.clone(), audited, seen: self.noted, waiting, ..Past::default() };
        let (engine, turn, bad) = Engine::recover(library(self.library), next_id, found, past, self.moment());
        assert_eq!(bad, vec![], "a journal of our own cannot be believed");
        self.engine = Some(engine);
        self.perform(turn);
    }

    fn input(&mut self, input: Input) {
        let now = self.moment();
        let Some(engine) = &mut self.engine else { return };
        self.laws.looks(self.seen, now, engine.running.keys().copied());
        let turn = engine.handle(now, input);
        // However the clock was set, nothing waits longer than it was to; the intervals and delays here are all the same.
        assert!(engine.waits.longest(now) <= WAIT_MS, "{:?}", engine.waits);
        self.seen = Some(self.now);
        self.pending.extend(turn);
        if self.crashes && self.dice.one_in(self.knobs.merge) {
            return;
        }
        self.perform_pending();
        if self.engine.as_ref().is_some_and(Engine::is_settled) {
            self.noted = Some(self.now);
        }
        // What is wanted is not read at once.
        if !self.crashes || !self.dice.one_in(self.knobs.read_late) {
            self.answer_fetches();
        }
    }

    fn perform_pending(&mut self) {
        let turn = std::mem::take(&mut self.pending);
        if !turn.is_empty() {
            self.perform(turn);
        }
    }

    /// Shows the engine everything in the boxes, as a rescan does.
    fn rescan(&mut self) {
        self.perform_pending();
        let mut files: Vec<Dropped> = self.disk.boxes.values().cloned().collect();
        if self.dice.one_in(self.knobs.shown_twice) {
            // A watcher and a rescan may both have seen a file.
            files.extend(files.clone());
        }
        self.input(Input::Dropped(files));
    }

    fn drop_file(&mut self, drop_box: DropBox, user: &str, text: String) {
        self.dropped += 1;
        // What lies flat in a box gives no orders; of tasks either kind comes.
        let file = format!("f{}.json", self.dropped);
        let is_flat = drop_box != DropBox::Orders && self.dropped.is_multiple_of(self.knobs.flat);
        let name = if is_flat { file.into() } else { DropName::within(user, &file) };
        let uid = u32::try_from(user.len()).expect("short");
        let key = DropKey {
            name: name.clone(),
            uid,
            dev: 1,
            ino: self.dropped,
            born_ns: self.dropped.to_string(),
            mtime_ns: self.now.0.to_string(),
            digest: Digest::of(text.as_bytes()),
        };
        self.files.push((name.clone(), text.contains("idempotency_key")));
        let owner = Person { actor: Actor { uid, user: user.to_owned() }, groups: BTreeSet::new() };
        let file =
            Dropped { drop_box, key, owner, bytes: text.into_bytes(), may_grow: false, scope: None, moved: Moved::Yes };
        self.disk.boxes.insert((drop_box, name), file);
    }

    fn end_flight(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let (task, group, host, step, attempt) =
            self.flights.swap_remove(self.dice.roll(self.flights.len() as u64) as usize);
        let key = (task, host.clone(), step.clone(), attempt);
        let ending = if let Some(known) = self.started.get(&key).cloned().flatten() {
            known
        } else if self.stopped.contains(&(task, host.clone())) {
            if self.dice.one_in(self.knobs.kill_unconfirmed) {
                let why = "not reached".to_owned();
                self.input(Input::KillUnconfirmed { task, group, host: host.clone(), step: step.clone(), why });
                if self.engine.is_none() {
                    return;
                }
            }
            let fails = self.dice.one_in(self.knobs.kill_fails);
            if fails { Ending::KillUnconfirmed("not reached".to_owned()) } else { Ending::Cancelled }
        } else {
            self.ending()
        };
        self.started.insert(key, Some(ending.clone()));
        let result = StepResult {
            attempt,
            ending,
            started: self.now,
            ended: self.now,
            output: OutputFacts::default(),
            proved_by: None,
        };
        self.input(Input::StepEnded { task, group, host, step, result });
    }

    /// Chooses how a step ends that nobody stopped.
    fn ending(&mut self) -> Ending {
        let (dice, knobs) = (&mut self.dice, &self.knobs);
        if dice.one_in(knobs.fails) {
            Ending::Exit(1)
        } else if dice.one_in(knobs.times_out) {
            Ending::TimedOut
        } else if dice.one_in(knobs.not_sent) {
            Ending::NotSent("refused".to_owned())
        } else if dice.one_in(knobs.lost) {
            Ending::Lost("rebooted".to_owned())
        } else {
            Ending::Exit(0)
        }
    }

    fn step(&mut self) {
        if self.engine.is_none() {
            self.start_engine();
            return;
        }
        if self.dice.one_in(self.knobs.reload) {
            // What stands on disk is looked at before anything else of a turn.
            self.perform_pending();
            self.library += 1;
            self.input(Input::Reloaded(library(self.library), HashMap::new()));
            return;
        }
        if self.dice.one_in(4) && !self.fetched.is_empty() {
            return self.answer_fetches();
        }
        let Knobs { tasks, orders, ends, looks, ticks, .. } = self.knobs;
        let mut at = self.dice.roll(tasks + orders + ends + looks + ticks + 1);
        let mut falls_to = |share: u64| {
            let falls = at < share;
            at = at.saturating_sub(share);
            falls
        };
        if falls_to(tasks) {
            self.drop_task();
        } else if falls_to(orders) {
            self.drop_order();
        } else if falls_to(ends) {
            self.end_flight();
        } else if falls_to(looks) {
            self.rescan();
        } else if falls_to(ticks) {
            let ms = self.dice.roll(self.knobs.tick_ms) as i64;
            self.pass_ms(ms);
            self.input(Input::Tick);
        } else {
            if self.crashes && self.dice.one_in(self.knobs.crash_between) {
                self.crash();
                // Now and then no daemon runs for a while.
                let is_down = self.dice.one_in(self.knobs.downtime);
                let ms = if is_down { self.dice.roll(self.knobs.downtime_ms) as i64 } else { 0 };
                self.pass_ms(ms);
            }
            // And somebody sets the clock, while one runs or not.
            if self.dice.one_in(self.knobs.clock_set) {
                let most = self.knobs.clock_ms as i64;
                self.now = self.now.plus_ms(self.dice.roll(2 * self.knobs.clock_ms) as i64 - most);
            }
        }
    }

    /// The laws.
    fn check(&mut self) {
        let Some(engine) = &self.engine else { return };
        // What the engine decided is not on the disk yet.
        if !self.pending.is_empty() {
            return;
        }
        for (id, (plan, events)) in &self.disk.runs {
            if is_found(engine, *id, events) {
                continue;
            }
            let standing: Vec<TaskState> =
                self.disk.views.iter().filter(|(_, task)| task == id).map(|(state, _)| *state).collect();
            if let Some((length, state)) = self.known.get(id)
                && *length == events.len()
            {
                assert_eq!(standing, [*state], "task {id}: the directory is not what the events say");
                continue;
            }
            let run = Run::fold(*id, Arc::clone(plan), events).expect("the journal folds");
            self.known.insert(*id, (events.len(), run.state()));
            no_failure_is_laundered(&run);
            let acts: BTreeSet<u64> = run.acts.iter().map(|act| act.event).collect();
            let audited: BTreeSet<u64> =
                self.disk.audit.iter().filter(|(task, _)| task == id).map(|(_, event)| *event).collect();
            assert_eq!(audited, acts, "task {id}: the audit is not what the events say");
            assert_eq!(standing, [run.state()], "task {id}: the directory is not what the events say");
            if let Some(held) = engine.runs.get(id) {
                assert_eq!(*held, run, "task {id}: the engine is not what the events say");
                assert_eq!(run.state(), TaskState::Running, "task {id} is awake");
            } else if !sleeps_well(engine, &run) {
                assert_eq!(run.state(), TaskState::Done, "task {id} is not done and not held");
                assert!(self.disk.records.contains(id), "task {id} is done without a record");
            }
        }
        // After a crash in the middle of a commit one is asked for that has ended, beside what began in its place.
        let runs = |flight: &&Flight| {
            let (task, _, host, step, attempt) = flight;
            self.started[&(*task, host.clone(), step.clone(), *attempt)].is_none()
        };
        let running: Vec<&Flight> = self.flights.iter().filter(runs).collect();
        assert!(running.len() <= SLOTS, "more hosts in flight than slots");
        let hosts: BTreeSet<&HostName> = running.iter().map(|flight| &flight.2).collect();
        assert_eq!(hosts.len(), running.len(), "two steps at once on one host");
        let tasks: BTreeMap<&str, usize> = self.disk.runs.values().fold(BTreeMap::new(), |mut names, (_, events)| {
            if let Event::Accepted(accepted) = &events[0].event {
                *names.entry(accepted.drop.name.as_str()).or_default() += 1;
            }
            names
        });
        assert!(tasks.values().all(|count| *count == 1), "one drop made two tasks: {tasks:?}");
        orders_count_once(&self.disk);
        let mut keys: BTreeSet<(u32, &str)> = BTreeSet::new();
        for (_, events) in self.disk.runs.values() {
            if let Event::Accepted(accepted) = &events[0].event
                && let Some(key) = &accepted.idempotency_key
            {
                assert!(keys.insert((accepted.by.uid, key)), "two tasks have the key {key}");
            }
        }
    }

    /// Without crashes, with every vote given, every task must end.
    fn calm_down(&mut self) {
        self.crashes = false;
        if !self.pending.is_empty() {
            self.input(Input::Tick);
        }
        for round in 0..2_000 {
            if self.engine.is_none() {
                self.start_engine();
            }
            self.rescan();
            let unfinished = self.unfinished();
            let waiting: Vec<(TaskId, Digest)> = unfinished
                .iter()
                .filter(|run| matches!(run.stage, Stage::New))
                .map(|run| (run.id, run.digest))
                .collect();
            for order in unfinished.iter().flat_map(wanted_releases) {
                self.drop_file(DropBox::Orders, "boss", order);
            }
            for (id, digest) in waiting {
                for user in ["boss", "deputy", "deputy2"] {
                    let text = format!(r#"{{"order":"approve","task":{id},"digest":"{digest}"}}"#);
                    self.drop_file(DropBox::Orders, user, text);
                }
                if round > 3 {
                    let text = format!(r#"{{"order":"reject","task":{id},"reason":"its own submitter is needed"}}"#);
                    self.drop_file(DropBox::Orders, "boss", text);
                }
            }
            self.end_flight();
            self.pass_ms(1_000);
            self.input(Input::Tick);
            self.check();
            if self.engine.as_ref().is_some_and(|engine| engine.unfinished() == 0) && self.disk.boxes.is_empty() {
                return;
            }
        }
        panic!("tasks or files are left after the calm: {:?} {:?}", self.engine, self.disk.boxes.keys());
    }
}

/// Every file that was dropped is a task, an answer in a journal, or refused.
fn nothing_dropped_is_lost(world: &World) {
    let events = world.disk.runs.values().flat_map(|(_, events)| events);
    let told = events.filter_map(|recorded| match &recorded.event {
        Event::Accepted(accepted) => Some(&accepted.drop.name),
        event => event.order().map(|key| &key.name),
    });
    let told: BTreeSet<&DropName> = told.chain(&world.disk.bad).collect();
    for (name, is_repeated) in &world.files {
        assert!(*is_repeated || told.contains(name), "{name} is lost");
    }
}

/// Whether the policy of today lets a run begin with the approvals it has.
fn is_entitled(run: &Run, policy: &Policy) -> bool {
    let person = |actor: &Actor| Person { actor: actor.clone(), groups: BTreeSet::new() };
    let subject = run.subject(policy);
    if run.needs.is_empty() {
        let admission = policy.admit(&person(&run.accepted.by), &subject, Schedule::Ready);
        return matches!(admission, Ok(Admission::Ready { .. }));
    }
    let votes: Vec<_> = run.approvals.iter().map(|(_, vote)| vote).collect();
    let of_this_plan = votes.iter().all(|vote| vote.digest == run.plan.digest());
    let entitled = votes.iter().all(|vote| policy.allows(&person(&vote.by), Right::Approve, &subject).is_ok());
    of_this_plan && entitled && missing(&policy.needs(&subject), &votes) == 0
}

/// Lives the day of a seed.
fn live(seed: u64, mutant: Option<Mutant>) -> World {
    let mut world = World::new(seed);
    world.mutant = mutant;
    for _ in 0..world.knobs.things {
        world.step();
        world.check();
    }
    world.calm_down();
    nothing_dropped_is_lost(&world);
    world
}

#[test]
fn simulator_seeds_lose_nothing_and_start_nothing_twice() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a seed is a number"));
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => number("SIM_FROM").unwrap_or(0)..number("SIM_SEEDS").unwrap_or(10_000),
    };
    let outcomes: Mutex<BTreeMap<Outcome, u32>> = Mutex::default();
    let next = AtomicU64::new(seeds.start);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let world = std::panic::catch_unwind(|| live(seed, None)).unwrap_or_else(|_| {
                let knobs = World::new(seed).knobs;
                panic!("seed {seed} with {knobs}; replay: SIM_SEED={seed} cargo test --lib simulator")
            });
            let mut outcomes = outcomes.lock().expect("nobody panicked with it");
            for line in world.disk.history {
                *outcomes.entry(line.outcome).or_default() += 1;
            }
        }
    };
    std::thread::scope(|threads| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            threads.spawn(work);
        }
    });
    let outcomes = outcomes.into_inner().expect("nobody panicked with it");
    // A simulator that never reaches an outcome proves nothing about it.
    if seeds.end - seeds.start >= 2_000 {
        for outcome in [
            Outcome::Ok,
            Outcome::RolledBack,
            Outcome::RollbackFailed,
            Outcome::Failed,
            Outcome::TimedOut,
            Outcome::Cancelled,
            Outcome::Lost,
            Outcome::KillUnconfirmed,
            Outcome::Rejected,
            Outcome::Expired,
            Outcome::Stale,
        ] {
            assert!(
                outcomes.get(&outcome).is_some_and(|count| *count > 10),
                "{outcome:?} hardly happened: {outcomes:?}"
            );
        }
    }
}
