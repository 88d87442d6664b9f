//! Measures the dashboard as a whole process on a pseudo terminal: how soon a key is painted while ten thousand tasks wait
//! and ten thousand hosts work, what it costs then and when nothing happens, and how soon large files are on the screen.
//!
//! Prints figures of one run; judges nothing. Needs root, as the whole-system tests do.
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

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use serde_json::json;
use spoolgate::base::time::Timestamp;
use world::{World, wait_at_most, wait_for};

const TASKS: usize = 10_000;
const HOSTS: usize = 10_000;
const LOG_BYTES_A_SECOND: usize = 5_000_000;

fn main() {
    // `cargo test --benches` runs this too; measuring is for `cargo bench`.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let only = std::env::var("ONLY").unwrap_or_default();
    let parts: [(&str, fn()); 3] = [("idle", idle), ("files", large_files), ("load", load)];
    for (_, part) in parts.iter().filter(|(name, _)| only.is_empty() || only == *name) {
        part();
    }
}

/// A dashboard on a terminal of its own.
struct Pty {
    child: Child,
    master: File,
    /// Everything that was written, and when the last of it came.
    written: Arc<Mutex<(Vec<u8>, Instant)>>,
}

impl Pty {
    fn open(world: &World, columns: u16, rows: u16, args: &[&str]) -> Pty {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let slave = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_spoolgate"))
            .args(args)
            .env("SPOOLGATE_CONFIG", world.etc())
            .env("SPOOLGATE_STATE", world.state())
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm-256color")
            .stdin(slave())
            .stdout(slave())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let master = File::from(pty.master);
        let written = Arc::new(Mutex::new((Vec::new(), Instant::now())));
        let (mut reader, seen, mut answer) =
            (master.try_clone().unwrap(), Arc::clone(&written), master.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count) = reader.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                // Whoever asks where the cursor is gets the answer of a terminal with narrow lines.
                if buffer[..count].windows(4).any(|bytes| bytes == b"\x1b[6n") {
                    answer.write_all(b"\x1b[1;2R").unwrap();
                }
                let mut seen = seen.lock().unwrap();
                seen.0.extend_from_slice(&buffer[..count]);
                seen.1 = Instant::now();
            }
        });
        Pty { child, master, written }
    }

    fn forget(&self) {
        self.written.lock().unwrap().0.clear();
    }

    fn bytes(&self) -> usize {
        self.written.lock().unwrap().0.len()
    }

    fn shows(&self, text: &str) -> bool {
        self.written.lock().unwrap().0.windows(text.len()).any(|bytes| bytes == text.as_bytes())
    }

    /// Presses keys and waits until a text was painted.
    fn press(&mut self, keys: &str, text: &str) -> Duration {
        self.forget();
        let begin = Instant::now();
        self.master.write_all(keys.as_bytes()).unwrap();
        wait_at_most(Duration::from_mins(1), text, || {
            self.shows(text).then_some(()).or_else(|| {
                std::thread::park_timeout(Duration::from_micros(200));
                None
            })
        });
        begin.elapsed()
    }

    /// Presses keys and waits until the screen has changed and stands still; only what differs is painted, so that no
    /// text can be waited for.
    fn press_until_still(&mut self, keys: &str) -> Duration {
        self.forget();
        let begin = Instant::now();
        self.master.write_all(keys.as_bytes()).unwrap();
        wait_for("the screen to change and stand still", || {
            let written = self.written.lock().unwrap();
            (!written.0.is_empty() && written.1.elapsed() > Duration::from_millis(200)).then(|| written.1 - begin)
        })
    }

    /// CPU seconds used so far, and resident kilobytes.
    fn usage(&self) -> (f64, u64) {
        let pid = self.child.id();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        (ticks as f64 / 100.0, rss.trim().trim_end_matches(" kB").parse().unwrap())
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn pause(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::thread::park_timeout(time.saturating_sub(begin.elapsed()));
    }
}

