//! A mixed load whose scripts keep a journal of their own, and a comparison of all that is recorded with what they did.
//!
//! What a script prints follows from its task's name, step, host and attempt. It says in the journal that it begins, and with
//! which code it ends. The journal, the hosts' homes and what is copied there stand outside of the daemon's state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spoolgate::base::digest::Digest;

use crate::figures::Figures;
use crate::sshd::Sshd;
use crate::world::{ALICE, BOB, GROUP_ID, World, wait_unless};

/// What a log keeps of a stream at most: its beginning and its end.
const HEAD: usize = 15 << 20;
const TAIL: usize = 1 << 20;

/// Numbers from a seed (`splitmix64`).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    pub(crate) fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.roll(all.len() as u64)).unwrap()]
    }
}

/// One task of the load.
struct Job {
    name: String,
    template: &'static str,
    hosts: Vec<String>,
    /// Lines of each stream.
    lines: (u64, u64),
    /// Which of the files it copies.
    file: usize,
    /// Whether it was on the disk before anybody looked.
    is_synced: bool,
    cancels: u32,
    retries: u32,
}

/// The tasks of one world.
pub(crate) struct Load {
    place: PathBuf,
    jobs: BTreeMap<String, Job>,
    files: Vec<Vec<u8>>,
    orders: u32,
    /// What had not come to rest in time.
    restless: Vec<PathBuf>,
}

const SAY: &str = r#"#!/bin/sh
me="$NAME $SPOOLGATE_STEP $SPOOLGATE_HOST $SPOOLGATE_ATTEMPT"
echo "begin $me" >>JOURNAL
from=$((SPOOLGATE_ATTEMPT * 10000000))
half=$((from + OUT / 2))
echo "out of $me"
echo "err of $me" >&2
seq $from $((half - 1))
seq $from $((from + ERR - 1)) >&2
sleep "$PAUSE"
seq $half $((from + OUT - 1))
printf 'end \377\000 of %s' "$me"
code=0
[ "$SPOOLGATE_STEP" != "$FAIL_AT" ] || [ "$SPOOLGATE_ATTEMPT" -gt "$FAILS" ] || code=$CODE
echo "end $me $code" >>JOURNAL
exit "$code"
"#;

const PARAMS: [&str; 9] = ["NAME", "OUT", "ERR", "PAUSE", "FAIL_AT", "CODE", "FAILS", "FILE", "DIR"];

impl Load {
    /// Prepares a world, before its daemon starts: hosts behind an sshd and hosts on this machine, templates, files.
    pub(crate) fn prepare(world: &World, sshd: &Sshd) -> Load {
        let place = world.scratch();
        std::fs::create_dir(place.join("copied")).unwrap();
        std::fs::write(place.join("journal"), "").unwrap();
        let web = |n| format!("[host.web{n}]\naddress = \"127.0.1.{n}\"\nport = {}\n", sshd.port());
        let here = |n| format!("[host.here{n}]\nconnection = \"local\"\n");
        let inventory: String = (1..=5).map(web).chain((1..=3).map(here)).collect();
        world.write_etc("inventory/hosts.toml", &inventory);
        world.write_etc("templates/say.sh", &SAY.replace("JOURNAL", place.join("journal").to_str().unwrap()));
        let kind = |name: &str| if name == "DIR" { "\"path\"\nrequired = true" } else { "\"string\"\ndefault = \"\"" };
        let param = |name: &&str| format!("[[param]]\nname = \"{name}\"\ntype = {}\n", kind(name));
        let params: String = PARAMS.iter().map(param).collect();
        let step = |name: &str, more: &str| format!("[[step]]\nname = \"{name}\"\n{more}\n");
        let say = |name: &str| step(name, "file = \"say.sh\"");
        let templates = [
            ("one", say("only")),
            ("three", say("first") + &say("second") + &say("third")),
            ("again", step("only", "file = \"say.sh\"\nretries = 2\nretry_delay = \"0s\"")),
            ("carry", step("file", "copy = \"{FILE}\"\nto = \"{DIR}/{NAME}\"") + &say("only")),
        ];
        for (n, (name, steps)) in templates.into_iter().enumerate() {
            let head = format!("id = {}\nname = \"{name}\"\ntitle = \"t\"\n", 900 + n);
            world.write_etc(&format!("templates/{name}.toml"), &format!("{head}{params}{steps}"));
        }
        std::fs::create_dir_all(world.etc().join("files")).unwrap();
        let files: Vec<Vec<u8>> = [1_000, 300_000, 5_000_000].map(|size| numbers(size, size / 7).into_bytes()).into();
        for (n, bytes) in files.iter().enumerate() {
            std::fs::write(world.etc().join(format!("files/f{n}")), bytes).unwrap();
        }
        Load { place, jobs: BTreeMap::new(), files, orders: 0, restless: Vec::new() }
    }

