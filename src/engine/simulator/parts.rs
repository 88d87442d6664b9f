//! What the simulator is made of: numbers from a seed, a library that changes, what people would do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::base::ids::HostName;
use crate::base::time::Zone;
use crate::domain::file_step::NoFiles;
use crate::domain::hook::Hooks;
use crate::domain::inventory::Inventory;
use crate::domain::inventory::host::{Connection, Host, Says};
use crate::domain::known_hosts::KnownHosts;
use crate::domain::library::{Defaults, Library};
use crate::domain::policy::Policy;
use crate::domain::run::{Run, Stage};
use crate::domain::share::Shares;
use crate::domain::template::{Catalogue, Template};
use crate::engine::simulator::disk::Disk;

pub(super) const SLOTS: usize = 3;
/// How long every interval between batches and every delay before a retry is.
pub(super) const WAIT_MS: i64 = 3_000;
/// How late something may be.
pub(super) const LATE_AFTER_MS: i64 = 20_000;
const POLICY: &str = r#"
    [[submit]]
    who = ["*"]
    templates = ["*"]
    into = ["new", "ready"]
    [[approve]]
    who = ["boss", "deputy"]
    templates = ["*"]
    [[approve]]
    who = ["boss", "deputy"]
    templates = ["twice"]
    approvals = 2
    [[control]]
    who = ["boss"]
    templates = ["*"]
"#;

/// Numbers from a seed (`splitmix64`), so that a failing day can be lived again.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    /// Rolls a number from `least` to `most`.
    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.roll(most - least + 1)
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

/// The library in its `version`: other rules every time, and every other time another user to log in as, which makes
/// every plan another one.
pub(super) fn library(version: u64) -> Arc<Library> {
    thread_local! {
        static KNOWN: std::cell::RefCell<BTreeMap<u64, Arc<Library>>> = const { std::cell::RefCell::new(BTreeMap::new()) };
    }
    KNOWN.with_borrow_mut(|known| Arc::clone(known.entry(version).or_insert_with(|| Arc::new(build_library(version)))))
}

/// The rules of a version: now and then boss must approve, deputy may not, and nobody goes without approval.
fn policy_text(version: u64) -> String {
    let mut text = POLICY.to_owned();
    match version % 5 {
        1 => text += "[[require]]\nof = [\"boss\"]\n",
        2 => text = text.replace("\"boss\", \"deputy\"", "\"boss\", \"deputy2\""),
        3 => text = text.replace("into = [\"new\", \"ready\"]", "into = [\"new\"]"),
        _ => {}
    }
    text
}

fn build_library(version: u64) -> Library {
    let template = |text: &str| Template::parse("t.toml", text, &BTreeMap::new()).expect("parses");
    let plain = template(
        "id = 1\nname = \"plain\"\ntitle = \"t\"\nother_params = true\n\
         [[step]]\nname = \"a\"\nscript = \"true\"\n[[step]]\nname = \"b\"\nscript = \"true\"\nretries = 2\nretry_delay = 3\non_failure = \"continue\"\n\
         [[step]]\nname = \"c\"\nscript = \"true\"\n",
    );
    let gated = template(
        "id = 3\nname = \"gated\"\ntitle = \"t\"\nmissed = \"run\"\n[[step]]\nname = \"a\"\nscript = \"true\"\n\
         [[step]]\nname = \"m\"\nscript = \"true\"\ntrigger = \"manual\"\n\
         [[step]]\nname = \"t\"\nscript = \"true\"\ntrigger = \"timed\"\n",
    );
    let twice = template(
        "id = 2\nname = \"twice\"\ntitle = \"t\"\n[[step]]\nname = \"a\"\nscript = \"true\"\n\
         [[step]]\nname = \"z\"\ngroup = 2\nscript = \"true\"\n",
    );
    let undo = template(
        "id = 4\nname = \"undo\"\ntitle = \"t\"\nmissed = \"run\"\n\
         [[step]]\nname = \"a\"\nscript = \"true\"\non_failure = \"continue\"\nrollback = { script = \"undo a\" }\n\
         [[step]]\nname = \"b\"\nscript = \"true\"\nwhen = \"steps.a.code == 0\"\nrollback = { script = \"undo b\" }\n\
         [[step]]\nname = \"m\"\nscript = \"true\"\ntrigger = \"manual\"\nwhen = \"steps.b.outcome != 'skipped'\"\n\
         [[step]]\nname = \"c\"\nscript = \"true\"\nretries = 1\non_failure = \"rollback\"\n\
         handler = { script = \"help\" }\nrollback = { script = \"undo c\", partial = true }\n\
         [[step]]\nname = \"z\"\ngroup = 2\nscript = \"true\"\nwhen = \"host.name != 'h2'\"\n\
         [[group]]\nnumber = 2\nhosts_of = 1\n",
    );
    let hosts = (1..=6).map(|n| {
        let name: HostName = format!("h{n}").parse().expect("a name");
        let host = Host {
            name: name.clone(),
            address: format!("127.0.0.{n}"),
            port: 22,
            user: None,
            key: None,
            key_passphrase: None,
            connection: Connection::Ssh,
            jobs: 1,
            jump: Vec::new(),
            proxy_command: None,
            says: Says::default(),
            tags: BTreeSet::new(),
            vars: BTreeMap::new(),
        };
        (name, host)
    });
    Library {
        catalogue: Catalogue::assemble(if version % 7 == 6 {
            vec![plain, twice]
        } else {
            vec![plain, twice, gated, undo]
        })
        .expect("unique"),
        inventory: Inventory { hosts: hosts.collect(), ..Inventory::default() },
        known_hosts: KnownHosts::default(),
        ssh: None,
        policy: Policy::parse("policy.toml", &policy_text(version), &Zone::utc()).expect("parses"),
        defaults: Defaults {
            user: format!("ops{}", version / 2),
            key: None,
            key_passphrase: None,
            hosts_per_group: 100,
            hosts_in_flight: SLOTS,
            late_after_ms: LATE_AFTER_MS,
        },
        tags: BTreeMap::new(),
        files: Arc::new(NoFiles),
        zone: Zone::utc(),
        hooks: Hooks::default(),
        shares: Shares::default(),
    }
}

