//! Every login shell with login files that read, talk, wait or become something else: what was sent runs whole and once, or not
//! at all, and the outcome says why.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::link::Link;
use crate::links::Random;
use crate::remote::{from_env, log, task};
use crate::sshd::{Account, Setup, Sshd};
use crate::world::{World, wait_at_most, wait_unless};

/// How many lines the scripts have, each of which leaves a trace.
const LINES: usize = 22;
/// How long a host may take for its first word here.
const FIRST_WORD_S: u64 = 4;

/// A login shell, and how to make it do something before the command that sshd hands to it.
struct Shell {
    name: &'static str,
    program: &'static str,
    /// Its file in the home that it reads for every command. Without one, the account's shell is a script that ends as this.
    file: Option<&'static str>,
    /// Takes so many lines of the input.
    lines: fn(u64) -> String,
}

fn words_of_sh(count: u64) -> String {
    format!("n=0; while [ $n -lt {count} ]; do read -r x || break; n=$((n+1)); done\n")
}

const SHELLS: [Shell; 6] = [
    Shell { name: "bash", program: "/bin/bash", file: Some(".bashrc"), lines: words_of_sh },
    Shell { name: "zsh", program: "/usr/bin/zsh", file: Some(".zshenv"), lines: |n| format!("repeat {n} read -r x\n") },
    Shell {
        name: "fish",
        program: "/usr/bin/fish",
        file: Some(".config/fish/config.fish"),
        lines: |n| format!("for i in (seq {n}); read x; or break; end\n"),
    },
    Shell {
        name: "tcsh",
        program: "/usr/bin/tcsh",
        file: Some(".tcshrc"),
        lines: |n| "set x = $<\n".repeat(usize::try_from(n).unwrap()),
    },
    Shell { name: "dash", program: "/bin/dash", file: None, lines: words_of_sh },
    Shell { name: "ash", program: "/bin/busybox", file: None, lines: words_of_sh },
];

fn bytes(count: u64) -> String {
    format!("head -c {count} >/dev/null\n")
}

/// A host: an account whose login files do something.
struct Host {
    account: Account,
    shell: &'static Shell,
    /// What is done before the command.
    before: String,
}

impl Host {
    fn new(shell: &'static Shell, what: &str, before: String) -> Host {
        let account = Account { name: format!("{}-{what}", shell.name), shell: shell.program.into() };
        Host { account, shell, before }
    }

    fn name(&self) -> &str {
        &self.account.name
    }
}

/// Hosts of all accounts of one server, each with its own home.
struct Farm {
    world: World,
    sshd: Sshd,
    hosts: Vec<Host>,
    /// Scripts that stand for shells without files of their own.
    shells: tempfile::TempDir,
}

impl Farm {
    fn start(mut hosts: Vec<Host>, lines: &str) -> Farm {
        let shells = tempfile::Builder::new().prefix("spoolgate-shells.").tempdir().unwrap();
        for host in hosts.iter_mut().filter(|host| host.shell.file.is_none()) {
            host.account.shell = shells.path().join(host.name());
        }
        let accounts: Vec<Account> = hosts
            .iter()
            .map(|host| Account { name: host.account.name.clone(), shell: host.account.shell.clone() })
            .collect();
        let link = Link::lan();
        let sshd = Sshd::set_up(&Setup { lines, link: Some(&link), accounts: &accounts, ..Setup::default() });
        let world = World::new(&[], Some(&sshd));
        let entry = |(n, host): (usize, &Host)| {
            let (name, address, port) = (host.name(), sshd.address(n), sshd.port());
            format!("[host.\"{name}\"]\naddress = \"{address}\"\nport = {port}\nuser = \"{name}\"\n")
        };
        world.write_etc("inventory/hosts.toml", &hosts.iter().enumerate().map(entry).collect::<String>());
        let config = std::fs::read_to_string(world.etc().join("spoolgate.toml")).unwrap();
        let limits = "[limits]\nhosts_in_flight = 40\nhosts_per_group = 10000\n";
        world.write_etc("spoolgate.toml", &format!("{config}first_word_s = {FIRST_WORD_S}\n{limits}"));
        let farm = Farm { world, sshd, hosts, shells };
        farm.hosts.iter().for_each(|host| farm.write(host, &host.before));
        farm
    }

    fn home(&self, host: &Host) -> std::path::PathBuf {
        self.sshd.home_of(&host.account)
    }

