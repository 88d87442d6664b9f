//! A world for whole-system tests: a scratch configuration and state, a real daemon process, real files dropped by
//! different users, and the real command line.
//!
//! Tests run as root, because only root can drop files as somebody else; `.ci/run` does.

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::patience::InTime as _;
use crate::sshd::Sshd;

/// People of the tests: numbers without a name on the system, so policy knows them as `uid-N`.
pub(crate) const ALICE: u32 = 61_001;
pub(crate) const BOB: u32 = 61_002;
pub(crate) const EVE: u32 = 61_003;
/// The group that may drop files; every Debian has it.
pub(crate) const GROUP: &str = "users";
pub(crate) const GROUP_ID: u32 = 100;

const POLICY: &str = r#"
[[submit]]
who = ["uid-61001", "uid-61002"]
templates = ["*"]
into = ["new"]
[[submit]]
who = ["root"]
templates = ["*"]
into = ["new", "ready"]
[[approve]]
who = ["uid-61001", "uid-61002", "root"]
templates = ["*"]
[[control]]
who = ["root"]
templates = ["*"]
"#;

/// What a command printed and how it ended.
#[derive(Debug)]
#[must_use = "look at the exit code or the output"]
pub(crate) struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.out, self.err);
        self.out
    }
}

pub(crate) struct World {
    dir: tempfile::TempDir,
    daemon: Option<Child>,
    /// The SSH agent's socket that the daemon knows.
    pub(crate) agent: Option<PathBuf>,
    /// Variables of the daemon.
    pub(crate) environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
    /// A command that makes its surroundings and becomes the daemon: the words in front of the daemon's own.
    pub(crate) through: Vec<String>,
}

