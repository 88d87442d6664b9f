//! Measures remote work over SSH as a whole process: how soon a dropped task's script runs on a host that nobody is
//! connected to, how long ten thousand hosts take, and what a connected host costs in memory.
//! `LINK=lan` and `LINK=wan` put a cable with an MTU of 1500 and round trips of 1 or 50 ms between, for `cold` and `upload`.
//!
//! Prints figures and ratios of one run; judges nothing. Needs root (it runs its own sshd) and openssh. `ONLY=cold`,
//! `fleet`, `memory` or `upload` is one part; `FLEET`, `RUNS`, `IN_FLIGHT`, `CONNECTED` and `SAMPLES` are sizes.
#![expect(clippy::print_stdout, reason = "figures go to stdout")]
#![expect(clippy::unwrap_used, reason = "a benchmark that meets a surprise stops")]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

#[path = "../tests/it/fake_ssh.rs"]
#[expect(dead_code, reason = "tests use the rest of the server")]
mod fake_ssh;
#[path = "../tests/it/fleet.rs"]
mod fleet;
#[path = "../tests/it/link.rs"]
mod link;
mod measure;
#[path = "../tests/it/patience.rs"]
mod patience;
#[path = "../tests/it/relay.rs"]
#[expect(dead_code, reason = "tests use the rest of the relay")]
mod relay;
#[path = "../tests/it/sshd.rs"]
#[expect(dead_code, reason = "tests use the rest of the server")]
mod sshd;
#[path = "../tests/it/world.rs"]
#[expect(dead_code, clippy::print_stderr, reason = "tests use the rest of the world")]
mod world;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use fake_ssh::Steps;
use fleet::Fleet;
use measure::{from_env, median, near, pause, round_trip, run_task, server, usage, way, write_ssh_config};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use world::{World, wait_at_most};

fn main() {
    // `cargo test --benches` runs this too; measuring is for `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    // The hosts inside this process are one open file each.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let only = std::env::var("ONLY").unwrap_or_default();
    let parts: [(&str, fn()); 4] = [("cold", cold), ("fleet", many), ("memory", memory), ("upload", upload)];
    // Hosts inside this process are on loopback.
    let on_link = |name: &str| round_trip().is_none() || ["cold", "upload"].contains(&name);
    for (_, part) in parts.iter().filter(|(name, _)| (only.is_empty() && on_link(name)) || only == *name) {
        part();
    }
}

// ---- From the drop to the script's first line, on hosts that nobody is connected to ----

fn cold() {
    let samples = from_env("SAMPLES", 50);
    let sshd = server(round_trip(), measure::ONE_CRYPTO);
    let named: Vec<(String, String)> = (0..samples).map(|n| (format!("h{n}"), sshd.address(n))).collect();
    let hosts: Vec<(&str, &str)> = named.iter().map(|(name, address)| (name.as_str(), address.as_str())).collect();
    let mut world = World::new(&hosts, Some(&sshd));
    let config = world.etc().join("ssh_config");
    write_ssh_config(&config, &world.etc().join("known_hosts"), &sshd);
    let fifo = world.etc().with_file_name("fifo");
    let heard = listen(&fifo);
    let script = format!("echo x >{}", fifo.display());
    world.start();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for (n, (name, address)) in named.iter().enumerate() {
        // A host of its own each time, so that no connection can have been kept.
        let text = json!({"task_name": "t", "script": script, "hosts": {"1": [name]}}).to_string();
        let begin = Instant::now();
        run_task(&world, n + 1, &text, Duration::from_secs(30));
        ours.push(first_line(&heard) - begin);
        let begin = Instant::now();
        let ssh = near(&sshd, "ssh").arg("-F").arg(&config).args([address.as_str(), &script]).status();
        assert!(ssh.unwrap().success());
        theirs.push(first_line(&heard) - begin);
    }
    let figures = |times: &mut Vec<Duration>| {
        times.sort();
        let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_secs_f64() * 1e3;
        (at(50), at(99))
    };
    let (ours, theirs) = (figures(&mut ours), figures(&mut theirs));
    println!(
        "cold, {samples} hosts, {}, curve25519 + aes128-gcm: rename into ready/ to the script's first line p50 {:.1} ms, p99 {:.1} ms; \
         ssh from its start p50 {:.1} ms, p99 {:.1} ms; ratio {:.2}",
        way(round_trip()),
        ours.0,
        ours.1,
        theirs.0,
        theirs.1,
        ours.0 / theirs.0
    );
}

/// Makes a pipe with a name and says when something was written into it: one clock for both ends.
fn listen(path: &Path) -> Receiver<Instant> {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Open for both, so that it never ends.
    let mut pipe = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let (sender, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while pipe.read(&mut buffer).is_ok_and(|count| count > 0) && sender.send(Instant::now()).is_ok() {}
    });
    heard
}

fn first_line(heard: &Receiver<Instant>) -> Instant {
    heard.recv_timeout(Duration::from_secs(20)).unwrap()
}

// ---- Thousands of hosts inside this process ----