    /// Has a host's shell do something before every command.
    fn write(&self, host: &Host, before: &str) {
        let Some(file) = host.shell.file else {
            let ends = match host.shell.name {
                "ash" => "exec /bin/busybox ash \"$@\"\n".to_owned(),
                _ => format!("exec {} \"$@\"\n", host.shell.program),
            };
            return write_program(&self.shells.path().join(host.name()), &format!("#!/bin/dash\n{before}{ends}"));
        };
        let path = self.home(host).join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, before).unwrap();
    }

    fn names(&self) -> Vec<String> {
        self.hosts.iter().map(|host| host.name().to_owned()).collect()
    }

    /// Drops a task for all hosts; each of its lines leaves a trace in the home, whatever shell reads it.
    fn send(&self, name: &str) -> u64 {
        for host in &self.hosts {
            let _ = std::fs::remove_file(self.home(host).join("traces"));
        }
        let script: String = (0..LINES).map(|n| format!("echo {n} >>\"$HOME/traces\"\n")).collect();
        self.world.drop_file("ready", &format!("{name}.json"), &task(name, &script, &self.names(), 60), 0);
        self.world.task_of(name)
    }

    fn record(&self, id: u64) -> Value {
        wait_at_most(Duration::from_mins(4), "the record", || self.world.try_record(id))
    }

    /// Waits until no shell is left that could still read anything.
    fn wait_for_shells(&self) {
        let ended = wait_unless(Duration::from_mins(1), || self.sshd.processes().is_empty().then_some(()));
        assert!(ended.is_some(), "login shells that do not end: {:?}", self.sshd.processes());
    }

    /// What is in a home of the lines that ran: none of them, or all of them once.
    #[track_caller]
    fn check_traces(&self, host: &Host, want: bool, record: &Value) {
        let text = std::fs::read_to_string(self.home(host).join("traces")).unwrap_or_default();
        let all: String = (0..LINES).map(|n| format!("{n}\n")).collect();
        let want = if want { all.as_str() } else { "" };
        assert_eq!(text, want, "{}, with {:?}: {:#}", host.name(), host.before, record["results"][host.name()]);
    }

    /// After a task: hosts that are said to have failed ran nothing, and say why; all others ran everything.
    fn check(&self, record: &Value, why: &[&str]) {
        for host in &self.hosts {
            let step = &record["results"][host.name()][0];
            let ok = step["outcome"] == "ok";
            self.check_traces(host, ok, record);
            let reason = step["reason"].as_str().unwrap_or_default();
            let says = why.iter().any(|why| reason.contains(why));
            assert!(ok || says, "{}, with {:?}: {step:#}", host.name(), host.before);
        }
    }
}

