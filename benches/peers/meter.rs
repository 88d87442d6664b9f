//! What a tool costs: the wall, and the CPU and memory of everything that it started, also of what it left behind.
//!
//! A control group counts exactly. Where none can be made, the kernel's count of ended children must do: then what a tool
//! left running (a `ControlMaster`) is not in it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A control group that counts the CPU of its processes.
pub(crate) struct Group {
    dir: PathBuf,
}

impl Group {
    /// Makes a group, of either version of control groups.
    pub(crate) fn new(name: &str) -> Option<Group> {
        let name = format!("spoolgate-peers-{}-{name}", std::process::id());
        ["/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup"].iter().find_map(|root| {
            let dir = Path::new(root).join(&name);
            std::fs::create_dir(&dir).ok()?;
            let group = Group { dir };
            group.cpu().map(|_| group)
        })
    }

    pub(crate) fn add(&self, pid: u32) {
        std::fs::write(self.procs(), pid.to_string()).unwrap();
    }

    fn procs(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    /// CPU seconds of everything that ever was in it.
    pub(crate) fn cpu(&self) -> Option<f64> {
        if let Ok(text) = std::fs::read_to_string(self.dir.join("cpuacct.usage")) {
            return text.trim().parse::<f64>().ok().map(|ns| ns / 1e9);
        }
        let text = std::fs::read_to_string(self.dir.join("cpu.stat")).ok()?;
        let us = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        us.parse::<f64>().ok().map(|us| us / 1e6)
    }

    fn pids(&self) -> Vec<u32> {
        let text = std::fs::read_to_string(self.procs()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Ends what a tool left behind. All of it was started here.
    fn empty(&self) {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            let left = self.pids();
            if left.is_empty() {
                return;
            }
            let signal = if begin.elapsed() < Duration::from_secs(3) { Signal::SIGTERM } else { Signal::SIGKILL };
            for pid in left {
                let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
            }
            std::thread::park_timeout(LOOK);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was in it may need a moment to be gone.
        let begin = Instant::now();
        while std::fs::remove_dir(&self.dir).is_err() && begin.elapsed() < Duration::from_secs(2) {
            std::thread::park_timeout(LOOK);
        }
    }
}

/// Figures of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) wall: f64,
    pub(crate) client: f64,
    pub(crate) server: f64,
    /// The most resident memory that all processes had at once, in MB; pages that several share count for each.
    pub(crate) rss: f64,
    pub(crate) ok: usize,
}

/// Where everything is counted: the tools, our daemon, the server.
pub(crate) struct Meter {
    tools: Option<Group>,
    ours: Option<Group>,
    server: Option<Group>,
    server_pid: u32,
    daemon_pid: u32,
}

impl Meter {
    pub(crate) fn new(server_pid: u32, daemon_pid: u32) -> Meter {
        let (ours, server) = (Group::new("ours"), Group::new("server"));
        for (group, pid) in [(&ours, daemon_pid), (&server, server_pid)] {
            if let Some(group) = group {
                group.add(pid);
            }
        }
        Meter { tools: Group::new("tools"), ours, server, server_pid, daemon_pid }
    }

    pub(crate) fn how(&self) -> &'static str {
        if self.tools.is_some() { "control groups" } else { "ended children (no control group can be made)" }
    }

    fn server_cpu(&self) -> f64 {
        self.server.as_ref().and_then(Group::cpu).unwrap_or_else(|| ticks(self.server_pid, 11..15))
    }

    fn daemon_cpu(&self) -> f64 {
        self.ours.as_ref().and_then(Group::cpu).unwrap_or_else(|| ticks(self.daemon_pid, 11..13))
    }

    fn tools_cpu(&self) -> f64 {
        self.tools.as_ref().and_then(Group::cpu).unwrap_or_else(children_cpu)
    }

    /// Measures a task of our daemon; `run` returns the wall seconds.
    pub(crate) fn ours(&self, run: impl FnOnce() -> f64) -> Cost {
        let (server, client) = (self.server_cpu(), self.daemon_cpu());
        let (wall, rss) = watch(|| resident_kb(self.daemon_pid), None, run);
        let server = self.settled_server() - server;
        // What the daemon does after the record is its cost too.
        Cost { wall, client: self.daemon_cpu() - client, server, rss, ok: 0 }
    }

    /// Measures a command, with all that it starts; what it prints goes to `out`.
    pub(crate) fn tool(&self, argv: &[String], env: &[(String, String)], out: &Path, limit: Duration) -> (bool, Cost) {
        let (server, client) = (self.server_cpu(), self.tools_cpu());
        let mut command = Command::new("sh");
        // It enters the group itself, before it is what it is to be.
        let enter = self.tools.as_ref().map_or(PathBuf::from("/dev/null"), Group::procs);
        command.args(["-c", "echo $$ >\"$0\"; exec \"$@\""]).arg(enter).args(argv);
        let file = File::create(out).unwrap();
        command.envs(env.iter().cloned()).stdin(Stdio::null()).stderr(file.try_clone().unwrap()).stdout(file);
        let begin = Instant::now();
        let mut child = command.spawn().unwrap();
        let pid = child.id();
        let members = || self.tools.as_ref().map_or_else(|| vec![pid], Group::pids);
        let rss = || members().into_iter().map(resident_kb).sum();
        let give_up = || {
            for pid in members() {
                let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
            }
        };
        let ((status, wall), rss) =
            watch(rss, Some((limit, &give_up)), || (child.wait().unwrap(), begin.elapsed().as_secs_f64()));
        let client = self.tools_cpu() - client;
        if let Some(group) = &self.tools {
            group.empty();
        }
        (status.success(), Cost { wall, client, server: self.settled_server() - server, rss, ok: 0 })
    }

    /// The server's CPU once its sessions have ended.
    fn settled_server(&self) -> f64 {
        crate::measure::pause(Duration::from_millis(300));
        self.server_cpu()
    }
}

/// Does something while somebody looks at the memory now and then, and gives up after a while; the most megabytes there were.
fn watch<T>(
    rss_kb: impl Fn() -> u64 + Sync,
    give_up: Option<(Duration, &(dyn Fn() + Sync))>,
    run: impl FnOnce() -> T,
) -> (T, f64) {
    let (most, over, begin) = (AtomicU64::new(0), AtomicBool::new(false), Instant::now());
    let result = std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                most.fetch_max(rss_kb(), Ordering::Relaxed);
                if let Some((limit, act)) = give_up
                    && begin.elapsed() > limit
                {
                    act();
                }
                std::thread::park_timeout(LOOK);
            }
        });
        let result = run();
        over.store(true, Ordering::Relaxed);
        looker.thread().unpark();
        result
    });
    (result, most.into_inner() as f64 / 1024.0)
}

fn resident_kb(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4
}

/// CPU seconds that some fields of a process's `stat` say: its own two, and those of its ended children.
fn ticks(pid: u32, fields: std::ops::Range<usize>) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let words: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    words[fields].iter().map(|word| word.parse::<f64>().unwrap()).sum::<f64>() / 100.0
}

/// CPU seconds of this process's ended children.
fn children_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let time = |value: nix::sys::time::TimeVal| value.tv_sec() as f64 + value.tv_usec() as f64 / 1e6;
    time(usage.user_time()) + time(usage.system_time())
}
