//! Measures how long a task of many hosts takes to resolve to a plan and its digest, and how much memory; and what a daemon
//! costs beside which a thousand tasks wait for somebody.
//!
//! Prints figures of one run; judges nothing. Needs root.
#![expect(clippy::print_stdout, reason = "figures go to stdout")]
#![expect(clippy::unwrap_used, reason = "a benchmark that meets a surprise stops")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

#[path = "../tests/it/link.rs"]
#[expect(dead_code, reason = "tests use the rest of the link")]
mod link;
#[path = "../tests/it/patience.rs"]
mod patience;
#[path = "../tests/it/relay.rs"]
#[expect(dead_code, reason = "tests use the rest of the relay")]
mod relay;
#[path = "../tests/it/sshd.rs"]
#[expect(dead_code, reason = "worlds may have a server; these have none")]
mod sshd;
#[path = "../tests/it/world.rs"]
#[expect(dead_code, clippy::print_stderr, reason = "tests use the rest of the world")]
mod world;

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;
use spoolgate::base::time::Zone;
use spoolgate::domain::file_step::NoFiles;
use spoolgate::domain::hook::Hooks;
use spoolgate::domain::inventory::Inventory;
use spoolgate::domain::known_hosts::KnownHosts;
use spoolgate::domain::library::{Defaults, Library};
use spoolgate::domain::policy::Policy;
use spoolgate::domain::resolve::resolve;
use spoolgate::domain::share::Shares;
use spoolgate::domain::template::{Catalogue, Template};
use spoolgate::domain::wire::read_task;
use world::{World, wait_at_most};

fn main() {
    // `cargo test --benches` runs this too; measuring is for `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    if let Ok(hosts) = std::env::var("PLAN_HOSTS") {
        return plan(hosts.parse().unwrap());
    }
    // A process each, so that the peak of one is not that of another.
    for hosts in ["1000", "10000", "100000"] {
        let own = std::env::current_exe().unwrap();
        assert!(Command::new(own).arg("--bench").env("PLAN_HOSTS", hosts).status().unwrap().success());
    }
    waiting();
}

/// Returns a figure of a process in kilobytes.
fn kilobytes(pid: &str, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit()).parse().unwrap()
}

fn library(hosts: usize) -> Library {
    let steps: String =
        (1..=5).map(|n| format!("[[step]]\nname = \"s{n}\"\nscript = \"echo {n}\"\nargs = [\"{{TAG}}\"]\n")).collect();
    let text = format!("id = 1\nname = \"t\"\ntitle = \"t\"\n[[param]]\nname = \"TAG\"\nrequired = true\n{steps}");
    let address = |n: usize| format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255);
    let lines = (0..hosts).map(|n| format!("host-{n:06} ansible_host={} rack=r{}\n", address(n), n % 97));
    let inventory =
        format!("[web]\n{}[site:children]\nweb\n[site:vars]\nenvironment=prod\n", lines.collect::<String>());
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE0M2fRLNbMJ2qSRhYCSqVrW1rD1fVJ0QX6H6dWxF0mU";
    let known: String = (0..hosts).map(|n| format!("{} {key}\n", address(n))).collect();
    Library {
        catalogue: Catalogue::assemble(vec![Template::parse("t.toml", &text, &BTreeMap::new()).unwrap()]).unwrap(),
        inventory: Inventory::assemble(vec![("hosts.ini".to_owned(), inventory)]).unwrap(),
        known_hosts: KnownHosts::parse(&known),
        ssh: None,
        policy: Policy::Personal { owner: 0 },
        defaults: Defaults {
            user: "root".to_owned(),
            key: None,
            key_passphrase: None,
            hosts_per_group: hosts,
            hosts_in_flight: 100,
            late_after_ms: 0,
        },
        tags: BTreeMap::new(),
        files: std::sync::Arc::new(NoFiles),
        zone: Zone::utc(),
        hooks: Hooks::default(),
        shares: Shares::default(),
    }
}