    /// Drops a task of any kind. With `is_synced` it is on the disk when this returns.
    pub(crate) fn drop_one(&mut self, world: &World, dice: &mut Dice, is_synced: bool) {
        let name = format!("j{}", self.jobs.len());
        let hosts = ["web1", "web2", "web3", "web4", "web5", "here1", "here2", "here3"];
        let mut hosts: Vec<String> = (0..=dice.roll(2)).map(|_| dice.one_of(&hosts).to_owned()).collect();
        hosts.dedup();
        let small = (dice.roll(200), dice.roll(50));
        let (mut template, mut lines, mut pause, mut fails) = ("one", small, 0, ("none", 0, 0));
        match dice.roll(20) {
            0..7 => {}
            // It fails, until somebody retries it or for good.
            7..9 => fails = ("only", dice.one_of(&[1, 3, 77, 125, 143]), dice.one_of(&[1, 99])),
            9..12 => pause = 200 + dice.roll(2_500),
            12 => lines = (dice.roll(400_000), dice.roll(400_000)),
            13 => (lines, pause) = ((dice.roll(200_000), dice.roll(20)), dice.roll(1_000)),
            14 if dice.roll(10) == 0 => {
                (lines, hosts) = ((2_300_000, dice.roll(100)), vec![dice.one_of(&["web1", "here1"]).to_owned()]);
            }
            14..17 => {
                template = "three";
                fails = (dice.one_of(&["none", "none", "first", "second", "third"]), 9, dice.one_of(&[1, 99]));
                pause = dice.roll(300);
            }
            17 | 18 => (template, fails) = ("again", ("only", 5, dice.roll(5))),
            _ => {
                template = "carry";
                hosts.truncate(1);
            }
        }
        let file = usize::try_from(dice.roll(3)).unwrap();
        let text = json!({
            "task_name": name, "temp_id": template, "hosts": {"1": hosts},
            "args": {
                "NAME": name, "OUT": lines.0.to_string(), "ERR": lines.1.to_string(),
                "PAUSE": format!("{}.{:03}", pause / 1000, pause % 1000),
                "FAIL_AT": fails.0, "CODE": fails.1.to_string(), "FAILS": fails.2.to_string(),
                "FILE": format!("f{file}"), "DIR": self.place.join("copied"),
            },
        });
        let (drop_box, uid) = if dice.roll(6) == 0 { ("new", ALICE) } else { ("ready", 0) };
        drop_file(&world.own_dir(drop_box, uid), &name, text.to_string().as_bytes(), uid, is_synced);
        let job = Job { name: name.clone(), template, hosts, lines, file, is_synced, cancels: 0, retries: 0 };
        self.jobs.insert(name, job);
    }

