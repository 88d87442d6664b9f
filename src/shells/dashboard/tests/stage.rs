//! A dashboard with something of everything in it, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::adapters::spool::bad::Why;
use crate::adapters::spool::reader::Serving;
use crate::base::digest::Digest;
use crate::base::ids::{Actor, TaskId};
use crate::base::time::{Timestamp, Zone};
use crate::domain::audit::{Entry, Line};
use crate::domain::file_step::NoFiles;
use crate::domain::hook::Hooks;
use crate::domain::inventory::Inventory;
use crate::domain::known_hosts::KnownHosts;
use crate::domain::library::{Defaults, Library};
use crate::domain::outcome::{Ending, Outcome, OutputFacts, StepResult};
use crate::domain::policy::{Admission, Approval, Person, Policy, Subject};
use crate::domain::problem::Problem;
use crate::domain::record::{HistoryLine, record, view as view_of};
use crate::domain::resolve::resolve;
use crate::domain::run::{Accepted, DropKey, Event, Recorded, Run};
use crate::domain::share::Shares;
use crate::domain::template::{Catalogue, Template};
use crate::domain::wire::read_task;
use crate::shells::dashboard::look::{Look, Theme};
use crate::shells::dashboard::message::{Command, HistoryWant, LogKey, Message, RefusedFile, Tail};
use crate::shells::dashboard::model::Model;
use crate::shells::dashboard::update::update;
use crate::shells::dashboard::words::Lang;

pub(super) const NOW: Timestamp = Timestamp(1_795_231_850_000);
pub(super) const POLICY: &str = "[[submit]]\nwho = [\"*\"]\ntemplates = [\"*\"]\ninto = [\"new\"]\n\
    [[approve]]\nwho = [\"bob\"]\ntemplates = [\"*\"]\napprovals = 1\n[[control]]\nwho = [\"bob\"]\ntemplates = [\"*\"]\n";
pub(super) const PUBLISH: &str = "id = 32\nname = \"publish\"\ntitle = \"发布应用 Publish\"\n\
    [[param]]\nname = \"TAG\"\nlabel = \"标签\"\nrequired = true\n[[param]]\nname = \"MODE\"\ntype = \"enum\"\nvalues = [\"fast\", \"safe\"]\ndefault = \"safe\"\n\
    [[step]]\nname = \"backup\"\nscript = \"#!/bin/sh\\n# keeps what is there\\ncp -r /srv/app /srv/old\\n\"\naccount = \"deploy\"\n\
    [[step]]\nname = \"publish\"\nscript = \"publish \\\"$1\\\"\\n\"\nargs = [\"{TAG}\"]\n\
    [[step]]\nname = \"check\"\nscript = \"curl -fs localhost/health\\n\"\ntrigger = \"manual\"\n";

pub(super) fn library(hosts: usize) -> Library {
    let mut inventory =
        String::from("[host.\"数据库-db-07\"]\naddress = \"10.0.7.7\"\ntags = [\"data\"]\nvars = { env = \"test\" }\n");
    for n in 1..=hosts {
        inventory += &format!(
            "[host.web-{n:04}]\naddress = \"10.{}.{}.{}\"\ntags = [\"web\"]\n",
            n >> 16,
            n >> 8 & 255,
            n & 255
        );
    }
    Library {
        catalogue: Catalogue::assemble(vec![Template::parse("publish.toml", PUBLISH, &BTreeMap::new()).unwrap()])
            .unwrap(),
        inventory: Inventory::assemble(vec![("hosts.toml".to_owned(), inventory)]).unwrap(),
        known_hosts: KnownHosts::default(),
        ssh: None,
        policy: Policy::parse("policy.toml", POLICY, &Zone::utc()).unwrap(),
        defaults: Defaults {
            user: "ops".to_owned(),
            key: None,
            key_passphrase: None,
            hosts_per_group: 20_000,
            hosts_in_flight: 10,
            late_after_ms: 300_000,
        },
        tags: BTreeMap::new(),
        files: Arc::new(NoFiles),
        zone: Zone::named("Asia/Shanghai").unwrap(),
        hooks: Hooks::default(),
        shares: Shares::default(),
    }
}

pub(super) fn actor(uid: u32, user: &str) -> Actor {
    Actor { uid, user: user.to_owned() }
}

