//! Measures how many tasks a second are accepted over HTTP by 64 clients, against the same bodies dropped as files by as
//! many, in one run and on one file system: dropped only, and taken in by the daemon.
//!
//! Prints figures and ratios; judges nothing. Needs root, as the whole-system tests do.
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
#[expect(dead_code, reason = "tests use the rest of the server")]
mod sshd;
#[path = "../tests/it/world.rs"]
#[expect(dead_code, clippy::print_stderr, reason = "tests use the rest of the world")]
mod world;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use world::{World, wait_at_most};

const CLIENTS: usize = 64;
const TASKS: usize = 6_400;

fn main() {
    // `cargo test --benches` runs this too; measuring is for `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let mut world = World::new(&[], None);
    world.write_etc("inventory/hosts.toml", "[host.h1]\nconnection = \"local\"\n");
    let append = |name: &str, text: &str| {
        let path = world.etc().join(name);
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, before + text).unwrap();
    };
    append("spoolgate.toml", "[http]\nlisten = [\"127.0.0.1:0\"]\n");
    append("policy.toml", "[[submit]]\nwho = [\"token:bench\"]\ntemplates = [\"*\"]\ninto = [\"new\"]\n");
    let token = world.run(0, &["token", "create", "bench", "--templates", "*", "--per-minute", "1000000"]).ok();
    world.start();
    let log = world.daemon_log();
    let port: u16 = log.split("address=127.0.0.1:").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    let bodies: Vec<String> = (0..TASKS).map(body).collect();
    let mut rounds = Vec::new();
    for round in 0..3 {
        let scratch = world.etc().join(format!("dropped-{round}"));
        std::fs::create_dir_all(&scratch).unwrap();
        let dropped = rate(|n| drop_file(&scratch, n, &bodies[n]));
        let known = tasks(&world);
        let begin = Instant::now();
        let boxed = world.own_dir("new", 0);
        every(|n| drop_file(&boxed, n, &bodies[n]));
        let into_the_box = TASKS as f64 / begin.elapsed().as_secs_f64();
        wait_at_most(Duration::from_mins(5), "all files", || (tasks(&world) >= known + TASKS).then_some(()));
        let taken = TASKS as f64 / begin.elapsed().as_secs_f64();
        let before = cpu(world.daemon_pid());
        let begin = Instant::now();
        let posted = post_all(port, token.trim(), &bodies);
        println!(
            "  the daemon took {:.0} % of a core meanwhile",
            (cpu(world.daemon_pid()) - before) / begin.elapsed().as_secs_f64() * 100.0
        );
        println!(
            "round {round}: dropped where nobody takes them {dropped:.0}/s, dropped into the daemon's box {into_the_box:.0}/s, \
             dropped and taken in {taken:.0}/s, posted and accepted {posted:.0}/s"
        );
        rounds.push([posted / dropped, posted / into_the_box, posted / taken]);
    }
    let of = ["dropped where nobody takes them", "dropped into the daemon's box", "dropped and taken in"];
    for (n, what) in of.iter().enumerate() {
        let mut ratios: Vec<f64> = rounds.iter().map(|round| round[n]).collect();
        ratios.sort_by(f64::total_cmp);
        println!(
            "posts accepted a second, of files {what}: {:.2} (median of {})",
            ratios[ratios.len() / 2],
            ratios.len()
        );
    }
}

/// Returns the CPU seconds that a process has used.
fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

fn body(n: usize) -> String {
    serde_json::json!({"task_name": format!("t{n}"), "temp_id": 1, "hosts": {"1": ["h1"]}}).to_string()
}

fn tasks(world: &World) -> usize {
    std::fs::read_dir(world.state().join("runs")).unwrap().count()
}

/// Lets all clients do their part of all tasks.
fn every(act: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while let Some(n) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < TASKS) {
                    act(n);
                }
            });
        }
    });
}

fn rate(act: impl Fn(usize) + Sync) -> f64 {
    let begin = Instant::now();
    every(act);
    TASKS as f64 / begin.elapsed().as_secs_f64()
}

fn drop_file(dir: &Path, n: usize, body: &str) {
    let staged = dir.join(format!(".{n}"));
    let mut file = File::create(&staged).unwrap();
    file.write_all(body.as_bytes()).unwrap();
    file.sync_all().unwrap();
    std::fs::rename(staged, dir.join(format!("b{n}.json"))).unwrap();
}

/// Posts every body over as many connections as there are clients; every answer must be a number.
fn post_all(port: u16, token: &str, bodies: &[String]) -> f64 {
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                stream.set_nodelay(true).unwrap();
                let mut answers = BufReader::new(stream.try_clone().unwrap());
                while let Some(n) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < bodies.len()) {
                    let body = &bodies[n];
                    let request = format!(
                        "POST /api/v1/task HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    stream.write_all(request.as_bytes()).unwrap();
                    let mut length = 0;
                    let mut line = String::new();
                    answers.read_line(&mut line).unwrap();
                    assert!(line.starts_with("HTTP/1.1 200"), "{line}");
                    while line != "\r\n" {
                        line.clear();
                        answers.read_line(&mut line).unwrap();
                        if let Some(text) = line.to_lowercase().strip_prefix("content-length: ") {
                            length = text.trim().parse().unwrap();
                        }
                    }
                    let mut number = vec![0; length];
                    answers.read_exact(&mut number).unwrap();
                    assert!(number.iter().all(u8::is_ascii_digit), "{}", String::from_utf8_lossy(&number));
                }
            });
        }
    });
    bodies.len() as f64 / begin.elapsed().as_secs_f64()
}