    /// Cancels, retries or approves, where there is anything to.
    pub(crate) fn order_some(&mut self, world: &World, dice: &mut Dice) {
        let standing = |drop_box: &str| -> Vec<u64> {
            let names = std::fs::read_dir(world.box_dir(drop_box)).unwrap();
            let ids = names.filter_map(|name| name.unwrap().file_name().to_str()?.strip_suffix(".json")?.parse().ok());
            ids.collect()
        };
        let new = standing("new");
        if let Some(id) = new.first().filter(|_| dice.roll(2) == 0) {
            self.approve(world, *id);
        }
        for (drop_box, act, one_in) in [("running", "cancel", 3), ("ready", "cancel", 12), ("done", "retry", 3)] {
            let Some(id) = standing(drop_box).last().copied().filter(|_| dice.roll(one_in) == 0) else { continue };
            let events = world.events(id);
            let Some(name) = events.first().and_then(|event| event["name"].as_str()) else { continue };
            let Some(job) = self.jobs.get_mut(name) else { continue };
            let failed = events.last().is_some_and(|event| event["outcome"] == "failed");
            if act == "retry" && (!failed || job.retries > 0) {
                continue;
            }
            *(if act == "retry" { &mut job.retries } else { &mut job.cancels }) += 1;
            self.order(world, 0, &json!({"order": act, "task": id, "reason": "the dice say so"}));
        }
    }

    /// Approves whatever waits for that.
    fn approve_all(&mut self, world: &World) {
        for name in std::fs::read_dir(world.box_dir("new")).unwrap() {
            let name = name.unwrap().file_name();
            if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".json")?.parse().ok()) {
                self.approve(world, id);
            }
        }
    }

    fn approve(&mut self, world: &World, id: u64) {
        if world.state().join(format!("runs/{id}/plan.json")).exists() {
            self.order(world, BOB, &json!({"order": "approve", "task": id, "digest": world.digest(id)}));
        }
    }

    fn order(&mut self, world: &World, uid: u32, order: &Value) {
        self.orders += 1;
        let name = format!("o{}", self.orders);
        drop_file(&world.own_dir("orders", uid), &name, order.to_string().as_bytes(), uid, true);
    }

    /// Lets the daemon come to the end of everything.
    pub(crate) fn come_to_rest(&mut self, world: &World) {
        let mut asked = Instant::now();
        let rested = wait_unless(Duration::from_mins(2), || {
            if asked.elapsed() > Duration::from_secs(1) {
                self.approve_all(world);
                asked = Instant::now();
            }
            // A task that was taken a moment ago has no file in any box yet.
            let count = |dir: PathBuf| std::fs::read_dir(dir).unwrap().count();
            let rests = waiting(world).is_empty() && count(world.state().join("runs")) == count(world.box_dir("done"));
            rests.then_some(())
        });
        self.restless = rested.map_or_else(|| waiting(world), |()| Vec::new());
    }

    /// Compares everything that is recorded with what the scripts did; call it when all have ended.
    pub(crate) fn compare(&self, world: &World) -> Figures {
        let mut figures = Figures::default();
        let (mut begins, ends) = journal(&self.place.join("journal"), &mut figures);
        figures.other.extend(self.restless.iter().map(|path| format!("{} did not come to rest", path.display())));
        let mut known: BTreeMap<String, u64> = BTreeMap::new();
        for (id, events) in world.tasks() {
            let name = events[0]["name"].as_str().unwrap().to_owned();
            let Some(job) = self.jobs.get(&name) else {
                figures.other.push(format!("task {id} is {name}, which nobody dropped"));
                continue;
            };
            if let Some(other) = known.insert(name.clone(), id) {
                figures.twice.push(format!("{name} is task {other} and task {id}"));
            }
            figures.tasks += 1;
            if world.standing(id) != ["done"] {
                figures.other.push(format!("task {id} ({name}) stands in {:?}", world.standing(id)));
            }
            let compared = Compared { load: self, world, job, id, ends: &ends };
            compared.task(&events, &mut begins, &mut figures);
        }
        for job in self.jobs.values().filter(|job| !known.contains_key(&job.name)) {
            let begun = begins.iter().any(|begin| begin.starts_with(&format!("{} ", job.name)));
            if job.is_synced || begun {
                figures.lost.push(format!("{} is no task (synced: {}, begun: {begun})", job.name, job.is_synced));
            } else {
                figures.vanished += 1;
            }
        }
        figures.other.extend(begins.iter().map(|begin| format!("{begin} began and is in no journal of the daemon's")));
        self.look_at_bad(world, &known, &mut figures);
        let said = world.run(0, &["audit", "verify"]);
        if said.code != 0 {
            figures.other.push(format!("audit verify: {said:?}"));
        }
        figures
    }

    /// Nothing is refused but files that a cut took the bytes of, and orders that came too late.
    fn look_at_bad(&self, world: &World, known: &BTreeMap<String, u64>, figures: &mut Figures) {
        for entry in std::fs::read_dir(world.box_dir("bad")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            // What a cut left of a task that was never announced is a directory.
            if path.extension().is_some_and(|ending| ending == "why") || name.starts_with("run-") && path.is_dir() {
                continue;
            }
            let why = std::fs::read_to_string(path.with_extension("why")).unwrap_or_default();
            let why: Value = serde_json::from_str(&why).unwrap_or_default();
            let name = why["name"].as_str().and_then(|name| name.rsplit('/').next()?.strip_suffix(".json"));
            let name = name.unwrap_or_default();
            let is_ours = self.jobs.get(name).is_some_and(|job| !job.is_synced) && !known.contains_key(name);
            if !is_ours && why["from"] != "orders" {
                figures.other.push(format!("{} was refused: {why}", path.display()));
            }
        }
    }
}