fn many() {
    let (hosts, runs, in_flight) = (from_env("FLEET", 10_000), from_env("RUNS", 5), from_env("IN_FLIGHT", 256));
    let steps = Steps::new(false);
    let fleet = Fleet::start(hosts, in_flight, &steps);
    let pid = fleet.world.daemon_pid();
    let mut walls = Vec::new();
    for run in 1..=runs {
        let ((cpu, _), (hosts_cpu, _)) = (usage(pid), usage(std::process::id()));
        let wall = run_task(&fleet.world, run, &fleet.task(), Duration::from_mins(3));
        let ((after, rss), (hosts_after, _)) = (usage(pid), usage(std::process::id()));
        let each = |seconds: f64| 1e3 * seconds / hosts as f64;
        println!(
            "{hosts} hosts in this process, {in_flight} at once, run {run}: {wall:.2} s, {:.0} hosts/s, {:.2} ms of CPU a host and {:.2} of the hosts' own, {:.0} MB resident, {} ok",
            hosts as f64 / wall,
            each(after - cpu),
            each(hosts_after - hosts_cpu),
            rss as f64 / 1024.0,
            fleet.ok(run as u64)
        );
        walls.push(wall);
    }
    let worst = walls.iter().copied().fold(0.0, f64::max);
    println!("{runs} runs in a row: median {:.2} s, worst {worst:.2} s", median(walls.into_iter()));
}

fn memory() {
    let hosts = from_env("CONNECTED", 1_000);
    let steps = Steps::new(true);
    let fleet = Fleet::start(hosts, hosts, &steps);
    let pid = fleet.world.daemon_pid();
    pause(Duration::from_secs(1));
    let (_, before) = usage(pid);
    fleet.world.drop_file("ready", "all.json", fleet.task().as_bytes(), 0);
    wait_at_most(Duration::from_mins(2), "every host to be connected", || (steps.begun() >= hosts).then_some(()));
    pause(Duration::from_secs(2));
    let (_, during) = usage(pid);
    steps.let_go();
    wait_at_most(Duration::from_mins(2), "the record", || {
        (std::fs::read_dir(fleet.world.box_dir("done")).unwrap().count() > 0).then_some(())
    });
    pause(Duration::from_secs(1));
    let (_, after) = usage(pid);
    println!(
        "{hosts} hosts connected at once, each with a running step: {:.1} kB a host ({:.1} MB before, {:.1} during, {:.1} after); {} ok",
        (during as f64 - before as f64) / hosts as f64,
        before as f64 / 1024.0,
        during as f64 / 1024.0,
        after as f64 / 1024.0,
        fleet.ok(1)
    );
}

// ---- Files to a host ----

/// How fast 200 MB get to a host, beside `scp -O` in the same rounds.
/// Both with their connection; ours with both digests, the move to its place and the record, too.
fn upload() {
    let bytes = from_env("UPLOAD_MB", 200) * 1_000_000;
    let sshd = server(round_trip(), measure::ONE_CRYPTO);
    let address = sshd.address(0);
    let mut world = World::new(&[("web1", &address)], Some(&sshd));
    let config = world.etc().join("ssh_config");
    write_ssh_config(&config, &world.etc().join("known_hosts"), &sshd);
    std::fs::create_dir(world.etc().join("files")).unwrap();
    let from = noise(&world.etc().join("files/noise"), bytes);
    let template = "id = 90\nname = \"put\"\ntitle = \"t\"\n[[param]]\nname = \"TO\"\ntype = \"path\"\n\
                    required = true\n[[step]]\nname = \"put\"\ncopy = \"noise\"\nto = \"{TO}\"\n";
    world.write_etc("templates/put.toml", template);
    world.start();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let rate = |begin: Instant| bytes as f64 / 1e6 / begin.elapsed().as_secs_f64();
        let to = world.etc().join(format!("scp-{round}"));
        let begin = Instant::now();
        let scp = near(&sshd, "scp")
            .args(["-O", "-q", "-F"])
            .arg(&config)
            .arg(&from)
            .arg(format!("{address}:{}", to.display()))
            .stdin(Stdio::null())
            .status();
        assert!(scp.unwrap().success());
        theirs.push(rate(begin));
        std::fs::remove_file(&to).unwrap();
        let to = world.etc().join(format!("ours-{round}"));
        let task = json!({"task_name": "t", "temp_id": 90, "hosts": {"1": ["web1"]}, "args": {"TO": to}}).to_string();
        let begin = Instant::now();
        run_task(&world, round + 1, &task, Duration::from_mins(1));
        ours.push(rate(begin));
        assert_eq!(std::fs::metadata(&to).unwrap().len(), bytes as u64);
        std::fs::remove_file(&to).unwrap();
    }
    let (ours, theirs) = (median(ours.into_iter()), median(theirs.into_iter()));
    let (mb, way) = (bytes / 1_000_000, way(round_trip()));
    println!("{mb} MB to a host, {way}: {ours:.0} MB/s, scp -O {theirs:.0}: {:.2} x", ours / theirs);
}

/// Writes a file that no compression makes smaller.
fn noise(path: &Path, bytes: usize) -> PathBuf {
    let random = std::fs::File::open("/dev/urandom").unwrap();
    std::io::copy(&mut random.take(bytes as u64), &mut std::fs::File::create(path).unwrap()).unwrap();
    path.to_owned()
}