/// The orders that let a run go on.
pub(super) fn wanted_releases(run: &Run) -> Vec<String> {
    use crate::domain::run::lane::Next;
    let mut orders = Vec::new();
    if run.held().is_some() {
        orders.push(format!(r#"{{"order":"release","task":{}}}"#, run.id));
    }
    if let Some(wait) = run.batch_wait.filter(|wait| wait.gate && run.held().is_none()) {
        let (group, batch) = (wait.group, wait.batch);
        orders.push(format!(r#"{{"order":"continue","task":{},"group":{group},"batch":{batch}}}"#, run.id));
    }
    for lane in &run.lanes {
        let steps = &run.plan.group(lane.group).expect("its group").steps;
        if let (Stage::Running { timed, .. }, true) = (&run.stage, run.held().is_none())
            && let Next::Asks { step } = lane.next_step(steps, *timed)
        {
            let (step, host) = (&steps[step].name, &lane.host);
            orders.push(format!(r#"{{"order":"release","task":{},"step":"{step}","hosts":["{host}"]}}"#, run.id));
        }
    }
    orders
}

/// What handles or undoes is only taken after a failure, in order, and never makes it good.
pub(super) fn no_failure_is_laundered(run: &Run) {
    use crate::domain::outcome::Outcome;
    use crate::domain::run::StepState;
    use crate::domain::run::lane::Role;
    for lane in &run.lanes {
        let bad = |n: usize| match &lane.steps[n].state {
            StepState::Ended(result) => result.ending.outcome() != Outcome::Ok,
            _ => false,
        };
        let failed = (0..lane.steps.len()).filter(|n| lane.steps[*n].is_step() && bad(*n)).max();
        if failed.is_some() {
            assert!(lane.outcome() != Outcome::Ok, "a failure on {} counts as none", lane.host);
        }
        let mut before_is_over = true;
        for step in lane.steps.iter().filter(|step| matches!(step.role, Role::Rollback { .. })) {
            let begun = step.state != StepState::Waiting;
            assert!(!begun || failed.is_some(), "something was undone on {} without a failure", lane.host);
            assert!(!begun || before_is_over, "two things were undone at once on {}", lane.host);
            let Role::Rollback { of, .. } = step.role else { continue };
            let needed = matches!(&lane.steps[of].state, StepState::Ended(_)) && !bad(of);
            before_is_over &= !needed || matches!(step.state, StepState::Ended(_) | StepState::Skipped(_));
        }
        for (n, step) in lane.steps.iter().enumerate() {
            if let (Role::Handler(of), true) = (step.role, step.state != StepState::Waiting) {
                assert!(bad(of), "step {n} on {} handles no failure", lane.host);
            }
        }
        if let (Stage::Done { outcome, .. }, true) = (&run.stage, failed.is_some()) {
            assert!(*outcome != Outcome::Ok, "task {} is ok with a failure on {}", run.id, lane.host);
        }
    }
}

/// No order is obeyed or refused twice, however often its file is seen.
pub(super) fn orders_count_once(disk: &Disk) {
    let answers = disk.runs.values().flat_map(|(_, events)| events).filter_map(|recorded| recorded.event.order());
    let mut answered = BTreeSet::new();
    for order in answers {
        assert!(answered.insert(order) && !disk.bad.contains(&order.name), "{} was answered twice", order.name);
    }
}