/// Makes a task of a file, as the daemon would.
pub(super) fn accept(library: &Library, id: u64, file: &serde_json::Value, by: &Actor) -> Run {
    let text = file.to_string();
    let submission = read_task(text.as_bytes(), &library.zone).unwrap();
    let plan = resolve(&submission, library).unwrap();
    let subject = Subject::of(&plan, by, &submission.claims, &library.policy.bounds());
    let digest = plan.digest();
    let drop = DropKey {
        name: format!("{}/task-{id}.json", by.user).into(),
        uid: by.uid,
        dev: 1,
        ino: id,
        born_ns: String::new(),
        mtime_ns: "0".to_owned(),
        digest: Digest::of(text.as_bytes()),
    };
    let accepted = Accepted {
        name: format!("task-{id}"),
        by: by.clone(),
        claims: submission.claims.clone(),
        drop,
        unproved: false,
        admission: Admission::New { needs: library.policy.needs(&subject), note: None },
        digest,
        idempotency_key: None,
        hook: None,
        details: submission.details.clone(),
        task_type: String::new(),
        submission: text,
    };
    let at = NOW.plus_ms(-600_000);
    Run::begin(TaskId(id), Arc::new(plan), &Recorded { at, event: Event::Accepted(Box::new(accepted)) }).unwrap()
}

pub(super) fn apply(run: &mut Run, ago_ms: i64, event: Event) {
    run.apply(&Recorded { at: NOW.plus_ms(-ago_ms), event }).unwrap();
}

pub(super) fn approve(run: &mut Run) {
    let order = run.accepted.drop.clone();
    let (by, digest) = (actor(1002, "bob"), run.digest);
    let approval = Approval { by, groups: BTreeSet::new(), digest, start: None, until: None };
    apply(run, 400_000, Event::Approved { approval, rule: "approve rule 1".to_owned(), reason: None, order });
}

pub(super) fn start(run: &mut Run) {
    approve(run);
    apply(run, 300_000, Event::Started);
}

/// Takes the first steps of a lane, the last of them with this ending; still open without one.
pub(super) fn steps(run: &mut Run, lane: usize, count: usize, ending: Option<&Ending>) {
    let (group, host) = (run.lanes[lane].group, run.lanes[lane].host.clone());
    for n in 0..count {
        let step = run.step_name(lane, n).unwrap();
        let begun = 290_000 - 1_000 * i64::try_from(n).unwrap();
        apply(run, begun, Event::StepStarted { group, host: host.clone(), step: step.clone(), attempt: 1 });
        let end = if n + 1 < count { Some(Ending::Exit(0)) } else { ending.cloned() };
        let Some(ending) = end else { return };
        let took = 900 + 37 * i64::try_from(lane % 100).unwrap();
        let (started, ended) = (NOW.plus_ms(-begun), NOW.plus_ms(took - begun));
        let result = StepResult { attempt: 1, ending, started, ended, output: OutputFacts::default(), proved_by: None };
        apply(run, begun - took, Event::StepEnded { group, host: host.clone(), step, result });
    }
}

pub(super) fn hosts(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("web-{n:04}")).collect()
}

/// What stands in the state of every test.
pub(super) struct World {
    pub(super) library: Arc<Library>,
    /// The tasks that are listed, and the one that has ended.
    runs: Vec<Run>,
    done: Run,
    past: Vec<HistoryLine>,
}

pub(super) fn world() -> &'static World {
    static WORLD: std::sync::OnceLock<World> = std::sync::OnceLock::new();
    WORLD.get_or_init(build_world)
}

pub(super) fn build_world() -> World {
    let library = library(130);
    let alice = actor(1001, "alice");
    let publish = |name: &str, hosts: Vec<String>, tag: &str| {
        let canary = hosts.len().div_ceil(10);
        serde_json::json!({"task_name": name, "temp_id": 32, "hosts": {"1": hosts}, "args": {"TAG": tag},
            "associated_user": {"pm": ["zhang"]}, "submitter": "张三", "batches": [canary], "batch_interval": 60})
    };
    let mut own = publish("mine: 清理日志", hosts(1), "v1");
    own["exec_time"] = "2026-11-22 09:09:50".into();
    let mut runs = vec![
        accept(&library, 1, &publish("发布支付网关 release-pay-v2.8", hosts(3), "v2.8; id"), &alice),
        accept(&library, 2, &publish("全部 web 主机 \u{202e}odd", hosts(120), "v3"), &alice),
        accept(&library, 3, &own, &actor(1002, "bob")),
        accept(&library, 4, &own, &alice),
        accept(&library, 5, &publish("滚动重启 nginx", hosts(12), "v2.7"), &alice),
        accept(&library, 6, &publish("安全补丁 openssl", hosts(130), "v2"), &alice),
    ];
    approve(&mut runs[3]);
    let few = &mut runs[4];
    start(few);
    for lane in 0..12 {
        match lane {
            0 => steps(few, lane, 2, Some(&Ending::Exit(100))),
            1 => steps(few, lane, 1, Some(&Ending::Lost("the link was cut at 12:01".to_owned()))),
            2 | 3 => steps(few, lane, 2, None),
            4..8 => steps(few, lane, 2, Some(&Ending::Exit(0))),
            _ => {}
        }
    }
    let many = &mut runs[5];
    start(many);
    for lane in 0..90 {
        match lane % 40 {
            7 => steps(many, lane, 1, Some(&Ending::Unreachable("connect timed out".to_owned()))),
            9 => steps(many, lane, 2, Some(&Ending::Exit(1))),
            _ if lane > 80 => steps(many, lane, 2, None),
            _ => steps(many, lane, 2, Some(&Ending::Exit(0))),
        }
    }
    let mut done = accept(&library, 7, &publish("发布支付网关 release-pay-v2.7", hosts(2), "v2.7"), &alice);
    start(&mut done);
    steps(&mut done, 0, 1, Some(&Ending::Exit(3)));
    apply(&mut done, 1_000, Event::Closed { outcome: Outcome::Failed });
    let line = HistoryLine::of(&done, &record(&done).unwrap());
    let past = (0..40)
        .map(|n| HistoryLine {
            id: TaskId(if n == 0 { 7 } else { 1_000 - n }),
            outcome: if n % 5 == 0 { Outcome::Failed } else { Outcome::Ok },
            ended: NOW.plus_ms(-i64::try_from(n).unwrap() * 3_600_000),
            ..line.clone()
        })
        .collect();
    World { library: Arc::new(library), runs, done, past }
}