/// Reads what began, and with which code what ended.
fn journal(path: &Path, figures: &mut Figures) -> (BTreeSet<String>, BTreeMap<String, i64>) {
    let text = std::fs::read_to_string(path).unwrap();
    let (mut begins, mut ends) = (BTreeSet::new(), BTreeMap::new());
    for line in text.lines() {
        if let Some(begin) = line.strip_prefix("begin ") {
            if !begins.insert(begin.to_owned()) {
                figures.twice.push(format!("{begin} began twice"));
            }
        } else if let Some((end, code)) = line.strip_prefix("end ").and_then(|end| end.rsplit_once(' ')) {
            ends.insert(end.to_owned(), code.parse().unwrap());
        }
    }
    (begins, ends)
}

/// Whatever has not ended, and what waits in a box, but for what a cut left of a file that nobody had synced: where writers may be
/// out of sight, an empty file is waited for.
fn waiting(world: &World) -> Vec<PathBuf> {
    let files = ["new", "ready", "running", "orders"].map(|drop_box| files_in(&world.box_dir(drop_box)));
    let is_left = |path: &PathBuf| {
        let is_job = path.file_name().unwrap().to_string_lossy().starts_with('j');
        is_job && std::fs::metadata(path).is_ok_and(|meta| meta.len() == 0)
    };
    files.into_iter().flatten().filter(|path| !is_left(path)).collect()
}

/// How many tasks have not ended.
pub(crate) fn busy(world: &World) -> usize {
    ["ready", "running"].iter().map(|drop_box| files_in(&world.box_dir(drop_box)).len()).sum()
}