impl World {
    /// A world whose inventory holds `hosts` as names with addresses, reached through `sshd`.
    pub(crate) fn new(hosts: &[(&str, &str)], sshd: Option<&Sshd>) -> World {
        assert!(nix::unistd::geteuid().is_root(), "whole-system tests drop files as several users: run them as root");
        let dir = tempfile::Builder::new().prefix("spoolgate-world.").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let through = sshd.map(Sshd::near_words).unwrap_or_default();
        let world = World { dir, daemon: None, agent: None, environment: Vec::new(), through };
        for folder in ["etc/inventory", "etc/templates", "drop", "home"] {
            std::fs::create_dir_all(world.dir.path().join(folder)).unwrap();
        }
        let key = sshd.map_or(String::new(), |sshd| format!("key = {:?}\n", sshd.identity().to_str().unwrap()));
        world.write_etc(
            "spoolgate.toml",
            &format!(
                "time_zone = \"Asia/Shanghai\"\ngroup = \"{GROUP}\"\n[ssh]\nagent = false\nuser = \"root\"\n{key}"
            ),
        );
        world.write_etc("policy.toml", POLICY);
        let port = sshd.map_or(22, Sshd::port);
        let inventory: String = hosts
            .iter()
            .map(|(name, address)| format!("[host.\"{name}\"]\naddress = \"{address}\"\nport = {port}\n"))
            .collect();
        world.write_etc("inventory/hosts.toml", &inventory);
        world.write_etc("known_hosts", &sshd.map_or(String::new(), Sshd::known_hosts));
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates");
        for file in std::fs::read_dir(shipped).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), world.etc().join("templates").join(file.file_name())).unwrap();
        }
        world
    }

    pub(crate) fn etc(&self) -> PathBuf {
        self.dir.path().join("etc")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// A directory that the daemon knows nothing of.
    pub(crate) fn scratch(&self) -> PathBuf {
        self.dir.path().join("drop")
    }

    pub(crate) fn write_etc(&self, name: &str, text: &str) {
        std::fs::write(self.etc().join(name), text).unwrap();
    }

    fn command(&self) -> Command {
        // Another build, to see what an older one does, or a release one.
        let other = std::env::var_os("SPOOLGATE_BINARY");
        let mut command = Command::new(other.unwrap_or_else(|| env!("CARGO_BIN_EXE_spoolgate").into()));
        command.env("SPOOLGATE_CONFIG", self.etc()).env("SPOOLGATE_STATE", self.state());
        command.env_remove("SSH_AUTH_SOCK").env("LC_ALL", "C.UTF-8").env("HOME", self.dir.path().join("home"));
        if let Some(agent) = &self.agent {
            command.env("SSH_AUTH_SOCK", agent);
        }
        command
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub(crate) fn start(&mut self) {
        let from = self.spawn();
        wait_for("the daemon to be ready", || {
            let log = self.daemon_log();
            let new = log.get(from..).unwrap_or_default();
            let ended = self.daemon.as_mut().and_then(|daemon| daemon.try_wait().unwrap());
            assert!(ended.is_none(), "the daemon ended: {new}");
            new.contains(" ready pid=").then_some(())
        });
        // As after somebody's first command: the daemon watches them.
        for (drop_box, uid) in
            ["new", "ready", "orders"].iter().flat_map(|known| [ALICE, BOB, EVE, 0].map(|uid| (known, uid)))
        {
            self.own_dir(drop_box, uid);
        }
        // Where the daemon has another number here than the process that was started, it is not waited for.
        let pid = self.daemon.as_ref().map_or(0, Child::id);
        if std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe.ends_with("spoolgate")) {
            wait_for("the directories to be watched", || (watches(pid) >= 15).then_some(()));
        }
    }

    /// Starts the daemon, and returns where its log goes on.
    pub(crate) fn spawn(&mut self) -> usize {
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.dir.path().join("daemon.log")).unwrap();
        let from = log.metadata().unwrap().len();
        let mut command = self.command();
        if let [program, words @ ..] = &self.through[..] {
            let inner = std::mem::replace(&mut command, Command::new(program));
            command.args(words).arg(inner.get_program());
            for (name, value) in inner.get_envs() {
                match value {
                    Some(value) => command.env(name, value),
                    None => command.env_remove(name),
                };
            }
        }
        let daemon = command
            .envs(self.environment.clone())
            .arg("daemon")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.daemon = Some(daemon);
        usize::try_from(from).unwrap()
    }

    pub(crate) fn daemon_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("daemon.log")).unwrap_or_default()
    }

    pub(crate) fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("the daemon runs").id()
    }

    /// Kills the daemon as a power button would.
    pub(crate) fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            daemon.kill().unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Asks the daemon to end and waits for it; returns how long that took.
    pub(crate) fn end_daemon(&mut self, limit: Duration) -> Duration {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        let begin = Instant::now();
        let pid = nix::unistd::Pid::from_raw(daemon.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let ended = wait_unless(limit, || daemon.try_wait().unwrap());
        if ended.is_none() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        assert!(ended.is_some(), "the daemon had not ended {limit:?} after TERM");
        begin.elapsed()
    }

    /// Tells the daemon to stop, and returns how long it took and how it ended.
    pub(crate) fn terminate(&mut self) -> (Duration, std::process::ExitStatus) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        let begun = Instant::now();
        let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let status = wait_for("the daemon to end", || daemon.try_wait().unwrap());
        (begun.elapsed(), status)
    }

    /// Returns how the daemon ended by itself, once it did.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.daemon.as_mut().expect("it was started").try_wait().unwrap()
    }

    /// Runs a verb as somebody.
    pub(crate) fn run(&self, uid: u32, args: &[&str]) -> Said {
        let output = self.command().args(args).uid(uid).gid(GROUP_ID).stdin(Stdio::null()).output_in_time().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Runs a verb, or with `program` any command, as somebody who is in these groups besides.
    pub(crate) fn run_in(&self, uid: u32, groups: &[u32], program: Option<&str>, args: &[&str]) -> Said {
        let inner = self.command();
        let groups: Vec<String> = groups.iter().chain([&GROUP_ID]).map(ToString::to_string).collect();
        let mut command = Command::new("setpriv");
        command.args([
            format!("--reuid={uid}"),
            format!("--regid={GROUP_ID}"),
            format!("--groups={}", groups.join(",")),
        ]);
        command.arg(program.map_or(inner.get_program(), std::ffi::OsStr::new)).args(args);
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let output = command.stdin(Stdio::null()).output_in_time().unwrap();
        Said {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    pub(crate) fn box_dir(&self, drop_box: &str) -> PathBuf {
        self.state().join("spool").join(drop_box)
    }

    /// Returns somebody's own directory in a box, and makes it as they would.
    pub(crate) fn own_dir(&self, drop_box: &str, uid: u32) -> PathBuf {
        let user = nix::unistd::User::from_uid(uid.into()).unwrap();
        let dir = self.box_dir(drop_box).join(user.map_or_else(|| format!("uid-{uid}"), |user| user.name));
        if !dir.exists() {
            let made = self.box_dir(drop_box).join(format!(".{uid}"));
            std::fs::create_dir(&made).unwrap();
            chown(&made, Some(uid), Some(GROUP_ID)).unwrap();
            std::fs::set_permissions(&made, PermissionsExt::from_mode(0o2750)).unwrap();
            std::fs::rename(&made, &dir).unwrap();
        }
        dir
    }

    /// Drops a file as somebody into their own directory in a box, complete at once (rename).
    pub(crate) fn drop_file(&self, drop_box: &str, name: &str, bytes: &[u8], uid: u32) {
        World::drop_into(&self.own_dir(drop_box, uid), name, bytes, uid);
    }

    /// Drops a file as somebody flat into a box, where everybody may put files.
    pub(crate) fn drop_flat(&self, drop_box: &str, name: &str, bytes: &[u8], uid: u32) {
        World::drop_into(&self.box_dir(drop_box), name, bytes, uid);
    }

    fn drop_into(dir: &Path, name: &str, bytes: &[u8], uid: u32) {
        let staged = dir.join(format!(".{name}.staged"));
        let mut file = std::fs::File::create(&staged).unwrap();
        file.write_all(bytes).unwrap();
        chown(&staged, Some(uid), Some(GROUP_ID)).unwrap();
        std::fs::set_permissions(&staged, PermissionsExt::from_mode(0o640)).unwrap();
        std::fs::rename(&staged, dir.join(name)).unwrap();
    }

    /// Waits until the file dropped as NAME.json became a task, and returns its number.
    pub(crate) fn task_of(&self, name: &str) -> u64 {
        wait_for(&format!("{name} to become a task"), || {
            assert!(!self.box_dir("bad").join(format!("{name}.json")).exists(), "refused: {:?}", self.why(name));
            let task = self.tasks().into_iter().find(|(_, events)| events[0]["name"] == name);
            task.map(|(id, _)| id).filter(|id| !self.standing(*id).is_empty())
        })
    }

    /// Returns every task with its events.
    pub(crate) fn tasks(&self) -> Vec<(u64, Vec<Value>)> {
        let Ok(runs) = std::fs::read_dir(self.state().join("runs")) else { return Vec::new() };
        let mut tasks: Vec<_> = runs
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .map(|id| (id, self.events(id)))
            .filter(|(_, events)| !events.is_empty())
            .collect();
        tasks.sort_by_key(|(id, _)| *id);
        tasks
    }

    pub(crate) fn events(&self, id: u64) -> Vec<Value> {
        let text = std::fs::read_to_string(self.state().join(format!("runs/{id}/events.jsonl"))).unwrap_or_default();
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// Returns the directories that hold a task's file.
    pub(crate) fn standing(&self, id: u64) -> Vec<&'static str> {
        let stands = |dir: &&str| self.box_dir(dir).join(format!("{id}.json")).exists();
        ["new", "ready", "running", "done"].into_iter().filter(stands).collect()
    }

    /// Waits until a task's file stands in one directory alone: what an event says, the folders show a little later.
    pub(crate) fn stands(&self, id: u64, dir: &str) {
        wait_for(&format!("task {id} to stand in {dir}"), || (self.standing(id) == [dir]).then_some(()));
    }

    /// Waits for the record of a task.
    pub(crate) fn record(&self, id: u64) -> Value {
        wait_for(&format!("task {id} to be done"), || self.try_record(id))
    }

    /// Returns a task's record, if it has one.
    pub(crate) fn try_record(&self, id: u64) -> Option<Value> {
        let text = std::fs::read_to_string(self.box_dir("done").join(format!("{id}.json"))).ok()?;
        Some(serde_json::from_str(&text).unwrap())
    }

    /// Returns the reasons why a file was refused, once it was.
    pub(crate) fn why(&self, name: &str) -> Option<Value> {
        let text = std::fs::read_to_string(self.box_dir("bad").join(format!("{name}.why"))).ok()?;
        serde_json::from_str(&text).ok()
    }

    /// Approves a task as somebody, through the command line.
    pub(crate) fn approve(&self, uid: u32, id: u64) -> Said {
        self.run(uid, &["approve", &id.to_string(), "--digest", &self.digest(id)])
    }

    /// Returns the digest of a task's plan, the newest if it has several. The journal knows it before the plan's file is there.
    pub(crate) fn digest(&self, id: u64) -> String {
        let of_plan = |event: &Value| event["event"] == "accepted" || event["event"] == "stale";
        let last = self.events(id).into_iter().rfind(of_plan).unwrap();
        last["digest"].as_str().unwrap().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
        if std::thread::panicking() {
            let log = self.daemon_log();
            let tail: Vec<&str> = log.lines().rev().take(30).collect();
            eprintln!("the daemon said last:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// Waits for a condition, with a limit.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_at_most(Duration::from_mins(1), what, condition)
}

#[track_caller]
pub(crate) fn wait_at_most<T>(limit: Duration, what: &str, condition: impl FnMut() -> Option<T>) -> T {
    let met = wait_unless(limit, condition);
    assert!(met.is_some(), "waited {limit:?} for {what}");
    met.unwrap()
}

/// Waits for a condition, or until its limit is over.
pub(crate) fn wait_unless<T>(limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let begin = Instant::now();
    loop {
        let met = condition();
        if met.is_some() || begin.elapsed() >= limit {
            return met;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

/// Whether a process with these arguments runs on this machine, which is every "host" of the tests.
pub(crate) fn someone_runs(command: &str) -> bool {
    let wanted: Vec<&str> = command.split(' ').collect();
    std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).any(|entry| {
        let Ok(line) = std::fs::read(entry.path().join("cmdline")) else { return false };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).filter(|word| !word.is_empty()).collect();
        words.iter().map(|word| String::from_utf8_lossy(word)).eq(wanted.iter().copied())
    })
}

/// Returns how many directories a process watches.
fn watches(pid: u32) -> usize {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).into_iter().flatten().flatten();
    let texts = descriptors.map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default());
    texts.map(|text| text.lines().filter(|line| line.starts_with("inotify wd:")).count()).sum()
}
