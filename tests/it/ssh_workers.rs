//! The processes that speak SSH: what they may not do, and what is left when one ends.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use spoolgate::adapters::ssh::Session;
use spoolgate::adapters::ssh::SshError;
use spoolgate::adapters::ssh::Target;
use spoolgate::domain::output::ExecEnd;

use crate::relay::Shape;
use crate::remote::{from_env, journal, journal_path, log, task};
use crate::ssh::{block_on, exec, target};
use crate::sshd::Sshd;
use crate::world::{World, wait_at_most, wait_for};

/// Returns the processes that speak SSH for `parent`.
fn workers_of(parent: u32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let text = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let child = text("status").lines().any(|line| line == format!("PPid:\t{parent}"));
        child && text("cmdline").contains("ssh-worker")
    })
    .collect()
}

/// Returns a field of a process's status.
fn status(pid: i32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned()
}

#[test]
fn what_reads_hosts_bytes_has_no_files_no_rights_and_few_calls() {
    let sshd = Sshd::start();
    block_on(async {
        let target = target(&sshd);
        // Whoever starts a daemon may leave it an open file.
        let left_open = fs::File::open(target.key.as_ref().unwrap()).unwrap();
        nix::fcntl::fcntl(&left_open, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
        let mut session = Session::connect(&target).await.unwrap();
        let (end, out, _) = exec(&mut session, "cat", b"through a pipe").await;
        assert_eq!((end, out), (ExecEnd::Exit(0), b"through a pipe".to_vec()));
        let workers = workers_of(std::process::id());
        let [worker] = workers[..] else { panic!("one process speaks with one host: {workers:?}") };
        // Filtered system calls, no new rights, nobody's account, and an empty root directory but for the agent's socket.
        assert_eq!((status(worker, "Seccomp:"), status(worker, "NoNewPrivs:")), ("2".to_owned(), "1".to_owned()));
        assert_eq!((status(worker, "Uid:"), status(worker, "CapEff:")), ("65534".to_owned(), "0".repeat(16)));
        let root = format!("/proc/{worker}/root");
        let inside: Vec<_> = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(inside, ["agent"]);
        assert_ne!(fs::metadata(&root).unwrap().ino(), fs::metadata("/").unwrap().ino());
        // None of its descriptors leads to a file, the key's least of all, but for the log it may complain to.
        let descriptors = fs::read_dir(format!("/proc/{worker}/fd")).unwrap().flatten();
        let others = descriptors.filter(|entry| !["1", "2"].contains(&entry.file_name().to_str().unwrap()));
        let files: Vec<PathBuf> =
            others.filter_map(|entry| fs::read_link(entry.path()).ok()).filter(|path| path.is_file()).collect();
        assert!(files.is_empty(), "{files:?}");
        session.close().await;
    });
}

#[test]
fn a_process_that_ends_takes_its_own_connections_and_no_task() {
    let sshd = Sshd::start();
    block_on(async {
        let target = target(&sshd);
        let mut one = Session::connect(&target).await.unwrap();
        let mut other = Session::connect(&target).await.unwrap();
        let workers = workers_of(std::process::id());
        let [worker] = workers[..] else { panic!("they share one: {workers:?}") };
        kill(Pid::from_raw(worker), Signal::SIGABRT).unwrap();
        for session in [&mut one, &mut other] {
            let error = session.exec("true", &b""[..], &mut |_, _| {}).await.unwrap_err();
            assert!(matches!(error, SshError::Lost { .. }), "{error}");
        }
        drop((one, other));
        // Each has its own from now on, for a while.
        let again: Vec<Target> = vec![target.clone(), target.clone()];
        let mut sessions = Vec::new();
        for target in &again {
            sessions.push(Session::connect(target).await.unwrap());
        }
        assert_eq!(workers_of(std::process::id()).len(), 2);
        for mut session in sessions {
            assert_eq!(exec(&mut session, "exit 3", b"").await.0, ExecEnd::Exit(3));
            session.close().await;
        }
    });
}

/// Begins a task of `seconds` that writes a line a tenth of a second, on hosts of a world of its own.
fn begin(count: u64, seconds: u64) -> (World, u64, Vec<String>, Sshd) {
    let sshd = Sshd::start();
    let hosts: Vec<(String, String)> = (1..=count).map(|n| (format!("h{n}"), format!("127.0.5.{n}"))).collect();
    let pairs: Vec<(&str, &str)> = hosts.iter().map(|(name, address)| (name.as_str(), address.as_str())).collect();
    let mut world = World::new(&pairs, Some(&sshd));
    world.start();
    let script = format!(
        "echo \"$SPOOLGATE_HOST\" >>{}; n=0; while [ $n -lt {} ]; do echo \"line $n\"; n=$((n+1)); sleep 0.1; done",
        journal_path(&world).display(),
        seconds * 10
    );
    let names: Vec<String> = hosts.into_iter().map(|(name, _)| name).collect();
    world.drop_file("ready", "long.json", &task("long", &script, &names, 120), 0);
    let id = world.task_of("long");
    wait_for("every host to have begun", || (journal(&world).len() as u64 == count).then_some(()));
    (world, id, names, sshd)
}

/// Checks that a task ended well, once on each host, and that no line of it is missing.
fn ended_well(world: &World, id: u64, names: &[String], seconds: u64) {
    wait_at_most(Duration::from_secs(seconds + 90), "the task to end", || world.try_record(id));
    assert_eq!(world.standing(id), ["done"]);
    assert_eq!(world.record(id)["outcome"], "ok", "{}", world.record(id));
    let lines: String = (0..seconds * 10).map(|n| format!("line {n}\n")).collect();
    for name in names {
        assert_eq!((journal(world)[name], log(world, id, name)), (1, lines.clone()), "{name}");
    }
}

#[test]
fn whatever_ends_them_each_step_runs_once_and_nothing_of_it_is_lost() {
    let (kills, seconds) = (from_env("WORKER_KILLS", 6), 8);
    let (world, id, names, _sshd) = begin(8, seconds);
    let signals = [Signal::SIGKILL, Signal::SIGABRT];
    for signal in signals.iter().cycle().take(usize::try_from(kills).unwrap()) {
        let worker = wait_for("a process that speaks SSH", || workers_of(world.daemon_pid()).first().copied());
        kill(Pid::from_raw(worker), *signal).unwrap();
        wait_for("another one", || workers_of(world.daemon_pid()).iter().any(|pid| *pid > worker).then_some(()));
    }
    ended_well(&world, id, &names, seconds);
    let said = world.daemon_log();
    assert!(
        said.contains("root=yes landlock=yes seccomp=yes; files=refused network=refused programs=refused"),
        "{said}"
    );
    assert!(said.contains("a process that speaks SSH was ended by signal 9"), "{said}");
}

/// Whoever it was greeting is connected to again: nothing was sent to them.
#[test]
fn one_that_ends_while_it_greets_hosts_makes_none_of_them_fail() {
    let slow = Shape { latency: Duration::from_millis(200), ..Shape::default() };
    let sshd = Sshd::start().behind(slow);
    let names: Vec<String> = (1..=20).map(|n| format!("h{n}")).collect();
    let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "127.0.0.1")).collect();
    let mut world = World::new(&pairs, Some(&sshd));
    world.start();
    let script = format!("echo \"$SPOOLGATE_HOST\" >>{}", journal_path(&world).display());
    world.drop_file("ready", "short.json", &task("short", &script, &names, 60), 0);
    let worker = wait_for("a process that speaks SSH", || workers_of(world.daemon_pid()).first().copied());
    wait_for("hosts that are greeted", || (sshd.log().matches("Connection from").count() >= 5).then_some(()));
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    let id = world.task_of("short");
    let record = wait_at_most(Duration::from_secs(90), "the task to end", || world.try_record(id));
    assert_eq!(record["outcome"], "ok", "{record:#}");
    assert!(journal(&world).values().all(|count| *count == 1) && journal(&world).len() == names.len());
}

#[test]
fn one_that_stands_still_is_killed_and_its_steps_are_asked_for_again() {
    let seconds = 5;
    let (world, id, names, _sshd) = begin(3, seconds);
    let worker = wait_for("a process that speaks SSH", || workers_of(world.daemon_pid()).first().copied());
    kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
    ended_well(&world, id, &names, seconds);
    assert!(world.daemon_log().contains("did not answer for 30s and was killed"), "{}", world.daemon_log());
}