fn plan(hosts: usize) {
    let begin = Instant::now();
    let library = library(hosts);
    let read = begin.elapsed();
    for (how, wished) in [
        ("by selector", json!("tag:web")),
        ("by name", json!((0..hosts).map(|n| format!("host-{n:06}")).collect::<Vec<_>>())),
        (
            "by address",
            json!((0..hosts).map(|n| format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255)).collect::<Vec<_>>()),
        ),
    ] {
        let task = json!({"task_name": "t", "temp_id": 1, "args": {"TAG": "v1"}, "hosts": {"1": wished}}).to_string();
        let Ok(submission) = read_task(task.as_bytes(), &library.zone) else {
            println!("{hosts:>7} hosts {how}: more than a task file may hold");
            continue;
        };
        let before = kilobytes("self", "VmRSS:");
        let (mut times, mut digests): (Vec<Duration>, Vec<Duration>) = (Vec::new(), Vec::new());
        let mut bytes = 0;
        for _ in 0..5 {
            let begin = Instant::now();
            let plan = resolve(&submission, &library).unwrap();
            let resolved = begin.elapsed();
            let _ = plan.digest();
            times.push(begin.elapsed());
            digests.push(begin.elapsed().checked_sub(resolved).unwrap_or_default());
            bytes = plan.canonical().len();
        }
        times.sort_unstable();
        digests.sort_unstable();
        let grown = kilobytes("self", "VmHWM:").saturating_sub(before);
        println!(
            "{hosts:>7} hosts x 5 steps {how}: resolve + digest {:.1} ms (best {:.1}; the digest {:.1}), plan {:.1} MB, {:.1} MB above {:.1} MB; inventory read in {:.0} ms",
            times[2].as_secs_f64() * 1e3,
            times[0].as_secs_f64() * 1e3,
            digests[2].as_secs_f64() * 1e3,
            bytes as f64 / 1e6,
            grown as f64 / 1e3,
            before as f64 / 1e3,
            read.as_secs_f64() * 1e3
        );
    }
}

fn waiting() {
    const WAITING: usize = 1000;
    let mut world = World::new(&[], None);
    let hosts: String = (0..=WAITING).map(|n| format!("[host.h{n}]\nconnection = \"local\"\n")).collect();
    world.write_etc("inventory/hosts.toml", &hosts);
    world.write_etc(
        "templates/ask.toml",
        "id = 72\nname = \"ask\"\ntitle = \"t\"\n[[step]]\nname = \"go\"\nscript = \"true\"\ntrigger = \"manual\"\n",
    );
    world.start();
    let pid = world.daemon_pid().to_string();
    let threads = |pid: &str| std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().count();
    let before = (kilobytes(&pid, "VmRSS:"), threads(&pid));
    for n in 0..WAITING {
        let task = json!({"task_name": "waits", "temp_id": "ask", "hosts": {"1": [format!("h{n}")]}}).to_string();
        world.drop_file("ready", &format!("waits-{n}.json"), task.as_bytes(), 0);
    }
    wait_at_most(Duration::from_mins(2), "all of them to wait", || {
        let running = std::fs::read_dir(world.box_dir("running")).unwrap().filter_map(Result::ok);
        (running.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count() == WAITING).then_some(())
    });
    let mut times = Vec::new();
    for n in 0..20 {
        let mark = world.state().join(format!("mark-{n}"));
        let script = format!("date +%s%N >{}", mark.display());
        let task = json!({"task_name": "t", "hosts": {"1": [format!("h{WAITING}")]}, "script": script}).to_string();
        let dropped = u128::try_from(spoolgate::shells::clock::now().0).unwrap() * 1_000_000;
        world.drop_file("ready", &format!("next-{n}.json"), task.as_bytes(), 0);
        let id = world.task_of(&format!("next-{n}"));
        world.record(id);
        let began: u128 = std::fs::read_to_string(mark).unwrap().trim().parse().unwrap();
        times.push(began.saturating_sub(dropped) as f64 / 1e6);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "{WAITING} tasks wait for somebody: RSS {:.1} MB (before {:.1}), {} threads (before {}); a new ready task's script begins after p50 {:.1} ms, at most {:.1} ms",
        kilobytes(&pid, "VmRSS:") as f64 / 1e3,
        before.0 as f64 / 1e3,
        threads(&pid),
        before.1,
        times[times.len() / 2],
        times[times.len() - 1]
    );
}