/// Two files that were refused.
fn refused() -> Vec<RefusedFile> {
    let file = |name: &str, ago_ms: i64, problems: Vec<Problem>| RefusedFile {
        by: "alice".to_owned(),
        refusal: Why {
            at: NOW.plus_ms(-ago_ms),
            from: "new".to_owned(),
            name: name.to_owned(),
            uid: Some(1001),
            problems,
        },
    };
    let host = Problem::new("/hosts/1", "web-9999", "hosts of the inventory");
    let hosts = vec![host, Problem::new("/args", "no TAG", "a value for TAG").at(3, 7)];
    vec![
        file("nightly-\u{202e}backup.json", 60_000, hosts),
        file("发布.json", 90_000_000, vec![Problem::new("", "half a file", "JSON").at(1, 1)]),
    ]
}

/// A dashboard with something of everything.
pub(super) fn stage(size: (u16, u16), lang: Lang, theme: Theme) -> Model {
    let world = world();
    let me = Person { actor: actor(1002, "bob"), groups: BTreeSet::from(["ops".to_owned()]) };
    let look = Look { theme, ascii: true, words: lang.words() };
    let mut model = Model::new(me, world.library.zone.clone(), look, lang, NOW, size);
    for run in &world.runs {
        update(&mut model, Message::Stands(Box::new(view_of(run)), run.state()));
        update(&mut model, Message::Opened(Box::new(run.clone())));
    }
    update(&mut model, Message::Opened(Box::new(world.done.clone())));
    let (count, lines) = (world.past.len(), world.past.clone());
    update(&mut model, Message::Recent { all: count, failed: 8, lines: lines.clone() });
    update(&mut model, Message::History { of: HistoryWant::default(), count, start: 0, lines });
    update(&mut model, Message::Daemon(Some(Serving { pid: "4242".to_owned(), lacks: None, limited: None })));
    update(&mut model, Message::Library(Ok(Arc::clone(&world.library))));
    let entry = Entry::of_daemon(NOW, "daemon_started", Some("policy.toml sha256:00".to_owned()));
    let audit = (1..30).map(|seq| Line { seq, prev: Digest::of(b""), entry: entry.clone() }).collect();
    update(&mut model, Message::Audit(audit));
    update(&mut model, Message::Refusals { count: 2, files: Some(refused()) });
    let key =
        LogKey { task: TaskId(5), host: "web-0001".parse().unwrap(), step: "publish".parse().unwrap(), attempt: 1 };
    let tail = Tail { length: 90, lines: vec![b"\x1b[31mE: Could not get lock\x1b[0m /var/lib/dpkg".to_vec()] };
    update(&mut model, Message::Tails(BTreeMap::from([(key, tail)])));
    model
}

pub(super) fn key(code: KeyCode) -> Message {
    Message::Key(KeyEvent::new(code, KeyModifiers::NONE))
}

pub(super) fn ctrl(c: char) -> Message {
    Message::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL))
}

pub(super) fn keys(model: &mut Model, text: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    for c in text.chars() {
        let code = match c {
            '\n' => KeyCode::Enter,
            '\t' => KeyCode::Tab,
            '\x1b' => KeyCode::Esc,
            '^' => KeyCode::End,
            c => KeyCode::Char(c),
        };
        commands.extend(update(model, key(code)));
    }
    commands
}
