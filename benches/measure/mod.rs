//! What the benchmarks of remote work share: how much a process used, OpenSSH's side of a fair comparison, waiting.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::link::Link;
use crate::relay::Shape;
use crate::sshd::{Setup, Sshd};
use crate::world::{World, wait_at_most};

/// A server that speaks nothing but what both sides of a comparison speak; these lines come before all others.
pub(crate) const ONE_CRYPTO: &str = "KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org\n\
     Ciphers aes128-gcm@openssh.com\nHostKeyAlgorithms ssh-ed25519\nMaxStartups 10000\nLogLevel ERROR";

/// Returns the number that a variable of the environment holds.
pub(crate) fn from_env(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// How long a round trip to a host takes: `LINK=loopback` (none), `lan` (1 ms) or `wan` (50 ms).
pub(crate) fn round_trip() -> Option<Duration> {
    match std::env::var("LINK").unwrap_or_default().as_str() {
        "" | "loopback" => None,
        "lan" => Some(Duration::from_millis(1)),
        "wan" => Some(Duration::from_millis(50)),
        other => panic!("LINK={other}: loopback, lan or wan"),
    }
}

/// How hosts are reached, in words.
pub(crate) fn way(round_trip: Option<Duration>) -> String {
    round_trip.map_or("loopback".to_owned(), |time| format!("MTU 1500, round trips of {time:?}"))
}

/// Starts a server that everything reaches in the same way: over loopback, or over a cable with an MTU of 1500 and a relay whose
/// round trips take this long.
pub(crate) fn server(round_trip: Option<Duration>, lines: &str) -> Sshd {
    let Some(time) = round_trip else { return Sshd::start_with(lines) };
    let link = Link::lan();
    Sshd::set_up(&Setup { lines, link: Some(&link), ..Setup::default() }).behind(Shape::round_trip(time))
}

/// Returns a command that reaches the server.
pub(crate) fn near(sshd: &Sshd, program: &str) -> std::process::Command {
    let mut words = sshd.near_words();
    words.push(program.to_owned());
    let mut command = std::process::Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

/// CPU seconds that a process has used, and its resident kilobytes, from `/proc`.
pub(crate) fn usage(pid: u32) -> (f64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    // The kernel counts in hundredths of a second.
    (ticks as f64 / 100.0, rss.trim().trim_end_matches(" kB").parse().unwrap())
}

pub(crate) fn pause(time: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < time {
        std::thread::park_timeout(time.saturating_sub(begin.elapsed()));
    }
}

/// Drops a task and waits for its record, the nth one; wall seconds from the drop on. Looks at one directory only, so that
/// looking takes no time from what is measured.
pub(crate) fn run_task(world: &World, n: usize, text: &str, limit: Duration) -> f64 {
    let done = world.box_dir("done");
    let staged = world.own_dir("ready", 0).join(".staged");
    std::fs::write(&staged, text).unwrap();
    let begin = Instant::now();
    std::fs::rename(&staged, world.own_dir("ready", 0).join(format!("task{n}.json"))).unwrap();
    wait_at_most(limit, &format!("the record of task {n}"), || {
        (std::fs::read_dir(&done).unwrap().count() >= n).then_some(())
    });
    begin.elapsed().as_secs_f64()
}

/// Returns what the middle one of several runs took.
pub(crate) fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Writes OpenSSH's configuration for the hosts of a server: the key exchange, cipher and host key that ours uses too.
pub(crate) fn write_ssh_config(path: &Path, known_hosts: &Path, sshd: &Sshd) {
    let text = format!(
        "Host *\n  Port {}\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  IdentityAgent none\n  UserKnownHostsFile {}\n  \
         GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  BatchMode yes\n  UpdateHostKeys no\n  LogLevel ERROR\n  \
         KexAlgorithms curve25519-sha256\n  Ciphers aes128-gcm@openssh.com\n  HostKeyAlgorithms ssh-ed25519\n",
        sshd.port(),
        sshd.identity().display(),
        known_hosts.display()
    );
    std::fs::write(path, text).unwrap();
}
