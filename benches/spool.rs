//! Measures the daemon as a whole process: how fast dropped files become durable tasks, how soon a dropped task is on
//! its way to a host, what an idle daemon costs, and what five hundred hosts cost beside OpenSSH under xargs.
//!
//! Prints figures and ratios of one run; judges nothing. Needs root (it runs its own sshd) and openssh.
#![expect(clippy::print_stdout, reason = "figures go to stdout")]
#![expect(clippy::unwrap_used, reason = "a benchmark that meets a surprise stops")]
#![expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "figures are rounded anyway")]

#[path = "../tests/it/link.rs"]
mod link;
#[expect(dead_code, reason = "other benchmarks use the rest")]
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

use std::io::{Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use measure::{pause, usage, write_ssh_config};
use serde_json::json;
use sshd::Sshd;
use world::{World, wait_at_most};

fn main() {
    // `cargo test --benches` runs this too; measuring is for `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    idle();
    first_byte();
    intake();
    audit();
    fan_out();
}

fn idle() {
    let mut world = World::new(&[("web1", "127.0.1.1")], None);
    world.start();
    pause(Duration::from_secs(1));
    let (before, _) = usage(world.daemon_pid());
    let time = Duration::from_secs(35);
    pause(time);
    let (after, rss_kb) = usage(world.daemon_pid());
    let share = 100.0 * (after - before) / time.as_secs_f64();
    println!(
        "idle daemon, {} s with a rescan: {share:.2} % CPU, {:.1} MB resident",
        time.as_secs(),
        rss_kb as f64 / 1024.0
    );
}

fn first_byte() {
    const SAMPLES: usize = 40;
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut world = World::new(&[("web1", "127.0.1.1")], None);
    world.write_etc("inventory/hosts.toml", &format!("[host.web1]\naddress = \"127.0.1.1\"\nport = {port}\n"));
    // Any key is known, so that the daemon connects; the listener only takes its first bytes.
    let key = "AAAAC3NzaC1lZDI1NTE5AAAAINkkXWfS03NG0BJHz03SmaFYYUzzyfGg0+2tk4DeaDPl";
    world.write_etc("known_hosts", &format!("[127.0.1.1]:{port} ssh-ed25519 {key}\n"));
    // A server that never says who it is, is given up after a second, and not tried again.
    let settings = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &settings.replace("[ssh]\n", "[ssh]\nconnect_timeout_s = 1\n"));
    world.start();
    let mut times: Vec<Duration> = (0..SAMPLES)
        .map(|n| {
            let text = json!({"task_name": "t", "temp_id": 1, "hosts": {"1": ["web1"]}}).to_string();
            let staged = world.own_dir("ready", 0).join(".staged");
            std::fs::write(&staged, text).unwrap();
            let begin = Instant::now();
            std::fs::rename(&staged, world.own_dir("ready", 0).join(format!("t{n}.json"))).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            let time = begin.elapsed();
            wait_at_most(Duration::from_secs(20), "the task to end", || {
                (std::fs::read_dir(world.box_dir("done")).unwrap().count() > n).then_some(())
            });
            time
        })
        .collect();
    times.sort();
    println!(
        "rename into ready/ to the first SSH byte sent: p50 {:.2?}, p90 {:.2?}, worst {:.2?}",
        times[SAMPLES / 2],
        times[SAMPLES * 9 / 10],
        times[SAMPLES - 1]
    );
}

fn intake() {
    const FILES: usize = 10_000;
    let text =
        json!({"task_name": "burst", "temp_id": 1, "hosts": {"1": ["web1"]}, "args": {"VERSION": "v".repeat(600)}});
    let text = text.to_string();
    let mut rates = Vec::new();
    let mut floor = Vec::new();
    for _ in 0..3 {
        floor.push(write_sync_rename(text.as_bytes(), FILES));
        let mut world = World::new(&[("web1", "127.0.1.1")], None);
        world.start();
        world.kill_daemon();
        for n in 0..FILES {
            std::fs::write(world.own_dir("new", 0).join(format!("b{n}.json")), &text).unwrap();
        }
        let old = Duration::from_millis(2_100);
        pause(old);
        let begin = Instant::now();
        world.start();
        let runs = world.state().join("runs");
        wait_at_most(Duration::from_mins(2), "10,000 tasks", || {
            // A directory's link count is its subdirectories and two.
            let tasks = std::fs::metadata(&runs).unwrap().nlink();
            let boxed = || std::fs::read_dir(world.own_dir("new", 0)).unwrap().count();
            (tasks as usize >= FILES && boxed() == FILES).then_some(())
        });
        rates.push(FILES as f64 / begin.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    floor.sort_by(f64::total_cmp);
    println!(
        "10,000 dropped files: {:.0} durable tasks/s; 16 threads write + fsync + rename + fsync dir: {:.0} files/s; ratio {:.2}",
        rates[1],
        floor[1],
        rates[1] / floor[1]
    );
}

/// What 16 threads manage that do nothing but write, sync, rename and sync the directory; files a second.
fn write_sync_rename(bytes: &[u8], files: usize) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let dir = dir.path();
            scope.spawn(move || {
                for n in 0..files / 16 {
                    let staged = dir.join(format!(".{thread}-{n}"));
                    let mut file = std::fs::File::create(&staged).unwrap();
                    file.write_all(bytes).unwrap();
                    file.sync_data().unwrap();
                    std::fs::rename(&staged, dir.join(format!("{thread}-{n}.json"))).unwrap();
                    std::fs::File::open(dir).unwrap().sync_all().unwrap();
                }
            });
        }
    });
    files as f64 / begin.elapsed().as_secs_f64()
}