fn local_world(hosts: usize) -> World {
    let world = World::new(&[], None);
    let inventory: String = (1..=hosts).map(|n| format!("[host.h{n:05}]\nconnection = \"local\"\n")).collect();
    world.write_etc("inventory/hosts.toml", &inventory);
    world
}

fn idle() {
    let mut world = local_world(1);
    world.start();
    let pty = Pty::open(&world, 80, 24, &["top"]);
    wait_for("the board", || pty.shows("There is no task.").then_some(()));
    pause(Duration::from_secs(2));
    pty.forget();
    let (before, _) = pty.usage();
    pause(Duration::from_secs(50));
    let (after, rss) = pty.usage();
    println!(
        "idle: {:.2} % of a core, {:.1} MB, {} bytes written in 50 s",
        (after - before) * 2.0,
        rss as f64 / 1024.0,
        pty.bytes()
    );
}

fn large_files() {
    let mut world = local_world(1);
    world.start();
    let task = json!({"task_name": "t", "script": "echo x", "hosts": {"1": ["h00001"]}});
    world.drop_file("ready", "t.json", task.to_string().as_bytes(), 0);
    let id = world.task_of("t");
    world.record(id);
    world.kill_daemon();
    let line = std::fs::read_to_string(world.state().join("history.jsonl")).unwrap();
    let rest = line.trim_end().strip_prefix(&format!("{{\"id\":{id}")).unwrap();
    let mut history = String::with_capacity(line.len() * 100_001);
    for n in 0..100_000 {
        history += &format!("{{\"id\":{}{rest}\n", n + 1_000);
    }
    std::fs::write(world.state().join("history.jsonl"), history + &line).unwrap();
    let log = world.state().join(format!("runs/{id}/output/h00001/script.log"));
    let mut file = File::create(&log).unwrap();
    let block: String = (0..10_000).map(|n| format!("line {n} of a very long log {}\n", "x".repeat(80))).collect();
    for _ in 0..(1 << 30) / block.len() {
        file.write_all(block.as_bytes()).unwrap();
    }
    file.write_all(b"the very last line\n").unwrap();
    let begin = Instant::now();
    let mut pty = Pty::open(&world, 160, 45, &["top"]);
    wait_for("the board", || pty.shows("100001").then_some(()));
    println!("100,001 records of history: board painted {:.0} ms after the start", begin.elapsed().as_secs_f64() * 1e3);
    println!("history view: {:.1} ms", pty.press("3", "RESULT").as_secs_f64() * 1e3);
    pty.press(&format!(":task {id}\r"), "h00001");
    pause(Duration::from_millis(300));
    println!("1 GiB log: end painted {:.1} ms after Enter", pty.press("\r", "the very last line").as_secs_f64() * 1e3);
    println!("1 GiB log: its beginning {:.1} ms after g", pty.press_until_still("g").as_secs_f64() * 1e3);
    pty.press_until_still("/very last");
    println!(
        "1 GiB log: a text found at its end {:.1} ms after Enter",
        pty.press_until_still("\r").as_secs_f64() * 1e3
    );
}