/// The files in a box and in people's own directories there.
fn files_in(dir: &Path) -> Vec<PathBuf> {
    let (mut files, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_dir { open.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    files
}

/// A task that is compared.
struct Compared<'a> {
    load: &'a Load,
    world: &'a World,
    job: &'a Job,
    id: u64,
    ends: &'a BTreeMap<String, i64>,
}

impl Compared<'_> {
    fn task(&self, events: &[Value], begins: &mut BTreeSet<String>, figures: &mut Figures) {
        let (job, id) = (self.job, self.id);
        let outcome = events.last().map(|event| event["outcome"].clone()).unwrap_or_default();
        let obeyed = |act: &str| events.iter().filter(|event| event["event"] == act).count();
        let is_cancelled = obeyed("cancelled") > 0;
        let mut bad = false;
        let of = |kind: &'static str| events.iter().filter(move |event| event["event"] == kind);
        let mut ended = BTreeSet::new();
        for event in of("step_ended") {
            figures.steps += 1;
            let (host, step) = (event["host"].as_str().unwrap(), event["step"].as_str().unwrap());
            let attempt = event["attempt"].as_u64().unwrap();
            let me = format!("{} {step} {host} {attempt}", job.name);
            if !ended.insert(me.clone()) {
                figures.twice.push(format!("task {id}: {me} ended twice"));
            }
            let began = begins.remove(&me) || step == "file";
            let code = if step == "file" { Some(0) } else { self.ends.get(&me).copied() };
            let ending = &event["ending"];
            let word = match ending["exit"].as_i64() {
                Some(0) => "ok".to_owned(),
                Some(_) => "failed".to_owned(),
                None => ending.to_string().replace('"', "").chars().take(12).collect(),
            };
            *figures.endings.entry(word).or_default() += 1;
            let is_right = match ending["exit"].as_i64() {
                Some(exit) => began && code == Some(exit),
                None if ending == "cancelled" => is_cancelled,
                None => ending.get("not_sent").is_some() && is_cancelled && !began,
            };
            if !is_right {
                figures
                    .false_outcomes
                    .push(format!("task {id}: {me} began: {began}, ended: {code:?}, record: {ending}"));
            }
            self.log(&me, (host, step, attempt), event, figures);
            if ending["exit"] == 0 && step == "file" {
                let copied = std::fs::read(self.load.place.join("copied").join(&job.name)).unwrap_or_default();
                if copied != self.load.files[job.file] {
                    figures.other.push(format!("task {id}: {me} copied {} wrong byte(s)", copied.len()));
                }
            }
        }
        for host in &job.hosts {
            let last = of("step_ended").rfind(|event| event["host"] == host.as_str());
            bad |= last.is_some_and(|event| event["ending"]["exit"] != 0);
        }
        let begun = of("step_started").count();
        if begun != ended.len() {
            figures.other.push(format!("task {id}: {begun} step(s) began and {} ended", ended.len()));
        }
        let by_steps = if bad { "failed" } else { "ok" };
        let is_right = outcome == by_steps || is_cancelled && outcome == "cancelled";
        if !is_right || self.world.try_record(id).is_none_or(|record| record["outcome"] != outcome) {
            let record = self.world.try_record(id).map(|record| record["outcome"].clone());
            figures
                .false_outcomes
                .push(format!("task {id}: {outcome}, in its record {record:?}, by its steps {by_steps}"));
        }
        let steps = match job.template {
            "three" => 3,
            "carry" => 2,
            _ => 1,
        };
        if outcome == "ok"
            && of("step_ended").filter(|event| event["ending"]["exit"] == 0).count() < steps * job.hosts.len()
        {
            figures.false_outcomes.push(format!("task {id}: ok, and not all of its steps are"));
        }
    }

    /// Compares a log with what was printed.
    fn log(&self, me: &str, (host, step, attempt): (&str, &str, u64), event: &Value, figures: &mut Figures) {
        let name = if attempt == 1 { format!("{step}.log") } else { format!("{step}@{attempt}.log") };
        let path = self.world.state().join(format!("runs/{}/output/{host}/{name}", self.id));
        let whole = std::fs::read(&path).unwrap_or_default();
        figures.bytes += whole.len() as u64;
        let facts = &event["output"];
        let number = |name: &str| facts[name].as_u64().unwrap_or_default();
        let mut wrong = |what: String| figures.wrong_logs.push(format!("task {}: {me}: {what}; {facts}", self.id));
        let digest = if whole.is_empty() { Value::Null } else { json!(Digest::of(&whole)) };
        if facts["sha256"] != digest {
            return wrong(format!("the log has {} byte(s) and is {digest}", whole.len()));
        }
        let (out, err) = streams(&whole, &path.with_extension("streams"));
        let kept = (out.len() + err.len()) as u64;
        if kept != whole.len() as u64 || number("out_bytes") + number("err_bytes") != kept + number("dropped_bytes") {
            return wrong(format!("{} byte(s) are out and {} err", out.len(), err.len()));
        }
        let wanted = if step == "file" {
            let changed = format!("changed {}/copied/{}\n", self.load.place.display(), self.job.name);
            (changed.into_bytes(), Vec::new())
        } else {
            printed(self.job, me, attempt)
        };
        let has_exit = event["ending"]["exit"].is_i64();
        let mut is_short = false;
        for (name, found, wanted, said) in
            [("out", &out, &wanted.0, number("out_bytes")), ("err", &err, &wanted.1, number("err_bytes"))]
        {
            let end = wanted.len().saturating_sub(TAIL).max(HEAD).min(wanted.len());
            let kept = [&wanted[..wanted.len().min(HEAD)], &wanted[end..]].concat();
            // What was ended printed any part; what is missing of the rest is counted, since the sums are right.
            let is_right = if has_exit { said == wanted.len() as u64 } else { said <= wanted.len() as u64 };
            if !is_right || !kept.starts_with(found) {
                let same = kept.iter().zip(found).take_while(|(a, b)| a == b).count();
                return wrong(format!("{name} has {} byte(s) of {}, {same} are right", found.len(), wanted.len()));
            }
            is_short |= found.len() < kept.len() && has_exit;
        }
        figures.said += usize::from(is_short);
    }
}