/// How long the whole chain of a million acts takes to check.
fn audit() {
    use spoolgate::base::ids::Actor;
    use spoolgate::base::time::Timestamp;
    use spoolgate::domain::audit::{Entry, Head};
    const LINES: i64 = 1_000_000;
    let world = World::new(&[], None);
    let dir = world.state().join("audit");
    std::fs::create_dir_all(&dir).unwrap();
    let mut head = Head::default();
    let mut file = std::io::BufWriter::new(std::fs::File::create(dir.join("2026-11.jsonl")).unwrap());
    let by = Actor { uid: 1000, user: "alice".to_owned() };
    for n in 0..LINES {
        let detail = Some("plan 0123abcd, to start at 2026-11-21T09:09:50.000Z".to_owned());
        let entry = Entry { by: Some(by.clone()), ..Entry::of_daemon(Timestamp(n), "approved", detail) };
        file.write_all(&head.write(entry)).unwrap();
    }
    file.into_inner().unwrap();
    let begin = Instant::now();
    world.run(0, &["audit", "verify", "--head", &head.to_string()]).ok();
    println!("audit of {LINES} lines, verified: {:.2} s", begin.elapsed().as_secs_f64());
}

fn fan_out() {
    const HOSTS: u32 = 500;
    let sshd = Sshd::start();
    let addresses: Vec<String> = (0..HOSTS).map(|n| format!("127.0.{}.{}", 1 + n / 250, 1 + n % 250)).collect();
    let named: Vec<(String, String)> =
        addresses.iter().enumerate().map(|(n, a)| (format!("h{n}"), a.clone())).collect();
    let hosts: Vec<(&str, &str)> = named.iter().map(|(name, address)| (name.as_str(), address.as_str())).collect();
    let mut world = World::new(&hosts, Some(&sshd));
    let toml = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &format!("{toml}[limits]\nhosts_in_flight = 64\nhosts_per_group = 1000\n"));
    world.start();
    let names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..3 {
        theirs.push(xargs(&world, &sshd, &addresses));
        let text = json!({"task_name": "true", "script": "true", "hosts": {"1": names}}).to_string();
        let (cpu, begin) = (usage(world.daemon_pid()).0, Instant::now());
        world.drop_file("ready", &format!("true{round}.json"), text.as_bytes(), 0);
        let record = world.record(world.task_of(&format!("true{round}")));
        let wall = begin.elapsed().as_secs_f64();
        assert_eq!(record["outcome"], "ok", "{record:#}");
        ours.push((wall, usage(world.daemon_pid()).0 - cpu));
    }
    let median = |runs: &mut Vec<(f64, f64)>| {
        runs.sort_by(|a, b| a.0.total_cmp(&b.0));
        runs[1]
    };
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    let per_host = |cpu: f64| 1000.0 * cpu / f64::from(HOSTS);
    println!(
        "500 hosts, `true`, 64 at once, curve25519 + aes128-gcm: wall {:.2} s, ssh under xargs {:.2} s, ratio {:.2}; \
         client CPU a host {:.1} ms, ssh {:.1} ms, ratio 1/{:.1}",
        ours.0,
        theirs.0,
        ours.0 / theirs.0,
        per_host(ours.1),
        per_host(theirs.1),
        theirs.1 / ours.1
    );
}

/// Runs `true` on every host with OpenSSH; wall and CPU seconds.
fn xargs(world: &World, sshd: &Sshd, addresses: &[String]) -> (f64, f64) {
    let config = world.etc().join("ssh_config");
    write_ssh_config(&config, &world.etc().join("known_hosts"), sshd);
    let list = world.etc().join("addresses");
    std::fs::write(&list, addresses.join("\n")).unwrap();
    let (cpu, begin) = (children_cpu(), Instant::now());
    let status = Command::new("xargs")
        .args(["-P", "64", "-I{}", "ssh", "-F"])
        .arg(&config)
        .args(["{}", "true"])
        .stdin(std::fs::File::open(&list).unwrap())
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    (begin.elapsed().as_secs_f64(), children_cpu() - cpu)
}

/// CPU seconds of this process's ended children.
fn children_cpu() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
    let time = |value: nix::sys::time::TimeVal| value.tv_sec() as f64 + value.tv_usec() as f64 / 1e6;
    time(usage.user_time()) + time(usage.system_time())
}