/// Ten thousand tasks wait, one runs on ten thousand hosts, and its log grows.
fn load() {
    let mut world = local_world(HOSTS);
    let config = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
    world.write_etc("spoolgate.toml", &format!("{config}[limits]\nhosts_per_group = {HOSTS}\n"));
    world.start();
    let hosts: Vec<String> = (1..=HOSTS).map(|n| format!("h{n:05}")).collect();
    let big =
        json!({"task_name": "big", "script": "echo x", "hosts": {"1": hosts}, "exec_time": "2099-01-01 00:00:00"});
    world.drop_file("ready", "big.json", big.to_string().as_bytes(), 0);
    let id = world.task_of("big");
    for n in 0..TASKS {
        let task = json!({"task_name": format!("waits {n}"), "temp_id": 1, "hosts": {"1": ["h00001"]}});
        world.drop_file("new", &format!("w{n}.json"), task.to_string().as_bytes(), 0);
    }
    let runs = world.state().join("runs");
    wait_at_most(Duration::from_mins(2), "all tasks", || {
        (std::fs::read_dir(&runs).unwrap().count() > TASKS).then_some(()).or_else(|| {
            pause(Duration::from_millis(200));
            None
        })
    });
    world.kill_daemon();
    let stop = Arc::new(AtomicBool::new(false));
    let mut events = OpenOptions::new().append(true).open(runs.join(format!("{id}/events.jsonl"))).unwrap();
    writeln!(events, "{}", json!({"at": now(), "event": "started"})).unwrap();
    let begun = Instant::now();
    let mut pty = Pty::open(&world, 160, 45, &["top"]);
    wait_for("the board", || pty.shows("waits").then_some(()));
    wait_for("all tasks on the board", || pty.shows("10000").then_some(()));
    println!("10,000 waiting tasks: all on the board {:.1} s after the start", begun.elapsed().as_secs_f64());
    let writer = play_daemon(events, runs.join(format!("{id}/output/h00001")), Arc::clone(&stop));
    pty.press(&format!(":task {id}\r"), "h00001");
    pause(Duration::from_secs(2));
    let (before, _) = pty.usage();
    let clock = Instant::now();
    let mut times: Vec<f64> = Vec::new();
    for n in 0..150_u32 {
        // A letter that nothing else on the screen has, typed into a line and taken out again.
        let letter = ["Q", "Z", "Y"][n as usize % 3];
        pty.press("/", "filter:");
        times.push(pty.press(letter, letter).as_secs_f64() * 1e3);
        pty.master.write_all(b"\x1b").unwrap();
        pause(Duration::from_millis(60));
    }
    let (after, rss) = pty.usage();
    let wall = clock.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    writer.join().unwrap();
    times.sort_by(f64::total_cmp);
    println!(
        "10,000 tasks, 10,000 hosts, 1,000 steps/s, 5 MB/s of log: key to paint p50 {:.1} ms, p99 {:.1} ms; {:.0} % of a core; {:.0} MB",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        (after - before) / wall * 100.0,
        rss as f64 / 1024.0
    );
}

fn now() -> String {
    Timestamp(spoolgate::shells::clock::now().0).to_string()
}

/// Lets the big task's journal and one log grow as its daemon would.
fn play_daemon(mut events: File, log: std::path::PathBuf, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<()> {
    std::fs::create_dir_all(&log).unwrap();
    std::thread::spawn(move || {
        let mut out = OpenOptions::new().create(true).append(true).open(log.join("script.log")).unwrap();
        std::fs::write(log.join("script.streams"), "0 o 0\n").unwrap();
        let line = format!("{}\n", "0123456789 ".repeat(9));
        let mut host = 0;
        while !stop.load(Ordering::Relaxed) {
            let mut batch = String::new();
            for _ in 0..50 {
                host += 1;
                if host > HOSTS {
                    break;
                }
                let (name, at) = (format!("h{host:05}"), now());
                let place = json!({"at": at, "group": 1, "host": name, "step": "script", "attempt": 1});
                let mut start = place.clone();
                start["event"] = "step_started".into();
                batch += &format!("{start}\n");
                // The first host's step goes on, and prints.
                if host > 1 {
                    let mut end = place;
                    end["event"] = "step_ended".into();
                    end["ending"] = json!({"exit": 0});
                    (end["started"], end["ended"]) = (at.clone().into(), at.into());
                    batch += &format!("{end}\n");
                }
            }
            events.write_all(batch.as_bytes()).unwrap();
            out.write_all(line.repeat(LOG_BYTES_A_SECOND / 20 / line.len()).as_bytes()).unwrap();
            std::thread::park_timeout(Duration::from_millis(50));
        }
    })
}