/// Tells the streams of a log apart, as the marks beside it say.
fn streams(whole: &[u8], marks: &Path) -> (Vec<u8>, Vec<u8>) {
    let text = std::fs::read_to_string(marks).unwrap_or_default();
    let mark = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.parse::<usize>().ok()?, words.next()?.to_lowercase()))
    };
    let mut marks: Vec<(usize, String)> = Vec::new();
    for mark in text.lines().filter_map(mark) {
        // A log that lost its end was written on from there.
        marks.retain(|earlier| earlier.0 < mark.0);
        marks.push(mark);
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    for (n, (from, letter)) in marks.iter().enumerate() {
        let until = marks.get(n + 1).map_or(whole.len(), |next| next.0).min(whole.len());
        let part = whole.get(*from..until).unwrap_or_default();
        if letter == "o" { out.extend_from_slice(part) } else { err.extend_from_slice(part) }
    }
    (out, err)
}

/// Returns what an attempt prints that comes to its end.
fn printed(job: &Job, me: &str, attempt: u64) -> (Vec<u8>, Vec<u8>) {
    let from = attempt * 10_000_000;
    let mut out = format!("out of {me}\n{}end ", numbers(from, job.lines.0)).into_bytes();
    out.extend(b"\xff\0");
    out.extend(format!(" of {me}").as_bytes());
    (out, format!("err of {me}\n{}", numbers(from, job.lines.1)).into_bytes())
}

/// Numbers on lines of their own.
fn numbers(from: u64, count: u64) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for number in from..from + count {
        let _ = writeln!(text, "{number}");
    }
    text
}

/// Drops a file as a careful program does, or without a sync.
fn drop_file(box_dir: &Path, name: &str, bytes: &[u8], uid: u32, is_synced: bool) {
    let staged = box_dir.join(format!(".{name}.staged"));
    let mut file = File::create(&staged).unwrap();
    file.write_all(bytes).unwrap();
    chown(&staged, Some(uid), Some(GROUP_ID)).unwrap();
    if is_synced {
        file.sync_all().unwrap();
    }
    std::fs::rename(&staged, box_dir.join(format!("{name}.json"))).unwrap();
    if is_synced {
        File::open(box_dir).unwrap().sync_all().unwrap();
    }
}
