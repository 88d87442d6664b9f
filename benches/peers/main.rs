//! Measures the whole program beside the tools that people use for the same work: OpenSSH under xargs and with kept
//! connections, pssh, pdsh, clush, parallel-ssh, asyncssh, pyinfra, Ansible and Mitogen.
//!
//! All of them reach the same sshd, one address a host, with one key exchange, cipher and kind of host key, as many hosts at
//! once: on loopback, or by `LINK=lan` and `LINK=wan` over a cable with an MTU of 1500 and round trips of 1 or 50 ms. They run
//! in turn within each round; figures are medians. The daemon's wall is from the rename into `spool/ready` to the record in
//! `spool/done`. Prints figures and ratios of one run; judges nothing. `.ci/install-peers` installs the tools. Sizes: `HOSTS`,
//! `FIVE`, `ROUNDS`, `AT_ONCE` (64 hosts); `TOOLS=spoolgate,ssh-xargs` are those alone. `TRIPS=9` counts round trips instead, on
//! that many hosts, one after the other.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures go to stdout, what happens meanwhile to stderr"
)]
#![expect(clippy::unwrap_used, reason = "a benchmark that meets a surprise stops")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

#[path = "../../tests/it/link.rs"]
mod link;
#[path = "../measure/mod.rs"]
#[expect(dead_code, reason = "other benchmarks use the rest")]
mod measure;
mod meter;
#[path = "../../tests/it/patience.rs"]
mod patience;
#[path = "../../tests/it/relay.rs"]
#[expect(dead_code, reason = "tests use the rest of the relay")]
mod relay;
#[path = "../../tests/it/sshd.rs"]
#[expect(dead_code, reason = "tests use the rest of the server")]
mod sshd;
mod tools;
mod trips;
#[path = "../../tests/it/world.rs"]
#[expect(dead_code, reason = "tests use the rest of the world")]
mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use measure::{from_env, median, round_trip, run_task, server, way};
use meter::{Cost, Meter};
use serde_json::json;
use sshd::Sshd;
use tools::{Files, Job};
use world::World;

/// A tool that took longer, in seconds, runs in the first round only.
const SLOW_S: f64 = 20.0;
/// How long a tool may take at all.
const LIMIT: Duration = Duration::from_mins(10);

fn main() {
    // `cargo test --benches` runs this too; measuring is for `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let (hosts, five) = (from_env("HOSTS", 500), from_env("FIVE", 100));
    if std::env::var_os("TRIPS").is_some() {
        return trips::count(from_env("TRIPS", 9));
    }
    let sshd = server(round_trip(), measure::ONE_CRYPTO);
    let addresses = |count: usize| (0..count).map(|n| sshd.address(n)).collect::<Vec<_>>();
    let jobs = [
        Job { name: "one", steps: &["true"], addresses: addresses(hosts), base: "ssh-xargs" },
        Job {
            name: "five",
            steps: &["true", "hostname", "uptime", "id", "true"],
            addresses: addresses(five),
            base: "ssh-mux",
        },
    ];
    let mut bench = Bench::new(sshd, hosts.max(five), &jobs);
    for job in jobs.iter().filter(|job| !job.addresses.is_empty()) {
        let costs = bench.rounds(job, from_env("ROUNDS", 3).max(1));
        print_table(job, &costs, bench.meter.how());
    }
}

/// The server, the daemon, and what was done so far.
struct Bench {
    world: World,
    sshd: Sshd,
    // After what it counts: a control group goes away when it is empty.
    meter: Meter,
    tasks: usize,
    runs: usize,
    /// The tools that were asked for; all of them when there is none.
    only: Vec<String>,
}

impl Bench {
    fn new(sshd: Sshd, hosts: usize, jobs: &[Job]) -> Bench {
        let named: Vec<(String, String)> = (0..hosts).map(|n| (format!("h{n}"), sshd.address(n))).collect();
        let pairs: Vec<(&str, &str)> = named.iter().map(|(name, address)| (name.as_str(), address.as_str())).collect();
        let mut world = World::new(&pairs, Some(&sshd));
        let config = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
        let at_once = at_once();
        let limits = format!("[limits]\nhosts_in_flight = {at_once}\nhosts_per_group = {hosts}\n");
        world.write_etc("spoolgate.toml", &(config + &limits));
        let step = |(n, step): (usize, &&str)| format!("[[step]]\nname = \"s{n}\"\nscript = \"{step}\"\n");
        for (n, job) in jobs.iter().enumerate() {
            let steps: String = job.steps.iter().enumerate().map(step).collect();
            let head = format!("id = {}\nname = \"{}\"\ntitle = \"t\"\n", 900 + n, job.name);
            world.write_etc(&format!("templates/{}.toml", job.name), &(head + &steps));
        }
        world.start();
        let only = std::env::var("TOOLS").unwrap_or_default();
        let only = only.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let meter = Meter::new(pid_of_sshd(), world.daemon_pid());
        Bench { world, sshd, meter, tasks: 0, runs: 0, only }
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == name)
    }

    /// Runs every tool in turn, round after round.
    fn rounds(&mut self, job: &Job, rounds: usize) -> BTreeMap<&'static str, Vec<Cost>> {
        let mut costs: BTreeMap<&'static str, Vec<Cost>> = BTreeMap::new();
        for round in 1..=rounds {
            if self.wants("spoolgate") {
                let cost = self.ours(job);
                say(job, round, "spoolgate", &cost);
                costs.entry("spoolgate").or_default().push(cost);
            }
            let dir = self.world.etc().with_file_name("peers");
            std::fs::create_dir_all(&dir).unwrap();
            self.runs += 1;
            for tool in Files::write(&self.sshd, &dir, job, at_once(), self.runs).tools(job) {
                let slow = costs.get(tool.name).is_some_and(|before| before[0].wall > SLOW_S);
                if !self.wants(tool.name) || slow {
                    continue;
                }
                if !tool.is_there() {
                    eprintln!("{} is not installed: .ci/install-peers", tool.name);
                    continue;
                }
                let out = dir.join("out");
                let argv = [self.sshd.near_words(), tool.argv.clone()].concat();
                let (success, mut cost) = self.meter.tool(&argv, &tool.env, &out, LIMIT);
                let said = String::from_utf8_lossy(&std::fs::read(&out).unwrap()).into_owned();
                cost.ok = tool.ok(success, &said, job.addresses.len());
                if cost.ok < job.addresses.len() {
                    let tail: Vec<&str> = said.lines().rev().take(12).collect();
                    eprintln!("{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
                }
                say(job, round, tool.name, &cost);
                costs.entry(tool.name).or_default().push(cost);
            }
        }
        costs
    }

    /// Drops a task for all hosts of a job.
    fn ours(&mut self, job: &Job) -> Cost {
        self.tasks += 1;
        let (world, task) = (&self.world, self.tasks);
        let hosts: Vec<String> = (0..job.addresses.len()).map(|n| format!("h{n}")).collect();
        let text = json!({"task_name": job.name, "temp_id": job.name, "hosts": {"1": hosts}}).to_string();
        let mut cost = self.meter.ours(|| run_task(world, task, &text, LIMIT));
        let record = world.record(task as u64);
        cost.ok = record["outcomes"].as_object().unwrap().values().filter(|outcome| *outcome == "ok").count();
        cost
    }
}