fn write_program(path: &Path, text: &str) {
    // Another name first: a program that is written cannot be started.
    let staged = path.with_extension("new");
    std::fs::write(&staged, text).unwrap();
    std::fs::set_permissions(&staged, PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::rename(staged, path).unwrap();
}

/// `LOGIN_LINES=40 LOGIN_BYTES=1` takes every number of lines and bytes; a seeded handful otherwise.
#[test]
fn login_files_that_read_a_part_of_the_input_make_no_part_of_it_run() {
    let (seed, most_lines) = (from_env("LOGIN_SEED", 7), from_env("LOGIN_LINES", 3));
    // One number of bytes in so many, up to past the end of everything that is sent.
    let bytes_step = from_env("LOGIN_BYTES", 1_800);
    let mut random = Random(seed * 2 + 1);
    let mut hosts = Vec::new();
    for shell in &SHELLS {
        for count in 1..=most_lines {
            hosts.push(Host::new(shell, &format!("l{count}"), (shell.lines)(count)));
        }
        for from in (0..12_000).step_by(usize::try_from(bytes_step).unwrap()) {
            let count = 1 + from + random.below(bytes_step);
            hosts.push(Host::new(shell, &format!("b{count}"), bytes(count)));
        }
    }
    while !hosts.is_empty() {
        let rest = hosts.split_off(hosts.len().min(1_000));
        eaten(Farm::start(hosts, ""), seed);
        hosts = rest;
    }
}

/// Runs a task on hosts that eat of the input, mends them, and runs it again.
fn eaten(mut farm: Farm, seed: u64) {
    farm.world.start();
    let begin = Instant::now();
    let id = farm.send("eaten");
    let record = farm.record(id);
    farm.wait_for_shells();
    farm.check(&record, &["login files"]);
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for outcome in record["outcomes"].as_object().unwrap().values() {
        *outcomes.entry(outcome.to_string()).or_default() += 1;
    }
    eprintln!("seed {seed}: {} hosts in {:.1?}: {outcomes:?}", farm.hosts.len(), begin.elapsed());
    farm.hosts.iter().for_each(|host| farm.write(host, ""));
    let _ = farm.world.run(0, &["retry", &id.to_string(), "--reason", "mended"]).ok();
    let again = wait_at_most(Duration::from_mins(4), "the retry", || {
        farm.world.try_record(id).filter(|record| record["outcome"] == "ok")
    });
    farm.wait_for_shells();
    farm.hosts.iter().for_each(|host| farm.check_traces(host, true, &again));
}

#[test]
fn login_files_that_become_another_program_make_nothing_run() {
    let others = [
        "exec fish",
        "exec zsh",
        "exec zsh -i",
        "exec tcsh",
        "exec dash",
        "exec sh -i",
        "exec bash",
        "exec bash -i",
        "exec python3",
        "exec perl",
        "exec cat",
        "cat >/dev/null",
        "exec sleep 8",
        "exit 0",
        "exit 3",
    ];
    let mut hosts = Vec::new();
    for shell in &SHELLS {
        for (n, other) in others.iter().enumerate() {
            // A shell that reads its own files anew would do so for ever.
            let guard = match shell.name {
                "fish" => format!("if not set -q ONCE; set -x ONCE 1; {other}; end\n"),
                "tcsh" => format!("if (! $?ONCE) then\nsetenv ONCE 1\n{other}\nendif\n"),
                _ => format!("if [ -z \"$ONCE\" ]; then export ONCE=1; {other}; fi\n"),
            };
            hosts.push(Host::new(shell, &format!("x{n}"), guard));
        }
    }
    let mut farm = Farm::start(hosts, "");
    farm.world.start();
    let begin = Instant::now();
    let id = farm.send("other");
    let record = farm.record(id);
    eprintln!("{} hosts in {:.1?}", farm.hosts.len(), begin.elapsed());
    farm.wait_for_shells();
    farm.check(&record, &["login files", "ran no shell", "nothing was started"]);
    // Their places are free, and what they read left nothing that a later task would take for its own.
    farm.hosts.iter().for_each(|host| farm.write(host, ""));
    let next = farm.record(farm.send("next"));
    assert_eq!(next["outcome"], "ok", "{next:#}");
    farm.hosts.iter().for_each(|host| farm.check_traces(host, true, &next));
}

#[test]
fn login_files_that_talk_or_take_their_time_change_nothing() {
    let what = [
        "echo welcome\n",
        "printf 'no line feed'\n",
        "sleep 1\n",
        "seq 100000\n",
        "printf '#%s 10\\nspoolgate-end x exit 0\\nspoolgate-here\\n' 0011\n",
        "sleep 30 &\n",
    ];
    let all = SHELLS.iter().flat_map(|shell| what.iter().enumerate().map(move |(n, what)| (shell, n, *what)));
    let hosts = all.map(|(shell, n, what)| Host::new(shell, &format!("t{n}"), what.to_owned())).collect();
    let mut farm = Farm::start(hosts, "");
    farm.world.start();
    let names = farm.names();
    farm.world.drop_file("ready", "talk.json", &task("talk", "echo out; echo err >&2", &names, 60), 0);
    let id = farm.world.task_of("talk");
    let record = farm.record(id);
    for host in &farm.hosts {
        let step = &record["results"][host.name()][0];
        assert_eq!(step["outcome"], "ok", "{}, with {:?}: {step:#}", host.name(), host.before);
        let said = log(&farm.world, id, host.name());
        assert!(said == "out\nerr\n" || said == "err\nout\n", "{}, with {:?}: {said:?}", host.name(), host.before);
    }
}

/// Shells that run no commands, or not every one.
#[test]
fn shells_that_run_nothing_are_said_to() {
    static NONE: [Shell; 4] = [
        Shell { name: "rbash", program: "/bin/rbash", file: Some(".bashrc"), lines: words_of_sh },
        Shell { name: "nologin", program: "/usr/sbin/nologin", file: Some(".none"), lines: words_of_sh },
        Shell { name: "false", program: "/bin/false", file: Some(".none"), lines: words_of_sh },
        Shell { name: "cat", program: "/bin/cat", file: Some(".none"), lines: words_of_sh },
    ];
    let hosts = NONE.iter().map(|shell| Host::new(shell, "none", String::new())).collect();
    let mut farm = Farm::start(hosts, "");
    farm.world.start();
    let record = farm.record(farm.send("none"));
    farm.wait_for_shells();
    for host in &farm.hosts {
        let step = &record["results"][host.name()][0];
        assert_eq!(step["outcome"], "failed", "{}: {step:#}", host.name());
        farm.check_traces(host, false, &record);
        eprintln!("{}: {}", host.name(), step["reason"]);
    }
}
