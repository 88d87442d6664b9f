//! What the benchmarks of remote work share: how much a process used, OpenSSH's side of a fair comparison, waiting.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::sshd::Sshd;
use crate::world::{World, wait_at_most};

/// A server that speaks nothing but what both sides of a comparison speak; these lines come before all others.
pub(crate) const ONE_CRYPTO: &str = "KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org\n\
     Ciphers aes128-gcm@openssh.com\nHostKeyAlgorithms ssh-ed25519\nMaxStartups 10000\nLogLevel ERROR";

/// Returns the number that a variable of the environment holds.
pub(crate) fn from_env(name: &str, otherwise: usize) -> usize {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

/// Returns the address of the nth host: all of 127.0.0.0/8 is this machine.
pub(crate) fn address(n: usize) -> String {
    format!("127.0.{}.{}", 1 + n / 250, 1 + n % 250)
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
    let staged = world.box_dir("ready").join(".staged");
    std::fs::write(&staged, text).unwrap();
    let begin = Instant::now();
    std::fs::rename(&staged, world.box_dir("ready").join(format!("task{n}.json"))).unwrap();
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