/// The child of this process that listens for SSH.
fn pid_of_sshd() -> u32 {
    let me = std::process::id().to_string();
    let listens = |pid: &u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        stat.contains("(sshd)") && parent == Some(&me)
    };
    let processes = std::fs::read_dir("/proc").unwrap();
    let mut pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.find(listens).unwrap()
}

fn say(job: &Job, round: usize, tool: &str, cost: &Cost) {
    eprintln!(
        "{} round {round}: {tool} {:.2} s, client {:.2} s, server {:.2} s, {} ok",
        job.name, cost.wall, cost.client, cost.server, cost.ok
    );
}

/// How many hosts every tool works on at once.
fn at_once() -> usize {
    from_env("AT_ONCE", 64)
}

/// Prints medians, the quickest tool first, and what they are to the job's base and to us.
fn print_table(job: &Job, costs: &BTreeMap<&'static str, Vec<Cost>>, how: &str) {
    let (hosts, base, at_once) = (job.addresses.len(), job.base, at_once());
    println!(
        "\n{}: `{}` on {hosts} hosts, {}, {at_once} at once, curve25519-sha256 + aes128-gcm + ed25519 on both sides; medians; CPU by {how}",
        job.name,
        job.steps.join("`, `"),
        way(round_trip())
    );
    println!("{:<13} runs  wall s  x {base:<10} min..max s     client ms/host  x {base:<10} server s   MB  ok", "");
    let mut rows: Vec<(&str, Medians, &Vec<Cost>)> =
        costs.iter().map(|(tool, costs)| (*tool, Medians::of(costs), costs)).collect();
    rows.sort_by(|a, b| a.1.wall.total_cmp(&b.1.wall));
    let find = |name: &str| rows.iter().find(|(tool, ..)| *tool == name).map(|(_, medians, _)| medians);
    let ratio = |figure: f64, of: fn(&Medians) -> f64| {
        find(base).map_or("-".to_owned(), |base| format!("{:.2}", figure / of(base)))
    };
    for (tool, medians, costs) in &rows {
        let walls = || costs.iter().map(|cost| cost.wall);
        println!(
            "{tool:<13} {:>4} {:>7.2}  {:<12} {:<15} {:>13.1}  {:<12} {:>8.2} {:>4.0}  {}/{hosts}",
            costs.len(),
            medians.wall,
            ratio(medians.wall, |base| base.wall),
            format!("{:.2}..{:.2}", walls().fold(f64::MAX, f64::min), walls().fold(0.0, f64::max)),
            1e3 * medians.client / hosts as f64,
            ratio(medians.client, |base| base.client),
            medians.server,
            medians.rss,
            costs.iter().map(|cost| cost.ok).min().unwrap_or(0),
        );
    }
    if let Some(ours) = find("spoolgate") {
        println!(
            "spoolgate: {:.2} ms of CPU a host; how many times as long others take, and use the CPU:",
            1e3 * ours.client / hosts as f64
        );
        let times = |(tool, other, _): &(&str, Medians, &Vec<Cost>)| {
            format!("{tool} {:.2} {:.1}", other.wall / ours.wall, other.client / ours.client)
        };
        let others: Vec<String> = rows.iter().filter(|(tool, ..)| *tool != "spoolgate").map(times).collect();
        println!("  {}", others.join(", "));
    }
}

/// The middle of every figure of several runs.
struct Medians {
    wall: f64,
    client: f64,
    server: f64,
    rss: f64,
}

impl Medians {
    fn of(costs: &[Cost]) -> Medians {
        let middle = |figure: fn(&Cost) -> f64| median(costs.iter().map(figure));
        Medians {
            wall: middle(|cost| cost.wall),
            client: middle(|cost| cost.client),
            server: middle(|cost| cost.server),
            rss: middle(|cost| cost.rss),
        }
    }
}
