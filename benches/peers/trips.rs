//! How many round trips a tool makes: every figure twice, over round trips of two lengths. What a tool does itself takes the same
//! time over both, so the difference is round trips and nothing else. Of several runs the quickest counts: whatever else the
//! machine does only adds to it.

use std::io::Read as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::Bench;
use crate::measure::{ONE_CRYPTO, near, run_task, server};
use crate::tools::{Files, Job, Tool};

/// The two lengths.
const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_millis(220);
/// How long one run may take.
const LIMIT: Duration = Duration::from_mins(2);
const STEPS: usize = 5;

/// What one run took, in seconds: until the first step began, from step to step, and from the last one on.
type Times = [f64; 3];

/// Prints a table of round trips: the least of `samples` hosts that nobody was connected to before.
pub(crate) fn count(samples: usize) {
    let [short, long] = [SHORT, LONG].map(|time| measure(time, samples));
    println!("\nround trips, connecting included: {samples} hosts one after the other, over {SHORT:?} and {LONG:?}");
    println!("{:<14} {:>12} {:>18} {:>14}", "", "first byte", "each further step", "last step-end");
    for (tool, times) in &short {
        let Some((_, longer)) = long.iter().find(|(name, _)| name == tool) else { continue };
        let least = |times: &[Times], n: usize| times.iter().map(|times| times[n]).fold(f64::MAX, f64::min);
        let trips = |n: usize| (least(longer, n) - least(times, n)) / LONG.abs_diff(SHORT).as_secs_f64();
        println!("{tool:<14} {:>12.2} {:>18.2} {:>14.2}", trips(0), trips(1), trips(2));
    }
}

/// Has every tool do five steps, and those that know no steps one, on a fresh host each time.
fn measure(time: Duration, samples: usize) -> Vec<(String, Vec<Times>)> {
    let scratch = tempfile::tempdir().unwrap();
    let heard = listen(&scratch.path().join("fifo"));
    let tick = scratch.path().join("tick");
    std::fs::write(&tick, format!("#!/bin/sh\necho x >{}\n", scratch.path().join("fifo").display())).unwrap();
    std::fs::set_permissions(&tick, PermissionsExt::from_mode(0o755)).unwrap();
    let tick = tick.to_str().unwrap();
    let (one, five) = ([tick], [tick; STEPS]);
    let sshd = server(Some(time), ONE_CRYPTO);
    let addresses: Vec<String> = (0..samples).map(|n| sshd.address(n)).collect();
    let job = |name, steps, address: &String| Job { name, steps, addresses: vec![address.clone()], base: "" };
    let mut bench = Bench::new(sshd, samples, &[job("one", &one, &addresses[0]), job("five", &five, &addresses[0])]);
    let mut all: Vec<(String, Vec<Times>)> = Vec::new();
    let mut add = |name: &str, times: Times| match all.iter_mut().find(|(known, _)| known == name) {
        Some((_, list)) => list.push(times),
        None => all.push((name.to_owned(), vec![times])),
    };
    for (n, address) in addresses.iter().enumerate() {
        if bench.wants("spoolgate") {
            let begin = Instant::now();
            let text = serde_json::json!({"task_name": "t", "temp_id": "five", "hosts": {"1": [format!("h{n}")]}});
            run_task(&bench.world, n + 1, &text.to_string(), LIMIT);
            add("spoolgate", times(&heard, STEPS, begin, begin.elapsed()));
        }
        for job in [job("one", &one, address), job("five", &five, address)] {
            bench.runs += 1;
            let dir = bench.world.etc().with_file_name("peers");
            std::fs::create_dir_all(&dir).unwrap();
            for tool in Files::write(&bench.sshd, &dir, &job, 1, bench.runs).tools(&job) {
                // One command is what most do; steps count where connections are kept.
                let counts =
                    (job.steps.len() > 1) != ["ssh-xargs", "pssh", "pdsh", "clush", "ansible-raw"].contains(&tool.name);
                if counts && bench.wants(tool.name) && tool.is_there() {
                    let begin = Instant::now();
                    run(&bench, &tool, &dir);
                    let took = begin.elapsed();
                    // Some tools look whether they can connect before; ssh-script is one command.
                    add(tool.name, times(&heard, job.steps.len(), begin, took));
                }
            }
        }
    }
    all
}

fn run(bench: &Bench, tool: &Tool, dir: &Path) {
    let out = std::fs::File::create(dir.join("out")).unwrap();
    let mut command = near(&bench.sshd, &tool.argv[0]);
    command.args(&tool.argv[1..]).envs(tool.env.iter().cloned()).stdin(Stdio::null());
    let status = command.stderr(out.try_clone().unwrap()).stdout(out).status().unwrap();
    assert!(status.success(), "{}: {}", tool.name, std::fs::read_to_string(dir.join("out")).unwrap_or_default());
}

/// Makes of when each step began what is asked for.
fn times(heard: &Receiver<Instant>, steps: usize, begin: Instant, took: Duration) -> Times {
    let at: Vec<Instant> = (0..steps).map(|_| heard.recv_timeout(Duration::from_secs(20)).unwrap()).collect();
    let (first, last) = (at[0], at[steps - 1]);
    let between = (last - first).as_secs_f64() / (steps - 1).max(1) as f64;
    [(first - begin).as_secs_f64(), between, (begin + took - last).as_secs_f64()]
}

/// Makes a pipe with a name and says when something was written into it: one clock for both ends, and no way of its own.
fn listen(path: &Path) -> Receiver<Instant> {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Open for both, so that it never ends.
    let mut pipe = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let (sender, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 2];
        while pipe.read_exact(&mut buffer).is_ok() && sender.send(Instant::now()).is_ok() {}
    });
    heard
}
